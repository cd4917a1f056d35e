"""Media's end of an agent that runs in another process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from media.agents.base import BadAgent
from media.agents.hosted import HostedAgent
from media.hosting import doorway, wire
from media.hosting.wire import Kind
from media.messages import AgentSpec
from media.pipe import Pipe
from tests.media.agents.fakes import CONTEXT, FakePort, host

NAME = f"truedy-test-hosted-{os.getpid()}"
SPEC = AgentSpec(protocol="python", name="pkg:agent", sample_rate=8000)
FRAME = b"\x01\x00" * 160


class HostEnd:
    """The host's end of the connection."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[bytes] = asyncio.Queue()
        self.lost = asyncio.Event()
        self.pipe = Pipe(self.frames.put_nowait, lambda reason: self.lost.set())

    async def next(self) -> bytes:
        async with asyncio.timeout(2.0):
            return await self.frames.get()

    async def say(self, *frames: bytes) -> None:
        for frame in frames:
            self.pipe.send(frame)
        await settle()


async def settle() -> None:
    await asyncio.sleep(0.01)


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[HostedAgent, FakePort, HostEnd]]:
    """An agent whose call's facts have arrived."""
    with doorway.open_doorway(NAME) as door:
        agent, port, there = HostedAgent(host(SPEC, agent_hosts=NAME)), FakePort(), HostEnd()
        agent.open(port)
        await settle()
        end = doorway.accept(door)
        assert end is not None
        await there.pipe.open(end)
        opened = await there.next()
        assert wire.decode(opened, wire.Open) == wire.Open(agent=SPEC, context=CONTEXT)
        try:
            yield agent, port, there
        finally:
            await agent.close()
            there.pipe.close()
            await there.pipe.closed()
            await agent._pipe.closed()


async def test_what_the_bridge_tells_crosses_in_order() -> None:
    async with connected() as (agent, port, there):
        agent.on_start()
        port.queued_ms = 60
        agent.on_audio(FRAME, 20)
        agent.on_digit("5", 120)
        agent.on_mark("7")
        agent.on_event("refused", {"verb": "transfer"})
        assert agent.counts.sent == 1
        assert [await there.next() for _ in range(5)] == [
            wire.encode(Kind.ESTABLISHED),
            wire.audio(20, 60, 0, FRAME),
            wire.encode(Kind.DIGIT, wire.Digit("5", 120)),
            wire.numbered(Kind.REACHED, 7),
            wire.encode(Kind.TELL, wire.Tell("refused", {"verb": "transfer"})),
        ]


async def test_what_the_agent_says_reaches_the_bridge() -> None:
    async with connected() as (agent, port, there):
        port.outstanding = ("3", "4")
        await there.say(
            wire.encode(Kind.STARTED),
            wire.encode(Kind.ANSWER),
            bytes((Kind.PLAY,)) + FRAME,
            wire.numbered(Kind.MARK, 5),
            wire.encode(Kind.CLEAR),
            bytes((Kind.DIGITS,)) + b"1w#",
            wire.encode(Kind.ASK, wire.Ask("transfer", {"target": "+1"})),
            wire.numbered(Kind.DROPPED, 2),
            wire.encode(Kind.HANG_UP, wire.Parting({"X-Result": "sold"})),
        )
        assert port.take() == [
            ("started",),
            ("ready",),
            ("play", FRAME, "L16"),
            ("mark", "5"),
            ("clear",),
            ("digits", "1w#"),
            ("ask", "transfer", {"target": "+1"}),
            ("hang_up", {"X-Result": "sold"}),
        ]
        assert agent.counts.dropped == 2
        assert [await there.next() for _ in range(2)] == [wire.numbered(Kind.CLEARED, n) for n in (3, 4)]
        agent.on_audio(FRAME, 0)
        assert wire.read_audio(await there.next())[2] == len(FRAME)


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        (wire.encode(Kind.ENDED, wire.Ended("closed", "")), ("ended", "closed", "")),
        (wire.encode(Kind.ENDED, wire.Ended("lost", "the agent raised X")), ("ended", "lost", "the agent raised X")),
        (wire.encode(Kind.FAILED, wire.Failed("refused", "not listed")), ("failed", "refused", "not listed")),
        (wire.encode(Kind.FAILED, wire.Failed("timeout", "no answer")), ("failed", "timeout", "no answer")),
        (wire.encode(Kind.FAILED, wire.Failed("odd", "what")), ("failed", "error", "what")),
    ],
)
async def test_its_last_word_is_told_once(frame: bytes, told: tuple[str, ...]) -> None:
    async with connected() as (agent, port, there):
        await there.say(frame, wire.encode(Kind.HANG_UP))
        there.pipe.close()
        await settle()
        assert port.log == [told]
        agent.on_audio(FRAME, 0)
        assert agent.counts.sent == 0


async def test_a_process_that_dies_without_a_last_word_is_an_agent_lost() -> None:
    async with connected() as (_, port, there):
        await there.say(wire.encode(Kind.STARTED))
        there.pipe.abort("killed")
        await settle()
        assert port.log == [("started",), ("ended", "lost", "the process that ran the agent ended")]


async def test_one_that_dies_before_its_first_word_is_replaced_once() -> None:
    """It was dying when the call was handed to it."""
    with doorway.open_doorway(NAME) as door:
        agent, port = HostedAgent(host(SPEC, agent_hosts=NAME)), FakePort()
        agent.open(port)
        for _ in range(2):
            await settle()
            end = doorway.accept(door)
            assert end is not None
            assert port.log == []
            end.close()
        await settle()
        assert doorway.accept(door) is None
        assert port.log == [("ended", "lost", "the process that ran the agent ended")]
        await agent.close()


async def test_what_makes_no_sense_is_counted_and_harms_nothing() -> None:
    async with connected() as (agent, port, there):
        await there.say(
            b"",
            b"\xff",
            bytes((Kind.OPEN,)),
            bytes((Kind.MARK,)),
            bytes((Kind.ASK, 0xC1)),
            bytes((Kind.DIGITS, 0xFF)),
            wire.encode(Kind.ANSWER),
        )
        assert port.log == [("ready",)]
        assert agent.counts.ignored == 6


async def test_a_host_that_reads_too_slowly_gets_what_is_said_now_and_the_rest_is_counted() -> None:
    async with connected() as (agent, _, there):
        assert there.pipe._transport is not None
        there.pipe._transport.pause_reading()
        frames = 0
        while agent.counts.dropped < 5:
            agent.on_audio(FRAME, frames * 20)
            frames += 1
            if frames % 50 == 0:
                await asyncio.sleep(0)
        assert agent._pipe.queued < agent.BEHIND_BYTES + 1000
        assert agent.counts.sent + agent.BACKLOG_FRAMES + 5 == frames
        there.pipe._transport.resume_reading()
        await settle()
        agent.on_audio(FRAME, frames * 20)
        await settle()
        assert agent.counts.sent == frames + 1 - 5
        heard = [wire.read_audio(there.frames.get_nowait())[0] for _ in range(agent.counts.sent)]
        assert heard[-1] == frames * 20
        assert heard == sorted(heard)


async def test_one_that_reads_nothing_at_all_is_lost() -> None:
    async with connected() as (agent, port, there):
        assert there.pipe._transport is not None
        there.pipe._transport.pause_reading()
        agent._pipe._limit = 256 * 1024
        for _ in range(200):
            agent.on_event("long", {"text": "x" * 8000})
            if not agent._port:
                break
            await asyncio.sleep(0)
        assert port.log == [("ended", "lost", "the agent's process does not read")]


async def test_a_call_over_before_it_was_connected_is_nobodys() -> None:
    with doorway.open_doorway(NAME) as door:
        agent = HostedAgent(host(SPEC, agent_hosts=NAME))
        agent.open(FakePort())
        await agent.close()
        await settle()
        end = doorway.accept(door)
        assert end is not None
        with end:
            assert await asyncio.get_running_loop().sock_recv(end, 10) == b""


async def test_where_nobody_listens_the_agent_fails() -> None:
    agent, port = HostedAgent(host(SPEC, agent_hosts="truedy-nobody")), FakePort()
    agent.open(port)
    await settle()
    [(what, cause, message)] = port.log
    assert (what, cause) == ("failed", "error")
    assert "no process runs agents" in message
    await agent.close()


def test_without_hosts_there_are_no_such_agents() -> None:
    for spec in (SPEC, AgentSpec(protocol="webrtc", url="https://example.com/whip")):
        with pytest.raises(BadAgent, match=spec.protocol):
            HostedAgent(host(spec))
