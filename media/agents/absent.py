"""The agent of a call that has none any more: its caller was transferred."""

from __future__ import annotations

from collections.abc import Mapping

from media.agents.base import AgentCounts, AgentPort, Encoding

__all__ = ["Absent"]


class Absent:
    """Hears and says nothing; ``counts`` are those of the agent that left."""

    encoding: Encoding | None = None

    def __init__(self, counts: AgentCounts) -> None:
        self.counts = counts

    def open(self, port: AgentPort) -> None:
        """Nobody to connect."""

    def on_start(self) -> None:
        """Nobody to tell."""

    def on_audio(self, frame: bytes, at_ms: int) -> None:
        """Nobody to hear."""

    def on_digit(self, digit: str, duration_ms: int) -> None:
        """Nobody to tell."""

    def on_mark(self, name: str) -> None:
        """Nobody to tell."""

    def on_event(self, event: str, data: Mapping[str, object]) -> None:
        """Nobody to tell."""

    async def close(self) -> None:
        """It was closed when it left."""
