"""Calls: their records, and what is asked of those that are up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Literal

import msgspec

from control.errors import CallNotFound, CallNotLive, CallNotReady
from control.hold import HoldOutcome
from control.instructions import Instruction
from control.live_calls import CallCommand, LiveCall
from control.operations.base import OperationsBase, known, told
from control.operations.principal import Principal
from control.registry.types import Call, CallFilter, NotFound, Page
from control.resources.base import Listing
from control.resources.call_control import (
    CallControlled,
    HangUp,
    HungUp,
    PlaceCall,
    PlayRecording,
    QueuedCall,
    SendDigits,
    SetMark,
    TransferCall,
    Transferring,
)
from control.resources.calls import CallDetail, CallResource, call_detail, call_resource
from control.resources.ids import id_of
from media import messages as media
from media.messages import Result

__all__ = ["CallOperations"]


class CallOperations(OperationsBase):
    """A live call hears of it through :class:`control.live_calls.LiveCalls`."""

    @told
    async def calls(self, by: Principal, page: Page, filter: CallFilter) -> Listing[CallResource]:
        """The account's records, newest first."""
        found, total = await self._registry.calls(by.account, page, filter)
        return Listing([call_resource(row) for row in found], total, page)

    @told
    async def call(self, by: Principal, call_id: str) -> CallDetail:
        """One record with its timeline; a live call's statistics are those of the moment.

        A call too young to have a record is shown as it stands.
        """
        id = known("call", call_id)
        live = await self._calls.live(by.account, id)
        try:
            record = await self._registry.call(by.account, id)
        except NotFound:
            if live is None:
                raise
            record = _young(live, self._clock() - live.age_s)
        if live is not None and live.statistics is not None and not record.statistics:
            record = replace(record, statistics=msgspec.to_builtins(live.statistics))
        return call_detail(record)

    @told
    async def place_call(self, by: Principal, request: PlaceCall, key: str | None = None) -> QueuedCall:
        """Call somebody and let an agent talk. The same ``key`` within a day gives the same call again."""
        return QueuedCall(id=await self._outward.place(by.account, request, key), agent_id=str(request.agent_id))

    @told
    async def transfer(self, by: Principal, call_id: str, request: TransferCall) -> Transferring:
        """Hand a live call's caller on; :class:`CallNotLive` when it has ended already."""
        id = _live_id(call_id)
        try:
            begun = await self._outward.transfer(by.account, id, request)
        except CallNotFound:
            raise await self._not_live(by, id) from None
        return Transferring(id=begun.call_id, target=begun.target, method=begun.method)

    @told
    async def hang_up(
        self, by: Principal, call_id: str, request: HangUp | None = None, *, ended_by: Literal["operator", "agent"]
    ) -> HungUp:
        """End a live call now; :class:`CallNotLive` when it has ended already."""
        id = _live_id(call_id)
        if await self._calls.hang_up(by.account, id, ended_by, request.headers if request is not None else None):
            return HungUp(id=id)
        raise await self._not_live(by, id)

    @told
    async def send_digits(self, by: Principal, call_id: str, request: SendDigits) -> CallControlled:
        """Press digits; done when they are queued."""
        return await self._control(by, media.SendDigits(call=_live_id(call_id), digits=request.digits))

    @told
    async def play(self, by: Principal, call_id: str, request: PlayRecording) -> CallControlled:
        """Play a recording to the caller; done when it is queued."""
        await self._check_recording("recording", request.recording)
        command = media.Play(call=_live_id(call_id), recording=request.recording, interrupt=request.interrupt)
        return await self._control(by, command)

    @told
    async def clear(self, by: Principal, call_id: str) -> CallControlled:
        """Stop what the caller is being played; where nothing is, nothing changes."""
        return await self._control(by, media.Clear(call=_live_id(call_id)))

    @told
    async def mark(self, by: Principal, call_id: str, request: SetMark) -> CallControlled:
        """Have the call's timeline say when what is queued now has been played."""
        return await self._control(by, media.SetMark(call=_live_id(call_id), name=request.name))

    @told
    async def perform(self, by: Principal, call_id: str, instructions: Sequence[Instruction]) -> CallControlled:
        """Begin to carry instructions out; those that came before are given up."""
        id = _live_id(call_id)
        return await self._controlled(by, id, await self._calls.perform(by.account, id, instructions))

    @told
    async def hold(self, by: Principal, call_id: str) -> CallControlled:
        """Put the phone on hold: it hears music or silence, the agent hears of it. Held already, nothing changes."""
        id = _live_id(call_id)
        return await self._held(by, id, await self._calls.hold(by.account, id))

    @told
    async def resume(self, by: Principal, call_id: str) -> CallControlled:
        """Take the phone back; not held, nothing changes."""
        id = _live_id(call_id)
        return await self._held(by, id, await self._calls.resume(by.account, id))

    async def _held(self, by: Principal, id: str, outcome: HoldOutcome) -> CallControlled:
        if outcome is HoldOutcome.NO_CALL:
            raise await self._not_live(by, id)
        if outcome is not HoldOutcome.DONE:
            raise CallNotReady(id, outcome.name.lower(), f"hold: {outcome.value}")
        return CallControlled(id=id)

    async def _control(self, by: Principal, command: CallCommand) -> CallControlled:
        return await self._controlled(by, command.call, await self._calls.command(by.account, command))

    async def _controlled(self, by: Principal, id: str, result: Result | None) -> CallControlled:
        if result is None:
            raise await self._not_live(by, id)
        if isinstance(result, media.Failed):
            raise CallNotReady(id, result.code, result.message or None)
        return CallControlled(id=id)

    async def _not_live(self, by: Principal, id: str) -> CallNotLive:
        """The call's record, if there is one: it has ended. :class:`ResourceNotFound` for any other id."""
        return CallNotLive(id, (await self._registry.call(by.account, id)).status)


def _live_id(call_id: str) -> str:
    """A call's id, in either of its forms."""
    id = id_of(call_id, "CA")
    if id is None:
        raise CallNotFound(call_id)
    return id


_ANSWERED: Final = frozenset({"answered", "established", "closing"})


def _young(call: LiveCall, started_at: float) -> Call:
    """A live call as the record it is about to have."""
    return Call(
        id=call.id,
        account_id=call.account_id,
        number_id=call.number_id,
        agent_id=call.agent_id or None,
        direction=call.direction,
        trunk=call.trunk,
        from_number=call.from_number,
        to_number=call.to_number,
        status="in_progress" if call.state in _ANSWERED else "ringing",
        started_at=started_at,
    )
