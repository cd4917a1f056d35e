"""Digits in RTP (RFC 4733), received over bad networks and sent by the book."""

from __future__ import annotations

import random
import struct

import pytest

from media.telephone_event import DIGITS, DigitEvent, Receiver, Sender

FRAME = 160


def event(digit: str, duration: int, *, end: bool = False, volume: int = 10) -> bytes:
    return struct.pack("!BBH", DIGITS.index(digit), (0x80 if end else 0) | volume, duration)


def pressed(digit: str, at: int, frames: int = 5) -> list[tuple[bytes, int]]:
    """A whole digit as senders send it: updates every 20 ms, the end three times."""
    updates = [(event(digit, FRAME * count), at) for count in range(1, frames)]
    return updates + [(event(digit, FRAME * frames, end=True), at)] * 3


def receive(receiver: Receiver, packets: list[tuple[bytes, int]], start_s: float = 1.0) -> list[DigitEvent]:
    digits: list[DigitEvent] = []
    for index, (payload, timestamp) in enumerate(packets):
        digits += receiver.put(payload, timestamp, start_s + index * 0.02)
    return digits


def dialled(digits: list[DigitEvent]) -> str:
    return "".join(digit.digit for digit in digits)


# --- receiving ------------------------------------------------------------------------------------


def test_a_digit_is_reported_once_at_its_first_end_packet() -> None:
    """RFC 4733 §2.5.1.4: the end comes three times."""
    receiver = Receiver()
    packets = pressed("5", 8000)
    assert receive(receiver, packets[:4]) == []
    assert receive(receiver, packets[4:]) == [DigitEvent("5", 100, 8000)]
    assert receiver.received == 1


def test_every_digit_is_known() -> None:
    receiver = Receiver()
    packets = [packet for index, digit in enumerate(DIGITS) for packet in pressed(digit, 8000 + index * 2400)]
    assert dialled(receive(receiver, packets)) == "0123456789*#ABCD"


def test_the_same_digit_twice_is_two_digits() -> None:
    """§2.5.1.2: the timestamp makes them two, whatever the gap."""
    assert dialled(receive(Receiver(), pressed("7", 8000) + pressed("7", 8000 + 6 * FRAME))) == "77"


@pytest.mark.parametrize("lost", range(7))
def test_any_one_packet_may_be_lost(lost: int) -> None:
    packets = pressed("3", 8000)
    del packets[lost]
    assert dialled(receive(Receiver(), packets)) == "3"


def test_any_one_packet_is_enough() -> None:
    """Even a lone update: its end packets were lost, so it ends when it has not been heard of for a while."""
    for packet in pressed("3", 8000):
        receiver = Receiver()
        digits = [*receiver.put(*packet, 1.0), *receiver.expire(1.3)]
        assert dialled(digits) == "3"


def test_without_end_packets_the_next_digit_ends_it() -> None:
    receiver = Receiver()
    packets = pressed("1", 8000)[:4] + pressed("2", 10000)
    assert receive(receiver, packets) == [DigitEvent("1", 80, 8000), DigitEvent("2", 100, 10000)]


def test_two_digits_can_end_in_one_packet() -> None:
    """The first lost its ends, the second all but one of them."""
    receiver = Receiver()
    receiver.put(event("1", 480), 8000, 1.0)
    assert dialled(list(receiver.put(event("2", 800, end=True), 10000, 1.1))) == "12"


def test_without_end_packets_silence_ends_it_and_stragglers_do_not_repeat_it() -> None:
    receiver = Receiver()
    packets = pressed("9", 8000)
    assert receive(receiver, packets[:4]) == []
    assert receiver.expire(1.2) == ()
    assert dialled(list(receiver.expire(1.3))) == "9"
    assert receiver.expire(9.0) == ()
    assert receive(receiver, packets[4:], 1.31) == []


def test_reordered_and_repeated_packets_change_nothing() -> None:
    draw = random.Random(2)
    for _ in range(50):
        packets = []
        for digit in (pressed("4", 8000), pressed("6", 12000)):
            twice = digit + draw.sample(digit, 3)
            packets += draw.sample(twice, len(twice))
        digits = receive(Receiver(), packets)
        assert dialled(digits) == "46"


def test_a_straggler_of_the_digit_before_is_not_a_digit() -> None:
    receiver = Receiver()
    first, second = pressed("4", 8000), pressed("6", 12000)
    digits = receive(receiver, first[:-1] + second[:3] + first[-1:] + second[3:])
    assert dialled(digits) == "46"


def test_a_long_digit_in_several_segments_is_one() -> None:
    """§2.5.1.3: the duration is 16 bits; at 8.19 s a new segment begins where it ran out, without an end."""
    packets = [(event("0", duration), 8000) for duration in range(160, 0xFFFF, 1600)] + [(event("0", 0xFFFF), 8000)]
    second = 8000 + 0xFFFF
    packets += [(event("0", duration), second) for duration in range(160, 8000, 160)]
    packets += [(event("0", 8000, end=True), second)] * 3
    receiver = Receiver()
    assert receive(receiver, packets) == [DigitEvent("0", (0xFFFF + 8000) // 8, 8000)]


def test_a_digit_over_the_wrap_of_the_timestamp() -> None:
    packets = pressed("8", 0xFFFFFF00) + pressed("2", (0xFFFFFF00 + 4000) & 0xFFFFFFFF)
    assert dialled(receive(Receiver(), packets)) == "82"


def test_a_jump_of_the_senders_clock_backwards_does_not_swallow_digits() -> None:
    """Five seconds back or more is no straggler."""
    packets = pressed("1", 4_000_000) + pressed("2", 1_000_000)
    assert dialled(receive(Receiver(), packets)) == "12"


def test_another_ssrc_begins_anew() -> None:
    receiver = Receiver()
    receive(receiver, pressed("1", 8000))
    receiver.reset()
    assert dialled(receive(receiver, pressed("1", 8000))) == "1"


@pytest.mark.parametrize("payload", [b"", b"\x05", b"\x05\x8a\x03", b"\x10\x8a\x03\x20", b"\xff\x8a\x03\x20"])
def test_malformed_payloads_and_other_events_are_no_digits(payload: bytes) -> None:
    """Flash (16) and line events (32 and up) are not dialled."""
    assert Receiver().put(payload, 8000, 1.0) == ()


def test_a_longer_payload_counts_by_its_first_event() -> None:
    assert dialled(list(Receiver().put(event("5", 800, end=True) + b"more", 8000, 1.0))) == "5"


def test_arbitrary_payloads_raise_nothing_and_every_digit_is_one() -> None:
    draw, receiver, reported = random.Random(3), Receiver(), 0
    for tick in range(5000):
        for digit in receiver.put(draw.randbytes(draw.randrange(6)), draw.randrange(20) * 1000, tick * 0.02):
            assert digit.digit in DIGITS
            assert digit.duration_ms >= 0
            reported += 1
        reported += len(receiver.expire(tick * 0.02))
    assert receiver.received == reported


# --- sending --------------------------------------------------------------------------------------


def send(sender: Sender, frames: int, start: int = 8000) -> list[tuple[int, int, bool, int, int, bool] | None]:
    """(frame, timestamp, marker, code, duration, end) of each frame's packet."""
    rows: list[tuple[int, int, bool, int, int, bool] | None] = []
    for frame in range(frames):
        packet = sender.next((start + frame * FRAME) & 0xFFFFFFFF)
        if packet is None:
            rows.append(None)
            continue
        code, flags, duration = struct.unpack("!BBH", packet.payload)
        rows.append((frame, packet.timestamp, packet.marker, code, duration, bool(flags & 0x80)))
    return rows


def test_a_digit_goes_out_as_the_rfc_says() -> None:
    """§2.5.1: marker on the first, duration growing, one timestamp, three end packets at the same interval."""
    sender = Sender(duration_ms=80, gap_ms=80)
    sender.queue("5")
    assert send(sender, 8) == [
        (0, 8000, True, 5, 160, False),
        (1, 8000, False, 5, 320, False),
        (2, 8000, False, 5, 480, False),
        (3, 8000, False, 5, 640, True),
        (4, 8000, False, 5, 640, True),
        (5, 8000, False, 5, 640, True),
        None,
        None,
    ]
    assert (sender.sent, len(sender.waiting), sender.sending) == (1, 0, False)


def test_between_two_digits_there_is_the_gap_and_the_second_has_its_own_time() -> None:
    sender = Sender(duration_ms=40, gap_ms=100)
    sender.queue("1#")
    rows = send(sender, 16)
    starts = [row for row in rows if row is not None and row[2]]
    assert [(row[1], row[3]) for row in starts] == [(8000, 1), (8000 + 7 * FRAME, 11)]


def test_w_pauses_half_a_second() -> None:
    sender = Sender(duration_ms=40, gap_ms=40)
    sender.queue("w1W2")
    rows = send(sender, 80)
    starts = [row[0] for row in rows if row is not None and row[2]]
    assert starts == [25, 25 + 4 + 25]


def test_while_digits_wait_audio_has_every_frame_that_is_not_theirs() -> None:
    sender = Sender(duration_ms=160, gap_ms=80)
    sender.queue("12")
    rows = send(sender, 40)
    assert sum(row is not None for row in rows) == 2 * (8 + 2)


def test_lower_case_is_taken_and_what_is_no_digit_queues_nothing() -> None:
    sender = Sender()
    sender.queue("abcd")
    assert len(sender.waiting) == 4
    for digits in ("12x", " ", "E", "+1"):
        with pytest.raises(ValueError, match="no digit"):
            sender.queue(digits)
    assert len(sender.waiting) == 4


@pytest.mark.parametrize("settings", [{"duration_ms": 39}, {"duration_ms": 8001}, {"gap_ms": 39}, {"volume_dbm0": 1}])
def test_what_no_receiver_could_follow_is_refused(settings: dict[str, int]) -> None:
    """§2.5.1.3: up to 8 s no segments are needed."""
    with pytest.raises(ValueError, match="duration_ms"):
        Sender(**settings)


@pytest.mark.parametrize("duration_ms", [40, 100, 160, 8000])
def test_what_the_sender_sends_the_receiver_reports(duration_ms: int) -> None:
    sender, receiver = Sender(duration_ms=duration_ms), Receiver()
    sender.queue(DIGITS)
    digits: list[DigitEvent] = []
    timestamp = 0xFFFF0000
    for tick in range(16 * (duration_ms // 20 + 10)):
        packet = sender.next(timestamp)
        if packet is not None:
            digits += receiver.put(packet.payload, packet.timestamp, tick * 0.02)
        timestamp = (timestamp + FRAME) & 0xFFFFFFFF
    assert dialled(digits) == DIGITS
    assert {digit.duration_ms for digit in digits} == {duration_ms}


@pytest.mark.parametrize("seed", range(10))
def test_twelve_digits_over_20_percent_loss_all_arrive(seed: int) -> None:
    """Each is up to ten packets; losing all of one has odds of 1 in ten million."""
    sender, receiver, draw = Sender(), Receiver(), random.Random(seed)
    sender.queue("123456789*0#")
    digits: list[DigitEvent] = []
    for tick in range(400):
        packet = sender.next(tick * FRAME)
        if packet is not None and draw.random() > 0.2:
            digits += receiver.put(packet.payload, packet.timestamp, tick * 0.02)
        digits += receiver.expire(tick * 0.02)
    assert dialled(digits) == "123456789*0#"


def test_more_digits_than_can_wait_are_refused_whole() -> None:
    """An agent that dials without end fills no memory."""
    sender = Sender()
    sender.queue("1" * Sender.LIMIT)
    with pytest.raises(ValueError, match="wait already"):
        sender.queue("2")
    assert len(sender.waiting) == Sender.LIMIT
