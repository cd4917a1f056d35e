"""The media watchdog: never, silence, and what is neither."""

from __future__ import annotations

import pytest

from media.watchdog import Loss, Watchdog


def watchdog(first_s: float | None = 20.0, silence_s: float | None = 15.0) -> Watchdog:
    dog = Watchdog(first_s, silence_s)
    dog.start(100.0)
    return dog


def test_nothing_at_all_since_the_start_is_never() -> None:
    dog = watchdog()
    assert dog.check(119.9) is None
    assert dog.check(120.0) == Loss("never", 20.0)


def test_nothing_any_more_is_silence() -> None:
    dog = watchdog()
    dog.heard(130.0)
    assert dog.check(144.9) is None
    assert dog.check(145.0) == Loss("silence", 15.0)


def test_it_barks_once() -> None:
    dog = watchdog()
    assert dog.check(120.0) is not None
    assert dog.check(500.0) is None


def test_nothing_is_missed_before_the_call_is_established() -> None:
    dog = Watchdog(20.0, 15.0)
    assert dog.check(500.0) is None
    dog.start(500.0)
    assert dog.check(519.0) is None
    assert dog.check(521.0) is not None


def test_a_second_start_does_not_restart_the_clock() -> None:
    dog = watchdog()
    dog.start(110.0)
    assert dog.check(120.0) is not None


def test_a_packet_before_the_start_makes_a_later_loss_a_silence() -> None:
    dog = Watchdog(20.0, 15.0)
    dog.heard(99.0)
    dog.start(100.0)
    assert dog.check(115.0) == Loss("silence", 15.0)


def test_on_hold_nothing_is_missed_for_an_hour() -> None:
    dog = watchdog()
    dog.heard(101.0)
    dog.hold(True, 110.0)
    assert dog.check(3700.0) is None


def test_after_hold_the_time_out_begins_anew() -> None:
    dog = watchdog()
    dog.heard(101.0)
    dog.hold(True, 110.0)
    dog.hold(False, 3700.0)
    assert dog.check(3714.0) is None
    assert dog.check(3715.0) == Loss("silence", 15.0)


def test_a_refresh_that_is_no_resume_does_not_restart_the_clock() -> None:
    dog = watchdog()
    dog.heard(101.0)
    dog.hold(False, 110.0)
    assert dog.check(116.0) == Loss("silence", 15.0)


def test_reports_alone_keep_a_muted_call_up() -> None:
    """A phone that suppresses silence still sends RTCP: every 5 s, it counts as heard."""
    dog = watchdog()
    for second in range(100, 400, 5):
        dog.heard(second)
        assert dog.check(second + 4.9) is None


@pytest.mark.parametrize(("first_s", "silence_s"), [(None, 15.0), (20.0, None), (None, None)])
def test_none_is_not_watched(first_s: float | None, silence_s: float | None) -> None:
    never, silent = watchdog(first_s, silence_s), watchdog(first_s, silence_s)
    silent.heard(101.0)
    assert (never.check(9999.0) is None) == (first_s is None)
    assert (silent.check(9999.0) is None) == (silence_s is None)


def test_a_peer_that_leaves_its_silence_out_is_given_more_time_until_it_speaks() -> None:
    """RFC 3389: after a descriptor of comfort noise nothing need come for long."""
    dog = watchdog()
    dog.heard(110.0)
    dog.suppressed(110.0)
    assert dog.check(154.9) is None
    assert dog.check(155.0) == Loss("silence", 45.0)
    dog = watchdog()
    dog.suppressed(110.0)
    dog.heard(111.0)
    assert dog.check(126.0) == Loss("silence", 15.0)
