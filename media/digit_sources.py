"""One digit for each key, also of a phone that sends each of them twice: as telephone-event and by INFO."""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["DigitSources"]

_TWICE_S: Final = 4.0
"""How far apart the two of one key may be [s]: an INFO comes at its beginning, a telephone-event at its end."""
_MAX_WAITING: Final = 32


class DigitSources:
    """Each digit of one source absorbs one equal digit of the other that comes soon before or after it."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: deque[tuple[str, str, float]] = deque(maxlen=_MAX_WAITING)

    def first(self, source: str, digit: str, now: float) -> bool:
        """Whether this one is to be told: False for a key that the other source has told already."""
        waiting = self._waiting
        while waiting and now - waiting[0][2] > _TWICE_S:
            waiting.popleft()
        for index, (other, same, _) in enumerate(waiting):
            if other != source and same == digit:
                del waiting[index]
                return False
        waiting.append((source, digit, now))
        return True
