"""How long calls wait for what comes before the conversation. The call path only counts."""

from __future__ import annotations

from typing import Final

from control.call import Direction
from control.histograms import Histogram, histogram_readings
from control.metric_families import FAMILIES
from control.metrics import Readings

__all__ = ["CallDelays"]

_RINGING: Final = FAMILIES["call_ringing_delay_seconds"]
_ANSWER: Final = FAMILIES["call_answer_delay_seconds"]
_AGENT: Final = FAMILIES["agent_connect_seconds"]


class CallDelays:
    """Of all calls of the process; everything in seconds."""

    def __init__(self) -> None:
        self._ringing: dict[Direction, Histogram] = {
            "inbound": Histogram(_RINGING.buckets),
            "outbound": Histogram(_RINGING.buckets),
        }
        self._answer = Histogram(_ANSWER.buckets)
        self._agents: dict[str, Histogram] = {}

    def rang(self, direction: Direction, after_s: float) -> None:
        """An INVITE has had its first 180 or 183 (the Session Request Delay of RFC 6076 §4.3)."""
        self._ringing[direction].observe(after_s)

    def answered(self, after_s: float) -> None:
        """A call that came in has had its 200."""
        self._answer.observe(after_s)

    def agent_connected(self, protocol: str, after_s: float) -> None:
        """An agent knows of its call."""
        known = self._agents.get(protocol)
        if known is None:
            known = self._agents[protocol] = Histogram(_AGENT.buckets)
        known.observe(after_s)

    def readings(self) -> Readings:
        """As they stand."""
        return {
            **histogram_readings(_RINGING, {(("direction", each),): it for each, it in self._ringing.items()}),
            **histogram_readings(_ANSWER, {(): self._answer}),
            **histogram_readings(_AGENT, {(("protocol", each),): it for each, it in self._agents.items()}),
        }
