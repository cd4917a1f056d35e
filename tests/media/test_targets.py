"""Which addresses an agent may have, whatever its name says."""

from __future__ import annotations

import asyncio
import socket

import pytest

from media.targets import Resolved, TargetRefused, Targets, literal_problem, private_kind


def answer(*addresses: str, port: int = 80) -> list[Resolved]:
    """What a resolver gives."""
    found: list[Resolved] = []
    for address in addresses:
        if ":" in address:
            found.append((socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0)))
        else:
            found.append((socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)))
    return found


def named(*addresses: str, allow_private: bool = False) -> Targets:
    """Targets whose every name has these addresses."""

    async def resolve(host: str, port: int) -> list[Resolved]:
        return answer(*addresses, port=port)

    return Targets(allow_private=allow_private, resolve=resolve)


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("10.1.2.3", "private"),
        ("172.16.0.1", "private"),
        ("192.168.1.1", "private"),
        ("127.0.0.1", "loopback"),
        ("127.255.0.9", "loopback"),
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "private"),
        ("100.64.0.1", "shared"),
        ("169.254.1.1", "link-local"),
        ("169.254.169.254", "metadata"),
        ("100.100.100.200", "metadata"),
        ("224.0.0.1", "multicast"),
        ("255.255.255.255", "reserved"),
        ("240.0.0.1", "reserved"),
        ("198.18.0.1", "private"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("fc00::1", "private"),
        ("fd12:3456::1", "private"),
        ("fd00:ec2::254", "metadata"),
        ("fec0::1", "private"),
        ("ff02::1", "multicast"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:10.0.0.1", "private"),
        ("::ffff:169.254.169.254", "metadata"),
        ("::127.0.0.1", "reserved"),
        ("64:ff9b::10.0.0.1", "private"),
        ("64:ff9b:1::1", "private"),
        ("2002:7f00:1::", "loopback"),
        ("2001:0:1:2:3:4:80ff:fffe", "loopback"),
        ("no address", "unreadable"),
    ],
)
def test_an_address_that_is_not_public_is_told_by_its_kind(address: str, kind: str) -> None:
    assert private_kind(address) == kind


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::8.8.8.8", "::ffff:1.1.1.1"],
)
def test_a_public_address_is_no_problem(address: str) -> None:
    assert private_kind(address) is None


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "10.0.0.1",
        "::1",
        "::ffff:10.0.0.1",
        "localhost",
        "LOCALHOST.",
        "agent.localhost",
        "169.254.169.254",
    ],
)
def test_a_hosts_text_can_tell_already(host: str) -> None:
    assert literal_problem(host) is not None


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "127.1", "0x7f.1", "017700000001", "1.2.3.0x4"])
def test_an_address_in_disguise_is_refused(host: str) -> None:
    """Forms that ``inet_aton`` still reads."""
    assert literal_problem(host) is not None


@pytest.mark.parametrize("host", ["agent.example.com", "8.8.8.8", "2606:4700::1111", "7.example", "x1"])
def test_other_hosts_are_judged_when_they_are_connected_to(host: str) -> None:
    assert literal_problem(host) is None


async def test_a_name_that_leads_inside_is_refused() -> None:
    targets = named("192.168.0.9")
    with pytest.raises(TargetRefused, match=r"private address, and agents\.allow_private is off"):
        await targets.connect("innocent.example.com", 80, 1.0)
    assert targets.refused == 1


async def test_of_several_addresses_only_the_public_ones_remain() -> None:
    found = await named("10.0.0.1", "8.8.8.8", "::1").resolve("mixed.example.com", 443)
    assert [each[4][:2] for each in found] == [("8.8.8.8", 443)]


async def test_a_lab_may_go_anywhere() -> None:
    assert await named("127.0.0.1", allow_private=True).resolve("here", 80) == answer("127.0.0.1")


async def test_a_name_without_addresses_is_an_error_and_no_refusal() -> None:
    with pytest.raises(OSError, match="no address for nowhere") as caught:
        await named().connect("nowhere", 80, 1.0)
    assert not isinstance(caught.value, TargetRefused)


async def test_a_name_is_resolved_once_so_that_its_second_answer_gains_nothing() -> None:
    """DNS rebinding: public when it is checked, private when it is connected to."""
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> list[Resolved]:
        asked.append(host)
        return answer("203.0.113.1" if len(asked) > 1 else "10.0.0.1", port=port)

    with pytest.raises(TargetRefused):
        await Targets(resolve=rebinding).connect("rebind.example.com", 80, 1.0)
    assert asked == ["rebind.example.com"]


@pytest.mark.realtime
async def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    """Loopback port 1 of another address refuses; the second address listens."""
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        connected = await named("127.0.0.2", "127.0.0.1", allow_private=True).connect("two", port, 4.0)
        assert connected.getpeername() == ("127.0.0.1", port)
        connected.close()


async def test_an_agent_on_this_machine_is_connected_to_within_one_turn_of_the_loop() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        connecting = named("127.0.0.1", allow_private=True).connect("here", server.getsockname()[1], 4.0)
        with pytest.raises(StopIteration) as done:
            connecting.send(None)
        with done.value.value as connected:
            assert connected.getpeername() == server.getsockname()
            assert not connected.getblocking()
