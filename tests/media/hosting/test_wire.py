"""Frames between a call's media and its agent's host."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.hosting import wire
from media.hosting.wire import BadFrame, Kind


def test_bodies_come_out_as_they_went_in() -> None:
    ask = wire.Ask("transfer", {"target": "+14155550100"})
    frame = wire.encode(Kind.ASK, ask)
    assert frame[0] == Kind.ASK
    assert wire.decode(frame, wire.Ask) == ask
    assert wire.encode(Kind.CLEAR) == bytes((Kind.CLEAR,))


@given(st.integers(0, 2**34), st.integers(0, 300_000), st.integers(0, 2**34), st.binary(max_size=2000))
def test_audio_is_raw_with_times_modulo_32_bits(at_ms: int, queued_ms: int, taken: int, samples: bytes) -> None:
    frame = wire.audio(at_ms, queued_ms, taken, samples)
    assert wire.read_audio(frame) == (at_ms % 2**32, queued_ms, taken % 2**32, samples)


@given(st.binary(max_size=40))
def test_junk_is_one_error(data: bytes) -> None:
    for read in (
        lambda: wire.decode(data, wire.Open),
        lambda: wire.decode(data, wire.Tell),
        lambda: wire.number(data[:3]),
        lambda: wire.read_audio(data[:12]),
    ):
        with suppress(BadFrame):  # some junk is a frame
            read()


def test_a_text_that_is_no_unicode_is_a_bad_frame() -> None:
    with pytest.raises(BadFrame):
        wire.decode(bytes((Kind.TELL,)) + b"\xa1\x80", wire.Tell)
