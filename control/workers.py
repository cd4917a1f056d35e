"""Media in processes of its own: :class:`MediaWorkers` stands where :class:`~media.in_process.InProcessMedia` does.

``count`` workers take calls, one more is kept warm. A worker that dies takes its calls with it and no
others: the spare is in its place before control hears of them, and a new process becomes the spare.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Literal

import msgspec

from control.costs import cost_series
from control.keeper import Keeper, Launch, Link, NotUp, Spawn, start_child
from control.media_process import arguments
from control.metrics import Readings
from edge.counters import Counters
from media.client import MediaClient, MediaGone
from media.messages import (
    CallClosed,
    CallOpened,
    CloseCall,
    Command,
    Failed,
    NoticeBody,
    OpenCall,
    Ping,
    Result,
    Statistics,
)
from media.settings import ServiceSettings

__all__ = ["MediaWorkers", "WorkersFailed", "launcher", "worker_count"]

log = logging.getLogger("truedy.workers")

WorkersFailed = NotUp


def worker_count(setting: int | Literal["auto"]) -> int:
    """``media.workers`` as a number: ``auto`` leaves one of this process's cores to control, and is at least 1."""
    return max(len(os.sched_getaffinity(0)) - 1, 1) if setting == "auto" else setting


class _Worker:
    """One life. ``calls`` are open in it, oldest first; ``opening`` not yet."""

    link: Link

    def __init__(self, epoch: int, noticed: Callable[[_Worker, NoticeBody], None]) -> None:
        self.epoch = epoch
        self.client = MediaClient(self._send, lambda body: noticed(self, body), epoch)
        self.calls: dict[str, None] = {}
        self.opening: set[str] = set()
        self.heard = False
        self.beats = 0
        self.tick_late_p99_ms: float | None = None
        self.gc_pause_max_ms: float | None = None

    def _send(self, data: bytes) -> None:
        self.link.send(data)

    @property
    def load(self) -> int:
        return len(self.calls) + len(self.opening)

    async def answered(self) -> None:
        await self.client.request(Ping(), Keeper.START_S)


class MediaWorkers:
    """The interface of :class:`~media.in_process.InProcessMedia` over ``count`` processes and a spare.

    A call is opened by the worker with the fewest. ``on_lost`` is given the calls that ended with
    their worker; what was only being opened there is opened again elsewhere, unseen.
    Next: ``await start()``, ``keep_spare()``; ``await close()`` whether or not that succeeded.
    """

    def __init__(
        self,
        count: int,
        launch: Launch,
        *,
        on_notice: Callable[[NoticeBody], None],
        on_lost: Callable[[Sequence[str]], None],
        spawn: Spawn,
        counters: Counters,
        beat_s: float = 1.0,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._launch = launch
        self._on_notice = on_notice
        self._on_lost = on_lost
        self._counters = counters
        self._keeper: Keeper[_Worker] = Keeper(
            "media worker",
            count,
            self._begin,
            gone=self._buried,
            spawn=spawn,
            counters=counters,
            counter="media_workers_died",
            beat_s=beat_s,
            pause=pause,
        )
        self._by_call: dict[str, _Worker] = {}

    @property
    def ready(self) -> int:
        """Workers up, the spare among them."""
        return len(self._keeper.ready)

    @property
    def pids(self) -> tuple[int, ...]:
        """Of the workers that take calls."""
        return tuple(worker.link.pid for worker in self._keeper.active)

    def readings(self) -> Readings:
        """What each worker carries and costs, and how many are up."""
        workers = {(("worker", str(worker.epoch)),): worker for worker in self._keeper.ready}
        memory, cpu = cost_series({labels: worker.link.pid for labels, worker in workers.items()})
        return {
            "media_workers": {(): self.ready},
            "media_worker_calls": {labels: worker.load for labels, worker in workers.items()},
            "media_worker_memory_bytes": memory,
            "media_worker_cpu_seconds": cpu,
        }

    # --- the interface of media ---

    async def launch(self) -> None:
        """Have the processes started, and come back while they get ready."""
        await self._keeper.launch()

    async def start(self) -> None:
        """Until ``count`` workers are ready; launches them if nobody has. Raises :class:`WorkersFailed`."""
        await self._keeper.start()

    def keep_spare(self) -> None:
        """From now on one more is kept warm."""
        self._keeper.add_place()

    async def request(self, command: Command, deadline_s: float = 5.0) -> Result:
        """See :meth:`media.client.MediaClient.request`; the command goes to its call's worker."""
        match command:
            case OpenCall():
                result = await self._open(command, deadline_s)
            case CloseCall():
                result = await self._close(command, deadline_s)
            case Ping():
                result = await self._least_loaded().client.request(command, deadline_s)
            case _:
                worker = self._by_call.get(command.call)
                if worker is None:
                    return Failed(code="unknown_call", message=command.call)
                result = await worker.client.request(command, deadline_s)
        if isinstance(result, Failed) and result.code == "overload":
            self._counters.add("media_requests_refused", command=type(command).__name__)
        return result

    async def close(self) -> None:
        """End all calls; the workers leave by themselves, or are killed."""
        await self._keeper.close()

    # --- calls ---

    def _least_loaded(self) -> _Worker:
        if not self._keeper.active:
            raise MediaGone("no media worker is up")
        return min(self._keeper.active, key=lambda worker: worker.load)

    async def _open(self, command: OpenCall, deadline_s: float) -> Result:
        call = command.call
        if call in self._by_call:
            return Failed(code="call_exists", message=call)
        while True:
            worker = self._least_loaded()
            try:
                return await self._open_at(worker, command, deadline_s)
            except MediaGone:
                if self._by_call.pop(call, None) is not worker:
                    return Failed(code="unknown_call", message="closed while it was opened")

    async def _open_at(self, worker: _Worker, command: OpenCall, deadline_s: float) -> Result:
        call = command.call
        self._by_call[call] = worker
        worker.opening.add(call)
        try:
            result = await worker.client.request(command, deadline_s)
        finally:
            worker.opening.discard(call)
        if self._by_call.get(call) is worker:
            if isinstance(result, CallOpened):
                worker.calls[call] = None
            else:
                del self._by_call[call]
        return result

    async def _close(self, command: CloseCall, deadline_s: float) -> Result:
        worker = self._by_call.get(command.call)
        if worker is None:
            return CallClosed(statistics=None)
        self._forget(command.call, worker)
        result = await worker.client.request(command, deadline_s)
        if isinstance(result, Failed):
            # It holds a call, and its port, that nobody will ever close again.
            log.error("media worker refuses to close a call", extra={"pid": worker.link.pid, "code": result.code})
            worker.link.kill()
        return result

    def _forget(self, call: str, worker: _Worker) -> None:
        worker.calls.pop(call, None)
        if self._by_call.get(call) is worker:
            del self._by_call[call]

    # --- workers ---

    async def _begin(self, epoch: int) -> _Worker:
        worker = _Worker(epoch, self._noticed)
        worker.link = await self._launch(epoch, worker.client.receive)
        return worker

    def _buried(self, worker: _Worker, status: int) -> None:
        """It is gone: no call goes there any more, and those that were there are."""
        lost = tuple(worker.calls)
        for call in lost:
            self._forget(call, worker)
        if not self._keeper.closing:
            self._on_lost(lost)
        worker.client.gone(f"the media worker ended with status {status}")

    def _noticed(self, worker: _Worker, body: NoticeBody) -> None:
        worker.heard = True
        if isinstance(body, Statistics):
            worker.tick_late_p99_ms, worker.gc_pause_max_ms = body.tick_late_p99_ms, body.gc_pause_max_ms
            late = [one.tick_late_p99_ms for one in self._keeper.active if one.tick_late_p99_ms is not None]
            pauses = [one.gc_pause_max_ms for one in self._keeper.active if one.gc_pause_max_ms is not None]
            body = msgspec.structs.replace(
                body, tick_late_p99_ms=max(late, default=None), gc_pause_max_ms=max(pauses, default=None)
            )
        self._on_notice(body)


def launcher(settings: ServiceSettings) -> Launch:
    """Workers as ``settings`` say, each a process that sees the modules this one sees."""

    async def launch(epoch: int, deliver: Callable[[bytes], None]) -> Link:
        own = replace(settings, epoch=epoch)
        return await start_child(
            "control.media_process", lambda descriptor, level: arguments(descriptor, own, level), deliver
        )

    return launch
