"""The control API in a real process: served, asked through, told to finish, left alone."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from config.settings import Registry, Settings
from control.apart.kept import ApiProcess, launcher
from control.api.listener import listen, url_of
from control.entropy import entropy, wall_clock
from control.live_calls import NoLiveCalls
from control.metrics import Metrics
from control.operations import Operations
from control.operations.principal import Principal
from control.registry.sqlite import SqliteRegistry
from control.resources.accounts import CreateAccount, CreateKey
from control.supervisor import Supervisor
from edge.counters import Counters
from tests.support.desk import BASE, Desk, live_one

pytestmark = pytest.mark.uvloop


@dataclass
class Up:
    kept: ApiProcess
    desk: Desk
    account: str
    client: httpx.AsyncClient
    counters: Counters


@asynccontextmanager
async def up(folder: Path) -> AsyncIterator[Up]:
    """A process that serves an account of a registry of its own; the live calls are the desk's."""
    settings = Settings(registry=Registry(path=folder / "registry.db"))
    registry = SqliteRegistry.open(settings.registry.path, serve=True)
    operations = Operations(registry, NoLiveCalls(), settings, clock=wall_clock, entropy=entropy)
    account = await operations.create_account(Principal.console(), CreateAccount(name="acme"))
    key = await operations.create_key(Principal.console(str(account.id)), CreateKey())
    desk, counters = Desk(), Counters()
    with listen("127.0.0.1:0") as listener:
        async with Supervisor() as tasks:
            kept = ApiProcess(
                settings, launcher(listener.fileno()), spawn=tasks.spawn, counters=counters, replaced=lambda: None
            )
            try:
                await kept.launch()
                await kept.start(desk.carrying, ("udp:127.0.0.1:5060",))
                headers = {"Authorization": f"Bearer {key.key}"}
                async with httpx.AsyncClient(base_url=url_of(listener), headers=headers, timeout=20) as client:
                    yield Up(kept, desk, str(account.id), client, counters)
            finally:
                await kept.close()
                await registry.close()


def started(text: str) -> str:
    [line] = [line for line in text.splitlines() if line.startswith("process_start_time_seconds ")]
    return line


async def test_requests_are_served_and_what_they_ask_is_asked_here(tmp_path: Path) -> None:
    async with up(tmp_path) as it:
        assert (await it.client.get("/readyz")).json()["listening"] == ["udp:127.0.0.1:5060"]
        call = "0198c0de-0000-4000-8000-0000000000c1"
        it.desk.calls.up[call] = live_one(call, it.account)
        assert (await it.client.get(f"{BASE}/calls/{call}")).json()["data"]["status"] == "ringing"
        answer = await it.client.post(f"{BASE}/calls/{call}/hangup", json={"headers": {"X-Case": "7"}})
        assert answer.status_code == 200
        assert it.desk.calls.ended == [(call, "operator")]
        shown = (await it.client.get("/metrics")).text
        assert 'truedy_api_requests_total{method="GET",route="/readyz",status="200"} 1.0' in shown
        ours = (await Metrics(()).exposition()).decode()
        assert started(shown) == started(ours), "the figures of a process are those of the one that carries calls"
        [pid] = it.kept.pids
        assert os.getpriority(os.PRIO_PROCESS, pid) == min(os.getpriority(os.PRIO_PROCESS, 0) + 5, 19)


async def test_one_that_is_killed_is_replaced_and_nobody_is_turned_away(tmp_path: Path) -> None:
    """Whoever connects meanwhile waits in the backlog."""
    async with up(tmp_path) as it:
        [pid] = it.kept.pids
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(10):
            while it.counters.get("api_processes_died", status="-9") == 0:
                await asyncio.sleep(0.01)
        assert (await it.client.get(f"{BASE}/agents")).status_code == 200
        assert it.kept.pids != (pid,)


async def test_what_it_has_been_asked_it_answers_before_it_leaves(tmp_path: Path) -> None:
    """Signals of a terminal, which reach every process, it leaves to the one that carries calls."""
    async with up(tmp_path) as it:
        asked, answer = asyncio.Event(), asyncio.Event()
        readiness = it.desk.health.readiness

        async def slow() -> object:
            asked.set()
            await answer.wait()
            return await readiness()

        it.desk.health.readiness = slow  # type: ignore[method-assign]
        [pid] = it.kept.pids
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, number)
        request = asyncio.create_task(it.client.get("/readyz"))
        await asked.wait()
        closing = asyncio.create_task(it.kept.close())
        await asyncio.sleep(0)
        answer.set()
        assert (await request).status_code == 200
        await closing
        assert it.counters.get("api_processes_died", status="0") == 0
