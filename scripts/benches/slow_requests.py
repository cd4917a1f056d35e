"""What keeps control busy: a burst of slow API calls."""

from __future__ import annotations

import concurrent.futures
import contextlib
import time

from .edge import Served

__all__ = ["slow_requests"]


def slow_requests(edge: Served, seconds: float) -> None:
    """Long listings, writes and what has to be checked, eight at a time, until half a second before the end."""
    until = time.perf_counter() + seconds - 0.5

    def ask() -> None:
        while time.perf_counter() < until:
            with contextlib.suppress(OSError):
                edge.ask("GET", "/calls?limit=100")
                edge.add_agent()
                edge.ask("GET", "/agents?limit=100")

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for _ in range(8):
            pool.submit(ask)
