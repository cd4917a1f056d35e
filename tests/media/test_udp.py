"""A call's pair of UDP sockets."""

from __future__ import annotations

import asyncio
import socket

import pytest

from media.udp import Address, PortUnavailable, open_pair
from tests.support.ports import free_ports

pytestmark = pytest.mark.realtime


class Inbox:
    """What arrived, and a way to wait for it."""

    def __init__(self) -> None:
        self.datagrams: asyncio.Queue[tuple[bytes, Address, float]] = asyncio.Queue()

    def __call__(self, data: bytes, source: Address, now: float) -> None:
        self.datagrams.put_nowait((data, source, now))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_rtp_and_rtcp_have_neighbouring_ports_and_datagrams_cross(host: str) -> None:
    first, second = free_ports(2, host), free_ports(2, host)
    rtp, rtcp = Inbox(), Inbox()
    ours = await open_pair(host, first, Inbox(), Inbox())
    theirs = await open_pair(host, second, rtp, rtcp)
    ours.send_rtp(b"rtp", (host, second))
    ours.send_rtcp(b"rtcp", (host, second + 1))
    data, source, now = await rtp.datagrams.get()
    assert (data, source) == (b"rtp", (host, first))
    assert now == pytest.approx(asyncio.get_running_loop().time(), abs=1.0)
    assert (await rtcp.datagrams.get())[:2] == (b"rtcp", (host, first + 1))
    await ours.close()
    await theirs.close()


@pytest.mark.parametrize("taken", [0, 1])
async def test_a_port_in_use_is_refused_and_the_other_of_the_pair_is_free_again(taken: int) -> None:
    port = free_ports(2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", port + taken))
        with pytest.raises(PortUnavailable, match=f"port {port + taken}"):
            await open_pair("127.0.0.1", port, Inbox(), Inbox())
    pair = await open_pair("127.0.0.1", port, Inbox(), Inbox())
    await pair.close()


async def test_an_address_that_is_not_this_machines_is_refused() -> None:
    with pytest.raises(PortUnavailable, match=r"192\.0\.2\.1"):
        await open_pair("192.0.2.1", free_ports(2), Inbox(), Inbox())


async def test_a_port_beyond_the_last_is_refused() -> None:
    with pytest.raises(PortUnavailable, match="65536"):
        await open_pair("127.0.0.1", 65535, Inbox(), Inbox())


async def test_a_closed_pair_can_be_bound_again_at_once() -> None:
    port = free_ports(2)
    for _ in range(3):
        await (await open_pair("127.0.0.1", port, Inbox(), Inbox())).close()


async def test_sending_where_nobody_listens_raises_nothing() -> None:
    port, nobody = free_ports(2), free_ports(2)
    pair = await open_pair("127.0.0.1", port, Inbox(), Inbox())
    for _ in range(3):
        pair.send_rtp(b"x", ("127.0.0.1", nobody))
        await asyncio.sleep(0.01)
    await pair.close()


async def test_voice_is_marked_for_expedited_forwarding() -> None:
    """RFC 4594 §4.1: DSCP EF."""
    port, arrived = free_ports(2), Inbox()
    loop = asyncio.get_running_loop()
    pair = await open_pair("127.0.0.1", port, arrived, Inbox())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
        phone.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        phone.bind(("127.0.0.1", 0))
        phone.setblocking(False)
        readable = loop.create_future()
        loop.add_reader(phone, readable.set_result, None)
        pair.send_rtp(b"voice", phone.getsockname())
        await readable
        loop.remove_reader(phone)
        _, extra, _, _ = phone.recvmsg(100, 100)
    assert extra[0][2][0] == 46 << 2
    await pair.close()
