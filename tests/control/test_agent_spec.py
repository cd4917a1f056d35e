"""What media is told of an agent."""

from __future__ import annotations

from dataclasses import replace

import pytest

from config.settings import Agents
from control.agent_spec import agent_spec
from control.registry.types import Agent

DEFAULTS = Agents(answer_after_s=2.0, agent_timeout_s=7.0)
AGENT = Agent(
    "g", "a", "A", {"protocol": "twilio-media-streams", "url": "wss://a.example/", "parameters": {"a": "1"}}, 0.0, 0.0
)


def test_the_edges_defaults_stand_where_the_record_has_none() -> None:
    spec = agent_spec(AGENT, DEFAULTS, 0.0)
    assert spec is not None
    assert (spec.answer_after_s, spec.agent_timeout_s) == (2.0, 7.0)
    own = agent_spec(replace(AGENT, pipeline={**AGENT.pipeline, "agent_timeout_s": 3.0}), DEFAULTS, 0.0)
    assert own is not None
    assert own.agent_timeout_s == 3.0


def test_a_numbers_parameters_override_the_agents_and_a_calls_the_numbers() -> None:
    spec = agent_spec(AGENT, DEFAULTS, 0.0, {"a": "2", "b": "2", "c": "2"}, {"c": "3"})
    assert spec is not None
    assert spec.parameters == {"a": "2", "b": "2", "c": "3"}


def test_its_secrets_go_along() -> None:
    spec = agent_spec(replace(AGENT, secrets={"header:X-One": "1", "signing_secret": "s"}), DEFAULTS, 0.0)
    assert spec is not None
    assert (spec.headers, spec.signing_secrets) == ({"X-One": "1"}, ("s",))


def test_a_record_that_no_version_wrote_is_none(caplog: pytest.LogCaptureFixture) -> None:
    assert agent_spec(replace(AGENT, pipeline={"nonsense": 1}), DEFAULTS, 0.0) is None
    assert "agent settings refused" in caplog.text
