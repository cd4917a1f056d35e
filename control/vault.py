"""Secrets at rest: AES-256-GCM, bound to the row they stand in.

A sealed value is ``version (1) | key id (8) | nonce (12) | ciphertext and tag``. The identity of the row is
associated data, so a value moved to another row does not open; the key id says which key sealed it, so keys
rotate without a flag day: seal with the current one, open with any that is still listed.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from config.settings import Secrets

__all__ = ["Tampered", "UnknownKey", "Vault", "VaultError", "vault_of"]

_VERSION = b"\x01"
_KEY_BYTES = 32
_KEY_ID_BYTES = 8
_NONCE_BYTES = 12
_TAG_BYTES = 16
_HEADER_BYTES = len(_VERSION) + _KEY_ID_BYTES


class VaultError(Exception):
    """Base of what the vault raises. The text never holds a secret."""


class UnknownKey(VaultError):
    """Sealed with a key that is not configured (``secrets.key`` was changed and the old one not kept)."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"sealed with key {key_id}, which is not configured")
        self.key_id = key_id


class Tampered(VaultError):
    """Altered, cut short, or moved from another row."""

    def __init__(self) -> None:
        super().__init__("a sealed value does not open: altered, or moved from another row")


class Vault:
    """Seals and opens values with the current key; opens with the previous ones too."""

    __slots__ = ("_ciphers", "_current", "_entropy")

    def __init__(self, key: bytes, *, entropy: Callable[[int], bytes], previous: Sequence[bytes] = ()) -> None:
        """``key`` and each of ``previous``: 32 bytes, else ValueError."""
        self._entropy = entropy
        self._current = key_id(key)
        self._ciphers = {key_id(each): AESGCM(each) for each in (key, *previous)}

    @classmethod
    def from_base64(cls, key: str, *, entropy: Callable[[int], bytes], previous: Sequence[str] = ()) -> Vault:
        """As the settings hold them (``secrets.key``, ``secrets.previous_keys``)."""
        decoded = [base64.b64decode(text, validate=True) for text in (key, *previous)]
        return cls(decoded[0], entropy=entropy, previous=decoded[1:])

    @property
    def current_key_id(self) -> str:
        """Hex; tells keys apart and reveals nothing of them."""
        return self._current.hex()

    def seal(self, plaintext: bytes, identity: str) -> bytes:
        """Encrypt for the row called ``identity``; a fresh nonce each time."""
        nonce = self._entropy(_NONCE_BYTES)
        header = _VERSION + self._current
        ciphertext = self._ciphers[self._current].encrypt(nonce, plaintext, header + identity.encode())
        return header + nonce + ciphertext

    def open(self, sealed: bytes, identity: str) -> bytes:
        """Decrypt; :class:`Tampered` or :class:`UnknownKey` when it cannot be."""
        header, nonce = sealed[:_HEADER_BYTES], sealed[_HEADER_BYTES : _HEADER_BYTES + _NONCE_BYTES]
        if len(sealed) < _HEADER_BYTES + _NONCE_BYTES + _TAG_BYTES or header[:1] != _VERSION:
            raise Tampered
        cipher = self._ciphers.get(header[1:])
        if cipher is None:
            raise UnknownKey(header[1:].hex())
        try:
            return cipher.decrypt(nonce, sealed[_HEADER_BYTES + _NONCE_BYTES :], header + identity.encode())
        except InvalidTag:
            raise Tampered from None

    def is_current(self, sealed: bytes) -> bool:
        """False when it should be sealed anew with the current key."""
        return sealed[:_HEADER_BYTES] == _VERSION + self._current

    def __repr__(self) -> str:
        return f"Vault(current={self.current_key_id}, keys={len(self._ciphers)})"


def key_id(key: bytes) -> bytes:
    """Eight bytes that name a key: a prefix of a hash under its own label."""
    if len(key) != _KEY_BYTES:
        raise ValueError(f"a vault key has {_KEY_BYTES} bytes, not {len(key)}")
    return hashlib.sha256(b"truedy-edge vault key id\x00" + key).digest()[:_KEY_ID_BYTES]


def vault_of(given: Secrets, *, entropy: Callable[[int], bytes]) -> Vault | None:
    """What seals secrets at rest; None without ``secrets.key``."""
    if given.key is None:
        return None
    previous = [key.get_secret_value() for key in given.previous_keys]
    return Vault.from_base64(given.key.get_secret_value(), entropy=entropy, previous=previous)
