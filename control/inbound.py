"""Twilio's webhooks: the one that announces a call, and those that tell or ask how its legs go on.

In this order: the account named in the (untrusted) request → its candidate tokens → the signature → the number,
which must be that account's here. Only then is a pass made.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final
from urllib.parse import parse_qsl

from config.carriers import carriers
from config.settings import Settings, parse_listener
from control.announcements import Announcer, Fate
from control.numbers import NumberError, canonical
from control.passes import TOKEN_HEADER, Announced, CallPass
from control.providers import signing_tokens
from control.registry.types import Integration, Number, Registry, Route
from control.routing import PASS_TRUNK
from control.twiml import Dial, dial, empty, hang_up, reject, say_and_hang_up
from edge.counters import Counters, SourceLog
from edge.headers import OWN_HEADERS
from edge.identity import verstat
from edge.uas import passing

__all__ = [
    "DIAL_STATUS_PATH",
    "MOVED_PATH",
    "REFER_PATH",
    "STATUS_PATH",
    "WEBHOOK_PATH",
    "Answer",
    "Outcome",
    "Signed",
    "TwilioInbound",
    "WebhookRequest",
    "leg_uri",
    "public_url",
]

WEBHOOK_PATH: Final = "/telephony/inbound/twilio"
REFER_PATH: Final = WEBHOOK_PATH + "/refer"
MOVED_PATH: Final = WEBHOOK_PATH + "/moved"
STATUS_PATH: Final = "/telephony/outbound/twilio/status"
DIAL_STATUS_PATH: Final = WEBHOOK_PATH + "/dial-status"
_RING_MARGIN_S: Final = 5
_SIP_HEADER: Final = "SipHeader_"
_log = logging.getLogger("truedy.inbound")

_APOLOGIES: Final = {
    "busy": "All lines are busy at the moment. Please try again later.",
    "no-answer": "Nobody can take your call at the moment. Please try again later.",
}
_APOLOGY: Final = "We are sorry, your call cannot be connected at the moment. Please try again later."


Signed = Callable[[Sequence[str], str, Sequence[tuple[str, str]], str | None], Awaitable[bool]]
"""Whether one of these tokens made this signature over this URL and this form; never raises."""


class Outcome(Enum):
    """What became of a webhook; the counter's label."""

    DIALED = "dialed"
    REPEATED = "repeated"
    TOO_LATE = "too late"
    UNKNOWN_NUMBER = "unknown number"
    UNASSIGNED_NUMBER = "unassigned number"
    BAD_SIGNATURE = "bad signature"
    FULL = "full"
    DRAINING = "draining"
    LEG_COMPLETED = "leg completed"
    LEG_FAILED = "leg failed"
    REFERRED = "referred"
    NOT_AUTHORISED = "refer not authorised"
    MOVED = "moved"
    CALL_STATUS = "call status"


_OF_FATE: Final = {
    Fate.EXPECTED: (200, Outcome.DIALED),
    Fate.EXPECTED_ALREADY: (200, Outcome.REPEATED),
    Fate.TOO_LATE: (200, Outcome.TOO_LATE),
    Fate.FULL: (503, Outcome.FULL),
    Fate.DRAINING: (503, Outcome.DRAINING),
}


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """One request of Twilio's. ``path`` begins with a slash; ``query`` is raw, without the question mark."""

    method: str
    path: str
    query: str
    form: Sequence[tuple[str, str]] = field(repr=False)
    signature: str | None = field(repr=False)
    source: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """``status`` 200 with TwiML, 403 or 503 without."""

    status: int
    outcome: Outcome
    twiml: str = ""


class TwilioInbound:
    """Answers all of Twilio's webhooks; one that nobody has signed with a known account's token gets a 403.

    ``announcer`` is told what they bring; ``signed`` judges signatures; ``now`` is monotonic, ``wall`` UTC [s];
    ``listening`` tells what SIP listens on (``udp:127.0.0.1:5060``).
    """

    def __init__(
        self,
        registry: Registry,
        announcer: Announcer,
        settings: Settings,
        *,
        counters: Counters,
        signed: Signed,
        now: Callable[[], float],
        wall: Callable[[], float],
        listening: Callable[[], Sequence[str]],
    ) -> None:
        self._registry = registry
        self._announcer = announcer
        self._settings = settings
        self._counters = counters
        self._signed = signed
        self._now = now
        self._wall = wall
        self._listening = listening
        self._source_log = SourceLog(_log)
        self._public_url = public_url(settings)

    async def call(self, request: WebhookRequest) -> Answer:
        """A call to a number: TwiML that sends it here."""
        return self._counted(await self._call(request), request)

    async def dial_status(self, request: WebhookRequest) -> Answer:
        """The leg to here has ended: nothing more after a completed call, else a word for the caller."""
        return await self._if_proved(request, _dial_status)

    async def refer(self, request: WebhookRequest) -> Answer:
        """Where a REFER of ours leads: to the one target that was authorised for this call, once."""
        return await self._if_proved(request, self._refer)

    async def moved(self, request: WebhookRequest) -> Answer:
        """A caller's call after its transfer is over: nothing more, or a word where nobody answered."""
        return await self._if_proved(request, _moved)

    async def call_status(self, request: WebhookRequest) -> Answer:
        """How a call that Twilio places for us goes; its query says which it is, and is signed too."""
        return await self._if_proved(request, lambda parameters: self._call_status(request, parameters))

    async def _if_proved(
        self, request: WebhookRequest, answer: Callable[[Mapping[str, str]], Awaitable[Answer]]
    ) -> Answer:
        parameters = _parameters(request)
        proved = await self._proved(request, parameters)
        return self._counted(await answer(parameters) if proved else Answer(403, Outcome.BAD_SIGNATURE), request)

    async def _refer(self, parameters: Mapping[str, str]) -> Answer:
        sids = tuple(sid for name in ("CallSid", "ParentCallSid") if (sid := parameters.get(name)))
        twiml = await self._announcer.referred(sids)
        outcome = Outcome.NOT_AUTHORISED if twiml is None else Outcome.REFERRED
        return Answer(200, outcome, hang_up() if twiml is None else twiml)

    async def _call_status(self, request: WebhookRequest, parameters: Mapping[str, str]) -> Answer:
        call = dict(parse_qsl(request.query)).get("call", "")
        await self._announcer.progressed(call, parameters.get("CallStatus", ""))
        return Answer(200, Outcome.CALL_STATUS, empty())

    async def _call(self, request: WebhookRequest) -> Answer:
        parameters = _parameters(request)
        owners = await self._proved(request, parameters)
        if not owners:
            return Answer(403, Outcome.BAD_SIGNATURE)
        number = await self._number(parameters, owners)
        if number is None:
            return Answer(200, Outcome.UNKNOWN_NUMBER, reject())
        route = await self._registry.route(PASS_TRUNK, number.phone_number)
        if route is None or route.agent is None:
            return Answer(200, Outcome.UNASSIGNED_NUMBER, reject())
        return await self._announced(parameters, number, route)

    async def _announced(self, parameters: Mapping[str, str], number: Number, route: Route) -> Answer:
        call_sid = parameters.get("CallSid", "")
        announced = Announced(
            call_sid=call_sid,
            account_sid=parameters["AccountSid"],
            account_id=number.account_id,
            number_id=number.id,
            phone_number=number.phone_number,
            caller=parameters.get("From", ""),
            verstat=verstat(parameters.get("StirVerstat", "")) or None,
            headers=_sip_headers(parameters, self._settings.sip.agent_headers),
        )
        announcement = await self._announcer.announce(announced)
        status, outcome = _OF_FATE[announcement.fate]
        if announcement.made is not None:
            return Answer(status, outcome, self._dial(announcement.made, route))
        return Answer(status, outcome, hang_up() if status == 200 else "")

    def _dial(self, made: CallPass, route: Route) -> str:
        pipeline = route.agent.pipeline if route.agent is not None else {}
        ring_s = float(pipeline.get("agent_timeout_s") or self._settings.agents.agent_timeout_s)
        return dial(
            Dial(
                uri=leg_uri(made, self._settings, self._listening()),
                username=made.username,
                password=made.password,
                timeout_s=int(ring_s) + _RING_MARGIN_S,
                action=self._public_url + DIAL_STATUS_PATH,
                time_limit_s=int(self._settings.limits.call_length_s),
                refer_url=self._public_url + REFER_PATH,
            )
        )

    # --- who it is ---

    async def _proved(self, request: WebhookRequest, parameters: Mapping[str, str]) -> list[Integration]:
        """The integrations whose token made this signature; empty for a forged one."""
        account_sid = parameters.get("AccountSid", "")
        candidates = await self._registry.integrations_by("twilio", "account_sid", account_sid) if account_sid else []
        now = self._wall()
        url = self._public_url + request.path + (f"?{request.query}" if request.query else "")
        form = list(request.form) if request.method == "POST" else []
        return [
            integration
            for integration in candidates
            if await self._signed(signing_tokens(integration, account_sid, now), url, form, request.signature)
        ]

    async def _number(self, parameters: Mapping[str, str], owners: Sequence[Integration]) -> Number | None:
        """The number dialed, if it is one of the proved account's, imported from that carrier's account."""
        try:
            dialed = canonical(parameters.get("To", ""))
        except NumberError:
            return None
        number = await self._registry.number_by_phone(dialed)
        if number is None or number.provider != "twilio" or number.trunk != PASS_TRUNK:
            return None
        if number.provider_account_sid != parameters["AccountSid"]:
            return None
        return number if number.account_id in {owner.account_id for owner in owners} else None

    def _counted(self, answer: Answer, request: WebhookRequest) -> Answer:
        self._counters.add("twilio_webhooks", outcome=answer.outcome.value, method=request.method)
        if answer.outcome is Outcome.BAD_SIGNATURE or request.method != "POST":
            self._source_log.write(
                logging.WARNING,
                "webhook " + answer.outcome.value,
                request.source,
                self._now(),
                method=request.method,
                path=request.path,
            )
        return answer


def _parameters(request: WebhookRequest) -> dict[str, str]:
    """First value of each; a GET's are in its query."""
    found: dict[str, str] = {}
    for name, value in request.form:
        found.setdefault(name, value)
    return found


async def _dial_status(parameters: Mapping[str, str]) -> Answer:
    status = parameters.get("DialCallStatus", "")
    if status in ("completed", "answered"):
        return Answer(200, Outcome.LEG_COMPLETED, empty())
    return Answer(200, Outcome.LEG_FAILED, _apology(status))


async def _moved(parameters: Mapping[str, str]) -> Answer:
    status = parameters.get("DialCallStatus", "")
    done = status in ("completed", "answered", "")
    return Answer(200, Outcome.MOVED, empty() if done else _apology(status))


def _apology(status: str) -> str:
    return say_and_hang_up(_APOLOGIES.get(status, _APOLOGY))


def _sip_headers(parameters: Mapping[str, str], allowed: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Of the headers that a call to Twilio's SIP domain came with those that may reach the agent."""
    told = ((name.removeprefix(_SIP_HEADER), text) for name, text in parameters.items() if name.startswith(_SIP_HEADER))
    return tuple(header for header in passing(told, allowed) if not header[0].lower().startswith(OWN_HEADERS))


def public_url(settings: Settings) -> str:
    """The API's base URL as Twilio calls it and signs it."""
    return settings.api.public_url or f"http://{settings.api.listen}"


def leg_uri(made: CallPass, settings: Settings, listening: Sequence[str]) -> str:
    """Our address for this call: TLS where it is listened on, the port where it is not the usual one.

    SRTP, where it is not off, goes with TLS alone: its keys are in the SDP.
    """
    listeners = {name: port for name, _, port in map(parse_listener, reversed(listening))}
    transport = next((name for name in ("tls", "udp", "tcp") if name in listeners), "udp")
    usual = 5061 if transport == "tls" else 5060
    port = listeners.get(transport, usual)
    host = settings.sip.domain + (f":{port}" if port != usual else "")
    parameter = "" if transport == "udp" else f";transport={transport}"
    srtp = settings.providers.twilio_srtp or carriers()["twilio"].dialect.srtp
    if transport == "tls" and srtp != "off":
        parameter += ";secure=true"
    return f"sip:{made.phone_number}@{host}{parameter}?{TOKEN_HEADER}={made.token}"
