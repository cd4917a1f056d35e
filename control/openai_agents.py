"""What an agent of ``openai-realtime`` needs beside its own record: the account's API key, and where OpenAI is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote

from control.agent_secrets import HEADER
from control.registry.types import Agent, NotFound, Registry

__all__ = ["PROTOCOL", "OpenAiAgents"]

PROTOCOL: Final = "openai-realtime"

_SESSION: Final = ("voice", "instructions", "greeting", "temperature", "turn_detection", "tools")
"""Of the pipeline, what goes into :class:`media.messages.Realtime`."""


class OpenAiAgents:
    """Equips them for one call. ``base_url`` is ``providers.openai_base_url``."""

    def __init__(self, registry: Registry, base_url: str) -> None:
        self._registry = registry
        scheme, _, rest = base_url.partition("://")
        self._url = f"{'wss' if scheme == 'https' else 'ws'}://{rest}/realtime?model="

    async def equip(self, agent: Agent) -> Agent:
        """The agent as media is to be told of it; any other protocol's is as it was.

        Without a key it has none, which media refuses with that reason. RegistryError when the key cannot be read.
        """
        pipeline = agent.pipeline
        if pipeline.get("protocol") != PROTOCOL:
            return agent
        try:
            integration = await self._registry.integration(agent.account_id, "openai")
        except NotFound:
            return replace(agent, pipeline=self._told(pipeline))
        key = {f"{HEADER}Authorization": f"Bearer {integration.secrets.get('api_key', '')}"}
        return replace(agent, pipeline=self._told(pipeline), secrets={**agent.secrets, **key})

    def _told(self, pipeline: Mapping[str, Any]) -> dict[str, Any]:
        kept = {name: value for name, value in pipeline.items() if name not in (*_SESSION, "model")}
        session = {name: pipeline[name] for name in _SESSION if pipeline.get(name) is not None}
        return {**kept, "url": self._url + quote(str(pipeline.get("model", ""))), "realtime": session}
