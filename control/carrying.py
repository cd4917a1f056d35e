"""What the control API needs of the process that carries calls, which is its own or another."""

from __future__ import annotations

from dataclasses import dataclass

from control.announcements import Announcer
from control.live_calls import LiveCalls
from control.outgoing import Outgoing
from control.providers import Connections
from control.readiness import Health
from control.recordings import CallRecordings

__all__ = ["Carrying"]


@dataclass(frozen=True, slots=True)
class Carrying:
    """Each of these is the thing itself, or the way to it (:mod:`control.apart.asking`)."""

    calls: LiveCalls
    outgoing: Outgoing
    recordings: CallRecordings
    announcer: Announcer
    connections: Connections
    health: Health
