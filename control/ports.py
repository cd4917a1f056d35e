"""The pool of RTP port pairs (RFC 3550 §11: RTP even, RTCP the next odd one).

Control leases a pair for each call and media binds it. A released pair rests before it is leased
again, so that late packets of an old call never reach a new one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

__all__ = ["PortPool", "PortPoolError"]


class PortPoolError(Exception):
    """The configured range has no whole pair."""


class PortPool:
    """Pairs from ``port_min`` to ``port_max`` inclusive; ``rest_s`` [s] between release and next lease.

    Pairs are leased first in, first out, beginning at a place drawn from ``entropy``, so that the
    next port is not the last one's neighbour for an observer to guess.
    """

    def __init__(self, port_min: int, port_max: int, *, rest_s: float, entropy: Callable[[int], bytes]) -> None:
        first = port_min + port_min % 2
        pairs = list(range(first, port_max, 2))
        if not pairs:
            raise PortPoolError(f"no even/odd port pair between {port_min} and {port_max}")
        order = sorted(pairs, key=dict(zip(pairs, _draws(entropy, len(pairs)), strict=True)).__getitem__)
        self._free: deque[int] = deque(order)
        self._resting: deque[tuple[float, int]] = deque()
        self._leased: set[int] = set()
        self._rest_s = rest_s
        self.size = len(pairs)

    @property
    def leased(self) -> int:
        """Pairs in use now."""
        return len(self._leased)

    def resting(self, now: float) -> int:
        """Pairs released and not yet leasable."""
        self._rested(now)
        return len(self._resting)

    def lease(self, now: float) -> int | None:
        """An even port whose successor is free too; None when the pool is empty (answer 503)."""
        self._rested(now)
        if not self._free:
            return None
        port = self._free.popleft()
        self._leased.add(port)
        return port

    def _rested(self, now: float) -> None:
        while self._resting and self._resting[0][0] <= now:
            self._free.append(self._resting.popleft()[1])

    def release(self, port: int, now: float) -> None:
        """Give a pair back; a pair that is not leased is ignored (a second release)."""
        if port in self._leased:
            self._leased.remove(port)
            self._resting.append((now + self._rest_s, port))


def _draws(entropy: Callable[[int], bytes], count: int) -> list[bytes]:
    block = entropy(8 * count)
    return [block[8 * index : 8 * index + 8] for index in range(count)]
