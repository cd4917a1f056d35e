"""One digit for each key, also of a phone that sends each of them twice: as telephone-event, by INFO, by its tone."""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["DigitSources"]

_MAX_WAITING: Final = 32


class DigitSources:
    """Each digit of one source absorbs one equal digit of another that comes within ``within_s`` [s] of it."""

    INFO_S: Final = 4.0
    """An INFO comes at a key's beginning, a telephone-event at its end."""
    TONE_S: Final = 1.0
    """A tone and a telephone-event are over together; the audio has the jitter buffer before it."""

    __slots__ = ("_waiting", "_within_s")

    def __init__(self, within_s: float = INFO_S) -> None:
        self._within_s = within_s
        self._waiting: deque[tuple[str, str, float]] = deque(maxlen=_MAX_WAITING)

    def first(self, source: str, digit: str, now: float) -> bool:
        """Whether this one is to be told: False for a key that another source has told already."""
        waiting = self._waiting
        while waiting and now - waiting[0][2] > self._within_s:
            waiting.popleft()
        for index, (other, same, _) in enumerate(waiting):
            if other != source and same == digit:
                del waiting[index]
                return False
        waiting.append((source, digit, now))
        return True
