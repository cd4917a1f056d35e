"""``bridge``: G.711 calls joined to agents: CPU and memory a call, every frame verified, how many one core takes."""

from __future__ import annotations

import time

from .machine import EDGE_CORE, compiler
from .report import Goal, Report
from .stand import Stand, Window, stand

__all__ = ["bench"]

CPU = Goal(0.22, 0.12)
GROWTH = Goal(1.2, 1.0)
MEMORY = Goal(150.0, 60.0)
CALLS = Goal(300, 500, more=True)
PACING_MS = 2.0
SETTLE_S = 6.0


def bench(report: Report, quick: bool) -> None:
    """The edge as it is by default, then with media in its own process."""
    counts = (30, 100, 300) if compiler() else (10, 30)
    seconds = 3.0 if quick else 15.0
    with stand() as (made, edge):
        windows, resident = {}, {}
        for count in counts:
            windows[count] = _grow(report, made, count, seconds, "")
            resident[count] = edge.resident_kb()
        small, large = windows[counts[0]], windows[counts[-1]]
        report.add(
            "bridge",
            f"growth: CPU a call at {counts[-1]} against at {counts[0]}",
            large.cpu_a_call / small.cpu_a_call,
            "x",
            GROWTH,
            _both(small, large),
        )
        grown = (resident[counts[-1]] - resident[counts[0]]) / (counts[-1] - counts[0])
        report.add("bridge", f"memory a call (resident, from {counts[0]} to {counts[-1]})", grown, "kB", MEMORY)
        if not clean(large):
            _upwards(report, made, quick, seconds, large)
    if why := clean(large):
        _downwards(report, quick, seconds, windows, why)
    if not quick:
        with stand(workers=0) as (made, _):
            _grow(report, made, counts[-1], seconds, ", media.workers = 0")


def _both(*windows: Window) -> str:
    return ", ".join(dict.fromkeys(window.doubt for window in windows if window.doubt))


def _grow(report: Report, made: Stand, count: int, seconds: float, more: str) -> Window:
    """Up to ``count`` calls, and a window of them."""
    held = int(made.load.ask("measure 0.1 10")["calls"])
    made.call(count - held)
    window = _settled(report, made, count, seconds, more)
    what, doubt = f"{count} calls{more}", window.doubt
    report.add("bridge", f"{what}: CPU a call", window.cpu_a_call, "% of core", CPU, doubt, _beside(window))
    verified = min(window.verified("to_agent"), window.verified("to_phone"))
    report.add("bridge", f"{what}: frames verified, the worse way", verified, "%", None, doubt, _lost(window))
    pacing = window.load["pacing_late_ms"]
    note = f"idle ticker {window.idle[EDGE_CORE].late.get('p99', 0.0):.2f}, max {pacing.get('max', 0.0):.1f}"
    report.add("bridge", f"{what}: pacing of what is sent, p99", pacing.get("p99", 0.0), "ms late", None, doubt, note)
    report.series[f"pacing, {what}"] = pacing.get("quantiles", [])
    report.series["idle ticker"] = window.idle[EDGE_CORE].late.get("quantiles", [])
    return window


def _beside(window: Window) -> str:
    late = window.load["generator_late_ms"].get("p99", 0.0)
    return f"load {window.load['cpu']:.0%} of its core, late {late:.2f} ms p99; edge {window.cpu:.0%}"


def _lost(window: Window) -> str:
    told = []
    for way, name in (("to_agent", "to agents"), ("to_phone", "to phones")):
        heard = window.load[way]
        bad = {key: heard[key] for key in ("missing", "corrupted", "repeated") if heard[key]}
        told.append(f"{name} {heard['verified']}" + "".join(f", {count} {key}" for key, count in bad.items()))
    return "; ".join(told)


def clean(window: Window) -> str:
    """Empty where nothing was lost, underran or was late; else what was."""
    if window.failures:
        return f"{window.failures} calls failed"
    for way in ("to_agent", "to_phone"):
        if window.verified(way) < 100.0:
            return f"{window.verified(way):.3f} % verified {way.replace('_', ' ')}"
    if window.load["to_phone"]["silent_frames"]:
        return f"{window.load['to_phone']['silent_frames']} underruns"
    if window.beyond_idle_ms > PACING_MS:
        return f"pacing p99 {window.beyond_idle_ms:.1f} ms beyond the idle ticker's"
    return ""


def _upwards(report: Report, made: Stand, quick: bool, seconds: float, window: Window) -> None:
    """Until something gives; a quick run does not look for it."""
    step, most = 50, window.calls if quick else 600
    best, why, doubt = window.calls, "", window.doubt
    while not why and best + step <= most:
        try:
            made.call(step)
        except RuntimeError as error:
            why = str(error)
            break
        window = _settled(report, made, best + step, seconds)
        why = clean(window)
        if not why:
            best, doubt = best + step, window.doubt
    _capacity(report, best, doubt, _gave(best + step, why, window) if why else "not searched further")


def _downwards(report: Report, quick: bool, seconds: float, windows: dict[int, Window], why: str) -> None:
    """Fewer than ``windows`` had at most, until nothing gives; each with an edge of its own."""
    most = max(windows)
    note = _gave(most, why, windows[most])
    step = 200 if quick else 50
    for fewer in range(most - step, 0, -step):
        window = windows.get(fewer)
        if window is None:
            with stand() as (made, _):
                made.call(fewer)
                window = _settled(report, made, fewer, seconds)
        if not clean(window):
            _capacity(report, fewer, window.doubt, note)
            return
    _capacity(report, 0, windows[most].doubt, note)


def _settled(report: Report, made: Stand, held: int, seconds: float, more: str = "") -> Window:
    """A window of the calls that are held, once their jitter buffers have come down."""
    time.sleep(SETTLE_S)
    window = made.measure(seconds)
    report.load.append(window.summary(f"bridge: {held} calls{more}"))
    report.series.setdefault(f"CPU a call{more}", []).append([held, window.cpu_a_call])
    return window


def _gave(count: int, why: str, window: Window) -> str:
    """What gave at ``count`` calls, and whether the edge is to blame."""
    return f"at {count}: {why}" + (f"; {window.doubt}" if window.doubt else "")


def _capacity(report: Report, best: int, doubt: str, note: str) -> None:
    what = "calls on one core, no underrun, pacing p99 within 2 ms of idle"
    report.add("bridge", what, best, "calls", CALLS, doubt, note)
