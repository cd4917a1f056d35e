"""Digits to a phone that takes them by INFO, one after the other (RFC 6086, application/dtmf-relay)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from control.call import Call, Timer
from control.call_table import State
from control.surroundings import Signalling
from edge.counters import Counters
from media.messages import LegPolicy

__all__ = ["PRESS_MS", "InfoDigits"]

PRESS_MS: Final = 160
"""How long a digit is said to be pressed [ms]."""

_PRESS_S: Final = 0.3
_PRESS_PAUSE_S: Final = 0.5
_MOST_DIGITS: Final = 128
_NO_MORE: Final = " "
"""Stands for the time after the last digit, so that one that comes meanwhile waits for its turn."""


class InfoDigits:
    """Presses what media could not send as telephone-event."""

    def __init__(
        self,
        signalling: Signalling,
        counters: Counters,
        policy: Callable[[str], LegPolicy],
        call_later: Callable[[float, Callable[[], None]], Timer],
    ) -> None:
        self._signalling = signalling
        self._counters = counters
        self._policy = policy
        self._call_later = call_later

    def allowed(self, call: Call) -> bool:
        """Whether digits may go to the phone so."""
        return call.takes_info and self._policy(call.trunk).info_digits

    def press(self, call: Call, digits: str) -> None:
        """The agent's digits by INFO, one after the other, where the phone takes them no other way."""
        if not call.takes_info:
            self._counters.add("agent_requests_refused", verb="digits")
            return
        idle, call.pressing = not call.pressing, (call.pressing + digits)[:_MOST_DIGITS]
        if idle:
            self._press_next(call)

    def _press_next(self, call: Call) -> None:
        digit, call.pressing = call.pressing[:1].upper(), call.pressing[1:]
        if digit == _NO_MORE:
            digit, call.pressing = call.pressing[:1].upper(), call.pressing[1:]
        if not digit or call.state is not State.ESTABLISHED:
            call.pressing = ""
            return
        if digit != "W":
            self._signalling.press(call.key, digit, PRESS_MS)
        call.pressing = call.pressing or _NO_MORE
        delay_s = _PRESS_PAUSE_S if digit == "W" else _PRESS_S
        self._call_later(delay_s, lambda: self._press_next(call))
