"""Histograms as Prometheus has them: https://prometheus.io/docs/concepts/metric_types/#histogram."""

from __future__ import annotations

import pytest

from control.histograms import Histogram, histogram_readings
from control.metric_families import Family


@pytest.mark.parametrize(
    ("value", "counts"),
    [
        (-1.0, [1, 1, 1]),
        (0.0, [1, 1, 1]),
        (0.5, [1, 1, 1]),
        (0.500001, [0, 1, 1]),
        (30.0, [0, 1, 1]),
        (31.0, [0, 0, 1]),
    ],
)
def test_an_observation_is_in_every_bucket_whose_bound_it_does_not_exceed(value: float, counts: list[int]) -> None:
    histogram = Histogram((0.5, 30.0))
    histogram.observe(value)
    assert histogram.cumulative == dict(zip(("0.5", "30.0", "+Inf"), counts, strict=True))
    assert histogram.sum == value


def test_one_without_observations_has_its_series_already() -> None:
    """So that the first observation is an increase."""
    family = Family("histogram", "wait_seconds", "How long.", (), (0.5,))
    assert histogram_readings(family, {(): Histogram(family.buckets)}) == {
        "wait_seconds_bucket": {(("le", "0.5"),): 0, (("le", "+Inf"),): 0},
        "wait_seconds_sum": {(): 0.0},
        "wait_seconds_count": {(): 0},
    }


def test_labels_are_sorted_by_name_the_bound_among_them() -> None:
    family = Family("histogram", "wait_seconds", "How long.", ("way",), (0.5,))
    histogram = Histogram(family.buckets)
    histogram.observe(0.25)
    histogram.observe(2.0)
    way = ("way", "in")
    assert histogram_readings(family, {(way,): histogram}) == {
        "wait_seconds_bucket": {(("le", "0.5"), way): 1, (("le", "+Inf"), way): 2},
        "wait_seconds_sum": {(way,): 2.25},
        "wait_seconds_count": {(way,): 2},
    }
