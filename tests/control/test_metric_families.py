"""Metrics as Prometheus' conventions have them: https://prometheus.io/docs/practices/naming/."""

from __future__ import annotations

import re

import pytest

from control.metric_families import ALERTS, FAMILIES, GROUPS, Alert, Family

NOT_BASE_UNITS = {"ms", "us", "millis", "milliseconds", "minutes", "hours", "kb", "mb", "kilobytes", "percent"}
RESERVED = {"job", "instance", "le", "quantile"}


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.key)
def test_a_metric_has_a_conventional_name_and_says_what_it_means(family: Family) -> None:
    """Base units; ``_total`` is a counter's suffix and nothing else's, and buckets are a histogram's."""
    words = family.key.split("_")
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", family.key)
    assert not NOT_BASE_UNITS.intersection(words)
    assert not {"total", "count", "sum", "bucket"}.intersection(words[-1:])
    assert family.name.endswith("_total") == (family.type == "counter")
    assert bool(family.buckets) == (family.type == "histogram")
    assert list(family.buckets) == sorted(set(family.buckets))
    assert re.fullmatch(r"[A-Z].{9,}\.", family.help), family.help
    assert list(family.labels) == sorted(set(family.labels) - RESERVED)


def test_each_metric_and_each_meaning_is_there_once() -> None:
    families = [family for group in GROUPS.values() for family in group]
    assert len(FAMILIES) == len(families)
    assert len({family.help for family in families}) == len(families)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.expression)
def test_an_alert_is_about_metrics_and_labels_that_are_there(alert: Alert) -> None:
    """And about as many parentheses that open as close."""
    names = {name: family for family in FAMILIES.values() for name in family.series.values()}
    selectors = re.findall(r"(truedy_\w+)(?:\{(\w+)=~?\"[^\"]*\"\})?", alert.expression)
    for name, label in selectors:
        assert not label or label in names[name].labels
    assert selectors or "process_" in alert.expression
    assert {name for name, _ in selectors} <= names.keys()
    assert alert.expression.count("(") == alert.expression.count(")")
