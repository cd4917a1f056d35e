"""Free ports on loopback for programs that cannot take port 0 and tell.

They lie below the kernel's ephemeral range, so that no socket of ours takes one by chance between finding and using it,
and each process of a parallel run has a share of its own.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from pathlib import Path

__all__ = ["free_port", "free_ports", "hostport", "until_bound"]

_SHARE, _SHARES = 3000, 4
_LOW = 20000 + _SHARE * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % _SHARES)
_HIGH = _LOW + _SHARE
_next = itertools.count(_LOW + os.getpid() * 64 % (_HIGH - _LOW))


def _is_free(port: int, host: str) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(family, kind) as probe:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True


def free_ports(count: int, host: str = "127.0.0.1") -> int:
    """The first, an even one, of ``count`` neighbouring ports that are free for UDP and TCP."""
    for _ in range(_HIGH - _LOW):
        first = _LOW + next(_next) % (_HIGH - _LOW)
        if first % 2 == 0 and all(_is_free(first + offset, host) for offset in range(count)):
            for _ in range(count):
                next(_next)
            return first
    raise RuntimeError(f"no {count} free ports on {host}")


def free_port(host: str = "127.0.0.1") -> int:
    """One such port."""
    return free_ports(1, host)


def hostport(host: str, port: int) -> str:
    """As in a URI (RFC 3261 §25.1): brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def until_bound(port: int, transport: str = "udp", timeout_s: float = 5.0) -> None:
    """Until a program that does not say when it is ready has its port; TimeoutError where it never does.

    The kernel is asked: a port that is tried might be taken away from the program.
    """
    table = Path("/proc/net") / transport
    async with asyncio.timeout(timeout_s):
        while not any(line.split()[1].endswith(f":{port:04X}") for line in table.read_text().splitlines()[1:]):
            await asyncio.sleep(0.01)
