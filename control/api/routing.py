"""How a request reaches its operation: the key first, then the body, then its validation."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any, ClassVar

from fastapi import Depends, Query, Request, Response
from fastapi.routing import APIRoute

from control.api.body import read_json
from control.api.door import Doorkeeper, Lane, bearer_key, source_of
from control.registry.types import Page

__all__ = ["PREFIX", "GuardedRoute", "HangUpRoute", "Paging"]

PREFIX = "/api/public/v1"


class GuardedRoute(APIRoute):
    """Nothing of a request is read before its key is known to be good."""

    lane: ClassVar[Lane] = Lane.REQUEST

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, behind the door."""
        handle = super().get_route_handler()
        takes_body = self.body_field is not None

        async def guarded(request: Request) -> Response:
            door: Doorkeeper = request.app.state.door
            request.state.principal = await door.admit(bearer_key(request), source_of(request), self.lane)
            if takes_body:
                request = await read_json(request, request.app.state.operations.settings.limits.api_body_bytes)
            return await handle(request)

        return guarded


class HangUpRoute(GuardedRoute):
    """Counts as a hang-up."""

    lane: ClassVar[Lane] = Lane.HANG_UP


def _page(
    limit: Annotated[int, Query(ge=1, le=100, description="How many to return.")] = 50,
    offset: Annotated[int, Query(ge=0, le=2**31 - 1, description="How many to skip.")] = 0,
) -> Page:
    return Page(limit, offset)


Paging = Annotated[Page, Depends(_page)]
