"""What only a file and threads can do: locks, other processes, a full disk, secrets at rest."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from control.registry import connection as connection_module
from control.registry.sqlite import SqliteRegistry
from control.registry.types import (
    Account,
    Agent,
    CallEvent,
    Connection,
    Integration,
    JournalPosition,
    NotFound,
    Number,
    Page,
    PhoneNumberTaken,
    RegistryBusy,
    RegistryError,
    RegistryFull,
    RegistryLocked,
    RegistryUnusable,
    SecretsUnavailable,
)
from control.vault import Vault

ACCOUNT = Account("a1", "Acme", 1.0)
NUMBER = Number("n1", "a1", "+4930123456", "030 123456", "sip", "lab", "active", 4.0, 4.0)
TOKEN = "planted-secret-4711"
TWILIO = Integration("a1", "twilio", {"account_sid": "AC1"}, {"auth_token": TOKEN}, 5.0, 5.0)
TELNYX = Connection("42", "a1", "telnyx", "credential", "gw", "telnyx:42", "gw", secrets={"sip_password": TOKEN})
OFFER = {"account_id": "a1", "direction": "inbound", "trunk": "lab", "from_number": "+1", "to_number": "+2"}


def vault(*keys: int) -> Vault:
    """Current key first."""
    current, *previous = (bytes([key]) * 32 for key in keys)
    return Vault(current, entropy=os.urandom, previous=previous)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of a registry that is not there yet."""
    return tmp_path / "var" / "registry.db"


@pytest.fixture
async def registry(path: Path) -> AsyncIterator[SqliteRegistry]:
    """With one account."""
    registry = SqliteRegistry.open(path, vault(1), serve=True)
    await registry.create_account(ACCOUNT)
    yield registry
    await registry.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy time-out of 20 ms, for registries opened in this test."""
    monkeypatch.setattr(connection_module, "BUSY_TIMEOUT_S", 0.02)


# the file


async def test_it_survives_being_closed(path: Path) -> None:
    first = SqliteRegistry.open(path)
    await first.create_account(ACCOUNT)
    await first.close()
    await first.close()
    second = SqliteRegistry.open(path)
    assert await second.account("a1") == ACCOUNT
    await second.close()


async def test_a_closed_registry_says_so(path: Path) -> None:
    registry = SqliteRegistry.open(path)
    await registry.close()
    for question in (registry.account("a1"), registry.route("lab", "+1"), registry.create_account(ACCOUNT)):
        with pytest.raises(RegistryUnusable):
            await question


def test_only_its_owner_can_read_it(registry: SqliteRegistry, path: Path) -> None:
    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == ["registry.db", "registry.db-shm", "registry.db-wal", "registry.db.lock"]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


async def test_a_second_server_is_refused_until_the_first_is_gone(path: Path) -> None:
    first = SqliteRegistry.open(path, serve=True)
    with pytest.raises(RegistryLocked, match=r"registry\.db"):
        SqliteRegistry.open(path, serve=True)
    await first.close()
    await SqliteRegistry.open(path, serve=True).close()


async def test_the_command_line_works_beside_a_server(registry: SqliteRegistry, path: Path) -> None:
    beside = SqliteRegistry.open(path, vault(1))
    await beside.create_agent(Agent("g1", "a1", "Parrot", {}, 1.0, 1.0))
    await beside.create_number(replace(NUMBER, agent_id="g1"))
    route = await registry.route("lab", NUMBER.phone_number)
    assert route is not None
    assert route.agent is not None
    await beside.delete_number("a1", "n1")
    assert await registry.route("lab", NUMBER.phone_number) is None
    await beside.close()


SERVE = "import sys; from pathlib import Path; from control.registry.sqlite import SqliteRegistry as R\n"


@pytest.mark.realtime
def test_a_server_that_is_killed_lets_go(path: Path) -> None:
    script = SERVE + "r = R.open(Path(sys.argv[1]), serve=True); print('up', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        with pytest.raises(RegistryLocked):
            SqliteRegistry.open(path, serve=True)
        process.kill()
        process.wait()
    asyncio.run(SqliteRegistry.open(path, serve=True).close())


@pytest.mark.realtime
def test_several_processes_can_meet_a_new_file_at_once(path: Path) -> None:
    script = SERVE + "R.open(Path(sys.argv[1])); print('up')"
    processes = [subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE) for _ in range(4)]
    assert [process.communicate()[0] for process in processes] == [b"up\n"] * 4


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\x00" + b"\xff" * 4096])
def test_a_file_that_is_no_registry_is_refused_by_name(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(RegistryUnusable, match=r"registry\.db"):
        SqliteRegistry.open(path)
    assert path.read_bytes() == content


def test_a_place_where_no_file_can_be_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RegistryUnusable, match=r"registry\.db"):
        SqliteRegistry.open(tmp_path / "file" / "registry.db")


# others' locks


async def test_a_database_locked_by_another_holds_up_no_lookup(
    impatient: None, registry: SqliteRegistry, path: Path
) -> None:
    await registry.create_number(NUMBER)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert await registry.route("lab", NUMBER.phone_number) is not None
        assert await registry.key_by_digest(b"d" * 32) is None
        assert await registry.account("a1") == ACCOUNT


async def test_a_write_to_a_locked_database_is_told_so_and_works_afterwards(impatient: None, path: Path) -> None:
    registry = SqliteRegistry.open(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RegistryBusy):
            await registry.create_account(ACCOUNT)
    await registry.create_account(ACCOUNT)
    assert await registry.account("a1") == ACCOUNT
    await registry.close()


async def test_a_registry_held_by_another_is_busy_at_the_start(impatient: None, path: Path) -> None:
    await SqliteRegistry.open(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("CREATE TABLE held (x)")
        with pytest.raises(RegistryBusy):
            SqliteRegistry.open(path, serve=True)
    await SqliteRegistry.open(path, serve=True).close()


class Waiting:
    """A connection that would have to wait (SQLite recovers a WAL file, which readers wait for)."""

    def execute(self, sql: str, parameters: object) -> None:
        """At once, as a connection without a busy time-out does."""
        error = sqlite3.OperationalError("database is locked")
        error.sqlite_errorcode = sqlite3.SQLITE_BUSY_RECOVERY
        raise error

    def close(self) -> None:
        """Nothing to close."""


async def test_a_lookup_that_has_to_wait_waits_off_the_loop(registry: SqliteRegistry) -> None:
    await registry.create_number(NUMBER)
    with closing(registry._hot):
        registry._hot = Waiting()  # type: ignore[assignment]
    assert await registry.route("lab", NUMBER.phone_number) is not None


async def test_many_writers_at_once_all_get_through(registry: SqliteRegistry, path: Path) -> None:
    beside = SqliteRegistry.open(path)
    await asyncio.gather(
        *(
            store.create_account(Account(f"{name}{number}", f"{name} {number}", 1.0))
            for number in range(50)
            for name, store in (("x", registry), ("y", beside))
        )
    )
    assert len(await registry.accounts()) == 101
    await beside.close()


async def test_two_imports_of_one_number_at_once_make_one_row(registry: SqliteRegistry, path: Path) -> None:
    beside = SqliteRegistry.open(path)
    results = await asyncio.gather(
        *(store.create_number(replace(NUMBER, id=str(index))) for index, store in enumerate([registry, beside] * 5)),
        return_exceptions=True,
    )
    assert [type(result) for result in results if result is not None] == [PhoneNumberTaken] * 9
    assert (await registry.numbers("a1", Page()))[1] == 1
    await beside.close()


async def test_two_replays_at_once_apply_each_event_once(registry: SqliteRegistry, path: Path) -> None:
    beside = SqliteRegistry.open(path)
    events = [CallEvent(id=f"e{n}", kind="offered", at=1.0, call_id=f"c{n}", data=OFFER) for n in range(200)]
    counts = await asyncio.gather(
        *(
            store.apply_events(events[start : start + 60], JournalPosition("j", start))
            for start in range(0, 200, 20)
            for store in (registry, beside)
        )
    )
    assert sum(counts) == 200
    await beside.close()


# no room


async def test_a_full_disk_is_told_and_harms_nothing(path: Path) -> None:
    registry = SqliteRegistry.open(path)
    await registry.create_account(ACCOUNT)
    (pages,) = registry._writing.execute("PRAGMA page_count").fetchone()
    registry._writing.execute(f"PRAGMA max_page_count={pages}")
    big = Agent("g1", "a1", "x", {"text": "x" * 100_000}, 1.0, 1.0)
    with pytest.raises(RegistryFull):
        await registry.create_agent(big)
    event = CallEvent(id="e1", kind="offered", at=1.0, call_id="c1", data=OFFER | {"sip_call_id": "x" * 100_000})
    with pytest.raises(RegistryFull):
        await registry.apply_events([event], JournalPosition("j", 9))
    assert await registry.journal_position() is None
    registry._writing.execute("PRAGMA max_page_count=1000000")
    assert await registry.apply_events([event], JournalPosition("j", 9)) == 1
    with pytest.raises(NotFound):
        await registry.agent("a1", "g1")
    await registry.close()


# secrets


def all_bytes(path: Path) -> bytes:
    """The database and what lies beside it."""
    return b"".join(file.read_bytes() for file in path.parent.iterdir())


async def test_a_secret_is_not_in_the_file(registry: SqliteRegistry, path: Path) -> None:
    await registry.save_integration(TWILIO)
    await registry.save_connection(TELNYX)
    assert await registry.integration("a1", "twilio") == TWILIO
    assert await registry.connections("telnyx") == [TELNYX]
    assert TOKEN not in repr((TWILIO, TELNYX))
    assert b"AC1" in all_bytes(path)
    assert TOKEN.encode() not in all_bytes(path)


async def test_a_sealed_value_moved_to_another_row_does_not_open(registry: SqliteRegistry, path: Path) -> None:
    await registry.create_account(Account("a2", "Umbrella", 2.0))
    await registry.save_integration(TWILIO)
    await registry.save_integration(replace(TWILIO, account_id="a2", secrets={"auth_token": "other"}))
    with closing(sqlite3.connect(path)) as other, other:
        other.execute(
            "UPDATE integrations SET sealed = (SELECT sealed FROM integrations WHERE account_id = 'a1')"
            " WHERE account_id = 'a2'"
        )
    with pytest.raises(SecretsUnavailable):
        await registry.integration("a2", "twilio")
    assert (await registry.integration("a1", "twilio")).secrets == TWILIO.secrets


async def test_a_password_moved_to_another_connection_does_not_open(registry: SqliteRegistry, path: Path) -> None:
    for id in ("42", "43"):
        await registry.save_connection(replace(TELNYX, id=id))
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE connections SET sealed = (SELECT sealed FROM connections WHERE id = '42')")
    assert (await registry.connection("a1", "telnyx", "42")).secrets == TELNYX.secrets
    with pytest.raises(SecretsUnavailable):
        await registry.connection("a1", "telnyx", "43")


async def test_without_a_key_there_are_no_integrations_but_all_the_rest(path: Path) -> None:
    registry = SqliteRegistry.open(path)
    await registry.create_account(ACCOUNT)
    with pytest.raises(SecretsUnavailable, match=r"secrets\.key"):
        await registry.save_integration(TWILIO)
    with pytest.raises(SecretsUnavailable, match=r"secrets\.key"):
        await registry.save_connection(TELNYX)
    await registry.save_connection(replace(TELNYX, secrets={}))
    assert await registry.connections("telnyx") == [replace(TELNYX, secrets={})]
    await registry.close()


async def test_a_new_key_takes_over_what_the_old_one_sealed(path: Path) -> None:
    old = SqliteRegistry.open(path, vault(1))
    await old.create_account(ACCOUNT)
    await old.save_integration(TWILIO)
    for connection in (TELNYX, replace(TELNYX, id="43", secrets={})):
        await old.save_connection(connection)
    await old.close()
    both = SqliteRegistry.open(path, vault(2, 1))
    assert [await both.reseal(), await both.reseal()] == [2, 0]
    await both.close()
    new = SqliteRegistry.open(path, vault(2))
    assert await new.integration("a1", "twilio") == TWILIO
    assert await new.connection("a1", "telnyx", "42") == TELNYX
    await new.close()


async def test_a_key_that_was_not_kept_is_an_error_that_shows_no_secret(path: Path) -> None:
    old = SqliteRegistry.open(path, vault(1))
    await old.create_account(ACCOUNT)
    await old.save_integration(TWILIO)
    await old.close()
    new = SqliteRegistry.open(path, vault(2))
    with pytest.raises(SecretsUnavailable, match="not configured") as caught:
        await new.integration("a1", "twilio")
    assert TOKEN not in str(caught.value)
    with pytest.raises(RegistryError):
        await new.reseal()
    await new.close()


# a crash


@pytest.mark.realtime
def test_a_killed_process_leaves_the_file_whole(path: Path) -> None:
    """kill -9 amid transactions, again and again."""
    script = SERVE + (
        "import asyncio, os\n"
        "from control.registry.types import Account\n"
        "async def main():\n"
        "    r = R.open(Path(sys.argv[1]), serve=True)\n"
        "    while True:\n"
        "        id = os.urandom(8).hex()\n"
        "        await r.create_account(Account(id, id, 1.0))\n"
        "        print(id, flush=True)\n"
        "asyncio.run(main())\n"
    )
    committed: set[str] = set()
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(100)]
            process.kill()
            committed.update(line.strip() for line in lines + process.stdout.readlines() if line.endswith("\n"))
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert committed <= {id for (id,) in other.execute("SELECT id FROM accounts")}
