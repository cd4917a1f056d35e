"""What ``scripts/run`` shows: a call through each carrier, told as a ladder, and an error when one does not work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from scripts import lab_carriers
from scripts.lab_carriers import TELNYX_HOST, TWILIO_HOST, Carriers, DemonstrationFailed
from tests.support.audio import read_wav, tone, write_wav
from tests.support.edge import API, Edge, Keyring, Settings
from tests.support.ports import free_port, free_ports


@asynccontextmanager
async def lab(folder: Path, keyring: Keyring, pipeline: dict[str, Any]) -> AsyncIterator[Carriers]:
    """Edge and carriers as the lab has them, furnished; the callers say a second of tone."""
    first = free_ports(3)
    providers: dict[str, Any] = {
        "twilio_base_url": f"http://127.0.0.1:{first}",
        "telnyx_base_url": f"http://127.0.0.1:{first + 1}/v2",
        "telnyx_sip_proxy": f"udp:{TELNYX_HOST}:{free_port(TELNYX_HOST)}",
        "twilio_signalling": [f"{TWILIO_HOST}/32"],
        "telnyx_signalling": [f"{TELNYX_HOST}/32"],
        "twilio_media": [f"{TWILIO_HOST}/32"],
        "telnyx_media": [f"{TELNYX_HOST}/32"],
    }
    http = f"http://127.0.0.1:{first + 2}"
    speech = write_wav(folder / "speech.wav", tone(700, 1.0))
    settings = Settings(providers=providers, api={"listen": http.removeprefix("http://")})
    async with (
        Carriers.open(providers, "sip.test", http, folder, speech) as carriers,
        Edge.open(folder / "edge", keyring, settings) as edge,
    ):

        async def request(method: str, path: str, body: dict[str, Any] | None) -> Any:
            response = await edge.api.request(method, API + path, json=body)
            response.raise_for_status()
            return response.json()["data"]

        agent_id = await edge.create_agent(pipeline)
        for _ in range(2):  # the second time nothing is left to do
            await carriers.furnish(request, agent_id)
        yield carriers


@pytest.mark.realtime
async def test_both_calls_are_placed_told_and_recorded(
    tmp_path: Path, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parrot repeats the tone, the edge's BYE ends one call and the caller's the other."""
    monkeypatch.setattr(lab_carriers, "REPEATED_S", 2.5)
    twilio: list[str] = []
    telnyx: list[str] = []
    async with lab(tmp_path, keyring, {"protocol": "builtin", "name": "parrot"}) as carriers:
        await asyncio.gather(carriers.call_through_twilio(twilio.append), carriers.call_through_telnyx(telnyx.append))
    assert "Twilio asks /telephony/inbound/twilio: 200" in twilio[0]
    assert twilio[0].endswith("<Dial><Sip>")
    assert "◀──" in "\n".join(twilio)
    assert "REGISTER sip:sip.telnyx.com (credentials)" in telnyx[0]
    assert ";tk=***" in telnyx[1]
    for name in ("twilio-caller-hears.wav", "telnyx-caller-hears.wav"):
        assert len(read_wav(tmp_path / name)) > 3 * 8000


async def test_a_call_that_does_not_work_is_a_failure(tmp_path: Path, keyring: Keyring) -> None:
    """Not answered: the ladder is drawn all the same."""
    absent = {"protocol": "twilio-media-streams", "url": "ws://127.0.0.1:9/agent", "agent_timeout_s": 0.5}
    told: list[str] = []
    async with lab(tmp_path, keyring, absent) as carriers:
        with pytest.raises(DemonstrationFailed, match="480"):
            await carriers.call_through_telnyx(told.append)
        assert "480" in told[1]
        with pytest.raises(DemonstrationFailed, match="480"):
            await carriers.call_through_twilio(told.append)
