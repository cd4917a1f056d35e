"""SIP beyond the call itself, with a real user agent: PRACK, UPDATE, INFO, session timers, early media."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
import pytest

from tests.support.audio import heard_s, keys, silence, tone
from tests.support.edge import DID, MEDIA_PORTS, Edge, Keyring, Settings
from tests.support.kamailio import Kamailio
from tests.support.linphone import Linphone
from tests.support.media_streams_agent import AGENT_HZ, MediaStreamsAgent, greet
from tests.support.phone import Phone
from tests.support.pjsip import Pjsip, has_pjsip
from tests.support.process import needs
from tests.support.sipp import Sipp
from tests.support.sniffer import Sniffer, can_sniff

pytestmark = pytest.mark.realtime

CALLER_HZ = 1000


@has_pjsip
@pytest.mark.interop(agent="pjsua2", feature=("PRACK", "UPDATE", "digits by INFO"))
async def test_prack_update_and_digits_by_info_in_one_call(edge: Edge, tmp_path: Path) -> None:
    """A phone that requires 100rel, offers anew by UPDATE and sends its digits by INFO; each is told once."""
    async with MediaStreamsAgent.open(greet) as agent:
        await edge.add_agent_at(agent.url)
        async with Pjsip.open(tmp_path / "pjsip", tone(CALLER_HZ, 20), prack=True) as phone:
            await phone.dial(edge.uri())
            call = await agent.expect_call()
            await call.expect_tone(CALLER_HZ, 0.5)
            assert phone.sent("PRACK sip:") >= 1
            await phone.press_by_info("12#")
            await call.wait_until(lambda: call.digits() == "12#", "digits 12#")
            at = len(call.heard())
            await phone.update()
            await call.wait_until(lambda: phone.sent("UPDATE sip:") >= 1, "an UPDATE")
            await call.wait_until(lambda: heard_s(call.heard()[at:], CALLER_HZ) >= 0.3, "the tone after the UPDATE")
            await phone.hang_up()
    [record] = await edge.expect_records(1)
    assert record["end_reason"] == "caller_hung_up"
    assert any(entry["event"] in ("renegotiated", "resumed") for entry in record["timeline"])


@needs("sipp", "kamailio")
@pytest.mark.interop(
    agent=("sipp", "kamailio"), feature=("PRACK", "UPDATE", "digits by INFO", "held by the phone", "re-INVITE")
)
async def test_sipp_asks_for_everything_in_one_call_and_through_a_proxy_beside_it(edge: Edge, tmp_path: Path) -> None:
    """PRACK, digits by INFO, held by re-INVITE, resumed and refreshed by UPDATE: the agent hears it so."""
    async with (
        MediaStreamsAgent.open(greet) as agent,
        Kamailio.open(tmp_path / "kamailio", edge.listeners["udp"]) as proxy,
    ):
        await edge.add_agent_at(agent.url)
        how = {"say": tone(CALLER_HZ, 2.0), "scenario": "extensions", "hold_ms": 400}
        async with (
            Sipp.dial(tmp_path / "direct", edge.listeners["udp"], DID, **how) as direct,
            Sipp.dial(tmp_path / "proxied", ("127.0.0.1", proxy.port), DID, **how) as proxied,
        ):
            await direct.finish()
            await proxied.finish()
        for call in agent.calls:
            await call.expect("stop")
            assert call.digits() == "12#"
            assert heard_s(call.heard(), CALLER_HZ) >= 1.0
    assert [proxy.requests(method) for method in ("PRACK", "INFO", "INVITE", "UPDATE", "BYE")] == [1, 3, 2, 2, 1]
    for record in await edge.expect_records(2):
        assert record["end_reason"] == "caller_hung_up"
        events = [entry["event"] for entry in record["timeline"]]
        assert [event for event in events if event in ("held", "resumed")] == ["held", "resumed"]


@needs("sipp", "kamailio")
@pytest.mark.interop(agent=("sipp", "kamailio"), feature=("IPv6", "delayed offer"))
@pytest.mark.interop(agent="sipp", feature=("PCMA", "digits in band"))
async def test_sipp_answers_our_offer_over_ipv6_and_through_a_proxy_beside_it(tmp_path: Path, keyring: Keyring) -> None:
    """RFC 3261 §13.2.1: its ACK takes PCMA and no telephone-event, so that its keys are listened for."""
    settings = Settings(listen=("udp:[::1]:0",), media={"listen_address": "::1"})
    async with (
        MediaStreamsAgent.open(greet) as agent,
        Edge.open(tmp_path / "edge", keyring, settings) as edge,
        Kamailio.open(tmp_path / "kamailio", edge.listeners["udp"]) as proxy,
    ):
        await edge.add_agent_at(agent.url)
        say = np.concatenate([tone(CALLER_HZ, 0.6), keys("12#")])
        how = {"say": say, "scenario": "delayed_offer", "hold_ms": 1600, "host": "::1"}
        async with (
            Sipp.dial(tmp_path / "direct", edge.listeners["udp"], DID, **how) as direct,
            Sipp.dial(tmp_path / "proxied", ("::1", proxy.port), DID, **how) as proxied,
        ):
            await direct.finish()
            await proxied.finish()
        for call in agent.calls:
            await call.expect("stop")
            assert call.digits() == "12#"
            assert heard_s(call.heard(), CALLER_HZ) >= 0.5
        for record in await edge.expect_records(2):
            assert record["statistics"]["codec"] == "PCMA"
            assert record["statistics"]["packets_sent"] > 0


@needs("linphonec")
@pytest.mark.interop(agent="linphone", feature=("delayed offer", "digits by INFO", "G.722"))
async def test_linphone_answers_our_offer_in_g722_and_sends_digits_by_info(tmp_path: Path, keyring: Keyring) -> None:
    """RFC 3261 §13.2.1: no offer in its INVITE, its answer in the ACK."""
    async with (
        MediaStreamsAgent.open(greet) as agent,
        Edge.open(tmp_path / "edge", keyring, Settings(trunk={"codecs": ["G722", "PCMU"]})) as edge,
    ):
        await edge.add_agent_at(agent.url)
        async with Linphone.open(
            tmp_path / "phone", tone(CALLER_HZ, 20), codec="G722", offers=False, info=True
        ) as phone:
            await phone.dial(edge.uri())
            call = await agent.expect_call()
            await call.expect_tone(CALLER_HZ, 0.5)
            await phone.press("5")
            await call.wait_until(lambda: call.digits() == "5", "digit 5")
            assert phone.sent("INFO sip:") == 1
            await call.expect("mark")
            await phone.hang_up()
        assert not phone.offered()
        assert heard_s(phone.heard(), AGENT_HZ) >= 0.8
        [record] = await edge.expect_records(1)
        assert record["statistics"]["codec"] == "G722"


@needs("linphonec")
@can_sniff
@pytest.mark.interop(agent="linphone", feature=("PRACK", "comfort noise"))
async def test_linphone_leaves_its_silence_out(tmp_path: Path, keyring: Keyring) -> None:
    """RFC 3389: one packet says what it sounds like, and no audio follows; its 180 came reliably (RFC 3262)."""
    settings = Settings(sip={"reliable_provisionals": "supported"})
    async with MediaStreamsAgent.open(greet) as agent, Edge.open(tmp_path / "edge", keyring, settings) as edge:
        await edge.add_agent_at(agent.url)
        say = np.concatenate([tone(CALLER_HZ, 0.6), silence(20)])
        async with Linphone.open(tmp_path / "phone", say, noise=True, prack=True) as phone:
            with Sniffer.open(MEDIA_PORTS) as sniffer:
                await phone.dial(edge.uri())
                call = await agent.expect_call()
                await call.expect_tone(CALLER_HZ, 0.4)
                await call.wait_until(lambda: sniffer.packets[-1].payload_type == 13, "comfort noise")
                sounded = len(sniffer.packets)
                await call.expect("mark")
                assert all(packet.payload_type == 13 for packet in sniffer.packets[sounded:])
                await phone.hang_up()
        assert phone.sent("PRACK sip:") == 1
        [record] = await edge.expect_records(1)
        assert record["statistics"]["packets_lost"] == 0


@has_pjsip
@pytest.mark.interop(agent="pjsua2", feature="delayed offer")
async def test_pjsip_answers_our_offer(edge: Edge, tmp_path: Path) -> None:
    """RFC 3261 §13.2.1: no offer in its INVITE, its answer in the ACK."""
    async with MediaStreamsAgent.open(greet) as agent:
        await edge.add_agent_at(agent.url)
        async with Pjsip.open(tmp_path / "pjsip", tone(CALLER_HZ, 20)) as phone:
            await phone.dial(edge.uri(), offer=False)
            call = await agent.expect_call()
            await call.expect_tone(CALLER_HZ, 0.3)
            await call.expect("mark")
            await phone.hang_up()
        assert not phone.offered()
        assert heard_s(phone.heard(), AGENT_HZ) >= 0.8
    await edge.expect_records(1)


@pytest.mark.slow
@has_pjsip
@needs("sipp", "linphonec", "kamailio")
@pytest.mark.interop(agent=("sipp", "linphone", "pjsua2", "kamailio"), feature=("session timer", "UPDATE"))
async def test_sessions_of_90_seconds_live_through_their_refreshes(edge: Edge, tmp_path: Path) -> None:
    """RFC 4028 at its shortest: calls longer than one interval, with a refresh at half of each; sipp's by a proxy."""
    async with MediaStreamsAgent.open(greet) as agent, AsyncExitStack() as phones:
        await edge.add_agent_at(agent.url)
        proxy = await phones.enter_async_context(Kamailio.open(tmp_path / "kamailio", edge.listeners["udp"]))
        say = tone(CALLER_HZ, 150)
        pjsip = await phones.enter_async_context(Pjsip.open(tmp_path / "pjsip", say, session_s=90))
        linphone = await phones.enter_async_context(Linphone.open(tmp_path / "linphone", say, session_s=90))
        sipp = await phones.enter_async_context(
            Sipp.dial(tmp_path / "sipp", ("127.0.0.1", proxy.port), DID, say=say, scenario="refreshes", timeout_s=130)
        )
        await pjsip.dial(edge.uri())
        await linphone.dial(edge.uri())
        await sipp.finish(timeout_s=130.0)
        for phone in (pjsip, linphone):
            assert phone.sent("UPDATE sip:") >= 2
            await phone.hang_up()
    records = await edge.expect_records(3, timeout_s=20.0)
    assert {record["end_reason"] for record in records} == {"caller_hung_up"}
    assert min(record["duration_s"] for record in records) > 90.0


@pytest.mark.slow
async def test_a_phone_that_falls_silent_is_hung_up_on_before_its_90_seconds_are_over(
    tmp_path: Path, keyring: Keyring
) -> None:
    """RFC 4028 §10: it was to refresh, and sends media to the last."""
    async with Edge.open(tmp_path / "edge", keyring, Settings()) as edge:
        await edge.add_echo()
        async with Phone.open(edge.listeners["udp"]) as phone:
            call = await phone.call(DID)
            await call.invite(("Supported", "timer"), ("Session-Expires", "90;refresher=uac"))
            answer = await call.expect(200)
            assert answer.get("session-expires") == "90;refresher=uac"
            call.media.target = answer.media()
            await call.ack()
            await call.media.play(tone(CALLER_HZ, 58.0))
            bye = await call.expect_request("BYE", timeout_s=10.0)
            assert "cause=408" in " ".join(bye.all("reason"))
        [record] = await edge.expect_records(1)
        assert (record["end_reason"], record["ended_by"]) == ("session_expired", "edge")


async def test_an_agent_with_early_media_is_heard_while_it_rings(edge: Edge) -> None:
    """183 with SDP, audio, and only then the 200."""
    async with MediaStreamsAgent.open(greet) as agent:
        await edge.add_agent_at(agent.url, early_media=True, answer_after_s=1.5)
        async with Phone.open(edge.listeners["udp"]) as phone:
            call = await phone.call(DID)
            await call.invite()
            progress = await call.expect(183)
            call.media.target = progress.media()
            await call.media.expect_tone(AGENT_HZ, 0.4)
            await call.expect(200)
            await call.ack()
            assert (await call.bye()).status == 200
    await edge.expect_records(1)
