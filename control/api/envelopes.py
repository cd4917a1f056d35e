"""The shapes around every answer: ``{"data", "meta"}``, lists with ``pagination``, errors with ``error``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel, Field

from control.errors import ERRORS, Code, OperationError
from control.resources.base import Listing
from control.resources.fields import Timestamp

__all__ = ["Answer", "ErrorAnswer", "ListAnswer", "Meta", "Pagination", "RequestMeta", "documented", "error_answer"]

_Data = TypeVar("_Data")


class Meta(BaseModel, defer_build=True):
    """Quote ``request_id`` to support; it is also the header X-Request-Id. ``ts`` is when the request was taken up."""

    request_id: str
    ts: Timestamp


class Pagination(BaseModel, defer_build=True):
    """Where in the list this page is."""

    total: int
    limit: int
    offset: int
    has_more: bool

    @classmethod
    def of(cls, listing: Listing[Any]) -> Pagination:
        """Of a page just read."""
        limit, offset = listing.page.limit, listing.page.offset
        more = offset + len(listing.items) < listing.total
        return cls(total=listing.total, limit=limit, offset=offset, has_more=more and bool(listing.items))


class Answer(BaseModel, Generic[_Data], defer_build=True):
    """One resource."""

    data: _Data
    meta: Meta


class ListAnswer(BaseModel, Generic[_Data], defer_build=True):
    """A page of resources."""

    data: list[_Data]
    pagination: Pagination
    meta: Meta


class ErrorBody(BaseModel, defer_build=True):
    """What went wrong; ``details.resolution`` says what to do about it."""

    code: Code
    message: str
    details: dict[str, Any] = Field(description="The error's own fields, and resolution.")


class ErrorAnswer(BaseModel, defer_build=True):
    """Every error has this shape."""

    error: ErrorBody
    meta: Meta


def meta_of(request: Request) -> Meta:
    """This request's: its id, and when it was taken up."""
    clock = request.app.state.operations.clock
    return Meta(request_id=request.state.request_id, ts=datetime.fromtimestamp(clock(), UTC))


RequestMeta = Annotated[Meta, Depends(meta_of)]


def error_answer(error: OperationError, meta: Meta) -> ErrorAnswer:
    """The error as the API tells it."""
    details = {**error.details, "resolution": error.resolution}
    return ErrorAnswer(error=ErrorBody(code=error.code, message=error.message, details=details), meta=meta)


_ALWAYS = (Code.VALIDATION_ERROR, Code.UNAUTHORIZED, Code.RATE_LIMITED, Code.INTERNAL, Code.REGISTRY_BUSY)
_WITH_BODY = (Code.PAYLOAD_TOO_LARGE, Code.UNSUPPORTED_MEDIA_TYPE, Code.REQUEST_TIMEOUT)
_WRITES = (Code.STORAGE_FULL,)


def documented(*codes: Code, body: bool = False, writes: bool = False) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's ``responses`` for an operation that may end with ``codes``, besides those that any may."""
    possible = [*codes, *_ALWAYS, *(_WITH_BODY if body else ()), *(_WRITES if writes or body else ())]
    responses: dict[int | str, dict[str, Any]] = {}
    for status in sorted({ERRORS[code].status for code in possible}):
        kinds = [kind for code, kind in ERRORS.items() if code in possible and kind.status == status]
        responses[status] = {
            "model": ErrorAnswer,
            "description": "; ".join(f"`{kind.code}`: {kind.message}" for kind in kinds),
        }
    return responses
