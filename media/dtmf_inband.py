"""Digits in the audio itself (ITU-T Q.23, Q.24), for trunks that have no telephone-event.

Blocks of 12.75 ms are measured at the eight frequencies, one product of matrices for those of three frames: a call of
numpy's costs more than what it does in so little. A block has a
digit when one row and one column stand out: loud enough, in balance (twist), far above their group's others, and
together nearly all the energy there is, which speech and music hardly ever are. Two blocks alike begin a digit,
two without it end it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from media.agents.base import Encoding
from media.convert import decoder, rate_hz

__all__ = ["InbandDigit", "InbandDigits"]

_ROWS_HZ: Final = (697, 770, 852, 941)
_COLUMNS_HZ: Final = (1209, 1336, 1477, 1633)
_DIGITS: Final = ("123A", "456B", "789C", "*0#D")
_BLOCK_S: Final = 0.01275
"""102 samples of 8 kHz: wide enough in frequency for senders 1.5 % off, too narrow for a neighbour."""

_LEAST: Final = 32768**2 * 10 ** (-42 / 10)
"""A tone's power below which nothing is a digit: −42 dB below full scale."""
_TWIST: Final = 10 ** (8 / 10)
"""A column may be louder than its row by so much …"""
_REVERSE_TWIST: Final = 10 ** (6 / 10)
"""… and a row louder than its column."""
_APART: Final = 10 ** (8 / 10)
"""The best of a group over the next."""
_SHARE: Final = 0.80
"""Of the block's energy in the two tones."""
_STEADY: Final = 10 ** (2 / 10)
"""How much a tone may change in level between the two blocks that begin a digit; speech does not stand still."""
_FRAMES: Final = 3
_BEGIN: Final = 2
_END: Final = 2


class InbandDigit(NamedTuple):
    """A digit at its end; ``duration_ms`` to the nearest block."""

    digit: str
    duration_ms: int


_Block = tuple[str, float, float]
"""Its digit ("" for none), and the power of row and column."""
_NOTHING: Final[_Block] = ("", 1.0, 1.0)


class InbandDigits:
    """Feed :meth:`hear` every frame of the caller, in ``encoding`` and in order. Every third is when they are heard."""

    __slots__ = (
        "_basis",
        "_before",
        "_block",
        "_current",
        "_decode",
        "_heard",
        "_misses",
        "_rest",
        "_size",
        "_unheard",
        "found",
    )

    def __init__(self, encoding: Encoding) -> None:
        rate = rate_hz(encoding)
        self._decode = decoder(encoding)
        self._size = round(rate * _BLOCK_S)
        turns = np.outer(np.arange(self._size) / rate, (*_ROWS_HZ, *_COLUMNS_HZ)) * 2 * np.pi
        self._basis = np.hstack((np.cos(turns), np.sin(turns))).astype(np.float32)
        self._rest: NDArray[np.int16] = np.zeros(0, np.int16)
        self._unheard: list[bytes] = []
        self._before = _NOTHING
        self._current = ""
        self._heard = 0
        self._misses = 0
        self.found = 0

    def hear(self, frame: bytes) -> InbandDigit | None:
        """The next 20 ms; the digit that has ended in them or those before, if any."""
        self._unheard.append(frame)
        if len(self._unheard) < _FRAMES:
            return None
        pcm16 = self._decode(b"".join(self._unheard))
        self._unheard.clear()
        samples = np.concatenate((self._rest, np.frombuffer(pcm16, np.int16)))
        count = len(samples) // self._size
        self._rest = samples[count * self._size :]
        blocks = samples[: count * self._size].reshape(count, self._size).astype(np.float32)
        ended = None
        for block in self._blocks(blocks):
            ended = self._step(block) or ended
        return ended

    def _blocks(self, blocks: NDArray[np.float32]) -> list[_Block]:
        """What each block has in it."""
        energy = np.einsum("ij,ij->i", blocks, blocks) / self._size
        if not (energy > _LEAST).any():
            return [_NOTHING] * len(blocks)
        parts = blocks @ self._basis
        # The mean power of a tone of amplitude a is a²/2; its part in phase sums to a·n/2.
        power = (parts[:, :8] ** 2 + parts[:, 8:] ** 2) * (2 / self._size**2)
        return [_measured(each, total) for each, total in zip(power.tolist(), energy.tolist(), strict=True)]

    def _step(self, block: _Block) -> InbandDigit | None:
        """One block: two alike begin a digit, two without it end it."""
        digit, ended = block[0], None
        if self._current:
            if digit == self._current:
                self._heard += 1 + self._misses
                self._misses = 0
            else:
                self._misses += 1
                if self._misses >= _END:
                    self.found += 1
                    ended = InbandDigit(self._current, round(self._heard * _BLOCK_S * 1000))
                    self._current = ""
        if not self._current and digit and _alike(block, self._before):
            self._current, self._heard, self._misses = digit, _BEGIN, 0
        self._before = block
        return ended


def _alike(one: _Block, other: _Block) -> bool:
    return one[0] == other[0] and _steady(one[1], other[1]) and _steady(one[2], other[2])


def _steady(one: float, other: float) -> bool:
    return one < other * _STEADY and other < one * _STEADY


def _measured(power: list[float], energy: float) -> _Block:
    low, high = max(power[:4]), max(power[4:])
    if min(low, high) < _LEAST or low + high < _SHARE * energy:
        return _NOTHING
    if high > low * _TWIST or low > high * _REVERSE_TWIST:
        return _NOTHING
    if sum(each * _APART > low for each in power[:4]) > 1 or sum(each * _APART > high for each in power[4:]) > 1:
        return _NOTHING
    return _DIGITS[power.index(low, 0, 4)][power.index(high, 4) - 4], low, high
