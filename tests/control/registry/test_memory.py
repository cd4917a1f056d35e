"""The twin in memory, beyond the contract."""

from __future__ import annotations

from control.registry.memory import MemoryRegistry
from control.registry.types import Account, Registry


async def test_two_registries_share_nothing() -> None:
    first, second = MemoryRegistry(), MemoryRegistry()
    await first.create_account(Account("a1", "Acme", 1.0))
    assert await second.accounts() == []


async def test_closing_it_ends_nothing() -> None:
    registry: Registry = MemoryRegistry()
    await registry.close()
    assert await registry.accounts() == []
