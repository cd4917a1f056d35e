"""Twilio's half of an inbound call: the signed webhook, the TwiML that is answered, the INVITE, the action.

What a number's owner has set is asked of the REST half (``twilio_rest``). Shapes are those of published traces of
Twilio's gateways; webhooks are signed by Twilio's own SDK.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Literal
from urllib.parse import parse_qsl, urlencode, urlsplit
from xml.etree import ElementTree

import httpx
from twilio.request_validator import RequestValidator

from tests.support.carriers.sip import Border, Leg, Spelling, fresh
from tests.support.carriers.twilio_rest import TwilioCall, TwilioRest
from tests.support.phone import digest_answer, sdp_offer
from tests.support.rtp import MediaPort

__all__ = ["Dial", "Exchange", "FakeTwilio", "InboundCall", "borrowing", "with_header", "without_header"]

GATEWAY = "172.25.75.240"
CONNECT_S, READ_S = 5.0, 15.0
URI_MAX, HEADERS_MAX = 255, 1024
_HEADER = re.compile(r"X-[\w-]+|User-to-User|Remote-Party-ID|P-Preferred-Identity|P-Called-Party-ID", re.I)


@dataclass(frozen=True, slots=True)
class Dial:
    """``<Dial><Sip>`` as parsed: ``uri`` without its query, which is ``headers``."""

    uri: str
    headers: tuple[tuple[str, str], ...] = ()
    username: str = ""
    password: str = ""
    timeout_s: float = 30.0
    time_limit_s: float = 14400.0
    action: str = ""
    method: str = "POST"
    answer_on_bridge: bool = False
    refer_url: str = ""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One webhook and its answer; ``status`` 0 when there was none."""

    url: str
    parameters: Mapping[str, str]
    status: int
    body: str
    took_s: float


@dataclass
class InboundCall:
    """One caller's call to a number.

    ``dial`` is what the TwiML said, whatever was made of it. ``did`` is what it made Twilio do, in order.
    """

    sid: str
    account_sid: str
    caller: str
    called: str
    media: MediaPort
    twilio: FakeTwilio
    child_sid: str = field(default_factory=lambda: "CA" + fresh(16))
    exchanges: list[Exchange] = field(default_factory=list)
    did: list[str] = field(default_factory=list)
    error: str = ""
    dial: Dial | None = None
    leg: Leg | None = None
    dial_status: str = ""
    moved_to: list[ElementTree.Element] = field(default_factory=list)
    more: Mapping[str, str] = field(default_factory=dict)
    _answered_at: float = 0.0

    @property
    def answered(self) -> bool:
        """Whether the leg to the edge was."""
        return self.leg is not None and 200 <= self.leg.status < 300

    @property
    def status(self) -> int:
        """Of the INVITE's final response; 0 when there was none."""
        return self.leg.status if self.leg else 0

    async def hang_up(self) -> None:
        """The caller does; then the action is asked."""
        if self.leg is not None:
            await self.leg.hang_up()
            await self.twilio.finish(self)

    async def until_ended(self, timeout_s: float = 10.0) -> None:
        """The edge has to hang up; then the action is asked."""
        if self.leg is None:
            raise AssertionError(f"there was no leg to end: {self.error or self.did}")
        try:
            async with asyncio.timeout(timeout_s):
                await self.leg.ended.wait()
        except TimeoutError:
            raise AssertionError(f"no BYE within {timeout_s} s") from None
        await self.twilio.finish(self)

    def parameters(self) -> dict[str, str]:
        """What every webhook of the call says. Some of it is blank, and is signed all the same."""
        called = dict.fromkeys(("To", "Called"), self.called)
        caller = dict.fromkeys(("From", "Caller"), self.caller)
        places = {"City": "", "State": "CA", "Zip": "", "Country": "US"}
        return {
            "CallSid": self.sid,
            "AccountSid": self.account_sid,
            "ApiVersion": "2010-04-01",
            "CallStatus": "ringing",
            "Direction": "inbound",
            "CallToken": '{"parentCallInfoToken":"eyJhbGciOiJFUzI1NiJ9.e30.x"}',
            "StirVerstat": "TN-Validation-Passed-A",
            **called,
            **caller,
            **{who + place: text for who in (*called, *caller) for place, text in places.items()},
            **self.more,
        }


Tamper = Callable[[Dial], Dial]


def without_header(dial: Dial) -> Dial:
    """The INVITE lacks the headers that the TwiML asked for."""
    return replace(dial, headers=())


def with_header(value: str) -> Tamper:
    """Each header that the TwiML asked for has this value instead."""
    return lambda dial: replace(dial, headers=tuple((name, value) for name, _ in dial.headers))


def borrowing(other: InboundCall) -> Tamper:
    """With the credentials of another call."""
    if other.dial is None:
        raise AssertionError(f"no credentials were given to that call: {other.error or other.did}")
    borrowed = other.dial
    return lambda dial: replace(dial, username=borrowed.username, password=borrowed.password)


class FakeTwilio:
    """Open with :meth:`open`. ``rest`` knows the accounts and their numbers.

    ``web`` maps public base URLs to where they are reached, as a proxy that speaks TLS would; ``hosts`` is the DNS of
    SIP domains. ``border`` has the knobs of the network, and the messages that passed.
    """

    def __init__(
        self,
        border: Border,
        rest: TwilioRest,
        web: Mapping[str, str],
        hosts: Mapping[str, str],
        client: httpx.AsyncClient,
        stack: AsyncExitStack,
    ) -> None:
        self.border = border
        self.web = dict(web)
        self.hosts = dict(hosts)
        self.calls: list[InboundCall] = []
        self._rest = rest
        self._client = client
        self._stack = stack

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        rest: TwilioRest,
        *,
        web: Mapping[str, str] | None = None,
        hosts: Mapping[str, str] | None = None,
        host: str = "127.0.0.2",
        trust: ssl.SSLContext | None = None,
    ) -> AsyncIterator[FakeTwilio]:
        """Able to send calls from ``host``."""
        async with AsyncExitStack() as stack:
            border = await stack.enter_async_context(Border.open(host, trust=trust))
            timeout = httpx.Timeout(READ_S, connect=CONNECT_S)
            client = await stack.enter_async_context(httpx.AsyncClient(timeout=timeout, trust_env=False))
            yield cls(border, rest, web or {}, hosts or {}, client, stack)

    async def call(
        self,
        called: str,
        caller: str = "+12025550123",
        *,
        sid: str = "",
        account_sid: str = "",
        signature: Literal["right", "forged", "absent"] = "right",
        method: str = "",
        announced: int = 1,
        invite_after_s: float = 0.0,
        tamper: Tamper = lambda dial: dial,
        **more: str,
    ) -> InboundCall:
        """A caller dials a number; returns when the edge has answered, or all is over.

        ``sid`` repeats an earlier call's; ``account_sid`` is that of an account that says the number is its own, and
        has the webhook sent with its own token. ``announced`` sends the webhook so often, ``method`` stands in for the
        number's own. ``invite_after_s`` [s] passes between the TwiML and the INVITE, ``tamper`` changes what it says.
        ``more`` is what the webhooks say besides.
        """
        number = next((each for each in self._rest.numbers.values() if each.phone_number == called), None)
        if number is None:
            raise AssertionError(f"nobody has {called} at this carrier")
        media = await self._stack.enter_async_context(MediaPort.open(self.border.host))
        call = InboundCall(
            sid or "CA" + fresh(16), account_sid or number.account_sid, caller, called, media, self, more=more
        )
        self.calls.append(call)
        if elsewhere := number.trunk_sid or number.voice_application_sid:
            call.error = f"the voice URL is not asked: the number is on {elsewhere}"
            return call
        verbs: Sequence[ElementTree.Element] = ()
        for _ in range(announced):
            verbs = await self._ask(call, number.voice_url, method or number.voice_method, call.parameters(), signature)
        await self._run(call, verbs, invite_after_s, tamper)
        return call

    async def replay(self, call: InboundCall, tamper: Tamper = lambda dial: dial) -> Leg:
        """An earlier call's credentials and headers on an INVITE with a Call-ID of its own."""
        if call.dial is None:
            raise AssertionError(f"nothing to replay: {call.error or call.did}")
        media = await self._stack.enter_async_context(MediaPort.open(self.border.host))
        return await self._send(replace(call, media=media), tamper(call.dial))

    async def refer(self, call: InboundCall) -> None:
        """A REFER on the leg to the edge: ask ``referUrl`` where to, and leave the edge."""
        if call.leg is None or call.dial is None:
            raise AssertionError("no leg to refer")
        parameters = {**call.parameters(), "ReferTransferTarget": call.leg.referred[-1].get("refer-to")}
        verbs = await self._ask(call, call.dial.refer_url, "POST", parameters, "right")
        call.moved_to = [noun for verb in verbs if verb.tag == "Dial" for noun in verb]
        for noun in call.moved_to:
            await self.tell_onward(call, noun, "in-progress")
        await call.leg.hang_up()

    async def tell_onward(self, call: InboundCall, noun: ElementTree.Element, status: str) -> None:
        """A status callback of the leg of ``noun``, whom a caller was moved to."""
        fields = {"CallSid": "CA" + fresh(16), "ParentCallSid": call.sid, "AccountSid": call.account_sid}
        await self._ask(call, noun.attrib["statusCallback"], "POST", {**fields, "CallStatus": status}, "right")

    async def placed(self, asked: TwilioCall) -> InboundCall:
        """The callee of a call that was asked for by REST has answered: do what its TwiML says."""
        call = await self._call_of(asked)
        self.calls.append(call)
        await self._run(call, self._parsed(call, asked.parameters["Twiml"]), 0.0, lambda dial: dial)
        return call

    async def tell(
        self, asked: TwilioCall, status: str, signature: Literal["right", "forged", "absent"] = "right"
    ) -> Exchange:
        """A status callback of a call that was asked for by REST."""
        call = await self._call_of(asked)
        fields = {"CallSid": asked.sid, "AccountSid": asked.account_sid, "CallStatus": status, "To": asked.to}
        await self._ask(call, asked.parameters["StatusCallback"], "POST", fields, signature)
        return call.exchanges[-1]

    async def _call_of(self, asked: TwilioCall) -> InboundCall:
        media = await self._stack.enter_async_context(MediaPort.open(self.border.host))
        return InboundCall(asked.sid, asked.account_sid, asked.from_, asked.to, media, self)

    async def finish(self, call: InboundCall) -> None:
        """Tell the action how the leg ended, and do what it answers; once."""
        leg, dial = call.leg, call.dial
        if leg is None or dial is None or call.dial_status:
            return
        call.dial_status = _dial_status(leg)
        if not dial.action:
            return
        talked_s = round(asyncio.get_running_loop().time() - call._answered_at) if call.answered else 0
        parameters = {
            **call.parameters(),
            "CallStatus": "completed" if leg.ended_by == "carrier" else "in-progress",
            "DialCallStatus": call.dial_status,
            "DialCallSid": call.child_sid,
            "DialSipCallId": leg.call_id,
            "DialSipResponseCode": str(leg.status),
            "DialBridged": "true" if call.answered else "false",
            **({"DialCallDuration": str(talked_s)} if call.answered else {}),
            **_x_headers(leg),
        }
        verbs = await self._ask(call, dial.action, dial.method, parameters, "right")
        await self._run(call, verbs, 0.0, lambda dial: dial)

    # --- webhooks ---

    async def _ask(
        self, call: InboundCall, url: str, method: str, parameters: Mapping[str, str], signature: str
    ) -> Sequence[ElementTree.Element]:
        """One webhook: the verbs it answered; none, and ``error``, when it made no sense."""
        if method == "GET":
            url += ("&" if "?" in url else "?") + urlencode(parameters)
        form = dict(parameters) if method == "POST" else {}
        token = self._rest.accounts[call.account_sid].auth_token if signature == "right" else "0" * 32
        headers = {
            "User-Agent": "TwilioProxy/1.1",
            "Accept": "*/*",
            "I-Twilio-Idempotency-Token": fresh(16),
            "X-Home-Region": "us1",
        }
        if signature != "absent":
            headers["X-Twilio-Signature"] = RequestValidator(token).compute_signature(url, form)
        began = asyncio.get_running_loop().time()
        try:
            answer = await self._client.request(
                method, self._reached(url), data=form if method == "POST" else None, headers=headers
            )
            status, body = answer.status_code, answer.text
        except httpx.HTTPError as error:
            status, body = 0, str(error)
        call.exchanges.append(Exchange(url, parameters, status, body, asyncio.get_running_loop().time() - began))
        if status != 200:
            call.error = f"11200 HTTP retrieval failure: {status or body}"
            return ()
        return self._parsed(call, body)

    def _parsed(self, call: InboundCall, body: str) -> Sequence[ElementTree.Element]:
        try:
            document = ElementTree.fromstring(body)
        except ElementTree.ParseError as error:
            call.error = f"12100 Document parse failure: {error}"
            return ()
        if document.tag != "Response":
            call.error = f"12100 Document parse failure: <{document.tag}>"
            return ()
        return list(document)

    def _reached(self, url: str) -> str:
        for public, real in self.web.items():
            if url.startswith(public):
                return real + url.removeprefix(public)
        return url

    # --- TwiML ---

    async def _run(
        self, call: InboundCall, verbs: Sequence[ElementTree.Element], invite_after_s: float, tamper: Tamper
    ) -> None:
        for verb in verbs:
            if verb.tag == "Dial":
                call.did.append("Dial")
                await asyncio.sleep(invite_after_s)
                call.dial = self._parse_dial(verb)
                await self._dial(call, tamper(call.dial))
                return  # what follows is the action's to say
            call.did.append(f"Say {verb.text}" if verb.tag == "Say" else verb.tag)
            if verb.tag not in ("Say", "Hangup", "Reject"):
                call.error = f"12200 Schema validation warning: <{verb.tag}>"
            if verb.tag in ("Hangup", "Reject"):
                return

    def _parse_dial(self, verb: ElementTree.Element) -> Dial:
        nouns = verb.findall("Sip")
        if len(nouns) != 1 or not nouns[0].text:
            raise AssertionError(f"this carrier can dial one <Sip> only: {ElementTree.tostring(verb)!r}")
        uri, _, query = nouns[0].text.strip().partition("?")
        headers = tuple(parse_qsl(query, keep_blank_values=True))
        self._check(uri, query, headers)
        return Dial(
            uri=uri,
            headers=headers,
            username=nouns[0].get("username", ""),
            password=nouns[0].get("password", ""),
            timeout_s=float(verb.get("timeout", 30)),
            time_limit_s=float(verb.get("timeLimit", 14400)),
            action=verb.get("action", ""),
            method=verb.get("method", "POST"),
            answer_on_bridge=verb.get("answerOnBridge") == "true",
            refer_url=verb.get("referUrl", ""),
        )

    def _check(self, uri: str, query: str, headers: Sequence[tuple[str, str]]) -> None:
        """What Twilio would not send; the edge has to know better."""
        wrong = [name for name, _ in headers if not _HEADER.fullmatch(name)]
        if len(uri) >= URI_MAX or len(query) >= HEADERS_MAX or wrong:
            self.border.complaints.append(f"Twilio sends no such INVITE: {uri} with {wrong or query}")

    # --- SIP ---

    async def _dial(self, call: InboundCall, dial: Dial) -> None:
        try:
            call.leg = await self._send(call, dial)
        except (OSError, LookupError) as error:
            call.error, call.dial_status = f"the edge cannot be reached: {error}", "failed"
            return
        if call.leg.up and call.leg.gave_up:
            await call.leg.hang_up()
        if call.leg.up:
            call._answered_at = asyncio.get_running_loop().time()
        else:
            await self.finish(call)

    async def _send(self, call: InboundCall, dial: Dial) -> Leg:
        uri = urlsplit(dial.uri.replace("sip:", "sip://", 1).partition(";")[0])
        transport = (re.search(r";transport=(\w+)", dial.uri) or ["", "udp"])[1]
        name = uri.hostname or ""
        peer = (self.hosts[name], uri.port or (5061 if transport == "tls" else 5060))
        path = await self.border.path(transport, peer, name)
        leg = Leg(self.border, path, dial.uri, self._spelling(call, dial, transport), call.media)
        offer = _offer(call.media)
        response = await leg.invite(body=offer, answer_within_s=dial.timeout_s)
        if response is not None and response.status in (401, 407) and dial.username:
            proxy = response.status == 407
            challenge = response.get("proxy-authenticate" if proxy else "www-authenticate")
            value = digest_answer(challenge, "INVITE", dial.uri, dial.username, dial.password, count=2)
            name = "Proxy-Authorization" if proxy else "Authorization"
            await leg.invite(f"{name}: {value}", body=offer, answer_within_s=dial.timeout_s)
        return leg

    def _spelling(self, call: InboundCall, dial: Dial, transport: str) -> Spelling:
        host, port = self.border.host, self.border.port
        parameter = "" if transport == "udp" else f";transport={transport}"
        return Spelling(
            via=f"SIP/2.0/{transport.upper()} {host}:{port}",
            vias=(f"Via: SIP/2.0/UDP {GATEWAY}:5060;rport=5060;branch=z9hG4bK{fresh(6)};received={GATEWAY}",),
            record_routes=(f"<sip:{host}:{port}{parameter};r2=on;lr>", f"<sip:{host};r2=on;lr>"),
            sender=f"<sip:{call.caller}@sip.twilio.com>;tag={fresh(4)}_{fresh(3)}",
            recipient=f"<{dial.uri}>",
            contact=f"sip:{call.caller}@{GATEWAY}:5060;transport=udp",
            call_id=f"{fresh(16)}@0.0.0.0",
            invite=(
                f"P-Asserted-Identity: <sip:{call.caller}@{host}:5060>",
                "Allow: ACK,BYE,CANCEL,INVITE,OPTIONS,REFER,NOTIFY",
                "User-Agent: Twilio Gateway",
                "Supported: timer",
                "Min-SE: 120",
                f"X-Twilio-AccountSid: {call.account_sid}",
                f"X-Twilio-CallSid: {call.child_sid}",
                *(f"{name}: {value}" for name, value in dial.headers),
            ),
        )


def _offer(media: MediaPort) -> bytes:
    text = sdp_offer(*media.address, payload_types=(0, 8, 101)).decode()
    text = text.replace("s=-", "s=Twilio Media Gateway").replace("fmtp:101 0-15", "fmtp:101 0-16")
    return text.replace("a=ptime:20", "a=ptime:20\r\na=maxptime:20").encode()


def _dial_status(leg: Leg) -> str:
    if leg.answered:
        return "completed"
    if leg.gave_up or leg.status in (0, 408, 480, 487):
        return "no-answer"
    return "busy" if leg.status in (486, 600) else "failed"


def _x_headers(leg: Leg) -> dict[str, str]:
    """The X-headers of the final response come back with the action."""
    final = leg.response
    found = final.headers if final else ()
    return {f"DialSipHeader_{name}": value for name, value in found if name.lower().startswith("x-")}
