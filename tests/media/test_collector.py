"""The garbage collector's pauses, on a fake clock."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from media.collector import FullCollections, Pauses


class _Clock:
    def __init__(self) -> None:
        self.step = 0.001
        self.now = 5.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.fixture
def pauses(clock: _Clock) -> Iterator[Pauses]:
    """Watching, and nothing collects by itself meanwhile."""
    gc.disable()
    made = Pauses(clock)
    made.watch()
    yield made
    made.close()
    gc.enable()


def test_each_collection_is_counted_with_its_pause(pauses: Pauses, clock: _Clock) -> None:
    gc.collect()
    clock.step = 0.004
    gc.collect(0)
    clock.step = 0.002
    gc.collect(1)
    assert pauses.collections == 3
    assert pauses.total_s == pytest.approx(0.007)
    assert pauses.longest_ms == 4.0


def test_after_its_close_nothing_is_counted_or_called(pauses: Pauses) -> None:
    pauses.close()
    gc.collect()
    assert pauses.collections == 0
    pauses.close()


def test_an_end_without_its_start_is_no_pause(pauses: Pauses, clock: _Clock) -> None:
    """It is watched from within a collection."""
    pauses._note("stop", {})
    assert pauses.collections == 0


@pytest.fixture
def full(clock: _Clock) -> Iterator[FullCollections]:
    made = FullCollections(clock)
    clock.step = 0.0
    made.begin()
    yield made
    made.close()
    gc.unfreeze()


def test_a_process_with_calls_is_not_stopped_for_a_full_collection(
    full: FullCollections, pauses: Pauses, clock: _Clock
) -> None:
    """Not before so long that what calls have left behind must be looked after all the same."""
    assert gc.get_freeze_count() > 0
    clock.now += FullCollections.MOST_S - 1
    full.attend(calls=1)
    assert pauses.collections == 0
    clock.now += 1
    full.attend(calls=1)
    full.attend(calls=1)
    assert pauses.collections == 1


def test_a_process_without_calls_collects_now_and_then(full: FullCollections, pauses: Pauses, clock: _Clock) -> None:
    full.attend(calls=0)
    assert pauses.collections == 0
    clock.now += FullCollections.LEAST_S
    full.attend(calls=0)
    assert pauses.collections == 1


def test_no_full_collection_comes_by_itself_until_the_end(clock: _Clock) -> None:
    before = gc.get_threshold()
    full = FullCollections(clock)
    full.begin()
    gc.unfreeze()
    assert gc.get_threshold()[:2] == before[:2]
    assert gc.get_threshold()[2] > 10**9
    full.close()
    assert gc.get_threshold() == before
