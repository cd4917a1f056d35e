"""Recordings as files: opened and read, removed, their keys sealed anew.

Each file's key is sealed by the vault within its head, twice over for the moment in which it is sealed anew.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from control.vault import Tampered, UnknownKey, Vault, VaultError
from media.recording_file import CONTENT_TYPES, SUFFIXES, Damaged, SealedReader, Stored, read_head

__all__ = ["OpenRecording", "RecordingFiles", "reseal", "sealed_key"]


@dataclass(frozen=True, slots=True)
class OpenRecording:
    """One that is being read: ``pieces`` are its audio file, ``length`` [bytes] in all; the last closes the file."""

    content_type: str
    suffix: str
    length: int
    pieces: Iterator[bytes]


class RecordingFiles:
    """Those in ``folder``. Without a ``vault`` none can be opened."""

    def __init__(self, folder: Path, vault: Vault | None) -> None:
        self.folder = folder
        self._vault = vault

    def paths(self, call_id: str) -> tuple[Path, Path]:
        """While it is written, and afterwards."""
        part, whole = (self.folder / f"{call_id}{suffix}" for suffix in SUFFIXES)
        return part, whole

    def unfinished(self) -> list[Path]:
        """Those that are written, or whose writer died."""
        return _files(self.folder, SUFFIXES[0])

    def finished(self) -> list[Path]:
        """Those that nobody writes any more."""
        return _files(self.folder, SUFFIXES[1])

    async def open(self, call_id: str, *, complete: bool) -> OpenRecording:
        """The audio file of a recording nobody writes; ``complete``: its record says that it was.

        Every byte has been authenticated when this returns. Raises FileNotFoundError, :class:`Damaged`,
        :class:`VaultError`, OSError.
        """
        return await asyncio.to_thread(self._open, call_id, complete)

    def _open(self, call_id: str, complete: bool) -> OpenRecording:
        file = self.paths(call_id)[1].open("rb")
        try:
            stored = read_head(file)
            if stored.head.call != call_id:
                raise Damaged("another call's")
            reader = self.reader(file, stored)
            contents = reader.check()
            if complete and contents.trailer is None:
                raise Damaged("its end is missing")
        except BaseException:
            file.close()
            raise

        def pieces() -> Iterator[bytes]:
            with file:
                yield from reader.audio(contents)

        format = stored.head.format
        return OpenRecording(CONTENT_TYPES[format], format, contents.length, pieces())

    def remove(self, call_id: str) -> bool:
        """What there is of it; False where there is nothing. OSError when it cannot be removed."""
        removed = False
        for path in self.paths(call_id):
            try:
                path.unlink()
                removed = True
            except FileNotFoundError:
                continue
        return removed

    def reader(self, file: BinaryIO, stored: Stored) -> SealedReader:
        """Over an open file whose head has been read. Raises :class:`VaultError`."""
        if self._vault is None:
            raise VaultError("secrets.key is not set")
        return SealedReader(file, stored, _key(stored, self._vault))


def reseal(folder: Path, vault: Vault) -> tuple[int, int]:
    """Seal anew the keys of ``folder``'s recordings that a previous key had sealed; does I/O.

    How many were, and how many no key of the vault's opens.
    """
    renewed = unopened = 0
    for path in _files(folder, SUFFIXES[1]):
        try:
            with path.open("r+b") as file:
                renewed += _reseal_file(file, vault)
        except FileNotFoundError:
            continue
        except (Damaged, VaultError):
            unopened += 1
    return renewed, unopened


def _reseal_file(file: BinaryIO, vault: Vault) -> bool:
    """The free slot first, then the other is emptied: whenever this is cut short, a slot opens."""
    stored = read_head(file)
    if all(vault.is_current(slot) for slot in stored.slots):
        return False
    status = os.fstat(file.fileno())
    sealed = sealed_key(stored.text, _key(stored, vault), vault)
    size = len(sealed)
    file.seek(stored.offset)
    first_is_free = file.read(size) == bytes(size)
    places = (0, size) if first_is_free else (size, 0)
    for place, data in zip(places, (sealed, bytes(size)), strict=True):
        file.seek(stored.offset + place)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.utime(file.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
    return True


def _files(folder: Path, suffix: str) -> list[Path]:
    try:
        return sorted(folder.glob(f"*{suffix}"))
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        return []


def _key(stored: Stored, vault: Vault) -> bytes:
    """From whichever slot opens. Raises :class:`VaultError`, or :class:`Damaged` where its key would open it."""
    unknown: UnknownKey | None = None
    for slot in stored.slots:
        try:
            return vault.open(slot, _identity(stored.text))
        except UnknownKey as error:
            unknown = error
        except Tampered:
            continue
    raise unknown or Damaged("its head or its key was altered")


def sealed_key(text: bytes, key: bytes, vault: Vault) -> bytes:
    """A file's key for its head, whose ``text`` it is bound to."""
    return vault.seal(key, _identity(text))


def _identity(text: bytes) -> str:
    """What a file's key is sealed for: its whole head."""
    return "recordings " + text.decode()
