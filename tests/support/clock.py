"""A clock that moves when it is told to."""

from __future__ import annotations

__all__ = ["FakeClock"]


class FakeClock:
    """Monotonic seconds from ``start``; call it for the time, or read ``now``."""

    def __init__(self, start: float = 1000.0) -> None:
        self.now = start

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> float:
        """Move on, never back; returns the new time [s]."""
        if seconds < 0:
            raise ValueError(f"a clock does not go back ({seconds} s)")
        self.now += seconds
        return self.now

    def advance_to(self, moment: float) -> float:
        """Move on to ``moment``; a moment already past leaves it where it is."""
        self.now = max(self.now, moment)
        return self.now
