"""OpenAI: whether it takes an API key. No numbers come from there; agents of ``openai-realtime`` talk through it."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

from config.settings import Settings
from control.providers import Check, Checked, Claim, Verified
from control.providers.sdk import CarrierError, OnFirstUse, Refused, WarningCode, failed, failure, warning
from control.registry.types import Integration

__all__ = ["OpenAiProvider"]

_NAME: Final = "openai"
_OK: Final = 200


def _load() -> Any:
    web = import_module("control.providers.web")
    web.rehearse()
    return web


_web = OnFirstUse(_load)


class OpenAiProvider:
    """:class:`control.providers.Provider` for OpenAI. A visit is one request."""

    def __init__(self, settings: Settings) -> None:
        self._base_url = settings.providers.openai_base_url
        self._timeout_s = settings.providers.request_timeout_s

    async def load(self) -> None:
        """Import what HTTP takes."""
        await _web.get()

    async def check_credentials(self, integration: Integration) -> Checked:
        """Whether the key lists models, which costs nothing. A restricted key need not be allowed to."""
        status = await self._status(integration.secrets.get("api_key", ""))
        if status == _OK:
            return Checked()
        if status == 403:
            what = "The key may not list models: that it may use the Realtime API shows with the first call"
            return Checked((warning(WarningCode.KEY_NOT_TRIED, what),))
        refused = Refused(status)
        if status == 401:
            advice = "Make a new secret key in OpenAI's dashboard, and save that."
            raise failed(_NAME, Check.CREDENTIALS, "OpenAI refuses the API key", refused, advice=advice)
        raise failure(_NAME, refused)

    async def _status(self, key: str) -> int:
        web = await _web.get()
        try:
            async with web.client(self._timeout_s) as client:
                response = await client.get(f"{self._base_url}/models", headers={"Authorization": f"Bearer {key}"})
        except web.ERRORS as error:
            raise failure(_NAME, web.error_of(error)) from error
        except CarrierError as error:
            raise failure(_NAME, error) from error
        return int(response.status_code)

    async def verify(self, claim: Claim, integration: Integration) -> Verified:
        """It has no phone numbers."""
        raise failed(_NAME, Check.OUT_OF_SERVICE, "OpenAI has no phone numbers")
