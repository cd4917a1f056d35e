"""The engine's front door: who is let in, what is answered without a call, and what is not answered at all."""

from __future__ import annotations

import logging

import pytest

from edge.actions import Transmit
from edge.events import Address, CallKey, CallOffered, Event, Flow, Refusal, TransportName
from edge.ladder import TraceEntry
from edge.message import Request, Response
from edge.throttle import Throttle
from edge.trunks import TrunkRule
from tests.edge.pair import ANSWER, DIGEST, EDGE, LAB, PEER, STRANGER, Solo, in_dialog, invite, request

ALLOW = "INVITE, ACK, CANCEL, BYE, OPTIONS, NOTIFY, UPDATE, PRACK, INFO"


def only(messages: list[Request | Response]) -> Response:
    """The one response among what was just sent."""
    assert len(messages) == 1, messages
    assert isinstance(messages[0], Response)
    return messages[0]


def established(solo: Solo) -> tuple[CallKey, Response]:
    key = solo.offered()
    solo.endpoint.answer(key, ANSWER, now=solo.now)
    solo.drain()
    ok = solo.sent[-1]
    assert isinstance(ok, Response)
    solo.receive(in_dialog("ACK", ok, cseq=1))
    solo.events.clear()
    return key, ok


# --- OPTIONS ----------------------------------------------------------------------------------


def test_options_tells_what_we_can_do() -> None:
    """RFC 3261 §11.2; stateless, so that a flood of them costs no memory."""
    solo = Solo()
    response = only(solo.receive(request("OPTIONS")))
    assert response.status == 200
    assert response.headers.get("Allow") == ALLOW
    assert response.headers.get("Accept") == "application/sdp"
    assert response.headers.get("Supported") == "timer, 100rel"
    assert response.to.tag
    assert solo.endpoint.pending == 0


def test_options_says_503_while_draining() -> None:
    """A load balancer that asks is told to look elsewhere."""
    solo = Solo()
    solo.endpoint.draining = True
    response = only(solo.receive(request("OPTIONS")))
    assert response.status == 503
    assert response.headers.get("Retry-After") == "5"


def test_options_in_a_dialog_is_answered_too() -> None:
    """RFC 3261 §11: some peers use it as a heartbeat; draining or not, the call is alive."""
    solo = Solo()
    _, ok = established(solo)
    solo.endpoint.draining = True
    response = only(solo.receive(in_dialog("OPTIONS", ok, cseq=2)))
    assert response.status == 200
    assert response.headers.get("Allow") == ALLOW


def test_the_same_request_gets_the_same_answer_without_a_transaction() -> None:
    """RFC 3261 §8.2.7: the To tag is the same for each copy, and differs between requests."""
    solo = Solo()
    one, other = request("OPTIONS"), request("OPTIONS")
    first, second, third = (only(solo.receive(message)) for message in (one, one, other))
    assert first.to.tag == second.to.tag
    assert first.to.tag != third.to.tag


# --- who is calling ---------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["INVITE", "OPTIONS", "REGISTER", "BYE", "CANCEL", "ACK", "FOO"])
def test_an_unlisted_source_hears_nothing(method: str) -> None:
    """Not one octet, for any method, in a dialog or out of one; counted by source."""
    solo = Solo()
    solo.peer = STRANGER
    for message in (request(method), request(method, to_tag="x")):
        assert solo.receive(message) == []
    solo.receive(b"INVITE sip:x SIP/9.9\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\n\r\n")
    solo.receive(b"\x00\xff rubbish \r\n\r\n")
    assert solo.sent == []
    assert solo.events == []
    assert solo.endpoint.pending == 0
    assert solo.counters.get("sip_messages_dropped", source=STRANGER.host) == 4


def test_with_a_digest_trunk_open_to_all_a_stranger_is_challenged_without_state() -> None:
    """407, stateless, never resent; its ACK vanishes."""
    solo = Solo(rules=(DIGEST,))
    solo.peer = STRANGER
    original = invite()
    response = only(solo.receive(original))
    assert response.status == 407
    (value,) = response.headers.lines("Proxy-Authenticate")
    assert "algorithm=MD5" in value
    assert solo.receive(request("ACK", branch=original.via.branch, to_tag=response.to.tag)) == []
    assert solo.counters.get("sip_messages_dropped", source=STRANGER.host) == 0, "the ACK of a challenge is no drop"
    assert solo.receive(request("ACK", branch=original.via.branch, to_tag="guessed")) == []
    assert solo.counters.get("sip_messages_dropped", source=STRANGER.host) == 1
    assert solo.endpoint.pending == 0
    assert solo.endpoint.next_timer() is None
    assert len(bytes(response)) <= 1.5 * len(bytes(original))


def test_a_strangers_tiny_request_is_not_answered_with_a_far_larger_one() -> None:
    """A forged source would be flooded with our answers: over UDP they are at most half as much again."""
    solo = Solo(rules=(DIGEST,))
    solo.peer = STRANGER
    tiny = (
        b"OPTIONS sip:a@b SIP/2.0\r\nv:SIP/2.0/UDP 198.51.100.66;branch=z9hG4bK1\r\nMax-Forwards:9\r\n"
        b"f:<sip:a@b>;tag=1\r\nt:<sip:a@b>\r\ni:1\r\nCSeq:1 OPTIONS\r\n"
    )
    assert solo.receive(tiny + b"\r\n") == []
    assert len(solo.receive(tiny + b"Subject:" + 300 * b"x" + b"\r\n\r\n")) == 1


def test_the_right_digest_is_let_in_as_its_user() -> None:
    """RFC 3261 §22.3: same Call-ID, CSeq one higher."""
    from edge.auth import answer_challenge
    from edge.events import Identification

    solo = Solo(rules=(DIGEST,))
    solo.peer = STRANGER
    challenged = only(solo.receive(invite(cseq=1)))
    uri = "sip:+14155550100@192.0.2.1"
    values = challenged.headers.lines("Proxy-Authenticate")
    answer = answer_challenge(values, "INVITE", uri, "alice", "secret of alice", "0a4f113b", 1)
    assert answer is not None
    solo.receive(invite(cseq=2, headers=[("Proxy-Authorization", answer)]))
    offered = solo.take(CallOffered)
    assert (offered.trunk, offered.identified_by, offered.identity) == ("phones", Identification.DIGEST, "alice")


def test_requests_in_a_dialog_are_never_challenged() -> None:
    """Nor ACK, nor CANCEL: a lost nonce must not cost a call."""
    solo = Solo(rules=(DIGEST, LAB))
    _, ok = established(solo)
    moved = Flow(TransportName.UDP, EDGE, STRANGER)
    assert only(solo.receive(in_dialog("BYE", ok, cseq=2), moved)).status == 200
    assert only(solo.receive(in_dialog("BYE", ok, cseq=9), moved)).status == 481
    assert only(solo.receive(request("CANCEL"), moved)).status == 481


def test_a_flood_from_a_stranger_is_throttled_before_it_is_challenged() -> None:
    """Beyond the bucket there is not even a challenge."""
    solo = Solo(rules=(DIGEST,), throttle=Throttle(1.0, 2))
    solo.peer = STRANGER
    assert [len(solo.receive(invite())) for _ in range(4)] == [1, 1, 0, 0]
    solo.now += 1.0
    assert len(solo.receive(invite())) == 1


def test_a_strangers_stray_and_broken_requests_count_against_its_bucket_too() -> None:
    """No reflector: with an open digest trunk a forged source could draw 481s and 400s at will."""
    solo = Solo(rules=(DIGEST,), throttle=Throttle(1.0, 3))
    solo.peer = STRANGER
    broken = bytes(invite()).replace(b"CSeq: 1 INVITE", b"CSeq: 1 BYE")
    for message in (request("BYE", to_tag="x"), request("CANCEL"), broken):
        assert len(solo.receive(message)) == 1
    for message in (request("BYE", to_tag="x"), request("CANCEL"), broken):
        assert solo.receive(message) == []
    assert solo.counters.get("sip_messages_dropped", reason="throttled") == 3


def test_a_listed_source_over_its_rate_gets_503_and_when_to_come_back() -> None:
    """Recognised first, throttled by identity: a carrier's address is all its customers'."""
    solo = Solo(throttle=Throttle(1.0, 2))
    statuses = [only(solo.receive(request("OPTIONS"))).status for _ in range(3)]
    assert statuses == [200, 200, 503]
    assert isinstance(solo.sent[-1], Response)
    assert solo.sent[-1].headers.get("Retry-After") == "1"


def test_calls_that_no_number_is_found_for_are_no_abuse() -> None:
    """404 as often as they come, and nothing held against their source: what limits it is its rate alone."""
    solo = Solo(throttle=Throttle(1.0, 5))
    for attempt in range(50):
        key = solo.offered(call_id=f"{attempt}@192.0.2.7")
        solo.endpoint.refuse(key, Refusal(404, "tried +14155550100"), now=solo.now)
        assert [message.status for message in solo.drain() if isinstance(message, Response)] == [404]
        solo.advance(1.0)
    assert solo.offered(call_id="last@192.0.2.7")


def test_a_refused_identity_gets_its_refusal() -> None:
    """A carrier's shared addresses select no trunk by themselves."""
    carrier = TrunkRule("carrier", LAB.networks, auth="registration", shared_addresses=True)
    solo = Solo(rules=(carrier,))
    assert only(solo.receive(invite())).status == 403
    assert solo.endpoint.pending == 0


# --- what we do not do ------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["REGISTER", "SUBSCRIBE", "MESSAGE", "REFER", "PUBLISH", "DANCE"])
@pytest.mark.parametrize("inside", [False, True])
def test_other_methods_get_405_with_allow(method: str, inside: bool) -> None:
    """RFC 3261 §8.2.1; REFER among them, so nothing that arrives makes us call."""
    solo = Solo()
    _, ok = established(solo)
    message = in_dialog(method, ok, cseq=2) if inside else request(method)
    response = only(solo.receive(message))
    assert response.status == 405
    assert response.headers.get("Allow") == ALLOW
    assert solo.events == []


def test_methods_are_case_sensitive() -> None:
    """RFC 3261 §7.1."""
    assert only(Solo().receive(request("invite"))).status == 405


def test_an_unknown_required_extension_is_named() -> None:
    """RFC 3261 §8.2.2.3."""
    solo = Solo()
    response = only(solo.receive(invite(headers=[("Require", "path, timer"), ("Require", "replaces")])))
    assert response.status == 420
    assert response.headers.get("Unsupported") == "path, replaces"
    assert solo.events == []


def test_supported_and_proxy_require_are_no_demands_on_a_uas() -> None:
    """RFC 3261 §8.2.2.3."""
    solo = Solo()
    solo.receive(invite(headers=[("Supported", "100rel"), ("Proxy-Require", "strange")]))
    solo.take(CallOffered)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([("Content-Type", "text/plain")], ("Accept", "application/sdp")),
        ([("Content-Type", "multipart/mixed;boundary=x")], ("Accept", "application/sdp")),
        ([("Content-Encoding", "gzip")], ("Accept-Encoding", "identity")),
    ],
)
def test_a_body_we_cannot_read_gets_415(headers: list[tuple[str, str]], expected: tuple[str, str]) -> None:
    """RFC 3261 §8.2.3."""
    solo = Solo()
    response = only(solo.receive(invite(headers=headers)))
    assert response.status == 415
    assert response.headers.get(expected[0]) == expected[1]


def test_an_optional_body_is_ignored() -> None:
    """RFC 3261 §20.11: ``handling=optional``; the call is then one without an offer."""
    solo = Solo()
    headers = [("Content-Type", "text/plain"), ("Content-Disposition", "render; handling=optional")]
    solo.receive(invite(headers=headers))
    assert solo.take(CallOffered).offer is None


@pytest.mark.parametrize("spelling", ["application/SDP", "application/sdp;charset=utf-8", "Application/Sdp ; a=b"])
def test_sdp_is_recognised_however_it_is_spelt(spelling: str) -> None:
    """RFC 3261 §7.3.1: types compare without case, parameters do not matter."""
    solo = Solo()
    solo.receive(invite(headers=[("Content-Type", spelling)]))
    assert solo.take(CallOffered).offer is not None


def test_an_unknown_uri_scheme_gets_416_and_a_tel_uri_is_fine() -> None:
    """RFC 3261 §8.2.2.1."""
    solo = Solo()
    assert only(solo.receive(invite(uri="nobodyKnowsThisScheme:totallyopaque"))).status == 416
    solo.receive(invite(uri="tel:+14155550199"))
    assert solo.take(CallOffered).dialed[0] == "+14155550199"


def test_max_forwards_0_does_not_trouble_a_uas() -> None:
    """RFC 3261 §8.2.2: it is a proxy's business."""
    solo = Solo()
    raw = bytes(invite()).replace(b"Max-Forwards: 70", b"Max-Forwards: 0")
    solo.receive(raw)
    solo.take(CallOffered)


def test_the_same_invite_by_another_path_gets_482() -> None:
    """RFC 3261 §8.2.2.2: same Call-ID, From tag and CSeq, another branch; one call."""
    solo = Solo()
    solo.receive(invite(branch="z9hG4bK-path1"))
    for path in range(2, 8):
        assert only(solo.receive(invite(branch=f"z9hG4bK-path{path}"))).status == 482
    solo.take(CallOffered)
    assert solo.endpoint.calls == 1


def test_a_new_attempt_with_a_higher_cseq_is_no_merged_request() -> None:
    """RFC 3261 §8.2.2.2: as after a 407 or 503."""
    solo = Solo()
    key = solo.offered(cseq=1)
    solo.endpoint.refuse(key, Refusal(503, ""), now=0.0)
    solo.drain()
    solo.receive(invite(cseq=2))
    assert len([event for event in solo.events if isinstance(event, CallOffered)]) == 1


def test_draining_refuses_new_calls_and_keeps_old_ones(caplog: pytest.LogCaptureFixture) -> None:
    """503 with Retry-After, and the log says so; a call that is up ends as it likes."""
    caplog.set_level(logging.INFO, "edge.endpoint")
    solo = Solo()
    _, ok = established(solo)
    solo.endpoint.draining = True
    response = only(solo.receive(invite(call_id="another")))
    assert (response.status, response.headers.get("Retry-After")) == (503, "5")
    (record,) = caplog.records
    assert "refused method=INVITE status=503 reason=draining" in record.message
    assert only(solo.receive(in_dialog("BYE", ok, cseq=2))).status == 200
    assert solo.endpoint.calls == 0


@pytest.mark.parametrize("settings", [{"max_transactions": 3}, {"max_calls": 3}])
def test_beyond_its_bounds_the_engine_says_503_and_keeps_no_state(settings: dict[str, int]) -> None:
    """Every request costs bounded memory; those in a call still work."""
    solo = Solo(**settings)
    for number in range(3):
        solo.receive(invite(call_id=f"c{number}"))
    pending = solo.endpoint.pending
    response = only(solo.receive(invite(call_id="one-too-many")))
    assert (response.status, response.headers.get("Retry-After")) == (503, "5")
    assert solo.endpoint.pending == pending
    assert only(solo.receive(request("OPTIONS"))).status == 200


# --- in a dialog ------------------------------------------------------------------------------


def test_a_lower_cseq_gets_500_and_a_jump_is_fine() -> None:
    """RFC 3261 §12.2.2."""
    solo = Solo()
    _, ok = established(solo)
    assert only(solo.receive(in_dialog("OPTIONS", ok, cseq=900))).status == 200
    assert only(solo.receive(in_dialog("OPTIONS", ok, cseq=899))).status == 500
    assert only(solo.receive(in_dialog("BYE", ok, cseq=901))).status == 200


@pytest.mark.parametrize("via", ["SIP/2.0/UDP 10.0.0.9:5060", "SIP/2.0/UDP 10.0.0.9:5060;branch=1;rport"])
def test_a_repeated_invite_of_an_old_peer_behind_a_nat_is_one_call(via: str) -> None:
    """RFC 3261 §17.2.3: without the magic cookie the Vias are compared as they were sent; no second one is merged."""
    solo = Solo()
    offer = invite(via=via)
    solo.receive(offer)
    again = solo.receive(offer)
    assert [response.status for response in again if isinstance(response, Response)] == [100]
    solo.take(CallOffered)
    assert not solo.events


def test_a_repeated_request_in_a_dialog_is_absorbed() -> None:
    """RFC 3261 §17.2.2: the copy is no request out of order."""
    solo = Solo()
    _, ok = established(solo)
    ping = in_dialog("OPTIONS", ok, cseq=2)
    first = only(solo.receive(ping))
    solo.receive(in_dialog("OPTIONS", ok, cseq=3))
    assert bytes(only(solo.receive(ping))) == bytes(first)


@pytest.mark.parametrize("method", ["INVITE", "BYE", "OPTIONS", "INFO", "UPDATE", "NOTIFY"])
def test_a_request_of_an_unknown_dialog_gets_481(method: str) -> None:
    """RFC 3261 §12.2.2: after a restart, say."""
    solo = Solo()
    response = only(solo.receive(request(method, to_tag="before-the-crash")))
    assert response.status == 481
    assert solo.endpoint.pending == 0


def test_an_ack_of_nothing_is_never_answered() -> None:
    """RFC 3261 §17.1.1.3: there is no response to an ACK."""
    solo = Solo()
    for message in (request("ACK"), request("ACK", to_tag="x"), request("ACK", headers=[("Require", "x")])):
        assert solo.receive(message) == []
    raw = bytes(request("ACK")).replace(b"CSeq: 1 ACK", b"CSeq: 1 INVITE")
    assert solo.receive(raw) == []


# --- what does not parse ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b" SIP/2.0\r\n", b" SIP/7.0\r\n", 505),
        (b"CSeq: 1 INVITE", b"CSeq: 1 BYE", 400),
        (b"CSeq: 1 INVITE", b"CSeq: 99999999999 INVITE", 400),
        (b"Max-Forwards: 70", b"Max-Forwards: 700", 400),
        (b"Call-ID: call@192.0.2.7\r\n", b"", 400),
        (b"To: ", b"To: <sip:a@h>\r\nTo: ", 400),
        (b"Contact: <sip:alice@192.0.2.7:5060>", b"Contact: alice", 400),
        (b"Contact: <sip:alice@192.0.2.7:5060>\r\n", b"", 400),
        (b"Max-Forwards: 70", b"Expires: soon", 400),
        (b"Max-Forwards: 70", b"Require: ,", 400),
        (b"Max-Forwards: 70", b"Record-Route: <sip:p", 400),
        (b"Max-Forwards: 70", b"no colon", 400),
        (b"INVITE sip:", b"INVITE  sip:", 400),
        (b"Content-Type: application/sdp", b"Content-Type: sdp", 400),
    ],
)
def test_a_broken_invite_of_a_known_source_gets_its_code_and_no_state(old: bytes, new: bytes, status: int) -> None:
    """RFC 3261 §8.2, §16.3: answered statelessly; the reason is ours, no remote text comes back in it."""
    solo = Solo()
    raw = bytes(invite())
    assert old in raw
    response = only(solo.receive(raw.replace(old, new, 1)))
    assert response.status == status
    assert solo.events == []
    assert solo.endpoint.pending == 0
    assert response.via.received or response.via.host == PEER.host


def test_what_cannot_be_answered_is_dropped_and_counted() -> None:
    """No Via, no answer."""
    solo = Solo()
    for raw in (
        b"INVITE sip:a@b SIP/2.0\r\n\r\n",
        b"SIP/2.0 999 x\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01",
    ):
        assert solo.receive(raw) == []
    assert solo.counters.get("sip_messages_dropped", source=PEER.host) == 4


@pytest.mark.parametrize("data", [b"", b"\r\n\r\n", b"\0", b"\r\n", b"\0\0\0\0"])
def test_keep_alives_are_no_messages(data: bytes) -> None:
    """RFC 5626 §3.5.1, and what user agents send in its stead."""
    seen: list[TraceEntry] = []
    solo = Solo(trace=seen.append)
    assert solo.receive(data) == []
    assert solo.counters.snapshot() == {}
    assert seen == []


def test_a_response_to_nothing_is_dropped() -> None:
    """RFC 3261 §18.1.2: never answered, nor is one that does not parse."""
    solo = Solo()
    good = Response.create(
        200,
        [
            ("Via", "SIP/2.0/UDP h;branch=z9hG4bKx"),
            ("From", "<sip:a@h>;tag=1"),
            ("To", "<sip:a@h>"),
            ("Call-ID", "c"),
            ("CSeq", "1 INVITE"),
        ],
    )
    for raw in (bytes(good), bytes(good).replace(b"CSeq: 1 INVITE", b"CSeq: x"), b"SIP/2.0 200 OK\r\n\r\n"):
        assert solo.receive(raw) == []
    assert solo.counters.get("sip_messages_dropped", source=PEER.host) == 3


def test_a_broken_message_handed_in_by_the_shell_is_answered_the_same_way() -> None:
    """The framing of a stream failed; the shell closes it afterwards (RFC 3261 §18.3)."""
    from edge.uri import ParseError

    solo = Solo()
    flow = Flow(TransportName.TCP, EDGE, PEER, 1)
    solo.endpoint.malformed(bytes(invite()), ParseError(413, "message too large"), flow, 0.0)
    response = only(solo.drain())
    assert response.status == 413
    assert isinstance(solo.actions[-1], Transmit) and solo.actions[-1].flow == flow


# --- commands ---------------------------------------------------------------------------------


def test_commands_for_unknown_or_ended_calls_are_ignored_and_counted() -> None:
    """A call may end while its user makes up their mind."""
    solo = Solo()
    endpoint, key = solo.endpoint, CallKey("nobody")
    endpoint.ring(key, now=0.0)
    endpoint.answer(key, b"", now=0.0)
    endpoint.refuse(key, Refusal(404, ""), now=0.0)
    endpoint.hang_up(key, now=0.0)
    endpoint.accept_offer(key, b"", now=0.0)
    endpoint.refuse_offer(key, Refusal(488, ""), now=0.0)
    endpoint.reoffer(key, b"", now=0.0)
    endpoint.unregister("nobody", now=0.0)
    assert solo.counters.get("sip_commands_ignored") == 8
    assert solo.drain() == []


def test_commands_that_make_no_sense_now_are_ignored_and_counted() -> None:
    """Ringing an answered call, answering it again, a status that is none."""
    solo = Solo()
    key, _ = established(solo)
    endpoint = solo.endpoint
    endpoint.ring(key, now=0.0)
    endpoint.answer(key, ANSWER, now=0.0)
    endpoint.refuse(key, Refusal(486, ""), now=0.0)
    endpoint.accept_offer(key, ANSWER, now=0.0)
    endpoint.progress(key, 200, b"", now=0.0)
    endpoint.refuse(key, Refusal(200, ""), now=0.0)
    endpoint.refuse_offer(key, Refusal(199, ""), now=0.0)
    assert solo.counters.get("sip_commands_ignored") == 7
    assert solo.drain() == []
    assert solo.events == []


def test_keys_are_unique() -> None:
    """In the life of one engine."""
    solo = Solo()
    keys = [solo.offered(call_id=f"c{number}") for number in range(20)]
    assert len(set(keys)) == 20


def test_the_trace_sees_every_message_both_ways() -> None:
    """What the ladder is drawn from."""
    seen: list[TraceEntry] = []
    solo = Solo(trace=seen.append)
    solo.receive(invite())
    assert [(entry.sent, entry.first_line) for entry in seen] == [
        (False, "INVITE sip:+14155550100@192.0.2.1 SIP/2.0"),
        (True, "SIP/2.0 100 Trying"),
    ]
    assert {entry.call_id for entry in seen} == {"call@192.0.2.7"}
    assert seen[0].note == "SDP"


def test_events_and_actions_are_drained() -> None:
    """Each is handed out once."""
    solo = Solo()
    solo.endpoint.receive(bytes(invite()), solo.flow, 0.0)
    events: list[Event] = solo.endpoint.events()
    assert len(events) == 1
    assert len(solo.endpoint.actions()) == 1
    assert solo.endpoint.events() == []
    assert solo.endpoint.actions() == []


def test_a_source_with_an_odd_address_is_no_danger() -> None:
    """Link-local zones and mapped addresses come from real sockets."""
    solo = Solo()
    for host in ("fe80::1%eth0", "::ffff:192.0.2.7", "not an address"):
        solo.peer = Address(host, 5060)
        solo.receive(request("OPTIONS"))
    assert solo.statuses() == [200]
