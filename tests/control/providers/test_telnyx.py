"""Telnyx's provider: an account's numbers and connections at a Telnyx on loopback, through the real SDK."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from config.settings import Providers, Settings, Sip
from control.errors import ProviderVerificationFailed
from control.providers import Check, Claim, Verified
from control.providers.sdk import CHECKS
from control.providers.telnyx import TelnyxProvider
from control.registry.types import Connection, Integration
from tests.support.carriers.misbehaviour import NO_ANSWERS, Fails, Misbehaviour, Slow
from tests.support.carriers.telnyx_rest import (
    TelnyxAccount,
    TelnyxConnection,
    TelnyxNumber,
    TelnyxRegistration,
    TelnyxRest,
)

pytestmark = pytest.mark.uvloop

KEY = "KEY0123456789ABCDEF_secret"
PASSWORD = "sip-secret-99"
DID = "+14155550200"
DOMAIN = "sip.truedy.ai"
HOST = f"k7q2m4x9.{DOMAIN}"
ADDRESS = "203.0.113.7"


@pytest.fixture
async def telnyx() -> AsyncIterator[TelnyxRest]:
    async with TelnyxRest() as fake:
        yield fake


@pytest.fixture
def account(telnyx: TelnyxRest) -> TelnyxAccount:
    return telnyx.add_account(KEY)


@pytest.fixture
def connection(telnyx: TelnyxRest, account: TelnyxAccount) -> TelnyxConnection:
    """A credential connection with nothing to object to, and the number on it."""
    return with_number(telnyx, account, user_name="truedy01", password=PASSWORD)


def with_number(telnyx: TelnyxRest, account: TelnyxAccount, **fields: Any) -> TelnyxConnection:
    """A connection of any kind that the number is on."""
    connection = telnyx.add_connection(account, **{"outbound_voice_profile_id": "1293384261075731499"} | fields)
    telnyx.add_number(account, DID, connection)
    return connection


def provider(telnyx: TelnyxRest, timeout_s: float = 5.0, **given: Any) -> TelnyxProvider:
    settings = Settings(
        sip=Sip(domain=DOMAIN, public_address=ADDRESS),
        providers=Providers(telnyx_base_url=telnyx.url, request_timeout_s=timeout_s, **given),
    )
    return TelnyxProvider(settings, entropy=bytes)


def saved(**secrets: str) -> Integration:
    return Integration("account", "telnyx", {}, {"api_key": KEY, **secrets})


def claim(connection: TelnyxConnection | str, /, **fields: Any) -> Claim:
    reference = connection if isinstance(connection, str) else connection.id
    return Claim("account", DID, reference, **{"host": HOST} | fields)


async def verify(
    telnyx: TelnyxRest, connection: TelnyxConnection | str, integration: Integration | None = None, /, **fields: Any
) -> Verified:
    """What an import of the number asks; ``fields`` are the claim's."""
    return await provider(telnyx).verify(claim(connection, **fields), integration or saved())


async def refusal(
    telnyx: TelnyxRest, connection: TelnyxConnection | str, /, **fields: Any
) -> ProviderVerificationFailed:
    """The error that such an import ends with; it names no secret, and says what to do."""
    with pytest.raises(ProviderVerificationFailed) as caught:
        await verify(telnyx, connection, **fields)
    return checked(caught.value)


def checked(error: ProviderVerificationFailed) -> ProviderVerificationFailed:
    assert error.provider == "telnyx"
    assert "secret" not in error.message
    assert error.message.endswith((CHECKS[Check(error.check)], "import with its ID."))
    return error


def codes(verified: Verified) -> list[str]:
    return [warning.code for warning in verified.warnings]


def kept(verified: Verified) -> Connection:
    assert verified.connection is not None
    return verified.connection


# --- credentials --------------------------------------------------------------------------------


async def test_a_good_key_is_good(telnyx: TelnyxRest, account: TelnyxAccount) -> None:
    found = await provider(telnyx).check_credentials(saved())
    assert (found.warnings, found.secrets) == ((), {})
    assert [request.path for request in telnyx.requests] == ["/v2/balance"]


async def test_a_wrong_key_is_told_with_the_carriers_status_and_code(telnyx: TelnyxRest) -> None:
    with pytest.raises(ProviderVerificationFailed) as caught:
        await provider(telnyx).check_credentials(saved())
    error = checked(caught.value)
    assert error.check == Check.CREDENTIALS
    assert error.details["provider_status"] == 401
    assert error.details["provider_code"] == "10009"


@pytest.mark.parametrize(
    ("refused", "check"),
    [
        ((403, "10010", "Authorization failed"), Check.CREDENTIALS),
        ((403, "20012", "Account inactive"), Check.ACCOUNT_STATUS),
        ((401, "20013", "Account blocked"), Check.ACCOUNT_STATUS),
    ],
)
async def test_a_key_that_opens_nothing_any_more_is_told_apart_from_a_wrong_one(
    telnyx: TelnyxRest, account: TelnyxAccount, refused: tuple[int, str, str], check: Check
) -> None:
    account.refused = refused
    with pytest.raises(ProviderVerificationFailed) as caught:
        await provider(telnyx).check_credentials(saved())
    assert checked(caught.value).check == check
    assert caught.value.details["provider_code"] == refused[1]


# --- the number and its connection --------------------------------------------------------------


async def test_a_number_on_a_credential_connection_comes_in_on_a_trunk_of_its_own(
    telnyx: TelnyxRest, connection: TelnyxConnection
) -> None:
    verified = await verify(telnyx, connection)
    assert verified.trunk == f"telnyx:{connection.id}"
    assert verified.warnings == ()
    assert verified.finish is None
    assert kept(verified) == Connection(
        id=connection.id,
        account_id="account",
        provider="telnyx",
        kind="credential",
        name="My connection",
        trunk=f"telnyx:{connection.id}",
        user_name="truedy01",
        proxy="sip.telnyx.com",
        secrets={"sip_password": PASSWORD},
    )


async def test_a_connection_of_another_account_is_not_there(
    telnyx: TelnyxRest, account: TelnyxAccount, connection: TelnyxConnection
) -> None:
    others = with_number(telnyx, telnyx.add_account("another"), user_name="another1", password=PASSWORD)
    for id in (others.id, "0", "YOUR_TELNYX_CONNECTION_ID"):
        error = await refusal(telnyx, id)
        assert error.check == Check.CONNECTION
        assert error.details["provider_status"] == 404


async def test_a_number_of_another_account_is_not_in_this_one(telnyx: TelnyxRest, account: TelnyxAccount) -> None:
    mine = telnyx.add_connection(account, user_name="truedy01", password=PASSWORD)
    with_number(telnyx, telnyx.add_account("another"))
    assert (await refusal(telnyx, mine)).check == Check.NUMBER


async def test_a_number_that_only_contains_the_one_asked_for_is_another_one(
    telnyx: TelnyxRest, account: TelnyxAccount
) -> None:
    """``filter[phone_number]`` is digits only, and matches in part."""
    connection = telnyx.add_connection(account, user_name="truedy01", password=PASSWORD)
    telnyx.add_number(account, DID + "1", connection)
    assert (await refusal(telnyx, connection)).check == Check.NUMBER
    assert telnyx.seen("phone_numbers")[0].query["filter[phone_number]"] == DID.removeprefix("+")


@pytest.mark.parametrize("on_another", [True, False])
async def test_a_number_on_another_connection_or_none_is_refused_by_name(
    telnyx: TelnyxRest, account: TelnyxAccount, connection: TelnyxConnection, on_another: bool
) -> None:
    other = telnyx.add_connection(account, user_name="another1", password=PASSWORD)
    the_number(telnyx).connection_id = other.id if on_another else None
    error = await refusal(telnyx, connection)
    assert error.check == Check.CONNECTION
    assert (other.id if on_another else "no connection") in error.message


def the_number(telnyx: TelnyxRest) -> TelnyxNumber:
    return next(iter(telnyx.numbers.values()))


@pytest.mark.parametrize(
    ("status", "check"),
    [
        ("emergency-only", Check.VOICE),
        ("port-pending", Check.NUMBER),
        ("ported-out", Check.NUMBER),
        ("deleted", Check.NUMBER),
        ("requirement-info-pending", Check.NUMBER),
    ],
)
async def test_a_number_that_carries_no_calls_is_refused(
    telnyx: TelnyxRest, connection: TelnyxConnection, status: str, check: Check
) -> None:
    """One that is still to be ported proves nothing: anybody can ask for a port."""
    the_number(telnyx).status = status
    assert (await refusal(telnyx, connection)).check == check


async def test_a_number_that_is_about_to_leave_still_carries_calls(
    telnyx: TelnyxRest, connection: TelnyxConnection
) -> None:
    the_number(telnyx).status = "port-out-pending"
    await verify(telnyx, connection)


async def test_a_connection_that_is_switched_off_is_refused(telnyx: TelnyxRest, connection: TelnyxConnection) -> None:
    connection.active = False
    assert (await refusal(telnyx, connection)).check == Check.CONNECTION_STATUS


async def test_a_uac_connection_is_refused_with_what_to_do_instead(telnyx: TelnyxRest, account: TelnyxAccount) -> None:
    error = await refusal(telnyx, with_number(telnyx, account, kind="uac"))
    assert error.check == Check.CONNECTION_KIND
    assert "Telnyx would register here" in error.message
    assert "credential-based SIP connection" in error.message


async def test_an_application_is_no_connection(telnyx: TelnyxRest, account: TelnyxAccount) -> None:
    error = await refusal(telnyx, with_number(telnyx, account, kind="call_control_application"))
    assert error.check == Check.CONNECTION_KIND
    assert "is a call control application" in error.message


@pytest.mark.parametrize(
    ("site", "proxy"),
    [
        ("Latency", "sip.telnyx.com"),
        ("Chicago, IL", "sip.telnyx.com"),
        ("Amsterdam, Netherlands", "sip.telnyx.eu"),
        ("London, UK", "sip.telnyx.eu"),
        ("Frankfurt, Germany", "sip.telnyx.eu"),
        ("Sydney, Australia", "sip.telnyx.com.au"),
        ("Toronto, Canada", "sip.telnyx.ca"),
        ("Mars", "sip.telnyx.com"),
    ],
)
async def test_the_registrar_is_that_of_the_connections_region(
    telnyx: TelnyxRest, connection: TelnyxConnection, site: str, proxy: str
) -> None:
    connection.anchorsite_override = site
    assert kept(await verify(telnyx, connection)).proxy == proxy


# --- the password -------------------------------------------------------------------------------


@pytest.fixture
def masked(account: TelnyxAccount, connection: TelnyxConnection) -> TelnyxConnection:
    """Accounts made on or after 2026-09-08 are not told their passwords."""
    account.masks_passwords = True
    return connection


KNOWN = Connection("", "account", "telnyx", "credential", "", "", secrets={"sip_password": "known-1"})


@pytest.mark.parametrize(
    ("fields", "secrets", "expected"),
    [
        ({"sip_password": "given-now"}, {"sip_password": "saved-1"}, "given-now"),
        ({"connection": KNOWN}, {"sip_password": "saved-1"}, "known-1"),
        ({"connection": replace(KNOWN, secrets={})}, {"sip_password": "saved-1"}, "saved-1"),
        ({}, {"sip_password": "saved-1"}, "saved-1"),
    ],
)
async def test_a_password_that_cannot_be_read_is_the_one_that_was_given(
    telnyx: TelnyxRest,
    masked: TelnyxConnection,
    fields: dict[str, Any],
    secrets: dict[str, str],
    expected: str,
) -> None:
    verified = await verify(telnyx, masked, saved(**secrets), **fields)
    assert kept(verified).secrets == {"sip_password": expected}


async def test_a_password_that_can_be_read_needs_no_other_and_is_not_rotated(
    telnyx: TelnyxRest, connection: TelnyxConnection
) -> None:
    verified = await verify(telnyx, connection, saved(sip_password="old"), rotate_sip_password=True)
    assert kept(verified).secrets == {"sip_password": PASSWORD}
    assert verified.finish is None
    assert telnyx.count(method="PATCH") == 0


async def test_a_password_that_nobody_tells_is_asked_for(telnyx: TelnyxRest, masked: TelnyxConnection) -> None:
    error = await refusal(telnyx, masked)
    assert error.check == Check.SIP_PASSWORD
    assert "sip_password" in error.message
    assert "rotate_sip_password: true" in error.message
    assert telnyx.count(method="PATCH") == 0


async def test_a_new_password_is_set_only_when_everything_else_is_done(
    telnyx: TelnyxRest, masked: TelnyxConnection
) -> None:
    """It cuts off other devices: the warning says so."""
    verified = await verify(telnyx, masked, saved(sip_password="perhaps-old"), rotate_sip_password=True)
    assert codes(verified) == ["sip_password_rotated"]
    assert masked.password == PASSWORD
    assert verified.finish is not None
    finished = await verified.finish()
    assert masked.password == finished.secrets["sip_password"] == "a" * 32
    assert replace(finished, secrets={}) == verified.connection


async def test_a_password_that_telnyx_does_not_take_is_told(telnyx: TelnyxRest, masked: TelnyxConnection) -> None:
    verified = await verify(telnyx, masked, rotate_sip_password=True)
    telnyx.misbehave(Fails(422))
    assert verified.finish is not None
    with pytest.raises(ProviderVerificationFailed) as caught:
        await verified.finish()
    assert checked(caught.value).check == Check.ANSWER
    assert masked.password == PASSWORD


async def test_a_connection_without_a_user_name_makes_no_sense(
    telnyx: TelnyxRest, connection: TelnyxConnection
) -> None:
    connection.user_name = ""
    assert (await refusal(telnyx, connection)).check == Check.ANSWER


# --- FQDN and IP connections ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fqdns", "host_used", "expected"),
    [
        ([HOST.upper()], True, []),
        ([HOST + ".", "pbx.example.com"], True, []),
        ([DOMAIN, HOST], True, ["shared_host"]),
        ([DOMAIN], False, ["shared_host"]),
        (["pbx.example.com", "pbx2.example.com"], False, ["points_elsewhere", "cutover"]),
        ([], False, ["points_elsewhere"]),
    ],
)
async def test_an_fqdn_connection_is_told_by_the_host_of_its_own_once_it_uses_it(
    telnyx: TelnyxRest, account: TelnyxAccount, fqdns: list[str], host_used: bool, expected: list[str]
) -> None:
    connection = with_number(telnyx, account, kind="fqdn", fqdns=fqdns)
    verified = await verify(telnyx, connection)
    trunk = f"telnyx:{connection.id}" if host_used else "telnyx"
    assert verified.trunk == trunk
    assert kept(verified) == Connection(
        connection.id, "account", "telnyx", "fqdn", "My connection", trunk, host=HOST, host_used=host_used
    )
    assert codes(verified) == expected
    if expected:
        assert HOST in verified.warnings[0].message


async def test_another_connections_fqdns_say_nothing(telnyx: TelnyxRest, account: TelnyxAccount) -> None:
    telnyx.add_connection(account, kind="fqdn", fqdns=[HOST])
    verified = await verify(telnyx, with_number(telnyx, account, kind="fqdn", fqdns=[DOMAIN]))
    assert verified.trunk == "telnyx"


async def test_the_cutover_names_the_hosts_that_the_number_is_live_on(
    telnyx: TelnyxRest, account: TelnyxAccount
) -> None:
    connection = with_number(telnyx, account, kind="fqdn", fqdns=["pbx.example.com", "pbx2.example.com"])
    verified = await verify(telnyx, connection)
    assert "pbx.example.com, pbx2.example.com" in verified.warnings[-1].message


async def test_without_a_host_of_its_own_the_shared_one_is_all_there_is(
    telnyx: TelnyxRest, account: TelnyxAccount
) -> None:
    verified = await verify(telnyx, with_number(telnyx, account, kind="fqdn", fqdns=[DOMAIN]), host=None)
    assert (verified.trunk, codes(verified)) == ("telnyx", [])


@pytest.mark.parametrize(
    ("ips", "expected"),
    [
        ([ADDRESS], ["shared_host"]),
        (["198.51.100.9"], ["points_elsewhere", "cutover", "shared_host"]),
        ([], ["points_elsewhere", "shared_host"]),
    ],
)
async def test_an_ip_connection_is_bound_by_telnyxs_addresses_alone(
    telnyx: TelnyxRest, account: TelnyxAccount, ips: list[str], expected: list[str]
) -> None:
    verified = await verify(telnyx, with_number(telnyx, account, kind="ip", ips=ips))
    assert verified.trunk == "telnyx"
    assert codes(verified) == expected
    assert HOST in verified.warnings[-1].message
    assert not kept(verified).host_used


# --- warnings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"outbound_voice_profile_id": None}, "no_outbound_profile"),
        ({"call_parking_enabled": True}, "call_parking"),
        ({"codecs": ("G722", "OPUS")}, "no_common_codec"),
    ],
)
@pytest.mark.parametrize("kind", ["credential", "fqdn", "ip"])
async def test_what_keeps_calls_from_working_is_warned_of(
    telnyx: TelnyxRest, account: TelnyxAccount, kind: str, fields: dict[str, Any], code: str
) -> None:
    connection = with_number(
        telnyx, account, kind=kind, user_name="truedy01", password=PASSWORD, fqdns=[HOST], ips=[ADDRESS], **fields
    )
    assert [each for each in codes(await verify(telnyx, connection)) if each != "shared_host"] == [code]


@pytest.mark.parametrize("kind", ["credential", "fqdn"])
@pytest.mark.parametrize(
    ("encrypted", "srtp", "codes_"),
    [
        ("SRTP", None, []),
        (None, None, []),
        ("SRTP", "require", []),
        ("SRTP", "off", ["encrypted_media"]),
        (None, "require", ["encrypted_media"]),
    ],
)
async def test_a_connections_encrypted_media_is_kept_and_warned_of_where_the_settings_differ(
    telnyx: TelnyxRest, account: TelnyxAccount, kind: str, encrypted: str | None, srtp: Any, codes_: list[str]
) -> None:
    connection = with_number(
        telnyx, account, kind=kind, user_name="truedy01", password=PASSWORD, fqdns=[HOST], encrypted_media=encrypted
    )
    verified = await provider(telnyx, telnyx_srtp=srtp).verify(claim(connection), saved())
    assert [each for each in codes(verified) if each != "shared_host"] == codes_
    assert kept(verified).encrypted_media == (encrypted is not None)


async def test_a_codec_of_ours_that_the_connection_has_is_enough(
    telnyx: TelnyxRest, connection: TelnyxConnection
) -> None:
    connection.codecs = ("G722", "OPUS")
    verified = await provider(telnyx, telnyx_codecs=("G722", "PCMU")).verify(claim(connection), saved())
    assert codes(verified) == []


async def test_a_registration_from_elsewhere_is_named_before_it_is_taken_over(
    telnyx: TelnyxRest, connection: TelnyxConnection
) -> None:
    connection.registration = TelnyxRegistration("198.51.100.4")
    verified = await verify(telnyx, connection)
    assert codes(verified) == ["registered_elsewhere"]
    assert "Asterisk PBX 20.5.0 at 198.51.100.4" in verified.warnings[0].message
    assert "truedy01" in verified.warnings[0].message


async def test_a_registration_of_our_own_is_none_from_elsewhere(
    telnyx: TelnyxRest, connection: TelnyxConnection
) -> None:
    """The second number on a connection finds the edge registered already."""
    connection.registration = TelnyxRegistration(ADDRESS)
    assert codes(await verify(telnyx, connection, connection=KNOWN)) == []


@pytest.mark.parametrize("how", [Fails(500), Fails(404), *NO_ANSWERS[:-4]], ids=repr)
async def test_not_to_know_who_is_registered_is_no_reason_to_fail(
    telnyx: TelnyxRest, connection: TelnyxConnection, how: Misbehaviour
) -> None:
    connection.registration = TelnyxRegistration("198.51.100.4")
    telnyx.misbehave(how, "check_registration_status")
    assert codes(await verify(telnyx, connection)) == []


# --- a Telnyx that misbehaves ---------------------------------------------------------------------

QUESTIONS = ("/connections/", "/phone_numbers", "/credential_connections/[0-9]+$")


@pytest.mark.parametrize("how", NO_ANSWERS, ids=repr)
async def test_an_answer_that_is_none_is_said_to_be_none(
    telnyx: TelnyxRest, connection: TelnyxConnection, how: Misbehaviour
) -> None:
    """Whichever question it is the answer to; nothing is repeated, and no connection stays."""
    for asked, question in enumerate(QUESTIONS, 1):
        telnyx.requests.clear()
        telnyx.misbehave(how, question)
        assert (await refusal(telnyx, connection)).check == Check.ANSWER, question
        assert telnyx.count() == asked
        telnyx.behave()
    await all_gone(telnyx)
    await verify(telnyx, connection)


@pytest.mark.parametrize("how", NO_ANSWERS, ids=repr)
@pytest.mark.parametrize(("kind", "question"), [("fqdn", "/fqdns"), ("ip", "/ips")])
async def test_no_list_of_hosts_or_addresses_is_no_empty_one(
    telnyx: TelnyxRest, account: TelnyxAccount, kind: str, question: str, how: Misbehaviour
) -> None:
    connection = with_number(telnyx, account, kind=kind)
    telnyx.misbehave(how, question)
    assert (await refusal(telnyx, connection)).check == Check.ANSWER


@pytest.mark.parametrize("how", NO_ANSWERS, ids=repr)
async def test_no_balance_is_no_good_key(telnyx: TelnyxRest, account: TelnyxAccount, how: Misbehaviour) -> None:
    telnyx.misbehave(how)
    with pytest.raises(ProviderVerificationFailed) as caught:
        await provider(telnyx).check_credentials(saved())
    assert checked(caught.value).check == Check.ANSWER
    assert telnyx.count() == 1


async def all_gone(telnyx: TelnyxRest) -> None:
    async with asyncio.timeout(1):
        while telnyx.connections:
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("status", "code", "check"),
    [
        (500, "10007", Check.UNREACHABLE),
        (503, "10007", Check.UNREACHABLE),
        (408, "10008", Check.ANSWER),
        (429, "10011", Check.RATE_LIMITED),
        (403, "10010", Check.CREDENTIALS),
    ],
)
@pytest.mark.parametrize("question", QUESTIONS)
async def test_an_error_is_told_with_its_status_and_code_and_nothing_is_repeated(
    telnyx: TelnyxRest, connection: TelnyxConnection, question: str, status: int, code: str, check: Check
) -> None:
    telnyx.misbehave(Fails(status), question)
    error = await refusal(telnyx, connection)
    assert error.check == check
    assert error.details["provider_status"] == status
    assert error.details["provider_code"] == code
    assert telnyx.count(question) == 1


async def test_a_telnyx_that_is_down_is_unreachable(telnyx: TelnyxRest, connection: TelnyxConnection) -> None:
    await telnyx.down()
    assert (await refusal(telnyx, connection)).check == Check.UNREACHABLE


@pytest.mark.parametrize("question", [*QUESTIONS, "check_registration_status"])
async def test_a_slow_telnyx_is_not_waited_for(telnyx: TelnyxRest, connection: TelnyxConnection, question: str) -> None:
    telnyx.misbehave(Slow(), question)
    await provider(telnyx).load()
    with pytest.raises(ProviderVerificationFailed) as caught:
        await provider(telnyx, timeout_s=0.1).verify(claim(connection), saved())
    assert checked(caught.value).check == Check.TIMEOUT
    await all_gone(telnyx)


async def test_who_stops_waiting_leaves_no_connection(telnyx: TelnyxRest, connection: TelnyxConnection) -> None:
    telnyx.misbehave(Slow())
    asking = asyncio.create_task(verify(telnyx, connection))
    while not telnyx.count():
        await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await all_gone(telnyx)


async def test_the_processs_environment_does_not_say_where_credentials_go(
    telnyx: TelnyxRest, connection: TelnyxConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "TELNYX_API_KEY": "another",
        "TELNYX_BASE_URL": "http://127.0.0.1:1",
        "TELNYX_CLIENT_ID": "another",
        "TELNYX_CLIENT_SECRET": "another",
        "HTTP_PROXY": "http://127.0.0.1:1",
        "ALL_PROXY": "http://127.0.0.1:1",
    }.items():
        monkeypatch.setenv(name, value)
    await verify(telnyx, connection)
    assert {request.headers["authorization"] for request in telnyx.requests} == {f"Bearer {KEY}"}
