"""What Python's garbage collector costs a process: how often it stopped it, and for how long.

The collector is frozen after the start, so that what lives as long as the process is never walked again; what is left
is shown in the metrics.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping

__all__ = ["Pauses"]


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
