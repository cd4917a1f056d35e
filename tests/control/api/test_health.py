"""For those who keep the edge running."""

from __future__ import annotations

import httpx
import pytest

from control.readiness import Readiness
from tests.support.desk import Desk

UP = ("udp:127.0.0.1:5060", "tcp:127.0.0.1:5060")


async def test_alive_is_alive(nobody: httpx.AsyncClient, desk: Desk) -> None:
    """Whatever the rest says: a restart mends none of it."""
    desk.health.state = Readiness((), registry_open=False, draining=True)
    answer = await nobody.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "alive"})


@pytest.mark.parametrize(("draining", "status", "word"), [(False, 200, "ready"), (True, 503, "not_ready")])
async def test_ready_says_whether_to_send_calls_here(
    nobody: httpx.AsyncClient, desk: Desk, draining: bool, status: int, word: str
) -> None:
    desk.health.state = Readiness(UP, registry_open=True, draining=draining)
    answer = await nobody.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (status, word)


async def test_readiness_names_no_registration(nobody: httpx.AsyncClient, desk: Desk) -> None:
    """Names are customers'; this path asks for no key."""
    desk.health.state = Readiness(UP, registry_open=True, registrations={"acme-telnyx": "failed", "b": "registered"})
    answer = await nobody.get("/readyz")
    assert answer.json() == {
        "status": "ready",
        "listening": list(UP),
        "registry": "open",
        "media": "up",
        "registrations": {"failed": 1, "registered": 1},
        "draining": False,
    }


@pytest.mark.parametrize(
    ("source", "key", "headers", "status"),
    [
        ("127.0.0.1", None, {}, 200),
        ("::1", None, {}, 200),
        ("127.0.0.1", None, {"X-Forwarded-For": "203.0.113.9"}, 401),
        ("127.0.0.1", None, {"Forwarded": "for=203.0.113.9"}, 401),
        ("198.51.100.7", None, {}, 401),
        ("198.51.100.7", "acme", {}, 403),
        ("198.51.100.7", "operator", {}, 200),
        ("localhost", None, {}, 401),
    ],
)
async def test_metrics_are_for_this_machine_or_an_operator(
    desk: Desk, source: str, key: str | None, headers: dict[str, str], status: int
) -> None:
    """Labels name trunks and sources; what a proxy here passes on comes from anywhere."""
    async with desk.client(key, source=source) as client:
        answer = await client.get("/metrics", headers=headers)
    assert answer.status_code == status
    if status == 200:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert "process_open_fds" in answer.text
