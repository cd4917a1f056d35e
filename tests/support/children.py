"""A process that is kept, by hand."""

from __future__ import annotations

import asyncio

__all__ = ["FakeChild"]


class FakeChild:
    """A :class:`control.keeper.Link` that does as it is told."""

    def __init__(self, pid: int = 1) -> None:
        self.pid = pid
        self.killed = False
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def send(self, data: bytes) -> None:
        """Heard by nobody."""

    def hang_up(self) -> None:
        """It leaves at once."""
        self.die(0)

    def kill(self) -> None:
        """It dies at once."""
        self.killed = True
        self.die(-9)

    def die(self, status: int) -> None:
        """The first time counts."""
        if not self._ended.done():
            self._ended.set_result(status)

    async def ended(self) -> int:
        """Its status."""
        return await asyncio.shield(self._ended)
