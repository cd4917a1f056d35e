"""Sockets as the transports open them, and what their errors are called."""

from __future__ import annotations

import errno
import ipaddress
import socket
import ssl
from functools import lru_cache

from edge.events import Address, TransportName

__all__ = ["ListenError", "bind", "is_literal", "is_loopback", "name_of", "reason_of", "tune", "unconnected"]


class ListenError(Exception):
    """A listener cannot be had: the port is in use, the address is not ours, TLS lacks its certificate."""

    def __init__(self, name: TransportName, address: Address, reason: str) -> None:
        super().__init__(f"cannot listen on {name.value}:{address}: {reason}")
        self.name = name
        self.address = address
        self.reason = reason


def bind(name: TransportName, address: Address) -> socket.socket:
    """A bound, non-blocking socket, listening if it is a stream's. Raises :class:`ListenError`.

    Port reuse is for streams only, past TIME_WAIT: on UDP Linux would let two processes share the port.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM if name.reliable else socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if name.reliable:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.bind((address.host, address.port))
        if name.reliable:
            sock.listen(512)
    except OSError as error:
        sock.close()
        raise ListenError(name, address, error.strerror or str(error)) from error
    return sock


def unconnected(remote: Address) -> socket.socket:
    """Non-blocking, of the address's family, for a stream."""
    sock = socket.socket(socket.AF_INET6 if ":" in remote.host else socket.AF_INET, socket.SOCK_STREAM)
    sock.setblocking(False)
    tune(sock)
    return sock


def tune(sock: socket.socket) -> None:
    """No Nagle delay; dead peers noticed and NAT bindings kept by TCP keep-alives every minute."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 20)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)


def name_of(sock: socket.socket) -> Address:
    """What it is bound to."""
    host, port = sock.getsockname()[:2]
    return Address(host, port)


@lru_cache(1024)
def is_literal(host: str) -> bool:
    """A name here would make the socket look it up, and block the loop."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Of this machine."""
    return host == "::1" or host.startswith("127.")


def reason_of(error: BaseException) -> str:
    """A bounded set of short texts, for counters and logs."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or 'failed'}"
    if isinstance(error, OSError) and error.errno:
        return errno.errorcode.get(error.errno, "OSError")
    return type(error).__name__
