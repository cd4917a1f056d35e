"""Opus over the system's libopus: packets of every length, what is lost, what is malformed, and what the peer asks."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.codecs import opus
from media.codecs.opus import OpusConcealer, OpusDecoder, OpusEncoder, parameters
from tests.support.opus import needs_opus

pytestmark = needs_opus

RATE_HZ = 16000


def sine(hz: float, seconds: float = 1.0) -> bytes:
    return (np.sin(2 * np.pi * hz * np.arange(int(RATE_HZ * seconds)) / RATE_HZ) * 8000).astype(np.int16).tobytes()


def speech(seconds: float = 2.0) -> bytes:
    """Harmonics that come and go, four syllables a second."""
    at = np.arange(int(RATE_HZ * seconds)) / RATE_HZ
    sound = np.sum([np.sin(2 * np.pi * 140 * k * at + k) / k for k in range(1, 30)], axis=0)
    return np.asarray(sound * 3000 * (1 - np.cos(2 * np.pi * 4 * at)) / 2).astype(np.int16).tobytes()


def frames(pcm16: bytes) -> list[bytes]:
    return [pcm16[at : at + 640] for at in range(0, len(pcm16), 640)]


def level(pcm16: bytes) -> float:
    return float(np.sqrt(np.mean(np.frombuffer(pcm16, np.int16).astype(float) ** 2)))


@pytest.mark.parametrize("hz", [300, 1000, 5000, 7000])
def test_a_tone_of_the_wide_band_comes_through(hz: float) -> None:
    encoder, decoder = OpusEncoder(), OpusDecoder()
    heard = b"".join(decoder.decode(encoder.encode(frame)) for frame in frames(sine(hz)))
    assert len(heard) == 2 * RATE_HZ
    samples = np.frombuffer(heard[RATE_HZ:], np.int16).astype(float)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    assert abs(np.fft.rfftfreq(len(samples), 1 / RATE_HZ)[spectrum.argmax()] - hz) < 20


def test_a_frame_of_10_ms_is_a_packet_too() -> None:
    payload, decoder = OpusEncoder().encode(bytes(320)), OpusDecoder()
    assert (decoder.units(payload), len(decoder.decode(payload))) == (80, 320)


@pytest.mark.parametrize(
    ("payload", "units"),
    [
        (b"\x08", 160),  # SILK, 20 ms
        (b"\x18", 480),  # SILK, 60 ms
        (b"\x19", 960),  # two of them
        (b"\x60", 80),  # hybrid, 10 ms
        (b"\x80", 20),  # CELT, 2.5 ms
        (b"\x98", 160),  # CELT, 20 ms
        (b"\x0b\x03", 480),  # three of 20 ms
        (b"\x1b\x03", 0),  # 180 ms are more than a packet may have
        (b"\x0b\x00", 0),
        (b"\x0b", 0),
        (b"", 0),
    ],
)
def test_a_packets_length_is_in_its_first_bytes(payload: bytes, units: int) -> None:
    """RFC 6716 §3.1 and §3.2."""
    assert OpusDecoder().units(payload) == units


@given(st.binary(max_size=200))
def test_no_packet_raises(payload: bytes) -> None:
    decoder = OpusDecoder()
    units = decoder.units(payload)
    assert 0 <= units <= 960
    if units:
        assert len(decoder.decode(payload)) == 4 * units
    assert len(decoder.recover(payload)) == 640


def test_a_lost_frame_is_concealed_and_better_with_the_next_packets_redundancy() -> None:
    """RFC 6716 §2.1.7: in-band FEC, which the peer's fmtp asks for and a loss that it reports strengthens."""
    encoder = OpusEncoder("useinbandfec=1")
    encoder.expect_loss(0.3)
    packets = [encoder.encode(frame) for frame in frames(speech())]
    whole = OpusDecoder()
    right = [np.frombuffer(whole.decode(packet), np.int16).astype(float) for packet in packets]
    errors = {}
    for way in ("conceal", "recover"):
        decoder, errors[way] = OpusDecoder(), 0.0
        for at, packet in enumerate(packets[:-1]):
            if at % 10 == 5:
                made = decoder.recover(packets[at + 1]) if way == "recover" else decoder.conceal()
                assert len(made) == 640
                errors[way] += float(np.mean((np.frombuffer(made, np.int16) - right[at]) ** 2))
            else:
                decoder.decode(packet)
    assert errors["recover"] < errors["conceal"] * 0.7


def test_a_pause_has_the_decoders_noise_for_a_while_and_then_silence() -> None:
    """DTX leaves silence out: something comes at least every 400 ms (RFC 6716 §2.1.9)."""
    encoder, decoder = OpusEncoder(), OpusDecoder()
    concealer = OpusConcealer(decoder)
    assert concealer.pause() == bytes(640)
    for frame in frames(speech(0.5)):
        heard = decoder.decode(encoder.encode(frame))
        assert concealer.good(heard) is heard
    paused = [concealer.pause() for _ in range(60)]
    assert level(paused[0]) > 0
    assert paused[25:] == [bytes(640)] * 35


def test_a_long_loss_fades() -> None:
    encoder, decoder = OpusEncoder(), OpusDecoder()
    concealer, last = OpusConcealer(decoder), b""
    for frame in frames(sine(400, 0.4)):
        last = decoder.decode(encoder.encode(frame))
    lost = [concealer.lost() for _ in range(60)]
    assert {len(each) for each in lost} == {640}
    assert level(lost[0]) > level(last) / 3
    assert level(lost[-1]) < level(last) / 10


def test_a_narrowband_peer_is_sent_no_more_than_it_plays() -> None:
    """RFC 7587 §6.1: maxplaybackrate."""
    encoder, decoder = OpusEncoder("maxplaybackrate=8000"), OpusDecoder()
    heard = b"".join(decoder.decode(encoder.encode(frame)) for frame in frames(sine(6000)))
    assert level(heard[RATE_HZ:]) < 8000 / 50
    assert [opus._bandwidth(rate) for rate in (8000, 12000, 16000, 48000)] == [1101, 1102, 1103, 1103]


@pytest.mark.parametrize("fmtp", ["maxaveragebitrate=8000", "maxaveragebitrate=8000;cbr=1"])
def test_the_peers_bitrate_is_kept_to(fmtp: str) -> None:
    encoder, free = OpusEncoder(fmtp), OpusEncoder("maxaveragebitrate=999999")
    assert sum(len(encoder.encode(frame)) for frame in frames(speech(1.0))) < 1300
    assert sum(len(free.encode(frame)) for frame in frames(speech(1.0))) < 4500


def test_a_peers_parameters_are_read_and_nonsense_is_left_out() -> None:
    """RFC 7587 §6.1."""
    assert parameters("maxplaybackrate=16000; STEREO=0;useinbandfec=1;x;=;y=z;cbr=-1;maxptime=99999999999") == {
        "maxplaybackrate": 16000,
        "stereo": 0,
        "useinbandfec": 1,
    }


@given(st.text(max_size=100))
def test_no_fmtp_raises(fmtp: str) -> None:
    assert OpusEncoder(fmtp).encode(bytes(640))


def test_without_the_library_opus_is_not_there_and_the_log_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opuslib_next", None)
    spec = importlib.util.find_spec("media.codecs.opus")
    assert spec is not None and spec.loader is not None
    fresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fresh)
    assert not fresh.available() and not fresh.available()
    assert len([record for record in caplog.records if "Opus is not offered" in record.message]) == 1
