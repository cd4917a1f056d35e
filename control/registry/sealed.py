"""Rows with secrets: carriers' credentials and connections, and agents. All run in their caller's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from control.registry import rows
from control.registry.types import Agent, Connection, Integration, NotFound, SecretsUnavailable
from control.vault import Vault, VaultError

__all__ = ["AGENT", "BY_REFERENCE", "Sealed"]

_INTEGRATION: Final = f"SELECT {rows.INTEGRATION} FROM integrations WHERE account_id = ? AND provider = ?"  # noqa: S608
_CONNECTION: Final = f"SELECT {rows.CONNECTION} FROM connections WHERE account_id = ? AND provider = ? AND id = ?"  # noqa: S608

AGENT: Final = f"{rows.AGENT}, sealed"
"""An agent's columns, with its secrets."""

_AGENT: Final = f"SELECT {AGENT} FROM agents WHERE id = ? AND account_id = ?"  # noqa: S608

_SAVE_INTEGRATION: Final = (
    f"{rows.insert('integrations', rows.INTEGRATION)} ON CONFLICT (account_id, provider) DO UPDATE"
    " SET public = excluded.public, sealed = excluded.sealed, updated_at = excluded.updated_at"
)
_SAVE_CONNECTION: Final = (
    f"{rows.insert('connections', rows.CONNECTION)} ON CONFLICT (account_id, provider, id) DO UPDATE SET "
    + ", ".join(
        f"{name} = excluded.{name}"
        for name in rows.CONNECTION.split(", ")
        if name not in {"id", "account_id", "provider", "created_at"}
    )
)

BY_REFERENCE: Final = (
    f"SELECT {', '.join('i.' + name for name in rows.INTEGRATION.split(', '))} FROM integration_references r"  # noqa: S608
    " JOIN integrations i ON i.account_id = r.account_id AND i.provider = r.provider"
    " WHERE r.provider = ? AND r.key = ? AND r.value = ? ORDER BY i.account_id"
)
"""Integrations of a provider, by one of :meth:`Integration.references`."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """Without a vault nothing secret is written or read: :class:`SecretsUnavailable`."""

    vault: Vault | None

    # integrations

    def integration(self, db: sqlite3.Connection, account_id: str, provider: str) -> Integration:
        """With its secrets, or :class:`NotFound`."""
        for row in db.execute(_INTEGRATION, (account_id, provider)).fetchall():
            return self.to_integration(row)
        raise NotFound("integration", provider)

    def save_integration(self, db: sqlite3.Connection, integration: Integration) -> None:
        """Inserts or replaces, with what it is found by; the first ``created_at`` stays."""
        owner = (integration.account_id, integration.provider)
        sealed = self._seal(integration.secrets, "integrations", *owner)
        times = (integration.created_at, integration.updated_at)
        rows.account(db, integration.account_id)
        db.execute(_SAVE_INTEGRATION, (*owner, rows.encode(integration.public), sealed, *times))
        db.execute("DELETE FROM integration_references WHERE account_id = ? AND provider = ?", owner)
        db.executemany(
            "INSERT INTO integration_references (account_id, provider, key, value) VALUES (?, ?, ?, ?)",
            [(*owner, key, value) for key, value in sorted(integration.references())],
        )

    def add_secrets(self, db: sqlite3.Connection, account_id: str, provider: str, secrets: Mapping[str, str]) -> None:
        """To an integration that has to be there: :class:`NotFound`."""
        if secrets:
            old = self.integration(db, account_id, provider)
            self.save_integration(db, replace(old, secrets={**old.secrets, **secrets}))
        elif not db.execute(_INTEGRATION, (account_id, provider)).fetchall():
            raise NotFound("integration", provider)

    def to_integration(self, row: Sequence[Any]) -> Integration:
        """From the columns of ``INTEGRATION``."""
        account_id, provider, public, sealed, created_at, updated_at = row
        secrets = self._open(sealed, "integrations", account_id, provider)
        return Integration(account_id, provider, rows.decode(public), secrets, created_at, updated_at)

    # connections

    def connection(self, db: sqlite3.Connection, account_id: str, provider: str, id: str) -> Connection:
        """With its secrets, or :class:`NotFound`."""
        for row in db.execute(_CONNECTION, (account_id, provider, id)).fetchall():
            return self.to_connection(row)
        raise NotFound("connection", id)

    def save_connection(self, db: sqlite3.Connection, connection: Connection) -> None:
        """Inserts or replaces, the first ``created_at`` stays; its numbers move to its trunk."""
        key = (connection.account_id, connection.provider, connection.id)
        sealed = self._seal(connection.secrets, "connections", *key) if connection.secrets else b""
        rows.account(db, connection.account_id)
        names = rows.CONNECTION.split(", ")[:-1]
        db.execute(_SAVE_CONNECTION, (*(getattr(connection, name) for name in names), sealed))
        db.execute(
            "UPDATE numbers SET trunk = ? WHERE account_id = ? AND provider = ? AND provider_connection_id = ?",
            (connection.trunk, *key),
        )

    def to_connection(self, row: Sequence[Any]) -> Connection:
        """From the columns of ``CONNECTION``."""
        *values, sealed = row
        fields = dict(zip(rows.CONNECTION.split(", "), values, strict=False))
        key = (fields["account_id"], fields["provider"], fields["id"])
        secrets = self._open(sealed, "connections", *key) if sealed else {}
        truths = {name: bool(fields[name]) for name in ("host_used", "encrypted_media")}
        return Connection(**fields | truths | {"secrets": secrets})

    # agents

    def agent(self, db: sqlite3.Connection, account_id: str, agent_id: str) -> Agent:
        """With its secrets, or :class:`NotFound`."""
        for row in db.execute(_AGENT, (agent_id, account_id)).fetchall():
            return self.to_agent(row)
        raise NotFound("agent", agent_id)

    def agent_values(self, agent: Agent) -> tuple[Any, ...]:
        """As the columns of ``AGENT``."""
        sealed = self._seal(agent.secrets, "agents", agent.account_id, agent.id) if agent.secrets else None
        return (*rows.agent_values(agent), sealed)

    def to_agent(self, row: Sequence[Any]) -> Agent:
        """From the columns of ``AGENT``."""
        agent = rows.to_agent(tuple(row[:-1]))
        if not row[-1]:
            return agent
        return replace(agent, secrets=self._open(row[-1], "agents", agent.account_id, agent.id))

    def update_agent(self, db: sqlite3.Connection, agent: Agent) -> None:
        """Its name, pipeline, options, secrets and ``updated_at``; :class:`NotFound`."""
        rows.agent(db, agent.account_id, agent.id)
        *_, name, pipeline, _, updated_at, options, sealed = self.agent_values(agent)
        db.execute(
            "UPDATE agents SET name = ?, pipeline = ?, updated_at = ?, options = ?, sealed = ? WHERE id = ?",
            (name, pipeline, updated_at, options, sealed, agent.id),
        )

    # keys

    def reseal(self, db: sqlite3.Connection) -> int:
        """Seal anew what a previous key had sealed; how many rows."""
        count = 0
        for row in db.execute(f"SELECT {rows.INTEGRATION} FROM integrations").fetchall():  # noqa: S608
            if self._is_old(row[3]):
                self.save_integration(db, self.to_integration(row))
                count += 1
        for row in db.execute(f"SELECT {rows.CONNECTION} FROM connections").fetchall():  # noqa: S608
            if self._is_old(row[-1]):
                self.save_connection(db, self.to_connection(row))
                count += 1
        for row in db.execute(f"SELECT {AGENT} FROM agents WHERE sealed IS NOT NULL").fetchall():  # noqa: S608
            if self._is_old(row[-1]):
                self.update_agent(db, self.to_agent(row))
                count += 1
        return count

    def _is_old(self, sealed: bytes) -> bool:
        return bool(sealed) and self.vault is not None and not self.vault.is_current(sealed)

    def _seal(self, secrets: Mapping[str, str], *row: str) -> bytes:
        return self._present().seal(rows.encode(secrets).encode(), _identity(row))

    def _open(self, sealed: bytes, *row: str) -> dict[str, str]:
        vault = self._present()
        try:
            secrets: dict[str, str] = rows.decode(vault.open(sealed, _identity(row)))
        except VaultError as error:
            raise SecretsUnavailable(str(error)) from error
        return secrets

    def _present(self) -> Vault:
        if self.vault is None:
            raise SecretsUnavailable("secrets.key is not set")
        return self.vault


def _identity(row: Sequence[str]) -> str:
    """A row's name, for the vault: no two rows can share one, whatever characters they hold."""
    return rows.encode(row)
