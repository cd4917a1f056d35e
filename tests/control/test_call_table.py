"""The call's table and words."""

from __future__ import annotations

from control.call_table import END_REASONS, REFUSALS, TRANSITIONS, Action, Input, State


def test_every_live_state_has_a_way_out() -> None:
    for state in set(State) - {State.CLOSING, State.ENDED}:
        for event in (Input.SIP_ENDED, Input.HANG_UP, Input.REFUSED):
            if (state, event) == (State.PREPARING, Input.SIP_ENDED):
                continue  # there is no SIP yet
            assert TRANSITIONS[state, event][0] in (State.CLOSING, State.ENDED)


def test_every_refusal_is_a_reason_a_record_can_have() -> None:
    assert set(REFUSALS) <= set(END_REASONS)
    for refusal in REFUSALS.values():
        assert (refusal.retry_after_s is not None) == (refusal.status == 503)


def test_a_call_is_refused_before_its_answer_and_hung_up_after_it() -> None:
    """RFC 3261 §15: BYE only in a dialog; a final failure only before the 200."""
    for (state, _), (_, actions) in TRANSITIONS.items():
        if Action.REFUSE in actions:
            assert state not in (State.ANSWERED, State.ESTABLISHED)
        if Action.HANG_UP in actions:
            assert state in (State.ANSWERED, State.ESTABLISHED)
