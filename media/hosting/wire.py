"""What a call's media and the agent's host say to each other, and a host to what keeps it.

One connection is one call. On it are the frames of :mod:`media.pipe`; a frame's first byte is its :class:`Kind`. Audio
is raw: 16-bit samples in host byte order, for both ends are on one machine. The rest is small and rare, in MessagePack.
Either end may close the connection: media's close is the end of the call, the host's the loss of the agent.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, TypeVar

import msgspec

from media.messages import AgentSpec, CallContext

__all__ = [
    "FRAME_LIMIT_BYTES",
    "VERSION",
    "Ask",
    "BadFrame",
    "Digit",
    "Ended",
    "Failed",
    "Kind",
    "Load",
    "Open",
    "Parting",
    "Tell",
    "audio",
    "decode",
    "encode",
    "number",
    "numbered",
    "read_audio",
]

VERSION: Final = 1

FRAME_LIMIT_BYTES: Final = 256 * 1024
"""More than a second of audio at 48 kHz, or any call's facts."""


class Kind(IntEnum):
    """A frame's first byte: below 64 from media to the host, from there on back."""

    OPEN = 1
    """:class:`Open`, the first and once."""
    AUDIO = 2
    """20 ms of the caller: see :func:`audio`."""
    ESTABLISHED = 3
    """The phone is answered: audio flows."""
    DIGIT = 4
    """:class:`Digit`."""
    REACHED = 5
    """A mark's number: playout has reached it."""
    CLEARED = 6
    """A mark's number: it was cleared away."""
    TELL = 7
    """:class:`Tell`."""

    STARTED = 64
    """The agent has been told of the call."""
    ANSWER = 65
    """Answer the phone now."""
    PLAY = 66
    """Audio of any length."""
    CLEAR = 67
    """Forget what is queued."""
    MARK = 68
    """A mark's number."""
    DIGITS = 69
    """ASCII, for the phone."""
    ASK = 70
    """:class:`Ask`."""
    HANG_UP = 71
    """:class:`Parting`; after all that is queued."""
    DROPPED = 72
    """A number of audio frames that the agent did not take in time."""
    FAILED = 73
    """:class:`Failed`, the last."""
    ENDED = 74
    """:class:`Ended`, the last."""


class BadFrame(Exception):
    """Bytes that are no frame of this version."""


class Open(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The call, and which agent is to have it."""

    agent: AgentSpec
    context: CallContext
    version: int = VERSION


class Digit(msgspec.Struct, frozen=True, array_like=True):
    """The caller pressed it, for so long [ms]."""

    digit: str
    duration_ms: int


class Tell(msgspec.Struct, frozen=True, array_like=True):
    """:class:`media.messages.TellAgent`."""

    event: str
    data: dict[str, str | int | float | bool | None]


class Ask(msgspec.Struct, frozen=True, array_like=True):
    """:class:`media.messages.AgentAsks`."""

    verb: str
    arguments: dict[str, str]


class Parting(msgspec.Struct, frozen=True, array_like=True):
    """The headers that the agent wants on the BYE."""

    headers: dict[str, str]


class Failed(msgspec.Struct, frozen=True, array_like=True):
    """The agent was not reached; ``cause`` as in :class:`media.messages.AgentFailed`."""

    cause: str
    message: str


class Ended(msgspec.Struct, frozen=True, array_like=True):
    """The agent is gone; ``cause`` is ``closed`` or ``lost``."""

    cause: str
    message: str


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """A host to what keeps it, at each change and every beat.

    ``calls`` it carries, ``taken`` connections it ever took over.
    """

    calls: int
    taken: int


_encoder: Final = msgspec.msgpack.Encoder()
_AUDIO: Final = struct.Struct(">BIII")
_NUMBERED: Final = struct.Struct(">BI")
_WRAP: Final = 0xFFFFFFFF

T = TypeVar("T")


def encode(kind: Kind, body: msgspec.Struct | None = None) -> bytes:
    """A frame of that kind."""
    return bytes((kind,)) + (b"" if body is None else _encoder.encode(body))


def decode(data: bytes, kind: type[T]) -> T:
    """The body of a frame. Raises :class:`BadFrame`."""
    try:
        return msgspec.msgpack.decode(memoryview(data)[1:], type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadFrame(str(error)) from error


def numbered(kind: Kind, value: int) -> bytes:
    """A frame that is one number, modulo 2³²."""
    return _NUMBERED.pack(kind, value & _WRAP)


def number(data: bytes) -> int:
    """The number of such a frame. Raises :class:`BadFrame`."""
    try:
        value: int = _NUMBERED.unpack(data)[1]
    except struct.error as error:
        raise BadFrame(str(error)) from error
    return value


def audio(at_ms: int, queued_ms: int, taken_bytes: int, samples: bytes) -> bytes:
    """20 ms of the caller, ``at_ms`` [ms] after the start of the call's audio.

    With it goes how much of the agent's audio is still to be heard [ms], counting the first ``taken_bytes`` (modulo
    2³²) that the agent has sent. So the host knows at any time what waits, whatever is on its way.
    """
    return _AUDIO.pack(Kind.AUDIO, at_ms & _WRAP, queued_ms & _WRAP, taken_bytes & _WRAP) + samples


def read_audio(data: bytes) -> tuple[int, int, int, bytes]:
    """``at_ms, queued_ms, taken_bytes, samples`` of :func:`audio`. Raises :class:`BadFrame`."""
    try:
        _, at_ms, queued_ms, taken_bytes = _AUDIO.unpack_from(data)
    except struct.error as error:
        raise BadFrame(str(error)) from error
    return at_ms, queued_ms, taken_bytes, data[_AUDIO.size :]
