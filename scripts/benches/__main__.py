"""``scripts/bench``: measures the edge on this machine, the edge on core 0 and its load on core 1."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from . import bridge, latency, parse, peers, registry, setup, soak
from .machine import LOAD_CORE, facts, pin
from .report import HEADING, Report

BENCHES: dict[str, Callable[[Report, bool], None]] = {
    "parse": parse.bench,
    "registry": registry.bench,
    "setup": setup.bench,
    "latency": latency.bench,
    "bridge": bridge.bench,
    "peers": peers.bench,
    "soak": soak.bench,
}
PARTS = {"start": setup.start, "refuse": setup.refuse}


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("benches", nargs="*", metavar="BENCH", help=" ".join(BENCHES))
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    arguments = parser.parse_args(argv)
    known = BENCHES | PARTS
    if unknown := sorted(set(arguments.benches) - set(known)):
        parser.error(f"no bench called {unknown[0]}")
    pin(LOAD_CORE)
    report = Report(facts(), arguments.quick)
    report.say("# " + ", ".join(f"{name} {value}" for name, value in report.machine.items()))
    report.say(HEADING)
    for name in arguments.benches or BENCHES:
        known[name](report, arguments.quick)
    if arguments.json:
        report.save(arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
