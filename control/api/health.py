"""``/healthz``, ``/readyz`` and ``/metrics``: for those who keep the edge running. No envelopes here."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from control.api.door import bearer_key, source_of
from control.errors import Forbidden
from control.metrics import CONTENT_TYPE
from control.registrations import RegistrationState

__all__ = ["Health", "Readiness", "router"]


@dataclass(frozen=True, slots=True)
class Readiness:
    """What serving needs, as it stands.

    ``listening``: the bound SIP listeners (``udp:127.0.0.1:5060``). ``registrations``: by name. A failed one does not
    make the edge unready, since its trunk is one of many; one whose first attempt is still out does. ``media_up``:
    something is there to carry a call's audio.
    """

    listening: Sequence[str]
    registry_open: bool
    registrations: Mapping[str, RegistrationState] = field(default_factory=dict)
    draining: bool = False
    media_up: bool = True

    @property
    def ready(self) -> bool:
        """Send calls here."""
        pending = "pending" in self.registrations.values()
        return bool(self.listening) and self.registry_open and self.media_up and not self.draining and not pending


class Health(Protocol):
    """Whoever composes the process knows."""

    def readiness(self) -> Readiness:
        """As it stands; answers at once."""
        ...


class Alive(BaseModel, defer_build=True):
    """The process runs and its loop turns."""

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


@router.get("/healthz")
async def healthz() -> Alive:
    """Alive, also while draining."""
    return Alive()


@router.get("/readyz", responses={503: {"model": ReadyAnswer, "description": "Do not send calls here"}})
async def readyz(request: Request, response: Response) -> ReadyAnswer:
    """200 when new calls are welcome, else 503."""
    health: Health = request.app.state.health
    state = health.readiness()
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
    return Response(request.app.state.metrics.exposition(), media_type=CONTENT_TYPE)


_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


def _from_this_machine(request: Request) -> bool:
    """A loopback peer that is no proxy: what a proxy passes on comes from anywhere."""
    try:
        local = request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
    return local and not any(name in request.headers for name in _FORWARDED)
