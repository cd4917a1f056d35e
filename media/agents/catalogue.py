"""Which agent answers: one entry for each protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from media.agents.announcement import Announcement
from media.agents.audiosocket import AudioSocketAgent
from media.agents.base import Agent, BadAgent, Host
from media.agents.builtin import builtin
from media.agents.hosted import HostedAgent
from media.agents.jambonz_listen import JambonzAgent
from media.agents.openai_realtime import OpenAiAgent
from media.agents.softphone import Softphone
from media.agents.supervised import Supervised
from media.agents.telnyx_media_streaming import TelnyxAgent
from media.agents.twilio_media_streams import TwilioAgent

__all__ = ["PROTOCOLS", "create"]

PROTOCOLS: Final[Mapping[str, Callable[[Host], Agent]]] = {
    "announcement": Announcement,
    "builtin": builtin,
    "twilio-media-streams": TwilioAgent,
    "telnyx-media-streaming": TelnyxAgent,
    "jambonz-listen": JambonzAgent,
    "audiosocket": AudioSocketAgent,
    "openai-realtime": OpenAiAgent,
    "softphone": Softphone,
    "python": HostedAgent,
    "webrtc": HostedAgent,
}


def create(host: Host) -> Agent:
    """The agent of ``host.spec``, not connected yet. Raises :class:`BadAgent`."""
    protocol = PROTOCOLS.get(host.spec.protocol)
    if protocol is None:
        raise BadAgent(f"no agent protocol {host.spec.protocol!r}: {', '.join(sorted(PROTOCOLS))}")
    if host.spec.fallback_url is not None or host.spec.on_lost is not None:
        return Supervised(host, protocol)
    return protocol(host)
