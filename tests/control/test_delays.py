"""What calls wait for, counted."""

from __future__ import annotations

from control.delays import CallDelays
from control.metric_families import FAMILIES
from control.metrics import Readings


def counts(readings: Readings) -> dict[tuple[str, ...], float]:
    """Of each histogram, by its key and its label's value."""
    return {
        (key.removesuffix("_count"), *(value for _, value in labels)): count
        for key, series in readings.items()
        if key.endswith("_count")
        for labels, count in series.items()
    }


def test_each_wait_is_counted_where_it_belongs() -> None:
    """By direction, by nothing, by protocol; a protocol has series once an agent of it has been reached."""
    delays = CallDelays()
    ringing, answer, agent = "call_ringing_delay_seconds", "call_answer_delay_seconds", "agent_connect_seconds"
    assert counts(delays.readings()) == {(ringing, "inbound"): 0, (ringing, "outbound"): 0, (answer,): 0}
    delays.rang("inbound", 0.004)
    delays.rang("outbound", 3.0)
    delays.rang("outbound", 4.0)
    delays.answered(1.5)
    delays.agent_connected("python", 0.02)
    delays.agent_connected("python", 0.03)
    delays.agent_connected("webrtc", 0.5)
    assert counts(delays.readings()) == {
        (ringing, "inbound"): 1,
        (ringing, "outbound"): 2,
        (answer,): 1,
        (agent, "python"): 2,
        (agent, "webrtc"): 1,
    }
    assert delays.readings()["call_ringing_delay_seconds_sum"][("direction", "outbound"),] == 7.0


def test_all_that_is_read_is_shown() -> None:
    delays = CallDelays()
    delays.agent_connected("python", 0.02)
    shown = {key: family for family in FAMILIES.values() for key in family.series}
    for key, series in delays.readings().items():
        for labels in series:
            assert {name for name, _ in labels} - {"le"} == set(shown[key].labels)
