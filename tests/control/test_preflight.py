"""What is tried of this machine before serving."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from config.problems import Problem
from config.settings import Settings
from control.preflight import try_all, try_storage


def complaints(rule: Callable[[Settings], Iterable[Problem]], **tables: dict[str, Any]) -> dict[str, str]:
    """Key → message."""
    return {problem.key: problem.message for problem in rule(Settings.model_validate(tables))}


def test_folders_that_are_missing_are_no_problem_and_are_not_made(tmp_path: Path) -> None:
    """Serving makes them."""
    tables = {"registry": {"path": tmp_path / "a" / "registry.db"}, "recording": {"path": tmp_path / "b" / "c"}}
    assert complaints(try_storage, **tables) == {}
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    registry = tmp_path / "registry.db"
    registry.write_bytes(b"SQLite")
    assert complaints(try_storage, registry={"path": registry}, recording={"path": tmp_path}) == {}
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("registry.db", b"SQLite")]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("file/recordings", "{folder}/file/recordings cannot be made: {folder}/file: Not a directory"),
        ("file", "{folder}/file cannot be written: {folder}/file: Not a directory"),
        ("/proc/no/such", "/proc/no/such cannot be made: /proc: "),
    ],
)
def test_a_folder_of_recordings_that_cannot_be_written_is_named(tmp_path: Path, path: str, said: str) -> None:
    (tmp_path / "file").touch()
    recording = {"path": tmp_path / path, "enabled": True}
    found = complaints(try_storage, registry={"path": tmp_path / "registry.db"}, recording=recording)
    assert list(found) == ["recording.path"]
    assert found["recording.path"].startswith(said.format(folder=tmp_path))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("", "{folder} cannot be written: Is a directory"),
        ("file/registry.db", "{folder}/file cannot be written: {folder}/file: Not a directory"),
        ("/proc/registry.db", "/proc cannot be written: /proc: "),
    ],
)
def test_a_registry_that_cannot_be_written_is_named(tmp_path: Path, path: str, said: str) -> None:
    (tmp_path / "file").touch()
    found = complaints(try_storage, registry={"path": tmp_path / path})
    assert list(found) == ["registry.path"]
    assert found["registry.path"].startswith(said.format(folder=tmp_path))


@pytest.mark.parametrize(
    ("recording", "keys"), [({}, []), ({"enabled": True}, ["recording.path"]), ({"path": "var"}, ["recording.path"])]
)
def test_a_folder_of_recordings_that_nobody_asked_for_is_not_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recording: dict[str, Any], keys: list[str]
) -> None:
    """The default is relative to a working directory that may be anybody's."""
    monkeypatch.chdir("/proc")
    assert list(complaints(try_storage, registry={"path": tmp_path / "registry.db"}, recording=recording)) == keys


def test_agents_that_do_not_load_are_named_with_the_reason(tmp_path: Path) -> None:
    """Those beside them load all the same; the path is as it was."""
    (tmp_path / "preflight_good.py").write_text("async def agent(call): ...\nnumber = 5\n")
    (tmp_path / "preflight_bad.py").write_text("raise SystemExit(3)\n")
    names = ("preflight_good:agent", "preflight_good:agnet", "preflight_good:number", "preflight_bad:agent", "none:a")
    before = sys.path[:]
    tables = {"agents": {"python": names, "python_path": [tmp_path]}, "registry": {"path": tmp_path / "registry.db"}}
    assert complaints(try_all, **tables) == {
        "agents.python[1]": "preflight_good:agnet cannot be loaded: AttributeError: module 'preflight_good' has no"
        " attribute 'agnet'",
        "agents.python[2]": "preflight_good:number cannot be loaded: TypeError: preflight_good:number is not a"
        " function",
        "agents.python[3]": "preflight_bad:agent cannot be loaded: SystemExit: 3",
        "agents.python[4]": "none:a cannot be loaded: ModuleNotFoundError: No module named 'none'",
    }
    assert sys.path == before
    assert complaints(try_storage, **tables) == {}
    sys.modules.pop("preflight_good")
