"""A call's second phone leg: whom its caller is transferred to, from our offer to its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from media.agents.base import Agent
from media.bridge import Bridge
from media.consent_tone import ConsentTone
from media.crossing import Crossing
from media.digit_sources import DigitSources
from media.leg import LegError, LegSettings, PhoneLeg
from media.messages import (
    ApplyAnswer,
    CallOpened,
    DigitsUnsent,
    JoinLegs,
    LegStatistics,
    MediaLost,
    NoticeBody,
    OpenSecondLeg,
    RecordingOrder,
    Renegotiate,
)
from media.ringback import ringing_tone
from media.udp import Datagrams, PortPair

__all__ = ["SecondLeg"]

_AGENT_PLACES: Final = ("leaves", "listens")


class SecondLeg:
    """Next: :meth:`open`, :meth:`apply_answer`, :meth:`join`, :meth:`close`; the caller's own leg is ``first``."""

    def __init__(
        self,
        command: OpenSecondLeg,
        bridge: Bridge,
        first: PhoneLeg,
        *,
        address: str,
        notify: Callable[[NoticeBody], None],
        entropy: Callable[[int], bytes],
        clock: Callable[[], float],
    ) -> None:
        """``address`` is what the peer is told. Raises LegError."""
        self._bridge = bridge
        self._first = first
        self._call = command.call
        self._port = command.rtp_port
        self._notify = notify
        self._clock = clock
        self._digits = DigitSources()

        def lost(kind: str, after_s: float) -> None:
            notify(MediaLost(call=command.call, kind=kind, after_s=round(after_s, 3)))

        self.leg = PhoneLeg(
            LegSettings(address=address, rtp_port=command.rtp_port, policy=command.policy),
            entropy=entropy,
            on_source=lambda source: None,
            on_lost=lost,
        )
        self.leg.on_digit = self._peer_digit
        self.crossing = Crossing(first, self.leg)
        self._ports: PortPair | None = None

    def open(self, datagrams: Datagrams, listen_address: str) -> CallOpened:
        """Bind, and offer; it takes part in the call from the next tick. Raises PortUnavailable."""
        sdp = self.leg.offer()
        self._ports = datagrams.open_pair(listen_address, self._port, self.leg.receive_rtp, self.leg.receive_rtcp)
        self.leg.connect(self._ports.send_rtp, self._ports.send_rtcp)
        self._bridge.rewire(self.crossing, self.crossing.mix, self.crossing.overhear, self._caller_digit)
        return CallOpened(sdp=sdp, codec=None)

    def ring(self, number: str) -> None:
        """It rings, in the network of ``number``."""
        self.crossing.ring(ringing_tone(number))

    def apply_answer(self, command: ApplyAnswer, now: float) -> None:
        """Of a provisional response or for good; media flows from here. Raises SdpError, LegError."""
        if command.early:
            self.leg.apply_early(command.answer, now)
        else:
            self.leg.apply_answer(command.answer, now)
        self.leg.start(now)

    def renegotiate(self, command: Renegotiate, now: float) -> CallOpened:
        """A re-INVITE of the peer's. Raises SdpError."""
        sdp = self.leg.describe(command.offer, now, early=command.early)
        self.crossing.peer_changed()
        return CallOpened(sdp=sdp, codec=self.leg.codec, held=self.leg.held)

    def join(self, command: JoinLegs, order: RecordingOrder | None = None) -> Agent | None:
        """Caller and peer talk; the agent that leaves, to be closed. Raises LegError; then nothing has changed.

        A call that is recorded, by ``order``, stays so: the peer is told, too.
        """
        if command.agent not in _AGENT_PLACES:
            raise LegError("bad_agent_place", f"the agent {' or '.join(_AGENT_PLACES)}")
        if self.leg.codec is None:
            raise LegError("no_answer", "our offer has had no answer")
        stays = command.agent == "listens"
        self.crossing.join(listened=stays, tone=ConsentTone.of(self.leg.law, order))
        return None if stays else self._bridge.dismiss()

    def close(self, now: float) -> LegStatistics:
        """The caller's leg is the bridge's only one again; the port is free when this returns."""
        self._bridge.rewire(self._first)
        statistics = self.leg.statistics(now)
        self.leg.close(now)
        if self._ports is not None:
            self._ports.close()
        return statistics

    def _caller_digit(self, digit: str) -> None:
        if not self.crossing.caller_digit(digit):
            self._notify(DigitsUnsent(call=self._call, digits=digit, second=True))

    def _peer_digit(self, digit: str, duration_ms: int) -> None:
        self._pressed("telephone-event", digit)

    def digit_by_info(self, digit: str) -> None:
        """One of the peer's that came by INFO."""
        self._pressed("INFO", digit)

    def _pressed(self, source: str, digit: str) -> None:
        if self._digits.first(source, digit, self._clock()) and not self.crossing.peer_digit(digit):
            self._notify(DigitsUnsent(call=self._call, digits=digit))
