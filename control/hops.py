"""How often a call has come through this edge: calls to our own numbers stop at the second time round.

What the edge originates says so in a header; a call that a carrier returns without it is known by the two numbers of
a leg that is up. A header that somebody made up refuses nobody's call but their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

__all__ = ["HEADER", "LIMIT", "Hops"]

HEADER: Final = "X-Truedy-Hops"
LIMIT: Final = 2
"""A call that has been here so often goes no further (482)."""


class Hops:
    """The legs that the edge has originated and that are up, by who calls whom (E.164)."""

    def __init__(self) -> None:
        self._up: dict[tuple[str, str], list[int]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._up.values()))

    def add(self, from_number: str, to: str, hops: int) -> None:
        """A leg is dialled; ``hops`` is what its header says."""
        self._up.setdefault((from_number, to), []).append(hops)

    def remove(self, from_number: str, to: str, hops: int) -> None:
        """It is over."""
        legs = self._up.get((from_number, to), [])
        if hops in legs:
            legs.remove(hops)
        if not legs:
            self._up.pop((from_number, to), None)

    def of(self, headers: Iterable[tuple[str, str]], from_number: str, to_number: str) -> int:
        """How often a call that comes in has been here: 0 for one that has not."""
        told = (value.strip() for name, value in headers if name.lower() == HEADER.lower())
        counts = [int(value) for value in told if value.isascii() and value.isdigit() and len(value) < 4]
        counts += self._up.get((from_number, to_number), [])
        return max(counts, default=0)
