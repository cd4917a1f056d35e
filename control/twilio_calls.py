"""Calls through Twilio: placed by its REST, which then calls us; and callers moved by it.

A call is placed with TwiML that dials our SIP address with a pass made for it (:mod:`control.passes`), as inbound calls
have one; status callbacks, signed, tell of a callee who is busy or does not answer. A caller is moved by REFER, for
which Twilio asks the signed ``referUrl`` once where it leads, else by an update of the call with ``<Dial>``.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

from config.settings import Settings
from control.call import Call
from control.dialling import Way
from control.inbound import MOVED_PATH, REFER_PATH, STATUS_PATH
from control.outbound import CarrierRefused, Handover
from control.outcomes import of_twilio
from control.passes import Announced, CallPass, CallPasses, PassesExhausted
from control.routing import PASS_TRUNK
from control.twiml import Dial, Onward, dial, onward
from edge.events import CallOffered

__all__ = [
    "PASS_S",
    "TwilioCalls",
    "TwilioRefused",
    "TwilioRest",
]

_EVENTS: Final = ["initiated", "ringing", "answered", "completed"]
_JOIN_S: Final = 20
PASS_S: Final = 160.0
"""How long the pass of a call that was placed is good for: as long as anything may ring, and a while to come here."""
log = logging.getLogger("truedy.twilio")


class TwilioRefused(Exception):
    """Twilio's REST API did not do it; ``code`` is its error's, where there was one."""

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class TwilioRest(Protocol):
    """Two requests of Twilio's REST API; both raise :class:`TwilioRefused`."""

    async def create_call(self, account_sid: str, auth_token: str, fields: Mapping[str, object]) -> str:
        """``calls.create``; the call's SID."""

    async def update_call(self, account_sid: str, auth_token: str, sid: str, fields: Mapping[str, object]) -> None:
        """``calls(sid).update``."""


class TwilioCalls:
    """:class:`control.outbound.CarrierCalls` for Twilio. ``uri`` gives our address for a pass, ``now`` is its clock."""

    def __init__(
        self,
        rest: TwilioRest,
        passes: CallPasses,
        settings: Settings,
        *,
        uri: Callable[[CallPass], str],
        public_url: str,
        way: Callable[[Call], Awaitable[Way | None]],
        now: Callable[[], float],
    ) -> None:
        self._rest = rest
        self._passes = passes
        self._call_length_s = settings.limits.call_length_s
        self._uri = uri
        self._public_url = public_url
        self._way = way
        self._now = now
        self._awaited: dict[str, str] = {}
        self._authorised: dict[str, tuple[str, Handover, str]] = {}
        self._asked: set[str] = set()

    # --- placing ---

    async def place(self, call: Call, way: Way) -> str:
        """Have Twilio call the callee, and then us."""
        outgoing, number = call.outgoing, call.route.number if call.route is not None else None
        if outgoing is None or number is None:
            raise CarrierRefused("carrier_refused", "nothing to place")
        announced = Announced(call.id, way.account_sid, call.account_id, number.id, call.from_number, call.to_number)
        try:
            made = self._passes.issue(announced, self._now())
        except PassesExhausted as error:
            raise CarrierRefused("carrier_unavailable", "too many calls are announced at once") from error
        if made is None:
            raise CarrierRefused("carrier_refused", "the call was announced before")
        self._awaited[made.username] = call.id
        leg = Dial(
            uri=self._uri(made),
            username=made.username,
            password=made.password,
            timeout_s=_JOIN_S,
            action="",
            time_limit_s=int(min(outgoing.max_duration_s, self._call_length_s)) + 1,
            refer_url=self._public_url + REFER_PATH,
        )
        fields: dict[str, object] = {
            "to": call.to_number,
            "from_": call.from_number,
            "twiml": dial(leg),
            "status_callback": f"{self._public_url}{STATUS_PATH}?call={call.id}",
            "status_callback_event": _EVENTS,
            "status_callback_method": "POST",
            "timeout": int(outgoing.ring_timeout_s),
        }
        try:
            return await self._rest.create_call(way.account_sid, way.auth_token, fields)
        except TwilioRefused as error:
            reason, words = of_twilio("", error.code)
            raise CarrierRefused(reason, words if error.code else f"Twilio: {error}") from error

    async def give_up(self, call: Call, way: Way) -> None:
        """End the call at Twilio, whoever is on it; before its SID is known there is nothing to end."""
        if call.outgoing is None or not call.outgoing.carrier_call:
            return
        try:
            fields: dict[str, object] = {"status": "completed"}
            await self._rest.update_call(way.account_sid, way.auth_token, call.outgoing.carrier_call, fields)
        except TwilioRefused as error:
            log.warning("a call could not be ended at Twilio", extra={"call": call.id, "error": str(error)})

    def of(self, offered: CallOffered) -> str | None:
        """By the pass that the INVITE has proved."""
        return self._awaited.get(offered.identity) if offered.trunk == PASS_TRUNK else None

    def over(self, call: Call) -> None:
        """Its pass is worth nothing any more."""
        for username in [username for username, id in self._awaited.items() if id == call.id]:
            del self._awaited[username]
        self._passes.spend(call.id)
        self._asked.discard(call.id)

    # --- moving a caller ---

    def authorise(self, call: Call, handover: Handover) -> None:
        """Twilio may ask once where this call's REFER leads."""
        sid = self._sid(call)
        if sid:
            self._authorised[sid] = (call.id, handover, _own_number(call))

    def revoke(self, call: Call) -> bool:
        """Not any more; whether it has asked."""
        for sid in [sid for sid, (id, _, _) in self._authorised.items() if id == call.id]:
            del self._authorised[sid]
        asked = call.id in self._asked
        self._asked.discard(call.id)
        return asked

    def referred(self, call_sids: tuple[str, ...]) -> str | None:
        """TwiML for the call that was referred, once; None for one whose REFER nobody authorised.

        It has no ``action``: where nobody answers, Twilio leaves the caller with us, for our leg was dialled with
        ``answerOnBridge``.
        """
        for sid in call_sids:
            if (found := self._authorised.pop(sid, None)) is not None:
                id, handover, number = found
                self._asked.add(id)
                return self._onward(handover, number, action="")
        return None

    async def move(self, call: Call, handover: Handover) -> None:
        """Update the call at Twilio: its caller is connected to the destination, and our leg ends."""
        way, sid = await self._way(call), self._sid(call)
        if way is None or not sid:
            raise CarrierRefused("carrier_refused", "Twilio's name for the call is not known")
        try:
            twiml = self._onward(handover, _own_number(call), action=self._public_url + MOVED_PATH)
            fields: dict[str, object] = {"twiml": twiml}
            await self._rest.update_call(way.account_sid, way.auth_token, sid, fields)
        except TwilioRefused as error:
            raise CarrierRefused(*of_twilio("", error.code)) from error

    def _onward(self, handover: Handover, number: str, *, action: str) -> str:
        destination, status = handover.destination, f"{self._public_url}{STATUS_PATH}?call={handover.leg}"
        longest_s = max(1, int(handover.longest_s))
        return onward(Onward(destination.target, destination.kind, number, action, longest_s, status))

    def _sid(self, call: Call) -> str:
        """Of the parent call: that which the caller, or the callee, is on."""
        if call.outgoing is not None:
            return call.outgoing.carrier_call
        return (call.found.call_sid if call.found is not None else None) or ""


def _own_number(call: Call) -> str:
    return call.route.number.phone_number if call.route is not None else ""
