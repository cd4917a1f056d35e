"""Whole calls with agents of every protocol over the wire: the examples of the manual, run as it says."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.audio import heard_s, tone
from tests.support.edge import API, DID, Edge, Keyring, Settings
from tests.support.openai_realtime import FakeOpenAi, FakeSession
from tests.support.phone import Call, Phone
from tests.support.process import Program, running

EXAMPLES = Path(__file__).parents[2] / "docs" / "howto" / "agents" / "examples" / "protocols"
CALLER_HZ, GREETING_HZ, LONG_HZ = 1000, 440, 700
OPENAI_KEY = "sk-test-0123456789"

PIPELINES: dict[str, dict[str, Any]] = {
    "jambonz_listen": {"protocol": "jambonz-listen", "sample_rate": 16000, "parameters": {"language": "en"}},
    "telnyx_media_streaming": {"protocol": "telnyx-media-streaming", "parameters": {"language": "en"}},
    "twilio_media_streams": {"protocol": "twilio-media-streams", "parameters": {"language": "en"}},
    "audiosocket": {"protocol": "audiosocket", "sample_rate": 16000},
}


def test_every_example_is_in_a_test_here() -> None:
    """An example nobody runs is wrong before long."""
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {*PIPELINES, "openai_realtime"}


@asynccontextmanager
async def answered(edge: Edge, example: str) -> AsyncIterator[tuple[Program, Call]]:
    """The example answers an established call."""
    async with running(sys.executable, EXAMPLES / f"{example}.py", "0", name=example) as agent:
        url = (await agent.expect(r"^ready (\S+)"))[1]
        await edge.add_number({**PIPELINES[example], "url": url})
        async with Phone.open(edge.listeners["udp"]) as phone:
            call = await phone.call(DID)
            await call.establish()
            yield agent, call


@pytest.mark.realtime
@pytest.mark.parametrize("example", PIPELINES)
async def test_an_agent_hears_is_heard_is_silenced_and_hangs_up(edge: Edge, example: str) -> None:
    async with answered(edge, example) as (agent, call):
        told = (await agent.expect(r"^call (.+)"))[1]
        await call.media.expect_tone(GREETING_HZ, 0.4)
        await call.media.play(tone(CALLER_HZ, 0.6))
        await call.media.expect_tone(CALLER_HZ, 0.4)
        if example == "audiosocket":
            assert told == (await edge.expect_live_call())["id"]
        else:
            facts = json.loads(told)
            caller, dialled = ("from_number", "to_number") if example == "twilio_media_streams" else ("from", "to")
            assert (facts[caller], facts[dialled]) == (call.caller, DID)
            assert "language" in told
            await agent.expect(r'"greeted"')
            await call.media.press("1")
            await call.media.expect_tone(LONG_HZ, 0.3)
            await call.media.press("2")
            await agent.expect(r'"long tone"')
            await call.media.wait_until(
                lambda: heard_s(call.media.audio()[-2400:], LONG_HZ) == 0.0, "silence after a clear", timeout_s=5.0
            )
        await call.media.press("#")
        await call.expect_request("BYE")
        await agent.expect("^over")
        [record] = await edge.expect_records(1)
        closes = example in {"telnyx_media_streaming", "twilio_media_streams"}
        assert (record["ended_by"], record["end_reason"]) == ("agent", "agent_closed" if closes else "agent_hung_up")
        assert record["statistics"]["agent_messages_ignored"] == 0


@pytest.mark.parametrize("example", PIPELINES)
async def test_a_caller_who_hangs_up_ends_the_agents_call_in_order(edge: Edge, example: str) -> None:
    async with answered(edge, example) as (agent, call):
        await call.media.expect_packets(10)
        await call.bye()
        await agent.expect("^over")
        assert "lost" not in agent.lines
        [record] = await edge.expect_records(1)
        assert record["end_reason"] == "caller_hung_up"


# --- OpenAI ---------------------------------------------------------------------------------------


@asynccontextmanager
async def front_desk(
    tmp_path: Path, keyring: Keyring, openai: FakeOpenAi, key: str = OPENAI_KEY
) -> AsyncIterator[Edge]:
    """An edge that knows the fake for OpenAI, with the example's agent on the number."""
    settings = Settings(providers={"openai_base_url": openai.url})
    async with Edge.open(tmp_path / "edge", keyring, settings) as edge:
        environment = {"EDGE_API": edge.url + API, "EDGE_KEY": edge.key, "OPENAI_API_KEY": key}
        script = EXAMPLES / "openai_realtime.py"
        async with running(sys.executable, script, name="example", environment=environment) as example:
            agent_id = (await example.expect(r"^([0-9a-f-]{36})$"))[1]
        body = {"provider": "sip", "provider_trunk": "lab", "phone_number": DID}
        number = await edge.request("POST", "/telephony/numbers/import", body, status=201)
        await edge.request("PATCH", f"/telephony/numbers/{number['id']}", {"agent_id": agent_id})
        yield edge


@pytest.mark.realtime
async def test_openai_hears_is_heard_is_cut_off_where_the_caller_was_and_hangs_up(
    tmp_path: Path, keyring: Keyring
) -> None:
    async def behave(session: FakeSession) -> None:
        await session.expect("response.create")
        await session.speak(tone(GREETING_HZ, 1.0), "item_1", "resp_1")
        await session.end("resp_1")
        await session.wait_until(lambda: heard_s(session.heard(), CALLER_HZ) > 0.3, "the caller's tone")
        await session.speak(tone(LONG_HZ, 30.0), "item_2", "resp_2")

    async with FakeOpenAi.open(OPENAI_KEY, behave) as openai, front_desk(tmp_path, keyring, openai) as edge:
        async with Phone.open(edge.listeners["udp"]) as phone:
            call = await phone.call(DID)
            await call.establish()
            session = await openai.expect_session()
            assert session.model == "gpt-realtime"
            await call.media.expect_tone(GREETING_HZ, 0.7)
            await call.media.play(tone(CALLER_HZ, 0.5))
            await call.media.expect_tone(LONG_HZ, 0.5)
            await session.hear_speech()
            cut = await session.expect("conversation.item.truncate")
            await session.end("resp_2", "cancelled")
            await asyncio.sleep(0.2)
            heard_ms = heard_s(call.media.audio(), LONG_HZ) * 1000
            assert cut["item_id"] == "item_2"
            assert abs(cut["audio_end_ms"] - heard_ms) < 100, f"{cut['audio_end_ms']} ms told, {heard_ms} ms heard"
            assert heard_s(call.media.audio()[-800:], LONG_HZ) == 0.0
            await call.media.press("7#")
            await session.wait_until(lambda: any("7#" in text for text in session.texts()), "the digits")
            await session.begin("resp_3")
            await session.call_function("hang_up", {}, "call_1", "resp_3")
            await call.expect_request("BYE")
            [record] = await edge.expect_records(1)
            assert record["end_reason"] == "agent_hung_up"
            assert record["statistics"]["agent_messages_ignored"] == 0
        assert session.errors == []
        assert OPENAI_KEY not in json.dumps([record, edge.log()])
        [update] = session.all("session.update")
        assert update["session"]["audio"]["output"]["format"] == {"type": "audio/pcmu"}


async def test_openai_that_ends_the_session_is_lost_with_its_reason_and_a_revoked_key_refuses_the_next_call(
    tmp_path: Path, keyring: Keyring
) -> None:
    async def behave(session: FakeSession) -> None:
        await session.expect("input_audio_buffer.append", 5)
        error = {"type": "invalid_request_error", "code": "session_expired", "message": "60 minutes are over"}
        await session.send("error", error=error)
        await session.close()

    async with FakeOpenAi.open(OPENAI_KEY, behave) as openai, front_desk(tmp_path, keyring, openai) as edge:
        async with Phone.open(edge.listeners["udp"]) as phone:
            call = await phone.call(DID)
            await call.establish()
            await call.expect_request("BYE")
            [record] = await edge.expect_records(1)
            assert record["end_reason"] == "agent_lost"
            openai.key = "another"
            refused = await phone.call(DID)
            await refused.invite()
            await refused.expect(480)
            records = await edge.expect_records(2)
            assert {each["end_reason"] for each in records} == {"agent_lost", "agent_refused"}
        assert [line["detail"] for line in edge.log() if line["event"] == "call ended"] == [
            "OpenAI: session_expired: 60 minutes are over",
            "OpenAI refuses the API key (HTTP 401)",
        ]
