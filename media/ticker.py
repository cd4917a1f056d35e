"""The one clock all calls of a process are paced by: a tick every 20 ms, measured.

An I/O module: it reads the monotonic clock and uses the loop's timers.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

__all__ = ["FRAME_S", "Clock", "Lateness", "Schedule", "Tick", "Ticker"]

FRAME_S: Final = 0.020

Clock = Callable[[], float]


class Tick(msgspec.Struct, frozen=True, gc=False):
    """One wake-up. ``frames`` are due now; ``skipped`` more have passed and are given up.

    ``late_s`` [s]: how long after its time the oldest of all these is handled.
    """

    now: float
    frames: int
    skipped: int
    late_s: float

    def due_at(self, index: int) -> float:
        """When the ``index``-th of ``frames`` was due [s]: what play-out goes by, however late the wake-up is."""
        return self.now - self.late_s + (self.skipped + index) * FRAME_S


class Schedule:
    """Which frames are due at ``now``: frame n at ``start + n * interval_s``, whatever came late before.

    After a stall at most ``catch_up`` frames are handed out at once, the newest ones' time is kept
    and the rest is skipped: a receiver's jitter buffer takes a short burst, not a second of audio.
    """

    CATCH_UP: Final = 5

    __slots__ = ("_catch_up", "_frame", "_interval_s", "_start")

    def __init__(self, start: float, interval_s: float = FRAME_S, catch_up: int = CATCH_UP) -> None:
        self._start = start
        self._interval_s = interval_s
        self._catch_up = catch_up
        self._frame = 1

    @property
    def next_at(self) -> float:
        """When the next frame is due."""
        return self._start + self._frame * self._interval_s

    def due(self, now: float) -> Tick:
        """Hand out what is due; a wake-up that is early by less than a timer's resolution counts as on time."""
        first_at = self.next_at
        overdue = now - first_at
        passed = 1 + max(int(overdue / self._interval_s), 0)
        frames = min(passed, self._catch_up)
        self._frame += passed
        return Tick(now=now, frames=frames, skipped=passed - frames, late_s=max(overdue, 0.0))


class Lateness:
    """How late ticks were over the last ``window`` ticks (10 s)."""

    __slots__ = ("_recent",)

    def __init__(self, window: int = 500) -> None:
        self._recent: deque[float] = deque(maxlen=window)

    def add(self, late_s: float) -> None:
        """One tick's lateness [s]."""
        self._recent.append(late_s)

    @property
    def p99_ms(self) -> float | None:
        """The 99th percentile [ms]; None before the first tick."""
        if not self._recent:
            return None
        ordered = sorted(self._recent)
        return round(ordered[min(int(len(ordered) * 0.99), len(ordered) - 1)] * 1000, 3)

    @property
    def max_ms(self) -> float | None:
        """The worst [ms]; None before the first tick."""
        return round(max(self._recent) * 1000, 3) if self._recent else None


class Ticker:
    """Calls ``on_tick`` with each :class:`Tick` from :meth:`start` to :meth:`stop`.

    An exception out of ``on_tick`` goes to the loop's exception handler; the next tick still comes.
    ``lateness`` may be shared by several.
    """

    def __init__(self, on_tick: Callable[[Tick], None], lateness: Lateness | None = None) -> None:
        self._on_tick = on_tick
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._schedule = Schedule(0.0)
        self.lateness = lateness or Lateness()

    @property
    def running(self) -> bool:
        """Between :meth:`start` and :meth:`stop`."""
        return self._loop is not None

    @staticmethod
    def now() -> float:
        """The monotonic clock [s], the ``now`` of everything in media."""
        return time.monotonic()

    @staticmethod
    def wall() -> float:
        """UTC [s since the epoch], for what others read; may jump."""
        return time.time()

    def start(self, since: float | None = None) -> None:
        """Begin on the running loop; the first tick comes 20 ms from now, or at the next such multiple ``since``."""
        now = time.monotonic()
        self._loop = asyncio.get_running_loop()
        self._schedule = Schedule(now if since is None else now - (now - since) % FRAME_S)
        self._arm()

    def stop(self) -> None:
        """No tick after this."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._loop = None

    def _arm(self) -> None:
        if self._loop is not None:
            delay_s = max(self._schedule.next_at - time.monotonic(), 0.0)
            self._handle = self._loop.call_later(delay_s, self._run)

    def _run(self) -> None:
        tick = self._schedule.due(time.monotonic())
        self.lateness.add(tick.late_s)
        try:
            self._on_tick(tick)
        finally:
            self._arm()
