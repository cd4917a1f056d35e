"""Counters and gauges for Prometheus, read from snapshots when somebody asks.

The call path only counts (:class:`edge.counters.Counters`); nothing here runs until ``/metrics`` is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from edge.counters import Counters

__all__ = ["CONTENT_TYPE", "Metrics", "Source", "counted", "measured"]

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
"""Of the text that :meth:`Metrics.exposition` gives."""

NAMESPACE: Final = "truedy"

Source = Callable[[], Iterable[Metric]]
"""Gives its metrics as they stand."""

_NOT_IN_NAMES: Final = re.compile(r"[^a-zA-Z0-9_]")


def counted(counters: Counters, help_texts: Mapping[str, str] | None = None) -> Source:
    """Every counter as ``truedy_NAME_total`` with its labels."""
    texts = help_texts or {}

    def read() -> Iterator[Metric]:
        for name, series in sorted(counters.snapshot().items()):
            metric = Metric(_name(name), texts.get(name, f"{name}, counted since the start"), "counter")
            for labels, count in series.items():
                metric.add_sample(_name(name) + "_total", {_part(label): value for label, value in labels}, count)
            yield metric

    return read


def measured(readings: Callable[[], Mapping[str, float]], help_texts: Mapping[str, str] | None = None) -> Source:
    """Every reading as the gauge ``truedy_NAME``; units belong in the name, e.g. ``tick_late_p99_ms``."""
    texts = help_texts or {}

    def read() -> Iterator[Metric]:
        for name, value in sorted(readings().items()):
            metric = Metric(_name(name), texts.get(name, f"{name}, as it stands"), "gauge")
            metric.add_sample(_name(name), {}, value)
            yield metric

    return read


class Metrics:
    """All sources of one process, with the process's own figures (memory, descriptors, CPU)."""

    def __init__(self, sources: Iterable[Source] = (), *, process: bool = True) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        if process:
            ProcessCollector(registry=self._registry)
        for source in sources:
            self.add(source)

    def add(self, source: Source) -> None:
        """One more."""
        self._registry.register(_Collector(source))

    def exposition(self) -> bytes:
        """The text Prometheus scrapes (version 0.0.4)."""
        return generate_latest(self._registry)


class _Collector(Collector):
    def __init__(self, source: Source) -> None:
        self._source = source

    def collect(self) -> Iterable[Metric]:
        return self._source()


def _part(text: str) -> str:
    return _NOT_IN_NAMES.sub("_", text)


def _name(text: str) -> str:
    return f"{NAMESPACE}_{_part(text)}"
