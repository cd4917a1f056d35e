"""What control knows of hosts."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest

from media.hosting.settings import GROUP, offered


def test_agents_of_packages_are_found_by_their_group_and_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    point = importlib.metadata.EntryPoint("front-desk", "no_such_package:agent", GROUP)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point] if group == GROUP else [])
    assert offered() == {"front-desk": point}


def test_control_does_not_load_what_only_a_host_needs() -> None:
    """Each process that starts would wait for it."""
    code = (
        "import control.hosts, sys; print([m for m in ('numpy', 'picows', 'media.hosting.host') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
