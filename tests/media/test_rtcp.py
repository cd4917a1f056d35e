"""RTCP: compound packets (RFC 3550 §6, §A.2), reports and the round trip."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.rtcp import (
    Goodbye,
    ReceiverReport,
    ReportBlock,
    Reporter,
    SenderInfo,
    SenderReport,
    SourceDescription,
    build,
    interval_s,
    parse,
    round_trip_s,
)
from media.rtp import SequenceTracker

WORD = st.integers(0, 2**32 - 1)
BLOCK = st.builds(
    ReportBlock,
    ssrc=WORD,
    fraction_lost=st.integers(0, 255),
    cumulative_lost=st.integers(-(2**23), 2**23 - 1),
    extended_highest=WORD,
    jitter=WORD,
    last_report=WORD,
    delay=WORD,
)
BLOCKS = st.lists(BLOCK, max_size=3).map(tuple)
SENDER = st.builds(SenderInfo, ntp=st.integers(0, 2**64 - 1), rtp_timestamp=WORD, packets=WORD, octets=WORD)
REPORT = st.one_of(
    st.builds(SenderReport, ssrc=WORD, sender=SENDER, blocks=BLOCKS),
    st.builds(ReceiverReport, ssrc=WORD, blocks=BLOCKS),
)
NAMES = st.builds(SourceDescription, st.lists(st.tuples(WORD, st.text(max_size=20)), max_size=3).map(tuple))
BYE = st.builds(Goodbye, st.lists(WORD, max_size=3).map(tuple), st.text(max_size=20))

BLOCK_ONE = ReportBlock(1, 64, -3, 70000, 12, 0, 0)
PLAIN = build(ReceiverReport(7, (BLOCK_ONE,)), SourceDescription(((7, "me@here"),)))


# --- packets --------------------------------------------------------------------------------------


@settings(max_examples=400)
@given(REPORT, st.lists(st.one_of(REPORT, NAMES, BYE), max_size=3))
def test_what_is_built_parses_to_the_same(first: SenderReport | ReceiverReport, others: list[Goodbye]) -> None:
    data = build(first, *others)
    assert len(data) % 4 == 0
    assert parse(data) == (first, *others)


def test_a_compound_written_out_by_hand_is_read() -> None:
    """§6.4.1, §6.5: SR with one block, and SDES whose items are CNAME, TOOL and NAME."""
    data = bytes.fromhex(
        "81c8000c 2f3a6c11 e4d5f0a1 9c28f5c2 0001f4a0 00000064 00003e80"
        "11223344 00000000 0000a1b2 00000007 f0a13c29 00008000"
        "81ca0008 2f3a6c11 0109 61737465726973 6b31 0604 74657374 0207 556e6b6e6f776e 0000"
    )
    packets = parse(data)
    assert packets is not None
    report, names = packets
    assert isinstance(report, SenderReport)
    assert (report.sender.packets, report.sender.octets) == (100, 16000)
    assert report.blocks[0].extended_highest == 0xA1B2
    assert names == SourceDescription(((0x2F3A6C11, "asterisk1"),))


def test_a_negative_cumulative_loss_is_24_bits_signed() -> None:
    """§6.4.1: duplicates."""
    packets = parse(PLAIN)
    assert packets is not None
    assert packets[0] == ReceiverReport(7, (BLOCK_ONE,))


def test_a_loss_beyond_24_bits_is_clamped() -> None:
    packets = parse(build(ReceiverReport(7, (ReportBlock(1, 0, 2**30, 0, 0, 0, 0),))))
    assert packets is not None
    assert isinstance(packets[0], ReceiverReport)
    assert packets[0].blocks[0].cumulative_lost == 2**23 - 1


def test_unknown_packets_are_skipped() -> None:
    """§6.1: APP, feedback (RFC 4585) and extended reports (RFC 3611) are no error."""
    extended = struct.pack("!BBHI", 0x80, 207, 2, 7) + bytes(4)
    packets = parse(PLAIN + extended + struct.pack("!BBHI", 0x81, 206, 1, 7))
    assert packets is not None
    assert len(packets) == 2


def test_padding_of_the_last_packet_is_cut_off() -> None:
    """§6.4.1."""
    padded = struct.pack("!BBHI", 0xA0, 203, 2, 7) + b"\0\0\0\x04"
    packets = parse(PLAIN + padded)
    assert packets is not None
    assert packets[-1] == Goodbye(())


def head(first: int, kind: int, words: int) -> bytes:
    return struct.pack("!BBH", first, kind, words)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        PLAIN[:4],
        PLAIN[:-1],
        PLAIN[:-4],
        PLAIN + b"\x80",
        PLAIN + b"\x80\xc9\x00\x01",
        head(0x80, 202, 1) + b"\0\0\0\x07",
        head(0x80, 203, 1) + b"\0\0\0\x07",
        head(0x40, 201, 1) + b"\0\0\0\x07",
        head(0x81, 201, 1) + b"\0\0\0\x07",
        head(0x9F, 201, 7) + bytes(28),
        head(0x80, 200, 5) + bytes(20),
        head(0x80, 201, 0) + bytes(4),
        head(0xA0, 201, 1) + b"\0\0\0\x04" + PLAIN,
        head(0xA0, 201, 1) + b"\0\0\0\x08",
        head(0xA0, 201, 2) + b"\0\0\0\x07\0\0\0\0",
        head(0xA0, 201, 2) + b"\0\0\0\x07\0\0\0\x03",
        PLAIN + head(0x81, 202, 1) + b"\0\0\0\x07",
        PLAIN + head(0x81, 202, 2) + b"\0\0\0\x07\x01\xffab",
        PLAIN + head(0x81, 202, 2) + b"\0\0\0\x07\x01\x02ab",
        PLAIN + head(0x82, 203, 1) + b"\0\0\0\x07",
        PLAIN + head(0x81, 203, 2) + b"\0\0\0\x07\x04abc",
        PLAIN * 30,
    ],
)
def test_what_is_not_valid_is_none_as_a_whole(data: bytes) -> None:
    """§A.2: the first is a report, versions and lengths add up, every item lies within its packet."""
    assert parse(data) is None


@settings(max_examples=1000)
@given(st.binary(max_size=120), st.integers(0, 31), st.sampled_from([200, 201, 202, 203, 204, 207]))
def test_arbitrary_datagrams_raise_nothing(data: bytes, count: int, kind: int) -> None:
    body = data + bytes(-len(data) % 4)
    parse(data)
    parse(PLAIN + data)
    parse(PLAIN + head(0x80 | count, kind, len(body) // 4) + body)
    parse(head(0x80 | count, kind, len(body) // 4) + body)


# --- timing ---------------------------------------------------------------------------------------


def test_reports_come_every_five_seconds_spread_by_a_half() -> None:
    """§6.3.1: 0.5 to 1.5 times 5 s, divided by e − 3/2; half of it before the first."""
    draws = [interval_s(random.Random(seed).randbytes(4)) for seed in range(500)]
    assert 2.05 <= min(draws) < 2.2
    assert 6.0 < max(draws) <= 6.16
    assert interval_s(b"\x80\0\0\0", initial=True) == pytest.approx(2.5 / 1.21828)


def test_the_round_trip_is_now_less_lsr_less_dlsr() -> None:
    """§6.4.1, with the figures of its figure 2: 6.125 s."""
    block = ReportBlock(1, 0, 0, 0, 0, last_report=0xB705_2000, delay=0x0005_4000)
    assert round_trip_s(block, 0xB710_8000 / 65536) == pytest.approx(6.125, abs=1e-4)


def test_without_lsr_there_is_no_round_trip() -> None:
    assert round_trip_s(ReportBlock(1, 0, 0, 0, 0, 0, 0), 100.0) is None


def test_a_delay_longer_than_the_trip_is_none_at_all() -> None:
    """The peer's clock for DLSR may be coarse."""
    block = ReportBlock(1, 0, 0, 0, 0, last_report=100 << 16, delay=int(1.001 * 65536))
    assert round_trip_s(block, 101.0) == 0.0


# --- a party --------------------------------------------------------------------------------------

MIDDLE = b"\x80\0\0\0"


def reporter(ssrc: int, now: float = 100.0) -> Reporter:
    return Reporter(ssrc, f"{ssrc}@edge", now, MIDDLE)


def read(data: bytes) -> tuple[object, ...]:
    packets = parse(data)
    assert packets is not None
    return packets


def test_reports_are_due_at_the_interval() -> None:
    ours = reporter(1)
    assert not ours.due(102.0)
    assert ours.due(102.06)
    ours.report(102.06, MIDDLE, None)
    assert not ours.due(106.1)
    assert ours.due(106.2)


def test_a_party_that_has_not_sent_gives_a_receiver_report_and_its_name() -> None:
    assert read(reporter(1).report(102.0, MIDDLE, None)) == (ReceiverReport(1), SourceDescription(((1, "1@edge"),)))


def test_a_party_that_has_sent_gives_a_sender_report_stamped_now() -> None:
    report, _ = read(reporter(1).report(102.5, MIDDLE, SenderInfo(0, 160, 10, 1600)))
    assert report == SenderReport(1, SenderInfo(int(102.5 * 2**32), 160, 10, 1600))


def test_two_parties_measure_their_round_trip_and_loss() -> None:
    """40 ms there, 30 ms back, one second in between."""
    ours, theirs = reporter(1), reporter(2)
    heard = SequenceTracker(probation=0)
    for sequence in range(100):
        if sequence % 10 != 5:
            heard.update(sequence, sequence * 160, sequence * 0.02)
    theirs.source = (1, heard)
    first = parse(ours.report(102.0, MIDDLE, SenderInfo(0, 0, 100, 16000)))
    assert first is not None
    theirs.receive(first, 102.04)
    second = parse(theirs.report(103.04, MIDDLE, None))
    assert second is not None
    ours.receive(second, 103.07)
    assert ours.round_trip_s == pytest.approx(0.07, abs=0.001)
    assert ours.remote_fraction_lost == pytest.approx(0.1, abs=0.01)
    assert ours.remote_jitter_ms is not None
    assert ours.remote_jitter_ms < 1


@pytest.mark.parametrize("ours_first", [True, False])
@pytest.mark.parametrize("draws", [(b"\0" * 4, b"\xff" * 4), (b"\xff" * 4, b"\xff" * 4), (b"\0" * 4, b"\0" * 4)])
def test_after_ten_seconds_both_know_the_round_trip_whatever_they_draw(
    draws: tuple[bytes, bytes], ours_first: bool
) -> None:
    """RFC 3550 §6.2: the first interval is halved, so that short calls know it too."""
    parties = [Reporter(number, f"{number}@edge", 0.0, draw) for number, draw in enumerate(draws, 1)]
    for party, peer in zip(parties, (2, 1), strict=True):
        tracker = SequenceTracker(probation=0)
        tracker.update(1, 160, 0.0)
        party.source = (peer, tracker)
    for tick in range(100):
        now = tick / 10
        for index in (0, 1) if ours_first else (1, 0):
            if parties[index].due(now):
                report = parse(parties[index].report(now, draws[index], SenderInfo(0, 0, tick + 1, 160)))
                assert report is not None
                parties[1 - index].receive(report, now + 0.02)
    assert all(party.round_trip_s == pytest.approx(0.04, abs=0.001) for party in parties)


def test_a_report_on_somebody_else_is_not_ours() -> None:
    ours = reporter(1)
    ours.receive((ReceiverReport(2, (ReportBlock(99, 128, 5, 0, 800, 1 << 16, 0),)),), 103.0)
    assert (ours.round_trip_s, ours.remote_fraction_lost, ours.remote_jitter_ms) == (None, None, None)


def test_an_absurd_round_trip_is_not_believed() -> None:
    """A forged LSR is all it takes."""
    ours = reporter(1)
    ours.receive((ReceiverReport(2, (ReportBlock(1, 0, 0, 0, 0, 1, 0),)),), 103.0)
    assert ours.round_trip_s is None


def test_a_source_on_probation_is_not_reported_on() -> None:
    """§A.1."""
    ours = reporter(1)
    ours.source = (2, SequenceTracker())
    assert read(ours.report(102.0, MIDDLE, None))[0] == ReceiverReport(1)


def test_goodbye_ends_only_the_source_it_names() -> None:
    """§6.6; the call itself ends by SIP alone."""
    ours = reporter(1)
    ours.source = (2, SequenceTracker(probation=0))
    ours.receive((Goodbye((3,)),), 103.0)
    assert not ours.ended
    ours.receive((Goodbye((3, 2)),), 103.0)
    assert ours.ended


def test_our_goodbye_is_a_compound_packet() -> None:
    """§6.1: a report first, always."""
    packets = read(reporter(1).goodbye(103.0, "the call is over"))
    assert packets == (ReceiverReport(1), SourceDescription(((1, "1@edge"),)), Goodbye((1,), "the call is over"))
