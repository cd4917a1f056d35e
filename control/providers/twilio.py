"""Twilio, through its own SDK: proving that a webhook is Twilio's, and that an account holds a number.

The SDK's ``AsyncTwilioHttpClient`` takes a time-out and ignores it, and its synchronous client would hold a thread for
as long as an answer trickles in. So the SDK is given an HTTP client of ours, which can be cancelled at any moment and
is closed at the end of each visit.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, urlsplit

from config.settings import Settings
from control.inbound import WEBHOOK_PATH, public_url
from control.providers import Check, Checked, Claim, ProviderWarning, Verified
from control.providers.sdk import (
    CarrierError,
    OnFirstUse,
    Refused,
    WarningCode,
    WrongAnswer,
    failed,
    failure,
    field,
    required,
    warning,
)
from control.registry.types import SUBACCOUNT, Integration
from control.routing import PASS_TRUNK
from control.twilio_calls import TwilioRefused

if TYPE_CHECKING:
    import httpx

__all__ = ["TwilioCallsRest", "TwilioProvider", "signature_ok"]

_NAME: Final = "twilio"
_PAGE: Final = 100
_SUBACCOUNTS: Final = 1000
_ACCOUNT_NOT_ACTIVE: Final = "20005"
_DEMO_HOST: Final = "demo.twilio.com"
"""Where a number's Voice URL points before anybody has set it."""
_LONGEST: Final = 200
"""Of a URL, in a message."""

_log = logging.getLogger("truedy.providers.twilio")


# --- webhooks ---------------------------------------------------------------------------------


def _load_validator() -> Any:
    return import_module("twilio.request_validator").RequestValidator


_validator = OnFirstUse(_load_validator)


async def signature_ok(tokens: Iterable[str], url: str, form: Sequence[tuple[str, str]], signature: str | None) -> bool:
    """Whether one of ``tokens`` made ``signature``, the header ``X-Twilio-Signature``, for this request.

    ``url`` is the public one that Twilio was given, with its query, whatever the request's own headers say. ``form``
    are all parameters of the body in any order, blank and repeated ones too. False for what is no signature or no URL.
    """
    if not signature or not signature.isascii():
        return False
    validator = await _validator.get()
    parameters = _Parameters(form)
    try:
        return any(validator(token).validate(url, parameters, signature) for token in tokens if token)
    except ValueError:  # a port that is no number, a lone surrogate
        return False


class _Parameters(dict[str, list[str]]):
    """Name → values, in the shape of Django's QueryDict: the SDK asks for each with ``getlist``."""

    def __init__(self, form: Iterable[tuple[str, str]]) -> None:
        super().__init__()
        for name, value in form:
            self.setdefault(name, []).append(value)

    def getlist(self, name: str) -> list[str]:
        return self[name]


# --- the account ------------------------------------------------------------------------------


class TwilioProvider:
    """:class:`control.providers.Provider` for Twilio. A visit takes two or three requests, none of them repeated."""

    def __init__(self, settings: Settings) -> None:
        self._base_url = settings.providers.twilio_base_url
        self._timeout_s = settings.providers.request_timeout_s
        self._voice_url = public_url(settings) + WEBHOOK_PATH

    async def load(self) -> None:
        """Import the SDK. Otherwise the first visit does, in its own time: some seconds on a busy machine."""
        await _sdk.get()

    async def check_credentials(self, integration: Integration) -> Checked:
        """The account's own SID and token, and what the tokens of its known subaccounts are now."""
        async with self._visit(integration) as visit:
            account = await _own_account(visit)
            known = {name for name in integration.secrets if name.startswith(SUBACCOUNT)}
            secrets = await visit.subaccount_tokens() if known else {}
            return Checked(_of_account(account), {name: secrets[name] for name in known & secrets.keys()})

    async def verify(self, claim: Claim, integration: Integration) -> Verified:
        """The number is in the account ``claim.reference``: the integration's own, or a subaccount of it."""
        async with self._visit(integration) as visit:
            own = claim.reference == visit.account_sid
            account = await (_own_account(visit) if own else _subaccount(visit, claim.reference))
            number = await visit.number(account.sid, claim.phone_number)
            if number is None:
                raise failed(_NAME, Check.NUMBER, f"{claim.phone_number} is not in the account {account.sid}")
            if not number.voice:
                raise failed(_NAME, Check.VOICE, f"{claim.phone_number} has no voice capability")
            secrets = {} if own else {SUBACCOUNT + account.sid: account.auth_token}
            return Verified(PASS_TRUNK, (*_of_account(account), *self._of_number(number)), secrets=secrets)

    @asynccontextmanager
    async def _visit(self, integration: Integration) -> AsyncIterator[_Visit]:
        account_sid = integration.public.get("account_sid", "")
        if not account_sid.startswith("AC"):
            what = "An API key's secret cannot verify the signatures of Twilio's webhooks"
            advice = "Save the Account SID (AC…) with its Auth Token."
            raise failed(_NAME, Check.CREDENTIALS, what, advice=advice)
        sdk = await _sdk.get()
        try:
            async with sdk.web.client(self._timeout_s) as web:
                token = integration.secrets.get("auth_token", "")
                yield _Visit(sdk, web, self._base_url, account_sid, token)
        except CarrierError as error:
            raise failure(_NAME, error) from error

    def _of_number(self, number: _Number) -> Iterable[ProviderWarning]:
        """What keeps its calls from coming here, and what takes them now."""
        ours = _same_url(number.voice_url, self._voice_url)
        live_on = None if ours or not number.voice_url or _is_demo(number.voice_url) else _shown(number.voice_url)
        if number.trunk_sid:
            live_on = f"the Elastic SIP trunk {number.trunk_sid}"
            yield warning(
                WarningCode.TRUNK_OVERRIDES,
                f"The number is on {live_on}, so Twilio ignores its Voice URL. Take it off the trunk.",
            )
        if number.application_sid:
            live_on = f"the TwiML application {number.application_sid}"
            yield warning(
                WarningCode.APPLICATION_OVERRIDES,
                f"The number is configured with {live_on}, so Twilio ignores its Voice URL. Configure it with a"
                " webhook instead.",
            )
        if number.receive_mode == "fax":
            yield warning(WarningCode.RECEIVES_FAX, "The number takes faxes: set it to accept voice calls.")
        if not ours:
            now = f"is {_shown(number.voice_url)}" if number.voice_url else "is not set"
            yield warning(
                WarningCode.VOICE_URL,
                f"The number's Voice URL {now}: no call comes here until it is {self._voice_url}",
            )
        elif number.voice_method != "POST":
            yield warning(WarningCode.VOICE_METHOD, f"The Voice URL's method is {number.voice_method}: set it to POST.")
        if live_on is not None:
            yield warning(
                WarningCode.CUTOVER,
                f"The number is live on {live_on}. Pointing it here reroutes all its incoming calls at once and breaks"
                " what answers them now: coordinate the cutover, best in a quiet hour.",
            )


class TwilioCallsRest:
    """:class:`control.twilio_calls.TwilioRest`: one request a visit, never repeated (a call would be placed twice)."""

    def __init__(self, settings: Settings) -> None:
        self._base_url = settings.providers.twilio_base_url
        self._timeout_s = settings.providers.request_timeout_s

    async def create_call(self, account_sid: str, auth_token: str, fields: Mapping[str, object]) -> str:
        """``calls.create``; the call's SID."""
        made = await self._ask(account_sid, auth_token, lambda calls: calls.create_async(**fields))
        return required(made, "sid", str)

    async def update_call(self, account_sid: str, auth_token: str, sid: str, fields: Mapping[str, object]) -> None:
        """``calls(sid).update``."""
        await self._ask(account_sid, auth_token, lambda calls: calls(sid).update_async(**fields))

    async def _ask(self, account_sid: str, auth_token: str, request: Callable[[Any], Awaitable[Any]]) -> Any:
        sdk = await _sdk.get()
        try:
            async with asyncio.timeout(self._timeout_s), sdk.web.client(self._timeout_s) as web:
                visit = _Visit(sdk, web, self._base_url, account_sid, auth_token)
                return await visit.calls(request)
        except Refused as error:
            raise TwilioRefused(f"Twilio refuses it ({error.status})", error.code) from error
        except (CarrierError, TimeoutError) as error:
            raise TwilioRefused("Twilio does not answer, or makes no sense") from error


async def _own_account(visit: _Visit) -> _Account:
    try:
        account = await visit.account(visit.account_sid)
    except Refused as error:
        if error.code == _ACCOUNT_NOT_ACTIVE:
            raise failed(_NAME, Check.ACCOUNT_STATUS, "The account is not active", error) from error
        if error.status == 404:
            raise failed(_NAME, Check.CREDENTIALS, f"Twilio knows no account {visit.account_sid}", error) from error
        raise
    return _active(account)


async def _subaccount(visit: _Visit, sid: str) -> _Account:
    """Read with the parent's credentials, which open every subaccount and no other one."""
    if not sid.startswith("AC"):
        raise failed(_NAME, Check.ACCOUNT_SID, f"{sid[:2]}… is no Account SID: those begin with AC")
    try:
        account = await visit.account(sid)
    except Refused as error:
        if error.status not in (401, 403, 404):
            raise
        await _own_account(visit)  # is it our credentials that are refused, or what they ask for?
        what = f"{sid} is neither the account {visit.account_sid} nor a subaccount of it"
        raise failed(_NAME, Check.ACCOUNT_SID, what, error) from error
    if not account.auth_token:
        what = f"The Auth Token of the subaccount {sid} cannot be read, and without it its webhooks cannot be verified"
        raise failed(_NAME, Check.ACCOUNT_SID, what)
    return _active(account)


def _active(account: _Account) -> _Account:
    if account.status != "active":
        raise failed(_NAME, Check.ACCOUNT_STATUS, f"The account {account.sid} is {account.status}")
    return account


def _of_account(account: _Account) -> tuple[ProviderWarning, ...]:
    if account.type != "Trial":
        return ()
    text = "This is a trial account: Twilio plays a message of its own before every call, and calls only numbers that"
    return (warning(WarningCode.TRIAL_ACCOUNT, text + " have been verified with it."),)


# --- one visit --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Sdk:
    """What is imported: the SDK's client, its response and its errors, and our HTTP."""

    client: Any
    response: Any
    rest_error: type[Exception]
    service_error: type[Exception]
    any_error: type[Exception]
    web: Any


def _load_sdk() -> _Sdk:
    errors = import_module("twilio.base.exceptions")
    web = import_module("control.providers.web")
    web.rehearse()
    import_module("twilio.rest.api")  # else with the first request, on the loop
    return _Sdk(
        client=import_module("twilio.rest").Client,
        response=import_module("twilio.http.response").Response,
        rest_error=errors.TwilioRestException,
        service_error=errors.TwilioServiceException,
        any_error=errors.TwilioException,
        web=web,
    )


_sdk = OnFirstUse(_load_sdk)


@dataclass(frozen=True, slots=True)
class _Account:
    sid: str
    status: str
    type: str | None
    auth_token: str


@dataclass(frozen=True, slots=True)
class _Number:
    voice: bool
    voice_url: str
    voice_method: str
    receive_mode: str | None
    trunk_sid: str | None
    application_sid: str | None


class _Visit:
    """Questions to one account's API. Each may raise :class:`CarrierError`."""

    def __init__(self, sdk: _Sdk, web: httpx.AsyncClient, base_url: str, account_sid: str, auth_token: str) -> None:
        self.account_sid = account_sid
        self._sdk = sdk
        http = _Http(sdk, web, base_url)
        # not empty, or the SDK takes the process's own: TWILIO_EDGE and TWILIO_REGION change where requests go
        environment = {"TWILIO_REGION": ""}
        client = sdk.client(account_sid, auth_token, http_client=http, environment=environment)
        client.api.base_url = base_url
        self._api = client.api.v2010

    async def account(self, sid: str) -> _Account:
        """The account itself or a subaccount of it."""
        account = _account(await self._ask(self._api.accounts(sid).fetch_async()))
        if account.sid != sid:
            raise WrongAnswer("another account")
        return account

    async def subaccount_tokens(self) -> dict[str, str]:
        """``subaccount:AC…`` → token, of all that are active."""
        found = await self._ask(self._api.accounts.list_async(limit=_SUBACCOUNTS, page_size=_SUBACCOUNTS))
        accounts = [_account(each) for each in found]
        others = (each for each in accounts if each.sid != self.account_sid and each.status == "active")
        return {SUBACCOUNT + each.sid: each.auth_token for each in others if each.auth_token}

    async def number(self, account_sid: str, phone_number: str) -> _Number | None:
        """Twilio finds numbers that contain the text; only the number itself will do."""
        numbers = self._api.accounts(account_sid).incoming_phone_numbers
        found = await self._ask(numbers.list_async(phone_number=phone_number, limit=_PAGE, page_size=_PAGE))
        exact = (each for each in found if required(each, "phone_number", str) == phone_number)
        return next(map(_number, exact), None)

    async def calls(self, request: Callable[[Any], Awaitable[Any]]) -> Any:
        """What ``request`` asks of the account's calls."""
        return await self._ask(request(self._api.accounts(self.account_sid).calls))

    async def _ask(self, request: Awaitable[Any]) -> Any:
        try:
            return await request
        except CarrierError:
            raise
        except (self._sdk.rest_error, self._sdk.service_error) as error:
            raise _refused(getattr(error, "status", None), getattr(error, "code", None)) from error
        except self._sdk.any_error as error:
            raise _of_page(error) from error
        except Exception as error:  # the SDK reads what it is sent without looking
            _log.warning("the SDK fails over an answer: %s", type(error).__name__)
            raise WrongAnswer(type(error).__name__) from error


class _Http:
    """What the SDK's ``AsyncHttpClient`` is, over httpx. Without its logging, which tells numbers and parameters."""

    is_async = True

    def __init__(self, sdk: _Sdk, web: httpx.AsyncClient, base_url: str) -> None:
        self._sdk = sdk
        self._web = web
        self._origin = _origin(base_url)

    async def request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the SDK's signature; our client has its own
        allow_redirects: bool = False,
    ) -> Any:
        """The SDK's response. Raises :class:`CarrierError`."""
        if _origin(url) != self._origin:
            raise WrongAnswer("the next page is at another host, which would get the credentials")
        try:
            answer = await self._web.request(method, url, params=params, data=data, headers=headers, auth=auth)
        except self._sdk.web.ERRORS as error:
            raise self._sdk.web.error_of(error) from error
        return self._sdk.response(answer.status_code, answer.text, answer.headers)


def _account(answer: object) -> _Account:
    return _Account(
        sid=required(answer, "sid", str),
        status=required(answer, "status", str),
        type=field(answer, "type", str),
        auth_token=field(answer, "auth_token", str) or "",
    )


def _number(answer: object) -> _Number:
    return _Number(
        voice=required(answer, "capabilities", dict).get("voice") is True,
        voice_url=field(answer, "voice_url", str) or "",
        voice_method=(field(answer, "voice_method", str) or "POST").upper(),
        receive_mode=field(answer, "voice_receive_mode", str),
        trunk_sid=field(answer, "trunk_sid", str),
        application_sid=field(answer, "voice_application_sid", str),
    )


def _refused(status: object, code: object) -> CarrierError:
    if not isinstance(status, int):
        return WrongAnswer("an error without a status")
    return Refused(status, str(code) if isinstance(code, int | str) else None)


def _of_page(error: Exception) -> CarrierError:
    """A list's errors hold the response, unread."""
    response = next(iter(error.args[1:]), None)
    try:
        code = json.loads(getattr(response, "text", "")).get("code")
    except (ValueError, AttributeError):
        code = None
    return _refused(getattr(response, "status_code", None), code)


# --- URLs -------------------------------------------------------------------------------------

_PORTS: Final = {"http": 80, "https": 443}


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url.strip())
        parts.port  # noqa: B018 - raises for one that is no number
    except ValueError:
        return None
    return parts


def _origin(url: str) -> tuple[str, str | None, int | None] | None:
    parts = _split(url)
    return None if parts is None else (parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme))


def _same_url(one: str, other: str) -> bool:
    """But for the case of scheme and host, and for a fragment, which holds settings of Twilio's own (``#rc=2``)."""
    first, second = _split(one), _split(other)
    if first is None or second is None or _origin(one) != _origin(other) or "@" in first.netloc:
        return False
    return (first.path, first.query) == (second.path, second.query)


def _is_demo(url: str) -> bool:
    parts = _split(url)
    return parts is not None and parts.hostname == _DEMO_HOST


def _shown(url: str) -> str:
    """Without a user, a password and the query: those may be secrets of whatever is there."""
    parts = _split(url)
    if parts is None or not parts.hostname:
        return "no URL"
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()[:_LONGEST]
