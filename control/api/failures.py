"""Errors on their way out: every exception becomes one shape, or Twilio's on Twilio's path."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from control.api.envelopes import error_answer, meta_of
from control.errors import (
    Code,
    Internal,
    MethodNotAllowed,
    OperationError,
    ResourceNotFound,
    ValidationFailed,
    from_validation,
)

__all__ = ["TWILIO_PREFIX", "handle_failures", "response_to"]

log = logging.getLogger("truedy.api")

TWILIO_PREFIX: Final = "/2010-04-01/"

_TWILIO_CODES: Final = {
    Code.UNAUTHORIZED: 20003,
    Code.FORBIDDEN: 20003,
    Code.METHOD_NOT_ALLOWED: 20004,
    Code.NOT_FOUND: 20404,
    Code.RATE_LIMITED: 20429,
    Code.CALL_NOT_LIVE: 21220,
    Code.CALL_NOT_READY: 21220,
    Code.INTERNAL: 20500,
    Code.REGISTRY_BUSY: 20503,
}
_TWILIO_BAD_REQUEST: Final = 20001


def response_to(request: Request, error: OperationError) -> Response:
    """The error as this path's callers expect it."""
    twilio = request.url.path.startswith(TWILIO_PREFIX)
    body = _twilio(error) if twilio else error_answer(error, meta_of(request)).model_dump(mode="json")
    headers: dict[str, str] = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if error.code is Code.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Basic realm="Truedy edge"' if twilio else "Bearer"
    return JSONResponse(body, body["status"] if twilio else error.status, headers)


def _twilio(error: OperationError) -> dict[str, Any]:
    code = _TWILIO_CODES.get(error.code, _TWILIO_BAD_REQUEST)
    return {
        "code": code,
        "message": _told(error),
        "more_info": f"https://www.twilio.com/docs/errors/{code}",
        "status": 400 if error.code in _TWILIO_400 else error.status,
    }


_TWILIO_400: Final = frozenset((Code.VALIDATION_ERROR, Code.CALL_NOT_LIVE, Code.CALL_NOT_READY))


def _told(error: OperationError) -> str:
    """Twilio's shape has one text: what is wrong with which field goes into it."""
    if isinstance(error, ValidationFailed):
        return "; ".join(f"{each.field}: {each.problem}" for each in error.problems)
    return error.message


def handle_failures(app: FastAPI) -> None:
    """Give ``app`` its handlers; what none of them knows is the outermost layer's."""

    @app.exception_handler(OperationError)
    async def operation_error(request: Request, error: OperationError) -> Response:
        if isinstance(error, Internal):
            log.error("operation failed", exc_info=error, extra={"request_id": request.state.request_id})
        return response_to(request, error)

    @app.exception_handler(RequestValidationError)
    async def validation_error(request: Request, error: RequestValidationError) -> Response:
        return response_to(request, from_validation(error.errors()))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        if error.status_code == 405:
            response = response_to(request, MethodNotAllowed())
            response.headers["Allow"] = ", ".join(_methods(app, request.url.path))
            return response
        if error.status_code == 404:
            return response_to(request, ResourceNotFound("path"))
        if error.status_code < 500:
            return response_to(request, ValidationFailed.of("body", "cannot be read"))
        return response_to(request, Internal())


def _methods(app: FastAPI, path: str) -> Sequence[str]:
    """What the path takes; the router itself names the methods of the first route that matches."""
    wanted = path.split("/")
    found: set[str] = set()
    for template, operations in app.openapi()["paths"].items():
        if _matches(template.split("/"), wanted):
            found |= {method.upper() for method in operations}
    return sorted(found) or ["GET"]


def _matches(template: Sequence[str], path: Sequence[str]) -> bool:
    pairs = zip(template, path, strict=False)
    return len(template) == len(path) and all(part == given or part.startswith("{") for part, given in pairs)
