"""Holding a phone: what is asked of media and of SIP, and what whoever asked is told."""

from __future__ import annotations

import asyncio

import pytest

from control.hold import HoldOutcome
from edge.events import CallEnded, CallKey, Cause, MediaAnswered, MediaOffered, MediaRefused, Party
from media.messages import AgentAsks, ApplyAnswer, CallOpened, Failed, Hold, Renegotiate, TellAgent, Withdraw
from tests.control.inward import ACCOUNT, OTHER, World, world

KEY = CallKey("k1")


async def asking(w: World, call: str, *, held: bool) -> asyncio.Task[HoldOutcome]:
    """Somebody asks over the API; the offer is out when this returns."""
    ask = w.calls.hold if held else w.calls.resume
    task = asyncio.create_task(ask(ACCOUNT, call))
    for _ in range(5):
        await asyncio.sleep(0)
    return task


async def test_a_phone_is_held_and_taken_back_by_an_offer_and_its_answer_each() -> None:
    """RFC 3264 §8.4; the agent is told of both, and the record has both."""
    async with world() as w:
        call = await w.establish()
        for held in (True, False):
            task = await asking(w, call, held=held)
            assert w.phone.sent[-1] == ("reoffer", KEY, b"hold sdp")
            assert not task.done()
            w.calls.on_event(MediaAnswered(KEY, b"theirs"))
            assert await task is HoldOutcome.DONE
        await w.settle()
        assert [command.held for command in w.media.of(Hold)] == [True, False]
        assert [command.answer for command in w.media.of(ApplyAnswer)] == [b"theirs"] * 2
        told = [(command.event, command.data) for command in w.media.of(TellAgent)]
        assert told == [("hold", {"by": "operator"}), ("resume", {"by": "operator"})]
        assert w.kinds(call)[-2:] == ["on_hold", "taken_back"]


async def test_what_is_so_already_needs_no_offer() -> None:
    async with world() as w:
        call = await w.establish()
        assert await w.calls.resume(ACCOUNT, call) is HoldOutcome.DONE
        assert w.media.of(Hold) == []


async def test_a_hold_the_phone_refuses_leaves_the_call_as_it_was() -> None:
    """RFC 3261 §14.1."""
    async with world() as w:
        call = await w.establish()
        task = await asking(w, call, held=True)
        w.calls.on_event(MediaRefused(KEY, 488))
        assert await task is HoldOutcome.REFUSED
        assert len(w.media.of(Withdraw)) == 1
        assert w.media.of(TellAgent) == []
        assert len(w.calls) == 1
        again = await asking(w, call, held=True)
        w.calls.on_event(MediaAnswered(KEY, b"theirs"))
        assert await again is HoldOutcome.DONE


@pytest.mark.parametrize("answer", [None, b"nonsense"])
async def test_an_answer_that_is_none_is_a_refusal(answer: bytes | None) -> None:
    async with world() as w:
        w.media.answers[ApplyAnswer] = Failed(code="bad_sdp", message="no v=0")
        call = await w.establish()
        task = await asking(w, call, held=True)
        w.calls.on_event(MediaAnswered(KEY, answer))
        assert await task is HoldOutcome.REFUSED
        assert len(w.media.of(Withdraw)) == 1
        assert len(w.calls) == 1


async def test_a_second_wish_meanwhile_has_to_wait() -> None:
    async with world() as w:
        call = await w.establish()
        task = await asking(w, call, held=True)
        assert await w.calls.resume(ACCOUNT, call) is HoldOutcome.BUSY
        w.calls.on_event(MediaAnswered(KEY, b"theirs"))
        assert await task is HoldOutcome.DONE


async def test_an_offer_of_the_phones_that_meets_ours_is_put_off() -> None:
    """RFC 3261 §14.2: 491."""
    async with world() as w:
        call = await w.establish()
        task = await asking(w, call, held=True)
        w.calls.on_event(MediaOffered(KEY, b"theirs"))
        assert w.phone.sent[-1] == ("refuse_offer", KEY, 491)
        w.calls.on_event(MediaAnswered(KEY, b"theirs"))
        await task
        await w.settle()
        w.calls.on_event(MediaOffered(KEY, b"theirs"))
        await w.settle()
        assert w.phone.verbs[-1] == "accept_offer"
        assert len(w.media.of(Renegotiate)) == 1


async def test_no_hold_is_begun_while_the_phone_owes_an_answer() -> None:
    """A re-INVITE without an offer: ours is in the 200, and its answer in the ACK is not a hold's."""
    async with world() as w:
        call = await w.establish()
        w.calls.on_event(MediaOffered(KEY, None))
        await w.settle()
        assert await w.calls.hold(ACCOUNT, call) is HoldOutcome.BUSY
        w.calls.on_event(MediaAnswered(KEY, b"theirs"))
        await w.settle()
        assert [command.answer for command in w.media.of(ApplyAnswer)] == [b"theirs"]
        task = await asking(w, call, held=True)
        w.calls.on_event(MediaAnswered(KEY, b"theirs"))
        assert await task is HoldOutcome.DONE


async def test_only_a_live_call_of_the_account_is_held_and_only_when_it_is_up() -> None:
    async with world() as w:
        ringing = await w.offer("k2")
        assert await w.calls.hold(ACCOUNT, ringing) is HoldOutcome.NOT_ESTABLISHED
        call = await w.establish()
        assert await w.calls.hold(OTHER, call) is HoldOutcome.NO_CALL
        assert await w.calls.hold(ACCOUNT, "nobody") is HoldOutcome.NO_CALL


async def test_whoever_waits_hears_when_the_call_ends_meanwhile() -> None:
    async with world() as w:
        call = await w.establish()
        task = await asking(w, call, held=True)
        w.calls.on_event(CallEnded(KEY, Party.REMOTE, Cause.BYE))
        assert await task is HoldOutcome.NO_CALL
        await w.settle()
        assert w.quiet()


async def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """The phone may still answer, and is on hold then."""
    monkeypatch.setattr("control.hold.ANSWER_WITHIN_S", 0.0)
    async with world() as w:
        call = await w.establish()
        assert await w.calls.hold(ACCOUNT, call) is HoldOutcome.UNANSWERED
        w.calls.on_event(MediaAnswered(KEY, b"theirs"))
        await w.settle()
        assert w.kinds(call)[-1] == "on_hold"


@pytest.mark.parametrize(("code", "outcome"), [("unknown_call", "NO_CALL"), ("internal", "REFUSED")])
async def test_media_that_makes_no_offer_changes_nothing(code: str, outcome: str) -> None:
    async with world() as w:
        w.media.answers[Hold] = Failed(code=code, message="")
        call = await w.establish()
        assert await w.calls.hold(ACCOUNT, call) is HoldOutcome[outcome]
        assert "reoffer" not in w.phone.verbs


async def test_an_agent_holds_and_resumes_its_caller() -> None:
    """``ask("hold")``: the same, and a refusal is told to it."""
    async with world() as w:
        call = await w.establish()
        w.calls.on_notice(AgentAsks(call=call, verb="hold"))
        for _ in range(5):
            await asyncio.sleep(0)
        w.calls.on_event(MediaAnswered(KEY, b"theirs"))
        await w.settle()
        w.calls.on_notice(AgentAsks(call=call, verb="resume"))
        for _ in range(5):
            await asyncio.sleep(0)
        w.calls.on_event(MediaRefused(KEY, 500))
        await w.settle()
        told = [(command.event, command.data) for command in w.media.of(TellAgent)]
        assert told == [("hold", {"by": "agent"}), ("refused", {"verb": "resume", "message": "refused"})]
        assert w.counters.get("agent_requests_refused", verb="resume") == 1


async def test_a_hold_of_the_phones_is_told_to_the_agent_once() -> None:
    async with world() as w:
        call = await w.establish()
        for held in (True, True, False, False):
            w.media.answers[Renegotiate] = CallOpened(sdp=b"new", codec="PCMU", held=held)
            w.calls.on_event(MediaOffered(KEY, b"theirs"))
            await w.settle()
        told = [(command.event, command.data) for command in w.media.of(TellAgent)]
        assert told == [("hold", {"by": "caller"}), ("resume", {"by": "caller"})]
        assert w.kinds(call)[-4:] == ["held", "held", "resumed", "renegotiated"]
