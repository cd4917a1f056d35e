"""edge.transport: sockets, connections and the loop around the engine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import select
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any, TypeVar

import pytest

from edge.actions import Action, Close, Dispatch, Resolve, Target, Transmit
from edge.auth import Challenger
from edge.counters import Counters
from edge.endpoint import Endpoint, EndpointSettings
from edge.events import (
    Address,
    CallAnswered,
    CallConfirmed,
    CallEnded,
    CallKey,
    CallOffered,
    Cause,
    Event,
    Flow,
    OptionsAnswered,
    OutgoingCall,
    Party,
    TransportName,
)
from edge.throttle import Throttle
from edge.transport import ListenError, SipTransport, TransportLimits, client_context, server_context
from edge.trunks import TrunkRule, TrunkTable
from edge.uri import ParseError
from tests.support.pki import Pki

E = TypeVar("E", bound=Event)

UDP, TCP, TLS = TransportName.UDP, TransportName.TCP, TransportName.TLS
LOOPBACK = Address("127.0.0.1", 0)
MESSAGE = b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 4\r\n\r\nbody"
REPLY = b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"
BAD_REQUEST = b"SIP/2.0 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
NOBODY = Flow(TCP, LOOPBACK, LOOPBACK, 999_999)


@dataclass
class ScriptedEngine:
    """Notes every input and gives out what the test puts into ``to_do`` and ``to_tell``."""

    inputs: list[tuple[Any, ...]] = field(default_factory=list)
    to_do: list[Action] = field(default_factory=list)
    to_tell: list[Event] = field(default_factory=list)
    timer: float | None = None
    on_receive: Callable[[bytes, Flow], None] = lambda data, flow: None

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        self.inputs.append(("receive", data, flow))
        self.on_receive(data, flow)

    def malformed(self, data: bytes, error: ParseError, flow: Flow, now: float) -> None:
        self.inputs.append(("malformed", error.status, flow))
        self.to_do.append(Transmit(BAD_REQUEST, flow))

    def connection_closed(self, flow: Flow, now: float) -> None:
        self.inputs.append(("closed", flow))

    def transport_failed(self, token: str, now: float) -> None:
        self.inputs.append(("failed", token))

    def resolved(self, query: int, targets: tuple[Target, ...], now: float) -> None:
        self.inputs.append(("resolved", query, targets))

    def handle_timers(self, now: float) -> None:
        self.inputs.append(("timers", now))
        if self.timer is not None and now >= self.timer:
            self.timer = None

    def next_timer(self) -> float | None:
        return self.timer

    def actions(self) -> list[Action]:
        done, self.to_do = self.to_do, []
        return done

    def events(self) -> list[Event]:
        told, self.to_tell = self.to_tell, []
        return told

    def of(self, kind: str) -> list[Any]:
        """The inputs of one kind, without their kind."""
        return [entry[1] if len(entry) == 2 else entry[1:] for entry in self.inputs if entry[0] == kind]


class NoResolver:
    async def resolve(self, query: Resolve) -> tuple[Target, ...]:
        return ()


@dataclass
class Shell:
    """A started transport with what the tests look at."""

    engine: ScriptedEngine
    transport: SipTransport
    addresses: list[Address]
    bound: dict[TransportName, Address]
    told: list[Event]
    counters: Counters

    def act(self, *actions: Action) -> None:
        self.transport.run(lambda now: self.engine.to_do.extend(actions))

    def echo(self) -> None:
        """Answer every message with REPLY on the flow it came by."""
        self.engine.on_receive = lambda data, flow: self.engine.to_do.append(Transmit(REPLY, flow))


@contextlib.asynccontextmanager
async def shell(
    *listeners: TransportName,
    host: str = "127.0.0.1",
    limits: TransportLimits | None = None,
    on_event: Callable[[Event], None] | None = None,
    listed: bool = False,
    **options: Any,
) -> AsyncIterator[Shell]:
    engine, told, counters = ScriptedEngine(), list[Event](), Counters()
    transport = SipTransport(
        engine,
        [(name, Address(host, 0)) for name in listeners],
        on_event=on_event or told.append,
        resolver=options.pop("resolver", NoResolver()),
        counters=counters,
        listed=lambda source: listed,
        limits=limits,
        **options,
    )
    started = await transport.start()
    try:
        yield Shell(engine, transport, [address for _, address in started], dict(started), told, counters)
    finally:
        await transport.close()


async def until(condition: Callable[[], object], timeout_s: float = 3.0) -> None:
    """Poll until true; the test fails when it never is."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def connected(
    address: Address, **options: Any
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(address.host, address.port, **options)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def seconds_until_closed(reader: asyncio.StreamReader) -> float:
    start = time.monotonic()
    with contextlib.suppress(OSError):
        while await reader.read(65536):
            pass
    return time.monotonic() - start


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki.make(tmp_path_factory.mktemp("pki"))


def told(number: int) -> OptionsAnswered:
    return OptionsAnswered(CallKey(str(number)), 200, "OK")


# the loop around the engine, without sockets


async def test_events_are_delivered_before_a_command_returns() -> None:
    async with shell() as edge:
        result = edge.transport.run(lambda now: edge.engine.to_tell.append(told(1)) or "result")
        assert result == "result"
        assert edge.told == [told(1)]


async def test_a_command_from_within_an_event_is_carried_out_and_its_events_follow() -> None:
    order: list[str] = []

    def on_event(event: Event) -> None:
        order.append(f"begin {event.key}")  # type: ignore[union-attr]
        if event == told(1):
            edge.transport.run(lambda now: edge.engine.to_tell.append(told(3)))
        order.append(f"end {event.key}")  # type: ignore[union-attr]

    async with shell(on_event=on_event) as edge:
        edge.transport.run(lambda now: edge.engine.to_tell.extend([told(1), told(2)]))
    assert order == ["begin 1", "end 1", "begin 2", "end 2", "begin 3", "end 3"]


async def test_a_receiver_of_events_that_fails_is_logged_and_misses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Event] = []

    def on_event(event: Event) -> None:
        seen.append(event)
        raise RuntimeError("a fault in the receiver")

    async with shell(on_event=on_event) as edge:
        edge.transport.run(lambda now: edge.engine.to_tell.extend([told(1), told(2)]))
        assert seen == [told(1), told(2)]
        assert edge.counters.get("faults", where="event") == 2
    assert "a fault in the receiver" in caplog.text


async def test_a_fault_of_the_engine_is_logged_and_survived(caplog: pytest.LogCaptureFixture) -> None:
    async with shell() as edge:

        def fail(data: bytes, flow: Flow) -> None:
            edge.engine.to_tell.append(told(1))
            raise KeyError("a fault in the engine")

        edge.engine.on_receive = fail
        edge.transport.received(MESSAGE, NOBODY)
        assert edge.told == [told(1)]
        assert edge.counters.get("faults", where="receive") == 1
    assert "a fault in the engine" in caplog.text


async def test_a_command_that_fails_raises_to_its_giver_after_its_actions() -> None:
    async with shell() as edge:

        def command(now: float) -> None:
            edge.engine.to_tell.append(told(1))
            raise ValueError("bad command")

        with pytest.raises(ValueError, match="bad command"):
            edge.transport.run(command)
        assert edge.told == [told(1)]


async def test_a_command_before_start_is_a_readable_error() -> None:
    transport = SipTransport(ScriptedEngine(), [], on_event=print, resolver=NoResolver())
    with pytest.raises(RuntimeError, match="start"):
        transport.run(lambda now: None)


@pytest.mark.parametrize(
    "target",
    [
        Target(UDP, Address("127.0.0.1", 5060)),
        Target(TLS, Address("127.0.0.1", 5061), "sip.test"),
        Target(TCP, Address("sip.example.test", 5060)),
        Target(UDP, Address("sip.example.test", 5060)),
    ],
)
async def test_a_request_that_cannot_be_sent_has_failed_but_not_inside_the_command(target: Target) -> None:
    """No UDP listener, no TLS, or a name where the resolver should have put an address."""
    async with shell() as edge:
        edge.act(Dispatch(MESSAGE, target, "t1"))
        assert edge.engine.of("failed") == []
        await asyncio.sleep(0)
        assert edge.engine.of("failed") == ["t1"]


async def test_a_response_for_a_connection_that_is_gone_without_fallback_is_counted() -> None:
    async with shell() as edge:
        edge.act(Transmit(REPLY, NOBODY), Close(NOBODY, "gone already"))
        assert edge.counters.get("send_failures", reason="connection closed") == 1


async def test_answers_from_dns_enter_as_an_input() -> None:
    class Fixed:
        async def resolve(self, query: Resolve) -> tuple[Target, ...]:
            return (Target(UDP, Address("192.0.2.1", 5060)),)

    async with shell(resolver=Fixed()) as edge:
        edge.act(Resolve(7, "sip.example.test", None, None))
        await until(lambda: edge.engine.of("resolved"))
        assert edge.engine.of("resolved") == [(7, (Target(UDP, Address("192.0.2.1", 5060)),))]


async def test_a_resolver_that_fails_is_an_empty_answer() -> None:
    class Broken:
        async def resolve(self, query: Resolve) -> tuple[Target, ...]:
            raise RuntimeError("broken")

    async with shell(resolver=Broken()) as edge:
        edge.act(Resolve(7, "sip.example.test", None, None))
        await until(lambda: edge.engine.of("resolved"))
        assert edge.engine.of("resolved") == [(7, ())]


async def test_closing_does_not_wait_for_a_dead_resolver() -> None:
    class Dead:
        async def resolve(self, query: Resolve) -> tuple[Target, ...]:
            await asyncio.Event().wait()
            raise AssertionError

    async with shell(resolver=Dead()) as edge:
        edge.act(Resolve(7, "sip.example.test", None, None))
        await asyncio.sleep(0)


# timers


@pytest.mark.realtime
async def test_the_engines_timer_fires_when_it_is_due_and_never_early() -> None:
    loop = asyncio.get_running_loop()
    async with shell() as edge:
        due = loop.time() + 0.0507
        edge.transport.run(lambda now: setattr(edge.engine, "timer", due))
        await until(lambda: edge.engine.timer is None)
        (fired,) = edge.engine.of("timers")
        assert due <= fired <= due + 0.05


@pytest.mark.realtime
async def test_an_earlier_timer_replaces_a_later_one() -> None:
    loop = asyncio.get_running_loop()
    async with shell() as edge:
        edge.transport.run(lambda now: setattr(edge.engine, "timer", now + 60.0))
        edge.transport.run(lambda now: setattr(edge.engine, "timer", now + 0.02))
        start = loop.time()
        await until(lambda: edge.engine.timer is None)
        assert loop.time() - start < 1.0


@pytest.mark.realtime
async def test_a_timer_that_is_always_in_the_past_does_not_keep_the_loop_busy() -> None:
    """Nor do inputs that keep coming hold it off."""
    async with shell() as edge:
        edge.engine.handle_timers = lambda now: edge.engine.inputs.append(("timers", now))  # type: ignore[method-assign]
        edge.transport.run(lambda now: setattr(edge.engine, "timer", now - 5.0))
        for _ in range(100):
            edge.transport.run(lambda now: None)
            await asyncio.sleep(0.001)
        assert 10 < len(edge.engine.of("timers")) < 150


# UDP


@pytest.mark.realtime
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_datagram_comes_in_and_its_answer_goes_back(host: str) -> None:
    loop = asyncio.get_running_loop()
    async with shell(UDP, host=host) as edge:
        edge.echo()
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as phone:
            phone.setblocking(False)
            phone.bind((host, 0))
            await loop.sock_connect(phone, (host, edge.bound[UDP].port))
            await loop.sock_sendall(phone, MESSAGE)
            assert await asyncio.wait_for(loop.sock_recv(phone, 65536), 3) == REPLY
            ((data, flow),) = edge.engine.of("receive")
            assert data == MESSAGE
            assert flow == Flow(UDP, edge.bound[UDP], Address(host, phone.getsockname()[1]))


@pytest.mark.realtime
async def test_keep_alives_over_udp_do_not_reach_the_engine() -> None:
    async with shell(UDP) as edge:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
            for data in (b"\r\n\r\n", b"\r\n", b"\x00", b"\x00\x00\x00\x00", b"", MESSAGE):
                phone.sendto(data, ("127.0.0.1", edge.bound[UDP].port))
            await until(lambda: edge.engine.of("receive"))
        assert [data for data, _ in edge.engine.of("receive")] == [MESSAGE]


@pytest.mark.realtime
async def test_a_request_goes_out_from_the_listener_that_was_asked_for() -> None:
    async with shell(UDP, UDP) as edge:
        first, second = edge.addresses
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.setblocking(False)
            peer.bind(("127.0.0.1", 0))
            target = Target(UDP, Address("127.0.0.1", peer.getsockname()[1]))
            for local in (second, first, None):
                edge.act(Dispatch(MESSAGE, target, "t", local))
                await until(lambda: select.select([peer], [], [], 0)[0])
                _, source = peer.recvfrom(2048)
                assert source[1] == (local or first).port


@pytest.mark.realtime
async def test_a_datagram_the_kernel_refuses_is_a_failed_request() -> None:
    async with shell(UDP) as edge:
        edge.act(Dispatch(b"x" * 70_000, Target(UDP, Address("127.0.0.1", 9)), "too long"))
        await until(lambda: edge.engine.of("failed"))
        assert edge.counters.get("send_failures", reason="EMSGSIZE") == 1


# listeners


@pytest.mark.realtime
@pytest.mark.parametrize("name", [UDP, TCP])
async def test_a_port_in_use_is_one_readable_error_and_leaves_nothing_open(name: TransportName) -> None:
    async with shell(name) as edge:
        other = SipTransport(
            ScriptedEngine(), [(UDP, LOOPBACK), (name, edge.bound[name])], on_event=print, resolver=NoResolver()
        )
        with pytest.raises(ListenError) as caught:
            await other.start()
        assert str(caught.value) == f"cannot listen on {name.value}:{edge.bound[name]}: Address already in use"


@pytest.mark.realtime
async def test_a_port_can_be_taken_again_at_once() -> None:
    """TIME_WAIT of old connections does not hold up a restart."""
    async with shell(TCP) as edge:
        address = edge.bound[TCP]
        async with connected(address) as (_, writer):
            writer.write(MESSAGE)
            await until(lambda: edge.engine.of("receive"))
    again = SipTransport(ScriptedEngine(), [(TCP, address)], on_event=print, resolver=NoResolver())
    assert await again.start() == ((TCP, address),)
    await again.close()


@pytest.mark.realtime
async def test_a_tls_listener_without_certificate_is_one_readable_error() -> None:
    with pytest.raises(ListenError, match=r"tls:127.0.0.1:0: no certificate"):
        async with shell(TLS):
            pass


@pytest.mark.realtime
async def test_ipv4_and_ipv6_take_the_same_port_side_by_side() -> None:
    async with shell(UDP, TCP, host="0.0.0.0") as edge:
        other = SipTransport(
            ScriptedEngine(),
            [(name, Address("::", address.port)) for name, address in edge.bound.items()],
            on_event=print,
            resolver=NoResolver(),
        )
        await other.start()
        await other.close()


@pytest.mark.realtime
async def test_closing_twice_or_with_connections_in_every_state_leaves_nothing(pki: Pki) -> None:
    """The leak guard of every test does the checking."""
    async with shell(UDP, TCP, TLS, tls_server=server_context(pki.certificate, pki.key)) as edge:
        async with connected(edge.bound[TCP]) as (_, writer), connected(edge.bound[TLS]):
            writer.write(MESSAGE[:10])
            edge.act(Dispatch(MESSAGE, Target(TCP, Address("127.0.0.1", edge.bound[UDP].port)), "refused"))
            edge.act(Dispatch(MESSAGE, Target(TCP, edge.bound[TCP]), "to ourselves"))
            await until(lambda: edge.transport.connections >= 3)
            await edge.transport.close()
            assert edge.transport.connections == 0
        assert edge.engine.of("closed") == []


# streams


@pytest.mark.realtime
async def test_messages_are_cut_out_of_the_stream_and_answered_on_it() -> None:
    """RFC 3261 §18.3: two in one segment, and one in many."""
    async with shell(TCP) as edge, connected(edge.bound[TCP]) as (reader, writer):
        edge.echo()
        writer.write(MESSAGE + MESSAGE)
        for octet in MESSAGE:
            writer.write(bytes([octet]))
            await writer.drain()
        assert await asyncio.wait_for(reader.readexactly(3 * len(REPLY)), 3) == REPLY * 3
        flows = {flow for _, flow in edge.engine.of("receive")}
        assert len(edge.engine.of("receive")) == 3
        assert len(flows) == 1
        (flow,) = flows
        assert flow.connection > 0
        assert flow.local == edge.bound[TCP]


@pytest.mark.realtime
async def test_a_ping_is_answered_with_a_pong() -> None:
    """RFC 5626 §4.4.1."""
    async with shell(TCP, listed=True) as edge, connected(edge.bound[TCP]) as (reader, writer):
        writer.write(b"\r\n\r\n")
        assert await asyncio.wait_for(reader.readexactly(2), 3) == b"\r\n"
        assert edge.engine.of("receive") == []


@pytest.mark.realtime
async def test_a_strangers_ping_is_answered_only_after_it_was_given_an_answer() -> None:
    """An unlisted source hears nothing; one that was challenged keeps its flow alive by pings (RFC 5626 §4.4.1)."""
    async with shell(TCP) as edge, connected(edge.bound[TCP]) as (reader, writer):
        edge.echo()
        writer.write(b"\r\n\r\n" + MESSAGE)
        assert await asyncio.wait_for(reader.readexactly(len(REPLY)), 3) == REPLY
        writer.write(b"\r\n\r\n")
        assert await asyncio.wait_for(reader.readexactly(2), 3) == b"\r\n"


@pytest.mark.realtime
async def test_the_engine_learns_that_a_connection_closed() -> None:
    async with shell(TCP) as edge:
        async with connected(edge.bound[TCP]) as (_, writer):
            writer.write(MESSAGE)
            await until(lambda: edge.engine.of("receive"))
        await until(lambda: edge.engine.of("closed"))
        assert edge.engine.of("closed") == [edge.engine.of("receive")[0][1]]
        assert edge.transport.connections == 0


@pytest.mark.realtime
async def test_a_response_whose_connection_is_gone_opens_one_to_the_fallback() -> None:
    """RFC 3261 §18.2.2."""
    async with shell(TCP) as edge, shell(TCP) as phone:
        edge.act(Transmit(REPLY, NOBODY, Target(TCP, phone.bound[TCP])))
        await until(lambda: phone.engine.of("receive"))
        assert phone.engine.of("receive")[0][0] == REPLY


@pytest.mark.realtime
async def test_requests_to_one_target_share_a_connection_and_answers_come_back_on_it() -> None:
    async with shell(TCP) as edge, shell(TCP) as peer:
        peer.echo()
        target = Target(TCP, peer.bound[TCP])
        for token in ("t1", "t2"):
            edge.act(Dispatch(MESSAGE, Target(TCP, peer.bound[TCP], token), token))
        await until(lambda: len(edge.engine.of("receive")) == 2)
        edge.act(Dispatch(MESSAGE, target, "t3"))
        await until(lambda: len(edge.engine.of("receive")) == 3)
        assert {flow.connection for _, flow in peer.engine.of("receive")} == {1}
        assert edge.engine.of("failed") == []
        (flow,) = {flow for _, flow in edge.engine.of("receive")}
        assert flow.local == peer.engine.of("receive")[0][1].remote


@pytest.mark.realtime
async def test_a_refused_connection_fails_all_requests_that_waited_for_it() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        target = Target(TCP, Address("127.0.0.1", unused.getsockname()[1]))
        async with shell(TCP) as edge:
            edge.act(Dispatch(MESSAGE, target, "t1"), Dispatch(MESSAGE, target, "t2"))
            await until(lambda: len(edge.engine.of("failed")) == 2)
            assert edge.engine.of("failed") == ["t1", "t2"]
            assert edge.engine.of("closed") == []
            assert edge.transport.connections == 0
            assert edge.counters.get("send_failures", reason="ECONNREFUSED") == 2


@pytest.mark.realtime
async def test_a_connection_that_is_never_accepted_fails_in_time() -> None:
    async with shell(TCP, limits=TransportLimits(connect_s=0.1)) as edge:
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            address = Address(*full.getsockname())
            with contextlib.ExitStack() as fillers:
                for _ in range(4):
                    filler = fillers.enter_context(socket.socket())
                    filler.setblocking(False)
                    filler.connect_ex((address.host, address.port))
                await asyncio.sleep(0.05)
                edge.act(Dispatch(MESSAGE, Target(TCP, address), "t1"))
                await until(lambda: edge.engine.of("failed"))


@pytest.mark.realtime
async def test_a_request_on_a_connection_that_closes_unanswered_has_failed() -> None:
    async with shell(TCP) as edge, shell(TCP) as peer:
        target = Target(TCP, peer.bound[TCP])
        peer.engine.on_receive = lambda data, flow: peer.engine.to_do.append(
            Transmit(REPLY, flow) if len(peer.engine.of("receive")) == 1 else Close(flow, "test")
        )
        edge.act(Dispatch(MESSAGE, target, "answered"))
        await until(lambda: edge.engine.of("receive"))
        edge.act(Dispatch(MESSAGE, target, "unanswered"))
        await until(lambda: edge.engine.of("failed"))
        assert edge.engine.of("failed") == ["unanswered"]
        assert len(edge.engine.of("closed")) == 1


@pytest.mark.realtime
async def test_after_a_close_the_next_request_gets_a_new_connection() -> None:
    async with shell(TCP) as edge, shell(TCP) as peer:
        peer.echo()
        target = Target(TCP, peer.bound[TCP])
        edge.act(Dispatch(MESSAGE, target, "t1"))
        await until(lambda: edge.engine.of("receive"))
        edge.act(Close(edge.engine.of("receive")[0][1], "test"), Dispatch(MESSAGE, target, "t2"))
        await until(lambda: len(edge.engine.of("receive")) == 2)
        assert {flow.connection for _, flow in peer.engine.of("receive")} == {1, 2}
        assert edge.engine.of("failed") == []


# abuse of streams


@pytest.mark.realtime
@pytest.mark.parametrize(
    ("length", "status"),
    [
        (b"Content-Length: 999999999\r\n", 413),
        (b"Content-Length: -1\r\n", 400),
        (b"", 400),
        (b"Content-Length: 4\r\nContent-Length: 4\r\n", 400),
        (b"Content-Length: 4\r\nl: 0\r\n", 400),
        (b"Content-Length: four\r\n", 400),
    ],
)
async def test_abuse_of_content_length_is_answered_and_the_connection_closed_within_a_second(
    length: bytes, status: int
) -> None:
    async with shell(TCP) as edge, connected(edge.bound[TCP]) as (reader, writer):
        writer.write(MESSAGE + b"OPTIONS sip:a@b SIP/2.0\r\n" + length + b"\r\nbody" + MESSAGE)
        start = time.monotonic()
        assert await asyncio.wait_for(reader.read(), 3) == BAD_REQUEST
        assert time.monotonic() - start < 1.0
        assert [data for data, _ in edge.engine.of("receive")] == [MESSAGE]
        assert [code for code, _ in edge.engine.of("malformed")] == [status]


@pytest.mark.realtime
async def test_a_ten_megabyte_header_is_cut_off_within_a_second() -> None:
    async with shell(TCP) as edge, connected(edge.bound[TCP]) as (reader, writer):
        writer.write(b"OPTIONS sip:a@b SIP/2.0\r\nX: " + b"x" * 10_000_000)
        assert await asyncio.wait_for(seconds_until_closed(reader), 3) < 1.0
        assert [code for code, _ in edge.engine.of("malformed")] == [413]
        await until(lambda: edge.transport.connections == 0, timeout_s=1.5)


@pytest.mark.realtime
@pytest.mark.parametrize("start", [b"", b"OPTIONS sip:a@b SIP/2.0\r\n", b"\r\n\r\n", MESSAGE + MESSAGE[:-1]])
async def test_a_connection_without_a_whole_message_in_time_is_closed(start: bytes) -> None:
    """Slow loris, after a whole message too, and keep-alives do not help."""
    async with (
        shell(TCP, limits=TransportLimits(message_s=0.3)) as edge,
        connected(edge.bound[TCP]) as (reader, writer),
    ):
        writer.write(start)

        async def drip() -> None:
            with contextlib.suppress(OSError):
                while True:
                    await asyncio.sleep(0.02)
                    writer.write(
                        b"\r\n\r\n" if start == b"\r\n\r\n" else b"" if not start else b"x"[: start != MESSAGE]
                    )

        dripping = asyncio.create_task(drip())
        if start.startswith(MESSAGE):
            dripping.cancel()
        assert 0.2 < await asyncio.wait_for(seconds_until_closed(reader), 3) < 1.0
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)
        assert edge.counters.get("connections_closed", reason="no whole message in time") == 1


@pytest.mark.realtime
async def test_a_connection_that_has_spoken_may_be_silent_until_it_is_idle() -> None:
    limits = TransportLimits(message_s=0.1, unlisted_idle_s=0.4)
    async with shell(TCP, limits=limits) as edge, connected(edge.bound[TCP]) as (reader, writer):
        writer.write(MESSAGE)
        assert 0.3 < await asyncio.wait_for(seconds_until_closed(reader), 3) < 1.0
        assert edge.counters.get("connections_closed", reason="idle") == 1


@pytest.mark.realtime
async def test_a_stranger_gets_ten_connections_and_a_call_still_sets_up() -> None:
    """200 connections that say nothing: 10 are kept, the rest cut at once, UDP goes on."""
    loop = asyncio.get_running_loop()
    async with shell(TCP, UDP) as edge:
        edge.echo()
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(200):
                await stack.enter_async_context(connected(edge.bound[TCP]))
            await until(lambda: edge.counters.get("transport_drops", what="connection") == 190)
            assert edge.transport.connections == 10
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
                phone.setblocking(False)
                await loop.sock_connect(phone, ("127.0.0.1", edge.bound[UDP].port))
                await loop.sock_sendall(phone, MESSAGE)
                assert await asyncio.wait_for(loop.sock_recv(phone, 2048), 1) == REPLY
        await until(lambda: edge.transport.connections == 0)
        async with connected(edge.bound[TCP]) as (reader, writer):
            writer.write(MESSAGE)
            assert await asyncio.wait_for(reader.readexactly(len(REPLY)), 3) == REPLY


@pytest.mark.realtime
@pytest.mark.parametrize(("listed", "kept"), [(True, 5), (False, 3)])
async def test_the_whole_edge_has_a_cap_and_strangers_only_a_part_of_it(listed: bool, kept: int) -> None:
    limits = TransportLimits(connections=5, unlisted_connections=3)
    async with shell(TCP, limits=limits, listed=listed) as edge, contextlib.AsyncExitStack() as stack:
        for _ in range(8):
            await stack.enter_async_context(connected(edge.bound[TCP]))
        await until(lambda: edge.counters.get("transport_drops", what="connection") == 8 - kept)
        assert edge.transport.connections == kept


@pytest.mark.realtime
async def test_a_peer_that_does_not_read_is_cut_off() -> None:
    limits = TransportLimits(write_buffer=65_536)
    async with shell(TCP, limits=limits) as edge:
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(deaf, ("127.0.0.1", edge.bound[TCP].port))
            await loop.sock_sendall(deaf, MESSAGE)
            await until(lambda: edge.engine.of("receive"))
            flow = edge.engine.of("receive")[0][1]
            for _ in range(1000):
                edge.act(Transmit(b"x" * 16_384, flow))
                await asyncio.sleep(0)
                if edge.transport.connections == 0:
                    break
            assert edge.counters.get("connections_closed", reason="slow peer") == 1
            assert edge.engine.of("closed") == [flow]


@pytest.mark.realtime
async def test_running_out_of_descriptors_costs_no_cpu_and_passes(caplog: pytest.LogCaptureFixture) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with shell(TCP, limits=TransportLimits(accept_pause_s=0.05)) as edge:
        edge.echo()
        with contextlib.ExitStack() as stack:
            phones = [stack.enter_context(socket.socket()) for _ in range(3)]
            probe = os.dup(0)
            os.close(probe)
            resource.setrlimit(resource.RLIMIT_NOFILE, (probe, hard))
            try:
                for phone in phones:
                    phone.setblocking(False)
                    phone.connect_ex(("127.0.0.1", edge.bound[TCP].port))
                before = time.process_time()
                await asyncio.sleep(0.5)
                assert time.process_time() - before < 0.25
                assert edge.counters.get("accept_failures", reason="EMFILE") > 1
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            loop = asyncio.get_running_loop()
            for phone in phones:
                await loop.sock_sendall(phone, MESSAGE)
                assert await asyncio.wait_for(loop.sock_recv(phone, 2048), 3) == REPLY
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) <= 2


# TLS


@pytest.fixture
def tls(pki: Pki) -> Iterator[dict[str, ssl.SSLContext]]:
    yield {
        "tls_server": server_context(pki.certificate, pki.key),
        "tls_client": client_context(pki.authority),
    }


@pytest.mark.realtime
async def test_a_tls_connection_carries_messages_both_ways(tls: dict[str, ssl.SSLContext]) -> None:
    async with shell(TLS, **tls) as edge, shell(TLS, **tls) as peer:
        peer.echo()
        edge.act(Dispatch(MESSAGE, Target(TLS, peer.bound[TLS], "sip.test"), "t1"))
        await until(lambda: edge.engine.of("receive"))
        assert edge.engine.of("receive")[0][0] == REPLY
        assert peer.engine.of("receive")[0][1].transport is TLS


@pytest.mark.realtime
async def test_a_certificate_for_another_name_is_refused(tls: dict[str, ssl.SSLContext]) -> None:
    """RFC 5922 §7.2: the name in the URI decides, whatever the address."""
    async with shell(TLS, **tls) as edge, shell(TLS, **tls) as peer:
        edge.act(Dispatch(MESSAGE, Target(TLS, peer.bound[TLS], "sip.example.test"), "t1"))
        await until(lambda: edge.engine.of("failed"))
        assert peer.engine.of("receive") == []


@pytest.mark.realtime
async def test_a_certificate_of_an_unknown_authority_is_refused(tls: dict[str, ssl.SSLContext]) -> None:
    async with shell(TLS, **tls | {"tls_client": client_context()}) as edge, shell(TLS, **tls) as peer:
        edge.act(Dispatch(MESSAGE, Target(TLS, peer.bound[TLS], "sip.test"), "t1"))
        await until(lambda: edge.engine.of("failed"))


@pytest.mark.realtime
async def test_connections_are_pooled_by_verified_name_not_by_address(tls: dict[str, ssl.SSLContext]) -> None:
    async with shell(TLS, **tls) as edge, shell(TLS, **tls) as peer:
        peer.echo()
        for name in ("sip.test", "localhost", "sip.test"):
            edge.act(Dispatch(MESSAGE, Target(TLS, peer.bound[TLS], name), name))
        await until(lambda: len(edge.engine.of("receive")) == 3)
        assert peer.transport.connections == 2


@pytest.mark.realtime
async def test_old_tls_versions_are_refused(tls: dict[str, ssl.SSLContext], pki: Pki) -> None:
    old = pki.client_context()
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with shell(TLS, **tls) as edge:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", edge.bound[TLS].port, ssl=old, server_hostname="sip.test")
        await until(lambda: edge.counters.get("transport_drops", reason="TLS: UNSUPPORTED_PROTOCOL") == 1)
        assert edge.transport.connections == 0


@pytest.mark.realtime
async def test_a_stalled_handshake_is_cut(tls: dict[str, ssl.SSLContext]) -> None:
    async with (
        shell(TLS, limits=TransportLimits(handshake_s=0.3), **tls) as edge,
        connected(edge.bound[TLS]) as (reader, writer),
    ):
        writer.write(b"\x16\x03\x01")
        assert 0.2 < await asyncio.wait_for(seconds_until_closed(reader), 3) < 1.0
        await until(lambda: edge.transport.connections == 0)
        assert edge.engine.inputs == []


@pytest.mark.realtime
async def test_stalled_handshakes_count_towards_the_cap_of_an_address(tls: dict[str, ssl.SSLContext]) -> None:
    async with shell(TLS, **tls) as edge, contextlib.AsyncExitStack() as stack:
        for _ in range(15):
            await stack.enter_async_context(connected(edge.bound[TLS]))
        await until(lambda: edge.counters.get("transport_drops", what="connection") == 5)
        assert edge.transport.connections == 10


@pytest.mark.realtime
async def test_plain_text_on_the_tls_port_is_dropped(tls: dict[str, ssl.SSLContext]) -> None:
    async with shell(TLS, **tls) as edge, connected(edge.bound[TLS]) as (reader, writer):
        writer.write(MESSAGE)
        assert await asyncio.wait_for(seconds_until_closed(reader), 3) < 1.0
        await until(lambda: edge.transport.connections == 0)
        assert edge.engine.of("receive") == []


# the real engine


@contextlib.asynccontextmanager
async def real_edge(
    name: TransportName, told: list[Event], **options: Any
) -> AsyncIterator[tuple[Endpoint, SipTransport, Address]]:
    """An engine that takes calls from loopback by address, on one listener."""
    counters = Counters()
    trunks = TrunkTable(
        [TrunkRule("lab", (ip_network("127.0.0.0/8"),))],
        realm="sip.test",
        challenger=Challenger(os.urandom(32)),
        counters=counters,
    )
    endpoint = Endpoint(
        EndpointSettings(domain="sip.test"), trunks, Throttle(1000.0, 1000), counters, entropy=os.urandom
    )
    transport = SipTransport(
        endpoint,
        [(name, LOOPBACK)],
        on_event=told.append,
        resolver=NoResolver(),
        counters=counters,
        listed=trunks.listed,
        **options,
    )
    listeners = await transport.start()
    endpoint.settings.listeners = listeners
    try:
        yield endpoint, transport, listeners[0][1]
        assert counters.get("faults") == 0
    finally:
        await transport.close()


def first(events: list[Event], kind: type[E]) -> E | None:
    return next((event for event in events if isinstance(event, kind)), None)


async def event_of(events: list[Event], kind: type[E]) -> E:
    await until(lambda: first(events, kind))
    found = first(events, kind)
    assert found is not None
    return found


@pytest.mark.realtime
@pytest.mark.parametrize("name", [UDP, TCP, TLS])
async def test_two_real_engines_make_a_call_and_end_it(name: TransportName, tls: dict[str, ssl.SSLContext]) -> None:
    calling, called = list[Event](), list[Event]()
    async with real_edge(name, calling, **tls) as (caller, caller_shell, _), real_edge(name, called, **tls) as callee:
        endpoint, callee_shell, address = callee
        call = OutgoingCall(
            f"sip:+14155550100@{address};transport={name.value}", "sip:+14155550199@sip.test", b"v=0 offer"
        )
        key = caller_shell.run(lambda now: caller.invite(call, now=now))
        offered = await event_of(called, CallOffered)
        assert (offered.trunk, offered.offer, offered.flow.transport) == ("lab", b"v=0 offer", name)
        callee_shell.run(lambda now: endpoint.ring(offered.key, now=now))
        callee_shell.run(lambda now: endpoint.answer(offered.key, b"v=0 answer", now=now))
        assert (await event_of(calling, CallAnswered)).body == b"v=0 answer"
        await event_of(called, CallConfirmed)
        callee_shell.run(lambda now: endpoint.hang_up(offered.key, now=now))
        ended = [await event_of(calling, CallEnded), await event_of(called, CallEnded)]
        assert [(event.by, event.cause) for event in ended] == [(Party.REMOTE, Cause.BYE), (Party.LOCAL, Cause.BYE)]
        assert ended[0].key == key
        assert caller.calls == endpoint.calls == 0


def test_a_missing_certificate_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        server_context(tmp_path / "none.pem", tmp_path / "none.key")
