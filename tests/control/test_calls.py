"""One call from its offer to its record, with the engine and media played by the test."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from config.settings import Agents, Limits
from control.calls import REFUSALS, TRANSITIONS, CallManager, Input, State, Surroundings
from control.instructions import Digits, HangUp, Pause
from control.passes import CallPasses
from control.ports import PortPool
from control.registry.memory import MemoryRegistry
from control.registry.types import Account, Agent, CallEvent, Number, RegistryBusy, Route
from control.routing import Router
from control.supervisor import Supervisor
from edge.auth import Challenger
from edge.counters import Counters
from edge.events import (
    Address,
    CallConfirmed,
    CallEnded,
    CallKey,
    CallOffered,
    Cause,
    DigitPressed,
    Flow,
    Identification,
    MediaAnswered,
    MediaOffered,
    Party,
    Refusal,
    TransportName,
)
from edge.identity import Identity, Named
from edge.trunks import TrunkTable
from media.client import MediaGone
from media.messages import (
    AgentAsks,
    AgentEnded,
    AgentFailed,
    AgentNoted,
    AgentReady,
    ApplyAnswer,
    CallClosed,
    CallOpened,
    Clear,
    CloseCall,
    Command,
    DetectionOrder,
    DigitReceived,
    DigitsUnsent,
    Done,
    Failed,
    HearDigit,
    Hold,
    LegPolicy,
    LegStatistics,
    MachineDetected,
    MarkReached,
    MediaLost,
    OpenCall,
    Play,
    RecordingEnded,
    RecordingOrder,
    Renegotiate,
    Result,
    SendDigits,
    SetMark,
    StartMedia,
    TellAgent,
)

DID = "+15551230001"
CALLER = "+14155550199"
ACCOUNT = "6f1c2f5e-8f0d-4d6e-9a53-0d6e7c7f4a01"
OTHER = "6f1c2f5e-8f0d-4d6e-9a53-0d6e7c7f4a02"
FLOW = Flow(TransportName.UDP, Address("127.0.0.1", 5060), Address("127.0.0.2", 5060))

IGNORED = {(state, event) for state in State for event in Input} - set(TRANSITIONS)
"""Every pair that is not in the table changes nothing; :func:`test_pairs_outside_the_table_change_nothing`."""


@dataclass
class Phone:
    """The engine's side: what was asked of it, in order."""

    sent: list[tuple[Any, ...]] = field(default_factory=list)

    headers: list[tuple[str, tuple[tuple[str, str], ...]]] = field(default_factory=list)

    def ring(self, key: CallKey, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.sent.append(("ring", key))
        self.headers.append(("ring", headers))

    def progress(self, key: CallKey, status: int, body: bytes, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.sent.append(("progress", key, status, body))
        self.headers.append(("progress", headers))

    def answer(self, key: CallKey, body: bytes, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.sent.append(("answer", key, body))
        self.headers.append(("answer", headers))

    def press(self, key: CallKey, digit: str, duration_ms: int) -> None:
        self.sent.append(("press", key, digit))

    def refuse(self, key: CallKey, refusal: Refusal) -> None:
        self.sent.append(("refuse", key, refusal.status))

    def hang_up(self, key: CallKey, reason: str | None, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.sent.append(("hang_up", key))
        self.headers.append(("hang_up", headers))

    def accept_offer(self, key: CallKey, body: bytes) -> None:
        self.sent.append(("accept_offer", key, body))

    def refuse_offer(self, key: CallKey, refusal: Refusal) -> None:
        self.sent.append(("refuse_offer", key, refusal.status))

    def reoffer(self, key: CallKey, body: bytes) -> None:
        self.sent.append(("reoffer", key, body))

    @property
    def verbs(self) -> list[str]:
        return [str(entry[0]) for entry in self.sent]


@dataclass
class Media:
    """Media's side: answers each command from ``answers``; a gone media raises."""

    commands: list[Command] = field(default_factory=list)
    answers: dict[type, Result] = field(default_factory=dict)
    before_reply: Callable[[Command], None] | None = None
    gone: bool = False

    async def request(self, command: Command, deadline_s: float = 5.0) -> Result:
        self.commands.append(command)
        await asyncio.sleep(0)
        if self.before_reply is not None:
            self.before_reply(command)
        if self.gone:
            raise MediaGone("worker died")
        defaults: dict[type, Result] = {
            OpenCall: CallOpened(sdp=b"our sdp", codec="PCMU"),
            Renegotiate: CallOpened(sdp=b"new sdp", codec="PCMU"),
            Hold: CallOpened(sdp=b"hold sdp", codec="PCMU"),
            CloseCall: CallClosed(statistics=LegStatistics(packets_sent=7)),
        }
        return self.answers.get(type(command), defaults.get(type(command), Done()))

    def of(self, kind: type) -> list[Any]:
        return [command for command in self.commands if isinstance(command, kind)]


class Clock:
    """Monotonic and wall time, and timers that fire when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Callable[[], None], list[bool]]] = []

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Any:
        entry = (self.now + delay_s, callback, [True])
        self.timers.append(entry)

        class Handle:
            def cancel(self) -> None:
                entry[2][0] = False

        return Handle()

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for at, callback, live in list(self.timers):
            if live[0] and at <= self.now:
                live[0] = False
                callback()


@dataclass
class World:
    calls: CallManager
    phone: Phone
    media: Media
    registry: MemoryRegistry
    events: list[CallEvent]
    ports: PortPool
    counters: Counters
    clock: Clock
    tasks: Supervisor
    passes: CallPasses

    async def settle(self) -> None:
        while self.tasks.names:
            await asyncio.sleep(0)

    async def offer(self, key: str = "k1", *, dialed: tuple[str, ...] = (DID,), offer: bytes | None = b"offer") -> str:
        """An INVITE; returns our call's id ("" when it was refused without one)."""
        self.calls.on_event(
            CallOffered(
                key=CallKey(key),
                trunk="lab",
                identified_by=Identification.ADDRESS,
                identity="127.0.0.2",
                dialed=dialed,
                caller=CALLER,
                caller_name="",
                call_id=f"{key}@caller",
                offer=offer,
                flow=FLOW,
            )
        )
        await self.settle()
        opened = self.media.of(OpenCall)
        return str(opened[-1].call) if opened else ""

    async def establish(self, key: str = "k1") -> str:
        call = await self.offer(key)
        self.calls.on_notice(AgentReady(call=call, waited_s=0.1))
        self.calls.on_event(CallConfirmed(CallKey(key), None))
        await self.settle()
        return call

    def kinds(self, call: str) -> list[str]:
        return [event.kind for event in self.events if event.call_id == call]

    def end(self, call: str) -> CallEvent:
        (event,) = [event for event in self.events if event.kind == "ended" and event.call_id == call]
        return event

    def quiet(self) -> bool:
        return len(self.calls) == 0 and self.ports.leased == 0 and not self.tasks.names


@asynccontextmanager
async def world(
    *, limits: Limits | None = None, pairs: int = 20, assigned: bool = True, **more: Any
) -> AsyncIterator[World]:
    registry = MemoryRegistry()
    for account in (ACCOUNT, OTHER):
        await registry.create_account(Account(account, account[-2:], 0.0))
    pipeline = {"protocol": "builtin", "name": "parrot"}
    await registry.create_agent(Agent("agent-1", ACCOUNT, "Parrot", pipeline, 0.0, 0.0))
    number = Number(
        "number-1", ACCOUNT, DID, DID, "sip", "lab", "active", 0.0, 0.0, agent_id=None, provider_trunk="lab"
    )
    await registry.create_number(number)
    if assigned:
        await registry.assign_number(ACCOUNT, "number-1", "agent-1", 0.0)
    clock, phone, media, counters = Clock(), Phone(), Media(), Counters()
    events: list[CallEvent] = []

    class Log:
        def append(self, event: CallEvent) -> None:
            events.append(event)

    ports = PortPool(20000, 20000 + 2 * pairs - 1, rest_s=0.0, entropy=os.urandom)
    trunks = TrunkTable((), realm="test", challenger=Challenger(bytes(32)), counters=counters)
    passes = CallPasses(trunks, "twilio", entropy=os.urandom)
    router = Router(registry, passes)
    async with Supervisor() as tasks:
        surroundings = Surroundings(
            signalling=phone,
            media=media,
            find=router.find,
            journal=Log(),
            ports=ports,
            counters=counters,
            spawn=tasks.spawn,
            now=lambda: clock.now,
            wall=lambda: 1_700_000_000.0 + clock.now,
            call_later=clock.call_later,
            entropy=os.urandom,
            **more,
        )
        calls = CallManager(surroundings, limits or Limits(), Agents(), lambda trunk: LegPolicy())
        yield World(calls, phone, media, registry, events, ports, counters, clock, tasks, passes)


# --- the way of a good call -------------------------------------------------------------------


async def test_a_call_rings_at_once_and_is_answered_when_its_agent_is_ready() -> None:
    async with world() as w:
        call = await w.offer()
        assert w.phone.verbs == ["ring"]
        (opened,) = w.media.of(OpenCall)
        assert opened.agent.protocol == "builtin"
        assert opened.context.from_number == CALLER
        assert opened.context.to_number == DID
        assert opened.context.account_sid == "AC" + ACCOUNT.replace("-", "")
        assert opened.context.call_sid == "CA" + call.replace("-", "")
        assert opened.context.call_id == call
        w.calls.on_notice(AgentReady(call=call, waited_s=0.1))
        assert w.phone.sent[-1] == ("answer", "k1", b"our sdp")
        assert not w.media.of(StartMedia)
        w.calls.on_event(CallConfirmed(CallKey("k1"), None))
        await w.settle()
        assert len(w.media.of(StartMedia)) == 1
        w.clock.advance(12.5)
        w.calls.on_event(CallEnded(CallKey("k1"), Party.REMOTE, Cause.BYE))
        await w.settle()
        assert w.quiet()
        assert w.phone.verbs == ["ring", "answer"]
        assert w.kinds(call) == ["offered", "ringing", "agent_ready", "answered", "established", "ended"]
        ended = w.end(call)
        assert ended.offset_s == pytest.approx(12.5)
        assert (ended.data["ended_by"], ended.data["end_reason"]) == ("caller", "caller_hung_up")
        assert ended.data["statistics"]["packets_sent"] == 7


async def test_an_agent_ready_before_media_has_replied_is_not_forgotten() -> None:
    async with world() as w:

        def ready_first(command: Command) -> None:
            if isinstance(command, OpenCall):
                w.calls.on_notice(AgentReady(call=command.call, waited_s=0.0))

        w.media.before_reply = ready_first
        await w.offer()
        assert w.phone.verbs == ["ring", "answer"]


async def test_a_delayed_offer_takes_its_answer_from_the_ack() -> None:
    """RFC 3261 §13.2.1: no SDP in the INVITE; ours goes in the 200, the answer comes in the ACK."""
    async with world() as w:
        call = await w.offer(offer=None)
        w.calls.on_notice(AgentReady(call=call, waited_s=0.0))
        w.calls.on_event(CallConfirmed(CallKey("k1"), b"their answer"))
        await w.settle()
        (applied,) = w.media.of(ApplyAnswer)
        assert applied.answer == b"their answer"
        assert len(w.media.of(StartMedia)) == 1


async def test_an_ack_without_the_awaited_answer_ends_the_call() -> None:
    async with world() as w:
        call = await w.offer(offer=None)
        w.calls.on_notice(AgentReady(call=call, waited_s=0.0))
        w.calls.on_event(CallConfirmed(CallKey("k1"), None))
        await w.settle()
        assert w.phone.verbs[-1] == "hang_up"
        assert w.end(call).data["end_reason"] == "bad_answer"
        assert not w.media.of(StartMedia)
        assert w.quiet()


async def test_a_number_is_found_with_and_without_plus() -> None:
    """Trouble elsewhere: `+` here, none there: number not found."""
    for dialed in (("+15551230001",), ("15551230001",), ("bogus", "15551230001"), ("sip-user", "0015551230001")):
        async with world() as w:
            await w.offer(dialed=dialed)
            assert w.phone.verbs == ["ring"], dialed


# --- refusals ---------------------------------------------------------------------------------


async def refused_with(w: World, status: int, reason: str) -> None:
    assert w.phone.sent[-1][0] == "refuse"
    assert w.phone.sent[-1][2] == status == REFUSALS[reason].status
    assert w.counters.get("calls_refused", reason=reason, status=str(status)) == 1
    assert w.quiet()


async def test_an_unknown_number_is_404_and_leases_no_port() -> None:
    async with world() as w:
        await w.offer(dialed=("+15559999999",))
        await refused_with(w, 404, "unknown_number")
        assert w.ports.resting(w.clock.now) == 0
        assert not w.media.commands


async def test_a_number_of_another_trunk_is_unknown_here() -> None:
    async with world() as w:
        row = Number("n2", OTHER, "+15551230002", "", "sip", "other-trunk", "active", 0.0, 0.0, provider_trunk="x")
        await w.registry.create_number(row)
        await w.offer(dialed=("+15551230002",))
        await refused_with(w, 404, "unknown_number")


async def test_an_unassigned_number_is_404_and_leaves_a_record() -> None:
    async with world(assigned=False) as w:
        await w.offer()
        await refused_with(w, 404, "unassigned_number")
        assert [event.kind for event in w.events] == ["offered", "ended"]


async def test_no_common_codec_is_488() -> None:
    async with world() as w:
        w.media.answers[OpenCall] = Failed(code="no_common_codec", message="only G729")
        await w.offer()
        await refused_with(w, 488, "no_common_codec")


async def test_an_agent_that_does_not_connect_in_time_is_480() -> None:
    async with world() as w:
        call = await w.offer()
        w.calls.on_notice(AgentFailed(call=call, cause="timeout", message="15 s"))
        await w.settle()
        await refused_with(w, 480, "agent_unavailable")
        assert w.end(call).data["sip_status"] == 480


async def test_what_is_noted_about_the_agent_is_on_the_timeline_and_counted() -> None:
    async with world() as w:
        call = await w.offer()
        w.calls.on_notice(AgentNoted(call=call, event="agent_not_reached", detail="HTTP 503"))
        w.calls.on_notice(AgentNoted(call="another", event="agent_lost"))
        await w.settle()
        assert [(each.kind, each.data.get("note")) for each in w.events][-1] == ("agent_not_reached", "HTTP 503")
        assert w.counters.get("agent_events", event="agent_not_reached") == 1


async def test_an_agent_whose_address_is_not_public_has_a_reason_of_its_own() -> None:
    async with world() as w:
        call = await w.offer()
        w.calls.on_notice(AgentFailed(call=call, cause="forbidden", message="agent.example has a private address"))
        await w.settle()
        await refused_with(w, 480, "agent_forbidden")
        assert w.end(call).data["note"] == "agent.example has a private address"


async def test_an_agent_that_leaves_before_the_answer_is_480() -> None:
    async with world() as w:
        call = await w.offer()
        w.calls.on_notice(AgentEnded(call=call, cause="closed"))
        await w.settle()
        await refused_with(w, 480, "agent_left")
        assert w.end(call).data["end_reason"] == "agent_closed"


async def test_no_free_port_is_503_with_retry_after() -> None:
    async with world(pairs=1) as w:
        await w.establish("k1")
        await w.offer("k2")
        assert w.phone.sent[-1] == ("refuse", "k2", 503)
        assert REFUSALS["no_media_port"].retry_after_s
        assert len(w.calls) == 1


async def test_a_port_that_another_program_holds_is_passed_over() -> None:
    """The pair rests as any other; the caller notices nothing."""
    async with world(pairs=3) as w:
        w.media.answers[OpenCall] = Failed(code="port_unavailable", message="address in use")

        def free_from_the_second_on(command: Command) -> None:
            if len(w.media.of(OpenCall)) == 2:
                w.media.answers.pop(OpenCall, None)

        w.media.before_reply = free_from_the_second_on
        await w.establish("k1")
        first, second = w.media.of(OpenCall)
        assert first.rtp_port != second.rtp_port
        assert w.ports.leased == 1


async def test_when_every_port_is_held_by_others_the_answer_is_503() -> None:
    """All are tried, none stays leased."""
    async with world(pairs=3) as w:
        w.media.answers[OpenCall] = Failed(code="port_unavailable", message="address in use")
        await w.offer()
        await w.settle()
        await refused_with(w, 503, "no_media_port")
        assert len({command.rtp_port for command in w.media.of(OpenCall)}) == 3
        assert w.ports.leased == 0


@pytest.mark.parametrize(
    ("cap", "status"),
    [
        ("calls", 503),
        ("calls_per_trunk", 486),
        ("calls_per_account", 486),
        ("calls_per_did", 486),
        ("calls_per_caller", 486),
    ],
)
async def test_a_tenants_cap_is_486_and_only_a_full_edge_503(cap: str, status: int) -> None:
    async with world(limits=Limits(**{cap: 1})) as w:
        await w.establish("k1")
        await w.offer("k2")
        assert w.phone.sent[-1] == ("refuse", "k2", status)
        w.calls.on_event(CallEnded(CallKey("k1"), Party.REMOTE, Cause.BYE))
        await w.settle()
        await w.offer("k3")
        assert w.phone.sent[-1] == ("ring", "k3")


async def test_a_registry_that_does_not_answer_is_503(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world() as w:

        async def busy(trunk: str, number: str) -> Route | None:
            raise RegistryBusy("locked")

        monkeypatch.setattr(w.registry, "route", busy)
        await w.offer()
        await refused_with(w, 503, "registry_unavailable")


async def test_an_error_of_ours_refuses_the_call_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world() as w:

        async def broken(trunk: str, number: str) -> Route | None:
            raise LookupError("bug")

        monkeypatch.setattr(w.registry, "route", broken)
        await w.offer()
        await refused_with(w, 500, "internal_error")


async def test_media_that_is_gone_refuses_the_call() -> None:
    async with world() as w:
        w.media.gone = True
        await w.offer()
        await refused_with(w, 503, "media_unavailable")


# --- ends -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("notice", "by", "reason"),
    [
        (AgentEnded(call="", cause="hang_up"), "agent", "agent_hung_up"),
        (AgentEnded(call="", cause="closed"), "agent", "agent_closed"),
        (AgentEnded(call="", cause="lost"), "agent", "agent_lost"),
        (MediaLost(call="", kind="never", after_s=20.0), "edge", "no_media"),
        (MediaLost(call="", kind="silence", after_s=20.0), "edge", "media_lost"),
    ],
)
async def test_each_way_media_ends_a_call_sends_one_bye_and_writes_one_record(
    notice: Any, by: str, reason: str
) -> None:
    async with world() as w:
        call = await w.establish()
        notice = type(notice)(**{name: getattr(notice, name) for name in notice.__struct_fields__} | {"call": call})
        w.calls.on_notice(notice)
        w.calls.on_notice(notice)
        await w.settle()
        w.calls.on_event(CallEnded(CallKey("k1"), Party.LOCAL, Cause.BYE))
        assert w.phone.verbs.count("hang_up") == 1
        ended = w.end(call)
        assert (ended.data["ended_by"], ended.data["end_reason"]) == (by, reason)
        assert w.quiet()


async def test_a_cancelled_call_closes_its_media_and_sends_nothing_more() -> None:
    """RFC 3261 §9.2: the engine answers 487 by itself."""
    async with world() as w:
        call = await w.offer()
        w.calls.on_event(CallEnded(CallKey("k1"), Party.REMOTE, Cause.CANCELLED, 487))
        await w.settle()
        assert w.phone.verbs == ["ring"]
        assert w.end(call).data["end_reason"] == "caller_cancelled"
        assert len(w.media.of(CloseCall)) == 1
        assert w.quiet()


async def test_a_call_cancelled_during_the_lookup_leaves_nothing() -> None:
    async with world() as w:
        w.calls.on_event(
            CallOffered(CallKey("k1"), "lab", Identification.ADDRESS, "", (DID,), CALLER, "", "id", b"offer", FLOW)
        )
        w.calls.on_event(CallEnded(CallKey("k1"), Party.REMOTE, Cause.CANCELLED, 487))
        await w.settle()
        assert w.phone.verbs == []
        assert not w.media.commands
        assert w.quiet()


async def test_an_unacknowledged_answer_ends_the_call() -> None:
    async with world() as w:
        call = await w.offer()
        w.calls.on_notice(AgentReady(call=call, waited_s=0.0))
        w.calls.on_event(CallEnded(CallKey("k1"), Party.LOCAL, Cause.NO_ACK))
        await w.settle()
        assert w.end(call).data["end_reason"] == "no_ack"
        assert w.quiet()


async def test_the_longest_allowed_call_is_ended_by_the_edge() -> None:
    async with world(limits=Limits(call_length_s=60)) as w:
        call = await w.establish()
        w.clock.advance(59.9)
        assert len(w.calls) == 1
        w.clock.advance(0.2)
        await w.settle()
        assert w.end(call).data["end_reason"] == "call_length"
        assert w.phone.verbs[-1] == "hang_up"
        assert w.quiet()


async def test_hanging_up_needs_the_calls_own_account() -> None:
    async with world() as w:
        call = await w.establish()
        assert not await w.calls.hang_up(OTHER, call, "operator")
        assert [live.id for live in w.calls.live(ACCOUNT)] == [call]
        assert w.calls.live(OTHER) == []
        assert await w.calls.hang_up(ACCOUNT, call, "operator", {"X-Result": "sold"})
        await w.settle()
        assert w.phone.headers[-1] == ("hang_up", (("X-Result", "sold"),))
        assert w.end(call).data["ended_by"] == "operator"
        assert not await w.calls.hang_up(ACCOUNT, call, "operator")


async def test_hanging_up_all_ends_ringing_and_established_calls() -> None:
    async with world() as w:
        await w.establish("k1")
        await w.offer("k2")
        w.calls.hang_up_all()
        await w.settle()
        await w.calls.idle()
        assert ("hang_up", "k1") in w.phone.sent
        assert ("refuse", "k2", 480) in w.phone.sent
        assert w.quiet()


async def test_a_call_ends_even_when_media_is_gone() -> None:
    async with world() as w:
        call = await w.establish()
        w.media.gone = True
        w.calls.on_event(CallEnded(CallKey("k1"), Party.REMOTE, Cause.BYE))
        await w.settle()
        assert w.end(call).data["end_reason"] == "caller_hung_up"
        assert w.quiet()


async def test_calls_whose_media_worker_died_are_ended_each_as_far_as_it_was() -> None:
    """BYE for the established one, 503 for the one that rings; the calls of other workers go on."""
    async with world() as w:
        up, other = await w.establish("k1"), await w.establish("k2")
        ringing = await w.offer("k3")
        w.media.answers[CloseCall] = CallClosed(statistics=None)
        w.calls.on_lost((up, ringing, "long gone"))
        await w.settle()
        assert ("hang_up", "k1") in w.phone.sent
        assert w.phone.sent[-1] == ("refuse", "k3", 503)
        for call in (up, ringing):
            assert (w.end(call).data["ended_by"], w.end(call).data["end_reason"]) == ("edge", "media_worker_died")
        assert len(w.calls) == w.ports.leased == 1
        assert "ended" not in w.kinds(other)


# --- inside a call ----------------------------------------------------------------------------


async def test_a_re_invite_is_answered_with_medias_new_description() -> None:
    async with world() as w:
        call = await w.establish()
        w.calls.on_event(MediaOffered(CallKey("k1"), b"hold"))
        await w.settle()
        assert w.media.of(Renegotiate)[0].call == call
        assert w.phone.sent[-1] == ("accept_offer", "k1", b"new sdp")


async def test_a_bad_re_invite_is_refused_and_the_call_goes_on() -> None:
    async with world() as w:
        await w.establish()
        w.media.answers[Renegotiate] = Failed(code="no_common_codec", message="")
        w.calls.on_event(MediaOffered(CallKey("k1"), b"only G729"))
        await w.settle()
        assert w.phone.sent[-1] == ("refuse_offer", "k1", 488)
        assert len(w.calls) == 1


async def test_the_answer_to_our_offer_in_a_re_invite_reaches_media() -> None:
    async with world() as w:
        await w.establish()
        w.calls.on_event(MediaOffered(CallKey("k1"), None))
        w.calls.on_event(MediaAnswered(CallKey("k1"), b"answer"))
        await w.settle()
        assert w.media.of(ApplyAnswer)[0].answer == b"answer"


async def test_digits_are_lines_of_the_timeline() -> None:
    async with world() as w:
        call = await w.establish()
        w.calls.on_notice(DigitReceived(call=call, digit="5", duration_ms=100))
        assert [event.data for event in w.events if event.kind == "digit"] == [{"note": "5"}]


# --- the table --------------------------------------------------------------------------------


async def test_a_wish_that_cannot_be_granted_is_counted_and_the_agent_told() -> None:
    async with world() as w:
        call = await w.establish()
        w.calls.on_notice(AgentAsks(call=call, verb="levitate"))
        await w.settle()
        assert [command.event for command in w.media.of(TellAgent)] == ["refused"]
        assert w.counters.get("agent_requests_refused", verb="levitate") == 1


async def test_pairs_outside_the_table_change_nothing() -> None:
    async with world() as w:
        await w.establish()
        (call,) = w.calls._by_id.values()
        for state, event in IGNORED:
            call.state = state
            before = list(w.phone.sent)
            w.calls._feed(call, event)
            assert (call.state, w.phone.sent) == (state, before)
        call.state = State.ESTABLISHED


# --- recording ------------------------------------------------------------------------------------


@dataclass
class Recorder:
    """:class:`control.recordings.Recordings`, played by the test."""

    told: list[tuple[Any, ...]] = field(default_factory=list)
    made: RecordingOrder | None = field(
        default_factory=lambda: RecordingOrder(path="p", head=b"head", key=b"key", consent_tone=False)
    )

    def order(
        self, call_id: str, agent: Agent, number: Number, started: float, wish: bool | None = None
    ) -> RecordingOrder | None:
        self.told.append(("order", call_id, agent.id, number.id, started, wish))
        return self.made

    def begun(self, call_id: str, started: float, order: RecordingOrder) -> None:
        self.told.append(("begun", call_id, started, order))

    def on_ended(self, ended: RecordingEnded) -> None:
        self.told.append(("ended", ended))

    def on_lost(self, calls: Iterable[str]) -> None:
        self.told.append(("lost", *calls))


async def test_media_is_told_to_record_and_the_record_hears_when_it_has_begun() -> None:
    recorder = Recorder()
    async with world(recordings=recorder) as it:
        call = await it.offer()
        assert it.media.of(OpenCall)[0].recording == recorder.made
        assert [entry[0] for entry in recorder.told] == ["order"]
        it.calls.on_notice(AgentReady(call=call, waited_s=0.1))
        it.calls.on_event(CallConfirmed(CallKey("k1"), None))
        await it.settle()
        assert recorder.told == [
            ("order", call, "agent-1", "number-1", 100.0, None),
            ("begun", call, 100.0, recorder.made),
        ]
        ended = RecordingEnded(call=call, status="completed", seconds=1.0)
        it.calls.on_notice(ended)
        it.calls.on_lost([call])
        await it.settle()
        assert recorder.told[2:] == [("ended", ended), ("lost", call)]


async def test_a_call_that_is_never_answered_is_not_recorded() -> None:
    recorder = Recorder()
    async with world(recordings=recorder) as it:
        call = await it.offer()
        it.calls.on_notice(AgentFailed(call=call, cause="refused", message=""))
        await it.settle()
        assert [entry[0] for entry in recorder.told] == ["order"]


async def test_a_call_that_is_not_to_be_recorded_is_not() -> None:
    recorder = Recorder(made=None)
    async with world(recordings=recorder) as it:
        await it.establish()
        assert it.media.of(OpenCall)[0].recording is None
        assert [entry[0] for entry in recorder.told] == ["order"]


async def test_an_edge_without_recordings_takes_calls_all_the_same() -> None:
    async with world() as it:
        call = await it.establish()
        it.calls.on_notice(RecordingEnded(call=call, status="cut"))
        it.calls.on_lost([call])
        await it.settle()
        assert it.end(call).data["end_reason"] == "media_worker_died"


# --- what SIP brings beside the call itself -------------------------------------------------------


def offered_as(**changes: Any) -> CallOffered:
    fields: dict[str, Any] = {
        "key": CallKey("k1"),
        "trunk": "lab",
        "identified_by": Identification.ADDRESS,
        "identity": "127.0.0.2",
        "dialed": (DID,),
        "caller": CALLER,
        "caller_name": "",
        "call_id": "k1@caller",
        "offer": b"offer",
        "flow": FLOW,
    }
    return CallOffered(**{**fields, **changes})


async def established_as(w: World, **changes: Any) -> str:
    w.calls.on_event(offered_as(**changes))
    await w.settle()
    call = str(w.media.of(OpenCall)[-1].call)
    w.calls.on_notice(AgentReady(call=call, waited_s=0.1))
    w.calls.on_event(CallConfirmed(CallKey("k1"), None))
    await w.settle()
    return call


async def test_a_digit_by_info_goes_the_way_of_the_others() -> None:
    """Media knows whether a telephone-event has told it already."""
    async with world() as w:
        call = await w.establish()
        w.calls.on_event(DigitPressed(CallKey("k1"), "5", 160))
        await w.settle()
        assert w.media.of(HearDigit) == [HearDigit(call=call, digit="5", duration_ms=160)]


async def test_an_agents_digits_go_by_info_one_after_the_other_where_the_phone_takes_them_so() -> None:
    async with world() as w:
        call = await established_as(w, takes_info=True)
        w.calls.on_notice(DigitsUnsent(call=call, digits="1w#"))
        w.calls.on_notice(DigitsUnsent(call=call, digits="2"))
        assert [entry[2] for entry in w.phone.sent if entry[0] == "press"] == ["1"]
        for _ in range(8):
            w.clock.advance(0.5)
        assert [entry[2] for entry in w.phone.sent if entry[0] == "press"] == ["1", "#", "2"]
        w.calls.on_notice(DigitsUnsent(call=call, digits="3"))
        assert w.phone.sent[-1] == ("press", "k1", "3")
        w.calls.on_event(CallEnded(CallKey("k1"), Party.REMOTE, Cause.BYE))
        w.clock.advance(1.0)
        await w.settle()
        assert w.quiet()


async def test_a_phone_that_allows_no_info_gets_none() -> None:
    async with world() as w:
        call = await established_as(w)
        w.calls.on_notice(DigitsUnsent(call=call, digits="12"))
        assert "press" not in w.phone.verbs
        assert w.counters.get("agent_requests_refused", verb="digits") == 1


async def test_an_unrefreshed_session_is_on_the_record_as_expired() -> None:
    """RFC 4028 §10."""
    async with world() as w:
        call = await w.establish()
        w.calls.on_event(CallEnded(CallKey("k1"), Party.LOCAL, Cause.EXPIRED, 408))
        await w.settle()
        assert w.end(call).data["end_reason"] == "session_expired"
        assert w.end(call).data["ended_by"] == "edge"


async def test_the_answer_to_a_refresh_goes_to_media_as_such_and_a_bad_one_ends_nothing() -> None:
    async with world() as w:
        w.media.answers[ApplyAnswer] = Failed(code="bad_sdp", message="")
        call = await w.establish()
        w.calls.on_event(MediaAnswered(CallKey("k1"), b"again", refresh=True))
        await w.settle()
        assert w.media.of(ApplyAnswer) == [ApplyAnswer(call=call, answer=b"again", refresh=True)]
        assert len(w.calls) == 1


async def test_the_reasons_of_a_bye_are_on_the_record_in_both_protocols() -> None:
    async with world() as w:
        call = await w.establish()
        headers = (("Reason", 'Q.850;cause=31;text="normal, unspecified"'), ("Reason", "SIP;cause=200"))
        w.calls.on_event(CallEnded(CallKey("k1"), Party.REMOTE, Cause.BYE, headers=headers))
        await w.settle()
        assert w.end(call).data["reasons"] == [
            {"protocol": "Q.850", "cause": 31, "text": "normal, unspecified"},
            {"protocol": "SIP", "cause": 200, "text": ""},
        ]


async def test_the_headers_of_a_bye_reach_the_agent_and_the_edges_own_do_not() -> None:
    """Trouble elsewhere: headers invisible to the agent, or absent on BYE."""
    async with world() as w:
        call = await w.establish()
        headers = (("X-Survey", "5"), ("Reason", "Q.850;cause=16"), ("X-Truedy-Token", "secret"))
        w.calls.on_event(CallEnded(CallKey("k1"), Party.REMOTE, Cause.BYE, headers=headers))
        await w.settle()
        assert w.media.of(TellAgent) == [TellAgent(call=call, event="caller_hung_up", data={"X-Survey": "5"})]
        assert w.media.commands.index(w.media.of(TellAgent)[0]) < w.media.commands.index(w.media.of(CloseCall)[0])


async def test_the_agents_headers_go_on_the_180_the_200_and_the_bye() -> None:
    async with world() as w:
        pipeline = {"protocol": "builtin", "name": "parrot", "sip_headers": {"X-Desk": "7"}}
        await w.registry.update_agent(Agent("agent-1", ACCOUNT, "Parrot", pipeline, 0.0, 0.0))
        call = await w.establish()
        w.calls.on_notice(AgentEnded(call=call, cause="hang_up", headers={"User-to-User": "abc"}))
        await w.settle()
        desk = ("X-Desk", "7")
        assert w.phone.headers == [("ring", (desk,)), ("answer", (desk,)), ("hang_up", (desk, ("User-to-User", "abc")))]


async def test_a_hidden_callers_number_is_on_no_record_and_told_to_no_agent() -> None:
    """RFC 3323; its calls are counted all the same."""
    async with world() as w:
        who = Identity(from_=Named("anonymous"), asserted=(Named(CALLER, "Alice"),), privacy=("id",), hidden=True)
        call = await established_as(w, who=who)
        context = w.media.of(OpenCall)[-1].context
        assert (context.from_number, context.identity) == ("anonymous", {"privacy": "id"})
        offered = next(event for event in w.events if event.kind == "offered")
        assert offered.data["from_number"] == "anonymous"
        assert offered.data["identity"] == {"privacy": ["id"], "hidden": True}
        assert CALLER not in str(w.events)
        assert call


async def test_what_is_known_of_the_caller_reaches_record_and_agent() -> None:
    async with world() as w:
        who = Identity(from_=Named(CALLER, "Alice"), verstat="TN-Validation-Passed-A")
        await established_as(w, who=who)
        assert w.media.of(OpenCall)[-1].context.identity == {
            "caller_name": "Alice",
            "verstat": "TN-Validation-Passed-A",
        }


@pytest.mark.parametrize("early", [True, False])
async def test_an_agent_with_early_media_is_heard_before_the_answer(early: bool) -> None:
    """183 with our description; the answer comes when the agent is ready, as always. Off by default."""
    async with world() as w:
        pipeline = {"protocol": "builtin", "name": "parrot", "early_media": early}
        await w.registry.update_agent(Agent("agent-1", ACCOUNT, "Parrot", pipeline, 0.0, 0.0))
        call = await w.offer()
        assert w.phone.verbs == (["ring", "progress"] if early else ["ring"])
        assert [command.early for command in w.media.of(StartMedia)] == ([True] if early else [])
        w.calls.on_notice(AgentReady(call=call, waited_s=0.1))
        w.calls.on_event(CallConfirmed(CallKey("k1"), None))
        await w.settle()
        assert w.phone.sent[-1] == ("answer", "k1", b"our sdp")
        assert w.media.of(StartMedia)[-1] == StartMedia(call=call)


async def test_a_delayed_offer_has_no_early_media() -> None:
    """Its answer is still to come."""
    async with world() as w:
        pipeline = {"protocol": "builtin", "name": "parrot", "early_media": True}
        await w.registry.update_agent(Agent("agent-1", ACCOUNT, "Parrot", pipeline, 0.0, 0.0))
        await w.offer(offer=None)
        assert w.phone.verbs == ["ring"]


# --- the number's fallback ------------------------------------------------------------------------


async def fallen_back(w: World, name: str = "unavailable") -> None:
    """The number has a message for callers whom no agent can answer."""
    await w.registry.change_number(ACCOUNT, "number-1", {"fallback": {"message": name}}, 0.0)


async def test_an_agent_that_is_not_reached_is_followed_by_the_numbers_message() -> None:
    """The call's media is opened anew for it; the record says why and what was played."""
    async with world() as w:
        await fallen_back(w)
        call = await w.offer()
        w.calls.on_notice(AgentFailed(call=call, cause="refused", message="HTTP 503"))
        await w.settle()
        first, second = w.media.of(OpenCall)
        assert (first.agent.protocol, second.agent.protocol, second.agent.name) == (
            "builtin",
            "announcement",
            "unavailable",
        )
        assert [type(command) for command in w.media.commands] == [OpenCall, CloseCall, OpenCall]
        w.calls.on_notice(AgentReady(call=call, waited_s=0.0))
        w.calls.on_event(CallConfirmed(CallKey("k1"), None))
        await w.settle()
        w.calls.on_notice(AgentEnded(call=call, cause="hang_up"))
        await w.settle()
        assert w.phone.verbs == ["ring", "answer", "hang_up"]
        ended = w.end(call).data
        assert (ended["ended_by"], ended["end_reason"]) == ("edge", "fallback_message")
        assert ended["note"] == "agent_refused: HTTP 503"
        assert ("fallback", "message unavailable, for agent_refused") in [
            (event.kind, event.data.get("note")) for event in w.events
        ]
        assert w.counters.get("calls_fallen_back", reason="agent_refused") == 1
        assert w.quiet()


async def test_an_agent_that_fails_before_media_has_replied_is_followed_by_the_message_too() -> None:
    """The answer to the first opening comes after the fall, and is not taken for the second's."""
    async with world() as w:
        await fallen_back(w)

        def fail_first(command: Command) -> None:
            if isinstance(command, OpenCall) and command.agent.protocol == "builtin":
                w.calls.on_notice(AgentFailed(call=command.call, cause="timeout", message=""))

        w.media.before_reply = fail_first
        call = await w.offer()
        assert [command.agent.protocol for command in w.media.of(OpenCall)] == ["builtin", "announcement"]
        w.calls.on_notice(AgentReady(call=call, waited_s=0.0))
        assert w.phone.verbs == ["ring", "answer"]


async def test_a_full_account_falls_back_within_a_cap_of_its_own() -> None:
    async with world(limits=Limits(calls_per_account=1, fallback_calls_per_account=1)) as w:
        await fallen_back(w)
        await w.establish("k1")
        await w.offer("k2")
        assert w.media.of(OpenCall)[-1].agent.protocol == "announcement"
        await w.offer("k3")
        assert w.phone.sent[-1] == ("refuse", "k3", 486)
        w.calls.on_event(CallEnded(CallKey("k2"), Party.REMOTE, Cause.CANCELLED))
        await w.settle()
        await w.offer("k4")
        assert w.media.of(OpenCall)[-1].agent.protocol == "announcement"
        w.calls.hang_up_all()
        await w.settle()
        assert w.quiet()


async def test_a_full_edge_plays_nobody_anything() -> None:
    """Another edge would do better: 503."""
    async with world(limits=Limits(calls=1)) as w:
        await fallen_back(w)
        await w.establish("k1")
        await w.offer("k2")
        assert w.phone.sent[-1] == ("refuse", "k2", 503)


async def test_after_early_media_the_fallback_is_described_as_the_agent_was() -> None:
    """RFC 3261 §13.2.1: the phone keeps to the first description; the port is told, so no other one is tried."""
    async with world() as w:
        await fallen_back(w)
        pipeline = {"protocol": "builtin", "name": "parrot", "early_media": True}
        await w.registry.update_agent(Agent("agent-1", ACCOUNT, "Parrot", pipeline, 0.0, 0.0))
        call = await w.offer()
        w.calls.on_notice(AgentFailed(call=call, cause="error", message="died"))
        await w.settle()
        first, second = w.media.of(OpenCall)
        assert (first.seed, first.rtp_port) == (second.seed, second.rtp_port)
        assert len(first.seed) == 32
        call = await w.offer("k2")
        w.media.answers[OpenCall] = Failed(code="port_unavailable", message="in use")
        w.calls.on_notice(AgentFailed(call=call, cause="error", message="died"))
        await w.settle()
        *_, third, fourth = w.media.of(OpenCall)
        assert third.rtp_port == fourth.rtp_port
        assert third.seed != first.seed
        assert w.phone.sent[-1] == ("refuse", "k2", 503)


async def test_a_message_that_cannot_be_played_is_a_refusal_at_last() -> None:
    async with world() as w:
        await fallen_back(w)
        w.media.answers[OpenCall] = Failed(code="bad_agent", message="no recording")
        await w.offer()
        await refused_with(w, 480, "bad_agent")
        assert len(w.media.of(OpenCall)) == 2


async def test_an_agent_that_leaves_of_its_own_accord_is_not_covered_for() -> None:
    """It refused the call; one whose connection broke did not."""
    async with world() as w:
        await fallen_back(w)
        call = await w.offer()
        w.calls.on_notice(AgentEnded(call=call, cause="hang_up"))
        await w.settle()
        assert w.phone.sent[-1] == ("refuse", "k1", 480)
        call = await w.offer("k2")
        w.calls.on_notice(AgentEnded(call=call, cause="lost", message="gone"))
        await w.settle()
        assert w.media.of(OpenCall)[-1].agent.protocol == "announcement"
        w.calls.hang_up_all()
        await w.settle()


async def test_a_caller_who_gives_up_while_the_message_is_being_opened_leaves_nothing() -> None:
    async with world() as w:
        await fallen_back(w)
        call = await w.offer()

        def give_up(command: Command) -> None:
            if isinstance(command, CloseCall) and command.reason == "fallback":
                w.calls.on_event(CallEnded(CallKey("k1"), Party.REMOTE, Cause.CANCELLED))

        w.media.before_reply = give_up
        w.calls.on_notice(AgentFailed(call=call, cause="refused", message=""))
        await w.settle()
        assert len(w.media.of(OpenCall)) == 1
        assert w.end(call).data["end_reason"] == "caller_cancelled"
        assert w.quiet()


async def test_a_number_is_forwarded_by_one_that_asks_for_the_transfer() -> None:
    async with world() as w:
        await w.registry.change_number(ACCOUNT, "number-1", {"fallback": {"forward": "+14155550123"}}, 0.0)
        call = await w.offer()
        w.calls.on_notice(AgentFailed(call=call, cause="timeout", message=""))
        await w.settle()
        spec = w.media.of(OpenCall)[-1].agent
        assert (spec.protocol, spec.name, spec.parameters) == (
            "announcement",
            "unavailable",
            {"forward": "+14155550123"},
        )
        assert ("fallback", "forward +14155550123, for agent_unavailable") in [
            (event.kind, event.data.get("note")) for event in w.events
        ]
        w.calls.hang_up_all()
        await w.settle()


async def test_an_unknown_number_has_no_fallback() -> None:
    async with world() as w:
        await fallen_back(w)
        await w.offer(dialed=("+15559999999",))
        assert w.phone.sent[-1] == ("refuse", "k1", 404)


async def test_a_numbers_parameters_reach_its_agent() -> None:
    async with world() as w:
        await w.registry.change_number(ACCOUNT, "number-1", {"parameters": {"language": "de"}}, 0.0)
        await w.offer()
        assert w.media.of(OpenCall)[0].agent.parameters == {"language": "de"}


# --- what is asked of a live call ------------------------------------------------------------------


async def test_a_live_calls_media_is_commanded_and_the_timeline_says_what_was_done() -> None:
    async with world() as w:
        call = await w.establish()
        for make in (
            lambda id: SendDigits(call=id, digits="12#"),
            lambda id: Play(call=id, recording="unavailable"),
            lambda id: SetMark(call=id, name="m"),
            lambda id: Clear(call=id),
        ):
            assert await w.calls.command(ACCOUNT, call, make) == Done()
        w.calls.on_notice(MarkReached(call=call, name="m"))
        w.calls.on_notice(MarkReached(call=call, name="n", cleared=True))
        w.calls.on_notice(MarkReached(call="another", name="n"))
        lines = [(event.kind, event.data.get("note")) for event in w.events][-6:]
        assert lines == [
            ("digits_sent", "3"),
            ("played", "unavailable"),
            ("mark", "m"),
            ("cleared", None),
            ("mark_reached", "m"),
            ("mark_cleared", "n"),
        ]


async def test_a_call_that_rings_another_accounts_or_nobodys_is_not_commanded() -> None:
    async with world() as w:

        def clear(id: str) -> Command:
            return Clear(call=id)

        call = await w.offer()
        refused = await w.calls.command(ACCOUNT, call, clear)
        assert isinstance(refused, Failed)
        assert refused.code == "not_established"
        assert await w.calls.command(OTHER, call, clear) is None
        assert await w.calls.command(ACCOUNT, "nobody", clear) is None
        assert not w.media.of(Clear)
        assert isinstance(await w.calls.perform(ACCOUNT, call, (HangUp(),)), Failed)
        assert await w.calls.perform(OTHER, call, (HangUp(),)) is None


async def test_a_refusal_of_medias_is_passed_on_and_not_noted() -> None:
    async with world() as w:
        call = await w.establish()
        w.media.answers[SendDigits] = Failed(code="no_telephone_event", message="none")
        result = await w.calls.command(ACCOUNT, call, lambda id: SendDigits(call=id, digits="1"))
        assert result == Failed(code="no_telephone_event", message="none")
        assert "digits_sent" not in w.kinds(call)


async def test_instructions_are_carried_out_in_their_time() -> None:
    async with world() as w:
        call = await w.establish()
        assert await w.calls.perform(ACCOUNT, call, (Digits("1w"), Pause(2.0), HangUp())) == Done()
        await spin()
        assert [command.digits for command in w.media.of(SendDigits)] == ["1w"]
        w.clock.advance(0.74)
        await spin()
        w.clock.advance(1.9)
        await spin()
        assert "hang_up" not in w.phone.verbs
        w.clock.advance(0.1)
        await w.settle()
        assert w.phone.verbs[-1] == "hang_up"
        assert (w.end(call).data["ended_by"], w.end(call).data["end_reason"]) == ("agent", "agent_hung_up")


async def test_new_instructions_take_the_place_of_the_old() -> None:
    async with world() as w:
        call = await w.establish()
        await w.calls.perform(ACCOUNT, call, (Pause(1.0), HangUp()))
        await spin()
        await w.calls.perform(ACCOUNT, call, (Pause(5.0),))
        await spin()
        w.clock.advance(5.0)
        await w.settle()
        assert "hang_up" not in w.phone.verbs
        w.calls.hang_up_all()
        await w.settle()


async def spin() -> None:
    """Let what can run do so."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_who_answered_is_in_the_timeline_and_counted() -> None:
    order = DetectionOrder(timeout_s=4.0)
    async with world(detect=lambda agent: order, conversation=False) as it:
        call = await it.establish()
        opened = it.media.of(OpenCall)[0]
        assert (opened.detection, opened.conversation) == (order, False)
        it.calls.on_notice(MachineDetected(call=call, result="machine", after_ms=3500, reason="it talks on"))
        it.calls.on_notice(MachineDetected(call="another", result="human", after_ms=1, reason=""))
        noted = [event.data["note"] for event in it.events if event.kind == "machine_detection"]
        assert noted == ["machine after 3.50 s"]
