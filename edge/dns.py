"""Where to send a request: RFC 3263 over NAPTR, SRV, A and AAAA records.

The order of targets is computed by functions of the records alone (:func:`order_services`,
:func:`order_servers`); :class:`SipResolver` asks for the records and caches them; :class:`DnsRecords` gets
them from the system's hosts file and, with dnspython, from the system's name servers.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from edge.actions import Resolve, Target
from edge.counters import SourceLog
from edge.events import Address, TransportName

if TYPE_CHECKING:  # dnspython takes long to import: the first name that is asked for waits for it, no start does
    import dns.asyncresolver
    import dns.name
    import dns.resolver

__all__ = [
    "Answer",
    "DnsRecords",
    "Kind",
    "LookupFailed",
    "Naptr",
    "Records",
    "Resolver",
    "ResolverLimits",
    "SipResolver",
    "Srv",
    "default_port",
    "order_servers",
    "order_services",
    "parse_hosts",
    "system_resolver",
]

T = TypeVar("T")

_log = logging.getLogger(__name__)

MAX_TARGETS: Final = 16
_MAX_SERVERS: Final = 8
_NO_SUCH_NAME_S: Final = 60.0
_HOSTS_TTL_S: Final = 5.0
_SERVICES: Final[Mapping[str, TransportName]] = {
    "sip+d2u": TransportName.UDP,
    "sip+d2t": TransportName.TCP,
    "sips+d2t": TransportName.TLS,
}
_PREFIXES: Final[Mapping[TransportName, str]] = {
    TransportName.UDP: "_sip._udp.",
    TransportName.TCP: "_sip._tcp.",
    TransportName.TLS: "_sips._tcp.",
}


class Resolver(Protocol):
    """What the shell needs: targets in the order to try them; an empty tuple is a failure. Never raises."""

    async def resolve(self, query: Resolve) -> tuple[Target, ...]: ...


class Kind(Enum):
    """Record types asked for."""

    NAPTR = "NAPTR"
    SRV = "SRV"
    A = "A"
    AAAA = "AAAA"


@dataclass(frozen=True, slots=True)
class Naptr:
    """RFC 3403 §4, the fields RFC 3263 uses."""

    order: int
    preference: int
    flags: str
    service: str
    replacement: str


@dataclass(frozen=True, slots=True)
class Srv:
    """RFC 2782; ``target`` "." (here empty) says that there is no such service."""

    priority: int
    weight: int
    port: int
    target: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The records of one name and type, none if there are none, good for ``ttl_s`` [s]."""

    ttl_s: float
    naptr: tuple[Naptr, ...] = ()
    srv: tuple[Srv, ...] = ()
    addresses: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """True when the name has no such records."""
        return not (self.naptr or self.srv or self.addresses)


class LookupFailed(Exception):
    """No answer, as opposed to the answer that there is nothing: a time-out, a server failure, an unusable name."""


class Records(Protocol):
    """A source of records. Raises :class:`LookupFailed`."""

    async def lookup(self, name: str, kind: Kind) -> Answer: ...


def default_port(transport: TransportName) -> int:
    """RFC 3261 §19.1.2."""
    return 5061 if transport is TransportName.TLS else 5060


def order_services(records: Iterable[Naptr], usable: Iterable[TransportName]) -> list[tuple[TransportName, str]]:
    """The (transport, SRV name) pairs of a name's NAPTR records in the order to try (RFC 3263 §4.1)."""
    wanted = frozenset(usable)
    ordered: dict[tuple[TransportName, str], None] = {}
    for record in sorted(records, key=lambda record: (record.order, record.preference)):
        transport = _SERVICES.get(record.service.lower())
        if transport in wanted and record.flags.lower() == "s" and record.replacement:
            ordered[transport, record.replacement] = None
    return list(ordered)


def order_servers(records: Iterable[Srv], entropy: Callable[[int], bytes]) -> list[Srv]:
    """RFC 2782: by priority; within one, drawn by weight, those of weight 0 having a small chance."""
    ordered: list[Srv] = []
    by_priority: dict[int, list[Srv]] = {}
    for record in records:
        by_priority.setdefault(record.priority, []).append(record)
    for _, group in sorted(by_priority.items()):
        waiting = sorted(group, key=lambda record: (record.weight, record.target, record.port))
        while waiting:
            ordered.append(waiting.pop(_draw([record.weight for record in waiting], entropy)))
    return ordered


def _draw(weights: Sequence[int], entropy: Callable[[int], bytes]) -> int:
    mark = int.from_bytes(entropy(8), "big") % (sum(weights) + 1)
    for index, weight in enumerate(weights):
        mark -= weight
        if mark <= 0:
            return index
    return len(weights) - 1


def parse_hosts(text: str) -> dict[str, tuple[str, ...]]:
    """A hosts file (hosts(5)): lower-case name → addresses in the file's order; unreadable lines are skipped."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        if _is_address(address):
            for name in names:
                found.setdefault(name.lower().rstrip("."), []).append(address)
    return {name: tuple(dict.fromkeys(addresses)) for name, addresses in found.items()}


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class ResolverLimits:
    """Times in seconds. ``total_s`` bounds one resolution, whatever the servers do.

    A failed look-up is remembered for ``failure_s``. When the servers are dead, answers up to ``stale_s``
    past their time are used (RFC 8767). ``max_ttl_s``, and for "no such records" ``max_negative_ttl_s``,
    bound how long an answer counts as fresh, ``entries`` how many are kept.
    """

    total_s: float = 8.0
    failure_s: float = 5.0
    min_ttl_s: float = 1.0
    max_ttl_s: float = 3600.0
    max_negative_ttl_s: float = 300.0
    stale_s: float = 86_400.0
    entries: int = 2048


@dataclass(frozen=True, slots=True)
class _Cached:
    answer: Answer | None
    fresh_until: float


@dataclass(slots=True)
class _Cache:
    """Answers by name and type, the least recently used out first; ``answer`` None marks a failure."""

    limits: ResolverLimits
    entries: OrderedDict[tuple[str, Kind], _Cached] = field(default_factory=OrderedDict)

    def fresh(self, key: tuple[str, Kind], now: float) -> _Cached | None:
        cached = self.entries.get(key)
        if cached is None or now >= cached.fresh_until:
            return None
        self.entries.move_to_end(key)
        return cached

    def stale(self, key: tuple[str, Kind], now: float) -> Answer | None:
        cached = self.entries.get(key)
        return cached.answer if cached is not None and now < cached.fresh_until + self.limits.stale_s else None

    def keep(self, key: tuple[str, Kind], answer: Answer | None, now: float) -> None:
        self.entries[key] = _Cached(answer, now + self._lifetime_s(answer))
        self.entries.move_to_end(key)
        if len(self.entries) > self.limits.entries:
            self.entries.popitem(last=False)

    def _lifetime_s(self, answer: Answer | None) -> float:
        if answer is None:
            return self.limits.failure_s
        longest_s = self.limits.max_negative_ttl_s if answer.empty else self.limits.max_ttl_s
        return min(max(answer.ttl_s, self.limits.min_ttl_s), longest_s)


class SipResolver:
    """RFC 3263 §4 over any source of records.

    ``usable``: the transports this edge can send over, in its own order of preference, which counts where
    the records give none. ``clock`` [s] defaults to the running loop's.
    """

    def __init__(
        self,
        records: Records,
        *,
        entropy: Callable[[int], bytes],
        usable: Sequence[TransportName] = (TransportName.UDP, TransportName.TCP, TransportName.TLS),
        limits: ResolverLimits | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._records = records
        self._entropy = entropy
        self._usable = tuple(usable)
        self._limits = limits or ResolverLimits()
        self._clock = clock
        self._cache = _Cache(self._limits)
        self._log = SourceLog(_log)

    async def resolve(self, query: Resolve) -> tuple[Target, ...]:
        """Targets in the order to try them, at most 16; empty when there are none in ``total_s``. Never raises."""
        try:
            async with asyncio.timeout(self._limits.total_s):
                targets = await self._targets(query)
        except TimeoutError:
            targets = []
        if not targets:
            self._log.write(logging.WARNING, "no targets", query.host, self._now())
        return tuple(dict.fromkeys(targets))[:MAX_TARGETS]

    # RFC 3263 §4.1: which transport

    async def _targets(self, query: Resolve) -> list[Target]:
        host = query.host.lower().rstrip(".").strip("[]")
        transports = self._transports(query)
        if not host or not transports:
            return []
        if _is_address(host) or query.port is not None:
            return await self._addressed(host, query.port, transports[0], host)
        if query.transport is None:
            services = order_services((await self._answer(host, Kind.NAPTR)).naptr, transports)
            found = await self._served(services, host)
            if found is not None:
                return found
        found = await self._served([(transport, _PREFIXES[transport] + host) for transport in transports], host)
        return await self._addressed(host, None, transports[0], host) if found is None else found

    def _transports(self, query: Resolve) -> list[TransportName]:
        """Those the URI allows (``sips``: only TLS, and TCP there means TLS: RFC 3261 §26.2.2)."""
        wanted = query.transport
        if query.secure:
            allowed = {TransportName.TLS} if wanted is not TransportName.UDP else set()
        else:
            allowed = {wanted} if wanted is not None else set(TransportName)
        return [transport for transport in self._usable if transport in allowed]

    # RFC 3263 §4.2: which address and port

    async def _served(self, services: Sequence[tuple[TransportName, str]], domain: str) -> list[Target] | None:
        """All servers of these SRV names, one service's before the next one's; None when there are no records."""
        answers = await _together(self._answer(name, Kind.SRV) for _, name in services)
        if all(answer.empty for answer in answers):
            return None
        servers = [
            (transport, record)
            for (transport, _), answer in zip(services, answers, strict=True)
            for record in order_servers(answer.srv, self._entropy)
            if record.target
        ]
        found = await _together(
            self._addressed(record.target, record.port, transport, domain)
            for transport, record in servers[:_MAX_SERVERS]
        )
        return [target for targets in found for target in targets]

    async def _addressed(self, host: str, port: int | None, transport: TransportName, domain: str) -> list[Target]:
        """``domain`` is what a certificate must match: the name in the URI, not what SRV made of it (RFC 5922 §4)."""
        addresses: Sequence[str] = (host,) if _is_address(host) else await self._addresses(host)
        return [
            Target(
                transport,
                Address(address, default_port(transport) if port is None else port),
                domain if transport is TransportName.TLS else None,
            )
            for address in addresses
        ]

    async def _addresses(self, host: str) -> list[str]:
        """IPv4 first: what both carriers have, and what a host without IPv6 routes can reach."""
        answers = await _together(self._answer(host, kind) for kind in (Kind.A, Kind.AAAA))
        return [address for answer in answers for address in answer.addresses]

    # records

    async def _answer(self, name: str, kind: Kind) -> Answer:
        """From the cache, else the source; a failure is an empty answer, or a stale one if there is one."""
        key = (name, kind)
        cached = self._cache.fresh(key, self._now())
        if cached is not None:
            return cached.answer or Answer(0.0)
        try:
            answer = await self._records.lookup(name, kind)
        except LookupFailed as error:
            self._log.write(logging.WARNING, "lookup failed", name, self._now(), kind=kind.value, reason=str(error))
            return self._instead(key)
        self._cache.keep(key, answer, self._now())
        return answer

    def _instead(self, key: tuple[str, Kind]) -> Answer:
        now = self._now()
        stale = self._cache.stale(key, now)
        if stale is None:
            self._cache.keep(key, None, now)
        return stale or Answer(0.0)

    def _now(self) -> float:
        return self._clock() if self._clock is not None else asyncio.get_running_loop().time()


async def _together(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work) for work in works]
    return [task.result() for task in tasks]


def system_resolver(entropy: Callable[[int], bytes], usable: Sequence[TransportName]) -> SipResolver:
    """The host's own hosts file and name servers. Without any name server only the hosts file answers."""
    return SipResolver(DnsRecords(), entropy=entropy, usable=usable)


def _system_servers() -> dns.asyncresolver.Resolver:
    import dns.asyncresolver  # noqa: PLC0415

    try:
        return dns.asyncresolver.Resolver()
    except dns.resolver.NoResolverConfiguration:
        _log.warning("no name servers configured; only the hosts file is used")
        return dns.asyncresolver.Resolver(configure=False)


class DnsRecords:
    """Records from the hosts file, then from name servers through dnspython, which looks at no hosts file.

    No call blocks: the C library's resolver, which needs threads and minutes when a server is dead, is not
    used. ``localhost`` is always this host (RFC 6761 §6.3). A name the hosts file knows has no other records,
    so that it works without any name server. Names without a dot follow the search list.
    """

    def __init__(
        self,
        resolver: dns.asyncresolver.Resolver | None = None,
        *,
        hosts: Path | None = Path("/etc/hosts"),
        try_s: float = 1.0,
        lifetime_s: float = 2.0,
    ) -> None:
        """``resolver`` None: the system's, when first needed. ``try_s`` for a server, ``lifetime_s`` in all [s]."""
        self._resolver = resolver
        self._try_s, self._lifetime_s = try_s, lifetime_s
        self._hosts = _Hosts(hosts)

    async def lookup(self, name: str, kind: Kind) -> Answer:
        """Raises :class:`LookupFailed`."""
        known = self._hosts.addresses(_host_of(name), kind)
        if known is not None:
            return Answer(_HOSTS_TTL_S, addresses=known)
        if self._resolver is None:
            self._resolver = await asyncio.to_thread(_system_servers)
        import dns.exception  # noqa: PLC0415
        import dns.resolver  # noqa: PLC0415

        resolver, search = self._resolver, kind in (Kind.A, Kind.AAAA)
        resolver.timeout, resolver.lifetime = self._try_s, self._lifetime_s
        try:
            answer = await resolver.resolve(name, kind.value, raise_on_no_answer=False, search=search)
        except dns.resolver.NXDOMAIN:
            return Answer(_NO_SUCH_NAME_S)
        except (dns.exception.DNSException, OSError, ValueError) as error:  # ValueError: a name IDNA refuses
            raise LookupFailed(type(error).__name__) from error
        return _answer(answer, kind)


def _answer(answer: dns.resolver.Answer, kind: Kind) -> Answer:
    ttl_s = max(0.0, float(answer.chaining_result.minimum_ttl))
    rows = tuple(answer.rrset or ())
    if kind is Kind.NAPTR:
        return Answer(ttl_s, naptr=tuple(_naptr(row) for row in rows))
    if kind is Kind.SRV:
        return Answer(ttl_s, srv=tuple(Srv(row.priority, row.weight, row.port, _name(row.target)) for row in rows))
    return Answer(ttl_s, addresses=tuple(str(row.address) for row in rows))


def _naptr(row: Any) -> Naptr:
    return Naptr(row.order, row.preference, row.flags.decode(), row.service.decode(), _name(row.replacement))


def _name(name: dns.name.Name) -> str:
    """Without the final dot; the root, which stands for "none", is empty."""
    return name.to_text(omit_final_dot=True).removesuffix(".").lower()


def _host_of(name: str) -> str:
    """``_sip._udp.pbx`` → ``pbx``."""
    while name.startswith("_"):
        name = name.partition(".")[2]
    return name


class _Hosts:
    """The hosts file, read again when it has changed."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._names: dict[str, tuple[str, ...]] = {}

    def addresses(self, name: str, kind: Kind) -> tuple[str, ...] | None:
        """The name's addresses of one family, none for another kind; None when the file lacks the name."""
        name = name.lower().rstrip(".")
        if name == "localhost" or name.endswith(".localhost"):
            known: tuple[str, ...] | None = ("127.0.0.1", "::1")
        else:
            self._refresh()
            known = self._names.get(name)
        if known is None:
            return None
        return tuple(address for address in known if kind is (Kind.AAAA if ":" in address else Kind.A))

    def _refresh(self) -> None:
        if self._path is None:
            return
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_size)
            if stamp != self._stamp:
                self._names = parse_hosts(self._path.read_text(encoding="utf-8", errors="replace"))
                self._stamp = stamp
        except OSError:
            self._names, self._stamp = {}, None
