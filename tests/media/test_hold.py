"""What a held phone hears."""

from __future__ import annotations

import pytest

from media.agents.base import Encoding
from media.agents.recordings import load
from media.convert import frame_bytes
from media.hold import HoldMusic
from tests.support.audio import decode_ulaw, level_dbfs


def pcm(frames: int) -> bytes:
    return b"".join(bytes([index, 0]) * 160 for index in range(frames))


def test_the_recording_plays_over_and_over() -> None:
    music = HoldMusic(pcm(3) + b"a tail", "L16", lambda: None)
    heard = [music.take() for _ in range(7)]
    assert heard == [pcm(3)[at : at + 320] for at in (0, 320, 640, 0, 320, 640, 0)]


@pytest.mark.parametrize("recording", [b"", b"too short"])
def test_without_a_recording_there_is_silence(recording: bytes) -> None:
    assert HoldMusic(recording, "PCMU", lambda: b"agent").take() is None


def test_time_passes_for_the_agent_meanwhile() -> None:
    """What it says is lost, and its marks are reached, as on a hold of the phone's own."""
    taken: list[int] = []
    music = HoldMusic(b"", "PCMU", lambda: taken.append(1))
    for _ in range(3):
        music.take()
    assert len(taken) == 3


@pytest.mark.parametrize("law", ["PCMU", "PCMA", "L16", "L16/16000", "L16/48000"])
def test_every_frame_is_20_ms_in_the_legs_encoding(law: Encoding) -> None:
    music = HoldMusic(load()["music"], law, lambda: None)
    assert {len(music.take() or b"") for _ in range(1000)} == {frame_bytes(law)}


def test_the_shipped_music_is_heard_and_not_loud() -> None:
    music = HoldMusic(load()["music"], "PCMU", lambda: None)
    audio = b"".join(music.take() or b"" for _ in range(480))
    assert -35 < level_dbfs(decode_ulaw(audio)) < -12
