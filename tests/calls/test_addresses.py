"""What the caller is told of our addresses, where they are not those we listen on."""

from __future__ import annotations

from pathlib import Path

from tests.support.edge import DID, Edge, Keyring, Settings
from tests.support.phone import Phone

PUBLIC = Settings(sip={"public_address": "203.0.113.5"}, media={"public_address": "203.0.113.6"})


async def test_no_address_of_our_own_network_is_told_to_the_caller(tmp_path: Path, keyring: Keyring) -> None:
    """A container's address in ``Contact`` or ``c=`` is one-way audio; signalling's and media's are told apart."""
    async with Edge.open(tmp_path / "edge", keyring, PUBLIC) as edge:
        await edge.add_echo()
        async with Phone.open(edge.listeners["udp"]) as phone:
            call = await phone.call(DID)
            response = await call.establish()
            _, port = edge.listeners["udp"]
            assert f"203.0.113.5:{port}" in response.uri("contact")
            assert response.media()[0] == "203.0.113.6"
            assert b"127.0.0.1" not in response.get("contact").encode() + response.body
            assert (await call.bye()).status == 200
        await edge.expect_records(1)
