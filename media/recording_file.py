"""A recording at rest: what is written to the disk of a call's audio, and how it is read again.

A file is a head, then chunks::

    "TDYREC1\\n" | length (4) | head, JSON | two key slots (69 bytes each)
    length (4) | AES-256-GCM of a chunk, with its tag        … once for each chunk
    length (4) | AES-256-GCM of the trailer, JSON            … once, at the end

Each file has a key of its own, which encrypts nothing else, so a chunk's number is its nonce. The call's id, the
chunk's number and whether it is the last one are associated data: a chunk that was altered, swapped, left out,
doubled or brought over from another recording does not open, and a file without its trailer was cut. The file's key
lies in a slot, sealed by whoever made the head (:mod:`control.vault`); a change of that key fills the other slot
first. The head is associated data of the sealed key.

What the chunks hold, one after the other, is the audio file (WAV, FLAC or Ogg), each piece behind a count of what it
has come to. An audio file's first bytes say how long it is, which is known at the end alone: they come again in the
trailer, and stand in for the first ones. Where there is no trailer, the last count serves to set them right.

No I/O but through the functions given. What fails on the disk is kept as it was sealed and tried again: no two
plain texts are ever encrypted under one nonce.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final, Literal

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = [
    "CONTENT_TYPES",
    "KEY_BYTES",
    "SLOT_BYTES",
    "SUFFIXES",
    "Contents",
    "Count",
    "Damaged",
    "Format",
    "Head",
    "SealedReader",
    "SealedWriter",
    "Stored",
    "Trailer",
    "make_head",
    "read_head",
]

Format = Literal["wav", "flac", "ogg"]

CONTENT_TYPES: Final = {"wav": "audio/wav", "flac": "audio/flac", "ogg": "audio/ogg"}

KEY_BYTES: Final = 32
SLOT_BYTES: Final = 69
"""A sealed key: version 1, key id 8, nonce 12, key 32, tag 16."""

SUFFIXES: Final = (".part", ".rec")
"""A file's name while it is written, and when nobody writes it any more."""

_MAGIC: Final = b"TDYREC1\n"
_LENGTH: Final = struct.Struct(">I")
_COUNT: Final = struct.Struct(">III")
_HEAD_LIMIT: Final = 4096
_CHUNK_LIMIT: Final = 4 * 1024 * 1024
_TAG_BYTES: Final = 16
_EMPTY_SLOT: Final = bytes(SLOT_BYTES)


class Damaged(Exception):
    """The file is not as it was written, or none of ours. The text says what is wrong, not what it holds."""


class Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose recording it is; readable without a key. ``started_at`` is UTC [s since the epoch]."""

    call: str
    account: str
    format: Format
    started_at: float


class Trailer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How it ended: ``complete`` is False when whoever sent the audio died before the call's end.

    ``first``: the audio file's first bytes as they have to be.
    """

    complete: bool
    first: bytes = b""


@dataclass(frozen=True, slots=True)
class Count:
    """How far a recording has come: ``frames`` of 20 ms, ``gap_frames`` of them silence that stands for what was lost.

    ``samples`` (moments of both sides) are wholly within the audio file so far; an encoder keeps some back.
    """

    frames: int = 0
    gap_frames: int = 0
    samples: int = 0


@dataclass(frozen=True, slots=True)
class Contents:
    """What a recording holds: its audio file's length [bytes], its last count, its trailer (None: it was cut)."""

    length: int
    count: Count
    trailer: Trailer | None


_encode: Final = msgspec.json.Encoder().encode
_head: Final = msgspec.json.Decoder(Head)
_trailer: Final = msgspec.json.Decoder(Trailer)


@dataclass(frozen=True, slots=True)
class Stored:
    """A head as it lies in a file.

    ``text`` is what its key is sealed with, ``slots`` the sealed keys, ``offset`` [bytes] where they begin, ``end``
    where the chunks do.
    """

    head: Head
    text: bytes
    slots: tuple[bytes, ...]
    offset: int
    end: int


def make_head(text: bytes, sealed_key: bytes) -> bytes:
    """A file's first bytes; ``text`` is a :class:`Head` as JSON."""
    if len(sealed_key) != SLOT_BYTES:
        raise ValueError(f"a sealed key has {SLOT_BYTES} bytes, not {len(sealed_key)}")
    return _MAGIC + _LENGTH.pack(len(text)) + text + sealed_key + _EMPTY_SLOT


def read_head(file: BinaryIO) -> Stored:
    """From the beginning of ``file``. Raises :class:`Damaged`."""
    start = file.read(len(_MAGIC) + _LENGTH.size)
    if len(start) != len(_MAGIC) + _LENGTH.size or not start.startswith(_MAGIC):
        raise Damaged("no recording")
    (length,) = _LENGTH.unpack_from(start, len(_MAGIC))
    if length > _HEAD_LIMIT:
        raise Damaged("a head of impossible length")
    text, slots = file.read(length), file.read(2 * SLOT_BYTES)
    if len(text) != length or len(slots) != 2 * SLOT_BYTES:
        raise Damaged("cut within its head")
    try:
        head = _head.decode(text)
    except msgspec.DecodeError as error:
        raise Damaged("its head cannot be read") from error
    offset = len(start) + length
    present = tuple(slot for slot in (slots[:SLOT_BYTES], slots[SLOT_BYTES:]) if slot != _EMPTY_SLOT)
    return Stored(head, text, present, offset, offset + 2 * SLOT_BYTES)


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")


def _associated(call: bytes, number: int, last: bool) -> bytes:
    return b"%b\x00%d\x00%d" % (call, number, last)


class SealedWriter:
    """Encrypts and writes chunks in order. ``write`` takes bytes whole or raises OSError, and then has written none.

    What cannot be written waits, sealed, in order; :meth:`flush` tries again.
    """

    def __init__(self, key: bytes, call: str, write: Callable[[bytes], object]) -> None:
        self._cipher = AESGCM(key)
        self._call = call.encode()
        self._write = write
        self._number = 0
        self._waiting: deque[bytes] = deque()
        self.waiting_bytes = 0

    def append(self, piece: bytes, count: Count) -> None:
        """The next piece of the audio file. Raises OSError when it could not be written yet."""
        self._put(_COUNT.pack(count.frames, count.gap_frames, count.samples) + piece, last=False)

    def finish(self, trailer: Trailer) -> None:
        """The last one; nothing may be appended after. Raises OSError when it could not be written yet."""
        self._put(_encode(trailer), last=True)

    def _put(self, plain: bytes, *, last: bool) -> None:
        number = self._number
        self._number += 1
        sealed = self._cipher.encrypt(_nonce(number), plain, _associated(self._call, number, last))
        data = _LENGTH.pack(len(sealed)) + sealed
        self._waiting.append(data)
        self.waiting_bytes += len(data)
        self.flush()

    def flush(self) -> None:
        """Write what waits; raises the OSError that stands in its way."""
        while self._waiting:
            self._write(self._waiting[0])
            self.waiting_bytes -= len(self._waiting.popleft())


class SealedReader:
    """Opens the chunks of ``file``, a recording whose key is known."""

    def __init__(self, file: BinaryIO, stored: Stored, key: bytes) -> None:
        self._file = file
        self._stored = stored
        self._cipher = AESGCM(key)
        self._call = stored.head.call.encode()

    def check(self) -> Contents:
        """Open everything once.

        A last chunk that lacks its end, as a full disk or a killed process leaves it, is no damage: it is not there.
        Raises :class:`Damaged` for anything that is not as it was written.
        """
        length, count = 0, Count()
        for plain, last in self._chunks():
            if last:
                return Contents(length, count, self._decode(plain))
            length += len(plain) - _COUNT.size
            count = Count(*_COUNT.unpack_from(plain))
        return Contents(length, count, None)

    def audio(self, contents: Contents) -> Iterator[bytes]:
        """The audio file, piece by piece, after :meth:`check`, which gave ``contents``."""
        first = contents.trailer.first if contents.trailer is not None else None
        at = 0
        for plain, last in self._chunks():
            if last:
                return
            piece = plain[_COUNT.size :]
            if first is None:
                first = _first_of_cut(self._stored.head.format, piece, contents)
            if at < len(first):
                at, piece = at + len(piece), first[at : at + len(piece)] + piece[len(first) - at :]
            yield piece

    def _decode(self, plain: bytes) -> Trailer:
        try:
            return _trailer.decode(plain)
        except msgspec.DecodeError as error:
            raise Damaged("its trailer cannot be read") from error

    def _chunks(self) -> Iterator[tuple[bytes, bool]]:
        """Each chunk and whether it is the last."""
        file = self._file
        file.seek(self._stored.end)
        number = 0
        while (sealed := self._next()) is not None:
            plain, last = self._open(sealed, number)
            if not last and len(plain) < _COUNT.size:
                raise Damaged(f"chunk {number} has no count")
            number += 1
            if last and file.read(1):
                raise Damaged("something follows its end")
            yield plain, last
            if last:
                return

    def _next(self) -> bytes | None:
        prefix = self._file.read(_LENGTH.size)
        if len(prefix) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack(prefix)
        if not _TAG_BYTES <= length <= _CHUNK_LIMIT:
            raise Damaged("a chunk of impossible length")
        sealed = self._file.read(length)
        return sealed if len(sealed) == length else None

    def _open(self, sealed: bytes, number: int) -> tuple[bytes, bool]:
        for last in (False, True):
            try:
                return self._cipher.decrypt(_nonce(number), sealed, _associated(self._call, number, last)), last
            except InvalidTag:
                continue
        raise Damaged(f"chunk {number} does not open")


def _first_of_cut(format: Format, first: bytes, contents: Contents) -> bytes:
    """The first bytes of an audio file that was cut, with the length that it has come to."""
    if format == "wav" and first.startswith(b"RIFF") and (at := first.find(b"data")) > 0:
        riff, data = (min(contents.length - before, 0xFFFFFFFF) for before in (8, at + 8))
        return first[:4] + struct.pack("<I", riff) + first[8 : at + 4] + struct.pack("<I", data)
    if format == "flac" and first.startswith(b"fLaC") and len(first) >= 26:
        # RFC 9639 §8.2: the last 36 of these 64 bits are the number of samples.
        (packed,) = struct.unpack_from(">Q", first, 18)
        return first[:18] + struct.pack(">Q", packed >> 36 << 36 | contents.count.samples)
    return b""
