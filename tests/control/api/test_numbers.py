"""The product's page, as its readers will run it: import, assign, release."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.support.desk import BASE, Desk

IMPORT = f"{BASE}/telephony/numbers/import"
SIP = {"phone_number": "+14155550100", "provider": "sip", "provider_trunk": "lab"}
PARROT = {"name": "Parrot", "pipeline": {"protocol": "builtin", "name": "parrot"}}
NO_ID = "0198c0de-0000-4000-8000-00000000dead"


async def imported(client: httpx.AsyncClient, number: str = "+14155550100") -> str:
    """A number on the lab trunk; its id."""
    answer = await client.post(IMPORT, json={**SIP, "phone_number": number})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["data"]["id"])


async def agent(client: httpx.AsyncClient) -> str:
    """A parrot's id."""
    answer = await client.post(f"{BASE}/agents", json=PARROT)
    return str(answer.json()["data"]["id"])


async def test_an_imported_number_is_answered_in_the_envelope(acme: httpx.AsyncClient) -> None:
    """201, every field of the number object, nothing else."""
    answer = await acme.post(IMPORT, json=SIP)
    assert answer.status_code == 201
    body = answer.json()
    assert set(body) == {"data", "meta"}
    assert set(body["meta"]) == {"request_id", "ts"}
    assert body["meta"]["request_id"] == answer.headers["X-Request-Id"]
    assert body["data"] == {
        "id": body["data"]["id"],
        "phone_number": "+14155550100",
        "provider": "sip",
        "provider_trunk": "lab",
        "agent_id": None,
        "fallback": None,
        "parameters": {},
        "status": "active",
        "created_at": "2026-09-21T14:13:20.000Z",
        "updated_at": "2026-09-21T14:13:20.000Z",
        "warnings": [],
    }
    read = (await acme.get(f"{BASE}/telephony/numbers/{body['data']['id']}")).json()["data"]
    assert {**read, "warnings": []} == body["data"]


@pytest.mark.parametrize(
    ("provider", "field", "value"),
    [
        ("twilio", "provider_account_sid", "AC" + "X" * 32),
        ("telnyx", "provider_connection_id", "YOUR_TELNYX_CONNECTION_ID"),
    ],
)
async def test_the_page_s_samples_ask_for_an_integration_first(
    acme: httpx.AsyncClient, provider: str, field: str, value: str
) -> None:
    """Word for word as the samples have it; no credentials are saved, so the verification fails and says which."""
    answer = await acme.post(IMPORT, json={"phone_number": "+14155550100", "provider": provider, field: value})
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["code"] == "provider_verification_failed"
    assert error["details"]["check"] == "integration_missing"
    assert error["details"]["provider"] == provider


@pytest.mark.parametrize("provider", ["vonage", "Twilio", "", "sip ", "😀", 5, None, ["twilio"]])
async def test_another_provider_is_refused_with_the_page_s_words(acme: httpx.AsyncClient, provider: object) -> None:
    """ "contact Truedy support before attempting an import"."""
    answer = await acme.post(IMPORT, json={**SIP, "provider": provider})
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["code"] == "provider_not_supported"
    assert error["message"] == ("Other SIP-compatible providers may work but are not officially tested or supported")
    assert error["details"]["resolution"] == (
        "If you are using a provider other than Twilio or Telnyx, contact Truedy support before attempting an import"
    )


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"phone_number": "4155550100"}, "phone_number"),
        ({"phone_number": "+1415555010"}, "phone_number"),
        ({"phone_number": "+14155550100\u0007"}, "phone_number"),
        ({"phone_number": 14155550100}, "phone_number"),
        ({"phone_number": None}, "phone_number"),
        ({"provider_trunk": "../etc"}, "provider_trunk"),
        ({"provider_account_sid": "AC" + "X" * 32}, "provider_account_sid"),
        ({"agent_id": NO_ID}, "agent_id"),
    ],
)
async def test_a_field_that_is_wrong_is_named(acme: httpx.AsyncClient, change: dict[str, object], field: str) -> None:
    """422 ``validation_error``."""
    answer = await acme.post(IMPORT, json={**SIP, **change})
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["code"] == "validation_error"
    assert [row["field"] for row in error["details"]["errors"]] == [field]


@pytest.mark.parametrize("field", ["phone_number", "provider", "provider_trunk"])
async def test_a_field_that_is_missing_is_named(acme: httpx.AsyncClient, field: str) -> None:
    """422 ``validation_error``."""
    answer = await acme.post(IMPORT, json={name: value for name, value in SIP.items() if name != field})
    assert answer.status_code == 422
    (row,) = answer.json()["error"]["details"]["errors"]
    assert (row["field"], row["problem"]) == (field, "Field required")


async def test_a_number_is_imported_once_whoever_has_it(acme: httpx.AsyncClient, operator: httpx.AsyncClient) -> None:
    """409, the same for one's own, in another spelling too."""
    await imported(acme)
    for again in (SIP, {**SIP, "phone_number": "+1 (415) 555-0100"}):
        answer = await acme.post(IMPORT, json=again)
        assert answer.status_code == 409
        assert answer.json()["error"]["code"] == "number_already_imported"


async def test_a_number_of_another_account_reveals_nothing(desk: Desk, acme: httpx.AsyncClient) -> None:
    """The same answer, letter for letter, but for the request's id."""
    await imported(acme)
    desk.keys["globex-operator"] = await desk.new_key("globex", role="operator")
    async with desk.client("globex-operator") as stranger:
        theirs = (await stranger.post(IMPORT, json=SIP)).json()
    mine = (await acme.post(IMPORT, json=SIP)).json()
    assert theirs["error"] == mine["error"]


async def test_of_two_imports_at_once_one_wins(acme: httpx.AsyncClient) -> None:
    """The loser gets 409."""
    answers = await asyncio.gather(*(acme.post(IMPORT, json=SIP) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7


async def test_a_trunk_is_for_the_accounts_it_lists(
    acme: httpx.AsyncClient, globex: httpx.AsyncClient, operator: httpx.AsyncClient
) -> None:
    """An operator may use any; to an account a trunk that does not list it looks like none at all."""
    shut = await acme.post(IMPORT, json={**SIP, "provider_trunk": "shut"})
    absent = await acme.post(IMPORT, json={**SIP, "provider_trunk": "absent"})
    assert shut.status_code == absent.status_code == 403
    assert shut.json()["error"]["code"] == absent.json()["error"]["code"] == "trunk_not_allowed"
    assert (await globex.post(IMPORT, json=SIP)).status_code == 403
    assert (await operator.post(IMPORT, json={**SIP, "provider_trunk": "absent"})).status_code == 422
    assert (await operator.post(IMPORT, json={**SIP, "provider_trunk": "shut"})).status_code == 201


async def test_a_number_is_assigned_and_unassigned(acme: httpx.AsyncClient, desk: Desk) -> None:
    """PATCH with an id, with null, and with nothing: which changes nothing."""
    number, parrot = await imported(acme), await agent(acme)
    path = f"{BASE}/telephony/numbers/{number}"
    desk.wall.advance(60)
    given = await acme.patch(path, json={"agent_id": parrot})
    assert given.status_code == 200
    assert given.json()["data"]["agent_id"] == parrot
    assert given.json()["data"]["updated_at"] == "2026-09-21T14:14:20.000Z"
    desk.wall.advance(60)
    same = (await acme.patch(path, json={})).json()["data"]
    assert same == given.json()["data"]
    taken = await acme.patch(path, json={"agent_id": None})
    assert taken.json()["data"]["agent_id"] is None
    assert (await acme.get(path)).json()["data"]["agent_id"] is None


async def test_another_account_s_agent_cannot_be_assigned(acme: httpx.AsyncClient, globex: httpx.AsyncClient) -> None:
    """404, as for an agent that never was; and the number stays as it was."""
    number, theirs = await imported(acme), await agent(globex)
    for id in (theirs, NO_ID):
        answer = await acme.patch(f"{BASE}/telephony/numbers/{number}", json={"agent_id": id})
        assert answer.status_code == 404
        assert answer.json()["error"]["details"]["resource"] == "agent"
    assert (await acme.get(f"{BASE}/telephony/numbers/{number}")).json()["data"]["agent_id"] is None


async def test_a_released_number_is_gone_and_free(acme: httpx.AsyncClient) -> None:
    """DELETE answers what it released; a second one 404; the number can come back."""
    number = await imported(acme)
    path = f"{BASE}/telephony/numbers/{number}"
    gone = await acme.delete(path)
    assert gone.status_code == 200
    assert gone.json()["data"] == {"id": number, "phone_number": "+14155550100", "released": True}
    assert (await acme.delete(path)).status_code == 404
    assert (await acme.get(path)).status_code == 404
    assert await imported(acme) != number


async def test_numbers_are_listed_in_pages(acme: httpx.AsyncClient, desk: Desk) -> None:
    """50 at a time unless asked otherwise, newest first."""
    for last in range(5):
        desk.wall.advance(1)
        await imported(acme, f"+1415555010{last}")
    page = (await acme.get(f"{BASE}/telephony/numbers?limit=2&offset=2")).json()
    assert page["pagination"] == {"total": 5, "limit": 2, "offset": 2, "has_more": True}
    assert [number["phone_number"][-1] for number in page["data"]] == ["2", "1"]
    whole = (await acme.get(f"{BASE}/telephony/numbers")).json()
    assert whole["pagination"] == {"total": 5, "limit": 50, "offset": 0, "has_more": False}
    past = (await acme.get(f"{BASE}/telephony/numbers?offset=5")).json()
    assert past["data"] == []
    assert past["pagination"]["has_more"] is False


@pytest.mark.parametrize("spelled", ["%2B14155550101", "+14155550101", "%2B1%20(415)%20555-0101"])
async def test_numbers_are_filtered_by_the_number_itself(acme: httpx.AsyncClient, spelled: str) -> None:
    """In any spelling, the plus escaped or not; one that is not there is an empty page."""
    await imported(acme)
    number = await imported(acme, "+14155550101")
    found = (await acme.get(f"{BASE}/telephony/numbers?phone_number={spelled}")).json()
    assert [row["id"] for row in found["data"]] == [number]
    assert found["pagination"]["total"] == 1
    none = (await acme.get(f"{BASE}/telephony/numbers?phone_number=%2B14155550102")).json()
    assert (none["data"], none["pagination"]["total"]) == ([], 0)


@pytest.mark.parametrize("text", ["4155550100", "", "+", "x", "%2B1%00", "14155550100", "%20%2B14155550100"])
async def test_a_filter_that_is_no_number_is_refused(acme: httpx.AsyncClient, text: str) -> None:
    """An empty page would say that the number is not imported."""
    answer = await acme.get(f"{BASE}/telephony/numbers?phone_number={text}")
    assert answer.status_code == 422
    (row,) = answer.json()["error"]["details"]["errors"]
    assert row["field"] == "phone_number"


async def test_another_account_s_number_is_not_found_by_its_number(
    acme: httpx.AsyncClient, globex: httpx.AsyncClient
) -> None:
    await imported(acme)
    assert (await globex.get(f"{BASE}/telephony/numbers?phone_number=%2B14155550100")).json()["data"] == []


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "limit=1e1", "offset=-1", f"offset={2**63}"])
async def test_a_page_beyond_the_limits_is_refused(acme: httpx.AsyncClient, query: str) -> None:
    """1 to 100, from 0."""
    answer = await acme.get(f"{BASE}/telephony/numbers?{query}")
    assert answer.status_code == 422
    assert answer.json()["error"]["details"]["errors"][0]["field"] == query.partition("=")[0]


@pytest.mark.parametrize("id", ["x", "0", "%00", "..%2f", "NUMBER_UUID", NO_ID, NO_ID.replace("-", ""), "é" * 200])
async def test_what_is_no_id_names_nothing(acme: httpx.AsyncClient, id: str) -> None:
    """404, whatever it looks like."""
    answer = await acme.get(f"{BASE}/telephony/numbers/{id}")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"


async def test_a_numbers_fallback_and_parameters_are_set_apart_from_its_agent(
    acme: httpx.AsyncClient,
) -> None:
    path = f"{BASE}/telephony/numbers/{await imported(acme)}"
    message = await acme.patch(path, json={"fallback": {"message": "unavailable"}, "parameters": {"language": "de"}})
    assert message.json()["data"]["fallback"] == {"message": "unavailable"}
    assert message.json()["data"]["parameters"] == {"language": "de"}
    forward = await acme.patch(path, json={"fallback": {"forward": "+1 (415) 555-0123"}})
    assert forward.json()["data"]["fallback"] == {"forward": "+14155550123"}
    assert (await acme.get(path)).json()["data"] == forward.json()["data"]
    none = await acme.patch(path, json={"fallback": None})
    assert (none.json()["data"]["fallback"], none.json()["data"]["parameters"]) == (None, {"language": "de"})


@pytest.mark.parametrize(
    "change",
    [
        {"fallback": {"message": "no-such-recording"}},
        {"fallback": {"message": "unavailable", "forward": "+14155550123"}},
        {"fallback": {"forward": "tomorrow"}},
        {"fallback": {}},
        {"parameters": {"": "x"}},
        {"parameters": {"a": 1}},
        {"parameters": None},
    ],
)
async def test_a_fallback_that_cannot_be_is_422(acme: httpx.AsyncClient, change: dict[str, Any]) -> None:
    assert (await acme.patch(f"{BASE}/telephony/numbers/{await imported(acme)}", json=change)).status_code == 422
