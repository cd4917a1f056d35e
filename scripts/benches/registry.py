"""``registry``: a number looked up among many, as each call does."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from pathlib import Path

from control.entropy import entropy, new_id
from control.registry.sqlite import SqliteRegistry
from control.registry.types import Account, Agent, Number

from .machine import EDGE_CORE, pinned
from .report import Goal, Report, percentile

__all__ = ["bench"]

GOAL = Goal(50.0, 15.0)
LOOKUPS = 20_000


def bench(report: Report, quick: bool) -> None:
    """A million numbers in both cases; the filling takes seconds."""
    count = 1_000_000
    with tempfile.TemporaryDirectory() as folder, pinned(EDGE_CORE):
        taken = asyncio.run(_lookups(Path(folder) / "registry.db", count))
    report.add("registry", f"lookup by DID among {count:,}, p50", percentile(taken, 0.50) * 1e6, "µs")
    report.add("registry", f"lookup by DID among {count:,}, p99", percentile(taken, 0.99) * 1e6, "µs", GOAL)


async def _lookups(path: Path, count: int) -> list[float]:
    registry = SqliteRegistry.open(path)
    try:
        await registry.create_account(Account("acme", "acme", 0.0))
        await registry.create_agent(Agent("agent", "acme", "A", {"protocol": "builtin", "name": "echo"}, 0.0, 0.0))
        first = Number(new_id(entropy), "acme", "+1000", "", "sip", "lab", "active", 0.0, 0.0, "agent")
        await registry.create_number(first)
        _fill(path, count)
        taken = []
        for index in range(LOOKUPS):
            number = f"+1{(index * 7919) % count:09d}"
            began = time.perf_counter()
            route = await registry.route("lab", number)
            taken.append(time.perf_counter() - began)
            if route is None:
                raise LookupError(number)
        return taken
    finally:
        await registry.close()


def _fill(path: Path, count: int) -> None:
    """Many rows like the first one, by SQL: imports one at a time would take minutes."""
    with sqlite3.connect(path) as connection:
        names = [row[1] for row in connection.execute("PRAGMA table_info(numbers)")]
        row = dict(zip(names, connection.execute("SELECT * FROM numbers").fetchone(), strict=True))
        marks = ", ".join("?" for _ in names)
        connection.executemany(
            f"INSERT INTO numbers ({', '.join(names)}) VALUES ({marks})",
            ([*(row | {"id": f"n{index}", "phone_number": f"+1{index:09d}"}).values()] for index in range(count)),
        )
    connection.close()
