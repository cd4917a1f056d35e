"""A transfer's machine: the ways a caller is handed to somebody else, and how each ends. Values only.

:mod:`control.transfers` carries the actions out.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

__all__ = ["TRANSITIONS", "Action", "Input", "State"]


class State(Enum):
    """Where a transfer is."""

    CHECKING = "checking"
    REFERRING = "referring"
    ASKING = "asking the carrier"
    OPENING = "opening a second leg"
    DIALLING = "dialling"
    JOINED = "joined"
    OVER = "over"


class Input(Enum):
    """What can happen to it."""

    REFER = "the peer takes REFER"
    ASK = "the carrier's REST does it"
    BRIDGE = "a second leg it is"
    NO_REFER = "REFER itself refused"
    MOVED = "the caller is with the target"
    FAILED = "the target was not reached"
    OPENED = "media opened"
    ANSWERED = "target answered"
    TARGET_ENDED = "target hung up"
    CALL_ENDED = "call ended"


class Action(Enum):
    """What is done about it."""

    SEND_REFER = "REFER"
    ASK_CARRIER = "ask the carrier"
    OPEN_LEG = "open second leg"
    DIAL = "INVITE"
    JOIN = "join the legs"
    CLOSE_LEG = "close second leg"
    HANG_UP_LEG = "CANCEL or BYE the second leg"
    TELL = "tell the outcome"
    END_CALL = "end the call"
    RELEASE = "release what it holds"


S, I, A = State, Input, Action  # noqa: E741 - the table reads as one

_FAIL: Final = (S.OVER, (A.TELL, A.RELEASE))
_MOVED: Final = (S.OVER, (A.TELL, A.END_CALL, A.RELEASE))

TRANSITIONS: Final[Mapping[tuple[State, Input], tuple[State, tuple[Action, ...]]]] = MappingProxyType(
    {
        (S.CHECKING, I.REFER): (S.REFERRING, (A.SEND_REFER,)),
        (S.CHECKING, I.ASK): (S.ASKING, (A.ASK_CARRIER,)),
        (S.CHECKING, I.BRIDGE): (S.OPENING, (A.OPEN_LEG,)),
        (S.CHECKING, I.FAILED): _FAIL,  # there is no way
        (S.REFERRING, I.MOVED): _MOVED,
        (S.REFERRING, I.FAILED): _FAIL,
        (S.REFERRING, I.NO_REFER): (S.CHECKING, ()),  # the next way is looked for
        (S.REFERRING, I.CALL_ENDED): _FAIL,
        (S.ASKING, I.MOVED): _MOVED,
        (S.ASKING, I.FAILED): _FAIL,
        (S.ASKING, I.CALL_ENDED): _FAIL,
        (S.OPENING, I.OPENED): (S.DIALLING, (A.DIAL,)),
        (S.OPENING, I.FAILED): (S.OVER, (A.CLOSE_LEG, A.TELL, A.RELEASE)),
        (S.OPENING, I.CALL_ENDED): (S.OVER, (A.CLOSE_LEG, A.TELL, A.RELEASE)),
        (S.DIALLING, I.ANSWERED): (S.JOINED, (A.JOIN,)),
        (S.DIALLING, I.FAILED): (S.OVER, (A.HANG_UP_LEG, A.CLOSE_LEG, A.TELL, A.RELEASE)),
        (S.DIALLING, I.TARGET_ENDED): (S.OVER, (A.CLOSE_LEG, A.TELL, A.RELEASE)),
        (S.DIALLING, I.CALL_ENDED): (S.OVER, (A.HANG_UP_LEG, A.CLOSE_LEG, A.TELL, A.RELEASE)),
        (S.JOINED, I.FAILED): (S.OVER, (A.HANG_UP_LEG, A.CLOSE_LEG, A.END_CALL, A.RELEASE)),
        (S.JOINED, I.TARGET_ENDED): (S.OVER, (A.CLOSE_LEG, A.END_CALL, A.RELEASE)),
        (S.JOINED, I.CALL_ENDED): (S.OVER, (A.HANG_UP_LEG, A.CLOSE_LEG, A.RELEASE)),
    }
)
"""``(state, input) → (state, actions)``; an absent pair is ignored. The media of a call that ends takes its second
leg's along."""
