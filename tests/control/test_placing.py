"""Placing calls as the API asks for it: from which number, only once, and what is refused."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import pytest

from config.settings import Agents, Outbound
from control.errors import (
    CallNotFound,
    DestinationRefused,
    EdgeFull,
    InUse,
    OutboundLimitReached,
    OutboundUnavailable,
    Problem,
    SecretsUnavailable,
    TransferNotPossible,
    ValidationFailed,
)
from control.outbound import Order, PlaceRefused
from control.placing import KEY_LIFETIME_S, Placing
from control.registry.types import Account, Agent, Number
from control.resources.call_control import PlaceCall, TransferCall
from control.toll import Denied, TollRefusal
from control.transfers import AgentPlace, Transfer, TransferRefused
from tests.control.inward import ACCOUNT, OTHER
from tests.control.outward import TARGET, Desk, desk

AGENT = "9f1c2f5e-8f0d-4d6e-9a53-0d6e7c7f4a11"


@dataclass
class Calls:
    """Takes orders."""

    orders: list[Order] = field(default_factory=list)
    refuses: str = ""
    transfer_refusal: Exception | None = None

    def place(self, order: Order, id: str | None = None) -> str:
        if self.refuses:
            raise PlaceRefused(self.refuses)
        self.orders.append(order)
        return id or ""

    async def transfer(
        self, account_id: str, call_id: str, target: str, *, by: str = "operator", agent: AgentPlace = "leaves"
    ) -> Transfer:
        raise self.transfer_refusal or AssertionError


class Scene:
    def __init__(self, d: Desk, *, records: bool) -> None:
        self.calls = Calls()
        self.draining = False
        self.wall = 1_700_000_000.0
        self.registry = d.registry

        async def equip(agent: Agent) -> Agent:
            return agent

        self.placing = Placing(
            d.registry,
            self.calls,
            d.guard,
            d.dialler,
            agents=Agents(),
            outbound=Outbound(),
            equip=equip,
            draining=lambda: self.draining,
            records=records,
            wall=lambda: self.wall,
            entropy=os.urandom,
        )

    async def place(self, key: str | None = None, *, target: str = TARGET, **fields: object) -> str:
        request = PlaceCall.of(agent_id=AGENT, phone_number=target, **fields)
        return await self.placing.place(ACCOUNT, request, key)


async def scene(d: Desk, *, records: bool = True) -> Scene:
    pipeline = {"protocol": "builtin", "name": "parrot", "parameters": {"tone": "kind", "lang": "en"}}
    await d.registry.create_agent(Agent(AGENT, ACCOUNT, "A", pipeline, 0.0, 0.0))
    return Scene(d, records=records)


async def test_a_call_is_ordered_with_the_agents_parameters_the_variables_and_the_greeting() -> None:
    async with desk() as d:
        it = await scene(d)
        settings = {"greeting": "Hello!", "max_duration": "90s", "join_timeout": "12s", "hide_caller_id": True}
        settings |= {"recording_enabled": True}
        await it.place(from_number="+1 (415) 555-0200", variables={"lang": "de"}, call_settings=settings)
        (order,) = it.calls.orders
        assert order.number.phone_number == "+14155550200"
        assert order.spec.parameters == {"tone": "kind", "lang": "de", "greeting": "Hello!"}
        outgoing = order.outgoing
        assert (outgoing.max_duration_s, outgoing.ring_timeout_s, outgoing.hidden) == (90.0, 12.0, True)
        assert outgoing.recorded is True
        assert outgoing.destination.target == TARGET


async def test_a_call_that_cannot_be_recorded_as_it_is_asked_for_is_not_placed() -> None:
    async with desk() as d:
        it = await scene(d, records=False)
        with pytest.raises(SecretsUnavailable, match="no key to encrypt"):
            await it.place(call_settings={"recording_enabled": True})
        await it.place(call_settings={"recording_enabled": False})
        assert it.calls.orders[0].outgoing.recorded is False


async def test_a_sip_uri_is_called_where_the_operator_has_listed_it() -> None:
    async with desk() as d:
        it = await scene(d)
        await it.place(target="sip:hunt@pbx.example.com")
        assert it.calls.orders[0].outgoing.destination.target == "sip:hunt@pbx.example.com"
        with pytest.raises(DestinationRefused):
            await it.place(target="sip:another@pbx.example.com")


async def test_without_a_from_number_the_agents_own_is_taken_else_any() -> None:
    async with desk() as d:
        it = await scene(d)
        await it.place()
        await d.registry.change_number(ACCOUNT, "number-2", {"agent_id": AGENT}, 1.0)
        await it.place()
        assert it.calls.orders[1].number.id == "number-2"
        assert it.calls.orders[0].outgoing.ring_timeout_s == 30.0


@pytest.mark.parametrize("number", ["+14155559999", "hello", "+442079460000"])
async def test_a_number_that_is_not_the_accounts_is_not_called_from(number: str) -> None:
    async with desk() as d:
        it = await scene(d)
        await d.registry.create_account(Account(OTHER, "Other", 0.0))
        other = Number("n9", OTHER, "+442079460000", "", "sip", "lab", "active", 0.0, 0.0, provider_trunk="lab")
        await d.registry.create_number(other)
        with pytest.raises(ValidationFailed):
            await it.place(from_number=number)


async def test_an_account_without_numbers_is_told_to_import_one() -> None:
    async with desk() as d:
        it = await scene(d)
        for number in ("number-1", "number-2", "number-3"):
            await d.registry.delete_number(ACCOUNT, number)
        with pytest.raises(OutboundUnavailable, match="import one"):
            await it.place()


async def test_the_same_key_gives_the_same_call_for_a_day_and_one_for_another_call_is_a_conflict() -> None:
    async with desk() as d:
        it = await scene(d)
        first = await it.place("k")
        assert await it.place("k") == first
        assert len(it.calls.orders) == 1
        with pytest.raises(InUse):
            await it.place("k", variables={"a": "b"})
        it.wall += KEY_LIFETIME_S + 1
        assert await it.place("k") != first


async def test_a_key_whose_call_was_refused_is_free_again() -> None:
    async with desk() as d:
        it = await scene(d)
        it.calls.refuses = "edge_full"
        with pytest.raises(EdgeFull) as full:
            await it.place("k")
        assert full.value.details == {"reason": "edge_full"}
        it.calls.refuses = ""
        await it.place("k")
        assert len(it.calls.orders) == 1


async def test_what_the_rules_refuse_says_why_and_what_time_heals_is_429() -> None:
    async with desk(outbound={"calls": 1}) as d:
        it = await scene(d)
        with pytest.raises(DestinationRefused) as refused:
            await it.placing.place(ACCOUNT, PlaceCall.of(agent_id=AGENT, phone_number="+882160000000"))
        assert (refused.value.status, refused.value.details["reason"]) == (403, "satellite")
        await it.place()
        with pytest.raises(OutboundLimitReached) as limited:
            await it.place()
        assert (limited.value.status, limited.value.details["reason"]) == (429, "calls")


async def test_no_way_out_a_bad_record_and_a_stop_are_each_said() -> None:
    async with desk(trunk={"outbound": None}) as d:
        it = await scene(d)
        with pytest.raises(OutboundUnavailable, match=r"trunks\.outbound"):
            await it.place(from_number="+14155550100")
        bad = Agent(AGENT, ACCOUNT, "A", {"protocol": 7}, 0.0, 0.0)
        await d.registry.update_agent(bad)
        with pytest.raises(OutboundUnavailable, match="record"):
            await it.place()
        it.draining = True
        with pytest.raises(EdgeFull, match="stopping"):
            await it.place()


@pytest.mark.parametrize(
    ("number", "said"),
    [
        ("4155550123", "does not begin with + and the country code (E.164, such as +14155550100)"),
        ("+14155550", "is too short for its country code"),
        ("tel:+14155550123", "is neither a number in E.164 (such as +14155550100) nor a SIP URI"),
    ],
)
async def test_what_is_no_number_is_a_field_that_is_wrong(number: str, said: str) -> None:
    """422, in the import's words; a refused destination is 403. The guard has counted it all the same."""
    async with desk() as d:
        it = await scene(d)
        with pytest.raises(ValidationFailed) as refusal:
            await it.placing.place(ACCOUNT, PlaceCall.of(agent_id=AGENT, phone_number=number))
        assert refusal.value.problems == (Problem("phone_number", said),)
        assert d.counters.get("outgoing_calls_refused", reason="not_a_number") == 1
        it.calls.transfer_refusal = TollRefusal(Denied.NOT_A_NUMBER, number, said)
        with pytest.raises(ValidationFailed) as refusal:
            await it.placing.transfer(ACCOUNT, "c", TransferCall.of(target=number))
        assert refusal.value.problems == (Problem("target", said),)


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        (TransferRefused("not_live", ""), CallNotFound),
        (TransferRefused("no_way", "no way"), TransferNotPossible),
        (TollRefusal(Denied.COUNTRY, TARGET), DestinationRefused),
        (TollRefusal(Denied.CALLS_PER_MINUTE, TARGET), OutboundLimitReached),
    ],
)
async def test_a_refused_transfer_is_an_error_of_the_api(refusal: Exception, expected: type[Exception]) -> None:
    async with desk() as d:
        it = await scene(d)
        it.calls.transfer_refusal = refusal
        with pytest.raises(expected):
            await it.placing.transfer(ACCOUNT, "c", TransferCall.of(target=TARGET))


@pytest.mark.parametrize(
    "settings", [{"max_duration": "0s"}, {"max_duration": "1h"}, {"join_timeout": "4s"}, {"join_timeout": "121s"}]
)
def test_spans_are_seconds_in_their_bounds(settings: dict[str, str]) -> None:
    with pytest.raises(ValidationFailed):
        PlaceCall.of(agent_id=AGENT, phone_number=TARGET, call_settings=settings)
