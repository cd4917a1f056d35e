"""A phone leg's counts, and how they become the :class:`LegStatistics` that control is told."""

from __future__ import annotations

from typing import Final

from media import mos
from media.jitter import JitterBuffer
from media.messages import LegStatistics
from media.rtcp import Reporter
from media.rtp import SequenceTracker

__all__ = ["Reception", "leg_statistics"]

_PACKET_MS: Final = 20
"""What the sender has to wait for until its packet is full."""


class Reception:
    """What was received over all the sources the peer has had: a new SSRC begins a tracker, and loses no count."""

    __slots__ = ("_lost_before", "_received_before", "clock_rate_hz", "tracker")

    def __init__(self, clock_rate_hz: int = 8000) -> None:
        self.clock_rate_hz = clock_rate_hz
        """Of the sources to come."""
        self._received_before = 0
        self._lost_before = 0
        self.tracker = self._new()

    def _new(self) -> SequenceTracker:
        # The latch has served the probation: what comes here counts from its first packet.
        return SequenceTracker(self.clock_rate_hz, probation=0)

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
    srtp: str | None,
    packets_unauthentic: int,
    loss_runs: int,
    digits_received: int,
    digits_sent: int,
    reception: Reception,
    jitter: JitterBuffer,
    reporter: Reporter | None,
    now: float,
) -> LegStatistics:
    """The phone leg's part; the agent's counts and the pacing are the bridge's to add.

    ``reporter`` is None before the call is established. ``jitter_buffer_ms`` is the whole delay from
    the fastest packet's arrival to the agent. ``r_factor`` and ``mos`` are of what the
    agent hears (:mod:`media.mos`), whose way is half the round trip.
    """
    delay_ms = jitter.delay_ms(now)
    frames = jitter.frames_played + jitter.frames_concealed
    r_factor = None
    if codec is not None and frames:
        share = jitter.frames_concealed / frames
        r_factor = mos.r_factor(
            codec,
            delay_ms=_PACKET_MS
            + (jitter.target_ms if delay_ms is None else delay_ms)
            + ((reporter.round_trip_s or 0.0) * 500 if reporter else 0.0),
            share=share,
            burst=mos.burst_ratio(jitter.frames_concealed, loss_runs, share),
        )
    return LegStatistics(
        codec=codec,
        remote=remote,
        packets_sent=packets_sent,
        packets_received=reception.received,
        packets_lost=reception.lost,
        packets_late=jitter.late,
        packets_refused=packets_refused,
        packets_unauthentic=packets_unauthentic,
        srtp=srtp,
        frames_concealed=jitter.frames_concealed,
        frames_played=jitter.frames_played,
        jitter_ms=_rounded(reception.tracker.jitter_ms) if reception.received else None,
        jitter_buffer_ms=None if delay_ms is None else _rounded(delay_ms),
        round_trip_ms=_ms(reporter.round_trip_s) if reporter else None,
        remote_fraction_lost=reporter.remote_fraction_lost if reporter else None,
        remote_jitter_ms=reporter.remote_jitter_ms if reporter else None,
        r_factor=None if r_factor is None else round(r_factor, 1),
        mos=None if r_factor is None else round(mos.mos(r_factor), 2),
        digits_received=digits_received,
        digits_sent=digits_sent,
    )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else _rounded(seconds * 1000)


def _rounded(milliseconds: float) -> float:
    return round(milliseconds, 3)
