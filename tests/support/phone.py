"""A scripted SIP phone: a test is the straight line of what it sends and expects.

It builds and reads its messages itself, apart from the product's code, and does just what it is told: it answers no
re-INVITE and sends no BYE of its own. Three things it does by itself, as every phone must: it repeats its requests
over UDP (RFC 3261 §17.1), acknowledges final responses that are repeated, and answers BYE and OPTIONS with 200.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import asyncio_dgram

from tests.support.rtp import MediaPort

__all__ = ["Call", "Message", "Phone", "sdp_offer"]

SocketAddress = tuple[str, int]
T1_S, T2_S = 0.5, 4.0
_LONG = {"v": "via", "f": "from", "t": "to", "i": "call-id", "m": "contact", "l": "content-length", "c": "content-type"}


@dataclass(frozen=True, slots=True)
class Message:
    """A request or a response, its headers as they came."""

    first_line: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""

    @classmethod
    def parse(cls, data: bytes) -> Message:
        """Of a whole message; ValueError where it is none."""
        head, separator, body = data.partition(b"\r\n\r\n")
        if not separator:
            raise ValueError(f"no end of headers in {data[:80]!r}")
        first, *lines = re.sub(r"\r\n[ \t]+", " ", head.decode()).split("\r\n")
        pairs = [line.partition(":") for line in lines]
        return cls(first, tuple((name.strip(), value.strip()) for name, _, value in pairs), body)

    def __bytes__(self) -> bytes:
        lines = [self.first_line, *(f"{name}: {value}" for name, value in self.headers if name != "Content-Length")]
        return "\r\n".join([*lines, f"Content-Length: {len(self.body)}", "", ""]).encode() + self.body

    def all(self, name: str) -> list[str]:
        """Every value of a header, in order, commas not split."""
        wanted = name.lower()
        return [value for key, value in self.headers if _LONG.get(key.lower(), key.lower()) == wanted]

    def get(self, name: str) -> str:
        """The first value of a header, or nothing."""
        return next(iter(self.all(name)), "")

    @property
    def status(self) -> int:
        """0 for a request."""
        return int(self.first_line.split()[1]) if self.first_line.startswith("SIP/2.0 ") else 0

    @property
    def method(self) -> str:
        """Of the request itself, or of the one a response answers (from CSeq)."""
        return self.get("cseq").split()[1] if self.status else self.first_line.split()[0]

    @property
    def cseq(self) -> int:
        return int(self.get("cseq").split()[0])

    def parameter(self, header: str, name: str) -> str:
        """Of a header's first value: ``parameter("to", "tag")``; nothing where there is none."""
        match = re.search(rf';\s*{name}="?([^;,">\s]+)', self.get(header).rpartition(">")[2] or self.get(header))
        return match[1] if match else ""

    def uri(self, header: str) -> str:
        """The URI of a name-addr or addr-spec."""
        value = self.get(header)
        match = re.search(r"<([^>]+)>", value)
        return match[1] if match else value.split(";")[0]

    def media(self) -> SocketAddress:
        """Where the SDP body wants its audio: address and port."""
        text = self.body.decode()
        port = re.search(r"^m=audio (\d+) ", text, re.M)
        host = re.findall(r"^c=IN IP[46] (\S+)", text, re.M)
        if not port or not host:
            raise AssertionError(f"no audio in this body:\n{text}\nof\n{self}")
        return host[-1], int(port[1])

    def __str__(self) -> str:
        return bytes(self).decode(errors="replace")


def sdp_offer(
    host: str,
    port: int,
    *,
    payload_types: Sequence[int] = (0, 8, 101),
    direction: str = "sendrecv",
    version: int = 1,
) -> bytes:
    """An offer of G.711 and telephone-event (RFC 4566); ``payload_types`` in order of preference."""
    names = {0: "PCMU/8000", 8: "PCMA/8000", 9: "G722/8000", 18: "G729/8000", 101: "telephone-event/8000"}
    lines = [
        "v=0",
        f"o=phone 4711 {version} IN IP{6 if ':' in host else 4} {host}",
        "s=-",
        f"c=IN IP{6 if ':' in host else 4} {host}",
        "t=0 0",
        f"m=audio {port} RTP/AVP {' '.join(map(str, payload_types))}",
        *(f"a=rtpmap:{number} {names[number]}" for number in payload_types),
        *(["a=fmtp:101 0-15"] if 101 in payload_types else []),
        "a=ptime:20",
        f"a={direction}",
    ]
    return ("\r\n".join(lines) + "\r\n").encode()


def digest_answer(challenge: str, method: str, uri: str, username: str, password: str, *, count: int = 1) -> str:
    """The value of an Authorization header for a challenge (RFC 2617, RFC 8760)."""
    fields = {
        name.lower(): quoted or bare for name, quoted, bare in re.findall(r'(\w+)=(?:"([^"]*)"|([^\s,]+))', challenge)
    }
    algorithm = fields.get("algorithm", "MD5")
    new = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}[algorithm.upper()]

    def h(text: str) -> str:
        return new(text.encode()).hexdigest()

    secret, subject = h(f"{username}:{fields['realm']}:{password}"), h(f"{method}:{uri}")
    parts = {"username": username, "realm": fields["realm"], "nonce": fields["nonce"], "uri": uri}
    tail = f", algorithm={algorithm}"
    if "qop" in fields:
        cnonce, nc = os.urandom(8).hex(), f"{count:08x}"
        parts["response"] = h(f"{secret}:{fields['nonce']}:{nc}:{cnonce}:auth:{subject}")
        parts["cnonce"] = cnonce
        tail += f", qop=auth, nc={nc}"
    else:
        parts["response"] = h(f"{secret}:{fields['nonce']}:{subject}")
    if "opaque" in fields:
        parts["opaque"] = fields["opaque"]
    return "Digest " + ", ".join(f'{name}="{value}"' for name, value in parts.items()) + tail


class _Wire:
    """Whole messages to and from one peer."""

    reliable = True
    local: SocketAddress

    async def send(self, data: bytes) -> None:
        raise NotImplementedError

    async def receive(self) -> bytes | None:
        """The next message; None when the peer has closed."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class _Udp(_Wire):
    reliable = False

    def __init__(self, stream: asyncio_dgram.DatagramServer, peer: SocketAddress) -> None:
        self._stream, self._peer = stream, peer
        self.local = stream.sockname[:2]

    async def send(self, data: bytes) -> None:
        await self._stream.send(data, self._peer)

    async def receive(self) -> bytes | None:
        data, _ = await self._stream.recv()
        return data

    def close(self) -> None:
        self._stream.close()


class _Stream(_Wire):
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.local = writer.get_extra_info("sockname")[:2]

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def receive(self) -> bytes | None:
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
            while head.startswith(b"\r\n"):  # keep-alives (RFC 5626 §4.4.1)
                head = head[2:] or await self._reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"^(?:content-length|l)\s*:\s*(\d+)", head, re.I | re.M)
            return head + await self._reader.readexactly(int(length[1]) if length else 0)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    def close(self) -> None:
        self._writer.close()


@dataclass
class _Waiting:
    """Messages of one call that no test line has taken yet, and all that ever passed, for the message of a failure."""

    inbox: asyncio.Queue[Message] = field(default_factory=asyncio.Queue)
    ladder: list[str] = field(default_factory=list)
    requests: list[Message] = field(default_factory=list)


class Phone:
    """One SIP address of a test, over one transport to one peer; any number of calls."""

    def __init__(self, wire: _Wire, transport: str, peer: SocketAddress, contact: SocketAddress | None) -> None:
        self._wire = wire
        self.transport = transport
        self.peer = peer
        self.contact_address = contact or wire.local
        self.orphans: list[Message] = []
        self.heard_bytes = 0
        self.closed = asyncio.Event()
        self._calls: dict[str, _Waiting] = {}
        self._dialogs: dict[str, Call] = {}
        self._stack = AsyncExitStack()

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        peer: SocketAddress,
        transport: str = "udp",
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        contact: SocketAddress | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> AsyncIterator[Phone]:
        """Talking to ``peer`` from ``host``; ``contact`` is the address to be reached at where it is another."""
        wire: _Wire
        if transport == "udp":
            wire = _Udp(await asyncio_dgram.bind((host, port)), peer)
        else:
            wire = _Stream(
                *await asyncio.open_connection(
                    *peer,
                    local_addr=(host, port),
                    ssl=tls if transport == "tls" else None,
                    server_hostname="localhost" if transport == "tls" else None,
                )
            )
        phone = cls(wire, transport, peer, contact)
        reader = asyncio.create_task(phone._read(), name=f"sip {wire.local}")
        try:
            async with phone._stack:
                yield phone
        finally:
            reader.cancel()
            wire.close()
            await asyncio.gather(reader, return_exceptions=True)

    @property
    def local(self) -> SocketAddress:
        """Where its own socket is."""
        return self._wire.local

    @property
    def contact(self) -> str:
        """The URI to be reached at."""
        host, port = self.contact_address
        host = f"[{host}]" if ":" in host else host
        tail = "" if self.transport == "udp" else f";transport={self.transport}"
        return f"sip:phone@{host}:{port}{tail}"

    def via(self, branch: str | None = None) -> str:
        """A Via of this phone with a fresh branch."""
        host, port = self._wire.local
        host = f"[{host}]" if ":" in host else host
        return f"SIP/2.0/{self.transport.upper()} {host}:{port};rport;branch={branch or fresh_branch()}"

    async def _read(self) -> None:
        while (data := await self._wire.receive()) is not None:
            self.heard_bytes += len(data)
            if not data.strip():
                continue
            message = Message.parse(data)
            waiting = self._calls.get(message.get("call-id"))
            if waiting is None:
                self.orphans.append(message)
                if not message.status and message.method != "ACK":
                    await self.respond(message, 481)
                continue
            waiting.ladder.append(f"<- {message.first_line} ({message.get('cseq')})")
            if call := self._dialogs.get(message.get("call-id")):
                await call.heard(message)
            else:
                waiting.inbox.put_nowait(message)
        self.closed.set()

    async def send(self, data: bytes | Message) -> None:
        """As it is, once."""
        await self._wire.send(bytes(data))

    async def respond(self, request: Message, status: int, *, tag: str = "", body: bytes = b"") -> None:
        """A plain response to a request."""
        copied = tuple(
            (name, value)
            for name in ("Via", "Record-Route", "From", "To", "Call-ID", "CSeq")
            for value in request.all(name)
        )
        if tag and "tag=" not in request.get("to"):
            copied = tuple((n, f"{v};tag={tag}" if n == "To" else v) for n, v in copied)
        extra = (("Contact", f"<{self.contact}>"), ("Content-Type", "application/sdp")) if body else ()
        await self.send(Message(f"SIP/2.0 {status} Answer", copied + extra, body))

    async def ask(self, request: Message, timeout_s: float = 5.0) -> Message:
        """A request outside any call of this phone, repeated over UDP, and its final response."""
        waiting = self._calls.setdefault(request.get("call-id"), _Waiting())
        await self.send(request)
        return await self._next_final(waiting, request, timeout_s)

    async def options(self, uri: str | None = None, timeout_s: float = 5.0) -> Message:
        """OPTIONS (RFC 3261 §11)."""
        uri = uri or f"sip:{self.peer[0]}:{self.peer[1]}"
        return await self.ask(self.request("OPTIONS", uri), timeout_s)

    def request(self, method: str, uri: str, *headers: tuple[str, str], body: bytes = b"") -> Message:
        """A request of a new Call-ID."""
        return Message(
            f"{method} {uri} SIP/2.0",
            (
                ("Via", self.via()),
                ("Max-Forwards", "70"),
                ("From", f"<{self.contact}>;tag={os.urandom(4).hex()}"),
                ("To", f"<{uri}>"),
                ("Call-ID", f"{os.urandom(8).hex()}@phone"),
                ("CSeq", f"1 {method}"),
                ("Contact", f"<{self.contact}>"),
                *headers,
            ),
            body,
        )

    async def _next_final(self, waiting: _Waiting, request: Message, timeout_s: float) -> Message:
        while True:
            message = await self.next_message(waiting, request, timeout_s, f"an answer to {request.method}")
            if message.status >= 200 and message.method == request.method:
                return message

    async def next_message(self, waiting: _Waiting, repeat: Message | None, timeout_s: float, what: str) -> Message:
        """The next one of a call, ``repeat`` sent again over UDP at T1, 2·T1 … T2 meanwhile (§17.1.2.2)."""
        loop = asyncio.get_running_loop()
        deadline, interval = loop.time() + timeout_s, T1_S
        while (left := deadline - loop.time()) > 0:
            pause = left if repeat is None or self._wire.reliable else min(interval, left)
            try:
                return await asyncio.wait_for(waiting.inbox.get(), pause)
            except TimeoutError:
                if repeat is not None and not self._wire.reliable:
                    await self.send(repeat)
                    interval = min(2 * interval, T2_S)
        ladder = "\n  ".join(waiting.ladder) or "(nothing passed)"
        raise AssertionError(f"{what} did not come within {timeout_s} s:\n  {ladder}")

    async def call(self, did: str, *, media: MediaPort | None = None, uri: str | None = None) -> Call:
        """A call about to be made; its media port is fresh on this phone's host unless one is given."""
        if media is None:
            media = await self._stack.enter_async_context(MediaPort.open(self._wire.local[0]))
        host, port = self.peer
        call = Call(self, uri or f"sip:{did}@{f'[{host}]' if ':' in host else host}:{port}", media)
        self._calls[call.call_id] = call.waiting
        self._dialogs[call.call_id] = call
        return call


class Call:
    """An outgoing call, driven line by line."""

    def __init__(self, phone: Phone, uri: str, media: MediaPort) -> None:
        self.phone = phone
        self.media = media
        self.uri = uri
        self.call_id = f"{os.urandom(8).hex()}@phone"
        self.local_tag = os.urandom(4).hex()
        self.remote = f"<{uri}>"
        self.target = uri
        self.routes: tuple[str, ...] = ()
        self.caller = "+15559990000"
        self.byes = 0
        self.waiting = _Waiting()
        self.answer: Message | None = None
        self._cseq = 0
        self._invite: Message | None = None
        self._repeat: Message | None = None
        self._acknowledgements: dict[int, Message] = {}
        self._answered: dict[tuple[str, int], int] = {}

    def build(self, method: str, *headers: tuple[str, str], body: bytes = b"", cseq: int | None = None) -> Message:
        """A request of this call, in its dialog once there is one."""
        if cseq is None:
            self._cseq += 1
            cseq = self._cseq
        fixed = [
            ("Via", self.phone.via()),
            ("Max-Forwards", "70"),
            ("From", f'"Caller" <sip:{self.caller}@127.0.0.1>;tag={self.local_tag}'),
            ("To", self.remote),
            ("Call-ID", self.call_id),
            ("CSeq", f"{cseq} {method}"),
            ("Contact", f"<{self.phone.contact}>"),
            *(("Route", route) for route in self.routes),
        ]
        if body:
            fixed.append(("Content-Type", "application/sdp"))
        return Message(f"{method} {self.target} SIP/2.0", (*fixed, *headers), body)

    def offer(self, address: SocketAddress | None = None) -> bytes:
        """SDP with its media port, or with where that is reached."""
        return sdp_offer(*(address or self.media.address))

    async def send(self, message: Message) -> None:
        """As it is, once."""
        self.waiting.ladder.append(f"-> {message.first_line}")
        await self.phone.send(message)

    async def invite(self, *headers: tuple[str, str], body: bytes | None = None) -> Message:
        """INVITE, with an offer of its media port unless a body is given; repeated while no response has come."""
        if body is None:
            body = self.offer()
        self._invite = self._repeat = self.build("INVITE", *headers, body=body)
        await self.send(self._invite)
        return self._invite

    async def expect(self, *statuses: int, timeout_s: float = 10.0) -> Message:
        """The next response with one of these statuses; provisional ones that are not asked for pass by."""
        what = " or ".join(map(str, statuses))
        while True:
            message = await self.phone.next_message(self.waiting, self._repeat, timeout_s, what)
            if message.status in statuses:
                return message
            if message.status >= 200 or not message.status:
                ladder = "\n  ".join(self.waiting.ladder)
                raise AssertionError(f"{what} expected, {message.first_line!r} came:\n  {ladder}\n\n{message}")

    async def expect_request(self, method: str, timeout_s: float = 10.0) -> Message:
        """The next request with this method (BYE has been answered already); responses pass by."""
        while True:
            message = await self.phone.next_message(self.waiting, None, timeout_s, method)
            if not message.status and message.method == method:
                return message

    async def authenticate(self, username: str, password: str) -> None:
        """Take the 401 or 407 and send the INVITE again with the answer (RFC 3261 §22)."""
        challenge = await self.expect(401, 407)
        name = "Proxy-Authorization" if challenge.status == 407 else "Authorization"
        value = challenge.get("proxy-authenticate") or challenge.get("www-authenticate")
        assert self._invite is not None
        answer = digest_answer(value, "INVITE", self.target, username, password)
        await self.invite((name, answer), body=self._invite.body)

    async def establish(self, timeout_s: float = 10.0) -> Message:
        """INVITE, 200, ACK, and the media port aimed at the answer."""
        await self.invite()
        response = await self.expect(200, timeout_s=timeout_s)
        await self.ack()
        self.media.target = response.media()
        return response

    async def ack(self, body: bytes = b"") -> None:
        """The 2xx that was taken last; what repeats it gets the same ACK."""
        if self.answer is None or self._invite is None:
            raise AssertionError("nothing to acknowledge")
        message = self.build("ACK", body=body, cseq=self._invite.cseq)
        self._acknowledgements[self._invite.cseq] = message
        await self.send(message)

    async def bye(self, timeout_s: float = 10.0) -> Message:
        """BYE and its final response."""
        request = self.build("BYE")
        self._repeat = request
        await self.send(request)
        while True:
            message = await self.phone.next_message(self.waiting, request, timeout_s, "an answer to BYE")
            if message.status >= 200 and message.method == "BYE":
                self._repeat = None
                return message

    async def cancel(self, timeout_s: float = 10.0) -> Message:
        """CANCEL of the INVITE (RFC 3261 §9.1) and its response; 487 to the INVITE is expected apart."""
        assert self._invite is not None
        headers = tuple(
            (name, value.replace("INVITE", "CANCEL") if name == "CSeq" else value)
            for name, value in self._invite.headers
            if name in ("Via", "Max-Forwards", "From", "To", "Call-ID", "CSeq", "Route")
        )
        request = Message(f"CANCEL {self._invite.first_line.split()[1]} SIP/2.0", headers)
        await self.send(request)
        later: list[Message] = []
        while True:
            message = await self.phone.next_message(self.waiting, request, timeout_s, "an answer to CANCEL")
            if message.method == "CANCEL" and message.status:
                for passed in later:
                    self.waiting.inbox.put_nowait(passed)
                return message
            later.append(message)

    async def respond(self, request: Message, status: int, body: bytes = b"") -> None:
        """To a request of the peer."""
        self.waiting.ladder.append(f"-> {status}")
        await self.phone.respond(request, status, tag=self.local_tag, body=body)

    async def heard(self, message: Message) -> None:
        """Called by the phone for each message of this call."""
        if message.status:
            await self._heard_response(message)
        else:
            await self._heard_request(message)

    async def _heard_response(self, message: Message) -> None:
        if message.method == "INVITE" and self._invite is not None and message.cseq == self._invite.cseq:
            self._repeat = None
        if message.method == "INVITE" and message.status >= 200:
            if acknowledgement := self._acknowledgements.get(message.cseq):
                await self.send(acknowledgement)
                return
            if message.status < 300:
                self._enter_dialog(message)
            else:
                await self._acknowledge_failure(message)
        self.waiting.inbox.put_nowait(message)

    def _enter_dialog(self, message: Message) -> None:
        self.answer = message
        self.remote = message.get("to")
        self.target = message.uri("contact") or self.target
        routes = [route.strip() for value in message.all("record-route") for route in value.split(",")]
        self.routes = tuple(reversed(routes))

    async def _acknowledge_failure(self, message: Message) -> None:
        """RFC 3261 §17.1.1.3: the ACK of a failure goes in the INVITE's own transaction."""
        assert self._invite is not None
        headers = tuple(
            (name, message.get("to") if name == "To" else f"{message.cseq} ACK" if name == "CSeq" else value)
            for name, value in self._invite.headers
            if name in ("Via", "Max-Forwards", "From", "To", "Call-ID", "CSeq", "Route")
        )
        acknowledgement = Message(f"ACK {self._invite.first_line.split()[1]} SIP/2.0", headers)
        self._acknowledgements[message.cseq] = acknowledgement
        await self.send(acknowledgement)

    async def _heard_request(self, message: Message) -> None:
        key = (message.method, message.cseq)
        if message.method in ("BYE", "OPTIONS"):
            await self.respond(message, 200)
        if key in self._answered:
            self._answered[key] += 1
            return
        self._answered[key] = 1
        self.byes += message.method == "BYE"
        self.waiting.requests.append(message)
        self.waiting.inbox.put_nowait(message)


def fresh_branch(draw: Callable[[int], bytes] = os.urandom) -> str:
    """A branch nobody has used (RFC 3261 §8.1.1.7)."""
    return f"z9hG4bK{draw(8).hex()}"
