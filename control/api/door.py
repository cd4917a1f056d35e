"""Who may come in, and how often: bearer keys, and token buckets for keys and for sources of bad ones."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import math
from collections.abc import Callable
from enum import Enum
from typing import Annotated, Final

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from config.settings import Limits
from control.errors import RateLimited, Unauthorized
from control.operations import Operations
from control.operations.principal import Principal
from edge.throttle import Throttle

__all__ = ["Caller", "Doorkeeper", "Lane", "Ops", "basic_credentials", "bearer_key", "source_of"]

BAD_KEYS_PER_MINUTE: Final = 20
_LONGEST_HEADER: Final = 4096


class Lane(Enum):
    """What a request counts as."""

    REQUEST = "request"
    HANG_UP = "hang_up"


class Doorkeeper:
    """Admits requests by their key.

    A key has ``limits.api_requests_per_minute``. Hang-ups have a bucket of their own, filled as fast as calls can
    begin: an agent that ends each of its calls is never too fast. A source may show 20 bad keys a minute, then each
    further one is told 429; a good key always passes, so that nobody behind a shared address is shut out.
    """

    def __init__(self, operations: Operations, limits: Limits, now: Callable[[], float]) -> None:
        """``now`` is monotonic [s]."""
        self._operations = operations
        self._now = now
        per_minute = limits.api_requests_per_minute
        self._lanes = {
            Lane.REQUEST: Throttle(per_minute / 60, per_minute),
            Lane.HANG_UP: Throttle(limits.attempts_per_second, max(limits.calls_per_account, limits.attempts_burst)),
        }
        self._bad_keys = Throttle(BAD_KEYS_PER_MINUTE / 60, BAD_KEYS_PER_MINUTE)

    async def admit(self, key: str | None, source: str, lane: Lane = Lane.REQUEST) -> Principal:
        """Whose key it is. Raises :class:`Unauthorized` or :class:`RateLimited`."""
        if key is None:
            raise Unauthorized
        try:
            principal = await self._operations.authenticate(key)
        except Unauthorized:
            self._take(self._bad_keys, source)
            raise
        self._take(self._lanes[lane], principal.key_id or "")
        return principal

    def _take(self, buckets: Throttle, key: str) -> None:
        now = self._now()
        if not buckets.admit(key, now):
            raise RateLimited(max(1, math.ceil(buckets.retry_after_s(key, now))))


def bearer_key(request: Request) -> str | None:
    """The key of ``Authorization: Bearer …`` (RFC 6750 §2.1); None for none, or for another scheme."""
    scheme, _, key = request.headers.get("authorization", "")[:_LONGEST_HEADER].partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None


def basic_credentials(request: Request) -> tuple[str, str] | None:
    """User and password of ``Authorization: Basic …`` (RFC 7617); None for none that can be read."""
    scheme, _, encoded = request.headers.get("authorization", "")[:_LONGEST_HEADER].partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return (user, password) if colon else None


def source_of(request: Request) -> str:
    """The peer's address; a /64 of IPv6 is one source. Proxies' headers are not believed: anybody can write them."""
    host = request.client.host if request.client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 6:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return host


_bearer = HTTPBearer(auto_error=False, scheme_name="bearerAuth", description="An API key: `truedy_…`.")


def _principal(request: Request, _: Annotated[object, Depends(_bearer)]) -> Principal:
    principal: Principal = request.state.principal
    return principal


def _operations(request: Request) -> Operations:
    operations: Operations = request.app.state.operations
    return operations


Caller = Annotated[Principal, Depends(_principal)]
Ops = Annotated[Operations, Depends(_operations)]
