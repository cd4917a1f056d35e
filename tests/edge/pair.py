"""Engines on a fake clock: one alone with a scripted peer, or two joined in memory with loss by pattern.

Plain classes, no fixtures: a test says what it needs. Randomness is seeded, time moves when told to.
"""

from __future__ import annotations

import heapq
import ipaddress
import random
from collections.abc import Callable, Iterable
from itertools import count
from typing import TypeVar

from edge.actions import Action, Close, Dispatch, Resolve, Target, Transmit
from edge.auth import Challenger
from edge.counters import Counters
from edge.endpoint import Endpoint, EndpointSettings
from edge.events import Address, CallKey, CallOffered, Event, Flow, OutgoingCall, TransportName
from edge.ladder import TraceEntry
from edge.message import Request, Response, parse
from edge.throttle import Throttle
from edge.trunks import TrunkRule, TrunkTable

E = TypeVar("E", bound=Event)

OFFER = b"v=0\r\no=- 1 1 IN IP4 192.0.2.7\r\ns=-\r\nm=audio 4000 RTP/AVP 0\r\n"
ANSWER = b"v=0\r\no=- 9 1 IN IP4 192.0.2.1\r\ns=-\r\nm=audio 5000 RTP/AVP 0\r\n"
EDGE = Address("192.0.2.1", 5060)
PEER = Address("192.0.2.7", 5060)
STRANGER = Address("198.51.100.66", 5060)


def trunk(name: str, network: str) -> TrunkRule:
    """A trunk known by its addresses."""
    return TrunkRule(name, (ipaddress.ip_network(network),))


LAB = trunk("lab", "192.0.2.0/24")
DIGEST = TrunkRule("phones", auth="digest", username="alice", password="secret of alice")


def entropy(seed: int) -> Callable[[int], bytes]:
    """Randomness that is the same each time."""
    return random.Random(seed).randbytes


def engine(
    address: Address = EDGE,
    *,
    rules: Iterable[TrunkRule] = (LAB,),
    seed: int = 1,
    throttle: Throttle | None = None,
    trace: Callable[[TraceEntry], None] | None = None,
    transports: Iterable[TransportName] = (TransportName.UDP, TransportName.TCP),
    **settings: object,
) -> tuple[Endpoint, Counters]:
    """An engine that listens on ``address`` and knows its neighbours as a trunk."""
    counters = Counters()
    trunks = TrunkTable(rules, realm="edge.test", challenger=Challenger(bytes(32)), counters=counters)
    listeners = tuple((name, address) for name in transports)
    endpoint = Endpoint(
        EndpointSettings(domain="edge.test", listeners=listeners, **settings),  # type: ignore[arg-type]
        trunks,
        Throttle(1000.0, 10_000) if throttle is None else throttle,
        counters,
        entropy=entropy(seed),
        trace=trace,
    )
    return endpoint, counters


class Solo:
    """One engine; the test plays its peer, message by message."""

    def __init__(self, *, address: Address = EDGE, **options: object) -> None:
        self.now = 0.0
        self.endpoint, self.counters = engine(address, **options)  # type: ignore[arg-type]
        self.address = address
        self.peer = PEER
        self.sent: list[Request | Response] = []
        self.actions: list[Action] = []
        self.events: list[Event] = []
        self.times: list[float] = []

    @property
    def flow(self) -> Flow:
        return Flow(TransportName.UDP, self.address, self.peer)

    def receive(self, message: bytes | Request | Response, flow: Flow | None = None) -> list[Request | Response]:
        """Give the engine a message; what it sends at once comes back."""
        self.endpoint.receive(bytes(message), flow or self.flow, self.now)
        return self.drain()

    def drain(self) -> list[Request | Response]:
        """Take what the engine has to say."""
        fresh: list[Request | Response] = []
        for action in self.endpoint.actions():
            self.actions.append(action)
            if isinstance(action, Transmit | Dispatch) and action.data.strip():
                fresh.append(parse(action.data))
                self.times.append(self.now)
        self.sent += fresh
        self.events += self.endpoint.events()
        return fresh

    def advance(self, seconds: float) -> list[Request | Response]:
        """Let time pass, timer by timer; what was sent meanwhile comes back."""
        end, before = self.now + seconds, len(self.sent)
        self.drain()
        while (due := self.endpoint.next_timer()) is not None and due <= end:
            self.now = max(self.now, due)
            self.endpoint.handle_timers(self.now)
            self.drain()
        self.now = end
        return self.sent[before:]

    def quiet(self, limit_s: float = 300.0) -> float:
        """Run until no timer is left; the time of the last one."""
        start, last = self.now, self.now
        self.drain()
        while (due := self.endpoint.next_timer()) is not None:
            if due > start + limit_s:
                raise AssertionError(f"still a timer at {due}")
            self.now = last = max(self.now, due)
            self.endpoint.handle_timers(self.now)
            self.drain()
        return last

    def take(self, kind: type[E]) -> E:
        """The one event of this kind so far, taken out."""
        found = [event for event in self.events if isinstance(event, kind)]
        assert len(found) == 1, f"{kind.__name__}: {found} in {self.events}"
        self.events.remove(found[0])
        return found[0]

    def offered(self, **options: object) -> CallKey:
        """An INVITE arrives; its key."""
        self.receive(invite(**options))  # type: ignore[arg-type]
        return self.take(CallOffered).key

    @property
    def target(self) -> Target:
        """Where the last request went by itself, not over a flow."""
        action = self.actions[-1]
        assert isinstance(action, Dispatch), action
        return action.target

    def statuses(self, since: int = 0) -> list[int]:
        """Status codes of the responses sent."""
        return [message.status for message in self.sent[since:] if isinstance(message, Response)]

    def requests(self, method: str) -> list[Request]:
        """Requests of one method sent so far, retransmissions included."""
        return [message for message in self.sent if isinstance(message, Request) and message.method == method]


_branches = count(1)


def request(
    method: str,
    *,
    uri: str = "sip:+14155550100@192.0.2.1",
    branch: str | None = None,
    cseq: int = 1,
    call_id: str = "call@192.0.2.7",
    from_tag: str = "peer",
    to_tag: str | None = None,
    via: str | None = None,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    contact: str | None = "<sip:alice@192.0.2.7:5060>",
) -> Request:
    """A request of the peer."""
    branch = branch or f"z9hG4bK-{next(_branches)}"
    to = "<sip:+14155550100@192.0.2.1>" + (f";tag={to_tag}" if to_tag else "")
    fixed = [
        ("Via", via or f"SIP/2.0/UDP 192.0.2.7:5060;rport;branch={branch}"),
        ("Max-Forwards", "70"),
        ("From", f'"Alice" <sip:alice@192.0.2.7>;tag={from_tag}'),
        ("To", to),
        ("Call-ID", call_id),
        ("CSeq", f"{cseq} {method}"),
    ]
    if contact is not None and method in ("INVITE", "OPTIONS"):
        fixed.append(("Contact", contact))
    if body:
        fixed.append(("Content-Type", "application/sdp"))
    extra = list(headers)
    replaced = {name for name, _ in extra if name == "Content-Type"}
    fixed = [pair for pair in fixed if pair[0] not in replaced]
    return Request.create(method, uri, [*fixed, *extra], body)


def invite(*, body: bytes = OFFER, **options: object) -> Request:
    """An INVITE of the peer, with an offer."""
    return request("INVITE", body=body, **options)  # type: ignore[arg-type]


def in_dialog(method: str, response: Response, *, cseq: int, **options: object) -> Request:
    """A request of the peer in the dialog that our response made."""
    to_tag = response.to.tag
    contact = response.contact
    uri = str(contact.uri) if contact is not None else "sip:192.0.2.1"
    options = {"uri": uri, "to_tag": to_tag, "call_id": response.call_id, **options}
    return request(method, cseq=cseq, **options)  # type: ignore[arg-type]


def reply(
    to: Request,
    status: int,
    *,
    tag: str | None = "callee",
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    contact: str | None = "<sip:bob@192.0.2.7:5060>",
) -> Response:
    """A response of the peer to a request of ours."""
    pairs = [("Via", value) for value in to.headers.lines("Via")]
    address = to.headers.lines("To")[0]
    pairs += [("From", to.headers.lines("From")[0])]
    pairs += [("To", address if tag is None or to.to.tag else f"{address};tag={tag}")]
    pairs += [("Call-ID", to.call_id), ("CSeq", str(to.cseq))]
    if contact is not None and to.method == "INVITE" and 100 < status < 300:
        pairs.append(("Contact", contact))
    if body:
        pairs.append(("Content-Type", "application/sdp"))
    return Response.create(status, [*pairs, *headers], body)


Drop = Callable[[str, bytes], bool]


class Pair:
    """A caller and an edge, joined by a wire that loses what ``drop(sender, data)`` says."""

    def __init__(
        self,
        *,
        drop: Drop = lambda sender, data: False,
        delay_s: float = 0.01,
        transports: Iterable[TransportName] = (TransportName.UDP, TransportName.TCP),
        seed: int = 1,
        names: dict[str, tuple[Target, ...]] | None = None,
        rules: Iterable[TrunkRule] = (LAB,),
    ) -> None:
        self.now = 0.0
        self.drop = drop
        self.delay_s = delay_s
        self.names = names or {}
        self.trace: list[TraceEntry] = []
        transports = tuple(transports)
        self.caller, _ = engine(PEER, seed=seed, transports=transports, trace=self.trace.append)
        self.edge, _ = engine(EDGE, seed=seed + 1_000_000, transports=transports, rules=rules)
        self._sides = {"caller": (self.caller, PEER), "edge": (self.edge, EDGE)}
        self.events: dict[str, list[Event]] = {"caller": [], "edge": []}
        self.on_edge_event: Callable[[Event], None] = lambda event: None
        self.sent: list[tuple[float, str, bytes]] = []
        self._flying: list[tuple[float, int, str, bytes, int]] = []
        self._number = count()

    def call(self, **options: object) -> CallKey:
        """The caller dials the edge."""
        call = OutgoingCall("sip:+14155550100@192.0.2.1:5060", "sip:alice@192.0.2.7", OFFER, **options)  # type: ignore[arg-type]
        key = self.caller.invite(call, now=self.now)
        self.pump()
        return key

    def pump(self) -> None:
        """Carry out actions and deliver events until there are none."""
        busy = True
        while busy:
            busy = False
            for name, (endpoint, _) in self._sides.items():
                for action in endpoint.actions():
                    busy = True
                    self._perform(name, endpoint, action)
                for event in endpoint.events():
                    busy = True
                    self.events[name].append(event)
                    if name == "edge":
                        self.on_edge_event(event)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        self.pump()
        while (due := self._next()) is not None and due <= end:
            self._at(due)
        self.now = end

    def quiet(self, limit_s: float = 600.0) -> float:
        """Run until nothing is on the wire and no timer is left."""
        end = self.now + limit_s
        self.pump()
        while (due := self._next()) is not None:
            if due > end:
                raise AssertionError(f"not quiet: {self.caller.pending} and {self.edge.pending} pending")
            self._at(due)
        return self.now

    def last(self, name: str, kind: type[E]) -> E:
        """The last event of a kind."""
        found = [event for event in self.events[name] if isinstance(event, kind)]
        assert found, f"no {kind.__name__} in {self.events[name]}"
        return found[-1]

    def of(self, name: str, kind: type[E]) -> list[E]:
        """All events of a kind."""
        return [event for event in self.events[name] if isinstance(event, kind)]

    def _next(self) -> float | None:
        times = [endpoint.next_timer() for endpoint, _ in self._sides.values()]
        times.append(self._flying[0][0] if self._flying else None)
        return min((time for time in times if time is not None), default=None)

    def _at(self, due: float) -> None:
        self.now = max(self.now, due)
        while self._flying and self._flying[0][0] <= self.now:
            _, _, sender, data, connection = heapq.heappop(self._flying)
            receiver = "edge" if sender == "caller" else "caller"
            endpoint, local = self._sides[receiver]
            transport = TransportName.TCP if connection else TransportName.UDP
            endpoint.receive(data, Flow(transport, local, self._sides[sender][1], connection), self.now)
            self.pump()
        for endpoint, _ in self._sides.values():
            endpoint.handle_timers(self.now)
        self.pump()

    def _perform(self, name: str, endpoint: Endpoint, action: Action) -> None:
        match action:
            case Transmit(data=data, flow=flow):
                self._send(name, data, flow.connection)
            case Dispatch(data=data, target=target):
                self._send(name, data, int(target.transport.reliable))
            case Resolve(query=query, host=host):
                endpoint.resolved(query, self.names.get(host, ()), self.now)
            case Close():
                pass

    def _send(self, name: str, data: bytes, connection: int) -> None:
        self.sent.append((self.now, name, data))
        if connection or not self.drop(name, data):
            delay = self.delay_s
            heapq.heappush(self._flying, (self.now + delay, next(self._number), name, data, connection))
