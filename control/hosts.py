"""The processes that run agents: kept up, and each call's connection passed to the one with the fewest calls.

A host that dies, or whose loop an agent holds up, ends with its own calls; the others go on, and the spare is in its
place. Media knocks at a doorway (:mod:`media.hosting.doorway`) and is handed on from here.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

import msgspec

from config.settings import Agents
from control.costs import cost_series
from control.host_process import arguments
from control.keeper import ChildProcess, Keeper, Link, Spawn, start_child
from control.metrics import Readings
from edge.counters import Counters
from media.hosting import doorway, wire
from media.hosting.doorway import End
from media.hosting.settings import HostSettings, offered
from media.hosting.wire import Kind, Load
from media.pipe import frame

__all__ = ["AgentHosts", "HostLink", "Launch", "Plan", "host_count", "launcher", "python_agents"]

log = logging.getLogger("truedy.hosts")


@dataclass(frozen=True, slots=True)
class Plan:
    """``count`` processes of at most ``calls`` each run ``agents``, found in ``paths`` too.

    One whose loop does not turn for ``hang_s`` [s] is killed. ``warm``: they are started before the first call.
    ``allow_private``: agents that are reached from there may have addresses that are not public.
    """

    count: int
    calls: int
    agents: tuple[str, ...] = ()
    paths: tuple[Path, ...] = ()
    hang_s: float = 10.0
    allow_private: bool = False
    warm: bool = False

    @property
    def beat_s(self) -> float:
        """How often a host gives a sign of life [s]."""
        return self.hang_s / Keeper.QUIET_BEATS


def host_count(setting: int | Literal["auto"]) -> int:
    """``agents.python_processes`` as a number: ``auto`` is one for each of this process's cores, and at least 2."""
    return max(len(os.sched_getaffinity(0)), 2) if setting == "auto" else setting


def python_agents(given: Agents) -> list[str]:
    """The names that Python agents may have here, sorted; nothing is imported to find out."""
    return sorted({*given.python, *offered()})


class HostLink(Link, Protocol):
    """A host's process: connections can be handed to it."""

    def take(self, end: End) -> bool:
        """Hand it over; it stays open here. False when the host takes none."""

    def last_words(self) -> str:
        """Where its interpreter was when it crashed or hung, if that was written down; until :meth:`ended`."""


Launch = Callable[[int, Callable[[bytes], None]], Awaitable[HostLink]]
"""Starts the host of an epoch, whose messages go to the function. Raises OSError."""


class _Host:
    """One life."""

    link: HostLink

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.heard = False
        self.beats = 0
        self.dying = False
        self.report = Load(calls=0, taken=0)
        self._handed = 0
        self._reported = asyncio.Event()

    def receive(self, data: bytes) -> None:
        """A report."""
        self.report = msgspec.msgpack.decode(data, type=Load)
        self.heard = True
        self._reported.set()

    @property
    def load(self) -> int:
        """Its calls, and those that are on their way to it."""
        return self.report.calls + self._handed - self.report.taken

    async def answered(self) -> None:
        """Its agents are loaded."""
        await self._reported.wait()

    def take(self, end: End) -> bool:
        """False, once and for all, when it takes none: it is about to be buried."""
        taken = self.link.take(end)
        self._handed += taken
        self.dying = not taken
        return taken


class AgentHosts:
    """All hosts, and the doorway called ``name``. Next: :meth:`open`; :meth:`close` whether or not that succeeded."""

    WAITING: Final = 200
    """Connections that may wait while no host is up yet."""

    START_S: Final = 60.0
    """Agents may import whole frameworks."""

    def __init__(
        self,
        plan: Plan,
        launch: Launch,
        *,
        name: str,
        spawn: Spawn,
        counters: Counters,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.name = name
        self._plan = plan
        self._launch = launch
        self._counters = counters
        self._doorway: End | None = None
        self._waiting: deque[End] = deque()
        self._begun = False
        self._keeper: Keeper[_Host] = Keeper(
            "agent host",
            plan.count,
            self._begin,
            up=self._up,
            gone=self._buried,
            spawn=spawn,
            counters=counters,
            counter="agent_hosts_died",
            beat_s=plan.beat_s,
            start_s=self.START_S,
            pause=pause,
        )

    @property
    def ready(self) -> int:
        """Hosts up, the spare among them."""
        return len(self._keeper.ready)

    @property
    def pids(self) -> tuple[int, ...]:
        """Of the hosts that take calls."""
        return tuple(host.link.pid for host in self._keeper.active)

    def open(self) -> None:
        """Open the doorway; calls may come before any host is up. Raises OSError."""
        self._doorway = doorway.open_doorway(self.name)
        asyncio.get_running_loop().add_reader(self._doorway, self._knocked)
        if self._plan.warm:
            self._start_hosts()

    async def close(self) -> None:
        """Let no more in; the hosts leave by themselves, or are killed."""
        if self._doorway is not None:
            asyncio.get_running_loop().remove_reader(self._doorway)
            self._doorway.close()
            self._doorway = None
        while self._waiting:
            self._waiting.popleft().close()
        await self._keeper.close()

    def readings(self) -> Readings:
        """What each host carries and costs, and how many are up."""
        hosts = {(("host", str(host.epoch)),): host for host in self._keeper.ready}
        memory, cpu = cost_series({labels: host.link.pid for labels, host in hosts.items()})
        return {
            "agent_hosts": {(): self.ready},
            "agent_host_calls": {labels: host.report.calls for labels, host in hosts.items()},
            "agent_host_memory_bytes": memory,
            "agent_host_cpu_seconds": cpu,
        }

    # --- at the doorway -------------------------------------------------------------------------

    def _knocked(self) -> None:
        while self._doorway is not None and (end := doorway.accept(self._doorway)) is not None:
            self._start_hosts()
            self._place(end)

    def _start_hosts(self) -> None:
        if not self._begun:
            self._begun = True
            for _ in range(self._plan.count + 1):
                self._keeper.add_place()

    def _place(self, end: End) -> None:
        hosts = self._living()
        if not hosts:
            if len(self._waiting) < self.WAITING:
                self._waiting.append(end)
            else:
                self._refuse(end, "down", "no process that runs agents is up")
            return
        with end:
            while hosts:
                host = min(hosts, key=lambda host: host.load)
                if host.load >= self._plan.calls:
                    break
                if host.take(end):
                    return
                hosts = self._living()
            self._refuse(end, "full", "every process that runs agents is full")

    def _living(self) -> list[_Host]:
        """Those that take calls; the spare stands in for one that has died and is not buried yet."""
        return [host for host in self._keeper.ready if not host.dying][: self._plan.count]

    def _refuse(self, end: End, reason: str, message: str) -> None:
        log.warning("an agent's call is refused", extra={"reason": reason})
        self._counters.add("agent_calls_refused", reason=reason)
        with end:
            doorway.say(end, frame(wire.encode(Kind.FAILED, wire.Failed("refused", message))))

    # --- hosts ----------------------------------------------------------------------------------

    async def _begin(self, epoch: int) -> _Host:
        host = _Host(epoch)
        host.link = await self._launch(epoch, host.receive)
        return host

    def _up(self, host: _Host) -> None:
        while self._waiting:
            end = self._waiting.popleft()
            if doorway.left(end):
                end.close()
            else:
                self._place(end)

    def _buried(self, host: _Host, status: int) -> None:
        """Its calls' media hears it by the end of their connections."""
        if not self._keeper.closing and (words := host.link.last_words()):
            log.error("where an agent host was", extra={"pid": host.link.pid, "host": host.epoch, "traceback": words})


# --- processes --------------------------------------------------------------------------------


class HostProcess:
    """A :class:`HostLink` to a child of this process."""

    LONGEST_BYTES: Final = 4000

    def __init__(self, child: ChildProcess, way: End, notes: int) -> None:
        self._child = child
        self._way = way
        self._notes = notes
        self.send = child.send
        self.hang_up = child.hang_up
        self.kill = child.kill
        self._words = ""

    @property
    def pid(self) -> int:
        return self._child.pid

    def take(self, end: End) -> bool:
        return doorway.hand_over(self._way, end)

    def last_words(self) -> str:
        return self._words

    async def ended(self) -> int:
        try:
            return await self._child.ended()
        finally:
            self._way.close()
            if self._notes >= 0:
                self._words = os.pread(self._notes, self.LONGEST_BYTES, 0).decode("utf-8", "replace").strip()
                os.close(self._notes)
                self._notes = -1


def launcher(plan: Plan) -> Launch:
    """Hosts as ``plan`` says, each a process that sees the modules this one sees."""

    async def launch(epoch: int, deliver: Callable[[bytes], None]) -> HostLink:
        ours, theirs = doorway.channel()
        notes = os.memfd_create("last words", os.MFD_CLOEXEC)

        def given(descriptor: int, level: str) -> list[str]:
            settings = HostSettings(descriptor, theirs.fileno(), notes, plan.agents, plan.beat_s, plan.allow_private)
            return arguments(settings, plan.paths, epoch, level)

        with theirs:
            try:
                child = await start_child("control.host_process", given, deliver, (theirs.fileno(), notes))
            except BaseException:
                ours.close()
                os.close(notes)
                raise
        return HostProcess(child, ours, notes)

    return launch
