"""The few TwiML verbs that a live call takes through Twilio's REST path, read into values.

``<Dial>`` (a number as text or ``<Number>``, or ``<Sip>``), ``<Hangup>``, ``<Pause length>`` and ``<Play digits>``, in
any order. Anything else is refused by name: an agent that needs it would otherwise wait for what never happens.
https://www.twilio.com/docs/voice/twiml
"""

from __future__ import annotations

import re
from typing import Final
from xml.etree import ElementTree

import msgspec

from control.numbers import NumberError, canonical

__all__ = ["Dial", "Digits", "HangUp", "Instruction", "InstructionsError", "Pause", "read"]

MAX_BYTES: Final = 4000
"""Twilio's own limit for TwiML in a request."""

MAX_PAUSE_S: Final = 60
MAX_VERBS: Final = 20
_DIGITS: Final = re.compile(r"[0-9*#A-DW]{1,100}", re.ASCII | re.IGNORECASE)
_SIP: Final = re.compile(r"sips?:[!-~]{1,250}", re.ASCII)


class InstructionsError(Exception):
    """Not TwiML, or TwiML that is not taken here; the text says which part."""


class Dial(msgspec.Struct, frozen=True, tag=True):
    """Transfer the caller to ``target``: E.164, or a SIP URI."""

    target: str


class HangUp(msgspec.Struct, frozen=True, tag=True):
    """End the call."""


class Pause(msgspec.Struct, frozen=True, tag=True):
    """Wait [s]."""

    seconds: float


class Digits(msgspec.Struct, frozen=True, tag=True):
    """Press these; each ``w`` pauses half a second."""

    digits: str


Instruction = Dial | HangUp | Pause | Digits


def read(text: str) -> tuple[Instruction, ...]:
    """The verbs in order. Raises :class:`InstructionsError`."""
    if len(text.encode()) > MAX_BYTES:
        raise InstructionsError(f"more than {MAX_BYTES} bytes")
    if "<!" in text:
        raise InstructionsError("a document type or comment is not taken")
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 - no document type, so no entities, and bounded
    except (ElementTree.ParseError, ValueError) as error:
        raise InstructionsError("is no XML") from error
    if root.tag != "Response":
        raise InstructionsError("begins with no <Response>")
    if len(root) > MAX_VERBS:
        raise InstructionsError(f"more than {MAX_VERBS} verbs")
    if not len(root):
        raise InstructionsError("has no verb")
    return tuple(_verb(element) for element in root)


def _verb(element: ElementTree.Element) -> Instruction:
    match element.tag:
        case "Dial":
            return Dial(_target(element))
        case "Hangup":
            return HangUp()
        case "Pause":
            return Pause(_seconds(element.get("length", "1")))
        case "Play":
            return Digits(_digits(element))
        case tag:
            raise InstructionsError(f"<{_printable(tag)}> is not taken: Dial, Hangup, Pause and Play digits are")


def _target(element: ElementTree.Element) -> str:
    nouns = list(element)
    if len(nouns) > 1:
        raise InstructionsError("<Dial> with several nouns is not taken")
    if nouns and nouns[0].tag not in ("Number", "Sip"):
        raise InstructionsError(f"<{_printable(nouns[0].tag)}> in <Dial> is not taken: Number and Sip are")
    text = ((nouns[0] if nouns else element).text or "").strip()
    if nouns and nouns[0].tag == "Sip":
        if _SIP.fullmatch(text) is None or "?" in text:
            raise InstructionsError("<Sip> has no SIP URI without headers")
        return text
    try:
        return canonical(text)
    except NumberError as error:
        raise InstructionsError(f"<Dial> has no number: {error}") from error


def _seconds(text: str) -> float:
    if not text.isascii() or not text.isdecimal() or not 0 < int(text[:4]) <= MAX_PAUSE_S:
        raise InstructionsError(f"<Pause length> is a whole number from 1 to {MAX_PAUSE_S}")
    return float(text)


def _digits(element: ElementTree.Element) -> str:
    digits = element.get("digits")
    if digits is None:
        raise InstructionsError("<Play> takes digits here, no URL: play recordings through the control API")
    if _DIGITS.fullmatch(digits) is None:
        raise InstructionsError("<Play digits> has other characters than 0-9, *, #, A-D and w, or more than 100")
    return digits.replace("W", "ww")  # Twilio's W is a whole second


def _printable(text: object) -> str:
    return "".join(each for each in str(text)[:40] if each.isprintable())
