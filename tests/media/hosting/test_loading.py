"""Which Python may be an agent."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from media.hosting.loading import AgentBroken, AgentNotListed, Agents
from media.hosting.settings import GROUP

CODE = """
async def agent(call): pass
class Desk:
    async def front(self, call): pass
desk = Desk()
number = 5
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "made_for_this_test.py"
    path.write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    yield path
    sys.modules.pop("made_for_this_test", None)


def test_what_is_listed_is_found_by_its_name(module: Path) -> None:
    agents = Agents(["made_for_this_test:agent", "made_for_this_test:desk.front"], {})
    agents.load()
    assert agents.get("made_for_this_test:agent").__name__ == "agent"
    assert agents.get("made_for_this_test:desk.front").__name__ == "front"


def test_an_installed_package_offers_agents_by_entry_points(module: Path) -> None:
    agents = Agents([], {"front": EntryPoint("front", "made_for_this_test:agent", GROUP)})
    agents.load()
    assert agents.get("front").__name__ == "agent"


@pytest.mark.parametrize("name", ["made_for_this_test:number", "os:system", "", None])
def test_what_is_not_listed_is_never_imported(module: Path, name: str | None) -> None:
    agents = Agents(["made_for_this_test:agent"], {})
    agents.load()
    with pytest.raises(AgentNotListed):
        agents.get(name)


@pytest.mark.parametrize(
    ("code", "name", "why"),
    [
        ("raise ValueError('x')", "made_for_this_test:agent", "ValueError"),
        ("def (", "made_for_this_test:agent", "SyntaxError"),
        ("import sys; sys.exit(3)", "made_for_this_test:agent", "SystemExit"),
        (CODE, "made_for_this_test:missing", "AttributeError"),
        (CODE, "made_for_this_test:number", "TypeError"),
        (CODE, "no_such_module:agent", "ModuleNotFoundError"),
    ],
)
def test_what_cannot_be_imported_is_logged_and_refused_and_takes_no_other_with_it(
    module: Path, code: str, name: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    module.write_text(code)
    agents = Agents([name], {"good": EntryPoint("good", "asyncio:sleep", GROUP)})
    agents.load()
    with pytest.raises(AgentBroken, match=why):
        agents.get(name)
    assert agents.get("good")
    [record] = caplog.records
    assert record.exc_info is not None
