"""Media as a process of its own: a :class:`~media.service.MediaService` behind one end of a pipe.

It lives as long as its pipe. When control closes the other end, or dies, the worker ends its calls,
says goodbye to their agents and is done. What starts the process gives it the pipe's descriptor.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from media.collector import FullCollections
from media.pipe import QUEUE_LIMIT_BYTES, Pipe, PipeFull, adopt
from media.service import MediaService
from media.settings import ServiceSettings
from media.ticker import Ticker

__all__ = ["Worker", "run"]

log = logging.getLogger("truedy.media.worker")


class Worker:
    """One service on one pipe. Next: ``await serve(...)``."""

    CONGESTED_BYTES: Final = QUEUE_LIMIT_BYTES // 4
    """With so much unread by control no statistics are sent: those of a later second say the same better."""

    CLOSE_S: Final = 5.0
    """How long the agents' goodbyes may take in all."""

    ATTEND_EVERY_S: Final = 1.0

    def __init__(self, settings: ServiceSettings, *, entropy: Callable[[int], bytes]) -> None:
        self.service = MediaService(settings, send=self._send, entropy=entropy, congested=self._congested)
        self._pipe = Pipe(self.service.receive, self._lost)
        self._collections = FullCollections(Ticker.now)
        self._over = asyncio.Event()
        self._failed = False

    async def serve(self, descriptor: int) -> int:
        """Until the pipe ends; the exit status, 0 when it was control that ended it.

        Requests that arrive while the service starts wait in the pipe.
        """
        end = adopt(descriptor)
        await self.service.start()
        await self._pipe.open(end)
        self._collections.begin()
        try:
            await self._until_over()
            async with asyncio.timeout(self.CLOSE_S):
                await self.service.close()
        except TimeoutError:
            log.warning("agents did not take leave in time")
        finally:
            self._collections.close()
        return 1 if self._failed else 0

    async def _until_over(self) -> None:
        while not self._over.is_set():
            self._collections.attend(self.service.calls)
            with suppress(TimeoutError):
                async with asyncio.timeout(self.ATTEND_EVERY_S):
                    await self._over.wait()

    def _congested(self) -> bool:
        return self._pipe.queued > self.CONGESTED_BYTES

    def _send(self, data: bytes) -> None:
        try:
            self._pipe.send(data)
        except PipeFull as error:
            # A reply or a notice that control never gets would leave a call behind for ever: better no worker.
            self._failed = True
            log.error("control does not read: the worker ends", extra={"queued_bytes": error.queued})
            self._pipe.abort("control does not read")

    def _lost(self, reason: str | None) -> None:
        if reason is not None:
            self._failed = True
            log.error("the pipe to control broke", extra={"reason": reason})
        self._over.set()


async def run(descriptor: int, settings: ServiceSettings, *, entropy: Callable[[int], bytes]) -> int:
    """The life of a process that does nothing else; returns its exit status.

    A terminal and a service manager send SIGINT, SIGTERM and SIGHUP to every process of the edge. They are
    control's to act on, which lets calls end before it closes the pipe.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    return await Worker(settings, entropy=entropy).serve(descriptor)
