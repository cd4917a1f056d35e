"""The interoperation page is what the marks on the tests say."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import reference
from scripts.interop import AGENTS, CANNOT, FEATURES, BadMark, Seen, seen

DRIVERS = {
    "sipp": ("sipp",),
    "baresip": ("baresip", "user_agents"),
    "linphone": ("linphone", "user_agents"),
    "pjsua2": ("pjsip", "user_agents"),
    "kamailio": ("kamailio", "registrar"),
}
"""Of each user agent, the modules of ``tests/support`` that start it."""


def suite(folder: Path, text: str) -> Path:
    calls = folder / "tests" / "calls"
    calls.mkdir(parents=True)
    (calls / "test_phones.py").write_text(text)
    return calls


def test_a_mark_is_each_of_its_agents_with_each_of_its_features(tmp_path: Path) -> None:
    calls = suite(
        tmp_path,
        '@pytest.mark.slow\n@pytest.mark.interop(agent=("sipp", "pjsua2"), feature=("UDP", "PRACK"))\n'
        "async def test_it() -> None: ...\n\ndef test_without() -> None: ...\n",
    )
    test = "tests/calls/test_phones.py::test_it"
    assert seen(calls) == [Seen(*pair, test) for pair in [("sipp", "UDP"), ("sipp", "PRACK")]] + [
        Seen(*pair, test) for pair in [("pjsua2", "UDP"), ("pjsua2", "PRACK")]
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ('agent="asterisk", feature="UDP"', "'asterisk' is not in scripts/interop.py"),
        ('agent="sipp", feature=("UDP", "telepathy")', "'telepathy' is not in"),
        ('agent="sipp"', "takes agent=… and feature=…"),
        ('"sipp", "UDP"', "takes agent=… and feature=…"),
        ('agent=NAME, feature="UDP"', "write its values out"),
        ('agent=(), feature="UDP"', "is not in"),
        ('agent=("linphone", "sipp"), feature=("UDP", "TLS")', "sipp cannot do TLS, says CANNOT"),
    ],
)
def test_a_mark_that_says_nothing_known_is_an_error(tmp_path: Path, arguments: str, words: str) -> None:
    calls = suite(tmp_path, f"@pytest.mark.interop({arguments})\ndef test_it() -> None: ...\n")
    with pytest.raises(BadMark, match=r"test_phones\.py::test_it") as raised:
        seen(calls)
    assert words in str(raised.value)


def test_the_page_has_a_column_for_each_agent_and_a_tick_for_each_mark() -> None:
    text = reference.interop_page()
    assert f"|  | {' | '.join(AGENTS)} | what it is |" in text
    [row] = [line for line in text.splitlines() if line.startswith("| CANCEL | ") and "§9" in line]
    assert row.split(" | ")[1 + list(AGENTS).index("kamailio")] == "✓"
    assert "| CANCEL | kamailio | `test_proxy.py::test_cancel_through_a_proxy_ends_the_ringing` |" in text


def test_what_an_agent_cannot_do_is_a_dash_with_its_reason() -> None:
    assert all(set(reasons) <= set(FEATURES) and all(reasons.values()) for reasons in CANNOT.values())
    assert set(CANNOT) <= set(AGENTS)
    text = reference.interop_page()
    [row] = [line for line in text.splitlines() if line.startswith("| TLS | ") and "§26" in line]
    assert row.split(" | ")[1] == "–"
    assert "| sipp | TLS, SRTP, opportunistic SRTP | Debian builds it without |" in text


def test_no_mark_is_on_a_test_that_drives_no_program() -> None:
    """Its file imports what drives that program."""
    assert DRIVERS.keys() == AGENTS.keys()
    for item in seen(reference.ROOT / "tests" / "calls"):
        text = (reference.ROOT / item.test.partition("::")[0]).read_text()
        assert any(f"from tests.support.{name} import" in text for name in DRIVERS[item.agent]), item
