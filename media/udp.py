"""The RTP and RTCP sockets of a media process (RFC 3550 §11): the only UDP I/O of media.

They are read once a tick, all together, and not as each datagram comes: play-out takes no notice of a packet
before its tick anyway, and a wake-up for each would cost more than all else that is done with it. When it
arrived is the kernel's to say (SO_TIMESTAMPNS), so that jitter is measured as before, or better.
"""

from __future__ import annotations

import logging
import select
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

__all__ = ["Address", "Datagrams", "OnDatagram", "PortPair", "PortUnavailable"]

log = logging.getLogger("truedy.media.udp")

Address = tuple[str, int]
OnDatagram = Callable[[bytes, Address, float], None]
"""(datagram, source, monotonic arrival time [s])."""

_Receive = Callable[[int, int], tuple[bytes, list[tuple[int, int, bytes]], int, Any]]

_DSCP_EXPEDITED: Final = 46 << 2  # RFC 4594 §4.1: telephony
_LONGEST: Final = 4096  # bytes; what is longer is no packet of ours and is dropped
_TIMESTAMPNS: Final = 35  # SO_TIMESTAMPNS and SCM_TIMESTAMPNS (socket(7)); the module has no name for it
_TIMESPEC: Final = struct.Struct("qq")
_TIMESPEC_SPACE: Final = socket.CMSG_SPACE(_TIMESPEC.size)
_OLDEST_S: Final = 5.0


class PortUnavailable(Exception):
    """The pair could not be bound: in use, not this machine's address, or no descriptor left."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(f"cannot bind {host} port {port}: {reason}")
        self.host = host
        self.port = port


class PortPair:
    """Two bound sockets. Sending never blocks and never raises for the network's sake."""

    def __init__(self, rtp: socket.socket, rtcp: socket.socket, forget: Callable[[socket.socket], None]) -> None:
        self._sockets = (rtp, rtcp)
        self._forget = forget
        self.send_rtp: Callable[[bytes, Address], None] = _sender(rtp)
        self.send_rtcp: Callable[[bytes, Address], None] = _sender(rtcp)

    def close(self) -> None:
        """Close both; they are free for others when this returns. Once more does nothing."""
        for each in self._sockets:
            if each.fileno() >= 0:
                self._forget(each)
                each.close()


class Datagrams:
    """All sockets of the process. Next: :meth:`open_pair`, then :meth:`receive` at every tick."""

    ROUNDS: Final = 64
    """Datagrams read from one socket at once; a flood on one port is left to the kernel to drop."""

    def __init__(self) -> None:
        self._epoll: select.epoll | None = None
        self._open: dict[int, tuple[_Receive, OnDatagram]] = {}

    def __len__(self) -> int:
        """Sockets open."""
        return len(self._open)

    def open_pair(self, host: str, rtp_port: int, on_rtp: OnDatagram, on_rtcp: OnDatagram) -> PortPair:
        """Bind ``rtp_port`` and the next; raises :class:`PortUnavailable`, and then neither is bound."""
        rtp = _bind(host, rtp_port)
        try:
            rtcp = _bind(host, rtp_port + 1)
        except BaseException:
            rtp.close()
            raise
        pair = PortPair(rtp, rtcp, self._forget)
        try:
            self._listen(rtp, on_rtp)
            self._listen(rtcp, on_rtcp)
        except OSError as error:
            pair.close()
            raise PortUnavailable(host, rtp_port, str(error)) from error
        return pair

    def receive(self) -> None:
        """Hand out what has arrived since the last time, each datagram with the time of its arrival."""
        now = time.monotonic()
        behind_s = time.time() - now
        for _ in range(self.ROUNDS):
            ready = self._epoll.poll(0, len(self._open)) if self._epoll is not None else ()
            if not ready:
                return
            for number, _ in ready:
                if (entry := self._open.get(number)) is not None:
                    _take(entry, now, behind_s)

    def _listen(self, bound: socket.socket, on_datagram: OnDatagram) -> None:
        if self._epoll is None:
            self._epoll = select.epoll()
        self._epoll.register(bound, select.EPOLLIN)
        self._open[bound.fileno()] = (bound.recvmsg, on_datagram)

    def _forget(self, bound: socket.socket) -> None:
        if self._open.pop(bound.fileno(), None) is not None and self._epoll is not None:
            self._epoll.unregister(bound)
        if not self._open and self._epoll is not None:
            self._epoll.close()
            self._epoll = None


def _take(entry: tuple[_Receive, OnDatagram], now: float, behind_s: float) -> None:
    receive, on_datagram = entry
    try:
        data, extra, flags, source = receive(_LONGEST, _TIMESPEC_SPACE)
    except OSError:  # its checksum was wrong, or an error that ICMP brought
        return
    if flags & socket.MSG_TRUNC:
        return
    arrival = now
    if extra:
        seconds, nanoseconds = _TIMESPEC.unpack(extra[0][2])
        arrival = seconds + nanoseconds * 1e-9 - behind_s
        if not now - _OLDEST_S < arrival <= now:  # the wall clock was set in between
            arrival = now
    try:
        on_datagram(data, source if len(source) == 2 else source[:2], arrival)
    except Exception:
        log.exception("a datagram was not handled")


def _sender(bound: socket.socket) -> Callable[[bytes, Address], None]:
    sendto = bound.sendto

    def send(data: bytes, address: Address) -> None:
        try:  # noqa: SIM105 - every packet passes here
            sendto(data, address)
        except OSError:  # a full buffer, a route that is not there: the watchdog judges
            pass

    return send


def _bind(host: str, port: int) -> socket.socket:
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
        with suppress(OSError):
            bound.setsockopt(socket.SOL_SOCKET, _TIMESTAMPNS, 1)
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
