"""Whole calls with an agent that speaks Twilio Media Streams: a UDP phone, a WebSocket server, real clocks."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from picows import WSCloseCode, WSMsgType

from media.messages import (
    AgentEnded,
    AgentFailed,
    AgentReady,
    AgentSpec,
    CallClosed,
    CloseCall,
    DigitReceived,
    Done,
    LegStatistics,
    StartMedia,
)
from tests.media.agents.server import AgentServer, mute_server, serve
from tests.media.rooms import CONTEXT, Room, offer, open_call, room
from tests.support.audio import decode_ulaw, encode_ulaw, heard_s, silence, tone
from tests.support.ports import free_port, free_ports
from tests.support.rtp import MediaPort, hear

pytestmark = pytest.mark.realtime


@dataclass
class Call:
    """Everybody on the line."""

    room: Room
    phone: MediaPort
    agent: AgentServer
    port: int

    async def ring(self, call: str = "c", **changes: Any) -> None:
        """Open the call; the agent is being connected."""
        spec = AgentSpec(protocol="twilio-media-streams", url=self.agent.url, **changes)
        await self.room.opened(open_call(call, self.port, offer(self.phone.port), spec))
        self.phone.target = ("127.0.0.1", self.port)

    async def answer(self, **changes: Any) -> None:
        """Ring, and establish the call as soon as the agent is ready."""
        await self.ring(**changes)
        await self.room.told(AgentReady)
        assert await self.room.request(StartMedia(call="c")) == Done()

    async def close(self) -> LegStatistics:
        """Control closes the call."""
        closed = await self.room.request(CloseCall(call="c", reason="bye"))
        assert isinstance(closed, CallClosed)
        assert closed.statistics is not None
        return closed.statistics

    async def heard(self, hz: float, seconds: float, within_s: float = 5.0) -> None:
        """Until the phone has heard that much of a tone."""
        async with asyncio.timeout(within_s):
            while heard_s(hear(self.phone.packets), hz) < seconds:
                await asyncio.sleep(0.05)


@pytest.fixture
async def line() -> AsyncIterator[Call]:
    async with line_up() as call:
        yield call


@asynccontextmanager
async def line_up() -> AsyncIterator[Call]:
    async with serve() as agent, MediaPort.open() as phone, room() as it:
        yield Call(it, phone, agent, free_ports(2))


# --- ringing and answering ------------------------------------------------------------------------


async def test_the_agent_is_told_of_the_call_while_the_phone_rings_and_before_any_media(line: Call) -> None:
    await line.ring(parameters={"tone": "kind"})
    start = (await line.agent.told("start"))["start"]
    assert line.phone.packets == []
    assert start["callSid"] == CONTEXT.call_sid
    assert start["accountSid"] == CONTEXT.account_sid
    assert start["customParameters"] == {
        "tone": "kind",
        "from_number": CONTEXT.from_number,
        "to_number": CONTEXT.to_number,
    }
    await line.room.told(AgentReady)
    assert line.agent.events() == ["connected", "start"], "no media before the call is established"
    await line.room.request(StartMedia(call="c"))
    await line.agent.told("media")
    assert line.agent.events()[:3] == ["connected", "start", "media"]


async def test_the_phone_is_answered_at_the_agents_first_audio(line: Call) -> None:
    line.agent.on_start = lambda: line.agent.play(encode_ulaw(tone(500, 0.4)))
    await line.ring(answer_after_s=10.0)
    assert (await line.room.told(AgentReady)).waited_s < 1.0
    await asyncio.sleep(0.2)
    assert line.phone.packets == []
    await line.room.request(StartMedia(call="c"))
    await line.heard(500, 0.3)
    audio = [packet for packet in line.phone.packets if set(packet.payload) != {0xFF}]
    assert audio[0].marker
    assert audio[0] is line.phone.packets[0], "what was said before the answer is played from its start"


async def test_a_silent_agent_is_answered_for_after_answer_after_s(line: Call) -> None:
    await line.ring(answer_after_s=0.3)
    assert 0.3 <= (await line.room.told(AgentReady)).waited_s < 0.6


async def test_no_answer_from_the_agents_address_fails_the_call_by_its_timeout(line: Call) -> None:
    async with mute_server() as (url, gone):
        line.agent.url = url
        await line.ring(agent_timeout_s=0.3)
        assert (await line.room.told(AgentFailed)).cause == "timeout"
        await line.close()
        async with asyncio.timeout(2):
            await gone.wait()


async def test_an_agent_that_refuses_fails_the_call_at_once(line: Call) -> None:
    line.agent.status = 503
    await line.ring()
    failed = await line.room.told(AgentFailed, within_s=2.0)
    assert (failed.cause, failed.message) == ("refused", "HTTP 503")


async def test_nobody_at_the_agents_address_fails_the_call_at_once(line: Call) -> None:
    line.agent.url = f"ws://127.0.0.1:{free_port()}/"
    await line.ring()
    assert (await line.room.told(AgentFailed, within_s=2.0)).cause == "refused"


# --- talking --------------------------------------------------------------------------------------


async def test_each_side_hears_the_others_tone(line: Call) -> None:
    await line.answer(answer_after_s=0.0)
    line.agent.play(encode_ulaw(tone(1300, 1.0)))
    await line.phone.play(tone(700, 1.0))
    await line.heard(1300, 0.9)
    assert heard_s(decode_ulaw(line.agent.ulaw()), 700) > 0.7


async def test_media_comes_every_20_ms_with_true_milliseconds_whatever_the_phone_sends(line: Call) -> None:
    await line.answer(answer_after_s=0.0)
    await asyncio.sleep(0.2)
    await line.phone.play(tone(700, 0.2))
    await asyncio.sleep(0.2)
    media = [message["media"] for message in line.agent.messages if message["event"] == "media"]
    stamps = [int(each["timestamp"]) for each in media]
    assert stamps == list(range(0, 20 * len(stamps), 20))
    assert [int(each["chunk"]) for each in media] == list(range(1, len(media) + 1))
    assert len(media) == pytest.approx(30, abs=4)


async def test_audio_far_faster_than_real_time_in_odd_pieces_is_paced_at_20_ms(line: Call) -> None:
    spoken = encode_ulaw(tone(900, 2.0))
    await line.answer(answer_after_s=0.0)
    for start in range(0, len(spoken), 777):
        line.agent.play(spoken[start : start + 777])
    line.agent.mark("end")
    await line.agent.told("mark")
    packets = [packet for packet in line.phone.packets if set(packet.payload) != {0xFF}]
    assert b"".join(packet.payload for packet in packets)[: len(spoken)] == spoken
    gaps = [(b.timestamp - a.timestamp) % 2**32 for a, b in itertools.pairwise(line.phone.packets)]
    assert set(gaps) == {160}
    arrivals = [packet.arrival_s for packet in packets]
    assert arrivals[-1] - arrivals[0] == pytest.approx(1.98, abs=0.1)
    spacing = np.diff(arrivals)
    assert float(np.percentile(spacing, 95)) < 0.03
    assert [packet.marker for packet in packets[1:]] == [False] * (len(packets) - 1)


async def test_clear_stops_the_agent_within_a_frame_and_returns_its_marks_at_once(line: Call) -> None:
    await line.answer(answer_after_s=0.0)
    for number in range(5):
        line.agent.play(encode_ulaw(tone(900, 5.0)))
        line.agent.mark(f"m{number}")
    await line.heard(900, 0.2)
    line.agent.clear()
    await line.agent.told("mark", lambda message: message["mark"]["name"] == "m4")
    cleared_at = asyncio.get_running_loop().time()
    assert [m["mark"]["name"] for m in line.agent.messages if m["event"] == "mark"] == [f"m{n}" for n in range(5)]
    await asyncio.sleep(0.2)
    late = [p for p in line.phone.packets if p.arrival_s > cleared_at + 0.02 and set(p.payload) != {0xFF}]
    assert late == []


async def test_a_mark_without_a_name_is_echoed_when_its_audio_has_been_played(line: Call) -> None:
    await line.answer(answer_after_s=0.0)
    line.agent.play(encode_ulaw(tone(900, 0.3)))
    line.agent.mark(None)
    sent_at = asyncio.get_running_loop().time()
    echoed = await line.agent.told("mark")
    assert echoed["mark"] == {"name": ""}
    assert asyncio.get_running_loop().time() - sent_at > 0.25


async def test_digits_reach_the_agent_and_control(line: Call) -> None:
    await line.answer(answer_after_s=0.0)
    await line.phone.play(silence(0.1))
    await line.phone.press("5#")
    assert (await line.agent.told("dtmf", lambda m: m["dtmf"]["digit"] == "#"))["dtmf"]["track"] == "inbound_track"
    digits = [message["dtmf"]["digit"] for message in line.agent.messages if message["event"] == "dtmf"]
    assert digits == ["5", "#"]
    await line.room.told(DigitReceived, lambda notice: notice.digit == "#")


async def test_an_unknown_frame_does_not_close_the_websocket(line: Call) -> None:
    await line.answer(answer_after_s=0.0)
    line.agent.raw(b'{"event":"hologram","x":[1,2,3]}')
    line.agent.raw(b"not json")
    line.agent.raw(os.urandom(64), WSMsgType.BINARY)
    line.agent.play(encode_ulaw(tone(900, 0.3)))
    await line.heard(900, 0.2)
    assert (await line.close()).agent_messages_ignored == 3


# --- the end --------------------------------------------------------------------------------------


async def test_closing_the_call_sends_stop_and_closes_in_order(line: Call) -> None:
    await line.answer(answer_after_s=0.0)
    await line.close()
    await line.agent.disconnected.wait()
    assert line.agent.messages[-1]["event"] == "stop"
    assert line.agent.messages[-1]["stop"] == {"accountSid": CONTEXT.account_sid, "callSid": CONTEXT.call_sid}
    assert line.agent.close_codes == [1000]
    sequence = [int(message["sequenceNumber"]) for message in line.agent.messages[1:]]
    assert sequence == list(range(1, len(sequence) + 1))


async def test_an_agent_that_talks_while_the_call_closes_still_gets_stop_and_an_orderly_close(line: Call) -> None:
    await line.answer(answer_after_s=0.0)
    talking = True

    async def talk() -> None:
        while talking:
            line.agent.play(encode_ulaw(tone(900, 0.5)))
            await asyncio.sleep(0.001)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(talk())
        await asyncio.sleep(0.1)
        await line.close()
        await line.agent.disconnected.wait()
        talking = False
    assert line.agent.messages[-1]["event"] == "stop"
    assert line.agent.close_codes == [1000]


async def test_an_agent_that_closes_is_played_out_and_then_the_call_ends(line: Call) -> None:
    await line.answer(answer_after_s=0.0)
    line.agent.play(encode_ulaw(tone(900, 0.6)))
    await line.agent.told("media")
    line.agent.close()
    closed_at = asyncio.get_running_loop().time()
    ended = await line.room.told(AgentEnded)
    assert (ended.cause, ended.message) == ("closed", "closed with 1000")
    assert asyncio.get_running_loop().time() - closed_at > 0.4
    assert heard_s(hear(line.phone.packets), 900) > 0.5


@pytest.mark.parametrize("how", ["killed", "broken"])
async def test_an_agent_that_is_killed_or_breaks_ends_the_call_within_two_seconds(line: Call, how: str) -> None:
    await line.answer(answer_after_s=0.0)
    line.agent.play(encode_ulaw(tone(900, 60.0)))
    await line.heard(900, 0.1)
    if how == "killed":
        line.agent.drop()
    else:
        line.agent.close(WSCloseCode.INTERNAL_ERROR)
    assert (await line.room.told(AgentEnded, within_s=2.0)).cause == "lost"


async def test_an_agent_that_stalls_loses_caller_audio_and_no_other_call_hears_of_it(line: Call) -> None:
    async with line_up() as other:
        await other.answer(answer_after_s=0.0)
        await line.answer(answer_after_s=0.0)
        line.agent.stall()
        other.agent.play(encode_ulaw(tone(900, 1.5)))
        # What a minute of a stalled agent is, in a moment: fill the link to the brim.
        call = line.room.media.service._calls["c"]
        for number in range(3000):
            call.bridge._agent.on_audio(bytes(160), number * 20)
        counts = call.bridge._agent.counts
        assert counts.dropped > 0
        start = len(other.phone.packets)
        await asyncio.sleep(1.4)
        assert heard_s(hear(other.phone.packets), 900) > 1.2
        spacing = np.diff([packet.arrival_s for packet in other.phone.packets[start:]])
        assert float(np.percentile(spacing, 95)) < 0.03
        line.agent.wake()
        await line.agent.told("media", lambda m: int(m["media"]["chunk"]) > 3000)
        statistics = await line.close()
        assert statistics.agent_frames_dropped == counts.dropped
        assert statistics.agent_frames_sent + counts.dropped == pytest.approx(3000 + statistics.packets_sent, abs=10)
