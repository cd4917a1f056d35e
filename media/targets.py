"""Which addresses an agent may have, and the only way to connect to one.

An agent's URL is written by whoever holds an account, and the edge stands inside somebody's network: unless the
operator says ``agents.allow_private``, nothing but a public address is connected to. What is checked is the address
itself, after the name was resolved, and the very address that was checked is connected to: a name that resolves
differently a moment later gains nothing. Redirects are never followed.

An I/O module: it resolves names and opens sockets. How to use it:

- a WebSocket: :class:`media.websocket.WebSocketClient` connects by :meth:`Targets.connect` already;
- any other stream: ``await host.targets.connect(name, port, timeout_s)`` gives a connected, non-blocking socket for
  ``asyncio.open_connection(sock=…, ssl=…, server_hostname=name)``. :class:`TargetRefused` is an OSError;
- HTTP: :func:`media.http.client` makes an httpx client that goes this way, keeps the name in ``Host`` and for TLS;
- at creation, where the settings forbid private addresses: :func:`literal_problem` on the URL's host.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import re
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final

__all__ = ["Resolved", "TargetRefused", "Targets", "literal_problem", "private_kind"]

Resolved = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]
"""One of ``getaddrinfo``'s answers: family, kind, protocol, name, socket address."""

Resolve = Callable[[str, int], Awaitable[list[Resolved]]]

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_NAT64_LOCAL: Final = ipaddress.IPv6Network("64:ff9b:1::/48")
_SHARED: Final = ipaddress.IPv4Network("100.64.0.0/10")
_METADATA: Final = frozenset(
    map(ipaddress.ip_address, ("169.254.169.254", "169.254.170.2", "100.100.100.200", "fd00:ec2::254"))
)
_NUMERIC: Final = re.compile(r"(0x[0-9a-f]*|[0-9]+)\.?", re.ASCII | re.IGNORECASE)

SEND_BUFFER_BYTES: Final = 64 * 1024
"""Kernel; about 4 s of caller audio in a WebSocket, so that a stall is noticed soon."""


class TargetRefused(OSError):
    """The name has no address that may be connected to. The text names the kind of address, which reveals no secret."""


def private_kind(address: str) -> str | None:
    """What makes this address (a literal) one that no agent may have, in a word; None for a public one.

    An IPv4 address inside an IPv6 one (mapped, NAT64, 6to4, Teredo) is judged for itself.
    """
    try:
        return _kind(ipaddress.ip_address(address))
    except ValueError:
        return "unreadable"


def _kind(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str | None:
    if isinstance(ip, ipaddress.IPv6Address):
        inner = _embedded(ip)
        if inner is not None:
            return _kind(inner)
        if ip in _NAT64_LOCAL or ip.is_site_local:
            return "private"
    if ip in _METADATA:
        return "metadata"
    for word, applies in (
        ("unspecified", ip.is_unspecified),
        ("loopback", ip.is_loopback),
        ("link-local", ip.is_link_local),
        ("multicast", ip.is_multicast),
        ("shared", ip.version == 4 and ip in _SHARED),
        ("reserved", ip.is_reserved),
        ("private", not ip.is_global),
    ):
        if applies:
            return word
    return None


def _embedded(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    if ip.teredo is not None:
        return ip.teredo[1]
    return ip.ipv4_mapped or ip.sixtofour


def literal_problem(host: str) -> str | None:
    """Why this host of a URL can never be connected to, as far as its text tells; None for any other name.

    ``host`` is without brackets. Forms that only old resolvers read as an address (``2130706433``, ``0x7f.1``) count.
    """
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return "is this machine"
    try:
        ip = ipaddress.ip_address(name)
    except ValueError:
        last = name.rpartition(".")[2]
        return "is no address in its usual form" if _NUMERIC.fullmatch(last) else None
    kind = _kind(ip)
    return f"is a {kind} address" if kind else None


async def _system(host: str, port: int) -> list[Resolved]:
    loop = asyncio.get_running_loop()
    return [(f, k, p, n, a) for f, k, p, n, a in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class Targets:
    """Resolves, checks, connects. ``allow_private`` is for labs and for agents inside the operator's own network."""

    def __init__(self, *, allow_private: bool = False, resolve: Resolve = _system) -> None:
        self.allow_private = allow_private
        self._resolve = resolve
        self.refused = 0

    async def resolve(self, host: str, port: int) -> list[Resolved]:
        """The addresses of ``host`` that may be connected to; OSError when it has none at all.

        Raises :class:`TargetRefused` when none of those it has is allowed.
        """
        found = await self._resolve(host, port)
        if not found:
            raise OSError(f"no address for {host}")
        if self.allow_private:
            return found
        allowed = [each for each in found if private_kind(str(each[4][0])) is None]
        if not allowed:
            self.refused += 1
            kind = private_kind(str(found[0][4][0]))
            raise TargetRefused(f"{host} has a {kind} address, and agents.allow_private is off")
        return allowed

    async def connect(self, host: str, port: int, timeout_s: float) -> socket.socket:
        """A connected, non-blocking socket: to the first allowed address that answers within its share of the time.

        Raises OSError, TimeoutError (one too) and :class:`TargetRefused`. The caller owns the socket.
        """
        found = await self.resolve(host, port)
        failure = OSError(f"no address for {host}")
        for family, kind, protocol, _, address in found:
            try:
                return await self._attempt(family, kind, protocol, address, timeout_s / len(found))
            except OSError as error:
                failure = error
        raise failure

    async def _attempt(
        self, family: int, kind: int, protocol: int, address: tuple[Any, ...], timeout_s: float
    ) -> socket.socket:
        attempt = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
        try:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            if not _connected_at_once(attempt, address):
                async with asyncio.timeout(timeout_s):
                    await asyncio.get_running_loop().sock_connect(attempt, address)
        except BaseException:
            attempt.close()
            raise
        return attempt


def _connected_at_once(attempt: socket.socket, address: tuple[Any, ...]) -> bool:
    """An agent on this machine is there before the loop has turned once, which it may do slowly."""
    if (error := attempt.connect_ex(address)) not in (0, errno.EINPROGRESS):
        raise OSError(error, os.strerror(error))
    try:
        attempt.getpeername()
    except OSError:
        return False
    return True
