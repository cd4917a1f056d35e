"""WAV files in and out."""

from __future__ import annotations

import wave
from pathlib import Path

import pytest

from media.agents.wav import WavError, read_wav, wav_bytes

SAMPLES = bytes(range(200)) * 4


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav_bytes(SAMPLES))
    assert read_wav(path) == SAMPLES


def test_another_rate_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "cd.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(44100)
        file.writeframes(SAMPLES)
    with pytest.raises(WavError, match=r"44100 Hz, 2 channel.*sox cd\.wav -r 8000"):
        read_wav(path)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"not a wav file at all" * 10])
def test_what_is_no_wav_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "junk.wav"
    path.write_bytes(content)
    with pytest.raises(WavError, match=r"junk\.wav"):
        read_wav(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WavError, match=r"gone\.wav"):
        read_wav(tmp_path / "gone.wav")
