"""What all agents behind a link share: how they are connected, how a slow one is served, how one ends.

A protocol's agent subclasses :class:`LinkedAgent` and says what goes over the link and what comes back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, Protocol
from urllib.parse import urlsplit

from media.agents.base import AgentCounts, AgentPort, BadAgent, Encoding, Host
from media.websocket import FailureCause, Headers, Link

__all__ = ["AgentLink", "LinkedAgent", "Unacknowledged", "WebSocketAgent", "websocket_url"]


class AgentLink(Protocol):
    """A WebSocket, or a TCP connection."""

    @property
    def writable(self) -> bool:
        """Whether media may be sent now."""

    def send(self, data: bytes) -> None:
        """Ignored when the link is not open."""

    def close(self) -> None:
        """In order; the handler hears no more."""


class LinkedAgent(ABC):
    """An agent at the other end of a link. Caller audio waits here, bounded, while the agent reads too slowly.

    The bridge calls the first half, the link the second (:class:`media.websocket.LinkHandler`).
    """

    BACKLOG_FRAMES: Final = 100
    """2 s of caller audio; then the oldest is dropped: a late agent hears what is said now."""
    BACKLOG_MESSAGES: Final = 1000

    encoding: Encoding | None = None

    def __init__(self, host: Host) -> None:
        self._host = host
        self._counts = AgentCounts()
        self._port: AgentPort | None = None
        self._link: AgentLink | None = None
        self._number = 0
        self._frames: deque[tuple[int, int, bytes]] = deque()
        self._others: deque[tuple[int, Callable[[], bytes]]] = deque()  # each after the frame of that number

    @property
    def counts(self) -> AgentCounts:
        """The statistics' part."""
        return self._counts

    # --- what a protocol adds -------------------------------------------------------------------

    @abstractmethod
    def _connect(self, name: str, timeout_s: float) -> AgentLink:
        """Begin to connect; ``name`` names the task."""

    @abstractmethod
    def _opened(self, port: AgentPort) -> None:
        """The link is open: tell the agent of the call, then ``port.started()``."""

    @abstractmethod
    def _audio(self, number: int, at_ms: int, frame: bytes) -> bytes:
        """The message for the caller's frame of this number, from 1 on, ``at_ms`` [ms] after the start."""

    @abstractmethod
    def _heard(self, data: bytes, text: bool, port: AgentPort) -> None:
        """What the agent says."""

    def _send_audio(self, link: AgentLink, message: bytes) -> None:
        link.send(message)

    def _farewell(self) -> bytes | None:
        """The last message, before the link is closed."""
        return None

    # --- the bridge calls these -----------------------------------------------------------------

    def open(self, port: AgentPort) -> None:
        """Connect; the agent is told of the call as soon as the link is open."""
        self._port = port
        self._link = self._connect(f"agent {self._host.context.call_sid}", self._host.spec.agent_timeout_s)

    def on_start(self) -> None:  # noqa: B027 - a choice, not a duty
        """Media follows; no protocol has a message for it."""

    def on_audio(self, frame: bytes, at_ms: int) -> None:
        """One message, or one more in the backlog."""
        link = self._link
        if link is None:
            return
        self._number += 1
        if link.writable and not self._frames and not self._others:
            self._send_audio(link, self._audio(self._number, at_ms, frame))
            self._counts.sent += 1
            return
        if len(self._frames) >= self.BACKLOG_FRAMES:
            self._frames.popleft()
            self._counts.dropped += 1
        self._frames.append((self._number, at_ms, frame))

    def on_digit(self, digit: str, duration_ms: int) -> None:  # noqa: B027 - a choice, not a duty
        """Ignored where the protocol has no place for it."""

    def on_mark(self, name: str) -> None:  # noqa: B027 - a choice, not a duty
        """Ignored where the protocol has no place for it."""

    def on_event(self, event: str, data: Mapping[str, object]) -> None:  # noqa: B027 - a choice, not a duty
        """Ignored where the protocol has no place for it."""

    async def close(self) -> None:
        """The last message, then the closing handshake, which goes on after this returns."""
        self._port = None
        link, self._link = self._link, None
        if link is not None:
            if (message := self._farewell()) is not None:
                link.send(message)
            link.close()

    # --- the link calls these -------------------------------------------------------------------

    def on_open(self) -> None:
        """Tell the agent of the call before anything else; what it has missed follows: early media does not wait."""
        if self._link is not None and self._port is not None:
            self._opened(self._port)
            self.on_writable()

    def on_message(self, data: bytes, text: bool) -> None:
        """What the agent says; after the call's end nobody listens."""
        if self._port is not None:
            self._heard(data, text, self._port)

    def on_writable(self) -> None:
        """The agent reads again: what it missed, all else in its place."""
        link = self._link
        while link is not None and link.writable and (self._frames or self._others):
            if self._others and (not self._frames or self._others[0][0] < self._frames[0][0]):
                link.send(self._others.popleft()[1]())
            else:
                self._send_audio(link, self._audio(*self._frames.popleft()))
                self._counts.sent += 1

    def on_failed(self, cause: FailureCause, message: str) -> None:
        """Not connected."""
        self._link = None
        if self._port is not None:
            self._port.failed(cause, message)

    def on_closed(self, orderly: bool, message: str) -> None:
        """The agent is gone."""
        self._link = None
        if self._port is not None:
            self._port.ended("closed" if orderly else "lost", message)

    # --------------------------------------------------------------------------------------------

    def _tell(self, build: Callable[[], bytes]) -> None:
        """A message that is no audio, built when its turn has come: never dropped for slowness.

        An agent that reads none of ``BACKLOG_MESSAGES`` is lost.
        """
        link = self._link
        if link is None:
            return
        if link.writable and not self._frames and not self._others:
            link.send(build())
        elif len(self._others) < self.BACKLOG_MESSAGES:
            self._others.append((self._number, build))
        else:
            self._lose("the agent does not read")

    def _ignore(self) -> None:
        """Something the agent has said makes no sense."""
        self._counts.ignored += 1

    def _lose(self, message: str) -> None:
        """Give the agent up."""
        link, self._link = self._link, None
        if link is not None:
            link.close()
        if self._port is not None:
            self._port.ended("lost", message)


class WebSocketAgent(LinkedAgent):
    """One behind ``spec.url``; ``headers`` join the handshake's, beside those that authenticate it.

    ``anywhere``: the operator has chosen the URL, see :class:`~media.websocket.WebSocketClient`.
    """

    headers: Headers = ()
    anywhere = False

    def __init__(self, host: Host) -> None:
        """Raises :class:`BadAgent` for a URL that is none."""
        super().__init__(host)
        self._url = websocket_url(host.spec.protocol, host.spec.url)
        self._websocket: Link | None = None

    def _connect(self, name: str, timeout_s: float) -> Link:
        headers = (*self._host.request_headers(self._url), *self.headers)
        websockets = self._host.websockets
        self._websocket = websockets.connect(self._url, self, timeout_s, name, headers, anywhere=self.anywhere)
        return self._websocket

    def on_start(self) -> None:
        """Media follows: what the agent says is due at ticks."""
        if self._websocket is not None:
            self._websocket.read_at_ticks(self._host.arrivals)


class Unacknowledged:
    """Marks set and not reached, each under a name of its own: an agent's names may repeat, or be missing.

    Bounded: :meth:`add` gives None once ``LIMIT`` are outstanding.
    """

    LIMIT: Final = 1000

    __slots__ = ("_count", "_names")

    def __init__(self) -> None:
        self._names: dict[str, tuple[str, str]] = {}
        self._count = 0

    def add(self, kind: str, name: str) -> str | None:
        """What to set at the port for the agent's ``name``; ``kind`` comes back with it."""
        if len(self._names) >= self.LIMIT:
            return None
        self._count += 1
        key = str(self._count)
        self._names[key] = (kind, name)
        return key

    def take(self, key: str) -> tuple[str, str] | None:
        """Kind and name of a mark that was reached or cleared; None for one that was forgotten."""
        return self._names.pop(key, None)

    def forget(self, kind: str) -> None:
        """All of a kind: they are reached unnoticed."""
        self._names = {key: value for key, value in self._names.items() if value[0] != kind}


def websocket_url(protocol: str, url: str | None) -> str:
    """A WebSocket URL with a host; never repeated in the error, for it may carry a token. Raises :class:`BadAgent`."""
    if not url:
        raise BadAgent(f"{protocol} needs a url")
    try:
        parts = urlsplit(url)
        port_is_sane = parts.port is None or parts.port > 0
    except ValueError:
        raise BadAgent("the agent's url cannot be read") from None
    if parts.scheme not in ("ws", "wss") or not parts.hostname or not port_is_sane or parts.fragment:
        raise BadAgent("the agent's url is no ws:// or wss:// URL")
    return url
