"""Processes that are kept up; what a death costs is in the tests of those who keep: media workers and agent hosts."""

from __future__ import annotations

import asyncio
import logging

import pytest

from control.keeper import Keeper, NotUp, start_child
from control.supervisor import Supervisor
from edge.counters import Counters
from tests.support.children import FakeChild


class FakeLife:
    """Ready as soon as ``answers`` is set."""

    heard = True
    beats = 0
    load = 3

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.link = FakeChild()
        self.answers = asyncio.Event()

    async def answered(self) -> None:
        await self.answers.wait()


async def until(condition: object) -> None:
    while not condition():  # type: ignore[operator]
        await asyncio.sleep(0)


async def test_those_that_are_up_and_those_that_are_gone_are_told_of(caplog: pytest.LogCaptureFixture) -> None:
    lives: list[FakeLife] = []
    up: list[int] = []
    gone: list[tuple[int, int]] = []

    async def launch(epoch: int) -> FakeLife:
        lives.append(FakeLife(epoch))
        return lives[-1]

    async with Supervisor() as tasks:
        counters = Counters()
        keeper: Keeper[FakeLife] = Keeper(
            "thing",
            1,
            launch,
            gone=lambda life, status: gone.append((life.epoch, status)),
            up=lambda life: up.append(life.epoch),
            spawn=tasks.spawn,
            counters=counters,
            counter="things_died",
        )
        await keeper.launch()
        await until(lambda: lives)
        assert not keeper.ready
        lives[0].answers.set()
        await keeper.start()
        assert len(lives) == 1
        keeper.add_place()
        await until(lambda: len(lives) == 2)
        lives[1].answers.set()
        await until(lambda: len(keeper.ready) == 2)
        assert (up, keeper.active, keeper.closing) == ([1, 2], [lives[0]], False)
        lives[0].link.die(-11)
        await until(lambda: gone)
        assert (gone, keeper.active) == ([(1, -11)], [lives[1]])
        await keeper.close()
        assert keeper.closing
    [died] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert (died.message, died.__dict__["status"], died.__dict__["calls"]) == ("thing died", -11, 3)
    assert counters.get("things_died") == 1


async def test_too_few_in_time_is_an_error_with_their_number() -> None:
    async def launch(epoch: int) -> FakeLife:
        return FakeLife(epoch)

    async with Supervisor() as tasks:
        keeper: Keeper[FakeLife] = Keeper(
            "thing",
            2,
            launch,
            gone=lambda life, status: None,
            spawn=tasks.spawn,
            counters=Counters(),
            counter="things_died",
            start_s=0.01,
        )
        with pytest.raises(NotUp, match="0 of 2 things came up"):
            await keeper.start()
        await keeper.close()


async def test_a_child_sees_our_modules_and_goes_when_its_pipe_does() -> None:
    """The keyring of the product's processes: a module by name, a pipe, and the level to log at."""
    child = await start_child("asyncio", lambda descriptor, level: ["--no-such-option"], lambda data: None)
    assert child.pid > 0
    assert await child.ended() >= 0
    child.kill()
