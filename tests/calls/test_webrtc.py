"""Agents that are WebRTC peers, in whole calls: a WHIP server of aiortc, and pipecat's own SmallWebRTC, unmodified."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.audio import heard_s, tone
from tests.support.edge import DID, Edge
from tests.support.phone import Call, Phone
from tests.support.process import Program, running

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("aiortc") is None or importlib.util.find_spec("pipecat") is None,
    reason="not installed: aiortc and pipecat-ai",
)

TOKEN = "planted"
OTHER_DID = "+14155550101"


class Agents:
    """The servers of ``webrtc_agents.py``."""

    def __init__(self, program: Program, url: str) -> None:
        self.program = program
        self.url = url

    async def expect(self, event: str) -> dict[str, Any]:
        """The first event of a kind."""
        match = await self.program.expect(rf'^@({{"event": "{event}".*)', 10.0)
        value: dict[str, Any] = json.loads(match[1])
        return value


@pytest.fixture
async def agents(edge: Edge) -> AsyncIterator[Agents]:
    """Answer two numbers."""
    script = Path(__file__).parents[1] / "support" / "webrtc_agents.py"
    async with running(sys.executable, script, TOKEN, name="webrtc agents") as program:
        ready = json.loads((await program.expect(r'^@({"event": "ready".*)', 30.0))[1])
        whip = {"protocol": "webrtc", "url": ready["url"] + "/old", "parameters": {"language": "en"}}
        body = {"name": "whip", "pipeline": whip, "headers": {"Authorization": f"Bearer {TOKEN}"}}
        agent = await edge.request("POST", "/agents", body, status=201)
        number = await edge.add_number({"protocol": "builtin", "name": "echo"}, DID)
        await edge.request("PATCH", f"/telephony/numbers/{number}", {"agent_id": agent["id"]})
        small = {"protocol": "webrtc", "url": ready["url"] + "/api/offer", "signalling": "smallwebrtc"}
        await edge.add_number(small, OTHER_DID)
        yield Agents(program, ready["url"])


async def established(phone: Phone, did: str) -> Call:
    call = await phone.call(did)
    await call.establish()
    return call


@pytest.mark.realtime
async def test_a_whip_server_and_pipecats_smallwebrtc_talk_on_the_phone(edge: Edge, agents: Agents) -> None:
    """Sent on by 307, with its bearer token and its DELETE; the other interrupted, refused a wish, and hanging up."""
    async with Phone.open(edge.listeners["udp"]) as phone:
        call = await established(phone, DID)
        await asyncio.gather(call.media.play(tone(700, 2.0)), call.media.expect_tone(700, 0.8))
        told = (await agents.expect("message"))["message"]
        assert told["type"] == "call"
        assert (told["call"]["from_number"], told["call"]["parameters"]) == (call.caller, {"language": "en"})
        await call.media.press("#")
        await call.expect_request("BYE")
        assert (await agents.expect("deleted"))["authorized"] is True
    async with Phone.open(edge.listeners["udp"]) as phone:
        call = await established(phone, OTHER_DID)
        assert (await agents.expect("offer"))["request_data"]["call"]["to_number"] == OTHER_DID
        await call.media.expect_tone(600, 0.3)
        await call.media.press("1")
        await call.media.expect_tone(900, 0.4)
        await call.media.press("2")
        await call.media.wait_until(
            lambda: heard_s(call.media.audio()[-3200:], 900) == 0.0, "silence after the tone", timeout_s=5.0
        )
        await call.media.press("3")
        await agents.program.expect('"type": "refused", "verb": "transfer"', 5.0)
        await call.media.press("#")
        await call.expect_request("BYE")
        await agents.expect("finished")
    by_number = {record["to_number"]: record for record in await edge.expect_records(2)}
    assert by_number[DID]["end_reason"] == "agent_hung_up"
    assert by_number[OTHER_DID]["end_reason"] == "agent_closed"


async def test_a_caller_who_hangs_up_ends_both_forms_and_a_server_that_refuses_gets_no_call(
    edge: Edge, agents: Agents
) -> None:
    async with Phone.open(edge.listeners["udp"]) as phone:
        for did, end in ((DID, "deleted"), (OTHER_DID, "disconnected")):
            call = await established(phone, did)
            await call.bye()
            await agents.expect(end)
    agent = await edge.create_agent({"protocol": "webrtc", "url": agents.url + "/whip"})
    [number] = [n for n in await edge.request("GET", "/telephony/numbers") if n["phone_number"] == DID]
    await edge.request("PATCH", f"/telephony/numbers/{number['id']}", {"agent_id": agent})
    async with Phone.open(edge.listeners["udp"]) as phone:
        call = await phone.call(DID)
        await call.invite()
        await call.expect(480)
    records = await edge.expect_records(3)
    assert [record["end_reason"] for record in records] == ["agent_refused", "caller_hung_up", "caller_hung_up"]
    assert "HTTP 401 to the offer" in records[0]["timeline"][-1]["event"]
