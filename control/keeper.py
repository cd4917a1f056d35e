"""Processes that are kept up: so many in places, one more warm, each replaced when it dies or hangs.

:class:`Keeper` knows nothing of what they do. Media workers (:mod:`control.workers`), the hosts of Python agents
(:mod:`control.hosts`) and the control API (:mod:`control.apart`) are kept by it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

from edge.counters import Counters
from media.pipe import Pipe, pair

__all__ = ["ChildProcess", "Keeper", "Launch", "Life", "Link", "NotUp", "Spawn", "start_child"]

log = logging.getLogger("truedy.keeper")


class NotUp(Exception):
    """Not enough of the processes came up; the log has each one's end."""


class Link(Protocol):
    """One process and the pipe to it."""

    @property
    def pid(self) -> int: ...

    def send(self, data: bytes) -> None:
        """Raises :class:`media.pipe.PipeFull`; to a process that is gone, nothing happens."""

    def hang_up(self) -> None:
        """Close the pipe, which tells the process to end its calls and leave."""

    def kill(self) -> None:
        """End it now. Once more, or late, does nothing."""

    async def ended(self) -> int:
        """Until the process is gone and nothing of it is left open; its status, a signal's number negated."""


Launch = Callable[[int, Callable[[bytes], None]], Awaitable[Link]]
"""Starts the process of an epoch, whose messages go to the function. Raises OSError."""


class Spawn(Protocol):
    """:meth:`control.supervisor.Supervisor.spawn`."""

    def __call__(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]: ...


class Life(Protocol):
    """One process from its launch to its end. ``heard``: a sign of life since the last beat; ``beats`` it was ready."""

    epoch: int
    heard: bool
    beats: int

    @property
    def link(self) -> Link:
        """To its process."""

    @property
    def load(self) -> int:
        """Calls it carries."""

    async def answered(self) -> None:
        """Until it is ready for calls; raises when it will not be."""


L = TypeVar("L", bound=Life)


class Keeper(Generic[L]):
    """``count`` places, each with a life after another.

    ``launch`` begins a life (OSError: it did not); ``up`` hears when it is ready, ``gone`` of its end and status.
    ``kind`` is what log lines call one, and ``counter`` the name its deaths are counted under.
    Next: :meth:`start`, and :meth:`add_place` for a spare; :meth:`close` whether or not that succeeded.
    """

    START_S: Final = 20.0
    """One that does not answer in this time after its launch is killed."""

    CLOSE_S: Final = 8.0
    """One that is told to leave and has not after this is killed."""

    QUIET_BEATS: Final = 10
    """Each gives a sign of life every beat: one silent for so many hangs, and is killed."""

    BACK_OFF_S: Final = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
    """Before the next launch in a place whose last ones, so many in a row, did not live for ``QUIET_BEATS``."""

    def __init__(
        self,
        kind: str,
        count: int,
        launch: Callable[[int], Awaitable[L]],
        *,
        gone: Callable[[L, int], None],
        spawn: Spawn,
        counters: Counters,
        counter: str,
        up: Callable[[L], None] = lambda life: None,
        beat_s: float = 1.0,
        start_s: float | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._kind = kind
        self._count = count
        self._launch = launch
        self._up = up
        self._gone = gone
        self._spawn = spawn
        self._counters = counters
        self._counter = counter
        self._beat_s = beat_s
        self._start_s = self.START_S if start_s is None else start_s
        self._pause = pause
        self._epoch = 0
        self._places: list[asyncio.Task[None]] = []
        self._alive: set[L] = set()
        self._enough = asyncio.Event()
        self._closing = asyncio.Event()
        self.ready: list[L] = []

    @property
    def active(self) -> Sequence[L]:
        """Those that take calls, the oldest: when one of them dies, the spare moves up by itself."""
        return self.ready[: self._count]

    @property
    def closing(self) -> bool:
        """Deaths are no losses any more."""
        return self._closing.is_set()

    async def launch(self) -> None:
        """Have the processes started, and come back while they get ready."""
        for _ in range(self._count):
            self.add_place()
        await asyncio.sleep(0)

    async def start(self) -> None:
        """Until ``count`` are ready; launches them if nobody has. Raises :class:`NotUp`."""
        if not self._places:
            await self.launch()
        try:
            async with asyncio.timeout(self._start_s):
                await self._enough.wait()
        except TimeoutError:
            raise NotUp(f"{len(self.ready)} of {self._count} {self._kind}s came up") from None

    def add_place(self) -> None:
        """One more is kept: beyond ``count``, a spare."""
        self._places.append(self._spawn(self._keep(), f"{self._kind} {len(self._places) + 1}"))

    async def close(self) -> None:
        """They leave by themselves, or are killed."""
        self._closing.set()
        for life in tuple(self._alive):
            life.link.hang_up()
        if self._places:
            _, late = await asyncio.wait(self._places, timeout=self.CLOSE_S)
            for life in tuple(self._alive):
                log.warning("%s did not leave in time", self._kind, extra={"pid": life.link.pid})
                life.link.kill()
            if late:
                await asyncio.wait(late)

    # --- a place ---

    async def _keep(self) -> None:
        """One life after another until all is closed."""
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
        """One life from its launch to its end; the beats it was ready for."""
        self._epoch += 1
        try:
            life = await self._launch(self._epoch)
        except OSError as error:
            log.error("%s could not be started", self._kind, extra={"error": str(error)})
            return 0
        self._alive.add(life)
        ended = asyncio.ensure_future(life.link.ended())
        try:
            if self._closing.is_set():
                life.link.hang_up()
            await self._attend(life, ended)
            self._bury(life, await asyncio.shield(ended))
        finally:
            life.link.kill()
            await ended
            self._alive.discard(life)
        return life.beats

    async def _attend(self, life: L, ended: asyncio.Future[int]) -> None:
        """Wait until it answers, let it take calls, and kill it should it fall silent."""
        answer = asyncio.ensure_future(asyncio.wait_for(life.answered(), self._start_s))
        try:
            await asyncio.wait((answer, ended), return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                return
            if answer.exception() is not None:
                log.error("%s does not answer", self._kind, extra={"pid": life.link.pid})
                life.link.kill()
                return
        finally:
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)
        self.ready.append(life)
        if len(self.ready) >= self._count:
            self._enough.set()
        log.info("%s is ready", self._kind, extra={"pid": life.link.pid, "worker": life.epoch})
        self._up(life)
        await self._watch(life, ended)

    async def _watch(self, life: L, ended: asyncio.Future[int]) -> None:
        quiet = 0
        while True:
            life.heard = False
            await asyncio.wait((ended,), timeout=self._beat_s)
            if ended.done():
                return
            life.beats += 1
            quiet = 0 if life.heard else quiet + 1
            if quiet == self.QUIET_BEATS and not self._closing.is_set():
                log.error("%s hangs", self._kind, extra={"pid": life.link.pid, "worker": life.epoch})
                life.link.kill()

    def _bury(self, life: L, status: int) -> None:
        was_ready = life in self.ready
        if was_ready:
            self.ready.remove(life)
        if not self._closing.is_set():
            self._counters.add(self._counter, status=str(status))
            # A stop signal sent to every process finds one that is starting without its ears shut: no matter.
            log.log(
                logging.ERROR if was_ready else logging.WARNING,
                f"{self._kind} died" if was_ready else f"{self._kind} did not come up",
                extra={"pid": life.link.pid, "worker": life.epoch, "status": status, "calls": life.load},
            )
        self._gone(life, status)


# --- processes --------------------------------------------------------------------------------


class ChildProcess:
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
            self._pipe.abort("the process ended")
            await self._pipe.closed()


async def start_child(
    module: str,
    arguments: Callable[[int, str], Sequence[str]],
    deliver: Callable[[bytes], None],
    descriptors: Sequence[int] = (),
) -> ChildProcess:
    """``python -m module`` with a pipe to it, and with the modules that this process sees.

    ``arguments`` is given the pipe's descriptor there and this process's log level; ``descriptors`` are inherited too.
    """
    ours, theirs = pair()
    level = logging.getLevelName(logging.getLogger().getEffectiveLevel()).lower()
    with theirs:
        try:
            # -P: what lies in the working directory must not pass for our modules. The path is this process's own.
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", module, *arguments(theirs.fileno(), level)),
                stdin=DEVNULL,
                stdout=DEVNULL,
                pass_fds=(theirs.fileno(), *descriptors),
                env={**os.environ, "PYTHONPATH": os.pathsep.join(entry or os.curdir for entry in sys.path)},
            )
        except BaseException:
            ours.close()
            raise
    lost = asyncio.Event()
    pipe = Pipe(deliver, lambda reason: lost.set())
    await pipe.open(ours)
    return ChildProcess(process, pipe, lost)
