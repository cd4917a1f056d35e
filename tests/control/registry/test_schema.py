"""Migrations."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlite_utils import Database

from control.registry.schema import migrate, migrations, what_integrations_are_found_by
from control.registry.sealed import BY_REFERENCE
from control.registry.sqlite import _NUMBERS_ON, _ROUTE, MIGRATIONS
from control.registry.types import RegistryUnusable


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """An empty database in memory."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys=ON")
        yield connection


def tables(connection: sqlite3.Connection) -> set[str]:
    """Ours, without SQLite's own."""
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    return {name for (name,) in names if not name.startswith(("sqlite_", "_"))}


def test_migrations_run_once_in_order(connection: sqlite3.Connection) -> None:
    names = [migration.name for migration in migrations.pending(Database(memory=True))]
    assert len(names) == MIGRATIONS
    assert migrate(connection) == names
    assert migrate(connection) == []
    assert [migration.name for migration in migrations.applied(Database(connection))] == names
    assert {"accounts", "keys", "agents", "numbers", "integrations", "calls", "call_events"} <= tables(connection)


def test_every_table_checks_its_types(connection: sqlite3.Connection) -> None:
    migrate(connection)
    for name in tables(connection):
        (sql,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (name,)).fetchone()
        assert sql.rstrip("; ").endswith("STRICT"), name


def test_a_migration_that_fails_leaves_the_file_as_it_was(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(db: Database) -> None:
        db.execute("CREATE TABLE half (x)")
        raise RuntimeError("no")

    broken = [*migrations.pending(Database(memory=True)), migrations._Migration("half", half)]
    monkeypatch.setattr(migrations, "_migrations", broken)
    with pytest.raises(RuntimeError, match="no"):
        migrate(connection)
    assert tables(connection) == set()


def test_a_file_of_a_newer_version_is_refused_unharmed(connection: sqlite3.Connection) -> None:
    migrate(connection)
    connection.execute(
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('truedy-edge', 'recordings', 'x')"
    )
    before = list(connection.iterdump())
    with pytest.raises(RegistryUnusable, match=r"newer version.*recordings"):
        migrate(connection)
    assert list(connection.iterdump()) == before
    assert not connection.in_transaction


@pytest.mark.parametrize(
    ("question", "index"),
    [
        ("SELECT * FROM numbers WHERE phone_number = '+1' AND trunk = 'x'", "idx_numbers_phone_number"),
        ("SELECT * FROM keys WHERE digest = x'00'", "idx_keys_digest"),
        (
            "SELECT * FROM numbers WHERE account_id = 'a' ORDER BY created_at DESC, id",
            "idx_numbers_account_id",
        ),
        ("SELECT * FROM calls WHERE account_id = 'a' ORDER BY started_at DESC, id LIMIT 50", "idx_calls_account_id"),
        ("SELECT * FROM calls WHERE ended_at IS NULL", "calls_open"),
        ("SELECT * FROM call_events WHERE call_id = 'c'", "idx_call_events_call_id"),
        ("SELECT count(*) FROM numbers WHERE agent_id = 'g'", "idx_numbers_agent_id"),
        (_ROUTE.replace("?", "'x'"), "idx_numbers_phone_number"),
        (_NUMBERS_ON.replace("?", "'x'"), "idx_numbers_account_id_provider"),
        (BY_REFERENCE.replace("?", "'x'"), "sqlite_autoindex_integration_references"),
        ("SELECT 1 FROM connections WHERE provider = 'p' AND id = 'i'", "idx_connections_provider_id"),
    ],
)
def test_no_question_reads_a_whole_table(connection: sqlite3.Connection, question: str, index: str) -> None:
    migrate(connection)
    plan = " ".join(str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {question}"))
    assert index in plan


def test_integrations_saved_before_are_found_by_what_is_public(connection: sqlite3.Connection) -> None:
    """A file of the version before webhooks; what is sealed had no subaccounts then."""
    older = [migration for migration in migrations.pending(Database(memory=True)) if "found_by" not in migration.name]
    for migration in older:
        migration.fn(Database(connection))
    connection.execute("INSERT INTO accounts (id, name, created_at) VALUES ('a1', 'Acme', 1.0)")
    connection.execute(
        "INSERT INTO integrations (account_id, provider, public, sealed, created_at, updated_at)"
        """ VALUES ('a1', 'twilio', '{"account_sid":"AC1"}', x'00', 1.0, 1.0)"""
    )
    what_integrations_are_found_by(Database(connection))
    found = connection.execute("SELECT account_id, provider, key, value FROM integration_references").fetchall()
    assert found == [("a1", "twilio", "account_sid", "AC1")]
