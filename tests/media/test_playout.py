"""The playout queue: deep, bounded, re-framed."""

from __future__ import annotations

from media import g711
from media.playout import PlayoutQueue

SILENCE = g711.silence("PCMU")


def queue(limit_ms: int = PlayoutQueue.LIMIT_MS) -> PlayoutQueue:
    return PlayoutQueue(SILENCE, limit_ms)


def drain(playout: PlayoutQueue, ticks: int) -> list[bytes | None]:
    return [playout.take() for _ in range(ticks)]


def test_pieces_that_are_no_multiple_of_20_ms_come_out_as_whole_frames_in_order() -> None:
    audio = bytes(range(256)) * 5
    playout = queue()
    for start in range(0, len(audio), 37):
        playout.put(audio[start : start + 37])
    frames = drain(playout, 8)
    assert b"".join(frame for frame in frames if frame) == audio
    assert {len(frame) for frame in frames if frame} == {160}


def test_a_tail_shorter_than_a_frame_waits_two_frames_and_is_then_filled_with_silence() -> None:
    playout = queue()
    playout.put(b"\x01" * 200)
    assert drain(playout, 4) == [b"\x01" * 160, None, None, b"\x01" * 40 + SILENCE[40:]]
    assert playout.idle


def test_a_tail_whose_sentence_goes_on_in_time_is_not_torn() -> None:
    playout = queue()
    playout.put(b"\x01" * 100)
    assert drain(playout, 2) == [None, None]
    playout.put(b"\x02" * 60)
    assert playout.take() == b"\x01" * 100 + b"\x02" * 60


def test_minutes_of_audio_sent_at_once_are_kept() -> None:
    playout = queue()
    assert playout.put(bytes(4 * 60 * 8000)) == 4 * 60 * 8000
    assert playout.queued_ms == 4 * 60 * 1000
    assert playout.overflow_ms == 0


def test_beyond_the_limit_the_newest_audio_is_refused_and_counted() -> None:
    playout = queue(limit_ms=100)
    playout.put(b"\x01" * 800)
    assert playout.put(b"\x02" * 400) == 0
    assert playout.overflow_ms == 50
    assert drain(playout, 5) == [b"\x01" * 160] * 5
    assert playout.put(b"\x03" * 160) == 160


def test_a_mark_is_reached_when_the_audio_before_it_has_been_taken() -> None:
    playout = queue()
    playout.put(bytes(320))
    assert not playout.mark("first")
    playout.put(bytes(160))
    assert not playout.mark("second")
    reached = []
    for _ in range(3):
        playout.take()
        reached.append(playout.reached())
    assert reached == [(), ("first",), ("second",)]


def test_a_mark_within_a_frame_is_reached_with_that_frame() -> None:
    playout = queue()
    playout.put(bytes(100))
    playout.mark("middle")
    playout.put(bytes(60))
    playout.take()
    assert playout.reached() == ("middle",)


def test_a_mark_after_a_short_tail_is_reached_when_the_tail_has_been_played() -> None:
    playout = queue()
    playout.put(bytes(10))
    playout.mark("end")
    assert drain(playout, 2) == [None, None]
    assert playout.reached() == ()
    playout.take()
    assert playout.reached() == ("end",)


def test_a_mark_with_nothing_before_it_has_been_reached_already() -> None:
    assert queue().mark("now")


def test_marks_of_one_place_are_reached_in_order() -> None:
    playout = queue()
    playout.put(bytes(160))
    for name in "abc":
        playout.mark(name)
    playout.take()
    assert playout.reached() == ("a", "b", "c")


def test_clear_empties_within_a_frame_and_returns_the_outstanding_marks() -> None:
    playout = queue()
    playout.put(bytes(16000))
    playout.mark("a")
    playout.put(bytes(16000))
    playout.mark("b")
    playout.take()
    assert playout.clear() == ("a", "b")
    assert playout.take() is None
    assert playout.reached() == ()


def test_marks_after_a_clear_are_counted_from_there() -> None:
    playout = queue()
    playout.put(bytes(1600))
    playout.clear()
    playout.put(bytes(160))
    playout.mark("new")
    playout.take()
    assert playout.reached() == ("new",)


def test_more_marks_than_the_limit_are_refused_and_counted() -> None:
    playout = queue()
    playout.put(bytes(160))
    for number in range(PlayoutQueue.LIMIT_MARKS + 3):
        playout.mark(str(number))
    assert playout.marks_refused == 3
    playout.take()
    assert len(playout.reached()) == PlayoutQueue.LIMIT_MARKS


def test_a_changed_law_recodes_what_waits() -> None:
    playout = queue()
    spoken = g711.encode_ulaw(b"\x00\x10" * 160)
    playout.put(spoken)
    playout.recode(lambda audio: g711.transcode(audio, "PCMU", "PCMA"), g711.silence("PCMA"))
    assert playout.take() == g711.transcode(spoken, "PCMU", "PCMA")
    playout.put(b"\x55")
    assert drain(playout, 3)[2] == b"\x55" + g711.silence("PCMA", 159)


def test_what_has_been_played_is_what_was_taken_and_not_what_was_cleared() -> None:
    playout = queue()
    playout.put(b"\x01" * 800)
    drain(playout, 2)
    assert (playout.played_ms, playout.queued_ms) == (40, 60)
    playout.clear()
    playout.put(b"\x02" * 320)
    drain(playout, 1)
    assert (playout.played_ms, playout.queued_ms) == (60, 20)


def test_a_wider_encoding_keeps_marks_where_they_were_and_the_limit_in_time() -> None:
    """The answer to our offer brings wideband: what waits is recoded, and each mark stays behind its sentence."""
    playout = PlayoutQueue(g711.silence("PCMU"), limit_ms=100)
    playout.put(b"\x10" * 160)
    playout.mark("one")
    playout.put(b"\x20" * 320)
    playout.mark("two")
    playout.recode(lambda audio: b"".join(bytes((each,)) * 4 for each in audio), bytes(640))
    assert playout.queued_ms == 60
    assert playout.take() == b"\x10" * 640
    assert playout.reached() == ("one",)
    assert playout.take() == playout.take() == b"\x20" * 640
    assert playout.reached() == ("two",)
    assert playout.put(bytes(640 * 6)) == 640 * 5
    assert playout.overflow_ms == 20
