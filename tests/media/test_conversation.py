"""Silences, talk-over and response times, from a script of who speaks when."""

from __future__ import annotations

import pytest

from media import g711
from media.conversation import ConversationMeter
from media.messages import Conversation, Stretches
from tests.support.audio import encode_ulaw, tone

LOUD = encode_ulaw(tone(400, 0.02, 0.3))
SILENCE = g711.silence("PCMU")


def conversation(caller: str, agent: str) -> Conversation:
    """A character is 0.1 s: ``x`` speaks, ``.`` is silent, ``-`` sends nothing."""
    meter = ConversationMeter("PCMU")
    frames = {"x": LOUD, ".": SILENCE, "-": None}
    for heard, said in zip(caller.ljust(len(agent), "."), agent.ljust(len(caller), "-"), strict=True):
        for _ in range(5):
            meter.said(frames[said])
            meter.heard(frames[heard] or SILENCE)
    return meter.summary()


def test_the_response_time_runs_from_the_callers_last_word_to_the_agents_first() -> None:
    response = conversation("..xxxxxxxx..........", "--------------------xxxxx").response
    assert (response.count, response.p50_ms) == (1, 1000)


def test_only_the_first_word_after_a_turn_of_the_callers_counts() -> None:
    """An agent that greets, or goes on after a pause of its own, answers nobody."""
    response = conversation("..........xxxxxxxx" + "." * 40, "xxxxx" + "-" * 18 + "xxxx-----xxxx").response
    assert (response.count, response.p50_ms) == (1, 500)


def test_an_agent_that_streams_silence_says_nothing() -> None:
    assert conversation("..xxxxxxxx..........", "." * 20 + "xxxxx").response.p50_ms == 1000


def test_an_agent_that_interrupts_gives_no_response_time_but_talk_over() -> None:
    told = conversation("xxxxxxxxxxxxxxxxxxxx.....", "----------xxxxxxxxxx-----")
    assert told.response.count == 0
    assert told.talk_over.count == 1
    assert told.talk_over.total_ms == pytest.approx(1000, abs=60)


def test_a_moment_of_both_is_no_talk_over() -> None:
    assert conversation("xxxxxxxxxx........", "---------xxxxxxxxx").talk_over.count == 0


def test_the_callers_silences_of_a_second_and_more_are_counted() -> None:
    told = conversation("..xxxxx" + "." * 20 + "xxxxx" + "....." + "xxxxx" + "." * 30, "").caller_silence
    assert told.count == 2
    assert told.max_ms == pytest.approx(3000, abs=60)
    assert told.total_ms == pytest.approx(5000, abs=120)


def test_percentiles_are_of_the_lengths() -> None:
    caller = agent = ""
    for length in range(1, 21):
        caller += "xxxxx" + "." * (length + 10)
        agent += "-" * (5 + length) + "xxxxx" + "-" * 5
    response = conversation(caller, agent).response
    assert response.count == 20
    assert (response.p50_ms, response.p95_ms, response.max_ms) == (1100, 2000, 2000)
    assert response.total_ms == 21000


def test_a_call_in_which_nobody_spoke_has_no_figures() -> None:
    told = conversation(".....", "-----")
    assert told == Conversation()
    assert told.response == Stretches()


def test_time_that_was_skipped_is_silence() -> None:
    meter = ConversationMeter("PCMU")
    for _ in range(20):
        meter.said(None)
        meter.heard(LOUD)
    for _ in range(20):
        meter.said(None)
        meter.heard(SILENCE)
    meter.skip(80)
    assert meter.summary().caller_silence.max_ms == 2000


def test_another_encoding_is_measured_as_it_is() -> None:
    meter = ConversationMeter("PCMU")
    meter.change("L16/16000")
    for _ in range(10):
        meter.said(bytes(640))
        meter.heard(tone(400, 0.04, 0.3).tobytes())
    assert meter.summary().response.count == 0


def test_what_it_keeps_is_bounded() -> None:
    meter = ConversationMeter("PCMU")
    for _ in range(600):
        for frame in (LOUD, LOUD, LOUD, *[SILENCE] * 16):
            meter.said(None)
            meter.heard(frame)
        meter.said(LOUD)
        meter.heard(SILENCE)
        for _ in range(16):
            meter.said(None)
            meter.heard(SILENCE)
    response = meter.summary().response
    assert response.count == 600
