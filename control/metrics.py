"""Prometheus' text, made of what is counted and read when somebody asks.

The call path only counts (:class:`edge.counters.Counters`); nothing here runs until ``/metrics`` is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from control.metric_families import FAMILIES, Family
from edge.counters import Labels

__all__ = ["CONTENT_TYPE", "Metrics", "Readings", "Source", "unlabelled"]

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
"""Of the text that :meth:`Metrics.exposition` gives."""

Readings = Mapping[str, Mapping[Labels, float]]
"""A family's key → labels → value, as :meth:`edge.counters.Counters.snapshot` gives them."""

Source = Callable[[], Readings]
"""Gives its readings as they stand."""


def unlabelled(values: Mapping[str, float]) -> Readings:
    """Readings of families without labels."""
    return {key: {(): value} for key, value in values.items()}


class Metrics:
    """All sources of one process, with the process's own figures (memory, descriptors, CPU).

    Only ``families`` are shown, each with its type and its meaning, whether or not it has a series yet.
    """

    def __init__(
        self, sources: Iterable[Source], families: Mapping[str, Family] = FAMILIES, *, process: bool = True
    ) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        if process:
            ProcessCollector(registry=self._registry)
        self._registry.register(_Collector(tuple(sources), families))

    def exposition(self) -> bytes:
        """The text Prometheus scrapes (version 0.0.4)."""
        return generate_latest(self._registry)


class _Collector(Collector):
    def __init__(self, sources: Iterable[Source], families: Mapping[str, Family]) -> None:
        self._sources = sources
        self._families = families

    def collect(self) -> Iterator[Metric]:
        readings = {key: series for source in self._sources for key, series in source().items()}
        for key, family in self._families.items():
            metric = Metric(family.name.removesuffix("_total"), family.help, family.type)
            for labels, value in readings.get(key, {}).items():
                metric.add_sample(family.name, dict(labels), value)
            yield metric
