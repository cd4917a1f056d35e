"""Numbers: imported, given an agent, released."""

from __future__ import annotations

import pytest

from control.errors import NumberAlreadyImported
from control.operations import Operations
from control.operations.principal import Principal
from control.registry.types import Page
from control.resources.numbers import import_request
from tests.support.desk import Desk

CONSOLE = Principal.console()


async def test_the_console_sees_all_accounts_and_an_account_sees_itself(desk: Desk) -> None:
    """Numbers and keys."""
    for name, phone in (("acme", "+14155550100"), ("globex", "+14155550101")):
        desk.wall.advance(1)
        request = import_request(provider="sip", phone_number=phone, provider_trunk="shut")
        await desk.operations.import_number(Principal.console(desk.accounts[name].id), request)
    everything = await desk.operations.numbers(CONSOLE, Page())
    assert [number.phone_number for number in everything.items] == ["+14155550101", "+14155550100"]
    own = await desk.operations.numbers(desk.principal("acme"), Page())
    assert [number.phone_number for number in own.items] == ["+14155550100"]
    assert len(await desk.operations.keys(CONSOLE)) == 3
    assert len(await desk.operations.keys(desk.principal("globex"))) == 1


@pytest.mark.parametrize("spelled", ["acme", "id"])
async def test_a_trunk_lists_accounts_by_name_or_by_id(spelled: str) -> None:
    """Both are the operator's to write."""
    desk = await Desk().furnish()
    account = desk.accounts["acme"]
    listed = account.name if spelled == "acme" else account.id
    trunk = desk.settings.trunks[1].model_copy(update={"accounts": (listed,)})
    settings = desk.settings.model_copy(update={"trunks": (trunk,)})
    operations = Operations(desk.registry, desk.calls, settings, clock=desk.wall, entropy=desk.operations.entropy)
    request = import_request(provider="sip", phone_number="+14155550100", provider_trunk="shut")
    assert (await operations.import_number(desk.principal("acme"), request)).provider == "sip"


async def test_a_number_that_is_taken_is_named_canonically(desk: Desk) -> None:
    """As it was asked for, not as it is stored."""
    request = import_request(provider="sip", phone_number="+1 (415) 555-0100", provider_trunk="lab")
    await desk.operations.import_number(desk.principal("acme"), request)
    with pytest.raises(NumberAlreadyImported) as refusal:
        await desk.operations.import_number(desk.principal("acme"), request)
    assert refusal.value.phone_number == "+14155550100"
