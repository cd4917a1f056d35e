"""One call from its offer to its record, with the engine and media played by the test."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from config.settings import Limits
from control.call_table import TRANSITIONS, Input, State
from control.instructions import Digits, HangUp, Pause
from edge.events import CallConfirmed, CallEnded, CallKey, Cause, DigitPressed, Party
from media.messages import (
    AgentAsks,
    AgentEnded,
    AgentFailed,
    AgentNoted,
    AgentReady,
    CallClosed,
    Clear,
    CloseCall,
    DetectionOrder,
    DigitReceived,
    Done,
    Failed,
    HearDigit,
    MachineDetected,
    MarkReached,
    MediaLost,
    OpenCall,
    Play,
    SendDigits,
    SetMark,
    StartMedia,
    TellAgent,
)
from tests.control.inward import ACCOUNT, CALLER, DID, OTHER, refused_with, world

IGNORED = {(state, event) for state in State for event in Input} - set(TRANSITIONS)
"""Every pair that is not in the table changes nothing; :func:`test_pairs_outside_the_table_change_nothing`."""


async def test_a_call_rings_at_once_and_is_answered_when_its_agent_is_ready() -> None:
    async with world() as w:
        call = await w.offer()
        assert w.phone.verbs == ["ring"]
        (opened,) = w.media.of(OpenCall)
        assert opened.agent.protocol == "builtin"
        assert opened.context.from_number == CALLER
        assert opened.context.to_number == DID
        assert opened.context.account_sid == "AC" + ACCOUNT.replace("-", "")
        assert opened.context.call_sid == "CA" + call.replace("-", "")
        assert opened.context.call_id == call
        w.calls.on_notice(AgentReady(call=call, waited_s=0.1))
        assert w.phone.sent[-1] == ("answer", "k1", b"our sdp")
        assert not w.media.of(StartMedia)
        w.calls.on_event(CallConfirmed(CallKey("k1"), None))
        await w.settle()
        assert len(w.media.of(StartMedia)) == 1
        w.clock.advance(12.5)
        w.calls.on_event(CallEnded(CallKey("k1"), Party.REMOTE, Cause.BYE))
        await w.settle()
        assert w.quiet()
        assert w.phone.verbs == ["ring", "answer"]
        assert w.kinds(call) == ["offered", "ringing", "agent_ready", "answered", "established", "ended"]
        ended = w.end(call)
        assert ended.offset_s == pytest.approx(12.5)
        assert (ended.data["ended_by"], ended.data["end_reason"]) == ("caller", "caller_hung_up")
        assert ended.data["statistics"]["packets_sent"] == 7


async def test_how_long_the_caller_waits_for_ringing_and_answer_and_for_the_agent_is_counted() -> None:
    """From the INVITE, each once; what the agent took, by its protocol."""
    async with world() as w:
        w.media.before_reply = lambda command: w.clock.advance(0.75)
        call = await w.offer()
        w.clock.advance(1.25)
        w.calls.on_notice(AgentReady(call=call, waited_s=1.9, connected_s=0.9))
        w.calls.on_event(CallConfirmed(CallKey("k1"), None))
        await w.settle()
        shown = w.calls.readings()
        inbound, builtin = ("direction", "inbound"), ("protocol", "builtin")
        assert shown["call_ringing_delay_seconds_bucket"][inbound, ("le", "0.005")] == 1
        assert shown["call_ringing_delay_seconds_sum"][inbound,] == 0.0
        assert shown["call_answer_delay_seconds_sum"] == {(): 2.0}
        assert shown["call_answer_delay_seconds_bucket"][("le", "1.0"),] == 0
        assert shown["call_answer_delay_seconds_bucket"][("le", "2.5"),] == 1
        assert shown["agent_connect_seconds_sum"] == {(builtin,): 0.9}


async def test_an_agent_that_does_not_connect_in_time_is_480() -> None:
    async with world() as w:
        call = await w.offer()
        w.calls.on_notice(AgentFailed(call=call, cause="timeout", message="15 s"))
        await w.settle()
        await refused_with(w, 480, "agent_unavailable")
        assert w.end(call).data["sip_status"] == 480


async def test_what_is_noted_about_the_agent_is_on_the_timeline_and_counted() -> None:
    async with world() as w:
        call = await w.offer()
        w.calls.on_notice(AgentNoted(call=call, event="agent_not_reached", detail="HTTP 503"))
        w.calls.on_notice(AgentNoted(call="another", event="agent_lost"))
        await w.settle()
        assert [(each.kind, each.data.get("note")) for each in w.events][-1] == ("agent_not_reached", "HTTP 503")
        assert w.counters.get("agent_events", event="agent_not_reached") == 1


async def test_an_agent_whose_address_is_not_public_has_a_reason_of_its_own() -> None:
    async with world() as w:
        call = await w.offer()
        w.calls.on_notice(AgentFailed(call=call, cause="forbidden", message="agent.example has a private address"))
        await w.settle()
        await refused_with(w, 480, "agent_forbidden")
        assert w.end(call).data["note"] == "agent.example has a private address"


async def test_an_agent_that_leaves_before_the_answer_is_480() -> None:
    async with world() as w:
        call = await w.offer()
        w.calls.on_notice(AgentEnded(call=call, cause="closed"))
        await w.settle()
        await refused_with(w, 480, "agent_left")
        assert w.end(call).data["end_reason"] == "agent_closed"


@pytest.mark.parametrize(
    ("notice", "by", "reason"),
    [
        (AgentEnded(call="", cause="hang_up"), "agent", "agent_hung_up"),
        (AgentEnded(call="", cause="closed"), "agent", "agent_closed"),
        (AgentEnded(call="", cause="lost"), "agent", "agent_lost"),
        (MediaLost(call="", kind="never", after_s=20.0), "edge", "no_media"),
        (MediaLost(call="", kind="silence", after_s=20.0), "edge", "media_lost"),
    ],
)
async def test_each_way_media_ends_a_call_sends_one_bye_and_writes_one_record(
    notice: Any, by: str, reason: str
) -> None:
    async with world() as w:
        call = await w.establish()
        notice = type(notice)(**{name: getattr(notice, name) for name in notice.__struct_fields__} | {"call": call})
        w.calls.on_notice(notice)
        w.calls.on_notice(notice)
        await w.settle()
        w.calls.on_event(CallEnded(CallKey("k1"), Party.LOCAL, Cause.BYE))
        assert w.phone.verbs.count("hang_up") == 1
        ended = w.end(call)
        assert (ended.data["ended_by"], ended.data["end_reason"]) == (by, reason)
        assert w.quiet()


async def test_a_cancelled_call_closes_its_media_and_sends_nothing_more() -> None:
    """RFC 3261 §9.2: the engine answers 487 by itself."""
    async with world() as w:
        call = await w.offer()
        w.calls.on_event(CallEnded(CallKey("k1"), Party.REMOTE, Cause.CANCELLED, 487))
        await w.settle()
        assert w.phone.verbs == ["ring"]
        assert w.end(call).data["end_reason"] == "caller_cancelled"
        assert len(w.media.of(CloseCall)) == 1
        assert w.quiet()


async def test_an_unacknowledged_answer_ends_the_call() -> None:
    async with world() as w:
        call = await w.offer()
        w.calls.on_notice(AgentReady(call=call, waited_s=0.0))
        w.calls.on_event(CallEnded(CallKey("k1"), Party.LOCAL, Cause.NO_ACK))
        await w.settle()
        assert w.end(call).data["end_reason"] == "no_ack"
        assert w.quiet()


async def test_the_longest_allowed_call_is_ended_by_the_edge() -> None:
    async with world(limits=Limits(call_length_s=60)) as w:
        call = await w.establish()
        w.clock.advance(59.9)
        assert len(w.calls) == 1
        w.clock.advance(0.2)
        await w.settle()
        assert w.end(call).data["end_reason"] == "call_length"
        assert w.phone.verbs[-1] == "hang_up"
        assert w.quiet()


async def test_hanging_up_needs_the_calls_own_account() -> None:
    async with world() as w:
        call = await w.establish()
        assert not await w.calls.hang_up(OTHER, call, "operator")
        live = await w.calls.live(ACCOUNT, call)
        assert live is not None
        assert (live.id, live.state) == (call, "established")
        assert await w.calls.live(OTHER, call) is None
        assert await w.calls.hang_up(ACCOUNT, call, "operator", {"X-Result": "sold"})
        await w.settle()
        assert w.phone.headers[-1] == ("hang_up", (("X-Result", "sold"),))
        assert w.end(call).data["ended_by"] == "operator"
        assert not await w.calls.hang_up(ACCOUNT, call, "operator")


async def test_hanging_up_all_ends_ringing_and_established_calls() -> None:
    async with world() as w:
        await w.establish("k1")
        await w.offer("k2")
        w.calls.hang_up_all()
        await w.settle()
        await w.calls.idle()
        assert ("hang_up", "k1") in w.phone.sent
        assert ("refuse", "k2", 480) in w.phone.sent
        assert w.quiet()


async def test_calls_whose_media_worker_died_are_ended_each_as_far_as_it_was() -> None:
    """BYE for the established one, 503 for the one that rings; the calls of other workers go on."""
    async with world() as w:
        up, other = await w.establish("k1"), await w.establish("k2")
        ringing = await w.offer("k3")
        w.media.answers[CloseCall] = CallClosed(statistics=None)
        w.calls.on_lost((up, ringing, "long gone"))
        await w.settle()
        assert ("hang_up", "k1") in w.phone.sent
        assert w.phone.sent[-1] == ("refuse", "k3", 503)
        for call in (up, ringing):
            assert (w.end(call).data["ended_by"], w.end(call).data["end_reason"]) == ("edge", "media_worker_died")
        assert len(w.calls) == w.ports.leased == 1
        assert "ended" not in w.kinds(other)


async def test_digits_are_lines_of_the_timeline() -> None:
    async with world() as w:
        call = await w.establish()
        w.calls.on_notice(DigitReceived(call=call, digit="5", duration_ms=100))
        assert [event.data for event in w.events if event.kind == "digit"] == [{"note": "5"}]


async def test_a_wish_that_cannot_be_granted_is_counted_and_the_agent_told() -> None:
    async with world() as w:
        call = await w.establish()
        w.calls.on_notice(AgentAsks(call=call, verb="levitate"))
        await w.settle()
        assert [command.event for command in w.media.of(TellAgent)] == ["refused"]
        assert w.counters.get("agent_requests_refused", verb="levitate") == 1


async def test_pairs_outside_the_table_change_nothing() -> None:
    async with world() as w:
        await w.establish()
        (call,) = w.calls._by_id.values()
        for state, event in IGNORED:
            call.state = state
            before = list(w.phone.sent)
            w.calls._feed(call, event)
            assert (call.state, w.phone.sent) == (state, before)
        call.state = State.ESTABLISHED


async def test_a_digit_by_info_goes_the_way_of_the_others() -> None:
    """Media knows whether a telephone-event has told it already."""
    async with world() as w:
        call = await w.establish()
        w.calls.on_event(DigitPressed(CallKey("k1"), "5", 160))
        await w.settle()
        assert w.media.of(HearDigit) == [HearDigit(call=call, digit="5", duration_ms=160)]


async def test_an_unrefreshed_session_is_on_the_record_as_expired() -> None:
    """RFC 4028 §10."""
    async with world() as w:
        call = await w.establish()
        w.calls.on_event(CallEnded(CallKey("k1"), Party.LOCAL, Cause.EXPIRED, 408))
        await w.settle()
        assert w.end(call).data["end_reason"] == "session_expired"
        assert w.end(call).data["ended_by"] == "edge"


async def test_the_reasons_of_a_bye_are_on_the_record_in_both_protocols() -> None:
    async with world() as w:
        call = await w.establish()
        headers = (("Reason", 'Q.850;cause=31;text="normal, unspecified"'), ("Reason", "SIP;cause=200"))
        w.calls.on_event(CallEnded(CallKey("k1"), Party.REMOTE, Cause.BYE, headers=headers))
        await w.settle()
        assert w.end(call).data["reasons"] == [
            {"protocol": "Q.850", "cause": 31, "text": "normal, unspecified"},
            {"protocol": "SIP", "cause": 200, "text": ""},
        ]


async def test_a_live_calls_media_is_commanded_and_the_timeline_says_what_was_done() -> None:
    async with world() as w:
        call = await w.establish()
        for command in (
            SendDigits(call=call, digits="12#"),
            Play(call=call, recording="unavailable"),
            SetMark(call=call, name="m"),
            Clear(call=call),
        ):
            assert await w.calls.command(ACCOUNT, command) == Done()
        w.calls.on_notice(MarkReached(call=call, name="m"))
        w.calls.on_notice(MarkReached(call=call, name="n", cleared=True))
        w.calls.on_notice(MarkReached(call="another", name="n"))
        lines = [(event.kind, event.data.get("note")) for event in w.events][-6:]
        assert lines == [
            ("digits_sent", "3"),
            ("played", "unavailable"),
            ("mark", "m"),
            ("cleared", None),
            ("mark_reached", "m"),
            ("mark_cleared", "n"),
        ]


async def test_a_call_that_rings_another_accounts_or_nobodys_is_not_commanded() -> None:
    async with world() as w:
        call = await w.offer()
        refused = await w.calls.command(ACCOUNT, Clear(call=call))
        assert isinstance(refused, Failed)
        assert refused.code == "not_established"
        assert await w.calls.command(OTHER, Clear(call=call)) is None
        assert await w.calls.command(ACCOUNT, Clear(call="nobody")) is None
        assert not w.media.of(Clear)
        assert isinstance(await w.calls.perform(ACCOUNT, call, (HangUp(),)), Failed)
        assert await w.calls.perform(OTHER, call, (HangUp(),)) is None


async def test_a_refusal_of_medias_is_passed_on_and_not_noted() -> None:
    async with world() as w:
        call = await w.establish()
        w.media.answers[SendDigits] = Failed(code="no_telephone_event", message="none")
        result = await w.calls.command(ACCOUNT, SendDigits(call=call, digits="1"))
        assert result == Failed(code="no_telephone_event", message="none")
        assert "digits_sent" not in w.kinds(call)


async def test_instructions_are_carried_out_in_their_time() -> None:
    async with world() as w:
        call = await w.establish()
        assert await w.calls.perform(ACCOUNT, call, (Digits("1w"), Pause(2.0), HangUp())) == Done()
        await spin()
        assert [command.digits for command in w.media.of(SendDigits)] == ["1w"]
        w.clock.advance(0.74)
        await spin()
        w.clock.advance(1.9)
        await spin()
        assert "hang_up" not in w.phone.verbs
        w.clock.advance(0.1)
        await w.settle()
        assert w.phone.verbs[-1] == "hang_up"
        assert (w.end(call).data["ended_by"], w.end(call).data["end_reason"]) == ("agent", "agent_hung_up")


async def test_new_instructions_take_the_place_of_the_old() -> None:
    async with world() as w:
        call = await w.establish()
        await w.calls.perform(ACCOUNT, call, (Pause(1.0), HangUp()))
        await spin()
        await w.calls.perform(ACCOUNT, call, (Pause(5.0),))
        await spin()
        w.clock.advance(5.0)
        await w.settle()
        assert "hang_up" not in w.phone.verbs
        w.calls.hang_up_all()
        await w.settle()


async def spin() -> None:
    """Let what can run do so."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_who_answered_is_in_the_timeline_and_counted() -> None:
    order = DetectionOrder(timeout_s=4.0)
    async with world(detect=lambda agent: order, conversation=False) as it:
        call = await it.establish()
        opened = it.media.of(OpenCall)[0]
        assert (opened.detection, opened.conversation) == (order, False)
        it.calls.on_notice(MachineDetected(call=call, result="machine", after_ms=3500, reason="it talks on"))
        it.calls.on_notice(MachineDetected(call="another", result="human", after_ms=1, reason=""))
        noted = [event.data["note"] for event in it.events if event.kind == "machine_detection"]
        assert noted == ["machine after 3.50 s"]
