"""What a UAS checks before it acts, and what it reads out of an INVITE (RFC 3261 §8.2, §13.3.1).

Pure functions: a request in, a :class:`~edge.events.Refusal` or a value out.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from edge.events import Refusal
from edge.headers import is_token, split_list
from edge.message import Message, NameAddress, Request, printable
from edge.reasons import of_status
from edge.uri import ParseError

__all__ = [
    "ALLOW",
    "CAPABILITIES",
    "OPTIONS",
    "SDP",
    "SUPPORTED",
    "allowed_headers",
    "allows",
    "check_content",
    "check_method",
    "check_required",
    "crosses",
    "dialed",
    "offer",
    "passing",
    "refusal_headers",
    "requires",
    "supports",
]

ALLOW: Final = "INVITE, ACK, CANCEL, BYE, OPTIONS, NOTIFY, UPDATE, PRACK, INFO"
OPTIONS: Final = ("timer", "100rel")
"""The option tags of the extensions we speak (RFC 4028, RFC 3262)."""

SUPPORTED: Final = ", ".join(OPTIONS)
SDP: Final = "application/sdp"

CAPABILITIES: Final = (
    ("Allow", ALLOW),
    ("Accept", SDP),
    ("Accept-Encoding", "identity"),
    ("Accept-Language", "en"),
    ("Supported", SUPPORTED),
)
"""What OPTIONS is told (§11.2)."""

_MAX_HEADERS: Final = 32
_MAX_VALUE: Final = 1024
_MAX_TOTAL: Final = 8192


def check_method(request: Request) -> Refusal | None:
    """405 for what we do not do (§8.2.1)."""
    if request.method in ("INVITE", "BYE", "OPTIONS", "UPDATE", "PRACK", "INFO"):
        return None
    return Refusal(405, "method not allowed", headers=(("Allow", ALLOW),))


def check_required(request: Request) -> Refusal | None:
    """420 with the option tags we do not know (§8.2.2.3). Raises ParseError."""
    tags = request.headers.get_all("Require")
    if not all(is_token(tag) for tag in tags):
        raise ParseError(400, "bad Require")
    unknown = [tag for tag in tags if tag.lower() not in OPTIONS]
    if not unknown:
        return None
    return Refusal(420, "unknown extension required", headers=(("Unsupported", ", ".join(unknown)),))


def check_content(request: Request) -> Refusal | None:
    """415 for a body we cannot read and may not ignore (§8.2.3). Raises ParseError."""
    if not request.body:
        return None
    encoding = request.headers.get("Content-Encoding")
    if encoding is not None and encoding.lower() != "identity":
        return Refusal(415, "encoded body", headers=(("Accept-Encoding", "identity"),))
    if _is_sdp(request) or _optional(request):
        return None
    return Refusal(415, "body is not SDP", headers=(("Accept", SDP),))


def offer(message: Message) -> bytes | None:
    """The SDP a message carries, None when it carries none. Raises ParseError."""
    return message.body if message.body and _is_sdp(message) else None


def _is_sdp(message: Message) -> bool:
    return message.content_type is not None and message.content_type.value == SDP


def _optional(request: Request) -> bool:
    """§20.11: ``handling=optional`` lets a UAS ignore the body."""
    disposition = (request.headers.get("Content-Disposition") or "").lower().replace(" ", "")
    return "handling=optional" in disposition.split(";")[1:]


def dialed(request: Request) -> tuple[str, ...]:
    """The candidates for the number dialed, best first: Request-URI, To, P-Called-Party-ID, Diversion."""
    found = [request.request_uri.user, request.to.uri.user]
    for name in ("P-Called-Party-ID", "Diversion"):
        found += [address.uri.user for address in _addresses(request, name)[:4]]
    return tuple(dict.fromkeys(printable(user) for user in found if user))


def _addresses(request: Request, name: str) -> list[NameAddress]:
    """The addresses of an optional header; what does not parse is passed over."""
    found = []
    for line in request.headers.lines(name)[:8]:
        try:
            found += [NameAddress.parse(value) for value in split_list(line)]
        except ParseError:
            continue
    return found


def allows(message: Message, method: str) -> bool:
    """Whether the peer's Allow lists the method (§20.5)."""
    return method in message.headers.get_all("Allow")


def requires(message: Message, option: str) -> bool:
    """Whether a request or response rests on this extension."""
    return option in (tag.lower() for tag in message.headers.get_all("Require"))


def supports(message: Message, option: str) -> bool:
    """Whether the peer speaks this extension."""
    return requires(message, option) or option in (tag.lower() for tag in message.headers.get_all("Supported"))


@lru_cache(1024)
def crosses(name: str, allowed: tuple[str, ...]) -> bool:
    """Whether a header of this name is on the list: names, or beginnings followed by ``*``."""
    lower = name.lower()
    for entry in allowed:
        wanted = entry.lower()
        if lower.startswith(wanted[:-1]) if wanted.endswith("*") else lower == wanted:
            return True
    return False


def allowed_headers(message: Message, *more: str, allowed: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """The headers of a message that may cross to the agent: the ``allowed``, and ``more``; see :func:`passing`."""
    wanted = (*allowed, *more)
    return passing(message.headers, wanted) if any(crosses(name, wanted) for name in message.headers.names()) else ()


def passing(headers: Iterable[tuple[str, str]], allowed: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Those of the ``allowed``; counted and measured.

    An allow-list over names as parsed, so that no spelling smuggles another header in. A value with a
    control character is left out.
    """
    found: list[tuple[str, str]] = []
    total = 0
    for name, value in headers:
        if not crosses(name, allowed) or not is_token(name):
            continue
        total += len(name) + len(value)
        if len(found) == _MAX_HEADERS or total > _MAX_TOTAL:
            break
        if len(value) <= _MAX_VALUE and printable(value) == value:
            found.append((name, value))
    return tuple(found)


def refusal_headers(refusal: Refusal) -> Iterable[tuple[str, str]]:
    """Retry-After, Reason and the refusal's own headers."""
    if refusal.retry_after_s is not None:
        yield "Retry-After", str(max(0, refusal.retry_after_s))
    if refusal.reason:
        for value in of_status(refusal.status, refusal.reason):
            yield "Reason", value
    yield from refusal.headers
