"""Reads the settings: a TOML file, the environment over it, then every rule; all problems at once."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from config import problems
from config.checks import check
from config.problems import Problem, SettingsError, key_of
from config.settings import Settings

__all__ = ["PREFIX", "SettingsError", "load"]

PREFIX = "TRUEDY_"
_NOT_SETTINGS = frozenset({"TRUEDY_CALL_PASSWORD", "TRUEDY_PYTHON"})

_BARE = r"[A-Za-z0-9_-]+(?:\s*\.\s*[A-Za-z0-9_-]+)*"
_TABLE = re.compile(rf"\s*(\[\[?)\s*({_BARE})\s*\]\]?\s*(?:#.*)?$")
_ASSIGNMENT = re.compile(rf"\s*({_BARE})\s*=")

_EXPECTED = {
    "tuple_type": "expected a list",
    "string_type": "expected a text",
    "path_type": "expected a path",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "model_type": "expected a table",
    "model_attributes_type": "expected a table",
    "missing": "required",
    "string_pattern_mismatch": "lower-case letters, digits, '.', '_' and '-' only, 63 at most",
    "too_short": "at least one is needed",
}


@dataclass(slots=True)
class _Source:
    """Raw values, and where each came from."""

    values: dict[str, Any] = field(default_factory=dict)
    file: str = ""
    lines: dict[problems.Path, int] = field(default_factory=dict)
    variables: dict[problems.Path, str] = field(default_factory=dict)

    def place(self, path: problems.Path) -> str:
        """The variable, or the file and line, that gave the value at ``path`` or one above it."""
        for length in range(len(path), 0, -1):
            if variable := self.variables.get(path[:length]):
                return variable
            if line := self.lines.get(path[:length]):
                return self._variable_below(path) or f"{self.file}:{line}"
        return self._variable_below(path) or self.file or "settings"

    def _variable_below(self, path: problems.Path) -> str | None:
        """The variable that made a table of the value at ``path``."""
        return next((name for at, name in self.variables.items() if at[: len(path)] == path), None)


def load(
    path: Path | None, environ: Mapping[str, str], also: Callable[[Settings], Iterable[Problem]] | None = None
) -> Settings:
    """Settings from the file (None: defaults) and from ``TRUEDY_…`` variables, which win.

    A variable names a key by its path, ``__`` between parts: ``TRUEDY_SIP__DOMAIN=example.com``,
    ``TRUEDY_TRUNKS__0__PASSWORD=…`` (of the file's first trunk). Lists and tables are JSON:
    ``TRUEDY_SIP__LISTEN=["udp:0.0.0.0:5060"]``. An empty variable counts as unset. ``also`` is a rule
    besides those that hold everywhere. Raises :class:`SettingsError`.
    """
    source = _read(path) if path is not None else _Source()
    found = list(_overlay(source, environ))
    settings = None
    try:
        settings = Settings.model_validate(source.values)
    except ValidationError as error:
        found += _problems(error.errors(include_url=False, include_input=False))
    if settings is not None and not found:
        found += check(settings)
        found += also(settings) if also is not None else ()
    if found or settings is None:
        lines = [f"{source.place(problem.path)}: {problem.key}: {problem.message}" for problem in found]
        raise SettingsError(dict.fromkeys(lines), [problem.key for problem in found])
    return settings


def _read(path: Path) -> _Source:
    try:
        text = path.read_bytes().decode()
        return _Source(tomllib.loads(text), str(path), _locate(text))
    except OSError as error:
        raise SettingsError([f"{path}: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise SettingsError([f"{path}: not UTF-8 (byte {error.start})"]) from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError([f"{path}: not TOML: {error}"]) from error


def _locate(text: str) -> dict[problems.Path, int]:
    """The line of each table and key, as far as their names are bare; for messages only."""
    lines: dict[problems.Path, int] = {}
    table: problems.Path = ()
    seen: Counter[problems.Path] = Counter()
    for number, line in enumerate(text.splitlines(), 1):
        if match := _TABLE.match(line):
            table = tuple(re.split(r"\s*\.\s*", match[2]))
            if match[1] == "[[":
                seen[table] += 1
                table = (*table, seen[table] - 1)
            lines[table] = number
        elif match := _ASSIGNMENT.match(line):
            lines[(*table, *re.split(r"\s*\.\s*", match[1]))] = number
    return lines


def _overlay(source: _Source, environ: Mapping[str, str]) -> Iterator[Problem]:
    """Put the variables' values over the file's. In order of name, so that a table comes before its parts."""
    for name, text in sorted(environ.items()):
        if not name.startswith(PREFIX) or name in _NOT_SETTINGS or not text:
            continue
        path: problems.Path = tuple(
            int(part) if part.isascii() and part.isdigit() else part
            for part in name.removeprefix(PREFIX).lower().split("__")
        )
        source.variables[path] = name
        try:
            _put(source.values, path, json.loads(text) if text[0] in "[{" else text)
        except json.JSONDecodeError as error:
            yield Problem(path, f"not JSON: {error.msg} at character {error.pos + 1}")
        except LookupError:
            yield Problem(path, "there is no such entry in the file to change")
        except TypeError:
            yield Problem(path, "the file has something else there")


def _put(values: Any, path: problems.Path, value: Any) -> None:
    """LookupError for a list's missing entry; TypeError where a table or a list is not what ``path`` takes it for."""
    for part, following in pairwise(path):
        _fit(values, part)
        if isinstance(part, str) and isinstance(following, str):
            values.setdefault(part, {})
        values = values[part]
    _fit(values, path[-1])
    values[path[-1]] = value


def _fit(values: Any, part: str | int) -> None:
    if not isinstance(values, list if isinstance(part, int) else dict):
        raise TypeError


def _problems(errors: list[ErrorDetails]) -> list[Problem]:
    """A list whose only entries are bad is not besides too short."""
    bad = {tuple(error["loc"][:-1]) for error in errors}
    return [_problem(error) for error in errors if error["type"] != "too_short" or tuple(error["loc"]) not in bad]


def _problem(error: ErrorDetails) -> Problem:
    path = tuple(error["loc"])
    kind = error["type"]
    if kind == "extra_forbidden":
        return Problem(path, _unknown(path))
    if kind == "value_error":
        return Problem(path, str(error["ctx"]["error"]))
    message = _EXPECTED.get(kind, error["msg"].replace("Input should be", "must be"))
    return Problem(path, message[0].lower() + message[1:])


def _unknown(path: problems.Path) -> str:
    """With the name that was probably meant: a sibling's, or the same name in another table."""
    name, known = str(path[-1]), _fields_at(path[:-1])
    if close := get_close_matches(name, known, 1):
        return f"unknown key; did you mean {key_of((*path[:-1], close[0]))}?"
    for section, model in Settings.model_fields.items():
        if name in _fields_of(model.annotation):
            return f"unknown key; did you mean {section}.{name}?"
    return f"unknown key; here are known: {', '.join(known)}"


def _fields_at(path: problems.Path) -> list[str]:
    """The keys of the table at ``path``."""
    annotation: Any = Settings
    for part in path:
        if isinstance(part, str):
            annotation = _model(annotation).model_fields[part].annotation
    return _fields_of(annotation)


def _fields_of(annotation: Any) -> list[str]:
    return list(_model(annotation).model_fields)


def _model(annotation: Any) -> type[BaseModel]:
    """A table's model: the annotation itself, or the items of a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return _model(get_args(annotation)[0])
