"""The shapes around every answer."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from control.api.envelopes import Meta, Pagination, documented, error_answer
from control.errors import Code, NumberAlreadyImported
from control.registry.types import Page
from control.resources.base import Listing


@pytest.mark.parametrize(
    ("count", "total", "offset", "more"),
    [(0, 0, 0, False), (2, 2, 0, False), (2, 3, 0, True), (1, 3, 2, False), (0, 3, 5, False)],
)
def test_a_page_knows_whether_more_follow(count: int, total: int, offset: int, more: bool) -> None:
    """An empty page never promises more: a client that follows it would never end."""
    pagination = Pagination.of(Listing(["x"] * count, total, Page(limit=2, offset=offset)))
    assert pagination.model_dump() == {"total": total, "limit": 2, "offset": offset, "has_more": more}


def test_an_error_carries_its_fields_and_what_to_do() -> None:
    """In one shape."""
    meta = Meta(request_id="req_1", ts=datetime(2026, 1, 31, 12, tzinfo=UTC))
    assert error_answer(NumberAlreadyImported("+14155550100"), meta).model_dump(mode="json") == {
        "error": {
            "code": "number_already_imported",
            "message": "The number is already registered to your account (or another Truedy account)",
            "details": {
                "phone_number": "+14155550100",
                "resolution": "Check your existing numbers list; contact support if you believe it's an error",
            },
        },
        "meta": {"request_id": "req_1", "ts": "2026-01-31T12:00:00.000Z"},
    }


def test_documented_errors_are_grouped_by_status() -> None:
    """One response a status, naming every code that has it."""
    responses = documented(Code.NUMBER_ALREADY_IMPORTED, Code.CONFLICT, body=True)
    assert set(responses) == {401, 408, 409, 413, 415, 422, 429, 500, 503, 507}
    assert "`number_already_imported`" in responses[409]["description"]
    assert "`conflict`" in responses[409]["description"]
