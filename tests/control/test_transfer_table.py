"""A transfer's table."""

from __future__ import annotations

from control.transfer_table import TRANSITIONS, Action, Input, State


def test_whatever_is_held_is_released_at_the_end_and_only_then() -> None:
    for after, actions in TRANSITIONS.values():
        assert (Action.RELEASE in actions) == (after is State.OVER)


def test_the_end_of_the_call_ends_a_transfer_in_any_state_and_its_leg_with_it() -> None:
    for state in (State.REFERRING, State.ASKING, State.OPENING, State.DIALLING, State.JOINED):
        after, actions = TRANSITIONS[state, Input.CALL_ENDED]
        assert after is State.OVER
        assert (Action.CLOSE_LEG in actions) == (state in (State.OPENING, State.DIALLING, State.JOINED))


def test_a_caller_is_moved_only_by_what_the_far_end_says() -> None:
    assert {state for (state, event) in TRANSITIONS if event is Input.MOVED} == {State.REFERRING, State.ASKING}
