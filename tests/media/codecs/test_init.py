"""Readers and writers: any codec to and from any encoding of a leg, in whole frames."""

from __future__ import annotations

import numpy as np
import pytest

from media import g711
from media.agents.base import Encoding
from media.codecs import Coded, Reader, Writer, encoding_of, known, opus
from media.convert import frame_bytes, rate_hz

CODECS = ("PCMU", "PCMA", "G722", *(("OPUS",) if opus.available() else ()))
ENCODINGS: tuple[Encoding, ...] = ("PCMU", "PCMA", "L16/16000")


def sine(hz: float, encoding: Encoding) -> bytes:
    """A second of it."""
    rate = rate_hz(encoding)
    pcm16 = (np.sin(2 * np.pi * hz * np.arange(rate) / rate) * 8000).astype(np.int16).tobytes()
    return g711.ENCODERS[encoding](pcm16) if encoding in g711.ENCODERS else pcm16


def through(codec: str, encoding: Encoding, audio: bytes) -> np.ndarray:  # type: ignore[type-arg]
    """The last three quarters of what is heard."""
    writer, reader, size = Writer(codec, encoding), Reader(codec, encoding), frame_bytes(encoding)
    heard = b""
    for at in range(0, len(audio), size):
        coded = reader.packet(writer.write(audio[at : at + size]))
        assert coded is not None and len(coded) == 160
        assert coded.audio() is coded.audio()
        heard += coded.audio()
    assert len(heard) == len(audio)
    pcm16 = g711.DECODERS[encoding](heard) if encoding in g711.DECODERS else heard
    return np.frombuffer(pcm16, np.int16).astype(float)[rate_hz(encoding) // 4 :]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("codec", CODECS)
def test_a_tone_goes_through_every_codec_in_every_encoding(codec: str, encoding: Encoding) -> None:
    samples = through(codec, encoding, sine(1000, encoding))
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    assert abs(np.fft.rfftfreq(len(samples), 1 / rate_hz(encoding))[spectrum.argmax()] - 1000) < 5
    assert np.sqrt(np.mean(samples**2)) == pytest.approx(8000 / np.sqrt(2), rel=0.15)


@pytest.mark.parametrize("codec", [name for name in CODECS if name in ("G722", "OPUS")])
def test_wideband_is_not_led_through_8_khz(codec: str) -> None:
    assert np.sqrt(np.mean(through(codec, "L16/16000", sine(6000, "L16/16000")) ** 2)) > 5000


def test_what_is_no_packet_is_none() -> None:
    assert all(Reader(codec, "L16/16000").packet(b"") is None for codec in CODECS)


def test_a_payload_is_as_long_as_its_units_whatever_its_decoder_makes() -> None:
    class Odd:
        def units(self, payload: bytes) -> int:
            return 160

        def decode(self, payload: bytes) -> bytes:
            return payload * 50

    reader = Reader("G722", "L16/16000")
    reader.decoder = Odd()
    for payload in (b"a", b"ab" * 20):
        coded = reader.packet(payload)
        assert isinstance(coded, Coded)
        assert len(coded.audio()) == 640


def test_only_codecs_that_can_be_spoken_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert known(("G722", "G729", "PCMU")) == ("G722", "PCMU")
    monkeypatch.setattr(opus, "available", lambda: False)
    assert known(("OPUS", "PCMA")) == ("PCMA",)


def test_a_codecs_encoding_is_its_law_or_its_real_rate() -> None:
    assert [encoding_of(name) for name in ("PCMU", "PCMA", "G722", "OPUS")] == ["PCMU", "PCMA", *["L16/16000"] * 2]
