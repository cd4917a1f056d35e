"""TLS as SIP uses it, on both sides (RFC 3261 §26.3, RFC 5922)."""

from __future__ import annotations

import ssl
from pathlib import Path

__all__ = ["client_context", "server_context"]


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.2 and up with this PEM chain and key. OSError or ssl.SSLError when they cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.load_cert_chain(certificate, key, password="")  # of a key with a passphrase: an error, not a prompt
    return context


def client_context(ca: Path | None = None) -> ssl.SSLContext:
    """TLS 1.2 and up that verifies chain and name (RFC 5922 §4), against ``ca`` or the system's authorities."""
    context = ssl.create_default_context(cafile=str(ca) if ca else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
