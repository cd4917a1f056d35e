"""Twilio's REST API as far as the edge uses it, with accounts, numbers and calls to remember; for the real SDK.

Facts: the SDK (``twilio`` 9.13.0) for paths, parameters and what it reads of the answers, Twilio's documentation for
the error bodies. Where it is not known which of two answers Twilio gives, a switch chooses.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from tests.support.carriers.rest import Reply, RestServer, Seen

__all__ = ["TwilioAccount", "TwilioCall", "TwilioNumber", "TwilioRest"]

VERSION = "/2010-04-01"
DATE = "Mon, 23 Nov 2026 12:00:00 +0000"

_MESSAGES = {
    20001: "Bad Request",
    20003: "Authenticate",
    20404: "The requested resource {path} was not found",
    20429: "Too Many Requests",
    20500: "Internal Server Error",
    20503: "Service Unavailable",
    21201: "No 'To' number is specified",
    21205: "Url parameter is required.",
    21210: "The source phone number provided is not yet verified for your account",
    21211: "The phone number you are attempting to call is not valid",
}


@dataclass(slots=True)
class TwilioAccount:
    """``owner_sid`` is the parent's for a subaccount; ``secondary_token`` is valid beside the first in a rotation."""

    sid: str
    auth_token: str = field(repr=False)
    owner_sid: str | None = None
    status: str = "active"
    type: str = "Full"
    friendly_name: str = "An account"
    secondary_token: str | None = field(default=None, repr=False)


@dataclass(slots=True)
class TwilioNumber:
    """An incoming phone number; ``voice`` is its capability."""

    sid: str
    account_sid: str
    phone_number: str
    voice: bool = True
    voice_url: str = "https://demo.twilio.com/welcome/voice/"
    voice_method: str = "POST"
    voice_receive_mode: str = "voice"
    trunk_sid: str | None = None
    voice_application_sid: str | None = None


@dataclass(slots=True)
class TwilioCall:
    """A call that was asked for by REST; ``parameters`` are those of the request."""

    sid: str
    account_sid: str
    to: str
    from_: str
    parameters: dict[str, str]
    status: str = "queued"
    updates: list[dict[str, str]] = field(default_factory=list)


class TwilioRest(RestServer):
    """``on_call`` and ``on_update`` hear of calls that are created and changed, for whoever plays the telephone part.

    ``foreign_status`` is what a request for another account's things gets: 401 or 404. ``inactive_refused``: a
    suspended or closed account's credentials get 401 instead of an account that says so. ``page_size_max`` bounds
    the pages of lists.
    """

    def __init__(self) -> None:
        super().__init__()
        self.accounts: dict[str, TwilioAccount] = {}
        self.numbers: dict[str, TwilioNumber] = {}
        self.calls: dict[str, TwilioCall] = {}
        self.foreign_status = 404
        self.inactive_refused = False
        self.page_size_max = 1000
        self.on_call: Callable[[TwilioCall], None] = lambda call: None
        self.on_update: Callable[[TwilioCall], None] = lambda call: None
        self._serial = itertools.count(1)

    @property
    def url(self) -> str:
        """For ``providers.twilio_base_url``."""
        return self.origin

    def new_sid(self, prefix: str) -> str:
        """``PN0000…01``."""
        return f"{prefix}{next(self._serial):032x}"

    def add_account(self, auth_token: str, *, sid: str | None = None, **fields: Any) -> TwilioAccount:
        """``fields`` are those of :class:`TwilioAccount`."""
        account = TwilioAccount(sid or self.new_sid("AC"), auth_token, **fields)
        self.accounts[account.sid] = account
        return account

    def add_number(self, account: TwilioAccount, phone_number: str, **fields: Any) -> TwilioNumber:
        """``fields`` are those of :class:`TwilioNumber`."""
        number = TwilioNumber(self.new_sid("PN"), account.sid, phone_number, **fields)
        self.numbers[number.sid] = number
        return number

    def adopt(self, sid: str, account_sid: str, to: str, from_: str) -> TwilioCall:
        """A call that came from outside, so that it can be changed."""
        call = self.calls[sid] = TwilioCall(sid, account_sid, to, from_, {}, status="in-progress")
        return call

    # --- HTTP ---

    def error(self, status: int) -> Reply:
        """Twilio's body for it; the codes are 20000 and the status."""
        return _error(status, 20003 if status == 401 else 20000 + status)

    def answer(self, request: Seen) -> Reply:
        caller = self._caller(request)
        if caller is None:
            return _error(401, 20003)
        for method, pattern, handler in _ROUTES:
            found = pattern.fullmatch(request.path)
            if found is not None and method == request.method:
                account = self._reachable(caller, found.groupdict().get("account", caller.sid))
                if account is None:
                    return _error(self.foreign_status, 20003 if self.foreign_status == 401 else 20404, request.path)
                return handler(self, request, account, found["sid"] if "sid" in pattern.groupindex else "")
        return _error(404, 20404, request.path)

    def _caller(self, request: Seen) -> TwilioAccount | None:
        scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
        try:
            sid, _, token = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        account = self.accounts.get(sid)
        if scheme.lower() != "basic" or account is None or not token:
            return None
        if self.inactive_refused and account.status != "active":
            return None
        return account if token in (account.auth_token, account.secondary_token) else None

    def _reachable(self, caller: TwilioAccount, sid: str) -> TwilioAccount | None:
        """An account's own credentials and its parent's."""
        account = self.accounts.get(sid)
        return account if account is not None and caller.sid in (account.sid, account.owner_sid) else None

    def _list_accounts(self, request: Seen, account: TwilioAccount, sid: str) -> Reply:
        shown = [each for each in self.accounts.values() if account.sid in (each.sid, each.owner_sid)]
        return self._page(request, "accounts", [_account_body(each) for each in shown])

    def _fetch_account(self, request: Seen, account: TwilioAccount, sid: str) -> Reply:
        return Reply(200, _account_body(account))

    def _list_numbers(self, request: Seen, account: TwilioAccount, sid: str) -> Reply:
        wanted = re.sub(r"[^\d*]", "", request.query.get("PhoneNumber", "")).replace("*", r"\d")
        shown = [each for each in self.numbers.values() if each.account_sid == account.sid]
        matching = [each for each in shown if re.search(wanted, each.phone_number)]
        return self._page(request, "incoming_phone_numbers", [_number_body(each) for each in matching])

    def _fetch_number(self, request: Seen, account: TwilioAccount, sid: str) -> Reply:
        number = self.numbers.get(sid)
        if number is None or number.account_sid != account.sid:
            return _error(404, 20404, request.path)
        return Reply(200, _number_body(number))

    def _update_number(self, request: Seen, account: TwilioAccount, sid: str) -> Reply:
        number = self.numbers.get(sid)
        if number is None or number.account_sid != account.sid:
            return _error(404, 20404, request.path)
        form = request.form
        number.voice_url = form.get("VoiceUrl", number.voice_url)
        number.voice_method = form.get("VoiceMethod", number.voice_method)
        if form.keys() & {"TrunkSid", "VoiceApplicationSid"}:  # setting one clears the other
            number.trunk_sid = form.get("TrunkSid") or None
            number.voice_application_sid = form.get("VoiceApplicationSid") or None
        return Reply(200, _number_body(number))

    def _create_call(self, request: Seen, account: TwilioAccount, sid: str) -> Reply:
        form = request.form
        if "To" not in form:
            return _error(400, 21201)
        if not {"Url", "Twiml", "ApplicationSid"} & form.keys():
            return _error(400, 21205)
        if not re.fullmatch(r"\+\d{7,15}|sips?:.+|client:.+", form["To"]):
            return _error(400, 21211)
        owned = {each.phone_number for each in self.numbers.values() if each.account_sid == account.sid}
        if form.get("From") not in owned:
            return _error(400, 21210)
        call = TwilioCall(self.new_sid("CA"), account.sid, form["To"], form["From"], dict(form))
        self.calls[call.sid] = call
        self.on_call(call)
        return Reply(201, _call_body(call))

    def _fetch_call(self, request: Seen, account: TwilioAccount, sid: str) -> Reply:
        call = self.calls.get(sid)
        if call is None or call.account_sid != account.sid:
            return _error(404, 20404, request.path)
        return Reply(200, _call_body(call))

    def _update_call(self, request: Seen, account: TwilioAccount, sid: str) -> Reply:
        call = self.calls.get(sid)
        if call is None or call.account_sid != account.sid:
            return _error(404, 20404, request.path)
        call.updates.append(dict(request.form))
        call.status = request.form.get("Status", call.status)
        self.on_update(call)
        return Reply(200, _call_body(call))

    def _page(self, request: Seen, name: str, rows: list[dict[str, Any]]) -> Reply:
        """Twilio's paging: the next page's address is in the answer, and holds all that asked for this one."""
        size = min(int(request.query.get("PageSize", 50)), self.page_size_max)
        page = int(request.query.get("Page", 0))
        shown = rows[page * size : (page + 1) * size]
        more = len(rows) > (page + 1) * size
        body = {
            name: shown,
            "page": page,
            "page_size": size,
            "start": page * size,
            "end": page * size + max(len(shown) - 1, 0),
            "uri": request.target,
            "first_page_uri": _page_uri(request, 0, size),
            "previous_page_uri": _page_uri(request, page - 1, size) if page else None,
            "next_page_uri": _page_uri(request, page + 1, size) if more else None,
        }
        return Reply(200, body)


_Handler = Callable[[TwilioRest, Seen, TwilioAccount, str], Reply]


_ACCOUNT = rf"{VERSION}/Accounts/(?P<account>AC\w{{32}})"
_SID = r"/(?P<sid>\w{34})"

_ROUTES: list[tuple[str, re.Pattern[str], _Handler]] = [
    (method, re.compile(path + r"\.json"), handler)
    for method, path, handler in (
        ("GET", f"{VERSION}/Accounts", TwilioRest._list_accounts),
        ("GET", _ACCOUNT, TwilioRest._fetch_account),
        ("GET", f"{_ACCOUNT}/IncomingPhoneNumbers", TwilioRest._list_numbers),
        ("GET", f"{_ACCOUNT}/IncomingPhoneNumbers{_SID}", TwilioRest._fetch_number),
        ("POST", f"{_ACCOUNT}/IncomingPhoneNumbers{_SID}", TwilioRest._update_number),
        ("POST", f"{_ACCOUNT}/Calls", TwilioRest._create_call),
        ("GET", f"{_ACCOUNT}/Calls{_SID}", TwilioRest._fetch_call),
        ("POST", f"{_ACCOUNT}/Calls{_SID}", TwilioRest._update_call),
    )
]


def _error(status: int, code: int, path: str = "") -> Reply:
    body = {
        "code": code,
        "message": _MESSAGES.get(code, "Error").format(path=path),
        "more_info": f"https://www.twilio.com/docs/errors/{code}",
        "status": status,
    }
    return Reply(status, body)


def _page_uri(request: Seen, page: int, size: int) -> str:
    query = {**request.query, "PageSize": str(size), "Page": str(page)}
    if page:
        query["PageToken"] = f"PA{page:032x}"
    return f"{request.path}?{urlencode(query)}"


def _account_body(account: TwilioAccount) -> dict[str, Any]:
    uri = f"{VERSION}/Accounts/{account.sid}"
    return {
        "sid": account.sid,
        "owner_account_sid": account.owner_sid or account.sid,
        "friendly_name": account.friendly_name,
        "status": account.status,
        "type": account.type,
        "auth_token": account.auth_token,
        "date_created": DATE,
        "date_updated": DATE,
        "uri": f"{uri}.json",
        "subresource_uris": {
            "calls": f"{uri}/Calls.json",
            "incoming_phone_numbers": f"{uri}/IncomingPhoneNumbers.json",
        },
    }


def _number_body(number: TwilioNumber) -> dict[str, Any]:
    return {
        "sid": number.sid,
        "account_sid": number.account_sid,
        "phone_number": number.phone_number,
        "friendly_name": number.phone_number,
        "capabilities": {"voice": number.voice, "sms": True, "mms": True, "fax": False},
        "voice_url": number.voice_url,
        "voice_method": number.voice_method,
        "voice_fallback_url": "",
        "voice_fallback_method": "POST",
        "voice_application_sid": number.voice_application_sid or "",
        "voice_caller_id_lookup": False,
        "voice_receive_mode": number.voice_receive_mode,
        "trunk_sid": number.trunk_sid,
        "sms_url": "",
        "sms_method": "POST",
        "sms_fallback_url": "",
        "sms_fallback_method": "POST",
        "sms_application_sid": "",
        "status_callback": "",
        "status_callback_method": "POST",
        "address_requirements": "none",
        "address_sid": None,
        "api_version": "2010-04-01",
        "beta": False,
        "bundle_sid": None,
        "date_created": DATE,
        "date_updated": DATE,
        "emergency_address_sid": None,
        "emergency_address_status": "unregistered",
        "emergency_status": "Inactive",
        "identity_sid": None,
        "origin": "twilio",
        "status": "in-use",
        "uri": f"{VERSION}/Accounts/{number.account_sid}/IncomingPhoneNumbers/{number.sid}.json",
    }


def _call_body(call: TwilioCall) -> dict[str, Any]:
    return {
        "sid": call.sid,
        "account_sid": call.account_sid,
        "to": call.to,
        "from": call.from_,
        "status": call.status,
        "direction": "outbound-api",
        "api_version": "2010-04-01",
        "date_created": DATE,
        "date_updated": DATE,
        "start_time": None,
        "end_time": None,
        "duration": None,
        "price": None,
        "price_unit": "USD",
        "parent_call_sid": None,
        "phone_number_sid": None,
        "subresource_uris": {},
        "uri": f"{VERSION}/Accounts/{call.account_sid}/Calls/{call.sid}.json",
    }
