"""A real pipecat bot answers calls unchanged: its Twilio serializer is told nothing but where the REST API is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from tests.support.audio import heard_s, tone
from tests.support.edge import DID, Edge
from tests.support.phone import Call, Phone
from tests.support.pipecat_agent import PipecatAgent, has_pipecat

pytestmark = [pytest.mark.realtime, has_pipecat]

CALLER_HZ, GREETING_HZ, LONG_HZ = 1000, 600, 900


@pytest.fixture
async def bot(edge: Edge, tmp_path: Path) -> AsyncIterator[PipecatAgent]:
    """Answers the number, with the account's id in Twilio's form as SID and its API key as token."""
    account_sid = f"AC{UUID(edge.account_id).hex}"
    async with PipecatAgent.open(
        tmp_path / "pipecat", account_sid=account_sid, auth_token=edge.key, base_url=edge.url
    ) as agent:
        await edge.add_agent_at(agent.url)
        yield agent


@pytest.fixture
async def call(edge: Edge, bot: PipecatAgent) -> AsyncIterator[Call]:
    """An established call to it."""
    async with Phone.open(edge.listeners["udp"]) as phone:
        call = await phone.call(DID)
        await call.establish()
        yield call


async def test_it_talks_with_the_caller_and_hangs_up_over_rest(edge: Edge, bot: PipecatAgent, call: Call) -> None:
    """It knows both numbers, hears and is heard, and its EndFrame becomes one BYE."""
    announced = await bot.expect("call")
    assert (announced["kind"], announced["caller"], announced["dialed"]) == ("twilio", call.caller, DID)
    await call.media.play(tone(CALLER_HZ, 1.0))
    await call.media.expect_tone(GREETING_HZ, 0.8)
    await call.media.press("#")
    await call.expect_request("BYE")
    await bot.expect("finished")
    assert heard_s(bot.heard(announced["call"]), CALLER_HZ) >= 0.8
    assert call.byes == 1
    [record] = await edge.expect_records(1)
    assert (record["ended_by"], record["end_reason"], record["sid"]) == ("agent", "agent_hung_up", announced["call"])


async def test_an_interruption_silences_it_at_once(edge: Edge, bot: PipecatAgent, call: Call) -> None:
    """Half a minute of tone is queued; ``clear`` empties the queue."""
    await call.media.press("1")
    await call.media.expect_tone(LONG_HZ, 0.5)
    await call.media.press("2")
    await call.media.wait_until(
        lambda: heard_s(call.media.audio()[-4000:], LONG_HZ) == 0.0, "half a second without the tone", timeout_s=5.0
    )
    await call.bye()
    await bot.expect("disconnected")
    [record] = await edge.expect_records(1)
    assert record["end_reason"] == "caller_hung_up"
    assert record["statistics"]["playout_overflow_ms"] == 0
