"""The tone that tells a caller of a recording: one when the call begins, and more as often as is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Self

import numpy as np

from media import g711
from media.agents.base import Encoding
from media.convert import Converter, decoder, encoder, frame_bytes, is_linear
from media.messages import RecordingOrder

__all__ = ["ConsentTone"]

_HZ: Final = 1400
_RATE_HZ: Final = 8000
_LEVEL: Final = 0.15
"""Of full scale; about -19 dBm0."""
_RAMP_S: Final = 0.005

Take = Callable[[], bytes | None]


class ConsentTone:
    """What is said to the phone, with the tone over it: the agent's voice waits for nothing and is delayed by nothing.

    ``every_s`` [s]: from one tone to the next; None: there is only the first.
    """

    FIRST_FRAMES: Final = 25
    LATER_FRAMES: Final = 10

    def __init__(self, encoding: Encoding, every_s: float | None = None) -> None:
        self._every = None if every_s is None else max(round(every_s * 50), self.FIRST_FRAMES)
        self._at = 0
        self.change(encoding)

    @classmethod
    def of(cls, encoding: Encoding, order: RecordingOrder | None) -> Self | None:
        """As a recording's order wants it; None where there is to be none."""
        return None if order is None or not order.consent_tone else cls(encoding, order.consent_tone_every_s)

    def change(self, encoding: Encoding) -> None:
        """The phone is sent ``encoding`` from here on."""
        self._decode, self._encode = decoder(encoding), encoder(encoding)
        self._first = _frames(self.FIRST_FRAMES, _wide(encoding))
        self._later = _frames(self.LATER_FRAMES, _wide(encoding))

    def take(self, take: Take) -> bytes | None:
        """The next 20 ms; ``take`` gives the agent's."""
        at = self._at
        self._at = at + 1
        frame = take()
        if at < self.FIRST_FRAMES:
            return self._over(frame, self._first[at])
        every = self._every
        if every is None or at < every or (within := at % every) >= self.LATER_FRAMES:
            return frame
        return self._over(frame, self._later[within])

    def _over(self, frame: bytes | None, tone: bytes) -> bytes:
        return self._encode(tone if frame is None else g711.mix(self._decode(frame), tone))


def _wide(encoding: Encoding) -> Encoding:
    """Linear, at the encoding's rate."""
    return encoding if is_linear(encoding) else "L16"


def _frames(count: int, encoding: Encoding) -> list[bytes]:
    """A tone of ``count`` frames that fades in and out, frame by frame."""
    at = np.arange(count * g711.FRAME_BYTES) / _RATE_HZ
    fade = np.minimum(1.0, np.minimum(at, at[::-1]) / _RAMP_S)
    linear = np.rint(np.sin(2 * np.pi * _HZ * at) * fade * _LEVEL * 32767).astype(np.int16).tobytes()
    convert, size = Converter("L16", encoding), 2 * g711.FRAME_BYTES
    pieces = [convert(linear[start : start + size]) for start in range(0, len(linear), size)]
    # A change of rate gives its first piece a sample short; the tone ends in silence, so its last may be filled up.
    return list(_cut(b"".join(pieces), frame_bytes(encoding), count))


def _cut(audio: bytes, size: int, count: int) -> Iterator[bytes]:
    for index in range(count):
        frame = audio[index * size : (index + 1) * size]
        yield frame + bytes(size - len(frame))
