"""Offers inside a call: re-INVITE both ways, glare and its windows (RFC 3261 §14, RFC 5407)."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from edge.events import (
    CallAnswered,
    CallConfirmed,
    CallEnded,
    CallKey,
    Cause,
    MediaAnswered,
    MediaOffered,
    MediaRefused,
    OutgoingCall,
    Party,
    Refusal,
)
from edge.invite import Detail
from edge.message import Request, Response
from edge.offers import TRANSITIONS, Action, Input, Offers, State
from tests.edge.pair import ANSWER, OFFER, Solo, in_dialog, reply, request

NEW = OFFER.replace(b"m=audio 4000", b"m=audio 4002")


def only(messages: list[Request | Response]) -> Response:
    assert len(messages) == 1, messages
    assert isinstance(messages[0], Response)
    return messages[0]


def called(solo: Solo, **options: object) -> tuple[CallKey, Response]:
    """A call to us, up to its ACK."""
    key = solo.offered(**options)
    solo.endpoint.answer(key, ANSWER, now=solo.now)
    solo.drain()
    ok = solo.sent[-1]
    assert isinstance(ok, Response)
    solo.receive(in_dialog("ACK", ok, cseq=1))
    solo.take(CallConfirmed)
    return key, ok


def calling(solo: Solo) -> tuple[CallKey, Request]:
    """A call of ours, up to its ACK."""
    call = OutgoingCall("sip:+1@192.0.2.7", "sip:edge@edge.test", OFFER, username="gw", password="pw")
    key = solo.endpoint.invite(call, now=solo.now)
    solo.drain()
    sent = solo.requests("INVITE")[-1]
    solo.receive(reply(sent, 200, body=ANSWER))
    solo.take(CallAnswered)
    return key, sent


def reinvite(ok: Response, *, cseq: int = 2, body: bytes = NEW, **options: object) -> Request:
    return in_dialog("INVITE", ok, cseq=cseq, body=body, **options)


def last_invite(solo: Solo) -> Request:
    return solo.requests("INVITE")[-1]


# --- the peer's re-INVITE ---------------------------------------------------------------------


def test_a_reinvite_is_offered_and_answered() -> None:
    """RFC 3261 §14.2: 100 at once, 200 repeated until the ACK; the offer/answer is complete with the 200."""
    solo = Solo()
    key, ok = called(solo)
    assert only(solo.receive(reinvite(ok))).status == 100
    assert solo.take(MediaOffered) == MediaOffered(key, NEW)
    solo.endpoint.accept_offer(key, ANSWER, now=0.0)
    answer = only(solo.drain())
    assert (answer.status, answer.body, answer.to.tag) == (200, ANSWER, ok.to.tag)
    assert [bytes(message) for message in solo.advance(4.0)] == [bytes(answer)] * 3
    solo.receive(in_dialog("ACK", answer, cseq=2))
    assert solo.advance(60.0) == []
    assert solo.events == []
    assert solo.endpoint.calls == 1


def test_a_reinvite_without_an_offer_asks_us_for_one() -> None:
    """RFC 3261 §14.2: the offer goes in the 200, the answer comes in the ACK."""
    solo = Solo()
    key, ok = called(solo)
    solo.receive(reinvite(ok, body=b""))
    assert solo.take(MediaOffered) == MediaOffered(key, None)
    solo.endpoint.accept_offer(key, OFFER, now=0.0)
    answer = only(solo.drain())
    solo.receive(in_dialog("ACK", answer, cseq=2, body=ANSWER))
    assert solo.take(MediaAnswered) == MediaAnswered(key, ANSWER)


def test_a_refused_reinvite_leaves_the_call_as_it_was() -> None:
    """RFC 3261 §14.2: 488, and the session goes on."""
    solo = Solo()
    key, ok = called(solo)
    again = reinvite(ok)
    solo.receive(again)
    solo.take(MediaOffered)
    solo.endpoint.refuse_offer(key, Refusal(488, "no common codec"), now=0.0)
    refused = only(solo.drain())
    assert refused.status == 488
    assert refused.headers.get("Reason") == 'SIP;cause=488;text="no common codec"'
    solo.receive(in_dialog("ACK", ok, cseq=2, branch=again.via.branch))
    assert solo.events == []
    assert solo.advance(60.0) == []
    assert only(solo.receive(in_dialog("BYE", ok, cseq=3))).status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([("Content-Type", "text/plain")], 415),
        ([("Require", "replaces")], 420),
        ([("Content-Encoding", "gzip")], 415),
    ],
)
def test_a_bad_reinvite_gets_its_error_and_the_call_goes_on(headers: list[tuple[str, str]], status: int) -> None:
    """RFC 3261 §14.2: a fault somebody hit in production on another bridge."""
    solo = Solo()
    key, ok = called(solo)
    assert only(solo.receive(reinvite(ok, headers=headers))).status == status
    raw = bytes(reinvite(ok, cseq=3)).replace(b"Contact: <sip:alice@192.0.2.7:5060>", b"Contact: <sip:", 1)
    assert only(solo.receive(raw)).status == 400
    assert solo.events == []
    solo.receive(reinvite(ok, cseq=4))
    assert solo.take(MediaOffered).key == key


def test_an_immediate_reinvite_before_our_200_was_acknowledged_is_served() -> None:
    """RFC 5407 §3.1.4: its ACK is lost or late; the offer and answer of the first INVITE are complete."""
    solo = Solo()
    key = solo.offered()
    solo.endpoint.answer(key, ANSWER, now=0.0)
    ok = only(solo.drain())
    solo.receive(reinvite(ok))
    assert solo.events == [CallConfirmed(key, None), MediaOffered(key, NEW)]
    solo.events.clear()
    solo.receive(in_dialog("ACK", ok, cseq=1))
    assert solo.events == []
    assert solo.advance(20.0) == []


def test_while_the_ack_must_bring_the_answer_a_reinvite_gets_491() -> None:
    """RFC 5407 §3.1.5: the first offer has no answer yet; for the first INVITE and for later ones."""
    solo = Solo()
    key = solo.offered(body=b"")
    solo.endpoint.answer(key, OFFER, now=0.0)
    ok = only(solo.drain())
    assert only(solo.receive(reinvite(ok))).status == 491
    solo.receive(in_dialog("ACK", ok, cseq=1, body=ANSWER))
    assert solo.take(CallConfirmed).body == ANSWER
    solo.receive(reinvite(ok, cseq=3, body=b""))
    solo.take(MediaOffered)
    solo.endpoint.accept_offer(key, OFFER, now=0.0)
    solo.drain()
    assert only(solo.receive(reinvite(ok, cseq=4))).status == 491
    solo.receive(in_dialog("ACK", ok, cseq=3, body=ANSWER))
    assert solo.take(MediaAnswered).answer == ANSWER


def test_a_reinvite_before_our_last_answer_was_acknowledged_replaces_it() -> None:
    """RFC 5407 §3.1.4, for a re-INVITE: the 200 is repeated no more."""
    solo = Solo()
    key, ok = called(solo)
    solo.receive(reinvite(ok, cseq=2))
    solo.take(MediaOffered)
    solo.endpoint.accept_offer(key, ANSWER, now=0.0)
    solo.drain()
    solo.receive(reinvite(ok, cseq=3))
    assert solo.take(MediaOffered).key == key
    assert solo.advance(20.0) == []
    solo.receive(in_dialog("ACK", ok, cseq=2))
    assert solo.events == []


def test_a_second_reinvite_while_the_first_is_unanswered_gets_500_and_when_to_retry() -> None:
    """RFC 3261 §14.2: Retry-After between 0 and 10 s."""
    solo = Solo()
    key, ok = called(solo)
    solo.receive(reinvite(ok, cseq=2))
    refused = only(solo.receive(reinvite(ok, cseq=3)))
    assert refused.status == 500
    assert 0 <= int(refused.headers.lines("Retry-After")[0]) <= 10
    assert len(solo.events) == 1
    solo.endpoint.accept_offer(key, ANSWER, now=0.0)
    assert only(solo.drain()).cseq.number == 2


def test_a_reinvite_in_the_early_dialog_gets_500() -> None:
    """RFC 3261 §14.2: the first INVITE has no final response."""
    solo = Solo()
    key = solo.offered()
    solo.endpoint.ring(key, now=0.0)
    ringing = only(solo.drain())
    refused = only(solo.receive(reinvite(ringing)))
    assert refused.status == 500
    assert "Retry-After" in refused.headers
    assert solo.events == []


def test_a_repeated_reinvite_after_its_answer_is_absorbed() -> None:
    """RFC 6026 §7.1."""
    solo = Solo()
    key, ok = called(solo)
    again = reinvite(ok)
    solo.receive(again)
    solo.endpoint.accept_offer(key, ANSWER, now=0.0)
    solo.drain()
    solo.events.clear()
    assert solo.receive(again) == []
    assert solo.events == []


def test_a_cancelled_reinvite_ends_alone() -> None:
    """RFC 3261 §9.2: 487 for it, the call goes on, an answer that comes later is ignored."""
    solo = Solo()
    key, ok = called(solo)
    again = reinvite(ok)
    solo.receive(again)
    solo.events.clear()
    to_tag = ok.to.tag
    sent = solo.receive(request("CANCEL", branch=again.via.branch, cseq=2, to_tag=to_tag))
    assert [(message.status, message.cseq.method) for message in sent if isinstance(message, Response)] == [
        (200, "CANCEL"),
        (487, "INVITE"),
    ]
    solo.endpoint.accept_offer(key, ANSWER, now=0.0)
    assert solo.drain() == []
    assert solo.events == []
    assert solo.endpoint.calls == 1


def test_a_200_to_a_reinvite_that_nobody_acknowledges_ends_the_call() -> None:
    """RFC 3261 §14.2: BYE after 64*T1."""
    solo = Solo()
    key, ok = called(solo)
    solo.receive(reinvite(ok))
    solo.take(MediaOffered)
    solo.endpoint.accept_offer(key, ANSWER, now=0.0)
    solo.advance(32.0)
    assert solo.take(CallEnded) == CallEnded(key, Party.LOCAL, Cause.NO_ACK)
    assert len(solo.requests("BYE")) == 1
    solo.quiet()
    assert solo.endpoint.pending == 0


def test_a_bye_while_a_reinvite_waits_ends_it_with_487() -> None:
    """RFC 3261 §15.1.2; both ways."""
    for ours in (False, True):
        solo = Solo()
        key, ok = called(solo)
        solo.receive(reinvite(ok))
        solo.take(MediaOffered)
        if ours:
            solo.endpoint.hang_up(key, now=0.0)
            solo.drain()
        else:
            solo.receive(in_dialog("BYE", ok, cseq=3))
        assert 487 in solo.statuses()
        solo.take(CallEnded)


def test_a_reinvite_after_bye_gets_481() -> None:
    """RFC 5407 §3.2.2, and a fault that crashed others: after ours, while it is unanswered, and after theirs."""
    solo = Solo()
    key, ok = called(solo)
    solo.endpoint.hang_up(key, now=0.0)
    solo.drain()
    assert only(solo.receive(reinvite(ok))).status == 481
    other = Solo()
    _, ok = called(other)
    other.receive(in_dialog("BYE", ok, cseq=2))
    assert only(other.receive(reinvite(ok, cseq=3))).status == 481


def test_the_contact_of_an_accepted_reinvite_is_the_new_target() -> None:
    """RFC 3261 §12.2.2, RFC 6141 §4.3: not that of a refused one."""
    solo = Solo()
    key, ok = called(solo)
    for cseq, contact, accepted in ((2, "<sip:alice@192.0.2.8:7000>", False), (3, "<sip:alice@192.0.2.9:7000>", True)):
        solo.receive(reinvite(ok, cseq=cseq, contact=contact))
        if accepted:
            solo.endpoint.accept_offer(key, ANSWER, now=0.0)
        else:
            solo.endpoint.refuse_offer(key, Refusal(488, ""), now=0.0)
        solo.drain()
        solo.receive(in_dialog("ACK", ok, cseq=cseq))
    solo.endpoint.hang_up(key, now=0.0)
    solo.drain()
    assert solo.requests("BYE")[-1].uri == "sip:alice@192.0.2.9:7000"


def test_hold_and_resume_fifty_times() -> None:
    """R9: every re-INVITE is answered; nothing piles up."""
    solo = Solo()
    key, ok = called(solo)
    for cseq in range(2, 102):
        solo.receive(reinvite(ok, cseq=cseq))
        solo.endpoint.accept_offer(key, ANSWER, now=solo.now)
        solo.drain()
        solo.receive(in_dialog("ACK", ok, cseq=cseq))
        solo.advance(0.2)
    assert len(solo.events) == 100
    solo.receive(in_dialog("BYE", ok, cseq=200))
    solo.quiet()
    assert solo.endpoint.pending == 0


@pytest.mark.parametrize("apart_s", [90, 900])
def test_a_call_whose_caller_refreshes_its_session_stays_up_for_an_hour(apart_s: int) -> None:
    """RFC 4028 §7.4: the caller, who refreshes by re-INVITE, is answered each time, first and last; no BYE of ours.

    Calls on other bridges ended at 15 minutes, where that went unanswered.
    """
    solo = Solo()
    timer = [("Supported", "timer"), ("Session-Expires", f"{2 * apart_s};refresher=uac"), ("Min-SE", "90")]
    key, ok = called(solo, headers=timer)
    for cseq in range(2, 2 + 3600 // apart_s):
        assert solo.advance(apart_s) == []
        solo.receive(reinvite(ok, cseq=cseq, body=OFFER, headers=timer))
        assert solo.take(MediaOffered) == MediaOffered(key, OFFER)
        solo.endpoint.accept_offer(key, ANSWER, now=solo.now)
        assert only(solo.drain()).status == 200
        solo.receive(in_dialog("ACK", ok, cseq=cseq))
    assert solo.events == []
    assert solo.requests("BYE") == []
    assert solo.endpoint.calls == 1


# --- our re-INVITE ----------------------------------------------------------------------------


def test_our_offer_is_a_reinvite_and_its_200_is_acknowledged() -> None:
    """RFC 3261 §14.1; the Contact of the 200 is the new target."""
    solo = Solo()
    key, ok = called(solo)
    solo.endpoint.reoffer(key, NEW, now=0.0)
    solo.drain()
    sent = last_invite(solo)
    assert (sent.uri, str(sent.cseq), sent.body) == ("sip:alice@192.0.2.7:5060", "1 INVITE", NEW)
    assert (sent.from_.tag, sent.to.tag) == (ok.to.tag, "peer")
    assert sent.headers.get("Contact") == "<sip:192.0.2.1:5060>"
    solo.receive(reply(sent, 100))
    answer = reply(sent, 200, body=ANSWER, contact="<sip:alice@192.0.2.9:7000>")
    (ack,) = solo.receive(answer)
    assert isinstance(ack, Request)
    assert (ack.method, ack.uri, str(ack.cseq)) == ("ACK", "sip:alice@192.0.2.9:7000", "1 ACK")
    assert solo.take(MediaAnswered) == MediaAnswered(key, ANSWER)
    (again,) = solo.receive(answer)
    assert bytes(again) == bytes(ack)
    assert solo.events == []


@pytest.mark.parametrize("status", [403, 415, 488, 500, 503, 603])
def test_our_refused_offer_leaves_the_call_as_it_was(status: int) -> None:
    """RFC 3261 §14.1; a new one may follow at once."""
    solo = Solo()
    key, _ = called(solo)
    solo.endpoint.reoffer(key, NEW, now=0.0)
    solo.drain()
    solo.receive(reply(last_invite(solo), status))
    assert solo.take(MediaRefused) == MediaRefused(key, status)
    assert solo.endpoint.calls == 1
    solo.endpoint.reoffer(key, NEW, now=0.0)
    (again,) = solo.drain()
    assert isinstance(again, Request) and again.cseq.number == 2


@pytest.mark.parametrize("status", [481, 408])
def test_a_peer_that_lost_the_dialog_ends_the_call(status: int) -> None:
    """RFC 3261 §12.2.1.2: 481 and 408 terminate it; we say BYE."""
    solo = Solo()
    key, _ = called(solo)
    solo.endpoint.reoffer(key, NEW, now=0.0)
    solo.drain()
    solo.receive(reply(last_invite(solo), status))
    assert solo.take(CallEnded) == CallEnded(key, Party.LOCAL, Cause.PROTOCOL, status, solo_phrase(status))
    assert len(solo.requests("BYE")) == 1


def solo_phrase(status: int) -> str:
    return {481: "Call/Transaction Does Not Exist", 408: "Request Timeout"}[status]


def test_an_unanswered_offer_ends_the_call() -> None:
    """RFC 3261 §12.2.1.2: a time-out is as good as 408."""
    solo = Solo()
    key, _ = called(solo)
    solo.endpoint.reoffer(key, NEW, now=0.0)
    solo.advance(32.0)
    assert solo.take(CallEnded) == CallEnded(key, Party.LOCAL, Cause.TIMEOUT, 408, "Request Timeout")
    solo.quiet()
    assert solo.endpoint.pending == 0


def test_an_offer_that_cannot_be_sent_is_refused_and_the_call_goes_on() -> None:
    """RFC 3261 §8.1.3.1: a transport error is as good as 503."""
    solo = Solo()
    key, _ = called(solo)
    solo.endpoint.reoffer(key, NEW, now=0.0)
    solo.drain()
    solo.endpoint.transport_failed(f"{last_invite(solo).via.branch} INVITE", 0.0)
    solo.drain()
    assert solo.take(MediaRefused) == MediaRefused(key, 503)
    assert solo.endpoint.calls == 1


def test_an_offer_that_gets_no_final_response_is_cancelled_and_ends_the_call() -> None:
    """RFC 3261 §9.1, §12.2.1.2: no state without a bound."""
    solo = Solo()
    key, _ = called(solo)
    solo.endpoint.reoffer(key, NEW, now=0.0)
    solo.drain()
    solo.receive(reply(last_invite(solo), 100))
    solo.advance(180.0)
    assert [message.method for message in solo.requests("CANCEL")] == ["CANCEL"]
    assert solo.endpoint.calls == 1
    solo.advance(32.0)
    assert solo.take(CallEnded) == CallEnded(key, Party.LOCAL, Cause.TIMEOUT, 408, "Request Timeout")
    solo.quiet()
    assert solo.endpoint.pending == 0


@pytest.mark.parametrize("provisional", [False, True])
def test_a_call_that_ends_during_an_offer_of_ours_leaves_nothing(provisional: bool) -> None:
    """A peer that answers its BYE and never the re-INVITE (RFC 3261 §15.1.2 asks it to)."""
    solo = Solo()
    key, _ = called(solo)
    solo.endpoint.reoffer(key, NEW, now=0.0)
    solo.drain()
    if provisional:
        solo.receive(reply(last_invite(solo), 100))
    solo.endpoint.hang_up(key, now=0.0)
    solo.drain()
    assert solo.quiet() == 32.0
    assert solo.endpoint.pending == 0
    solo.take(CallEnded)


def test_our_offer_answers_a_challenge() -> None:
    """RFC 3261 §22.2: inside a call too."""
    solo = Solo()
    key, _ = calling(solo)
    solo.endpoint.reoffer(key, NEW, now=0.0)
    solo.drain()
    sent = last_invite(solo)
    solo.receive(reply(sent, 407, headers=[("Proxy-Authenticate", 'Digest realm="r", nonce="n"')]))
    again = last_invite(solo)
    assert again.cseq.number == sent.cseq.number + 1
    assert "Proxy-Authorization" in again.headers
    solo.receive(reply(again, 200, body=ANSWER))
    assert solo.take(MediaAnswered).key == key


# --- glare ------------------------------------------------------------------------------------


def test_a_reinvite_that_meets_ours_gets_491() -> None:
    """RFC 3261 §14.2: glare."""
    solo = Solo()
    key, ok = called(solo)
    solo.endpoint.reoffer(key, NEW, now=0.0)
    solo.drain()
    assert only(solo.receive(reinvite(ok))).status == 491
    assert solo.events == []
    solo.receive(reply(last_invite(solo), 200, body=ANSWER))
    assert solo.take(MediaAnswered).key == key


@pytest.mark.parametrize(("establish", "least_s", "most_s"), [(called, 0.0, 2.0), (calling, 2.1, 4.0)])
def test_after_491_we_try_again_in_our_window(
    establish: Callable[[Solo], tuple[CallKey, object]], least_s: float, most_s: float
) -> None:
    """RFC 3261 §14.1: 2.1-4 s for who made the Call-ID, 0-2 s for the other, in units of 10 ms."""
    delays = set()
    for seed in range(40):
        solo = Solo(seed=seed)
        key, _ = establish(solo)
        solo.endpoint.reoffer(key, NEW, now=0.0)
        solo.drain()
        first = last_invite(solo)
        solo.receive(reply(first, 491))
        due = solo.endpoint.next_timer()
        sent = solo.advance(4.0)
        again = next(message for message in sent if isinstance(message, Request) and message.method == "INVITE")
        assert again.body == NEW
        assert again.cseq.number == first.cseq.number + 1
        delay = solo.times[solo.sent.index(again)]
        assert least_s <= delay <= most_s
        assert round(delay * 100) == pytest.approx(delay * 100)
        assert due is not None
        delays.add(delay)
        solo.receive(reply(again, 200, body=ANSWER))
        assert solo.take(MediaAnswered).key == key
    assert len(delays) > 20


def test_the_peers_offer_goes_first_when_it_comes_before_our_retry() -> None:
    """RFC 3261 §14.1: our own follows when it is done."""
    solo = Solo()
    key, ok = called(solo)
    solo.endpoint.reoffer(key, NEW, now=0.0)
    solo.drain()
    solo.receive(reply(last_invite(solo), 491))
    solo.receive(reinvite(ok))
    solo.take(MediaOffered)
    solo.advance(4.0)
    assert len(solo.requests("INVITE")) == 1
    solo.endpoint.accept_offer(key, ANSWER, now=4.0)
    solo.drain()
    solo.receive(in_dialog("ACK", ok, cseq=2))
    assert len(solo.requests("INVITE")) == 2
    assert last_invite(solo).body == NEW


def test_a_peer_that_always_says_491_is_given_up() -> None:
    """No retrying without a bound."""
    solo = Solo()
    key, _ = called(solo)
    solo.endpoint.reoffer(key, NEW, now=0.0)
    solo.drain()
    for _ in range(20):
        solo.receive(reply(last_invite(solo), 491))
        solo.advance(4.1)
    assert solo.take(MediaRefused) == MediaRefused(key, 491)
    assert len({message.cseq.number for message in solo.requests("INVITE")}) == 9


def test_an_offer_waits_for_the_one_under_way() -> None:
    """RFC 3261 §14.1: never two at once, in either direction; a third is refused."""
    solo = Solo()
    key, ok = called(solo)
    solo.receive(reinvite(ok))
    solo.take(MediaOffered)
    solo.endpoint.reoffer(key, NEW, now=0.0)
    assert solo.drain() == []
    solo.endpoint.reoffer(key, OFFER, now=0.0)
    solo.drain()
    assert solo.take(MediaRefused) == MediaRefused(key, 491)
    solo.endpoint.refuse_offer(key, Refusal(488, ""), now=0.0)
    refused, ours = solo.drain()
    assert isinstance(refused, Response) and isinstance(ours, Request)
    assert (refused.status, ours.method, ours.body) == (488, "INVITE", NEW)


def test_an_offer_made_before_our_answer_was_acknowledged_waits_for_that() -> None:
    """RFC 3261 §14.1: the re-INVITE's transaction is not over for its client."""
    solo = Solo()
    key, ok = called(solo)
    solo.receive(reinvite(ok))
    solo.take(MediaOffered)
    solo.endpoint.accept_offer(key, ANSWER, now=0.0)
    solo.endpoint.reoffer(key, NEW, now=0.0)
    assert [message.status for message in solo.drain() if isinstance(message, Response)] == [200]
    (ours,) = solo.receive(in_dialog("ACK", ok, cseq=2))
    assert isinstance(ours, Request) and (ours.method, ours.body) == ("INVITE", NEW)


def test_a_call_that_ends_before_its_last_answer_was_acknowledged_repeats_it_no_more() -> None:
    """RFC 3261 §15: whoever says BYE has heard it."""
    solo = Solo()
    key, ok = called(solo)
    solo.receive(reinvite(ok))
    solo.take(MediaOffered)
    solo.endpoint.accept_offer(key, ANSWER, now=0.0)
    solo.drain()
    solo.receive(in_dialog("BYE", ok, cseq=3))
    assert solo.advance(31.0) == []
    assert solo.take(CallEnded).cause is Cause.BYE


def test_an_offer_for_a_call_that_has_ended_goes_nowhere() -> None:
    """Nor does one that was kept."""
    solo = Solo()
    key, ok = called(solo)
    offers = solo.endpoint._sessions[key].offers
    solo.receive(in_dialog("BYE", ok, cseq=2))
    assert offers.state is State.CLOSED
    assert not offers.reoffer(NEW, 0.0)
    assert solo.drain() == []


def test_an_offer_made_before_the_ack_waits_for_it() -> None:
    """RFC 3261 §14.1: not while the first INVITE's transaction is unacknowledged."""
    solo = Solo()
    key = solo.offered()
    solo.endpoint.answer(key, ANSWER, now=0.0)
    ok = only(solo.drain())
    solo.endpoint.reoffer(key, NEW, now=0.0)
    solo.endpoint.reoffer(key, NEW, now=0.0)
    assert solo.drain() == []
    assert solo.take(MediaRefused).status == 491
    (ours,) = solo.receive(in_dialog("ACK", ok, cseq=1))
    assert isinstance(ours, Request) and ours.method == "INVITE"


def test_hanging_up_during_an_offer_of_ours_still_acknowledges_its_answer() -> None:
    """RFC 3261 §13.2.2.4: every 2xx to an INVITE gets its ACK."""
    solo = Solo()
    key, _ = called(solo)
    solo.endpoint.reoffer(key, NEW, now=0.0)
    solo.drain()
    sent = last_invite(solo)
    solo.endpoint.hang_up(key, now=0.0)
    solo.drain()
    (ack,) = solo.receive(reply(sent, 200, body=ANSWER))
    assert isinstance(ack, Request) and ack.method == "ACK"
    solo.take(CallEnded)
    assert solo.events == []


def test_hanging_up_stops_the_retry_after_glare() -> None:
    """No re-INVITE after BYE."""
    solo = Solo()
    key, _ = called(solo)
    solo.endpoint.reoffer(key, NEW, now=0.0)
    solo.drain()
    solo.receive(reply(last_invite(solo), 491))
    solo.endpoint.hang_up(key, now=0.0)
    solo.quiet()
    assert len({message.cseq.number for message in solo.requests("INVITE")}) == 1
    assert solo.endpoint.pending == 0


# --- the table --------------------------------------------------------------------------------


def offers_of(solo: Solo) -> tuple[Offers, Response]:
    """The offers of an established call, with everything their actions may want."""
    key, ok = called(solo)
    return solo.endpoint._sessions[key].offers, ok


@pytest.mark.parametrize(("state", "event"), list(TRANSITIONS), ids=str)
def test_each_row_can_be_carried_out(state: State, event: Input) -> None:
    """Every pair; what it does is tested above."""
    solo = Solo()
    offers, ok = offers_of(solo)
    offers.state = state
    following, actions = TRANSITIONS[state, event]
    assert offers._step(event, 0.0, Detail(request=reinvite(ok)))
    assert offers.state is (State.CLOSED if Action.BREAK in actions else following)
    ended = [event for event in solo.endpoint.events() if isinstance(event, CallEnded)]
    assert len(ended) == int(Action.BREAK in actions)


def test_every_other_pair_is_ignored() -> None:
    """An absent pair changes nothing, sends nothing and tells nobody anything."""
    for state, event in itertools.product(State, Input):
        if (state, event) in TRANSITIONS:
            continue
        solo = Solo()
        offers, _ = offers_of(solo)
        offers.state = state
        before = (solo.endpoint.pending, len(solo.endpoint.layer.timers))
        assert not offers._step(event, 1.0)
        assert offers.state is state
        assert (solo.endpoint.pending, len(solo.endpoint.layer.timers)) == before
        assert solo.endpoint.events() == []
        assert solo.endpoint.actions() == []


def test_offers_never_outlive_their_call() -> None:
    """CLOSE leads from each state to CLOSED, which nothing leaves."""
    assert all(TRANSITIONS[state, Input.CLOSE][0] is State.CLOSED for state in State if state is not State.CLOSED)
    assert all(to is State.CLOSED for (state, _), (to, _) in TRANSITIONS.items() if state is State.CLOSED)


def test_every_action_and_input_is_used() -> None:
    """Nothing in the enums that the table does not know."""
    assert {action for _, actions in TRANSITIONS.values() for action in actions} == set(Action)
    assert {event for _, event in TRANSITIONS} == set(Input)


# --- UPDATE in an established call (RFC 3311) ------------------------------------------------------


def update(ok: Response, *, cseq: int = 2, body: bytes = NEW, **options: object) -> Request:
    headers = [("Contact", "<sip:moved@192.0.2.7:5080>")]
    return in_dialog("UPDATE", ok, cseq=cseq, body=body, headers=headers, **options)


def test_an_update_is_offered_and_answered_without_an_ack() -> None:
    """RFC 3311 §5.2; its Contact is the new target, and the 200 is not repeated."""
    solo = Solo()
    key, ok = called(solo)
    assert solo.receive(update(ok)) == []
    assert solo.take(MediaOffered) == MediaOffered(key, NEW)
    solo.endpoint.accept_offer(key, ANSWER, now=0.0)
    answer = only(solo.drain())
    assert (answer.status, answer.body, answer.headers.get("Allow") is not None) == (200, ANSWER, True)
    assert solo.advance(60.0) == []
    solo.endpoint.hang_up(key, now=solo.now)
    [bye] = solo.drain()
    assert isinstance(bye, Request)
    assert bye.uri == "sip:moved@192.0.2.7:5080"


def test_an_update_that_cannot_be_met_leaves_the_call_as_it_was() -> None:
    solo = Solo()
    key, ok = called(solo)
    solo.receive(update(ok))
    solo.endpoint.refuse_offer(key, Refusal(488, "no common codec"), now=0.0)
    assert only(solo.drain()).status == 488
    assert solo.endpoint.calls == 1


def test_an_update_without_an_offer_is_answered_at_once() -> None:
    solo = Solo()
    key, ok = called(solo)
    solo.events.clear()
    answer = only(solo.receive(update(ok, body=b"")))
    assert (answer.status, answer.body) == (200, b"")
    assert solo.events == []
    solo.endpoint.hang_up(key, now=solo.now)
    assert "moved" in str(solo.drain()[-1])


@pytest.mark.parametrize("first", ["INVITE", "UPDATE"])
@pytest.mark.parametrize("second", ["INVITE", "UPDATE"])
def test_a_second_offer_while_the_first_is_unanswered_gets_500_retry_after(first: str, second: str) -> None:
    """RFC 3261 §14.2, RFC 3311 §5.2."""
    solo = Solo()
    key, ok = called(solo)
    makers: dict[str, Callable[..., Request]] = {"INVITE": reinvite, "UPDATE": update}
    solo.receive(makers[first](ok))
    put_off = only(solo.receive(makers[second](ok, cseq=3)))
    assert put_off.status == 500
    assert 0 <= int(put_off.headers.get("Retry-After") or -1) <= 10
    solo.take(MediaOffered)
    solo.endpoint.accept_offer(key, ANSWER, now=0.0)
    assert only(solo.drain()).status == 200


def test_an_update_that_crosses_an_offer_of_ours_gets_491() -> None:
    """RFC 3311 §5.2."""
    solo = Solo()
    key, ok = called(solo)
    solo.endpoint.reoffer(key, OFFER, now=0.0)
    solo.drain()
    assert only(solo.receive(update(ok))).status == 491
    assert only(solo.receive(update(ok, cseq=3, body=b""))).status == 200


def test_an_offer_of_ours_waits_for_the_update_under_way() -> None:
    solo = Solo()
    key, ok = called(solo)
    solo.receive(update(ok))
    solo.endpoint.reoffer(key, OFFER, now=0.0)
    assert solo.drain() == []
    solo.endpoint.accept_offer(key, ANSWER, now=0.0)
    answer, again = solo.drain()
    assert isinstance(answer, Response)
    assert isinstance(again, Request)
    assert (answer.status, again.method, again.body) == (200, "INVITE", OFFER)


def test_an_update_after_an_unacknowledged_reinvite_shows_that_our_200_arrived() -> None:
    """RFC 5407 §3.1.4: it is not repeated any more."""
    solo = Solo()
    key, ok = called(solo)
    solo.receive(reinvite(ok))
    solo.endpoint.accept_offer(key, ANSWER, now=0.0)
    solo.drain()
    solo.events.clear()
    solo.receive(update(ok, cseq=3))
    assert solo.take(MediaOffered) == MediaOffered(key, NEW)
    solo.endpoint.accept_offer(key, ANSWER, now=0.0)
    assert only(solo.drain()).cseq.method == "UPDATE"
    assert solo.advance(60.0) == []
    assert solo.endpoint.calls == 1


def test_an_update_while_a_reinvites_answer_is_awaited_gets_491() -> None:
    """The offer is in our 200, its answer comes in the ACK."""
    solo = Solo()
    key, ok = called(solo)
    solo.receive(reinvite(ok, body=b""))
    solo.endpoint.accept_offer(key, OFFER, now=0.0)
    solo.drain()
    assert only(solo.receive(update(ok, cseq=3))).status == 491


def test_an_update_at_once_after_the_200_is_served_though_the_ack_is_late() -> None:
    solo = Solo()
    key = solo.offered()
    solo.endpoint.answer(key, ANSWER, now=0.0)
    ok = only(solo.drain())
    solo.receive(update(ok))
    solo.take(CallConfirmed)
    assert solo.take(MediaOffered) == MediaOffered(key, NEW)


def test_an_update_at_once_after_a_delayed_offer_gets_491() -> None:
    solo = Solo()
    key = solo.offered(body=b"")
    solo.endpoint.answer(key, OFFER, now=0.0)
    ok = only(solo.drain())
    assert only(solo.receive(update(ok))).status == 491


def test_a_call_that_ends_while_an_update_waits_answers_it() -> None:
    solo = Solo()
    key, ok = called(solo)
    solo.receive(update(ok))
    solo.endpoint.hang_up(key, now=0.0)
    assert 487 in [message.status for message in solo.drain() if isinstance(message, Response)]
    assert only(solo.receive(update(ok, cseq=3))).status == 481


def test_an_update_whose_body_is_no_sdp_is_415() -> None:
    solo = Solo()
    _, ok = called(solo)
    refused = only(solo.receive(in_dialog("UPDATE", ok, cseq=2, body=b"x", headers=[("Content-Type", "text/plain")])))
    assert refused.status == 415
