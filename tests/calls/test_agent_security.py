"""What the howto on agents' security says, run: its verifier sees real handshakes, its refusal a real call."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.media.agents.server import serve
from tests.support.edge import DID, Edge, Keyring, Settings
from tests.support.phone import Phone

HOWTO = Path(__file__).parents[2] / "docs" / "howto" / "agents" / "security.md"


def verifier() -> Callable[..., bool]:
    """The function that stands in the howto."""
    (code,) = re.findall(r"```python\n(.*?)```", HOWTO.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, str(HOWTO), "exec"), names)
    return names["is_from_the_edge"]  # type: ignore[no-any-return]


async def test_the_howtos_verifier_takes_the_handshake_and_nothing_else(edge: Edge) -> None:
    """With the headers of the agent's record, and Twilio's signature beside."""
    from twilio.request_validator import RequestValidator

    async with serve() as agent, Phone.open(edge.listeners["udp"]) as phone:
        await edge.add_agent_at(agent.url)
        [made] = await edge.request("GET", "/agents")
        path = f"/agents/{made['id']}"
        secret = (await edge.request("POST", f"{path}/signing-secret", status=201))["signing_secret"]
        more = {"headers": {"Authorization": "Bearer planted"}, "twilio_auth_token": "chosen"}
        await edge.request("PATCH", path, more)
        call = await phone.call(DID)
        await call.invite()
        start = await agent.told("start")
        await call.expect(200)
        await call.ack()
        assert (await call.bye()).status == 200
    await edge.expect_records(1)

    genuine = verifier()
    assert genuine(agent.headers, agent.url, secret)
    assert not genuine(agent.headers, agent.url, "another secret")
    assert not genuine(agent.headers, agent.url + "&more=1", secret)
    assert not genuine(agent.headers, agent.url, secret, method="POST")
    assert not genuine(agent.headers, agent.url, secret, now=time.time() + 301)
    assert not genuine({**agent.headers, "x-truedy-call-sid": "CA" + "0" * 32}, agent.url, secret)
    assert agent.headers["x-truedy-call-sid"] == start["start"]["callSid"]
    assert agent.headers["authorization"] == "Bearer planted"
    assert RequestValidator("chosen").validate(agent.url, {}, agent.headers["x-twilio-signature"])
    planted = ("planted", "chosen", secret)
    everything = b"".join(path.read_bytes() for path in edge.folder.glob("*") if path.is_file())
    assert not [word for word in planted if word.encode() in everything]
    assert not [line for line in edge.program.lines if any(word in line for word in planted)]


async def test_a_private_address_is_refused_at_the_call_too(tmp_path: Path, keyring: Keyring) -> None:
    """The record was made when it was: 480, a reason of its own, and nobody is connected to."""
    folder = tmp_path / "edge"
    async with serve() as agent:
        async with Edge.open(folder, keyring) as edge:
            await edge.add_agent_at(agent.url)
        async with (
            Edge.open(folder, keyring, Settings(agents={"allow_private": False})) as edge,
            Phone.open(edge.listeners["udp"]) as phone,
        ):
            call = await phone.call(DID)
            await call.invite()
            refused = await call.expect(480, timeout_s=2.0)
            assert "public" in refused.get("reason")
            [record] = await edge.expect_records(1)
            assert (record["end_reason"], record["sip_status"]) == ("agent_forbidden", 480)
    assert agent.path == ""
