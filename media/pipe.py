"""The pipe between control and a media worker: length-prefixed frames over a Unix stream socket.

A frame is a 32-bit length in network order and that many bytes, one encoded envelope of
:mod:`media.messages`. What waits to be written is bounded: :meth:`Pipe.send` refuses beyond it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Final, cast

__all__ = ["FRAME_LIMIT_BYTES", "QUEUE_LIMIT_BYTES", "FrameTooLong", "Framer", "Pipe", "PipeFull", "adopt", "pair"]

log = logging.getLogger("truedy.media.pipe")

FRAME_LIMIT_BYTES: Final = 8 * 1024 * 1024
"""Statistics of 2000 calls are a little over 1 MB."""

QUEUE_LIMIT_BYTES: Final = 4 * 1024 * 1024
"""What may wait for a reader who is behind."""

_LENGTH_BYTES: Final = 4


class FrameTooLong(Exception):
    """A peer announced a frame beyond the limit: the stream is out of step and cannot be read on."""

    def __init__(self, length: int, limit: int) -> None:
        super().__init__(f"a frame of {length} bytes; at most {limit} are taken")
        self.length = length
        self.limit = limit


class PipeFull(Exception):
    """The reader is so far behind that no more is queued for it."""

    def __init__(self, queued: int, limit: int) -> None:
        super().__init__(f"{queued} bytes wait for a reader; at most {limit} may")
        self.queued = queued
        self.limit = limit


def frame(data: bytes) -> bytes:
    """``data`` with its length before it."""
    return len(data).to_bytes(_LENGTH_BYTES, "big") + data


class Framer:
    """Cuts a stream into frames, however its bytes arrive."""

    def __init__(self, limit_bytes: int = FRAME_LIMIT_BYTES) -> None:
        self._limit = limit_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take what has arrived, give the frames that are whole now. Raises :class:`FrameTooLong`."""
        buffer = self._buffer
        buffer += data
        frames = []
        at = 0
        while len(buffer) - at >= _LENGTH_BYTES:
            length = int.from_bytes(buffer[at : at + _LENGTH_BYTES], "big")
            if length > self._limit:
                raise FrameTooLong(length, self._limit)
            end = at + _LENGTH_BYTES + length
            if end > len(buffer):
                break
            frames.append(bytes(buffer[at + _LENGTH_BYTES : end]))
            at = end
        del buffer[:at]
        return frames


class Pipe(asyncio.Protocol):
    """One end. ``deliver`` is given each message in order; what it raises is logged.

    ``lost`` is called once: with None when either end was closed, else with what made the pipe unusable.
    Next: ``await open(...)``.
    """

    def __init__(
        self,
        deliver: Callable[[bytes], None],
        lost: Callable[[str | None], None],
        *,
        limit_bytes: int = QUEUE_LIMIT_BYTES,
        frame_limit_bytes: int = FRAME_LIMIT_BYTES,
    ) -> None:
        self._deliver = deliver
        self._lost = lost
        self._limit = limit_bytes
        self._framer = Framer(frame_limit_bytes)
        self._transport: asyncio.Transport | None = None
        self._reason: str | None = None
        self._closed: asyncio.Future[None] | None = None
        self._room: asyncio.Event | None = None
        self.refused = 0

    @property
    def queued(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    async def open(self, end: socket.socket) -> None:
        """Take over one end of :func:`pair`."""
        loop = asyncio.get_running_loop()
        self._closed = loop.create_future()
        self._room = asyncio.Event()
        self._room.set()
        await loop.create_connection(lambda: self, sock=end)

    def send(self, data: bytes) -> None:
        """Queue one message. Raises :class:`PipeFull`; on a pipe that is lost it does nothing."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        queued = transport.get_write_buffer_size()
        if queued + len(data) > self._limit:
            self.refused += 1
            raise PipeFull(queued, self._limit)
        transport.write(frame(data))

    def close(self) -> None:
        """Write what is queued, then let the other end see the end."""
        if self._transport is not None:
            self._transport.close()

    def abort(self, reason: str) -> None:
        """End it now; what is queued is lost."""
        self._reason = reason
        if self._transport is not None:
            self._transport.abort()

    async def drained(self) -> None:
        """Until the kernel has taken most of what was sent, or the pipe is lost."""
        if self._room is not None:
            await self._room.wait()

    async def closed(self) -> None:
        """Until the socket is given back."""
        if self._closed is not None:
            await self._closed

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            frames = self._framer.feed(data)
        except FrameTooLong as error:
            self.abort(str(error))
            return
        for message in frames:
            try:
                self._deliver(message)
            except Exception:
                log.exception("a message was not handled")

    def pause_writing(self) -> None:
        if self._room is not None:
            self._room.clear()

    def resume_writing(self) -> None:
        if self._room is not None:
            self._room.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.resume_writing()
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)
        # The other end's close is an error here when it left something unread; it is a close all the same.
        self._lost(self._reason)


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends; neither is inherited by a child unless it is passed to it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


def adopt(descriptor: int) -> socket.socket:
    """The end that this process was started with."""
    end = socket.socket(fileno=descriptor)
    end.setblocking(False)
    end.set_inheritable(False)
    return end
