"""Every agent protocol has one entry."""

from __future__ import annotations

import pytest

from media.agents.base import BadAgent
from media.agents.builtin import Echo
from media.agents.catalogue import PROTOCOLS, create
from media.messages import AgentSpec
from tests.media.agents.fakes import host


def test_an_agent_is_made_by_its_protocols_name() -> None:
    assert isinstance(create(host(AgentSpec(protocol="builtin", name="echo"))), Echo)
    assert set(PROTOCOLS) == {
        "announcement",
        "audiosocket",
        "builtin",
        "jambonz-listen",
        "openai-realtime",
        "python",
        "softphone",
        "telnyx-media-streaming",
        "twilio-media-streams",
        "webrtc",
    }


def test_an_unknown_protocol_is_refused_with_the_ones_there_are() -> None:
    with pytest.raises(BadAgent, match=r"audiosocket, builtin, .*twilio-media-streams"):
        create(host(AgentSpec(protocol="carrier-pigeon")))
