"""Audio files made piece by piece: whole, or as far as they came."""

from __future__ import annotations

import io
import wave
from typing import get_args

import msgspec
import numpy as np
import pytest
import soundfile

from media.audio_file import AudioFile, Samples
from media.recording_file import (
    CONTENT_TYPES,
    Count,
    Format,
    Head,
    SealedReader,
    SealedWriter,
    Trailer,
    make_head,
    read_head,
)
from tests.support.audio import heard_s, tone

FORMATS = get_args(Format)
KEY = bytes(32)


def both(seconds: float = 5.0) -> Samples:
    """440 Hz left, 1000 Hz right."""
    return np.stack([tone(440, seconds), tone(1000, seconds)], axis=1)


def recorded(format: Format, samples: Samples, *, cut: bool, rate_hz: int = 8000) -> bytes:
    """The audio file that a reader gets of it, sealed and opened again, half a second a piece."""
    head = Head(call="c", account="a", format=format, started_at=0.0)
    file = io.BytesIO()
    file.write(make_head(msgspec.json.encode(head), bytes(69)))
    writer, audio = SealedWriter(KEY, "c", file.write), AudioFile(format, rate_hz)
    step = rate_hz // 2
    for at in range(0, len(samples), step):
        if piece := audio.put(samples[at : at + step]):
            writer.append(piece, Count(0, 0, audio.whole))
    if not cut:
        last, first = audio.close()
        writer.append(last, Count(0, 0, audio.whole))
        writer.finish(Trailer(complete=True, first=first))
    file.seek(0)
    reader = SealedReader(file, read_head(file), KEY)
    contents = reader.check()
    data = b"".join(reader.audio(contents))
    assert len(data) == contents.length
    return data


def decoded(data: bytes) -> tuple[Samples, int]:
    """As any player would."""
    samples, rate_hz = soundfile.read(io.BytesIO(data), dtype="int16", always_2d=True)
    return samples, rate_hz


@pytest.mark.parametrize("format", FORMATS)
def test_each_side_is_in_its_own_channel(format: Format) -> None:
    samples, rate_hz = decoded(recorded(format, both(), cut=False))
    assert (samples.shape, rate_hz) == ((40000, 2), 8000)
    assert heard_s(samples[:, 0], 440) > 4.8
    assert heard_s(samples[:, 1], 1000) > 4.8


@pytest.mark.parametrize("format", ["wav", "flac"])
def test_wav_and_flac_lose_nothing(format: Format) -> None:
    samples, _ = decoded(recorded(format, both(), cut=False))
    assert np.array_equal(samples, both())


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_that_was_cut_plays_up_to_there(format: Format) -> None:
    """Ogg gathers some seconds into a page; the others have at most a block of half a second that is not out yet."""
    samples, _ = decoded(recorded(format, both(), cut=True))
    least_s = 2.5 if format == "ogg" else 4.3
    assert least_s * 8000 < len(samples) <= 40000
    assert heard_s(samples[:, 0], 440) > least_s
    assert heard_s(samples[:, 1], 1000) > least_s


@pytest.mark.parametrize("cut", [False, True])
def test_a_wav_file_says_its_true_length(cut: bool) -> None:
    with wave.open(io.BytesIO(recorded("wav", both(), cut=cut))) as file:
        assert (file.getnframes(), file.getnchannels(), file.getframerate()) == (40000, 2, 8000)


@pytest.mark.parametrize("format", FORMATS)
def test_a_recording_of_nothing_is_a_file_of_silence(format: Format) -> None:
    samples, _ = decoded(recorded(format, both(0.0), cut=False))
    assert not samples.any()
    assert len(samples) <= 160


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("rate_hz", [16000, 48000])
def test_wideband_keeps_its_rate(format: Format, rate_hz: int) -> None:
    samples, rate = decoded(recorded(format, both(), cut=False, rate_hz=rate_hz))
    assert (rate, len(samples)) == (rate_hz, 40000)


def test_every_format_has_its_content_type() -> None:
    assert set(CONTENT_TYPES) == set(FORMATS)
