"""The SQLite file's errors in the registry's words, and its transactions."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from control.registry import connection as module
from control.registry.connection import claim, connect, make, snapshot, transaction, translation
from control.registry.types import (
    Conflict,
    RegistryBusy,
    RegistryError,
    RegistryFull,
    RegistryLocked,
    RegistryUnusable,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of a file with one table."""
    path = tmp_path / "registry.db"
    make(path)
    with closing(connect(path)) as connection:
        connection.execute("CREATE TABLE things (name TEXT UNIQUE)")
    return path


def sqlite_error(kind: type[sqlite3.Error], code: int) -> sqlite3.Error:
    """As the driver raises it."""
    error = kind("what SQLite says")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (sqlite_error(sqlite3.OperationalError, sqlite3.SQLITE_BUSY), RegistryBusy),
        (sqlite_error(sqlite3.OperationalError, sqlite3.SQLITE_BUSY_SNAPSHOT), RegistryBusy),
        (sqlite_error(sqlite3.OperationalError, sqlite3.SQLITE_LOCKED), RegistryBusy),
        (sqlite_error(sqlite3.OperationalError, sqlite3.SQLITE_FULL), RegistryFull),
        (sqlite_error(sqlite3.IntegrityError, sqlite3.SQLITE_CONSTRAINT_UNIQUE), Conflict),
        (sqlite_error(sqlite3.OperationalError, sqlite3.SQLITE_IOERR_WRITE), RegistryUnusable),
        (sqlite_error(sqlite3.DatabaseError, sqlite3.SQLITE_CORRUPT), RegistryUnusable),
        (sqlite_error(sqlite3.OperationalError, sqlite3.SQLITE_READONLY), RegistryUnusable),
        (sqlite3.ProgrammingError("Cannot operate on a closed database."), RegistryUnusable),
    ],
)
def test_each_result_code_has_its_error(path: Path, error: sqlite3.Error, expected: type[RegistryError]) -> None:
    assert type(translation(error, path)) is expected


def test_an_io_error_with_no_room_left_is_a_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_no_room", lambda path: True)
    error = sqlite_error(sqlite3.OperationalError, sqlite3.SQLITE_IOERR_SHMSIZE)
    assert type(translation(error, path)) is RegistryFull


def test_a_transaction_is_kept_or_undone_as_a_whole(path: Path) -> None:
    def both(connection: sqlite3.Connection, second: str) -> None:
        connection.execute("INSERT INTO things VALUES ('one')")
        connection.execute("INSERT INTO things VALUES (?)", (second,))

    with closing(connect(path)) as connection:
        with pytest.raises(Conflict):
            transaction(connection, lambda each: both(each, "one"), path)
        assert connection.execute("SELECT count(*) FROM things").fetchall() == [(0,)]
        transaction(connection, lambda each: both(each, "two"), path)
        assert connection.execute("SELECT count(*) FROM things").fetchall() == [(2,)]


def test_a_snapshot_sees_one_state_and_leaves_no_lock(path: Path) -> None:
    with closing(connect(path)) as reader, closing(connect(path)) as writer:
        writer.execute("PRAGMA journal_mode=WAL")

        def work(connection: sqlite3.Connection) -> tuple[object, object]:
            first = connection.execute("SELECT count(*) FROM things").fetchone()
            writer.execute("INSERT INTO things VALUES ('meanwhile')")
            return first, connection.execute("SELECT count(*) FROM things").fetchone()

        assert snapshot(reader, work, path) == ((0,), (0,))
        assert snapshot(reader, lambda each: each.execute("SELECT count(*) FROM things").fetchone(), path) == (1,)


def test_a_claim_is_one_process_s_until_it_lets_go(path: Path) -> None:
    lock = claim(path)
    with pytest.raises(RegistryLocked):
        claim(path)
    os.close(lock)
    os.close(claim(path))


def test_foreign_keys_are_held(path: Path) -> None:
    with closing(connect(path)) as connection:
        assert connection.execute("PRAGMA foreign_keys").fetchone() == (1,)
        assert connection.execute("PRAGMA synchronous").fetchone() == (1,)
