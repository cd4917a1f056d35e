"""The edge is called: INVITE, its responses, ACK, CANCEL, BYE (RFC 3261 §13.3, §9.2, §15)."""

from __future__ import annotations

import pytest

from edge.actions import Dispatch, Transmit
from edge.events import (
    Address,
    CallConfirmed,
    CallEnded,
    CallKey,
    CallOffered,
    Cause,
    Flow,
    Identification,
    Party,
    Refusal,
    TransportName,
)
from edge.message import Request, Response
from tests.edge.pair import ANSWER, EDGE, OFFER, PEER, Solo, in_dialog, invite, reply, request, trunk

E_TIMES = [0.0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]


def last(solo: Solo) -> Response:
    message = solo.sent[-1]
    assert isinstance(message, Response)
    return message


def answered(solo: Solo, **options: object) -> tuple[CallKey, Request, Response]:
    """A call up to our 200."""
    original = invite(**options)  # type: ignore[arg-type]
    solo.receive(original)
    key = solo.take(CallOffered).key
    solo.endpoint.answer(key, ANSWER, now=solo.now)
    solo.drain()
    return key, original, last(solo)


def established(solo: Solo, **options: object) -> tuple[CallKey, Response]:
    """A call up to the ACK."""
    key, original, ok = answered(solo, **options)
    solo.receive(in_dialog("ACK", ok, cseq=original.cseq.number))
    solo.take(CallConfirmed)
    return key, ok


# --- the offer --------------------------------------------------------------------------------


def test_an_invite_gets_100_at_once_and_is_offered() -> None:
    """RFC 3261 §8.2.6.1, §17.2.1: 100 carries no To tag."""
    solo = Solo()
    solo.receive(invite(headers=[("Timestamp", "54")]))
    assert solo.statuses() == [100]
    assert last(solo).to.tag is None
    assert last(solo).headers.get("Timestamp") == "54"
    offered = solo.take(CallOffered)
    assert offered.trunk == "lab"
    assert offered.identified_by is Identification.ADDRESS
    assert offered.offer == OFFER
    assert (offered.caller, offered.caller_name) == ("alice", "Alice")
    assert offered.call_id == "call@192.0.2.7"
    assert offered.flow == solo.flow
    assert solo.endpoint.calls == 1


def test_the_dialed_number_is_looked_for_in_this_order() -> None:
    """Request-URI, To, P-Called-Party-ID, Diversion; each once."""
    solo = Solo()
    headers = [
        ("Diversion", "<sip:+14155550104@h>;reason=unconditional, <sip:+14155550105@h>"),
        ("P-Called-Party-ID", "<sip:+14155550103@h>"),
    ]
    solo.receive(invite(uri="sip:14155550101@192.0.2.1;transport=udp;gw=x", headers=headers))
    expected = ("14155550101", "+14155550100", "+14155550103", "+14155550104", "+14155550105")
    assert solo.take(CallOffered).dialed == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([("P-Asserted-Identity", '"Bob B" <sip:+15550001@h>')], ("+15550001", "Bob B")),
        ([("P-Asserted-Identity", "<sip:h>, <tel:+15550002>")], ("+15550002", "Alice")),
        ([("P-Asserted-Identity", "rubbish <")], ("alice", "Alice")),
        ([], ("alice", "Alice")),
    ],
)
def test_the_caller_is_the_asserted_identity_else_from(
    headers: list[tuple[str, str]], expected: tuple[str, str]
) -> None:
    """RFC 3325 §9.1; a broken identity costs no call."""
    solo = Solo()
    solo.receive(invite(headers=headers))
    offered = solo.take(CallOffered)
    assert (offered.caller, offered.caller_name) == expected


def test_only_allowed_headers_cross() -> None:
    """``X-*`` and User-to-User, by the name as parsed; nothing else, however it is spelt."""
    solo = Solo()
    raw = bytes(invite(headers=[("X-Ok", "1"), ("User-to-User", "00abcd;encoding=hex"), ("P-Secret", "2")]))
    raw = raw.replace(b"Max-Forwards: 70\r\n", b"Max-Forwards: 70\r\nx-two : 3\r\nSubject: X-No: 1\r\n", 1)
    solo.receive(raw)
    headers = dict(solo.take(CallOffered).headers)
    assert headers == {"X-Ok": "1", "User-to-User": "00abcd;encoding=hex", "x-two": "3"}


def test_headers_that_cross_are_counted_and_measured() -> None:
    """32 headers, 1 kB each, 8 kB in all."""
    solo = Solo()
    solo.receive(invite(headers=[(f"X-H{number}", "v") for number in range(100)]))
    assert len(solo.take(CallOffered).headers) == 32
    many = [("X-Long", "v" * 1025), *((f"X-K{number}", "w" * 1000) for number in range(20))]
    solo.receive(invite(call_id="second", headers=many))
    names = [name for name, _ in solo.take(CallOffered).headers]
    assert names == [f"X-K{number}" for number in range(7)]


def test_a_delayed_offer_is_offered_as_none() -> None:
    """RFC 3261 §13.2.1: an INVITE without SDP."""
    solo = Solo()
    solo.receive(invite(body=b""))
    assert solo.take(CallOffered).offer is None


def test_a_repeated_invite_is_absorbed_and_gets_the_last_response() -> None:
    """RFC 3261 §17.2.1."""
    solo = Solo()
    original = invite()
    solo.receive(original)
    key = solo.take(CallOffered).key
    solo.receive(original)
    solo.endpoint.ring(key, now=0.0)
    solo.drain()
    solo.receive(original)
    assert solo.statuses() == [100, 100, 180, 180]
    assert solo.events == []
    assert solo.endpoint.calls == 1


# --- provisional responses --------------------------------------------------------------------


def test_ringing_makes_an_early_dialog() -> None:
    """RFC 3261 §12.1: 180 with To tag, Contact and the Record-Route as it came."""
    solo = Solo()
    key = solo.offered(headers=[("Record-Route", "<sip:p2;lr>"), ("Record-Route", "<sip:p1;lr>")])
    solo.endpoint.ring(key, now=0.0)
    solo.drain()
    ringing = last(solo)
    assert ringing.status == 180
    assert ringing.to.tag
    assert str(ringing.contact) == "<sip:192.0.2.1:5060>"
    assert ringing.headers.lines("Record-Route") == ["<sip:p2;lr>", "<sip:p1;lr>"]


def test_early_media_is_a_183_with_sdp_and_the_same_tag() -> None:
    """RFC 3261 §13.3.1.1."""
    solo = Solo()
    key = solo.offered()
    solo.endpoint.ring(key, now=0.0)
    solo.endpoint.progress(key, 183, ANSWER, now=0.0)
    solo.drain()
    ringing, progress = solo.sent[-2:]
    assert isinstance(progress, Response) and isinstance(ringing, Response)
    assert (progress.status, progress.body) == (183, ANSWER)
    assert progress.headers.get("Content-Type") == "application/sdp"
    assert progress.to.tag == ringing.to.tag


# --- the answer -------------------------------------------------------------------------------


def test_the_answer_carries_what_the_rfc_asks() -> None:
    """RFC 3261 §13.3.1.4: Contact, Allow, Supported, the SDP."""
    solo = Solo()
    _, original, ok = answered(solo)
    assert ok.status == 200
    assert ok.body == ANSWER
    assert ok.headers.get("Contact") == "<sip:192.0.2.1:5060>"
    assert ok.headers.get("Allow") == "INVITE, ACK, CANCEL, BYE, OPTIONS, NOTIFY, UPDATE, PRACK, INFO"
    assert ok.headers.get("Supported") == "timer, 100rel"
    assert ok.call_id == original.call_id
    assert ok.cseq == original.cseq


def test_the_200_is_repeated_until_its_ack() -> None:
    """RFC 3261 §13.3.1.4: T1, doubling to T2."""
    solo = Solo()
    key, _, ok = answered(solo)
    copies = solo.advance(4.0)
    assert [bytes(message) for message in copies] == [bytes(ok)] * 3
    solo.receive(in_dialog("ACK", ok, cseq=1))
    assert solo.take(CallConfirmed) == CallConfirmed(key, None)
    assert solo.advance(60.0) == []


@pytest.mark.parametrize("transport", list(TransportName))
def test_a_200_that_nobody_acknowledges_ends_in_a_bye(transport: TransportName) -> None:
    """RFC 3261 §13.3.1.4: over any transport, and BYE after 64*T1."""
    solo = Solo()
    flow = Flow(transport, EDGE, PEER, int(transport.reliable))
    solo.receive(invite(via=f"SIP/2.0/{transport.name} 192.0.2.7;rport;branch=z9hG4bK-x"), flow)
    key = solo.take(CallOffered).key
    solo.endpoint.answer(key, ANSWER, now=0.0)
    solo.drain()
    start = len(solo.times) - 1
    solo.advance(32.0)
    assert solo.times[start:] == [*E_TIMES, 32.0]
    bye = solo.requests("BYE")[0]
    assert solo.take(CallEnded) == CallEnded(key, Party.LOCAL, Cause.NO_ACK)
    assert bye.uri == "sip:alice@192.0.2.7:5060"
    solo.receive(reply(bye, 200), flow)
    solo.quiet()
    assert (solo.endpoint.calls, solo.endpoint.pending) == (0, 0)


def test_the_invite_repeated_after_the_200_is_absorbed() -> None:
    """RFC 6026 §7.1: no second 200 out of turn, no second call."""
    solo = Solo()
    _, original, _ = answered(solo)
    assert solo.receive(original) == []
    assert solo.events == []


def test_an_ack_with_the_branch_of_the_invite_still_confirms() -> None:
    """RFC 6026 §7.1: broken user agents reuse it; the ACK is the user's either way."""
    solo = Solo()
    key, original, ok = answered(solo)
    branch = original.via.branch
    solo.receive(in_dialog("ACK", ok, cseq=1, branch=branch))
    assert solo.take(CallConfirmed).key == key
    assert solo.advance(40.0) == []


def test_an_ack_for_another_sequence_number_confirms_nothing() -> None:
    """RFC 3261 §13.3.1.4: CSeq names the INVITE it acknowledges."""
    solo = Solo()
    _, _, ok = answered(solo)
    solo.receive(in_dialog("ACK", ok, cseq=2))
    assert solo.events == []
    assert len(solo.advance(4.0)) == 3


def test_in_a_delayed_offer_the_ack_brings_the_answer() -> None:
    """RFC 3261 §13.2.1: we offer in the 200."""
    solo = Solo()
    solo.receive(invite(body=b""))
    key = solo.take(CallOffered).key
    solo.endpoint.answer(key, OFFER, now=0.0)
    solo.drain()
    assert last(solo).body == OFFER
    solo.receive(in_dialog("ACK", last(solo), cseq=1, body=ANSWER))
    assert solo.take(CallConfirmed) == CallConfirmed(key, ANSWER)


def test_sdp_in_the_ack_of_an_answered_offer_is_ignored() -> None:
    """RFC 3261 §13.2.1: offer and answer are complete."""
    solo = Solo()
    key, _, ok = answered(solo)
    solo.receive(in_dialog("ACK", ok, cseq=1, body=ANSWER))
    assert solo.take(CallConfirmed) == CallConfirmed(key, None)


# --- refusals ---------------------------------------------------------------------------------


def test_a_refusal_says_why_and_waits_for_its_ack() -> None:
    """RFC 3261 §17.2.1, RFC 3326."""
    solo = Solo()
    original = invite()
    solo.receive(original)
    key = solo.take(CallOffered).key
    refusal = Refusal(503, 'full "up"', phrase="No Room", retry_after_s=30, headers=(("X-Why", "limits"),))
    solo.endpoint.refuse(key, refusal, now=0.0)
    solo.drain()
    refused = last(solo)
    assert (refused.status, refused.phrase) == (503, "No Room")
    assert refused.headers.get("Retry-After") == "30"
    assert refused.headers.get("Reason") == 'SIP;cause=503;text="full \\"up\\""'
    assert refused.headers.get("X-Why") == "limits"
    assert solo.take(CallEnded) == CallEnded(key, Party.LOCAL, Cause.REFUSED, 503, "No Room")
    assert len(solo.advance(1.0)) == 1
    solo.receive(request("ACK", branch=original.via.branch, to_tag=refused.to.tag))
    assert solo.quiet() == 6.0
    assert solo.endpoint.pending == 0


def test_an_unacknowledged_refusal_is_forgotten_after_64_t1() -> None:
    """RFC 3261 §17.2.1 timer H: the call has ended long before."""
    solo = Solo()
    solo.endpoint.refuse(solo.offered(), Refusal(404, "no such number"), now=0.0)
    assert solo.quiet() == 32.0
    assert solo.statuses() == [100, *[404] * 11]
    assert solo.endpoint.pending == 0


def test_headers_that_would_break_the_message_are_left_out() -> None:
    """Whoever writes a refusal's text cannot smuggle a header in."""
    solo = Solo()
    key = solo.offered()
    refusal = Refusal(486, "x\r\nX-Evil: 1", headers=(("X-A", "1\r\nX-B: 2"), ("bad name", "x"), ("X-C", "3")))
    solo.endpoint.refuse(key, refusal, now=0.0)
    solo.drain()
    refused = last(solo)
    assert refused.headers.get("X-C") == "3"
    assert all(name not in refused.headers for name in ("X-A", "X-B", "X-Evil"))


@pytest.mark.parametrize("ringing", [False, True])
def test_hanging_up_before_the_answer_refuses_with_480(ringing: bool) -> None:
    """The command fits the state: no dialog to say BYE in."""
    solo = Solo()
    key = solo.offered()
    if ringing:
        solo.endpoint.ring(key, now=0.0)
    solo.endpoint.hang_up(key, now=0.0, reason="agent gone")
    solo.drain()
    assert last(solo).status == 480
    assert last(solo).headers.get("Reason") == 'SIP;cause=480;text="agent gone"'
    assert solo.take(CallEnded) == CallEnded(key, Party.LOCAL, Cause.REFUSED, 480, "Temporarily Unavailable")


def test_a_call_that_nobody_answers_or_refuses_is_ended_by_the_ring_limit() -> None:
    """No state without a bound: timer C's three minutes."""
    solo = Solo()
    key = solo.offered()
    solo.endpoint.ring(key, now=0.0)
    solo.advance(180.0)
    assert 480 in solo.statuses()
    assert solo.take(CallEnded) == CallEnded(key, Party.LOCAL, Cause.TIMEOUT, 480, "Temporarily Unavailable")


def test_an_invitation_expires_when_it_says_so() -> None:
    """RFC 3261 §13.3.1."""
    solo = Solo()
    solo.offered(headers=[("Expires", "20")])
    solo.advance(19.9)
    assert solo.statuses() == [100]
    solo.advance(0.1)
    assert solo.statuses()[-1] == 480
    solo.take(CallEnded)


# --- CANCEL -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ringing", [False, True])
def test_a_cancel_before_the_answer_gets_200_and_the_invite_487(ringing: bool) -> None:
    """RFC 3261 §9.2: both responses carry the same To tag."""
    solo = Solo()
    original = invite()
    solo.receive(original)
    key = solo.take(CallOffered).key
    if ringing:
        solo.endpoint.ring(key, now=0.0)
        solo.drain()
    headers = [("Reason", 'SIP;cause=200;text="Call completed elsewhere"'), ("X-Info", "y"), ("Subject", "no")]
    solo.receive(request("CANCEL", branch=original.via.branch, headers=headers))
    ok, terminated = solo.sent[-2:]
    assert isinstance(ok, Response) and isinstance(terminated, Response)
    assert (ok.status, ok.cseq.method) == (200, "CANCEL")
    assert (terminated.status, terminated.cseq.method) == (487, "INVITE")
    assert ok.to.tag == terminated.to.tag
    ended = solo.take(CallEnded)
    assert (ended.by, ended.cause, ended.status) == (Party.REMOTE, Cause.CANCELLED, 487)
    assert ended.headers == (("Reason", 'SIP;cause=200;text="Call completed elsewhere"'), ("X-Info", "y"))
    solo.endpoint.answer(key, ANSWER, now=0.0)
    assert solo.drain() == []
    assert solo.counters.get("sip_commands_ignored", command="answer") == 1
    solo.receive(request("ACK", branch=original.via.branch, to_tag=terminated.to.tag))
    solo.quiet()
    assert solo.endpoint.pending == 0


def test_a_cancel_after_the_answer_gets_200_and_changes_nothing() -> None:
    """RFC 3261 §9.2: the call goes on."""
    solo = Solo()
    key, original, ok = answered(solo)
    (response,) = solo.receive(request("CANCEL", branch=original.via.branch))
    assert isinstance(response, Response) and (response.status, response.cseq.method) == (200, "CANCEL")
    assert solo.events == []
    solo.receive(in_dialog("ACK", ok, cseq=1))
    assert solo.take(CallConfirmed).key == key


def test_a_cancel_of_nothing_gets_481() -> None:
    """RFC 3261 §9.2."""
    solo = Solo()
    (response,) = solo.receive(request("CANCEL"))
    assert isinstance(response, Response) and response.status == 481


def test_a_cancel_from_another_address_is_a_forgery() -> None:
    """RFC 3261 §9.1: CANCEL is hop by hop; whoever saw the branch pass cannot end the call from elsewhere."""
    solo = Solo()
    original = invite()
    solo.receive(original)
    flow = Flow(TransportName.UDP, EDGE, Address("192.0.2.99", 5060))
    (response,) = solo.receive(request("CANCEL", branch=original.via.branch), flow)
    assert isinstance(response, Response) and response.status == 481
    assert solo.endpoint.calls == 1


def test_a_repeated_cancel_is_answered_again_and_ends_the_call_once() -> None:
    """RFC 3261 §9.2."""
    solo = Solo()
    original = invite()
    solo.receive(original)
    solo.take(CallOffered)
    cancel = request("CANCEL", branch=original.via.branch)
    solo.receive(cancel)
    solo.receive(cancel)
    assert solo.statuses() == [100, 200, 487, 200]
    solo.take(CallEnded)


# --- BYE --------------------------------------------------------------------------------------


def test_the_peers_bye_is_answered_and_ends_the_call() -> None:
    """RFC 3261 §15.1.2: with the headers that say why."""
    solo = Solo()
    key, ok = established(solo)
    bye = in_dialog("BYE", ok, cseq=2, headers=[("Reason", "Q.850;cause=16"), ("X-Cost", "3"), ("Server", "s")])
    (response,) = solo.receive(bye)
    assert isinstance(response, Response) and response.status == 200
    headers = (("Reason", "Q.850;cause=16"), ("X-Cost", "3"))
    assert solo.take(CallEnded) == CallEnded(key, Party.REMOTE, Cause.BYE, headers=headers)
    (again,) = solo.receive(bye)
    assert bytes(again) == bytes(response)
    assert solo.events == []
    assert solo.quiet() == 32.0
    assert solo.endpoint.pending == 0
    (late,) = solo.receive(in_dialog("BYE", ok, cseq=3))
    assert isinstance(late, Response) and late.status == 481


def test_our_bye_goes_to_the_contact_with_the_tags_the_right_way_round() -> None:
    """RFC 3261 §12.2.1.1, §15.1.1."""
    solo = Solo()
    key, ok = established(solo)
    solo.endpoint.hang_up(key, now=0.0, reason="done")
    (bye,) = solo.drain()
    assert isinstance(bye, Request)
    assert (bye.method, bye.uri) == ("BYE", "sip:alice@192.0.2.7:5060")
    assert (bye.from_.tag, bye.to.tag) == (ok.to.tag, "peer")
    assert bye.cseq.number == 1
    assert bye.headers.get("Reason") == 'Q.850;cause=16;text="done"'
    assert bye.headers.get("Max-Forwards") == "70"
    assert solo.take(CallEnded) == CallEnded(key, Party.LOCAL, Cause.BYE)
    solo.receive(reply(bye, 200))
    solo.quiet()
    assert solo.endpoint.pending == 0


def test_an_unanswered_bye_is_given_up_after_64_t1() -> None:
    """RFC 3261 §15.1.1, §17.1.2.2: freed in 32 s."""
    solo = Solo()
    key, _ = established(solo)
    solo.advance(40.0)
    solo.endpoint.hang_up(key, now=40.0)
    assert solo.quiet() == 72.0
    assert len(solo.requests("BYE")) == 11
    assert solo.endpoint.pending == 0


@pytest.mark.parametrize("status", [200, 401, 408, 481, 500, 603])
def test_any_final_response_to_our_bye_ends_the_dialog(status: int) -> None:
    """RFC 3261 §15.1.1."""
    solo = Solo()
    key, ok = established(solo)
    solo.endpoint.hang_up(key, now=0.0)
    (bye,) = solo.drain()
    assert isinstance(bye, Request)
    solo.receive(reply(bye, status))
    (late,) = solo.receive(in_dialog("OPTIONS", ok, cseq=9))
    assert isinstance(late, Response) and late.status == 481


def test_a_bye_that_crosses_ours_is_answered_200() -> None:
    """RFC 5407 §3.2.1: and the call ends once."""
    solo = Solo()
    key, ok = established(solo)
    solo.endpoint.hang_up(key, now=0.0)
    solo.drain()
    solo.take(CallEnded)
    (response,) = solo.receive(in_dialog("BYE", ok, cseq=2))
    assert isinstance(response, Response) and response.status == 200
    assert solo.events == []


def test_hanging_up_before_the_ack_waits_for_it() -> None:
    """RFC 3261 §15: the callee sends no BYE before the ACK of its 2xx."""
    solo = Solo()
    key, _, ok = answered(solo)
    solo.endpoint.hang_up(key, now=0.0)
    assert solo.drain() == []
    assert solo.take(CallEnded) == CallEnded(key, Party.LOCAL, Cause.BYE)
    assert solo.endpoint.calls == 0
    assert [message.status for message in solo.advance(1.0) if isinstance(message, Response)] == [200]
    (bye,) = solo.receive(in_dialog("ACK", ok, cseq=1))
    assert isinstance(bye, Request) and bye.method == "BYE"
    solo.receive(reply(bye, 200))
    solo.quiet()
    assert solo.endpoint.pending == 0


def test_hanging_up_without_an_ack_says_bye_when_the_transaction_times_out() -> None:
    """RFC 3261 §15, §13.3.1.4."""
    solo = Solo()
    key, _, _ = answered(solo)
    solo.endpoint.hang_up(key, now=0.0)
    solo.advance(31.9)
    assert solo.requests("BYE") == []
    solo.advance(0.2)
    assert len(solo.requests("BYE")) == 1
    solo.take(CallEnded)


@pytest.mark.parametrize("leaving", [False, True])
def test_a_bye_instead_of_an_ack_ends_the_call(leaving: bool) -> None:
    """RFC 3261 §15: the caller may hang up as soon as it has our 200."""
    solo = Solo()
    key, _, ok = answered(solo)
    if leaving:
        solo.endpoint.hang_up(key, now=0.0)
    (response,) = solo.receive(in_dialog("BYE", ok, cseq=2))
    assert isinstance(response, Response) and response.status == 200
    assert solo.take(CallEnded).by is (Party.LOCAL if leaving else Party.REMOTE)
    assert solo.advance(31.0) == []
    solo.quiet()
    assert solo.endpoint.pending == 0


def test_a_bye_in_the_early_dialog_ends_the_invite_with_487() -> None:
    """RFC 3261 §15.1.2."""
    solo = Solo()
    key = solo.offered()
    solo.endpoint.ring(key, now=0.0)
    solo.drain()
    sent = solo.receive(in_dialog("BYE", last(solo), cseq=2))
    assert [message.status for message in sent if isinstance(message, Response)] == [200, 487]
    assert solo.take(CallEnded).cause is Cause.BYE


def test_a_bye_before_any_tag_of_ours_went_out_can_only_be_a_guess() -> None:
    """RFC 3261 §12.2.2; were it right, the INVITE would end with 487."""
    solo = Solo()
    key = solo.offered()
    assert [
        message.status
        for message in solo.receive(request("BYE", to_tag="guess", cseq=2))
        if isinstance(message, Response)
    ] == [481]
    tag = solo.endpoint._sessions[key].local_tag
    sent = solo.receive(request("BYE", to_tag=tag, cseq=2))
    assert [message.status for message in sent if isinstance(message, Response)] == [200, 487]
    assert solo.take(CallEnded).by is Party.REMOTE


def test_a_ringing_call_is_answered_or_refused() -> None:
    """RFC 3261 §13.3.1: after any number of provisionals."""
    for refused in (False, True):
        solo = Solo()
        key = solo.offered()
        solo.endpoint.ring(key, now=0.0)
        solo.endpoint.progress(key, 183, ANSWER, now=0.0)
        if refused:
            solo.endpoint.refuse(key, Refusal(486, "busy"), now=0.0)
        else:
            solo.endpoint.answer(key, ANSWER, now=0.0)
        solo.drain()
        assert solo.statuses() == [100, 180, 183, 486 if refused else 200]


def test_a_bye_with_the_wrong_tags_ends_nothing() -> None:
    """RFC 3261 §12.2.2: Call-ID and both tags; a guess gets 481."""
    solo = Solo()
    _, ok = established(solo)
    for forged in (
        request("BYE", to_tag="guess", cseq=2),
        in_dialog("BYE", ok, cseq=2, from_tag="guess"),
        in_dialog("BYE", ok, cseq=2, call_id="guess"),
        request("BYE", cseq=2),
    ):
        (response,) = solo.receive(forged)
        assert isinstance(response, Response) and response.status == 481
    assert solo.endpoint.calls == 1


# --- where things go --------------------------------------------------------------------------


def test_behind_record_routes_our_bye_goes_to_the_first_route() -> None:
    """RFC 3261 §12.2.1.1: the carrier's Contact is private, its edge proxy is not."""
    solo = Solo()
    routes = [
        ("Record-Route", "<sip:192.0.2.7:5080;r2=on;lr;ftag=x>"),
        ("Record-Route", "<sip:10.255.0.2;r2=on;lr>"),
    ]
    key, _ = established(solo, headers=routes, contact="<sip:mod_sofia@10.231.91.24:6000>")
    solo.endpoint.hang_up(key, now=0.0)
    solo.drain()
    bye = solo.requests("BYE")[0]
    assert bye.uri == "sip:mod_sofia@10.231.91.24:6000"
    assert bye.headers.lines("Route") == [value for _, value in routes]
    action = solo.actions[-1]
    assert isinstance(action, Dispatch)
    assert str(action.target.address) == "192.0.2.7:5080"
    assert action.local == EDGE


def test_responses_go_to_the_source_when_rport_asks() -> None:
    """RFC 3581 §4: received and rport are noted in the Via that comes back."""
    solo = Solo()
    solo.peer = Address("192.0.2.44", 31337)
    solo.receive(invite(via="SIP/2.0/UDP 10.0.0.1:5060;rport;branch=z9hG4bK-n"))
    action = solo.actions[-1]
    assert isinstance(action, Transmit)
    assert action.flow.remote == solo.peer
    assert (last(solo).via.received, last(solo).via.rport) == ("192.0.2.44", 31337)


def test_without_rport_responses_go_to_the_port_of_the_via() -> None:
    """RFC 3261 §18.2.2: to ``received``, at sent-by's port, 5060 when it names none."""
    solo = Solo()
    solo.peer = Address("192.0.2.44", 31337)
    for via, port in (("SIP/2.0/UDP 10.0.0.1:5082", 5082), ("SIP/2.0/UDP pc33.example", 5060)):
        solo.receive(invite(via=f"{via};branch=z9hG4bK-p{port}", call_id=f"c{port}"))
        action = solo.actions[-1]
        assert isinstance(action, Transmit)
        assert action.flow.remote == Address("192.0.2.44", port)
        assert last(solo).via.received == "192.0.2.44"


def test_over_a_connection_responses_come_back_on_it_with_a_fallback() -> None:
    """RFC 3261 §18.2.2."""
    solo = Solo()
    flow = Flow(TransportName.TCP, EDGE, Address("192.0.2.7", 40001), 3)
    solo.receive(invite(via="SIP/2.0/TCP 10.0.0.1:5070;branch=z9hG4bK-t"), flow)
    action = solo.actions[-1]
    assert isinstance(action, Transmit)
    assert action.flow == flow
    assert action.fallback is not None
    assert action.fallback.transport is TransportName.TCP
    assert action.fallback.address == Address("192.0.2.7", 5070)


def test_without_routes_a_stream_peer_is_reached_over_its_own_connection() -> None:
    """A phone behind NAT: its Contact is private, its connection is alive."""
    solo = Solo()
    flow = Flow(TransportName.TCP, EDGE, Address("192.0.2.7", 40001), 3)
    original = invite(
        via="SIP/2.0/TCP 10.0.0.1:5070;branch=z9hG4bK-t", contact="<sip:alice@10.0.0.1:5070;transport=tcp>"
    )
    solo.receive(original, flow)
    key = solo.take(CallOffered).key
    solo.endpoint.answer(key, ANSWER, now=0.0)
    solo.drain()
    assert last(solo).headers.get("Contact") == "<sip:192.0.2.1:5060;transport=tcp>"
    solo.receive(in_dialog("ACK", last(solo), cseq=1), flow)
    solo.endpoint.hang_up(key, now=0.0)
    solo.drain()
    action = solo.actions[-1]
    assert isinstance(action, Transmit)
    assert action.flow == flow
    assert action.fallback is not None and action.fallback.address == Address("10.0.0.1", 5070)
    assert solo.requests("BYE")[0].via.transport == "TCP"


def test_a_private_contact_from_a_public_address_is_reached_at_its_source() -> None:
    """A phone behind NAT over UDP; where both are private the Contact is believed (RFC 3261 §12.2.1.1)."""
    solo = Solo(rules=(trunk("any", "0.0.0.0/0"),))
    for source, expected in (("8.8.8.8", "8.8.8.8:4444"), ("10.1.1.1", "10.0.0.9:5062")):
        solo.peer = Address(source, 4444)
        key, _ = established(solo, call_id=source, contact="<sip:a@10.0.0.9:5062>")
        solo.endpoint.hang_up(key, now=0.0)
        solo.drain()
        assert str(solo.target.address) == expected


def test_ipv6_addresses_are_bracketed_where_they_are_written() -> None:
    """RFC 3261 §25.1, RFC 5118."""
    local, remote = Address("2001:db8::1", 5060), Address("2001:db8::7", 5060)
    solo = Solo(address=local, rules=(trunk("six", "2001:db8::/32"),))
    solo.peer = remote
    key, ok = established(
        solo,
        uri="sip:+1@[2001:db8::1]",
        via="SIP/2.0/UDP [2001:db8::7]:5060;rport;branch=z9hG4bK-6",
        contact="<sip:a@[2001:db8::7]:5062>",
    )
    assert ok.headers.get("Contact") == "<sip:[2001:db8::1]:5060>"
    solo.endpoint.hang_up(key, now=0.0)
    solo.drain()
    bye = solo.requests("BYE")[0]
    assert bye.uri == "sip:a@[2001:db8::7]:5062"
    assert bye.headers.lines("Via")[0].startswith("SIP/2.0/UDP [2001:db8::1]:5060;rport;branch=")
