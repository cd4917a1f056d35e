"""Digits in INFO requests (RFC 6086's legacy usage): ``application/dtmf-relay`` and ``application/dtmf``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from edge.events import Refusal
from edge.message import Request

__all__ = ["ACCEPT", "RELAY", "Digit", "digit_body", "read_info"]

RELAY: Final = "application/dtmf-relay"
_PLAIN: Final = "application/dtmf"
ACCEPT: Final = f"{RELAY}, {_PLAIN}"

_LONGEST_BODY: Final = 256
_DEFAULT_MS: Final = 250
_MOST_MS: Final = 10_000
_SIGNAL = re.compile(r"^[ \t]*signal[ \t]*=[ \t]*([0-9A-D*#]|1[0-6])[ \t]*$", re.IGNORECASE | re.MULTILINE)
_DURATION = re.compile(r"^[ \t]*duration[ \t]*=[ \t]*([0-9]{1,6})[ \t]*$", re.IGNORECASE | re.MULTILINE)
_BARE = re.compile(r"[0-9A-D*#]|1[0-6]", re.IGNORECASE)
_EVENTS: Final = {"10": "*", "11": "#", "12": "A", "13": "B", "14": "C", "15": "D"}
"""Some gateways give the event code of RFC 4733 where the digit belongs. 16 is a hook flash, and no digit."""


@dataclass(frozen=True, slots=True)
class Digit:
    """``digit`` is one of ``0-9*#A-D``."""

    digit: str
    duration_ms: int


def read_info(request: Request) -> Digit | Refusal | None:
    """The digit of an INFO, how to refuse it, or None: it asks for nothing (a keep-alive, a flash).

    Raises ParseError.
    """
    kind = request.content_type
    if not request.body and (kind is None or kind.value not in (RELAY, _PLAIN)):
        return None
    if kind is None or kind.value not in (RELAY, _PLAIN):
        return Refusal(415, "INFO is taken for digits alone", headers=(("Accept", ACCEPT),))
    if len(request.body) > _LONGEST_BODY:
        return Refusal(400, "INFO body too long")
    text = request.body.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
    return _relayed(text) if kind.value == RELAY or "=" in text else _bare(text.strip())


def _relayed(text: str) -> Digit | Refusal | None:
    signal = _SIGNAL.search(text)
    if signal is None:
        return Refusal(400, "INFO without a digit")
    duration = _DURATION.search(text)
    return _digit(signal[1], int(duration[1]) if duration else _DEFAULT_MS)


def _bare(text: str) -> Digit | Refusal | None:
    return _digit(text, _DEFAULT_MS) if _BARE.fullmatch(text) else Refusal(400, "INFO without a digit")


def _digit(signal: str, duration_ms: int) -> Digit | None:
    signal = _EVENTS.get(signal, signal).upper()
    return None if signal == "16" else Digit(signal, min(duration_ms, _MOST_MS))


def digit_body(digit: str, duration_ms: int) -> bytes:
    """The ``application/dtmf-relay`` of a digit of ours."""
    return f"Signal={digit}\r\nDuration={duration_ms}\r\n".encode("ascii")
