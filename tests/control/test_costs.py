"""What processes cost."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from control.costs import Cost, cost_of, cost_series


def test_what_this_process_holds_and_has_used_is_told() -> None:
    cost, used = cost_of(os.getpid()), os.times()
    assert cost is not None
    resident_pages = int(Path("/proc/self/statm").read_text().split()[1])
    assert cost.memory_bytes == pytest.approx(resident_pages * os.sysconf("SC_PAGE_SIZE"), rel=0.5)
    assert cost.cpu_s == pytest.approx(used.user + used.system, abs=0.5)


def test_a_programs_name_may_look_like_anything(tmp_path: Path) -> None:
    """It is in the line of its figures, in parentheses."""
    program = tmp_path / "a) R 1 (b"
    program.symlink_to("/bin/cat")
    with subprocess.Popen([program], stdin=subprocess.PIPE) as process:
        cost = cost_of(process.pid)
        process.communicate()
    assert cost is not None
    assert cost.memory_bytes % os.sysconf("SC_PAGE_SIZE") == 0
    assert cost.cpu_s < 1.0


def test_of_a_process_that_is_gone_there_is_no_series() -> None:
    """Nor of any where the system has no ``/proc``."""
    with subprocess.Popen(["true"]) as process:
        process.wait()
    assert cost_of(process.pid) is None
    assert cost_series({(): process.pid}) == ({}, {})


def test_series_have_the_labels_of_their_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = {7: Cost(5000, 1.5), 8: Cost(6000, 0.25)}
    monkeypatch.setattr("control.costs.cost_of", costs.get)
    first, second, gone = (("host", "1"),), (("host", "2"),), (("host", "3"),)
    assert cost_series({first: 7, second: 8, gone: 9}) == ({first: 5000, second: 6000}, {first: 1.5, second: 0.25})
