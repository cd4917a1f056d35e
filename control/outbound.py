"""Calls that the edge places: from the order to the callee's answer; from there they are calls like any other.

The agent connects while the phone rings, and what it says meanwhile is heard from its beginning when the callee
answers. Early media (a provisional response with SDP) is taken without consuming the offer: a fork's and the final
answer may say something else. A redirection is a refusal, and is followed nowhere.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from control.call import Call, End, Outgoing
from control.call_table import MEDIA_REFUSALS, Input, State
from control.delays import CallDelays
from control.dialling import Dialler, Invitation, Way
from control.entropy import new_id
from control.hops import Hops
from control.motor import Motor
from control.outcomes import of_sip, of_twilio
from control.registry.types import Agent, Number, Route
from control.toll import Destination, TollGuard
from edge.events import CallAnswered, CallEnded, CallKey, CallOffered, CallProgressed, Cause, OutgoingCall, Party
from media.messages import AgentSpec, ApplyAnswer, CallOpened, Failed, Renegotiate

__all__ = [
    "CARRIER_FAILURES",
    "CARRIER_IDS",
    "CarrierCalls",
    "CarrierRefused",
    "Handover",
    "Order",
    "Outbound",
    "Outward",
    "PlaceRefused",
    "carrier_ids",
]

log = logging.getLogger("truedy.outbound")

CARRIER_IDS: Final = ("X-Telnyx-Session-ID", "X-Telnyx-Leg-ID", "X-Telnyx-Call-Control-ID", "X-Twilio-CallSid")
"""Headers of a carrier's responses that are kept with the record."""

CARRIER_FAILURES: Final = frozenset({"busy", "no-answer", "failed", "canceled"})
"""A carrier's words for a call that nobody has answered."""
_KNOWN_IDS: Final[Mapping[str, str]] = {name.lower(): name for name in CARRIER_IDS}


class PlaceRefused(Exception):
    """The edge has no room for the call; ``reason`` is a word of :data:`control.call_table.REFUSALS`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Order:
    """A call that was asked for and admitted, with the agent that is to talk."""

    agent: Agent
    number: Number
    spec: AgentSpec
    outgoing: Outgoing


@dataclass(frozen=True, slots=True)
class Handover:
    """A caller who goes on to ``destination`` at the carrier, for ``longest_s`` [s] at most.

    The carrier tells how that goes by the name of ``leg``.
    """

    leg: str
    destination: Destination
    longest_s: float


class CarrierCalls(Protocol):
    """A carrier that places calls itself and then calls us (Twilio): see :class:`control.twilio_calls.TwilioCalls`."""

    async def place(self, call: Call, way: Way) -> str:
        """Ask it to, and its name for the call; the leg comes in as an INVITE. Raises :class:`CarrierRefused`."""

    async def give_up(self, call: Call, way: Way) -> None:
        """Nobody is wanted any more."""

    def of(self, offered: CallOffered) -> str | None:
        """The id of the call that an INVITE belongs to."""

    def over(self, call: Call) -> None:
        """The call has ended: what it was announced with is worth nothing any more."""

    def authorise(self, call: Call, handover: Handover) -> None:
        """A caller is to be moved by REFER: the carrier may ask once where to."""

    def revoke(self, call: Call) -> bool:
        """It may not any more; whether it has asked."""

    async def move(self, call: Call, handover: Handover) -> None:
        """Have the carrier connect the caller to somebody. Raises :class:`CarrierRefused`."""


class CarrierRefused(Exception):
    """A carrier did not do what it was asked; ``reason`` is a word of :data:`control.outcomes.OUTCOMES`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Outward:
    """What calls that go out need of the world beside what every call needs."""

    guard: TollGuard
    dialler: Dialler
    hops: Hops
    carrier: CarrierCalls
    invite: Callable[[OutgoingCall, Callable[[CallKey], None]], None]
    """Have the engine call somebody; the second argument is told its key before anything happens."""
    refer: Callable[[CallKey, str], None]
    """REFER a call's peer to a URI."""
    cancel: Callable[[CallKey, str | None], None]
    """:meth:`control.surroundings.Signalling.hang_up`."""
    ring_timeout_s: float = 30.0
    """Whom a caller is transferred to is given up after this [s]."""
    call_length_s: float = 14_400.0
    """The longest that a caller may talk who has been moved by a carrier [s]."""


class Outbound:
    """The part of :class:`control.calls.CallManager` that places calls."""

    def __init__(
        self,
        motor: Motor,
        outward: Outward,
        *,
        call_later: Callable[[float, Callable[[], None]], Any],
        entropy: Callable[[int], bytes],
        now: Callable[[], float],
        delays: CallDelays,
    ) -> None:
        self._motor = motor
        self._outward = outward
        self._delays = delays
        self._call_later = call_later
        self._entropy = entropy
        self._now = now

    def place(self, order: Order, id: str | None = None) -> str:
        """Begin; the call's id. Raises :class:`PlaceRefused`."""
        outgoing, number = order.outgoing, order.number
        call = Call(
            id=id or new_id(self._entropy),
            key=CallKey(""),
            trunk=outgoing.way.trunk,
            started=self._now(),
            from_number=number.phone_number,
            direction="outbound",
            sip_call_id=self._entropy(16).hex(),
            state=State.PREPARING,
            route=Route(number, order.agent),
            spec=order.spec,
            account_id=number.account_id,
            to_number=outgoing.destination.target,
            outgoing=outgoing,
            hops=1,
        )
        if (full := self._motor.begin(call)) is not None:
            self._outward.guard.release(outgoing.ticket)
            raise PlaceRefused(full)
        return call.id

    # --- what the call's machine asks ---

    def dial(self, call: Call) -> None:
        """Media is open: its offer goes out."""
        outgoing = call.outgoing
        if outgoing is None:
            return
        self._outward.hops.add(call.from_number, call.to_number, call.hops)
        outgoing.ring_timer = self._call_later(outgoing.ring_timeout_s, lambda: self._give_up(call))
        self._motor.note(call, "dialling", outgoing.way.trunk)
        if outgoing.way.carrier == "twilio":
            self._motor.spawn(call, self._place(call, outgoing), "place")
            return
        invitation = Invitation(
            destination=outgoing.destination,
            from_number=call.from_number,
            sdp=call.sdp,
            call_id=call.sip_call_id,
            hops=call.hops,
            hidden=outgoing.hidden,
        )
        invite = self._outward.dialler.invite(outgoing.way, invitation)
        outgoing.invited = self._now()
        self._outward.invite(invite, lambda key: self._motor.bind(call, key))

    async def _place(self, call: Call, outgoing: Outgoing) -> None:
        try:
            outgoing.carrier_call = await self._outward.carrier.place(call, outgoing.way)
        except CarrierRefused as error:
            self._motor.end(call.id, "edge", error.reason, str(error), refused=True)
            return
        ids = {"CallSid": outgoing.carrier_call}
        call.carrier_ids.update(ids)
        self._motor.journal(call, "carrier_ids", {"ids": ids})
        if call.end is not None:  # it was given up before its name was known
            await self._outward.carrier.give_up(call, outgoing.way)

    def _give_up(self, call: Call) -> None:
        timeout_s = call.outgoing.ring_timeout_s if call.outgoing is not None else 0.0
        if call.state is State.DIALLING:
            self._motor.end(call.id, "edge", "no_answer", f"nobody answered in {timeout_s:g} s")

    def cancel(self, call: Call) -> None:
        """Nobody is wanted any more: CANCEL, or whatever the carrier's REST has for it."""
        if call.outgoing is not None and call.outgoing.way.carrier == "twilio":
            self._motor.spawn(call, self._outward.carrier.give_up(call, call.outgoing.way), "give up")
        else:
            self._outward.cancel(call.key, call.end.detail if call.end is not None else None)

    def join(self, call: Call) -> None:
        """The carrier's leg has come in: answer its offer with the media that is open."""
        self._motor.spawn(call, self._join(call), "join")

    async def _join(self, call: Call) -> None:
        if call.offer is None:  # delayed: what was offered at the opening still stands
            self._motor.feed(call, Input.OPENED)
            return
        result = await self._motor.request(Renegotiate(call=call.id, offer=call.offer))
        if isinstance(result, CallOpened):
            call.sdp = result.sdp
            self._motor.feed(call, Input.OPENED)
        else:
            code, message = (result.code, result.message) if isinstance(result, Failed) else ("", "")
            self._motor.refuse(call, MEDIA_REFUSALS.get(code, "media_unavailable"), message)

    def answered(self, call: Call) -> float:
        """The callee has answered; how long the call may last [s]."""
        if call.outgoing is None:
            return 0.0
        self._stop_ringing(call)
        self._outward.guard.answered(call.outgoing.ticket)
        return call.outgoing.max_duration_s

    def over(self, call: Call) -> None:
        """The call is recorded as ended."""
        self._stop_ringing(call)
        if call.outgoing is not None:
            self._outward.guard.release(call.outgoing.ticket)
            self._outward.carrier.over(call)
            self._outward.hops.remove(call.from_number, call.to_number, call.hops)

    def _stop_ringing(self, call: Call) -> None:
        if call.outgoing is not None and call.outgoing.ring_timer is not None:
            call.outgoing.ring_timer.cancel()

    # --- what SIP says ---

    def offered(self, offered: CallOffered, find: Callable[[str], Call | None]) -> bool:
        """Whether an INVITE is the leg of a call that a carrier was asked to place."""
        id = self._outward.carrier.of(offered)
        call = find(id) if id is not None else None
        if call is None or call.state is not State.DIALLING:
            return False
        call.offer, call.headers = offered.offer, offered.headers
        call.remote_host, call.takes_refer = str(offered.flow.remote), offered.takes_refer
        self._motor.bind(call, offered.key)
        self._keep_ids(call, offered.headers)
        self._motor.feed(call, Input.JOINED)
        return True

    def progressed(self, call: Call, event: CallProgressed) -> None:
        """A provisional response."""
        self._keep_ids(call, event.headers)
        outgoing = call.outgoing
        if outgoing is None or call.state is not State.DIALLING:
            return
        if event.status in (180, 183) and outgoing.invited is not None:
            self._delays.rang("outbound", self._now() - outgoing.invited)
            outgoing.invited = None
        if event.status == 180 and not outgoing.ringing:
            outgoing.ringing = True
            self._motor.note(call, "ringing")
        if (early := outgoing.early.take(event)) is not None:
            self._motor.note(call, "early_media", f"{event.status} {event.phrase}")
            self._motor.spawn(call, self._take_early(call, early), "early media")

    async def _take_early(self, call: Call, body: bytes) -> None:
        """One that cannot be used is passed over: the final answer decides."""
        result = await self._motor.request(ApplyAnswer(call=call.id, answer=body, early=True))
        if isinstance(result, Failed):
            self._motor.note(call, "early_media_ignored", result.code)

    def carrier_says(self, call: Call, status: str) -> None:
        """A carrier's word on a call that it places: it rings, or it will not come to anything."""
        outgoing = call.outgoing
        if outgoing is None or call.state is not State.DIALLING:
            return
        if status == "ringing" and not outgoing.ringing:
            outgoing.ringing = True
            self._motor.note(call, "ringing")
        elif status in CARRIER_FAILURES:
            if call.end is None:
                reason, words = of_twilio(status)
                call.end = End("callee", reason, detail=words)
            self._motor.feed(call, Input.SIP_ENDED)

    def taken(self, call: Call, event: CallAnswered) -> None:
        """The callee's 2xx. One without SDP confirms what its fork has said early.

        An offer of the callee's own, by UPDATE before it, holds unless another fork has answered.
        """
        self._keep_ids(call, event.headers)
        call.takes_refer, call.takes_info = event.takes_refer, event.takes_info
        call.confirmed_body = event.body if call.outgoing is None else call.outgoing.early.answer(event)
        if not event.described:
            call.offer = None
        self._motor.feed(call, Input.TAKEN)

    def end_of(self, ended: CallEnded) -> End:
        """Why SIP says that nobody has answered a call of ours."""
        known, words = of_sip(ended.status, ended.phrase, next(iter(ended.reason_headers), ""))
        if ended.cause is Cause.TRANSPORT or (ended.cause is Cause.TIMEOUT and ended.by is Party.LOCAL):
            known, words = "carrier_unavailable", f"no answer from the carrier: {ended.phrase}"
        return End("callee" if ended.by is Party.REMOTE else "edge", known, ended.status or None, words)

    def _keep_ids(self, call: Call, headers: tuple[tuple[str, str], ...]) -> None:
        fresh = {name: value for name, value in carrier_ids(headers).items() if call.carrier_ids.get(name) != value}
        if fresh:
            call.carrier_ids.update(fresh)
            self._motor.journal(call, "carrier_ids", {"ids": fresh})


def carrier_ids(headers: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """The carrier's own names for a call, as its headers tell them."""
    return {_KNOWN_IDS[name.lower()]: value for name, value in headers if name.lower() in _KNOWN_IDS and value}
