"""The benches' own instruments; the figures themselves are no test's business."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from scripts.benchmark import MARK, Report, _Load, percentile

ROOT = Path(__file__).resolve().parents[2]


def frame(number: int) -> bytes:
    return (MARK + b"%06d" % number).ljust(160, b"\xff")


def test_a_frame_is_known_again_when_the_stream_was_cut_anew() -> None:
    load = _Load()
    load.sent_at = [time.perf_counter()] * 5
    stream = b"".join(frame(number) for number in range(5))
    for at in range(0, len(stream), 157):
        load.datagram_received(bytes(12) + stream[at : at + 157], None)
    assert load.returned == {0, 1, 2, 3, 4}


def test_a_frame_that_was_never_sent_is_not_counted() -> None:
    load = _Load()
    load.sent_at = [time.perf_counter()]
    load.datagram_received(bytes(12) + frame(7), None)
    load.datagram_received(bytes(12) + (MARK + b"noise!").ljust(160, b"\xff"), None)
    assert not load.returned


def test_a_percentile_is_one_of_the_values() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([1.0], 0.99) == 1.0


def test_a_doubtful_figure_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    Report("", "").add("bridge", "calls", 1.0, "%", target=2.0, doubt="inconclusive: the load")
    printed = capsys.readouterr().out
    assert "inconclusive" in printed
    assert "asked for: 2" in printed


@pytest.mark.realtime
def test_the_command_measures_and_writes_its_figures(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    done = subprocess.run(
        [ROOT / "scripts" / "bench", "parse", "--quick", "--json", figures], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert '"unit": "µs"' in figures.read_text() or '"unit": "\\u00b5s"' in figures.read_text()
