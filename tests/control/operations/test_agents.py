"""Agents, and the secrets that requests to them carry."""

from __future__ import annotations

import pytest

from control.errors import ResourceNotFound, ValidationFailed
from control.registry.types import Page
from control.resources.agents import CreateAgent, UpdateAgent
from tests.support.desk import Desk

ECHO = {"protocol": "builtin", "name": "echo"}
STREAMS = {"protocol": "twilio-media-streams", "url": "wss://agent.example.com/"}


async def test_an_agent_is_its_accounts_alone(desk: Desk) -> None:
    """To anybody else it does not exist."""
    acme, globex = desk.principal("acme"), desk.principal("globex")
    made = await desk.operations.create_agent(acme, CreateAgent.of(name="a", pipeline=ECHO))
    assert (await desk.operations.agents(acme, Page())).items == [made]
    assert (await desk.operations.agents(globex, Page())).total == 0
    for attempt in (
        desk.operations.agent(globex, made.id),
        desk.operations.update_agent(globex, made.id, UpdateAgent.of(name="b")),
        desk.operations.make_signing_secret(globex, made.id),
        desk.operations.delete_agent(globex, made.id),
    ):
        with pytest.raises(ResourceNotFound):
            await attempt


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
