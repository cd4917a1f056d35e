"""A registry in memory: the twin of the SQLite one, for tests and trials. Nothing outlives the process."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from control.registry.records import check, crash, crash_entry, fold, timeline_entry
from control.registry.types import (
    Account,
    Agent,
    AgentInUse,
    ApiKey,
    Call,
    CallEvent,
    CallFilter,
    CarrierImport,
    Conflict,
    Connection,
    DiallingRules,
    Integration,
    IntegrationInUse,
    JournalPosition,
    NotFound,
    Number,
    Page,
    PhoneNumberTaken,
    PlacedCall,
    Removal,
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
        self._connections: dict[tuple[str, str, str], Connection] = {}
        self._rules: dict[str, DiallingRules] = {}
        self._placed: dict[tuple[str, str], PlacedCall] = {}
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

    async def create_number(self, number: Number, carrier: CarrierImport | None = None) -> Removal | None:
        """The number that ``carrier`` replaced, if it did.

        :class:`PhoneNumberTaken`, or :class:`NotFound` for an account, an agent that is not its, or an integration.
        """
        _found(self._accounts.get(number.account_id), "account", number.account_id)
        if number.agent_id is not None:
            await self.agent(number.account_id, number.agent_id)
        if carrier is not None:
            await self._check_carrier(number, carrier)
        taken = self._number_ids.get(number.phone_number)
        if taken is not None and (carrier is None or taken != carrier.replaces):
            raise PhoneNumberTaken(number.phone_number)
        if number.id in self._numbers:
            raise Conflict(f"number {number.id} exists")
        replaced = self._numbers.pop(taken) if taken is not None else None
        self._numbers[number.id] = number
        self._number_ids[number.phone_number] = number.id
        if carrier is not None:
            await self._carry(number, carrier)
        return self._without_bare_connection(replaced) if replaced is not None else None

    async def refresh_number(self, account_id: str, number_id: str, carrier: CarrierImport) -> Number:
        """What ``carrier`` says, but for ``replaces``; the number as it is then. :class:`NotFound` as on creation."""
        number = await self.number(account_id, number_id)
        await self._check_carrier(number, carrier)
        await self._carry(number, carrier)
        return self._numbers[number_id]

    async def _check_carrier(self, number: Number, carrier: CarrierImport) -> None:
        await self.integration(number.account_id, number.provider)
        if carrier.connection is not None:
            self._check_connection(carrier.connection)

    async def _carry(self, number: Number, carrier: CarrierImport) -> None:
        old = await self.integration(number.account_id, number.provider)
        await self.save_integration(replace(old, secrets={**old.secrets, **carrier.secrets}))
        if carrier.connection is not None:
            await self.save_connection(carrier.connection)

    async def number(self, account_id: str, number_id: str) -> Number:
        """One of the account's numbers."""
        return _owned(self._numbers.get(number_id), account_id, "number", number_id)

    async def numbers(
        self, account_id: str | None, page: Page, phone_number: str | None = None
    ) -> tuple[list[Number], int]:
        """A page of an account's numbers (None: of everybody's), or the one asked for, and how many match in all."""
        rows = (
            row
            for row in self._numbers.values()
            if account_id in (None, row.account_id) and phone_number in (None, row.phone_number)
        )
        return _page(rows, page, _created)

    async def change_number(self, account_id: str, number_id: str, changes: Mapping[str, Any], at: float) -> Number:
        """Its ``agent_id`` (None unassigns), ``options``, ``parameters`` and ``fallback``, whichever is given.

        :class:`NotFound` for a number or an agent of another account.
        """
        number = replace(await self.number(account_id, number_id), **changes, updated_at=at)
        if number.agent_id is not None:
            await self.agent(account_id, number.agent_id)
        self._numbers[number_id] = number
        return number

    async def delete_number(self, account_id: str, number_id: str) -> Removal:
        """With its connection, if it was the last one there; its calls' records stay."""
        number = await self.number(account_id, number_id)
        del self._numbers[number_id]
        del self._number_ids[number.phone_number]
        return self._without_bare_connection(number)

    def _without_bare_connection(self, gone: Number) -> Removal:
        connection_id = gone.provider_connection_id
        if connection_id is None or self._count(gone.account_id, gone.provider, connection_id):
            return Removal(gone)
        dropped = self._connections.pop((gone.account_id, gone.provider, connection_id), None)
        others = any(row.provider == gone.provider and row.id == connection_id for row in self._connections.values())
        return Removal(gone, connection_id if dropped is not None and not others else None)

    async def number_by_phone(self, phone_number: str) -> Number | None:
        """Whoever has it."""
        return self._numbers.get(self._number_ids.get(phone_number, ""))

    async def numbers_on(self, account_id: str, provider: str, connection_id: str | None = None) -> int:
        """How many of the account's numbers are from that provider, or on that connection of it."""
        return self._count(account_id, provider, connection_id)

    def _count(self, account_id: str, provider: str, connection_id: str | None) -> int:
        return sum(
            (row.account_id, row.provider) == (account_id, provider)
            and connection_id in (None, row.provider_connection_id)
            for row in self._numbers.values()
        )

    async def route(self, trunk: str, phone_number: str) -> Route | None:
        """Who answers this number on this trunk; None when it is not on the trunk.

        A connection's own trunk (``telnyx:ID``) finds its numbers wherever else they are looked up.
        """
        number = await self.number_by_phone(phone_number)
        if number is None or trunk not in (number.trunk, number.own_trunk):
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

    async def integrations_by(self, provider: str, key: str, value: str) -> list[Integration]:
        """Everybody's that :meth:`Integration.references` has this of."""
        rows = (row for row in self._integrations.values() if row.provider == provider)
        return sorted((row for row in rows if (key, value) in row.references()), key=lambda row: row.account_id)

    async def delete_integration(self, account_id: str, provider: str) -> None:
        """:class:`NotFound` when there is none, :class:`IntegrationInUse` while the account has numbers of it."""
        await self.integration(account_id, provider)
        if count := self._count(account_id, provider, None):
            raise IntegrationInUse(provider, count)
        del self._integrations[account_id, provider]

    # carriers' connections

    async def save_connection(self, connection: Connection) -> None:
        """Inserts or replaces, the first ``created_at`` stays; its numbers move to its trunk."""
        self._check_connection(connection)
        key = (connection.account_id, connection.provider, connection.id)
        old = self._connections.get(key, connection)
        self._connections[key] = replace(connection, created_at=old.created_at)
        for id, row in self._numbers.items():
            if (row.account_id, row.provider, row.provider_connection_id) == key:
                self._numbers[id] = replace(row, trunk=connection.trunk)

    def _check_connection(self, connection: Connection) -> None:
        _found(self._accounts.get(connection.account_id), "account", connection.account_id)
        key = (connection.account_id, connection.provider, connection.id)
        for other, row in self._connections.items():
            if other != key and connection.host is not None and row.host == connection.host:
                raise Conflict(f"the host {connection.host} is another connection's")

    async def connection(self, account_id: str, provider: str, id: str) -> Connection:
        """With its secrets."""
        return _found(self._connections.get((account_id, provider, id)), "connection", id)

    async def connections(self, provider: str, account_id: str | None = None) -> list[Connection]:
        """An account's, or everybody's; oldest first."""
        found = (row for row in self._connections.values() if row.provider == provider)
        mine = (row for row in found if account_id in (None, row.account_id))
        return sorted(mine, key=lambda row: (row.created_at, row.account_id, row.id))

    # outgoing calls

    async def dialling_rules(self, account_id: str) -> DiallingRules:
        """An account's; those of one that has none say nothing. :class:`NotFound` for an unknown account."""
        _found(self._accounts.get(account_id), "account", account_id)
        return self._rules.get(account_id, DiallingRules(account_id))

    async def save_dialling_rules(self, rules: DiallingRules) -> None:
        """In place of those before. :class:`NotFound` for an unknown account."""
        _found(self._accounts.get(rules.account_id), "account", rules.account_id)
        self._rules[rules.account_id] = rules

    async def outbound_seconds(self, account_id: str, since: float) -> float:
        """How long the account's outgoing calls that have ended since then lasted, in all [s]."""
        return sum(
            call.duration_s or 0.0
            for call in self._calls.values()
            if call.account_id == account_id and call.direction == "outbound" and (call.ended_at or 0.0) >= since
        )

    async def place_once(self, placed: PlacedCall, forget_before: float) -> PlacedCall:
        """``placed``, or what its key was used for before; keys older than ``forget_before`` are free again."""
        for key, old in list(self._placed.items()):
            if old.at < forget_before:
                del self._placed[key]
        return self._placed.setdefault((placed.account_id, placed.key), placed)

    async def forget_placed(self, account_id: str, key: str) -> None:
        """The key is free again: its call was not placed."""
        self._placed.pop((account_id, key), None)

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

    async def calls_being_recorded(self) -> list[str]:
        """Everybody's, by their records."""
        return sorted(call.id for call in self._calls.values() if call.recording.get("status") == "recording")

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
