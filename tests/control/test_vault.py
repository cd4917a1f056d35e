"""Secrets at rest."""

from __future__ import annotations

import base64
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from config.settings import Secrets
from control.vault import Tampered, UnknownKey, Vault, vault_of

OLD, NEW = bytes(range(32)), bytes(range(32, 64))


def counting() -> Vault:
    """A vault whose nonces are all different."""
    return Vault(NEW, entropy=os.urandom)


@given(plaintext=st.binary(max_size=200), identity=st.text(max_size=50))
def test_what_is_sealed_opens_for_the_same_row(plaintext: bytes, identity: str) -> None:
    vault = counting()
    assert vault.open(vault.seal(plaintext, identity), identity) == plaintext


def test_a_value_moved_to_another_row_does_not_open() -> None:
    vault = counting()
    with pytest.raises(Tampered):
        vault.open(vault.seal(b"token", "account 1"), "account 2")


def test_no_altered_byte_goes_unseen() -> None:
    vault = counting()
    sealed = vault.seal(b"token", "row")
    for position in range(len(sealed)):
        altered = bytearray(sealed)
        altered[position] ^= 1
        with pytest.raises((Tampered, UnknownKey)):
            vault.open(bytes(altered), "row")


def test_a_value_cut_short_does_not_open() -> None:
    vault = counting()
    sealed = vault.seal(b"token", "row")
    for length in range(len(sealed)):
        with pytest.raises(Tampered):
            vault.open(sealed[:length], "row")


def test_the_same_value_sealed_twice_looks_different() -> None:
    vault = counting()
    assert vault.seal(b"token", "row") != vault.seal(b"token", "row")


def test_a_previous_key_still_opens_and_the_current_one_seals() -> None:
    sealed = Vault(OLD, entropy=os.urandom).seal(b"token", "row")
    rotated = Vault(NEW, entropy=os.urandom, previous=[OLD])
    assert rotated.open(sealed, "row") == b"token"
    assert not rotated.is_current(sealed)
    assert rotated.is_current(rotated.seal(b"token", "row"))


def test_a_key_that_was_dropped_is_named_by_its_id() -> None:
    old = Vault(OLD, entropy=os.urandom)
    with pytest.raises(UnknownKey) as caught:
        counting().open(old.seal(b"token", "row"), "row")
    assert caught.value.key_id == old.current_key_id


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Vault(bytes(length), entropy=os.urandom)


def test_keys_come_as_base64_from_the_settings() -> None:
    sealed = Vault(OLD, entropy=os.urandom).seal(b"token", "row")
    text = [base64.b64encode(key).decode() for key in (NEW, OLD)]
    assert Vault.from_base64(text[0], entropy=os.urandom, previous=[text[1]]).open(sealed, "row") == b"token"


def test_the_settings_have_one_or_none() -> None:
    old, new = (SecretStr(base64.b64encode(key).decode()) for key in (OLD, NEW))
    sealed = Vault(OLD, entropy=os.urandom).seal(b"token", "row")
    vault = vault_of(Secrets(key=new, previous_keys=(old,)), entropy=os.urandom)
    assert vault is not None
    assert vault.open(sealed, "row") == b"token"
    assert vault_of(Secrets(), entropy=os.urandom) is None


def test_its_representation_shows_no_key() -> None:
    assert NEW.hex() not in repr(counting())
    assert base64.b64encode(NEW).decode() not in repr(counting())
