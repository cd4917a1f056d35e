"""The command line of an agent host's process, and what its agents print."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from control import host_process
from control.host_process import Printed, arguments, main
from media.hosting import host
from media.hosting.session import CALL
from media.hosting.settings import HostSettings


@pytest.fixture(autouse=True)
def _process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, path = list(root.handlers), root.level, list(sys.path)
    monkeypatch.setattr(host_process.resource, "setrlimit", lambda *given: None)
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    sys.path[:] = path


def redirected(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What goes to standard error; both streams are as before after the test."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(sys, "stdout", stream)
    return stream


@pytest.mark.parametrize("allow_private", [True, False])
def test_the_host_gets_the_settings_its_arguments_were_made_of(
    allow_private: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    redirected(monkeypatch)
    given = HostSettings(4, 5, 6, ["a.b:c", "d:e"], 0.25, allow_private)
    lives: list[HostSettings] = []

    async def run(settings: HostSettings, *, wall: object) -> int:
        lives.append(settings)
        return 5

    monkeypatch.setattr(host, "run", run)
    assert main(arguments(given, [Path("/one"), Path("/two")], 12, "warning")) == 5
    assert lives == [given]
    assert sys.path[-2:] == ["/one", "/two"]
    assert logging.getLogger().level == logging.WARNING


def test_its_log_lines_name_the_host_and_the_call_and_prints_are_among_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = redirected(monkeypatch)

    async def run(settings: HostSettings, *, wall: object) -> int:
        logging.getLogger("truedy.agents").info("here")
        CALL.set("CA1")
        print("one\ntwo")
        print("unfinished", end="", file=sys.stderr)
        return 0

    monkeypatch.setattr(host, "run", run)
    main(arguments(HostSettings(4, 5, 6), [], 12, "info"))
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["event"], line["host"], line.get("call")) for line in lines] == [
        ("here", 12, None),
        ("one", 12, "CA1"),
        ("two", 12, "CA1"),
    ]


def test_a_line_without_an_end_does_not_grow_without_bound(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    printed = Printed()
    for _ in range(50):
        printed.write("x" * 1000)
    assert len(printed._line) <= Printed.LONGEST
    assert sum(map(len, caplog.messages)) + len(printed._line) == 50_000
    assert printed.writable()
