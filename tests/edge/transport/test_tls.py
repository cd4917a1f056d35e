"""TLS as SIP uses it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path

import pytest

from edge.actions import Dispatch, Target
from edge.transport.stream import TransportLimits
from edge.transport.tls import client_context, server_context
from tests.edge.shell import MESSAGE, REPLY, TLS, connected, seconds_until_closed, shell, until
from tests.support.pki import Pki


@pytest.mark.uvloop
async def test_a_tls_connection_carries_messages_both_ways(tls: dict[str, ssl.SSLContext]) -> None:
    async with shell(TLS, **tls) as edge, shell(TLS, **tls) as peer:
        peer.echo()
        edge.act(Dispatch(MESSAGE, Target(TLS, peer.bound[TLS], "sip.test"), "t1"))
        await until(lambda: edge.engine.of("receive"))
        assert edge.engine.of("receive")[0][0] == REPLY
        assert peer.engine.of("receive")[0][1].transport is TLS


@pytest.mark.uvloop
async def test_a_certificate_for_another_name_is_refused(tls: dict[str, ssl.SSLContext]) -> None:
    """RFC 5922 §7.2: the name in the URI decides, whatever the address."""
    async with shell(TLS, **tls) as edge, shell(TLS, **tls) as peer:
        edge.act(Dispatch(MESSAGE, Target(TLS, peer.bound[TLS], "sip.example.test"), "t1"))
        await until(lambda: edge.engine.of("failed"))
        assert peer.engine.of("receive") == []


@pytest.mark.uvloop
async def test_a_certificate_of_an_unknown_authority_is_refused(tls: dict[str, ssl.SSLContext]) -> None:
    async with shell(TLS, **tls | {"tls_client": client_context()}) as edge, shell(TLS, **tls) as peer:
        edge.act(Dispatch(MESSAGE, Target(TLS, peer.bound[TLS], "sip.test"), "t1"))
        await until(lambda: edge.engine.of("failed"))


@pytest.mark.uvloop
async def test_connections_are_pooled_by_verified_name_not_by_address(tls: dict[str, ssl.SSLContext]) -> None:
    async with shell(TLS, **tls) as edge, shell(TLS, **tls) as peer:
        peer.echo()
        for name in ("sip.test", "localhost", "sip.test"):
            edge.act(Dispatch(MESSAGE, Target(TLS, peer.bound[TLS], name), name))
        await until(lambda: len(edge.engine.of("receive")) == 3)
        assert peer.transport.connections == 2


@pytest.mark.uvloop
async def test_old_tls_versions_are_refused(tls: dict[str, ssl.SSLContext], pki: Pki) -> None:
    old = pki.client_context()
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with shell(TLS, **tls) as edge:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", edge.bound[TLS].port, ssl=old, server_hostname="sip.test")
        await until(lambda: edge.counters.get("sip_transport_drops", reason="TLS: UNSUPPORTED_PROTOCOL") == 1)
        assert edge.transport.connections == 0


@pytest.mark.uvloop
async def test_a_stalled_handshake_is_cut(tls: dict[str, ssl.SSLContext]) -> None:
    async with (
        shell(TLS, limits=TransportLimits(handshake_s=0.3), **tls) as edge,
        connected(edge.bound[TLS]) as (reader, writer),
    ):
        writer.write(b"\x16\x03\x01")
        assert 0.2 < await asyncio.wait_for(seconds_until_closed(reader), 3) < 1.0
        await until(lambda: edge.transport.connections == 0)
        assert edge.engine.inputs == []


@pytest.mark.uvloop
async def test_stalled_handshakes_count_towards_the_cap_of_an_address(tls: dict[str, ssl.SSLContext]) -> None:
    async with shell(TLS, **tls) as edge, contextlib.AsyncExitStack() as stack:
        for _ in range(15):
            await stack.enter_async_context(connected(edge.bound[TLS]))
        await until(lambda: edge.counters.get("sip_transport_drops", what="connection") == 5)
        assert edge.transport.connections == 10


@pytest.mark.uvloop
async def test_plain_text_on_the_tls_port_is_dropped(tls: dict[str, ssl.SSLContext]) -> None:
    async with shell(TLS, **tls) as edge, connected(edge.bound[TLS]) as (reader, writer):
        writer.write(MESSAGE)
        assert await asyncio.wait_for(seconds_until_closed(reader), 3) < 1.0
        await until(lambda: edge.transport.connections == 0)
        assert edge.engine.of("receive") == []


def test_a_missing_certificate_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        server_context(tmp_path / "none.pem", tmp_path / "none.key")
