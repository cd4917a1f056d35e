"""What the SIP engine asks of its I/O shell, :mod:`edge.transport`. Values only."""

from __future__ import annotations

from dataclasses import dataclass

from edge.events import Address, Flow, TransportName

__all__ = ["Action", "Close", "Dispatch", "Resolve", "Target", "Transmit"]


@dataclass(frozen=True, slots=True)
class Target:
    """One place to send a request to (RFC 3263 §4); ``server_name`` is what a TLS certificate must match."""

    transport: TransportName
    address: Address
    server_name: str | None = None


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send on a known flow. If that connection is gone, ``fallback`` is opened instead (RFC 3261 §18.2.2)."""

    data: bytes
    flow: Flow
    fallback: Target | None = None


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Send a request to a target: over UDP from the listener ``local``, else on a pooled or new connection.

    On failure the shell calls ``Endpoint.transport_failed(token, now)``.
    """

    data: bytes
    target: Target
    token: str
    local: Address | None = None


@dataclass(frozen=True, slots=True)
class Resolve:
    """Find targets for a URI's host (RFC 3263: NAPTR, SRV, A/AAAA).

    The shell answers with ``Endpoint.resolved(query, targets, now)``; an empty tuple is a failure.
    ``port`` and ``transport`` are None where the URI does not say.
    """

    query: int
    host: str
    port: int | None
    transport: TransportName | None
    secure: bool = False


@dataclass(frozen=True, slots=True)
class Close:
    """Close a connection (a protocol violation on a stream); ``reason`` is for the log."""

    flow: Flow
    reason: str


Action = Transmit | Dispatch | Resolve | Close
