"""The control API over a registry and what carries calls: from settings to the application."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastapi import FastAPI

from config.settings import Settings
from control.api.app import create_app
from control.carrying import Carrying
from control.inbound import TwilioInbound
from control.metrics import Metrics
from control.operations import Operations
from control.providers.openai import OpenAiProvider
from control.providers.telnyx import TelnyxProvider
from control.providers.twilio import TwilioProvider, signature_ok
from control.registry.types import Registry
from edge.counters import Counters

__all__ = ["compose"]


def compose(
    settings: Settings,
    registry: Registry,
    carrying: Carrying,
    *,
    counters: Counters,
    metrics: Metrics,
    listening: Callable[[], Sequence[str]],
    now: Callable[[], float],
    wall: Callable[[], float],
    entropy: Callable[[int], bytes],
) -> FastAPI:
    """``listening`` tells what SIP listens on (``udp:127.0.0.1:5060``); ``now`` is monotonic, ``wall`` UTC [s]."""
    operations = Operations(
        registry,
        carrying.calls,
        settings,
        clock=wall,
        entropy=entropy,
        providers={
            "twilio": TwilioProvider(settings),
            "telnyx": TelnyxProvider(settings, entropy=entropy),
            "openai": OpenAiProvider(settings),
        },
        connections=carrying.connections,
        recordings=carrying.recordings,
        outward=carrying.outgoing,
    )
    inbound = TwilioInbound(
        registry,
        carrying.announcer,
        settings,
        counters=counters,
        signed=signature_ok,
        now=now,
        wall=wall,
        listening=listening,
    )
    return create_app(operations, carrying.health, now=now, counters=counters, metrics=metrics, twilio_inbound=inbound)
