"""Every task of media has an owner."""

from __future__ import annotations

import asyncio

import pytest

from media.tasks import Tasks


async def test_a_failed_task_is_logged_with_its_name_and_ends_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    tasks, done = Tasks(), asyncio.Event()

    async def fail() -> None:
        raise ValueError("broken")

    async def work() -> None:
        done.set()

    tasks.spawn(fail(), "the broken one")
    tasks.spawn(work(), "the other")
    await done.wait()
    await tasks.close()
    assert tasks.failures == 1
    assert caplog.records[0].__dict__["task"] == "the broken one"


async def test_close_cancels_what_still_runs_and_waits_for_it() -> None:
    tasks, ended = Tasks(), []

    async def wait_for_ever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    tasks.spawn(wait_for_ever(), "waiting")
    await asyncio.sleep(0)
    await tasks.close()
    assert ended == [True]
    assert len(tasks) == 0
    assert tasks.failures == 0


async def test_close_gives_a_task_its_grace_to_end_by_itself() -> None:
    tasks, ended = Tasks(), []
    gate = asyncio.Event()

    async def wait() -> None:
        await gate.wait()
        ended.append("by itself")

    tasks.spawn(wait(), "closing")
    asyncio.get_running_loop().call_soon(gate.set)
    await tasks.close(grace_s=5.0)
    assert ended == ["by itself"]
