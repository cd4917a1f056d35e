"""Rows to values and back, and how events become rows. Plain functions on a connection, inside its transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, Final

import msgspec

from control.registry.records import crash, crash_entry, fold, timeline_entry
from control.registry.types import (
    Account,
    Agent,
    ApiKey,
    Call,
    CallEvent,
    Connection,
    JournalPosition,
    NotFound,
    Number,
    Removal,
)

__all__ = [
    "ACCOUNT",
    "AGENT",
    "CALL",
    "CONNECTION",
    "INTEGRATION",
    "KEY",
    "NUMBER",
    "account",
    "agent",
    "agent_values",
    "apply_events",
    "call",
    "decode",
    "drop_bare_connection",
    "encode",
    "insert",
    "number",
    "number_values",
    "remove_number",
    "to_agent",
    "to_call",
    "to_number",
    "values",
    "with_timelines",
]

_JSON_ENCODER: Final = msgspec.json.Encoder()
decode: Final = msgspec.json.Decoder().decode


def encode(value: Any) -> str:
    """JSON text."""
    return _JSON_ENCODER.encode(value).decode()


def _columns(row: type, *without: str) -> str:
    return ", ".join(field.name for field in fields(row) if field.name not in without)


def insert(table: str, columns: str) -> str:
    """An INSERT with a place for each column."""
    return f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' * len(columns.split(', ')))})"  # noqa: S608


ACCOUNT: Final = _columns(Account)
KEY: Final = _columns(ApiKey)
AGENT: Final = _columns(Agent, "secrets")
NUMBER: Final = _columns(Number)
CALL: Final = _columns(Call, "timeline")
CONNECTION: Final = _columns(Connection, "secrets") + ", sealed"
INTEGRATION: Final = "account_id, provider, public, sealed, created_at, updated_at"

_PLAIN: Final = CALL.split(", ")[:-5]
_KEPT: Final = frozenset(("id", "account_id", "started_at"))
"""A record has them from its beginning, and indexes are made of them."""

_SAVE_CALL: Final = f"{insert('calls', CALL)} ON CONFLICT (id) DO UPDATE SET " + ", ".join(
    f"{name} = excluded.{name}" for name in CALL.split(", ") if name not in _KEPT
)
_CALLS: Final = f"SELECT {CALL} FROM calls WHERE id IN (SELECT value FROM json_each(?))"  # noqa: S608
_NOTE: Final = insert("call_events", "id, call_id, offset_s, event")
_NOTED: Final = "SELECT id FROM call_events WHERE id IN (SELECT value FROM json_each(?))"


def values(row: Any) -> tuple[Any, ...]:
    """A dataclass's fields, in the order of its columns."""
    return tuple(getattr(row, field.name) for field in fields(row))


def agent_values(agent: Agent) -> tuple[Any, ...]:
    """As the columns of ``AGENT``; secrets are :mod:`control.registry.sealed`'s."""
    pipeline = encode(agent.pipeline)
    return agent.id, agent.account_id, agent.name, pipeline, agent.created_at, agent.updated_at, agent.options


def to_agent(row: tuple[Any, ...]) -> Agent:
    """From the columns of ``AGENT``."""
    id, account_id, name, pipeline, created_at, updated_at, options = row
    return Agent(id, account_id, name, decode(pipeline), created_at, updated_at, options=options)


def number_values(number: Number) -> tuple[Any, ...]:
    """As the columns of ``NUMBER``."""
    fallback = None if number.fallback is None else encode(number.fallback)
    return (*values(number)[:-2], encode(number.parameters), fallback)


def to_number(row: Sequence[Any]) -> Number:
    """From the columns of ``NUMBER``."""
    number, parameters, fallback = Number(*row[:-2]), row[-2], row[-1]
    if parameters == "{}" and fallback is None:
        return number
    return replace(number, parameters=decode(parameters), fallback=decode(fallback or "null"))


def to_call(row: tuple[Any, ...]) -> Call:
    """From the columns of ``CALL``; the timeline is not among them."""
    *plain, statistics, carrier_ids, recording, identity, reasons = row
    json = {"statistics": statistics, "carrier_ids": carrier_ids, "recording": recording, "identity": identity}
    decoded = {name: decode(text) for name, text in json.items()}
    return replace(Call(*plain), reasons=tuple(decode(reasons)), **decoded)


def account(connection: sqlite3.Connection, account_id: str) -> Account:
    """One account, or :class:`NotFound`."""
    sql = f"SELECT {ACCOUNT} FROM accounts WHERE id = ?"  # noqa: S608
    for row in connection.execute(sql, (account_id,)).fetchall():
        return Account(*row)
    raise NotFound("account", account_id)


def agent(connection: sqlite3.Connection, account_id: str, agent_id: str) -> Agent:
    """One of the account's agents, or :class:`NotFound`."""
    sql = f"SELECT {AGENT} FROM agents WHERE id = ? AND account_id = ?"  # noqa: S608
    for row in connection.execute(sql, (agent_id, account_id)).fetchall():
        return to_agent(row)
    raise NotFound("agent", agent_id)


def number(connection: sqlite3.Connection, account_id: str, number_id: str) -> Number:
    """One of the account's numbers, or :class:`NotFound`."""
    sql = f"SELECT {NUMBER} FROM numbers WHERE id = ? AND account_id = ?"  # noqa: S608
    for row in connection.execute(sql, (number_id, account_id)).fetchall():
        return to_number(row)
    raise NotFound("number", number_id)


def remove_number(connection: sqlite3.Connection, number: Number) -> None:
    """The row alone."""
    connection.execute("DELETE FROM numbers WHERE id = ?", (number.id,))


def drop_bare_connection(connection: sqlite3.Connection, gone: Number) -> Removal:
    """After ``gone`` went: its connection goes too, if it was the account's last number there."""
    key = (gone.account_id, gone.provider, gone.provider_connection_id)
    same = "account_id = ? AND provider = ?"
    dropped = connection.execute(
        f"DELETE FROM connections WHERE {same} AND id = ? AND NOT EXISTS"  # noqa: S608
        f" (SELECT 1 FROM numbers WHERE {same} AND provider_connection_id = ?)",
        (*key, *key),
    ).rowcount
    others = connection.execute("SELECT 1 FROM connections WHERE provider = ? AND id = ?", key[1:]).fetchall()
    return Removal(gone, gone.provider_connection_id if dropped and not others else None)


def call(connection: sqlite3.Connection, call_id: str) -> Call | None:
    """One record, without its timeline."""
    sql = f"SELECT {CALL} FROM calls WHERE id = ?"  # noqa: S608
    for row in connection.execute(sql, (call_id,)).fetchall():
        return to_call(row)
    return None


def with_timelines(connection: sqlite3.Connection, calls: list[Call]) -> list[Call]:
    """The same records, with their timelines in the order of the journal."""
    sql = (
        "SELECT call_id, offset_s, event FROM call_events"
        " WHERE call_id IN (SELECT value FROM json_each(?)) ORDER BY rowid"
    )
    lines: dict[str, list[tuple[float, str]]] = {call.id: [] for call in calls}
    for call_id, offset_s, event in connection.execute(sql, (encode(list(lines)),)):
        lines[call_id].append((offset_s, event))
    return [replace(call, timeline=tuple(lines[call.id])) for call in calls]


class _Batch:
    """Events on their way into a transaction. What it needs is read at once and written at once, however many they are.

    ``alive_at`` is when the process that wrote them was last heard of.
    """

    def __init__(self, connection: sqlite3.Connection, events: Sequence[CallEvent], alive_at: float) -> None:
        self.alive_at = alive_at
        self._connection = connection
        self._seen = {id for (id,) in connection.execute(_NOTED, (encode([event.id for event in events]),))}
        calls = encode(list({event.call_id for event in events}))
        self._records = {row[0]: to_call(row) for row in connection.execute(_CALLS, (calls,))}
        self._changed: dict[str, Call] = {}
        self._notes: list[tuple[str, str, float, str]] = []

    def take(self, event: CallEvent) -> bool:
        """Whether it was new, and something to be kept."""
        if event.kind == "alive":
            self.alive_at = event.at
            return False
        if event.id in self._seen or not self._apply(event):
            return False
        self._seen.add(event.id)
        self.alive_at = event.at
        return True

    def write(self) -> None:
        """All that has changed. Next: the transaction's end."""
        self._connection.executemany(_NOTE, self._notes)
        self._connection.executemany(_SAVE_CALL, [_call_values(record) for record in self._changed.values()])
        self._notes.clear()
        self._changed.clear()

    def _apply(self, event: CallEvent) -> bool:
        if event.kind == "opened":
            self._note(event.id, "", timeline_entry(event))
            self._close_orphans(event.id)
            return True
        before = self._records.get(event.call_id)
        after = fold(before, event)
        if after is None:
            return False
        if after is not before:
            self._change(after)
        self._note(event.id, after.id, timeline_entry(event))
        return True

    def _close_orphans(self, event_id: str) -> None:
        self.write()
        for row in self._connection.execute(f"SELECT {CALL} FROM calls WHERE ended_at IS NULL").fetchall():  # noqa: S608
            call = crash(to_call(row), self.alive_at)
            self._change(call)
            self._note(f"{event_id}/{call.id}", call.id, crash_entry(call))

    def _change(self, record: Call) -> None:
        self._records[record.id] = self._changed[record.id] = record

    def _note(self, id: str, call_id: str, entry: tuple[float, str]) -> None:
        self._notes.append((id, call_id, *entry))


def apply_events(connection: sqlite3.Connection, events: Sequence[CallEvent], position: JournalPosition | None) -> int:
    """Each event once; how many were new."""
    (alive_at,) = connection.execute("SELECT alive_at FROM journal").fetchone()
    batch = _Batch(connection, events, alive_at)
    count = sum([batch.take(event) for event in events])
    batch.write()
    connection.execute("UPDATE journal SET alive_at = ?", (batch.alive_at,))
    if position is not None:
        connection.execute("UPDATE journal SET name = ?, offset = ?", (position.journal, position.offset))
    return count


def _call_values(record: Call) -> tuple[Any, ...]:
    """As the columns of ``CALL``."""
    documents = (record.statistics, record.carrier_ids, record.recording, record.identity, record.reasons)
    return (*(getattr(record, name) for name in _PLAIN), *map(encode, documents))
