"""Telnyx's REST API (v2) as far as the edge uses it, with connections and numbers to remember; for the real SDK.

Facts: the SDK (``telnyx`` 4.189.0) for paths, parameters and fields, Telnyx's documentation for the error bodies.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.support.carriers.rest import Reply, RestServer, Seen

__all__ = [
    "TelnyxAccount",
    "TelnyxConnection",
    "TelnyxNumber",
    "TelnyxRegistration",
    "TelnyxRest",
]

VERSION = "/v2"
DATE = "2026-11-23T12:00:00Z"
MASK = "********"

_ERRORS = {
    400: ("10015", "Bad Request"),
    401: ("10009", "Authentication failed"),
    403: ("10010", "Authorization failed"),
    404: ("10005", "Resource not found"),
    408: ("10008", "Request timeout"),
    422: ("10004", "Missing required parameter"),
    429: ("10011", "Too many requests"),
    500: ("10007", "Unexpected error"),
}


@dataclass(slots=True)
class TelnyxAccount:
    """``masks_passwords``: it was made on or after 2026-09-08. ``refused``: its key gets this status and code."""

    api_key: str = field(repr=False)
    balance: str = "25.00"
    masks_passwords: bool = False
    refused: tuple[int, str, str] | None = None


@dataclass(slots=True)
class TelnyxRegistration:
    """Who has registered with a credential connection's user name."""

    ip_address: str
    port: int = 5060
    transport: str = "UDP"
    user_agent: str = "Asterisk PBX 20.5.0"


@dataclass(slots=True)
class TelnyxConnection:
    """Of any kind: ``credential``, ``fqdn``, ``ip``, ``uac``, or another record type as it is spelt.

    ``fqdns`` and ``ips`` are where an FQDN or IP connection sends its calls.
    """

    id: str
    account: TelnyxAccount
    kind: str = "credential"
    name: str = "My connection"
    active: bool = True
    user_name: str | None = None
    password: str | None = field(default=None, repr=False)
    registration: TelnyxRegistration | None = None
    outbound_voice_profile_id: str | None = None
    encrypted_media: str | None = None
    anchorsite_override: str = "Latency"
    codecs: tuple[str, ...] = ("G722", "G711U", "G711A", "G729", "OPUS", "H.264")
    call_parking_enabled: bool = False
    fqdns: list[str] = field(default_factory=list)
    ips: list[str] = field(default_factory=list)

    @property
    def record_type(self) -> str:
        """``credential_connection``."""
        return f"{self.kind}_connection" if self.kind in ("credential", "fqdn", "ip", "uac") else self.kind


@dataclass(slots=True)
class TelnyxNumber:
    """A number of the account, on one connection or on none."""

    id: str
    account: TelnyxAccount
    phone_number: str
    connection_id: str | None = None
    status: str = "active"


class TelnyxRest(RestServer):
    """``page_size_max`` bounds the pages of lists."""

    def __init__(self) -> None:
        super().__init__()
        self.accounts: dict[str, TelnyxAccount] = {}
        self.connections_by_id: dict[str, TelnyxConnection] = {}
        self.numbers: dict[str, TelnyxNumber] = {}
        self.page_size_max = 250
        self._serial = itertools.count(2769813532219278001)

    @property
    def url(self) -> str:
        """For ``providers.telnyx_base_url``."""
        return self.origin + VERSION

    def new_id(self) -> str:
        """19 digits."""
        return str(next(self._serial))

    def add_account(self, api_key: str, **fields: Any) -> TelnyxAccount:
        """``fields`` are those of :class:`TelnyxAccount`."""
        account = TelnyxAccount(api_key, **fields)
        self.accounts[api_key] = account
        return account

    def add_connection(self, account: TelnyxAccount, **fields: Any) -> TelnyxConnection:
        """``fields`` are those of :class:`TelnyxConnection`."""
        connection = TelnyxConnection(self.new_id(), account, **fields)
        self.connections_by_id[connection.id] = connection
        return connection

    def add_number(
        self, account: TelnyxAccount, phone_number: str, connection: TelnyxConnection | None = None, **fields: Any
    ) -> TelnyxNumber:
        """``fields`` are those of :class:`TelnyxNumber`."""
        number = TelnyxNumber(self.new_id(), account, phone_number, connection.id if connection else None, **fields)
        self.numbers[number.id] = number
        return number

    # --- HTTP ---

    def error(self, status: int) -> Reply:
        """Telnyx's body for it."""
        code, title = _ERRORS.get(status, _ERRORS[500])
        return _error(status, code, title)

    def answer(self, request: Seen) -> Reply:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        account = self.accounts.get(key)
        if scheme.lower() != "bearer" or account is None:
            return self.error(401)
        if account.refused is not None:
            return _error(*account.refused)
        for method, pattern, handler in _ROUTES:
            found = pattern.fullmatch(request.path)
            if found is not None and method == request.method:
                return handler(self, request, account, *found.groups())
        return self.error(404)

    def _connection(self, account: TelnyxAccount, id: str, kind: str | None = None) -> TelnyxConnection | None:
        connection = self.connections_by_id.get(id)
        if connection is None or connection.account is not account or kind not in (None, connection.kind):
            return None
        return connection

    def _balance(self, request: Seen, account: TelnyxAccount) -> Reply:
        amounts = {"balance": account.balance, "credit_limit": "0.00", "available_credit": account.balance}
        return _data({"record_type": "balance", "currency": "USD", "pending": "0.00", **amounts})

    def _retrieve_connection(self, request: Seen, account: TelnyxAccount, id: str) -> Reply:
        connection = self._connection(account, id)
        return self.error(404) if connection is None else _data(_connection_body(connection))

    def _retrieve_of_kind(self, request: Seen, account: TelnyxAccount, kind: str, id: str) -> Reply:
        connection = self._connection(account, id, kind)
        return self.error(404) if connection is None else _data(_detailed_body(connection))

    def _list_of_kind(self, request: Seen, account: TelnyxAccount, kind: str) -> Reply:
        owned = [each for each in self.connections_by_id.values() if each.account is account and each.kind == kind]
        return self._page(request, [_detailed_body(each) for each in owned])

    def _create_credential(self, request: Seen, account: TelnyxAccount) -> Reply:
        fields = request.fields
        if not {"connection_name", "user_name", "password"} <= fields.keys():
            return self.error(422)
        connection = self.add_connection(
            account, name=fields["connection_name"], user_name=fields["user_name"], password=fields["password"]
        )
        return _data(_detailed_body(connection, shown=True), 201)

    def _update_credential(self, request: Seen, account: TelnyxAccount, id: str) -> Reply:
        connection = self._connection(account, id, "credential")
        if connection is None:
            return self.error(404)
        fields = request.fields
        password = fields.get("password", connection.password)
        if not 8 <= len(password or "") <= 128:
            return _error(422, "10015", "password is invalid")
        changed = password != connection.password
        if changed:
            connection.password, connection.registration = password, None
        connection.user_name = fields.get("user_name", connection.user_name)
        connection.active = fields.get("active", connection.active)
        connection.name = fields.get("connection_name", connection.name)
        return _data(_detailed_body(connection, shown=changed))

    def _registration_status(self, request: Seen, account: TelnyxAccount, id: str) -> Reply:
        connection = self._connection(account, id, "credential")
        if connection is None:
            return self.error(404)
        at = connection.registration
        known = (
            {"status": "Not Registered"}
            if at is None
            else {
                "status": "Registered",
                "ip_address": at.ip_address,
                "port": at.port,
                "transport": at.transport,
                "user_agent": at.user_agent,
                "last_registration": DATE,
            }
        )
        return _data({"record_type": "registration_status", "sip_username": connection.user_name, **known})

    def _list_fqdns(self, request: Seen, account: TelnyxAccount) -> Reply:
        rows = [
            {"record_type": "fqdn", "id": f"{each.id}{place}", "connection_id": each.id, "fqdn": name, "port": 5060,
             "dns_record_type": "a", "created_at": DATE, "updated_at": DATE}
            for each in self._filtered(request, account)
            for place, name in enumerate(each.fqdns)
        ]  # fmt: skip
        return self._page(request, rows)

    def _list_ips(self, request: Seen, account: TelnyxAccount) -> Reply:
        rows = [
            {"record_type": "ip", "id": f"{each.id}{place}", "connection_id": each.id, "ip_address": address,
             "port": 5060, "created_at": DATE, "updated_at": DATE}
            for each in self._filtered(request, account)
            for place, address in enumerate(each.ips)
        ]  # fmt: skip
        return self._page(request, rows)

    def _filtered(self, request: Seen, account: TelnyxAccount) -> list[TelnyxConnection]:
        wanted = request.query.get("filter[connection_id]")
        owned = [each for each in self.connections_by_id.values() if each.account is account]
        return [each for each in owned if wanted in (None, each.id)]

    def _list_numbers(self, request: Seen, account: TelnyxAccount) -> Reply:
        """Telnyx, filter[phone_number]: three digits at least; with anything else in it, no values are returned."""
        wanted = request.query.get("filter[phone_number]", "")
        owned = [each for each in self.numbers.values() if each.account is account]
        if wanted:
            usable = len(wanted) >= 3 and wanted.isascii() and wanted.isdigit()
            owned = [each for each in owned if usable and wanted in each.phone_number]
        return self._page(request, [self._number_body(each) for each in owned])

    def _retrieve_number(self, request: Seen, account: TelnyxAccount, id: str) -> Reply:
        number = self.numbers.get(id)
        if number is None or number.account is not account:
            return self.error(404)
        return _data(self._number_body(number))

    def _update_number(self, request: Seen, account: TelnyxAccount, id: str) -> Reply:
        number = self.numbers.get(id)
        if number is None or number.account is not account:
            return self.error(404)
        number.connection_id = request.fields.get("connection_id", number.connection_id)
        return _data(self._number_body(number))

    def _list_profiles(self, request: Seen, account: TelnyxAccount) -> Reply:
        owned = [each for each in self.connections_by_id.values() if each.account is account]
        profiles = {each.outbound_voice_profile_id: each.name for each in owned if each.outbound_voice_profile_id}
        rows = [{"record_type": "outbound_voice_profile", "id": id, "name": name} for id, name in profiles.items()]
        return self._page(request, rows)

    def _number_body(self, number: TelnyxNumber) -> dict[str, Any]:
        connection = self.connections_by_id.get(number.connection_id or "")
        return {
            "record_type": "phone_number",
            "id": number.id,
            "phone_number": number.phone_number,
            "status": number.status,
            "connection_id": number.connection_id,
            "connection_name": connection.name if connection else None,
            "country_iso_alpha2": "US",
            "phone_number_type": "local",
            "created_at": DATE,
            "purchased_at": DATE,
            "deletion_lock_enabled": False,
            "call_forwarding_enabled": True,
            "external_pin": None,
            "tags": [],
        }

    def _page(self, request: Seen, rows: list[dict[str, Any]]) -> Reply:
        size = min(int(request.query.get("page[size]", 20)), self.page_size_max)
        number = int(request.query.get("page[number]", 1))
        meta = {
            "page_number": number,
            "page_size": size,
            "total_pages": max(-(-len(rows) // size), 1),
            "total_results": len(rows),
        }
        return Reply(200, {"data": rows[(number - 1) * size : number * size], "meta": meta})


_ID = r"/([0-9A-Za-z_-]+)"

_ROUTES: list[tuple[str, re.Pattern[str], Callable[..., Reply]]] = [
    (method, re.compile(VERSION + path), handler)
    for method, path, handler in (
        ("GET", "/balance", TelnyxRest._balance),
        ("GET", f"/connections{_ID}", TelnyxRest._retrieve_connection),
        ("GET", r"/(credential|fqdn|ip|uac)_connections", TelnyxRest._list_of_kind),
        ("GET", rf"/(credential|fqdn|ip|uac)_connections{_ID}", TelnyxRest._retrieve_of_kind),
        ("POST", "/credential_connections", TelnyxRest._create_credential),
        ("PATCH", f"/credential_connections{_ID}", TelnyxRest._update_credential),
        ("POST", f"/credential_connections{_ID}/actions/check_registration_status", TelnyxRest._registration_status),
        ("GET", "/fqdns", TelnyxRest._list_fqdns),
        ("GET", "/ips", TelnyxRest._list_ips),
        ("GET", "/phone_numbers", TelnyxRest._list_numbers),
        ("GET", f"/phone_numbers{_ID}", TelnyxRest._retrieve_number),
        ("PATCH", f"/phone_numbers{_ID}", TelnyxRest._update_number),
        ("GET", "/outbound_voice_profiles", TelnyxRest._list_profiles),
    )
]


def _data(body: dict[str, Any], status: int = 200) -> Reply:
    return Reply(status, {"data": body})


def _error(status: int, code: str, title: str) -> Reply:
    meta = {"url": f"https://developers.telnyx.com/docs/overview/errors/{code}"}
    return Reply(status, {"errors": [{"code": code, "title": title, "detail": f"{title}.", "meta": meta}]})


def _connection_body(connection: TelnyxConnection) -> dict[str, Any]:
    """What ``/connections`` tells of one, whatever its kind."""
    return {
        "record_type": connection.record_type,
        "id": connection.id,
        "connection_name": connection.name,
        "active": connection.active,
        "anchorsite_override": connection.anchorsite_override,
        "outbound_voice_profile_id": connection.outbound_voice_profile_id,
        "webhook_event_url": None,
        "webhook_event_failover_url": None,
        "webhook_api_version": "2",
        "tags": [],
        "created_at": DATE,
        "updated_at": DATE,
    }


def _detailed_body(connection: TelnyxConnection, shown: bool = False) -> dict[str, Any]:
    """What its own kind's path tells; ``shown``: with the password, which this answer is about."""
    body = _connection_body(connection)
    del body["outbound_voice_profile_id"]
    masked = connection.account.masks_passwords and not shown
    return {
        **body,
        "user_name": connection.user_name,
        "password": MASK if masked and connection.password else connection.password,
        "registration_status": "Registered" if connection.registration else "Not Registered",
        "sip_uri_calling_preference": None,
        "dtmf_type": "RFC 2833",
        "encrypted_media": connection.encrypted_media,
        "encode_contact_header_enabled": False,
        "inbound": {
            "ani_number_format": "+E.164",
            "dnis_number_format": "e164",
            "codecs": list(connection.codecs),
            "channel_limit": None,
            "sip_compact_headers_enabled": True,
            "timeout_1xx_secs": 5,
            "timeout_2xx_secs": 90,
        },
        "outbound": {
            "outbound_voice_profile_id": connection.outbound_voice_profile_id,
            "call_parking_enabled": connection.call_parking_enabled,
            "channel_limit": None,
        },
    }
