"""The worker's side of recording: nothing waits, nothing grows without bound, and every recording's end is told."""

from __future__ import annotations

import asyncio
import io
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import soundfile

from media.messages import NoticeBody, RecordingEnded, RecordingOrder
from media.recorder import Audio, End, RecorderInput
from media.recording import CallRecording, RecorderLink
from media.recording_file import Head, SealedReader, make_head, read_head
from media.tasks import Tasks
from tests.support.audio import encode_ulaw, heard_s, tone

KEY = bytes(range(32))
FRAME = encode_ulaw(tone(400, 0.02))


def order(path: Path) -> RecordingOrder:
    text = msgspec.json.encode(Head(call="c", account="a", format="wav", started_at=0.0))
    return RecordingOrder(path=str(path), head=make_head(text, bytes(69)), key=KEY, format="wav")


# --- batches --------------------------------------------------------------------------------------


def test_frames_go_by_the_half_second() -> None:
    sent: list[RecorderInput] = []
    recording = CallRecording("c", "PCMU", sent.append)
    for _ in range(60):
        recording.said(None)
        recording.heard(FRAME)
    recording.end()
    batches = [message for message in sent if isinstance(message, Audio)]
    assert [(batch.at, len(batch.heard), len(batch.said)) for batch in batches] == [
        (0, 4000, 4000),
        (25, 4000, 4000),
        (50, 1600, 1600),
    ]
    assert batches[0].said == b"\xff" * 4000
    assert sent[-1] == End(call="c", frames=60)


def test_silence_is_silence_in_every_encoding() -> None:
    sent: list[RecorderInput] = []
    recording = CallRecording("c", "L16/16000", sent.append)
    recording.said(None)
    recording.heard(bytes(640))
    recording.change("PCMA")
    recording.said(None)
    recording.heard(FRAME)
    recording.end()
    assert [message.said for message in sent if isinstance(message, Audio)] == [bytes(640), b"\xd5" * 160]


def test_a_key_is_in_no_text_made_of_an_order(tmp_path: Path) -> None:
    assert repr(KEY)[2:20] not in repr(order(tmp_path / "r"))


# --- the process ----------------------------------------------------------------------------------


class Room:
    """A link, and what it has told."""

    def __init__(self) -> None:
        self.told: list[NoticeBody] = []
        self._tasks = Tasks()
        self._grew = asyncio.Event()
        self.link = RecorderLink(self._hear, self._tasks.spawn)

    def _hear(self, notice: NoticeBody) -> None:
        self.told.append(notice)
        self._grew.set()

    async def ended(self, count: int = 1) -> list[RecordingEnded]:
        async with asyncio.timeout(10):
            while len(self.told) < count:
                self._grew.clear()
                await self._grew.wait()
        return [notice for notice in self.told if isinstance(notice, RecordingEnded)]

    async def close(self) -> None:
        await self.link.close()
        await self._tasks.close(grace_s=1.0)

    @staticmethod
    def talk(recording: CallRecording, frames: int) -> None:
        for _ in range(frames):
            recording.said(FRAME)
            recording.heard(FRAME)


@asynccontextmanager
async def room() -> AsyncIterator[Room]:
    it = Room()
    try:
        yield it
    finally:
        await it.close()


def children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def read_s(path: Path) -> float:
    """Seconds of the tone that the caller's side of a file has."""
    with path.open("rb") as file:
        reader = SealedReader(file, read_head(file), KEY)
        data = b"".join(reader.audio(reader.check()))
    samples, _ = soundfile.read(io.BytesIO(data), dtype="int16", always_2d=True)
    return heard_s(samples[:, 0], 400)


@pytest.mark.realtime
async def test_a_call_is_recorded_and_told_of(tmp_path: Path) -> None:
    async with room() as it:
        it.link.prepare()
        it.link.prepare()
        recording = it.link.begin("c", order(tmp_path / "r"), "PCMU")
        it.talk(recording, 100)
        recording.end()
        (ended,) = await it.ended()
        assert (ended.status, ended.seconds, ended.gaps_ms, ended.problem) == ("completed", 2.0, 0, "")
        assert ended.bytes == (tmp_path / "r.rec").stat().st_size
        assert read_s(tmp_path / "r.rec") > 1.9
        with pytest.raises(KeyError):
            it.link.begin("d", order(tmp_path / "s"), "PCMU")
            it.link.begin("d", order(tmp_path / "s"), "PCMU")


@pytest.mark.realtime
async def test_a_recorder_that_dies_is_replaced_and_its_recordings_are_told_to_be_cut(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with room() as it:
        before = set(children())
        it.link.prepare()
        recording = it.link.begin("c", order(tmp_path / "r"), "PCMU")
        it.talk(recording, 100)
        await _until(lambda: (tmp_path / "r.part").exists() and (tmp_path / "r.part").stat().st_size > 60_000)
        (pid,) = set(children()) - before
        os.kill(pid, signal.SIGKILL)
        assert await it.ended() == [RecordingEnded(call="c", status="cut", problem="the recorder died")]
        it.talk(recording, 100)
        recording.end()
        assert read_s(tmp_path / "r.part") > 1.0
        it.link.prepare()
        another = it.link.begin("d", order(tmp_path / "s"), "PCMU")
        it.talk(another, 50)
        another.end()
        assert (await it.ended(2))[1].status == "completed"
    assert "recordings are cut" in caplog.text


@pytest.mark.realtime
async def test_a_recorder_that_does_not_read_costs_batches_and_no_time(tmp_path: Path) -> None:
    """Stopped, as by a disk that hangs: what it cannot take is dropped, and is silence of that length."""
    async with room() as it:
        before = set(children())
        it.link.QUEUE_LIMIT_BYTES = 100_000  # type: ignore[misc]
        it.link.prepare()
        recording = it.link.begin("c", order(tmp_path / "r"), "PCMU")
        await _until((tmp_path / "r.part").exists)
        (pid,) = set(children()) - before
        os.kill(pid, signal.SIGSTOP)
        it.talk(recording, 3000)
        assert it.link.dropped > 0
        os.kill(pid, signal.SIGCONT)
        await _until(lambda: it.link.queued == 0)
        it.talk(recording, 50)
        recording.end()
        (ended,) = await it.ended()
        assert (ended.status, ended.seconds) == ("completed", 61.0)
        assert 0 < ended.gaps_ms < 61_000


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.02)
