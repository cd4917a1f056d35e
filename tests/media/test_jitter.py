"""The jitter buffer, on a fake clock and on recorded traces."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from media import g711
from media.codecs import Reader
from media.jitter import Gap, JitterBuffer
from tests.media.data import replay

LOUD = 0x10
"""A μ-law byte of a loud sample: frames of it are never merged without need."""


def loud(number: int, length: int = 160) -> bytes:
    """A payload that tells its number."""
    return bytes([number % 100]) + bytes([LOUD]) * (length - 1)


@dataclass
class Caller:
    """Sends ``ptime_ms`` packets; the path delays each by what the test says. 1 tick is 20 ms."""

    buffer: JitterBuffer
    ptime_ms: int = 20
    sequence: int = 0
    timestamp: int = 0
    start_s: float = 10.0
    sent: int = 0
    wire: list[tuple[float, int, int, bytes, bool]] = field(default_factory=list)
    heard: list[bytes | Gap] = field(default_factory=list)
    now: float = 10.003

    def send(self, count: int = 1, delay_ms: float = 0, *, marker: bool = False, payload: bytes | None = None) -> None:
        """The next packets, each leaving at its time."""
        for _ in range(count):
            leaves = self.start_s + self.sent * self.ptime_ms / 1000
            body = loud(self.sent, self.ptime_ms * 8) if payload is None else payload
            self.wire.append((leaves + delay_ms / 1000, self.sequence & 0xFFFF, self.timestamp, body, marker))
            self._step()

    def lose(self, count: int = 1) -> None:
        """The next packets are lost on the way."""
        for _ in range(count):
            self._step()

    def _step(self) -> None:
        self.sent += 1
        self.sequence += 1
        self.timestamp = (self.timestamp + self.ptime_ms * 8) & 0xFFFFFFFF

    def keep_silent(self, count: int) -> None:
        """Time passes with nothing sent: timestamps go on, sequence numbers do not (RFC 3551 §4.1)."""
        self.sent += count
        self.timestamp = (self.timestamp + count * self.ptime_ms * 8) & 0xFFFFFFFF

    @property
    def delay_ms(self) -> float:
        """The delay of the frame heard last."""
        delay_ms = self.buffer.delay_ms(self.now - 0.02)
        assert delay_ms is not None
        return delay_ms

    def listen(self, ticks: int) -> list[bytes | Gap]:
        """Ticks pass; what they gave."""
        self.wire.sort()
        heard = []
        for _ in range(ticks):
            while self.wire and self.wire[0][0] <= self.now:
                at, sequence, timestamp, payload, marker = self.wire.pop(0)
                self.buffer.put(sequence, timestamp, payload, at, marker=marker)
            heard.append(self.buffer.get(self.now))
            self.now += 0.02
        self.heard += heard
        return heard


def call(**settings: int) -> Caller:
    return Caller(JitterBuffer(), **settings)


def numbers(heard: list[bytes | Gap]) -> list[int | Gap]:
    """Which packets were heard."""
    return [each if isinstance(each, Gap) else each[0] for each in heard]


# --- the plain stream -----------------------------------------------------------------------------


def test_playing_begins_40_ms_after_the_first_packet_and_misses_nothing() -> None:
    caller = call()
    caller.send(50)
    heard = numbers(caller.listen(52))
    assert heard[:2] == [Gap.NOTHING] * 2
    assert heard[2:] == list(range(50))


def test_nothing_ever_put_gives_nothing_for_ever() -> None:
    buffer = JitterBuffer()
    assert [buffer.get(tick * 0.02) for tick in range(100)] == [Gap.NOTHING] * 100
    assert buffer.frames_concealed == 0
    assert buffer.delay_ms(2.0) is None


@pytest.mark.parametrize("ptime_ms", [10, 20, 30, 40, 50, 60])
def test_packets_of_any_time_come_out_as_the_same_bytes_in_20_ms_frames(ptime_ms: int) -> None:
    """RFC 3551 §4.2: any packet time."""
    caller, draw = call(ptime_ms=ptime_ms), random.Random(1)
    spoken = b""
    for _ in range(1200 // ptime_ms):
        payload = bytes([LOUD]) + draw.randbytes(ptime_ms * 8 - 1)
        spoken += payload
        caller.send(payload=payload)
    heard = [frame for frame in caller.listen(60) if isinstance(frame, bytes)]
    assert all(len(frame) == 160 for frame in heard)
    assert len(heard) > 50
    assert spoken.startswith(b"".join(heard))
    assert caller.buffer.frames_concealed == 0


@pytest.mark.parametrize(("ptime_ms", "frames"), [(10, {1}), (20, {1}), (30, {2}), (40, {2}), (60, {3})])
def test_a_lost_packet_costs_the_frames_it_lay_in_and_no_delay(ptime_ms: int, frames: set[int]) -> None:
    caller = call(ptime_ms=ptime_ms)
    caller.send(400 // ptime_ms)
    caller.lose()
    caller.send(800 // ptime_ms)
    caller.listen(10)
    before = caller.delay_ms
    caller.listen(30)
    assert caller.delay_ms == before
    assert caller.buffer.frames_concealed in frames
    assert caller.buffer.lost == 1


def test_sequence_and_timestamp_wrap_unnoticed() -> None:
    """RFC 3550 §5.1: both begin at random values."""
    caller = call(sequence=0xFFF0, timestamp=0xFFFFFFFF - 1600)
    caller.send(60)
    assert numbers(caller.listen(62))[2:] == list(range(60))
    buffer = caller.buffer
    assert (buffer.lost, buffer.duplicate, buffer.reordered, buffer.late, buffer.resets) == (0, 0, 0, 0, 0)


# --- what networks do -----------------------------------------------------------------------------


def test_each_lost_packet_is_one_concealed_frame() -> None:
    caller = call()
    caller.send(10)
    caller.lose()
    caller.send(5)
    caller.lose(2)
    caller.send(20)
    heard = numbers(caller.listen(38))
    assert [index - 2 for index, each in enumerate(heard) if each is Gap.LOST] == [10, 16, 17]
    assert (caller.buffer.lost, caller.buffer.late, caller.buffer.frames_concealed) == (3, 0, 3)


def test_packets_that_overtake_each_other_are_played_in_order() -> None:
    caller = call()
    for index in range(40):
        caller.send(delay_ms=30 if index % 5 == 3 else 0)
    assert numbers(caller.listen(42))[2:] == list(range(40))
    assert caller.buffer.reordered == 8
    assert caller.buffer.frames_concealed == 0


def test_duplicates_are_counted_and_heard_once() -> None:
    caller = call()
    caller.send(30)
    caller.wire += [(at + 0.001, *rest) for at, *rest in caller.wire]
    assert numbers(caller.listen(32))[2:] == list(range(30))
    assert (caller.buffer.duplicate, caller.buffer.received, caller.buffer.late) == (30, 30, 0)


def test_a_duplicate_of_a_frame_played_long_ago_is_no_late_packet() -> None:
    caller = call()
    caller.send(30)
    caller.wire += [(at + 0.5, *rest) for at, *rest in caller.wire[:3]]
    caller.listen(40)
    assert (caller.buffer.duplicate, caller.buffer.late) == (3, 0)


def test_a_single_packet_after_its_time_is_dropped_as_late() -> None:
    caller = call()
    caller.send(20)
    caller.send(delay_ms=75)
    caller.send(20)
    heard = numbers(caller.listen(43))
    assert heard[22] is Gap.LOST
    assert heard[23:] == list(range(21, 41))
    assert (caller.buffer.late, caller.buffer.lost) == (1, 0)


def test_speech_held_up_by_a_stall_of_the_network_is_heard_in_whole() -> None:
    """120 ms of packets at once after 120 ms of none: a pause, and no word lost."""
    caller = call()
    caller.send(50)
    for held in range(6):
        caller.send(delay_ms=120 - 20 * held)
    caller.send(60)
    heard = [each for each in numbers(caller.listen(130)) if isinstance(each, int)]
    assert caller.buffer.late == 0
    assert caller.buffer.overflowed == 0
    assert heard[:56] == list(range(56))


def test_the_delay_of_a_stall_is_worked_off_in_a_second_or_two() -> None:
    """Of 160 ms one stays above the target's 10 what loud speech is not cut for; the first pause takes that."""
    caller = call()
    caller.send(100)
    for held in range(8):
        caller.send(delay_ms=160 - 20 * held)
    caller.send(100)
    caller.send(20, payload=g711.silence(g711.PCMU))
    caller.listen(112)
    assert caller.delay_ms > 120
    caller.listen(80)
    assert caller.delay_ms < 80
    caller.listen(35)
    assert caller.delay_ms < 35
    assert caller.buffer.late == 0


def test_quiet_frames_are_merged_before_loud_ones() -> None:
    """The 40 ms of the start fall to what a still network needs as soon as nobody speaks."""
    caller = call()
    caller.send(100)
    caller.listen(100)
    assert caller.buffer.frames_merged == 0
    caller.send(20, payload=g711.silence(g711.PCMU))
    caller.listen(20)
    assert caller.buffer.frames_merged == 1
    assert caller.delay_ms < 30


def test_a_merged_frame_begins_as_the_first_and_ends_as_the_second() -> None:
    caller = call()
    first, second = b"\x7e" * 160, b"\xfa" * 160
    caller.send(60, payload=first)
    caller.send(60, payload=second)
    heard = [each for each in caller.listen(125) if isinstance(each, bytes)]
    merged = [each for each in heard if each not in (first, second)]
    assert all(each[:8] == first[:8] and each[-8:] == second[-8:] for each in merged)
    assert caller.buffer.frames_merged == 1
    assert len(heard) == 119


def test_delay_grows_with_the_jitter_and_shrinks_when_it_has_gone() -> None:
    caller, draw = call(), random.Random(5)
    caller.send(100)
    caller.listen(100)
    calm = caller.buffer.target_ms
    for _ in range(400):
        caller.send(delay_ms=draw.uniform(0, 80))
    caller.listen(400)
    assert calm == 10
    assert caller.buffer.target_ms >= 70
    assert caller.buffer.late < 12
    caller.send(500, payload=g711.silence(g711.PCMU))
    caller.listen(500)
    assert caller.buffer.target_ms == 10
    assert caller.delay_ms < 35


def test_delay_stays_below_its_bound_whatever_the_network_does() -> None:
    buffer, draw = JitterBuffer(max_ms=120), random.Random(6)
    caller = Caller(buffer)
    for _ in range(1500):
        caller.send(delay_ms=draw.choice((0, 50, 150, 300)))
    caller.listen(1500)
    assert buffer.target_ms <= 120
    assert len(buffer._packets) <= JitterBuffer.MAX_PACKETS


def test_a_second_held_up_and_delivered_at_once_leaves_no_second_of_delay() -> None:
    """What exceeds the bound is skipped, the oldest first; the rest is worked off."""
    caller = call()
    caller.send(50)
    for held in range(45):
        caller.send(delay_ms=900 - 20 * held)
    caller.send(300)
    caller.listen(105)
    assert caller.buffer.overflowed == 33
    assert numbers(caller.heard)[52 + 10 + 33 :] == [*range(83, 93)]
    assert caller.delay_ms < 260
    caller.listen(240)
    assert caller.delay_ms < 110


@pytest.mark.parametrize("parts_per_million", [-500, 500])
def test_a_senders_clock_that_drifts_costs_a_frame_now_and_then(parts_per_million: int) -> None:
    """500 ppm over two minutes are 60 ms: three frames inserted or merged, none lost."""
    buffer, quiet = JitterBuffer(), g711.silence(g711.PCMU)
    interval = 0.02 / (1 + parts_per_million / 1e6)
    sent = 0
    for tick in range(6000):
        now = 10.003 + tick * 0.02
        while 10 + sent * interval <= now:
            buffer.put(sent & 0xFFFF, sent * 160, quiet, 10 + sent * interval)
            sent += 1
        buffer.get(now)
    assert buffer.late == buffer.lost == buffer.resets == 0
    assert buffer.frames_concealed + buffer.frames_merged <= 6
    assert (buffer.delay_ms(now) or 999) < 50


# --- what senders do ------------------------------------------------------------------------------


def test_a_pause_of_the_sender_is_silence_and_no_loss() -> None:
    """RFC 3551 §4.1: silence suppression; the sequence goes on where it was, the timestamp has moved."""
    caller = call()
    caller.send(50)
    caller.keep_silent(100)
    caller.send(marker=True)
    caller.send(49)
    heard = numbers(caller.listen(202))
    spoken = [each for each in heard if isinstance(each, int)]
    assert spoken == [number % 100 for number in [*range(50), *range(150, 200)]]
    assert caller.buffer.lost == caller.buffer.late == 0
    assert caller.buffer.frames_concealed <= JitterBuffer.PATIENCE_FRAMES
    assert heard[100] is Gap.NOTHING


def test_a_talkspurt_after_a_short_pause_is_not_concealed_into() -> None:
    """The gap is in the timestamps alone: nothing was lost, so silence fills it, once that is known."""
    caller = call()
    for _ in range(20):
        caller.send(10)
        caller.keep_silent(3)
    caller.listen(270)
    assert caller.buffer.frames_played == 200
    assert caller.buffer.frames_concealed < 60
    assert caller.buffer.late == 0


def test_digits_in_place_of_audio_are_no_loss() -> None:
    """RFC 4733 §2.5: events take sequence numbers of the same stream."""
    caller = call()
    caller.send(30)
    caller.send(12, payload=b"")
    caller.send(30)
    heard = numbers(caller.listen(74))
    assert [each for each in heard if isinstance(each, int)] == [*range(30), *range(42, 72)]
    assert (caller.buffer.lost, caller.buffer.received) == (0, 72)
    assert heard[32:44] == [Gap.NOTHING] * 12
    assert caller.buffer.frames_concealed == 0


@pytest.mark.parametrize("lost", range(12))
def test_a_packet_lost_around_a_digit_is_one_concealed_frame(lost: int) -> None:
    """The audio's last, any of the digit's ten, or the audio's first after it."""
    caller = call()
    caller.send(30)
    for number in range(12):
        if number == lost:
            caller.lose()
        else:
            caller.send(payload=b"" if 1 <= number <= 10 else None)
    caller.send(30)
    caller.listen(74)
    assert caller.buffer.lost == 1
    assert caller.buffer.frames_concealed <= 1
    assert caller.buffer.frames_played >= 61


def test_another_ssrc_begins_a_timeline_of_its_own() -> None:
    """RFC 3550 §8: its sequence and timestamps are unrelated."""
    caller = call()
    caller.send(30)
    caller.listen(30)
    caller.buffer.restart()
    caller.sequence, caller.timestamp = 51234, 3_000_000_000
    caller.send(30)
    caller.listen(35)
    assert [each for each in numbers(caller.heard) if isinstance(each, int)][-30:] == list(range(30, 60))
    assert caller.buffer.lost == 0
    assert caller.buffer.resets == 1


@pytest.mark.parametrize("jump_ms", [-900_000, -5000, -700, 450, 3000, 900_000])
@pytest.mark.parametrize("marker", [False, True])
def test_a_jump_of_the_senders_timestamps_costs_a_few_frames(jump_ms: int, marker: bool) -> None:
    """Carriers splice streams without a new SSRC; the sequence goes on, the timestamp does not."""
    caller = call()
    caller.send(100)
    caller.listen(100)
    caller.timestamp = (caller.timestamp + jump_ms * 8) & 0xFFFFFFFF
    caller.send(marker=marker)
    caller.send(99)
    caller.listen(103)
    after = [each for each in numbers(caller.heard[100:]) if isinstance(each, int)]
    assert len(after) >= 94
    assert after[-50:] == list(range(50, 100))
    assert caller.delay_ms < 90


def test_a_clock_that_stands_still_on_hold_begins_anew_where_it_stopped() -> None:
    """Some phones freeze the timestamp while they send nothing."""
    caller = call()
    caller.send(100)
    caller.listen(100)
    caller.start_s += 0.7
    caller.send(100)
    caller.listen(140)
    assert caller.buffer.late <= 2
    assert caller.delay_ms < 110
    assert [each for each in numbers(caller.heard[100:]) if isinstance(each, int)][-90:] == list(range(10, 100))


def test_one_packet_with_a_wild_timestamp_disturbs_nothing() -> None:
    caller = call()
    caller.send(50)
    at, sequence, timestamp, payload, marker = caller.wire[25]
    caller.wire[25] = (at, sequence, timestamp + 1_000_000, payload, marker)
    heard = numbers(caller.listen(52))[2:]
    assert [each for each in heard if each is not Gap.LOST] == [*range(25), *range(26, 50)]
    assert caller.buffer.resets == 0


def test_one_packet_with_a_wild_sequence_number_is_not_heard_and_not_counted() -> None:
    """RFC 3550 §A.1: a far jump is believed when a second packet confirms it."""
    caller = call()
    caller.send(50)
    at, _, timestamp, payload, marker = caller.wire[25]
    caller.wire[25] = (at, 40000, timestamp, payload, marker)
    caller.listen(52)
    assert (caller.buffer.frames_played, caller.buffer.lost) == (49, 1)


def test_a_restarted_sequence_is_followed() -> None:
    """RFC 3550 §A.1: two in sequence far from the last."""
    caller = call()
    caller.send(50)
    caller.sequence = 30000
    caller.send(50)
    caller.listen(103)
    assert caller.buffer.frames_played >= 98
    assert caller.buffer.lost == 0


# --- bounds ---------------------------------------------------------------------------------------


def test_a_payload_longer_than_any_packet_time_is_refused() -> None:
    buffer = JitterBuffer()
    buffer.put(1, 0, bytes(1601), 1.0)
    assert (buffer.refused, buffer.received) == (1, 0)


def test_settings_out_of_order_are_refused() -> None:
    for settings in ({"min_ms": 50}, {"max_ms": 30}, {"min_ms": 0}, {"max_ms": 5000}):
        with pytest.raises(ValueError, match="min_ms"):
            JitterBuffer(**settings)


@pytest.mark.parametrize("seed", range(8))
def test_arbitrary_packets_never_raise_never_pile_up_and_give_only_frames(seed: int) -> None:
    draw = random.Random(seed)
    buffer = JitterBuffer(draw.choice((g711.PCMU, g711.PCMA)))
    sequence = timestamp = 0
    for tick in range(3000):
        for _ in range(draw.randrange(4)):
            if draw.random() < 0.05:
                sequence, timestamp = draw.getrandbits(16), draw.getrandbits(32)
            length = draw.choice((0, 1, 7, 80, 160, 160, 160, 240, 480, 1600, 1601))
            buffer.put(sequence, timestamp, bytes(length), tick * 0.02, marker=draw.random() < 0.1)
            sequence = (sequence + draw.choice((0, 1, 1, 1, 2, 5, -3))) & 0xFFFF
            timestamp = (timestamp + draw.choice((0, 1, 79, 160, 160, 160, 1000, -320))) & 0xFFFFFFFF
        got = buffer.get(tick * 0.02)
        assert isinstance(got, Gap) or len(got) == 160
        assert len(buffer._packets) <= JitterBuffer.MAX_PACKETS
        assert len(buffer._soundless) <= JitterBuffer.MEMORY
        assert buffer._seen.bit_length() <= JitterBuffer.MEMORY


# --- recorded traces ------------------------------------------------------------------------------

WORST = {
    # late [%], delay [ms], concealed beyond the network's own loss [%]
    "lan": (0, 30, 0.1),
    "drift": (0.1, 40, 0.2),
    "loss": (0.1, 30, 0.2),
    "jitter": (0.1, 50, 0.2),
    "ptime30": (0.1, 50, 0.2),
    "bursts": (0.6, 65, 3.5),
    "wifi": (0.2, 65, 4.0),
}


@pytest.mark.parametrize("name", replay.NAMES)
def test_recorded_traces_are_played_within_these_bounds(name: str) -> None:
    trace, outcome = replay.load(name), replay.replayed(name)
    late, delay_ms, concealed = WORST[name]
    lost = 100 - 100 * len(trace.arrivals) / trace.sent
    assert outcome.late <= late
    assert outcome.delay_ms <= delay_ms
    assert outcome.concealed <= lost + concealed


@pytest.mark.parametrize("name", ["bursts", "wifi"])
def test_no_fixed_depth_of_the_same_delay_drops_so_little(name: str) -> None:
    ours = replay.replayed(name)
    alike = replay.fixed(name, ours.delay_ms)
    assert ours.late < alike.late / 3


def test_the_reference_page_is_what_the_traces_give() -> None:
    """``python -m tests.media.data.replay > docs/reference/jitter.md`` makes it anew."""
    page = Path(__file__).parents[2] / "docs" / "reference" / "jitter.md"
    assert page.read_text() == replay.page()


class _Tape:
    """A decoder that remembers in what order it was asked: a payload is its number, a frame is full of it."""

    def __init__(self, units: int = 160) -> None:
        self._units = units
        self.read: list[int] = []

    def units(self, payload: bytes) -> int:
        return self._units

    def decode(self, payload: bytes) -> bytes:
        self.read.append(payload[0])
        return payload * 4 * self._units


def _wide(tape: _Tape) -> Reader:
    reader = Reader("G722", "L16/16000")
    reader.decoder = tape
    return reader


def _hear_wide(buffer: JitterBuffer, reader: Reader, order: list[int], step: int, frames: int) -> list[bytes | Gap]:
    heard = []
    for index in range(frames):
        now = 1 + index * 0.02
        if index * 160 % step == 0 and order:
            number = order.pop(0)
            coded = reader.packet(bytes((number,)))
            assert coded is not None
            buffer.put(number, number * step, coded, now)
        heard.append(buffer.get(now + 0.001))
    return heard


def test_coded_packets_are_decoded_in_the_order_of_the_stream_and_give_whole_frames() -> None:
    """However they arrive: a decoder has a memory."""
    tape = _Tape()
    order = [0, 1, 3, 2, 4, 5, 7, 6, *range(8, 20)]
    heard = _hear_wide(JitterBuffer("L16/16000"), _wide(tape), order, 160, 30)
    frames = [frame for frame in heard if isinstance(frame, bytes)]
    assert tape.read == list(range(20))
    assert frames == [bytes((number,)) * 640 for number in range(20)]


@pytest.mark.parametrize("units", [480, 320, 80])
def test_coded_packets_of_any_length_come_out_in_20_ms_frames(units: int) -> None:
    tape, buffer = _Tape(units), JitterBuffer("L16/16000")
    reader = _wide(tape)
    heard = []
    for index in range(200):
        now = 1 + index * 0.01
        if index * 80 % units == 0 and len(tape.read) < 12:
            number = index * 80 // units
            if number < 12:
                buffer.put(number, number * units, reader.packet(bytes((number,))) or b"", now)
        if index % 2 == 0:
            heard.append(buffer.get(now + 0.001))
    audio = b"".join(frame for frame in heard if isinstance(frame, bytes))
    whole = len(audio) // 640
    assert audio == b"".join(bytes((number,)) * 4 * units for number in range(12))[: whole * 640]
    assert whole >= 12 * units // 160 - 1


def test_what_follows_a_lost_coded_packet_is_there_to_tell_of_it() -> None:
    """Opus' redundancy: the packet after the one lost says what was in it."""
    tape, buffer = _Tape(), JitterBuffer("L16/16000")
    reader, following = _wide(tape), []
    for index in range(20):
        now = 1 + index * 0.02
        if index not in (5, 6) and index < 12:
            buffer.put(index, index * 160, reader.packet(bytes((index,))) or b"", now)
        if buffer.get(now + 0.001) is Gap.LOST:
            following.append(buffer.following())
    assert following[:2] == [None, b"\x07"]


def test_a_surplus_of_wide_frames_is_merged_too() -> None:
    buffer, reader = JitterBuffer("L16/16000", initial_ms=40, min_ms=10), _wide(_Tape())
    reader.decoder = type("Quiet", (), {"units": lambda _, p: 160, "decode": lambda _, p: bytes(640)})()
    for index in range(150):
        now = 1 + index * 0.02
        late = 0.12 if index < 20 else 0.0
        buffer.put(index, index * 160, reader.packet(b"x") or b"", now + late)
        frame = buffer.get(now + late + 0.001)
        assert not isinstance(frame, bytes) or len(frame) == 640
    assert buffer.frames_merged > 0
