"""A call manager that can call out: registry in memory, the engine, media and the carrier played by the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from config.settings import Settings
from control.call import Call, Outgoing
from control.dialling import Dialler, Way
from control.hops import Hops
from control.outbound import CarrierRefused, Handover, Order, Outward
from control.registry.memory import MemoryRegistry
from control.registry.types import Account, Agent, CallEvent, Connection, Integration, Number
from control.toll import TollGuard
from edge.counters import Counters
from edge.events import (
    CallConfirmed,
    CallEnded,
    CallKey,
    CallOffered,
    Cause,
    OutgoingCall,
    Party,
    TransportName,
)
from media.messages import AgentReady, AgentSpec, OpenCall, TellAgent
from tests.control.inward import ACCOUNT, Clock, Phone, Scene, no_passes, offered_as, scene

DID = "+14155550100"
CALLER = "+12025550123"
TARGET = "+14155550123"
TRUNK = {
    "name": "lab",
    "addresses": ["192.0.2.0/24"],
    "outbound": "udp:192.0.2.9:5070",
    "outbound_username": "edge",
    "outbound_password": "secret of the edge",
}


class Line(Phone):
    """The engine's side, with calls of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.invites: list[OutgoingCall] = []
        self.referred: list[str] = []

    def invite(self, call: OutgoingCall, began: Callable[[CallKey], None]) -> None:
        self.invites.append(call)
        self.sent.append(("invite", call.target))
        began(CallKey(f"out-{len(self.invites)}"))

    def refer(self, key: CallKey, target: str) -> None:
        self.sent.append(("refer", key, target))
        self.referred.append(target)

    @property
    def key(self) -> CallKey:
        return CallKey(f"out-{len(self.invites)}")


@dataclass
class Carrier:
    """A carrier that places calls by REST, and moves callers."""

    placed: list[str] = field(default_factory=list)
    given_up: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    authorised: dict[str, str] = field(default_factory=dict)
    handovers: list[Handover] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    refuses: CarrierRefused | None = None

    async def place(self, call: Call, way: Way) -> str:
        if self.refuses is not None:
            raise self.refuses
        self.placed.append(call.id)
        return "CA" + "7" * 32

    async def give_up(self, call: Call, way: Way) -> None:
        self.given_up.append(call.id)

    def of(self, offered: CallOffered) -> str | None:
        return offered.identity if offered.identity in self.placed else None

    def over(self, call: Call) -> None:
        pass

    def authorise(self, call: Call, handover: Handover) -> None:
        self.authorised[call.id] = handover.destination.target
        self.handovers.append(handover)

    def revoke(self, call: Call) -> bool:
        self.authorised.pop(call.id, None)
        return call.id in self.taken

    async def move(self, call: Call, handover: Handover) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.moved.append(handover.destination.target)
        self.handovers.append(handover)


@dataclass
class Desk(Scene):
    """Everything a test of calls that go out looks at."""

    line: Line
    carrier: Carrier
    guard: TollGuard
    dialler: Dialler
    hops: Hops

    async def caller(self, key: str = "k1", **more: Any) -> str:
        """A caller's call, established; its id."""
        before = len(self.media.of(OpenCall))
        offered = {"dialed": (DID,), "caller": CALLER, "identity": "192.0.2.7", "call_id": f"{key}@caller", **more}
        self.calls.on_event(offered_as(key=CallKey(key), **offered))
        await self.settle()
        opened = self.media.of(OpenCall)
        if len(opened) == before:
            return ""
        call = str(opened[-1].call)
        self.calls.on_notice(AgentReady(call=call, waited_s=0.1))
        self.calls.on_event(CallConfirmed(CallKey(key), None))
        await self.settle()
        return call

    async def place(self, target: str = TARGET, number: str = "number-1", **more: Any) -> str:
        """A call of ours, its INVITE out; its id."""
        row = await self.registry.number(ACCOUNT, number)
        way = await self.dialler.way(row)
        admission = await self.guard.admit(ACCOUNT, row.phone_number, target)
        timing = {"ring_timeout_s": 30.0, "max_duration_s": 3600.0, **more}
        order = Order(
            agent=await self.registry.agent(ACCOUNT, "agent-1"),
            number=row,
            spec=AgentSpec(protocol="builtin", name="parrot"),
            outgoing=Outgoing(way, admission.destination, admission.ticket, **timing),
        )
        call = self.calls.place(order)
        await self.settle()
        return call

    async def says(self, event: Any) -> None:
        self.calls.on_event(event)
        await self.settle()

    async def bye(self, key: str, by: Party = Party.REMOTE) -> None:
        await self.says(CallEnded(CallKey(key), by, Cause.BYE))

    def of_kind(self, call: str, kind: str) -> list[CallEvent]:
        return [event for event in self.events if event.kind == kind and event.call_id == call]

    def end(self, call: str) -> tuple[str, str, int | None]:
        (event,) = self.of_kind(call, "ended")
        return event.data["ended_by"], event.data["end_reason"], event.data["sip_status"]

    def others(self, call: str) -> list[str]:
        """Calls that have a record, but for this one."""
        return [event.call_id for event in self.events if event.kind == "offered" and event.call_id != call]

    def told(self, kind: str = "transfer") -> list[tuple[Any, Any]]:
        """What the agent was told: status and whether it is the last word."""
        return [(t.data["status"], t.data["final"]) for t in self.media.of(TellAgent) if t.event == kind]

    def quiet(self) -> bool:
        return super().quiet() and not self.guard._ledger.live(ACCOUNT) and not self.hops


@asynccontextmanager
async def desk(
    *, trunk: dict[str, Any] | None = None, outbound: dict[str, Any] | None = None, pairs: int = 20
) -> AsyncIterator[Desk]:
    """A DID on the static trunk ``lab`` (number-1), one at Telnyx (number-2), one at Twilio (number-3)."""
    settings = Settings.model_validate(
        {
            "trunks": [{**TRUNK, **(trunk or {})}],
            "outbound": {"sip_targets": ["sip:hunt@pbx.example.com"], **(outbound or {})},
            "sip": {"domain": "sip.test"},
        }
    )
    registry = MemoryRegistry()
    await registry.create_account(Account(ACCOUNT, "Test", 0.0))
    await registry.create_agent(
        Agent("agent-1", ACCOUNT, "Parrot", {"protocol": "builtin", "name": "parrot"}, 0.0, 0.0)
    )
    await registry.save_integration(Integration(ACCOUNT, "twilio", {"account_sid": "AC1"}, {"auth_token": "token"}))
    await registry.save_connection(
        Connection(
            "42",
            ACCOUNT,
            "telnyx",
            "credential",
            "To us",
            "telnyx:42",
            user_name="gw",
            proxy="sip.telnyx.com",
            secrets={"sip_password": "pw"},
        )
    )
    for number in (
        Number("number-1", ACCOUNT, DID, DID, "sip", "lab", "active", 0.0, 0.0, provider_trunk="lab"),
        Number(
            "number-2",
            ACCOUNT,
            "+14155550200",
            "",
            "telnyx",
            "telnyx:42",
            "active",
            0.0,
            0.0,
            provider_connection_id="42",
        ),
        Number("number-3", ACCOUNT, "+14155550300", "", "twilio", "tw", "active", 0.0, 0.0, provider_account_sid="AC1"),
    ):
        await registry.create_number(number)
        await registry.change_number(ACCOUNT, number.id, {"agent_id": "agent-1"}, 0.0)
    clock, line, counters, carrier, hops = Clock(), Line(), Counters(), Carrier(), Hops()
    guard = TollGuard(registry, settings.outbound, counters, now=lambda: clock.now, wall=clock.wall)
    dialler = Dialler(registry, settings, lambda: frozenset({TransportName.UDP}))
    outward = Outward(
        guard=guard,
        dialler=dialler,
        hops=hops,
        carrier=carrier,
        invite=line.invite,
        refer=line.refer,
        cancel=line.hang_up,
    )
    passes = no_passes(counters)
    async with scene(
        registry, line, clock, counters, passes=passes, limits=settings.limits, pairs=pairs, outward=outward
    ) as made:
        yield Desk(**vars(made), line=line, carrier=carrier, guard=guard, dialler=dialler, hops=hops)
