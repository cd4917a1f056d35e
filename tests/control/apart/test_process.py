"""The command line of the control API's process."""

from __future__ import annotations

import logging

import pytest

from control.apart import api
from control.apart.process import arguments, main


def test_the_process_is_given_what_its_keeper_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    """Descriptors and a level; no secret: everybody can read a command line."""
    given: list[tuple[int, int]] = []

    async def run(descriptor: int, listener: int) -> int:
        given.append((descriptor, listener))
        return 3

    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    monkeypatch.setattr(api, "run", run)
    assert main(arguments(11, 12, "warning")) == 3
    assert given == [(11, 12)]
    assert root.level == logging.WARNING
