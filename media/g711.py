"""G.711 μ-law (PCMU) and A-law (PCMA), 8 kHz mono; linear samples are 16-bit in host byte order.

The one place that imports ``audioop``: in the standard library up to 3.12, from ``audioop-lts``
after. Laws are named by their RTP encoding name (RFC 3551 §4.5.14). No function here raises for
any byte it is given; an odd number of linear bytes is a caller's mistake (``audioop.error``).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import audioop

__all__ = [
    "DECODERS",
    "ENCODERS",
    "FRAME_BYTES",
    "LEVELS",
    "PCMA",
    "PCMU",
    "SAMPLE_RATE_HZ",
    "SILENCE_BYTE",
    "decode_alaw",
    "decode_ulaw",
    "encode_alaw",
    "encode_ulaw",
    "level",
    "mix",
    "silence",
    "swap_bytes",
    "transcode",
]

PCMU: Final = "PCMU"
PCMA: Final = "PCMA"

SAMPLE_RATE_HZ: Final = 8000
FRAME_BYTES: Final = 160
"""One 20 ms frame, in bytes of G.711 (and in samples)."""

SILENCE_BYTE: Final[Mapping[str, int]] = MappingProxyType({PCMU: 0xFF, PCMA: 0xD5})
"""Positive zero of each law."""


def decode_ulaw(data: bytes) -> bytes:
    """μ-law → linear 16-bit."""
    return audioop.ulaw2lin(data, 2)


def encode_ulaw(pcm16: bytes) -> bytes:
    """Linear 16-bit → μ-law; clips at ±32635."""
    return audioop.lin2ulaw(pcm16, 2)


def decode_alaw(data: bytes) -> bytes:
    """A-law → linear 16-bit."""
    return audioop.alaw2lin(data, 2)


def encode_alaw(pcm16: bytes) -> bytes:
    """Linear 16-bit → A-law."""
    return audioop.lin2alaw(pcm16, 2)


DECODERS: Final[Mapping[str, Callable[[bytes], bytes]]] = MappingProxyType({PCMU: decode_ulaw, PCMA: decode_alaw})
ENCODERS: Final[Mapping[str, Callable[[bytes], bytes]]] = MappingProxyType({PCMU: encode_ulaw, PCMA: encode_alaw})

_ALL_CODES: Final = bytes(range(256))
_ULAW_TO_ALAW: Final = encode_alaw(decode_ulaw(_ALL_CODES))
_ALAW_TO_ULAW: Final = encode_ulaw(decode_alaw(_ALL_CODES))


def transcode(data: bytes, source: str, target: str) -> bytes:
    """One law's bytes in the other; the same object when both are the same law."""
    if source == target:
        return data
    return data.translate(_ULAW_TO_ALAW if source == PCMU else _ALAW_TO_ULAW)


def mix(one: bytes, other: bytes) -> bytes:
    """Linear samples of both at once; clips."""
    return audioop.add(one, other, 2)


def level(pcm16: bytes) -> int:
    """The root mean square of linear samples: 0 to 32767; 0 for none."""
    return audioop.rms(pcm16, 2)


def _level_ulaw(data: bytes) -> int:
    return audioop.rms(audioop.ulaw2lin(data, 2), 2)


def _level_alaw(data: bytes) -> int:
    return audioop.rms(audioop.alaw2lin(data, 2), 2)


LEVELS: Final[Mapping[str, Callable[[bytes], int]]] = MappingProxyType({PCMU: _level_ulaw, PCMA: _level_alaw})
"""What :func:`level` says of each law's bytes."""


def swap_bytes(pcm16: bytes) -> bytes:
    """Each linear sample with its two bytes the other way round."""
    return audioop.byteswap(pcm16, 2)


def silence(law: str, count: int = FRAME_BYTES) -> bytes:
    """``count`` samples of silence in the law's bytes."""
    return bytes((SILENCE_BYTE[law],)) * count
