"""jambonz's ``listen``, spoken to an agent's own WebSocket server as jambonz speaks it, streaming both ways.

:class:`Stream` is the protocol without I/O; :class:`JambonzAgent` joins it to a link. Audio is binary, linear 16-bit
little-endian, mono; all else is JSON text: https://docs.jambonz.org/verbs/verbs/listen
"""

from __future__ import annotations

import io
import wave
from collections.abc import Mapping
from functools import partial
from typing import Final, cast

import msgspec

from media.agents.base import AgentPort, BadAgent, Host
from media.agents.linked import AgentLink, Unacknowledged, WebSocketAgent
from media.convert import LINEAR, WholeSamples, little_endian
from media.messages import CallContext
from media.resample import Resampler
from media.websocket import Headers, Link

__all__ = [
    "RATES_HZ",
    "Disconnect",
    "ForgetMarks",
    "JambonzAgent",
    "Kill",
    "Mark",
    "Play",
    "Stream",
    "Transfer",
]

SUBPROTOCOL: Final = "audio.jambonz.org"

RATES_HZ: Final = (8000, 16000, 24000)

_CLIP_RATES_HZ: Final = frozenset((8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 64000))
"""Of ``playAudio``: jambonz's own for raw audio, and those that WAV files come in."""

_DTMF_CLOCK_PER_MS: Final = 8


class Play(msgspec.Struct, frozen=True):
    """``playAudio``: a clip in host byte order at ``rate_hz``; ``id`` comes back with ``playDone``.

    ``interrupts``: in place of what is being played, instead of after it.
    """

    samples: bytes
    rate_hz: int
    id: str | int | None = None
    interrupts: bool = False


class Kill(msgspec.Struct, frozen=True):
    """``killAudio``."""


class Mark(msgspec.Struct, frozen=True):
    """``mark``."""

    name: str


class ForgetMarks(msgspec.Struct, frozen=True):
    """``clearMarks``: those that are outstanding are not told of."""


class Disconnect(msgspec.Struct, frozen=True):
    """``disconnect``: the end of the call here, where there is no next verb.

    ``headers`` go on the BYE, as those of jambonz's verb ``hangup`` do.
    """

    headers: dict[str, str] = {}


class Transfer(msgspec.Struct, frozen=True):
    """``transfer``, to a number or a SIP URI."""

    target: str


Command = Play | Kill | Mark | ForgetMarks | Disconnect | Transfer


class _Clip(msgspec.Struct):
    audioContent: bytes  # noqa: N815 - base64 in JSON
    audioContentType: str = "raw"  # noqa: N815
    sampleRate: int | str = 16000  # noqa: N815
    id: str | int | None = None
    queuePlay: bool | None = None  # noqa: N815


class _Named(msgspec.Struct):
    name: str = ""


class _Target(msgspec.Struct):
    target: str = ""
    to: str = ""


class _Parting(msgspec.Struct):
    headers: dict[str, str] = {}


class _Heard(msgspec.Struct):
    type: str
    data: msgspec.Raw = msgspec.Raw(b"")
    name: str = ""


_decode_heard = msgspec.json.Decoder(_Heard).decode
_decode_clip = msgspec.json.Decoder(_Clip).decode
_decode_named = msgspec.json.Decoder(_Named).decode
_decode_target = msgspec.json.Decoder(_Target).decode
_decode_parting = msgspec.json.Decoder(_Parting).decode
_encode = msgspec.json.Encoder().encode


class Stream:
    """One call's stream: builds the text messages to the agent, reads the ones from it."""

    LONGEST_NAME: Final = 1024
    LONGEST_TARGET: Final = 1000

    __slots__ = ("_parameters", "_rate_hz", "context", "ignored")

    def __init__(self, context: CallContext, parameters: Mapping[str, str], rate_hz: int) -> None:
        self.context = context
        self.ignored = 0
        self._parameters = parameters
        self._rate_hz = rate_hz

    # --- to the agent -------------------------------------------------------------------------

    def attributes(self) -> bytes:
        """The first message. jambonz lays its ``metadata`` among the call's attributes, and so are they here.

        None of the call's own can be overridden; under ``metadata`` they are whole once more.
        """
        call = self.context
        given = call.told(self._parameters)
        return _encode(
            {
                **given,
                "callSid": call.call_sid,
                "direction": call.direction,
                "from": call.from_number,
                "to": call.to_number,
                "callerId": call.from_number,
                "callerName": call.caller_name,
                "callId": call.sip_call_id,
                "sipCallId": call.sip_call_id,
                "callStatus": "ringing",
                "sipStatus": 180,
                "sipReason": "Ringing",
                "accountSid": call.account_sid,
                "originatingSipTrunkName": call.trunk,
                "sampleRate": self._rate_hz,
                "mixType": "mono",
                "metadata": given,
            }
        )

    def dtmf(self, digit: str, duration_ms: int) -> bytes:
        """``dtmf``; jambonz tells the duration in RTP's clock, as text."""
        return _encode({"event": "dtmf", "dtmf": digit, "duration": str(duration_ms * _DTMF_CLOCK_PER_MS)})

    def mark(self, name: str, event: str) -> bytes:
        """``mark``; ``event`` is ``playout`` or ``cleared``."""
        return _encode({"type": "mark", "data": {"name": name, "event": event}})

    def play_done(self, id: str) -> bytes:
        """``playDone``: a clip has been played, or was killed; ``id`` is its own as JSON, "" for none."""
        return _encode({"type": "playDone", "data": {"id": msgspec.Raw(id.encode())} if id else {}})

    def event(self, event: str, data: Mapping[str, object]) -> bytes:
        """What jambonz has no message for: a transfer's progress, hold, who has answered."""
        return _encode({**data, "event": event})

    # --- from the agent -----------------------------------------------------------------------

    def read(self, data: bytes) -> Command | None:
        """One text message; None, and counted in ``ignored``, for what is unknown or junk."""
        try:
            heard = _decode_heard(data)
            command = self._command(heard)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError, EOFError, wave.Error):
            command = None
        if command is None:
            self.ignored += 1
        return command

    def _command(self, heard: _Heard) -> Command | None:
        match heard.type:
            case "playAudio":
                return _clip(_decode_clip(heard.data))
            case "killAudio":
                return Kill()
            case "mark":
                name = (_decode_named(heard.data).name if heard.data else "") or heard.name
                return Mark(name) if len(name) <= self.LONGEST_NAME else None
            case "clearMarks":
                return ForgetMarks()
            case "disconnect":
                return Disconnect(_decode_parting(heard.data).headers if heard.data else {})
            case "transfer":
                given = _decode_target(heard.data)
                target = given.target or given.to
                return Transfer(target) if 0 < len(target) <= self.LONGEST_TARGET else None
        return None


def _clip(clip: _Clip) -> Play | None:
    """The samples of a ``playAudio``; ValueError, EOFError or wave.Error for bytes that are no such audio."""
    if clip.audioContentType == "raw":
        samples, rate_hz = little_endian(clip.audioContent[: len(clip.audioContent) & ~1]), int(clip.sampleRate)
    elif clip.audioContentType in ("wav", "wave"):
        samples, rate_hz = _wav(clip.audioContent)
    else:
        return None
    if rate_hz not in _CLIP_RATES_HZ:
        return None
    return Play(samples, rate_hz, clip.id, clip.queuePlay is False)


def _wav(data: bytes) -> tuple[bytes, int]:
    with wave.open(io.BytesIO(data), "rb") as file:
        if file.getsampwidth() != 2 or file.getnchannels() != 1:
            raise ValueError("neither mono nor 16-bit")
        return little_endian(file.readframes(file.getnframes())), file.getframerate()


class JambonzAgent(WebSocketAgent):
    """The agent behind ``spec.url``; ``spec.sample_rate`` both ways."""

    headers: Headers = (("Sec-WebSocket-Protocol", SUBPROTOCOL),)

    def __init__(self, host: Host) -> None:
        """Raises :class:`BadAgent` for a URL that is none, or another rate."""
        super().__init__(host)
        rate_hz = host.spec.sample_rate or 8000
        if rate_hz not in RATES_HZ:
            raise BadAgent("jambonz-listen carries 8000, 16000 or 24000 Hz")
        self.encoding = self._encoding = LINEAR[rate_hz]
        self._rate_hz = rate_hz
        self._stream = Stream(host.context, host.spec.parameters, rate_hz)
        self._marks = Unacknowledged()
        self._whole = WholeSamples()

    # --- to the agent ---------------------------------------------------------------------------

    def on_digit(self, digit: str, duration_ms: int) -> None:
        """``dtmf``."""
        self._tell(partial(self._stream.dtmf, digit, duration_ms))

    def on_mark(self, name: str) -> None:
        """``mark`` or ``playDone``."""
        self._reached(name, "playout")

    def on_event(self, event: str, data: Mapping[str, object]) -> None:
        """As JSON, under ``event``."""
        self._tell(partial(self._stream.event, event, dict(data)))

    def _reached(self, key: str, how: str) -> None:
        marked = self._marks.take(key)
        if marked is None:
            return
        kind, name = marked
        if kind == "play":
            self._tell(partial(self._stream.play_done, name))
        else:
            self._tell(partial(self._stream.mark, name, how))

    def _opened(self, port: AgentPort) -> None:
        if self._link is not None:
            self._link.send(self._stream.attributes())
            port.started()

    def _audio(self, number: int, at_ms: int, frame: bytes) -> bytes:
        return little_endian(frame)

    def _send_audio(self, link: AgentLink, message: bytes) -> None:
        cast(Link, link).send_binary(message)

    # --- from the agent -------------------------------------------------------------------------

    def _heard(self, data: bytes, text: bool, port: AgentPort) -> None:
        if not text:
            port.play(little_endian(self._whole(data)), self._encoding)
            return
        command = self._stream.read(data)
        self._counts.ignored = self._stream.ignored
        if command is not None:
            self._obey(command, port)

    def _obey(self, command: Command, port: AgentPort) -> None:
        match command:
            case Play():
                self._play(command, port)
            case Kill():
                self._kill(port)
            case Mark(name=name):
                self._mark("mark", name, port)
            case ForgetMarks():
                self._marks.forget("mark")
            case Disconnect(headers=headers):
                port.hang_up(headers)
            case Transfer(target=target):
                port.ask("transfer", {"target": target})

    def _play(self, clip: Play, port: AgentPort) -> None:
        if clip.interrupts:
            self._kill(port)
        port.play(_at(clip.samples, clip.rate_hz, self._rate_hz), self._encoding)
        self._mark("play", "" if clip.id is None else _encode(clip.id).decode(), port)

    def _kill(self, port: AgentPort) -> None:
        self._whole.clear()
        for name in port.clear():
            self._reached(name, "cleared")

    def _mark(self, kind: str, name: str, port: AgentPort) -> None:
        key = self._marks.add(kind, name)
        if key is None:
            self._stream.ignored += 1
            self._counts.ignored = self._stream.ignored
        else:
            port.mark(key)


def _at(samples: bytes, source_hz: int, target_hz: int) -> bytes:
    """A whole clip at another rate, a second at a time: what is worked on stays small."""
    if source_hz == target_hz:
        return samples
    resample, second = Resampler(source_hz, target_hz), 2 * source_hz
    return b"".join(resample(samples[at : at + second]) for at in range(0, len(samples), second))
