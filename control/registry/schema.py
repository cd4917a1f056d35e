"""The SQLite registry's tables, as named migrations.

A migration is never changed once released: add another. Each runs in a savepoint, together with the note that it
ran, and all of them in one transaction: an upgrade happens whole or not at all, once, whoever comes first.
"""

from __future__ import annotations

import sqlite3
from typing import cast

from sqlite_utils import Database, Migrations
from sqlite_utils.db import Table

from control.registry.types import RegistryUnusable

__all__ = ["migrate", "migrations"]

migrations = Migrations("truedy-edge")


def migrate(connection: sqlite3.Connection) -> list[str]:
    """Bring the tables up to date; the names of the migrations that ran. A newer file is refused, unharmed."""
    database = Database(connection)
    connection.execute("BEGIN IMMEDIATE")
    try:
        _refuse_newer(database)
        pending = [migration.name for migration in migrations.pending(database)]
        migrations.apply(database)
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    return pending


@migrations()
def accounts_and_keys(db: Database) -> None:
    """Who may use the API. Of a key there is only its SHA-256."""
    _table(db, "accounts").create(
        {"id": str, "name": str, "created_at": float}, pk="id", not_null={"name", "created_at"}, strict=True
    ).create_index(["name"], unique=True)
    keys = {"id": str, "account_id": str, "role": str, "hint": str, "created_at": float, "revoked_at": float}
    _table(db, "keys").create(
        keys | {"digest": bytes},
        pk="id",
        not_null={"account_id", "role", "hint", "created_at", "digest"},
        foreign_keys=[("account_id", "accounts", "id")],
        strict=True,
    ).create_index(["digest"], unique=True)


@migrations()
def agents_and_numbers(db: Database) -> None:
    """Who answers what. A phone number stands once in the whole registry."""
    agents = {"id": str, "account_id": str, "name": str, "pipeline": str, "created_at": float, "updated_at": float}
    _table(db, "agents").create(
        agents, pk="id", not_null=set(agents) - {"id"}, foreign_keys=[("account_id", "accounts", "id")], strict=True
    ).create_index(["account_id", "created_at"])
    required = {"account_id": str, "phone_number": str, "raw": str, "provider": str, "trunk": str, "status": str}
    optional = ("agent_id", "provider_account_sid", "provider_connection_id", "provider_trunk")
    numbers = _table(db, "numbers").create(
        {"id": str} | required | {"created_at": float, "updated_at": float} | dict.fromkeys(optional, str),
        pk="id",
        not_null={*required, "created_at", "updated_at"},
        foreign_keys=[("account_id", "accounts", "id"), ("agent_id", "agents", "id")],
        strict=True,
    )
    numbers.create_index(["phone_number"], unique=True)
    numbers.create_index(["account_id", "created_at"])
    numbers.create_index(["agent_id"])


@migrations()
def integrations(db: Database) -> None:
    """Carriers' credentials: what may be shown, and what is sealed."""
    _table(db, "integrations").create(
        {
            "account_id": str,
            "provider": str,
            "public": str,
            "sealed": bytes,
            "created_at": float,
            "updated_at": float,
        },
        pk=("account_id", "provider"),
        not_null={"public", "sealed", "created_at", "updated_at"},
        foreign_keys=[("account_id", "accounts", "id")],
        strict=True,
    )


@migrations()
def calls_and_their_events(db: Database) -> None:
    """Records. They refer to rows that may be gone by then, so no foreign key may refuse one."""
    required = ("account_id", "direction", "trunk", "from_number", "to_number", "status")
    texts = ("number_id", "agent_id", "ended_by", "end_reason", "sip_call_id")
    figures = ("answered_at", "ended_at", "ring_s", "duration_s")
    calls = _table(db, "calls").create(
        {"id": str, "started_at": float, "sip_status": int, "statistics": str}
        | dict.fromkeys((*required, *texts), str)
        | dict.fromkeys(figures, float),
        pk="id",
        not_null={*required, "started_at", "statistics"},
        strict=True,
    )
    calls.create_index(["account_id", "started_at"])
    db.execute("CREATE INDEX calls_open ON calls (id) WHERE ended_at IS NULL")
    _table(db, "call_events").create(
        {"id": str, "call_id": str, "offset_s": float, "event": str},
        pk="id",
        not_null={"call_id", "offset_s", "event"},
        strict=True,
    ).create_index(["call_id"])
    _table(db, "journal").create(
        {"id": int, "name": str, "offset": int, "alive_at": float},
        pk="id",
        not_null={"name", "offset", "alive_at"},
        strict=True,
    ).insert({"id": 1, "name": "", "offset": 0, "alive_at": 0.0})


@migrations()
def connections(db: Database) -> None:
    """What carriers' numbers hang on. Two accounts may share one at the carrier; a host name leads to one alone."""
    texts = ("kind", "name", "trunk")
    table = _table(db, "connections").create(
        {"id": str, "account_id": str, "provider": str}
        | dict.fromkeys((*texts, "user_name", "host", "proxy"), str)
        | {"host_used": int, "created_at": float, "updated_at": float, "sealed": bytes},
        pk=("account_id", "provider", "id"),
        not_null={"id", "account_id", "provider", *texts, "host_used", "created_at", "updated_at", "sealed"},
        foreign_keys=[("account_id", "accounts", "id")],
        strict=True,
    )
    table.create_index(["provider", "id"])
    table.create_index(["host"], unique=True)
    _table(db, "numbers").create_index(["account_id", "provider", "provider_connection_id"])


@migrations()
def what_integrations_are_found_by(db: Database) -> None:
    """A webhook names its carrier's account, not ours."""
    columns = {"account_id": str, "provider": str, "key": str, "value": str}
    _table(db, "integration_references").create(
        columns, pk=("provider", "key", "value", "account_id"), not_null=set(columns), strict=True
    ).create_index(["account_id", "provider"])
    db.execute(
        "INSERT INTO integration_references (account_id, provider, key, value)"
        " SELECT i.account_id, i.provider, e.key, e.value FROM integrations i, json_each(i.public) e"
    )


@migrations()
def connections_with_encrypted_media(db: Database) -> None:
    """A carrier may insist on SRTP; what it said when a number was imported before this is asked again by a verify."""
    _table(db, "connections").add_column("encrypted_media", int, not_null_default=0)


@migrations()
def agents_secrets(db: Database) -> None:
    """What an agent's requests are authenticated with, sealed."""
    _table(db, "agents").add_column("sealed", bytes)


@migrations()
def outgoing_calls(db: Database) -> None:
    """What accounts may dial, and the idempotency keys of the calls they placed."""
    columns = {"account_id": str, "calls": int, "calls_per_minute": int, "minutes_per_day": int, "countries": str}
    _table(db, "dialling_rules").create(
        columns, pk="account_id", foreign_keys=[("account_id", "accounts", "id")], strict=True
    )
    placed = {"account_id": str, "key": str, "fingerprint": str, "call_id": str, "at": float}
    _table(db, "placed_calls").create(placed, pk=("account_id", "key"), not_null=set(placed), strict=True).create_index(
        ["at"]
    )
    db.execute("ALTER TABLE calls ADD COLUMN carrier_ids TEXT NOT NULL DEFAULT '{}'")


@migrations()
def what_is_recorded(db: Database) -> None:
    """What is to be recorded, and what has come of it."""
    for table in ("agents", "numbers"):
        _table(db, table).add_column("options", str, not_null_default="{}")
    _table(db, "calls").add_column("recording", str, not_null_default="{}")
    # JSON's own functions may not stand in a schema that is not trusted.
    db.execute("""CREATE INDEX calls_being_recorded ON calls (id) WHERE instr(recording, '"status":"recording"') > 0""")


@migrations()
def who_called_and_why_it_ended(db: Database) -> None:
    """Beside a call's statistics: what its INVITE said of the caller, and the reasons at its end."""
    _table(db, "calls").add_column("identity", str, not_null_default="{}")
    _table(db, "calls").add_column("reasons", str, not_null_default="[]")


@migrations()
def what_numbers_add(db: Database) -> None:
    """Parameters for the agent, and what to do without one; both JSON."""
    numbers = _table(db, "numbers")
    numbers.add_column("parameters", str, not_null_default="{}")
    numbers.add_column("fallback", str)


def _refuse_newer(database: Database) -> None:
    ours = {migration.name for migration in migrations.pending(Database(memory=True))}
    applied = {migration.name for migration in migrations.applied(database)}
    if unknown := sorted(applied - ours):
        raise RegistryUnusable(f"written by a newer version (it has {', '.join(unknown)})")


def _table(db: Database, name: str) -> Table:
    return cast(Table, db[name])
