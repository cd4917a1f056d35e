"""The control API's process, kept."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from config.settings import Settings
from control.apart.kept import ApiProcess
from control.apart.messages import (
    Answer,
    Begin,
    Finish,
    FromApi,
    FromCalls,
    Question,
    ReadReadings,
    Serving,
    Word,
    decode_from_calls,
    encode,
)
from control.carrying import Carrying
from control.costs import Cost
from control.keeper import Keeper, Link
from control.supervisor import Supervisor
from edge.counters import Counters
from media.pipe import PipeFull
from tests.support.children import FakeChild
from tests.support.desk import Desk


class FakeProcess(FakeChild):
    """One by hand; ``full`` takes nothing, ``deaf`` does not finish when it is told to."""

    def __init__(self, pid: int, deliver: Callable[[bytes], None]) -> None:
        super().__init__(pid)
        self.heard: list[FromCalls] = []
        self.full = False
        self.deaf = False
        self._deliver = deliver

    def say(self, message: FromApi) -> None:
        self._deliver(encode(message))

    def send(self, data: bytes) -> None:
        if self.full:
            raise PipeFull(4_000_000, 4_194_304)
        self.heard.append(decode_from_calls(data))
        if isinstance(self.heard[-1], Finish) and not self.deaf:
            self.die(0)

    def hang_up(self) -> None:
        raise AssertionError("its pipe is its own to close")


class House:
    def __init__(self) -> None:
        self.launched: list[FakeProcess] = []
        self.replaced = 0
        self.counters = Counters()
        self.carrying: Carrying = Desk().carrying

    async def launch(self, epoch: int, deliver: Callable[[bytes], None]) -> Link:
        self.launched.append(FakeProcess(1000 + epoch, deliver))
        return self.launched[-1]

    def mourn(self) -> None:
        self.replaced += 1

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0)


@asynccontextmanager
async def house() -> AsyncIterator[tuple[House, ApiProcess]]:
    """Launched, not begun."""
    it = House()

    async def at_once(seconds: float) -> None: ...

    async with Supervisor() as tasks:
        kept = ApiProcess(
            Settings(), it.launch, spawn=tasks.spawn, counters=it.counters, replaced=it.mourn, pause=at_once
        )
        await kept.launch()
        await it.until(lambda: it.launched)
        yield it, kept
        await kept.close()


async def started(it: House, kept: ApiProcess) -> FakeProcess:
    starting = asyncio.create_task(kept.start(it.carrying, ("udp:127.0.0.1:5060",)))
    await it.until(lambda: it.launched[-1].heard)
    assert not starting.done()
    it.launched[-1].say(Word(body=Serving()))
    await starting
    return it.launched[-1]


async def test_it_loads_while_the_rest_starts_and_begins_when_calls_can_be_carried() -> None:
    async with house() as (it, kept):
        assert it.launched[0].heard == []
        process = await started(it, kept)
        [begin] = process.heard
        assert isinstance(begin, Begin)
        assert begin.listening == ("udp:127.0.0.1:5060",)
        assert kept.pids == (process.pid,)
        assert len(it.launched) == 1, "a spare would be memory for nothing"


async def test_it_asks_and_is_answered() -> None:
    async with house() as (it, kept):
        process = await started(it, kept)
        process.say(Question(number=5, body=ReadReadings()))
        await it.until(lambda: len(process.heard) == 2)
        answer = process.heard[1]
        assert isinstance(answer, Answer)
        assert answer.number == 5


async def test_one_that_dies_is_replaced_and_what_it_had_yet_to_tell_is_looked_up() -> None:
    async with house() as (it, kept):
        process = await started(it, kept)
        process.die(-11)
        await it.until(lambda: len(it.launched) == 2)
        assert (it.replaced, it.counters.get("api_processes_died", status="-11")) == (1, 1)
        second = it.launched[1]
        await it.until(lambda: second.heard)
        second.say(Word(body=Serving()))
        await it.until(lambda: kept.pids == (second.pid,))


async def test_what_it_costs_is_one_series_whichever_process_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control.costs.cost_of", {1001: Cost(5000, 1.5)}.get)
    async with house() as (it, kept):
        assert kept.readings() == {"api_process_memory_bytes": {}, "api_process_cpu_seconds": {}}
        await started(it, kept)
        assert kept.readings() == {"api_process_memory_bytes": {(): 5000}, "api_process_cpu_seconds": {(): 1.5}}


async def test_one_that_does_not_read_its_answers_is_replaced(caplog: pytest.LogCaptureFixture) -> None:
    """A request that waits for ever would be the other way."""
    async with house() as (it, kept):
        process = await started(it, kept)
        process.full = True
        process.say(Question(number=1, body=ReadReadings()))
        await it.until(lambda: len(it.launched) == 2)
    assert "the control API does not read its answers" in caplog.messages


async def test_it_finishes_before_it_leaves_and_that_is_no_death(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        async with house() as (it, kept):
            process = await started(it, kept)
            await kept.close()
            assert isinstance(process.heard[-1], Finish)
    assert it.replaced == 0
    assert not caplog.records


async def test_one_that_does_not_finish_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Keeper, "CLOSE_S", 0.0)
    async with house() as (it, kept):
        process = await started(it, kept)
        process.deaf = True
        await kept.close()
        assert await process.ended() == -9


async def test_a_start_that_fails_elsewhere_leaves_no_process() -> None:
    """It is told to finish before it was told to begin."""
    async with house() as (it, kept):
        await kept.close()
        assert it.launched[0].heard == [Finish()]
