"""Typed settings: one TOML file, each key overridable by environment (``TRUEDY_SIP__DOMAIN=…``).

Unknown keys are refused; units are in the names; nothing uses 0 or -1 to mean "off". Each field's docstring is its
text in the reference. :func:`config.load.load` reads them and gives readable errors; rules across keys are in
:mod:`config.checks`.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

__all__ = [
    "Agents",
    "Api",
    "Limits",
    "MachineDetection",
    "Media",
    "Outbound",
    "Providers",
    "Recording",
    "Registry",
    "Secrets",
    "Settings",
    "Sip",
    "Trunk",
    "parse_authority",
    "parse_listener",
    "parse_proxy",
]

_LISTENER = re.compile(r"(udp|tcp|tls):(\[[0-9A-Fa-f:.]+\]|[0-9.]+):(\d{1,5})", re.ASCII)
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9.]+):(\d{1,5})", re.ASCII)
_PROXY = re.compile(r"(udp|tcp|tls):(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z.-]+):(\d{1,5})", re.ASCII)
_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*", re.I
)
_PYTHON_AGENT = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_HEADER = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!%_+`'~-]{0,63}\*?", re.ASCII)
_ROUTING_HEADERS = frozenset(
    """
    via v from f to t call-id i cseq contact m route record-route max-forwards content-length l content-type c
    content-encoding e require supported k proxy-require unsupported allow authorization proxy-authorization
    www-authenticate proxy-authenticate session-expires x min-se rack rseq reason retry-after expires path
    """.split()  # noqa: SIM905
)
"""SIP's own: an agent that could set them could break the call, or read credentials."""
_KEY_BYTES = 32


def parse_listener(text: str) -> tuple[str, str, int]:
    """``udp:127.0.0.1:5060`` or ``tls:[::1]:5061`` → (transport, host, port). ValueError when it is neither."""
    match = _LISTENER.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not udp|tcp|tls:ADDRESS:PORT (an address literal; IPv6 in brackets)")
    return match[1], *_host_and_port(text, match[2], match[3])


def parse_authority(text: str) -> tuple[str, int]:
    """``127.0.0.1:8080`` or ``[::1]:8080`` → (host, port). ValueError when it is neither."""
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not ADDRESS:PORT (an address literal; IPv6 in brackets)")
    return _host_and_port(text, match[1], match[2])


def parse_proxy(text: str) -> tuple[str, str, int]:
    """``udp:sip.example.com:5060`` → (transport, host, port); the host is a name or an address. ValueError if not."""
    match = _PROXY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not udp|tcp|tls:HOST:PORT (IPv6 in brackets)")
    transport, host, port = match[1], match[2], int(match[3])
    if not 1 <= port <= 65535:
        raise ValueError(f"{text!r}: port not in 1..65535")
    if host.startswith("["):
        return transport, str(ipaddress.IPv6Address(host[1:-1])), port
    if host.replace(".", "").isdigit():
        return transport, str(ipaddress.IPv4Address(host)), port
    return transport, _host_name(host), port


def _host_and_port(text: str, bracketed: str, digits: str) -> tuple[str, int]:
    host, port = bracketed.strip("[]"), int(digits)
    if (":" in host) != bracketed.startswith("["):
        raise ValueError(f"{text!r}: brackets are for IPv6, and it needs them")
    ipaddress.ip_address(host)
    if port > 65535:
        raise ValueError(f"{text!r}: port above 65535")
    return host, port


def _listener(text: str) -> str:
    parse_listener(text)
    return text


def _authority(text: str) -> str:
    parse_authority(text)
    return text


def _proxy(text: str) -> str:
    parse_proxy(text)
    return text


def _network(text: str) -> str:
    ipaddress.ip_network(text, strict=True)
    return text


def _address(text: str) -> str:
    ipaddress.ip_address(text)
    return text


def _ipv6(text: str) -> str:
    if ipaddress.ip_address(text).version != 6:
        raise ValueError(f"{text!r} is no IPv6 address")
    return text


def _reachable(text: str) -> str:
    address = ipaddress.ip_address(text)
    if address.is_unspecified or address.is_multicast:
        raise ValueError(f"{text!r} is no address that others can send to")
    return text


def _host_name(text: str) -> str:
    if _HOST_NAME.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not a host name")
    return text.lower()


def _web_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{text!r} is not http(s)://HOST[:PORT][/PATH]")
    return text.rstrip("/")


def _country(text: str) -> str:
    if text != "*" and re.fullmatch("[A-Z]{2}", text) is None:
        raise ValueError(f"{text!r} is neither two capital letters (ISO 3166) nor *")
    return text


def _sip_target(text: str) -> str:
    if re.fullmatch(r"sips?:[^\s@<>?]+@[^\s@<>?*]+", text) is None:
        raise ValueError(f"{text!r} is not sip:USER@HOST, or sip:*@HOST for all its users")
    return text


def _vault_key(value: SecretStr) -> SecretStr:
    try:
        raw = base64.b64decode(value.get_secret_value(), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("not base64 (make one with: openssl rand -base64 32)") from None
    if len(raw) != _KEY_BYTES:
        raise ValueError(f"{len(raw)} bytes, not {_KEY_BYTES} (make one with: openssl rand -base64 32)")
    return value


def _python_agent(text: str) -> str:
    if _PYTHON_AGENT.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not package.module:function")
    return text


def _header_pattern(text: str) -> str:
    lower = text.lower()
    matched = lower in _ROUTING_HEADERS or (
        lower.endswith("*") and any(name.startswith(lower[:-1]) for name in _ROUTING_HEADERS)
    )
    if matched or _HEADER.fullmatch(text) is None:
        raise ValueError(f"{text!r} is no header that may cross, nor a beginning followed by *")
    return text


def _workers(value: object, validate: ValidatorFunctionWrapHandler) -> object:
    try:
        return validate(value)
    except ValidationError:
        raise ValueError('must be "auto" or a whole number from 0 to 64') from None


def _processes(value: object, validate: ValidatorFunctionWrapHandler) -> object:
    try:
        return validate(value)
    except ValidationError:
        raise ValueError('must be "auto" or a whole number from 1 to 64') from None


Listener = Annotated[str, AfterValidator(_listener)]
Cidr = Annotated[str, AfterValidator(_network)]
BindAddress = Annotated[str, AfterValidator(_address)]
BindIpv6Address = Annotated[str, AfterValidator(_address), AfterValidator(_ipv6)]
Networks = Annotated[tuple[Cidr, ...], Field(min_length=1)]
PublicAddress = Annotated[str, AfterValidator(_reachable)]
PublicIpv6Address = Annotated[str, AfterValidator(_reachable), AfterValidator(_ipv6)]
Codecs = Annotated[tuple[Literal["PCMU", "PCMA", "G722", "OPUS"], ...], Field(min_length=1)]
Srtp = Literal["off", "allow", "require"]
Dtmf = Literal["auto", "rfc4733", "inband"]
VaultKey = Annotated[SecretStr, AfterValidator(_vault_key)]
HeaderPattern = Annotated[str, AfterValidator(_header_pattern)]
Workers = Annotated[Literal["auto"] | Annotated[int, Field(ge=0, le=64)], WrapValidator(_workers)]
PythonAgent = Annotated[str, AfterValidator(_python_agent)]
Processes = Annotated[Literal["auto"] | Annotated[int, Field(ge=1, le=64)], WrapValidator(_processes)]
Country = Annotated[str, AfterValidator(_country)]
SipTarget = Annotated[str, AfterValidator(_sip_target)]
Port = Annotated[int, Field(ge=1024, le=65535)]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]


class _Model(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        defer_build=True,
    )


class Sip(_Model):
    """The SIP side (RFC 3261)."""

    listen: Annotated[tuple[Listener, ...], Field(min_length=1)] = ("udp:127.0.0.1:5060", "tcp:127.0.0.1:5060")
    """Where to listen: `udp`, `tcp` or `tls`, an address literal and a port, as in `tls:[::]:5061`. Port 0 lets the
    system choose."""

    domain: Annotated[str, AfterValidator(_host_name)] = "sip.truedy.ai"
    """Our name in SIP: the realm of challenges, and the domain of our own URIs."""

    public_address: PublicAddress | None = None
    """The address that carriers reach SIP at, where it is not the one listened on: in `Contact` and `Via`. A literal.
    Needed when a listener has a wildcard address."""

    tls_certificate: Path | None = None
    """PEM file with the certificate chain, the server's own first. Needed by a `tls:` listener."""

    tls_key: Path | None = None
    """PEM file with the certificate's private key, without a passphrase."""

    t1_s: Annotated[float, Field(ge=0.05, le=2.0)] = 0.5
    """The round trip to expect [s]: T1, which SIP's other timers follow. Less than 0.5 only on a private network
    (RFC 3261 §17.1.1.1), more over satellites."""

    session_expires_s: Annotated[int, Field(ge=90, le=86400)] = 1800
    """How long a session lives without a refresh [s] (RFC 4028): what we ask for, and the most we agree to. Peers that
    know no session timers get none."""

    min_se_s: Annotated[int, Field(ge=90, le=86400)] = 90
    """The shortest session interval we agree to [s]; less is refused with 422. Not above `session_expires_s`."""

    reliable_provisionals: Literal["required", "supported"] = "required"
    """Who gets 180 and 183 reliably (RFC 3262), with a PRACK for each: those that require it, or all that support
    it."""

    agent_headers: tuple[HeaderPattern, ...] = ("X-*", "User-to-User")
    """SIP headers that may cross between a phone and its agent, both ways: names, or beginnings followed by `*`.
    Never the edge's own, `X-Truedy-*`."""


class Media(_Model):
    """RTP (RFC 3550). Ports are leased in pairs: RTP even, RTCP the next."""

    listen_address: BindAddress = "127.0.0.1"
    """The address that RTP sockets are bound to."""

    public_address: PublicAddress | None = None
    """The address that goes into our SDP, where it is not the one listened on. A literal. Separate from the SIP one."""

    listen_address_6: BindIpv6Address | None = None
    """A second address that RTP sockets are bound to, an IPv6 one beside an IPv4 `listen_address`: for the calls whose
    SDP has IPv6."""

    public_address_6: PublicIpv6Address | None = None
    """The address that goes into our SDP for those, where it is not `listen_address_6`."""

    port_min: Port = 16384
    """The first UDP port for RTP."""

    port_max: Port = 32767
    """The last UDP port for RTP. Two ports for each of `limits.calls`; a closed pair rests before its next use."""

    port_rest_s: Annotated[float, Field(ge=0, le=600)] = 5.0
    """How long a closed pair rests [s], so that late packets of one call reach no other."""

    first_packet_timeout_s: Seconds = 20.0
    """A call whose caller never sends any media ends after this [s]."""

    silence_timeout_s: Seconds = 20.0
    """A call whose caller's media stops, and which is not on hold, ends after this [s]."""

    workers: Workers = "auto"
    """Processes that carry media, besides a spare: `"auto"` is one less than the cores, and at least 1. With 0, media
    runs in the process that signals."""

    conversation: bool = True
    """Measure the caller's silences, talk-over and the agent's response time on each call; it costs next to nothing."""


class Api(_Model):
    """The control API (HTTP)."""

    listen: Annotated[str, AfterValidator(_authority)] = "127.0.0.1:8080"
    """Address literal and port. Put a proxy that speaks TLS in front of a public one. Port 0 lets the system choose."""

    own_process: bool = True
    """The API has a process of its own, so that no request holds a call up. With `false` it shares the one that
    signals, which takes some 40 MB of memory less."""

    public_url: Annotated[str, AfterValidator(_web_url)] | None = None
    """The API's base URL as others see it, for signatures and links; no trailing slash."""


class Registry(_Model):
    """The embedded registry: one SQLite file; the journal lies beside it as `<path>.journal`."""

    path: Path = Path("var/registry.db")
    """The file, relative to the working directory. It and its directory are made when missing."""


class Secrets(_Model):
    """What seals credentials at rest (AES-256-GCM). Best given by environment: `TRUEDY_SECRETS__KEY`."""

    key: VaultKey | None = None
    """Base64 of 32 random bytes. Without it no carrier credentials can be saved."""

    previous_keys: tuple[VaultKey, ...] = ()
    """Keys that were `key` before: still opened with, never sealed with."""


class Limits(_Model):
    """Caps; each refusal has its SIP status, its logged reason and its counter."""

    calls: Count = 500
    """Calls at once. Beyond: 503 with Retry-After."""

    calls_per_account: Count = 200
    """Calls at once of one account. Beyond: 486."""

    calls_per_trunk: Count = 400
    """Calls at once on one trunk. Beyond: 486."""

    calls_per_did: Count = 100
    """Calls at once to one number. Beyond: 486."""

    calls_per_caller: Count = 20
    """Calls at once from one caller's number. Beyond: 486."""

    fallback_calls_per_account: Count = 20
    """Calls at once of one account that are played a number's message because no agent could be reached. Beyond: what
    they would get without one."""

    attempts_per_second: Seconds = 50.0
    """New requests out of a dialog that one source may send in the long run [1/s]."""

    attempts_burst: Count = 200
    """New requests out of a dialog that one source may send at once."""

    call_length_s: Seconds = 14400.0
    """A call ends after this [s]."""

    drain_s: Seconds = 60.0
    """How long a stop waits for calls to end [s]; then they are ended."""

    api_requests_per_minute: Count = 100
    """API requests of one key in a minute. Beyond: 429."""

    api_body_bytes: Annotated[int, Field(ge=1024)] = 65536
    """The largest request body the API reads [bytes]. Beyond: 413."""


class Agents(_Model):
    """Defaults for agents' own settings."""

    answer_after_s: Annotated[float, Field(ge=0, le=30)] = 1.0
    """The call is answered this long [s] after the agent is connected, or at its first audio; 0: at once."""

    agent_timeout_s: Annotated[float, Field(gt=0, le=60)] = 15.0
    """An agent that is not connected after this [s] gets no call: 480."""

    recordings_path: Path | None = None
    """A folder of recordings to play to callers, by name: WAV files of 8 kHz mono 16-bit, at most five minutes each,
    read at the start. `lost` and `unavailable` are there without one."""

    allow_private: bool = False
    """Agents may have addresses that are not public: this machine's, private, link-local and shared ones. Only where
    everybody with an API key may reach whatever the edge can reach."""

    python: tuple[PythonAgent, ...] = ()
    """The Python functions that agents may be, as in `["my_package.my_module:agent"]`. What an agent's record names is
    listed here, or offered by an installed package as an entry point of the group `truedy.agents`. Nothing else is ever
    imported."""

    python_path: tuple[Path, ...] = ()
    """Directories where their modules are found, besides the environment that the edge is installed in."""

    python_processes: Processes = "auto"
    """Processes that run Python agents and WebRTC, besides a spare: `"auto"` is one for each core, and at least 2.
    A call goes to the one with the fewest; one that crashes or hangs ends only its own."""

    python_calls_per_process: Count = 32
    """Calls at once in one of them; 1 gives each call a process of its own. Beyond: 480."""

    python_hang_s: Annotated[float, Field(ge=1, le=300)] = 10.0
    """A process whose event loop an agent holds up for so long [s] is killed, and its calls end."""


class Outbound(_Model):
    """Calls that the edge places and transfers, for each account that an operator has not given other limits."""

    calls: Count = 10
    """Outgoing calls at once of one account. Beyond: 429."""

    calls_per_minute: Count = 10
    """Calls that one account may place in a minute, transfers included. Beyond: 429."""

    minutes_per_day: Count = 600
    """Minutes that one account's outgoing calls may last in a day (UTC). Beyond: 429, and calls end."""

    countries: tuple[Country, ...] | None = None
    """Countries that may be called: two capital letters each, `*` for all. Absent: that of the number called from."""

    sip_targets: tuple[SipTarget, ...] = ()
    """SIP URIs that callers may be transferred to, word for word; `sip:*@host` for all users of a host."""

    ring_timeout_s: Annotated[float, Field(ge=5, le=120)] = 30.0
    """A call that nobody answers is given up after this [s], where it does not say."""


class MachineDetection(_Model):
    """Telling a person from an answering machine, by listening to the caller's side from the answer on.

    An agent can have it otherwise. How well it does: [amd.md](amd.md)."""

    enabled: bool = False
    """Listen to every call that is answered. The agent is told (`machine_detection`), and the call's record."""

    timeout_s: Annotated[float, Field(ge=2, le=30)] = 6.0
    """What is not clear by then [s] is `unsure`."""

    beep_timeout_s: Annotated[float, Field(ge=5, le=180)] = 45.0
    """How long a machine's beep is listened for [s], from the answer on."""


class Recording(_Model):
    """Recordings of calls: stereo, the caller left, the agent right; encrypted at rest, which needs `secrets.key`.

    An agent or a number can have it otherwise, but for `path` and `retention_days`."""

    enabled: bool = False
    """Record every call that is answered."""

    format: Literal["wav", "flac", "ogg"] = "flac"
    """`flac` loses nothing at about half of `wav`'s size; `ogg` (Vorbis) is smaller still."""

    consent_tone: bool = True
    """The caller hears a tone when the call begins. Where the law asks for more, a tone is not enough."""

    consent_tone_every_s: Annotated[float, Field(ge=5, le=600)] | None = None
    """The tone comes again this often [s]. Absent: once, at the start."""

    path: Path = Path("var/recordings")
    """The folder, relative to the working directory. It is made when missing."""

    retention_days: Annotated[float, Field(gt=0)] | None = None
    """Recordings are deleted this long after their call [days]. Absent: kept until somebody deletes them."""


class Providers(_Model):
    """The carriers that numbers are imported from. Their addresses ship with the edge; these stand in for them."""

    twilio_base_url: Annotated[str, AfterValidator(_web_url)] = "https://api.twilio.com"
    """Twilio's REST API, or a proxy or a fake of it."""

    telnyx_base_url: Annotated[str, AfterValidator(_web_url)] = "https://api.telnyx.com/v2"
    """Telnyx's REST API with its version, or a proxy or a fake of it."""

    openai_base_url: Annotated[str, AfterValidator(_web_url)] = "https://api.openai.com/v1"
    """OpenAI's API with its version, or a proxy or a fake of it: agents of `openai-realtime` connect to its
    `/realtime`. It may have a private address, whatever `agents.allow_private` says."""

    telnyx_sip_proxy: Annotated[str, AfterValidator(_proxy)] | None = None
    """Where to register at Telnyx, as in `udp:sip.telnyx.eu:5060`. Absent: the proxy of the connection's region."""

    twilio_signalling: Networks | None = None
    """Networks that Twilio's SIP comes from (CIDR). Absent: Twilio's own."""

    telnyx_signalling: Networks | None = None
    """Networks that Telnyx's SIP comes from (CIDR). Absent: Telnyx's own."""

    twilio_media: Networks | None = None
    """Networks that Twilio's media comes from (CIDR). Absent: Twilio's own."""

    telnyx_media: Networks | None = None
    """Networks that Telnyx's media comes from (CIDR). Absent: Telnyx's own."""

    telnyx_transfer: Literal["refer", "bridge"] = "bridge"
    """How Telnyx's callers are transferred: `bridge` joins a second leg here; `refer` asks Telnyx by REFER first."""

    twilio_codecs: Codecs | None = None
    """Codecs for Twilio's calls, best first. Absent: the edge's own choice for it."""

    telnyx_codecs: Codecs | None = None
    """Codecs for Telnyx's calls, best first, as in `["G722", "PCMU"]`; the connection has a list of its own. Absent:
    the edge's own choice for it."""

    twilio_srtp: Srtp | None = None
    """SRTP on Twilio's calls. With `allow`, the default, and `require` the edge asks Twilio for it where SIP comes by
    TLS (`secure=true` in the TwiML); `require` refuses calls without (488)."""

    telnyx_srtp: Srtp | None = None
    """SRTP on Telnyx's calls. With `allow`, the default, a connection with encrypted media gets it, and any other call
    that offers it; `require` refuses calls without (488)."""

    request_timeout_s: Annotated[float, Field(gt=0, le=60)] = 5.0
    """How long a carrier's REST API may take over an import or a check of credentials, in all [s]."""


class Trunk(_Model):
    """A static trunk: a carrier or PBX known by its addresses or by a digest user."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
    """What numbers and logs call it: lower case letters, digits, `.`, `_`, `-`."""

    addresses: tuple[Cidr, ...] = ()
    """Networks its requests come from (CIDR). May be empty for a digest trunk: then strangers are challenged."""

    auth: Literal["address", "digest"] = "address"
    """How it is recognised. Addresses alone prove little: anybody behind them can call."""

    username: str | None = None
    """The digest user name; needed by `auth = "digest"`."""

    password: SecretStr | None = None
    """The digest password; needed by `auth = "digest"`."""

    digest_algorithms: Annotated[tuple[Literal["MD5", "SHA-256"], ...], Field(min_length=1)] = ("MD5",)
    """Challenges sent, in order. Several clients fail when SHA-256 comes first."""

    accounts: tuple[str, ...] = ()
    """Accounts (ids or names) whose keys may put numbers on it; operators always may."""

    lab: bool = False
    """Allows addresses within a carrier's own ranges, whose every customer could then call."""

    codecs: Codecs = ("PCMU", "PCMA")
    """Codecs, best first: `PCMU`, `PCMA`, and the wideband `G722` and `OPUS` (which needs the system's libopus)."""

    srtp: Srtp = "off"
    """Encrypted media, its keys in SDP (RFC 4568, and under RTP/AVP RFC 8643): `off`, `allow` (calls with and without
    are taken, our own offers are without) or `require`. Without TLS for SIP anybody on the way can read the keys."""

    rtcp_mux: bool = False
    """Our own offers ask for RTCP on RTP's port (RFC 5761). Offers of the trunk that ask for it get it anyway."""

    dtmf: Dtmf = "auto"
    """Digits: by telephone-event alone (`rfc4733`), in the audio too (`inband`), or in the audio where the peer has no
    telephone-event (`auto`)."""

    media_networks: tuple[Cidr, ...] = ()
    """Networks its media comes from. Empty: from the address in its SDP, or, with `symmetric_rtp`, from any."""

    symmetric_rtp: bool = True
    """Learn where to send media from the first valid packets, once (a peer behind NAT)."""

    info_digits: bool = True
    """Send an agent's digits by INFO where it takes no telephone-event, but allows INFO."""

    asserted_identity: bool = True
    """Believe it when it says who calls (`P-Asserted-Identity`, `Remote-Party-ID`, verstat). Not for phones that
    anybody may set up."""

    allow_private_media: bool = False
    """Take private and loopback media addresses from its SDP."""

    outbound: Annotated[str, AfterValidator(_proxy)] | None = None
    """Where calls go out, as in `udp:pbx.example.com:5060`. Absent: none can be placed from its numbers."""

    outbound_username: str | None = None
    """The digest user for calls that go out. Absent: `username`."""

    outbound_password: SecretStr | None = None
    """The digest password for calls that go out. Absent: `password`."""

    transfer: Literal["refer", "bridge"] = "bridge"
    """How its callers are transferred: `bridge` joins a second leg here; `refer` asks the peer by REFER first."""


class Settings(_Model):
    """Everything the edge is told."""

    sip: Sip = Sip()
    media: Media = Media()
    api: Api = Api()
    registry: Registry = Registry()
    secrets: Secrets = Secrets()
    limits: Limits = Limits()
    agents: Agents = Agents()
    outbound: Outbound = Outbound()
    recording: Recording = Recording()
    machine_detection: MachineDetection = MachineDetection()
    providers: Providers = Providers()
    trunks: tuple[Trunk, ...] = ()
