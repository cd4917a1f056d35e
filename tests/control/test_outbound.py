"""Calls that the edge places, from the order to the record."""

from __future__ import annotations

import pytest

from control.call_table import TRANSITIONS, Input, State
from control.outbound import CarrierRefused, PlaceRefused, carrier_ids
from control.toll import Denied, TollRefusal
from edge.events import (
    CallAnswered,
    CallConfirmed,
    CallEnded,
    CallKey,
    CallOffered,
    CallProgressed,
    Cause,
    Identification,
    MediaOffered,
    Party,
)
from media.messages import (
    AgentEnded,
    AgentFailed,
    AgentReady,
    ApplyAnswer,
    Done,
    Failed,
    OpenCall,
    Renegotiate,
    SendDigits,
    StartMedia,
)
from tests.control.inward import ACCOUNT, FLOW
from tests.control.outward import DID, TARGET, desk

IDS = (("X-Telnyx-Session-ID", "s-1"), ("x-telnyx-leg-id", "l-1"), ("X-Other", "no"))


# --- by SIP -----------------------------------------------------------------------------------


async def test_an_outgoing_call_has_a_record_a_timeline_and_statistics_like_any_other() -> None:
    async with desk() as d:
        call = await d.place()
        (opened,) = d.media.of(OpenCall)
        assert (opened.offer, opened.context.direction) == (None, "outbound")
        assert (opened.context.from_number, opened.context.to_number) == (DID, TARGET)
        (invite,) = d.line.invites
        assert (invite.target, invite.body) == (f"sip:{TARGET}@192.0.2.9:5070", b"our sdp")
        key = d.line.key
        await d.says(CallProgressed(key, 180, "Ringing", None, "a", IDS))
        await d.says(CallProgressed(key, 180, "Ringing", None, "b"))
        d.clock.advance(4.0)
        await d.says(CallAnswered(key, 200, "OK", b"answer", headers=IDS))
        assert [command.answer for command in d.media.of(ApplyAnswer)] == [b"answer"]
        assert len(d.media.of(StartMedia)) == 1
        d.calls.on_notice(AgentReady(call=call, waited_s=0.1))
        d.clock.advance(8.0)
        await d.bye(key)
        assert d.end(call) == ("callee", "callee_hung_up", None)
        assert d.kinds(call) == [
            "offered",
            "dialling",
            "carrier_ids",
            "ringing",
            "answered",
            "established",
            "agent_ready",
            "ended",
        ]
        (offered,) = d.of_kind(call, "offered")
        assert (offered.data["direction"], offered.data["sip_call_id"]) == ("outbound", invite.call_id)
        assert d.of_kind(call, "carrier_ids")[0].data["ids"] == {
            "X-Telnyx-Session-ID": "s-1",
            "X-Telnyx-Leg-ID": "l-1",
        }
        await d.registry.apply_events(d.events)
        record = await d.registry.call(ACCOUNT, call)
        assert (record.direction, record.status, record.ring_s, record.duration_s) == (
            "outbound",
            "completed",
            4.0,
            8.0,
        )
        assert record.carrier_ids["X-Telnyx-Session-ID"] == "s-1"
        assert d.quiet()


async def test_early_media_with_sdp_is_not_lost_and_the_answer_still_decides() -> None:
    """Trouble elsewhere: 183 with SDP lost on outbound. Forked early dialogs each bring their own."""
    async with desk() as d:
        call = await d.place()
        key = d.line.key
        await d.says(CallProgressed(key, 183, "Session Progress", b"fork a", "a"))
        await d.says(CallProgressed(key, 183, "Session Progress", b"fork b", "b"))
        await d.says(CallProgressed(key, 183, "Session Progress", b"fork b", "b"))
        await d.says(CallAnswered(key, 200, "OK", b"final"))
        applied = [(command.answer, command.early) for command in d.media.of(ApplyAnswer)]
        assert applied == [(b"fork a", True), (b"fork b", True), (b"final", False)]
        assert d.kinds(call).count("early_media") == 2


@pytest.mark.parametrize(("status", "counted"), [(181, 0), (180, 1), (183, 1)])
async def test_how_long_the_carrier_takes_to_have_the_phone_ring_is_counted_once(status: int, counted: int) -> None:
    """The Session Request Delay of RFC 6076 §4.3, from the INVITE: the agent was connected to before."""
    async with desk() as d:
        d.media.before_reply = lambda command: d.clock.advance(60.0 if isinstance(command, OpenCall) else 0.0)
        await d.place()
        for _ in range(2):
            d.clock.advance(3.0)
            await d.says(CallProgressed(d.line.key, status, "Word", None))
        outbound = (("direction", "outbound"),)
        assert d.calls.readings()["call_ringing_delay_seconds_count"][outbound] == counted
        assert d.calls.readings()["call_ringing_delay_seconds_sum"][outbound] == 3.0 * counted
        assert d.calls.readings()["call_answer_delay_seconds_count"] == {(): 0}


async def test_an_answer_without_sdp_confirms_the_early_one() -> None:
    async with desk() as d:
        await d.place()
        await d.says(CallProgressed(d.line.key, 183, "Session Progress", b"early", "a"))
        await d.says(CallAnswered(d.line.key, 200, "OK", None))
        assert [(c.answer, c.early) for c in d.media.of(ApplyAnswer)] == [(b"early", True), (b"early", False)]
        assert d.media.of(StartMedia)


async def test_early_media_that_cannot_be_used_is_passed_over() -> None:
    async with desk() as d:
        call = await d.place()
        d.media.answers[ApplyAnswer] = Failed(code="bad_sdp", message="")
        await d.says(CallProgressed(d.line.key, 183, "Session Progress", b"junk", "a"))
        assert "early_media_ignored" in d.kinds(call)
        assert not d.of_kind(call, "ended")


async def test_an_answer_without_any_sdp_ends_the_call() -> None:
    async with desk() as d:
        call = await d.place()
        await d.says(CallAnswered(d.line.key, 200, "OK", None))
        assert d.end(call)[1] == "bad_answer"
        assert d.line.verbs[-1] == "hang_up"


@pytest.mark.parametrize(
    ("status", "phrase", "reason"),
    [
        (486, "Busy Here", "callee_busy"),
        (603, "Decline", "callee_declined"),
        (403, "No outbound voice profile assigned D38", "no_outbound_voice_profile"),
        (302, "Moved Temporarily", "callee_redirected"),
    ],
)
async def test_a_refusal_ends_the_call_with_its_reason_and_dials_nobody_else(
    status: int, phrase: str, reason: str
) -> None:
    """A redirection is never followed (hardening S28)."""
    async with desk() as d:
        call = await d.place()
        contact = (("Contact", "<sip:+882160000000@192.0.2.66>"),)
        await d.says(CallEnded(d.line.key, Party.REMOTE, Cause.REFUSED, status, phrase, contact))
        assert d.end(call) == ("callee", reason, status)
        assert phrase in d.of_kind(call, "ended")[0].data["note"]
        assert len(d.line.invites) == 1
        assert d.quiet()


async def test_a_carrier_that_never_answers_is_named() -> None:
    async with desk() as d:
        call = await d.place()
        await d.says(CallEnded(d.line.key, Party.LOCAL, Cause.TRANSPORT, 503, "Service Unavailable"))
        assert d.end(call)[:2] == ("edge", "carrier_unavailable")


async def test_nobody_answers_in_time_and_the_call_is_cancelled() -> None:
    async with desk() as d:
        call = await d.place(ring_timeout_s=20.0)
        await d.says(CallProgressed(d.line.key, 180, "Ringing", None))
        d.clock.advance(19.0)
        await d.settle()
        assert d.line.verbs[-1] == "invite"
        d.clock.advance(1.0)
        await d.settle()
        assert d.line.verbs[-1] == "hang_up"
        assert d.end(call)[:2] == ("edge", "no_answer")
        assert d.quiet()


async def test_the_longest_duration_ends_the_call() -> None:
    async with desk() as d:
        call = await d.place(max_duration_s=60.0)
        await d.says(CallAnswered(d.line.key, 200, "OK", b"answer"))
        d.clock.advance(61.0)
        await d.settle()
        assert d.end(call)[:2] == ("edge", "call_length")


@pytest.mark.parametrize("dialled", [False, True])
async def test_an_agent_that_cannot_be_reached_ends_the_call_before_anybody_answers(dialled: bool) -> None:
    async with desk() as d:
        if not dialled:
            d.media.answers[OpenCall] = Failed(code="bad_agent", message="no such agent")
        call = await d.place()
        if dialled:
            d.calls.on_notice(AgentFailed(call=call, cause="timeout", message="no connection"))
            await d.settle()
        assert d.line.verbs == (["invite", "hang_up"] if dialled else [])
        assert d.end(call)[1] == ("agent_unavailable" if dialled else "bad_agent")
        assert d.quiet()


async def test_an_agent_that_leaves_while_it_rings_cancels_the_call() -> None:
    async with desk() as d:
        call = await d.place()
        d.calls.on_notice(AgentEnded(call=call, cause="hang_up"))
        await d.settle()
        assert d.line.verbs == ["invite", "hang_up"]
        assert d.end(call)[:2] == ("agent", "agent_hung_up")


async def test_an_operator_ends_a_call_that_media_is_still_opened_for() -> None:
    async with desk() as d:

        def hang_up(command: object) -> None:
            if isinstance(command, OpenCall):
                d.calls.hang_up_all()

        d.media.before_reply = hang_up
        call = await d.place()
        assert d.line.invites == []
        assert d.end(call)[:2] == ("operator", "operator_hung_up")
        assert d.quiet()


@pytest.mark.parametrize("described", [True, False])
async def test_an_offer_of_the_callee_before_its_answer_holds_unless_another_fork_answers(described: bool) -> None:
    """RFC 3311: in the dialog whose reliable 183 had the answer, the 2xx has nothing to add."""
    async with desk() as d:
        await d.place()
        await d.says(CallProgressed(d.line.key, 183, "Session Progress", b"early", "a"))
        await d.says(MediaOffered(d.line.key, b"update"))
        assert d.line.sent[-1] == ("accept_offer", d.line.key, b"new sdp")
        await d.says(CallAnswered(d.line.key, 200, "OK", b"answer", described=described))
        final = [command.answer for command in d.media.of(ApplyAnswer) if not command.early]
        assert final == ([] if described else [b"answer"])
        assert d.media.of(StartMedia)


async def test_an_early_offer_of_the_callee_that_cannot_be_used_is_488_and_its_answer_counts() -> None:
    async with desk() as d:
        await d.place()
        d.media.answers[Renegotiate] = Failed(code="bad_sdp", message="")
        await d.says(MediaOffered(d.line.key, b"junk"))
        assert d.line.sent[-1][::2] == ("refuse_offer", 488)
        await d.says(CallAnswered(d.line.key, 200, "OK", b"answer", described=True))
        assert [command.answer for command in d.media.of(ApplyAnswer)] == [b"answer"]


async def test_digits_go_by_info_to_a_callee_that_takes_them_no_other_way() -> None:
    async with desk() as d:
        call = await d.place()
        await d.says(CallAnswered(d.line.key, 200, "OK", b"answer", takes_info=True))
        d.media.answers[SendDigits] = Failed(code="no_telephone_event", message="none")
        assert await d.calls.command(ACCOUNT, SendDigits(call=call, digits="7")) == Done()
        assert ("press", d.line.key, "7") in d.line.sent


async def test_a_re_invite_of_the_callee_is_answered_once_established() -> None:
    async with desk() as d:
        await d.place()
        await d.says(CallAnswered(d.line.key, 200, "OK", b"answer"))
        await d.says(MediaOffered(d.line.key, b"hold"))
        assert d.line.sent[-1] == ("accept_offer", d.line.key, b"new sdp")


async def test_an_edge_that_is_full_places_no_call_and_keeps_no_place_for_it() -> None:
    async with desk(pairs=1) as d:
        await d.place()
        with pytest.raises(PlaceRefused) as refused:
            await d.place()
        assert refused.value.reason == "no_media_port"
        assert d.guard._ledger.live(ACCOUNT) == 1


async def test_the_accounts_own_cap_holds() -> None:
    async with desk(outbound={"calls": 1}) as d:
        await d.place()
        with pytest.raises(TollRefusal) as refused:
            await d.place()
        assert refused.value.denied is Denied.CALLS


@pytest.mark.parametrize(
    ("by", "cause", "end"),
    [
        (Party.REMOTE, Cause.BYE, ("callee", "callee_hung_up", None)),
        (Party.LOCAL, Cause.EXPIRED, ("edge", "session_expired", None)),
        (Party.LOCAL, Cause.TRANSPORT, ("edge", "signalling_lost", None)),
    ],
)
async def test_a_call_that_was_answered_ends_as_one_that_came_in_does(
    by: Party, cause: Cause, end: tuple[str, str, int | None]
) -> None:
    """The reasons of its end on the record, too."""
    async with desk() as d:
        call = await d.place()
        await d.says(CallAnswered(d.line.key, 200, "OK", b"answer"))
        await d.says(CallEnded(d.line.key, by, cause, headers=(("Reason", "Q.850;cause=16"),)))
        assert d.end(call) == end
        assert d.of_kind(call, "ended")[0].data["reasons"] == [{"protocol": "Q.850", "cause": 16, "text": ""}]
        assert d.quiet()


# --- loops ------------------------------------------------------------------------------------


async def test_a_call_to_our_own_number_comes_in_once_and_stops_at_the_second() -> None:
    """Our own DIDs stop at 2: 482, counted; whether the carrier keeps our header or not."""
    async with desk() as d:
        await d.place("+14155550200")
        first = await d.caller("k1", trunk="telnyx:42", caller=DID, dialed=("+14155550200",))
        assert first, "the first time round it is answered"
        d.hops.add("+14155550200", DID, 2)
        again = await d.caller("k2", caller="+14155550200", dialed=(DID,))
        assert not again
        assert d.line.sent[-1] == ("refuse", "k2", 482)
        by_header = await d.caller("k3", caller="+12025550999", headers=(("X-Truedy-Hops", "2"),))
        assert not by_header
        assert d.counters.get("calls_refused", reason="loop", status="482") == 2


# --- by a carrier's REST ----------------------------------------------------------------------


def leg(call: str, offer: bytes | None = b"their offer") -> CallOffered:
    return CallOffered(
        key=CallKey("t1"),
        trunk="twilio",
        identified_by=Identification.DIGEST,
        identity=call,
        dialed=(DID,),
        caller=TARGET,
        caller_name="",
        call_id="t1@twilio",
        offer=offer,
        flow=FLOW,
        headers=(("X-Twilio-CallSid", "CAchild"),),
    )


async def test_a_carrier_places_the_call_and_its_leg_is_answered_at_once() -> None:
    async with desk() as d:
        call = await d.place(number="number-3")
        assert d.carrier.placed == [call]
        assert d.line.invites == []
        d.calls.on_notice(AgentReady(call=call, waited_s=0.1))
        await d.says(leg(call))
        assert [command.offer for command in d.media.of(Renegotiate)] == [b"their offer"]
        assert d.line.sent == [("answer", "t1", b"new sdp")], "no 180: the callee is there and waits"
        await d.says(CallConfirmed(CallKey("t1"), None))
        assert d.media.of(StartMedia)
        await d.bye("t1")
        assert d.end(call)[:2] == ("callee", "callee_hung_up")
        ids: dict[str, str] = {}
        for event in d.of_kind(call, "carrier_ids"):
            ids |= event.data["ids"]
        assert ids == {"CallSid": "CA" + "7" * 32, "X-Twilio-CallSid": "CAchild"}
        assert d.quiet()


async def test_a_carriers_leg_without_an_offer_is_answered_with_ours() -> None:
    async with desk() as d:
        call = await d.place(number="number-3")
        await d.says(leg(call, None))
        assert d.line.sent == [("answer", "t1", b"our sdp")]
        await d.says(CallConfirmed(CallKey("t1"), b"answer"))
        assert [command.answer for command in d.media.of(ApplyAnswer)] == [b"answer"]


@pytest.mark.parametrize(
    ("code", "status"), [("no_common_codec", 488), ("no_common_crypto", 488), ("stale_epoch", 503)]
)
async def test_a_carriers_leg_that_cannot_be_answered_is_refused(code: str, status: int) -> None:
    async with desk() as d:
        call = await d.place(number="number-3")
        d.media.answers[Renegotiate] = Failed(code=code, message="")
        await d.says(leg(call))
        assert d.line.sent == [("refuse", "t1", status)]
        assert d.quiet()


@pytest.mark.parametrize("event", ["BYE", "hang up"])
async def test_a_leg_that_ends_while_it_is_answered_ends_the_call(event: str) -> None:
    async with desk() as d:
        call = await d.place(number="number-3")
        d.calls.on_event(leg(call))
        if event == "BYE":
            d.calls.on_event(CallEnded(CallKey("t1"), Party.REMOTE, Cause.CANCELLED, 487))
        else:
            await d.calls.hang_up(ACCOUNT, call, "operator")
        await d.settle()
        assert d.line.verbs == ([] if event == "BYE" else ["refuse"])
        assert d.quiet()


async def test_a_carrier_that_refuses_ends_the_call_with_its_words() -> None:
    async with desk() as d:
        d.carrier.refuses = CarrierRefused("caller_id_refused", "Twilio says no (error 21210)")
        call = await d.place(number="number-3")
        assert d.end(call)[:2] == ("edge", "caller_id_refused")
        assert d.quiet()


async def test_a_call_given_up_before_the_carriers_leg_is_given_up_at_the_carrier() -> None:
    async with desk() as d:
        call = await d.place(number="number-3")
        await d.calls.hang_up(ACCOUNT, call, "operator")
        await d.settle()
        assert d.carrier.given_up == [call]
        assert d.quiet()


async def test_a_carriers_leg_for_a_call_that_is_over_is_no_call_of_ours() -> None:
    async with desk() as d:
        call = await d.place(number="number-3")
        await d.calls.hang_up(ACCOUNT, call, "operator")
        await d.settle()
        await d.says(leg(call))
        assert d.line.verbs == ["refuse"]


# --- the rest ---------------------------------------------------------------------------------


def test_only_the_carriers_own_ids_are_kept() -> None:
    assert carrier_ids(IDS) == {"X-Telnyx-Session-ID": "s-1", "X-Telnyx-Leg-ID": "l-1"}


def test_a_call_that_is_being_placed_is_never_answered_with_a_bye() -> None:
    for state in (State.PREPARING, State.DIALLING):
        for event in (Input.HANG_UP, Input.REFUSED):
            assert "BYE" not in [action.value for action in TRANSITIONS[state, event][1]]


@pytest.mark.parametrize(("status", "reason"), [("busy", "callee_busy"), ("no-answer", "no_answer")])
async def test_a_carriers_callback_ends_a_call_that_never_reaches_us(status: str, reason: str) -> None:
    async with desk() as d:
        call = await d.place(number="number-3")
        for word in ("initiated", "ringing", "ringing", "in-progress"):
            d.calls.carrier_says(call, word)
        assert d.kinds(call).count("ringing") == 1
        d.calls.carrier_says("nobody", status)
        d.calls.carrier_says(call, status)
        await d.settle()
        assert d.end(call)[:2] == ("callee", reason)
        assert d.quiet()
