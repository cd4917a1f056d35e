"""AudioSocket: packets cut and put together, byte orders, and how a call goes over it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.agents.audiosocket import AudioSocketAgent, Kind, Reader, address_of, packet, stream_id
from media.agents.base import BadAgent
from media.messages import AgentSpec
from tests.media.agents.fakes import CONTEXT, FakePort, FakeStreams, host

LOUD = b"\x01\x02" * 160


class Connected:
    def __init__(self, **changes: Any) -> None:
        self.streams = FakeStreams()
        self.link = self.streams.link
        self.port = FakePort()
        given: dict[str, Any] = {"protocol": "audiosocket", "url": "audiosocket://agent.example:9092", **changes}
        self.agent = AudioSocketAgent(host(AgentSpec(**given), streams=self.streams))
        self.agent.open(self.port)
        self.agent.on_open()

    def says(self, kind: int, payload: bytes = b"") -> list[tuple[Any, ...]]:
        self.port.take()
        self.agent.on_message(packet(kind, payload), False)
        return self.port.take()


# --- packets --------------------------------------------------------------------------------------


def test_a_packet_is_a_type_a_big_endian_length_and_the_payload() -> None:
    assert packet(0x10, bytes(320)) == b"\x10\x01\x40" + bytes(320)
    assert packet(0x00) == b"\x00\x00\x00"
    assert packet(0xFF, b"\x02") == b"\xff\x00\x01\x02"


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=600)), max_size=8), st.integers(1, 700))
def test_packets_come_out_as_they_went_in_however_the_stream_was_cut(
    packets: list[tuple[int, bytes]], size: int
) -> None:
    stream = b"".join(packet(kind, payload) for kind, payload in packets)
    reader = Reader()
    out = [each for at in range(0, len(stream), size) for each in reader.read(stream[at : at + size])]
    assert out == packets
    assert not reader.incomplete


def test_a_stream_that_ends_within_a_packet_is_incomplete() -> None:
    reader = Reader()
    assert list(reader.read(packet(0x10, bytes(320))[:-1])) == []
    assert reader.incomplete
    assert list(reader.read(b"\x00")) == [(0x10, bytes(320))]


def test_the_stream_is_named_by_the_calls_own_id() -> None:
    from msgspec.structs import replace

    id = "6f1c2f5e-8f0d-4d6e-9a53-0d6e7c7f4a01"
    assert str(stream_id(replace(CONTEXT, call_id=id), bytes(16))) == id
    assert stream_id(CONTEXT, b"\x5a" * 16).bytes == b"\x5a" * 16


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("audiosocket://agent.example:9092", ("agent.example", 9092)),
        ("tcp://127.0.0.1:9092/", ("127.0.0.1", 9092)),
        ("tcp://[::1]:9092", ("::1", 9092)),
    ],
)
def test_a_url_is_a_host_and_a_port(url: str, address: tuple[str, int]) -> None:
    assert address_of(url) == address


@pytest.mark.parametrize(
    "url", [None, "", "ws://secret:1", "tcp://secret", "tcp://:9", "tcp://secret:0", "tcp://secret:9/x", "tcp://[::1"]
)
def test_a_url_that_is_none_is_refused_without_being_repeated(url: str | None) -> None:
    with pytest.raises(BadAgent) as refused:
        address_of(url)
    assert "secret" not in str(refused.value)


# --- the agent ------------------------------------------------------------------------------------


def test_the_uuid_goes_first_and_before_any_audio() -> None:
    call = Connected(agent_timeout_s=7.5)
    assert call.streams.asked == [("agent.example", 9092, 7.5)]
    assert call.link.sent == [packet(Kind.UUID, b"\x5a" * 16)]
    assert call.port.take() == [("started",)]
    call.agent.on_audio(LOUD, 0)
    call.agent.on_digit("#", 100)
    assert call.link.sent[1:] == [packet(0x10, LOUD), b"\x03\x00\x01#"]


def test_at_16_khz_frames_are_twice_as_long_and_of_their_own_type() -> None:
    call = Connected(sample_rate=16000)
    assert call.agent.encoding == "L16/16000"
    call.agent.on_audio(LOUD * 2, 0)
    assert call.link.sent[1] == b"\x12\x02\x80" + LOUD * 2


def test_samples_are_little_endian_on_the_wire(monkeypatch: pytest.MonkeyPatch) -> None:
    from media import g711

    monkeypatch.setattr("media.agents.audiosocket.little_endian", g711.swap_bytes)
    call = Connected()
    call.agent.on_audio(LOUD, 0)
    assert call.link.sent[1] == packet(0x10, b"\x02\x01" * 160)
    assert call.says(0x10, b"\x02\x01") == [("play", b"\x01\x02", "L16")]


@pytest.mark.parametrize(
    ("kind", "encoding"), [(0x10, "L16"), (0x12, "L16/16000"), (0x13, "L16/24000"), (0x16, "L16/48000")]
)
def test_what_the_agent_says_is_played_at_the_rate_it_names(kind: int, encoding: str) -> None:
    assert Connected().says(kind, LOUD) == [("play", LOUD, encoding)]


def test_a_sample_cut_in_two_packets_is_whole_again() -> None:
    call = Connected()
    assert call.says(0x10, b"abc") == [("play", b"ab", "L16")]
    assert call.says(0x10, b"d") == [("play", b"cd", "L16")]


def test_a_hang_up_ends_the_call_once_all_is_played_and_nothing_after_it_counts() -> None:
    call = Connected()
    assert call.says(0x00) == [("hang_up",)]
    assert call.says(0x10, LOUD) == []


def test_digits_of_the_agents_go_to_the_phone() -> None:
    call = Connected()
    assert call.says(0x03, b"a") == [("digits", "A")]
    for odd in (b"", b"12", b"x", b"\xff"):
        assert call.says(0x03, odd) == []
    assert call.agent.counts.ignored == 4


def test_an_error_loses_the_agent() -> None:
    call = Connected()
    assert call.says(0xFF, b"\x04") == [("ended", "lost", "the agent reports error 04")]
    assert call.link.closed


def test_unknown_packets_are_ignored_and_counted() -> None:
    call = Connected()
    assert call.says(0x42, b"?") == []
    assert call.says(0x01, bytes(16)) == []
    assert call.agent.counts.ignored == 2


@given(st.binary(max_size=200))
def test_no_bytes_of_an_agent_raise(data: bytes) -> None:
    Connected().agent.on_message(data, False)


@pytest.mark.parametrize(
    ("rest", "orderly", "cause"), [(b"", True, "closed"), (b"\x10\x01", True, "lost"), (b"", False, "lost")]
)
def test_a_stream_that_ends_is_as_good_as_a_hang_up_but_not_within_a_packet(
    rest: bytes, orderly: bool, cause: str
) -> None:
    call = Connected()
    call.agent.on_message(rest, False)
    call.port.take()
    call.agent.on_closed(orderly, "why")
    assert call.port.take() == [("ended", cause, "why")]


async def test_closing_hangs_up_then_closes() -> None:
    call = Connected()
    await call.agent.close()
    assert call.link.sent[-1] == b"\x00\x00\x00"
    assert call.link.closed


@pytest.mark.parametrize("rate_hz", [11025, 24000, 48000])
def test_another_rate_is_refused(rate_hz: int) -> None:
    with pytest.raises(BadAgent, match="8000 or 16000"):
        Connected(sample_rate=rate_hz)
