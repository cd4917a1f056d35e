"""``/healthz``, ``/readyz`` and ``/metrics``: for those who keep the edge running. No envelopes here."""

from __future__ import annotations

import ipaddress
from collections import Counter
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from control.api.door import bearer_key, source_of
from control.errors import Forbidden
from control.metrics import CONTENT_TYPE
from control.readiness import Readiness, RegistrationState

__all__ = ["router"]


class Alive(BaseModel, defer_build=True):
    """What carries calls runs, and its loop turns."""

    status: Literal["alive"] = "alive"


class ReadyAnswer(BaseModel, defer_build=True):
    """Whether to send calls here. Registrations are counted, not named: this path asks for no key."""

    status: Literal["ready", "not_ready"]
    listening: list[str]
    registry: Literal["open", "closed"]
    media: Literal["up", "down"]
    registrations: dict[RegistrationState, int]
    draining: bool


router = APIRouter(tags=["health"])


async def _readiness(request: Request) -> Readiness:
    readiness: Readiness = await request.app.state.health.readiness()
    return readiness


@router.get("/healthz", dependencies=[Depends(_readiness)])
async def healthz() -> Alive:
    """Alive, also while draining."""
    return Alive()


@router.get("/readyz", responses={503: {"model": ReadyAnswer, "description": "Do not send calls here"}})
async def readyz(state: Annotated[Readiness, Depends(_readiness)], response: Response) -> ReadyAnswer:
    """200 when new calls are welcome, else 503."""
    response.status_code = 200 if state.ready else 503
    return ReadyAnswer(
        status="ready" if state.ready else "not_ready",
        listening=list(state.listening),
        registry="open" if state.registry_open else "closed",
        media="up" if state.media_up else "down",
        registrations=dict(Counter(state.registrations.values())),
        draining=state.draining,
    )


_TEXT: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus text format"}
}


@router.get("/metrics", response_class=Response, responses=_TEXT)
async def metrics(request: Request) -> Response:
    """Prometheus' text. For this machine, or with an operator key: labels name trunks and sources."""
    if not _from_this_machine(request):
        principal = await request.app.state.door.admit(bearer_key(request), source_of(request))
        if not principal.operator:
            raise Forbidden
    return Response(await request.app.state.metrics.exposition(), media_type=CONTENT_TYPE)


_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


def _from_this_machine(request: Request) -> bool:
    """A loopback peer that is no proxy: what a proxy passes on comes from anywhere."""
    try:
        local = request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
    return local and not any(name in request.headers for name in _FORWARDED)
