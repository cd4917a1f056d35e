"""Reason values (RFC 3326): why a request or a refusal was sent, in SIP's words and in the telephone network's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from edge.headers import parse_parameters, printable, quote, split_list
from edge.uri import ParseError

__all__ = ["Q850_OF_STATUS", "Reason", "format_reason", "of_bye", "of_status", "parse_reasons"]

_MAX_REASONS: Final = 8
_MAX_TEXT: Final = 256

NORMAL_CLEARING: Final = 16
TIMER_EXPIRY: Final = 102
_INTERWORKING: Final = 127

Q850_OF_STATUS: Final[Mapping[int, int]] = {
    400: 41,
    401: 21,
    402: 21,
    403: 21,
    404: 1,
    405: 63,
    406: 79,
    407: 21,
    408: TIMER_EXPIRY,
    410: 22,
    415: 79,
    480: 18,
    481: 41,
    482: 25,
    483: 25,
    484: 28,
    485: 1,
    486: 17,
    487: NORMAL_CLEARING,
    488: 88,
    500: 41,
    501: 79,
    502: 38,
    503: 41,
    504: TIMER_EXPIRY,
    600: 17,
    603: 21,
    604: 1,
    606: 88,
}
"""A final response's status as a cause of Q.850 (RFC 3398 §8.2.6.1); any other is 127, interworking."""


@dataclass(frozen=True, slots=True)
class Reason:
    """``protocol`` in capitals (``SIP``, ``Q.850``); ``cause`` None where none was given; ``text`` is printable."""

    protocol: str
    cause: int | None = None
    text: str = ""


def parse_reasons(values: Iterable[str]) -> tuple[Reason, ...]:
    """The reasons of these header lines, in order; what does not parse is passed over, as it decides nothing."""
    found: list[Reason] = []
    for line in values:
        try:
            found += [_parse(value) for value in split_list(line, _MAX_REASONS)]
        except ParseError:
            continue
    return tuple(found[:_MAX_REASONS])


def _parse(value: str) -> Reason:
    protocol, semicolon, tail = value.partition(";")
    parameters = dict(parse_parameters(tail)) if semicolon else {}
    cause = parameters.get("cause") or ""
    known = cause.isascii() and cause.isdecimal() and len(cause) <= 3
    text = printable(parameters.get("text") or "")[:_MAX_TEXT]
    return Reason(printable(protocol.strip().upper())[:32], int(cause) if known else None, text)


def format_reason(protocol: str, cause: int, text: str = "") -> str:
    """One value of the header."""
    return f"{protocol};cause={cause}" + (f";text={quote(printable(text))}" if text else "")


@lru_cache(256)
def of_status(status: int, text: str) -> tuple[str, str]:
    """What a refusal of ours says, in both protocols."""
    return format_reason("SIP", status, text), format_reason("Q.850", Q850_OF_STATUS.get(status, _INTERWORKING))


def of_bye(text: str | None, *, expired: bool = False) -> tuple[str, ...]:
    """What a BYE of ours says: normal clearing in words, or that the session was not refreshed (RFC 4028 §10)."""
    if expired:
        words = text or "session timer expired"
        return format_reason("SIP", 408, words), format_reason("Q.850", TIMER_EXPIRY, words)
    return () if text is None else (format_reason("Q.850", NORMAL_CLEARING, text),)
