"""What a UAS checks before it acts, and what it reads out of an INVITE (RFC 3261 §8.2, §13.3.1).

Pure functions: a request in, a :class:`~edge.events.Refusal` or a value out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from edge.events import Refusal
from edge.headers import is_token, quote, split_list
from edge.message import Message, NameAddress, Request, printable
from edge.uri import ParseError

__all__ = [
    "ALLOW",
    "CAPABILITIES",
    "SDP",
    "allowed_headers",
    "caller",
    "check_content",
    "check_method",
    "check_required",
    "cleared",
    "dialed",
    "offer",
    "reason",
    "refusal_headers",
]

ALLOW: Final = "INVITE, ACK, CANCEL, BYE, OPTIONS, NOTIFY"
SDP: Final = "application/sdp"

CAPABILITIES: Final = (
    ("Allow", ALLOW),
    ("Accept", SDP),
    ("Accept-Encoding", "identity"),
    ("Accept-Language", "en"),
    ("Supported", ""),
)
"""What OPTIONS is told (§11.2). No extension needs an option tag yet."""

_MAX_HEADERS: Final = 32
_MAX_VALUE: Final = 1024
_MAX_TOTAL: Final = 8192


def check_method(request: Request) -> Refusal | None:
    """405 for what we do not do (§8.2.1)."""
    if request.method in ("INVITE", "BYE", "OPTIONS"):
        return None
    return Refusal(405, "method not allowed", headers=(("Allow", ALLOW),))


def check_required(request: Request) -> Refusal | None:
    """420 with the option tags we do not know (§8.2.2.3): all of them. Raises ParseError."""
    tags = request.headers.get_all("Require")
    if not tags:
        return None
    if not all(is_token(tag) for tag in tags):
        raise ParseError(400, "bad Require")
    return Refusal(420, "unknown extension required", headers=(("Unsupported", ", ".join(tags)),))


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


def caller(request: Request) -> tuple[str, str]:
    """User part and display name of who calls: P-Asserted-Identity, else From (RFC 3325 §9.1)."""
    asserted = next((a for a in _addresses(request, "P-Asserted-Identity") if a.uri.user), None)
    who = asserted or request.from_
    name = who.display_name or request.from_.display_name
    return printable(who.uri.user or ""), printable(name)


def _addresses(request: Request, name: str) -> list[NameAddress]:
    """The addresses of an optional header; what does not parse is passed over."""
    found = []
    for line in request.headers.lines(name)[:8]:
        try:
            found += [NameAddress.parse(value) for value in split_list(line)]
        except ParseError:
            continue
    return found


def allowed_headers(message: Message, *more: str) -> tuple[tuple[str, str], ...]:
    """The headers that may cross to the agent: ``X-*`` and User-to-User, and ``more``; counted and measured.

    An allow-list over names as parsed, so that no spelling smuggles another header in. A value with a
    control character is left out.
    """
    found: list[tuple[str, str]] = []
    total = 0
    for name, value in message.headers:
        lower = name.lower()
        if not (lower.startswith("x-") or lower == "user-to-user" or lower in more) or not is_token(name):
            continue
        total += len(name) + len(value)
        if len(found) == _MAX_HEADERS or total > _MAX_TOTAL:
            break
        if len(value) <= _MAX_VALUE and printable(value) == value:
            found.append((name, value))
    return tuple(found)


def reason(status: int, text: str) -> str:
    """A Reason value (RFC 3326) for a response or a request that stands for one."""
    return f"SIP;cause={status};text={quote(printable(text))}"


def cleared(text: str) -> str:
    """The Reason value of our BYE: normal call clearing, in words."""
    return f"Q.850;cause=16;text={quote(printable(text))}"


def refusal_headers(refusal: Refusal) -> Iterable[tuple[str, str]]:
    """Retry-After, Reason and the refusal's own headers."""
    if refusal.retry_after_s is not None:
        yield "Retry-After", str(max(0, refusal.retry_after_s))
    if refusal.reason:
        yield "Reason", reason(refusal.status, refusal.reason)
    yield from refusal.headers
