"""Who places calls and hands callers on, as operations need it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from control.errors import CallNotFound, OutboundUnavailable
from control.resources.call_control import PlaceCall, TransferCall

__all__ = ["Begun", "NothingPlaced", "Outgoing"]


@dataclass(frozen=True, slots=True)
class Begun:
    """A transfer that was begun."""

    call_id: str
    target: str
    method: Literal["refer", "carrier", "bridge"]


class Outgoing(Protocol):
    """Who places calls and hands callers on: :class:`control.placing.Placing`."""

    async def place(self, account_id: str, request: PlaceCall, key: str | None = None) -> str:
        """Begin a call; its id."""
        ...

    async def transfer(self, account_id: str, call_id: str, request: TransferCall) -> Begun:
        """Begin a transfer; :class:`CallNotFound` for no such live call."""
        ...


class NothingPlaced:
    """For a process that serves no calls: the command line's."""

    async def place(self, account_id: str, request: PlaceCall, key: str | None = None) -> str:
        """Refused."""
        raise OutboundUnavailable("This process places no calls")

    async def transfer(self, account_id: str, call_id: str, request: TransferCall) -> Begun:
        """There is no call."""
        raise CallNotFound(call_id)
