"""Which audio crosses to a host."""

from __future__ import annotations

import pytest

from media.agents.base import BadAgent
from media.hosting.rates import encoding_of
from media.messages import AgentSpec


@pytest.mark.parametrize(
    ("spec", "encoding"),
    [
        (AgentSpec(protocol="python"), "L16/16000"),
        (AgentSpec(protocol="python", sample_rate=8000), "L16"),
        (AgentSpec(protocol="python", sample_rate=24000), "L16/24000"),
        (AgentSpec(protocol="python", sample_rate=48000), "L16/48000"),
        (AgentSpec(protocol="webrtc"), "L16/48000"),
    ],
)
def test_the_record_chooses_the_rate(spec: AgentSpec, encoding: str) -> None:
    assert encoding_of(spec) == encoding


def test_a_rate_that_is_none_of_ours_is_a_bad_agent() -> None:
    with pytest.raises(BadAgent, match="11025"):
        encoding_of(AgentSpec(protocol="python", sample_rate=11025))
