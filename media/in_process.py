"""Media in this process: :class:`InProcessMedia` stands where :class:`control.workers.MediaWorkers` does."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from media.client import MediaClient
from media.messages import Command, NoticeBody, Result
from media.service import MediaService
from media.settings import ServiceSettings
from media.ticker import Ticker

__all__ = ["InProcessMedia"]

log = logging.getLogger("truedy.media.client")


class _Pipe:
    """Bytes to ``deliver`` in order, never within the sender's call."""

    deliver: Callable[[bytes], None]

    def __init__(self) -> None:
        self._queue: deque[bytes] = deque()
        self._scheduled = False

    def send(self, data: bytes) -> None:
        self._queue.append(data)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        for _ in range(len(self._queue)):
            try:
                self.deliver(self._queue.popleft())
            except Exception:
                log.exception("a media message was not handled")


class InProcessMedia:
    """Media in this process, behind the same messages and codec as in another.

    ``on_notice`` is called from the loop, never within a request. Next: ``await start()``, then
    ``request``; ``await close()`` ends all calls.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        *,
        on_notice: Callable[[NoticeBody], None],
        entropy: Callable[[int], bytes],
        clock: Callable[[], float] = Ticker.now,
    ) -> None:
        to_service = _Pipe()
        to_client = _Pipe()
        self.client = MediaClient(to_service.send, on_notice, settings.epoch)
        self.service = MediaService(settings, send=to_client.send, entropy=entropy, clock=clock)
        to_service.deliver, to_client.deliver = self.service.receive, self.client.receive

    async def start(self) -> None:
        """Read the recordings, begin to tick."""
        await self.service.start()

    async def request(self, command: Command, deadline_s: float = 5.0) -> Result:
        """See :meth:`MediaClient.request`."""
        return await self.client.request(command, deadline_s)

    async def close(self) -> None:
        """End all calls and free everything; requests under way raise :class:`MediaGone`."""
        await self.service.close()
        self.client.gone("media is closed")
