"""The operations themselves, as the command line uses them; what the API adds is tested there."""

from __future__ import annotations

import pytest

from control.errors import (
    CallNotFound,
    CallNotLive,
    Code,
    Forbidden,
    NumberAlreadyImported,
    OperationError,
    ResourceNotFound,
    Unauthorized,
)
from control.operations import NoLiveCalls, Operations, Principal
from control.registry.memory import MemoryRegistry
from control.registry.types import CallFilter, Page, RegistryBusy
from control.resources.accounts import CreateAccount, CreateKey
from control.resources.agents import CreateAgent
from control.resources.numbers import UpdateNumber, import_request
from control.resources.pipelines import BuiltinPipeline
from tests.support.desk import Desk, LiveOne, offered

CALL = "0198c0de-0000-4000-8000-000000000011"
CONSOLE = Principal.console()


@pytest.fixture
async def desk() -> Desk:
    """Two accounts and their keys."""
    return await Desk().furnish()


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
        await desk.operations.create_key(Principal.console(CALL), CreateKey())
    with pytest.raises(Forbidden):
        await desk.operations.account_named(desk.principal("acme"), "globex")


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


async def test_hanging_up_tells_ended_from_unknown(desk: Desk) -> None:
    """And says who did it."""
    by = desk.principal("acme")
    with pytest.raises(CallNotFound):
        await desk.operations.hang_up(by, "x", ended_by="operator")
    with pytest.raises(ResourceNotFound):
        await desk.operations.hang_up(by, CALL, ended_by="operator")
    desk.calls.up[CALL] = LiveOne(CALL, by.account)
    await desk.operations.hang_up(by, CALL, ended_by="agent")
    assert desk.calls.ended == [(CALL, "agent")]
    await desk.registry.apply_events([offered(CALL, by.account)])
    with pytest.raises(CallNotLive) as ended:
        await desk.operations.hang_up(by, CALL, ended_by="agent")
    assert ended.value.call_status == "ringing"


async def test_a_process_without_calls_has_none_to_hang_up() -> None:
    """The command line's."""
    calls = NoLiveCalls()
    assert not await calls.hang_up("a", CALL, "operator")
    assert calls.live("a") == ()


class Busy(MemoryRegistry):
    """Locked by another process."""

    async def account(self, account_id: str):  # type: ignore[no-untyped-def]
        """Not now."""
        raise RegistryBusy


async def test_whatever_a_store_raises_is_an_operation_error() -> None:
    """Callers know one family of errors."""
    operations = Operations(Busy(), NoLiveCalls(), Desk().settings, clock=lambda: 0.0, entropy=bytes)
    with pytest.raises(OperationError) as refusal:
        await operations.account(Principal("a", "account"))
    assert refusal.value.code is Code.REGISTRY_BUSY
    request = import_request(provider="sip", phone_number="+14155550100", provider_trunk="lab")
    with pytest.raises(OperationError) as refusal:
        await operations.import_number(Principal("a", "account"), request)
    assert refusal.value.code is Code.REGISTRY_BUSY
