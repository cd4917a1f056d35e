"""The tone that tells of a recording."""

from __future__ import annotations

import numpy as np
import pytest

from media import g711
from media.agents.base import Encoding
from media.consent_tone import ConsentTone
from media.convert import frame_bytes, is_linear, rate_hz
from tests.support.audio import Samples, encode_ulaw, heard_s, tone

ENCODINGS: list[Encoding] = ["PCMU", "PCMA", "L16", "L16/16000", "L16/24000", "L16/48000"]


def linear(frame: bytes | None, encoding: Encoding) -> Samples:
    assert frame is not None
    data = frame if is_linear(encoding) else g711.DECODERS[encoding](frame)
    return np.frombuffer(data, dtype=np.int16)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_it_sounds_first_in_the_legs_own_encoding(encoding: Encoding) -> None:
    told = ConsentTone(encoding)
    frames = [told.take(lambda: None) for _ in range(told.FIRST_FRAMES)]
    assert {len(frame or b"") for frame in frames} == {frame_bytes(encoding)}
    heard = np.concatenate([linear(frame, encoding) for frame in frames])[:: rate_hz(encoding) // 8000]
    assert heard_s(heard, 1400) > 0.4
    assert told.take(lambda: None) is None


def test_what_the_agent_says_is_not_delayed_by_it() -> None:
    """An agent that streams without end would stay late for the whole call."""
    told, asked = ConsentTone("PCMU"), 0

    def take() -> bytes:
        nonlocal asked
        asked += 1
        return bytes([asked]) * 160

    frames = [told.take(take) for _ in range(told.FIRST_FRAMES + 1)]
    assert asked == told.FIRST_FRAMES + 1
    assert frames[1] != bytes([2]) * 160
    assert frames[-1] == bytes([asked]) * 160


def test_it_comes_again_over_the_agents_voice_as_often_as_is_asked_for() -> None:
    """15 s, as some laws want it."""
    told, voice = ConsentTone("PCMU", 15.0), encode_ulaw(tone(500, 0.02, 0.1))
    said = np.concatenate([linear(told.take(lambda: voice), "PCMU") for _ in range(32 * 50)])
    at = [heard_s(said[8000 * second : 8000 * (second + 1)], 1400, share=0.4) for second in range(32)]
    assert [second for second, length in enumerate(at) if length > 0.1] == [0, 15, 30]
    under = said[8000 * 15 : 8000 * 15 + 1600].astype(float)
    spectrum = np.abs(np.fft.rfft(under * np.hanning(len(under))))
    assert spectrum[100] > 0.2 * spectrum.max()  # 500 Hz: the agent is heard under it


def test_over_silence_it_is_heard_too() -> None:
    told = ConsentTone("PCMA", 1.0)
    frames = [told.take(lambda: None) for _ in range(60)]
    assert [index for index, frame in enumerate(frames) if frame is not None] == [*range(25), *range(50, 60)]


def test_in_another_encoding_it_goes_on_where_it_was() -> None:
    told = ConsentTone("PCMU")
    for _ in range(10):
        told.take(lambda: None)
    told.change("L16/16000")
    frames = [told.take(lambda: None) for _ in range(16)]
    assert [len(frame) if frame else 0 for frame in frames] == [640] * 15 + [0]
