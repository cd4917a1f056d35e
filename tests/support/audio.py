"""Tones: made, written, companded, and found again. 8 kHz mono 16-bit throughout.

The G.711 tables are computed from the Recommendation here, apart from the product's codec.
"""

from __future__ import annotations

import struct
import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = [
    "RATE_HZ",
    "Samples",
    "decode_alaw",
    "decode_ulaw",
    "encode_alaw",
    "encode_ulaw",
    "heard_s",
    "keys",
    "level_dbfs",
    "loudest_hz",
    "read_wav",
    "silence",
    "tone",
    "write_wav",
]

RATE_HZ = 8000
_FRAME = 320  # 40 ms: neighbouring tones 25 Hz apart are told apart
Samples = npt.NDArray[np.int16]


def tone(hz: float, seconds: float, level: float = 0.25) -> Samples:
    """A sine; ``level`` 1.0 is full scale."""
    at = np.arange(round(seconds * RATE_HZ))
    return np.asarray(np.rint(np.sin(2 * np.pi * hz / RATE_HZ * at) * level * 32767), dtype=np.int16)


def keys(digits: str) -> Samples:
    """Two tones a key (ITU-T Q.23), 100 ms each, as long a pause before and after it."""
    rows_hz, columns_hz = (697, 770, 852, 941), (1209, 1336, 1477, 1633)
    pieces = [silence(0.1)]
    for digit in digits:
        row, column = divmod("123A456B789C*0#D".index(digit), 4)
        pieces += [tone(rows_hz[row], 0.1) + tone(columns_hz[column], 0.1), silence(0.1)]
    return np.concatenate(pieces)


def silence(seconds: float) -> Samples:
    """Nothing, for so long."""
    return np.zeros(round(seconds * RATE_HZ), dtype=np.int16)


def _frames(samples: Samples) -> npt.NDArray[np.float64]:
    whole = len(samples) // _FRAME * _FRAME
    return samples[:whole].astype(np.float64).reshape(-1, _FRAME) / 32768


def _goertzel_power(frames: npt.NDArray[np.float64], hz: float) -> npt.NDArray[np.float64]:
    """The mean power of each frame that lies at ``hz`` (Goertzel's bin as one dot product)."""
    window = np.hanning(_FRAME)
    kernel = window * np.exp(-2j * np.pi * hz / RATE_HZ * np.arange(_FRAME))
    amplitude = 2 * np.abs(frames @ kernel) / window.sum()
    return np.asarray(amplitude**2 / 2)


def heard_s(samples: Samples, hz: float, *, floor_dbfs: float = -40.0, share: float = 0.7) -> float:
    """How long [s] in all a tone of ``hz`` is what is mainly heard: ``share`` of a frame's power, above the floor."""
    frames = _frames(samples)
    if not len(frames):
        return 0.0
    total = (frames**2).mean(axis=1)
    at_hz = _goertzel_power(frames, hz)
    present = (at_hz > 10 ** (floor_dbfs / 10)) & (at_hz > share * total)
    return float(present.sum()) * _FRAME / RATE_HZ


def loudest_hz(samples: Samples) -> float:
    """The frequency with the most power [Hz], for messages; 0 where there is silence."""
    if len(samples) < 2 or not samples.any():
        return 0.0
    spectrum = np.abs(np.fft.rfft(samples.astype(np.float64) * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * RATE_HZ / len(samples))


def level_dbfs(samples: Samples) -> float:
    """Root mean square against full scale [dB]; -inf for digital silence."""
    if not len(samples):
        return float("-inf")
    power = float((samples.astype(np.float64) ** 2).mean()) / 32768**2
    return 10 * float(np.log10(power)) if power else float("-inf")


def write_wav(path: Path, samples: Samples) -> Path:
    """A PCM WAV file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(samples.tobytes())
    return path


def read_wav(path: Path) -> Samples:
    """The samples of a PCM WAV file, as far as it was written; of a higher rate or several channels, their means.

    A recorder that was stopped leaves lengths of 0 or of 4 GB in the header: the data chunk then runs to the end.
    """
    data = path.read_bytes()
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise ValueError(f"{path}: no WAV file")
    at, payload, layout = 12, b"", None
    while at + 8 <= len(data):
        name, size = data[at : at + 4], struct.unpack_from("<I", data, at + 4)[0]
        if name == b"fmt ":
            layout = struct.unpack_from("<HHIIHH", data, at + 8)
        elif name == b"data":
            end = at + 8 + size if 0 < size <= len(data) - at - 8 else len(data)
            payload = data[at + 8 : end]
            break
        at += 8 + size + size % 2
    if layout is None or layout[2] % RATE_HZ or layout[5] != 16:
        raise ValueError(f"{path}: not 16-bit at a multiple of 8 kHz: {layout}")
    together = layout[1] * layout[2] // RATE_HZ
    samples = np.frombuffer(payload[: len(payload) // (2 * together) * 2 * together], dtype="<i2")
    return samples if together == 1 else samples.reshape(-1, together).mean(axis=1).astype(np.int16)


def _ulaw_table() -> Samples:
    """ITU-T G.711 table 2a: sign, three bits of segment, four of step, all inverted."""
    code = ~np.arange(256) & 0xFF
    magnitude = ((((code & 0x0F) << 3) + 0x84) << ((code & 0x70) >> 4)) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _alaw_table() -> Samples:
    """ITU-T G.711 table 1a, even bits inverted."""
    code = np.arange(256) ^ 0x55
    segment, step = (code & 0x70) >> 4, (code & 0x0F) << 4
    magnitude = np.where(segment == 0, step + 8, (step + 0x108) << np.maximum(segment - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


_ULAW = _ulaw_table()
_ALAW = _alaw_table()


def decode_ulaw(data: bytes) -> Samples:
    """PCMU → samples."""
    return _ULAW[np.frombuffer(data, dtype=np.uint8)]


def decode_alaw(data: bytes) -> Samples:
    """PCMA → samples."""
    return _ALAW[np.frombuffer(data, dtype=np.uint8)]


def encode_ulaw(samples: Samples) -> bytes:
    """Samples → PCMU, each to the nearest of the 256 values."""
    return _encode(samples, _ULAW)


def encode_alaw(samples: Samples) -> bytes:
    """Samples → PCMA, each to the nearest of the 256 values."""
    return _encode(samples, _ALAW)


def _encode(samples: Samples, table: Samples) -> bytes:
    order = np.argsort(table, kind="stable")
    values = table[order].astype(np.int32)
    wide = samples.astype(np.int32)
    above = np.clip(np.searchsorted(values, wide), 1, 255)
    nearer_below = wide - values[above - 1] <= values[above] - wide
    return bytes(order[np.where(nearer_below, above - 1, above)].astype(np.uint8))
