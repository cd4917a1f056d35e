"""Phone numbers: what people type and what carriers dial, as one canonical E.164 string.

The test is *possible* (a known country code, a length its plan allows, 15 digits at most), not *valid*: number plans
change faster than any metadata, and laboratories live on numbers such as +15551230001 that no plan assigns.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache
from typing import Final

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumberFormat, ValidationResult

__all__ = ["NumberError", "Why", "canonical", "canonical_dialed"]


class Why(StrEnum):
    """Why a text is no phone number."""

    EMPTY = "empty"
    CHARACTERS = "characters"
    NOT_INTERNATIONAL = "not_international"
    UNKNOWN_COUNTRY = "unknown_country"
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    IMPOSSIBLE = "impossible"


_WORDS: Final = {
    Why.EMPTY: "is empty",
    Why.CHARACTERS: "has characters that are neither digits nor separators (space - . parentheses)",
    Why.NOT_INTERNATIONAL: "does not begin with + and the country code (E.164, such as +14155550100)",
    Why.UNKNOWN_COUNTRY: "does not begin with a country code that is in use",
    Why.TOO_SHORT: "is too short for its country code",
    Why.TOO_LONG: "is too long for its country code, or for E.164 (15 digits)",
    Why.IMPOSSIBLE: "has a length that its country code does not use",
}

_LONGEST_TEXT: Final = 64
_LONGEST_DIALED: Final = 256
_MAX_DIGITS: Final = 15
_WRITTEN: Final = re.compile(r"\+?[0-9 .()\-]*", re.ASCII)
_SEPARATORS: Final = str.maketrans("", "", " .()-")

_PARSE_FAILURES: Final = {
    NumberParseException.INVALID_COUNTRY_CODE: Why.UNKNOWN_COUNTRY,
    NumberParseException.NOT_A_NUMBER: Why.TOO_SHORT,
    NumberParseException.TOO_SHORT_AFTER_IDD: Why.TOO_SHORT,
    NumberParseException.TOO_SHORT_NSN: Why.TOO_SHORT,
    NumberParseException.TOO_LONG: Why.TOO_LONG,
}
_IMPOSSIBLE: Final = {
    ValidationResult.INVALID_COUNTRY_CODE: Why.UNKNOWN_COUNTRY,
    ValidationResult.TOO_SHORT: Why.TOO_SHORT,
    ValidationResult.IS_POSSIBLE_LOCAL_ONLY: Why.TOO_SHORT,
    ValidationResult.TOO_LONG: Why.TOO_LONG,
    ValidationResult.INVALID_LENGTH: Why.IMPOSSIBLE,
}


class NumberError(ValueError):
    """Not a phone number; ``why`` is the reason, the message a clause without a subject."""

    def __init__(self, why: Why) -> None:
        super().__init__(_WORDS[why])
        self.why = why


def canonical(text: str, default_region: str | None = None) -> str:
    """``+1 (415) 555-0100`` → ``+14155550100`` (E.164). Raises :class:`NumberError`.

    Without ``default_region`` (a two-letter country code) the text has to begin with ``+``.
    """
    text = text.strip(" ")
    if not text:
        raise NumberError(Why.EMPTY)
    if len(text) > _LONGEST_TEXT:
        raise NumberError(Why.TOO_LONG)
    if _WRITTEN.fullmatch(text) is None:
        raise NumberError(Why.CHARACTERS)
    if text[0] != "+" and default_region is None:
        raise NumberError(Why.NOT_INTERNATIONAL)
    try:
        number = phonenumbers.parse(text, default_region)
    except NumberParseException as error:
        raise NumberError(_PARSE_FAILURES[error.error_type]) from error
    possible = phonenumbers.is_possible_number_with_reason(number)
    if possible != ValidationResult.IS_POSSIBLE:
        raise NumberError(_IMPOSSIBLE.get(possible, Why.IMPOSSIBLE))
    e164 = phonenumbers.format_number(number, PhoneNumberFormat.E164)
    if len(e164) > _MAX_DIGITS + 1:
        raise NumberError(Why.TOO_LONG)
    # A national prefix is dropped once a parse, so +49 00… still has one after the first: go on until it is stable.
    return e164 if e164 == text else canonical(e164)


def canonical_dialed(text: str) -> str:
    """A number as a carrier writes it in SIP, as E.164. Raises :class:`NumberError`.

    Takes the user part of a URI or a ``tel:`` URI (RFC 3966), parameters included: ``+14155550100``,
    ``14155550100`` (both carriers' plus-less form), ``0014155550100``, ``4155550100;phone-context=+1``, each with
    visual separators. A text seen before costs a look-up: this runs on every call.
    """
    if len(text) > _LONGEST_DIALED:
        raise NumberError(Why.TOO_LONG)
    return _dialed(text)


@lru_cache(maxsize=4096)
def _dialed(text: str) -> str:
    subscriber, *parameters = text.split(";")
    if subscriber[:4].lower() == "tel:":
        subscriber = subscriber[4:]
    digits = subscriber.translate(_SEPARATORS)
    if not digits:
        raise NumberError(Why.EMPTY)
    if digits[0] == "+":
        return canonical(digits)
    if context := _phone_context(parameters):
        return canonical(context + digits)
    return canonical("+" + digits.removeprefix("00"))


def _phone_context(parameters: list[str]) -> str | None:
    """The global prefix of a local number (RFC 3966 §5.1.5); a domain as context names none."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.lower() == "phone-context" and value.startswith("+"):
            return value.translate(_SEPARATORS)
    return None
