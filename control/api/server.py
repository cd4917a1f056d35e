"""The HTTP listener: uvicorn, inside our loop and under our supervisor.

No signal handlers, no logging set-up and no exits of its own; proxies' headers are not believed. A connection whose
request's head is not whole in 10 s is cut, so that idle ones cannot fill the table.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Final

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

__all__ = ["ApiServer"]

GRACE_S: Final = 5
MAX_CONNECTIONS: Final = 512
KEEP_ALIVE_S: Final = 20
HEAD_TIMEOUT_S: Final = 10.0


# A line for each connection that sends no HTTP would be its sender's to multiply: only our own failures are written.
_connection_log: Final = logging.getLogger("truedy.api.connection")
_connection_log.setLevel(logging.ERROR)


class _Protocol(H11Protocol):
    """uvicorn's, with a deadline for each request's head: its own timer stops at the first byte."""

    _head_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.logger = _connection_log
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            self._head_is_whole()
        elif self._head_deadline is None:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_whole()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._head_deadline = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.abort)

    def _head_is_whole(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None


class ApiServer:
    """Serves ``app`` on one socket: :meth:`start`, then :meth:`run` as a task, then :meth:`close`."""

    def __init__(self, app: FastAPI, listener: socket.socket) -> None:
        """``listener`` listens, and is closed with the server."""
        self._listener: socket.socket | None = listener
        self._running = False
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                http=_Protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                limit_concurrency=MAX_CONNECTIONS,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=GRACE_S,
            )
        )

    async def start(self) -> None:
        """Accept connections."""
        config = self._server.config
        config.load()
        self._server.lifespan = config.lifespan_class(config)
        await self._server.startup(sockets=[self._listener] if self._listener is not None else [])

    async def run(self) -> None:
        """Serve until :meth:`close`, then let requests in progress finish, for 5 s at most."""
        self._running = True
        try:
            await self._server.main_loop()
        finally:
            await self._shut_down()

    async def close(self) -> None:
        """Ask :meth:`run` to end; without a run, close here."""
        self._server.should_exit = True
        if not self._running:
            await self._shut_down()

    async def _shut_down(self) -> None:
        if self._listener is not None:
            listener, self._listener = self._listener, None
            await self._server.shutdown(sockets=[listener])
