"""What every agent behind a link does alike: telling, waiting, dropping, ending."""

from __future__ import annotations

from functools import partial

import pytest

from media.agents.base import AgentPort, BadAgent
from media.agents.linked import LinkedAgent, Unacknowledged, WebSocketAgent, websocket_url
from media.messages import AgentSpec
from tests.media.agents.fakes import CONTEXT, FakePort, FakeWebSockets, host

FRAME = bytes(160)


class Plain(WebSocketAgent):
    """The least a protocol is."""

    headers = (("X-Who", "us"),)

    def _opened(self, port: AgentPort) -> None:
        assert self._link is not None
        self._link.send(b"hello")
        port.started()

    def _audio(self, number: int, at_ms: int, frame: bytes) -> bytes:
        return b"audio %d at %d" % (number, at_ms)

    def _heard(self, data: bytes, text: bool, port: AgentPort) -> None:
        if data == b"play":
            port.play(FRAME, "PCMU")
        else:
            self._ignore()

    def _farewell(self) -> bytes:
        return b"goodbye"

    def on_digit(self, digit: str, duration_ms: int) -> None:
        self._tell(partial(b"digit %b".__mod__, digit.encode()))


class Call:
    def __init__(self) -> None:
        self.websockets = FakeWebSockets()
        self.link = self.websockets.link
        self.port = FakePort()
        self.agent = Plain(host(AgentSpec(protocol="plain", url="ws://h/"), self.websockets))
        self.agent.open(self.port)
        self.agent.on_open()
        self.port.take()


def test_the_handshake_has_the_protocols_headers() -> None:
    call = Call()
    assert call.websockets.asked == [("ws://h/", 15.0)]
    assert call.websockets.headers == [(("X-Truedy-Call-Sid", CONTEXT.call_sid), ("X-Who", "us"))]
    assert call.websockets.anywhere == [False]


def test_a_slow_agent_hears_the_newest_audio_and_every_other_message_in_its_place() -> None:
    call = Call()
    call.link.writable = False
    for number in range(LinkedAgent.BACKLOG_FRAMES + 5):
        call.agent.on_audio(FRAME, number * 20)
    call.agent.on_digit("7", 100)
    call.agent.on_audio(FRAME, 9000)
    call.link.writable = True
    call.agent.on_writable()
    assert call.link.sent[1] == b"audio 7 at 120"
    assert call.link.sent[-3:] == [b"audio 105 at 2080", b"digit 7", b"audio 106 at 9000"]
    assert (call.agent.counts.sent, call.agent.counts.dropped) == (100, 6)


def test_media_that_begins_before_the_agent_is_connected_follows_what_it_is_told_of_the_call() -> None:
    websockets = FakeWebSockets()
    websockets.link.writable = False
    agent = Plain(host(AgentSpec(protocol="plain", url="ws://h/"), websockets))
    agent.open(FakePort())
    agent.on_audio(FRAME, 0)
    agent.on_digit("7", 100)
    websockets.link.writable = True
    agent.on_open()
    agent.on_audio(FRAME, 20)
    assert websockets.link.sent == [b"hello", b"audio 1 at 0", b"digit 7", b"audio 2 at 20"]


def test_an_agent_that_reads_nothing_is_given_up() -> None:
    call = Call()
    call.link.writable = False
    for _ in range(LinkedAgent.BACKLOG_MESSAGES + 1):
        call.agent.on_digit("1", 100)
    assert call.port.take() == [("ended", "lost", "the agent does not read")]
    assert call.link.closed
    call.agent.on_digit("1", 100)
    call.agent.on_audio(FRAME, 0)
    call.agent.on_writable()
    assert call.link.sent == [b"hello"]


async def test_after_the_calls_end_the_agent_is_not_listened_to() -> None:
    call = Call()
    await call.agent.close()
    assert call.link.sent[-1] == b"goodbye"
    assert call.link.closed
    call.agent.on_message(b"play", True)
    call.agent.on_closed(True, "bye")
    call.agent.on_failed("refused", "late")
    call.agent.on_open()
    await call.agent.close()
    assert call.port.take() == []


@pytest.mark.parametrize(("orderly", "cause"), [(True, "closed"), (False, "lost")])
def test_how_the_link_ended_is_how_the_agent_did(orderly: bool, cause: str) -> None:
    call = Call()
    call.agent.on_closed(orderly, "why")
    assert call.port.take() == [("ended", cause, "why")]


def test_what_makes_no_sense_is_counted() -> None:
    call = Call()
    call.agent.on_message(b"?", True)
    assert call.agent.counts.ignored == 1


def test_marks_of_one_name_are_told_apart() -> None:
    marks = Unacknowledged()
    first, second = marks.add("mark", "m"), marks.add("mark", "m")
    assert first != second
    assert first is not None
    assert marks.take(first) == ("mark", "m")
    assert marks.take(first) is None


def test_forgotten_marks_are_reached_unnoticed() -> None:
    marks = Unacknowledged()
    mark, play = marks.add("mark", "m"), marks.add("play", "p")
    assert mark is not None
    assert play is not None
    marks.forget("mark")
    assert marks.take(mark) is None
    assert marks.take(play) == ("play", "p")


def test_marks_are_bounded() -> None:
    marks = Unacknowledged()
    for _ in range(Unacknowledged.LIMIT):
        assert marks.add("mark", "m") is not None
    assert marks.add("mark", "m") is None


@pytest.mark.parametrize("url", [None, "", "http://secret.example/", "ws://", "ws://h:0/", "ws://[::1", "ws://h/#x"])
def test_a_url_that_is_none_is_refused_without_being_repeated(url: str | None) -> None:
    with pytest.raises(BadAgent) as refused:
        websocket_url("plain", url)
    assert "secret" not in str(refused.value)
