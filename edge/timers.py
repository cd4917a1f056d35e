"""All timers of one engine in one heap, behind one ``call_at``.

Nothing here reads a clock: the engine's owner asks for :meth:`Timers.next`, waits as long, and calls
:meth:`Timers.run`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final

__all__ = ["Timer", "Timers"]

_COMPACT_ABOVE: Final = 64


class Timer:
    """One pending callback. :meth:`cancel` is idempotent, and harmless after it ran."""

    __slots__ = ("_callback", "_timers", "when")

    def __init__(self, when: float, callback: Callable[[float], None], timers: Timers) -> None:
        self.when = when
        self._callback: Callable[[float], None] | None = callback
        self._timers = timers

    @property
    def active(self) -> bool:
        """True until the timer has run or is cancelled."""
        return self._callback is not None

    def cancel(self) -> None:
        """Never run the callback. O(1): the heap's entry is left to be skipped or swept later."""
        if self._callback is not None:
            self._callback = None
            self._timers._forget_one()

    def _take(self) -> Callable[[float], None] | None:
        callback, self._callback = self._callback, None
        return callback


class Timers:
    """A heap of timers, run in the order of their times, then of their making."""

    __slots__ = ("_active", "_heap", "_made")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._made = 0
        self._active = 0

    def __len__(self) -> int:
        """Timers that are still to run."""
        return self._active

    def call_at(self, when: float, callback: Callable[[float], None]) -> Timer:
        """Call ``callback(now)`` at ``when`` [s] or as soon as possible after it."""
        timer = Timer(when, callback, self)
        self._made += 1
        self._active += 1
        heapq.heappush(self._heap, (when, self._made, timer))
        return timer

    def next(self) -> float | None:
        """When the earliest timer is due [s]; None when there is none."""
        heap = self._heap
        while heap and heap[0][2]._callback is None:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def run(self, now: float) -> None:
        """Run every timer due at ``now``; those they make wait for the next call, even when due at once."""
        due: list[Timer] = []
        heap = self._heap
        while heap and heap[0][0] <= now:
            due.append(heapq.heappop(heap)[2])
        for timer in due:  # one of them may cancel a later one
            callback = timer._take()
            if callback is not None:
                self._active -= 1
                callback(now)

    def _forget_one(self) -> None:
        self._active -= 1
        if len(self._heap) > _COMPACT_ABOVE and len(self._heap) > 2 * self._active:
            self._heap = [entry for entry in self._heap if entry[2]._callback is not None]
            heapq.heapify(self._heap)
