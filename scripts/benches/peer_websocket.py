"""One WebSocket library as a client: so many connections, a small text message each way every 20 ms on each.

usage: python peer_websocket.py LIBRARY URL CONNECTIONS SECONDS     prints one line of JSON
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

START = '{"event":"start","streamSid":"MZ","start":{"streamSid":"MZ"}}'
MESSAGE = (
    '{"event":"media","sequenceNumber":"4711","streamSid":"MZ' + "0" * 32 + '","media":{"track":"inbound",'
    '"chunk":"4710","timestamp":"94200","payload":"' + "/" * 216 + '"}}'
)
received = 0
owned: list[Any] = []

Say = Callable[[], Awaitable[None] | None]


async def with_picows(url: str) -> Say:
    import picows  # noqa: PLC0415

    class Listener(picows.WSListener):  # type: ignore[misc]
        def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
            global received  # noqa: PLW0603
            frame.get_payload_as_bytes()
            received += 1

    transport, _ = await picows.ws_connect(Listener, url)
    transport.send(picows.WSMsgType.TEXT, START.encode())
    data = MESSAGE.encode()
    return lambda: transport.send(picows.WSMsgType.TEXT, data)


async def with_websockets(url: str) -> Say:
    from websockets.asyncio.client import connect  # noqa: PLC0415

    link = await connect(url, compression=None, ping_interval=None)

    async def listen() -> None:
        global received  # noqa: PLW0603
        async for _ in link:
            received += 1

    owned.append(asyncio.create_task(listen()))
    await link.send(START)
    return lambda: link.send(MESSAGE)


async def with_aiohttp(url: str) -> Say:
    import aiohttp  # noqa: PLC0415

    if not owned:
        owned.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
    link = await owned[0].ws_connect(url)

    async def listen() -> None:
        global received  # noqa: PLW0603
        async for _ in link:
            received += 1

    owned.append(asyncio.create_task(listen()))
    await link.send_str(START)
    return lambda: link.send_str(MESSAGE)


async def main(library: str, url: str, connections: int, seconds: float) -> None:
    connect = {"picows": with_picows, "websockets": with_websockets, "aiohttp": with_aiohttp}[library]
    links = [await connect(url) for _ in range(connections)]
    warm, frames = 50, int(seconds / 0.02)
    late, began = [], time.perf_counter()
    cpu = wall = 0.0
    heard = 0
    for frame in range(warm + frames):
        due = began + frame * 0.02
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        if frame == warm:
            cpu, wall, heard = time.process_time(), time.perf_counter(), received
        late.append(max(0.0, time.perf_counter() - due))
        for say in links:
            sending = say()
            if sending is not None:
                await sending
    spent, passed = time.process_time() - cpu, time.perf_counter() - wall
    figures = {
        "version": importlib.metadata.version(library),
        "cpu": spent / passed,
        "sent": frames * connections,
        "received": received - heard,
        "late_p99_ms": sorted(late[warm:])[int(frames * 0.99)] * 1e3,
    }
    print(json.dumps(figures), flush=True)


async def run() -> None:
    await main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
    import os  # noqa: PLC0415

    os._exit(0)  # the connections are the load's to notice


uvloop.run(run())
