"""The messages between control and media: one codec, typed and versioned."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media import messages
from media.messages import (
    PROTOCOL_VERSION,
    AgentSpec,
    CallContext,
    CallOpened,
    Envelope,
    LegPolicy,
    LegStatistics,
    Notice,
    OpenCall,
    Ping,
    ProtocolError,
    Reply,
    Request,
    Statistics,
    decode,
    encode,
)

OPEN = OpenCall(
    call="c",
    rtp_port=20000,
    offer=b"v=0\r\n",
    policy=LegPolicy(media_networks=("192.0.2.0/24",)),
    agent=AgentSpec(protocol="builtin", name="echo", parameters={"a": "b"}),
    context=CallContext(
        call_sid="CA0", account_sid="AC0", direction="inbound", from_number="+1", to_number="+2", trunk="t"
    ),
)

ENVELOPES: list[Envelope] = [
    Request(request_id=1, deadline_s=5.0, body=OPEN, epoch=3),
    Request(request_id=2, deadline_s=0.5, body=Ping()),
    Reply(request_id=1, body=CallOpened(sdp=b"v=0\r\n", codec="PCMU"), epoch=3),
    Notice(body=Statistics(calls={"c": LegStatistics(packets_sent=5)}, tick_late_p99_ms=0.4)),
]


@pytest.mark.parametrize("envelope", ENVELOPES, ids=lambda envelope: type(envelope).__name__)
def test_every_envelope_comes_back_as_it_went(envelope: Envelope) -> None:
    assert decode(encode(envelope)) == envelope


def leaves(union: object) -> list[type]:
    return list(union.__args__)  # type: ignore[attr-defined]


def test_every_message_has_a_tag_of_its_own() -> None:
    kinds = [
        *leaves(messages.Command),
        *leaves(messages.Result),
        *leaves(messages.NoticeBody),
        *leaves(messages.Envelope),
    ]
    tags = [kind.__struct_config__.tag for kind in kinds]
    assert len(set(tags)) == len(tags)


def test_another_version_is_refused() -> None:
    later = encode(Request(request_id=1, deadline_s=1.0, body=Ping(), version=PROTOCOL_VERSION + 1))
    with pytest.raises(ProtocolError, match="version"):
        decode(later)


def test_a_field_that_is_not_known_is_refused() -> None:
    with pytest.raises(ProtocolError):
        decode(
            msgspec.msgpack.encode(
                {"type": "request", "request_id": 1, "deadline_s": 1.0, "body": {"type": "ping", "extra": 1}}
            )
        )


@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_are_refused_in_one_way(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(data)
