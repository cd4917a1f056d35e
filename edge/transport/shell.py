"""The I/O shell of the SIP engine: UDP, TCP and TLS sockets, its one timer, its DNS (RFC 3261 §18).

The engine decides everything; this module moves octets. After each input (a datagram, a message from a
stream, a timer, an answer from DNS, a command) the engine's actions are carried out and its events
delivered. Nothing a peer sends, and no fault of the engine or of the events' receiver, is raised out of a
callback: it is logged, counted, and the loop goes on.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, TypeVar

from edge.actions import Action, Close, Dispatch, Resolve, Target, Transmit
from edge.counters import Counters, SourceLog
from edge.dns import Resolver
from edge.events import Address, Event, Flow, TransportName
from edge.framing import FramingError
from edge.transport.sockets import ListenError, bind, is_literal, is_loopback, name_of, reason_of, tune, unconnected
from edge.transport.stream import Stream, TransportLimits
from edge.transport.udp import Datagrams
from edge.trunks import canonical_host
from edge.uri import ParseError

__all__ = ["Engine", "SipTransport"]

T = TypeVar("T")

_log = logging.getLogger(__name__)

_ACCEPTS_A_WAKE: Final = 64
_LEAST_DELAY_S: Final = 0.001


class Engine(Protocol):
    """What the shell needs of :class:`edge.endpoint.Endpoint`."""

    def receive(self, data: bytes, flow: Flow, now: float) -> None: ...
    def malformed(self, data: bytes, error: ParseError, flow: Flow, now: float) -> None: ...
    def connection_closed(self, flow: Flow, now: float) -> None: ...
    def transport_failed(self, token: str, now: float) -> None: ...
    def resolved(self, query: int, targets: tuple[Target, ...], now: float) -> None: ...
    def handle_timers(self, now: float) -> None: ...
    def next_timer(self) -> float | None: ...
    def actions(self) -> list[Action]: ...
    def events(self) -> list[Event]: ...


@dataclass(slots=True)
class _Listener:
    """One listening stream socket."""

    name: TransportName
    local: Address
    sock: socket.socket
    retry: asyncio.TimerHandle | None = None


class _Tasks:
    """The tasks one owner runs: named, kept until they end, their failures reported."""

    def __init__(self, failed: Callable[[str, BaseException], None]) -> None:
        self._failed = failed
        self._running: set[asyncio.Task[None]] = set()

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._done)
        return task

    async def cancel(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._failed(task.get_name(), error)


class SipTransport:
    """Runs one engine on real sockets; all on the loop that :meth:`start` was called on.

    ``listeners`` as configured (port 0 for any). ``tls_server`` is needed by a TLS listener, ``tls_client``
    by TLS targets. ``listed`` says whether an address is some trunk's (``TrunkTable.listed``): strangers get
    fewer connections. Next: ``await start()``, then :meth:`run` for each command, ``await close()`` at the end.
    """

    def __init__(
        self,
        endpoint: Engine,
        listeners: Sequence[tuple[TransportName, Address]],
        *,
        on_event: Callable[[Event], None],
        tls_server: ssl.SSLContext | None = None,
        tls_client: ssl.SSLContext | None = None,
        resolver: Resolver,
        counters: Counters | None = None,
        listed: Callable[[str], bool] = lambda host: False,
        limits: TransportLimits | None = None,
    ) -> None:
        self.limits = limits or TransportLimits()
        self._engine = endpoint
        self._wanted = tuple(listeners)
        self._on_event = on_event
        self._tls_server = tls_server
        self._tls_client = tls_client
        self._resolver = resolver
        self._counters = counters if counters is not None else Counters()
        self._listed = listed
        self._own_loop: asyncio.AbstractEventLoop | None = None
        self._tasks = _Tasks(self._task_failed)
        self._source_log = SourceLog(_log)
        self._datagrams: list[Datagrams] = []
        self._listeners: list[_Listener] = []
        self._streams: dict[Stream, asyncio.Task[None]] = {}
        self._open: dict[int, Stream] = {}
        self._stream_ended = asyncio.Event()
        self._pool: dict[Target, Stream] = {}
        self._per_host: Counter[str] = Counter()
        self._unlisted = 0
        self._numbers = itertools.count(1)
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = 0.0
        self._settling = False
        self._closing = False

    def renew(self, tls_server: ssl.SSLContext) -> None:
        """What TLS listeners meet connections with from now on; those that are open stay as they are."""
        self._tls_server = tls_server

    @property
    def connections(self) -> int:
        """Streams that are open, opening or closing."""
        return len(self._streams)

    # life

    async def start(self) -> tuple[tuple[TransportName, Address], ...]:
        """Open all listeners, or none; what they are bound to, in the given order. Raises :class:`ListenError`."""
        self._own_loop = asyncio.get_running_loop()
        bound: list[tuple[TransportName, Address]] = []
        try:
            for name, address in self._wanted:
                bound.append((name, await self._listen(name, address)))
        except BaseException:
            await self.close()
            raise
        self._settle()
        return tuple(bound)

    async def _listen(self, name: TransportName, address: Address) -> Address:
        if name is TransportName.TLS and self._tls_server is None:
            raise ListenError(name, address, "no certificate and key")
        sock = bind(name, address)
        local = name_of(sock)
        if name is TransportName.UDP:
            protocol = Datagrams(self.received, local)
            await self._loop.create_datagram_endpoint(lambda: protocol, sock=sock)
            self._datagrams.append(protocol)
        else:
            listener = _Listener(name, local, sock)
            self._listeners.append(listener)
            self._loop.add_reader(sock.fileno(), self._accept, listener)
        return local

    async def close(self) -> None:
        """Stop listening, send what is queued, close everything within ``linger_s``; leaves no task or socket."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        for listener in self._listeners:
            self._stop(listener)
        self._listeners.clear()
        for stream in tuple(self._streams):
            stream.close("shutting down")
        await self._tasks.cancel()
        await self._until_streams_end()
        for protocol in self._datagrams:
            protocol.close()
        await asyncio.gather(*(protocol.closed for protocol in self._datagrams))
        self._datagrams.clear()
        for _ in range(2):  # a closed transport gives its socket back a turn of the loop later
            await asyncio.sleep(0)

    def _stop(self, listener: _Listener) -> None:
        if listener.retry is not None:
            listener.retry.cancel()
        self._loop.remove_reader(listener.sock.fileno())
        listener.sock.close()

    async def _until_streams_end(self) -> None:
        """Each stream's own linger timer cuts it off, so this ends."""
        while self._streams:
            self._stream_ended.clear()
            await self._stream_ended.wait()

    # inputs

    def run(self, command: Callable[[float], T]) -> T:
        """Give the engine a command with the time; its actions and events follow before this returns.

        From within ``on_event`` too: there they follow when ``on_event`` returns.
        """
        try:
            return command(self._loop.time())
        finally:
            self._settle()

    def received(self, data: bytes, flow: Flow) -> None:
        """A datagram, or one whole message of a stream."""
        self._input("receive", flow.remote.host, lambda now: self._engine.receive(data, flow, now))

    def malformed(self, error: FramingError, stream: Stream) -> None:
        """A stream that lost its framing: the engine may answer it, then it is closed (RFC 3261 §18.3)."""
        self._drop("malformed", stream.host, str(error))
        flow = stream.flow
        self._input("malformed", stream.host, lambda now: self._engine.malformed(error.rejected, error, flow, now))
        stream.close("malformed")

    def _input(self, what: str, source: str, give: Callable[[float], None]) -> None:
        try:
            give(self._loop.time())
        except Exception:
            self._fault(what, source)
        self._settle()

    def _settle(self) -> None:
        """Carry out actions and deliver events until there are none; a nested call leaves it to the outer one."""
        if self._settling:
            return
        self._settling = True
        try:
            busy = True
            while busy:
                actions, events = self._outputs()
                for action in actions:
                    try:
                        self._perform(action)
                    except Exception:
                        self._fault("action", "")
                for event in events:
                    try:
                        self._on_event(event)
                    except Exception:
                        self._fault("event", "")
                busy = bool(actions or events)
        finally:
            self._settling = False
        self._arm()

    def _outputs(self) -> tuple[list[Action], list[Event]]:
        try:
            return self._engine.actions(), self._engine.events()
        except Exception:
            self._fault("outputs", "")
            return [], []

    # the timer

    def _arm(self) -> None:
        """One handle for the engine's earliest timer. A later one is left to fire early and be armed again."""
        try:
            at = self._engine.next_timer()
        except Exception:
            self._fault("next_timer", "")
            return
        if self._timer is not None and (at is None or at < self._armed_for):
            self._timer.cancel()
            self._timer = None
        if at is not None and self._timer is None and not self._closing:
            self._armed_for = at
            # A little later at least: an engine that wants a timer in the past must not keep the loop busy.
            self._timer = self._loop.call_at(max(at, self._loop.time() + _LEAST_DELAY_S), self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        # uvloop rounds to milliseconds and may be that much early.
        self._input("timer", "", lambda now: self._engine.handle_timers(max(now, self._armed_for)))

    # actions

    def _perform(self, action: Action) -> None:
        match action:
            case Transmit():
                self._transmit(action)
            case Dispatch():
                self._dispatch(action.data, action.target, action.token, action.local)
            case Resolve() if not self._closing:
                self._tasks.start(f"resolve {action.query}", self._resolve(action))
            case Close(flow, reason):
                if (stream := self._open.get(flow.connection)) is not None:
                    stream.close(reason)

    def _transmit(self, action: Transmit) -> None:
        flow = action.flow
        if flow.transport is TransportName.UDP:
            failure = self._send_datagram(action.data, flow.remote, flow.local)
            if failure is not None:
                self._report(failure, None, flow.remote)
            return
        stream = self._open.get(flow.connection)
        failure = "connection closed" if stream is None else stream.send(action.data, None)
        if failure is not None and action.fallback is not None:
            self._dispatch(action.data, action.fallback, None, None)
        elif failure is not None:
            self._report(failure, None, flow.remote)

    def _dispatch(self, data: bytes, target: Target, token: str | None, local: Address | None) -> None:
        if target.transport is TransportName.UDP:
            failure = self._send_datagram(data, target.address, local)
        else:
            failure = self._send_on_stream(data, target, token)
        if failure is not None:
            self._report(failure, token, target.address)

    def _send_datagram(self, data: bytes, remote: Address, local: Address | None) -> str | None:
        if not is_literal(remote.host):
            return "no address"
        listener = self._datagram_listener(remote, local)
        if listener is None:
            return "no UDP listener of that address family"
        return listener.send(data, remote, self.limits.write_buffer)

    def _datagram_listener(self, remote: Address, local: Address | None) -> Datagrams | None:
        """The wanted one, else the first of the family; loopback talks to loopback."""
        six = ":" in remote.host
        if local is not None and (":" in local.host) is six:
            for one in self._datagrams:
                if one.local == local:
                    return one
        family = [one for one in self._datagrams if (":" in one.local.host) is six]
        near = is_loopback(remote.host)
        return next((one for one in family if is_loopback(one.local.host) == near), family[0] if family else None)

    def _send_on_stream(self, data: bytes, target: Target, token: str | None) -> str | None:
        if target.transport is TransportName.TCP and target.server_name is not None:
            target = replace(target, server_name=None)  # nothing verifies it: one connection for all names
        stream = self._pool.get(target)
        if stream is None:
            reason = self._cannot_connect(target)
            if reason is not None:
                return reason
            stream = self._connect(target)
        return stream.send(data, token)

    def _cannot_connect(self, target: Target) -> str | None:
        if self._closing:
            return "shutting down"
        if not is_literal(target.address.host):
            return "no address"
        if target.transport is TransportName.TLS and self._tls_client is None:
            return "no TLS for outgoing connections"
        if len(self._streams) >= self.limits.connections:
            return "too many connections"
        return None

    def _report(self, failure: str, token: str | None, remote: Address) -> None:
        """Tell the engine of a failed request; later, so that a command never fails while it is being given."""
        self._counters.add("sip_send_failures", reason=failure)
        self._source_log.write(
            logging.INFO, "not sent", remote.host, self._loop.time(), port=remote.port, reason=failure
        )
        if token is not None:
            self._loop.call_soon(self._failed, token)

    def _failed(self, token: str) -> None:
        if not self._closing:
            self._input("transport_failed", "", lambda now: self._engine.transport_failed(token, now))

    async def _resolve(self, query: Resolve) -> None:
        try:
            targets = await self._resolver.resolve(query)
        except Exception:
            self._fault("resolve", query.host)
            targets = ()
        self._input("resolved", query.host, lambda now: self._engine.resolved(query.query, targets, now))

    # outgoing connections

    def _connect(self, target: Target) -> Stream:
        flow = Flow(target.transport, Address("", 0), target.address, next(self._numbers))
        stream = Stream(self, flow, listed=True, key=target)
        self._pool[target] = stream
        self._add(stream, f"connect {target.address}", self._connecting(stream, target))
        return stream

    async def _connecting(self, stream: Stream, target: Target) -> None:
        address = target.address
        options: dict[str, Any] = {}
        if target.transport is TransportName.TLS:
            options = self._tls(self._tls_client) | {"server_hostname": target.server_name or address.host}
        try:
            sock = unconnected(address)
        except OSError as error:
            stream.abort(reason_of(error))
            return
        try:
            async with asyncio.timeout(self.limits.connect_s):
                await self._loop.sock_connect(sock, (address.host, address.port))
                await self._loop.create_connection(lambda: stream, sock=sock, **options)
        except (OSError, ValueError) as error:
            sock.close()
            stream.abort(reason_of(error))
        except BaseException:
            sock.close()
            raise

    def _tls(self, context: ssl.SSLContext | None) -> dict[str, Any]:
        return {
            "ssl": context,
            "ssl_handshake_timeout": self.limits.handshake_s,
            "ssl_shutdown_timeout": self.limits.linger_s,
        }

    # incoming connections

    def _accept(self, listener: _Listener) -> None:
        for _ in range(_ACCEPTS_A_WAKE):
            try:
                sock, peer = listener.sock.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptors or no memory: the peer waits, and the loop does not spin
                self._pause(listener, error)
                return
            if not self._take(listener, sock, Address(*peer[:2])):
                sock.close()

    def _pause(self, listener: _Listener, error: OSError) -> None:
        self._counters.add("sip_accept_failures", reason=errno.errorcode.get(error.errno or 0, "unknown"))
        self._source_log.write(
            logging.ERROR, "cannot accept", str(listener.local), self._loop.time(), reason=reason_of(error)
        )
        self._loop.remove_reader(listener.sock.fileno())
        listener.retry = self._loop.call_later(self.limits.accept_pause_s, self._resume, listener)

    def _resume(self, listener: _Listener) -> None:
        listener.retry = None
        self._loop.add_reader(listener.sock.fileno(), self._accept, listener)

    def _take(self, listener: _Listener, sock: socket.socket, remote: Address) -> bool:
        host = canonical_host(remote.host)
        listed = self._listed(host)
        refusal = self._full(host, listed)
        if refusal is not None:
            self._drop("connection", host, refusal)
            return False
        sock.setblocking(False)
        tune(sock)
        flow = Flow(listener.name, name_of(sock), remote, next(self._numbers))
        stream = Stream(self, flow, listed=listed)
        self._add(stream, f"accept {remote}", self._accepting(stream, sock))
        return True

    def _full(self, host: str, listed: bool) -> str | None:
        limits = self.limits
        if len(self._streams) >= limits.connections:
            return "too many connections"
        if not listed and self._unlisted >= limits.unlisted_connections:
            return "too many connections from strangers"
        if self._per_host[host] >= (limits.listed_per_address if listed else limits.unlisted_per_address):
            return "too many connections from this address"
        return None

    async def _accepting(self, stream: Stream, sock: socket.socket) -> None:
        options = self._tls(self._tls_server) if stream.flow.transport is TransportName.TLS else {}
        try:
            await self._loop.connect_accepted_socket(lambda: stream, sock, **options)
        except OSError as error:
            sock.close()
            self._drop("handshake", stream.host, reason_of(error))
            stream.abort(reason_of(error))
        except BaseException:
            sock.close()
            raise

    # what the streams tell

    def _add(self, stream: Stream, name: str, work: Coroutine[Any, Any, None]) -> None:
        self._per_host[stream.host] += 1
        self._unlisted += not stream.listed
        self._streams[stream] = self._tasks.start(name, work)

    def opened(self, stream: Stream) -> None:
        """The connection stands, TLS included."""
        self._open[stream.flow.connection] = stream

    def closing(self, stream: Stream) -> None:
        """No more messages on this one: a new request gets a new connection."""
        self._open.pop(stream.flow.connection, None)
        if stream.key is not None and self._pool.get(stream.key) is stream:
            del self._pool[stream.key]

    def ended(self, stream: Stream, was_open: bool, reason: str) -> None:
        """The connection is gone: its place is free, requests it did not answer have failed."""
        self._counters.add("sip_connections_closed", transport=stream.flow.transport.value, reason=reason)
        task = self._streams.pop(stream)
        self._stream_ended.set()
        if task is not asyncio.current_task():
            task.cancel()
        self._unlisted -= not stream.listed
        self._per_host[stream.host] -= 1
        if not self._per_host[stream.host]:
            del self._per_host[stream.host]
        for token in stream.unanswered:
            self._report(reason, token, stream.flow.remote)
        if was_open and not self._closing:
            flow = stream.flow
            self._input("connection_closed", stream.host, lambda now: self._engine.connection_closed(flow, now))

    # faults

    def _drop(self, what: str, source: str, reason: str) -> None:
        self._counters.add("sip_transport_drops", source=source, what=what, reason=reason)
        self._source_log.write(logging.INFO, f"{what} dropped", source, self._loop.time(), reason=reason)

    def _fault(self, what: str, source: str) -> None:
        """A fault of ours, in an ``except`` block: with its traceback, counted, survived."""
        self._counters.add("sip_faults", where=what)
        self._source_log.write(logging.ERROR, f"fault in {what}", source, self._loop.time(), exc_info=True)

    def _task_failed(self, name: str, error: BaseException) -> None:
        self._counters.add("sip_faults", where="task")
        _log.error("task %s failed", name, exc_info=error)

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        if self._own_loop is None:
            raise RuntimeError("start() has not been awaited")
        return self._own_loop
