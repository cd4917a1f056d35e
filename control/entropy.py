"""The one place where control reads the operating system's randomness and clocks.

Everything else takes them as arguments, so that a test can hand in its own.
"""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Callable

__all__ = ["entropy", "monotonic_clock", "new_id", "wall_clock"]


def entropy(count: int) -> bytes:
    """``count`` bytes from the operating system's generator."""
    return secrets.token_bytes(count)


def wall_clock() -> float:
    """UTC [s since the epoch]; may jump. For records that people read, never for measuring."""
    return time.time()


def monotonic_clock() -> float:
    """Seconds from an arbitrary start; never goes back. For measuring."""
    return time.monotonic()


def new_id(source: Callable[[int], bytes]) -> str:
    """A random UUID (RFC 9562 version 4) as text, drawn from ``source``."""
    return str(uuid.UUID(bytes=source(16), version=4))
