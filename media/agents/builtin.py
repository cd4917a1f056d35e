"""The agents that need no server: ``echo`` and ``parrot``."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

from media.agents.base import AgentCounts, AgentPort, BadAgent, Encoding, Host
from media.agents.recordings import DIGIT_RECORDINGS
from media.voice import Heard, VoiceDetector

__all__ = ["Echo", "Parrot", "builtin"]

_LINEAR: Final[Encoding] = "L16"


def builtin(host: Host) -> Echo | Parrot:
    """The agent called ``spec.name`` (none: the parrot). Raises :class:`BadAgent`."""
    match host.spec.name or "parrot":
        case "echo":
            return Echo()
        case "parrot":
            return Parrot(host.recordings)
        case name:
            raise BadAgent(f"no built-in agent {name!r}: echo or parrot")


class Echo:
    """Returns the caller's audio as it comes."""

    encoding: Encoding | None = None

    def __init__(self) -> None:
        self.counts = AgentCounts()
        self._port: AgentPort | None = None

    def open(self, port: AgentPort) -> None:
        """Ready at once."""
        self._port = port
        port.started()
        port.ready()

    def on_start(self) -> None:
        """Nothing to do."""

    def on_audio(self, frame: bytes, at_ms: int) -> None:
        """Back it goes."""
        self.counts.sent += 1
        if self._port is not None:
            self._port.play(frame, self._port.encoding)

    def on_digit(self, digit: str, duration_ms: int) -> None:
        """Digits are not returned."""

    def on_mark(self, name: str) -> None:
        """It sets none."""

    def on_event(self, event: str, data: Mapping[str, object]) -> None:
        """It asks for nothing that it would be told of."""

    async def close(self) -> None:
        """Forget the call."""
        self._port = None


class Parrot:
    """Greets, repeats what the caller said when they pause, names the digits pressed, ends at ``#``.

    The caller's voice stops it at once. What it repeats is ``LONGEST_FRAMES`` (30 s) at most.
    """

    LONGEST_FRAMES: Final = 1500
    LEAD_IN_FRAMES: Final = 10

    encoding: Encoding | None = _LINEAR

    def __init__(self, recordings: Mapping[str, bytes]) -> None:
        self.counts = AgentCounts()
        self._recordings = recordings
        self._port: AgentPort | None = None
        self._voice = VoiceDetector()
        self._said: deque[bytes] = deque(maxlen=self.LEAD_IN_FRAMES)
        self._naming = False
        self._leaving = False

    def open(self, port: AgentPort) -> None:
        """Greet: the greeting waits for the call to be established."""
        self._port = port
        port.started()
        port.play(self._recordings["greeting"], _LINEAR)

    def on_start(self) -> None:
        """The greeting begins by itself."""

    def on_audio(self, frame: bytes, at_ms: int) -> None:
        """Listen; interrupted by a voice, answer a pause."""
        self.counts.sent += 1
        port = self._port
        if port is None or self._leaving:
            return
        self._said.append(frame)
        heard = self._voice.hear(frame)
        if heard == Heard.SPEAKS:
            self._naming = False
            port.clear()
            self._said = deque(self._said, maxlen=self.LONGEST_FRAMES)
        elif heard == Heard.PAUSES:
            port.play(b"".join(self._said), _LINEAR)
            self._said = deque(maxlen=self.LEAD_IN_FRAMES)

    def on_digit(self, digit: str, duration_ms: int) -> None:
        """Name it; several in a row are all named. ``#`` says goodbye and ends."""
        port = self._port
        if port is None or self._leaving:
            return
        if not (self._naming and port.playing):
            port.clear()
        if digit == "#":
            self._leaving = True
            port.play(self._recordings["goodbye"], _LINEAR)
            port.hang_up()
        elif digit in DIGIT_RECORDINGS:
            self._naming = True
            port.play(self._recordings[DIGIT_RECORDINGS[digit]], _LINEAR)

    def on_mark(self, name: str) -> None:
        """It sets none."""

    def on_event(self, event: str, data: Mapping[str, object]) -> None:
        """It asks for nothing that it would be told of."""

    async def close(self) -> None:
        """Forget the call."""
        self._port = None
