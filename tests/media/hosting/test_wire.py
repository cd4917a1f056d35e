"""Frames between a call's media and its agent's host."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.agents.base import BadAgent
from media.hosting import wire
from media.hosting.wire import BadFrame, Kind
from media.messages import AgentSpec


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


@pytest.mark.parametrize(
    ("spec", "encoding"),
    [
        (AgentSpec(protocol="python"), "L16/16000"),
        (AgentSpec(protocol="python", sample_rate=8000), "L16"),
        (AgentSpec(protocol="python", sample_rate=24000), "L16/24000"),
        (AgentSpec(protocol="python", sample_rate=48000), "L16/48000"),
        (AgentSpec(protocol="webrtc"), "L16/48000"),
    ],
)
def test_the_record_chooses_the_rate(spec: AgentSpec, encoding: str) -> None:
    assert wire.encoding_of(spec) == encoding


def test_a_rate_that_is_none_of_ours_is_a_bad_agent() -> None:
    with pytest.raises(BadAgent, match="11025"):
        wire.encoding_of(AgentSpec(protocol="python", sample_rate=11025))
