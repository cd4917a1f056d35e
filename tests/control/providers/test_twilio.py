"""Twilio's provider: signatures, and an account's numbers at a Twilio on loopback, through the real SDK."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from config.settings import Api, Providers, Settings
from control.errors import ProviderVerificationFailed
from control.providers import Check, Claim, Verified
from control.providers.sdk import CHECKS
from control.providers.twilio import TwilioProvider, signature_ok
from control.registry.types import SUBACCOUNT, Integration
from tests.support.carriers.misbehaviour import NO_ANSWERS, Fails, Misbehaviour, Slow, WrongShape
from tests.support.carriers.twilio_rest import TwilioAccount, TwilioNumber, TwilioRest

URL = "https://mycompany.com/myapp.php?foo=1&bar=2"
FORM = [
    ("CallSid", "CA1234567890ABCDE"),
    ("Caller", "+12349013030"),
    ("Digits", "1234"),
    ("From", "+12349013030"),
    ("To", "+18005551212"),
]
SIGNATURE = "0/KCTR6DLpKmkAf8muzZqo1nDgQ="


async def test_twilios_own_example_is_taken() -> None:
    """Twilio, "Validating requests": token 12345."""
    assert await signature_ok(["12345"], URL, FORM, SIGNATURE)


async def test_the_order_of_parameters_is_of_no_matter() -> None:
    assert await signature_ok(["12345"], URL, FORM[::-1], SIGNATURE)


@pytest.mark.parametrize("tokens", [["new", "12345"], ["12345", "old"]])
async def test_during_a_rotation_either_token_may_have_signed(tokens: list[str]) -> None:
    assert await signature_ok(tokens, URL, FORM, SIGNATURE)


@pytest.mark.parametrize("url", ["https://mycompany.com:443/myapp.php?foo=1&bar=2", URL])
async def test_the_schemes_own_port_may_be_there_or_not(url: str) -> None:
    assert await signature_ok(["12345"], url, FORM, SIGNATURE)


@pytest.mark.parametrize(
    "url",
    [
        "http://mycompany.com/myapp.php?foo=1&bar=2",
        "https://mycompany.com/myapp.php/?foo=1&bar=2",
        "https://mycompany.com/myapp.php?bar=2&foo=1",
        "https://elsewhere.com/myapp.php?foo=1&bar=2",
        "https://mycompany.com:badport/myapp.php?foo=1&bar=2",
        "https://[::1/myapp.php",
        "",
    ],
)
async def test_another_url_is_refused(url: str) -> None:
    assert not await signature_ok(["12345"], url, FORM, SIGNATURE)


@pytest.mark.parametrize(
    "form",
    [
        FORM[:-1],
        [*FORM, ("Extra", "")],
        [*FORM[:-1], ("To", "+18005551213")],
        [*FORM, ("To", "+18005551213")],
        [*FORM[:-1], ("To", "\ud800")],
        [],
    ],
)
async def test_another_form_is_refused(form: list[tuple[str, str]]) -> None:
    assert not await signature_ok(["12345"], URL, form, SIGNATURE)


@pytest.mark.parametrize("signature", [None, "", "=", SIGNATURE.lower(), SIGNATURE + "=", "é" * 28])
async def test_what_is_no_signature_is_refused(signature: str | None) -> None:
    assert not await signature_ok(["12345"], URL, FORM, signature)


async def test_no_token_and_an_empty_token_prove_nothing() -> None:
    """Anybody can sign with the empty key."""
    by_nobody = "3cdcKJhDP37mDuun3bl3LgM2ApY="
    assert not await signature_ok([], URL, FORM, by_nobody)
    assert not await signature_ok([""], URL, FORM, by_nobody)


async def test_blank_and_repeated_parameters_are_part_of_what_is_signed() -> None:
    from twilio.request_validator import RequestValidator

    form = [("A", ""), ("B", "2"), ("B", "1"), ("B", "2")]
    expected = RequestValidator("12345").compute_signature("https://h/p", {"AB1B2": ""})
    assert await signature_ok(["12345"], "https://h/p", form, expected)
    assert not await signature_ok(["12345"], "https://h/p", form[1:], expected)


# --- imports and credentials ------------------------------------------------------------------

TOKEN = "d41d8cd98f00b204e9800998ecf8427e"
DID = "+14155550100"
PUBLIC_URL = "https://api.truedy.ai"
VOICE_URL = f"{PUBLIC_URL}/telephony/inbound/twilio"

on_loopback = pytest.mark.uvloop


@pytest.fixture
async def twilio() -> AsyncIterator[TwilioRest]:
    async with TwilioRest() as fake:
        yield fake


@pytest.fixture
def account(twilio: TwilioRest) -> TwilioAccount:
    return twilio.add_account(TOKEN)


@pytest.fixture
def number(twilio: TwilioRest, account: TwilioAccount) -> TwilioNumber:
    """All is well with it."""
    return twilio.add_number(account, DID, voice_url=VOICE_URL)


def provider(twilio: TwilioRest, timeout_s: float = 5.0) -> TwilioProvider:
    providers = Providers(twilio_base_url=twilio.url, request_timeout_s=timeout_s)
    return TwilioProvider(Settings(api=Api(public_url=PUBLIC_URL), providers=providers))


def saved(account_sid: str, auth_token: str = TOKEN, **secrets: str) -> Integration:
    return Integration("account", "twilio", {"account_sid": account_sid}, {"auth_token": auth_token, **secrets})


async def verify(twilio: TwilioRest, account: TwilioAccount, reference: str | None = None) -> Verified:
    """What an import of the number asks."""
    claim = Claim("account", DID, reference or account.sid)
    return await provider(twilio).verify(claim, saved(account.sid, account.auth_token))


async def refusal(
    twilio: TwilioRest, account: TwilioAccount, reference: str | None = None
) -> ProviderVerificationFailed:
    """The error that such an import ends with; it names no secret, and says what to do."""
    with pytest.raises(ProviderVerificationFailed) as caught:
        await verify(twilio, account, reference)
    return checked(caught.value)


def checked(error: ProviderVerificationFailed) -> ProviderVerificationFailed:
    assert error.provider == "twilio"
    assert TOKEN not in error.message
    assert error.message.endswith((CHECKS[Check(error.check)], "with its Auth Token."))
    return error


def codes(verified: Verified) -> list[str]:
    return [warning.code for warning in verified.warnings]


@on_loopback
async def test_good_credentials_are_good(twilio: TwilioRest, account: TwilioAccount) -> None:
    found = await provider(twilio).check_credentials(saved(account.sid))
    assert (found.warnings, found.secrets) == ((), {})
    assert twilio.count() == 1


@on_loopback
async def test_a_secondary_token_is_good_too(twilio: TwilioRest, account: TwilioAccount) -> None:
    account.secondary_token = "0" * 32
    await provider(twilio).check_credentials(saved(account.sid, "0" * 32))


@on_loopback
@pytest.mark.parametrize("sid", ["AC" + "0" * 31 + "1", "AC" + "f" * 32])
async def test_a_wrong_token_and_an_unknown_account_are_wrong_credentials(
    twilio: TwilioRest, account: TwilioAccount, sid: str
) -> None:
    with pytest.raises(ProviderVerificationFailed) as caught:
        await provider(twilio).check_credentials(saved(sid, "wrong"))
    error = checked(caught.value)
    assert error.check == Check.CREDENTIALS
    assert error.details["provider_status"] == 401
    assert error.details["provider_code"] == "20003"
    assert "wrong" not in error.message


@on_loopback
async def test_an_api_key_is_refused_with_the_reason_and_unasked(twilio: TwilioRest, account: TwilioAccount) -> None:
    with pytest.raises(ProviderVerificationFailed, match=r"cannot verify the signatures.*Account SID") as caught:
        await provider(twilio).check_credentials(saved("SK" + "0" * 32))
    assert checked(caught.value).check == Check.CREDENTIALS
    assert twilio.count() == 0


@on_loopback
@pytest.mark.parametrize("status", ["suspended", "closed"])
async def test_an_account_that_is_not_active_has_no_good_credentials(
    twilio: TwilioRest, account: TwilioAccount, status: str
) -> None:
    account.status = status
    with pytest.raises(ProviderVerificationFailed, match=status) as caught:
        await provider(twilio).check_credentials(saved(account.sid))
    assert checked(caught.value).check == Check.ACCOUNT_STATUS
    twilio.inactive_refused = True
    with pytest.raises(ProviderVerificationFailed, match="suspended") as caught:
        await provider(twilio).check_credentials(saved(account.sid))
    assert checked(caught.value).check == Check.CREDENTIALS


@on_loopback
async def test_a_trial_account_is_told_of(twilio: TwilioRest, account: TwilioAccount, number: TwilioNumber) -> None:
    account.type = "Trial"
    found = await provider(twilio).check_credentials(saved(account.sid))
    assert [warning.code for warning in found.warnings] == ["trial_account"]
    assert codes(await verify(twilio, account)) == ["trial_account"]


@on_loopback
async def test_the_tokens_of_known_subaccounts_are_read_anew(twilio: TwilioRest, account: TwilioAccount) -> None:
    """Those that are gone, closed or of no number here are left out."""
    known, closed, unknown = (twilio.add_account(f"new-{place}", owner_sid=account.sid) for place in range(3))
    closed.status = "closed"
    gone = "AC" + "e" * 32
    secrets = {SUBACCOUNT + sid: "old" for sid in (known.sid, closed.sid, gone)}
    found = await provider(twilio).check_credentials(saved(account.sid, **secrets))
    assert found.secrets == {SUBACCOUNT + known.sid: "new-0"}
    assert unknown.sid not in str(found.secrets)


@on_loopback
async def test_a_number_of_the_account_comes_in_on_twilios_trunk(
    twilio: TwilioRest, account: TwilioAccount, number: TwilioNumber
) -> None:
    assert await verify(twilio, account) == Verified("twilio")
    assert twilio.count() == 2


@on_loopback
async def test_a_number_that_only_contains_the_one_asked_for_is_another_one(
    twilio: TwilioRest, account: TwilioAccount
) -> None:
    """Twilio matches in part, and lists by pages."""
    for longer in (DID + "1", DID + "22"):
        twilio.add_number(account, longer)
    assert (await refusal(twilio, account)).check == Check.NUMBER
    twilio.add_number(account, DID, voice_url=VOICE_URL)
    twilio.page_size_max = 1
    assert (await verify(twilio, account)).trunk == "twilio"


@on_loopback
async def test_a_number_of_another_account_is_not_in_this_one(twilio: TwilioRest, account: TwilioAccount) -> None:
    twilio.add_number(twilio.add_account("another"), DID)
    error = await refusal(twilio, account)
    assert error.check == Check.NUMBER
    assert DID in error.message


@on_loopback
async def test_a_number_without_voice_is_refused(
    twilio: TwilioRest, account: TwilioAccount, number: TwilioNumber
) -> None:
    number.voice = False
    assert (await refusal(twilio, account)).check == Check.VOICE


# --- subaccounts ---


@on_loopback
async def test_a_subaccounts_number_brings_the_token_that_signs_its_webhooks(
    twilio: TwilioRest, account: TwilioAccount
) -> None:
    sub = twilio.add_account("its-own", owner_sid=account.sid)
    twilio.add_number(sub, DID, voice_url=VOICE_URL)
    assert await verify(twilio, account, sub.sid) == Verified("twilio", secrets={SUBACCOUNT + sub.sid: "its-own"})
    assert (await refusal(twilio, account)).check == Check.NUMBER, "it is not in the parent"


@on_loopback
async def test_a_subaccount_may_be_an_integration_of_its_own(twilio: TwilioRest, account: TwilioAccount) -> None:
    sub = twilio.add_account("its-own", owner_sid=account.sid)
    twilio.add_number(sub, DID, voice_url=VOICE_URL)
    assert await verify(twilio, sub) == Verified("twilio")


@on_loopback
@pytest.mark.parametrize("status", [401, 404])
async def test_another_account_is_refused_whichever_way_twilio_says_so(
    twilio: TwilioRest, account: TwilioAccount, status: int
) -> None:
    twilio.foreign_status = status
    error = await refusal(twilio, account, twilio.add_account("another").sid)
    assert error.check == Check.ACCOUNT_SID
    assert error.details["provider_status"] == status


@on_loopback
async def test_with_wrong_credentials_a_subaccount_is_not_what_is_wrong(
    twilio: TwilioRest, account: TwilioAccount
) -> None:
    sub = twilio.add_account("its-own", owner_sid=account.sid)
    account.auth_token = "changed meanwhile"
    with pytest.raises(ProviderVerificationFailed) as caught:
        await provider(twilio).verify(Claim("account", DID, sub.sid), saved(account.sid))
    assert checked(caught.value).check == Check.CREDENTIALS


@on_loopback
async def test_a_subaccount_that_is_suspended_or_keeps_its_token_to_itself_is_refused(
    twilio: TwilioRest, account: TwilioAccount
) -> None:
    sub = twilio.add_account("", owner_sid=account.sid)
    twilio.add_number(sub, DID)
    assert (await refusal(twilio, account, sub.sid)).check == Check.ACCOUNT_SID
    sub.auth_token, sub.status = "its-own", "suspended"
    assert (await refusal(twilio, account, sub.sid)).check == Check.ACCOUNT_STATUS


@on_loopback
async def test_an_api_keys_sid_is_no_account(twilio: TwilioRest, account: TwilioAccount) -> None:
    assert (await refusal(twilio, account, "SK" + "0" * 32)).check == Check.ACCOUNT_SID


# --- warnings ---

ELSEWHERE = "https://user:secret@pbx.example.com/ivr?key=secret"


@on_loopback
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, []),
        ({"voice_url": "HTTPS://API.truedy.ai:443/telephony/inbound/twilio#rc=2"}, []),
        ({"voice_url": VOICE_URL + "/"}, ["voice_url", "cutover"]),
        ({"voice_url": VOICE_URL.replace("https", "http")}, ["voice_url", "cutover"]),
        ({"voice_url": VOICE_URL + "?a=1"}, ["voice_url", "cutover"]),
        ({"voice_url": "https://api.truedy.ai:x/"}, ["voice_url", "cutover"]),
        ({"voice_url": ""}, ["voice_url"]),
        ({"voice_url": "https://demo.twilio.com/welcome/voice/"}, ["voice_url"]),
        ({"voice_url": ELSEWHERE}, ["voice_url", "cutover"]),
        ({"voice_method": "GET"}, ["voice_method"]),
        ({"trunk_sid": "TK1"}, ["trunk_overrides", "cutover"]),
        ({"voice_application_sid": "AP1"}, ["application_overrides", "cutover"]),
        ({"trunk_sid": "TK1", "voice_url": ""}, ["trunk_overrides", "voice_url", "cutover"]),
        ({"voice_receive_mode": "fax"}, ["receives_fax"]),
    ],
)
async def test_what_keeps_calls_away_is_warned_of(
    twilio: TwilioRest, account: TwilioAccount, number: TwilioNumber, fields: dict[str, str], expected: list[str]
) -> None:
    for name, value in fields.items():
        setattr(number, name, value)
    assert codes(await verify(twilio, account)) == expected


@on_loopback
@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"voice_url": ELSEWHERE}, "https://pbx.example.com/ivr"),
        ({"trunk_sid": "TK12", "voice_url": ELSEWHERE}, "trunk TK12"),
        ({"voice_application_sid": "AP34"}, "application AP34"),
    ],
)
async def test_the_cutover_names_what_the_number_is_live_on(
    twilio: TwilioRest, account: TwilioAccount, number: TwilioNumber, fields: dict[str, str], named: str
) -> None:
    """The seed's warning; not with what may be a secret of whatever is there."""
    for name, value in fields.items():
        setattr(number, name, value)
    verified = await verify(twilio, account)
    cutover = next(warning for warning in verified.warnings if warning.code == "cutover")
    assert named in cutover.message
    assert "secret" not in str(verified.warnings)


# --- a Twilio that misbehaves ---


@on_loopback
@pytest.mark.parametrize("how", NO_ANSWERS, ids=repr)
async def test_an_answer_that_is_none_is_said_to_be_none(
    twilio: TwilioRest, account: TwilioAccount, number: TwilioNumber, how: Misbehaviour
) -> None:
    """Whichever question it is the answer to; nothing is repeated, and no connection stays."""
    twilio.misbehave(how, r"/Accounts/\w+\.json")
    assert (await refusal(twilio, account)).check == Check.ANSWER
    assert twilio.count() == 1
    twilio.behave()
    twilio.misbehave(how, "IncomingPhoneNumbers")
    assert (await refusal(twilio, account)).check == Check.ANSWER
    assert twilio.count() == 3
    await all_gone(twilio)
    twilio.behave()
    assert (await verify(twilio, account)).trunk == "twilio"


async def all_gone(twilio: TwilioRest) -> None:
    async with asyncio.timeout(1):
        while twilio.connections:
            await asyncio.sleep(0)


@on_loopback
@pytest.mark.parametrize(
    ("status", "check"),
    [
        (500, Check.UNREACHABLE),
        (503, Check.UNREACHABLE),
        (429, Check.RATE_LIMITED),
        (400, Check.ANSWER),
        (403, Check.CREDENTIALS),
    ],
)
@pytest.mark.parametrize("paths", ["", "IncomingPhoneNumbers"])
async def test_an_error_is_told_with_its_status_and_code_and_nothing_is_repeated(
    twilio: TwilioRest, account: TwilioAccount, number: TwilioNumber, paths: str, status: int, check: Check
) -> None:
    twilio.misbehave(Fails(status), paths)
    error = await refusal(twilio, account)
    assert error.check == check
    assert error.details["provider_status"] == status
    assert error.details["provider_code"] == str(20000 + status)
    assert twilio.count() == (2 if paths else 1)


@on_loopback
async def test_a_twilio_that_is_down_is_unreachable(twilio: TwilioRest, account: TwilioAccount) -> None:
    await twilio.down()
    assert (await refusal(twilio, account)).check == Check.UNREACHABLE


@on_loopback
async def test_a_slow_twilio_is_not_waited_for(twilio: TwilioRest, account: TwilioAccount) -> None:
    twilio.misbehave(Slow())
    with pytest.raises(ProviderVerificationFailed) as caught:
        await provider(twilio, timeout_s=0.1).check_credentials(saved(account.sid))
    assert checked(caught.value).check == Check.TIMEOUT
    await all_gone(twilio)


@on_loopback
async def test_who_stops_waiting_leaves_no_connection(twilio: TwilioRest, account: TwilioAccount) -> None:
    twilio.misbehave(Slow())
    asking = asyncio.create_task(verify(twilio, account))
    while not twilio.count():
        await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await all_gone(twilio)


@on_loopback
async def test_the_next_page_is_not_fetched_from_another_host(twilio: TwilioRest, account: TwilioAccount) -> None:
    """The SDK goes wherever an answer says, with the account's credentials."""
    async with TwilioRest() as thief:
        page = {
            "meta": {"key": "incoming_phone_numbers", "next_page_url": f"{thief.url}/2010-04-01/next"},
            "incoming_phone_numbers": [],
        }
        twilio.misbehave(WrongShape(page), "IncomingPhoneNumbers")
        assert (await refusal(twilio, account)).check == Check.ANSWER
        assert thief.count() == 0


@on_loopback
async def test_the_processs_environment_does_not_say_where_credentials_go(
    twilio: TwilioRest, account: TwilioAccount, number: TwilioNumber, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "TWILIO_ACCOUNT_SID": "AC0",
        "TWILIO_AUTH_TOKEN": "another",
        "TWILIO_EDGE": "sydney",
        "TWILIO_REGION": "au1",
        "HTTP_PROXY": "http://127.0.0.1:1",
        "ALL_PROXY": "http://127.0.0.1:1",
    }.items():
        monkeypatch.setenv(name, value)
    assert (await verify(twilio, account)).trunk == "twilio"
