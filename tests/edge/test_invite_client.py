"""The edge calls: INVITE and its responses, ACK, CANCEL, BYE (RFC 3261 §13.2, §9.1, §15)."""

from __future__ import annotations

import pytest

from edge.actions import Dispatch, Resolve, Target, Transmit
from edge.auth import Challenger, Credentials, VerdictKind
from edge.events import (
    Address,
    CallAnswered,
    CallEnded,
    CallKey,
    CallProgressed,
    Cause,
    Flow,
    OptionsAnswered,
    OutgoingCall,
    Party,
    TransportName,
)
from edge.message import Request, Response
from tests.edge.pair import ANSWER, EDGE, OFFER, PEER, Solo, reply, request

TARGET = "sip:+14155550100@192.0.2.7"
A_TIMES = [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]


def outgoing(**options: object) -> OutgoingCall:
    fields = {"target": TARGET, "from_uri": "sip:+14155550199@edge.test", "body": OFFER, **options}
    return OutgoingCall(**fields)  # type: ignore[arg-type]


def dial(solo: Solo, **options: object) -> tuple[CallKey, Request]:
    """An INVITE goes out."""
    key = solo.endpoint.invite(outgoing(**options), now=solo.now)
    solo.drain()
    return key, solo.requests("INVITE")[-1]


def connected(solo: Solo, **options: object) -> tuple[CallKey, Request, Response]:
    """A call up to its ACK."""
    key, sent = dial(solo, **options)
    ok = reply(sent, 200, body=ANSWER)
    solo.receive(ok)
    solo.take(CallAnswered)
    return key, sent, ok


# --- the INVITE -------------------------------------------------------------------------------


def test_the_invite_carries_what_the_rfc_asks() -> None:
    """RFC 3261 §8.1.1, §13.2.1, RFC 3581."""
    solo = Solo()
    _, sent = dial(solo, from_name='Al "the" B', headers=(("X-Ours", "1"), ("X-Bad", "a\r\nb")), to_uri="sip:+1@there")
    assert sent.uri == TARGET
    assert str(sent.from_.uri) == "sip:+14155550199@edge.test"
    assert sent.from_.display_name == 'Al "the" B'
    assert sent.from_.tag
    assert str(sent.to) == "<sip:+1@there>"
    assert str(sent.cseq) == "1 INVITE"
    assert sent.headers.get("Contact") == "<sip:+14155550199@192.0.2.1:5060>"
    assert sent.headers.get("Max-Forwards") == "70"
    assert sent.headers.get("Content-Type") == "application/sdp"
    assert sent.headers.get("X-Ours") == "1"
    assert "X-Bad" not in sent.headers
    assert sent.body == OFFER
    via = sent.headers.lines("Via")[0]
    assert via.startswith("SIP/2.0/UDP 192.0.2.1:5060;rport;branch=z9hG4bK")
    assert solo.actions[-1] == Dispatch(
        bytes(sent), Target(TransportName.UDP, PEER, "192.0.2.7"), solo_token(sent), EDGE
    )


def solo_token(sent: Request) -> str:
    return f"{sent.via.branch} INVITE"


def test_an_unanswered_invite_ends_the_call() -> None:
    """RFC 3261 §17.1.1.2: timer B, as good as 408 (§8.1.3.1)."""
    solo = Solo()
    key, _ = dial(solo)
    assert solo.quiet() == 32.0
    assert solo.times == A_TIMES
    assert solo.take(CallEnded) == CallEnded(key, Party.LOCAL, Cause.TIMEOUT, 408, "Request Timeout")
    assert (solo.endpoint.calls, solo.endpoint.pending) == (0, 0)


def test_provisional_responses_are_reported_but_for_100() -> None:
    """RFC 3261 §13.2.2.1: early media with its SDP."""
    solo = Solo()
    key, sent = dial(solo)
    solo.receive(reply(sent, 100, tag=None))
    assert solo.events == []
    solo.receive(reply(sent, 180))
    assert solo.take(CallProgressed) == CallProgressed(key, 180, "Ringing", None, "callee")
    ids = (("X-Telnyx-Session-ID", "7"),)
    solo.receive(reply(sent, 183, tag="other-fork", body=ANSWER, headers=ids))
    assert solo.take(CallProgressed) == CallProgressed(key, 183, "Session Progress", ANSWER, "other-fork", ids)


def test_what_we_originate_has_the_hops_and_the_call_id_it_is_given() -> None:
    """RFC 7332 §4.2: a call that goes on from another one has fewer hops left."""
    solo = Solo()
    call = OutgoingCall("sip:+1@192.0.2.7", "sip:edge@edge.test", OFFER, call_id="ours@edge", max_forwards=41)
    solo.endpoint.invite(call, now=0.0)
    (sent,) = solo.drain()
    assert isinstance(sent, Request)
    assert (sent.call_id, sent.max_forwards) == ("ours@edge", 41)


@pytest.mark.parametrize("ringing", [False, True])
def test_a_2xx_is_acknowledged_and_reported(ringing: bool) -> None:
    """RFC 3261 §13.2.2.4: the ACK has a branch of its own and the INVITE's sequence number."""
    solo = Solo()
    key, sent = dial(solo)
    if ringing:
        solo.receive(reply(sent, 180))
        solo.take(CallProgressed)
    (ack,) = solo.receive(reply(sent, 200, body=ANSWER))
    assert isinstance(ack, Request)
    assert (ack.method, ack.uri, str(ack.cseq)) == ("ACK", "sip:bob@192.0.2.7:5060", "1 ACK")
    assert ack.via.branch != sent.via.branch
    assert (ack.from_.tag, ack.to.tag) == (sent.from_.tag, "callee")
    assert solo.take(CallAnswered) == CallAnswered(key, 200, "OK", ANSWER, tag="callee")


def test_each_copy_of_the_2xx_is_acknowledged_again() -> None:
    """RFC 3261 §13.2.2.4: our ACK was lost; the call is answered once."""
    solo = Solo()
    _, _, ok = connected(solo)
    first = solo.requests("ACK")[0]
    (again,) = solo.receive(ok)
    assert bytes(again) == bytes(first)
    assert solo.events == []


def test_a_2xx_of_another_fork_is_acknowledged_and_ended() -> None:
    """RFC 3261 §13.2.2.4: two phones answered; we talk with the first."""
    solo = Solo()
    _, sent, _ = connected(solo)
    other = reply(sent, 200, tag="other", contact="<sip:carol@192.0.2.8:5062>", body=ANSWER)
    ack, bye = solo.receive(other)
    assert isinstance(ack, Request) and isinstance(bye, Request)
    assert (ack.method, ack.uri, ack.to.tag) == ("ACK", "sip:carol@192.0.2.8:5062", "other")
    assert (bye.method, bye.uri, bye.to.tag, bye.cseq.number) == ("BYE", "sip:carol@192.0.2.8:5062", "other", 2)
    (copy,) = solo.receive(other)
    assert bytes(copy) == bytes(ack)
    assert solo.events == []
    assert solo.endpoint.calls == 1


@pytest.mark.parametrize("ringing", [False, True])
@pytest.mark.parametrize("status", [300, 302, 404, 408, 480, 486, 500, 603])
def test_a_failure_ends_the_call_and_is_acknowledged_hop_by_hop(status: int, ringing: bool) -> None:
    """RFC 3261 §13.2.2.2, §13.2.2.3: a redirection is a refusal like any other, and makes us call nobody."""
    solo = Solo()
    key, sent = dial(solo)
    if ringing:
        solo.receive(reply(sent, 180))
        solo.take(CallProgressed)
    headers = [
        ("Contact", "<sip:premium@203.0.113.9>"),
        ("Reason", "Q.850;cause=1"),
        ("X-Twilio-Error", "32201"),
        ("P-X", "1"),
    ]
    (ack,) = solo.receive(reply(sent, status, headers=headers))
    assert isinstance(ack, Request)
    assert (ack.method, ack.via.branch, ack.uri) == ("ACK", sent.via.branch, TARGET)
    ended = solo.take(CallEnded)
    assert (ended.key, ended.by, ended.cause, ended.status) == (key, Party.REMOTE, Cause.REFUSED, status)
    assert ended.headers == (("Reason", "Q.850;cause=1"), ("X-Twilio-Error", "32201"))
    solo.quiet()
    assert len(solo.requests("INVITE")) == 1
    assert solo.endpoint.pending == 0


def test_a_call_that_only_rings_is_given_up() -> None:
    """No state without a bound: timer C's three minutes, then CANCEL, then 64*T1 for its effect."""
    solo = Solo()
    key, sent = dial(solo)
    solo.receive(reply(sent, 180))
    solo.events.clear()
    solo.advance(180.0)
    assert len(solo.requests("CANCEL")) == 1
    assert solo.take(CallEnded) == CallEnded(key, Party.LOCAL, Cause.TIMEOUT, 408, "Request Timeout")
    solo.quiet()
    assert solo.endpoint.pending == 0


@pytest.mark.parametrize("ringing", [False, True])
@pytest.mark.parametrize("broken", [b"Contact: <sip:bob", b"Contact: <tel:+1>", b"Record-Route: <sip:"])
def test_a_2xx_that_makes_no_dialog_ends_the_call(broken: bytes, ringing: bool) -> None:
    """RFC 3261 §12.1.2: there is nobody to send the ACK to."""
    solo = Solo()
    key, sent = dial(solo)
    if ringing:
        solo.receive(reply(sent, 180))
        solo.take(CallProgressed)
    raw = bytes(reply(sent, 200, contact=None)).replace(b"Call-ID:", broken + b"\r\nCall-ID:", 1)
    solo.receive(raw)
    ended = solo.take(CallEnded)
    assert (ended.key, ended.cause, ended.status) == (key, Cause.PROTOCOL, 200)
    solo.quiet()
    assert solo.endpoint.pending == 0


def test_a_good_2xx_after_a_broken_one_is_acknowledged_and_ended() -> None:
    """RFC 3261 §13.2.2.4: the call is over for its user; the callee must hear so."""
    solo = Solo()
    _, sent = dial(solo)
    solo.receive(bytes(reply(sent, 200, contact=None)).replace(b"Call-ID:", b"Contact: <sip:\r\nCall-ID:", 1))
    solo.take(CallEnded)
    ack, bye = solo.receive(reply(sent, 200, tag="second"))
    assert isinstance(ack, Request) and isinstance(bye, Request)
    assert (ack.method, bye.method) == ("ACK", "BYE")
    solo.quiet()
    assert solo.endpoint.pending == 0
    assert solo.events == []


@pytest.mark.parametrize(
    "call",
    [
        outgoing(target="nonsense"),
        outgoing(target="sip:"),
        outgoing(from_uri="sip:a b@c"),
        outgoing(to_uri="<sip:a>"),
        outgoing(next_hop="192.0.2.7:99999"),
        outgoing(target="sip:a@b\r\nX-Evil: 1"),
    ],
)
def test_a_call_to_no_uri_ends_at_once(call: OutgoingCall) -> None:
    """A command never raises; the fault is in the event."""
    solo = Solo()
    key = solo.endpoint.invite(call, now=0.0)
    assert solo.drain() == []
    ended = solo.take(CallEnded)
    assert (ended.key, ended.by, ended.cause) == (key, Party.LOCAL, Cause.PROTOCOL)
    assert solo.endpoint.calls == 0


def test_a_tel_uri_needs_a_next_hop() -> None:
    """RFC 3966 names nobody to send to."""
    solo = Solo()
    solo.endpoint.invite(outgoing(target="tel:+14155550100"), now=0.0)
    solo.drain()
    assert solo.take(CallEnded).cause is Cause.TRANSPORT
    _, sent = dial(solo, target="tel:+14155550100", next_hop="192.0.2.7:5070")
    assert sent.uri == "tel:+14155550100"
    assert solo.target.address == Address("192.0.2.7", 5070)


# --- CANCEL -----------------------------------------------------------------------------------


def test_hanging_up_while_it_rings_cancels() -> None:
    """RFC 3261 §9.1: the INVITE's Request-URI, Via, To and sequence number."""
    solo = Solo()
    key, sent = dial(solo)
    solo.receive(reply(sent, 180))
    solo.events.clear()
    solo.endpoint.hang_up(key, now=0.0, reason="changed my mind")
    (cancel,) = solo.drain()
    assert isinstance(cancel, Request)
    assert (cancel.method, cancel.uri, str(cancel.cseq)) == ("CANCEL", TARGET, "1 CANCEL")
    assert cancel.headers.lines("Via") == sent.headers.lines("Via")
    assert cancel.to.tag is None
    assert cancel.headers.get("Reason") == 'SIP;cause=487;text="changed my mind"'
    assert solo.take(CallEnded) == CallEnded(key, Party.LOCAL, Cause.CANCELLED)
    solo.receive(reply(cancel, 200))
    (ack,) = solo.receive(reply(sent, 487))
    assert isinstance(ack, Request) and ack.method == "ACK"
    assert solo.events == []
    solo.quiet()
    assert solo.endpoint.pending == 0


def test_hanging_up_before_any_response_waits_for_one_to_cancel() -> None:
    """RFC 3261 §9.1: no CANCEL before a provisional; the call is over for its user at once."""
    solo = Solo()
    key, sent = dial(solo)
    solo.endpoint.hang_up(key, now=0.0)
    assert solo.drain() == []
    assert solo.take(CallEnded).cause is Cause.CANCELLED
    (cancel,) = solo.receive(reply(sent, 100, tag=None))
    assert isinstance(cancel, Request) and cancel.method == "CANCEL"
    assert solo.receive(reply(sent, 180)) == []


def test_hanging_up_on_a_silent_peer_just_runs_out() -> None:
    """RFC 3261 §9.1, §17.1.1.2: without a response there is nothing to cancel."""
    solo = Solo()
    key, _ = dial(solo)
    solo.endpoint.hang_up(key, now=0.0)
    assert solo.quiet() == 32.0
    assert solo.requests("CANCEL") == []
    solo.take(CallEnded)
    assert solo.endpoint.pending == 0


@pytest.mark.parametrize("provisional", [False, True])
def test_a_200_that_crosses_the_cancel_is_acknowledged_and_ended_with_bye(provisional: bool) -> None:
    """RFC 3261 §9.1, §15: the CANCEL came too late."""
    solo = Solo()
    key, sent = dial(solo)
    if provisional:
        solo.receive(reply(sent, 180))
    solo.events.clear()
    solo.endpoint.hang_up(key, now=0.0)
    solo.drain()
    ok = reply(sent, 200, body=ANSWER)
    ack, bye = solo.receive(ok)
    assert isinstance(ack, Request) and isinstance(bye, Request)
    assert (ack.method, bye.method) == ("ACK", "BYE")
    assert len(solo.requests("CANCEL")) == int(provisional)
    solo.take(CallEnded)
    (again,) = solo.receive(ok)
    assert isinstance(again, Request) and again.method == "ACK"
    solo.receive(reply(bye, 200))
    solo.quiet()
    assert solo.events == []
    assert solo.endpoint.pending == 0


@pytest.mark.parametrize("outcome", ["487", "broken"])
def test_a_cancelled_call_keeps_nothing_of_itself(outcome: str) -> None:
    """RFC 3261 §9.1: whatever the INVITE's final is; a 2xx that comes after it is ended, not taken."""
    solo = Solo()
    key, sent = dial(solo)
    solo.receive(reply(sent, 180))
    solo.endpoint.hang_up(key, now=0.0)
    if outcome == "487":
        solo.receive(reply(sent, 487))
        assert solo.endpoint.layer.timers.next() is not None
        assert solo.receive(reply(sent, 200)) == []
    else:
        solo.receive(bytes(reply(sent, 200, contact=None)).replace(b"Call-ID:", b"Contact: <sip:\r\nCall-ID:", 1))
        ack, bye = solo.receive(reply(sent, 200))
        assert isinstance(ack, Request) and isinstance(bye, Request)
        assert (ack.method, bye.method) == ("ACK", "BYE")
    solo.take(CallEnded)
    solo.quiet()
    assert solo.endpoint.pending == 0


def test_a_ringing_call_whose_connection_fails_at_the_next_target_ends() -> None:
    """RFC 3263 §4.3: rung by one, refused with 503, and the other is dead."""
    solo = Solo()
    key = solo.endpoint.invite(outgoing(target="sip:+1@carrier.example"), now=0.0)
    targets = tuple(Target(TransportName.UDP, Address(f"192.0.2.{number}", 5060)) for number in (11, 12))
    solo.endpoint.resolved(1, targets, 0.0)
    solo.drain()
    first = solo.requests("INVITE")[-1]
    solo.receive(reply(first, 180))
    solo.take(CallProgressed)
    solo.receive(reply(first, 503))
    solo.endpoint.transport_failed(solo_token(solo.requests("INVITE")[-1]), 0.0)
    solo.drain()
    assert solo.take(CallEnded) == CallEnded(key, Party.LOCAL, Cause.TRANSPORT, 503, "Service Unavailable")


def test_a_cancel_without_effect_is_given_up_after_64_t1() -> None:
    """RFC 3261 §9.1: the UAC considers the transaction cancelled and destroys it."""
    solo = Solo()
    key, sent = dial(solo)
    solo.receive(reply(sent, 180))
    solo.endpoint.hang_up(key, now=0.0)
    assert solo.quiet() == 32.0
    assert solo.endpoint.pending == 0


# --- BYE --------------------------------------------------------------------------------------


def test_our_bye_in_a_call_we_made() -> None:
    """RFC 3261 §15.1.1: the next sequence number, behind the reversed Record-Route."""
    solo = Solo()
    key, sent = dial(solo)
    routes = [("Record-Route", "<sip:192.0.2.66;lr>"), ("Record-Route", "<sip:192.0.2.65:5080;lr>")]
    (ack,) = solo.receive(reply(sent, 200, body=ANSWER, headers=routes, contact="<sip:bob@10.0.0.5>"))
    assert isinstance(ack, Request)
    assert ack.headers.lines("Route") == ["<sip:192.0.2.65:5080;lr>", "<sip:192.0.2.66;lr>"]
    assert solo.target.address == Address("192.0.2.65", 5080)
    solo.take(CallAnswered)
    solo.endpoint.hang_up(key, now=0.0)
    (bye,) = solo.drain()
    assert isinstance(bye, Request)
    assert (bye.uri, str(bye.cseq)) == ("sip:bob@10.0.0.5", "2 BYE")
    assert bye.headers.lines("Route") == ack.headers.lines("Route")
    assert solo.target.address == Address("192.0.2.65", 5080)


def test_the_callees_bye_ends_the_call() -> None:
    """RFC 3261 §15.1.2."""
    solo = Solo()
    key, sent, _ = connected(solo)
    assert sent.from_.tag is not None
    bye = request("BYE", call_id=sent.call_id, from_tag="callee", to_tag=sent.from_.tag, cseq=77)
    (response,) = solo.receive(bye)
    assert isinstance(response, Response) and response.status == 200
    assert solo.take(CallEnded) == CallEnded(key, Party.REMOTE, Cause.BYE)


# --- digest -----------------------------------------------------------------------------------

CHALLENGER = Challenger(bytes(range(32)))


def challenge(
    sent: Request, status: int, *, realm: str = "carrier", algorithms: tuple[str, ...] = ("MD5",), stale: bool = False
) -> Response:
    name = "Proxy-Authenticate" if status == 407 else "WWW-Authenticate"
    values = CHALLENGER.challenge(realm, list(algorithms), "src", 0.0, stale)
    return reply(sent, status, headers=[(name, value) for value in values])


@pytest.mark.parametrize("status", [401, 407])
@pytest.mark.parametrize("algorithms", [("MD5",), ("SHA-256",), ("SHA-256", "MD5")])
def test_a_challenge_is_answered_once(status: int, algorithms: tuple[str, ...]) -> None:
    """RFC 3261 §22.2, RFC 8760: same Call-ID, From tag and target; CSeq one higher; digest over the Request-URI."""
    solo = Solo()
    key, sent = dial(solo, target=f"{TARGET}:5060;transport=udp", username="gw", password="pw", realm="carrier")
    ack, again = solo.receive(challenge(sent, status, algorithms=algorithms))
    assert isinstance(ack, Request) and isinstance(again, Request)
    assert (ack.method, ack.via.branch) == ("ACK", sent.via.branch)
    assert (again.method, again.call_id, again.from_, again.uri) == ("INVITE", sent.call_id, sent.from_, sent.uri)
    assert again.cseq.number == 2
    assert again.via.branch != sent.via.branch
    name = "Proxy-Authorization" if status == 407 else "Authorization"
    value = again.headers.lines(name)[0]
    lookup = {"gw": Credentials("gw", "pw", tuple(algorithms))}.get
    verdict = CHALLENGER.verify(value, "INVITE", again.body, lookup, "src", 0.0)
    assert verdict.kind is VerdictKind.ACCEPTED
    assert f'uri="{again.uri}"' in value
    (ack2,) = solo.receive(reply(again, 200, body=ANSWER))
    assert isinstance(ack2, Request)
    assert ack2.headers.lines(name) == [value]
    assert ack2.cseq.number == 2
    assert solo.take(CallAnswered).key == key


def test_the_response_form_of_rfc_2069_is_given_where_qop_is_not_asked() -> None:
    """A registrar that sends neither qop nor algorithm."""
    solo = Solo()
    _, sent = dial(solo, username="gw", password="pw")
    header = ("WWW-Authenticate", 'Digest realm="sip.telnyx.com", nonce="abc", opaque="2/10.13.246.184"')
    _, again = solo.receive(reply(sent, 401, headers=[header]))
    value = again.headers.lines("Authorization")[0]
    assert "qop" not in value and "cnonce" not in value
    assert 'opaque="2/10.13.246.184"' in value


@pytest.mark.parametrize("stale", [False, True])
def test_wrong_credentials_are_not_tried_again_but_a_stale_nonce_is(stale: bool) -> None:
    """RFC 3261 §22.2, RFC 7616 §3.3: one retry a nonce, and a stale one once."""
    solo = Solo()
    dial(solo, username="gw", password="pw")
    for _ in range(5):
        solo.receive(challenge(solo.requests("INVITE")[-1], 407, stale=stale))
    assert len(solo.requests("INVITE")) == (3 if stale else 2)
    assert solo.take(CallEnded).status == 407


def test_a_challenge_without_credentials_is_a_refusal() -> None:
    """RFC 3261 §22.2."""
    solo = Solo()
    _, sent = dial(solo)
    solo.receive(challenge(sent, 401))
    assert solo.take(CallEnded).status == 401
    assert len(solo.requests("INVITE")) == 1


def test_a_challenge_of_another_realm_draws_no_digest() -> None:
    """A digest is given to the configured realm only."""
    solo = Solo()
    _, sent = dial(solo, username="gw", password="pw", realm="carrier")
    solo.receive(challenge(sent, 407, realm="attacker"))
    assert solo.take(CallEnded).status == 407
    assert len(solo.requests("INVITE")) == 1


def test_a_challenge_from_another_address_draws_no_digest() -> None:
    """Nor to whom guessed the branch."""
    solo = Solo()
    _, sent = dial(solo, username="gw", password="pw")
    solo.receive(challenge(sent, 407), Flow(TransportName.UDP, EDGE, Address("203.0.113.9", 5060)))
    assert solo.take(CallEnded).status == 407
    assert len(solo.requests("INVITE")) == 1


def test_our_bye_answers_a_challenge_too() -> None:
    """RFC 3261 §22.2: with the credentials of the call."""
    solo = Solo()
    key, _, _ = connected(solo, username="gw", password="pw")
    solo.endpoint.hang_up(key, now=0.0)
    (bye,) = solo.drain()
    assert isinstance(bye, Request)
    (again,) = solo.receive(challenge(bye, 407))
    assert isinstance(again, Request)
    assert (again.method, again.cseq.number) == ("BYE", 3)
    assert "Proxy-Authorization" in again.headers


# --- where requests go ------------------------------------------------------------------------


def test_a_name_is_resolved_and_its_targets_tried_in_turn() -> None:
    """RFC 3263 §4.3: a 503, then a dead target, then an answer; a new branch each."""
    solo = Solo()
    solo.endpoint.invite(outgoing(target="sip:+1@carrier.example"), now=0.0)
    solo.drain()
    (query,) = [action for action in solo.actions if isinstance(action, Resolve)]
    assert (query.host, query.port, query.transport, query.secure) == ("carrier.example", None, None, False)
    targets = tuple(Target(TransportName.UDP, Address(f"192.0.2.{number}", 5060)) for number in (11, 12, 13))
    solo.endpoint.resolved(query.query, targets, 0.0)
    solo.drain()
    first = solo.requests("INVITE")[-1]
    solo.receive(reply(first, 503))
    second = solo.requests("INVITE")[-1]
    assert solo.target == targets[1]
    solo.endpoint.transport_failed(solo_token(second), 0.0)
    solo.drain()
    third = solo.requests("INVITE")[-1]
    assert solo.target == targets[2]
    assert len({message.via.branch for message in (first, second, third)}) == 3
    assert first.cseq == third.cseq
    solo.receive(reply(third, 200))
    solo.take(CallAnswered)


def test_the_last_targets_503_ends_the_call_and_so_do_no_targets() -> None:
    """RFC 3263 §4.3."""
    solo = Solo()
    solo.endpoint.invite(outgoing(target="sip:+1@carrier.example"), now=0.0)
    solo.drain()
    solo.endpoint.resolved(1, (Target(TransportName.UDP, PEER),), 0.0)
    solo.drain()
    solo.receive(reply(solo.requests("INVITE")[-1], 503))
    assert solo.take(CallEnded).status == 503
    solo.endpoint.invite(outgoing(target="sip:+1@carrier.example"), now=0.0)
    solo.endpoint.resolved(2, (), 0.0)
    solo.drain()
    assert solo.take(CallEnded).cause is Cause.TRANSPORT


def test_a_resolver_that_never_answers_ends_the_call() -> None:
    """No question without a bound; an answer that comes later is ignored."""
    solo = Solo()
    solo.endpoint.invite(outgoing(target="sip:+1@carrier.example"), now=0.0)
    solo.drain()
    solo.advance(10.0)
    assert solo.take(CallEnded).cause is Cause.TRANSPORT
    solo.endpoint.resolved(1, (Target(TransportName.UDP, PEER),), 10.0)
    assert solo.drain() == []
    solo.quiet()
    assert solo.endpoint.pending == 0


def test_hanging_up_while_resolving_sends_nothing() -> None:
    """RFC 3261 §9.1."""
    solo = Solo()
    key = solo.endpoint.invite(outgoing(target="sip:+1@carrier.example"), now=0.0)
    solo.endpoint.hang_up(key, now=0.0)
    solo.endpoint.resolved(1, (Target(TransportName.UDP, PEER),), 0.0)
    assert solo.drain() == []
    solo.take(CallEnded)
    assert solo.endpoint.pending == 0


@pytest.mark.parametrize(
    ("target", "transport", "address"),
    [
        ("sip:a@192.0.2.7", TransportName.UDP, "192.0.2.7:5060"),
        ("sip:a@192.0.2.7:5099;transport=TCP", TransportName.TCP, "192.0.2.7:5099"),
        ("sip:a@192.0.2.7;transport=tls", TransportName.TLS, "192.0.2.7:5061"),
        ("sips:a@192.0.2.7", TransportName.TLS, "192.0.2.7:5061"),
        ("sips:a@192.0.2.7;transport=tcp", TransportName.TLS, "192.0.2.7:5061"),
        ("sip:a@[2001:db8::7]", TransportName.UDP, "[2001:db8::7]:5060"),
        ("sip:a@carrier.example;maddr=192.0.2.9", TransportName.UDP, "192.0.2.9:5060"),
    ],
)
def test_an_address_literal_needs_no_dns(target: str, transport: TransportName, address: str) -> None:
    """RFC 3263 §4.1, §4.2."""
    solo = Solo()
    dial(solo, target=target)
    assert (solo.target.transport, str(solo.target.address)) == (transport, address)


@pytest.mark.parametrize(
    ("next_hop", "transport", "address"),
    [
        ("192.0.2.9", TransportName.UDP, "192.0.2.9:5060"),
        ("192.0.2.9:5070", TransportName.UDP, "192.0.2.9:5070"),
        ("192.0.2.9:5070;tcp", TransportName.TCP, "192.0.2.9:5070"),
        ("192.0.2.9;transport=tls", TransportName.TLS, "192.0.2.9:5061"),
        ("[2001:db8::9]:5070;udp", TransportName.UDP, "[2001:db8::9]:5070"),
        ("sip:192.0.2.9;transport=tcp;lr", TransportName.TCP, "192.0.2.9:5060"),
    ],
)
def test_a_next_hop_overrides_where_it_goes_and_not_what_it_says(
    next_hop: str, transport: TransportName, address: str
) -> None:
    """An outbound proxy, or a carrier's proxy picked by the trunk."""
    solo = Solo()
    _, sent = dial(solo, next_hop=next_hop)
    assert sent.uri == TARGET
    assert (solo.target.transport, str(solo.target.address)) == (transport, address)


def test_over_tcp_via_and_contact_say_so() -> None:
    """RFC 3261 §18.1.1, §8.1.1.8."""
    solo = Solo()
    _, sent = dial(solo, target=f"{TARGET};transport=tcp")
    assert sent.headers.lines("Via")[0].startswith("SIP/2.0/TCP 192.0.2.1:5060;rport;")
    assert sent.headers.get("Contact") == "<sip:+14155550199@192.0.2.1:5060;transport=tcp>"


def test_a_large_request_goes_by_tcp_and_back_to_udp_where_tcp_is_refused() -> None:
    """RFC 3261 §18.1.1: beyond 1300 octets; the Via changes with the transport."""
    solo = Solo()
    dial(solo, headers=(("X-Long", "x" * 1200),))
    sent = solo.requests("INVITE")[-1]
    assert len(bytes(sent)) > 1300
    assert solo.target.transport is TransportName.TCP
    assert sent.via.transport == "TCP"
    solo.endpoint.transport_failed(solo_token(sent), 0.0)
    solo.drain()
    again = solo.requests("INVITE")[-1]
    assert solo.target.transport is TransportName.UDP
    assert again.via.transport == "UDP"
    assert solo.events == []


def test_just_under_the_limit_udp_will_do() -> None:
    """RFC 3261 §18.1.1."""
    solo = Solo()
    _, sent = dial(solo)
    room = 1300 - len(bytes(sent)) - len("X-Long: \r\n")
    dial(solo, headers=(("X-Long", "x" * room),))
    assert len(bytes(solo.requests("INVITE")[-1])) == 1300
    assert solo.target.transport is TransportName.UDP


def test_the_public_host_stands_in_via_and_contact() -> None:
    """Behind NAT the listener's own address helps nobody."""
    solo = Solo(public_host="edge.example.com")
    _, sent = dial(solo)
    assert sent.headers.lines("Via")[0].startswith("SIP/2.0/UDP edge.example.com:5060;")
    assert sent.headers.get("Contact") == "<sip:+14155550199@edge.example.com:5060>"


def test_without_a_listener_of_the_transport_the_contact_names_one_that_there_is() -> None:
    """A client that listens on UDP alone, sending a large INVITE by TCP."""
    solo = Solo(transports=(TransportName.UDP,))
    _, sent = dial(solo, headers=(("X-Long", "x" * 1200),))
    assert sent.via.transport == "TCP"
    assert sent.headers.get("Contact") == "<sip:+14155550199@192.0.2.1:5060>"


def test_a_call_made_over_a_connection_stays_on_it() -> None:
    """Without routes the ACK and the BYE go where the 2xx came from; the Contact is the fallback."""
    solo = Solo()
    key, sent = dial(solo, target=f"{TARGET};transport=tcp")
    flow = Flow(TransportName.TCP, EDGE, PEER, 9)
    solo.receive(reply(sent, 200, contact="<sip:bob@10.0.0.5:5070;transport=tcp>"), flow)
    solo.endpoint.hang_up(key, now=0.0)
    solo.drain()
    ack, bye = solo.actions[-2:]
    assert isinstance(ack, Transmit) and isinstance(bye, Transmit)
    assert ack.flow == bye.flow == flow
    assert bye.fallback == Target(TransportName.TCP, Address("10.0.0.5", 5070), "10.0.0.5")


# --- OPTIONS ----------------------------------------------------------------------------------


def test_our_options_is_answered_or_not() -> None:
    """RFC 3261 §11.1; 408 when nobody answers."""
    solo = Solo()
    key = solo.endpoint.options("sip:192.0.2.7", now=0.0)
    (ping,) = solo.drain()
    assert isinstance(ping, Request) and ping.method == "OPTIONS"
    solo.receive(reply(ping, 503))
    assert solo.take(OptionsAnswered) == OptionsAnswered(key, 503, "Service Unavailable")
    key = solo.endpoint.options("192.0.2.7:5070;tcp", now=0.0)
    solo.quiet()
    assert solo.take(OptionsAnswered) == OptionsAnswered(key, 408, "Request Timeout")
    key = solo.endpoint.options("no host!", now=0.0)
    solo.drain()
    assert solo.take(OptionsAnswered).key == key
    assert solo.endpoint.pending == 0
