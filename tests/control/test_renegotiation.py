"""Offers in mid-call."""

from __future__ import annotations

from edge.events import CallKey, MediaAnswered, MediaOffered
from media.messages import ApplyAnswer, Failed, Renegotiate
from tests.control.inward import world


async def test_a_re_invite_is_answered_with_medias_new_description() -> None:
    async with world() as w:
        call = await w.establish()
        w.calls.on_event(MediaOffered(CallKey("k1"), b"hold"))
        await w.settle()
        assert w.media.of(Renegotiate)[0].call == call
        assert w.phone.sent[-1] == ("accept_offer", "k1", b"new sdp")


async def test_a_bad_re_invite_is_refused_and_the_call_goes_on() -> None:
    async with world() as w:
        await w.establish()
        w.media.answers[Renegotiate] = Failed(code="no_common_codec", message="")
        w.calls.on_event(MediaOffered(CallKey("k1"), b"only G729"))
        await w.settle()
        assert w.phone.sent[-1] == ("refuse_offer", "k1", 488)
        assert len(w.calls) == 1


async def test_the_answer_to_our_offer_in_a_re_invite_reaches_media() -> None:
    async with world() as w:
        await w.establish()
        w.calls.on_event(MediaOffered(CallKey("k1"), None))
        w.calls.on_event(MediaAnswered(CallKey("k1"), b"answer"))
        await w.settle()
        assert w.media.of(ApplyAnswer)[0].answer == b"answer"


async def test_the_answer_to_a_refresh_goes_to_media_as_such_and_a_bad_one_ends_nothing() -> None:
    async with world() as w:
        w.media.answers[ApplyAnswer] = Failed(code="bad_sdp", message="")
        call = await w.establish()
        w.calls.on_event(MediaAnswered(CallKey("k1"), b"again", refresh=True))
        await w.settle()
        assert w.media.of(ApplyAnswer) == [ApplyAnswer(call=call, answer=b"again", refresh=True)]
        assert len(w.calls) == 1
