"""Twilio Media Streams, spoken to an agent's own WebSocket server as Twilio speaks it.

:class:`Stream` is the protocol without I/O; :class:`TwilioAgent` joins it to a link. JSON text frames,
μ-law 8 kHz in base64: https://www.twilio.com/docs/voice/media-streams/websocket-messages
"""

from __future__ import annotations

from binascii import b2a_base64
from collections import deque
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from media.agents.base import AgentCounts, AgentPort, BadAgent, Encoding, Host
from media.g711 import PCMU
from media.messages import CallContext
from media.websocket import FailureCause, Link

__all__ = ["Clear", "Mark", "Play", "Stream", "TwilioAgent"]


class Play(msgspec.Struct, frozen=True, gc=False):
    """The agent's ``media``: μ-law of any length."""

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
    streamSid: str | None = None  # noqa: N815 - the wire's name


class _Named(msgspec.Struct):
    name: Any = None


class _Heard(msgspec.Struct):
    event: str
    streamSid: str | None = None  # noqa: N815 - the wire's name
    media: msgspec.Raw = msgspec.Raw(b"")
    mark: msgspec.Raw = msgspec.Raw(b"")


_decode_said = msgspec.json.Decoder(_Said).decode
_decode_heard = msgspec.json.Decoder(_Heard).decode
_decode_media = msgspec.json.Decoder(_Media).decode
_decode_mark = msgspec.json.Decoder(_Named | None).decode
_encode = msgspec.json.Encoder().encode

CONNECTED: Final = _encode({"event": "connected", "protocol": "Call", "version": "1.0.0"})


class Stream:
    """One call's stream: builds the messages to the agent, reads the ones from it.

    ``sequenceNumber`` counts the messages as they are sent, from ``start`` on. ``stream_sid`` is
    ``MZ`` and 32 hexadecimal digits.
    """

    LONGEST_NAME: Final = 1024
    """Of a mark; marks are kept until playout reaches them."""

    __slots__ = ("_media_format", "_parameters", "_sequence", "_sid_json", "context", "ignored", "stream_sid")

    def __init__(self, stream_sid: str, context: CallContext, parameters: dict[str, str]) -> None:
        self.stream_sid = stream_sid
        self.context = context
        self.ignored = 0
        self._parameters = parameters
        self._sequence = 0
        sid = stream_sid.encode("ascii").replace(b"%", b"%%")
        self._media_format = (
            b'{"event":"media","sequenceNumber":"%d","streamSid":"' + sid + b'","media":{"track":"inbound",'
            b'"chunk":"%d","timestamp":"%d","payload":"%b"}}'
        )

    # --- to the agent -------------------------------------------------------------------------

    def start(self) -> bytes:
        """``start``; the call's own facts cannot be overridden by the agent's parameters."""
        call = self.context
        custom = {
            **call.headers,
            **self._parameters,
            "from_number": call.from_number,
            "to_number": call.to_number,
        }
        return self._message(
            "start",
            {
                "streamSid": self.stream_sid,
                "accountSid": call.account_sid,
                "callSid": call.call_sid,
                "tracks": ["inbound"],
                "customParameters": custom,
                "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            },
        )

    def media(self, chunk: int, at_ms: int, ulaw: bytes) -> bytes:
        """``media``: the caller's audio ``at_ms`` [ms] after the start of the call's audio."""
        self._sequence += 1
        return self._media_format % (self._sequence, chunk, at_ms, b2a_base64(ulaw, newline=False))

    def dtmf(self, digit: str) -> bytes:
        """``dtmf``."""
        return self._message("dtmf", {"track": "inbound_track", "digit": digit})

    def mark(self, name: str) -> bytes:
        """``mark``: playout has reached the agent's mark of that name."""
        return self._message("mark", {"name": name})

    def stop(self) -> bytes:
        """``stop``, the last message."""
        return self._message("stop", {"accountSid": self.context.account_sid, "callSid": self.context.call_sid})

    def _message(self, event: str, body: dict[str, Any]) -> bytes:
        self._sequence += 1
        return _encode(
            {"event": event, "sequenceNumber": str(self._sequence), "streamSid": self.stream_sid, event: body}
        )

    # --- from the agent -----------------------------------------------------------------------

    def read(self, data: bytes) -> Play | Mark | Clear | None:
        """One message of the agent's; None, and counted in ``ignored``, for what is unknown, junk or another stream's.

        A message without ``streamSid`` is taken as this stream's.
        """
        try:
            said = _decode_said(data)
            if said.event == "media" and (said.streamSid == self.stream_sid or not said.streamSid):
                return Play(said.media.payload)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass  # no audio: looked at more closely
        try:
            heard = _decode_heard(data)
            if heard.streamSid and heard.streamSid != self.stream_sid:
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


class TwilioAgent:
    """The agent behind ``spec.url``. Caller audio waits here, bounded, while the agent reads too slowly."""

    BACKLOG_FRAMES: Final = 100
    """2 s of caller audio; then the oldest is dropped: a late agent hears what is said now."""
    BACKLOG_MESSAGES: Final = 1000

    encoding: Encoding | None = PCMU

    def __init__(self, host: Host) -> None:
        """Raises :class:`BadAgent` for a URL that is none."""
        self._url = _checked(host.spec.url)
        self._host = host
        self._stream = Stream("MZ" + host.entropy(16).hex(), host.context, host.spec.parameters)
        self._counts = AgentCounts()
        self._port: AgentPort | None = None
        self._link: Link | None = None
        self._chunk = 0
        self._frames: deque[tuple[int, int, bytes]] = deque()
        self._others: deque[tuple[int, str, str]] = deque()  # each after the frame of that number

    @property
    def counts(self) -> AgentCounts:
        """The statistics' part."""
        self._counts.ignored = self._stream.ignored
        return self._counts

    # --- the bridge calls these -----------------------------------------------------------------

    def open(self, port: AgentPort) -> None:
        """Connect; ``connected`` and ``start`` go as soon as the handshake is done."""
        self._port = port
        name = f"agent {self._host.context.call_sid}"
        self._link = self._host.websockets.connect(
            self._url, self, self._host.spec.agent_timeout_s, name, self._host.request_headers(self._url)
        )

    def on_start(self) -> None:
        """Media follows; Twilio has no message for it."""

    def on_audio(self, frame: bytes, at_ms: int) -> None:
        """One ``media`` message, or one more in the backlog."""
        link = self._link
        if link is None:
            return
        self._chunk += 1
        if link.writable and not self._frames and not self._others:
            link.send(self._stream.media(self._chunk, at_ms, frame))
            self._counts.sent += 1
            return
        if len(self._frames) >= self.BACKLOG_FRAMES:
            self._frames.popleft()
            self._counts.dropped += 1
        self._frames.append((self._chunk, at_ms, frame))

    def on_digit(self, digit: str, duration_ms: int) -> None:
        """``dtmf``."""
        self._say("dtmf", digit)

    def on_mark(self, name: str) -> None:
        """``mark``, back to the agent."""
        self._say("mark", name)

    def on_event(self, event: str, data: Mapping[str, object]) -> None:
        """Twilio's protocol has no message for it."""

    async def close(self) -> None:
        """``stop``, then the close handshake, which goes on after this returns."""
        self._port = None
        link, self._link = self._link, None
        if link is not None:
            link.send(self._stream.stop())
            link.close()

    # --- the link calls these -------------------------------------------------------------------

    def on_open(self) -> None:
        """Tell the agent of the call before anything else."""
        if self._link is not None and self._port is not None:
            self._link.send(CONNECTED)
            self._link.send(self._stream.start())
            self._port.started()

    def on_message(self, data: bytes, text: bool) -> None:
        """What the agent says; binary messages are not Twilio's, and are read all the same."""
        message = self._stream.read(data)
        port = self._port
        if message is None or port is None:
            return
        if isinstance(message, Play):
            port.play(message.audio, PCMU)
        elif isinstance(message, Mark):
            port.mark(message.name)
        else:
            for name in port.clear():
                self._say("mark", name)

    def on_writable(self) -> None:
        """The agent reads again: what it missed, digits and marks in their places."""
        link = self._link
        while link is not None and link.writable and self._backlog:
            if self._others and (not self._frames or self._others[0][0] < self._frames[0][0]):
                _, event, text = self._others.popleft()
                self._send(link, event, text)
            else:
                link.send(self._stream.media(*self._frames.popleft()))
                self._counts.sent += 1

    def on_failed(self, cause: FailureCause, message: str) -> None:
        """Not connected."""
        self._link = None
        if self._port is not None:
            self._port.failed(cause, message)

    def on_closed(self, orderly: bool, message: str) -> None:
        """The agent is gone."""
        self._link = None
        if self._port is not None:
            self._port.ended("closed" if orderly else "lost", message)

    # --------------------------------------------------------------------------------------------

    @property
    def _backlog(self) -> bool:
        return bool(self._frames or self._others)

    def _say(self, event: str, text: str) -> None:
        """A digit or a mark: never dropped for slowness, but an agent that reads none of 1000 is lost."""
        link = self._link
        if link is None:
            return
        if link.writable and not self._backlog:
            self._send(link, event, text)
        elif len(self._others) < self.BACKLOG_MESSAGES:
            self._others.append((self._chunk, event, text))
        else:
            self._link = None
            link.close()
            if self._port is not None:
                self._port.ended("lost", "the agent does not read")

    def _send(self, link: Link, event: str, text: str) -> None:
        link.send(self._stream.dtmf(text) if event == "dtmf" else self._stream.mark(text))


def _checked(url: str | None) -> str:
    """A WebSocket URL with a host; never repeated in the error, for it may carry a token."""
    if not url:
        raise BadAgent("twilio-media-streams needs a url")
    try:
        parts = urlsplit(url)
        port_is_sane = parts.port is None or parts.port > 0
    except ValueError:
        raise BadAgent("the agent's url cannot be read") from None
    if parts.scheme not in ("ws", "wss") or not parts.hostname or not port_is_sane or parts.fragment:
        raise BadAgent("the agent's url is no ws:// or wss:// URL")
    return url
