"""Requests generated from the API's own document, valid and broken: never a 5xx, never another shape.

Half of the cases hit things that exist, half ids that schemathesis makes up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from control.api.app import openapi_document
from control.operations.principal import Principal
from control.resources.accounts import CreateKey
from control.resources.agents import CreateAgent
from control.resources.ids import account_sid, call_sid
from control.resources.numbers import import_request
from control.resources.pipelines import BuiltinPipeline
from tests.support.desk import SID, Desk, live_one

SCHEMA = schemathesis.openapi.from_dict(openapi_document())
OPERATIONS = {result.ok().definition.raw["operationId"]: result.ok() for result in SCHEMA.get_all_operations()}
CALL = "0198c0de-0000-4000-8000-000000000011"
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 12
MANY_EXAMPLES = 60


class Target:
    """An application with one of everything, on a loop of its own."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self.desk = runner.run(Desk(limits={"api_requests_per_minute": 1_000_000}).furnish())
        self._count = 0
        runner.run(self.desk.integrate("acme"))

    def existing(self, operation_id: str) -> dict[str, Any]:
        """Path parameters that name something, made anew: the case may delete it."""
        match operation_id.rpartition("_")[2]:
            case "number":
                return {"number_id": self._runner.run(self._number())}
            case "agent":
                return {"agent_id": self._runner.run(self._agent())}
            case "integration":
                self._runner.run(self.desk.integrate("acme"))
                return {}
            case "key":
                return {"key_id": self._runner.run(self.desk.operations.create_key(self._by, CreateKey())).id}
            case "call":
                self.desk.calls.up[CALL] = live_one(CALL, self._by.account)
                return {"call_id": CALL, "account": account_sid(self._by.account), "call": call_sid(CALL)}
            case _:
                return {}

    def send(self, case: Case, *, exists: bool) -> httpx.Response:
        """Put the case to the application."""
        if exists:
            known = self.existing(case.operation.definition.raw["operationId"])
            case.path_parameters = {name: known.get(name, value) for name, value in case.path_parameters.items()}
            self._fit(case)
        return self._runner.run(self._exchange(case))

    def _fit(self, case: Case) -> None:
        """A number that is free, on a trunk that is there; credentials of the account that has numbers."""
        if not isinstance(case.body, dict):
            return
        provider = case.body.get("provider")
        if provider in ("sip", "twilio", "telnyx"):  # one that was made up may be a list, which has no hash
            case.body = {**case.body, "phone_number": self._fresh_number()}
        if provider == "sip":
            case.body = {**case.body, "provider_trunk": "lab"}
        if "account_sid" in case.body:
            case.body = {**case.body, "account_sid": SID}

    @property
    def _by(self) -> Principal:
        return Principal.console(self.desk.accounts["acme"].id)

    def _fresh_number(self) -> str:
        self._count += 1
        return f"+1415{self._count + 2_000_000:07}"

    async def _number(self) -> str:
        request = import_request(provider="sip", phone_number=self._fresh_number(), provider_trunk="lab")
        return (await self.desk.operations.import_number(self._by, request)).id

    async def _agent(self) -> str:
        request = CreateAgent(name="a", pipeline=BuiltinPipeline(protocol="builtin", name="echo"))
        return (await self.desk.operations.create_agent(self._by, request)).id

    async def _exchange(self, case: Case) -> httpx.Response:
        wire = case.as_transport_kwargs(base_url="http://edge")
        headers = {name: value for name, value in wire["headers"].items() if name.lower() != "authorization"}
        twilio = case.path.startswith("/2010")
        auth = (self.desk.accounts["acme"].sid, self.desk.keys["acme"]) if twilio else None
        if not twilio:
            headers["Authorization"] = f"Bearer {self.desk.keys['operator']}"
        body = {"content" if name == "data" and isinstance(value, bytes | str) else name: value
                for name, value in wire.items() if name in {"json", "data", "files"}}  # fmt: skip
        transport = httpx.ASGITransport(self.desk.app, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport) as client:
            return await client.request(
                wire["method"], wire["url"], headers=headers, params=wire.get("params"), auth=auth, **body
            )


@pytest.fixture
def target() -> Iterator[Target]:
    """Fresh for each operation."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        yield Target(runner)


def fuzz(target: Target, operation_id: str, examples: int) -> int:
    """Put ``examples`` cases of each mode to the operation; returns how many were sent."""
    operation = OPERATIONS[operation_id]
    sent = 0

    def against(mode: GenerationMode) -> Callable[[], None]:
        @settings(
            max_examples=examples,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode), exists=st.booleans())
        def cases(case: Case, exists: bool) -> None:
            nonlocal sent
            sent += 1
            response = target.send(case, exists=exists)
            assert response.headers["X-Request-Id"].startswith("req_")
            if response.status_code not in {404, 405}:
                case.validate_response(response, checks=CHECKS)

        return cases

    against(GenerationMode.POSITIVE)()
    if operation.body or operation.query or operation.path_parameters:
        against(GenerationMode.NEGATIVE)()
    return sent


@pytest.mark.parametrize("operation_id", OPERATIONS)
def test_no_generated_request_breaks_an_operation(target: Target, operation_id: str) -> None:
    """A few of each, the same ones every time."""
    assert fuzz(target, operation_id, EXAMPLES) > 0


@pytest.mark.slow
def test_two_thousand_generated_requests_break_nothing() -> None:
    """Over all operations."""
    sent = 0
    for operation_id in OPERATIONS:
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            sent += fuzz(Target(runner), operation_id, MANY_EXAMPLES)
    assert sent >= 2000
