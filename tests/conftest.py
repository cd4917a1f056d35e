"""For every test: the event loop it runs on, and the check that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

import pytest
import uvloop

from tests.support.leaks import Snapshot, leaked_tasks

pytest_plugins = ["pytester", "tests.support.table_rows"]

# libuv opens one pipe a process for signals, with its first loop: it is there before any test counts descriptors.
uvloop.run(asyncio.sleep(0))

# A closed transport gives its socket back some turns of the loop later; a thread or a child may need a moment more.
SETTLE_TURNS = 20
SETTLE_S = 3.0


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Real-time tests run on uvloop, as the product does, and so do those so marked; others on asyncio's own loop."""
    if any(item.get_closest_marker(name) for name in ("realtime", "uvloop")):
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that leaves a task, a descriptor, a port or a child process behind fails.

    It holds for coroutine tests and for those marked ``realtime`` or ``uvloop``; the rest do no I/O.
    """
    function = getattr(request.node, "function", None)
    if inspect.iscoroutinefunction(function):
        request.getfixturevalue("_coroutine_leaves_nothing")
        yield
    elif any(request.node.get_closest_marker(name) for name in ("realtime", "uvloop")):
        before = Snapshot.take()
        yield
        _fail_on(before.leaks())
    else:
        yield


@pytest.fixture
async def _coroutine_leaves_nothing() -> AsyncIterator[None]:
    before, tasks_before = Snapshot.take(), asyncio.all_tasks()
    yield
    leaks: list[str] = []
    loop = asyncio.get_running_loop()
    deadline = loop.time() + SETTLE_S
    turn = 0
    while turn < SETTLE_TURNS or loop.time() < deadline:
        leaks = before.leaks() + leaked_tasks(tasks_before)
        if not leaks:
            return
        turn += 1
        await asyncio.sleep(0 if turn < SETTLE_TURNS else 0.02)
    _fail_on(leaks)


def _fail_on(leaks: list[str]) -> None:
    if leaks:
        pytest.fail("left behind by this test:\n  " + "\n  ".join(leaks), pytrace=False)
