"""What operations take and give: the requests' and the resources' shapes, and how rows become resources.

Requests refuse unknown fields; resources never hold a secret (an API key's text is shown once, when it is made).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Generic, Literal, Self, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    SecretStr,
    StrictBool,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from control.agent_secrets import HEADER
from control.errors import from_validation
from control.numbers import canonical
from control.providers import ProviderWarning
from control.registry import types as rows
from media.messages import LegStatistics

__all__ = [
    "AccountResource",
    "AgentResource",
    "AudioSocketPipeline",
    "BuiltinPipeline",
    "CallControlled",
    "CallDetail",
    "CallIdentity",
    "CallReason",
    "CallResource",
    "CallSettings",
    "CreateAccount",
    "CreateAgent",
    "CreateKey",
    "CreatedKey",
    "Deleted",
    "DiallingResource",
    "ForwardFallback",
    "Forwarding",
    "HangUp",
    "HungUp",
    "ImportNumber",
    "ImportSipNumber",
    "ImportTelnyxNumber",
    "ImportTwilioNumber",
    "ImportedNumber",
    "ImportedSipNumber",
    "ImportedTelnyxNumber",
    "ImportedTwilioNumber",
    "Integrated",
    "IntegrationDeleted",
    "JambonzListenPipeline",
    "KeyResource",
    "Listing",
    "MachineDetectionOptions",
    "MessageFallback",
    "NumberResource",
    "OnLost",
    "OpenAiIntegration",
    "OpenAiRealtimePipeline",
    "OutsidePipeline",
    "Pipeline",
    "PlaceCall",
    "PlayRecording",
    "ProviderNotice",
    "PythonPipeline",
    "QueuedCall",
    "RecordingDeleted",
    "RecordingOptions",
    "RecordingResource",
    "Released",
    "SaveOpenAiIntegration",
    "SaveTelnyxIntegration",
    "SaveTwilioIntegration",
    "SavedOpenAiIntegration",
    "SavedTelnyxIntegration",
    "SavedTwilioIntegration",
    "SemanticVad",
    "SendDigits",
    "ServerVad",
    "SetDialling",
    "SetMark",
    "SigningSecret",
    "SigningSecretDeleted",
    "SipNumber",
    "Supported",
    "TelnyxIntegration",
    "TelnyxMediaStreamingPipeline",
    "TelnyxNumber",
    "TimelineEntry",
    "TransferCall",
    "Transferring",
    "TwilioIntegration",
    "TwilioMediaStreamsPipeline",
    "TwilioNumber",
    "UpdateAgent",
    "UpdateNumber",
    "WebRtcPipeline",
    "account_resource",
    "account_sid",
    "agent_resource",
    "call_detail",
    "call_resource",
    "call_sid",
    "created_key",
    "id_of",
    "import_request",
    "imported_number",
    "key_resource",
    "number_resource",
    "openai_integration",
    "parse_pipeline",
    "recording_options",
    "telnyx_integration",
    "timestamp",
    "twilio_integration",
    "with_option",
]

# --- building blocks --------------------------------------------------------------------------

_BIDI_CONTROLS: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")
_ACCOUNT_SID: Final = re.compile(r"AC[0-9A-Za-z]{32}")
_UNPRINTABLE: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})


def _one_line(text: str) -> str:
    for character in text:
        if unicodedata.category(character) in _UNPRINTABLE or character in _BIDI_CONTROLS:
            raise ValueError("has a control character")
    return text


def _phone_number(text: str) -> str:
    canonical(text)
    return text


def _not_an_id(text: str) -> str:
    """A trunk lists accounts by id or by name: no account is named like another's id."""
    if id_of(text) is not None:
        raise ValueError("looks like an id")
    return text


def _websocket_url(text: str) -> str:
    """``ws``/``wss``; no fragment either (RFC 6455 §3)."""
    return _agent_url(text, "ws", "wss")


def _http_url(text: str) -> str:
    """``http``/``https``."""
    return _agent_url(text, "http", "https")


def _agent_url(text: str, *schemes: str) -> str:
    """One of the schemes, a host, no credentials, no fragment. The text stays as it was typed."""
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("has characters that a URL must escape")
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError as error:
        raise ValueError("is not a URL") from error
    if url.scheme not in schemes:
        raise ValueError(f"is neither {schemes[0]}:// nor {schemes[1]}://")
    if not url.hostname or port == 0:
        raise ValueError("has no host, or port 0")
    if "@" in url.netloc:
        raise ValueError("has credentials in it: pass them as parameters")
    if "#" in text:
        raise ValueError("has a fragment" + (" (RFC 6455 §3)" if "ws" in schemes else ""))
    return text


def _audiosocket_url(text: str) -> str:
    """``audiosocket://HOST:PORT`` or ``tcp://HOST:PORT``, and nothing more. The text stays as it was typed."""
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("has characters that a URL must escape")
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError as error:
        raise ValueError("is not a URL") from error
    if url.scheme not in {"audiosocket", "tcp"}:
        raise ValueError("is neither audiosocket:// nor tcp://")
    if not url.hostname or not port:
        raise ValueError("has no host, or no port")
    if url.path not in {"", "/"} or "@" in url.netloc or "?" in text or "#" in text:
        raise ValueError("has more than a host and a port: the protocol has no place for it")
    return text


def _account_sid(text: str) -> str:
    if text.startswith("SK"):
        raise ValueError(
            "is the SID of an API key, and its secret cannot verify the signatures of Twilio's webhooks:"
            " give the Account SID (AC…) and its Auth Token"
        )
    if _ACCOUNT_SID.fullmatch(text) is None:
        raise ValueError("is not AC and 32 letters and digits")
    return text


def _credential(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("has characters that no credential has")
    return value


Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=100, strip_whitespace=True),
    AfterValidator(_one_line),
    Field(description="One line of text, without control characters."),
]
AccountName = Annotated[Name, AfterValidator(_not_an_id)]
PhoneNumber = Annotated[
    str,
    StringConstraints(min_length=1, max_length=64),
    AfterValidator(_phone_number),
    Field(
        description="E.164, with +; separators are dropped.",
        examples=["+14155550100"],
        json_schema_extra={"pattern": r"^\+[0-9 .()\-]+$"},
    ),
]
AccountSid = Annotated[
    str,
    AfterValidator(_account_sid),
    Field(
        description="Your Twilio Account SID.",
        examples=["AC" + "0" * 32],
        json_schema_extra={"pattern": "^AC[0-9A-Za-z]{32}$"},
    ),
]
Credential = Annotated[
    SecretStr,
    AfterValidator(_credential),
    Field(min_length=1, max_length=256, json_schema_extra={"pattern": "^[!-~]+$"}),
]
SipPassword = Annotated[
    SecretStr,
    AfterValidator(_credential),
    Field(min_length=1, max_length=128, json_schema_extra={"pattern": "^[!-~]+$"}),
]
ParameterName = Annotated[str, StringConstraints(min_length=1, max_length=100), AfterValidator(_one_line)]
ParameterValue = Annotated[str, StringConstraints(max_length=2000)]
_HEADER_NAME: Final = re.compile(r"[0-9A-Za-z!#$%&'*+.^_`|~-]{1,100}", re.ASCII)
_NOT_YOURS: Final = frozenset(
    ("host", "connection", "upgrade", "content-length", "content-type", "transfer-encoding", "te", "trailer", "expect")
)


def _header_name(text: str) -> str:
    if _HEADER_NAME.fullmatch(text) is None:
        raise ValueError("is no HTTP header name")
    name = text.lower()
    if name in _NOT_YOURS or name.startswith(("sec-websocket-", "x-truedy-", "x-twilio-signature", "proxy-")):
        raise ValueError("is the edge's own to send")
    return text


def _header_value(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text.isascii() or not text.isprintable() or text != text.strip():
        raise ValueError("has characters that no header value has")
    return value


def _transfer_target(text: str) -> str:
    """E.164 in its canonical form, or a SIP URI; whether it is allowed is decided at the call."""
    if text.startswith(("sip:", "sips:")):
        if not text.isascii() or not text.isprintable() or set(text) & set(' <>"?'):
            raise ValueError("is no SIP URI without headers")
        return text
    return canonical(text)


HeaderName = Annotated[str, AfterValidator(_header_name)]
HeaderValue = Annotated[SecretStr, AfterValidator(_header_value), Field(min_length=1, max_length=4096)]
RecordingName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"),
    Field(description="A recording's name: one of the edge's own, or of `agents.recordings_path`."),
]
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
WebSocketUrl = Annotated[
    str,
    StringConstraints(min_length=1, max_length=2000),
    AfterValidator(_websocket_url),
    Field(examples=["wss://agent.example.com/media"], json_schema_extra={"pattern": "^wss?://"}),
]


AudioSocketUrl = Annotated[
    str,
    StringConstraints(min_length=1, max_length=300),
    AfterValidator(_audiosocket_url),
    Field(examples=["audiosocket://agent.example.com:9092"], json_schema_extra={"pattern": "^(audiosocket|tcp)://"}),
]
AnswerAfter = Annotated[
    Annotated[float, Field(ge=0, le=30, strict=True)] | None,
    Field(description="Answer this long after start [s] if the agent is still silent. Absent: the edge's."),
]
AgentTimeout = Annotated[
    Annotated[float, Field(gt=0, le=60, strict=True)] | None,
    Field(description="Refuse the call (480) when not connected by then [s]. Absent: the edge's."),
]
HttpUrl = Annotated[
    str,
    StringConstraints(min_length=1, max_length=2000),
    AfterValidator(_http_url),
    Field(examples=["https://agent.example.com/whip"], json_schema_extra={"pattern": "^https?://"}),
]


def _seconds(span: str) -> float:
    """``"3600s"`` → 3600.0."""
    return float(span.removesuffix("s"))


def _positive_span(span: str) -> str:
    if _seconds(span) < 1:
        raise ValueError("is less than 1s")
    return span


def timestamp(moment: datetime) -> str:
    """``2026-01-31T12:00:00.000Z`` (RFC 3339)."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


Timestamp = Annotated[
    datetime,
    PlainSerializer(timestamp, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-01-31T12:00:00.000Z"]}),
]


def _milliseconds(seconds: float) -> float:
    return round(seconds, 3)


Seconds = Annotated[float, AfterValidator(_milliseconds)]
"""A span, shown to the millisecond."""

_Any = TypeVar("_Any")


Span = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9]{1,6}(\.[0-9]{1,3})?s$"),
    AfterValidator(_positive_span),
    Field(examples=["30s"]),
]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @classmethod
    def of(cls, **fields: Any) -> Self:
        """From loose values, as the command line has them; raises :class:`control.errors.OperationError`."""
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise from_validation(error.errors(include_url=False)) from error


class _Resource(BaseModel):
    model_config = ConfigDict(frozen=True)


@dataclass(frozen=True, slots=True)
class Listing(Generic[_Any]):
    """A page of resources, and how many there are in all."""

    items: list[_Any]
    total: int
    page: rows.Page


# --- ids --------------------------------------------------------------------------------------

_SID_LENGTH: Final = 34


def account_sid(account_id: str) -> str:
    """The account's id in Twilio's shape: ``AC`` and 32 hexadecimal digits."""
    return "AC" + UUID(account_id).hex


def call_sid(call_id: str) -> str:
    """The call's id in Twilio's shape: ``CA`` and 32 hexadecimal digits."""
    return "CA" + UUID(call_id).hex


def id_of(text: str, prefix: str | None = None) -> str | None:
    """The canonical id that ``text`` spells, as a UUID or, with ``prefix``, in Twilio's shape; None: neither."""
    if prefix and len(text) == _SID_LENGTH and text.startswith(prefix):
        digits = text.removeprefix(prefix)
        return str(UUID(digits)) if digits.isalnum() and _is_hexadecimal(digits) else None
    if len(text) == 36 and _is_hexadecimal(text.replace("-", "")):
        try:
            spelled = str(UUID(text))
        except ValueError:
            return None
        return spelled if spelled == text.lower() else None
    return None


def _is_hexadecimal(text: str) -> bool:
    return bool(text) and set(text) <= set("0123456789abcdefABCDEF")


# --- accounts and keys ------------------------------------------------------------------------


class CreateAccount(_Request):
    """A new account."""

    name: AccountName


class AccountResource(_Resource):
    """An account; ``sid`` is its id in Twilio's shape, for agents that hang up through Twilio's REST path."""

    id: str
    sid: str
    name: str
    created_at: Timestamp


class CreateKey(_Request):
    """A new API key. Only an operator makes operator keys, or keys of another account."""

    role: Literal["account", "operator"] = "account"
    account_id: UUID | None = Field(default=None, description="The caller's own account when absent.")


class KeyResource(_Resource):
    """An API key without its text; ``hint`` is its last characters."""

    id: str
    account_id: str
    role: Literal["account", "operator"]
    hint: str
    created_at: Timestamp
    revoked_at: Timestamp | None


class CreatedKey(KeyResource):
    """A key just made: ``key`` is shown this once."""

    key: str = Field(repr=False)


# --- agents -----------------------------------------------------------------------------------


HoldMusic = Literal["silence", "music"]
SipHeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,63}$")]
SipHeaderValue = Annotated[str, StringConstraints(max_length=256, pattern=r"^[ -~]*$")]


class _Pipeline(_Request):
    hold_music: HoldMusic | None = Field(
        default=None, description="What the phone hears while the edge holds it. Absent: silence."
    )
    early_media: StrictBool | None = Field(
        default=None,
        description="The phone hears the agent before the call is answered (183), which is then `answer_after_s` after"
        " its start. Absent: not.",
    )
    sip_headers: dict[SipHeaderName, SipHeaderValue] | None = Field(
        default=None,
        max_length=16,
        description="Sent to the phone on 180, 183, 200 and BYE, as far as `sip.agent_headers` lets them cross.",
    )


class BuiltinPipeline(_Pipeline):
    """An agent that ships with the edge: ``parrot`` repeats what it heard, ``echo`` returns the audio at once."""

    protocol: Literal["builtin"]
    name: Literal["parrot", "echo"]


class OnLost(_Request):
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


class PythonPipeline(OutsidePipeline):
    """A Python function in a process beside the edge: one that the operator lists, or an installed package offers."""

    protocol: Literal["python"]
    name: PythonAgentName
    sample_rate: Literal[8000, 16000, 24000, 48000] | None = Field(
        default=None, description="The agent's audio, both ways [Hz]. Absent: 16000."
    )
    parameters: dict[ParameterName, ParameterValue] = Field(
        default={}, max_length=50, description="The agent reads them as call.parameters."
    )


class TwilioMediaStreamsPipeline(OutsidePipeline):
    """An agent behind a WebSocket that speaks Twilio Media Streams; the edge is the client of ``url``."""

    protocol: Literal["twilio-media-streams"]
    url: WebSocketUrl
    fallback_url: WebSocketUrl | None = Field(
        default=None, description="Tried when url refuses, cannot be reached, or takes half of agent_timeout_s."
    )
    parameters: dict[ParameterName, ParameterValue] = Field(
        default={}, max_length=50, description="Sent to the agent as start.customParameters."
    )


class TelnyxMediaStreamingPipeline(OutsidePipeline):
    """An agent behind a WebSocket that speaks Telnyx's media streaming; the edge is the client of ``url``."""

    protocol: Literal["telnyx-media-streaming"]
    url: WebSocketUrl
    fallback_url: WebSocketUrl | None = Field(
        default=None, description="Tried when url refuses, cannot be reached, or takes half of agent_timeout_s."
    )
    encoding: Literal["PCMU", "PCMA"] | None = Field(
        default=None, description="The audio's law, both ways, whatever the call's is. Absent: PCMU."
    )
    parameters: dict[ParameterName, ParameterValue] = Field(
        default={}, max_length=50, description="Sent to the agent as start.custom_parameters."
    )


class JambonzListenPipeline(OutsidePipeline):
    """An agent behind a WebSocket that takes jambonz's ``listen``, streaming; the edge is the client of ``url``."""

    protocol: Literal["jambonz-listen"]
    url: WebSocketUrl
    fallback_url: WebSocketUrl | None = Field(
        default=None, description="Tried when url refuses, cannot be reached, or takes half of agent_timeout_s."
    )
    sample_rate: Literal[8000, 16000, 24000] | None = Field(
        default=None, description="The audio's rate, both ways [Hz]. Absent: 8000."
    )
    parameters: dict[ParameterName, ParameterValue] = Field(
        default={}, max_length=50, description="Sent to the agent among the call's attributes, and as metadata."
    )


class AudioSocketPipeline(OutsidePipeline):
    """An agent behind a TCP port that speaks Asterisk's AudioSocket; the edge is the client of ``url``."""

    protocol: Literal["audiosocket"]
    url: AudioSocketUrl
    fallback_url: AudioSocketUrl | None = Field(
        default=None, description="Tried when url refuses, cannot be reached, or takes half of agent_timeout_s."
    )
    sample_rate: Literal[8000, 16000] | None = Field(
        default=None, description="The rate of what the agent hears [Hz]; it speaks at any. Absent: 8000."
    )


class ServerVad(_Request):
    """Turns by loudness. Absent fields are OpenAI's to choose."""

    type: Literal["server_vad"]
    threshold: Annotated[float, Field(ge=0, le=1, strict=True)] | None = None
    prefix_padding_ms: Annotated[int, Field(ge=0, le=5000, strict=True)] | None = None
    silence_duration_ms: Annotated[int, Field(ge=0, le=10000, strict=True)] | None = None


class SemanticVad(_Request):
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
    parameters: dict[ParameterName, ParameterValue] = Field(
        default={}, max_length=50, description="Told to the model at the start of the call."
    )


class WebRtcPipeline(OutsidePipeline):
    """An agent that is a WebRTC peer: the edge makes the offer and posts it to ``url``."""

    protocol: Literal["webrtc"]
    url: HttpUrl
    fallback_url: HttpUrl | None = Field(
        default=None, description="Tried when url refuses, cannot be reached, or takes half of agent_timeout_s."
    )
    signalling: Literal["whip", "smallwebrtc"] = Field(
        default="whip", description="`whip` is RFC 9725; `smallwebrtc` is pipecat's, as at /api/offer."
    )
    parameters: dict[ParameterName, ParameterValue] = Field(
        default={}, max_length=50, description="Sent to the agent with the call's facts."
    )


AnyPipeline = (
    BuiltinPipeline
    | PythonPipeline
    | TwilioMediaStreamsPipeline
    | TelnyxMediaStreamingPipeline
    | JambonzListenPipeline
    | AudioSocketPipeline
    | OpenAiRealtimePipeline
    | WebRtcPipeline
)

Pipeline = Annotated[AnyPipeline, Discriminator("protocol")]

_PIPELINE: Final[TypeAdapter[AnyPipeline]] = TypeAdapter(Pipeline)


def parse_pipeline(stored: Mapping[str, Any]) -> AnyPipeline:
    """An agent row's pipeline. Raises :class:`pydantic.ValidationError` for a row that no version wrote."""
    return _PIPELINE.validate_python(dict(stored))


class RecordingOptions(_Request):
    """Whether and how calls are recorded. What is absent or null is as the number's agent, or the edge, has it."""

    enabled: StrictBool | None = None
    format: Literal["wav", "flac", "ogg"] | None = None
    consent_tone: StrictBool | None = Field(default=None, description="The caller hears a tone when the call begins.")
    consent_tone_every_s: Annotated[float, Field(ge=5, le=600, strict=True)] | None = Field(
        default=None, description="The tone comes again this often [s]."
    )


class MachineDetectionOptions(_Request):
    """Whether the agent is told who answered. What is absent or null is as the edge has it."""

    enabled: StrictBool | None = None
    timeout_s: Annotated[float, Field(ge=2, le=30, strict=True)] | None = Field(
        default=None, description="What is not clear by then [s] is `unsure`."
    )
    beep_timeout_s: Annotated[float, Field(ge=5, le=180, strict=True)] | None = Field(
        default=None, description="How long a machine's beep is listened for [s]."
    )


class CreateAgent(_Request):
    """A new agent."""

    name: Name
    pipeline: Pipeline
    recording: RecordingOptions | None = None
    machine_detection: MachineDetectionOptions | None = None
    headers: dict[HeaderName, HeaderValue] = Field(
        default={}, max_length=20, description="Sent with every request to the agent's URL; kept sealed."
    )
    twilio_auth_token: Credential | None = Field(
        default=None,
        description="Any token you choose: signs the URL as Twilio does (X-Twilio-Signature).",
    )

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        _distinct(self.headers)
        return self


class UpdateAgent(_Request):
    """Absent fields stay as they are."""

    name: Name | SkipJsonSchema[None] = None
    pipeline: Pipeline | SkipJsonSchema[None] = None
    recording: RecordingOptions | None = Field(default=None, description="Null: as the edge has it.")
    machine_detection: MachineDetectionOptions | None = Field(default=None, description="Null: as the edge has it.")
    headers: dict[HeaderName, HeaderValue | None] | None = Field(
        default=None, max_length=20, description="Added to those that are there; a header that is null goes, null: all."
    )
    twilio_auth_token: Credential | None = Field(default=None, description="Null: no X-Twilio-Signature from now on.")

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        _distinct(self.headers or {})
        return self

    @field_validator("name", "pipeline", mode="before")
    @classmethod
    def _present(cls, value: object) -> object:
        if value is None:
            raise ValueError("must not be null: leave it out to keep what is there")
        return value


def _distinct(headers: Mapping[str, Any]) -> None:
    if len({name.lower() for name in headers}) < len(headers):
        raise ValueError("headers has a name twice")


class AgentResource(_Resource):
    """An agent. Of a secret there is only that it is there."""

    id: str
    name: str
    pipeline: Pipeline
    recording: RecordingOptions
    machine_detection: MachineDetectionOptions
    headers: dict[str, Literal["********"]] = Field(description="The names of the headers that go to its URL.")
    signing_secret_set: bool = Field(description="Whether requests to its URL carry X-Truedy-Signature.")
    previous_signing_secret_until: Timestamp | None = Field(
        description="After a new signing secret was made: how long requests are signed with the one before, too."
    )
    twilio_auth_token_set: bool = Field(description="Whether requests to its URL carry X-Twilio-Signature.")
    created_at: Timestamp
    updated_at: Timestamp


class SigningSecret(_Resource):
    """What requests to the agent's URL are signed with from now on: shown this once."""

    id: str
    signing_secret: str = Field(repr=False)


class SigningSecretDeleted(_Resource):
    """Requests are signed no more."""

    id: str
    deleted: Literal[True] = True


# --- numbers ----------------------------------------------------------------------------------

Supported = Literal["twilio", "telnyx"]
"""The carriers that numbers are imported from."""

Integrated = Literal["twilio", "telnyx", "openai"]
"""Whom credentials are kept for."""


class ImportTwilioNumber(_Request):
    """A number you own at Twilio."""

    provider: Literal["twilio"]
    phone_number: PhoneNumber
    provider_account_sid: AccountSid


class ImportTelnyxNumber(_Request):
    """A number you own at Telnyx."""

    provider: Literal["telnyx"]
    phone_number: PhoneNumber
    provider_connection_id: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z_-]{1,64}$")] = Field(
        description="The ID of the SIP connection you created in Telnyx."
    )
    sip_password: SipPassword | None = Field(
        default=None, description="A credential connection's password, where Telnyx does not tell it."
    )
    rotate_sip_password: StrictBool = Field(
        default=False,
        description="Set a new password on the connection: other devices that register with the old one drop out.",
    )

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        if self.sip_password is not None and self.rotate_sip_password:
            raise ValueError("sip_password is the one to use: rotate_sip_password would set another")
        return self


class ImportSipNumber(_Request):
    """A number on one of the edge's own trunks. Outside the supported providers: the operator vouches for it."""

    provider: Literal["sip"]
    phone_number: PhoneNumber
    provider_trunk: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")] = Field(
        description="The name of a static trunk that lists your account."
    )


ImportNumber = Annotated[ImportTwilioNumber | ImportTelnyxNumber | ImportSipNumber, Discriminator("provider")]

_IMPORT: Final[TypeAdapter[ImportTwilioNumber | ImportTelnyxNumber | ImportSipNumber]] = TypeAdapter(ImportNumber)


def import_request(**fields: Any) -> ImportTwilioNumber | ImportTelnyxNumber | ImportSipNumber:
    """From loose values; raises :class:`control.errors.OperationError`."""
    try:
        return _IMPORT.validate_python(fields)
    except ValidationError as error:
        raise from_validation(error.errors(include_url=False)) from error


class MessageFallback(_Request):
    """Answer, play a recording, hang up."""

    message: RecordingName


class ForwardFallback(_Request):
    """Forward the caller to a number, within what the account may be transferred to."""

    forward: PhoneNumber


class UpdateNumber(_Request):
    """``agent_id`` null unassigns, ``fallback`` null takes it away; absent, nothing changes."""

    agent_id: UUID | None = None
    fallback: MessageFallback | ForwardFallback | None = Field(
        default=None, description="For callers whom no agent can answer: it is not reached in time, or a cap is full."
    )
    parameters: dict[ParameterName, ParameterValue] = Field(
        default={}, max_length=50, description="Given to the number's agent; they override the agent's own."
    )


class _Number(_Resource):
    id: str
    phone_number: str
    agent_id: str | None
    fallback: MessageFallback | ForwardFallback | None
    parameters: dict[str, str]
    status: str
    created_at: Timestamp
    updated_at: Timestamp


class TwilioNumber(_Number):
    """A number imported from Twilio."""

    provider: Literal["twilio"]
    provider_account_sid: str


class TelnyxNumber(_Number):
    """A number imported from Telnyx."""

    provider: Literal["telnyx"]
    provider_connection_id: str


class SipNumber(_Number):
    """A number on a static trunk of the edge."""

    provider: Literal["sip"]
    provider_trunk: str


NumberResource = Annotated[TwilioNumber | TelnyxNumber | SipNumber, Discriminator("provider")]

_NUMBER: Final[TypeAdapter[TwilioNumber | TelnyxNumber | SipNumber]] = TypeAdapter(NumberResource)


class ProviderNotice(_Resource):
    """Something at the carrier that does not stop this, and will stop calls: ``code`` for programs."""

    code: str
    message: str


class _Imported(_Resource):
    warnings: list[ProviderNotice] = Field(description="What to look after at the carrier; empty when all is well.")


class ImportedTwilioNumber(TwilioNumber, _Imported):
    """A number just imported from Twilio."""


class ImportedTelnyxNumber(TelnyxNumber, _Imported):
    """A number just imported from Telnyx."""


class ImportedSipNumber(SipNumber, _Imported):
    """A number just put on a static trunk of the edge."""


ImportedNumber = Annotated[ImportedTwilioNumber | ImportedTelnyxNumber | ImportedSipNumber, Discriminator("provider")]

_IMPORTED: Final[TypeAdapter[ImportedTwilioNumber | ImportedTelnyxNumber | ImportedSipNumber]] = TypeAdapter(
    ImportedNumber
)


class Released(_Resource):
    """The number is deregistered here; at the carrier it is still yours."""

    id: str
    phone_number: str
    released: Literal[True] = True


class Deleted(_Resource):
    """It is gone."""

    id: str
    deleted: Literal[True] = True


# --- integrations ------------------------------------------------------------------------------


class SaveTwilioIntegration(_Request):
    """Your credentials at Twilio: the Auth Token verifies its webhooks."""

    account_sid: AccountSid
    auth_token: Credential = Field(description="Your Twilio Auth Token.")

    @property
    def provider(self) -> Literal["twilio"]:
        """Whose they are."""
        return "twilio"


class SaveTelnyxIntegration(_Request):
    """Your credentials at Telnyx."""

    api_key: Credential = Field(description="Your Telnyx V2 API key.")
    sip_password: SipPassword | None = Field(
        default=None, description="The password of your credential connections, where Telnyx does not tell it."
    )

    @property
    def provider(self) -> Literal["telnyx"]:
        """Whose they are."""
        return "telnyx"


class SaveOpenAiIntegration(_Request):
    """Your key at OpenAI, for agents of ``openai-realtime``."""

    api_key: Credential = Field(description="Your OpenAI API key.")

    @property
    def provider(self) -> Literal["openai"]:
        """Whose it is."""
        return "openai"


class _Integration(_Resource):
    created_at: Timestamp
    updated_at: Timestamp


class TwilioIntegration(_Integration):
    """Credentials that are kept sealed: of a secret there is only that it is there."""

    provider: Literal["twilio"]
    account_sid: str
    auth_token_set: bool
    previous_auth_token_until: Timestamp | None = Field(
        description="After a new Auth Token was saved: how long webhooks signed with the one before are taken."
    )
    subaccounts: list[str] = Field(description="Subaccounts whose numbers were imported, and whose tokens are kept.")


class TelnyxIntegration(_Integration):
    """Credentials that are kept sealed: of a secret there is only that it is there."""

    provider: Literal["telnyx"]
    api_key_set: bool
    sip_password_set: bool


class OpenAiIntegration(_Integration):
    """A key that is kept sealed: there is only that it is there."""

    provider: Literal["openai"]
    api_key_set: bool


class SavedTwilioIntegration(TwilioIntegration, _Imported):
    """Credentials just checked at Twilio, and kept."""


class SavedTelnyxIntegration(TelnyxIntegration, _Imported):
    """Credentials just checked at Telnyx, and kept."""


class SavedOpenAiIntegration(OpenAiIntegration, _Imported):
    """A key just tried at OpenAI, and kept."""


class IntegrationDeleted(_Resource):
    """The credentials are gone."""

    provider: Integrated
    deleted: Literal[True] = True


# --- calls ------------------------------------------------------------------------------------

CallStatus = Literal["ringing", "in_progress", "completed", "failed"]

_STATISTICS_SCHEMA: Final = msgspec.json.schema_components([LegStatistics])[1]["LegStatistics"]

Statistics = Annotated[dict[str, Any], WithJsonSchema({**_STATISTICS_SCHEMA, "additionalProperties": True})]


class RecordingResource(_Resource):
    """A call's recording: ``GET /calls/{id}/recording`` has the audio, once nobody writes it any more.

    ``cut``: its end is missing, or the process that recorded died. ``gaps_ms`` [ms] of it are silence that stands for
    what was lost, to a disk that was full or slow; ``problem`` says to what.
    """

    status: Literal["recording", "completed", "cut", "failed", "deleted", "expired"]
    format: Literal["wav", "flac", "ogg"] | None = None
    seconds: Seconds | None = None
    bytes: int | None = None
    gaps_ms: int | None = None
    problem: str | None = None


class RecordingDeleted(_Resource):
    """The recording is gone; the call's record stays."""

    id: str
    deleted: Literal[True] = True


class CallResource(_Resource):
    """A call. ``ring_s`` runs from the offer to the answer, ``duration_s`` from there to the end [s]."""

    id: str
    sid: str
    status: CallStatus
    direction: str
    trunk: str
    from_number: str
    to_number: str
    number_id: str | None
    agent_id: str | None
    started_at: Timestamp
    answered_at: Timestamp | None
    ended_at: Timestamp | None
    ring_s: Seconds | None
    duration_s: Seconds | None
    sip_status: int | None
    ended_by: str | None
    end_reason: str | None
    sip_call_id: str | None
    recording: RecordingResource | None = Field(description="Null for a call that was not to be recorded.")
    carrier_ids: dict[str, str] = Field(description="What the carrier calls the call, by its own names.")


class TimelineEntry(_Resource):
    """What happened ``at_s`` seconds after the offer."""

    at_s: Seconds
    event: str


class Forwarding(_Resource):
    """A number that forwarded the call, and why, as it said."""

    number: str
    reason: str


class CallIdentity(_Resource):
    """What the INVITE and the carrier said of who calls; a hidden caller's name and number are not kept."""

    name: str = ""
    asserted: list[str] = Field(default=[], description="P-Asserted-Identity, from a trunk that is believed.")
    verstat: str = Field(default="", description="How far the number is verified: `TN-Validation-Passed-A` and so on.")
    privacy: list[str] = Field(default=[], description="The tokens of Privacy.")
    hidden: bool = Field(default=False, description="The caller wishes that nobody be told who it is.")
    diversion: list[Forwarding] = Field(default=[], description="Diversion, the latest first.")
    history: list[Forwarding] = Field(default=[], description="History-Info, in its order.")


class CallReason(_Resource):
    """A Reason that the call ended with (RFC 3326)."""

    protocol: str
    cause: int | None
    text: str


class CallDetail(CallResource):
    """A call with its timeline and its media statistics (empty while it is live)."""

    timeline: list[TimelineEntry]
    statistics: Statistics
    identity: CallIdentity
    reasons: list[CallReason] = Field(description="Of the phone's side, at the end: SIP's, the telephone network's.")


class CallSettings(_Request):
    """How an outgoing call is made. Spans are seconds with an `s`, as in `"30s"`."""

    greeting: Annotated[str, StringConstraints(max_length=2000)] | None = Field(
        default=None, description="What the agent is to say first: its parameter `greeting`."
    )
    max_duration: Span = Field(default="3600s", description="The call is ended after this.")
    join_timeout: Span | None = Field(
        default=None, description="Given up when the callee has not answered by then, 5 s to 120 s. Absent: the edge's."
    )
    hide_caller_id: StrictBool = Field(default=False, description="Ask the carrier not to show the number.")
    recording_enabled: StrictBool | None = Field(
        default=None, description="Whether this call is recorded. Absent: as its number, its agent or the edge has it."
    )

    @field_validator("join_timeout")
    @classmethod
    def _patience(cls, value: str | None) -> str | None:
        if value is not None and not 5 <= _seconds(value) <= 120:
            raise ValueError("is not from 5s to 120s")
        return value

    @property
    def max_duration_s(self) -> float:
        """In seconds."""
        return _seconds(self.max_duration)

    @property
    def join_timeout_s(self) -> float | None:
        """In seconds."""
        return None if self.join_timeout is None else _seconds(self.join_timeout)


class PlaceCall(_Request):
    """A call to be placed: the agent talks to whoever answers."""

    agent_id: UUID
    phone_number: Annotated[str, StringConstraints(min_length=1, max_length=64)] = Field(
        description="Whom to call, E.164 with +.", examples=["+14155550123"]
    )
    from_number: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = Field(
        default=None, description="A number of your account. Absent: one that the agent answers, else the newest."
    )
    variables: dict[ParameterName, ParameterValue] = Field(
        default={}, max_length=50, description="Parameters for the agent, over those of its record."
    )
    call_settings: CallSettings = CallSettings()


class QueuedCall(_Resource):
    """The call is being placed; its record tells the rest."""

    id: str
    agent_id: str
    status: Literal["queued"] = "queued"
    direction: Literal["outbound"] = "outbound"


class TransferCall(_Request):
    """Hand the caller to somebody else."""

    target: Annotated[str, StringConstraints(min_length=1, max_length=255)] = Field(
        description="E.164 with +, or a SIP URI that the operator has listed.", examples=["+14155550123"]
    )
    agent: Literal["leaves", "listens"] = Field(
        default="leaves",
        description="What becomes of the agent where a second leg is joined here: it leaves, or hears both and has"
        " the caller back when the target hangs up.",
    )


class Transferring(_Resource):
    """The transfer is under way; the call's timeline and the agent hear how it goes."""

    id: str
    target: str
    method: Literal["refer", "carrier", "bridge"]
    status: Literal["started"] = "started"


class SetDialling(_Request):
    """What an account may dial. Absent and null: as the edge's settings say (`[outbound]`)."""

    calls: Annotated[int, Field(ge=1, le=10_000, strict=True)] | None = Field(default=None, description="At once.")
    calls_per_minute: Annotated[int, Field(ge=1, le=10_000, strict=True)] | None = None
    minutes_per_day: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] | None = Field(
        default=None, description="In a day of UTC, all calls together."
    )
    countries: list[Annotated[str, StringConstraints(pattern=r"^([A-Z]{2}|\*)$")]] | None = Field(
        default=None, max_length=300, description="Two capital letters each, `*` for all."
    )


class DiallingResource(_Resource):
    """What an account may dial, the edge's own settings included, and what of the day is used."""

    account_id: str
    calls: int
    calls_per_minute: int
    minutes_per_day: int
    countries: list[str] | None = Field(description="null: that of the number called from.")
    used_minutes: float


class HangUp(_Request):
    """How a live call is ended; the body may be left out."""

    headers: dict[SipHeaderName, SipHeaderValue] = Field(
        default={}, max_length=16, description="Sent on the BYE, as far as `sip.agent_headers` lets them cross."
    )


class HungUp(_Resource):
    """The call is being ended; its record follows within moments."""

    id: str
    hung_up: Literal[True] = True


class SendDigits(_Request):
    """Digits to the phone (RFC 4733)."""

    digits: Annotated[str, StringConstraints(pattern=r"^[0-9*#A-Da-dwW]{1,100}$")] = Field(
        description="0-9, *, #, A-D; each w pauses half a second.", examples=["ww123#"]
    )


class PlayRecording(_Request):
    """A recording to the phone, behind what the agent has said and is still to be heard."""

    recording: RecordingName
    interrupt: StrictBool = Field(default=False, description="Instead of it: as clear does.")


class SetMark(_Request):
    """A mark behind what is queued now; the call's timeline says when playout has reached it."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=100), AfterValidator(_one_line)]


class CallControlled(_Resource):
    """It has been done, or was so already."""

    id: str
    done: Literal[True] = True


# --- rows to resources ------------------------------------------------------------------------


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _moment_if_any(seconds: float | None) -> datetime | None:
    return None if seconds is None else _moment(seconds)


def account_resource(row: rows.Account) -> AccountResource:
    """As the API shows it."""
    return AccountResource(id=row.id, sid=account_sid(row.id), name=row.name, created_at=_moment(row.created_at))


def _key_fields(row: rows.ApiKey) -> dict[str, Any]:
    return {
        "id": row.id,
        "account_id": row.account_id,
        "role": row.role,
        "hint": row.hint,
        "created_at": _moment(row.created_at),
        "revoked_at": _moment_if_any(row.revoked_at),
    }


def key_resource(row: rows.ApiKey) -> KeyResource:
    """As the API shows it."""
    return KeyResource(**_key_fields(row))


def created_key(row: rows.ApiKey, text: str) -> CreatedKey:
    """As the API shows it, once."""
    return CreatedKey(**_key_fields(row), key=text)


def agent_resource(row: rows.Agent, now: float) -> AgentResource:
    """As the API shows it, masked; ``now`` is UTC [s since the epoch]."""
    until = float(row.secrets.get("previous_signing_secret_until", 0.0))
    return AgentResource(
        id=row.id,
        name=row.name,
        pipeline=parse_pipeline(row.pipeline),
        recording=recording_options(row.options),
        machine_detection=MachineDetectionOptions.model_validate(
            msgspec.json.decode(row.options).get("machine_detection", {})
        ),
        headers={name.removeprefix(HEADER): "********" for name in row.secrets if name.startswith(HEADER)},
        signing_secret_set="signing_secret" in row.secrets,
        previous_signing_secret_until=_moment(until) if now < until else None,
        twilio_auth_token_set="twilio_auth_token" in row.secrets,
        created_at=_moment(row.created_at),
        updated_at=_moment(row.updated_at),
    )


def with_option(options: str, name: str, choice: RecordingOptions | MachineDetectionOptions | None) -> str:
    """An agent's or a number's ``options`` with another choice of what is called ``name``; None: none of its own."""
    changed = {other: value for other, value in msgspec.json.decode(options).items() if other != name}
    if choice is not None and (chosen := choice.model_dump(exclude_none=True)):
        changed[name] = chosen
    return msgspec.json.encode(changed).decode()


def recording_options(options: str) -> RecordingOptions:
    """What an agent or a number has of its own."""
    return RecordingOptions.model_validate(msgspec.json.decode(options).get("recording", {}))


def _number_fields(row: rows.Number) -> dict[str, Any]:
    return asdict(row) | {"created_at": _moment(row.created_at), "updated_at": _moment(row.updated_at)}


def number_resource(row: rows.Number) -> TwilioNumber | TelnyxNumber | SipNumber:
    """As the API shows it: the one ``provider_…`` field that its provider has."""
    return _NUMBER.validate_python(_number_fields(row))


def imported_number(
    row: rows.Number, warnings: Iterable[ProviderWarning] = ()
) -> ImportedTwilioNumber | ImportedTelnyxNumber | ImportedSipNumber:
    """As imports and verifications answer."""
    return _IMPORTED.validate_python(_number_fields(row) | {"warnings": [asdict(each) for each in warnings]})


def twilio_integration(row: rows.Integration, now: float) -> TwilioIntegration:
    """Masked; ``now`` is UTC [s since the epoch]."""
    until = float(row.secrets.get("previous_auth_token_until", 0.0))
    subaccounts = (name.removeprefix(rows.SUBACCOUNT) for name in row.secrets if name.startswith(rows.SUBACCOUNT))
    return TwilioIntegration(
        provider="twilio",
        account_sid=row.public["account_sid"],
        auth_token_set="auth_token" in row.secrets,
        previous_auth_token_until=_moment(until) if now < until else None,
        subaccounts=sorted(subaccounts),
        created_at=_moment(row.created_at),
        updated_at=_moment(row.updated_at),
    )


def telnyx_integration(row: rows.Integration) -> TelnyxIntegration:
    """Masked."""
    return TelnyxIntegration(
        provider="telnyx",
        api_key_set="api_key" in row.secrets,
        sip_password_set="sip_password" in row.secrets,
        created_at=_moment(row.created_at),
        updated_at=_moment(row.updated_at),
    )


def openai_integration(row: rows.Integration) -> OpenAiIntegration:
    """Masked."""
    return OpenAiIntegration(
        provider="openai",
        api_key_set="api_key" in row.secrets,
        created_at=_moment(row.created_at),
        updated_at=_moment(row.updated_at),
    )


def _call_fields(row: rows.Call) -> dict[str, Any]:
    moments = {name: _moment_if_any(getattr(row, name)) for name in ("started_at", "answered_at", "ended_at")}
    made = {"sid", "recording", *moments}
    kept = {name: getattr(row, name) for name in CallResource.model_fields if name not in made}
    return {**kept, **moments, "sid": call_sid(row.id), "recording": _recording(row.recording)}


def _recording(row: Mapping[str, Any]) -> RecordingResource | None:
    return RecordingResource(**{**row, "problem": row.get("problem") or None}) if "status" in row else None


def call_resource(row: rows.Call) -> CallResource:
    """As lists show it."""
    return CallResource(**_call_fields(row))


def call_detail(row: rows.Call) -> CallDetail:
    """With all there is."""
    timeline = [TimelineEntry(at_s=at_s, event=event) for at_s, event in row.timeline]
    return CallDetail(
        **_call_fields(row),
        timeline=timeline,
        statistics=dict(row.statistics),
        identity=CallIdentity.model_validate(dict(row.identity)),
        reasons=[CallReason.model_validate(dict(each)) for each in row.reasons],
    )
