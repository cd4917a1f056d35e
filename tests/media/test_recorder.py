"""The recorder: batches in, an encrypted file out, whatever the disk does."""

from __future__ import annotations

import errno
import io
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile

from media import g711
from media.agents.base import Encoding
from media.audio_file import Samples
from media.pipe import Framer, frame, pair
from media.recorder import Audio, Begin, End, Kept, Recorder, RecorderInput, Store, main, on_disk
from media.recording_file import Contents, Format, Head, SealedReader, make_head, read_head
from tests.support.audio import encode_ulaw, heard_s, tone

KEY = bytes(range(32))
BATCH = 25


def begin(path: Path, format: Format = "wav", rate_hz: int = 8000) -> Begin:
    text = msgspec.json.encode(Head(call="c", account="a", format=format, started_at=0.0))
    return Begin(call="c", path=str(path), head=make_head(text, bytes(69)), key=KEY, format=format, rate_hz=rate_hz)


def audio(at: int, frames: int = BATCH, heard_hz: float = 440, said_hz: float = 1000) -> Audio:
    """A batch with a tone on each side."""
    sides = [encode_ulaw(tone(hz, frames / 50)) for hz in (heard_hz, said_hz)]
    return Audio(call="c", at=at, encoding="PCMU", heard=sides[0], said=sides[1])


def read(path: Path) -> tuple[Samples, Contents]:
    """What a finished file holds."""
    with path.with_name(path.name + ".rec").open("rb") as file:
        reader = SealedReader(file, read_head(file), KEY)
        contents = reader.check()
        samples, _ = soundfile.read(io.BytesIO(b"".join(reader.audio(contents))), dtype="int16", always_2d=True)
    return samples, contents


class Desk:
    """A recorder that is talked to."""

    def __init__(self, make: Callable[[str], Store] = on_disk) -> None:
        self.kept: list[Kept] = []
        self.recorder = Recorder(self.kept.append, make)

    def tell(self, *messages: RecorderInput) -> None:
        for message in messages:
            self.recorder.receive(msgspec.msgpack.encode(message))


class FullDisk:
    """Takes ``room`` bytes; more when it is given."""

    def __init__(self, path: Path, room: int) -> None:
        self.room = room
        self.file = on_disk(str(path))

    @property
    def size(self) -> int:
        return self.file.size

    def write(self, data: bytes) -> None:
        if len(data) > self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= len(data)
        self.file.write(data)

    def close(self, *, keep: bool) -> None:
        self.file.close(keep=keep)


def test_the_caller_is_left_and_the_agent_right(tmp_path: Path) -> None:
    desk = Desk()
    desk.tell(begin(tmp_path / "r"), *(audio(at) for at in range(0, 100, BATCH)), End(call="c", frames=100))
    samples, contents = read(tmp_path / "r")
    assert samples.shape == (16000, 2)
    assert heard_s(samples[:, 0], 440) > 1.9
    assert heard_s(samples[:, 1], 1000) > 1.9
    assert contents.trailer is not None
    assert contents.trailer.complete
    size = (tmp_path / "r.rec").stat().st_size
    assert desk.kept == [Kept(call="c", status="completed", frames=100, gap_frames=0, bytes=size)]


def test_a_batch_that_was_lost_leaves_silence_of_its_length(tmp_path: Path) -> None:
    desk = Desk()
    desk.tell(begin(tmp_path / "r"), audio(0), audio(75), End(call="c", frames=125))
    samples, contents = read(tmp_path / "r")
    assert len(samples) == 125 * 160
    assert not samples[25 * 160 : 75 * 160].any()
    assert samples[75 * 160 : 100 * 160].any()
    assert not samples[100 * 160 :].any()
    assert (contents.count.frames, contents.count.gap_frames) == (125, 75)
    assert (desk.kept[0].frames, desk.kept[0].gap_frames) == (125, 75)


def test_what_comes_twice_is_kept_once(tmp_path: Path) -> None:
    desk = Desk()
    desk.tell(begin(tmp_path / "r"), audio(0), audio(0), End(call="c", frames=25))
    assert len(read(tmp_path / "r")[0]) == 25 * 160


@pytest.mark.parametrize("encoding", ["PCMA", "L16", "L16/16000"])
def test_any_encoding_is_brought_to_the_files_rate(encoding: Encoding, tmp_path: Path) -> None:
    linear = tone(440, 0.5)
    if encoding == "L16/16000":
        linear = np.repeat(linear, 2)
    data = g711.encode_alaw(linear.tobytes()) if encoding == "PCMA" else linear.tobytes()
    desk = Desk()
    desk.tell(begin(tmp_path / "r"))
    desk.tell(*(Audio(call="c", at=at, encoding=encoding, heard=data, said=data) for at in (0, 25)))
    desk.tell(End(call="c", frames=50))
    samples, _ = read(tmp_path / "r")
    assert abs(len(samples) - 8000) <= 2
    assert heard_s(samples[:, 0], 440) > 0.9


def test_wideband_is_recorded_at_its_rate(tmp_path: Path) -> None:
    linear = np.repeat(tone(440, 0.5), 2).tobytes()
    desk = Desk()
    desk.tell(begin(tmp_path / "r", "flac", 16000))
    desk.tell(Audio(call="c", at=0, encoding="L16/16000", heard=linear, said=linear), End(call="c", frames=25))
    assert len(read(tmp_path / "r")[0]) == 8000


def test_when_the_worker_dies_its_recordings_are_finished_and_say_so(tmp_path: Path) -> None:
    desk = Desk()
    desk.tell(begin(tmp_path / "r", "flac"), audio(0), audio(25))
    desk.recorder.close()
    samples, contents = read(tmp_path / "r")
    assert len(samples) == 50 * 160
    assert contents.trailer is not None
    assert not contents.trailer.complete
    assert desk.kept[0].status == "cut"


def test_only_its_owner_can_read_a_recording(tmp_path: Path) -> None:
    desk = Desk()
    desk.tell(begin(tmp_path / "new" / "r"), audio(0), End(call="c", frames=25))
    assert stat.S_IMODE((tmp_path / "new" / "r.rec").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_a_file_that_is_there_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "r.part").write_bytes(b"another's")
    desk = Desk()
    desk.tell(begin(tmp_path / "r"), audio(0), End(call="c", frames=25))
    assert desk.kept[0].status == "failed"
    assert (tmp_path / "r.part").read_bytes() == b"another's"


# --- a disk that fails ------------------------------------------------------------------------


def test_a_disk_that_was_full_for_a_while_costs_silence_and_is_told_of(tmp_path: Path) -> None:
    """What could not be written waits, what does not fit there is lost: the rest is in its place."""
    disk = FullDisk(tmp_path / "r", room=40_000)
    desk = Desk(lambda path: disk)
    desk.tell(begin(tmp_path / "r"))
    for at in range(0, 1000, BATCH):
        desk.tell(audio(at))
    disk.room = 10_000_000
    for at in range(1000, 1100, BATCH):
        desk.tell(audio(at))
    desk.tell(End(call="c", frames=1100))
    (kept,) = desk.kept
    assert (kept.status, kept.frames, kept.problem) == ("completed", 1100, "No space left on device")
    assert 0 < kept.gap_frames < 900
    samples, contents = read(tmp_path / "r")
    assert len(samples) == 1100 * 160
    assert contents.count.gap_frames == kept.gap_frames
    assert heard_s(samples[-100 * 160 :, 1], 1000) > 1.8
    assert heard_s(samples[: 50 * 160, 0], 440) > 0.9


def test_a_disk_that_stays_full_leaves_what_it_took(tmp_path: Path) -> None:
    disk = FullDisk(tmp_path / "r", room=40_000)
    desk = Desk(lambda path: disk)
    desk.tell(begin(tmp_path / "r"), *(audio(at) for at in range(0, 500, BATCH)), End(call="c", frames=500))
    assert desk.kept[0].status == "cut"
    samples, contents = read(tmp_path / "r")
    assert contents.trailer is None
    assert heard_s(samples[:, 0], 440) > 0.9


def test_a_disk_that_takes_nothing_leaves_no_file(tmp_path: Path) -> None:
    desk = Desk(lambda path: FullDisk(tmp_path / "r", room=0))
    desk.tell(begin(tmp_path / "r"), audio(0), End(call="c", frames=25))
    assert desk.kept == [
        Kept(call="c", status="failed", frames=25, gap_frames=25, bytes=0, problem="No space left on device")
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_to_fails_the_recording_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    desk = Desk()
    desk.tell(begin(tmp_path / "file" / "r"), audio(0), End(call="c", frames=25))
    assert desk.kept[0].status == "failed"


def test_half_a_chunk_is_never_left_behind_by_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = on_disk(str(tmp_path / "r"))
    file.write(b"whole")
    real, calls = os.write, []

    def full(descriptor: int, data: bytes) -> int:
        calls.append(data)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data[:3])

    monkeypatch.setattr("media.recorder.os.write", full)
    with pytest.raises(OSError, match="space"):
        file.write(b"a chunk")
    assert (tmp_path / "r.part").read_bytes() == b"whole"
    monkeypatch.undo()
    file.write(b" and more")
    file.close(keep=True)
    assert (tmp_path / "r.rec").read_bytes() == b"whole and more"


# --- secrets, and the process -----------------------------------------------------------------


def test_the_key_is_in_no_text_made_of_the_message(tmp_path: Path) -> None:
    assert repr(KEY)[2:20] not in repr(begin(tmp_path / "r"))


@pytest.mark.realtime
def test_as_a_process_it_finishes_its_files_when_its_pipe_ends(tmp_path: Path) -> None:
    ours, theirs = pair()
    ours.setblocking(True)
    with ours:
        with theirs:
            command = [sys.executable, "-m", "media.recorder", "--fd", str(theirs.fileno())]
            process = subprocess.Popen(command, pass_fds=(theirs.fileno(),), env={**os.environ, "PYTHONPATH": "."})
        for message in (begin(tmp_path / "r"), audio(0), audio(25)):
            ours.sendall(frame(msgspec.msgpack.encode(message)))
        ours.shutdown(1)
        data = b""
        while piece := ours.recv(65536):
            data += piece
        assert process.wait(10) == 0
    (told,) = Framer().feed(data)
    assert msgspec.msgpack.decode(told, type=Kept).status == "cut"
    assert len(read(tmp_path / "r")[0]) == 50 * 160


def test_it_wants_its_pipe() -> None:
    with pytest.raises(SystemExit):
        main([])
