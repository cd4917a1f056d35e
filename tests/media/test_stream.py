"""TCP links to agents: how they open, carry, refuse, stall and end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from media.stream import StreamClient, StreamLink
from media.targets import Targets
from media.tasks import Tasks
from tests.media.test_websocket import Handler
from tests.support.ports import free_port

pytestmark = pytest.mark.realtime

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def client(*, allow_private: bool = True) -> AsyncIterator[StreamClient]:
    tasks = Tasks()
    try:
        yield StreamClient(tasks, Targets(allow_private=allow_private))
    finally:
        await tasks.close(grace_s=3.0)
        assert tasks.failures == 0


@asynccontextmanager
async def server(serve: Serve) -> AsyncIterator[int]:
    """Its port."""

    async def tolerant(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(tolerant, "127.0.0.1", 0)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


async def opened(streams: StreamClient, port: int) -> tuple[StreamLink, Handler]:
    handler = Handler()
    link = streams.connect("127.0.0.1", port, handler, 5.0, "link")
    assert await handler.next() == ("open",)
    return link, handler


async def test_bytes_cross_both_ways_and_a_close_lets_our_last_words_arrive() -> None:
    heard = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        while data := await reader.read(100):
            heard.extend(data)
            writer.write(b"more that nobody reads" * 1000)

    async with server(serve) as port, client() as streams:
        link, handler = await opened(streams, port)
        assert link.writable
        assert await handler.next() == ("message", b"hello", False)
        link.send(b"one ")
        link.send(b"two")
        link.close()
        link.close()
        link.send(b"late")
        async with asyncio.timeout(2):
            while heard != b"one two":
                await asyncio.sleep(0.01)
    assert heard == b"one two"


async def test_an_end_of_the_stream_is_orderly_and_a_reset_is_not() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(1) == b"r":
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")

    async with server(serve) as port, client() as streams:
        link, handler = await opened(streams, port)
        link.send(b"c")
        assert await handler.next() == ("closed", True, "closed by the agent")
        link, handler = await opened(streams, port)
        link.send(b"r")
        closed = await handler.next()
        assert closed[:2] == ("closed", False)
        assert not link.writable


async def test_a_port_where_nobody_listens_is_refused() -> None:
    async with client() as streams:
        handler = Handler()
        streams.connect("127.0.0.1", free_port(), handler, 5.0, "link")
        assert await handler.next() == ("failed", "refused", "connection refused")


async def test_an_address_that_is_not_public_is_connected_to_only_where_that_is_allowed() -> None:
    async with client(allow_private=False) as streams:
        handler = Handler()
        streams.connect("127.0.0.1", 9, handler, 5.0, "link")
        assert (await handler.next())[:2] == ("failed", "forbidden")


async def test_a_connection_that_is_not_made_in_time_fails_and_leaves_no_socket() -> None:
    class Slow(Targets):
        async def connect(self, host: str, port: int, timeout_s: float) -> socket.socket:
            await asyncio.sleep(60)
            raise OSError

    tasks = Tasks()
    handler = Handler()
    StreamClient(tasks, Slow()).connect("h", 9, handler, 0.05, "link")
    assert (await handler.next())[:2] == ("failed", "timeout")
    link = StreamClient(tasks, Slow()).connect("h", 9, handler, 5.0, "link")
    await asyncio.sleep(0)
    link.close()
    await tasks.close(grace_s=1.0)
    assert handler.log.empty(), "who closes hears no more"


async def test_a_slow_reader_is_noticed_and_writing_goes_on_when_it_reads_again() -> None:
    wake = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await wake.wait()
        while await reader.read(65536):
            pass

    async with server(serve) as port, client() as streams:
        link, handler = await opened(streams, port)
        for _ in range(20000):
            if not link.writable:
                break
            link.send(bytes(323))
            await asyncio.sleep(0)
        assert not link.writable
        wake.set()
        assert await handler.next() == ("writable",)
        link.close()


async def test_a_peer_that_never_answers_the_close_is_cut_after_two_seconds() -> None:
    release = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()

    async with server(serve) as port:
        start = asyncio.get_running_loop().time()
        async with client() as streams:
            link, _ = await opened(streams, port)
            link.close()
        assert 1.5 < asyncio.get_running_loop().time() - start < 3.0
        release.set()
