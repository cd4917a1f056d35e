"""Packet loss concealment after ITU-T G.711 Appendix I, on 20 ms frames of either law.

A lost frame is the last pitch periods repeated: one at first, up to three as the loss goes on, so
that it does not buzz; from 10 ms on it fades by a fifth every 10 ms, and is silence after 60 ms.
Both seams are cross-faded. The one at the start lies in the past, so the output is 3.75 ms late.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from media import g711

__all__ = ["LATENCY_MS", "Concealer"]

LATENCY_MS: Final = 3.75

Samples = NDArray[np.floating[Any]]

# The names and values of §I.2, in samples of 8 kHz.
_FRAME: Final = g711.FRAME_BYTES
_BLOCK: Final = 80
_PITCH_MIN: Final = 40
_PITCH_MAX: Final = 120
_OVERLAP_MAX: Final = _PITCH_MAX // 4
_HISTORY: Final = 3 * _PITCH_MAX + _OVERLAP_MAX
_CORRELATION: Final = 160
_LEAST_ENERGY: Final = 250.0
_ATTENUATION: Final = 0.2
_OVERLAP_STEP: Final = 32
_PERIODS_MAX: Final = 3
_BLOCKS_MAX: Final = 6

_RAMPS: Final = [np.arange(1, count + 1, dtype=np.float32) / max(count, 1) for count in range(_BLOCK + 1)]
_FALL: Final = _RAMPS[_BLOCK] * _ATTENUATION - _ATTENUATION / _BLOCK


class Concealer:
    """One stream's. Every 20 ms call one of ``good``, ``lost`` and ``pause``; each gives 160 bytes.

    A good frame costs two slices and a concatenation; samples are looked at only around a loss.
    """

    __slots__ = (
        "_before",
        "_blocks",
        "_decode",
        "_encode",
        "_last",
        "_offset",
        "_older",
        "_pitch",
        "_quiet",
        "_tail",
        "_wave",
    )

    def __init__(self, law: str = g711.PCMU) -> None:
        self._decode, self._encode = g711.DECODERS[law], g711.ENCODERS[law]
        self._quiet = g711.silence(law)
        # The last three frames; of the last one 30 samples are still to be heard.
        self._older = self._before = self._last = self._quiet
        self._blocks = 0
        self._pitch = _PITCH_MIN
        self._offset = 0
        self._wave: Samples = np.zeros(_HISTORY, np.float32)
        self._tail: Samples = self._wave[:0]

    def good(self, frame: bytes) -> bytes:
        """A frame has come."""
        if self._blocks:
            frame = self._recover(frame)
        return self._append(frame)

    def pause(self) -> bytes:
        """The stream pauses: silence, without a click."""
        return self.good(self._quiet)

    def lost(self) -> bytes:
        """A frame has not come."""
        if self._blocks >= _BLOCKS_MAX:
            return self._append(self._quiet)
        if not self._blocks:
            self._find_wave()
        return self._append(self._to_law(np.concatenate((self._block(), self._block()))))

    def _append(self, frame: bytes) -> bytes:
        heard = self._last[-_OVERLAP_MAX:] + frame[:-_OVERLAP_MAX]
        self._older, self._before, self._last = self._before, self._last, frame
        return heard

    def _to_law(self, samples: Samples) -> bytes:
        return self._encode(samples.clip(-32768, 32767).astype(np.int16).tobytes())

    def _find_wave(self) -> None:
        """The pitch of what was heard last, and its wave ready to repeat (§I.2.3, §I.2.4)."""
        heard = np.frombuffer(self._decode(self._older + self._before + self._last), np.int16)
        self._wave = heard[-_HISTORY:].astype(np.float32)
        self._pitch = _pitch(self._wave[-_CORRELATION - _PITCH_MAX :])
        self._tail = self._wave[-self._overlap :].copy()
        self._join(1)
        self._last = self._last[: -self._overlap] + self._to_law(self._wave[-self._overlap :])
        self._offset = 0

    @property
    def _overlap(self) -> int:
        return self._pitch // 4

    def _join(self, periods: int) -> None:
        """Cross-fade the wave's end into what precedes its last ``periods``, so that they repeat seamlessly."""
        overlap, start = self._overlap, _HISTORY - periods * self._pitch
        self._wave[-overlap:] = _cross_fade(self._tail, self._wave[start - overlap : start])

    def _repeat(self, count: int, periods: int) -> Samples:
        """The next samples of the last ``periods`` going round."""
        length = periods * self._pitch
        at = (self._offset + np.arange(count)) % length
        self._offset = (self._offset + count) % length
        return self._wave[_HISTORY - length + at]

    def _block(self) -> Samples:
        """The next 10 ms (§I.2.5 to §I.2.7)."""
        done = self._blocks
        self._blocks += 1
        if done >= _BLOCKS_MAX:
            return np.zeros(_BLOCK, np.float32)
        if not 0 < done < _PERIODS_MAX:
            wave = self._repeat(_BLOCK, min(done + 1, _PERIODS_MAX))
        else:
            wave = self._lengthen(done)
        return wave * (1 - _ATTENUATION * (done - 1) - _FALL) if done else wave

    def _lengthen(self, periods: int) -> Samples:
        """10 ms with one period more than before, faded in over a quarter of one."""
        offset = self._offset
        old = self._repeat(self._overlap, periods)
        self._offset = offset % self._pitch
        self._join(periods + 1)
        wave = self._repeat(_BLOCK, periods + 1)
        wave[: self._overlap] = _cross_fade(old, wave[: self._overlap])
        return wave

    def _recover(self, frame: bytes) -> bytes:
        """The first good frame, faded in over the repetition; the longer the loss, the slower (§I.2.8)."""
        done, self._blocks = self._blocks, 0
        count = min(self._overlap + (done - 1) * _OVERLAP_STEP, _BLOCK)
        gain = max(0.0, 1 - (done - 1) * _ATTENUATION)
        old = self._repeat(count, min(done, _PERIODS_MAX)) * gain
        fresh = np.frombuffer(self._decode(frame[:count]), np.int16).astype(np.float32)
        return self._to_law(_cross_fade(old, fresh)) + frame[count:]


def _cross_fade(old: Samples, new: Samples) -> Samples:
    ramp = _RAMPS[len(old)]
    return old + (new - old) * ramp


def _pitch(heard: Samples) -> int:
    """The lag, 5 to 15 ms, at which the last 20 ms are most like what came before (normalised correlation)."""
    span = _PITCH_MAX - _PITCH_MIN
    earlier, latest = heard[: _CORRELATION + span], heard[-_CORRELATION:]
    likeness = np.correlate(earlier, latest, "valid")
    squares = np.zeros(len(earlier) + 1)
    np.cumsum(earlier * earlier, out=squares[1:])
    energy = squares[_CORRELATION:] - squares[:-_CORRELATION]
    score = likeness / np.sqrt(np.maximum(energy, _LEAST_ENERGY))
    # Of equals the shortest lag, as in the appendix.
    return _PITCH_MAX - (span - int(np.argmax(score[::-1])))
