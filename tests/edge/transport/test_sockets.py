"""Sockets as the transports open them."""

from __future__ import annotations

import pytest

from edge.events import Address, TransportName
from edge.transport.shell import SipTransport
from edge.transport.sockets import ListenError
from tests.edge.shell import LOOPBACK, MESSAGE, TCP, TLS, UDP, NoResolver, ScriptedEngine, connected, shell, until


@pytest.mark.uvloop
@pytest.mark.parametrize("name", [UDP, TCP])
async def test_a_port_in_use_is_one_readable_error_and_leaves_nothing_open(name: TransportName) -> None:
    async with shell(name) as edge:
        other = SipTransport(
            ScriptedEngine(), [(UDP, LOOPBACK), (name, edge.bound[name])], on_event=print, resolver=NoResolver()
        )
        with pytest.raises(ListenError) as caught:
            await other.start()
        assert str(caught.value) == f"cannot listen on {name.value}:{edge.bound[name]}: Address already in use"


@pytest.mark.uvloop
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


@pytest.mark.uvloop
async def test_a_tls_listener_without_certificate_is_one_readable_error() -> None:
    with pytest.raises(ListenError, match=r"tls:127.0.0.1:0: no certificate"):
        async with shell(TLS):
            pass


@pytest.mark.uvloop
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
