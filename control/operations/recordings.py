"""Calls' recordings."""

from __future__ import annotations

import logging

from control.errors import InUse, RecordingDamaged, ResourceNotFound, SecretsUnavailable
from control.operations.base import OperationsBase, known, told
from control.operations.principal import Principal
from control.recording_files import OpenRecording
from control.recordings import CallRecordings
from control.registry.types import Call
from control.resources.calls import RecordingDeleted
from control.vault import VaultError
from media.recording_file import Damaged

__all__ = ["RecordingOperations"]

log = logging.getLogger("truedy.operations")


class RecordingOperations(OperationsBase):
    """Every one that is read or deleted says so in its call's record."""

    @told
    async def recording(self, by: Principal, call_id: str) -> OpenRecording:
        """Its audio, every byte authenticated; who asked is noted in the call's record.

        ``conflict`` while the call is up, :class:`RecordingDamaged` for one that is not as it was written.
        """
        recordings, record = await self._recorded_call(by, call_id)
        try:
            opened = await recordings.open(record.id, complete=record.recording.get("status") == "completed")
        except (FileNotFoundError, NotADirectoryError):
            raise ResourceNotFound("recording") from None
        except Damaged as error:
            log.error("a recording is damaged", extra={"call": record.id, "problem": str(error)})
            raise RecordingDamaged(str(error)) from error
        except VaultError as error:
            raise SecretsUnavailable(f"The recording cannot be opened: {error}") from error
        await recordings.read(record.id, by.name)
        return opened

    @told
    async def delete_recording(self, by: Principal, call_id: str) -> RecordingDeleted:
        """The call's record stays, and says who deleted it. ``conflict`` while the call is up."""
        recordings, record = await self._recorded_call(by, call_id)
        if not await recordings.delete(record.id, by.name):
            raise ResourceNotFound("recording")
        return RecordingDeleted(id=record.id)

    async def _recorded_call(self, by: Principal, call_id: str) -> tuple[CallRecordings, Call]:
        record = await self._registry.call(by.account, known("call", call_id))
        if self.recordings is None:
            raise ResourceNotFound("recording")
        if await self.recordings.live(record.id):
            raise InUse("The call is still being recorded: hang up first", call_id=record.id)
        return self.recordings, record
