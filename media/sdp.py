"""SDP (RFC 8866) and its offer/answer (RFC 3264) for one audio stream, in the clear or by SRTP (RFC 4568, RFC 8643).

The parser is for hostile input: ``bytes → frozen values``, and :class:`SdpError` is all it raises.
Everything here is a pure function; what a session remembers is the last SDP it sent (``previous``).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from itertools import chain, pairwise
from typing import Final, NamedTuple

from media.crypto import SUITES, Agreement, BadCrypto, Crypto, answered, chosen
from media.formats import COMFORT_NOISE, FORMATS, TELEPHONE_EVENT, telephone_event

__all__ = [
    "Capabilities",
    "Codec",
    "Direction",
    "Media",
    "Negotiated",
    "RemoteMedia",
    "SdpError",
    "SessionDescription",
    "TelephoneEvent",
    "address_version",
    "answer",
    "apply_answer",
    "make_offer",
    "parse",
]

MAX_BYTES: Final = 16384
MAX_LINES: Final = 512
MAX_LINE_BYTES: Final = 2048
MAX_MEDIA: Final = 16
MAX_FORMATS: Final = 64

CLOCK_RATE_HZ: Final = 8000
"""Of all but Opus."""
EVENTS: Final = frozenset(range(16))
"""The events we send and take: the sixteen DTMF digits."""

_STATIC_CODECS: Final = {0: ("PCMU", 8000), 8: ("PCMA", 8000), 9: ("G722", 8000), 13: (COMFORT_NOISE, 8000)}
_CLEAR: Final = ("RTP/AVP", "RTP/AVPF")
"""Without keys; with them the media is encrypted nevertheless (RFC 8643)."""
_SECURE: Final = ("RTP/SAVP", "RTP/SAVPF")
_MIN_PTIME_MS: Final = 10
_MAX_PTIME_MS: Final = 60
_DEFAULT_PTIME_MS: Final = 20
_LOWEST_PORT: Final = 1024

_TOKEN: Final = re.compile(r"[!-~]{1,64}")
_NUMBER: Final = re.compile(r"[0-9]{1,10}")
_RTPMAP: Final = re.compile(r"([0-9]{1,3}) +([!-.0-~]{1,64})/([0-9]{1,6})(?:/([0-9]{1,3}))?")
_ORIGIN: Final = re.compile(r"\S+ ([0-9]{1,19}) ([0-9]{1,19}) IN IP[46] \S+")


class SdpError(Exception):
    """SDP that is refused (488).

    ``code`` is ``bad_sdp``, ``no_common_codec``, ``no_common_crypto`` or ``media_address_refused``.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Direction(Enum):
    """RFC 3264 §5.1, seen from whoever wrote it."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"

    @property
    def sends(self) -> bool:
        """Whether its writer sends."""
        return self in (Direction.SENDRECV, Direction.SENDONLY)

    @property
    def receives(self) -> bool:
        """Whether its writer receives."""
        return self in (Direction.SENDRECV, Direction.RECVONLY)

    @classmethod
    def of(cls, sends: bool, receives: bool) -> Direction:
        """The direction of a party that sends and receives so."""
        if sends:
            return cls.SENDRECV if receives else cls.SENDONLY
        return cls.RECVONLY if receives else cls.INACTIVE

    @property
    def reversed(self) -> Direction:
        """The same stream seen from the other side."""
        return Direction.of(self.receives, self.sends)


_DIRECTIONS: Final = {direction.value: direction for direction in Direction}


# --- the values ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Media:
    """One ``m=`` section. ``formats`` as written; ``connection`` is the value of its ``c=``, or None."""

    kind: str
    port: int
    protocol: str
    formats: tuple[str, ...]
    connection: str | None = None
    attributes: tuple[tuple[str, str], ...] = ()

    def values(self, name: str) -> Iterator[str]:
        """The values of all ``a=name:…`` lines; "" for a flag."""
        return (value for attribute, value in self.attributes if attribute == name)


@dataclass(frozen=True, slots=True)
class SessionDescription:
    """A parsed body: what the session level says, and its media in order."""

    origin: str
    connection: str | None
    attributes: tuple[tuple[str, str], ...]
    media: tuple[Media, ...]


@dataclass(frozen=True, slots=True)
class Codec:
    """An agreed codec: what we put on packets we send, and what the peer puts on its own.

    ``parameters`` are the peer's ``fmtp``: how it wishes to be sent to.
    """

    name: str
    send_payload_type: int
    receive_payload_type: int
    clock_rate_hz: int = CLOCK_RATE_HZ
    parameters: str = ""


@dataclass(frozen=True, slots=True)
class TelephoneEvent:
    """Agreed RFC 4733 events; ``events`` are the codes the peer takes, ``clock_rate_hz`` is of their durations."""

    send_payload_type: int
    receive_payload_type: int
    events: frozenset[int] = EVENTS
    clock_rate_hz: int = CLOCK_RATE_HZ


@dataclass(frozen=True, slots=True)
class RemoteMedia:
    """Where the peer wants RTP and RTCP (``a=rtcp:``, RFC 3605, else the next port; with rtcp-mux RTP's own)."""

    address: str
    port: int
    rtcp_address: str
    rtcp_port: int


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Our side of the stream.

    ``address`` and ``port``: what the peer is told to send to; RTCP is the next port. ``session_id``
    (0..2⁶³−1) is drawn once a call. ``codecs`` in our order of preference. ``allow_private`` lets the
    peer name loopback and private addresses (a lab).

    ``srtp``: ``off``, ``allow`` (offers are in the clear, both kinds are answered) or ``require``; ``keys`` are ours
    by suite, the same for the whole call unless the suite changes. ``rtcp_mux``: offers ask for it, and say where
    RTCP goes without; an offer that asks is answered with it anyway.
    """

    address: str
    port: int
    session_id: int
    codecs: tuple[str, ...] = ("PCMU", "PCMA")
    allow_private: bool = False
    direction: Direction = Direction.SENDRECV
    srtp: str = "off"
    keys: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    rtcp_mux: bool = False


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What both sides agreed on.

    ``sdp`` is ours as sent (the answer, or the offer that was answered). ``remote`` is None while the
    peer takes no media (``c=0.0.0.0``). ``codec`` is what we send; ``codecs`` all the peer may send.
    ``direction`` is ours. ``held``: the peer has put us on hold (sendonly, inactive or ``0.0.0.0``).
    ``ptime_ms`` [ms] 10..60 is the packet time the peer asked for. ``crypto`` is None for media in the clear.
    ``comfort_noise``: the payload type of the peer's (RFC 3389), where it has any. ``rtcp_mux``: RTCP shares RTP's
    ports (RFC 5761).
    """

    sdp: bytes = field(repr=False)
    remote: RemoteMedia | None
    codec: Codec
    codecs: tuple[Codec, ...]
    telephone_event: TelephoneEvent | None
    ptime_ms: int
    direction: Direction
    held: bool
    crypto: Agreement | None = None
    comfort_noise: int | None = None
    rtcp_mux: bool = False

    @property
    def may_send(self) -> bool:
        """Whether we send audio."""
        return self.direction.sends and self.remote is not None

    @property
    def may_receive(self) -> bool:
        """Whether the peer may send us audio."""
        return self.direction.receives


# --- parsing ------------------------------------------------------------------------------------


def parse(body: bytes) -> SessionDescription:
    """A body as values (RFC 8866 §5); lines end in CRLF or LF. Raises SdpError ``bad_sdp``."""
    lines = list(_lines(body))
    if not lines or lines[0] != ("v", "0"):
        raise _bad("does not start with v=0")
    starts = [index for index, (kind, _) in enumerate(lines) if kind == "m"]
    if len(starts) > MAX_MEDIA:
        raise _bad(f"more than {MAX_MEDIA} m= lines")
    session = lines[: starts[0]] if starts else lines
    sections = [lines[start:end] for start, end in pairwise([*starts, len(lines)])]
    return SessionDescription(
        origin=next((value for kind, value in session if kind == "o"), ""),
        connection=_connection(session),
        attributes=_attributes(session),
        media=tuple(map(_media, sections)),
    )


def _bad(message: str) -> SdpError:
    return SdpError("bad_sdp", message)


def _lines(body: bytes) -> Iterator[tuple[str, str]]:
    if len(body) > MAX_BYTES:
        raise _bad(f"{len(body)} bytes, at most {MAX_BYTES}")
    if b"\0" in body:
        raise _bad("a NUL in it")
    rows = body.split(b"\n")
    if len(rows) > MAX_LINES:
        raise _bad(f"more than {MAX_LINES} lines")
    for number, row in enumerate(rows, 1):
        line = row.rstrip(b"\r \t")
        if not line:
            continue
        if len(line) > MAX_LINE_BYTES or line[1:2] != b"=" or not line[:1].isalpha():
            raise _bad(f"line {number} is no type=value of at most {MAX_LINE_BYTES} bytes")
        yield line[:1].decode("latin-1"), line[2:].decode("utf-8", "replace").strip(" ")


def _attributes(lines: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    pairs = (value.partition(":") for kind, value in lines if kind == "a")
    return tuple((name.strip().lower(), value.strip()) for name, _, value in pairs)


def _connection(lines: Iterable[tuple[str, str]]) -> str | None:
    return next((value for kind, value in lines if kind == "c"), None)


def _media(lines: list[tuple[str, str]]) -> Media:
    words = lines[0][1].split()
    if len(words) < 4 or len(words) > 3 + MAX_FORMATS or not all(map(_TOKEN.fullmatch, words)):
        raise _bad(f"m= is not KIND PORT PROTOCOL FORMAT… with at most {MAX_FORMATS} formats")
    return Media(
        kind=words[0].lower(),
        port=_number(words[1].partition("/")[0], 0, 65535, "the port of m="),
        protocol=words[2],
        formats=tuple(words[3:]),
        connection=_connection(lines),
        attributes=_attributes(lines),
    )


def _number(text: str, least: int, most: int, what: str) -> int:
    if not _NUMBER.fullmatch(text) or not least <= int(text) <= most:
        raise _bad(f"{what} is not a number {least}..{most}")
    return int(text)


# --- reading one audio section ------------------------------------------------------------------


_CHANNELS: Final = {format.encoding.upper(): (1, format.channels) for format in FORMATS.values()}


def _payload_types(media: Media) -> dict[int, tuple[str, int]]:
    """Payload type → (NAME, clock rate) in the ``m=`` line's order; static ones need no rtpmap, a bad one is none."""
    listed = [_number(text, 0, 127, "a payload type") for text in media.formats]
    mapped = dict(_STATIC_CODECS)
    for match in filter(None, map(_RTPMAP.fullmatch, media.values("rtpmap"))):
        name = match[2].upper()
        spoken = int(match[4] or 1) in _CHANNELS.get(name, (1,))
        mapped[int(match[1])] = (name if spoken else "", int(match[3]))
    return {number: mapped[number] for number in listed if number in mapped}


def _find(types: dict[int, tuple[str, int]], name: str, clock_rate_hz: int | None = None) -> int | None:
    """The first payload type of a codec of ours, or of another format at that clock rate."""
    wanted = (name, FORMATS[name].clock_rate_hz if clock_rate_hz is None else clock_rate_hz)
    return next((number for number, format in types.items() if format == wanted), None)


def _parameters(media: Media, payload_type: int) -> str:
    """Its ``fmtp``, without the number."""
    pairs = (value.partition(" ") for value in media.values("fmtp"))
    return next((parameters.strip() for number, _, parameters in pairs if number == str(payload_type)), "")


def _direction(media: Media, session: SessionDescription) -> Direction:
    """The media's own direction, else the session's, else sendrecv (RFC 8866 §6.7)."""
    for name, _ in (*media.attributes, *session.attributes):
        if name in _DIRECTIONS:
            return _DIRECTIONS[name]
    return Direction.SENDRECV


def _ptime_ms(media: Media) -> int:
    """What the peer wants in a packet [ms], within its own maximum and our 10..60; nonsense is as if absent."""
    wanted = _milliseconds(media, "ptime", _DEFAULT_PTIME_MS)
    return max(_MIN_PTIME_MS, min(wanted, _milliseconds(media, "maxptime", _MAX_PTIME_MS), _MAX_PTIME_MS))


def _milliseconds(media: Media, name: str, default: int) -> int:
    for value in media.values(name):
        whole = value.partition(".")[0]  # "20.0" is seen
        if _NUMBER.fullmatch(whole) and int(whole) > 0:
            return int(whole)
    return default


def _events(media: Media, payload_type: int) -> frozenset[int]:
    """The events the peer takes (RFC 4733 §2.4.1): a list as ``0-15,66``; absent or unreadable: 0-15."""
    parameters = _parameters(media, payload_type)
    if not parameters:
        return EVENTS
    events: set[int] = set()
    for item in parameters.removeprefix("events=").replace(" ", "").split(","):
        match = re.fullmatch(r"([0-9]{1,3})(?:-([0-9]{1,3}))?", item)
        if match is None:
            return EVENTS
        events.update(range(int(match[1]), min(int(match[2] or match[1]), 255) + 1))
    return frozenset(events) & EVENTS


def _remote(media: Media, session: SessionDescription, capabilities: Capabilities, mux: bool) -> RemoteMedia | None:
    """Where the peer takes RTP; None for the old-style hold of ``c=0.0.0.0`` (RFC 3264 §8.4)."""
    address = _connected(media.connection or session.connection)
    if address == "0.0.0.0":  # noqa: S104 - compared, not bound
        return None
    address = _unicast(address, capabilities)
    if media.port < _LOWEST_PORT:
        raise SdpError("media_address_refused", f"RTP port {media.port} is below {_LOWEST_PORT}")
    rtcp = (address, media.port) if mux else _rtcp(media, address, capabilities)
    return RemoteMedia(address, media.port, *rtcp)


def _connected(connection: str | None) -> str:
    """The address of a ``c=`` value (RFC 8866 §5.7), without a multicast TTL."""
    words = connection.split() if connection is not None else []
    if len(words) != 3 or words[0].upper() != "IN" or words[1].upper() not in ("IP4", "IP6"):
        raise _bad("no c=IN IP4|IP6 ADDRESS for the audio")
    return words[2].partition("/")[0]


def _rtcp(media: Media, address: str, capabilities: Capabilities) -> tuple[str, int]:
    """Where the peer takes RTCP; what it may not name is as if absent (middleboxes rewrite ``c=`` alone)."""
    for words in map(str.split, media.values("rtcp")):
        if len(words) in (1, 4) and _NUMBER.fullmatch(words[0]) and _LOWEST_PORT <= int(words[0]) <= 65535:
            with suppress(SdpError):
                return (_unicast(words[3], capabilities) if len(words) == 4 else address), int(words[0])
    return address, min(media.port + 1, 65535)


_address = lru_cache(256)(ipaddress.ip_address)


def _unicast(text: str, capabilities: Capabilities) -> str:
    """An address we may send media to, in its canonical form."""
    try:
        address = _address(text)
    except ValueError:
        raise SdpError("media_address_refused", "the media address is a name, or no address") from None
    inner = _embedded(address)
    if address.version != _address(capabilities.address).version:
        raise SdpError("media_address_refused", f"IPv{address.version} media, ours is the other version")
    if any(each.is_multicast or each.is_unspecified or _is_broadcast(each) for each in (address, inner)):
        raise SdpError("media_address_refused", f"{address} is no unicast address")
    if not capabilities.allow_private and not (address.is_global and inner.is_global):
        raise SdpError("media_address_refused", f"{address} is not a public address")
    return str(address)


def _embedded(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IPv4 address that an IPv6 one leads to (mapped, 6to4, NAT64), else itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


def _is_broadcast(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return int(address) == 0xFFFFFFFF


# --- offer and answer ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Line:
    """One ``m=`` section of ours; port 0 refuses or disables it."""

    kind: str
    port: int
    protocol: str
    formats: tuple[str, ...]
    attributes: tuple[str, ...] = field(default=(), repr=False)


class _Choice(NamedTuple):
    """What an offer is answered with: a section, its codec under the offer's number, its keys (None: in the clear)."""

    section: int
    types: dict[int, tuple[str, int]]
    name: str
    number: int
    agreement: Agreement | None


def answer(offer: bytes, capabilities: Capabilities, previous: bytes | None = None) -> Negotiated:
    """Answer an offer (RFC 3264 §6); ``previous`` is the last SDP we sent in this session, if any.

    The first audio section that fits is taken, an encrypted one before one in the clear; all others are refused with
    port 0. Raises SdpError; then nothing has changed, and 488 is the SIP answer.
    """
    session = parse(offer)
    index, types, name, number, agreement = _choose(session, capabilities)
    media, clock_rate_hz = session.media[index], FORMATS[name].clock_rate_hz
    mux = _asks_for_mux(media)
    remote = _remote(media, session, capabilities, mux)
    offered = _direction(media, session)
    ours = _answered_direction(offered if remote else _without_receiving(offered), capabilities)
    event = _agreed_events(media, types, types, clock_rate_hz)
    noise = _find(types, COMFORT_NOISE, CLOCK_RATE_HZ) if clock_rate_hz == CLOCK_RATE_HZ else None
    refused = [_Line(each.kind, 0, each.protocol, each.formats[:1]) for each in session.media]
    accepted = _audio(
        capabilities.port,
        media.protocol,
        _rows({number: name}, {event.receive_payload_type: event.clock_rate_hz} if event else {}, noise),
        direction=ours,
        ptime_ms=min(_maxptime_ms(media), _DEFAULT_PTIME_MS),
        cryptos=[agreement.ours] if agreement else [],
        rtcp=["rtcp-mux"] if mux else [],
    )
    codec = Codec(name, number, number, clock_rate_hz, _parameters(media, number))
    return Negotiated(
        sdp=_render([*refused[:index], accepted, *refused[index + 1 :]], capabilities, previous),
        remote=remote,
        codec=codec,
        codecs=(codec,),
        telephone_event=event,
        ptime_ms=_ptime_ms(media),
        direction=ours,
        held=remote is None or not offered.receives,
        crypto=agreement,
        comfort_noise=noise,
        rtcp_mux=mux,
    )


def _without_receiving(direction: Direction) -> Direction:
    return Direction.of(direction.sends, receives=False)


def _answered_direction(offered: Direction, capabilities: Capabilities) -> Direction:
    """RFC 3264 §6.1: the offer's direction turned round, less what we do not want."""
    wanted, turned = capabilities.direction, offered.reversed
    return Direction.of(turned.sends and wanted.sends, turned.receives and wanted.receives)


def _maxptime_ms(media: Media) -> int:
    return max(_MIN_PTIME_MS, _milliseconds(media, "maxptime", _MAX_PTIME_MS))


def _asks_for_mux(media: Media) -> bool:
    return next(media.values("rtcp-mux"), None) is not None


def _keyed(media: Media) -> bool:
    return next(media.values("crypto"), None) is not None


def _choose(session: SessionDescription, capabilities: Capabilities) -> _Choice:
    """The first audio section that we and the peer can use encrypted, else the first in the clear."""
    clear: _Choice | None = None
    problems: dict[str, str] = {}
    for index, media in enumerate(session.media):
        try:
            choice = _usable(index, media, capabilities)
        except SdpError as error:
            problems.setdefault(error.message, error.code)
            continue
        if choice.agreement is not None:
            return choice
        clear = clear or choice
    if clear is not None:
        return clear
    code = next((code for code in ("bad_sdp", "no_common_crypto") if code in problems.values()), "no_common_codec")
    raise SdpError(code, "; ".join(problems) or "no m= line")


def _usable(index: int, media: Media, capabilities: Capabilities) -> _Choice:
    """What is chosen of one section; SdpError says why nothing is."""
    if media.kind != "audio":
        raise SdpError("no_common_codec", f"{media.kind} is not supported")
    if media.port == 0:
        raise SdpError("no_common_codec", "the audio is disabled (port 0)")
    agreement = _secured(media, capabilities)
    types = _payload_types(media)
    for name in capabilities.codecs:
        number = _find(types, name)
        if number is not None:
            return _Choice(index, types, name, number, agreement)
    raise SdpError("no_common_codec", f"none of {', '.join(capabilities.codecs)} among the codecs offered")


def _secured(media: Media, capabilities: Capabilities) -> Agreement | None:
    """The keys of an answer, None for one in the clear. Those of RTP/AVP are taken too (RFC 8643 §3.2)."""
    profile = media.protocol.upper()
    if profile not in (*_SECURE, *_CLEAR):
        raise _unknown_profile(media.protocol)
    if capabilities.srtp == "off":
        if profile in _SECURE:
            raise SdpError("no_common_crypto", f"SRTP ({media.protocol}) is off on this trunk")
        return None
    try:
        return chosen(media.values("crypto"), capabilities.keys)
    except BadCrypto as error:
        if profile in _SECURE:
            raise SdpError("no_common_crypto", str(error)) from None
        if capabilities.srtp == "require":
            raise SdpError("no_common_crypto", f"{error}, and this trunk requires SRTP") from None
        return None


def _unknown_profile(protocol: str) -> SdpError:
    if "SAVP" in protocol.upper():
        return SdpError("no_common_crypto", f"SRTP as {protocol} is not supported, with keys in SDP (RTP/SAVP) it is")
    return SdpError("no_common_codec", f"{protocol} is not supported, RTP/AVP is")


def make_offer(capabilities: Capabilities, previous: bytes | None = None) -> bytes:
    """An offer of all our codecs (RFC 3264 §5, and §8 with ``previous``).

    A later offer keeps the number and order of ``m=`` lines, the transport, the payload types already in use, and keys:
    where the call is encrypted under RTP/AVP (RFC 8643) its re-offers are, too.
    """
    before = parse(previous).media if previous else ()
    index = next((at for at, media in enumerate(before) if media.kind == "audio" and media.port), 0)
    lines = [_Line(media.kind, 0, media.protocol, media.formats[:1]) for media in before]
    keyed = _keyed(before[index]) if before else capabilities.srtp == "require"
    protocol = before[index].protocol if before else (_SECURE if keyed else _CLEAR)[0]
    rows = _offered_rows(capabilities.codecs, _payload_types(before[index]) if before else {})
    rtcp = [f"rtcp:{capabilities.port + 1}", "rtcp-mux"] if capabilities.rtcp_mux else []
    lines[index : index + 1] = [
        _audio(
            capabilities.port,
            protocol,
            rows,
            direction=capabilities.direction,
            ptime_ms=_DEFAULT_PTIME_MS,
            cryptos=_own_cryptos(capabilities) if keyed else [],
            rtcp=rtcp,
        )
    ]
    return _render(lines, capabilities, previous)


def _own_cryptos(capabilities: Capabilities) -> list[Crypto]:
    keys = capabilities.keys
    return [Crypto(tag, suite, keys[suite]) for tag, suite in enumerate(SUITES, 1) if suite in keys]


def _offered_rows(codecs: Iterable[str], used: dict[int, tuple[str, int]]) -> list[_Row]:
    """All formats of an offer; a number keeps the meaning it had in this session (RFC 3264 §8.3.2)."""
    numbers: dict[int, str] = {}
    events: dict[int, int] = {}

    def number(found: int | None, preferred: int) -> int:
        if found is not None:
            return found
        candidates: Iterator[int] = chain((preferred,), range(96, 128))
        return next(each for each in candidates if not (each in used or each in numbers or each in events))

    for name in codecs:
        numbers[number(_find(used, name), FORMATS[name].payload_type)] = name
    for clock_rate_hz in dict.fromkeys(FORMATS[name].clock_rate_hz for name in codecs):
        found = _find(used, TELEPHONE_EVENT, clock_rate_hz)
        events[number(found, telephone_event(clock_rate_hz).payload_type)] = clock_rate_hz
    return _rows(numbers, events)


def apply_answer(offer: bytes, answer: bytes, capabilities: Capabilities) -> Negotiated:
    """The peer's answer to our ``offer`` (RFC 3264 §7). Raises SdpError.

    Formats we did not offer are never used (§6.1 lets an answer list more); an answer with only such
    is refused. Payload types may differ by direction.
    """
    ours, theirs = parse(offer), parse(answer)
    if len(ours.media) != len(theirs.media):
        raise _bad(f"{len(theirs.media)} m= lines answer {len(ours.media)}")
    index = next(at for at, each in enumerate(ours.media) if each.kind == "audio" and each.port)
    media, own = theirs.media[index], ours.media[index]
    if media.kind != "audio" or media.port == 0:
        raise SdpError("no_common_codec", "the answer refuses the audio")
    if media.protocol.upper() != own.protocol.upper():
        raise SdpError("no_common_crypto", f"the answer changes the transport to {media.protocol}")
    types, offered = _payload_types(media), _payload_types(own)
    codecs = tuple(_common(media, types, offered, capabilities.codecs))
    if not codecs:
        raise SdpError("no_common_codec", "the answer has no codec that was offered")
    agreement = _agreed_keys(own, media, capabilities) if _keyed(own) else None
    mux = _asks_for_mux(own) and _asks_for_mux(media)
    remote, sends = _remote(media, theirs, capabilities, mux), _direction(media, theirs)
    return Negotiated(
        sdp=offer,
        remote=remote,
        codec=codecs[0],
        codecs=codecs,
        telephone_event=_agreed_events(media, types, offered, codecs[0].clock_rate_hz),
        ptime_ms=_ptime_ms(media),
        direction=_answered_direction(sends if remote else _without_receiving(sends), capabilities),
        held=remote is None or not sends.receives,
        crypto=agreement,
        rtcp_mux=mux,
    )


def _agreed_keys(own: Media, media: Media, capabilities: Capabilities) -> Agreement | None:
    """What the answer chose; under RTP/AVP it may decline (RFC 8643 §3.3), unless the trunk requires SRTP."""
    if own.protocol.upper() in _CLEAR and capabilities.srtp == "allow" and not _keyed(media):
        return None
    try:
        return answered(own.values("crypto"), media.values("crypto"))
    except BadCrypto as error:
        raise SdpError("no_common_crypto", str(error)) from None


def _common(
    media: Media, theirs: dict[int, tuple[str, int]], ours: dict[int, tuple[str, int]], names: tuple[str, ...]
) -> Iterator[Codec]:
    """The codecs of both, in the answer's order (RFC 3264 §7: its first is what we should send)."""
    for number, (name, clock_rate_hz) in theirs.items():
        if name in names and clock_rate_hz == FORMATS[name].clock_rate_hz:
            own = _find(ours, name)
            if own is not None:
                yield Codec(name, number, own, clock_rate_hz, _parameters(media, number))


def _agreed_events(
    media: Media, theirs: dict[int, tuple[str, int]], ours: dict[int, tuple[str, int]], clock_rate_hz: int
) -> TelephoneEvent | None:
    """The peer's number and ours, where both have one.

    First of those of the codec's clock, as RFC 4733 §2.1 has it; then of 8 kHz, which many offer beside Opus alone.
    """
    for rate in dict.fromkeys((clock_rate_hz, CLOCK_RATE_HZ)):
        number, own = _find(theirs, TELEPHONE_EVENT, rate), _find(ours, TELEPHONE_EVENT, rate)
        if number is not None and own is not None:
            return TelephoneEvent(number, own, _events(media, number), rate)
    return None


def address_version(sdp: bytes) -> int | None:
    """4 or 6: the family of the address that the first audio is to be sent to; None where SDP names none."""
    with suppress(SdpError, ValueError):
        session = parse(sdp)
        media = next((each for each in session.media if each.kind == "audio"), None)
        if media is not None:
            return _address(_connected(media.connection or session.connection)).version
    return None


# --- writing ------------------------------------------------------------------------------------


class _Row(NamedTuple):
    """One payload type of ours."""

    number: int
    rtpmap: str
    parameters: str


def _rows(codecs: Mapping[int, str], events: Mapping[int, int], noise: int | None = None) -> list[_Row]:
    """Codecs by their names, events by their clock rates, comfort noise."""
    rows = [_Row(number, FORMATS[name].rtpmap, FORMATS[name].parameters) for number, name in codecs.items()]
    if noise is not None:
        rows.append(_Row(noise, f"{COMFORT_NOISE}/{CLOCK_RATE_HZ}", ""))
    for number, clock_rate_hz in events.items():
        format = telephone_event(clock_rate_hz)
        rows.append(_Row(number, format.rtpmap, format.parameters))
    return rows


def _audio(
    port: int,
    protocol: str,
    rows: list[_Row],
    *,
    direction: Direction,
    ptime_ms: int,
    cryptos: Iterable[Crypto],
    rtcp: Iterable[str],
) -> _Line:
    attributes = []
    for number, rtpmap, parameters in rows:
        attributes.append(f"rtpmap:{number} {rtpmap}")
        if parameters:
            attributes.append(f"fmtp:{number} {parameters}")
    attributes += [f"crypto:{each}" for each in cryptos]
    attributes += [*rtcp, f"ptime:{ptime_ms}", direction.value]
    return _Line("audio", port, protocol, tuple(str(row.number) for row in rows), tuple(attributes))


def _render(lines: Iterable[_Line], capabilities: Capabilities, previous: bytes | None) -> bytes:
    """Our SDP; the version of ``o=`` rises by one when it differs from ``previous`` (RFC 3264 §8)."""
    version = _version(previous) if previous else 1
    text = _text(lines, capabilities, version)
    return _text(lines, capabilities, version + 1) if previous and text != previous else text


def _version(previous: bytes) -> int:
    match = _ORIGIN.fullmatch(parse(previous).origin)
    if match is None:
        raise _bad("the previous SDP is not one of ours")
    return int(match[2])


def _text(lines: Iterable[_Line], capabilities: Capabilities, version: int) -> bytes:
    family = f"IP{_address(capabilities.address).version}"
    rows = [
        "v=0",
        f"o=- {capabilities.session_id} {version} IN {family} {capabilities.address}",
        "s=-",
        f"c=IN {family} {capabilities.address}",
        "t=0 0",
    ]
    for line in lines:
        rows.append(f"m={line.kind} {line.port} {line.protocol} {' '.join(line.formats)}")
        rows += [f"a={attribute}" for attribute in line.attributes]
    return ("\r\n".join(rows) + "\r\n").encode("ascii")
