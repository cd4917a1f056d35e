"""SIP, SIPS and tel URIs (RFC 3261 §19.1, RFC 3966): text to frozen values and back.

Other schemes are carried whole in ``opaque``; whether one is acceptable is the caller's question
(416 for a Request-URI, see :attr:`edge.message.Request.request_uri`).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final

from edge.events import TransportName

__all__ = ["MAX_PARAMETERS", "ParseError", "SipUri", "format_host", "parse_host", "parse_host_port"]

MAX_PARAMETERS: Final = 64
"""Parameters in one URI or one header value; more is an attack, not a phone."""

MAX_URI_LENGTH: Final = 8192
MAX_HOST_LENGTH: Final = 255

_REMEMBERED: Final = 1024
_LONGEST_REMEMBERED: Final = 256
"""The numbers, the peers and we ourselves come in every message of a call, and in the next call's: such texts are read
once. So many are kept, of so many characters at most."""

Parameters = tuple[tuple[str, str | None], ...]


class ParseError(Exception):
    """Remote input that breaks the grammar or a limit: the only exception the parsers raise.

    ``status`` is what a UAS would answer to such a request: 400, 413, 416, 505.
    ``reason`` names the fault, and quotes no remote text, so it may be logged and sent as it is.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.status} {self.reason}"


_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*").fullmatch
_HOST_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_\-.]*[A-Za-z0-9_.])?").fullmatch  # "_" is seen in the wild
_TELEPHONE = re.compile(r"\+?[0-9A-Fa-f*#\-.()]+").fullmatch
_NOT_IN_USER = re.compile(r"[^A-Za-z0-9\-_.!~*'()&=+$,;?/%#]").search  # "#" is forbidden, and dialled all the same
_NOT_IN_PASSWORD = re.compile(r"[^A-Za-z0-9\-_.!~*'()&=+$,;?/:%]").search
_NOT_IN_PARAMETER = re.compile(r"[^A-Za-z0-9\-_.!~*'()\[\]/:&+$%@,]").search
_NOT_IN_HEADER = re.compile(r"[^A-Za-z0-9\-_.!~*'()\[\]/?:+$%@,;=]").search
_OPAQUE = re.compile(r"[!#-;=?-~]+").fullmatch  # printable ASCII but space " < >
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})").search
_ESCAPED = re.compile(rb"%([0-9A-Fa-f]{2})")

_UNRESERVED: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.!~*'()"
_USER_SAFE: Final = frozenset((_UNRESERVED + "&=+$,;?/").encode())
_PASSWORD_SAFE: Final = frozenset((_UNRESERVED + "&=+$,").encode())
_PARAMETER_SAFE: Final = frozenset((_UNRESERVED + "[]/:&+$").encode())
_HEADER_SAFE: Final = frozenset((_UNRESERVED + "[]/?:+$").encode())


def _unescape(text: str) -> str:
    """``%``-escapes to text. Bytes that are no UTF-8 survive as lone surrogates and escape back."""
    if "%" not in text:
        return text
    if _BAD_ESCAPE(text):
        raise ParseError(400, "bad escape in URI")
    raw = _ESCAPED.sub(lambda match: bytes.fromhex(match[1].decode()), text.encode())
    return raw.decode("utf-8", "surrogateescape")


def _escape(text: str, safe: frozenset[int]) -> str:
    raw = text.encode("utf-8", "surrogateescape")
    if safe.issuperset(raw):
        return text
    return "".join(chr(octet) if octet in safe else f"%{octet:02X}" for octet in raw)


def parse_host(text: str) -> str:
    """A host name, IPv4 address or ``[IPv6]`` reference, in its one canonical spelling, without brackets."""
    if text.startswith("["):
        return _parse_ipv6(text)
    if len(text) > MAX_HOST_LENGTH or not _HOST_NAME(text):
        raise ParseError(400, "bad host")
    return text.lower()


def _parse_ipv6(text: str) -> str:
    inner = text[1:-1].replace(":::", "::")  # an old bug of the ABNF produces three (RFC 5118 §4.10)
    if not text.endswith("]") or "%" in inner or len(inner) > 45:
        raise ParseError(400, "bad IPv6 reference")
    try:
        return str(ipaddress.IPv6Address(inner))
    except ValueError:
        raise ParseError(400, "bad IPv6 reference") from None


def _parse_port(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 5 or not 0 < int(text) < 65536:
        raise ParseError(400, "bad port")
    return int(text)


def parse_host_port(text: str) -> tuple[str, int | None]:
    """``host[:port]`` (RFC 3261 §25.1 hostport), LWS around the colon allowed as in a Via."""
    return _known_host_port(text) if len(text) <= _LONGEST_REMEMBERED else _parse_host_port(text)


def _parse_host_port(text: str) -> tuple[str, int | None]:
    if text.startswith("["):
        host, bracket, rest = text.partition("]")
        host, rest = host + bracket, rest.strip(" \t")
        if rest and not rest.startswith(":"):
            raise ParseError(400, "bad host")
        return parse_host(host), _parse_port(rest[1:].strip(" \t")) if rest else None
    host, colon, port = text.partition(":")
    return parse_host(host.rstrip(" \t")), _parse_port(port.strip(" \t")) if colon else None


_known_host_port = lru_cache(_REMEMBERED)(_parse_host_port)


def format_host(host: str) -> str:
    """Brackets around an IPv6 address, anything else as it is."""
    return f"[{host}]" if ":" in host else host


@dataclass(frozen=True, slots=True)
class SipUri:
    """A URI. Escapes are undone in every field and put back by ``str()``.

    ``scheme`` is lower case; ``host`` lower case, IPv6 without brackets. A flag parameter's value is
    None. For ``tel``, ``user`` is the number and ``host`` is empty. For schemes other than sip, sips
    and tel everything after the colon is ``opaque``. ``password`` stays out of ``repr``.
    """

    scheme: str
    user: str | None
    host: str
    port: int | None = None
    parameters: Parameters = ()
    headers: tuple[tuple[str, str], ...] = ()
    password: str | None = field(default=None, repr=False)
    opaque: str = ""

    @classmethod
    def parse(cls, text: str) -> SipUri:
        """Parse without surrounding ``<>``. Raises :class:`ParseError` (400)."""
        return _known_uri(text) if len(text) <= _LONGEST_REMEMBERED else cls._parse(text)

    @classmethod
    def _parse(cls, text: str) -> SipUri:
        if len(text) > MAX_URI_LENGTH:
            raise ParseError(413, "URI too long")
        scheme, colon, rest = text.partition(":")
        scheme = scheme.lower()
        if scheme in ("sip", "sips"):
            return cls._parse_sip(scheme, rest)
        if not colon or not _SCHEME(scheme):
            raise ParseError(400, "bad URI")
        if scheme == "tel":
            return cls._parse_telephone(rest)
        if not _OPAQUE(rest):
            raise ParseError(400, "bad URI")
        return cls(scheme, None, "", opaque=rest)

    @classmethod
    def _parse_sip(cls, scheme: str, rest: str) -> SipUri:
        user: str | None = None
        password: str | None = None
        if "@" in rest:
            userinfo, _, rest = rest.partition("@")
            user, password = _parse_userinfo(userinfo)
        rest, question, header_text = rest.partition("?")
        host_port, semicolon, parameter_text = rest.partition(";")
        if " " in host_port or "\t" in host_port:  # allowed in a Via only
            raise ParseError(400, "space in URI")
        host, port = parse_host_port(host_port)
        parameters = _parse_parameters(parameter_text) if semicolon else ()
        headers = _parse_headers(header_text) if question else ()
        return cls(scheme, user, host, port, parameters, headers, password)

    @classmethod
    def _parse_telephone(cls, rest: str) -> SipUri:
        number, semicolon, parameter_text = rest.partition(";")
        if not _TELEPHONE(number):
            raise ParseError(400, "bad telephone number")
        return cls("tel", number, "", parameters=_parse_parameters(parameter_text) if semicolon else ())

    def __str__(self) -> str:
        if self.scheme == "tel":
            return f"tel:{self.user}{self._parameter_text()}"
        if self.opaque:
            return f"{self.scheme}:{self.opaque}"
        user = ""
        if self.user is not None:
            password = "" if self.password is None else f":{_escape(self.password, _PASSWORD_SAFE)}"
            user = f"{_escape(self.user, _USER_SAFE)}{password}@"
        port = "" if self.port is None else f":{self.port}"
        headers = "&".join(f"{_escape(n, _HEADER_SAFE)}={_escape(v, _HEADER_SAFE)}" for n, v in self.headers)
        tail = f"{self._parameter_text()}{'?' if headers else ''}{headers}"
        return f"{self.scheme}:{user}{format_host(self.host)}{port}{tail}"

    def _parameter_text(self) -> str:
        return "".join(
            f";{_escape(n, _PARAMETER_SAFE)}" + ("" if v is None else f"={_escape(v, _PARAMETER_SAFE)}")
            for n, v in self.parameters
        )

    def parameter(self, name: str) -> str | None:
        """The value of a parameter, ``""`` for a flag, None when absent. ``name`` in lower case."""
        for candidate, value in self.parameters:
            if candidate == name:
                return value or ""
        return None

    @property
    def transport(self) -> TransportName | None:
        """The ``transport`` parameter; None when absent or not one of ours."""
        try:
            return TransportName((self.parameter("transport") or "").lower())
        except ValueError:
            return None

    @property
    def lr(self) -> bool:
        """True for a loose router (RFC 3261 §16.12); ``lr=on`` counts too."""
        return self.parameter("lr") is not None

    def with_parameters(self, parameters: Iterable[tuple[str, str | None]]) -> SipUri:
        """The same URI with these parameters instead of its own."""
        return replace(self, parameters=tuple(parameters))

    def matches(self, other: SipUri) -> bool:
        """Equality of RFC 3261 §19.1.4: not ``==``, and not transitive."""
        if self.scheme == "tel" and other.scheme == "tel":
            return _plain_number(self) == _plain_number(other) and _parameters_match(self, other)
        return (
            (self.scheme, self.user, self.password, self.host, self.port, self.opaque)
            == (other.scheme, other.user, other.password, other.host, other.port, other.opaque)
            and _parameters_match(self, other)
            and sorted((n.lower(), v) for n, v in self.headers) == sorted((n.lower(), v) for n, v in other.headers)
        )


_known_uri = lru_cache(_REMEMBERED)(SipUri._parse)


def _plain_number(uri: SipUri) -> str:
    """RFC 3966 §5: visual separators do not count."""
    return (uri.user or "").translate({ord(c): None for c in "-.()"}).lower()


_MUST_MATCH: Final = frozenset({"user", "ttl", "method", "maddr", "transport", "phone-context", "isub", "ext"})


def _parameters_match(first: SipUri, second: SipUri) -> bool:
    mine = {name: (value or "").lower() for name, value in first.parameters}
    theirs = {name: (value or "").lower() for name, value in second.parameters}
    shared = mine.keys() & theirs.keys()
    required = (mine.keys() | theirs.keys()) & _MUST_MATCH
    return required <= shared and all(mine[name] == theirs[name] for name in shared)


def _parse_userinfo(text: str) -> tuple[str, str | None]:
    user, colon, password = text.partition(":")
    if not user or _NOT_IN_USER(user) or (colon and _NOT_IN_PASSWORD(password)):
        raise ParseError(400, "bad user in URI")
    return _unescape(user), _unescape(password) if colon else None


def _parse_parameters(text: str) -> Parameters:
    parts = text.split(";", MAX_PARAMETERS)
    if len(parts) > MAX_PARAMETERS:
        raise ParseError(400, "too many URI parameters")
    found: dict[str, str | None] = {}
    for part in parts:
        name, equals, raw = part.partition("=")
        if not name or _NOT_IN_PARAMETER(name) or _NOT_IN_PARAMETER(raw) or (equals and not raw):
            raise ParseError(400, "bad URI parameter")
        name = _unescape(name).lower()
        value = _unescape(raw) if equals else None
        if found.setdefault(name, value) != value:  # twice the same is a known habit, two values an ambiguity
            raise ParseError(400, "contradictory URI parameter")
    return tuple(found.items())


def _parse_headers(text: str) -> tuple[tuple[str, str], ...]:
    parts = text.split("&", MAX_PARAMETERS)
    if len(parts) > MAX_PARAMETERS:
        raise ParseError(400, "too many URI headers")
    return tuple(_parse_header(part) for part in parts)


def _parse_header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals or _NOT_IN_HEADER(name) or _NOT_IN_HEADER(value):
        raise ParseError(400, "bad URI header")
    return _unescape(name), _unescape(value)
