"""Laws, linear samples and rates, piece by piece."""

from __future__ import annotations

import numpy as np
import pytest

from media import g711
from media.agents.base import Encoding
from media.convert import (
    LINEAR,
    Converter,
    Converters,
    WholeSamples,
    decoder,
    encoder,
    frame_bytes,
    is_linear,
    little_endian,
    rate_hz,
)


@pytest.mark.parametrize(
    ("encoding", "rate", "size"),
    [
        ("PCMU", 8000, 160),
        ("PCMA", 8000, 160),
        ("L16", 8000, 320),
        ("L16/16000", 16000, 640),
        ("L16/48000", 48000, 1920),
    ],
)
def test_an_encoding_says_its_rate_and_the_size_of_its_frames(encoding: Encoding, rate: int, size: int) -> None:
    assert rate_hz(encoding) == rate
    assert frame_bytes(encoding) == size
    assert is_linear(encoding) == encoding.startswith("L16")


def test_laws_are_changed_without_a_detour() -> None:
    every = bytes(range(256))
    assert Converter("PCMU", "PCMA")(every) == g711.transcode(every, "PCMU", "PCMA")
    assert Converter("PCMA", "L16")(every) == g711.decode_alaw(every)
    assert Converter("L16", "PCMU")(g711.decode_ulaw(every)) == g711.encode_ulaw(g711.decode_ulaw(every))


@pytest.mark.parametrize("pieces", [[b"abcd"], [b"a", b"b", b"c", b"d"], [b"abc", b"d"], [b"", b"a", b"bcd"]])
def test_halved_samples_are_put_together(pieces: list[bytes]) -> None:
    whole = WholeSamples()
    out = [whole(piece) for piece in pieces]
    assert b"".join(out) == b"abcd"
    assert all(len(piece) % 2 == 0 for piece in out)


def test_after_a_clear_no_half_sample_is_left() -> None:
    whole = WholeSamples()
    whole(b"abc")
    whole.clear()
    assert whole(b"ef") == b"ef"


def test_half_a_sample_waits_for_its_other_half() -> None:
    convert = Converter("L16", "PCMU")
    linear = g711.decode_ulaw(b"\x10\x20\x30")
    assert convert(linear[:3]) + convert(linear[3:4]) + convert(linear[4:]) == b"\x10\x20\x30"


@pytest.mark.parametrize("rate", [16000, 24000, 48000])
def test_a_tone_keeps_its_pitch_and_its_length_at_another_rate(rate: int) -> None:
    """In frames of 20 ms, as the bridge has them."""
    tone = (8000 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)).astype(np.int16).tobytes()
    convert = Converter("L16", LINEAR[rate])
    out = np.frombuffer(b"".join(convert(tone[at : at + 320]) for at in range(0, len(tone), 320)), dtype=np.int16)
    assert abs(len(out) - rate) <= rate // 1000
    spectrum = np.abs(np.fft.rfft(out[: rate // 2].astype(float)))
    assert abs(int(spectrum.argmax()) * 2 - 440) <= 2


def test_each_stream_of_a_call_has_a_converter_that_stays() -> None:
    converters = Converters()
    assert converters["L16", "PCMU"] is converters["L16", "PCMU"]
    assert converters["PCMU", "L16"](b"\x10") == g711.decode_ulaw(b"\x10")


@pytest.mark.parametrize("encoding", ["PCMU", "PCMA", "L16", "L16/16000"])
def test_every_encoding_has_linear_samples_and_a_way_back(encoding: Encoding) -> None:
    audio = bytes(range(0x10, 0x20))
    linear = decoder(encoding)(audio)
    assert len(linear) == len(audio) * (1 if is_linear(encoding) else 2)
    assert encoder(encoding)(linear) == audio


def test_little_endian_swaps_on_a_big_endian_machine_only() -> None:
    assert little_endian(b"\x01\x02\x03\x04", "little") == b"\x01\x02\x03\x04"
    assert little_endian(b"\x01\x02\x03\x04", "big") == b"\x02\x01\x04\x03"
