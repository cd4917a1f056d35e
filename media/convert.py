"""Between the encodings of :data:`media.agents.base.Encoding`: laws, linear samples, sample rates."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from media import g711
from media.resample import Resampler

if TYPE_CHECKING:
    from media.agents.base import Encoding

__all__ = [
    "LINEAR",
    "Converter",
    "Converters",
    "WholeSamples",
    "decoder",
    "encoder",
    "frame_bytes",
    "is_linear",
    "little_endian",
    "rate_hz",
    "silence",
]

LINEAR: Final[Mapping[int, Encoding]] = {
    8000: "L16",
    16000: "L16/16000",
    24000: "L16/24000",
    48000: "L16/48000",
}
"""Linear samples by their rate [Hz]."""


def is_linear(encoding: Encoding) -> bool:
    """16-bit samples, whatever their rate."""
    return encoding.startswith("L16")


def rate_hz(encoding: Encoding) -> int:
    """Its sample rate [Hz]."""
    _, _, rate = encoding.partition("/")
    return int(rate) if rate else g711.SAMPLE_RATE_HZ


def frame_bytes(encoding: Encoding) -> int:
    """20 ms of it."""
    return rate_hz(encoding) // 50 * (2 if is_linear(encoding) else 1)


def decoder(encoding: Encoding) -> Callable[[bytes], bytes]:
    """What makes linear samples of it, at its own rate."""
    return _as_it_is if is_linear(encoding) else g711.DECODERS[encoding]


def encoder(encoding: Encoding) -> Callable[[bytes], bytes]:
    """The way back."""
    return _as_it_is if is_linear(encoding) else g711.ENCODERS[encoding]


def _as_it_is(audio: bytes) -> bytes:
    return audio


def little_endian(samples: bytes, host: str = sys.byteorder) -> bytes:
    """Whole 16-bit samples from the host's byte order to little-endian, or back: the same bytes on most machines."""
    return samples if host == "little" else g711.swap_bytes(samples)


def silence(encoding: Encoding) -> bytes:
    """20 ms of nothing."""
    return bytes(frame_bytes(encoding)) if is_linear(encoding) else g711.silence(encoding)


class WholeSamples:
    """Puts 16-bit samples together again that a stream's messages have cut in halves."""

    __slots__ = ("_half",)

    def __init__(self) -> None:
        self._half = b""

    def __call__(self, data: bytes) -> bytes:
        """The whole samples of what has come; half a one waits for the next piece."""
        if self._half:
            data, self._half = self._half + data, b""
        if len(data) & 1:
            data, self._half = data[:-1], data[-1:]
        return data

    def clear(self) -> None:
        """What comes next begins with a whole sample."""
        self._half = b""


class Converter:
    """One direction of one stream: it remembers what a change of rate needs of the piece before."""

    __slots__ = ("_resample", "_source", "_target", "_whole")

    def __init__(self, source: Encoding, target: Encoding) -> None:
        self._source, self._target = source, target
        rates = rate_hz(source), rate_hz(target)
        self._resample = Resampler(*rates) if rates[0] != rates[1] else None
        self._whole = WholeSamples()

    def __call__(self, audio: bytes) -> bytes:
        """The next piece, of any length; half a linear sample at its end waits for the other half."""
        source, target = self._source, self._target
        if not is_linear(source) and not is_linear(target):
            return g711.transcode(audio, source, target)
        linear = self._whole(audio) if is_linear(source) else g711.DECODERS[source](audio)
        if self._resample is not None:
            linear = self._resample(linear)
        return linear if is_linear(target) else g711.ENCODERS[target](linear)


class Converters(dict["tuple[Encoding, Encoding]", Converter]):
    """Of all that a call converts, ``converters[source, target]``: each is made when it is first wanted, and kept."""

    def __missing__(self, pair: tuple[Encoding, Encoding]) -> Converter:
        converter = self[pair] = Converter(*pair)
        return converter
