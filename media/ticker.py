"""The one clock all calls of a process are paced by: a tick every 20 ms, measured.

An I/O module: it reads the monotonic clock and has timers of the kernel's own (timerfd_create(2)), which are exact to
some microseconds; uvloop's are of whole milliseconds, early or late.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

__all__ = ["FRAME_S", "Clock", "Lateness", "Schedule", "Tick", "Ticker"]

FRAME_S: Final = 0.020

# os.timerfd_create is Python 3.13's.
_libc: Final = ctypes.CDLL(None, use_errno=True)
_ITIMERSPEC: Final = struct.Struct("qqqq")
_TIMER_ABSTIME: Final = 1
_EXPIRATIONS_BYTES: Final = 8
_NS: Final = 1_000_000_000

Clock = Callable[[], float]


class Tick(msgspec.Struct, frozen=True, gc=False):
    """One wake-up. ``frames`` are due now; ``skipped`` more have passed and are given up.

    ``late_s`` [s]: how long after its time the oldest of all these is handled. ``due_at`` [s]: when the first of
    ``frames`` was due, which is what play-out goes by, however late the wake-up is.
    """

    now: float
    frames: int
    skipped: int
    late_s: float
    due_at: float


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
        skipped, late_s = passed - frames, max(overdue, 0.0)
        due_at = now - late_s + skipped * self._interval_s
        return Tick(now=now, frames=frames, skipped=skipped, late_s=late_s, due_at=due_at)


class Lateness:
    """How late ticks were over the last ``window`` ticks: 10 s of one ticker, of several that share it the less."""

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
        self._timer = -1
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
        """Begin on the running loop; the first tick comes 20 ms from now, or at the next such multiple ``since``.

        Raises OSError where no descriptor is left.
        """
        now = time.monotonic()
        self._schedule = Schedule(now if since is None else now - (now - since) % FRAME_S)
        self._timer = _timer(self._schedule.next_at, FRAME_S)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._timer, self._run)

    def stop(self) -> None:
        """No tick after this."""
        if self._loop is not None:
            self._loop.remove_reader(self._timer)
            os.close(self._timer)
            self._loop = None

    def _run(self) -> None:
        try:
            os.read(self._timer, _EXPIRATIONS_BYTES)
        except BlockingIOError:
            return
        tick = self._schedule.due(time.monotonic())
        self.lateness.add(tick.late_s)
        self._on_tick(tick)


def _timer(first_at: float, every_s: float) -> int:
    """A descriptor that can be read at ``first_at`` of the monotonic clock [s], and again ``every_s`` after that."""
    descriptor: int = _libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "timerfd_create")
    first_ns, every_ns = round(first_at * 1e9), round(every_s * 1e9)
    setting = _ITIMERSPEC.pack(*divmod(every_ns, _NS), *divmod(first_ns, _NS))
    if _libc.timerfd_settime(descriptor, _TIMER_ABSTIME, setting, None):
        os.close(descriptor)
        raise OSError(ctypes.get_errno(), "timerfd_settime")
    return descriptor
