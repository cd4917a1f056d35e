"""The way out for a number of an account: its carrier's, by SIP or by REST, and the INVITE that goes there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from config.carriers import carriers
from config.settings import Settings, Trunk, parse_proxy
from control.hops import HEADER as HOPS_HEADER
from control.registrations import specification, stand_in
from control.registry.types import SUBACCOUNT, Connection, NotFound, Number, Registry
from control.toll import Destination
from edge.events import OutgoingCall, TransportName
from edge.uri import format_host

__all__ = ["Dialler", "Invitation", "NoWay", "Way"]

_ANONYMOUS: Final = "sip:anonymous@anonymous.invalid"


class NoWay(Exception):
    """The number takes calls, but none can be placed from it; the text says why."""


@dataclass(frozen=True, slots=True)
class Way:
    """Where a number's calls go out.

    ``host`` is that of the URIs of people called there, ``next_hop`` where the INVITE goes if not there.
    ``refers``: REFER is tried for transfers, where the peer takes it; ``dials``: calls can be placed. Twilio has no
    SIP way: ``account_sid`` and ``auth_token`` are for its REST.
    """

    carrier: Literal["static", "telnyx", "twilio"]
    trunk: str
    host: str = ""
    next_hop: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    realm: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    refers: bool = False
    dials: bool = True
    account_sid: str = ""
    auth_token: str = field(default="", repr=False)

    def uri(self, destination: Destination) -> str:
        """Of somebody called this way."""
        return destination.target if destination.kind == "sip" else f"sip:{destination.target}@{self.host}"


@dataclass(frozen=True, slots=True)
class Invitation:
    """What one INVITE is to say. ``hops`` and ``max_forwards`` as in :mod:`control.hops` and RFC 3261 §20.22."""

    destination: Destination
    from_number: str
    sdp: bytes
    call_id: str
    hops: int = 1
    max_forwards: int = 70
    hidden: bool = False
    diverted_from: str | None = None


class Dialler:
    """Finds ways. ``domain`` is that of our own URIs, ``transports`` what the edge listens on by now."""

    def __init__(
        self, registry: Registry, settings: Settings, transports: Callable[[], frozenset[TransportName]]
    ) -> None:
        self._registry = registry
        self._trunks: Mapping[str, Trunk] = {trunk.name: trunk for trunk in settings.trunks}
        self._providers = settings.providers
        self._domain = settings.sip.domain
        self._transports = transports

    async def way(self, number: Number) -> Way:
        """Raises :class:`NoWay`, or what the registry raises."""
        match number.provider:
            case "twilio":
                return await self._twilio(number)
            case "telnyx":
                return await self._telnyx(number)
            case _:
                return self._static(number)

    def _static(self, number: Number) -> Way:
        trunk = self._trunks.get(number.trunk)
        if trunk is not None and trunk.outbound is None and trunk.transfer == "refer":
            return Way("static", trunk.name, refers=True, dials=False)
        if trunk is None or trunk.outbound is None:
            raise NoWay(f"the trunk {number.trunk} has no address to call at (trunks.outbound)")
        transport, host, port = parse_proxy(trunk.outbound)
        place = f"{format_host(host)}:{port}" + ("" if transport == "udp" else f";transport={transport}")
        password = trunk.outbound_password or trunk.password
        return Way(
            "static",
            trunk.name,
            host=place,
            username=trunk.outbound_username or trunk.username,
            password=password.get_secret_value() if password is not None else None,
            refers=trunk.transfer == "refer",
        )

    async def _telnyx(self, number: Number) -> Way:
        try:
            known = await self._registry.connection(
                number.account_id, number.provider, number.provider_connection_id or ""
            )
        except NotFound as error:
            raise NoWay("the number's connection at Telnyx is not known any more") from error
        return self._of_connection(known, number.trunk)

    def _of_connection(self, connection: Connection, trunk: str) -> Way:
        """By its user name; an FQDN or IP connection is known to Telnyx by our address."""
        carrier, proxy = carriers()["telnyx"], self._providers.telnyx_sip_proxy
        refers = self._providers.telnyx_transfer == "refer"
        known = specification(connection, carrier, proxy=proxy, transports=self._transports())
        if known is None:
            if connection.kind == "credential":
                raise NoWay("the connection's SIP password is not known: save it, or import the number again with it")
            registrar = connection.proxy or carrier.proxies[0].host
            next_hop = stand_in(proxy) if proxy is not None else None
            return Way("telnyx", trunk, host=registrar, next_hop=next_hop, refers=refers)
        return Way(
            "telnyx",
            trunk,
            host=known.registrar.removeprefix("sip:"),
            next_hop=known.next_hop,
            username=known.username,
            password=known.password,
            realm=known.realm,
            headers=(("X-Telnyx-Username", known.username),),
            refers=refers,
        )

    async def _twilio(self, number: Number) -> Way:
        sid = number.provider_account_sid or ""
        try:
            integration = await self._registry.integration(number.account_id, "twilio")
        except NotFound as error:
            raise NoWay("no Twilio credentials are saved") from error
        own = integration.public.get("account_sid") == sid
        token = integration.secrets.get("auth_token" if own else SUBACCOUNT + sid)
        if not token:
            raise NoWay(f"the Auth Token of the Twilio account {sid} is not known")
        return Way("twilio", number.trunk, refers=True, account_sid=sid, auth_token=token)

    def invite(self, way: Way, given: Invitation) -> OutgoingCall:
        """The INVITE. A SIP URI is called at its own place, without the carrier's credentials."""
        headers = [(HOPS_HEADER, str(given.hops))]
        if given.destination.kind == "sip":
            return OutgoingCall(
                target=given.destination.target,
                from_uri=f"sip:{given.from_number}@{self._domain}",
                body=given.sdp,
                trunk=way.trunk,
                headers=tuple(headers),
                call_id=given.call_id,
                max_forwards=given.max_forwards,
            )
        host = way.host.partition(";")[0]
        own = f"sip:{given.from_number}@{host}"
        headers += [*way.headers, ("P-Asserted-Identity", f"<{own}>")]
        if given.diverted_from is not None:
            headers.append(("Diversion", f"<sip:{given.diverted_from}@{host}>;reason=unconditional"))
        if given.hidden:
            headers.append(("Privacy", "id"))
        return OutgoingCall(
            target=way.uri(given.destination),
            from_uri=_ANONYMOUS if given.hidden else own,
            from_name="Anonymous" if given.hidden else "",
            body=given.sdp,
            next_hop=way.next_hop,
            username=way.username,
            password=way.password,
            realm=way.realm,
            trunk=way.trunk,
            headers=tuple(headers),
            call_id=given.call_id,
            max_forwards=given.max_forwards,
        )
