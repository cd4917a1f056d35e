"""Notices that the peer's media never came, or has ceased, while it should be there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["Loss", "Watchdog"]


@dataclass(frozen=True, slots=True)
class Loss:
    """``kind`` is ``never`` (nothing since the start) or ``silence``; ``after_s`` [s] since the last sign of life."""

    kind: str
    after_s: float


class Watchdog:
    """Barks once. Time-outs in seconds; None: not watched.

    RTCP is a sign of life like RTP: a muted phone, or one that suppresses silence, still reports.
    While the peer does not send by agreement (hold, inactive) nothing is missed, and after it the
    time-out begins anew. A peer that has said that it leaves its silence out (comfort noise, RFC 3389) and then says
    nothing is given ``PATIENCE`` times as long.
    """

    PATIENCE: Final = 3

    __slots__ = ("_barked", "_first_s", "_heard", "_held", "_silence_s", "_since", "_suppressed")

    def __init__(self, first_packet_timeout_s: float | None, silence_timeout_s: float | None) -> None:
        self._first_s = first_packet_timeout_s
        self._silence_s = silence_timeout_s
        self._since: float | None = None
        self._heard = False
        self._held = False
        self._barked = False
        self._suppressed = False

    def start(self, now: float) -> None:
        """The call is established: from now on media is expected."""
        if self._since is None:
            self._since = now

    def heard(self, now: float) -> None:
        """A packet of the peer's was taken, RTP or RTCP; before the start it counts as one at the start."""
        self._heard = True
        self._suppressed = False
        if self._since is not None:
            self._since = now

    def suppressed(self, now: float) -> None:
        """The packet just heard says that silence follows, and is not sent."""
        self._suppressed = True

    def hold(self, held: bool, now: float) -> None:
        """Whether the peer is not to send (its SDP says sendonly towards it, inactive or ``0.0.0.0``)."""
        if self._held and not held and self._since is not None:
            self._since = now
        self._held = held

    def check(self, now: float) -> Loss | None:
        """Once a second or so; the loss when there is one, a single time."""
        timeout_s = self._silence_s if self._heard else self._first_s
        if timeout_s is not None and self._suppressed:
            timeout_s *= self.PATIENCE
        if self._since is None or self._held or self._barked or timeout_s is None or now - self._since < timeout_s:
            return None
        self._barked = True
        return Loss("silence" if self._heard else "never", now - self._since)
