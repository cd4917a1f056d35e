"""What listens in on a call, beside its bridge: recording, the tone that tells of it, and what follows a conversation.

A bridge that nobody listens to has none of this: it asks ``if tap is not None`` and goes on.
"""

from __future__ import annotations

from collections.abc import Callable

from media.agents.base import Encoding
from media.consent_tone import ConsentTone
from media.conversation import ConversationMeter
from media.machine_detection import Detection, MachineDetector
from media.messages import Conversation
from media.recording import CallRecording

__all__ = ["Tap"]

Take = Callable[[], bytes | None]


class Tap:
    """For each 20 ms the bridge calls :meth:`take` through the leg, :meth:`said`, and then :meth:`heard`."""

    __slots__ = (
        "_detector",
        "_meter",
        "_paused",
        "_recording",
        "_source",
        "_taken",
        "_tone",
        "detected",
        "on_detection",
    )

    def __init__(
        self,
        *,
        recording: CallRecording | None = None,
        tone: ConsentTone | None = None,
        meter: ConversationMeter | None = None,
        detector: MachineDetector | None = None,
    ) -> None:
        """``on_detection``, to be set, is told what ``detector`` has made sure of."""
        self._recording = recording
        self._tone = tone
        self._meter = meter
        self._paused: ConversationMeter | None = None
        self._detector = detector
        self._source: Take = _nothing
        self._taken: bytes | None = None
        self.detected: str | None = None
        self.on_detection: Callable[[Detection], None] = lambda detection: None

    @property
    def conversation(self) -> Conversation | None:
        """How the conversation goes; None where nobody measures."""
        meter = self._meter or self._paused
        return None if meter is None else meter.summary()

    def pause(self, paused: bool) -> None:
        """The caller has somebody else to talk to than the agent: that conversation is not measured, or is again."""
        meter = self._meter or self._paused
        self._meter, self._paused = (None, meter) if paused else (meter, None)

    def listen_to(self, source: Take) -> Take:
        """What the phone is to hear from here on, :meth:`take`; ``source`` gives the agent's audio."""
        self._source = source
        return self.take

    def take(self) -> bytes | None:
        """What the phone is to hear now."""
        source, tone = self._source, self._tone
        frame = self._taken = source() if tone is None else tone.take(source)
        return frame

    def said(self, sent: bool) -> None:
        """This frame's packet is dealt with; ``sent``: it went to the phone. Nothing was taken while a digit had it."""
        frame, self._taken = self._taken if sent else None, None
        if self._meter is not None:
            self._meter.said(frame)
        if self._recording is not None:
            self._recording.said(frame)

    def heard(self, frame: bytes) -> None:
        """20 ms of the caller."""
        if self._meter is not None:
            self._meter.heard(frame)
        if self._recording is not None:
            self._recording.heard(frame)
        if self._detector is not None:
            self._detect(self._detector, frame)

    def _detect(self, detector: MachineDetector, frame: bytes) -> None:
        detection = detector.hear(frame)
        if detector.done:
            self._detector = None
        if detection is not None:
            self.detected = "machine_beep" if detection.result == "beep" else detection.result
            self.on_detection(detection)

    def skip(self, frames: int) -> None:
        """Time has passed in which nothing was said or heard."""
        if self._meter is not None:
            self._meter.skip(frames)
        if self._recording is not None:
            self._recording.skip(frames)

    def change(self, encoding: Encoding) -> None:
        """The leg's encoding is another from here on."""
        if (meter := self._meter or self._paused) is not None:
            meter.change(encoding)
        if self._recording is not None:
            self._recording.change(encoding)
        if self._tone is not None:
            self._tone.change(encoding)
        if self._detector is not None:
            self._detector.change(encoding)

    def end(self) -> None:
        """The call is over; nobody is told of anything any more."""
        self.on_detection = lambda detection: None
        if self._recording is not None:
            self._recording.end()


def _nothing() -> bytes | None:
    return None
