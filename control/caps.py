"""How many calls are up, and where the next one is too many."""

from __future__ import annotations

from collections import Counter

from config.settings import Limits
from control.call import Call

__all__ = ["Caps"]


class Caps:
    """Counts each call for the edge, its trunk, its account and, coming in, its number and its caller.

    What is full is told by its name in :data:`control.call_table.REFUSALS`.
    """

    def __init__(self, limits: Limits) -> None:
        self._most = {
            "edge_full": limits.calls,
            "trunk_full": limits.calls_per_trunk,
            "account_full": limits.calls_per_account,
            "number_full": limits.calls_per_did,
            "caller_full": limits.calls_per_caller,
            "fallback_full": limits.fallback_calls_per_account,
        }
        self._live: Counter[tuple[str, str]] = Counter()

    def before_look_up(self, trunk: str) -> str | None:
        """What is full already, whoever is called."""
        return self._first_full(("edge_full", ""), ("trunk_full", trunk))

    def enter(self, call: Call) -> str | None:
        """Count a call, unless something is full. Next: :meth:`leave`, at its end."""
        return self._count(call, *_keys(call))

    def enter_fallback(self, call: Call) -> str | None:
        """Count one that its number's fallback takes: beyond its account's cap, within a cap of its own."""
        keys = (("edge_full", ""), ("trunk_full", call.trunk), ("fallback_full", call.account_id))
        return self._count(call, *(key for key in keys if key not in call.counted))

    def leave(self, call: Call) -> None:
        """It counts no more."""
        for key in call.counted:
            self._live[key] -= 1
            if not self._live[key]:
                del self._live[key]
        call.counted = ()

    def _count(self, call: Call, *keys: tuple[str, str]) -> str | None:
        full = self._first_full(*keys)
        if full is None:
            self._live.update(keys)
            call.counted += keys
        return full

    def _first_full(self, *keys: tuple[str, str]) -> str | None:
        return next((key[0] for key in keys if self._live[key] >= self._most[key[0]]), None)


def _keys(call: Call) -> tuple[tuple[str, str], ...]:
    """What a call counts for."""
    keys: tuple[tuple[str, str], ...] = (
        ("edge_full", ""),
        ("trunk_full", call.trunk),
        ("account_full", call.account_id),
    )
    if call.direction == "outbound":
        return keys
    caller = (("caller_full", call.from_number),) if call.from_number.startswith("+") else ()
    return (*keys, ("number_full", call.to_number), *caller)
