"""Who calls, by everything an INVITE says of it: asserted, hidden, forwarded, verified.

P-Asserted-Identity and Privacy (RFC 3325, RFC 3323), Remote-Party-ID (its draft, still sent), Diversion (RFC 5806),
History-Info (RFC 7044) and the ``verstat`` parameter (3GPP TS 24.229 §7.2A.20), which carriers put on the asserted
address or into its user part. All are optional and decide nothing here: what does not parse is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from edge.headers import printable, split_list
from edge.message import NameAddress, Request
from edge.uri import ParseError

__all__ = ["ANONYMOUS", "Diverted", "Identity", "Named", "identity_of", "verstat"]

ANONYMOUS: Final = "anonymous"

_MAX_LINES: Final = 8
_MAX_VALUES: Final = 8
_MAX_TEXT: Final = 128
_HIDING: Final = frozenset({"id", "user", "header", "full", "critical"})
_VERSTAT = re.compile(r"(?:TN-Validation-(?:Passed|Failed)(?:-[ABC])?|No-TN-Validation)", re.IGNORECASE).fullmatch
_SPELLED: Final = {"tn": "TN", "no": "No", "validation": "Validation", "passed": "Passed", "failed": "Failed"}


@dataclass(frozen=True, slots=True)
class Named:
    """A user (a number, mostly) and the display name beside it; both printable."""

    user: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Diverted:
    """One forwarding: the number that forwarded, and why (``unconditional``, ``user-busy``, …; "" if not said)."""

    user: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """What is known of a caller.

    ``asserted`` and ``remote_party`` are empty where the trunk is not believed. ``privacy`` holds the tokens of Privacy
    in lower case; ``hidden`` is the caller's wish that nobody be told who it is. ``diversion`` is the latest first, as
    sent; ``history`` the users of History-Info in order. ``verstat`` is as the carriers spell it, or "".
    """

    from_: Named
    asserted: tuple[Named, ...] = ()
    remote_party: Named | None = None
    privacy: tuple[str, ...] = ()
    hidden: bool = False
    diversion: tuple[Diverted, ...] = ()
    history: tuple[Diverted, ...] = ()
    verstat: str = ""

    @property
    def caller(self) -> Named:
        """Who is believed to call (RFC 3325 §9.1), hidden or not: the asserted, else the remote party, else From."""
        best = next((each for each in self.asserted if each.user), None) or self.remote_party or self.from_
        return best if best.name else Named(best.user, self.from_.name)


def identity_of(request: Request, *, believed: bool) -> Identity:
    """Read an INVITE. ``believed``: its trunk may assert who calls. Raises ParseError for a From that is none."""
    source = request.from_
    asserted = list(_addresses(request, "P-Asserted-Identity")) if believed else []
    party = _remote_party(request) if believed else None
    privacy = _privacy(request)
    remote = party[0] if party is not None else None
    hidden = bool(_HIDING.intersection(privacy)) or (party is not None and party[1])
    return Identity(
        from_=_named(source),
        asserted=tuple(map(_named, asserted)),
        remote_party=remote,
        privacy=privacy,
        hidden=hidden,
        diversion=tuple(_diversions(request)),
        history=tuple(_history(request)),
        verstat=next(filter(None, map(_verstat, [*asserted, source] if believed else [])), ""),
    )


def _named(address: NameAddress) -> Named:
    user = (address.uri.user or "").partition(";")[0]
    return Named(printable(user)[:_MAX_TEXT], printable(address.display_name)[:_MAX_TEXT])


def _addresses(request: Request, name: str) -> Iterator[NameAddress]:
    count = 0
    for line in request.headers.lines(name)[:_MAX_LINES]:
        try:
            values = split_list(line)
        except ParseError:
            continue
        for value in values[:_MAX_VALUES]:
            try:
                address = NameAddress.parse(value)
            except ParseError:
                continue
            count += 1
            if count > _MAX_VALUES:
                return
            yield address


def _remote_party(request: Request) -> tuple[Named, bool] | None:
    """The calling party of Remote-Party-ID, and whether it is to be hidden."""
    for address in _addresses(request, "Remote-Party-ID"):
        if (address.parameter("party") or "calling").lower() == "calling" and address.uri.user:
            return _named(address), (address.parameter("privacy") or "off").lower() not in ("off", "none")
    return None


def _privacy(request: Request) -> tuple[str, ...]:
    words = re.split(r"[;,\s]+", " ".join(request.headers.lines("Privacy")[:_MAX_LINES])[:_MAX_TEXT].lower())
    return tuple(dict.fromkeys(printable(word) for word in words if word))[:_MAX_VALUES]


def _diversions(request: Request) -> Iterator[Diverted]:
    for address in _addresses(request, "Diversion"):
        named = _named(address)
        if named.user:
            yield Diverted(named.user, printable(address.parameter("reason") or "")[:_MAX_TEXT])


def _history(request: Request) -> Iterator[Diverted]:
    """RFC 7044 §5: a Reason among the URI's own headers says why the call went on from there."""
    for address in _addresses(request, "History-Info"):
        named = _named(address)
        if named.user:
            reason = next((value for name, value in address.uri.headers if name.lower() == "reason"), "")
            yield Diverted(named.user, printable(reason)[:_MAX_TEXT])


def _verstat(address: NameAddress) -> str:
    """From the URI's parameters, the header's, or the user part's (``+1…;verstat=…@``), whoever sends it where."""
    _, _, tail = (address.uri.user or "").partition(";verstat=")
    candidates = (
        *(value for name, value in address.uri.parameters if name.lower() == "verstat"),
        address.parameter("verstat"),
        tail.partition(";")[0],
    )
    return next(filter(None, (verstat(value) for value in candidates if value)), "")


def verstat(value: str) -> str:
    """A verification status in its usual spelling; "" for what is none."""
    if not _VERSTAT(value):
        return ""
    return "-".join(_SPELLED.get(word, word.upper()) for word in value.lower().split("-"))
