"""An agent that runs in a process beside this one: this end of :mod:`media.hosting.wire`."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final, cast

from media.agents.base import AgentCounts, AgentPort, BadAgent, Encoding, Host
from media.hosting import wire
from media.hosting.doorway import knock
from media.hosting.rates import encoding_of
from media.hosting.wire import Kind
from media.pipe import Pipe, PipeFull
from media.websocket import FailureCause

__all__ = ["HostedAgent"]


class HostedAgent:
    """A Python agent, or an agent that a host reaches for us (WebRTC).

    Caller audio waits here, bounded, while the host reads too slowly; what an agent does not take in time the host
    drops and tells of.
    """

    BACKLOG_FRAMES: Final = 100
    """2 s of caller audio; then the oldest is dropped: a late agent hears what is said now."""

    BEHIND_BYTES: Final = 64 * 1024
    """With so much unread by the host, audio waits."""

    def __init__(self, host: Host) -> None:
        """Raises :class:`BadAgent` where no process runs agents, or for audio that is none of ours."""
        if host.agent_hosts is None:
            raise BadAgent(f"no process of this edge runs {host.spec.protocol} agents")
        self._doorway = host.agent_hosts
        self._host = host
        self._encoding = encoding_of(host.spec)
        self._pipe = self._new_pipe()
        self._silent = True
        self._again = True
        self._port: AgentPort | None = None
        self._frames: deque[tuple[int, bytes]] = deque()
        self._taken_bytes = 0
        self.counts = AgentCounts()

    def _new_pipe(self) -> Pipe:
        return Pipe(self._receive, self._lost, frame_limit_bytes=wire.FRAME_LIMIT_BYTES)

    @property
    def encoding(self) -> Encoding | None:
        """See :class:`~media.agents.base.Agent`."""
        return self._encoding

    # --- the bridge calls these -----------------------------------------------------------------

    def open(self, port: AgentPort) -> None:
        """Knock; the call's facts go first."""
        self._port = port
        self._knock()

    def _knock(self) -> None:
        self._host.spawn(self._connect(), f"agent {self._host.context.call_sid}")

    async def _connect(self) -> None:
        try:
            end = await knock(self._doorway)
        except OSError as error:
            self._end_with(Kind.FAILED, "error", f"no process runs agents: {error.strerror}")
            return
        await self._pipe.open(end)
        if self._port is None:
            self._pipe.close()
            return
        self._send(wire.encode(Kind.OPEN, wire.Open(agent=self._host.spec, context=self._host.context)))

    def on_start(self) -> None:
        """The phone is answered."""
        self._send(wire.encode(Kind.ESTABLISHED))

    def on_audio(self, frame: bytes, at_ms: int) -> None:
        """To the host, or one more in the backlog."""
        if self._port is None:
            return
        while self._frames and self._pipe.queued <= self.BEHIND_BYTES:
            self._send_audio(*self._frames.popleft())
        if self._frames or self._pipe.queued > self.BEHIND_BYTES:
            self._wait(frame, at_ms)
        else:
            self._send_audio(at_ms, frame)

    def _wait(self, frame: bytes, at_ms: int) -> None:
        if len(self._frames) >= self.BACKLOG_FRAMES:
            self._frames.popleft()
            self.counts.dropped += 1
        self._frames.append((at_ms, frame))

    def _send_audio(self, at_ms: int, frame: bytes) -> None:
        port = self._port
        if port is not None:
            self.counts.sent += 1
            self._send(wire.audio(at_ms, port.queued_ms, self._taken_bytes, frame))

    def on_digit(self, digit: str, duration_ms: int) -> None:
        """The caller pressed it."""
        self._send(wire.encode(Kind.DIGIT, wire.Digit(digit, duration_ms)))

    def on_mark(self, name: str) -> None:
        """Its number, back to the host."""
        self._send(wire.numbered(Kind.REACHED, int(name)))

    def on_event(self, event: str, data: Mapping[str, object]) -> None:
        """One of the agent's events."""
        told = cast("dict[str, str | int | float | bool | None]", dict(data))
        self._send(wire.encode(Kind.TELL, wire.Tell(event, told)))

    async def close(self) -> None:
        """The end of the connection is the end of the call."""
        self._port = None
        self._pipe.close()

    # --- the host calls these -------------------------------------------------------------------

    def _receive(self, frame: bytes) -> None:
        port = self._port
        self._silent = False
        if port is None:
            return
        try:
            self._heard(frame, port)
        except (wire.BadFrame, ValueError):
            self.counts.ignored += 1

    def _heard(self, frame: bytes, port: AgentPort) -> None:
        match frame[0] if frame else 0:
            case Kind.PLAY:
                self._taken_bytes += len(frame) - 1
                port.play(frame[1:], self._encoding)
            case Kind.CLEAR:
                for name in port.clear():
                    self._send(wire.numbered(Kind.CLEARED, int(name)))
            case Kind.MARK:
                port.mark(str(wire.number(frame)))
            case Kind.STARTED:
                port.started()
            case Kind.ANSWER:
                port.ready()
            case Kind.DIGITS:
                port.send_digits(frame[1:].decode("ascii"))
            case Kind.ASK:
                asked = wire.decode(frame, wire.Ask)
                port.ask(asked.verb, asked.arguments)
            case Kind.HANG_UP:
                port.hang_up(wire.decode(frame, wire.Parting).headers)
            case Kind.DROPPED:
                self.counts.dropped += wire.number(frame)
            case Kind.FAILED:
                failed = wire.decode(frame, wire.Failed)
                self._end_with(Kind.FAILED, failed.cause, failed.message)
            case Kind.ENDED:
                ended = wire.decode(frame, wire.Ended)
                self._end_with(Kind.ENDED, ended.cause, ended.message)
            case kind:
                raise wire.BadFrame(f"kind {kind}")

    def _lost(self, reason: str | None) -> None:
        """Without a last word: its process has died, or was killed for it hung.

        One that died before it said anything at all was dying when it was chosen: another is, once.
        """
        if self._port is not None and self._silent and self._again and reason is None:
            self._again = False
            self._pipe = self._new_pipe()
            self._knock()
            return
        self._end_with(Kind.ENDED, "lost", reason or "the process that ran the agent ended")

    def _end_with(self, kind: Kind, cause: str, message: str) -> None:
        port, self._port = self._port, None
        if port is None:
            return
        if kind is Kind.FAILED:
            port.failed(_FAILURES.get(cause, "error"), message)
        else:
            port.ended("closed" if cause == "closed" else "lost", message)

    def _send(self, frame: bytes) -> None:
        """A host that reads nothing at all is lost."""
        try:
            self._pipe.send(frame)
        except PipeFull:
            self._pipe.abort("the agent's process does not read")


_FAILURES: Final[Mapping[str, FailureCause]] = {
    "timeout": "timeout",
    "refused": "refused",
    "forbidden": "forbidden",
}
