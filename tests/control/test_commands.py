"""What control tells the SIP engine to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from control.commands import Commands
from edge.events import CallKey, Refusal

KEY = CallKey("k")
HEADERS = (("X-Case", "7"),)
REFUSAL = Refusal(486, "busy")


class Engine:
    """Notes what it is told to do."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def verb(*arguments: Any, now: float, **more: Any) -> CallKey:
            self.told.append((name, now, *arguments, *more.values()))
            return KEY

        return verb


class Shell:
    def run(self, command: Callable[[float], None]) -> None:
        command(7.5)


@pytest.mark.parametrize(
    ("verb", "arguments", "told"),
    [
        ("ring", (KEY, HEADERS), (KEY, HEADERS)),
        ("progress", (KEY, 183, b"sdp", HEADERS), (KEY, 183, b"sdp", HEADERS)),
        ("answer", (KEY, b"sdp", HEADERS), (KEY, b"sdp", HEADERS)),
        ("refuse", (KEY, REFUSAL), (KEY, REFUSAL)),
        ("hang_up", (KEY, "reason", HEADERS), (KEY, "reason", HEADERS)),
        ("press", (KEY, "5", 160), (KEY, "5", 160)),
        ("refer", (KEY, "sip:a@b"), (KEY, "sip:a@b")),
        ("accept_offer", (KEY, b"sdp"), (KEY, b"sdp")),
        ("refuse_offer", (KEY, REFUSAL), (KEY, REFUSAL)),
        ("reoffer", (KEY, b"sdp"), (KEY, b"sdp")),
    ],
)
def test_the_engine_is_told_with_the_time(verb: str, arguments: tuple[Any, ...], told: tuple[Any, ...]) -> None:
    engine = Engine()
    getattr(Commands(engine, Shell()), verb)(*arguments)  # type: ignore[arg-type]
    assert engine.told == [(verb, 7.5, *told)]


def test_whoever_places_a_call_hears_its_key_before_anything_else_comes_of_it() -> None:
    began: list[CallKey] = []
    call: Any = object()
    Commands(Engine(), Shell()).invite(call, began.append)  # type: ignore[arg-type]
    assert began == [KEY]
