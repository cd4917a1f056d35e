"""RTP packets and the bookkeeping of a source (RFC 3550 §5.1, appendix A)."""

from __future__ import annotations

import random
import struct
import timeit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.rtp import RtpPacket, SequenceTracker, build, parse, sequence_delta, timestamp_delta

PLAIN = build(0, 1, 160, 0x11223344, b"\xff" * 160)


def header(first: int, second: int = 0) -> bytes:
    return bytes((first, second)) + struct.pack("!HII", 7, 160, 0x11223344)


# --- packets --------------------------------------------------------------------------------------


@given(
    st.integers(0, 63),
    st.integers(0, 0xFFFF),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.binary(),
    st.booleans(),
)
def test_what_is_built_parses_to_the_same(
    payload_type: int, sequence: int, timestamp: int, ssrc: int, payload: bytes, marker: bool
) -> None:
    packet = build(payload_type, sequence, timestamp, ssrc, payload, marker=marker)
    assert parse(packet) == RtpPacket(payload_type, marker, sequence, timestamp, ssrc, payload)


def test_csrcs_extension_and_padding_are_cut_off() -> None:
    """RFC 3550 §5.1, §5.3.1."""
    csrcs, extension = b"CSRCcsrc", struct.pack("!HH", 0xBEDE, 1) + b"ext!"
    packet = parse(header(0x80 | 0x20 | 0x10 | 2) + csrcs + extension + b"payload" + b"\0\0\x03")
    assert packet is not None
    assert packet.payload == b"payload"


def test_each_option_of_the_header_alone_is_cut_off() -> None:
    """A payload whose last byte is no padding stays whole."""
    extension = struct.pack("!HH", 0xBEDE, 1) + b"ext!"
    for data in (
        header(0x81) + b"CSRC" + b"load\x02",
        header(0x90) + extension + b"load\x02",
        header(0xA0) + b"load\x02" + b"\0\0\x03",
    ):
        packet = parse(data)
        assert packet is not None
        assert packet.payload == b"load\x02"


def test_options_may_leave_an_empty_payload() -> None:
    for data in (
        header(0x81) + b"CSRC",
        header(0x90) + struct.pack("!HH", 0, 0),
        header(0xA0) + b"\0\0\0\x04",
    ):
        packet = parse(data)
        assert packet is not None
        assert packet.payload == b""


def test_an_empty_payload_is_a_packet() -> None:
    """RFC 6263 §4.1: a keep-alive."""
    packet = parse(header(0x80))
    assert packet is not None
    assert packet.payload == b""


@pytest.mark.parametrize(
    "data",
    [
        b"",
        PLAIN[:11],
        header(0x00) + b"x" * 160,
        header(0x40) + b"x" * 160,
        header(0xC0) + b"x" * 160,
        header(0x81),
        header(0x8F) + b"x" * 59,
        header(0x90),
        header(0x90) + b"\0\0\0",
        header(0x90) + struct.pack("!HH", 0, 1) + b"abc",
        header(0x90) + struct.pack("!HH", 0, 0xFFFF) + b"abcd",
        header(0xA0),
        header(0xA0) + b"\0",
        header(0xA0) + b"abc\x05",
        header(0xB0) + struct.pack("!HH", 0, 1) + b"ext\x05",
        b"OPTIONS sip:x SIP/2.0\r\n\r\n",
    ],
)
def test_what_is_no_rtp_is_none(data: bytes) -> None:
    """RFC 3550 §A.1: version, lengths, padding."""
    assert parse(data) is None


@pytest.mark.parametrize("kind", range(192, 224))
def test_rtcp_on_the_rtp_port_is_none(kind: int) -> None:
    """RFC 5761 §4: these second bytes are RTCP's."""
    assert parse(header(0x80, kind) + b"x" * 20) is None


@settings(max_examples=1000)
@given(st.binary(max_size=80))
def test_arbitrary_datagrams_raise_nothing(data: bytes) -> None:
    for packet in (data, b"\x80" + data, b"\xbf" + data):
        parsed = parse(packet)
        assert parsed is None or len(parsed.payload) <= len(packet) - 12


def test_distances_wrap() -> None:
    assert sequence_delta(2, 0xFFFE) == 4
    assert sequence_delta(0xFFFE, 2) == -4
    assert sequence_delta(0x8000, 0) == -0x8000
    assert timestamp_delta(100, 0xFFFFFFFF) == 101
    assert timestamp_delta(0xFFFFFFFF, 100) == -101


@pytest.mark.realtime
def test_parsing_and_building_cost_next_to_nothing() -> None:
    """300 calls are 15,000 packets a second, each way."""
    parse_s = min(timeit.repeat(lambda: parse(PLAIN), number=5000, repeat=5)) / 5000
    build_s = min(timeit.repeat(lambda: build(0, 1, 2, 3, PLAIN), number=5000, repeat=5)) / 5000
    assert parse_s < 2e-6
    assert build_s < 2e-6


# --- a source -------------------------------------------------------------------------------------


def feed(tracker: SequenceTracker, *sequences: int) -> list[bool]:
    return [tracker.update(each & 0xFFFF, each * 160 & 0xFFFFFFFF, each * 0.02) for each in sequences]


def test_a_source_is_valid_after_two_packets_in_sequence() -> None:
    """RFC 3550 §A.1: MIN_SEQUENTIAL."""
    tracker = SequenceTracker()
    assert feed(tracker, 10, 12, 14, 15, 16) == [False, False, False, True, True]
    assert (tracker.valid, tracker.received, tracker.lost) == (True, 2, 0)


def test_without_probation_the_first_packet_counts() -> None:
    tracker = SequenceTracker(probation=0)
    assert feed(tracker, 0, 1, 2) == [True] * 3
    assert (tracker.received, tracker.expected, tracker.lost) == (3, 3, 0)


@pytest.mark.parametrize("first", [0, 1, 0xFFFE, 0xFFFF])
@pytest.mark.parametrize("probation", [0, 2])
def test_losses_are_counted_over_the_wrap(first: int, probation: int) -> None:
    """§A.3."""
    tracker = SequenceTracker(probation=probation)
    lost = {100, 101, 5000, 65600, 70000}
    feed(tracker, *(first + each for each in range(70010) if each not in lost))
    assert tracker.lost == len(lost)
    assert tracker.expected == 70010 - (1 if probation else 0)
    assert tracker.extended_highest & 0xFFFF == (first + 70009) & 0xFFFF
    assert tracker.total_lost == len(lost)


def test_reordered_packets_are_no_losses() -> None:
    tracker = SequenceTracker(probation=0)
    assert all(feed(tracker, 1, 2, 4, 3, 6, 5, 7))
    assert (tracker.received, tracker.lost) == (7, 0)


def test_duplicates_make_the_loss_negative_but_never_the_total() -> None:
    """§A.3: so the report says; a statistic of negative packets would not be understood."""
    tracker = SequenceTracker(probation=0)
    feed(tracker, 1, 2, 2, 2, 3)
    assert (tracker.lost, tracker.total_lost, tracker.take_fraction_lost()) == (-2, 0, 0)


def test_everything_lost_since_the_last_report_is_255_of_256() -> None:
    tracker = SequenceTracker(probation=0)
    feed(tracker, 0)
    tracker.take_fraction_lost()
    feed(tracker, 2000)
    assert tracker.take_fraction_lost() == 255


def test_a_source_that_never_sent_is_not_valid() -> None:
    assert not SequenceTracker(probation=0).valid
    assert SequenceTracker(probation=0).expected == 0


def test_one_packet_far_off_is_dropped_and_two_are_a_restart() -> None:
    """§A.1: MAX_DROPOUT and the bad sequence number."""
    tracker = SequenceTracker(probation=0)
    feed(tracker, *range(100))
    assert feed(tracker, 40000, 100) == [False, True]
    assert feed(tracker, 50000, 50001, 50002) == [False, True, True]
    assert (tracker.restarts, tracker.received, tracker.total_received) == (1, 2, 103)


def test_totals_outlive_a_restart() -> None:
    tracker = SequenceTracker(probation=0)
    feed(tracker, *(each for each in range(100) if each % 10 != 5))
    feed(tracker, 50000, 50001, 50003)
    assert (tracker.total_received, tracker.total_lost) == (92, 11)


def test_the_fraction_lost_is_of_the_time_since_the_last_report() -> None:
    """§A.3."""
    tracker = SequenceTracker(probation=0)
    feed(tracker, *(each for each in range(100) if each % 4 != 1))
    assert tracker.take_fraction_lost() == 64
    feed(tracker, *range(100, 200))
    assert tracker.take_fraction_lost() == 0
    assert tracker.take_fraction_lost() == 0


def test_an_even_stream_has_no_jitter() -> None:
    tracker = SequenceTracker(probation=0)
    feed(tracker, *range(200))
    assert tracker.jitter_ms < 0.2


def test_jitter_is_the_mean_deviation_of_the_spacing() -> None:
    """§A.8: packets alternately 0 and 10 ms late differ by 10 ms each from the even spacing."""
    tracker = SequenceTracker(probation=0)
    for each in range(400):
        tracker.update(each, each * 160, each * 0.02 + (0.01 if each % 2 else 0))
    assert tracker.jitter_ms == pytest.approx(10, abs=0.3)
    assert tracker.jitter_units == pytest.approx(80, abs=3)


def test_a_jitter_spike_fades_by_a_sixteenth_a_packet() -> None:
    tracker = SequenceTracker(probation=0)
    feed(tracker, 0, 1)
    tracker.update(2, 320, 0.04 + 0.16)
    assert tracker.jitter_ms == pytest.approx(10, abs=0.1)
    tracker.update(3, 480, 0.06 + 0.16)
    assert tracker.jitter_ms == pytest.approx(10 * 15 / 16, abs=0.1)


def test_jitter_survives_the_wrap_of_the_timestamp() -> None:
    tracker = SequenceTracker(probation=0)
    for each in range(50):
        tracker.update(each, (0xFFFFFF00 + each * 160) & 0xFFFFFFFF, 1000 + each * 0.02)
    assert tracker.jitter_ms < 0.2


def test_arbitrary_sequences_raise_nothing_and_report_in_range() -> None:
    draw, tracker = random.Random(4), SequenceTracker()
    for each in range(20000):
        tracker.update(draw.getrandbits(16) if draw.random() < 0.2 else each & 0xFFFF, draw.getrandbits(32), each / 50)
        if each % 100 == 0:
            assert 0 <= tracker.take_fraction_lost() <= 255
            assert 0 <= tracker.extended_highest < 2**32
            assert tracker.total_lost >= 0
