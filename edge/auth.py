"""Digest authentication, both sides (RFC 3261 §22, RFC 2617, RFC 7616, RFC 8760; RFC 2069's form without qop).

The server side keeps no state for a challenge: a nonce proves by its HMAC when, for which realm and for
which source it was issued. Only nonces that a right digest has used are remembered, to make nc rise.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import itertools
import re
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from edge.headers import quote, unquote
from edge.uri import ParseError

__all__ = [
    "ALGORITHMS",
    "Authorization",
    "Challenger",
    "Credentials",
    "DigestChallenge",
    "Verdict",
    "VerdictKind",
    "answer_challenge",
    "parse_authorization",
]

ALGORITHMS: Final[tuple[str, ...]] = ("SHA-256", "MD5")
"""What both sides can do, strongest first."""

MAX_VALUE_LENGTH: Final = 4096

_HASHES: Final[Mapping[str, Callable[[bytes], hashlib._Hash]]] = {
    "MD5": lambda data: hashlib.md5(data, usedforsecurity=False),
    "SHA-256": hashlib.sha256,
}
_PARAMETER = re.compile(
    r'[ \t,]*+([A-Za-z0-9\-_.]++)[ \t]*+=[ \t]*+("[^"\\]*+(?:\\.[^"\\]*+)*+"|[^\s",]++)[ \t]*+(?:,|$)'
).match
_NONCE_COUNT = re.compile(r"[0-9A-Fa-f]{8}").fullmatch


def _hash(algorithm: str, *parts: str) -> str:
    return _HASHES[algorithm](":".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def _parse_digest(value: str) -> dict[str, str]:
    """``Digest name=value, …``: names in lower case, values unquoted. Raises :class:`ParseError` 400."""
    scheme, _, rest = value.strip(" \t").partition(" ")
    if scheme.lower() != "digest" or len(value) > MAX_VALUE_LENGTH:
        raise ParseError(400, "no digest credentials")
    found: dict[str, str] = {}
    rest = rest.rstrip(" \t,")
    position = 0
    while position < len(rest):
        match = _PARAMETER(rest, position)
        if match is None or match[1].lower() in found:
            raise ParseError(400, "bad digest parameters")
        found[match[1].lower()] = unquote(match[2])
        position = match.end()
    return found


@dataclass(frozen=True, slots=True)
class Authorization:
    """One Authorization or Proxy-Authorization value. ``qop`` is empty for the RFC 2069 form."""

    username: str
    realm: str
    nonce: str
    uri: str
    response: str
    algorithm: str = "MD5"
    qop: str = ""
    nonce_count: str = ""
    cnonce: str = ""

    def expected(self, password: str, method: str, body: bytes = b"") -> str:
        """The response the right password gives (RFC 7616 §3.4.1; RFC 2069 §2.1.1 when ``qop`` is empty)."""
        secret = _hash(self.algorithm, self.username, self.realm, password)
        covered = [method, self.uri]
        if self.qop == "auth-int":
            covered.append(_HASHES[self.algorithm](body).hexdigest())
        middle = (self.nonce_count, self.cnonce, self.qop) if self.qop else ()
        return _hash(self.algorithm, secret, self.nonce, *middle, _hash(self.algorithm, *covered))


def parse_authorization(value: str) -> Authorization:
    """Raises :class:`ParseError` 400 when it is no digest, or a part is missing or impossible."""
    found = _parse_digest(value)
    missing = [name for name in ("username", "realm", "nonce", "uri", "response") if not found.get(name)]
    qop = found.get("qop", "").lower()
    counted = _NONCE_COUNT(found.get("nc", "")) is not None and bool(found.get("cnonce"))
    if missing or qop not in ("", "auth", "auth-int") or (qop and not counted):
        raise ParseError(400, "bad digest parameters")
    return Authorization(
        username=found["username"],
        realm=found["realm"],
        nonce=found["nonce"],
        uri=found["uri"],
        response=found["response"].lower(),
        algorithm=found.get("algorithm", "MD5").upper(),
        qop=qop,
        nonce_count=found.get("nc", ""),
        cnonce=found.get("cnonce", ""),
    )


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a user may log in with; ``algorithms`` are the only ones accepted (RFC 8760 §2.5)."""

    username: str
    password: str = field(repr=False)
    algorithms: tuple[str, ...] = ("MD5",)


class VerdictKind(Enum):
    """How an Authorization value was judged."""

    ACCEPTED = "accepted"
    STALE = "stale"
    """The digest is right, the nonce too old: challenge with stale=true."""
    REPLAYED = "replayed"
    """The digest is right, its nonce count was used before: challenge with stale=true."""
    WRONG = "wrong"
    """Wrong password or unknown user: one and the same."""
    FORGED = "forged"
    """We did not issue this nonce for this realm and source, whatever the digest: a fresh challenge and no more."""
    MALFORMED = "malformed"
    """No usable digest at all."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """``username`` as claimed; empty when malformed. Trust it only when accepted."""

    kind: VerdictKind
    username: str = ""

    @property
    def accepted(self) -> bool:
        """True when the user is who he says."""
        return self.kind is VerdictKind.ACCEPTED

    @property
    def stale(self) -> bool:
        """True when the same credentials will do with a fresh nonce."""
        return self.kind in (VerdictKind.STALE, VerdictKind.REPLAYED)


_STAMP = struct.Struct(">QI")
_MAC_LENGTH: Final = 16


@dataclass(slots=True)
class _Used:
    """A nonce that a right digest has used: when it was issued [s] and its highest nonce count."""

    issued: float
    count: int


class Challenger:
    """Issues challenges and judges the answers (RFC 3261 §22.3).

    ``key`` is secret, best drawn anew by each process. A nonce lives ``lifetime_s`` [s] and works for the
    realm and source it was issued for. At most ``capacity`` nonces in use are remembered: when one is
    forgotten early, all issued before it become stale, so that none can be replayed. ``accept_rfc2069``
    takes answers without qop, each nonce once.
    """

    def __init__(
        self, key: bytes, *, lifetime_s: float = 60.0, capacity: int = 10_000, accept_rfc2069: bool = False
    ) -> None:
        if len(key) < 16:
            raise ValueError("the nonce key needs at least 16 octets")
        self._key = key
        self._lifetime_s = lifetime_s
        self._capacity = capacity
        self._accept_rfc2069 = accept_rfc2069
        self._numbers = itertools.count()
        self._used: OrderedDict[str, _Used] = OrderedDict()
        self._stale_until = -1.0
        self._nobody = Credentials("", hashlib.sha256(key).hexdigest(), ALGORITHMS)

    def challenge(
        self, realm: str, algorithms: Iterable[str], source: str, now: float, stale: bool = False
    ) -> list[str]:
        """One Proxy-Authenticate (or WWW-Authenticate) value for each algorithm, in the given order.

        ``source`` is the address literal of the client. Raises ``ValueError`` for an unknown algorithm.
        """
        nonce = self._nonce(realm, source, now)
        tail = ", stale=true" if stale else ""
        values = []
        for algorithm in algorithms:
            if algorithm not in ALGORITHMS:
                raise ValueError(f"unknown digest algorithm {algorithm!r}")
            values.append(f'Digest realm={quote(realm)}, nonce="{nonce}", algorithm={algorithm}, qop="auth"{tail}')
        return values

    def verify(  # noqa: PLR0917
        self,
        authorization: str,
        method: str,
        body: bytes,
        lookup: Callable[[str], Credentials | None],
        source: str,
        now: float,
    ) -> Verdict:
        """Judge one Authorization or Proxy-Authorization value; never raises on remote input.

        The literal ``uri`` is hashed. An unknown user costs the same time as a known one.
        """
        try:
            answer = parse_authorization(authorization)
        except ParseError:
            return Verdict(VerdictKind.MALFORMED)
        if answer.algorithm not in _HASHES or not (answer.qop or self._accept_rfc2069):
            return Verdict(VerdictKind.MALFORMED, answer.username)
        issued = self._issued(answer.nonce, answer.realm, source)
        if issued is None:
            return Verdict(VerdictKind.FORGED, answer.username)
        known = lookup(answer.username)
        credentials = known if known is not None and known.password else self._nobody
        expected = answer.expected(credentials.password, method, body)
        right = hmac.compare_digest(expected.encode(), answer.response.encode("utf-8", "surrogateescape"))
        if not right or credentials is self._nobody or answer.algorithm not in credentials.algorithms:
            return Verdict(VerdictKind.WRONG, answer.username)
        return Verdict(self._judge_nonce(answer, issued, now), answer.username)

    def issued(self, answer: Authorization, source: str) -> bool:
        """True if ``source`` was given this nonce by us, however long ago: only then is a wrong digest a guess.

        An answer over any other nonce deserves a fresh challenge and no more: a forged source address must
        not lock a user out, and ``stale=true`` must not tell a guesser that the password was right.
        """
        return self._issued(answer.nonce, answer.realm, source) is not None

    def _judge_nonce(self, answer: Authorization, issued: float, now: float) -> VerdictKind:
        if not 0 <= now - issued < self._lifetime_s or issued <= self._stale_until:
            return VerdictKind.STALE
        used = self._used.get(answer.nonce)
        if used is None:
            self._make_room(now)
            used = self._used[answer.nonce] = _Used(issued, 0)
        count = int(answer.nonce_count, 16) if answer.qop else 0xFFFFFFFF
        if count <= used.count:
            return VerdictKind.REPLAYED
        used.count = count
        return VerdictKind.ACCEPTED

    def _make_room(self, now: float) -> None:
        """Drop nonces that are too old, then the oldest when there is no room for one more."""
        while self._used:
            oldest = next(iter(self._used.values()))
            if now - oldest.issued < self._lifetime_s and len(self._used) < self._capacity:
                return
            self._used.popitem(last=False)
            self._stale_until = max(self._stale_until, oldest.issued)

    def _nonce(self, realm: str, source: str, now: float) -> str:
        stamp = _STAMP.pack(int(now * 1e6), next(self._numbers) & 0xFFFFFFFF)
        return base64.urlsafe_b64encode(stamp + self._mac(stamp, realm, source)).decode()

    def _mac(self, stamp: bytes, realm: str, source: str) -> bytes:
        text = f"{realm}\n{source}".encode("utf-8", "surrogateescape")
        return hmac.digest(self._key, stamp + text, "sha256")[:_MAC_LENGTH]

    def _issued(self, nonce: str, realm: str, source: str) -> float | None:
        """When we issued this nonce [s], or None if we did not, or for another realm or source."""
        try:
            raw = base64.b64decode(nonce, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        stamp, mac = raw[: _STAMP.size], raw[_STAMP.size :]
        if len(raw) != _STAMP.size + _MAC_LENGTH or not hmac.compare_digest(mac, self._mac(stamp, realm, source)):
            return None
        microseconds: int = _STAMP.unpack(stamp)[0]
        return microseconds / 1e6


@dataclass(frozen=True, slots=True)
class DigestChallenge:
    """One WWW-Authenticate or Proxy-Authenticate value. ``algorithm`` and ``qop`` are empty when not sent."""

    realm: str
    nonce: str
    algorithm: str = ""
    qop: tuple[str, ...] = ()
    opaque: str | None = None
    stale: bool = False

    @classmethod
    def parse(cls, value: str) -> DigestChallenge:
        """Raises :class:`ParseError` 400 for another scheme or a challenge without realm or nonce."""
        found = _parse_digest(value)
        if "realm" not in found or not found.get("nonce"):
            raise ParseError(400, "bad digest challenge")
        return cls(
            realm=found["realm"],
            nonce=found["nonce"],
            algorithm=found.get("algorithm", ""),
            qop=tuple(option.strip(" \t").lower() for option in found["qop"].split(",")) if "qop" in found else (),
            opaque=found.get("opaque"),
            stale=found.get("stale", "").lower() == "true",
        )

    @property
    def answerable(self) -> bool:
        """True if algorithm and qop are ones we can do."""
        return (self.algorithm.upper() or "MD5") in _HASHES and (not self.qop or "auth" in self.qop)

    @property
    def strength(self) -> int:
        """For ordering: the stronger the higher."""
        return -ALGORITHMS.index(self.algorithm.upper() or "MD5") if self.answerable else -len(ALGORITHMS)


def answer_challenge(  # noqa: PLR0917
    challenge_values: Sequence[str],
    method: str,
    uri: str,
    username: str,
    password: str,
    cnonce: str,
    nonce_count: int,
    realm: str | None = None,
) -> str | None:
    """The (Proxy-)Authorization value for the strongest challenge we can answer, or None if there is none.

    ``uri`` must be the Request-URI as sent. ``realm`` given: no other realm is answered, so that a stranger's
    challenge draws no digest. ``nonce_count`` counts our requests with this nonce from 1.
    """
    challenges = [c for c in _parse_challenges(challenge_values) if c.answerable and realm in (None, c.realm)]
    if not challenges:
        return None
    challenge = max(challenges, key=lambda candidate: candidate.strength)
    answer = Authorization(
        username=username,
        realm=challenge.realm,
        nonce=challenge.nonce,
        uri=uri,
        response="",
        algorithm=challenge.algorithm.upper() or "MD5",
        qop="auth" if challenge.qop else "",
        nonce_count=f"{nonce_count:08x}",
        cnonce=cnonce,
    )
    return _format_answer(replace(answer, response=answer.expected(password, method)), challenge)


def _parse_challenges(values: Sequence[str]) -> list[DigestChallenge]:
    """Those that are digests and well formed; RFC 3261 §22.1: other schemes are passed over."""
    challenges = []
    for value in values:
        try:
            challenges.append(DigestChallenge.parse(value))
        except ParseError:
            continue
    return challenges


def _format_answer(answer: Authorization, challenge: DigestChallenge) -> str:
    parts = [
        f"username={quote(answer.username)}",
        f"realm={quote(answer.realm)}",
        f"nonce={quote(answer.nonce)}",
        f"uri={quote(answer.uri)}",
        f'response="{answer.response}"',
    ]
    if challenge.algorithm:
        parts.append(f"algorithm={answer.algorithm}")
    if answer.qop:
        parts += [f"cnonce={quote(answer.cnonce)}", f"qop={answer.qop}", f"nc={answer.nonce_count}"]
    if challenge.opaque is not None:
        parts.append(f"opaque={quote(challenge.opaque)}")
    return "Digest " + ", ".join(parts)
