"""The control side without SIP or media: operations over a registry in memory, with live calls played by a fake."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from config.settings import Limits, Providers, Recording, Settings, Trunk
from control.api.app import create_app
from control.carrying import Carrying
from control.hold import HoldOutcome
from control.instructions import Instruction
from control.live_calls import CallCommand, LiveCall
from control.metrics import Readings
from control.operations import Operations
from control.operations.principal import Principal
from control.outgoing import NothingPlaced
from control.providers import Checked, Claim, Verified
from control.readiness import Readiness
from control.recording_files import RecordingFiles
from control.recordings import Recordings
from control.registry.memory import MemoryRegistry
from control.registry.types import CallEvent, Connection, Integration
from control.resources.accounts import AccountResource, CreateAccount, CreateKey
from control.resources.integrations import SaveTelnyxIntegration, SaveTwilioIntegration
from control.vault import Vault
from edge.counters import Counters
from media.messages import Done, Result
from tests.support.apart import joined
from tests.support.clock import FakeClock

__all__ = [
    "BASE",
    "SID",
    "Desk",
    "FakeCarrier",
    "FakeConnections",
    "FakeHealth",
    "FakeLiveCalls",
    "believe",
    "counting_entropy",
    "live_one",
    "offered",
]

BASE = "/api/public/v1"
SID = "AC" + "0" * 32
"""A Twilio account."""


def counting_entropy() -> Any:
    """Entropy that never repeats and never surprises."""
    count = 0

    def draw(size: int) -> bytes:
        nonlocal count
        count += 1
        return count.to_bytes(size)

    return draw


def live_one(id: str, account_id: str, **fields: Any) -> LiveCall:
    """A call that rings, unless ``fields`` say otherwise."""
    ringing: dict[str, Any] = {
        "number_id": "0198c0de-0000-4000-8000-000000000001",
        "agent_id": "",
        "trunk": "lab",
        "from_number": "+12025550199",
        "to_number": "+14155550100",
        "state": "ringing",
        "direction": "inbound",
        "age_s": 2.0,
        "statistics": None,
    }
    return LiveCall(id=id, account_id=account_id, **(ringing | fields))


@dataclass
class FakeLiveCalls:
    """Calls that a test puts in ``up``; ``ended`` says who ended which, ``parting`` with which headers at last."""

    up: dict[str, LiveCall] = field(default_factory=dict)
    ended: list[tuple[str, str]] = field(default_factory=list)
    parting: dict[str, str] = field(default_factory=dict)
    held: list[str] = field(default_factory=list)
    outcome: HoldOutcome = HoldOutcome.DONE
    commands: list[CallCommand] = field(default_factory=list)
    performed: list[Instruction] = field(default_factory=list)
    result: Result = Done()  # noqa: RUF009 - frozen

    async def hang_up(self, account_id: str, call_id: str, by: str, headers: Mapping[str, str] | None = None) -> bool:
        """Ends it if it is the account's."""
        if not self._has(account_id, call_id):
            return False
        del self.up[call_id]
        self.ended.append((call_id, by))
        self.parting = dict(headers or {})
        return True

    async def command(self, account_id: str, command: CallCommand) -> Result | None:
        """Notes it, and answers what ``result`` is."""
        if not self._has(account_id, command.call):
            return None
        self.commands.append(command)
        return self.result

    async def perform(self, account_id: str, call_id: str, instructions: Sequence[Instruction]) -> Result | None:
        """Likewise."""
        if not self._has(account_id, call_id):
            return None
        self.performed += [*instructions]
        return self.result

    async def hold(self, account_id: str, call_id: str) -> HoldOutcome:
        """Likewise, with ``outcome``."""
        return self._hold(account_id, call_id, "hold")

    async def resume(self, account_id: str, call_id: str) -> HoldOutcome:
        """Likewise."""
        return self._hold(account_id, call_id, "resume")

    def _hold(self, account_id: str, call_id: str, verb: str) -> HoldOutcome:
        if not self._has(account_id, call_id):
            return HoldOutcome.NO_CALL
        self.held.append(verb)
        return self.outcome

    def _has(self, account_id: str, call_id: str) -> bool:
        call = self.up.get(call_id)
        return call is not None and call.account_id == account_id

    async def live(self, account_id: str, call_id: str) -> LiveCall | None:
        """The account's."""
        return self.up[call_id] if self._has(account_id, call_id) else None


def believe(claim: Claim, integration: Integration) -> Verified:
    """What a carrier says of its customer's number: at Telnyx, it is on a credential connection."""
    if integration.provider == "twilio":
        return Verified("twilio")
    trunk = f"telnyx:{claim.reference}"
    secrets = {"sip_password": claim.sip_password} if claim.sip_password else {}
    connection = Connection(
        claim.reference, claim.account_id, "telnyx", "credential", "gw", trunk, "gw", claim.host, secrets=secrets
    )
    return Verified(trunk, connection=claim.connection or connection)


@dataclass
class FakeCarrier:
    """Either carrier. It takes all credentials and believes every claim, unless a test lets it ``say`` otherwise.

    ``refusals`` are raised for claims of an account, by its id; ``bad_credentials`` whenever they are checked.
    """

    say: Callable[[Claim, Integration], Verified] = believe
    checked: Checked = field(default_factory=Checked)
    refusals: dict[str, Exception] = field(default_factory=dict)
    bad_credentials: Exception | None = None
    silent: bool = False
    load_s: float = 0.0
    claims: list[tuple[Claim, Integration]] = field(default_factory=list)
    integrations: list[Integration] = field(default_factory=list)

    async def load(self) -> None:
        """As long as the test has it take."""
        await asyncio.sleep(self.load_s)

    async def check_credentials(self, integration: Integration) -> Checked:
        """As the test has it."""
        self.integrations.append(integration)
        await self._answer()
        if self.bad_credentials is not None:
            raise self.bad_credentials
        return self.checked

    async def verify(self, claim: Claim, integration: Integration) -> Verified:
        """As the test has it."""
        self.claims.append((claim, integration))
        await self._answer()
        if claim.account_id in self.refusals:
            raise self.refusals[claim.account_id]
        return self.say(claim, integration)

    async def _answer(self) -> None:
        if self.silent:
            await asyncio.get_running_loop().create_future()


@dataclass
class FakeConnections:
    """Remembers what it is told: a connection that changed, or the id of one that went."""

    told: list[Connection | str] = field(default_factory=list)

    def changed(self, connection: Connection) -> None:
        """Remembered."""
        self.told.append(connection)

    def removed(self, connection_id: str) -> None:
        """Remembered."""
        self.told.append(connection_id)


@dataclass
class FakeHealth:
    """Ready until a test says otherwise."""

    state: Readiness = field(default_factory=lambda: Readiness(("udp:127.0.0.1:5060",), registry_open=True))

    async def readiness(self) -> Readiness:
        """As the test has it."""
        return self.state

    async def readings(self) -> Readings:
        """None."""
        return {}


def offered(call_id: str, account_id: str, at: float = 0.0, **data: Any) -> CallEvent:
    """The first event of an inbound call's record."""
    facts = {
        "account_id": account_id,
        "direction": "inbound",
        "trunk": "lab",
        "from_number": "+12025550199",
        "to_number": "+14155550100",
    }
    return CallEvent(id=f"{call_id}/offered", kind="offered", at=at, call_id=call_id, data={**facts, **data})


class Desk:
    """Two accounts, ``acme`` and ``globex``, and the trunks ``lab`` (open to acme), ``shut`` (to nobody)."""

    def __init__(
        self,
        *,
        limits: Mapping[str, Any] | None = None,
        registry: Any = None,
        providers: Mapping[str, Any] | None = None,
    ) -> None:
        """``limits`` and ``providers`` are settings; both carriers are one fake."""
        self.registry = registry if registry is not None else MemoryRegistry()
        self.calls = FakeLiveCalls()
        self.carrier = FakeCarrier()
        self.connections = FakeConnections()
        self.health = FakeHealth()
        self.recordings: Recordings | None = None
        self.wall = FakeClock(1_790_000_000.0)
        self.now = FakeClock()
        self.settings = Settings(
            providers=Providers(**(providers or {})),
            limits=Limits(**{"api_requests_per_minute": 10_000, **(limits or {})}),
            trunks=(
                Trunk(name="lab", addresses=("127.0.0.0/8",), accounts=("acme",), lab=True),
                Trunk(name="shut", addresses=("192.0.2.0/24",), lab=True),
            ),
        )
        apart = joined(self.carrying)
        self.operations = Operations(
            self.registry,
            apart.calls,
            self.settings,
            clock=self.wall,
            entropy=counting_entropy(),
            providers={"twilio": self.carrier, "telnyx": self.carrier, "openai": self.carrier},
            connections=apart.connections,
        )
        self.app: FastAPI = create_app(self.operations, apart.health, now=self.now)
        self.accounts: dict[str, AccountResource] = {}
        self.keys: dict[str, str] = {}
        self.journal: list[CallEvent] = []

    @property
    def carrying(self) -> Carrying:
        """What the API asks, over both sides of its pipe: a process of its own is what it usually has."""
        return Carrying(
            calls=self.calls,
            outgoing=NothingPlaced(),
            recordings=self.recordings,  # type: ignore[arg-type]
            announcer=None,  # type: ignore[arg-type]
            connections=self.connections,
            health=self.health,
        )

    def keep_recordings(self, folder: Path, key: bytes = bytes(range(32))) -> Recordings:
        """From now on they are in ``folder``, all calls are recorded, and what they tell is in ``journal``."""

        class Log:
            append = self.journal.append

        vault = Vault(key, entropy=os.urandom)
        self.recordings = recordings = Recordings(
            Recording(enabled=True, format="ogg", path=folder),
            vault,
            self.registry,
            journal=Log(),
            counters=Counters(),
            spawn=lambda work, name: asyncio.ensure_future(work),
            entropy=os.urandom,
            now=self.now,
            wall=self.wall,
        )
        self.operations.recordings = joined(self.carrying, RecordingFiles(folder, vault)).recordings
        return recordings

    async def furnish(self) -> Desk:
        """Make the accounts, a key for each, and an operator's key in acme (``operator``)."""
        console = Principal.console()
        for name in ("acme", "globex"):
            self.accounts[name] = await self.operations.create_account(console, CreateAccount(name=name))
            self.keys[name] = await self.new_key(name)
        self.keys["operator"] = await self.new_key("acme", role="operator")
        return self

    async def integrate(self, account: str, *providers: str) -> None:
        """Save credentials for the account, whose text is ``ACCOUNT-secret``."""
        by = self.principal(account)
        for provider in providers or ("twilio", "telnyx"):
            if provider == "twilio":
                twilio = SaveTwilioIntegration.of(account_sid=SID, auth_token=f"{account}-secret")
                await self.operations.save_twilio_integration(by, twilio)
            else:
                telnyx = SaveTelnyxIntegration.of(api_key=f"{account}-secret")
                await self.operations.save_telnyx_integration(by, telnyx)

    async def new_key(self, account: str, role: Any = "account") -> str:
        """A further key's text."""
        inside = Principal.console(self.accounts[account].id)
        return (await self.operations.create_key(inside, CreateKey(role=role))).key

    def principal(self, account: str) -> Principal:
        """The account itself."""
        return Principal(self.accounts[account].id, "account", "key")

    @asynccontextmanager
    async def client(
        self, key: str | None = None, *, source: str = "198.51.100.7", raises: bool = True
    ) -> AsyncIterator[httpx.AsyncClient]:
        """An HTTP client with the key called ``key``; ``source`` is its address."""
        transport = httpx.ASGITransport(self.app, client=(source, 40000), raise_app_exceptions=raises)
        headers = {"Authorization": f"Bearer {self.keys[key]}"} if key else {}
        async with httpx.AsyncClient(transport=transport, base_url="http://edge", headers=headers) as client:
            yield client
