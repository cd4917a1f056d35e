"""Credentials that an account keeps here, sealed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from control.registry import types as rows
from control.resources.base import Request, Resource
from control.resources.fields import AccountSid, Credential, SipPassword, Timestamp, moment
from control.resources.notices import WithWarnings

__all__ = [
    "Integrated",
    "IntegrationDeleted",
    "OpenAiIntegration",
    "SaveOpenAiIntegration",
    "SaveTelnyxIntegration",
    "SaveTwilioIntegration",
    "SavedOpenAiIntegration",
    "SavedTelnyxIntegration",
    "SavedTwilioIntegration",
    "Supported",
    "TelnyxIntegration",
    "TwilioIntegration",
    "openai_integration",
    "telnyx_integration",
    "twilio_integration",
]


Supported = Literal["twilio", "telnyx"]
"""The carriers that numbers are imported from."""
Integrated = Literal["twilio", "telnyx", "openai"]
"""Whom credentials are kept for."""


class SaveTwilioIntegration(Request):
    """Your credentials at Twilio: the Auth Token verifies its webhooks."""

    account_sid: AccountSid
    auth_token: Credential = Field(description="Your Twilio Auth Token.")

    @property
    def provider(self) -> Literal["twilio"]:
        """Whose they are."""
        return "twilio"


class SaveTelnyxIntegration(Request):
    """Your credentials at Telnyx."""

    api_key: Credential = Field(description="Your Telnyx V2 API key.")
    sip_password: SipPassword | None = Field(
        default=None, description="The password of your credential connections, where Telnyx does not tell it."
    )

    @property
    def provider(self) -> Literal["telnyx"]:
        """Whose they are."""
        return "telnyx"


class SaveOpenAiIntegration(Request):
    """Your key at OpenAI, for agents of ``openai-realtime``."""

    api_key: Credential = Field(description="Your OpenAI API key.")

    @property
    def provider(self) -> Literal["openai"]:
        """Whose it is."""
        return "openai"


class _Integration(Resource):
    created_at: Timestamp
    updated_at: Timestamp


class TwilioIntegration(_Integration):
    """Credentials that are kept sealed: of a secret there is only that it is there."""

    provider: Literal["twilio"]
    account_sid: str
    auth_token_set: bool
    previous_auth_token_until: Timestamp | None = Field(
        description="After a new Auth Token was saved: how long webhooks signed with the one before are taken."
    )
    subaccounts: list[str] = Field(description="Subaccounts whose numbers were imported, and whose tokens are kept.")


class TelnyxIntegration(_Integration):
    """Credentials that are kept sealed: of a secret there is only that it is there."""

    provider: Literal["telnyx"]
    api_key_set: bool
    sip_password_set: bool


class OpenAiIntegration(_Integration):
    """A key that is kept sealed: there is only that it is there."""

    provider: Literal["openai"]
    api_key_set: bool


class SavedTwilioIntegration(TwilioIntegration, WithWarnings):
    """Credentials just checked at Twilio, and kept."""


class SavedTelnyxIntegration(TelnyxIntegration, WithWarnings):
    """Credentials just checked at Telnyx, and kept."""


class SavedOpenAiIntegration(OpenAiIntegration, WithWarnings):
    """A key just tried at OpenAI, and kept."""


class IntegrationDeleted(Resource):
    """The credentials are gone."""

    provider: Integrated
    deleted: Literal[True] = True


def twilio_integration(row: rows.Integration, now: float) -> TwilioIntegration:
    """Masked; ``now`` is UTC [s since the epoch]."""
    until = float(row.secrets.get("previous_auth_token_until", 0.0))
    subaccounts = (name.removeprefix(rows.SUBACCOUNT) for name in row.secrets if name.startswith(rows.SUBACCOUNT))
    return TwilioIntegration(
        provider="twilio",
        account_sid=row.public["account_sid"],
        auth_token_set="auth_token" in row.secrets,
        previous_auth_token_until=moment(until) if now < until else None,
        subaccounts=sorted(subaccounts),
        created_at=moment(row.created_at),
        updated_at=moment(row.updated_at),
    )


def telnyx_integration(row: rows.Integration) -> TelnyxIntegration:
    """Masked."""
    return TelnyxIntegration(
        provider="telnyx",
        api_key_set="api_key" in row.secrets,
        sip_password_set="sip_password" in row.secrets,
        created_at=moment(row.created_at),
        updated_at=moment(row.updated_at),
    )


def openai_integration(row: rows.Integration) -> OpenAiIntegration:
    """Masked."""
    return OpenAiIntegration(
        provider="openai",
        api_key_set="api_key" in row.secrets,
        created_at=moment(row.created_at),
        updated_at=moment(row.updated_at),
    )
