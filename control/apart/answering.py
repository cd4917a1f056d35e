"""The side of the process that carries calls: questions of the control API's are passed on to what they are about."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import msgspec

from control.apart.messages import (
    Announce,
    Answer,
    Beat,
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
    Serving,
    Transfer,
    WordBody,
    decode_from_api,
    encode,
)
from control.carrying import Carrying
from control.errors import Internal, OperationError, from_registry
from control.keeper import Spawn
from control.registry.types import RegistryError
from control.resources.call_control import PlaceCall, TransferCall
from media.messages import ProtocolError

__all__ = ["Answerer"]

log = logging.getLogger("truedy.api")

_result = msgspec.msgpack.Encoder().encode


class Answerer:
    """Of one process's life. ``serving`` hears when it takes requests, ``broken`` of what cannot be understood."""

    def __init__(
        self,
        carrying: Carrying,
        send: Callable[[bytes], None],
        *,
        spawn: Spawn,
        serving: Callable[[], None],
        broken: Callable[[], None],
    ) -> None:
        self._carrying = carrying
        self._send = send
        self._spawn = spawn
        self._serving = serving
        self._broken = broken

    def receive(self, data: bytes) -> None:
        """One message. One that is none of this version's would be waited for without end: nothing goes on from it."""
        try:
            message = decode_from_api(data)
        except ProtocolError as error:
            log.error("unreadable message from the control API", extra={"error": str(error)})
            self._broken()
            return
        if isinstance(message, Question):
            self._spawn(self._answer(message), f"question {message.number}")
        else:
            self._hear(message.body)

    def _hear(self, body: WordBody) -> None:
        match body:
            case Serving():
                self._serving()
            case Beat():
                pass
            case ConnectionChanged(connection=connection):
                self._carrying.connections.changed(connection)
            case ConnectionRemoved(id=id):
                self._carrying.connections.removed(id)

    async def _answer(self, question: Question) -> None:
        reply: Answer | Refused
        try:
            result = await self._found(question.body)
            reply = Answer(number=question.number, result=msgspec.Raw(_result(result)))
        except OperationError as error:
            reply = _refusal(question.number, error)
        except RegistryError as error:
            reply = _refusal(question.number, from_registry(error))
        except Exception:
            log.exception("a question of the control API's failed", extra={"question": type(question.body).__name__})
            reply = _refusal(question.number, Internal())
        self._send(encode(reply))

    async def _found(self, body: QuestionBody) -> Any:
        carrying = self._carrying
        match body:
            case HangUp():
                return await carrying.calls.hang_up(body.account, body.call, body.by, body.headers)
            case CommandMedia():
                return await carrying.calls.command(body.account, body.command)
            case Perform():
                return await carrying.calls.perform(body.account, body.call, body.instructions)
            case Hold():
                return await carrying.calls.hold(body.account, body.call)
            case Resume():
                return await carrying.calls.resume(body.account, body.call)
            case ReadLive():
                return await carrying.calls.live(body.account, body.call)
            case Place():
                request = PlaceCall.model_validate_json(body.request)
                return await carrying.outgoing.place(body.account, request, body.key)
            case Transfer():
                wish = TransferCall.model_validate_json(body.request)
                return await carrying.outgoing.transfer(body.account, body.call, wish)
            case RecordingIsLive():
                return await carrying.recordings.live(body.call)
            case ReadRecording():
                return await carrying.recordings.read(body.call, body.by)
            case DeleteRecording():
                return await carrying.recordings.delete(body.call, body.by)
            case Announce():
                return await carrying.announcer.announce(body.announced)
            case Refer():
                return await carrying.announcer.referred(body.call_sids)
            case Progressed():
                return await carrying.announcer.progressed(body.call, body.status)
            case ReadReadiness():
                return await carrying.health.readiness()
            case ReadReadings():
                return await carrying.health.readings()


def _refusal(number: int, error: OperationError) -> Refused:
    return Refused(
        number=number,
        error=type(error).__name__,
        message=error.message,
        details=error.details,
        retry_after_s=error.retry_after_s,
    )
