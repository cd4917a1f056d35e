"""A recording at rest: it opens as it was written, or not at all."""

from __future__ import annotations

import errno
import io
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.recording_file import (
    KEY_BYTES,
    SLOT_BYTES,
    Contents,
    Count,
    Damaged,
    Head,
    SealedReader,
    SealedWriter,
    Trailer,
    make_head,
    read_head,
)

KEY = bytes(range(KEY_BYTES))
HEAD = Head(call="call-1", account="account-1", format="ogg", started_at=1000.0)
TEXT = msgspec.json.encode(HEAD)
SLOT = bytes([7]) * SLOT_BYTES
WHOLE = Trailer(complete=True)


def written(*pieces: bytes, trailer: Trailer | None = WHOLE, head: Head = HEAD) -> bytes:
    """A whole file; without a trailer, one that was cut."""
    out = io.BytesIO()
    out.write(make_head(msgspec.json.encode(head), SLOT))
    writer = SealedWriter(KEY, head.call, out.write)
    for number, piece in enumerate(pieces, 1):
        writer.append(piece, Count(25 * number, 0, 4000 * number))
    if trailer is not None:
        writer.finish(trailer)
    return out.getvalue()


def opened(data: bytes, key: bytes = KEY) -> tuple[bytes, Contents]:
    """The audio file within."""
    file = io.BytesIO(data)
    reader = SealedReader(file, read_head(file), key)
    contents = reader.check()
    return b"".join(reader.audio(contents)), contents


def chunks(data: bytes) -> tuple[bytes, list[bytes]]:
    """The head, and each chunk with its length."""
    file = io.BytesIO(data)
    at = read_head(file).end
    head, found = data[:at], []
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        found.append(data[at : at + 4 + length])
        at += 4 + length
    return head, found


def test_a_file_tells_without_a_key_whose_it_is_and_what_its_key_is_sealed_with() -> None:
    stored = read_head(io.BytesIO(written(b"x")))
    assert stored.head == HEAD
    assert stored.text == TEXT
    assert stored.slots == (SLOT,)


def test_nothing_of_the_audio_can_be_read_in_the_file() -> None:
    assert b"what was said" not in written(b"what was said")


@given(st.lists(st.binary(max_size=300), max_size=6))
def test_what_was_written_is_read(pieces: list[bytes]) -> None:
    audio, contents = opened(written(*pieces))
    assert audio == b"".join(pieces)
    assert contents.length == len(audio)
    assert contents.trailer == Trailer(complete=True)
    assert contents.count.frames == 25 * len(pieces)


def test_the_first_bytes_are_those_of_the_end() -> None:
    """An audio file's length is known when it is complete."""
    audio, _ = opened(written(b"le", b"ngth=0", b"audio", trailer=Trailer(complete=True, first=b"length=5")))
    assert audio == b"length=5audio"


def test_a_file_without_its_trailer_was_cut_and_is_read_as_far_as_it_goes() -> None:
    audio, contents = opened(written(b"one", b"two", trailer=None))
    assert (audio, contents.trailer, contents.count) == (b"onetwo", None, Count(50, 0, 8000))


@pytest.mark.parametrize("left", [1, 3, 4, 10])
def test_a_last_chunk_that_lacks_its_end_is_not_there(left: int) -> None:
    head, (first, second) = chunks(written(b"one", b"two", trailer=None))
    audio, contents = opened(head + first + second[:left])
    assert (audio, contents.trailer) == (b"one", None)


def test_no_chunk_can_be_swapped_left_out_doubled_or_follow_the_end() -> None:
    head, (one, two, end) = chunks(written(b"one", b"two"))
    for order in ([two, one, end], [two, end], [one, one, two, end], [one, end], [one, two, end, end], [end, one, two]):
        with pytest.raises(Damaged):
            opened(head + b"".join(order))


def test_a_trailer_cannot_be_had_by_calling_a_chunk_one() -> None:
    """Cut after any chunk, a recording says so: the end is marked within what is authenticated."""
    head, found = chunks(written(b"one", b"two", b"three"))
    for count in range(len(found)):
        assert opened(head + b"".join(found[:count]))[1].trailer is None


def test_a_chunk_of_another_call_does_not_open() -> None:
    """Under the same key, even."""
    head, (one, *_) = chunks(written(b"one"))
    _, (other, *_) = chunks(written(b"one", head=msgspec.structs.replace(HEAD, call="call-2")))
    assert opened(head + one)[0] == b"one"
    with pytest.raises(Damaged):
        opened(head + other)


def test_another_key_opens_nothing() -> None:
    with pytest.raises(Damaged):
        opened(written(b"one"), bytes(KEY_BYTES))


@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_no_bit_of_the_chunks_can_be_changed_unnoticed(at: int, bit: int) -> None:
    data = bytearray(written(b"one", b"two", b"three"))
    start = read_head(io.BytesIO(bytes(data))).end
    at = start + at % (len(data) - start)
    data[at] ^= 1 << bit
    try:
        _, contents = opened(bytes(data))
    except Damaged:
        return
    assert contents.trailer is None  # a length that reaches beyond the file: cut, and said to be


@given(st.binary(max_size=400))
def test_no_bytes_make_the_reader_fail_otherwise(data: bytes) -> None:
    for given_bytes in (data, written(b"one")[:-20] + data):
        try:
            opened(given_bytes)
        except Damaged as error:
            assert str(error)


def test_a_head_of_impossible_length_is_refused() -> None:
    with pytest.raises(Damaged, match="impossible"):
        read_head(io.BytesIO(b"TDYREC1\n\xff\xff\xff\xff"))


def test_a_sealed_key_has_its_one_length() -> None:
    with pytest.raises(ValueError, match="69"):
        make_head(TEXT, b"short")


def test_what_a_full_disk_refused_is_written_later_as_it_was_sealed() -> None:
    """A second encryption under the same nonce would give the audio away."""
    out, tried, full = bytearray(), [], True

    def write(data: bytes) -> None:
        tried.append(data)
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        out.extend(data)

    writer = SealedWriter(KEY, "call-1", write)
    for piece in (b"one", b"two"):
        with pytest.raises(OSError, match="space"):
            writer.append(piece, Count())
    assert writer.waiting_bytes > 0
    full = False
    writer.finish(Trailer(complete=True))
    assert writer.waiting_bytes == 0
    assert opened(make_head(TEXT, SLOT) + bytes(out))[0] == b"onetwo"
    assert len(set(tried)) == 3
