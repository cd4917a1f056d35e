"""A call as its agent has it."""

from __future__ import annotations

import array
import asyncio

import msgspec
import pytest

from media.hosting import wire
from media.hosting.wire import BadFrame, Kind
from media.python_agent import AudioFrame, Call, CallEnded, Event, Refused
from tests.media.agents.fakes import CONTEXT
from tests.media.hosting.lines import FRAME, RATE_HZ, SPEC, FakeCall, FakeLine

SECOND = b"\x00\x01" * RATE_HZ


async def turn(turns: int = 5) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


def test_an_agent_knows_whose_call_it_is() -> None:
    call = FakeCall()
    assert (call.id, call.account) == ("CA" + "1" * 32, "AC" + "2" * 32)
    assert (call.from_number, call.to_number, call.direction) == ("+14155550100", "+14155550199", "inbound")
    assert (call.trunk, dict(call.headers), dict(call.parameters)) == (
        "lab",
        {"X-Campaign": "spring"},
        {"mood": "calm"},
    )
    assert call.sample_rate == RATE_HZ
    assert call.id in repr(call)
    told = msgspec.structs.replace(CONTEXT, call_id="r", caller_name="Ada", sip_call_id="s", identity={"verstat": "A"})
    known = Call(FakeLine(), wire.Open(agent=SPEC, context=told), RATE_HZ)
    assert (known.record_id, known.caller_name, known.sip_call_id) == ("r", "Ada", "s")
    assert dict(known.identity) == {"verstat": "A"}


# --- the caller -------------------------------------------------------------------------------


async def test_it_hears_what_is_said_once_it_listens_and_until_the_end() -> None:
    call = FakeCall()
    call.hear(at_ms=0)
    listening = call.audio()
    call.hear(at_ms=20)
    call.hear(at_ms=40)
    call.finish()
    assert [frame async for frame in listening] == [AudioFrame(FRAME, 20), AudioFrame(FRAME, 40)]
    assert [frame async for frame in call.audio()] == []


async def test_an_agent_that_listens_too_slowly_loses_the_oldest_and_media_is_told_how_much() -> None:
    call = FakeCall()
    listening = call.audio()
    for number in range(call.BACKLOG_FRAMES + 3):
        call.hear(at_ms=number)
    assert [wire.number(frame) for frame in call.line.sent] == [1, 1, 1]
    assert call.line.kinds() == [Kind.DROPPED] * 3
    assert (await anext(listening)).at_ms == 3


async def test_an_agent_that_never_listens_loses_nothing() -> None:
    call = FakeCall()
    for _ in range(500):
        call.hear()
    assert call.line.sent == []


async def test_digits_and_events_come_one_at_a_time_until_the_end() -> None:
    call = FakeCall()
    call.press("4")
    call.press("#")
    call.tell("recording_started", consent=True)
    call.finish()
    assert [digit async for digit in call.digits()] == ["4", "#"]
    assert [event async for event in call.events()] == [Event("recording_started", {"consent": True})]


async def test_a_wait_for_the_answer_ends_with_it_or_with_the_call() -> None:
    call = FakeCall()
    waiting = asyncio.ensure_future(call.answered())
    await turn()
    assert not waiting.done()
    call.establish()
    await waiting
    await call.answered()
    other = FakeCall()
    waiting = asyncio.ensure_future(other.answered())
    await turn()
    other.finish()
    with pytest.raises(CallEnded):
        await waiting
    await other.ended()


# --- speaking ---------------------------------------------------------------------------------


async def test_audio_of_any_length_and_kind_is_played_in_order() -> None:
    call = FakeCall()
    samples = array.array("h", [1, 2, 3])
    await call.play(SECOND)
    await call.play(AudioFrame(FRAME, 0))
    await call.play(memoryview(samples))
    await call.play(b"")
    assert call.line.played() == SECOND + FRAME + samples.tobytes()
    assert max(len(frame) for frame in call.line.sent) <= 1 + len(SECOND) // 2


async def test_half_a_sample_is_an_error_of_the_agents() -> None:
    with pytest.raises(ValueError, match="3 bytes"):
        await FakeCall().play(b"abc")


async def test_a_fast_agent_is_held_back_to_what_may_wait() -> None:
    """30 s by default; what media has not taken yet counts as waiting."""
    call = FakeCall()
    playing = asyncio.ensure_future(call.play(SECOND * 40))
    await turn(200)
    assert not playing.done()
    assert len(call.line.played()) == len(SECOND) * 30.5
    assert call.queued_s == 30.5
    call.hear(queued_ms=30_100)
    await turn(200)
    assert len(call.line.played()) == len(SECOND) * 30.5
    call.hear(queued_ms=20_000)
    await turn(200)
    assert playing.done()
    assert call.queued_s == 29.5
    assert len(call.line.played()) == len(SECOND) * 40


async def test_playing_with_nothing_ahead_returns_when_it_was_heard() -> None:
    call = FakeCall()
    playing = asyncio.ensure_future(call.play(FRAME, ahead_s=0))
    await turn()
    call.hear(queued_ms=0, taken=0)  # not there yet
    await turn()
    call.hear(queued_ms=20)
    await turn()
    assert not playing.done()
    call.hear(queued_ms=0)
    await playing


async def test_clearing_ends_a_play_and_what_was_not_queued_is_not() -> None:
    call = FakeCall()
    playing = asyncio.ensure_future(call.play(SECOND * 40))
    await turn(200)
    call.clear()
    await playing
    assert len(call.line.played()) == len(SECOND) * 30.5
    assert call.line.kinds()[-1] is Kind.CLEAR
    assert call.queued_s == 0.0


async def test_an_agent_waits_while_media_does_not_read() -> None:
    call = FakeCall()
    call.line.full = asyncio.Event()
    playing = asyncio.ensure_future(call.play(SECOND))
    await turn()
    assert len(call.line.played()) == len(SECOND) // 2
    call.line.full.set()
    await playing


async def test_a_mark_says_whether_all_before_it_was_heard() -> None:
    call = FakeCall()
    heard, cleared, cut = (asyncio.ensure_future(call.mark()) for _ in range(3))
    await turn()
    assert [wire.number(frame) for frame in call.line.sent] == [1, 2, 3]
    call.reach(1)
    call.reach(2, heard=False)
    call.reach(99)
    await turn()
    call.finish()
    assert (await heard, await cleared, await cut) == (True, False, False)
    assert await call.mark() is False


async def test_playing_after_the_end_ends_the_agent_and_never_spins() -> None:
    call = FakeCall()
    playing = asyncio.ensure_future(call.play(SECOND * 40))
    await turn(200)
    call.finish()
    with pytest.raises(CallEnded):
        await playing
    with pytest.raises(CallEnded):
        await call.play(FRAME)
    call.clear()
    call.hang_up()
    assert Kind.HANG_UP not in call.line.kinds()


# --- the call itself --------------------------------------------------------------------------


async def test_what_it_says_of_the_call_goes_to_media() -> None:
    call = FakeCall()
    call.answer()
    call.send_digits("12w#")
    call.hang_up()
    call.hang_up({"X-Result": "sold"})
    assert call.line.sent == [
        bytes((Kind.ANSWER,)),
        bytes((Kind.DIGITS,)) + b"12w#",
        wire.encode(Kind.HANG_UP, wire.Parting({})),
        wire.encode(Kind.HANG_UP, wire.Parting({"X-Result": "sold"})),
    ]


@pytest.mark.parametrize("digits", ["x", "1 2", "٣", "1,2"])
def test_digits_that_are_none_are_an_error_of_the_agents(digits: str) -> None:
    with pytest.raises(ValueError, match="digits"):
        FakeCall().send_digits(digits)


@pytest.mark.parametrize("headers", [{"X-Result": 5}, {5: "sold"}, {"X-Result": "x" * 8000}])
def test_headers_that_no_bye_can_carry_are_an_error_of_the_agents(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="headers"):
        FakeCall().hang_up(headers)


async def test_a_transfer_that_is_refused_says_why_and_the_agent_has_the_caller() -> None:
    call = FakeCall()
    transfer = asyncio.ensure_future(call.transfer("+14155550123"))
    await turn()
    assert wire.decode(call.line.sent[0], wire.Ask) == wire.Ask("transfer", {"target": "+14155550123"})
    call.tell("something_else", verb="transfer")
    call.tell("transfer", status=180, phrase="Ringing", final=False)
    call.tell("refused", verb="transfer", message="not supported on this call")
    with pytest.raises(Refused, match="not supported"):
        await transfer


async def test_a_transfer_that_takes_the_caller_away_ends_the_call() -> None:
    call = FakeCall()
    transfer = asyncio.ensure_future(call.transfer("+14155550123"))
    await turn()
    call.finish()
    with pytest.raises(CallEnded):
        await transfer


async def test_answers_go_to_those_who_asked_in_their_order() -> None:
    call = FakeCall()
    first, second, resume = (asyncio.ensure_future(ask()) for ask in (call.hold, call.hold, call.resume))
    await turn()
    call.tell("hold", by="caller")
    call.tell("hold", by="agent")
    call.tell("refused", verb="hold")
    call.tell("resume", by="agent")
    assert (await first).data == {"by": "agent"}
    with pytest.raises(Refused, match="refused"):
        await second
    assert (await resume).name == "resume"


async def test_a_transfer_is_told_of_to_its_end() -> None:
    call = FakeCall()
    for status, phrase in ((200, "OK"), (486, "Busy Here")):
        transfer = asyncio.ensure_future(call.transfer("+14155550123"))
        await turn()
        call.tell("transfer", status=183, phrase="Session Progress", final=False)
        await turn()
        assert not transfer.done()
        call.tell("transfer", status=status, phrase=phrase, final=True)
        if status == 200:
            assert (await transfer).data["phrase"] == "OK"
        else:
            with pytest.raises(Refused, match="486 Busy Here"):
                await transfer
    call.finish()
    assert [event.data["status"] async for event in call.events()] == [183, 200, 183, 486]


@pytest.mark.parametrize("frame", [b"", b"\xff", bytes((Kind.PLAY,)), bytes((Kind.AUDIO,)), bytes((Kind.DIGIT, 0xC1))])
def test_what_media_never_sends_is_one_error(frame: bytes) -> None:
    with pytest.raises(BadFrame):
        FakeCall()._receive(frame)
