"""edge.dns: where to send a request (RFC 3263)."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import dns.asyncresolver
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from edge.actions import Resolve, Target
from edge.dns import (
    Answer,
    DnsRecords,
    Kind,
    LookupFailed,
    Naptr,
    ResolverLimits,
    SipResolver,
    Srv,
    order_servers,
    order_services,
    parse_hosts,
    system_resolver,
)
from edge.events import Address, TransportName
from tests.support.clock import FakeClock

UDP, TCP, TLS = TransportName.UDP, TransportName.TCP, TransportName.TLS


def zeros(count: int) -> bytes:
    return bytes(count)


@dataclass
class Zone:
    """A scripted source of records: (name, kind) → answer; a missing one is empty, None fails."""

    rows: dict[tuple[str, Kind], Answer | None] = field(default_factory=dict)
    asked: list[tuple[str, Kind]] = field(default_factory=list)

    async def lookup(self, name: str, kind: Kind) -> Answer:
        self.asked.append((name, kind))
        answer = self.rows.get((name, kind), Answer(60.0))
        if answer is None:
            raise LookupFailed("scripted")
        return answer

    def a(self, name: str, *addresses: str, ttl_s: float = 60.0) -> None:
        self.rows[name, Kind.A] = Answer(ttl_s, addresses=addresses)

    def srv(self, name: str, *records: Srv) -> None:
        self.rows[name, Kind.SRV] = Answer(60.0, srv=records)


def resolver(zone: Zone, clock: Callable[[], float] = lambda: 0.0, **options: object) -> SipResolver:
    return SipResolver(zone, entropy=zeros, clock=clock, **options)  # type: ignore[arg-type]


def shown(targets: tuple[Target, ...]) -> list[str]:
    return [f"{target.transport.value}:{target.address}" for target in targets]


# the order of services and servers, from records alone


def test_naptr_records_are_tried_by_order_then_preference() -> None:
    """RFC 3263 §4.1's own example."""
    records = [
        Naptr(90, 50, "s", "SIP+D2T", "_sip._tcp.example.com"),
        Naptr(100, 50, "s", "SIP+D2U", "_sip._udp.example.com"),
        Naptr(50, 50, "s", "SIPS+D2T", "_sips._tcp.example.com"),
    ]
    assert [transport for transport, _ in order_services(records, [UDP, TCP, TLS])] == [TLS, TCP, UDP]
    assert order_services(records, [UDP, TCP])[0] == (TCP, "_sip._tcp.example.com")


@pytest.mark.parametrize(
    "record",
    [
        Naptr(1, 1, "u", "E2U+sip", ""),
        Naptr(1, 1, "s", "SIP+D2S", "_sip._sctp.example.com"),
        Naptr(1, 1, "a", "SIP+D2U", "host.example.com"),
        Naptr(1, 1, "s", "SIP+D2U", ""),
    ],
)
def test_naptr_records_of_no_use_to_sip_are_passed_over(record: Naptr) -> None:
    assert order_services([record], [UDP, TCP, TLS]) == []


def test_lower_priority_numbers_come_first() -> None:
    """RFC 2782."""
    records = [Srv(20, 100, 5060, "backup"), Srv(10, 0, 5060, "main")]
    assert [record.target for record in order_servers(records, zeros)] == ["main", "backup"]


def test_within_a_priority_the_chance_to_be_first_follows_the_weight() -> None:
    """RFC 2782: 75 to 25, over all values of the draw."""
    records = [Srv(10, 75, 5060, "heavy"), Srv(10, 25, 5060, "light")]
    first: Counter[str] = Counter()
    for draw in range(101):
        first[order_servers(records, lambda count, draw=draw: draw.to_bytes(count, "big"))[0].target] += 1  # type: ignore[misc]
    assert first == {"light": 26, "heavy": 75}


def test_weight_zero_has_a_small_chance_beside_others() -> None:
    records = [Srv(10, 0, 5060, "rare"), Srv(10, 9, 5060, "usual")]
    first = Counter(
        order_servers(records, lambda count, draw=draw: draw.to_bytes(count, "big"))[0].target  # type: ignore[misc]
        for draw in range(10)
    )
    assert first == {"rare": 1, "usual": 9}


def test_every_server_appears_exactly_once_whatever_is_drawn() -> None:
    records = [
        Srv(priority, weight, 5060, f"{priority}-{weight}") for priority in (1, 2) for weight in (0, 0, 5, 65535)
    ]
    for draw in (0, 1, 7, 65535, 2**64 - 1):
        ordered = order_servers(records, lambda count, draw=draw: draw.to_bytes(8, "big"))  # type: ignore[misc]
        assert sorted(ordered, key=repr) == sorted(records, key=repr)


# from a URI to targets


@pytest.mark.parametrize(
    ("query", "targets"),
    [
        (Resolve(1, "192.0.2.1", None, None), [Target(UDP, Address("192.0.2.1", 5060))]),
        (Resolve(1, "192.0.2.1", 5070, TCP), [Target(TCP, Address("192.0.2.1", 5070))]),
        (Resolve(1, "2001:db8::1", None, None), [Target(UDP, Address("2001:db8::1", 5060))]),
        (Resolve(1, "[2001:db8::1]", None, None), [Target(UDP, Address("2001:db8::1", 5060))]),
        (Resolve(1, "192.0.2.1", None, None, secure=True), [Target(TLS, Address("192.0.2.1", 5061), "192.0.2.1")]),
        (Resolve(1, "192.0.2.1", None, TCP, secure=True), [Target(TLS, Address("192.0.2.1", 5061), "192.0.2.1")]),
        (Resolve(1, "192.0.2.1", None, UDP, secure=True), []),
        (Resolve(1, "", None, None), []),
    ],
)
async def test_an_address_needs_no_dns(query: Resolve, targets: list[Target]) -> None:
    zone = Zone()
    assert list(await resolver(zone).resolve(query)) == targets
    assert zone.asked == []


async def test_a_port_means_no_naptr_and_no_srv() -> None:
    """RFC 3263 §4.2."""
    zone = Zone()
    zone.a("pbx.example.test", "192.0.2.1", "192.0.2.2")
    assert shown(await resolver(zone).resolve(Resolve(1, "PBX.example.test.", 5080, None))) == [
        "udp:192.0.2.1:5080",
        "udp:192.0.2.2:5080",
    ]
    assert {kind for _, kind in zone.asked} == {Kind.A, Kind.AAAA}


async def test_naptr_then_srv_then_addresses_and_the_certificate_must_match_the_uris_name() -> None:
    """RFC 3263 §4, RFC 5922 §4."""
    zone = Zone()
    zone.rows["example.test", Kind.NAPTR] = Answer(
        60.0,
        naptr=(
            Naptr(10, 10, "S", "sips+d2t", "_sips._tcp.edge.example.test"),
            Naptr(20, 10, "S", "SIP+D2U", "_sip._udp.edge.example.test"),
        ),
    )
    zone.srv("_sips._tcp.edge.example.test", Srv(1, 0, 5061, "a.example.test"))
    zone.srv("_sip._udp.edge.example.test", Srv(2, 0, 5060, "b.example.test"), Srv(1, 0, 5062, "a.example.test"))
    zone.a("a.example.test", "192.0.2.1")
    zone.a("b.example.test", "192.0.2.2")
    targets = await resolver(zone).resolve(Resolve(1, "example.test", None, None))
    assert shown(targets) == ["tls:192.0.2.1:5061", "udp:192.0.2.1:5062", "udp:192.0.2.2:5060"]
    assert [target.server_name for target in targets] == ["example.test", None, None]


async def test_without_naptr_srv_of_every_transport_is_asked_for() -> None:
    """RFC 3263 §4.1."""
    zone = Zone()
    zone.srv("_sip._tcp.example.test", Srv(1, 0, 5060, "a.example.test"))
    zone.a("a.example.test", "192.0.2.1")
    assert shown(await resolver(zone).resolve(Resolve(1, "example.test", None, None))) == ["tcp:192.0.2.1:5060"]


async def test_a_given_transport_skips_naptr() -> None:
    zone = Zone()
    zone.srv("_sip._tcp.example.test", Srv(1, 0, 5065, "a.example.test"))
    zone.a("a.example.test", "192.0.2.1")
    assert shown(await resolver(zone).resolve(Resolve(1, "example.test", None, TCP))) == ["tcp:192.0.2.1:5065"]
    assert Kind.NAPTR not in {kind for _, kind in zone.asked}


async def test_without_srv_the_name_itself_at_the_default_port() -> None:
    zone = Zone()
    zone.a("example.test", "192.0.2.1")
    zone.rows["example.test", Kind.AAAA] = Answer(60.0, addresses=("2001:db8::1",))
    one = resolver(zone)
    assert shown(await one.resolve(Resolve(1, "example.test", None, None))) == [
        "udp:192.0.2.1:5060",
        "udp:[2001:db8::1]:5060",
    ]
    assert shown(await one.resolve(Resolve(1, "example.test", None, TLS)))[0] == "tls:192.0.2.1:5061"
    assert shown(await one.resolve(Resolve(1, "example.test", None, None, secure=True)))[0] == "tls:192.0.2.1:5061"


async def test_sips_uses_no_other_service_than_tls() -> None:
    zone = Zone()
    zone.rows["example.test", Kind.NAPTR] = Answer(60.0, naptr=(Naptr(1, 1, "s", "SIP+D2U", "_sip._udp.example.test"),))
    zone.srv("_sip._udp.example.test", Srv(1, 0, 5060, "a.example.test"))
    zone.srv("_sips._tcp.example.test", Srv(1, 0, 5061, "a.example.test"))
    zone.a("a.example.test", "192.0.2.1")
    targets = await resolver(zone).resolve(Resolve(1, "example.test", None, None, secure=True))
    assert shown(targets) == ["tls:192.0.2.1:5061"]


async def test_a_service_that_is_declared_absent_is_not_looked_for_elsewhere() -> None:
    """RFC 2782: a target of "." means that there is no such service."""
    zone = Zone()
    zone.srv("_sip._udp.example.test", Srv(0, 0, 0, ""))
    zone.a("example.test", "192.0.2.1")
    assert await resolver(zone).resolve(Resolve(1, "example.test", None, UDP)) == ()


async def test_transports_this_edge_cannot_use_are_left_out() -> None:
    zone = Zone()
    zone.a("example.test", "192.0.2.1")
    one = resolver(zone, usable=(TCP,))
    assert shown(await one.resolve(Resolve(1, "example.test", None, None))) == ["tcp:192.0.2.1:5060"]
    assert await one.resolve(Resolve(1, "example.test", None, UDP)) == ()


async def test_the_number_of_targets_is_bounded_and_none_is_there_twice() -> None:
    zone = Zone()
    zone.srv("_sip._udp.example.test", *(Srv(1, 1, 5060, f"h{n % 30}.example.test") for n in range(60)))
    for number in range(30):
        zone.a(f"h{number}.example.test", *(f"192.0.2.{n}" for n in range(20)))
    targets = await resolver(zone).resolve(Resolve(1, "example.test", None, UDP))
    assert len(targets) == len(set(targets)) == 16
    assert len([kind for _, kind in zone.asked if kind is Kind.A]) <= 8


# cache and failures


async def test_answers_are_cached_for_their_ttl() -> None:
    clock, zone = FakeClock(), Zone()
    zone.a("example.test", "192.0.2.1", ttl_s=30.0)
    one = resolver(zone, clock)
    query = Resolve(1, "example.test", 5060, None)
    for passed, asked in ((0.0, 1), (29.0, 1), (1.5, 2)):
        clock.advance(passed)
        await one.resolve(query)
        assert zone.asked.count(("example.test", Kind.A)) == asked


@pytest.mark.parametrize(("ttl_s", "kept_s"), [(0.0, 1.0), (1e9, 3600.0)])
async def test_a_ttl_is_kept_within_bounds(ttl_s: float, kept_s: float) -> None:
    clock, zone = FakeClock(), Zone()
    zone.a("example.test", "192.0.2.1", ttl_s=ttl_s)
    one = resolver(zone, clock)
    for passed in (0.0, kept_s - 0.1, 0.2):
        clock.advance(passed)
        await one.resolve(Resolve(1, "example.test", 5060, None))
    assert zone.asked.count(("example.test", Kind.A)) == 2


async def test_that_there_is_nothing_is_forgotten_sooner() -> None:
    clock, zone = FakeClock(), Zone({("example.test", Kind.A): Answer(86_400.0)})
    one = resolver(zone, clock)
    assert await one.resolve(Resolve(1, "example.test", 5060, None)) == ()
    zone.a("example.test", "192.0.2.1")
    clock.advance(300.1)
    assert len(await one.resolve(Resolve(1, "example.test", 5060, None))) == 1


async def test_the_cache_is_bounded() -> None:
    one = resolver(Zone(), limits=ResolverLimits(entries=10))
    for number in range(100):
        await one.resolve(Resolve(1, f"h{number}.example.test", 5060, None))
    assert len(one._cache.entries) == 10


async def test_a_dead_server_is_not_asked_again_at_once() -> None:
    clock, zone = FakeClock(), Zone({("example.test", Kind.A): None, ("example.test", Kind.AAAA): None})
    one = resolver(zone, clock)
    for passed, asked in ((0.0, 1), (4.9, 1), (0.2, 2)):
        clock.advance(passed)
        assert await one.resolve(Resolve(1, "example.test", 5060, None)) == ()
        assert zone.asked.count(("example.test", Kind.A)) == asked


async def test_while_the_servers_are_dead_the_last_answer_serves() -> None:
    """RFC 8767."""
    clock, zone = FakeClock(), Zone()
    zone.a("example.test", "192.0.2.1", ttl_s=30.0)
    one = resolver(zone, clock)
    query = Resolve(1, "example.test", 5060, None)
    assert len(await one.resolve(query)) == 1
    zone.rows["example.test", Kind.A] = None
    clock.advance(3600.0)
    assert len(await one.resolve(query)) == 1
    clock.advance(86_400.0)
    assert await one.resolve(query) == ()


async def test_a_failure_of_one_record_type_does_not_hide_the_others() -> None:
    zone = Zone({("example.test", Kind.NAPTR): None, ("_sips._tcp.example.test", Kind.SRV): None})
    zone.a("example.test", "192.0.2.1")
    assert shown(await resolver(zone).resolve(Resolve(1, "example.test", None, None))) == ["udp:192.0.2.1:5060"]


@pytest.mark.realtime
async def test_a_resolution_ends_in_time_whatever_the_servers_do() -> None:
    class Silent:
        async def lookup(self, name: str, kind: Kind) -> Answer:
            await asyncio.Event().wait()
            raise AssertionError

    one = SipResolver(Silent(), entropy=zeros, limits=ResolverLimits(total_s=0.1))
    start = time.monotonic()
    assert await one.resolve(Resolve(1, "example.test", None, None)) == ()
    assert time.monotonic() - start < 1.0


# the hosts file


def test_a_hosts_file_is_read() -> None:
    """hosts(5): comments, aliases, both families, rubbish."""
    office = "192.0.2.1\tPBX.example.test pbx # the office\n"
    text = "127.0.0.1 localhost\n" + office + "::1 pbx\n\n# 192.0.2.9 no\nrubbish x\n192.0.2.1 pbx"
    assert parse_hosts(text) == {
        "localhost": ("127.0.0.1",),
        "pbx.example.test": ("192.0.2.1",),
        "pbx": ("192.0.2.1", "::1"),
    }


async def test_the_hosts_file_goes_before_dns_and_is_read_again_when_changed(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("192.0.2.1 pbx\n")
    records = DnsRecords(dns.asyncresolver.Resolver(configure=False), hosts=hosts)
    assert (await records.lookup("PBX.", Kind.A)).addresses == ("192.0.2.1",)
    assert (await records.lookup("pbx", Kind.AAAA)).empty
    hosts.write_text("192.0.2.22 pbx\n")
    assert (await records.lookup("pbx", Kind.A)).addresses == ("192.0.2.22",)
    hosts.unlink()
    with pytest.raises(LookupFailed):
        await records.lookup("pbx", Kind.A)


async def test_localhost_is_this_host_without_any_configuration() -> None:
    """RFC 6761 §6.3."""
    records = DnsRecords(dns.asyncresolver.Resolver(configure=False), hosts=None)
    one = SipResolver(records, entropy=zeros)
    assert shown(await one.resolve(Resolve(1, "localhost", 5070, None))) == ["udp:127.0.0.1:5070", "udp:[::1]:5070"]


async def test_a_name_of_the_hosts_file_needs_no_name_server_at_all(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("192.0.2.1 pbx\n")
    one = SipResolver(DnsRecords(dns.asyncresolver.Resolver(configure=False), hosts=hosts), entropy=zeros)
    assert shown(await one.resolve(Resolve(1, "pbx", None, None))) == ["udp:192.0.2.1:5060"]
    assert shown(await one.resolve(Resolve(1, "pbx", None, TCP))) == ["tcp:192.0.2.1:5060"]


@pytest.mark.parametrize("name", ["", "a..b", "x" * 64 + ".test", "x." * 200, "\x00", "é" * 80, "*.example.test"])
async def test_a_name_that_is_none_fails_like_any_other(name: str) -> None:
    one = SipResolver(DnsRecords(dns.asyncresolver.Resolver(configure=False), hosts=None), entropy=zeros)
    assert await one.resolve(Resolve(1, name, None, None)) == ()


# a real name server on loopback


class NameServer(asyncio.DatagramProtocol):
    """Answers from a zone text, follows no CNAME, and can play dead."""

    def __init__(self, zone: str) -> None:
        self.rrsets: dict[tuple[str, int], dns.rrset.RRset] = {}
        self.asked: list[tuple[str, int]] = []
        self.dead = False
        self._transport: asyncio.DatagramTransport | None = None
        for line in zone.strip().splitlines():
            name, kind, data = line.split(maxsplit=2)
            key = (name, int(dns.rdatatype.from_text(kind)))
            fresh = dns.rrset.from_text(name, 300, "IN", kind, data)
            if key in self.rrsets:
                self.rrsets[key].update(fresh)
            else:
                self.rrsets[key] = fresh

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name, kind = question.name.to_text().lower(), int(question.rdtype)
        self.asked.append((name, kind))
        if self.dead or self._transport is None:
            return
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.RA
        for wanted in (kind, int(dns.rdatatype.CNAME)):
            while (found := self.rrsets.get((name, wanted))) is not None:
                reply.answer.append(found)
                if wanted == kind:
                    break
                name = found[0].target.to_text()
                if (final := self.rrsets.get((name, kind))) is not None:
                    reply.answer.append(final)
        if not any(known == name for known, _ in self.rrsets):
            reply.set_rcode(dns.rcode.NXDOMAIN)
        self._transport.sendto(reply.to_wire(), addr)


ZONE = """
example.test. NAPTR 10 10 "s" "SIP+D2T" "" _sip._tcp.example.test.
example.test. NAPTR 20 10 "s" "SIP+D2U" "" _sip._udp.example.test.
_sip._tcp.example.test. SRV 10 5 5060 a.example.test.
_sip._udp.example.test. SRV 10 5 5060 a.example.test.
_sip._udp.example.test. SRV 20 5 5070 b.example.test.
a.example.test. A 192.0.2.1
a.example.test. AAAA 2001:db8::1
b.example.test. CNAME c.example.test.
c.example.test. A 192.0.2.3
"""


@asynccontextmanager
async def name_server(zone: str = ZONE) -> AsyncIterator[tuple[NameServer, SipResolver]]:
    loop = asyncio.get_running_loop()
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    transport, server = await loop.create_datagram_endpoint(lambda: NameServer(zone), sock=sock)
    asking = dns.asyncresolver.Resolver(configure=False)
    asking.nameservers, asking.port = ["127.0.0.1"], port
    try:
        records = DnsRecords(asking, hosts=None, try_s=0.2, lifetime_s=0.4)
        yield server, SipResolver(records, entropy=os.urandom, limits=ResolverLimits(failure_s=0.05))
    finally:
        transport.close()
        await asyncio.sleep(0.01)


@pytest.mark.realtime
async def test_records_of_a_real_server_become_targets() -> None:
    async with name_server() as (server, one):
        targets = await one.resolve(Resolve(1, "example.test", None, None))
        assert shown(targets) == [
            "tcp:192.0.2.1:5060",
            "tcp:[2001:db8::1]:5060",
            "udp:192.0.2.1:5060",
            "udp:[2001:db8::1]:5060",
            "udp:192.0.2.3:5070",
        ]
        asked = len(server.asked)
        assert await one.resolve(Resolve(2, "example.test", None, None)) == targets
        assert len(server.asked) == asked


@pytest.mark.realtime
async def test_a_name_that_does_not_exist_is_an_empty_answer_that_is_remembered() -> None:
    async with name_server() as (server, one):
        for _ in range(2):
            assert await one.resolve(Resolve(1, "nowhere.test", 5060, None)) == ()
        assert len(server.asked) == 2


@pytest.mark.realtime
async def test_a_dead_server_never_holds_up_the_loop() -> None:
    """Each lookup that held it up would do so for 0.2 s and more; a machine that stalls does once or twice."""
    loop = asyncio.get_running_loop()
    async with name_server() as (server, one):
        server.dead = True
        lags: list[float] = []

        async def watch() -> None:
            while True:
                before = loop.time()
                await asyncio.sleep(0.005)
                lags.append(loop.time() - before - 0.005)

        async with asyncio.TaskGroup() as group:
            watching = group.create_task(watch())
            answers = [group.create_task(one.resolve(Resolve(n, f"h{n}.test", None, None))) for n in range(20)]
            await asyncio.wait(answers)
            watching.cancel()
        assert all(answer.result() == () for answer in answers)
        assert sorted(lags)[-3] < 0.05


@pytest.mark.realtime
async def test_a_server_that_comes_back_is_believed() -> None:
    async with name_server() as (server, one):
        server.dead = True
        assert await one.resolve(Resolve(1, "a.example.test", 5060, None)) == ()
        server.dead = False
        await asyncio.sleep(0.1)
        assert len(await one.resolve(Resolve(2, "a.example.test", 5060, None))) == 2


@pytest.mark.realtime
async def test_the_systems_own_resolver_knows_localhost() -> None:
    one = system_resolver(os.urandom, (UDP,))
    assert shown(await one.resolve(Resolve(1, "localhost", 5070, None)))[0] == "udp:127.0.0.1:5070"
