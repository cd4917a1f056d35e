"""Reliable provisional responses (RFC 3262), as UAS and as UAC."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from edge.events import (
    CallAnswered,
    CallConfirmed,
    CallEnded,
    CallKey,
    CallProgressed,
    Cause,
    MediaAnswered,
    MediaOffered,
    OutgoingCall,
    Party,
    Refusal,
)
from edge.message import Request, Response
from tests.edge.pair import ANSWER, OFFER, Pair, Solo, in_dialog, reply

REQUIRED = [("Require", "100rel")]
SUPPORTED = [("Supported", "100rel")]
NEW = OFFER.replace(b"m=audio 4000", b"m=audio 4002")


def only(messages: list[Request | Response]) -> Response:
    assert len(messages) == 1, messages
    assert isinstance(messages[0], Response)
    return messages[0]


def rung(solo: Solo, headers: Iterable[tuple[str, str]] = REQUIRED, **options: object) -> tuple[CallKey, Response]:
    """A call to us that rings; the 180."""
    key = solo.offered(headers=headers, **options)
    solo.endpoint.ring(key, now=solo.now)
    return key, only(solo.drain())


def prack(response: Response, *, cseq: int = 2, rack: str | None = None, **options: object) -> Request:
    rack = rack or f"{response.headers.get('RSeq')} {response.cseq.number} INVITE"
    return in_dialog("PRACK", response, cseq=cseq, headers=[("RAck", rack)], **options)


def rseq(response: Response) -> int:
    return int(response.headers.get("RSeq") or 0)


# --- as UAS -----------------------------------------------------------------------------------


def test_a_180_to_whoever_requires_it_is_repeated_until_its_prack() -> None:
    """RFC 3262 §3: from T1, doubled; the PRACK gets 200, and that is the end of it."""
    solo = Solo()
    _, ringing = rung(solo)
    assert ringing.headers.get("Require") == "100rel"
    assert 1 <= rseq(ringing) < 2**31
    assert "PRACK" in ringing.headers.get_all("Allow")
    repeated = solo.advance(4.0)
    assert [bytes(message) for message in repeated] == [bytes(ringing)] * 3
    assert solo.times[-3:] == [0.5, 1.5, 3.5]
    assert only(solo.receive(prack(ringing))).status == 200
    assert solo.advance(100.0) == []


@pytest.mark.parametrize("headers", [[], SUPPORTED])
def test_whoever_does_not_require_it_gets_a_plain_one(headers: list[tuple[str, str]]) -> None:
    _, ringing = rung(Solo(), headers)
    assert ringing.headers.get("RSeq") is None
    assert ringing.headers.get("Require") is None


@pytest.mark.parametrize(("headers", "reliably"), [([], False), (SUPPORTED, True), (REQUIRED, True)])
def test_where_it_is_set_whoever_can_gets_a_reliable_one(headers: list[tuple[str, str]], reliably: bool) -> None:
    _, ringing = rung(Solo(reliable=True), headers)
    assert ("RSeq" in ringing.headers) is reliably


@pytest.mark.parametrize("wrong", ["{next} 1 INVITE", "{rseq} 2 INVITE", "{rseq} 1 OPTIONS"])
def test_a_prack_of_another_response_is_481(wrong: str) -> None:
    """RFC 3262 §3; the right one still works."""
    solo = Solo()
    _, ringing = rung(solo)
    rack = wrong.format(rseq=rseq(ringing), next=rseq(ringing) + 1)
    assert only(solo.receive(prack(ringing, rack=rack))).status == 481
    assert only(solo.receive(prack(ringing, cseq=3))).status == 200
    assert only(solo.receive(prack(ringing, cseq=4))).status == 481, "it waits no more"


@pytest.mark.parametrize(
    "rack", ["1 1", "a 1 INVITE", "", "1 1 INVITE x", "99999999999 1 INVITE", "4294967296 1 INVITE"]
)
def test_a_rack_that_is_none_is_400(rack: str) -> None:
    solo = Solo()
    _, ringing = rung(solo)
    message = in_dialog("PRACK", ringing, cseq=2, headers=[("RAck", rack)] if rack else [])
    assert only(solo.receive(message)).status == 400


def test_a_prack_in_a_call_that_never_asked_for_one_is_481() -> None:
    solo = Solo()
    _, ringing = rung(solo, [])
    assert only(solo.receive(in_dialog("PRACK", ringing, cseq=2, headers=[("RAck", "1 1 INVITE")]))).status == 481


def test_a_phone_that_never_sends_its_prack_is_refused() -> None:
    """RFC 3262 §3: a 5xx after 64*T1."""
    solo = Solo()
    key, _ = rung(solo)
    solo.advance(32.1)
    refused = [message for message in solo.sent if isinstance(message, Response) and message.status >= 200]
    assert {message.status for message in refused} == {504}
    ended = solo.take(CallEnded)
    assert (ended.key, ended.by, ended.status) == (key, Party.LOCAL, 504)


def test_the_next_one_waits_for_the_prack_of_the_one_before() -> None:
    """RFC 3262 §3: never two at once, and the numbers rise by one; a strict peer has its PRACK answered first."""
    solo = Solo()
    key, ringing = rung(solo)
    solo.endpoint.progress(key, 183, ANSWER, now=0.0)
    assert solo.drain() == []
    ok, progress = solo.receive(prack(ringing))
    assert isinstance(progress, Response)
    assert (progress.status, progress.body, rseq(progress)) == (183, ANSWER, rseq(ringing) + 1)
    assert isinstance(ok, Response)
    assert ok.status == 200


def test_an_answer_waits_for_the_prack_of_a_description_and_does_not_repeat_it() -> None:
    """RFC 3262 §3, §5: no 2xx before it; the description was in the 183."""
    solo = Solo()
    key = solo.offered(headers=REQUIRED)
    solo.endpoint.progress(key, 183, ANSWER, now=0.0)
    progress = only(solo.drain())
    solo.endpoint.answer(key, ANSWER, now=0.0)
    assert solo.drain() == []
    _, ok = solo.receive(prack(progress))
    assert isinstance(ok, Response)
    assert (ok.status, ok.body) == (200, b"")
    solo.receive(in_dialog("ACK", ok, cseq=1))
    assert solo.take(CallConfirmed) == CallConfirmed(key, None)


def test_an_answer_does_not_wait_for_the_prack_of_a_180() -> None:
    """RFC 3262 §3: and what was not acknowledged is not repeated after the 200."""
    solo = Solo()
    key, _ = rung(solo)
    solo.endpoint.answer(key, ANSWER, now=0.0)
    ok = only(solo.drain())
    assert (ok.status, ok.body) == (200, ANSWER)
    solo.receive(in_dialog("ACK", ok, cseq=1))
    assert solo.advance(60.0) == []


def test_a_prack_that_crosses_the_200_is_answered_with_200() -> None:
    """RFC 3262 §3: "MUST be prepared to process PRACK requests"; a 481 would have the peer end the call."""
    solo = Solo()
    key, ringing = rung(solo)
    solo.endpoint.answer(key, ANSWER, now=0.0)
    only(solo.drain())
    assert only(solo.receive(prack(ringing))).status == 200
    assert only(solo.receive(prack(ringing, cseq=3))).status == 481


def test_a_call_given_up_while_its_answer_waits_is_over() -> None:
    solo = Solo()
    key = solo.offered(headers=REQUIRED)
    solo.endpoint.progress(key, 183, ANSWER, now=0.0)
    solo.endpoint.answer(key, ANSWER, now=0.0)
    solo.endpoint.hang_up(key, now=0.0)
    refused = solo.drain()[-1]
    assert isinstance(refused, Response)
    assert refused.status == 480
    assert solo.take(CallEnded).cause is Cause.REFUSED
    solo.quiet()
    assert solo.endpoint.pending == 0


def test_a_delayed_offer_goes_in_the_first_reliable_response_and_its_answer_in_the_prack() -> None:
    """RFC 3262 §5: until there is an offer of ours to put into it, no reliable response goes at all."""
    solo = Solo()
    key = solo.offered(headers=REQUIRED, body=b"")
    solo.endpoint.ring(key, now=0.0)
    assert solo.drain() == []
    solo.endpoint.progress(key, 183, OFFER, now=0.0)
    progress = only(solo.drain())
    assert progress.body == OFFER
    assert only(solo.receive(prack(progress, body=ANSWER))).status == 200
    assert solo.take(MediaAnswered) == MediaAnswered(key, ANSWER)
    solo.endpoint.answer(key, OFFER, now=0.0)
    ok = only(solo.drain())
    assert ok.body == b""
    solo.receive(in_dialog("ACK", ok, cseq=1))
    assert solo.take(CallConfirmed) == CallConfirmed(key, None)


def test_an_offer_in_a_prack_is_answered_in_its_200() -> None:
    """RFC 3262 §5."""
    solo = Solo()
    key = solo.offered(headers=REQUIRED)
    solo.endpoint.progress(key, 183, ANSWER, now=0.0)
    progress = only(solo.drain())
    assert solo.receive(prack(progress, body=NEW)) == []
    assert solo.take(MediaOffered) == MediaOffered(key, NEW)
    solo.endpoint.accept_offer(key, ANSWER, now=0.0)
    ok = only(solo.drain())
    assert (ok.status, ok.cseq.method, ok.body) == (200, "PRACK", ANSWER)
    assert solo.advance(60.0) == []


def test_an_offer_in_a_prack_that_cannot_be_met_is_refused() -> None:
    solo = Solo()
    key = solo.offered(headers=REQUIRED)
    solo.endpoint.progress(key, 183, ANSWER, now=0.0)
    progress = only(solo.drain())
    solo.receive(prack(progress, body=NEW))
    solo.endpoint.refuse_offer(key, Refusal(488, "no common codec"), now=0.0)
    assert only(solo.drain()).status == 488


def test_an_offer_in_a_prack_before_the_first_is_answered_is_refused() -> None:
    """RFC 3264 §4: one offer at a time."""
    solo = Solo()
    _, ringing = rung(solo)
    assert only(solo.receive(prack(ringing, body=NEW))).status == 488
    assert solo.events == []
    assert solo.advance(60.0) == [], "the 180 is acknowledged all the same"


def test_a_body_in_a_prack_that_is_no_sdp_is_415() -> None:
    solo = Solo()
    _, ringing = rung(solo)
    rack = ("RAck", f"{rseq(ringing)} 1 INVITE")
    message = in_dialog("PRACK", ringing, cseq=2, body=b"x", headers=[rack, ("Content-Type", "text/plain")])
    assert only(solo.receive(message)).status == 415


# --- UPDATE before the answer (RFC 3311) ------------------------------------------------------


def described(solo: Solo) -> tuple[CallKey, Response]:
    """A call whose offer has been answered reliably, and which still rings."""
    headers = [*REQUIRED, ("Allow", "INVITE, ACK, BYE, CANCEL, UPDATE, PRACK")]
    key = solo.offered(headers=headers)
    solo.endpoint.progress(key, 183, ANSWER, now=solo.now)
    progress = only(solo.drain())
    solo.receive(prack(progress))
    return key, progress


def test_an_update_before_the_answer_changes_the_media() -> None:
    """RFC 3311 §5.2: the exchange before it is complete."""
    solo = Solo()
    key, progress = described(solo)
    solo.receive(in_dialog("UPDATE", progress, cseq=3, body=NEW))
    assert solo.take(MediaOffered) == MediaOffered(key, NEW)
    solo.endpoint.accept_offer(key, ANSWER, now=0.0)
    ok = only(solo.drain())
    assert (ok.status, ok.body, ok.headers.get("Session-Expires")) == (200, ANSWER, None)
    assert ok.contact is not None


def test_an_update_of_ours_before_the_answer_changes_it_too() -> None:
    solo = Solo()
    key, _ = described(solo)
    solo.endpoint.reoffer(key, OFFER, now=0.0)
    [update] = solo.drain()
    assert isinstance(update, Request)
    assert (update.method, update.body) == ("UPDATE", OFFER)
    assert update.contact is not None
    solo.receive(reply(update, 200, body=NEW))
    assert solo.take(MediaAnswered) == MediaAnswered(key, NEW)
    assert solo.requests("ACK") == []


def test_an_offer_by_update_before_the_first_is_answered_is_put_off() -> None:
    """RFC 3311 §5.2: 500 with Retry-After, 0 to 10 s; without an offer it is answered at once."""
    solo = Solo()
    _, ringing = rung(solo)
    solo.receive(prack(ringing))
    put_off = only(solo.receive(in_dialog("UPDATE", ringing, cseq=3, body=NEW)))
    assert put_off.status == 500
    assert 0 <= int(put_off.headers.get("Retry-After") or -1) <= 10
    assert only(solo.receive(in_dialog("UPDATE", ringing, cseq=4))).status == 200


def test_no_offer_of_ours_goes_before_the_first_is_answered() -> None:
    solo = Solo()
    key, ringing = rung(solo)
    solo.receive(prack(ringing))
    solo.endpoint.reoffer(key, OFFER, now=0.0)
    assert solo.drain() == []


# --- as UAC -----------------------------------------------------------------------------------


def dialed(solo: Solo, body: bytes = OFFER) -> tuple[CallKey, Request]:
    key = solo.endpoint.invite(OutgoingCall("sip:+1@192.0.2.7", "sip:edge@edge.test", body), now=solo.now)
    [sent] = [message for message in solo.drain() if isinstance(message, Request)]
    return key, sent


def reliable(to: Request, status: int, number: int, **options: object) -> Response:
    return reply(to, status, headers=[("Require", "100rel"), ("RSeq", str(number))], **options)


def test_what_is_reliable_is_acknowledged_and_told_once() -> None:
    """RFC 3262 §4: PRACK in the early dialog, its own CSeq; a copy is passed over."""
    solo = Solo()
    key, sent = dialed(solo)
    assert "100rel" in sent.headers.get_all("Supported")
    [acknowledgement] = solo.receive(reliable(sent, 183, 7, body=ANSWER))
    assert isinstance(acknowledgement, Request)
    assert (acknowledgement.method, acknowledgement.headers.get("RAck")) == ("PRACK", f"7 {sent.cseq.number} INVITE")
    assert acknowledgement.uri == "sip:bob@192.0.2.7:5060"
    assert acknowledgement.to.tag == "callee"
    assert acknowledgement.cseq.number == sent.cseq.number + 1
    assert solo.take(CallProgressed).body == ANSWER
    assert solo.receive(reliable(sent, 183, 7, body=ANSWER)) == []
    assert solo.receive(reliable(sent, 180, 9)) == [], "one is missing between"
    [again] = solo.receive(reliable(sent, 180, 8))
    assert isinstance(again, Request)
    assert again.headers.get("RAck") == f"8 {sent.cseq.number} INVITE"
    assert solo.take(CallProgressed) == CallProgressed(key, 180, "Ringing", None, "callee")


def test_the_numbers_go_on_in_the_dialog_the_200_makes() -> None:
    """RFC 3261 §12.2.1.1."""
    solo = Solo()
    key, sent = dialed(solo)
    solo.receive(reliable(sent, 180, 1))
    acknowledgement = solo.requests("PRACK")[0]
    solo.receive(reply(acknowledgement, 200))
    solo.receive(reply(sent, 200, body=ANSWER))
    solo.take(CallAnswered)
    solo.endpoint.hang_up(key, now=0.0)
    [bye] = [message for message in solo.drain() if isinstance(message, Request) and message.method == "BYE"]
    assert bye.cseq.number > acknowledgement.cseq.number
    solo.receive(reply(bye, 200))
    solo.quiet()
    assert solo.endpoint.pending == 0


@pytest.mark.parametrize("number", ["", "0", "many", "4294967296"])
def test_a_reliable_one_without_a_number_is_passed_over(number: str) -> None:
    solo = Solo()
    _, sent = dialed(solo)
    headers = [("Require", "100rel"), *([("RSeq", number)] if number else [])]
    assert solo.receive(reply(sent, 180, headers=headers)) == []
    assert solo.events == []


def test_each_fork_is_acknowledged_for_itself_and_not_without_end() -> None:
    solo = Solo()
    _, sent = dialed(solo)
    for number in range(40):
        solo.receive(reliable(sent, 180, 1, tag=f"fork{number}"))
    pracks = solo.requests("PRACK")
    assert {message.to.tag for message in pracks} == {f"fork{number}" for number in range(16)}
    solo.receive(reply(sent, 486, tag="fork1"))
    solo.take(CallEnded)
    solo.quiet()
    assert solo.endpoint.pending == 0


def update_of_callee(acknowledgement: Request, cseq: int, body: bytes = b"") -> Request:
    """In the early dialog of a PRACK of ours."""
    pairs = [
        ("Via", f"SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bK{acknowledgement.to.tag}{cseq}"),
        ("From", acknowledgement.headers.lines("To")[0]),
        ("To", acknowledgement.headers.lines("From")[0]),
        ("Call-ID", acknowledgement.call_id),
        ("CSeq", f"{cseq} UPDATE"),
        ("Contact", "<sip:carol@192.0.2.7>"),
        *([("Content-Type", "application/sdp")] if body else []),
    ]
    return Request.create("UPDATE", "sip:192.0.2.1", pairs, body)


def test_the_callees_offer_by_update_before_its_200_is_answered() -> None:
    """RFC 3311 §5.1: once a reliable response had the answer; the 200 says nothing new then (RFC 3262 §5)."""
    solo = Solo()
    key, sent = dialed(solo)
    [acknowledgement] = solo.receive(reliable(sent, 183, 1, body=ANSWER))
    assert isinstance(acknowledgement, Request)
    solo.receive(reply(acknowledgement, 200))
    assert only(solo.receive(update_of_callee(acknowledgement, 1))).status == 200, "one without an offer"
    assert solo.receive(update_of_callee(acknowledgement, 2, NEW)) == []
    assert solo.take(MediaOffered) == MediaOffered(key, NEW)
    solo.endpoint.accept_offer(key, ANSWER, now=solo.now)
    answer = only(solo.drain())
    assert (answer.status, answer.cseq.method, answer.body) == (200, "UPDATE", ANSWER)
    assert answer.to.tag == acknowledgement.headers.lines("From")[0].rpartition("tag=")[2]
    solo.receive(reply(sent, 200))
    answered = solo.take(CallAnswered)
    assert (answered.body, answered.described) == (None, True)
    assert only(solo.receive(update_of_callee(acknowledgement, 3))).status == 200
    solo.receive(reply(sent, 200))
    solo.endpoint.hang_up(key, now=solo.now)
    solo.receive(reply(next(each for each in solo.drain() if isinstance(each, Request)), 200))
    solo.quiet()
    assert solo.endpoint.pending == 0


def test_the_callees_offer_by_update_is_491_while_ours_is_unanswered() -> None:
    """RFC 3311 §5.2; in the early dialog that a fork without an answer has made, too."""
    solo = Solo()
    _, sent = dialed(solo)
    [acknowledgement] = solo.receive(reliable(sent, 183, 1, body=ANSWER))
    [other] = solo.receive(reliable(sent, 180, 1, tag="fork"))
    assert isinstance(acknowledgement, Request)
    assert isinstance(other, Request)
    assert only(solo.receive(update_of_callee(other, 1, NEW))).status == 491
    assert solo.receive(update_of_callee(acknowledgement, 1, NEW)) == []
    solo.receive(reply(sent, 200, tag="fork", body=ANSWER))
    answered = solo.take(CallAnswered)
    assert (answered.body, answered.described, answered.tag) == (ANSWER, False, "fork"), "another fork has answered"


def test_an_ended_early_dialog_takes_no_update() -> None:
    solo = Solo()
    _, sent = dialed(solo)
    [acknowledgement] = solo.receive(reliable(sent, 183, 1, body=ANSWER))
    assert isinstance(acknowledgement, Request)
    solo.receive(reply(sent, 486))
    solo.take(CallEnded)
    assert only(solo.receive(update_of_callee(acknowledgement, 1))).status == 481


def test_without_an_offer_of_ours_nothing_reliable_is_asked_for() -> None:
    """A reliable offer would want its answer in the PRACK."""
    _, sent = dialed(Solo(), b"")
    assert sent.headers.get_all("Supported") == ["timer"]


def test_two_edges_agree_on_it_over_a_wire_that_loses_packets() -> None:
    """Each lost 183, PRACK and 200 comes again."""
    lost = iter([True, False] * 20)
    pair = Pair(drop=lambda sender, data: (b"PRACK" in data or b" 183 " in data[:20]) and next(lost, False))
    pair.edge.settings.reliable = True

    def on(event: object) -> None:
        if type(event).__name__ == "CallOffered":
            pair.edge.progress(event.key, 183, ANSWER, now=pair.now)  # type: ignore[attr-defined]
            pair.edge.answer(event.key, ANSWER, now=pair.now)  # type: ignore[attr-defined]

    pair.on_edge_event = on
    key = pair.call()
    pair.run(40.0)
    assert pair.last("caller", CallProgressed).body == ANSWER
    assert len(pair.of("caller", CallProgressed)) == 1
    assert len(pair.of("caller", CallAnswered)) == 1
    assert len(pair.of("edge", CallConfirmed)) == 1
    pair.caller.hang_up(key, now=pair.now)
    pair.quiet()
    assert (pair.caller.pending, pair.edge.pending) == (0, 0)
