"""The life of a call as a table: every row, every silence, one end on every path.

What the rows do is tested by behaviour: ``test_invite_server``, ``test_invite_client``, ``test_offers``.
"""

from __future__ import annotations

import itertools

import pytest

from edge.events import CallAnswered, CallConfirmed, CallEnded, CallOffered, OutgoingCall
from edge.invite import Detail
from edge.message import Response
from edge.session import TRANSITIONS, Action, Input, Session, State
from tests.edge.pair import ANSWER, OFFER, Solo, in_dialog, invite, reply

UAC = (State.CALLING, State.PROCEEDING, State.CANCELLING)


def called(solo: Solo) -> Session:
    """A call to us, up to its ACK."""
    key = solo.offered()
    solo.endpoint.answer(key, ANSWER, now=solo.now)
    (ok,) = solo.drain()
    assert isinstance(ok, Response)
    solo.receive(in_dialog("ACK", ok, cseq=1))
    solo.take(CallConfirmed)
    return solo.endpoint._sessions[key]


def calling(solo: Solo) -> Session:
    """A call of ours, up to its ACK."""
    key = solo.endpoint.invite(OutgoingCall("sip:+1@192.0.2.7", "sip:edge@edge.test", OFFER), now=solo.now)
    solo.drain()
    solo.receive(reply(solo.requests("INVITE")[-1], 200, body=ANSWER))
    solo.take(CallAnswered)
    return solo.endpoint._sessions[key]


@pytest.mark.parametrize(("state", "event"), list(TRANSITIONS), ids=str)
def test_each_row_can_be_carried_out(state: State, event: Input) -> None:
    """Every pair, from a call that has everything its actions may want."""
    solo = Solo()
    session = calling(solo) if state in UAC else called(solo)
    session.state = state
    following, actions = TRANSITIONS[state, event]
    assert session._step(event, 0.0, Detail(status=183))
    assert session.state is following
    ended = [event for event in solo.endpoint.events() if isinstance(event, CallEnded)]
    assert len(ended) == int(Action.END in actions)


def test_every_other_pair_is_ignored() -> None:
    """An absent pair changes nothing, sends nothing and tells nobody anything."""
    for state, event in itertools.product(State, Input):
        if (state, event) in TRANSITIONS:
            continue
        solo = Solo()
        session = called(solo)
        session.state = state
        before = (solo.endpoint.pending, len(solo.endpoint.layer.timers))
        assert not session._step(event, 1.0)
        assert session.state is state
        assert (solo.endpoint.pending, len(solo.endpoint.layer.timers)) == before
        assert solo.endpoint.events() == []
        assert solo.endpoint.actions() == []


def test_every_action_and_input_is_used() -> None:
    """Nothing in the enums that the table does not know."""
    assert {action for _, actions in TRANSITIONS.values() for action in actions} == set(Action)
    assert {event for _, event in TRANSITIONS} == set(Input)


@pytest.mark.parametrize("start", [State.OFFERED, State.CALLING])
def test_a_call_ends_once_on_every_path(start: State) -> None:
    """From its first state, every way to TERMINATED passes END exactly once."""

    def walk(state: State, ends: int, seen: frozenset[State]) -> set[int]:
        if state is State.TERMINATED:
            return {ends}
        found: set[int] = set()
        for (before, _), (following, actions) in TRANSITIONS.items():
            if before is state and following not in seen:
                found |= walk(following, ends + (Action.END in actions), seen | {following})
        return found

    assert walk(start, 0, frozenset({start})) == {1}


def test_an_invite_for_a_new_call_is_no_reinvite() -> None:
    """Same caller, another Call-ID: two calls."""
    solo = Solo()
    called(solo)
    solo.receive(invite(call_id="another"))
    solo.take(CallOffered)
    assert solo.endpoint.calls == 2
