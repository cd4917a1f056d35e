"""From an agent's record to what media is told: the edge's defaults, the record, and what a number or call adds."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import msgspec

from config.settings import Agents
from control.agent_secrets import for_media
from control.registry.types import Agent
from media.messages import AgentSpec

__all__ = ["agent_spec"]

log = logging.getLogger("truedy.calls")


def agent_spec(agent: Agent, defaults: Agents, now: float, *parameters: Mapping[str, str]) -> AgentSpec | None:
    """What media connects to; None, and logged, for a record that no version wrote.

    ``parameters`` are the number's, then the call's: each overrides those before it, and the agent's own. ``now`` is
    UTC [s since the epoch].
    """
    fields: dict[str, object] = {
        "answer_after_s": defaults.answer_after_s,
        "agent_timeout_s": defaults.agent_timeout_s,
        **{name: value for name, value in agent.pipeline.items() if value is not None},
        **for_media(agent.secrets, now),
    }
    if isinstance(policy := fields.get("on_lost"), Mapping):
        fields["on_lost"] = {name: value for name, value in policy.items() if name != "hang_up"}
    added = {name: value for more in parameters for name, value in more.items()}
    try:
        spec = msgspec.convert(fields, AgentSpec)
    except msgspec.ValidationError as error:
        log.warning("agent settings refused", extra={"error": str(error)})
        return None
    return msgspec.structs.replace(spec, parameters={**spec.parameters, **added}) if added else spec
