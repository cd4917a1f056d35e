"""The typed, versioned messages between control and media.

Control sends a :class:`Request` and gets one :class:`Reply` with its ``request_id``; media sends
:class:`Notice` of its own accord. Commands are idempotent: the same ``request_id`` gets the same
reply, and is carried out once. All cross the codec at the end of this file, in this process too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, Protocol, TypeVar

import msgspec

PROTOCOL_VERSION: Final = 1


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Base of all messages; the tag is the class's name."""


# --- values -----------------------------------------------------------------------------------


class LegPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the phone leg may do.

    ``codecs`` in order of preference. ``media_networks`` (CIDRs): where the peer's RTP may come
    from; empty: the SDP's address only, or, with ``symmetric``, any address. ``allow_private``
    admits loopback and private addresses in ``c=`` (a lab). Time-outs in seconds; None: no watchdog.
    ``info_digits``: control is told of an agent's digits that the peer takes no telephone-event for.

    ``srtp`` is ``off``, ``allow`` or ``require`` (RFC 4568); ``rtcp_mux``: our offers ask for it (RFC 5761).
    ``dtmf``: digits are listened for in the audio never (``rfc4733``), always (``inband``), or where the peer has no
    telephone-event (``auto``).
    """

    codecs: tuple[str, ...] = ("PCMU", "PCMA")
    media_networks: tuple[str, ...] = ()
    symmetric: bool = True
    allow_private: bool = False
    first_packet_timeout_s: float | None = 20.0
    silence_timeout_s: float | None = 20.0
    info_digits: bool = True
    srtp: str = "off"
    rtcp_mux: bool = False
    dtmf: str = "auto"


class OnLost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to do, in this order, when the agent is lost in mid-call; then the call ends.

    ``reconnect`` once, for ``reconnect_timeout_s`` [s] at most; play the recording called ``message``; ask for a
    transfer of the caller to ``transfer`` (E.164 or a SIP URI).
    """

    reconnect: bool = False
    reconnect_timeout_s: float = 5.0
    message: str | None = None
    transfer: str | None = None


class TurnDetection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How OpenAI tells that the caller has ended a turn; None: its own choice.

    ``threshold`` (0 to 1), ``prefix_padding_ms`` and ``silence_duration_ms`` [ms] are of ``server_vad``, ``eagerness``
    of ``semantic_vad``.
    """

    type: Literal["server_vad", "semantic_vad"] = "server_vad"
    threshold: float | None = None
    prefix_padding_ms: int | None = None
    silence_duration_ms: int | None = None
    eagerness: Literal["low", "medium", "high", "auto"] | None = None


class Realtime(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A session of ``openai-realtime``; None: OpenAI's own choice.

    ``greeting``: what to follow for the first words; without it the caller speaks first. ``tools``: what the model may
    do to the call, ``hang_up`` and ``transfer_call``. ``temperature`` goes to servers with the older interface alone.
    """

    voice: str | None = None
    instructions: str | None = None
    greeting: str | None = None
    temperature: float | None = None
    turn_detection: TurnDetection = TurnDetection()
    tools: tuple[str, ...] = ()


class AgentSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which agent answers: ``protocol`` is one of :data:`media.agents.catalogue.PROTOCOLS`.

    ``answer_after_s``: 200 at the agent's first audio or this long after ``start``, whichever is
    first. ``agent_timeout_s``: no connection in this time fails the call (480). ``fallback_url`` is tried within it
    when ``url`` cannot be reached. ``headers``, ``signing_secrets`` and ``twilio_auth_token`` authenticate requests
    (:mod:`media.agents.signing`): they are secret, and no ``repr`` shows them. ``sample_rate`` [Hz] and ``encoding``
    (``PCMU``, ``PCMA``): None is the protocol's usual one. ``signalling`` of a WebRTC agent: ``whip`` or
    ``smallwebrtc``. ``hold_music``: what the phone hears while we hold it, ``silence`` or a recording's name.
    ``early_media``: the phone hears the agent before the answer, which its first word does not bring about.
    ``sip_headers``: what the phone is sent on 180, 183, 200 and BYE, by allow-list.
    """

    protocol: str
    name: str | None = None
    url: str | None = None
    parameters: dict[str, str] = {}
    answer_after_s: float = 1.0
    agent_timeout_s: float = 15.0
    hold_music: str = "silence"
    sip_headers: dict[str, str] = {}
    early_media: bool = False
    fallback_url: str | None = None
    on_lost: OnLost | None = None
    headers: dict[str, str] = {}
    signing_secrets: tuple[str, ...] = ()
    twilio_auth_token: str | None = None
    sample_rate: int | None = None
    encoding: str | None = None
    realtime: Realtime | None = None
    signalling: str | None = None

    def __repr__(self) -> str:
        return f"AgentSpec(protocol={self.protocol!r}, name={self.name!r})"


class CallContext(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the agent is told of the call.

    ``call_sid``/``account_sid`` are Twilio-shaped ids, the carrier's own where it has told them; ``call_id`` is the
    record's. ``caller_name`` and ``sip_call_id`` are as the caller's INVITE has them. ``headers`` are the
    phone's, by allow-list; ``identity`` what else is known of who calls, by documented names.
    """

    call_sid: str
    account_sid: str
    direction: str
    from_number: str
    to_number: str
    trunk: str
    headers: dict[str, str] = {}
    call_id: str = ""
    caller_name: str = ""
    sip_call_id: str = ""
    identity: dict[str, str] = {}

    def told(self, parameters: Mapping[str, str]) -> dict[str, str]:
        """For protocols that have one place for all: the phone's headers, who calls, the agent's own ``parameters``.

        Of what has one name the later counts.
        """
        return {**self.headers, **self.identity, **parameters}


class RecordingOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Record the call from its start: into a file at ``path`` (without its suffix) that begins with ``head``.

    ``key`` encrypts it and nothing else. ``format`` is ``wav``, ``flac`` or ``ogg``. With ``consent_tone`` the caller
    hears a tone when the call begins, and again every ``consent_tone_every_s`` [s].
    """

    path: str
    head: bytes
    key: bytes
    format: Literal["wav", "flac", "ogg"] = "flac"
    consent_tone: bool = True
    consent_tone_every_s: float | None = None

    def __repr__(self) -> str:
        return f"RecordingOrder(path={self.path!r}, format={self.format!r})"


class DetectionOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tell who answered, see :mod:`media.machine_detection`: by ``timeout_s`` [s], a beep by ``beep_timeout_s`` [s]."""

    timeout_s: float = 6.0
    beep_timeout_s: float = 45.0


class Stretches(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Lengths of one kind [ms]; percentiles are those of the last 500. None: there was none."""

    count: int = 0
    total_ms: int = 0
    p50_ms: int | None = None
    p95_ms: int | None = None
    max_ms: int | None = None


class Conversation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a conversation went, see :mod:`media.conversation`.

    ``caller_silence``: the caller's silences of a second and more; ``talk_over``: both speaking at once, 0.2 s and
    more; ``response``: from the caller's last word to the agent's first.
    """

    caller_silence: Stretches = Stretches()
    talk_over: Stretches = Stretches()
    response: Stretches = Stretches()


class LegStatistics(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One call's counts (packets), times [ms] and loss [fraction]; None: not known.

    ``agent_frames_sent``: 20 ms frames of the caller given to the agent, ``agent_frames_dropped`` not
    given because it reads too slowly; ``agent_frames_received``: 20 ms frames' worth the agent has
    said, ``playout_overflow_ms`` [ms] of it refused because its queue was full;
    ``agent_messages_ignored`` made no sense. ``srtp`` is the suite, None for media in the clear;
    ``packets_unauthentic`` were dropped by it. ``r_factor`` (0 to 93.2) and ``mos`` (1 to 4.5) estimate what the agent
    hears of the caller by the E-model (ITU-T G.107).
    """

    codec: str | None = None
    remote: str | None = None
    packets_sent: int = 0
    packets_received: int = 0
    packets_lost: int = 0
    packets_late: int = 0
    packets_refused: int = 0
    packets_unauthentic: int = 0
    srtp: str | None = None
    frames_concealed: int = 0
    frames_played: int = 0
    jitter_ms: float | None = None
    jitter_buffer_ms: float | None = None
    round_trip_ms: float | None = None
    remote_fraction_lost: float | None = None
    remote_jitter_ms: float | None = None
    r_factor: float | None = None
    mos: float | None = None
    digits_received: int = 0
    digits_sent: int = 0
    agent_frames_received: int = 0
    agent_frames_sent: int = 0
    agent_frames_dropped: int = 0
    agent_messages_ignored: int = 0
    playout_queued_ms: int = 0
    playout_overflow_ms: int = 0
    pacing_late_max_ms: float | None = None
    machine_detection: str | None = None
    conversation: Conversation | None = None


# --- commands ---------------------------------------------------------------------------------


class OpenCall(Message, frozen=True, kw_only=True, tag="open_call"):
    """Bind ``rtp_port`` (even; RTCP is the next), answer ``offer`` (None: make an offer), connect the agent.

    Reply: :class:`CallOpened`, or :class:`Failed` with ``no_common_codec``, ``bad_sdp``,
    ``media_address_refused``, ``port_unavailable``, ``bad_agent``, ``call_exists``. Nothing is sent to
    the phone before :class:`StartMedia`.

    With the same ``seed``, port, policy and offer the answer is the same to the byte, whoever gives it: the one that a
    provisional response had already (RFC 3261 §13.2.1). Empty: its session id and keys are drawn anew.
    """

    call: str
    rtp_port: int
    offer: bytes | None
    policy: LegPolicy
    agent: AgentSpec
    context: CallContext
    recording: RecordingOrder | None = None
    detection: DetectionOrder | None = None
    conversation: bool = True
    seed: bytes = b""

    def __repr__(self) -> str:
        return f"OpenCall(call={self.call!r}, rtp_port={self.rtp_port}, agent={self.agent.protocol!r})"


class ApplyAnswer(Message, frozen=True, kw_only=True, tag="apply_answer"):
    """The peer's answer to the offer we made last; with ``refresh``, to our last description said again.

    ``early``: that of a provisional response, after which another one may come; ``second``: the second phone leg's.
    Reply: :class:`Done`, or :class:`Failed` with an SDP code or ``no_offer`` (none is outstanding);
    then nothing changed.
    """

    call: str
    answer: bytes
    refresh: bool = False
    early: bool = False
    second: bool = False


class StartMedia(Message, frozen=True, kw_only=True, tag="start_media"):
    """The call is established (ACK sent or received): play from now on; a second one changes nothing.

    ``early``: not yet, but the phone hears the agent all the same (183). Nobody misses its media before the answer.
    Reply: :class:`Done`, or :class:`Failed` with ``no_answer`` (our offer has had none).
    """

    call: str
    early: bool = False


class Renegotiate(Message, frozen=True, kw_only=True, tag="renegotiate"):
    """A re-INVITE's offer (None: make one); ``second``: of the second phone leg.

    ``early``: an UPDATE's, before an INVITE of ours has its final answer; that may still be another fork's.
    Reply: :class:`CallOpened` with our SDP, or :class:`Failed`; then nothing changed.
    """

    call: str
    offer: bytes | None
    second: bool = False
    early: bool = False


class OpenSecondLeg(Message, frozen=True, kw_only=True, tag="open_second_leg"):
    """A phone leg for whom the caller is to be joined to: bind ``rtp_port`` (even), make an offer.

    Reply: :class:`CallOpened`, or :class:`Failed` with ``leg_exists``, ``port_unavailable``, ``unknown_call``. Its
    early answer (:class:`ApplyAnswer`) lets the caller hear it beside the agent. Next: :class:`JoinLegs` or
    :class:`CloseSecondLeg`.
    """

    call: str
    rtp_port: int
    policy: LegPolicy


class Ring(Message, frozen=True, kw_only=True, tag="ring"):
    """The second leg rings without early media: until there is some, the caller hears the ringing tone of ``number``.

    Reply: :class:`Done`, or :class:`Failed` with ``no_leg``.
    """

    call: str
    number: str


class JoinLegs(Message, frozen=True, kw_only=True, tag="join_legs"):
    """The second leg has answered: it and the caller talk. ``agent`` ``leaves``, or ``listens`` to both.

    Reply: :class:`Done`, or :class:`Failed` with ``no_leg`` or ``no_answer``.
    """

    call: str
    agent: str = "leaves"


class CloseSecondLeg(Message, frozen=True, kw_only=True, tag="close_second_leg"):
    """It is over; the caller is with the agent again, if that has not left.

    Reply: :class:`CallClosed` with the leg's statistics (None: there was none).
    """

    call: str


class Hold(Message, frozen=True, kw_only=True, tag="hold"):
    """Make an offer that holds the phone, or takes it back (RFC 3264 §8.4); nothing changes before its answer.

    Reply: :class:`CallOpened` with our SDP, or :class:`Failed`. Next: :class:`ApplyAnswer`, and from then on the
    phone hears the agent's hold music, or :class:`Withdraw`.
    """

    call: str
    held: bool


class Withdraw(Message, frozen=True, kw_only=True, tag="withdraw"):
    """Our offer was refused: all is as before. Reply: :class:`Done`."""

    call: str


class SendDigits(Message, frozen=True, kw_only=True, tag="send_digits"):
    """Digits to the phone by RFC 4733: ``0-9*#A-D``, ``w`` pauses 0.5 s.

    Reply: :class:`Done` when queued, or :class:`Failed` with ``bad_digits`` or ``no_telephone_event``
    (the peer takes none).
    """

    call: str
    digits: str


class HearDigit(Message, frozen=True, kw_only=True, tag="hear_digit"):
    """A digit of the phone's that came by INFO; ``second``: of the second phone leg's. Reply: :class:`Done`.

    Taken like the others, once, where a telephone-event has told the same key.
    """

    call: str
    digit: str
    duration_ms: int
    second: bool = False


class Play(Message, frozen=True, kw_only=True, tag="play"):
    """Queue a recording to the phone behind what waits; with ``interrupt`` instead of it, as :class:`Clear` does.

    Reply: :class:`Done`, or :class:`Failed` with ``no_recording`` or ``not_talking`` (not established, or leaving).
    """

    call: str
    recording: str
    interrupt: bool = False


class Clear(Message, frozen=True, kw_only=True, tag="clear"):
    """Stop what is being played within a frame; the agent gets its marks back. Reply: :class:`Done`."""

    call: str


class SetMark(Message, frozen=True, kw_only=True, tag="set_mark"):
    """:class:`MarkReached` when all that is queued now has been played, or cleared.

    Reply: :class:`Done`, or :class:`Failed` with ``not_talking``.
    """

    call: str
    name: str


class TellAgent(Message, frozen=True, kw_only=True, tag="tell_agent"):
    """Tell the agent of something in its call that media does not see: how a transfer goes, what was heard.

    ``event`` is one word, ``data`` its values. Reply: :class:`Done`, also where the protocol has no place for it.
    """

    call: str
    event: str
    data: dict[str, str | int | float | bool | None] = {}


class CloseCall(Message, frozen=True, kw_only=True, tag="close_call"):
    """End the media and the agent leg now. Reply: :class:`CallClosed` (also when unknown)."""

    call: str
    reason: str


class Ping(Message, frozen=True, kw_only=True, tag="ping"):
    """Reply: :class:`Done`."""


Command = (
    HearDigit
    | OpenCall
    | ApplyAnswer
    | StartMedia
    | Renegotiate
    | OpenSecondLeg
    | Ring
    | JoinLegs
    | CloseSecondLeg
    | Hold
    | Withdraw
    | SendDigits
    | Play
    | Clear
    | SetMark
    | TellAgent
    | CloseCall
    | Ping
)

# --- replies ----------------------------------------------------------------------------------


class Done(Message, frozen=True, kw_only=True, tag="done"):
    """Carried out."""


class CallOpened(Message, frozen=True, kw_only=True, tag="call_opened"):
    """Our SDP (an answer, or an offer when none was given) and the agreed codec (None: not yet)."""

    sdp: bytes
    codec: str | None
    held: bool = False


class CallClosed(Message, frozen=True, kw_only=True, tag="call_closed"):
    """The call's final statistics; ``statistics`` None when the call was unknown."""

    statistics: LegStatistics | None


class Failed(Message, frozen=True, kw_only=True, tag="failed"):
    """Not carried out.

    ``code`` is one of the command's docstring, or ``unknown_call``, ``overload``, ``closing``,
    ``stale_epoch`` (meant for an earlier life of the worker), ``internal``.
    """

    code: str
    message: str


Result = Done | CallOpened | CallClosed | Failed

# --- notices ----------------------------------------------------------------------------------


class AgentReady(Message, frozen=True, kw_only=True, tag="agent_ready"):
    """Answer the phone now: the agent has spoken, or ``answer_after_s`` has passed since its start.

    ``waited_s`` is since the call's opening, of which ``connected_s`` until the agent's start.
    """

    call: str
    waited_s: float
    connected_s: float = 0.0


class AgentFailed(Message, frozen=True, kw_only=True, tag="agent_failed"):
    """The agent could not be reached before the answer; ``cause`` ``timeout``, ``refused``, ``error`` or ``forbidden``.

    The last: the agent's address is none that an agent may have.
    """

    call: str
    cause: str
    message: str


class AgentEnded(Message, frozen=True, kw_only=True, tag="agent_ended"):
    """The agent has ended the call and its queue has been played out; ``cause`` ``hang_up``, ``closed`` or ``lost``.

    ``headers`` are those it wants on the BYE.
    """

    call: str
    cause: str
    message: str = ""
    headers: dict[str, str] = {}


class DigitsUnsent(Message, frozen=True, kw_only=True, tag="digits_unsent"):
    """Digits (``0-9*#A-D``, ``w`` a pause), which the peer takes no telephone-event for.

    ``second``: the second leg's peer, to whom the caller has pressed them.
    """

    call: str
    digits: str
    second: bool = False


class AgentAsks(Message, frozen=True, kw_only=True, tag="agent_asks"):
    """The agent asks for what only control can do: ``verb`` is ``transfer`` (``target``), ``hold`` or ``resume``.

    Control tells it of the outcome by :class:`TellAgent`.
    """

    call: str
    verb: str
    arguments: dict[str, str] = {}


class AgentNoted(Message, frozen=True, kw_only=True, tag="agent_noted"):
    """Something about the agent, for the call's timeline and for a counter; the call goes on.

    ``event``: ``agent_connected``, ``agent_not_reached``, ``agent_lost``, ``agent_reconnected``, ``message``,
    ``message_played``, ``message_missing``, ``transfer_failed``.
    """

    call: str
    event: str
    detail: str = ""


class MarkReached(Message, frozen=True, kw_only=True, tag="mark_reached"):
    """A mark of control's: what was queued before it has been played, or with ``cleared`` was not."""

    call: str
    name: str
    cleared: bool = False


class MediaLost(Message, frozen=True, kw_only=True, tag="media_lost"):
    """The watchdog: ``kind`` ``never`` (no RTP since the start) or ``silence`` (none for the time-out, not on hold)."""

    call: str
    kind: str
    after_s: float


class DigitReceived(Message, frozen=True, kw_only=True, tag="digit_received"):
    """A digit from the phone, once, at its end (or when the next begins)."""

    call: str
    digit: str
    duration_ms: int


class SourceLearnt(Message, frozen=True, kw_only=True, tag="source_learnt"):
    """The phone leg's RTP source is locked to ``address`` (``host:port``)."""

    call: str
    address: str


class MachineDetected(Message, frozen=True, kw_only=True, tag="machine_detected"):
    """Who answered: ``human``, ``machine``, ``machine_beep``, ``fax`` or ``unsure``; ``beep`` may follow.

    ``after_ms`` [ms] after the call's start.
    """

    call: str
    result: str
    after_ms: int
    reason: str


class RecordingEnded(Message, frozen=True, kw_only=True, tag="recording_ended"):
    """What has come of a call's recording; may follow :class:`CallClosed`.

    ``status`` is ``completed``, ``cut`` or ``failed``; without ``seconds`` [s] only the file can tell the rest.
    ``gaps_ms`` [ms] are silence that stands for what was lost; ``bytes`` is the file's size.
    """

    call: str
    status: str
    seconds: float | None = None
    gaps_ms: int = 0
    bytes: int = 0
    problem: str = ""


class Statistics(Message, frozen=True, kw_only=True, tag="statistics"):
    """All calls of a worker, once a second; ``gc_pause_max_ms``: its garbage collector's longest so far."""

    calls: dict[str, LegStatistics]
    tick_late_p99_ms: float | None = None
    gc_pause_max_ms: float | None = None


NoticeBody = (
    AgentReady
    | AgentFailed
    | AgentEnded
    | AgentAsks
    | AgentNoted
    | MarkReached
    | MediaLost
    | DigitReceived
    | SourceLearnt
    | MachineDetected
    | RecordingEnded
    | DigitsUnsent
    | Statistics
)

# --- envelopes --------------------------------------------------------------------------------


class Request(msgspec.Struct, frozen=True, kw_only=True, tag="request", forbid_unknown_fields=True):
    """A command. ``deadline_s`` [s] is relative to its receipt; ``epoch`` names the worker's life."""

    request_id: int
    deadline_s: float
    body: Command
    epoch: int = 0
    version: int = PROTOCOL_VERSION


class Reply(msgspec.Struct, frozen=True, kw_only=True, tag="reply", forbid_unknown_fields=True):
    """The one answer to the request of that id."""

    request_id: int
    body: Result
    epoch: int = 0
    version: int = PROTOCOL_VERSION


class Notice(msgspec.Struct, frozen=True, kw_only=True, tag="notice", forbid_unknown_fields=True):
    """Sent by media unasked."""

    body: NoticeBody
    epoch: int = 0
    version: int = PROTOCOL_VERSION


Envelope = Request | Reply | Notice

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Envelope] = msgspec.msgpack.Decoder(Envelope)


class _Versioned(Protocol):
    @property
    def version(self) -> int: ...


_M = TypeVar("_M", bound=_Versioned)


class ProtocolError(Exception):
    """Bytes that are no message of this version."""


def encode(envelope: Envelope) -> bytes:
    """The wire form (MessagePack)."""
    return _encoder.encode(envelope)


def decode(data: bytes) -> Envelope:
    """One envelope; raises :class:`ProtocolError` for bytes that are none, or of another version."""
    return decoded(_decoder, data, PROTOCOL_VERSION)


def decoded(decoder: msgspec.msgpack.Decoder[_M], data: bytes, version: int) -> _M:
    """One message of a protocol's ``version``; raises :class:`ProtocolError` for anything else."""
    try:
        message = decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(str(error)) from error
    if message.version != version:
        raise ProtocolError(f"protocol version {message.version}, expected {version}")
    return message
