"""What webhooks bring about where calls are carried: one is announced, one is referred on, one is heard of.

The webhooks themselves are answered by :mod:`control.inbound`, in this process or in the control API's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from control.passes import Announced, CallPass, CallPasses, PassesExhausted

__all__ = ["Announcement", "Announcements", "Announcer", "Fate"]


class Fate(Enum):
    """What becomes of a call that a webhook announces."""

    EXPECTED = "expected"
    EXPECTED_ALREADY = "expected already"
    TOO_LATE = "too late"
    FULL = "full"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Announcement:
    """``made`` is the pass of a call that is expected."""

    fate: Fate
    made: CallPass | None = None


class Announcer(Protocol):
    """Who is told; :class:`Announcements`, or the way to it."""

    async def announce(self, announced: Announced) -> Announcement:
        """Expect this call."""
        ...

    async def referred(self, call_sids: tuple[str, ...]) -> str | None:
        """TwiML for the one target that a transfer of one of these calls was authorised for; None for none."""
        ...

    async def progressed(self, call_id: str, status: str) -> None:
        """How a call that the carrier places for us goes."""
        ...


class Announcements:
    """``now`` is the passes' clock; ``draining`` tells whether new calls are refused.

    ``referred`` and ``progressed`` do as :class:`Announcer`'s, at once.
    """

    def __init__(
        self,
        passes: CallPasses,
        *,
        now: Callable[[], float],
        draining: Callable[[], bool],
        referred: Callable[[tuple[str, ...]], str | None],
        progressed: Callable[[str, str], None],
    ) -> None:
        self._passes = passes
        self._now = now
        self._draining = draining
        self._referred = referred
        self._progressed = progressed

    async def announce(self, announced: Announced) -> Announcement:
        """Make a pass for it, unless the edge drains or has as many as it remembers."""
        if self._draining():
            return Announcement(Fate.DRAINING)
        now = self._now()
        self._passes.expire(now)
        known = len(self._passes)
        try:
            made = self._passes.issue(announced, now)
        except PassesExhausted:
            return Announcement(Fate.FULL)
        if made is None:
            return Announcement(Fate.TOO_LATE)
        return Announcement(Fate.EXPECTED if len(self._passes) > known else Fate.EXPECTED_ALREADY, made)

    async def referred(self, call_sids: tuple[str, ...]) -> str | None:
        """See :class:`Announcer`."""
        return self._referred(call_sids)

    async def progressed(self, call_id: str, status: str) -> None:
        """See :class:`Announcer`."""
        self._progressed(call_id, status)
