"""The messages between the control API's process and the one that carries calls."""

from __future__ import annotations

import msgspec
import pytest

from control.apart.messages import (
    Answer,
    Beat,
    Begin,
    Finish,
    Question,
    ReadReadiness,
    Word,
    decode_from_api,
    decode_from_calls,
    encode,
)
from media.messages import ProtocolError

FROM_API = (Question(number=1, body=ReadReadiness()), Word(body=Beat()))
FROM_CALLS = (Begin(settings=b"{}", listening=("udp:127.0.0.1:5060",)), Finish())


def test_what_is_sent_arrives_as_it_was() -> None:
    assert [decode_from_api(encode(message)) for message in FROM_API] == [*FROM_API]
    assert [decode_from_calls(encode(message)) for message in FROM_CALLS] == [*FROM_CALLS]
    answer = decode_from_calls(encode(Answer(number=7, result=msgspec.Raw(msgspec.msgpack.encode(None)))))
    assert isinstance(answer, Answer)
    assert (answer.number, msgspec.msgpack.decode(answer.result)) == (7, None)


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x80", b"GET / HTTP/1.1", encode(FROM_API[0])[:-3]])
def test_what_is_no_message_is_one_error(data: bytes) -> None:
    for decode in (decode_from_api, decode_from_calls):
        with pytest.raises(ProtocolError):
            decode(data)


def test_another_version_is_refused_by_its_number() -> None:
    with pytest.raises(ProtocolError, match="protocol version 2, expected 1"):
        decode_from_calls(encode(Finish(version=2)))


def test_each_side_says_only_its_own() -> None:
    with pytest.raises(ProtocolError):
        decode_from_api(encode(Finish()))
    with pytest.raises(ProtocolError):
        decode_from_calls(encode(FROM_API[0]))
