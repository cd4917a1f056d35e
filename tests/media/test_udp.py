"""The process's UDP sockets: pairs of them, read a tick at a time."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from media.udp import Address, Datagrams, PortUnavailable
from tests.support.ports import free_ports

pytestmark = pytest.mark.realtime


class Inbox:
    """What arrived."""

    def __init__(self) -> None:
        self.datagrams: list[tuple[bytes, Address, float]] = []

    def __call__(self, data: bytes, source: Address, now: float) -> None:
        self.datagrams.append((data, source, now))


@pytest.fixture
def datagrams() -> Iterator[Datagrams]:
    """Those of a process."""
    all_of_them = Datagrams()
    yield all_of_them
    assert len(all_of_them) == 0


async def until(datagrams: Datagrams, condition: Callable[[], object]) -> None:
    """Read, as the ticker does, until it is so."""
    async with asyncio.timeout(5.0):
        while not condition():
            datagrams.receive()
            await asyncio.sleep(0)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_rtp_and_rtcp_have_neighbouring_ports_and_datagrams_cross(datagrams: Datagrams, host: str) -> None:
    first, second = free_ports(2, host), free_ports(2, host)
    rtp, rtcp = Inbox(), Inbox()
    ours = datagrams.open_pair(host, first, Inbox(), Inbox())
    theirs = datagrams.open_pair(host, second, rtp, rtcp)
    ours.send_rtp(b"rtp", (host, second))
    ours.send_rtcp(b"rtcp", (host, second + 1))
    await until(datagrams, lambda: rtp.datagrams and rtcp.datagrams)
    assert rtp.datagrams[0][:2] == (b"rtp", (host, first))
    assert rtcp.datagrams[0][:2] == (b"rtcp", (host, first + 1))
    ours.close()
    theirs.close()


async def test_a_datagram_has_the_time_of_its_arrival_however_late_it_is_read(datagrams: Datagrams) -> None:
    """Jitter is the network's, not that of our ticks."""
    port, inbox = free_ports(2), Inbox()
    pair = datagrams.open_pair("127.0.0.1", port, inbox, Inbox())
    before = time.monotonic()
    pair.send_rtp(b"early", ("127.0.0.1", port))
    after = time.monotonic()
    await asyncio.sleep(0.1)
    datagrams.receive()
    ((_, _, arrival),) = inbox.datagrams
    assert before - 0.01 <= arrival <= after + 0.05
    pair.close()


async def test_all_that_waits_is_read_in_order(datagrams: Datagrams) -> None:
    port, inbox = free_ports(2), Inbox()
    pair = datagrams.open_pair("127.0.0.1", port, inbox, Inbox())
    for number in range(Datagrams.ROUNDS):
        pair.send_rtp(b"%d" % number, ("127.0.0.1", port))
    datagrams.receive()
    assert [data for data, _, _ in inbox.datagrams] == [b"%d" % number for number in range(Datagrams.ROUNDS)]
    pair.close()


async def test_a_flood_on_one_port_leaves_the_others_their_turn(datagrams: Datagrams) -> None:
    port, flooded, quiet = free_ports(4), Inbox(), Inbox()
    first = datagrams.open_pair("127.0.0.1", port, flooded, Inbox())
    second = datagrams.open_pair("127.0.0.1", port + 2, quiet, Inbox())
    for _ in range(3 * Datagrams.ROUNDS):
        second.send_rtp(b"flood", ("127.0.0.1", port))
    first.send_rtp(b"voice", ("127.0.0.1", port + 2))
    datagrams.receive()
    assert len(flooded.datagrams) == Datagrams.ROUNDS
    assert [data for data, _, _ in quiet.datagrams] == [b"voice"]
    first.close()
    second.close()


async def test_what_is_longer_than_any_packet_is_dropped(datagrams: Datagrams) -> None:
    port, inbox = free_ports(2), Inbox()
    pair = datagrams.open_pair("127.0.0.1", port, inbox, Inbox())
    pair.send_rtp(bytes(5000), ("127.0.0.1", port))
    pair.send_rtp(b"fine", ("127.0.0.1", port))
    datagrams.receive()
    assert [data for data, _, _ in inbox.datagrams] == [b"fine"]
    pair.close()


async def test_a_handler_that_fails_costs_no_other_its_datagram(
    datagrams: Datagrams, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(data: bytes, source: Address, now: float) -> None:
        raise LookupError(data)

    port, inbox = free_ports(4), Inbox()
    bad = datagrams.open_pair("127.0.0.1", port, fails, Inbox())
    good = datagrams.open_pair("127.0.0.1", port + 2, inbox, Inbox())
    for to in (port, port + 2):
        good.send_rtp(b"x", ("127.0.0.1", to))
    datagrams.receive()
    assert len(inbox.datagrams) == 1
    assert "a datagram was not handled" in caplog.text
    bad.close()
    good.close()


async def test_a_pair_closed_by_a_handler_is_read_no_more(datagrams: Datagrams) -> None:
    port = free_ports(2)
    heard: list[bytes] = []

    def last(data: bytes, source: Address, now: float) -> None:
        heard.append(data)
        pair.close()

    pair = datagrams.open_pair("127.0.0.1", port, last, Inbox())
    for _ in range(3):
        pair.send_rtp(b"x", ("127.0.0.1", port))
    datagrams.receive()
    datagrams.receive()
    assert heard == [b"x"]
    pair.send_rtp(b"late", ("127.0.0.1", port))
    pair.close()


@pytest.mark.parametrize("taken", [0, 1])
def test_a_port_in_use_is_refused_and_the_other_of_the_pair_is_free_again(datagrams: Datagrams, taken: int) -> None:
    port = free_ports(2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", port + taken))
        with pytest.raises(PortUnavailable, match=f"port {port + taken}"):
            datagrams.open_pair("127.0.0.1", port, Inbox(), Inbox())
    datagrams.open_pair("127.0.0.1", port, Inbox(), Inbox()).close()


def test_an_address_that_is_not_this_machines_is_refused(datagrams: Datagrams) -> None:
    with pytest.raises(PortUnavailable, match=r"192\.0\.2\.1"):
        datagrams.open_pair("192.0.2.1", free_ports(2), Inbox(), Inbox())


def test_a_port_beyond_the_last_is_refused(datagrams: Datagrams) -> None:
    with pytest.raises(PortUnavailable, match="65536"):
        datagrams.open_pair("127.0.0.1", 65535, Inbox(), Inbox())


def test_a_closed_pair_can_be_bound_again_at_once(datagrams: Datagrams) -> None:
    port = free_ports(2)
    for _ in range(3):
        datagrams.open_pair("127.0.0.1", port, Inbox(), Inbox()).close()


def test_sending_where_nobody_listens_raises_nothing(datagrams: Datagrams) -> None:
    port, nobody = free_ports(2), free_ports(2)
    pair = datagrams.open_pair("127.0.0.1", port, Inbox(), Inbox())
    for _ in range(3):
        pair.send_rtp(b"x", ("127.0.0.1", nobody))
        datagrams.receive()
    pair.close()


async def test_voice_is_marked_for_expedited_forwarding(datagrams: Datagrams) -> None:
    """RFC 4594 §4.1: DSCP EF."""
    port, arrived = free_ports(2), Inbox()
    loop = asyncio.get_running_loop()
    pair = datagrams.open_pair("127.0.0.1", port, arrived, Inbox())
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
    pair.close()
