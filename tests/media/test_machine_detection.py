"""Who answered: a person, a machine, a fax, or nobody that can be told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from media import g711
from media.agents.base import Encoding
from media.convert import Converter
from media.machine_detection import Detection, MachineDetector
from tests.media.data import answers
from tests.support.audio import Samples, silence, tone

Draw = np.random.default_rng
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "amd.md"


def voice(seconds: float, seed: int = 5, *, pauses: bool = False) -> Samples:
    """Somebody speaks."""
    sound = answers.speech(Draw(seed), seconds, pauses)
    return np.rint(sound / np.abs(sound).max() * 8000).astype(np.int16)


def detections(*pieces: Samples, encoding: Encoding = "PCMU", **limits: float) -> list[Detection]:
    """What the detector says of it, on a line without noise."""
    audio = np.concatenate([silence(0.5), *pieces]).astype(np.int16)
    detector, convert, found = MachineDetector(encoding, **limits), Converter("L16", encoding), []
    for at in range(0, len(audio) - 159, 160):
        detection = detector.hear(convert(audio[at : at + 160].tobytes()))
        found += [detection] if detection is not None else []
    return found


def results(*pieces: Samples, **limits: float) -> list[str]:
    return [detection.result for detection in detections(*pieces, **limits)]


def test_the_reference_page_is_what_the_corpus_gives() -> None:
    """``python -m tests.media.data.answers > docs/reference/amd.md``."""
    assert PAGE.read_text() == answers.page()


def test_a_part_of_the_corpus_is_taken_as_the_page_says() -> None:
    """No person is taken for a machine but one who talks on, no machine for a person; nothing that is no voice is."""
    for make in answers.MAKERS:
        for index in range(4):
            answer = make(Draw([7, index]))
            first = answers.detect(answer)[0].result
            if answer.kind.startswith("machine"):
                assert first in ("machine", "machine_beep", "unsure"), answer.kind
            elif answer.kind == "fax":
                assert first in ("fax", "unsure")
            elif answer.kind.startswith("person: a"):
                assert first in ("human", "unsure"), answer.kind
            elif not answer.kind.startswith("person"):
                assert first == "unsure", answer.kind


def test_the_corpus_is_the_same_for_a_seed_always() -> None:
    assert answers.person(Draw([1, 2])) == answers.person(Draw([1, 2]))
    assert answers.person(Draw([1, 2])) != answers.person(Draw([1, 3]))


def test_a_word_and_a_pause_is_a_person() -> None:
    [found] = detections(voice(0.6), silence(3))
    assert found.result == "human"
    assert 1600 < found.after_ms < 2200


def test_a_voice_that_talks_on_is_a_machine() -> None:
    found = detections(voice(6.0), silence(1))
    assert found[0].result == "machine"
    assert 3400 < found[0].after_ms < 3800


def test_a_beep_after_the_greeting_is_told_of_when_it_is_over() -> None:
    found = detections(voice(5.0), silence(0.4), tone(1000, 0.5), silence(2))
    assert [detection.result for detection in found] == ["machine", "beep"]
    assert found[1].after_ms == pytest.approx(6400, abs=80)
    assert "1000 Hz" in found[1].reason


def test_a_short_greeting_and_a_beep_are_a_machine_at_once() -> None:
    assert results(voice(1.5), silence(0.3), tone(800, 0.4), silence(2)) == ["machine_beep"]


@pytest.mark.parametrize("hz", [350, 440, 620, 1000, 1400, 2000, 2400])
def test_beeps_of_any_pitch_are_heard(hz: float) -> None:
    assert results(voice(4.0), silence(0.3), tone(hz, 0.3), silence(1))[-1] == "beep"


@pytest.mark.parametrize("seconds", [0.08, 2.5])
def test_a_tone_too_short_or_too_long_is_no_beep(seconds: float) -> None:
    assert "beep" not in results(voice(4.0), silence(0.3), tone(1000, seconds), silence(1))


def test_a_tone_without_speech_before_it_is_no_beep() -> None:
    assert results(tone(1000, 0.5), silence(8)) == ["unsure"]


def test_a_beep_is_listened_for_only_so_long() -> None:
    limits = {"beep_timeout_s": 5.0}
    assert results(voice(4.0), silence(3), tone(1000, 0.5), silence(1), **limits) == ["machine"]


def test_faxes_are_told_by_their_tones() -> None:
    """T.30: CNG is 1100 Hz for half a second, CED 2100 Hz; V.8 turns the latter's phase."""
    assert results(tone(1100, 0.5), silence(3), tone(1100, 0.5), silence(1)) == ["fax"]
    assert results(tone(2100, 3.0), silence(1)) == ["fax"]
    turned = np.concatenate([tone(2100, 0.45) * (-1) ** turn for turn in range(6)]).astype(np.int16)
    assert results(turned, silence(1)) == ["fax"]


def test_what_is_neither_is_unsure_and_says_why() -> None:
    noise = (Draw(1).normal(0, 2000, 8000 * 8)).astype(np.int16)
    for sound, reason in ((silence(8), "silence"), (noise, "no speech"), (tone(425, 8), "no speech")):
        [found] = detections(sound)
        assert found.result == "unsure"
        assert reason in found.reason


def test_a_greeting_between_the_two_is_unsure() -> None:
    [found] = detections(voice(2.4), silence(3), beep_timeout_s=5.0)
    assert found.result == "unsure"
    assert "short for a machine" in found.reason


def test_no_result_in_time_is_unsure() -> None:
    assert detections(silence(5), timeout_s=3.0)[0].after_ms == 3000


@pytest.mark.parametrize("encoding", ["PCMA", "L16", "L16/16000"])
def test_any_encoding_is_listened_to(encoding: Encoding) -> None:
    assert [found.result for found in detections(voice(0.6), silence(3), encoding=encoding)] == ["human"]


def test_after_its_last_word_it_listens_no_more() -> None:
    detector = MachineDetector("PCMU", timeout_s=0.2)
    for _ in range(20):
        detector.hear(g711.silence("PCMU"))
    assert detector.done
    assert detector.hear(g711.silence("PCMU")) is None


def test_a_change_of_encoding_is_followed() -> None:
    detector = MachineDetector("PCMU")
    detector.change("L16/16000")
    assert detector.hear(bytes(640)) is None
