"""Records of calls, as they are shown."""

from __future__ import annotations

from control.registry import types as rows
from control.resources.calls import call_detail

ID = "0198c0de-0000-4000-8000-00000000abcd"


def test_a_call_without_an_answer_has_no_durations() -> None:
    """None, not zero."""
    call = rows.Call(
        ID, ID, None, None, "inbound", "lab", "+12025550199", "+14155550100", "failed", 0.0, sip_status=404
    )
    shown = call_detail(call).model_dump()
    assert (shown["ring_s"], shown["duration_s"], shown["answered_at"], shown["sip_status"]) == (None, None, None, 404)


def test_spans_are_shown_to_the_millisecond() -> None:
    """Differences of a monotonic clock come with the noise of binary fractions."""
    call = rows.Call(
        ID, ID, None, None, "inbound", "lab", "+12025550199", "+14155550100", "completed", 0.0,
        ring_s=0.005000000000109139, duration_s=15.055999999999585, timeline=((3.17699999999968, "digit: 1"),),
    )  # fmt: skip
    shown = call_detail(call).model_dump()
    assert (shown["ring_s"], shown["duration_s"]) == (0.005, 15.056)
    assert shown["timeline"] == [{"at_s": 3.177, "event": "digit: 1"}]
