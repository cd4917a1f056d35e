"""Telnyx, through its own SDK: proving that an account holds a number, and finding out how its calls come.

That depends on the number's connection. A credential connection sends them to whoever has registered with its user
name, so its password is needed; an FQDN or IP connection sends them to hosts it lists. The SDK is given an HTTP client
that can be cancelled at any moment and is closed at the end of each visit; it repeats no request.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from config.carriers import carriers
from config.settings import Settings
from control.providers import Check, Checked, Claim, ProviderWarning, Verified
from control.providers.sdk import (
    CarrierError,
    OnFirstUse,
    Refused,
    TimedOut,
    WarningCode,
    WrongAnswer,
    failed,
    failure,
    field,
    required,
    warning,
)
from control.registry.types import Connection, Integration

if TYPE_CHECKING:
    import httpx
    from telnyx import AsyncTelnyx

__all__ = ["TelnyxProvider"]

_T = TypeVar("_T")
_NAME: Final = "telnyx"
_SHARED_TRUNK: Final = "telnyx"
_PAGE: Final = 50
_PASSWORD_BYTES: Final = 20
_LONGEST: Final = 80
"""Of a name that somebody has given, in a message."""

_KINDS: Final = MappingProxyType(
    {"credential_connection": "credential", "fqdn_connection": "fqdn", "ip_connection": "ip"}
)
"""``record_type`` → kind, of the connections that calls can come from."""

_UAC: Final = "uac_connection"
_ACCOUNT_NOT_ACTIVE: Final = frozenset({"20012", "20013"})
_CARRIES_CALLS: Final = frozenset({"active", "port-out-pending"})
_CODECS: Final = MappingProxyType({"PCMU": "G711U", "PCMA": "G711A", "G722": "G722", "OPUS": "OPUS"})
"""Ours → as the connection's settings have them."""
_REGIONS: Final = MappingProxyType(
    {"Australia": "au", "Canada": "ca", "Germany": "eu", "Netherlands": "eu", "UK": "eu"}
)
"""The country that an anchor site's name ends with → the region of the proxy; ``us`` for the others."""

_log = logging.getLogger("truedy.providers.telnyx")


class TelnyxProvider:
    """:class:`control.providers.Provider` for Telnyx. A visit takes up to five requests."""

    def __init__(self, settings: Settings, *, entropy: Callable[[int], bytes]) -> None:
        self._base_url = settings.providers.telnyx_base_url
        self._timeout_s = settings.providers.request_timeout_s
        self._domain = settings.sip.domain
        self._address = settings.sip.public_address
        self._entropy = entropy
        dialect = carriers()[_NAME].dialect
        self._srtp = settings.providers.telnyx_srtp or dialect.srtp
        self._codecs = tuple(_CODECS[name] for name in settings.providers.telnyx_codecs or dialect.codecs)

    async def load(self) -> None:
        """Import the SDK. Otherwise the first visit does, in its own time: some seconds on a busy machine."""
        await _sdk.get()

    async def check_credentials(self, integration: Integration) -> Checked:
        """Whether the API key opens the account."""
        async with self._visit(integration) as visit:
            await visit.balance()
            return Checked()

    async def verify(self, claim: Claim, integration: Integration) -> Verified:
        """The number is on the connection ``claim.reference``, whose calls can come here."""
        async with self._visit(integration) as visit:
            found = await _connection(visit, claim.reference)
            await _number_on(visit, found, claim.phone_number)
            details = await visit.details(found.kind, found.id)
            if found.kind == "credential":
                verified = await self._by_registration(visit, claim, found, details)
            else:
                verified = await self._by_address(visit, claim, found, details)
            return replace(verified, warnings=(*self._of_connection(found, details), *verified.warnings))

    async def _by_registration(self, visit: _Visit, claim: Claim, found: _Found, details: _Details) -> Verified:
        """Calls go to whoever was the last to register: this edge, with the password.

        It is the one given now, the one Telnyx tells, a new one where that is allowed, or one given before.
        """
        connection = _registering(claim, found, details)
        warnings = await _taken_over(visit, connection) if claim.connection is None else ()
        password = claim.sip_password or details.password
        if password is None and claim.rotate_sip_password:
            finish = partial(self._rotate, connection, visit.integration)
            return Verified(connection.trunk, (*warnings, _rotated(found)), connection, finish=finish)
        password = password or _kept_password(claim, visit.integration)
        if password is None:
            raise failed(_NAME, Check.SIP_PASSWORD, f"Telnyx does not tell the password of {_shown(found)}")
        return Verified(connection.trunk, warnings, replace(connection, secrets={"sip_password": password}))

    async def _rotate(self, connection: Connection, integration: Integration) -> Connection:
        """Set a new password at Telnyx: from then on, only who has it can register."""
        password = base64.b32encode(self._entropy(_PASSWORD_BYTES)).decode().rstrip("=").lower()
        async with self._visit(integration) as visit:
            await visit.set_password(connection.id, password)
        return replace(connection, secrets={"sip_password": password})

    async def _by_address(self, visit: _Visit, claim: Claim, found: _Found, details: _Details) -> Verified:
        """Calls go to the hosts or addresses that are listed: ours, where all is well."""
        targets = await (visit.fqdns(found.id) if found.kind == "fqdn" else visit.ips(found.id))
        host_used = found.kind == "fqdn" and claim.host in targets
        of_targets = self._of_fqdns if found.kind == "fqdn" else self._of_ips
        connection = Connection(
            id=found.id,
            account_id=claim.account_id,
            provider=_NAME,
            kind=found.kind,
            name=found.name,
            trunk=f"{_SHARED_TRUNK}:{found.id}" if host_used else _SHARED_TRUNK,
            host=claim.host,
            host_used=host_used,
            encrypted_media=bool(details.encrypted_media),
        )
        return Verified(connection.trunk, tuple(of_targets(claim, found, targets)), connection)

    def _of_connection(self, found: _Found, details: _Details) -> Iterable[ProviderWarning]:
        if not found.outbound_profile:
            yield warning(
                WarningCode.NO_OUTBOUND_PROFILE,
                f"{_shown(found)} has no outbound voice profile: calls out will fail (D7, D38).",
            )
        if details.call_parking:
            yield warning(
                WarningCode.CALL_PARKING,
                f"{_shown(found)} parks outbound calls: switch that off, or calls out go nowhere.",
            )
        if details.encrypted_media and self._srtp == "off":
            yield warning(
                WarningCode.ENCRYPTED_MEDIA,
                f"{_shown(found)} insists on {details.encrypted_media}, and providers.telnyx_srtp is off, so its calls"
                " fail with 488: change one of the two.",
            )
        elif self._srtp == "require" and not details.encrypted_media:
            yield warning(
                WarningCode.ENCRYPTED_MEDIA,
                f"{_shown(found)} has no encrypted media, and providers.telnyx_srtp requires it, so its calls fail with"
                " 488: switch encrypted media on.",
            )
        if details.codecs and not set(details.codecs).intersection(self._codecs):
            yield warning(
                WarningCode.NO_COMMON_CODEC,
                f"{_shown(found)} offers {', '.join(details.codecs)}: add {' or '.join(self._codecs)}.",
            )

    def _of_fqdns(self, claim: Claim, found: _Found, fqdns: tuple[str, ...]) -> Iterable[ProviderWarning]:
        """The host of its own binds a connection's calls to it; the name that all share binds them to Telnyx."""
        own = claim.host is not None and claim.host in fqdns
        shared = self._domain in fqdns
        if not own and not shared:
            yield from _points_elsewhere(found, claim.host or self._domain, "FQDNs", fqdns)
        elif shared and own:
            yield warning(
                WarningCode.SHARED_HOST,
                f"Take {self._domain} out of the FQDNs of {_shown(found)}: calls that come to it are refused, as"
                f" {claim.host} is there.",
            )
        elif shared and claim.host is not None:
            yield warning(
                WarningCode.SHARED_HOST,
                f"Only Telnyx's addresses vouch for calls to {self._domain}, which any customer of Telnyx can send."
                f" Point {_shown(found)} at {claim.host}, which is its own, and import the number again.",
            )

    def _of_ips(self, claim: Claim, found: _Found, ips: tuple[str, ...]) -> Iterable[ProviderWarning]:
        if self._address is not None and self._address not in ips:
            yield from _points_elsewhere(found, self._address, "IP addresses", ips)
        yield warning(
            WarningCode.SHARED_HOST,
            "Only Telnyx's addresses vouch for the calls of an IP connection, which any customer of Telnyx can send."
            " A credential connection is safer, or an FQDN connection"
            + (f" that points at {claim.host}." if claim.host else "."),
        )

    @asynccontextmanager
    async def _visit(self, integration: Integration) -> AsyncIterator[_Visit]:
        sdk = await _sdk.get()
        try:
            async with sdk.web.client(self._timeout_s) as web:
                key = integration.secrets.get("api_key", "")
                client = _client(sdk, web, self._base_url, key, self._timeout_s)
                yield _Visit(sdk, client, integration)
        except Refused as error:
            if error.code in _ACCOUNT_NOT_ACTIVE:
                raise failed(_NAME, Check.ACCOUNT_STATUS, "The account is blocked or not active", error) from error
            raise failure(_NAME, error) from error
        except CarrierError as error:
            raise failure(_NAME, error) from error


# --- what is asked for ------------------------------------------------------------------------


async def _connection(visit: _Visit, id: str) -> _Found:
    """One that calls can come from. UAC connections cannot: with those, Telnyx wants to register here."""
    try:
        found = await visit.connection(id)
    except Refused as error:
        if error.status not in (400, 404, 422):
            raise
        raise failed(_NAME, Check.CONNECTION, f"There is no connection {id} in the account", error) from error
    if found.kind == _UAC:
        what = f"{_shown(found)} is a UAC connection (SIP registration): Telnyx would register here"
        advice = "Create a credential-based SIP connection, assign the number to it and import with its ID."
        raise failed(_NAME, Check.CONNECTION_KIND, what, advice=advice)
    if found.kind not in _KINDS.values():
        raise failed(_NAME, Check.CONNECTION_KIND, f"{_shown(found)} is a {found.kind.replace('_', ' ')}")
    if not found.active:
        raise failed(_NAME, Check.CONNECTION_STATUS, f"{_shown(found)} is switched off")
    return found


async def _number_on(visit: _Visit, connection: _Found, phone_number: str) -> None:
    number = await visit.number(phone_number)
    if number is None:
        raise failed(_NAME, Check.NUMBER, f"{phone_number} is not in the account")
    if number.status == "emergency-only":
        raise failed(_NAME, Check.VOICE, f"{phone_number} is for emergency calls only")
    if number.status not in _CARRIES_CALLS:
        raise failed(_NAME, Check.NUMBER, f"{phone_number} is {number.status.replace('-', ' ')}")
    if number.connection_id != connection.id:
        other = f"the connection {number.connection_id}" if number.connection_id else "no connection"
        raise failed(_NAME, Check.CONNECTION, f"{phone_number} is on {other}, not on {connection.id}")


def _registering(claim: Claim, found: _Found, details: _Details) -> Connection:
    """A credential connection as it is to be kept, but for its password."""
    if details.user_name is None:
        raise WrongAnswer("a credential connection without a user name")
    return Connection(
        id=found.id,
        account_id=claim.account_id,
        provider=_NAME,
        kind=found.kind,
        name=found.name,
        trunk=f"{_SHARED_TRUNK}:{found.id}",
        user_name=details.user_name,
        proxy=_proxy(found.anchor_site),
        encrypted_media=bool(details.encrypted_media),
    )


def _kept_password(claim: Claim, integration: Integration) -> str | None:
    """The connection's from an earlier import, or the one that was saved for all of the account's."""
    known = claim.connection.secrets if claim.connection is not None else {}
    return known.get("sip_password") or integration.secrets.get("sip_password")


def _proxy(anchor_site: str | None) -> str:
    """Where to register: the host of the connection's region."""
    country = (anchor_site or "").rpartition(", ")[2]
    region = _REGIONS.get(country, "us")
    return next(proxy.host for proxy in carriers()[_NAME].proxies if proxy.region == region)


# --- what is worth a warning ------------------------------------------------------------------


async def _taken_over(visit: _Visit, connection: Connection) -> tuple[ProviderWarning, ...]:
    elsewhere = await visit.registration(connection.id)
    if elsewhere is None:
        return ()
    text = (
        f"{elsewhere} has registered as {connection.user_name} and gets the connection's calls. This edge registers in"
        " its place and takes them over, those of other numbers on the connection too: switch the other registration"
        " off, or the two will take the calls from each other."
    )
    return (warning(WarningCode.REGISTERED_ELSEWHERE, text),)


def _rotated(found: _Found) -> ProviderWarning:
    return warning(
        WarningCode.SIP_PASSWORD_ROTATED,
        f"{_shown(found)} has a new password, which only this edge knows: other devices that registered with the old"
        " one drop out.",
    )


def _points_elsewhere(found: _Found, ours: str, where: str, targets: tuple[str, ...]) -> Iterable[ProviderWarning]:
    yield warning(
        WarningCode.POINTS_ELSEWHERE,
        f"{_shown(found)} does not send its calls here: no call comes until {ours} is among its {where}.",
    )
    if targets:
        yield warning(
            WarningCode.CUTOVER,
            f"The number is live on {', '.join(targets)}. Pointing its connection here reroutes all its incoming calls"
            " at once and breaks what answers them now: coordinate the cutover, best in a quiet hour.",
        )


def _shown(found: _Found) -> str:
    return f"the connection “{found.name[:_LONGEST]}” ({found.id})" if found.name else f"the connection {found.id}"


# --- one visit --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Sdk:
    """What is imported: the SDK and our HTTP."""

    telnyx: Any
    web: Any


def _load_sdk() -> _Sdk:
    sdk = _Sdk(import_module("telnyx"), import_module("control.providers.web"))

    async def visit(web: httpx.AsyncClient) -> None:
        questions = _Visit(sdk, _client(sdk, web, "http://nowhere.invalid", "", 1.0), _NOBODY)
        for question in (
            questions.balance(),
            questions.connection("0"),
            *(questions.details(kind, "0") for kind in _KINDS.values()),
            questions.registration("0"),
            questions.set_password("0", ""),
            questions.number("0"),
            questions.fqdns("0"),
            questions.ips("0"),
        ):
            with suppress(CarrierError):
                await question

    sdk.web.rehearse(visit, {"data": {"inbound": {}, "outbound": {}}})
    sdk.web.rehearse(visit, {"data": [{}]})
    return sdk


_sdk = OnFirstUse(_load_sdk)
_NOBODY: Final = Integration("", _NAME, {}, {})


@dataclass(frozen=True, slots=True)
class _Found:
    """A connection of any kind. ``kind``: ``credential``, ``fqdn``, ``ip``, or another record type as it is."""

    id: str
    kind: str
    name: str
    active: bool
    outbound_profile: str | None
    anchor_site: str | None


@dataclass(frozen=True, slots=True)
class _Details:
    """What only the path of its own kind tells of a connection; ``password`` None: not there, or masked."""

    user_name: str | None
    password: str | None
    encrypted_media: str | None
    codecs: tuple[str, ...]
    call_parking: bool


@dataclass(frozen=True, slots=True)
class _Number:
    status: str
    connection_id: str | None


def _client(sdk: _Sdk, web: httpx.AsyncClient, base_url: str, api_key: str, timeout_s: float) -> AsyncTelnyx:
    client: AsyncTelnyx = sdk.telnyx.AsyncTelnyx(
        api_key=api_key,
        client_id="",  # not None, or the SDK takes the process's own
        client_secret="",
        public_key="",
        base_url=base_url,
        timeout=timeout_s,
        max_retries=0,
        http_client=web,
    )
    return client


class _Visit:
    """Questions to one account's API, and one change. Each may raise :class:`CarrierError`."""

    def __init__(self, sdk: _Sdk, client: AsyncTelnyx, integration: Integration) -> None:
        self.integration = integration
        self._sdk = sdk
        self._client = client

    async def balance(self) -> None:
        """The cheapest question that needs a key."""
        required(await self._data(self._client.balance.retrieve()), "balance", str)

    async def connection(self, id: str) -> _Found:
        """Of whatever kind."""
        data = await self._data(self._client.connections.retrieve(id))
        record_type = required(data, "record_type", str)
        return _Found(
            id=id,
            kind=_KINDS.get(record_type, record_type),
            name=field(data, "connection_name", str) or "",
            active=field(data, "active", bool) is not False,
            outbound_profile=_id(data, "outbound_voice_profile_id"),
            anchor_site=field(data, "anchorsite_override", str),
        )

    async def details(self, kind: str, id: str) -> _Details:
        """Of a credential, FQDN or IP connection."""
        ask: Callable[[str], Awaitable[object]] = {
            "credential": self._client.credential_connections.retrieve,
            "fqdn": self._client.fqdn_connections.retrieve,
            "ip": self._client.ip_connections.retrieve,
        }[kind]
        data = await self._data(ask(id))
        inbound, outbound = field(data, "inbound", object), field(data, "outbound", object)
        password = field(data, "password", str)
        return _Details(
            user_name=field(data, "user_name", str) or None,
            password=password if password and password.strip("*") else None,
            encrypted_media=field(data, "encrypted_media", str),
            codecs=tuple(str(codec) for codec in field(inbound, "codecs", list) or ()),
            call_parking=field(outbound, "call_parking_enabled", bool) is True,
        )

    async def registration(self, id: str) -> str | None:
        """Who has registered with a credential connection's user name; None: nobody, or it cannot be told."""
        try:
            data = await self._data(self._client.credential_connections.actions.check_registration_status(id))
        except (Refused, WrongAnswer):
            return None
        if field(data, "status", str) != "Registered":
            return None
        address = field(data, "ip_address", str) or "an unknown address"
        device = field(data, "user_agent", str)
        return f"{device[:_LONGEST]} at {address}" if device else address

    async def set_password(self, id: str, password: str) -> None:
        """Of a credential connection."""
        await self._data(self._client.credential_connections.update(id, password=password))

    async def number(self, phone_number: str) -> _Number | None:
        """Telnyx finds numbers that contain the digits, and none at all if there is a plus among them."""
        digits = phone_number.removeprefix("+")
        page = await self._ask(self._client.phone_numbers.list(filter={"phone_number": digits}, page_size=_PAGE))
        for each in required(page, "data", list):
            if required(each, "phone_number", str) == phone_number:
                status = required(each, "status", str).replace("_", "-")
                return _Number(status, _id(each, "connection_id"))
        return None

    async def fqdns(self, id: str) -> tuple[str, ...]:
        """The hosts that an FQDN connection sends its calls to, in lower case."""
        page = await self._ask(self._client.fqdns.list(filter={"connection_id": id}, page_size=_PAGE))
        return tuple(required(each, "fqdn", str).lower().rstrip(".") for each in required(page, "data", list))

    async def ips(self, id: str) -> tuple[str, ...]:
        """The addresses that an IP connection sends its calls to."""
        page = await self._ask(self._client.ips.list(filter={"connection_id": id}, page_size=_PAGE))
        return tuple(required(each, "ip_address", str) for each in required(page, "data", list))

    async def _data(self, request: Awaitable[object]) -> object:
        return required(await self._ask(request), "data", object)

    async def _ask(self, request: Awaitable[_T]) -> _T:
        errors = self._sdk.telnyx
        try:
            return await request
        except errors.APIStatusError as error:
            raise Refused(error.status_code, _code(error.body)) from error
        except errors.APITimeoutError as error:
            raise TimedOut(type(error).__name__) from error
        except errors.APIConnectionError as error:
            raise self._sdk.web.error_of(error.__cause__) from error
        except Exception as error:  # the SDK reads what it is sent without looking
            _log.warning("the SDK fails over an answer: %s", type(error).__name__)
            raise WrongAnswer(type(error).__name__) from error


def _id(data: object, name: str) -> str | None:
    """Ids are numbers of 19 digits, mostly as text."""
    value = getattr(data, name, None)
    return str(value) if isinstance(value, int | str) and value else None


def _code(body: object) -> str | None:
    """Of the first error: ``{"errors": [{"code": "10009", …}]}``."""
    match body:
        case {"errors": [{"code": str(code)}, *_]}:
            return code
        case _:
            return None
