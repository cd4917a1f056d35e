"""The registry's rows, its errors and the protocol every store implements.

Times are UTC seconds since the epoch as float; ids are UUID strings; phone numbers are E.164 with ``+``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec

__all__ = [
    "SUBACCOUNT",
    "Account",
    "Agent",
    "AgentInUse",
    "ApiKey",
    "Call",
    "CallEvent",
    "CallFilter",
    "CarrierImport",
    "Conflict",
    "Connection",
    "DiallingRules",
    "Integration",
    "IntegrationInUse",
    "JournalPosition",
    "NotFound",
    "Number",
    "Page",
    "PhoneNumberTaken",
    "PlacedCall",
    "Registry",
    "RegistryBusy",
    "RegistryError",
    "RegistryFull",
    "RegistryLocked",
    "RegistryUnusable",
    "Removal",
    "Route",
    "SecretsUnavailable",
]

SUBACCOUNT: Final = "subaccount:"
"""What the name of a Twilio subaccount's token begins with among an integration's secrets; its Account SID follows."""


class RegistryError(Exception):
    """Base of what a store raises."""


class NotFound(RegistryError):
    """No such row in that account."""

    def __init__(self, kind: str, id: str) -> None:
        super().__init__(f"no {kind} {id}")
        self.kind = kind
        self.id = id


class Conflict(RegistryError):
    """A unique constraint other than the phone number's."""


class PhoneNumberTaken(Conflict):
    """The canonical number is in the registry already, whichever account holds it."""


class AgentInUse(Conflict):
    """An agent that numbers still point to is not deleted: their callers would meet silence. Unassign them first."""

    def __init__(self, agent_id: str, numbers: int) -> None:
        super().__init__(f"agent {agent_id} answers {numbers} number{'' if numbers == 1 else 's'}")
        self.agent_id = agent_id
        self.numbers = numbers


class IntegrationInUse(Conflict):
    """Without its credentials the calls of a carrier's numbers cannot be told from forged ones: remove them first."""

    def __init__(self, provider: str, numbers: int) -> None:
        super().__init__(f"the {provider} integration serves {numbers} number{'' if numbers == 1 else 's'}")
        self.provider = provider
        self.numbers = numbers


class RegistryBusy(RegistryError):
    """Locked by another process for longer than the busy time-out."""


class RegistryFull(RegistryError):
    """No room on the disk (API: 507)."""


class RegistryLocked(RegistryError):
    """Another process already serves from this registry."""


class RegistryUnusable(RegistryError):
    """Cannot be opened or read: no permission, no registry, damaged, or written by a newer version."""


class SecretsUnavailable(RegistryError):
    """A sealed value does not open, or there is no ``secrets.key`` to seal with."""


@dataclass(frozen=True, slots=True)
class Account:
    id: str
    name: str
    created_at: float


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key's row; the key itself is only its SHA-256. ``role`` is ``account`` or ``operator``."""

    id: str
    account_id: str
    role: str
    hint: str
    created_at: float
    revoked_at: float | None = None


@dataclass(frozen=True, slots=True)
class Agent:
    """``pipeline`` is the validated JSON of the agent's protocol and its settings.

    ``secrets`` go to the agent and nowhere else: ``header:NAME`` for each header of its requests, ``signing_secret``
    and, for an hour after a new one was made, ``previous_signing_secret`` with ``previous_signing_secret_until`` (UTC
    seconds as text), ``twilio_auth_token``. ``options`` is JSON: what listens in on its calls, see
    :mod:`control.listening`.
    """

    id: str
    account_id: str
    name: str
    pipeline: Mapping[str, Any]
    created_at: float
    updated_at: float
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    options: str = "{}"


@dataclass(frozen=True, slots=True)
class Number:
    """``phone_number`` is canonical E.164, unique over all accounts; ``raw`` is what was typed.

    ``parameters`` are given to its agent beside the agent's own; ``fallback`` is what callers get when no agent can be
    reached: ``{"message": recording}`` or ``{"forward": E.164}``.

    ``trunk`` is the key incoming calls are looked up with: a static trunk's name for ``sip``, ``twilio``, ``telnyx`` or
    ``telnyx:ID``. ``options`` is JSON: what listens in on its calls otherwise than the agent has it.
    """

    id: str
    account_id: str
    phone_number: str
    raw: str
    provider: str
    trunk: str
    status: str
    created_at: float
    updated_at: float
    agent_id: str | None = None
    provider_account_sid: str | None = None
    provider_connection_id: str | None = None
    provider_trunk: str | None = None
    options: str = "{}"
    parameters: Mapping[str, str] = field(default_factory=dict)
    fallback: Mapping[str, str] | None = None

    @property
    def own_trunk(self) -> str | None:
        """Its connection's, which nobody shares (``telnyx:ID``): calls that come in there are its in any case."""
        return None if self.provider_connection_id is None else f"{self.provider}:{self.provider_connection_id}"


@dataclass(frozen=True, slots=True)
class Route:
    """The answer to the one hot question: who answers this DID on this trunk."""

    number: Number
    agent: Agent | None


@dataclass(frozen=True, slots=True)
class Integration:
    """A carrier's credentials, decrypted; ``secrets`` never leaves the process.

    Twilio: ``public`` has ``account_sid``; ``secrets`` ``auth_token``, during a rotation ``previous_auth_token`` with
    ``previous_auth_token_until`` (UTC seconds as text), and a token for each subaccount, named ``subaccount:AC…``.
    Telnyx: ``secrets`` has ``api_key`` and where it was given ``sip_password``.
    """

    account_id: str
    provider: str
    public: Mapping[str, str]
    secrets: Mapping[str, str] = field(repr=False)
    created_at: float = 0.0
    updated_at: float = 0.0

    def references(self) -> frozenset[tuple[str, str]]:
        """What it is found by: its public values, and a subaccount's SID as an ``account_sid`` of its own."""
        subaccounts = (name.removeprefix(SUBACCOUNT) for name in self.secrets if name.startswith(SUBACCOUNT))
        return frozenset({*self.public.items(), *(("account_sid", sid) for sid in subaccounts)})


@dataclass(frozen=True, slots=True)
class Connection:
    """What a carrier calls the place that numbers hang on; ``id`` is the carrier's. Today only Telnyx has them.

    ``kind`` is ``credential``, ``fqdn`` or ``ip``. ``trunk`` is that of its numbers: ``telnyx:ID``, or ``telnyx`` for
    an FQDN or IP connection that does not use the ``host`` it was offered (``host_used``). ``proxy`` is the registrar
    to register at, ``user_name`` and ``secrets["sip_password"]`` are what with. ``encrypted_media``: the carrier
    insists on SRTP. ``secrets`` never leaves the process.
    """

    id: str
    account_id: str
    provider: str
    kind: str
    name: str
    trunk: str
    user_name: str | None = None
    host: str | None = None
    host_used: bool = False
    proxy: str | None = None
    encrypted_media: bool = False
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    created_at: float = 0.0
    updated_at: float = 0.0


@dataclass(frozen=True, slots=True)
class DiallingRules:
    """What an operator has set for an account's outgoing calls; None: as the settings say (``[outbound]``).

    ``countries`` are two-letter codes, ``*`` for all.
    """

    account_id: str
    calls: int | None = None
    calls_per_minute: int | None = None
    minutes_per_day: int | None = None
    countries: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class PlacedCall:
    """An idempotency key and what it was first used for; ``fingerprint`` is that of the request's body."""

    account_id: str
    key: str
    fingerprint: str
    call_id: str
    at: float


@dataclass(frozen=True, slots=True)
class CarrierImport:
    """What a carrier's word on a number changes beside the number's own row, all in one transaction.

    ``connection`` is saved, and its numbers move to its trunk; ``secrets`` are added to the account's integration with
    that carrier; ``replaces`` is the id of a number that goes: another account's binding of the same phone number,
    which the carrier no longer confirms.
    """

    connection: Connection | None = None
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    replaces: str | None = None


@dataclass(frozen=True, slots=True)
class Removal:
    """A number that went, as it was. ``connection_id``: its connection, if no number of anybody hangs on it now."""

    number: Number
    connection_id: str | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A call's record. ``status``: ``ringing``, ``in_progress``, ``completed``, ``failed``.

    ``ended_by`` ``caller``, ``agent``, ``operator``, ``edge``; ``end_reason`` a word of
    ``control.calls``' table (``crash`` when the process died); ``timeline`` is (seconds since the
    offer, event); ``statistics`` as ``media.messages.LegStatistics``. ``ring_s`` runs from
    the offer to the answer, ``duration_s`` from there to the end; both None for a call that was never answered.
    ``carrier_ids`` are the carrier's own (``X-Telnyx-Session-ID``, ``CallSid``).
    ``recording`` is empty for a call that was not to be recorded, else as :mod:`control.recordings` tells.
    ``identity`` is what :func:`control.identity.recorded` makes; ``reasons`` the Reason values the call ended with
    (``protocol``, ``cause``, ``text``).
    """

    id: str
    account_id: str
    number_id: str | None
    agent_id: str | None
    direction: str
    trunk: str
    from_number: str
    to_number: str
    status: str
    started_at: float
    answered_at: float | None = None
    ended_at: float | None = None
    ring_s: float | None = None
    duration_s: float | None = None
    sip_status: int | None = None
    ended_by: str | None = None
    end_reason: str | None = None
    sip_call_id: str | None = None
    timeline: Sequence[tuple[float, str]] = ()
    statistics: Mapping[str, Any] = field(default_factory=dict)
    carrier_ids: Mapping[str, str] = field(default_factory=dict)
    recording: Mapping[str, Any] = field(default_factory=dict)
    identity: Mapping[str, Any] = field(default_factory=dict)
    reasons: Sequence[Mapping[str, Any]] = ()


class CallEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the journal; the registry applies each ``id`` once, in the journal's order.

    ``at`` is UTC [s since the epoch], for people. ``offset_s`` counts monotonic seconds since the call was
    offered: durations are made of it alone, so that a clock which jumps spoils none. The kinds:

    - ``offered``: a call begins. ``data``: ``account_id``, ``direction``, ``trunk``, ``from_number``,
      ``to_number``, and where known ``number_id``, ``agent_id``, ``sip_call_id``, ``identity``.
    - ``answered``: the phone leg is up.
    - ``ended``: ``data``: ``ended_by``, ``end_reason``, and where known ``sip_status``, ``statistics``, ``reasons``.
      The first one counts.
    - ``recording``: what is known of the call's recording now, also after its end. ``data``: ``status``, and where
      known ``format``, ``seconds``, ``gaps_ms``, ``bytes``, ``problem``; each adds to what was told before.
    - ``opened`` (no call): a process has begun to write. Calls that are still open died with the process before.
    - ``alive`` (no call): the process lived at ``at``, with calls up. Bounds the end of a call that a crash cut.
    - ``carrier_ids``: what the carrier calls the call. ``data["ids"]``: its own names → ids; added to those known.
    - any other word is a line of the call's timeline; ``data["note"]`` is shown beside it.
    """

    id: str
    kind: str
    at: float
    call_id: str = ""
    offset_s: float = 0.0
    data: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class JournalPosition:
    """How far a journal has been applied: ``offset`` [bytes] in the journal file that calls itself ``journal``."""

    journal: str
    offset: int


@dataclass(frozen=True, slots=True)
class Page:
    """``limit`` 1..100, ``offset`` from 0."""

    limit: int = 50
    offset: int = 0


@dataclass(frozen=True, slots=True)
class CallFilter:
    status: str | None = None
    number_id: str | None = None


class Registry(Protocol):
    """All stores. Every method may raise :class:`RegistryBusy`; writes also :class:`RegistryFull`.

    Lists are newest first, connections oldest first. A row of another account is :class:`NotFound`. ``apply_events``
    stores the position in the same transaction as the events, skips events it has seen and those of calls it knows
    nothing of, and returns how many it took (``alive`` ones not among them).
    """

    async def close(self) -> None: ...

    # accounts and keys
    async def create_account(self, account: Account) -> None: ...
    async def account(self, account_id: str) -> Account: ...
    async def account_by_name(self, name: str) -> Account | None: ...
    async def accounts(self) -> list[Account]: ...
    async def create_key(self, key: ApiKey, digest: bytes) -> None: ...
    async def key_by_digest(self, digest: bytes) -> ApiKey | None: ...
    async def keys(self, account_id: str | None = None) -> list[ApiKey]: ...
    async def revoke_key(self, key_id: str, at: float) -> None: ...

    # agents (their secrets AES-GCM at rest)
    async def create_agent(self, agent: Agent) -> None: ...
    async def agent(self, account_id: str, agent_id: str) -> Agent: ...
    async def agents(self, account_id: str, page: Page) -> tuple[list[Agent], int]: ...
    async def update_agent(self, agent: Agent) -> None: ...
    async def delete_agent(self, account_id: str, agent_id: str) -> None: ...

    # numbers
    async def create_number(self, number: Number, carrier: CarrierImport | None = None) -> Removal | None: ...
    async def refresh_number(self, account_id: str, number_id: str, carrier: CarrierImport) -> Number: ...
    async def number(self, account_id: str, number_id: str) -> Number: ...
    async def numbers(
        self, account_id: str | None, page: Page, phone_number: str | None = None
    ) -> tuple[list[Number], int]: ...
    async def change_number(self, account_id: str, number_id: str, changes: Mapping[str, Any], at: float) -> Number: ...
    async def delete_number(self, account_id: str, number_id: str) -> Removal: ...
    async def number_by_phone(self, phone_number: str) -> Number | None: ...
    async def numbers_on(self, account_id: str, provider: str, connection_id: str | None = None) -> int: ...
    async def route(self, trunk: str, phone_number: str) -> Route | None: ...

    # integrations (AES-GCM at rest)
    async def save_integration(self, integration: Integration) -> None: ...
    async def integration(self, account_id: str, provider: str) -> Integration: ...
    async def integrations_by(self, provider: str, key: str, value: str) -> list[Integration]: ...
    async def delete_integration(self, account_id: str, provider: str) -> None: ...

    # carriers' connections (AES-GCM at rest)
    async def save_connection(self, connection: Connection) -> None: ...
    async def connection(self, account_id: str, provider: str, id: str) -> Connection: ...
    async def connections(self, provider: str, account_id: str | None = None) -> list[Connection]: ...

    # outgoing calls
    async def dialling_rules(self, account_id: str) -> DiallingRules: ...
    async def save_dialling_rules(self, rules: DiallingRules) -> None: ...
    async def outbound_seconds(self, account_id: str, since: float) -> float: ...
    async def place_once(self, placed: PlacedCall, forget_before: float) -> PlacedCall: ...
    async def forget_placed(self, account_id: str, key: str) -> None: ...

    # calls: written only by replaying the journal, each event once
    async def apply_events(self, events: Sequence[CallEvent], position: JournalPosition | None = None) -> int: ...
    async def journal_position(self) -> JournalPosition | None: ...
    async def call(self, account_id: str, call_id: str) -> Call: ...
    async def calls_being_recorded(self) -> list[str]: ...
    async def calls(self, account_id: str, page: Page, filter: CallFilter) -> tuple[list[Call], int]: ...
