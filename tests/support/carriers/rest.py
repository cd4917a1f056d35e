"""A REST API on loopback, for a carrier's fake: HTTP/1.1 by h11 on plain asyncio, so it can fail below HTTP too.

Needs nothing but what the product needs to run.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import h11

from tests.support.carriers.misbehaviour import (
    Cut,
    Endless,
    Fails,
    Garbage,
    Misbehaviour,
    NotJson,
    Slow,
    WrongShape,
)

__all__ = ["Reply", "RestServer", "Seen"]

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Seen:
    """One request, as it came; header names are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def path(self) -> str:
        """Without the query."""
        return urlsplit(self.target).path

    @cached_property
    def query(self) -> dict[str, str]:
        """The first value of each."""
        return _first_values(urlsplit(self.target).query)

    @cached_property
    def form(self) -> dict[str, str]:
        """Of a form-encoded body, the first value of each."""
        return _first_values(self.body.decode())

    @cached_property
    def fields(self) -> dict[str, Any]:
        """Of a JSON body, which is an object."""
        return dict(json.loads(self.body or b"{}"))


def _first_values(text: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(text, keep_blank_values=True).items()}


@dataclass(frozen=True, slots=True)
class Reply:
    """``body`` becomes JSON."""

    status: int
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Mood:
    """A misbehaviour, the paths it holds for and how often yet."""

    how: Misbehaviour
    paths: re.Pattern[str]
    times: int | None


class RestServer:
    """What both fakes share. A subclass answers with :meth:`answer` and knows its carrier's :meth:`error` bodies.

    ``requests`` are all that came, in order, those that were answered badly or not at all too.
    """

    def __init__(self) -> None:
        self.requests: list[Seen] = []
        self._server: asyncio.Server | None = None
        self._port = 0
        self._connections: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}
        self._moods: list[_Mood] = []

    # --- for the test ---

    async def start(self, port: int = 0) -> None:
        """Listen; port 0 lets the system choose."""
        self._port = port
        await self.up()

    async def close(self) -> None:
        """Nothing is left behind."""
        await self.down()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def origin(self) -> str:
        """``http://127.0.0.1:8080``."""
        return f"http://{HOST}:{self._port}"

    @property
    def connections(self) -> int:
        """TCP connections that are open now."""
        return len(self._connections)

    async def up(self) -> None:
        """Listen, on the port of before when there was one."""
        self._server = await asyncio.start_server(self._serve, HOST, self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        """Connections are cut and new ones refused, until :meth:`up`."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        serving = list(self._connections)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        if server is not None:
            await server.wait_closed()

    def misbehave(self, how: Misbehaviour, paths: str = "", times: int | None = None) -> None:
        """From now on, for requests whose path matches ``paths`` (a regular expression), ``times`` times at most."""
        self._moods.append(_Mood(how, re.compile(paths), times))

    def behave(self) -> None:
        """All is well again."""
        self._moods.clear()

    def count(self, paths: str = "", method: str | None = None) -> int:
        """Requests so far to paths that match."""
        return len(self.seen(paths, method))

    def seen(self, paths: str = "", method: str | None = None) -> list[Seen]:
        """Requests so far to paths that match."""
        return [each for each in self.requests if re.search(paths, each.path) and method in (None, each.method)]

    # --- for the carrier ---

    def answer(self, request: Seen) -> Reply:
        """When it behaves."""
        raise AssertionError(f"nobody answers {request}")

    def error(self, status: int) -> Reply:
        """The carrier's own body for an error that has nothing to do with the request."""
        return Reply(status)

    # --- HTTP ---

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = writer
        try:
            await self._converse(h11.Connection(h11.SERVER), reader, writer)
        except (ConnectionError, h11.RemoteProtocolError):
            pass
        except asyncio.CancelledError:  # by down(), which waits for it; the server's own callback would log it
            pass
        finally:
            del self._connections[task]
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _converse(self, http: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (request := await _next_request(http, reader)) is not None:
            self.requests.append(request)
            how = self._mood(request)
            if isinstance(how, Slow) and await _left(reader, how.seconds):
                return
            match how:
                case Cut():
                    await _send_half(writer, self.answer(request))
                case Endless():
                    await _send_without_end(writer)
                case Garbage():
                    writer.write(b"220 smtp.example.com ready\r\n")
                case Fails(status=status, headers=headers):
                    reply = self.error(status)
                    await _send(http, writer, Reply(status, reply.body, {**reply.headers, **headers}))
                case NotJson(text=text, content_type=content_type, status=status):
                    await _send_bytes(http, writer, status, text.encode(), {"Content-Type": content_type})
                case WrongShape(body=body):
                    await _send(http, writer, Reply(200, body))
                case _:
                    await _send(http, writer, self.answer(request))
            if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
                return
            http.start_next_cycle()

    def _mood(self, request: Seen) -> Misbehaviour | None:
        for mood in self._moods:
            if mood.times != 0 and mood.paths.search(request.path):
                if mood.times is not None:
                    mood.times -= 1
                return mood.how
        return None


async def _left(reader: asyncio.StreamReader, seconds: float | None) -> bool:
    """Whether whoever asked goes away within ``seconds``."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await reader.read()
            return True
    return False


async def _next_request(http: h11.Connection, reader: asyncio.StreamReader) -> Seen | None:
    head: h11.Request | None = None
    body = b""
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await reader.read(65536))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
            return Seen(head.method.decode(), head.target.decode(), headers, body)
        else:
            return None


async def _send(http: h11.Connection, writer: asyncio.StreamWriter, reply: Reply) -> None:
    headers = {"Content-Type": "application/json", **reply.headers}
    await _send_bytes(http, writer, reply.status, json.dumps(reply.body).encode(), headers)


async def _send_bytes(
    http: h11.Connection, writer: asyncio.StreamWriter, status: int, body: bytes, headers: Mapping[str, str]
) -> None:
    if status == 204:
        body = b""
    head = h11.Response(status_code=status, headers=[*headers.items(), ("Content-Length", str(len(body)))])
    for event in (head, h11.Data(data=body), h11.EndOfMessage()):
        writer.write(http.send(event) or b"")
    await writer.drain()


async def _send_half(writer: asyncio.StreamWriter, reply: Reply) -> None:
    body = json.dumps(reply.body).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body[: len(body) // 2])
    await writer.drain()


async def _send_without_end(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    piece = b'"' + b"x" * 65534 + b","
    while True:
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await writer.drain()
