"""Carries a list of :mod:`control.instructions` out on a live call, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from control.instructions import Dial, Digits, HangUp, Instruction, Pause

__all__ = ["DIGIT_S", "PAUSE_S", "Line", "perform", "sending_s"]

DIGIT_S: Final = 0.24
"""A digit and the gap after it [s], as media sends them."""

PAUSE_S: Final = 0.5
"""What a ``w`` among digits pauses [s]."""


class Line(Protocol):
    """The call as the script sees it. After its end ``up`` is False, and nothing else has an effect."""

    @property
    def up(self) -> bool:
        """The call is established, and no newer script has come."""

    async def send_digits(self, digits: str) -> None:
        """Queue digits to the phone."""

    async def pause(self, seconds: float) -> None:
        """Wait."""

    async def transfer(self, target: str) -> None:
        """Transfer the caller; returns when it is decided how that went."""

    def hang_up(self) -> None:
        """End the call."""


async def perform(instructions: Sequence[Instruction], line: Line) -> None:
    """To the end, or to the call's. A ``Dial`` or ``HangUp`` is the last that is carried out, whatever follows."""
    for instruction in instructions:
        if not line.up:
            return
        match instruction:
            case Digits(digits):
                await line.send_digits(digits)
                await line.pause(sending_s(digits))
            case Pause(seconds):
                await line.pause(seconds)
            case Dial(target):
                await line.transfer(target)
                return
            case HangUp():
                line.hang_up()
                return


def sending_s(digits: str) -> float:
    """How long these take [s]."""
    pauses = digits.lower().count("w")
    return pauses * PAUSE_S + (len(digits) - pauses) * DIGIT_S
