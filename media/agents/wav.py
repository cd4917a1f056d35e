"""WAV files of 8 kHz mono 16-bit samples, the only kind the agents play and write."""

from __future__ import annotations

import io
import wave
from pathlib import Path
from typing import Final

__all__ = ["WavError", "read_wav", "wav_bytes"]

_RATE_HZ: Final = 8000


class WavError(Exception):
    """Not a WAV file that can be played; the message says what to do."""


def read_wav(path: Path) -> bytes:
    """The samples, little-endian. Blocking. Raises :class:`WavError`, also for a file that is not there."""
    try:
        with wave.open(str(path), "rb") as file:
            found = (file.getframerate(), file.getnchannels(), file.getsampwidth() * 8)
            if found != (_RATE_HZ, 1, 16):
                raise WavError(
                    f"{path}: {found[0]} Hz, {found[1]} channel(s), {found[2]} bit; 8000 Hz mono 16-bit is played: "
                    f"sox {path.name} -r 8000 -c 1 -b 16 out.wav"
                )
            return file.readframes(file.getnframes())
    except (OSError, EOFError, wave.Error) as error:
        raise WavError(f"{path}: {error}") from error


def wav_bytes(samples: bytes, channels: int = 1) -> bytes:
    """A whole WAV file of interleaved 16-bit samples."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(_RATE_HZ)
        file.writeframes(samples)
    return out.getvalue()
