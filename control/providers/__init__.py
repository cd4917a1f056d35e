"""Carriers whose numbers can be imported: what one has to know how to do.

Each carrier is a module here; :data:`control.operations.Operations` is handed those that are in service. A carrier
that is not, or an account without its credentials, fails the import's verification (``integration_missing``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from control.registry.types import Integration

__all__ = ["Claim", "Provider"]


@dataclass(frozen=True, slots=True)
class Claim:
    """An account says that ``phone_number`` (E.164) is its own at the carrier.

    ``reference`` is what the carrier calls the place it is kept in: Twilio's Account SID, Telnyx's connection id.
    """

    account_id: str
    phone_number: str
    reference: str


class Provider(Protocol):
    """A carrier's account, as far as importing needs it."""

    async def verify(self, claim: Claim, integration: Integration) -> str:
        """Check the claim with the account's credentials; returns the trunk that the number's calls will come in on.

        Raises :class:`control.errors.ProviderVerificationFailed`, also when the carrier cannot be reached in time.
        """
        ...
