"""Session timers (RFC 4028) in both roles: agreed, refreshed, refused, and run out."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from edge.events import CallAnswered, CallEnded, CallKey, CallOffered, Cause, MediaAnswered, OutgoingCall, Party
from edge.message import Request, Response
from edge.session_timer import TRANSITIONS, Expires, Input, State, session_expires
from edge.uri import ParseError
from tests.edge.pair import ANSWER, OFFER, Pair, Solo, in_dialog, invite, reply, request

TIMER = [("Supported", "timer")]
UPDATES = [("Allow", "INVITE, ACK, BYE, CANCEL, UPDATE")]


def asking(interval_s: int, refresher: str = "") -> list[tuple[str, str]]:
    return [*TIMER, ("Session-Expires", f"{interval_s}{f';refresher={refresher}' if refresher else ''}")]


def called(solo: Solo, headers: Iterable[tuple[str, str]]) -> tuple[CallKey, Response]:
    """A call to us, up to its ACK."""
    key = solo.offered(headers=headers)
    solo.endpoint.answer(key, ANSWER, now=solo.now)
    [ok] = solo.drain()
    assert isinstance(ok, Response)
    solo.receive(in_dialog("ACK", ok, cseq=1))
    solo.events.clear()
    return key, ok


def calling(solo: Solo, headers: Iterable[tuple[str, str]]) -> tuple[CallKey, Request]:
    """A call of ours, up to its ACK; the peer's 200 says so."""
    key = solo.endpoint.invite(OutgoingCall("sip:+1@192.0.2.7", "sip:edge@edge.test", OFFER), now=solo.now)
    [sent] = [message for message in solo.drain() if isinstance(message, Request)]
    solo.receive(reply(sent, 200, body=ANSWER, headers=headers))
    solo.take(CallAnswered)
    return key, sent


def refreshes(solo: Solo, seconds: float) -> list[Request]:
    """The refreshes sent in this time, each answered at once; retransmissions are none."""
    found: list[Request] = []
    end = solo.now + seconds
    while (due := solo.endpoint.next_timer()) is not None and due <= end:
        solo.now = max(solo.now, due)
        solo.endpoint.handle_timers(solo.now)
        for message in solo.drain():
            if isinstance(message, Request) and message.method in ("UPDATE", "INVITE"):
                found.append(message)
                value = message.headers.get("Session-Expires") or ""
                body = ANSWER if message.method == "INVITE" else b""
                solo.receive(reply(message, 200, headers=[*TIMER, ("Session-Expires", value)], body=body))
    solo.now = end
    return found


# --- what is agreed ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "expires", "required"),
    [
        ([], None, False),  # a peer that knows no timers gets none
        (TIMER, "1800;refresher=uas", False),
        (asking(600), "600;refresher=uas", False),
        (asking(600, "uac"), "600;refresher=uac", True),
        (asking(600, "UAS"), "600;refresher=uas", False),
        (asking(7200), "1800;refresher=uas", False),
        ([*asking(3600), ("Min-SE", "2400")], "2400;refresher=uas", False),
        ([("Session-Expires", "600;refresher=uac")], "600;refresher=uas", False),  # a proxy's wish: we refresh
        ([("k", "timer,path"), ("x", "900")], "900;refresher=uas", False),
        ([("Supported", "Timer")], "1800;refresher=uas", False),  # RFC 3261 §7.3.1: in any case
    ],
)
def test_the_200_says_the_interval_and_who_refreshes(
    headers: list[tuple[str, str]], expires: str | None, required: bool
) -> None:
    """RFC 4028 §9, table 2."""
    _, ok = called(Solo(), headers)
    assert ok.headers.get("Session-Expires") == expires
    assert (ok.headers.get("Require") == "timer") is required


@pytest.mark.parametrize(("method", "inside"), [("INVITE", False), ("INVITE", True), ("UPDATE", True)])
def test_an_interval_below_our_minimum_is_422_with_it(method: str, inside: bool) -> None:
    """RFC 4028 §5, §9."""
    solo = Solo(min_se_s=120)
    headers = [*asking(100), ("Min-SE", "90")]
    if inside:
        _, ok = called(solo, TIMER)
        [refused] = solo.receive(
            in_dialog(method, ok, cseq=2, headers=headers, body=OFFER if method == "INVITE" else b"")
        )
    else:
        [refused] = solo.receive(invite(headers=headers))
    assert isinstance(refused, Response)
    assert (refused.status, refused.headers.get("Min-SE")) == (422, "120")
    assert solo.events == []


def test_a_proxys_short_interval_is_raised_where_the_phone_knows_no_timers() -> None:
    """RFC 4028 §9: to refuse would fail a call that nobody could mend."""
    _, ok = called(Solo(min_se_s=120), [("Session-Expires", "100")])
    assert ok.headers.get("Session-Expires") == "120;refresher=uas"


@pytest.mark.parametrize(
    "value", ["", "abc", "1;refresher=both", "99999999999", "600;refresher=uac;refresher=uas", "-1"]
)
def test_a_value_that_is_none_is_400(value: str) -> None:
    solo = Solo()
    [refused] = solo.receive(invite(headers=[*TIMER, ("Session-Expires", value)]))
    assert isinstance(refused, Response)
    assert refused.status == 400
    with pytest.raises(ParseError):
        session_expires(invite(headers=[("Session-Expires", value)]))


def test_a_value_with_other_parameters_is_read() -> None:
    assert session_expires(invite(headers=[("Session-Expires", "1800 ; x=y;Refresher=UAC")])) == Expires(1800, "uac")
    assert session_expires(invite()) is None


def test_our_invite_asks_for_a_timer_and_requires_none() -> None:
    """RFC 4028 §7.1."""
    solo = Solo(session_expires_s=900)
    _, sent = calling(solo, [])
    assert sent.headers.get("Session-Expires") == "900"
    assert "timer" in sent.headers.get_all("Supported")
    assert sent.headers.get("Require") is None
    assert refreshes(solo, 3600.0) == []
    assert solo.endpoint.calls == 1


def test_a_peers_422_is_met_with_the_interval_it_wants() -> None:
    """RFC 4028 §7.3: the same call, the next CSeq, its Min-SE and at least that interval; three times at most."""
    solo = Solo(session_expires_s=90)
    key = solo.endpoint.invite(OutgoingCall("sip:+1@192.0.2.7", "sip:edge@edge.test", OFFER), now=0.0)
    [first] = [message for message in solo.drain() if isinstance(message, Request)]
    for raised in (200, 300, 400):
        last = solo.requests("INVITE")[-1]
        solo.receive(reply(last, 422, headers=[("Min-SE", str(raised))]))
        again = solo.requests("INVITE")[-1]
        assert again.call_id == first.call_id
        assert again.cseq.number == last.cseq.number + 1
        assert again.headers.get("Session-Expires") == again.headers.get("Min-SE") == str(raised)
    solo.receive(reply(solo.requests("INVITE")[-1], 422, headers=[("Min-SE", "500")]))
    assert solo.take(CallEnded) == CallEnded(key, Party.REMOTE, Cause.REFUSED, 422, "Session Interval Too Small")


@pytest.mark.parametrize("headers", [[], [("Min-SE", "many")]])
def test_a_422_that_says_nothing_ends_the_call(headers: list[tuple[str, str]]) -> None:
    solo = Solo()
    solo.endpoint.invite(OutgoingCall("sip:+1@192.0.2.7", "sip:edge@edge.test", OFFER), now=0.0)
    solo.drain()
    solo.receive(reply(solo.requests("INVITE")[0], 422, headers=headers))
    assert solo.take(CallEnded).status == 422


# --- refreshing -------------------------------------------------------------------------------


def test_a_call_of_15_minutes_lives_through_its_refreshes() -> None:
    """By UPDATE where the peer allows it; nothing of the media is touched."""
    solo = Solo(session_expires_s=90)
    _, _ = called(solo, [*asking(90), *UPDATES])
    sent = refreshes(solo, 900.0)
    assert [message.method for message in sent] == ["UPDATE"] * 20
    assert {message.headers.get("Session-Expires") for message in sent} == {"90;refresher=uac"}
    assert {message.body for message in sent} == {b""}
    assert all(message.contact is not None for message in sent)
    assert [message.cseq.number for message in sent] == list(range(1, 21))
    assert solo.events == []
    assert solo.endpoint.calls == 1


def test_a_peer_without_update_is_refreshed_by_a_reinvite_that_says_the_same_again() -> None:
    """RFC 4028 §7.4: our description as it is; its answer is told, for the peer may have moved."""
    solo = Solo()
    key, _ = called(solo, asking(90))
    sent = refreshes(solo, 900.0)
    assert [(message.method, message.body) for message in sent] == [("INVITE", ANSWER)] * 20
    assert solo.events == [MediaAnswered(key, ANSWER, refresh=True)] * 20
    assert len(solo.requests("ACK")) == 20
    assert solo.endpoint.calls == 1


def test_a_peer_that_allows_update_and_does_not_know_it_is_refreshed_by_reinvite() -> None:
    solo = Solo()
    called(solo, [*asking(90), *UPDATES])
    solo.advance(45.0)
    [update] = solo.requests("UPDATE")
    solo.receive(reply(update, 405))
    solo.advance(0.0)
    assert solo.requests("INVITE")[-1].body == ANSWER


def test_as_caller_we_refresh_when_the_callee_leaves_it_to_us() -> None:
    solo = Solo(session_expires_s=90)
    calling(solo, [("Session-Expires", "90;refresher=uac"), ("Require", "timer"), *UPDATES])
    sent = refreshes(solo, 300.0)
    assert len(sent) == 6
    assert {message.headers.get("Session-Expires") for message in sent} == {"90;refresher=uac"}


def test_two_edges_keep_a_call_for_a_quarter_of_an_hour() -> None:
    """Both ends of ours, over a wire."""
    pair = Pair()
    for side in (pair.caller, pair.edge):
        side.settings.session_expires_s = 90
    pair.call()
    pair.run(0.1)
    key = pair.last("edge", CallOffered).key
    pair.edge.answer(key, ANSWER, now=pair.now)
    pair.run(900.0)
    updates = [data for _, _, data in pair.sent if data.startswith(b"UPDATE ")]
    assert 19 <= len(updates) <= 21
    assert (pair.caller.calls, pair.edge.calls) == (1, 1)
    pair.edge.hang_up(key, now=pair.now)
    pair.quiet()


def test_the_phones_refreshes_keep_the_call_up() -> None:
    """By re-INVITE or by UPDATE, each answered with the interval again."""
    solo = Solo()
    _, ok = called(solo, asking(90, "uac"))
    for number in range(2, 22):
        solo.advance(45.0)
        [answer] = solo.receive(in_dialog("UPDATE", ok, cseq=number, headers=asking(90, "uac")))
        assert isinstance(answer, Response)
        assert (answer.status, answer.headers.get("Session-Expires")) == (200, "90;refresher=uac")
    assert solo.endpoint.calls == 1
    assert solo.events == []


def test_a_refused_refresh_is_tried_again_and_the_call_goes_on() -> None:
    """RFC 4028 §10: a refusal that is no loss of the session ends nothing by itself."""
    solo = Solo()
    called(solo, [*asking(300), *UPDATES])
    solo.advance(150.0)
    for number, (status, headers, delay_s) in enumerate(
        [(500, [("Retry-After", "3")], 3.0), (491, [], 10.0), (503, [], 10.0)]
    ):
        assert len(solo.requests("UPDATE")) == number + 1
        solo.receive(reply(solo.requests("UPDATE")[-1], status, headers=headers))
        solo.advance(delay_s)
    solo.receive(reply(solo.requests("UPDATE")[-1], 503))
    assert solo.endpoint.calls == 1
    assert len(refreshes(solo, 20.0)) == 1


def test_a_refresh_that_is_too_short_for_the_peer_is_asked_for_again_at_once() -> None:
    solo = Solo()
    called(solo, [*asking(90), *UPDATES])
    solo.advance(45.0)
    solo.receive(reply(solo.requests("UPDATE")[-1], 422, headers=[("Min-SE", "600")]))
    solo.advance(0.0)
    again = solo.requests("UPDATE")[-1]
    assert (again.headers.get("Session-Expires"), again.headers.get("Min-SE")) == ("600;refresher=uac", "600")


def test_a_reinvite_that_refreshes_too_early_for_the_peer_is_raised_too() -> None:
    """RFC 4028 §7.3."""
    solo = Solo()
    called(solo, asking(90))
    solo.advance(45.0)
    solo.receive(reply(solo.requests("INVITE")[-1], 422, headers=[("Min-SE", "600")]))
    solo.advance(5.0)
    again = solo.requests("INVITE")[-1]
    assert (again.headers.get("Session-Expires"), again.body) == ("600;refresher=uac", ANSWER)


def test_a_refresh_waits_while_an_offer_is_under_way() -> None:
    solo = Solo()
    key, _ = called(solo, asking(90))
    solo.advance(44.0)
    solo.endpoint.reoffer(key, OFFER, now=solo.now)
    solo.drain()
    hold = solo.requests("INVITE")[-1]
    assert hold.headers.get("Session-Expires") == "90;refresher=uac"
    solo.advance(2.0)
    assert len({message.cseq.number for message in solo.requests("INVITE")}) == 1
    solo.receive(reply(hold, 200, body=ANSWER, headers=[*TIMER, ("Session-Expires", "90;refresher=uac")]))
    assert len(refreshes(solo, 100.0)) == 2


# --- running out ------------------------------------------------------------------------------


def test_a_call_whose_phone_went_silent_ends_by_expiry() -> None:
    """RFC 4028 §10: a third of the interval before its end, at most 32 s; BYE with the reason in both protocols."""
    solo = Solo()
    key, _ = called(solo, asking(90, "uac"))
    solo.advance(59.9)
    assert solo.endpoint.calls == 1
    solo.advance(0.2)
    assert solo.take(CallEnded) == CallEnded(key, Party.LOCAL, Cause.EXPIRED, 408, "Request Timeout")
    bye = solo.requests("BYE")[0]
    assert bye.headers.lines("Reason") == [
        'SIP;cause=408;text="session timer expired"',
        'Q.850;cause=102;text="session timer expired"',
    ]
    solo.quiet()
    assert solo.endpoint.pending == 0


def test_a_long_interval_leaves_32_seconds_for_the_bye() -> None:
    solo = Solo()
    called(solo, asking(1800, "uac"))
    solo.advance(1767.9)
    assert solo.endpoint.calls == 1
    solo.advance(0.2)
    assert solo.take(CallEnded).cause is Cause.EXPIRED


@pytest.mark.parametrize("update", [True, False])
def test_a_call_whose_phone_answers_no_refresh_ends(update: bool) -> None:
    """Trouble elsewhere: a session-refresh unanswered at 15 min. No answer in 64*T1 is the end of the session."""
    solo = Solo()
    called(solo, [*asking(1800), *(UPDATES if update else [])])
    solo.advance(900.0)
    assert len(solo.requests("UPDATE" if update else "INVITE")) == 1
    solo.advance(33.0)
    ended = solo.take(CallEnded)
    assert (ended.by, ended.status) == (Party.LOCAL, 408)


@pytest.mark.parametrize("status", [408, 481])
def test_a_phone_that_knows_the_session_no_more_ends_it(status: int) -> None:
    solo = Solo()
    called(solo, [*asking(90), *UPDATES])
    solo.advance(45.0)
    solo.receive(reply(solo.requests("UPDATE")[-1], status))
    assert solo.take(CallEnded).cause is Cause.EXPIRED


def test_refusals_without_end_end_with_the_interval() -> None:
    solo = Solo()
    called(solo, [*asking(90), *UPDATES])
    end = solo.now + 91.0
    while solo.now < end and solo.endpoint.calls:
        for message in solo.advance(1.0):
            if isinstance(message, Request) and message.method == "UPDATE":
                solo.receive(reply(message, 503))
    assert solo.take(CallEnded).cause is Cause.EXPIRED
    assert 85.0 < solo.now <= 91.0


def test_a_peer_that_drops_the_timer_gets_none_any_more() -> None:
    """RFC 4028 §9: a later exchange without one turns it off; one with it, on again, with the other refresher."""
    solo = Solo()
    _, ok = called(solo, asking(90, "uac"))
    solo.receive(in_dialog("UPDATE", ok, cseq=2))
    solo.advance(300.0)
    assert solo.endpoint.calls == 1
    solo.receive(in_dialog("UPDATE", ok, cseq=3, headers=[*asking(90, "uas"), *UPDATES]))
    assert len(refreshes(solo, 100.0)) == 2
    solo.receive(in_dialog("UPDATE", ok, cseq=4, headers=asking(90, "uac")))
    solo.advance(61.0)
    assert solo.take(CallEnded).cause is Cause.EXPIRED


@pytest.mark.parametrize("granted", [[], [("Session-Expires", "90;refresher=uas")], [("Session-Expires", "nonsense")]])
def test_the_answer_to_a_refresh_decides_anew(granted: list[tuple[str, str]]) -> None:
    """RFC 4028 §7.2: none any more, or theirs from now on."""
    solo = Solo()
    called(solo, [*asking(90), *UPDATES])
    solo.advance(45.0)
    solo.receive(reply(solo.requests("UPDATE")[-1], 200, headers=granted))
    solo.advance(59.0)
    assert solo.endpoint.calls == 1
    assert len(solo.requests("UPDATE")) == 1
    solo.advance(2.0)
    assert solo.endpoint.calls == (0 if granted and "uas" in granted[0][1] else 1)


def test_every_state_of_a_timer_ends_with_its_call() -> None:
    """Nothing is left to run."""
    assert {state for state, event in TRANSITIONS if event is Input.CLOSE} == set(State) - {State.CLOSED}
    for headers in ([], TIMER, asking(90, "uac"), [*asking(90), *UPDATES]):
        solo = Solo()
        key, _ = called(solo, headers)
        solo.advance(46.0)
        solo.endpoint.hang_up(key, now=solo.now)
        solo.quiet()
        assert len(solo.endpoint.layer.timers) == 0


def test_an_update_outside_any_call_is_481() -> None:
    [refused] = Solo().receive(request("UPDATE", headers=asking(90)))
    assert isinstance(refused, Response)
    assert refused.status == 481


def test_between_its_refreshes_the_timer_may_be_dropped_or_change_hands() -> None:
    solo = Solo()
    _, ok = called(solo, [*asking(90), *UPDATES])
    solo.receive(in_dialog("UPDATE", ok, cseq=2))
    assert solo.advance(200.0) == []
    solo.receive(in_dialog("UPDATE", ok, cseq=3, headers=asking(90, "uac")))
    solo.receive(in_dialog("UPDATE", ok, cseq=4, headers=asking(90, "uas")))
    assert len(refreshes(solo, 100.0)) == 2


def test_a_refresh_under_way_when_the_interval_is_over_is_too_late() -> None:
    """A peer that answers 100 to a re-INVITE and nothing more."""
    solo = Solo()
    called(solo, asking(90))
    solo.advance(45.0)
    solo.receive(reply(solo.requests("INVITE")[-1], 100))
    solo.advance(44.0)
    assert solo.endpoint.calls == 1
    solo.advance(2.0)
    assert solo.take(CallEnded).cause is Cause.EXPIRED
