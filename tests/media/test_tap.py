"""What listens in on a call hears what was truly played, in time with what was heard."""

from __future__ import annotations

from media.consent_tone import ConsentTone
from media.machine_detection import Detection, MachineDetector
from media.recorder import Audio, End, RecorderInput
from media.recording import CallRecording
from media.tap import Tap

SILENCE = b"\xff" * 160


def frame(number: int) -> bytes:
    return bytes([number]) * 160


class Listening:
    """A tap, and what it has handed on."""

    def __init__(self, tone: ConsentTone | None = None) -> None:
        self.sent: list[RecorderInput] = []
        self.tap = Tap(recording=CallRecording("c", "PCMU", self.sent.append), tone=tone)

    def tick(self, agent: bytes | None, caller: bytes, *, sent: bool = True, digit: bool = False) -> bytes | None:
        """As the bridge does; what the phone was sent."""
        said = None if digit else self.tap.listen_to(lambda: agent)()
        self.tap.said(sent)
        self.tap.heard(caller)
        return said

    def sides(self) -> tuple[bytes, bytes]:
        """All that was heard, and all that was said."""
        self.tap.end()
        batches = [message for message in self.sent if isinstance(message, Audio)]
        return b"".join(batch.heard for batch in batches), b"".join(batch.said for batch in batches)


def test_both_sides_are_recorded_frame_by_frame() -> None:
    it = Listening()
    for number in range(60):
        assert it.tick(frame(number), frame(100 + number)) == frame(number)
    heard, said = it.sides()
    assert heard == b"".join(frame(100 + number) for number in range(60))
    assert said == b"".join(frame(number) for number in range(60))


def test_what_the_agent_said_while_on_hold_was_not_heard_and_is_silence() -> None:
    it = Listening()
    it.tick(frame(1), frame(2))
    it.tick(frame(3), frame(4), sent=False)
    it.tick(frame(5), frame(6))
    assert it.sides()[1] == frame(1) + SILENCE + frame(5)


def test_a_digits_frame_is_silence_and_repeats_nothing() -> None:
    it = Listening()
    it.tick(frame(1), frame(2))
    it.tick(frame(9), frame(4), digit=True)
    assert it.sides()[1] == frame(1) + SILENCE


def test_the_consent_tone_is_in_the_recording() -> None:
    it = Listening(ConsentTone("PCMU"))
    played = [it.tick(frame(1), frame(2)) for _ in range(30)]
    assert it.sides()[1] == b"".join(piece or SILENCE for piece in played)
    assert played[0] != frame(1)
    assert played[29] == frame(1)


def test_time_that_was_skipped_is_time_in_the_recording() -> None:
    it = Listening()
    it.tick(frame(1), frame(2))
    it.tap.skip(40)
    it.tick(frame(3), frame(4))
    it.tap.end()
    batches = [message.at for message in it.sent if isinstance(message, Audio)]
    assert batches == [0, 41]
    assert it.sent[-1] == End(call="c", frames=42)


def test_a_change_of_encoding_begins_a_batch() -> None:
    it = Listening(ConsentTone("PCMU"))
    it.tick(frame(1), frame(2))
    it.tap.change("L16/16000")
    assert it.tick(None, bytes(640)) is not None
    it.tap.end()
    batches = [(message.at, message.encoding) for message in it.sent if isinstance(message, Audio)]
    assert batches == [(0, "PCMU"), (1, "L16/16000")]


def test_a_tap_that_records_nothing_still_plays_the_tone() -> None:
    tap = Tap(tone=ConsentTone("PCMU"))
    assert tap.listen_to(lambda: None)() is not None
    tap.said(True)
    tap.heard(SILENCE)
    tap.skip(1)
    tap.change("PCMA")
    tap.end()


def test_a_beep_that_follows_makes_it_a_machine_with_a_beep() -> None:
    told: list[Detection] = []

    class Detector(MachineDetector):
        def hear(self, frame: bytes) -> Detection | None:
            self.done = frame == SILENCE
            return Detection("beep" if self.done else "machine", 20, "")

    tap = Tap(detector=Detector("PCMU"))
    tap.on_detection = told.append
    for heard in (frame(1), SILENCE, SILENCE):
        tap.said(True)
        tap.heard(heard)
    assert [detection.result for detection in told] == ["machine", "beep"]
    assert tap.detected == "machine_beep"
    assert tap.conversation is None
