"""Connections over TCP."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import socket
import time

import pytest

from edge.actions import Close, Dispatch, Target, Transmit
from edge.events import Address
from edge.transport.stream import TransportLimits
from tests.edge.shell import (
    BAD_REQUEST,
    MESSAGE,
    NOBODY,
    REPLY,
    TCP,
    UDP,
    connected,
    seconds_until_closed,
    shell,
    until,
)


@pytest.mark.uvloop
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


@pytest.mark.uvloop
async def test_a_ping_is_answered_with_a_pong() -> None:
    """RFC 5626 §4.4.1."""
    async with shell(TCP, listed=True) as edge, connected(edge.bound[TCP]) as (reader, writer):
        writer.write(b"\r\n\r\n")
        assert await asyncio.wait_for(reader.readexactly(2), 3) == b"\r\n"
        assert edge.engine.of("receive") == []


@pytest.mark.uvloop
async def test_a_strangers_ping_is_answered_only_after_it_was_given_an_answer() -> None:
    """An unlisted source hears nothing; one that was challenged keeps its flow alive by pings (RFC 5626 §4.4.1)."""
    async with shell(TCP) as edge, connected(edge.bound[TCP]) as (reader, writer):
        edge.echo()
        writer.write(b"\r\n\r\n" + MESSAGE)
        assert await asyncio.wait_for(reader.readexactly(len(REPLY)), 3) == REPLY
        writer.write(b"\r\n\r\n")
        assert await asyncio.wait_for(reader.readexactly(2), 3) == b"\r\n"


@pytest.mark.uvloop
async def test_the_engine_learns_that_a_connection_closed() -> None:
    async with shell(TCP) as edge:
        async with connected(edge.bound[TCP]) as (_, writer):
            writer.write(MESSAGE)
            await until(lambda: edge.engine.of("receive"))
        await until(lambda: edge.engine.of("closed"))
        assert edge.engine.of("closed") == [edge.engine.of("receive")[0][1]]
        assert edge.transport.connections == 0


@pytest.mark.uvloop
async def test_a_response_whose_connection_is_gone_opens_one_to_the_fallback() -> None:
    """RFC 3261 §18.2.2."""
    async with shell(TCP) as edge, shell(TCP) as phone:
        edge.act(Transmit(REPLY, NOBODY, Target(TCP, phone.bound[TCP])))
        await until(lambda: phone.engine.of("receive"))
        assert phone.engine.of("receive")[0][0] == REPLY


@pytest.mark.uvloop
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


@pytest.mark.uvloop
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
            assert edge.counters.get("sip_send_failures", reason="ECONNREFUSED") == 2


@pytest.mark.uvloop
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


@pytest.mark.uvloop
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


@pytest.mark.uvloop
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


@pytest.mark.uvloop
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


@pytest.mark.uvloop
async def test_a_ten_megabyte_header_is_cut_off_within_a_second() -> None:
    async with shell(TCP) as edge, connected(edge.bound[TCP]) as (reader, writer):
        writer.write(b"OPTIONS sip:a@b SIP/2.0\r\nX: " + b"x" * 10_000_000)
        assert await asyncio.wait_for(seconds_until_closed(reader), 3) < 1.0
        assert [code for code, _ in edge.engine.of("malformed")] == [413]
        await until(lambda: edge.transport.connections == 0, timeout_s=1.5)


@pytest.mark.uvloop
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
        assert edge.counters.get("sip_connections_closed", reason="no whole message in time") == 1


@pytest.mark.uvloop
async def test_a_connection_that_has_spoken_may_be_silent_until_it_is_idle() -> None:
    limits = TransportLimits(message_s=0.1, unlisted_idle_s=0.4)
    async with shell(TCP, limits=limits) as edge, connected(edge.bound[TCP]) as (reader, writer):
        writer.write(MESSAGE)
        assert 0.3 < await asyncio.wait_for(seconds_until_closed(reader), 3) < 1.0
        assert edge.counters.get("sip_connections_closed", reason="idle") == 1


@pytest.mark.uvloop
async def test_a_stranger_gets_ten_connections_and_a_call_still_sets_up() -> None:
    """200 connections that say nothing: 10 are kept, the rest cut at once, UDP goes on."""
    loop = asyncio.get_running_loop()
    async with shell(TCP, UDP) as edge:
        edge.echo()
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(200):
                await stack.enter_async_context(connected(edge.bound[TCP]))
            await until(lambda: edge.counters.get("sip_transport_drops", what="connection") == 190)
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


@pytest.mark.uvloop
@pytest.mark.parametrize(("listed", "kept"), [(True, 5), (False, 3)])
async def test_the_whole_edge_has_a_cap_and_strangers_only_a_part_of_it(listed: bool, kept: int) -> None:
    limits = TransportLimits(connections=5, unlisted_connections=3)
    async with shell(TCP, limits=limits, listed=listed) as edge, contextlib.AsyncExitStack() as stack:
        for _ in range(8):
            await stack.enter_async_context(connected(edge.bound[TCP]))
        await until(lambda: edge.counters.get("sip_transport_drops", what="connection") == 8 - kept)
        assert edge.transport.connections == kept


@pytest.mark.uvloop
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
            assert edge.counters.get("sip_connections_closed", reason="slow peer") == 1
            assert edge.engine.of("closed") == [flow]


@pytest.mark.uvloop
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
                assert edge.counters.get("sip_accept_failures", reason="EMFILE") > 1
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            loop = asyncio.get_running_loop()
            for phone in phones:
                await loop.sock_sendall(phone, MESSAGE)
                assert await asyncio.wait_for(loop.sock_recv(phone, 2048), 3) == REPLY
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) <= 2
