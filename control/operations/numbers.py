"""Numbers: imported, given an agent, released."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from control.entropy import new_id
from control.errors import NumberAlreadyImported, TrunkNotAllowed, ValidationFailed
from control.numbers import canonical
from control.operations.base import OperationsBase, known, told
from control.operations.principal import Principal
from control.registry.types import Number, Page, PhoneNumberTaken
from control.resources.base import Listing
from control.resources.numbers import (
    ForwardFallback,
    ImportedNumber,
    ImportNumber,
    ImportSipNumber,
    ImportTelnyxNumber,
    ImportTwilioNumber,
    MessageFallback,
    NumberResource,
    Released,
    UpdateNumber,
    imported_number,
    number_resource,
)
from control.resources.options import RecordingOptions, recording_options, with_option

__all__ = ["ACTIVE", "NumberOperations"]

ACTIVE: Final = "active"
"""A number's status: calls to it are looked up."""


class NumberOperations(OperationsBase):
    """A number is one account's at a time."""

    @told
    async def import_number(self, by: Principal, request: ImportNumber) -> ImportedNumber:
        """Register a number, unassigned. Of two imports at once one is told ``number_already_imported``."""
        now = self._clock()
        number = Number(
            id=new_id(self._entropy),
            account_id=by.account,
            phone_number=canonical(request.phone_number),
            raw=request.phone_number,
            provider=request.provider,
            trunk="",
            status=ACTIVE,
            created_at=now,
            updated_at=now,
        )
        match request:
            case ImportSipNumber(provider_trunk=name):
                trunk = await self._static_trunk(by, name)
                number = replace(number, trunk=trunk, provider_trunk=trunk)
                return imported_number(await self._store_number(number))
            case ImportTwilioNumber(provider_account_sid=sid):
                number = replace(number, provider_account_sid=sid)
            case ImportTelnyxNumber(provider_connection_id=connection_id):
                number = replace(number, provider_connection_id=connection_id)
        return imported_number(*await self._carriers.import_number(number, request))

    async def _store_number(self, number: Number) -> Number:
        try:
            await self._registry.create_number(number)
        except PhoneNumberTaken as error:
            raise NumberAlreadyImported(number.phone_number) from error
        return number

    async def _static_trunk(self, by: Principal, name: str) -> str:
        """The trunk's name, if the caller may put numbers on it."""
        trunk = self._trunks.get(name)
        if by.operator:
            if trunk is None:
                raise ValidationFailed.of("provider_trunk", "no trunk of that name in the settings")
            return trunk.name
        if trunk is not None:
            account = await self._registry.account(by.account)
            if not {account.id, account.name}.isdisjoint(trunk.accounts):
                return trunk.name
        raise TrunkNotAllowed(name)

    @told
    async def numbers(self, by: Principal, page: Page, phone_number: str | None = None) -> Listing[NumberResource]:
        """The account's, newest first, or the one asked for; from the console without an account, everybody's."""
        wanted = None if phone_number is None else canonical(phone_number)
        found, total = await self._registry.numbers(by.account_id, page, wanted)
        return Listing([number_resource(row) for row in found], total, page)

    @told
    async def number(self, by: Principal, number_id: str) -> NumberResource:
        """One of the account's."""
        return number_resource(await self._registry.number(by.account, known("number", number_id)))

    @told
    async def update_number(self, by: Principal, number_id: str, request: UpdateNumber) -> NumberResource:
        """Assign an agent, or with null unassign; a fallback and parameters likewise. The next call hears it."""
        number_id = known("number", number_id)
        changes: dict[str, Any] = {}
        if "agent_id" in request.model_fields_set:
            changes["agent_id"] = str(request.agent_id) if request.agent_id else None
        if "parameters" in request.model_fields_set:
            changes["parameters"] = request.parameters
        if "fallback" in request.model_fields_set:
            changes["fallback"] = await self._fallback(request.fallback)
        if not changes:
            return number_resource(await self._registry.number(by.account, number_id))
        return number_resource(await self._registry.change_number(by.account, number_id, changes, self._clock()))

    async def _fallback(self, wanted: MessageFallback | ForwardFallback | None) -> dict[str, str] | None:
        match wanted:
            case MessageFallback(message=name):
                await self._check_recording("fallback.message", name)
                return {"message": name}
            case ForwardFallback(forward=number):
                return {"forward": canonical(number)}
        return None

    @told
    async def number_recording(self, by: Principal, number_id: str) -> RecordingOptions:
        """What the number has otherwise than its agent."""
        return recording_options((await self._registry.number(by.account, known("number", number_id))).options)

    @told
    async def set_number_recording(self, by: Principal, number_id: str, request: RecordingOptions) -> RecordingOptions:
        """In place of what was there; the next call goes by it."""
        number = await self._registry.number(by.account, known("number", number_id))
        changes = {"options": with_option(number.options, "recording", request)}
        changed = await self._registry.change_number(by.account, number.id, changes, self._clock())
        return recording_options(changed.options)

    @told
    async def verify_number(self, by: Principal, number_id: str) -> ImportedNumber:
        """Ask its carrier again, as the import did; a number that fails stays as it is."""
        return imported_number(*await self._carriers.verify_number(by.account, known("number", number_id)))

    @told
    async def delete_number(self, by: Principal, number_id: str) -> Released:
        """Deregister it. A call that is up finishes; new ones are refused. The carrier is not told."""
        gone = await self._carriers.release(by.account, known("number", number_id))
        return Released(id=gone.id, phone_number=gone.phone_number)
