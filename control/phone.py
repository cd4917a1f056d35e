"""The softphone: one outgoing call on our own core, for tests, demonstrations and fault finding.

It is a user agent of its own with an engine, a transport and media in this process; nothing of a
serving edge is touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from control.ports import PortPool
from edge.auth import Challenger
from edge.counters import Counters
from edge.dns import system_resolver
from edge.endpoint import Endpoint, EndpointSettings
from edge.events import (
    Address,
    CallAnswered,
    CallEnded,
    CallKey,
    CallProgressed,
    Event,
    MediaOffered,
    OutgoingCall,
    Refusal,
    TransportName,
)
from edge.ladder import TraceEntry
from edge.reasons import parse_reasons
from edge.throttle import Throttle
from edge.transport.shell import SipTransport
from edge.transport.tls import client_context
from edge.trunks import TrunkTable
from edge.uri import ParseError, SipUri
from media.in_process import InProcessMedia
from media.messages import (
    AgentEnded,
    AgentFailed,
    AgentReady,
    AgentSpec,
    ApplyAnswer,
    CallClosed,
    CallContext,
    CallOpened,
    CloseCall,
    Failed,
    LegPolicy,
    LegStatistics,
    MediaLost,
    NoticeBody,
    OpenCall,
    Renegotiate,
    StartMedia,
)
from media.settings import ServiceSettings

__all__ = ["PhoneCall", "PhoneError", "PhoneResult", "place_call"]

_CALL: Final = "softphone"
_PORTS: Final = (30000, 39999)
_HANG_UP_WAIT_S: Final = 35.0
_ATTEMPTS_PER_S: Final = 1.0


class PhoneError(Exception):
    """The call could not even be tried; the text says what to change."""


@dataclass(frozen=True, slots=True)
class PhoneCall:
    """What to dial and what to do then.

    ``seconds`` after the answer it hangs up, unless the other side has. ``play`` and ``record`` are
    WAV files; ``digits`` as in ``media.agents.softphone``. ``ring_timeout_s`` [s] to wait for an answer.
    ``codecs`` are offered in that order, with ``srtp`` encrypted and no other way.
    """

    target: str
    caller: str = "+14155550199"
    transport: TransportName | None = None
    play: Path | None = None
    record: Path | None = None
    record_both: Path | None = None
    digits: str = ""
    digits_after_ms: int = 500
    codecs: tuple[str, ...] = ("PCMU", "PCMA")
    srtp: bool = False
    seconds: float = 10.0
    ring_timeout_s: float = 60.0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    trust: Path | None = None


@dataclass(frozen=True, slots=True)
class PhoneResult:
    """How it went. ``status`` is the last final response, 0 when there was none; ``reason`` the other side's words
    for the end (RFC 3326), if it had any."""

    answered: bool
    status: int
    phrase: str
    reason: str
    ended_by: str
    trace: tuple[TraceEntry, ...]
    statistics: LegStatistics | None


class _Phone:
    def __init__(self, call: PhoneCall, target: SipUri, local: str, entropy: Callable[[int], bytes]) -> None:
        self._call = call
        self._target = target
        self._local = local
        self._heard: asyncio.Queue[Event | NoticeBody] = asyncio.Queue()
        self._trace: list[TraceEntry] = []
        self._entropy = entropy
        transport = target.transport or TransportName.UDP
        # A TLS listener would need a certificate; the peer's requests come back on our own connection.
        listeners = () if transport is TransportName.TLS else ((transport, Address(local, 0)),)
        counters = Counters()
        self._engine = Endpoint(
            EndpointSettings(domain=local, listeners=listeners),
            TrunkTable((), realm=local, challenger=Challenger(entropy(32)), counters=counters),
            Throttle(_ATTEMPTS_PER_S, 1),
            counters,
            entropy=entropy,
            trace=self._trace.append,
        )
        self._sip = SipTransport(
            self._engine,
            listeners,
            on_event=self._heard.put_nowait,
            counters=counters,
            tls_client=_trust(call.trust),
            resolver=system_resolver(entropy, tuple(TransportName)),
        )
        self._media = InProcessMedia(
            ServiceSettings(listen_address=local), on_notice=self._heard.put_nowait, entropy=entropy
        )

    async def place(self) -> PhoneResult:
        async with AsyncExitStack() as stack:
            self._engine.settings.listeners = await self._sip.start()
            stack.push_async_callback(self._sip.close)
            await self._media.start()
            stack.push_async_callback(self._media.close)
            offer = await self._open_media()
            await self._until_ready()
            outgoing = OutgoingCall(
                target=str(self._target),
                from_uri=str(SipUri("sip", self._call.caller, self._local)),
                body=offer,
                username=self._call.username,
                password=self._call.password,
            )
            key = self._sip.run(lambda now: self._engine.invite(outgoing, now=now))
            try:
                ended, answered = await self._live(key)
            except asyncio.CancelledError:
                self._hang_up(key)
                with contextlib.suppress(TimeoutError):
                    await self._until_ended(2.0)
                raise
            closed = await self._media.request(CloseCall(call=_CALL, reason="ended"))
            statistics = closed.statistics if isinstance(closed, CallClosed) else None
        phrase = ended.phrase or ended.cause.value
        reason = next((each.text for each in parse_reasons(ended.reason_headers) if each.text), "")
        return PhoneResult(answered, ended.status, phrase, reason, ended.by.value, tuple(self._trace), statistics)

    async def _live(self, key: CallKey) -> tuple[CallEnded, bool]:
        """From the INVITE to the end: (how it ended, whether it was answered)."""
        answered = False
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._call.ring_timeout_s
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    event = await self._heard.get()
            except TimeoutError:
                self._hang_up(key)
                return await self._until_ended(_HANG_UP_WAIT_S), answered
            match event:
                case CallAnswered(body=body):
                    answered = True
                    deadline = loop.time() + self._call.seconds
                    if not await self._start_media(body):
                        deadline = loop.time()
                case CallEnded():
                    return event, answered
                case AgentEnded() | AgentFailed() | MediaLost():
                    deadline = loop.time()
                case MediaOffered(offer=offer):
                    await self._renegotiate(key, offer)
                case CallProgressed() | _:
                    pass

    async def _open_media(self) -> bytes:
        parameters = {
            "play": self._call.play,
            "record": self._call.record,
            "record_both": self._call.record_both,
            "digits": self._call.digits or None,
            "digits_after_ms": self._call.digits_after_ms if self._call.digits else None,
        }
        spec = AgentSpec(
            protocol="softphone",
            parameters={name: str(value) for name, value in parameters.items() if value is not None},
            answer_after_s=0.0,
        )
        context = CallContext(
            call_sid=_CALL,
            account_sid="",
            direction="outbound",
            from_number=self._call.caller,
            to_number=self._target.user or "",
            trunk="",
        )
        policy = LegPolicy(
            codecs=self._call.codecs,
            srtp="require" if self._call.srtp else "off",
            allow_private=True,
            first_packet_timeout_s=None,
            silence_timeout_s=None,
        )
        ports = PortPool(*_PORTS, rest_s=0.0, entropy=self._entropy)
        message = "no RTP port is free"
        while (port := ports.lease(0.0)) is not None:
            command = OpenCall(call=_CALL, rtp_port=port, offer=None, policy=policy, agent=spec, context=context)
            match await self._media.request(command):
                case CallOpened(sdp=sdp):
                    return sdp
                case Failed(code="port_unavailable"):
                    continue
                case Failed(message=message):
                    break
        raise PhoneError(message)

    async def _until_ready(self) -> None:
        """Its file is read: what cannot be played is told before anybody's phone rings."""
        while not isinstance(event := await self._heard.get(), AgentReady):
            if isinstance(event, AgentFailed):
                raise PhoneError(event.message)

    async def _start_media(self, answer: bytes | None) -> bool:
        if answer is None:
            return False
        applied = await self._media.request(ApplyAnswer(call=_CALL, answer=answer))
        started = await self._media.request(StartMedia(call=_CALL))
        return not isinstance(applied, Failed) and not isinstance(started, Failed)

    async def _renegotiate(self, key: CallKey, offer: bytes | None) -> None:
        result = await self._media.request(Renegotiate(call=_CALL, offer=offer))
        if isinstance(result, CallOpened):
            sdp = result.sdp
            self._sip.run(lambda now: self._engine.accept_offer(key, sdp, now=now))
        else:
            refusal = Refusal(488, "the offer cannot be used")
            self._sip.run(lambda now: self._engine.refuse_offer(key, refusal, now=now))

    def _hang_up(self, key: CallKey) -> None:
        self._sip.run(lambda now: self._engine.hang_up(key, now=now))

    async def _until_ended(self, seconds: float) -> CallEnded:
        async with asyncio.timeout(seconds):
            while True:
                event = await self._heard.get()
                if isinstance(event, CallEnded):
                    return event


def _trust(certificate: Path | None) -> ssl.SSLContext:
    return client_context(certificate)


async def _local_address(target: SipUri) -> str:
    """The address of ours that faces the target: the system's own choice of source (no packet is sent)."""
    host = target.host
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        return _facing(host)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, target.port or 5060, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise PhoneError(f"cannot find {host}: {error.strerror}") from error
    return _facing(str(found[0][4][0]))


def _facing(host: str) -> str:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))
        except OSError as error:
            raise PhoneError(f"no way to {host}: {error.strerror}") from error
        return str(probe.getsockname()[0])


def _dialed(call: PhoneCall) -> SipUri:
    text = call.target if ":" in call.target.partition("@")[0] else "sip:" + call.target
    try:
        uri = SipUri.parse(text)
    except ParseError as error:
        raise PhoneError(f"{call.target!r} is no SIP URI: {error.reason}") from error
    if uri.scheme not in ("sip", "sips"):
        raise PhoneError(f"{call.target!r}: only sip: and sips: can be called")
    if call.transport is not None:
        kept = [parameter for parameter in uri.parameters if parameter[0].lower() != "transport"]
        uri = uri.with_parameters([*kept, ("transport", call.transport.value)])
    return uri


async def place_call(call: PhoneCall, *, entropy: Callable[[int], bytes]) -> PhoneResult:
    """Place one call and see it through; raises :class:`PhoneError` when it cannot be tried."""
    target = _dialed(call)
    local = await _local_address(target)
    return await _Phone(call, target, local, entropy).place()
