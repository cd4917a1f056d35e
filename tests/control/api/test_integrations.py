"""Credentials over HTTP: saved once the carrier takes them, never read back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from control.errors import ProviderVerificationFailed
from control.providers import Check, Checked, ProviderWarning, Verified
from control.registry.sqlite import SqliteRegistry
from tests.support.desk import BASE, SID, Desk

TWILIO = f"{BASE}/telephony/integrations/twilio"
TELNYX = f"{BASE}/telephony/integrations/telnyx"
OPENAI = f"{BASE}/telephony/integrations/openai"
IMPORT = f"{BASE}/telephony/numbers/import"
TOKEN = "planted-secret-4711"
GOOD: dict[str, dict[str, Any]] = {
    TWILIO: {"account_sid": SID, "auth_token": TOKEN},
    TELNYX: {"api_key": TOKEN, "sip_password": TOKEN},
    OPENAI: {"api_key": TOKEN},
}
MASKED: dict[str, dict[str, Any]] = {
    TWILIO: {
        "provider": "twilio",
        "account_sid": SID,
        "auth_token_set": True,
        "previous_auth_token_until": None,
        "subaccounts": [],
    },
    TELNYX: {"provider": "telnyx", "api_key_set": True, "sip_password_set": True},
    OPENAI: {"provider": "openai", "api_key_set": True},
}
NOW = "2026-09-21T14:13:20.000Z"

each = pytest.mark.parametrize("path", [TWILIO, TELNYX, OPENAI])


@each
async def test_credentials_are_saved_read_masked_and_deleted(acme: httpx.AsyncClient, desk: Desk, path: str) -> None:
    saved = await acme.put(path, json=GOOD[path])
    assert saved.status_code == 200
    shown = {**MASKED[path], "created_at": NOW, "updated_at": NOW}
    assert saved.json()["data"] == {**shown, "warnings": []}
    desk.wall.advance(60)
    again = await acme.put(path, json=GOOD[path])
    assert again.json()["data"]["updated_at"] == "2026-09-21T14:14:20.000Z"
    read = await acme.get(path)
    assert read.json()["data"] == {**shown, "updated_at": "2026-09-21T14:14:20.000Z"}
    gone = await acme.delete(path)
    assert gone.json()["data"] == {"provider": path.rpartition("/")[2], "deleted": True}
    for answer in (saved, again, read, gone):
        assert TOKEN not in answer.text
        assert TOKEN[-4:] not in answer.text
    for answer in (await acme.get(path), await acme.delete(path)):
        assert answer.status_code == 404
        assert answer.json()["error"]["details"]["resource"] == "integration"


@each
async def test_credentials_are_an_account_s_own(acme: httpx.AsyncClient, globex: httpx.AsyncClient, path: str) -> None:
    await acme.put(path, json=GOOD[path])
    for answer in (await globex.get(path), await globex.delete(path)):
        assert answer.status_code == 404
    assert (await globex.put(path, json=GOOD[path])).status_code == 200
    await globex.delete(path)
    assert (await acme.get(path)).status_code == 200


@each
async def test_credentials_that_the_carrier_refuses_are_not_kept(
    acme: httpx.AsyncClient, desk: Desk, path: str
) -> None:
    provider = path.rpartition("/")[2]
    desk.carrier.bad_credentials = ProviderVerificationFailed(provider, Check.CREDENTIALS, provider_status=401)
    answer = await acme.put(path, json=GOOD[path])
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["code"] == "provider_verification_failed"
    assert error["details"] == {
        "provider": provider,
        "check": "credentials",
        "provider_status": 401,
        "resolution": "Double-check Account SID / API key in Settings → Integrations",
    }
    assert TOKEN not in answer.text
    assert (await acme.get(path)).status_code == 404


async def test_what_the_carrier_warns_of_is_answered(acme: httpx.AsyncClient, desk: Desk) -> None:
    desk.carrier.checked = Checked((ProviderWarning("trial_account", "A trial account"),))
    answer = await acme.put(TWILIO, json=GOOD[TWILIO])
    assert answer.json()["data"]["warnings"] == [{"code": "trial_account", "message": "A trial account"}]


async def test_a_pair_of_api_keys_is_refused_with_the_reason(acme: httpx.AsyncClient) -> None:
    """Twilio signs its webhooks with the Auth Token alone."""
    sid = "SK" + "0" * 32
    saved = await acme.put(TWILIO, json={"account_sid": sid, "auth_token": TOKEN})
    body = {"phone_number": "+14155550100", "provider": "twilio", "provider_account_sid": sid}
    for answer, field in ((saved, "account_sid"), (await acme.post(IMPORT, json=body), "provider_account_sid")):
        assert answer.status_code == 422
        assert answer.json()["error"]["code"] == "validation_error"
        (row,) = answer.json()["error"]["details"]["errors"]
        assert row["field"] == field
        assert "cannot verify the signatures" in row["problem"]
        assert TOKEN not in answer.text


@pytest.mark.parametrize(
    ("path", "change", "field"),
    [
        (TWILIO, {"account_sid": "AC123"}, "account_sid"),
        (TWILIO, {"account_sid": 5}, "account_sid"),
        (TWILIO, {"auth_token": ""}, "auth_token"),
        (TWILIO, {"auth_token": None}, "auth_token"),
        (TWILIO, {"auth_token": f"{TOKEN}\n"}, "auth_token"),
        (TWILIO, {"auth_token": f"{TOKEN}é"}, "auth_token"),
        (TWILIO, {"auth_token": TOKEN * 20}, "auth_token"),
        (TWILIO, {"api_key": TOKEN}, "api_key"),
        (TELNYX, {"api_key": f"{TOKEN} {TOKEN}"}, "api_key"),
        (TELNYX, {"api_key": [TOKEN]}, "api_key"),
        (TELNYX, {"sip_password": TOKEN * 10}, "sip_password"),
        (TELNYX, {"account_sid": SID}, "account_sid"),
        (OPENAI, {"api_key": f"{TOKEN} {TOKEN}"}, "api_key"),
        (OPENAI, {"api_key": None}, "api_key"),
        (OPENAI, {"organization": TOKEN}, "organization"),
    ],
)
async def test_a_field_that_is_wrong_is_named_and_never_quoted(
    acme: httpx.AsyncClient, path: str, change: dict[str, object], field: str
) -> None:
    answer = await acme.put(path, json={**GOOD[path], **change})
    assert answer.status_code == 422
    assert [row["field"] for row in answer.json()["error"]["details"]["errors"]] == [field]
    assert "planted" not in answer.text


async def test_credentials_in_use_are_a_conflict(acme: httpx.AsyncClient) -> None:
    await acme.put(TELNYX, json=GOOD[TELNYX])
    body = {"phone_number": "+14155550100", "provider": "telnyx", "provider_connection_id": "42"}
    number = (await acme.post(IMPORT, json=body)).json()["data"]
    refused = await acme.delete(TELNYX)
    assert refused.status_code == 409
    assert refused.json()["error"]["code"] == "conflict"
    assert refused.json()["error"]["details"]["numbers"] == 1
    await acme.delete(f"{BASE}/telephony/numbers/{number['id']}")
    assert (await acme.delete(TELNYX)).status_code == 200


@pytest.mark.parametrize("more", [{}, {"sip_password": TOKEN}, {"rotate_sip_password": True}])
async def test_a_telnyx_import_may_bring_the_password(
    acme: httpx.AsyncClient, desk: Desk, more: dict[str, object]
) -> None:
    await acme.put(TELNYX, json=GOOD[TELNYX])
    body = {"phone_number": "+14155550100", "provider": "telnyx", "provider_connection_id": "42"}
    answer = await acme.post(IMPORT, json={**body, **more})
    assert answer.status_code == 201
    assert answer.json()["data"]["warnings"] == []
    (claim, _) = desk.carrier.claims[-1]
    assert claim.sip_password == more.get("sip_password")
    assert claim.rotate_sip_password is more.get("rotate_sip_password", False)
    assert TOKEN not in answer.text


@pytest.mark.parametrize(
    "more",
    [
        {"sip_password": TOKEN, "rotate_sip_password": True},
        {"sip_password": ""},
        {"sip_password": 5},
        {"rotate_sip_password": "yes"},
        {"rotate_sip_password": 1},
        {"rotate_sip_password": None},
    ],
)
async def test_a_password_is_given_or_rotated_in_plain_words(acme: httpx.AsyncClient, more: dict[str, object]) -> None:
    """Whatever other devices register with is not changed by a mistake."""
    body = {"phone_number": "+14155550100", "provider": "telnyx", "provider_connection_id": "42"}
    answer = await acme.post(IMPORT, json={**body, **more})
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "validation_error"
    assert TOKEN not in answer.text


async def test_a_number_is_verified_again_on_request(
    acme: httpx.AsyncClient, globex: httpx.AsyncClient, desk: Desk
) -> None:
    """As its import was; a failure is told, and takes nothing away."""
    await acme.put(TWILIO, json=GOOD[TWILIO])
    body = {"phone_number": "+14155550100", "provider": "twilio", "provider_account_sid": SID}
    number = (await acme.post(IMPORT, json=body)).json()["data"]
    path = f"{BASE}/telephony/numbers/{number['id']}/verify"
    warning = ProviderWarning("voice_url", "Not ours")
    desk.carrier.say = lambda claim, integration: Verified("twilio", (warning,))
    again = await acme.post(path)
    assert again.status_code == 200
    assert again.json()["data"] == {**number, "warnings": [{"code": "voice_url", "message": "Not ours"}]}
    assert (await globex.post(path)).status_code == 404
    desk.carrier.refusals[desk.accounts["acme"].id] = ProviderVerificationFailed("twilio", Check.NUMBER)
    refused = await acme.post(path)
    assert refused.status_code == 422
    assert refused.json()["error"]["details"]["check"] == "number"
    assert (await acme.get(path.removesuffix("/verify"))).status_code == 200


@pytest.mark.parametrize("provider", ["vonage", "sip", "Twilio", "twilio/x", ""])
async def test_there_are_two_providers(acme: httpx.AsyncClient, provider: str) -> None:
    assert (await acme.get(f"{BASE}/telephony/integrations/{provider}")).status_code == 404


@pytest.fixture
async def keyless(tmp_path: Path) -> AsyncIterator[Desk]:
    """Over a file, and without ``secrets.key``."""
    registry = SqliteRegistry.open(tmp_path / "registry.db")
    yield await Desk(registry=registry).furnish()
    await registry.close()


@each
async def test_without_a_key_to_seal_with_the_setting_is_named(keyless: Desk, path: str) -> None:
    async with keyless.client("acme") as client:
        answer = await client.put(path, json=GOOD[path])
        assert answer.status_code == 503
        error = answer.json()["error"]
        assert error["code"] == "secrets_unavailable"
        assert error["details"]["setting"] == "secrets.key"
        assert "secrets.key is not set" in error["message"]
        assert (await client.get(path)).status_code == 404
