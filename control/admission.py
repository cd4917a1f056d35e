"""Which calls get in: the number is looked up, every cap is kept, and ports are leased."""

from __future__ import annotations

from collections.abc import Callable

from config.settings import Agents
from control.agent_spec import agent_spec
from control.call import Call
from control.call_journal import CallJournal
from control.call_table import Input, State
from control.caps import Caps
from control.fallback import Fallback
from control.hops import LIMIT as HOPS_LIMIT
from control.hops import Hops
from control.identity import ANONYMOUS
from control.motor import Motor
from control.ports import PortPool
from control.registry.types import RegistryError
from control.routing import Find, Found
from edge.counters import printable
from edge.events import CallOffered

__all__ = ["CallAdmission"]


class CallAdmission:
    """Lets calls in, from the phone or from here; one that does not get in is refused, or its fallback has it.

    Clocks: ``now`` monotonic [s], ``wall`` UTC [s].
    """

    def __init__(
        self,
        motor: Motor,
        journal: CallJournal,
        fallback: Fallback,
        *,
        find: Find,
        caps: Caps,
        ports: PortPool,
        hops: Hops,
        agents: Agents,
        now: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._motor = motor
        self._journal = journal
        self._fallback = fallback
        self._find = find
        self._caps = caps
        self._ports = ports
        self._hops = hops
        self._agents = agents
        self._now = now
        self._wall = wall

    def offered(self, call: Call, offered: CallOffered) -> None:
        """One from the phone, whose number nobody knows yet."""
        if (full := self._caps.before_look_up(offered.trunk)) is not None:
            self._motor.refuse(call, full)
        else:
            self._motor.spawn(call, self._look_up(call, offered), "look up")

    def placed(self, call: Call) -> str | None:
        """One that the edge places; why it does not get in, or None."""
        if (full := self._caps.enter(call)) is not None:
            return full
        call.port = self._ports.lease(self._now())
        if call.port is None or call.route is None:
            self._caps.leave(call)
            return "no_media_port" if call.port is None else "internal_error"
        self._journal.offered(call, call.route)
        return None

    def leave(self, call: Call) -> None:
        """It is over: its place and its ports are free."""
        if call.port is not None:
            self._ports.release(call.port, self._now())
        self._caps.leave(call)

    async def _look_up(self, call: Call, offered: CallOffered) -> None:
        try:
            found = await self._find(offered)
        except RegistryError as error:
            self._motor.refuse(call, "registry_unavailable", str(error))
            return
        if call.state is not State.LOOKING_UP:
            return
        if found is None:
            self._motor.refuse(call, "unknown_number", "tried " + ", ".join(map(printable, offered.dialed)))
            return
        self._routed(call, found)

    def _routed(self, call: Call, found: Found) -> None:
        route = found.route
        call.found, call.route = found, route
        call.to_number, call.from_number = found.number, found.from_number
        call.account_id = route.number.account_id
        call.headers += found.headers
        if call.hidden:
            call.from_number = ANONYMOUS
        self._journal.offered(call, route)
        call.hops = self._hops.of(call.headers, found.from_number, call.to_number)
        if call.hops >= HOPS_LIMIT:
            self._motor.refuse(call, "loop", f"it has been here {call.hops} times")
            return
        if route.agent is None:
            self._motor.refuse(call, "unassigned_number")
            return
        spec = agent_spec(route.agent, self._agents, self._wall(), route.number.parameters)
        if spec is None:
            self._fallback.take_over(call, "bad_agent")
            return
        call.spec = spec
        full = self._caps.enter(call)
        if full is not None:
            self._fallback.take_over(call, full)
            return
        call.port = self._ports.lease(self._now())
        if call.port is None:
            self._motor.refuse(call, "no_media_port")
            return
        self._motor.feed(call, Input.ROUTED)
