"""The ringing tone that a caller hears while whom it is transferred to rings without early media (ITU-T E.180)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

__all__ = ["ringing_tone"]

_RATE_HZ: Final = 8000
_LEVEL: Final = 0.1
"""Of full scale, each frequency; about -20 dBm0 each, within E.180 §7."""
_RAMP_S: Final = 0.005


@dataclass(frozen=True, slots=True)
class _Cadence:
    """``frequencies_hz`` together, on and off in turns of ``seconds`` [s]."""

    frequencies_hz: tuple[int, ...]
    seconds: tuple[float, ...]


_USUAL: Final = _Cadence((425,), (1.0, 4.0))
"""E.180 §7 recommends it, and most countries have it."""
_CADENCES: Final = {"+1": _Cadence((440, 480), (2.0, 4.0)), "+44": _Cadence((400, 450), (0.4, 0.2, 0.4, 2.0))}
"""By country code, where it is known to be another (E.180 supplement 2)."""


def ringing_tone(number: str) -> bytes:
    """One turn of the tone of the network that ``number`` (E.164) is in, from its beginning: PCM16 at 8 kHz."""
    return _made(next((each for code, each in _CADENCES.items() if number.startswith(code)), _USUAL))


@cache
def _made(cadence: _Cadence) -> bytes:
    parts = [
        _burst(cadence.frequencies_hz, seconds) if index % 2 == 0 else np.zeros(round(seconds * _RATE_HZ))
        for index, seconds in enumerate(cadence.seconds)
    ]
    return np.rint(np.concatenate(parts) * 32767).astype("<i2").tobytes()


def _burst(frequencies_hz: tuple[int, ...], seconds: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    at_s = np.arange(round(seconds * _RATE_HZ)) / _RATE_HZ
    tone = sum((np.sin(2 * np.pi * hz * at_s) for hz in frequencies_hz), np.zeros_like(at_s)) * _LEVEL
    ramp = np.minimum(1.0, np.minimum(at_s, at_s[::-1]) / _RAMP_S)
    return np.asarray(tone * ramp)
