"""What every store does: one suite over SQLite and its twin in memory."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from control.registry.memory import MemoryRegistry
from control.registry.sqlite import SqliteRegistry
from control.registry.types import (
    Account,
    Agent,
    AgentInUse,
    ApiKey,
    CallEvent,
    CallFilter,
    CarrierImport,
    Conflict,
    Connection,
    DiallingRules,
    Integration,
    IntegrationInUse,
    JournalPosition,
    NotFound,
    Number,
    Page,
    PhoneNumberTaken,
    PlacedCall,
    Registry,
    Removal,
    Route,
)
from control.vault import Vault

OURS, THEIRS = Account("a1", "Acme", 1.0), Account("a2", "Umbrella", 2.0)
PARROT = Agent("g1", "a1", "Parrot", {"protocol": "builtin", "name": "parrot"}, 3.0, 3.0)
ECHO = Agent("g2", "a2", "Echo", {"protocol": "builtin", "name": "echo"}, 3.0, 3.0)
NUMBER = Number("n1", "a1", "+4930123456", "030 123456", "sip", "lab", "active", 4.0, 4.0, provider_trunk="lab")
OFFER = {
    "account_id": "a1",
    "direction": "inbound",
    "trunk": "lab",
    "from_number": "+4989",
    "to_number": "+4930123456",
    "number_id": "n1",
    "agent_id": "g1",
    "sip_call_id": "x@y",
}
TELNYX = Integration("a1", "telnyx", {}, {"api_key": "KEY1"}, 5.0, 5.0)
SHARED = Connection(
    "42",
    "a1",
    "telnyx",
    "credential",
    "To Truedy",
    "telnyx:42",
    user_name="gw",
    host="h1.sip.example.com",
    proxy="sip.telnyx.com",
    secrets={"sip_password": "p"},
    created_at=6.0,
    updated_at=6.0,
)
HUNG = replace(
    NUMBER, provider="telnyx", trunk="telnyx:42", provider_trunk=None, provider_connection_id="42", phone_number="+1"
)
END = {"ended_by": "caller", "end_reason": "caller_hung_up", "sip_status": 200, "statistics": {"rtp": {"lost": 3}}}


@pytest.fixture(params=["memory", "sqlite"])
async def registry(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Registry]:
    """Two accounts, each with an agent."""
    store: Registry
    if request.param == "memory":
        store = MemoryRegistry()
    else:
        store = SqliteRegistry.open(tmp_path / "registry.db", Vault(bytes(32), entropy=os.urandom))
    for account in (OURS, THEIRS):
        await store.create_account(account)
    for agent in (PARROT, ECHO):
        await store.create_agent(agent)
    yield store
    await store.close()


def event(id: str, kind: str, call_id: str = "c1", at: float = 0.0, **data: object) -> CallEvent:
    """On a wall clock that began at 1000 s when the call was offered."""
    return CallEvent(id=id, kind=kind, call_id=call_id, at=1000.0 + at, offset_s=at, data=data)


async def refuses(error: type[Exception], operation: Awaitable[object]) -> Exception:
    """The error, for its fields."""
    with pytest.raises(error) as caught:
        await operation
    return caught.value


# accounts and keys


async def test_accounts_are_found_by_id_and_name(registry: Registry) -> None:
    assert await registry.account("a1") == OURS
    assert await registry.account_by_name("Umbrella") == THEIRS
    assert await registry.account_by_name("nobody") is None
    assert await registry.accounts() == [THEIRS, OURS]


async def test_an_account_s_name_is_its_alone(registry: Registry) -> None:
    clash = await refuses(Conflict, registry.create_account(Account("a3", "Acme", 5.0)))
    assert str(clash) == "an account named 'Acme' exists"
    assert len(await registry.accounts()) == 2


async def test_an_unknown_account_is_not_found(registry: Registry) -> None:
    error = await refuses(NotFound, registry.account("a9"))
    assert isinstance(error, NotFound)
    assert (error.kind, error.id) == ("account", "a9")


async def test_a_key_is_found_by_its_digest_alone(registry: Registry) -> None:
    key = ApiKey("k1", "a1", "operator", "wxyz", 5.0)
    await registry.create_key(key, b"d" * 32)
    assert await registry.key_by_digest(b"d" * 32) == key
    assert await registry.key_by_digest(b"e" * 32) is None
    assert await registry.key_by_digest(b"") is None


async def test_keys_are_listed_for_one_account_or_all(registry: Registry) -> None:
    mine, other = ApiKey("k1", "a1", "account", "aaaa", 5.0), ApiKey("k2", "a2", "account", "bbbb", 6.0)
    await registry.create_key(mine, b"1" * 32)
    await registry.create_key(other, b"2" * 32)
    assert await registry.keys("a1") == [mine]
    assert await registry.keys() == [other, mine]


async def test_a_key_stays_revoked_from_the_first_time_on(registry: Registry) -> None:
    await registry.create_key(ApiKey("k1", "a1", "account", "aaaa", 5.0), b"1" * 32)
    await registry.revoke_key("k1", 7.0)
    await registry.revoke_key("k1", 9.0)
    key = await registry.key_by_digest(b"1" * 32)
    assert key is not None
    assert key.revoked_at == 7.0


async def test_keys_need_an_account_and_are_unique(registry: Registry) -> None:
    await registry.create_key(ApiKey("k1", "a1", "account", "aaaa", 5.0), b"1" * 32)
    await refuses(NotFound, registry.create_key(ApiKey("k2", "a9", "account", "aaaa", 5.0), b"2" * 32))
    await refuses(Conflict, registry.create_key(ApiKey("k3", "a1", "account", "aaaa", 5.0), b"1" * 32))
    await refuses(NotFound, registry.revoke_key("k9", 7.0))


# agents


async def test_an_agent_belongs_to_one_account(registry: Registry) -> None:
    assert await registry.agent("a1", "g1") == PARROT
    await refuses(NotFound, registry.agent("a1", "g2"))
    await refuses(NotFound, registry.delete_agent("a1", "g2"))
    await refuses(NotFound, registry.update_agent(replace(ECHO, account_id="a1")))


async def test_an_agent_s_name_and_pipeline_change_and_its_birth_does_not(registry: Registry) -> None:
    pipeline = {"protocol": "twilio-media-streams", "url": "wss://agent/", "parameters": {"a": [1, None, "ü"]}}
    await registry.update_agent(replace(PARROT, name="Bot", pipeline=pipeline, created_at=99.0, updated_at=9.0))
    assert await registry.agent("a1", "g1") == replace(PARROT, name="Bot", pipeline=pipeline, updated_at=9.0)


async def test_agents_come_in_pages_newest_first(registry: Registry) -> None:
    for number in range(5):
        await registry.create_agent(replace(PARROT, id=f"p{number}", created_at=10.0 + number))
    page, total = await registry.agents("a1", Page(limit=2, offset=1))
    assert ([agent.id for agent in page], total) == (["p3", "p2"], 6)
    assert await registry.agents("a1", Page(offset=50)) == ([], 6)


async def test_agents_of_one_moment_come_in_a_fixed_order(registry: Registry) -> None:
    for name in ("zz", "bb", "mm"):
        await registry.create_agent(replace(PARROT, id=name))
    assert [agent.id for agent in (await registry.agents("a1", Page()))[0]] == ["bb", "g1", "mm", "zz"]


async def test_an_agent_that_answers_numbers_is_not_deleted(registry: Registry) -> None:
    await registry.create_number(replace(NUMBER, agent_id="g1"))
    error = await refuses(AgentInUse, registry.delete_agent("a1", "g1"))
    assert isinstance(error, AgentInUse)
    assert (error.agent_id, error.numbers) == ("g1", 1)
    await registry.change_number("a1", "n1", {"agent_id": None}, 5.0)
    await registry.delete_agent("a1", "g1")
    await refuses(NotFound, registry.agent("a1", "g1"))


async def test_an_agent_needs_an_account_and_an_id_of_its_own(registry: Registry) -> None:
    await refuses(NotFound, registry.create_agent(replace(PARROT, id="g9", account_id="a9")))
    await refuses(Conflict, registry.create_agent(PARROT))


# numbers


async def test_a_number_comes_back_as_it_was_stored(registry: Registry) -> None:
    full = replace(NUMBER, agent_id="g1", provider_account_sid="AC1", provider_connection_id="42")
    await registry.create_number(full)
    assert await registry.number("a1", "n1") == full
    assert await registry.numbers("a1", Page()) == ([full], 1)


async def test_a_phone_number_stands_once_in_the_whole_registry(registry: Registry) -> None:
    await registry.create_number(NUMBER)
    for account_id in ("a1", "a2"):
        await refuses(PhoneNumberTaken, registry.create_number(replace(NUMBER, id="n2", account_id=account_id)))
    await refuses(Conflict, registry.create_number(replace(NUMBER, phone_number="+4930999")))
    assert (await registry.numbers(None, Page()))[1] == 1


async def test_a_deleted_number_can_be_imported_by_anybody(registry: Registry) -> None:
    await registry.create_number(NUMBER)
    assert await registry.delete_number("a1", "n1") == Removal(NUMBER)
    await refuses(NotFound, registry.delete_number("a1", "n1"))
    await registry.create_number(replace(NUMBER, id="n2", account_id="a2"))
    assert await registry.route("lab", NUMBER.phone_number) == Route(replace(NUMBER, id="n2", account_id="a2"), None)


async def test_another_account_s_number_is_not_found(registry: Registry) -> None:
    await registry.create_number(NUMBER)
    await refuses(NotFound, registry.number("a2", "n1"))
    await refuses(NotFound, registry.delete_number("a2", "n1"))
    await refuses(NotFound, registry.change_number("a2", "n1", {"agent_id": "g2"}, 5.0))
    assert await registry.numbers("a2", Page()) == ([], 0)


async def test_a_number_gets_only_an_agent_of_its_account(registry: Registry) -> None:
    await refuses(NotFound, registry.create_number(replace(NUMBER, agent_id="g2")))
    await registry.create_number(NUMBER)
    await refuses(NotFound, registry.change_number("a1", "n1", {"agent_id": "g2"}, 5.0))
    assert await registry.number("a1", "n1") == NUMBER
    assigned = await registry.change_number("a1", "n1", {"agent_id": "g1"}, 6.0)
    assert assigned == await registry.number("a1", "n1") == replace(NUMBER, agent_id="g1", updated_at=6.0)


async def test_a_number_needs_an_account(registry: Registry) -> None:
    await refuses(NotFound, registry.create_number(replace(NUMBER, account_id="a9")))


async def test_numbers_come_in_pages_of_an_account_or_of_all(registry: Registry) -> None:
    for number, account in enumerate(["a1", "a2", "a1", "a2", "a1"]):
        row = replace(
            NUMBER, id=f"n{number}", account_id=account, phone_number=f"+49{number}", created_at=10.0 + number
        )
        await registry.create_number(row)
    mine, total = await registry.numbers("a1", Page(limit=2))
    assert ([number.id for number in mine], total) == (["n4", "n2"], 3)
    everybody, total = await registry.numbers(None, Page(limit=3, offset=1))
    assert ([number.id for number in everybody], total) == (["n3", "n2", "n1"], 5)
    for account, found in (("a1", ["n2"]), ("a2", []), (None, ["n2"])):
        rows, total = await registry.numbers(account, Page(), "+492")
        assert ([number.id for number in rows], total) == (found, len(found))


# the hot question


async def test_a_did_leads_to_its_agent_on_its_own_trunk_only(registry: Registry) -> None:
    await registry.create_number(replace(NUMBER, agent_id="g1"))
    assert await registry.route("lab", "+4930123456") == Route(replace(NUMBER, agent_id="g1"), PARROT)
    assert await registry.route("other", "+4930123456") is None
    assert await registry.route("lab", "+4930") is None


async def test_an_unassigned_did_has_no_agent(registry: Registry) -> None:
    await registry.create_number(NUMBER)
    assert await registry.route("lab", "+4930123456") == Route(NUMBER, None)


async def test_a_change_is_seen_by_the_next_call(registry: Registry) -> None:
    await registry.create_number(replace(NUMBER, agent_id="g1"))
    await registry.update_agent(replace(PARROT, name="Changed"))
    route = await registry.route("lab", "+4930123456")
    assert route is not None
    assert route.agent is not None
    assert route.agent.name == "Changed"
    await registry.delete_number("a1", "n1")
    assert await registry.route("lab", "+4930123456") is None


async def test_a_number_is_found_by_its_phone_number_whoever_has_it(registry: Registry) -> None:
    await registry.create_number(replace(NUMBER, account_id="a2"))
    assert await registry.number_by_phone("+4930123456") == replace(NUMBER, account_id="a2")
    assert await registry.number_by_phone("+4930") is None
    await registry.delete_number("a2", "n1")
    assert await registry.number_by_phone("+4930123456") is None


async def test_a_connection_s_own_trunk_finds_its_numbers_and_no_others(registry: Registry) -> None:
    """Calls to the host name that is a connection's alone are its, whether or not its numbers say so yet."""
    await registry.create_number(replace(HUNG, trunk="telnyx"))
    for trunk in ("telnyx", "telnyx:42"):
        assert await registry.route(trunk, "+1") == Route(replace(HUNG, trunk="telnyx"), None)
    await registry.create_number(replace(NUMBER, id="n2"))
    for trunk in ("telnyx:4", "telnyx:", "telnyx:None", "twilio:42", "sip:None", "sip:"):
        assert await registry.route(trunk, "+1") is None
        assert await registry.route(trunk, NUMBER.phone_number) is None


# integrations


async def test_an_integration_is_replaced_and_keeps_its_birth(registry: Registry) -> None:
    first = Integration("a1", "twilio", {"account_sid": "AC1"}, {"auth_token": "old"}, 5.0, 5.0)
    await registry.save_integration(first)
    await registry.save_integration(replace(first, secrets={"auth_token": "new"}, created_at=8.0, updated_at=8.0))
    kept = await registry.integration("a1", "twilio")
    assert kept == replace(first, secrets={"auth_token": "new"}, updated_at=8.0)
    assert "new" not in repr(kept)


async def test_an_integration_belongs_to_one_account_and_provider(registry: Registry) -> None:
    await registry.save_integration(Integration("a1", "twilio", {}, {"auth_token": "t"}))
    await refuses(NotFound, registry.integration("a2", "twilio"))
    await refuses(NotFound, registry.integration("a1", "telnyx"))
    await refuses(NotFound, registry.delete_integration("a2", "twilio"))
    await refuses(NotFound, registry.save_integration(Integration("a9", "twilio", {}, {})))
    await registry.delete_integration("a1", "twilio")
    await refuses(NotFound, registry.delete_integration("a1", "twilio"))


async def test_integrations_are_found_by_what_is_public_and_by_their_subaccounts(registry: Registry) -> None:
    mine = Integration("a1", "twilio", {"account_sid": "AC1"}, {"auth_token": "t", "subaccount:AC9": "u"}, 5.0, 5.0)
    twin = replace(mine, account_id="a2", secrets={"auth_token": "t"})
    for row in (mine, twin):
        await registry.save_integration(row)
    assert await registry.integrations_by("twilio", "account_sid", "AC1") == [mine, twin]
    assert await registry.integrations_by("twilio", "account_sid", "AC9") == [mine]
    for key, value in (("account_sid", "AC2"), ("auth_token", "t"), ("subaccount:AC9", "u"), ("AC1", "account_sid")):
        assert await registry.integrations_by("twilio", key, value) == []
    assert await registry.integrations_by("telnyx", "account_sid", "AC1") == []


async def test_an_integration_is_not_found_by_what_it_had_before(registry: Registry) -> None:
    first = Integration("a1", "twilio", {"account_sid": "AC1"}, {"subaccount:AC9": "u"})
    await registry.save_integration(first)
    await registry.save_integration(replace(first, public={"account_sid": "AC2"}, secrets={}))
    for sid, found in (("AC1", 0), ("AC9", 0), ("AC2", 1)):
        assert len(await registry.integrations_by("twilio", "account_sid", sid)) == found
    await registry.delete_integration("a1", "twilio")
    assert await registry.integrations_by("twilio", "account_sid", "AC2") == []


async def test_an_integration_stays_while_its_numbers_need_it(registry: Registry) -> None:
    await registry.save_integration(TELNYX)
    await registry.create_number(HUNG)
    error = await refuses(IntegrationInUse, registry.delete_integration("a1", "telnyx"))
    assert isinstance(error, IntegrationInUse)
    assert (error.provider, error.numbers) == ("telnyx", 1)
    assert await registry.integration("a1", "telnyx") == TELNYX
    await registry.save_integration(replace(TELNYX, account_id="a2"))
    await registry.delete_integration("a2", "telnyx")
    await registry.delete_number("a1", "n1")
    await registry.delete_integration("a1", "telnyx")


# connections and imports


async def test_a_connection_comes_back_as_it_was_saved_and_keeps_its_birth(registry: Registry) -> None:
    await registry.save_connection(SHARED)
    assert await registry.connection("a1", "telnyx", "42") == SHARED
    changed = replace(SHARED, name="Other", secrets={}, host_used=True, proxy=None, created_at=9.0, updated_at=9.0)
    changed = replace(changed, encrypted_media=True)
    await registry.save_connection(changed)
    assert await registry.connection("a1", "telnyx", "42") == replace(changed, created_at=6.0)


async def test_a_connection_is_an_account_s_own_though_two_share_it_at_the_carrier(registry: Registry) -> None:
    theirs = replace(SHARED, account_id="a2", host="h2.sip.example.com", created_at=5.0)
    for row in (SHARED, theirs):
        await registry.save_connection(row)
    assert await registry.connections("telnyx") == [theirs, SHARED]
    assert await registry.connections("telnyx", "a1") == [SHARED]
    assert await registry.connections("twilio") == []
    for question in (("a2", "telnyx", "4"), ("a1", "twilio", "42"), ("a9", "telnyx", "42")):
        await refuses(NotFound, registry.connection(*question))
    await refuses(NotFound, registry.save_connection(replace(SHARED, account_id="a9", host=None)))


async def test_a_host_name_leads_to_one_connection(registry: Registry) -> None:
    await registry.save_connection(SHARED)
    await refuses(Conflict, registry.save_connection(replace(SHARED, id="43")))
    for id in ("44", "45"):
        await registry.save_connection(replace(SHARED, id=id, host=None))


async def test_numbers_move_to_the_trunk_of_their_connection(registry: Registry) -> None:
    """An FQDN connection that begins to use its own host name leaves the bare domain."""
    await registry.save_connection(replace(SHARED, trunk="telnyx"))
    others = [
        replace(HUNG, id="n2", phone_number="+2", account_id="a2", trunk="telnyx"),
        replace(HUNG, id="n3", phone_number="+3", provider_connection_id="43", trunk="telnyx"),
    ]
    for row in (replace(HUNG, trunk="telnyx"), *others):
        await registry.create_number(row)
    await registry.save_connection(replace(SHARED, host_used=True))
    assert await registry.number("a1", "n1") == HUNG
    assert [await registry.number_by_phone(row.phone_number) for row in others] == others


async def test_an_import_brings_its_connection_and_its_secrets_or_nothing(registry: Registry) -> None:
    await registry.save_integration(TELNYX)
    carrier = CarrierImport(SHARED, {"subaccount:AC9": "u"})
    assert await registry.create_number(HUNG, carrier) is None
    assert await registry.number("a1", "n1") == HUNG
    assert await registry.connection("a1", "telnyx", "42") == SHARED
    assert (await registry.integration("a1", "telnyx")).secrets == {"api_key": "KEY1", "subaccount:AC9": "u"}
    assert len(await registry.integrations_by("telnyx", "account_sid", "AC9")) == 1
    other = replace(SHARED, id="43", host="h3")
    loser = replace(HUNG, id="n2", provider_connection_id="43")
    await refuses(PhoneNumberTaken, registry.create_number(loser, CarrierImport(other, {"subaccount:AC8": "v"})))
    clash = replace(loser, phone_number="+2")
    await refuses(Conflict, registry.create_number(clash, CarrierImport(replace(SHARED, id="43"), {"x": "y"})))
    assert await registry.connections("telnyx") == [SHARED]
    assert "subaccount:AC8" not in (await registry.integration("a1", "telnyx")).secrets
    assert (await registry.numbers(None, Page()))[1] == 1


async def test_an_import_whose_integration_has_gone_meanwhile_leaves_nothing(registry: Registry) -> None:
    for carrier in (CarrierImport(SHARED), CarrierImport(secrets={"a": "b"}), CarrierImport()):
        error = await refuses(NotFound, registry.create_number(HUNG, carrier))
        assert isinstance(error, NotFound)
        assert error.kind == "integration"
    assert await registry.connections("telnyx") == []
    assert await registry.number_by_phone("+1") is None


async def test_an_import_takes_the_place_of_the_binding_it_names_and_of_no_other(registry: Registry) -> None:
    await registry.save_integration(TELNYX)
    held = replace(HUNG, id="n9", account_id="a2", provider_connection_id="7", trunk="telnyx:7")
    await registry.create_number(held)
    await registry.create_number(replace(NUMBER, id="n8"))
    for wrong in (None, "n8", "n1", ""):
        await refuses(PhoneNumberTaken, registry.create_number(HUNG, CarrierImport(replaces=wrong)))
    assert await registry.create_number(HUNG, CarrierImport(replaces="n9")) == Removal(held)
    assert await registry.number_by_phone("+1") == HUNG
    await refuses(NotFound, registry.number("a2", "n9"))
    assert await registry.number("a1", "n8") == replace(NUMBER, id="n8")


async def test_an_import_may_name_a_binding_that_has_gone(registry: Registry) -> None:
    await registry.save_integration(TELNYX)
    assert await registry.create_number(HUNG, CarrierImport(replaces="n9")) is None


async def test_a_connection_goes_with_its_last_number(registry: Registry) -> None:
    await registry.save_integration(TELNYX)
    second = replace(HUNG, id="n2", phone_number="+2")
    for row in (HUNG, second):
        await registry.create_number(row, CarrierImport(SHARED))
    assert await registry.numbers_on("a1", "telnyx", "42") == await registry.numbers_on("a1", "telnyx") == 2
    assert await registry.delete_number("a1", "n1") == Removal(HUNG)
    assert await registry.connections("telnyx") == [SHARED]
    assert await registry.delete_number("a1", "n2") == Removal(second, "42")
    assert await registry.connections("telnyx") == []
    assert await registry.numbers_on("a1", "telnyx") == 0


async def test_a_connection_that_another_account_hangs_on_too_is_still_needed(registry: Registry) -> None:
    theirs = replace(HUNG, id="n2", account_id="a2", phone_number="+2")
    for number in (HUNG, theirs):
        await registry.save_integration(replace(TELNYX, account_id=number.account_id))
        connection = replace(SHARED, account_id=number.account_id, host=None)
        await registry.create_number(number, CarrierImport(connection))
    assert await registry.delete_number("a1", "n1") == Removal(HUNG)
    assert [row.account_id for row in await registry.connections("telnyx")] == ["a2"]
    assert await registry.delete_number("a2", "n2") == Removal(theirs, "42")


@pytest.mark.parametrize(("connection_id", "dropped"), [("7", "7"), ("42", None)])
async def test_a_binding_that_makes_room_takes_its_connection_along(
    registry: Registry, connection_id: str, dropped: str | None
) -> None:
    """Unless the import hangs on the very same one."""
    held = replace(HUNG, id="n9", account_id="a2", provider_connection_id=connection_id)
    await registry.save_integration(replace(TELNYX, account_id="a2"))
    await registry.create_number(held, CarrierImport(replace(SHARED, id=connection_id, account_id="a2", host=None)))
    await registry.save_integration(TELNYX)
    removal = await registry.create_number(HUNG, CarrierImport(SHARED, replaces="n9"))
    assert removal == Removal(held, dropped)
    assert await registry.connections("telnyx") == [SHARED]


async def test_a_number_is_refreshed_with_what_its_carrier_says_or_not_at_all(registry: Registry) -> None:
    await registry.save_integration(TELNYX)
    await registry.create_number(replace(HUNG, trunk="telnyx", agent_id="g1"), CarrierImport())
    carrier = CarrierImport(SHARED, {"subaccount:AC9": "u"}, replaces="n1")
    assert await registry.refresh_number("a1", "n1", carrier) == replace(HUNG, agent_id="g1")
    assert await registry.connection("a1", "telnyx", "42") == SHARED
    assert "subaccount:AC9" in (await registry.integration("a1", "telnyx")).secrets
    for account_id, number_id in (("a2", "n1"), ("a1", "n2")):
        await refuses(NotFound, registry.refresh_number(account_id, number_id, CarrierImport(replace(SHARED, id="7"))))
    await registry.create_number(replace(HUNG, id="n2", phone_number="+2", provider="twilio"))
    clash = CarrierImport(replace(SHARED, id="43"), {"x": "y"})
    await refuses(Conflict, registry.refresh_number("a1", "n1", clash))
    await refuses(NotFound, registry.refresh_number("a1", "n2", CarrierImport(secrets={"x": "y"})))
    assert await registry.connections("telnyx") == [SHARED]
    assert "x" not in (await registry.integration("a1", "telnyx")).secrets


async def test_numbers_are_counted_by_account_provider_and_connection(registry: Registry) -> None:
    await registry.create_number(HUNG)
    twilio = replace(HUNG, id="n2", phone_number="+2", provider="twilio")
    await registry.create_number(twilio)
    await registry.create_number(replace(twilio, id="n3", phone_number="+3", provider_connection_id=None))
    assert await registry.numbers_on("a1", "telnyx") == 1
    assert await registry.numbers_on("a1", "twilio") == 2
    assert await registry.numbers_on("a1", "twilio", "42") == 1
    assert await registry.numbers_on("a2", "twilio") == 0


# calls


async def test_a_call_s_events_become_its_record(registry: Registry) -> None:
    events = [
        event("e1", "offered", **OFFER),
        event("e2", "ringing", at=0.1),
        event("e3", "answered", at=2.0),
        event("e4", "digit", at=5.0, note="5"),
        event("e5", "ended", at=12.5, **END),
    ]
    assert await registry.apply_events(events) == 5
    call = await registry.call("a1", "c1")
    assert (call.status, call.started_at, call.answered_at, call.ended_at) == ("completed", 1000.0, 1002.0, 1012.5)
    assert (call.ring_s, call.duration_s) == (2.0, 10.5)
    assert (call.ended_by, call.end_reason, call.sip_status) == ("caller", "caller_hung_up", 200)
    assert (call.number_id, call.agent_id, call.sip_call_id, call.direction) == ("n1", "g1", "x@y", "inbound")
    assert call.statistics == {"rtp": {"lost": 3}}
    assert [text for _, text in call.timeline] == [
        "offered",
        "ringing",
        "answered",
        "digit: 5",
        "ended: caller_hung_up",
    ]
    assert [offset for offset, _ in call.timeline] == [0.0, 0.1, 2.0, 5.0, 12.5]


@pytest.mark.parametrize("jump_s", [-172_800.0, 3600.0])
async def test_a_wall_clock_that_jumps_spoils_no_duration(registry: Registry, jump_s: float) -> None:
    ended = CallEvent(id="e3", kind="ended", call_id="c1", at=1012.0 + jump_s, offset_s=12.0, data=END)
    await registry.apply_events([event("e1", "offered", **OFFER), event("e2", "answered", at=2.0), ended])
    assert (await registry.call("a1", "c1")).duration_s == 10.0


async def test_a_call_is_ringing_then_in_progress(registry: Registry) -> None:
    await registry.apply_events([event("e1", "offered", **OFFER)])
    assert (await registry.call("a1", "c1")).status == "ringing"
    await registry.apply_events([event("e2", "answered", at=1.0)])
    assert (await registry.call("a1", "c1")).status == "in_progress"


async def test_a_call_that_was_never_answered_failed_and_has_no_duration(registry: Registry) -> None:
    await registry.apply_events([event("e1", "offered", **OFFER), event("e2", "ended", at=3.0, **END)])
    call = await registry.call("a1", "c1")
    assert (call.status, call.duration_s, call.ring_s) == ("failed", None, None)


async def test_an_event_counts_once_however_often_it_comes(registry: Registry) -> None:
    events = [event("e1", "offered", **OFFER), event("e2", "answered", at=2.0)]
    assert await registry.apply_events([*events, *events]) == 2
    assert await registry.apply_events(events) == 0
    assert len((await registry.call("a1", "c1")).timeline) == 2


async def test_the_first_end_stands(registry: Registry) -> None:
    events = [event("e1", "offered", **OFFER), event("e2", "ended", at=3.0, **END)]
    late = [
        event("e3", "ended", at=4.0, ended_by="agent", end_reason="agent_hung_up"),
        event("e4", "answered", at=5.0),
        event("e5", "offered", at=6.0, **(OFFER | {"account_id": "a2"})),
    ]
    await registry.apply_events([*events, *late])
    call = await registry.call("a1", "c1")
    assert (call.end_reason, call.ended_at, call.answered_at) == ("caller_hung_up", 1003.0, None)


async def test_events_of_a_call_that_was_never_offered_are_dropped(registry: Registry) -> None:
    assert await registry.apply_events([event("e1", "answered"), event("e2", "ended", **END)]) == 0
    await refuses(NotFound, registry.call("a1", "c1"))


@pytest.mark.parametrize(
    "bad",
    [
        event("e2", "offered", "c2"),
        event("e2", "offered", "c2", **(OFFER | {"account_id": 7})),
        event("e2", "ended"),
        event("e2", "answered", ""),
    ],
    ids=["no data", "a number for a text", "no reason", "no call"],
)
async def test_an_event_that_makes_no_record_leaves_no_trace(registry: Registry, bad: CallEvent) -> None:
    with pytest.raises(ValueError, match=bad.kind):
        await registry.apply_events([event("e1", "offered", **OFFER), bad], JournalPosition("j", 10))
    assert await registry.journal_position() is None
    await refuses(NotFound, registry.call("a1", "c1"))


async def test_the_position_moves_with_the_events(registry: Registry) -> None:
    assert await registry.journal_position() is None
    await registry.apply_events([event("e1", "offered", **OFFER)], JournalPosition("j", 10))
    await registry.apply_events([event("e2", "answered")])
    assert await registry.journal_position() == JournalPosition("j", 10)
    await registry.apply_events([], JournalPosition("k", 3))
    assert await registry.journal_position() == JournalPosition("k", 3)


async def test_calls_open_when_a_process_begins_died_with_the_one_before(registry: Registry) -> None:
    await registry.apply_events(
        [
            event("e1", "offered", "c1", **OFFER),
            event("e2", "answered", "c1", at=2.0),
            event("e3", "offered", "c2", at=3.0, **OFFER),
            event("e4", "offered", "c3", at=3.0, **OFFER),
            event("e5", "ended", "c3", at=4.0, **END),
            event("e6", "alive", "", at=30.0),
            event("e7", "opened", "", at=500.0),
            event("e8", "offered", "c4", at=501.0, **OFFER),
        ]
    )
    cut, ringing = await registry.call("a1", "c1"), await registry.call("a1", "c2")
    assert (cut.status, cut.end_reason, cut.ended_by, cut.ended_at, cut.duration_s) == (
        "failed",
        "crash",
        "edge",
        1030.0,
        28.0,
    )
    assert cut.timeline[-1] == (30.0, "ended: crash")
    assert (ringing.end_reason, ringing.duration_s) == ("crash", None)
    assert (await registry.call("a1", "c3")).end_reason == "caller_hung_up"
    assert (await registry.call("a1", "c4")).status == "ringing"
    assert await registry.apply_events([event("e7", "opened", "", at=500.0)]) == 0
    assert (await registry.call("a1", "c4")).status == "ringing"


async def test_a_wall_clock_set_back_before_a_crash_gives_no_negative_duration(registry: Registry) -> None:
    await registry.apply_events(
        [event("e1", "offered", **OFFER), event("e2", "answered", at=2.0), event("e3", "alive", "", at=-900.0)]
    )
    await registry.apply_events([event("e4", "opened", "")])
    assert (await registry.call("a1", "c1")).duration_s == 0.0


async def test_a_record_outlives_its_number_and_agent(registry: Registry) -> None:
    await registry.create_number(NUMBER)
    await registry.apply_events([event("e1", "offered", **OFFER)])
    await registry.delete_number("a1", "n1")
    await registry.delete_agent("a1", "g1")
    await registry.apply_events([event("e2", "ended", **END)])
    assert (await registry.call("a1", "c1")).number_id == "n1"


async def test_calls_come_in_pages_by_status_and_number(registry: Registry) -> None:
    for number in range(6):
        data = OFFER | {"number_id": f"n{number % 2}", "account_id": "a1" if number < 5 else "a2"}
        await registry.apply_events([event(f"o{number}", "offered", f"c{number}", at=float(number), **data)])
    await registry.apply_events([event("x", "ended", "c2", at=9.0, **END)])

    async def ids(page: Page, filter: CallFilter) -> tuple[list[str], int]:
        calls, total = await registry.calls("a1", page, filter)
        return [call.id for call in calls], total

    assert await ids(Page(limit=2, offset=1), CallFilter()) == (["c3", "c2"], 5)
    assert await ids(Page(), CallFilter(status="failed")) == (["c2"], 1)
    assert await ids(Page(), CallFilter(number_id="n0")) == (["c4", "c2", "c0"], 3)
    assert await ids(Page(), CallFilter(status="ringing", number_id="n0")) == (["c4", "c0"], 2)
    await refuses(NotFound, registry.call("a1", "c5"))


async def test_a_listed_call_has_its_timeline(registry: Registry) -> None:
    for call_id in ("c1", "c2"):
        await registry.apply_events([event(f"{call_id}o", "offered", call_id, **OFFER)])
    await registry.apply_events([event("r", "ringing", "c2", at=1.0)])
    calls, _ = await registry.calls("a1", Page(), CallFilter())
    assert {call.id: call.timeline for call in calls} == {
        "c1": ((0.0, "offered"),),
        "c2": ((0.0, "offered"), (1.0, "ringing")),
    }


HOSTILE = ["", "'; DROP TABLE calls; --", "\x00\r\n", "ünïcödé 🤖", "%_?", "x" * 10_000]


@pytest.mark.parametrize("text", HOSTILE)
async def test_text_of_any_kind_is_only_text(registry: Registry, text: str) -> None:
    await registry.create_number(replace(NUMBER, raw=text, phone_number=text))
    await registry.update_agent(replace(PARROT, name=text, pipeline={text: text}))
    await registry.apply_events([event("e1", "offered", **(OFFER | {"from_number": text, "note": text}))])
    route = await registry.route("lab", text)
    assert route is not None
    assert route.number.raw == text
    assert (await registry.agent("a1", "g1")).pipeline == {text: text}
    assert (await registry.call("a1", "c1")).from_number == text
    assert await registry.account_by_name(text) is None


Question = Callable[[Registry], Awaitable[object]]


@pytest.mark.parametrize(
    "question",
    [
        lambda r: r.account("'"),
        lambda r: r.agent("a1", "'"),
        lambda r: r.number("a1", "'"),
        lambda r: r.call("a1", "'"),
        lambda r: r.integration("a1", "'"),
        lambda r: r.connection("a1", "telnyx", "'"),
    ],
)
async def test_an_id_that_is_none_is_not_found(registry: Registry, question: Question) -> None:
    await refuses(NotFound, question(registry))


# what agents are authenticated with


async def test_an_agents_secrets_are_kept_with_it_and_come_with_its_route(registry: Registry) -> None:
    armed = replace(PARROT, secrets={"header:Authorization": "Bearer planted", "signing_secret": "s"})
    await registry.update_agent(armed)
    assert await registry.agent("a1", "g1") == armed
    assert await registry.agents("a1", Page()) == ([armed], 1)
    await registry.create_number(replace(NUMBER, agent_id="g1"))
    assert await registry.route("lab", NUMBER.phone_number) == Route(replace(NUMBER, agent_id="g1"), armed)
    assert "planted" not in repr(armed)
    await registry.update_agent(PARROT)
    assert (await registry.agent("a1", "g1")).secrets == {}


async def test_a_new_agent_can_have_secrets(registry: Registry) -> None:
    armed = replace(PARROT, id="g3", created_at=9.0, secrets={"twilio_auth_token": "t"})
    await registry.create_agent(armed)
    assert await registry.agent("a1", "g3") == armed


# --- outgoing calls ----------------------------------------------------------------------------


async def test_dialling_rules_are_an_accounts_own_and_say_nothing_until_set(registry: Registry) -> None:
    assert await registry.dialling_rules("a1") == DiallingRules("a1")
    for rules in (DiallingRules("a1", 5, 6, 7, ("US", "CA")), DiallingRules("a1", calls=1), DiallingRules("a1")):
        await registry.save_dialling_rules(rules)
        assert await registry.dialling_rules("a1") == rules
    assert await registry.dialling_rules("a2") == DiallingRules("a2")
    with pytest.raises(NotFound):
        await registry.dialling_rules("nobody")
    with pytest.raises(NotFound):
        await registry.save_dialling_rules(DiallingRules("nobody", calls=1))


async def test_an_idempotency_key_keeps_its_first_use_until_it_is_forgotten(registry: Registry) -> None:
    first, second = PlacedCall("a1", "k", "f1", "c1", 100.0), PlacedCall("a1", "k", "f2", "c2", 200.0)
    assert await registry.place_once(first, 0.0) == first
    assert await registry.place_once(second, 100.0) == first
    assert await registry.place_once(replace(second, account_id="a2"), 0.0) == replace(second, account_id="a2")
    assert await registry.place_once(second, 150.0) == second
    await registry.forget_placed("a1", "k")
    assert await registry.place_once(first, 0.0) == first


async def test_what_outgoing_calls_lasted_is_summed_from_a_moment_on(registry: Registry) -> None:
    await registry.apply_events(
        [
            CallEvent(id=f"{call}-{kind}", kind=kind, at=at + offset, call_id=call, offset_s=offset, data=data)
            for call, direction, at in (
                ("out1", "outbound", 0.0),
                ("out2", "outbound", 100.0),
                ("in", "inbound", 100.0),
            )
            for kind, offset, data in (
                ("offered", 0.0, OFFER | {"direction": direction}),
                ("answered", 2.0, {}),
                ("ended", 12.0, END),
            )
        ]
    )
    assert await registry.outbound_seconds("a1", 0.0) == 20.0
    assert await registry.outbound_seconds("a1", 50.0) == 10.0
    assert await registry.outbound_seconds("a2", 0.0) == 0.0


async def test_the_carriers_ids_are_added_to_a_calls_record(registry: Registry) -> None:
    ids = [{"X-Telnyx-Session-ID": "s"}, {"X-Telnyx-Leg-ID": "l"}, {"X-Telnyx-Leg-ID": "l"}]
    events = [CallEvent(id="0", kind="offered", at=1.0, call_id="c", data=OFFER)]
    events += [
        CallEvent(id=f"i{number}", kind="carrier_ids", at=1.0, call_id="c", data={"ids": each})
        for number, each in enumerate(ids)
    ]
    await registry.apply_events(events)
    call = await registry.call("a1", "c")
    assert call.carrier_ids == {"X-Telnyx-Session-ID": "s", "X-Telnyx-Leg-ID": "l"}
    assert [event for _, event in call.timeline] == ["offered", "carrier_ids", "carrier_ids", "carrier_ids"]
    with pytest.raises(ValueError, match="carrier_ids"):
        await registry.apply_events([CallEvent(id="bad", kind="carrier_ids", at=1.0, call_id="c", data={"ids": 7})])


# --- recordings ----------------------------------------------------------------------------------


async def test_what_an_agent_and_a_number_wish_of_recording_is_kept(registry: Registry) -> None:
    await registry.create_account(Account("a9", "Nine", 1.0))
    await registry.create_agent(Agent("g9", "a9", "Agent", {}, 1.0, 1.0, options='{"recording":{"enabled":true}}'))
    assert (await registry.agent("a9", "g9")).options == '{"recording":{"enabled":true}}'
    await registry.update_agent(Agent("g9", "a9", "Agent", {}, 1.0, 2.0, options="{}"))
    assert (await registry.agent("a9", "g9")).options == "{}"
    number = Number("n9", "a9", "+9", "+9", "sip", "lab", "active", 1.0, 1.0, agent_id="g9", provider_trunk="lab")
    await registry.create_number(number)
    changed = await registry.change_number("a9", "n9", {"options": '{"recording":{"format":"wav"}}'}, 3.0)
    assert (changed.options, changed.updated_at) == ('{"recording":{"format":"wav"}}', 3.0)
    route = await registry.route("lab", "+9")
    assert route is not None
    assert route.number == changed
    with pytest.raises(NotFound):
        await registry.change_number("a1", "n9", {"options": "{}"}, 4.0)


async def test_calls_whose_recordings_have_no_end_are_found(registry: Registry) -> None:
    data = {"account_id": "a1", "direction": "inbound", "trunk": "t", "from_number": "+1", "to_number": "+2"}
    for id in ("c1", "c2", "c3"):
        await registry.apply_events([CallEvent(id=f"{id}/o", kind="offered", at=1.0, call_id=id, data=data)])
    for number, (id, status) in enumerate([("c1", "recording"), ("c2", "recording"), ("c2", "completed")]):
        event = CallEvent(id=f"r{number}", kind="recording", at=2.0, call_id=id, data={"status": status})
        await registry.apply_events([event])
    assert await registry.calls_being_recorded() == ["c1"]
    assert (await registry.call("a1", "c2")).recording == {"status": "completed"}
    assert (await registry.call("a1", "c3")).recording == {}


# what numbers add


async def test_a_numbers_parameters_and_fallback_are_kept_and_come_with_its_route(registry: Registry) -> None:
    await registry.create_number(replace(NUMBER, agent_id="g1"))
    changes = {"parameters": {"language": "de"}, "fallback": {"forward": "+4930999"}}
    changed = await registry.change_number("a1", "n1", changes, 9.0)
    assert changed == replace(NUMBER, agent_id="g1", **changes, updated_at=9.0)
    assert await registry.number("a1", "n1") == changed
    assert await registry.numbers("a1", Page()) == ([changed], 1)
    assert await registry.number_by_phone(NUMBER.phone_number) == changed
    assert await registry.route("lab", NUMBER.phone_number) == Route(changed, PARROT)
    cleared = await registry.change_number("a1", "n1", {"fallback": None}, 10.0)
    assert (cleared.fallback, cleared.parameters, cleared.agent_id) == (None, {"language": "de"}, "g1")


async def test_a_new_number_can_have_them(registry: Registry) -> None:
    full = replace(NUMBER, parameters={"a": "1"}, fallback={"message": "unavailable"})
    await registry.create_number(full)
    assert await registry.number("a1", "n1") == full


async def test_another_accounts_number_is_not_changed(registry: Registry) -> None:
    await registry.create_number(NUMBER)
    await refuses(NotFound, registry.change_number("a2", "n1", {"fallback": None}, 9.0))
    await refuses(NotFound, registry.change_number("a1", "n1", {"agent_id": "g2"}, 9.0))
    assert await registry.number("a1", "n1") == NUMBER
