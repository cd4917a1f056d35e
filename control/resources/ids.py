"""Ids as they are spelled: as a UUID, and in Twilio's shape."""

from __future__ import annotations

from typing import Final
from uuid import UUID

__all__ = [
    "account_sid",
    "call_sid",
    "id_of",
]


_SID_LENGTH: Final = 34


def account_sid(account_id: str) -> str:
    """The account's id in Twilio's shape: ``AC`` and 32 hexadecimal digits."""
    return "AC" + UUID(account_id).hex


def call_sid(call_id: str) -> str:
    """The call's id in Twilio's shape: ``CA`` and 32 hexadecimal digits."""
    return "CA" + UUID(call_id).hex


def id_of(text: str, prefix: str | None = None) -> str | None:
    """The canonical id that ``text`` spells, as a UUID or, with ``prefix``, in Twilio's shape; None: neither."""
    if prefix and len(text) == _SID_LENGTH and text.startswith(prefix):
        digits = text.removeprefix(prefix)
        return str(UUID(digits)) if digits.isalnum() and _is_hexadecimal(digits) else None
    if len(text) == 36 and _is_hexadecimal(text.replace("-", "")):
        try:
            spelled = str(UUID(text))
        except ValueError:
            return None
        return spelled if spelled == text.lower() else None
    return None


def _is_hexadecimal(text: str) -> bool:
    return bool(text) and set(text) <= set("0123456789abcdefABCDEF")
