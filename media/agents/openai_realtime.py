"""OpenAI's Realtime API as the agent: the edge is the client, and there is no agent server at all.

:class:`Session` is the protocol without I/O; :class:`OpenAiAgent` joins it to a link and plays the model's part in the
call. G.711 goes through as it is. The present interface is spoken (``audio/pcmu``, ``response.output_audio.delta``),
and the one before it (``g711_ulaw``, ``response.audio.delta``) with a server whose first event has its shape:
https://platform.openai.com/docs/api-reference/realtime
"""

from __future__ import annotations

import logging
from binascii import b2a_base64
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import msgspec

from media.agents.announcement import transfer_failed
from media.agents.base import AgentPort, BadAgent, Encoding, Host
from media.agents.linked import WebSocketAgent
from media.convert import WholeSamples, little_endian
from media.g711 import PCMA, PCMU
from media.messages import CallContext, Realtime
from media.websocket import FailureCause, plain

__all__ = [
    "Audio",
    "Called",
    "Created",
    "Failed",
    "Finished",
    "OpenAiAgent",
    "Responding",
    "Session",
    "SpeechStarted",
    "Updated",
]

log = logging.getLogger("truedy.media.openai")

_LINEAR: Final[Encoding] = "L16/24000"
"""What the API has besides G.711, for a call that is neither of its laws."""

_FORMATS: Final[Mapping[str, tuple[dict[str, Any], str]]] = {
    PCMU: ({"type": "audio/pcmu"}, "g711_ulaw"),
    PCMA: ({"type": "audio/pcma"}, "g711_alaw"),
    _LINEAR: ({"type": "audio/pcm", "rate": 24000}, "pcm16"),
}
"""Its name now, and before."""

_TOOLS: Final[Mapping[str, dict[str, Any]]] = {
    "hang_up": {
        "type": "function",
        "name": "hang_up",
        "description": "End the phone call, after everything you have said has been heard. Say goodbye first.",
        "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
    },
    "transfer_call": {
        "type": "function",
        "name": "transfer_call",
        "description": "Transfer the caller to somebody else. Tell the caller first.",
        "parameters": {
            "type": "object",
            "properties": {
                "target": {"type": "string", "description": "A phone number in E.164 (+14155550123) or a SIP URI."}
            },
            "required": ["target"],
            "additionalProperties": False,
        },
    },
}

_KNOWN: Final = (
    "response.",
    "conversation.",
    "input_audio_buffer.",
    "output_audio_buffer.",
    "session.",
    "rate_limits.",
    "transcription_session.",
    "mcp_",
)
"""What the types of events begin with that the API has, and nothing here needs."""

_FATAL: Final = frozenset(
    (
        "session_expired",
        "invalid_api_key",
        "insufficient_quota",
        "billing_hard_limit_reached",
        "account_deactivated",
        "model_not_found",
    )
)
"""Errors after which the session says nothing more, whatever is tried."""

_HANDSHAKE: Final = {
    "HTTP 400": "OpenAI refuses the model or the request (HTTP 400)",
    "HTTP 401": "OpenAI refuses the API key (HTTP 401)",
    "HTTP 403": "OpenAI refuses the API key for this model (HTTP 403)",
    "HTTP 404": "OpenAI has no such model for this API key (HTTP 404)",
    "HTTP 429": "OpenAI's rate limit or quota is reached (HTTP 429)",
}


# --- events of the server's -----------------------------------------------------------------------


class Created(msgspec.Struct, frozen=True):
    """``session.created``; ``older``: the server has the interface of before."""

    older: bool


class Updated(msgspec.Struct, frozen=True):
    """``session.updated``: what was asked for holds."""


class Audio(msgspec.Struct, frozen=True, gc=False):
    """A piece of what the model says."""

    response_id: str
    item_id: str
    content_index: int
    audio: bytes


class SpeechStarted(msgspec.Struct, frozen=True):
    """``input_audio_buffer.speech_started``: the caller speaks; the server has broken off its response by itself."""


class Responding(msgspec.Struct, frozen=True):
    """``response.created``."""

    response_id: str


class Finished(msgspec.Struct, frozen=True):
    """``response.done``; ``code`` and ``message`` where ``status`` is ``failed``."""

    response_id: str
    status: str
    code: str = ""
    message: str = ""


class Called(msgspec.Struct, frozen=True):
    """The model calls a function; ``arguments`` are JSON, or what it takes for it."""

    call_id: str
    name: str
    arguments: str


class Failed(msgspec.Struct, frozen=True):
    """``error``."""

    code: str
    message: str


Event = Created | Updated | Audio | SpeechStarted | Responding | Finished | Called | Failed

_NONE: Final = msgspec.Raw(b"{}")


class _Event(msgspec.Struct):
    type: str
    response_id: str = ""
    item_id: str = ""
    content_index: int = 0
    delta: msgspec.Raw = _NONE
    session: msgspec.Raw = _NONE
    response: msgspec.Raw = _NONE
    item: msgspec.Raw = _NONE
    error: msgspec.Raw = _NONE


class _Problem(msgspec.Struct):
    message: str | None = None
    type: str | None = None
    code: str | None = None

    @property
    def word(self) -> str:
        return self.code or self.type or "unknown"


class _Status(msgspec.Struct):
    error: _Problem | None = None


class _Response(msgspec.Struct):
    id: str = ""
    status: str | None = None
    status_details: _Status | None = None


class _Item(msgspec.Struct):
    type: str = ""
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None


class _Target(msgspec.Struct):
    target: str


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_base64 = msgspec.json.Decoder(bytes).decode
_decode_session = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_response = msgspec.json.Decoder(_Response).decode
_decode_item = msgspec.json.Decoder(_Item).decode
_decode_problem = msgspec.json.Decoder(_Problem).decode
_decode_target = msgspec.json.Decoder(_Target).decode
_encode = msgspec.json.Encoder().encode


class Session:
    """One call's session: builds the client's events, reads the server's."""

    __slots__ = ("_facts", "_format", "_given", "ignored")

    def __init__(
        self, given: Realtime, context: CallContext, parameters: Mapping[str, str], encoding: Encoding
    ) -> None:
        self.ignored = 0
        self._given = given
        self._format = _FORMATS[encoding]
        self._facts = _facts(context, parameters)

    # --- the client's -------------------------------------------------------------------------

    def update(self, older: bool) -> bytes:
        """``session.update``: everything the agent's record says, in the interface the server has."""
        return _encode({"type": "session.update", "session": self._older() if older else self._present()})

    def _present(self) -> dict[str, Any]:
        given = self._given
        output = {"format": self._format[0]} | ({"voice": given.voice} if given.voice else {})
        audio = {"input": {"format": self._format[0], "turn_detection": self._turns}, "output": output}
        return {"type": "realtime", "output_modalities": ["audio"], "audio": audio, **self._said_and_done}

    def _older(self) -> dict[str, Any]:
        given = self._given
        return {
            "modalities": ["audio", "text"],
            "input_audio_format": self._format[1],
            "output_audio_format": self._format[1],
            "turn_detection": self._turns,
            **({"voice": given.voice} if given.voice else {}),
            **({} if given.temperature is None else {"temperature": given.temperature}),
            **self._said_and_done,
        }

    @property
    def _turns(self) -> dict[str, Any]:
        turns = self._given.turn_detection
        chosen = {name: value for name, value in msgspec.structs.asdict(turns).items() if value is not None}
        return {**chosen, "create_response": True, "interrupt_response": True}

    @property
    def _said_and_done(self) -> dict[str, Any]:
        given = self._given
        tools = [_TOOLS[name] for name in given.tools]
        return {
            **({"instructions": given.instructions} if given.instructions else {}),
            **({"tools": tools, "tool_choice": "auto"} if tools else {}),
        }

    def facts(self) -> bytes:
        """Who calls whom, and the agent's parameters, for the model to know."""
        return self.note(self._facts)

    def greeting(self) -> bytes | None:
        """``response.create`` for the first words; None where the record has none."""
        instructions = self._given.greeting
        return (
            None
            if not instructions
            else _encode({"type": "response.create", "response": {"instructions": instructions}})
        )

    def respond(self) -> bytes:
        """``response.create``: the model's turn."""
        return b'{"type":"response.create"}'

    @staticmethod
    def append(audio: bytes) -> bytes:
        """``input_audio_buffer.append``."""
        return b'{"type":"input_audio_buffer.append","audio":"%b"}' % b2a_base64(audio, newline=False)

    def truncate(self, item_id: str, content_index: int, audio_end_ms: int) -> bytes:
        """``conversation.item.truncate``: the caller has heard so much of it and no more [ms]."""
        return _encode(
            {
                "type": "conversation.item.truncate",
                "item_id": item_id,
                "content_index": content_index,
                "audio_end_ms": audio_end_ms,
            }
        )

    def typed(self, digits: str) -> bytes:
        """What the caller has pressed, as the caller's words."""
        text = f"(I pressed {digits} on my phone's keypad.)"
        return self._message("user", text)

    def note(self, text: str) -> bytes:
        """A word of the edge's own."""
        return self._message("system", text)

    def result(self, call_id: str, output: Mapping[str, object]) -> bytes:
        """``function_call_output``."""
        item = {"type": "function_call_output", "call_id": call_id, "output": _encode(dict(output)).decode()}
        return _encode({"type": "conversation.item.create", "item": item})

    def _message(self, role: str, text: str) -> bytes:
        item = {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}
        return _encode({"type": "conversation.item.create", "item": item})

    # --- the server's -------------------------------------------------------------------------

    def read(self, data: bytes) -> Event | None:
        """One event; None for one that nothing here needs, and, counted in ``ignored``, for junk or an unknown type."""
        try:
            event = _decode_event(data)
            read = _READ.get(event.type)
            if read is not None:
                return read(event)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.ignored += 1
            return None
        if not event.type.startswith(_KNOWN):
            self.ignored += 1
        return None


def _created(event: _Event) -> Created:
    return Created(older="input_audio_format" in _decode_session(event.session))


def _updated(event: _Event) -> Updated:
    return Updated()


def _audio(event: _Event) -> Audio:
    return Audio(event.response_id, event.item_id, event.content_index, _decode_base64(event.delta))


def _speech_started(event: _Event) -> SpeechStarted:
    return SpeechStarted()


def _responding(event: _Event) -> Responding:
    return Responding(_decode_response(event.response).id)


def _finished(event: _Event) -> Finished:
    response = _decode_response(event.response)
    error = response.status_details.error if response.status_details is not None else None
    if error is None:
        return Finished(response.id, response.status or "")
    return Finished(response.id, response.status or "", error.word, error.message or "")


def _called(event: _Event) -> Called | None:
    item = _decode_item(event.item)
    if item.type != "function_call":
        return None
    return Called(item.call_id or "", item.name or "", item.arguments or "")


def _failed(event: _Event) -> Failed:
    error = _decode_problem(event.error)
    return Failed(error.word, error.message or "")


_READ: Final[Mapping[str, Callable[[_Event], Event | None]]] = {
    "session.created": _created,
    "session.updated": _updated,
    "response.output_audio.delta": _audio,
    "response.audio.delta": _audio,
    "input_audio_buffer.speech_started": _speech_started,
    "response.created": _responding,
    "response.done": _finished,
    "response.output_item.done": _called,
    "error": _failed,
}


def _facts(context: CallContext, parameters: Mapping[str, str]) -> str:
    outbound = context.direction == "outbound"
    told = {
        "direction": f"This is a phone call that {'you have placed' if outbound else 'came in'}.",
        "from": f"The caller's number: {context.from_number or 'unknown'}.",
        "to": f"The number that was dialed: {context.to_number}.",
    }
    more = [f"{name}: {value}" for name, value in parameters.items()]
    return "\n".join([*told.values(), *more])


# --- the agent ------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Said:
    """One item of the model's, and where it lies among all that is played [ms]."""

    item_id: str
    content_index: int
    start_ms: int
    end_ms: int


class OpenAiAgent(WebSocketAgent):
    """The model behind ``spec.url``, told of itself by ``spec.realtime``; the key is among ``spec.headers``."""

    anywhere = True

    RETRY_AFTER_MS: Final = 2000
    FAILURES: Final = 3
    """In a row, of responses: the caller hears nothing, so the agent is given up."""
    DIGITS_END_MS: Final = 1500
    """Digits that come closer together are one message; ``#`` ends one at once."""
    LONGEST_DIGITS: Final = 64
    ITEMS: Final = 256
    """Of the model's that wait to be heard; the oldest is forgotten first."""

    def __init__(self, host: Host) -> None:
        """Raises :class:`BadAgent` without a key, or without a word on the model."""
        super().__init__(host)
        if host.spec.realtime is None:
            raise BadAgent("openai-realtime needs its session's settings")
        if not any(name.lower() == "authorization" for name in host.spec.headers):
            raise BadAgent("no OpenAI API key is saved")
        self._given = host.spec.realtime
        self._session: Session | None = None
        self._law: Encoding = PCMU
        self._whole = WholeSamples()
        self._told = False
        self._said: deque[_Said] = deque(maxlen=self.ITEMS)
        self._response = ""
        self._muted = ""
        self._turn_due = False
        self._failures = 0
        self._retry_at_ms: int | None = None
        self._digits = ""
        self._digit_at_ms = 0
        self._now_ms = 0
        self._transfer = ""

    # --- to the model ---------------------------------------------------------------------------

    def on_audio(self, frame: bytes, at_ms: int) -> None:
        """The caller's, and what is due by now."""
        self._now_ms = at_ms
        if self._digits and at_ms - self._digit_at_ms >= self.DIGITS_END_MS:
            self._typed()
        if self._retry_at_ms is not None and at_ms >= self._retry_at_ms:
            self._retry_at_ms = None
            self._take_turn()
        super().on_audio(frame, at_ms)

    def on_digit(self, digit: str, duration_ms: int) -> None:
        """Several make one message."""
        self._digit_at_ms = self._now_ms
        if len(self._digits) < self.LONGEST_DIGITS:
            self._digits += digit
        if digit == "#":
            self._typed()

    def on_event(self, event: str, data: Mapping[str, object]) -> None:
        """How the transfer that the model asked for goes; all else is a note in the conversation."""
        session = self._session
        if session is None or not self._told:
            return
        if self._transfer and (event == "transfer" or data.get("verb") == "transfer"):
            self._transferred(session, event, data)
            return
        words = ", ".join(f"{name} {value}" for name, value in data.items() if value is not None)
        self._tell(partial(session.note, plain(f"The phone call: {event}{': ' if words else ''}{words}")))

    def _transferred(self, session: Session, event: str, data: Mapping[str, object]) -> None:
        """How it ended; ringing is no outcome. Once the caller is gone the model has nobody to talk to."""
        if data.get("final") is False:
            return
        call_id, self._transfer = self._transfer, ""
        self._tell(partial(session.result, call_id, {**data, "event": event}))
        if transfer_failed(event, data):
            self._take_turn()

    def on_failed(self, cause: FailureCause, message: str) -> None:
        """Not connected: HTTP's status in words."""
        super().on_failed(cause, _HANDSHAKE.get(message, message))

    def _opened(self, port: AgentPort) -> None:
        """The server speaks first."""
        self._law = port.encoding if port.encoding in _FORMATS else _LINEAR
        self.encoding = self._law
        spec = self._host.spec
        context = self._host.context
        self._session = Session(self._given, context, context.told(spec.parameters), self._law)

    def _audio(self, number: int, at_ms: int, frame: bytes) -> bytes:
        return Session.append(little_endian(frame) if self._law == _LINEAR else frame)

    def _typed(self) -> None:
        digits, self._digits = self._digits, ""
        if self._session is not None:
            self._tell(partial(self._session.typed, digits))
            self._take_turn()

    def _take_turn(self) -> None:
        """Let the model speak: now, or once it has ended what it says (there is one response at a time)."""
        if self._response:
            self._turn_due = True
        elif self._session is not None:
            self._turn_due = False
            self._tell(self._session.respond)

    # --- from the model -------------------------------------------------------------------------

    def _heard(self, data: bytes, text: bool, port: AgentPort) -> None:
        session = self._session
        if session is None:
            return
        event = session.read(data)
        self._counts.ignored = session.ignored
        match event:
            case Audio():
                self._play(event, port)
            case SpeechStarted():
                self._interrupted(session, port)
            case Responding(response_id=response_id):
                self._response = response_id
            case Finished():
                self._finished(event, port)
            case Called():
                self._called(event, session, port)
            case Created(older=older):
                self._tell(partial(session.update, older))
            case Updated():
                self._begin(session, port)
            case Failed():
                self._failed(event, port)
            case None:
                pass

    def _begin(self, session: Session, port: AgentPort) -> None:
        if self._told:
            return
        self._told = True
        self._tell(session.facts)
        if (greeting := session.greeting()) is not None:
            self._tell(lambda: greeting)
        port.started()

    def _play(self, said: Audio, port: AgentPort) -> None:
        if said.response_id and said.response_id == self._muted:
            return
        audio = little_endian(self._whole(said.audio)) if self._law == _LINEAR else said.audio
        start_ms = port.played_ms + port.queued_ms
        port.play(audio, self._law)
        end_ms = port.played_ms + port.queued_ms
        last = self._said[-1] if self._said else None
        if last is not None and (last.item_id, last.content_index) == (said.item_id, said.content_index):
            last.end_ms = end_ms
            return
        while self._said and self._said[0].end_ms <= port.played_ms:
            self._said.popleft()
        self._said.append(_Said(said.item_id, said.content_index, start_ms, end_ms))

    def _interrupted(self, session: Session, port: AgentPort) -> None:
        """The caller speaks: silence at once, and the model forgets what was never heard."""
        self._muted = self._response
        self._retry_at_ms = None
        played_ms = port.played_ms
        unheard = [said for said in self._said if said.end_ms > played_ms]
        self._said.clear()
        self._whole.clear()
        if port.playing:
            port.clear()
        for said in unheard:
            heard_ms = max(0, played_ms - said.start_ms)
            self._tell(partial(session.truncate, said.item_id, said.content_index, heard_ms))

    def _finished(self, done: Finished, port: AgentPort) -> None:
        if done.response_id == self._response:
            self._response = ""
        if done.status == "failed":
            self._failures += 1
            log.warning("a response failed", extra={"code": plain(done.code), "failures": self._failures})
            if done.code in _FATAL or self._failures >= self.FAILURES:
                self._lose(self._how(done.code, done.message))
            else:
                self._retry_at_ms = self._now_ms + self.RETRY_AFTER_MS
            return
        if done.status == "completed":
            self._failures = 0
        if self._turn_due:
            self._take_turn()

    def _called(self, called: Called, session: Session, port: AgentPort) -> None:
        answer = self._carry_out(called, port)
        if answer is not None:
            self._tell(partial(session.result, called.call_id, answer))
            self._take_turn()

    def _carry_out(self, called: Called, port: AgentPort) -> dict[str, object] | None:
        """What the function gives back; None where that comes later, or never."""
        if called.name not in self._given.tools:
            return {"error": "there is no such function"}
        if called.name == "hang_up":
            port.hang_up()
            return None
        try:
            target = _decode_target(called.arguments.encode()).target.strip()
        except msgspec.DecodeError:
            target = ""
        if not target or len(target) > 1000:
            return {"error": "target is missing"}
        if self._transfer:
            return {"error": "a transfer is under way"}
        self._transfer = called.call_id
        port.ask("transfer", {"target": target})
        return None

    def _failed(self, failed: Failed, port: AgentPort) -> None:
        """Before the session stands any error ends it; after, most are about one event and pass."""
        if self._told and failed.code not in _FATAL:
            log.warning("an event was refused", extra={"code": plain(failed.code), "problem": plain(failed.message)})
            return
        how = self._how(failed.code, failed.message)
        if self._told:
            self._lose(how)
            return
        link, self._link = self._link, None
        if link is not None:
            link.close()
        port.failed("error", how)

    @staticmethod
    def _how(code: str, message: str) -> str:
        return plain(f"OpenAI: {code}{': ' if message else ''}{message}")
