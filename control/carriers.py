"""What an account has at its carriers: credentials, and numbers imported by proving control of them.

:class:`control.operations.Operations` is the way in. Nothing half-done stays: the carrier is asked first, and what it
confirms becomes one transaction of the registry. What happens at the carrier itself, where an import asked for it,
comes last.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final, TypeVar, get_args

from config.settings import Settings
from control.errors import InUse, NumberAlreadyImported, ProviderVerificationFailed
from control.providers import DISPROVING, Check, Checked, Claim, Connections, Provider, ProviderWarning, Verified
from control.providers.sdk import display_name
from control.registry.types import (
    SUBACCOUNT,
    CarrierImport,
    Connection,
    Integration,
    NotFound,
    Number,
    PhoneNumberTaken,
    Registry,
    RegistryError,
)
from control.resources.integrations import (
    SaveOpenAiIntegration,
    SaveTelnyxIntegration,
    SaveTwilioIntegration,
    Supported,
)
from control.resources.numbers import ImportTelnyxNumber, ImportTwilioNumber

__all__ = ["TOKEN_GRACE_S", "Carriers"]

TOKEN_GRACE_S: Final = 86_400.0
"""How long the token that a new one replaced may still sign Twilio's webhooks [s]."""

_HOST_BYTES: Final = 10
_T = TypeVar("_T")
_log = logging.getLogger("truedy.carriers")


class Carriers:
    """The carriers in service, for all accounts."""

    def __init__(
        self,
        registry: Registry,
        settings: Settings,
        *,
        clock: Callable[[], float],
        entropy: Callable[[int], bytes],
        providers: Mapping[str, Provider],
        connections: Connections,
    ) -> None:
        """``clock`` gives UTC [s since the epoch]; ``connections`` hears of what the registry has just been told."""
        self._registry = registry
        self._timeout_s = settings.providers.request_timeout_s
        self._domain = settings.sip.domain
        self._clock = clock
        self._entropy = entropy
        self._providers = providers
        self._connections = connections

    # credentials

    async def save(
        self, account_id: str, request: SaveTwilioIntegration | SaveTelnyxIntegration | SaveOpenAiIntegration
    ) -> tuple[Integration, tuple[ProviderWarning, ...]]:
        """Checked at the carrier, then kept. :class:`InUse` where numbers of a Twilio account would be left behind."""
        wanted = self._with_what_was_there(account_id, request, await self._saved(account_id, request.provider))
        await self._leave_no_number(wanted)
        checked = await self._check(wanted)
        before = await self._saved(account_id, request.provider)
        wanted = self._with_what_was_there(account_id, request, before)
        wanted = replace(wanted, secrets={**wanted.secrets, **checked.secrets})
        await self._registry.save_integration(wanted)
        await self._pass_on_password(wanted, before)
        return await self._registry.integration(account_id, request.provider), checked.warnings

    async def _saved(self, account_id: str, provider: str) -> Integration | None:
        try:
            return await self._registry.integration(account_id, provider)
        except NotFound:
            return None

    def _with_what_was_there(
        self,
        account_id: str,
        request: SaveTwilioIntegration | SaveTelnyxIntegration | SaveOpenAiIntegration,
        before: Integration | None,
    ) -> Integration:
        now = self._clock()
        match request:
            case SaveTwilioIntegration():
                public = {"account_sid": request.account_sid}
                secrets = {"auth_token": request.auth_token.get_secret_value()}
                if before is not None and before.public == public:
                    secrets = _rotated(before.secrets, secrets["auth_token"], now)
            case SaveTelnyxIntegration():
                public = {}
                secrets = {"api_key": request.api_key.get_secret_value()}
                if request.sip_password is not None:
                    secrets["sip_password"] = request.sip_password.get_secret_value()
            case SaveOpenAiIntegration():
                public = {}
                secrets = {"api_key": request.api_key.get_secret_value()}
        return Integration(account_id, request.provider, public, secrets, now, now)

    async def _leave_no_number(self, wanted: Integration) -> None:
        """Webhooks are looked up by their Account SID: another one would orphan the numbers that are there."""
        before = await self._saved(wanted.account_id, wanted.provider)
        if before is None or before.public == wanted.public:
            return
        if count := await self._registry.numbers_on(wanted.account_id, wanted.provider):
            sid = before.public.get("account_sid")
            raise InUse(
                f"{count} number{' is' if count == 1 else 's are'} imported with {sid}: remove first", numbers=count
            )

    async def _check(self, integration: Integration) -> Checked:
        provider = await self._provider(integration.provider)
        return await self._in_time(integration.provider, provider.check_credentials(integration))

    async def _pass_on_password(self, saved: Integration, before: Integration | None) -> None:
        """A new SIP password reaches the connections that had the old one from here, or none at all."""
        password = saved.secrets.get("sip_password")
        old = before.secrets.get("sip_password") if before is not None else None
        if password is None or password == old:
            return
        for connection in await self._registry.connections(saved.provider, saved.account_id):
            if connection.kind == "credential" and connection.secrets.get("sip_password") in (None, old):
                secrets = {**connection.secrets, "sip_password": password}
                changed = replace(connection, secrets=secrets, updated_at=self._clock())
                await self._registry.save_connection(changed)
                self._connections.changed(changed)

    # numbers

    async def import_number(
        self, number: Number, request: ImportTwilioNumber | ImportTelnyxNumber
    ) -> tuple[Number, tuple[ProviderWarning, ...]]:
        """Verify that the account controls it, and register it.

        :class:`NumberAlreadyImported` while a binding stands: one of another account falls when its own carrier
        denies it, which is asked only after this account has proved itself.
        """
        integration = await self._integration(number)
        claim = _with_password(await self._claim(number), request)
        verified = await self._verify(claim, integration)
        replaces = await self._fallen(number)
        connection = await self._finished(claim, verified)
        number = replace(number, trunk=verified.trunk)
        await self._store(number, CarrierImport(connection, verified.secrets, replaces))
        if connection is not None and not _same(connection, claim.connection):
            self._connections.changed(connection)
        return number, verified.warnings

    async def verify_number(self, account_id: str, number_id: str) -> tuple[Number, tuple[ProviderWarning, ...]]:
        """Ask again for one that is imported: what has changed at its connection is taken over.

        A number on a static trunk has nobody to ask. One that fails stays as it is.
        """
        number = await self._registry.number(account_id, number_id)
        if number.provider not in get_args(Supported):
            return number, ()
        claim = await self._claim(number)
        verified = await self._verify(claim, await self._integration(number))
        connection = await self._finished(claim, verified)
        carrier = CarrierImport(connection, verified.secrets)
        number = await self._registry.refresh_number(account_id, number_id, carrier)
        if connection is not None and not _same(connection, claim.connection):
            self._connections.changed(connection)
        return number, verified.warnings

    async def release(self, account_id: str, number_id: str) -> Number:
        """Deregister it here; the carrier is not told."""
        removal = await self._registry.delete_number(account_id, number_id)
        if removal.connection_id is not None:
            self._connections.removed(removal.connection_id)
        return removal.number

    async def _integration(self, number: Number) -> Integration:
        try:
            return await self._registry.integration(number.account_id, number.provider)
        except NotFound as error:
            raise ProviderVerificationFailed(number.provider, Check.INTEGRATION_MISSING) from error

    async def _claim(self, number: Number) -> Claim:
        """It asks the carrier to change nothing."""
        if number.provider_connection_id is None:
            return Claim(number.account_id, number.phone_number, number.provider_account_sid or "")
        try:
            known = await self._registry.connection(number.account_id, number.provider, number.provider_connection_id)
        except NotFound:
            known = None
        host = known.host if known is not None else None
        host = host or f"{_label(self._entropy(_HOST_BYTES))}.{self._domain}"
        return Claim(number.account_id, number.phone_number, number.provider_connection_id, known, host)

    async def _verify(self, claim: Claim, integration: Integration) -> Verified:
        provider = await self._provider(integration.provider)
        return await self._in_time(integration.provider, provider.verify(claim, integration))

    async def _provider(self, name: str) -> Provider:
        """Ready to ask: the time it takes to be so, once in a process, is not the carrier's."""
        provider = self._providers.get(name)
        if provider is None:
            raise ProviderVerificationFailed(name, Check.OUT_OF_SERVICE)
        await provider.load()
        return provider

    async def _in_time(self, provider: str, answer: Awaitable[_T]) -> _T:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await answer
        except TimeoutError as error:
            message = f"{display_name(provider)} did not answer within {self._timeout_s:g} s"
            raise ProviderVerificationFailed(provider, Check.TIMEOUT, message) from error

    async def _fallen(self, number: Number) -> str | None:
        """The id of the binding to replace; None for a number that is free."""
        holder = await self._registry.number_by_phone(number.phone_number)
        if holder is None:
            return None
        if holder.account_id == number.account_id or not await self._disproved(holder):
            raise NumberAlreadyImported(number.phone_number)
        return holder.id

    async def _disproved(self, holder: Number) -> bool:
        """Whether the holder's own carrier denies it. One that cannot be asked denies nothing."""
        if holder.provider not in self._providers:
            return False
        try:
            await self._verify(await self._claim(holder), await self._integration(holder))
        except ProviderVerificationFailed as error:
            return error.check in DISPROVING
        except RegistryError:
            return False
        return False

    async def _finished(self, claim: Claim, verified: Verified) -> Connection | None:
        """The connection to keep. A rotated password is kept at once where other numbers hang on the connection."""
        connection = verified.connection
        if connection is None:
            return None
        if verified.finish is not None:
            connection = await self._in_time(connection.provider, verified.finish())
        now = self._clock()
        connection = replace(connection, created_at=now, updated_at=now)
        if verified.finish is not None and claim.connection is not None:
            await self._registry.save_connection(connection)
            self._connections.changed(connection)
        return connection

    async def _store(self, number: Number, carrier: CarrierImport) -> None:
        try:
            removal = await self._registry.create_number(number, carrier)
        except PhoneNumberTaken as error:
            raise NumberAlreadyImported(number.phone_number) from error
        except NotFound as error:
            if error.kind == "integration":
                raise ProviderVerificationFailed(number.provider, Check.INTEGRATION_MISSING) from error
            raise
        if removal is not None:
            gone = removal.number
            _log.warning("%s leaves account %s, whose carrier denies it", gone.phone_number, gone.account_id)
            if removal.connection_id is not None:
                self._connections.removed(removal.connection_id)


def _with_password(claim: Claim, request: ImportTwilioNumber | ImportTelnyxNumber) -> Claim:
    match request:
        case ImportTelnyxNumber(sip_password=password, rotate_sip_password=rotate):
            text = password.get_secret_value() if password is not None else None
            return replace(claim, sip_password=text, rotate_sip_password=rotate)
        case _:
            return claim


def _rotated(before: Mapping[str, str], token: str, now: float) -> dict[str, str]:
    """A Twilio account's secrets with a new token: its subaccounts' stay, the old one may sign for a while."""
    kept = {name: value for name, value in before.items() if name.startswith(SUBACCOUNT)}
    if (old := before.get("auth_token")) is not None and old != token:
        previous = {"previous_auth_token": old, "previous_auth_token_until": repr(now + TOKEN_GRACE_S)}
    elif now < float(before.get("previous_auth_token_until", 0.0)):
        previous = {name: before[name] for name in ("previous_auth_token", "previous_auth_token_until")}
    else:
        previous = {}
    return {"auth_token": token, **previous, **kept}


def _label(random: bytes) -> str:
    """A DNS label that cannot be guessed."""
    return base64.b32encode(random).decode().rstrip("=").lower()


def _same(connection: Connection, known: Connection | None) -> bool:
    """But for the times."""
    return known is not None and connection == replace(
        known, created_at=connection.created_at, updated_at=connection.updated_at
    )
