"""A call over IPv6, signalling and media."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.audio import tone
from tests.support.edge import DID, Edge, Keyring, Settings
from tests.support.phone import Phone

pytestmark = pytest.mark.realtime


async def test_each_call_is_answered_in_the_family_that_its_sdp_has(tmp_path: Path, keyring: Keyring) -> None:
    """One edge, both families: media has an address of each."""
    settings = Settings(
        listen=("udp:[::1]:0", "tcp:127.0.0.1:0"), media={"listen_address": "127.0.0.1", "listen_address_6": "::1"}
    )
    async with Edge.open(tmp_path / "edge", keyring, settings) as edge:
        await edge.add_echo()
        for transport, host, told in (("udp", "::1", b"IP6 ::1"), ("tcp", "127.0.0.1", b"IP4 127.0.0.1")):
            async with Phone.open(edge.listeners[transport], transport, host=host) as phone:
                call = await phone.call(DID)
                response = await call.establish()
                assert b"c=IN " + told + b"\r\n" in response.body
                await asyncio.gather(call.media.play(tone(1000, 0.5)), call.media.expect_tone(1000, 0.2))
                assert (await call.bye()).status == 200
        await edge.expect_records(2)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_call_over_ipv6_is_heard(tmp_path: Path, keyring: Keyring, transport: str) -> None:
    """Brackets in URIs and Via (RFC 3261 §25.1), none in SDP (RFC 4566 §5.7)."""
    settings = Settings(listen=("udp:[::1]:0", "tcp:[::1]:0"), media={"listen_address": "::1"})
    async with Edge.open(tmp_path / "edge", keyring, settings) as edge:
        await edge.add_echo()
        async with Phone.open(edge.listeners[transport], transport, host="::1") as phone:
            call = await phone.call(DID)
            response = await call.establish()
            assert b"c=IN IP6 ::1\r\n" in response.body
            assert "@[::1]:" in response.get("contact") or "<sip:[::1]:" in response.get("contact")
            await asyncio.gather(call.media.play(tone(1000, 1.0)), call.media.expect_tone(1000, 0.5))
            assert (await call.bye()).status == 200
        await edge.expect_records(1)
