"""The E-model against figures that are published for it, and its direction in everything it depends on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.mos import IMPAIRMENTS, burst_ratio, mos, r_factor


def test_a_good_line_is_rated_as_the_recommendation_does() -> None:
    """G.107 Annex B: R 93.2 is MOS 4.41."""
    assert r_factor("PCMU", delay_ms=40, share=0) == pytest.approx(93.2)
    assert mos(93.2) == pytest.approx(4.41, abs=0.005)


@pytest.mark.parametrize(
    ("r", "score"), [(90, 4.34), (80, 4.024), (70, 3.60), (60, 3.10), (50, 2.58), (0, 1), (100, 4.5)]
)
def test_the_scores_of_the_recommendations_table(r: float, score: float) -> None:
    """G.107 Annex B, table B.1."""
    assert mos(r) == pytest.approx(score, abs=0.007)


@pytest.mark.parametrize(("delay_ms", "idd"), [(100, 0.0), (150, 0.1), (200, 3.1), (300, 14.6), (400, 24.2)])
def test_delay_impairs_beyond_a_tenth_of_a_second(delay_ms: float, idd: float) -> None:
    """G.107 §7.4."""
    assert 93.2 - r_factor("PCMU", delay_ms=delay_ms, share=0) == pytest.approx(idd, abs=0.3)


def test_loss_impairs_as_the_formula_says() -> None:
    """G.107 §7.5: 1 % of random loss costs G.711 with concealment 95 / 26.1."""
    assert 93.2 - r_factor("PCMA", delay_ms=0, share=0.01) == pytest.approx(95 / 26.1)
    assert 93.2 - r_factor("PCMA", delay_ms=0, share=0.01, burst=2) == pytest.approx(95 / 25.6)


def test_bursts_are_told_from_random_loss() -> None:
    assert burst_ratio(0, 0, 0.0) == 1
    assert burst_ratio(20, 20, 0.02) == 1
    assert burst_ratio(20, 4, 0.02) == pytest.approx(4.9)
    assert burst_ratio(50, 1, 1.0) == 1


@given(
    st.sampled_from([*IMPAIRMENTS, "other"]),
    st.floats(0, 5000),
    st.floats(0, 1),
    st.floats(0, 100),
    st.floats(0, 500),
    st.floats(0, 0.5),
)
def test_worse_is_never_rated_better(
    codec: str, delay_ms: float, share: float, burst: float, later: float, more: float
) -> None:
    r = r_factor(codec, delay_ms=delay_ms, share=share, burst=burst)
    assert 0 <= r <= 93.2
    assert r_factor(codec, delay_ms=delay_ms + later, share=share, burst=burst) <= r + 1e-9
    assert r_factor(codec, delay_ms=delay_ms, share=share + more, burst=burst) <= r + 1e-9
    assert 1 <= mos(r) <= 4.5
