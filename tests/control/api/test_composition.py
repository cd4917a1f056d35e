"""The application, from settings and what carries calls."""

from __future__ import annotations

import os

import httpx

from control.api.composition import compose
from control.metrics import Metrics
from edge.counters import Counters
from tests.support.desk import Desk


async def test_all_that_a_path_needs_is_behind_it() -> None:
    """A webhook of nobody's is refused and counted, metrics are shown, the edge's readiness is told."""
    desk, counters = Desk(), Counters()
    app = compose(
        desk.settings,
        desk.registry,
        desk.carrying,
        counters=counters,
        metrics=Metrics([counters.snapshot], elsewhere=desk.health.readings),
        listening=lambda: ("udp:127.0.0.1:5060",),
        now=desk.now,
        wall=desk.wall,
        entropy=os.urandom,
    )
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 40000))
    async with httpx.AsyncClient(transport=transport, base_url="http://edge") as client:
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.post("/telephony/inbound/twilio", data={"AccountSid": "AC1"})).status_code == 403
        shown = (await client.get("/metrics")).text
    assert 'truedy_twilio_webhooks_total{method="POST",outcome="bad signature"} 1.0' in shown
