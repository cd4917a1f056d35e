"""kamailio between the phone and the edge, as a carrier's proxy is: nothing changes for either."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.audio import heard_s, tone
from tests.support.edge import DID, Edge
from tests.support.kamailio import Kamailio
from tests.support.media_streams_agent import AGENT_HZ, MediaStreamsAgent, greet, greet_and_leave
from tests.support.phone import Phone
from tests.support.process import needs
from tests.support.user_agents import USER_AGENTS, user_agent

pytestmark = needs("kamailio")

CALLER_HZ = 1000
PHONES = [parameter for parameter in USER_AGENTS if parameter.values[1] != "tls"]


@pytest.fixture
async def proxy(edge: Edge, tmp_path: Path) -> AsyncIterator[Kamailio]:
    """Takes UDP and TCP, goes on over UDP."""
    async with Kamailio.open(tmp_path / "kamailio", edge.listeners["udp"]) as kamailio:
        yield kamailio


@pytest.mark.realtime
@pytest.mark.interop(agent="kamailio", feature=("UDP", "TCP", "caller hangs up"))
@pytest.mark.parametrize(("name", "transport"), PHONES)
async def test_a_call_through_a_proxy_is_as_one_without(
    edge: Edge, proxy: Kamailio, tmp_path: Path, name: str, transport: str
) -> None:
    """Tones both ways, digits, and a BYE that follows the route set (RFC 3261 §12.2.1.1), TCP becoming UDP."""
    async with MediaStreamsAgent.open(greet) as agent:
        await edge.add_agent_at(agent.url)
        async with user_agent(name, transport, tmp_path / "phone", tone(CALLER_HZ, 20)) as phone:
            await phone.dial(DID, ("127.0.0.1", proxy.port))
            call = await agent.expect_call()
            await call.expect_tone(CALLER_HZ, 0.5)
            await phone.press("5*")
            await call.wait_until(lambda: call.digits() == "5*", "digits 5*")
            await call.expect("mark")
            await phone.hang_up()
            await call.expect("stop")
        assert heard_s(phone.heard(), AGENT_HZ) >= 0.8
    assert [proxy.requests(method) for method in ("INVITE", "ACK", "BYE")] == [1, 1, 1]
    [record] = await edge.expect_records(1)
    assert record["end_reason"] == "caller_hung_up"


@pytest.mark.interop(agent="kamailio", feature=("UDP", "TCP", "edge hangs up"))
@pytest.mark.parametrize(("name", "transport"), PHONES)
async def test_the_edges_own_bye_goes_back_through_the_proxy(
    edge: Edge, proxy: Kamailio, tmp_path: Path, name: str, transport: str
) -> None:
    """The edge sends to the Record-Route it was given, not to the Contact."""
    async with MediaStreamsAgent.open(greet_and_leave) as agent:
        await edge.add_agent_at(agent.url)
        async with user_agent(name, transport, tmp_path / "phone", tone(CALLER_HZ, 20)) as phone:
            await phone.dial(DID, ("127.0.0.1", proxy.port))
            await phone.expect_end()
        assert phone.ends() == 1
    assert [proxy.requests(method) for method in ("INVITE", "ACK", "BYE")] == [1, 1, 1]
    [record] = await edge.expect_records(1)
    assert record["end_reason"] == "agent_closed"


async def test_every_via_comes_back_as_it_went(edge: Edge, proxy: Kamailio) -> None:
    """RFC 3261 §18.2.1: the proxy has put ``received`` and ``rport`` on the phone's Via; the answer keeps both."""
    await edge.add_echo()
    async with Phone.open(("127.0.0.1", proxy.port)) as phone:
        call = await phone.call(DID)
        response = await call.establish()
        [via] = response.all("via")
        assert f"rport={phone.contact_address[1]}" in via
        assert "received=127.0.0.1" in via
        assert len(response.all("record-route")) == 1
        assert (await call.bye()).status == 200
    await edge.expect_records(1)


@pytest.mark.interop(agent="kamailio", feature="CANCEL")
async def test_cancel_through_a_proxy_ends_the_ringing(edge: Edge, proxy: Kamailio) -> None:
    """RFC 3261 §9.2: 200 to the CANCEL, 487 to the INVITE, a record that says so, and no agent left behind."""
    async with MediaStreamsAgent.open() as agent:
        await edge.add_agent_at(agent.url, answer_after_s=30)
        async with Phone.open(("127.0.0.1", proxy.port)) as phone:
            call = await phone.call(DID)
            await call.invite()
            await call.expect(180)
            connected = await agent.expect_call()
            assert (await call.cancel()).status == 200
            await call.expect(487)
            await connected.expect("stop")
    [record] = await edge.expect_records(1)
    assert (record["end_reason"], record["ended_by"], record["answered_at"]) == ("caller_cancelled", "caller", None)
