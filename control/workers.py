"""Media in processes of its own: :class:`MediaWorkers` stands where :class:`~media.client.InProcessMedia` does.

``count`` workers take calls, one more is kept warm. A worker that dies takes its calls with it and no
others: the spare is in its place before control hears of them, and a new process becomes the spare.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, Final, Literal, Protocol

import msgspec

from control.media_process import arguments
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
from media.pipe import Pipe, pair
from media.service import ServiceSettings

__all__ = ["Launch", "Link", "MediaWorkers", "WorkerProcess", "WorkersFailed", "launcher", "worker_count"]

log = logging.getLogger("truedy.workers")


class WorkersFailed(Exception):
    """Not enough media workers came up; the log has each one's end."""


class Link(Protocol):
    """One worker's process and the pipe to it."""

    @property
    def pid(self) -> int: ...

    def send(self, data: bytes) -> None:
        """Raises :class:`media.pipe.PipeFull`; to a worker that is gone, nothing happens."""

    def hang_up(self) -> None:
        """Close the pipe, which tells the worker to end its calls and leave."""

    def kill(self) -> None:
        """End it now. Once more, or late, does nothing."""

    async def ended(self) -> int:
        """Until the process is gone and nothing of it is left open; its status, a signal's number negated."""


Launch = Callable[[int, Callable[[bytes], None]], Awaitable[Link]]
"""Starts the worker of an epoch, whose messages go to the function. Raises OSError."""


class Spawn(Protocol):
    """:meth:`control.supervisor.Supervisor.spawn`."""

    def __call__(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]: ...


def worker_count(setting: int | Literal["auto"]) -> int:
    """``media.workers`` as a number: ``auto`` leaves one of this process's cores to control, and is at least 1."""
    return max(len(os.sched_getaffinity(0)) - 1, 1) if setting == "auto" else setting


class _Worker:
    """One life. ``calls`` are open in it, oldest first; ``opening`` not yet. ``heard``: since the last beat."""

    link: Link

    def __init__(self, epoch: int, noticed: Callable[[_Worker, NoticeBody], None]) -> None:
        self.epoch = epoch
        self.client = MediaClient(self._send, lambda body: noticed(self, body), epoch)
        self.calls: dict[str, None] = {}
        self.opening: set[str] = set()
        self.heard = False
        self.beats = 0
        self.tick_late_p99_ms: float | None = None

    def _send(self, data: bytes) -> None:
        self.link.send(data)

    @property
    def load(self) -> int:
        return len(self.calls) + len(self.opening)


class MediaWorkers:
    """The interface of :class:`~media.client.InProcessMedia` over ``count`` processes and a spare.

    A call is opened by the worker with the fewest. ``on_lost`` is given the calls that ended with
    their worker; what was only being opened there is opened again elsewhere, unseen.
    Next: ``await start()``; ``await close()`` whether or not that succeeded.
    """

    START_S: Final = 20.0
    """A worker that does not answer in this time after its launch is killed."""

    CLOSE_S: Final = 8.0
    """A worker that is told to leave and has not after this is killed."""

    QUIET_BEATS: Final = 10
    """A worker tells statistics every second: one silent for so many beats hangs, and is killed."""

    BACK_OFF_S: Final = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
    """Before the next launch in a place whose last workers, so many in a row, did not live for ``QUIET_BEATS``."""

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
        self._count = count
        self._launch = launch
        self._on_notice = on_notice
        self._on_lost = on_lost
        self._spawn = spawn
        self._counters = counters
        self._beat_s = beat_s
        self._pause = pause
        self._epoch = 0
        self._keepers: list[asyncio.Task[None]] = []
        self._alive: set[_Worker] = set()
        self._ready: list[_Worker] = []
        self._by_call: dict[str, _Worker] = {}
        self._enough = asyncio.Event()
        self._closing = asyncio.Event()

    @property
    def ready(self) -> int:
        """Workers up, the spare among them."""
        return len(self._ready)

    @property
    def pids(self) -> tuple[int, ...]:
        """Of the workers that take calls."""
        return tuple(worker.link.pid for worker in self._active)

    @property
    def _active(self) -> list[_Worker]:
        """The oldest: when one of them dies, the spare moves up by itself."""
        return self._ready[: self._count]

    # --- the interface of media ---

    async def launch(self) -> None:
        """Have the processes started, and come back while they get ready."""
        for _ in range(self._count):
            self._keep_one_more()
        await asyncio.sleep(0)

    async def start(self) -> None:
        """Until ``count`` workers are ready; launches them if nobody has. Raises :class:`WorkersFailed`."""
        if not self._keepers:
            await self.launch()
        try:
            async with asyncio.timeout(self.START_S):
                await self._enough.wait()
        except TimeoutError:
            raise WorkersFailed(f"{self.ready} of {self._count} media workers came up") from None
        self._keep_one_more()

    def _keep_one_more(self) -> None:
        self._keepers.append(self._spawn(self._keep(), f"media worker {len(self._keepers) + 1}"))

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
        self._closing.set()
        for worker in tuple(self._alive):
            worker.link.hang_up()
        if self._keepers:
            _, late = await asyncio.wait(self._keepers, timeout=self.CLOSE_S)
            for worker in tuple(self._alive):
                log.warning("media worker did not leave in time", extra={"pid": worker.link.pid})
                worker.link.kill()
            if late:
                await asyncio.wait(late)

    # --- calls ---

    def _least_loaded(self) -> _Worker:
        if not self._active:
            raise MediaGone("no media worker is up")
        return min(self._active, key=lambda worker: worker.load)

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

    async def _keep(self) -> None:
        """One place: a worker after another until media closes."""
        short_lives = 0
        while not self._closing.is_set():
            beats = await self._live()
            short_lives = 0 if beats >= self.QUIET_BEATS else short_lives + 1
            await self._rest(self.BACK_OFF_S[min(short_lives, len(self.BACK_OFF_S)) - 1] if short_lives else 0.0)

    async def _rest(self, seconds: float) -> None:
        if self._closing.is_set():
            return
        pausing = asyncio.ensure_future(self._pause(seconds))
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait((pausing, closing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            pausing.cancel()
            closing.cancel()

    async def _live(self) -> int:
        """One worker from its launch to its end; the beats it was ready for."""
        self._epoch += 1
        worker = _Worker(self._epoch, self._noticed)
        try:
            worker.link = await self._launch(worker.epoch, worker.client.receive)
        except OSError as error:
            log.error("media worker could not be started", extra={"error": str(error)})
            return 0
        self._alive.add(worker)
        ended = asyncio.ensure_future(worker.link.ended())
        try:
            if self._closing.is_set():
                worker.link.hang_up()
            await self._attend(worker, ended)
            self._bury(worker, await asyncio.shield(ended))
        finally:
            worker.link.kill()
            await ended
            self._alive.discard(worker)
        return worker.beats

    async def _attend(self, worker: _Worker, ended: asyncio.Future[int]) -> None:
        """Wait until it answers, let it take calls, and kill it should it fall silent."""
        answer = asyncio.ensure_future(worker.client.request(Ping(), self.START_S))
        try:
            await asyncio.wait((answer, ended), return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                return
            if answer.exception() is not None:
                log.error("media worker does not answer", extra={"pid": worker.link.pid})
                worker.link.kill()
                return
        finally:
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)
        self._ready.append(worker)
        if len(self._ready) >= self._count:
            self._enough.set()
        log.info("media worker is ready", extra={"pid": worker.link.pid, "worker": worker.epoch})
        await self._watch(worker, ended)

    async def _watch(self, worker: _Worker, ended: asyncio.Future[int]) -> None:
        quiet = 0
        while True:
            worker.heard = False
            await asyncio.wait((ended,), timeout=self._beat_s)
            if ended.done():
                return
            worker.beats += 1
            quiet = 0 if worker.heard else quiet + 1
            if quiet == self.QUIET_BEATS and not self._closing.is_set():
                log.error("media worker hangs", extra={"pid": worker.link.pid, "worker": worker.epoch})
                worker.link.kill()

    def _bury(self, worker: _Worker, status: int) -> None:
        """It is gone: no call goes there any more, and those that were there are."""
        was_ready = worker in self._ready
        if was_ready:
            self._ready.remove(worker)
        lost = tuple(worker.calls)
        for call in lost:
            self._forget(call, worker)
        if not self._closing.is_set():
            self._counters.add("media_workers_died", status=str(status))
            # A stop signal sent to every process finds one that is starting without its ears shut: no matter.
            log.log(
                logging.ERROR if was_ready else logging.WARNING,
                "media worker died" if was_ready else "media worker did not come up",
                extra={"pid": worker.link.pid, "worker": worker.epoch, "status": status, "calls": len(lost)},
            )
            self._on_lost(lost)
        worker.client.gone(f"the media worker ended with status {status}")

    def _noticed(self, worker: _Worker, body: NoticeBody) -> None:
        worker.heard = True
        if isinstance(body, Statistics):
            worker.tick_late_p99_ms = body.tick_late_p99_ms
            known = [one.tick_late_p99_ms for one in self._active if one.tick_late_p99_ms is not None]
            body = msgspec.structs.replace(body, tick_late_p99_ms=max(known, default=None))
        self._on_notice(body)


# --- processes --------------------------------------------------------------------------------


class WorkerProcess:
    """A :class:`Link` to a child of this process."""

    LAST_WORDS_S: Final = 1.0
    """From the pipe's end to the process's, at most; for one that was not told to leave."""

    def __init__(self, process: Process, pipe: Pipe, lost: asyncio.Event) -> None:
        self._process = process
        self._pipe = pipe
        self._lost = lost
        self._told = False

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, data: bytes) -> None:
        self._pipe.send(data)

    def hang_up(self) -> None:
        self._told = True
        self._pipe.close()

    def kill(self) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def ended(self) -> int:
        exited = asyncio.ensure_future(self._process.wait())
        lost = asyncio.ensure_future(self._lost.wait())
        try:
            await asyncio.wait((exited, lost), return_when=asyncio.FIRST_COMPLETED)
            if not exited.done() and not self._told:
                await asyncio.wait((exited,), timeout=self.LAST_WORDS_S)
                self.kill()
            return await exited
        finally:
            lost.cancel()
            exited.cancel()
            self._pipe.abort("the worker ended")
            await self._pipe.closed()


def launcher(settings: ServiceSettings) -> Launch:
    """Workers as ``settings`` say, each a process that sees the modules this one sees."""

    async def launch(epoch: int, deliver: Callable[[bytes], None]) -> Link:
        ours, theirs = pair()
        with theirs:
            try:
                process = await _start(theirs.fileno(), replace(settings, epoch=epoch))
            except BaseException:
                ours.close()
                raise
        lost = asyncio.Event()
        pipe = Pipe(deliver, lambda reason: lost.set())
        await pipe.open(ours)
        return WorkerProcess(process, pipe, lost)

    return launch


async def _start(descriptor: int, settings: ServiceSettings) -> Process:
    level = logging.getLevelName(logging.getLogger().getEffectiveLevel()).lower()
    # -P: what lies in the working directory must not pass for our modules. The path is this process's own.
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "control.media_process"),
        *arguments(descriptor, settings, level),
        stdin=DEVNULL,
        stdout=DEVNULL,
        pass_fds=(descriptor,),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(entry or os.curdir for entry in sys.path)},
    )
