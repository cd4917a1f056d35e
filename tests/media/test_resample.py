"""A change of sample rate: what passes, what must not come back as something else, and how late it is."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.resample import Resampler, delay_ms

RATES = list(permutations((8000, 16000, 24000, 48000), 2))


def sine(hz: float, rate_hz: int, seconds: float = 1.0, level: float = 10000) -> bytes:
    at = np.arange(int(rate_hz * seconds))
    return (np.sin(2 * np.pi * hz * at / rate_hz) * level).astype(np.int16).tobytes()


def level_db(pcm16: bytes, over: float = 10000) -> float:
    """The RMS of what is heard after the first tenth, against a sine of that level."""
    heard = np.frombuffer(pcm16, np.int16).astype(np.float64)
    heard = heard[len(heard) // 10 :]
    return float(20 * np.log10(np.sqrt(np.mean(heard**2)) / (over / np.sqrt(2)) + 1e-9))


@pytest.mark.parametrize(("source", "target"), RATES)
def test_the_speech_band_passes_as_it_is(source: int, target: int) -> None:
    lower = min(source, target)
    for hz in (0.05 * lower, 0.2 * lower, 0.42 * lower):
        assert abs(level_db(Resampler(source, target)(sine(hz, source)))) < 0.1


@pytest.mark.parametrize(("source", "target"), [pair for pair in RATES if pair[0] > pair[1]])
def test_what_the_lower_rate_cannot_hold_does_not_fold_back(source: int, target: int) -> None:
    """Linear interpolation let 5 kHz come back as 3 kHz at full level."""
    for hz in np.linspace(0.58 * target, source / 2 - 100, 9):
        assert level_db(Resampler(source, target)(sine(float(hz), source))) < -58


@pytest.mark.parametrize(("source", "target"), [pair for pair in RATES if pair[0] < pair[1]])
def test_a_rise_in_rate_mirrors_nothing_up(source: int, target: int) -> None:
    out = np.frombuffer(Resampler(source, target)(sine(0.4 * source, source)), np.int16).astype(np.float64)
    spectrum = np.abs(np.fft.rfft(out[target // 5 :] * np.hanning(len(out) - target // 5)))
    hz = np.fft.rfftfreq(len(out) - target // 5, 1 / target)
    assert spectrum[hz > 0.55 * source].max() < spectrum.max() * 10 ** (-58 / 20)


@pytest.mark.parametrize(("source", "target"), RATES)
def test_it_is_as_late_as_it_says_and_that_is_little(source: int, target: int) -> None:
    late_ms = delay_ms(source, target)
    assert late_ms < 1.7
    click = np.zeros(source // 10, np.int16)
    click[source // 20] = 30000
    out = np.frombuffer(Resampler(source, target)(click.tobytes()), np.int16)
    assert int(np.argmax(np.abs(out))) * 1000 / target == pytest.approx(50 + late_ms, abs=1000 / min(source, target))


@pytest.mark.parametrize(("source", "target"), RATES)
def test_a_frame_gives_exactly_a_frame(source: int, target: int) -> None:
    resample = Resampler(source, target)
    assert {len(resample(bytes(source // 50 * 2))) for _ in range(50)} == {target // 50 * 2}


@given(st.sampled_from(RATES), st.lists(st.integers(0, 700), max_size=12))
def test_pieces_of_any_length_are_one_stream(rates: tuple[int, int], sizes: list[int]) -> None:
    speech = np.random.default_rng(1).integers(-9000, 9000, sum(sizes), dtype=np.int16).tobytes()
    whole = Resampler(*rates)(speech)
    resample, at, pieces = Resampler(*rates), 0, []
    for size in sizes:
        pieces.append(resample(speech[at : at + 2 * size]))
        at += 2 * size
    joined = np.frombuffer(b"".join(pieces), np.int16).astype(int)
    assert np.abs(joined - np.frombuffer(whole, np.int16)).max(initial=0) <= 1  # sums are taken in another order


def test_a_full_scale_square_is_clipped_and_never_wraps() -> None:
    square = np.repeat(np.array([32767, -32768] * 100, np.int16), 20)
    out = np.frombuffer(Resampler(8000, 16000)(square.tobytes()), np.int16).astype(int)
    assert out.max() == 32767 and out.min() == -32768
    middle = out[500:540]
    assert np.sign(middle[np.abs(middle) > 20000]).size > 20
