"""Comfort noise (RFC 3389): what a peer that suppresses silence says its silence sounds like."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from media.agents.base import Encoding
from media.convert import encoder, frame_bytes, rate_hz

__all__ = ["ComfortNoise"]

_MAX_ORDER: Final = 12
_LOUDEST_DBOV: Final = 30
"""Noise is never louder than −30 dBov, whatever a peer says."""
_SECONDS: Final = 2
_BAND_HZ: Final = 8000
"""The sample rate that the spectrum is told for."""


class ComfortNoise:
    """Frames of 20 ms in ``encoding``, after the last descriptor of :meth:`update`. Cheap until :meth:`frame`."""

    __slots__ = ("_at", "_descriptor", "_encoding", "_noise", "_size")

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self._size = frame_bytes(encoding)
        self._descriptor = b""
        self._noise = b""
        self._at = 0

    def update(self, payload: bytes) -> bool:
        """A payload of type 13: level and reflection coefficients (§3). False for one that is none."""
        if not payload or payload[0] > 127:
            return False
        descriptor = payload[: 1 + _MAX_ORDER]
        if descriptor != self._descriptor:
            self._descriptor, self._noise = descriptor, b""
        return True

    def frame(self) -> bytes:
        """The next 20 ms; silence before the first descriptor."""
        if not self._noise:
            self._noise = self._made()
        noise, at, size = self._noise, self._at, self._size
        self._at = (at + size) % len(noise)
        return noise[at : at + size]

    def _made(self) -> bytes:
        """A stretch that repeats without a seam: the spectrum's magnitude with fixed random phases."""
        rate = rate_hz(self._encoding)
        descriptor = self._descriptor or b"\x7f"
        phases = _phases(rate)
        inside = len(phases) * _BAND_HZ // rate
        shape = np.zeros(len(phases))
        shape[:inside] = _magnitude(descriptor[1:], inside)
        samples = np.fft.irfft(shape * phases)[: rate * _SECONDS]
        rms = 32768 * 10 ** (-max(descriptor[0], _LOUDEST_DBOV) / 20)
        if descriptor[0] == 127:
            rms = 0.0
        samples *= rms / np.sqrt(np.mean(samples**2))
        pcm16 = np.rint(samples).clip(-32768, 32767).astype(np.int16).tobytes()
        return encoder(self._encoding)(pcm16)


@cache
def _phases(rate: int) -> NDArray[np.complexfloating[Any, Any]]:
    turns = np.random.default_rng(3389).random(rate * _SECONDS // 2 + 1)
    phases = np.exp(2j * np.pi * turns)
    phases[0] = phases[-1] = 0
    return np.asarray(phases)


def _magnitude(coefficients: bytes, count: int) -> NDArray[np.floating[Any]]:
    """Of the all-pole filter with these reflection coefficients (§3.2), at ``count`` frequencies."""
    polynomial = np.ones(1)
    for quantised in coefficients:
        reflection = 258 * (min(quantised, 254) - 127) / 32768
        extended = np.append(polynomial, 0.0)
        polynomial = extended + reflection * extended[::-1]
    spectrum = np.fft.rfft(polynomial, 2 * count)[:count]
    return np.asarray(1 / np.maximum(np.abs(spectrum), 1e-3))
