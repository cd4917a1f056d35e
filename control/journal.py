"""The journal: each call event is one append to a file first, and reaches the registry afterwards.

:class:`Journal` writes. An append is one ``write`` on an ``O_APPEND`` descriptor: once it returns, the kernel has
the line, and a killed process loses nothing. Nothing is synced to the disk, so a power cut may take what the
kernel had not written back (some 30 s on Linux by default). No failure reaches a call: while the disk is full,
lines wait in a bounded queue, in order, and are tried again.

:class:`Replayer` reads. It applies batches to the registry, which commits the events and the position in one
transaction and skips events it has seen: replaying anything twice is harmless, so every doubt is settled by
reading again.

The file's first line names it (a random id). When everything in it is applied and it has grown, a new file takes
its place, with a new name: a position in the old one can never be mistaken for one in the new.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from control.entropy import new_id
from control.registry.records import check
from control.registry.types import CallEvent, JournalPosition, Registry, RegistryError

__all__ = ["CallEvent", "Journal", "JournalStatistics", "Replayer"]

log = logging.getLogger("truedy.journal")

_LINE_LIMIT = 64 * 1024  # bytes
_TEXT_LIMIT = 1024  # characters
_CHUNK = 256 * 1024  # bytes read or written at once
_LIFECYCLE = frozenset({"offered", "answered", "ended", "opened"})
_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})

_encoder = msgspec.json.Encoder(enc_hook=str)
_decoder = msgspec.json.Decoder(CallEvent)


@dataclass(slots=True)
class JournalStatistics:
    """Counts since the process began. ``queued`` lines wait for room; ``lost`` ones found the queue full."""

    appended: int = 0
    queued: int = 0
    lost: int = 0
    write_failures: int = 0
    applied: int = 0
    skipped: int = 0
    replay_failures: int = 0
    rotations: int = 0


class Journal:
    """The writing side. Use from one thread; one process at a time writes a file (the registry's lock sees to it)."""

    def __init__(
        self,
        path: Path,
        descriptor: int,
        *,
        entropy: Callable[[int], bytes],
        clock: Callable[[], float],
        write: Callable[[int, bytes], int] = os.write,
        queue_limit: int = 20_000,
    ) -> None:
        """Use :meth:`open`."""
        self.path = path
        self.statistics = JournalStatistics()
        self._descriptor = descriptor
        self._entropy = entropy
        self._clock = clock
        self._write = write
        self._queue: deque[bytes] = deque()
        self._queue_limit = queue_limit
        self._open_calls: set[str] = set()

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        entropy: Callable[[int], bytes],
        clock: Callable[[], float],
        write: Callable[[int, bytes], int] = os.write,
        queue_limit: int = 20_000,
    ) -> Journal:
        """Continue the file at ``path``, or begin it; OSError when there is none and none can be made.

        ``clock`` gives UTC [s]. ``queue_limit``: lines that wait for room before timeline lines are lost; lines
        that begin, answer or end a call may take as many again. Writes an ``opened`` event.
        """
        if not path.exists() or path.stat().st_size == 0:
            _begin(path, entropy)
        journal = cls(path, _open(path), entropy=entropy, clock=clock, write=write, queue_limit=queue_limit)
        if _ends_in_the_middle(path):
            journal._put(b"\n", vital=True)
        journal.append(CallEvent(id=new_id(entropy), kind="opened", at=clock()))
        return journal

    def append(self, event: CallEvent) -> None:
        """Write one line, or queue it; never raises, never waits."""
        try:
            line = _line(event)
        except Exception:
            self.statistics.lost += 1
            log.exception("a call event cannot be written", extra={"kind": event.kind, "call": event.call_id})
            return
        self._note(event)
        self._put(line, vital=event.kind in _LIFECYCLE)

    def flush(self) -> bool:
        """Try to write what waits; True when nothing does any more."""
        while self._queue:
            try:
                written = self._write(self._descriptor, self._next_chunk())
            except OSError as error:
                self._failed(error)
                return False
            self._written(written)
        return True

    def alive(self) -> None:
        """Note that the process lives, while calls are up."""
        if self._open_calls and not self._queue:
            self.append(CallEvent(id=new_id(self._entropy), kind="alive", at=self._clock()))

    def size(self) -> int:
        """Bytes in the file."""
        return os.fstat(self._descriptor).st_size

    def rotate(self, applied: JournalPosition) -> bool:
        """Begin a new file if the one at hand is ``applied`` to its last byte; False when it is not, or no room.

        No line can come between the check and the change: both are on the one thread that appends.
        """
        if self._queue:
            return False
        with self.path.open("rb") as file:
            written = JournalPosition(_name(file), self.size())
        if applied != written:
            return False
        try:
            _begin(self.path, self._entropy)
            descriptor = _open(self.path)
        except OSError as error:
            self._failed(error)
            return False
        os.close(self._descriptor)
        self._descriptor = descriptor
        self.statistics.rotations += 1
        return True

    def close(self) -> None:
        """Write what still waits, if it can be, and close the file."""
        if not self.flush():
            log.error("the journal closes with lines unwritten", extra={"queued": len(self._queue)})
        os.close(self._descriptor)

    def _put(self, line: bytes, *, vital: bool) -> None:
        limit = self._queue_limit * 2 if vital else self._queue_limit
        if len(self._queue) >= limit:
            self.statistics.lost += 1
            return
        self._queue.append(line)
        self.statistics.appended += 1
        self.statistics.queued = len(self._queue)
        if len(self._queue) == 1 or self.statistics.queued % 64 == 0:
            self.flush()

    def _next_chunk(self) -> bytes:
        if len(self._queue) == 1:
            return self._queue[0]
        size, chunk = 0, []
        for line in self._queue:
            chunk.append(line)
            size += len(line)
            if size >= _CHUNK:
                break
        return b"".join(chunk)

    def _written(self, count: int) -> None:
        """Forget what was written; of a line written in part (the disk filled in its middle) keep the rest."""
        while self._queue and count >= len(self._queue[0]):
            count -= len(self._queue.popleft())
        if count:
            self._queue[0] = self._queue[0][count:]
        self.statistics.queued = len(self._queue)

    def _note(self, event: CallEvent) -> None:
        if event.kind == "offered":
            self._open_calls.add(event.call_id)
        elif event.kind == "ended":
            self._open_calls.discard(event.call_id)

    def _failed(self, error: OSError) -> None:
        self.statistics.write_failures += 1
        if self.statistics.write_failures & (self.statistics.write_failures - 1) == 0:  # 1, 2, 4, 8 … times
            log.error("the journal cannot be written", extra={"error": str(error), "queued": len(self._queue)})


class Replayer:
    """The reading side: carries the journal into the registry, for as long as the process lives."""

    def __init__(
        self,
        journal: Journal,
        registry: Registry,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        poll_s: float = 0.2,
        retry_s: float = 0.5,
        alive_s: float = 5.0,
        rotate_bytes: int = 1_000_000,
    ) -> None:
        """``clock`` is monotonic [s].

        ``poll_s``: between looks at a journal that is applied; ``retry_s``: after a busy or full registry;
        ``alive_s``: between signs of life while calls are up; ``rotate_bytes``: a file that is applied and larger
        than this is replaced.
        """
        self._journal = journal
        self._registry = registry
        self._clock = clock
        self._sleep = sleep
        self._poll_s = poll_s
        self._retry_s = retry_s
        self._alive_s = alive_s
        self._rotate_bytes = rotate_bytes
        self._position: JournalPosition | None = None
        self._alive_at = clock()

    @property
    def behind_bytes(self) -> int:
        """What the journal holds and the registry has not taken yet; 0 when every record is where the API reads it."""
        size, position = self._journal.size(), self._position
        return size if position is None or position.offset > size else size - position.offset

    async def run(self) -> None:
        """Replay until cancelled. A registry that is busy, full or gone is tried again; the calls feel nothing.

        So is a journal that cannot be opened for want of descriptors or memory, which a flood of connections brings.
        """
        while True:
            try:
                applied = await self.step()
            except (RegistryError, OSError) as error:
                if not _passes(error):
                    raise
                self._failed(error)
                await self._sleep(self._retry_s)
                continue
            if not (applied and self._goes_on()):
                self._tend()
                await self._sleep(self._poll_s)

    async def catch_up(self) -> int:
        """Apply all there is; how many events were new. For the start, and after the last call of a drain.

        What the registry does not take now stays in the journal: :meth:`run`, or the next process, tries again.
        """
        self._journal.flush()
        before = self._journal.statistics.applied
        try:
            while await self.step():
                pass
        except (RegistryError, OSError) as error:
            if not _passes(error):
                raise
            self._failed(error)
        return self._journal.statistics.applied - before

    async def step(self) -> bool:
        """Apply one batch; False when there was none."""
        known = self._position or await self._registry.journal_position()
        with self._journal.path.open("rb") as file:
            position = self._locate(known, file)
            events, after = self._read(position, file)
        if after == position:
            return False
        try:
            applied = await self._registry.apply_events(events, after)
        except RegistryError:
            raise
        except Exception:
            applied = await self._one_by_one(events, after)
        self._journal.statistics.applied += applied
        self._position = after
        return True

    async def _one_by_one(self, events: list[CallEvent], after: JournalPosition) -> int:
        """A batch that no store can digest: all of it but the event that is to blame."""
        applied = 0
        for event in events:
            try:
                applied += await self._registry.apply_events([event])
            except RegistryError:
                raise
            except Exception:
                self._journal.statistics.skipped += 1
                log.exception("a call event cannot be applied and is skipped", extra={"event": event.id})
        return applied + await self._registry.apply_events([], after)

    def _locate(self, known: JournalPosition | None, file: BinaryIO) -> JournalPosition:
        """Where to go on: in a file that is not the one last read, and in one cut short, at its beginning."""
        name = _name(file)
        if known is None or known.journal != name or known.offset > self._journal.size():
            known = JournalPosition(name, 0)
        self._position = known
        return known

    def _read(self, position: JournalPosition, file: BinaryIO) -> tuple[list[CallEvent], JournalPosition]:
        file.seek(position.offset)
        chunk = file.read(_CHUNK)
        end = chunk.rfind(b"\n") + 1
        if end == 0 and len(chunk) == _CHUNK:  # no line of ours is as long: damage, skipped piece by piece
            end = _CHUNK
        lines = chunk[:end].splitlines()
        if position.offset == 0:
            lines = lines[1:]
        return list(self._decode(lines)), JournalPosition(position.journal, position.offset + end)

    def _decode(self, lines: list[bytes]) -> Iterator[CallEvent]:
        for line in filter(None, lines):
            try:
                event = _decoder.decode(line)
                check(event)
            except ValueError as error:
                self._journal.statistics.skipped += 1
                log.error("a journal line is unreadable and skipped", extra={"error": str(error), "length": len(line)})
            else:
                yield event

    def _goes_on(self) -> bool:
        """A whole batch waits, or the rest of a file to be replaced. Else what comes meanwhile makes a batch."""
        behind = self.behind_bytes
        return behind >= _CHUNK or (behind > 0 and self._outgrown)

    @property
    def _outgrown(self) -> bool:
        return self._position is not None and self._position.offset > self._rotate_bytes

    def _tend(self) -> None:
        self._journal.flush()
        if self._position is not None and self._outgrown:
            self._journal.rotate(self._position)
        if self._clock() - self._alive_at >= self._alive_s:
            self._alive_at = self._clock()
            self._journal.alive()

    def _failed(self, error: RegistryError | OSError) -> None:
        statistics = self._journal.statistics
        statistics.replay_failures += 1
        if statistics.replay_failures & (statistics.replay_failures - 1) == 0:
            log.warning("the registry takes no events now", extra={"error": str(error), "kind": type(error).__name__})


def _passes(error: RegistryError | OSError) -> bool:
    """Whether waiting helps."""
    return isinstance(error, RegistryError) or error.errno in _SHORTAGES


def _begin(path: Path, entropy: Callable[[int], bytes]) -> None:
    """Put a new file in place, whole: its first line is there, or the file is not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    with suppress(FileNotFoundError):
        fresh.unlink()
    descriptor = _open(fresh)
    try:
        header = msgspec.json.encode({"journal": new_id(entropy)}) + b"\n"
        if os.write(descriptor, header) < len(header):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(fresh))
    finally:
        os.close(descriptor)
    fresh.rename(path)


def _open(path: Path) -> int:
    """For appending; readable by its owner alone (it tells who called whom)."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _name(file: BinaryIO) -> str:
    """What a file that was just opened calls itself: its first line, hashed, so that even a damaged one has a name."""
    return hashlib.sha256(file.readline(_LINE_LIMIT)).hexdigest()[:32]


def _ends_in_the_middle(path: Path) -> bool:
    """True when the last line was cut short by a crash."""
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _line(event: CallEvent) -> bytes:
    """One line of JSON. Where text is not Unicode, or the line too long, ``data`` is cleaned, then pruned."""
    try:
        line = _encoder.encode(event)
    except UnicodeEncodeError:
        line = b""
    for reduce in (_cleaned, _scalars):
        if line and len(line) < _LINE_LIMIT:
            break
        line = _encoder.encode(msgspec.structs.replace(event, data=reduce(event.data)))
    return line + b"\n"


def _cleaned(value: Any) -> Any:
    """Without lone surrogates; texts cut to a bounded length."""
    if isinstance(value, str):
        return value[:_TEXT_LIMIT].encode(errors="replace").decode()
    if isinstance(value, Mapping):
        return {_cleaned(str(key)): _cleaned(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(item) for item in value]
    return value


def _scalars(data: Mapping[str, Any]) -> dict[str, Any]:
    """The few values that a record cannot do without."""
    flat = {key: value for key, value in data.items() if isinstance(value, str | int | float)}
    return dict(islice(_cleaned(flat).items(), 32))
