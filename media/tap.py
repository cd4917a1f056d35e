"""What listens in on a call, beside its bridge: recording, the tone that tells of it, and what follows a conversation.

A bridge that nobody listens to has none of this: it asks ``if tap is not None`` and goes on.
"""

from __future__ import annotations

from collections.abc import Callable

from media.agents.base import Encoding
from media.consent_tone import ConsentTone
from media.recording import CallRecording

__all__ = ["Tap"]

Take = Callable[[], bytes | None]


class Tap:
    """For each 20 ms the bridge calls :meth:`take` through the leg, :meth:`said`, and then :meth:`heard`."""

    __slots__ = ("_recording", "_taken", "_tone")

    def __init__(self, *, recording: CallRecording | None = None, tone: ConsentTone | None = None) -> None:
        self._recording = recording
        self._tone = tone
        self._taken: bytes | None = None

    def take(self, take: Take) -> bytes | None:
        """What the phone is to hear now; ``take`` gives the agent's audio."""
        tone = self._tone
        frame = self._taken = take() if tone is None else tone.take(take)
        return frame

    def said(self, sent: bool) -> None:
        """This frame's packet is dealt with; ``sent``: it went to the phone. Nothing was taken while a digit had it."""
        frame, self._taken = self._taken, None
        if self._recording is not None:
            self._recording.said(frame if sent else None)

    def heard(self, frame: bytes) -> None:
        """20 ms of the caller."""
        if self._recording is not None:
            self._recording.heard(frame)

    def skip(self, frames: int) -> None:
        """Time has passed in which nothing was said or heard."""
        if self._recording is not None:
            self._recording.skip(frames)

    def change(self, encoding: Encoding) -> None:
        """The leg's encoding is another from here on."""
        if self._recording is not None:
            self._recording.change(encoding)
        if self._tone is not None:
            self._tone.change(encoding)

    def end(self) -> None:
        """The call is over."""
        if self._recording is not None:
            self._recording.end()
