"""The benches' own instruments; the figures themselves are no test's business."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from scripts.benches import doubts, machine, parse, soak
from scripts.benches.bridge import clean
from scripts.benches.compare import LIMIT, compare
from scripts.benches.machine import EDGE_CORE, LOAD_CORE, Idle, Program, build, compiler
from scripts.benches.page import update
from scripts.benches.peers import limit
from scripts.benches.plot import plots
from scripts.benches.report import Goal, Report, Row, percentile
from scripts.benches.stand import Load, Window

ROOT = Path(__file__).resolve().parents[2]
needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C compiler: apt-get install gcc libc6-dev")


def a_window(
    load: Mapping[str, Any] | None = None, late_ms: float = 0.1, stolen: float = 0.0, used: float = 0.6
) -> Window:
    """300 calls without a fault, unless told otherwise."""
    heard = {"verified": 100, "corrupted": 0, "missing": 0, "repeated": 0, "silent_frames": 0}
    good: dict[str, Any] = {
        "calls": 300,
        "cpu": 0.3,
        "drops": 0,
        "clock_step_ms": 0.0,
        "failures": {},
        "generator_late_ms": {"p99": 0.1},
        "pacing_late_ms": {"p99": 1.0},
        "to_agent": heard,
        "to_phone": heard,
    }
    idle = Idle({"p99": late_ms, "max": late_ms}, stolen, 0.0, used)
    return Window(good | dict(load or {}), {EDGE_CORE: idle, LOAD_CORE: idle}, 0.6, 10.0)


# --- figures and what they are worth ---


def test_a_percentile_is_one_of_the_values() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([1.0], 0.99) == 1.0


@pytest.mark.parametrize(("value", "verdict"), [(0.1, "aim met"), (0.12, "aim met"), (0.2, "met"), (0.3, "not met")])
def test_less_is_better_unless_told_otherwise(value: float, verdict: str) -> None:
    assert Goal(0.22, 0.12).reached(value) == verdict


@pytest.mark.parametrize(("value", "verdict"), [(500, "aim met"), (300, "met"), (299, "not met")])
def test_more_is_better_where_it_is_told(value: float, verdict: str) -> None:
    assert Goal(300, 500, more=True).reached(value) == verdict


def test_a_doubtful_figure_is_inconclusive_however_good_it_is() -> None:
    row = Row("bridge", "calls", 0.1, "%", Goal(0.2, 0.1), doubt="the load used 99% of its core")
    assert row.verdict == "inconclusive"
    assert "inconclusive: the load used 99% of its core" in str(row)


def test_a_report_has_its_verdicts_for_json() -> None:
    report = Report({"cores": 2}, out=io.StringIO())
    report.add("parse", "an INVITE", 7.0, "µs", Goal(15.0, 8.0))
    saved = json.loads(json.dumps(report.as_dict()))
    assert saved["rows"][0]["verdict"] == "aim met"
    assert saved["machine"] == {"cores": 2}


def a_run(cpu: float, limit_cpu: float | None, doubt: str = "") -> dict[str, Any]:
    report = Report({"cpu": "x"}, out=io.StringIO())
    report.add("bridge", "300 calls: CPU a call", cpu, "% of core", None, doubt)
    report.add("setup", "404 after the lookup, on one core", 3000.0, "/s")
    if limit_cpu is not None:
        report.add(*LIMIT, limit_cpu, "% of core")
    return report.as_dict()


def test_runs_of_two_machines_are_compared_as_multiples_of_the_limit() -> None:
    """Twice the CPU on a machine half as fast is the same program."""
    lines = list(compare(a_run(0.2, 0.06), a_run(0.4, 0.12)))
    assert lines[0].endswith("by limit")
    assert lines[1].split()[-2:] == ["2.00", "1.00"]
    assert lines[2].split()[-2:] == ["1.00", "2.00"]


def test_without_the_limit_runs_are_compared_as_they_are_and_doubts_are_named() -> None:
    lines = list(compare(a_run(0.2, None), a_run(0.1, 0.1, "a busy machine")))
    assert "without the limit" in lines[0]
    assert "0.50  inconclusive now" in lines[1]


def test_plots_are_well_formed_and_keep_to_their_frame(tmp_path: Path) -> None:
    quantiles = [[0.0, 0.1], [0.5, 1.0], [0.99, 2.0], [1.0, 9.0]]
    run = a_run(0.2, 0.06) | {
        "series": {
            "CPU a call": [[30, 0.3], [300, 0.2]],
            "CPU a call, C limit": [[30, 0.1], [300, 0.06]],
            "CPU a call, pipecat's <WebSocket> & transport": [[10, 3.1]],
            "pacing, 300 calls": quantiles,
            "agent → phone, added": quantiles,
            "INVITE → 180": quantiles,
        }
    }
    made = plots(run, tmp_path / "plots")
    assert [path.name for path in made] == ["cpu.svg", "pacing.svg", "latency.svg", "setup.svg"]
    for path in made:
        root = ElementTree.fromstring(path.read_text())
        width, height = float(root.get("width", 0)), float(root.get("height", 0))
        for dot in root.iter("{http://www.w3.org/2000/svg}circle"):
            assert 0 < float(dot.get("cx", -1)) < width
            assert 0 < float(dot.get("cy", -1)) < height


def test_a_page_keeps_its_words_and_gets_new_tables(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Before.\n<!-- figures -->\n| old |\n<!-- /figures -->\nAfter.\n<!-- websocket -->\n<!-- /websocket -->\n"
    )
    run = a_run(0.2, 0.06)
    run["machine"] = {"cpu": "x", "cores": 2, "python": "3.11", "system": "Linux"}
    update(page, run)
    update(page, run)
    text = page.read_text()
    assert text.startswith("Before.\n<!-- figures -->\nx, 2 cores")
    assert text.count("| 300 calls: CPU a call | 0.200 % of core |") == 1
    assert "| old |" not in text
    assert text.endswith("After.\n<!-- websocket -->\n<!-- /websocket -->\n")


def test_a_run_without_points_has_no_plots(tmp_path: Path) -> None:
    assert plots(a_run(0.2, 0.06), tmp_path) == []


# --- when it is not the edge ---


def test_a_window_without_a_fault_is_in_no_doubt() -> None:
    assert not a_window().doubt


@pytest.mark.parametrize(
    ("window", "reason"),
    [
        (a_window(late_ms=1.1), "idle ticker on the edge's core was late by 1.1 ms"),
        (a_window(used=0.9), "other programs used 30% of the edge's core"),
        (a_window(stolen=0.02), "2.0% of the edge's core was stolen"),
        (a_window({"cpu": 0.9}), "the load used 90% of its core"),
        (a_window({"generator_late_ms": {"p99": 3.0}}), "the load was late by 3.0 ms"),
        (a_window({"drops": 4}), "the load's sockets dropped 4 packets"),
        (a_window({"clock_step_ms": 2.0}), "the system's clock was set by 2.0 ms"),
    ],
)
def test_each_bottleneck_that_is_not_the_edge_is_named(window: Window, reason: str) -> None:
    assert reason in window.doubt


def test_what_is_just_within_bounds_is_taken() -> None:
    idle = Idle({"p99": doubts.TICK_LATE_MS}, doubts.STOLEN, 0.0)
    assert not doubts.reasons({"cpu": doubts.LOAD_CPU}, {EDGE_CORE: idle})


def test_a_window_is_clean_when_nothing_was_lost_late_or_silent() -> None:
    assert not clean(a_window())
    heard = {"verified": 99, "corrupted": 0, "missing": 1, "repeated": 0, "silent_frames": 0}
    assert "99.000 % verified to agent" in clean(a_window({"to_agent": heard}))
    assert "3 underruns" in clean(a_window({"to_phone": heard | {"missing": 0, "silent_frames": 3}}))
    assert "beyond the idle ticker's" in clean(a_window({"pacing_late_ms": {"p99": 2.2}}))
    assert "1 calls failed" in clean(a_window({"failures": {"503": 1}}))


def test_cpu_a_call_is_all_of_the_edges_over_the_calls() -> None:
    assert a_window().cpu_a_call == pytest.approx(0.2)


def test_a_slope_is_that_of_the_second_half() -> None:
    points = [(float(at), 100.0 if at < 10 else 100.0 + 2.0 * (at - 10)) for at in range(20)]
    assert soak.slope(points) == pytest.approx(2.0)
    assert soak.slope([]) == 0.0


def test_the_invite_that_is_parsed_is_whole() -> None:
    assert b"l:%d" not in parse.INVITE % (len(parse.SDP), parse.SDP)


# --- the programs in C ---


@needs_compiler
@pytest.mark.parametrize("name", ["load", "limit", "ticker"])
def test_a_program_compiles_without_a_warning(name: str, tmp_path: Path) -> None:
    source = machine.SOURCES / f"{name}.c"
    command = [
        str(compiler()),
        "-O2",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Wno-unused-function",
        source,
        "-o",
        tmp_path / "x",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@needs_compiler
@pytest.mark.realtime
def test_the_idle_ticker_says_how_late_it_was() -> None:
    ticker = Program(build("ticker"), "-1")
    try:
        ticker.ask("")
        said = ticker.ask("")
        assert said["late_ms"]["n"] >= 1
        assert said["late_ms"]["max"] >= said["late_ms"]["p50"] >= 0.0
    finally:
        ticker.stop()


@pytest.fixture
def load() -> Iterator[Load]:
    """A load that calls the limit."""
    made = Load()
    try:
        with limit(made) as peer:
            made.ask(f"edge {peer.port} +15550001111")
            yield made
    finally:
        made.stop()


@needs_compiler
@pytest.mark.realtime
@pytest.mark.parametrize("talk", ["paced", "burst"])
def test_every_stamped_frame_is_known_again_both_ways(load: Load, talk: str) -> None:
    load.ask(f"talk {talk}")
    assert load.ask("call 8 100")["calls"] == 8
    load.ask("measure 0.2 0")
    window = load.ask("measure 1.1 0")
    for way in ("to_agent", "to_phone"):
        heard = window[way]
        assert heard["verified"] > 150
        assert heard["corrupted"] == heard["missing"] == heard["repeated"] == heard["foreign_bytes"] == 0
    assert window["to_agent_ms"]["p50"] < 20.0
    assert load.ask("hang")["calls"] == 0


@needs_compiler
@pytest.mark.realtime
def test_the_load_in_python_knows_its_frames_again_too() -> None:
    """Where there is no compiler; here its calls go through the limit to its own agents."""
    made = Load(in_python=True)
    try:
        with limit(made) as peer:
            made.ask(f"edge {peer.port} +15550001111")
            assert made.ask("call 3 50")["calls"] == 3
            made.ask("measure 0.3 0")
            window = made.ask("measure 1 0")
            for way in ("to_agent", "to_phone"):
                assert window[way]["verified"] > 100
                assert window[way]["corrupted"] == window[way]["missing"] == window[way]["repeated"] == 0
            assert made.ask("churn 0.2 20 0.1")["answer_ms"]["n"] > 0
            assert made.ask("hang")["calls"] == 0
    finally:
        made.stop()


@needs_compiler
@pytest.mark.realtime
def test_calls_that_end_by_themselves_are_timed_and_leave_nothing(load: Load) -> None:
    window = load.ask("churn 0.5 40 0.1")
    assert window["placed"] == window["answer_ms"]["n"] == 20
    assert window["calls"] == 0
    assert not window["failures"]


@needs_compiler
@pytest.mark.realtime
def test_what_nobody_answers_is_a_failure_and_not_a_figure() -> None:
    made = Load()
    try:
        made.ask("edge 9 +15550001111")
        window = made.ask("refuse 0.3 4")
        assert window["refusals"] == 0
    finally:
        made.stop()


@pytest.mark.realtime
def test_the_command_measures_and_writes_its_figures(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", "scripts.benches", "parse", "--quick", "--json", figures]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(figures.read_text())["rows"][0]["unit"] == "µs"


def test_an_unknown_bench_is_refused() -> None:
    command = [sys.executable, "-m", "scripts.benches", "nonsense"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no bench called nonsense" in done.stderr
