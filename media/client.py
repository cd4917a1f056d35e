"""Control's side of the messages, over any pipe."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from media.messages import Command, Failed, Notice, NoticeBody, ProtocolError, Reply, Request, Result, decode, encode
from media.pipe import PipeFull

__all__ = ["MediaClient", "MediaError", "MediaGone", "MediaTimeout"]

log = logging.getLogger("truedy.media.client")


class MediaError(Exception):
    """Media gave no reply: :class:`MediaTimeout` or :class:`MediaGone`."""


class MediaTimeout(MediaError):
    """No reply within the deadline and its grace. The command may have been carried out: close the call."""

    def __init__(self, command: str, waited_s: float) -> None:
        super().__init__(f"no reply to {command} in {waited_s:g} s")
        self.command = command
        self.waited_s = waited_s


class MediaGone(MediaError):
    """The worker has ended, or is not there yet; its calls are gone with it."""


class MediaClient:
    """Requests and their replies over a pipe: ``send`` takes each message's bytes, ``receive`` is given them.

    ``epoch`` names the worker's life; what an earlier life still sends is dropped.
    """

    GRACE_S: Final = 1.0
    """On top of a command's deadline, for the pipe itself."""

    def __init__(self, send: Callable[[bytes], None], on_notice: Callable[[NoticeBody], None], epoch: int = 0) -> None:
        self._send = send
        self._on_notice = on_notice
        self._epoch = epoch
        self._next_id = 1
        self._waiting: dict[int, asyncio.Future[Result]] = {}
        self._gone: str | None = None
        self.dropped = 0

    @property
    def pending(self) -> int:
        """Requests without a reply yet."""
        return len(self._waiting)

    async def request(self, command: Command, deadline_s: float = 5.0) -> Result:
        """Send one command; :class:`Failed` is returned, with ``overload`` when the pipe is full.

        Raises :class:`MediaTimeout` or :class:`MediaGone`.
        """
        if self._gone is not None:
            raise MediaGone(self._gone)
        request_id, self._next_id = self._next_id, self._next_id + 1
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[Result] = loop.create_future()
        self._waiting[request_id] = waiting
        late = loop.call_later(deadline_s + self.GRACE_S, self._late, waiting, type(command).__name__, deadline_s)
        try:
            self._send(encode(Request(request_id=request_id, deadline_s=deadline_s, body=command, epoch=self._epoch)))
            return await waiting
        except PipeFull as error:
            return Failed(code="overload", message=str(error))
        finally:
            late.cancel()
            del self._waiting[request_id]

    def _late(self, waiting: asyncio.Future[Result], command: str, deadline_s: float) -> None:
        if not waiting.done():
            waiting.set_exception(MediaTimeout(command, deadline_s + self.GRACE_S))

    def receive(self, data: bytes) -> None:
        """One message from media. What is no message of ours is dropped and counted."""
        try:
            envelope = decode(data)
        except ProtocolError as error:
            self.dropped += 1
            log.warning("unreadable message from media", extra={"error": str(error)})
            return
        if envelope.epoch != self._epoch:
            self.dropped += 1
        elif isinstance(envelope, Notice):
            self._on_notice(envelope.body)
        elif isinstance(envelope, Reply):
            waiting = self._waiting.get(envelope.request_id)
            if waiting is not None and not waiting.done():
                waiting.set_result(envelope.body)
        else:
            self.dropped += 1

    def gone(self, reason: str) -> None:
        """The pipe has broken: every request under way, and every later one, raises :class:`MediaGone`."""
        self._gone = reason
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(MediaGone(reason))
