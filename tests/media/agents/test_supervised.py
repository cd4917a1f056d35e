"""Agents that fail: the second URL, the reconnection, the message, the transfer, and every row of the table."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from media.agents.base import AgentCounts, AgentPort, BadAgent, Encoding, Host
from media.agents.builtin import Echo
from media.agents.catalogue import create
from media.agents.supervised import TRANSITIONS, State, Supervised
from media.messages import AgentSpec, OnLost
from tests.media.agents.fakes import RECORDINGS, FakePort, FakeTimers, host

FIRST, SECOND = "wss://one.example/", "wss://two.example/"
FRAME = bytes(160)


class Inner:
    """A protocol's agent, scripted: what it is told is kept."""

    encoding: Encoding | None = "PCMU"
    port: AgentPort

    def __init__(self, given: Host) -> None:
        if given.spec.url == "bad":
            raise BadAgent("no url")
        self.spec = given.spec
        self.counts = AgentCounts()
        self.log: list[Any] = []

    def open(self, port: AgentPort) -> None:
        self.port = port
        self.log.append("open")

    def on_start(self) -> None:
        self.log.append("start")

    def on_audio(self, frame: bytes, at_ms: int) -> None:
        self.counts.sent += 1
        self.log.append(at_ms)

    def on_digit(self, digit: str, duration_ms: int) -> None:
        self.log.append(digit)

    def on_mark(self, name: str) -> None:
        self.log.append(("mark", name))

    def on_event(self, event: str, data: Any) -> None:
        self.log.append((event, data))

    async def close(self) -> None:
        self.log.append("close")


class Scene:
    """A supervised call and everybody in it."""

    def __init__(self, **fields: Any) -> None:
        self.agents: list[Inner] = []
        self.timers = FakeTimers()
        self.port = FakePort()
        spec = AgentSpec(protocol="scripted", url=FIRST, **{"agent_timeout_s": 10.0, **fields})

        def protocol(given: Host) -> Inner:
            self.agents.append(Inner(given))
            return self.agents[-1]

        self.supervised = Supervised(host(spec, timers=self.timers), protocol)
        self.supervised.open(self.port)

    @property
    def agent(self) -> Inner:
        """The latest."""
        return self.agents[-1]

    def up(self, *, established: bool = True) -> Inner:
        """The agent has been told of the call, which is established."""
        self.agent.port.started()
        if established:
            self.supervised.on_start()
        self.port.take()
        return self.agent

    def lose(self) -> None:
        """The agent's connection breaks."""
        self.agent.port.ended("lost", "the connection was lost")

    def told(self, *without: str) -> list[tuple[Any, ...]]:
        """What the bridge was told, but for these."""
        return [entry for entry in self.port.take() if entry[0] not in without]


@pytest.fixture(autouse=True)
async def every_task_ends() -> Any:
    """Agents retired on the way are closed by tasks."""
    yield
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task is not asyncio.current_task()))


# --- which agents are supervised --------------------------------------------------------------


async def test_only_a_record_that_asks_for_it_is_supervised() -> None:
    plain = AgentSpec(protocol="builtin", name="echo")
    assert isinstance(create(host(plain)), Echo)
    assert isinstance(create(host(AgentSpec(protocol="builtin", name="echo", on_lost=OnLost()))), Supervised)
    streams = AgentSpec(protocol="twilio-media-streams", url=FIRST, fallback_url=SECOND)
    assert isinstance(create(host(streams)), Supervised)


async def test_a_first_url_that_is_none_is_a_bad_agent() -> None:
    with pytest.raises(BadAgent):
        Supervised(host(AgentSpec(protocol="scripted", url="bad", fallback_url=SECOND)), Inner)


# --- before the answer --------------------------------------------------------------------------


async def test_one_that_answers_at_once_is_like_any_other() -> None:
    s = Scene(fallback_url=SECOND)
    s.agent.port.started()
    s.agent.port.play(FRAME, "PCMU")
    assert s.told() == [("note", "agent_connected", ""), ("started",), ("play", FRAME, "PCMU")]
    s.timers.advance(60)
    assert s.told() == []
    assert [agent.spec.url for agent in s.agents] == [FIRST]


async def test_the_second_url_is_tried_when_the_first_refuses() -> None:
    s = Scene(fallback_url=SECOND)
    s.agent.port.failed("refused", "HTTP 503")
    assert [agent.spec.url for agent in s.agents] == [FIRST, SECOND]
    assert s.agent.spec.parameters == {}
    s.agent.port.started()
    assert s.told() == [
        ("note", "agent_not_reached", "HTTP 503"),
        ("note", "agent_connected", "the second URL"),
        ("started",),
    ]


async def test_the_first_url_has_half_the_time_and_the_second_the_rest() -> None:
    s = Scene(fallback_url=SECOND)
    assert s.agent.spec.agent_timeout_s == 5.0
    s.timers.advance(4.9)
    assert len(s.agents) == 1
    s.timers.advance(0.1)
    assert s.agent.spec.url == SECOND
    assert s.agent.spec.agent_timeout_s == pytest.approx(5.0)
    s.timers.advance(5.0)
    assert s.told("note") == [("failed", "timeout", "no connection in 5 s")]
    assert s.supervised.state is State.OVER


async def test_a_first_url_that_refuses_at_once_leaves_the_second_all_the_time() -> None:
    s = Scene(fallback_url=SECOND)
    s.agent.port.failed("refused", "connection refused")
    assert s.agent.spec.agent_timeout_s == 10.0


async def test_when_both_fail_the_bridge_is_told_the_last_ones_cause() -> None:
    s = Scene(fallback_url=SECOND)
    s.agent.port.failed("refused", "HTTP 503")
    s.agent.port.failed("error", "TLS certificate: expired")
    assert s.told("note") == [("failed", "error", "TLS certificate: expired")]


async def test_a_second_url_that_is_none_is_a_failure_and_no_error() -> None:
    s = Scene(fallback_url="bad")
    s.agent.port.failed("refused", "HTTP 503")
    assert s.told("note") == [("failed", "error", "no url")]


async def test_an_agent_given_up_is_closed_and_heard_no_more() -> None:
    s = Scene(fallback_url=SECOND)
    first = s.agent
    s.timers.advance(5.0)
    await asyncio.sleep(0)
    assert first.log[-1] == "close"
    s.port.take()
    first.port.started()
    first.port.ready()
    first.port.play(FRAME, "PCMU")
    first.port.mark("m")
    first.port.send_digits("1")
    first.port.ask("hold", {})
    first.port.note("x")
    first.port.hang_up()
    first.port.failed("error", "late")
    first.port.ended("lost", "late")
    assert first.port.clear() == ()
    assert s.told() == []


async def test_one_that_leaves_while_the_phone_rings_is_followed_by_the_second() -> None:
    s = Scene(fallback_url=SECOND)
    s.up(established=False)
    s.lose()
    assert s.agent.spec.url == SECOND
    assert s.supervised.state is State.RECONNECTING
    s.agent.port.started()
    assert s.supervised.state is State.UP


async def test_before_the_answer_nobody_is_played_a_message_or_transferred() -> None:
    """The number's own fallback is for that."""
    s = Scene(on_lost=OnLost(message="lost", transfer="+14155550123"))
    s.up(established=False)
    s.lose()
    assert s.told("note") == [("ended", "lost", "the connection was lost")]


# --- in mid-call ----------------------------------------------------------------------------------


async def test_without_a_policy_a_loss_is_the_end() -> None:
    s = Scene(fallback_url=SECOND)
    s.agent.port.failed("refused", "HTTP 503")
    s.up()
    s.lose()
    assert s.told("note") == [("ended", "lost", "the connection was lost")]


async def test_a_lost_agent_is_connected_to_once_more_and_told_that_it_is_a_resumption() -> None:
    s = Scene(on_lost=OnLost(reconnect=True), parameters={"a": "1"})
    s.up()
    s.lose()
    assert s.told() == [("note", "agent_lost", "the connection was lost"), ("clear",)]
    assert s.agent.spec.parameters == {"a": "1", "truedy_resumed": "true"}
    assert (s.agent.spec.url, s.agent.spec.agent_timeout_s) == (FIRST, 5.0)
    s.agent.port.started()
    assert s.told() == [("note", "agent_connected", ""), ("note", "agent_reconnected", ""), ("ready",)]
    assert s.agent.log == ["open", "start"]


async def test_the_new_agents_time_begins_anew_and_what_was_pressed_meanwhile_is_told() -> None:
    s = Scene(on_lost=OnLost(reconnect=True))
    first = s.up()
    s.supervised.on_audio(FRAME, 1000)
    s.supervised.on_audio(FRAME, 1020)
    s.lose()
    s.supervised.on_audio(FRAME, 1040)
    s.supervised.on_digit("7", 100)
    s.agent.port.started()
    s.supervised.on_audio(FRAME, 1060)
    s.supervised.on_audio(FRAME, 1080)
    assert first.log == ["open", "start", 0, 20]
    assert s.agent.log == ["open", "start", "7", 0, 20]
    assert s.supervised.counts.sent == 4


async def test_marks_events_and_the_encoding_are_the_current_agents() -> None:
    s = Scene(on_lost=OnLost(reconnect=True))
    first = s.up()
    s.supervised.on_mark("m")
    s.supervised.on_event("hold", {"by": "caller"})
    assert first.log[-2:] == [("mark", "m"), ("hold", {"by": "caller"})]
    assert s.supervised.encoding == "PCMU"
    s.lose()
    s.supervised.on_mark("m")
    s.supervised.on_event("hold", {})
    assert s.agent.log == ["open"]
    s.agent.port.mark("n")
    s.agent.port.clear()
    assert (s.agent.port.encoding, s.agent.port.playing) == ("PCMU", False)


async def test_a_reconnection_goes_to_the_url_that_was_up_and_then_to_the_other() -> None:
    s = Scene(fallback_url=SECOND, on_lost=OnLost(reconnect=True, reconnect_timeout_s=4.0))
    s.agent.port.failed("refused", "HTTP 503")
    s.up()
    s.lose()
    assert (s.agent.spec.url, s.agent.spec.agent_timeout_s) == (SECOND, 2.0)
    s.timers.advance(2.0)
    assert (s.agent.spec.url, s.agent.spec.agent_timeout_s) == (FIRST, pytest.approx(2.0))
    s.agent.port.started()
    assert s.supervised.state is State.UP


async def test_it_is_reconnected_once_in_a_call() -> None:
    s = Scene(on_lost=OnLost(reconnect=True))
    s.up()
    s.lose()
    s.up()
    s.lose()
    assert s.told("note") == [("ended", "lost", "the connection was lost")]
    assert len(s.agents) == 2


async def test_the_reconnection_ends_in_time() -> None:
    s = Scene(on_lost=OnLost(reconnect=True, reconnect_timeout_s=3.0))
    s.up()
    s.lose()
    s.port.take()
    s.timers.advance(2.9)
    assert s.told() == []
    s.timers.advance(0.1)
    assert s.told("note") == [("ended", "lost", "no connection in 3 s")]


async def test_then_the_message_is_played_to_its_end() -> None:
    s = Scene(on_lost=OnLost(reconnect=True, message="lost"))
    s.up()
    s.lose()
    s.agent.port.failed("refused", "connection refused")
    assert s.told("note") == [
        ("clear",),
        ("clear",),
        ("play", RECORDINGS["lost"], "L16"),
        ("mark", "truedy:message played"),
    ]
    s.supervised.on_mark("truedy:message played")
    assert s.told("note") == [("ended", "lost", "connection refused")]


async def test_a_message_whose_end_never_comes_ends_all_the_same() -> None:
    s = Scene(on_lost=OnLost(message="lost"))
    s.up()
    s.lose()
    s.port.take()
    s.timers.advance(len(RECORDINGS["lost"]) / 16000 + 10)
    assert s.told("note") == [("ended", "lost", "the connection was lost")]


async def test_a_message_that_is_gone_is_left_out() -> None:
    s = Scene(on_lost=OnLost(message="deleted"))
    s.up()
    s.lose()
    assert ("note", "message_missing", "deleted") in s.port.log
    assert s.port.log[-1] == ("ended", "lost", "the connection was lost")


async def test_then_control_is_asked_to_transfer_the_caller() -> None:
    s = Scene(on_lost=OnLost(message="lost", transfer="+14155550123"))
    s.up()
    s.lose()
    s.supervised.on_mark("truedy:message played")
    assert s.port.log[-1] == ("ask", "transfer", {"target": "+14155550123"})
    s.supervised.on_event("refused", {"verb": "hold"})
    assert s.supervised.state is State.ASKING
    s.supervised.on_event("refused", {"verb": "transfer", "message": "not allowed"})
    assert s.told()[-2:] == [("note", "transfer_failed", "not allowed"), ("ended", "lost", "the connection was lost")]


async def test_a_transfer_without_any_outcome_ends_after_a_minute() -> None:
    s = Scene(on_lost=OnLost(transfer="+14155550123"))
    s.up()
    s.lose()
    s.timers.advance(60)
    assert s.port.log[-1] == ("ended", "lost", "the connection was lost")


async def test_a_transfer_can_follow_a_failed_reconnection() -> None:
    s = Scene(on_lost=OnLost(reconnect=True, transfer="+14155550123"))
    s.up()
    s.lose()
    s.agent.port.failed("refused", "HTTP 503")
    assert s.port.log[-1][:2] == ("ask", "transfer")


async def test_an_agent_that_ends_the_call_is_not_called_back() -> None:
    """Closed in order, or hung up."""
    for end in ("closed", "hang_up"):
        s = Scene(on_lost=OnLost(reconnect=True))
        agent = s.up()
        if end == "closed":
            agent.port.ended("closed", "closed with 1000")
            assert s.told() == [("ended", "closed", "closed with 1000")]
        else:
            agent.port.hang_up()
            agent.port.ended("lost", "the connection was lost")
            assert s.told() == [("hang_up",)]
        assert len(s.agents) == 1


# --- the end of the call ----------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["connecting", "up", "reconnecting", "playing", "asking", "over"])
async def test_the_call_can_end_at_any_moment_and_nothing_is_due_afterwards(state: str) -> None:
    s = Scene(on_lost=OnLost(reconnect=state == "reconnecting", message="lost", transfer="+14155550123"))
    if state != "connecting":
        s.up()
    if state not in ("connecting", "up"):
        s.lose()
    if state in ("asking", "over"):
        s.supervised.on_mark("truedy:message played")
    if state == "over":
        s.timers.advance(60)
    assert s.supervised.state.value == state
    await s.supervised.close()
    assert s.agent.log[-1] == "close"
    s.port.take()
    s.timers.advance(600)
    s.agent.port.started()
    s.lose()
    assert s.told() == []
    assert s.supervised.state is State.OVER


async def test_the_table_is_whole() -> None:
    """The rows' test is the run with ``--every-row``; here: nothing leaves OVER."""
    assert not [pair for pair in TRANSITIONS if pair[0] is State.OVER]
