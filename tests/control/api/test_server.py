"""The HTTP listener on real sockets."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from control.api import server as module
from control.api.listener import listen, url_of
from control.api.server import ApiServer
from tests.support.desk import BASE, Desk

pytestmark = pytest.mark.uvloop


@dataclass
class Serving:
    url: str
    close: Callable[[], Awaitable[None]]


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[Serving]:
    """A server that runs for the block, and ends within its grace."""
    listener = listen("127.0.0.1:0")
    url = url_of(listener)
    server = ApiServer(app, listener)
    await server.start()
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        tasks.create_task(server.run(), name="api server")
        yield Serving(url, server.close)
        await server.close()


async def raw(server: Serving, request: bytes) -> bytes:
    """What comes back for these bytes, to the end of the connection."""
    host, port = server.url.removeprefix("http://").rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()
        await writer.wait_closed()


async def test_it_serves_on_the_port_it_reports() -> None:
    """A whole import over a socket, as the product's page has it."""
    desk = await Desk().furnish()
    async with serving(desk.app) as server, httpx.AsyncClient(base_url=server.url) as client:
        answer = await client.post(
            f"{BASE}/telephony/numbers/import",
            headers={"Authorization": f"Bearer {desk.keys['acme']}"},
            json={"phone_number": "+14155550100", "provider": "sip", "provider_trunk": "lab"},
        )
        assert answer.status_code == 201
        assert "server" not in answer.headers


async def test_the_process_s_signal_handlers_stay_its_own() -> None:
    """The edge drains on SIGTERM; the HTTP side must not take it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    desk = Desk()
    async with serving(desk.app) as server, httpx.AsyncClient() as client:
        await client.get(f"{server.url}/healthz")
        assert {number: signal.getsignal(number) for number in before} == before


async def test_a_server_that_never_ran_closes_too() -> None:
    """A start that fails further on leaves no port behind."""
    listener = listen("127.0.0.1:0")
    server = ApiServer(Desk().app, listener)
    await server.start()
    await server.close()
    assert listener.fileno() == -1


async def test_a_request_in_progress_is_answered_before_the_end() -> None:
    """Closing waits for it, and takes no new one."""
    app, asked, answer = FastAPI(), asyncio.Event(), asyncio.Event()

    @app.get("/slow")
    async def slow() -> dict[str, str]:
        asked.set()
        await answer.wait()
        return {"was": "answered"}

    async with serving(app) as server, httpx.AsyncClient() as client, asyncio.TaskGroup() as tasks:
        request = tasks.create_task(client.get(f"{server.url}/slow"))
        await asked.wait()
        await server.close()
        answer.set()
        assert (await request).json() == {"was": "answered"}


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: " + b"y" * 100_000,
        b"OPTIONS sip:edge SIP/2.0\r\nVia: SIP/2.0/TCP x\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_400_and_closed(request_bytes: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """And the next one is served; the log is not the sender's to fill."""
    desk = Desk()
    async with serving(desk.app) as server:
        assert (await raw(server, request_bytes)).startswith(b"HTTP/1.1 400 ")
        alive = await raw(server, b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert alive.startswith(b"HTTP/1.1 200 ")
    assert "Invalid HTTP" not in caplog.text


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"/%00", 404),
        (b"/%ff%fe", 404),
        (b"//", 404),
        (b"http://x/healthz", 404),
        (b"*", 404),
        (b"/healthz?" + b"%" * 999, 200),
    ],
)
async def test_hostile_targets_are_answered_in_the_envelope(target: bytes, status: int) -> None:
    """Never a 500."""
    desk = Desk()
    async with serving(desk.app) as server:
        answer = await raw(server, b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())


@pytest.mark.parametrize("first", [b"", b"GET / HTTP/1.1\r\nHost:", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET"])
async def test_a_head_that_never_ends_is_cut(monkeypatch: pytest.MonkeyPatch, first: bytes) -> None:
    """Also the second on a connection, whose first was served."""
    monkeypatch.setattr(module, "HEAD_TIMEOUT_S", 0.2)
    monkeypatch.setattr(module, "KEEP_ALIVE_S", 1)
    desk = Desk()
    async with serving(desk.app) as server:
        answer = await raw(server, first)
    assert (b"200 OK" in answer) == (b"healthz" in first)


@pytest.mark.realtime
async def test_a_slow_answer_is_not_a_slow_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline is for the request."""
    monkeypatch.setattr(module, "HEAD_TIMEOUT_S", 0.1)
    app = FastAPI()

    @app.get("/slow")
    async def slow() -> dict[str, Any]:
        await asyncio.sleep(0.3)
        return {}

    async with serving(app) as server, httpx.AsyncClient() as client:
        assert (await client.get(f"{server.url}/slow")).status_code == 200
        assert (await client.get(f"{server.url}/slow")).status_code == 200
