"""The one owner of every task in the process.

Each task is named and says what its failure means: ``LOG`` (a piece of work went wrong: it is
logged and counted, the rest goes on) or ``STOP`` (the process cannot serve without it: drain and exit).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from enum import Enum
from types import TracebackType
from typing import Any, Self

__all__ = ["OnFailure", "Supervisor"]

log = logging.getLogger("truedy.supervisor")


class OnFailure(Enum):
    """What a task's unexpected exception means."""

    LOG = "log"
    STOP = "stop"


class Supervisor:
    """An :class:`asyncio.TaskGroup` whose tasks fail alone.

    Use as ``async with Supervisor() as tasks``. Leaving the block cancels what still runs, so a
    caller ends its work first. ``stopping`` is set when a ``STOP`` task has failed or
    :meth:`stop` was called; ``failures`` counts the exceptions.
    """

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[None]] = set()
        self.stopping = asyncio.Event()
        self.fatal: BaseException | None = None
        self.failures = 0

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await self._group.__aexit__(kind, error, traceback)

    @property
    def names(self) -> list[str]:
        """Names of the running tasks, sorted (for leak checks and the log)."""
        return sorted(task.get_name() for task in self._tasks)

    def stop(self) -> None:
        """Ask the process to drain and exit."""
        self.stopping.set()

    def spawn(
        self,
        work: Coroutine[Any, Any, None],
        name: str,
        *,
        on_failure: OnFailure = OnFailure.LOG,
        failed: Callable[[Exception], None] | None = None,
    ) -> asyncio.Task[None]:
        """Run ``work`` as a task called ``name``; ``failed`` hears of its exception after the log does."""
        task = self._group.create_task(self._guard(work, name, on_failure, failed), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _guard(
        self,
        work: Coroutine[Any, Any, None],
        name: str,
        on_failure: OnFailure,
        failed: Callable[[Exception], None] | None,
    ) -> None:
        try:
            await work
        except Exception as error:
            self.failures += 1
            log.exception("task failed", extra={"task": name, "on_failure": on_failure.value})
            if failed is not None:
                failed(error)
            if on_failure is OnFailure.STOP:
                self.fatal = error
                self.stopping.set()
