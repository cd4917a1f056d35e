"""API keys."""

from __future__ import annotations

import os

import pytest

from control.keys import KeyAuthority, digest_of, generate_key
from control.registry.memory import MemoryRegistry
from control.registry.types import Account, NotFound


@pytest.fixture
async def registry() -> MemoryRegistry:
    """With one account."""
    registry = MemoryRegistry()
    await registry.create_account(Account("a1", "Acme", 1.0))
    return registry


@pytest.fixture
def authority(registry: MemoryRegistry) -> KeyAuthority:
    """On a clock that stands at 100 s."""
    return KeyAuthority(registry, entropy=os.urandom, clock=lambda: 100.0)


@pytest.mark.parametrize("source", [bytes, lambda count: b"\xff" * count, os.urandom])
def test_every_key_has_one_form_whatever_the_bits(source: object) -> None:
    key = generate_key(source)  # type: ignore[arg-type]
    assert key.startswith("truedy_")
    assert len(key) == len("truedy_") + 43
    assert key.removeprefix("truedy_").isalnum()


def test_no_bit_of_the_entropy_is_lost() -> None:
    keys = {generate_key(lambda count, bit=bit: (1 << bit).to_bytes(count)) for bit in range(256)}  # type: ignore[misc]
    assert len(keys) == 256


async def test_a_new_key_authenticates_as_its_account_and_role(authority: KeyAuthority) -> None:
    made = await authority.create("a1", "operator")
    assert await authority.authenticate(made.text) == made.row
    assert (made.row.account_id, made.row.role, made.row.created_at) == ("a1", "operator", 100.0)
    assert made.row.hint == made.text[-4:]


async def test_the_registry_holds_the_digest_alone(authority: KeyAuthority, registry: MemoryRegistry) -> None:
    made = await authority.create("a1")
    assert await registry.key_by_digest(digest_of(made.text)) == made.row
    assert made.text not in repr(vars(registry))
    assert made.text not in repr(made)


@pytest.mark.parametrize(
    "key",
    ["", "truedy_", "truedy_" + "a" * 43, "truedy_" + "é" * 43, "a" * 100_000, "truedy_" + "a" * 43 + "\n", "\ud800"],
)
async def test_anything_else_is_nobody(authority: KeyAuthority, key: str) -> None:
    await authority.create("a1")
    assert await authority.authenticate(key) is None


async def test_a_revoked_key_is_refused(authority: KeyAuthority) -> None:
    made = await authority.create("a1")
    await authority.revoke(made.row.id)
    assert await authority.authenticate(made.text) is None


async def test_rotation_replaces_a_key_by_one_of_the_same_role(authority: KeyAuthority) -> None:
    old = await authority.create("a1", "operator")
    new = await authority.rotate(old.row.id)
    assert await authority.authenticate(old.text) is None
    assert await authority.authenticate(new.text) == new.row
    assert (new.row.account_id, new.row.role) == ("a1", "operator")


async def test_a_revoked_key_cannot_be_rotated(authority: KeyAuthority) -> None:
    old = await authority.create("a1")
    await authority.revoke(old.row.id)
    with pytest.raises(NotFound):
        await authority.rotate(old.row.id)


async def test_no_key_for_an_unknown_account(authority: KeyAuthority) -> None:
    with pytest.raises(NotFound):
        await authority.create("a2")


async def test_no_unknown_key_is_revoked(authority: KeyAuthority) -> None:
    with pytest.raises(NotFound):
        await authority.revoke("k1")
