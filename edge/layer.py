"""The transaction layer (RFC 3261 §17) and the engine's dealings with transport (§18).

Keeps every transaction, finds the one a message belongs to, chooses listener, Via and Contact, and turns
what is to be sent into actions. It knows no calls: see :mod:`edge.session` and :mod:`edge.endpoint`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from edge.actions import Action, Dispatch, Resolve, Target, Transmit
from edge.events import Address, Flow, TransportName
from edge.headers import is_token
from edge.ladder import TraceEntry, trace_entry
from edge.message import Request, Response, SipUri
from edge.timers import Timer, Timers
from edge.transaction import (
    MAGIC_COOKIE,
    ClientInvite,
    ClientNonInvite,
    ClientUser,
    Key,
    Send,
    ServerInvite,
    ServerNonInvite,
    ServerUser,
    Timing,
    Transaction,
    client_key,
    server_key,
)
from edge.uri import format_host

__all__ = [
    "EndpointSettings",
    "Hop",
    "Hops",
    "Near",
    "TransactionLayer",
    "default_port",
    "parse_next_hop",
    "safe_headers",
]

Client = ClientInvite | ClientNonInvite
Server = ServerInvite | ServerNonInvite
Hops = tuple["Hop", ...]
Way = Callable[[bytes], Action]

_UNSPECIFIED: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104
_MAX_TARGETS: Final = 8
_BREAK: Final = re.compile("[\r\n\0]").search


@dataclass(slots=True)
class EndpointSettings:
    """What one engine is told. Times in seconds.

    ``listeners`` are the addresses bound, set again once known where a port was 0. ``public_host`` is the
    name or address for Via and Contact; None: the listener's own. ``udp_limit_octets``: larger requests
    go by TCP (RFC 3261 §18.1.1). ``ring_limit_s`` ends calls that nobody answers or refuses (timer C).
    ``max_transactions`` and ``max_calls`` bound the engine's state: new requests beyond it get 503.
    ``session_expires_s`` and ``min_se_s``: RFC 4028. ``reliable``: provisional responses are sent reliably (RFC 3262)
    to whoever can, else to whoever must have them so. ``headers``: names, or beginnings with ``*``, that may cross
    between a peer and our user.
    """

    domain: str
    listeners: tuple[tuple[TransportName, Address], ...] = ()
    public_host: str | None = None
    user_agent: str = "truedy-edge"
    t1_s: float = 0.5
    t2_s: float = 4.0
    t4_s: float = 5.0
    udp_limit_octets: int = 1300
    ring_limit_s: float = 180.0
    resolve_timeout_s: float = 10.0
    keep_alive_s: float = 25.0
    retry_after_s: int = 5
    max_transactions: int = 20_000
    max_calls: int = 5_000
    session_expires_s: int = 1800
    min_se_s: int = 90
    reliable: bool = False
    headers: tuple[str, ...] = ("X-*", "User-to-User")


def default_port(transport: TransportName) -> int:
    """5060, and 5061 for TLS (RFC 3261 §19.1.2)."""
    return 5061 if transport is TransportName.TLS else 5060


@dataclass(frozen=True, slots=True)
class Hop:
    """One place to send a request to: ``target``, over the existing connection ``flow`` where there is one.

    ``by_udp``: TCP was tried for a large request, and refused.
    """

    target: Target
    flow: Flow | None = None
    by_udp: bool = False

    @property
    def transport(self) -> TransportName:
        """What the Via says."""
        return self.target.transport if self.flow is None else self.flow.transport


@dataclass(frozen=True, slots=True)
class Near:
    """What a dialog knows of its peer: the flow its messages came over, and if there are proxies between."""

    flow: Flow
    routed: bool


class TransactionLayer:
    """All transactions of one engine, its timers and its actions. Satisfies ``edge.transaction.Layer``."""

    def __init__(
        self,
        settings: EndpointSettings,
        entropy: Callable[[int], bytes],
        trace: Callable[[TraceEntry], None] | None = None,
    ) -> None:
        self.settings = settings
        self.entropy = entropy
        self.timers = Timers()
        self.timing = Timing(settings.t1_s, settings.t2_s, settings.t4_s, max(32.0, 64 * settings.t1_s))
        self._trace = trace
        self._actions: list[Action] = []
        self._clients: dict[Key, Client] = {}
        self._servers: dict[Key, Server] = {}
        self._ongoing: dict[Key, ServerInvite] = {}
        self._queries: dict[int, tuple[Callable[[tuple[Target, ...], float], None], Timer]] = {}
        self._asked = 0

    # to the shell

    @property
    def pending(self) -> int:
        """Transactions and DNS questions under way."""
        return len(self._clients) + len(self._servers) + len(self._queries)

    @property
    def full(self) -> bool:
        """True when no new transaction may be made for somebody else's request."""
        return len(self._clients) + len(self._servers) >= self.settings.max_transactions

    def actions(self) -> list[Action]:
        """Everything to be done since the last call."""
        drained, self._actions = self._actions, []
        return drained

    def perform(self, action: Action, now: float) -> None:
        """Queue an action for the shell, and note it in the trace."""
        self._actions.append(action)
        if self._trace is not None:
            if isinstance(action, Transmit):
                self.note(action.data, action.flow, now, sent=True)
            elif isinstance(action, Dispatch):
                target = action.target
                local = action.local or Address("", 0)
                self.note(action.data, Flow(target.transport, local, target.address), now, sent=True)

    def note(self, data: bytes, flow: Flow, now: float, *, sent: bool) -> None:
        """Tell the trace of a message sent or received."""
        if self._trace is not None and data.strip():
            self._trace(trace_entry(data, flow, now, sent=sent))

    def transport_failed(self, token: str, now: float) -> None:
        """A dispatch could not be delivered; tokens of ended transactions are ignored."""
        branch, _, method = token.partition(" ")
        client = self._clients.get((branch, method))
        if client is not None:
            client.transport_failed(now)

    # finding the transaction of a message

    def receive_response(self, response: Response, flow: Flow, now: float) -> bool:
        """Give a response to its transaction (§17.1.3); False when there is none. Raises ParseError."""
        client = self._clients.get(client_key(response))
        if client is None:
            return False
        client.receive(response, now, flow)
        return True

    def receive_request(self, request: Request, now: float) -> bool:
        """Give a repeated request, or the ACK of a failure, to its transaction (§17.2.3). Raises ParseError."""
        server = self._servers.get(server_key(request))
        if server is None or (request.method == "ACK" and not isinstance(server, ServerInvite)):
            return False
        server.receive(request, now)
        return True

    def invite_of(self, request: Request) -> ServerInvite | None:
        """The INVITE transaction a CANCEL is about (§9.2). Raises ParseError."""
        server = self._servers.get(server_key(request, "INVITE"))
        return server if isinstance(server, ServerInvite) else None

    def merged(self, request: Request) -> bool:
        """True when the same INVITE came by another path and is still being handled (§8.2.2.2)."""
        return _merge_key(request) in self._ongoing

    # servers

    def serve_invite(self, request: Request, flow: Flow, user: ServerUser, now: float) -> ServerInvite:
        """A transaction for a new INVITE. ``request`` carries received and rport already."""
        send = self._sender(_response_way(request, flow))
        server = ServerInvite(self, server_key(request), request, send, user, reliable=flow.transport.reliable)
        self._servers[server.key] = server
        self._ongoing[_merge_key(request)] = server
        server.start(now)
        return server

    def serve(self, request: Request, flow: Flow, now: float) -> ServerNonInvite:
        """A transaction for another new request."""
        send = self._sender(_response_way(request, flow))
        server = ServerNonInvite(self, server_key(request), request, send, reliable=flow.transport.reliable)
        self._servers[server.key] = server
        server.start(now)
        return server

    def reply(self, request: Request, response: Response, flow: Flow, now: float) -> None:
        """Answer without a transaction (§8.2.7)."""
        self.perform(_response_way(request, flow)(bytes(response)), now)

    # clients

    def send(self, request: Request, branch: str, hop: Hop, user: ClientUser, now: float) -> Client:
        """Start a client transaction. ``request`` has its Via with ``branch`` already."""
        make = ClientInvite if request.method == "INVITE" else ClientNonInvite
        send = self._sender(self._request_way(hop, f"{branch} {request.method}"))
        client = make(self, (branch, request.method), request, send, user, reliable=hop.transport.reliable)
        self._clients[client.key] = client
        client.start(now)
        return client

    def send_ack(self, request: Request, hop: Hop, now: float) -> None:
        """The ACK of a 2xx, which belongs to no transaction (§13.2.2.4)."""
        self.perform(self._request_way(hop, "ack")(bytes(request)), now)

    def _sender(self, way: Way) -> Send:
        return lambda data, now: self.perform(way(data), now)

    def _request_way(self, hop: Hop, token: str) -> Way:
        if hop.flow is not None:
            flow, fallback = hop.flow, hop.target
            return lambda data: Transmit(data, flow, fallback)
        target = hop.target
        local = self.listener(target.transport, target.address.host) if not target.transport.reliable else None
        return lambda data: Dispatch(data, target, token, local)

    def terminated(self, transaction: Transaction) -> None:
        """Forget a transaction that has run its course."""
        if isinstance(transaction, ClientInvite | ClientNonInvite):
            self._clients.pop(transaction.key, None)
            return
        self._servers.pop(transaction.key, None)
        if isinstance(transaction, ServerInvite):
            key = _merge_key(transaction.request)
            if self._ongoing.get(key) is transaction:
                del self._ongoing[key]

    # our own addresses

    def listener(self, transport: TransportName, remote_host: str) -> Address | None:
        """The listener of this transport and of the peer's address family."""
        six = ":" in remote_host
        for name, address in self.settings.listeners:
            if name is transport and (":" in address.host) is six:
                return address
        return None

    def sent_by(self, transport: TransportName, remote_host: str, flow: Flow | None = None) -> Address:
        """Host and port where we are reached by this transport: for Via and Contact."""
        bound = None
        if flow is not None and (transport, flow.local) in self.settings.listeners:
            bound = flow.local
        bound = bound or self.listener(transport, remote_host)
        if bound is None:  # a client only: the connection it opened is the one way back
            bound = flow.local if flow is not None else next((a for _, a in self.settings.listeners), None)
        port = default_port(transport) if bound is None else bound.port
        host = self.settings.public_host or self._concrete_host(bound, flow)
        return Address(host, port)

    def _concrete_host(self, bound: Address | None, flow: Flow | None) -> str:
        if bound is not None and bound.host not in _UNSPECIFIED:
            return bound.host
        if flow is not None and flow.local.host not in _UNSPECIFIED:
            return flow.local.host
        return self.settings.domain

    def contact_uri(self, hop: Hop | Flow, user: str | None = None, *, secure: bool = False) -> SipUri:
        """Our Contact for this peer; ``sips`` where the dialog is secure (§8.1.1.8)."""
        flow = hop if isinstance(hop, Flow) else hop.flow
        transport = hop.transport
        remote = hop.remote.host if isinstance(hop, Flow) else hop.target.address.host
        if flow is None and self.listener(transport, remote) is None and self.settings.listeners:
            transport = self.settings.listeners[0][0]  # sent by TCP for its size; we listen on UDP alone
        ours = self.sent_by(transport, remote, flow)
        parameters = () if transport is TransportName.UDP else (("transport", transport.value),)
        return SipUri("sips" if secure else "sip", user, ours.host, ours.port, parameters)

    def via(self, hop: Hop, branch: str) -> str:
        """A Via value asking for rport (RFC 3581)."""
        ours = self.sent_by(hop.transport, hop.target.address.host, hop.flow)
        name = hop.transport.name
        return f"SIP/2.0/{name} {format_host(ours.host)}:{ours.port};rport;branch={branch}"

    def new_branch(self) -> str:
        """A branch nobody can guess (§8.1.1.7)."""
        return MAGIC_COOKIE + self.entropy(12).hex()

    def new_tag(self) -> str:
        """A tag nobody can guess: 64 bits, where §19.3 asks for 32."""
        return self.entropy(8).hex()

    # where requests go

    def find(self, uri: SipUri, found: Callable[[Hops, float], None], now: float, near: Near | None = None) -> None:
        """Call ``found`` with the hops for this URI in order, none when there are none: at once, or after DNS."""
        hop = _known_hop(uri, near)
        if hop is not None or uri.scheme not in ("sip", "sips") or not uri.host:
            found((hop,) if hop is not None else (), now)
            return
        self._asked += 1
        query = self._asked
        timer = self.timers.call_at(now + self.settings.resolve_timeout_s, lambda at: self.resolved(query, (), at))
        self._queries[query] = (lambda targets, at: found(tuple(Hop(t) for t in targets[:_MAX_TARGETS]), at), timer)
        self._actions.append(Resolve(query, _host(uri), uri.port, _transport(uri), uri.scheme == "sips"))

    def resolved(self, query: int, targets: tuple[Target, ...], now: float) -> None:
        """The shell's answer to a question; late and unknown ones are ignored."""
        waiting = self._queries.pop(query, None)
        if waiting is not None:
            found, timer = waiting
            timer.cancel()
            found(targets, now)


def _merge_key(request: Request) -> Key:
    return (request.call_id, request.from_.tag, request.cseq.number)


def _response_way(request: Request, flow: Flow) -> Way:
    """Where responses go: back over the flow, to the port of RFC 3581 or §18.2.2.

    ``maddr`` in a Via is not followed: it would let a request aim our answer at a third party.
    """
    via = request.via
    port = via.port or default_port(flow.transport)
    if flow.transport is TransportName.UDP:
        back = flow if via.rport else Flow(flow.transport, flow.local, Address(flow.remote.host, port))
        return lambda data: Transmit(data, back)
    fallback = Target(flow.transport, Address(flow.remote.host, port), via.host)
    return lambda data: Transmit(data, flow, fallback)


def _known_hop(uri: SipUri, near: Near | None) -> Hop | None:
    """A hop that needs no DNS: the peer's own connection, or an address literal (RFC 3263 §4.1)."""
    target = _literal_target(uri)
    if near is None or uri.scheme not in ("sip", "sips"):
        return None if target is None else Hop(target)
    flow = near.flow
    if flow.connection and (not near.routed or _same_peer(uri, flow)):
        return Hop(target or Target(flow.transport, flow.remote), flow)
    if target is None:
        return None
    if not flow.connection and not near.routed and _behind_nat(target.address, flow.remote):
        return Hop(Target(TransportName.UDP, flow.remote))
    return Hop(target)


def _same_peer(uri: SipUri, flow: Flow) -> bool:
    return _host(uri) == flow.remote.host and _transport(uri) in (None, flow.transport)


def _behind_nat(contact: Address, source: Address) -> bool:
    """A private Contact that came from a public address is reached where its requests come from."""
    try:
        return ipaddress.ip_address(contact.host).is_private and not ipaddress.ip_address(source.host).is_private
    except ValueError:
        return False


def _host(uri: SipUri) -> str:
    return (uri.parameter("maddr") or uri.host).strip("[]")


def _transport(uri: SipUri) -> TransportName | None:
    transport = uri.transport
    return TransportName.TLS if uri.scheme == "sips" and transport is not TransportName.UDP else transport


def _literal_target(uri: SipUri) -> Target | None:
    host = _host(uri)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return None
    transport = _transport(uri) or TransportName.UDP
    return Target(transport, Address(host, uri.port or default_port(transport)), host)


def parse_next_hop(text: str) -> SipUri:
    """``host``, ``host:port``, ``host:port;tcp``, ``host:port;transport=tcp`` or a SIP URI. Raises ParseError."""
    if text.lower().startswith(("sip:", "sips:")):
        return SipUri.parse(text)
    place, semicolon, transport = text.partition(";")
    transport = transport.lower().removeprefix("transport=")
    return SipUri.parse(f"sip:{place};transport={transport}" if semicolon else f"sip:{place}")


def safe_headers(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those of our user's extra headers that can stand in a message: token names, one-line values."""
    return [(name, value) for name, value in pairs if is_token(name) and not _BREAK(value)]
