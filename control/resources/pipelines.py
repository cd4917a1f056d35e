"""Which protocol reaches an agent, and how: a shape for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Generic, Literal, TypeVar

from pydantic import AfterValidator, Discriminator, Field, StrictBool, StringConstraints, TypeAdapter

from control.numbers import canonical
from control.resources.base import DEFERRED, Request
from control.resources.fields import Parameters, RecordingName, SipHeaders
from control.resources.urls import AudioSocketUrl, HttpUrl, WebSocketUrl

__all__ = [
    "AgentTimeout",
    "AnswerAfter",
    "AudioSocketPipeline",
    "BuiltinPipeline",
    "HoldMusic",
    "JambonzListenPipeline",
    "OnLost",
    "OpenAiRealtimePipeline",
    "OutsidePipeline",
    "Pipeline",
    "PythonAgentName",
    "PythonPipeline",
    "SemanticVad",
    "ServerVad",
    "TelnyxMediaStreamingPipeline",
    "TransferTarget",
    "TwilioMediaStreamsPipeline",
    "UrlPipeline",
    "WebRtcPipeline",
    "parse_pipeline",
]

_Url = TypeVar("_Url")


def _transfer_target(text: str) -> str:
    """E.164 in its canonical form, or a SIP URI; whether it is allowed is decided at the call."""
    if text.startswith(("sip:", "sips:")):
        if not text.isascii() or not text.isprintable() or set(text) & set(' <>"?'):
            raise ValueError("is no SIP URI without headers")
        return text
    return canonical(text)


PythonAgentName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,199}$"),
    Field(description="As listed in the setting agents.python, or an entry point's name."),
]
TransferTarget = Annotated[
    str,
    StringConstraints(min_length=1, max_length=255),
    AfterValidator(_transfer_target),
    Field(examples=["+14155550123", "sip:desk@pbx.example.com"], json_schema_extra={"pattern": r"^(\+[0-9]|sips?:)"}),
]
AnswerAfter = Annotated[
    Annotated[float, Field(ge=0, le=30, strict=True)] | None,
    Field(description="Answer this long after start [s] if the agent is still silent. Absent: the edge's."),
]
AgentTimeout = Annotated[
    Annotated[float, Field(gt=0, le=60, strict=True)] | None,
    Field(description="Refuse the call (480) when not connected by then [s]. Absent: the edge's."),
]
HoldMusic = Literal["silence", "music"]


class _Pipeline(Request):
    hold_music: HoldMusic | None = Field(
        default=None, description="What the phone hears while the edge holds it. Absent: silence."
    )
    early_media: StrictBool | None = Field(
        default=None,
        description="The phone hears the agent before the call is answered (183), which is then `answer_after_s` after"
        " its start. Absent: not.",
    )
    sip_headers: SipHeaders | None = Field(
        default=None,
        description="Sent to the phone on 180, 183, 200 and BYE, as far as `sip.agent_headers` lets them cross.",
    )


class BuiltinPipeline(_Pipeline):
    """An agent that ships with the edge: ``parrot`` repeats what it heard, ``echo`` returns the audio at once."""

    protocol: Literal["builtin"]
    name: Literal["parrot", "echo"]


class OnLost(Request):
    """What to do when the agent is lost in mid-call: what is given, in this order, then the call ends."""

    reconnect: StrictBool = Field(
        default=False, description="Connect once more, with truedy_resumed among the parameters; meanwhile silence."
    )
    reconnect_timeout_s: Annotated[float, Field(gt=0, le=30, strict=True)] = Field(
        default=5.0, description="How long that may take [s]."
    )
    message: RecordingName | None = Field(default=None, description="Play this recording.")
    transfer: TransferTarget | None = Field(default=None, description="Transfer the caller: E.164, or a SIP URI.")
    hang_up: Literal[True] = Field(default=True, description="What comes last in any case.")


class OutsidePipeline(_Pipeline):
    """What all agents outside the edge's own code have."""

    on_lost: OnLost | None = Field(default=None, description="Absent: the call ends when its agent is lost.")
    answer_after_s: AnswerAfter = None
    agent_timeout_s: AgentTimeout = None


class UrlPipeline(OutsidePipeline, Generic[_Url]):
    """What all agents have that the edge reaches at a URL."""

    protocol: str
    url: _Url
    fallback_url: _Url | None = Field(
        default=None, description="Tried when url refuses, cannot be reached, or takes half of agent_timeout_s."
    )


class PythonPipeline(OutsidePipeline):
    """A Python function in a process beside the edge: one that the operator lists, or an installed package offers."""

    protocol: Literal["python"]
    name: PythonAgentName
    sample_rate: Literal[8000, 16000, 24000, 48000] | None = Field(
        default=None, description="The agent's audio, both ways [Hz]. Absent: 16000."
    )
    parameters: Parameters = Field(default={}, description="The agent reads them as call.parameters.")


class TwilioMediaStreamsPipeline(UrlPipeline[WebSocketUrl]):
    """An agent behind a WebSocket that speaks Twilio Media Streams; the edge is the client of ``url``."""

    protocol: Literal["twilio-media-streams"]
    parameters: Parameters = Field(default={}, description="Sent to the agent as start.customParameters.")


class TelnyxMediaStreamingPipeline(UrlPipeline[WebSocketUrl]):
    """An agent behind a WebSocket that speaks Telnyx's media streaming; the edge is the client of ``url``."""

    protocol: Literal["telnyx-media-streaming"]
    encoding: Literal["PCMU", "PCMA"] | None = Field(
        default=None, description="The audio's law, both ways, whatever the call's is. Absent: PCMU."
    )
    parameters: Parameters = Field(default={}, description="Sent to the agent as start.custom_parameters.")


class JambonzListenPipeline(UrlPipeline[WebSocketUrl]):
    """An agent behind a WebSocket that takes jambonz's ``listen``, streaming; the edge is the client of ``url``."""

    protocol: Literal["jambonz-listen"]
    sample_rate: Literal[8000, 16000, 24000] | None = Field(
        default=None, description="The audio's rate, both ways [Hz]. Absent: 8000."
    )
    parameters: Parameters = Field(
        default={}, description="Sent to the agent among the call's attributes, and as metadata."
    )


class AudioSocketPipeline(UrlPipeline[AudioSocketUrl]):
    """An agent behind a TCP port that speaks Asterisk's AudioSocket; the edge is the client of ``url``."""

    protocol: Literal["audiosocket"]
    sample_rate: Literal[8000, 16000] | None = Field(
        default=None, description="The rate of what the agent hears [Hz]; it speaks at any. Absent: 8000."
    )


class ServerVad(Request):
    """Turns by loudness. Absent fields are OpenAI's to choose."""

    type: Literal["server_vad"]
    threshold: Annotated[float, Field(ge=0, le=1, strict=True)] | None = None
    prefix_padding_ms: Annotated[int, Field(ge=0, le=5000, strict=True)] | None = None
    silence_duration_ms: Annotated[int, Field(ge=0, le=10000, strict=True)] | None = None


class SemanticVad(Request):
    """Turns by what is said."""

    type: Literal["semantic_vad"]
    eagerness: Literal["low", "medium", "high", "auto"] | None = None


class OpenAiRealtimePipeline(OutsidePipeline):
    """OpenAI's Realtime API as the agent, with the API key among the integrations. Absent: OpenAI's own choice."""

    protocol: Literal["openai-realtime"]
    model: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:/-]{1,100}$")] = "gpt-realtime"
    voice: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,100}$")] | None = None
    instructions: Annotated[str, StringConstraints(min_length=1, max_length=30000)] | None = Field(
        default=None, description="What the model is to be and to do."
    )
    greeting: Annotated[str, StringConstraints(min_length=1, max_length=4000)] | None = Field(
        default=None, description="What to follow for its first words. Absent: the caller speaks first."
    )
    turn_detection: Annotated[ServerVad | SemanticVad, Discriminator("type")] | None = Field(
        default=None, description="How it tells that the caller has done speaking."
    )
    temperature: Annotated[float, Field(ge=0, le=2, strict=True)] | None = Field(
        default=None, description="For a server with the interface before this one; OpenAI's own has none."
    )
    tools: Annotated[tuple[Literal["hang_up", "transfer_call"], ...], Field(max_length=2)] = Field(
        default=(), description="What the model may do to the call."
    )
    parameters: Parameters = Field(default={}, description="Told to the model at the start of the call.")


class WebRtcPipeline(UrlPipeline[HttpUrl]):
    """An agent that is a WebRTC peer: the edge makes the offer and posts it to ``url``."""

    protocol: Literal["webrtc"]
    signalling: Literal["whip", "smallwebrtc"] = Field(
        default="whip", description="`whip` is RFC 9725; `smallwebrtc` is pipecat's, as at /api/offer."
    )
    parameters: Parameters = Field(default={}, description="Sent to the agent with the call's facts.")


Pipeline = Annotated[
    BuiltinPipeline
    | PythonPipeline
    | TwilioMediaStreamsPipeline
    | TelnyxMediaStreamingPipeline
    | JambonzListenPipeline
    | AudioSocketPipeline
    | OpenAiRealtimePipeline
    | WebRtcPipeline,
    Discriminator("protocol"),
]
_PIPELINE: Final[TypeAdapter[Pipeline]] = TypeAdapter(Pipeline, config=DEFERRED)


def parse_pipeline(stored: Mapping[str, Any]) -> Pipeline:
    """An agent row's pipeline. Raises :class:`pydantic.ValidationError` for a row that no version wrote."""
    return _PIPELINE.validate_python(dict(stored))
