"""Recordings by name, shipped (``media/audio``) and the operator's; read once, when the service starts."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from media.agents.wav import WavError, read_wav

__all__ = ["DIGIT_RECORDINGS", "NAME", "load", "names"]

log = logging.getLogger("truedy.media.recordings")

_FOLDER: Final = Path(__file__).parent.parent / "audio"

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
"""What a recording may be called: its file's name without ``.wav``."""

LONGEST_S: Final = 300
"""Of the operator's: as much as is ever queued to a phone."""

DIGIT_RECORDINGS: Final[Mapping[str, str]] = {
    digit: f"digit-{'star' if digit == '*' else digit.lower()}" for digit in "0123456789*ABCD"
}


def load(folder: Path | None = None) -> Mapping[str, bytes]:
    """PCM16 by name, of ``folder`` too. Blocking.

    WavError when the installation is broken; a file of the operator's that cannot be played is logged and left out, and
    so is one with a shipped recording's name.
    """
    shipped = {path.stem: read_wav(path) for path in sorted(_FOLDER.glob("*.wav"))}
    return {**_own(folder, shipped), **shipped}


def names(folder: Path | None = None) -> frozenset[str]:
    """What :func:`load` would find, by the files' names alone. Blocking."""
    found = [*_FOLDER.glob("*.wav"), *(folder.glob("*.wav") if folder is not None else ())]
    return frozenset(path.stem for path in found if NAME.fullmatch(path.stem))


def _own(folder: Path | None, shipped: Mapping[str, bytes]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for path in sorted(folder.glob("*.wav")) if folder is not None else ():
        problem = _problem(path, shipped)
        if problem is None:
            try:
                found[path.stem] = read_wav(path)
                continue
            except WavError as error:
                problem = str(error)
        log.error("a recording is left out", extra={"recording": str(path), "reason": problem})
    return found


def _problem(path: Path, shipped: Mapping[str, bytes]) -> str | None:
    if NAME.fullmatch(path.stem) is None:
        return "its name has other characters than letters, digits, '.', '_' and '-'"
    if path.stem in shipped:
        return "a shipped recording has this name"
    try:
        return "longer than five minutes" if path.stat().st_size > LONGEST_S * 16000 + 4096 else None
    except OSError as error:
        return error.strerror
