"""TCP links to agents, the edge being the client: the only bare TCP of media.

As with WebSockets, one parked task owns each link from the first connection attempt to its end, and the same handler
hears of it; but a stream has no messages, so ``on_message`` is given whatever has come.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final, cast

from media.targets import Targets
from media.tasks import Tasks
from media.websocket import LinkHandler, classify, plain

__all__ = ["StreamClient", "StreamLink"]

_HIGH_WATER_BYTES: Final = 16 * 1024
_CLOSE_TIMEOUT_S: Final = 2.0
_SILENT_PEER_S: Final = 20
"""A peer that acknowledges nothing for so long is gone [s]."""


class StreamLink(asyncio.Protocol):
    """One connection to an agent."""

    def __init__(self, handler: LinkHandler) -> None:
        self._handler: LinkHandler | None = handler
        self._transport: asyncio.Transport | None = None
        self._closing = False
        self._eof = False
        self._abort: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._gone: asyncio.Future[None] | None = None
        self.writable = False

    def send(self, data: bytes) -> None:
        """Ignored when the link is not open. Look at ``writable`` before sending media."""
        if self._transport is not None and not self._closing:
            self._transport.write(data)

    def close(self) -> None:
        """Close in order: what was sent, our end of the stream, the peer's in return (2 s at most).

        The handler hears no more. A connection attempt under way is given up.
        """
        self._handler = None
        if self._closing:
            return
        self._closing = True
        if self._transport is not None:
            # Closed at once, with something of the peer's unread, it would be a reset that overtakes our last words.
            self._transport.write_eof()
            self._abort = asyncio.get_running_loop().call_later(_CLOSE_TIMEOUT_S, self._transport.abort)
        elif self._task is not None:
            self._task.cancel()

    # --- the loop calls these -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
        self.writable = True
        if self._handler is not None:
            self._handler.on_open()

    def data_received(self, data: bytes) -> None:
        """Some of the stream."""
        if self._handler is not None:
            self._handler.on_message(data, False)

    def eof_received(self) -> bool:
        """The peer says no more."""
        self._eof = True
        return False

    def pause_writing(self) -> None:
        """The agent reads too slowly."""
        self.writable = False

    def resume_writing(self) -> None:
        """The agent has caught up."""
        self.writable = True
        if self._handler is not None and not self._closing:
            self._handler.on_writable()

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone; without an error the peer has closed it."""
        self.writable = False
        self._transport = None
        if self._abort is not None:
            self._abort.cancel()
        handler, self._handler = self._handler, None
        if handler is not None:
            orderly = self._eof and error is None
            how = "closed by the agent" if orderly else plain(f"the connection was lost: {error or 'cut'}")
            handler.on_closed(orderly, how)
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)

    # --------------------------------------------------------------------------------------------

    def start(self, tasks: Tasks, targets: Targets, address: tuple[str, int], timeout_s: float, name: str) -> None:
        """Begin to connect, in a task of ``tasks``."""
        self._gone = asyncio.get_running_loop().create_future()
        self._task = tasks.spawn(self._run(targets, address, timeout_s, self._gone), name)

    async def _run(
        self, targets: Targets, address: tuple[str, int], timeout_s: float, gone: asyncio.Future[None]
    ) -> None:
        """Connect, serve until the end, and tell the handler how it ended."""
        try:
            async with asyncio.timeout(timeout_s):
                connected = await targets.connect(*address, timeout_s)
                await self._adopt(connected)
        except (Exception, asyncio.CancelledError) as error:
            handler, self._handler = self._handler, None
            if self._transport is not None:
                self._transport.abort()
            if handler is not None:
                handler.on_failed(*classify(error))
            if isinstance(error, asyncio.CancelledError):
                raise
            return
        try:
            await gone
        finally:
            if self._transport is not None:
                self._transport.abort()

    async def _adopt(self, connected: socket.socket) -> None:
        try:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENT_PEER_S * 1000)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _SILENT_PEER_S)
            await asyncio.get_running_loop().create_connection(lambda: self, sock=connected)
        except BaseException:
            connected.close()
            raise


class StreamClient:
    """Makes links, to where ``targets`` allows."""

    def __init__(self, tasks: Tasks, targets: Targets) -> None:
        self._tasks = tasks
        self._targets = targets

    def connect(self, host: str, port: int, handler: LinkHandler, timeout_s: float, name: str) -> StreamLink:
        """Begin to connect; ``name`` names the task. The handler hears how it goes."""
        link = StreamLink(handler)
        link.start(self._tasks, self._targets, (host, port), timeout_s, name)
        return link
