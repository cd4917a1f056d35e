"""The audio between a call's media and the agent's host: linear, at the rate that the agent's record asks for."""

from __future__ import annotations

from typing import Final

from media.agents.base import BadAgent, Encoding
from media.convert import LINEAR
from media.messages import AgentSpec

__all__ = ["DEFAULT_RATE_HZ", "encoding_of"]

DEFAULT_RATE_HZ: Final = 16000
"""What models for speech are made for."""

_WEBRTC: Final[Encoding] = "L16/48000"


def encoding_of(spec: AgentSpec) -> Encoding:
    """The audio on the wire. Raises :class:`~media.agents.base.BadAgent` for a rate that is none of ours."""
    if spec.protocol == "webrtc":
        return _WEBRTC
    encoding = LINEAR.get(spec.sample_rate or DEFAULT_RATE_HZ)
    if encoding is None:
        raise BadAgent(f"no agent has {spec.sample_rate} samples a second: {', '.join(map(str, LINEAR))}")
    return encoding
