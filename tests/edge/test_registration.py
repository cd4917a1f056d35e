"""Keeping a binding at a registrar (RFC 3261 §10.2): granted times, 401, 423, failures, removal, keep-alive."""

from __future__ import annotations

import itertools
import re

import pytest

from edge.actions import Close, Resolve, Target, Transmit
from edge.events import (
    Address,
    CallOffered,
    Flow,
    Identification,
    Registered,
    RegistrationFailed,
    RegistrationSpec,
    TransportName,
)
from edge.message import Request, Response
from edge.registration import TRANSITIONS, Action, Input, Registration, State, retry_delay_s
from edge.trunks import TOKEN_PARAMETER, TrunkRule
from tests.edge.pair import EDGE, PEER, STRANGER, Solo, invite, reply

CARRIER = TrunkRule("carrier", auth="registration")
CHALLENGE = ("WWW-Authenticate", 'Digest realm="sip.telnyx.com", nonce="abc", opaque="2/10"')


def spec(**options: object) -> RegistrationSpec:
    fields = {
        "name": "carrier",
        "registrar": "sip:192.0.2.7",
        "address_of_record": "sip:gw@sip.telnyx.com",
        "username": "gw",
        "password": "pw",
        "contact_user": "gw",
        "contact_parameters": (("tk", "0123456789abcdef"),),
        **options,
    }
    return RegistrationSpec(**fields)  # type: ignore[arg-type]


def registering(solo: Solo, **options: object) -> Request:
    """A REGISTER goes out."""
    solo.endpoint.register(spec(**options), now=solo.now)
    solo.drain()
    return latest(solo)


def latest(solo: Solo) -> Request:
    return solo.requests("REGISTER")[-1]


def grant(sent: Request, expires: int | None = 3600, *, others: bool = True) -> Response:
    """A 200 that lists the bindings."""
    ours = sent.headers.lines("Contact")[0].partition(">")[0] + ">"
    contacts = [f"<sip:other@198.51.100.1>;expires=99, {ours}" + ("" if expires is None else f";expires={expires}")]
    return reply(sent, 200, headers=[("Contact", contacts[0] if others else contacts[0].partition(", ")[2])])


def attempts(solo: Solo) -> list[float]:
    """When new REGISTERs went out: without retransmissions."""
    seen: set[int] = set()
    times = []
    for at, message in zip(solo.times, solo.sent, strict=True):
        if isinstance(message, Request) and message.method == "REGISTER" and message.cseq.number not in seen:
            seen.add(message.cseq.number)
            times.append(at)
    return times


# --- the REGISTER -----------------------------------------------------------------------------


def test_the_register_carries_what_the_rfc_and_the_carrier_ask() -> None:
    """RFC 3261 §10.2: no user in the Request-URI, one Contact with our token, no To tag."""
    solo = Solo()
    sent = registering(solo)
    assert sent.uri == "sip:192.0.2.7"
    assert str(sent.to) == "<sip:gw@sip.telnyx.com>"
    assert str(sent.from_.uri) == "sip:gw@sip.telnyx.com"
    assert sent.headers.lines("Contact") == ["<sip:gw@192.0.2.1:5060;tk=0123456789abcdef>;expires=3600"]
    assert sent.headers.get("Expires") == "3600"
    assert str(sent.cseq) == "1 REGISTER"
    assert sent.body == b""


@pytest.mark.parametrize("registrar", ["192.0.2.7:5070", "sip:192.0.2.7:5070;transport=udp"])
def test_the_registrar_may_be_a_host_or_a_uri(registrar: str) -> None:
    """What operators write."""
    solo = Solo()
    assert registering(solo, registrar=registrar).uri == "sip:192.0.2.7:5070"


def test_the_transport_of_the_contact_follows_the_registration() -> None:
    """The carrier calls back by it."""
    solo = Solo()
    sent = registering(solo, next_hop="192.0.2.9:5070;tcp")
    contact = sent.headers.lines("Contact")[0]
    assert contact == "<sip:gw@192.0.2.1:5060;transport=tcp;tk=0123456789abcdef>;expires=3600"
    assert solo.target == Target(TransportName.TCP, Address("192.0.2.9", 5070), "192.0.2.9")


@pytest.mark.parametrize(
    "challenge",
    [
        'Digest realm="r", nonce="n1"',
        'Digest realm="r", nonce="n1", algorithm=MD5, qop="auth"',
        'Digest realm="r", nonce="n1", algorithm=SHA-256, qop="auth,auth-int", opaque="o"',
    ],
)
def test_a_401_is_answered_with_and_without_qop(challenge: str) -> None:
    """RFC 3261 §22.2, RFC 2069's form; the same Call-ID, the next sequence number."""
    solo = Solo()
    sent = registering(solo)
    (again,) = solo.receive(reply(sent, 401, headers=[("WWW-Authenticate", challenge)]))
    assert isinstance(again, Request)
    assert (again.call_id, again.cseq.number, again.from_.tag) == (sent.call_id, 2, sent.from_.tag)
    value = again.headers.lines("Authorization")[0]
    assert f'uri="{again.uri}"' in value
    assert ("qop=auth" in value) == ("qop" in challenge)
    solo.receive(grant(again))
    assert solo.take(Registered) == Registered("carrier", 3600, others=1)


# --- refreshing -------------------------------------------------------------------------------


def test_it_refreshes_at_50_to_80_percent_of_what_was_granted() -> None:
    """RFC 3261 §10.2.4: not of what was asked; apart from each other."""
    moments = []
    for seed in range(60):
        solo = Solo(seed=seed)
        solo.receive(grant(registering(solo), 3457))
        assert solo.take(Registered).expires_s == 3457
        solo.advance(3457.0)
        moments.append(attempts(solo)[1])
    assert all(0.5 * 3457 <= moment <= 0.8 * 3457 for moment in moments)
    assert max(moments) - min(moments) > 0.2 * 3457


def test_a_refresh_is_the_same_registration() -> None:
    """RFC 3261 §10.2.4: Call-ID kept, CSeq rising."""
    solo = Solo()
    first = registering(solo)
    solo.receive(grant(first, 60))
    solo.advance(48.0)
    second = latest(solo)
    assert (second.call_id, second.cseq.number) == (first.call_id, 2)
    solo.receive(grant(second, 60))
    assert [event.expires_s for event in solo.events if isinstance(event, Registered)] == [60, 60]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([("Contact", "<sip:gw@192.0.2.1>;expires=120"), ("Expires", "7")], 120),
        ([("Contact", "<sip:other@h>;expires=5, <sip:gw@192.0.2.1>"), ("Expires", "77")], 77),
        ([("Expires", "300")], 300),
        ([], 3600),
        ([("Contact", "<sip:broken")], 3600),
        ([("Contact", "<sip:gw@h>;expires=99999999999")], 86400),
        ([("Contact", "<sip:gw@h>;expires=soon"), ("Expires", "50")], 50),
    ],
)
def test_what_was_granted_is_read_from_our_contact_then_expires(headers: list[tuple[str, str]], expected: int) -> None:
    """RFC 3261 §10.2.4, §10.3 step 8."""
    solo = Solo()
    solo.receive(reply(registering(solo), 200, headers=headers))
    assert solo.take(Registered).expires_s == expected


def test_a_registrar_that_grants_next_to_nothing_is_not_flooded() -> None:
    """Five seconds between refreshes at least."""
    solo = Solo()
    solo.receive(grant(registering(solo), 0))
    solo.advance(4.9)
    assert len(attempts(solo)) == 1


# --- failures ---------------------------------------------------------------------------------


def test_423_is_answered_with_the_interval_it_asks_for() -> None:
    """RFC 3261 §10.2.8: at once, and from then on."""
    solo = Solo()
    sent = registering(solo, expires_s=60)
    (again,) = solo.receive(reply(sent, 423, headers=[("Min-Expires", "600")]))
    assert isinstance(again, Request)
    assert again.headers.get("Expires") == "600"
    assert again.headers.lines("Contact")[0].endswith(";expires=600")
    assert solo.events == []


@pytest.mark.parametrize("value", ["", "30", "junk", "9999999", "-5"])
def test_a_423_that_makes_no_sense_is_a_failure(value: str) -> None:
    """No loop with a broken registrar."""
    solo = Solo()
    sent = registering(solo, expires_s=60)
    assert solo.receive(reply(sent, 423, headers=[("Min-Expires", value)])) == []
    assert solo.take(RegistrationFailed).status == 423


def test_failures_back_off_up_to_60_s() -> None:
    """R17: a registrar that is down five minutes is back within 65 s."""
    solo = Solo()
    registering(solo)
    while solo.now < 400.0:
        sent = latest(solo)
        if solo.times[solo.sent.index(sent)] == solo.now:
            solo.receive(reply(sent, 500))
        solo.advance(max(0.001, (solo.endpoint.next_timer() or solo.now) - solo.now))
    times = attempts(solo)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert 1.0 <= gaps[0] <= 2.0
    assert max(gaps) <= 60.0
    assert gaps[-1] >= 30.0
    failures = [event for event in solo.events if isinstance(event, RegistrationFailed)]
    assert [event.retry_in_s for event in failures[: len(gaps)]] == pytest.approx(gaps)


def test_after_403_it_waits_300_s() -> None:
    """R17: the account is disabled; carriers lock those that go on asking."""
    solo = Solo()
    solo.receive(reply(registering(solo), 403))
    assert solo.take(RegistrationFailed) == RegistrationFailed("carrier", 403, "Forbidden", 300.0)
    solo.advance(299.9)
    assert len(attempts(solo)) == 1
    solo.advance(0.2)
    assert len(attempts(solo)) == 2


def test_wrong_credentials_are_a_failure_like_any_other() -> None:
    """RFC 3261 §22.2: answered once, then backed off."""
    solo = Solo()
    solo.receive(reply(registering(solo), 401, headers=[CHALLENGE]))
    solo.receive(reply(latest(solo), 401, headers=[CHALLENGE]))
    failed = solo.take(RegistrationFailed)
    assert failed.status == 401
    assert failed.retry_in_s is not None and failed.retry_in_s <= 2.0


def test_retry_after_is_honoured_within_reason() -> None:
    """RFC 3261 §20.33."""
    assert retry_delay_s(503, 0, 120, 0.5) == 120.0
    assert retry_delay_s(503, 0, 99_999, 0.5) == 300.0
    assert retry_delay_s(503, 9, 1, 0.0) == 60.0
    assert retry_delay_s(500, 10**6, None, 0.0) == 60.0
    solo = Solo()
    solo.receive(reply(registering(solo), 503, headers=[("Retry-After", "90 (maintenance);duration=60")]))
    assert solo.take(RegistrationFailed).retry_in_s == 90.0


def test_a_silent_registrar_is_a_408_and_the_next_target_is_tried_first() -> None:
    """RFC 3263 §4.3: fail over, then back off."""
    solo = Solo()
    solo.endpoint.register(spec(registrar="registrar.example"), now=0.0)
    solo.drain()
    (query,) = [action for action in solo.actions if isinstance(action, Resolve)]
    targets = tuple(Target(TransportName.UDP, Address(f"192.0.2.{number}", 5060)) for number in (7, 8))
    solo.endpoint.resolved(query.query, targets, 0.0)
    solo.advance(32.0)
    assert solo.target == targets[1]
    assert solo.events == []
    solo.advance(32.0)
    failed = solo.take(RegistrationFailed)
    assert (failed.status, failed.phrase) == (408, "Request Timeout")


def test_no_target_is_a_503() -> None:
    """RFC 3261 §8.1.3.1."""
    solo = Solo()
    registering_spec = spec(registrar="registrar.example")
    solo.endpoint.register(registering_spec, now=0.0)
    solo.drain()
    solo.endpoint.resolved(1, (), 0.0)
    solo.drain()
    assert solo.take(RegistrationFailed).status == 503


def test_a_registrar_that_is_no_uri_is_reported_and_tried_no_faster_than_a_403() -> None:
    """An operator's slip is no reason for a busy loop."""
    solo = Solo()
    solo.endpoint.register(spec(registrar="sip:no host"), now=0.0)
    solo.drain()
    failed = solo.take(RegistrationFailed)
    assert (failed.status, failed.retry_in_s) == (400, 300.0)


def test_a_challenge_for_another_realm_draws_no_digest() -> None:
    """The credentials are the configured registrar's alone."""
    solo = Solo()
    sent = registering(solo, realm="sip.telnyx.com")
    other = ("WWW-Authenticate", 'Digest realm="elsewhere.example", nonce="abc"')
    assert solo.receive(reply(sent, 401, headers=[other])) == []
    failed = solo.take(RegistrationFailed)
    assert (failed.status, failed.phrase) == (401, "challenged for a realm not sip.telnyx.com")
    solo.advance(2.0)
    solo.receive(reply(latest(solo), 401, headers=[("WWW-Authenticate", "Basic realm=x"), CHALLENGE]))
    assert 'realm="sip.telnyx.com"' in (latest(solo).headers.get("Authorization") or "")
    solo.receive(reply(latest(solo), 401, headers=[CHALLENGE]))
    assert solo.take(RegistrationFailed).phrase == "Unauthorized"


def test_a_challenge_from_another_address_draws_no_digest() -> None:
    """RFC 3261 §18.1.2 lets a response come from anywhere; the password is for the one asked."""
    solo = Solo()
    sent = registering(solo)
    elsewhere = Flow(TransportName.UDP, EDGE, STRANGER)
    assert solo.receive(reply(sent, 401, headers=[CHALLENGE]), elsewhere) == []
    assert solo.take(RegistrationFailed).status == 401


# --- the registrar's addresses ----------------------------------------------------------------


ADDRESSES = tuple(Target(TransportName.UDP, Address(f"198.51.100.{number}", 5060)) for number in (7, 8))


def questions(solo: Solo) -> list[Resolve]:
    return [action for action in solo.actions if isinstance(action, Resolve)]


def resolve(solo: Solo, targets: tuple[Target, ...] = ADDRESSES) -> None:
    """DNS answers the latest question."""
    solo.endpoint.resolved(questions(solo)[-1].query, targets, solo.now)
    solo.drain()


def until_asked(solo: Solo) -> None:
    """Until DNS is asked again."""
    asked = len(questions(solo))
    while len(questions(solo)) == asked:
        solo.advance((solo.endpoint.next_timer() or 0.0) - solo.now)


def registered_at_the_second(solo: Solo) -> None:
    """The first address is dead, the second takes us for 100 s."""
    solo.endpoint.register(spec(registrar="registrar.example"), now=0.0)
    solo.drain()
    resolve(solo)
    solo.advance(32.0)
    assert solo.target == ADDRESSES[1]
    solo.receive(grant(latest(solo), 100), Flow(TransportName.UDP, EDGE, ADDRESSES[1].address))
    solo.take(Registered)


def test_a_refresh_goes_first_to_the_address_that_took_us() -> None:
    """A dead first address costs its 32 s once."""
    solo = Solo()
    registered_at_the_second(solo)
    until_asked(solo)
    resolve(solo)
    assert solo.target == ADDRESSES[1]
    solo.advance(32.0)
    assert solo.target == ADDRESSES[0]


def test_a_new_registration_tries_the_addresses_in_their_own_order() -> None:
    """RFC 3263 §4.2: the registrar's owner says which comes first."""
    solo = Solo()
    registered_at_the_second(solo)
    until_asked(solo)
    resolve(solo)
    solo.receive(reply(latest(solo), 500), Flow(TransportName.UDP, EDGE, ADDRESSES[1].address))
    until_asked(solo)
    resolve(solo)
    assert solo.target == ADDRESSES[0]


def test_a_registrars_addresses_are_strangers_no_more() -> None:
    """All of them from the first answer of DNS on: refused aloud without the token, and no longer once removed."""
    solo = Solo(rules=())
    second = Flow(TransportName.UDP, EDGE, ADDRESSES[1].address)
    assert solo.receive(invite(call_id="before"), second) == []
    registered_at_the_second(solo)
    for number, target in enumerate(ADDRESSES):
        solo.receive(invite(call_id=f"during-{number}"), Flow(TransportName.UDP, EDGE, target.address))
        assert solo.statuses()[-1] == 403
    assert solo.endpoint.trunks.listed("::ffff:198.51.100.8")
    solo.endpoint.unregister("carrier", now=solo.now)
    solo.drain()
    resolve(solo)
    solo.receive(reply(latest(solo), 200), second)
    assert solo.take(Registered).expires_s == 0
    assert solo.receive(invite(call_id="after"), second) == []


def test_an_address_that_took_us_stays_known_when_dns_forgets_it() -> None:
    """Its binding stands."""
    solo = Solo(rules=())
    registered_at_the_second(solo)
    until_asked(solo)
    resolve(solo, ADDRESSES[:1])
    assert solo.endpoint.trunks.listed("198.51.100.8")
    assert solo.target == ADDRESSES[0]


def test_a_name_that_is_gone_for_a_while_changes_no_list() -> None:
    """The binding stands, whatever DNS does."""
    solo = Solo(rules=())
    registered_at_the_second(solo)
    until_asked(solo)
    resolve(solo, ())
    assert solo.take(RegistrationFailed).status == 503
    assert solo.endpoint.trunks.listed("198.51.100.7")


def test_an_answer_of_dns_for_a_registration_that_was_taken_over_sends_nothing() -> None:
    """The name has new credentials meanwhile."""
    solo = Solo()
    solo.endpoint.register(spec(registrar="registrar.example"), now=0.0)
    solo.drain()
    registering(solo, username="other")
    sent = len(solo.sent)
    resolve(solo)
    assert len(solo.sent) == sent


# --- the token --------------------------------------------------------------------------------


def token(sent: Request) -> str:
    """What our Contact carries."""
    assert sent.contact is not None
    return sent.contact.uri.parameter(TOKEN_PARAMETER) or ""


def called(solo: Solo, token: str) -> CallOffered | None:
    """A call from an address nobody lists, to our Contact with this token; None when it is not answered."""
    uri = f"sip:+14155550100@192.0.2.1:5060;{TOKEN_PARAMETER}={token.upper()}"
    solo.receive(invite(uri=uri, call_id=f"{solo.now}-{token[:8]}"), Flow(TransportName.UDP, EDGE, STRANGER))
    offers = [event for event in solo.events if isinstance(event, CallOffered)]
    for offer in offers:
        solo.events.remove(offer)
        solo.endpoint.hang_up(offer.key, now=solo.now)
    solo.drain()
    return offers[0] if offers else None


def with_token(solo: Solo, **options: object) -> Request:
    return registering(solo, contact_parameters=(), with_token=True, **options)


def test_the_token_in_the_contact_selects_the_trunk() -> None:
    """Whatever address the call comes from; compared without case, as URI parameters are (RFC 3261 §19.1.4)."""
    solo = Solo(rules=())
    sent = with_token(solo)
    assert re.fullmatch("[0-9a-f]{32}", token(sent))
    solo.receive(grant(sent))
    offered = called(solo, token(sent))
    assert offered is not None
    assert (offered.trunk, offered.identified_by) == ("carrier", Identification.TOKEN)
    assert token(sent) not in repr(offered)
    assert called(solo, "0" * 32) is None


def test_a_call_may_overtake_the_answer_to_the_register() -> None:
    """The registrar has the binding before we know."""
    solo = Solo(rules=())
    assert called(solo, token(with_token(solo)))


def test_a_refresh_keeps_the_token_and_each_grant_prolongs_it() -> None:
    """The same binding, so the same Contact (RFC 3261 §10.2.4)."""
    solo = Solo(rules=())
    first = with_token(solo)
    solo.receive(grant(first, 100))
    solo.advance(80.0)
    second = latest(solo)
    assert second.cseq.number == 2
    assert token(second) == token(first)
    solo.receive(grant(second, 100))
    solo.now += 99.0
    assert called(solo, token(first))


def test_a_registration_that_was_lost_begins_anew_with_another_token() -> None:
    """The old one is good for as long as it was granted: its binding may stand until then."""
    solo = Solo(rules=())
    first = with_token(solo)
    solo.receive(grant(first, 100))
    solo.advance(80.0)
    solo.receive(reply(latest(solo), 500))
    solo.advance(2.0)
    second = latest(solo)
    assert token(second) != token(first)
    solo.receive(grant(second, 3600))
    assert called(solo, token(first)) and called(solo, token(second))
    solo.now = 100.0
    assert called(solo, token(first)) is None
    assert called(solo, token(second))


def test_a_registration_that_was_never_granted_keeps_its_token() -> None:
    """The registrar may have taken it all the same: then the next attempt renews that binding."""
    solo = Solo(rules=())
    first = with_token(solo)
    solo.receive(reply(first, 500))
    solo.advance(2.0)
    assert token(latest(solo)) == token(first)
    solo.receive(grant(latest(solo), 100))
    assert called(solo, token(first))


def test_the_registered_connection_alone_does_not_stand_in_for_the_token() -> None:
    """A carrier's proxy brings the calls of all its customers over one connection."""
    solo = Solo(rules=())
    flow = Flow(TransportName.TCP, EDGE, PEER, 4)
    sent = with_token(solo, next_hop="192.0.2.7;tcp")
    solo.receive(grant(sent), flow)
    solo.receive(invite(call_id="without"), flow)
    assert solo.statuses()[-1] == 403
    solo.receive(invite(call_id="with", uri=f"sip:+14155550100@192.0.2.1;tk={token(sent)}"), flow)
    assert solo.take(CallOffered).identified_by is Identification.TOKEN


def test_a_lost_connection_is_a_lost_registration() -> None:
    """What is made over the next one is new."""
    solo = Solo(rules=())
    first = with_token(solo, next_hop="192.0.2.7;tcp")
    flow = Flow(TransportName.TCP, EDGE, PEER, 4)
    solo.receive(grant(first), flow)
    solo.endpoint.connection_closed(flow, solo.now)
    solo.advance(2.0)
    assert token(latest(solo)) != token(first)


def test_each_registration_that_takes_a_name_over_has_a_token_of_its_own() -> None:
    """And the one before keeps its time."""
    solo = Solo(rules=())
    first = with_token(solo)
    solo.receive(grant(first, 100))
    second = with_token(solo)
    solo.receive(grant(second, 100))
    assert token(first) != token(second)
    assert called(solo, token(first)) and called(solo, token(second))


def test_removing_the_binding_prolongs_nothing() -> None:
    """A call under way to us when it went is still ours; an hour later nothing is."""
    solo = Solo(rules=())
    first = with_token(solo)
    solo.receive(grant(first, 100))
    solo.endpoint.unregister("carrier", now=solo.now)
    solo.drain()
    assert token(latest(solo)) == token(first)
    solo.receive(reply(latest(solo), 200))
    assert called(solo, token(first))
    solo.now = 100.0
    assert called(solo, token(first)) is None


@pytest.mark.parametrize("parameters", ["", ";tk=0123"])
def test_the_time_granted_is_found_by_the_token_else_by_our_address(parameters: str) -> None:
    """An older binding of ours may be listed first; a registrar may keep no parameters."""
    solo = Solo(rules=())
    sent = with_token(solo)
    old = "<sip:gw@192.0.2.1:5060;tk=00000000000000000000000000000000>;expires=7"
    ours = f"<sip:gw@192.0.2.1:5060;tk={token(sent).upper()}>;expires=120"
    contacts = f"{old}, {ours}" if not parameters else f"<sip:gw@192.0.2.1:5060{parameters}>;expires=120"
    solo.receive(reply(sent, 200, headers=[("Contact", contacts)]))
    assert solo.take(Registered) == Registered("carrier", 120)


def test_bindings_of_other_devices_are_counted() -> None:
    """Our calls ring there, too; an older binding of our own is none of them."""
    solo = Solo(rules=())
    sent = with_token(solo)
    contacts = [
        "<sip:gw@192.0.2.1:5060;tk=00000000000000000000000000000000>;expires=7",
        f"<sip:gw@192.0.2.1:5060;tk={token(sent)}>;expires=120",
        "<sip:gw@198.51.100.1:5060>;expires=50",
    ]
    solo.receive(reply(sent, 200, headers=[("Contact", ", ".join(contacts))]))
    assert solo.take(Registered) == Registered("carrier", 120, others=1)


def test_no_secret_is_in_the_repr_of_a_registration() -> None:
    """Logs show reprs."""
    assert "pw" not in repr(spec()) and "0123456789abcdef" not in repr(spec())


# --- the connection ---------------------------------------------------------------------------


def over_tcp(solo: Solo) -> Flow:
    """Registered over a connection."""
    flow = Flow(TransportName.TCP, EDGE, PEER, 4)
    solo.receive(grant(registering(solo, next_hop="192.0.2.7;tcp")), flow)
    solo.take(Registered)
    return flow


def test_calls_over_the_registered_connection_belong_to_the_trunk() -> None:
    """The strongest identification there is; gone with the connection."""
    solo = Solo(rules=(CARRIER,))
    flow = over_tcp(solo)
    solo.receive(invite(), flow)
    offered = solo.take(CallOffered)
    assert (offered.trunk, offered.identified_by) == ("carrier", Identification.REGISTRATION)
    solo.endpoint.connection_closed(flow, 0.0)
    solo.receive(invite(call_id="later"), flow)
    assert solo.statuses()[-1] == 403


def test_a_lost_connection_is_registered_anew_in_a_second_or_two() -> None:
    """Calls could not reach us any more."""
    solo = Solo()
    flow = over_tcp(solo)
    solo.endpoint.connection_closed(Flow(TransportName.TCP, EDGE, PEER, 5), 0.0)
    solo.advance(3.0)
    assert len(attempts(solo)) == 1
    solo.endpoint.connection_closed(flow, solo.now)
    solo.advance(2.0)
    assert len(attempts(solo)) == 2


@pytest.mark.parametrize("transport", [TransportName.UDP, TransportName.TCP])
def test_the_flow_is_kept_alive(transport: TransportName) -> None:
    """RFC 5626 §3.5.1: an empty line pair every 20 to 25 s, over the flow that was registered."""
    solo = Solo()
    flow = Flow(transport, EDGE, PEER, int(transport.reliable) * 4)
    sent = registering(solo, next_hop=f"192.0.2.7;{transport.value}")
    solo.receive(grant(sent), flow)
    before = len(solo.actions)
    solo.advance(100.0)
    pings = solo.actions[before:]
    assert pings == [Transmit(b"\r\n\r\n", flow)] * len(pings)
    assert 4 <= len(pings) <= 5


# --- a delayed start --------------------------------------------------------------------------


def test_the_first_register_can_be_held_back() -> None:
    """Many registrations made at once are no burst."""
    solo = Solo()
    solo.endpoint.register(spec(delay_s=3.0), now=0.0)
    solo.advance(2.9)
    assert solo.sent == []
    solo.advance(0.2)
    solo.receive(grant(latest(solo)))
    assert solo.take(Registered).expires_s == 3600


def test_one_that_is_stopped_before_it_began_sends_nothing() -> None:
    """There is no binding to remove."""
    solo = Solo()
    solo.endpoint.register(spec(delay_s=3.0), now=0.0)
    solo.endpoint.unregister("carrier", now=1.0)
    solo.drain()
    assert solo.take(Registered) == Registered("carrier", 0)
    solo.advance(10.0)
    assert solo.sent == []
    assert solo.endpoint.next_timer() is None


# --- removal ----------------------------------------------------------------------------------


def test_unregistering_asks_for_zero_seconds_and_is_over() -> None:
    """RFC 3261 §10.2.2: the same Contact."""
    solo = Solo()
    first = registering(solo)
    solo.receive(grant(first))
    solo.take(Registered)
    solo.endpoint.unregister("carrier", now=solo.now)
    solo.drain()
    removal = latest(solo)
    assert removal.headers.get("Expires") == "0"
    assert removal.headers.lines("Contact")[0] == "<sip:gw@192.0.2.1:5060;tk=0123456789abcdef>;expires=0"
    assert (removal.call_id, removal.cseq.number) == (first.call_id, 2)
    solo.receive(reply(removal, 200))
    assert solo.take(Registered) == Registered("carrier", 0)
    solo.quiet()
    assert solo.endpoint.pending == 0
    solo.endpoint.unregister("carrier", now=solo.now)
    assert solo.counters.get("sip_commands_ignored", command="unregister") == 1


def test_unregistering_answers_a_challenge() -> None:
    """RFC 3261 §22.2."""
    solo = Solo()
    solo.receive(grant(registering(solo)))
    solo.endpoint.unregister("carrier", now=solo.now)
    solo.drain()
    (again,) = solo.receive(reply(latest(solo), 401, headers=[CHALLENGE]))
    assert isinstance(again, Request) and again.headers.get("Expires") == "0"


@pytest.mark.parametrize("status", [423, 500])
def test_a_removal_that_fails_is_over_too(status: int) -> None:
    """The binding runs out by itself."""
    solo = Solo()
    solo.receive(grant(registering(solo)))
    solo.endpoint.unregister("carrier", now=solo.now)
    solo.drain()
    solo.receive(reply(latest(solo), status, headers=[("Min-Expires", "7200")]))
    failed = solo.take(RegistrationFailed)
    assert (failed.status, failed.retry_in_s) == (status, None)
    solo.quiet()


@pytest.mark.parametrize("status", [200, 403, 423])
def test_a_removal_waits_for_the_attempt_under_way(status: int) -> None:
    """RFC 3261 §10.2: one REGISTER at a time."""
    solo = Solo()
    sent = registering(solo)
    solo.endpoint.unregister("carrier", now=0.0)
    solo.endpoint.unregister("carrier", now=0.0)
    assert solo.drain() == []
    solo.receive(reply(sent, status, headers=[("Min-Expires", "7200")]))
    if status == 200:
        solo.receive(reply(latest(solo), 200))
        assert solo.take(Registered).expires_s == 0
    else:
        assert solo.take(RegistrationFailed).retry_in_s is None
    assert latest(solo).headers.get("Expires") == ("0" if status == 200 else "3600")
    solo.quiet()


def test_a_removal_while_waiting_to_retry_is_still_sent() -> None:
    """An older binding may still stand."""
    solo = Solo()
    solo.receive(reply(registering(solo), 500))
    solo.events.clear()
    solo.endpoint.unregister("carrier", now=0.0)
    (removal,) = solo.drain()
    assert isinstance(removal, Request) and removal.headers.get("Expires") == "0"


def test_registering_a_name_again_takes_it_over() -> None:
    """Changed credentials, say: the old one falls silent."""
    solo = Solo()
    old = registering(solo)
    new = registering(solo, username="other", contact_user="other")
    assert new.call_id != old.call_id
    solo.receive(grant(old))
    assert solo.events == []
    solo.receive(grant(new))
    assert solo.take(Registered).name == "carrier"
    solo.endpoint.unregister("carrier", now=0.0)
    solo.drain()
    solo.receive(reply(latest(solo), 200))
    solo.quiet()
    assert not any(isinstance(action, Close) for action in solo.actions)


# --- the table --------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "event"), list(TRANSITIONS), ids=str)
def test_each_row_can_be_carried_out(state: State, event: Input) -> None:
    """Every pair; what it does is tested above."""
    solo = Solo()
    registration = Registration(solo.endpoint, spec())
    registration.state = state
    registration._step(event, 0.0)
    assert registration.state is TRANSITIONS[state, event][0]


def test_every_other_pair_is_ignored() -> None:
    """An absent pair changes nothing and sends nothing."""
    for state, event in itertools.product(State, Input):
        if (state, event) in TRANSITIONS:
            continue
        solo = Solo()
        registration = Registration(solo.endpoint, spec())
        registration.state = state
        registration._step(event, 0.0)
        assert registration.state is state
        assert solo.drain() == []
        assert solo.events == []
        assert solo.endpoint.next_timer() is None


def test_every_action_and_input_is_used() -> None:
    """Nothing in the enums that the table does not know."""
    assert {action for _, actions in TRANSITIONS.values() for action in actions} == set(Action)
    assert {event for _, event in TRANSITIONS} == set(Input)
