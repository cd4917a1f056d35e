"""The ways in which a carrier's REST API can fail its customers, as values to hand to a fake.

That nothing listens at all is :meth:`tests.support.carriers.rest.RestServer.down`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["NO_ANSWERS", "Cut", "Endless", "Fails", "Garbage", "Misbehaviour", "NotJson", "Slow", "WrongShape"]


@dataclass(frozen=True, slots=True)
class Slow:
    """The request is read, its answer held back for ``seconds``; None: for as long as somebody waits for it."""

    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Fails:
    """An error status with the carrier's own body for it."""

    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NotJson:
    """A page of a proxy that stands in the way, or JSON that breaks off; ``content_type`` may lie."""

    text: str = "<html><body>Bad gateway, but politely.</body></html>"
    content_type: str = "text/html"
    status: int = 200


@dataclass(frozen=True, slots=True)
class WrongShape:
    """JSON with nothing in its place."""

    body: object = None


@dataclass(frozen=True, slots=True)
class Cut:
    """Half an answer, then the connection closes."""


@dataclass(frozen=True, slots=True)
class Endless:
    """A body that goes on for as long as somebody reads it."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """Something that is not HTTP."""


Misbehaviour = Slow | Fails | NotJson | WrongShape | Cut | Endless | Garbage

NO_ANSWERS: tuple[Misbehaviour, ...] = (
    NotJson(),
    NotJson(content_type="application/json"),
    NotJson('{"data": {"id": "1", "stat', "application/json"),
    NotJson("", "application/json"),
    WrongShape(),
    WrongShape([]),
    WrongShape("all is well"),
    WrongShape({}),
    WrongShape({"data": 5, "sid": 5, "status": {}, "incoming_phone_numbers": 5}),
    WrongShape({"data": [None], "incoming_phone_numbers": [None]}),
    Cut(),
    Endless(),
    Garbage(),
    Fails(302, {"Location": "http://127.0.0.1:1/"}),
)
"""The ways to answer that say nothing."""
