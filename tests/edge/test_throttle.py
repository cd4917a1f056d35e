"""edge.throttle: token buckets."""

from __future__ import annotations

import pytest

from edge.throttle import Throttle


def test_a_source_gets_its_burst_then_its_rate() -> None:
    throttle = Throttle(rate_per_s=2.0, burst=3)
    assert [throttle.admit("192.0.2.1", 0.0) for _ in range(5)] == [True, True, True, False, False]
    assert not throttle.admit("192.0.2.1", 0.4)
    assert throttle.admit("192.0.2.1", 0.5)
    assert not throttle.admit("192.0.2.1", 0.6)


def test_idle_time_never_saves_up_more_than_the_burst() -> None:
    throttle = Throttle(rate_per_s=10.0, burst=2)
    throttle.admit("192.0.2.1", 0.0)
    assert [throttle.admit("192.0.2.1", 3600.0) for _ in range(3)] == [True, True, False]


def test_sources_do_not_share_tokens() -> None:
    throttle = Throttle(rate_per_s=1.0, burst=1)
    assert throttle.admit("192.0.2.1", 0.0)
    assert not throttle.admit("192.0.2.1", 0.0)
    assert throttle.admit("192.0.2.2", 0.0)
    assert throttle.admit("user:alice", 0.0)


def test_refused_attempts_do_not_push_the_next_token_away() -> None:
    throttle = Throttle(rate_per_s=1.0, burst=1)
    throttle.admit("192.0.2.1", 0.0)
    for hundredth in range(1, 100):
        assert not throttle.admit("192.0.2.1", hundredth / 100)
    assert throttle.admit("192.0.2.1", 1.001)


def test_a_flood_of_forged_sources_stays_within_the_table_and_shuts_nobody_out() -> None:
    throttle = Throttle(rate_per_s=1.0, burst=5, max_sources=100)
    for number in range(10_000):
        throttle.admit(f"forged-{number}", 0.0)
        assert throttle.admit("192.0.2.1", number * 1.0)
    assert len(throttle) == 100


def test_the_source_unused_for_longest_makes_room() -> None:
    throttle = Throttle(rate_per_s=1.0, burst=1, max_sources=2)
    throttle.admit("a", 0.0)
    throttle.admit("b", 0.0)
    throttle.admit("a", 0.0)
    throttle.admit("c", 0.0)
    assert not throttle.admit("a", 0.0)


def test_a_clock_that_stands_still_or_steps_back_grants_nothing() -> None:
    throttle = Throttle(rate_per_s=1.0, burst=1)
    assert throttle.admit("a", 10.0)
    assert not throttle.admit("a", 5.0)


def test_retry_after_tells_when_the_next_token_comes() -> None:
    throttle = Throttle(rate_per_s=0.5, burst=1)
    assert throttle.retry_after_s("a", 0.0) == 0.0
    throttle.admit("a", 0.0)
    assert throttle.retry_after_s("a", 0.0) == pytest.approx(2.0)
    assert throttle.retry_after_s("a", 1.5) == pytest.approx(0.5)


@pytest.mark.parametrize(("rate", "burst", "sources"), [(0.0, 1, 1), (1.0, 0, 1), (1.0, 1, 0)])
def test_a_throttle_that_would_admit_nothing_is_refused(rate: float, burst: int, sources: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        Throttle(rate, burst, sources)
