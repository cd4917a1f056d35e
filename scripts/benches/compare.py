"""Two runs side by side. Absolute figures are their machines'; what costs CPU is compared as multiples of the limit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["LIMIT", "compare"]

LIMIT = ("peers", "C limit, 300 calls: CPU a call")
_SLOWER_IS_MORE = frozenset(("% of core", "ms", "µs", "s"))


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """A line for each figure that both have."""
    before, after = _figures(old), _figures(new)
    limits = before.get(LIMIT), after.get(LIMIT)
    machine = limits[1]["value"] / limits[0]["value"] if limits[0] and limits[1] else None
    heading = f"{'bench':8} {'what':62} {'before':>10} {'now':>10} {'now/before':>10}"
    yield heading + (f" {'by limit':>9}" if machine else "   (a run without the limit: only absolute ratios)")
    for key, row in after.items():
        was = before.get(key)
        if was is None or not was["value"]:
            continue
        ratio = row["value"] / was["value"]
        line = f"{key[0]:8} {key[1]:62} {was['value']:10.3f} {row['value']:10.3f} {ratio:10.2f}"
        if machine:
            line += f" {_normalised(row['unit'], ratio, machine):>9}"
        doubts = [name for name, one in (("before", was), ("now", row)) if one["doubt"]]
        yield line + (f"  inconclusive {' and '.join(doubts)}" if doubts else "")


def _figures(report: Mapping[str, Any]) -> dict[tuple[str, str], Mapping[str, Any]]:
    return {(row["bench"], row["what"]): row for row in report["rows"]}


def _normalised(unit: str, ratio: float, machine: float) -> str:
    """What is left of the ratio when the machines' own is taken out."""
    if unit in _SLOWER_IS_MORE:
        return f"{ratio / machine:.2f}"
    return f"{ratio * machine:.2f}" if unit == "/s" else ""
