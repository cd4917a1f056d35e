"""Drives each call from its offer to its record.

One call is a small state machine, :data:`control.call_table.TRANSITIONS`; this module carries out its
actions. What the engine, media, the registry or an operator say becomes an :class:`Input`; a pair
absent from the table is ignored (a BYE that crosses ours, an agent that ends twice).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Final

from config.settings import Agents, Limits
from control.admission import CallAdmission
from control.call import Call, End
from control.call_context import crossing, headers_of, sid
from control.call_journal import CallJournal
from control.call_media import CallMedia
from control.call_table import END_REASONS, REFUSALS, TRANSITIONS, Action, Input, State
from control.caps import Caps
from control.delays import CallDelays
from control.entropy import new_id
from control.fallback import UNANSWERED, Fallback
from control.hold import HoldOutcome
from control.hops import Hops
from control.info_digits import InfoDigits
from control.instructions import Instruction
from control.live_calls import CallCommand, LiveCall
from control.metrics import Readings
from control.motor import Motor
from control.outbound import Order, Outbound, Outward, PlaceRefused
from control.registry.types import RegistryError, Route
from control.renegotiation import Renegotiation
from control.script import perform
from control.surroundings import Surroundings
from control.toll import TollRefusal
from control.transfers import AgentPlace, Means, Transfer, TransferRefused, Transfers
from edge.counters import printable
from edge.events import (
    CallAnswered,
    CallConfirmed,
    CallEnded,
    CallKey,
    CallOffered,
    CallProgressed,
    Cause,
    DigitPressed,
    Event,
    MediaAnswered,
    MediaOffered,
    MediaRefused,
    Party,
)
from edge.reasons import parse_reasons
from media.client import MediaError
from media.messages import (
    AgentAsks,
    AgentEnded,
    AgentFailed,
    AgentNoted,
    AgentReady,
    Command,
    DigitReceived,
    DigitsUnsent,
    Done,
    Failed,
    HearDigit,
    LegPolicy,
    LegStatistics,
    MachineDetected,
    MarkReached,
    MediaLost,
    NoticeBody,
    RecordingEnded,
    Result,
    SendDigits,
    SourceLearnt,
    Statistics,
)

__all__ = ["CallManager"]

_AGENT_END: Final = {"hang_up": "agent_hung_up", "closed": "agent_closed", "lost": "agent_lost"}
_AGENT_FAILURE: Final = {
    "timeout": "agent_unavailable",
    "refused": "agent_refused",
    "error": "agent_unavailable",
    "forbidden": "agent_forbidden",
}
_SIP_END: Final = {
    Cause.CANCELLED: "caller_cancelled",
    Cause.NO_ACK: "no_ack",
    Cause.EXPIRED: "session_expired",
}
_MEDIA_DEADLINE_S: Final = 5.0


class CallManager:
    """All calls of the process.

    ``policy`` gives a trunk's :class:`~media.messages.LegPolicy`. Feed it the engine's events
    (:meth:`on_event`) and media's notices (:meth:`on_notice`).
    """

    def __init__(
        self, surroundings: Surroundings, limits: Limits, agents: Agents, policy: Callable[[str], LegPolicy]
    ) -> None:
        self._do = do = surroundings
        self._limits = limits
        self._by_key: dict[CallKey, Call] = {}
        self._by_id: dict[str, Call] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._delays = CallDelays()
        self._journal = CallJournal(do.journal, now=do.now, wall=do.wall)
        self._motor = motor = Motor(
            feed=self._feed,
            end=self._end,
            begin=self._begin,
            bind=self._bind,
            journal=self._journal.write,
            note=self._journal.note,
            request=self._request,
            spawn=self._spawn,
        )
        caps = Caps(limits)
        self._fallback = Fallback(motor, caps, do.ports, do.counters, now=do.now)
        self._admission = CallAdmission(
            motor,
            self._journal,
            self._fallback,
            find=do.find,
            caps=caps,
            ports=do.ports,
            hops=Hops() if do.outward is None else do.outward.hops,
            agents=agents,
            now=do.now,
            wall=do.wall,
        )
        self._media = CallMedia(motor, do, self._fallback, policy)
        self._renegotiation = Renegotiation(motor, do.signalling, self._media, do.counters)
        self._info_digits = InfoDigits(do.signalling, do.counters, policy, do.call_later)
        self._outbound: Outbound | None = None
        self._transfers: Transfers | None = None
        if do.outward is not None:
            self._reach_out(do, do.outward, policy)
        self._carry_out = self._actions()

    def _reach_out(self, do: Surroundings, outward: Outward, policy: Callable[[str], LegPolicy]) -> None:
        self._outbound = Outbound(
            self._motor, outward, call_later=do.call_later, entropy=do.entropy, now=do.now, delays=self._delays
        )
        means = Means(
            outward=outward,
            signalling=do.signalling,
            ports=do.ports,
            policy=policy,
            counters=do.counters,
            call_later=do.call_later,
            now=do.now,
            entropy=do.entropy,
        )
        self._transfers = Transfers(self._motor, means)

    # --- what the world says ---

    def __len__(self) -> int:
        """Calls not yet recorded as ended."""
        return len(self._by_id)

    def readings(self) -> Readings:
        """How long calls have waited."""
        return self._delays.readings()

    def on_event(self, event: Event) -> None:
        """One event of the SIP engine; events of calls that are not ours are ignored."""
        if self._transfers is not None and self._transfers.on_event(event):
            return
        match event:
            case CallOffered():
                self._offered(event)
            case CallProgressed(key=key):
                if (call := self._by_key.get(key)) and self._outbound is not None:
                    self._outbound.progressed(call, event)
            case CallAnswered(key=key):
                if (call := self._by_key.get(key)) and self._outbound is not None:
                    self._outbound.taken(call, event)
            case CallConfirmed(key, body):
                if call := self._by_key.get(key):
                    call.confirmed_body = body
                    self._feed(call, Input.CONFIRMED)
            case CallEnded(key):
                if call := self._by_key.get(key):
                    self._sip_ended(call, event)
            case MediaOffered(key, offer):
                if call := self._by_key.get(key):
                    self._renegotiation.offered(call, offer)
            case MediaAnswered(key) | MediaRefused(key):
                if call := self._by_key.get(key):
                    self._renegotiation.answered(call, event)
            case DigitPressed(key, digit, duration_ms):
                if call := self._by_key.get(key):
                    heard = HearDigit(call=call.id, digit=digit, duration_ms=duration_ms)
                    self._spawn(call, self._tell_media(heard), "digit")
            case _:
                pass

    def on_notice(self, notice: NoticeBody) -> None:
        """One notice of media."""
        match notice:
            case AgentReady(call=id, connected_s=connected_s):
                if call := self._by_id.get(id):
                    self._journal.note(call, "agent_ready")
                    self._feed(call, Input.AGENT_READY)
                    if call.spec is not None:
                        self._delays.agent_connected(call.spec.protocol, connected_s)
            case AgentFailed(call=id, cause=cause, message=message):
                if call := self._by_id.get(id):
                    self._fallback.take_over(call, _AGENT_FAILURE.get(cause, "agent_unavailable"), message)
            case AgentEnded(call=id, cause=cause, message=message):
                if call := self._by_id.get(id):
                    call.goodbye = call.goodbye or notice.headers
                    self._agent_ended(call, cause, message)
            case AgentAsks(call=id, verb="transfer", arguments=arguments) if self._transfers is not None:
                if call := self._by_id.get(id):
                    self._spawn(call, self._transfer_for_agent(call, arguments), "transfer")
            case AgentAsks(call=id, verb=verb):
                if call := self._by_id.get(id):
                    self._spawn(call, self._asked(call, verb), f"the agent's {verb}")
            case AgentNoted(call=id, event=event, detail=detail):
                if call := self._by_id.get(id):
                    self._do.counters.add("agent_events", event=event)
                    self._journal.note(call, event, detail)
            case MarkReached(call=id, name=name, cleared=cleared):
                if call := self._by_id.get(id):
                    self._journal.note(call, "mark_cleared" if cleared else "mark_reached", printable(name))
            case MediaLost(call=id, kind=kind):
                self._end(id, "edge", "no_media" if kind == "never" else "media_lost")
            case DigitReceived(call=id, digit=digit):
                if call := self._by_id.get(id):
                    self._journal.note(call, "digit", digit)
            case DigitsUnsent(call=id, digits=digits, second=True):
                if (call := self._by_id.get(id)) and self._transfers is not None:
                    self._transfers.press(call, digits)
            case DigitsUnsent(call=id, digits=digits):
                if call := self._by_id.get(id):
                    self._info_digits.press(call, digits)
            case SourceLearnt(call=id, address=address):
                if call := self._by_id.get(id):
                    self._journal.note(call, "media_from", address)
            case MachineDetected(call=id, result=result, after_ms=after_ms):
                if call := self._by_id.get(id):
                    self._do.counters.add("machine_detections", result=result)
                    self._journal.note(call, "machine_detection", f"{result} after {after_ms / 1000:.2f} s")
            case RecordingEnded():
                self._do.recordings.on_ended(notice)
            case Statistics(calls=calls):
                self._statistics(calls)

    def on_lost(self, calls: Iterable[str]) -> None:
        """The media worker of these calls has died."""
        calls = tuple(calls)
        self._do.recordings.on_lost(calls)
        for call_id in calls:
            self._end(call_id, "edge", "media_worker_died")

    async def hang_up(self, account_id: str, call_id: str, by: str, headers: Mapping[str, str] | None = None) -> bool:
        """End a live call of this account, with these headers on the BYE; False when it has none of that id."""
        call = self._own(account_id, call_id)
        if call is None:
            return False
        reason = "agent_hung_up" if by == "agent" else "operator_hung_up"
        call.goodbye = call.goodbye or dict(headers or {})
        self._end(call.id, by, reason)
        return True

    async def hold(self, account_id: str, call_id: str) -> HoldOutcome:
        """Put the phone of a live call of this account on hold: it hears the agent's hold music."""
        return await self._hold_of(account_id, call_id, held=True)

    async def resume(self, account_id: str, call_id: str) -> HoldOutcome:
        """Take a held phone back."""
        return await self._hold_of(account_id, call_id, held=False)

    async def _hold_of(self, account_id: str, call_id: str, *, held: bool) -> HoldOutcome:
        call = self._own(account_id, call_id)
        return HoldOutcome.NO_CALL if call is None else await self._renegotiation.hold(call, held=held, by="operator")

    async def command(self, account_id: str, command: CallCommand) -> Result | None:
        """See :class:`control.live_calls.LiveCalls`."""
        call = self._own(account_id, command.call)
        if call is None or call.state is not State.ESTABLISHED:
            return None if call is None else _not_established(call)
        result = await self._request(command)
        if isinstance(command, SendDigits) and _wants_info(result) and self._info_digits.allowed(call):
            self._info_digits.press(call, command.digits)
            result = Done()
        if isinstance(result, Done):
            self._journal.done(call, command)
        return result

    async def perform(self, account_id: str, call_id: str, instructions: Sequence[Instruction]) -> Result | None:
        """See :class:`control.live_calls.LiveCalls`."""
        call = self._own(account_id, call_id)
        if call is None or call.state is not State.ESTABLISHED:
            return None if call is None else _not_established(call)
        call.scripts += 1
        self._spawn(call, perform(instructions, _ScriptLine(self, call, call.scripts)), "instructions")
        return Done()

    async def pause(self, seconds: float) -> None:
        """On this manager's clock."""
        over = asyncio.get_running_loop().create_future()
        self._do.call_later(seconds, lambda: None if over.done() else over.set_result(None))
        await over

    def end(self, call_id: str, by: str, reason: str) -> None:
        """End a live call; the first reason counts."""
        self._end(call_id, by, reason)

    async def transfer_or_tell(self, call: Call, target: str) -> None:
        """For instructions, whose asker has gone: a transfer that is refused is told to the agent."""
        await self._transfer_for_agent(call, {"target": target})

    def _own(self, account_id: str, call_id: str) -> Call | None:
        call = self._by_id.get(call_id) or self._by_sid(call_id)
        return call if call is not None and call.account_id == account_id else None

    def place(self, order: Order, id: str | None = None) -> str:
        """Call somebody; the call's id. Raises :class:`control.outbound.PlaceRefused`."""
        if self._outbound is None:
            raise PlaceRefused("internal_error")
        return self._outbound.place(order, id)

    async def transfer(
        self, account_id: str, call_id: str, target: str, *, by: str = "operator", agent: AgentPlace = "leaves"
    ) -> Transfer:
        """Hand a live call's caller to ``target``, E.164 or a listed SIP URI; :meth:`Transfer.outcome` tells the rest.

        Raises :class:`control.transfers.TransferRefused` (``not_live`` for no such call of the account),
        :class:`control.toll.TollRefusal`, or what the registry raises.
        """
        call = self._own(account_id, call_id)
        if call is None or self._transfers is None:
            raise TransferRefused("not_live", "there is no such live call")
        return await self._transfers.begin(call, target, by, agent)

    def carrier_says(self, call_id: str, status: str) -> None:
        """How a call goes that a carrier was asked to place; unknown calls are ignored."""
        call = self._by_id.get(call_id)
        if call is not None and self._outbound is not None:
            self._outbound.carrier_says(call, status)
        elif self._transfers is not None:
            self._transfers.carrier_says(call_id, status)

    async def _transfer_for_agent(self, call: Call, arguments: Mapping[str, str]) -> None:
        """The agent hears how it goes, a refusal too."""
        place: AgentPlace = "listens" if arguments.get("agent") == "listens" else "leaves"
        try:
            await self.transfer(call.account_id, call.id, arguments.get("target", ""), by="agent", agent=place)
        except (TransferRefused, TollRefusal) as error:
            status, phrase = 403, str(error)
        except RegistryError:
            status, phrase = 503, "the registry does not answer"
        else:
            return
        self._do.counters.add("agent_requests_refused", verb="transfer")
        await self._motor.tell(call, "transfer", status=status, phrase=phrase, final=True)

    def _by_sid(self, call_id: str) -> Call | None:
        """A call the agent knows by its carrier's id, read as a UUID like ours."""
        wanted = sid("CA", call_id)
        return next((call for call in self._by_id.values() if call.found and call.found.call_sid == wanted), None)

    def hang_up_all(self) -> None:
        """End every call (a drain that reached its deadline)."""
        for call_id in tuple(self._by_id):
            self._end(call_id, "operator", "operator_hung_up", "the edge is stopping")

    async def idle(self) -> None:
        """Returns once no call is left."""
        await self._idle.wait()

    def forget_moved(self) -> None:
        """The edge stops: what becomes of callers whom a carrier has moved is not heard of any more."""
        if self._transfers is not None:
            self._transfers.forget_moved()

    async def live(self, account_id: str, call_id: str) -> LiveCall | None:
        """See :class:`control.live_calls.LiveCalls`."""
        call = self._by_id.get(call_id)
        if call is None or call.route is None or call.account_id != account_id:
            return None
        return _live_call(call, call.route, self._do.now() - call.started)

    # --- the machine's motor ---

    def _feed(self, call: Call, event: Input) -> None:
        transition = TRANSITIONS.get((call.state, event))
        if transition is None:
            return
        call.state, actions = transition
        for action in actions:
            self._carry_out[action](call)

    def _end(self, call_id: str, by: str, reason: str, detail: str = "", *, refused: bool = False) -> None:
        call = self._by_id.get(call_id)
        if call is None:
            return
        if call.end is None:
            call.end = End(by, reason, detail=detail)
        self._feed(call, Input.REFUSED if refused else Input.HANG_UP)

    def _agent_ended(self, call: Call, cause: str, message: str) -> None:
        if call.fallen is not None:
            self._end(call.id, "edge", "fallback_message", call.fallen)
        elif cause == "lost" and call.state in UNANSWERED:
            self._fallback.take_over(call, "agent_left", message)
        else:
            self._end(call.id, "agent", _AGENT_END.get(cause, "agent_lost"), message)

    # --- inputs that need work ---

    def _offered(self, offered: CallOffered) -> None:
        do = self._do
        if self._outbound is not None and self._outbound.offered(offered, self._by_id.get):
            return
        call = Call.of(offered, new_id(do.entropy), do.now())
        self._by_key[offered.key] = call
        self._by_id[call.id] = call
        self._idle.clear()
        self._admission.offered(call, offered)

    def _begin(self, call: Call) -> str | None:
        """Take in a call that the edge places."""
        full = self._admission.placed(call)
        if full is None:
            self._by_id[call.id] = call
            self._idle.clear()
            self._media.open(call)
        return full

    def _bind(self, call: Call, key: CallKey) -> None:
        self._by_key.pop(call.key, None)
        call.key = key
        self._by_key[key] = call

    def _sip_ended(self, call: Call, ended: CallEnded) -> None:
        answered = call.state in (State.ANSWERED, State.ESTABLISHED)
        if call.end is None and call.outgoing is not None and self._outbound is not None and not answered:
            call.end = self._outbound.end_of(ended)
        elif call.end is None:
            by = call.peer if ended.by is Party.REMOTE else "edge"
            hung_up = ended.cause is Cause.BYE
            reason = f"{call.peer}_hung_up" if hung_up else _SIP_END.get(ended.cause, "signalling_lost")
            told = ended.reason_headers
            call.end = End(by, reason, ended.status or None, next(iter(told), ""), parse_reasons(told))
            if ended.by is Party.REMOTE:
                call.goodbye = crossing(ended.headers)
        self._by_key.pop(call.key, None)
        call.holding.over()
        self._feed(call, Input.SIP_ENDED)

    # --- what the agent asks for ---

    async def _asked(self, call: Call, verb: str) -> None:
        if verb not in ("hold", "resume"):
            await self._refuse_wish(call, verb, "not supported on this call")
            return
        outcome = await self._renegotiation.hold(call, held=verb == "hold", by="agent")
        if outcome is not HoldOutcome.DONE:
            await self._refuse_wish(call, verb, outcome.value)

    async def _refuse_wish(self, call: Call, verb: str, message: str) -> None:
        self._do.counters.add("agent_requests_refused", verb=verb)
        await self._motor.tell(call, "refused", verb=verb, message=message)

    async def _tell_media(self, command: Command) -> None:
        await self._request(command)

    def _statistics(self, calls: Mapping[str, LegStatistics]) -> None:
        for call_id, statistics in calls.items():
            if call := self._by_id.get(call_id):
                call.statistics = statistics

    # --- actions ---

    def _ring(self, call: Call) -> None:
        self._journal.note(call, "ringing")
        self._do.signalling.ring(call.key, headers_of(call))
        self._delays.rang("inbound", self._do.now() - call.started)

    def _answer(self, call: Call) -> None:
        self._journal.write(call, "answered", {})
        self._do.signalling.answer(call.key, call.sdp, headers_of(call))
        if call.direction == "inbound":
            self._delays.answered(self._do.now() - call.started)
        self._limit_length(call)

    def _limit_length(self, call: Call) -> None:
        length_s = self._limits.call_length_s
        if call.outgoing is not None and self._outbound is not None:
            length_s = min(length_s, self._outbound.answered(call))
        call.length_timer = self._do.call_later(length_s, lambda: self._end(call.id, "edge", "call_length"))

    def _send_refusal(self, call: Call) -> None:
        end = call.end or End("edge", "internal_error")
        reason = end.reason if end.reason in REFUSALS else "agent_left"
        refusal = REFUSALS[reason]
        call.end = End(end.by, end.reason, refusal.status, end.detail)
        self._do.counters.add("calls_refused", reason=reason, status=str(refusal.status))
        self._do.signalling.refuse(call.key, refusal)

    def _hang_up(self, call: Call) -> None:
        reason = call.end.reason if call.end is not None else "internal_error"
        headers = headers_of(call) + tuple(call.goodbye.items())
        self._do.signalling.hang_up(call.key, END_REASONS.get(reason, reason), headers)

    def _dial(self, call: Call) -> None:
        if self._outbound is not None:
            self._outbound.dial(call)

    def _cancel(self, call: Call) -> None:
        if self._outbound is not None:
            self._outbound.cancel(call)

    def _join(self, call: Call) -> None:
        if self._outbound is not None:
            self._outbound.join(call)

    def _note_answer(self, call: Call) -> None:
        self._journal.write(call, "answered", {})
        self._limit_length(call)

    def _close_media(self, call: Call) -> None:
        if self._transfers is not None:
            self._transfers.call_ended(call)
        self._media.close(call)

    def _record_end(self, call: Call) -> None:
        end = call.end or End("edge", "internal_error")
        if call.length_timer is not None:
            call.length_timer.cancel()
        self._admission.leave(call)
        if call.outgoing is not None and self._outbound is not None:
            self._outbound.over(call)
        self._by_id.pop(call.id, None)
        self._by_key.pop(call.key, None)
        self._do.counters.add("calls_ended", reason=end.reason, by=end.by)
        self._journal.ended(call, end)
        if not self._by_id:
            self._idle.set()

    def _actions(self) -> Mapping[Action, Callable[[Call], None]]:
        return {
            Action.RING: self._ring,
            Action.OPEN_MEDIA: self._media.open,
            Action.REOPEN_MEDIA: self._media.reopen,
            Action.ANSWER: self._answer,
            Action.REFUSE: self._send_refusal,
            Action.START_MEDIA: self._media.start,
            Action.HANG_UP: self._hang_up,
            Action.CLOSE_MEDIA: self._close_media,
            Action.RECORD_END: self._record_end,
            Action.DIAL: self._dial,
            Action.JOIN: self._join,
            Action.CANCEL: self._cancel,
            Action.NOTE_ANSWER: self._note_answer,
        }

    async def _request(self, command: Command) -> Result:
        try:
            return await self._do.media.request(command, deadline_s=_MEDIA_DEADLINE_S)
        except MediaError as error:
            self._do.counters.add("media_requests_failed", command=type(command).__name__)
            return Failed(code="media_unavailable", message=str(error))

    def _spawn(self, call: Call, work: Coroutine[Any, Any, None], what: str) -> None:
        def failed(error: Exception) -> None:
            if call.state is State.CLOSING:
                self._feed(call, Input.CLOSED)
            self._end(call.id, "edge", "internal_error", type(error).__name__, refused=True)

        self._do.spawn(work, f"{what} {call.id}", failed=failed)


class _ScriptLine:
    """A call as :func:`control.script.perform` sees it; a script that is not its latest sees one that has ended."""

    def __init__(self, calls: CallManager, call: Call, script: int) -> None:
        self._calls = calls
        self._call = call
        self._script = script

    @property
    def up(self) -> bool:
        return self._call.state is State.ESTABLISHED and self._call.scripts == self._script

    async def send_digits(self, digits: str) -> None:
        await self._calls.command(self._call.account_id, SendDigits(call=self._call.id, digits=digits))

    async def pause(self, seconds: float) -> None:
        await self._calls.pause(seconds)

    async def transfer(self, target: str) -> None:
        await self._calls.transfer_or_tell(self._call, target)

    def hang_up(self) -> None:
        self._calls.end(self._call.id, "agent", "agent_hung_up")


def _not_established(call: Call) -> Failed:
    return Failed(code="not_established", message=f"the call is {call.state.value}")


def _wants_info(result: Result) -> bool:
    return isinstance(result, Failed) and result.code == "no_telephone_event"


def _live_call(call: Call, route: Route, age_s: float) -> LiveCall:
    return LiveCall(
        id=call.id,
        account_id=call.account_id,
        number_id=route.number.id,
        agent_id=route.number.agent_id or "",
        trunk=call.trunk,
        from_number=call.from_number,
        to_number=call.to_number,
        state=call.state.value,
        direction=call.direction,
        age_s=age_s,
        statistics=call.statistics,
    )
