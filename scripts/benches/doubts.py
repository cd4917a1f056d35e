"""When a figure is not the edge's: the reasons for which a window is inconclusive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .machine import EDGE_CORE, LOAD_CORE, Idle

__all__ = ["CLOCK_STEP_MS", "LOAD_CPU", "OTHERS", "STOLEN", "TICK_LATE_MS", "reasons"]

TICK_LATE_MS = 1.0
STOLEN = 0.01
LOAD_CPU = 0.85
CLOCK_STEP_MS = 0.5
OTHERS = 0.10
_NAMES = {EDGE_CORE: "the edge's core", LOAD_CORE: "the load's core"}


def reasons(load: Mapping[str, Any], idle: Mapping[int, Idle], cpu: float | None = None) -> list[str]:
    """Every bottleneck that was not the edge; ``load``: a window of load.c, ``cpu``: the edge's share of its core."""
    found = []
    others = idle[EDGE_CORE].used - idle[EDGE_CORE].cpu - cpu if cpu is not None else 0.0
    if others > OTHERS:
        found.append(f"other programs used {others:.0%} of the edge's core")
    for core, one in idle.items():
        late = one.late.get("p99", 0.0)
        if late > TICK_LATE_MS:
            found.append(f"the idle ticker on {_NAMES[core]} was late by {late:.1f} ms (p99)")
        if one.stolen > STOLEN:
            found.append(f"{one.stolen:.1%} of {_NAMES[core]} was stolen")
    if load.get("cpu", 0.0) > LOAD_CPU:
        found.append(f"the load used {load['cpu']:.0%} of its core")
    drift = load.get("generator_late_ms", {}).get("p99", 0.0)
    if drift > 2 * TICK_LATE_MS:
        found.append(f"the load was late by {drift:.1f} ms (p99)")
    if load.get("drops"):
        found.append(f"the load's sockets dropped {load['drops']} packets")
    if load.get("clock_step_ms", 0.0) > CLOCK_STEP_MS:
        found.append(f"the system's clock was set by {load['clock_step_ms']:.1f} ms")
    return found
