"""Frames, and the pipe that carries them: whole, in order, bounded."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.pipe import Framer, FrameTooLong, Pipe, PipeFull, adopt, frame, pair


@given(st.lists(st.binary(max_size=300)), st.lists(st.integers(1, 50)))
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(messages: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(frame, messages))
    framer, came, at = Framer(), list[bytes](), 0
    for size in [*cuts, len(stream) + 1]:
        came += framer.feed(stream[at : at + size])
        at += size
    assert came == messages


def test_a_length_beyond_the_limit_is_refused_before_its_bytes_are_kept() -> None:
    framer = Framer(limit_bytes=10)
    assert framer.feed(frame(b"x" * 10)) == [b"x" * 10]
    with pytest.raises(FrameTooLong) as refused:
        framer.feed((11).to_bytes(4, "big"))
    assert (refused.value.length, refused.value.limit) == (11, 10)


class End:
    """One end and what came out of it."""

    def __init__(self, **limits: int) -> None:
        self.came: asyncio.Queue[bytes] = asyncio.Queue()
        self.lost: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self.pipe = Pipe(self._take, self.lost.set_result, **limits)

    def _take(self, data: bytes) -> None:
        if data == b"bad":
            raise ValueError("cannot be handled")
        self.came.put_nowait(data)


@asynccontextmanager
async def connected(**limits: int) -> AsyncIterator[tuple[End, End]]:
    one, other = End(**limits), End()
    ours, theirs = pair()
    await one.pipe.open(ours)
    await other.pipe.open(theirs)
    try:
        yield one, other
    finally:
        for end in (one, other):
            end.pipe.abort("over")
            await end.pipe.closed()


@pytest.mark.realtime
async def test_messages_cross_both_ways_in_order() -> None:
    async with connected() as (one, other):
        for number in range(100):
            one.pipe.send(str(number).encode())
            other.pipe.send(bytes(number * 500))
        assert [await other.came.get() for _ in range(100)] == [str(number).encode() for number in range(100)]
        assert [len(await one.came.get()) for _ in range(100)] == [number * 500 for number in range(100)]


@pytest.mark.realtime
async def test_a_message_that_cannot_be_handled_stops_none_after_it(caplog: pytest.LogCaptureFixture) -> None:
    async with connected() as (one, other):
        one.pipe.send(b"bad")
        one.pipe.send(b"good")
        assert await other.came.get() == b"good"
    assert [record.message for record in caplog.records] == ["a message was not handled"]


@pytest.mark.realtime
async def test_closing_delivers_what_is_queued_and_then_tells_the_other_end() -> None:
    async with connected() as (one, other):
        one.pipe.send(bytes(1_000_000))
        one.pipe.close()
        assert len(await other.came.get()) == 1_000_000
        assert await other.lost is None
        assert await one.lost is None
        one.pipe.send(b"too late")  # is no error: the loss is being told


@pytest.mark.realtime
async def test_an_end_that_closes_with_messages_unread_has_closed_all_the_same() -> None:
    """The kernel calls it a reset."""
    end = End()
    ours, theirs = pair()
    theirs.send(frame(b"last words"))
    await end.pipe.open(ours)
    end.pipe.send(b"unread")
    assert await end.came.get() == b"last words"
    theirs.close()
    assert await end.lost is None
    await end.pipe.closed()


@pytest.mark.realtime
async def test_beyond_its_bound_the_queue_refuses_and_counts_and_takes_again_when_read() -> None:
    end = End(limit_bytes=500_000)
    ours, theirs = pair()
    await end.pipe.open(ours)
    sent = 0
    with pytest.raises(PipeFull) as full:
        while True:
            end.pipe.send(bytes(1000))
            sent += 1
    assert full.value.limit == 500_000
    assert end.pipe.refused == 1
    assert end.pipe.queued <= 500_000
    reader, writer = await asyncio.open_unix_connection(sock=theirs)
    await reader.readexactly(sent * 1004)
    end.pipe.send(b"again")
    assert await reader.readexactly(9) == frame(b"again")
    writer.close()
    await writer.wait_closed()
    assert await end.lost is None


@pytest.mark.realtime
async def test_a_stream_out_of_step_is_ended_with_the_reason() -> None:
    end = End()
    ours, theirs = pair()
    with theirs:
        await end.pipe.open(ours)
        theirs.send(b"\xff\xff\xff\xff")
        assert "a frame of 4294967295 bytes" in (await end.lost or "")
        await end.pipe.closed()


@pytest.mark.realtime
def test_an_end_is_inherited_only_where_it_is_passed() -> None:
    ours, theirs = pair()
    adopted = adopt(theirs.detach())
    with ours, adopted:
        assert not ours.get_inheritable()
        assert not adopted.get_inheritable()
        assert adopted.family is socket.AF_UNIX
