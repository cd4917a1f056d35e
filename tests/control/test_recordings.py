"""Recordings from their key to their end, with the recorder played by the test."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from config.settings import Recording
from control.recordings import NO_KEY, Recordings
from control.registry.memory import MemoryRegistry
from control.registry.types import Account, Agent, CallEvent, Number
from control.supervisor import Supervisor
from control.vault import UnknownKey, Vault
from edge.counters import Counters
from media.messages import RecordingEnded, RecordingOrder
from media.recording_file import Count, Damaged, SealedWriter, Trailer, read_head

CALL = "0198c0de-0000-4000-8000-000000000011"
OTHER = "0198c0de-0000-4000-8000-000000000012"
AGENT = Agent("g", "acme", "Agent", {}, 0.0, 0.0)
NUMBER = Number("n", "acme", "+1", "+1", "sip", "lab", "active", 0.0, 0.0)
KEYS = [bytes([number]) * 32 for number in range(1, 4)]
DAY_S = 86400.0


def vault(key: int = 0, *previous: int) -> Vault:
    return Vault(KEYS[key], entropy=os.urandom, previous=[KEYS[each] for each in previous])


@dataclass
class Room:
    recordings: Recordings
    registry: MemoryRegistry
    folder: Path
    tasks: Supervisor
    counters: Counters
    events: list[CallEvent] = field(default_factory=list)
    wall: float = 1_790_000_000.0
    now: float = 100.0
    slept: float = 0.0
    awake: asyncio.Event = field(default_factory=asyncio.Event)

    def append(self, event: CallEvent) -> None:
        self.events.append(event)

    async def sleep(self, seconds: float) -> None:
        self.slept += seconds
        await asyncio.sleep(0)
        await self.awake.wait()

    async def settle(self) -> None:
        while self.tasks.names:
            await asyncio.sleep(0.001)

    def order(self, call: str = CALL) -> RecordingOrder:
        order = self.recordings.order(call, AGENT, NUMBER, 90.0)
        assert order is not None
        return order

    def write(self, call: str = CALL, *, end: bool | None = True, suffix: str = ".rec", pieces: int = 3) -> Path:
        """As the recorder does; ``end`` None: it was killed, False: it was left by its worker."""
        order = self.order(call)
        path = Path(order.path + suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(order.head)
            writer = SealedWriter(order.key, call, file.write)
            for number in range(1, pieces + 1):
                writer.append(f"piece {number} ".encode(), Count(25 * number, 5, 4000 * number))
            if end is not None:
                writer.finish(Trailer(complete=end))
        os.utime(path, (self.wall, self.wall))
        return path

    def told(self) -> list[dict[str, object]]:
        return [dict(event.data) for event in self.events if event.kind == "recording"]


@asynccontextmanager
async def room(folder: Path, keys: Vault | None = None, **settings: object) -> AsyncIterator[Room]:
    registry = MemoryRegistry()
    for name in ("acme", "globex"):
        await registry.create_account(Account(name, name, 0.0))
    async with Supervisor() as tasks:
        it = Room(None, registry, folder, tasks, Counters())  # type: ignore[arg-type]
        it.awake.set()
        it.recordings = Recordings(
            Recording.model_validate({"enabled": True, "format": "ogg", "path": folder, **settings}),
            keys,
            registry,
            journal=it,
            counters=it.counters,
            spawn=tasks.spawn,
            entropy=os.urandom,
            now=lambda: it.now,
            wall=lambda: it.wall,
            sleep=it.sleep,
        )
        yield it
        await it.settle()


async def read(recordings: Recordings, call: str = CALL, *, complete: bool = True) -> bytes:
    opened = await recordings.open(call, complete=complete)
    data = b"".join(opened.pieces)
    assert len(data) == opened.length
    return data


# --- while calls are up ---------------------------------------------------------------------------


async def test_each_recording_has_a_key_of_its_own_that_only_the_vault_opens(tmp_path: Path) -> None:
    async with room(tmp_path, vault()) as it:
        one, other = it.order(CALL), it.order(OTHER)
        assert one.key != other.key
        assert one.key not in one.head
        stored = read_head(io.BytesIO(one.head))
        assert (stored.head.call, stored.head.account, stored.head.format) == (CALL, "acme", "ogg")
        assert vault().open(stored.slots[0], "recordings " + stored.text.decode()) == one.key


async def test_a_call_that_is_not_to_be_recorded_gets_no_order(tmp_path: Path) -> None:
    async with room(tmp_path, vault(), enabled=False) as it:
        assert it.recordings.order(CALL, AGENT, NUMBER, 90.0) is None
        wanted = replace(AGENT, options='{"recording":{"enabled":true}}')
        assert it.recordings.order(CALL, wanted, NUMBER, 90.0) is not None
        assert it.recordings.order(CALL, wanted, NUMBER, 90.0, wish=False) is None
        assert it.recordings.order(CALL, AGENT, NUMBER, 90.0, wish=True) is not None
        assert it.events == []


async def test_without_a_vault_nothing_is_recorded_and_the_record_says_why(tmp_path: Path) -> None:
    """Plain text never touches the disk."""
    async with room(tmp_path) as it:
        assert it.recordings.order(CALL, AGENT, NUMBER, 90.0) is None
        assert it.told() == [{"status": "failed", "problem": NO_KEY, "note": "failed"}]


async def test_the_record_follows_a_recording_from_its_start_to_its_end(tmp_path: Path) -> None:
    async with room(tmp_path, vault()) as it:
        it.recordings.begun(CALL, 90.0, it.order())
        assert await it.recordings.live(CALL)
        it.recordings.on_ended(RecordingEnded(call=CALL, status="completed", seconds=2.0, gaps_ms=20, bytes=900))
        it.recordings.on_ended(RecordingEnded(call=CALL, status="cut"))
        assert not await it.recordings.live(CALL)
        assert it.told() == [
            {"status": "recording", "format": "ogg", "note": "recording"},
            {"status": "completed", "seconds": 2.0, "gaps_ms": 20, "bytes": 900, "problem": "", "note": "completed"},
        ]
        assert it.events[0].offset_s == 10.0


async def test_what_a_dead_recorder_cannot_tell_is_read_from_its_file(tmp_path: Path) -> None:
    async with room(tmp_path, vault()) as it:
        it.recordings.begun(CALL, 90.0, it.order())
        path = it.write(suffix=".part", end=None)
        it.recordings.on_ended(RecordingEnded(call=CALL, status="cut", problem="the recorder died"))
        await it.settle()
        told = it.told()[-1]
        assert (told["status"], told["seconds"], told["gaps_ms"]) == ("cut", 1.5, 100)
        assert told["problem"] == "the recorder died"
        assert not path.exists()
        assert await read(it.recordings, complete=False) == b"piece 1 piece 2 piece 3 "


async def test_a_dead_workers_recordings_are_waited_for_while_their_recorder_finishes_them(tmp_path: Path) -> None:
    async with room(tmp_path, vault()) as it:
        it.recordings.begun(CALL, 90.0, it.order())
        part = it.write(suffix=".part", end=False)
        it.awake.clear()
        it.recordings.on_lost([CALL, OTHER])
        while not it.slept:
            await asyncio.sleep(0)
        part.rename(part.with_suffix(".rec"))
        it.awake.set()
        await it.settle()
        assert it.slept < Recordings.SETTLE_S
        assert it.told()[-1]["status"] == "cut"


async def test_a_recording_of_which_nothing_was_kept_failed(tmp_path: Path) -> None:
    async with room(tmp_path, vault()) as it:
        it.recordings.begun(CALL, 90.0, it.order())
        it.recordings.on_lost([CALL])
        await it.settle()
        assert it.told()[-1]["status"] == "failed"


# --- reading --------------------------------------------------------------------------------------


async def test_what_was_recorded_is_read_whole(tmp_path: Path) -> None:
    async with room(tmp_path, vault()) as it:
        it.write()
        opened = await it.recordings.open(CALL, complete=True)
        assert (opened.content_type, opened.suffix) == ("audio/ogg", "ogg")
        assert b"".join(opened.pieces) == b"piece 1 piece 2 piece 3 "


async def test_one_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    async with room(tmp_path, vault()) as it:
        with pytest.raises(FileNotFoundError):
            await read(it.recordings)


async def test_one_that_was_cut_short_since_its_record_said_it_was_whole_is_damaged(tmp_path: Path) -> None:
    async with room(tmp_path, vault()) as it:
        path = it.write()
        path.write_bytes(path.read_bytes()[:-40])
        with pytest.raises(Damaged):
            await read(it.recordings)
        assert await read(it.recordings, complete=False)


@pytest.mark.parametrize("change", [0, 40, 160, -60, -1])
async def test_one_that_was_altered_anywhere_is_damaged(change: int, tmp_path: Path) -> None:
    async with room(tmp_path, vault()) as it:
        path = it.write()
        data = bytearray(path.read_bytes())
        slots = read_head(io.BytesIO(data)).offset
        assert 40 < slots < 160 < slots + 69
        data[change] ^= 1
        path.write_bytes(bytes(data))
        with pytest.raises((Damaged, UnknownKey)):
            await read(it.recordings)


async def test_one_that_was_put_in_anothers_place_is_damaged(tmp_path: Path) -> None:
    async with room(tmp_path, vault()) as it:
        it.write(OTHER).rename(tmp_path / f"{CALL}.rec")
        with pytest.raises(Damaged, match="another"):
            await read(it.recordings)


async def test_who_read_it_is_noted(tmp_path: Path) -> None:
    async with room(tmp_path, vault()) as it:
        await it.recordings.read(CALL, "key k1")
        assert (it.events[-1].kind, it.events[-1].data["note"]) == ("recording_read", "key k1")


# --- the vault's key changes ----------------------------------------------------------------------


async def test_after_a_change_of_the_key_old_recordings_open_and_can_be_sealed_anew(tmp_path: Path) -> None:
    """As integrations: open with any that is listed, seal with the current one; then the old one can go."""
    async with room(tmp_path, vault(0)) as it:
        it.write()
    async with room(tmp_path, vault(1)) as it:
        with pytest.raises(UnknownKey):
            await read(it.recordings)
    async with room(tmp_path, vault(1, 0)) as it:
        before = (tmp_path / f"{CALL}.rec").stat().st_mtime
        assert await read(it.recordings)
        assert [await it.recordings.reseal(), await it.recordings.reseal()] == [1, 0]
        assert (tmp_path / f"{CALL}.rec").stat().st_mtime == before
    async with room(tmp_path, vault(2, 1)) as it:
        assert await it.recordings.reseal() == 1
    async with room(tmp_path, vault(2)) as it:
        assert await read(it.recordings) == b"piece 1 piece 2 piece 3 "


async def test_sealing_anew_can_be_cut_short_at_any_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with room(tmp_path, vault(0)) as it:
        it.write()
    real, count = os.fsync, 0

    def dies(descriptor: int) -> None:
        nonlocal count
        real(descriptor)
        count += 1
        if count == 1:
            raise OSError("power cut")

    async with room(tmp_path, vault(1, 0)) as it:
        monkeypatch.setattr("control.recordings.os.fsync", dies)
        with pytest.raises(OSError, match="power"):
            await it.recordings.reseal()
        assert await read(it.recordings)
        assert await it.recordings.reseal() == 1
        assert await read(it.recordings)


# --- deleting, and what time does -----------------------------------------------------------------


async def test_deleted_is_gone_and_the_record_says_by_whom(tmp_path: Path) -> None:
    async with room(tmp_path, vault()) as it:
        path = it.write()
        assert await it.recordings.delete(CALL, "key k1")
        assert not path.exists()
        assert it.told()[-1] == {"status": "deleted", "note": "deleted by key k1", "bytes": 0}
        assert not await it.recordings.delete(CALL, "key k1")


async def test_recordings_go_when_their_time_is_over(tmp_path: Path) -> None:
    async with room(tmp_path, vault(), retention_days=30.0) as it:
        old = it.write(CALL)
        it.wall += 29 * DAY_S
        new = it.write(OTHER)
        await it.recordings.sweep()
        assert old.exists()
        it.wall += 1.5 * DAY_S
        await it.recordings.sweep()
        assert not old.exists()
        assert new.exists()
        assert [(event.call_id, event.data["status"]) for event in it.events] == [(CALL, "expired")]


async def test_without_a_retention_they_are_kept(tmp_path: Path) -> None:
    async with room(tmp_path, vault()) as it:
        path = it.write()
        it.wall += 10_000 * DAY_S
        await it.recordings.sweep()
        assert path.exists()


async def test_recordings_of_an_account_that_is_gone_go_with_it(tmp_path: Path) -> None:
    async with room(tmp_path, vault()) as it:
        mine = it.write(CALL)
        order = it.recordings.order(OTHER, AGENT, replace(NUMBER, account_id="gone"), 90.0)
        assert order is not None
        orphan = Path(order.path + ".rec")
        orphan.write_bytes(order.head)
        stranger = tmp_path / "notes.rec"
        stranger.write_bytes(b"none of ours")
        await it.recordings.sweep()
        assert (mine.exists(), orphan.exists(), stranger.exists()) == (True, False, True)


async def test_what_a_dead_process_left_is_settled_and_what_is_being_written_is_left_alone(tmp_path: Path) -> None:
    async with room(tmp_path, vault()) as it:
        left = it.write(CALL, suffix=".part", end=None)
        it.recordings.begun(OTHER, 90.0, it.order(OTHER))
        busy = it.write(OTHER, suffix=".part", end=None)
        await it.recordings.sweep()
        assert not left.exists()
        assert busy.exists()
        assert [(event.call_id, event.data["status"]) for event in it.events[1:]] == [(CALL, "cut")]


async def test_what_this_process_is_settling_itself_is_not_settled_by_the_sweep_too(tmp_path: Path) -> None:
    """Its worker died a moment ago, or its record has not been written yet."""
    async with room(tmp_path, vault()) as it:
        it.recordings.begun(CALL, 90.0, it.order())
        part = it.write(suffix=".part", end=False)
        it.awake.clear()
        it.recordings.on_lost([CALL])
        while not it.slept:
            await asyncio.sleep(0)
        await it.recordings.sweep()
        assert part.exists()
        part.rename(part.with_suffix(".rec"))
        it.awake.set()
        await it.settle()
        assert [told["status"] for told in it.told()] == ["recording", "cut"]
        assert it.told()[-1]["problem"] == "the media worker died"


async def test_a_record_that_still_says_recording_after_a_crash_is_set_right(tmp_path: Path) -> None:
    """Its recorder finished the file; whom it would have told had died."""
    offer = {"account_id": "acme", "direction": "inbound", "trunk": "lab", "from_number": "+1", "to_number": "+2"}
    async with room(tmp_path, vault()) as it:
        it.write(CALL, end=False)
        begun = CallEvent(id="2", kind="recording", at=2.0, call_id=CALL, data={"status": "recording"})
        await it.registry.apply_events([CallEvent(id="1", kind="offered", at=1.0, call_id=CALL, data=offer), begun])
        await it.recordings.sweep()
        await it.registry.apply_events(it.events)
        assert (await it.registry.call("acme", CALL)).recording["status"] == "cut"
        assert await it.registry.calls_being_recorded() == []


async def test_a_file_whose_key_is_not_configured_is_left_for_later(tmp_path: Path) -> None:
    async with room(tmp_path, vault(0)) as it:
        it.write(CALL, suffix=".part", end=None)
    async with room(tmp_path, vault(1)) as it:
        await it.recordings.sweep()
        assert it.events == []
        assert (tmp_path / f"{CALL}.rec").exists()


async def test_it_sweeps_for_as_long_as_it_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that is busy does not end it."""
    async with room(tmp_path, vault(), retention_days=1.0) as it:
        path = it.write()
        it.wall += 2 * DAY_S
        sweeping = asyncio.ensure_future(it.recordings.run())
        async with asyncio.timeout(5):
            while path.exists():
                await asyncio.sleep(0.001)
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)


async def test_no_folder_yet_is_no_recordings(tmp_path: Path) -> None:
    async with room(tmp_path / "none", vault()) as it:
        await it.recordings.sweep()
        assert await it.recordings.reseal() == 0
