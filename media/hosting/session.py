"""One call in a host: its connection to media, and the task that is its agent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

import msgspec

from media.agents.base import BadAgent
from media.convert import rate_hz
from media.hosting import wire
from media.hosting.doorway import End
from media.hosting.loading import AgentBroken, AgentNotListed
from media.hosting.rates import encoding_of
from media.hosting.wire import Kind
from media.messages import AgentSpec
from media.pipe import Pipe
from media.python_agent import AgentFunction, Call, CallEnded
from media.tasks import Tasks

__all__ = ["CALL", "Find", "Lost", "Session", "Unreached"]

log = logging.getLogger("truedy.agents")

CALL: ContextVar[str | None] = ContextVar("call", default=None)
"""The id of the call whose agent this is, in its task and in those it begins."""


class Unreached(Exception):
    """An agent elsewhere that is not reached; ``cause`` as in :class:`media.messages.AgentFailed`."""

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


class Lost(Exception):
    """An agent elsewhere that was reached and is gone; the text says how."""


Find = Callable[[AgentSpec], tuple[AgentFunction, bool]]
"""The agent of a specification, and whether it knows of the call as soon as it runs.

Raises :class:`~media.hosting.loading.AgentNotListed` or :class:`~media.hosting.loading.AgentBroken`.
"""


class Session:
    """A connection that was taken over: the call's facts come first, then the agent runs. Next: :meth:`open`.

    Whatever the agent raises ends its call and nothing else. ``done`` hears when no more is left of it.
    """

    GRACE_S: Final = 5.0
    """How long an agent may go on after its call [s], to write its notes; then it is cancelled."""

    def __init__(self, find: Find, tasks: Tasks, done: Callable[[Session], None], *, grace_s: float = GRACE_S) -> None:
        self._find = find
        self._tasks = tasks
        self._done = done
        self._grace_s = grace_s
        self._pipe = Pipe(self._receive, self._lost, frame_limit_bytes=wire.FRAME_LIMIT_BYTES)
        self._call: Call | None = None
        self._task: asyncio.Task[None] | None = None
        self._name = ""

    async def open(self, end: End) -> None:
        """Take the connection."""
        await self._pipe.open(end)

    def close(self, grace_s: float) -> None:
        """The host leaves: the call ends as if media had ended it."""
        self._grace_s = grace_s
        self._pipe.close()

    # --- the call's line ------------------------------------------------------------------------

    def send(self, frame: bytes) -> None:
        """See :class:`media.python_agent.Line`."""
        self._pipe.send(frame)

    async def drained(self) -> None:
        """See :class:`media.python_agent.Line`."""
        await self._pipe.drained()

    # --- the connection -------------------------------------------------------------------------

    def _receive(self, frame: bytes) -> None:
        try:
            if self._call is None:
                self._begin(frame)
            else:
                self._call._receive(frame)
        except wire.BadFrame as error:
            log.error("media sent what cannot be read", extra={"error": str(error)})
            self._pipe.abort("unreadable")

    def _begin(self, frame: bytes) -> None:
        if frame[:1] != bytes((Kind.OPEN,)):
            raise wire.BadFrame("the call's facts come first")
        opened = wire.decode(frame, wire.Open)
        if opened.version != wire.VERSION:
            raise wire.BadFrame(f"version {opened.version}, expected {wire.VERSION}")
        spec = opened.agent
        try:
            agent, knows = self._find(spec)
        except (AgentNotListed, AgentBroken, BadAgent) as error:
            self._finish(Kind.FAILED, wire.Failed("error" if isinstance(error, AgentBroken) else "refused", str(error)))
            return
        self._name = spec.name or spec.protocol
        self._call = Call(self, opened, rate_hz(encoding_of(spec)))
        self._task = self._tasks.spawn(self._run(agent, self._call, knows), f"agent {self._call.id}")
        self._task.add_done_callback(lambda task: self._done(self))

    def _lost(self, reason: str | None) -> None:
        """The call is over, or media is gone: the same to the agent."""
        if self._call is None or self._task is None or self._task.done():
            self._done(self)
            return
        self._call._end()
        asyncio.get_running_loop().call_later(self._grace_s, self._insist, self._task)

    def _insist(self, task: asyncio.Task[None]) -> None:
        if not task.done():
            task.cancel()
            asyncio.get_running_loop().call_later(self.GRACE_S, self._despair, task)

    def _despair(self, task: asyncio.Task[None]) -> None:
        if not task.done():
            log.warning("an agent goes on after its call", extra={"agent": self._name})

    # --- the agent ------------------------------------------------------------------------------

    async def _run(self, agent: AgentFunction, call: Call, knows: bool) -> None:
        CALL.set(call.id)
        try:
            if knows:
                call.started()
            await agent(call)
        except CallEnded:
            pass
        except Unreached as error:
            self._finish(Kind.FAILED, wire.Failed(error.cause, str(error)))
            return
        except Lost as error:
            self._finish(Kind.ENDED, wire.Ended("lost", str(error)))
            return
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            log.error("agent failed", extra={"agent": self._name}, exc_info=error)
            self._finish(Kind.ENDED, wire.Ended("lost", f"the agent raised {type(error).__name__}"))
            return
        self._finish(Kind.ENDED, wire.Ended("closed", ""))

    def _finish(self, kind: Kind, body: msgspec.Struct) -> None:
        """The last word; to a call that is over it is not said."""
        self._pipe.send(wire.encode(kind, body))
        self._pipe.close()
