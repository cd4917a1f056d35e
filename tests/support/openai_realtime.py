"""A fake of OpenAI: ``/models`` for a key to be tried, ``/realtime`` that follows the published events strictly.

What a client sends is judged by the types of OpenAI's own package and by the conversation it is part of: audio before
the session stands, two responses at once, an item truncated behind its end. Such are answered as the API does, with
``error``, and kept in :attr:`FakeSession.errors`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http
import json
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import websockets
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from tests.support.audio import Samples, decode_ulaw, encode_ulaw
from tests.support.openai_events import client_event

__all__ = ["FakeOpenAi", "FakeSession"]

_BYTES_PER_MS = 8


class FakeSession:
    """One conversation. ``events`` is all the client has sent."""

    def __init__(self, socket: ServerConnection, model: str) -> None:
        self.model = model
        self.events: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self.ended = asyncio.Event()
        self._socket = socket
        self._grew = asyncio.Condition()
        self._updated = False
        self._response = ""
        self._items: dict[str, int] = {}  # bytes of audio sent

    # --- what the client says ---

    async def serve(self) -> None:
        """Until the client closes."""
        await self.send("session.created", session={"type": "realtime", "model": self.model, "audio": {}})
        try:
            async for text in self._socket:
                event = client_event(text)
                self.events.append(event)
                await self._answer(event)
                async with self._grew:
                    self._grew.notify_all()
        except websockets.ConnectionClosedError:
            pass
        finally:
            self.ended.set()
            async with self._grew:
                self._grew.notify_all()

    async def _answer(self, event: dict[str, Any]) -> None:
        match event["type"]:
            case "session.update":
                self._updated = True
                await self.send("session.updated", session=event["session"])
            case "input_audio_buffer.append" if not self._updated:
                await self._refuse("audio before the session")
            case "response.create" if self._response:
                await self._refuse("conversation_already_has_active_response")
            case "conversation.item.truncate":
                length_ms = self._items.get(event["item_id"], -1) / _BYTES_PER_MS
                if event["audio_end_ms"] > length_ms:
                    await self._refuse(f"{event['item_id']} has {length_ms} ms, not {event['audio_end_ms']}")
                else:
                    await self.send("conversation.item.truncated", **{k: event[k] for k in event if k != "type"})
            case "conversation.item.create":
                await self.send("conversation.item.added", item=event["item"])

    async def _refuse(self, message: str) -> None:
        self.errors.append(message)
        await self.send("error", error={"type": "invalid_request_error", "message": message})

    def all(self, type: str) -> list[dict[str, Any]]:
        """The client's events of one type so far."""
        return [event for event in self.events if event["type"] == type]

    def heard(self) -> Samples:
        """All the caller's audio so far."""
        pieces = [base64.b64decode(event["audio"]) for event in self.all("input_audio_buffer.append")]
        return decode_ulaw(b"".join(pieces)) if pieces else np.zeros(0, dtype=np.int16)

    def texts(self) -> list[str]:
        """Of the items the client has put into the conversation."""
        items = (event["item"] for event in self.all("conversation.item.create"))
        return [part["text"] for item in items for part in item.get("content", [])]

    async def wait_until(self, condition: Callable[[], bool], what: str, timeout_s: float = 10.0) -> None:
        """Judge anew with every event."""
        try:
            async with asyncio.timeout(timeout_s), self._grew:
                while not condition():
                    assert not self.ended.is_set(), f"the edge closed before {what}; {self.errors}"
                    await self._grew.wait()
        except TimeoutError:
            kinds = [event["type"] for event in self.events]
            counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
            raise AssertionError(f"no {what} within {timeout_s} s; {counts}; {self.errors}") from None

    async def expect(self, type: str, count: int = 1) -> dict[str, Any]:
        """The ``count``-th event of a type."""
        await self.wait_until(lambda: len(self.all(type)) >= count, f"{count} {type}")
        return self.all(type)[count - 1]

    # --- what the model says ---

    async def send(self, type: str, **fields: Any) -> None:
        """Any event."""
        await self._socket.send(json.dumps({"type": type, "event_id": f"event_{len(self.events)}", **fields}))

    async def speak(self, samples: Samples, item: str, response: str) -> None:
        """A whole response, far faster than it is heard."""
        await self.begin(response)
        audio = encode_ulaw(samples)
        for at in range(0, len(audio), 3000):
            piece = audio[at : at + 3000]
            self._items[item] = self._items.get(item, 0) + len(piece)
            delta = base64.b64encode(piece).decode()
            place = {"response_id": response, "item_id": item, "output_index": 0, "content_index": 0}
            await self.send("response.output_audio.delta", delta=delta, **place)
            await self.send("response.output_audio_transcript.delta", delta="la ", **place)

    async def begin(self, response: str) -> None:
        self._response = response
        await self.send("response.created", response={"id": response, "object": "realtime.response"})

    async def end(self, response: str, status: str = "completed", **details: Any) -> None:
        self._response = ""
        await self.send("response.done", response={"id": response, "status": status, **details})

    async def call_function(self, name: str, arguments: dict[str, Any], call_id: str, response: str) -> None:
        """The model calls one."""
        item = {"type": "function_call", "call_id": call_id, "name": name, "arguments": json.dumps(arguments)}
        await self.send("response.output_item.done", response_id=response, output_index=0, item=item)

    async def hear_speech(self) -> None:
        """The server's own ears say that the caller speaks."""
        await self.send("input_audio_buffer.speech_started", audio_start_ms=0, item_id="item_user")

    async def close(self, code: int = 1000) -> None:
        await self._socket.close(code)


Behaviour = Callable[[FakeSession], Awaitable[None]]


class FakeOpenAi:
    """Open with :meth:`open`; ``url`` is the base URL. ``behaviour`` runs once a session stands."""

    def __init__(self, key: str, behaviour: Behaviour | None) -> None:
        self.key = key
        self.url = ""
        self.sessions: list[FakeSession] = []
        self._behaviour = behaviour
        self._came = asyncio.Condition()
        self._failures: list[BaseException] = []

    @classmethod
    @asynccontextmanager
    async def open(cls, key: str, behaviour: Behaviour | None = None) -> AsyncIterator[FakeOpenAi]:
        """On a fresh port; what went wrong in a session is raised at the end."""
        fake = cls(key, behaviour)
        async with serve(fake._serve, "127.0.0.1", 0, process_request=fake._door, ping_interval=None) as server:
            fake.url = f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/v1"
            yield fake
        if fake._failures:
            raise fake._failures[0]

    def _door(self, connection: ServerConnection, request: Request) -> Response | None:
        if request.headers.get("Authorization") != f"Bearer {self.key}":
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, '{"error": {"code": "invalid_api_key"}}')
        if request.path == "/v1/models":
            return connection.respond(http.HTTPStatus.OK, '{"object": "list", "data": []}')
        return None if request.path.startswith("/v1/realtime?") else connection.respond(http.HTTPStatus.NOT_FOUND, "")

    async def _serve(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(socket.request.path).query)
        session = FakeSession(socket, query["model"][0])
        self.sessions.append(session)
        async with self._came:
            self._came.notify_all()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(session.serve(), name="openai hears")
                if self._behaviour is not None:
                    tasks.create_task(self._behave(session, self._behaviour), name="openai speaks")
        except* AssertionError as group:
            self._failures.extend(group.exceptions)

    async def _behave(self, session: FakeSession, behaviour: Behaviour) -> None:
        with contextlib.suppress(websockets.ConnectionClosed):
            await session.expect("session.update")
            await behaviour(session)

    async def expect_session(self, number: int = 1) -> FakeSession:
        """The ``number``-th, once it has come."""
        async with asyncio.timeout(10), self._came:
            await self._came.wait_for(lambda: len(self.sessions) >= number)
        return self.sessions[number - 1]
