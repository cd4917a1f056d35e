"""Opus (RFC 6716, RFC 7587) at 16 kHz, one channel, over the system's libopus.

opuslib-next has the functions' types; its own decode makes a list of every frame, so the buffers here are ours. Where
there is no libopus, Opus is simply not offered.
"""

from __future__ import annotations

import ctypes
import logging
from functools import cache
from typing import Any, Final

__all__ = ["OpusConcealer", "OpusDecoder", "OpusEncoder", "available", "parameters"]

log = logging.getLogger("truedy.media")

_SAMPLE_RATE_HZ: Final = 16000
_SAMPLES_PER_UNIT: Final = 2
"""A unit is a tick of 8 kHz, as in the jitter buffer."""
_FRAME: Final = 320
_LONGEST: Final = 1920
"""120 ms, the most that one packet holds (RFC 6716 §3.2)."""
_MAX_PACKET: Final = 1275
_BITRATE: Final = 24000
_COMPLEXITY: Final = 5
_LOSS_EXPECTED_PERCENT: Final = 5
_NARROWBAND, _MEDIUMBAND, _WIDEBAND = 1101, 1102, 1103

_SILK_UNITS: Final = (80, 160, 320, 480)
_HYBRID_UNITS: Final = (80, 160, 80, 160)
_CELT_UNITS: Final = (20, 40, 80, 160)
_LONGEST_UNITS: Final = 960
_SILENCE: Final = bytes(_FRAME * 2)


@cache
def available() -> bool:
    """Whether libopus is there. It is looked for once, which may take a while: not on a loop that has calls."""
    try:
        import opuslib_next  # noqa: F401, PLC0415 - it looks for the library as it is imported
    except Exception as error:  # it raises a bare Exception
        log.warning("Opus is not offered: %s", error)
        return False
    return True


@cache
def _library() -> Any:
    from opuslib_next.api import ctl, decoder, encoder  # noqa: PLC0415 - see available

    return ctl, encoder, decoder


def parameters(fmtp: str) -> dict[str, int]:
    """The numbers of a peer's fmtp (RFC 7587 §6.1); what is none is left out."""
    found: dict[str, int] = {}
    for item in fmtp.split(";")[:32]:
        name, _, value = item.strip().partition("=")
        if value.isascii() and value.isdecimal() and len(value) <= 9:
            found.setdefault(name.strip().lower(), int(value))
    return found


class OpusEncoder:
    """Frames of 10 or 20 ms, PCM16 at 16 kHz. ``fmtp`` says what the peer wishes for."""

    __slots__ = ("_control", "_encode", "_packet", "_state", "_with_fec")

    def __init__(self, fmtp: str = "") -> None:
        ctl, encoder, _ = _library()
        wishes = parameters(fmtp)
        self._state = _Owned(encoder.create_state(_SAMPLE_RATE_HZ, 1, 2048), encoder.destroy)
        self._encode = encoder.libopus_encode
        self._packet = ctypes.create_string_buffer(_MAX_PACKET)
        self._control: Any = encoder.encoder_ctl
        self._with_fec = wishes.get("useinbandfec") == 1
        bitrate = wishes.get("maxaveragebitrate", _BITRATE)
        self._set(ctl.set_bitrate, min(max(bitrate, 6000), _BITRATE))
        self._set(ctl.set_complexity, _COMPLEXITY)
        self._set(ctl.set_max_bandwidth, _bandwidth(wishes.get("maxplaybackrate", _SAMPLE_RATE_HZ)))
        if wishes.get("cbr") == 1:
            self._set(ctl.set_vbr, 0)
        if self._with_fec:
            self._set(ctl.set_inband_fec, 1)
            self._set(ctl.set_packet_loss_perc, _LOSS_EXPECTED_PERCENT)

    def _set(self, request: Any, value: int) -> None:
        self._control(self._state.pointer, request, value)

    def encode(self, pcm16: bytes) -> bytes:
        """One packet."""
        pointer = ctypes.cast(ctypes.c_char_p(pcm16), ctypes.POINTER(ctypes.c_int16))
        size = self._encode(self._state.pointer, pointer, len(pcm16) // 2, self._packet, _MAX_PACKET)
        return self._packet.raw[:size] if size > 0 else b""

    def expect_loss(self, share: float) -> None:
        """The peer loses this share of ours [0..1]: redundancy follows it, where the peer can use any."""
        if self._with_fec:
            percent = max(_LOSS_EXPECTED_PERCENT, min(round(share * 100), 30))
            self._set(_library()[0].set_packet_loss_perc, percent)


def _bandwidth(rate_hz: int) -> int:
    if rate_hz <= 8000:
        return _NARROWBAND
    return _MEDIUMBAND if rate_hz <= 12000 else _WIDEBAND


class OpusDecoder:
    """Every packet in the order of the stream, and a word for each 20 ms that is missing from it."""

    __slots__ = ("_decode", "_samples", "_state")

    def __init__(self) -> None:
        _, _, decoder = _library()
        self._state = _Owned(decoder.create_state(_SAMPLE_RATE_HZ, 1), decoder.destroy)
        self._decode = decoder.libopus_decode
        self._samples = (ctypes.c_int16 * _LONGEST)()

    def units(self, payload: bytes) -> int:
        """The packet's length in ticks of 8 kHz, by its first bytes (RFC 6716 §3.1, §3.2); 0 for what is no packet."""
        if not payload or len(payload) > _MAX_PACKET * 3:
            return 0
        configuration, code = payload[0] >> 3, payload[0] & 3
        if configuration < 12:
            units = _SILK_UNITS[configuration & 3]
        else:
            units = (_HYBRID_UNITS if configuration < 16 else _CELT_UNITS)[configuration & 3]
        if code == 3:
            units *= payload[1] & 0x3F if len(payload) > 1 else 0
        elif code:
            units *= 2
        return units if units <= _LONGEST_UNITS else 0

    def decode(self, payload: bytes) -> bytes:
        """The packet's audio; what cannot be decoded is concealed for its length."""
        made = self._made(payload, len(payload), _LONGEST, 0)
        return made if made else self.conceal(self.units(payload) * _SAMPLES_PER_UNIT or _FRAME)

    def recover(self, following: bytes) -> bytes:
        """20 ms that were lost, from what the packet after them says of them (its redundancy), else concealment."""
        return self._made(following, len(following), _FRAME, 1) or self.conceal()

    def conceal(self, samples: int = _FRAME) -> bytes:
        """As many samples in place of what did not come, in steps of 2.5 ms."""
        return self._made(None, 0, samples, 0) or bytes(samples * 2)

    def _made(self, payload: bytes | None, size: int, samples: int, redundant: int) -> bytes:
        count = self._decode(self._state.pointer, payload, size, self._samples, samples, redundant)
        return ctypes.string_at(self._samples, count * 2) if count > 0 else b""


class OpusConcealer:
    """What is heard of an Opus stream at its own 16 kHz: its decoder's concealment, helped by the next packet's
    redundancy. As :class:`media.concealment.Concealer`.
    """

    PAUSE_FRAMES: Final = 25
    """A sender that leaves silence out (DTX) sends something in this time; until then its decoder's noise goes on."""

    __slots__ = ("_paused", "decoder")

    def __init__(self, decoder: OpusDecoder) -> None:
        self.decoder = decoder
        self._paused = self.PAUSE_FRAMES

    def good(self, frame: bytes) -> bytes:
        """A frame has come."""
        self._paused = 0
        return frame

    def lost(self, following: bytes | None = None) -> bytes:
        """A frame has not come; ``following`` is the packet right after it, where that is here already."""
        return self.decoder.recover(following) if following is not None else self.decoder.conceal()

    def pause(self) -> bytes:
        """The stream pauses."""
        self._paused += 1
        return self.decoder.conceal() if self._paused <= self.PAUSE_FRAMES else _SILENCE


class _Owned:
    """A state of libopus, given back with its owner."""

    __slots__ = ("_destroy", "pointer")

    def __init__(self, pointer: Any, destroy: Any) -> None:
        self.pointer, self._destroy = pointer, destroy

    def __del__(self) -> None:
        self._destroy(self.pointer)
