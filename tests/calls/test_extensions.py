"""SIP beyond the call itself, with a real user agent: PRACK, UPDATE, INFO, session timers, early media."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.audio import heard_s, level_dbfs, tone
from tests.support.baresip import Baresip
from tests.support.edge import DID, Edge, Keyring, Settings
from tests.support.media_streams_agent import AGENT_HZ, MediaStreamsAgent, greet
from tests.support.phone import Phone
from tests.support.pjsip import Pjsip, has_pjsip
from tests.support.process import needs

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


@pytest.mark.slow
@has_pjsip
@pytest.mark.interop(agent="pjsua2", feature="session timer")
async def test_a_session_of_90_seconds_lives_through_its_refreshes(edge: Edge, tmp_path: Path) -> None:
    """RFC 4028 at its shortest: longer than one interval, with a refresh at half of each."""
    async with MediaStreamsAgent.open(greet) as agent:
        await edge.add_agent_at(agent.url)
        async with Pjsip.open(tmp_path / "pjsip", tone(CALLER_HZ, 150), session_s=90) as phone:
            await phone.dial(edge.uri())
            await agent.expect_call()
            await asyncio.sleep(100.0)
            assert phone.sent("UPDATE sip:") + phone.sent("INVITE sip:") >= 3
            await phone.hang_up()
    [record] = await edge.expect_records(1, timeout_s=20.0)
    assert record["end_reason"] == "caller_hung_up"
    assert record["duration_s"] >= 100.0


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


@needs("baresip")
@pytest.mark.interop(agent="baresip", feature=("held by the phone", "re-INVITE"))
async def test_baresip_holds_the_call_and_is_heard_again_afterwards(edge: Edge, tmp_path: Path) -> None:
    """RFC 3264 §8.4: the watchdog knows the hold, the agent hears silence, and the call goes on."""
    async with MediaStreamsAgent.open(greet) as agent:
        await edge.add_agent_at(agent.url)
        async with Baresip.open(tmp_path / "baresip", tone(CALLER_HZ, 20)) as phone:
            await phone.dial(edge.uri())
            call = await agent.expect_call()
            await call.expect_tone(CALLER_HZ, 0.5)
            await phone.command("hold")
            await call.wait_until(
                lambda: len(call.heard()) >= 4000 and level_dbfs(call.heard()[-2400:]) < -50, "silence while on hold"
            )
            at = len(call.heard())
            await phone.command("resume")
            await call.wait_until(lambda: heard_s(call.heard()[at:], CALLER_HZ) >= 0.5, "the tone after the hold")
            await phone.hang_up()
    [record] = await edge.expect_records(1)
    assert [entry["event"] for entry in record["timeline"] if entry["event"] in ("held", "resumed")] == [
        "held",
        "resumed",
    ]
