"""How a request reaches its operation: the key first, then the query's names, then the body, then its validation."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine
from typing import Annotated, Any, ClassVar

from fastapi import Depends, Query, Request, Response, params
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import APIRoute

from control.api.body import read_json
from control.api.door import Doorkeeper, Lane, bearer_key, source_of
from control.errors import Problem, ValidationFailed
from control.registry.types import Page
from edge.counters import printable

__all__ = ["PREFIX", "GuardedRoute", "HangUpRoute", "Paging", "refuse_unknown_parameters"]

PREFIX = "/api/public/v1"
_MOST_NAMED = 20
_NAME_SHOWN = 80


class GuardedRoute(APIRoute):
    """Nothing of a request is read before its key is known to be good."""

    lane: ClassVar[Lane] = Lane.REQUEST

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, behind the door."""
        handle = super().get_route_handler()
        takes_body = self.body_field is not None
        known = sorted(
            each.alias for each in get_flat_params(self.dependant) if isinstance(each.field_info, params.Query)
        )

        async def guarded(request: Request) -> Response:
            door: Doorkeeper = request.app.state.door
            request.state.principal = await door.admit(bearer_key(request), source_of(request), self.lane)
            refuse_unknown_parameters(request, known)
            if takes_body:
                request = await read_json(request, request.app.state.operations.settings.limits.api_body_bytes)
            return await handle(request)

        return guarded


def refuse_unknown_parameters(request: Request, known: Collection[str] = ()) -> None:
    """A filter that is ignored answers another question than was asked. Raises :class:`ValidationFailed`."""
    unknown = [name for name in request.query_params if name not in known]
    if unknown:
        takes = f"here are known: {', '.join(known)}" if known else "this path takes none"
        problems = [Problem(printable(name, _NAME_SHOWN), f"unknown parameter; {takes}") for name in unknown]
        raise ValidationFailed(problems[:_MOST_NAMED])


class HangUpRoute(GuardedRoute):
    """Counts as a hang-up."""

    lane: ClassVar[Lane] = Lane.HANG_UP


def _page(
    limit: Annotated[int, Query(ge=1, le=100, description="How many to return.")] = 50,
    offset: Annotated[int, Query(ge=0, le=2**31 - 1, description="How many to skip.")] = 0,
) -> Page:
    return Page(limit, offset)


Paging = Annotated[Page, Depends(_page)]
