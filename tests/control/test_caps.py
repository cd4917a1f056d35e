"""How many calls are up, and where the next one is too many."""

from __future__ import annotations

from typing import Any

import pytest

from config.settings import Limits
from control.call import Call
from control.caps import Caps
from edge.events import CallEnded, CallKey, Cause, Party
from tests.control.inward import ACCOUNT, CALLER, DID, world


@pytest.mark.parametrize(
    ("cap", "status"),
    [
        ("calls", 503),
        ("calls_per_trunk", 486),
        ("calls_per_account", 486),
        ("calls_per_did", 486),
        ("calls_per_caller", 486),
    ],
)
async def test_a_tenants_cap_is_486_and_only_a_full_edge_503(cap: str, status: int) -> None:
    async with world(limits=Limits(**{cap: 1})) as w:
        await w.establish("k1")
        await w.offer("k2")
        assert w.phone.sent[-1] == ("refuse", "k2", status)
        w.calls.on_event(CallEnded(CallKey("k1"), Party.REMOTE, Cause.BYE))
        await w.settle()
        await w.offer("k3")
        assert w.phone.sent[-1] == ("ring", "k3")


def a_call(**fields: Any) -> Call:
    return Call(**{"id": "call", "key": CallKey("k"), "trunk": "lab", "started": 0.0, "from_number": CALLER, **fields})


def test_a_call_that_has_left_makes_room_for_the_next() -> None:
    """And leaving twice makes no more room than once."""
    caps = Caps(Limits(calls=1))
    first, second = a_call(), a_call()
    assert caps.before_look_up("lab") is None
    assert caps.enter(first) is None
    assert caps.before_look_up("lab") == "edge_full"
    assert caps.enter(second) == "edge_full"
    caps.leave(second)
    assert caps.enter(second) == "edge_full"
    caps.leave(first)
    caps.leave(first)
    assert caps.enter(second) is None
    assert caps.enter(first) == "edge_full"


def test_a_call_that_goes_out_counts_for_no_number_and_no_caller() -> None:
    """The number it shows is our own."""
    caps = Caps(Limits(calls_per_did=1, calls_per_caller=1))
    assert [caps.enter(a_call(direction="outbound", to_number=DID)) for _ in range(2)] == [None, None]
    assert [caps.enter(a_call(to_number=DID)) for _ in range(2)] == [None, "number_full"]


def test_a_fallback_counts_beyond_the_accounts_cap_and_once() -> None:
    """What the call counts for already is not counted again."""
    caps = Caps(Limits(calls=2, calls_per_account=1, fallback_calls_per_account=1))
    first, second = a_call(account_id=ACCOUNT), a_call(account_id=ACCOUNT)
    assert caps.enter(first) is None
    assert caps.enter(second) == "account_full"
    assert caps.enter_fallback(second) is None
    third = a_call(account_id=ACCOUNT)
    assert caps.enter_fallback(third) == "edge_full"
    assert caps.enter_fallback(first) == "fallback_full"
    caps.leave(first)
    assert caps.enter_fallback(third) == "fallback_full"


def test_a_call_whose_agent_fails_falls_back_in_the_place_it_has() -> None:
    """In a full edge too, and it leaves one place when it goes."""
    caps = Caps(Limits(calls=1))
    first, second = a_call(account_id=ACCOUNT), a_call(account_id=ACCOUNT)
    assert caps.enter(first) is None
    assert caps.enter_fallback(first) is None
    caps.leave(first)
    assert [caps.enter(second), caps.enter(first)] == [None, "edge_full"]
