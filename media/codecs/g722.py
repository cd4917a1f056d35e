"""G.722 at 64 kbit/s: 16 kHz audio under an RTP clock of 8 kHz, a byte for each tick of it (RFC 3551 §4.5.2)."""

from __future__ import annotations

import numpy as np
from G722 import G722

__all__ = ["G722Decoder", "G722Encoder"]

_SAMPLE_RATE_HZ = 16000
_BIT_RATE = 64000


class G722Encoder:
    """PCM16 at 16 kHz in, an even number of samples; half as many bytes out."""

    __slots__ = ("_codec",)

    def __init__(self) -> None:
        self._codec = G722(_SAMPLE_RATE_HZ, _BIT_RATE)

    def encode(self, pcm16: bytes) -> bytes:
        """The next piece of the stream."""
        encoded: bytes = self._codec.encode(np.frombuffer(pcm16, np.int16))
        return encoded

    def expect_loss(self, share: float) -> None:
        """There is nothing to prepare for it."""


class G722Decoder:
    """Any bytes decode: there is no malformed G.722."""

    __slots__ = ("_codec",)

    def __init__(self) -> None:
        self._codec = G722(_SAMPLE_RATE_HZ, _BIT_RATE)

    def units(self, payload: bytes) -> int:
        """Its length in ticks of 8 kHz."""
        return len(payload)

    def decode(self, payload: bytes) -> bytes:
        """The next packet of the stream: two samples a byte."""
        return bytes(self._codec.decode(payload))
