"""The kinds of text, number and time that fields hold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from control.resources.fields import AccountSid, Credential, Name, Parameters, PhoneNumber, SipPassword, timestamp


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2026, 1, 31, 12, tzinfo=UTC), "2026-01-31T12:00:00.000Z"),
        (datetime(2026, 1, 31, 12, 0, 0, 999_999, UTC), "2026-01-31T12:00:00.999Z"),
        (datetime(2026, 1, 31, 12, tzinfo=timezone(timedelta(hours=2))), "2026-01-31T10:00:00.000Z"),
    ],
)
def test_times_are_utc_in_milliseconds(moment: datetime, text: str) -> None:
    """RFC 3339, always as long."""
    assert timestamp(moment) == text


@pytest.mark.parametrize(
    ("kind", "text", "problem"),
    [
        (Name, "", "at least 1 character"),
        (Name, "two\nlines", "control character"),
        (Name, "turned \u202e round", "control character"),
        (PhoneNumber, "4155550100", "E.164"),
        (AccountSid, "SK" + "0" * 32, "SID of an API key"),
        (AccountSid, "AC" + "0" * 31, "not AC and 32"),
        (Credential, "with space", "no credential has"),
        (Credential, "copied with the line's end\n", "line ends"),
        (Credential, "", "is empty"),
        (Credential, "x" * 257, "at most 256"),
        (SipPassword, "x" * 129, "at most 128"),
        (Parameters, {str(number): "" for number in range(51)}, "at most 50"),
        (Parameters, {"": ""}, "at least 1 character"),
    ],
)
def test_what_a_field_refuses_it_names(kind: Any, text: object, problem: str) -> None:
    """In words for whoever typed it."""
    with pytest.raises(ValidationError, match=problem):
        TypeAdapter(kind).validate_python(text)
