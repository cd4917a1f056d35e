"""Real phones dial a number and talk with its agent, over each transport they speak."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.audio import heard_s, tone
from tests.support.edge import DID, Edge
from tests.support.media_streams_agent import AGENT_HZ, MediaStreamsAgent, greet, greet_and_leave
from tests.support.pki import Pki
from tests.support.process import needs
from tests.support.sipp import Sipp
from tests.support.sniffer import Sniffer, can_sniff
from tests.support.user_agents import USER_AGENTS, user_agent

pytestmark = pytest.mark.realtime

CALLER_HZ = 1000


@pytest.mark.interop(
    agent=("baresip", "linphone", "pjsua2"),
    feature=("UDP", "TCP", "TLS", "PCMU", "digits by RFC 4733", "caller hangs up"),
)
@pytest.mark.parametrize(("name", "transport"), USER_AGENTS)
async def test_caller_and_agent_hear_each_other_and_the_caller_hangs_up(
    edge: Edge, pki: Pki, tmp_path: Path, name: str, transport: str
) -> None:
    """Tones cross both ways, digits arrive in order, and one call leaves one record."""
    async with MediaStreamsAgent.open(greet) as agent:
        await edge.add_agent_at(agent.url)
        async with user_agent(name, transport, tmp_path / "phone", tone(CALLER_HZ, 20), pki) as phone:
            await phone.dial(DID, edge.listeners[transport])
            call = await agent.expect_call()
            await call.expect_tone(CALLER_HZ, 0.5)
            await phone.press("12#")
            await call.wait_until(lambda: call.digits() == "12#", "digits 12#")
            await call.expect("mark")
            await phone.hang_up()
            await call.expect("stop")
        assert heard_s(phone.heard(), AGENT_HZ) >= 0.8
        assert phone.ends() == 1
        assert len(agent.calls) == 1
    [record] = await edge.expect_records(1)
    assert (record["ended_by"], record["end_reason"], record["status"]) == ("caller", "caller_hung_up", "completed")


@pytest.mark.interop(agent=("baresip", "linphone", "pjsua2"), feature=("UDP", "TCP", "TLS", "edge hangs up"))
@pytest.mark.parametrize(("name", "transport"), USER_AGENTS)
async def test_the_agent_hangs_up_and_what_it_said_is_played_out(
    edge: Edge, pki: Pki, tmp_path: Path, name: str, transport: str
) -> None:
    """One BYE reaches the phone, after the agent's last word."""
    async with MediaStreamsAgent.open(greet_and_leave) as agent:
        await edge.add_agent_at(agent.url)
        async with user_agent(name, transport, tmp_path / "phone", tone(CALLER_HZ, 20), pki) as phone:
            await phone.dial(DID, edge.listeners[transport])
            await phone.expect_end()
        assert heard_s(phone.heard(), AGENT_HZ) >= 0.8
        assert phone.ends() == 1
    [record] = await edge.expect_records(1)
    assert (record["ended_by"], record["end_reason"]) == ("agent", "agent_closed")


@pytest.mark.interop(agent="sipp", feature=("UDP", "TCP", "PCMU", "caller hangs up"))
@needs("sipp")
@can_sniff
@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_sipp_and_agent_hear_each_other_and_sipp_hangs_up(edge: Edge, tmp_path: Path, transport: str) -> None:
    """sipp's own RTP stream reaches the agent, the agent's reaches sipp's port."""
    async with MediaStreamsAgent.open(greet) as agent:
        await edge.add_agent_at(agent.url)
        target = edge.listeners[transport]
        say = tone(CALLER_HZ, 2.0)
        async with Sipp.dial(tmp_path / "sipp", target, DID, say=say, transport=transport, hold_ms=2500) as sipp:
            with Sniffer.open(sipp.media_ports) as sniffer:
                await sipp.finish()
                assert heard_s(sniffer.audio(), AGENT_HZ) >= 0.8
        call = agent.calls[0]
        await call.expect("stop")
        assert heard_s(call.heard(), CALLER_HZ) >= 1.5
    [record] = await edge.expect_records(1)
    assert record["end_reason"] == "caller_hung_up"


@pytest.mark.interop(agent="sipp", feature="edge hangs up")
@needs("sipp")
@can_sniff
async def test_sipp_is_hung_up_on_by_the_agent(edge: Edge, tmp_path: Path) -> None:
    """sipp takes exactly one BYE: its scenario fails on anything else."""
    async with MediaStreamsAgent.open(greet_and_leave) as agent:
        await edge.add_agent_at(agent.url)
        async with Sipp.dial(
            tmp_path / "sipp", edge.listeners["udp"], DID, say=tone(CALLER_HZ, 5.0), scenario="be_hung_up_on"
        ) as sipp:
            with Sniffer.open(sipp.media_ports) as sniffer:
                await sipp.finish()
                assert heard_s(sniffer.audio(), AGENT_HZ) >= 0.8
    [record] = await edge.expect_records(1)
    assert record["end_reason"] == "agent_closed"


@pytest.mark.interop(agent="sipp", feature="digits by RFC 4733")
@needs("sipp")
async def test_digits_that_sipp_plays_from_a_capture_arrive(edge: Edge, tmp_path: Path) -> None:
    """RFC 4733: three keys of 100 ms, their packets repeated at the end."""
    async with MediaStreamsAgent.open(greet) as agent:
        await edge.add_agent_at(agent.url)
        async with Sipp.dial(
            tmp_path / "sipp", edge.listeners["udp"], DID, say=tone(CALLER_HZ, 1.0), scenario="digits", digits="12#"
        ) as sipp:
            call = await agent.expect_call()
            await call.wait_until(lambda: call.digits() == "12#", "digits 12#")
            await sipp.finish()
    await edge.expect_records(1)
