"""Whether somebody speaks."""

from __future__ import annotations

import pytest

from media import g711
from media.voice import Heard, VoiceDetector, level_of
from tests.support.audio import encode_ulaw, tone


def test_a_frame_s_level_is_the_same_in_every_encoding() -> None:
    samples = tone(400, 0.02, 0.25)
    linear = samples.tobytes()
    level = level_of("L16")(linear)
    assert level == g711.level(linear)
    assert level_of("PCMU")(encode_ulaw(samples)) == pytest.approx(level, rel=0.02)
    assert level_of("PCMA")(g711.encode_alaw(linear)) == pytest.approx(level, rel=0.02)


def test_speech_begins_with_the_third_loud_frame_and_ends_after_the_hangover() -> None:
    detector = VoiceDetector(hangover_frames=5)
    assert [detector.heed(3000) for _ in range(3)] == [Heard.NOTHING, Heard.NOTHING, Heard.SPEAKS]
    assert detector.speaking
    assert [detector.heed(10) for _ in range(5)][-1] == Heard.PAUSES
    assert not detector.speaking


def test_the_floor_follows_the_lines_noise() -> None:
    """What is a voice on a quiet line is none in a noisy one."""
    detector = VoiceDetector()
    for _ in range(500):
        detector.heed(240)
    detector.heed(600)
    assert not detector.loud
    detector.heed(900)
    assert detector.loud
