"""What is written of a call: its events, for its record and its timeline, and the log's line at its end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from control.call import Call, End
from control.identity import recorded
from control.registry.types import CallEvent, Route
from control.surroundings import CallLog
from edge.counters import printable
from media.messages import Command, LegStatistics, Play, SendDigits, SetMark

__all__ = ["CallJournal", "end_data", "offer_data"]

log = logging.getLogger("truedy.calls")


class CallJournal:
    """Writes to the journal. Clocks: ``now`` monotonic [s], ``wall`` UTC [s]."""

    def __init__(
        self,
        journal: CallLog,
        *,
        now: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._journal = journal
        self._now = now
        self._wall = wall

    def write(self, call: Call, kind: str, data: Mapping[str, Any]) -> None:
        """One event, at this moment. A call's events are numbered: ids that lie together cost an index the least."""
        call.events += 1
        id, offset_s = f"{call.id}/{call.events}", self._now() - call.started
        self._journal.append(
            CallEvent(id=id, kind=kind, at=self._wall(), call_id=call.id, offset_s=offset_s, data=data)
        )

    def note(self, call: Call, kind: str, note: str = "") -> None:
        """A line of its timeline."""
        self.write(call, kind, {"note": note} if note else {})

    def done(self, call: Call, command: Command) -> None:
        """A line for what media was told to do; what was pressed is no business of a log's."""
        match command:
            case SendDigits(digits=digits):
                self.note(call, "digits_sent", str(len(digits) - digits.lower().count("w")))
            case Play(recording=name):
                self.note(call, "played", name)
            case SetMark(name=name):
                self.note(call, "mark", printable(name))
            case _:
                self.note(call, "cleared")

    def offered(self, call: Call, route: Route) -> None:
        """Its record begins."""
        self.write(call, "offered", offer_data(call, route.number.id, route.number.agent_id))

    def ended(self, call: Call, end: End) -> None:
        """Its record, if it has one, ends."""
        if call.route is not None:
            self.write(call, "ended", end_data(end, call.statistics))
        log.info(
            "call ended",
            extra={
                "call": call.id,
                "sip_call_id": printable(call.sip_call_id),
                "trunk": call.trunk,
                "to": call.to_number or " ".join(printable(raw) for raw in call.dialed),
                "from": printable(call.from_number),
                "by": end.by,
                "reason": end.reason,
                "sip_status": end.sip_status,
                "detail": printable(end.detail),
                "seconds": round(self._now() - call.started, 3),
            },
        )


def offer_data(call: Call, number_id: str | None, agent_id: str | None = None) -> dict[str, Any]:
    """Of the event that a record begins with."""
    return {
        "account_id": call.account_id,
        "direction": call.direction,
        "trunk": call.trunk,
        "from_number": call.from_number,
        "to_number": call.to_number,
        "number_id": number_id,
        "agent_id": agent_id,
        "sip_call_id": call.sip_call_id,
        "identity": recorded(call.who, call.verstat),
    }


def end_data(end: End, statistics: LegStatistics | None) -> dict[str, Any]:
    """Of the event that a record ends with."""
    return {
        "ended_by": end.by,
        "end_reason": end.reason,
        "sip_status": end.sip_status,
        "statistics": {} if statistics is None else msgspec.to_builtins(statistics),
        "reasons": [{"protocol": each.protocol, "cause": each.cause, "text": each.text} for each in end.reasons],
        "note": end.detail,
    }
