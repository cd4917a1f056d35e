"""SIP over TCP and TLS: one connection (RFC 3261 §18, RFC 5626 §4.4.1)."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from edge.actions import Target
from edge.events import Address, Flow
from edge.framing import PONG, FramingError, StreamFramer
from edge.transport.sockets import reason_of
from edge.trunks import canonical_host

__all__ = ["Stream", "StreamOwner", "StreamState", "TransportLimits"]

_PONGS_A_READ: Final = 16
_TOKENS_KEPT: Final = 1024
_LEAST_DELAY_S: Final = 0.001


@dataclass(frozen=True, slots=True)
class TransportLimits:
    """What one edge, and one peer, may use; times in seconds, sizes in octets.

    ``unlisted_per_address`` and ``unlisted_connections`` hold for peers no trunk lists, the rest of
    ``connections`` is the carriers'. ``message_s``: from a connection's start, or from the first octet of
    a message, until the message is whole. ``write_buffer`` is what a slow peer may leave unread.
    """

    connections: int = 2000
    unlisted_connections: int = 1000
    unlisted_per_address: int = 10
    listed_per_address: int = 500
    message_s: float = 9.5
    handshake_s: float = 4.5
    connect_s: float = 10.0
    idle_s: float = 14_400.0
    unlisted_idle_s: float = 1800.0
    linger_s: float = 1.0
    accept_pause_s: float = 0.25
    write_buffer: int = 524_288


class StreamOwner(Protocol):
    """Who opens connections and hears of them: :class:`edge.transport.shell.SipTransport`."""

    limits: TransportLimits

    def received(self, data: bytes, flow: Flow) -> None: ...
    def malformed(self, error: FramingError, stream: Stream) -> None: ...
    def opened(self, stream: Stream) -> None: ...
    def closing(self, stream: Stream) -> None: ...
    def ended(self, stream: Stream, was_open: bool, reason: str) -> None: ...


class StreamState(Enum):
    """How far a connection has come."""

    CONNECTING = "connecting"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class Stream(asyncio.Protocol):
    """One TCP or TLS connection, from its first SYN or its accept to its end."""

    def __init__(self, owner: StreamOwner, flow: Flow, *, listed: bool, key: Target | None = None) -> None:
        self.flow = flow
        self.key = key
        self.host = canonical_host(flow.remote.host)
        self.listed = listed
        self.state = StreamState.CONNECTING
        self.unanswered: deque[str] = deque(maxlen=_TOKENS_KEPT)
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._framer = StreamFramer()
        self._queue: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._active_at = self._waiting_since = self._loop.time()
        self._waiting = key is None
        self._spoken = False
        self._reason = ""

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        if self.state is not StreamState.CONNECTING:
            transport.abort()  # type: ignore[attr-defined]
            return
        self.state = StreamState.OPEN
        self._active_at = self._waiting_since = self._loop.time()
        if self.key is not None and (name := transport.get_extra_info("sockname")):
            self.flow = Flow(self.flow.transport, Address(*name[:2]), self.flow.remote, self.flow.connection)
        self._owner.opened(self)
        self._watch()
        for data in self._queue:
            self._write(data)
        self._queue.clear()

    def data_received(self, data: bytes) -> None:
        if self.state is not StreamState.OPEN:
            return
        try:
            messages, error = self._framer.feed(data), None
        except FramingError as broken:
            messages, error = broken.messages, broken
        self._mark(bool(messages))
        for message in messages:
            if self.state is StreamState.OPEN:
                self._owner.received(message, self.flow)
        if error is not None:
            self._owner.malformed(error, self)
        self._answer_pings()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended("lost" if exc is None else reason_of(exc))

    # the owner's

    def send(self, data: bytes, token: str | None) -> str | None:
        """Why the message cannot be sent, or None; the slow peer of a full buffer is cut off."""
        if self.state not in (StreamState.CONNECTING, StreamState.OPEN):
            return "connection closed"
        if self._unsent() + len(data) > self._owner.limits.write_buffer:
            self.abort("slow peer")
            return "slow peer"
        if token is not None:
            self.unanswered.append(token)
        if self.state is StreamState.CONNECTING:
            self._queue.append(data)
        else:
            self._write(data)
        return None

    def close(self, reason: str) -> None:
        """Send what is queued, then close; cut off after ``linger_s``."""
        if self.state is not StreamState.OPEN or self._transport is None:
            self.abort(reason)
            return
        self._leave(reason)
        self._transport.close()
        self._rearm(self._loop.time() + self._owner.limits.linger_s)

    def abort(self, reason: str) -> None:
        """Close at once; what is queued is lost."""
        self._leave(reason)
        if self._transport is None:
            self.ended(reason)
        else:
            self._transport.abort()

    def _leave(self, reason: str) -> None:
        if self.state in (StreamState.CONNECTING, StreamState.OPEN):
            self.state = StreamState.CLOSING
            self._reason = reason
            self._owner.closing(self)

    def ended(self, reason: str) -> None:
        """The connection is no more, or never came to be."""
        if self.state is StreamState.CLOSED:
            return
        self._leave(reason)
        self.state = StreamState.CLOSED
        if self._timer is not None:
            self._timer.cancel()
        was_open, self._transport = self._transport is not None, None
        self._owner.ended(self, was_open, self._reason)

    # time

    def _mark(self, whole: bool) -> None:
        """Note activity; a message that begins, or still lacks its end, is waited for ``message_s``."""
        now = self._active_at = self._loop.time()
        if whole:
            self.unanswered.clear()
            self._waiting = False
        if self._framer.pending and not self._waiting:
            self._waiting, self._waiting_since = True, now
            self._watch()

    def _deadline(self) -> tuple[float, str]:
        limits = self._owner.limits
        if self._waiting:
            return self._waiting_since + limits.message_s, "no whole message in time"
        return self._active_at + (limits.idle_s if self.listed else limits.unlisted_idle_s), "idle"

    def _watch(self) -> None:
        self._rearm(self._deadline()[0])

    def _rearm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._check)

    def _check(self) -> None:
        if self.state is StreamState.CLOSING:
            self.abort("lingered")
            return
        at, reason = self._deadline()
        if self._loop.time() + _LEAST_DELAY_S >= at:
            self.close(reason)
        else:
            self._rearm(at)

    # octets

    def _unsent(self) -> int:
        if self._transport is None:
            return sum(map(len, self._queue))
        return self._transport.get_write_buffer_size()

    def _write(self, data: bytes) -> None:
        self._active_at = self._loop.time()
        self._spoken = True
        if self._transport is not None:
            self._transport.write(data)

    def _answer_pings(self) -> None:
        """RFC 5626 §4.4.1: CRLF for each CRLF CRLF; nothing for a stranger to whom nothing was ever said."""
        pings, self._framer.pings = self._framer.pings, 0
        if not (self.listed or self._spoken):
            return
        if pings and self.state is StreamState.OPEN and self._unsent() < self._owner.limits.write_buffer:
            self._write(PONG * min(pings, _PONGS_A_READ))
