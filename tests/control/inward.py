"""A call manager that takes calls: registry in memory, the engine and media played by the test."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from config.settings import Agents, Limits
from control.call_table import REFUSALS
from control.calls import CallManager
from control.passes import CallPasses
from control.ports import PortPool
from control.registry.memory import MemoryRegistry
from control.registry.types import Account, Agent, CallEvent, Number
from control.routing import Router
from control.supervisor import Supervisor
from control.surroundings import Surroundings
from edge.auth import Challenger
from edge.counters import Counters
from edge.events import Address, CallConfirmed, CallKey, CallOffered, Flow, Identification, Refusal, TransportName
from edge.trunks import TrunkTable
from media.client import MediaGone
from media.messages import (
    AgentReady,
    CallClosed,
    CallOpened,
    CloseCall,
    Command,
    Done,
    Hold,
    LegPolicy,
    LegStatistics,
    OpenCall,
    Renegotiate,
    Result,
)

DID = "+15551230001"
CALLER = "+14155550199"
ACCOUNT = "6f1c2f5e-8f0d-4d6e-9a53-0d6e7c7f4a01"
OTHER = "6f1c2f5e-8f0d-4d6e-9a53-0d6e7c7f4a02"
FLOW = Flow(TransportName.UDP, Address("127.0.0.1", 5060), Address("127.0.0.2", 5060))


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

    def wall(self) -> float:
        return 1_700_000_000.0 + self.now

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


@dataclass
class Scene:
    """What a test of calls looks at, whichever way they go."""

    calls: CallManager
    media: Media
    registry: MemoryRegistry
    events: list[CallEvent]
    ports: PortPool
    counters: Counters
    clock: Clock
    tasks: Supervisor

    async def settle(self) -> None:
        while self.tasks.names:
            await asyncio.sleep(0)

    def kinds(self, call: str) -> list[str]:
        return [event.kind for event in self.events if event.call_id == call]

    def quiet(self) -> bool:
        return len(self.calls) == 0 and self.ports.leased == 0 and not self.tasks.names


@dataclass
class World(Scene):
    phone: Phone
    passes: CallPasses

    async def offer(self, key: str = "k1", *, dialed: tuple[str, ...] = (DID,), offer: bytes | None = b"offer") -> str:
        """An INVITE; returns our call's id ("" when it was refused without one)."""
        self.calls.on_event(offered_as(key=CallKey(key), dialed=dialed, call_id=f"{key}@caller", offer=offer))
        await self.settle()
        opened = self.media.of(OpenCall)
        return str(opened[-1].call) if opened else ""

    async def establish(self, key: str = "k1") -> str:
        call = await self.offer(key)
        self.calls.on_notice(AgentReady(call=call, waited_s=0.1))
        self.calls.on_event(CallConfirmed(CallKey(key), None))
        await self.settle()
        return call

    def end(self, call: str) -> CallEvent:
        (event,) = [event for event in self.events if event.kind == "ended" and event.call_id == call]
        return event


@asynccontextmanager
async def scene(
    registry: MemoryRegistry,
    phone: Phone,
    clock: Clock,
    counters: Counters,
    *,
    passes: CallPasses,
    limits: Limits,
    pairs: int,
    **more: Any,
) -> AsyncIterator[Scene]:
    """A call manager on the test's clock, with so many ``pairs`` of RTP ports."""
    media, events = Media(), list[CallEvent]()

    class Log:
        def append(self, event: CallEvent) -> None:
            events.append(event)

    ports = PortPool(20000, 20000 + 2 * pairs - 1, rest_s=0.0, entropy=os.urandom)
    async with Supervisor() as tasks:
        surroundings = Surroundings(
            signalling=phone,
            media=media,
            find=Router(registry, passes).find,
            journal=Log(),
            ports=ports,
            counters=counters,
            spawn=tasks.spawn,
            now=lambda: clock.now,
            wall=clock.wall,
            call_later=clock.call_later,
            entropy=os.urandom,
            **more,
        )
        calls = CallManager(surroundings, limits, Agents(), lambda trunk: LegPolicy())
        yield Scene(calls, media, registry, events, ports, counters, clock, tasks)


def no_passes(counters: Counters) -> CallPasses:
    trunks = TrunkTable((), realm="test", challenger=Challenger(bytes(32)), counters=counters)
    return CallPasses(trunks, "twilio", entropy=os.urandom)


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
        await registry.change_number(ACCOUNT, "number-1", {"agent_id": "agent-1"}, 0.0)
    clock, phone, counters = Clock(), Phone(), Counters()
    passes = no_passes(counters)
    async with scene(
        registry, phone, clock, counters, passes=passes, limits=limits or Limits(), pairs=pairs, **more
    ) as made:
        yield World(**vars(made), phone=phone, passes=passes)


async def established_as(w: World, **changes: Any) -> str:
    w.calls.on_event(offered_as(**changes))
    await w.settle()
    call = str(w.media.of(OpenCall)[-1].call)
    w.calls.on_notice(AgentReady(call=call, waited_s=0.1))
    w.calls.on_event(CallConfirmed(CallKey("k1"), None))
    await w.settle()
    return call


async def refused_with(w: World, status: int, reason: str) -> None:
    assert w.phone.sent[-1][0] == "refuse"
    assert w.phone.sent[-1][2] == status == REFUSALS[reason].status
    assert w.counters.get("calls_refused", reason=reason, status=str(status)) == 1
    assert w.quiet()
