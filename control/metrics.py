"""Prometheus' text, made of what is counted and read when somebody asks.

The call path only counts (:class:`edge.counters.Counters`); nothing here runs until ``/metrics`` is read.
"""

from __future__ import annotations

import platform
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from control.metric_families import FAMILIES, Family
from edge.counters import Labels

__all__ = ["CONTENT_TYPE", "Elsewhere", "Metrics", "Readings", "Source", "build_info", "merged", "unlabelled"]

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
"""Of the text that :meth:`Metrics.exposition` gives."""

Readings = Mapping[str, Mapping[Labels, float]]
"""A family's key → labels → value, as :meth:`edge.counters.Counters.snapshot` gives them."""

Source = Callable[[], Readings]
"""Gives its readings as they stand."""

Elsewhere = Callable[[], Awaitable[Readings]]
"""Asks another process for them."""


def unlabelled(values: Mapping[str, float]) -> Readings:
    """Readings of families without labels."""
    return {key: {(): value} for key, value in values.items()}


def build_info() -> Readings:
    """What this process runs: 1 under its labels, as the field has it."""
    try:
        release = version("truedy-edge")
    except PackageNotFoundError:
        release = "not installed"
    return {"build_info": {(("python", platform.python_version()), ("version", release)): 1}}


class Metrics:
    """All sources of one process, and ``elsewhere``, those of another; of ``pid`` the memory, descriptors and CPU.

    ``pid`` is by default this process's. Only ``families`` are shown, each with its type and its meaning, whether or
    not it has a series yet.
    """

    def __init__(
        self,
        sources: Iterable[Source],
        families: Mapping[str, Family] = FAMILIES,
        *,
        elsewhere: Elsewhere | None = None,
        pid: int | None = None,
    ) -> None:
        self._sources = tuple(sources)
        self._families = families
        self._elsewhere = elsewhere
        self._process = ProcessCollector(pid=lambda: "self" if pid is None else pid, registry=None)

    async def exposition(self) -> bytes:
        """The text Prometheus scrapes (version 0.0.4)."""
        found = [source() for source in self._sources]
        if self._elsewhere is not None:
            found.append(await self._elsewhere())
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self._process)
        registry.register(_Collector(merged(found), self._families))
        return generate_latest(registry)


def merged(found: Iterable[Readings]) -> Readings:
    """The same series of several sources are added up."""
    sums: dict[str, dict[Labels, float]] = {}
    for readings in found:
        for key, series in readings.items():
            sum_of = sums.setdefault(key, {})
            for labels, value in series.items():
                sum_of[labels] = sum_of.get(labels, 0) + value
    return sums


class _Collector(Collector):
    def __init__(self, readings: Readings, families: Mapping[str, Family]) -> None:
        self._readings = readings
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for family in self._families.values():
            metric = Metric(family.name.removesuffix("_total"), family.help, family.type)
            for key, name in family.series.items():
                for labels, value in self._readings.get(key, {}).items():
                    metric.add_sample(name, dict(labels), value)
            yield metric
