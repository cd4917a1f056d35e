"""Our REFER: the outcome is what the NOTIFYs say, and nothing else (RFC 3515)."""

from __future__ import annotations

import itertools

import pytest

from edge.events import (
    CallAnswered,
    CallConfirmed,
    CallEnded,
    CallKey,
    CallOffered,
    OutgoingCall,
    ReferEnded,
    ReferProgressed,
    ReferSource,
)
from edge.message import Request, Response
from edge.refer import TRANSITIONS, Input, Referral, State, _Told
from tests.edge.pair import ANSWER, OFFER, Solo, in_dialog, invite, reply

TARGET = "sip:+14155550123@192.0.2.7"


class Talking:
    """An established call of the peer's."""

    def __init__(self, **options: object) -> None:
        self.solo = Solo(**options)
        self.key = self.solo.offered()
        self.solo.endpoint.answer(self.key, ANSWER, now=self.solo.now)
        (ok,) = self.solo.drain()
        assert isinstance(ok, Response)
        self.ok = ok
        self.solo.receive(in_dialog("ACK", ok, cseq=1))
        self.solo.take(CallConfirmed)
        self.cseq = itertools.count(2)

    @property
    def referral(self) -> Referral:
        return self.solo.endpoint._sessions[self.key].referral

    def refer(self, target: str = TARGET) -> Request:
        self.solo.endpoint.refer(self.key, target, now=self.solo.now)
        sent = self.solo.drain()
        assert len(sent) == 1, sent
        assert isinstance(sent[0], Request)
        return sent[0]

    def answer(self, refer: Request, status: int) -> None:
        self.solo.receive(reply(refer, status))

    def notify(
        self,
        fragment: str | None,
        *,
        state: str = "active;expires=60",
        event: str = "refer",
        content: str = "message/sipfrag;version=2.0",
    ) -> int:
        headers = [("Event", event), ("Subscription-State", state)]
        body = (fragment or "").encode()
        if body:
            headers.append(("Content-Type", content))
        notify = in_dialog("NOTIFY", self.ok, cseq=next(self.cseq), headers=headers, body=body)
        (answer,) = self.solo.receive(notify)
        assert isinstance(answer, Response)
        return answer.status

    def bye(self) -> None:
        self.solo.receive(in_dialog("BYE", self.ok, cseq=next(self.cseq)))

    def ended(self) -> list[ReferEnded]:
        return [event for event in self.solo.events if isinstance(event, ReferEnded)]

    def progressed(self) -> list[int]:
        return [event.status for event in self.solo.events if isinstance(event, ReferProgressed)]


def test_refer_is_not_done_at_202() -> None:
    """Trouble elsewhere: REFER "done" at 202. The outcome is the NOTIFY's sipfrag."""
    talking = Talking()
    refer = talking.refer()
    assert (refer.method, refer.headers.get("Refer-To")) == ("REFER", f"<{TARGET}>")
    assert refer.contact is not None
    assert refer.headers.get("Referred-By") == "<sip:+14155550100@192.0.2.1>"
    talking.answer(refer, 202)
    assert talking.ended() == []
    assert talking.notify("SIP/2.0 100 Trying\r\n") == 200
    assert talking.notify("SIP/2.0 180 Ringing\r\n") == 200
    assert talking.ended() == []
    assert talking.progressed() == [202, 100, 180]
    assert talking.notify("SIP/2.0 200 OK\r\n", state="terminated;reason=noresource") == 200
    assert talking.ended() == [ReferEnded(talking.key, 200, "OK", ReferSource.NOTIFY)]


def test_a_refused_target_is_reported_with_its_own_status_and_the_call_goes_on() -> None:
    talking = Talking()
    talking.answer(talking.refer(), 202)
    assert talking.notify("SIP/2.0 486 Busy Here\r\n", state="terminated;reason=noresource") == 200
    assert talking.ended() == [ReferEnded(talking.key, 486, "Busy Here", ReferSource.NOTIFY)]
    assert not [event for event in talking.solo.events if isinstance(event, CallEnded)]
    assert talking.refer().cseq.number > 1


@pytest.mark.parametrize("status", [403, 405, 481, 501, 603])
def test_a_refused_refer_is_its_outcome(status: int) -> None:
    talking = Talking()
    talking.answer(talking.refer(), status)
    (ended,) = talking.ended()
    assert (ended.status, ended.source) == (status, ReferSource.REFUSED)


def test_a_refer_nobody_answers_ends_by_timer_f() -> None:
    """RFC 3261 §17.1.2.2."""
    talking = Talking()
    talking.refer()
    talking.solo.advance(40.0)
    (ended,) = talking.ended()
    assert (ended.status, ended.source) == (408, ReferSource.REFUSED)


def test_a_notify_may_overtake_the_202() -> None:
    """RFC 3515 §2.4.4."""
    talking = Talking()
    refer = talking.refer()
    assert talking.notify("SIP/2.0 100 Trying\r\n") == 200
    assert talking.notify("SIP/2.0 200 OK\r\n", state="terminated") == 200
    talking.answer(refer, 202)
    assert [event.status for event in talking.ended()] == [200]


@pytest.mark.parametrize("early", [True, False])
def test_a_subscription_that_ends_without_an_outcome_says_so(early: bool) -> None:
    talking = Talking()
    refer = talking.refer()
    if not early:
        talking.answer(refer, 202)
    assert talking.notify("SIP/2.0 100 Trying\r\n", state="terminated;reason=giveup") == 200
    assert talking.ended() == [ReferEnded(talking.key, 0, "", ReferSource.TERMINATED)]


def test_a_subscription_that_runs_out_ends_the_referral() -> None:
    """RFC 6665 §4.1.3: each NOTIFY says how long there is; the last one counts."""
    talking = Talking()
    talking.answer(talking.refer(), 202)
    talking.notify("SIP/2.0 100 Trying\r\n", state="active;expires=30")
    talking.solo.advance(29.0)
    assert talking.ended() == []
    talking.notify("SIP/2.0 180 Ringing\r\n", state="active;expires=10")
    talking.solo.advance(11.0)
    assert [event.source for event in talking.ended()] == [ReferSource.EXPIRED]


def test_a_peer_that_never_notifies_is_given_up() -> None:
    talking = Talking()
    talking.answer(talking.refer(), 202)
    talking.solo.advance(181.0)
    assert [event.source for event in talking.ended()] == [ReferSource.EXPIRED]


@pytest.mark.parametrize("accepted", [True, False])
def test_the_end_of_the_call_is_the_end_of_the_referral_and_comes_after_it(accepted: bool) -> None:
    talking = Talking()
    refer = talking.refer()
    if accepted:
        talking.answer(refer, 202)
    talking.bye()
    kinds = [type(event) for event in talking.solo.events if isinstance(event, ReferEnded | CallEnded)]
    assert kinds == [ReferEnded, CallEnded]
    assert talking.ended()[0].source is ReferSource.CALL_ENDED


def test_a_call_without_a_referral_ends_without_a_word_of_one() -> None:
    talking = Talking()
    talking.bye()
    assert talking.ended() == []


def test_a_second_refer_waits_for_nobody_it_is_refused() -> None:
    talking = Talking()
    talking.refer()
    talking.solo.endpoint.refer(talking.key, TARGET, now=talking.solo.now)
    assert talking.solo.drain() == []
    assert talking.solo.counters.get("sip_commands_ignored", command="refer") == 1


@pytest.mark.parametrize(
    ("asked", "event", "content", "fragment", "status"),
    [
        (False, "refer", "message/sipfrag", "SIP/2.0 200 OK", 481),
        (True, "presence", "message/sipfrag", "SIP/2.0 200 OK", 489),
        (True, "refer", "text/plain", "SIP/2.0 200 OK", 415),
        (True, "refer", "message/sipfrag", "hello", 400),
        (True, "refer", "message/sipfrag", "SIP/2.0 999 No", 400),
        (True, "refer;id=99", "message/sipfrag", "SIP/2.0 200 OK", 200),
    ],
)
def test_a_notify_that_means_nothing_changes_nothing(
    asked: bool, event: str, content: str, fragment: str, status: int
) -> None:
    talking = Talking()
    if asked:
        talking.answer(talking.refer(), 202)
    assert talking.notify(fragment, event=event, content=content) == status
    assert talking.ended() == []


def test_a_notify_of_this_very_refer_counts() -> None:
    talking = Talking()
    refer = talking.refer()
    talking.answer(refer, 202)
    talking.notify("SIP/2.0 200 OK", event=f"refer;id={refer.cseq.number}")
    assert [event.status for event in talking.ended()] == [200]


def test_a_notify_without_a_fragment_is_progress() -> None:
    talking = Talking()
    talking.answer(talking.refer(), 202)
    assert talking.notify(None, state="pending") == 200
    assert talking.progressed() == [202, 100]


def test_a_notify_after_the_outcome_is_answered_and_means_nothing() -> None:
    talking = Talking()
    talking.answer(talking.refer(), 202)
    talking.notify("SIP/2.0 200 OK")
    assert talking.notify("SIP/2.0 603 Decline", state="terminated") == 200
    assert [event.status for event in talking.ended()] == [200]


def test_a_notify_outside_any_dialog_is_481() -> None:
    solo = Solo()
    notify = invite(body=b"")
    (answer,) = solo.receive(Request.create("NOTIFY", notify.uri, _as_notify(notify)))
    assert isinstance(answer, Response)
    assert answer.status == 481


def _as_notify(request: Request) -> list[tuple[str, str]]:
    return [(name, value.replace("INVITE", "NOTIFY")) for name, value in request.headers]


def test_a_challenged_refer_is_sent_again_with_the_calls_credentials() -> None:
    """RFC 3261 §22.2: to our own outgoing call's peer, which asked before."""
    solo = Solo()
    call = OutgoingCall("sip:+1@192.0.2.7", "sip:edge@edge.test", OFFER, username="u", password="p")
    key = solo.endpoint.invite(call, now=solo.now)
    solo.drain()
    solo.receive(reply(solo.requests("INVITE")[-1], 200, body=ANSWER, headers=[("Allow", "INVITE, REFER")]))
    assert solo.take(CallAnswered).takes_refer
    solo.endpoint.refer(key, TARGET, now=solo.now)
    (refer,) = [m for m in solo.drain() if isinstance(m, Request) and m.method == "REFER"]
    challenge = ("Proxy-Authenticate", 'Digest realm="r", nonce="n", qop="auth"')
    (again,) = solo.receive(reply(refer, 407, headers=[challenge]))
    assert isinstance(again, Request)
    assert "Proxy-Authorization" in [name for name, _ in again.headers]
    assert again.headers.get("Refer-To") == f"<{TARGET}>"


def test_whether_a_caller_takes_refer_is_told_with_its_call() -> None:
    for allow, takes in (("INVITE, ACK, BYE, REFER", True), ("INVITE,ACK,BYE", False)):
        solo = Solo()
        solo.receive(invite(headers=[("Allow", allow)]))
        assert solo.take(CallOffered).takes_refer is takes


def test_a_refer_that_arrives_dials_nobody() -> None:
    """hardening S28: in a call or outside one, 405 and not one INVITE."""
    talking = Talking()
    refer = in_dialog("REFER", talking.ok, cseq=7, headers=[("Refer-To", "<sip:+882160000000@192.0.2.7>")])
    (answer,) = talking.solo.receive(refer)
    assert isinstance(answer, Response)
    assert answer.status == 405
    talking.solo.quiet()
    assert talking.solo.requests("INVITE") == []


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Input)), ids=str)
def test_each_row_can_be_carried_out_and_other_pairs_change_nothing(state: State, event: Input) -> None:
    talking = Talking()
    referral = talking.referral
    referral.state = state
    found = TRANSITIONS.get((state, event))
    assert referral._step(event, talking.solo.now, _Told(target=TARGET)) is (found is not None)
    assert referral.state is (found[0] if found else state)


def test_a_key_that_names_no_call_is_ignored() -> None:
    solo = Solo()
    solo.endpoint.refer(CallKey("call-9"), TARGET, now=0.0)
    assert solo.drain() == []
