"""What the carriers' media streams have in common: JSON text frames with G.711 in base64.

:class:`MediaStream` is a stream without I/O, :class:`MediaStreamAgent` joins one to a WebSocket; each carrier's
framing is a module of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from typing import Any, Final

import msgspec

from media.agents.base import AgentCounts, AgentPort, Encoding, Host
from media.agents.linked import WebSocketAgent

__all__ = ["Clear", "Mark", "MediaStream", "MediaStreamAgent", "Play", "encode"]


class Play(msgspec.Struct, frozen=True, gc=False):
    """The agent's ``media``: G.711 of any length."""

    audio: bytes


class Mark(msgspec.Struct, frozen=True, gc=False):
    """The agent's ``mark``; ``name`` is "" when it has none."""

    name: str


class Clear(msgspec.Struct, frozen=True, gc=False):
    """The agent's ``clear``."""


class _Media(msgspec.Struct, gc=False):
    payload: bytes  # base64 in JSON


class _Said(msgspec.Struct, gc=False):
    event: str
    media: _Media
    streamSid: str | None = None  # noqa: N815 - Twilio's name of it
    stream_id: str | None = None


class _Named(msgspec.Struct):
    name: Any = None


class _Heard(msgspec.Struct):
    event: str
    streamSid: str | None = None  # noqa: N815 - Twilio's name of it
    stream_id: str | None = None
    media: msgspec.Raw = msgspec.Raw(b"")
    mark: msgspec.Raw = msgspec.Raw(b"")


_decode_said = msgspec.json.Decoder(_Said).decode
_decode_heard = msgspec.json.Decoder(_Heard).decode
_decode_media = msgspec.json.Decoder(_Media).decode
_decode_mark = msgspec.json.Decoder(_Named | None).decode
encode = msgspec.json.Encoder().encode


class MediaStream(ABC):
    """One call's stream: builds the messages to the agent, reads the ones from it."""

    LONGEST_NAME: Final = 1024
    """Of a mark; marks are kept until playout reaches them."""

    __slots__ = ("ignored", "stream_id")

    def __init__(self, stream_id: str) -> None:
        self.stream_id = stream_id
        self.ignored = 0

    # --- to the agent -------------------------------------------------------------------------

    @abstractmethod
    def start(self) -> bytes:
        """The call's facts, before anything else."""

    @abstractmethod
    def media(self, chunk: int, at_ms: int, audio: bytes) -> bytes:
        """The caller's audio ``at_ms`` [ms] after the start of the call's audio."""

    @abstractmethod
    def dtmf(self, digit: str) -> bytes:
        """The caller pressed a digit."""

    @abstractmethod
    def mark(self, name: str) -> bytes:
        """Playout has reached the agent's mark of that name."""

    @abstractmethod
    def stop(self) -> bytes:
        """The last message."""

    # --- from the agent -----------------------------------------------------------------------

    def read(self, data: bytes) -> Play | Mark | Clear | None:
        """One message of the agent's; None, and counted in ``ignored``, for what is unknown, junk or another stream's.

        A message that names no stream is taken as this stream's.
        """
        try:
            said = _decode_said(data)
            if said.event == "media" and (said.streamSid or said.stream_id or self.stream_id) == self.stream_id:
                return Play(said.media.payload)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass  # no audio: looked at more closely
        try:
            heard = _decode_heard(data)
            named = heard.streamSid or heard.stream_id
            if named and named != self.stream_id:
                return self._ignore()
            if heard.event == "media":
                return Play(_decode_media(heard.media).payload)
            if heard.event == "mark":
                name = _name(heard.mark)
                return Mark(name) if len(name) <= self.LONGEST_NAME else self._ignore()
        except (msgspec.DecodeError, UnicodeDecodeError):
            return self._ignore()
        return Clear() if heard.event == "clear" else self._ignore()

    def _ignore(self) -> Play | Mark | Clear | None:
        self.ignored += 1
        return None


def _name(mark: msgspec.Raw) -> str:
    """Agents send marks without a name, or without a body."""
    named = _decode_mark(mark) if mark else None
    if named is None or named.name is None:
        return ""
    return named.name if isinstance(named.name, str) else str(named.name)


class MediaStreamAgent(WebSocketAgent):
    """The agent behind ``spec.url``; ``law`` both ways, from its start to its end."""

    def __init__(self, host: Host, stream: MediaStream, connected: bytes, law: Encoding) -> None:
        """``connected`` goes before ``start``. Raises :class:`~media.agents.base.BadAgent` for a URL that is none."""
        super().__init__(host)
        self.encoding = law
        self._stream = stream
        self._connected = connected
        self._law = law

    @property
    def counts(self) -> AgentCounts:
        """The statistics' part."""
        self._counts.ignored = self._stream.ignored
        return self._counts

    def on_digit(self, digit: str, duration_ms: int) -> None:
        """``dtmf``."""
        self._tell(partial(self._stream.dtmf, digit))

    def on_mark(self, name: str) -> None:
        """``mark``, back to the agent."""
        self._tell(partial(self._stream.mark, name))

    def _opened(self, port: AgentPort) -> None:
        if self._link is not None:
            self._link.send(self._connected)
            self._link.send(self._stream.start())
            port.started()

    def _audio(self, number: int, at_ms: int, frame: bytes) -> bytes:
        return self._stream.media(number, at_ms, frame)

    def _heard(self, data: bytes, text: bool, port: AgentPort) -> None:
        """Binary messages are no carrier's, and are read all the same."""
        message = self._stream.read(data)
        if isinstance(message, Play):
            port.play(message.audio, self._law)
        elif isinstance(message, Mark):
            port.mark(message.name)
        elif message is not None:
            for name in port.clear():
                self.on_mark(name)

    def _farewell(self) -> bytes:
        return self._stream.stop()
