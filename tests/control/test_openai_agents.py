"""What an agent of ``openai-realtime`` is told beside its own record."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from config.settings import Agents
from control.agent_spec import agent_spec
from control.openai_agents import OpenAiAgents
from control.registry.memory import MemoryRegistry
from control.registry.types import Account, Agent, Integration
from control.resources.pipelines import parse_pipeline
from media.messages import Realtime, TurnDetection

KEY = "sk-planted-4711"
PIPELINE: dict[str, Any] = {
    "protocol": "openai-realtime",
    "model": "gpt-realtime",
    "voice": "marin",
    "greeting": "Say hello.",
    "turn_detection": {"type": "server_vad", "threshold": 0.5},
    "tools": ["hang_up"],
    "parameters": {"language": "en"},
}
AGENT = Agent("agent-1", "acme", "Model", PIPELINE, 0.0, 0.0)


async def registry(*, key: bool = True) -> MemoryRegistry:
    rows = MemoryRegistry()
    await rows.create_account(Account("acme", "Acme", 0.0))
    if key:
        await rows.save_integration(Integration("acme", "openai", {}, {"api_key": KEY}, 0.0, 0.0))
    return rows


async def test_it_is_told_where_openai_is_with_whose_key_and_what_the_record_says() -> None:
    agent = await OpenAiAgents(await registry(), "https://api.openai.com/v1").equip(AGENT)
    spec = agent_spec(agent, Agents(), 0.0)
    assert spec is not None
    assert spec.url == "wss://api.openai.com/v1/realtime?model=gpt-realtime"
    assert spec.headers == {"Authorization": f"Bearer {KEY}"}
    assert spec.parameters == {"language": "en"}
    assert spec.realtime == Realtime(
        voice="marin",
        greeting="Say hello.",
        turn_detection=TurnDetection(threshold=0.5),
        tools=("hang_up",),
    )


async def test_the_key_is_in_nothing_that_is_printed() -> None:
    agent = await OpenAiAgents(await registry(), "https://api.openai.com/v1").equip(AGENT)
    spec = agent_spec(agent, Agents(), 0.0)
    assert KEY not in repr(agent)
    assert KEY not in repr(spec)
    assert agent.pipeline != AGENT.pipeline
    assert KEY not in repr(agent.pipeline)


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("http://127.0.0.1:9000/v1", "ws://127.0.0.1:9000/v1/realtime?model=a%3Ab"),
        ("https://proxy.example/openai", "wss://proxy.example/openai/realtime?model=a%3Ab"),
    ],
)
async def test_the_operator_may_put_a_proxy_in_between(base_url: str, url: str) -> None:
    model = replace(AGENT, pipeline={"protocol": "openai-realtime", "model": "a:b"})
    agent = await OpenAiAgents(await registry(), base_url).equip(model)
    assert agent.pipeline["url"] == url


async def test_without_a_saved_key_it_has_none() -> None:
    agent = await OpenAiAgents(await registry(key=False), "https://api.openai.com/v1").equip(AGENT)
    spec = agent_spec(agent, Agents(), 0.0)
    assert spec is not None
    assert spec.headers == {}


async def test_any_other_agent_is_as_it_was() -> None:
    other = replace(AGENT, pipeline={"protocol": "builtin", "name": "echo"})
    assert await OpenAiAgents(await registry(), "https://api.openai.com/v1").equip(other) is other


async def test_every_field_that_the_api_takes_reaches_the_session() -> None:
    full = {
        **PIPELINE,
        "instructions": "Be kind.",
        "temperature": 0.8,
        "turn_detection": {"type": "semantic_vad", "eagerness": "low"},
        "answer_after_s": 0.0,
        "agent_timeout_s": 3.0,
    }
    stored = parse_pipeline(full).model_dump(exclude_none=True)
    agent = await OpenAiAgents(await registry(), "https://h").equip(replace(AGENT, pipeline=stored))
    spec = agent_spec(agent, Agents(), 0.0)
    assert spec is not None
    assert spec.realtime is not None
    assert (spec.realtime.instructions, spec.realtime.temperature) == ("Be kind.", 0.8)
    assert spec.realtime.turn_detection == TurnDetection(type="semantic_vad", eagerness="low")
    assert (spec.answer_after_s, spec.agent_timeout_s) == (0.0, 3.0)
