"""One stream of linear samples at another rate: a polyphase FIR filter, 1.7 ms late at most.

The filter is a sinc under a Kaiser window. It passes 0.425 of the lower rate (3.4 kHz of 8, 6.8 kHz of 16) and has
fallen by 60 dB at 0.575 of it, so that what folds back, or is mirrored up, lies above telephony's band or is not heard.
With ``up`` and ``down`` the ratio in lowest terms, ``up`` outputs come of ``down`` inputs: one product of a matrix
of the inputs' windows with a matrix of the filter's phases.
"""

from __future__ import annotations

from functools import cache
from math import gcd
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Resampler", "delay_ms"]

_PASS: Final = 0.425
_STOP: Final = 0.575
_ATTENUATION_DB: Final = 60.0
_BETA: Final = 0.1102 * (_ATTENUATION_DB - 8.7)
"""Kaiser's shape for that attenuation."""

Samples = NDArray[np.float32]


def _ratio(source_hz: int, target_hz: int) -> tuple[int, int]:
    common = gcd(source_hz, target_hz)
    return target_hz // common, source_hz // common


@cache
def _filter(source_hz: int, target_hz: int) -> NDArray[np.float64]:
    """The prototype at the common multiple of both rates; of odd length, so that its delay is whole."""
    up, _ = _ratio(source_hz, target_hz)
    rate_hz, lower_hz = source_hz * up, min(source_hz, target_hz)
    width = 2 * np.pi * (_STOP - _PASS) * lower_hz / rate_hz
    half = int(np.ceil((_ATTENUATION_DB - 7.95) / (2.285 * width) / 2))
    at = np.arange(-half, half + 1)
    cutoff = (_PASS + _STOP) * lower_hz / rate_hz
    taps = cutoff * np.sinc(cutoff * at) * np.kaiser(2 * half + 1, _BETA)
    return np.asarray(taps * (up / taps.sum()))


@cache
def _phases(source_hz: int, target_hz: int) -> Samples:
    """(window, up): column j weighs a window of inputs, the oldest first, for the j-th output of its group."""
    up, down = _ratio(source_hz, target_hz)
    taps = _filter(source_hz, target_hz)
    reach = -(-len(taps) // up)
    phases = np.zeros((reach + down - 1, up), np.float32)
    for output in range(up):
        # The output lies at output·down of the common rate; inputs at multiples of up, the group's first at 0.
        newest, phase = divmod(output * down, up)
        column = taps[phase::up]
        last = reach - 1 + newest
        phases[last - len(column) + 1 : last + 1, output] = column[::-1]
    return phases


def delay_ms(source_hz: int, target_hz: int) -> float:
    """How late what comes out is [ms]."""
    up, _ = _ratio(source_hz, target_hz)
    return len(_filter(source_hz, target_hz)) // 2 * 1000 / (source_hz * up)


class Resampler:
    """From ``source_hz`` to ``target_hz``: give it the stream in pieces of any length, in order.

    A piece that is a multiple of ``source_hz / gcd`` samples, as every 20 ms frame is, gives its exact share; what is
    left of others waits for the next piece.
    """

    __slots__ = ("_down", "_kept", "_phases", "_up", "_window")

    def __init__(self, source_hz: int, target_hz: int) -> None:
        self._up, self._down = _ratio(source_hz, target_hz)
        self._phases = _phases(source_hz, target_hz)
        self._window = len(self._phases)
        self._kept: Samples = np.zeros(self._window - self._down, np.float32)

    def __call__(self, pcm16: bytes) -> bytes:
        """The next piece of 16-bit samples."""
        down, window = self._down, self._window
        heard = np.concatenate((self._kept, np.frombuffer(pcm16, np.int16)), dtype=np.float32)
        groups = (len(heard) - window) // down + 1
        if groups <= 0:
            self._kept = heard
            return b""
        windows: NDArray[Any] = np.ndarray((groups, window), np.float32, heard, 0, (4 * down, 4))
        self._kept = heard[groups * down :]
        made = windows @ self._phases
        return np.rint(made, out=made).clip(-32768, 32767).astype(np.int16).tobytes()
