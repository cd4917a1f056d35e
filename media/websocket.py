"""WebSocket links to agents (RFC 6455), the edge being the client: the only WebSocket I/O of media.

picows underneath. One parked task owns each link from the first connection attempt to its end. Once its call is
established a link without TLS is read once a tick, with all others, as RTP is (:mod:`media.udp`): what an agent says
waits for its tick anyway, and a wake-up of the loop for each message costs more than all that is done with it.
"""

from __future__ import annotations

import asyncio
import logging
import select
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal, Protocol, cast

import picows
from picows import WSCloseCode, WSFrame, WSMsgType, WSTransport

from media.targets import TargetRefused, Targets
from media.tasks import Tasks

__all__ = ["Arrivals", "FailureCause", "Headers", "Link", "LinkHandler", "WebSocketClient", "classify", "plain"]

log = logging.getLogger("truedy.media.websocket")
_library_log = logging.getLogger("truedy.media.websocket.picows")
_library_log.setLevel(logging.ERROR)  # it tells of every connection and writes request lines

FailureCause = Literal["refused", "timeout", "error", "forbidden"]

Headers = tuple[tuple[str, str], ...]
"""Names and values for the handshake; they can hold secrets, and are never logged."""

# An enumeration's own look-up is ten times a global's, and every message passes here.
_TEXT: Final = WSMsgType.TEXT
_BINARY: Final = WSMsgType.BINARY
_CLOSE: Final = WSMsgType.CLOSE
_PING: Final = WSMsgType.PING
_PONG: Final = WSMsgType.PONG

MAX_MESSAGE_BYTES: Final = 2 * 1024 * 1024
_HIGH_WATER_BYTES: Final = 16 * 1024  # this process
_CLOSE_TIMEOUT_S: Final = 2.0
_PING_IDLE_S: Final = 20.0  # picows wants it no shorter than the time for the pong
_PONG_TIMEOUT_S: Final = 20.0

# RFC 6455 §7.4.1: 1001 and 1012 are a server going down in order, 1005 a close frame without a code, and from
# 3000 on they are the agent's own words. All others say that something broke.
_ORDERLY: Final = frozenset((1000, 1001, 1005, 1012))
_NO_CODE: Final = 1005
_FIRST_PRIVATE: Final = 3000


class LinkHandler(Protocol):
    """Who uses a link. After ``on_failed`` or ``on_closed`` nothing more is called."""

    def on_open(self) -> None:
        """The handshake is done: ``Link.send`` works from here."""

    def on_message(self, data: bytes, text: bool) -> None:
        """One whole message."""

    def on_writable(self) -> None:
        """The write buffer has drained: ``Link.writable`` is True again."""

    def on_failed(self, cause: FailureCause, message: str) -> None:
        """No connection: ``refused`` (TCP or HTTP), ``timeout``, ``error`` (name, TLS, protocol) or ``forbidden``.

        The last is an address that no agent may have (:mod:`media.targets`).
        """

    def on_closed(self, orderly: bool, message: str) -> None:
        """The link is gone; ``orderly``: the peer sent a normal close frame, or we had closed."""


class _Parser(Protocol):
    """picows' end of the transport: what has come is written into its buffer."""

    def get_buffer(self, sizehint: int) -> memoryview: ...
    def buffer_updated(self, nbytes: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """How a link is made. ``headers`` go with the handshake."""

    url: str = field(repr=False)
    timeout_s: float
    context: ssl.SSLContext | None
    targets: Targets
    headers: Headers = field(default=(), repr=False)


class Arrivals:
    """The links that are read at the same ticks. Next: :meth:`Link.read_at_ticks`, then :meth:`receive` at each."""

    __slots__ = ("_epoll", "_links")

    def __init__(self) -> None:
        self._epoll: select.epoll | None = None
        self._links: dict[int, Link] = {}

    def add(self, descriptor: int, link: Link) -> None:
        """From here on :meth:`receive` reads it."""
        if self._epoll is None:
            self._epoll = select.epoll()
        self._epoll.register(descriptor, select.EPOLLIN)
        self._links[descriptor] = link

    def remove(self, descriptor: int) -> None:
        """Not any more. The descriptor is still open."""
        del self._links[descriptor]
        if self._epoll is not None:
            self._epoll.unregister(descriptor)
            if not self._links:
                self._epoll.close()
                self._epoll = None

    def receive(self) -> None:
        """Hand out what has come since the last time."""
        if self._epoll is not None and self._links:
            for descriptor, _ in self._epoll.poll(0, len(self._links)):
                if (link := self._links.get(descriptor)) is not None:
                    link.receive()


class Link(picows.WSListener):
    """One connection to an agent."""

    ROUNDS: Final = 16
    """How often what has come may fill the buffer, which doubles then; the rest waits for the next tick."""

    def __init__(self, handler: LinkHandler) -> None:
        self._handler: LinkHandler | None = handler
        self._arrivals: Arrivals | None = None
        self._reading: tuple[socket.socket, _Parser] | None = None
        self._transport: WSTransport | None = None
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        self._parts_text = True
        self._close_code: int | None = None
        self._close_reason = ""
        self._fault = ""
        self._closing = False
        self._abort: asyncio.TimerHandle | None = None
        self._socket: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None
        self.writable = False

    def send(self, data: bytes) -> None:
        """A text message; ignored when the link is not open. Look at ``writable`` before sending media."""
        if self._transport is not None and not self._closing:
            self._transport.send(_TEXT, data)

    def send_binary(self, data: bytes) -> None:
        """A binary message; see :meth:`send`."""
        if self._transport is not None and not self._closing:
            self._transport.send(_BINARY, data)

    def close(self) -> None:
        """Close in order: a close frame, the peer's in return (2 s at most), then the connection.

        The handler hears no more. A connection attempt under way is given up.
        """
        self._handler = None
        if self._closing:
            return
        self._closing = True
        if self._transport is not None:
            self._read_by_loop()
            self._transport.send_close(WSCloseCode.OK)
            self._abort = asyncio.get_running_loop().call_later(_CLOSE_TIMEOUT_S, self._transport.disconnect, False)
        elif self._task is not None:
            self._task.cancel()

    def read_at_ticks(self, arrivals: Arrivals) -> None:
        """The call is established: its ticks come, and the agent is read at them."""
        self._arrivals = arrivals
        if self._transport is not None and self._reading is None:
            self._leave_loop(self._transport, arrivals)

    def _leave_loop(self, transport: WSTransport, arrivals: Arrivals) -> None:
        below = transport.underlying_transport
        if self._socket is not None and not (transport.is_secure or self._closing or below.is_closing()):
            with suppress(OSError):  # no descriptor is left: the loop goes on reading
                arrivals.add(self._socket.fileno(), self)
                self._reading = self._socket, cast("_Parser", below.get_protocol())
                below.pause_reading()

    def _stop_reading(self) -> None:
        if self._reading is not None and self._arrivals is not None:
            self._arrivals.remove(self._reading[0].fileno())
            self._reading = None

    def _read_by_loop(self) -> None:
        """As before the call: a link's end is the loop's to see."""
        if self._reading is not None and self._transport is not None:
            self._stop_reading()
            if not self._transport.underlying_transport.is_closing():
                self._transport.underlying_transport.resume_reading()

    def receive(self) -> None:
        """Something has come."""
        for _ in range(self.ROUNDS):
            if self._reading is None:
                return
            opened, parser = self._reading
            room = parser.get_buffer(-1)
            try:
                size = opened.recv_into(room)
            except BlockingIOError:
                return
            except OSError:
                size = 0
            if size:
                parser.buffer_updated(size)
            else:
                self._read_by_loop()
            if size < len(room):
                return

    # --- picows calls these ---------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        """The handshake is done."""
        self._transport = transport
        self.writable = True
        transport.underlying_transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
        if self._arrivals is not None:
            self._leave_loop(transport, self._arrivals)
        if self._handler is not None:
            self._handler.on_open()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The descriptor is about to be closed."""
        self._stop_reading()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """A frame: a whole message, a part of one, or the peer's close."""
        kind = frame.msg_type
        if kind is _CLOSE:
            self._closed_by_peer(transport, frame)
        elif self._handler is None or kind is _PING or kind is _PONG:
            return
        elif frame.payload_size > MAX_MESSAGE_BYTES:
            return  # picows hands it over all the same while it disconnects
        elif frame.fin and not self._parts:
            self._handler.on_message(frame.get_payload_as_bytes(), kind is _TEXT)
        else:
            self._part(transport, frame)

    def pause_writing(self) -> None:
        """The agent reads too slowly."""
        self.writable = False

    def resume_writing(self) -> None:
        """The agent has caught up."""
        self.writable = True
        if self._handler is not None and not self._closing:
            self._handler.on_writable()

    # --------------------------------------------------------------------------------------------

    def _closed_by_peer(self, transport: WSTransport, frame: WSFrame) -> None:
        payload = frame.get_payload_as_bytes()
        self._close_code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else _NO_CODE
        self._close_reason = plain(payload[2:].decode("utf-8", "replace"))
        if not transport.is_close_frame_sent:
            transport.send_close(WSCloseCode.OK)
        self._stop_reading()
        transport.disconnect()

    def _part(self, transport: WSTransport, frame: WSFrame) -> None:
        """A fragmented message (RFC 6455 §5.4), bounded like any other."""
        if not self._parts:
            self._parts_text = frame.msg_type is _TEXT
        self._parts.append(frame.get_payload_as_bytes())
        self._parts_bytes += frame.payload_size
        if self._parts_bytes > MAX_MESSAGE_BYTES:
            self._fault = f"a message of more than {MAX_MESSAGE_BYTES} bytes"
            transport.send_close(WSCloseCode.MESSAGE_TOO_BIG)
            self._stop_reading()
            transport.disconnect()
            self._parts.clear()
            return
        if frame.fin:
            whole, self._parts, self._parts_bytes = b"".join(self._parts), [], 0
            if self._handler is not None:
                self._handler.on_message(whole, self._parts_text)

    def start(self, tasks: Tasks, plan: Plan, name: str) -> None:
        """Begin to connect, in a task of ``tasks``."""
        self._task = tasks.spawn(self._run(plan), name)

    async def _run(self, plan: Plan) -> None:
        """Connect, serve until the end, and tell the handler how it ended."""
        try:
            async with asyncio.timeout(plan.timeout_s):
                transport = await self._connect(plan)
        except (Exception, asyncio.CancelledError) as error:
            self._give_up()
            self._failed(error)
            if isinstance(error, asyncio.CancelledError):
                raise
            return
        try:
            await self._until_disconnected(transport)
        finally:
            self._finish()

    async def _connect(self, plan: Plan) -> WSTransport:
        transport, _ = await picows.ws_connect(
            lambda: self,
            plan.url,
            ssl_context=plan.context,
            websocket_handshake_timeout=plan.timeout_s,
            logger_name=_library_log,
            enable_auto_ping=True,
            auto_ping_idle_timeout=_PING_IDLE_S,
            auto_ping_reply_timeout=_PONG_TIMEOUT_S,
            max_frame_size=MAX_MESSAGE_BYTES,
            max_redirects=0,
            extra_headers=plan.headers,
            socket_factory=partial(self._open_socket, plan),
            use_aiofastnet=False,
        )
        return transport

    async def _open_socket(self, plan: Plan, url: picows.WSParsedURL) -> socket.socket:
        self._socket = await plan.targets.connect(url.host, url.port, plan.timeout_s)
        return self._socket

    async def _until_disconnected(self, transport: WSTransport) -> None:
        try:
            await transport.wait_disconnected()
        except asyncio.CancelledError:
            transport.disconnect(False)
            raise
        except Exception as error:  # picows re-raises what made it disconnect
            self._fault = self._fault or plain(f"{type(error).__name__}: {error}")

    def _finish(self) -> None:
        if self._abort is not None:
            self._abort.cancel()
        self.writable = False
        self._transport, self._socket = None, None
        handler, self._handler = self._handler, None
        if handler is not None:
            handler.on_closed(not self._fault and self._orderly, self._how())

    @property
    def _orderly(self) -> bool:
        code = self._close_code
        return code is not None and (code in _ORDERLY or code >= _FIRST_PRIVATE)

    def _how(self) -> str:
        if self._fault:
            return self._fault
        if self._close_code is None:
            return "the connection was lost"
        return f"closed with {self._close_code} {self._close_reason}".rstrip()

    def _give_up(self) -> None:
        """End a handshake under way: cancelled, picows leaves its transport open, so the socket is shut under it."""
        self._transport = None
        if self._socket is not None:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:  # closed already
                return

    def _failed(self, error: BaseException) -> None:
        handler, self._handler = self._handler, None
        if handler is not None:
            handler.on_failed(*classify(error))


def classify(error: BaseException) -> tuple[FailureCause, str]:
    """Why there is no connection, in a word and in a sentence."""
    match error:
        case TargetRefused():
            return "forbidden", plain(str(error))
        case TimeoutError():
            return "timeout", "no connection in time"
        case ConnectionRefusedError():
            return "refused", "connection refused"
        case picows.WSHandshakeError(response=response) if response is not None:
            return "refused", f"HTTP {int(response.status)}"
        case ssl.SSLCertVerificationError():
            return "error", f"TLS certificate: {error.verify_message}"
        case _:
            return "error", plain(f"{type(error).__name__}: {error}")


def plain(text: str) -> str:
    """An agent's words, fit for a log line."""
    return "".join(each if each.isprintable() else " " for each in text[:200])


def _default_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class WebSocketClient:
    """Makes links. ``context`` verifies names and certificates for ``wss:``; None: the system's trust.

    ``targets`` says where to. Next: :meth:`prepare`.
    """

    def __init__(self, tasks: Tasks, context: ssl.SSLContext | None = None, targets: Targets | None = None) -> None:
        self._tasks = tasks
        self._context = context
        self._targets = targets or Targets()
        self._anywhere = Targets(allow_private=True)

    async def prepare(self) -> None:
        """Read the system's trust now, off the loop: it takes longer than a frame."""
        if self._context is None:
            self._context = await asyncio.to_thread(_default_context)

    def connect(
        self,
        url: str,
        handler: LinkHandler,
        timeout_s: float,
        name: str,
        headers: Headers = (),
        *,
        anywhere: bool = False,
    ) -> Link:
        """Begin to connect; ``name`` names the task. The handler hears how it goes.

        ``anywhere``: the operator has chosen the URL, no account has, so it may be private.
        """
        link = Link(handler)
        targets = self._anywhere if anywhere else self._targets
        link.start(self._tasks, Plan(url, timeout_s, self._context, targets, headers), name)
        return link
