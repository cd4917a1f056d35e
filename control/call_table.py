"""A call's machine and its words: every state, every input, every way to refuse a call and every way to end one.

Values only; :mod:`control.calls` carries the actions out.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from control.outcomes import OUTCOMES
from edge.events import Refusal

__all__ = ["END_REASONS", "MEDIA_REFUSALS", "REFUSALS", "TRANSITIONS", "Action", "Input", "State"]

# --- words ------------------------------------------------------------------------------------

REFUSALS: Final[Mapping[str, Refusal]] = MappingProxyType(
    {
        "unknown_number": Refusal(404, "the dialed number is not on this trunk"),
        "unassigned_number": Refusal(404, "the dialed number has no agent"),
        "edge_full": Refusal(503, "the edge is full", retry_after_s=5),
        "no_media_port": Refusal(503, "no RTP port is free", retry_after_s=5),
        "registry_unavailable": Refusal(503, "the registry does not answer", retry_after_s=5),
        "trunk_full": Refusal(486, "the trunk's cap on calls is reached"),
        "account_full": Refusal(486, "the account's cap on calls is reached"),
        "number_full": Refusal(486, "the number's cap on calls is reached"),
        "caller_full": Refusal(486, "the caller's cap on calls is reached"),
        "no_common_codec": Refusal(488, "no codec in common"),
        "no_common_crypto": Refusal(488, "encrypted media (SRTP) does not match what the trunk is set to"),
        "bad_sdp": Refusal(488, "the session description cannot be used"),
        "media_address_refused": Refusal(488, "the media address is not allowed on this trunk"),
        "agent_unavailable": Refusal(480, "the agent did not connect in time"),
        "agent_refused": Refusal(480, "the agent refused the connection"),
        "agent_forbidden": Refusal(480, "the agent's address is not public"),
        "agent_left": Refusal(480, "the agent ended the call before the answer"),
        "bad_agent": Refusal(480, "the agent's settings cannot be used"),
        "operator_hung_up": Refusal(480, "ended by the operator"),
        "media_unavailable": Refusal(503, "media does not answer", retry_after_s=5),
        "loop": Refusal(482, "the call has come through this edge too often"),
        "media_worker_died": Refusal(503, "the process that carried the call's media died", retry_after_s=5),
        "internal_error": Refusal(500, "an error of the edge"),
    }
)
"""Every way control refuses a call: the reason's name → the final response. 503 steers a carrier's
fail-over, so it is sent only where another edge would do better."""

MEDIA_REFUSALS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "no_common_codec": "no_common_codec",
        "no_common_crypto": "no_common_crypto",
        "bad_sdp": "bad_sdp",
        "media_address_refused": "media_address_refused",
        "port_unavailable": "no_media_port",
    }
)
"""The code of media's :class:`~media.messages.Failed` → why the call is refused; any other: ``media_unavailable``."""

END_REASONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "caller_hung_up": "the caller sent BYE",
        "caller_cancelled": "the caller gave up before the answer",
        "agent_hung_up": "the agent asked for the end",
        "agent_closed": "the agent closed its connection; what it had said was played out",
        "agent_lost": "the agent's connection broke",
        "operator_hung_up": "ended through the API or by a drain's deadline",
        "no_media": "no RTP came at all",
        "media_lost": "RTP stopped and the call was not on hold",
        "call_length": "the longest allowed call length was reached",
        "session_expired": "no refresh of the session came in time, or none of ours was answered (RFC 4028)",
        "no_ack": "our 200 was never acknowledged (RFC 3261 §13.3.1.4)",
        "bad_answer": "the caller's SDP answer could not be used",
        "transferred": "the caller was transferred",
        "target_hung_up": "whom the caller was transferred to hung up",
        "minutes_used_up": "the account's outgoing minutes of the day are used up",
        "signalling_lost": "the signalling connection or transaction failed",
        "fallback_message": "no agent could be reached: the number's message was played",
        "crash": "the process died in mid-call",
    }
    | dict(OUTCOMES)
    | {name: refusal.reason for name, refusal in REFUSALS.items() if name != "operator_hung_up"}
)
"""Every ``end_reason`` of a call's record, and what it means."""

# --- the machine ------------------------------------------------------------------------------


class State(StrEnum):
    """Where a call is."""

    LOOKING_UP = "looking up"
    PREPARING = "preparing"
    DIALLING = "dialling"
    JOINING = "joining"
    OPENING = "opening"
    OPENING_READY = "opening, agent ready"
    RINGING = "ringing"
    ANSWERED = "answered"
    ESTABLISHED = "established"
    CLOSING = "closing"
    ENDED = "ended"


class Input(StrEnum):
    """What can happen to it."""

    ROUTED = "routed"
    TAKEN = "callee answered"
    JOINED = "carrier's leg offered"
    REFUSED = "refused"
    OPENED = "media opened"
    AGENT_READY = "agent ready"
    CONFIRMED = "ACK"
    SIP_ENDED = "SIP ended"
    HANG_UP = "hang up"
    FALL_BACK = "fall back"
    CLOSED = "media closed"


class Action(StrEnum):
    """What is done about it."""

    RING = "180"
    OPEN_MEDIA = "open media"
    REOPEN_MEDIA = "open media anew"
    ANSWER = "200"
    REFUSE = "refuse"
    DIAL = "dial"
    JOIN = "answer the carrier's leg"
    CANCEL = "give up"
    NOTE_ANSWER = "note the answer"
    START_MEDIA = "start media"
    HANG_UP = "BYE"
    CLOSE_MEDIA = "close media"
    RECORD_END = "record the end"


S, I, A = State, Input, Action  # noqa: E741 - the table reads as one

_REFUSE: Final = (S.CLOSING, (A.REFUSE, A.CLOSE_MEDIA))
_HANG_UP: Final = (S.CLOSING, (A.HANG_UP, A.CLOSE_MEDIA))
_CLOSE: Final = (S.CLOSING, (A.CLOSE_MEDIA,))
_GIVE_UP: Final = (S.CLOSING, (A.CANCEL, A.CLOSE_MEDIA))

TRANSITIONS: Final[Mapping[tuple[State, Input], tuple[State, tuple[Action, ...]]]] = MappingProxyType(
    {
        (S.LOOKING_UP, I.ROUTED): (S.OPENING, (A.RING, A.OPEN_MEDIA)),
        (S.LOOKING_UP, I.FALL_BACK): (S.OPENING, (A.RING, A.OPEN_MEDIA)),
        (S.LOOKING_UP, I.REFUSED): (S.ENDED, (A.REFUSE, A.RECORD_END)),
        (S.LOOKING_UP, I.HANG_UP): (S.ENDED, (A.REFUSE, A.RECORD_END)),
        (S.LOOKING_UP, I.SIP_ENDED): (S.ENDED, (A.RECORD_END,)),
        (S.OPENING, I.OPENED): (S.RINGING, ()),
        (S.OPENING, I.AGENT_READY): (S.OPENING_READY, ()),
        (S.OPENING, I.FALL_BACK): (S.OPENING, (A.REOPEN_MEDIA,)),
        (S.OPENING, I.REFUSED): _REFUSE,
        (S.OPENING, I.HANG_UP): _REFUSE,
        (S.OPENING, I.SIP_ENDED): _CLOSE,
        (S.OPENING_READY, I.OPENED): (S.ANSWERED, (A.ANSWER,)),
        (S.OPENING_READY, I.REFUSED): _REFUSE,
        (S.OPENING_READY, I.HANG_UP): _REFUSE,
        (S.OPENING_READY, I.SIP_ENDED): _CLOSE,
        (S.RINGING, I.AGENT_READY): (S.ANSWERED, (A.ANSWER,)),
        (S.RINGING, I.FALL_BACK): (S.OPENING, (A.REOPEN_MEDIA,)),
        (S.RINGING, I.REFUSED): _REFUSE,
        (S.RINGING, I.HANG_UP): _REFUSE,
        (S.RINGING, I.SIP_ENDED): _CLOSE,
        (S.ANSWERED, I.CONFIRMED): (S.ESTABLISHED, (A.START_MEDIA,)),
        (S.ANSWERED, I.REFUSED): _HANG_UP,
        (S.ANSWERED, I.HANG_UP): _HANG_UP,
        (S.ANSWERED, I.SIP_ENDED): _CLOSE,
        (S.ESTABLISHED, I.REFUSED): _HANG_UP,
        (S.ESTABLISHED, I.HANG_UP): _HANG_UP,
        (S.ESTABLISHED, I.SIP_ENDED): _CLOSE,
        (S.CLOSING, I.CLOSED): (S.ENDED, (A.RECORD_END,)),
        # calls that the edge places: the agent connects, then the callee is dialled
        (S.PREPARING, I.OPENED): (S.DIALLING, (A.DIAL,)),
        (S.PREPARING, I.REFUSED): _CLOSE,
        (S.PREPARING, I.HANG_UP): _CLOSE,
        (S.DIALLING, I.TAKEN): (S.ESTABLISHED, (A.NOTE_ANSWER, A.START_MEDIA)),
        (S.DIALLING, I.REFUSED): _GIVE_UP,
        (S.DIALLING, I.HANG_UP): _GIVE_UP,
        (S.DIALLING, I.SIP_ENDED): _CLOSE,
        (S.DIALLING, I.JOINED): (S.JOINING, (A.JOIN,)),  # a carrier that calls us once the callee has answered
        (S.JOINING, I.OPENED): (S.ANSWERED, (A.ANSWER,)),
        (S.JOINING, I.REFUSED): _REFUSE,
        (S.JOINING, I.HANG_UP): _REFUSE,
        (S.JOINING, I.SIP_ENDED): _CLOSE,
    }
)
"""``(state, input) → (state, actions)``; an absent pair is ignored. The first input that ends a call
gives its record the reason."""
