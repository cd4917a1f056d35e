"""Twilio Media Streams as agents rely on it: order, names, marks, timestamps, junk."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.agents.base import BadAgent
from media.agents.twilio_media_streams import Clear, Mark, Play, Stream, TwilioAgent
from media.messages import AgentSpec
from tests.media.agents.fakes import CONTEXT, FakePort, FakeWebSockets, host

SID = "MZ" + "5a" * 16
FRAME = bytes(range(160))


def spec(**changes: Any) -> AgentSpec:
    given: dict[str, Any] = {"protocol": "twilio-media-streams", "url": "ws://agent.example/ws", **changes}
    return AgentSpec(**given)


def stream(parameters: dict[str, str] | None = None) -> Stream:
    return Stream(SID, CONTEXT, parameters or {})


class Connected:
    """An agent whose link is open, told of the call."""

    def __init__(self, **changes: Any) -> None:
        self.websockets = FakeWebSockets()
        self.link = self.websockets.link
        self.port = FakePort()
        self.agent = TwilioAgent(host(spec(**changes), self.websockets))
        self.agent.open(self.port)
        self.agent.on_open()

    @property
    def sent(self) -> list[dict[str, Any]]:
        return [json.loads(data) for data in self.link.sent]

    def says(self, message: Any) -> None:
        self.agent.on_message(json.dumps(message).encode(), True)


# --- to the agent ---------------------------------------------------------------------------------


def test_start_has_what_agents_detect_twilio_by() -> None:
    assert json.loads(stream({"tone": "kind"}).start()) == {
        "event": "start",
        "sequenceNumber": "1",
        "streamSid": SID,
        "start": {
            "streamSid": SID,
            "accountSid": CONTEXT.account_sid,
            "callSid": CONTEXT.call_sid,
            "tracks": ["inbound"],
            "customParameters": {
                "X-Campaign": "spring",
                "verstat": "TN-Validation-Passed-A",
                "tone": "kind",
                "from_number": "+14155550100",
                "to_number": "+14155550199",
            },
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        },
    }


def test_an_agents_parameters_cannot_pass_for_the_calls_own_numbers() -> None:
    custom = json.loads(stream({"from_number": "+1999", "X-Campaign": "mine"}).start())["start"]["customParameters"]
    assert custom["from_number"] == "+14155550100"
    assert custom["X-Campaign"] == "mine"


def test_media_has_true_milliseconds_and_the_callers_bytes() -> None:
    message = json.loads(stream().media(7, 120, FRAME))
    assert message == {
        "event": "media",
        "sequenceNumber": "1",
        "streamSid": SID,
        "media": {
            "track": "inbound",
            "chunk": "7",
            "timestamp": "120",
            "payload": base64.b64encode(FRAME).decode(),
        },
    }


def test_a_percent_sign_in_what_is_formatted_is_harmless() -> None:
    assert json.loads(Stream("MZ%d%b", CONTEXT, {}).media(1, 0, b"%d"))["media"]["payload"] == "JWQ="


def test_sequence_numbers_count_every_message_from_start_on() -> None:
    it = stream()
    messages = [it.start(), it.media(1, 0, FRAME), it.dtmf("5"), it.mark("m"), it.stop()]
    assert [json.loads(each)["sequenceNumber"] for each in messages] == ["1", "2", "3", "4", "5"]
    assert {json.loads(each)["streamSid"] for each in messages} == {SID}


def test_dtmf_mark_and_stop_look_as_twilios() -> None:
    it = stream()
    assert json.loads(it.dtmf("#"))["dtmf"] == {"track": "inbound_track", "digit": "#"}
    assert json.loads(it.mark('a "quoted" name'))["mark"] == {"name": 'a "quoted" name'}
    assert json.loads(it.stop())["stop"] == {"accountSid": CONTEXT.account_sid, "callSid": CONTEXT.call_sid}


# --- from the agent -------------------------------------------------------------------------------


def test_the_agents_media_is_mu_law_of_any_length() -> None:
    payload = base64.b64encode(bytes(1234)).decode()
    message = json.dumps({"event": "media", "streamSid": SID, "media": {"payload": payload}})
    assert stream().read(message.encode()) == Play(bytes(1234))


@pytest.mark.parametrize(
    ("mark", "name"),
    [
        ({"mark": {"name": "responsePart"}}, "responsePart"),
        ({"mark": {"name": ""}}, ""),
        ({"mark": {"name": None}}, ""),
        ({"mark": {}}, ""),
        ({"mark": None}, ""),
        ({}, ""),
        ({"mark": {"name": 7}}, "7"),
    ],
)
def test_a_mark_without_a_name_is_tolerated(mark: dict[str, Any], name: str) -> None:
    assert stream().read(json.dumps({"event": "mark", "streamSid": SID, **mark}).encode()) == Mark(name)


def test_clear_needs_no_body() -> None:
    assert stream().read(json.dumps({"event": "clear", "streamSid": SID}).encode()) == Clear()


def test_a_message_without_a_stream_sid_is_this_streams() -> None:
    assert stream().read(b'{"event":"clear"}') == Clear()
    assert stream().read(b'{"event":"clear","streamSid":null}') == Clear()


JUNK = [
    b"",
    b"hello",
    b"null",
    b"[]",
    b'{"event":7}',
    b'{"event":"hologram","media":3}',
    b'{"event":"media"}',
    b'{"event":"media","media":{}}',
    b'{"event":"media","media":{"payload":"%%%"}}',
    b'{"event":"media","media":{"payload":"AAA"}}',
    b'{"event":"media","media":{"payload":5}}',
    b'{"event":"mark","mark":"x"}',
    b'{"event":"mark","mark":{"name":"' + b"x" * 1025 + b'"}}',
    b'{"event":"clear","streamSid":{}}',
    b'{"event":"clear"',
    b"\xff\xfe\x00",
    b'{"event":"\xff"}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("data", JUNK, ids=range(len(JUNK)))
def test_unknown_and_broken_messages_are_ignored_and_counted(data: bytes) -> None:
    it = stream()
    assert it.read(data) is None
    assert it.ignored == 1


def test_a_message_for_another_stream_is_not_played_here() -> None:
    it = stream()
    assert it.read(b'{"event":"clear","streamSid":"MZother"}') is None
    assert it.ignored == 1


@given(st.binary(max_size=100) | st.text(max_size=100).map(str.encode))
def test_no_message_of_an_agent_raises(data: bytes) -> None:
    stream().read(data)


# --- the agent ------------------------------------------------------------------------------------


def test_connected_then_start_go_while_the_phone_rings_before_any_media() -> None:
    call = Connected()
    assert [message["event"] for message in call.sent] == ["connected", "start"]
    assert call.sent[0] == {"event": "connected", "protocol": "Call", "version": "1.0.0"}
    assert call.port.take() == [("started",)]
    call.agent.on_start()
    call.agent.on_audio(FRAME, 0)
    assert [message["event"] for message in call.sent] == ["connected", "start", "media"]


def test_the_link_is_given_the_agents_timeout() -> None:
    call = Connected(agent_timeout_s=7.5)
    assert call.websockets.asked == [("ws://agent.example/ws", 7.5)]


def test_what_the_agent_says_reaches_the_bridge_untranscoded() -> None:
    call = Connected()
    call.port.take()
    call.says({"event": "media", "streamSid": SID, "media": {"payload": base64.b64encode(FRAME).decode()}})
    call.says({"event": "mark", "streamSid": SID, "mark": {"name": "m"}})
    assert call.port.take() == [("play", FRAME, "PCMU"), ("mark", "m")]


def test_clear_returns_the_outstanding_marks_at_once() -> None:
    call = Connected()
    call.port.outstanding = ("a", "b")
    call.says({"event": "clear", "streamSid": SID})
    assert [message["mark"]["name"] for message in call.sent if message["event"] == "mark"] == ["a", "b"]


def test_digits_and_marks_go_to_the_agent() -> None:
    call = Connected()
    call.agent.on_digit("4", 100)
    call.agent.on_mark("m")
    assert [message["event"] for message in call.sent] == ["connected", "start", "dtmf", "mark"]


def test_an_unknown_event_leaves_the_link_open() -> None:
    call = Connected()
    call.says({"event": "hologram", "streamSid": SID})
    call.agent.on_message(b"\x00\x01", False)
    assert call.agent.counts.ignored == 2
    assert not call.link.closed


async def test_closing_sends_stop_then_closes() -> None:
    call = Connected()
    await call.agent.close()
    assert call.sent[-1]["event"] == "stop"
    assert call.link.closed
    call.port.take()
    call.says({"event": "clear", "streamSid": SID})
    assert call.port.take() == []


@pytest.mark.parametrize(("orderly", "cause"), [(True, "closed"), (False, "lost")])
def test_the_agents_end_is_told_with_how_it_came(orderly: bool, cause: str) -> None:
    call = Connected()
    call.port.take()
    call.agent.on_closed(orderly, "why")
    assert call.port.take() == [("ended", cause, "why")]
    call.agent.on_audio(FRAME, 0)
    call.agent.on_mark("m")
    assert len(call.link.sent) == 2


def test_a_link_that_fails_is_told() -> None:
    call = Connected()
    call.port.take()
    call.agent.on_failed("refused", "HTTP 403")
    assert call.port.take() == [("failed", "refused", "HTTP 403")]


# --- a slow agent ---------------------------------------------------------------------------------


def test_an_agent_that_reads_slowly_loses_the_oldest_caller_audio_and_nothing_else() -> None:
    call = Connected()
    call.link.writable = False
    call.agent.on_digit("1", 100)
    for number in range(TwilioAgent.BACKLOG_FRAMES + 30):
        call.agent.on_audio(FRAME, number * 20)
    call.agent.on_digit("2", 100)
    assert len(call.link.sent) == 2
    assert call.agent.counts.dropped == 30
    call.link.writable = True
    call.agent.on_writable()
    events = [message["event"] for message in call.sent[2:]]
    assert events == ["dtmf", *["media"] * TwilioAgent.BACKLOG_FRAMES, "dtmf"]
    first = call.sent[3]["media"]
    assert (first["chunk"], first["timestamp"]) == ("31", "600")
    assert [message["sequenceNumber"] for message in call.sent[1:]] == [str(n) for n in range(1, len(call.sent))]
    assert call.agent.counts.sent == TwilioAgent.BACKLOG_FRAMES


def test_order_is_kept_while_a_backlog_drains() -> None:
    call = Connected()
    call.link.writable = False
    call.agent.on_mark("early")
    call.link.writable = True
    call.agent.on_audio(FRAME, 0)
    call.agent.on_digit("9", 100)
    call.agent.on_writable()
    assert [message["event"] for message in call.sent[2:]] == ["mark", "media", "dtmf"]


def test_an_agent_that_reads_nothing_at_all_is_given_up() -> None:
    call = Connected()
    call.port.take()
    call.link.writable = False
    for _ in range(TwilioAgent.BACKLOG_MESSAGES + 1):
        call.agent.on_mark("m")
    assert call.port.take() == [("ended", "lost", "the agent does not read")]
    assert call.link.closed


# --- the URL --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        None,
        "",
        "http://agent.example/",
        "ws://",
        "agent.example",
        "ws://h:0/",
        "ws://h:99999/",
        "ws://[::1",
        "ws://h/#x",
    ],
)
def test_a_url_that_is_no_websocket_url_is_refused_without_being_repeated(url: str | None) -> None:
    with pytest.raises(BadAgent) as refused:
        TwilioAgent(host(spec(url=url)))
    assert "agent.example" not in str(refused.value)


def test_a_secure_url_with_a_query_is_taken() -> None:
    TwilioAgent(host(spec(url="wss://agent.example:8443/ws?token=secret")))
