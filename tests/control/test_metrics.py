"""Prometheus' text."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError

import pytest
from prometheus_client.parser import text_string_to_metric_families

from control.histograms import Histogram, histogram_readings
from control.metric_families import FAMILIES, Family
from control.metrics import Metrics, Readings, Source, build_info, unlabelled
from edge.counters import Counters

DROPPED = Family("counter", "dropped", "Messages dropped.", ("reason", "source"))
FAULTS = Family("counter", "faults", "Faults.")
LATENESS = Family("gauge", "lateness_seconds", "How late.")
WAIT = Family("histogram", "wait_seconds", "How long.", ("way",), (0.5, 30.0))
SHOWN = {family.key: family for family in (DROPPED, FAULTS, LATENESS, WAIT)}


def metrics(*sources: Source) -> Metrics:
    return Metrics(sources, SHOWN)


async def samples(shown: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """As a scraper reads them."""
    text = (await shown.exposition()).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if family.name.startswith("truedy_")
    }


async def test_counters_are_read_as_they_stand() -> None:
    """With their labels, at each scrape."""
    counters = Counters()
    shown = metrics(counters.snapshot)
    assert await samples(shown) == {}
    counters.add("dropped", source="192.0.2.1", reason="unlisted")
    counters.add("dropped", 2, source="192.0.2.2", reason="unlisted")
    counters.add("faults")
    assert await samples(shown) == {
        ("truedy_faults_total", ()): 1.0,
        ("truedy_dropped_total", (("reason", "unlisted"), ("source", "192.0.2.1"))): 1.0,
        ("truedy_dropped_total", (("reason", "unlisted"), ("source", "192.0.2.2"))): 2.0,
    }


async def test_the_figures_of_several_processes_are_added_up() -> None:
    here, there = Counters(), Counters()
    here.add("faults")
    here.add("dropped", reason="unlisted", source="a")
    there.add("dropped", 2, reason="unlisted", source="a")
    there.add("dropped", reason="unlisted", source="b")

    async def elsewhere() -> Readings:
        return there.snapshot()

    shown = await samples(Metrics([here.snapshot], SHOWN, elsewhere=elsewhere))
    assert {(name, dict(labels).get("source")): value for (name, labels), value in shown.items()} == {
        ("truedy_faults_total", None): 1.0,
        ("truedy_dropped_total", "a"): 3.0,
        ("truedy_dropped_total", "b"): 1.0,
    }


async def test_a_histogram_is_shown_as_its_buckets_their_sum_and_their_count() -> None:
    """Buckets in their order, each with all that is below; those of several processes are added up."""
    here, there = Histogram(WAIT.buckets), Histogram(WAIT.buckets)
    for wait in (0.2, 0.4, 31.0):
        here.observe(wait)
    there.observe(0.9)
    ways = {(("way", "in"),): here}, {(("way", "in"),): there}

    async def elsewhere() -> Readings:
        return histogram_readings(WAIT, ways[1])

    text = (
        await Metrics([lambda: histogram_readings(WAIT, ways[0])], SHOWN, elsewhere=elsewhere).exposition()
    ).decode()
    assert text.endswith(
        """\
# HELP truedy_wait_seconds How long.
# TYPE truedy_wait_seconds histogram
truedy_wait_seconds_bucket{le="0.5",way="in"} 2.0
truedy_wait_seconds_bucket{le="30.0",way="in"} 3.0
truedy_wait_seconds_bucket{le="+Inf",way="in"} 4.0
truedy_wait_seconds_sum{way="in"} 32.5
truedy_wait_seconds_count{way="in"} 4.0
"""
    )


async def test_what_is_read_has_the_type_of_its_family() -> None:
    """A figure that only rises is a counter, wherever it is kept."""
    text = (await metrics(lambda: unlabelled({"lateness_seconds": 0.0007, "faults": 3})).exposition()).decode()
    assert "# TYPE truedy_lateness_seconds gauge\ntruedy_lateness_seconds 0.0007\n" in text
    assert "# TYPE truedy_faults_total counter\ntruedy_faults_total 3.0\n" in text


async def test_a_family_says_what_it_means_before_it_has_a_series() -> None:
    text = (await metrics().exposition()).decode()
    assert "# HELP truedy_dropped_total Messages dropped.\n# TYPE truedy_dropped_total counter\n" in text


def test_which_release_runs_on_which_python_is_told_by_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator joins it with what changed."""
    monkeypatch.setattr("control.metrics.version", {"truedy-edge": "1.2.3"}.__getitem__)
    python = ("python", platform.python_version())
    assert build_info() == {"build_info": {(python, ("version", "1.2.3")): 1}}


def test_an_edge_that_was_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs from an archive that was unpacked."""

    def version(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("control.metrics.version", version)
    [labels] = build_info()["build_info"]
    assert ("version", "not installed") in labels


def described(lines: Iterable[str]) -> set[str]:
    return {line.split()[2] for line in lines if line.startswith("# HELP") and len(line.split()) > 3}


async def test_every_metric_of_the_edge_is_described() -> None:
    """The process's own figures (memory, descriptors, CPU) too."""
    lines = (await Metrics(()).exposition()).decode().splitlines()
    names = {family.name for family in FAMILIES.values()}
    assert names | {"process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total"} <= described(
        lines
    )


@pytest.mark.parametrize("hostile", ['a"b', "a\nb 1", "a\\", "}", "é", "\u202e"])
async def test_hostile_label_values_stay_inside_their_label(hostile: str) -> None:
    """A user agent's name ends up here."""
    counters = Counters()
    counters.add("dropped", reason=hostile)
    (((name, labels), value),) = (await samples(metrics(counters.snapshot))).items()
    assert (name, value, len(labels)) == ("truedy_dropped_total", 1.0, 1)
