"""What the agent has said and the phone has not heard yet: a deep queue, re-framed to 20 ms.

Models speak far faster than real time, in pieces of any length. The queue holds audio in the phone leg's encoding
and is drained by the pacing ticker, one frame a tick.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

__all__ = ["PlayoutQueue"]

_FRAME_MS: Final = 20


class PlayoutQueue:
    """Audio and marks in the order the agent sent them.

    Holds ``limit_ms`` of audio; what does not fit is the newest, and it is refused and counted in
    ``overflow_ms``: what the caller is to hear next stays whole. A mark is reached when all audio
    queued before it has been taken. A last piece shorter than a frame waits ``PATIENCE`` frames for
    the rest of its sentence, then is filled up with silence, so that a tail is neither lost nor
    glued to the next sentence.
    """

    LIMIT_MS: Final = 5 * 60 * 1000
    LIMIT_MARKS: Final = 4096
    PATIENCE: Final = 2

    __slots__ = (
        "_audio",
        "_cleared",
        "_frame_bytes",
        "_limit_bytes",
        "_queued",
        "_silence",
        "_taken",
        "_waited",
        "marks",
        "marks_refused",
        "overflow_bytes",
    )

    def __init__(self, silence: bytes, limit_ms: int = LIMIT_MS) -> None:
        """``silence``: one frame of it in the leg's encoding."""
        self._audio = bytearray()
        self.marks: deque[tuple[int, str]] = deque()
        """Those not reached yet: (position in bytes ever queued, name)."""
        self._silence = silence
        self._frame_bytes = len(silence)
        self._limit_bytes = limit_ms * len(silence) // _FRAME_MS
        self._queued = 0  # bytes ever accepted: the position a new mark gets
        self._taken = 0  # bytes ever taken or cleared
        self._cleared = 0  # bytes ever cleared
        self._waited = 0
        self.overflow_bytes = 0
        self.marks_refused = 0

    def __len__(self) -> int:
        """Bytes waiting."""
        return len(self._audio)

    @property
    def queued_ms(self) -> int:
        """Audio waiting [ms]."""
        return len(self._audio) * _FRAME_MS // self._frame_bytes

    @property
    def played_ms(self) -> int:
        """Audio taken so far [ms]; what was cleared is not."""
        return (self._taken - self._cleared) * _FRAME_MS // self._frame_bytes

    @property
    def overflow_ms(self) -> int:
        """Audio refused because the queue was full [ms]."""
        return self.overflow_bytes * _FRAME_MS // self._frame_bytes

    @property
    def idle(self) -> bool:
        """Nothing waits: no audio, and so no mark."""
        return not self._audio

    def put(self, audio: bytes) -> int:
        """Append; the number of bytes accepted, less than offered when the queue is full."""
        room = self._limit_bytes - len(self._audio)
        if len(audio) > room:
            self.overflow_bytes += len(audio) - room
            audio = audio[:room]
        self._audio += audio
        self._queued += len(audio)
        self._waited = 0
        return len(audio)

    def mark(self, name: str) -> bool:
        """Note ``name`` after what is queued; True when that has been played already (echo it now)."""
        if not self._audio:
            return True
        if len(self.marks) >= self.LIMIT_MARKS:
            self.marks_refused += 1
            return False
        self.marks.append((self._queued, name))
        return False

    def take(self) -> bytes | None:
        """The next 20 ms, or None: nothing to play in this frame."""
        waiting, size = len(self._audio), self._frame_bytes
        if waiting >= size:
            frame = bytes(self._audio if waiting == size else self._audio[:size])
            del self._audio[:size]
            self._taken += size
            return frame
        if not waiting:
            return None
        if self._waited < self.PATIENCE:
            self._waited += 1
            return None
        frame = bytes(self._audio) + self._silence[waiting:]
        self._audio.clear()
        self._taken += waiting
        self._waited = 0
        return frame

    def reached(self) -> tuple[str, ...]:
        """Marks passed since the last call, in order."""
        if not self.marks or self.marks[0][0] > self._taken:
            return ()
        names = []
        while self.marks and self.marks[0][0] <= self._taken:
            names.append(self.marks.popleft()[1])
        return tuple(names)

    def clear(self) -> tuple[str, ...]:
        """Drop all audio; the outstanding marks, in order."""
        names = tuple(name for _, name in self.marks)
        self.marks.clear()
        self._taken += len(self._audio)
        self._cleared += len(self._audio)
        self._audio.clear()
        self._waited = 0
        return names

    def recode(self, recode: Callable[[bytes], bytes], silence: bytes) -> None:
        """The leg's encoding has changed: ``recode`` all that waits, and move each mark with what it marks."""
        before, after, taken = self._frame_bytes, len(silence), self._taken
        self._audio[:] = recode(bytes(self._audio))
        self._taken, self._cleared = (each * after // before for each in (taken, self._cleared))
        self._queued = self._taken + len(self._audio)
        self.marks = deque((self._taken + (at - taken) * after // before, name) for at, name in self.marks)
        self.overflow_bytes = self.overflow_bytes * after // before
        self._limit_bytes = self._limit_bytes * after // before
        self._silence, self._frame_bytes = silence, after
