"""RTP packets (RFC 3550 §5) and the receiver's bookkeeping of one source (appendix A)."""

from __future__ import annotations

import struct
from typing import Final

import msgspec

__all__ = ["HEADER", "RtpPacket", "SequenceTracker", "build", "parse", "sequence_delta", "timestamp_delta"]

HEADER_BYTES: Final = 12

HEADER: Final = struct.Struct("!BBHII")
"""Version and flags, marker and payload type, sequence number, timestamp, SSRC."""

_unpack: Final = HEADER.unpack_from
_pack: Final = HEADER.pack

# RFC 5761 §4: with the marker bit set these payload types are RTCP's packet types 192..223.
_RTCP_FIRST: Final = 192
_RTCP_LAST: Final = 223


class RtpPacket(msgspec.Struct, frozen=True, gc=False):
    """One parsed packet. ``timestamp`` in units of the payload's clock; CSRCs and extensions are not kept."""

    payload_type: int
    marker: bool
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes


def parse(packet: bytes) -> RtpPacket | None:
    """A datagram as an RTP packet, or None when it is none (RFC 3550 §A.1).

    The payload may be empty (RFC 6263 §4.1 keep-alives).
    """
    if len(packet) < HEADER_BYTES:
        return None
    first, second, sequence, timestamp, ssrc = _unpack(packet)
    if _RTCP_FIRST <= second <= _RTCP_LAST:
        return None
    if first == 0x80:  # no padding, extension or CSRC: nearly every packet there is
        payload = packet[HEADER_BYTES:]
    else:
        bounds = _payload_bounds(first, packet)
        if bounds is None:
            return None
        payload = packet[bounds[0] : bounds[1]]
    return RtpPacket(second & 0x7F, second >= 0x80, sequence, timestamp, ssrc, payload)


def _payload_bounds(first: int, packet: bytes) -> tuple[int, int] | None:
    """Where the payload lies past CSRCs and the header extension, and short of the padding."""
    if first >> 6 != 2:
        return None
    start, end = HEADER_BYTES + 4 * (first & 0x0F), len(packet)
    if first & 0x10:
        if start + 4 > end:
            return None
        start += 4 + 4 * int.from_bytes(packet[start + 2 : start + 4], "big")
    if start > end:
        return None
    if first & 0x20:
        padding = packet[-1]
        if padding == 0 or start + padding > end:
            return None
        end -= padding
    return start, end


def build(
    payload_type: int, sequence: int, timestamp: int, ssrc: int, payload: bytes, *, marker: bool = False
) -> bytes:
    """The wire form; ``sequence`` and ``timestamp`` already reduced to 16 and 32 bits."""
    return _pack(0x80, payload_type | 0x80 if marker else payload_type, sequence, timestamp, ssrc) + payload


def sequence_delta(later: int, earlier: int) -> int:
    """``later − earlier`` as the nearest signed distance of 16-bit sequence numbers."""
    return ((later - earlier + 0x8000) & 0xFFFF) - 0x8000


def timestamp_delta(later: int, earlier: int) -> int:
    """``later − earlier`` as the nearest signed distance of 32-bit timestamps."""
    return ((later - earlier + 0x80000000) & 0xFFFFFFFF) - 0x80000000


class SequenceTracker:
    """One source's sequence numbers, losses and jitter (RFC 3550 §A.1, §A.3, §A.8).

    A source is valid after ``probation`` packets in sequence; a jump of ``MAX_DROPOUT`` or more is
    taken as a restart once two packets agree on it.
    """

    MAX_DROPOUT: Final = 3000
    MAX_MISORDER: Final = 100
    _NONE: Final = 0x10001

    __slots__ = (
        "_bad_sequence",
        "_base",
        "_clock_rate_hz",
        "_cycles",
        "_expected_before",
        "_highest",
        "_jitter",
        "_lost_before",
        "_next",
        "_probation",
        "_probation_packets",
        "_received_before",
        "_started",
        "_transit",
        "received",
        "restarts",
        "total_received",
    )

    def __init__(self, clock_rate_hz: int = 8000, probation: int = 2) -> None:
        self._clock_rate_hz = clock_rate_hz
        self._probation_packets = probation
        self.restarts = 0
        """Times the source began its sequence anew."""
        self.received = 0
        """Packets counted since the sequence began."""
        self.total_received = 0
        """Packets counted in all, over restarts."""
        self._lost_before = 0
        self._started = False
        self._next = self._NONE
        self._probation = probation
        self._jitter = 0.0
        self._restart(0)

    def _restart(self, sequence: int) -> None:
        self._base = self._highest = sequence
        self._bad_sequence = self._NONE
        self._cycles = 0
        self.received = 0
        self._received_before = 0
        self._expected_before = 0
        self._transit: int | None = None

    def update(self, sequence: int, timestamp: int, arrival_s: float) -> bool:
        """Count one packet; False while the source is on probation or the packet is far out of sequence."""
        if sequence == self._next and not self._probation:
            self._highest = sequence
            self._next = sequence + 1  # at the wrap no packet is the next: the long way counts the cycle
        elif not self._in_sequence(sequence):
            return False
        else:
            self._next = self._highest + 1
        self.received += 1
        self.total_received += 1
        transit = (int(arrival_s * self._clock_rate_hz) - timestamp) & 0xFFFFFFFF
        previous, self._transit = self._transit, transit
        if previous is not None:
            apart = (transit - previous) & 0xFFFFFFFF
            self._jitter += ((apart if apart < 0x80000000 else 0x100000000 - apart) - self._jitter) / 16
        return True

    def _in_sequence(self, sequence: int) -> bool:
        if not self._started:
            self._started = True
            self._restart(sequence)
            if not self._probation:
                return True
            self._highest = (sequence - 1) & 0xFFFF
        if self._probation:
            return self._on_probation(sequence)
        delta = (sequence - self._highest) & 0xFFFF
        if delta < self.MAX_DROPOUT:
            if sequence < self._highest:
                self._cycles += 0x10000
            self._highest = sequence
        elif delta <= 0x10000 - self.MAX_MISORDER:
            if sequence != self._bad_sequence:
                self._bad_sequence = (sequence + 1) & 0xFFFF
                return False
            self._lost_before = self.total_lost
            self._restart(sequence)
            self.restarts += 1
        return True

    def _on_probation(self, sequence: int) -> bool:
        if sequence != (self._highest + 1) & 0xFFFF:
            self._probation = max(self._probation_packets - 1, 0)
            self._highest = sequence
            return False
        self._highest = sequence
        self._probation -= 1
        if self._probation:
            return False
        self._restart(sequence)
        return True

    @property
    def valid(self) -> bool:
        """True once the probation is served."""
        return self._started and not self._probation

    @property
    def extended_highest(self) -> int:
        """The highest sequence number received, with its cycles in the upper 16 bits (modulo 2³²)."""
        return (self._cycles + self._highest) & 0xFFFFFFFF

    @property
    def expected(self) -> int:
        """Packets expected since the first valid one."""
        return self._cycles + self._highest - self._base + 1 if self.valid else 0

    @property
    def lost(self) -> int:
        """Cumulative loss [packets]; negative when duplicates outnumber losses (§A.3)."""
        return self.expected - self.received

    @property
    def total_lost(self) -> int:
        """Packets lost in all, over restarts; never negative, whatever was duplicated."""
        return self._lost_before + max(self.lost, 0)

    @property
    def jitter_units(self) -> int:
        """Interarrival jitter in timestamp units, as an RTCP report carries it (§A.8)."""
        return int(self._jitter)

    @property
    def jitter_ms(self) -> float:
        """Interarrival jitter [ms]."""
        return self._jitter * 1000 / self._clock_rate_hz

    def take_fraction_lost(self) -> int:
        """The loss since the last call as a fraction of 256 (§A.3); one call for each report sent."""
        expected, received = self.expected - self._expected_before, self.received - self._received_before
        self._expected_before, self._received_before = self.expected, self.received
        lost = expected - received
        return min((lost << 8) // expected, 255) if expected > 0 and lost > 0 else 0
