"""Accounts, their keys, and what they may dial."""

from __future__ import annotations

import pytest

from control.errors import Forbidden, ResourceNotFound, Unauthorized
from control.operations.principal import Principal
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
