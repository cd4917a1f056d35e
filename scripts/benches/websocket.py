"""``websocket``: the libraries that could carry the agents' links, each as a client of the same server."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from .machine import EDGE_CORE, Program
from .report import Report
from .stand import Load

__all__ = ["bench"]

LIBRARIES = ("picows", "websockets", "aiohttp")
CONNECTIONS = 100
_HERE = Path(__file__).parent


def bench(report: Report, quick: bool) -> None:
    """A hundred connections, fifty messages a second each way on each: a call's traffic, and nothing but it."""
    seconds = 2.0 if quick else 10.0
    for library in LIBRARIES:
        if importlib.util.find_spec(library) is None:
            report.say(f"websocket {library}: SKIPPED: not installed")
            continue
        load = Load()
        try:
            load.ask("talk paced")
            script = _HERE / "peer_websocket.py"
            command = ("taskset", "-c", str(EDGE_CORE), sys.executable, script, library, load.agents)
            client = Program(*command, str(CONNECTIONS), str(seconds))
            client.stop()
        finally:
            load.stop()
        said = client.hello
        what = f"{library}, {CONNECTIONS} connections, 50 messages/s each way: CPU a link"
        back = said["received"] / said["sent"]
        note = f"{said['version']}; {back:.0%} of messages back, ticks {said['late_p99_ms']:.1f} ms late p99"
        report.add("websocket", what, said["cpu"] / CONNECTIONS * 100, "% of core", None, note=note)
