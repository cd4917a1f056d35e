"""``scripts/bench``: measures the edge on this machine, the edge on core 0 and its load on core 1."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import bridge, latency, parse, peers, registry, setup, soak, websocket
from .compare import compare
from .machine import LOAD_CORE, compiler, facts, pin
from .page import update
from .plot import plots
from .report import HEADING, Report

BENCHES: dict[str, Callable[[Report, bool], None]] = {
    "parse": parse.bench,
    "registry": registry.bench,
    "setup": setup.bench,
    "latency": latency.bench,
    "bridge": bridge.bench,
    "peers": peers.bench,
    "websocket": websocket.bench,
    "soak": soak.bench,
}
HISTORY = Path(__file__).resolve().parents[2] / "docs" / "perf"
PAGE = HISTORY.with_name("performance.md")
PARTS = {"start": setup.start, "refuse": setup.refuse}


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("benches", nargs="*", metavar="BENCH", help=" ".join(BENCHES))
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw them there")
    parser.add_argument(
        "--keep", action="store_true", help="into docs/perf/, under today's date, and docs/performance.md"
    )
    parser.add_argument("--compare", type=Path, metavar="OLD.json", help="print the ratios to an older run")
    parser.add_argument(
        "--from", type=Path, metavar="NEW.json", dest="given", help="a run kept before; measure nothing"
    )
    arguments = parser.parse_args(argv)
    if unknown := sorted(set(arguments.benches) - set(BENCHES | PARTS)):
        parser.error(f"no bench called {unknown[0]}")
    if arguments.given:
        figures = json.loads(arguments.given.read_text())
    else:
        figures = _measure(arguments.benches or list(BENCHES), arguments.quick)
    if arguments.keep:
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        arguments.json = arguments.json or HISTORY / f"{today}.json"
        arguments.plots = arguments.plots or HISTORY
        update(PAGE, figures)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
    if arguments.plots:
        plots(figures, arguments.plots)
    if arguments.compare:
        for line in compare(json.loads(arguments.compare.read_text()), figures):
            print(line)
    return 0


def _measure(names: list[str], quick: bool) -> dict[str, Any]:
    """One bench after the other, each row printed as it is known. A bench that breaks costs only its own rows."""
    pin(LOAD_CORE)
    report = Report(facts(), quick)
    report.say("# " + ", ".join(f"{name} {value}" for name, value in report.machine.items()))
    if compiler() is None:
        report.say("# no C compiler: a load in Python, a few calls, no kernel stamps, no limit")
    report.say(HEADING)
    for name in names:
        began = time.perf_counter()
        try:
            (BENCHES | PARTS)[name](report, quick)
        except Exception as error:  # the others' figures are wanted all the same
            report.broken.append(f"{name}: {type(error).__name__}: {error}")
            report.say(f"{name:8} BROKE: {type(error).__name__}: {error}")
        report.took[name] = round(time.perf_counter() - began, 1)
    return report.as_dict()


if __name__ == "__main__":
    sys.exit(main())
