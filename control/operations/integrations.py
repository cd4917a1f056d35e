"""Credentials that an account keeps here."""

from __future__ import annotations

from control.operations.base import OperationsBase, told
from control.operations.principal import Principal
from control.resources.integrations import (
    Integrated,
    IntegrationDeleted,
    OpenAiIntegration,
    SavedOpenAiIntegration,
    SavedTelnyxIntegration,
    SavedTwilioIntegration,
    SaveOpenAiIntegration,
    SaveTelnyxIntegration,
    SaveTwilioIntegration,
    TelnyxIntegration,
    TwilioIntegration,
    openai_integration,
    telnyx_integration,
    twilio_integration,
)
from control.resources.notices import with_warnings

__all__ = ["IntegrationOperations"]


class IntegrationOperations(OperationsBase):
    """One set for each carrier and for OpenAI."""

    @told
    async def save_twilio_integration(self, by: Principal, request: SaveTwilioIntegration) -> SavedTwilioIntegration:
        """Checked at Twilio first; a new token leaves the one before to webhooks that it still signs."""
        saved, warnings = await self._carriers.save(by.account, request)
        return with_warnings(SavedTwilioIntegration, twilio_integration(saved, self._clock()), warnings)

    @told
    async def save_telnyx_integration(self, by: Principal, request: SaveTelnyxIntegration) -> SavedTelnyxIntegration:
        """Checked at Telnyx first; a new SIP password goes on to the connections that used the one before."""
        saved, warnings = await self._carriers.save(by.account, request)
        return with_warnings(SavedTelnyxIntegration, telnyx_integration(saved), warnings)

    @told
    async def twilio_integration(self, by: Principal) -> TwilioIntegration:
        """The account's, masked."""
        return twilio_integration(await self._registry.integration(by.account, "twilio"), self._clock())

    @told
    async def telnyx_integration(self, by: Principal) -> TelnyxIntegration:
        """The account's, masked."""
        return telnyx_integration(await self._registry.integration(by.account, "telnyx"))

    @told
    async def save_openai_integration(self, by: Principal, request: SaveOpenAiIntegration) -> SavedOpenAiIntegration:
        """Tried at OpenAI first; the next call is made with it."""
        saved, warnings = await self._carriers.save(by.account, request)
        return with_warnings(SavedOpenAiIntegration, openai_integration(saved), warnings)

    @told
    async def openai_integration(self, by: Principal) -> OpenAiIntegration:
        """The account's, masked."""
        return openai_integration(await self._registry.integration(by.account, "openai"))

    @told
    async def delete_integration(self, by: Principal, provider: Integrated) -> IntegrationDeleted:
        """``conflict`` while numbers need it."""
        await self._registry.delete_integration(by.account, provider)
        return IntegrationDeleted(provider=provider)
