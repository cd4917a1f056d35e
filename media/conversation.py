"""How a conversation goes: the caller's silences, both speaking at once, and how long the agent takes to answer.

By the energy of each 20 ms frame. Times are those of the edge: they have in them neither the way to the phone nor the
jitter buffer. A turn is speech with no pause of 0.3 s; where it ended, it ended with its last loud frame.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from media.agents.base import Encoding
from media.messages import Conversation, Stretches
from media.voice import VoiceDetector, level_of

__all__ = ["ConversationMeter"]

_FRAME_MS: Final = 20

# The module's, for what every frame passes: a class's constant is ten times a global's to look up (CPython 3.11).
_PAUSE_FRAMES: Final = 15
"""0.3 s."""
_AUDIBLE_RMS: Final = 100
"""About -50 dBFS: an agent that streams silence says nothing."""


class _Measured:
    """Lengths of one kind: all are counted, the last ``KEPT`` give the percentiles."""

    KEPT: Final = 500

    __slots__ = ("_kept", "_summary", "count", "longest", "total")

    def __init__(self) -> None:
        self.count = self.total = self.longest = 0
        self._kept: deque[int] = deque(maxlen=self.KEPT)
        self._summary: Stretches | None = None

    def add(self, frames: int) -> None:
        self.count += 1
        self.total += frames
        self.longest = max(self.longest, frames)
        self._kept.append(frames)
        self._summary = None

    def summary(self) -> Stretches:
        if self._summary is None:
            self._summary = self.with_lasting(0)
        return self._summary

    def with_lasting(self, frames: int) -> Stretches:
        """As it is now, with one of so many frames (none: 0) that still lasts."""
        lengths = sorted([*self._kept, frames] if frames else self._kept)
        if not lengths:
            return Stretches()
        p50, p95 = (lengths[min(len(lengths) * share // 100, len(lengths) - 1)] for share in (50, 95))
        return Stretches(
            count=self.count + bool(frames),
            total_ms=(self.total + frames) * _FRAME_MS,
            p50_ms=p50 * _FRAME_MS,
            p95_ms=p95 * _FRAME_MS,
            max_ms=max(self.longest, frames) * _FRAME_MS,
        )


class ConversationMeter:
    """For each frame :meth:`said`, then :meth:`heard`; the same as often.

    A silence of the caller is one of ``SILENCE_FRAMES`` or more, counted from their last word. Talk-over is both
    speaking, ``OVERLAP_FRAMES`` or more together. A response runs from the caller's last word to the agent's first,
    where the caller has spoken since the agent last began and had been silent for ``ANSWER_FRAMES`` when it did.
    """

    ANSWER_FRAMES: Final = 5
    SILENCE_FRAMES: Final = 50
    OVERLAP_FRAMES: Final = 10

    __slots__ = (
        "_agent_quiet",
        "_caller_heard",
        "_caller_last",
        "_frame",
        "_level",
        "_overlap",
        "_responses",
        "_silences",
        "_talk_over",
        "_voice",
    )

    def __init__(self, encoding: Encoding) -> None:
        self._level = level_of(encoding)
        self._voice = VoiceDetector(hangover_frames=_PAUSE_FRAMES)
        self._frame = 0
        self._agent_quiet = _PAUSE_FRAMES
        self._caller_heard = False
        self._caller_last = 0
        self._overlap = 0
        self._silences, self._talk_over, self._responses = _Measured(), _Measured(), _Measured()

    def change(self, encoding: Encoding) -> None:
        """Frames are in ``encoding`` from here on."""
        self._level = level_of(encoding)

    def said(self, frame: bytes | None) -> None:
        """20 ms that went to the phone; None: silence did."""
        level = self._level
        if frame is None or level(frame) < _AUDIBLE_RMS:
            if self._agent_quiet < _PAUSE_FRAMES:
                self._agent_quiet += 1
            return
        if self._agent_quiet >= _PAUSE_FRAMES and self._caller_heard:
            if self._frame - self._caller_last >= self.ANSWER_FRAMES:
                self._responses.add(self._frame - self._caller_last)
            self._caller_heard = False
        self._agent_quiet = 0

    def heard(self, frame: bytes) -> None:
        """20 ms of the caller."""
        now = self._frame = self._frame + 1
        voice, level = self._voice, self._level
        before = voice.speaking
        voice.heed(level(frame))
        if voice.speaking:
            if not before:
                self._began(now)
            if voice.loud:
                self._caller_last = now
                self._overlap += not self._agent_quiet
            if self._overlap and self._agent_quiet >= _PAUSE_FRAMES:
                self._end_overlap()
        elif self._overlap:
            self._end_overlap()

    def _began(self, now: int) -> None:
        """The caller has begun to speak, some frames ago."""
        silent = now - VoiceDetector.ONSET_FRAMES - self._caller_last
        if silent >= self.SILENCE_FRAMES:
            self._silences.add(silent)
        self._caller_heard = True

    def _end_overlap(self) -> None:
        if self._overlap >= self.OVERLAP_FRAMES:
            self._talk_over.add(self._overlap)
        self._overlap = 0

    def skip(self, frames: int) -> None:
        """Time has passed in which nobody was heard."""
        self._frame += frames

    def summary(self) -> Conversation:
        """Of the call up to now; the caller's silence that still lasts is in it."""
        silence = self._frame - self._caller_last
        lasting = silence if not self._voice.speaking and silence >= self.SILENCE_FRAMES else 0
        return Conversation(
            caller_silence=self._silences.with_lasting(lasting) if lasting else self._silences.summary(),
            talk_over=self._talk_over.summary(),
            response=self._responses.summary(),
        )
