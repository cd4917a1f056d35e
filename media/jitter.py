"""The adaptive jitter buffer: packets of any size and codec in, exact 20 ms frames out.

Positions are ticks of 8 kHz of the sender's media clock, unwrapped. Payloads in the leg's own law have a byte for
each; what is :class:`~media.codecs.Coded` is decoded as its turn comes, so that decoders hear the stream in order. A
packet's *transit* is its arrival on our clock less its position: meaningless alone, but the differences
are the network's jitter. Playing a position at ``position + target`` makes all packets with a
transit below ``target`` punctual; the target is a high quantile of the last seconds' transits.

The buffer moves towards its target only where that is cheap: at the start of a talkspurt, in
frames that would have to be concealed anyway (it grows), by merging two frames (it shrinks, in
quiet ones first). A packet that comes after its time is dropped, unless nothing has been played
since: then the network has stalled, and the play-out point falls back to it, so that speech held
up in a burst is heard in whole and the delay is worked off afterwards.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from enum import Enum
from math import gcd
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from media import g711
from media.codecs import Coded
from media.convert import frame_bytes, is_linear
from media.rtp import sequence_delta, timestamp_delta

if TYPE_CHECKING:
    from media.agents.base import Encoding

__all__ = ["Gap", "JitterBuffer"]

FRAME: Final = g711.FRAME_BYTES
_PER_MS: Final = 8
_PER_S: Final = 8000


class Gap(Enum):
    """What :meth:`JitterBuffer.get` gives in place of a frame."""

    LOST = "lost"
    """A frame is missing: conceal it."""
    NOTHING = "nothing"
    """The stream has not begun, or pauses: silence."""


_Payload = bytes | Coded
_Packet = tuple[int, int, int, _Payload]
"""Where it starts and ends, its unwrapped sequence number, its payload; a bare tuple, for there is one a frame."""

_START: Final = 0
_END: Final = 1
_SEQUENCE: Final = 2
_PAYLOAD: Final = 3
_ORDER: Final = itemgetter(_START, _END, _SEQUENCE)


# What every packet passes is the module's: a class's constant is ten times a global's to look up (CPython 3.11).
_BIN: Final = 5 * _PER_MS
_WINDOW: Final = 400
"""Packets: 8 s of 20 ms each."""
_EVERY: Final = 8
_JUMP: Final = 100 * _PER_MS
"""What a packet cannot be earlier than all before it but by a jump of the sender's clock …"""
_LATE_JUMP: Final = _PER_S
"""… nor later, beyond the greatest delay."""
_MAX_PACKETS: Final = 128


class _Transits:
    """The transits of the last packets as a histogram of 5 ms bins, and the target they ask for."""

    SETTLED: Final = 50
    BEYOND: Final = 0.05
    """The share of packets that the target leaves behind …"""
    BEYOND_LEAST: Final = 0.01
    """… which shrinks to this as packets are dropped for it: a stall, which play-out falls back from, drops none."""
    FORGET: Final = 0.99

    __slots__ = ("_counts", "_initial", "_maximum", "_minimum", "_missed", "_outliers", "_window", "lowest", "target")

    def __init__(self, minimum: int, maximum: int, initial: int) -> None:
        self._minimum, self._maximum, self._initial = minimum, maximum, initial
        self._window: deque[int] = deque()
        self._counts: dict[int, int] = {}
        self._missed = 0.0
        self._outliers = 0
        self.lowest = 0
        """The least transit in the window [samples]."""
        self.target = 0
        """The transit up to which packets are to be punctual [samples]."""

    def add(self, transit: int) -> None:
        """Count one packet; of those that no target could wait for only some, so that an outage is soon forgotten."""
        counts, window, each = self._counts, self._window, transit // _BIN
        if transit > self.lowest + self._maximum and window:
            self._outliers += 1
            if self._outliers % _EVERY:
                return
        counts[each] = counts.get(each, 0) + 1
        window.append(each)
        if transit < self.lowest or len(window) % _EVERY == 0 or len(window) == 1:
            self._aim()

    @property
    def still(self) -> bool:
        """There is no jitter to speak of: the target is the least there is."""
        return self.target - self.lowest <= self._minimum

    def miss(self) -> None:
        """A packet has been dropped for coming late."""
        self._missed += 1

    def _aim(self) -> None:
        counts, window = self._counts, self._window
        while len(window) > _WINDOW:
            oldest = window.popleft()
            counts[oldest] -= 1
            if not counts[oldest]:
                del counts[oldest]
        lowest = quantile = min(counts)
        self._missed *= self.FORGET
        beyond = self.BEYOND - self._missed / _WINDOW
        spare = int(len(window) * max(beyond, self.BEYOND_LEAST))
        for quantile in sorted(counts, reverse=True):
            spare -= counts[quantile]
            if spare < 0:
                break
        least = self._minimum if len(window) >= self.SETTLED else self._initial
        self.lowest = lowest * _BIN
        self.target = self.lowest + min(max((quantile + 1 - lowest) * _BIN, least), self._maximum)


class JitterBuffer:
    """One source's buffer: ``put`` packets as they arrive, ``get`` a frame every 20 ms.

    Times are seconds of one monotonic clock; delays are above the fastest packet's. Counters are
    packets, or frames where the name says so.
    """

    MAX_PAYLOAD: Final = 200 * _PER_MS
    MAX_PACKETS: Final = _MAX_PACKETS
    MAX_DROPOUT: Final = 3000
    MEMORY: Final = 128
    """Sequence numbers remembered, to tell duplicates from stragglers."""
    PATIENCE_FRAMES: Final = 10
    """Frames missing in a row after which the stream counts as paused."""
    LATE_RUN: Final = 5
    """Late packets in a row that mean the sender's clock has jumped back."""
    SLACK: Final = 2 * _PER_MS
    """Delay that must be left above the target when quiet frames are merged …"""
    LASTING_FRAMES: Final = 25
    """… unless the network is still, and there has been a whole step too much of it for so long."""
    HURRY: Final = 60 * _PER_MS
    """Delay above the target at which loud frames are merged too, one in ``HURRY_FRAMES``."""
    HURRY_FRAMES: Final = 5

    __slots__ = (
        "_content_max",
        "_encoding",
        "_expected_odd",
        "_grid",
        "_highest",
        "_late_run",
        "_latest",
        "_limits",
        "_next_start",
        "_next_timestamp",
        "_packets",
        "_play",
        "_played_sequence",
        "_played_to",
        "_quiet",
        "_run",
        "_seen",
        "_since_merge",
        "_since_spare",
        "_size",
        "_soundless",
        "_suspect",
        "_transits",
        "_unit_bytes",
        "duplicate",
        "expected",
        "frames_concealed",
        "frames_inserted",
        "frames_merged",
        "frames_played",
        "late",
        "overflowed",
        "received",
        "refused",
        "reordered",
        "resets",
    )

    def __init__(
        self, encoding: Encoding = "PCMU", *, min_ms: int = 10, max_ms: int = 200, initial_ms: int = 40
    ) -> None:
        if not 0 < min_ms <= initial_ms <= max_ms <= 1000:
            raise ValueError("0 < min_ms <= initial_ms <= max_ms <= 1000")
        self._encoding = encoding
        self._unit_bytes = frame_bytes(encoding) // FRAME
        self._quiet = b"" if is_linear(encoding) else _QUIET[encoding]
        self._limits = (min_ms * _PER_MS, max_ms * _PER_MS, initial_ms * _PER_MS)
        self._latest = max_ms * _PER_MS + _LATE_JUMP
        self._content_max = (max_ms + 60) * _PER_MS
        self.received = 0
        self.expected = 0
        self.late = 0
        self.duplicate = 0
        self.reordered = 0
        self.refused = 0
        self.overflowed = 0
        self.resets = 0
        self.frames_played = 0
        self.frames_concealed = 0
        self.frames_inserted = 0
        self.frames_merged = 0
        self._begin_sequence()
        self._begin_timeline()

    def _begin_sequence(self) -> None:
        self._highest: int | None = None
        self._seen = 0
        self._expected_odd: int | None = None
        self._soundless: set[int] = set()

    def _begin_timeline(self) -> None:
        self._packets: list[_Packet] = []
        self._transits = _Transits(*self._limits)
        self._next_timestamp = _NEVER
        self._next_start = 0
        self._play: int | None = None
        self._played_to = _NEVER
        self._played_sequence = _NEVER
        self._run = 0
        self._late_run = 0
        self._since_merge = 0
        self._since_spare = 0
        self._size = 0
        self._grid = FRAME
        self._suspect: tuple[int, int, _Payload, int] | None = None

    def restart(self) -> None:
        """Another source begins (a new SSRC): its numbers are unrelated. The counters go on."""
        self.resets += 1
        self._begin_sequence()
        self._begin_timeline()

    @property
    def lost(self) -> int:
        """Packets that never came."""
        return max(self.expected - self.received, 0)

    @property
    def target_ms(self) -> float:
        """The delay aimed at [ms]."""
        return (self._transits.target - self._transits.lowest) / _PER_MS

    def delay_ms(self, now: float) -> float | None:
        """The play-out delay [ms] of the frame given at ``now``; None while nothing plays."""
        if self._play is None:
            return None
        return (int(now * _PER_S) - self._play + FRAME - self._transits.lowest) / _PER_MS

    # --- in -------------------------------------------------------------------------------------

    def put(self, sequence: int, timestamp: int, payload: _Payload, arrival_s: float, *, marker: bool = False) -> None:
        """A packet. An empty payload (an event, a keep-alive) only says that its sequence number is not lost."""
        if timestamp == self._next_timestamp and len(payload) == self._size and not marker:
            highest = self._highest
            if (
                highest is not None
                and sequence == (highest + 1) & 0xFFFF
                and self._follows(highest + 1, payload, arrival_s)
            ):
                return
        if len(payload) > self.MAX_PAYLOAD:
            self.refused += 1
            return
        extended = self._register(sequence)
        if extended is None:
            return
        if not payload:
            self._note_soundless(extended)
            return
        arrival = int(arrival_s * _PER_S)
        transit = arrival - self._position(timestamp)
        if self._next_timestamp != _NEVER and self._jumps(transit, marker):
            suspect, self._suspect = self._suspect, (extended, timestamp, payload, arrival)
            if not marker and not self._agree(suspect, timestamp, arrival):
                return
            self._jump()
            if suspect is not None:
                self._accept(*suspect)
        self._suspect = None
        self._accept(extended, timestamp, payload, arrival)

    def _follows(self, sequence: int, payload: _Payload, arrival_s: float) -> bool:
        """Take the packet that follows the last one in every way, as nearly all do; False: look at it more closely."""
        transits, packets, start, play = self._transits, self._packets, self._next_start, self._play
        transit = int(arrival_s * _PER_S) - start
        end = start + self._size
        if (
            end <= (self._played_to if play is None else play)
            or self._suspect is not None
            or not -_JUMP <= transit - transits.lowest <= self._latest
        ):
            return False
        self._expected_odd = None
        self._highest = sequence
        if self._seen != _SEEN_MASK:
            self._seen = (self._seen << 1 | 1) & _SEEN_MASK
        self.expected += 1
        self.received += 1
        self._late_run = 0
        transits.add(transit)
        self._next_timestamp, self._next_start = (self._next_timestamp + self._size) & 0xFFFFFFFF, end
        packets.append((start, end, sequence, payload))
        if end - packets[0][_START] > self._content_max or len(packets) > _MAX_PACKETS:
            self._bound()
        return True

    def _register(self, sequence: int) -> int | None:
        """The unwrapped sequence number; None for a duplicate, and for the first of a far jump (RFC 3550 §A.1)."""
        if self._highest is None:
            self._highest = sequence + 0xFFFF
        ahead = sequence_delta(sequence, self._highest & 0xFFFF)
        if not -self.MEMORY < ahead < self.MAX_DROPOUT:
            if sequence != self._expected_odd:
                self._expected_odd = (sequence + 1) & 0xFFFF
                return None
            self._highest, self._seen, ahead = self._highest + ahead - 1, 0, 1
        self._expected_odd = None
        if ahead > 0:
            self._seen = (self._seen << ahead | 1) & _SEEN_MASK if ahead < self.MEMORY else 1
            self._highest += ahead
            self.expected += ahead
        else:
            bit = 1 << -ahead
            if self._seen & bit:
                self.duplicate += 1
                return None
            self._seen |= bit
            self.reordered += 1
        self.received += 1
        return self._highest + min(ahead, 0)

    def _note_soundless(self, sequence: int) -> None:
        self._soundless.add(sequence)
        if len(self._soundless) > self.MEMORY:
            latest = max(self._soundless)
            self._soundless = {each for each in self._soundless if each > latest - self.MEMORY}

    def _position(self, timestamp: int) -> int:
        if self._next_timestamp == _NEVER:
            return timestamp
        return self._next_start + timestamp_delta(timestamp, self._next_timestamp)

    def _jumps(self, transit: int, marker: bool) -> bool:
        """Whether no network explains this transit; where a marker allows a new clock, less is enough."""
        latest = self._limits[1] if marker else self._latest
        return not -_JUMP <= transit - self._transits.lowest <= latest

    def _agree(self, suspect: tuple[int, int, _Payload, int] | None, timestamp: int, arrival: int) -> bool:
        """Whether two packets that are out of line are in line with each other."""
        if suspect is None:
            return False
        return abs(arrival - suspect[3] - timestamp_delta(timestamp, suspect[1])) < _JUMP

    def _jump(self) -> None:
        """The sender's clock has jumped: forget what its old one said."""
        self.resets += 1
        self._begin_timeline()

    def _accept(self, sequence: int, timestamp: int, payload: _Payload, arrival: int) -> None:
        start = self._position(timestamp)
        end = start + len(payload)
        packet: _Packet = (start, end, sequence, payload)
        self._transits.add(arrival - start)
        self._next_timestamp, self._next_start = (timestamp + len(payload)) & 0xFFFFFFFF, end
        if end <= (self._played_to if self._play is None else self._play) and not self._falls_back(packet):
            self.late += 1
            self._transits.miss()
            self._late_run += 1
            if self._late_run == self.LATE_RUN:
                self._jump()
                self._accept(sequence, timestamp, payload, arrival)
            return
        self._late_run = 0
        if len(payload) != self._size:
            self._size = len(payload)
            self._grid = gcd(FRAME, self._size)
        packets = self._packets
        if not packets or start >= packets[-1][_START]:
            packets.append(packet)
        else:
            insort(packets, packet, key=_ORDER)
        self._bound()

    def _bound(self) -> None:
        """Keep no more than ``max_ms`` and a packet; the oldest goes, and play-out skips it."""
        packets = self._packets
        while len(packets) > 1 and (
            packets[-1][_END] - packets[0][_START] > self._content_max or len(packets) > _MAX_PACKETS
        ):
            self._played_sequence = packets.pop(0)[_SEQUENCE]
            self.overflowed += 1
            if self._play is not None:
                self._play = max(self._play, packets[0][_START])

    def _falls_back(self, packet: _Packet) -> bool:
        """Late, but only concealment has been heard for a while: play on from here after all."""
        waits = not self._packets or self._packets[0][_START] == self._play
        if self._run < 2 or not waits or packet[_START] < self._played_to:
            return False
        self._play = packet[_START]
        return True

    # --- out ------------------------------------------------------------------------------------

    def get(self, now: float) -> bytes | Gap:
        """The next 20 ms in the buffer's encoding, or what to play in their place."""
        clock, play = int(now * _PER_S), self._play
        return self._resume(clock) if play is None else self._next(clock, play)

    def _next(self, clock: int, play: int) -> bytes | Gap:
        packets, grid = self._packets, self._grid
        surplus = clock - play - (self._transits.target + FRAME - grid)  # see _wanted_lag
        if surplus < grid:
            self._since_spare = 0
        else:
            self._since_spare += 1
            lasting = self._since_spare > self.LASTING_FRAMES and self._transits.still
            if lasting or surplus > grid + self.SLACK:
                merged = self._merge(play, surplus)
                if merged is not None:
                    return merged
        if packets and packets[0][_START] == play and packets[0][_END] == play + FRAME:
            _, _, self._played_sequence, payload = packets.pop(0)
            frame = payload if isinstance(payload, bytes) else payload.audio()
        else:
            assembled = self._assemble(play, FRAME)
            if assembled is None:
                return self._miss(clock, play)
            frame = assembled
            self._drop_before(play + FRAME)
        self._play = self._played_to = play + FRAME
        self._run = 0
        self._since_merge += 1
        self.frames_played += 1
        return frame

    def _wanted_lag(self) -> int:
        """How far play-out should be behind the clock [samples].

        A frame that ends in a later packet than it begins in waits for that one: ``grid`` is what the
        two sizes have in common, and play-out keeps to multiples of it within a talkspurt.
        """
        return self._transits.target + FRAME - self._grid

    def _resume(self, clock: int) -> bytes | Gap:
        """Begin a talkspurt when its first packet is due."""
        if not self._packets:
            return Gap.NOTHING
        start, end = self._packets[0][_START], self._packets[-1][_END]
        overdue = clock - self._wanted_lag() - start
        if overdue > _JUMP and end - start < overdue // 2:
            # Held up by the network, more would have come with it: the sender's clock has stood still.
            self._transits = _Transits(*self._limits)
            self._transits.add(clock - start)
            return Gap.NOTHING
        if overdue < 0:
            return Gap.NOTHING
        self._play = start
        self._run = 0
        return self._next(clock, start)

    def _assemble(self, start: int, length: int) -> bytes | None:
        """``length`` samples from ``start``, or None if any is missing."""
        at, end, unit = start, start + length, self._unit_bytes
        pieces = []
        for first, last, _, payload in self._packets:
            if first > at:
                return None
            if last > at:
                audio = payload if isinstance(payload, bytes) else payload.audio()
                pieces.append(audio[(at - first) * unit : (end - first) * unit])
                at = last
                if at >= end:
                    return b"".join(pieces)
        return None

    def _drop_before(self, position: int) -> None:
        packets = self._packets
        while packets and packets[0][_END] <= position:
            self._played_sequence = packets.pop(0)[_SEQUENCE]

    def _miss(self, clock: int, play: int) -> Gap | bytes:
        """Nothing whole to play: a pause of the sender, or a packet lost or late."""
        self._run += 1
        if self._pauses(play) or self._run > self.PATIENCE_FRAMES:
            self._play = None
            return self._resume(clock)
        if clock - play < self._wanted_lag():
            self.frames_inserted += 1
        else:
            self._advance(play)
        self.frames_concealed += 1
        return Gap.LOST

    def _advance(self, play: int) -> None:
        """Give a frame up. Off the packets' grid (the sender's clock slipped in a loss), get back on it."""
        self._play = play + FRAME
        head = self._packets[0] if self._packets else None
        if head is not None and head[_START] < self._play and (head[_START] - play) % self._grid:
            self._play = head[_START] if head[_START] > play else head[_END]
        self._drop_before(self._play)

    def _pauses(self, play: int) -> bool:
        """Whether nothing with sound was sent between the last packet played and the next, or the last that came.

        Then the gap is the sender's silence: a pause, or a digit in audio's place (RFC 4733 §2.5.1.2). What is
        lost around a digit is concealed for its own length and no longer.
        """
        packets = self._packets
        if packets and packets[0][_START] <= play:
            return False
        between = range(self._played_sequence + 1, packets[0][_SEQUENCE] if packets else (self._highest or 0) + 1)
        if len(between) > self.MEMORY:
            return False
        lost = sum(each not in self._soundless for each in between)
        if not lost:
            return bool(packets or between)
        return lost < len(between) and lost * max(self._size, FRAME) < self._run * FRAME

    # --- shrinking ------------------------------------------------------------------------------

    def _merge(self, play: int, surplus: int) -> bytes | None:
        """One frame out of up to two, by a cross-fade that begins as the first and ends as the second."""
        skip = min(surplus, FRAME) // self._grid * self._grid
        hurried = surplus > self.HURRY and self._since_merge >= self.HURRY_FRAMES
        head = self._packets[0] if self._packets else None
        if not hurried and head and head[_START] == play and self._loud(head[_PAYLOAD], FRAME) * 20 > FRAME + skip:
            return None  # whatever comes after it, the span is not quiet
        span = self._assemble(play, FRAME + skip)
        if span is None or not (hurried or self._loud(span, FRAME + skip) * 20 <= FRAME + skip):
            return None
        self._play = self._played_to = play + FRAME + skip
        self._drop_before(self._play)
        self._run = self._since_merge = 0
        self.frames_merged += 1
        self.frames_played += 1
        return self._faded(span, skip)

    def _faded(self, span: bytes, skip: int) -> bytes:
        law = None if is_linear(self._encoding) else self._encoding
        samples = np.frombuffer(g711.DECODERS[law](span) if law else span, np.int16)
        count = len(samples) // (FRAME + skip) * FRAME
        fade_in, fade_out = _FADES[count]
        faded = (samples[:count] * fade_out + samples[-count:] * fade_in).astype(np.int16).tobytes()
        return g711.ENCODERS[law](faded) if law else faded

    def _loud(self, payload: _Payload, units: int) -> int:
        """How many of the first units are louder than −42 dBm0; a span is quiet with at most a twentieth of them."""
        audio = (payload if isinstance(payload, bytes) else payload.audio())[: units * self._unit_bytes]
        if self._quiet:
            return len(audio.translate(None, self._quiet))
        samples = np.frombuffer(audio, np.int16)
        return int(np.count_nonzero(np.abs(samples) > _LOUD)) * units // max(len(samples), 1)

    def following(self) -> bytes | None:
        """The undecoded packet right after the frame just missed, if it is here: it may tell what was lost."""
        packets = self._packets
        if not packets or packets[0][_START] != self._play:
            return None
        payload = packets[0][_PAYLOAD]
        return None if isinstance(payload, bytes) else payload.payload


_LOUD: Final = 250


def _quiet_codes(law: str) -> bytes:
    levels = np.frombuffer(g711.DECODERS[law](bytes(range(256))), np.int16)
    return bytes(code for code in range(256) if abs(int(levels[code])) <= _LOUD)


_NEVER: Final = -(1 << 62)
_SEEN_MASK: Final = (1 << JitterBuffer.MEMORY) - 1
_QUIET: Final = {law: _quiet_codes(law) for law in (g711.PCMU, g711.PCMA)}


def _fades(count: int) -> tuple[NDArray[Any], NDArray[Any]]:
    fade_in = ((np.arange(count) + 0.5) / count).astype(np.float32)
    return fade_in, (1 - fade_in).astype(np.float32)


_FADES: Final = {count: _fades(count) for count in (FRAME, 2 * FRAME)}
