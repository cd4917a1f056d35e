"""What the SIP engine tells its user, and the values its commands take.

Every event is a frozen value; the engine never hands out its own objects. A call is named by its
``CallKey``, unique in the life of one engine. SDP bodies are opaque bytes here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NewType

if TYPE_CHECKING:
    from edge.identity import Identity

__all__ = [
    "Address",
    "CallAnswered",
    "CallConfirmed",
    "CallEnded",
    "CallKey",
    "CallOffered",
    "CallProgressed",
    "Cause",
    "DigitPressed",
    "Event",
    "Flow",
    "Identification",
    "MediaAnswered",
    "MediaOffered",
    "MediaRefused",
    "OptionsAnswered",
    "OutgoingCall",
    "Party",
    "ReferEnded",
    "ReferProgressed",
    "ReferSource",
    "Refusal",
    "Registered",
    "RegistrationFailed",
    "RegistrationSpec",
    "TransportName",
]

CallKey = NewType("CallKey", str)


class TransportName(Enum):
    """A SIP transport protocol (RFC 3261 §18); ``value`` as in ``;transport=``."""

    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"

    @property
    def reliable(self) -> bool:
        """True where the transport itself retransmits (no timer A, E, G)."""
        return self is not TransportName.UDP


@dataclass(frozen=True, slots=True)
class Address:
    """An IP address literal (never a name; IPv6 without brackets) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Flow:
    """Where a message came from, or goes to (RFC 5626's word).

    ``connection`` numbers one TCP or TLS connection of this process; 0 for UDP.
    """

    transport: TransportName
    local: Address
    remote: Address
    connection: int = 0


class Identification(Enum):
    """How the trunk of an incoming call was recognised, strongest first."""

    REGISTRATION = "registration"
    TOKEN = "token"
    DIGEST = "digest"
    ADDRESS = "address"


class Party(Enum):
    """Who ended a call or refused it."""

    LOCAL = "local"
    REMOTE = "remote"


class Cause(Enum):
    """Why a call ended, seen from SIP."""

    BYE = "bye"
    CANCELLED = "cancelled"
    REFUSED = "refused"
    NO_ACK = "no_ack"
    TIMEOUT = "timeout"
    TRANSPORT = "transport"
    PROTOCOL = "protocol"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A final failure response.

    ``status`` 300..699; ``phrase`` None for the standard one; ``retry_after_s`` adds Retry-After [s];
    ``reason`` is the text of the Reason header (RFC 3326) and of the log line.
    """

    status: int
    reason: str
    phrase: str | None = None
    retry_after_s: int | None = None
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class CallOffered:
    """A new INVITE from a recognised trunk; 100 has gone or will go by itself.

    ``dialed`` holds the raw candidates for the DID in the order to try: Request-URI user, To user,
    P-Called-Party-ID, Diversion; duplicates removed. ``headers`` are the allow-listed ones that may
    cross to the agent. ``caller`` is who calls, whether it wants to be hidden or not: ``who`` has that, and all
    else that is said of it. ``takes_info``: its Allow lists INFO. ``offer`` is None for a delayed offer (RFC 3261
    §13.2.1). Next: ``ring``, ``answer`` or ``refuse``.
    """

    key: CallKey
    trunk: str
    identified_by: Identification
    identity: str
    dialed: tuple[str, ...]
    caller: str
    caller_name: str
    call_id: str
    offer: bytes | None
    flow: Flow
    headers: tuple[tuple[str, str], ...] = ()
    takes_refer: bool = False
    max_forwards: int = 70
    takes_info: bool = False
    who: Identity | None = None


@dataclass(frozen=True, slots=True)
class CallProgressed:
    """A provisional response (101..199) to our INVITE; ``body`` is early media's SDP or None.

    ``tag`` tells the early dialogs of a forked INVITE apart (RFC 3261 §12.1.2). ``headers`` as in :class:`CallOffered`.
    """

    key: CallKey
    status: int
    phrase: str
    body: bytes | None
    tag: str = ""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class CallAnswered:
    """A 2xx to our INVITE; the ACK has been sent. ``body`` is the SDP answer or None, ``tag`` as in CallProgressed.

    ``takes_refer``, ``takes_info``: the peer's Allow lists them. ``described``: a reliable provisional response of the
    same dialog had the answer, so ``body`` says nothing new (RFC 3262 §5). ``headers`` as in :class:`CallOffered`.
    """

    key: CallKey
    status: int
    phrase: str
    body: bytes | None
    takes_refer: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    takes_info: bool = False
    described: bool = False
    tag: str = ""


@dataclass(frozen=True, slots=True)
class CallConfirmed:
    """The ACK of our 2xx arrived; ``body`` is the answer when we had made the offer, else None."""

    key: CallKey
    body: bytes | None


@dataclass(frozen=True, slots=True)
class MediaOffered:
    """A re-INVITE, UPDATE or PRACK in a call; ``offer`` None asks us for one.

    Next: ``accept_offer(key, sdp)`` or ``refuse_offer(key, refusal)``; the call goes on either way.
    """

    key: CallKey
    offer: bytes | None


@dataclass(frozen=True, slots=True)
class MediaAnswered:
    """The answer to an offer of ours inside a call: in the 2xx to our re-INVITE or UPDATE, in an ACK or a PRACK.

    ``refresh``: the engine has said our description again to keep the session (RFC 4028), and this answers that.
    """

    key: CallKey
    answer: bytes | None
    refresh: bool = False


@dataclass(frozen=True, slots=True)
class MediaRefused:
    """Our re-INVITE was refused; the session stays as it was (RFC 3261 §14.1)."""

    key: CallKey
    status: int


@dataclass(frozen=True, slots=True)
class DigitPressed:
    """A digit in an INFO: one of ``0-9*#A-D``, ``duration_ms`` [ms] as the peer says."""

    key: CallKey
    digit: str
    duration_ms: int


@dataclass(frozen=True, slots=True)
class CallEnded:
    """The last event of a call: the engine has forgotten it, or only lingers for retransmissions.

    ``status`` is the final response where one ended it, else 0.
    """

    key: CallKey
    by: Party
    cause: Cause
    status: int = 0
    phrase: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def reason_headers(self) -> tuple[str, ...]:
        """Why, in the peer's words (RFC 3326): see :func:`edge.reasons.parse_reasons`."""
        return tuple(value for name, value in self.headers if name.lower() == "reason")


@dataclass(frozen=True, slots=True)
class OutgoingCall:
    """What an outgoing INVITE needs.

    ``target`` is the Request-URI; ``next_hop`` overrides where it is sent (a ``host:port;transport``
    is resolved by RFC 3263 from the URI when None). ``username``/``password`` answer a challenge of
    that one peer. ``trunk`` names the peer in logs. ``call_id`` None: one that nobody can guess. ``max_forwards`` is
    what is left of the hops (RFC 3261 §20.22, RFC 7332 §4.2 for a call that goes on from another one).
    """

    target: str
    from_uri: str
    body: bytes
    to_uri: str | None = None
    from_name: str = ""
    next_hop: str | None = None
    username: str | None = None
    password: str | None = None
    realm: str | None = None
    trunk: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    call_id: str | None = None
    max_forwards: int = 70


class ReferSource(Enum):
    """What says how a REFER ended."""

    NOTIFY = "notify"
    """The peer's NOTIFY, with a final status."""
    REFUSED = "refused"
    """The answer to the REFER itself, or that there was none."""
    TERMINATED = "terminated"
    """The peer ended the subscription without telling."""
    EXPIRED = "expired"
    """The peer let the subscription run out without telling."""
    CALL_ENDED = "call ended"
    """The call ended first."""


@dataclass(frozen=True, slots=True)
class ReferProgressed:
    """Our REFER was accepted (202), or a NOTIFY tells of a provisional status; nothing is decided yet."""

    key: CallKey
    status: int
    phrase: str


@dataclass(frozen=True, slots=True)
class ReferEnded:
    """How our REFER ended: the last word on it. ``status`` is final, or 0 where ``source`` could tell none."""

    key: CallKey
    status: int
    phrase: str
    source: ReferSource


@dataclass(frozen=True, slots=True)
class RegistrationSpec:
    """A binding the edge keeps at a registrar (RFC 3261 §10).

    ``contact_parameters`` go into the Contact URI. ``with_token`` adds a secret to them that selects the trunk
    ``name``: a new one for each new registration, the same at each refresh; without it a call is not that trunk's,
    whatever connection it comes over. ``next_hop`` is where to send, if not
    to the registrar itself. ``realm`` given: a challenge for any other realm is not answered. ``delay_s`` holds
    the first REGISTER back [s].
    """

    name: str
    registrar: str
    address_of_record: str
    username: str
    password: str = field(repr=False)
    contact_user: str
    contact_parameters: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    next_hop: str | None = None
    expires_s: int = 3600
    realm: str | None = None
    with_token: bool = False
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Registered:
    """The registrar granted ``expires_s`` [s]; ``expires_s`` 0 after an unregistration.

    ``others`` counts the bindings it lists for the same user that are not at our address: calls go there, too.
    """

    name: str
    expires_s: int
    others: int = 0


@dataclass(frozen=True, slots=True)
class RegistrationFailed:
    """A registration attempt failed; the engine tries again in ``retry_in_s`` [s] by itself (None: never)."""

    name: str
    status: int
    phrase: str
    retry_in_s: float | None


@dataclass(frozen=True, slots=True)
class OptionsAnswered:
    """The answer to our OPTIONS; status 408 when none came."""

    key: CallKey
    status: int
    phrase: str


Event = (
    CallOffered
    | CallProgressed
    | CallAnswered
    | CallConfirmed
    | MediaOffered
    | MediaAnswered
    | MediaRefused
    | DigitPressed
    | CallEnded
    | ReferProgressed
    | ReferEnded
    | Registered
    | RegistrationFailed
    | OptionsAnswered
)
