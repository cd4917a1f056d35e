"""The application as its document describes it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from config.settings import Api, Settings
from control.api.app import OPENAPI_PATH, create_app, openapi_document
from control.errors import Code
from control.live_calls import NoLiveCalls
from control.operations import Operations
from control.registry.memory import MemoryRegistry
from tests.support.clock import FakeClock
from tests.support.desk import Desk, FakeHealth, counting_entropy

DOCUMENT = openapi_document()


def described() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and description of every operation."""
    for path, operations in DOCUMENT["paths"].items():
        for method, operation in operations.items():
            yield method, path, operation


OPERATIONS = list(described())
NAMES = [operation["operationId"] for _, _, operation in OPERATIONS]


async def test_the_document_is_served_to_anybody(nobody: httpx.AsyncClient) -> None:
    """At the fixed path, and the same that is generated without an edge."""
    answer = await nobody.get(OPENAPI_PATH)
    assert answer.status_code == 200
    assert answer.json() == json.loads(json.dumps(DOCUMENT))


def test_operations_have_ids_that_clients_can_be_generated_from() -> None:
    """Unique, and names as Python has them."""
    assert len(set(NAMES)) == len(NAMES)
    assert all(name.isidentifier() and name.islower() for name in NAMES)
    assert {"import_number", "list_numbers", "get_number", "update_number", "delete_number"} <= set(NAMES)


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=NAMES)
def test_every_operation_documents_its_errors(method: str, path: str, operation: dict[str, Any]) -> None:
    """In the shape that is sent, never FastAPI's own."""
    assert operation["summary"]
    assert operation["description"]
    assert operation["tags"]
    if operation.get("security") != [{"bearerAuth": []}]:
        return
    responses = operation["responses"]
    assert {"401", "429", "500", "503"} <= set(responses)
    if "requestBody" in operation:
        assert {"413", "415", "422", "507"} <= set(responses)
    if path.endswith("_id}"):
        assert "404" in responses
    for status, response in responses.items():
        if status >= "400":
            schema = response["content"]["application/json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/ErrorAnswer"}


def test_every_code_that_clients_meet_is_documented() -> None:
    """Those of the router itself (404, 405 of no operation) aside."""
    text = json.dumps(DOCUMENT["paths"])
    assert {code for code in Code if f"`{code}`" not in text} == {Code.METHOD_NOT_ALLOWED}


def test_every_schema_is_used() -> None:
    """FastAPI's own errors are gone, and nothing hangs loose."""
    text = json.dumps(DOCUMENT)
    for name in DOCUMENT["components"]["schemas"]:
        assert f'"#/components/schemas/{name}"' in text, name
    assert "HTTPValidationError" not in text


def test_number_objects_are_told_apart_by_their_provider() -> None:
    """One ``provider_…`` field each."""
    schemas = DOCUMENT["components"]["schemas"]
    common = {"id", "phone_number", "provider", "agent_id", "fallback", "parameters", "status"}
    common |= {"created_at", "updated_at"}
    for name, field in (
        ("TwilioNumber", "provider_account_sid"),
        ("TelnyxNumber", "provider_connection_id"),
        ("SipNumber", "provider_trunk"),
    ):
        assert set(schemas[name]["properties"]) == common | {field}
        assert set(schemas[name]["required"]) == common | {field}


def test_the_public_url_is_the_document_s_server() -> None:
    """When the operator names one."""
    settings = Settings(api=Api(public_url="https://api.example.com"))
    clock = FakeClock()
    operations = Operations(MemoryRegistry(), NoLiveCalls(), settings, clock=clock, entropy=counting_entropy())
    app = create_app(operations, FakeHealth(), now=clock)
    assert app.openapi()["servers"] == [{"url": "https://api.example.com"}]
    assert "servers" not in DOCUMENT


async def test_the_running_loop_s_clock_is_the_default(desk: Desk) -> None:
    """For the rates of keys."""
    app = create_app(desk.operations, desk.health)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://edge") as client:
        answer = await client.get("/api/public/v1/account", headers={"Authorization": f"Bearer {desk.keys['acme']}"})
    assert answer.status_code == 200
