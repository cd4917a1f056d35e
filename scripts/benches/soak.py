"""``soak``: a steady coming and going of calls, and what it leaves behind."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from .edge import Served
from .report import Report
from .stand import stand

__all__ = ["bench", "slope"]

RATE, HOLD_S = 20.0, 4.0
WARM_S = 10.0


def bench(report: Report, quick: bool) -> None:
    """Twenty calls a second, each of 4 s: some eighty at once."""
    seconds = 10.0 if quick else 150.0
    memory: list[tuple[float, float]] = []
    with stand() as (made, edge):
        made.churn(3.0 if quick else WARM_S, RATE, HOLD_S)
        time.sleep(1.0)
        before = _descriptors(edge)
        window = made.window(f"churn {seconds} {RATE} {HOLD_S}", lambda: _watch(edge, seconds, memory))
        time.sleep(1.5)
        left = _descriptors(edge) - before
        metrics = edge.metrics()
    report.load.append(window.summary("soak"))
    report.series["soak, resident memory [MB]"] = [[round(at, 1), round(kb / 1024, 2)] for at, kb in memory]
    placed = window.load["placed"]
    what = f"{placed} calls in {seconds:g} s, {RATE:g}/s of {HOLD_S:g} s"
    report.add("soak", f"{what}: not answered, or ended by the edge", window.failures, "calls", None, window.doubt)
    verified = min(window.verified("to_agent"), window.verified("to_phone"))
    note = "the jitter buffer's adaption in a call's first seconds merges frames"
    report.add("soak", f"{what}: frames verified, the worse way", verified, "%", None, window.doubt, note)
    if not quick:  # a quarter of a minute says nothing of growth
        report.add("soak", "resident memory grows by", slope(memory) * 60 / 1024, "MB/min", None, window.doubt)
    report.add("soak", "descriptors left open", left, "", None)
    kept = metrics["truedy_calls"] + metrics["truedy_rtp_ports_leased"]
    report.add("soak", "calls and ports still held at the end", kept, "", None)


def _watch(edge: Served, seconds: float, memory: list[tuple[float, float]]) -> None:
    began = time.perf_counter()
    while (at := time.perf_counter() - began) < seconds:
        memory.append((at, edge.resident_kb()))
        time.sleep(1.0)


def _descriptors(edge: Served) -> int:
    count = 0
    for pid in edge.pids():
        with contextlib.suppress(OSError):
            count += sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    return count


def slope(points: list[tuple[float, float]]) -> float:
    """Of the straight line through the second half of the points."""
    half = points[len(points) // 2 :]
    if len(half) < 2:
        return 0.0
    mean_x = sum(x for x, _ in half) / len(half)
    mean_y = sum(y for _, y in half) / len(half)
    spread = sum((x - mean_x) ** 2 for x, _ in half)
    return sum((x - mean_x) * (y - mean_y) for x, y in half) / spread if spread else 0.0
