"""The rules of the house that no other tool checks."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from re import _parser as sre_parser  # type: ignore[attr-defined]

import pytest

from tests.support.table_rows import find_tables

ROOT = Path(__file__).parents[1]
ROOMS = ("config", "edge", "media", "control")

# Modules without behaviour of their own: values, and protocols for others to fulfil.
VALUES_ONLY = {
    "edge/actions.py",
    "media/settings.py",
    "edge/events.py",
    "edge/host.py",
    "control/registry/types.py",
    "control/carrying.py",
    "control/surroundings.py",
    "media/agents/base.py",
}

# What would name a package registry's host, in pieces so that this file does not.
REGISTRY_HOSTS = [
    *("py" + end for end in ("pi.org", "pi.python.org", "thonhosted.org")),
    *(f"{start}.debian.org" for start in ("deb", "security", "archive")),
    "registry." + "npmjs",
    "proxy." + "golang",
    "crates" + ".io",
]


@cache
def product_modules() -> list[Path]:
    """Every module of the four rooms."""
    return sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    """A module's syntax."""
    return ast.parse(path.read_text(), str(path))


@cache
def committed_files() -> list[Path]:
    """All that git knows of; without git (an unpacked archive) the tests about them are skipped."""
    listing = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False
    )
    if listing.returncode != 0:
        pytest.skip("no git checkout")
    names = listing.stdout.decode().split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


@cache
def committed_texts() -> dict[str, str]:
    """Path and text of every committed file that is text."""
    texts = {}
    for path in committed_files():
        try:
            texts[str(path.relative_to(ROOT))] = path.read_text()
        except UnicodeDecodeError:
            continue
    return texts


def places(pattern: str, texts: dict[str, str]) -> list[str]:
    """``file:line`` of each match."""
    found = re.compile(pattern)
    return [
        f"{name}:{number}"
        for name, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        if found.search(line)
    ]


def relative(path: Path) -> str:
    """As written in messages."""
    return str(path.relative_to(ROOT))


def imported(module: ast.Module) -> set[str]:
    """Top-level names of what a module imports."""
    names: set[str] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def io_modules() -> set[str]:
    """Those that pyproject.toml lets read clocks, draw randomness and open sockets."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]["per-file-ignores"]
    return {name for name, ignored in settings.items() if "TID251" in ignored and name.startswith(ROOMS)}


def test_every_module_has_its_test_file() -> None:
    missing = []
    for path in product_modules():
        name = relative(path)
        if path.name != "__init__.py" and name not in VALUES_ONLY:
            mirror = ROOT / "tests" / path.relative_to(ROOT).with_name(f"test_{path.name}")
            if not mirror.exists():
                missing.append(f"{name} → {relative(mirror)}")
    assert not missing


def test_what_is_excused_from_a_test_file_is_there_and_has_none() -> None:
    for name in VALUES_ONLY:
        path = ROOT / name
        assert path.exists()
        assert not (ROOT / "tests" / name).with_name(f"test_{path.name}").exists(), f"{name} has tests: strike it"


def test_tests_are_no_packages() -> None:
    """Import mode is importlib: two test files may have one name."""
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_clocks_sockets_and_randomness_stay_in_the_io_modules() -> None:
    banned = {"time", "random", "secrets", "socket"}
    allowed = io_modules()
    assert allowed
    for path in product_modules():
        if relative(path) not in allowed:
            assert not imported(tree(path)) & banned, relative(path)


def test_no_clock_or_randomness_comes_in_by_another_door() -> None:
    """``datetime.now()``, ``os.urandom``, ``uuid4``: what ruff's list of modules does not see."""
    allowed = io_modules()
    texts = {relative(path): path.read_text() for path in product_modules() if relative(path) not in allowed}
    assert not places(r"\b(datetime\.(now|utcnow|today)|os\.urandom|os\.getrandom|uuid[14])\(", texts)


def test_the_sip_engine_reads_no_loop() -> None:
    """Sans-I/O: only the shell of ``edge`` knows asyncio."""
    allowed = io_modules()
    for path in product_modules():
        name = relative(path)
        if name.startswith("edge/") and name not in allowed:
            assert "asyncio" not in imported(tree(path)), name


def test_audioop_is_imported_in_one_place() -> None:
    """It warns on 3.11, is gone in 3.13 and comes from another package there."""
    assert [relative(path) for path in product_modules() if "audioop" in imported(tree(path))] == ["media/g711.py"]


def test_copyleft_programs_are_never_imported_by_the_product() -> None:
    for path in product_modules():
        assert not imported(tree(path)) & {"pjsua2", "tests"}, relative(path)


def test_what_an_extra_brings_is_imported_where_it_is_used_and_nowhere_else() -> None:
    """The edge runs without pipecat, and without aiortc, whose wheels carry GPL codecs."""
    homes = {"pipecat": {"media/pipecat_transport.py"}, "aiortc": {"media/hosting/webrtc.py"}}
    homes["av"] = homes["aiortc"]
    for name, home in homes.items():
        assert {relative(path) for path in product_modules() if name in imported(tree(path))} <= home


def test_no_assert_guards_anything_in_the_product() -> None:
    """Asserts vanish with -O and raise what no caller expects."""
    for path in product_modules():
        lines = [node.lineno for node in ast.walk(tree(path)) if isinstance(node, ast.Assert)]
        assert not lines, f"{relative(path)}: {lines}"


def test_no_task_is_without_an_owner() -> None:
    """A task is spawned in a group, by the supervisor or a task set; never left to itself as a statement."""
    spawners = {"create_task", "ensure_future"}
    for path in product_modules():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                function = node.value.func
                name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
                owner = ast.unparse(function.value) if isinstance(function, ast.Attribute) else ""
                assert name not in spawners or "group" in owner, f"{relative(path)}:{node.lineno}"


def test_nothing_committed_is_unfinished() -> None:
    words = "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3, "HA" + "CK", "W" + "IP"))
    assert not places(rf"\b({words})\b", committed_texts())
    product = {name: text for name, text in committed_texts().items() if name.startswith(ROOMS)}
    assert not places(r"NotImplementedError|\bstub\b|\bplaceholder\b", product)


def test_nothing_committed_names_a_package_registry() -> None:
    assert not places("|".join(re.escape(host) for host in REGISTRY_HOSTS), committed_texts())


def test_nothing_committed_names_a_place_on_somebodys_machine() -> None:
    assert not places(r"(?<![\w.])/(wo" + r"rk|home/\w+|root)/", committed_texts())


def test_links_in_the_documents_lead_somewhere() -> None:
    broken = []
    for name, text in committed_texts().items():
        if name.endswith(".md"):
            for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
                elsewhere = "://" in target or target.startswith("mailto:")
                if not elsewhere and not (ROOT / name).parent.joinpath(target).exists():
                    broken.append(f"{name} → {target}")
    assert not broken


def test_every_state_and_every_input_of_a_table_is_of_use() -> None:
    """A state nobody enters, or an input nobody takes, is a mistake in the table."""
    tables = {label: table for label, _, _, table in find_tables()}
    assert len(tables) >= 6, list(tables)
    for label, table in tables.items():
        states, inputs = {state for state, _ in table}, {event for _, event in table}
        entered = {to for to, _ in table.values()}
        begins = states - entered  # a call begins as the caller's or as the called one's
        assert len(begins) <= 2, f"{label}: never entered: {begins}"
        assert len(states | entered) > 1, label
        assert inputs, label


def test_no_pattern_is_possessive_around_alternatives() -> None:
    """Until CPython 3.11.5, Debian 12's among them, such a group matches more than it should (gh-106052)."""
    found = {}
    for path in product_modules():
        if "re.compile" in path.read_text():
            module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
            for name, value in vars(module).items():
                pattern = getattr(value, "__self__", value)
                if isinstance(pattern, re.Pattern):
                    found[f"{module.__name__}.{name}"] = sre_parser.parse(pattern.pattern, pattern.flags)
    assert len(found) > 20
    assert not [name for name, parsed in found.items() if is_possessive_around_alternatives(parsed)]
    assert is_possessive_around_alternatives(sre_parser.parse('x(?:(?:[^"]|"a")*+y)?'))
    assert not is_possessive_around_alternatives(sre_parser.parse('(?:[^"]++|"a")*'))


def is_possessive_around_alternatives(parsed: object, *, within: bool = False) -> bool:
    """Of a pattern's syntax: is a ``|`` anywhere in what a possessive quantifier repeats?"""
    if isinstance(parsed, tuple | list | sre_parser.SubPattern):
        parts = list(parsed)
        operation = parts[0] if isinstance(parsed, tuple) and parts else None
        if operation is sre_parser.BRANCH and within:
            return True
        within = within or operation is sre_parser.POSSESSIVE_REPEAT
        return any(is_possessive_around_alternatives(part, within=within) for part in parts)
    return False


@pytest.mark.realtime
def test_the_layers_hold() -> None:
    """import-linter's contracts of pyproject.toml, which the test script runs too; here for a lone pytest."""
    command = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([command, "--no-cache", "--no-logo"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
