"""The agent of a call that no agent could be reached for: it plays one recording, then hangs up.

For numbers' fallbacks, not for agents' records: ``name`` is the recording's. With the parameter ``forward`` it asks for
a transfer there as soon as the call is established, and plays its recording only if that fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from media.agents.base import AgentCounts, AgentPort, BadAgent, Encoding, Host

__all__ = ["Announcement", "transfer_failed"]

_PLAYED: Final = "played"


def transfer_failed(event: str, data: Mapping[str, object]) -> bool:
    """Whether control tells that a transfer will not be."""
    if event == "refused":
        return data.get("verb") == "transfer"
    status = data.get("status")
    return event == "transfer" and data.get("final") is True and not (isinstance(status, int) and 200 <= status < 300)


class Announcement:
    """Ready at once; what the caller says and presses is not listened to."""

    encoding: Encoding | None = None

    def __init__(self, host: Host) -> None:
        """Raises :class:`BadAgent` for a recording that is not there."""
        recording = host.recordings.get(host.spec.name or "")
        if recording is None:
            raise BadAgent(f"no recording {host.spec.name!r}")
        self.counts = AgentCounts()
        self._recording = recording
        self._forward = host.spec.parameters.get("forward")
        self._port: AgentPort | None = None

    def open(self, port: AgentPort) -> None:
        """Answer; the recording waits for the call to be established."""
        self._port = port
        port.started()
        if self._forward is None:
            self._play(port)
        else:
            port.ready()

    def on_start(self) -> None:
        """Forward, if that is what is wanted; a recording begins by itself."""
        if self._port is not None and self._forward is not None:
            self._port.ask("transfer", {"target": self._forward})

    def on_audio(self, frame: bytes, at_ms: int) -> None:
        """Nobody listens."""

    def on_digit(self, digit: str, duration_ms: int) -> None:
        """Nobody listens."""

    def on_mark(self, name: str) -> None:
        """It has been played."""
        if self._port is not None:
            self._port.hang_up()

    def on_event(self, event: str, data: Mapping[str, object]) -> None:
        """A transfer that fails leaves the recording."""
        if self._port is not None and self._forward is not None and transfer_failed(event, data):
            self._forward = None
            self._play(self._port)

    async def close(self) -> None:
        """Forget the call."""
        self._port = None

    def _play(self, port: AgentPort) -> None:
        port.play(self._recording, "L16")
        port.mark(_PLAYED)
