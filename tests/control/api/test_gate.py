"""The outermost layer."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import httpx
import pytest
from starlette.requests import ClientDisconnect

from control.api.gate import Gate
from edge.counters import Counters
from tests.support.clock import FakeClock
from tests.support.desk import BASE, Desk, counting_entropy


async def test_every_answer_has_its_own_request_id(desk: Desk, acme: httpx.AsyncClient) -> None:
    """Good, bad and unknown alike; one the caller sends is not taken over."""
    ids = [
        (await acme.get(path, headers={"X-Request-Id": "mine"})).headers["X-Request-Id"]
        for path in ("/healthz", f"{BASE}/account", f"{BASE}/agents/x", "/nowhere", f"{BASE}/openapi.json")
    ]
    assert len(set(ids)) == len(ids)
    assert all(id.startswith("req_") and len(id) == 36 for id in ids)


async def test_no_answer_is_cached_or_sniffed(acme: httpx.AsyncClient) -> None:
    """A key's text is among them."""
    answer = await acme.post(f"{BASE}/keys", json={})
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_requests_are_logged_by_route_and_never_by_what_was_sent(
    acme: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, desk: Desk
) -> None:
    """Paths, methods and headers are hostile; routes are ours."""
    with caplog.at_level(logging.INFO, "truedy.api"):
        await acme.get(f"{BASE}/agents/%0d%0aevil")
        await acme.request("EVIL", "/evil%0a")
    text = caplog.text
    assert f"GET {BASE}/agents/{{agent_id}} 404" in text
    assert "any none 404" in text
    assert "evil" not in text.lower()
    assert desk.keys["acme"] not in text


async def test_requests_are_counted_by_route_and_status(desk: Desk) -> None:
    """With few labels, whatever is asked for."""
    async with desk.client("acme", source="127.0.0.1") as client:
        await client.get(f"{BASE}/account")
        await client.get(f"{BASE}/agents/a")
        await client.get(f"{BASE}/agents/b")
        await client.get("/x")
        await client.request("BREW", "/y")
        text = (await client.get("/metrics")).text
    assert f'truedy_api_requests_total{{method="GET",route="{BASE}/account",status="200"}} 1.0' in text
    assert f'truedy_api_requests_total{{method="GET",route="{BASE}/agents/{{agent_id}}",status="404"}} 2.0' in text
    assert 'truedy_api_requests_total{method="any",route="none",status="404"} 2.0' in text


class Gated:
    """A gate around an application, and what was sent through it."""

    def __init__(self, application: Any) -> None:
        self.counters = Counters()
        self.sent: list[Any] = []
        self.gate = Gate(application, entropy=counting_entropy(), now=FakeClock(), counters=self.counters)

    async def ask(self, kind: str = "http") -> None:
        """One request."""

        async def receive() -> Any:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            self.sent.append(message)

        await self.gate({"type": kind, "method": "GET", "path": "/", "headers": []}, receive, send)


async def test_an_answer_that_breaks_half_way_is_not_answered_twice(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged; the connection ends short."""

    async def half(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError

    gated = Gated(half)
    await gated.ask()
    assert [message["type"] for message in gated.sent] == ["http.response.start"]
    assert "request failed" in caplog.text


async def test_a_client_that_leaves_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """Counted as 499."""

    async def gone(scope: Any, receive: Any, send: Any) -> None:
        raise ClientDisconnect

    gated = Gated(gone)
    await gated.ask()
    assert gated.sent == []
    assert gated.counters.get("api_requests", status="499") == 1
    assert "request failed" not in caplog.text


async def test_a_cancelled_request_stays_cancelled() -> None:
    """The server's shutdown is not an error to answer."""

    async def cancelled(scope: Any, receive: Any, send: Any) -> None:
        raise asyncio.CancelledError

    gated = Gated(cancelled)
    with pytest.raises(asyncio.CancelledError):
        await gated.ask()
    assert gated.sent == []


async def test_what_is_no_request_passes_through() -> None:
    """The lifespan protocol."""
    seen = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    gated = Gated(application)
    await gated.ask("lifespan")
    assert seen == ["lifespan"]
    assert gated.counters.snapshot() == {}
