"""One call as control drives it: what it is, how far it has come, and how it ended. Values and state, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from control.call_table import State
from control.dialling import Way
from control.early_answers import EarlyAnswers
from control.hold import Holding
from control.registry.types import Route
from control.routing import Found
from control.toll import Destination, Ticket
from edge.events import CallKey, CallOffered
from edge.identity import Identity
from edge.reasons import Reason
from media.messages import AgentSpec, LegStatistics, RecordingOrder

__all__ = ["Call", "Direction", "End", "Outgoing", "Timer"]

Direction = Literal["inbound", "outbound"]


class Timer(Protocol):
    """What was set to happen later."""

    def cancel(self) -> None:
        """It does not, any more."""


@dataclass(frozen=True, slots=True)
class End:
    """Why a call ended: ``by`` and ``reason`` as in its record, ``detail`` in words, ``reasons`` the phone's own."""

    by: str
    reason: str
    sip_status: int | None = None
    detail: str = ""
    reasons: tuple[Reason, ...] = ()


@dataclass(slots=True)
class Outgoing:
    """What a call that the edge places has beside the others. Times in seconds.

    ``early`` is the SDP of provisional responses; ``carrier_call`` what the carrier's REST calls it; ``recorded`` the
    call's own wish to be recorded or not; ``invited`` when its INVITE went out, until that has had a 180 or 183.
    """

    way: Way
    destination: Destination
    ticket: Ticket
    ring_timeout_s: float
    max_duration_s: float
    hidden: bool = False
    recorded: bool | None = None
    early: EarlyAnswers = field(default_factory=EarlyAnswers)
    ringing: bool = False
    invited: float | None = None
    ring_timer: Timer | None = None
    carrier_call: str = ""


@dataclass(slots=True)
class Call:
    """``id`` is the record's, ``key`` the engine's; ``started`` is monotonic [s].

    ``dialed`` is what an INVITE that came in asked for, as it was written; ``from_number`` is so, too, until the number
    is found. ``offer`` is the peer's SDP to be answered (None: ours is the offer), ``sdp`` our own. ``hops`` counts how
    often the call has been here before. ``pressing`` are digits that still go out by INFO; ``goodbye`` the headers the
    agent wants on the BYE, or the phone sent on its own. ``fallen``: why the number's fallback has it, if it has.
    ``scripts``: how many lists of instructions have come for it; ``events``: how many have been written of it. ``seed``
    is what our description is made of; ``described``: it has been in a provisional response.
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
    remote_host: str = ""
    takes_refer: bool = False
    max_forwards: int = 70
    hops: int = 0
    state: State = State.LOOKING_UP
    route: Route | None = None
    spec: AgentSpec | None = None
    account_id: str = ""
    to_number: str = ""
    found: Found | None = None
    outgoing: Outgoing | None = None
    port: int | None = None
    sdp: bytes = b""
    end: End | None = None
    confirmed_body: bytes | None = None
    statistics: LegStatistics | None = None
    length_timer: Timer | None = None
    recording: RecordingOrder | None = None
    counted: tuple[tuple[str, str], ...] = ()
    holding: Holding = field(default_factory=Holding)
    carrier_ids: dict[str, str] = field(default_factory=dict)
    who: Identity | None = None
    takes_info: bool = False
    fallen: str | None = None
    scripts: int = 0
    events: int = 0
    pressing: str = ""
    goodbye: dict[str, str] = field(default_factory=dict)
    seed: bytes = field(default=b"", repr=False)
    described: bool = False

    @property
    def verstat(self) -> str | None:
        """The carrier's word on the caller's number, from outside the INVITE."""
        return None if self.found is None else self.found.verstat

    @property
    def hidden(self) -> bool:
        """The caller wishes that nobody be told who it is (RFC 3323)."""
        return self.who is not None and self.who.hidden

    @classmethod
    def of(cls, offered: CallOffered, id: str, now: float) -> Call:
        """One that has just been offered."""
        return cls(
            id=id,
            key=offered.key,
            trunk=offered.trunk,
            started=now,
            from_number=offered.caller,
            dialed=offered.dialed,
            offer=offered.offer,
            sip_call_id=offered.call_id,
            caller_name=offered.caller_name,
            headers=offered.headers,
            remote_host=str(offered.flow.remote),
            takes_refer=offered.takes_refer,
            max_forwards=offered.max_forwards,
            who=offered.who,
            takes_info=offered.takes_info,
        )

    @property
    def peer(self) -> str:
        """Who is on the phone: the record's ``ended_by`` when it hangs up."""
        return "caller" if self.direction == "inbound" else "callee"
