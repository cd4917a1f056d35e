"""How many attempts a source or a user may make: one token bucket each, in a bounded table."""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["Throttle"]


class Throttle:
    """Token buckets by key: ``burst`` attempts at once, then ``rate_per_s`` [1/s].

    The table holds ``max_sources`` buckets; the one unused for longest makes room. A source that was
    forgotten starts with a full bucket: a flood of forged sources cannot shut a real one out, and
    costs no more memory or time than any other packet. Call :meth:`admit` once an attempt; users are
    held apart from addresses by their key, e.g. ``user:alice``.
    """

    __slots__ = ("_buckets", "_burst", "_max_sources", "_rate_per_s")

    def __init__(self, rate_per_s: float, burst: int, max_sources: int = 10_000) -> None:
        if rate_per_s <= 0 or burst < 1 or max_sources < 1:
            raise ValueError("rate_per_s, burst and max_sources must be positive")
        self._rate_per_s = rate_per_s
        self._burst = float(burst)
        self._max_sources = max_sources
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def admit(self, source: str, now: float) -> bool:
        """Take one token of ``source``; False when it has none left (the attempt costs nothing then)."""
        tokens, since = self._buckets.get(source, (self._burst, now))
        tokens = min(self._burst, tokens + max(0.0, now - since) * self._rate_per_s)
        admitted = tokens >= 1.0
        self._remember(source, tokens - 1.0 if admitted else tokens, now)
        return admitted

    def retry_after_s(self, source: str, now: float) -> float:
        """Seconds until ``source`` has a token again; 0 when it has one."""
        tokens, since = self._buckets.get(source, (self._burst, now))
        tokens += max(0.0, now - since) * self._rate_per_s
        return max(0.0, (1.0 - tokens) / self._rate_per_s)

    def _remember(self, source: str, tokens: float, now: float) -> None:
        self._buckets[source] = (tokens, now)
        self._buckets.move_to_end(source)
        if len(self._buckets) > self._max_sources:
            self._buckets.popitem(last=False)
