"""G.722: what it keeps of speech above 4 kHz, and that no bytes disturb it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.codecs.g722 import G722Decoder, G722Encoder

RATE_HZ = 16000


@pytest.mark.parametrize("hz", [300, 1000, 3000, 5000, 6500])
def test_a_tone_of_the_wide_band_comes_through(hz: float) -> None:
    said = (np.sin(2 * np.pi * hz * np.arange(8000) / RATE_HZ) * 8000).astype(np.int16).tobytes()
    encoder, decoder = G722Encoder(), G722Decoder()
    whole = b"".join(decoder.decode(encoder.encode(said[at : at + 640])) for at in range(0, len(said), 640))
    heard = np.frombuffer(whole, np.int16).astype(float)[1600:]
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard))))
    assert abs(np.fft.rfftfreq(len(heard), 1 / RATE_HZ)[spectrum.argmax()] - hz) < 20
    assert np.sqrt(np.mean(heard**2)) == pytest.approx(8000 / np.sqrt(2), rel=0.1)


def test_a_frame_is_160_bytes_under_a_clock_of_8_khz() -> None:
    """RFC 3551 §4.5.2."""
    payload, decoder = G722Encoder().encode(bytes(640)), G722Decoder()
    assert (len(payload), decoder.units(payload), len(decoder.decode(payload))) == (160, 160, 640)
    assert len(G722Encoder().encode(bytes(320))) == 80


@given(st.binary(max_size=400))
def test_any_bytes_decode_to_two_samples_each(payload: bytes) -> None:
    decoder = G722Decoder()
    assert len(decoder.decode(payload)) == 4 * decoder.units(payload)
