"""What an agent is sent to know the edge by, as it lies among its row's secrets, and as media is told.

Pure functions over :attr:`control.registry.types.Agent.secrets`; ``now`` is UTC [s since the epoch].
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Final

from pydantic import SecretStr

__all__ = [
    "GRACE_S",
    "HEADER",
    "changed_headers",
    "for_media",
    "new_signing_secret",
    "with_twilio_token",
    "without_signing_secret",
]

HEADER: Final = "header:"
"""What a header's name begins with among an agent's secrets."""

GRACE_S: Final = 3600.0
"""How long requests are signed with the signing secret before the new one, too."""

_SECRET_BYTES: Final = 32
_SIGNING: Final = ("signing_secret", "previous_signing_secret", "previous_signing_secret_until")


def changed_headers(secrets: Mapping[str, str], headers: Mapping[str, SecretStr | None] | None) -> dict[str, str]:
    """``secrets`` with ``headers`` added, whatever the case of their names; None takes one away, or all."""
    if headers is None:
        return {name: value for name, value in secrets.items() if not name.startswith(HEADER)}
    replaced = {HEADER + name.lower() for name in headers}
    kept = {name: value for name, value in secrets.items() if name.lower() not in replaced}
    return kept | {HEADER + name: value.get_secret_value() for name, value in headers.items() if value is not None}


def with_twilio_token(secrets: Mapping[str, str], token: SecretStr | None) -> dict[str, str]:
    """``secrets`` with this token, or with none."""
    kept = {name: value for name, value in secrets.items() if name != "twilio_auth_token"}
    return kept if token is None else kept | {"twilio_auth_token": token.get_secret_value()}


def new_signing_secret(secrets: Mapping[str, str], random: bytes, now: float) -> tuple[str, dict[str, str]]:
    """A secret made of 32 random bytes, and ``secrets`` with it; the one before stays for a while."""
    text = "whsec_" + base64.b64encode(random[:_SECRET_BYTES]).decode()
    changed = {**secrets, "signing_secret": text}
    if "signing_secret" in secrets:
        changed |= {
            "previous_signing_secret": secrets["signing_secret"],
            "previous_signing_secret_until": str(now + GRACE_S),
        }
    return text, changed


def without_signing_secret(secrets: Mapping[str, str]) -> dict[str, str]:
    """Nothing is signed any more."""
    return {name: value for name, value in secrets.items() if name not in _SIGNING}


def for_media(secrets: Mapping[str, str], now: float) -> dict[str, object]:
    """The fields of :class:`media.messages.AgentSpec` that hold secrets; none for an agent without any."""
    fields: dict[str, object] = {}
    headers = {name.removeprefix(HEADER): value for name, value in secrets.items() if name.startswith(HEADER)}
    if headers:
        fields["headers"] = headers
    if (current := secrets.get("signing_secret")) is not None:
        previous = secrets.get("previous_signing_secret")
        live = previous is not None and now < float(secrets.get("previous_signing_secret_until", 0.0))
        fields["signing_secrets"] = (current, previous) if live else (current,)
    if (token := secrets.get("twilio_auth_token")) is not None:
        fields["twilio_auth_token"] = token
    return fields
