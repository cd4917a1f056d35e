"""What ``python -m media.recorder`` runs: the process that encodes, encrypts and writes a media worker's recordings.

Media hands it batches of frames over a pipe and never waits for it; its disk may be slow or full, and no call feels
it. It lives as long as its pipe: when the worker dies, it finishes what it has, marked as not complete, and leaves.

It logs nothing: what goes wrong is told to the worker. A batch that is missing leaves silence of its length, so that
both sides stay in time with the call.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal, Protocol

import msgspec
import numpy as np

from media.agents.base import Encoding
from media.audio_file import AudioFile, Samples
from media.convert import Converter, frame_bytes
from media.pipe import Framer, adopt, frame
from media.recording_file import SUFFIXES, Count, Format, SealedWriter, Trailer

__all__ = ["Audio", "Begin", "End", "Kept", "RecorderInput", "Store", "main", "on_disk"]

# --- messages ---------------------------------------------------------------------------------


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Base; ``call`` is the call's id."""

    call: str


class Begin(_Message, frozen=True, kw_only=True):
    """A new file at ``path`` (without its suffix) whose first bytes are ``head``, encrypted with ``key``."""

    path: str
    head: bytes
    key: bytes
    format: Format
    rate_hz: int

    def __repr__(self) -> str:
        return f"Begin(call={self.call!r}, path={self.path!r})"


class Audio(_Message, frozen=True, kw_only=True):
    """Frames of 20 ms from the ``at``-th of the call on: what was heard, and what was said to the phone."""

    at: int
    encoding: Encoding
    heard: bytes
    said: bytes


class End(_Message, frozen=True, kw_only=True):
    """The recording is over, ``frames`` after the call's start."""

    frames: int


class Kept(_Message, frozen=True, kw_only=True):
    """What has come of a recording.

    ``status`` is ``completed``, ``cut`` (its end is missing, or whoever sent it died) or ``failed`` (there is no
    file). ``problem`` says what went wrong with the disk, also where it was overcome.
    """

    status: Literal["completed", "cut", "failed"]
    frames: int
    gap_frames: int
    bytes: int
    problem: str = ""


RecorderInput = Begin | Audio | End

_decoder: Final[msgspec.msgpack.Decoder[RecorderInput]] = msgspec.msgpack.Decoder(RecorderInput)
_encode: Final = msgspec.msgpack.Encoder().encode

# --- files ------------------------------------------------------------------------------------


class Store(Protocol):
    """One file that is being written."""

    @property
    def size(self) -> int:
        """Bytes written."""

    def write(self, data: bytes) -> None:
        """Append all of it; OSError, and none of it is there."""

    def close(self, *, keep: bool) -> None:
        """Give it its last name, or remove it."""


class _DiskFile:
    """A file of this process's own, readable by its owner alone."""

    def __init__(self, path: Path) -> None:
        self._part, self._whole = (path.with_name(path.name + suffix) for suffix in SUFFIXES)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._descriptor = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.size = 0

    def write(self, data: bytes) -> None:
        written = 0
        try:
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
        except OSError:
            os.ftruncate(self._descriptor, self.size)
            os.lseek(self._descriptor, self.size, os.SEEK_SET)
            raise
        self.size += written

    def close(self, *, keep: bool) -> None:
        os.close(self._descriptor)
        with contextlib.suppress(OSError):
            if keep:
                self._part.rename(self._whole)
            else:
                self._part.unlink()


def on_disk(path: str) -> Store:
    """A new file; OSError when there can be none."""
    return _DiskFile(Path(path))


# --- one recording ----------------------------------------------------------------------------


class _Recording:
    """One call's: batches in, chunks out."""

    WAITING_LIMIT_BYTES: Final = 256 * 1024
    """While the disk takes nothing, so much waits to be written; audio beyond it is lost."""

    SILENCE_FRAMES: Final = 500
    """Gaps are written in pieces no longer than this."""

    def __init__(self, begin: Begin, make: Callable[[str], Store]) -> None:
        self._begin = begin
        self._converters: dict[tuple[Encoding, str], Converter] = {}
        self._linear = _linear(begin.rate_hz)
        self._frames = self._gap_frames = 0
        self._problem = ""
        self._store: Store | None = None
        self._audio = AudioFile(begin.format, begin.rate_hz)
        try:
            self._store = make(begin.path)
            self._store.write(begin.head)
        except OSError as error:
            self._failed(error)
            self._discard()
        self._writer = SealedWriter(begin.key, begin.call, self._write)

    def _discard(self) -> None:
        if self._store is not None:
            self._store.close(keep=False)
            self._store = None

    def _write(self, data: bytes) -> None:
        if self._store is not None:
            self._store.write(data)

    def _failed(self, error: OSError) -> None:
        self._problem = error.strerror or str(error)

    def put(self, audio: Audio) -> None:
        """The next batch; what comes twice or too late is left out."""
        if self._store is None or audio.at < self._frames:
            return
        self._silence_until(audio.at)
        if self._has_room():
            encoding = audio.encoding
            sides = [self._samples(encoding, "heard", audio.heard), self._samples(encoding, "said", audio.said)]
            length = min(map(len, sides))
            self._frames += len(audio.heard) // frame_bytes(encoding)
            self._append(np.stack([side[:length] for side in sides], axis=1))

    def _silence_until(self, frame: int) -> None:
        """What is missing before the ``frame``-th."""
        while (missing := min(frame - self._frames, self.SILENCE_FRAMES)) > 0 and self._has_room():
            self._frames += missing
            self._gap_frames += missing
            self._append(np.zeros((missing * self._begin.rate_hz // 50, 2), dtype=np.int16))

    def _has_room(self) -> bool:
        """Whether the disk has taken what came before, or most of it."""
        if self._writer.waiting_bytes:
            with contextlib.suppress(OSError):
                self._writer.flush()
        return self._writer.waiting_bytes < self.WAITING_LIMIT_BYTES

    def _samples(self, encoding: Encoding, side: str, audio: bytes) -> Samples:
        converter = self._converters.get((encoding, side))
        if converter is None:
            converter = self._converters[encoding, side] = Converter(encoding, self._linear)
        return np.frombuffer(converter(audio), dtype=np.int16)

    def _append(self, samples: Samples) -> None:
        if piece := self._audio.put(samples):
            self._seal(piece)

    def _seal(self, piece: bytes) -> None:
        try:
            self._writer.append(piece, Count(self._frames, self._gap_frames, self._audio.whole))
        except OSError as error:
            self._failed(error)

    def finish(self, frames: int | None = None) -> Kept:
        """The end: ``frames`` after the call's start; None: nobody can say, for the sender is gone."""
        if self._store is not None and frames is not None:
            self._silence_until(frames)
        last, first = self._audio.close()
        store = self._store
        if store is None:
            return self._kept("failed", max(frames or 0, self._frames), 0)
        self._seal(last)
        try:
            self._writer.finish(Trailer(complete=frames is not None, first=first))
        except OSError as error:
            self._failed(error)
        whole = not self._writer.waiting_bytes
        store.close(keep=True)
        return self._kept("completed" if whole and frames is not None else "cut", frames or self._frames, store.size)

    def _kept(self, status: Literal["completed", "cut", "failed"], frames: int, size: int) -> Kept:
        gap = self._gap_frames + max(frames - self._frames, 0) if status != "failed" else frames
        return Kept(
            call=self._begin.call, status=status, frames=frames, gap_frames=gap, bytes=size, problem=self._problem
        )


_LINEAR: Final[dict[int, Encoding]] = {8000: "L16", 16000: "L16/16000", 24000: "L16/24000", 48000: "L16/48000"}


def _linear(rate_hz: int) -> Encoding:
    return _LINEAR[rate_hz]


class Recorder:
    """All recordings of one worker. ``tell`` is given what has come of each."""

    def __init__(self, tell: Callable[[Kept], None], make: Callable[[str], Store] = on_disk) -> None:
        self._tell = tell
        self._make = make
        self._recordings: dict[str, _Recording] = {}

    def receive(self, data: bytes) -> None:
        """One message of the worker's."""
        message = _decoder.decode(data)
        recording = self._recordings.get(message.call)
        match message:
            case Begin() if recording is None:
                self._recordings[message.call] = _Recording(message, self._make)
            case Audio() if recording is not None:
                recording.put(message)
            case End() if recording is not None:
                del self._recordings[message.call]
                self._tell(recording.finish(message.frames))
            case _:
                pass

    def close(self) -> None:
        """The worker is gone: keep what there is."""
        while self._recordings:
            self._tell(self._recordings.popitem()[1].finish())


# --- the process ------------------------------------------------------------------------------

_READ_BYTES: Final = 256 * 1024
_NICE: Final = 10
"""Below the worker that started it, and below control, which that one may be before."""


def serve(descriptor: int) -> int:
    """Until the pipe's end. Reading waits for the disk: that is what bounds this process."""
    pipe = adopt(descriptor)
    pipe.setblocking(True)

    def tell(kept: Kept) -> None:
        with contextlib.suppress(OSError):
            pipe.sendall(frame(_encode(kept)))

    recorder, framer = Recorder(tell), Framer()
    with pipe:
        try:
            while data := pipe.recv(_READ_BYTES):
                for message in framer.feed(data):
                    recorder.receive(message)
        except ConnectionError:
            pass
        recorder.close()
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Serve; returns the exit status. Keys and audio are in this memory: no core of it is dumped."""
    parser = argparse.ArgumentParser(prog="truedy-edge recorder")
    parser.add_argument("--fd", type=int, required=True)
    given = parser.parse_args(argv)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(_NICE)
    return serve(given.fd)


if __name__ == "__main__":
    sys.exit(main())
