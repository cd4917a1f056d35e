"""The reference pages, made from the code: what ``scripts/docs`` runs."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeVar

from config.load import PREFIX
from config.settings import Settings
from control import call_table, transfer_table
from control.api.app import openapi_document
from control.errors import ERRORS
from control.metric_families import ALERTS, DELAYS_S, GROUPS
from control.providers import Check
from control.providers.sdk import CHECKS, WarningCode
from edge import offers, refer, registration, reliable, session, session_timer, transaction
from edge.message import REASON_PHRASES
from media import bridge
from media.agents import supervised
from media.agents.capabilities import CAPABILITIES, Capabilities
from scripts import interop

__all__ = ["PAGES", "main", "stale"]

ROOT: Final = Path(__file__).resolve().parent.parent
DOCS: Final = ROOT / "docs"
MADE: Final = "<!-- Made by scripts/docs from {}: change that, and run it again. -->"

Json = Any
_Enum = TypeVar("_Enum", bound=Enum)
Rows = Iterable[Iterable[object]]


# --- Markdown ---------------------------------------------------------------------------------


def table(head: Iterable[str], rows: Rows) -> list[str]:
    """A Markdown table; what would break it is escaped."""
    names = list(head)
    return [_row(names), _row("---" for _ in names), *(_row(row) for row in rows)]


def _row(cells: Iterable[object]) -> str:
    return "| " + " | ".join(" ".join(str(cell).replace("|", "\\|").split()) for cell in cells) + " |"


def code(value: object) -> str:
    """As code, or nothing for nothing."""
    return f"`{value}`" if value not in (None, "") else ""


def page(title: str, source: str, *parts: Iterable[str]) -> str:
    """Head and parts, a blank line between them."""
    blocks = [[f"# {title}"], [MADE.format(source)], *(list(part) for part in parts)]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


# --- settings ---------------------------------------------------------------------------------


def settings_page() -> str:
    """Every key, its type, its default and its variable."""
    schema = Settings.model_json_schema()
    intro = (
        "One TOML file, given by `--config FILE`; without it the defaults hold. Each key can be overridden by an",
        f"environment variable: `{PREFIX}`, then the key's path in capitals with `__` for the dots. Lists and tables",
        "are JSON there, an empty variable counts as unset, and a trunk of the file is named by its place:",
        f"`{PREFIX}TRUNKS__0__PASSWORD`. `config/example.toml` shows every key with its default;",
        "`truedy-edge check-config` checks a file. Anything wrong is one line that names the key, and exit status 2.",
    )
    parts: list[Iterable[str]] = [intro]
    for section, property_ in schema["properties"].items():
        model = schema["$defs"][(property_.get("items") or property_)["$ref"].rpartition("/")[2]]
        heading = f"`[[{section}]]`" if "items" in property_ else f"`[{section}]`"
        parts += [
            [f"## {heading}"],
            [_line(model["description"])],
            _settings_table(section, model, "items" in property_),
        ]
    return page("Settings", "`config/settings.py`", *parts)


def _settings_table(section: str, model: Json, repeated: bool) -> list[str]:
    prefix = f"{section}[]" if repeated else section
    required = set(model.get("required", ()))
    return table(
        ("key", "type", "default", "meaning"),
        (
            (
                code(f"{prefix}.{name}"),
                kind(field),
                "required" if name in required else code(_toml(field.get("default"))),
                field.get("description", ""),
            )
            for name, field in model["properties"].items()
        ),
    )


def _toml(value: object) -> str:
    return "" if value is None else json.dumps(value)


def kind(field: Json) -> str:
    """A JSON schema as a reader says it."""
    if "anyOf" in field:
        return " or ".join(kind(option) for option in field["anyOf"] if option.get("type") != "null")
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "enum" in field or "const" in field:
        return " or ".join(code(json.dumps(value)) for value in field.get("enum", [field.get("const")]))
    if field.get("type") == "array":
        return f"list of {kind(field.get('items', {}))}"
    names = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
    name = {"password": "secret", "path": "path", "date-time": "time"}.get(field.get("format", ""))
    return (name or names.get(field.get("type", ""), field.get("type", "any"))) + _bounds(field)


def _bounds(field: Json) -> str:
    words = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {field[name]}" for name, sign in words.items() if name in field]
    lengths = [f"{word} {field[name]} characters" for name, word in LENGTHS.items() if name in field]
    return f" ({', '.join(bounds + lengths)})" if bounds or lengths else ""


LENGTHS: Final = {"minLength": "at least", "maxLength": "at most"}


def settings_schema() -> str:
    """The JSON schema, a snapshot to compare with."""
    return _json(Settings.model_json_schema())


def _json(document: Json) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


# --- the API ----------------------------------------------------------------------------------


def openapi() -> str:
    """The OpenAPI document, a snapshot to compare with."""
    return _json(openapi_document())


def api_page() -> str:
    """Every operation and every shape."""
    document = openapi_document()
    operations = [
        (path, method.upper(), operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    parts: list[Iterable[str]] = [document["info"]["description"].strip().splitlines(), SNAPSHOT]
    for path, method, operation in operations:
        parts += _operation(path, method, operation)
    parts.append(["## Shapes"])
    for name, schema in sorted(document["components"]["schemas"].items()):
        parts += _shape(name, schema)
    return page("The control API", "`control/api`", *parts)


SNAPSHOT: Final = ("The OpenAPI document is `openapi.json` beside this page. Errors: [errors.md](errors.md).",)


def _operation(path: str, method: str, operation: Json) -> list[Iterable[str]]:
    parts: list[Iterable[str]] = [
        [f"## `{method} {path}`"],
        operation.get("description", operation.get("summary", "")).strip().splitlines(),
    ]
    parameters = operation.get("parameters", [])
    if parameters:
        parts.append(
            table(
                ("parameter", "in", "type", "default", "meaning"),
                (
                    (
                        code(item["name"]),
                        item["in"],
                        kind(item["schema"]),
                        "required" if item.get("required") else code(_toml(item["schema"].get("default"))),
                        item.get("description", item["schema"].get("description", "")),
                    )
                    for item in parameters
                ),
            )
        )
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append([f"Body (`{media_type}`): {_choice(content['schema'])}."])
    parts.append(table(("answer", "shape", "when"), map(_answer, *zip(*operation["responses"].items(), strict=True))))
    return parts


def _answer(status: str, response: Json) -> tuple[str, str, str]:
    contents = [_choice(item["schema"]) for item in response.get("content", {}).values() if item.get("schema")]
    meaning = response.get("description", "")
    return status, ", ".join(contents), "" if meaning == "Successful Response" else meaning


def _choice(schema: Json) -> str:
    options = schema.get("oneOf") or schema.get("anyOf")
    return ", or ".join(kind(option) for option in options) if options else kind(schema)


def _shape(name: str, schema: Json) -> list[Iterable[str]]:
    parts: list[Iterable[str]] = [[f"### {name}"], schema.get("description", "").strip().splitlines()]
    if "enum" in schema:
        return [*parts, [", ".join(code(value) for value in schema["enum"])]]
    required = set(schema.get("required", ()))
    rows = (
        (
            code(field_name),
            _choice(field),
            "always" if field_name in required else code(_toml(field.get("default"))),
            field.get("description", ""),
        )
        for field_name, field in schema.get("properties", {}).items()
    )
    return [*parts, table(("field", "type", "there, or default", "meaning"), rows)]


# --- errors -----------------------------------------------------------------------------------


def errors_page() -> str:
    """The API's error codes."""
    intro = (
        'Every error is `{"error": {"code", "message", "details"}, "meta": {"request_id", "ts"}}`. The message may be',
        "more precise than the one here; the code and the status are fixed.",
    )
    rows = ((kind.status, code(kind.code.value), kind.message, kind.resolution) for kind in ERRORS.values())
    checks = ((code(check.value), _one_line(text), CHECKS[check]) for check, text in _documented(Check).items())
    warnings = ((code(warning.value), _one_line(text)) for warning, text in _documented(WarningCode).items())
    return page(
        "Errors of the API",
        "`control/errors.py` and `control/providers/`",
        intro,
        table(("status", "code", "message", "what to do"), rows),
        ["## provider_verification_failed", "", "`details.check` says which check failed."],
        table(("check", "it means", "what to do"), checks),
        [
            "## Warnings",
            "",
            "In `data.warnings` of what was imported or saved: they stop none of it, and may stop calls.",
        ],
        table(("code", "it means"), warnings),
    )


def _documented(enum: type[_Enum]) -> dict[_Enum, str]:
    """The members of an enumeration with the strings that stand under them in the source."""
    (definition,) = (node for node in ast.walk(ast.parse(inspect.getsource(enum))) if isinstance(node, ast.ClassDef))
    texts: dict[_Enum, str] = {}
    for before, after in pairwise(definition.body):
        if isinstance(before, ast.Assign) and isinstance(before.targets[0], ast.Name) and isinstance(after, ast.Expr):
            texts[enum[before.targets[0].id]] = ast.literal_eval(after.value)
    return texts


def _one_line(text: str) -> str:
    return " ".join(text.split())


# --- SIP --------------------------------------------------------------------------------------


def sip_page() -> str:
    """Every refusal, every end."""
    return page(
        "SIP answers",
        "`edge/` and `control/call_table.py`",
        (
            "What the edge answers. The reason also stands in the answer's `Reason` and in the log; counters are in",
            "[Metrics](metrics.md).",
        ),
        ["## Calls that are refused"],
        (
            "Counted as `truedy_calls_refused_total`, by reason and status; the name is the `end_reason` of the call's",
            "record.",
        ),
        table(
            ("status", "phrase", "name", "reason", "Retry-After"),
            (
                (
                    refusal.status,
                    refusal.phrase or REASON_PHRASES.get(refusal.status, ""),
                    code(name),
                    refusal.reason,
                    "" if refusal.retry_after_s is None else f"{refusal.retry_after_s} s",
                )
                for name, refusal in sorted(call_table.REFUSALS.items(), key=lambda item: item[1].status)
            ),
        ),
        ["## Requests that are refused before there is a call"],
        ["Counted as `truedy_sip_requests_refused_total`, by source, status and reason."],
        table(("status", "phrase", "reason"), _grouped(_calls_of("Refusal", [ROOT / "edge"]))),
        ["## Messages that are not valid"],
        (
            "A request is answered so, where it can be read that far (`truedy_sip_requests_refused_total`), and a",
            "response dropped (`truedy_sip_messages_dropped_total`).",
        ),
        table(("status", "phrase", "reasons"), _grouped(_calls_of("ParseError", [ROOT / "edge"]))),
        ["## How calls end"],
        ["The `end_reason` of a call's record; counted as `truedy_calls_ended_total`, by reason and who ended it."],
        table(("name", "meaning"), ((code(name), text) for name, text in call_table.END_REASONS.items())),
    )


def _grouped(found: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str, str]]:
    """One row a status."""
    reasons: dict[int, set[str]] = {}
    for status, reason in found:
        reasons.setdefault(status, set()).add(reason)
    for status, texts in sorted(reasons.items()):
        yield status, REASON_PHRASES.get(status, ""), " · ".join(sorted(texts))


def _calls_of(name: str, folders: Iterable[Path]) -> Iterator[tuple[int, str]]:
    """``Name(status, reason, …)`` wherever both are written out in the code."""
    for node in _nodes(folders):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
            status, reason = [*node.args[:2], None, None][:2]
            if isinstance(status, ast.Constant) and re.search(r"\w", text := _text(reason)):
                yield int(str(status.value)), text


def _text(node: ast.expr | None) -> str:
    """A literal; of an f-string the fixed parts."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return ""


def _nodes(folders: Iterable[Path]) -> Iterator[ast.AST]:
    for folder in folders:
        for file in sorted(folder.rglob("*.py")):
            yield from ast.walk(ast.parse(file.read_text("utf-8")))


# --- metrics ----------------------------------------------------------------------------------


def metrics_page() -> str:
    """Every metric, and what to be woken for."""
    parts: list[Iterable[str]] = []
    for title, families in GROUPS.items():
        rows = ((code(each.name), each.type, ", ".join(map(code, each.labels)), each.help) for each in families)
        parts += [[f"## {title}"], table(("name", "type", "labels", "meaning"), rows)]
    return page(
        "Metrics",
        "`control/metric_families.py`",
        (
            "What `GET /metrics` shows to this machine, or with an operator key: Prometheus' text, version 0.0.4.",
            "Counters begin at the process's start. A label has 256 values at most, and further ones count as `other`:",
            "a flood from forged sources adds no more series. Beside these are the `process_…` figures (memory, CPU,",
            "descriptors, start) of the process that signals.",
        ),
        (
            "A histogram's series are `…_bucket` (how many were no longer than `le` seconds), `…_sum` and `…_count`.",
            f"Its buckets end at {', '.join(f'{bound:g}' for bound in DELAYS_S)} s and at infinity.",
        ),
        ["## What to alert on"],
        (
            "A series with labels begins with its first event, at 1, which `increase()` does not count: where one",
            "event matters, the expression compares with what was there before.",
        ),
        table(
            ("expression", "for", "it means"),
            ((code(alert.expression), alert.lasting, alert.means) for alert in ALERTS),
        ),
        *parts,
    )


# --- agents -----------------------------------------------------------------------------------


def agents_page() -> str:
    """What an agent can do in each protocol."""
    names = [field.name for field in dataclasses.fields(Capabilities)]
    rows = ([code(protocol), *dataclasses.astuple(can)] for protocol, can in CAPABILITIES.items())
    return page(
        "Agents' protocols",
        "`media/agents/capabilities.py`",
        ["What an agent of each protocol can do in a call, and how. An empty place: the protocol has none for it."],
        table(["protocol", *(name.replace("_", " ") for name in names)], rows),
        ["How to: [Put your agent on the phone](../howto/agent.md)."],
    )


# --- states -----------------------------------------------------------------------------------

Table = Mapping[Any, Any]
"""``(state, input) → (state, actions)``, all of them enums."""


def states_page() -> str:
    """A diagram for each table of states."""
    parts: list[Iterable[str]] = [
        (
            "Drawn from the tables that the code runs. An arrow says `input / actions`; an input without an arrow from",
            "a state is ignored there.",
        )
    ]
    for title, module, machine in _tables():
        parts += [[f"## {title[0].upper()}{title[1:]}"], [f"`{module}`"], diagram(machine)]
    return page("States", "the `TRANSITIONS` tables", *parts)


def _tables() -> Iterator[tuple[str, str, Table]]:
    yield "call (control)", "control/call_table.py", call_table.TRANSITIONS
    yield "transfer (control)", "control/transfer_table.py", transfer_table.TRANSITIONS
    yield "agent in its call (media)", "media/bridge.py", bridge.TRANSITIONS
    yield "agents that may fail (media)", "media/agents/supervised.py", supervised.TRANSITIONS
    modules: tuple[tuple[ModuleType, str], ...] = (
        (session, "session: {}"),
        (offers, "session: {}"),
        (session_timer, "session: {}"),
        (reliable, "session: {}"),
        (refer, "session: {}"),
        (transaction, "{} transaction"),
        (registration, "{}"),
    )
    for module, title in modules:
        for name, machine in module.TABLES.items():
            yield title.format(name), f"{module.__name__.replace('.', '/')}.py", machine


def diagram(machine: Table) -> list[str]:
    """Mermaid; several inputs that lead from one state to another are one arrow each."""
    states = list(dict.fromkeys(state for (before, _), (after, _) in machine.items() for state in (before, after)))
    leading_out = {before for before, _ in machine}
    lines = ["```mermaid", "stateDiagram-v2"]
    lines += [f'    state "{_label(state.value)}" as {state.name}' for state in states]
    led_to = {after for (before, _), (after, _) in machine.items() if after is not before}
    lines += [f"    [*] --> {state.name}" for state in states if state is states[0] or state not in led_to]
    for (before, event), (after, actions) in machine.items():
        done = f" / {', '.join(_label(action.value) for action in actions)}" if actions else ""
        lines.append(f"    {before.name} --> {after.name}: {_label(event.value)}{done}")
    lines += [f"    {state.name} --> [*]" for state in states if state not in leading_out]
    return [*lines, "```"]


def _label(text: str) -> str:
    """Without what Mermaid reads as syntax."""
    return re.sub(r'[:;"#]', " ", text)


# --- interoperation ---------------------------------------------------------------------------


def interop_page() -> str:
    """User agents by what they are seen to do."""
    found = interop.seen(ROOT / "tests" / "calls")
    pairs = {(item.feature, item.agent) for item in found}
    impossible = {
        (feature, agent): why for agent, reasons in interop.CANNOT.items() for feature, why in reasons.items()
    }

    def cell(feature: str, agent: str) -> str:
        return "✓" if (feature, agent) in pairs else "–" if (feature, agent) in impossible else ""

    matrix = (
        (feature, *(cell(feature, agent) for agent in interop.AGENTS), meaning)
        for feature, meaning in interop.FEATURES.items()
    )
    reasons: dict[tuple[str, str], list[str]] = {}
    for (feature, agent), why in impossible.items():
        reasons.setdefault((agent, why), []).append(feature)
    proofs: dict[tuple[str, str], list[str]] = {}
    for item in found:
        proofs.setdefault((item.feature, item.test), []).append(item.agent)
    order = list(interop.FEATURES)
    shown = (
        (feature, ", ".join(dict.fromkeys(agents)), code(test.removeprefix("tests/calls/")))
        for (feature, test), agents in sorted(proofs.items(), key=lambda proof: order.index(proof[0][0]))
    )
    return page(
        "Interoperation",
        "the `interop` marks on `tests/calls`",
        (
            "Real user agents that call the edge, or are called by it, in the project's own tests. A tick is a test",
            "that `scripts/test` runs where the program is installed, those of session timers with `--slow`; a dash is",
            "what the program cannot do; an empty cell is a pair that no test has seen, whether it would work or not.",
        ),
        table(("", *interop.AGENTS, "what it is"), matrix),
        ["## The user agents"],
        table(("name", "what it is"), ((code(name), text) for name, text in interop.AGENTS.items())),
        ["## What they cannot do", "", "In the versions that Debian 12 and PyPI have, which the tests run."],
        table(
            ("with", "feature", "because"),
            ((agent, ", ".join(features), why) for (agent, why), features in reasons.items()),
        ),
        ["## The tests", "", "All in `tests/calls/`."],
        table(("feature", "with", "shown by"), shown),
    )


# --- the pages --------------------------------------------------------------------------------

PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "reference/settings.md": settings_page,
    "reference/settings.json": settings_schema,
    "reference/api.md": api_page,
    "reference/openapi.json": openapi,
    "reference/errors.md": errors_page,
    "reference/sip.md": sip_page,
    "reference/metrics.md": metrics_page,
    "reference/agents.md": agents_page,
    "reference/interop.md": interop_page,
    "states.md": states_page,
}


def stale(folder: Path = DOCS) -> dict[str, str]:
    """The pages that are not as the code is, with the text they should have."""
    made = {name: make() for name, make in PAGES.items()}
    return {name: text for name, text in made.items() if _read(folder / name) != text}


def _read(path: Path) -> str:
    return path.read_text("utf-8") if path.exists() else ""


def _line(text: str) -> str:
    return " ".join(text.split())


def main(arguments: list[str]) -> int:
    """Write or check; the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/docs", description="Write the reference from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a page is stale")
    check = parser.parse_args(arguments).check
    found = stale()
    for name, text in found.items():
        path = DOCS / name
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        print(f"{'stale' if check else 'written'}: {path.relative_to(ROOT)}")
    if check and found:
        print("run scripts/docs", file=sys.stderr)
        return 1
    return 0
