"""The SQLite file: connections, transactions, the claim of a serving process, and errors in the registry's words."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from control.registry.types import (
    Conflict,
    RegistryBusy,
    RegistryError,
    RegistryFull,
    RegistryLocked,
    RegistryUnusable,
)

__all__ = [
    "BUSY_TIMEOUT_S",
    "claim",
    "connect",
    "make",
    "one_at_a_time",
    "snapshot",
    "transaction",
    "translated",
    "translation",
]

BUSY_TIMEOUT_S: Final = 5.0

_T = TypeVar("_T")


def make(path: Path) -> None:
    """A file that its owner alone can read, in a directory that exists."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise _os_translation(error, path) from error


def connect(path: Path, *, timeout_s: float | None = None) -> sqlite3.Connection:
    """One thread at a time uses it, which is not always the one that made it. It waits 5 s for others' locks."""
    wait_s = BUSY_TIMEOUT_S if timeout_s is None else timeout_s
    connection = sqlite3.connect(path, timeout=wait_s, isolation_level=None, check_same_thread=False)
    try:
        for setting in ("foreign_keys=ON", "synchronous=NORMAL", "trusted_schema=OFF"):
            connection.execute(f"PRAGMA {setting}")
    except BaseException:
        connection.close()
        raise
    return connection


def claim(path: Path) -> int:
    """A lock that dies with the process, however it dies."""
    lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise _os_translation(error, path) from error
        raise RegistryLocked(f"{path} is in use by another instance") from error
    return lock


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Two processes that meet a new file: SQLite does not make the second wait for the switch to WAL."""
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def transaction(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], _T], path: Path) -> _T:
    with translated(path):
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return result


def snapshot(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], _T], path: Path) -> _T:
    """Several selects that see one state."""
    with translated(path):
        connection.execute("BEGIN")
        try:
            return work(connection)
        finally:
            connection.execute("ROLLBACK")


@contextmanager
def translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise translation(error, path) from error


def translation(error: sqlite3.Error, path: Path) -> RegistryError:
    """SQLite's result codes (its "primary" ones are the low byte) as the registry's errors."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return RegistryBusy(f"{path}: {error}")
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _no_room(path)):
        return RegistryFull(f"{path}: {error}")
    if isinstance(error, sqlite3.IntegrityError):
        return Conflict(str(error))
    return RegistryUnusable(f"{path}: {error}")


def _os_translation(error: OSError, path: Path) -> RegistryError:
    kind = RegistryFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else RegistryUnusable
    return kind(f"{path}: {error.strerror}")


def _no_room(path: Path) -> bool:
    """With a full disk SQLite reports a failed write of its WAL index as an I/O error."""
    return os.statvfs(path.parent).f_bavail == 0
