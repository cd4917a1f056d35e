"""How a request reaches its operation."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi.routing import APIRoute

from control.api import accounts, agents, calls, integrations, numbers
from control.api.door import Lane
from control.api.routing import PREFIX, GuardedRoute
from tests.support.desk import BASE, Desk


def test_every_route_below_the_prefix_is_guarded() -> None:
    """By its class, so that none can forget it."""
    routers = (
        accounts.router,
        agents.router,
        calls.router,
        calls.hang_up_router,
        integrations.router,
        numbers.router,
    )
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    assert len(routes) == 46
    for route in routes:
        assert isinstance(route, GuardedRoute)
        assert route.path.startswith(f"{PREFIX}/")
        assert (route.lane is Lane.HANG_UP) == route.path.endswith("/hangup")


async def test_a_body_is_not_read_before_its_key_is_known(desk: Desk, nobody: httpx.AsyncClient) -> None:
    """A stranger's upload costs nothing; an account's is read once."""
    read = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal read
        read += 1
        yield b"{}"

    json = {"Content-Type": "application/json"}
    assert (await nobody.post(f"{BASE}/agents", content=pieces(), headers=json)).status_code == 401
    assert read == 0
    async with desk.client("acme") as acme:
        assert (await acme.post(f"{BASE}/agents", content=pieces(), headers=json)).status_code == 422
    assert read == 1


@pytest.mark.parametrize("query", ["", "?limit=1", "?limit=100&offset=2147483647", "?limit=2&limit=3"])
async def test_pages_take_what_is_in_their_limits(desk: Desk, query: str) -> None:
    async with desk.client("acme") as acme:
        assert (await acme.get(f"{BASE}/agents{query}")).status_code == 200


UNKNOWN = [
    ("GET", "/agents?limit=1&surprise=1", ["surprise"], "here are known: limit, offset"),
    ("GET", "/telephony/numbers?number=1", ["number"], "here are known: limit, offset, phone_number"),
    ("GET", "/calls?Status=failed&to=+1", ["Status", "to"], "here are known: limit, number_id, offset, status"),
    ("GET", "/account?a=1&b=2", ["a", "b"], "this path takes none"),
    ("GET", "/account?a%0Ab=1&sip=", [r"a\nb", "sip"], "this path takes none"),
    ("POST", "/agents?name=x", ["name"], "this path takes none"),
    ("POST", "/calls/x/hangup?reason=x", ["reason"], "this path takes none"),
]


@pytest.mark.parametrize(("method", "target", "fields", "said"), UNKNOWN, ids=[row[1] for row in UNKNOWN])
async def test_a_query_s_unknown_parameters_are_named_with_those_there_are(
    desk: Desk, method: str, target: str, fields: list[str], said: str
) -> None:
    """422 on every route, whatever the body: a filter that is ignored would answer with everything."""
    async with desk.client("acme") as acme:
        answer = await acme.request(method, BASE + target)
    assert answer.status_code == 422, answer.text
    error = answer.json()["error"]
    assert error["code"] == "validation_error"
    assert [row["field"] for row in error["details"]["errors"]] == fields
    assert {row["problem"] for row in error["details"]["errors"]} == {f"unknown parameter; {said}"}


async def test_of_many_unknown_parameters_some_are_named(desk: Desk) -> None:
    """And of a long name the beginning."""
    async with desk.client("acme") as acme:
        answer = await acme.get(f"{BASE}/account?{'&'.join(f'{number:090}=1' for number in range(50))}")
    fields = [row["field"] for row in answer.json()["error"]["details"]["errors"]]
    assert (len(fields), fields[0]) == (20, "0" * 80 + "…")
