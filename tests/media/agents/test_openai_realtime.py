"""OpenAI's Realtime API as the edge speaks it: the session asked for, turns, truncation, tools, failures.

Whatever is sent is judged by the types of OpenAI's own package (:mod:`tests.support.openai_events`).
"""

from __future__ import annotations

import base64
import importlib.util
import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.agents.base import BadAgent, Encoding
from media.agents.openai_realtime import Audio, Called, Created, Failed, Finished, OpenAiAgent, Responding, Session
from media.messages import AgentSpec, Realtime, TurnDetection
from tests.media.agents.fakes import CONTEXT, FakePort, FakeWebSockets, host
from tests.support.openai_events import client_event

pytestmark = pytest.mark.skipif(importlib.util.find_spec("openai") is None, reason="not installed: openai")

FRAME = bytes(range(160))
KEY = "sk-planted"
URL = "wss://api.openai.com/v1/realtime?model=gpt-realtime"
PRESENT: dict[str, Any] = {"type": "session.created", "session": {"type": "realtime", "audio": {}}}
OLDER: dict[str, Any] = {"type": "session.created", "session": {"input_audio_format": "pcm16", "voice": "alloy"}}
FULL = Realtime(
    voice="marin",
    instructions="Be kind.",
    greeting="Say hello.",
    temperature=0.7,
    turn_detection=TurnDetection(threshold=0.6, silence_duration_ms=400),
    tools=("hang_up", "transfer_call"),
)


class Call:
    """A session up to where its ``session.created`` has come, unless told otherwise."""

    def __init__(
        self, realtime: Realtime = FULL, *, law: Encoding = "PCMU", created: Any = PRESENT, **changes: Any
    ) -> None:
        self.websockets = FakeWebSockets()
        self.link = self.websockets.link
        self.port = FakePort(law)
        given: dict[str, Any] = {"headers": {"Authorization": f"Bearer {KEY}"}, "realtime": realtime, **changes}
        self.agent = OpenAiAgent(host(AgentSpec(protocol="openai-realtime", url=URL, **given), self.websockets))
        self.agent.open(self.port)
        self.agent.on_open()
        self._read = 0
        self.older = created is OLDER
        if created is not None:
            self.says(created)

    def begun(self) -> Call:
        """Told of the call, all that was sent so far forgotten."""
        self.says({"type": "session.updated", "session": {}})
        self.port.take()
        self.sent()
        return self

    def says(self, event: dict[str, Any]) -> None:
        """The server's event."""
        self.agent.on_message(json.dumps({"event_id": "event_1", **event}).encode(), True)

    def sent(self) -> list[dict[str, Any]]:
        """The client's events since the last look, each judged."""
        new, self._read = self.link.sent[self._read :], len(self.link.sent)
        return [json.loads(data) if self.older else client_event(data) for data in new]

    def speaks(self, audio: bytes, item: str = "item_1", response: str = "resp_1", **more: Any) -> None:
        """A piece of the model's audio."""
        self.says(
            {
                "type": "response.output_audio.delta",
                "response_id": response,
                "item_id": item,
                "output_index": 0,
                "content_index": 0,
                "delta": base64.b64encode(audio).decode(),
                **more,
            }
        )

    def responds(self, response: str = "resp_1") -> None:
        self.says({"type": "response.created", "response": {"id": response, "status": "in_progress"}})

    def finishes(self, response: str = "resp_1", status: str = "completed", **error: str) -> None:
        details = {"status_details": {"type": status, "error": error}} if error else {}
        self.says({"type": "response.done", "response": {"id": response, "status": status, **details}})

    def interrupts(self) -> None:
        self.says({"type": "input_audio_buffer.speech_started", "audio_start_ms": 0, "item_id": "item_u"})

    def calls(self, name: str, arguments: str = "{}", call_id: str = "call_1") -> None:
        item = {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}
        self.says({"type": "response.output_item.done", "response_id": "resp_1", "output_index": 1, "item": item})


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


# --- the session ----------------------------------------------------------------------------------


def test_the_server_speaks_first_and_is_then_told_all_that_the_record_says() -> None:
    assert Call(created=None).sent() == []
    [update] = Call().sent()
    session = update["session"]
    assert session["type"] == "realtime"
    assert session["output_modalities"] == ["audio"]
    assert session["instructions"] == "Be kind."
    assert session["audio"] == {
        "input": {
            "format": {"type": "audio/pcmu"},
            "turn_detection": {
                "type": "server_vad",
                "threshold": 0.6,
                "silence_duration_ms": 400,
                "create_response": True,
                "interrupt_response": True,
            },
        },
        "output": {"format": {"type": "audio/pcmu"}, "voice": "marin"},
    }
    assert [tool["name"] for tool in session["tools"]] == ["hang_up", "transfer_call"]
    assert "temperature" not in session, "the present interface has none"


def test_a_record_that_says_nothing_leaves_all_to_openai() -> None:
    [update] = Call(Realtime()).sent()
    assert update["session"].keys() == {"type", "output_modalities", "audio"}
    assert update["session"]["audio"]["output"] == {"format": {"type": "audio/pcmu"}}


def test_semantic_turns_are_asked_for_by_their_own_names() -> None:
    [update] = Call(Realtime(turn_detection=TurnDetection(type="semantic_vad", eagerness="low"))).sent()
    turns = update["session"]["audio"]["input"]["turn_detection"]
    assert (turns["type"], turns["eagerness"]) == ("semantic_vad", "low")


@pytest.mark.parametrize(
    ("law", "present", "older"),
    [
        ("PCMU", {"type": "audio/pcmu"}, "g711_ulaw"),
        ("PCMA", {"type": "audio/pcma"}, "g711_alaw"),
        ("L16/16000", {"type": "audio/pcm", "rate": 24000}, "pcm16"),
    ],
)
def test_the_session_has_the_calls_own_law(law: Encoding, present: dict[str, Any], older: str) -> None:
    [update] = Call(law=law).sent()
    assert update["session"]["audio"]["input"]["format"] == present
    [update] = Call(law=law, created=OLDER).sent()
    assert update["session"]["input_audio_format"] == older


def test_a_server_of_the_older_interface_is_spoken_to_in_its_own_names() -> None:
    call = Call(created=OLDER)
    [update] = call.sent()
    session = update["session"]
    assert session["input_audio_format"] == session["output_audio_format"] == "g711_ulaw"
    assert (session["voice"], session["temperature"], session["modalities"]) == ("marin", 0.7, ["audio", "text"])
    assert "type" not in session
    call.begun()
    call.speaks(FRAME, type="response.audio.delta")
    assert call.port.take() == [("play", FRAME, "PCMU")]


def test_the_call_begins_when_the_session_stands_and_the_model_is_told_of_it_and_greets() -> None:
    call = Call(parameters={"language": "en"})
    assert call.port.take() == []
    call.sent()
    call.says({"type": "session.updated", "session": {}})
    assert call.port.take() == [("started",)]
    facts, greeting = call.sent()
    text = facts["item"]["content"][0]["text"]
    assert facts["item"]["role"] == "system"
    facts = ("language: en", "X-Campaign: spring", "verstat: TN-Validation-Passed-A")
    for told in (CONTEXT.from_number, CONTEXT.to_number, *facts):
        assert told in text
    assert greeting == {"type": "response.create", "response": {"instructions": "Say hello."}}
    call.says({"type": "session.updated", "session": {}})
    assert call.sent() == []


def test_without_a_greeting_the_caller_speaks_first() -> None:
    call = Call(Realtime())
    call.sent()
    call.says({"type": "session.updated", "session": {}})
    assert types(call.sent()) == ["conversation.item.create"]


def test_the_key_is_in_the_handshake_alone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    call = Call().begun()
    assert ("Authorization", f"Bearer {KEY}") in call.websockets.headers[0]
    call.says({"type": "error", "error": {"type": "invalid_request_error", "message": "no"}})
    assert KEY not in repr(call.agent._host.spec)
    assert KEY not in caplog.text
    assert all(KEY.encode() not in data for data in call.link.sent)


def test_its_url_is_the_operators_and_may_be_private() -> None:
    assert Call().websockets.anywhere == [True]


@pytest.mark.parametrize("changes", [{"headers": {}}, {"headers": {"X": "y"}}])
def test_without_a_key_there_is_no_agent(changes: dict[str, Any]) -> None:
    with pytest.raises(BadAgent, match="no OpenAI API key is saved"):
        Call(**changes)


# --- audio ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", ["PCMU", "PCMA"])
def test_audio_of_either_law_goes_through_as_it_is(law: Encoding) -> None:
    call = Call(law=law).begun()
    assert call.agent.encoding == law
    call.agent.on_audio(FRAME, 0)
    [append] = call.sent()
    assert append == {"type": "input_audio_buffer.append", "audio": base64.b64encode(FRAME).decode()}
    call.speaks(FRAME * 7)
    assert call.port.take() == [("play", FRAME * 7, law)]


def test_a_wideband_call_is_heard_at_24_khz_and_halved_samples_are_whole_again() -> None:
    call = Call(law="L16/16000").begun()
    assert call.agent.encoding == "L16/24000"
    call.speaks(b"abc")
    call.speaks(b"d")
    assert [entry[1:] for entry in call.port.take()] == [(b"ab", "L16/24000"), (b"cd", "L16/24000")]


# --- barge-in -------------------------------------------------------------------------------------


def test_a_caller_who_speaks_silences_the_model_which_forgets_what_was_not_heard() -> None:
    """The model has sent a second, of which 340 ms have been played."""
    call = Call().begun()
    call.responds()
    call.speaks(bytes(4000))
    call.speaks(bytes(4000))
    call.port.plays(340)
    call.port.take()
    call.interrupts()
    assert call.port.take() == [("clear",)]
    [truncate] = call.sent()
    assert truncate == {
        "type": "conversation.item.truncate",
        "item_id": "item_1",
        "content_index": 0,
        "audio_end_ms": 340,
    }


def test_what_is_counted_is_what_was_played_not_what_came_nor_what_time_it_is() -> None:
    """An item that waits behind another has not been heard at all."""
    call = Call().begun()
    call.speaks(bytes(8000), "item_1")
    call.port.plays(1000)
    call.speaks(bytes(4000), "item_2")
    call.speaks(bytes(4000), "item_3")
    call.port.plays(120)
    call.interrupts()
    assert [(event["item_id"], event["audio_end_ms"]) for event in call.sent()] == [("item_2", 120), ("item_3", 0)]


def test_what_was_heard_to_its_end_is_not_truncated() -> None:
    call = Call().begun()
    call.speaks(bytes(1600))
    call.port.plays(200)
    call.port.playing = False
    call.interrupts()
    assert call.sent() == []
    assert ("clear",) not in call.port.take()


def test_what_comes_late_of_a_response_that_was_broken_off_is_not_played() -> None:
    call = Call().begun()
    call.responds("resp_1")
    call.speaks(bytes(800), response="resp_1")
    call.interrupts()
    call.port.take()
    call.speaks(bytes(800), response="resp_1")
    assert call.port.take() == []
    call.finishes("resp_1", "cancelled")
    call.responds("resp_2")
    call.speaks(bytes(800), "item_2", "resp_2")
    assert [entry[0] for entry in call.port.take()] == ["play"]


def test_after_an_interruption_the_next_item_is_counted_from_its_own_start() -> None:
    call = Call().begun()
    call.speaks(bytes(8000))
    call.port.plays(100)
    call.interrupts()
    call.speaks(bytes(8000), "item_2", "resp_2")
    call.port.plays(60)
    call.interrupts()
    assert [(event["item_id"], event["audio_end_ms"]) for event in call.sent()] == [("item_1", 100), ("item_2", 60)]


# --- digits ---------------------------------------------------------------------------------------


def test_digits_that_come_together_are_one_message_and_the_models_turn() -> None:
    call = Call().begun()
    for at_ms, digit in ((0, "1"), (400, "2")):
        call.agent.on_audio(FRAME, at_ms)
        call.agent.on_digit(digit, 100)
    call.agent.on_audio(FRAME, 1880)
    assert "conversation.item.create" not in types(call.sent())
    call.agent.on_audio(FRAME, 1900)
    told, turn, _ = call.sent()
    assert "12" in told["item"]["content"][0]["text"]
    assert (told["item"]["role"], turn["type"]) == ("user", "response.create")


def test_a_hash_ends_them_at_once() -> None:
    call = Call().begun()
    for digit in "42#":
        call.agent.on_digit(digit, 100)
    told, _ = call.sent()
    assert "42#" in told["item"]["content"][0]["text"]


def test_while_the_model_speaks_its_next_turn_waits() -> None:
    """A second response while one is under way would be an error."""
    call = Call().begun()
    call.responds()
    call.agent.on_digit("#", 100)
    assert types(call.sent()) == ["conversation.item.create"]
    call.finishes()
    assert types(call.sent()) == ["response.create"]


def test_digits_without_end_are_bounded() -> None:
    call = Call().begun()
    for _ in range(1000):
        call.agent.on_digit("1", 100)
    call.agent.on_digit("#", 100)
    assert len(call.sent()[0]["item"]["content"][0]["text"]) < 150


# --- tools ----------------------------------------------------------------------------------------


def test_the_model_hangs_up() -> None:
    call = Call().begun()
    call.calls("hang_up")
    assert call.port.take() == [("hang_up",)]


def test_the_model_transfers_and_is_told_how_that_went() -> None:
    call = Call().begun()
    call.responds()
    call.calls("transfer_call", '{"target": "+14155550123"}')
    assert call.port.take() == [("ask", "transfer", {"target": "+14155550123"})]
    assert call.sent() == []
    call.finishes()
    call.agent.on_event("refused", {"verb": "transfer", "message": "busy"})
    result, turn = call.sent()
    assert result["item"]["call_id"] == "call_1"
    assert json.loads(result["item"]["output"]) == {"verb": "transfer", "message": "busy", "event": "refused"}
    assert turn["type"] == "response.create"


def test_progress_is_no_outcome_of_a_transfer_and_after_a_good_one_the_model_is_silent() -> None:
    call = Call().begun()
    call.calls("transfer_call", '{"target": "+14155550123"}')
    call.agent.on_event("transfer", {"status": 180, "phrase": "Ringing", "final": False})
    assert call.sent() == []
    call.agent.on_event("transfer", {"status": 200, "phrase": "OK", "final": True})
    [result] = call.sent()
    assert json.loads(result["item"]["output"])["status"] == 200


def test_after_a_transfer_that_failed_it_is_the_models_turn() -> None:
    call = Call().begun()
    call.calls("transfer_call", '{"target": "+14155550123"}')
    call.agent.on_event("transfer", {"status": 486, "phrase": "Busy Here", "final": True})
    assert types(call.sent()) == ["conversation.item.create", "response.create"]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("transfer_call", ""),
        ("transfer_call", "{}"),
        ("transfer_call", '{"target": ""}'),
        ("transfer_call", '{"target": 5}'),
        ("transfer_call", "[" * 10_000),
        ("order_pizza", "{}"),
    ],
)
def test_a_call_that_makes_no_sense_is_answered_with_an_error(name: str, arguments: str) -> None:
    call = Call().begun()
    call.calls(name, arguments)
    result, turn = call.sent()
    assert "error" in json.loads(result["item"]["output"])
    assert turn["type"] == "response.create"
    assert call.port.take() == []


def test_a_second_transfer_waits_for_the_first() -> None:
    call = Call().begun()
    call.calls("transfer_call", '{"target": "+14155550123"}')
    call.calls("transfer_call", '{"target": "+14155550124"}', "call_2")
    assert len(call.port.take()) == 1
    assert call.sent()[0]["item"]["call_id"] == "call_2"


def test_a_tool_that_is_not_on_the_record_does_nothing() -> None:
    call = Call(Realtime()).begun()
    call.calls("hang_up")
    assert call.port.take() == []
    assert "error" in call.sent()[0]["item"]["output"]


def test_other_events_of_the_call_are_notes_in_the_conversation() -> None:
    call = Call().begun()
    call.agent.on_event("hold", {"by": "caller", "since": None})
    [note] = call.sent()
    assert note["item"]["role"] == "system"
    assert "hold: by caller" in note["item"]["content"][0]["text"]


def test_nothing_is_said_before_the_session_stands() -> None:
    call = Call()
    call.sent()
    call.agent.on_event("hold", {})
    assert call.sent() == []


# --- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "words"), [("HTTP 401", "refuses the API key"), ("HTTP 429", "rate limit"), ("HTTP 500", "HTTP 500")]
)
def test_a_handshake_that_is_refused_says_why_in_words(message: str, words: str) -> None:
    call = Call(created=None)
    call.port.take()
    call.agent.on_failed("refused", message)
    [(what, cause, said)] = call.port.take()
    assert (what, cause) == ("failed", "refused")
    assert words in said


def test_a_session_that_is_not_granted_fails_the_call() -> None:
    call = Call()
    call.says(
        {"type": "error", "error": {"type": "invalid_request_error", "code": "invalid_value", "message": "voice"}}
    )
    assert call.port.take() == [("failed", "error", "OpenAI: invalid_value: voice")]
    assert call.link.closed


def test_an_event_that_is_refused_ends_nothing() -> None:
    call = Call().begun()
    call.says({"type": "error", "error": {"type": "invalid_request_error", "message": "item not found"}})
    assert call.port.take() == []
    assert not call.link.closed


@pytest.mark.parametrize("code", ["session_expired", "insufficient_quota"])
def test_a_session_that_ends_is_told_with_its_reason(code: str) -> None:
    call = Call().begun()
    call.says({"type": "error", "error": {"type": "invalid_request_error", "code": code, "message": "60 minutes"}})
    assert call.port.take() == [("ended", "lost", f"OpenAI: {code}: 60 minutes")]
    assert call.link.closed


def test_a_response_that_fails_is_tried_again_and_three_in_a_row_lose_the_agent() -> None:
    call = Call().begun()
    call.agent.on_audio(FRAME, 0)
    call.responds()
    call.finishes(status="failed", type="server_error", code="rate_limit_exceeded", message="slow down")
    call.sent()
    call.agent.on_audio(FRAME, 1980)
    assert "response.create" not in types(call.sent())
    call.agent.on_audio(FRAME, 2000)
    assert "response.create" in types(call.sent())
    for _ in range(2):
        assert call.port.take() == []
        call.finishes(status="failed", type="server_error", code="rate_limit_exceeded", message="slow down")
    assert call.port.take() == [("ended", "lost", "OpenAI: rate_limit_exceeded: slow down")]


def test_a_response_that_succeeds_wipes_the_slate() -> None:
    call = Call().begun()
    for _ in range(5):
        call.finishes(status="failed", code="server_error")
        call.finishes()
    assert call.port.take() == []


def test_the_caller_speaking_takes_the_place_of_a_second_try() -> None:
    call = Call().begun()
    call.finishes(status="failed", code="server_error")
    call.interrupts()
    call.agent.on_audio(FRAME, 60_000)
    assert types(call.sent()) == ["input_audio_buffer.append"]


# --- what the server says -------------------------------------------------------------------------


def session() -> Session:
    return Session(FULL, CONTEXT, {}, "PCMU")


@pytest.mark.parametrize(
    ("event", "wanted"),
    [
        (PRESENT, Created(older=False)),
        (OLDER, Created(older=True)),
        ({"type": "session.created"}, Created(older=False)),
        ({"type": "response.created", "response": {"id": "r"}}, Responding("r")),
        ({"type": "response.done", "response": {"id": "r", "status": "completed"}}, Finished("r", "completed")),
        ({"type": "response.done", "response": {"status_details": {"error": {"type": "x"}}}}, Finished("", "", "x")),
        ({"type": "error", "error": {"type": "t", "code": None, "message": "m"}}, Failed("t", "m")),
        ({"type": "error", "error": {}}, Failed("unknown", "")),
        ({"type": "response.output_audio.delta", "item_id": "i", "delta": "AAE="}, Audio("", "i", 0, b"\x00\x01")),
        ({"type": "response.output_item.done", "item": {"type": "message"}}, None),
        (
            {"type": "response.output_item.done", "item": {"type": "function_call", "name": "f", "call_id": "c"}},
            Called("c", "f", ""),
        ),
        ({"type": "rate_limits.updated", "rate_limits": []}, None),
        ({"type": "response.output_audio_transcript.delta", "delta": "Hello"}, None),
        ({"type": "conversation.item.added", "item": {}}, None),
        ({"type": "input_audio_buffer.speech_stopped"}, None),
    ],
)
def test_events_that_the_api_has_are_read_or_passed_over(event: dict[str, Any], wanted: object) -> None:
    it = session()
    assert it.read(json.dumps(event).encode()) == wanted
    assert it.ignored == 0


JUNK = [
    b"",
    b"null",
    b"{}",
    b"[]",
    b'{"type":5}',
    b'{"type":"hologram"}',
    b'{"type":"response.output_audio.delta","delta":"%%%"}',
    b'{"type":"response.output_audio.delta","delta":5}',
    b'{"type":"response.output_audio.delta","item_id":5,"delta":""}',
    b'{"type":"response.created","response":7}',
    b'{"type":"error","error":"x"}',
    b'{"type":"session.created","session":[]}',
    b"\xff\xfe",
    b"[" * 100_000,
]


@pytest.mark.parametrize("data", JUNK, ids=range(len(JUNK)))
def test_junk_and_unknown_events_are_ignored_and_counted(data: bytes) -> None:
    call = Call().begun()
    call.agent.on_message(data, True)
    assert call.agent.counts.ignored == 1
    assert call.port.take() == []


@given(st.binary(max_size=100))
def test_no_event_of_a_server_raises(data: bytes) -> None:
    session().read(data)
