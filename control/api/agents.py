"""``/agents``: who answers."""

from __future__ import annotations

from fastapi import APIRouter, status

from control.api.door import Caller, Ops
from control.api.envelopes import Answer, ListAnswer, Pagination, RequestMeta, documented
from control.api.routing import PREFIX, GuardedRoute, Paging
from control.errors import Code
from control.resources.agents import (
    AgentResource,
    CreateAgent,
    Deleted,
    SavedAgent,
    SigningSecret,
    SigningSecretDeleted,
    UpdateAgent,
)

__all__ = ["router"]

router = APIRouter(route_class=GuardedRoute, tags=["agents"])


class AgentAnswer(Answer[AgentResource]):
    """One agent."""


class SavedAgentAnswer(Answer[SavedAgent]):
    """An agent just made or changed, and what its calls still need."""


class AgentsAnswer(ListAnswer[AgentResource]):
    """A page of agents."""


class AgentDeletedAnswer(Answer[Deleted]):
    """The agent is gone."""


class SigningSecretAnswer(Answer[SigningSecret]):
    """The new secret."""


class SigningSecretDeletedAnswer(Answer[SigningSecretDeleted]):
    """There is none any more."""


@router.post(f"{PREFIX}/agents", status_code=status.HTTP_201_CREATED, responses=documented(body=True))
async def create_agent(body: CreateAgent, by: Caller, operations: Ops, meta: RequestMeta) -> SavedAgentAnswer:
    """A new agent; it answers nothing before a number is assigned to it. What its calls still need is in `warnings`."""
    return SavedAgentAnswer(data=await operations.create_agent(by, body), meta=meta)


@router.get(f"{PREFIX}/agents", responses=documented())
async def list_agents(page: Paging, by: Caller, operations: Ops, meta: RequestMeta) -> AgentsAnswer:
    """The account's agents, newest first."""
    found = await operations.agents(by, page)
    return AgentsAnswer(data=found.items, pagination=Pagination.of(found), meta=meta)


@router.get(f"{PREFIX}/agents/{{agent_id}}", responses=documented(Code.NOT_FOUND))
async def get_agent(agent_id: str, by: Caller, operations: Ops, meta: RequestMeta) -> AgentAnswer:
    """One agent."""
    return AgentAnswer(data=await operations.agent(by, agent_id), meta=meta)


@router.patch(f"{PREFIX}/agents/{{agent_id}}", responses=documented(Code.NOT_FOUND, body=True))
async def update_agent(
    agent_id: str, body: UpdateAgent, by: Caller, operations: Ops, meta: RequestMeta
) -> SavedAgentAnswer:
    """Change what is given, keep the rest. Calls that are up go on as they began."""
    return SavedAgentAnswer(data=await operations.update_agent(by, agent_id, body), meta=meta)


@router.post(
    f"{PREFIX}/agents/{{agent_id}}/signing-secret",
    status_code=status.HTTP_201_CREATED,
    responses=documented(Code.NOT_FOUND, Code.SECRETS_UNAVAILABLE, writes=True),
)
async def make_signing_secret(agent_id: str, by: Caller, operations: Ops, meta: RequestMeta) -> SigningSecretAnswer:
    """Make a secret that requests to the agent's URL are signed with, the first or the next. It is shown this once."""
    return SigningSecretAnswer(data=await operations.make_signing_secret(by, agent_id), meta=meta)


@router.delete(f"{PREFIX}/agents/{{agent_id}}/signing-secret", responses=documented(Code.NOT_FOUND, writes=True))
async def delete_signing_secret(
    agent_id: str, by: Caller, operations: Ops, meta: RequestMeta
) -> SigningSecretDeletedAnswer:
    """Sign no more requests."""
    return SigningSecretDeletedAnswer(data=await operations.delete_signing_secret(by, agent_id), meta=meta)


@router.delete(f"{PREFIX}/agents/{{agent_id}}", responses=documented(Code.NOT_FOUND, Code.CONFLICT, writes=True))
async def delete_agent(agent_id: str, by: Caller, operations: Ops, meta: RequestMeta) -> AgentDeletedAnswer:
    """Refused while numbers are assigned to the agent."""
    return AgentDeletedAnswer(data=await operations.delete_agent(by, agent_id), meta=meta)
