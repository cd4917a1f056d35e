"""Keeps each credential connection registered at its carrier, and the host names of the others known.

The engine refreshes, fails over and backs off by itself (:mod:`edge.registration`); here is decided when a
registration begins, ends or gives way to another, and what is told of it: a state, counters, one log line for
each failure.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final, get_args

from config.carriers import Carrier, Proxy, carriers
from config.settings import parse_proxy
from control.metrics import Readings
from control.readiness import RegistrationState
from control.registry.types import Connection, Registry
from edge.counters import Counters, printable
from edge.endpoint import Endpoint
from edge.events import Event, Registered, RegistrationFailed, RegistrationSpec, TransportName
from edge.uri import format_host

__all__ = [
    "CLOSE_S",
    "EXPIRES_S",
    "STARTS_PER_S",
    "Registrations",
    "specification",
    "stand_in",
]


EXPIRES_S: Final = 600
"""What is asked for [s]; the carrier grants what it likes. Over UDP the next refresh is the first to notice a
registrar that has died or forgotten us, so an hour would be too long."""

STARTS_PER_S: Final = 20
"""Registrations begun a second when the process starts: what a carrier takes from one address."""

CLOSE_S: Final = 3.0
"""How long the end waits for registrars to confirm [s]. A binding that stays runs out by itself."""

_CARRIER: Final = "telnyx"
_PREFERENCE: Final = (TransportName.TLS, TransportName.TCP, TransportName.UDP)

log = logging.getLogger("truedy.registrations")


def specification(
    connection: Connection, carrier: Carrier, *, proxy: str | None, transports: frozenset[TransportName]
) -> RegistrationSpec | None:
    """What to register for a credential connection; None without its user name or password.

    ``proxy`` (``udp:HOST:PORT``) stands in for where its region's registrar is, not for the registrar's name.
    ``transports`` are those the edge listens on: the carrier calls back by the one it was registered with, so
    it has to be one of them; TLS goes before TCP before UDP.
    """
    password = connection.secrets.get("sip_password")
    if not connection.user_name or not password:
        return None
    registrar = _registrar(connection, carrier)
    return RegistrationSpec(
        name=_name(connection.id),
        registrar=f"sip:{registrar.host}",
        address_of_record=f"sip:{connection.user_name}@{registrar.host}",
        username=connection.user_name,
        password=password,
        contact_user=connection.user_name,
        next_hop=stand_in(proxy) if proxy is not None else _next_hop(registrar, carrier, transports),
        expires_s=EXPIRES_S,
        realm=registrar.realm if proxy is None else None,
        with_token=True,
    )


def _registrar(connection: Connection, carrier: Carrier) -> Proxy:
    """The connection's own, else the carrier's first."""
    if connection.proxy is None:
        return carrier.proxies[0]
    known = (proxy for proxy in carrier.proxies if proxy.host == connection.proxy)
    return next(known, Proxy(region="", host=connection.proxy))


def stand_in(proxy: str) -> str:
    """``udp:HOST:PORT`` as a URI to send to."""
    transport, host, port = parse_proxy(proxy)
    return f"sip:{format_host(host)}:{port};transport={transport}"


def _next_hop(registrar: Proxy, carrier: Carrier, transports: frozenset[TransportName]) -> str:
    usable = (name for name in _PREFERENCE if name in transports and name.value in carrier.transports)
    transport = next(usable, None)
    return f"sip:{registrar.host}" + (f";transport={transport.value}" if transport else "")


@dataclass(slots=True)
class _Kept:
    """One connection's registration: what it should be, and what the engine was last told.

    ``removing``: the engine is at it, and all else waits. ``early``: readiness waits for its first answer.
    ``others``: bindings of other devices, when last heard.
    """

    wanted: RegistrationSpec | None = None
    told: RegistrationSpec | None = None
    removing: bool = False
    state: RegistrationState = "pending"
    early: bool = False
    others: int = 0


class Registrations:
    """All of them. Satisfies :class:`control.providers.Connections`; :meth:`start` and :meth:`close` alone wait.

    ``run`` gives the engine a command with the time (:meth:`edge.transport.shell.SipTransport.run`). The engine's
    listeners have to be bound before :meth:`start`: their ports are in the Contacts. Next: hand every event to
    :meth:`on_event`, and ``await close()`` when calls are no longer wanted.
    """

    def __init__(
        self,
        engine: Endpoint,
        run: Callable[[Callable[[float], None]], None],
        counters: Counters,
        *,
        proxy: str | None = None,
    ) -> None:
        """``proxy`` is ``providers.telnyx_sip_proxy``."""
        self._engine = engine
        self._run = run
        self._counters = counters
        self._proxy = proxy
        self._carrier = carriers()[_CARRIER]
        self._kept: dict[str, _Kept] = {}
        self._hosts: dict[str, str] = {}
        self._encrypted: set[str] = set()
        self._closing = False
        self._empty = asyncio.Event()

    # --- life ---

    async def start(self, registry: Registry) -> None:
        """Register what the registry has, no faster than :data:`STARTS_PER_S`. Raises RegistryError."""
        for connection in await _latest(registry):
            self._keep(connection, early=True, delay_s=len(self._kept) / STARTS_PER_S)

    async def refresh(self, registry: Registry) -> None:
        """Be as the registry has it, whatever was missed. Raises RegistryError."""
        found = await _latest(registry)
        for connection in found:
            self.changed(connection)
        known = {name.partition(":")[2] for name in self._kept} | self._hosts.keys() | self._encrypted
        for connection_id in known - {connection.id for connection in found}:
            self.removed(connection_id)

    async def close(self, timeout_s: float = CLOSE_S) -> None:
        """Unregister everything, so that no more calls are sent here; waits ``timeout_s`` at most."""
        self._closing = True
        for name in tuple(self._kept):
            self._want(name, None)
        if not self._kept:
            return
        self._empty.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        except TimeoutError:
            log.warning("registrations are left to run out", extra={"registrations": sorted(self._kept)})

    # --- what control tells ---

    def changed(self, connection: Connection) -> None:
        """A connection is new, or not what it was."""
        if connection.provider == _CARRIER and not self._closing:
            self._keep(connection)

    def encrypted(self, connection_id: str) -> bool:
        """The carrier insists on SRTP for its calls."""
        return connection_id in self._encrypted

    def removed(self, connection_id: str) -> None:
        """No number hangs on it any more."""
        self._encrypted.discard(connection_id)
        if (host := self._hosts.pop(connection_id, None)) is not None:
            self._engine.trunks.remove_host(host)
        self._want(_name(connection_id), None)

    def _keep(self, connection: Connection, *, early: bool = False, delay_s: float = 0.0) -> None:
        self._know_host(connection)
        (self._encrypted.add if connection.encrypted_media else self._encrypted.discard)(connection.id)
        name, wanted = _name(connection.id), None
        if connection.kind == "credential":
            transports = frozenset(transport for transport, _ in self._engine.settings.listeners)
            wanted = specification(connection, self._carrier, proxy=self._proxy, transports=transports)
            if wanted is None:
                self._tell_failure(name, 0, "no user name or no password is known", None)
        self._want(name, wanted, early=early, delay_s=delay_s)

    def _know_host(self, connection: Connection) -> None:
        """Calls to a connection's own host name are its trunk's; which one that is, its numbers say."""
        before = self._hosts.pop(connection.id, None)
        if before not in (None, connection.host):
            self._engine.trunks.remove_host(str(before))
        if connection.host is not None and connection.kind != "credential":
            self._hosts[connection.id] = connection.host
            self._engine.trunks.add_host(connection.host, connection.trunk)

    # --- what is wanted, step by step ---

    def _want(self, name: str, wanted: RegistrationSpec | None, *, early: bool = False, delay_s: float = 0.0) -> None:
        kept = self._kept.get(name)
        if kept is None:
            if wanted is None:
                return
            kept = self._kept[name] = _Kept(early=early)
        kept.wanted = wanted
        self._reconcile(name, kept, delay_s)

    def _reconcile(self, name: str, kept: _Kept, delay_s: float = 0.0) -> None:
        """Go on towards what is wanted. A standing registration is removed first, as it was made.

        The command comes last: its events may be here before it returns.
        """
        wanted = kept.wanted
        if kept.told is None and wanted is None:
            self._forget(name)
        elif kept.removing or kept.told == wanted:
            return
        elif kept.told is not None and (wanted is None or kept.state == "registered"):
            kept.removing = True
            self._run(lambda now: self._engine.unregister(name, now=now))
        elif wanted is not None:
            kept.told, kept.state = wanted, "pending"
            spec = replace(wanted, delay_s=delay_s)
            self._run(lambda now: self._engine.register(spec, now=now))

    def _forget(self, name: str) -> None:
        del self._kept[name]
        if not self._kept:
            self._empty.set()

    # --- what the engine tells ---

    def on_event(self, event: Event) -> None:
        """Takes what is about registrations, and ignores the rest."""
        match event:
            case Registered(name) if (kept := self._kept.get(name)) is not None:
                self._on_registered(event, kept)
            case RegistrationFailed(name) if (kept := self._kept.get(name)) is not None:
                self._on_failed(event, kept)

    def _on_registered(self, event: Registered, kept: _Kept) -> None:
        if kept.removing:
            log.info("unregistered", extra={"trunk": event.name})
            self._on_removed(event.name, kept)
        elif event.expires_s == 0:
            self._on_failed(RegistrationFailed(event.name, 200, "granted no time", None), kept)
        else:
            if kept.state != "registered":
                log.info("registered", extra={"trunk": event.name, "expires_s": event.expires_s})
            kept.state, kept.early = "registered", False
            self._compare_others(event, kept)

    def _compare_others(self, event: Registered, kept: _Kept) -> None:
        """Some other device shares the user: the carrier may ring it instead of us, or drop one of the two."""
        if event.others > kept.others:
            self._counters.add("registrations_shared", trunk=event.name)
            log.warning("others are registered as the same user", extra={"trunk": event.name, "others": event.others})
        kept.others = event.others

    def _on_failed(self, event: RegistrationFailed, kept: _Kept) -> None:
        self._tell_failure(event.name, event.status, event.phrase, event.retry_in_s)
        if kept.removing:
            self._on_removed(event.name, kept)
        else:
            kept.state, kept.early = "failed", False

    def _on_removed(self, name: str, kept: _Kept) -> None:
        """Done, or given up: what is left runs out by itself."""
        kept.told, kept.removing = None, False
        self._reconcile(name, kept)

    def _tell_failure(self, name: str, status: int, reason: str, retry_in_s: float | None) -> None:
        self._counters.add("registration_failures", trunk=name, status=str(status), reason=reason)
        fields = {"trunk": name, "sip_status": status, "reason": printable(reason), "retry_in_s": retry_in_s}
        log.warning("not registered", extra=fields)

    # --- what others ask ---

    @property
    def states(self) -> Mapping[str, RegistrationState]:
        """By trunk, for readiness. One that was added later shows once it has been answered: the rest is ready."""
        wanted = ((name, kept) for name, kept in self._kept.items() if kept.wanted is not None)
        return {name: kept.state for name, kept in wanted if kept.early or kept.state != "pending"}

    def readings(self) -> Readings:
        """How many are in each state."""
        counts = Counter(kept.state for kept in self._kept.values())
        return {"registrations": {(("state", state),): counts[state] for state in get_args(RegistrationState)}}


async def _latest(registry: Registry) -> Collection[Connection]:
    """Of each connection the newest row, since two accounts may hold one."""
    found = sorted(await registry.connections(_CARRIER), key=lambda connection: connection.updated_at)
    return {connection.id: connection for connection in found}.values()


def _name(connection_id: str) -> str:
    return f"{_CARRIER}:{connection_id}"
