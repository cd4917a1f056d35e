"""What the phone hears while it is on hold: a recording over and over, or silence."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from media.convert import Converter, frame_bytes

if TYPE_CHECKING:
    from media.agents.base import Encoding

__all__ = ["HoldMusic"]

_FRAME_BYTES: Final = 320
"""20 ms of the recordings: 8 kHz, 16 bit."""


class HoldMusic:
    """Stands in for a call's playout queue: :meth:`take` gives a frame of the recording in the leg's encoding.

    ``queue`` is taken from all the same: time passes for the agent, its marks are reached, and what it says while
    the phone is on hold is lost, as it is for a live speaker.
    """

    __slots__ = ("_at", "_convert", "_frame_bytes", "_queue", "_ready", "_recording")

    def __init__(self, recording: bytes, law: Encoding, queue: Callable[[], bytes | None]) -> None:
        """``recording``: 16-bit samples at 8 kHz; empty (or less than a frame) for silence."""
        self._recording = recording[: len(recording) // _FRAME_BYTES * _FRAME_BYTES]
        self._queue = queue
        self._convert = Converter("L16", law)
        self._frame_bytes = frame_bytes(law)
        self._ready = b""
        self._at = 0

    def take(self) -> bytes | None:
        """The next 20 ms; None for silence."""
        self._queue()
        if not self._recording:
            return None
        while len(self._ready) < self._frame_bytes:  # a change of rate gives a sample less at first
            self._ready += self._convert(self._recording[self._at : self._at + _FRAME_BYTES])
            self._at = (self._at + _FRAME_BYTES) % len(self._recording)
        frame, self._ready = self._ready[: self._frame_bytes], self._ready[self._frame_bytes :]
        return frame
