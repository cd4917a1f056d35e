"""Real phones dial a number and talk with its agent, over each transport they speak."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.audio import heard_s, keys, level_dbfs, tone
from tests.support.edge import DID, Edge, Keyring, Settings
from tests.support.kamailio import Kamailio
from tests.support.media_streams_agent import AGENT_HZ, MediaStreamsAgent, greet, greet_and_leave
from tests.support.pki import Pki
from tests.support.ports import hostport
from tests.support.process import needs
from tests.support.sipp import Sipp
from tests.support.sniffer import Sniffer, can_sniff
from tests.support.user_agents import HOSTS, USER_AGENTS, user_agent

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


@pytest.mark.interop(agent=("baresip", "linphone"), feature="IPv6")
@pytest.mark.interop(
    agent=("baresip", "linphone", "pjsua2"), feature=("PCMA", "digits in band", "held by the phone", "re-INVITE")
)
@pytest.mark.parametrize(("name", "host"), HOSTS)
async def test_a_caller_in_pcma_presses_keys_holds_and_is_heard_again(
    tmp_path: Path, keyring: Keyring, name: str, host: str
) -> None:
    """The keys are in the audio; a hold (RFC 3264 §8.4) is no end of the call."""
    listen = f"udp:{hostport(host, 0)}"
    settings = Settings(listen=(listen,), media={"listen_address": host}, trunk={"codecs": ["PCMA"], "dtmf": "inband"})
    say = np.concatenate([tone(CALLER_HZ, 0.6), keys("12#"), tone(CALLER_HZ, 20)])
    async with MediaStreamsAgent.open(greet) as agent, Edge.open(tmp_path / "edge", keyring, settings) as edge:
        await edge.add_agent_at(agent.url)
        async with user_agent(name, "udp", tmp_path / "phone", say, codec="PCMA", host=host) as phone:
            await phone.dial(DID, edge.listeners["udp"])
            call = await agent.expect_call()
            await call.wait_until(lambda: call.digits() == "12#", "digits 12#")
            await call.expect_tone(CALLER_HZ, 0.6)
            await call.expect("mark")
            await phone.hold()
            await edge.expect_noted("held")
            await phone.resume()
            await edge.expect_noted("resumed")
            at = len(call.heard())
            await call.wait_until(lambda: heard_s(call.heard()[at:], CALLER_HZ) >= 0.4, "the tone after the hold")
            await phone.hang_up()
            await call.expect("stop")
        assert heard_s(phone.heard(), AGENT_HZ) >= 0.8
        [record] = await edge.expect_records(1)
    assert (record["end_reason"], record["statistics"]["codec"]) == ("caller_hung_up", "PCMA")


@pytest.mark.interop(agent=("baresip", "linphone", "pjsua2"), feature=("early media", "CANCEL"))
@pytest.mark.parametrize(
    ("name", "transport"), [each for each in USER_AGENTS if each.id in ("baresip-udp", "linphone-udp", "pjsip-udp")]
)
async def test_what_the_agent_says_before_the_answer_is_heard_and_the_caller_gives_up(
    edge: Edge, tmp_path: Path, name: str, transport: str
) -> None:
    """183 with SDP, and a CANCEL once all has been said (RFC 3261 §9)."""
    async with MediaStreamsAgent.open(greet) as agent:
        await edge.add_agent_at(agent.url, early_media=True, answer_after_s=30)
        async with user_agent(name, transport, tmp_path / "phone", tone(CALLER_HZ, 20)) as phone:
            await phone.ring(DID, edge.listeners[transport])
            call = await agent.expect_call()
            await call.expect("mark")
            await phone.hang_up()
            await call.expect("stop")
        assert heard_s(phone.heard(), AGENT_HZ) >= 0.8
    [record] = await edge.expect_records(1)
    assert (record["end_reason"], record["answered_at"]) == ("caller_cancelled", None)


@pytest.mark.interop(agent="sipp", feature=("UDP", "TCP", "PCMU", "caller hangs up"))
@needs("sipp")
@can_sniff
@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_sipp_and_agent_hear_each_other_and_sipp_hangs_up(edge: Edge, tmp_path: Path, transport: str) -> None:
    """sipp's own RTP stream reaches the agent, the agent's reaches sipp's port."""
    async with MediaStreamsAgent.open(greet) as agent:
        await edge.add_agent_at(agent.url)
        target = edge.listeners[transport]
        say = tone(CALLER_HZ, 1.2)
        async with Sipp.dial(tmp_path / "sipp", target, DID, say=say, transport=transport, hold_ms=1500) as sipp:
            with Sniffer.open(sipp.media_ports) as sniffer:
                await sipp.finish()
                assert heard_s(sniffer.audio(), AGENT_HZ) >= 0.8
        call = agent.calls[0]
        await call.expect("stop")
        assert heard_s(call.heard(), CALLER_HZ) >= 1.0
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


@pytest.mark.interop(agent=("sipp", "kamailio"), feature=("early media", "CANCEL"))
@needs("sipp", "kamailio")
@can_sniff
async def test_sipp_hears_the_agent_before_the_answer_and_gives_up_and_through_a_proxy_beside_it(
    edge: Edge, tmp_path: Path
) -> None:
    """183 with SDP, and a CANCEL after a second (RFC 3261 §9): 200 and 487."""
    async with (
        MediaStreamsAgent.open(greet) as agent,
        Kamailio.open(tmp_path / "kamailio", edge.listeners["udp"]) as proxy,
    ):
        await edge.add_agent_at(agent.url, early_media=True, answer_after_s=30)
        how = {"say": tone(CALLER_HZ, 1.0), "scenario": "give_up", "hold_ms": 1000}
        async with (
            Sipp.dial(tmp_path / "direct", edge.listeners["udp"], DID, **how) as direct,
            Sipp.dial(tmp_path / "proxied", ("127.0.0.1", proxy.port), DID, **how) as proxied,
        ):
            with Sniffer.open(direct.media_ports) as near, Sniffer.open(proxied.media_ports) as far:
                await direct.finish()
                await proxied.finish()
            for sniffer in (near, far):
                assert heard_s(sniffer.audio(), AGENT_HZ) >= 0.7
    for record in await edge.expect_records(2):
        assert (record["end_reason"], record["answered_at"]) == ("caller_cancelled", None)


@pytest.mark.interop(agent="sipp", feature=("digits by RFC 4733", "comfort noise"))
@needs("sipp")
async def test_digits_and_comfort_noise_that_sipp_plays_from_a_capture_arrive(edge: Edge, tmp_path: Path) -> None:
    """RFC 4733: three keys of 100 ms, their packets repeated at the end. RFC 3389: then noise of -40 dBov."""
    async with MediaStreamsAgent.open(greet) as agent:
        await edge.add_agent_at(agent.url)
        async with Sipp.dial(
            tmp_path / "sipp",
            edge.listeners["udp"],
            DID,
            say=tone(CALLER_HZ, 1.0),
            scenario="digits",
            digits="12#",
            hold_ms=1000,
        ) as sipp:
            call = await agent.expect_call()
            await call.wait_until(lambda: call.digits() == "12#", "digits 12#")
            await call.wait_until(lambda: -43 < level_dbfs(call.heard()[-2400:]) < -37, "comfort noise")
            await sipp.finish()
    await edge.expect_records(1)
