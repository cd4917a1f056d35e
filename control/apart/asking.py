"""The control API's side: what its operations need of the process that carries calls, asked over the pipe.

Each class stands where the thing itself does when the API shares that process.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from control.announcements import Announcement
from control.apart.messages import (
    Announce,
    Answer,
    CommandMedia,
    ConnectionChanged,
    ConnectionRemoved,
    DeleteRecording,
    HangUp,
    Hold,
    Perform,
    Place,
    Progressed,
    Question,
    QuestionBody,
    ReadLive,
    ReadReadiness,
    ReadReadings,
    ReadRecording,
    RecordingIsLive,
    Refer,
    Refused,
    Resume,
    Transfer,
    Word,
    WordBody,
    encode,
)
from control.errors import EdgeFull, Internal, revived
from control.hold import HoldOutcome
from control.instructions import Instruction
from control.live_calls import CallCommand, LiveCall
from control.metrics import Readings
from control.outgoing import Begun
from control.passes import Announced
from control.readiness import Readiness
from control.recording_files import OpenRecording, RecordingFiles
from control.registry.types import Connection
from control.resources.call_control import PlaceCall, TransferCall
from media.messages import Result
from media.pipe import PipeFull

__all__ = [
    "Asker",
    "RemoteAnnouncer",
    "RemoteConnections",
    "RemoteHealth",
    "RemoteLiveCalls",
    "RemoteOutgoing",
    "RemoteRecordings",
]

log = logging.getLogger("truedy.api")

_T = TypeVar("_T")


class Asker:
    """Questions and their answers: ``send`` takes each message's bytes, :meth:`receive` is given the answers."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        """``send`` raises :class:`media.pipe.PipeFull`."""
        self._send = send
        self._asked = 0
        self._waiting: dict[int, asyncio.Future[Answer | Refused]] = {}
        self._gone = False

    async def ask(self, body: QuestionBody, answer: Any) -> Any:
        """The answer, of the type ``answer``; waits as long as it takes.

        Raises the :class:`control.errors.OperationError` that the question was refused with; :class:`Internal` when
        nobody is there to answer.
        """
        if self._gone:
            raise Internal
        self._asked = number = self._asked + 1
        waiting = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self._send(encode(Question(number=number, body=body)))
            reply = await waiting
        except PipeFull as error:
            log.error("questions pile up", extra={"queued_bytes": error.queued})
            raise EdgeFull("The edge is behind with what it has been asked") from error
        finally:
            del self._waiting[number]
        if isinstance(reply, Refused):
            raise revived(reply.error, reply.message, reply.details, reply.retry_after_s)
        return msgspec.msgpack.decode(reply.result, type=answer)

    def tell(self, body: WordBody) -> None:
        """Nothing is waited for. Raises :class:`media.pipe.PipeFull`."""
        self._send(encode(Word(body=body)))

    def receive(self, reply: Answer | Refused) -> None:
        """To the question of its number, if somebody still waits for it."""
        waiting = self._waiting.get(reply.number)
        if waiting is not None and not waiting.done():
            waiting.set_result(reply)

    def gone(self) -> None:
        """The pipe is lost: every question under way, and every later one, raises :class:`Internal`."""
        self._gone = True
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(Internal())


class RemoteLiveCalls:
    """:class:`control.live_calls.LiveCalls`."""

    def __init__(self, asker: Asker) -> None:
        self._ask = asker.ask

    async def hang_up(self, account_id: str, call_id: str, by: str, headers: Mapping[str, str] | None = None) -> bool:
        """Asked."""
        question = HangUp(account=account_id, call=call_id, by=by, headers=dict(headers or {}))
        ended: bool = await self._ask(question, bool)
        return ended

    async def command(self, account_id: str, command: CallCommand) -> Result | None:
        """Asked."""
        result: Result | None = await self._ask(CommandMedia(account=account_id, command=command), Result | None)
        return result

    async def perform(self, account_id: str, call_id: str, instructions: Sequence[Instruction]) -> Result | None:
        """Asked."""
        question = Perform(account=account_id, call=call_id, instructions=tuple(instructions))
        result: Result | None = await self._ask(question, Result | None)
        return result

    async def hold(self, account_id: str, call_id: str) -> HoldOutcome:
        """Asked."""
        outcome: HoldOutcome = await self._ask(Hold(account=account_id, call=call_id), HoldOutcome)
        return outcome

    async def resume(self, account_id: str, call_id: str) -> HoldOutcome:
        """Asked."""
        outcome: HoldOutcome = await self._ask(Resume(account=account_id, call=call_id), HoldOutcome)
        return outcome

    async def live(self, account_id: str, call_id: str) -> LiveCall | None:
        """Asked."""
        found: LiveCall | None = await self._ask(ReadLive(account=account_id, call=call_id), LiveCall | None)
        return found


class RemoteOutgoing:
    """:class:`control.outgoing.Outgoing`."""

    def __init__(self, asker: Asker) -> None:
        self._ask = asker.ask

    async def place(self, account_id: str, request: PlaceCall, key: str | None = None) -> str:
        """Asked."""
        question = Place(account=account_id, request=request.model_dump_json().encode(), key=key)
        call: str = await self._ask(question, str)
        return call

    async def transfer(self, account_id: str, call_id: str, request: TransferCall) -> Begun:
        """Asked."""
        question = Transfer(account=account_id, call=call_id, request=request.model_dump_json().encode())
        begun: Begun = await self._ask(question, Begun)
        return begun


class RemoteRecordings:
    """:class:`control.recordings.CallRecordings`: the files are read here, all else is asked."""

    def __init__(self, asker: Asker, files: RecordingFiles) -> None:
        self._ask = asker.ask
        self._files = files

    async def live(self, call_id: str) -> bool:
        """Asked."""
        live: bool = await self._ask(RecordingIsLive(call=call_id), bool)
        return live

    async def open(self, call_id: str, *, complete: bool) -> OpenRecording:
        """Decrypted in this process."""
        return await self._files.open(call_id, complete=complete)

    async def read(self, call_id: str, reader: str) -> None:
        """Told, and waited for: the record says it before the first byte is out."""
        await self._ask(ReadRecording(call=call_id, by=reader), None)

    async def delete(self, call_id: str, by: str) -> bool:
        """Asked."""
        deleted: bool = await self._ask(DeleteRecording(call=call_id, by=by), bool)
        return deleted


class RemoteAnnouncer:
    """:class:`control.announcements.Announcer`."""

    def __init__(self, asker: Asker) -> None:
        self._ask = asker.ask

    async def announce(self, announced: Announced) -> Announcement:
        """Asked."""
        announcement: Announcement = await self._ask(Announce(announced=announced), Announcement)
        return announcement

    async def referred(self, call_sids: tuple[str, ...]) -> str | None:
        """Asked."""
        twiml: str | None = await self._ask(Refer(call_sids=call_sids), str | None)
        return twiml

    async def progressed(self, call_id: str, status: str) -> None:
        """Asked."""
        await self._ask(Progressed(call=call_id, status=status), None)


class RemoteHealth:
    """:class:`control.readiness.Health`, and what is counted where calls are carried."""

    def __init__(self, asker: Asker) -> None:
        self._ask = asker.ask

    async def readiness(self) -> Readiness:
        """Asked."""
        readiness: Readiness = await self._ask(ReadReadiness(), Readiness)
        return readiness

    async def readings(self) -> Readings:
        """Asked."""
        readings: Readings = await self._ask(ReadReadings(), Readings)
        return readings


class RemoteConnections:
    """:class:`control.providers.Connections`."""

    def __init__(self, tell: Callable[[WordBody], None]) -> None:
        self._tell = tell

    def changed(self, connection: Connection) -> None:
        """Told."""
        self._tell(ConnectionChanged(connection=connection))

    def removed(self, connection_id: str) -> None:
        """Told."""
        self._tell(ConnectionRemoved(id=connection_id))
