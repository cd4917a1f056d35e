"""The outermost layer: names each request, counts and logs it, and lets no exception out."""

from __future__ import annotations

import logging
from collections.abc import Callable

from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from control.api.failures import response_to
from control.errors import Internal
from edge.counters import Counters

__all__ = ["Gate"]

log = logging.getLogger("truedy.api")


class Gate:
    """ASGI middleware: ``X-Request-Id`` and no caching on every answer, one log line and one count a request.

    An unexpected exception is logged with its traceback under the request's id; the caller gets ``internal``.
    """

    def __init__(
        self, app: ASGIApp, *, entropy: Callable[[int], bytes], now: Callable[[], float], counters: Counters
    ) -> None:
        """``now`` is monotonic [s]; ``entropy`` makes the ids."""
        self._app = app
        self._entropy = entropy
        self._now = now
        self._counters = counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = self._now()
        request_id = f"req_{self._entropy(16).hex()}"
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0

        async def tagged(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                headers["Cache-Control"] = "no-store"
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        try:
            await self._app(scope, receive, tagged)
        except ClientDisconnect:
            status = 499
        except Exception:
            log.exception("request failed", extra={"request_id": request_id})
            if status == 0:
                request = Request(scope, receive)
                await response_to(request, Internal())(scope, receive, tagged)
        finally:
            self._note(scope, status, request_id, self._now() - began)

    def _note(self, scope: Scope, status: int, request_id: str, took_s: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if route != "none" else "any"
        self._counters.add("api_requests", route=route, method=method, status=str(status))
        log.info(
            "%s %s %d",
            method,
            route,
            status,
            extra={"request_id": request_id, "took_ms": round(took_s * 1000, 1)},
        )
