"""Which number a call is for."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from control.passes import Announced, CallPasses
from control.registry.memory import MemoryRegistry
from control.registry.types import Account, Agent, Number
from control.routing import Router, caller_number
from edge.auth import Challenger
from edge.counters import Counters
from edge.events import Address, CallKey, CallOffered, Flow, Identification, TransportName
from edge.trunks import TrunkTable

FLOW = Flow(TransportName.UDP, Address("192.0.2.1", 5060), Address("192.0.2.2", 5060))
OFFER = CallOffered(
    key=CallKey("1"),
    trunk="telnyx:7",
    identified_by=Identification.TOKEN,
    identity="",
    dialed=("12014269044",),
    caller="919113162180",
    caller_name="",
    call_id="c",
    offer=b"",
    flow=FLOW,
)
ANNOUNCED = Announced("CA" + "1" * 32, "AC" + "2" * 32, "acme", "n-twilio", "+14155550100", "+14155550199")


@asynccontextmanager
async def world() -> AsyncIterator[tuple[Router, CallPasses, MemoryRegistry]]:
    registry = MemoryRegistry()
    await registry.create_account(Account("acme", "acme", 0.0))
    await registry.create_agent(Agent("a", "acme", "A", {"protocol": "builtin", "name": "echo"}, 0.0, 0.0))
    for id, phone, trunk in (("n-telnyx", "+12014269044", "telnyx:7"), ("n-twilio", "+14155550100", "twilio")):
        await registry.create_number(
            Number(id, "acme", phone, phone, trunk.partition(":")[0], trunk, "active", 0.0, 0.0)
        )
        await registry.change_number("acme", id, {"agent_id": "a"}, 0.0)
    trunks = TrunkTable((), realm="x", challenger=Challenger(bytes(32)), counters=Counters())
    passes = CallPasses(trunks, "twilio", entropy=os.urandom)
    yield Router(registry, passes), passes, registry


async def test_a_number_without_plus_is_found_on_its_own_trunk() -> None:
    async with world() as (router, _, _):
        found = await router.find(OFFER)
        assert found is not None
        assert (found.number, found.route.number.id, found.from_number) == ("+12014269044", "n-telnyx", "+919113162180")
        assert found.call_sid is None


@pytest.mark.parametrize("trunk", ["telnyx:8", "telnyx", "lab"])
async def test_the_number_of_another_trunk_is_not_found(trunk: str) -> None:
    async with world() as (router, _, _):
        assert await router.find(replace(OFFER, trunk=trunk)) is None


async def test_a_calls_pass_decides_whatever_the_invite_dials() -> None:
    async with world() as (router, passes, _):
        given = passes.issue(ANNOUNCED, 0.0)
        assert given is not None
        offer = replace(OFFER, trunk="twilio", identity=given.username, dialed=("+12014269044",), caller="forged")
        found = await router.find(offer)
        assert found is not None
        assert (found.number, found.from_number) == ("+14155550100", "+14155550199")
        assert (found.call_sid, found.account_sid) == ("CA" + "1" * 32, "AC" + "2" * 32)


async def test_a_call_on_the_pass_trunk_without_a_pass_is_not_found() -> None:
    async with world() as (router, _, _):
        offer = replace(OFFER, trunk="twilio", identity="nobody", dialed=("+14155550100",))
        assert await router.find(offer) is None


async def test_a_number_that_changed_hands_since_the_webhook_is_not_found() -> None:
    async with world() as (router, passes, registry):
        given = passes.issue(ANNOUNCED, 0.0)
        assert given is not None
        await registry.delete_number("acme", "n-twilio")
        again = Number("n-new", "acme", "+14155550100", "", "twilio", "twilio", "active", 0.0, 0.0)
        await registry.create_number(again)
        assert await router.find(replace(OFFER, trunk="twilio", identity=given.username)) is None


def test_a_caller_that_is_no_number_stays_as_it_came() -> None:
    assert caller_number("14155550199") == "+14155550199"
    assert caller_number("anonymous") == "anonymous"


async def test_an_agent_is_found_with_what_its_protocol_needs_of_the_account() -> None:
    async def equip(agent: Agent) -> Agent:
        return replace(agent, secrets={"header:Authorization": f"of {agent.account_id}"})

    async with world() as (_, passes, registry):
        router = Router(registry, passes, equip)
        found = await router.find(OFFER)
        assert found is not None
        assert found.route.agent is not None
        assert found.route.agent.secrets == {"header:Authorization": "of acme"}
        await registry.change_number("acme", "n-telnyx", {"agent_id": None}, 0.0)
        found = await router.find(OFFER)
        assert found is not None
        assert found.route.agent is None
