"""``setup``: from the command to the ready line, from INVITE to answer, whole calls, refusals."""

from __future__ import annotations

from .edge import served
from .report import Goal, Report
from .slow_requests import slow_requests
from .stand import Window, stand

__all__ = ["bench", "refuse", "start"]

START = Goal(1.5, 0.7)
RING, ANSWER = Goal(15.0, 5.0), Goal(50.0, 20.0)
WHOLE_CALL = Goal(4.0, 2.0)
REFUSED = Goal(1500, 3000, more=True)
HELD, RATE = 200, 50.0
FEW_HELD, FEW = 50, 10.0
LATE_ANSWER_MS = 500.0


def bench(report: Report, quick: bool) -> None:
    """All of it."""
    start(report, quick)
    _answers(report, quick)
    _whole_calls(report, quick)
    refuse(report, quick)


def start(report: Report, quick: bool) -> None:
    """From the command to the ready line, on one core."""
    taken = []
    for _ in range(2 if quick else 7):
        with served() as edge:
            taken.append(edge.start_s)
    note = f"best of {len(taken)}, worst {max(taken):.2f}"
    report.add("setup", "from the command to the ready line", min(taken), "s", START, note=note)


def _answers(report: Report, quick: bool) -> None:
    """50 calls a second, each of a second, while 200 are held; the agents are warm, and pick up when connected."""
    seconds = 4.0 if quick else 20.0
    with stand() as (made, edge):
        made.call(HELD)
        window = made.churn(seconds, RATE, 1.0)
        made.hang()
        made.call(FEW_HELD)
        apart = made.churn(seconds, FEW, 1.0)
        busy = made.churn(seconds, FEW, 1.0, lambda: slow_requests(edge, seconds))
        made.hang()
    report.load.append(window.summary("setup: 50 calls/s over 200 held"))
    doubt = _failed(window)
    for name, key, goal in (("180", "ring_ms", RING), ("200, agent warm", "answer_ms", ANSWER)):
        said = window.load[key]
        what = f"INVITE → {name}, {RATE:g}/s over {HELD} held"
        report.add("setup", f"{what}, p50", said.get("p50", 0.0), "ms", None, doubt)
        report.add("setup", f"{what}, p99", said.get("p99", 0.0), "ms", goal, doubt, f"max {said.get('max', 0.0):.1f}")
        report.series[f"INVITE → {name}"] = said.get("quantiles", [])
    for when, measured in (("undisturbed", apart), ("under a burst of slow API calls", busy)):
        report.load.append(measured.summary(f"setup: {FEW:g} calls/s over {FEW_HELD} held, {when}"))
        said = measured.load["ring_ms"]
        what = f"INVITE → 180, {FEW:g}/s over {FEW_HELD} held, {when}, p99"
        note = f"p50 {said.get('p50', 0.0):.1f}, max {said.get('max', 0.0):.1f}"
        report.add("setup", what, said.get("p99", 0.0), "ms", None, _failed(measured), note)


def _failed(window: Window) -> str:
    parts = [window.doubt] if window.doubt else []
    if window.failures:
        parts.append(f"{window.failures} of {window.load['placed']} calls failed")
    return ", ".join(parts)


def _whole_calls(report: Report, quick: bool) -> None:
    """Calls of one second: the CPU of one, and how many a second stay clean."""
    rates = (20, 60, 100) if quick else (20, 40, 60, 80, 100, 120, 140, 160, 200)
    seconds = 3.0 if quick else 8.0
    with stand() as (made, _):
        made.churn(2.0, 10.0, 1.0)
        best, why, doubt, best_doubt = 0, "", "", ""
        for rate in rates:
            window = made.churn(seconds, rate, 1.0)
            used = window.cpu * window.seconds / max(window.load["placed"], 1) * 1e3
            report.load.append(window.summary(f"setup: whole calls at {rate}/s"))
            report.series.setdefault("CPU a whole call [ms]", []).append([rate, used])
            doubt, why = window.doubt, _unclean(window)
            if rate == rates[0]:
                what = f"edge CPU a whole call of 1 s, at {rate}/s"
                report.add("setup", what, used, "ms", WHOLE_CALL, doubt, f"{window.load['placed']} calls")
            if why:
                break
            best, best_doubt = rate, doubt
    note = f"at {rate}/s: {why}" if why else "not searched further"
    report.add("setup", "highest clean rate of whole calls of 1 s, on one core", best, "/s", None, best_doubt, note)


def _unclean(window: Window) -> str:
    """Empty where every call was answered at its first INVITE, soon, and ended as it should."""
    if window.failures:
        return f"{window.failures} of {window.load['placed']} calls failed"
    if window.load["again"]:
        return f"{window.load['again']} requests had to be repeated"
    late = window.load["answer_ms"].get("p99", 0.0)
    return f"INVITE → 200 p99 {late:.0f} ms" if late > LATE_ANSWER_MS else ""


def refuse(report: Report, quick: bool) -> None:
    """INVITEs for a number that is not here: looked up, refused with 404, acknowledged. As many as it takes."""
    with stand("builtin") as (made, _):
        window = made.window(f"refuse {3.0 if quick else 10.0} 64")
    _refusals(report, window)


def _refusals(report: Report, window: Window) -> None:
    refused, seconds = window.load["refusals"], window.load["seconds"]
    report.load.append(window.summary("setup: refusals"))
    note = f"{window.cpu / max(refused, 1) * window.seconds * 1e3:.3f} ms of CPU each; load {window.load['cpu']:.0%}"
    report.add("setup", "404 after the lookup, on one core", refused / seconds, "/s", REFUSED, _failed(window), note)
