"""Agents that fail in whole calls: real WebSockets, a real phone leg, real clocks."""

from __future__ import annotations

import pytest

from media.messages import AgentEnded, AgentNoted, AgentReady, AgentSpec, CloseCall, Done, OnLost, StartMedia
from tests.media.agents.server import serve
from tests.media.rooms import Room, offer, open_call, room
from tests.support.audio import level_dbfs
from tests.support.ports import free_port, free_ports
from tests.support.rtp import MediaPort

pytestmark = pytest.mark.realtime


async def answered(media: Room, phone: MediaPort, agent: AgentSpec) -> None:
    """A call that is up."""
    port = free_ports(2)
    await media.opened(open_call("c", port, offer(phone.port), agent))
    phone.target = ("127.0.0.1", port)
    await media.told(AgentReady)
    assert await media.request(StartMedia(call="c")) == Done()


def spec(url: str, **fields: object) -> AgentSpec:
    return AgentSpec(protocol="twilio-media-streams", url=url, answer_after_s=0, **fields)  # type: ignore[arg-type]


async def test_the_second_url_answers_when_nobody_listens_at_the_first() -> None:
    async with room() as media, MediaPort.open() as phone, serve() as second:
        await answered(media, phone, spec(f"ws://127.0.0.1:{free_port()}/", fallback_url=second.url))
        await second.told("media")
        assert (
            await media.told(AgentNoted, lambda notice: notice.event == "agent_connected")
        ).detail == "the second URL"
        await media.request(CloseCall(call="c", reason="test"))
        await second.told("stop")


async def test_an_agent_killed_in_mid_call_is_connected_to_again_and_the_call_goes_on() -> None:
    """The new stream is told that it resumes a call, begins at 0 and hears the caller."""
    async with room() as media, MediaPort.open() as phone, serve() as agent:
        await answered(media, phone, spec(agent.url, on_lost=OnLost(reconnect=True)))
        await agent.told("media", lambda message: int(message["media"]["timestamp"]) >= 200)
        before = len(agent.messages)
        agent.drop()
        await media.told(AgentNoted, lambda notice: notice.event == "agent_reconnected")
        await agent.told("media", lambda message: agent.messages.index(message) >= before)
        _, start, first = agent.messages[before : before + 3]
        assert start["start"]["customParameters"]["truedy_resumed"] == "true"
        assert (first["media"]["chunk"], first["media"]["timestamp"]) == ("1", "0")
        assert not [notice for notice in media.notices if isinstance(notice, AgentEnded)]
        await media.request(CloseCall(call="c", reason="test"))


async def test_an_agent_that_stays_away_is_followed_by_the_message_and_the_end() -> None:
    async with room() as media, MediaPort.open() as phone:
        async with serve() as agent:
            await answered(media, phone, spec(agent.url, on_lost=OnLost(reconnect=True, message="digit-0")))
            await agent.told("media")
        assert (await media.told(AgentEnded)).cause == "lost"
        events = [notice.event for notice in media.notices if isinstance(notice, AgentNoted)]
        assert events == ["agent_connected", "agent_lost", "agent_not_reached", "message", "message_played"]
        heard = phone.audio()
        assert level_dbfs(heard) > -40
        await media.request(CloseCall(call="c", reason="test"))
