"""Somebody who means harm: datagrams as they please, from addresses of their own, all on loopback.

:func:`unharmed` is the other half: what an edge has to look like when they are done.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncio_dgram

from tests.support.edge import Edge
from tests.support.leaks import open_descriptors
from tests.support.phone import Message, SocketAddress

__all__ = ["LINGERS_S", "QUICK_T1_S", "Attacker", "children", "unharmed"]

QUICK_T1_S = 0.05
"""T1 for edges under attack: what lingers for 64·T1 can be waited for."""

LINGERS_S = 64 * QUICK_T1_S + 5.0 + 4.0
"""64·T1, T4 (RFC 3261 §17), and time for a busy machine [s]."""


class Attacker:
    """One UDP socket. ``heard`` is every datagram that came back, with its source."""

    def __init__(self, stream: asyncio_dgram.DatagramServer) -> None:
        self._stream = stream
        self.address: SocketAddress = stream.sockname[:2]
        self.heard: list[tuple[bytes, SocketAddress]] = []
        self._grew = asyncio.Condition()

    @classmethod
    @asynccontextmanager
    async def open(cls, host: str = "127.0.0.66", port: int = 0) -> AsyncIterator[Attacker]:
        """On an address of loopback; closed at the end of the block."""
        attacker = cls(await asyncio_dgram.bind((host, port)))
        reader = asyncio.create_task(attacker._read(), name=f"attacker {attacker.address}")
        try:
            yield attacker
        finally:
            attacker._stream.close()
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _read(self) -> None:
        while True:
            data, source = await self._stream.recv()
            assert isinstance(source, tuple)
            self.heard.append((data, (source[0], source[1])))
            async with self._grew:
                self._grew.notify_all()

    @property
    def heard_bytes(self) -> int:
        """Octets that came back."""
        return sum(len(data) for data, _ in self.heard)

    def answers(self, call_id: str = "") -> list[Message]:
        """The responses that came back, those of one Call-ID if one is given."""
        found = [Message.parse(data) for data, _ in self.heard if data.startswith(b"SIP/2.0")]
        return [message for message in found if call_id in message.get("call-id")]

    async def send(self, data: bytes | Message, target: SocketAddress) -> None:
        """As it is, once."""
        await self._stream.send(bytes(data), target)

    async def spray(self, datagrams: Iterable[bytes], targets: Iterable[SocketAddress], pause_s: float = 0.0) -> int:
        """Each datagram to each target; how many were sent."""
        targets, sent = list(targets), 0
        for data in datagrams:
            for target in targets:
                await self._stream.send(data, target)
                sent += 1
            await asyncio.sleep(pause_s)
        return sent

    async def wait_until_heard(self, count: int, timeout_s: float = 5.0) -> None:
        """Until so many datagrams have come back in all."""
        try:
            async with asyncio.timeout(timeout_s), self._grew:
                await self._grew.wait_for(lambda: len(self.heard) >= count)
        except TimeoutError:
            raise AssertionError(f"{len(self.heard)} datagrams came back within {timeout_s} s, not {count}") from None


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


@asynccontextmanager
async def unharmed(edge: Edge, lingers_s: float = LINGERS_S) -> AsyncIterator[None]:
    """When the block ends: no dialog, no transaction, no leased port; tasks and descriptors as before it (±2).

    Descriptors are those of all the edge's processes, which are as many as before, too.
    """
    edge_pid = edge.program.pid
    await edge.expect_metrics({"truedy_media_workers": float(len(children(edge_pid)))}, 10.0)
    tasks = (await edge.metrics())["truedy_tasks"]
    before = _held(edge_pid)
    yield
    await edge.expect_silence(lingers_s)
    await edge.expect_metrics({"truedy_tasks": tasks}, 5.0)
    after = _held(edge_pid)
    if len(before) != len(after) or any(abs(was - now) > 2 for was, now in zip(before, after, strict=True)):
        raise AssertionError(f"descriptors of the edge and its workers: {before} before, {after} now")


def _held(pid: int) -> list[int]:
    """How many descriptors a process and each of its children hold."""
    return [len(open_descriptors(each)) for each in (pid, *children(pid))]
