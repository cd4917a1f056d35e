"""G.711: both laws against the recommendation's own definitions."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from media import g711

ALL = bytes(range(256))
LAWS = (g711.PCMU, g711.PCMA)


def expand_ulaw(code: int) -> int:
    """G.711 Table 2a/2b: sign, three bits of chord, four of step, all inverted; 14 bits, here times 4."""
    code = ~code & 0xFF
    magnitude = ((((code & 0x0F) << 1) + 33) << (code >> 4 & 7)) - 33
    return -4 * magnitude if code & 0x80 else 4 * magnitude


def expand_alaw(code: int) -> int:
    """G.711 Table 1a/1b: even bits inverted; 13 bits, here times 8."""
    code ^= 0x55
    chord, step = code >> 4 & 7, code & 0x0F
    magnitude = (2 * step + 1) if chord == 0 else (2 * step + 33) << (chord - 1)
    return 8 * magnitude if code & 0x80 else -8 * magnitude


@pytest.mark.parametrize(("law", "expand"), [(g711.PCMU, expand_ulaw), (g711.PCMA, expand_alaw)])
def test_every_code_decodes_to_the_recommendations_value(law: str, expand: object) -> None:
    """ITU-T G.711 Tables 1 and 2."""
    assert callable(expand)
    decoded = np.frombuffer(g711.DECODERS[law](ALL), np.int16)
    assert decoded.tolist() == [expand(code) for code in range(256)]


@pytest.mark.parametrize("law", LAWS)
def test_what_is_decoded_encodes_to_the_same_code(law: str) -> None:
    """But for μ-law's negative zero, which has the same value as its positive one."""
    again = g711.ENCODERS[law](g711.DECODERS[law](ALL))
    assert again == (ALL.replace(b"\x7f", b"\xff") if law == g711.PCMU else ALL)


@pytest.mark.parametrize("law", LAWS)
def test_every_sample_encodes_to_the_nearest_or_next_level(law: str) -> None:
    """The quantising error is at most half a step, a whole one at the clipping level."""
    samples = np.arange(-32768, 32768).astype(np.int16)
    heard = np.frombuffer(g711.DECODERS[law](g711.ENCODERS[law](samples.tobytes())), np.int16).astype(int)
    error = np.abs(heard - samples)
    step = np.maximum(np.abs(samples.astype(int)) / 16, 16)
    assert (error <= step).all()


@pytest.mark.parametrize("law", LAWS)
def test_silence_is_the_smallest_level_and_20_ms_by_default(law: str) -> None:
    frame = g711.silence(law)
    assert len(frame) == g711.FRAME_BYTES == 160
    assert set(np.frombuffer(g711.DECODERS[law](frame), np.int16)) <= {0, 8}
    assert len(g711.silence(law, 7)) == 7


@pytest.mark.parametrize(("source", "target"), [(g711.PCMU, g711.PCMA), (g711.PCMA, g711.PCMU)])
def test_transcoding_is_decoding_and_encoding(source: str, target: str) -> None:
    assert g711.transcode(ALL, source, target) == g711.ENCODERS[target](g711.DECODERS[source](ALL))


def test_transcoding_to_the_same_law_is_free() -> None:
    assert g711.transcode(ALL, g711.PCMU, g711.PCMU) is ALL


def test_the_import_warns_nobody() -> None:
    """``audioop`` is deprecated in 3.11 and 3.12; importing it here is deliberate."""
    code = "import warnings; warnings.simplefilter('error'); import media.g711"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_level_is_the_root_mean_square_and_nothing_has_none() -> None:
    assert g711.level(np.full(160, -300, dtype=np.int16).tobytes()) == 300
    assert g711.level(b"") == 0


def test_two_voices_are_mixed_and_clip() -> None:
    one, other = (np.array(values, dtype=np.int16).tobytes() for values in ([100, 30000], [-40, 30000]))
    assert np.frombuffer(g711.mix(one, other), dtype=np.int16).tolist() == [60, 32767]
