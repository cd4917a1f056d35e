"""Many calls, a bad network, and what is left of them: nothing.

T1 is a tenth of a second here (RFC 3261 §17.1.1.1 allows it on a private network), so that what lingers for 64·T1
after a call can be waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.support.audio import heard_s, tone
from tests.support.edge import DID, Edge, Keyring, Settings
from tests.support.leaks import open_descriptors
from tests.support.lossy import Impairment, LossyPath
from tests.support.phone import Call, Phone
from tests.support.process import needs
from tests.support.rtp import MediaPort
from tests.support.sipp import Sipp

SETTINGS = Settings(sip={"t1_s": 0.1}, media={"port_rest_s": 0.1}, limits={"calls_per_did": 200})
LINGERS_S = 64 * 0.1 + 5.0 + 2.0  # 64·T1, T4, and a little


@pytest.fixture
async def edge(tmp_path: Path, keyring: Keyring) -> AsyncIterator[Edge]:
    """With an echo on the number. When the test ends nothing may linger, descriptors and tasks included."""
    async with Edge.open(tmp_path / "edge", keyring, SETTINGS) as serving:
        await serving.add_echo()
        tasks = (await serving.metrics())["truedy_tasks"]
        descriptors = len(open_descriptors(serving.program.pid))
        yield serving
        await serving.expect_silence(LINGERS_S)
        await serving.expect_metrics({"truedy_tasks": tasks}, 5.0)
        assert abs(len(open_descriptors(serving.program.pid)) - descriptors) <= 2


async def at_once(calls: Iterable[Coroutine[None, None, Call]]) -> list[Call]:
    """All together; the first failure ends the rest."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(call, name="call") for call in calls]
    return [task.result() for task in tasks]


async def short_call(phone: Phone) -> Call:
    """INVITE, 200, ACK, BYE, 200."""
    call = await phone.call(DID)
    await call.establish(timeout_s=20.0)
    await call.bye(timeout_s=20.0)
    return call


@pytest.mark.realtime
@pytest.mark.slow  # sipp's hundred run always
async def test_a_hundred_invites_at_once_all_ring_through(edge: Edge) -> None:
    """One record each, none doubled by a retransmission, none refused."""
    async with Phone.open(edge.listeners["udp"]) as phone:
        calls = await at_once(short_call(phone) for _ in range(100))
    records = await edge.expect_records(100)
    assert {record["sip_call_id"] for record in records} == {call.call_id for call in calls}
    assert {record["end_reason"] for record in records} == {"caller_hung_up"}


@needs("sipp")
async def test_a_hundred_invites_of_sipp_at_once_all_ring_through(edge: Edge, tmp_path: Path) -> None:
    """The same from a program that knows nothing of our phone."""
    async with Sipp.dial(
        tmp_path / "sipp", edge.listeners["udp"], DID, say=tone(1000, 0.2), calls=100, per_second=1000, hold_ms=200
    ) as sipp:
        await sipp.finish()
    await edge.expect_records(100)


@pytest.mark.realtime
async def test_fifty_held_calls_each_hear_their_own_echo(edge: Edge) -> None:
    """Fifty tones cross the edge at once; none is heard in another's call."""
    tones_hz = [300 + 50 * number for number in range(50)]
    async with Phone.open(edge.listeners["udp"]) as phone, AsyncExitStack() as stack:
        calls = []
        for number in range(50):
            media = await stack.enter_async_context(MediaPort.open(ssrc=0x10000 + number))
            call = await phone.call(DID, media=media)
            await call.establish()
            calls.append(call)
        await edge.expect_metrics({"truedy_calls": 50.0, "truedy_rtp_ports_leased": 50.0})
        await asyncio.gather(
            *(call.media.play(tone(hz, 3.0)) for call, hz in zip(calls, tones_hz, strict=True)),
        )
        for call, hz in zip(calls, tones_hz, strict=True):
            heard = call.media.audio()
            assert heard_s(heard, hz) >= 1.0, f"{hz} Hz was heard for {heard_s(heard, hz)} s"
            others = [other for other in tones_hz if other != hz and heard_s(heard, other) > 0.1]
            assert not others, f"in the call with {hz} Hz there was {others}"
        for call in calls:
            assert (await call.bye()).status == 200
    records = await edge.expect_records(50)
    assert sum(record["statistics"]["packets_lost"] for record in records) == 0


@pytest.mark.realtime
async def test_calls_over_a_network_that_loses_five_percent_come_up_and_end(edge: Edge) -> None:
    """5 % lost, 5 % doubled, 5 % overtaken each way, signalling and media: every call up, one record each."""
    impairment = Impairment(seed=7, loss=0.05, duplicate=0.05, reorder=0.05)
    async with LossyPath.open(impairment) as path:
        signalling = await path.link()
        async with Phone.open(signalling.near, contact=signalling.far) as phone, AsyncExitStack() as stack:
            signalling.connect(near=phone.local, far=edge.listeners["udp"])
            calls = await at_once(_lossy_call(path, phone, stack, number) for number in range(40))
    assert impairment.lost > 100
    assert impairment.duplicated > 100
    records = await edge.expect_records(40)
    assert {record["sip_call_id"] for record in records} == {call.call_id for call in calls}
    assert {record["end_reason"] for record in records} == {"caller_hung_up"}


async def _lossy_call(path: LossyPath, phone: Phone, stack: AsyncExitStack, number: int) -> Call:
    """A second of echo through links of its own; the tone has to come back through all that."""
    media = await stack.enter_async_context(MediaPort.open(ssrc=0x20000 + number))
    link = await path.link()
    link.connect(near=media.address)
    call = await phone.call(DID, media=media)
    await call.invite(body=call.offer(link.far))
    response = await call.expect(200, timeout_s=20.0)
    link.connect(far=response.media())
    await call.ack()
    media.target = link.near
    await media.play(tone(700, 1.0))
    assert heard_s(media.audio(), 700) >= 0.2  # how much survives is the jitter buffer's page; here, that it is heard
    await call.bye(timeout_s=20.0)
    return call
