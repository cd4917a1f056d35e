"""Every error has one shape, whoever raised it."""

from __future__ import annotations

import logging
from typing import Any

import httpx
import pytest

from control.errors import ERRORS
from control.registry.memory import MemoryRegistry
from control.registry.types import RegistryBusy, RegistryError, RegistryFull, RegistryUnusable
from tests.support.desk import BASE, Desk


def assert_shaped(answer: httpx.Response, code: str) -> dict[str, Any]:
    """The envelope, the table's status, and the request's id in both places; returns ``error``."""
    body = answer.json()
    assert set(body) == {"error", "meta"}
    assert set(body["error"]) == {"code", "message", "details"}
    assert set(body["meta"]) == {"request_id", "ts"}
    assert body["meta"]["request_id"] == answer.headers["X-Request-Id"]
    assert body["error"]["code"] == code
    kind = next(kind for kind in ERRORS.values() if kind.code == code)
    assert answer.status_code == kind.status
    assert body["error"]["details"]["resolution"] == kind.resolution
    error: dict[str, Any] = body["error"]
    return error


@pytest.mark.parametrize(
    "path", ["/", "/favicon.ico", "/docs", "/redoc", "/api", BASE, f"{BASE}/", f"{BASE}/agents/", "/%00", "/%ff", "//"]
)
async def test_a_path_that_is_none_is_404(acme: httpx.AsyncClient, path: str) -> None:
    """No redirects, no pages that load scripts from elsewhere."""
    assert_shaped(await acme.get(path), "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", f"{BASE}/agents", "GET, POST"),
        ("POST", f"{BASE}/agents/x", "DELETE, GET, PATCH"),
        ("OPTIONS", f"{BASE}/calls", "GET, POST"),
        ("TRACE", f"{BASE}/telephony/numbers/x", "DELETE, GET, PATCH"),
        ("BREW", "/healthz", "GET"),
        ("POST", f"{BASE}/openapi.json", "GET"),
    ],
)
async def test_a_method_that_is_none_is_405_with_all_that_are(
    acme: httpx.AsyncClient, method: str, path: str, allowed: str
) -> None:
    """RFC 9110 §15.5.6."""
    answer = await acme.request(method, path)
    assert_shaped(answer, "method_not_allowed")
    assert answer.headers["Allow"] == allowed


class Broken(MemoryRegistry):
    """A store whose writes raise."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None

    async def create_agent(self, agent: Any) -> None:
        """Raises what the test asks for."""
        if self.error is not None:
            raise self.error
        await super().create_agent(agent)


async def creation(error: Exception) -> httpx.Response:
    """What a client hears when the store raises ``error`` as it creates an agent."""
    registry = Broken()
    desk = await Desk(registry=registry).furnish()
    registry.error = error
    async with desk.client("acme") as client:
        return await client.post(
            f"{BASE}/agents", json={"name": "a", "pipeline": {"protocol": "builtin", "name": "echo"}}
        )


async def test_a_busy_registry_is_503_with_retry_after() -> None:
    """Another process holds its lock."""
    answer = await creation(RegistryBusy("locked"))
    assert_shaped(answer, "registry_busy")
    assert answer.headers["Retry-After"] == "1"


async def test_a_full_disk_is_507() -> None:
    """Calls go on; the API says why it cannot."""
    assert_shaped(await creation(RegistryFull("/var/lib/secret/path")), "storage_full")


@pytest.mark.parametrize("error", [RuntimeError("hunter2"), RegistryUnusable("hunter2"), RegistryError("hunter2")])
async def test_what_nobody_expected_is_500_without_a_word_of_it(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has the traceback under the request's id; the answer has the id."""
    with caplog.at_level(logging.ERROR, "truedy.api"):
        answer = await creation(error)
    body = assert_shaped(answer, "internal")
    assert "hunter2" not in answer.text
    assert "Traceback" not in answer.text
    assert body["message"] == "Something went wrong on our side"
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert record.__dict__["request_id"] == answer.json()["meta"]["request_id"]


async def test_a_secret_that_was_sent_wrongly_is_not_sent_back(acme: httpx.AsyncClient) -> None:
    """Validation names the field, never its value."""
    answer = await acme.post(
        f"{BASE}/agents", json={"name": "a", "pipeline": {"protocol": "builtin", "name": "hunter2"}, "token": "hunter3"}
    )
    assert_shaped(answer, "validation_error")
    assert "hunter2" not in answer.text
    assert "hunter3" not in answer.text
