"""SDP's crypto attribute (RFC 4568): the keys of SRTP, in the offer and in the answer.

A key is seen in SDP and nowhere else: no ``repr`` and no reason of a refusal has it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

__all__ = ["KEY_BYTES", "SUITES", "Agreement", "BadCrypto", "Crypto", "answered", "chosen", "parse"]

SUITES: Final = ("AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32")
"""What we speak, the stronger tag first (RFC 4568 §6.2)."""

KEY_BYTES: Final = 30
"""Master key and master salt of both suites (§6.2.1)."""

MAX_ATTRIBUTES: Final = 16
"""Of one stream; more are not looked at."""

_MAX_LIFETIME: Final = 1 << 48
_ATTRIBUTE: Final = re.compile(r"([0-9]{1,9})[ \t]+([A-Za-z0-9_]{1,64})[ \t]+(\S{1,512})((?:[ \t]+\S{1,128}){0,16})")
_LIFETIME: Final = re.compile(r"(2\^)?([1-9][0-9]{0,14})")
_MKI: Final = re.compile(r"[0-9]{1,39}:[0-9]{1,3}")
_WINDOW: Final = re.compile(r"WSH=[0-9]{1,5}", re.IGNORECASE)


class BadCrypto(Exception):
    """One attribute that cannot be used; the text says why, without its key."""


@dataclass(frozen=True, slots=True)
class Crypto:
    """One attribute. ``key``: master key and salt. ``lifetime`` [packets], None where none was told."""

    tag: int
    suite: str
    key: bytes = field(repr=False)
    lifetime: int | None = None

    def __str__(self) -> str:
        """The value of ``a=crypto:``."""
        return f"{self.tag} {self.suite} inline:{base64.b64encode(self.key).decode('ascii')}"


@dataclass(frozen=True, slots=True)
class Agreement:
    """``ours`` protects what we send, ``theirs`` what the peer does; tag and suite are the same (§5.1.2)."""

    ours: Crypto
    theirs: Crypto


def parse(value: str) -> Crypto:
    """The value of an ``a=crypto:`` (§4). Raises :class:`BadCrypto` for what is malformed or asks what we do not do.

    An MKI, several keys, a key derivation rate or less than full protection make an attribute unusable; a hint for
    the replay window does not, nor does an extension marked as optional (§6.3).
    """
    match = _ATTRIBUTE.fullmatch(value)
    if match is None:
        raise BadCrypto("a crypto attribute is not TAG SUITE KEY")
    tag, suite = int(match[1]), match[2].upper()
    if suite not in SUITES:
        raise BadCrypto(f"{suite} is not spoken here")
    for parameter in match[4].split():
        if not (parameter.startswith("-") or _WINDOW.fullmatch(parameter)):
            raise BadCrypto(f"{_name(parameter)} is not supported")
    return Crypto(tag, suite, *_key(match[3]))


def _name(parameter: str) -> str:
    """Of a session parameter: its value may be a key (FEC_KEY)."""
    name = parameter.partition("=")[0]
    return name if re.fullmatch(r"[A-Za-z0-9_]{1,32}", name) else "a session parameter"


def _key(text: str) -> tuple[bytes, int | None]:
    method, colon, value = text.partition(":")
    if method.lower() != "inline" or not colon:
        raise BadCrypto("the key is not inline")
    if ";" in value:
        raise BadCrypto("several keys need an MKI, which is not supported")
    encoded, *rest = value.split("|")
    lifetime: int | None = None
    if rest and not _MKI.fullmatch(rest[0]):
        lifetime = _lifetime(rest.pop(0))
    if rest:
        raise BadCrypto("an MKI is not supported" if _MKI.fullmatch(rest[0]) else "the key's parameters are malformed")
    try:
        key = base64.b64decode(encoded.encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        raise BadCrypto("the key is not base64") from None
    if len(key) != KEY_BYTES:
        raise BadCrypto(f"the key has {len(key)} bytes, not {KEY_BYTES}")
    return key, lifetime


def _lifetime(text: str) -> int:
    """``2^20`` or ``1048576`` (§6.1)."""
    match = _LIFETIME.fullmatch(text)
    number = int(match[2]) if match else 0
    if match and match[1]:
        number = 1 << number if number <= 48 else 0
    if not 0 < number <= _MAX_LIFETIME:
        raise BadCrypto("the key's lifetime is out of range")
    return number


def _usable(values: Iterable[str]) -> tuple[dict[int, Crypto], list[str]]:
    """By tag, in the order given, and why the others are not. A tag that comes twice is the first's (§4.1)."""
    found: dict[int, Crypto] = {}
    problems: list[str] = []
    for number, value in enumerate(values):
        if number == MAX_ATTRIBUTES:
            break
        try:
            crypto = parse(value)
        except BadCrypto as error:
            problems.append(str(error))
        else:
            found.setdefault(crypto.tag, crypto)
    return found, problems


def chosen(values: Iterable[str], keys: Mapping[str, bytes]) -> Agreement:
    """Answer an offer's attributes (§5.1.2): the first we can use, its tag and suite, and our key of that suite.

    Raises :class:`BadCrypto` where there is none.
    """
    usable, problems = _usable(values)
    for theirs in usable.values():
        if theirs.suite in keys:
            return Agreement(Crypto(theirs.tag, theirs.suite, keys[theirs.suite]), theirs)
    raise BadCrypto("; ".join(dict.fromkeys(problems)) or "no crypto attribute is offered")


def answered(offered: Iterable[str], values: Iterable[str]) -> Agreement:
    """What an answer chose of our offer's attributes (§5.1.3). Raises :class:`BadCrypto` unless it is exactly one."""
    ours, _ = _usable(offered)
    values = list(values)
    if len(values) != 1:
        raise BadCrypto(f"the answer has {len(values)} crypto attributes, not one")
    theirs = parse(values[0])
    own = ours.get(theirs.tag)
    if own is None or own.suite != theirs.suite:
        raise BadCrypto("the answer's crypto attribute was not offered")
    return Agreement(own, theirs)
