"""The shipped recordings (``media/audio``), read once when the service starts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from media.agents.wav import read_wav

__all__ = ["DIGIT_RECORDINGS", "load"]

_FOLDER: Final = Path(__file__).parent.parent / "audio"

DIGIT_RECORDINGS: Final[Mapping[str, str]] = {
    digit: f"digit-{'star' if digit == '*' else digit.lower()}" for digit in "0123456789*ABCD"
}


def load() -> Mapping[str, bytes]:
    """PCM16 by the file's name without ``.wav``. Blocking; WavError when the installation is broken."""
    return {path.stem: read_wav(path) for path in sorted(_FOLDER.glob("*.wav"))}
