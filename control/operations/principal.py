"""Who asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from control.errors import Forbidden

__all__ = ["Principal", "require_operator"]


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. ``account_id`` None: the console, which stands above accounts."""

    account_id: str | None
    role: Literal["account", "operator"]
    key_id: str | None = None

    @classmethod
    def console(cls, account_id: str | None = None) -> Principal:
        """Whoever has the edge's own command line is its operator, in one account or above them all."""
        return cls(account_id, "operator")

    @property
    def operator(self) -> bool:
        """May do what an account may not."""
        return self.role == "operator"

    @property
    def account(self) -> str:
        """The account this is about; :class:`Forbidden` above accounts."""
        if self.account_id is None:
            raise Forbidden("Choose an account first")
        return self.account_id

    @property
    def name(self) -> str:
        """As a call's record names who asked."""
        return f"key {self.key_id}" if self.key_id else "the console"


def require_operator(by: Principal) -> None:
    """Raises :class:`Forbidden` for anybody else."""
    if not by.operator:
        raise Forbidden
