"""Placing calls and handing callers on, as the API asks for it: whom it may be, from which number, and only once."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from config.settings import Agents, Outbound
from control.agent_spec import agent_spec
from control.call import Outgoing
from control.dialling import Dialler, NoWay
from control.entropy import new_id
from control.errors import (
    CallNotFound,
    DestinationRefused,
    EdgeFull,
    InUse,
    OutboundLimitReached,
    OutboundUnavailable,
    SecretsUnavailable,
    TransferNotPossible,
    ValidationFailed,
)
from control.numbers import NumberError, canonical
from control.outbound import Order, PlaceRefused
from control.outgoing import Begun
from control.registry.types import Agent, Number, Page, PlacedCall, Registry
from control.resources.call_control import PlaceCall, TransferCall
from control.toll import LIMITS, Denied, TollGuard, TollRefusal
from control.transfers import AgentPlace, Transfer, TransferRefused

__all__ = ["KEY_LIFETIME_S", "PlacedCalls", "Placing"]

KEY_LIFETIME_S: Final = 86_400.0
"""How long an idempotency key is remembered [s]."""

_NEWEST: Final = Page(100, 0)


class PlacedCalls(Protocol):
    """:class:`control.calls.CallManager`, as far as placing goes."""

    def place(self, order: Order, id: str | None = None) -> str:
        """Begin; the call's id. Raises :class:`control.outbound.PlaceRefused`."""
        ...

    async def transfer(
        self, account_id: str, call_id: str, target: str, *, by: str = "operator", agent: AgentPlace = "leaves"
    ) -> Transfer:
        """Begin; raises :class:`control.transfers.TransferRefused` or :class:`control.toll.TollRefusal`."""
        ...


class Placing:
    """``equip`` adds to an agent what its protocol needs of the account. ``wall`` is UTC [s].

    ``records``: recordings can be encrypted here, so calls can be recorded.
    """

    def __init__(
        self,
        registry: Registry,
        calls: PlacedCalls,
        guard: TollGuard,
        dialler: Dialler,
        *,
        agents: Agents,
        outbound: Outbound,
        equip: Callable[[Agent], Awaitable[Agent]],
        draining: Callable[[], bool],
        records: bool,
        wall: Callable[[], float],
        entropy: Callable[[int], bytes],
    ) -> None:
        self._registry = registry
        self._calls = calls
        self._guard = guard
        self._dialler = dialler
        self._agents = agents
        self._outbound = outbound
        self._equip = equip
        self._draining = draining
        self._records = records
        self._wall = wall
        self._entropy = entropy

    async def place(self, account_id: str, request: PlaceCall, key: str | None = None) -> str:
        """Call ``request.phone_number`` and let the agent talk: the id of the call, or of the one ``key`` was used for.

        Raises :class:`control.errors.OperationError`.
        """
        if self._draining():
            raise EdgeFull("The edge is stopping")
        agent = await self._registry.agent(account_id, str(request.agent_id))
        id = new_id(self._entropy)
        if key is not None:
            first = await self._first(account_id, key, request, id)
            if first.call_id != id:
                return first.call_id
        try:
            await self._begin(account_id, agent, request, id)
        except BaseException:
            if key is not None:
                await self._registry.forget_placed(account_id, key)
            raise
        return id

    async def _first(self, account_id: str, key: str, request: PlaceCall, id: str) -> PlacedCall:
        """The call that this key was first used for. :class:`InUse` when it asked for something else."""
        now = self._wall()
        fingerprint = hashlib.sha256(request.model_dump_json().encode()).hexdigest()
        placed = PlacedCall(account_id, key, fingerprint, id, now)
        first = await self._registry.place_once(placed, now - KEY_LIFETIME_S)
        if first.fingerprint != fingerprint:
            raise InUse("This X-Idempotency-Key was used for another call within the last day")
        return first

    async def _begin(self, account_id: str, agent: Agent, request: PlaceCall, id: str) -> None:
        settings = request.call_settings
        if settings.recording_enabled and not self._records:
            raise SecretsUnavailable("The call cannot be recorded: there is no key to encrypt it with")
        number = await self._number(account_id, agent, request.from_number)
        equipped = await self._equip(agent)
        greeting = {"greeting": settings.greeting} if settings.greeting is not None else {}
        spec = agent_spec(equipped, self._agents, self._wall(), request.variables, greeting)
        if spec is None:
            raise OutboundUnavailable("The agent's record cannot be used: save its pipeline again")
        try:
            way = await self._dialler.way(number)
        except NoWay as error:
            raise OutboundUnavailable(f"No calls can be placed from {number.phone_number}: {error}") from error
        try:
            admission = await self._guard.admit(account_id, number.phone_number, request.phone_number)
        except TollRefusal as error:
            raise _refused(error, "phone_number") from error
        outgoing = Outgoing(
            way,
            admission.destination,
            admission.ticket,
            ring_timeout_s=settings.join_timeout_s or self._outbound.ring_timeout_s,
            max_duration_s=max(1.0, min(settings.max_duration_s, admission.left_s)),
            hidden=settings.hide_caller_id,
            recorded=settings.recording_enabled,
        )
        try:
            self._calls.place(Order(agent, number, spec, outgoing), id)
        except PlaceRefused as error:
            raise EdgeFull(reason=error.reason) from error

    async def _number(self, account_id: str, agent: Agent, wanted: str | None) -> Number:
        """``from_number`` if it is the account's, else one that the agent answers, else the newest."""
        if wanted is not None:
            try:
                phone_number = canonical(wanted)
            except NumberError as error:
                raise ValidationFailed.of("from_number", str(error)) from error
            known = await self._registry.number_by_phone(phone_number)
            if known is None or known.account_id != account_id:
                raise ValidationFailed.of("from_number", "is no number of your account")
            return known
        found, _ = await self._registry.numbers(account_id, _NEWEST)
        answered = [number for number in found if number.agent_id == agent.id]
        if not found:
            raise OutboundUnavailable("Your account has no number to call from: import one first")
        return (answered or found)[0]

    async def transfer(self, account_id: str, call_id: str, request: TransferCall) -> Begun:
        """Hand a live call's caller on. Raises :class:`control.errors.OperationError`, or the registry's."""
        try:
            transfer = await self._calls.transfer(account_id, call_id, request.target, agent=request.agent)
        except TollRefusal as error:
            raise _refused(error, "target") from error
        except TransferRefused as error:
            if error.reason == "not_live":
                raise CallNotFound(call_id) from error
            raise TransferNotPossible(str(error), reason=error.reason) from error
        return Begun(transfer.call.id, transfer.target, transfer.method)


def _refused(error: TollRefusal, field: str) -> ValidationFailed | DestinationRefused | OutboundLimitReached:
    """``field`` of the request names whom to call."""
    if error.denied is Denied.NOT_A_NUMBER:
        return ValidationFailed.of(field, error.problem)
    message = f"{error} ({error.denied.value})"
    details: dict[str, Any] = {"reason": error.denied.value, "target": error.target}
    if error.denied in LIMITS:
        return OutboundLimitReached(message, **details)
    return DestinationRefused(message, **details)
