"""A call's two datagram sockets, RTP and RTCP (RFC 3550 §11): the only UDP I/O of media.

uvloop's ``DatagramProtocol`` underneath; no task and no parsing for a packet.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any, Final

__all__ = ["Address", "OnDatagram", "PortPair", "PortUnavailable", "open_pair"]

Address = tuple[str, int]
OnDatagram = Callable[[bytes, Address, float], None]
"""(datagram, source, monotonic arrival time [s])."""

_DSCP_EXPEDITED: Final = 46 << 2  # RFC 4594 §4.1: telephony


class PortUnavailable(Exception):
    """The pair could not be bound: in use, not this machine's address, or no descriptor left."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(f"cannot bind {host} port {port}: {reason}")
        self.host = host
        self.port = port


class _Receiver(asyncio.DatagramProtocol):
    def __init__(self, on_datagram: OnDatagram) -> None:
        self._on_datagram = on_datagram
        self._closed = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self._on_datagram(data, (addr[0], addr[1]), time.monotonic())

    def error_received(self, exc: Exception) -> None:
        """ICMP says that nobody listens there (yet); the watchdog judges silence."""

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closed.done():
            self._closed.set_result(None)

    async def closed(self) -> None:
        await self._closed


class PortPair:
    """Two bound sockets. Sending never blocks and never raises for the network's sake."""

    def __init__(self, rtp: tuple[asyncio.DatagramTransport, _Receiver], rtcp: tuple[Any, _Receiver]) -> None:
        self._rtp, self._rtp_receiver = rtp
        self._rtcp, self._rtcp_receiver = rtcp
        self.send_rtp: Callable[[bytes, Address], None] = self._rtp.sendto
        self.send_rtcp: Callable[[bytes, Address], None] = self._rtcp.sendto

    async def close(self) -> None:
        """Close both; they are free for others when this returns."""
        self._rtp.close()
        self._rtcp.close()
        await self._rtp_receiver.closed()
        await self._rtcp_receiver.closed()


async def open_pair(host: str, rtp_port: int, on_rtp: OnDatagram, on_rtcp: OnDatagram) -> PortPair:
    """Bind ``rtp_port`` and the next; raises :class:`PortUnavailable`, and then neither is bound."""
    rtp = await _open(host, rtp_port, on_rtp)
    try:
        rtcp = await _open(host, rtp_port + 1, on_rtcp)
    except BaseException:
        rtp[0].close()
        await rtp[1].closed()
        raise
    return PortPair(rtp, rtcp)


async def _open(host: str, port: int, on_datagram: OnDatagram) -> tuple[asyncio.DatagramTransport, _Receiver]:
    bound = _bind(host, port)
    loop = asyncio.get_running_loop()
    creating = loop.create_datagram_endpoint(lambda: _Receiver(on_datagram), sock=bound)
    # Cancelled half-way, uvloop would keep the transport and the port: so it is finished, then closed.
    finished = loop.create_task(creating, name=f"bind {port}")
    try:
        return await asyncio.shield(finished)
    except asyncio.CancelledError:
        transport, receiver = await finished
        transport.close()
        await receiver.closed()
        raise


def _bind(host: str, port: int) -> socket.socket:
    """A bound socket; by hand, because uvloop leaks the one it made when the bind fails."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        bound = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    except OSError as error:
        raise PortUnavailable(host, port, str(error)) from error
    try:
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((host, port))
        _prioritise(bound, family)
    except (OSError, OverflowError) as error:
        bound.close()
        raise PortUnavailable(host, port, str(error)) from error
    return bound


def _prioritise(bound: socket.socket, family: int) -> None:
    """Mark the packets as voice (DSCP EF)."""
    if family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, _DSCP_EXPEDITED)
    else:
        bound.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, _DSCP_EXPEDITED)
