from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.framing import PING, FramingError, StreamFramer
from edge.message import MAX_HEADER_LINES, MAX_HEADER_OCTETS, MAX_MESSAGE_OCTETS, Request, parse, salvage
from edge.uri import ParseError

DATA = Path(__file__).parent / "data" / "rfc4475"


def message(body: bytes = b"", *, length: str = "Content-Length: {}", number: int = 1) -> bytes:
    head = [
        "OPTIONS sip:edge.example.com SIP/2.0",
        "Via: SIP/2.0/TCP 192.0.2.1;branch=z9hG4bK1",
        "From: <sip:a@b>;tag=1",
        "To: <sip:b@c>",
        "Call-ID: 1",
        f"CSeq: {number} OPTIONS",
        length.format(len(body)),
    ]
    return "\r\n".join([*head, "", ""]).encode() + body


def refusal(data: bytes) -> FramingError:
    with pytest.raises(FramingError) as caught:
        StreamFramer().feed(data)
    return caught.value


def test_messages_come_out_whole_however_the_stream_is_cut() -> None:
    """RFC 3261 §18.3."""
    messages = [message(b"v=0\r\n\r\nnot a message"), message(), message(b"\r\n\r\n")]
    stream = b"".join(messages)
    for size in (1, 2, 3, 7, 64, len(stream)):
        framer = StreamFramer()
        found = [one for at in range(0, len(stream), size) for one in framer.feed(stream[at : at + size])]
        assert found == messages
        assert framer.pending == 0
        assert framer.pings == 0


@given(st.lists(st.binary(max_size=200), max_size=5), st.lists(st.integers(1, 300), max_size=30), st.integers(0, 3))
def test_any_cut_of_any_stream_gives_the_same_messages(bodies: list[bytes], cuts: list[int], pings: int) -> None:
    stream = b"".join(PING * pings + message(body) for body in bodies)
    framer, found = StreamFramer(), []
    for cut in cuts:
        found += framer.feed(stream[:cut])
        stream = stream[cut:]
    found += framer.feed(stream)
    assert [parse(one).body for one in found] == bodies
    assert framer.pings == pings * len(bodies)


def test_two_requests_in_one_segment_are_two_requests() -> None:
    """RFC 4475 §3.1.1.8, on a stream. Five octets more than the second announces follow: they are no message."""
    error = refusal((DATA / "dblreq.dat").read_bytes())
    assert len(error.rejected) == 5
    first, second = error.messages
    one, two = parse(first), parse(second)
    assert isinstance(one, Request)
    assert isinstance(two, Request)
    assert (one.method, one.body) == ("REGISTER", b"")
    assert (two.method, len(two.body)) == ("INVITE", 150)


def test_pings_between_messages_are_counted_and_single_line_ends_are_not() -> None:
    """RFC 5626 §3.5.1, §4.4.1."""
    framer = StreamFramer()
    assert framer.feed(b"\r\n") == []
    assert framer.pings == 0
    assert framer.feed(b"\r\n") == []
    assert framer.pings == 1
    assert framer.feed(PING + message()) == [message()]
    assert framer.pings == 2
    framer.pings = 0
    framer.feed(b"\r\n" + message() + PING)
    assert framer.pings == 1
    framer.feed(PING * 1000 + b"\r")
    assert framer.pings == 1001
    assert framer.feed(b"\n" + message()) == [message()]


@pytest.mark.parametrize(
    "line",
    ["l:{}", "L :  {}", "content-length\t:\t{} ", "CONTENT-LENGTH: 00{}", "Content-Length:\r\n {}", "l: \r\n\t{}\r\n "],
)
def test_content_length_is_found_in_each_spelling(line: str) -> None:
    """RFC 3261 §7.3.1, §7.3.3."""
    stream = message(b"12345", length=line)
    assert StreamFramer().feed(stream + message()) == [stream, message()]


@pytest.mark.parametrize(
    "line",
    [
        *("X: y", "Content-Length: -1", "Content-Length: ", "Content-Length: 5x", "Content-Length: +5", "l: 5 5"),
        *("Content-Length: 5\r\nl: 5", "l: 5\r\n 0", "Content-Length: 0x5", "Content-Length: 99999999999", "l: ٥"),
        *("X-Content-Length: 5", " Content-Length: 5", "Content-Length: 5, 5", "Content-Length\r\n : 5"),
    ],
)
def test_a_stream_without_one_good_content_length_is_broken(line: str) -> None:
    """RFC 3261 §18.3, §20.14: mandatory on streams; RFC 4475 §3.1.2.3, §3.3.9."""
    error = refusal(message(b"12345", length=line.replace("{}", "5")))
    assert error.status == 400


@pytest.mark.parametrize("name", ["ncl", "mcl01"])
def test_a_bad_content_length_leaves_enough_to_answer(name: str) -> None:
    error = refusal((DATA / f"{name}.dat").read_bytes())
    assert error.status == 400
    assert error.messages == []
    request = salvage(error.rejected)
    assert request is not None
    assert request.call_id.startswith(name)


def test_messages_before_the_broken_one_are_not_lost_and_nothing_comes_after() -> None:
    framer = StreamFramer()
    with pytest.raises(FramingError) as caught:
        framer.feed(message() + message(length="X: y") + message())
    assert caught.value.messages == [message()]
    with pytest.raises(FramingError) as again:
        framer.feed(message())
    assert (again.value.messages, again.value.rejected) == ([], b"")
    assert framer.pending == 0


@pytest.mark.parametrize("announced", [MAX_MESSAGE_OCTETS, 999_999_999])
def test_a_message_that_announces_too_much_is_refused_at_its_headers(announced: int) -> None:
    error = refusal(message(length=f"Content-Length: {announced}"))
    assert (error.status, error.reason) == (413, "message too large")


def test_the_largest_message_passes() -> None:
    size = MAX_MESSAGE_OCTETS - len(message(length="Content-Length: 262000"))
    whole = message(b"x" * size)
    assert len(whole) == MAX_MESSAGE_OCTETS
    assert StreamFramer().feed(whole) == [whole]


def test_headers_without_end_are_cut_off_at_their_limit() -> None:
    framer = StreamFramer()
    framer.feed(b"OPTIONS sip:a SIP/2.0\r\nX: " + b"x" * (MAX_HEADER_OCTETS - 30))
    assert framer.pending > 0
    with pytest.raises(FramingError) as caught:
        framer.feed(b"x" * 100)
    assert caught.value.status == 413
    assert len(caught.value.rejected) <= MAX_HEADER_OCTETS + 4


def test_one_huge_segment_is_held_to_the_limits_too() -> None:
    assert refusal(b"x" * 10_000_000).status == 413
    assert refusal(message(length="X: " + "x" * MAX_HEADER_OCTETS + "\r\nl: 0")).status == 413


def test_too_many_header_lines_are_refused() -> None:
    lines = "\r\n".join(f"X: {number}" for number in range(MAX_HEADER_LINES))
    assert refusal(message(length=lines + "\r\nl: 0")).status == 400


@given(
    st.binary(max_size=400) | st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b"l:", b"0", b" ", b"x"])).map(b"".join)
)
def test_any_octets_are_messages_or_a_framing_error(data: bytes) -> None:
    framer = StreamFramer()
    try:
        for octet in data:
            framer.feed(bytes([octet]))
    except FramingError as error:
        assert error.status in (400, 413)


@given(st.sampled_from(sorted(DATA.glob("*.dat"))), st.data())
def test_framer_and_parser_never_disagree_about_where_a_message_ends(path: Path, data: st.DataObject) -> None:
    """One reading of Content-Length: what the framer cuts off, the parser takes whole, or refuses."""
    octets = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(octets) - 1))
        octets[at : at + data.draw(st.integers(0, 2))] = data.draw(
            st.sampled_from([b"\r\n", b"\r\n ", b":", b"l: 1\r\n", b"Content-Length: 3\r\n", b" ", b"7", b"\0"])
        )
    try:
        messages = StreamFramer().feed(bytes(octets))
    except FramingError as error:
        messages = error.messages
    for one in messages:
        try:
            parsed = parse(one)
        except ParseError:
            continue
        assert one.endswith(b"\r\n\r\n" + parsed.body)
