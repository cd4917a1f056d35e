"""The garbage collector's pauses, on a fake clock."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from media.collector import Pauses


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
