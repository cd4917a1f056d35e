"""The tables of ``docs/performance.md``, made of a run: what stands between ``<!-- NAME -->`` and its end."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["tables", "update"]

_HEAD = "| what | figure | asked · aim | |\n|---|---|---|---|"
_BENCHES = {
    "figures": ("bridge", "latency", "setup", "registry", "parse", "soak"),
    "peers": ("peers",),
    "websocket": ("websocket",),
}


def tables(report: Mapping[str, Any]) -> dict[str, str]:
    """By name; a table whose benches did not run is absent."""
    made = {}
    for name, benches in _BENCHES.items():
        rows = [row for bench in benches for row in report["rows"] if row["bench"] == bench]
        if rows:
            made[name] = f"{_run(report)}\n\n{_HEAD}\n" + "\n".join(_rows(rows))
    return made


def update(page: Path, report: Mapping[str, Any]) -> None:
    """Rewrite the page's tables; what it says around them stays."""
    text = page.read_text()
    for name, table in tables(report).items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text = pattern.sub(lambda found, table=table: f"{found[1]}{table}\n{found[2]}", text)  # type: ignore[misc]
    page.write_text(text)


def _run(report: Mapping[str, Any]) -> str:
    machine = report["machine"]
    mode = "`scripts/bench --quick`" if report["quick"] else "`scripts/bench`"
    return f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, {machine['system']}; by {mode}."


def _rows(rows: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    for row in rows:
        goal = row["goal"]
        asked = f"{goal['at_least']:g} · {goal['aim']:g}" if goal else ""
        remarks = ": ".join(part for part in (row["verdict"], row["doubt"]) if part)
        note = f"{remarks}; {row['note']}" if remarks and row["note"] else remarks or row["note"]
        yield f"| {row['what']} | {_figure(row['value'])} {row['unit']} | {asked} | {note} |"


def _figure(value: float) -> str:
    digits = 0 if abs(value) > 100 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"
