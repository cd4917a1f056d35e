"""A serving edge between both carriers' fakes, all on loopback, with an account to do business in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from tests.support.carriers.telnyx import FakeTelnyx
from tests.support.carriers.telnyx_rest import TelnyxAccount, TelnyxConnection, TelnyxRest
from tests.support.carriers.twilio import FakeTwilio
from tests.support.carriers.twilio_rest import TwilioAccount, TwilioRest
from tests.support.edge import API, Edge, Keyring, Settings
from tests.support.pki import Pki

__all__ = ["PASSWORD", "PUBLIC", "TELNYX_DID", "TWILIO_DID", "WEBHOOK", "Stage", "Tenant"]

PUBLIC = "https://edge.test"
"""The API's public base URL; the proxy that speaks TLS there is the fakes' imagination."""

DOMAIN = "sip.test"
TWILIO_DID, TELNYX_DID = "+14155550100", "+14155550200"
WEBHOOK = f"{PUBLIC}/telephony/inbound/twilio"
PASSWORD = "correct-horse-battery-staple"
_LOOPBACK = ["127.0.0.0/8"]


@dataclass
class Tenant:
    """One account of the edge, with an account at each carrier. ``api`` has its key."""

    name: str
    api: httpx.AsyncClient
    twilio: TwilioAccount
    telnyx: TelnyxAccount

    async def request(self, method: str, path: str, body: object = None, *, status: int = 200) -> Any:
        """The ``data`` of an answer that has to have this status; the ``error`` of a refusal."""
        response = await self.api.request(method, API + path, json=body)
        if response.status_code != status:
            raise AssertionError(f"{method} {path}: {response.status_code}, expected {status}: {response.text}")
        return response.json()["data" if response.is_success else "error"]

    async def records(self, count: int = 1, timeout_s: float = 10.0) -> list[dict[str, Any]]:
        """Exactly so many call records of the account, each ended."""
        found: list[dict[str, Any]] = []
        try:
            async with asyncio.timeout(timeout_s):
                while len(found) < count or not all(record["ended_at"] for record in found):
                    await asyncio.sleep(0.05)
                    found = await self.request("GET", "/calls")
        except TimeoutError:
            raise AssertionError(f"{count} ended call records of {self.name} expected, there are {found}") from None
        assert len(found) == count, found
        return found

    async def save_twilio(self, *, status: int = 200, **changes: str) -> Any:
        """As it would be pasted into the settings page."""
        body = {"account_sid": self.twilio.sid, "auth_token": self.twilio.auth_token, **changes}
        return await self.request("PUT", "/telephony/integrations/twilio", body, status=status)

    async def save_telnyx(self, *, status: int = 200, **changes: str) -> Any:
        """Likewise."""
        body = {"api_key": self.telnyx.api_key, **changes}
        return await self.request("PUT", "/telephony/integrations/telnyx", body, status=status)

    async def import_twilio(self, did: str = TWILIO_DID, *, status: int = 201, sid: str = "") -> Any:
        """The number's resource, or the error."""
        body = {"phone_number": did, "provider": "twilio", "provider_account_sid": sid or self.twilio.sid}
        return await self.request("POST", "/telephony/numbers/import", body, status=status)

    async def import_telnyx(
        self, connection: TelnyxConnection, did: str = TELNYX_DID, *, status: int = 201, **more: object
    ) -> Any:
        """The number's resource, or the error."""
        body = {"phone_number": did, "provider": "telnyx", "provider_connection_id": connection.id, **more}
        return await self.request("POST", "/telephony/numbers/import", body, status=status)

    async def assign(self, number: Mapping[str, Any], pipeline: Mapping[str, Any] | None = None) -> str:
        """An agent of its own, the built-in echo unless told otherwise; its id."""
        pipeline = pipeline or {"protocol": "builtin", "name": "echo"}
        agent = await self.request("POST", "/agents", {"name": "agent", "pipeline": pipeline}, status=201)
        await self.request("PATCH", f"/telephony/numbers/{number['id']}", {"agent_id": agent["id"]})
        return str(agent["id"])


@dataclass
class Stage:
    """Open with :meth:`open`. ``tenant`` is the account of the edge's own key; :meth:`another` makes more."""

    edge: Edge
    twilio: FakeTwilio
    twilio_rest: TwilioRest
    telnyx: FakeTelnyx
    telnyx_rest: TelnyxRest
    tenant: Tenant
    settings: Settings
    allowed_complaints: list[str] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        folder: Path,
        keyring: Keyring,
        settings: Settings | None = None,
        *,
        pki: Pki | None = None,
        telnyx_transport: str = "udp",
        telnyx_addresses: tuple[str, ...] = ("127.0.0.3",),
        checked: bool = True,
    ) -> AsyncIterator[Stage]:
        """Twilio calls from 127.0.0.2, Telnyx from 127.0.0.3. At the end neither may have anything to complain of."""
        trust = pki.client_context() if pki else None
        settings = settings or Settings()
        # What carriers do to signalling is no business of media's: one process less to start for each test.
        settings = replace(settings, media={"workers": 0, **settings.media})
        if pki:
            settings = replace(settings, pki=pki, listen=(*settings.listen, "tls:127.0.0.1:0"))
        async with (
            TwilioRest() as twilio_rest,
            TelnyxRest() as telnyx_rest,
            FakeTwilio.open(twilio_rest, trust=trust) as twilio,
            FakeTelnyx.open(telnyx_rest, addresses=telnyx_addresses) as telnyx,
        ):
            providers = {
                "twilio_base_url": twilio_rest.url,
                "telnyx_base_url": telnyx_rest.url,
                "telnyx_sip_proxy": f"{telnyx_transport}:{telnyx.border.host}:{telnyx.border.port}",
                "twilio_signalling": ["127.0.0.2/32"],
                "telnyx_signalling": ["127.0.0.3/32"],
                "twilio_media": _LOOPBACK,
                "telnyx_media": _LOOPBACK,
                **settings.providers,
            }
            settings = replace(settings, api={"public_url": PUBLIC, **settings.api}, providers=providers)
            async with Edge.open(folder, keyring, settings, checked=checked) as edge:
                twilio.web[PUBLIC] = edge.url
                first = next(iter(edge.listeners.values()))
                twilio.hosts[DOMAIN], telnyx.hosts[DOMAIN] = first[0], first
                tenant = Tenant("Test", edge.api, _twilio_account(twilio_rest), _telnyx_account(telnyx_rest))
                stage = cls(edge, twilio, twilio_rest, telnyx, telnyx_rest, tenant, settings)
                yield stage
            complaints = [*twilio.border.complaints, *telnyx.complaints]
            if checked and complaints != stage.allowed_complaints:
                raise AssertionError("the carriers complain:\n  " + "\n  ".join(complaints))

    async def counted(self, name: str, **labels: str) -> float:
        """The sum of a counter's series that have these labels."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        series = (await self.edge.metrics()).items()
        ours = [(text, value) for text, value in series if text.startswith(f"truedy_{name}_total")]
        return sum(value for text, value in ours if all(label in text for label in wanted))

    @asynccontextmanager
    async def another(self, name: str) -> AsyncIterator[Tenant]:
        """A second account of the edge, with accounts of its own at the carriers."""
        account = await self.edge.request("POST", "/accounts", {"name": name}, status=201)
        key = await self.edge.request("POST", "/keys", {"account_id": account["id"]}, status=201)
        headers = {"Authorization": f"Bearer {key['key']}"}
        async with httpx.AsyncClient(base_url=self.edge.url, headers=headers, timeout=10.0) as api:
            yield Tenant(name, api, _twilio_account(self.twilio_rest), _telnyx_account(self.telnyx_rest))

    async def twilio_number(
        self, did: str = TWILIO_DID, *, tenant: Tenant | None = None, pipeline: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Bought, its voice URL set, credentials saved, imported and assigned; the number's resource."""
        tenant = tenant or self.tenant
        self.twilio_rest.add_number(tenant.twilio, did, voice_url=WEBHOOK)
        await tenant.save_twilio()
        number: dict[str, Any] = await tenant.import_twilio(did)
        await tenant.assign(number, pipeline)
        return number

    def telnyx_connection(self, *, tenant: Tenant | None = None, **fields: Any) -> TelnyxConnection:
        """A connection that is fit for calls; a credential one unless told otherwise."""
        tenant = tenant or self.tenant
        count = len(self.telnyx_rest.connections_by_id)
        if fields.get("kind", "credential") == "credential":
            fields = {"user_name": f"truedyuser{count}", "password": PASSWORD, **fields}
        return self.telnyx_rest.add_connection(tenant.telnyx, **{"outbound_voice_profile_id": "1293384261", **fields})

    async def telnyx_number(
        self,
        did: str = TELNYX_DID,
        *,
        connection: TelnyxConnection | None = None,
        tenant: Tenant | None = None,
        pipeline: Mapping[str, Any] | None = None,
    ) -> TelnyxConnection:
        """Bought, put on a connection, credentials saved, imported, assigned, and registered; the connection."""
        tenant = tenant or self.tenant
        connection = connection or self.telnyx_connection(tenant=tenant)
        self.telnyx_rest.add_number(tenant.telnyx, did, connection)
        await tenant.save_telnyx()
        number = await tenant.import_telnyx(connection, did)
        await tenant.assign(number, pipeline)
        if connection.kind == "credential":
            await self.telnyx.registered(connection.user_name or "")
        return connection


def _twilio_account(rest: TwilioRest) -> TwilioAccount:
    return rest.add_account(f"{len(rest.accounts):032x}".replace("0", "a"))


def _telnyx_account(rest: TelnyxRest) -> TelnyxAccount:
    return rest.add_account(f"KEY{len(rest.accounts):048x}")
