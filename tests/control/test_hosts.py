"""Which host gets a call's connection, and what a host's death costs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import EntryPoint
from pathlib import Path

import msgspec
import pytest

from config.settings import Agents
from control.costs import Cost
from control.hosts import AgentHosts, HostLink, Plan, host_count, launcher, python_agents
from control.supervisor import Supervisor
from edge.counters import Counters
from media.hosting import doorway, wire
from media.hosting.doorway import End
from media.hosting.settings import GROUP
from media.hosting.wire import Kind, Load
from media.messages import AgentSpec
from media.pipe import Pipe
from tests.media.agents.fakes import CONTEXT
from tests.support.children import FakeChild

NAME = f"truedy-test-hosts-{os.getpid()}"


class FakeHost(FakeChild):
    """A host by hand."""

    def __init__(self, epoch: int, deliver: Callable[[bytes], None]) -> None:
        super().__init__(1000 + epoch)
        self.epoch = epoch
        self.ends: list[End] = []
        self.full = False
        self.words = ""
        self._deliver = deliver

    def report(self, calls: int | None = None) -> None:
        taken = len(self.ends)
        load = Load(calls=taken if calls is None else calls, taken=taken)
        self._deliver(msgspec.msgpack.encode(load))

    def take(self, end: End) -> bool:
        if not self.full:
            self.ends.append(end.dup())
        return not self.full

    def last_words(self) -> str:
        return self.words

    def die(self, status: int) -> None:
        for end in self.ends:
            end.close()
        self.ends.clear()
        super().die(status)


class House:
    """Hosts, and what is heard of them."""

    def __init__(self) -> None:
        self.launched: list[FakeHost] = []
        self.counters = Counters()
        self.silent = False
        self.hosts: AgentHosts

    async def launch(self, epoch: int, deliver: Callable[[bytes], None]) -> HostLink:
        host = FakeHost(epoch, deliver)
        self.launched.append(host)
        if not self.silent:
            asyncio.get_running_loop().call_soon(host.report)
        return host

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(0)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(2.0):
            while not condition():
                await asyncio.sleep(0.001)

    def carried(self) -> list[int]:
        return [len(host.ends) for host in self.launched]


@asynccontextmanager
async def house(count: int = 2, calls: int = 3, *, warm: bool = True, silent: bool = False) -> AsyncIterator[House]:
    it = House()
    it.silent = silent
    async with Supervisor() as tasks:
        it.hosts = AgentHosts(
            Plan(count, calls, warm=warm),
            it.launch,
            name=NAME,
            spawn=tasks.spawn,
            counters=it.counters,
            pause=it.pause,
        )
        it.hosts.open()
        if warm and not silent:
            await it.until(lambda: it.hosts.ready == count + 1)
        try:
            yield it
        finally:
            await it.hosts.close()
            for host in it.launched:
                host.die(0)
        assert tasks.failures == 0


async def refusal(end: End) -> wire.Failed:
    data = await asyncio.get_running_loop().sock_recv(end, 1000)
    return wire.decode(data[4:], wire.Failed)


async def test_calls_go_to_the_host_with_the_fewest_and_none_to_the_spare() -> None:
    async with house() as it:
        ends = [await doorway.knock(NAME) for _ in range(4)]
        await it.until(lambda: it.carried() == [2, 2, 0])
        for host in it.launched:
            host.report()
        it.launched[1].report(calls=0)
        ends += [await doorway.knock(NAME) for _ in range(2)]
        await it.until(lambda: it.carried() == [2, 4, 0])
        for end in ends:
            end.close()


async def test_when_every_host_is_full_the_call_is_refused_with_words_and_counted() -> None:
    async with house(count=2, calls=1) as it:
        ends = [await doorway.knock(NAME) for _ in range(3)]
        assert await refusal(ends[2]) == wire.Failed("refused", "every process that runs agents is full")
        assert it.counters.get("agent_calls_refused", reason="full") == 1
        assert it.carried() == [1, 1, 0]
        it.launched[0].report(calls=0)
        ends.append(await doorway.knock(NAME))
        await it.until(lambda: it.carried() == [2, 1, 0])
        for end in ends:
            end.close()


async def test_the_spare_stands_in_for_a_host_that_takes_no_connection_any_more() -> None:
    """It has died, and the news is on its way: its calls must not crowd with those of the others."""
    async with house() as it:
        it.launched[0].full = True
        with await doorway.knock(NAME), await doorway.knock(NAME):
            await it.until(lambda: it.carried() == [0, 1, 1])


async def test_a_death_ends_the_connections_of_that_host_alone_and_the_spare_takes_its_place(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with house() as it:
        loop = asyncio.get_running_loop()
        with await doorway.knock(NAME) as doomed:
            await it.until(lambda: it.carried() == [1, 0, 0])
            with await doorway.knock(NAME) as kept:
                await it.until(lambda: it.carried() == [1, 1, 0])
                it.launched[0].words = "in a loop"
                it.launched[0].die(-11)
                assert await loop.sock_recv(doomed, 1) == b""
                await it.until(lambda: it.hosts.pids == (1002, 1003))
                await loop.sock_sendall(it.launched[1].ends[0], b"still here")
                assert await loop.sock_recv(kept, 20) == b"still here"
        assert it.counters.get("agent_hosts_died", status="-11") == 1
        [words] = [record for record in caplog.records if record.message == "where an agent host was"]
        assert words.__dict__["traceback"] == "in a loop"


async def test_a_host_whose_loop_does_not_turn_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Plan, "beat_s", 0.001)
    async with house() as it:
        await it.until(lambda: it.launched[0].killed)


async def test_hosts_nobody_needs_yet_are_started_by_the_first_call() -> None:
    async with house(warm=False) as it:
        assert (it.launched, it.hosts.ready) == ([], 0)
        with await doorway.knock(NAME):
            await it.until(lambda: sum(it.carried()) == 1)
            assert len(it.launched) == 3


async def test_calls_wait_for_hosts_that_are_starting_and_those_that_gave_up_are_no_calls() -> None:
    async with house(silent=True) as it:
        gone, waiting = await doorway.knock(NAME), await doorway.knock(NAME)
        await it.until(lambda: len(it.hosts._waiting) == 2)
        gone.close()
        it.launched[0].report()
        await it.until(lambda: it.carried() == [1, 0, 0])
        waiting.close()


async def test_only_so_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AgentHosts, "WAITING", 1)
    async with house(silent=True) as it:
        ends = [await doorway.knock(NAME), await doorway.knock(NAME)]
        assert (await refusal(ends[1])).message == "no process that runs agents is up"
        assert it.counters.get("agent_calls_refused", reason="down") == 1
        for end in ends:
            end.close()


async def test_each_host_shows_what_it_carries_and_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control.costs.cost_of", {1001: Cost(5000, 1.5), 1002: Cost(6000, 0.5)}.get)
    async with house(count=1) as it:
        with await doorway.knock(NAME):
            await it.until(lambda: it.carried() == [1, 0])
            it.launched[0].report()
            shown = it.hosts.readings()
        first, second = (("host", "1"),), (("host", "2"),)
        assert shown == {
            "agent_hosts": {(): 2},
            "agent_host_calls": {first: 1, second: 0},
            "agent_host_memory_bytes": {first: 5000, second: 6000},
            "agent_host_cpu_seconds": {first: 1.5, second: 0.5},
        }


def test_auto_is_a_host_for_each_core_and_at_least_two(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, hosts in ((1, 2), (2, 2), (8, 8)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid, cores=cores: set(range(cores)))
        assert host_count("auto") == hosts
    assert host_count(3) == 3


def test_which_agents_there_are_is_told_without_importing_any(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("front-desk", "no_such_package:agent", GROUP)
    monkeypatch.setattr("control.hosts.offered", lambda: {"front-desk": point})
    assert python_agents(Agents(python=("no_such_module:agent",))) == ["front-desk", "no_such_module:agent"]


async def test_a_real_host_runs_a_listed_agent_and_one_that_is_killed_is_replaced(tmp_path: Path) -> None:
    """With its words where it was when it crashed."""
    (tmp_path / "crashing_agent.py").write_text(
        "import ctypes\nasync def agent(call):\n    await call.answered()\n    ctypes.string_at(0)\n"
    )
    plan = Plan(1, 5, ("crashing_agent:agent",), (tmp_path,), warm=True)
    async with Supervisor() as tasks:
        hosts = AgentHosts(plan, launcher(plan), name=NAME, spawn=tasks.spawn, counters=Counters())
        hosts.open()
        try:
            frames: asyncio.Queue[bytes] = asyncio.Queue()
            lost = asyncio.Event()
            pipe = Pipe(frames.put_nowait, lambda reason: lost.set())
            await pipe.open(await doorway.knock(NAME))
            spec = AgentSpec(protocol="python", name="crashing_agent:agent")
            pipe.send(wire.encode(Kind.OPEN, wire.Open(agent=spec, context=CONTEXT)))
            async with asyncio.timeout(10.0):
                assert (await frames.get())[0] == Kind.STARTED
                [pid] = hosts.pids
                pipe.send(wire.encode(Kind.ESTABLISHED))
                await lost.wait()
                await pipe.closed()
                while pid in hosts.pids or not hosts.pids:
                    await asyncio.sleep(0.01)
        finally:
            await hosts.close()
