"""AudioSocket, Asterisk's TCP protocol for audio, spoken to an agent's own server as Asterisk speaks it.

:class:`Reader` and :func:`packet` are the protocol without I/O; :class:`AudioSocketAgent` joins them to a link. Each
packet is a type (1 byte), the payload's length (2 bytes, big-endian) and the payload; samples are linear 16-bit,
*little*-endian: https://docs.asterisk.org/Configuration/Channel-Drivers/AudioSocket
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from functools import partial
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from media.agents.base import AgentPort, BadAgent, Encoding, Host
from media.agents.linked import AgentLink, LinkedAgent
from media.convert import WholeSamples, little_endian
from media.messages import CallContext
from media.telephone_event import DIGITS

__all__ = ["AudioSocketAgent", "Kind", "Reader", "address_of", "packet", "stream_id"]

_HEADER_BYTES: Final = 3


class Kind(IntEnum):
    """A packet's type."""

    HANG_UP = 0x00
    UUID = 0x01
    DTMF = 0x03
    SLIN = 0x10
    SLIN16 = 0x12
    SLIN24 = 0x13
    SLIN48 = 0x16
    ERROR = 0xFF


_ENCODINGS: Final[dict[int, Encoding]] = {
    Kind.SLIN: "L16",
    Kind.SLIN16: "L16/16000",
    Kind.SLIN24: "L16/24000",
    Kind.SLIN48: "L16/48000",
}
"""What the agent may send; the edge itself sends the first two."""

_OURS: Final[dict[int, Kind]] = {8000: Kind.SLIN, 16000: Kind.SLIN16}


def packet(kind: int, payload: bytes = b"") -> bytes:
    """As it goes over the wire; the payload has 65535 bytes at most."""
    return bytes((kind, *divmod(len(payload), 256))) + payload


class Reader:
    """Cuts a stream into packets. It keeps what is incomplete: less than one packet, 65538 bytes."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    @property
    def incomplete(self) -> bool:
        """The stream ends, so far, within a packet."""
        return bool(self._rest)

    def read(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Type and payload of each packet that is complete now. Exhaust it before the next call."""
        if self._rest:
            data = self._rest + data
        at, end = 0, len(data)
        while end - at >= _HEADER_BYTES:
            after = at + _HEADER_BYTES + (data[at + 1] << 8 | data[at + 2])
            if after > end:
                break
            yield data[at], data[at + _HEADER_BYTES : after]
            at = after
        self._rest = data[at:]


def stream_id(context: CallContext, entropy: bytes) -> UUID:
    """The call's id, by which the agent can ask the API for the call; of 16 random bytes where it has none."""
    try:
        return UUID(context.call_id)
    except ValueError:
        return UUID(bytes=entropy)


def address_of(url: str | None) -> tuple[str, int]:
    """Host and port of ``audiosocket://host:port`` or ``tcp://host:port``. Raises :class:`BadAgent` for any other."""
    if not url:
        raise BadAgent("audiosocket needs a url")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise BadAgent("the agent's url cannot be read") from None
    plain = parts.path in ("", "/") and not parts.query and not parts.fragment and "@" not in parts.netloc
    if parts.scheme not in ("audiosocket", "tcp") or not host or not port or not plain:
        raise BadAgent("the agent's url is no audiosocket://HOST:PORT")
    return host, port


class AudioSocketAgent(LinkedAgent):
    """The agent behind ``spec.url``; it hears ``spec.sample_rate``, 8000 or 16000 Hz, and speaks as it likes.

    The protocol has no place for parameters, marks, clearing or events.
    """

    def __init__(self, host: Host) -> None:
        """Raises :class:`BadAgent` for a URL that is none, or another rate."""
        super().__init__(host)
        self._address = address_of(host.spec.url)
        rate_hz = host.spec.sample_rate or 8000
        if rate_hz not in _OURS:
            raise BadAgent("audiosocket carries 8000 or 16000 Hz")
        self._kind = _OURS[rate_hz]
        self.encoding = _ENCODINGS[self._kind]
        self._reader = Reader()
        self._whole = WholeSamples()
        self._leaving = False

    def on_digit(self, digit: str, duration_ms: int) -> None:
        """``DTMF``."""
        self._tell(partial(packet, Kind.DTMF, digit.encode("ascii")))

    def on_closed(self, orderly: bool, message: str) -> None:
        """The end of the stream is as good as a hang-up, but not within a packet."""
        super().on_closed(orderly and not self._reader.incomplete, message)

    def _connect(self, name: str, timeout_s: float) -> AgentLink:
        return self._host.streams.connect(*self._address, self, timeout_s, name)

    def _opened(self, port: AgentPort) -> None:
        if self._link is not None:
            id = stream_id(self._host.context, self._host.entropy(16))
            self._link.send(packet(Kind.UUID, id.bytes))
            port.started()

    def _audio(self, number: int, at_ms: int, frame: bytes) -> bytes:
        return packet(self._kind, little_endian(frame))

    def _farewell(self) -> bytes:
        return packet(Kind.HANG_UP)

    def _heard(self, data: bytes, text: bool, port: AgentPort) -> None:
        for kind, payload in self._reader.read(data):
            if not self._leaving:
                self._packet(kind, payload, port)

    def _packet(self, kind: int, payload: bytes, port: AgentPort) -> None:
        if (encoding := _ENCODINGS.get(kind)) is not None:
            port.play(little_endian(self._whole(payload)), encoding)
        elif kind == Kind.HANG_UP:
            self._leaving = True
            port.hang_up()
        elif kind == Kind.DTMF and (digit := _digit(payload)):
            port.send_digits(digit)
        elif kind == Kind.ERROR:
            self._leaving = True
            self._lose(f"the agent reports error {payload[:8].hex() or 'without a code'}")
        else:
            self._ignore()


def _digit(payload: bytes) -> str:
    """The digit of a ``DTMF`` packet; nothing for any other byte."""
    digit = payload.decode("ascii", "replace").upper()
    return digit if len(digit) == 1 and digit in DIGITS else ""
