"""A process that runs agents: what :mod:`control.host_process` starts, and :mod:`control.hosts` keeps.

It takes over connections that are handed to it, one for each call, and tells its keeper every beat that its loop is
turning, and what it carries. Should the loop not turn, the interpreter itself writes down where.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import logging
import os
import signal
import ssl
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Final

import msgspec

from media.hosting import doorway
from media.hosting.doorway import End
from media.hosting.loading import AgentNotListed, Agents
from media.hosting.session import Session, Unreached
from media.hosting.settings import WEBRTC_MISSING, HostSettings
from media.hosting.wire import Load
from media.messages import AgentSpec
from media.pipe import Pipe, PipeFull, adopt
from media.python_agent import AgentFunction, Call
from media.targets import Targets
from media.tasks import Tasks

if TYPE_CHECKING:
    from media.hosting.webrtc import WebRtcAgent

__all__ = ["Host", "run"]

log = logging.getLogger("truedy.agents")


class Host:
    """All calls of this process; ``wall`` is UTC [s]. Next: ``await serve()``."""

    LEAVE_S: Final = 2.0
    """How long agents may go on when the host is to leave."""

    STUCK_BEATS: Final = 8.0
    """A loop that has not turned for so long has its place written down: the keeper kills it at 10."""

    def __init__(self, settings: HostSettings, *, wall: Callable[[], float]) -> None:
        self._settings = settings
        self._wall = wall
        self._targets = Targets(allow_private=settings.allow_private)
        self._agents = Agents(settings.agents)
        self._tasks = Tasks()
        self._pipe = Pipe(lambda data: None, self._lost)
        self._way: End | None = None
        self._sessions: set[Session] = set()
        self._taken = 0
        self._over = asyncio.Event()
        self._failed = False

    async def serve(self) -> int:
        """Until the keeper closes the pipe, or is gone; the exit status."""
        end, way = adopt(self._settings.pipe), adopt(self._settings.way)
        os.set_inheritable(self._settings.notes, False)
        faulthandler.enable(self._settings.notes)
        self._agents.load()
        await self._pipe.open(end)
        gc.collect()
        gc.freeze()
        self._way = way
        loop = asyncio.get_running_loop()
        loop.add_reader(way, self._take_over)
        beating = asyncio.ensure_future(self._beat())
        try:
            await self._over.wait()
        finally:
            beating.cancel()
            loop.remove_reader(way)
            way.close()
            await self._leave()
            faulthandler.cancel_dump_traceback_later()
        return 1 if self._failed else 0

    # --- calls ----------------------------------------------------------------------------------

    def _take_over(self) -> None:
        try:
            while self._way is not None and (end := doorway.take_over(self._way)) is not None:
                self._taken += 1
                session = Session(self._find, self._tasks, self._finished)
                self._sessions.add(session)
                self._tasks.spawn(session.open(end), "take over")
        except EOFError:
            self._over.set()
        self._tell()

    def _find(self, spec: AgentSpec) -> tuple[AgentFunction, bool]:
        if spec.protocol == "python":
            return self._agents.get(spec.name), True
        if spec.protocol == "webrtc":
            return self._webrtc(spec), False
        raise AgentNotListed(f"no agent of protocol {spec.protocol!r} runs here")

    def _webrtc(self, spec: AgentSpec) -> AgentFunction:
        """aiortc is imported with the first, beside the loop: most hosts never need it, and calls go on meanwhile."""

        async def agent(call: Call) -> None:
            try:
                made, context = await asyncio.to_thread(_load_webrtc)
            except ImportError as error:
                raise Unreached("error", f"{WEBRTC_MISSING} ({error})") from error
            await made(spec, targets=self._targets, context=context, wall=self._wall)(call)

        return agent

    def _finished(self, session: Session) -> None:
        if session in self._sessions:
            self._sessions.discard(session)
            self._tell()

    async def _leave(self) -> None:
        for session in tuple(self._sessions):
            session.close(self.LEAVE_S)
        await self._tasks.close(grace_s=self.LEAVE_S + 0.5)
        self._pipe.close()
        await self._pipe.closed()

    # --- the keeper -----------------------------------------------------------------------------

    async def _beat(self) -> None:
        while True:
            self._tell()
            os.ftruncate(self._settings.notes, 0)
            os.lseek(self._settings.notes, 0, os.SEEK_SET)
            faulthandler.dump_traceback_later(self._settings.beat_s * self.STUCK_BEATS, file=self._settings.notes)
            await asyncio.sleep(self._settings.beat_s)

    def _tell(self) -> None:
        try:
            self._pipe.send(msgspec.msgpack.encode(Load(calls=len(self._sessions), taken=self._taken)))
        except PipeFull:
            self._failed = True
            log.error("the keeper does not read: the host ends")
            self._over.set()

    def _lost(self, reason: str | None) -> None:
        if reason is not None:
            self._failed = True
            log.error("the pipe to the keeper broke", extra={"reason": reason})
        self._over.set()


@cache
def _load_webrtc() -> tuple[type[WebRtcAgent], ssl.SSLContext]:
    from media.hosting.webrtc import WebRtcAgent  # noqa: PLC0415 - an extra

    return WebRtcAgent, ssl.create_default_context()


async def run(settings: HostSettings, *, wall: Callable[[], float]) -> int:
    """The life of a process that does nothing else; returns its exit status.

    Signals to stop or to reload, which reach every process of the edge, are control's to act on.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    return await Host(settings, wall=wall).serve()
