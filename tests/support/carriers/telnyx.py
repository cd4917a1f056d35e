"""Telnyx's half of the calls: a registrar, INVITEs to what registered there or to a host name, calls of ours taken.

Connections and numbers are those of the REST half (``telnyx_rest``). Shapes are those of published traces: a
challenge in the form of RFC 2069, compact names without a space after the colon, three Record-Routes, private hosts.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from tests.support.carriers.sip import Border, Leg, Path, Spelling, fresh, place
from tests.support.carriers.telnyx_rest import TelnyxConnection, TelnyxRegistration, TelnyxRest
from tests.support.phone import Message
from tests.support.rtp import MediaPort

__all__ = ["Binding", "FakeTelnyx", "Registrar", "TelnyxCall", "TelnyxOutbound", "with_token", "without_token"]

REALM = "sip.telnyx.com"
PROXY, GATEWAY, SWITCH = "10.231.83.184:6050", "10.231.91.24:6000", "10.255.0.2"
NONCE_S = 30.0
ANSWER_S, PROVISIONAL_S = 90.0, 5.0
TRIES_ELSEWHERE = {408, 480, 503, 504}

_NAMES = {
    "From": "f:",
    "To": "t:",
    "Call-ID": "i:",
    "Contact": "m:",
    "Content-Type": "c:",
    "Content-Length": "l:",
    "Max-Forwards": "Max-Forwards:",
    "CSeq": "CSeq:",
}

Tamper = Callable[[str], str]


def without_token(uri: str) -> str:
    """Of the URI's parameters only the transport stays."""
    return re.sub(r";(?!transport=)[^;=]+(=[^;]*)?", "", uri)


def with_token(token: str) -> Tamper:
    """Every secret in the URI's parameters becomes this one."""
    return lambda uri: re.sub(r"(;(?!transport=)[^;=]+=)[^;]*", rf"\g<1>{token}", uri)


@dataclass
class Registrar:
    """How it behaves. ``refuses`` answers every REGISTER with a status and a phrase; ``lists`` are further contacts."""

    grants_s: int = 3457
    min_expires_s: int = 0
    refuses: tuple[int, str] | None = None
    qop: bool = False
    slow_s: float = 0.0
    lists: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Binding:
    """A registration as it was granted."""

    user_name: str
    contact: str
    path: Path
    border: Border
    granted_s: int
    at: float
    call_id: str
    cseq: int

    @property
    def live(self) -> bool:
        """Whether what was granted has not run out."""
        return asyncio.get_running_loop().time() < self.at + self.granted_s


@dataclass
class TelnyxCall:
    """A caller's call to a number. ``failure`` is the carrier's own, when it could not even be sent."""

    called: str
    caller: str
    media: MediaPort
    leg: Leg | None = None
    failure: str = ""

    @property
    def answered(self) -> bool:
        """Whether the edge did, in time."""
        return self.leg is not None and self.leg.answered

    @property
    def status(self) -> int:
        """Of the INVITE's final response; 0 when there was none."""
        return self.leg.status if self.leg else 0

    @property
    def tries_elsewhere(self) -> bool:
        """Whether the answer, or that there was none, makes the carrier try its next destination."""
        return self.leg is not None and not self.answered and (self.status in TRIES_ELSEWHERE or not self.status)

    async def hang_up(self) -> None:
        """The caller does."""
        if self.leg is not None:
            await self.leg.hang_up()

    async def until_ended(self, timeout_s: float = 10.0) -> None:
        """The edge has to hang up."""
        if self.leg is None:
            raise AssertionError(f"there was no leg to end: {self.failure}")
        try:
            async with asyncio.timeout(timeout_s):
                await self.leg.ended.wait()
        except TimeoutError:
            raise AssertionError(f"no BYE within {timeout_s} s") from None


@dataclass
class TelnyxOutbound:
    """A call that came in from a connection's user, to go out to the telephone network."""

    invite: Message
    user_name: str
    status: int = 0
    media: MediaPort | None = None
    acknowledged: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class FakeTelnyx:
    """Open with :meth:`open`. ``borders`` are its addresses, the first the one that calls come from.

    ``hosts`` is the DNS of what FQDN connections name. ``patience_s`` [s] is how long a call waits for a 180 or 183,
    and for its answer. ``outbound_refusal`` (status, phrase with its D-code) is given to calls that come in with the
    right digest. ``outbound_early`` answers with a 183 and its own media first; without ``outbound_answer`` such calls
    ring until they are cancelled. ``bindings`` are the last of each user name, ``history`` all of them.
    """

    def __init__(self, borders: Sequence[Border], rest: TelnyxRest, hosts: Mapping[str, tuple[str, int]]) -> None:
        self.borders = tuple(borders)
        self.registrar = Registrar()
        self.patience_s = (PROVISIONAL_S, ANSWER_S)
        self.hosts = dict(hosts)
        self.bindings: dict[str, Binding] = {}
        self.history: list[Binding] = []
        self.refused_logins = 0
        self.calls: list[TelnyxCall] = []
        self.outbound: list[TelnyxOutbound] = []
        self.outbound_refusal: tuple[int, str] | None = None
        self.outbound_early = False
        self.outbound_answer = True
        self._rest = rest
        self._nonces: dict[str, float] = {}
        self._changed = asyncio.Event()
        self._answering: set[asyncio.Task[None]] = set()
        self._stack: AsyncExitStack

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        rest: TelnyxRest,
        *,
        hosts: Mapping[str, tuple[str, int]] | None = None,
        addresses: Sequence[str] = ("127.0.0.3",),
        port: int = 0,
        certificate: ssl.SSLContext | None = None,
    ) -> AsyncIterator[FakeTelnyx]:
        """Able to be registered at, and to send calls. All ``addresses`` have the same port."""
        async with AsyncExitStack() as stack:
            borders: list[Border] = []
            for address in addresses:
                port = borders[0].port if borders else port
                borders.append(await stack.enter_async_context(Border.open(address, port, certificate=certificate)))
            telnyx = cls(borders, rest, hosts or {})
            telnyx._stack = await stack.enter_async_context(AsyncExitStack())
            for border in borders:
                border.handler = telnyx._handler(border)
            yield telnyx
            for call in telnyx.outbound:
                call.acknowledged.set()
                call.ended.set()
            await asyncio.gather(*telnyx._answering)

    @property
    def border(self) -> Border:
        """Its first address."""
        return self.borders[0]

    @property
    def complaints(self) -> list[str]:
        """What was done against the protocol at any of them."""
        return [complaint for border in self.borders for complaint in border.complaints]

    async def registered(
        self, user_name: str, condition: Callable[[Binding | None], bool] = bool, timeout_s: float = 10.0
    ) -> Binding | None:
        """Until the binding of this user name is as ``condition`` wants it: there, unless told otherwise."""
        try:
            async with asyncio.timeout(timeout_s):
                while not condition(self.bindings.get(user_name)):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            lines = "\n  ".join(
                f"{'→' if passed.sent else '←'} {passed.data.splitlines()[0].decode()}"
                for border in self.borders
                for passed in border.passed[-20:]
            )
            raise AssertionError(
                f"no such registration of {user_name} within {timeout_s} s: {self.bindings}; what passed:\n  {lines}"
            ) from None
        return self.bindings.get(user_name)

    # --- calls to the edge ---

    async def call(
        self,
        called: str,
        caller: str = "+12025550123",
        *,
        dialed: str | None = None,
        binding: Binding | None = None,
        host: str | None = None,
        transport: str = "udp",
        tamper: Tamper = lambda uri: uri,
        lines: Sequence[str] = (),
    ) -> TelnyxCall:
        """A caller dials a number; returns when the edge has answered, or all is over.

        ``dialed`` is what the INVITE says instead (``translated_number``). ``binding`` stands in for the last one of
        the connection, ``host`` for the name an FQDN or IP connection has. ``tamper`` changes the Request-URI.
        """
        media = await self._stack.enter_async_context(MediaPort.open(self.border.host))
        call = TelnyxCall(called, caller, media)
        self.calls.append(call)
        connection = self._connection_of(called)
        number = (dialed or called).lstrip("+")
        try:
            uri, path, border = await self._destination(connection, number, binding, host, transport)
        except (OSError, LookupError) as error:
            call.failure = str(error)
            return call
        uri = tamper(uri)
        call.leg = Leg(border, path, uri, self._spelling(call, uri, number, border, path, lines), media)
        provisional_s, answer_s = self.patience_s
        await call.leg.invite(body=_offer(media), answer_within_s=answer_s, provisional_within_s=provisional_s)
        if call.leg.up and call.leg.gave_up:
            await call.leg.hang_up()
        return call

    def _connection_of(self, called: str) -> TelnyxConnection:
        number = next((each for each in self._rest.numbers.values() if each.phone_number == called), None)
        connection = self._rest.connections_by_id.get(number.connection_id or "") if number else None
        if connection is None:
            raise AssertionError(f"{called} is on no connection of this carrier")
        return connection

    async def _destination(
        self, connection: TelnyxConnection, number: str, binding: Binding | None, host: str | None, transport: str
    ) -> tuple[str, Path, Border]:
        if connection.kind == "credential":
            known = self.bindings.get(connection.user_name or "")
            binding = binding or (known if known and known.live else None)
            if binding is None:
                raise LookupError(f"480 User not registered RG1: {connection.user_name}")
            return _to_number(binding.contact, number), await self._path_to(binding), binding.border
        name = host or next(iter([*connection.fqdns, *connection.ips]))
        peer = self.hosts[name]
        parameter = "" if transport == "udp" else f";transport={transport}"
        path = await self.border.path(transport, peer, name)
        return f"sip:{number}@{name}:5060{parameter}", path, self.border

    async def _path_to(self, binding: Binding) -> Path:
        """Over the connection it registered by; anew to its Contact when that is gone."""
        if not binding.path.closed:
            return binding.path
        return await binding.border.path(binding.path.transport, place(binding.contact))

    def _spelling(
        self, call: TelnyxCall, uri: str, number: str, border: Border, path: Path, lines: Sequence[str]
    ) -> Spelling:
        caller, tag = call.caller.lstrip("+"), fresh(6)
        parameter = "" if path.transport == "udp" else f";transport={path.transport}"
        here = f"{border.host}:{border.tls_port if path.transport == 'tls' else border.port}"
        return Spelling(
            via=f"SIP/2.0/{path.transport.upper()} {here}",
            vias=(
                f"Via: SIP/2.0/UDP {PROXY};branch=z9hG4bK{fresh(6)}.0;received=10.231.83.184",
                f"v:SIP/2.0/UDP {GATEWAY};received=10.231.91.24;rport=6000;branch=z9hG4bK{fresh(6)}",
            ),
            record_routes=(
                f"<sip:{here}{parameter};r2=on;lr;ftag={tag}>",
                f"<sip:{SWITCH};r2=on;lr;ftag={tag}>",
                f"<sip:{PROXY};lr;tnx={fresh(6)}>",
            ),
            sender=f'"{caller}"<sip:{caller}@{REALM}>;tag={tag}',
            recipient=f"<sip:{number}@{PROXY.partition(':')[0]}>",
            contact=f"sip:mod_sofia@{GATEWAY}",
            call_id=f"{fresh(4)}-{fresh(2)}-{fresh(2)}-{fresh(2)}-{fresh(6)}",
            names=_NAMES,
            invite=(
                "k:timer,path",
                "u:talk,hold,conference,refer",
                "Allow: INVITE,ACK,BYE,CANCEL,OPTIONS,MESSAGE,INFO,UPDATE,REGISTER,REFER,NOTIFY",
                f"X-Telnyx-Session-ID: {fresh(16)}",
                f"X-Telnyx-Leg-ID: {fresh(16)}",
                f'P-Asserted-Identity:"{caller}"<sip:{caller}@{REALM};verstat=TN-Validation-Passed-C>',
                *lines,
            ),
            first_cseq=115676495,
            max_forwards=24,
        )

    # --- what comes to it ---

    def _handler(self, border: Border) -> Callable[[Message, Path], None]:
        def handle(request: Message, path: Path) -> None:
            match request.method:
                case "REGISTER" if self.registrar.slow_s:
                    loop = asyncio.get_running_loop()
                    loop.call_later(self.registrar.slow_s, self._register, border, request, path)
                case "REGISTER":
                    self._register(border, request, path)
                case "INVITE":
                    self._take_outbound(border, request, path)
                case "ACK" | "BYE" | "CANCEL":
                    self._in_outbound(border, request, path)
                case "OPTIONS":
                    border.respond(request, path, 200, "OK", tag=fresh(4))
                case _:
                    border.respond(request, path, 405, "Method Not Allowed", "Allow: INVITE, ACK, BYE", tag=fresh(4))

        return handle

    def _register(self, border: Border, request: Message, path: Path) -> None:
        knobs, tag = self.registrar, fresh(8)
        if knobs.refuses is not None:
            border.respond(request, path, *knobs.refuses, tag=tag)
            return
        user_name = self._proved(request, "authorization", "REGISTER")
        if user_name is None:
            border.respond(request, path, 401, "Unauthorized", self._challenge("WWW-Authenticate", knobs.qop), tag=tag)
            return
        contacts = request.all("contact")
        if wrong := _wrong_with(request, contacts):
            border.complaints.append(wrong)
            border.respond(request, path, 400, "Bad Request", tag=tag)
            return
        asked = request.parameter("contact", "expires") or request.get("expires") or "3600"
        if 0 < int(asked) < knobs.min_expires_s:
            border.respond(request, path, 423, "Interval Too Brief", f"Min-Expires: {knobs.min_expires_s}", tag=tag)
            return
        granted_s = min(int(asked), max(knobs.grants_s, knobs.min_expires_s))
        self._bind(border, user_name, request, path, granted_s)
        listed = [f"<{request.uri('contact')}>;expires={granted_s}"] if granted_s else []
        lines = [f"Contact: {contact}" for contact in [*knobs.lists, *listed]]
        border.respond(request, path, 200, "OK", *lines, tag=tag)

    def _bind(self, border: Border, user_name: str, request: Message, path: Path, granted_s: int) -> None:
        before = self.bindings.pop(user_name, None)
        connection = self._by_user(user_name)
        if before is not None and before.call_id == request.get("call-id") and before.cseq >= request.cseq:
            border.complaints.append(f"REGISTER with CSeq {request.cseq} after {before.cseq}")
        if connection is None:
            return
        connection.registration = None
        if granted_s:
            now = asyncio.get_running_loop().time()
            binding = Binding(
                user_name, request.uri("contact"), path, border, granted_s, now, request.get("call-id"), request.cseq
            )
            self.bindings[user_name] = binding
            self.history.append(binding)
            connection.registration = TelnyxRegistration(
                *path.remote, path.transport.upper(), request.get("user-agent")
            )
        self._changed.set()

    # --- digests ---

    def _challenge(self, name: str, qop: bool) -> str:
        """Without qop and algorithm: the form of RFC 2069, as the registrar sends it."""
        nonce = fresh(16)
        self._nonces[nonce] = asyncio.get_running_loop().time()
        more = ', algorithm=MD5, qop="auth"' if qop else ""
        return f'{name}: Digest realm="{REALM}", nonce="{nonce}", opaque="2/10.13.246.184"{more}'

    def _proved(self, request: Message, header: str, method: str) -> str | None:
        """The user name whose digest the request carries rightly."""
        answer = request.get(header)
        fields = {
            name.lower(): quoted or bare for name, quoted, bare in re.findall(r'(\w+)=(?:"([^"]*)"|([^\s,]+))', answer)
        }
        issued = self._nonces.get(fields.get("nonce", ""))
        if issued is None or asyncio.get_running_loop().time() > issued + NONCE_S:
            return None
        connection = self._by_user(fields.get("username", ""))
        if connection is None or connection.password is None or not connection.active:
            self.refused_logins += 1
            return None
        secret = _md5(f"{connection.user_name}:{REALM}:{connection.password}")
        parts = [secret, fields["nonce"]]
        if "qop" in fields:
            parts += [fields.get("nc", ""), fields.get("cnonce", ""), fields["qop"]]
        expected = _md5(":".join([*parts, _md5(f"{method}:{fields.get('uri', '')}")]))
        if fields.get("response") != expected or fields.get("opaque") != "2/10.13.246.184":
            self.refused_logins += 1
            return None
        return connection.user_name

    def _by_user(self, user_name: str) -> TelnyxConnection | None:
        known = self._rest.connections_by_id.values()
        return next((each for each in known if each.kind == "credential" and each.user_name == user_name), None)

    # --- calls to the telephone network ---

    def _take_outbound(self, border: Border, request: Message, path: Path) -> None:
        user_name = self._proved(request, "proxy-authorization", "INVITE")
        if user_name is None:
            challenge = self._challenge("Proxy-Authenticate", qop=True)
            border.respond(request, path, 407, "Proxy Authentication Required", challenge, tag=fresh(4))
            return
        call = TelnyxOutbound(request, user_name)
        self.outbound.append(call)
        border.respond(request, path, 100, "Trying")
        if refusal := self._refusal(user_name, request):
            call.status, phrase = refusal
            reason = f'Reason: Q.850;cause=21;text="{phrase}"'
            border.respond(request, path, call.status, phrase, reason, tag=fresh(4))
            call.ended.set()
            return
        answering = self._answer(border, call, path)
        self._answering.add(asyncio.create_task(answering, name=f"outbound {request.get('call-id')}"))

    def _refusal(self, user_name: str, request: Message) -> tuple[int, str] | None:
        """What the account or the connection is not allowed to do, with its D-code."""
        if self.outbound_refusal is not None:
            return self.outbound_refusal
        connection = self._by_user(user_name)
        if connection is None or not connection.outbound_voice_profile_id:
            return 403, "No outbound voice profile assigned D38"
        caller = re.search(r"sip:\+?(\d+)@", request.get("p-asserted-identity") or request.get("from"))
        owned = {each.phone_number for each in self._rest.numbers.values() if each.account is connection.account}
        if caller is None or f"+{caller[1]}" not in owned:
            return 403, "Caller Origination Number is Invalid D35"
        return None

    async def _answer(self, border: Border, call: TelnyxOutbound, path: Path) -> None:
        """Rings, then answers; the 200 is repeated until it is acknowledged (RFC 3261 §13.3.1.4)."""
        tag = fresh(4)
        call.media = await self._stack.enter_async_context(MediaPort.open(border.host))
        call.media.target = call.invite.media()
        ids = [f"X-Telnyx-{name}-ID: {fresh(16)}" for name in ("Session", "Leg", "Call-Control")]
        border.respond(call.invite, path, 180, "Ringing", *ids, tag=tag)
        if self.outbound_early:
            early = _offer(call.media, payload_types=(8, 101))
            border.respond(
                call.invite, path, 183, "Session Progress", "Content-Type: application/sdp", tag="early", body=early
            )
        if not self.outbound_answer:
            await call.ended.wait()
            border.respond(call.invite, path, 487, "Request Terminated", tag=tag)
            return
        contact = f"Contact: <sip:mod_sofia@{border.host}:{border.port}>"
        lines = [*ids, contact, "Content-Type: application/sdp"]
        call.status = 200
        for interval_s in (0.5, 1.0, 2.0, 4.0, 4.0, 4.0):
            border.respond(
                call.invite, path, 200, "OK", *lines, tag=tag, body=_offer(call.media, payload_types=(0, 101))
            )
            try:
                async with asyncio.timeout(interval_s):
                    await call.acknowledged.wait()
            except TimeoutError:
                continue
            return

    def _in_outbound(self, border: Border, request: Message, path: Path) -> None:
        call_id = request.get("call-id")
        call = next((each for each in self.outbound if each.invite.get("call-id") == call_id), None)
        if request.method == "ACK":
            if call is not None:
                call.acknowledged.set()
            return
        border.respond(request, path, 200 if call else 481, "OK" if call else "Call Does Not Exist")
        if call is not None:
            call.ended.set()


def _wrong_with(request: Message, contacts: Sequence[str]) -> str:
    """What Telnyx's registrar does not take."""
    if len(contacts) != 1 or "," in contacts[0]:
        return f"not one Contact: {contacts}"
    if len(contacts[0]) > 512:
        return f"a Contact of {len(contacts[0])} bytes"
    if request.parameter("to", "tag"):
        return f"a To with a tag: {request.get('to')}"
    return ""


def _to_number(contact: str, number: str) -> str:
    """The user replaced by the number that was dialed; host, port and parameters kept."""
    return f"sip:{number}@{contact.removeprefix('sip:').rpartition('@')[2]}"


def _md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


def _offer(media: MediaPort, payload_types: Sequence[int] = (0, 8, 9, 18, 102, 101, 103)) -> bytes:
    host, port = media.address
    names = {
        0: "PCMU/8000",
        8: "PCMA/8000",
        9: "G722/8000",
        18: "G729/8000",
        102: "opus/48000/2",
        101: "telephone-event/8000",
        103: "telephone-event/48000",
    }
    lines = [
        "v=0",
        f"o=FreeSWITCH 1763900000 1763900001 IN IP4 {host}",
        "s=FreeSWITCH",
        f"c=IN IP4 {host}",
        "t=0 0",
        f"m=audio {port} RTP/AVP {' '.join(map(str, payload_types))}",
        *(f"a=rtpmap:{number} {names[number]}" for number in payload_types),
        *(["a=fmtp:18 annexb=no"] if 18 in payload_types else []),
        *(["a=fmtp:102 useinbandfec=1; stereo=0; sprop-stereo=0"] if 102 in payload_types else []),
        "a=fmtp:101 0-16",
        *(["a=fmtp:103 0-16"] if 103 in payload_types else []),
        "a=ptime:20",
        "a=rtcp-mux",
    ]
    return ("\r\n".join(lines) + "\r\n").encode()
