"""Two phone legs as one: who hears whom, before and after they are joined."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from media import g711
from media.agents.base import Encoding
from media.consent_tone import ConsentTone
from media.conversation import ConversationMeter
from media.crossing import Crossing, mixed
from media.recorder import Audio, RecorderInput
from media.recording import CallRecording
from media.tap import Tap
from tests.media.test_bridge import SILENCE, Call, FakeLeg

AGENT, CALLER, PEER = b"\x11" * 160, b"\x22" * 160, b"\x33" * 160


class FakePeer(FakeLeg):
    def __init__(self, heard: Iterable[bytes] = (), codec: str | None = None) -> None:
        super().__init__(heard)
        self.codec = codec
        self.attended = 0
        self.attend_at = 0.0

    def attend(self, now: float) -> None:
        self.attended += 1


class Lines:
    def __init__(self, *, codec: str | None = None) -> None:
        self.caller = FakeLeg([CALLER] * 100)
        self.peer = FakePeer([PEER] * 100, codec)
        self.crossing = Crossing(self.caller, self.peer)

    def tick(self, agent: bytes | None = None) -> bytes:
        """A frame of 20 ms in the bridge's order; what the agent hears."""
        self.crossing.say(lambda: self.crossing.mix(lambda: agent), 0.0)
        return self.crossing.overhear(self.crossing.hear(0.0))


def test_while_it_rings_the_agent_is_heard_and_hears_the_caller_alone() -> None:
    lines = Lines()
    assert [lines.tick(AGENT) for _ in range(3)] == [CALLER] * 3
    assert lines.caller.sent == [AGENT] * 3
    assert lines.peer.sent == [None] * 3, "the way to the peer is kept open"
    assert lines.peer.attended == 3


def test_early_media_is_heard_by_the_caller_beside_the_agent() -> None:
    lines = Lines(codec="PCMU")
    lines.tick()
    lines.tick()
    lines.tick(AGENT)
    lines.tick()
    assert lines.caller.sent == [None, PEER, mixed(AGENT, PEER, "PCMU"), PEER]
    assert set(lines.peer.sent) == {None}, "nothing of the caller reaches a phone that has not answered"


def test_a_peer_that_rings_without_early_media_is_made_audible() -> None:
    """The tone begins again after its last frame, and gives way to the peer's own audio."""
    lines = Lines()
    first, last = bytes([1, 0]) * 160, bytes([0, 8]) * 160
    lines.crossing.ring(first + last)
    tone = [g711.ENCODERS["PCMU"](frame) for frame in (first, last)]
    for _ in range(3):
        lines.tick()
    lines.tick(AGENT)
    assert lines.caller.sent == [*tone, tone[0], mixed(AGENT, tone[1], "PCMU")]
    lines.peer.codec = "PCMU"
    lines.tick()
    lines.tick()
    assert lines.caller.sent[4:] == [None, PEER]


def test_joined_legs_hear_each_other_and_not_the_agent() -> None:
    lines = Lines(codec="PCMU")
    lines.crossing.join()
    assert [lines.tick(AGENT) for _ in range(4)] == [CALLER] * 4
    assert lines.caller.sent == [None, PEER, PEER, PEER]
    assert lines.peer.sent == [None, CALLER, CALLER, CALLER]


def test_an_agent_that_has_stayed_hears_both() -> None:
    lines = Lines(codec="PCMU")
    lines.crossing.join(listened=True)
    assert lines.tick() == mixed(CALLER, PEER, "PCMU")


@pytest.mark.parametrize("listened", [False, True], ids=["agent left", "agent listens"])
def test_what_is_recorded_once_joined_is_the_caller_left_and_what_it_hears_right(listened: bool) -> None:
    """The peer is right and nowhere else, and is told of the recording as the caller was."""
    lines, handed = Lines(codec="PCMU"), list[RecorderInput]()
    call = Call(lines.caller).answered()
    call.bridge.listen(Tap(recording=CallRecording("c", "PCMU", handed.append)))
    call.bridge.play(AGENT, "PCMU")
    call.tick()
    crossing = lines.crossing
    call.bridge.rewire(crossing, crossing.mix, crossing.overhear)
    crossing.join(listened=listened, tone=ConsentTone("PCMU"))
    if not listened:
        call.bridge.dismiss()
    for _ in range(3):
        call.tick()
    asyncio.run(call.bridge.close())
    (audio,) = (message for message in handed if isinstance(message, Audio))
    assert audio.heard == CALLER * 4
    assert audio.said == AGENT + SILENCE + PEER * 2
    assert len(call.agent.heard) == (4 if listened else 1)
    told, crossed = ConsentTone("PCMU"), iter([None, CALLER, CALLER])
    assert lines.peer.sent == [told.take(lambda: next(crossed)) for _ in range(3)]


def test_what_the_peer_says_is_no_answer_of_the_agents() -> None:
    """The conversation is measured while the caller has the agent, and again when it has it back."""
    lines, meter = Lines(codec="PCMU"), ConversationMeter("PCMU")
    call = Call(lines.caller).answered()
    call.bridge.listen(Tap(meter=meter))
    call.tick()
    call.bridge.rewire(lines.crossing, lines.crossing.mix, lines.crossing.overhear)
    lines.crossing.join()
    call.run(1.0)
    assert meter._frame == 1
    assert call.bridge.statistics(0.0).conversation == meter.summary()
    call.bridge.rewire(lines.caller)
    call.run(0.2)
    assert meter._frame == 11


def test_the_tone_of_a_recording_follows_the_peers_encoding() -> None:
    lines = Lines(codec="PCMU")
    lines.crossing.join(tone=ConsentTone("PCMU"))
    lines.tick()
    lines.peer.law = "L16/16000"
    lines.crossing.peer_changed()
    lines.tick()
    assert [len(frame or b"") for frame in lines.peer.sent] == [160, 640]


def test_legs_of_different_laws_are_transcoded_both_ways() -> None:
    lines = Lines(codec="PCMA")
    lines.peer.law = "PCMA"
    lines.crossing.join()
    lines.tick()
    lines.tick()
    assert lines.caller.sent[1] == g711.transcode(PEER, "PCMA", "PCMU")
    assert lines.peer.sent[1] == g711.transcode(CALLER, "PCMU", "PCMA")


def test_digits_cross_once_joined_and_not_before() -> None:
    lines = Lines(codec="PCMU")
    lines.crossing.caller_digit("1")
    lines.crossing.peer_digit("2")
    lines.crossing.join()
    lines.crossing.caller_digit("3")
    lines.crossing.peer_digit("4")
    assert (lines.peer.digits, lines.caller.digits) == ("3", "4")


def test_an_agents_digits_go_to_the_caller() -> None:
    lines = Lines()
    lines.crossing.send_digits("5")
    assert (lines.caller.digits, lines.crossing.digits_pending) == ("5", False)


def test_time_that_was_skipped_is_skipped_on_both() -> None:
    lines = Lines()
    lines.crossing.skip(3)
    assert (lines.caller.skipped, lines.peer.skipped) == (3, 3)


def test_what_waits_is_bounded_when_only_one_side_is_paced() -> None:
    lines = Lines(codec="PCMU")
    lines.crossing.join()
    for _ in range(50):
        lines.crossing.hear(0.0)
    assert len(lines.crossing._to_peer) == len(lines.crossing._to_caller) == 5


def test_the_crossing_has_the_callers_law_and_statistics() -> None:
    lines = Lines()
    lines.tick()
    assert lines.crossing.law == "PCMU"
    assert lines.crossing.statistics(0.0).packets_sent == 1


@pytest.mark.parametrize("encoding", ["PCMU", "PCMA", "L16"])
def test_silence_added_changes_nothing(encoding: Encoding) -> None:
    frame = bytes(range(160)) if encoding != "L16" else bytes(range(128)) * 2
    silence = SILENCE if encoding == "PCMU" else g711.silence("PCMA") if encoding == "PCMA" else bytes(256)
    decoded = g711.DECODERS.get(encoding, bytes)
    assert (
        abs(sum(a - b for a, b in zip(decoded(mixed(frame, silence, encoding)), decoded(frame), strict=True))) < 8 * 160
    )
