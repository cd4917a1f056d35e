"""A bad network: packets lost, doubled, delayed and overtaken, the same way each time for the same seed.

:class:`Network` joins sans-I/O engines in memory on a fake clock; :class:`LossyPath` forwards real UDP on loopback.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

__all__ = ["Impairment", "Link", "LossyPath", "Network"]

Host = TypeVar("Host", bound=Hashable)
SocketAddress = tuple[str, int]


@dataclass
class Impairment:
    """What happens to each packet. Shares are 0..1; an overtaken packet comes ``reorder_delay_s`` late."""

    seed: int = 1
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    delay_s: float = 0.0
    jitter_s: float = 0.0
    reorder_delay_s: float = 0.03
    lost: int = field(default=0, init=False)
    duplicated: int = field(default=0, init=False)
    reordered: int = field(default=0, init=False)
    passed: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def fate(self) -> list[float]:
        """The delays [s] after which copies of the next packet arrive; empty when it is lost."""
        draw = self._random.random
        if draw() < self.loss:
            self.lost += 1
            return []
        delay = self.delay_s + self.jitter_s * (2 * draw() - 1)
        if draw() < self.reorder:
            self.reordered += 1
            delay += self.reorder_delay_s
        self.passed += 1
        if draw() < self.duplicate:
            self.duplicated += 1
            return [max(0.0, delay), max(0.0, delay) + 0.001]
        return [max(0.0, delay)]


class Network(Generic[Host]):
    """Datagrams between hosts in memory. Time is what the caller says it is."""

    def __init__(self, impairment: Impairment | None = None) -> None:
        self.impairment = impairment or Impairment()
        self._flying: list[tuple[float, int, Host, Host, bytes]] = []
        self._sent = 0

    def send(self, source: Host, target: Host, data: bytes, now: float) -> None:
        """Put a datagram on the wire."""
        for delay in self.impairment.fate():
            self._sent += 1
            heapq.heappush(self._flying, (now + delay, self._sent, source, target, data))

    def next_arrival(self) -> float | None:
        """When the next datagram arrives; None when nothing is on the wire."""
        return self._flying[0][0] if self._flying else None

    def arrivals(self, now: float) -> list[tuple[Host, Host, bytes]]:
        """(source, target, data) of all that has arrived by ``now``, in order of arrival."""
        due = []
        while self._flying and self._flying[0][0] <= now:
            _, _, source, target, data = heapq.heappop(self._flying)
            due.append((source, target, data))
        return due


class _Side(asyncio.DatagramProtocol):
    """One of a link's two sockets; what it hears goes out of the other."""

    def __init__(self, impairment: Impairment) -> None:
        self.impairment = impairment
        self.other: _Side
        self.peer: SocketAddress | None = None
        self.transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)  # uvloop's is none by inheritance

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        loop = asyncio.get_running_loop()
        for delay in self.impairment.fate():
            if delay:
                loop.call_later(delay, self.other.emit, data)
            else:
                self.other.emit(data)

    def emit(self, data: bytes) -> None:
        """Out of this socket to the party on this side."""
        if self.peer is not None and not self.transport.is_closing():
            self.transport.sendto(data, self.peer)


class Link:
    """Near party ↔ ``near`` | ``far`` ↔ far party. Each party talks to the socket on its own side."""

    def __init__(self, near: _Side, far: _Side) -> None:
        self._near, self._far = near, far
        near.other, far.other = far, near

    @property
    def near(self) -> SocketAddress:
        """Where the near party sends, and what it hears from."""
        host, port = self._near.transport.get_extra_info("sockname")[:2]
        return host, port

    @property
    def far(self) -> SocketAddress:
        """Where the far party sends, and what it hears from."""
        host, port = self._far.transport.get_extra_info("sockname")[:2]
        return host, port

    def connect(self, *, near: SocketAddress | None = None, far: SocketAddress | None = None) -> None:
        """Say where the parties are, as they become known."""
        self._near.peer = near or self._near.peer
        self._far.peer = far or self._far.peer

    def close(self) -> None:
        """Give the ports back."""
        self._near.transport.close()
        self._far.transport.close()


class LossyPath:
    """A bundle of links that share one impairment."""

    def __init__(self, impairment: Impairment) -> None:
        self.impairment = impairment
        self._links: list[Link] = []

    async def link(self, host: str = "127.0.0.1") -> Link:
        """A fresh link on two fresh ports."""
        loop = asyncio.get_running_loop()
        sides = [
            (await loop.create_datagram_endpoint(lambda: _Side(self.impairment), local_addr=(host, 0)))[1]
            for _ in range(2)
        ]
        link = Link(*sides)
        self._links.append(link)
        return link

    def close(self) -> None:
        """All links."""
        for link in self._links:
            link.close()

    @classmethod
    @asynccontextmanager
    async def open(cls, impairment: Impairment) -> AsyncIterator[LossyPath]:
        """Closed at the end of the block."""
        path = cls(impairment)
        try:
            yield path
        finally:
            path.close()
