"""SIP messages (RFC 3261 §7): bytes to frozen values and back, headers typed on demand.

``parse`` finds the lines and nothing more; a property such as ``request.via`` parses its header on first
use and remembers it. ``check_request`` makes the checks a UAS owes before it acts (§8.2, §16.3).
Every fault in remote input is a :class:`ParseError`; ``ValueError`` means our own caller erred.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar, overload

from edge.headers import (
    _SPELLINGS,
    MAX_LIST_VALUES,
    MAX_TOKEN_LENGTH,
    WHITE,
    CSeq,
    Headers,
    MediaType,
    NameAddress,
    Via,
    canonical_name,
    canonical_pairs,
    fold_name,
    is_token,
    parse_integer,
    printable,
    split_list,
)
from edge.uri import ParseError, SipUri

__all__ = [
    "MAX_BODY_OCTETS",
    "MAX_HEADER_LINES",
    "MAX_HEADER_OCTETS",
    "MAX_MESSAGE_OCTETS",
    "REASON_PHRASES",
    "CSeq",
    "Headers",
    "MediaType",
    "Message",
    "NameAddress",
    "ParseError",
    "Request",
    "Response",
    "SipUri",
    "Via",
    "check_request",
    "check_response",
    "parse",
    "printable",
    "response_to",
    "salvage",
]

MAX_HEADER_OCTETS: Final = 64 * 1024
MAX_MESSAGE_OCTETS: Final = 256 * 1024
MAX_BODY_OCTETS: Final = MAX_MESSAGE_OCTETS - MAX_HEADER_OCTETS
MAX_HEADER_LINES: Final = 256
MAX_VIAS: Final = 70
"""As many hops as Max-Forwards' customary start allows."""

REASON_PHRASES: Final[Mapping[int, str]] = MappingProxyType(
    {
        100: "Trying",
        180: "Ringing",
        181: "Call Is Being Forwarded",
        182: "Queued",
        183: "Session Progress",
        199: "Early Dialog Terminated",
        200: "OK",
        202: "Accepted",
        204: "No Notification",
        300: "Multiple Choices",
        301: "Moved Permanently",
        302: "Moved Temporarily",
        305: "Use Proxy",
        380: "Alternative Service",
        400: "Bad Request",
        401: "Unauthorized",
        402: "Payment Required",
        403: "Forbidden",
        404: "Not Found",
        405: "Method Not Allowed",
        406: "Not Acceptable",
        407: "Proxy Authentication Required",
        408: "Request Timeout",
        410: "Gone",
        412: "Conditional Request Failed",
        413: "Request Entity Too Large",
        414: "Request-URI Too Long",
        415: "Unsupported Media Type",
        416: "Unsupported URI Scheme",
        417: "Unknown Resource-Priority",
        420: "Bad Extension",
        421: "Extension Required",
        422: "Session Interval Too Small",
        423: "Interval Too Brief",
        428: "Use Identity Header",
        429: "Provide Referrer Identity",
        430: "Flow Failed",
        433: "Anonymity Disallowed",
        436: "Bad Identity-Info",
        437: "Unsupported Certificate",
        438: "Invalid Identity Header",
        439: "First Hop Lacks Outbound Support",
        440: "Max-Breadth Exceeded",
        469: "Bad Info Package",
        470: "Consent Needed",
        480: "Temporarily Unavailable",
        481: "Call/Transaction Does Not Exist",
        482: "Loop Detected",
        483: "Too Many Hops",
        484: "Address Incomplete",
        485: "Ambiguous",
        486: "Busy Here",
        487: "Request Terminated",
        488: "Not Acceptable Here",
        489: "Bad Event",
        491: "Request Pending",
        493: "Undecipherable",
        494: "Security Agreement Required",
        500: "Server Internal Error",
        501: "Not Implemented",
        502: "Bad Gateway",
        503: "Service Unavailable",
        504: "Server Time-out",
        505: "Version Not Supported",
        513: "Message Too Large",
        555: "Push Notification Service Not Supported",
        580: "Precondition Failure",
        600: "Busy Everywhere",
        603: "Decline",
        604: "Does Not Exist Anywhere",
        606: "Not Acceptable",
        607: "Unwanted",
        608: "Rejected",
    }
)

_STATUS_LINE = re.compile(r"SIP/2\.0 ([1-6][0-9]{2})(?: (.*))?", re.IGNORECASE).fullmatch
_NOT_IN_REQUEST_URI = re.compile(r"[\x00-\x20\x7f<>\"]").search
_CALL_ID = re.compile(r"[!-~]+").fullmatch
_FOLD = re.compile(r"\r\n[ \t]+")
_CR_LF_NUL = re.compile(r"[\r\n\x00]").search
_ENDS_IN_VERSION = re.compile(r"(?<= )SIP/[0-9.]{1,16}[ \t]*$", re.IGNORECASE).search
_BRANCH = re.compile(r";[ \t]*branch=([A-Za-z0-9\-.!%*_+`'~]{1,256})[ \t]*(?:[;,]|$)").search
_BARE_NUL = re.compile(r"(?<!\\)(?:\\\\)*+\x00")

M = TypeVar("M", bound="Message")
T = TypeVar("T")


class _Typed(Generic[T]):
    """A value parsed from a message's headers on first use, then remembered."""

    def __init__(self, parse: Callable[[Any], T], doc: str) -> None:
        self._parse = parse
        self.__doc__ = doc

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, message: None, owner: type) -> _Typed[T]: ...
    @overload
    def __get__(self, message: Message, owner: type) -> T: ...
    def __get__(self, message: Message | None, owner: type) -> T | _Typed[T]:
        if message is None:
            return self
        memo: dict[str, T] = message._memo
        try:
            return memo[self._name]
        except KeyError:
            value = memo[self._name] = self._parse(message)
            return value


def _single(message: Message, name: str) -> str:
    lines = message.headers.of(name)
    if len(lines) != 1:
        raise ParseError(400, f"{'several' if lines else 'no'} {name}")
    return lines[0]


def _values(message: Message, name: str, limit: int = MAX_LIST_VALUES) -> list[str]:
    values: list[str] = []
    for line in message.headers.lines(name):
        values += split_list(line, limit)
        if len(values) > limit:
            raise ParseError(400, f"too many {name} values")
    return values


def _vias(message: Message) -> tuple[Via, ...]:
    vias = tuple(Via.parse(value) for value in _values(message, "Via", MAX_VIAS))
    if not vias:
        raise ParseError(400, "no Via")
    return vias


def _top_via(message: Message) -> Via:
    if len(message.headers.lines("Via")) > MAX_VIAS:
        raise ParseError(400, "too many Via values")
    line = message.headers.get("Via")
    if line is None:
        raise ParseError(400, "no Via")
    return Via.parse(split_list(line, MAX_VIAS)[0])


def _call_id(message: Message) -> str:
    value = _single(message, "Call-ID")
    if len(value) > MAX_TOKEN_LENGTH or not _CALL_ID(value):
        raise ParseError(400, "bad Call-ID")
    return value


def _addresses(message: Message, name: str) -> tuple[NameAddress, ...]:
    return tuple(NameAddress.parse(value) for value in _values(message, name))


def _contacts(message: Message) -> tuple[NameAddress, ...]:
    lines = message.headers.lines("Contact")
    return () if lines == ["*"] else _addresses(message, "Contact")


def _contact(message: Message) -> NameAddress | None:
    contacts = message.contacts
    if not contacts:
        return None
    if len(contacts) > 1 or contacts[0].uri.scheme not in ("sip", "sips"):
        raise ParseError(400, "bad Contact")
    return contacts[0]


def _integer(message: Message, name: str, maximum: int) -> int | None:
    return parse_integer(_single(message, name), maximum, name) if name in message.headers else None


def _content_type(message: Message) -> MediaType | None:
    return MediaType.parse(_single(message, "Content-Type")) if "Content-Type" in message.headers else None


def _request_uri(request: Request) -> SipUri:
    uri = SipUri.parse(request.uri)
    if uri.scheme not in ("sip", "sips", "tel"):
        raise ParseError(416, "unsupported URI scheme")
    if uri.headers:  # RFC 3261 §19.1.1: not in a Request-URI
        raise ParseError(400, "headers in the Request-URI")
    return uri


@dataclass(frozen=True, slots=True)
class Message:
    """What requests and responses share. ``body`` is opaque; its length is the Content-Length."""

    headers: Headers
    body: bytes
    _memo: dict[str, Any] = field(default_factory=dict, init=False, compare=False, repr=False)

    via = _Typed(_top_via, "The topmost Via.")
    vias = _Typed(_vias, "Every Via, topmost first.")
    from_ = _Typed(lambda m: NameAddress.parse(_single(m, "From")), "From.")
    to = _Typed(lambda m: NameAddress.parse(_single(m, "To")), "To.")
    cseq = _Typed(lambda m: CSeq.parse(_single(m, "CSeq")), "CSeq.")
    call_id = _Typed(_call_id, "Call-ID, compared byte by byte.")
    contact = _Typed(_contact, "The one Contact with a SIP URI, or None (RFC 3261 §8.1.1.8).")
    contacts = _Typed(_contacts, "Every Contact; empty for ``*``.")
    max_forwards = _Typed(lambda m: _integer(m, "Max-Forwards", 255), "Max-Forwards, 0..255, or None.")
    routes = _Typed(lambda m: _addresses(m, "Route"), "The Route set, topmost first.")
    record_routes = _Typed(lambda m: _addresses(m, "Record-Route"), "Record-Route, topmost first.")
    expires = _Typed(lambda m: _integer(m, "Expires", 2**32 - 1), "Expires [s], or None.")
    content_type = _Typed(_content_type, "Content-Type, or None.")

    def _serialise(self, start_line: str) -> bytes:
        lines = [f"{name}: {value}" for name, value in self.headers]
        head = "\r\n".join((start_line, *lines, f"Content-Length: {len(self.body)}"))
        breaks = len(lines) + 1
        if head.count("\r") != breaks or head.count("\n") != breaks or ("\x00" in head and _BARE_NUL.search(head)):
            raise ValueError("CR, LF or NUL inside a SIP header")
        return (head + "\r\n\r\n").encode("utf-8", "surrogateescape") + self.body


@dataclass(frozen=True, slots=True)
class Request(Message):
    """A request. ``uri`` is the Request-URI as text; ``request_uri`` is it parsed."""

    method: str
    uri: str

    request_uri = _Typed(_request_uri, "The Request-URI; ParseError 416 for a scheme that is not sip, sips or tel.")

    @classmethod
    def create(cls, method: str, uri: str, headers: Iterable[tuple[str, str]], body: bytes = b"") -> Request:
        """Raises ``ValueError`` if method, URI or a header name cannot stand in a message."""
        if not is_token(method) or not uri or _NOT_IN_REQUEST_URI(uri):
            raise ValueError("bad method or Request-URI")
        return cls(Headers(headers), body, method, uri)

    def __bytes__(self) -> bytes:
        """Raises ``ValueError`` for CR, LF or NUL in a header value."""
        return self._serialise(f"{self.method} {self.uri} SIP/2.0")

    def with_received(self, host: str, port: int) -> Request:
        """The request with its source noted in the top Via (RFC 3261 §18.2.1, RFC 3581 §4).

        ``host`` is an address literal. ``received`` is added when it differs from sent-by or rport is asked for.
        """
        via = self.via
        wants_rport = via.parameter("rport") is not None
        if via.host == host and not wants_rport and via.received is None:
            return self
        stamped = via.with_parameters(received=host, **({"rport": str(port)} if wants_rport else {}))
        others = split_list(self.headers.lines("Via")[0], MAX_VIAS)[1:]
        headers = self.headers.with_first("Via", ", ".join([str(stamped), *others]))
        request = Request(headers, self.body, self.method, self.uri)
        request._memo.update(self._memo)
        request._memo["via"] = stamped
        request._memo.pop("vias", None)
        return request


@dataclass(frozen=True, slots=True)
class Response(Message):
    """A response; ``status`` 100..699."""

    status: int
    phrase: str

    @classmethod
    def create(
        cls, status: int, headers: Iterable[tuple[str, str]], body: bytes = b"", phrase: str | None = None
    ) -> Response:
        """``phrase`` None for the standard one. Raises ``ValueError`` for a status outside 100..699."""
        if not 100 <= status <= 699:
            raise ValueError("bad status")
        return cls(Headers(headers), body, status, REASON_PHRASES.get(status, "") if phrase is None else phrase)

    def __bytes__(self) -> bytes:
        """Raises ``ValueError`` for CR, LF or NUL in a header value."""
        return self._serialise(f"SIP/2.0 {self.status} {self.phrase}")


def parse(data: bytes) -> Request | Response:
    """A whole datagram or one framed message. Octets after Content-Length are dropped (RFC 3261 §18.3).

    Raises :class:`ParseError`: 400, 413, 505. For a bad request see :func:`salvage`.
    """
    start = 0
    if data[:1] in b"\r\n":  # §7.5: empty lines before the start line are ignored
        start = len(data) - len(data.lstrip(b"\r\n"))
    end = data.find(b"\r\n\r\n", start, start + MAX_HEADER_OCTETS + 4)
    if end < 0:
        raise ParseError(*((413, "headers too large") if len(data) > MAX_HEADER_OCTETS else (400, "no end of headers")))
    if len(data) > MAX_MESSAGE_OCTETS:
        raise ParseError(413, "message too large")
    first, *lines = _split_lines(data[start:end])
    headers, length = _parse_headers(lines)
    body = _body(data, end + 4, length)
    if first[:4].upper() == "SIP/":
        return _parse_status(first, headers, body)
    return _parse_request(first, headers, body)


def _split_lines(head: bytes) -> list[str]:
    """Lines as they came. Bare CR or LF is refused, and NUL but in a quoted pair (§25.1), where it is legal."""
    text = head.decode("utf-8", "surrogateescape")
    lines = text.split("\r\n")
    if len(lines) > MAX_HEADER_LINES:
        raise ParseError(400, "too many headers")
    breaks = len(lines) - 1
    if head.count(b"\r") != breaks or head.count(b"\n") != breaks or (b"\x00" in head and _BARE_NUL.search(text)):
        raise ParseError(400, "bare CR, LF or NUL in the headers")
    return lines


def _parse_headers(lines: list[str]) -> tuple[Headers, str | None]:
    """Headers, and the value of Content-Length apart from them."""
    known, white = _SPELLINGS.get, WHITE
    index: dict[str, list[str]] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        key = known(name)
        if key is None:
            if line[0] in white and line is not lines[0]:
                return _parse_headers(_FOLD.sub(" ", "\r\n".join(lines)).split("\r\n"))
            key = _unusual_name(name, colon)
        if key in index:
            index[key].append(value.strip(white))
        else:
            index[key] = [value.strip(white)]
    lengths = index.pop("Content-Length", None)
    if lengths is not None and len(lengths) > 1:
        raise ParseError(400, "several Content-Length")
    return Headers._of_lines(lines, index), lengths[0] if lengths else None


def _unusual_name(name: str, colon: str) -> str:
    """The key of a header whose spelling is not one of the usual ones."""
    if not colon:
        raise ParseError(400, "header line without a colon")
    try:
        return fold_name(canonical_name(name.rstrip(WHITE)))
    except ValueError:
        raise ParseError(400, "bad header name") from None


def _body(data: bytes, start: int, length: str | None) -> bytes:
    if length is None:
        return data[start:]
    octets = parse_integer(length, 2**32 - 1, "Content-Length")
    if octets > MAX_BODY_OCTETS:
        raise ParseError(413, "body too large")
    if octets > len(data) - start:
        raise ParseError(400, "Content-Length beyond the end of the message")
    return data[start : start + octets]


_METHODS: Final = frozenset(
    ("INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "INFO", "PRACK", "UPDATE", "REFER", "NOTIFY", "MESSAGE", "REGISTER")
)
"""Tokens that need no look."""


def _parse_request(line: str, headers: Headers, body: bytes) -> Request:
    method, _, rest = line.partition(" ")
    uri, _, version = rest.partition(" ")
    if version != "SIP/2.0" and version.upper() != "SIP/2.0":
        if version[:4].upper() == "SIP/" and " " not in version and uri:
            raise ParseError(505, "SIP version not supported")
        raise ParseError(400, "bad request line")
    if not (method in _METHODS or is_token(method)) or not uri or _NOT_IN_REQUEST_URI(uri):
        raise ParseError(400, "bad request line")
    return Request(headers, body, method, uri)


def _parse_status(line: str, headers: Headers, body: bytes) -> Response:
    match = _STATUS_LINE(line)
    if match is None:
        raise ParseError(400, "bad status line")
    return Response(headers, body, int(match[1]), match[2] or "")


_AT_MOST_ONCE: Final = frozenset(
    """
    Content-Type Content-Disposition Date Event Expires MIME-Version Min-SE RAck Refer-To Referred-By Replaces RSeq
    Session-Expires Subject Timestamp User-Agent
    """.split()  # noqa: SIM905
)


def check_request(request: Request) -> None:
    """What must hold before a UAS acts on a request (RFC 3261 §8.1.1, §8.2.2).

    The mandatory headers are there, once, and parse; no single-value header is repeated; CSeq names the
    request's method; the Request-URI is one of ours by scheme; Contact parses where it means something, and an
    INVITE for a new dialog has one, with a SIP URI.
    Raises :class:`ParseError`: 400, 416. Max-Forwards may be missing, and 0 (§16.3 binds proxies).
    """
    by_name = request.headers._by_name()
    repeated = [name for name, lines in by_name.items() if len(lines) > 1 and name in _AT_MOST_ONCE]
    if repeated:
        raise ParseError(400, f"several {repeated[0]}")
    for read in _MANDATORY:
        read(request)
    if request.cseq.method != request.method:
        raise ParseError(400, "CSeq method is not the request's")
    if request.from_.tag is None and (request.via.branch or "").startswith("z9hG4bK"):
        raise ParseError(400, "no From tag")  # RFC 2543 knew neither
    if request.method not in _NO_CONTACT:
        _READ_CONTACTS(request)
    if request.method == "INVITE" and request.contact is None and request.to.tag is None:
        raise ParseError(400, "no Contact")


_NO_CONTACT: Final = frozenset({"ACK", "BYE", "CANCEL"})
"""A fault in a header these do not use must not keep a call alive."""

_READ_CONTACTS: Final = attrgetter("contacts")


def check_response(response: Response) -> None:
    """What must hold before a client transaction looks at a response; the caller drops it on :class:`ParseError`."""
    for read in _MANDATORY_IN_RESPONSES:
        read(response)


_MANDATORY_IN_RESPONSES: Final = tuple(map(attrgetter, ("via", "from_", "to", "call_id", "cseq")))
_MANDATORY: Final = (*_MANDATORY_IN_RESPONSES, *map(attrgetter, ("max_forwards", "request_uri")))


_COPIED: Final = ("From", "To", "Call-ID", "CSeq")
_COPIED_INTO_100: Final = (*_COPIED, "Timestamp")
_DIALOG_METHODS: Final = frozenset({"INVITE", "SUBSCRIBE", "REFER"})


def response_to(
    request: Request,
    status: int,
    *,
    to_tag: str | None = None,
    phrase: str | None = None,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
) -> Response:
    """A response with what RFC 3261 §8.2.6 says to copy: Via, From, To, Call-ID, CSeq.

    Record-Route is copied into 1xx and 2xx that may make a dialog (§12.1.1), Timestamp into 100.
    ``to_tag`` is put on To unless it has one already. Of headers that came twice, the first is copied.
    Raises ``ValueError`` for a status outside 100..699 or a header name that is no token.
    """
    if not 100 <= status <= 699:
        raise ValueError("bad status")
    source = request.headers._by_name()
    copied = [("Via", value) for value in source.get("Via", ())]
    if 101 <= status < 300 and request.method in _DIALOG_METHODS:
        copied += [("Record-Route", value) for value in source.get("Record-Route", ())]
    for name in _COPIED if status > 100 else _COPIED_INTO_100:
        if lines := source.get(name):
            copied.append((name, _tagged(request, lines[0], to_tag) if name == "To" else lines[0]))
    copied += canonical_pairs(headers)
    phrase = REASON_PHRASES.get(status, "") if phrase is None else phrase
    return Response(Headers._of_pairs(copied), body, status, phrase)


def _tagged(request: Request, value: str, tag: str | None) -> str:
    """To with our tag. A To that does not parse gets none: it may have one already."""
    if tag is None:
        return value
    if "tag" in value.lower():
        try:
            if request.to.tag is not None:
                return value
        except ParseError:
            return value
    return f"{value};tag={tag}"


_SALVAGED: Final = frozenset({"Via", "From", "To", "Call-ID", "CSeq"})


def salvage(data: bytes) -> Request | None:
    """Enough of an unparsable request to answer it statelessly, or None when no answer may go out.

    Keeps the Via lines and the first From, To, Call-ID and CSeq, of a broken top Via what is sound. None for
    responses, for ACK, and when no Via says where the request came from.
    """
    head = data[:MAX_HEADER_OCTETS].lstrip(b"\r\n").partition(b"\r\n\r\n")[0]
    text = _FOLD.sub(" ", head.decode("utf-8", "surrogateescape"))
    first, *lines = text.split("\r\n", MAX_HEADER_LINES)[:MAX_HEADER_LINES]
    method = first.partition(" ")[0]
    if not is_token(method) or method == "ACK" or not _ENDS_IN_VERSION(first):
        return None
    found = list(_salvaged(lines))
    top = next((i for i, (name, _) in enumerate(found) if name == "Via"), None)
    via = None if top is None else _repaired(found[top][1])
    if top is None or via is None:
        return None
    found[top] = ("Via", via)
    request = Request(Headers(found), b"", method, "sip:unknown.invalid")
    return request if len(request.headers.lines("Via")) <= MAX_VIAS else None


def _salvaged(lines: list[str]) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for line in lines:
        name, colon, value = line.partition(":")
        known = fold_name(name.rstrip(WHITE)) if len(name) < 32 else ""
        if colon and known in _SALVAGED and known not in seen and not _CR_LF_NUL(value):
            if known != "Via":
                seen.add(known)
            yield known, value.strip(WHITE)


def _repaired(line: str) -> str | None:
    """The Via line if its first value parses, else that value's sent-by and branch, or None."""
    try:
        Via.parse(split_list(line, MAX_VIAS)[0])
        return line
    except ParseError:
        pass
    branch = _BRANCH(line)
    try:
        via = Via.parse(re.split("[;,]", line, maxsplit=1)[0])
    except ParseError:
        return None
    return str(via) + (f";branch={branch[1]}" if branch else "")
