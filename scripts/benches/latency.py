"""``latency``: what the edge adds to each way, and what slow work in control does to the pacing."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .edge import Served
from .machine import EDGE_CORE
from .report import Goal, Report
from .slow_requests import slow_requests
from .stand import TARGET_MS, Window, stand

__all__ = ["bench"]

TO_PHONE, TO_AGENT = Goal(20.0, 10.0), Goal(5.0, 2.0)
CALLS = 100
SETTLE_S = 6.0


def bench(report: Report, quick: bool) -> None:
    """A hundred calls whose agents say half a second at once every second; then the same while control is kept busy."""
    seconds = 4.0 if quick else 15.0
    with stand() as (made, edge):
        made.talk("burst")
        made.call(CALLS)
        time.sleep(SETTLE_S)
        quiet = made.measure(seconds)
        _delays(report, quiet)
        _pacing(report, "undisturbed", quiet)
        _pacing(report, "under a burst of slow API calls", made.measure(seconds, lambda: slow_requests(edge, seconds)))
        _pacing(report, "while SQLite is locked", made.measure(seconds, lambda: _locked(edge, seconds - 1.0)))
        _collector(report, edge)
        made.hang()


def _delays(report: Report, window: Window) -> None:
    report.load.append(window.summary(f"latency: {CALLS} calls"))
    ways = (
        ("agent → phone", "to_phone", TO_PHONE, "beyond pacing", "from the first tick after it came, frame for frame"),
        (
            "phone → agent",
            "to_agent",
            TO_AGENT,
            f"beyond the jitter buffer's {TARGET_MS:g} ms",
            "from the first tick at which the buffer may give it",
        ),
    )
    for name, key, goal, beyond, how in ways:
        added, whole = window.load[f"{key}_added_ms"], window.load[f"{key}_ms"]
        note = f"{how}; p99 {added.get('p99', 0.0):.2f}, max {added.get('max', 0.0):.1f}"
        report.add("latency", f"{name}, added {beyond}, p95", added.get("p95", 0.0), "ms", goal, window.doubt, note)
        what = f"{name}, in all, the wait for the tick included, p95"
        report.add("latency", what, whole.get("p95", 0.0), "ms", None, window.doubt, f"p50 {whole.get('p50', 0.0):.2f}")
        report.series[f"{name}, added"] = added.get("quantiles", [])
        report.series[f"{name}, in all"] = whole.get("quantiles", [])
        report.add("latency", f"{name}, frames verified", window.verified(key), "%", None, window.doubt)


def _pacing(report: Report, what: str, window: Window) -> None:
    late, idle = window.load["pacing_late_ms"], window.idle[EDGE_CORE].late
    report.load.append(window.summary(f"latency: {what}"))
    lost = sum(window.load[way]["missing"] for way in ("to_agent", "to_phone"))
    note = f"max {late.get('max', 0.0):.1f}, idle ticker {idle.get('p99', 0.0):.2f}; {lost} frames missing"
    report.add("latency", f"pacing p99, {what}", late.get("p99", 0.0), "ms late", None, window.doubt, note)
    report.series[f"pacing, {what}"] = late.get("quantiles", [])


def _locked(edge: Served, seconds: float) -> None:
    """Nobody else writes the registry; control has calls' events to write all the same."""
    with _lock(edge):
        stop = threading.Event()
        asking = threading.Thread(target=_write, args=(edge, stop))
        asking.start()
        time.sleep(seconds)
        stop.set()
    asking.join()


@contextmanager
def _lock(edge: Served) -> Iterator[None]:
    database = sqlite3.connect(edge.registry, isolation_level=None, timeout=5.0)
    database.execute("begin exclusive")
    try:
        yield
    finally:
        database.execute("rollback")
        database.close()


def _write(edge: Served, stop: threading.Event) -> None:
    """Requests that have to wait for the lock."""
    while not stop.wait(0.2):
        with contextlib.suppress(OSError):
            edge.add_agent()


def _collector(report: Report, edge: Served) -> None:
    """The garbage collector's longest pauses since the start: frozen after the start, it has only calls to walk."""
    metrics = edge.metrics()
    control, media = metrics.get("truedy_gc_pause_max_seconds"), metrics.get("truedy_media_gc_pause_max_seconds")
    if control is not None and media is not None:
        count = metrics["truedy_gc_collections_total"]
        note = f"{count:g} collections"
        report.add("latency", "garbage collector's longest pause, control", control * 1000, "ms", note=note)
        report.add("latency", "garbage collector's longest pause, media", media * 1000, "ms")
