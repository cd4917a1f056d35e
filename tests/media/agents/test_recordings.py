"""The recordings that are shipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from media.agents import recordings
from media.agents.wav import wav_bytes
from media.telephone_event import DIGITS


def test_every_recording_the_parrot_needs_is_shipped() -> None:
    found = recordings.load()
    assert {"greeting", "goodbye", *recordings.DIGIT_RECORDINGS.values()} <= found.keys()
    assert all(len(samples) > 16 * 300 for samples in found.values()), "at least 0.3 s each"


def test_every_digit_but_hash_has_a_recording() -> None:
    assert recordings.DIGIT_RECORDINGS.keys() == set(DIGITS) - {"#"}


def test_what_a_lost_agent_is_followed_by_is_shipped() -> None:
    assert {"lost", "unavailable"} <= recordings.names()


def test_the_operators_recordings_are_read_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be played is left out and logged; a shipped name is taken."""
    (tmp_path / "closed.v2.wav").write_bytes(wav_bytes(b"\1\0" * 800))
    (tmp_path / "broken.wav").write_bytes(b"no wav")
    (tmp_path / "greeting.wav").write_bytes(wav_bytes(b"\1\0" * 800))
    (tmp_path / "a b.wav").write_bytes(wav_bytes(b"\1\0" * 800))
    (tmp_path / "long.wav").write_bytes(wav_bytes(bytes(16000 * 301)))
    (tmp_path / "notes.txt").write_text("no recording")
    found = recordings.load(tmp_path)
    assert found["closed.v2"] == b"\1\0" * 800
    assert found.keys() - recordings.load().keys() == {"closed.v2"}
    assert len(found["greeting"]) > 1600
    assert caplog.text.count("a recording is left out") == 4
    assert recordings.names(tmp_path) - recordings.names() == {"closed.v2", "broken", "long"}
