"""The journal and its replay: no record lost, no call held up."""

from __future__ import annotations

import asyncio
import errno
import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from control.journal import Journal, Replayer
from control.registry import connection
from control.registry.memory import MemoryRegistry
from control.registry.sqlite import SqliteRegistry
from control.registry.types import (
    CallEvent,
    CallFilter,
    JournalPosition,
    Page,
    RegistryBusy,
    RegistryFull,
)

OFFER = {"account_id": "a1", "direction": "inbound", "trunk": "lab", "from_number": "+1", "to_number": "+2"}
END = {"ended_by": "caller", "end_reason": "caller_hung_up", "sip_status": 200}


def event(id: str, kind: str, call_id: str = "c1", at: float = 0.0, **data: object) -> CallEvent:
    """An event with the id as given."""
    return CallEvent(id=id, kind=kind, call_id=call_id, at=at, offset_s=at, data=data)


def whole_call(call_id: str, at: float = 0.0) -> list[CallEvent]:
    """Offered, answered, ended."""
    return [
        event(f"{call_id}-1", "offered", call_id, at, **OFFER),
        event(f"{call_id}-2", "answered", call_id, at + 1),
        event(f"{call_id}-3", "ended", call_id, at + 9, **END),
    ]


class Disk:
    """A descriptor's ``write`` that has room for so many bytes."""

    def __init__(self, room: int) -> None:
        self.room = room

    def write(self, descriptor: int, data: bytes) -> int:
        """As the kernel does: short at the edge, ENOSPC beyond it."""
        if self.room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = os.write(descriptor, data[: self.room])
        self.room -= count
        return count


class Failing(MemoryRegistry):
    """A registry that refuses so many batches."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.errors = list(errors)

    async def apply_events(self, events: Sequence[CallEvent], position: JournalPosition | None = None) -> int:
        """Raise what is left to raise."""
        if self.errors:
            raise self.errors.pop(0)
        return await super().apply_events(events, position)


Opener = Callable[..., Journal]


@pytest.fixture
def open_journal(tmp_path: Path) -> Iterator[Opener]:
    """Opens (again) the journal of this test, as the next process would."""
    opened: list[Journal] = []
    ids = itertools.count(1)

    def open_(clock: Callable[[], float] = lambda: 0.0, **options: object) -> Journal:
        entropy = lambda count: next(ids).to_bytes(count)  # noqa: E731
        opened.append(Journal.open(tmp_path / "registry.journal", entropy=entropy, clock=clock, **options))  # type: ignore[arg-type]
        return opened[-1]

    yield open_
    for journal in opened:
        journal.close()


def replayer(journal: Journal, registry: MemoryRegistry, **options: object) -> Replayer:
    """On a clock that stands."""
    return Replayer(journal, registry, clock=lambda: 0.0, **options)  # type: ignore[arg-type]


async def statuses(registry: MemoryRegistry) -> dict[str, str | None]:
    """Each call's end, or its status while it goes on."""
    calls, _ = await registry.calls("a1", Page(limit=100), CallFilter())
    return {call.id: call.end_reason or call.status for call in calls}


async def test_what_is_appended_reaches_the_registry(open_journal: Opener) -> None:
    journal, registry = open_journal(), MemoryRegistry()
    for item in whole_call("c1"):
        journal.append(item)
    assert await replayer(journal, registry).catch_up() == 4
    call = await registry.call("a1", "c1")
    assert (call.status, call.end_reason, call.ring_s, call.duration_s) == ("completed", "caller_hung_up", 1.0, 8.0)
    assert call.timeline == ((0.0, "offered"), (1.0, "answered"), (9.0, "ended: caller_hung_up"))


async def test_how_far_the_registry_is_behind_is_told(open_journal: Opener) -> None:
    journal, registry = open_journal(), MemoryRegistry()
    reader = replayer(journal, registry)
    journal.append(event("e1", "offered", **OFFER))
    assert reader.behind_bytes == journal.size() > 0
    await reader.catch_up()
    assert reader.behind_bytes == 0
    journal.append(event("e2", "answered"))
    assert 0 < reader.behind_bytes < journal.size()


async def test_an_append_is_in_the_file_when_it_returns(open_journal: Opener) -> None:
    journal = open_journal()
    journal.append(event("e1", "offered", **OFFER))
    lines = journal.path.read_text().splitlines()
    assert [json.loads(line).get("kind") for line in lines] == [None, "opened", "offered"]


async def test_a_second_replay_adds_nothing(open_journal: Opener) -> None:
    journal, registry = open_journal(), MemoryRegistry()
    for item in whole_call("c1"):
        journal.append(item)
    await replayer(journal, registry).catch_up()
    await registry.apply_events([], JournalPosition("forgotten", 0))
    assert await replayer(journal, registry).catch_up() == 0
    assert len((await registry.call("a1", "c1")).timeline) == 3


async def test_two_replays_at_once_apply_each_event_once(open_journal: Opener) -> None:
    class Slow(MemoryRegistry):
        async def apply_events(self, events: Sequence[CallEvent], position: JournalPosition | None = None) -> int:
            await asyncio.sleep(0)
            return await super().apply_events(events, position)

    journal, registry = open_journal(), Slow()
    for number in range(50):
        for item in whole_call(f"c{number}"):
            journal.append(item)
    counts = await asyncio.gather(*(replayer(journal, registry).step() for _ in range(3)))
    assert all(counts)
    assert journal.statistics.applied == 151
    assert set((await statuses(registry)).values()) == {"caller_hung_up"}


async def test_a_call_that_a_crash_cut_ends_once_at_the_last_sign_of_life(open_journal: Opener) -> None:
    registry = MemoryRegistry()
    first = open_journal(clock=lambda: 100.0)
    first.append(event("e1", "offered", at=100.0, **OFFER))
    first.append(event("e2", "answered", at=102.0))
    first.append(CallEvent(id="e3", kind="alive", at=130.0))
    for _ in range(3):
        await replayer(open_journal(clock=lambda: 500.0), registry).catch_up()
    call = await registry.call("a1", "c1")
    assert (call.status, call.end_reason, call.ended_by) == ("failed", "crash", "edge")
    assert (call.ended_at, call.duration_s) == (130.0, 28.0)
    assert [text for _, text in call.timeline].count("ended: crash") == 1


async def test_a_crash_before_any_replay_loses_no_record(open_journal: Opener) -> None:
    first = open_journal()
    first.append(event("e1", "offered", "cut", **OFFER))
    for item in whole_call("whole"):
        first.append(item)
    registry, second = MemoryRegistry(), open_journal()
    second.append(event("e9", "offered", "new", **OFFER))
    await replayer(second, registry).catch_up()
    assert await statuses(registry) == {"cut": "crash", "whole": "caller_hung_up", "new": "ringing"}


async def test_a_line_cut_short_by_a_crash_spoils_no_other(open_journal: Opener) -> None:
    first = open_journal()
    first.append(event("e1", "offered", **OFFER))
    with first.path.open("ab") as file:
        file.write(b'{"id":"e2","kind":"answ')
    second, registry = open_journal(), MemoryRegistry()
    for item in whole_call("c2"):
        second.append(item)
    await replayer(second, registry).catch_up()
    assert second.statistics.skipped == 1
    assert await statuses(registry) == {"c1": "crash", "c2": "caller_hung_up"}


async def test_a_line_still_being_written_is_left_for_later(open_journal: Opener) -> None:
    journal, registry = open_journal(), MemoryRegistry()
    line = b'{"id":"e1","kind":"offered","at":0,"call_id":"c1","data":' + json.dumps(OFFER).encode() + b"}\n"
    replay = replayer(journal, registry)
    with journal.path.open("ab", buffering=0) as file:
        file.write(line[:30])
        await replay.catch_up()
        assert await statuses(registry) == {}
        file.write(line[30:])
    await replay.catch_up()
    assert await statuses(registry) == {"c1": "ringing"}
    assert journal.statistics.skipped == 0


@pytest.mark.parametrize(
    "damage",
    [
        b"not json\n",
        b'{"id":"x","kind":"offered","at":0,"call_id":"c9","data":{}}\n',
        b'{"id":"x","kind":"answered","at":0}\n',
        b"\xff\xfe\n",
        b"x" * 600_000 + b"\n",
    ],
)
async def test_a_damaged_line_is_skipped_and_counted(open_journal: Opener, damage: bytes) -> None:
    journal, registry = open_journal(), MemoryRegistry()
    with journal.path.open("ab") as file:
        file.write(damage)
    for item in whole_call("c1"):
        journal.append(item)
    await replayer(journal, registry).catch_up()
    assert journal.statistics.skipped >= 1
    assert await statuses(registry) == {"c1": "caller_hung_up"}


async def test_an_event_no_store_can_digest_holds_up_none_behind_it(open_journal: Opener) -> None:
    class Choking(MemoryRegistry):
        async def apply_events(self, events: Sequence[CallEvent], position: JournalPosition | None = None) -> int:
            if any(item.id == "poison" for item in events):
                raise OverflowError
            return await super().apply_events(events, position)

    journal, registry = open_journal(), Choking()
    journal.append(event("poison", "offered", "c0", **OFFER))
    for item in whole_call("c1"):
        journal.append(item)
    await replayer(journal, registry).catch_up()
    assert journal.statistics.skipped == 1
    assert await statuses(registry) == {"c1": "caller_hung_up"}


async def test_a_full_disk_loses_no_record_once_there_is_room(open_journal: Opener) -> None:
    disk = Disk(room=10_000)
    journal, registry = open_journal(write=disk.write), MemoryRegistry()
    journal.append(event("e1", "offered", "c0", **OFFER))
    disk.room = 100  # the next line is written in part
    for number in range(1, 300):
        for item in whole_call(f"c{number}"):
            journal.append(item)
    assert journal.statistics.queued == 299 * 3
    assert journal.statistics.write_failures > 0
    disk.room = 10_000_000
    await replayer(journal, registry).catch_up()
    assert journal.statistics.queued == journal.statistics.lost == journal.statistics.skipped == 0
    assert (await registry.calls("a1", Page(), CallFilter()))[1] == 300
    assert (await registry.calls("a1", Page(), CallFilter(status="completed")))[1] == 299


def test_a_full_queue_gives_up_the_timeline_before_the_record(open_journal: Opener) -> None:
    disk = Disk(room=10_000)
    journal = open_journal(write=disk.write, queue_limit=10)
    disk.room = 0
    for number in range(20):
        journal.append(event(f"d{number}", "digit", note="5"))
    journal.append(event("e1", "ended", **END))
    assert (journal.statistics.lost, journal.statistics.queued) == (10, 11)
    for number in range(100):
        journal.append(event(f"x{number}", "ended", **END))
    assert journal.statistics.queued == 20


@pytest.mark.parametrize("note", ["\ud800", "x" * 1_000_000, "\x00\r\n", object(), float("nan"), 1 << 70])
async def test_no_text_a_peer_can_send_breaks_the_journal(open_journal: Opener, note: object) -> None:
    journal, registry = open_journal(), MemoryRegistry()
    journal.append(event("e0", "offered", **OFFER))
    journal.append(event("e1", "hostile", note=note))
    journal.append(event("e2", "ended", **END, statistics={"big": ["y" * 5000] * 50}, note=note))
    await replayer(journal, registry).catch_up()
    assert await statuses(registry) == {"c1": "caller_hung_up"}
    assert journal.statistics.lost == journal.statistics.skipped == 0
    assert max(map(len, journal.path.read_bytes().splitlines())) < 70_000


async def test_a_busy_or_full_registry_is_tried_again(open_journal: Opener) -> None:
    """A database that is locked for 10 s: all is in it within a second of its release."""
    journal = open_journal()
    registry = Failing(*[RegistryBusy()] * 20, RegistryFull())
    for item in whole_call("c1"):
        journal.append(item)
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if not registry.errors and len(slept) > 21:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await replayer(journal, registry, sleep=sleep, retry_s=0.5).run()
    assert slept[:21] == [0.5] * 21
    assert journal.statistics.replay_failures == 21
    assert await statuses(registry) == {"c1": "caller_hung_up"}


async def test_a_journal_that_cannot_be_opened_for_want_of_descriptors_is_tried_again(
    open_journal: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood of connections stops no edge; a journal that is gone does."""
    journal, registry = open_journal(), MemoryRegistry()
    for item in whole_call("c1"):
        journal.append(item)
    shortages = iter([errno.EMFILE, errno.ENFILE, errno.EMFILE])
    open_file = Path.open

    def short(path: Path, *arguments: str) -> object:
        if path == journal.path and (code := next(shortages, None)):
            raise OSError(code, os.strerror(code))
        return open_file(path, *arguments)

    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if seconds != 0.5:
            journal.path.unlink()

    monkeypatch.setattr(Path, "open", short)
    with pytest.raises(FileNotFoundError):
        await replayer(journal, registry, sleep=sleep, retry_s=0.5).run()
    assert slept[:3] == [0.5] * 3
    assert await statuses(registry) == {"c1": "caller_hung_up"}


async def test_what_a_busy_registry_does_not_take_stays_in_the_journal(open_journal: Opener) -> None:
    journal, registry = open_journal(), Failing(RegistryBusy())
    for item in whole_call("c1"):
        journal.append(item)
    replay = replayer(journal, registry)
    assert await replay.catch_up() == 0
    assert await replay.catch_up() == 4


@pytest.mark.parametrize(
    ("options", "batches"),
    [({}, [1, 2, 2, 2]), ({"rotate_bytes": 100}, [1] * 7)],
    ids=["of a file that goes on", "of a file that is to be replaced"],
)
async def test_what_comes_while_a_batch_is_applied_is_a_batch_of_the_next_look(
    open_journal: Opener, options: dict[str, int], batches: list[int]
) -> None:
    journal, taken = open_journal(), []
    coming = iter([*whole_call("c1"), *whole_call("c2")])

    class Slow(MemoryRegistry):
        async def apply_events(self, events: Sequence[CallEvent], position: JournalPosition | None = None) -> int:
            taken.append(len(events))
            for item in itertools.islice(coming, 1):
                journal.append(item)
            return await super().apply_events(events, position)

    async def sleep(seconds: float) -> None:
        for item in itertools.islice(coming, 1):
            journal.append(item)
            return
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await replayer(journal, Slow(), sleep=sleep, **options).run()
    assert taken == batches


async def test_signs_of_life_are_written_while_calls_are_up(open_journal: Opener) -> None:
    now = 0.0
    journal, registry = open_journal(), MemoryRegistry()
    turns = 0

    async def sleep(seconds: float) -> None:
        nonlocal now, turns
        now, turns = now + 1.0, turns + 1
        if turns == 10:
            journal.append(event("e1", "offered", **OFFER))
        if turns == 21:
            journal.append(event("e2", "ended", **END))
        if turns > 40:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await Replayer(journal, registry, clock=lambda: now, sleep=sleep, alive_s=5.0).run()
    kinds = [json.loads(line).get("kind") for line in journal.path.read_text().splitlines()[2:]]
    assert kinds == ["offered", "alive", "alive", "alive", "ended"]


async def test_an_applied_file_makes_room_for_a_new_one(open_journal: Opener) -> None:
    journal, registry = open_journal(), MemoryRegistry()
    for number in range(300):
        for item in whole_call(f"c{number}"):
            journal.append(item)

    async def once(seconds: float) -> None:
        raise asyncio.CancelledError

    replay = replayer(journal, registry, rotate_bytes=10_000, sleep=once)
    with pytest.raises(asyncio.CancelledError):
        await replay.run()
    assert (journal.statistics.rotations, journal.size() < 200) == (1, True)
    journal.append(event("e1", "offered", "late", **OFFER))
    await replay.catch_up()
    assert (await registry.call("a1", "late")).status == "ringing"
    await replayer(open_journal(), registry).catch_up()
    assert (await registry.call("a1", "late")).end_reason == "crash"
    assert (await registry.calls("a1", Page(), CallFilter()))[1] == 301


async def test_a_file_with_something_unapplied_is_not_replaced(open_journal: Opener) -> None:
    journal, registry = open_journal(), MemoryRegistry()
    await replayer(journal, registry).catch_up()
    position = await registry.journal_position()
    assert position is not None
    journal.append(event("e1", "offered", **OFFER))
    assert not journal.rotate(position)
    await replayer(journal, registry).catch_up()
    assert await statuses(registry) == {"c1": "ringing"}


async def test_a_position_in_another_file_is_not_trusted(open_journal: Opener) -> None:
    journal, registry = open_journal(), MemoryRegistry()
    journal.append(event("e1", "offered", **OFFER))
    await registry.apply_events([], JournalPosition("another file", 50))
    await replayer(journal, registry).catch_up()
    assert await statuses(registry) == {"c1": "ringing"}


def test_a_journal_left_empty_is_begun_anew(open_journal: Opener, tmp_path: Path) -> None:
    (tmp_path / "registry.journal").touch()
    assert "journal" in json.loads(open_journal().path.read_text().splitlines()[0])


def test_only_its_owner_can_read_it(open_journal: Opener) -> None:
    assert open_journal().path.stat().st_mode & 0o777 == 0o600


def test_no_journal_on_a_full_disk_is_an_error_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "registry.journal.new").mkdir()
    with pytest.raises(OSError, match="journal"):
        Journal.open(tmp_path / "registry.journal", entropy=os.urandom, clock=lambda: 0.0)


@pytest.mark.realtime
async def test_a_locked_database_holds_up_no_append_and_gets_all_records_afterwards(
    open_journal: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way: a file, a thread, another process' lock."""
    monkeypatch.setattr(connection, "BUSY_TIMEOUT_S", 0.05)
    registry = SqliteRegistry.open(tmp_path / "registry.db")
    journal = open_journal()
    replay = asyncio.create_task(
        Replayer(journal, registry, clock=time.monotonic, poll_s=0.01, retry_s=0.01).run(), name="replay"
    )
    with closing(sqlite3.connect(tmp_path / "registry.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        for number in range(100):
            for item in whole_call(f"c{number}"):
                journal.append(item)
        assert time.monotonic() - began < 0.5
        while journal.statistics.replay_failures < 3:
            await asyncio.sleep(0.01)
        assert journal.statistics.applied == 0
    async with asyncio.timeout(2):
        while journal.statistics.applied < 301:
            await asyncio.sleep(0.01)
    replay.cancel()
    await asyncio.wait((replay,))
    assert (await registry.calls("a1", Page(), CallFilter(status="completed")))[1] == 100
    await registry.close()


WRITER = """
import os, sys, pathlib
from control.journal import CallEvent, Journal
journal = Journal.open(pathlib.Path(sys.argv[1]), entropy=os.urandom, clock=lambda: 0.0)
offer = {"account_id": "a1", "direction": "inbound", "trunk": "lab", "from_number": "+1", "to_number": "+2"}
number = 0
while True:
    call = f"{os.getpid()}-{number}"
    journal.append(CallEvent(id=call, kind="offered", call_id=call, at=0.0, data=offer))
    os.write(1, b"%d\\n" % number)
    number += 1
"""


@pytest.mark.realtime
def test_a_killed_process_loses_no_event_it_had_appended(tmp_path: Path) -> None:
    """kill -9 while it writes, again and again on one file."""
    path, registry, written = tmp_path / "registry.journal", MemoryRegistry(), 0
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for _ in range(200):
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read().splitlines(keepends=True)
            written += 200 + sum(line.endswith(b"\n") for line in rest)
    journal = Journal.open(path, entropy=os.urandom, clock=lambda: 0.0)
    asyncio.run(replayer(journal, registry).catch_up())
    journal.close()
    _, total = asyncio.run(registry.calls("a1", Page(), CallFilter()))
    _, cut = asyncio.run(registry.calls("a1", Page(), CallFilter(status="failed")))
    assert written <= total <= written + 3  # each time, one may have been appended and not yet announced
    assert cut == total
