"""The FastAPI application: routers, the door, failures, and the OpenAPI document."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from fastapi import FastAPI

from control.api import accounts, agents, calls, health, inbound, integrations, numbers, twilio
from control.api.door import Doorkeeper
from control.api.failures import handle_failures
from control.api.gate import Gate
from control.api.routing import PREFIX
from control.inbound import TwilioInbound
from control.metrics import Metrics
from control.operations import Operations
from control.readiness import Health
from edge.counters import Counters

__all__ = ["API_VERSION", "OPENAPI_PATH", "create_app", "openapi_document"]

API_VERSION: Final = "1.0.0"
OPENAPI_PATH: Final = f"{PREFIX}/openapi.json"

_DESCRIPTION: Final = """\
Bring your own carrier: import a number you own, give it an agent, and its calls ring through.

Every request carries an API key (`Authorization: Bearer truedy_…`). Answers are `{"data", "meta"}`, lists add
`pagination`, errors are `{"error": {"code", "message", "details"}, "meta"}`. Another account's things do not exist.
Unknown fields and unknown parameters of the query are refused (422) by their names.
"""


def create_app(
    operations: Operations,
    health: Health,
    *,
    now: Callable[[], float] | None = None,
    counters: Counters | None = None,
    metrics: Metrics | None = None,
    twilio_inbound: TwilioInbound | None = None,
) -> FastAPI:
    """The application over ``operations``.

    ``now`` is a monotonic clock [s], the running loop's by default. ``counters`` count requests; ``metrics`` is what
    ``/metrics`` shows, by default those counters. Without ``twilio_inbound`` its webhooks are not found.
    """
    now = now or _loop_time
    counters = counters or Counters()
    app = _described(operations.settings.api.public_url)
    app.state.operations = operations
    app.state.health = health
    app.state.inbound = twilio_inbound
    app.state.door = Doorkeeper(operations, operations.settings.limits, now)
    app.state.metrics = metrics or Metrics([counters.snapshot])
    app.add_middleware(Gate, entropy=operations.entropy, now=now, counters=counters)
    return app


def openapi_document() -> dict[str, Any]:
    """The document that :data:`OPENAPI_PATH` serves, without an edge behind it."""
    return _described(None).openapi()


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


class _Application(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """FastAPI's document, less the validation errors of its own shape, which are never sent."""
        if self.openapi_schema is None:
            self.openapi_schema = _ours(super().openapi())
        return self.openapi_schema


def _described(public_url: str | None) -> FastAPI:
    """The routes and their failures. No pages of documentation: theirs load scripts from elsewhere."""
    app = _Application(
        title="Truedy edge",
        version=API_VERSION,
        description=_DESCRIPTION,
        openapi_url=OPENAPI_PATH,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        servers=[{"url": public_url}] if public_url else None,
        generate_unique_id_function=lambda route: route.name,
    )
    for router in (
        numbers.router,
        integrations.router,
        agents.router,
        calls.router,
        calls.hang_up_router,
        accounts.router,
        twilio.router,
        inbound.router,
        health.router,
    ):
        app.include_router(router)
    handle_failures(app)
    return app


_FASTAPI_ERRORS: Final = ("HTTPValidationError", "ValidationError")


def _ours(document: dict[str, Any]) -> dict[str, Any]:
    for operations in document["paths"].values():
        for operation in operations.values():
            if _FASTAPI_ERRORS[0] in str(operation["responses"].get("422", "")):
                del operation["responses"]["422"]
    for name in _FASTAPI_ERRORS:
        document["components"]["schemas"].pop(name, None)
    schemes = document["components"].setdefault("securitySchemes", {})
    schemes["basicAuth"] = {"type": "http", "scheme": "basic", "description": "Account id (or its AC… form), API key."}
    return document
