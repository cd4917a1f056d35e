"""A host's life in this process: connections it takes over, and what it tells its keeper."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from media.hosting import doorway, host, wire
from media.hosting.host import Host
from media.hosting.settings import WEBRTC_MISSING, HostSettings
from media.hosting.wire import Kind, Load
from media.messages import AgentSpec
from media.pipe import Pipe, pair
from media.python_agent import Call
from tests.media.hosting.lines import Media

HERE = f"{__name__}:echo"


async def echo(call: Call) -> None:
    """Returns what it hears."""
    async for frame in call.audio():
        await call.play(frame)


class Keeper:
    """The other ends."""

    def __init__(self) -> None:
        self.loads: asyncio.Queue[Load] = asyncio.Queue()
        self.pipe = Pipe(self._hear, lambda reason: None)
        self.ours, self.theirs = doorway.channel()
        self.notes = os.memfd_create("notes")
        self.serving: asyncio.Task[int]

    def _hear(self, data: bytes) -> None:
        self.loads.put_nowait(msgspec.msgpack.decode(data, type=Load))

    async def load(self, calls: int | None = None) -> Load:
        async with asyncio.timeout(2.0):
            while True:
                load = await self.loads.get()
                if calls in (None, load.calls):
                    return load

    async def call(self, spec: AgentSpec) -> Media:
        ours, theirs = pair()
        media = Media()
        await media.pipe.open(ours)
        with theirs:
            assert doorway.hand_over(self.ours, theirs)
        media.open(spec)
        return media


@asynccontextmanager
async def served(*agents: str, beat_s: float = 5.0) -> AsyncIterator[Keeper]:
    keeper = Keeper()
    ours, theirs = pair()
    await keeper.pipe.open(ours)
    settings = HostSettings(theirs.detach(), keeper.theirs.detach(), keeper.notes, agents, beat_s)
    was_enabled = faulthandler.is_enabled()
    keeper.serving = asyncio.ensure_future(Host(settings, wall=lambda: 0.0).serve())
    try:
        with keeper.ours:
            yield keeper
            keeper.pipe.close()
            assert await asyncio.wait_for(keeper.serving, 5.0) == 0
    finally:
        keeper.serving.cancel()
        await keeper.pipe.closed()
        faulthandler.disable()
        if was_enabled:
            faulthandler.enable(sys.__stderr__)
        os.close(keeper.notes)


async def test_a_call_that_is_handed_over_has_its_agent_and_is_counted() -> None:
    async with served(HERE) as keeper:
        first = await keeper.load()
        assert (first.calls, first.taken) == (0, 0)
        media = await keeper.call(AgentSpec(protocol="python", name=HERE))
        assert (await keeper.load(calls=1)).taken == 1
        assert (await media.next())[0] == Kind.STARTED
        media.pipe.close()
        await keeper.load(calls=0)


@pytest.mark.parametrize(
    "spec", [AgentSpec(protocol="python", name="os:system"), AgentSpec(protocol="telepathy", name=HERE)]
)
async def test_what_is_not_listed_is_refused(spec: AgentSpec) -> None:
    async with served(HERE) as keeper:
        media = await keeper.call(spec)
        assert wire.decode(await media.next(), wire.Failed).cause == "refused"
        await media.lost.wait()
        await keeper.load(calls=0)


async def test_it_tells_every_beat_that_its_loop_turns() -> None:
    async with served(beat_s=0.01) as keeper:
        for _ in range(5):
            await keeper.load()


async def test_calls_end_when_the_keeper_goes() -> None:
    async with served(HERE) as keeper:
        media = await keeper.call(AgentSpec(protocol="python", name=HERE))
        await media.next()
        keeper.pipe.close()
        await asyncio.wait_for(media.lost.wait(), 2.0)


async def test_the_end_of_the_way_is_the_end_of_the_host() -> None:
    async with served(HERE) as keeper:
        await keeper.load()
        keeper.ours.close()
        await asyncio.wait_for(asyncio.shield(keeper.serving), 5.0)


async def test_a_keeper_that_does_not_read_or_breaks_off_ends_the_host_with_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with served(beat_s=0.01) as keeper:
        await keeper.load()
        monkeypatch.setattr(Pipe, "send", _full)
        assert await asyncio.wait_for(asyncio.shield(keeper.serving), 5.0) == 1
        keeper.serving = asyncio.ensure_future(asyncio.sleep(0, 0))


def _full(self: Pipe, data: bytes) -> None:
    from media.pipe import PipeFull

    raise PipeFull(1, 1)


async def test_stop_signals_are_the_keepers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal sends SIGINT to every process of the edge; calls end when the keeper says so."""
    shut: list[tuple[Any, Any]] = []
    monkeypatch.setattr(signal, "signal", lambda number, action: shut.append((number, action)))

    async def serve(self: Host) -> int:
        return 7

    monkeypatch.setattr(Host, "serve", serve)
    assert await host.run(HostSettings(0, 0, 0), wall=lambda: 0.0) == 7
    assert shut == [(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]


async def test_without_aiortc_a_webrtc_agent_fails_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "media.hosting.webrtc", None)
    async with served() as keeper:
        media = await keeper.call(AgentSpec(protocol="webrtc", url="https://agent.example.com/whip"))
        failed = wire.decode(await media.next(), wire.Failed)
        assert failed.cause == "error"
        assert failed.message.startswith(WEBRTC_MISSING)
