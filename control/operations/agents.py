"""Agents, and the secrets that requests to them carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from urllib.parse import urlsplit

from control import agent_secrets
from control.entropy import new_id
from control.errors import ValidationFailed
from control.hosts import python_agents
from control.openai_agents import PROTOCOL as OPENAI_REALTIME
from control.operations.base import OperationsBase, known, told
from control.operations.principal import Principal
from control.providers import ProviderWarning
from control.providers.sdk import WarningCode, warning
from control.registry.types import Agent, NotFound, Page, SecretsUnavailable
from control.resources.agents import (
    AgentResource,
    CreateAgent,
    Deleted,
    SavedAgent,
    SigningSecret,
    SigningSecretDeleted,
    UpdateAgent,
    agent_resource,
    saved_agent,
)
from control.resources.base import Listing
from control.resources.options import with_option
from control.resources.pipelines import (
    AudioSocketPipeline,
    OutsidePipeline,
    Pipeline,
    PythonPipeline,
    UrlPipeline,
    WebRtcPipeline,
    parse_pipeline,
)
from media.hosting.settings import WEBRTC_MISSING
from media.targets import literal_problem

__all__ = ["AgentOperations"]


class AgentOperations(OperationsBase):
    """Each is its account's own."""

    @told
    async def create_agent(self, by: Principal, request: CreateAgent) -> SavedAgent:
        """In the caller's account."""
        now = self._clock()
        await self._check_pipeline(request.pipeline)
        secrets = agent_secrets.changed_headers({}, request.headers)
        secrets = agent_secrets.with_twilio_token(secrets, request.twilio_auth_token)
        _check_secrets(request.pipeline, secrets)
        pipeline = request.pipeline.model_dump(exclude_none=True)
        options = with_option("{}", "recording", request.recording)
        options = with_option(options, "machine_detection", request.machine_detection)
        agent = Agent(new_id(self._entropy), by.account, request.name, pipeline, now, now, secrets, options)
        await self._registry.create_agent(agent)
        return await self._saved(agent)

    @told
    async def agents(self, by: Principal, page: Page) -> Listing[AgentResource]:
        """The account's, newest first."""
        found, total = await self._registry.agents(by.account, page)
        return Listing([agent_resource(row, self._clock()) for row in found], total, page)

    @told
    async def agent(self, by: Principal, agent_id: str) -> AgentResource:
        """One of the account's."""
        return agent_resource(await self._own_agent(by, agent_id), self._clock())

    @told
    async def update_agent(self, by: Principal, agent_id: str, request: UpdateAgent) -> SavedAgent:
        """Absent fields stay; calls that are up keep the pipeline they began with."""
        agent = await self._own_agent(by, agent_id)
        if request.name is not None:
            agent = replace(agent, name=request.name)
        if request.pipeline is not None:
            await self._check_pipeline(request.pipeline)
            agent = replace(agent, pipeline=request.pipeline.model_dump(exclude_none=True))
        if "recording" in request.model_fields_set:
            agent = replace(agent, options=with_option(agent.options, "recording", request.recording))
        if "machine_detection" in request.model_fields_set:
            options = with_option(agent.options, "machine_detection", request.machine_detection)
            agent = replace(agent, options=options)
        if "headers" in request.model_fields_set:
            agent = replace(agent, secrets=agent_secrets.changed_headers(agent.secrets, request.headers))
        if "twilio_auth_token" in request.model_fields_set:
            agent = replace(agent, secrets=agent_secrets.with_twilio_token(agent.secrets, request.twilio_auth_token))
        if request.model_fields_set:
            _check_secrets(parse_pipeline(agent.pipeline), agent.secrets)
            agent = replace(agent, updated_at=self._clock())
            await self._registry.update_agent(agent)
        return await self._saved(agent)

    @told
    async def make_signing_secret(self, by: Principal, agent_id: str) -> SigningSecret:
        """The answer holds it, this once. The one before signs too for an hour, so that none of its calls is lost."""
        agent = await self._own_agent(by, agent_id)
        now = self._clock()
        text, secrets = agent_secrets.new_signing_secret(agent.secrets, self._entropy(32), now)
        _check_secrets(parse_pipeline(agent.pipeline), secrets)
        await self._registry.update_agent(replace(agent, secrets=secrets, updated_at=now))
        return SigningSecret(id=agent.id, signing_secret=text)

    @told
    async def delete_signing_secret(self, by: Principal, agent_id: str) -> SigningSecretDeleted:
        """Calls from now on are not signed; a second time changes nothing."""
        agent = await self._own_agent(by, agent_id)
        secrets = agent_secrets.without_signing_secret(agent.secrets)
        if secrets != agent.secrets:
            await self._registry.update_agent(replace(agent, secrets=secrets, updated_at=self._clock()))
        return SigningSecretDeleted(id=agent.id)

    @told
    async def delete_agent(self, by: Principal, agent_id: str) -> Deleted:
        """``conflict`` while numbers point to it: their callers would meet silence."""
        agent_id = known("agent", agent_id)
        await self._registry.delete_agent(by.account, agent_id)
        return Deleted(id=agent_id)

    async def _saved(self, agent: Agent) -> SavedAgent:
        return saved_agent(agent, self._clock(), await self._warnings(agent))

    async def _warnings(self, agent: Agent) -> list[ProviderWarning]:
        """The key may be saved after the agent; until then its calls are refused."""
        if agent.pipeline.get("protocol") != OPENAI_REALTIME:
            return []
        try:
            await self._registry.integration(agent.account_id, "openai")
        except (NotFound, SecretsUnavailable):
            message = "the account has no OpenAI key that can be used, and the agent's calls are refused until it has"
            return [warning(WarningCode.OPENAI_KEY_MISSING, message)]
        return []

    async def _own_agent(self, by: Principal, agent_id: str) -> Agent:
        return await self._registry.agent(by.account, known("agent", agent_id))

    async def _check_pipeline(self, pipeline: Pipeline) -> None:
        self._check_targets(pipeline)
        self._check_listed(pipeline)
        on_lost = pipeline.on_lost if isinstance(pipeline, OutsidePipeline) else None
        if on_lost is not None and on_lost.message is not None:
            await self._check_recording("pipeline.on_lost.message", on_lost.message)

    def _check_targets(self, pipeline: Pipeline) -> None:
        """What a URL's text shows already; names are judged at each call, by the addresses they have then."""
        if self.settings.agents.allow_private or not isinstance(pipeline, UrlPipeline):
            return
        for field, url in (("url", pipeline.url), ("fallback_url", pipeline.fallback_url)):
            problem = None if url is None else literal_problem(urlsplit(url).hostname or "")
            if problem is not None:
                raise ValidationFailed.of(f"pipeline.{field}", f"{problem}: agents need a public one on this edge")

    def _check_listed(self, pipeline: Pipeline) -> None:
        """Which Python may run here, and whether WebRTC can, is the operator's to say, never an account's."""
        if isinstance(pipeline, WebRtcPipeline) and find_spec("aiortc") is None:
            raise ValidationFailed.of("pipeline.protocol", f"{WEBRTC_MISSING}, and restart the edge")
        if isinstance(pipeline, PythonPipeline):
            listed = python_agents(self.settings.agents)
            if pipeline.name not in listed:
                names = ", ".join(listed) or "none"
                raise ValidationFailed.of("pipeline.name", f"no Python agent of this edge; those that are: {names}")


def _check_secrets(pipeline: Pipeline, secrets: Mapping[str, str]) -> None:
    """They go to a URL, and Twilio's signature to an agent that was written for Twilio's."""
    if secrets and (not isinstance(pipeline, UrlPipeline) or isinstance(pipeline, AudioSocketPipeline)):
        raise ValidationFailed.of("pipeline", f"{pipeline.protocol} has no url that headers or signatures could go to")
    if "twilio_auth_token" in secrets and pipeline.protocol != "twilio-media-streams":
        raise ValidationFailed.of("twilio_auth_token", "is for twilio-media-streams")
