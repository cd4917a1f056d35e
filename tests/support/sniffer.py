"""Every UDP datagram that reaches a port of this machine, whoever owns it: for programs that do not record.

Needs the right to open a raw socket (root).
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.audio import Samples
from tests.support.rtp import Packet, digits_in, hear, parse_rtp

__all__ = ["Sniffer", "can_sniff"]


def _may_open_raw_sockets() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP).close()
    except PermissionError:
        return False
    return True


can_sniff = pytest.mark.skipif(not _may_open_raw_sockets(), reason="may not open raw sockets (not root)")


class Sniffer:
    """``datagrams`` is (source port, target port, payload) of all that was seen, in order."""

    def __init__(self, raw: socket.socket, ports: range) -> None:
        self.datagrams: list[tuple[int, int, bytes]] = []
        self.packets: list[Packet] = []
        self._raw, self._ports = raw, ports

    @classmethod
    @contextmanager
    def open(cls, ports: range, host: str = "127.0.0.1") -> Iterator[Sniffer]:
        """Of datagrams to one of ``ports``, inside a running loop."""
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as raw:
            raw.setblocking(False)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            raw.bind((host, 0))
            sniffer = cls(raw, ports)
            loop.add_reader(raw.fileno(), sniffer._read)
            try:
                yield sniffer
            finally:
                loop.remove_reader(raw.fileno())

    def _read(self) -> None:
        while True:
            try:
                data = self._raw.recv(65535)
            except BlockingIOError:
                return
            start = 4 * (data[0] & 0x0F)
            source, target, length = struct.unpack_from("!HHH", data, start)
            if target in self._ports:
                payload = data[start + 8 : start + length]
                self.datagrams.append((source, target, payload))
                if packet := parse_rtp(payload, asyncio.get_running_loop().time()):
                    self.packets.append(packet)

    def audio(self) -> Samples:
        """What was heard, if it was one stream of G.711."""
        return hear(self.packets)

    def digits(self) -> str:
        """What was pressed, if it was one stream."""
        return digits_in(self.packets)
