"""Header fields (RFC 3261 §7.3, §20, §25): the container, the lexical rules and the typed values.

Text is UTF-8; bytes that are not survive as lone surrogates, so that a header can be echoed exactly.
Use :func:`printable` before such text leaves SIP (logs, JSON, database).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from edge.uri import MAX_PARAMETERS, Parameters, ParseError, SipUri, format_host, parse_host_port

__all__ = [
    "COMPACT_NAMES",
    "OWN_HEADERS",
    "CSeq",
    "Headers",
    "MediaType",
    "NameAddress",
    "Via",
    "canonical_name",
    "canonical_pairs",
    "fold_name",
    "is_token",
    "parse_integer",
    "parse_parameters",
    "printable",
    "quote",
    "split_list",
    "unquote",
]

OWN_HEADERS: Final = "x-truedy-"
"""Between the edge and itself, by way of a carrier: nobody else's business."""

MAX_TOKEN_LENGTH: Final = 1024
"""Longest parameter value (a branch, a tag), Call-ID or method taken [characters]."""

MAX_LIST_VALUES: Final = 128
"""Values of one header, all its lines together."""

MAX_NAME_LENGTH: Final = 256

WHITE: Final = " \t"
"""Linear white space within a line; ``str.strip()`` would take more."""

COMPACT_NAMES: Final = {
    "a": "Accept-Contact",
    "b": "Referred-By",
    "c": "Content-Type",
    "d": "Request-Disposition",
    "e": "Content-Encoding",
    "f": "From",
    "i": "Call-ID",
    "j": "Reject-Contact",
    "k": "Supported",
    "l": "Content-Length",
    "m": "Contact",
    "n": "Identity-Info",
    "o": "Event",
    "r": "Refer-To",
    "s": "Subject",
    "t": "To",
    "u": "Allow-Events",
    "v": "Via",
    "x": "Session-Expires",
    "y": "Identity",
}
"""Compact forms (the IANA registry of SIP header fields) to the names they stand for."""

_KNOWN_NAMES: Final = """
    Accept Accept-Contact Accept-Encoding Accept-Language Alert-Info Allow Allow-Events Authentication-Info
    Authorization Call-ID Call-Info Contact Content-Disposition Content-Encoding Content-Language Content-Length
    Content-Type CSeq Date Diversion Error-Info Event Expires From Geolocation History-Info Identity Identity-Info
    In-Reply-To Max-Forwards MIME-Version Min-Expires Min-SE Organization P-Asserted-Identity P-Called-Party-ID
    P-Charging-Vector P-Preferred-Identity Path Priority Privacy Proxy-Authenticate Proxy-Authorization
    Proxy-Require RAck Reason Record-Route Recv-Info Refer-To Referred-By Reject-Contact Remote-Party-ID Replaces
    Reply-To Request-Disposition Require Retry-After Route RSeq Server Service-Route Session-Expires Subject
    Subscription-State Supported Timestamp To Unsupported User-Agent User-to-User Via Warning WWW-Authenticate
""".split()  # noqa: SIM905

_LISTS: Final = frozenset(
    """
    Accept Accept-Contact Accept-Encoding Accept-Language Alert-Info Allow Allow-Events Call-Info Contact
    Content-Encoding Content-Language Diversion Error-Info Geolocation History-Info In-Reply-To P-Asserted-Identity
    P-Preferred-Identity Path Proxy-Require Reason Record-Route Recv-Info Reject-Contact Request-Disposition Require
    Route Service-Route Supported Unsupported User-to-User Via Warning
    """.split()  # noqa: SIM905
)
"""Headers whose value is a comma-separated list; in any other a comma is just text."""

_SPELLINGS: Final[Mapping[str, str]] = {
    spelling: name
    for short, name in [*COMPACT_NAMES.items(), *((name.lower(), name) for name in _KNOWN_NAMES)]
    for spelling in (short, short.upper(), name)
}

# Every pattern here is linear: anchored, and possessive where two ways to match could meet.
_TOKEN = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+").fullmatch
_PARAMETER_VALUE = re.compile(r"[^\x00-\x20\x7f\",;<>]+").fullmatch  # token / host, and what gateways really send
_DISPLAY_TOKENS = re.compile(r"[A-Za-z0-9\-.!%*_+`'~ \t\x80-\U0010ffff]*").fullmatch  # UTF-8 unquoted is a known habit
_QUOTED_STRING: Final = r'"[^"\\\r\n]*+(?:\\[^\r\n][^"\\\r\n]*+)*+"'
_QUOTED = re.compile(_QUOTED_STRING)
# Around alternatives nothing is possessive: until CPython 3.11.5 that matches too much (gh-106052).
_LIST_VALUE = re.compile(rf'(?:[^,"<]++|{_QUOTED_STRING}|<[^<>"]*+(?:{_QUOTED_STRING}[^<>"]*+)*+>)*').match
_PARAMETER = re.compile(rf'(?:[^;"]++|{_QUOTED_STRING})*').match
_QUOTED_PAIR = re.compile(r"\\(.)")
_NEEDS_ESCAPE = re.compile(r'["\\\x00-\x08\x0b\x0c\x0e-\x1f\x7f]')
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_PROTOCOL = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]{1,32}/[A-Za-z0-9\-.!%*_+`'~]{1,32}").fullmatch
_CSEQ = re.compile(r"([0-9]+)[ \t]+([^ \t]+)").fullmatch


@lru_cache(1024)
def canonical_name(name: str) -> str:
    """The long form in its usual spelling; an unknown name as it is. Raises ``ValueError`` if it is no token."""
    known = _SPELLINGS.get(name) or _SPELLINGS.get(name.lower())
    if known is not None:
        return known
    if len(name) > MAX_NAME_LENGTH or not _TOKEN(name):
        raise ValueError("bad header name")
    return name


@lru_cache(1024)
def fold_name(name: str) -> str:
    """What header names are compared by: the canonical spelling, or lower case for unknown ones."""
    lower = name.lower()
    return _SPELLINGS.get(lower, lower)


def is_token(text: str) -> bool:
    """RFC 3261 §25.1 ``token``, of a sane length."""
    return len(text) <= MAX_TOKEN_LENGTH and _TOKEN(text) is not None


def printable(text: str) -> str:
    """Text safe for a log line, JSON or a page: controls (of direction, too) and undecodable bytes become U+FFFD."""
    return text if text.isprintable() else _UNPRINTABLE.sub("\ufffd", text)


def quote(text: str) -> str:
    """A quoted-string (RFC 3261 §25.1). CR and LF have no quoted form and stay: serialising refuses them."""
    return '"' + _NEEDS_ESCAPE.sub(r"\\\g<0>", text) + '"'


def unquote(text: str) -> str:
    """The content of a quoted-string, or the text itself when it is not one."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    return _QUOTED_PAIR.sub(r"\1", text[1:-1]) if "\\" in text else text[1:-1]


def split_list(text: str, limit: int = MAX_LIST_VALUES) -> list[str]:
    """Split at commas outside quotes and ``<>``, one value each.

    Raises :class:`ParseError` 400 for an empty value, more than ``limit`` values, or unbalanced quotes.
    """
    if "," not in text:
        return [text]
    values = _split(text, ",", _LIST_VALUE, limit)
    values = [value.strip(WHITE) for value in values]
    if not all(values):
        raise ParseError(400, "empty value in a header's list")
    return values


def _split(text: str, separator: str, match: Callable[[str, int], re.Match[str] | None], limit: int) -> list[str]:
    """Split at the separators that ``match``, which takes one part, leaves over."""
    if '"' not in text and "<" not in text:
        parts = text.split(separator, limit)
    else:
        parts, position = [], -1
        while position < len(text) and len(parts) <= limit:
            found = match(text, position + 1)
            end = found.end() if found else position + 1
            if end < len(text) and text[end] != separator:
                raise ParseError(400, "unbalanced quotes or brackets")
            parts.append(text[position + 1 : end])
            position = end
    if len(parts) > limit:
        raise ParseError(400, "too many values or parameters in a header")
    return parts


def parse_parameters(text: str) -> Parameters:
    """``name=value;flag;other="quoted"`` without the first semicolon (RFC 3261 §25.1 generic-param).

    Names come back in lower case, values unquoted, flags with None. The same name with two values is refused.
    """
    found: dict[str, str | None] = {}
    for part in _split(text, ";", _PARAMETER, MAX_PARAMETERS):
        name, equals, raw = part.partition("=")
        name = name.strip(WHITE)
        if len(name) > MAX_NAME_LENGTH or not _TOKEN(name):
            raise ParseError(400, "bad parameter name")
        value = _parameter_value(raw.strip(WHITE)) if equals else None
        if found.setdefault(name.lower(), value) != value:
            raise ParseError(400, "contradictory parameter")
    return tuple(found.items())


def _parameter_value(raw: str) -> str:
    if len(raw) > MAX_TOKEN_LENGTH:
        raise ParseError(400, "parameter too long")
    if raw.startswith('"'):
        if not _QUOTED.fullmatch(raw):
            raise ParseError(400, "bad quoted parameter")
        return unquote(raw)
    if not _PARAMETER_VALUE(raw):
        raise ParseError(400, "bad parameter value")
    return raw


def format_parameters(parameters: Parameters) -> str:
    """``;name=value`` for each, quoted where the value is no token or host."""
    return "".join(f";{n}" if v is None else f";{n}={_format_value(v)}" for n, v in parameters)


def _format_value(value: str) -> str:
    return value if value and _PARAMETER_VALUE(value) and value.isascii() else quote(value)


def _lookup(parameters: Parameters, name: str) -> str | None:
    for candidate, value in parameters:
        if candidate == name:
            return value or ""
    return None


def parse_integer(text: str, maximum: int, what: str) -> int:
    """Digits only, leading zeros allowed, 0..``maximum``. Raises :class:`ParseError` 400."""
    if not (text.isascii() and text.isdigit()) or len(text) > 20 or int(text) > maximum:
        raise ParseError(400, f"bad {what}")
    return int(text)


def canonical_pairs(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """As a message keeps them, Content-Length left out. Raises ``ValueError`` for a name that is no token."""
    named = [(_SPELLINGS.get(name) or canonical_name(name), value.strip(WHITE)) for name, value in pairs]
    return [pair for pair in named if pair[0] != "Content-Length"]


class Headers:
    """Header fields in order: case-insensitive, compact names folded to long ones, immutable.

    Content-Length is not among them: a message's length is the length of its body.
    """

    __slots__ = ("_index", "_lines", "_pairs")

    _index: dict[str, list[str]] | None
    """Values by folded name."""
    _pairs: list[tuple[str, str]] | None
    """Name and value of each line in order."""
    _lines: list[str]
    """From the parser: what ``_pairs`` is made of when somebody asks."""

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        """Raises ``ValueError`` for a name that is no token. Values are checked when serialised."""
        self._pairs = canonical_pairs(pairs)
        self._index = None

    @classmethod
    def _of_lines(cls, lines: list[str], index: dict[str, list[str]]) -> Headers:
        """From the parser, which has checked the names and built the index already."""
        made = cls.__new__(cls)
        made._lines = lines
        made._pairs = None
        made._index = index
        return made

    @classmethod
    def _of_pairs(cls, pairs: list[tuple[str, str]]) -> Headers:
        """From pairs whose names are canonical already."""
        made = cls.__new__(cls)
        made._pairs = pairs
        made._index = None
        return made

    def _by_name(self) -> dict[str, list[str]]:
        if self._index is None:
            index: dict[str, list[str]] = {}
            for name, value in self._in_order():
                index.setdefault(fold_name(name), []).append(value)
            self._index = index
        return self._index

    def _in_order(self) -> list[tuple[str, str]]:
        if self._pairs is None:
            parts = [line.partition(":") for line in self._lines]
            self._pairs = canonical_pairs((name.rstrip(WHITE), value) for name, _, value in parts)
        return self._pairs

    def of(self, name: str) -> Sequence[str]:
        """As :meth:`lines`, but for reading alone: they are the index's own."""
        return (self._index or self._by_name()).get(_SPELLINGS.get(name) or fold_name(name), ())

    def lines(self, name: str) -> list[str]:
        """The value of each header line of that name, as it came, unsplit."""
        return [*self.of(name)]

    def get(self, name: str) -> str | None:
        """The first line's value, whole, or None."""
        lines = self.of(name)
        return lines[0] if lines else None

    def get_all(self, name: str) -> list[str]:
        """Every value, split at commas where the header is a list. Raises :class:`ParseError` for a bad list."""
        lines = self.of(name)
        if not lines or fold_name(name) not in _LISTS:
            return [*lines]
        return [value for line in lines if line for value in split_list(line)]

    def names(self) -> Iterable[str]:
        """Each name once, folded."""
        return self._by_name().keys()

    def items(self) -> tuple[tuple[str, str], ...]:
        """``(name, value)`` of each line in order."""
        return tuple(self._in_order())

    def appended(self, *pairs: tuple[str, str]) -> Headers:
        """These headers and then ``pairs``."""
        return Headers([*self._in_order(), *pairs])

    def without(self, *names: str) -> Headers:
        """These headers but all lines of ``names``."""
        keys = {fold_name(name) for name in names}
        return Headers(pair for pair in self._in_order() if fold_name(pair[0]) not in keys)

    def with_first(self, name: str, value: str) -> Headers:
        """``value`` on the first line of that name, which there is; the others as they are."""
        key, index = fold_name(name), {**self._by_name()}
        lines = [*(self._lines if self._pairs is None else (f"{each}: {text}" for each, text in self._pairs))]
        at = next(i for i, line in enumerate(lines) if fold_name(line.partition(":")[0].rstrip(WHITE)) == key)
        lines[at] = f"{name}: {value}"
        index[key] = [value, *index[key][1:]]
        return Headers._of_lines(lines, index)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.of(name))

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._in_order())

    def __len__(self) -> int:
        return len(self._in_order())

    def __eq__(self, other: object) -> bool:
        """The same lines in the same order; the case of names does not count."""
        return self._folded() == other._folded() if isinstance(other, Headers) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._folded())

    def __repr__(self) -> str:
        return f"Headers({self._in_order()!r})"

    def _folded(self) -> tuple[tuple[str, str], ...]:
        return tuple((fold_name(name), value) for name, value in self._in_order())


@dataclass(frozen=True, slots=True)
class NameAddress:
    """``"name" <uri>;parameters`` (From, To, Contact, Route …). ``parameters`` are the header's, not the URI's."""

    display_name: str
    uri: SipUri
    parameters: Parameters = ()

    @classmethod
    def parse(cls, text: str) -> NameAddress:
        """Parse one value. Without ``<>`` every ``;parameter`` is the header's (RFC 3261 §20)."""
        text = text.strip(WHITE)
        if text.startswith('"'):
            quoted = _QUOTED.match(text)
            if quoted is None:
                raise ParseError(400, "unbalanced quotes")
            name, rest = unquote(quoted[0]), text[quoted.end() :].lstrip(WHITE)
            if not rest.startswith("<"):
                raise ParseError(400, "no address after the display name")
        else:
            name, bracket, tail = text.partition("<")
            if not bracket:
                return cls._parse_bare(text)
            name, rest = name.rstrip(WHITE), bracket + tail
            if not _DISPLAY_TOKENS(name):
                raise ParseError(400, "bad display name")
        inner, bracket, tail = rest[1:].partition(">")
        if not bracket:
            raise ParseError(400, "unbalanced brackets")
        return cls(name, SipUri.parse(inner), _trailing_parameters(tail))

    @classmethod
    def _parse_bare(cls, text: str) -> NameAddress:
        address, _, _ = text.partition(";")
        if "?" in address or "," in address:  # RFC 3261 §20: such a URI must be in brackets
            raise ParseError(400, "address must be in brackets")
        return cls("", SipUri.parse(address.rstrip(WHITE)), _trailing_parameters(text[len(address) :]))

    def __str__(self) -> str:
        name = f"{quote(self.display_name)} " if self.display_name else ""
        return f"{name}<{self.uri}>{format_parameters(self.parameters)}"

    def parameter(self, name: str) -> str | None:
        """The value of a header parameter, ``""`` for a flag, None when absent. ``name`` in lower case."""
        return _lookup(self.parameters, name)

    @property
    def tag(self) -> str | None:
        """The tag, or None. An empty one counts as none."""
        return _lookup(self.parameters, "tag") or None

    def with_tag(self, tag: str) -> NameAddress:
        """The same address with this tag."""
        kept = tuple(pair for pair in self.parameters if pair[0] != "tag")
        return replace(self, parameters=(*kept, ("tag", tag)))


def _trailing_parameters(text: str) -> Parameters:
    text = text.strip(WHITE)
    if not text:
        return ()
    if text[0] != ";":
        raise ParseError(400, "unexpected text after the address")
    return parse_parameters(text[1:])


@dataclass(frozen=True, slots=True)
class Via:
    """One Via value (RFC 3261 §20.42). ``transport`` in upper case; ``port`` None when not written.

    ``protocol`` is echoed as it came: a request of another SIP version is to be answered, too (505).
    """

    transport: str
    host: str
    port: int | None = None
    parameters: Parameters = ()
    protocol: str = "SIP/2.0"

    @classmethod
    def parse(cls, text: str) -> Via:
        """Parse one value; LWS is allowed around each ``/`` and ``:``."""
        head, semicolon, tail = text.partition(";")
        name, _, rest = head.partition("/")
        version, _, rest = rest.partition("/")
        words = rest.split(None, 1)
        protocol = f"{name.strip(WHITE)}/{version.strip(WHITE)}"
        if len(words) != 2 or not _TOKEN(words[0]) or not _PROTOCOL(protocol):
            raise ParseError(400, "bad Via")
        host, port = parse_host_port(words[1].strip(WHITE))
        return cls(words[0].upper(), host, port, parse_parameters(tail) if semicolon else (), protocol)

    def __str__(self) -> str:
        return f"{self.protocol}/{self.transport} {self.sent_by}{format_parameters(self.parameters)}"

    def parameter(self, name: str) -> str | None:
        """The value of a parameter, ``""`` for a flag, None when absent. ``name`` in lower case."""
        return _lookup(self.parameters, name)

    @property
    def sent_by(self) -> str:
        """``host[:port]`` as in the header."""
        host = format_host(self.host)
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def branch(self) -> str | None:
        """The branch, or None."""
        return _lookup(self.parameters, "branch") or None

    @property
    def received(self) -> str | None:
        """The source address noted by the receiver, IPv6 without brackets, or None."""
        value = _lookup(self.parameters, "received")
        return value.strip("[]") if value else None

    @property
    def rport(self) -> int | None:
        """RFC 3581: the source port noted by the receiver; 0 for the bare request; None when absent."""
        value = _lookup(self.parameters, "rport")
        return None if value is None else parse_integer(value or "0", 65535, "rport")

    def with_parameters(self, **values: str | None) -> Via:
        """These parameters set (None: a flag), the others kept in their places."""
        parameters = tuple((dict(self.parameters) | values).items())
        return Via(self.transport, self.host, self.port, parameters, self.protocol)


@dataclass(frozen=True, slots=True)
class CSeq:
    """``number`` 0..2^31-1 (RFC 3261 §8.1.1.5) and the method."""

    number: int
    method: str

    @classmethod
    def parse(cls, text: str) -> CSeq:
        """Parse ``number LWS method``."""
        match = _CSEQ(text)
        if match is None or not is_token(match[2]):
            raise ParseError(400, "bad CSeq")
        return cls(parse_integer(match[1], 2**31 - 1, "CSeq"), match[2])

    def __str__(self) -> str:
        return f"{self.number} {self.method}"


@dataclass(frozen=True, slots=True)
class MediaType:
    """A Content-Type: ``value`` is ``type/subtype`` in lower case."""

    value: str
    parameters: Parameters = ()

    @classmethod
    def parse(cls, text: str) -> MediaType:
        """Parse ``type/subtype;parameters``."""
        head, semicolon, tail = text.partition(";")
        kind, slash, subtype = (part.strip(WHITE) for part in head.partition("/"))
        if not slash or not is_token(kind) or not is_token(subtype):
            raise ParseError(400, "bad Content-Type")
        return cls(f"{kind}/{subtype}".lower(), parse_parameters(tail) if semicolon else ())

    def __str__(self) -> str:
        return f"{self.value}{format_parameters(self.parameters)}"
