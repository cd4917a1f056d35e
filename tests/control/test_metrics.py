"""Prometheus' text."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from control.metrics import Metrics, counted, measured
from edge.counters import Counters


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """As a scraper reads them."""
    text = metrics.exposition().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_counters_are_read_as_they_stand() -> None:
    """With their labels, at each scrape."""
    counters = Counters()
    metrics = Metrics([counted(counters)], process=False)
    assert samples(metrics) == {}
    counters.add("dropped", source="192.0.2.1", reason="unlisted")
    counters.add("dropped", 2, source="192.0.2.2", reason="unlisted")
    counters.add("calls")
    assert samples(metrics) == {
        ("truedy_calls_total", ()): 1.0,
        ("truedy_dropped_total", (("reason", "unlisted"), ("source", "192.0.2.1"))): 1.0,
        ("truedy_dropped_total", (("reason", "unlisted"), ("source", "192.0.2.2"))): 2.0,
    }


def test_readings_are_gauges() -> None:
    """Units in the name."""
    metrics = Metrics([measured(lambda: {"calls_live": 3, "tick_late_p99_ms": 0.7}, {"calls_live": "Live calls"})])
    found = samples(metrics)
    assert found["truedy_calls_live", ()] == 3.0
    assert found["truedy_tick_late_p99_ms", ()] == 0.7
    assert "# HELP truedy_calls_live Live calls\n# TYPE truedy_calls_live gauge\n" in metrics.exposition().decode()


def test_the_process_s_own_figures_are_there() -> None:
    """Memory, descriptors, CPU."""
    names = {name for name, _ in samples(Metrics())}
    assert {"process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total"} <= names


@pytest.mark.parametrize("hostile", ['a"b', "a\nb 1", "a\\", "}", "é", "\u202e"])
def test_hostile_label_values_stay_inside_their_label(hostile: str) -> None:
    """A user agent's name ends up here."""
    counters = Counters()
    counters.add("seen", agent=hostile)
    (((name, labels), value),) = samples(Metrics([counted(counters)], process=False)).items()
    assert (name, value, len(labels)) == ("truedy_seen_total", 1.0, 1)


def test_names_that_prometheus_does_not_take_are_made_to_fit() -> None:
    """Letters, digits, underscores."""
    counters = Counters()
    counters.add("sip.dropped-now", reason="x")
    assert samples(Metrics([counted(counters)], process=False)) == {
        ("truedy_sip_dropped_now_total", (("reason", "x"),)): 1.0
    }
