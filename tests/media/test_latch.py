"""Whose RTP is taken: learning, locking, moving, and refusing."""

from __future__ import annotations

import random

import pytest

from media.latch import Latch, Source, Verdict

PEER: Source = ("168.86.138.121", 12692)
PEER_RTCP: Source = ("168.86.138.121", 12693)
IN_RANGE: Source = ("168.86.140.9", 15000)
ALSO_IN_RANGE: Source = ("168.86.150.1", 17000)
STRANGER: Source = ("203.0.113.66", 4444)
RANGES = ("168.86.128.0/18",)
TAKEN, MOVED, REFUSED = Verdict.TAKEN, Verdict.MOVED, Verdict.REFUSED


def latch(networks: tuple[str, ...] = RANGES, symmetric: bool = True, signalled: Source = PEER) -> Latch:
    return Latch(signalled, (signalled[0], signalled[1] + 1), networks=networks, symmetric=symmetric, now=0.0)


def stream(
    under_test: Latch, source: Source, count: int, start_s: float, ssrc: int = 1, sequence: int = 100
) -> list[Verdict]:
    """``count`` packets in sequence, every 20 ms."""
    return [
        under_test.accept(source, ssrc, (sequence + index) & 0xFFFF, start_s + index * 0.02) for index in range(count)
    ]


# --- learning -------------------------------------------------------------------------------------


def test_the_signalled_address_is_locked_by_its_first_packet() -> None:
    under_test = latch()
    assert under_test.locked is None
    assert stream(under_test, PEER, 3, 0.0) == [MOVED, TAKEN, TAKEN]
    assert under_test.locked == under_test.destination == PEER


def test_another_address_within_the_ranges_is_learnt_after_two_packets_in_sequence() -> None:
    """RFC 3550 §A.1: valid packets, not any packets."""
    under_test = latch()
    assert stream(under_test, IN_RANGE, 3, 0.0) == [REFUSED, MOVED, TAKEN]
    assert under_test.destination == IN_RANGE
    assert under_test.refused == 1


def test_packets_out_of_sequence_do_not_end_the_probation() -> None:
    under_test = latch()
    assert [under_test.accept(IN_RANGE, 1, sequence, 0.1) for sequence in (5, 9, 5, 7)] == [REFUSED] * 4
    assert [under_test.accept(IN_RANGE, ssrc, 8, 0.1) for ssrc in (2, 3)] == [REFUSED] * 2
    assert under_test.locked is None


def test_an_address_outside_the_ranges_is_never_learnt() -> None:
    under_test = latch()
    assert set(stream(under_test, STRANGER, 500, 0.0)) == {REFUSED}
    assert under_test.destination == PEER


def test_the_probation_is_served_over_the_wrap_of_the_sequence() -> None:
    assert stream(latch(), IN_RANGE, 3, 0.0, sequence=0xFFFF) == [REFUSED, MOVED, TAKEN]


def test_without_symmetric_rtp_only_the_signalled_address_is_taken() -> None:
    under_test = latch(networks=(), symmetric=False)
    assert under_test.locked == PEER
    for other in (STRANGER, IN_RANGE, (PEER[0], PEER[1] + 2)):
        assert set(stream(under_test, other, 50, 0.0)) == {REFUSED}
    assert stream(under_test, PEER, 2, 1.0) == [MOVED, TAKEN]
    assert under_test.destination == PEER


def test_without_ranges_a_phone_behind_nat_is_learnt_though_its_sdp_is_private() -> None:
    under_test = latch(networks=(), signalled=("192.168.1.20", 4000))
    assert stream(under_test, STRANGER, 2, 0.0) == [REFUSED, MOVED]


def test_without_ranges_another_port_of_the_signalled_host_is_learnt() -> None:
    assert stream(latch(networks=()), (PEER[0], 50000), 2, 0.0) == [REFUSED, MOVED]


def test_without_ranges_a_stranger_to_a_public_sdp_must_keep_up_half_a_second() -> None:
    """Who sprays ports does not; a peer with two addresses does."""
    under_test = latch(networks=())
    assert stream(under_test, STRANGER, 24, 0.0) == [REFUSED] * 24
    assert stream(under_test, PEER, 1, 0.49) == [MOVED]
    lone = latch(networks=())
    assert stream(lone, STRANGER, 26, 0.0)[24:] == [MOVED, TAKEN]


def test_a_spray_before_the_first_packet_neither_wins_nor_keeps_the_peer_out() -> None:
    """RTP bleed: nothing is ever sent to it."""
    under_test, draw = latch(networks=()), random.Random(1)
    for _ in range(5000):
        source = (f"203.0.113.{draw.randrange(256)}", draw.randrange(1024, 65536))
        sequence = draw.getrandbits(16)
        for repeat in range(4):
            assert under_test.accept(source, draw.getrandbits(32), sequence + repeat & 0xFFFF, 0.1) is REFUSED
        assert under_test.destination == PEER
    assert stream(under_test, PEER, 2, 0.2) == [MOVED, TAKEN]


# --- locked ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("stranger", [STRANGER, IN_RANGE, (PEER[0], PEER[1] + 2)])
def test_while_the_peer_sends_nobody_else_is_heard(stranger: Source) -> None:
    """A wrong address or a wrong port, even within the ranges: not a single frame."""
    under_test = latch()
    for tick in range(500):
        under_test.accept(PEER, 1, tick, tick * 0.02)
        assert under_test.accept(stranger, 1, tick, tick * 0.02 + 0.01) is REFUSED
    assert under_test.refused == 500
    assert under_test.destination == PEER


def test_after_two_seconds_of_silence_the_lock_moves_within_the_ranges() -> None:
    """Carriers change media servers in mid-call."""
    under_test = latch()
    stream(under_test, PEER, 10, 0.0)
    assert stream(under_test, IN_RANGE, 50, 1.0) == [REFUSED] * 50
    assert stream(under_test, IN_RANGE, 3, 2.2, ssrc=9) == [REFUSED, MOVED, TAKEN]
    assert under_test.destination == IN_RANGE
    assert stream(under_test, PEER, 20, 2.3) == [REFUSED] * 20


def test_after_silence_the_lock_never_moves_out_of_the_ranges() -> None:
    under_test = latch()
    stream(under_test, PEER, 10, 0.0)
    assert set(stream(under_test, STRANGER, 200, 60.0)) == {REFUSED}


def test_without_ranges_silence_moves_the_lock_to_no_stranger() -> None:
    """A held or muted call is not up for taking."""
    under_test = latch(networks=())
    stream(under_test, PEER, 10, 0.0)
    assert set(stream(under_test, STRANGER, 200, 60.0)) == {REFUSED}
    assert stream(under_test, PEER, 1, 70.0, sequence=110) == [TAKEN]


def test_after_silence_the_signalled_address_takes_the_lock_back_at_once() -> None:
    under_test = latch(networks=(), signalled=("192.168.1.20", 4000))
    stream(under_test, STRANGER, 10, 6.0)
    assert under_test.accept(("192.168.1.20", 4000), 5, 1, 7.0) is REFUSED
    assert under_test.accept(("192.168.1.20", 4000), 5, 2, 9.0) is MOVED


def test_whoever_was_there_before_the_peer_does_not_keep_it_out() -> None:
    """A stream of another customer, within the ranges and there first: the peer's first packet ends it."""
    under_test = latch()
    assert stream(under_test, IN_RANGE, 50, 0.0)[-1] is TAKEN
    assert stream(under_test, PEER, 2, 1.0) == [MOVED, TAKEN]
    assert under_test.destination == PEER
    assert stream(under_test, IN_RANGE, 50, 1.1, sequence=50) == [REFUSED] * 50


def test_a_learnt_lock_that_has_settled_yields_to_nobody_while_it_is_heard() -> None:
    """After five seconds not even to the address of the SDP, which could be forged."""
    under_test = latch()
    stream(under_test, IN_RANGE, 300, 0.0)
    assert stream(under_test, PEER, 5, 6.0) == [REFUSED] * 5


def test_two_claimants_after_silence_do_not_help_each_other() -> None:
    """Their packets are two sequences."""
    under_test = latch()
    stream(under_test, PEER, 10, 0.0)
    verdicts = []
    for tick in range(20):
        verdicts.append(under_test.accept(IN_RANGE, 1, 2 * tick, 5.0))
        verdicts.append(under_test.accept(ALSO_IN_RANGE, 1, 2 * tick + 1, 5.0))
    assert set(verdicts) == {REFUSED}


# --- SSRC -----------------------------------------------------------------------------------------


def test_a_new_ssrc_from_the_locked_address_is_taken_after_its_probation() -> None:
    """RFC 3550 §A.1, §8: a media server was changed behind the same address."""
    under_test = latch()
    stream(under_test, PEER, 10, 0.0)
    assert stream(under_test, PEER, 3, 0.2, ssrc=2, sequence=5000) == [REFUSED, MOVED, TAKEN]


def test_a_stray_packet_of_another_ssrc_changes_nothing() -> None:
    under_test = latch()
    stream(under_test, PEER, 10, 0.0)
    assert under_test.accept(PEER, 2, 1, 0.2) is REFUSED
    assert stream(under_test, PEER, 10, 0.21, sequence=110) == [TAKEN] * 10


def test_a_second_stream_beside_the_first_never_gets_in() -> None:
    """Two streams at once from one address would take the call from each other twenty times a second."""
    under_test = latch()
    stream(under_test, PEER, 10, 0.0)
    for tick in range(200):
        assert under_test.accept(PEER, 1, 110 + tick, 0.2 + tick * 0.02) is TAKEN
        assert under_test.accept(PEER, 2, 7000 + tick, 0.21 + tick * 0.02) is REFUSED


# --- re-INVITE ------------------------------------------------------------------------------------


def test_a_re_invite_to_another_address_moves_the_lock() -> None:
    """The old source's stragglers do not win it back."""
    under_test = latch()
    stream(under_test, PEER, 50, 0.0)
    under_test.resignal(ALSO_IN_RANGE, (ALSO_IN_RANGE[0], 17001), now=1.0)
    assert under_test.destination == ALSO_IN_RANGE
    assert stream(under_test, PEER, 10, 1.0, sequence=150) == [REFUSED] * 10
    assert stream(under_test, ALSO_IN_RANGE, 2, 1.2, ssrc=4) == [MOVED, TAKEN]


def test_a_phone_behind_nat_that_renames_itself_is_heard_again_when_nobody_else_comes() -> None:
    """Its SDP names another private address, its packets come from where they came."""
    under_test = latch(networks=(), signalled=("192.168.1.20", 4000))
    stream(under_test, STRANGER, 50, 0.0)
    under_test.resignal(("192.168.1.20", 4002), ("192.168.1.20", 4003), now=1.0)
    assert set(stream(under_test, STRANGER, 90, 1.0)) == {REFUSED}
    assert stream(under_test, STRANGER, 3, 3.1) == [REFUSED, MOVED, TAKEN]


def test_a_session_refresh_changes_nothing() -> None:
    under_test = latch()
    stream(under_test, IN_RANGE, 50, 0.0)
    under_test.resignal(PEER, PEER_RTCP, now=1.0)
    assert stream(under_test, IN_RANGE, 1, 1.0, sequence=150) == [TAKEN]
    assert under_test.destination == IN_RANGE


# --- RTCP -----------------------------------------------------------------------------------------


def test_rtcp_is_taken_from_the_signalled_address() -> None:
    under_test = latch()
    assert under_test.accept_rtcp(PEER_RTCP)
    assert under_test.rtcp_destination == PEER_RTCP


def test_rtcp_of_a_learnt_host_is_learnt_once() -> None:
    """Behind NAT its port is not the next one."""
    under_test = latch()
    assert not under_test.accept_rtcp((IN_RANGE[0], 33333))
    stream(under_test, IN_RANGE, 3, 0.0)
    assert under_test.accept_rtcp((IN_RANGE[0], 33333))
    assert not under_test.accept_rtcp((IN_RANGE[0], 33335))
    assert under_test.rtcp_destination == (IN_RANGE[0], 33333)


def test_rtcp_of_strangers_is_refused() -> None:
    under_test = latch()
    stream(under_test, PEER, 3, 0.0)
    assert not under_test.accept_rtcp(STRANGER)
    assert under_test.refused == 1


def test_rtcp_without_symmetric_rtp_is_taken_from_the_signalled_address_alone() -> None:
    under_test = latch(symmetric=False)
    stream(under_test, PEER, 3, 0.0)
    assert not under_test.accept_rtcp((PEER[0], 33333))
    assert under_test.accept_rtcp(PEER_RTCP)


def test_when_the_lock_moves_rtcp_is_learnt_anew() -> None:
    under_test = latch()
    stream(under_test, IN_RANGE, 3, 0.0)
    under_test.accept_rtcp((IN_RANGE[0], 33333))
    stream(under_test, ALSO_IN_RANGE, 3, 5.0)
    assert not under_test.accept_rtcp((IN_RANGE[0], 33333))
    assert under_test.accept_rtcp((ALSO_IN_RANGE[0], 44444))
    assert under_test.rtcp_destination == (ALSO_IN_RANGE[0], 44444)


def test_ipv6_ranges_are_ranges_too() -> None:
    under_test = Latch(
        ("2a00:1450::8", 4000), ("2a00:1450::8", 4001), networks=("2a00:1450::/32", "168.86.128.0/18"), now=0.0
    )
    assert stream(under_test, ("2a00:1450::9", 4000), 2, 0.0) == [REFUSED, MOVED]
    assert set(stream(under_test, ("2a01::9", 4000), 5, 9.0)) == {REFUSED}
