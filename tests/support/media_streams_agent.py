"""An agent that speaks Twilio Media Streams, on the ``websockets`` library: it hears, speaks and remembers.

What it keeps shows the order that every such agent relies on: ``connected``, then ``start``, then anything else.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import websockets
from websockets.asyncio.server import ServerConnection, serve

from tests.support.audio import Samples, decode_ulaw, encode_ulaw, heard_s, loudest_hz, tone

__all__ = ["AGENT_HZ", "AgentCall", "MediaStreamsAgent", "greet", "greet_and_leave"]

AGENT_HZ = 440


class AgentCall:
    """One WebSocket of the edge. ``messages`` is all it has sent."""

    def __init__(self, socket: ServerConnection) -> None:
        self.messages: list[dict[str, Any]] = []
        self.ended = asyncio.Event()
        self._socket = socket
        self._grew = asyncio.Condition()

    async def read(self) -> None:
        """Until the edge closes."""
        try:
            async for text in self._socket:
                message = json.loads(text)
                self.messages.append(message)
                async with self._grew:
                    self._grew.notify_all()
        except websockets.ConnectionClosedError:
            pass
        finally:
            self.ended.set()
            async with self._grew:
                self._grew.notify_all()

    def all(self, event: str) -> list[dict[str, Any]]:
        """The messages of one kind so far."""
        return [message for message in self.messages if message["event"] == event]

    async def expect(self, event: str, count: int = 1, timeout_s: float = 10.0) -> dict[str, Any]:
        """The ``count``-th message of a kind."""
        await self.wait_until(lambda: len(self.all(event)) >= count, f"{count} {event!r}", timeout_s)
        return self.all(event)[count - 1]

    async def wait_until(self, condition: Callable[[], bool], what: str, timeout_s: float = 10.0) -> None:
        """Judge anew with every message; AssertionError says what came instead."""
        try:
            async with asyncio.timeout(timeout_s), self._grew:
                while not condition():
                    if self.ended.is_set():
                        raise AssertionError(f"the edge closed before {what} came; {self.summary()}")
                    await self._grew.wait()
        except TimeoutError:
            raise AssertionError(f"{what} did not come within {timeout_s} s; {self.summary()}") from None

    def summary(self) -> str:
        """What came, in a line."""
        kinds = [message["event"] for message in self.messages]
        counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
        return f"{counts or 'no messages'}; loudest at {loudest_hz(self.heard()):.0f} Hz; digits {self.digits()!r}"

    async def expect_tone(self, hz: float, seconds: float = 0.5, timeout_s: float = 10.0) -> None:
        """Until a tone has been heard for so long in all."""
        await self.wait_until(lambda: heard_s(self.heard(), hz) >= seconds, f"{seconds} s of {hz} Hz", timeout_s)

    @property
    def start(self) -> dict[str, Any]:
        """The ``start`` message's own part."""
        value: dict[str, Any] = self.all("start")[0]["start"]
        return value

    def heard(self) -> Samples:
        """All audio so far."""
        payloads = [base64.b64decode(message["media"]["payload"]) for message in self.all("media")]
        return decode_ulaw(b"".join(payloads)) if payloads else np.zeros(0, dtype=np.int16)

    def digits(self) -> str:
        """All digits so far."""
        return "".join(message["dtmf"]["digit"] for message in self.all("dtmf"))

    async def send(self, event: str, **fields: object) -> None:
        """A message of any kind."""
        await self._socket.send(json.dumps({"event": event, "streamSid": self.start["streamSid"], **fields}))

    async def say(self, samples: Samples, piece: int = 1000) -> None:
        """Far faster than it plays, in pieces that are no multiple of 20 ms, as agents do."""
        data = encode_ulaw(samples)
        for at in range(0, len(data), piece):
            payload = base64.b64encode(data[at : at + piece]).decode()
            await self.send("media", media={"payload": payload})

    async def mark(self, name: str) -> None:
        """Comes back when playout has reached it."""
        await self.send("mark", mark={"name": name})

    async def clear(self) -> None:
        """Stop playing at once."""
        await self.send("clear")

    async def hang_up(self) -> None:
        """Close the WebSocket."""
        await self._socket.close()

    def abort(self) -> None:
        """Cut the connection, as a process that dies."""
        self._socket.transport.abort()


GREETING_S = 1.2
"""A phone may miss some of it: before its audio runs, and what waits in its jitter buffer when it hangs up."""


async def greet(call: AgentCall) -> None:
    """A tone, and a mark that comes back when it has been played."""
    await call.say(tone(AGENT_HZ, GREETING_S))
    await call.mark("greeted")


async def greet_and_leave(call: AgentCall) -> None:
    """A tone, then the connection closes: what was said is still played."""
    await call.say(tone(AGENT_HZ, GREETING_S))
    await call.hang_up()


Behaviour = Callable[[AgentCall], Awaitable[None]]


class MediaStreamsAgent:
    """Open with :meth:`open`. ``behaviour`` runs for each call once ``start`` has come."""

    def __init__(self, behaviour: Behaviour | None) -> None:
        self.calls: list[AgentCall] = []
        self.url = ""
        self._behaviour = behaviour
        self._came = asyncio.Condition()
        self._failures: list[BaseException] = []

    @classmethod
    @asynccontextmanager
    async def open(cls, behaviour: Behaviour | None = None) -> AsyncIterator[MediaStreamsAgent]:
        """On a fresh port; an error of the behaviour is raised at the end."""
        agent = cls(behaviour)
        async with serve(agent._serve, "127.0.0.1", 0, ping_interval=None, close_timeout=2) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            agent.url = f"ws://127.0.0.1:{port}/agent"
            yield agent
        if agent._failures:
            raise agent._failures[0]

    async def _serve(self, socket: ServerConnection) -> None:
        call = AgentCall(socket)
        self.calls.append(call)
        async with self._came:
            self._came.notify_all()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(call.read(), name="agent hears")
            if self._behaviour is not None:
                tasks.create_task(self._behave(call, self._behaviour), name="agent acts")

    async def _behave(self, call: AgentCall, behaviour: Behaviour) -> None:
        try:
            await call.expect("start")
            await behaviour(call)
        except websockets.ConnectionClosed:
            pass
        except (AssertionError, LookupError) as error:
            self._failures.append(error)

    async def expect_call(self, number: int = 1, timeout_s: float = 10.0) -> AgentCall:
        """The ``number``-th call, once its ``start`` has come."""
        try:
            async with asyncio.timeout(timeout_s), self._came:
                await self._came.wait_for(lambda: len(self.calls) >= number)
        except TimeoutError:
            raise AssertionError(f"call {number} did not reach the agent within {timeout_s} s") from None
        call = self.calls[number - 1]
        await call.expect("start")
        return call
