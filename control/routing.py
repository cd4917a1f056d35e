"""Which number a call is for: by what it dialed, or by the pass it came in with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from control.numbers import NumberError, canonical_dialed
from control.passes import CallPasses
from control.registry.types import Agent, Registry, Route
from edge.events import CallOffered

__all__ = ["PASS_TRUNK", "Find", "Found", "Router", "caller_number"]

PASS_TRUNK = "twilio"
"""The trunk whose calls come with a pass."""


@dataclass(frozen=True, slots=True)
class Found:
    """A call's number and who answers it.

    ``from_number`` is E.164 where the caller is a number, else as it came. ``call_sid`` and ``account_sid``
    are the carrier's own ids where it has told them: the agent is given those. ``verstat`` is the carrier's word on the
    caller's number, and ``headers`` what its own INVITE had for the agent, both from outside the one that came here.
    """

    number: str
    route: Route
    from_number: str
    call_sid: str | None = None
    account_sid: str | None = None
    verstat: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


Equip = Callable[[Agent], Awaitable[Agent]]
"""May raise :class:`control.registry.types.RegistryError`."""

Find = Callable[[CallOffered], Awaitable[Found | None]]
"""None: no such number on this trunk. May raise :class:`control.registry.types.RegistryError`."""


def caller_number(raw: str) -> str:
    """The caller in E.164 where it is a number; as it came otherwise (``anonymous``)."""
    try:
        return canonical_dialed(raw)
    except NumberError:
        return raw


class Router:
    """:data:`Find` over the registry; a DID is looked up on the trunk the call came in on, and nowhere else."""

    def __init__(self, registry: Registry, passes: CallPasses, equip: Equip | None = None) -> None:
        """``equip`` adds to an agent what its protocol needs of the account."""
        self._registry = registry
        self._passes = passes
        self._equip = equip

    async def find(self, offered: CallOffered) -> Found | None:
        """The number of a call that has been offered."""
        found = await (self._by_pass(offered) if offered.trunk == PASS_TRUNK else self._by_dialed(offered))
        if found is None or found.route.agent is None or self._equip is None:
            return found
        return replace(found, route=replace(found.route, agent=await self._equip(found.route.agent)))

    async def _by_dialed(self, offered: CallOffered) -> Found | None:
        for raw in offered.dialed:
            try:
                number = canonical_dialed(raw)
            except NumberError:
                continue
            route = await self._registry.route(offered.trunk, number)
            if route is not None:
                return Found(number, route, caller_number(offered.caller))
        return None

    async def _by_pass(self, offered: CallOffered) -> Found | None:
        """Number and account are the pass's, whatever the INVITE says; the registry has the last word on the agent."""
        given = self._passes.find(offered.identity)
        if given is None:
            return None
        route = await self._registry.route(PASS_TRUNK, given.phone_number)
        if route is None or route.number.id != given.number_id:
            return None
        return Found(
            given.phone_number,
            route,
            caller_number(given.caller),
            given.call_sid,
            given.account_sid,
            given.verstat,
            given.headers,
        )
