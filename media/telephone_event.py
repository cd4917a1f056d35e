"""Digits in RTP (RFC 4733): one event in each packet, in timestamps of 8 kHz or a multiple of it (``scale``)."""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass
from typing import Final

from media.rtp import timestamp_delta

__all__ = ["DIGITS", "DigitEvent", "EventPacket", "Receiver", "Sender"]

DIGITS: Final = "0123456789*#ABCD"
"""The digit of each event code 0..15 (RFC 4733 §3.2)."""

_PAYLOAD: Final = struct.Struct("!BBH")
_END: Final = 0x80
_UNITS_PER_MS: Final = 8
_FRAME_UNITS: Final = 160
_SEGMENT_UNITS: Final = 0xFFFF
_SEGMENT_TOLERANCE: Final = 800
_STALE_UNITS: Final = 5 * 8000


@dataclass(frozen=True, slots=True)
class DigitEvent:
    """A finished digit; ``timestamp`` is the RTP time of its start."""

    digit: str
    duration_ms: int
    timestamp: int


class Receiver:
    """Digits out of telephone-event packets, each reported once.

    An event is its RTP timestamp (§2.5.1.2), not its marker nor its end bit, so any packet of it may
    be lost. It is reported at its first end packet, or when the next event begins, or by
    :meth:`expire` when packets stop coming. Feed packets as they arrive (before any jitter buffer).
    """

    EXPIRY_S: Final = 0.2

    __slots__ = ("_code", "_duration", "_ended", "_heard_at", "_segment", "_start", "received", "scale")

    def __init__(self) -> None:
        self.received = 0
        self.scale = 1
        """Of the timestamps; Opus's is 6."""
        self.reset()

    def reset(self) -> None:
        """Forget the current event; for a new SSRC, whose timestamps are unrelated."""
        self._code: int | None = None
        self._ended = True
        self._start = 0
        self._segment = 0
        self._duration = 0
        self._heard_at = 0.0

    def put(self, payload: bytes, timestamp: int, now: float) -> tuple[DigitEvent, ...]:
        """One packet's payload; the digits it finishes: none, one, rarely two.

        Malformed payloads and events that are no digits finish none.
        """
        if len(payload) < _PAYLOAD.size:
            return ()
        code, flags, duration = _PAYLOAD.unpack_from(payload)
        if code >= len(DIGITS):
            return ()
        finished: tuple[DigitEvent, ...] = ()
        if self._code is None or timestamp != self._segment:
            if self._is_old(timestamp):
                return ()
            if self._continues(code, timestamp):
                self._segment, self._duration = timestamp, 0
            else:
                finished = self._finish()
                self._begin(code, timestamp)
        self._heard_at = now
        self._duration = max(self._duration, duration)
        return finished + self._finish() if flags & _END else finished

    def expire(self, now: float) -> tuple[DigitEvent, ...]:
        """The current digit when nothing was heard of it for ``EXPIRY_S`` (all its end packets were lost)."""
        return self._finish() if not self._ended and now - self._heard_at >= self.EXPIRY_S else ()

    def _is_old(self, timestamp: int) -> bool:
        """A straggler of an earlier event; farther back it is a jump of the sender's clock."""
        return self._code is not None and -_STALE_UNITS * self.scale < timestamp_delta(timestamp, self._segment) < 0

    def _continues(self, code: int, timestamp: int) -> bool:
        """A further segment of a long event (§2.5.1.3): it starts where the 16-bit duration ran out."""
        ahead = timestamp_delta(timestamp, self._segment)
        return not self._ended and code == self._code and abs(ahead - _SEGMENT_UNITS) <= _SEGMENT_TOLERANCE * self.scale

    def _begin(self, code: int, timestamp: int) -> None:
        self._code, self._start, self._segment = code, timestamp, timestamp
        self._duration, self._ended = 0, False

    def _finish(self) -> tuple[DigitEvent, ...]:
        if self._ended or self._code is None:
            return ()
        self._ended = True
        self.received += 1
        units = timestamp_delta(self._segment, self._start) + self._duration
        return (DigitEvent(DIGITS[self._code], units // (_UNITS_PER_MS * self.scale), self._start),)


@dataclass(frozen=True, slots=True)
class EventPacket:
    """What to send in this frame's place; ``timestamp`` is the event's start, the same for all its packets."""

    payload: bytes
    timestamp: int
    marker: bool


class Sender:
    """Queued digits as packets, one for each 20 ms frame (§2.5.1).

    Call :meth:`next` once a frame with the frame's RTP timestamp, which goes on rising by 160 (times ``scale``)
    all the while; send the packet it gives in place of audio, or audio when it gives None. The end packet
    goes three times, at the frames' interval (§2.5.1.4).
    """

    LIMIT: Final = 200
    """Digits and pauses that may wait."""
    PAUSE_MS: Final = 500
    END_PACKETS: Final = 3
    FRAME_MS: Final = 20

    __slots__ = (
        "_duration_frames",
        "_frame",
        "_gap_frames",
        "_idle_frames",
        "_start",
        "_volume",
        "scale",
        "sent",
        "waiting",
    )

    def __init__(self, duration_ms: int = 160, gap_ms: int = 80, volume_dbm0: int = -10) -> None:
        """``duration_ms`` 40..8000 of each digit, ``gap_ms`` ≥ 40 between two; ``volume_dbm0`` −63..0."""
        if not 40 <= duration_ms <= 8000 or gap_ms < 40 or not -63 <= volume_dbm0 <= 0:
            raise ValueError("duration_ms 40..8000, gap_ms from 40, volume_dbm0 -63..0")
        self._duration_frames = -(-duration_ms // self.FRAME_MS)
        # The two repeated end packets lie in the gap.
        self._gap_frames = max(-(-gap_ms // self.FRAME_MS) - (self.END_PACKETS - 1), 0)
        self._volume = -volume_dbm0
        self.waiting: deque[str] = deque()
        """Digits and pauses not finished yet."""
        self._frame = 0
        self._idle_frames = 0
        self._start = 0
        self.scale = 1
        """Of the timestamps; Opus's is 6."""
        self.sent = 0

    def queue(self, digits: str) -> None:
        """Append ``0-9*#A-D`` (any case) and ``w``, a pause of 0.5 s.

        ValueError for anything else, and for more than ``LIMIT`` waiting; then nothing is queued.
        """
        wanted = digits.upper()
        if len(self.waiting) + len(wanted) > self.LIMIT:
            raise ValueError(f"more than {self.LIMIT} digits wait already")
        for digit in wanted:
            if digit != "W" and digit not in DIGITS:
                raise ValueError(f"{digit!r} is no digit")
        self.waiting.extend(wanted)

    @property
    def sending(self) -> bool:
        """True while a digit's packets are going out."""
        return self._frame > 0

    def next(self, timestamp: int) -> EventPacket | None:
        """This frame's packet, or None: send audio."""
        if self._idle_frames:
            self._idle_frames -= 1
            return None
        if not self.waiting:
            return None
        if self.waiting[0] == "W":
            self.waiting.popleft()
            self._idle_frames = self.PAUSE_MS // self.FRAME_MS - 1
            return None
        return self._packet(timestamp)

    def _packet(self, timestamp: int) -> EventPacket:
        if self._frame == 0:
            self._start = timestamp
        first = self._frame == 0
        self._frame += 1
        frames = min(self._frame, self._duration_frames)
        flags = self._volume | (_END if self._frame >= self._duration_frames else 0)
        payload = _PAYLOAD.pack(DIGITS.index(self.waiting[0]), flags, min(frames * _FRAME_UNITS * self.scale, 0xFFFF))
        if self._frame == self._duration_frames + self.END_PACKETS - 1:
            self.waiting.popleft()
            self._frame = 0
            self._idle_frames = self._gap_frames
            self.sent += 1
        return EventPacket(payload, self._start, first)
