"""Who answers when no agent can: a recording, or one that has the caller forwarded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from control.call import Call
from control.call_table import Input, State
from control.caps import Caps
from control.motor import Motor
from control.ports import PortPool
from edge.counters import Counters
from media.messages import AgentSpec

__all__ = ["UNANSWERED", "Fallback"]

UNANSWERED: Final = frozenset((State.LOOKING_UP, State.OPENING, State.RINGING))
"""A call that can still be given to a fallback."""


class Fallback:
    """A number's fallback takes the calls that its agent cannot; a call for which there is none is refused."""

    def __init__(
        self, motor: Motor, caps: Caps, ports: PortPool, counters: Counters, *, now: Callable[[], float]
    ) -> None:
        self._motor = motor
        self._caps = caps
        self._ports = ports
        self._counters = counters
        self._now = now

    def take_over(self, call: Call, reason: str, detail: str = "") -> None:
        """No agent can take this call, for a reason of :data:`control.call_table.REFUSALS`."""
        if not self._takes(call, reason, detail):
            self._motor.refuse(call, reason, detail)

    def _takes(self, call: Call, reason: str, detail: str) -> bool:
        fallback = call.route.number.fallback if call.route is not None else None
        if fallback is None or call.fallen is not None or call.end is not None or call.state not in UNANSWERED:
            return False
        if call.port is None:
            call.port = self._ports.lease(self._now())
        if call.port is None or self._caps.enter_fallback(call) is not None:
            return False
        call.fallen = f"{reason}: {detail}" if detail else reason
        call.spec = _fallback_spec(fallback)
        self._counters.add("calls_fallen_back", reason=reason)
        self._motor.note(call, "fallback", f"{' '.join(next(iter(fallback.items())))}, for {reason}")
        self._motor.feed(call, Input.FALL_BACK)
        return True


def _fallback_spec(fallback: Mapping[str, str]) -> AgentSpec:
    """Who answers in the agent's place: a recording, or one that has the caller forwarded, and else is sorry."""
    forward = fallback.get("forward")
    return AgentSpec(
        protocol="announcement",
        name=fallback.get("message", "unavailable"),
        parameters={} if forward is None else {"forward": forward},
        answer_after_s=0.0,
    )
