"""Who may come in, and how often."""

from __future__ import annotations

import base64
import re
from typing import Any

import httpx
import pytest
from fastapi import Request

from control.api.door import basic_credentials, bearer_key, source_of
from tests.support.desk import BASE, Desk, live_one

ID = "0198c0de-0000-4000-8000-000000000011"

GUARDED = [
    ("POST", "/telephony/numbers/import"),
    ("GET", "/telephony/numbers"),
    ("GET", f"/telephony/numbers/{ID}"),
    ("PATCH", f"/telephony/numbers/{ID}"),
    ("DELETE", f"/telephony/numbers/{ID}"),
    ("POST", f"/telephony/numbers/{ID}/verify"),
    ("GET", f"/telephony/numbers/{ID}/recording"),
    ("PUT", f"/telephony/numbers/{ID}/recording"),
    *(
        (method, f"/telephony/integrations/{name}")
        for name in ("twilio", "telnyx", "openai")
        for method in ("PUT", "GET", "DELETE")
    ),
    ("POST", "/agents"),
    ("GET", "/agents"),
    ("GET", f"/agents/{ID}"),
    ("PATCH", f"/agents/{ID}"),
    ("DELETE", f"/agents/{ID}"),
    ("POST", f"/agents/{ID}/signing-secret"),
    ("DELETE", f"/agents/{ID}/signing-secret"),
    ("GET", "/calls"),
    ("POST", "/calls"),
    ("POST", f"/calls/{ID}/transfer"),
    ("GET", f"/accounts/{ID}/dialling"),
    ("PUT", f"/accounts/{ID}/dialling"),
    ("GET", f"/calls/{ID}"),
    ("GET", f"/calls/{ID}/recording"),
    ("DELETE", f"/calls/{ID}/recording"),
    ("POST", f"/calls/{ID}/digits"),
    ("POST", f"/calls/{ID}/play"),
    ("POST", f"/calls/{ID}/clear"),
    ("POST", f"/calls/{ID}/marks"),
    ("POST", f"/calls/{ID}/hold"),
    ("POST", f"/calls/{ID}/resume"),
    ("POST", f"/calls/{ID}/hangup"),
    ("GET", "/account"),
    ("GET", "/accounts"),
    ("POST", "/accounts"),
    ("GET", "/keys"),
    ("POST", "/keys"),
    ("DELETE", f"/keys/{ID}"),
    ("POST", f"/keys/{ID}/rotate"),
]


def test_the_list_of_guarded_paths_is_complete(desk: Desk) -> None:
    """What the document says asks for a key is what this file tries without one."""
    described = {
        (method.upper(), template.removeprefix(BASE))
        for template, operations in desk.app.openapi()["paths"].items()
        for method, operation in operations.items()
        if operation.get("security") == [{"bearerAuth": []}]
    }
    tried = {(method, path) for method, path in GUARDED}
    assert len(described) == len(tried)
    for method, template in described:
        assert (method, re.sub(r"\{\w+\}", ID, template)) in tried


@pytest.mark.parametrize(("method", "path"), GUARDED)
@pytest.mark.parametrize("body", [None, {"name": "x"}, "{broken"])
async def test_without_a_key_every_path_is_401(nobody: httpx.AsyncClient, method: str, path: str, body: object) -> None:
    """Whatever the body: nothing of it is looked at."""
    sent: dict[str, Any] = {"content": body} if isinstance(body, str) else {"json": body}
    answer = await nobody.request(method, BASE + path, **sent)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.json()["error"]["code"] == "unauthorized"


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        "Bearer ",
        "Bearer truedy_",
        "Bearer truedy_" + "0" * 43,
        "Bearer truedy_" + "é" * 43,
        "Bearer " + "x" * 100_000,
        "Basic dHJ1ZWR5Og==",
        "truedy_" + "0" * 43,
        "Digest username=x",
        "\x80\xff",
    ],
)
async def test_a_key_that_is_none_is_401(nobody: httpx.AsyncClient, header: str) -> None:
    """Without saying what was wrong with it."""
    answer = await nobody.get(f"{BASE}/account", headers={b"Authorization": header.encode("latin-1")})
    assert answer.status_code == 401
    assert answer.json()["error"]["message"] == "No valid API key"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_scheme_s_case_does_not_matter(desk: Desk, nobody: httpx.AsyncClient, scheme: str) -> None:
    """RFC 9110 §11.1."""
    answer = await nobody.get(f"{BASE}/account", headers={"Authorization": f"{scheme} {desk.keys['acme']}"})
    assert answer.status_code == 200


async def test_accounts_live_apart(acme: httpx.AsyncClient, globex: httpx.AsyncClient) -> None:
    """Another account's number and agent are 404 to read, change and delete, and in no list."""
    made = await acme.post(f"{BASE}/agents", json={"name": "a", "pipeline": {"protocol": "builtin", "name": "echo"}})
    number = await acme.post(
        f"{BASE}/telephony/numbers/import",
        json={"phone_number": "+14155550100", "provider": "sip", "provider_trunk": "lab"},
    )
    for path in (
        f"{BASE}/agents/{made.json()['data']['id']}",
        f"{BASE}/telephony/numbers/{number.json()['data']['id']}",
    ):
        before = (await acme.get(path)).json()["data"]
        assert (await globex.get(path)).status_code == 404
        assert (await globex.patch(path, json={})).status_code == 404
        assert (await globex.delete(path)).status_code == 404
        assert (await globex.get(path.rpartition("/")[0])).json()["data"] == []
        assert (await acme.get(path)).json()["data"] == before


async def test_an_operator_s_key_works_in_its_own_account(
    operator: httpx.AsyncClient, globex: httpx.AsyncClient
) -> None:
    """Its role is about trunks, accounts and keys; other accounts' things are not there for it either."""
    made = await globex.post(f"{BASE}/agents", json={"name": "a", "pipeline": {"protocol": "builtin", "name": "echo"}})
    assert (await operator.get(f"{BASE}/agents/{made.json()['data']['id']}")).status_code == 404


async def test_a_key_has_its_requests_a_minute() -> None:
    """The next one: 429 with Retry-After; another key is not concerned."""
    desk = await Desk(limits={"api_requests_per_minute": 5}).furnish()
    async with desk.client("acme") as acme, desk.client("globex") as globex:
        statuses = [(await acme.get(f"{BASE}/account")).status_code for _ in range(6)]
        assert statuses == [200] * 5 + [429]
        refused = await acme.get(f"{BASE}/account")
        assert refused.json()["error"]["code"] == "rate_limited"
        assert refused.headers["Retry-After"] == "12"
        assert (await globex.get(f"{BASE}/account")).status_code == 200
        desk.now.advance(11.9)
        assert (await acme.get(f"{BASE}/account")).status_code == 429
        desk.now.advance(0.2)
        assert (await acme.get(f"{BASE}/account")).status_code == 200


async def test_hanging_up_is_never_too_fast_for_the_calls_there_are() -> None:
    """An agent that ends a hundred calls at once ends them all, with its requests spent."""
    desk = await Desk(limits={"api_requests_per_minute": 1}).furnish()
    ids = [f"0198c0de-0000-4000-8000-{count:012}" for count in range(100)]
    desk.calls.up = {id: live_one(id, desk.accounts["acme"].id) for id in ids}
    async with desk.client("acme") as acme:
        await acme.get(f"{BASE}/account")
        assert (await acme.get(f"{BASE}/account")).status_code == 429
        for id in ids:
            assert (await acme.post(f"{BASE}/calls/{id}/hangup")).status_code == 200
    assert len(desk.calls.ended) == 100


async def test_hang_ups_have_a_limit_of_their_own() -> None:
    """Calls cannot begin faster either."""
    desk = await Desk(limits={"calls_per_account": 3, "attempts_burst": 3, "attempts_per_second": 1}).furnish()
    async with desk.client("acme") as acme:
        statuses = [(await acme.post(f"{BASE}/calls/{ID}/hangup")).status_code for _ in range(4)]
    assert statuses == [404, 404, 404, 429]


async def test_after_twenty_bad_keys_a_minute_a_source_is_told_429(desk: Desk) -> None:
    """A good key from there still passes, other sources are not concerned, and a minute later it is 401 again."""
    bad = {"Authorization": "Bearer truedy_" + "0" * 43}
    async with desk.client() as guesser, desk.client(source="198.51.100.8") as other:
        for _ in range(20):
            assert (await guesser.get(f"{BASE}/account", headers=bad)).status_code == 401
        refused = await guesser.get(f"{BASE}/account", headers=bad)
        assert refused.status_code == 429
        assert refused.headers["Retry-After"] == "3"
        good = {"Authorization": f"Bearer {desk.keys['acme']}"}
        assert (await guesser.get(f"{BASE}/account", headers=good)).status_code == 200
        assert (await other.get(f"{BASE}/account", headers=bad)).status_code == 401
        desk.now.advance(60)
        assert (await guesser.get(f"{BASE}/account", headers=bad)).status_code == 401


async def test_asking_without_a_key_is_no_guess(desk: Desk, nobody: httpx.AsyncClient) -> None:
    """It stays 401."""
    statuses = {(await nobody.get(f"{BASE}/account")).status_code for _ in range(30)}
    assert statuses == {401}


async def test_a_forwarded_for_header_makes_no_new_source(desk: Desk, nobody: httpx.AsyncClient) -> None:
    """Anybody can write one."""
    statuses = [
        (
            await nobody.get(
                f"{BASE}/account",
                headers={"Authorization": "Bearer truedy_" + "0" * 43, "X-Forwarded-For": f"203.0.113.{count}"},
            )
        ).status_code
        for count in range(21)
    ]
    assert statuses[-1] == 429


def request(header: str = "", client: tuple[str, int] | None = ("198.51.100.7", 1)) -> Any:
    """A request with this Authorization."""
    headers = [(b"authorization", header.encode("latin-1"))] if header else []
    return Request({"type": "http", "method": "GET", "path": "/", "headers": headers, "client": client})


@pytest.mark.parametrize(
    ("header", "key"),
    [("", None), ("Bearer k", "k"), ("bearer  k ", "k"), ("Bearer", None), ("Basic k", None), ("k", None)],
)
def test_a_bearer_key_is_taken_from_its_header(header: str, key: str | None) -> None:
    """RFC 6750 §2.1."""
    assert bearer_key(request(header)) == key


@pytest.mark.parametrize(
    ("header", "credentials"),
    [
        ("", None),
        ("Basic " + base64.b64encode(b"user:pass:word").decode(), ("user", "pass:word")),
        ("Basic " + base64.b64encode(b":").decode(), ("", "")),
        ("Basic " + base64.b64encode(b"user").decode(), None),
        ("Basic " + base64.b64encode(b"\xff:\xff").decode(), None),
        ("Basic !!!!", None),
        ("Basic é", None),
        ("Bearer k", None),
    ],
)
def test_basic_credentials_are_read_or_not_there(header: str, credentials: tuple[str, str] | None) -> None:
    """RFC 7617 §2: the first colon divides."""
    assert basic_credentials(request(header)) == credentials


@pytest.mark.parametrize(
    ("client", "source"),
    [
        (("198.51.100.7", 1), "198.51.100.7"),
        (("2001:db8:0:1:2:3:4:5", 1), "2001:db8:0:1::/64"),
        (("testclient", 1), "testclient"),
        (None, ""),
    ],
)
def test_a_source_is_an_address_or_a_network_of_ipv6(client: tuple[str, int] | None, source: str) -> None:
    """Whoever has one address of a /64 has them all."""
    assert source_of(request(client=client)) == source
