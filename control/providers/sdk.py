"""What both carriers' SDKs need around them: they are big, they wait for long, and they raise anything.

They are imported at their first use, off the loop: it carries calls, and importing one holds it up for a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["OnFirstUse"]

_T = TypeVar("_T")


class OnFirstUse(Generic[_T]):
    """Something that is made in a thread when it is first asked for, and kept."""

    def __init__(self, make: Callable[[], _T]) -> None:
        self._make = make
        self._made: _T | None = None

    async def get(self) -> _T:
        """It. Two who ask at once may both make it; who stops waiting leaves the imports to the next."""
        if self._made is None:
            self._made = await asyncio.to_thread(self._make)
        return self._made
