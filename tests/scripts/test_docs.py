"""The reference is what the code says."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from config.settings import Settings
from control.metric_families import FAMILIES
from control.resources.agents import CreateAgent
from media.agents.supervised import RESUMED
from scripts import reference

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("name", list(reference.PAGES))
def test_the_page_is_as_the_code_is(name: str) -> None:
    """When it is not: run ``scripts/docs`` and read what changed."""
    assert (reference.DOCS / name).read_text("utf-8") == reference.PAGES[name](), "stale: run scripts/docs"


def test_a_stale_page_is_found(tmp_path: Path) -> None:
    for name, make in reference.PAGES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(make(), "utf-8")
    assert reference.stale(tmp_path) == {}
    (tmp_path / "reference/errors.md").write_text("old")
    (tmp_path / "states.md").unlink()
    assert list(reference.stale(tmp_path)) == ["reference/errors.md", "states.md"]


HOWTOS = {str(path.relative_to(reference.DOCS)): path for path in sorted((reference.DOCS / "howto").rglob("*.md"))}
API = "/api/public/v1"
ADDRESSES = ("$API/", f"https://edge.example.com{API}/")


def written_out(words: list[str]) -> list[str]:
    """With the addresses that were given a name, as in ``CALL=$API/calls/$CALL_ID``, where the name stands."""
    assigned = (word.partition("=") for word in words)
    names = {f"${name}": value for name, _, value in assigned if value.startswith(ADDRESSES)}
    return [re.sub(r"\$\w+", lambda name: names.get(name[0], name[0]), word) for word in words]


def requests_of(page: str) -> Iterator[tuple[str, str, Any]]:
    """Method, path and body of each ``curl`` to the API."""
    for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL):
        words = written_out(shlex.split(block, comments=True))
        starts = [place for place, word in enumerate(words) if word.endswith("curl")]
        for start, end in pairwise([*starts, len(words)]):
            given = words[start:end]
            options = dict(pairwise(given))
            for address in ADDRESSES:
                for url in (word for word in given if word.startswith(address)):
                    path = f"{API}/{url.removeprefix(address).partition('?')[0]}"
                    yield options.get("-X", "GET").lower(), path, json.loads(options.get("-d", "null"))


def fields(schema: Mapping[str, Any], openapi: Mapping[str, Any]) -> set[str]:
    """Of a body, or of all the shapes that it may have."""
    if name := schema.get("$ref"):
        return fields(openapi["components"]["schemas"][name.rpartition("/")[2]], openapi)
    return set(schema.get("properties", ())).union(*(fields(each, openapi) for each in schema.get("oneOf", ())))


@pytest.mark.parametrize("page", HOWTOS)
def test_a_howtos_requests_are_the_apis(page: str) -> None:
    """Path, method, and a body that is JSON with fields of that operation."""
    openapi = json.loads((reference.DOCS / "reference/openapi.json").read_text("utf-8"))
    for method, path, body in requests_of(HOWTOS[page].read_text("utf-8")):
        shapes = [
            operations[method]
            for template, operations in openapi["paths"].items()
            if method in operations and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path)
        ]
        assert shapes, (method, path)
        if body is not None:
            schemas = [shape["requestBody"]["content"]["application/json"]["schema"] for shape in shapes]
            assert body.keys() <= set().union(*(fields(schema, openapi) for schema in schemas)), (path, body)
        if (method, path) == ("post", f"{API}/agents"):
            CreateAgent.of(**body)


def test_every_setting_has_its_line_and_its_meaning() -> None:
    text = reference.settings_page()
    schema = Settings.model_json_schema()
    for section, value in schema["properties"].items():
        model = schema["$defs"][(value.get("items") or value)["$ref"].rpartition("/")[2]]
        for name, field in model["properties"].items():
            assert f"{section}{'[]' if 'items' in value else ''}.{name}`" in text
            assert field.get("description"), f"{section}.{name} has no docstring"


def test_no_secret_has_a_default_that_is_shown() -> None:
    assert json.loads(reference.settings_schema())["$defs"]["Secrets"]["properties"]["key"]["default"] is None


def counted_in(tree: ast.AST) -> Iterator[tuple[str, set[str]]]:
    """Key and labels of ``counters.add("key", label=…)``, and ``counter="key"`` of who counts deaths by status."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        given = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
        function = ast.unparse(call.func)
        if function.endswith("counters.add") and isinstance(call.args[0], ast.Constant):
            yield str(call.args[0].value), set(given)
        elif isinstance(key := given.get("counter"), ast.Constant):
            yield str(key.value), {"status"}


def test_whatever_is_counted_is_on_the_page_with_its_labels() -> None:
    """And nothing is there that no code counts or reads."""
    trees = [
        ast.parse(path.read_text("utf-8"))
        for room in ("edge", "control")
        for path in (reference.ROOT / room).rglob("*.py")
        if path.stem != "metric_families"
    ]
    counted = [found for tree in trees for found in counted_in(tree)]
    assert len(counted) > 30
    for key, labels in counted:
        assert key in FAMILIES, f"{key} has no line in control/metric_families.py"
        assert labels == set(FAMILIES[key].labels), key
    texts = {node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert FAMILIES.keys() <= texts


def test_metrics_that_pages_name_are_there() -> None:
    """Names begin as API keys do, and as what an agent that is connected to anew is told."""
    names = {RESUMED}.union(*({family.name, *family.series.values()} for family in FAMILIES.values()))
    for path in (reference.ROOT / "CHANGELOG.md", *reference.DOCS.rglob("*.md")):
        assert set(re.findall(r"\btruedy_[a-z_]+\b", path.read_text("utf-8"))) <= names, path


class State(Enum):
    """Of a lamp."""

    OFF = "off"
    ON = "on: bright"
    BROKEN = "broken"


class Press(Enum):
    """What happens to it."""

    PRESS = "press"
    DROP = "drop"


def test_a_diagram_has_every_arrow_of_its_table() -> None:
    machine = {
        (State.OFF, Press.PRESS): (State.ON, (Press.PRESS, Press.DROP)),
        (State.ON, Press.PRESS): (State.OFF, ()),
        (State.ON, Press.DROP): (State.BROKEN, ()),
    }
    assert reference.diagram(machine) == [
        "```mermaid",
        "stateDiagram-v2",
        '    state "off" as OFF',
        '    state "on  bright" as ON',
        '    state "broken" as BROKEN',
        "    [*] --> OFF",
        "    OFF --> ON: press / press, drop",
        "    ON --> OFF: press",
        "    ON --> BROKEN: drop",
        "    BROKEN --> [*]",
        "```",
    ]


def test_a_cell_cannot_break_its_table() -> None:
    assert reference.table(("a", "b"), [("x | y", "two\nlines")]) == [
        "| a | b |",
        "| --- | --- |",
        "| x \\| y | two lines |",
    ]


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer", "minimum": 1, "exclusiveMaximum": 9}, "whole number (≥ 1, < 9)"),
        ({"anyOf": [{"type": "string", "maxLength": 5}, {"type": "null"}]}, "text (at most 5 characters)"),
        ({"type": "array", "items": {"enum": ["a", "b"]}}, 'list of `"a"` or `"b"`'),
        ({"$ref": "#/components/schemas/Meta"}, "[Meta](#meta)"),
        ({}, "any"),
    ],
)
def test_a_type_is_said_in_words(schema: dict[str, object], words: str) -> None:
    assert reference.kind(schema) == words


def test_every_trouble_is_shown_by_tests_that_are_there() -> None:
    rows = (reference.DOCS / "reference/troubles.md").read_text("utf-8").splitlines()[7:]
    for row in rows:
        trouble, *_, shown = row.strip("| ").split(" | ")
        named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", shown)
        assert len(named) == shown.count("`") / 2 > 0, trouble
        for file, test in named:
            assert re.search(rf"^(async )?def {test}\(", (TESTS / file).read_text("utf-8"), re.MULTILINE), (file, test)


def test_the_command_names_what_is_stale(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(reference, "stale", lambda: {"states.md": "new"})
    assert reference.main(["--check"]) == 1
    assert "stale: docs/states.md" in capsys.readouterr().out
    monkeypatch.setattr(reference, "stale", dict)
    assert reference.main(["--check"]) == 0
