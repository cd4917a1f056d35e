"""What a caller hears for whom no agent could be reached."""

from __future__ import annotations

import pytest

from media.agents.announcement import Announcement
from media.agents.base import BadAgent
from media.messages import AgentSpec
from tests.media.agents.fakes import RECORDINGS, FakePort, host


def announcement(name: str | None = "unavailable") -> Announcement:
    return Announcement(host(AgentSpec(protocol="announcement", name=name)))


async def test_it_plays_its_recording_and_hangs_up_when_that_has_been_heard() -> None:
    port, agent = FakePort(), announcement()
    agent.open(port)
    assert port.take() == [("started",), ("play", RECORDINGS["unavailable"], "L16"), ("mark", "played")]
    agent.on_start()
    agent.on_audio(bytes(160), 0)
    agent.on_digit("1", 100)
    agent.on_event("hold", {})
    assert port.take() == []
    agent.on_mark("played")
    assert port.take() == [("hang_up",)]
    await agent.close()
    agent.on_mark("played")
    assert port.take() == []


def forwarding() -> Announcement:
    spec = AgentSpec(protocol="announcement", name="unavailable", parameters={"forward": "+14155550123"})
    return Announcement(host(spec))


def test_one_that_forwards_answers_and_asks_for_the_transfer() -> None:
    port, agent = FakePort(), forwarding()
    agent.open(port)
    assert port.take() == [("started",), ("ready",)]
    agent.on_start()
    assert port.take() == [("ask", "transfer", {"target": "+14155550123"})]
    agent.on_event("transfer", {"status": 180, "phrase": "Ringing", "final": False})
    agent.on_event("transfer", {"status": 200, "phrase": "OK", "final": True})
    agent.on_event("refused", {"verb": "hold"})
    assert port.take() == []


@pytest.mark.parametrize(
    ("event", "data"),
    [
        ("transfer", {"status": 486, "phrase": "Busy Here", "final": True}),
        ("transfer", {"status": 0, "phrase": "", "final": True}),
        ("refused", {"verb": "transfer", "message": "not supported"}),
    ],
)
def test_a_forward_that_fails_leaves_the_recording(event: str, data: dict[str, object]) -> None:
    port, agent = FakePort(), forwarding()
    agent.open(port)
    agent.on_start()
    port.take()
    agent.on_event(event, data)
    agent.on_event(event, data)
    assert port.take() == [("play", RECORDINGS["unavailable"], "L16"), ("mark", "played")]


@pytest.mark.parametrize("name", ["no-such-recording", None])
def test_without_its_recording_it_is_a_bad_agent(name: str | None) -> None:
    with pytest.raises(BadAgent):
        announcement(name)
