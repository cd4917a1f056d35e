"""A call for an agent in memory, and sockets for a session, without any process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from media.hosting import wire
from media.hosting.session import Find, Session
from media.hosting.wire import Kind
from media.messages import AgentSpec
from media.pipe import Pipe, pair
from media.python_agent import AgentFunction, Call
from media.tasks import Tasks
from tests.media.agents.fakes import CONTEXT

RATE_HZ = 16000
FRAME = b"\x01\x02" * (RATE_HZ // 50)
SPEC = AgentSpec(protocol="python", name="pkg:agent", parameters={"mood": "calm"})


class FakeLine:
    """Keeps what a call sends."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.full: asyncio.Event | None = None

    def send(self, frame: bytes) -> None:
        self.sent.append(frame)

    async def drained(self) -> None:
        if self.full is not None:
            await self.full.wait()

    def kinds(self) -> list[Kind]:
        return [Kind(frame[0]) for frame in self.sent]

    def played(self) -> bytes:
        return b"".join(frame[1:] for frame in self.sent if frame[0] == Kind.PLAY)


class FakeCall(Call):
    """A call by hand: ``hear`` and its like are what media would send."""

    def __init__(self, spec: AgentSpec = SPEC, rate_hz: int = RATE_HZ) -> None:
        self.line = FakeLine()
        super().__init__(self.line, wire.Open(agent=spec, context=CONTEXT), rate_hz)

    def hear(self, pcm: bytes = FRAME, at_ms: int = 0, queued_ms: int = 0, taken: int | None = None) -> None:
        """20 ms of the caller; unless told otherwise media has taken all that was sent."""
        taken = len(self.line.played()) if taken is None else taken
        self._receive(wire.audio(at_ms, queued_ms, taken, pcm))

    def establish(self) -> None:
        self._receive(wire.encode(Kind.ESTABLISHED))

    def press(self, digit: str) -> None:
        self._receive(wire.encode(Kind.DIGIT, wire.Digit(digit, 100)))

    def tell(self, event: str, **data: Any) -> None:
        self._receive(wire.encode(Kind.TELL, wire.Tell(event, data)))

    def reach(self, number: int, *, heard: bool = True) -> None:
        self._receive(wire.numbered(Kind.REACHED if heard else Kind.CLEARED, number))

    def finish(self) -> None:
        self._end()


class Media:
    """Media's end of a session's connection."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[bytes] = asyncio.Queue()
        self.lost = asyncio.Event()
        self.pipe = Pipe(self.frames.put_nowait, lambda reason: self.lost.set())

    def open(self, spec: AgentSpec = SPEC, **changes: Any) -> None:
        self.pipe.send(wire.encode(Kind.OPEN, wire.Open(agent=spec, context=CONTEXT, **changes)))

    async def next(self) -> bytes:
        async with asyncio.timeout(2.0):
            return await self.frames.get()


def finding(agent: AgentFunction) -> Find:
    """Finds this one, whatever is asked for."""
    return lambda spec: (agent, True)


@asynccontextmanager
async def session(
    find: Find, done: Callable[[Session], None] = lambda session: None, grace_s: float = 5.0
) -> AsyncIterator[Media]:
    """A session that has taken over a connection; at the end nothing of it is left."""
    ours, theirs = pair()
    media, tasks = Media(), Tasks()
    it = Session(find, tasks, done, grace_s=grace_s)
    await media.pipe.open(ours)
    await it.open(theirs)
    try:
        yield media
    finally:
        media.pipe.close()
        await media.pipe.closed()
        await it._pipe.closed()
        await tasks.close()
