"""What happens inside calls: late offers, holds, refusals, lost messages, agents that fail."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.audio import heard_s, level_dbfs, tone
from tests.support.edge import DID, Edge, Keyring, Settings
from tests.support.media_streams_agent import AGENT_HZ, AgentCall, MediaStreamsAgent, greet
from tests.support.phone import Phone, sdp_offer
from tests.support.ports import free_ports
from tests.support.rtp import MediaPort

CALLER_HZ = 1000


@pytest.mark.realtime
async def test_an_invite_without_an_offer_gets_ours_and_answers_in_the_ack(edge: Edge) -> None:
    """RFC 3261 §13.2.1: the offer is in the 200, the answer in the ACK; then there is sound."""
    await edge.add_echo()
    async with Phone.open(edge.listeners["udp"]) as phone:
        call = await phone.call(DID)
        await call.invite(body=b"")
        offer = await call.expect(200)
        call.media.target = offer.media()
        await call.ack(sdp_offer(*call.media.address, payload_types=(0, 101)))
        await asyncio.gather(call.media.play(tone(CALLER_HZ, 1.0)), call.media.expect_tone(CALLER_HZ, 0.5))
        assert (await call.bye()).status == 200
    await edge.expect_records(1)


@pytest.mark.realtime
async def test_a_re_invite_that_cannot_be_met_is_refused_and_the_call_goes_on(edge: Edge) -> None:
    """RFC 3261 §14.2: 488, and the session stays as it was."""
    await edge.add_echo()
    async with Phone.open(edge.listeners["udp"]) as phone:
        call = await phone.call(DID)
        await call.establish()
        await call.invite(body=sdp_offer(*call.media.address, payload_types=(9, 18), version=2))
        await call.expect(488)
        await asyncio.gather(call.media.play(tone(CALLER_HZ, 1.0)), call.media.expect_tone(CALLER_HZ, 0.5))
        assert (await call.bye()).status == 200
    await edge.expect_records(1)


@pytest.mark.realtime
async def test_a_re_invite_moves_the_media(edge: Edge) -> None:
    """A new port in the SDP: the echo goes there and no longer to the old one."""
    await edge.add_echo()
    async with Phone.open(edge.listeners["udp"]) as phone, MediaPort.open(ssrc=0xABCD) as moved:
        call = await phone.call(DID)
        await call.establish()
        await asyncio.gather(call.media.play(tone(CALLER_HZ, 0.5)), call.media.expect_tone(CALLER_HZ, 0.3))
        await call.invite(body=sdp_offer(*moved.address, version=2))
        answer = await call.expect(200)
        await call.ack()
        moved.target = answer.media()
        old = len(call.media.packets)
        await asyncio.gather(moved.play(tone(700, 1.0)), moved.expect_tone(700, 0.5))
        assert len(call.media.packets) - old <= 2
        assert (await call.bye()).status == 200
    await edge.expect_records(1)


@pytest.mark.realtime
async def test_a_stranger_to_the_call_neither_speaks_nor_hears(edge: Edge) -> None:
    """Packets from another port of the same address, before and during the call, reach no agent and get no answer."""
    async with MediaStreamsAgent.open(greet) as agent:
        await edge.add_agent_at(agent.url)
        async with Phone.open(edge.listeners["udp"]) as phone, MediaPort.open(ssrc=0xBAD) as stranger:
            call = await phone.call(DID)
            response = await call.establish()
            heard = await agent.expect_call()
            await call.media.play(tone(CALLER_HZ, 0.3))
            stranger.target = response.media()
            await asyncio.gather(stranger.play(tone(2000, 1.0)), call.media.play(tone(CALLER_HZ, 1.0)))
            await heard.expect_tone(CALLER_HZ, 0.8)
            assert heard_s(heard.heard(), 2000) == 0.0
            assert stranger.packets == []
            await call.bye()
    [record] = await edge.expect_records(1)
    assert record["statistics"]["packets_refused"] >= 40


async def test_a_200_is_repeated_until_its_ack_comes(tmp_path: Path, keyring: Keyring) -> None:
    """RFC 3261 §13.3.1.4: at T1, doubling; the call lives."""
    async with Edge.open(tmp_path / "edge", keyring, Settings(sip={"t1_s": 0.1})) as edge:
        await edge.add_echo()
        async with Phone.open(edge.listeners["udp"]) as phone:
            call = await phone.call(DID)
            await call.invite()
            for _ in range(3):
                response = await call.expect(200)
            await call.ack()
            call.media.target = response.media()
            await asyncio.gather(call.media.play(tone(CALLER_HZ, 0.5)), call.media.expect_packets(15))
            await call.bye()
        [record] = await edge.expect_records(1)
        assert record["end_reason"] == "caller_hung_up"


async def test_a_call_that_is_never_acknowledged_is_ended_with_bye(tmp_path: Path, keyring: Keyring) -> None:
    """RFC 3261 §13.3.1.4: after 64·T1."""
    async with Edge.open(tmp_path / "edge", keyring, Settings(sip={"t1_s": 0.05})) as edge:
        await edge.add_echo()
        async with Phone.open(edge.listeners["udp"]) as phone:
            call = await phone.call(DID)
            await call.invite()
            await call.expect_request("BYE")
        [record] = await edge.expect_records(1)
        assert (record["ended_by"], record["end_reason"]) == ("edge", "no_ack")


async def test_an_agent_that_refuses_is_480_at_once(edge: Edge) -> None:
    """A port nobody listens on: no waiting for the agent's time-out."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    await edge.add_agent_at(f"ws://127.0.0.1:{port}/agent")
    async with Phone.open(edge.listeners["udp"]) as phone:
        call = await phone.call(DID)
        await call.invite()
        refused = await call.expect(480, timeout_s=2.0)
        assert "agent" in refused.get("reason")
    [record] = await edge.expect_records(1)
    assert (record["end_reason"], record["sip_status"]) == ("agent_refused", 480)


async def test_an_agent_that_leaves_before_the_answer_is_480_and_on_record_as_having_left(edge: Edge) -> None:
    """It was reached: nobody is to look for a fault in the network."""
    async with MediaStreamsAgent.open(AgentCall.hang_up) as agent:
        await edge.add_agent_at(agent.url)
        async with Phone.open(edge.listeners["udp"]) as phone:
            call = await phone.call(DID)
            await call.invite()
            refused = await call.expect(480)
            assert "ended the call before the answer" in refused.get("reason")
    [record] = await edge.expect_records(1)
    assert (record["ended_by"], record["end_reason"], record["sip_status"]) == ("agent", "agent_closed", 480)


@pytest.mark.realtime
async def test_an_agent_that_says_nothing_is_answered_for_after_its_time(edge: Edge) -> None:
    """180 while it connects; 200 ``answer_after_s`` after ``start``."""
    async with MediaStreamsAgent.open() as agent:
        await edge.add_agent_at(agent.url, answer_after_s=0.5)
        async with Phone.open(edge.listeners["udp"]) as phone:
            call = await phone.call(DID)
            await call.invite()
            await call.expect(180)
            connected = await agent.expect_call()
            began = asyncio.get_running_loop().time()
            await call.expect(200)
            assert 0.3 <= asyncio.get_running_loop().time() - began <= 1.0
            await call.ack()
            await call.bye()
            await connected.expect("stop")
    await edge.expect_records(1)


@pytest.mark.realtime
async def test_an_agent_that_dies_in_mid_call_ends_that_call_alone(edge: Edge) -> None:
    """BYE within two seconds; the call beside it goes on."""
    other = "+14155550101"
    await edge.add_echo(other)

    async def die(call: AgentCall) -> None:
        await call.say(tone(AGENT_HZ, 0.2))
        await call.expect_tone(CALLER_HZ, 0.1)
        call.abort()

    async with MediaStreamsAgent.open(die) as agent:
        await edge.add_agent_at(agent.url)
        async with Phone.open(edge.listeners["udp"]) as phone:
            echoed, cut = await phone.call(other), await phone.call(DID)
            await echoed.establish()
            await cut.establish()
            await cut.media.play(tone(CALLER_HZ, 0.5))
            await cut.expect_request("BYE", timeout_s=2.0)
            await asyncio.gather(echoed.media.play(tone(700, 0.5)), echoed.media.expect_tone(700, 0.3))
            await echoed.bye()
    records = {record["to_number"]: record for record in await edge.expect_records(2)}
    assert (records[DID]["ended_by"], records[DID]["end_reason"]) == ("agent", "agent_lost")
    assert records[other]["end_reason"] == "caller_hung_up"


@pytest.mark.realtime
async def test_clear_returns_the_outstanding_marks_at_once_and_silences(edge: Edge) -> None:
    """Twilio's own order: the marks of what was dropped come back; what is said next is heard."""
    async with MediaStreamsAgent.open() as agent:
        await edge.add_agent_at(agent.url, answer_after_s=0)
        async with Phone.open(edge.listeners["udp"]) as phone:
            call = await phone.call(DID)
            await call.establish()
            connected = await agent.expect_call()
            await connected.say(tone(AGENT_HZ, 20.0))
            await connected.mark("far away")
            await call.media.play(tone(CALLER_HZ, 0.1))
            await call.media.expect_tone(AGENT_HZ, 0.5)
            await connected.clear()
            assert (await connected.expect("mark", timeout_s=1.0))["mark"]["name"] == "far away"
            await connected.say(tone(700, 0.5))
            await call.media.expect_tone(700, 0.4)
            await call.bye()
    await edge.expect_records(1)


@pytest.mark.realtime
async def test_the_parrot_greets_repeats_says_digits_and_hangs_up_on_the_hash(edge: Edge) -> None:
    """The built-in agent, with which a first call is made."""
    await edge.add_number({"protocol": "builtin", "name": "parrot"})
    async with Phone.open(edge.listeners["udp"]) as phone:
        call = await phone.call(DID)
        await call.establish()
        await call.media.play(tone(CALLER_HZ, 0.02))
        await call.media.wait_until(
            lambda: level_dbfs(call.media.audio()[:8000]) > -50 and len(call.media.packets) > 50, "a greeting"
        )
        await call.media.play(tone(CALLER_HZ, 1.0))
        silence = asyncio.create_task(call.media.play(tone(CALLER_HZ, 3.0, level=0.0)))
        await call.media.expect_tone(CALLER_HZ, 0.5)
        await silence
        await call.media.press("#")
        await call.expect_request("BYE")
    [record] = await edge.expect_records(1)
    assert (record["ended_by"], record["end_reason"]) == ("agent", "agent_hung_up")


async def test_a_port_that_another_program_holds_costs_no_call(tmp_path: Path, keyring: Keyring) -> None:
    """A range of four pairs of which three are taken by others: the call gets the fourth."""
    first = free_ports(8)
    with ExitStack() as taken:
        for port in (first, first + 2, first + 5):
            held = taken.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            held.bind(("127.0.0.1", port))
        media = {"port_min": first, "port_max": first + 7}
        async with Edge.open(tmp_path / "edge", keyring, Settings(media=media, limits={"calls": 4})) as edge:
            await edge.add_echo()
            async with Phone.open(edge.listeners["udp"]) as phone:
                call = await phone.call(DID)
                response = await call.establish()
                assert response.media()[1] == first + 6
                await call.bye()
            await edge.expect_records(1)
