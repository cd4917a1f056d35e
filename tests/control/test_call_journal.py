"""What is written of a call."""

from __future__ import annotations

import logging

import pytest

from control.call import Call, End
from control.call_journal import CallJournal
from control.registry.types import CallEvent, Number, Route
from edge.events import CallKey
from edge.reasons import Reason
from media.messages import LegStatistics


class Log:
    """The journal, in memory."""

    def __init__(self) -> None:
        self.events: list[CallEvent] = []

    def append(self, event: CallEvent) -> None:
        self.events.append(event)


def journal_of(log: Log) -> CallJournal:
    """It is 3 s after the offer."""
    return CallJournal(log, now=lambda: 103.0, wall=lambda: 1_700_000_003.0)


def a_call() -> Call:
    number = Number("number-1", "account-1", "+15551230001", "", "sip", "lab", "active", 0.0, 0.0, agent_id="agent-1")
    return Call(
        id="call",
        key=CallKey("k"),
        trunk="lab",
        started=100.0,
        from_number="+12025550123",
        to_number=number.phone_number,
        account_id=number.account_id,
        route=Route(number, None),
    )


def test_every_event_says_when_it_was_on_both_clocks() -> None:
    """Seconds since the epoch, and since the offer."""
    log, call = Log(), a_call()
    journal_of(log).note(call, "held")
    journal_of(log).note(call, "digit", "1")
    assert [(event.call_id, event.kind, event.at, event.offset_s, event.data) for event in log.events] == [
        ("call", "held", 1_700_000_003.0, 3.0, {}),
        ("call", "digit", 1_700_000_003.0, 3.0, {"note": "1"}),
    ]
    assert [event.id for event in log.events] == ["call/1", "call/2"]


def test_a_record_begins_with_whom_the_call_is_for_and_ends_with_its_figures(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And the log has one line of it."""
    log, call = Log(), a_call()
    call.statistics = LegStatistics(packets_sent=7)
    journal = journal_of(log)
    assert call.route is not None
    journal.offered(call, call.route)
    with caplog.at_level(logging.INFO, "truedy.calls"):
        journal.ended(call, End("caller", "caller_hung_up", None, "", (Reason("Q.850", 16, "Normal"),)))
    offered, ended = log.events
    assert {"account_id", "number_id", "agent_id"} <= offered.data.keys()
    assert offered.data["agent_id"] == "agent-1"
    assert ended.data["statistics"]["packets_sent"] == 7
    assert ended.data["reasons"] == [{"protocol": "Q.850", "cause": 16, "text": "Normal"}]
    (line,) = caplog.records
    assert (line.__dict__["reason"], line.__dict__["seconds"]) == ("caller_hung_up", 3.0)


def test_a_call_for_a_number_nobody_has_is_on_the_log_alone() -> None:
    """It has no record to end."""
    log, call = Log(), a_call()
    call.route = None
    journal_of(log).ended(call, End("edge", "unknown_number", 404))
    assert log.events == []
