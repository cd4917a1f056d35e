"""Rows, what is asked of them, and a run's report as a table and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TextIO

__all__ = ["Goal", "Report", "Row", "percentile"]

Verdict = Literal["aim met", "met", "not met", "inconclusive", ""]


@dataclass(frozen=True)
class Goal:
    """``at_least`` is asked for, ``aim`` is hoped for; ``more``: the greater the better."""

    at_least: float
    aim: float
    more: bool = False

    def reached(self, value: float) -> Verdict:
        """What a figure is worth."""
        sign = -1 if self.more else 1
        if sign * value <= sign * self.aim:
            return "aim met"
        return "met" if sign * value <= sign * self.at_least else "not met"


@dataclass(frozen=True)
class Row:
    """One figure. ``doubt`` says why it is inconclusive, ``note`` what one should know of it."""

    bench: str
    what: str
    value: float
    unit: str
    goal: Goal | None = None
    doubt: str = ""
    note: str = ""

    @property
    def verdict(self) -> Verdict:
        """Inconclusive before anything else."""
        if self.doubt:
            return "inconclusive"
        return self.goal.reached(self.value) if self.goal else ""

    def __str__(self) -> str:
        goal = f"{self.goal.at_least:g} · {self.goal.aim:g}" if self.goal else ""
        remarks = ": ".join(part for part in (self.verdict, self.doubt) if part)
        if self.note:
            remarks += ("\n" + " " * 9 if len(self.note) > 70 else " " if remarks else "") + f"({self.note})"
        line = f"{self.bench:8} {self.what:62} {_figure(self.value):>10} {self.unit:9} {goal:>13}  {remarks}"
        return line.rstrip()


HEADING = f"{'bench':8} {'what':62} {'figure':>10} {'unit':9} {'asked · aim':>13}"


@dataclass
class Report:
    """A run. ``series`` holds the points of the plots, by name; ``load`` what each window said of its load."""

    machine: Mapping[str, Any]
    quick: bool = False
    rows: list[Row] = field(default_factory=list)
    series: dict[str, Any] = field(default_factory=dict)
    load: list[dict[str, Any]] = field(default_factory=list)
    took: dict[str, float] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    out: TextIO | None = None

    def add(self, *row: Any, **more: Any) -> Row:
        """Make a row, keep it and print it."""
        made = Row(*row, **more)
        self.rows.append(made)
        self.say(str(made))
        return made

    def say(self, text: str) -> None:
        """A line for who watches."""
        print(text, file=self.out, flush=True)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "machine": dict(self.machine),
            "quick": self.quick,
            "rows": [asdict(row) | {"verdict": row.verdict} for row in self.rows],
            "series": self.series,
            "load": self.load,
            "took_s": self.took,
            "broken": self.broken,
        }


def percentile(values: list[float], share: float) -> float:
    """One of the values."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def _figure(value: float) -> str:
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2 if abs(value) >= 10 else 3
    return f"{value:,.{digits}f}"
