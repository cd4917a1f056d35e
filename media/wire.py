"""What an agreement makes of payloads: which pass as they are, which are read and written, and by which clock."""

from __future__ import annotations

from typing import Final

from media import g711
from media.agents.base import Encoding
from media.codecs import Reader, Writer, encoding_of
from media.codecs.opus import OpusConcealer, OpusDecoder
from media.concealment import Concealer
from media.rtp import timestamp_delta
from media.sdp import Codec, Negotiated

__all__ = ["Clock", "Wire"]

_UNITS_HZ: Final = 8000
_OPUS_SCALE: Final = 6
_MASK32: Final = 0xFFFFFFFF


class Clock:
    """Timestamps of an RTP clock that ticks ``scale`` times as fast as the jitter buffer's units, in those."""

    __slots__ = ("_last", "_position", "scale")

    def __init__(self, scale: int) -> None:
        self.scale = scale
        self._last: int | None = None
        self._position = 0

    def units(self, timestamp: int) -> int:
        """Modulo 2³², as a timestamp is."""
        if self._last is not None:
            self._position += timestamp_delta(timestamp, self._last)
        self._last = timestamp
        return self._position // self.scale & _MASK32


class Wire:
    """One phone leg's, in its ``encoding``. :meth:`agree` at every agreement; codecs that stay keep their state."""

    __slots__ = ("_encoding", "clock", "clock_rate_hz", "concealer", "laws", "readers", "writer")

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self.laws: dict[int, str] = {}
        """Payload types of G.711 that pass as bytes, by their law."""
        self.readers: dict[int, Reader] = {}
        """Payload types that are decoded."""
        self.writer: Writer | None = None
        """What encodes what we send; None for G.711 from G.711."""
        self.clock_rate_hz = _UNITS_HZ
        """Of what we send."""
        self.clock: Clock | None = None
        """Of the peer's timestamps, where they do not tick in units already."""
        self.concealer: Concealer | OpusConcealer = Concealer(encoding)

    def agree(self, agreed: Negotiated) -> None:
        """What is sent and taken from here on."""
        direct = self._encoding in g711.DECODERS
        named = {reader.name: reader for reader in self.readers.values()}
        self.laws, self.readers = {}, {}
        for codec in agreed.codecs:
            if direct and codec.name in g711.DECODERS:
                self.laws[codec.receive_payload_type] = codec.name
            else:
                reader = named.get(codec.name) or Reader(codec.name, self._encoding)
                self.readers[codec.receive_payload_type] = reader
        self._write(agreed.codec, direct)
        if self.clock is None and any(codec.clock_rate_hz != _UNITS_HZ for codec in agreed.codecs):
            self.clock = Clock(_OPUS_SCALE)
        self._choose_concealer(agreed.codec.name)

    def _write(self, codec: Codec, direct: bool) -> None:
        self.clock_rate_hz = codec.clock_rate_hz
        if direct and codec.name in g711.ENCODERS:
            self.writer = None
        elif self.writer is None or (self.writer.name, self.writer.parameters) != (codec.name, codec.parameters):
            self.writer = Writer(codec.name, self._encoding, codec.parameters)

    def _choose_concealer(self, name: str) -> None:
        """Opus has its own, inside its decoder, wherever its audio is not converted further."""
        decoder = next((reader.decoder for reader in self.readers.values() if reader.name == name), None)
        if isinstance(decoder, OpusDecoder) and self._encoding == encoding_of(name):
            if not (isinstance(self.concealer, OpusConcealer) and self.concealer.decoder is decoder):
                self.concealer = OpusConcealer(decoder)
        elif not isinstance(self.concealer, Concealer):
            self.concealer = Concealer(self._encoding)

    def begin_source(self) -> None:
        """Another SSRC: its decoders and its clock begin anew."""
        self.readers = {number: Reader(reader.name, self._encoding) for number, reader in self.readers.items()}
        if self.clock is not None:
            self.clock = Clock(_OPUS_SCALE)
        if isinstance(self.concealer, OpusConcealer):
            self._choose_concealer("OPUS")

    def units(self, reader: Reader, timestamp: int) -> int:
        """The place of a packet that ``reader`` reads, in the jitter buffer's units."""
        return self.clock.units(timestamp) if self.clock is not None and reader.name == "OPUS" else timestamp
