"""The control API's side: what its operations need of the process that carries calls, asked over the pipe.

Each class stands where the thing itself does when the API shares that process.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

from msgspec.msgpack import Decoder

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
from control.carrying import Carrying
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

__all__ = ["Asker", "remote"]

log = logging.getLogger("truedy.api")

_T = TypeVar("_T")

_NOTHING: Final[Decoder[None]] = Decoder(None)
_BOOL: Final[Decoder[bool]] = Decoder(bool)
_TEXT: Final[Decoder[str]] = Decoder(str)
_TWIML: Final[Decoder[str | None]] = Decoder(str | None)
_RESULT: Final[Decoder[Result | None]] = Decoder(Result | None)
_OUTCOME: Final[Decoder[HoldOutcome]] = Decoder(HoldOutcome)
_CALL: Final[Decoder[LiveCall | None]] = Decoder(LiveCall | None)
_BEGUN: Final[Decoder[Begun]] = Decoder(Begun)
_ANNOUNCEMENT: Final[Decoder[Announcement]] = Decoder(Announcement)
_READINESS: Final[Decoder[Readiness]] = Decoder(Readiness)
_READINGS: Final[Decoder[Readings]] = Decoder(Readings)


class Asker:
    """Questions and their answers: ``send`` takes each message's bytes, :meth:`receive` is given the answers."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        """``send`` raises :class:`media.pipe.PipeFull`."""
        self._send = send
        self._asked = 0
        self._waiting: dict[int, asyncio.Future[Answer | Refused]] = {}
        self._gone = False

    async def ask(self, body: QuestionBody, answer: Decoder[_T]) -> _T:
        """The answer, which ``answer`` reads; waits as long as it takes.

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
        return answer.decode(reply.result)

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


class _LiveCalls:
    """:class:`control.live_calls.LiveCalls`."""

    def __init__(self, asker: Asker) -> None:
        self._ask = asker.ask

    async def hang_up(self, account_id: str, call_id: str, by: str, headers: Mapping[str, str] | None = None) -> bool:
        """Asked."""
        question = HangUp(account=account_id, call=call_id, by=by, headers=dict(headers or {}))
        return await self._ask(question, _BOOL)

    async def command(self, account_id: str, command: CallCommand) -> Result | None:
        """Asked."""
        return await self._ask(CommandMedia(account=account_id, command=command), _RESULT)

    async def perform(self, account_id: str, call_id: str, instructions: Sequence[Instruction]) -> Result | None:
        """Asked."""
        question = Perform(account=account_id, call=call_id, instructions=tuple(instructions))
        return await self._ask(question, _RESULT)

    async def hold(self, account_id: str, call_id: str) -> HoldOutcome:
        """Asked."""
        return await self._ask(Hold(account=account_id, call=call_id), _OUTCOME)

    async def resume(self, account_id: str, call_id: str) -> HoldOutcome:
        """Asked."""
        return await self._ask(Resume(account=account_id, call=call_id), _OUTCOME)

    async def live(self, account_id: str, call_id: str) -> LiveCall | None:
        """Asked."""
        return await self._ask(ReadLive(account=account_id, call=call_id), _CALL)


class _Outgoing:
    """:class:`control.outgoing.Outgoing`."""

    def __init__(self, asker: Asker) -> None:
        self._ask = asker.ask

    async def place(self, account_id: str, request: PlaceCall, key: str | None = None) -> str:
        """Asked."""
        question = Place(account=account_id, request=request.model_dump_json().encode(), key=key)
        return await self._ask(question, _TEXT)

    async def transfer(self, account_id: str, call_id: str, request: TransferCall) -> Begun:
        """Asked."""
        question = Transfer(account=account_id, call=call_id, request=request.model_dump_json().encode())
        return await self._ask(question, _BEGUN)


class _Recordings:
    """:class:`control.recordings.CallRecordings`: the files are read here, all else is asked."""

    def __init__(self, asker: Asker, files: RecordingFiles) -> None:
        self._ask = asker.ask
        self._files = files

    async def live(self, call_id: str) -> bool:
        """Asked."""
        return await self._ask(RecordingIsLive(call=call_id), _BOOL)

    async def open(self, call_id: str, *, complete: bool) -> OpenRecording:
        """Decrypted in this process."""
        return await self._files.open(call_id, complete=complete)

    async def read(self, call_id: str, reader: str) -> None:
        """Told, and waited for: the record says it before the first byte is out."""
        await self._ask(ReadRecording(call=call_id, by=reader), _NOTHING)

    async def delete(self, call_id: str, by: str) -> bool:
        """Asked."""
        return await self._ask(DeleteRecording(call=call_id, by=by), _BOOL)


class _Announcer:
    """:class:`control.announcements.Announcer`."""

    def __init__(self, asker: Asker) -> None:
        self._ask = asker.ask

    async def announce(self, announced: Announced) -> Announcement:
        """Asked."""
        return await self._ask(Announce(announced=announced), _ANNOUNCEMENT)

    async def referred(self, call_sids: tuple[str, ...]) -> str | None:
        """Asked."""
        return await self._ask(Refer(call_sids=call_sids), _TWIML)

    async def progressed(self, call_id: str, status: str) -> None:
        """Asked."""
        await self._ask(Progressed(call=call_id, status=status), _NOTHING)


class _Health:
    """:class:`control.readiness.Health`, and what is counted where calls are carried."""

    def __init__(self, asker: Asker) -> None:
        self._ask = asker.ask

    async def readiness(self) -> Readiness:
        """Asked."""
        return await self._ask(ReadReadiness(), _READINESS)

    async def readings(self) -> Readings:
        """Asked."""
        return await self._ask(ReadReadings(), _READINGS)


class _Connections:
    """:class:`control.providers.Connections`."""

    def __init__(self, tell: Callable[[WordBody], None]) -> None:
        self._tell = tell

    def changed(self, connection: Connection) -> None:
        """Told."""
        self._tell(ConnectionChanged(connection=connection))

    def removed(self, connection_id: str) -> None:
        """Told."""
        self._tell(ConnectionRemoved(id=connection_id))


def remote(asker: Asker, files: RecordingFiles, tell: Callable[[WordBody], None]) -> Carrying:
    """The way to all of it; ``tell`` takes what is not answered."""
    return Carrying(
        calls=_LiveCalls(asker),
        outgoing=_Outgoing(asker),
        recordings=_Recordings(asker, files),
        announcer=_Announcer(asker),
        connections=_Connections(tell),
        health=_Health(asker),
    )
