"""One heap of timers: order, cancelling, and no growth from cancelled ones."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.timers import Timer, Timers


def test_timers_run_in_the_order_of_their_times_then_of_their_making() -> None:
    timers, ran = Timers(), []
    for name, when in (("c", 3.0), ("a", 1.0), ("b1", 2.0), ("b2", 2.0)):
        timers.call_at(when, lambda now, name=name: ran.append((name, now)))
    timers.run(2.5)
    assert ran == [("a", 2.5), ("b1", 2.5), ("b2", 2.5)]
    assert timers.next() == 3.0
    assert len(timers) == 1


def test_a_cancelled_timer_never_runs_and_is_not_the_next() -> None:
    timers, ran = Timers(), []
    first = timers.call_at(1.0, ran.append)
    timers.call_at(2.0, ran.append)
    first.cancel()
    first.cancel()
    assert timers.next() == 2.0
    assert len(timers) == 1
    timers.run(5.0)
    assert ran == [5.0]
    assert timers.next() is None
    assert len(timers) == 0


def test_a_timer_cancelled_by_an_earlier_one_that_is_due_with_it_does_not_run() -> None:
    timers, ran = Timers(), []
    timers.call_at(1.0, lambda now: second.cancel())
    second = timers.call_at(1.0, ran.append)
    timers.run(1.0)
    assert ran == []
    assert len(timers) == 0


def test_a_timer_made_by_a_timer_waits_for_the_next_run_even_when_due_at_once() -> None:
    timers, ran = Timers(), []

    def again(now: float) -> None:
        ran.append(now)
        timers.call_at(now, again)

    timers.call_at(1.0, again)
    timers.run(1.0)
    assert ran == [1.0]
    assert timers.next() == 1.0


def test_cancelling_after_it_ran_changes_nothing() -> None:
    timers = Timers()
    timer = timers.call_at(1.0, lambda now: None)
    timers.call_at(9.0, lambda now: None)
    timers.run(1.0)
    assert not timer.active
    timer.cancel()
    assert len(timers) == 1


def test_cancelled_timers_are_swept_from_the_heap() -> None:
    """A call cancels dozens of timers that would be due in 32 s: they must not pile up until then."""
    timers = Timers()
    keep = timers.call_at(1000.0, lambda now: None)
    for _ in range(10_000):
        timers.call_at(500.0, lambda now: None).cancel()
    assert len(timers) == 1
    assert len(timers._heap) < 200
    assert keep.active


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=200))
def test_exactly_the_timers_that_are_due_and_not_cancelled_run(plan: list[tuple[float, bool]]) -> None:
    timers, ran = Timers(), []
    made: list[Timer] = [
        timers.call_at(when, lambda now, index=index: ran.append(index)) for index, (when, _) in enumerate(plan)
    ]
    for timer, (_, cancelled) in zip(made, plan, strict=True):
        if cancelled:
            timer.cancel()
    timers.run(50.0)
    expected = [index for index, (when, cancelled) in enumerate(plan) if when <= 50.0 and not cancelled]
    assert sorted(ran) == expected
    assert ran == sorted(ran, key=lambda index: plan[index][0])
    assert len(timers) == sum(1 for when, cancelled in plan if when > 50.0 and not cancelled)
