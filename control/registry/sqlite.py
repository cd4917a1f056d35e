"""The embedded registry: one SQLite file in WAL mode.

Hot reads (:meth:`SqliteRegistry.route`, :meth:`SqliteRegistry.key_by_digest`, and what a webhook asks) run as prepared
SQL on the event loop's own connection: some 10 µs, and in WAL mode no writer holds them up. Pages and lists run on a
reader thread, writes in order on one writer thread, each write one transaction. Nothing is cached here, so what
another process commits is seen by the next read.

Durability: ``synchronous=NORMAL``. A killed process loses nothing that was committed; a power cut may take the
last transactions, but never the file's integrity.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from control.registry import rows
from control.registry.connection import (
    claim,
    connect,
    make,
    one_at_a_time,
    snapshot,
    transaction,
    translated,
    translation,
)
from control.registry.records import check
from control.registry.sealed import AGENT, BY_REFERENCE, Sealed
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
    RegistryBusy,
    RegistryUnusable,
    Removal,
    Route,
)
from control.vault import Vault

__all__ = ["MIGRATIONS", "SqliteRegistry"]

_T = TypeVar("_T")
_Work = Callable[[sqlite3.Connection], _T]
_Opened = tuple[sqlite3.Connection, sqlite3.Connection, sqlite3.Connection, int | None]

MIGRATIONS: Final = 12
"""Of :mod:`control.registry.schema`, which is loaded only for a file that has not had all of them, or has had more."""

_NUMBER_WIDTH: Final = len(fields(Number))
_KEY_WIDTH: Final = len(fields(ApiKey))
_ROUTE: Final = (
    f"SELECT {', '.join('n.' + name for name in rows.NUMBER.split(', '))},"  # noqa: S608
    f" {', '.join('a.' + name for name in AGENT.split(', '))}"
    " FROM numbers n LEFT JOIN agents a ON a.id = n.agent_id WHERE n.phone_number = ?"
    " AND ? IN (n.trunk, n.provider || ':' || n.provider_connection_id)"
)
_BY_PHONE: Final = f"SELECT {rows.NUMBER} FROM numbers WHERE phone_number = ?"  # noqa: S608
_NUMBERS_ON: Final = (
    "SELECT count(*) FROM numbers WHERE account_id = ? AND provider = ?"
    " AND provider_connection_id IS ifnull(?, provider_connection_id)"
)
_BY_DIGEST: Final = f"SELECT {rows.KEY}, digest FROM keys WHERE digest = ?"  # noqa: S608


def _bring_up_to_date(connection: sqlite3.Connection) -> None:
    kept = connection.execute("SELECT 1 FROM sqlite_master WHERE name = '_sqlite_migrations'").fetchone()
    if kept and connection.execute("SELECT count(*) FROM _sqlite_migrations").fetchone() == (MIGRATIONS,):
        return
    from control.registry.schema import migrate  # noqa: PLC0415

    migrate(connection)


class SqliteRegistry:
    """Implements :class:`control.registry.types.Registry`."""

    def __init__(self, path: Path, vault: Vault | None, opened: _Opened) -> None:
        """Use :meth:`open`."""
        self._path = path
        self._sealed = Sealed(vault)
        self._hot, self._reading, self._writing, self._lock = opened
        self._closed = False
        self._reader = ThreadPoolExecutor(1, "registry-reader")
        self._writer = ThreadPoolExecutor(1, "registry-writer")

    @classmethod
    def open(cls, path: Path, vault: Vault | None = None, *, serve: bool = False) -> SqliteRegistry:
        """Open or make the file, and bring its tables up to date. May wait for another process, 5 s at most.

        ``vault`` seals integrations; without one they cannot be saved or read (:class:`SecretsUnavailable`).
        ``serve`` claims the file for this process: :class:`RegistryLocked` when another one has. Opening it beside
        a serving process, as the command line does, needs no claim.
        """
        make(path)
        with ExitStack() as undo, translated(path):
            lock = claim(path) if serve else None
            if lock is not None:
                undo.callback(os.close, lock)
            with one_at_a_time(path), closing(connect(path)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
                _bring_up_to_date(connection)
            hot, reading, writing = (undo.enter_context(closing(connect(path, timeout_s=s))) for s in (0.0, None, None))
            undo.pop_all()
            return cls(path, vault, (hot, reading, writing, lock))

    async def close(self) -> None:
        """Finish the writes under way, then let go of the file. A second time does nothing."""
        if self._closed:
            return
        self._closed = True
        loop = asyncio.get_running_loop()
        for executor, connection in ((self._reader, self._reading), (self._writer, self._writing)):
            await loop.run_in_executor(executor, connection.close)
            executor.shutdown(wait=True)
        self._hot.close()
        if self._lock is not None:
            os.close(self._lock)

    # accounts and keys

    async def create_account(self, account: Account) -> None:
        """:class:`Conflict` when the name is taken."""
        sql = rows.insert("accounts", rows.ACCOUNT)
        try:
            await self._write(lambda connection: connection.execute(sql, rows.values(account)))
        except Conflict as error:
            raise Conflict(f"an account named {account.name!r} exists") from error

    async def account(self, account_id: str) -> Account:
        """One account."""
        return await self._read(partial(rows.account, account_id=account_id))

    async def account_by_name(self, name: str) -> Account | None:
        """None when there is none of that name."""
        found = await self._select(f"SELECT {rows.ACCOUNT} FROM accounts WHERE name = ?", (name,))  # noqa: S608
        return Account(*found[0]) if found else None

    async def accounts(self) -> list[Account]:
        """All of them, newest first."""
        found = await self._select(f"SELECT {rows.ACCOUNT} FROM accounts ORDER BY created_at DESC, id")  # noqa: S608
        return [Account(*row) for row in found]

    async def create_key(self, key: ApiKey, digest: bytes) -> None:
        """:class:`NotFound` for an unknown account."""

        def work(connection: sqlite3.Connection) -> None:
            rows.account(connection, key.account_id)
            connection.execute(rows.insert("keys", f"{rows.KEY}, digest"), (*rows.values(key), digest))

        await self._write(work)

    async def key_by_digest(self, digest: bytes) -> ApiKey | None:
        """The row, revoked or not; None for an unknown key. Runs on the loop."""
        for row in await self._at_once(_BY_DIGEST, (digest,)):
            if hmac.compare_digest(row[_KEY_WIDTH], digest):
                return ApiKey(*row[:_KEY_WIDTH])
        return None

    async def keys(self, account_id: str | None = None) -> list[ApiKey]:
        """An account's, or everybody's; newest first."""
        sql = f"SELECT {rows.KEY} FROM keys WHERE account_id = ifnull(?, account_id) ORDER BY created_at DESC, id"  # noqa: S608
        return [ApiKey(*row) for row in await self._select(sql, (account_id,))]

    async def revoke_key(self, key_id: str, at: float) -> None:
        """The first revocation's time stays."""

        def work(connection: sqlite3.Connection) -> None:
            sql = "UPDATE keys SET revoked_at = ifnull(revoked_at, ?) WHERE id = ?"
            if connection.execute(sql, (at, key_id)).rowcount == 0:
                raise NotFound("key", key_id)

        await self._write(work)

    # agents

    async def create_agent(self, agent: Agent) -> None:
        """:class:`NotFound` for an unknown account."""

        def work(connection: sqlite3.Connection) -> None:
            rows.account(connection, agent.account_id)
            connection.execute(rows.insert("agents", AGENT), self._sealed.agent_values(agent))

        await self._write(work)

    async def agent(self, account_id: str, agent_id: str) -> Agent:
        """One of the account's agents."""
        return await self._read(partial(self._sealed.agent, account_id=account_id, agent_id=agent_id))

    async def agents(self, account_id: str, page: Page) -> tuple[list[Agent], int]:
        """A page, and how many there are in all."""
        found, total = await self._page("agents", AGENT, "created_at", page, {"account_id": account_id})
        return [self._sealed.to_agent(row) for row in found], total

    async def update_agent(self, agent: Agent) -> None:
        """Its name, pipeline, options, secrets and ``updated_at``; who owns it and when it was made stay."""
        await self._write(partial(self._sealed.update_agent, agent=agent))

    async def delete_agent(self, account_id: str, agent_id: str) -> None:
        """:class:`AgentInUse` while numbers point to it."""

        def work(connection: sqlite3.Connection) -> None:
            rows.agent(connection, account_id, agent_id)
            (count,) = connection.execute("SELECT count(*) FROM numbers WHERE agent_id = ?", (agent_id,)).fetchone()
            if count:
                raise AgentInUse(agent_id, count)
            connection.execute("DELETE FROM agents WHERE id = ?", (agent_id,))

        await self._write(work)

    # numbers

    async def create_number(self, number: Number, carrier: CarrierImport | None = None) -> Removal | None:
        """The number that ``carrier`` replaced, if it did.

        :class:`PhoneNumberTaken`, or :class:`NotFound` for an account, an agent that is not its, or an integration.
        """

        def work(connection: sqlite3.Connection) -> Removal | None:
            rows.account(connection, number.account_id)
            if number.agent_id is not None:
                rows.agent(connection, number.account_id, number.agent_id)
            replaced = None
            if carrier is not None:
                self._carry(connection, number, carrier)
                replaced = _make_room(connection, number.phone_number, carrier.replaces)
            connection.execute(rows.insert("numbers", rows.NUMBER), rows.number_values(number))
            return rows.drop_bare_connection(connection, replaced) if replaced is not None else None

        try:
            return await self._write(work)
        except Conflict as error:
            if "numbers.phone_number" in str(error):
                raise PhoneNumberTaken(number.phone_number) from error
            raise

    async def refresh_number(self, account_id: str, number_id: str, carrier: CarrierImport) -> Number:
        """What ``carrier`` says, but for ``replaces``; the number as it is then. :class:`NotFound` as on creation."""

        def work(connection: sqlite3.Connection) -> Number:
            self._carry(connection, rows.number(connection, account_id, number_id), carrier)
            return rows.number(connection, account_id, number_id)

        return await self._write(work)

    def _carry(self, connection: sqlite3.Connection, number: Number, carrier: CarrierImport) -> None:
        self._sealed.add_secrets(connection, number.account_id, number.provider, carrier.secrets)
        if carrier.connection is not None:
            self._sealed.save_connection(connection, carrier.connection)

    async def number(self, account_id: str, number_id: str) -> Number:
        """One of the account's numbers."""
        return await self._read(partial(rows.number, account_id=account_id, number_id=number_id))

    async def numbers(
        self, account_id: str | None, page: Page, phone_number: str | None = None
    ) -> tuple[list[Number], int]:
        """A page of an account's numbers (None: of everybody's), or the one asked for, and how many match in all."""
        where = {"account_id": account_id, "phone_number": phone_number}
        found, total = await self._page("numbers", rows.NUMBER, "created_at", page, where)
        return [rows.to_number(row) for row in found], total

    async def change_number(self, account_id: str, number_id: str, changes: Mapping[str, Any], at: float) -> Number:
        """Its ``agent_id`` (None unassigns), ``options``, ``parameters`` and ``fallback``, whichever is given.

        :class:`NotFound` for a number or an agent of another account.
        """

        def work(connection: sqlite3.Connection) -> Number:
            number = replace(rows.number(connection, account_id, number_id), **changes, updated_at=at)
            if number.agent_id is not None:
                rows.agent(connection, account_id, number.agent_id)
            *_, parameters, fallback = rows.number_values(number)
            columns = "agent_id = ?, options = ?, parameters = ?, fallback = ?, updated_at = ?"
            connection.execute(
                f"UPDATE numbers SET {columns} WHERE id = ?",  # noqa: S608
                (number.agent_id, number.options, parameters, fallback, at, number_id),
            )
            return number

        return await self._write(work)

    async def delete_number(self, account_id: str, number_id: str) -> Removal:
        """With its connection, if it was the last one there; its calls' records stay."""

        def work(connection: sqlite3.Connection) -> Removal:
            number = rows.number(connection, account_id, number_id)
            rows.remove_number(connection, number)
            return rows.drop_bare_connection(connection, number)

        return await self._write(work)

    async def number_by_phone(self, phone_number: str) -> Number | None:
        """Whoever has it. Runs on the loop."""
        for row in await self._at_once(_BY_PHONE, (phone_number,)):
            return rows.to_number(row)
        return None

    async def numbers_on(self, account_id: str, provider: str, connection_id: str | None = None) -> int:
        """How many of the account's numbers are from that provider, or on that connection of it."""
        return int((await self._select(_NUMBERS_ON, (account_id, provider, connection_id)))[0][0])

    async def route(self, trunk: str, phone_number: str) -> Route | None:
        """Who answers this number on this trunk; None when it is not on the trunk. Runs on the loop.

        A connection's own trunk (``telnyx:ID``) finds its numbers wherever else they are looked up.
        """
        found = await self._at_once(_ROUTE, (phone_number, trunk))
        if not found:
            return None
        row = found[0]
        agent = self._sealed.to_agent(row[_NUMBER_WIDTH:]) if row[_NUMBER_WIDTH] is not None else None
        return Route(rows.to_number(row[:_NUMBER_WIDTH]), agent)

    # integrations

    async def save_integration(self, integration: Integration) -> None:
        """Inserts or replaces; the first ``created_at`` stays."""
        await self._write(partial(self._sealed.save_integration, integration=integration))

    async def integration(self, account_id: str, provider: str) -> Integration:
        """With its secrets."""
        return await self._read(partial(self._sealed.integration, account_id=account_id, provider=provider))

    async def integrations_by(self, provider: str, key: str, value: str) -> list[Integration]:
        """Everybody's that :meth:`Integration.references` has this of. Runs on the loop."""
        found = await self._at_once(BY_REFERENCE, (provider, key, value))
        return [self._sealed.to_integration(row) for row in found]

    async def delete_integration(self, account_id: str, provider: str) -> None:
        """:class:`NotFound` when there is none, :class:`IntegrationInUse` while the account has numbers of it."""

        def work(connection: sqlite3.Connection) -> None:
            sql = "DELETE FROM integrations WHERE account_id = ? AND provider = ?"
            if connection.execute(sql, (account_id, provider)).rowcount == 0:
                raise NotFound("integration", provider)
            (count,) = connection.execute(_NUMBERS_ON, (account_id, provider, None)).fetchone()
            if count:
                raise IntegrationInUse(provider, count)
            references = "DELETE FROM integration_references WHERE account_id = ? AND provider = ?"
            connection.execute(references, (account_id, provider))

        await self._write(work)

    async def reseal(self) -> int:
        """Seal anew what a previous key had sealed; how many rows. Afterwards that key can be dropped."""
        return await self._write(self._sealed.reseal)

    # carriers' connections

    async def save_connection(self, connection: Connection) -> None:
        """Inserts or replaces, the first ``created_at`` stays; its numbers move to its trunk."""
        await self._write(partial(self._sealed.save_connection, connection=connection))

    async def connection(self, account_id: str, provider: str, id: str) -> Connection:
        """With its secrets."""
        return await self._read(partial(self._sealed.connection, account_id=account_id, provider=provider, id=id))

    async def connections(self, provider: str, account_id: str | None = None) -> list[Connection]:
        """An account's, or everybody's; oldest first."""
        sql = (
            f"SELECT {rows.CONNECTION} FROM connections WHERE provider = ?"  # noqa: S608
            " AND account_id = ifnull(?, account_id) ORDER BY created_at, account_id, id"
        )
        return [self._sealed.to_connection(row) for row in await self._select(sql, (provider, account_id))]

    # outgoing calls

    async def dialling_rules(self, account_id: str) -> DiallingRules:
        """An account's; those of one that has none say nothing. :class:`NotFound` for an unknown account."""

        def work(connection: sqlite3.Connection) -> DiallingRules:
            rows.account(connection, account_id)
            sql = "SELECT calls, calls_per_minute, minutes_per_day, countries FROM dialling_rules WHERE account_id = ?"
            for calls, a_minute, minutes, countries in connection.execute(sql, (account_id,)).fetchall():
                listed = None if countries is None else tuple(rows.decode(countries))
                return DiallingRules(account_id, calls, a_minute, minutes, listed)
            return DiallingRules(account_id)

        return await self._read(work)

    async def save_dialling_rules(self, rules: DiallingRules) -> None:
        """In place of those before. :class:`NotFound` for an unknown account."""
        countries = None if rules.countries is None else rows.encode(list(rules.countries))
        values = (rules.account_id, rules.calls, rules.calls_per_minute, rules.minutes_per_day, countries)

        def work(connection: sqlite3.Connection) -> None:
            rows.account(connection, rules.account_id)
            columns = "account_id, calls, calls_per_minute, minutes_per_day, countries"
            connection.execute(rows.insert("dialling_rules", columns).replace("INSERT", "INSERT OR REPLACE", 1), values)

        await self._write(work)

    async def outbound_seconds(self, account_id: str, since: float) -> float:
        """How long the account's outgoing calls that have ended since then lasted, in all [s]."""
        sql = (
            "SELECT ifnull(sum(duration_s), 0.0) FROM calls"
            " WHERE account_id = ? AND direction = 'outbound' AND ended_at >= ?"
        )
        return float((await self._select(sql, (account_id, since)))[0][0])

    async def place_once(self, placed: PlacedCall, forget_before: float) -> PlacedCall:
        """``placed``, or what its key was used for before; keys older than ``forget_before`` are free again."""
        columns = "account_id, key, fingerprint, call_id, at"

        def work(connection: sqlite3.Connection) -> PlacedCall:
            connection.execute("DELETE FROM placed_calls WHERE at < ?", (forget_before,))
            found = connection.execute(
                f"SELECT {columns} FROM placed_calls WHERE account_id = ? AND key = ?",  # noqa: S608
                (placed.account_id, placed.key),
            ).fetchall()
            if found:
                return PlacedCall(*found[0])
            connection.execute(rows.insert("placed_calls", columns), rows.values(placed))
            return placed

        return await self._write(work)

    async def forget_placed(self, account_id: str, key: str) -> None:
        """The key is free again: its call was not placed."""
        sql = "DELETE FROM placed_calls WHERE account_id = ? AND key = ?"
        await self._write(lambda connection: connection.execute(sql, (account_id, key)))

    # calls

    async def apply_events(self, events: Sequence[CallEvent], position: JournalPosition | None = None) -> int:
        """ValueError for an event that no record can be made of, and then nothing is applied."""
        for event in events:
            check(event)
        try:
            return await self._write(partial(rows.apply_events, events=events, position=position))
        except Conflict as error:
            raise ValueError(str(error)) from error

    async def journal_position(self) -> JournalPosition | None:
        """None before the first batch."""
        name, offset = (await self._select("SELECT name, offset FROM journal"))[0]
        return JournalPosition(name, offset) if name else None

    async def call(self, account_id: str, call_id: str) -> Call:
        """One record, with its timeline."""

        def work(connection: sqlite3.Connection) -> Call:
            call = rows.call(connection, call_id)
            if call is None or call.account_id != account_id:
                raise NotFound("call", call_id)
            return rows.with_timelines(connection, [call])[0]

        return await self._read(work)

    async def calls_being_recorded(self) -> list[str]:
        """Everybody's, by their records, which may know less than whoever records."""
        sql = """SELECT id FROM calls WHERE instr(recording, '"status":"recording"') > 0 ORDER BY id"""
        return [id for (id,) in await self._select(sql)]

    async def calls(self, account_id: str, page: Page, filter: CallFilter) -> tuple[list[Call], int]:
        """A page of records with their timelines, and how many match in all."""
        where = {"account_id": account_id, "status": filter.status, "number_id": filter.number_id}
        found, total = await self._page("calls", rows.CALL, "started_at", page, where)
        calls = [rows.to_call(row) for row in found]
        return await self._read(partial(rows.with_timelines, calls=calls)), total

    # how work gets done

    async def _at_once(self, sql: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """On the loop; on the reader thread when, of all things, a reader has to wait."""
        try:
            return self._hot.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            if not isinstance(problem := translation(error, self._path), RegistryBusy):
                raise problem from error
        return await self._select(sql, parameters)

    async def _select(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        return await self._read(lambda connection: connection.execute(sql, parameters).fetchall())

    async def _page(
        self, table: str, columns: str, order: str, page: Page, where: dict[str, str | None]
    ) -> tuple[list[tuple[Any, ...]], int]:
        """Newest first. Column names are ours; only the values of ``where`` (None: any) are others'."""
        present = {column: value for column, value in where.items() if value is not None}
        condition = " AND ".join(f"{column} = ?" for column in present) or "true"
        rows_sql = f"SELECT {columns} FROM {table} WHERE {condition} ORDER BY {order} DESC, id LIMIT ? OFFSET ?"  # noqa: S608
        count_sql = f"SELECT count(*) FROM {table} WHERE {condition}"  # noqa: S608
        values = tuple(present.values())

        def work(connection: sqlite3.Connection) -> tuple[list[tuple[Any, ...]], int]:
            found = connection.execute(rows_sql, (*values, page.limit, page.offset)).fetchall()
            return found, connection.execute(count_sql, values).fetchone()[0]

        return await self._read(work)

    async def _read(self, work: _Work[_T]) -> _T:
        return await self._on(self._reader, partial(snapshot, self._reading, work, self._path))

    async def _write(self, work: _Work[_T]) -> _T:
        return await self._on(self._writer, partial(transaction, self._writing, work, self._path))

    async def _on(self, executor: ThreadPoolExecutor, work: Callable[[], _T]) -> _T:
        try:
            future = executor.submit(work)
        except RuntimeError as error:
            raise RegistryUnusable("closed") from error
        return await asyncio.wrap_future(future)


def _make_room(connection: sqlite3.Connection, phone_number: str, id: str | None) -> Number | None:
    """Remove the number called ``id``, if it has that phone number."""
    for row in connection.execute(_BY_PHONE, (phone_number,)).fetchall():
        if (found := rows.to_number(row)).id == id:
            rows.remove_number(connection, found)
            return found
    return None
