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


@pytest.mark.parametrize("query", ["", "?limit=1", "?limit=100&offset=2147483647", "?surprise=1", "?limit=2&limit=3"])
async def test_pages_take_what_is_in_their_limits(desk: Desk, query: str) -> None:
    """And ignore what they do not know."""
    async with desk.client("acme") as acme:
        assert (await acme.get(f"{BASE}/agents{query}")).status_code == 200
