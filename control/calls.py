"""Drives each call from its offer to its record.

One call is a small state machine, :data:`control.call_table.TRANSITIONS`; this module carries out its
actions. What the engine, media, the registry or an operator say becomes an :class:`Input`; a pair
absent from the table is ignored (a BYE that crosses ours, an agent that ends twice).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Protocol
from uuid import UUID

import msgspec

from config.settings import Agents, Limits
from control.agent_spec import agent_spec
from control.call import PRESS_MS, Call, End, Motor, Timer
from control.call_table import END_REASONS, REFUSALS, TRANSITIONS, Action, Input, State
from control.entropy import new_id
from control.hold import HoldOutcome, Line
from control.hops import LIMIT as HOPS_LIMIT
from control.hops import Hops
from control.identity import ANONYMOUS, recorded, told
from control.instructions import Instruction
from control.outbound import Order, Outbound, Outward, PlaceRefused
from control.ports import PortPool
from control.registry.types import Agent, CallEvent, Number, RegistryError, Route
from control.routing import Find, Found
from control.script import perform
from control.toll import TollRefusal
from control.transfers import AgentPlace, Means, Transfer, TransferRefused, Transfers
from edge.counters import Counters, printable
from edge.endpoint import OWN_HEADERS
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
    Refusal,
)
from edge.reasons import parse_reasons
from media.client import MediaError
from media.messages import (
    AgentAsks,
    AgentEnded,
    AgentFailed,
    AgentNoted,
    AgentReady,
    AgentSpec,
    ApplyAnswer,
    CallClosed,
    CallContext,
    CallOpened,
    CloseCall,
    Command,
    DetectionOrder,
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
    OpenCall,
    Play,
    RecordingEnded,
    RecordingOrder,
    Renegotiate,
    Result,
    SendDigits,
    SetMark,
    SourceLearnt,
    StartMedia,
    Statistics,
    TellAgent,
)

__all__ = [
    "END_REASONS",
    "REFUSALS",
    "TRANSITIONS",
    "Action",
    "CallManager",
    "HoldOutcome",
    "Input",
    "LiveCall",
    "Signalling",
    "State",
    "Surroundings",
]

log = logging.getLogger("truedy.calls")

_AGENT_END: Final = {"hang_up": "agent_hung_up", "closed": "agent_closed", "lost": "agent_lost"}
_AGENT_FAILURE: Final = {
    "timeout": "agent_unavailable",
    "refused": "agent_refused",
    "error": "agent_unavailable",
    "forbidden": "agent_forbidden",
}
_SIP_END: Final = {
    Cause.BYE: "caller_hung_up",
    Cause.CANCELLED: "caller_cancelled",
    Cause.NO_ACK: "no_ack",
    Cause.EXPIRED: "session_expired",
}
_MEDIA_DEADLINE_S: Final = 5.0
_PRESS_S: Final = 0.3
_PRESS_PAUSE_S: Final = 0.5

# --- what a call is joined to -----------------------------------------------------------------


Headers = tuple[tuple[str, str], ...]


class Signalling(Protocol):
    """The engine's commands that a call needs; none raises for a call that has ended."""

    def ring(self, key: CallKey, headers: Headers = ...) -> None: ...
    def progress(self, key: CallKey, status: int, body: bytes, headers: Headers = ...) -> None: ...
    def answer(self, key: CallKey, body: bytes, headers: Headers = ...) -> None: ...
    def refuse(self, key: CallKey, refusal: Refusal) -> None: ...
    def hang_up(self, key: CallKey, reason: str | None, headers: Headers = ...) -> None: ...
    def press(self, key: CallKey, digit: str, duration_ms: int) -> None: ...
    def accept_offer(self, key: CallKey, body: bytes) -> None: ...
    def refuse_offer(self, key: CallKey, refusal: Refusal) -> None: ...
    def reoffer(self, key: CallKey, body: bytes) -> None: ...


class MediaRequests(Protocol):
    """What carries a command to media; raises :class:`media.client.MediaError` when media is gone."""

    async def request(self, command: Command, deadline_s: float = ...) -> Result: ...


class CallLog(Protocol):
    """The journal."""

    def append(self, event: CallEvent) -> None: ...


class CallRecordings(Protocol):
    """:class:`control.recordings.Recordings`, as calls need it."""

    def order(
        self, call_id: str, agent: Agent, number: Number, started: float, wish: bool | None = None
    ) -> RecordingOrder | None: ...
    def begun(self, call_id: str, started: float, order: RecordingOrder) -> None: ...
    def on_ended(self, ended: RecordingEnded) -> None: ...
    def on_lost(self, calls: Iterable[str]) -> None: ...


class NoRecordings:
    """For calls that nobody records."""

    def order(
        self, call_id: str, agent: Agent, number: Number, started: float, wish: bool | None = None
    ) -> RecordingOrder | None:
        """None is to be made."""
        return None

    def begun(self, call_id: str, started: float, order: RecordingOrder) -> None:
        """It never does."""

    def on_ended(self, ended: RecordingEnded) -> None:
        """There is none to end."""

    def on_lost(self, calls: Iterable[str]) -> None:
        """Nor to lose."""


class Spawn(Protocol):
    """:meth:`control.supervisor.Supervisor.spawn`."""

    def __call__(
        self, work: Coroutine[Any, Any, None], name: str, *, failed: Callable[[Exception], None] | None = None
    ) -> object: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Everything outside that a call touches. Clocks: ``now`` monotonic [s], ``wall`` UTC [s]."""

    signalling: Signalling
    media: MediaRequests
    find: Find
    journal: CallLog
    ports: PortPool
    counters: Counters
    spawn: Spawn
    now: Callable[[], float]
    wall: Callable[[], float]
    call_later: Callable[[float, Callable[[], None]], Timer]
    entropy: Callable[[int], bytes]
    outward: Outward | None = None
    """What calls that go out need; None where none are placed and none is transferred."""
    recordings: CallRecordings = field(default_factory=NoRecordings)
    detect: Callable[[Agent], DetectionOrder | None] = lambda agent: None
    conversation: bool = True


@dataclass(frozen=True, slots=True)
class LiveCall:
    """One live call (:class:`control.operations.LiveCall`); ``age_s`` [s] counts from the offer."""

    id: str
    account_id: str
    number_id: str
    agent_id: str
    trunk: str
    from_number: str
    to_number: str
    state: str
    direction: str
    age_s: float
    statistics: LegStatistics | None


# --- the manager ------------------------------------------------------------------------------


class CallManager:
    """All calls of the process.

    ``policy`` gives a trunk's :class:`~media.messages.LegPolicy`. Feed it the engine's events
    (:meth:`on_event`) and media's notices (:meth:`on_notice`).
    """

    def __init__(
        self, surroundings: Surroundings, limits: Limits, agents: Agents, policy: Callable[[str], LegPolicy]
    ) -> None:
        self._do = surroundings
        self._limits = limits
        self._agents = agents
        self._policy = policy
        self._by_key: dict[CallKey, Call] = {}
        self._by_id: dict[str, Call] = {}
        self._live: Counter[tuple[str, str]] = Counter()
        self._idle = asyncio.Event()
        self._idle.set()
        self._hops = Hops()
        self._outbound: Outbound | None = None
        self._transfers: Transfers | None = None
        if surroundings.outward is not None:
            self._reach_out(surroundings, surroundings.outward)

    def _reach_out(self, do: Surroundings, outward: Outward) -> None:
        motor = Motor(
            self._feed, self._end, self._begin, self._bind, self._journal, self._note, self._request, self._spawn
        )
        self._hops = outward.hops
        self._outbound = Outbound(motor, outward, call_later=do.call_later, entropy=do.entropy, now=do.now)
        means = Means(
            outward=outward,
            signalling=do.signalling,
            ports=do.ports,
            policy=self._policy,
            counters=do.counters,
            call_later=do.call_later,
            now=do.now,
            entropy=do.entropy,
        )
        self._transfers = Transfers(motor, means)

    # --- what the world says ---

    def __len__(self) -> int:
        """Calls not yet recorded as ended."""
        return len(self._by_id)

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
                    self._reoffered(call, offer)
            case MediaAnswered(key) | MediaRefused(key):
                if call := self._by_key.get(key):
                    self._settled(call, event)
            case DigitPressed(key, digit, duration_ms):
                if call := self._by_key.get(key):
                    heard = HearDigit(call=call.id, digit=digit, duration_ms=duration_ms)
                    self._spawn(call, self._tell_media(heard), "digit")
            case _:
                pass

    def on_notice(self, notice: NoticeBody) -> None:
        """One notice of media."""
        match notice:
            case AgentReady(call=id):
                if call := self._by_id.get(id):
                    self._note(call, "agent_ready")
                    self._feed(call, Input.AGENT_READY)
            case AgentFailed(call=id, cause=cause, message=message):
                if call := self._by_id.get(id):
                    self._without_agent(call, _AGENT_FAILURE.get(cause, "agent_unavailable"), message)
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
                    self._note(call, event, detail)
            case MarkReached(call=id, name=name, cleared=cleared):
                if call := self._by_id.get(id):
                    self._note(call, "mark_cleared" if cleared else "mark_reached", printable(name))
            case MediaLost(call=id, kind=kind):
                self._end(id, "edge", "no_media" if kind == "never" else "media_lost")
            case DigitReceived(call=id, digit=digit):
                if call := self._by_id.get(id):
                    self._note(call, "digit", digit)
            case DigitsUnsent(call=id, digits=digits, second=True):
                if (call := self._by_id.get(id)) and self._transfers is not None:
                    self._transfers.press(call, digits)
            case DigitsUnsent(call=id, digits=digits):
                if call := self._by_id.get(id):
                    self._press(call, digits)
            case SourceLearnt(call=id, address=address):
                if call := self._by_id.get(id):
                    self._note(call, "media_from", address)
            case MachineDetected(call=id, result=result, after_ms=after_ms):
                if call := self._by_id.get(id):
                    self._do.counters.add("machine_detections", result=result)
                    self._note(call, "machine_detection", f"{result} after {after_ms / 1000:.2f} s")
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
        return HoldOutcome.NO_CALL if call is None else await self._hold(call, held=held)

    async def command(self, account_id: str, call_id: str, make: Callable[[str], Command]) -> Result | None:
        """See :class:`control.operations.LiveCalls`."""
        call = self._own(account_id, call_id)
        if call is None or call.state is not State.ESTABLISHED:
            return None if call is None else _not_established(call)
        command = make(call.id)
        result = await self._request(command)
        if isinstance(command, SendDigits) and _wants_info(result) and self._presses(call):
            self._press(call, command.digits)
            result = Done()
        if isinstance(result, Done):
            self._note(call, *_told(command))
        return result

    def _presses(self, call: Call) -> bool:
        """Whether digits may go to the phone by INFO."""
        return call.takes_info and self._policy(call.trunk).info_digits

    async def perform(self, account_id: str, call_id: str, instructions: Sequence[Instruction]) -> Result | None:
        """See :class:`control.operations.LiveCalls`."""
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
        data: dict[str, str | int | float | bool | None] = {"status": status, "phrase": phrase, "final": True}
        await self._request(TellAgent(call=call.id, event="transfer", data=data))

    def _by_sid(self, call_id: str) -> Call | None:
        """A call the agent knows by its carrier's id, read as a UUID like ours."""
        sid = _sid("CA", call_id)
        return next((call for call in self._by_id.values() if call.found and call.found.call_sid == sid), None)

    def hang_up_all(self) -> None:
        """End every call (a drain that reached its deadline)."""
        for call_id in tuple(self._by_id):
            self._end(call_id, "operator", "operator_hung_up", "the edge is stopping")

    async def idle(self) -> None:
        """Returns once no call is left."""
        await self._idle.wait()

    def live(self, account_id: str) -> list[LiveCall]:
        """The account's live calls that have been routed, oldest first."""
        now = self._do.now()
        return [
            _live_call(call, call.route, now - call.started)
            for call in self._by_id.values()
            if call.route is not None and call.account_id == account_id
        ]

    # --- the machine's motor ---

    def _feed(self, call: Call, event: Input) -> None:
        transition = TRANSITIONS.get((call.state, event))
        if transition is None:
            return
        call.state, actions = transition
        for action in actions:
            self._carry_out[action](self, call)

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
        elif cause == "lost" and call.state in _UNANSWERED:
            self._without_agent(call, "agent_left", message)
        else:
            self._end(call.id, "agent", _AGENT_END.get(cause, "agent_lost"), message)

    def _without_agent(self, call: Call, reason: str, detail: str = "") -> None:
        """No agent can take this call: the number's fallback does, or it is refused."""
        if not self._falls_back(call, reason, detail):
            self._refuse(call, reason, detail)

    def _falls_back(self, call: Call, reason: str, detail: str) -> bool:
        fallback = call.route.number.fallback if call.route is not None else None
        spec = None if fallback is None else _fallback_spec(fallback)
        if (
            fallback is None
            or spec is None
            or call.fallen is not None
            or call.end is not None
            or call.state not in _UNANSWERED
        ):
            return False
        if call.port is None:
            call.port = self._do.ports.lease(self._do.now())
        if call.port is None or self._count_in(call, *_fallback_keys(call)) is not None:
            return False
        call.fallen = f"{reason}: {detail}" if detail else reason
        call.spec = _fallback_spec(fallback)
        self._do.counters.add("calls_fallen_back", reason=reason)
        self._note(call, "fallback", f"{' '.join(next(iter(fallback.items())))}, for {reason}")
        self._feed(call, Input.FALL_BACK)
        return True

    def _refuse(self, call: Call, reason: str, detail: str = "") -> None:
        self._end(call.id, "edge", reason, detail, refused=True)

    # --- inputs that need work ---

    def _offered(self, offered: CallOffered) -> None:
        do = self._do
        if self._outbound is not None and self._outbound.offered(offered, self._by_id.get):
            return
        call = Call.of(offered, new_id(do.entropy), do.now())
        self._by_key[offered.key] = call
        self._by_id[call.id] = call
        self._idle.clear()
        if (full := self._first_full(("edge_full", ""), ("trunk_full", offered.trunk))) is not None:
            self._refuse(call, full)
            return
        self._spawn(call, self._look_up(call, offered), "look up")

    async def _look_up(self, call: Call, offered: CallOffered) -> None:
        try:
            found = await self._do.find(offered)
        except RegistryError as error:
            self._refuse(call, "registry_unavailable", str(error))
            return
        if call.state is not State.LOOKING_UP:
            return
        if found is None:
            self._refuse(call, "unknown_number", "tried " + ", ".join(map(printable, offered.dialed)))
            return
        self._routed(call, found)

    def _routed(self, call: Call, found: Found) -> None:
        route = found.route
        call.found, call.route = found, route
        call.to_number, call.from_number = found.number, found.from_number
        call.account_id = route.number.account_id
        call.headers += found.headers
        if call.hidden:
            call.from_number = ANONYMOUS
        self._journal(call, "offered", _offer_data(call, route))
        call.hops = self._hops.of(call.headers, found.from_number, call.to_number)
        if call.hops >= HOPS_LIMIT:
            self._refuse(call, "loop", f"it has been here {call.hops} times")
            return
        if route.agent is None:
            self._refuse(call, "unassigned_number")
            return
        spec = agent_spec(route.agent, self._agents, self._do.wall(), route.number.parameters)
        if spec is None:
            self._without_agent(call, "bad_agent")
            return
        call.spec = spec
        full = self._count_in(call, *_keys(call))
        if full is not None:
            self._without_agent(call, full)
            return
        call.port = self._do.ports.lease(self._do.now())
        if call.port is None:
            self._refuse(call, "no_media_port")
            return
        self._feed(call, Input.ROUTED)

    def _begin(self, call: Call) -> str | None:
        """Take in a call that the edge places."""
        full = self._count_in(call, *_keys(call))
        if full is None:
            call.port = self._do.ports.lease(self._do.now())
            full = "no_media_port" if call.port is None else None
        if full is not None or call.route is None:
            self._count_out(call)
            return full or "internal_error"
        self._by_id[call.id] = call
        self._idle.clear()
        self._journal(call, "offered", _offer_data(call, call.route))
        self._open_media(call)
        return None

    def _bind(self, call: Call, key: CallKey) -> None:
        self._by_key.pop(call.key, None)
        call.key = key
        self._by_key[key] = call

    def _sip_ended(self, call: Call, ended: CallEnded) -> None:
        if call.end is None and call.outgoing is not None and self._outbound is not None:
            call.end = self._outbound.end_of(call, ended)
        elif call.end is None:
            by = "caller" if ended.by is Party.REMOTE else "edge"
            reason = _SIP_END.get(ended.cause, "signalling_lost")
            reasons = parse_reasons(value for name, value in ended.headers if name.lower() == "reason")
            call.end = End(by, reason, ended.status or None, _reason_header(ended.headers), reasons)
            if ended.by is Party.REMOTE:
                call.goodbye = _crossing(ended.headers)
        self._by_key.pop(call.key, None)
        call.holding.over()
        self._feed(call, Input.SIP_ENDED)

    def _reoffered(self, call: Call, offer: bytes | None) -> None:
        if call.state not in (State.ESTABLISHED, State.DIALLING):
            self._do.signalling.refuse_offer(call.key, Refusal(491, "the call is not established"))
            return
        if call.holding.pending:  # RFC 3261 §14.2: an offer of ours is out, or about to be
            self._do.signalling.refuse_offer(call.key, Refusal(491, "an offer of ours is under way"))
            return
        call.holding.awaiting = offer is None
        if call.state is State.DIALLING:
            call.offer = offer  # theirs is what holds, whatever the 2xx says (RFC 3262 §5)
        self._spawn(call, self._renegotiate(call, offer), "renegotiate")

    async def _renegotiate(self, call: Call, offer: bytes | None) -> None:
        key = call.key
        result = await self._request(Renegotiate(call=call.id, offer=offer))
        if isinstance(result, CallOpened):
            self._do.signalling.accept_offer(key, result.sdp)
            await self._renegotiated(call, held=result.held)
            return
        code = result.code if isinstance(result, Failed) else "internal_error"
        call.holding.awaiting = False
        if call.state is State.DIALLING:
            call.offer = None
        self._count_refusal("reoffer_" + code, 488)
        self._do.signalling.refuse_offer(key, REFUSALS.get(code, REFUSALS["bad_sdp"]))

    async def _renegotiated(self, call: Call, *, held: bool) -> None:
        """The phone's offer is answered: a hold of its, the end of one, or a change of something else."""
        if held is call.holding.theirs:
            self._note(call, "held" if held else "renegotiated")
            return
        call.holding.theirs = held
        self._note(call, "held" if held else "resumed")
        await self._tell(call, "hold" if held else "resume", by="caller")

    # --- what the agent asks for ---

    async def _asked(self, call: Call, verb: str) -> None:
        if verb not in ("hold", "resume"):
            await self._refuse_wish(call, verb, "not supported on this call")
            return
        outcome = await self._hold(call, held=verb == "hold", by="agent")
        if outcome is not HoldOutcome.DONE:
            await self._refuse_wish(call, verb, outcome.value)

    async def _refuse_wish(self, call: Call, verb: str, message: str) -> None:
        self._do.counters.add("agent_requests_refused", verb=verb)
        await self._tell(call, "refused", verb=verb, message=message)

    async def _tell(self, call: Call, event: str, **data: str) -> None:
        if call.state is not State.ENDED:
            await self._request(TellAgent(call=call.id, event=event, data={**data}))

    async def _hold(self, call: Call, *, held: bool, by: str = "operator") -> HoldOutcome:
        if call.state is not State.ESTABLISHED:
            return HoldOutcome.NOT_ESTABLISHED
        return await call.holding.wish(self._line(call), held, by)

    def _line(self, call: Call) -> Line:
        return Line(call.id, call.key, self._request, self._do.signalling.reoffer)

    def _settled(self, call: Call, event: MediaAnswered | MediaRefused) -> None:
        """The phone has answered an offer of ours: a hold's, or one it had asked for itself."""
        refresh = isinstance(event, MediaAnswered) and event.refresh
        call.holding.awaiting = call.holding.awaiting and refresh
        if call.holding.pending and not refresh:
            self._spawn(call, self._held(call, event), "hold")
        elif isinstance(event, MediaAnswered) and event.answer is not None:
            self._spawn(call, self._apply_answer(call, event.answer, refresh=event.refresh), "answer")

    async def _held(self, call: Call, event: MediaAnswered | MediaRefused) -> None:
        if await call.holding.settle(self._line(call), event):
            ours = call.holding.ours
            self._note(call, "on_hold" if ours else "taken_back")
            await self._tell(call, "hold" if ours else "resume", by=call.holding.asked_by)

    async def _tell_media(self, command: Command) -> None:
        await self._request(command)

    def _press(self, call: Call, digits: str) -> None:
        """The agent's digits by INFO, one after the other, where the phone takes them no other way."""
        if not call.takes_info:
            self._do.counters.add("agent_requests_refused", verb="digits")
            return
        idle, call.pressing = not call.pressing, (call.pressing + digits)[:_MOST_DIGITS]
        if idle:
            self._press_next(call)

    def _press_next(self, call: Call) -> None:
        digit, call.pressing = call.pressing[:1].upper(), call.pressing[1:]
        if digit == _NO_MORE:
            digit, call.pressing = call.pressing[:1].upper(), call.pressing[1:]
        if not digit or call.state is not State.ESTABLISHED:
            call.pressing = ""
            return
        if digit != "W":
            self._do.signalling.press(call.key, digit, PRESS_MS)
        call.pressing = call.pressing or _NO_MORE
        delay_s = _PRESS_PAUSE_S if digit == "W" else _PRESS_S
        self._do.call_later(delay_s, lambda: self._press_next(call))

    async def _apply_answer(self, call: Call, answer: bytes, *, refresh: bool = False) -> None:
        result = await self._request(ApplyAnswer(call=call.id, answer=answer, refresh=refresh))
        if isinstance(result, Failed) and not refresh:
            self._end(call.id, "edge", "bad_answer", result.message)

    def _statistics(self, calls: Mapping[str, LegStatistics]) -> None:
        for call_id, statistics in calls.items():
            if call := self._by_id.get(call_id):
                call.statistics = statistics

    # --- caps ---

    def _first_full(self, *keys: tuple[str, str]) -> str | None:
        caps = {
            "edge_full": self._limits.calls,
            "trunk_full": self._limits.calls_per_trunk,
            "account_full": self._limits.calls_per_account,
            "number_full": self._limits.calls_per_did,
            "caller_full": self._limits.calls_per_caller,
            "fallback_full": self._limits.fallback_calls_per_account,
        }
        return next((key[0] for key in keys if self._live[key] >= caps[key[0]]), None)

    def _count_in(self, call: Call, *keys: tuple[str, str]) -> str | None:
        full = self._first_full(*keys)
        if full is None:
            self._live.update(keys)
            call.counted += keys
        return full

    def _count_out(self, call: Call) -> None:
        for key in call.counted:
            self._live[key] -= 1
            if not self._live[key]:
                del self._live[key]
        call.counted = ()

    # --- actions ---

    def _ring(self, call: Call) -> None:
        self._note(call, "ringing")
        self._do.signalling.ring(call.key, _headers_of(call))

    def _open_media(self, call: Call) -> None:
        self._spawn(call, self._open(call), "open media")

    def _reopen_media(self, call: Call) -> None:
        self._spawn(call, self._reopen(call), "open media anew")

    async def _reopen(self, call: Call) -> None:
        """For another agent than the one that was not reached; the phone has heard nothing but ringing."""
        await self._request(CloseCall(call=call.id, reason="fallback"))
        if call.state is State.OPENING:
            await self._open(call)

    async def _open(self, call: Call) -> None:
        call.recording = None
        if call.route is not None and call.route.agent is not None and call.fallen is None:
            wish = None if call.outgoing is None else call.outgoing.recorded
            call.recording = self._do.recordings.order(call.id, call.route.agent, call.route.number, call.started, wish)
        spec = call.spec
        call.seed = call.seed or self._do.entropy(_SEED_BYTES)
        for _ in range(_PORT_ATTEMPTS):
            if call.spec is None or call.port is None:
                return
            command = OpenCall(
                call=call.id,
                rtp_port=call.port,
                offer=call.offer,
                policy=self._policy(call.trunk),
                agent=call.spec,
                context=_context(call),
                recording=call.recording,
                detection=self._do.detect(call.route.agent) if call.route and call.route.agent else None,
                conversation=self._do.conversation,
                seed=call.seed,
            )
            result = await self._request(command)
            if not self._moved_on(call, result):
                break
        if call.spec is not spec:
            return  # it was not reached before this answer came, and another is being opened
        if isinstance(result, CallOpened):
            call.sdp = result.sdp
            await self._send_early(call)
            self._feed(call, Input.OPENED)
        elif isinstance(result, Failed) and result.code == "bad_agent":
            self._without_agent(call, "bad_agent", result.message)
        elif isinstance(result, Failed):
            self._refuse(call, _OPEN_FAILURE.get(result.code, "media_unavailable"), result.message)

    async def _send_early(self, call: Call) -> None:
        """183 with our description, and the agent is heard (an agent's ``early_media``); nobody is charged for it."""
        wanted = call.spec is not None and call.spec.early_media and call.offer is not None
        if not wanted or call.outgoing is not None or call.state not in (State.OPENING, State.OPENING_READY):
            return
        self._note(call, "early_media")
        call.described = True
        self._do.signalling.progress(call.key, 183, call.sdp, _headers_of(call))
        await self._request(StartMedia(call=call.id, early=True))

    def _moved_on(self, call: Call, result: Result | None) -> bool:
        """Whether the call has another pair of ports to try: another program may hold one of our range.

        Not once the phone has been told of this one: it keeps to the first description that it is given (RFC 3261
        §13.2.1).
        """
        taken = isinstance(result, Failed) and result.code == "port_unavailable"
        if not taken or call.end is not None or call.port is None or call.described:
            return False
        other = self._do.ports.lease(self._do.now())
        if other is None:
            return False
        log.warning("RTP port in use elsewhere", extra={"call": call.id, "port": call.port})
        self._do.ports.release(call.port, self._do.now())
        call.port = other
        return True

    def _answer(self, call: Call) -> None:
        self._journal(call, "answered", {})
        self._do.signalling.answer(call.key, call.sdp, _headers_of(call))
        self._limit_length(call)

    def _limit_length(self, call: Call) -> None:
        length_s = self._limits.call_length_s
        if call.outgoing is not None and self._outbound is not None:
            length_s = min(length_s, self._outbound.answered(call))
        call.length_timer = self._do.call_later(length_s, lambda: self._end(call.id, "edge", "call_length"))

    def _start_media(self, call: Call) -> None:
        self._note(call, "established")
        self._spawn(call, self._start(call), "start media")

    async def _start(self, call: Call) -> None:
        if call.offer is None:
            if call.confirmed_body is None:
                self._end(call.id, "edge", "bad_answer", "the ACK of a delayed offer carries no answer")
                return
            await self._apply_answer(call, call.confirmed_body)
        if call.state is State.ESTABLISHED:
            if call.recording is not None:
                self._do.recordings.begun(call.id, call.started, call.recording)
            await self._request(StartMedia(call=call.id))

    def _send_refusal(self, call: Call) -> None:
        end = call.end or End("edge", "internal_error")
        reason = end.reason if end.reason in REFUSALS else "agent_left"
        refusal = REFUSALS[reason]
        call.end = End(end.by, end.reason, refusal.status, end.detail)
        self._count_refusal(reason, refusal.status)
        self._do.signalling.refuse(call.key, refusal)

    def _hang_up(self, call: Call) -> None:
        reason = call.end.reason if call.end is not None else "internal_error"
        headers = _headers_of(call) + tuple(call.goodbye.items())
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
        self._journal(call, "answered", {})
        self._limit_length(call)

    def _close_media(self, call: Call) -> None:
        if self._transfers is not None:
            self._transfers.call_ended(call)
        self._spawn(call, self._close(call), "close media")

    async def _close(self, call: Call) -> None:
        reason = call.end.reason if call.end is not None else "internal_error"
        if call.end is not None and call.end.by == "caller" and call.goodbye:
            await self._tell(call, "caller_hung_up", **call.goodbye)
        result = await self._request(CloseCall(call=call.id, reason=reason))
        if isinstance(result, CallClosed) and result.statistics is not None:
            call.statistics = result.statistics
        self._feed(call, Input.CLOSED)

    def _record_end(self, call: Call) -> None:
        end = call.end or End("edge", "internal_error")
        if call.length_timer is not None:
            call.length_timer.cancel()
        if call.port is not None:
            self._do.ports.release(call.port, self._do.now())
        self._count_out(call)
        if call.outgoing is not None and self._outbound is not None:
            self._outbound.over(call)
        self._by_id.pop(call.id, None)
        self._by_key.pop(call.key, None)
        self._do.counters.add("calls_ended", reason=end.reason, by=end.by)
        if call.route is not None:
            self._journal(call, "ended", _end_data(end, call.statistics))
        self._log_end(call, end)
        if not self._by_id:
            self._idle.set()

    _carry_out: Mapping[Action, Callable[[CallManager, Call], None]] = MappingProxyType(
        {
            Action.RING: _ring,
            Action.OPEN_MEDIA: _open_media,
            Action.REOPEN_MEDIA: _reopen_media,
            Action.ANSWER: _answer,
            Action.REFUSE: _send_refusal,
            Action.START_MEDIA: _start_media,
            Action.HANG_UP: _hang_up,
            Action.CLOSE_MEDIA: _close_media,
            Action.RECORD_END: _record_end,
            Action.DIAL: _dial,
            Action.JOIN: _join,
            Action.CANCEL: _cancel,
            Action.NOTE_ANSWER: _note_answer,
        }
    )

    # --- small tools ---

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

    def _journal(self, call: Call, kind: str, data: Mapping[str, Any]) -> None:
        do = self._do
        offset_s = do.now() - call.started
        do.journal.append(
            CallEvent(id=new_id(do.entropy), kind=kind, at=do.wall(), call_id=call.id, offset_s=offset_s, data=data)
        )

    def _note(self, call: Call, kind: str, note: str = "") -> None:
        self._journal(call, kind, {"note": note} if note else {})

    def _count_refusal(self, reason: str, status: int) -> None:
        self._do.counters.add("calls_refused", reason=reason, status=str(status))

    def _log_end(self, call: Call, end: End) -> None:
        log.info(
            "call ended",
            extra={
                "call": call.id,
                "sip_call_id": printable(call.sip_call_id),
                "trunk": call.trunk,
                "to": call.to_number or [printable(raw) for raw in call.dialed],
                "from": printable(call.from_number),
                "by": end.by,
                "reason": end.reason,
                "sip_status": end.sip_status,
                "detail": printable(end.detail),
                "seconds": round(self._do.now() - call.started, 3),
            },
        )


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
        await self._calls.command(self._call.account_id, self._call.id, lambda id: SendDigits(call=id, digits=digits))

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


def _told(command: Command) -> tuple[str, str]:
    """A line of the timeline for what was done; what was pressed is no business of a log's."""
    match command:
        case SendDigits(digits=digits):
            return "digits_sent", str(len(digits) - digits.lower().count("w"))
        case Play(recording=name):
            return "played", name
        case SetMark(name=name):
            return "mark", printable(name)
        case _:
            return "cleared", ""


_UNANSWERED: Final = frozenset((State.LOOKING_UP, State.OPENING, State.RINGING))
"""A call that can still be given to a fallback."""


def _keys(call: Call) -> tuple[tuple[str, str], ...]:
    """What a call counts for."""
    keys: tuple[tuple[str, str], ...] = (
        ("edge_full", ""),
        ("trunk_full", call.trunk),
        ("account_full", call.account_id),
    )
    if call.direction == "outbound":
        return keys
    caller = (("caller_full", call.from_number),) if call.from_number.startswith("+") else ()
    return (*keys, ("number_full", call.to_number), *caller)


def _fallback_spec(fallback: Mapping[str, str]) -> AgentSpec:
    """Who answers in the agent's place: a recording, or one that has the caller forwarded, and else is sorry."""
    forward = fallback.get("forward")
    return AgentSpec(
        protocol="announcement",
        name=fallback.get("message", "unavailable"),
        parameters={} if forward is None else {"forward": forward},
        answer_after_s=0.0,
    )


def _fallback_keys(call: Call) -> tuple[tuple[str, str], ...]:
    """What one counts for that its number's fallback takes: beyond its account's cap, within a cap of its own."""
    keys = (("edge_full", ""), ("trunk_full", call.trunk), ("fallback_full", call.account_id))
    return tuple(key for key in keys if key not in call.counted)


_PORT_ATTEMPTS: Final = 5
_SEED_BYTES: Final = 32
_MOST_DIGITS: Final = 128
_NO_MORE: Final = " "
"""Stands for the time after the last digit, so that one that comes meanwhile waits for its turn."""

_OPEN_FAILURE: Final = {
    "no_common_codec": "no_common_codec",
    "no_common_crypto": "no_common_crypto",
    "bad_sdp": "bad_sdp",
    "media_address_refused": "media_address_refused",
    "port_unavailable": "no_media_port",
}


def _sid(prefix: str, id: str) -> str:
    """A Twilio-shaped id: prefix and 32 hex digits. Account ids of ours are UUIDs."""
    try:
        return prefix + UUID(id).hex
    except ValueError:
        return prefix + id


def _context(call: Call) -> CallContext:
    return CallContext(
        call_sid=(call.found and call.found.call_sid) or _sid("CA", call.id),
        account_sid=(call.found and call.found.account_sid) or _sid("AC", call.account_id),
        direction=call.direction,
        from_number=call.from_number,
        to_number=call.to_number,
        trunk=call.trunk,
        call_id=call.id,
        caller_name="" if call.hidden else printable(call.caller_name),
        sip_call_id=printable(call.sip_call_id),
        headers=_crossing(call.headers),
        identity=told(call.who, call.verstat),
    )


def _crossing(headers: Headers) -> dict[str, str]:
    """Those of the phone's that are the agent's to know: not the edge's own, not what is told otherwise."""
    return {
        name: value for name, value in headers if not name.lower().startswith(OWN_HEADERS) and name.lower() != "reason"
    }


def _headers_of(call: Call) -> Headers:
    """What the agent's record would have the phone told."""
    return () if call.spec is None else tuple(call.spec.sip_headers.items())


def _offer_data(call: Call, route: Route) -> dict[str, Any]:
    return {
        "account_id": call.account_id,
        "direction": call.direction,
        "trunk": call.trunk,
        "from_number": call.from_number,
        "to_number": call.to_number,
        "number_id": route.number.id,
        "agent_id": route.number.agent_id,
        "sip_call_id": call.sip_call_id,
        "identity": recorded(call.who, call.verstat),
    }


def _end_data(end: End, statistics: LegStatistics | None) -> dict[str, Any]:
    return {
        "ended_by": end.by,
        "end_reason": end.reason,
        "sip_status": end.sip_status,
        "statistics": {} if statistics is None else msgspec.to_builtins(statistics),
        "reasons": [{"protocol": each.protocol, "cause": each.cause, "text": each.text} for each in end.reasons],
        "note": end.detail,
    }


def _reason_header(headers: tuple[tuple[str, str], ...]) -> str:
    return next((value for name, value in headers if name.lower() == "reason"), "")


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
