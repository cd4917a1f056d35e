"""RTCP (RFC 3550 §6): compound packets, and one party's reports in a session of two.

Nothing here needs the wall clock: NTP timestamps are the monotonic clock's (§4 allows it, and the
peer only ever sends them back).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from media.rtp import SequenceTracker

__all__ = [
    "Goodbye",
    "Packet",
    "ReceiverReport",
    "ReportBlock",
    "Reporter",
    "SenderInfo",
    "SenderReport",
    "SourceDescription",
    "build",
    "interval_s",
    "parse",
    "round_trip_s",
]

SENDER_REPORT: Final = 200
RECEIVER_REPORT: Final = 201
SOURCE_DESCRIPTION: Final = 202
GOODBYE: Final = 203
CNAME: Final = 1

MAX_BYTES: Final = 1500
_MOD_32: Final = 0xFFFFFFFF
_HEADER: Final = struct.Struct("!BBH")
_SSRC: Final = struct.Struct("!I")
_SENDER: Final = struct.Struct("!QIII")
_BLOCK: Final = struct.Struct("!IIIIII")


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """What a receiver says of one source (§6.4.1).

    ``fraction_lost`` in 256ths, ``jitter`` in timestamp units, ``last_report`` (LSR) in the middle 32
    bits of NTP time, ``delay`` (DLSR) in 65536ths of a second.
    """

    ssrc: int
    fraction_lost: int
    cumulative_lost: int
    extended_highest: int
    jitter: int
    last_report: int
    delay: int


@dataclass(frozen=True, slots=True)
class SenderInfo:
    """What a sender says of itself; ``ntp`` is 64 bits, ``octets`` of payload."""

    ntp: int
    rtp_timestamp: int
    packets: int
    octets: int


@dataclass(frozen=True, slots=True)
class SenderReport:
    """SR (§6.4.1)."""

    ssrc: int
    sender: SenderInfo
    blocks: tuple[ReportBlock, ...] = ()


@dataclass(frozen=True, slots=True)
class ReceiverReport:
    """RR (§6.4.2)."""

    ssrc: int
    blocks: tuple[ReportBlock, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceDescription:
    """SDES (§6.5), reduced to the CNAMEs by SSRC."""

    cnames: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Goodbye:
    """BYE (§6.6). ``reason`` is the peer's text."""

    ssrcs: tuple[int, ...]
    reason: str = ""


Packet = SenderReport | ReceiverReport | SourceDescription | Goodbye


class _Malformed(Exception):
    """Never leaves this module."""


# --- parsing ------------------------------------------------------------------------------------


def parse(data: bytes) -> tuple[Packet, ...] | None:
    """A compound packet, or None when it is not valid (§A.2). Types not named here are skipped."""
    try:
        return tuple(_packets(data))
    except _Malformed:
        return None


def _packets(data: bytes) -> Iterator[Packet]:
    if not 8 <= len(data) <= MAX_BYTES or len(data) % 4:
        raise _Malformed
    at = 0
    while at < len(data):
        first, kind, words = _HEADER.unpack_from(data, at)
        end = at + 4 * (words + 1)
        if first >> 6 != 2 or end > len(data) or (at == 0 and kind not in (SENDER_REPORT, RECEIVER_REPORT)):
            raise _Malformed
        body = data[at + 4 : end]
        if first & 0x20:
            body = _unpadded(body, last=end == len(data))
        packet = _packet(kind, first & 0x1F, body)
        if packet is not None:
            yield packet
        at = end


def _unpadded(body: bytes, *, last: bool) -> bytes:
    """Padding is only for the last packet of a compound one."""
    count = body[-1] if body else 0
    if not last or count == 0 or count % 4 or count > len(body):
        raise _Malformed
    return body[:-count]


def _packet(kind: int, count: int, body: bytes) -> Packet | None:
    if kind == SENDER_REPORT:
        _require(body, 24 + 24 * count)
        return SenderReport(_word(body, 0), SenderInfo(*_SENDER.unpack_from(body, 4)), _blocks(body, 24, count))
    if kind == RECEIVER_REPORT:
        _require(body, 4 + 24 * count)
        return ReceiverReport(_word(body, 0), _blocks(body, 4, count))
    if kind == SOURCE_DESCRIPTION:
        return SourceDescription(tuple(_cnames(body, count)))
    if kind == GOODBYE:
        return _goodbye(body, count)
    return None


def _require(body: bytes, length: int) -> None:
    if len(body) < length:
        raise _Malformed


def _word(body: bytes, at: int) -> int:
    return int.from_bytes(body[at : at + 4], "big")


def _blocks(body: bytes, at: int, count: int) -> tuple[ReportBlock, ...]:
    return tuple(_block(body, at + 24 * index) for index in range(count))


def _block(body: bytes, at: int) -> ReportBlock:
    ssrc, loss, highest, jitter, last_report, delay = _BLOCK.unpack_from(body, at)
    cumulative = ((loss & 0xFFFFFF) ^ 0x800000) - 0x800000
    return ReportBlock(ssrc, loss >> 24, cumulative, highest, jitter, last_report, delay)


def _cnames(body: bytes, count: int) -> Iterator[tuple[int, str]]:
    at = 0
    for _ in range(count):
        _require(body, at + 4)
        ssrc = _word(body, at)
        items, at = _items(body, at + 4)
        yield from ((ssrc, text.decode("utf-8", "replace")) for kind, text in items if kind == CNAME)


def _items(body: bytes, at: int) -> tuple[list[tuple[int, bytes]], int]:
    """One chunk's items, and where the next chunk begins: a null ends the list, more fill up its word."""
    items = []
    _require(body, at + 1)
    while body[at]:
        _require(body, at + 2)
        end = at + 2 + body[at + 1]
        _require(body, end + 1)
        items.append((body[at], body[at + 2 : end]))
        at = end
    return items, at + 4 - at % 4


def _goodbye(body: bytes, count: int) -> Goodbye:
    _require(body, 4 * count)
    rest = body[4 * count :]
    if rest:
        _require(rest, 1 + rest[0])
    reason = rest[1 : 1 + rest[0]].decode("utf-8", "replace") if rest else ""
    return Goodbye(tuple(_word(body, 4 * index) for index in range(count)), reason)


# --- building -----------------------------------------------------------------------------------


def build(*packets: Packet) -> bytes:
    """The compound packet; the first one is to be a report (§6.1)."""
    return b"".join(map(_bytes, packets))


def _bytes(packet: Packet) -> bytes:
    match packet:
        case SenderReport(ssrc, sender, blocks):
            body = _SENDER.pack(sender.ntp, sender.rtp_timestamp, sender.packets, sender.octets)
            return _framed(SENDER_REPORT, len(blocks), _SSRC.pack(ssrc) + body + _block_bytes(blocks))
        case ReceiverReport(ssrc, blocks):
            return _framed(RECEIVER_REPORT, len(blocks), _SSRC.pack(ssrc) + _block_bytes(blocks))
        case SourceDescription(cnames):
            chunks = [_ended(_SSRC.pack(ssrc) + bytes((CNAME, *_text(name))), 1) for ssrc, name in cnames]
            return _framed(SOURCE_DESCRIPTION, len(cnames), b"".join(chunks))
        case Goodbye(ssrcs, reason):
            text = bytes(_text(reason)) if reason else b""
            return _framed(GOODBYE, len(ssrcs), _ended(b"".join(map(_SSRC.pack, ssrcs)) + text, 0))


def _framed(kind: int, count: int, body: bytes) -> bytes:
    return _HEADER.pack(0x80 | count, kind, len(body) // 4) + body


def _ended(body: bytes, least: int) -> bytes:
    """Zeros up to a whole word, at least ``least`` of them."""
    return body + bytes(least + -(len(body) + least) % 4)


def _text(text: str) -> tuple[int, ...]:
    octets = text.encode()[:255]
    return (len(octets), *octets)


def _block_bytes(blocks: tuple[ReportBlock, ...]) -> bytes:
    return b"".join(
        _BLOCK.pack(
            each.ssrc,
            each.fraction_lost << 24 | max(-0x800000, min(each.cumulative_lost, 0x7FFFFF)) & 0xFFFFFF,
            each.extended_highest,
            each.jitter,
            each.last_report,
            each.delay,
        )
        for each in blocks
    )


# --- timing -------------------------------------------------------------------------------------


def interval_s(entropy: bytes, *, initial: bool = False) -> float:
    """Seconds to the next report (§6.2, §6.3.1): 5, the first time 2.5, times 0.5 to 1.5, over e − 3/2.

    With two members at telephone rates the bandwidth share never asks for more. ``entropy``: 4 bytes.
    """
    share = int.from_bytes(entropy[:4], "big") / (1 << 32)
    return (2.5 if initial else 5.0) * (0.5 + share) / 1.21828


def round_trip_s(block: ReportBlock, now: float) -> float | None:
    """The round trip by a report on us (§6.4.1), or None where the peer has had no report of ours yet."""
    if block.last_report == 0:
        return None
    units = ((_ntp(now) >> 16) - block.last_report - block.delay) & _MOD_32
    # A peer whose clock for DLSR is coarse can come out a little below zero.
    return units / 65536 if units < 0x80000000 else 0.0


def _ntp(now: float) -> int:
    return int(now * 65536) << 16 & 0xFFFFFFFFFFFFFFFF


class Reporter:
    """Our reports on a peer, and what the peer's say of us.

    ``tracker`` is the bookkeeping of the peer's present source; set :attr:`source` with it on a new
    SSRC. Call :meth:`due` once a tick or so, and send what :meth:`report` gives when it is.
    """

    __slots__ = (
        "_at",
        "_cname",
        "_last_report",
        "_last_report_at",
        "_ssrc",
        "ended",
        "remote_fraction_lost",
        "remote_jitter_ms",
        "round_trip_s",
        "source",
    )

    def __init__(self, ssrc: int, cname: str, now: float, entropy: bytes) -> None:
        self._ssrc, self._cname = ssrc, cname
        self._at = now + interval_s(entropy, initial=True)
        self._last_report = 0
        self._last_report_at = 0.0
        self.source: tuple[int, SequenceTracker] | None = None
        """The peer's SSRC and its bookkeeping; None before its first packet."""
        self.round_trip_s: float | None = None
        self.remote_fraction_lost: float | None = None
        """What the peer lost of ours since its report before [0..1]."""
        self.remote_jitter_ms: float | None = None
        self.ended = False
        """The peer has said BYE for its present source."""

    def identify(self, ssrc: int) -> None:
        """We send under another SSRC from here on."""
        self._ssrc = ssrc

    def due(self, now: float) -> bool:
        """Whether a report is to be sent."""
        return now >= self._at

    def report(self, now: float, entropy: bytes, sender: SenderInfo | None) -> bytes:
        """The next report; ``sender`` (its ``ntp`` is set here) where we have sent since the last one."""
        self._at = now + interval_s(entropy)
        return build(self._report(now, sender), SourceDescription(((self._ssrc, self._cname),)))

    def goodbye(self, now: float, reason: str = "") -> bytes:
        """The last report (§6.6)."""
        names = SourceDescription(((self._ssrc, self._cname),))
        return build(self._report(now, None), names, Goodbye((self._ssrc,), reason))

    def _report(self, now: float, sender: SenderInfo | None) -> SenderReport | ReceiverReport:
        blocks = self._blocks_on_peer(now)
        if sender is None:
            return ReceiverReport(self._ssrc, blocks)
        return SenderReport(self._ssrc, replace(sender, ntp=_ntp(now)), blocks)

    def _blocks_on_peer(self, now: float) -> tuple[ReportBlock, ...]:
        if self.source is None or not self.source[1].valid:
            return ()
        ssrc, tracker = self.source
        return (
            ReportBlock(
                ssrc,
                tracker.take_fraction_lost(),
                tracker.lost,
                tracker.extended_highest,
                tracker.jitter_units,
                self._last_report,
                int((now - self._last_report_at) * 65536) & _MOD_32 if self._last_report else 0,
            ),
        )

    def receive(self, packets: tuple[Packet, ...], now: float, clock_rate_hz: int = 8000) -> None:
        """What the peer reports."""
        for packet in packets:
            match packet:
                case SenderReport(_, sender, blocks):
                    self._last_report, self._last_report_at = sender.ntp >> 16 & _MOD_32, now
                    self._read(blocks, now, clock_rate_hz)
                case ReceiverReport(_, blocks):
                    self._read(blocks, now, clock_rate_hz)
                case Goodbye(ssrcs):
                    self.ended = self.ended or (self.source is not None and self.source[0] in ssrcs)

    def _read(self, blocks: tuple[ReportBlock, ...], now: float, clock_rate_hz: int) -> None:
        for block in blocks:
            if block.ssrc != self._ssrc:
                continue
            self.remote_fraction_lost = block.fraction_lost / 256
            self.remote_jitter_ms = block.jitter * 1000 / clock_rate_hz
            round_trip = round_trip_s(block, now)
            if round_trip is not None and round_trip < 60:
                self.round_trip_s = round_trip
