"""A leg's statistics: over all its sources, in the units control is told."""

from __future__ import annotations

import pytest

from media import g711
from media.jitter import JitterBuffer
from media.mos import mos, r_factor
from media.rtcp import ReceiverReport, ReportBlock, Reporter
from media.statistics import Reception, leg_statistics


def feed(reception: Reception, sequences: range, lost: set[int]) -> None:
    for each in sequences:
        if each not in lost:
            reception.tracker.update(each, each * 160, each * 0.02 + (0.01 if each % 2 else 0))


def test_a_new_source_loses_no_count() -> None:
    """RFC 3550 §8: the sequence of another SSRC is unrelated."""
    reception = Reception()
    feed(reception, range(100), {5, 6})
    first = reception.tracker
    assert reception.new_source() is not first
    feed(reception, range(5000, 5050), {5010})
    assert (reception.received, reception.lost) == (98 + 49, 3)


def test_a_restart_within_a_source_loses_no_count() -> None:
    reception = Reception()
    feed(reception, range(100), {5, 6})
    feed(reception, range(40000, 40050), {40010})
    assert (reception.received, reception.lost) == (98 + 48, 3)


def test_nothing_received_is_nothing_known() -> None:
    statistics = leg_statistics(
        codec=None,
        remote=None,
        packets_sent=0,
        packets_refused=0,
        srtp=None,
        packets_unauthentic=0,
        loss_runs=0,
        digits_received=0,
        digits_sent=0,
        reception=Reception(),
        jitter=JitterBuffer(),
        reporter=Reporter(1, "x", 0.0, b"\0\0\0\0"),
        now=1.0,
    )
    assert statistics.packets_received == statistics.packets_lost == 0
    assert statistics.jitter_ms is statistics.jitter_buffer_ms is statistics.round_trip_ms is None
    assert statistics.remote_fraction_lost is statistics.remote_jitter_ms is None
    assert statistics.r_factor is statistics.mos is statistics.srtp is None


def test_all_counts_arrive_under_their_names() -> None:
    reception, jitter = Reception(), JitterBuffer()
    reporter = Reporter(1, "x", 0.0, b"\0\0\0\0")
    feed(reception, range(100), {50})
    for each in range(100):
        if each != 50:
            jitter.put(each, each * 160, g711.silence(g711.PCMU), each * 0.02)
        jitter.get(each * 0.02 + 0.001)
    reporter.receive((ReceiverReport(2, (ReportBlock(1, 64, 0, 0, 80, int(9.0 * 65536), 32768),)),), 9.75)
    statistics = leg_statistics(
        codec="PCMU",
        remote="8.8.4.4:4000",
        packets_sent=123,
        packets_refused=4,
        srtp="AES_CM_128_HMAC_SHA1_80",
        packets_unauthentic=7,
        loss_runs=1,
        digits_received=5,
        digits_sent=6,
        reception=reception,
        jitter=jitter,
        reporter=reporter,
        now=99 * 0.02 + 0.001,
    )
    assert (statistics.codec, statistics.remote) == ("PCMU", "8.8.4.4:4000")
    assert (statistics.packets_sent, statistics.packets_refused) == (123, 4)
    assert (statistics.packets_received, statistics.packets_lost, statistics.packets_late) == (99, 1, 0)
    assert (statistics.frames_concealed, statistics.frames_played) == (1, jitter.frames_played)
    assert statistics.jitter_ms == pytest.approx(10, abs=0.5)
    assert statistics.jitter_buffer_ms is not None
    assert 10 <= statistics.jitter_buffer_ms <= 35
    assert statistics.round_trip_ms == pytest.approx(250)
    assert statistics.remote_fraction_lost == 0.25
    assert statistics.remote_jitter_ms == 10
    assert (statistics.digits_received, statistics.digits_sent) == (5, 6)
    assert (statistics.srtp, statistics.packets_unauthentic) == ("AES_CM_128_HMAC_SHA1_80", 7)
    share = 1 / (1 + jitter.frames_played)
    wanted = r_factor("PCMU", delay_ms=20 + statistics.jitter_buffer_ms + 125, share=share)
    assert statistics.r_factor == pytest.approx(wanted, abs=0.06)
    assert statistics.mos == pytest.approx(mos(wanted), abs=0.006)
