"""What serving needs of this machine, tried before it; what is wrong is named by its key, as by the settings' rules.

An I/O module: it makes files that have no name, or lose it at once, and imports agents.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from config.problems import Problem
from config.settings import Settings

__all__ = ["try_all", "try_storage"]


def try_storage(settings: Settings) -> Iterator[Problem]:
    """Whether the registry and the recordings can be written; nothing is made of what is missing.

    A folder of recordings that nobody asked for, the default's, is not tried.
    """
    if problem := _file_problem(settings.registry.path.absolute()):
        yield Problem(("registry", "path"), problem)
    recording = settings.recording
    wanted = recording.enabled or "path" in recording.model_fields_set
    if wanted and (problem := _folder_problem(recording.path.absolute())):
        yield Problem(("recording", "path"), problem)


def try_all(settings: Settings) -> Iterator[Problem]:
    """What :func:`try_storage` tries, and whether each Python agent loads, which may take as long as it likes."""
    yield from try_storage(settings)
    yield from _python_agents(settings)


def _file_problem(path: Path) -> str | None:
    """Others are made beside it: the journal, the lock."""
    if os.access(path, os.F_OK):
        try:
            path.open("r+b").close()
        except OSError as error:
            return f"{path} cannot be written: {error.strerror}"
    return _folder_problem(path.parent)


def _folder_problem(folder: Path) -> str | None:
    """Tried in the folder, or in the nearest there is of those that it would be made in."""
    nearest = next(each for each in (folder, *folder.parents) if os.access(each, os.F_OK))
    try:
        TemporaryFile(dir=nearest).close()
    except OSError as error:
        return f"{folder} cannot be {'written' if nearest == folder else 'made'}: {nearest}: {error.strerror}"
    return None


def _python_agents(settings: Settings) -> Iterator[Problem]:
    """As a host loads them, one after another."""
    from media.hosting.loading import load_function  # noqa: PLC0415 - serving leaves it to the hosts

    with _found_in(settings.agents.python_path):
        for index, place in enumerate(settings.agents.python):
            try:
                load_function(place)
            except (Exception, SystemExit) as error:
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                yield Problem(("agents", "python", index), f"{place} cannot be loaded: {reason}")


@contextmanager
def _found_in(paths: tuple[Path, ...]) -> Iterator[None]:
    before = sys.path[:]
    sys.path += map(str, paths)
    try:
        yield
    finally:
        sys.path[:] = before
