"""Packet loss concealment: its seams, its fading, and how speech sounds with 5 % lost."""

from __future__ import annotations

import random
import timeit
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from media import g711
from media.concealment import Concealer

FRAME = 160
Samples = NDArray[np.float64]


def samples(law: str, data: bytes) -> Samples:
    return np.frombuffer(g711.DECODERS[law](data), np.int16).astype(np.float64)


def tone(hertz: float, count: int, law: str = g711.PCMU, level: float = 8000) -> bytes:
    wave = level * np.sin(2 * np.pi * hertz * np.arange(count) / 8000)
    return g711.ENCODERS[law](wave.astype(np.int16).tobytes())


def frames(data: bytes) -> list[bytes]:
    return [data[at : at + FRAME] for at in range(0, len(data), FRAME)]


def conceal(data: bytes, lost: set[int], law: str = g711.PCMU) -> bytes:
    concealer = Concealer(law)
    return b"".join(
        concealer.lost() if index in lost else concealer.good(frame) for index, frame in enumerate(frames(data))
    )


def level(frame: Samples) -> float:
    return float(np.sqrt(np.mean(frame**2)))


@pytest.mark.parametrize("law", [g711.PCMU, g711.PCMA])
def test_without_loss_the_output_is_the_input(law: str) -> None:
    """Bit for bit, and without the delay of G.711 Appendix I §I.2.2."""
    data = bytes(random.Random(1).randbytes(50 * FRAME))
    assert conceal(data, set(), law) == data


@pytest.mark.parametrize("law", [g711.PCMU, g711.PCMA])
@pytest.mark.parametrize("hertz", [100, 160, 200])
def test_a_lost_frame_of_a_steady_tone_is_hardly_to_be_told(hertz: float, law: str) -> None:
    """§I.2.3: the pitch, where it is a whole number of samples, is found, and repeated in phase."""
    data = tone(hertz, 20 * FRAME, law)
    heard, meant = samples(law, conceal(data, {10}, law)), samples(law, data)
    error = heard - meant
    assert level(error) < 0.2 * level(meant)
    first_10_ms = error[10 * FRAME : 10 * FRAME + 80]
    assert level(first_10_ms) < 0.05 * level(meant)


def test_concealment_fades_by_a_fifth_every_10_ms_and_is_silence_after_60() -> None:
    """§I.2.7."""
    heard = samples(g711.PCMU, conceal(tone(200, 20 * FRAME), set(range(10, 16))))
    loss = heard[10 * FRAME :]
    levels = [level(loss[at : at + 80]) / level(loss[:80]) for at in range(0, 640, 80)]
    assert levels == pytest.approx([1, 0.9, 0.7, 0.5, 0.3, 0.115, 0, 0], abs=0.03)
    assert not loss[480 : 5 * FRAME].any()


def test_both_seams_are_free_of_steps() -> None:
    """§I.2.4, §I.2.8: no sample differs from the one before by more than the tone's own slope and a half."""
    for lost in ({10}, {10, 11}, {10, 11, 12}, {10, 13, 16}):
        heard = samples(g711.PCMU, conceal(tone(190, 30 * FRAME), lost))
        assert np.abs(np.diff(heard)).max() < 1.5 * 8000 * 2 * np.pi * 190 / 8000


@pytest.mark.parametrize("hertz", [40, 50, 60])
def test_the_repeated_wave_has_no_step_where_it_goes_round(hertz: float) -> None:
    """§I.2.4: not even of a hum below any pitch, where what is joined is far apart; over one, two and three periods."""
    data = tone(hertz, 20 * FRAME, level=20000)
    heard = samples(g711.PCMU, conceal(data, {10, 11, 12}))
    own = np.abs(np.diff(samples(g711.PCMU, data))).max()
    assert np.abs(np.diff(heard[10 * FRAME : 13 * FRAME])).max() < 2.5 * own


@pytest.mark.parametrize(("lost", "samples_faded"), [(1, 10 + 32), (2, 80), (5, 80)])
def test_the_longer_the_loss_the_slower_speech_comes_back(lost: int, samples_faded: int) -> None:
    """§I.2.8: a quarter of the pitch (40 here), and 4 ms more for every 10 ms lost, 10 ms at most."""
    spoken, later = tone(200, 10 * FRAME), bytes(random.Random(2).randbytes(20 * FRAME))
    data = spoken + later
    heard = conceal(data, set(range(10, 10 + lost)))
    resumed = (10 + lost) * FRAME
    assert heard[resumed + samples_faded :] == data[resumed + samples_faded :]
    faded = zip(heard[resumed:], data[resumed : resumed + samples_faded], strict=False)
    assert sum(got != meant for got, meant in faded) > 0.8 * samples_faded


def test_speech_comes_back_whole_after_the_first_10_ms() -> None:
    """§I.2.8: the fade-in is at most one 10 ms block, however long the loss."""
    data = tone(200, 40 * FRAME)
    heard = conceal(data, set(range(10, 30)))
    assert heard[30 * FRAME + 80 :] == data[30 * FRAME + 80 :]


def test_a_pause_ends_in_silence_without_concealment_running_on() -> None:
    concealer = Concealer()
    for frame in frames(tone(200, 5 * FRAME)):
        concealer.good(frame)
    concealer.lost()
    heard = [concealer.pause() for _ in range(3)]
    assert heard[0] != g711.silence(g711.PCMU)
    assert heard[1:] == [g711.silence(g711.PCMU)] * 2


def test_loss_before_anything_was_heard_is_silence() -> None:
    concealer = Concealer()
    assert [concealer.lost() for _ in range(5)] == [g711.silence(g711.PCMU)] * 5


def test_noise_and_silence_are_concealed_within_their_own_level() -> None:
    noise = np.random.default_rng(3).normal(0, 500, 20 * FRAME).astype(np.int16)
    heard = samples(g711.PCMU, conceal(g711.encode_ulaw(noise.tobytes()), {10}))
    assert level(heard[10 * FRAME : 11 * FRAME]) < 1.3 * level(heard[: 10 * FRAME])


# --- the score ----------------------------------------------------------------------------------


def with_silence(data: bytes, lost: set[int]) -> bytes:
    return b"".join(g711.silence(g711.PCMU) if index in lost else frame for index, frame in enumerate(frames(data)))


def with_repetition(data: bytes, lost: set[int]) -> bytes:
    heard = [g711.silence(g711.PCMU)]
    for index, frame in enumerate(frames(data)):
        heard.append(heard[-1] if index in lost else frame)
    return b"".join(heard[1:])


BANDS_HZ = (100, 200, 300, 400, 510, 630, 770, 920, 1080, 1270, 1480, 1720, 2000, 2320, 2700, 3150, 3700)
"""The edges of the critical bands within telephone speech (Zwicker)."""


def loudness(signal: Samples) -> Samples:
    """Loudness by critical band and 8 ms step: 32 ms Hann windows, band energies to the power 0.23."""
    windows = np.lib.stride_tricks.sliding_window_view(signal, 256)[::64] * np.hanning(256)
    power = np.abs(np.fft.rfft(windows)) ** 2 / 256
    edges = [round(hertz * 256 / 8000) for hertz in BANDS_HZ]
    bands = np.stack([power[:, low : max(high, low + 1)].sum(1) for low, high in pairwise(edges)])
    return np.asarray((bands.T + 1e3) ** 0.23)


def disturbance(meant: bytes, heard: bytes) -> float:
    """Mean difference in loudness; 0 is identical. The time and frequency frame of PESQ's, without its alignment."""
    difference = np.abs(loudness(samples(g711.PCMU, meant)) - loudness(samples(g711.PCMU, heard)))
    return float(np.sqrt(np.mean(np.mean(difference, axis=1) ** 2)))


def log_spectral_distance_db(meant: bytes, heard: bytes) -> float:
    """Root mean square difference of the log spectra, above a floor 50 dB under full scale [dB]."""

    def spectra(data: bytes) -> Samples:
        windows = np.lib.stride_tricks.sliding_window_view(samples(g711.PCMU, data), 256)[::64] * np.hanning(256)
        return np.asarray(10 * np.log10(np.abs(np.fft.rfft(windows)) ** 2 / 256 + 1e5))

    return float(np.mean(np.sqrt(np.mean((spectra(meant) - spectra(heard)) ** 2, axis=1))))


def segmental_snr_db(meant: bytes, heard: bytes, lost: set[int]) -> float:
    """Mean over the lost frames, each held to −10..35 dB."""
    wanted, got = samples(g711.PCMU, meant), samples(g711.PCMU, heard)
    ratios = []
    for index in lost:
        part = slice(index * FRAME, (index + 1) * FRAME)
        signal, noise = np.sum(wanted[part] ** 2), np.sum((wanted[part] - got[part]) ** 2)
        if signal > FRAME * 100**2:
            ratios.append(np.clip(10 * np.log10(signal / max(noise, 1)), -10, 35))
    return float(np.mean(ratios))


SPEECH = (Path(__file__).parent / "data" / "speech.ulaw").read_bytes()
Method = Callable[[bytes, set[int]], bytes]


def losses(seed: int, share: float = 0.05) -> set[int]:
    draw = random.Random(seed)
    return {index for index in range(3, len(SPEECH) // FRAME - 1) if draw.random() < share}


PATTERNS = 20
METHODS: dict[str, Method] = {
    "appendix I": conceal,
    "silence": with_silence,
    "repetition": with_repetition,
}


def scores(measure: Callable[[bytes, bytes, set[int]], float]) -> dict[str, float]:
    """The mean over twenty patterns of 5 % loss, for each method."""
    patterns = [losses(seed) for seed in range(PATTERNS)]
    return {
        name: float(np.mean([measure(SPEECH, method(SPEECH, lost), lost) for lost in patterns]))
        for name, method in METHODS.items()
    }


def test_5_percent_lost_disturbs_less_than_with_silence_or_repetition() -> None:
    """By loudness in critical bands."""
    score = scores(lambda meant, heard, lost: disturbance(meant, heard))
    assert score["appendix I"] < 0.7 * score["silence"]
    assert score["appendix I"] < 0.95 * score["repetition"]


def test_5_percent_lost_leaves_the_spectrum_nearer_than_with_silence_or_repetition() -> None:
    """By log spectra."""
    score = scores(lambda meant, heard, lost: log_spectral_distance_db(meant, heard))
    assert score["appendix I"] < 0.95 * score["silence"]
    assert score["appendix I"] < 0.95 * score["repetition"]


def test_lost_frames_are_nearer_the_original_than_silence_or_repetition() -> None:
    """By signal to noise within the lost frames; silence is 0 dB by definition."""
    score = scores(segmental_snr_db)
    assert score["appendix I"] > score["silence"] + 0.3
    assert score["appendix I"] > score["repetition"] + 2


@pytest.mark.realtime
def test_a_good_frame_costs_next_to_nothing_and_a_lost_one_little() -> None:
    """300 calls share a core: 15,000 good frames a second."""
    concealer, frame = Concealer(), tone(200, FRAME)
    good_s = min(timeit.repeat(lambda: concealer.good(frame), number=2000, repeat=5)) / 2000

    def lose() -> None:
        concealer.good(frame)
        concealer.lost()

    lost_s = min(timeit.repeat(lose, number=200, repeat=5)) / 200
    assert good_s < 1.5e-6
    assert lost_s < 150e-6


def test_linear_samples_of_16_khz_are_concealed_as_well() -> None:
    """The same frames of a voice, wideband: what is made for a lost one is nearer to it than silence by far."""
    at = np.arange(16000) / 16000
    voice = np.sum([np.sin(2 * np.pi * 125 * k * at) / k for k in range(1, 40)], axis=0) * 4000
    data = voice.astype(np.int16).tobytes()
    pieces = [data[start : start + 640] for start in range(0, len(data), 640)]
    whole, broken = Concealer("L16/16000"), Concealer("L16/16000")
    for index, piece in enumerate(pieces):
        right = np.frombuffer(whole.good(piece), np.int16).astype(float)
        made = broken.lost() if index in (20, 21) else broken.good(piece)
        assert len(made) == 640
        error = np.frombuffer(made, np.int16) - right
        if index in (20, 21, 22):
            assert level(error) < level(right) / 2
        elif index > 22:
            assert not error.any()
