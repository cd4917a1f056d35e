"""Watches the product's state tables while tests run: with ``--every-row`` a row that no test has taken fails the run.

A table is a mapping of ``(state, input)``, both enumerations, to ``(next state, actions)``, wherever it lies in
``edge``, ``media`` or ``control``. Rows are what is tested; absent pairs are ignored by rule, as each table's module
says.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

import pytest

__all__ = ["find_tables", "is_table"]

_ROOMS = ("edge", "media", "control")


def is_table(value: object) -> bool:
    """Whether a value is a transition table."""
    if not isinstance(value, Mapping) or not value:
        return False
    return all(
        isinstance(key, tuple) and len(key) == 2 and all(isinstance(part, Enum) for part in key) for key in value
    ) and all(isinstance(to, tuple) and len(to) == 2 and isinstance(to[0], Enum) for to in value.values())


def find_tables() -> Iterator[tuple[str, object, str, Mapping[Any, Any]]]:
    """(``edge.session.OFFERS``, a module or class that holds it, its name there, the table), for each that does.

    A table that is held in several places has the label of the first.
    """
    labels: dict[int, str] = {}
    for room in _ROOMS:
        package = importlib.import_module(room)
        for found in pkgutil.walk_packages(package.__path__, f"{room}."):
            module = importlib.import_module(found.name)
            owners = [module, *(v for v in vars(module).values() if isinstance(v, type) and v.__module__ == found.name)]
            for owner in owners:
                prefix = found.name if owner is module else f"{found.name}.{owner.__name__}"
                for name, value in list(vars(owner).items()):
                    if is_table(value):
                        yield labels.setdefault(id(value), f"{prefix}.{name}"), owner, name, value


class _Watched(dict[Any, Any]):
    """A table that remembers which of its rows were looked up."""

    def __init__(self, rows: Mapping[Any, Any], label: str, taken: set[str]) -> None:
        super().__init__(rows)
        self._label, self._taken = label, taken

    def __getitem__(self, key: Any) -> Any:
        value = super().__getitem__(key)
        self._taken.add(_row(self._label, key))
        return value

    def get(self, key: Any, default: Any = None) -> Any:
        if key in self:
            self._taken.add(_row(self._label, key))
        return super().get(key, default)


def _row(label: str, key: tuple[Enum, Enum]) -> str:
    return f"{label}: ({key[0].name}, {key[1].name})"


class RowWatch:
    """The plugin proper, in each process that runs tests, and in the one that counts."""

    def __init__(self) -> None:
        self.rows: set[str] = set()
        self.taken: set[str] = set()

    def install(self) -> None:
        """Put a watched copy in the place of each table."""
        for label, owner, name, table in list(find_tables()):
            self.rows |= {_row(label, key) for key in table}
            setattr(owner, name, _Watched(table, label, self.taken))

    @property
    def missing(self) -> list[str]:
        """Rows no test has taken."""
        return sorted(self.rows - self.taken)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """A worker of xdist is done: take over what it saw."""
        output = getattr(node, "workeroutput", {})
        self.rows |= set(output.get("table_rows", ()))
        self.taken |= set(output.get("table_rows_taken", ()))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """A worker hands over what it saw; the one that counts fails the run for a missing row."""
        if (output := getattr(session.config, "workeroutput", None)) is not None:
            output["table_rows"], output["table_rows_taken"] = sorted(self.rows), sorted(self.taken)
        elif (self.missing or not self.rows) and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say so."""
        taken = len(self.rows) - len(self.missing)
        terminalreporter.write_line(f"state tables: {taken} of {len(self.rows)} rows taken by tests")
        for row in self.missing:
            terminalreporter.write_line(f"  not taken: {row}", red=True)
        if not self.rows:
            terminalreporter.write_line("  no state table was found", red=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--every-row", action="store_true", help="fail when a row of a state table is taken by no test")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--every-row"):
        watch = RowWatch()
        if hasattr(config, "workerinput") or not config.getoption("numprocesses", default=None):
            watch.install()
        config.pluginmanager.register(watch, "row-watch")
