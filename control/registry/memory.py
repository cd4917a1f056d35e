"""A registry in memory: the twin of the SQLite one, for tests and trials. Nothing outlives the process."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from control.registry.records import check, crash, crash_entry, fold, timeline_entry
from control.registry.types import (
    Account,
    Agent,
    AgentInUse,
    ApiKey,
    Call,
    CallEvent,
    CallFilter,
    Conflict,
    Integration,
    JournalPosition,
    NotFound,
    Number,
    Page,
    PhoneNumberTaken,
    Route,
)

__all__ = ["MemoryRegistry"]

_Row = TypeVar("_Row", Agent, Number, Call)
_Stored = TypeVar("_Stored")
_Listed = TypeVar("_Listed", Account, ApiKey, Agent, Number, Call)


class MemoryRegistry:
    """Implements :class:`control.registry.types.Registry`. No method awaits, so each is atomic on its loop."""

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}
        self._keys: dict[str, tuple[ApiKey, bytes]] = {}
        self._agents: dict[str, Agent] = {}
        self._numbers: dict[str, Number] = {}
        self._number_ids: dict[str, str] = {}
        self._integrations: dict[tuple[str, str], Integration] = {}
        self._calls: dict[str, Call] = {}
        self._timelines: dict[str, list[tuple[float, str]]] = {}
        self._events: set[str] = set()
        self._position: JournalPosition | None = None
        self._alive_at = 0.0

    async def close(self) -> None:
        """Nothing to close."""

    # accounts and keys

    async def create_account(self, account: Account) -> None:
        """:class:`Conflict` when the name is taken."""
        if account.id in self._accounts or await self.account_by_name(account.name) is not None:
            raise Conflict(f"an account named {account.name!r} exists")
        self._accounts[account.id] = account

    async def account(self, account_id: str) -> Account:
        """One account."""
        return _found(self._accounts.get(account_id), "account", account_id)

    async def account_by_name(self, name: str) -> Account | None:
        """None when there is none of that name."""
        return next((account for account in self._accounts.values() if account.name == name), None)

    async def accounts(self) -> list[Account]:
        """All of them, newest first."""
        return _newest(self._accounts.values(), lambda row: row.created_at)

    async def create_key(self, key: ApiKey, digest: bytes) -> None:
        """:class:`NotFound` for an unknown account."""
        _found(self._accounts.get(key.account_id), "account", key.account_id)
        if any(key.id == id or digest == other for id, (_, other) in self._keys.items()):
            raise Conflict("this key exists")
        self._keys[key.id] = (key, digest)

    async def key_by_digest(self, digest: bytes) -> ApiKey | None:
        """The row, revoked or not; None for an unknown key."""
        return next((key for key, other in self._keys.values() if hmac.compare_digest(other, digest)), None)

    async def keys(self, account_id: str | None = None) -> list[ApiKey]:
        """An account's, or everybody's; newest first."""
        keys = (key for key, _ in self._keys.values() if account_id in (None, key.account_id))
        return _newest(keys, lambda row: row.created_at)

    async def revoke_key(self, key_id: str, at: float) -> None:
        """The first revocation's time stays."""
        key, digest = _found(self._keys.get(key_id), "key", key_id)
        if key.revoked_at is None:
            self._keys[key_id] = (replace(key, revoked_at=at), digest)

    # agents

    async def create_agent(self, agent: Agent) -> None:
        """:class:`NotFound` for an unknown account."""
        _found(self._accounts.get(agent.account_id), "account", agent.account_id)
        if agent.id in self._agents:
            raise Conflict(f"agent {agent.id} exists")
        self._agents[agent.id] = agent

    async def agent(self, account_id: str, agent_id: str) -> Agent:
        """One of the account's agents."""
        return _owned(self._agents.get(agent_id), account_id, "agent", agent_id)

    async def agents(self, account_id: str, page: Page) -> tuple[list[Agent], int]:
        """A page, and how many there are in all."""
        return _page((row for row in self._agents.values() if row.account_id == account_id), page, _created)

    async def update_agent(self, agent: Agent) -> None:
        """Its name, pipeline and ``updated_at``; who owns it and when it was made stay."""
        old = await self.agent(agent.account_id, agent.id)
        self._agents[agent.id] = replace(agent, created_at=old.created_at)

    async def delete_agent(self, account_id: str, agent_id: str) -> None:
        """:class:`AgentInUse` while numbers point to it."""
        await self.agent(account_id, agent_id)
        count = sum(number.agent_id == agent_id for number in self._numbers.values())
        if count:
            raise AgentInUse(agent_id, count)
        del self._agents[agent_id]

    # numbers

    async def create_number(self, number: Number) -> None:
        """:class:`PhoneNumberTaken`, or :class:`NotFound` for an account or an agent that is not its."""
        _found(self._accounts.get(number.account_id), "account", number.account_id)
        if number.agent_id is not None:
            await self.agent(number.account_id, number.agent_id)
        if number.phone_number in self._number_ids:
            raise PhoneNumberTaken(number.phone_number)
        if number.id in self._numbers:
            raise Conflict(f"number {number.id} exists")
        self._numbers[number.id] = number
        self._number_ids[number.phone_number] = number.id

    async def number(self, account_id: str, number_id: str) -> Number:
        """One of the account's numbers."""
        return _owned(self._numbers.get(number_id), account_id, "number", number_id)

    async def numbers(self, account_id: str | None, page: Page) -> tuple[list[Number], int]:
        """A page of an account's numbers (None: of everybody's), and how many there are in all."""
        rows = (row for row in self._numbers.values() if account_id in (None, row.account_id))
        return _page(rows, page, _created)

    async def assign_number(self, account_id: str, number_id: str, agent_id: str | None, at: float) -> Number:
        """None unassigns. :class:`NotFound` for a number or an agent of another account."""
        number = await self.number(account_id, number_id)
        if agent_id is not None:
            await self.agent(account_id, agent_id)
        self._numbers[number_id] = replace(number, agent_id=agent_id, updated_at=at)
        return self._numbers[number_id]

    async def delete_number(self, account_id: str, number_id: str) -> Number:
        """The row as it was; its calls' records stay."""
        number = await self.number(account_id, number_id)
        del self._numbers[number_id]
        del self._number_ids[number.phone_number]
        return number

    async def route(self, trunk: str, phone_number: str) -> Route | None:
        """Who answers this number on this trunk; None when it is not on the trunk."""
        number = self._numbers.get(self._number_ids.get(phone_number, ""))
        if number is None or number.trunk != trunk:
            return None
        return Route(number, self._agents[number.agent_id] if number.agent_id is not None else None)

    # integrations

    async def save_integration(self, integration: Integration) -> None:
        """Inserts or replaces; the first ``created_at`` stays."""
        _found(self._accounts.get(integration.account_id), "account", integration.account_id)
        key = (integration.account_id, integration.provider)
        old = self._integrations.get(key, integration)
        self._integrations[key] = replace(integration, created_at=old.created_at)

    async def integration(self, account_id: str, provider: str) -> Integration:
        """With its secrets."""
        return _found(self._integrations.get((account_id, provider)), "integration", provider)

    async def delete_integration(self, account_id: str, provider: str) -> None:
        """:class:`NotFound` when there is none."""
        await self.integration(account_id, provider)
        del self._integrations[account_id, provider]

    # calls

    async def apply_events(self, events: Sequence[CallEvent], position: JournalPosition | None = None) -> int:
        """ValueError for an event that no record can be made of, and then nothing is applied."""
        for event in events:
            check(event)
        count = sum([self._apply(event) for event in events])
        self._position = position or self._position
        return count

    async def journal_position(self) -> JournalPosition | None:
        """None before the first batch."""
        return self._position

    async def call(self, account_id: str, call_id: str) -> Call:
        """One record, with its timeline."""
        return self._complete(_owned(self._calls.get(call_id), account_id, "call", call_id))

    async def calls(self, account_id: str, page: Page, filter: CallFilter) -> tuple[list[Call], int]:
        """A page of records with their timelines, and how many match in all."""
        rows = (row for row in self._calls.values() if row.account_id == account_id and _matches(row, filter))
        found, total = _page(rows, page, lambda row: row.started_at)
        return [self._complete(row) for row in found], total

    def _apply(self, event: CallEvent) -> bool:
        if event.kind != "alive" and (event.id in self._events or not self._record(event)):
            return False
        self._alive_at = event.at
        self._events.add(event.id)
        return event.kind != "alive"

    def _record(self, event: CallEvent) -> bool:
        if event.kind == "opened":
            self._close_orphans()
            return True
        call = fold(self._calls.get(event.call_id), event)
        if call is None:
            return False
        self._calls[event.call_id] = call
        self._timelines.setdefault(event.call_id, []).append(timeline_entry(event))
        return True

    def _close_orphans(self) -> None:
        for call in [row for row in self._calls.values() if row.ended_at is None]:
            ended = crash(call, self._alive_at)
            self._calls[call.id] = ended
            self._timelines[call.id].append(crash_entry(ended))

    def _complete(self, call: Call) -> Call:
        return replace(call, timeline=tuple(self._timelines[call.id]))


def _created(row: Agent | Number) -> float:
    return row.created_at


def _matches(call: Call, filter: CallFilter) -> bool:
    return filter.status in (None, call.status) and filter.number_id in (None, call.number_id)


def _newest(rows: Iterable[_Listed], time: Callable[[_Listed], float]) -> list[_Listed]:
    return sorted(sorted(rows, key=lambda row: row.id), key=time, reverse=True)


def _page(rows: Iterable[_Row], page: Page, time: Callable[[_Row], float]) -> tuple[list[_Row], int]:
    ordered = _newest(rows, time)
    return ordered[page.offset : page.offset + page.limit], len(ordered)


def _found(row: _Stored | None, kind: str, id: str) -> _Stored:
    if row is None:
        raise NotFound(kind, id)
    return row


def _owned(row: _Row | None, account_id: str, kind: str, id: str) -> _Row:
    if row is None or row.account_id != account_id:
        raise NotFound(kind, id)
    return row
