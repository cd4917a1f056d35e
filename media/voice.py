"""Whether somebody speaks: by energy, cheaply, frame by frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from media import g711
from media.agents.base import Encoding
from media.convert import is_linear

__all__ = ["Heard", "VoiceDetector", "level_of"]


def level_of(encoding: Encoding) -> Callable[[bytes], int]:
    """What gives the root mean square of a frame in ``encoding``, as of 16-bit samples."""
    return g711.level if is_linear(encoding) else g711.LEVELS[encoding]


# The module's, for what every frame passes: a class's constant is ten times a global's to look up (CPython 3.11).
_LEAST_RMS: Final = 250.0
"""About -42 dBFS; nothing quieter is speech."""
_OVER_FLOOR: Final = 3.0


class Heard:
    """What one frame told the detector."""

    NOTHING: Final = "nothing"
    SPEAKS: Final = "speaks"
    """The speaker has begun (this frame confirms it)."""
    PAUSES: Final = "pauses"
    """The speaker has stopped for the hangover."""


_NOTHING: Final = Heard.NOTHING


class VoiceDetector:
    """Speech by energy, above a noise floor that follows the line, with a hangover.

    ``onset_frames`` loud frames begin an utterance, so that a click does not; ``hangover_frames``
    quiet ones end it.
    """

    ONSET_FRAMES: Final = 3

    __slots__ = ("_floor", "_hangover_frames", "_loud", "_onset_frames", "_quiet", "loud", "speaking")

    def __init__(self, onset_frames: int = ONSET_FRAMES, hangover_frames: int = 35) -> None:
        self._onset_frames = onset_frames
        self._hangover_frames = hangover_frames
        self._floor = _LEAST_RMS / _OVER_FLOOR
        self._loud = 0
        self._quiet = 0
        self.loud = self.speaking = False

    def hear(self, frame: bytes) -> str:
        """One 20 ms frame of PCM16; a :class:`Heard` word."""
        return self.heed(g711.level(frame))

    def heed(self, level: float) -> str:
        """One 20 ms frame of this level (:func:`level_of`); a :class:`Heard` word."""
        loud = self.loud = self.is_loud(level)
        if not self.speaking:
            self._loud = self._loud + 1 if loud else 0
            if self._loud < self._onset_frames:
                return _NOTHING
            self.speaking, self._quiet = True, 0
            return Heard.SPEAKS
        self._quiet = 0 if loud else self._quiet + 1
        if self._quiet < self._hangover_frames:
            return _NOTHING
        self.speaking, self._loud = False, 0
        return Heard.PAUSES

    def is_loud(self, level: float) -> bool:
        """Whether a frame of this level is speech; the floor follows those that are not."""
        floor = self._floor
        loud = level > floor * _OVER_FLOOR and level > _LEAST_RMS
        # Down at once, up slowly, and only while nobody speaks: the floor is the line's noise, not the caller.
        if level < floor:
            self._floor = level
        elif not loud:
            self._floor = floor + (level - floor) * 0.02
        return loud
