"""Media in processes of its own: what a worker's death costs, and that nothing slow in control is heard in a call."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.support.attacker import children
from tests.support.audio import Samples, tone
from tests.support.edge import APART, API, DID, Edge, Keyring, Settings
from tests.support.leaks import open_descriptors, own_ports
from tests.support.media_streams_agent import AgentCall, MediaStreamsAgent
from tests.support.phone import Call, Phone
from tests.support.process import running
from tests.support.rtp import MediaPort

_PEAK, _LOUD = 16000, 4000
_EDGE, _BITS = 8, 16


def stamped(frames: Iterable[int]) -> Samples:
    """20 ms for each number: an edge to find it by, the number in signs, and a hum."""
    hum = tone(500, 0.02)[2 * _EDGE + _BITS :]
    edge = np.repeat(np.array([_PEAK, -_PEAK], dtype=np.int16), _EDGE)
    made = []
    for number in frames:
        bits = [_LOUD if number >> bit & 1 else -_LOUD for bit in range(_BITS)]
        made.append(np.concatenate([edge, np.array(bits, dtype=np.int16), hum]))
    return np.concatenate(made)


def stamps(heard: Samples) -> list[int]:
    """The numbers in it, in order, wherever its packets were cut."""
    signs = np.where(np.abs(heard) > _PEAK * 3 // 4, np.sign(heard), 0)
    edge = np.repeat([1, -1], _EDGE)
    found = []
    if len(heard) >= 2 * _EDGE + _BITS:
        windows = np.lib.stride_tricks.sliding_window_view(signs, 2 * _EDGE)
        for at in np.flatnonzero((windows == edge).all(axis=1)):
            bits = heard[at + 2 * _EDGE : at + 2 * _EDGE + _BITS]
            found.append(sum(1 << bit for bit, sample in enumerate(bits) if sample > 0))
    return found


def runs(module: str, pid: int) -> bool:
    """Whether this child of an edge does; false once it is gone."""
    try:
        return module.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def is_media_worker(pid: int) -> bool:
    """Whether this child of an edge is one; false once it is gone."""
    return runs("control.media_process", pid)


def workers_of(edge: Edge) -> set[int]:
    """The process ids of its media workers, the spare among them."""
    return {pid for pid in children(edge.program.pid) if is_media_worker(pid)}


def carrier_of(edge: Edge, call: Call) -> int:
    """The worker that has the call's RTP port open."""
    assert call.answer is not None
    host, port = call.answer.media()
    for pid in workers_of(edge):
        if f"udp {host}:{port}" in own_ports(open_descriptors(pid)).values():
            return pid
    raise AssertionError(f"no media worker has port {port} open")


@asynccontextmanager
async def calls_up(edge: Edge, count: int) -> AsyncIterator[list[Call]]:
    """Established, each with media of its own."""
    async with Phone.open(edge.listeners["udp"]) as phone, AsyncExitStack() as stack:
        calls = []
        for number in range(count):
            media = await stack.enter_async_context(MediaPort.open(ssrc=0x30000 + number))
            call = await phone.call(DID, media=media)
            await call.establish()
            calls.append(call)
        yield calls


async def hears_itself(call: Call, hz: float = 700) -> None:
    """An echo, both ways through the edge."""
    await asyncio.gather(call.media.play(tone(hz, 1.0)), call.media.expect_tone(hz, 0.5))


@pytest.mark.realtime
async def test_killing_one_of_two_workers_ends_its_calls_and_no_others(tmp_path: Path, keyring: Keyring) -> None:
    """Each with a BYE and a record; the others' audio goes on both ways, and new calls are taken at once."""
    async with Edge.open(tmp_path / "edge", keyring, Settings(media={"workers": 2})) as edge:
        await edge.add_echo()
        edge.allowed.append("media worker died")
        await edge.expect_metrics({"truedy_media_workers": 3.0})
        before = workers_of(edge)
        assert len(before) == 3
        async with calls_up(edge, 6) as calls:
            carriers = {call.call_id: carrier_of(edge, call) for call in calls}
            doomed = carriers[calls[0].call_id]
            cut = [call for call in calls if carriers[call.call_id] == doomed]
            kept = [call for call in calls if carriers[call.call_id] != doomed]
            assert len(cut) == len(kept) == 3
            frames = range(1, 201)
            talking = [asyncio.create_task(call.media.play(stamped(frames))) for call in kept]
            for call in kept:
                await call.media.wait_until(lambda c=call: len(stamps(c.media.audio())) > 20, "an echo")
            os.kill(doomed, signal.SIGKILL)
            for call in cut:
                bye = await call.expect_request("BYE", timeout_s=2.0)
                assert "media" in bye.get("reason")
            async with Phone.open(edge.listeners["udp"]) as phone:
                fresh = await phone.call(DID)
                await fresh.establish(timeout_s=2.0)
                await hears_itself(fresh)
                await fresh.bye()
            await asyncio.gather(*talking)
            for call in kept:
                await call.media.wait_until(lambda c=call: frames[-1] in stamps(c.media.audio()), "the last frame")
                assert stamps(call.media.audio()) == list(frames)
                assert (await call.bye()).status == 200
        records = {record["sip_call_id"]: record for record in await edge.expect_records(7)}
        for call in cut:
            assert (records[call.call_id]["ended_by"], records[call.call_id]["end_reason"]) == (
                "edge",
                "media_worker_died",
            )
        for call in [*kept, fresh]:
            assert records[call.call_id]["end_reason"] == "caller_hung_up"
        await edge.expect_metrics({"truedy_media_workers": 3.0, 'truedy_media_workers_died_total{status="-9"}': 1.0})
        costs = [name for name in await edge.metrics() if name.startswith("truedy_media_worker_memory_bytes{")]
        assert len(costs) == 3
        assert len(workers_of(edge) - before) == 1


@pytest.mark.realtime
async def test_killing_the_control_apis_process_is_not_heard_in_a_call(tmp_path: Path, keyring: Keyring) -> None:
    """The next one takes requests: what it is asked of the call that is up, it asks."""
    async with Edge.open(tmp_path / "edge", keyring, Settings(api=APART)) as edge:
        await edge.add_echo()
        edge.allowed.append("control API died")
        async with calls_up(edge, 1) as [call]:
            frames = range(1, 101)
            talking = asyncio.create_task(call.media.play(stamped(frames)))
            await call.media.wait_until(lambda: len(stamps(call.media.audio())) > 20, "an echo")
            [served] = [pid for pid in children(edge.program.pid) if runs("control.apart.process", pid)]
            os.kill(served, signal.SIGKILL)
            async with asyncio.timeout(5.0):
                while runs("control.apart.process", served):
                    await asyncio.sleep(0.01)
            with contextlib.suppress(httpx.TransportError):  # the connection that was kept alive went with it
                await edge.api.get("/readyz")
            await edge.expect_metrics(
                {'truedy_api_processes_died_total{status="-9"}': 1.0, "truedy_call_answer_delay_seconds_count": 1.0}
            )
            assert (await edge.metrics())["truedy_api_process_memory_bytes"] > 1e6
            [record] = await edge.request("GET", "/calls")
            assert record["status"] == "in_progress"
            await talking
            await call.media.wait_until(lambda: frames[-1] in stamps(call.media.audio()), "the last frame")
            assert stamps(call.media.audio()) == list(frames)
            await edge.request("POST", f"/calls/{record['id']}/hangup")
            await call.expect_request("BYE")
        [record] = await edge.expect_records(1)
        assert (record["ended_by"], record["end_reason"]) == ("operator", "operator_hung_up")


async def test_workers_go_with_an_edge_that_is_killed(tmp_path: Path, keyring: Keyring) -> None:
    """Their agents are told; no process and no port stays."""
    settings = Settings(media={"workers": 1})
    async with (
        MediaStreamsAgent.open() as agent,
        Edge.open(tmp_path / "edge", keyring, settings, checked=False) as edge,
    ):
        await edge.add_agent_at(agent.url, answer_after_s=0)
        async with calls_up(edge, 1):
            connected = await agent.expect_call()
            await edge.expect_metrics({"truedy_media_workers": 2.0})
            workers = workers_of(edge)
            assert len(workers) == 2
            await edge.kill()
            async with asyncio.timeout(5.0):
                await connected.ended.wait()
                while any(map(is_media_worker, workers)):
                    await asyncio.sleep(0.02)


@pytest.mark.realtime
async def test_a_stop_that_reaches_every_process_lets_calls_end(tmp_path: Path, keyring: Keyring) -> None:
    """As a service manager and a terminal do it: the workers leave it to control, which drains."""
    async with Edge.open(tmp_path / "edge", keyring, Settings(media={"workers": 1}), checked=False) as edge:
        await edge.add_echo()
        async with calls_up(edge, 1) as [call]:
            os.killpg(edge.program.pid, signal.SIGTERM)
            await edge.program.expect('"event": "draining"')
            await hears_itself(call)
            assert (await call.bye()).status == 200
        assert await edge.program.wait(15.0) == 0
        edge.check_log()


@asynccontextmanager
async def slow_carrier(wait_s: float) -> AsyncIterator[str]:
    """A carrier's API that takes its time over each request, and then closes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(wait_s)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.close()
        await server.wait_closed()


BURST = """
import asyncio, sys, httpx
async def burst(url, key):
    limits, headers = httpx.Limits(max_connections=None), {"Authorization": f"Bearer {key}"}
    credentials = {"account_sid": "AC" + "1" * 32, "auth_token": "2" * 32}
    agent = {"name": "agent", "pipeline": {"protocol": "builtin", "name": "echo"}}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30.0, limits=limits) as api:
        answers = await asyncio.gather(
            *(api.put("/telephony/integrations/twilio", json=credentials) for _ in range(20)),
            *(api.get(path, params={"limit": 100}) for path in ("/calls", "/telephony/numbers") for _ in range(20)),
            *(api.post("/agents", json=agent) for _ in range(10)),
        )
    print(len(answers), "answers")
asyncio.run(burst(*sys.argv[1:]))
"""
"""From a process of its own, so that the phones' pace does not suffer from asking."""


async def burst(edge: Edge) -> None:
    """Checks of credentials at a slow carrier, long listings and writes, all at once; each gets some answer."""
    async with running(sys.executable, "-c", BURST, edge.url + API, edge.key, name="burst") as program:
        await program.expect("70 answers", 30.0)


async def lock(registry: Path, seconds: float) -> None:
    """Nobody else writes the database for so long."""
    with closing(sqlite3.connect(registry, isolation_level=None, timeout=5.0)) as database:
        database.execute("begin exclusive")
        await asyncio.sleep(seconds)
        database.execute("rollback")


@pytest.mark.realtime
@pytest.mark.parametrize("apart", [False, True])
async def test_slow_requests_and_a_locked_registry_lose_no_frame(apart: bool, tmp_path: Path, keyring: Keyring) -> None:
    """Each frame of 20 ms is numbered; all arrive, once and in order, both ways, whatever control has to do.

    Where all is one process, and where media and the API have theirs.
    """
    frames = range(1, 251)

    async def talk(call: AgentCall) -> None:
        await call.say(stamped(frames))

    async with slow_carrier(1.0) as carrier, MediaStreamsAgent.open(talk) as agent:
        settings = Settings(
            media={"workers": int(apart)}, api={"own_process": apart}, providers={"twilio_base_url": carrier}
        )
        async with Edge.open(tmp_path / "edge", keyring, settings) as edge:
            await edge.add_agent_at(agent.url)
            async with calls_up(edge, 4) as calls:
                heard = [await agent.expect_call(number) for number in range(1, 5)]
                async with asyncio.TaskGroup() as group:
                    for call in calls:
                        group.create_task(call.media.play(stamped(frames)))
                    group.create_task(burst(edge))
                    group.create_task(lock(tmp_path / "edge" / "registry.db", 2.0))
                for call in calls:
                    await call.media.wait_until(lambda c=call: frames[-1] in stamps(c.media.audio()), "the last frame")
                    assert stamps(call.media.audio()) == list(frames)
                for at_agent in heard:
                    await at_agent.wait_until(lambda a=at_agent: frames[-1] in stamps(a.heard()), "the last frame")
                    assert stamps(at_agent.heard()) == list(frames)
                for call in calls:
                    await call.bye()
            for record in await edge.expect_records(4):
                assert record["statistics"]["packets_received"] == len(frames)
                assert record["statistics"]["packets_lost"] == 0
