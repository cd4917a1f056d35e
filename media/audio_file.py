"""A WAV, FLAC or Ogg file made piece by piece, which never lies whole anywhere: bytes come out as audio goes in."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import soundfile

from media.recording_file import Format

__all__ = ["AudioFile", "Samples"]

Samples = npt.NDArray[np.int16]

_KINDS: Final[dict[str, tuple[str, str]]] = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
}


class _Growing:
    """What libsndfile takes for a file: it appends, and at the end it corrects the first bytes."""

    FIRST: Final = 256
    """Only so many of the first bytes can be corrected; WAV's head has 44, FLAC's stream information ends at 42."""

    def __init__(self) -> None:
        self.fresh = bytearray()
        self.first = bytearray()
        self._at = 0
        self._length = 0

    def write(self, data: Any) -> int:
        given = bytes(data)
        kept = given
        if self._at < self._length:
            self.first[self._at : self._at + len(given)] = given[: self.FIRST - self._at]
            kept = given[self._length - self._at :]
        elif self._length < self.FIRST:
            self.first += given[: self.FIRST - self._length]
        self.fresh += kept
        self._at += len(given)
        self._length = max(self._length, self._at)
        return len(given)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._length)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, count: int = -1) -> bytes:
        return b""


class AudioFile:
    """Stereo, 16 bits at ``rate_hz`` [Hz]. Each piece ends where a reader can stop: at a sample, a frame or a page."""

    def __init__(self, format: Format, rate_hz: int) -> None:
        kind, subtype = _KINDS[format]
        self._bytes = _Growing()
        self._file = soundfile.SoundFile(self._bytes, "w", samplerate=rate_hz, channels=2, format=kind, subtype=subtype)
        self._moments = 0
        self._least = rate_hz // 50
        self._block = 1

    @property
    def whole(self) -> int:
        """Moments that are wholly within the bytes given so far, where the format counts them (Ogg's pages do so)."""
        return max(self._moments - 1, 0) // self._block * self._block if self._block > 1 else self._moments

    def put(self, samples: Samples) -> bytes:
        """The bytes that these samples, two a moment, have made whole; perhaps none."""
        self._file.write(samples)
        self._moments += len(samples)
        fresh = self._fresh()
        if fresh.startswith(b"fLaC"):
            # RFC 9639 §8.2: the size of all blocks but the last; the encoder sees one sample more before it ends one.
            self._block = int.from_bytes(fresh[8:10], "big")
        return fresh

    def close(self) -> tuple[bytes, bytes]:
        """The bytes still due, and the file's first bytes as they have to be now."""
        if not self._moments:
            # A FLAC file of nothing has no bytes at all, and is no FLAC file.
            self._file.write(np.zeros((self._least, 2), dtype=np.int16))
        self._file.close()
        return self._fresh(), bytes(self._bytes.first)

    def _fresh(self) -> bytes:
        fresh = bytes(self._bytes.fresh)
        self._bytes.fresh.clear()
        return fresh
