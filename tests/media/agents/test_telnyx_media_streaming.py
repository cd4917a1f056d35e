"""Telnyx's media streaming as its agents rely on it, pipecat's own serializer among them."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from media import g711
from media.agents.base import BadAgent
from media.agents.media_stream import Clear, Mark, Play
from media.agents.telnyx_media_streaming import Stream, TelnyxAgent
from media.messages import AgentSpec
from tests.media.agents.fakes import CONTEXT, FakePort, FakeWebSockets, host
from tests.support.pipecat_agent import has_pipecat

ID = "32de0dea-53cb-4b21-89a4-9e1819c043bc"
FRAME = bytes(range(160))


def stream(law: str = "PCMU", **parameters: str) -> Stream:
    return Stream(ID, CONTEXT, parameters, law)


class Connected:
    def __init__(self, **changes: Any) -> None:
        self.websockets = FakeWebSockets()
        self.link = self.websockets.link
        self.port = FakePort()
        given: dict[str, Any] = {"protocol": "telnyx-media-streaming", "url": "ws://agent.example/ws", **changes}
        self.agent = TelnyxAgent(host(AgentSpec(**given), self.websockets))
        self.agent.open(self.port)
        self.agent.on_open()

    @property
    def sent(self) -> list[dict[str, Any]]:
        return [json.loads(data) for data in self.link.sent]

    def says(self, message: Any) -> None:
        self.agent.on_message(json.dumps(message).encode(), True)


def test_start_names_the_call_and_its_format_in_snake_case() -> None:
    assert json.loads(stream(tone="kind").start()) == {
        "event": "start",
        "sequence_number": "1",
        "start": {
            "user_id": CONTEXT.account_sid,
            "call_control_id": CONTEXT.call_sid,
            "call_session_id": CONTEXT.call_sid,
            "from": "+14155550100",
            "to": "+14155550199",
            "custom_parameters": {"X-Campaign": "spring", "verstat": "TN-Validation-Passed-A", "tone": "kind"},
            "media_format": {"encoding": "PCMU", "sample_rate": 8000, "channels": 1},
        },
        "stream_id": ID,
    }


def test_media_dtmf_mark_and_stop_look_as_telnyxs_and_are_counted() -> None:
    it = stream()
    messages = [json.loads(each) for each in (it.media(7, 120, FRAME), it.dtmf("#"), it.mark("m"), it.stop())]
    assert messages[0]["media"] == {
        "track": "inbound",
        "chunk": "7",
        "timestamp": "120",
        "payload": base64.b64encode(FRAME).decode(),
    }
    assert messages[1]["dtmf"] == {"digit": "#"}
    assert messages[2]["mark"] == {"name": "m"}
    assert messages[3]["stop"] == {"user_id": CONTEXT.account_sid, "call_control_id": CONTEXT.call_sid}
    assert [each["event"] for each in messages] == ["media", "dtmf", "mark", "stop"]
    assert [each["sequence_number"] for each in messages] == ["1", "2", "3", "4"]
    assert {each["stream_id"] for each in messages} == {ID}


def test_a_percent_sign_in_what_is_formatted_is_harmless() -> None:
    assert json.loads(Stream("%d%b", CONTEXT, {}).media(1, 0, b"%d"))["stream_id"] == "%d%b"


def test_the_agents_messages_need_no_stream_id() -> None:
    payload = base64.b64encode(FRAME).decode()
    assert stream().read(json.dumps({"event": "media", "media": {"payload": payload}}).encode()) == Play(FRAME)
    assert stream().read(b'{"event":"mark","mark":{"name":"m"}}') == Mark("m")
    assert stream().read(b'{"event":"clear"}') == Clear()


def test_connected_then_start_go_before_any_media() -> None:
    call = Connected()
    assert [each["event"] for each in call.sent] == ["connected", "start"]
    assert call.sent[0] == {"event": "connected", "version": "1.0.0"}
    assert call.port.take() == [("started",)]
    call.agent.on_audio(FRAME, 0)
    assert call.sent[2]["media"]["timestamp"] == "0"


@pytest.mark.parametrize("law", ["PCMU", "PCMA"])
def test_the_law_of_the_record_holds_both_ways_and_is_announced(law: str) -> None:
    call = Connected(encoding=law)
    assert call.agent.encoding == law
    assert call.sent[1]["start"]["media_format"]["encoding"] == law
    call.port.take()
    call.says({"event": "media", "media": {"payload": base64.b64encode(FRAME).decode()}})
    assert call.port.take() == [("play", FRAME, law)]


def test_another_encoding_is_refused() -> None:
    with pytest.raises(BadAgent, match="PCMU or PCMA"):
        Connected(encoding="G729")


async def test_clear_returns_the_marks_and_closing_says_stop() -> None:
    call = Connected()
    call.port.outstanding = ("a", "b")
    call.says({"event": "clear"})
    call.agent.on_digit("4", 100)
    await call.agent.close()
    assert [each["event"] for each in call.sent[2:]] == ["mark", "mark", "dtmf", "stop"]
    assert call.link.closed


# --- pipecat's own --------------------------------------------------------------------------------


class _Socket:
    """As much of a WebSocket as pipecat's runner asks of one."""

    def __init__(self, messages: list[bytes]) -> None:
        self._messages = [message.decode() for message in messages]

    async def iter_text(self) -> Any:
        for message in self._messages:
            yield message

    async def receive_text(self) -> str:
        return self._messages.pop(0)


@has_pipecat
async def test_pipecat_takes_us_for_telnyx_and_finds_what_it_needs() -> None:
    from pipecat.runner.utils import parse_telephony_websocket

    call = Connected()
    kind, data = await parse_telephony_websocket(_Socket(call.link.sent))  # type: ignore[arg-type]
    assert kind == "telnyx"
    assert data["call_id"] == CONTEXT.call_sid
    assert data["outbound_encoding"] == "PCMU"
    assert (data["from"], data["to"]) == (CONTEXT.from_number, CONTEXT.to_number)


@has_pipecat
@pytest.mark.parametrize("law", ["PCMU", "PCMA"])
async def test_pipecats_serializer_hears_us_and_we_hear_it(law: str) -> None:
    from pipecat.frames.frames import InputAudioRawFrame, InputDTMFFrame, InterruptionFrame, OutputAudioRawFrame
    from pipecat.serializers.telnyx import TelnyxFrameSerializer

    call = Connected(encoding=law)
    params = TelnyxFrameSerializer.InputParams(auto_hang_up=False, sample_rate=8000)
    serializer = TelnyxFrameSerializer(call.sent[1]["stream_id"], law, law, params=params)
    await serializer.setup(type("Setup", (), {"audio_in_sample_rate": 8000})())

    call.agent.on_audio(FRAME, 0)
    heard = await serializer.deserialize(call.link.sent[-1].decode())
    assert isinstance(heard, InputAudioRawFrame)
    assert heard.audio == g711.DECODERS[law](FRAME)
    call.agent.on_digit("5", 100)
    pressed = await serializer.deserialize(call.link.sent[-1].decode())
    assert isinstance(pressed, InputDTMFFrame)
    assert pressed.button.value == "5"

    call.port.take()
    said = await serializer.serialize(OutputAudioRawFrame(audio=bytes(320), sample_rate=8000, num_channels=1))
    stop = await serializer.serialize(InterruptionFrame())
    assert isinstance(said, str)
    assert isinstance(stop, str)
    call.agent.on_message(said.encode(), True)
    call.agent.on_message(stop.encode(), True)
    [played, cleared] = call.port.take()
    assert (played[0], played[2]) == ("play", law)
    assert len(played[1]) == 160
    assert cleared == ("clear",)
    assert call.agent.counts.ignored == 0
    await asyncio.sleep(0)
