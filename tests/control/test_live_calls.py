"""The calls that are up, as operations ask of them."""

from __future__ import annotations

from control.hold import HoldOutcome
from control.live_calls import LiveCalls, NoLiveCalls
from media.messages import Clear

CALLS: LiveCalls = NoLiveCalls()


async def test_a_process_that_carries_no_calls_says_so_whatever_is_asked() -> None:
    """Each in the way of one that has no such call."""
    assert await CALLS.live("account", "call") is None
    assert not await CALLS.hang_up("account", "call", "operator")
    assert await CALLS.command("account", Clear(call="call")) is None
    assert await CALLS.perform("account", "call", ()) is None
    assert await CALLS.hold("account", "call") is HoldOutcome.NO_CALL
    assert await CALLS.resume("account", "call") is HoldOutcome.NO_CALL
