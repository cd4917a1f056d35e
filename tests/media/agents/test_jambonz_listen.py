"""jambonz's ``listen`` as its agents rely on it: attributes, binary audio, commands, marks."""

from __future__ import annotations

import base64
import io
import json
import wave
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media import g711
from media.agents.base import BadAgent
from media.agents.jambonz_listen import Disconnect, ForgetMarks, JambonzAgent, Kill, Mark, Play, Stream, Transfer
from media.agents.linked import LinkedAgent, Unacknowledged
from media.messages import AgentSpec
from tests.media.agents.fakes import CONTEXT, FakePort, FakeWebSockets, host

FRAME = bytes(range(160)) * 2


def stream(**parameters: str) -> Stream:
    return Stream(CONTEXT, parameters, 8000)


def command(type: str, **rest: Any) -> bytes:
    return json.dumps({"type": type, **rest}).encode()


def clip(samples: bytes, content_type: str = "raw", **rest: Any) -> bytes:
    data = {"audioContent": base64.b64encode(samples).decode(), "audioContentType": content_type, **rest}
    return command("playAudio", data=data)


def wav(samples: bytes, rate_hz: int = 16000, channels: int = 1, width: int = 2) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate_hz)
        file.writeframes(samples)
    return out.getvalue()


class Connected:
    """An agent whose link is open, told of the call."""

    def __init__(self, **changes: Any) -> None:
        self.websockets = FakeWebSockets()
        self.link = self.websockets.link
        self.port = FakePort()
        given: dict[str, Any] = {"protocol": "jambonz-listen", "url": "ws://agent.example/ws", **changes}
        self.agent = JambonzAgent(host(AgentSpec(**given), self.websockets))
        self.agent.open(self.port)
        self.agent.on_open()

    @property
    def texts(self) -> list[dict[str, Any]]:
        return [json.loads(data) for data, binary in zip(self.link.sent, self.link.binary, strict=True) if not binary]

    def says(self, data: bytes, text: bool = True) -> list[tuple[Any, ...]]:
        self.port.take()
        self.agent.on_message(data, text)
        return self.port.take()

    def marks(self) -> list[str]:
        """The names set at the port since the last look."""
        return [entry[1] for entry in self.port.take() if entry[0] == "mark"]


# --- to the agent ---------------------------------------------------------------------------------


def test_the_first_message_has_the_calls_attributes() -> None:
    told = json.loads(stream(tone="kind").attributes())
    wanted = {
        "callSid": CONTEXT.call_sid,
        "accountSid": CONTEXT.account_sid,
        "from": "+14155550100",
        "to": "+14155550199",
        "direction": "inbound",
        "sampleRate": 8000,
        "mixType": "mono",
        "callStatus": "ringing",
        "tone": "kind",
        "X-Campaign": "spring",
        "verstat": "TN-Validation-Passed-A",
        "metadata": {"tone": "kind", "X-Campaign": "spring", "verstat": "TN-Validation-Passed-A"},
    }
    assert told.items() >= wanted.items()
    assert told.keys() >= {"callerName", "callId", "sipCallId", "callerId", "originatingSipTrunkName"}


def test_an_agents_parameters_cannot_pass_for_the_calls_own_facts() -> None:
    told = json.loads(stream(**{"from": "+1999", "sampleRate": "1"}).attributes())
    assert (told["from"], told["sampleRate"]) == ("+14155550100", 8000)
    assert told["metadata"]["from"] == "+1999"


def test_the_handshake_asks_for_jambonzs_subprotocol() -> None:
    [headers] = Connected().websockets.headers
    assert ("Sec-WebSocket-Protocol", "audio.jambonz.org") in headers


def test_attributes_go_first_as_text_and_audio_after_them_as_binary() -> None:
    call = Connected()
    assert call.port.take() == [("started",)]
    call.agent.on_audio(FRAME, 0)
    assert call.link.sent[1] == FRAME
    assert call.link.binary == [False, True]


@pytest.mark.parametrize(
    ("rate_hz", "encoding"), [(None, "L16"), (8000, "L16"), (16000, "L16/16000"), (24000, "L16/24000")]
)
def test_the_rate_of_the_record_holds_both_ways_and_is_announced(rate_hz: int | None, encoding: str) -> None:
    call = Connected(sample_rate=rate_hz)
    assert call.agent.encoding == encoding
    assert call.texts[0]["sampleRate"] == (rate_hz or 8000)
    assert call.says(FRAME, text=False) == [("play", FRAME, encoding)]


def test_another_rate_is_refused() -> None:
    with pytest.raises(BadAgent, match="8000, 16000 or 24000"):
        Connected(sample_rate=44100)


def test_digits_come_with_their_duration_in_rtps_clock() -> None:
    call = Connected()
    call.agent.on_digit("#", 200)
    assert call.texts[-1] == {"event": "dtmf", "dtmf": "#", "duration": "1600"}


def test_what_control_tells_is_an_event_of_that_name() -> None:
    call = Connected()
    call.agent.on_event("hold", {"by": "caller"})
    call.agent.on_event("refused", {"verb": "transfer", "event": "forged"})
    assert call.texts[1:] == [{"event": "hold", "by": "caller"}, {"event": "refused", "verb": "transfer"}]


def test_samples_are_little_endian_on_the_wire(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("media.agents.jambonz_listen.little_endian", g711.swap_bytes)
    call = Connected()
    call.agent.on_audio(b"\x01\x02" * 160, 0)
    assert call.link.sent[1] == b"\x02\x01" * 160
    assert call.says(b"\x01\x02", text=False) == [("play", b"\x02\x01", "L16")]
    assert stream().read(clip(b"\x01\x02", sampleRate=8000)) == Play(b"\x02\x01", 8000)


# --- from the agent -------------------------------------------------------------------------------


def test_half_a_sample_waits_for_the_message_with_the_other_half() -> None:
    call = Connected()
    assert call.says(b"abc", text=False) == [("play", b"ab", "L16")]
    assert call.says(b"def", text=False) == [("play", b"cdef", "L16")]
    call.says(b"x", text=False)
    call.says(command("killAudio"))
    assert call.says(b"yz", text=False) == [("play", b"yz", "L16")]


@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        (command("killAudio"), Kill()),
        (command("clearMarks"), ForgetMarks()),
        (command("disconnect"), Disconnect()),
        (command("disconnect", data={"headers": {"X-Result": "sold"}}), Disconnect({"X-Result": "sold"})),
        (command("mark", data={"name": "m"}), Mark("m")),
        (command("mark", name="m"), Mark("m")),
        (command("mark"), Mark("")),
        (command("transfer", data={"target": "+14155550123"}), Transfer("+14155550123")),
        (command("transfer", data={"to": "sip:a@b"}), Transfer("sip:a@b")),
        (clip(b"abcd", sampleRate="16000"), Play(b"abcd", 16000)),
        (clip(b"abcd", id="p1", queuePlay=False), Play(b"abcd", 16000, "p1", True)),
        (clip(b"abcd", id=7, queuePlay=True), Play(b"abcd", 16000, 7)),
        (clip(b"abc", sampleRate=8000), Play(b"ab", 8000)),
        (clip(wav(b"abcd"), "wav"), Play(b"abcd", 16000)),
        (clip(wav(b"abcd", 44100), "wave"), Play(b"abcd", 44100)),
    ],
)
def test_commands_are_read_as_jambonz_reads_them(message: bytes, wanted: object) -> None:
    assert stream().read(message) == wanted


JUNK = [
    b"",
    b"null",
    b"{}",
    b'{"type":7}',
    b"\xff\xfe",
    b"[" * 100_000,
    command("hologram"),
    command("playAudio"),
    command("playAudio", data={"audioContent": "%%%"}),
    clip(b"ab", "mp3"),
    clip(b"ab", sampleRate=7999),
    clip(b"ab", sampleRate="loud"),
    clip(b"ab", sampleRate=None),
    clip(b"no wav", "wav"),
    clip(wav(b"abcd")[:20], "wav"),
    clip(wav(b"abcd", channels=2), "wav"),
    clip(wav(b"abcd", width=1), "wav"),
    clip(wav(b"abcd", rate_hz=1), "wav"),
    command("mark", data={"name": "x" * 1025}),
    command("mark", data="x"),
    command("transfer"),
    command("transfer", data={}),
    command("transfer", data={"target": "x" * 1001}),
]


@pytest.mark.parametrize("data", JUNK, ids=range(len(JUNK)))
def test_unknown_and_broken_messages_are_ignored_and_counted(data: bytes) -> None:
    call = Connected()
    assert call.says(data) == []
    assert call.agent.counts.ignored == 1
    assert not call.link.closed


@given(st.binary(max_size=100), st.booleans())
def test_no_message_of_an_agent_raises(data: bytes, text: bool) -> None:
    Connected().agent.on_message(data, text)


def test_a_mark_comes_back_when_it_is_reached() -> None:
    call = Connected()
    call.agent.on_message(command("mark", data={"name": "m"}), True)
    call.agent.on_message(command("mark", data={"name": "m"}), True)
    for name in call.marks():
        call.agent.on_mark(name)
    assert call.texts[1:] == [{"type": "mark", "data": {"name": "m", "event": "playout"}}] * 2


def test_kill_audio_returns_marks_as_cleared_and_clips_as_done() -> None:
    call = Connected()
    call.agent.on_message(clip(FRAME, sampleRate=8000, id="p"), True)
    call.agent.on_message(command("mark", data={"name": "m"}), True)
    call.port.outstanding = tuple(call.marks())
    assert call.says(command("killAudio")) == [("clear",)]
    assert call.texts[1:] == [
        {"type": "playDone", "data": {"id": "p"}},
        {"type": "mark", "data": {"name": "m", "event": "cleared"}},
    ]


def test_clear_marks_is_reached_in_silence() -> None:
    call = Connected()
    call.agent.on_message(command("mark", data={"name": "m"}), True)
    names = call.marks()
    assert call.says(command("clearMarks")) == []
    for name in names:
        call.agent.on_mark(name)
    assert call.texts[1:] == []


def test_a_clip_is_queued_and_its_end_is_told() -> None:
    call = Connected()
    [play, mark] = call.says(clip(FRAME, sampleRate=8000))
    assert play == ("play", FRAME, "L16")
    call.agent.on_mark(mark[1])
    assert call.texts[1:] == [{"type": "playDone", "data": {}}]


def test_a_clip_that_is_not_to_be_queued_interrupts() -> None:
    call = Connected()
    assert [entry[0] for entry in call.says(clip(FRAME, sampleRate=8000, queuePlay=False))] == ["clear", "play", "mark"]


@pytest.mark.parametrize("rate_hz", [8000, 24000, 44100])
def test_a_clip_of_another_rate_keeps_its_pitch(rate_hz: int) -> None:
    call = Connected(sample_rate=16000)
    tone = (8000 * np.sin(2 * np.pi * 440 * np.arange(rate_hz * 2) / rate_hz)).astype("<i2").tobytes()
    [play, _] = call.says(clip(wav(tone, rate_hz), "wav"))
    samples = np.frombuffer(play[1], dtype=np.int16)
    assert play[2] == "L16/16000"
    assert abs(len(samples) - 32000) < 100
    spectrum = np.abs(np.fft.rfft(samples[8000:24000].astype(float)))
    assert abs(int(spectrum.argmax()) - 440) <= 1


def test_disconnect_hangs_up_and_transfer_asks_control() -> None:
    call = Connected()
    parting = {"X-Result": "sold"}
    assert call.says(command("disconnect", data={"headers": parting})) == [("hang_up", parting)]
    asked = call.says(command("transfer", data={"target": "+14155550123"}))
    assert asked == [("ask", "transfer", {"target": "+14155550123"})]


def test_marks_without_end_are_refused_and_counted() -> None:
    call = Connected()
    for _ in range(Unacknowledged.LIMIT + 2):
        call.agent.on_message(command("mark", data={"name": "m"}), True)
    assert len(call.marks()) == Unacknowledged.LIMIT
    assert call.agent.counts.ignored == 2


def test_a_slow_agent_loses_the_oldest_audio_alone() -> None:
    call = Connected()
    call.link.writable = False
    for number in range(LinkedAgent.BACKLOG_FRAMES + 1):
        call.agent.on_audio(number.to_bytes(2, "little") * 160, number * 20)
    call.agent.on_digit("1", 100)
    call.link.writable = True
    call.agent.on_writable()
    assert call.link.sent[1] == b"\x01\x00" * 160
    assert call.link.binary == [False, *[True] * LinkedAgent.BACKLOG_FRAMES, False]
    assert call.agent.counts.dropped == 1


async def test_closing_closes_in_order_without_a_word() -> None:
    call = Connected()
    await call.agent.close()
    assert len(call.link.sent) == 1
    assert call.link.closed
