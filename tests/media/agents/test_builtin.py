"""The built-in agents: the echo, and the parrot that greets, repeats and names digits."""

from __future__ import annotations

import pytest

from media.agents.base import BadAgent, Encoding
from media.agents.builtin import Echo, Parrot, builtin
from media.messages import AgentSpec
from media.voice import Heard, VoiceDetector
from tests.media.agents.fakes import RECORDINGS, FakePort, host
from tests.support.audio import tone

FRAMES_A_SECOND = 50


def frames(pcm: bytes) -> list[bytes]:
    return [pcm[at : at + 320] for at in range(0, len(pcm), 320)]


def voice(seconds: float, level: float = 0.25) -> list[bytes]:
    return frames(tone(440, seconds, level).tobytes())


def quiet(seconds: float) -> list[bytes]:
    return [bytes(320)] * round(seconds * FRAMES_A_SECOND)


class Talk:
    """A parrot in an established call."""

    def __init__(self) -> None:
        self.port = FakePort()
        self.parrot = Parrot(RECORDINGS)
        self.at_ms = 0
        self.parrot.open(self.port)
        self.parrot.on_start()

    def hear(self, heard: list[bytes]) -> None:
        for frame in heard:
            self.parrot.on_audio(frame, self.at_ms)
            self.at_ms += 20


def test_the_parrot_is_the_built_in_agent_without_a_name() -> None:
    assert isinstance(builtin(host(AgentSpec(protocol="builtin"))), Parrot)
    assert isinstance(builtin(host(AgentSpec(protocol="builtin", name="echo"))), Echo)
    with pytest.raises(BadAgent, match="owl"):
        builtin(host(AgentSpec(protocol="builtin", name="owl")))


# --- echo -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", ["PCMU", "PCMA"])
def test_the_echo_is_ready_at_once_and_returns_the_very_bytes_in_the_legs_law(law: Encoding) -> None:
    port, echo = FakePort(law), Echo()
    echo.open(port)
    assert port.take() == [("started",), ("ready",)]
    echo.on_start()
    frame = bytes(range(160))
    echo.on_audio(frame, 0)
    assert echo.encoding is None
    assert port.take() == [("play", frame, law)]
    assert port.log == []


# --- parrot ---------------------------------------------------------------------------------------


def test_the_parrot_greets_while_the_phone_still_rings() -> None:
    port = FakePort()
    Parrot(RECORDINGS).open(port)
    assert port.take() == [("started",), ("play", RECORDINGS["greeting"], "L16")]


def test_a_voice_stops_the_parrot_at_once() -> None:
    talk = Talk()
    talk.hear(quiet(0.5))
    talk.port.take()
    talk.hear(voice(0.06))
    assert talk.port.take() == [("clear",)]


def test_the_parrot_repeats_what_was_said_when_the_caller_pauses() -> None:
    talk = Talk()
    talk.hear(quiet(1.0))
    spoken = voice(1.0)
    talk.hear(spoken)
    talk.port.take()
    talk.hear(quiet(0.5))
    assert talk.port.take() == [], "the hangover: a breath is no pause"
    talk.hear(quiet(0.3))
    [(what, audio, encoding)] = talk.port.take()
    assert (what, encoding) == ("play", "L16")
    assert b"".join(spoken) in audio
    assert len(audio) < 320 * (50 + 10 + 40)


def test_the_parrot_repeats_each_sentence_once() -> None:
    talk = Talk()
    for _ in range(2):
        talk.hear(voice(0.5))
        talk.hear(quiet(1.0))
    played = [entry[1] for entry in talk.port.take() if entry[0] == "play"]
    assert len(played) == 3
    assert all(len(audio) < 320 * 80 for audio in played[1:])


def test_what_the_parrot_repeats_is_30_seconds_at_most() -> None:
    talk = Talk()
    talk.hear(voice(40.0))
    talk.port.take()
    talk.hear(quiet(1.0))
    [(_, audio, _)] = talk.port.take()
    assert len(audio) == 320 * Parrot.LONGEST_FRAMES


def test_a_click_is_no_voice() -> None:
    talk = Talk()
    talk.port.take()
    talk.hear([*quiet(0.2), *voice(0.02, level=0.9), *quiet(2.0)])
    assert talk.port.take() == []


@pytest.mark.parametrize(("digit", "recording"), [("5", "digit-5"), ("*", "digit-star"), ("A", "digit-a")])
def test_the_parrot_names_a_digit_instead_of_going_on(digit: str, recording: str) -> None:
    talk = Talk()
    talk.port.take()
    talk.parrot.on_digit(digit, 100)
    assert talk.port.take() == [("clear",), ("play", RECORDINGS[recording], "L16")]


def test_digits_in_a_row_are_all_named() -> None:
    talk = Talk()
    talk.port.take()
    for digit in "123":
        talk.parrot.on_digit(digit, 100)
    assert talk.port.take() == [
        ("clear",),
        *(("play", RECORDINGS[f"digit-{digit}"], "L16") for digit in "123"),
    ]


def test_hash_says_goodbye_and_hangs_up_after_it() -> None:
    talk = Talk()
    talk.port.take()
    talk.parrot.on_digit("#", 100)
    assert talk.port.take() == [("clear",), ("play", RECORDINGS["goodbye"], "L16"), ("hang_up",)]
    talk.parrot.on_digit("1", 100)
    talk.hear(voice(1.0) + quiet(1.0))
    assert talk.port.take() == []


async def test_a_closed_parrot_says_nothing() -> None:
    talk = Talk()
    await talk.parrot.close()
    talk.port.take()
    talk.hear(voice(1.0) + quiet(1.0))
    talk.parrot.on_digit("1", 100)
    assert talk.port.take() == []


# --- the voice detector ---------------------------------------------------------------------------


def test_the_detector_follows_the_noise_of_the_line() -> None:
    detector = VoiceDetector()
    noise = frames(tone(60, 10.0, level=0.009).tobytes())
    heard = {detector.hear(frame) for frame in noise}
    assert heard == {Heard.NOTHING}
    assert Heard.SPEAKS in {detector.hear(frame) for frame in voice(0.5)}


def test_the_detector_survives_an_empty_frame() -> None:
    assert VoiceDetector().hear(b"") == Heard.NOTHING
