"""The control API's process: serves requests on the socket it was given, over the pipe to the one that carries calls.

It lives as long as its pipe, or until it is told to finish. What comes of a request is its own business but for what
:mod:`control.carrying` names.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from contextlib import AsyncExitStack
from typing import Final

from control.apart.asking import Asker, remote
from control.apart.messages import (
    Answer,
    Beat,
    Begin,
    Finish,
    Refused,
    Serving,
    WordBody,
    decode_from_calls,
)
from control.apart.settings import unpacked
from control.api.composition import compose
from control.api.server import ApiServer
from control.entropy import entropy, monotonic_clock, wall_clock
from control.metrics import Metrics
from control.recording_files import RecordingFiles
from control.registry.sqlite import SqliteRegistry
from control.supervisor import OnFailure, Supervisor
from control.vault import vault_of
from edge.counters import Counters
from media.messages import ProtocolError
from media.pipe import Pipe, PipeFull, adopt

__all__ = ["Api", "run"]

log = logging.getLogger("truedy.api")


class Api:
    """One life. Next: ``await serve(...)``."""

    BEAT_S: Final = 1.0

    NICE: Final = 5
    """A third of a core to signalling's one: requests wait for calls, not calls for requests."""

    def __init__(self) -> None:
        self._pipe = Pipe(self._receive, self._lost)
        self._asker = Asker(self._pipe.send)
        self._begin: asyncio.Future[Begin | None] = asyncio.get_running_loop().create_future()
        self._over = asyncio.Event()
        self._failed = False

    async def serve(self, descriptor: int, listener: socket.socket) -> int:
        """Until the pipe ends or :class:`Finish` comes; the exit status."""
        await self._pipe.open(adopt(descriptor))
        try:
            begin = await self._begin
            if begin is not None:
                await self._serve(begin, listener)
        finally:
            listener.close()
            self._pipe.close()
            await self._pipe.closed()
        return 1 if self._failed else 0

    async def _serve(self, begin: Begin, listener: socket.socket) -> None:
        settings = unpacked(begin.settings)
        vault = vault_of(settings.secrets, entropy=entropy)
        async with Supervisor() as tasks, AsyncExitStack() as stack:
            registry = SqliteRegistry.open(settings.registry.path, vault)
            stack.push_async_callback(registry.close)
            counters = Counters()
            files = RecordingFiles(settings.recording.path.absolute(), vault)
            carrying = remote(self._asker, files, self._tell)
            app = compose(
                settings,
                registry,
                carrying,
                counters=counters,
                metrics=Metrics([counters.snapshot], elsewhere=carrying.health.readings, pid=os.getppid()),
                listening=lambda: begin.listening,
                now=monotonic_clock,
                wall=wall_clock,
                entropy=entropy,
            )
            server = ApiServer(app, listener)
            await server.start()
            serving = tasks.spawn(server.run(), "requests", on_failure=OnFailure.STOP)
            self._tell(Serving())
            os.nice(self.NICE)  # from here on: the start is waited for
            await self._until_over(tasks)
            await server.close()
            await asyncio.wait((serving,))
            self._failed |= tasks.fatal is not None

    async def _until_over(self, tasks: Supervisor) -> None:
        while not self._over.is_set() and not tasks.stopping.is_set():
            self._tell(Beat())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.BEAT_S):
                    await self._over.wait()

    # --- the pipe ---

    def _receive(self, data: bytes) -> None:
        try:
            message = decode_from_calls(data)
        except ProtocolError as error:
            self._fail("a message that cannot be read: " + str(error))
            return
        match message:
            case Answer() | Refused():
                self._asker.receive(message)
            case Begin():
                if not self._begin.done():
                    self._begin.set_result(message)
            case Finish():
                self._end()

    def _tell(self, body: WordBody) -> None:
        """What does not get through would be missed: better another process, which brings about what it takes."""
        try:
            self._asker.tell(body)
        except PipeFull:
            self._fail("the process that carries calls does not read")

    def _fail(self, reason: str) -> None:
        self._failed = True
        log.error("the control API ends", extra={"reason": reason})
        self._pipe.abort(reason)

    def _lost(self, reason: str | None) -> None:
        self._asker.gone()
        self._end()

    def _end(self) -> None:
        self._over.set()
        if not self._begin.done():
            self._begin.set_result(None)


async def run(descriptor: int, listener: int) -> int:
    """The life of a process that does nothing else; returns its exit status.

    ``descriptor`` is its end of the pipe, ``listener`` the listening socket's. Signals that every process of the edge
    gets are for the one that carries calls.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    return await Api().serve(descriptor, socket.socket(fileno=listener))
