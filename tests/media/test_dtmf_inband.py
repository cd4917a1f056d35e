"""Digits in the audio: every key as Q.23 and Q.24 have it, and nothing in speech, noise or music."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from media import g711
from media.agents.base import Encoding
from media.convert import frame_bytes, rate_hz
from media.dtmf_inband import InbandDigit, InbandDigits
from tests.test_house import ROOT

ROWS, COLUMNS = (697, 770, 852, 941), (1209, 1336, 1477, 1633)
KEYS = ("123A", "456B", "789C", "*0#D")
ALL = "".join(KEYS)
Wave = np.ndarray  # type: ignore[type-arg]


def key(
    digit: str, ms: float = 60, rate: int = 8000, *, off: float = 0.0, twist_db: float = 0.0, level: float = 3000
) -> Wave:
    """``off`` in frequency, ``twist_db`` the column over the row."""
    row = next(index for index in range(4) if digit in KEYS[index])
    at = np.arange(int(rate * ms / 1000)) / rate * 2 * np.pi * (1 + off)
    column = COLUMNS[KEYS[row].index(digit)]
    return level * np.sin(ROWS[row] * at) + level * 10 ** (twist_db / 20) * np.sin(column * at + 1)


def pause(ms: float, rate: int = 8000) -> Wave:
    return np.zeros(int(rate * ms / 1000))


def found(samples: Wave, encoding: Encoding = "PCMU") -> list[InbandDigit]:
    ears, size, rate = InbandDigits(encoding), frame_bytes(encoding), rate_hz(encoding)
    audio = np.concatenate((samples, pause(100, rate))).clip(-32768, 32767).astype(np.int16).tobytes()
    if encoding in g711.ENCODERS:
        audio = g711.ENCODERS[encoding](audio)
    digits = (ears.hear(audio[at : at + size]) for at in range(0, len(audio) - size + 1, size))
    return [digit for digit in digits if digit is not None]


def text(samples: Wave, encoding: Encoding = "PCMU") -> str:
    return "".join(digit.digit for digit in found(samples, encoding))


def speech_like(seconds: float, seed: int) -> Wave:
    """Voiced syllables through three formants, with gaps and noise."""
    draw, rate = np.random.default_rng(seed), 8000
    pieces = []
    while sum(map(len, pieces)) < seconds * rate:
        count, pitch = int(rate * draw.uniform(0.06, 0.25)), draw.uniform(80, 260)
        at = np.arange(count) / rate
        phase = 2 * np.pi * pitch * np.cumsum(1 + 0.05 * np.sin(2 * np.pi * draw.uniform(2, 6) * at)) / rate
        formants = (draw.uniform(250, 900), draw.uniform(800, 2300), draw.uniform(2200, 3200))
        sound = np.zeros(count)
        for harmonic in range(1, int(3800 / pitch)):
            hz = harmonic * pitch
            gain = sum(1 / (1 + ((hz - each) / 80) ** 2) / (1 + rank) for rank, each in enumerate(formants))
            sound += (gain + 0.01) * np.cos(harmonic * phase + draw.uniform(0, 6.28))
        sound *= np.hanning(count) * draw.uniform(1000, 9000) / np.abs(sound).max()
        pieces += [sound + draw.normal(size=count) * draw.uniform(5, 100), np.zeros(int(rate * draw.uniform(0, 0.08)))]
    return np.concatenate(pieces)


@pytest.mark.parametrize("encoding", ["PCMU", "PCMA", "L16/16000"])
def test_every_key_is_heard_once_in_every_encoding(encoding: Encoding) -> None:
    rate = rate_hz(encoding)
    keys = [part for digit in ALL for part in (key(digit, 60, rate), pause(60, rate))]
    assert text(np.concatenate(keys), encoding) == ALL


def test_its_duration_is_told_at_its_end() -> None:
    [digit] = found(np.concatenate((pause(33), key("5", 200), pause(50))))
    assert digit.digit == "5"
    assert digit.duration_ms == pytest.approx(200, abs=26)


@pytest.mark.parametrize("off", [-0.015, 0.0, 0.015])
def test_40_ms_are_enough_wherever_they_fall_and_a_sender_may_be_off(off: float) -> None:
    """Q.24: 40 ms, 1.5 % (at the very edge one in twenty may be missed)."""
    heard = [text(np.concatenate((pause(lead), key(digit, 40, off=off)))) for digit in ALL for lead in (0, 3, 7, 11)]
    wanted = [digit for digit in ALL for _ in range(4)]
    assert sum(a == b for a, b in zip(heard, wanted, strict=True)) >= (64 if off == 0 else 60)


def test_the_same_key_twice_is_two_digits_and_a_short_drop_out_is_not() -> None:
    assert text(np.concatenate((key("7"), pause(45), key("7")))) == "77"
    assert text(np.concatenate((key("7", 50), pause(8), key("7", 50)))) == "7"


@pytest.mark.parametrize("off", [-0.05, -0.035, 0.035, 0.05])
def test_tones_that_are_too_far_off_are_no_digit(off: float) -> None:
    """Q.24: 3.5 %."""
    assert "".join(text(key(digit, 100, off=off)) for digit in ALL) == ""


def test_20_ms_are_too_short() -> None:
    assert "".join(text(np.concatenate((pause(4), key(digit, 20)))) for digit in ALL) == ""


@pytest.mark.parametrize(("twist_db", "heard"), [(-4, 16), (0, 16), (6, 16), (-10, 0), (12, 0)])
def test_one_tone_may_be_louder_than_the_other_but_not_much(twist_db: float, heard: int) -> None:
    assert len("".join(text(key(digit, 80, twist_db=twist_db)) for digit in ALL)) == heard


def test_one_tone_alone_is_no_digit() -> None:
    at = np.arange(1600) / 8000 * 2 * np.pi
    for hz in (*ROWS, *COLUMNS, 440, 350, 1100, 2100):
        assert text(4000 * np.sin(hz * at)) == ""


def test_a_dial_tone_ringing_and_busy_are_no_digits() -> None:
    at = np.arange(16000) / 8000 * 2 * np.pi
    for low, high in ((350, 440), (440, 480), (480, 620), (697, 770), (1209, 1336)):
        assert text(4000 * (np.sin(low * at) + np.sin(high * at))) == ""


def test_digits_are_heard_in_noise() -> None:
    noise = np.random.default_rng(5)
    samples = np.concatenate([part for digit in ALL for part in (key(digit, 80), pause(60))])
    assert text(samples + noise.normal(size=len(samples)) * 3000 / 10 ** (15 / 20)) == ALL


def test_noise_is_no_digit() -> None:
    noise = np.random.default_rng(6)
    for level in (100, 1000, 8000):
        assert text(noise.normal(size=8000 * 20) * level) == ""


def test_speech_is_no_digit() -> None:
    """Talk-off: two minutes of syllables of one pitch each, whose harmonics meet the frequencies as often as can be."""
    assert [text(speech_like(30, seed)) for seed in range(4)] == [""] * 4


def test_the_shipped_recordings_are_no_digits() -> None:
    for path in sorted((ROOT / "media" / "audio").glob("*.wav")):
        with wave.open(str(Path(path))) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(float)
            if file.getframerate() == 8000 and file.getnchannels() == 1:
                assert text(samples) == "", path.name


def test_speech_over_a_key_hides_it_and_silence_costs_nothing() -> None:
    assert text(pause(500)) == ""
    ears = InbandDigits("PCMU")
    assert all(ears.hear(g711.silence("PCMU")) is None for _ in range(10))
    assert ears.found == 0
