"""One UDP listener, and all that is sent from it."""

from __future__ import annotations

import asyncio
import select
import socket

import pytest

from edge.actions import Dispatch, Target
from edge.events import Address, Flow
from tests.edge.shell import MESSAGE, REPLY, UDP, shell, until


@pytest.mark.uvloop
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


@pytest.mark.uvloop
async def test_keep_alives_over_udp_do_not_reach_the_engine() -> None:
    async with shell(UDP) as edge:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
            for data in (b"\r\n\r\n", b"\r\n", b"\x00", b"\x00\x00\x00\x00", b"", MESSAGE):
                phone.sendto(data, ("127.0.0.1", edge.bound[UDP].port))
            await until(lambda: edge.engine.of("receive"))
        assert [data for data, _ in edge.engine.of("receive")] == [MESSAGE]


@pytest.mark.uvloop
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


@pytest.mark.uvloop
async def test_a_datagram_the_kernel_refuses_is_a_failed_request() -> None:
    async with shell(UDP) as edge:
        edge.act(Dispatch(b"x" * 70_000, Target(UDP, Address("127.0.0.1", 9)), "too long"))
        await until(lambda: edge.engine.of("failed"))
        assert edge.counters.get("sip_send_failures", reason="EMSGSIZE") == 1
