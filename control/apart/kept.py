"""The control API's process as the one that carries calls keeps it: one, replaced when it dies or hangs.

The listening socket is opened here and outlives each of them: while there is none, connections wait in its backlog.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence

from config.settings import Settings
from control.apart.answering import Answerer
from control.apart.messages import Begin, Finish, encode
from control.apart.process import arguments
from control.apart.settings import packed
from control.carrying import Carrying
from control.costs import cost_series
from control.keeper import Keeper, Launch, Link, Spawn, start_child
from control.metrics import Readings
from edge.counters import Counters
from media.pipe import PipeFull

__all__ = ["ApiProcess", "launcher"]

log = logging.getLogger("truedy.api")


class _Life:
    """One process, from its launch to its end."""

    link: Link
    load = 0

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.heard = False
        self.beats = 0
        self._answerer: Answerer | None = None
        self._serving = asyncio.Event()

    def let_serve(self, begin: Begin, carrying: Carrying, spawn: Spawn) -> None:
        """It has loaded, or will find this when it has."""
        self._answerer = Answerer(carrying, self._send, spawn=spawn, serving=self._serving.set, broken=self.link.kill)
        self._send(encode(begin))

    def receive(self, data: bytes) -> None:
        """Whatever it says is a sign of life."""
        self.heard = True
        if self._answerer is not None:
            self._answerer.receive(data)

    async def answered(self) -> None:
        """Until it serves."""
        await self._serving.wait()

    def _send(self, data: bytes) -> None:
        """An answer that does not get through would be waited for without end: better another process."""
        try:
            self.link.send(data)
        except PipeFull as error:
            log.error("the control API does not read its answers", extra={"queued_bytes": error.queued})
            self.link.kill()


class _Finishing:
    """A :class:`Link` whose process is told to finish, and closes the pipe itself when it has."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.pid = link.pid
        self.send = link.send
        self.kill = link.kill
        self.ended = link.ended

    def hang_up(self) -> None:
        with contextlib.suppress(PipeFull):  # it does not read: it is killed when its time is over
            self._link.send(encode(Finish()))


class ApiProcess:
    """Kept up from :meth:`launch` to :meth:`close`; ``replaced`` hears when one has died, with what it had yet to tell.

    Next: :meth:`launch`; :meth:`start` when calls can be carried; :meth:`close` whether or not that succeeded.
    """

    def __init__(
        self,
        settings: Settings,
        launch: Launch,
        *,
        spawn: Spawn,
        counters: Counters,
        replaced: Callable[[], None],
        beat_s: float = 1.0,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._settings = packed(settings)
        self._launch = launch
        self._spawn = spawn
        self._replaced = replaced
        self._serve: Callable[[_Life], None] | None = None
        self._lives: set[_Life] = set()
        self._keeper: Keeper[_Life] = Keeper(
            "control API",
            1,
            self._begin,
            gone=self._gone,
            spawn=spawn,
            counters=counters,
            counter="api_processes_died",
            beat_s=beat_s,
            pause=pause,
        )

    @property
    def pids(self) -> tuple[int, ...]:
        """Of the process that serves, if one does."""
        return tuple(life.link.pid for life in self._keeper.active)

    def readings(self) -> Readings:
        """What it costs. The next one's CPU time begins anew, as that of a process that was restarted does."""
        memory, cpu = cost_series({(): self.pids[0]} if self.pids else {})
        return {"api_process_memory_bytes": memory, "api_process_cpu_seconds": cpu}

    async def launch(self) -> None:
        """Have it started, and come back while it loads."""
        await self._keeper.launch()

    async def start(self, carrying: Carrying, listening: Sequence[str]) -> None:
        """Until it serves; ``listening`` is what SIP listens on. Raises :class:`control.keeper.NotUp`."""
        begin = Begin(settings=self._settings, listening=tuple(listening))
        self._serve = lambda life: life.let_serve(begin, carrying, self._spawn)
        for life in self._lives:
            self._serve(life)
        await self._keeper.start()

    async def close(self) -> None:
        """It answers what it has been asked and leaves, or is killed."""
        await self._keeper.close()

    async def _begin(self, epoch: int) -> _Life:
        life = _Life(epoch)
        life.link = _Finishing(await self._launch(epoch, life.receive))
        self._lives.add(life)
        if self._serve is not None:
            self._serve(life)
        return life

    def _gone(self, life: _Life, status: int) -> None:
        self._lives.discard(life)
        if not self._keeper.closing:
            self._replaced()


def launcher(listener: int) -> Launch:
    """Processes that serve the listening socket of this descriptor."""

    async def launch(epoch: int, deliver: Callable[[bytes], None]) -> Link:
        return await start_child(
            "control.apart.process", lambda pipe, level: arguments(pipe, listener, level), deliver, (listener,)
        )

    return launch
