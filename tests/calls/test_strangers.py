"""Who may call: the listed, the challenged that know the password, and nobody else."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.edge import DID, Edge, Keyring, Settings
from tests.support.phone import Message, Phone, sdp_offer

DIGEST = {"auth": "digest", "username": "pbx", "password": "a long password"}


async def test_an_unlisted_source_gets_no_byte(tmp_path: Path, keyring: Keyring) -> None:
    """INVITE, OPTIONS, REGISTER, junk, an ACK, a BYE: silence, while a listed source is served beside it."""
    settings = Settings(addresses=("127.0.0.2/32",), limits={"attempts_burst": 50})
    async with Edge.open(tmp_path / "edge", keyring, settings) as edge:
        await edge.add_echo()
        peer = edge.listeners["udp"]
        async with Phone.open(peer, host="127.0.0.3") as stranger, Phone.open(peer, host="127.0.0.2") as listed:
            for method in ("INVITE", "OPTIONS", "REGISTER", "BYE", "CANCEL", "ACK", "SUBSCRIBE"):
                await stranger.send(stranger.request(method, edge.uri()))
            await stranger.send(b"\x00" * 500)
            await stranger.send(b"SIP/2.0 200 OK\r\n\r\n")
            await stranger.send(b"INVITE sip:x SIP/2.0\r\nVia: broken\r\n\r\n")
            assert (await listed.options()).status == 200
            call = await listed.call(DID)
            await call.establish()
            await call.bye()
            assert stranger.orphans == []
            assert stranger.heard_bytes == 0
        metrics = await edge.metrics()
        dropped = [name for name in metrics if name.startswith("truedy_") and "127.0.0.3" in name]
        assert dropped, f"nothing was counted against the stranger: {sorted(metrics)}"
        await edge.expect_records(1)


async def test_an_unlisted_tcp_connection_hears_nothing_either(tmp_path: Path, keyring: Keyring) -> None:
    """It may be accepted, but it is told nothing."""
    async with Edge.open(tmp_path / "edge", keyring, Settings(addresses=("127.0.0.2/32",))) as edge:
        reader, writer = await asyncio.open_connection(*edge.listeners["tcp"], local_addr=("127.0.0.3", 0))
        writer.write(b"\r\n\r\n")  # a ping, and a scan
        writer.write(b"OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.3;branch=z9hG4bK1\r\n\r\n")
        async with Phone.open(edge.listeners["tcp"], "tcp", host="127.0.0.2") as listed:
            assert (await listed.options()).status == 200
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 12.0) == b""
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
async def test_a_digest_trunk_challenges_and_lets_the_password_in(
    tmp_path: Path, keyring: Keyring, algorithm: str
) -> None:
    """407, then the call; the wrong password is challenged again (RFC 3261 §22.3, RFC 8760)."""
    more = {**DIGEST, "digest_algorithms": [algorithm]}
    async with Edge.open(tmp_path / "edge", keyring, Settings(addresses=(), trunk=more)) as edge:
        await edge.add_echo()
        async with Phone.open(edge.listeners["udp"]) as phone:
            call = await phone.call(DID)
            await call.invite()
            await call.authenticate("pbx", "a long password")
            response = await call.expect(200)
            await call.ack()
            call.media.target = response.media()
            assert (await call.bye()).status == 200

            wrong = await phone.call(DID)
            await wrong.invite()
            await wrong.authenticate("pbx", "another password")
            assert (await wrong.expect(407, 403)).status in (407, 403)
        await edge.expect_records(1)


async def test_options_is_answered_while_serving(edge: Edge) -> None:
    """RFC 3261 §11.2: 200, with what may be asked of it."""
    for transport in ("udp", "tcp"):
        async with Phone.open(edge.listeners[transport], transport) as phone:
            answer = await phone.options()
            assert answer.status == 200
            allowed = {method.strip() for method in answer.get("allow").split(",")}
            assert {"INVITE", "ACK", "CANCEL", "BYE", "OPTIONS"} <= allowed


async def test_what_is_not_spoken_is_refused_with_allow(edge: Edge) -> None:
    """RFC 3261 §8.2.1: 405 with Allow."""
    async with Phone.open(edge.listeners["udp"]) as phone:
        answer = await phone.ask(phone.request("PUBLISH", edge.uri()))
        assert answer.status == 405
        assert "INVITE" in answer.get("allow")


@pytest.mark.parametrize(
    ("did", "status"), [("+14155550199", 404), ("nobody", 404)], ids=["not imported", "not a number"]
)
async def test_a_number_that_is_not_on_the_trunk_is_not_found(edge: Edge, did: str, status: int) -> None:
    """No port is leased and no agent is called; one line of the log says what was tried."""
    await edge.add_echo()
    async with Phone.open(edge.listeners["udp"]) as phone:
        call = await phone.call(did)
        await call.invite()
        answer = await call.expect(status)
        assert "Reason" in dict(answer.headers)


async def test_a_number_without_an_agent_is_not_found(edge: Edge) -> None:
    """404 until it is assigned, and again after it was unassigned."""
    number = await edge.add_echo()
    await edge.request("PATCH", f"/telephony/numbers/{number}", {"agent_id": None})
    async with Phone.open(edge.listeners["udp"]) as phone:
        call = await phone.call(DID)
        await call.invite()
        await call.expect(404)


async def test_without_a_common_codec_the_call_is_not_acceptable(edge: Edge) -> None:
    """RFC 3261 §21.4.26: 488; the next call with PCMA alone is taken."""
    await edge.add_echo()
    async with Phone.open(edge.listeners["udp"]) as phone:
        call = await phone.call(DID)
        await call.invite(body=sdp_offer(*call.media.address, payload_types=(9, 18)))
        await call.expect(488)
        call = await phone.call(DID)
        await call.invite(body=sdp_offer(*call.media.address, payload_types=(8, 101)))
        answer: Message = await call.expect(200)
        assert b"RTP/AVP 8 101" in answer.body
        await call.ack()
        await call.bye()
