"""The calls that are up, as operations ask of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from control.hold import HoldOutcome
from control.instructions import Instruction
from media.messages import Clear, LegStatistics, Play, Result, SendDigits, SetMark

__all__ = ["CallCommand", "LiveCall", "LiveCalls", "NoLiveCalls"]


CallCommand = SendDigits | Play | Clear | SetMark
"""What media is asked to do to a call that is up."""


@dataclass(frozen=True, slots=True)
class LiveCall:
    """A call that has begun and not ended. ``age_s`` [s] counts from the offer."""

    id: str
    account_id: str
    number_id: str
    agent_id: str
    trunk: str
    from_number: str
    to_number: str
    state: str
    direction: str
    age_s: float
    statistics: LegStatistics | None


class LiveCalls(Protocol):
    """The calls that the edge carries."""

    async def hang_up(self, account_id: str, call_id: str, by: str, headers: Mapping[str, str] | None = None) -> bool:
        """End one; False when the account has no such live call. ``by`` is the record's ``ended_by``.

        ``headers`` go on the BYE, by allow-list.
        """
        ...

    async def command(self, account_id: str, command: CallCommand) -> Result | None:
        """Have media do something to an established call.

        None when the account has no such live call; :class:`media.messages.Failed`, with ``not_established`` too.
        """
        ...

    async def perform(self, account_id: str, call_id: str, instructions: Sequence[Instruction]) -> Result | None:
        """Begin to carry these out in place of those that came before; as :meth:`command`."""
        ...

    async def hold(self, account_id: str, call_id: str) -> HoldOutcome:
        """Put the phone on hold."""
        ...

    async def resume(self, account_id: str, call_id: str) -> HoldOutcome:
        """Take it back."""
        ...

    async def live(self, account_id: str, call_id: str) -> LiveCall | None:
        """One of the account's, if it is up and has been routed."""
        ...


class NoLiveCalls:
    """For a process that carries none: the command line's."""

    async def hang_up(self, account_id: str, call_id: str, by: str, headers: Mapping[str, str] | None = None) -> bool:
        """There is none."""
        return False

    async def command(self, account_id: str, command: CallCommand) -> Result | None:
        """There is none."""
        return None

    async def perform(self, account_id: str, call_id: str, instructions: Sequence[Instruction]) -> Result | None:
        """There is none."""
        return None

    async def hold(self, account_id: str, call_id: str) -> HoldOutcome:
        """There is none."""
        return HoldOutcome.NO_CALL

    async def resume(self, account_id: str, call_id: str) -> HoldOutcome:
        """There is none."""
        return HoldOutcome.NO_CALL

    async def live(self, account_id: str, call_id: str) -> LiveCall | None:
        """There is none."""
        return None
