"""Credentials and imports, with carriers that say what a test lets them say."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from control.carriers import TOKEN_GRACE_S
from control.errors import (
    InUse,
    NumberAlreadyImported,
    OperationError,
    ProviderVerificationFailed,
    ResourceNotFound,
)
from control.live_calls import NoLiveCalls
from control.operations import Operations
from control.operations.principal import Principal
from control.providers import DISPROVING, Check, Checked, Claim, ProviderWarning, Verified, signing_tokens
from control.registry.memory import MemoryRegistry
from control.registry.types import CarrierImport, Connection, Integration, Number, Page, Removal, SecretsUnavailable
from control.resources.integrations import SaveTelnyxIntegration, SaveTwilioIntegration
from control.resources.numbers import ImportedTelnyxNumber, ImportedTwilioNumber, import_request
from tests.support.desk import SID, Desk, believe

PHONE = "+14155550100"
OTHER_SID = "AC" + "1" * 32


@pytest.fixture
async def desk() -> Desk:
    """Two accounts, both with credentials at both carriers."""
    desk = await Desk().furnish()
    for account in ("acme", "globex"):
        await desk.integrate(account)
    return desk


async def integration(desk: Desk, provider: str, account: str = "acme") -> Integration:
    """With its secrets."""
    return await desk.registry.integration(desk.accounts[account].id, provider)


async def import_twilio(desk: Desk, account: str = "acme", phone: str = PHONE, sid: str = SID) -> ImportedTwilioNumber:
    """As the account's key does it."""
    request = import_request(provider="twilio", phone_number=phone, provider_account_sid=sid)
    number = await desk.operations.import_number(desk.principal(account), request)
    assert isinstance(number, ImportedTwilioNumber)
    return number


async def import_telnyx(
    desk: Desk, account: str = "acme", phone: str = PHONE, connection: str = "42", **more: Any
) -> ImportedTelnyxNumber:
    """As the account's key does it."""
    request = import_request(provider="telnyx", phone_number=phone, provider_connection_id=connection, **more)
    number = await desk.operations.import_number(desk.principal(account), request)
    assert isinstance(number, ImportedTelnyxNumber)
    return number


async def numbers(desk: Desk) -> list[tuple[str, str]]:
    """Everybody's: account and phone number."""
    found, _ = await desk.registry.numbers(None, Page())
    names = {account.id: name for name, account in desk.accounts.items()}
    return [(names[number.account_id], number.phone_number) for number in found]


async def save_twilio(desk: Desk, token: str, sid: str = SID) -> None:
    """In acme."""
    request = SaveTwilioIntegration.of(account_sid=sid, auth_token=token)
    await desk.operations.save_twilio_integration(desk.principal("acme"), request)


async def save_telnyx(desk: Desk, key: str, **more: str) -> None:
    """In acme."""
    request = SaveTelnyxIntegration.of(api_key=key, **more)
    await desk.operations.save_telnyx_integration(desk.principal("acme"), request)


# credentials


async def test_credentials_are_checked_as_they_would_be_kept(desk: Desk) -> None:
    seen = [(row.account_id, row.provider, row.secrets) for row in desk.carrier.integrations]
    ids = [desk.accounts[name].id for name in ("acme", "globex")]
    assert seen == [
        (ids[0], "twilio", {"auth_token": "acme-secret"}),
        (ids[0], "telnyx", {"api_key": "acme-secret"}),
        (ids[1], "twilio", {"auth_token": "globex-secret"}),
        (ids[1], "telnyx", {"api_key": "globex-secret"}),
    ]
    assert (await integration(desk, "twilio")).public == {"account_sid": SID}


async def test_what_is_shown_of_credentials_is_that_they_are_there(desk: Desk) -> None:
    by = desk.principal("acme")
    await save_telnyx(desk, "another-key", sip_password="sip-secret")
    desk.carrier.checked = Checked((ProviderWarning("trial_account", "Calls are limited"),), {"subaccount:AC9": "sub"})
    request = SaveTwilioIntegration.of(account_sid=SID, auth_token="new-secret")
    saved = await desk.operations.save_twilio_integration(by, request)
    assert [each.code for each in saved.warnings] == ["trial_account"]
    shown = [saved, await desk.operations.twilio_integration(by), await desk.operations.telnyx_integration(by)]
    text = repr([each.model_dump() for each in shown]) + repr(shown) + repr(request)
    assert all(secret not in text for secret in ("acme-secret", "new-secret", "another-key", "sip-secret", "'sub'"))
    twilio, telnyx = await desk.operations.twilio_integration(by), await desk.operations.telnyx_integration(by)
    assert (twilio.account_sid, twilio.auth_token_set, twilio.subaccounts) == (SID, True, ["AC9"])
    assert (telnyx.api_key_set, telnyx.sip_password_set) == (True, True)


async def test_credentials_that_the_carrier_refuses_replace_nothing(desk: Desk) -> None:
    desk.carrier.bad_credentials = ProviderVerificationFailed("twilio", Check.CREDENTIALS, provider_status=401)
    with pytest.raises(ProviderVerificationFailed) as refused:
        await save_twilio(desk, "wrong")
    assert refused.value.details == {"provider": "twilio", "check": "credentials", "provider_status": 401}
    assert (await integration(desk, "twilio")).secrets == {"auth_token": "acme-secret"}


async def test_the_first_import_of_an_sdk_is_not_the_carriers_time() -> None:
    desk = await Desk(providers={"request_timeout_s": 0.02}).furnish()
    desk.carrier.load_s = 0.05
    await desk.integrate("acme")
    assert (await import_twilio(desk)).provider == "twilio"


async def test_a_carrier_that_does_not_answer_is_given_up_in_time() -> None:
    desk = await Desk(providers={"request_timeout_s": 0.01}).furnish()
    desk.carrier.silent = True
    with pytest.raises(ProviderVerificationFailed) as refused:
        await desk.integrate("acme", "telnyx")
    assert refused.value.details == {"provider": "telnyx", "check": "timeout"}
    assert refused.value.message == "Telnyx did not answer within 0.01 s"
    desk.carrier.silent = False
    await desk.integrate("acme")
    desk.carrier.silent = True
    for attempt in (import_twilio(desk), import_telnyx(desk)):
        with pytest.raises(ProviderVerificationFailed) as refused:
            await attempt
        assert refused.value.check == "timeout"
    assert await numbers(desk) == []


async def test_a_carrier_out_of_service_is_named_so() -> None:
    desk = await Desk().furnish()
    operations = Operations(desk.registry, NoLiveCalls(), desk.settings, clock=desk.wall, entropy=bytes)
    with pytest.raises(ProviderVerificationFailed) as refused:
        await operations.save_telnyx_integration(desk.principal("acme"), SaveTelnyxIntegration.of(api_key="k"))
    assert refused.value.check == "out_of_service"
    await desk.integrate("acme")
    request = import_request(provider="twilio", phone_number=PHONE, provider_account_sid=SID)
    with pytest.raises(ProviderVerificationFailed) as refused:
        await operations.import_number(desk.principal("acme"), request)
    assert refused.value.check == "out_of_service"


async def test_a_token_that_a_new_one_replaced_signs_for_a_day(desk: Desk) -> None:
    """Twilio signs with the primary token, which may still be the old one."""
    begun = desk.wall()
    await save_twilio(desk, "second")
    kept = await integration(desk, "twilio")
    assert signing_tokens(kept, SID, begun) == ("second", "acme-secret")
    assert signing_tokens(kept, SID, begun + TOKEN_GRACE_S - 1) == ("second", "acme-secret")
    assert signing_tokens(kept, SID, begun + TOKEN_GRACE_S) == ("second",)
    by = desk.principal("acme")
    shown = await desk.operations.twilio_integration(by)
    assert shown.previous_auth_token_until is not None
    assert shown.previous_auth_token_until.timestamp() == begun + TOKEN_GRACE_S
    desk.wall.advance(TOKEN_GRACE_S)
    assert (await desk.operations.twilio_integration(by)).previous_auth_token_until is None


async def test_the_same_token_saved_again_ends_no_rotation_and_begins_none(desk: Desk) -> None:
    begun = desk.wall()
    await save_twilio(desk, "acme-secret")
    assert (await integration(desk, "twilio")).secrets == {"auth_token": "acme-secret"}
    await save_twilio(desk, "second")
    desk.wall.advance(60)
    await save_twilio(desk, "second")
    assert signing_tokens(await integration(desk, "twilio"), SID, begun + TOKEN_GRACE_S - 1)[1:] == ("acme-secret",)
    desk.wall.advance(TOKEN_GRACE_S)
    await save_twilio(desk, "second")
    assert (await integration(desk, "twilio")).secrets == {"auth_token": "second"}


async def test_of_two_rotations_the_last_one_counts(desk: Desk) -> None:
    for token in ("second", "third"):
        await save_twilio(desk, token)
    assert signing_tokens(await integration(desk, "twilio"), SID, desk.wall()) == ("third", "second")


async def test_subaccounts_keep_their_tokens_while_the_account_is_the_same(desk: Desk) -> None:
    desk.carrier.say = lambda claim, integration: Verified("twilio", secrets={f"subaccount:{claim.reference}": "sub"})
    await import_twilio(desk, sid=OTHER_SID)
    await save_twilio(desk, "second")
    kept = await integration(desk, "twilio")
    assert signing_tokens(kept, OTHER_SID, desk.wall()) == ("sub",)
    assert desk.carrier.integrations[-1].secrets[f"subaccount:{OTHER_SID}"] == "sub"
    desk.carrier.checked = Checked(secrets={f"subaccount:{OTHER_SID}": "anew"})
    await save_twilio(desk, "second")
    assert signing_tokens(await integration(desk, "twilio"), OTHER_SID, desk.wall()) == ("anew",)


async def test_what_is_saved_while_credentials_are_checked_is_not_lost(desk: Desk) -> None:
    """An import of a subaccount's number ends while the carrier thinks about a new token."""
    checks = desk.carrier.check_credentials

    async def meanwhile(integration: Integration) -> Checked:
        desk.carrier.check_credentials = checks  # type: ignore[method-assign]
        desk.carrier.say = lambda claim, _: Verified("twilio", secrets={f"subaccount:{claim.reference}": "sub"})
        await import_twilio(desk, sid=OTHER_SID)
        return Checked()

    desk.carrier.check_credentials = meanwhile  # type: ignore[method-assign]
    await save_twilio(desk, "second")
    kept = await integration(desk, "twilio")
    assert signing_tokens(kept, OTHER_SID, desk.wall()) == ("sub",)
    assert signing_tokens(kept, SID, desk.wall()) == ("second", "acme-secret")


async def test_another_account_at_twilio_waits_until_its_numbers_are_gone(desk: Desk) -> None:
    """Their webhooks name the one before, and nobody would know its token."""
    number = await import_twilio(desk)
    with pytest.raises(InUse) as refused:
        await save_twilio(desk, "other", OTHER_SID)
    assert refused.value.details == {"numbers": 1}
    assert SID in refused.value.message
    assert (await integration(desk, "twilio")).public == {"account_sid": SID}
    await desk.operations.delete_number(desk.principal("acme"), number.id)
    await save_twilio(desk, "other", OTHER_SID)
    assert (await integration(desk, "twilio")).secrets == {"auth_token": "other"}
    assert signing_tokens(await integration(desk, "twilio"), SID, desk.wall()) == ()


async def test_credentials_stay_while_numbers_need_them(desk: Desk) -> None:
    by = desk.principal("acme")
    number = await import_telnyx(desk)
    with pytest.raises(InUse) as refused:
        await desk.operations.delete_integration(by, "telnyx")
    assert refused.value.message == "1 number needs these credentials: remove first"
    await desk.operations.delete_number(by, number.id)
    assert (await desk.operations.delete_integration(by, "telnyx")).deleted
    for gone in (desk.operations.telnyx_integration(by), desk.operations.delete_integration(by, "telnyx")):
        with pytest.raises(ResourceNotFound):
            await gone


async def test_a_new_sip_password_reaches_the_connections_that_had_it_from_here(desk: Desk) -> None:
    await save_telnyx(desk, "k", sip_password="one")

    def connect(claim: Claim, integration: Integration) -> Verified:
        kind, password = {"1": ("credential", "one"), "2": ("credential", None), "3": ("credential", "own")}.get(
            claim.reference, ("fqdn", None)
        )
        secrets = {"sip_password": password} if password else {}
        connection = Connection(claim.reference, claim.account_id, "telnyx", kind, "gw", "telnyx", secrets=secrets)
        return Verified("telnyx", connection=connection)

    desk.carrier.say = connect
    for last in range(1, 5):
        await import_telnyx(desk, phone=f"+1415555010{last}", connection=str(last))
    await import_telnyx(desk, "globex", "+14155550109", "2")
    desk.connections.told.clear()
    await save_telnyx(desk, "k", sip_password="two")
    changed = {row.id: row.secrets for row in desk.connections.told if isinstance(row, Connection)}
    assert changed == {"1": {"sip_password": "two"}, "2": {"sip_password": "two"}}
    rows = await desk.registry.connections("telnyx", desk.accounts["acme"].id)
    assert [row.secrets.get("sip_password") for row in rows] == ["two", "two", "own", None]
    (theirs,) = await desk.registry.connections("telnyx", desk.accounts["globex"].id)
    assert theirs.secrets == {}
    desk.connections.told.clear()
    for more in ({"sip_password": "two"}, {}):
        await save_telnyx(desk, "k", **more)
    assert desk.connections.told == []


# imports


async def test_a_carrier_s_number_is_verified_with_the_account_s_own_credentials(desk: Desk) -> None:
    """The carrier says which trunk its calls come in on; secrets stay inside."""
    twilio = await import_twilio(desk, phone="+1 415 555 0100")
    telnyx = await import_telnyx(desk, phone="+14155550101")
    assert (twilio.provider_account_sid, telnyx.provider_connection_id) == (SID, "42")
    (first, _), (second, _) = desk.carrier.claims
    account_id = desk.accounts["acme"].id
    assert first == Claim(account_id, PHONE, SID)
    assert second == Claim(account_id, "+14155550101", "42", host=second.host)
    assert [row.secrets for _, row in desk.carrier.claims] == [
        {"auth_token": "acme-secret"},
        {"api_key": "acme-secret"},
    ]
    for trunk, phone in (("twilio", PHONE), ("telnyx:42", "+14155550101")):
        route = await desk.registry.route(trunk, phone)
        assert route is not None
        assert route.number.account_id == account_id
    assert "secret" not in repr((twilio, telnyx))


async def test_an_import_tells_what_to_look_after(desk: Desk) -> None:
    warning = ProviderWarning("voice_url", "The voice URL is not ours")
    desk.carrier.say = lambda claim, integration: replace(believe(claim, integration), warnings=(warning,))
    for number in (await import_twilio(desk), await import_telnyx(desk, phone="+14155550101")):
        assert [each.model_dump() for each in number.warnings] == [
            {"code": "voice_url", "message": "The voice URL is not ours"}
        ]


async def test_another_account_s_credentials_do_not_count() -> None:
    """``integration_missing``, and the carrier is not asked."""
    desk = await Desk().furnish()
    await desk.integrate("globex")
    with pytest.raises(ProviderVerificationFailed) as refused:
        await import_twilio(desk)
    assert refused.value.check == "integration_missing"
    assert desk.carrier.claims == []


async def test_what_a_carrier_refuses_is_not_imported(desk: Desk) -> None:
    """Its status and code are passed on; the number stays free."""
    refusal = ProviderVerificationFailed("telnyx", Check.NUMBER, provider_status=404, provider_code="10005")
    desk.carrier.refusals[desk.accounts["acme"].id] = refusal
    with pytest.raises(ProviderVerificationFailed) as refused:
        await import_telnyx(desk)
    assert refused.value.details == {
        "provider": "telnyx",
        "check": "number",
        "provider_status": 404,
        "provider_code": "10005",
    }
    assert await numbers(desk) == []
    assert await desk.registry.connections("telnyx") == []
    await import_telnyx(desk, "globex")


async def test_a_connection_is_offered_one_host_name_of_its_own(desk: Desk) -> None:
    await import_telnyx(desk)
    await import_telnyx(desk, phone="+14155550101")
    await import_telnyx(desk, phone="+14155550102", connection="43")
    hosts = [claim.host for claim, _ in desk.carrier.claims]
    assert hosts[0] == hosts[1] != hosts[2]
    for host in hosts:
        assert host is not None
        label, _, domain = host.partition(".")
        assert domain == "sip.truedy.ai"
        assert len(label) == 16
        assert label.isalnum()
        assert label.islower()
    first, second, _ = (claim.connection for claim, _ in desk.carrier.claims)
    assert first is None
    assert second == await desk.registry.connection(desk.accounts["acme"].id, "telnyx", "42")


async def test_a_sip_password_goes_with_the_claim_and_is_sealed_with_the_connection(desk: Desk) -> None:
    await import_telnyx(desk, sip_password="hunter22")
    (claim, _) = desk.carrier.claims[-1]
    assert (claim.sip_password, claim.rotate_sip_password) == ("hunter22", False)
    assert "hunter22" not in repr(claim)
    (told,) = desk.connections.told
    assert isinstance(told, Connection)
    assert told == await desk.registry.connection(desk.accounts["acme"].id, "telnyx", "42")
    assert told.secrets == {"sip_password": "hunter22"}
    assert (told.created_at, told.updated_at) == (desk.wall(), desk.wall())


async def test_only_a_connection_that_is_new_or_another_is_told_of(desk: Desk) -> None:
    await import_telnyx(desk)
    desk.wall.advance(60)
    await import_telnyx(desk, phone="+14155550101")
    assert len(desk.connections.told) == 1

    def moved(claim: Claim, _: Integration) -> Verified:
        assert claim.connection is not None
        return Verified("telnyx:42", connection=replace(claim.connection, proxy="sip.telnyx.eu"))

    desk.carrier.say = moved
    await import_telnyx(desk, phone="+14155550102")
    (_, told) = desk.connections.told
    assert isinstance(told, Connection)
    assert told.proxy == "sip.telnyx.eu"


async def test_integrations_that_go_while_the_carrier_thinks_leave_nothing(desk: Desk) -> None:
    def slowly(claim: Claim, integration: Integration) -> Verified:
        desk.registry._integrations.clear()
        return believe(claim, integration)

    desk.carrier.say = slowly
    with pytest.raises(ProviderVerificationFailed) as refused:
        await import_telnyx(desk)
    assert refused.value.check == "integration_missing"
    assert await numbers(desk) == []
    assert await desk.registry.connections("telnyx") == []
    assert desk.connections.told == []


# a rotated password


class Rotation:
    """Verified, with a password that is set when nothing else can fail."""

    def __init__(self, desk: Desk, error: Exception | None = None) -> None:
        self.desk = desk
        self.error = error
        self.count = 0
        desk.carrier.say = self.say

    def say(self, claim: Claim, integration: Integration) -> Verified:
        """As a carrier whose passwords cannot be read."""
        verified = believe(replace(claim, connection=None), integration)
        connection = verified.connection
        assert connection is not None

        async def finish() -> Connection:
            if self.error is not None:
                raise self.error
            self.count += 1
            return replace(connection, secrets={"sip_password": f"rotated-{self.count}"})

        return replace(verified, finish=finish if claim.rotate_sip_password else None)


async def test_a_password_is_rotated_on_consent_alone_and_kept(desk: Desk) -> None:
    rotation = Rotation(desk)
    await import_telnyx(desk)
    assert rotation.count == 0
    await import_telnyx(desk, phone="+14155550101", connection="43", rotate_sip_password=True)
    kept = await desk.registry.connection(desk.accounts["acme"].id, "telnyx", "43")
    assert kept.secrets == {"sip_password": "rotated-1"}
    assert desk.connections.told[-1] == kept


async def test_no_password_is_rotated_for_a_number_that_is_taken(desk: Desk) -> None:
    rotation = Rotation(desk)
    await import_telnyx(desk)
    for account in ("acme", "globex"):
        with pytest.raises(NumberAlreadyImported):
            await import_telnyx(desk, account, rotate_sip_password=True)
    assert rotation.count == 0


async def test_a_rotation_that_fails_leaves_nothing(desk: Desk) -> None:
    Rotation(desk, ProviderVerificationFailed("telnyx", Check.UNREACHABLE))
    with pytest.raises(ProviderVerificationFailed):
        await import_telnyx(desk, rotate_sip_password=True)
    assert await numbers(desk) == []
    assert await desk.registry.connections("telnyx") == []
    assert desk.connections.told == []


class Elsewhere(MemoryRegistry):
    """Another process is always faster with the last number."""

    faster = False

    async def create_number(self, number: Number, carrier: CarrierImport | None = None) -> Removal | None:
        """Too late, once ``faster`` is set."""
        if self.faster:
            await super().create_number(replace(number, id=f"not {number.id}", provider_connection_id=None, trunk="x"))
        return await super().create_number(number, carrier)


async def test_an_import_that_loses_at_the_last_moment_keeps_the_password_that_other_numbers_need() -> None:
    registry = Elsewhere()
    desk = await Desk(registry=registry).furnish()
    await desk.integrate("acme")
    Rotation(desk)
    await import_telnyx(desk)
    registry.faster = True
    with pytest.raises(NumberAlreadyImported):
        await import_telnyx(desk, phone="+14155550101", rotate_sip_password=True)
    kept = await registry.connection(desk.accounts["acme"].id, "telnyx", "42")
    assert kept.secrets == {"sip_password": "rotated-1"}
    assert desk.connections.told[-1] == replace(kept, created_at=desk.wall())
    with pytest.raises(NumberAlreadyImported):
        await import_telnyx(desk, phone="+14155550102", connection="43", rotate_sip_password=True)
    assert [row.id for row in await registry.connections("telnyx")] == ["42"]


# a number that is taken


@pytest.mark.parametrize("check", [*Check, "a word of tomorrow"])
async def test_a_binding_falls_when_its_own_carrier_denies_it(desk: Desk, check: str) -> None:
    """And for nothing less: a carrier that cannot be asked denies nothing."""
    await import_twilio(desk, "globex")
    desk.carrier.refusals[desk.accounts["globex"].id] = ProviderVerificationFailed("twilio", check)
    desk.carrier.claims.clear()
    if check in DISPROVING:
        await import_telnyx(desk)
        assert await numbers(desk) == [("acme", PHONE)]
        assert await desk.registry.route("twilio", PHONE) is None
    else:
        with pytest.raises(NumberAlreadyImported) as refused:
            await import_telnyx(desk)
        assert refused.value.details == {"phone_number": PHONE}
        assert await numbers(desk) == [("globex", PHONE)]
        assert await desk.registry.connections("telnyx") == []
    (ours, _), (theirs, credentials) = desk.carrier.claims
    assert (ours.account_id, ours.reference) == (desk.accounts["acme"].id, "42")
    assert theirs == Claim(desk.accounts["globex"].id, PHONE, SID)
    assert credentials.secrets == {"auth_token": "globex-secret"}


async def test_a_binding_that_holds_stays(desk: Desk) -> None:
    await import_telnyx(desk, "globex")
    with pytest.raises(NumberAlreadyImported):
        await import_telnyx(desk)
    with pytest.raises(NumberAlreadyImported):
        await import_telnyx(desk, "globex")
    assert await numbers(desk) == [("globex", PHONE)]


async def test_who_proves_nothing_moves_nobody_and_learns_nothing(desk: Desk) -> None:
    """The holder's carrier is not even asked."""
    await import_twilio(desk, "globex")
    refusal = ProviderVerificationFailed("twilio", Check.NUMBER)
    desk.carrier.refusals = {account.id: refusal for account in desk.accounts.values()}
    desk.carrier.claims.clear()
    for phone in (PHONE, "+14155550199"):
        with pytest.raises(ProviderVerificationFailed) as refused:
            await import_twilio(desk, phone=phone)
        assert refused.value.check == "number"
    assert {claim.account_id for claim, _ in desk.carrier.claims} == {desk.accounts["acme"].id}
    assert await numbers(desk) == [("globex", PHONE)]


async def test_a_holder_is_not_asked_to_rotate_anything(desk: Desk) -> None:
    rotation = Rotation(desk)
    await import_telnyx(desk, "globex", sip_password="x")
    with pytest.raises(NumberAlreadyImported):
        await import_telnyx(desk, connection="43", rotate_sip_password=True)
    (claim, _) = desk.carrier.claims[-1]
    assert (claim.sip_password, claim.rotate_sip_password, rotation.count) == (None, False, 0)
    assert claim.connection == await desk.registry.connection(desk.accounts["globex"].id, "telnyx", "42")
    assert claim.connection is not None
    assert claim.host == claim.connection.host


async def test_an_operator_s_word_for_a_static_trunk_is_not_overruled(desk: Desk) -> None:
    console = Principal.console(desk.accounts["globex"].id)
    await desk.operations.import_number(
        console, import_request(provider="sip", phone_number=PHONE, provider_trunk="shut")
    )
    with pytest.raises(NumberAlreadyImported):
        await import_twilio(desk)
    assert await numbers(desk) == [("globex", PHONE)]


async def test_a_holder_without_credentials_proves_nothing(desk: Desk) -> None:
    """As none can be today; a row of before."""
    await import_twilio(desk, "globex")
    del desk.registry._integrations[desk.accounts["globex"].id, "twilio"]
    await import_twilio(desk)
    assert await numbers(desk) == [("acme", PHONE)]


class Shut(MemoryRegistry):
    """The secrets of ``account_id`` do not open."""

    account_id = ""

    async def integration(self, account_id: str, provider: str) -> Integration:
        """Not that one."""
        if account_id == self.account_id:
            raise SecretsUnavailable
        return await super().integration(account_id, provider)


async def test_a_holder_whose_credentials_do_not_open_stays() -> None:
    registry = Shut()
    desk = await Desk(registry=registry).furnish()
    for account in ("acme", "globex"):
        await desk.integrate(account)
    await import_twilio(desk, "globex")
    registry.account_id = desk.accounts["globex"].id
    with pytest.raises(NumberAlreadyImported):
        await import_twilio(desk)


async def test_a_holder_that_falls_takes_its_connection_along(desk: Desk) -> None:
    await import_telnyx(desk, "globex")
    desk.carrier.refusals[desk.accounts["globex"].id] = ProviderVerificationFailed("telnyx", Check.CONNECTION)
    desk.connections.told.clear()
    await import_telnyx(desk, connection="43")
    gone, come = desk.connections.told
    assert gone == "42"
    assert isinstance(come, Connection)
    assert come.id == "43"


async def test_a_holder_on_the_same_connection_leaves_it_to_the_newcomer(desk: Desk) -> None:
    await import_telnyx(desk, "globex")
    desk.carrier.refusals[desk.accounts["globex"].id] = ProviderVerificationFailed("telnyx", Check.CREDENTIALS)
    desk.connections.told.clear()
    await import_telnyx(desk)
    assert [row.account_id for row in desk.connections.told if isinstance(row, Connection)] == [
        desk.accounts["acme"].id
    ]
    assert "42" not in desk.connections.told


async def test_of_two_who_prove_control_at_once_one_gets_the_number(desk: Desk) -> None:
    await import_twilio(desk, "globex")
    desk.carrier.refusals[desk.accounts["globex"].id] = ProviderVerificationFailed("twilio", Check.NUMBER)
    answers = await asyncio.gather(import_twilio(desk), import_telnyx(desk), return_exceptions=True)
    assert sorted(isinstance(answer, OperationError) for answer in answers) == [False, True]
    assert await numbers(desk) == [("acme", PHONE)]


async def test_whoever_lost_the_number_is_not_found_under_its_id(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """The operator reads of it; the two accounts do not read of each other."""
    number = await import_twilio(desk, "globex")
    desk.carrier.refusals[desk.accounts["globex"].id] = ProviderVerificationFailed("twilio", Check.NUMBER)
    taken = await import_twilio(desk)
    assert taken.id != number.id
    with pytest.raises(ResourceNotFound):
        await desk.operations.number(desk.principal("globex"), number.id)
    assert f"{PHONE} leaves account {desk.accounts['globex'].id}" in caplog.text


# another look at the carrier


async def test_a_connection_that_begins_to_use_its_own_host_leaves_the_bare_domain(desk: Desk) -> None:
    """The host is offered at the import; the customer sets it at Telnyx and has the number verified again."""

    def pointing_at(targets: set[str]) -> None:
        def say(claim: Claim, integration: Integration) -> Verified:
            used = claim.host in targets
            trunk = "telnyx:42" if used else "telnyx"
            connection = Connection("42", claim.account_id, "telnyx", "fqdn", "gw", trunk, None, claim.host, used)
            return Verified(trunk, connection=connection)

        desk.carrier.say = say

    pointing_at({"sip.truedy.ai"})
    first = await import_telnyx(desk)
    await import_telnyx(desk, phone="+14155550101")
    (connection,) = await desk.registry.connections("telnyx")
    assert connection.host is not None
    for trunk in ("telnyx", "telnyx:42"):
        assert await desk.registry.route(trunk, PHONE) is not None
    desk.connections.told.clear()
    pointing_at({connection.host})
    verified = await desk.operations.verify_number(desk.principal("acme"), first.id)
    assert verified.id == first.id
    (told,) = desk.connections.told
    assert isinstance(told, Connection)
    assert (told.host, told.host_used) == (connection.host, True)
    for phone in (PHONE, "+14155550101"):
        assert await desk.registry.route("telnyx", phone) is None
        assert await desk.registry.route("telnyx:42", phone) is not None
    await desk.operations.verify_number(desk.principal("acme"), first.id)
    assert len(desk.connections.told) == 1


async def test_a_subaccount_s_new_token_is_read_when_its_number_is_verified_again(desk: Desk) -> None:
    for token in ("one", "two"):
        secrets = {f"subaccount:{OTHER_SID}": token}
        desk.carrier.say = lambda claim, _, secrets=secrets: Verified("twilio", secrets=secrets)  # type: ignore[misc]
        if token == "one":
            number = await import_twilio(desk, sid=OTHER_SID)
    await desk.operations.verify_number(desk.principal("acme"), number.id)
    assert signing_tokens(await integration(desk, "twilio"), OTHER_SID, desk.wall()) == ("two",)


async def test_a_number_that_fails_another_look_stays_as_it_is(desk: Desk) -> None:
    number = await import_telnyx(desk)
    (before,) = await desk.registry.connections("telnyx")
    desk.carrier.refusals[desk.accounts["acme"].id] = ProviderVerificationFailed("telnyx", Check.CONNECTION)
    with pytest.raises(ProviderVerificationFailed):
        await desk.operations.verify_number(desk.principal("acme"), number.id)
    assert await desk.registry.connections("telnyx") == [before]
    assert await numbers(desk) == [("acme", PHONE)]
    with pytest.raises(ResourceNotFound):
        await desk.operations.verify_number(desk.principal("globex"), number.id)


async def test_a_static_trunk_s_number_has_nobody_to_be_verified_by(desk: Desk) -> None:
    by = Principal.console(desk.accounts["acme"].id)
    request = import_request(provider="sip", phone_number=PHONE, provider_trunk="lab")
    number = await desk.operations.import_number(by, request)
    assert await desk.operations.verify_number(by, number.id) == number
    assert desk.carrier.claims == []


# removal


async def test_a_connection_is_told_to_go_with_its_last_number_and_the_carrier_is_told_nothing(desk: Desk) -> None:
    first = await import_telnyx(desk)
    second = await import_telnyx(desk, phone="+14155550101")
    twilio = await import_twilio(desk, phone="+14155550102")
    desk.carrier.claims.clear()
    desk.connections.told.clear()
    by = desk.principal("acme")
    for number in (first, twilio):
        assert (await desk.operations.delete_number(by, number.id)).released
    assert desk.connections.told == []
    await desk.operations.delete_number(by, second.id)
    assert desk.connections.told == ["42"]
    assert desk.carrier.claims == []
    assert await desk.registry.connections("telnyx") == []
    with pytest.raises(ResourceNotFound):
        await desk.operations.delete_number(by, second.id)
    assert desk.connections.told == ["42"]
