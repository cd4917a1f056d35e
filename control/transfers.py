"""Handing a caller to somebody else: by REFER, by the carrier's own means, or by a second leg joined to the first here.

An agent asks for it, an operator, or a fall-back; whoever it is, the target passes :class:`control.toll.TollGuard`.
The outcome is what the far end says: a 202 to REFER, or a carrier's "accepted", is progress.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal, Protocol

from control.call import Call, End, Timer
from control.call_journal import end_data, offer_data
from control.call_table import State as CallState
from control.dialling import Invitation, NoWay, Way
from control.early_answers import EarlyAnswers
from control.entropy import new_id
from control.info_digits import PRESS_MS
from control.motor import Motor
from control.outbound import CARRIER_FAILURES, CarrierRefused, Handover, Outward, carrier_ids
from control.outcomes import of_sip, of_twilio
from control.ports import PortPool
from control.toll import Admission
from control.transfer_table import TRANSITIONS, Action, Input, State
from edge.counters import Counters, printable
from edge.events import (
    CallAnswered,
    CallEnded,
    CallKey,
    CallProgressed,
    DigitPressed,
    Event,
    MediaOffered,
    Party,
    ReferEnded,
    ReferProgressed,
    ReferSource,
    Refusal,
)
from media.messages import (
    ApplyAnswer,
    CallClosed,
    CallOpened,
    CloseSecondLeg,
    Command,
    Done,
    HearDigit,
    JoinLegs,
    LegPolicy,
    LegStatistics,
    OpenSecondLeg,
    Renegotiate,
    Ring,
)

__all__ = ["AgentPlace", "Means", "Outcome", "Transfer", "TransferRefused", "Transfers"]

log = logging.getLogger("truedy.transfers")

AgentPlace = Literal["leaves", "listens"]
"""What becomes of the agent when a second leg has answered: it leaves, or stays and hears both."""

_ENDED_FIRST: Final = "the call ended first"
_UNHEARD_S: Final = 60.0
"""How much later than a carrier must have ended a caller's leg nothing more is expected of it [s]."""
_MOST_SAID: Final = 8
_UNTOLD: Final = {
    ReferSource.TERMINATED: "the peer did not say how it went",
    ReferSource.EXPIRED: "the peer never said how it went",
    ReferSource.CALL_ENDED: _ENDED_FIRST,
}
_STILL_TO_TRY: Final = frozenset({403, 405, 420, 488, 489, 501, 600, 603, 606})
"""Answers to a REFER that say it is not done this way here; others say that nothing is done."""


class TransferRefused(Exception):
    """No transfer was begun; ``reason`` is one word."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a transfer ended: ``status`` and ``phrase`` of the far end, status 0 where it never said."""

    moved: bool
    status: int
    phrase: str


@dataclass(slots=True)
class Transfer:
    """One transfer of a call. ``method`` is how it is done at present."""

    id: str
    call: Call
    way: Way
    admission: Admission
    by: str
    place: AgentPlace
    done: asyncio.Future[Outcome] = field(repr=False)
    state: State = State.CHECKING
    method: Literal["refer", "carrier", "bridge"] = "bridge"
    leg: Call | None = None
    early: EarlyAnswers = field(default_factory=EarlyAnswers)
    answer: bytes | None = None
    offered: bool = False
    """The target has made an offer of its own before it answered (RFC 3311): that holds."""
    ringing: bool = False
    taken: bool = False
    """The carrier has said that the target has answered."""
    said: list[str] = field(default_factory=list)
    """What the carrier has said of the target's leg before the caller was moved."""
    timer: Timer | None = None
    status: int = 0
    phrase: str = ""
    leg_end: tuple[str, str] = ("edge", "transfer_failed")
    """By whom and why the second leg ended, for its record."""

    @property
    def target(self) -> str:
        """E.164 or a SIP URI."""
        return self.admission.destination.target

    @property
    def has_moved(self) -> bool:
        """The caller is with the target, and the edge is out of it."""
        return self.state is State.OVER and self.method != "bridge" and 200 <= self.status < 300

    async def outcome(self) -> Outcome:
        """Returns when the caller is with the target, or will not be."""
        return await asyncio.shield(self.done)


class LegSignalling(Protocol):
    """The engine's commands for a leg that is up."""

    def accept_offer(self, key: CallKey, body: bytes) -> None: ...
    def refuse_offer(self, key: CallKey, refusal: Refusal) -> None: ...
    def press(self, key: CallKey, digit: str, duration_ms: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Means:
    """What transfers need of the world."""

    outward: Outward
    signalling: LegSignalling
    ports: PortPool
    policy: Callable[[str], LegPolicy]
    counters: Counters
    call_later: Callable[[float, Callable[[], None]], Timer]
    now: Callable[[], float]
    entropy: Callable[[int], bytes]


class Transfers:
    """The part of :class:`control.calls.CallManager` that transfers calls; one at a time for each."""

    def __init__(self, motor: Motor, means: Means) -> None:
        self._motor = motor
        self._means = means
        self._by_call: dict[str, Transfer] = {}
        self._by_key: dict[CallKey, Transfer] = {}
        self._moved: dict[str, Transfer] = {}
        self._asked: set[str] = set()

    async def begin(self, call: Call, target: str, by: str, place: AgentPlace = "leaves") -> Transfer:
        """Hand the caller to ``target``, E.164 or a SIP URI of the list.

        Raises :class:`TransferRefused`, :class:`control.toll.TollRefusal` or what the registry raises.
        """
        if not _is_up(call):
            raise TransferRefused("not_established", "the call is not established")
        if call.id in self._by_call or call.id in self._asked:
            raise TransferRefused("transfer_under_way", "a transfer of this call is under way")
        self._asked.add(call.id)
        try:
            transfer = await self._admitted(call, target, by, place)
        finally:
            self._asked.discard(call.id)
        if not _is_up(call):
            self._means.outward.guard.release(transfer.admission.ticket)
            raise TransferRefused("not_established", "the call has ended meanwhile")
        self._by_call[call.id] = transfer
        self._choose(transfer)
        return transfer

    async def _admitted(self, call: Call, target: str, by: str, place: AgentPlace) -> Transfer:
        outward = self._means.outward
        number = call.route.number if call.route is not None else None
        if number is None:
            raise TransferRefused("not_established", "the call is not established")
        try:
            way = await outward.dialler.way(number)
        except NoWay as error:
            raise TransferRefused("no_way", str(error)) from error
        # RFC 7332 §5: a call that has no hop left goes no further.
        hops = call.hops if call.max_forwards > 1 else max(call.hops, 255)
        admission = await outward.guard.admit(call.account_id, number.phone_number, target, hops)
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        return Transfer(new_id(self._means.entropy), call, way, admission, by, place, done)

    def _choose(self, transfer: Transfer) -> None:
        """The first way that there is: REFER, the carrier's, a second leg."""
        call, way = transfer.call, transfer.way
        if way.refers and call.takes_refer and transfer.method != "refer":
            transfer.method = "refer"
            event = Input.REFER
        elif way.carrier == "twilio":
            transfer.method = "carrier"
            event = Input.ASK
        elif way.dials:
            transfer.method = "bridge"
            event = Input.BRIDGE
        else:
            self._settle(transfer, transfer.status or 503, transfer.phrase or "the peer takes no REFER")
            self._feed(transfer, Input.FAILED)
            return
        self._motor.note(call, "transfer", f"to {transfer.target} by {transfer.method}")
        self._feed(transfer, event)

    # --- what the world says ---

    def on_event(self, event: Event) -> bool:
        """An event of a second leg, or of a referral; True when it was one."""
        match event:
            case ReferProgressed(key=key, status=status, phrase=phrase):
                if transfer := self._referring(key):
                    self._progress(transfer, status, phrase)
                return True
            case ReferEnded(key=key):
                if transfer := self._referring(key):
                    self._referred(transfer, event)
                return True
            case (
                CallProgressed(key=key)
                | CallAnswered(key=key)
                | CallEnded(key=key)
                | MediaOffered(key=key)
                | DigitPressed(key=key)
            ):
                transfer = self._by_key.get(key)
                if transfer is not None:
                    self._of_leg(transfer, event)
                return transfer is not None
            case _:
                return False

    def carrier_says(self, leg: str, status: str) -> None:
        """How a leg goes that a carrier moves a caller to; one that is not known is ignored."""
        if (moved := self._moved.get(leg)) is not None:
            self._heard_of(moved, status)
            return
        under_way = next((each for each in self._by_call.values() if each.id == leg), None)
        if under_way is not None and len(under_way.said) < _MOST_SAID:
            under_way.said.append(status)

    def _heard_of(self, transfer: Transfer, status: str) -> None:
        if status == "in-progress" and transfer.leg is not None and not transfer.taken:
            transfer.taken = True
            self._motor.journal(transfer.leg, "answered", {})
            self._means.outward.guard.answered(transfer.admission.ticket)
        elif status == "completed":
            self._part(transfer, "callee", "transferred_call_ended")
        elif status in CARRIER_FAILURES:
            reason, transfer.phrase = of_twilio(status)
            self._part(transfer, "callee", reason)

    def forget_moved(self) -> None:
        """Nothing will be heard of them any more."""
        for transfer in tuple(self._moved.values()):
            self._part(transfer, "edge", "moved_out_of_sight")

    def _follow(self, transfer: Transfer) -> None:
        """The caller talks on at a carrier that tells of it: a record of its own, which counts as any outgoing call."""
        self._moved[transfer.id] = transfer
        self._begin_leg(transfer, None)
        wait_s = self._handover(transfer).longest_s + _UNHEARD_S
        transfer.timer = self._means.call_later(wait_s, lambda: self._part(transfer, "edge", "moved_out_of_sight"))
        for status in transfer.said:
            self._heard_of(transfer, status)

    def _part(self, transfer: Transfer, by: str, reason: str) -> None:
        if self._moved.pop(transfer.id, None) is None or transfer.leg is None:
            return
        self._stop_timer(transfer)
        transfer.leg_end = (by, reason)
        self._leg_recorded(transfer, transfer.leg, None)
        self._means.outward.guard.release(transfer.admission.ticket)

    def call_ended(self, call: Call) -> None:
        """The call itself is ending."""
        transfer = self._by_call.get(call.id)
        if transfer is None:
            return
        if transfer.method != "bridge" and self._means.outward.carrier.revoke(call):
            self._settle(transfer, 200, "the carrier has taken the caller over")
            self._feed(transfer, Input.MOVED)
            return
        self._settle(transfer, transfer.status, _ENDED_FIRST)
        if transfer.state is State.JOINED:
            by = call.end.by if call.end is not None else call.peer
            transfer.leg_end = (by, "caller_hung_up" if by == "caller" else "transferred_call_ended")
        self._feed(transfer, Input.CALL_ENDED)

    def _referring(self, key: CallKey) -> Transfer | None:
        found = (each for each in self._by_call.values() if each.call.key == key and each.state is State.REFERRING)
        return next(found, None)

    def _referred(self, transfer: Transfer, ended: ReferEnded) -> None:
        phrase = ended.phrase or _UNTOLD.get(ended.source, "")
        if ended.source is ReferSource.REFUSED and ended.status in _STILL_TO_TRY:
            self._motor.note(transfer.call, "refer_refused", f"{ended.status} {phrase}")
            self._settle(transfer, ended.status, phrase)
            self._means.outward.carrier.revoke(transfer.call)
            self._feed(transfer, Input.NO_REFER)
            self._choose(transfer)
            return
        if ended.source is ReferSource.CALL_ENDED:
            return  # the end of the call comes next, and knows more
        self._settle(transfer, ended.status, phrase)
        moved = ended.source is ReferSource.NOTIFY and ended.status < 300
        self._feed(transfer, Input.MOVED if moved else Input.FAILED)

    def _of_leg(self, transfer: Transfer, event: Event) -> None:
        match event:
            case CallProgressed():
                self._leg_progressed(transfer, event)
            case CallAnswered():
                self._leg_answered(transfer, event)
            case CallEnded():
                self._leg_ended(transfer, event)
            case MediaOffered(offer=offer):
                transfer.offered = transfer.state is State.DIALLING
                self._motor.spawn(transfer.call, self._renegotiate(transfer, offer), "renegotiate second leg")
            case DigitPressed(digit=digit, duration_ms=duration_ms):
                heard = HearDigit(call=transfer.call.id, digit=digit, duration_ms=duration_ms, second=True)
                self._motor.spawn(transfer.call, self._ask(heard), "the target's digit")
            case _:
                pass

    def _leg_progressed(self, transfer: Transfer, event: CallProgressed) -> None:
        self._keep_ids(transfer, event.headers)
        self._progress(transfer, event.status, event.phrase)
        if transfer.state is not State.DIALLING:
            return
        if (early := transfer.early.take(event)) is not None:
            command = ApplyAnswer(call=transfer.call.id, answer=early, early=True, second=True)
            self._motor.spawn(transfer.call, self._ask(command), "early media of the second leg")
        elif event.status == 180 and not transfer.early and not transfer.ringing:
            transfer.ringing = True
            number = transfer.target if transfer.target.startswith("+") else transfer.call.to_number
            self._motor.spawn(transfer.call, self._ask(Ring(call=transfer.call.id, number=number)), "ringing tone")

    async def _ask(self, command: Command) -> None:
        """What cannot be done is passed over: an early answer that cannot be used is followed by the final one."""
        await self._motor.request(command)

    def _leg_answered(self, transfer: Transfer, event: CallAnswered) -> None:
        self._keep_ids(transfer, event.headers)
        self._settle(transfer, event.status, event.phrase)
        transfer.answer = transfer.early.answer(event)
        transfer.offered = transfer.offered and event.described
        if transfer.leg is not None:
            transfer.leg.takes_info = event.takes_info
        self._feed(transfer, Input.ANSWERED)

    def press(self, call: Call, digits: str) -> None:
        """The caller's digits by INFO, where the target takes them no other way."""
        transfer = self._by_call.get(call.id)
        if transfer is None or transfer.leg is None or not transfer.leg.takes_info:
            self._means.counters.add("digits_unsent", trunk=call.trunk)
            return
        for digit in digits:
            self._means.signalling.press(transfer.leg.key, digit, PRESS_MS)

    def _leg_ended(self, transfer: Transfer, ended: CallEnded) -> None:
        if transfer.leg is not None:
            self._by_key.pop(transfer.leg.key, None)
        if transfer.state is State.JOINED:
            remote = ended.by is Party.REMOTE
            transfer.leg_end = ("callee", "callee_hung_up") if remote else ("edge", "signalling_lost")
            self._settle(transfer, 0, "the target hung up" if remote else "the target's leg was lost")
        else:
            known, words = of_sip(ended.status, ended.phrase, next(iter(ended.reason_headers), ""))
            transfer.leg_end = ("callee", known)
            self._settle(transfer, ended.status or 503, words)
        self._feed(transfer, Input.TARGET_ENDED)

    async def _renegotiate(self, transfer: Transfer, offer: bytes | None) -> None:
        key = transfer.leg.key if transfer.leg is not None else CallKey("")
        command = Renegotiate(call=transfer.call.id, offer=offer, second=True, early=transfer.offered)
        result = await self._motor.request(command)
        if isinstance(result, CallOpened):
            self._means.signalling.accept_offer(key, result.sdp)
        else:
            transfer.offered = False
            self._means.signalling.refuse_offer(key, Refusal(488, "the session description cannot be used"))

    def _keep_ids(self, transfer: Transfer, headers: tuple[tuple[str, str], ...]) -> None:
        leg = transfer.leg
        fresh = {name: value for name, value in carrier_ids(headers).items() if leg and name not in leg.carrier_ids}
        if leg is not None and fresh:
            leg.carrier_ids.update(fresh)
            self._motor.journal(leg, "carrier_ids", {"ids": fresh})

    def _progress(self, transfer: Transfer, status: int, phrase: str) -> None:
        self._motor.note(transfer.call, "transfer_progress", f"{status} {printable(phrase)}")
        self._tell_agent(transfer, status, phrase, final=False)

    def _settle(self, transfer: Transfer, status: int, phrase: str) -> None:
        transfer.status, transfer.phrase = status, printable(phrase)

    def _tell_agent(self, transfer: Transfer, status: int, phrase: str, *, final: bool) -> None:
        telling = self._motor.tell(transfer.call, "transfer", status=status, phrase=phrase, final=final)
        self._motor.spawn(transfer.call, telling, "tell of a transfer")

    # --- the machine's motor ---

    def _feed(self, transfer: Transfer, event: Input) -> None:
        step = TRANSITIONS.get((transfer.state, event))
        if step is None:
            return
        transfer.state, actions = step
        for action in actions:
            self._carry_out[action](self, transfer)

    def _send_refer(self, transfer: Transfer) -> None:
        call, destination = transfer.call, transfer.admission.destination
        self._means.outward.carrier.authorise(call, self._handover(transfer))
        uri = transfer.way.uri(destination) if transfer.way.host else f"sip:{destination.target}@{call.remote_host}"
        self._means.outward.refer(call.key, destination.target if destination.kind == "sip" else uri)

    def _ask_carrier(self, transfer: Transfer) -> None:
        self._motor.spawn(transfer.call, self._move(transfer), "move the caller")

    async def _move(self, transfer: Transfer) -> None:
        try:
            await self._means.outward.carrier.move(transfer.call, self._handover(transfer))
        except CarrierRefused as error:
            self._settle(transfer, 503, str(error))
            self._feed(transfer, Input.FAILED)
            return
        self._settle(transfer, 200, "the carrier has taken the caller over")
        self._feed(transfer, Input.MOVED)

    def _handover(self, transfer: Transfer) -> Handover:
        admission = transfer.admission
        longest_s = min(admission.left_s, self._means.outward.call_length_s)
        return Handover(transfer.id, admission.destination, longest_s)

    def _open_leg(self, transfer: Transfer) -> None:
        means = self._means
        port = means.ports.lease(means.now())
        if port is None:
            self._settle(transfer, 503, "no RTP port is free")
            self._feed(transfer, Input.FAILED)
            return
        self._begin_leg(transfer, port)
        self._motor.spawn(transfer.call, self._open(transfer, port), "open second leg")

    def _begin_leg(self, transfer: Transfer, port: int | None) -> None:
        """Its record; ``port`` is None for one that a carrier has."""
        means, call = self._means, transfer.call
        number = call.route.number if call.route is not None else None
        transfer.leg = Call(
            id=transfer.id,
            key=CallKey(""),
            trunk=transfer.way.trunk,
            started=means.now(),
            from_number=number.phone_number if number is not None else "",
            direction="outbound",
            sip_call_id=means.entropy(16).hex(),
            account_id=call.account_id,
            to_number=transfer.target,
            hops=call.hops + 1,
            port=port,
        )
        data = offer_data(transfer.leg, number.id if number is not None else None)
        self._motor.journal(transfer.leg, "offered", {**data, "note": "a transfer's second leg"})

    async def _open(self, transfer: Transfer, port: int) -> None:
        policy = self._means.policy(transfer.way.trunk)
        result = await self._motor.request(OpenSecondLeg(call=transfer.call.id, rtp_port=port, policy=policy))
        if isinstance(result, CallOpened) and transfer.leg is not None:
            transfer.leg.sdp = result.sdp
            self._feed(transfer, Input.OPENED)
        else:
            self._settle(transfer, 503, "the media of the second leg could not be opened")
            self._feed(transfer, Input.FAILED)

    def _dial(self, transfer: Transfer) -> None:
        leg, call, outward = transfer.leg, transfer.call, self._means.outward
        if leg is None:
            return
        outward.hops.add(leg.from_number, leg.to_number, leg.hops)
        invitation = Invitation(
            destination=transfer.admission.destination,
            from_number=leg.from_number,
            sdp=leg.sdp,
            call_id=leg.sip_call_id,
            hops=leg.hops,
            max_forwards=max(1, min(70, call.max_forwards) - 1),
        )

        def began(key: CallKey) -> None:
            leg.key = key
            self._by_key[key] = transfer

        transfer.timer = self._means.call_later(self._means.outward.ring_timeout_s, lambda: self._ring_out(transfer))
        outward.invite(outward.dialler.invite(transfer.way, invitation), began)

    def _ring_out(self, transfer: Transfer) -> None:
        if transfer.state is State.DIALLING:
            transfer.leg_end = ("edge", "no_answer")
            self._settle(transfer, 408, f"nobody answered in {self._means.outward.ring_timeout_s:g} s")
            self._feed(transfer, Input.FAILED)

    def _join(self, transfer: Transfer) -> None:
        self._stop_timer(transfer)
        if transfer.leg is not None:
            self._motor.journal(transfer.leg, "answered", {})
        self._means.outward.guard.answered(transfer.admission.ticket)
        left_s = max(1.0, transfer.admission.left_s)
        transfer.timer = self._means.call_later(left_s, lambda: self._used_up(transfer))
        self._motor.spawn(transfer.call, self._joined(transfer), "join the legs")

    async def _joined(self, transfer: Transfer) -> None:
        call = transfer.call.id
        if not transfer.offered:
            applied = await self._motor.request(ApplyAnswer(call=call, answer=transfer.answer or b"", second=True))
            if not isinstance(applied, Done):
                self._settle(transfer, 488, "the target's answer cannot be used")
                self._feed(transfer, Input.FAILED)
                return
        if transfer.state is not State.JOINED:
            return
        self._motor.note(transfer.call, "transferred", f"to {transfer.target}")
        status, phrase = transfer.status, transfer.phrase
        await self._motor.tell(transfer.call, "transfer", status=status, phrase=phrase, final=True)
        joined = await self._motor.request(JoinLegs(call=call, agent=transfer.place))
        if not isinstance(joined, Done):
            self._settle(transfer, 503, "the legs could not be joined")
            self._feed(transfer, Input.FAILED)
            return
        self._conclude(transfer, moved=True)

    def _used_up(self, transfer: Transfer) -> None:
        if transfer.state is State.JOINED:
            transfer.leg_end = ("edge", "minutes_used_up")
            self._settle(transfer, 0, "the account's outgoing minutes of the day are used up")
            self._feed(transfer, Input.FAILED)

    def _hang_up_leg(self, transfer: Transfer) -> None:
        if transfer.leg is not None:
            self._by_key.pop(transfer.leg.key, None)
            self._means.outward.cancel(transfer.leg.key, transfer.phrase or None)

    def _close_leg(self, transfer: Transfer) -> None:
        self._motor.spawn(transfer.call, self._closed(transfer), "close second leg")

    async def _closed(self, transfer: Transfer) -> None:
        leg = transfer.leg
        if leg is None:
            return
        result = await self._motor.request(CloseSecondLeg(call=transfer.call.id))
        statistics = result.statistics if isinstance(result, CallClosed) else None
        if leg.port is not None:
            self._means.ports.release(leg.port, self._means.now())
            leg.port = None
        self._leg_recorded(transfer, leg, statistics)

    def _leg_recorded(self, transfer: Transfer, leg: Call, statistics: LegStatistics | None) -> None:
        end = End(*transfer.leg_end, transfer.status or None, transfer.phrase)
        self._motor.journal(leg, "ended", end_data(end, statistics))

    def _tell(self, transfer: Transfer) -> None:
        moved = transfer.has_moved
        if not transfer.done.done():
            self._motor.note(
                transfer.call, "transferred" if moved else "transfer_failed", f"{transfer.status} {transfer.phrase}"
            )
            self._tell_agent(transfer, transfer.status, transfer.phrase, final=True)
            self._conclude(transfer, moved=moved)

    def _conclude(self, transfer: Transfer, *, moved: bool) -> None:
        if transfer.done.done():
            return
        transfer.done.set_result(Outcome(moved, transfer.status, transfer.phrase))
        outcome = "moved" if moved else "failed"
        self._means.counters.add("transfers", method=transfer.method, outcome=outcome)
        fields = {"call": transfer.call.id, "target": transfer.target, "method": transfer.method, "by": transfer.by}
        log.info("transfer %s", outcome, extra={**fields, "status": transfer.status, "phrase": transfer.phrase})

    def _end_call(self, transfer: Transfer) -> None:
        """An agent that has stayed has the caller back."""
        if transfer.method != "bridge":
            self._motor.end(transfer.call.id, transfer.by, "transferred", f"to {transfer.target}")
        elif transfer.place == "listens":
            self._tell_agent(transfer, transfer.status, transfer.phrase, final=True)
        else:
            self._motor.end(transfer.call.id, "callee", "target_hung_up", transfer.phrase)
        self._conclude(transfer, moved=transfer.method != "bridge")

    def _release(self, transfer: Transfer) -> None:
        self._stop_timer(transfer)
        self._means.outward.carrier.revoke(transfer.call)
        leg = transfer.leg
        if transfer.has_moved and transfer.way.carrier == "twilio":
            self._follow(transfer)
        else:
            self._means.outward.guard.release(transfer.admission.ticket)
        if leg is not None:
            self._means.outward.hops.remove(leg.from_number, leg.to_number, leg.hops)
            self._by_key.pop(leg.key, None)
        self._by_call.pop(transfer.call.id, None)
        self._conclude(transfer, moved=False)

    def _stop_timer(self, transfer: Transfer) -> None:
        if transfer.timer is not None:
            transfer.timer.cancel()

    _carry_out: Mapping[Action, Callable[[Transfers, Transfer], None]] = MappingProxyType(
        {
            Action.SEND_REFER: _send_refer,
            Action.ASK_CARRIER: _ask_carrier,
            Action.OPEN_LEG: _open_leg,
            Action.DIAL: _dial,
            Action.JOIN: _join,
            Action.CLOSE_LEG: _close_leg,
            Action.HANG_UP_LEG: _hang_up_leg,
            Action.TELL: _tell,
            Action.END_CALL: _end_call,
            Action.RELEASE: _release,
        }
    )


def _is_up(call: Call) -> bool:
    return call.route is not None and call.state is CallState.ESTABLISHED
