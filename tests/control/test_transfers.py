"""Handing a caller to somebody else: every way there is, and how each ends."""

from __future__ import annotations

from typing import Any

import pytest

from control.outbound import CarrierRefused
from control.toll import Denied, TollRefusal
from control.transfer_table import TRANSITIONS, Input, State
from control.transfers import Outcome, TransferRefused
from edge.events import (
    CallAnswered,
    CallEnded,
    CallKey,
    CallProgressed,
    Cause,
    DigitPressed,
    MediaOffered,
    Party,
    ReferEnded,
    ReferProgressed,
    ReferSource,
)
from media.messages import (
    AgentAsks,
    ApplyAnswer,
    CallClosed,
    CallOpened,
    CloseCall,
    CloseSecondLeg,
    DigitsUnsent,
    Failed,
    HearDigit,
    JoinLegs,
    LegStatistics,
    OpenSecondLeg,
    Renegotiate,
    Ring,
)
from tests.control.inward import ACCOUNT, OTHER
from tests.control.outward import CALLER, DID, TARGET, Desk, desk

OPENED = CallOpened(sdp=b"second offer", codec=None)


async def bridging(d: Desk, **more: Any) -> tuple[str, CallKey]:
    """A caller whose second leg has been dialled."""
    d.media.answers[OpenSecondLeg] = OPENED
    d.media.answers[CloseSecondLeg] = CallClosed(statistics=LegStatistics(packets_sent=9))
    call = await d.caller()
    await d.calls.transfer(ACCOUNT, call, TARGET, **more)
    await d.settle()
    return call, d.line.key


# --- a second leg -----------------------------------------------------------------------------


async def test_a_caller_is_bridged_to_a_second_leg_on_its_own_trunk() -> None:
    async with desk() as d:
        call, key = await bridging(d)
        (invite,) = d.line.invites
        assert (invite.target, invite.username) == (f"sip:{TARGET}@192.0.2.9:5070", "edge")
        assert invite.from_uri == f"sip:{DID}@192.0.2.9:5070"
        assert (invite.max_forwards, dict(invite.headers)["X-Truedy-Hops"]) == (69, "1")
        await d.says(CallProgressed(key, 180, "Ringing", None))
        await d.says(CallProgressed(key, 183, "Session Progress", b"early", "a"))
        await d.says(CallAnswered(key, 200, "OK", b"answer"))
        early, final = d.media.of(ApplyAnswer)
        assert (early.answer, early.early, early.second) == (b"early", True, True)
        assert (final.answer, final.early, final.second) == (b"answer", False, True)
        assert [join.agent for join in d.media.of(JoinLegs)] == ["leaves"]
        assert d.told() == [(180, False), (183, False), (200, True)]
        d.clock.advance(30.0)
        await d.bye(key)
        assert d.end(call)[:2] == ("callee", "target_hung_up")
        (leg,) = d.others(call)
        assert d.kinds(leg) == ["offered", "answered", "ended"]
        ended = d.of_kind(leg, "ended")[0]
        assert d.end(leg)[:2] == ("callee", "callee_hung_up")
        assert ended.data["statistics"]["packets_sent"] == 9
        assert ended.offset_s == pytest.approx(30.0)
        await d.bye("k1", Party.LOCAL)
        assert d.quiet()
        assert d.counters.get("transfers", method="bridge", outcome="moved") == 1


async def test_the_callers_bye_ends_both_legs() -> None:
    async with desk() as d:
        call, key = await bridging(d)
        await d.says(CallAnswered(key, 200, "OK", b"answer"))
        await d.bye("k1")
        assert ("hang_up", key) in d.line.sent
        assert d.end(call)[:2] == ("caller", "caller_hung_up")
        assert d.end(d.others(call)[0])[:2] == ("caller", "caller_hung_up")
        commands = [type(command) for command in d.media.commands]
        assert commands.index(CloseSecondLeg) < commands.index(CloseCall)
        assert d.quiet()


@pytest.mark.parametrize(
    ("status", "phrase", "reason"),
    [(486, "Busy Here", "callee_busy"), (403, "no profile D38", "no_outbound_voice_profile")],
)
async def test_a_target_that_refuses_leaves_the_caller_with_the_agent(status: int, phrase: str, reason: str) -> None:
    async with desk() as d:
        call, key = await bridging(d)
        await d.says(CallEnded(key, Party.REMOTE, Cause.REFUSED, status, phrase))
        assert d.told() == [(status, True)]
        assert not d.of_kind(call, "ended")
        assert d.end(d.others(call)[0]) == ("callee", reason, status)
        assert d.ports.leased == 1
        assert d.guard._ledger.live(ACCOUNT) == 0
        await d.bye("k1")
        assert d.quiet()


async def test_a_target_that_never_answers_is_given_up() -> None:
    async with desk() as d:
        call, key = await bridging(d)
        d.clock.advance(31.0)
        await d.settle()
        assert ("hang_up", key) in d.line.sent
        assert d.told() == [(408, True)]
        assert d.end(d.others(call)[0])[:2] == ("edge", "no_answer")


async def test_a_caller_who_leaves_while_it_rings_takes_the_second_leg_along() -> None:
    async with desk() as d:
        _, key = await bridging(d)
        await d.bye("k1")
        assert ("hang_up", key) in d.line.sent
        assert d.quiet()


async def test_an_answer_without_sdp_stands_on_the_early_one() -> None:
    async with desk() as d:
        _, key = await bridging(d)
        await d.says(CallProgressed(key, 183, "Session Progress", b"early", "a"))
        await d.says(CallAnswered(key, 200, "OK", None))
        assert [command.answer for command in d.media.of(ApplyAnswer)] == [b"early", b"early"]
        assert d.media.of(JoinLegs)


async def test_a_target_that_rings_is_heard_ringing_as_its_network_does() -> None:
    """Once; early media of its own comes instead."""
    async with desk() as d:
        _, key = await bridging(d)
        for _ in range(2):
            await d.says(CallProgressed(key, 180, "Ringing", None))
        assert [ring.number for ring in d.media.of(Ring)] == [TARGET]
    async with desk() as d:
        _, key = await bridging(d)
        await d.says(CallProgressed(key, 183, "Session Progress", b"early", "a"))
        await d.says(CallProgressed(key, 180, "Ringing", None))
        assert not d.media.of(Ring)


@pytest.mark.parametrize("described", [True, False])
async def test_an_offer_of_the_target_before_its_answer_holds_unless_another_fork_answers(described: bool) -> None:
    async with desk() as d:
        _, key = await bridging(d)
        await d.says(CallProgressed(key, 183, "Session Progress", b"early", "a"))
        await d.says(MediaOffered(key, b"update"))
        await d.says(CallAnswered(key, 200, "OK", b"answer", described=described))
        final = [command.answer for command in d.media.of(ApplyAnswer) if not command.early]
        assert final == ([] if described else [b"answer"])
        assert d.media.of(JoinLegs)


@pytest.mark.parametrize("takes_info", [True, False])
async def test_digits_by_info_cross_to_the_target_and_back(takes_info: bool) -> None:
    """The caller's where the target takes no telephone-event but INFO, the target's by media."""
    async with desk() as d:
        call, key = await bridging(d)
        await d.says(CallAnswered(key, 200, "OK", b"answer", takes_info=takes_info))
        d.calls.on_notice(DigitsUnsent(call=call, digits="4", second=True))
        pressed = [("press", key, "4")] if takes_info else []
        assert [each for each in d.line.sent if each[0] == "press"] == pressed
        assert d.counters.get("digits_unsent") == (not takes_info)
        await d.says(DigitPressed(key, "7", 160))
        (heard,) = d.media.of(HearDigit)
        assert (heard.call, heard.digit, heard.second) == (call, "7", True)


@pytest.mark.parametrize("fails", [ApplyAnswer, JoinLegs])
async def test_an_answer_that_cannot_be_used_ends_the_call_it_was_for(fails: type) -> None:
    async with desk() as d:
        call, key = await bridging(d)
        d.media.answers[fails] = Failed(code="bad_sdp", message="")
        await d.says(CallAnswered(key, 200, "OK", b"junk"))
        assert ("hang_up", key) in d.line.sent
        assert d.end(call)[1] == "target_hung_up"
        await d.bye("k1", Party.LOCAL)
        assert d.quiet()


async def test_an_agent_that_listens_has_the_caller_back_when_the_target_leaves() -> None:
    async with desk() as d:
        call, key = await bridging(d, agent="listens")
        await d.says(CallAnswered(key, 200, "OK", b"answer"))
        await d.bye(key)
        assert [join.agent for join in d.media.of(JoinLegs)] == ["listens"]
        assert d.told()[-1] == (0, True)
        assert not d.of_kind(call, "ended")
        await d.bye("k1")
        assert d.quiet()


async def test_the_minutes_of_the_day_end_a_bridged_call() -> None:
    async with desk(outbound={"minutes_per_day": 1}) as d:
        call, key = await bridging(d)
        await d.says(CallAnswered(key, 200, "OK", b"answer"))
        d.clock.advance(61.0)
        await d.settle()
        assert d.end(d.others(call)[0])[1] == "minutes_used_up"
        assert d.end(call)[1] == "target_hung_up"


@pytest.mark.parametrize("opens", [False, True])
async def test_a_re_invite_of_the_target_is_answered_for_its_own_leg(opens: bool) -> None:
    async with desk() as d:
        _, key = await bridging(d)
        await d.says(CallAnswered(key, 200, "OK", b"answer"))
        d.media.answers[Renegotiate] = OPENED if opens else Failed(code="bad_sdp", message="")
        await d.says(MediaOffered(key, b"hold"))
        (renegotiated,) = d.media.of(Renegotiate)
        assert renegotiated.second
        expected = ("accept_offer", key, b"second offer") if opens else ("refuse_offer", key, 488)
        assert d.line.sent[-1] == expected


async def test_a_second_leg_that_cannot_be_opened_is_told() -> None:
    async with desk() as d:
        d.media.answers[OpenSecondLeg] = Failed(code="port_unavailable", message="")
        call = await d.caller()
        transfer = await d.calls.transfer(ACCOUNT, call, TARGET)
        await d.settle()
        assert (await transfer.outcome()).moved is False
        assert d.ports.leased == 1
        assert d.line.invites == []


async def test_a_transfer_without_a_port_is_told() -> None:
    async with desk(pairs=1) as d:
        call = await d.caller()
        transfer = await d.calls.transfer(ACCOUNT, call, TARGET)
        await d.settle()
        assert await transfer.outcome() == Outcome(False, 503, "no RTP port is free")


async def test_a_call_that_ends_while_the_second_leg_opens_leaves_nothing() -> None:
    async with desk() as d:
        call = await d.caller()
        d.media.answers[OpenSecondLeg] = OPENED
        await d.calls.transfer(ACCOUNT, call, TARGET)
        d.calls.on_event(CallEnded(CallKey("k1"), Party.REMOTE, Cause.BYE))
        await d.settle()
        assert d.line.invites == []
        assert d.quiet()


# --- REFER ------------------------------------------------------------------------------------


async def referring(d: Desk) -> str:
    call = await d.caller(takes_refer=True)
    await d.calls.transfer(ACCOUNT, call, TARGET)
    await d.settle()
    return call


async def test_a_caller_is_referred_where_trunk_and_peer_say_so_and_the_outcome_is_the_notifys() -> None:
    """Trouble elsewhere: REFER "done" at 202."""
    async with desk(trunk={"transfer": "refer"}) as d:
        call = await referring(d)
        assert d.line.referred == [f"sip:{TARGET}@192.0.2.9:5070"]
        await d.says(ReferProgressed(CallKey("k1"), 202, "Accepted"))
        await d.says(ReferProgressed(CallKey("k1"), 180, "Ringing"))
        assert d.told() == [(202, False), (180, False)]
        assert not d.of_kind(call, "ended")
        await d.says(ReferEnded(CallKey("k1"), 200, "OK", ReferSource.NOTIFY))
        assert d.told()[-1] == (200, True)
        assert d.end(call)[:2] == ("operator", "transferred")
        assert d.line.verbs[-1] == "hang_up"
        await d.bye("k1", Party.LOCAL)
        assert d.quiet()
        assert d.counters.get("transfers", method="refer", outcome="moved") == 1


async def test_a_referral_whose_target_is_busy_leaves_the_caller_with_the_agent() -> None:
    async with desk(trunk={"transfer": "refer"}) as d:
        call = await referring(d)
        await d.says(ReferEnded(CallKey("k1"), 486, "Busy Here", ReferSource.NOTIFY))
        assert d.told() == [(486, True)]
        assert not d.of_kind(call, "ended")
        assert d.line.invites == []


@pytest.mark.parametrize("source", [ReferSource.EXPIRED, ReferSource.TERMINATED])
async def test_a_peer_that_never_says_how_it_went_has_not_moved_the_caller(source: ReferSource) -> None:
    async with desk(trunk={"transfer": "refer"}) as d:
        call = await referring(d)
        await d.says(ReferEnded(CallKey("k1"), 0, "", source))
        assert d.told() == [(0, True)]
        assert not d.of_kind(call, "ended")


async def test_a_refused_refer_falls_back_to_a_second_leg() -> None:
    async with desk(trunk={"transfer": "refer"}) as d:
        d.media.answers[OpenSecondLeg] = OPENED
        await referring(d)
        await d.says(ReferEnded(CallKey("k1"), 405, "Method Not Allowed", ReferSource.REFUSED))
        assert [invite.target for invite in d.line.invites] == [f"sip:{TARGET}@192.0.2.9:5070"]


async def test_a_trunk_without_a_way_out_refers_to_the_peers_own_place_and_has_no_fall_back() -> None:
    async with desk(trunk={"transfer": "refer", "outbound": None}) as d:
        await referring(d)
        assert d.line.referred == [f"sip:{TARGET}@127.0.0.2:5060"]
        await d.says(ReferEnded(CallKey("k1"), 405, "Method Not Allowed", ReferSource.REFUSED))
        assert d.line.invites == []
        assert d.told()[-1][1] is True


async def test_a_caller_who_hangs_up_while_referred_was_not_moved() -> None:
    async with desk(trunk={"transfer": "refer"}) as d:
        call = await referring(d)
        transfer = d.calls._transfers
        assert transfer is not None
        await d.says(ReferEnded(CallKey("k1"), 0, "", ReferSource.CALL_ENDED))
        await d.bye("k1")
        assert d.end(call)[:2] == ("caller", "caller_hung_up")
        assert d.quiet()
        assert d.counters.get("transfers", method="refer", outcome="failed") == 1


async def test_a_peer_that_does_not_take_refer_is_not_asked() -> None:
    async with desk(trunk={"transfer": "refer"}) as d:
        d.media.answers[OpenSecondLeg] = OPENED
        call = await d.caller(takes_refer=False)
        await d.calls.transfer(ACCOUNT, call, TARGET)
        await d.settle()
        assert d.line.referred == []
        assert len(d.line.invites) == 1


# --- a carrier's own means --------------------------------------------------------------------


async def test_twilio_is_referred_with_the_target_authorised_once() -> None:
    async with desk() as d:
        call = await twilio_caller(d, takes_refer=True)
        await d.calls.transfer(ACCOUNT, call, TARGET)
        await d.settle()
        assert d.carrier.authorised == {call: TARGET}
        d.carrier.taken.add(call)
        await d.bye("k1")
        assert d.told()[-1] == (200, True)
        assert d.carrier.authorised == {}
        assert d.counters.get("transfers", method="refer", outcome="moved") == 1


@pytest.mark.parametrize(
    ("says", "end"),
    [
        ("completed", ("callee", "transferred_call_ended")),
        ("busy", ("callee", "callee_busy")),
        ("the edge stops", ("edge", "moved_out_of_sight")),
        ("nothing", ("edge", "moved_out_of_sight")),
    ],
)
async def test_a_caller_moved_by_twilio_has_a_record_and_a_place_until_twilio_tells_of_the_end(
    says: str, end: tuple[str, str]
) -> None:
    """Its minutes count as any outgoing call's."""
    async with desk() as d:
        call = await twilio_caller(d)
        await d.calls.transfer(ACCOUNT, call, TARGET)
        await d.settle()
        await d.bye("k1", Party.LOCAL)
        (handover,) = d.carrier.handovers
        assert 0 < handover.longest_s <= 14_400
        assert d.kinds(handover.leg) == ["offered"]
        d.calls.carrier_says(handover.leg, "in-progress")
        d.calls.carrier_says(handover.leg, "in-progress")
        d.calls.carrier_says("somebody else", "completed")
        assert d.guard._ledger.live(ACCOUNT) == 1
        d.clock.advance(30.0)
        match says:
            case "the edge stops":
                d.calls.forget_moved()
            case "nothing":
                d.clock.advance(14_500.0)
            case _:
                d.calls.carrier_says(handover.leg, says)
        d.calls.carrier_says(handover.leg, "completed")
        assert d.kinds(handover.leg) == ["offered", "answered", "ended"]
        assert d.end(handover.leg)[:2] == end
        assert d.quiet()


@pytest.mark.parametrize("brief", [True, False])
async def test_what_twilio_says_of_a_target_before_our_leg_is_over_counts(brief: bool) -> None:
    """The conversation may even be over by then."""
    async with desk() as d:
        call = await twilio_caller(d, takes_refer=True)
        await d.calls.transfer(ACCOUNT, call, TARGET)
        await d.settle()
        (handover,) = d.carrier.handovers
        for status in ("in-progress", *(["completed"] if brief else [])):
            d.calls.carrier_says(handover.leg, status)
        assert d.kinds(handover.leg) == []
        d.carrier.taken.add(call)
        await d.bye("k1")
        assert d.kinds(handover.leg) == ["offered", "answered", *(["ended"] if brief else [])]
        d.calls.carrier_says(handover.leg, "completed")
        assert d.end(handover.leg)[1] == "transferred_call_ended"
        assert d.quiet()


async def test_twilio_without_refer_is_asked_by_rest() -> None:
    async with desk() as d:
        call = await twilio_caller(d)
        transfer = await d.calls.transfer(ACCOUNT, call, TARGET, by="agent")
        await d.settle()
        assert d.carrier.moved == [TARGET]
        assert (await transfer.outcome()).moved
        assert d.end(call)[:2] == ("agent", "transferred")


async def test_a_carrier_that_refuses_leaves_the_caller_with_the_agent() -> None:
    async with desk() as d:
        call = await twilio_caller(d)
        d.carrier.refuses = CarrierRefused("carrier_refused", "Twilio says no")
        transfer = await d.calls.transfer(ACCOUNT, call, TARGET)
        await d.settle()
        assert await transfer.outcome() == Outcome(False, 503, "Twilio says no")
        assert not d.of_kind(call, "ended")


async def test_a_twilio_call_that_ends_while_the_carrier_is_asked_is_over() -> None:
    async with desk() as d:
        call = await twilio_caller(d)
        transfer = await d.calls.transfer(ACCOUNT, call, TARGET)
        d.calls.on_event(CallEnded(CallKey("k1"), Party.REMOTE, Cause.BYE))
        await d.settle()
        assert (await transfer.outcome()).phrase == "the call ended first"
        assert d.quiet()


async def twilio_caller(d: Desk, *, takes_refer: bool = False) -> str:
    """A call on the trunk of Twilio's numbers; how its number is found is the router's."""
    number = await d.registry.number(ACCOUNT, "number-3")
    return await d.caller(trunk="tw", takes_refer=takes_refer, dialed=(number.phone_number,))


# --- who may, and what --------------------------------------------------------------------------


async def test_an_agent_asks_and_hears_how_it_goes() -> None:
    async with desk() as d:
        d.media.answers[OpenSecondLeg] = OPENED
        call = await d.caller()
        d.calls.on_notice(AgentAsks(call=call, verb="transfer", arguments={"target": TARGET}))
        await d.settle()
        await d.says(CallEnded(d.line.key, Party.REMOTE, Cause.REFUSED, 486, "Busy Here"))
        assert d.told() == [(486, True)]


@pytest.mark.parametrize(
    ("target", "word"),
    [
        ("+882160000000", "satellite"),
        ("+19005551234", "premium"),
        ("911", "emergency"),
        ("+442079460000", "country"),
        ("sip:a@evil.example.com", "listed"),
        ("", "E.164"),
    ],
)
async def test_what_the_rules_refuse_is_told_to_the_agent_and_dials_nobody(target: str, word: str) -> None:
    async with desk() as d:
        call = await d.caller()
        d.calls.on_notice(AgentAsks(call=call, verb="transfer", arguments={"target": target}))
        await d.settle()
        assert d.told() == [(403, True)]
        (told,) = [command for command in d.media.commands if type(command).__name__ == "TellAgent"]
        assert word in told.data["phrase"]
        assert d.line.invites == []
        assert d.line.referred == []


async def test_a_listed_sip_uri_is_called_at_its_own_place_without_the_trunks_credentials() -> None:
    async with desk() as d:
        d.media.answers[OpenSecondLeg] = OPENED
        call = await d.caller()
        await d.calls.transfer(ACCOUNT, call, "sip:hunt@pbx.example.com")
        await d.settle()
        (invite,) = d.line.invites
        assert (invite.target, invite.username, invite.password) == ("sip:hunt@pbx.example.com", None, None)
        assert invite.from_uri == f"sip:{DID}@sip.test"


async def test_another_accounts_call_and_one_that_is_gone_are_not_live() -> None:
    async with desk() as d:
        call = await d.caller()
        for account, id in ((OTHER, call), (ACCOUNT, "gone")):
            with pytest.raises(TransferRefused, match="no such live call"):
                await d.calls.transfer(account, id, TARGET)


async def test_one_transfer_at_a_time() -> None:
    async with desk() as d:
        call, _ = await bridging(d)
        with pytest.raises(TransferRefused, match="under way"):
            await d.calls.transfer(ACCOUNT, call, TARGET)
        assert d.guard._ledger.live(ACCOUNT) == 1


async def test_a_call_that_rings_is_not_transferred() -> None:
    async with desk() as d:
        call = await d.place()
        with pytest.raises(TransferRefused, match="not established"):
            await d.calls.transfer(ACCOUNT, call, TARGET)


async def test_a_call_that_has_been_here_or_has_no_hop_left_goes_no_further() -> None:
    """RFC 7332 §5; a call that comes in a second time may be answered, and a third time is refused."""
    async with desk() as d:
        call = await d.caller(headers=(("X-Truedy-Hops", "1"),))
        d.media.answers[OpenSecondLeg] = OPENED
        await d.calls.transfer(ACCOUNT, call, TARGET)
        await d.settle()
        assert dict(d.line.invites[0].headers)["X-Truedy-Hops"] == "2"
        tired = await d.caller("k2", max_forwards=1, caller="+12025550124")
        with pytest.raises(TollRefusal) as refused:
            await d.calls.transfer(ACCOUNT, tired, TARGET)
        assert refused.value.denied is Denied.LOOP


async def test_no_way_out_is_said() -> None:
    async with desk(trunk={"outbound": None}) as d:
        call = await d.caller()
        with pytest.raises(TransferRefused, match=r"trunks\.outbound"):
            await d.calls.transfer(ACCOUNT, call, TARGET)


async def test_a_caller_known_by_its_carriers_sid_can_be_transferred() -> None:
    async with desk() as d:
        d.media.answers[OpenSecondLeg] = OPENED
        call = await d.caller()
        found = d.calls._by_id[call].found
        assert found is not None
        assert found.from_number == CALLER
        await d.calls.transfer(ACCOUNT, call, TARGET)
        await d.settle()


def test_every_way_ends() -> None:
    for state in set(State) - {State.OVER, State.CHECKING}:
        assert TRANSITIONS[state, Input.CALL_ENDED][0] is State.OVER
