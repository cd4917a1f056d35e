"""Agents, and the secrets that requests to them carry."""

from __future__ import annotations

import pytest

from control.errors import ResourceNotFound, ValidationFailed
from control.registry.types import Integration, Page, SecretsUnavailable
from control.resources.agents import CreateAgent, UpdateAgent
from tests.support.desk import Desk

ECHO = {"protocol": "builtin", "name": "echo"}
STREAMS = {"protocol": "twilio-media-streams", "url": "wss://agent.example.com/"}


async def test_an_agent_is_its_accounts_alone(desk: Desk) -> None:
    """To anybody else it does not exist."""
    acme, globex = desk.principal("acme"), desk.principal("globex")
    made = await desk.operations.create_agent(acme, CreateAgent.of(name="a", pipeline=ECHO))
    assert [agent.id for agent in (await desk.operations.agents(acme, Page())).items] == [made.id]
    assert (await desk.operations.agents(globex, Page())).total == 0
    for attempt in (
        desk.operations.agent(globex, made.id),
        desk.operations.update_agent(globex, made.id, UpdateAgent.of(name="b")),
        desk.operations.make_signing_secret(globex, made.id),
        desk.operations.delete_agent(globex, made.id),
    ):
        with pytest.raises(ResourceNotFound):
            await attempt


async def test_a_key_that_does_not_open_is_warned_of_and_stops_no_agent(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a change of ``secrets.key`` without the one before."""

    async def sealed(account_id: str, provider: str) -> Integration:
        raise SecretsUnavailable("sealed with another key")

    monkeypatch.setattr(desk.registry, "integration", sealed)
    request = CreateAgent.of(name="a", pipeline={"protocol": "openai-realtime"})
    made = await desk.operations.create_agent(desk.principal("acme"), request)
    assert [warning.code for warning in made.warnings] == ["openai_key_missing"]
    assert (await desk.operations.agents(desk.principal("acme"), Page())).total == 1


async def test_secrets_go_to_a_url_and_to_nothing_else(desk: Desk) -> None:
    """An agent that has one keeps a pipeline that it can go to."""
    by = desk.principal("acme")
    with pytest.raises(ValidationFailed):
        await desk.operations.create_agent(by, CreateAgent.of(name="a", pipeline=ECHO, headers={"X-Key": "k"}))
    agent = await desk.operations.create_agent(by, CreateAgent.of(name="a", pipeline=STREAMS, twilio_auth_token="t"))
    assert agent.twilio_auth_token_set
    for other in (ECHO, {"protocol": "webrtc", "url": "https://agent.example.com/"}):
        with pytest.raises(ValidationFailed):
            await desk.operations.update_agent(by, agent.id, UpdateAgent.of(pipeline=other))
    changed = UpdateAgent.of(pipeline=ECHO, twilio_auth_token=None)
    assert not (await desk.operations.update_agent(by, agent.id, changed)).twilio_auth_token_set
