"""Packet loss concealment after ITU-T G.711 Appendix I, on 20 ms frames of either law or of linear samples.

A lost frame is the last pitch periods repeated: one at first, up to three as the loss goes on, so
that it does not buzz; from 10 ms on it fades by a fifth every 10 ms, and is silence after 60 ms.
The seam at the end is cross-faded. The one at the start lies in the past, for which the appendix delays all
audio by 3.75 ms (§I.2.2). Here nothing is delayed: what is repeated begins where the last sample was, and comes
to be as it was in a quarter of a pitch period.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from media import g711
from media.agents.base import Encoding
from media.convert import decoder, encoder, is_linear, rate_hz, silence

__all__ = ["Concealer"]

Samples = NDArray[np.floating[Any]]

# The names and values of §I.2; what is in samples there is in _Sizes.
_LEAST_ENERGY: Final = 250.0
_ATTENUATION: Final = 0.2
_PERIODS_MAX: Final = 3
_BLOCKS_MAX: Final = 6


class _Sizes:
    """What is in samples, at an encoding's rate (``scale`` times that of 8 kHz)."""

    __slots__ = (
        "block",
        "correlation",
        "fall",
        "history",
        "overlap_step",
        "pitch_max",
        "pitch_min",
        "ramps",
        "width",
    )

    def __init__(self, scale: int, width: int) -> None:
        self.width = width
        """Bytes of a sample."""
        self.block = 80 * scale
        self.pitch_min, self.pitch_max = 40 * scale, 120 * scale
        self.history = 3 * self.pitch_max + self.pitch_max // 4
        self.correlation = 160 * scale
        self.overlap_step = 32 * scale
        counts = range(self.block + 1)
        self.ramps = [np.arange(1, count + 1, dtype=np.float32) / max(count, 1) for count in counts]
        self.fall = self.ramps[self.block] * _ATTENUATION - _ATTENUATION / self.block


@cache
def _sizes(encoding: Encoding) -> _Sizes:
    return _Sizes(rate_hz(encoding) // g711.SAMPLE_RATE_HZ, 2 if is_linear(encoding) else 1)


class Concealer:
    """One stream's. Every 20 ms call one of ``good``, ``lost`` and ``pause``; each gives one frame.

    A good frame is remembered and costs nothing else; samples are looked at only around a loss.
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
        "_sizes",
        "_step",
        "_tail",
        "_wave",
    )

    def __init__(self, encoding: Encoding = "PCMU") -> None:
        self._decode, self._encode = decoder(encoding), encoder(encoding)
        self._sizes = _sizes(encoding)
        self._quiet = silence(encoding)
        self._older = self._before = self._last = self._quiet
        self._blocks = 0
        self._pitch = self._sizes.pitch_min
        self._offset = 0
        self._step: np.floating[Any] = np.float32(0)
        self._wave: Samples = np.zeros(self._sizes.history, np.float32)
        self._tail: Samples = self._wave[:0]

    def good(self, frame: bytes) -> bytes:
        """A frame has come."""
        if self._blocks:
            frame = self._recover(frame)
        self._older, self._before, self._last = self._before, self._last, frame
        return frame

    def pause(self) -> bytes:
        """The stream pauses: silence, without a click."""
        return self.good(self._quiet)

    def lost(self, following: bytes | None = None) -> bytes:
        """A frame has not come. What is ``following`` it has nothing of it, in these codecs."""
        if self._blocks >= _BLOCKS_MAX:
            return self._append(self._quiet)
        if not self._blocks:
            self._find_wave()
        return self._append(self._to_law(np.concatenate((self._block(), self._block()))))

    def _append(self, frame: bytes) -> bytes:
        self._older, self._before, self._last = self._before, self._last, frame
        return frame

    def _to_law(self, samples: Samples) -> bytes:
        return self._encode(samples.clip(-32768, 32767).astype(np.int16).tobytes())

    def _find_wave(self) -> None:
        """The pitch of what was heard last, and its wave ready to repeat (§I.2.3, §I.2.4)."""
        sizes = self._sizes
        heard = np.frombuffer(self._decode(self._older + self._before + self._last), np.int16)
        self._wave = heard[-sizes.history :].astype(np.float32)
        self._pitch = _pitch(self._wave[-sizes.correlation - sizes.pitch_max :], sizes)
        self._tail = self._wave[-self._overlap :].copy()
        self._join(1)
        self._step = self._tail[-1] - self._wave[-1]
        self._offset = 0

    @property
    def _overlap(self) -> int:
        return self._pitch // 4

    def _join(self, periods: int) -> None:
        """Cross-fade the wave's end into what precedes its last ``periods``, so that they repeat seamlessly."""
        overlap, start = self._overlap, self._sizes.history - periods * self._pitch
        self._wave[-overlap:] = self._cross_fade(self._tail, self._wave[start - overlap : start])

    def _repeat(self, count: int, periods: int) -> Samples:
        """The next samples of the last ``periods`` going round."""
        length = periods * self._pitch
        at = (self._offset + np.arange(count)) % length
        self._offset = (self._offset + count) % length
        return self._wave[self._sizes.history - length + at]

    def _block(self) -> Samples:
        """The next 10 ms (§I.2.5 to §I.2.7)."""
        done, count = self._blocks, self._sizes.block
        self._blocks += 1
        if done >= _BLOCKS_MAX:
            return np.zeros(count, np.float32)
        grows = 0 < done < _PERIODS_MAX
        wave = self._lengthen(done) if grows else self._repeat(count, min(done + 1, _PERIODS_MAX))
        if not done:
            wave[: self._overlap] += self._step * (1 - self._sizes.ramps[self._overlap])
            return wave
        return wave * (1 - _ATTENUATION * (done - 1) - self._sizes.fall)

    def _lengthen(self, periods: int) -> Samples:
        """10 ms with one period more than before, faded in over a quarter of one."""
        offset = self._offset
        old = self._repeat(self._overlap, periods)
        self._offset = offset % self._pitch
        self._join(periods + 1)
        wave = self._repeat(self._sizes.block, periods + 1)
        wave[: self._overlap] = self._cross_fade(old, wave[: self._overlap])
        return wave

    def _recover(self, frame: bytes) -> bytes:
        """The first good frame, faded in over the repetition; the longer the loss, the slower (§I.2.8)."""
        sizes = self._sizes
        done, self._blocks = self._blocks, 0
        count = min(self._overlap + (done - 1) * sizes.overlap_step, sizes.block)
        gain = max(0.0, 1 - (done - 1) * _ATTENUATION)
        old = self._repeat(count, min(done, _PERIODS_MAX)) * gain
        seam = count * sizes.width
        fresh = np.frombuffer(self._decode(frame[:seam]), np.int16).astype(np.float32)
        return self._to_law(self._cross_fade(old, fresh)) + frame[seam:]

    def _cross_fade(self, old: Samples, new: Samples) -> Samples:
        return old + (new - old) * self._sizes.ramps[len(old)]


def _pitch(heard: Samples, sizes: _Sizes) -> int:
    """The lag, 5 to 15 ms, at which the last 20 ms are most like what came before (normalised correlation)."""
    count, span = sizes.correlation, sizes.pitch_max - sizes.pitch_min
    earlier, latest = heard[: count + span], heard[-count:]
    likeness = np.correlate(earlier, latest, "valid")
    squares = np.zeros(len(earlier) + 1)
    np.cumsum(earlier * earlier, out=squares[1:])
    energy = squares[count:] - squares[:-count]
    score = likeness / np.sqrt(np.maximum(energy, _LEAST_ENERGY))
    # Of equals the shortest lag, as in the appendix.
    return sizes.pitch_max - (span - int(np.argmax(score[::-1])))
