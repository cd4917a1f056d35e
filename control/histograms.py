"""How observations are spread, as Prometheus counts it: how many are no greater than each of some bounds."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate

from control.metric_families import Family
from control.metrics import Readings
from edge.counters import Labels

__all__ = ["Histogram", "histogram_readings"]


class Histogram:
    """Observations in buckets; each bound is its bucket's last value (``le``), and one more bucket has no bound."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        """``bounds`` rise."""
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    @property
    def sum(self) -> float:
        """Of all that was observed."""
        return self._sum

    @property
    def cumulative(self) -> Mapping[str, int]:
        """How many observations were no greater than each bound, in their order; ``+Inf``: all."""
        return dict(zip((*map(str, self._bounds), "+Inf"), accumulate(self._counts), strict=True))


def histogram_readings(family: Family, histograms: Mapping[Labels, Histogram]) -> Readings:
    """The three series of each histogram of a family. Those of several sources can be added up."""
    buckets: dict[Labels, float] = {}
    for labels, histogram in histograms.items():
        for bound, count in histogram.cumulative.items():
            buckets[tuple(sorted((*labels, ("le", bound))))] = count
    return {
        f"{family.key}_bucket": buckets,
        f"{family.key}_sum": {labels: histogram.sum for labels, histogram in histograms.items()},
        f"{family.key}_count": {labels: histogram.cumulative["+Inf"] for labels, histogram in histograms.items()},
    }
