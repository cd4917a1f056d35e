"""What a process holds and has used, as the system tells (proc(5)). An I/O module: it reads ``/proc``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge.counters import Labels

__all__ = ["Cost", "cost_of", "cost_series"]

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Cost:
    """Resident memory, and CPU time of all threads since the start [s]."""

    memory_bytes: int
    cpu_s: float


def cost_of(pid: int) -> Cost | None:
    """None where the system does not tell: there is no ``/proc``, or no such process any more."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The name in parentheses is the program's own, and may hold spaces and parentheses; the state follows it, field 3.
    fields = stat.rpartition(b")")[2].split()
    user, system, pages = int(fields[14 - 3]), int(fields[15 - 3]), int(fields[24 - 3])
    return Cost(pages * _PAGE_BYTES, (user + system) / _TICKS_PER_S)


def cost_series(pids: Mapping[Labels, int]) -> tuple[Mapping[Labels, int], Mapping[Labels, float]]:
    """Memory [bytes] and CPU time [s] of these processes, under their labels; of those that can be told."""
    costs = {labels: cost for labels, pid in pids.items() if (cost := cost_of(pid)) is not None}
    memory_bytes = {labels: cost.memory_bytes for labels, cost in costs.items()}
    return memory_bytes, {labels: cost.cpu_s for labels, cost in costs.items()}
