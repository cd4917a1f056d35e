"""Rows with secrets, inside a transaction of somebody else."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from control.registry.rows import insert
from control.registry.schema import migrate
from control.registry.sealed import AGENT, BY_REFERENCE, Sealed
from control.registry.types import Agent, Connection, Integration, NotFound, SecretsUnavailable
from control.vault import Vault

TWILIO = Integration("a1", "twilio", {"account_sid": "AC1"}, {"auth_token": "planted"}, 5.0, 5.0)
TELNYX = Connection("42", "a1", "telnyx", "credential", "gw", "telnyx:42", "gw", secrets={"sip_password": "planted"})
VAULT = Vault(bytes(32), entropy=os.urandom)


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    """A registry's tables in memory, and an account."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        connection.execute("INSERT INTO accounts (id, name, created_at) VALUES ('a1', 'Acme', 1.0)")
        yield connection


def test_what_is_saved_opens_and_lies_sealed(db: sqlite3.Connection) -> None:
    sealed = Sealed(VAULT)
    sealed.save_integration(db, TWILIO)
    sealed.save_connection(db, TELNYX)
    assert sealed.integration(db, "a1", "twilio") == TWILIO
    assert sealed.connection(db, "a1", "telnyx", "42") == TELNYX
    assert "planted" not in "".join(db.iterdump())


def test_nothing_secret_is_written_or_read_without_a_vault(db: sqlite3.Connection) -> None:
    without = Sealed(None)
    for write in (lambda: without.save_integration(db, TWILIO), lambda: without.save_connection(db, TELNYX)):
        with pytest.raises(SecretsUnavailable, match=r"secrets\.key is not set"):
            write()
    Sealed(VAULT).save_integration(db, TWILIO)
    Sealed(VAULT).save_connection(db, TELNYX)
    with pytest.raises(SecretsUnavailable):
        without.integration(db, "a1", "twilio")
    with pytest.raises(SecretsUnavailable):
        without.connection(db, "a1", "telnyx", "42")
    assert without.reseal(db) == 0


def test_a_connection_without_secrets_needs_no_vault(db: sqlite3.Connection) -> None:
    """An FQDN or IP connection has none."""
    fqdn = replace(TELNYX, kind="fqdn", secrets={})
    Sealed(None).save_connection(db, fqdn)
    assert Sealed(None).connection(db, "a1", "telnyx", "42") == fqdn
    assert db.execute("SELECT sealed FROM connections").fetchall() == [(b"",)]


def test_no_row_s_secrets_open_in_a_row_of_another_table(db: sqlite3.Connection) -> None:
    """Whatever their names are put together of."""
    sealed = Sealed(VAULT)
    sealed.save_integration(db, TWILIO)
    sealed.save_connection(db, replace(TELNYX, provider="twilio", id=""))
    db.execute("UPDATE connections SET sealed = (SELECT sealed FROM integrations)")
    with pytest.raises(SecretsUnavailable, match="does not open"):
        sealed.connection(db, "a1", "twilio", "")


def test_secrets_are_added_to_those_that_are_there(db: sqlite3.Connection) -> None:
    sealed = Sealed(VAULT)
    with pytest.raises(NotFound):
        sealed.add_secrets(db, "a1", "twilio", {})
    sealed.save_integration(db, TWILIO)
    sealed.add_secrets(db, "a1", "twilio", {"subaccount:AC9": "sub"})
    sealed.add_secrets(db, "a1", "twilio", {})
    kept = sealed.integration(db, "a1", "twilio")
    assert kept == replace(TWILIO, secrets={"auth_token": "planted", "subaccount:AC9": "sub"})
    for sid in ("AC1", "AC9"):
        (row,) = db.execute(BY_REFERENCE, ("twilio", "account_sid", sid)).fetchall()
        assert sealed.to_integration(row) == kept


def test_a_rotated_key_seals_all_rows_anew(db: sqlite3.Connection) -> None:
    Sealed(VAULT).save_integration(db, TWILIO)
    Sealed(VAULT).save_connection(db, TELNYX)
    both = Sealed(Vault(b"n" * 32, entropy=os.urandom, previous=[bytes(32)]))
    assert (both.reseal(db), both.reseal(db)) == (2, 0)
    new = Sealed(Vault(b"n" * 32, entropy=os.urandom))
    assert new.integration(db, "a1", "twilio") == TWILIO
    assert new.connection(db, "a1", "telnyx", "42") == TELNYX


ARMED = Agent("g1", "a1", "A", {"protocol": "builtin"}, 1.0, 1.0, secrets={"signing_secret": "planted"})


def test_an_agents_secrets_lie_sealed_and_open_in_their_own_row_alone(db: sqlite3.Connection) -> None:
    sealed = Sealed(VAULT)
    columns = insert("agents", AGENT)
    db.execute(columns, sealed.agent_values(ARMED))
    db.execute(columns, sealed.agent_values(replace(ARMED, id="g2", secrets={})))
    assert sealed.agent(db, "a1", "g1") == ARMED
    assert "planted" not in "".join(db.iterdump())
    db.execute("UPDATE agents SET sealed = (SELECT sealed FROM agents WHERE id = 'g1') WHERE id = 'g2'")
    with pytest.raises(SecretsUnavailable, match="does not open"):
        sealed.agent(db, "a1", "g2")


def test_an_agent_without_secrets_needs_no_vault(db: sqlite3.Connection) -> None:
    bare = replace(ARMED, secrets={})
    db.execute(insert("agents", AGENT), Sealed(None).agent_values(bare))
    assert Sealed(None).agent(db, "a1", "g1") == bare
    with pytest.raises(SecretsUnavailable, match=r"secrets\.key is not set"):
        Sealed(None).update_agent(db, ARMED)


def test_a_new_key_seals_agents_anew(db: sqlite3.Connection) -> None:
    db.execute(insert("agents", AGENT), Sealed(VAULT).agent_values(ARMED))
    newer = Sealed(Vault(b"n" * 32, entropy=os.urandom, previous=[bytes(32)]))
    assert newer.reseal(db) == 1
    assert newer.agent(db, "a1", "g1") == ARMED
    assert newer.reseal(db) == 0
