"""Comfort noise (RFC 3389): as loud and of the colour that the descriptor says, and never loud."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media import g711
from media.agents.base import Encoding
from media.comfort_noise import ComfortNoise
from media.convert import frame_bytes


def heard(noise: ComfortNoise, encoding: Encoding, frames: int = 100) -> np.ndarray:  # type: ignore[type-arg]
    audio = b"".join(noise.frame() for _ in range(frames))
    pcm16 = g711.DECODERS[encoding](audio) if encoding in g711.DECODERS else audio
    return np.frombuffer(pcm16, np.int16).astype(float)


@pytest.mark.parametrize("encoding", ["PCMU", "PCMA", "L16/16000"])
@pytest.mark.parametrize("level", [40, 50, 60])
def test_it_is_as_loud_as_the_peer_says(level: int, encoding: Encoding) -> None:
    """RFC 3389 §3.1: −level dBov."""
    noise = ComfortNoise(encoding)
    assert noise.update(bytes((level,)))
    rms = np.sqrt(np.mean(heard(noise, encoding) ** 2))
    assert 20 * np.log10(rms / 32768) == pytest.approx(-level, abs=1.0)


def test_its_colour_is_that_of_the_reflection_coefficients() -> None:
    """RFC 3389 §3.2: a first coefficient below zero is a low-pass."""
    shares = {}
    for name, quantised in (("low", 20), ("white", 127), ("high", 234)):
        noise = ComfortNoise("PCMU")
        noise.update(bytes((40, quantised)))
        spectrum = np.abs(np.fft.rfft(heard(noise, "PCMU"))) ** 2
        shares[name] = spectrum[: len(spectrum) // 4].sum() / spectrum.sum()
    assert shares["low"] > 0.6 and 0.2 < shares["white"] < 0.3 and shares["high"] < 0.1


def test_wideband_legs_hear_it_below_4_khz_only() -> None:
    noise = ComfortNoise("L16/16000")
    noise.update(bytes((40,)))
    spectrum = np.abs(np.fft.rfft(heard(noise, "L16/16000"))) ** 2
    assert spectrum[len(spectrum) // 2 + 50 :].sum() < spectrum.sum() / 1000


def test_no_descriptor_makes_it_loud() -> None:
    noise = ComfortNoise("PCMU")
    noise.update(b"\0")
    assert np.sqrt(np.mean(heard(noise, "PCMU") ** 2)) < 32768 * 10 ** (-29 / 20)


def test_before_a_descriptor_and_at_127_it_is_silence() -> None:
    noise = ComfortNoise("PCMU")
    assert noise.frame() == g711.silence("PCMU")
    noise.update(b"\x7f")
    assert noise.frame() == g711.silence("PCMU")


@pytest.mark.parametrize("payload", [b"", b"\x80", b"\xff\x01"])
def test_what_is_no_descriptor_is_refused(payload: bytes) -> None:
    assert not ComfortNoise("PCMU").update(payload)


def test_frames_go_on_without_a_seam() -> None:
    noise = ComfortNoise("L16/16000")
    noise.update(bytes((40, 60, 90)))
    samples = heard(noise, "L16/16000", 250)  # more than one turn
    assert np.abs(np.diff(samples)).max() < 8 * np.abs(np.diff(samples)).std()


@given(st.binary(max_size=300), st.sampled_from(["PCMU", "PCMA", "L16/16000"]))
def test_no_descriptor_raises(payload: bytes, encoding: Encoding) -> None:
    noise = ComfortNoise(encoding)
    noise.update(payload)
    assert len(noise.frame()) == frame_bytes(encoding)
