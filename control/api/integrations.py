"""``/telephony/integrations``: the credentials that numbers are imported with."""

from __future__ import annotations

from fastapi import APIRouter

from control.api.door import Caller, Ops
from control.api.envelopes import Answer, RequestMeta, documented
from control.api.routing import PREFIX, GuardedRoute
from control.errors import Code
from control.resources.integrations import (
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
)

__all__ = ["router"]

TWILIO = f"{PREFIX}/telephony/integrations/twilio"
TELNYX = f"{PREFIX}/telephony/integrations/telnyx"
OPENAI = f"{PREFIX}/telephony/integrations/openai"

router = APIRouter(route_class=GuardedRoute, tags=["integrations"])


class TwilioIntegrationAnswer(Answer[TwilioIntegration]):
    """Twilio credentials, masked."""


class TelnyxIntegrationAnswer(Answer[TelnyxIntegration]):
    """Telnyx credentials, masked."""


class SavedTwilioIntegrationAnswer(Answer[SavedTwilioIntegration]):
    """Twilio credentials just saved, masked."""


class SavedTelnyxIntegrationAnswer(Answer[SavedTelnyxIntegration]):
    """Telnyx credentials just saved, masked."""


class OpenAiIntegrationAnswer(Answer[OpenAiIntegration]):
    """An OpenAI key, masked."""


class SavedOpenAiIntegrationAnswer(Answer[SavedOpenAiIntegration]):
    """An OpenAI key just saved, masked."""


class IntegrationDeletedAnswer(Answer[IntegrationDeleted]):
    """The credentials are gone."""


@router.put(
    TWILIO,
    responses=documented(Code.PROVIDER_VERIFICATION_FAILED, Code.CONFLICT, Code.SECRETS_UNAVAILABLE, body=True),
)
async def save_twilio_integration(
    body: SaveTwilioIntegration, by: Caller, operations: Ops, meta: RequestMeta
) -> SavedTwilioIntegrationAnswer:
    """Save Twilio credentials, once Twilio has taken them; they replace those that are there.

    With a new Auth Token, webhooks that the one before has signed are taken for a day. Another Account SID is refused
    while numbers of the one before are imported.
    """
    return SavedTwilioIntegrationAnswer(data=await operations.save_twilio_integration(by, body), meta=meta)


@router.get(TWILIO, responses=documented(Code.NOT_FOUND, Code.SECRETS_UNAVAILABLE))
async def get_twilio_integration(by: Caller, operations: Ops, meta: RequestMeta) -> TwilioIntegrationAnswer:
    """The account's Twilio credentials, without their secrets."""
    return TwilioIntegrationAnswer(data=await operations.twilio_integration(by), meta=meta)


@router.delete(TWILIO, responses=documented(Code.NOT_FOUND, Code.CONFLICT, writes=True))
async def delete_twilio_integration(by: Caller, operations: Ops, meta: RequestMeta) -> IntegrationDeletedAnswer:
    """Forget the Twilio credentials. Refused while numbers imported with them are there."""
    return IntegrationDeletedAnswer(data=await operations.delete_integration(by, "twilio"), meta=meta)


@router.put(
    TELNYX,
    responses=documented(Code.PROVIDER_VERIFICATION_FAILED, Code.SECRETS_UNAVAILABLE, body=True),
)
async def save_telnyx_integration(
    body: SaveTelnyxIntegration, by: Caller, operations: Ops, meta: RequestMeta
) -> SavedTelnyxIntegrationAnswer:
    """Save Telnyx credentials, once Telnyx has taken the key; they replace those that are there.

    A new `sip_password` goes on to the connections that registered with the one before, or had none.
    """
    return SavedTelnyxIntegrationAnswer(data=await operations.save_telnyx_integration(by, body), meta=meta)


@router.get(TELNYX, responses=documented(Code.NOT_FOUND, Code.SECRETS_UNAVAILABLE))
async def get_telnyx_integration(by: Caller, operations: Ops, meta: RequestMeta) -> TelnyxIntegrationAnswer:
    """The account's Telnyx credentials, without their secrets."""
    return TelnyxIntegrationAnswer(data=await operations.telnyx_integration(by), meta=meta)


@router.delete(TELNYX, responses=documented(Code.NOT_FOUND, Code.CONFLICT, writes=True))
async def delete_telnyx_integration(by: Caller, operations: Ops, meta: RequestMeta) -> IntegrationDeletedAnswer:
    """Forget the Telnyx credentials. Refused while numbers imported with them are there."""
    return IntegrationDeletedAnswer(data=await operations.delete_integration(by, "telnyx"), meta=meta)


@router.put(
    OPENAI,
    responses=documented(Code.PROVIDER_VERIFICATION_FAILED, Code.SECRETS_UNAVAILABLE, body=True),
)
async def save_openai_integration(
    body: SaveOpenAiIntegration, by: Caller, operations: Ops, meta: RequestMeta
) -> SavedOpenAiIntegrationAnswer:
    """Save an OpenAI API key, once OpenAI has taken it; it replaces the one that is there."""
    return SavedOpenAiIntegrationAnswer(data=await operations.save_openai_integration(by, body), meta=meta)


@router.get(OPENAI, responses=documented(Code.NOT_FOUND, Code.SECRETS_UNAVAILABLE))
async def get_openai_integration(by: Caller, operations: Ops, meta: RequestMeta) -> OpenAiIntegrationAnswer:
    """The account's OpenAI key, without itself."""
    return OpenAiIntegrationAnswer(data=await operations.openai_integration(by), meta=meta)


@router.delete(OPENAI, responses=documented(Code.NOT_FOUND, Code.CONFLICT, writes=True))
async def delete_openai_integration(by: Caller, operations: Ops, meta: RequestMeta) -> IntegrationDeletedAnswer:
    """Forget the OpenAI key. Calls to agents of `openai-realtime` are refused from now on."""
    return IntegrationDeletedAnswer(data=await operations.delete_integration(by, "openai"), meta=meta)
