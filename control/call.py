"""One call as control drives it: what it is, how far it has come, and how it ended. Values and state, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from control.call_table import State
from control.hold import Holding
from control.registry.types import Route
from control.routing import Found, caller_number
from edge.events import CallKey, CallOffered
from media.messages import AgentSpec, LegStatistics

__all__ = ["Call", "Direction", "End", "Timer"]

Direction = Literal["inbound", "outbound"]


class Timer(Protocol):
    """What was set to happen later."""

    def cancel(self) -> None:
        """It does not, any more."""


@dataclass(frozen=True, slots=True)
class End:
    """Why a call ended: ``by`` and ``reason`` as in its record, ``detail`` in words."""

    by: str
    reason: str
    sip_status: int | None = None
    detail: str = ""


@dataclass(slots=True)
class Call:
    """``id`` is the record's, ``key`` the engine's; ``started`` is monotonic [s].

    ``dialed`` is what an INVITE that came in asked for, as it was written. ``offer`` is the peer's SDP to be answered
    (None: ours is the offer), ``sdp`` our own.
    """

    id: str
    key: CallKey
    trunk: str
    started: float
    from_number: str
    direction: Direction = "inbound"
    dialed: tuple[str, ...] = ()
    offer: bytes | None = None
    sip_call_id: str = ""
    caller_name: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    state: State = State.LOOKING_UP
    route: Route | None = None
    spec: AgentSpec | None = None
    account_id: str = ""
    to_number: str = ""
    found: Found | None = None
    port: int | None = None
    sdp: bytes = b""
    end: End | None = None
    confirmed_body: bytes | None = None
    statistics: LegStatistics | None = None
    length_timer: Timer | None = None
    counted: tuple[tuple[str, str], ...] = ()
    holding: Holding = field(default_factory=Holding)

    @classmethod
    def of(cls, offered: CallOffered, id: str, now: float) -> Call:
        """One that has just been offered."""
        return cls(
            id=id,
            key=offered.key,
            trunk=offered.trunk,
            started=now,
            from_number=caller_number(offered.caller),
            dialed=offered.dialed,
            offer=offered.offer,
            sip_call_id=offered.call_id,
            caller_name=offered.caller_name,
            headers=offered.headers,
        )
