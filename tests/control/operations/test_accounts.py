"""Accounts, their keys, and what they may dial."""

from __future__ import annotations

import pytest

from control.errors import Forbidden, ResourceNotFound, Unauthorized
from control.operations.principal import Principal
from control.registry.types import CallEvent
from control.resources.accounts import CreateKey, SetDialling
from tests.support.desk import Desk

CONSOLE = Principal.console()
NOBODY = "0198c0de-0000-4000-8000-000000000011"


async def test_the_console_revokes_and_rotates_any_key(desk: Desk) -> None:
    """By its id."""
    for key in await desk.operations.keys(CONSOLE):
        made = await desk.operations.rotate_key(CONSOLE, key.id)
        await desk.operations.revoke_key(CONSOLE, made.id)
        with pytest.raises(Unauthorized):
            await desk.operations.authenticate(made.key)
    for text in desk.keys.values():
        with pytest.raises(Unauthorized):
            await desk.operations.authenticate(text)


async def test_an_unknown_account_is_named_so(desk: Desk) -> None:
    """By name, and by a principal whose account is gone."""
    with pytest.raises(ResourceNotFound):
        await desk.operations.account_named(CONSOLE, "nobody")
    with pytest.raises(ResourceNotFound):
        await desk.operations.create_key(Principal.console(NOBODY), CreateKey())
    with pytest.raises(Forbidden):
        await desk.operations.account_named(desk.principal("acme"), "globex")


async def test_what_an_account_may_dial_is_the_operators_to_say(desk: Desk) -> None:
    """And its own to read; what is not said is as the settings have it."""
    acme, globex = desk.principal("acme"), desk.principal("globex")
    with pytest.raises(Forbidden):
        await desk.operations.set_dialling(acme, acme.account, SetDialling(calls=7))
    said = await desk.operations.set_dialling(CONSOLE, acme.account, SetDialling(calls=7, countries=["US", "US"]))
    assert (said.calls, said.countries) == (7, ["US"])
    assert said.minutes_per_day == desk.settings.outbound.minutes_per_day
    assert await desk.operations.dialling(acme, acme.account) == said
    with pytest.raises(ResourceNotFound):
        await desk.operations.dialling(globex, acme.account)


async def test_of_the_minutes_those_of_the_day_are_used(desk: Desk) -> None:
    """In UTC: a call that ended yesterday costs nothing today."""
    by = desk.principal("acme")
    midnight = desk.wall() - desk.wall() % 86_400
    offer = {"account_id": by.account, "direction": "outbound", "trunk": "t", "from_number": "+1", "to_number": "+2"}
    end = {"ended_by": "callee", "end_reason": "callee_hung_up"}
    for call, at in (("yesterday", midnight - 1), ("today", midnight + 1)):
        kinds = (("offered", 0.0, offer), ("answered", 10.0, {}), ("ended", 100.0, end))
        await desk.registry.apply_events(
            [
                CallEvent(id=call + kind, kind=kind, at=at, call_id=call, offset_s=offset_s, data=data)
                for kind, offset_s, data in kinds
            ]
        )
    assert (await desk.operations.dialling(by, by.account)).used_minutes == 1.5
