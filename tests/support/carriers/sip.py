"""The SIP side of a carrier: the one address it is seen at, and the calls it sends from hosts behind that address.

Messages are put together as text, in the spelling of the carrier, apart from the product's code. A carrier does by
itself what carriers do: it repeats its requests over UDP (RFC 3261 §17.1), acknowledges, answers what comes for its
hosts, and passes on what is routed through it. What the peer does against the protocol is kept in ``complaints``.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from tests.support.lossy import Impairment
from tests.support.phone import Message, sdp_offer
from tests.support.rtp import MediaPort

__all__ = ["Border", "Leg", "Passed", "Path", "Spelling", "fresh", "place", "values"]

SocketAddress = tuple[str, int]
T1_S, T2_S, LINGER_S = 0.5, 4.0, 32.0


def fresh(octets: int = 8) -> str:
    """A text nobody has used."""
    return os.urandom(octets).hex()


def values(message: Message, name: str) -> list[str]:
    """Every value of a header whose values may share a line (Via, Route), one by one."""
    return [value.strip() for line in message.all(name) for value in re.split(r",(?=\s*(?:<|SIP/))", line)]


def place(uri: str) -> SocketAddress:
    """Host and port of a SIP URI. Raises LookupError."""
    match = re.match(r"sips?:(?:[^@]*@)?(\[[^\]]+\]|[^:;?]+)(?::(\d+))?", uri)
    if match is None:
        raise LookupError(f"no way to {uri}")
    return match[1].strip("[]"), int(match[2] or 5060)


@dataclass(frozen=True, slots=True)
class Passed:
    """One message over the border, ``at`` on the loop's clock."""

    at: float
    sent: bool
    transport: str
    local: SocketAddress
    remote: SocketAddress
    data: bytes

    @property
    def call_id(self) -> str:
        """Nothing where it has none."""
        match = re.search(rb"^(?:call-id|i)\s*:\s*(\S+)", self.data, re.I | re.M)
        return match[1].decode() if match else ""


class Path:
    """A way to one peer: over the border's UDP socket, or a connection. ``closed`` tells that a connection is gone."""

    def __init__(
        self, transport: str, local: SocketAddress, remote: SocketAddress, write: Callable[[bytes], None]
    ) -> None:
        self.transport = transport
        self.local = local
        self.remote = remote
        self.closed = False
        self.write = write

    @property
    def reliable(self) -> bool:
        """Whether the transport repeats by itself."""
        return self.transport != "udp"


Heard = Callable[[bytes, Path], None]


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, heard: Heard) -> None:
        self._heard = heard
        self._transport: asyncio.DatagramTransport
        self.local: SocketAddress

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # uvloop's is none by inheritance
        self.local = transport.get_extra_info("sockname")[:2]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._heard(data, self.path((addr[0], addr[1])))

    def path(self, remote: SocketAddress) -> Path:
        return Path("udp", self.local, remote, lambda data: self._transport.sendto(data, remote))

    def close(self) -> None:
        self._transport.close()


class _Stream(asyncio.Protocol):
    """One connection, framed by Content-Length (RFC 3261 §18.3)."""

    def __init__(self, transport_name: str, heard: Heard, open_ones: set[_Stream]) -> None:
        self._name = transport_name
        self._heard = heard
        self._open_ones = open_ones
        self._buffer = b""
        self._transport: asyncio.Transport
        self.path: Path
        self.gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        local, remote = (transport.get_extra_info(name)[:2] for name in ("sockname", "peername"))
        self.path = Path(self._name, local, remote, self._transport.write)
        self._open_ones.add(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while message := self._take():
            self._heard(message, self.path)

    def _take(self) -> bytes:
        self._buffer = self._buffer.lstrip(b"\r\n")  # keep-alives (RFC 5626 §4.4.1)
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        length = re.search(rb"^(?:content-length|l)\s*:\s*(\d+)", head, re.I | re.M)
        size = int(length[1]) if length else 0
        if not end or len(rest) < size:
            return b""
        self._buffer = rest[size:]
        return head + end + rest[:size]

    def connection_lost(self, error: Exception | None) -> None:
        self.path.closed = True
        self._open_ones.discard(self)
        self.gone.set()

    async def close(self) -> None:
        self._transport.abort()
        await self.gone.wait()


Handler = Callable[[Message, Path], None]


class Border:
    """Open with :meth:`open`. UDP and TCP share one port; TLS, where there is a certificate, has ``tls_port``.

    ``handler`` is given every request that belongs to no call of ours, and has to answer it. ``down``: nothing is
    heard and nothing sent. ``impairment`` is the network's, for datagrams; ``t1_s`` is what its timers follow.
    """

    def __init__(self, host: str, trust: ssl.SSLContext | None) -> None:
        self.host = host
        self.port = 0
        self.tls_port = 0
        self.impairment = Impairment()
        self.t1_s = T1_S
        self.down = False
        self.handler: Handler | None = None
        self.passed: list[Passed] = []
        self.complaints: list[str] = []
        self.legs: dict[str, Leg] = {}
        self._trust = trust
        self._udp: _Datagrams
        self._streams: set[_Stream] = set()
        self._connections: dict[tuple[str, SocketAddress, str], Path] = {}
        self._asking: dict[tuple[str, str], asyncio.Queue[Message]] = {}
        self._answered: dict[tuple[str, str], bytes] = {}

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        host: str,
        port: int = 0,
        *,
        certificate: ssl.SSLContext | None = None,
        trust: ssl.SSLContext | None = None,
    ) -> AsyncIterator[Border]:
        """Listening. ``certificate`` is what TLS is served with, ``trust`` what is believed of others."""
        border = cls(host, trust)
        servers = await border._listen(port, certificate)
        try:
            yield border
        finally:
            border._udp.close()
            for server in servers:
                server.close()
            for stream in list(border._streams):
                await stream.close()
            for server in servers:
                await server.wait_closed()

    async def _listen(self, port: int, certificate: ssl.SSLContext | None) -> list[asyncio.Server]:
        loop = asyncio.get_running_loop()
        for attempt in range(20):
            tcp = await loop.create_server(lambda: _Stream("tcp", self._heard, self._streams), self.host, port)
            self.port = tcp.sockets[0].getsockname()[1]
            try:
                _, self._udp = await loop.create_datagram_endpoint(
                    lambda: _Datagrams(self._heard), local_addr=(self.host, self.port)
                )
            except OSError:
                tcp.close()
                if port or attempt == 19:
                    raise
                continue
            break
        if certificate is None:
            return [tcp]
        tls = await loop.create_server(
            lambda: _Stream("tls", self._heard, self._streams), self.host, 0, ssl=certificate
        )
        self.tls_port = tls.sockets[0].getsockname()[1]
        return [tcp, tls]

    @property
    def quiet(self) -> bool:
        """No call of ours is up, and no answer is waited for."""
        return not self._asking and not any(leg.up for leg in self.legs.values())

    async def path(self, transport: str, peer: SocketAddress, name: str = "") -> Path:
        """A way to a peer: the connection there is, or a new one. ``name`` is its certificate's. Raises OSError."""
        if transport == "udp":
            return self._udp.path(peer)
        known = self._connections.get((transport, peer, name))
        if known is not None and not known.closed:
            return known
        _, stream = await asyncio.get_running_loop().create_connection(
            lambda: _Stream(transport, self._heard, self._streams),
            *peer,
            local_addr=(self.host, 0),
            ssl=self._trust if transport == "tls" else None,
            server_hostname=(name or peer[0]) if transport == "tls" else None,
        )
        self._connections[transport, peer, name] = stream.path
        return stream.path

    def drop_connections(self) -> None:
        """As when a carrier's host is restarted."""
        for stream in list(self._streams):
            stream._transport.abort()

    # --- what goes out ---

    def send(self, data: bytes, path: Path) -> None:
        """Once, as it is; the network may lose it."""
        if self.down or path.closed:
            return
        loop = asyncio.get_running_loop()
        self.passed.append(Passed(loop.time(), True, path.transport, path.local, path.remote, data))
        for delay_s in [0.0] if path.reliable else self.impairment.fate():
            if delay_s:
                loop.call_later(delay_s, self._send_late, data, path)
            else:
                path.write(data)

    def _send_late(self, data: bytes, path: Path) -> None:
        if not path.closed:
            path.write(data)

    def respond(
        self, request: Message, path: Path, status: int, phrase: str, *lines: str, tag: str = "", body: bytes = b""
    ) -> None:
        """A response to a request, ``lines`` being whole header lines; kept, and given again when it is repeated."""
        data = response(request, status, phrase, *lines, tag=tag, body=body)
        if status >= 200:
            self._answered[_transaction(request)] = data
        self.send(data, path)

    async def ask(
        self,
        data: bytes,
        path: Path,
        timeout_s: float = LINGER_S,
        hear: Callable[[Message], None] = lambda provisional: None,
    ) -> Message | None:
        """A request and its final response, None when none came in time; ``hear`` is given the provisional ones.

        Over UDP it is repeated at T1, 2·T1 …; an INVITE until there is any response, others more slowly then.
        """
        request = Message.parse(data)
        key = (_branch(request), request.method)
        inbox = self._asking[key] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        deadline, interval_s, repeating = loop.time() + timeout_s, self.t1_s, not path.reliable
        self.send(data, path)
        try:
            while (left_s := deadline - loop.time()) > 0:
                try:
                    message = await asyncio.wait_for(inbox.get(), min(interval_s, left_s) if repeating else left_s)
                except TimeoutError:
                    if repeating and loop.time() < deadline:
                        self.send(data, path)
                        interval_s = min(2 * interval_s, T2_S)
                    continue
                if message.status >= 200:
                    return message
                interval_s, repeating = T2_S, repeating and request.method != "INVITE"
                hear(message)
            return None
        finally:
            del self._asking[key]

    # --- what comes in ---

    def _heard(self, data: bytes, path: Path) -> None:
        if self.down or not data.strip():
            return
        loop = asyncio.get_running_loop()
        for delay_s in [0.0] if path.reliable else self.impairment.fate():
            if delay_s:
                loop.call_later(delay_s, self._take, data, path)
            else:
                self._take(data, path)

    def _take(self, data: bytes, path: Path) -> None:
        now = asyncio.get_running_loop().time()
        self.passed.append(Passed(now, False, path.transport, path.local, path.remote, data))
        try:
            message = Message.parse(data)
        except ValueError as error:
            self.complaints.append(f"not a message: {error}")
            return
        if message.status:
            self._take_response(message, path)
        else:
            self._take_request(message, path)

    def _take_response(self, message: Message, path: Path) -> None:
        inbox = self._asking.get((_branch(message), message.method))
        if inbox is not None:
            inbox.put_nowait(message)
        elif (leg := self.legs.get(message.get("call-id"))) is not None:
            leg.heard_again(message, path)

    def _take_request(self, message: Message, path: Path) -> None:
        transaction = _transaction(message)
        if message.method != "ACK":
            if transaction in self._answered:
                if repeated := self._answered[transaction]:
                    self.send(repeated, path)
                return
            self._answered[transaction] = b""
        leg = self.legs.get(message.get("call-id"))
        if leg is not None and message.parameter("to", "tag"):
            leg.heard(message, path)
        elif self.handler is not None:
            self.handler(message, path)
        elif message.method != "ACK":
            self.respond(message, path, 404, "Not Found", tag=fresh(4))

    def traffic(self, call_id: str) -> list[Passed]:
        """What belongs to one call, in order."""
        return [passed for passed in self.passed if passed.call_id == call_id]


def _branch(message: Message) -> str:
    match = re.search(r";\s*branch=([^;,\s]+)", message.get("via"))
    return match[1] if match else ""


def _transaction(request: Message) -> tuple[str, str]:
    """An ACK has none of its own: it is never answered."""
    return _branch(request), request.method


def response(request: Message, status: int, phrase: str, *lines: str, tag: str = "", body: bytes = b"") -> bytes:
    """RFC 3261 §8.2.6.2; ``tag`` goes to To where it has none."""
    copied = [f"{name}: {value}" for name in ("Via", "Record-Route") for value in request.all(name)]
    to = request.get("to")
    to += f";tag={tag}" if tag and not request.parameter("to", "tag") else ""
    copied += [f"From: {request.get('from')}", f"To: {to}"]
    copied += [f"{name}: {request.get(name)}" for name in ("Call-ID", "CSeq")]
    return _text(f"SIP/2.0 {status} {phrase}", [*copied, *lines, f"Content-Length: {len(body)}"], body)


def _text(first_line: str, lines: Sequence[str], body: bytes = b"") -> bytes:
    return "\r\n".join([first_line, *lines, "", ""]).encode() + body


@dataclass(frozen=True, slots=True)
class Spelling:
    """How a carrier writes one call: its hosts, its addresses, and the way it writes header names.

    ``via`` is the border's own, which gets a branch for each request; ``vias`` are whole lines, those of the hosts
    behind it. ``record_routes`` are values, the border's first. ``names`` maps a header's name to how it begins, colon
    and space included. ``invite`` and ``bye`` are further whole lines of those requests.
    """

    via: str
    vias: tuple[str, ...]
    record_routes: tuple[str, ...]
    sender: str
    recipient: str
    contact: str
    call_id: str
    names: Mapping[str, str] = field(default_factory=dict)
    invite: tuple[str, ...] = ()
    bye: tuple[str, ...] = ('Reason: Q.850;cause=16;text="Normal call clearing"',)
    first_cseq: int = 1
    max_forwards: int = 60

    def line(self, name: str, value: object) -> str:
        """One header."""
        return f"{self.names.get(name, f'{name}: ')}{value}"


class Leg:
    """One call of ours to the peer. ``response`` is the final one to the INVITE; ``log`` says what went on."""

    def __init__(self, border: Border, path: Path, uri: str, spelling: Spelling, media: MediaPort) -> None:
        self.border = border
        self.path = path
        self.uri = uri
        self.spelling = spelling
        self.media = media
        self.call_id = spelling.call_id
        self.provisional: list[int] = []
        self.response: Message | None = None
        self.gave_up = ""
        self.up = False
        self.ended = asyncio.Event()
        self.ended_by = ""
        self.bye: Message | None = None
        self.referred: list[Message] = []
        self.on_refer: Callable[[Message], Coroutine[Any, Any, None]] | None = None
        self.playing: list[asyncio.Task[None]] = []
        self._cseq = spelling.first_cseq - 1
        self._acknowledgements: dict[int, tuple[bytes, Path]] = {}
        self._target = uri
        self._to = spelling.recipient
        border.legs[self.call_id] = self

    @property
    def status(self) -> int:
        """Of the final response; 0 when there was none."""
        return self.response.status if self.response else 0

    @property
    def answered(self) -> bool:
        """Whether a 2xx came in time."""
        return 200 <= self.status < 300 and not self.gave_up

    def _write(
        self,
        method: str,
        cseq: int,
        *lines: str,
        body: bytes = b"",
        content_type: str = "application/sdp",
        branch: str = "",
        to: str = "",
        hop: bool = False,
    ) -> bytes:
        """``hop``: of the border alone, as CANCEL and the ACK of a failure are (RFC 3261 §16.7, §17.1.1.3)."""
        write, spelling = self.spelling.line, self.spelling
        whole = [
            *([write("Record-Route", route) for route in spelling.record_routes] if method == "INVITE" else []),
            write("Via", f"{spelling.via};branch={branch or f'z9hG4bK{fresh(6)}'}"),
            *([] if hop else spelling.vias),
            write("Max-Forwards", spelling.max_forwards),
            write("From", spelling.sender),
            write("To", to or self._to),
            write("Call-ID", spelling.call_id),
            write("CSeq", f"{cseq} {method}"),
            *([write("Contact", f"<{spelling.contact}>")] if method == "INVITE" else []),
            *lines,
            *([write("Content-Type", content_type)] if body else []),
            write("Content-Length", len(body)),
        ]
        return _text(f"{method} {self._target} SIP/2.0", whole, body)

    async def invite(
        self, *lines: str, body: bytes, answer_within_s: float, provisional_within_s: float | None = None
    ) -> Message | None:
        """INVITE to its final response, which is acknowledged; given up when it takes too long.

        None: no final response was heard. ``provisional_within_s`` [s] is for a 180 or 183; 100 is none.
        """
        self._cseq += 1
        cseq, branch = self._cseq, f"z9hG4bK{fresh(6)}"
        self.response, self.provisional, self.gave_up = None, [], ""
        data = self._write("INVITE", cseq, *self.spelling.invite, *lines, body=body, branch=branch)
        loop = asyncio.get_running_loop()
        giving_up: list[asyncio.Task[Message | None]] = []

        def give_up(why: str) -> None:
            if self.gave_up:
                return
            self.gave_up = why
            if self.provisional:  # RFC 3261 §9.1: before that there is nothing to cancel
                cancel = self._write("CANCEL", cseq, branch=branch, hop=True)
                giving_up.append(asyncio.create_task(self.border.ask(cancel, self.path, 5.0), name="CANCEL"))
            else:
                patience.reschedule(loop.time())

        def hear(message: Message) -> None:
            self.provisional.append(message.status)
            if message.status > 100:
                quick.cancel()

        slow = loop.call_later(answer_within_s, give_up, "no answer in time")
        quick = loop.call_later(provisional_within_s or answer_within_s, give_up, "no 180 or 183 in time")
        try:
            async with asyncio.timeout(None) as patience:
                self.response = await self.border.ask(data, self.path, answer_within_s + LINGER_S, hear)
        except TimeoutError:
            pass
        finally:
            slow.cancel()
            quick.cancel()
            await asyncio.gather(*giving_up)
        if self.response is not None:
            await self._settle(self.response, cseq, branch)
        return self.response

    async def _settle(self, message: Message, cseq: int, branch: str) -> None:
        if message.status >= 300:
            data = self._write("ACK", cseq, branch=branch, to=message.get("to"), hop=True)
            self._acknowledge(cseq, data, self.path)
            return
        self._check_answer(message)
        self.up = True
        self._to, self._target = message.get("to"), message.uri("contact")
        self.media.target = message.media()
        self._acknowledge(cseq, self._write("ACK", cseq), await self._way())

    def _acknowledge(self, cseq: int, data: bytes, path: Path) -> None:
        self._acknowledgements[cseq] = (data, path)
        self.border.send(data, path)

    def _check_answer(self, message: Message) -> None:
        """§12.1.1: the UAS copies the Record-Routes, all of them, in order."""
        if values(message, "record-route") != list(self.spelling.record_routes):
            self.border.complaints.append(f"Record-Route changed in the answer: {message.all('record-route')}")
        if len(values(message, "via")) != 1 + len(self.spelling.vias):
            self.border.complaints.append(f"Vias changed in the answer: {message.all('via')}")

    async def _way(self) -> Path:
        """Over UDP to where the answer's Contact says; a connection as long as it stands, then a new one there."""
        if self.path.transport != "udp" and not self.path.closed:
            return self.path
        return await self.border.path(self.path.transport, place(self._target))

    async def hang_up(self, timeout_s: float = LINGER_S) -> Message | None:
        """BYE and its answer; nothing when the call is over already."""
        if not self.up:
            return None
        self.up = False
        self._cseq += 1
        data = self._write("BYE", self._cseq, *self.spelling.bye)
        answer = await self.border.ask(data, await self._way(), timeout_s)
        self.ended_by = self.ended_by or "carrier"
        self.ended.set()
        return answer

    async def request(
        self,
        method: str,
        *lines: str,
        body: bytes = b"",
        content_type: str = "application/sdp",
        timeout_s: float = LINGER_S,
    ) -> Message | None:
        """Any other request in the dialog."""
        self._cseq += 1
        data = self._write(method, self._cseq, *lines, body=body, content_type=content_type)
        return await self.border.ask(data, await self._way(), timeout_s)

    # --- what the peer sends ---

    def heard_again(self, message: Message, path: Path) -> None:
        """A final response that nobody waits for any more: its ACK was lost."""
        if message.method == "INVITE" and message.status >= 200 and message.cseq in self._acknowledgements:
            self.border.send(*self._acknowledgements[message.cseq])

    def heard(self, request: Message, path: Path) -> None:
        """A request in the dialog, as it arrives at the border: only the route set leads to the host behind it."""
        if request.method == "ACK":
            return
        if not self._well_routed(request):
            self.border.respond(request, path, 404, "Not Found")
        elif request.method == "BYE":
            self.border.respond(request, path, 200, "OK")
            self._hear_bye(request)
        elif request.method == "INVITE":
            answer = sdp_offer(*self.media.address, payload_types=(0, 101))
            lines = (f"Contact: <{self.spelling.contact}>", "Content-Type: application/sdp")
            self.border.respond(request, path, 200, "OK", *lines, body=answer)
        elif request.method == "REFER":
            self._hear_refer(request, path)
        else:
            self.border.respond(request, path, 200, "OK")

    def _hear_refer(self, request: Message, path: Path) -> None:
        """405 unless somebody plays the rest."""
        self.referred.append(request)
        if self.on_refer is None:
            self.border.respond(request, path, 405, "Method Not Allowed", "Allow: INVITE, ACK, CANCEL, BYE, NOTIFY")
            return
        self.border.respond(request, path, 202, "Accepted", f"Contact: <{self.spelling.contact}>")
        self.playing.append(asyncio.create_task(self.on_refer(request), name="referral"))

    async def notify(self, status: int, phrase: str, *, terminated: bool = False) -> int:
        """How a referral goes (RFC 3515 §2.4.4); the status it is answered with."""
        state = "terminated;reason=noresource" if terminated else "active;expires=60"
        answer = await self.request(
            "NOTIFY",
            "Event: refer",
            f"Subscription-State: {state}",
            body=f"SIP/2.0 {status} {phrase}\r\n".encode(),
            content_type="message/sipfrag;version=2.0",
            timeout_s=5.0,
        )
        return answer.status if answer is not None else 0

    def _hear_bye(self, request: Message) -> None:
        if self.up:
            self.up = False
            self.bye = request
            self.ended_by = "edge"
            self.ended.set()

    def _well_routed(self, request: Message) -> bool:
        """RFC 3261 §12.2.1.1: Route is the route set in order, the Request-URI the remote target."""
        uri, routes = request.first_line.split()[1], values(request, "route")
        if routes == list(self.spelling.record_routes) and uri == self.spelling.contact:
            return True
        self.border.complaints.append(f"{request.method} for {uri} came with the routes {routes}")
        return False
