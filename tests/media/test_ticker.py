"""The pacing clock: every frame in its time, whatever came late before."""

from __future__ import annotations

import asyncio

import pytest

from media.ticker import FRAME_S, Lateness, Schedule, Tick, Ticker


def test_frames_are_due_at_multiples_of_20_ms_of_the_start() -> None:
    schedule = Schedule(100.0)
    for number in range(1, 51):
        assert schedule.next_at == pytest.approx(100.0 + number * FRAME_S)
        tick = schedule.due(schedule.next_at)
        assert (tick.frames, tick.skipped) == (1, 0)


def test_a_late_tick_does_not_move_the_later_ones() -> None:
    schedule = Schedule(0.0)
    tick = schedule.due(0.035)
    assert tick.frames == 1
    assert tick.late_s == pytest.approx(0.015)
    assert schedule.next_at == pytest.approx(0.040)


def test_a_tick_that_comes_60_ms_late_hands_out_what_is_due_and_no_more() -> None:
    schedule = Schedule(0.0)
    assert schedule.due(0.081).frames == 4
    assert schedule.next_at == pytest.approx(0.100)


def test_after_a_long_stall_five_frames_are_caught_up_and_the_rest_is_given_up() -> None:
    schedule = Schedule(0.0)
    tick = schedule.due(1.0)
    assert tick.frames == 5
    assert tick.frames + tick.skipped == 50
    assert schedule.next_at == pytest.approx(1.02)


def test_a_tick_knows_when_its_first_frame_was_due_however_late_it_is_handled() -> None:
    schedule = Schedule(0.0)
    tick = schedule.due(0.085)
    assert (tick.frames, tick.skipped, tick.due_at) == (4, 0, pytest.approx(0.02))
    tick = schedule.due(0.345)
    assert (tick.frames, tick.skipped, tick.due_at) == (5, 8, pytest.approx(0.26))


def test_a_wake_up_a_little_early_counts_as_on_time() -> None:
    schedule = Schedule(0.0)
    tick = schedule.due(0.0195)
    assert (tick.frames, tick.late_s) == (1, 0.0)
    assert schedule.next_at == pytest.approx(0.040)


def test_lateness_knows_its_99th_percentile_and_its_worst() -> None:
    lateness = Lateness(window=200)
    assert lateness.p99_ms is None
    assert lateness.max_ms is None
    for late_ms in range(200):
        lateness.add(late_ms / 1000)
    assert lateness.p99_ms == 198.0
    assert lateness.max_ms == 199.0


def test_lateness_forgets_what_is_older_than_its_window() -> None:
    lateness = Lateness(window=10)
    lateness.add(5.0)
    for _ in range(10):
        lateness.add(0.001)
    assert lateness.max_ms == 1.0


@pytest.mark.realtime
async def test_a_second_has_fifty_frames_and_none_after_stop() -> None:
    ticks: list[Tick] = []
    ticker = Ticker(ticks.append)
    ticker.start()
    await asyncio.sleep(1.01)
    ticker.stop()
    counted = sum(tick.frames + tick.skipped for tick in ticks)
    assert 49 <= counted <= 51
    await asyncio.sleep(0.05)
    assert sum(tick.frames + tick.skipped for tick in ticks) == counted


@pytest.mark.realtime
async def test_a_tick_that_fails_does_not_stop_the_clock() -> None:
    loop = asyncio.get_running_loop()
    reported: list[object] = []
    loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
    ticks = 0

    def fail(_: Tick) -> None:
        nonlocal ticks
        ticks += 1
        raise ValueError("one tick")

    ticker = Ticker(fail)
    ticker.start()
    await asyncio.sleep(0.1)
    ticker.stop()
    assert ticks >= 2
    assert len(reported) == ticks


@pytest.mark.realtime
async def test_tickers_keep_the_distance_they_were_given() -> None:
    """Whenever each of them starts."""
    since = Ticker.now()
    ticks: list[tuple[float, float]] = []
    tickers = [
        Ticker(lambda tick, phase=number * 0.005: ticks.append((phase, tick.now - tick.late_s)))  # type: ignore[misc]
        for number in range(4)
    ]
    for number, ticker in enumerate(tickers):
        await asyncio.sleep(0.003)
        ticker.start(since + number * 0.005)
        assert ticker.running
    await asyncio.sleep(0.1)
    for ticker in tickers:
        ticker.stop()
        assert not ticker.running
    assert {phase for phase, _ in ticks} == {0.0, 0.005, 0.01, 0.015}
    for phase, due in ticks:
        away = (due - since - phase) % FRAME_S
        assert min(away, FRAME_S - away) < 0.002, (phase, away)
