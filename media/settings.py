"""What a media process is told when it starts."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ServiceSettings"]


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """``listen_address`` is bound; ``public_address`` (None: the same) is told to the peers.

    ``listen_address_6`` and ``public_address_6`` serve the calls whose SDP has IPv6, where the others are IPv4.
    ``opus``: some calls will want it, so its library is looked for before the first one.
    ``tls`` verifies agents behind ``wss:`` (None: the system's trust). ``max_calls`` is the worker's own cap.
    ``allow_private``: agents may have addresses that are not public.
    ``agent_hosts``: where the processes that run agents are reached (:mod:`media.hosting.doorway`); None: nowhere.
    ``recordings_path``: the operator's recordings.
    """

    listen_address: str
    public_address: str | None = None
    listen_address_6: str | None = None
    public_address_6: str | None = None
    opus: bool = False
    tls: ssl.SSLContext | None = None
    max_calls: int = 2000
    epoch: int = 0
    allow_private: bool = False
    agent_hosts: str | None = None
    recordings_path: Path | None = None
