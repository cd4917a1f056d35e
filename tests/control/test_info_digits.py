"""Digits to a phone that takes them by INFO."""

from __future__ import annotations

from edge.events import CallEnded, CallKey, Cause, Party
from media.messages import DigitsUnsent
from tests.control.inward import established_as, world


async def test_an_agents_digits_go_by_info_one_after_the_other_where_the_phone_takes_them_so() -> None:
    async with world() as w:
        call = await established_as(w, takes_info=True)
        w.calls.on_notice(DigitsUnsent(call=call, digits="1w#"))
        w.calls.on_notice(DigitsUnsent(call=call, digits="2"))
        assert [entry[2] for entry in w.phone.sent if entry[0] == "press"] == ["1"]
        for _ in range(8):
            w.clock.advance(0.5)
        assert [entry[2] for entry in w.phone.sent if entry[0] == "press"] == ["1", "#", "2"]
        w.calls.on_notice(DigitsUnsent(call=call, digits="3"))
        w.calls.on_notice(DigitsUnsent(call=call, digits="4"))
        assert w.phone.sent[-1] == ("press", "k1", "3"), "the pause after the last one is kept, too"
        w.clock.advance(0.3)
        assert w.phone.sent[-1] == ("press", "k1", "4")
        w.calls.on_event(CallEnded(CallKey("k1"), Party.REMOTE, Cause.BYE))
        w.clock.advance(1.0)
        await w.settle()
        assert w.quiet()


async def test_a_phone_that_allows_no_info_gets_none() -> None:
    async with world() as w:
        call = await established_as(w)
        w.calls.on_notice(DigitsUnsent(call=call, digits="12"))
        assert "press" not in w.phone.verbs
        assert w.counters.get("agent_requests_refused", verb="digits") == 1
