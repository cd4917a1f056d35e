"""What Python's garbage collector costs a process: how often it stopped it, and for how long.

After the start what lives as long as the process is frozen, so that it is never walked again. A collection of all
generations walks everything that the calls hold, 20 ms for 300 of them: it waits until there are none. What is left is
shown in the metrics.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from typing import Final

__all__ = ["FullCollections", "Pauses"]


class Pauses:
    """Counts collections between :meth:`watch` and :meth:`close`; ``clock`` [s] is monotonic."""

    __slots__ = ("_began", "_clock", "collections", "longest_s", "total_s")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began: float | None = None
        self.collections = 0
        self.total_s = 0.0
        self.longest_s = 0.0

    @property
    def longest_ms(self) -> float:
        """The longest pause [ms]."""
        return round(self.longest_s * 1000, 3)

    def watch(self) -> None:
        """Begin to count."""
        gc.callbacks.append(self._note)

    def close(self) -> None:
        """Count no more; once more does nothing."""
        if self._note in gc.callbacks:
            gc.callbacks.remove(self._note)

    def _note(self, phase: str, info: Mapping[str, int]) -> None:
        if phase == "start":
            self._began = self._clock()
        elif self._began is not None:
            pause = self._clock() - self._began
            self._began = None
            self.collections += 1
            self.total_s += pause
            self.longest_s = max(self.longest_s, pause)


class FullCollections:
    """The collector's oldest generation, by hand. What calls leave behind is freed without it; the rest can wait.

    Next: :meth:`begin` when the process is ready, then :meth:`attend` now and then. ``clock`` [s] is monotonic.
    """

    LEAST_S: Final = 10.0
    """Between two of them in a process without calls."""
    MOST_S: Final = 600.0
    """In one that is never without."""

    __slots__ = ("_before", "_clock", "_last")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._before = gc.get_threshold()
        self._last = 0.0

    def begin(self) -> None:
        """Freeze what there is; from here on no full collection comes by itself, and the others do."""
        gc.freeze()
        gc.set_threshold(*self._before[:2], _NEVER)
        gc.enable()
        self._last = self._clock()

    def attend(self, calls: int) -> None:
        """Collect if it is time to; ``calls`` are open."""
        now = self._clock()
        if now - self._last >= (self.MOST_S if calls else self.LEAST_S):
            gc.collect()
            self._last = now

    def close(self) -> None:
        """The collector is as it was."""
        gc.set_threshold(*self._before)


_NEVER: Final = 2**31 - 1
