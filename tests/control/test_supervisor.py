"""The owner of all tasks."""

from __future__ import annotations

import asyncio
import logging

import pytest

from control.supervisor import OnFailure, Supervisor


async def _fail() -> None:
    raise RuntimeError("broken")


async def test_a_failed_piece_of_work_leaves_the_others_running(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[str] = []
    go = asyncio.Event()

    async def other() -> None:
        await go.wait()
        heard.append("other finished")

    async with Supervisor() as tasks:
        survivor = tasks.spawn(other(), "other")
        await tasks.spawn(_fail(), "failing", failed=lambda error: heard.append(str(error)))
        assert not tasks.stopping.is_set()
        go.set()
        await survivor
    assert heard == ["broken", "other finished"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_a_task_the_process_needs_stops_it_when_it_fails() -> None:
    async with Supervisor() as tasks:
        tasks.spawn(_fail(), "needed", on_failure=OnFailure.STOP)
        await tasks.stopping.wait()
        assert str(tasks.fatal) == "broken"
        assert tasks.failures == 1


async def test_leaving_the_block_cancels_what_still_runs() -> None:
    cancelled = asyncio.Event()
    started = asyncio.Event()

    async def endless() -> None:
        try:
            started.set()
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with Supervisor() as tasks:
        tasks.spawn(endless(), "endless")
        await started.wait()
        assert tasks.names == ["endless"]
    assert cancelled.is_set()
    assert tasks.names == []
