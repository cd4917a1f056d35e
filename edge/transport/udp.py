"""SIP over UDP: one listener, and all that is sent from it (RFC 3261 §18)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from edge.events import Address, Flow, TransportName
from edge.transport.sockets import reason_of

__all__ = ["Datagrams"]

_FLOWS_KEPT: Final = 4096
_KEEP_ALIVE_OCTETS: Final = b"\r\n\x00 "


class _DatagramSocket(Protocol):
    """What both loops' datagram transports have; typeshed leaves the buffer's size out."""

    def sendto(self, data: bytes, addr: tuple[str, int]) -> None: ...
    def get_write_buffer_size(self) -> int: ...
    def close(self) -> None: ...


class Datagrams(asyncio.DatagramProtocol):
    """One UDP listener."""

    def __init__(self, received: Callable[[bytes, Flow], None], local: Address) -> None:
        self.local = local
        self.closed = asyncio.get_running_loop().create_future()
        self._received = received
        self._flows: dict[tuple[str, int], Flow] = {}
        self._transport: _DatagramSocket | None = None
        self._errors: deque[Exception] = deque(maxlen=1)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        if data.strip(_KEEP_ALIVE_OCTETS):
            self._received(data, self._flow(addr[0], addr[1]))

    def error_received(self, exc: Exception) -> None:
        self._errors.append(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self.closed.done():
            self.closed.set_result(None)

    def send(self, data: bytes, remote: Address, limit: int) -> str | None:
        """Why the datagram could not be sent, or None. Both loops report a refused send before returning."""
        if self._transport is None:
            return "closed"
        if self._transport.get_write_buffer_size() > limit:
            return "send buffer full"
        self._errors.clear()
        try:
            self._transport.sendto(data, (remote.host, remote.port))
        except (ValueError, OverflowError) as error:
            return reason_of(error)
        return reason_of(self._errors.pop()) if self._errors else None

    def close(self) -> None:
        """Next: ``closed``."""
        if self._transport is not None:
            self._transport.close()

    def _flow(self, host: str, port: int) -> Flow:
        flow = self._flows.get((host, port))
        if flow is None:
            if len(self._flows) >= _FLOWS_KEPT:
                self._flows.clear()
            flow = Flow(TransportName.UDP, self.local, Address(host, port))
            self._flows[host, port] = flow
        return flow
