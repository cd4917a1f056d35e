"""The codecs beside G.711, between a packet's payload and audio of the phone leg's own encoding.

A phone leg has one encoding inside for its whole life. What comes in another codec is read into it, and written from
it, by the classes here; G.711 of the leg's own law passes by them. A *unit* is a tick of 8 kHz, the jitter buffer's.
"""

from __future__ import annotations

from typing import Final, Protocol

from media import g711
from media.agents.base import Encoding
from media.codecs import opus
from media.codecs.g722 import G722Decoder, G722Encoder
from media.convert import Converter, frame_bytes
from media.formats import FORMATS

__all__ = ["UNITS_PER_FRAME", "Coded", "Reader", "Writer", "encoding_of", "known"]

UNITS_PER_FRAME: Final = 160
_WIDE: Final[Encoding] = "L16/16000"


class Decoder(Protocol):
    """Payloads in the order of the stream."""

    def units(self, payload: bytes) -> int:
        """How long it lasts; 0 for what is no payload of this codec."""

    def decode(self, payload: bytes) -> bytes:
        """Its audio."""


class Encoder(Protocol):
    """Frames of 10 or 20 ms in the order of the stream."""

    def encode(self, pcm16: bytes) -> bytes:
        """Its payload."""

    def expect_loss(self, share: float) -> None:
        """The peer loses this share of what we send [0..1]."""


def known(names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of ``names`` that can be spoken here, in their order: Opus needs a library of the system's."""
    return tuple(name for name in names if name in FORMATS and (name != "OPUS" or opus.available()))


def encoding_of(name: str) -> Encoding:
    """What audio of a codec is inside: its own law, or linear samples at the rate it really has."""
    match name:
        case "PCMU":
            return "PCMU"
        case "PCMA":
            return "PCMA"
        case _:
            return _WIDE


class Coded:
    """A payload in the jitter buffer, as long as its units, and decoded when its turn has come."""

    __slots__ = ("_audio", "_reader", "_units", "payload")

    def __init__(self, reader: Reader, payload: bytes, units: int) -> None:
        self.payload = payload
        self._reader = reader
        self._units = units
        self._audio: bytes | None = None

    def __len__(self) -> int:
        return self._units

    def audio(self) -> bytes:
        """What is heard; the first time it is asked for is its place in the decoder's stream."""
        if self._audio is None:
            self._audio = self._reader.read(self.payload, self._units)
        return self._audio


class _Law:
    """G.711 as one codec among others, for a leg whose encoding is another."""

    def units(self, payload: bytes) -> int:
        return len(payload)

    def decode(self, payload: bytes) -> bytes:
        return payload

    def encode(self, pcm16: bytes) -> bytes:
        return pcm16

    def expect_loss(self, share: float) -> None:
        pass


class Reader:
    """One codec's payloads as audio in ``encoding``."""

    __slots__ = ("_convert", "_unit_bytes", "decoder", "name")

    def __init__(self, name: str, encoding: Encoding) -> None:
        self.name = name
        self.decoder: Decoder = _decoder(name)
        own = encoding_of(name)
        self._convert = Converter(own, encoding) if own != encoding else None
        self._unit_bytes = frame_bytes(encoding) // UNITS_PER_FRAME

    def packet(self, payload: bytes) -> Coded | None:
        """For the jitter buffer; None for what is no payload of this codec."""
        units = self.decoder.units(payload)
        return Coded(self, payload, units) if units else None

    def read(self, payload: bytes, units: int) -> bytes:
        """The next payload of the stream, exactly as long as its units say."""
        audio = self.decoder.decode(payload)
        if self._convert is not None:
            audio = self._convert(audio)
        size = units * self._unit_bytes
        return audio if len(audio) == size else audio[:size].ljust(size, b"\0")


class Writer:
    """Audio in ``encoding`` as one codec's payloads. ``parameters``: the peer's fmtp."""

    __slots__ = ("_convert", "_encoder", "name", "parameters")

    def __init__(self, name: str, encoding: Encoding, parameters: str = "") -> None:
        self.name, self.parameters = name, parameters
        self._encoder: Encoder = _encoder(name, parameters)
        own = encoding_of(name)
        self._convert = Converter(encoding, own) if own != encoding else None

    def write(self, audio: bytes) -> bytes:
        """The next 10 or 20 ms; nothing where the codec has nothing to say."""
        return self._encoder.encode(self._convert(audio) if self._convert is not None else audio)

    def expect_loss(self, share: float) -> None:
        """The peer loses this share of what we send [0..1]."""
        self._encoder.expect_loss(share)


def _decoder(name: str) -> Decoder:
    if name in g711.DECODERS:
        return _Law()
    return opus.OpusDecoder() if name == "OPUS" else G722Decoder()


def _encoder(name: str, parameters: str) -> Encoder:
    if name in g711.ENCODERS:
        return _Law()
    return opus.OpusEncoder(parameters) if name == "OPUS" else G722Encoder()
