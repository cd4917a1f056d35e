"""The operations themselves, as the command line uses them; what the API adds is tested there."""

from __future__ import annotations

import pytest

from control.errors import (
    Forbidden,
)
from control.operations.principal import Principal
from control.registry.types import CallFilter, Page
from control.resources.accounts import CreateAccount, CreateKey
from control.resources.agents import CreateAgent
from control.resources.numbers import UpdateNumber, import_request
from control.resources.pipelines import BuiltinPipeline
from tests.support.desk import Desk

CONSOLE = Principal.console()


async def test_the_console_makes_an_account_its_key_and_its_number(desk: Desk) -> None:
    """The whole way, without HTTP."""
    account = await desk.operations.create_account(CONSOLE, CreateAccount(name="initech"))
    assert await desk.operations.account_named(CONSOLE, "initech") == account
    inside = Principal.console(account.id)
    key = await desk.operations.create_key(inside, CreateKey(role="operator"))
    by = await desk.operations.authenticate(key.key)
    assert by == Principal(account.id, "operator", key.id)
    agent = await desk.operations.create_agent(
        inside, CreateAgent(name="a", pipeline=BuiltinPipeline(protocol="builtin", name="echo"))
    )
    request = import_request(provider="sip", phone_number="+14155550100", provider_trunk="shut")
    number = await desk.operations.import_number(inside, request)
    assigned = await desk.operations.update_number(inside, number.id, UpdateNumber.of(agent_id=agent.id))
    assert assigned.agent_id == agent.id
    route = await desk.registry.route("shut", "+14155550100")
    assert route is not None
    assert route.agent is not None
    assert route.agent.pipeline == {"protocol": "builtin", "name": "echo"}
    assert route.number.raw == "+14155550100"


async def test_the_console_has_to_choose_an_account_for_what_is_an_account_s(desk: Desk) -> None:
    """A number belongs to somebody."""
    request = import_request(provider="sip", phone_number="+14155550100", provider_trunk="lab")
    for attempt in (
        desk.operations.import_number(CONSOLE, request),
        desk.operations.create_key(CONSOLE, CreateKey()),
        desk.operations.agents(CONSOLE, Page()),
        desk.operations.calls(CONSOLE, Page(), CallFilter()),
    ):
        with pytest.raises(Forbidden):
            await attempt
