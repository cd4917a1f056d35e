"""The kinds of text, number and time that fields of several subjects hold."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import AfterValidator, Field, PlainSerializer, SecretStr, StringConstraints, WithJsonSchema

from control.numbers import canonical

__all__ = [
    "AccountSid",
    "Credential",
    "Name",
    "ParameterName",
    "ParameterValue",
    "Parameters",
    "PhoneNumber",
    "RecordingName",
    "Seconds",
    "SipHeaderName",
    "SipHeaderValue",
    "SipHeaders",
    "SipPassword",
    "Timestamp",
    "moment",
    "moment_if_any",
    "one_line",
    "timestamp",
]


_BIDI_CONTROLS: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")
_ACCOUNT_SID: Final = re.compile(r"AC[0-9A-Za-z]{32}")
_UNPRINTABLE: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})


def one_line(text: str) -> str:
    """Refuse what would break a log's line, or be shown otherwise than it is."""
    for character in text:
        if unicodedata.category(character) in _UNPRINTABLE or character in _BIDI_CONTROLS:
            raise ValueError("has a control character")
    return text


def _phone_number(text: str) -> str:
    canonical(text)
    return text


def _account_sid(text: str) -> str:
    if text.startswith("SK"):
        raise ValueError(
            "is the SID of an API key, and its secret cannot verify the signatures of Twilio's webhooks:"
            " give the Account SID (AC…) and its Auth Token"
        )
    if _ACCOUNT_SID.fullmatch(text) is None:
        raise ValueError("is not AC and 32 letters and digits")
    return text


def _credential(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text:
        raise ValueError("is empty")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("has spaces, line ends or other characters that no credential has")
    return value


Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=100, strip_whitespace=True),
    AfterValidator(one_line),
    Field(description="One line of text, without control characters."),
]
PhoneNumber = Annotated[
    str,
    StringConstraints(min_length=1, max_length=64),
    AfterValidator(_phone_number),
    Field(
        description="E.164, with +; separators are dropped.",
        examples=["+14155550100"],
        json_schema_extra={"pattern": r"^\+[0-9 .()\-]+$"},
    ),
]
AccountSid = Annotated[
    str,
    AfterValidator(_account_sid),
    Field(
        description="Your Twilio Account SID.",
        examples=["AC" + "0" * 32],
        json_schema_extra={"pattern": "^AC[0-9A-Za-z]{32}$"},
    ),
]
_Printable = Annotated[SecretStr, AfterValidator(_credential), Field(json_schema_extra={"pattern": "^[!-~]+$"})]
Credential = Annotated[_Printable, Field(min_length=1, max_length=256)]
SipPassword = Annotated[_Printable, Field(min_length=1, max_length=128)]
ParameterName = Annotated[str, StringConstraints(min_length=1, max_length=100), AfterValidator(one_line)]
ParameterValue = Annotated[str, StringConstraints(max_length=2000)]
Parameters = Annotated[dict[ParameterName, ParameterValue], Field(max_length=50)]
SipHeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,63}$")]
SipHeaderValue = Annotated[str, StringConstraints(max_length=256, pattern=r"^[ -~]*$")]
SipHeaders = Annotated[dict[SipHeaderName, SipHeaderValue], Field(max_length=16)]
RecordingName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"),
    Field(description="A recording's name: one of the edge's own, or of `agents.recordings_path`."),
]


def timestamp(moment: datetime) -> str:
    """``2026-01-31T12:00:00.000Z`` (RFC 3339)."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


Timestamp = Annotated[
    datetime,
    PlainSerializer(timestamp, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-01-31T12:00:00.000Z"]}),
]


def moment(seconds: float) -> datetime:
    """A row's time, in seconds since the epoch."""
    return datetime.fromtimestamp(seconds, UTC)


def moment_if_any(seconds: float | None) -> datetime | None:
    """A row's time that may not have come."""
    return None if seconds is None else moment(seconds)


def _milliseconds(seconds: float) -> float:
    return round(seconds, 3)


Seconds = Annotated[float, AfterValidator(_milliseconds)]
"""A span, shown to the millisecond."""
