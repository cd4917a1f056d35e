"""Calls: their records, and what is asked of those that are up."""

from __future__ import annotations

import pytest

from control.errors import CallNotFound, CallNotLive, CallNotReady, ResourceNotFound
from control.hold import HoldOutcome
from control.resources.call_control import SendDigits
from media.messages import Failed
from tests.support.desk import Desk, live_one, offered

CALL = "0198c0de-0000-4000-8000-000000000011"


async def test_hanging_up_tells_ended_from_unknown(desk: Desk) -> None:
    """And says who did it."""
    by = desk.principal("acme")
    with pytest.raises(CallNotFound):
        await desk.operations.hang_up(by, "x", ended_by="operator")
    with pytest.raises(ResourceNotFound):
        await desk.operations.hang_up(by, CALL, ended_by="operator")
    desk.calls.up[CALL] = live_one(CALL, by.account)
    await desk.operations.hang_up(by, CALL, ended_by="agent")
    assert desk.calls.ended == [(CALL, "agent")]
    await desk.registry.apply_events([offered(CALL, by.account)])
    with pytest.raises(CallNotLive) as ended:
        await desk.operations.hang_up(by, CALL, ended_by="agent")
    assert ended.value.call_status == "ringing"


async def test_a_call_too_young_for_a_record_is_shown_as_it_stands(desk: Desk) -> None:
    """To its own account."""
    by = desk.principal("acme")
    desk.calls.up[CALL] = live_one(CALL, by.account, state="established", age_s=5.0)
    shown = await desk.operations.call(by, CALL)
    assert (shown.status, shown.timeline) == ("in_progress", [])
    assert shown.started_at.timestamp() == desk.wall() - 5.0
    with pytest.raises(ResourceNotFound):
        await desk.operations.call(desk.principal("globex"), CALL)


async def test_what_a_live_call_refuses_is_told_with_its_reason(desk: Desk) -> None:
    """Media's, or the phone's."""
    by = desk.principal("acme")
    desk.calls.up[CALL] = live_one(CALL, by.account)
    desk.calls.result = Failed(code="not_established", message="the call is ringing")
    with pytest.raises(CallNotReady):
        await desk.operations.send_digits(by, CALL, SendDigits.of(digits="1"))
    desk.calls.outcome = HoldOutcome.BUSY
    with pytest.raises(CallNotReady):
        await desk.operations.hold(by, CALL)
