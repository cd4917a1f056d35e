"""Who is calling: which trunk a request outside any dialog belongs to.

Looked at in this order, the first that applies decides:

1. **the registered connection**: a TCP or TLS connection over which we registered for one trunk only
   (a UDP source can be forged, and a pooled connection may serve several trunks: then the token decides);
2. **the Contact token**: a secret URI parameter of the Contact we registered, which comes back in the
   Request-URI; or, for carrier connections that can do neither, **a host name of its own** in the Request-URI;
3. **the digest user name** (RFC 3261 §22), the challenge being ``Proxy-Authenticate``: clients of both
   carriers answer 407 for certain, 401 perhaps;
4. **the address**, by the longest matching prefix; never for a carrier whose customers share addresses.

From, P-Asserted-Identity and the like are no authentication and are not looked at. A source that no trunk
lists gets no answer, unless some digest trunk has no networks: then it is challenged.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final, Literal

from edge.auth import Authorization, Challenger, Credentials, VerdictKind, parse_authorization
from edge.counters import Counters, SourceLog, printable
from edge.events import Flow, Identification, Refusal, TransportName
from edge.message import Request
from edge.uri import ParseError

__all__ = [
    "TOKEN_PARAMETER",
    "Accepted",
    "Challenge",
    "DialPass",
    "Identified",
    "LockPolicy",
    "Network",
    "Refused",
    "Silent",
    "TrunkRule",
    "TrunkTable",
    "canonical_host",
]

TOKEN_PARAMETER: Final = "tk"
"""The URI parameter of our registered Contacts that holds the token; ladders and logs mask it."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_CACHED_SOURCES: Final = 4096
_ANSWERS_READ: Final = 4

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrunkRule:
    """How one trunk's requests are recognised.

    ``networks`` limit where a digest user may come from; an address trunk needs them. ``algorithms``
    are offered in this order and no other is accepted (RFC 8760). ``shared_addresses``: the networks are
    a carrier's, used by all its customers, so the address alone selects nothing and is never locked.
    ``auth="registration"``: only the registered connection or a Contact token. ``auth="pass"``: digest, the
    users being handed out at run time, each for one call (:class:`DialPass`). ``auth="host"``: the
    Request-URI's host decides, from the trunk's networks only (:meth:`TrunkTable.add_host`). ``asserts_identity``:
    it is believed when it says who calls (RFC 3325).
    Raises ValueError for a rule that could never, or always, match.
    """

    name: str
    networks: tuple[Network, ...] = ()
    auth: Literal["address", "digest", "registration", "pass", "host"] = "address"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    algorithms: tuple[str, ...] = ("MD5",)
    shared_addresses: bool = False
    asserts_identity: bool = True

    def __post_init__(self) -> None:
        if self.auth == "address" and self.shared_addresses:
            raise ValueError(f"trunk {self.name}: a carrier's shared addresses alone cannot select a trunk")
        if self.auth == "address" and not self.networks:
            raise ValueError(f"trunk {self.name}: needs networks to be recognised by address")
        if self.auth in ("pass", "host") and not self.networks:
            raise ValueError(f"trunk {self.name}: needs networks, or strangers would be answered")
        if self.auth == "digest" and not (self.username and self.password and self.algorithms):
            raise ValueError(f"trunk {self.name}: needs a user name, a password and an algorithm for digest")


@dataclass(frozen=True, slots=True)
class DialPass:
    """A digest user made for one call, of the trunk with ``auth="pass"`` it names.

    ``header`` (name, value) must be on the INVITE too. Valid until ``valid_until`` (as ``now``), for the
    first Call-ID that passes, and no other.
    """

    username: str
    password: str = field(repr=False)
    trunk: str
    header: tuple[str, str] = field(repr=False)
    valid_until: float


@dataclass(frozen=True, slots=True)
class LockPolicy:
    """``failures`` wrong digests within ``window_s`` [s] lock for ``lock_s`` [s]; ``entries`` bounds each table."""

    failures: int = 10
    window_s: float = 300.0
    lock_s: float = 300.0
    entries: int = 10_000


@dataclass(frozen=True, slots=True)
class Accepted:
    """The request belongs to ``trunk``; ``identity`` says by what, fit for a log (a token is masked)."""

    trunk: str
    identified_by: Identification
    identity: str


@dataclass(frozen=True, slots=True)
class Challenge:
    """Answer 407 with these ``Proxy-Authenticate`` values; statelessly, it is never retransmitted."""

    values: tuple[str, ...]
    reason: str = "credentials needed"


@dataclass(frozen=True, slots=True)
class Refused:
    """Answer this and nothing more."""

    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Silent:
    """Send nothing at all; the drop is counted already."""

    reason: str


Identified = Accepted | Challenge | Refused | Silent


@lru_cache(4096)
def canonical_host(host: str) -> str:
    """An address literal in its one spelling: no zone, IPv4-mapped IPv6 as IPv4; other text unchanged."""
    try:
        return str(_address(host))
    except ValueError:
        return host


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


@dataclass(slots=True)
class _Pass:
    given: DialPass
    call_id: str | None = None


class _Networks:
    """Longest-prefix lookup: for each prefix length a dict of networks, and a bounded cache of answers."""

    __slots__ = ("_prefixes", "match")

    match: Callable[[str], tuple[TrunkRule, ...]]
    """All rules whose networks hold an address, the longest prefix first."""

    def __init__(self, rules: Iterable[TrunkRule]) -> None:
        table: dict[tuple[int, int], dict[int, list[TrunkRule]]] = {}
        for rule in rules:
            for network in dict.fromkeys(rule.networks):
                key = (network.version, network.prefixlen)
                table.setdefault(key, {}).setdefault(int(network.network_address), []).append(rule)
        self._prefixes = sorted(table.items(), key=lambda item: -item[0][1])
        self.match = lru_cache(_CACHED_SOURCES)(self._search)

    def _search(self, host: str) -> tuple[TrunkRule, ...]:
        try:
            address = _address(host)
        except ValueError:
            return ()
        bits = int(address)
        found: dict[str, TrunkRule] = {}
        for (version, length), networks in self._prefixes:
            if version == address.version:
                shift = address.max_prefixlen - length
                for rule in networks.get(bits >> shift << shift, ()):
                    found.setdefault(rule.name, rule)
        return tuple(found.values())


class _Failures:
    """Wrong digests by key, bounded; at ``policy.failures`` within the window the key is locked for a time."""

    __slots__ = ("_entries", "_policy")

    def __init__(self, policy: LockPolicy) -> None:
        self._policy = policy
        self._entries: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def locked(self, key: str, now: float) -> bool:
        count, since = self._entries.get(key, (0, now))
        return count >= self._policy.failures and now - since < self._policy.lock_s

    def add(self, key: str, now: float) -> bool:
        """Count one more for a key that is not locked; True when this one locks it."""
        count, since = self._entries.pop(key, (0, now))
        if count >= self._policy.failures or now - since >= self._policy.window_s:
            count, since = 0, now
        count += 1
        locks = count == self._policy.failures
        self._entries[key] = (count, now if locks else since)
        if len(self._entries) > self._policy.entries:
            self._entries.popitem(last=False)
        return locks


@dataclass(frozen=True, slots=True)
class _Token:
    trunk: str
    valid_until: float | None
    hint: str


class TrunkTable:
    """All trunks, the tokens handed out and the connections registered over; no clock, no I/O.

    ``realm`` is the SIP domain. ``challenger`` issues and checks nonces. Two trunks that claim the same
    network by address alone, or the same digest user, are a ValueError.
    """

    def __init__(
        self,
        rules: Iterable[TrunkRule],
        *,
        realm: str,
        challenger: Challenger,
        counters: Counters,
        locks: LockPolicy | None = None,
    ) -> None:
        rules = tuple(rules)
        _check(rules)
        policy = locks or LockPolicy()
        self._disbelieved = frozenset(rule.name for rule in rules if not rule.asserts_identity)
        self._realm = realm
        self._challenger = challenger
        self._counters = counters
        self._networks = _Networks(rules)
        self._open = tuple(rule for rule in rules if rule.auth == "digest" and not rule.networks)
        self._tokens: dict[bytes, _Token] = {}
        self._connections: dict[int, dict[str, None]] = {}
        self._passes: dict[str, _Pass] = {}
        self._hosts: dict[str, str] = {}
        self._registrars: dict[str, frozenset[str]] = {}
        self._peers: Counter[str] = Counter()
        # Apart, so that made-up user names and forged addresses cannot push a real user's lock out.
        self._user_failures = _Failures(policy)
        self._stranger_failures = _Failures(policy)
        self._source_failures = _Failures(policy)
        self._source_log = SourceLog(_log)
        self._lock_log = SourceLog(_log)

    # what control and the registrations change at run time

    def add_token(self, token: str, trunk: str, valid_until: float | None = None) -> None:
        """Accept ``token`` for ``trunk`` until ``valid_until`` (as ``now``; None: until removed).

        Only its SHA-256 is kept. At least 16 characters, compared without case, which URI parameters lack.
        """
        if len(token) < 16:
            raise ValueError("a Contact token needs at least 16 characters")
        digest = _digest(token)
        self._tokens[digest] = _Token(trunk, valid_until, digest.hex()[:8])

    def remove_token(self, token: str) -> None:
        """Forget ``token``; unknown ones are ignored."""
        self._tokens.pop(_digest(token), None)

    def add_registration(self, flow: Flow, trunk: str) -> None:
        """A registration of ``trunk`` succeeded over ``flow``. Ignored for UDP, whose sources can be forged."""
        if flow.transport is not TransportName.UDP:
            self._connections.setdefault(flow.connection, {})[trunk] = None

    def remove_registration(self, flow: Flow, trunk: str) -> None:
        """The registration of ``trunk`` over ``flow`` ended."""
        trunks = self._connections.get(flow.connection, {})
        trunks.pop(trunk, None)
        if not trunks:
            self._connections.pop(flow.connection, None)

    def connection_closed(self, flow: Flow) -> None:
        """Forget what was registered over a connection that is gone."""
        self._connections.pop(flow.connection, None)

    def add_pass(self, given: DialPass) -> None:
        """Accept one call by this digest user."""
        self._passes[given.username] = _Pass(given)

    def remove_pass(self, username: str) -> None:
        """Forget it; unknown ones are ignored."""
        self._passes.pop(username, None)

    def add_host(self, host: str, trunk: str) -> None:
        """Requests for this host, from networks with a rule of ``auth="host"``, belong to ``trunk``."""
        self._hosts[host.lower()] = trunk

    def remove_host(self, host: str) -> None:
        """Forget it; unknown ones are ignored."""
        self._hosts.pop(host.lower(), None)

    def set_registrars(self, trunk: str, hosts: Iterable[str]) -> None:
        """List the addresses of the registrar that ``trunk`` registers at, in place of those before.

        They are no strangers' then, and select nothing: a call from there shows its token.
        """
        before, after = self._registrars.pop(trunk, frozenset()), frozenset(map(canonical_host, hosts))
        if after:
            self._registrars[trunk] = after
        self._peers.update(after)
        self._peers -= Counter(before)

    def expire(self, now: float) -> None:
        """Drop tokens and passes whose validity has ended (they are refused without this, too)."""
        for key in [key for key, token in self._tokens.items() if _ended(token, now)]:
            del self._tokens[key]
        for username in [name for name, held in self._passes.items() if now >= held.given.valid_until]:
            del self._passes[username]

    # questions

    def listed(self, host: str) -> bool:
        """True for an address of some trunk or registrar: it may be answered, and open more connections."""
        return canonical_host(host) in self._peers or bool(self._networks.match(host))

    def believes(self, trunk: str) -> bool:
        """Whether this trunk's P-Asserted-Identity is to be believed (RFC 3325 §8); a carrier's is."""
        return trunk not in self._disbelieved

    def identify(self, flow: Flow, request: Request, now: float) -> Identified:
        """Whose request this is. For requests outside a dialog only; never for ACK or CANCEL. Never raises."""
        source = canonical_host(flow.remote.host)
        verdict: Identified | None = self._by_registration(flow, request, now)
        verdict = verdict or self._by_token(request, now)
        verdict = verdict or self._by_host(source, request)
        verdict = verdict or self._by_digest(source, request, now)
        verdict = verdict or self._by_address(source)
        self._report(verdict, source, request, now)
        return verdict

    # 1. the registered connection

    def _by_registration(self, flow: Flow, request: Request, now: float) -> Accepted | None:
        trunks = self._connections.get(flow.connection) if flow.connection else None
        if not trunks:
            return None
        if len(trunks) == 1:
            (trunk,) = trunks
        else:
            token = self._token(request, now)
            if token is None or token.trunk not in trunks:
                return None
            trunk = token.trunk
        return Accepted(trunk, Identification.REGISTRATION, f"connection {flow.connection}")

    # 2. the Contact token

    def _by_token(self, request: Request, now: float) -> Accepted | None:
        token = self._token(request, now)
        return Accepted(token.trunk, Identification.TOKEN, f"token #{token.hint}") if token else None

    def _token(self, request: Request, now: float) -> _Token | None:
        if not self._tokens:
            return None
        try:
            presented = request.request_uri.parameter(TOKEN_PARAMETER)
        except ParseError:
            return None
        token = self._tokens.get(_digest(presented)) if presented else None
        return None if token is None or _ended(token, now) else token

    # 2b. the host in the Request-URI: a name of its own for each connection that cannot register or digest

    def _by_host(self, source: str, request: Request) -> Accepted | Refused | None:
        """The bare domain and our address are shared; a name under our domain is its connection's, or nobody's."""
        rule = next(iter(self._networks.match(source)), None)
        if rule is None or rule.auth != "host":
            return None
        try:
            target = request.request_uri
        except ParseError:
            return None
        host = target.host
        trunk = self._hosts.get(host)
        if trunk is None and host.endswith("." + self._realm):
            return Refused(Refusal(404, "no connection has this host name"))
        # All the carrier's customers send from this address: attempts are counted by what they dial.
        return Accepted(trunk or rule.name, Identification.ADDRESS, printable(f"{target.user or ''}@{host}"))

    # 3. the digest user name

    def _by_digest(self, source: str, request: Request, now: float) -> Identified | None:
        listed = self._networks.match(source)
        candidates = tuple(rule for rule in listed if rule.auth in ("digest", "pass")) + self._open
        if not candidates:
            return None
        answer = self._answer(request)
        if answer is None and _decided_by_address(listed):
            return None
        if self._source_failures.locked(source, now):
            return Refused(Refusal(403, "too many wrong credentials from this address"))
        if answer is None or not self._challenger.issued(answer[1], source):
            return self._challenge(candidates, source, now)
        return self._verify(answer[0], candidates, source, request, now)

    def _answer(self, request: Request) -> tuple[str, Authorization] | None:
        """The request's answer to a challenge in our realm; those for other realms are not for us."""
        for value in request.headers.lines("Proxy-Authorization")[:_ANSWERS_READ]:
            try:
                answer = parse_authorization(value)
            except ParseError:
                continue
            if answer.realm == self._realm:
                return value, answer
        return None

    def _challenge(self, candidates: Sequence[TrunkRule], source: str, now: float, *, stale: bool = False) -> Challenge:
        algorithms = dict.fromkeys(name for rule in candidates for name in rule.algorithms)
        values = self._challenger.challenge(self._realm, algorithms, source, now, stale)
        return Challenge(tuple(values), "stale nonce" if stale else "credentials needed")

    def _verify(
        self, answer: str, candidates: Sequence[TrunkRule], source: str, request: Request, now: float
    ) -> Identified:
        """Judge an answer. A locked user is looked up like an unknown one: same code, same time."""
        users = {rule.username: rule for rule in candidates if rule.auth == "digest"}
        locked = False

        def lookup(username: str) -> Credentials | None:
            nonlocal locked
            locked = self._failures(username, users).locked(username, now)
            rule = users.get(username)
            if locked:
                return None
            if rule is not None:
                return Credentials(username, rule.password or "", rule.algorithms)
            return self._pass_credentials(username, candidates, now)

        verdict = self._challenger.verify(answer, request.method, request.body, lookup, source, now)
        if locked:
            return Refused(Refusal(403, "too many wrong credentials for this user"))
        if verdict.accepted and verdict.username in users:
            return Accepted(users[verdict.username].name, Identification.DIGEST, verdict.username)
        if verdict.accepted:
            return self._use_pass(verdict.username, request)
        if verdict.kind is VerdictKind.WRONG:
            self._count_failure(verdict.username, users, source, now)
            return replace(self._challenge(candidates, source, now), reason="wrong credentials")
        return self._challenge(candidates, source, now, stale=verdict.stale)

    def _pass_credentials(self, username: str, candidates: Sequence[TrunkRule], now: float) -> Credentials | None:
        held = self._passes.get(username)
        if held is None or now >= held.given.valid_until:
            return None
        rule = next((rule for rule in candidates if rule.auth == "pass" and rule.name == held.given.trunk), None)
        return Credentials(username, held.given.password, rule.algorithms) if rule else None

    def _use_pass(self, username: str, request: Request) -> Identified:
        """The digest is right: the header must be too, and the pass is now this Call-ID's alone."""
        held = self._passes[username]
        name, wanted = held.given.header
        if not hmac.compare_digest((request.headers.get(name) or "").encode("utf-8", "replace"), wanted.encode()):
            return Refused(Refusal(403, "the call's token is missing or wrong"))
        call_id = request.headers.get("Call-ID")
        if call_id is None:
            return Refused(Refusal(400, "no Call-ID"))
        if held.call_id not in (None, call_id):
            return Refused(Refusal(403, "the call's credentials have been used"))
        held.call_id = call_id
        return Accepted(held.given.trunk, Identification.DIGEST, username)

    def _failures(self, username: str, users: Container[str | None]) -> _Failures:
        return self._user_failures if username in users else self._stranger_failures

    def _count_failure(self, username: str, users: Container[str | None], source: str, now: float) -> None:
        if self._failures(username, users).add(username, now):
            self._lock_log.write(logging.WARNING, "digest user locked", username, now, address=source)
        shared = any(rule.shared_addresses for rule in self._networks.match(source))
        if not shared and self._source_failures.add(source, now):
            self._lock_log.write(logging.WARNING, "digest source locked", source, now)

    # 4. the address

    def _by_address(self, source: str) -> Identified:
        listed = self._networks.match(source)
        for rule in listed:
            if rule.auth == "address":
                return Accepted(rule.name, Identification.ADDRESS, source)
        if listed or source in self._peers:
            return Refused(Refusal(403, "the address alone selects no trunk here"))
        return Silent("unlisted source")

    # what everybody may see of it

    def _report(self, verdict: Identified, source: str, request: Request, now: float) -> None:
        if isinstance(verdict, Accepted):
            self._counters.add("trunk_verdicts", source=source, verdict="accepted", by=verdict.identified_by.value)
            return
        kind = type(verdict).__name__.lower()
        reason = verdict.refusal.reason if isinstance(verdict, Refused) else verdict.reason
        self._counters.add("trunk_verdicts", source=source, verdict=kind, by=reason)
        if not isinstance(verdict, Challenge):
            self._source_log.write(logging.WARNING, kind, source, now, method=request.method, reason=reason)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.casefold().encode("utf-8", "replace")).digest()


def _ended(token: _Token, now: float) -> bool:
    return token.valid_until is not None and now >= token.valid_until


def _decided_by_address(listed: Sequence[TrunkRule]) -> bool:
    """Without credentials, the longest prefix decides between address and challenge."""
    deciding = next((rule for rule in listed if rule.auth != "registration"), None)
    return deciding is not None and deciding.auth == "address"


def _check(rules: Sequence[TrunkRule]) -> None:
    names: set[str] = set()
    users: dict[str | None, str] = {}
    claims: dict[Network, str] = {}
    for rule in rules:
        if rule.name in names:
            raise ValueError(f"two trunks named {rule.name}")
        names.add(rule.name)
        if rule.auth == "digest" and users.setdefault(rule.username, rule.name) != rule.name:
            raise ValueError(f"trunks {users[rule.username]} and {rule.name} have the same digest user name")
        for network in rule.networks if rule.auth == "address" else ():
            if claims.setdefault(network, rule.name) != rule.name:
                raise ValueError(f"trunks {claims[network]} and {rule.name} both claim {network} by address")
