"""A call's agent and phone leg joined: who hears what when, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

import pytest

from media import g711
from media.agents.base import AgentCounts, AgentPort, Encoding, EndCause
from media.bridge import ASKS_PER_SECOND, TRANSITIONS, Bridge, Input, State
from media.consent_tone import ConsentTone
from media.conversation import ConversationMeter
from media.machine_detection import MachineDetector
from media.messages import (
    AgentAsks,
    AgentEnded,
    AgentFailed,
    AgentNoted,
    AgentReady,
    AgentSpec,
    DigitReceived,
    DigitsUnsent,
    LegStatistics,
    MachineDetected,
    MarkReached,
    NoticeBody,
)
from media.recorder import Audio, End, RecorderInput
from media.recording import CallRecording
from media.tap import Tap
from media.ticker import FRAME_S, Tick
from tests.support.audio import tone
from tests.support.clock import FakeClock

SILENCE = g711.silence("PCMU")


class FakeLeg:
    """Plays a script of caller frames and keeps what is sent, None for silence."""

    def __init__(self, caller: Iterable[bytes] = ()) -> None:
        self.law: Encoding = "PCMU"
        self.digits_pending = False
        self.sending = True
        self.caller = iter(caller)
        self.sent: list[bytes | None] = []
        self.skipped = 0
        self.digits = ""

    def hear(self, now: float) -> bytes:
        return next(self.caller, SILENCE)

    def say(self, take: Callable[[], bytes | None], now: float) -> bool:
        self.sent.append(take())
        return self.sending

    def skip(self, frames: int) -> None:
        self.skipped += frames

    def send_digits(self, digits: str) -> bool:
        self.digits += digits
        return True

    def statistics(self, now: float) -> LegStatistics:
        return LegStatistics(packets_sent=len(self.sent))


class FakeAgent:
    def __init__(self, encoding: Encoding | None = "PCMU") -> None:
        self.encoding = encoding
        self.counts = AgentCounts()
        self.port: AgentPort | None = None
        self.begun = 0
        self.heard: list[tuple[int, bytes]] = []
        self.digits: list[str] = []
        self.marks: list[str] = []
        self.events: list[tuple[str, dict[str, object]]] = []
        self.closed = False

    def open(self, port: AgentPort) -> None:
        self.port = port

    def on_start(self) -> None:
        self.begun += 1

    def on_audio(self, frame: bytes, at_ms: int) -> None:
        self.heard.append((at_ms, frame))

    def on_digit(self, digit: str, duration_ms: int) -> None:
        self.digits.append(digit)

    def on_mark(self, name: str) -> None:
        self.marks.append(name)

    def on_event(self, event: str, data: Mapping[str, object]) -> None:
        self.events.append((event, dict(data)))

    async def close(self) -> None:
        self.closed = True


class Call:
    """A bridge on a fake clock; ``run`` ticks it."""

    def __init__(self, leg: FakeLeg | None = None, agent: FakeAgent | None = None, answer_after_s: float = 1.0) -> None:
        self.clock = FakeClock()
        self.leg = leg or FakeLeg()
        self.agent = agent or FakeAgent()
        self.notices: list[NoticeBody] = []
        spec = AgentSpec(protocol="builtin", answer_after_s=answer_after_s, agent_timeout_s=15.0)
        self.bridge = Bridge(
            "c", spec=spec, leg=self.leg, agent=self.agent, notify=self.notices.append, clock=self.clock
        )
        self.bridge.open()

    def tick(self, frames: int = 1, skipped: int = 0, late_s: float = 0.0) -> None:
        self.clock.advance((frames + skipped) * FRAME_S)
        due_at = self.clock() - late_s + skipped * FRAME_S
        tick = Tick(now=self.clock(), frames=frames, skipped=skipped, late_s=late_s, due_at=due_at)
        self.bridge.say(tick)
        self.bridge.hear(tick)

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / FRAME_S)):
            self.tick()

    def answered(self) -> Call:
        self.bridge.started()
        self.bridge.ready()
        self.bridge.start()
        self.notices.clear()
        return self


# --- answering ------------------------------------------------------------------------------------


def test_the_phone_is_answered_at_the_agents_first_audio() -> None:
    call = Call()
    call.bridge.started()
    call.run(0.2)
    assert call.notices == []
    call.bridge.play(bytes(160), "PCMU")
    assert call.notices == [AgentReady(call="c", waited_s=0.2)]


def test_a_silent_agent_is_answered_for_after_answer_after_s() -> None:
    call = Call(answer_after_s=1.0)
    call.run(3.0)
    call.bridge.started()
    call.run(0.98)
    assert call.notices == []
    call.run(0.06)
    assert call.notices == [AgentReady(call="c", waited_s=pytest.approx(4.0, abs=0.03), connected_s=3.0)]


def test_answer_after_zero_answers_at_the_agents_start() -> None:
    call = Call(answer_after_s=0.0)
    call.bridge.started()
    assert call.notices == [AgentReady(call="c", waited_s=0.0)]


def test_the_phone_is_answered_once() -> None:
    call = Call()
    call.bridge.started()
    for _ in range(3):
        call.bridge.play(bytes(160), "PCMU")
    call.run(2.0)
    assert len(call.notices) == 1


def test_ringing_does_not_go_on_for_ever_when_the_agent_is_not_reached() -> None:
    call = Call()
    call.run(14.9)
    assert call.notices == []
    call.run(0.2)
    assert call.notices == [AgentFailed(call="c", cause="timeout", message="no connection in 15 s")]


def test_an_agent_that_refuses_fails_the_call_at_once() -> None:
    call = Call()
    call.bridge.failed("refused", "connection refused")
    assert call.notices == [AgentFailed(call="c", cause="refused", message="connection refused")]
    call.run(20)
    assert len(call.notices) == 1


def test_an_agent_whose_failure_shows_after_its_start_fails_the_call_before_the_answer() -> None:
    call = Call()
    call.bridge.started()
    call.bridge.failed("error", "its recording cannot be read")
    assert call.notices == [AgentFailed(call="c", cause="error", message="its recording cannot be read")]


def test_an_agent_that_fails_in_mid_call_ends_it_as_lost() -> None:
    call = Call().answered()
    call.bridge.failed("error", "broken")
    assert call.notices == [AgentEnded(call="c", cause="lost", message="broken")]


@pytest.mark.parametrize("cause", ["closed", "lost"])
def test_an_agent_that_leaves_before_its_start_fails_the_call(cause: EndCause) -> None:
    """It was never told of the call: to the caller it could not be reached."""
    call = Call()
    call.bridge.ended(cause, "")
    (failed,) = call.notices
    assert isinstance(failed, AgentFailed)
    assert failed.message == "the agent left before the answer"


def test_an_agent_that_hangs_up_before_its_start_fails_the_call() -> None:
    call = Call()
    call.bridge.hang_up()
    assert [type(notice) for notice in call.notices] == [AgentFailed]


@pytest.mark.parametrize("moment", ["connecting", "started", "answered", "leaving", "ended"])
async def test_a_call_that_is_over_is_over_for_the_agent_at_any_moment(moment: str) -> None:
    """Its end is the caller's: nobody is told anything more, and no timer of it is left."""
    call = Call()
    if moment == "started":
        call.bridge.started()
    if moment in ("answered", "leaving", "ended"):
        call.answered()
    if moment in ("leaving", "ended"):
        call.bridge.play(bytes(1600), "PCMU")
        call.bridge.ended("closed" if moment == "leaving" else "lost", "")
    call.notices.clear()
    await call.bridge.close()
    assert call.agent.closed
    assert call.bridge.state is State.CLOSED
    call.run(40.0)
    assert call.notices == []


@pytest.mark.parametrize("cause", ["closed", "lost"])
def test_an_agent_that_leaves_before_it_spoke_ends_the_call_as_who_left(cause: EndCause) -> None:
    """It had connected: the record is not to say that it could not be reached."""
    call = Call()
    call.bridge.started()
    call.bridge.ended(cause, "closed with 1000")
    assert call.notices == [AgentEnded(call="c", cause=cause, message="closed with 1000")]


def test_an_agent_that_hangs_up_before_it_spoke_has_hung_up() -> None:
    call = Call()
    call.bridge.started()
    call.bridge.hang_up()
    assert call.notices == [AgentEnded(call="c", cause="hang_up", message="")]


# --- audio ----------------------------------------------------------------------------------------


def test_nothing_is_sent_to_the_phone_or_the_agent_before_the_call_is_established() -> None:
    call = Call()
    call.bridge.started()
    call.bridge.play(b"\x01" * 1600, "PCMU")
    call.run(0.5)
    assert call.leg.sent == []
    assert call.agent.heard == []


def test_audio_from_before_the_answer_is_queued_and_played_from_its_start() -> None:
    call = Call()
    call.bridge.started()
    call.bridge.play(b"\x01" * 320, "PCMU")
    call.run(1.0)
    call.bridge.start()
    call.run(0.06)
    assert call.leg.sent == [b"\x01" * 160, b"\x01" * 160, None]


def test_a_second_start_changes_nothing() -> None:
    call = Call().answered()
    call.bridge.start()
    assert call.agent.begun == 1


def test_audio_far_faster_than_real_time_is_paced_out_at_20_ms() -> None:
    call = Call().answered()
    audio = bytes(index % 251 for index in range(160 * 100))
    for start in range(0, len(audio), 1111):
        call.bridge.play(audio[start : start + 1111], "PCMU")
    call.run(2.0)
    assert b"".join(frame for frame in call.leg.sent if frame) == audio
    assert len(call.leg.sent) == 100


def test_the_agent_gets_one_frame_for_each_20_ms_of_call_with_true_milliseconds() -> None:
    call = Call(FakeLeg(caller=[b"\x01" * 160, b"\x02" * 160])).answered()
    call.run(0.08)
    assert call.agent.heard == [(0, b"\x01" * 160), (20, b"\x02" * 160), (40, SILENCE), (60, SILENCE)]


def test_after_a_stall_time_that_was_given_up_counts_in_the_agents_milliseconds() -> None:
    call = Call().answered()
    call.tick()
    call.tick(frames=5, skipped=10)
    assert [at_ms for at_ms, _ in call.agent.heard] == [0, 220, 240, 260, 280, 300]
    assert call.leg.skipped == 10
    assert len(call.leg.sent) == 6, "no burst beyond what is caught up"


def test_a_pcmu_call_and_a_mu_law_agent_exchange_the_very_same_bytes() -> None:
    caller = bytes(range(160))
    call = Call(FakeLeg(caller=[caller])).answered()
    call.bridge.play(caller, "PCMU")
    call.run(0.02)
    assert call.leg.sent == [caller]
    assert call.agent.heard[0][1] is caller


@pytest.mark.parametrize("law", ["PCMU", "PCMA"])
def test_a_linear_agent_is_given_and_gives_linear_samples(law: Encoding) -> None:
    spoken = g711.ENCODERS[law](b"\x00\x10" * 160)
    leg = FakeLeg(caller=[spoken])
    leg.law = law
    call = Call(leg, FakeAgent(encoding="L16")).answered()
    call.bridge.play(g711.DECODERS[law](spoken) + b"\x00", "L16")
    call.run(0.02)
    assert call.agent.heard[0][1] == g711.DECODERS[law](spoken)
    assert call.leg.sent == [spoken]


def test_a_mu_law_agent_on_an_a_law_call_is_transcoded_both_ways() -> None:
    spoken = g711.encode_alaw(b"\x00\x10" * 160)
    leg = FakeLeg(caller=[spoken])
    leg.law = "PCMA"
    call = Call(leg).answered()
    call.bridge.play(g711.transcode(spoken, "PCMA", "PCMU"), "PCMU")
    call.run(0.02)
    assert call.agent.heard[0][1] == g711.transcode(spoken, "PCMA", "PCMU")
    assert call.leg.sent == [spoken]


def test_a_law_learnt_from_the_answer_recodes_what_is_queued() -> None:
    call = Call()
    spoken = g711.encode_ulaw(b"\x00\x10" * 160)
    call.bridge.started()
    call.bridge.play(spoken, "PCMU")
    call.leg.law = "PCMA"
    call.bridge.law_changed()
    call.bridge.start()
    call.run(0.02)
    assert call.leg.sent == [g711.transcode(spoken, "PCMU", "PCMA")]
    assert call.bridge.encoding == "PCMA"


# --- clear and marks ------------------------------------------------------------------------------


def test_the_agent_can_see_what_of_its_words_was_sent_to_the_phone() -> None:
    call = Call().answered()
    call.bridge.play(bytes(1600), "PCMU")
    call.run(0.06)
    assert (call.bridge.played_ms, call.bridge.queued_ms) == (60, 140)
    call.bridge.clear()
    call.run(0.1)
    assert (call.bridge.played_ms, call.bridge.queued_ms) == (60, 0)


def test_barge_in_empties_the_queue_within_a_frame_and_returns_the_marks() -> None:
    call = Call().answered()
    call.bridge.play(b"\x01" * 16000, "PCMU")
    call.bridge.mark("a")
    call.bridge.play(b"\x01" * 16000, "PCMU")
    call.bridge.mark("b")
    call.run(0.1)
    assert call.bridge.clear() == ("a", "b")
    call.run(0.04)
    assert call.leg.sent[5:] == [None, None]
    assert call.agent.marks == []
    assert not call.bridge.playing


def test_a_mark_is_echoed_when_playout_reaches_it() -> None:
    call = Call().answered()
    call.bridge.play(bytes(320), "PCMU")
    call.bridge.mark("here")
    call.run(0.02)
    assert call.agent.marks == []
    call.run(0.02)
    assert call.agent.marks == ["here"]


def test_a_mark_with_nothing_to_play_is_echoed_at_once() -> None:
    call = Call().answered()
    call.bridge.mark("now")
    assert call.agent.marks == ["now"]


# --- digits ---------------------------------------------------------------------------------------


def test_a_digit_is_told_to_control_and_to_the_agent() -> None:
    call = Call().answered()
    call.bridge.digit("5", 120)
    assert call.notices == [DigitReceived(call="c", digit="5", duration_ms=120)]
    assert call.agent.digits == ["5"]


# --- the end --------------------------------------------------------------------------------------


def test_an_agent_that_closes_is_played_out_before_the_call_ends() -> None:
    call = Call().answered()
    call.bridge.play(b"\x01" * 1600, "PCMU")
    call.bridge.ended("closed", "closed with 1000")
    call.run(0.18)
    assert call.notices == []
    call.run(0.04)
    assert call.leg.sent[:10] == [b"\x01" * 160] * 10
    assert call.notices == [AgentEnded(call="c", cause="closed", message="closed with 1000")]


def test_playing_out_takes_30_seconds_at_most() -> None:
    call = Call().answered()
    call.bridge.play(bytes(8000 * 60), "PCMU")
    call.bridge.ended("closed", "")
    call.run(29.9)
    assert call.notices == []
    call.run(0.2)
    assert call.notices == [AgentEnded(call="c", cause="closed")]


def test_an_agent_that_is_lost_ends_the_call_at_once() -> None:
    call = Call().answered()
    call.bridge.play(bytes(8000), "PCMU")
    call.bridge.ended("lost", "the connection was lost")
    assert call.notices == [AgentEnded(call="c", cause="lost", message="the connection was lost")]


def test_a_hang_up_waits_for_the_last_word_and_for_digits() -> None:
    call = Call().answered()
    call.bridge.play(bytes(160), "PCMU")
    call.bridge.hang_up()
    call.leg.digits_pending = True
    call.run(0.2)
    assert call.notices == []
    call.leg.digits_pending = False
    call.run(0.02)
    assert call.notices == [AgentEnded(call="c", cause="hang_up")]


def test_an_agent_whose_link_drops_after_its_hang_up_has_hung_up() -> None:
    call = Call().answered()
    call.bridge.play(bytes(1600), "PCMU")
    call.bridge.hang_up()
    call.bridge.ended("lost", "the connection was lost")
    call.run(0.3)
    assert call.notices == [AgentEnded(call="c", cause="hang_up")]


def test_what_the_agent_says_after_its_end_is_not_played() -> None:
    call = Call().answered()
    call.bridge.hang_up()
    call.bridge.play(bytes(160), "PCMU")
    call.bridge.mark("late")
    call.bridge.send_digits("1")
    call.run(0.04)
    assert call.leg.sent == [None, None]
    assert call.agent.marks == []
    assert call.leg.digits == ""


async def test_after_the_close_nothing_is_told() -> None:
    call = Call().answered()
    await call.bridge.close()
    call.bridge.digit("1", 100)
    call.bridge.play(bytes(160), "PCMU")
    call.bridge.ended("lost", "")
    call.run(1.0)
    assert call.agent.closed
    assert call.notices == []


def test_a_call_that_breaks_inside_is_ended_as_lost_even_while_playing_out() -> None:
    call = Call().answered()
    call.bridge.play(bytes(1600), "PCMU")
    call.bridge.hang_up()
    call.bridge.break_off("internal error")
    assert call.notices == [AgentEnded(call="c", cause="lost", message="internal error")]


# --- statistics and the table ---------------------------------------------------------------------


def test_statistics_join_the_legs_the_agents_and_the_queues() -> None:
    call = Call().answered()
    call.agent.counts = AgentCounts(sent=7, dropped=2, ignored=3)
    call.bridge.play(bytes(480), "PCMU")
    call.tick(late_s=0.004)
    found = call.bridge.statistics(call.clock())
    assert (found.agent_frames_sent, found.agent_frames_dropped, found.agent_messages_ignored) == (7, 2, 3)
    assert (found.agent_frames_received, found.playout_queued_ms, found.playout_overflow_ms) == (3, 40, 0)
    assert (found.packets_sent, found.pacing_late_max_ms) == (1, 4.0)


IGNORED = {
    (State.CONNECTING, Input.SPOKE),
    (State.CONNECTING, Input.ANSWER_DUE),
    (State.CONNECTING, Input.PLAYED_OUT),
    (State.CONNECTING, Input.PLAYOUT_DUE),
    (State.STARTED, Input.STARTED),
    (State.STARTED, Input.CONNECT_DUE),
    (State.STARTED, Input.PLAYED_OUT),
    (State.STARTED, Input.PLAYOUT_DUE),
    (State.READY, Input.STARTED),
    (State.READY, Input.SPOKE),
    (State.READY, Input.ANSWER_DUE),
    (State.READY, Input.CONNECT_DUE),
    (State.READY, Input.PLAYED_OUT),
    (State.READY, Input.PLAYOUT_DUE),
    *((State.LEAVING, each) for each in Input if each not in (Input.PLAYED_OUT, Input.PLAYOUT_DUE, Input.CLOSE)),
    *((State.ENDED, each) for each in Input if each is not Input.CLOSE),
    *((State.CLOSED, each) for each in Input),
}


def test_every_pair_is_in_the_table_or_listed_as_ignored() -> None:
    pairs = {(state, each) for state in State for each in Input}
    assert TRANSITIONS.keys() | IGNORED == pairs
    assert not TRANSITIONS.keys() & IGNORED


# --- what only control can do -----------------------------------------------------------------------


def test_a_wish_of_the_agent_goes_to_control_and_the_outcome_comes_back() -> None:
    call = Call().answered()
    call.bridge.ask("transfer", {"target": "+15550001111"})
    assert call.notices == [AgentAsks(call="c", verb="transfer", arguments={"target": "+15550001111"})]
    call.bridge.tell("transfer", {"status": 200})
    assert call.agent.events == [("transfer", {"status": 200})]


async def test_after_the_end_the_agent_asks_and_is_told_nothing() -> None:
    call = Call().answered()
    await call.bridge.close()
    call.bridge.ask("transfer", {})
    call.bridge.tell("transfer", {})
    assert (call.notices, call.agent.events) == ([], [])


def test_an_agent_of_another_rate_hears_and_is_heard() -> None:
    """One frame of 20 ms each way, at its own rate."""
    agent = FakeAgent()
    agent.encoding = "L16/16000"
    call = Call(agent=agent).answered()
    call.run(0.1)
    assert {len(frame) for _, frame in agent.heard[1:]} == {640}
    call.bridge.play(bytes(640 * 10), "L16/16000")
    assert abs(call.bridge.statistics(0.0).agent_frames_received - 10) <= 1


# --- who listens in -------------------------------------------------------------------------------


def test_a_tap_is_given_what_the_phone_was_sent_and_what_it_said_frame_for_frame() -> None:
    handed: list[RecorderInput] = []
    call = Call(FakeLeg([bytes([100 + number]) * 160 for number in range(5)])).answered()
    call.bridge.listen(Tap(recording=CallRecording("c", "PCMU", handed.append), tone=ConsentTone("PCMU")))
    call.bridge.play(bytes([1]) * 160, "PCMU")
    call.tick(frames=3)
    call.tick(frames=2, skipped=4)
    call.leg.sending = False
    call.tick()
    asyncio.run(call.bridge.close())
    first, second, end = handed
    assert isinstance(first, Audio)
    assert isinstance(second, Audio)
    assert (first.at, second.at, end) == (0, 7, End(call="c", frames=10))
    assert first.heard == b"".join(bytes([100 + number]) * 160 for number in range(3))
    assert first.said == b"".join(frame or SILENCE for frame in call.leg.sent[:3])
    assert second.said[-160:] == SILENCE
    assert call.leg.sent[-1] != SILENCE


def test_a_tap_hears_of_a_change_of_law() -> None:
    handed: list[RecorderInput] = []
    call = Call()
    call.bridge.listen(Tap(recording=CallRecording("c", "PCMU", handed.append)))
    call.leg.law = "PCMA"
    call.bridge.law_changed()
    call.answered().tick()
    asyncio.run(call.bridge.close())
    assert [message.encoding for message in handed if isinstance(message, Audio)] == ["PCMA"]


# --- on hold --------------------------------------------------------------------------------------


def test_a_held_phone_hears_the_music_and_not_the_agent() -> None:
    leg = FakeLeg()
    call = Call(leg).answered()
    call.bridge._hold_music = bytes(640)
    call.bridge.play(b"a" * 480, "PCMU")
    call.bridge.mark("said")
    call.tick()
    call.bridge.hold(True)
    call.tick()
    call.tick()
    call.bridge.hold(False)
    call.bridge.play(b"b" * 160, "PCMU")
    call.tick()
    assert leg.sent == [b"a" * 160, SILENCE, SILENCE, b"b" * 160]
    assert call.agent.marks == ["said"], "time passes for the agent"


def test_a_held_phone_hears_silence_where_there_is_no_music() -> None:
    leg = FakeLeg()
    call = Call(leg).answered()
    call.bridge.hold(True)
    call.bridge.play(b"a" * 160, "PCMU")
    call.tick()
    assert leg.sent == [None]


def test_a_tap_goes_on_through_a_hold() -> None:
    """What the phone was sent is what it heard: music while it was held, the agent after it."""
    handed: list[RecorderInput] = []
    leg = FakeLeg()
    call = Call(leg).answered()
    call.bridge._hold_music = bytes(640)
    call.bridge.listen(Tap(recording=CallRecording("c", "PCMU", handed.append)))
    call.bridge.hold(True)
    call.tick()
    call.bridge.hold(False)
    call.bridge.play(b"b" * 160, "PCMU")
    call.tick()
    asyncio.run(call.bridge.close())
    said = b"".join(message.said for message in handed if isinstance(message, Audio))
    assert leg.sent == [SILENCE, b"b" * 160]
    assert said == SILENCE + b"b" * 160


def test_the_first_word_of_an_agent_with_early_media_answers_nothing() -> None:
    """Its own time does."""
    call = Call(answer_after_s=1.0)
    call.bridge._spec = AgentSpec(protocol="builtin", answer_after_s=1.0, early_media=True)
    call.bridge.started()
    call.bridge.play(bytes(160), "PCMU")
    assert call.notices == []
    call.run(1.1)
    assert [type(notice) for notice in call.notices] == [AgentReady]


# --- digits by INFO -------------------------------------------------------------------------------


def test_a_key_that_comes_by_info_too_is_told_once() -> None:
    call = Call().answered()
    call.bridge.digit("1", 100)
    call.bridge.digit_by_info("1", 100)
    call.bridge.digit_by_info("2", 160)
    assert call.agent.digits == ["1", "2"]
    assert [notice.digit for notice in call.notices if isinstance(notice, DigitReceived)] == ["1", "2"]


def test_a_callers_digits_are_passed_on_once_whichever_way_they_come() -> None:
    call = Call().answered()
    passed: list[str] = []
    call.bridge.rewire(call.leg, pass_digit=passed.append)
    call.bridge.digit_by_info("1", 100)
    call.bridge.digit("1", 100)
    call.bridge.dismiss()
    call.bridge.digit_by_info("2", 100)
    call.bridge.rewire(call.leg)
    call.bridge.digit("3", 100)
    assert passed == ["1", "2"]


def test_digits_that_the_phone_takes_no_event_for_are_control_s_to_send() -> None:
    call = Call().answered()
    call.leg.send_digits = lambda digits: False  # type: ignore[assignment, method-assign, return-value]
    call.bridge.send_digits("12#")
    assert call.notices == [DigitsUnsent(call="c", digits="12#")]


def test_the_headers_of_an_agents_goodbye_go_with_its_end() -> None:
    call = Call().answered()
    call.bridge.hang_up({"X-Outcome": "sold"})
    call.run(0.1)
    [ended] = [notice for notice in call.notices if isinstance(notice, AgentEnded)]
    assert ended.headers == {"X-Outcome": "sold"}


# --- what control plays, clears and marks ---------------------------------------------------------


def test_a_recording_is_played_behind_what_the_agent_has_said() -> None:
    call = Call().answered()
    call.bridge.play(b"\x11" * 160, "PCMU")
    assert call.bridge.announce(bytes(320), interrupt=False)
    assert call.bridge.queued_ms == 40
    call.tick()
    assert call.leg.sent[-1] == b"\x11" * 160


def test_a_recording_that_interrupts_takes_its_place_and_the_agent_gets_its_marks_back() -> None:
    call = Call().answered()
    call.bridge.play(b"\x11" * 1600, "PCMU")
    call.bridge.mark("one")
    assert call.bridge.announce(bytes(320), interrupt=True)
    assert call.agent.marks == ["one"]
    assert call.bridge.queued_ms == 20
    call.bridge.silence()
    assert not call.bridge.playing


def test_controls_marks_are_controls_and_the_agents_are_the_agents() -> None:
    call = Call().answered()
    call.bridge.play(bytes(320), "PCMU")
    call.bridge.mark("theirs")
    assert call.bridge.set_mark("ours")
    assert call.notices == []
    call.run(0.04)
    assert call.agent.marks == ["theirs"]
    assert call.notices == [MarkReached(call="c", name="ours")]


def test_a_mark_with_nothing_to_wait_for_is_reached_at_once() -> None:
    call = Call().answered()
    assert call.bridge.set_mark("ours")
    assert call.notices == [MarkReached(call="c", name="ours")]


def test_an_agent_that_clears_gets_its_own_marks_alone() -> None:
    call = Call().answered()
    call.bridge.play(bytes(320), "PCMU")
    call.bridge.set_mark("ours")
    call.bridge.mark("theirs")
    assert call.bridge.clear() == ("theirs",)
    assert call.notices == [MarkReached(call="c", name="ours", cleared=True)]


def test_nothing_is_played_or_marked_before_the_call_is_up_or_once_it_leaves() -> None:
    call = Call()
    assert not call.bridge.announce(bytes(320), interrupt=False)
    assert not call.bridge.set_mark("ours")
    call.answered()
    call.bridge.hang_up()
    assert not call.bridge.announce(bytes(320), interrupt=False)
    assert not call.bridge.set_mark("ours")


def test_what_is_noted_about_an_agent_reaches_control_until_the_end() -> None:
    call = Call()
    call.bridge.note("agent_lost", "gone")
    assert call.notices == [AgentNoted(call="c", event="agent_lost", detail="gone")]


# --- an agent that asks without end -----------------------------------------------------------------


def test_an_agent_that_asks_without_end_is_heard_ten_times_a_second_and_told_once() -> None:
    """Each would be a message to control and a task there."""
    call = Call().answered()
    for _ in range(5000):
        call.bridge.ask("hold", {})
    assert len(call.notices) == ASKS_PER_SECOND
    assert call.agent.events == [("refused", {"verb": "hold", "message": "too many requests"})]
    call.clock.advance(1.0)
    call.bridge.ask("hold", {})
    assert len(call.notices) == ASKS_PER_SECOND + 1


def test_an_agent_far_too_fast_fills_its_queue_and_no_more() -> None:
    """An hour of audio in one second: five minutes are kept, the rest is counted."""
    call = Call().answered()
    for _ in range(3600):
        call.bridge.play(bytes(8000), "PCMU")
    assert call.bridge.queued_ms == 300_000
    assert call.bridge.statistics(call.clock()).playout_overflow_ms == 3_300_000


def test_an_agent_that_marks_without_end_is_given_back_what_was_kept() -> None:
    call = Call().answered()
    call.bridge.play(bytes(8000), "PCMU")
    for number in range(10_000):
        call.bridge.mark(str(number))
    assert len(call.bridge.clear()) == 4096


def test_the_agent_and_control_hear_who_answered_and_the_statistics_have_it() -> None:
    call = Call(FakeLeg([g711.encode_ulaw(tone(1100, 0.02).tobytes())] * 25)).answered()
    meter = ConversationMeter("PCMU")
    call.bridge.listen(Tap(detector=MachineDetector("PCMU"), meter=meter))
    assert call.bridge.statistics(0.0).machine_detection is None
    call.run(1.0)
    [notice] = call.notices
    assert isinstance(notice, MachineDetected)
    assert (notice.result, notice.after_ms) == ("fax", 520)
    event, data = call.agent.events[-1]
    assert (event, data["result"], data["after_ms"]) == ("machine_detection", "fax", 520)
    statistics = call.bridge.statistics(1.0)
    assert statistics.machine_detection == "fax"
    assert statistics.conversation == meter.summary()
