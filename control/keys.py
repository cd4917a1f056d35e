"""API keys: ``truedy_`` and 256 random bits. The registry holds only the SHA-256.

A key is shown once, when it is made. A plain SHA-256 is right here, and a password hash would not be: there is
nothing to guess in 256 random bits, and the check runs on every request.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from control.entropy import new_id
from control.registry.types import ApiKey, NotFound, Registry

__all__ = ["PREFIX", "KeyAuthority", "NewKey", "Role", "digest_of", "generate_key"]

PREFIX = "truedy_"
Role = Literal["account", "operator"]

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_KEY_BYTES = 32
_TEXT_LENGTH = 43  # ceil(256 / log2(62))
_FORM = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{_TEXT_LENGTH}}}", re.ASCII)
_HINT_LENGTH = 4


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made: its row, and the text that is shown this once."""

    row: ApiKey
    text: str = field(repr=False)


def generate_key(entropy: Callable[[int], bytes]) -> str:
    """A new key's text."""
    number = int.from_bytes(entropy(_KEY_BYTES))
    digits: list[str] = []
    for _ in range(_TEXT_LENGTH):
        number, rest = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[rest])
    return PREFIX + "".join(reversed(digits))


def digest_of(text: str) -> bytes:
    """What the registry stores of a key."""
    return hashlib.sha256(text.encode()).digest()


class KeyAuthority:
    """Makes, checks, replaces and revokes API keys."""

    __slots__ = ("_clock", "_entropy", "_registry")

    def __init__(self, registry: Registry, *, entropy: Callable[[int], bytes], clock: Callable[[], float]) -> None:
        """``clock`` gives UTC [s since the epoch]."""
        self._registry = registry
        self._entropy = entropy
        self._clock = clock

    async def create(self, account_id: str, role: Role = "account") -> NewKey:
        """A new key for an account; :class:`NotFound` when there is no such account."""
        await self._registry.account(account_id)
        text = generate_key(self._entropy)
        row = ApiKey(new_id(self._entropy), account_id, role, text[-_HINT_LENGTH:], self._clock())
        await self._registry.create_key(row, digest_of(text))
        return NewKey(row, text)

    async def authenticate(self, key: str) -> ApiKey | None:
        """The row of a live key; None for anything else, without saying why.

        ``key`` is as hostile as the network it came from. The store compares digests in constant time.
        """
        if _FORM.fullmatch(key) is None:
            return None
        row = await self._registry.key_by_digest(digest_of(key))
        return row if row is not None and row.revoked_at is None else None

    async def revoke(self, key_id: str) -> None:
        """It is refused from now on, in every process; :class:`NotFound` for an unknown id."""
        await self._registry.revoke_key(key_id, self._clock())

    async def rotate(self, key_id: str) -> NewKey:
        """A new key with the old one's account and role; the old one is revoked once the new one is stored."""
        old = next((row for row in await self._registry.keys() if row.id == key_id and row.revoked_at is None), None)
        if old is None:
            raise NotFound("key", key_id)
        new = await self.create(old.account_id, "operator" if old.role == "operator" else "account")
        await self.revoke(key_id)
        return new
