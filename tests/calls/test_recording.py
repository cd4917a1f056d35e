"""Calls that are recorded: through the real edge, read again through its API, whatever dies or fills up meanwhile."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.support.audio import Samples, heard_s, silence, tone
from tests.support.edge import API, DID, Edge, Keyring, Settings
from tests.support.media_streams_agent import AgentCall, MediaStreamsAgent
from tests.support.phone import Call, Phone

RECORDED = "[recording]\nenabled = true\n"


def settings(folder: Path, more: str = "", **given: Any) -> Settings:
    """Everything recorded, into ``folder``."""
    return Settings(more=f'{RECORDED}path = "{folder}"\n{more}', **given)


async def established(phone: Phone) -> Call:
    call = await phone.call(DID)
    await call.establish()
    return call


async def recording_of(edge: Edge, call_id: str, status: str) -> dict[str, Any]:
    """The record's member, once it has this status."""
    shown: dict[str, Any] = {}

    async def so() -> bool:
        shown.update(await edge.request("GET", f"/calls/{call_id}"))
        return (shown["recording"] or {}).get("status") == status

    await edge.until(so, lambda: f"recording {status}; it is {shown.get('recording')}", 10.0)
    recording: dict[str, Any] = shown["recording"]
    return recording


async def audio_of(edge: Edge, call_id: str) -> tuple[Samples, str]:
    """What the API gives: caller, agent; and its content type."""
    answer = await edge.api.get(f"{API}/calls/{call_id}/recording")
    assert answer.status_code == 200, answer.text
    samples, rate_hz = soundfile.read(io.BytesIO(answer.content), dtype="int16", always_2d=True)
    assert rate_hz == 8000
    return samples, answer.headers["content-type"]


def recorders(edge: Edge) -> list[int]:
    """The recorders among the edge's processes and theirs."""
    return [pid for pid in _below(edge.program.pid) if b"media.recorder" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def _below(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *_below(child)]
    return found


@pytest.mark.realtime
async def test_each_side_of_a_call_is_in_its_own_channel_and_the_caller_was_told(
    tmp_path: Path, keyring: Keyring
) -> None:
    """The caller's tone left, the agent's right, the consent tone over it; nothing readable on the disk."""

    async def say(call: AgentCall) -> None:
        await call.say(tone(1000, 1.5))

    folder = tmp_path / "recordings"
    async with (
        MediaStreamsAgent.open(say) as agent,
        Edge.open(tmp_path / "edge", keyring, settings(folder)) as edge,
    ):
        await edge.add_agent_at(agent.url)
        async with Phone.open(edge.listeners["udp"]) as phone:
            call = await established(phone)
            await call.media.play(tone(440, 2.5))
            live = await edge.expect_live_call()
            assert (await recording_of(edge, live["id"], "recording"))["format"] == "flac"
            early = await edge.api.get(f"{API}/calls/{live['id']}/recording")
            assert early.status_code == 409
            await call.bye()
            heard = call.media.audio()
        recording = await recording_of(edge, live["id"], "completed")
        samples, content_type = await audio_of(edge, live["id"])
        assert content_type == "audio/flac"
        caller, said = samples[:, 0], samples[:, 1]
        assert heard_s(caller, 440) > 2.0
        assert heard_s(caller, 1000) == 0
        assert heard_s(said, 1000) > 1.2
        assert heard_s(said, 440) == 0
        assert heard_s(said[:8000], 1400, share=0.1) > 0.3
        assert heard_s(heard, 1400, share=0.1) > 0.3, "the caller hears the tone"
        assert recording["seconds"] == pytest.approx(len(samples) / 8000)
        assert (recording["gaps_ms"], recording["problem"]) == (0, None)
        [file] = folder.iterdir()
        assert recording["bytes"] == file.stat().st_size
        assert b"fLaC" not in file.read_bytes()
        assert "recording: completed" in await edge.timeline(live["id"])
        await edge.until(lambda: _read_is_noted(edge, live["id"]), lambda: "a note of who read it", 5.0)
        await edge.request("DELETE", f"/calls/{live['id']}/recording")
        assert list(folder.iterdir()) == []
        assert (await edge.api.get(f"{API}/calls/{live['id']}/recording")).status_code == 404
        await recording_of(edge, live["id"], "deleted")


async def _has_grown(folder: Path) -> bool:
    return any(file.stat().st_size > 4000 for file in folder.glob("*.part"))


async def _read_is_noted(edge: Edge, call_id: str) -> bool:
    return any(event.startswith("recording_read: key ") for event in await edge.timeline(call_id))


@pytest.mark.realtime
async def test_a_media_worker_that_is_killed_leaves_its_recording_up_to_that_moment(
    tmp_path: Path, keyring: Keyring
) -> None:
    folder = tmp_path / "recordings"
    async with Edge.open(tmp_path / "edge", keyring, settings(folder, media={"workers": 1})) as edge:
        edge.allowed += ["media worker died"]
        await edge.add_echo()
        async with Phone.open(edge.listeners["udp"]) as phone:
            call = await established(phone)
            await call.media.play(tone(440, 2.0))
            live = await edge.expect_live_call()
            [recorder] = recorders(edge)
            worker = int(Path(f"/proc/{recorder}/stat").read_text().rpartition(")")[2].split()[1])
            os.kill(worker, signal.SIGKILL)
            await call.expect_request("BYE")
        recording = await recording_of(edge, live["id"], "cut")
        assert recording["problem"] == "the media worker died"
        samples, _ = await audio_of(edge, live["id"])
        assert heard_s(samples[:, 0], 440) > 1.0
        assert recording["seconds"] == pytest.approx(len(samples) / 8000)


@pytest.mark.realtime
async def test_a_recorder_that_hangs_on_its_disk_costs_the_call_nothing(tmp_path: Path, keyring: Keyring) -> None:
    """Stopped: as one whose write never returns. Each frame of the call still goes both ways."""
    async with Edge.open(tmp_path / "edge", keyring, settings(tmp_path / "recordings")) as edge:
        await edge.add_echo()
        async with Phone.open(edge.listeners["udp"]) as phone:
            call = await established(phone)
            await call.media.play(tone(440, 0.5))
            live = await edge.expect_live_call()
            [recorder] = recorders(edge)
            os.kill(recorder, signal.SIGSTOP)
            try:
                await call.media.play(np.concatenate([tone(900, 2.0), silence(0.3)]))
                assert heard_s(call.media.audio(), 900) > 1.8
                await call.bye()
                [record] = await edge.expect_records(1)
            finally:
                os.kill(recorder, signal.SIGCONT)
        assert record["statistics"]["packets_lost"] == 0
        await recording_of(edge, live["id"], "completed")
        samples, _ = await audio_of(edge, live["id"])
        assert heard_s(samples[:, 0], 900) > 1.8


async def undisturbed_call(edge: Edge) -> str:
    """A caller hears all he says, and hangs up; the call's id."""
    await edge.add_echo()
    async with Phone.open(edge.listeners["udp"]) as phone:
        call = await established(phone)
        await call.media.play(np.concatenate([tone(440, 1.5), silence(0.3)]))
        assert heard_s(call.media.audio(), 440) > 1.3
        await call.bye()
    [record] = await edge.expect_records(1)
    assert record["end_reason"] == "caller_hung_up"
    return str(record["id"])


@pytest.mark.realtime
async def test_a_place_that_takes_no_file_costs_the_call_nothing_and_is_told(tmp_path: Path, keyring: Keyring) -> None:
    """In the process that signals, too: a folder that cannot be made any more, as where a disk was unmounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    async with Edge.open(tmp_path / "edge", keyring, settings(disk / "recordings", media={"workers": 0})) as edge:
        for made in disk.iterdir():
            made.rmdir()
        disk.rmdir()
        disk.write_bytes(b"")
        edge.allowed += ["a recording's disk failed"]
        call_id = await undisturbed_call(edge)
        recording = await recording_of(edge, call_id, "failed")
        assert recording["gaps_ms"] == pytest.approx(recording["seconds"] * 1000)
        assert recording["problem"]
        assert (await edge.api.get(f"{API}/calls/{call_id}/recording")).status_code == 404


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for half a second of audio."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)]
    mounted = subprocess.run(mounting, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.realtime
async def test_a_full_disk_costs_the_call_nothing_and_is_told(
    tmp_path: Path, small_disk: Path, keyring: Keyring
) -> None:
    """The record has why, the log a line, the counter one; what was written before can be heard."""
    given = settings(small_disk, 'format = "wav"\nconsent_tone = false\n', media={"workers": 0})
    async with Edge.open(tmp_path / "edge", keyring, given) as edge:
        edge.allowed += ["a recording's disk failed"]
        call_id = await undisturbed_call(edge)
        recording = await recording_of(edge, call_id, "cut")
        assert recording["problem"] == os.strerror(errno.ENOSPC)
        assert recording["gaps_ms"] < recording["seconds"] * 1000
        assert (await edge.metrics())['truedy_recordings_total{status="cut"}'] == 1
        assert [line["problem"] for line in edge.log() if line["event"] == "a recording's disk failed"] == [
            recording["problem"]
        ]
        samples, _ = await audio_of(edge, call_id)
        assert heard_s(samples[:, 0], 440) > 0.2


async def test_an_edge_that_is_killed_leaves_its_recordings_to_the_next(tmp_path: Path, keyring: Keyring) -> None:
    folder = tmp_path / "recordings"
    async with Edge.open(tmp_path / "edge", keyring, settings(folder), checked=False) as first:
        await first.add_echo()
        async with Phone.open(first.listeners["udp"]) as phone:
            call = await established(phone)
            await call.media.play(tone(440, 2.0))
            live = await first.expect_live_call()
            await first.until(lambda: _has_grown(folder), lambda: "some audio on the disk", 10.0)
            for pid in [*recorders(first), *_below(first.program.pid)]:
                os.kill(pid, signal.SIGKILL)
            await first.kill()
    async with Edge.open(tmp_path / "edge", keyring, settings(folder)) as second:
        recording = await recording_of(second, live["id"], "cut")
        assert recording["problem"] == "the process died"
        samples, _ = await audio_of(second, live["id"])
        assert heard_s(samples[:, 0], 440) > 0.4
