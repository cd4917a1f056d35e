"""How events become a record, each pair of state and event."""

from __future__ import annotations

from dataclasses import replace

import pytest

from control.registry.records import check, crash, crash_entry, fold, timeline_entry
from control.registry.types import Call, CallEvent

OFFER = {"account_id": "a1", "direction": "inbound", "trunk": "lab", "from_number": "+1", "to_number": "+2"}
END = {"ended_by": "agent", "end_reason": "agent_hung_up", "note": "by the agent"}
EVENTS = {
    "offered": CallEvent(id="1", kind="offered", call_id="c", at=10.0, data=OFFER),
    "answered": CallEvent(id="2", kind="answered", call_id="c", at=12.0, offset_s=2.0),
    "ended": CallEvent(id="3", kind="ended", call_id="c", at=20.0, offset_s=10.0, data=END),
    "digit": CallEvent(id="4", kind="digit", call_id="c", at=15.0, offset_s=5.0, data={"note": "#"}),
}
RINGING = Call("c", "a1", None, None, "inbound", "lab", "+1", "+2", "ringing", 10.0)
TALKING = replace(RINGING, status="in_progress", answered_at=12.0, ring_s=2.0)
OVER = replace(TALKING, status="completed", ended_at=20.0, duration_s=8.0, ended_by="agent", end_reason="agent_hung_up")
MISSED = replace(RINGING, status="failed", ended_at=20.0, ended_by="agent", end_reason="agent_hung_up")


@pytest.mark.parametrize(
    ("before", "kind", "after"),
    [
        (None, "offered", RINGING),
        (None, "answered", None),
        (None, "ended", None),
        (None, "digit", None),
        (RINGING, "offered", RINGING),
        (RINGING, "answered", TALKING),
        (RINGING, "ended", MISSED),
        (RINGING, "digit", RINGING),
        (TALKING, "offered", TALKING),
        (TALKING, "answered", TALKING),
        (TALKING, "ended", OVER),
        (TALKING, "digit", TALKING),
        (OVER, "offered", OVER),
        (OVER, "answered", OVER),
        (OVER, "ended", OVER),
        (OVER, "digit", OVER),
    ],
)
def test_every_event_in_every_state(before: Call | None, kind: str, after: Call | None) -> None:
    assert fold(before, EVENTS[kind]) == after


def test_a_crash_ends_a_call_when_its_process_was_last_heard_of() -> None:
    ended = crash(TALKING, 40.0)
    assert (ended.status, ended.end_reason, ended.ended_at, ended.duration_s) == ("failed", "crash", 40.0, 28.0)
    assert crash_entry(ended) == (30.0, "ended: crash")
    assert crash(RINGING, 40.0).duration_s is None


def test_the_timeline_says_what_happened() -> None:
    lines = [timeline_entry(event) for event in EVENTS.values()]
    assert lines == [(0.0, "offered"), (2.0, "answered"), (10.0, "ended: by the agent"), (5.0, "digit: #")]


@pytest.mark.parametrize(
    "event",
    [
        CallEvent(id="1", kind="offered", call_id="c", at=1.0, data={}),
        CallEvent(id="1", kind="ended", call_id="c", at=1.0, data={"ended_by": "agent"}),
        CallEvent(id="1", kind="ended", call_id="c", at=1.0, data=END | {"sip_status": "486"}),
        CallEvent(id="1", kind="digit", at=1.0),
    ],
)
def test_what_makes_no_record_is_refused(event: CallEvent) -> None:
    with pytest.raises(ValueError, match=event.kind):
        check(event)


def test_what_makes_a_record_passes() -> None:
    for event in (*EVENTS.values(), CallEvent(id="5", kind="opened", at=1.0), CallEvent(id="6", kind="alive", at=1.0)):
        check(event)


def test_what_is_told_of_a_recording_adds_up_and_counts_after_the_end_too() -> None:
    """A recorder may take longer than its call."""
    data = {"account_id": "a", "direction": "inbound", "trunk": "t", "from_number": "+1", "to_number": "+2"}
    call = fold(None, CallEvent(id="1", kind="offered", at=1.0, call_id="c", data=data))
    begun = {"status": "recording", "format": "flac", "note": "recording"}
    call = fold(call, CallEvent(id="2", kind="recording", at=2.0, call_id="c", data=begun))
    end = {"ended_by": "caller", "end_reason": "caller_hung_up"}
    call = fold(call, CallEvent(id="3", kind="ended", at=3.0, call_id="c", data=end))
    told = {"status": "completed", "seconds": 1.5, "gaps_ms": 0, "bytes": 100, "problem": ""}
    call = fold(call, CallEvent(id="4", kind="recording", at=4.0, call_id="c", data=told))
    assert call is not None
    assert call.recording == {**told, "format": "flac"}
    assert call.end_reason == "caller_hung_up"


def test_a_recording_of_a_call_that_nobody_knows_is_no_record() -> None:
    event = CallEvent(id="1", kind="recording", at=1.0, call_id="c", data={"status": "recording"})
    assert fold(None, event) is None


def test_a_recording_s_figures_are_checked() -> None:
    with pytest.raises(ValueError, match="seconds"):
        check(CallEvent(id="1", kind="recording", at=1.0, call_id="c", data={"seconds": "long"}))
