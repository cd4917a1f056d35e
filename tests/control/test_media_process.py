"""The command line of a media worker's process."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from control import media_process
from control.media_process import arguments, come_first, main
from media import worker
from media.settings import ServiceSettings


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize("public", [None, "203.0.113.9"])
def test_the_worker_gets_the_settings_its_arguments_were_made_of(
    public: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    six = ("::1", "2001:db8::1") if public else (None, None)
    given = ServiceSettings(
        "127.0.0.1", public, *six, opus=public is None, max_calls=7, epoch=12, allow_private=public is None
    )
    if public is not None:
        given = replace(given, recordings_path=Path("/var/recordings"))
    lives: list[tuple[int, ServiceSettings]] = []

    async def run(descriptor: int, settings: ServiceSettings, *, entropy: object) -> int:
        lives.append((descriptor, settings))
        return 5

    monkeypatch.setattr(worker, "run", run)
    assert main(arguments(9, given, "warning")) == 5
    assert lives == [(9, given)]
    assert logging.getLogger().level == logging.WARNING


def test_its_log_lines_name_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(media_process.logs.sys, "stderr", stream)

    async def run(descriptor: int, settings: ServiceSettings, *, entropy: object) -> int:
        logging.getLogger("truedy.media").info("here")
        return 0

    monkeypatch.setattr(worker, "run", run)
    main(arguments(9, ServiceSettings("127.0.0.1", epoch=12), "info"))
    line = json.loads(stream.getvalue())
    assert (line["event"], line["worker"]) == ("here", 12)


@pytest.mark.parametrize("granted", [True, False])
def test_pacing_goes_first_where_the_system_grants_it(granted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def nice(increment: int) -> int:
        asked.append(increment)
        if not granted:
            raise PermissionError
        return increment

    monkeypatch.setattr(media_process.os, "nice", nice)
    come_first()
    assert asked == [-5]
