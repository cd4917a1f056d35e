"""The typed, versioned messages between the control API's process and the one that carries calls.

The API's sends a :class:`Question`, which gets one :class:`Answer` or :class:`Refused` of its number, and
:class:`Word`, which gets none. The other begins with :class:`Begin` and ends with :class:`Finish`. Neither outlives
the pipe, so that no message of an earlier life can arrive.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from control.instructions import Instruction
from control.live_calls import CallCommand
from control.passes import Announced
from control.registry.types import Connection
from media.messages import decoded

__all__ = [
    "Announce",
    "Answer",
    "Beat",
    "Begin",
    "CommandMedia",
    "ConnectionChanged",
    "ConnectionRemoved",
    "DeleteRecording",
    "Finish",
    "FromApi",
    "FromCalls",
    "HangUp",
    "Hold",
    "Perform",
    "Place",
    "Progressed",
    "Question",
    "ReadLive",
    "ReadReadiness",
    "ReadReadings",
    "ReadRecording",
    "RecordingIsLive",
    "Refer",
    "Refused",
    "Resume",
    "Serving",
    "Transfer",
    "Word",
    "decode_from_api",
    "decode_from_calls",
    "encode",
]

PROTOCOL_VERSION: Final = 1


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Base of all; the tag is the class's name. An ``account`` is who asks: another's calls do not exist."""


# --- of live calls: control.live_calls.LiveCalls ---


class HangUp(Message, frozen=True, kw_only=True):
    """Answered with a bool."""

    account: str
    call: str
    by: str
    headers: dict[str, str]


class CommandMedia(Message, frozen=True, kw_only=True):
    """Answered with media's result, or None."""

    account: str
    command: CallCommand


class Perform(Message, frozen=True, kw_only=True):
    """Answered with media's result, or None."""

    account: str
    call: str
    instructions: tuple[Instruction, ...]


class Hold(Message, frozen=True, kw_only=True):
    """Answered with a :class:`control.hold.HoldOutcome`."""

    account: str
    call: str


class Resume(Message, frozen=True, kw_only=True):
    """Answered with a :class:`control.hold.HoldOutcome`."""

    account: str
    call: str


class ReadLive(Message, frozen=True, kw_only=True):
    """Answered with a :class:`control.live_calls.LiveCall`, or None."""

    account: str
    call: str


# --- of calls to be: control.outgoing.Outgoing; a ``request`` is the API's own, as JSON ---


class Place(Message, frozen=True, kw_only=True):
    """Answered with the call's id."""

    account: str
    request: bytes
    key: str | None = None


class Transfer(Message, frozen=True, kw_only=True):
    """Answered with a :class:`control.outgoing.Begun`."""

    account: str
    call: str
    request: bytes


# --- of recordings: control.recordings.CallRecordings ---


class RecordingIsLive(Message, frozen=True, kw_only=True):
    """Answered with a bool."""

    call: str


class ReadRecording(Message, frozen=True, kw_only=True):
    """It has been read; answered with None."""

    call: str
    by: str


class DeleteRecording(Message, frozen=True, kw_only=True):
    """Answered with a bool."""

    call: str
    by: str


# --- of webhooks: control.announcements.Announcer ---


class Announce(Message, frozen=True, kw_only=True):
    """Answered with a :class:`control.announcements.Announcement`."""

    announced: Announced


class Refer(Message, frozen=True, kw_only=True):
    """Answered with TwiML, or None."""

    call_sids: tuple[str, ...]


class Progressed(Message, frozen=True, kw_only=True):
    """Answered with None."""

    call: str
    status: str


# --- of the edge ---


class ReadReadiness(Message, frozen=True, kw_only=True):
    """Answered with a :class:`control.readiness.Readiness`."""


class ReadReadings(Message, frozen=True, kw_only=True):
    """Answered with :data:`control.metrics.Readings`."""


QuestionBody = (
    HangUp
    | CommandMedia
    | Perform
    | Hold
    | Resume
    | ReadLive
    | Place
    | Transfer
    | RecordingIsLive
    | ReadRecording
    | DeleteRecording
    | Announce
    | Refer
    | Progressed
    | ReadReadiness
    | ReadReadings
)

# --- without an answer ---


class Serving(Message, frozen=True, kw_only=True):
    """Requests are taken."""


class Beat(Message, frozen=True, kw_only=True):
    """A sign of life."""


class ConnectionChanged(Message, frozen=True, kw_only=True):
    """:meth:`control.providers.Connections.changed`."""

    connection: Connection


class ConnectionRemoved(Message, frozen=True, kw_only=True):
    """:meth:`control.providers.Connections.removed`."""

    id: str


WordBody = Serving | Beat | ConnectionChanged | ConnectionRemoved

# --- envelopes ---


class Question(Message, frozen=True, kw_only=True):
    """``number`` is this life's."""

    number: int
    body: QuestionBody
    version: int = PROTOCOL_VERSION


class Word(Message, frozen=True, kw_only=True):
    """Nothing is waited for."""

    body: WordBody
    version: int = PROTOCOL_VERSION


class Answer(Message, frozen=True, kw_only=True):
    """``result`` is of the type that the question says."""

    number: int
    result: msgspec.Raw
    version: int = PROTOCOL_VERSION


class Refused(Message, frozen=True, kw_only=True):
    """An :class:`control.errors.OperationError`, by its class's name."""

    number: int
    error: str
    message: str
    details: dict[str, Any]
    retry_after_s: int | None = None
    version: int = PROTOCOL_VERSION


class Begin(Message, frozen=True, kw_only=True):
    """Serve: ``settings`` as :func:`control.apart.settings.packed` has them, ``listening`` what SIP listens on."""

    settings: bytes
    listening: tuple[str, ...]
    version: int = PROTOCOL_VERSION


class Finish(Message, frozen=True, kw_only=True):
    """Take no more requests, answer those there are, and leave."""

    version: int = PROTOCOL_VERSION


FromApi = Question | Word
FromCalls = Begin | Answer | Refused | Finish

_encoder = msgspec.msgpack.Encoder()
_from_api: msgspec.msgpack.Decoder[FromApi] = msgspec.msgpack.Decoder(FromApi)
_from_calls: msgspec.msgpack.Decoder[FromCalls] = msgspec.msgpack.Decoder(FromCalls)


def encode(message: FromApi | FromCalls) -> bytes:
    """The wire form (MessagePack)."""
    return _encoder.encode(message)


def decode_from_api(data: bytes) -> FromApi:
    """One message; raises :class:`media.messages.ProtocolError`."""
    return decoded(_from_api, data, PROTOCOL_VERSION)


def decode_from_calls(data: bytes) -> FromCalls:
    """One message; raises :class:`media.messages.ProtocolError`."""
    return decoded(_from_calls, data, PROTOCOL_VERSION)
