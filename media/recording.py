"""The worker's side of recording: the recorder's process and, for each recorded call, what is handed to it.

Nothing here waits for the disk or for the other process. What the pipe does not take at once waits in a bounded
queue; when that is full, batches are dropped, and the recorder leaves silence in their place.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable
from typing import Final

import msgspec

from media import g711
from media.agents.base import Encoding, Spawn
from media.convert import frame_bytes, is_linear, rate_hz
from media.messages import NoticeBody, RecordingEnded, RecordingOrder
from media.pipe import Pipe, PipeFull, pair
from media.recorder import Audio, Begin, End, Kept, RecorderInput

__all__ = ["CallRecording", "RecorderLink"]

log = logging.getLogger("truedy.media.recording")

_encode: Final = msgspec.msgpack.Encoder().encode
_decoder: Final = msgspec.msgpack.Decoder(Kept)

Send = Callable[[RecorderInput], None]


class CallRecording:
    """One call's two sides, gathered into batches; ``heard`` and ``said`` are called equally often, ``heard`` last."""

    BATCH_FRAMES: Final = 25

    __slots__ = ("_at", "_call", "_encoding", "_full_bytes", "_heard", "_said", "_send", "_silence")

    def __init__(self, call: str, encoding: Encoding, send: Send) -> None:
        self._call = call
        self._send = send
        self._at = 0
        self._heard = bytearray()
        self._said = bytearray()
        self._adopt(encoding)

    def _adopt(self, encoding: Encoding) -> None:
        self._encoding = encoding
        size = frame_bytes(encoding)
        self._silence = bytes(size) if is_linear(encoding) else g711.silence(encoding, size)
        self._full_bytes = size * self.BATCH_FRAMES

    def said(self, frame: bytes | None) -> None:
        """20 ms that went to the phone; None: silence did."""
        self._said += self._silence if frame is None else frame

    def heard(self, frame: bytes) -> None:
        """20 ms of the caller."""
        self._heard += frame
        if len(self._heard) >= self._full_bytes:
            self.flush()

    def skip(self, frames: int) -> None:
        """Time in which nothing was heard or said."""
        self.flush()
        self._at += frames

    def flush(self) -> None:
        """Hand over what has been gathered."""
        frames = len(self._heard) // len(self._silence)
        if frames:
            heard, said = bytes(self._heard), bytes(self._said)
            self._send(Audio(call=self._call, at=self._at, encoding=self._encoding, heard=heard, said=said))
            self._heard.clear()
            self._said.clear()
            self._at += frames

    def change(self, encoding: Encoding) -> None:
        """The leg's encoding is another from the next frame on."""
        if encoding != self._encoding:
            self.flush()
            self._adopt(encoding)

    def end(self) -> None:
        """The call is over."""
        self.flush()
        self._send(End(call=self._call, frames=self._at))


class RecorderLink:
    """The recorder's process: started when the first call is to be recorded, and again should it die.

    ``notify`` hears of every recording's end, once.
    """

    QUEUE_LIMIT_BYTES: Final = 16 * 1024 * 1024
    """What may wait for the recorder; 100 calls of G.711 fill it in 10 s."""

    CLOSE_S: Final = 3.0
    """How long it may take to finish its files when the worker leaves."""

    def __init__(self, notify: Callable[[NoticeBody], None], spawn: Spawn) -> None:
        self._notify = notify
        self._spawn = spawn
        self._life: _Life | None = None
        self._open: set[str] = set()
        self.dropped = 0

    @property
    def queued(self) -> int:
        """Bytes that wait for the recorder."""
        return 0 if self._life is None else self._life.queued

    def prepare(self) -> None:
        """Have a process. It starts beside: what it is sent meanwhile waits."""
        if self._life is None:
            life = self._life = _Life(self._told, self.QUEUE_LIMIT_BYTES)
            life.keeper = self._spawn(self._live(life), "recorder")

    async def _live(self, life: _Life) -> None:
        problem = "the recorder died"
        try:
            await life.run(lambda: self._lost(life, problem))
        except OSError as error:
            problem = f"the recorder cannot be started: {error.strerror or error}"
        finally:
            self._lost(life, problem)

    def begin(self, call: str, order: RecordingOrder, encoding: Encoding) -> CallRecording:
        """Record from now on. Raises KeyError for a call that is being recorded."""
        if call in self._open:
            raise KeyError(call)
        self._open.add(call)
        recording = CallRecording(call, encoding, self._send)
        self._send(
            Begin(
                call=call,
                path=order.path,
                head=order.head,
                key=order.key,
                format=order.format,
                rate_hz=rate_hz(encoding),
            )
        )
        return recording

    async def close(self) -> None:
        """Let it finish its files; it leaves by itself, later than this if its disk is stuck."""
        life = self._life
        if life is not None and life.keeper is not None:
            life.hang_up()
            await asyncio.wait((life.keeper,), timeout=self.CLOSE_S)

    def _send(self, message: RecorderInput) -> None:
        if message.call not in self._open:
            return
        try:
            if self._life is None:
                raise PipeFull(0, 0)
            self._life.send(_encode(message))
        except PipeFull:
            self.dropped += 1
            if not isinstance(message, Audio):
                # Without its first or last word the recorder can make nothing more of this call.
                self._give_up(message.call, "the recorder does not keep up")

    def _give_up(self, call: str, problem: str) -> None:
        if call in self._open:
            self._open.remove(call)
            self._notify(RecordingEnded(call=call, status="cut", problem=problem))

    def _told(self, data: bytes) -> None:
        kept = _decoder.decode(data)
        if kept.call not in self._open:
            return
        self._open.remove(kept.call)
        if kept.problem:
            log.error("a recording's disk failed", extra={"call": kept.call, "problem": kept.problem})
        self._notify(
            RecordingEnded(
                call=kept.call,
                status=kept.status,
                seconds=kept.frames / 50,
                gaps_ms=kept.gap_frames * 20,
                bytes=kept.bytes,
                problem=kept.problem,
            )
        )

    def _lost(self, life: _Life, problem: str) -> None:
        if self._life is not life:
            return
        self._life = None
        if self._open:
            log.error("recordings are cut", extra={"calls": len(self._open), "problem": problem})
        for call in tuple(self._open):
            self._give_up(call, problem)


class _Life:
    """One process and the pipe to it, from its start to its end."""

    keeper: asyncio.Task[None] | None = None

    def __init__(self, told: Callable[[bytes], None], limit_bytes: int) -> None:
        self._told = told
        self._limit = limit_bytes
        self._pipe: Pipe | None = None
        self._early: list[bytes] = []
        self._leaving = False

    @property
    def queued(self) -> int:
        return sum(map(len, self._early)) + (self._pipe.queued if self._pipe is not None else 0)

    def send(self, data: bytes) -> None:
        """Raises :class:`PipeFull`."""
        if self._pipe is not None:
            self._pipe.send(data)
        elif self.queued + len(data) > self._limit:
            raise PipeFull(self.queued, self._limit)
        else:
            self._early.append(data)

    def hang_up(self) -> None:
        """Let the process see the end of the pipe, once it has read all."""
        self._leaving = True
        if self._pipe is not None:
            self._pipe.close()

    async def run(self, lost: Callable[[], None]) -> None:
        """Until the process has ended; ``lost`` is called when its pipe has. OSError when there can be no process."""
        ours, theirs = pair()
        with theirs:
            try:
                process = await _start(theirs.fileno())
            except BaseException:
                ours.close()
                raise
        pipe = Pipe(self._told, lambda reason: lost(), limit_bytes=self._limit)
        await pipe.open(ours)
        self._pipe = pipe
        for data in self._early:
            pipe.send(data)
        self._early.clear()
        if self._leaving:
            pipe.close()
        await process.wait()
        await pipe.closed()


async def _start(descriptor: int) -> Process:
    # -P: what lies in the working directory must not pass for our modules. The path is this process's own.
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "media.recorder", "--fd", str(descriptor)),
        stdin=DEVNULL,
        stdout=DEVNULL,
        pass_fds=(descriptor,),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(entry or os.curdir for entry in sys.path)},
    )
