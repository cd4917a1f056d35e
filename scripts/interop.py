"""Which user agent is seen to do what with the edge: read off the marks on the whole-call tests.

A test that drives a real user agent says so, in literals alone, for the tests are read and not imported:

    @pytest.mark.interop(agent="pjsua2", feature=("hold", "PRACK"))

A cell of the page is a test that the suite runs; a dash is what the program cannot do, and why is in CANNOT; an empty
one is a pair that nobody has seen yet.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["AGENTS", "CANNOT", "FEATURES", "BadMark", "Seen", "seen"]

AGENTS: Final[Mapping[str, str]] = {
    "sipp": "the load generator, by scenarios that fail on anything unexpected",
    "baresip": "a softphone on libre and librem",
    "linphone": "a softphone on belle-sip and mediastreamer2",
    "pjsua2": "a softphone on PJSIP",
    "kamailio": "a proxy that record-routes, between a softphone and the edge; a registrar that sends it calls",
}
"""The user agents, in the order of the columns. To add one, add it here."""

FEATURES: Final[Mapping[str, str]] = {
    "UDP": "RFC 3261 §18",
    "TCP": "RFC 3261 §18",
    "TLS": "RFC 3261 §26.2.1",
    "IPv6": "signalling and media",
    "registration": "RFC 3261 §10: the edge registers",
    "digest": "RFC 3261 §22: the edge challenges, or is challenged",
    "PCMU": "RFC 3551",
    "PCMA": "RFC 3551",
    "G.722": "RFC 3551, wideband to the agent",
    "Opus": "RFC 7587, wideband to the agent",
    "SRTP": "RFC 4568: keys in SDP, profile `RTP/SAVP`",
    "opportunistic SRTP": "RFC 8643: keys in an offer of `RTP/AVP`",
    "comfort noise": "RFC 3389",
    "rtcp-mux": "RFC 5761",
    "digits by RFC 4733": "telephone-event",
    "digits by INFO": "application/dtmf-relay",
    "digits in band": "tones in the audio",
    "caller hangs up": "BYE in",
    "edge hangs up": "BYE out, after the agent's last word",
    "CANCEL": "RFC 3261 §9",
    "held by the phone": "RFC 3264 §8.4: sendonly, inactive or `c=0.0.0.0`",
    "held by the edge": "RFC 3264 §8.4",
    "re-INVITE": "RFC 3261 §14",
    "UPDATE": "RFC 3311",
    "PRACK": "RFC 3262",
    "early media": "183 with SDP, heard before the answer",
    "delayed offer": "RFC 3261 §13.2.1: the offer in the 200, the answer in the ACK",
    "session timer": "RFC 4028: a call lives through its refreshes",
    "REFER": "RFC 3515",
    "calls out": "the edge sends the INVITE",
}
"""What is seen, in the order of the rows, and what it means. To add one, add it here."""

CANNOT: Final[Mapping[str, Mapping[str, str]]] = {
    "sipp": {
        "TLS": "Debian builds it without",
        "G.722": "it replays audio, it has no codec of its own",
        "Opus": "it replays audio, it has no codec of its own",
        "SRTP": "Debian builds it without",
        "opportunistic SRTP": "Debian builds it without",
        "rtcp-mux": "it sends no RTCP",
    },
    "baresip": {
        "registration": "it is no registrar",
        "comfort noise": "1.0 sends its silence as it is",
        "digits by INFO": "1.0 knows telephone-event alone",
        "UPDATE": "its libre 1.1 does not know it",
        "PRACK": "its libre 1.1 does not know it",
        "delayed offer": "it has an offer in every INVITE",
        "session timer": "its libre 1.1 does not know it",
    },
    "linphone": {"registration": "it is no registrar"},
    "pjsua2": {
        "IPv6": "PyPI has it without",
        "registration": "it is no registrar",
        "Opus": "PyPI has it without",
        "comfort noise": "it leaves its silence out without a word",
    },
    "kamailio": dict.fromkeys(
        (
            "PCMU",
            "PCMA",
            "G.722",
            "Opus",
            "SRTP",
            "opportunistic SRTP",
            "comfort noise",
            "rtcp-mux",
            "digits by RFC 4733",
            "digits in band",
        ),
        "media flows past it",
    ),
}
"""What a user agent has no way to do, as Debian 12 or PyPI has it, and why. A test that shows it is an error."""

_KEYS: Final = {"agent": AGENTS, "feature": FEATURES}


class BadMark(ValueError):
    """A mark that names no user agent or feature of ours, or what CANNOT has, or is not written in literals."""


@dataclass(frozen=True, slots=True)
class Seen:
    """``agent`` does ``feature``: ``test`` (``tests/calls/test_x.py::test_y``) shows it."""

    agent: str
    feature: str
    test: str


def seen(folder: Path) -> list[Seen]:
    """Every mark on the tests of ``folder``, each of its user agents with each of its features. Raises BadMark."""
    found: list[Seen] = []
    for file in sorted(folder.rglob("test_*.py")):
        where = f"{folder.parent.name}/{folder.name}/{file.relative_to(folder)}"
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found += _of_test(node, f"{where}::{node.name}")
    return found


def _of_test(node: ast.FunctionDef | ast.AsyncFunctionDef, test: str) -> Iterator[Seen]:
    for mark in node.decorator_list:
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.interop":
            given = _arguments(mark, test)
            for agent, feature in itertools.product(given["agent"], given["feature"]):
                if feature in CANNOT.get(agent, {}):
                    raise BadMark(f"{test}: {agent} cannot do {feature}, says CANNOT in scripts/interop.py")
                yield Seen(agent, feature, test)


def _arguments(mark: ast.Call, test: str) -> dict[str, tuple[str, ...]]:
    given = {keyword.arg or "**": tuple(_words(keyword.value, test)) for keyword in mark.keywords}
    if mark.args or set(given) != set(_KEYS):
        raise BadMark(f"{test}: interop takes agent=… and feature=…")
    for key, known in _KEYS.items():
        unknown = [word for word in given[key] if word not in known]
        if unknown or not given[key]:
            raise BadMark(f"{test}: {key} {', '.join(unknown)!r} is not in scripts/interop.py")
    return given


def _words(value: ast.expr, test: str) -> Iterable[str]:
    try:
        words = ast.literal_eval(value)
    except ValueError:
        raise BadMark(f"{test}: interop is read, not run: write its values out") from None
    return (words,) if isinstance(words, str) else words
