"""A phone leg's counts, and how they become the :class:`LegStatistics` that control is told."""

from __future__ import annotations

from media.concealment import LATENCY_MS
from media.jitter import JitterBuffer
from media.messages import LegStatistics
from media.rtcp import Reporter
from media.rtp import SequenceTracker

__all__ = ["Reception", "leg_statistics"]


class Reception:
    """What was received over all the sources the peer has had: a new SSRC begins a tracker, and loses no count."""

    __slots__ = ("_clock_rate_hz", "_lost_before", "_received_before", "tracker")

    def __init__(self, clock_rate_hz: int = 8000) -> None:
        self._clock_rate_hz = clock_rate_hz
        self._received_before = 0
        self._lost_before = 0
        self.tracker = self._new()

    def _new(self) -> SequenceTracker:
        # The latch has served the probation: what comes here counts from its first packet.
        return SequenceTracker(self._clock_rate_hz, probation=0)

    def new_source(self) -> SequenceTracker:
        """The peer's SSRC has changed; the tracker from now on."""
        self._received_before, self._lost_before = self.received, self.lost
        self.tracker = self._new()
        return self.tracker

    @property
    def received(self) -> int:
        """Packets received."""
        return self._received_before + self.tracker.total_received

    @property
    def lost(self) -> int:
        """Packets lost; never negative, whatever was duplicated."""
        return self._lost_before + self.tracker.total_lost


def leg_statistics(
    *,
    codec: str | None,
    remote: str | None,
    packets_sent: int,
    packets_refused: int,
    digits_received: int,
    digits_sent: int,
    reception: Reception,
    jitter: JitterBuffer,
    reporter: Reporter | None,
    now: float,
) -> LegStatistics:
    """The phone leg's part; the agent's counts and the pacing are the bridge's to add.

    ``reporter`` is None before the call is established. ``jitter_buffer_ms`` is the whole delay from
    the fastest packet's arrival to the agent, with the concealment's own.
    """
    delay_ms = jitter.delay_ms(now)
    return LegStatistics(
        codec=codec,
        remote=remote,
        packets_sent=packets_sent,
        packets_received=reception.received,
        packets_lost=reception.lost,
        packets_late=jitter.late,
        packets_refused=packets_refused,
        frames_concealed=jitter.frames_concealed,
        frames_played=jitter.frames_played,
        jitter_ms=_rounded(reception.tracker.jitter_ms) if reception.received else None,
        jitter_buffer_ms=None if delay_ms is None else _rounded(delay_ms + LATENCY_MS),
        round_trip_ms=_ms(reporter.round_trip_s) if reporter else None,
        remote_fraction_lost=reporter.remote_fraction_lost if reporter else None,
        remote_jitter_ms=reporter.remote_jitter_ms if reporter else None,
        digits_received=digits_received,
        digits_sent=digits_sent,
    )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else _rounded(seconds * 1000)


def _rounded(milliseconds: float) -> float:
    return round(milliseconds, 3)
