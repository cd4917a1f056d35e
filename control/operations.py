"""Everything that can be asked of the edge: the typed operations that the API and the command line share.

They touch the registry, and live calls through :class:`LiveCalls`; nothing else. Each raises only
:class:`control.errors.OperationError`. What another account owns does not exist.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import update_wrapper
from importlib.util import find_spec
from typing import Any, Concatenate, Final, Literal, ParamSpec, Protocol, TypeVar
from urllib.parse import urlsplit

import msgspec

from config.settings import Settings, Trunk
from control import agent_secrets
from control.carriers import Carriers
from control.entropy import new_id
from control.errors import (
    CallNotFound,
    CallNotLive,
    CallNotReady,
    Forbidden,
    InUse,
    NumberAlreadyImported,
    OutboundUnavailable,
    RecordingDamaged,
    ResourceNotFound,
    SecretsUnavailable,
    TrunkNotAllowed,
    Unauthorized,
    ValidationFailed,
    from_registry,
)
from control.hold import HoldOutcome
from control.hosts import python_agents
from control.instructions import Instruction
from control.keys import KeyAuthority
from control.numbers import canonical
from control.providers import Connections, NoConnections, Provider
from control.recordings import OpenRecording, Recordings
from control.registry.types import (
    Account,
    Agent,
    ApiKey,
    Call,
    CallFilter,
    DiallingRules,
    NotFound,
    Number,
    Page,
    PhoneNumberTaken,
    Registry,
    RegistryError,
)
from control.resources.accounts import (
    AccountResource,
    CreateAccount,
    CreatedKey,
    CreateKey,
    DiallingResource,
    KeyResource,
    SetDialling,
    account_resource,
    created_key,
    key_resource,
)
from control.resources.agents import (
    AgentResource,
    CreateAgent,
    Deleted,
    SigningSecret,
    SigningSecretDeleted,
    UpdateAgent,
    agent_resource,
)
from control.resources.base import Listing
from control.resources.call_control import (
    CallControlled,
    HangUp,
    HungUp,
    PlaceCall,
    PlayRecording,
    QueuedCall,
    SendDigits,
    SetMark,
    TransferCall,
    Transferring,
)
from control.resources.calls import CallDetail, CallResource, RecordingDeleted, call_detail, call_resource
from control.resources.ids import id_of
from control.resources.integrations import (
    Integrated,
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
    openai_integration,
    telnyx_integration,
    twilio_integration,
)
from control.resources.numbers import (
    ForwardFallback,
    ImportedNumber,
    ImportNumber,
    ImportSipNumber,
    ImportTelnyxNumber,
    ImportTwilioNumber,
    MessageFallback,
    NumberResource,
    Released,
    UpdateNumber,
    imported_number,
    number_resource,
)
from control.resources.options import RecordingOptions, recording_options, with_option
from control.resources.pipelines import (
    AudioSocketPipeline,
    OutsidePipeline,
    Pipeline,
    PythonPipeline,
    UrlPipeline,
    WebRtcPipeline,
    parse_pipeline,
)
from control.vault import VaultError
from media import messages as media
from media.agents import recordings
from media.hosting.settings import WEBRTC_MISSING
from media.messages import Command, LegStatistics, Result
from media.recording_file import Damaged
from media.targets import literal_problem

__all__ = ["LiveCall", "LiveCalls", "NoLiveCalls", "Operations", "Principal"]

log = logging.getLogger("truedy.operations")

_P = ParamSpec("_P")
_R = TypeVar("_R")

ACTIVE: Final = "active"
"""A number's status: calls to it are looked up."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. ``account_id`` None: the console, which stands above accounts."""

    account_id: str | None
    role: Literal["account", "operator"]
    key_id: str | None = None

    @classmethod
    def console(cls, account_id: str | None = None) -> Principal:
        """Whoever has the edge's own command line is its operator, in one account or above them all."""
        return cls(account_id, "operator")

    @property
    def operator(self) -> bool:
        """May do what an account may not."""
        return self.role == "operator"

    @property
    def account(self) -> str:
        """The account this is about; :class:`Forbidden` above accounts."""
        if self.account_id is None:
            raise Forbidden("Choose an account first")
        return self.account_id


class LiveCall(Protocol):
    """A call that has begun and not ended, as whoever carries it tells. ``age_s`` [s] counts from the offer."""

    @property
    def id(self) -> str: ...
    @property
    def account_id(self) -> str: ...
    @property
    def number_id(self) -> str: ...
    @property
    def agent_id(self) -> str: ...
    @property
    def trunk(self) -> str: ...
    @property
    def from_number(self) -> str: ...
    @property
    def to_number(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def direction(self) -> str: ...
    @property
    def age_s(self) -> float: ...
    @property
    def statistics(self) -> LegStatistics | None: ...


class LiveCalls(Protocol):
    """The calls this process carries."""

    async def hang_up(self, account_id: str, call_id: str, by: str, headers: Mapping[str, str] | None = None) -> bool:
        """End one; False when the account has no such live call. ``by`` is the record's ``ended_by``.

        ``headers`` go on the BYE, by allow-list.
        """
        ...

    async def command(self, account_id: str, call_id: str, make: Callable[[str], Command]) -> Result | None:
        """Have media do something to an established call, whose id ``make`` is given.

        None when the account has no such live call; :class:`media.messages.Failed`, with ``not_established`` too.
        """
        ...

    async def perform(self, account_id: str, call_id: str, instructions: Sequence[Instruction]) -> Result | None:
        """Begin to carry these out in place of those that came before; as :meth:`command`."""
        ...

    async def hold(self, account_id: str, call_id: str) -> HoldOutcome:
        """Put the phone on hold."""
        ...

    async def resume(self, account_id: str, call_id: str) -> HoldOutcome:
        """Take it back."""
        ...

    def live(self, account_id: str) -> Sequence[LiveCall]:
        """The account's."""
        ...


class NoLiveCalls:
    """For a process that carries none: the command line's."""

    async def hang_up(self, account_id: str, call_id: str, by: str, headers: Mapping[str, str] | None = None) -> bool:
        """There is none."""
        return False

    async def command(self, account_id: str, call_id: str, make: Callable[[str], Command]) -> Result | None:
        """There is none."""
        return None

    async def perform(self, account_id: str, call_id: str, instructions: Sequence[Instruction]) -> Result | None:
        """There is none."""
        return None

    async def hold(self, account_id: str, call_id: str) -> HoldOutcome:
        """There is none."""
        return HoldOutcome.NO_CALL

    async def resume(self, account_id: str, call_id: str) -> HoldOutcome:
        """There is none."""
        return HoldOutcome.NO_CALL

    def live(self, account_id: str) -> Sequence[LiveCall]:
        """None."""
        return ()


class Outgoing(Protocol):
    """Who places calls and hands callers on: :class:`control.placing.Placing`."""

    async def place(self, account_id: str, request: PlaceCall, key: str | None = None) -> PlacedOne:
        """Begin a call."""
        ...

    async def transfer(self, account_id: str, call_id: str, request: TransferCall) -> Begun:
        """Begin a transfer; :class:`CallNotFound` for no such live call."""
        ...


class PlacedOne(Protocol):
    """A call that was begun."""

    @property
    def id(self) -> str: ...
    @property
    def agent_id(self) -> str: ...


class Begun(Protocol):
    """A transfer that was begun."""

    @property
    def call(self) -> HasId: ...
    @property
    def target(self) -> str: ...
    @property
    def method(self) -> Literal["refer", "carrier", "bridge"]: ...


class HasId(Protocol):
    """Of a call."""

    @property
    def id(self) -> str: ...


class NothingPlaced:
    """For a process that serves no calls: the command line's."""

    async def place(self, account_id: str, request: PlaceCall, key: str | None = None) -> PlacedOne:
        """Refused."""
        raise OutboundUnavailable("This process places no calls")

    async def transfer(self, account_id: str, call_id: str, request: TransferCall) -> Begun:
        """There is no call."""
        raise CallNotFound(call_id)


def _told(
    operation: Callable[Concatenate[Operations, _P], Coroutine[Any, Any, _R]],
) -> Callable[Concatenate[Operations, _P], Coroutine[Any, Any, _R]]:
    """What a store raises becomes what a caller is told."""

    async def translated(self: Operations, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return await operation(self, *args, **kwargs)
        except RegistryError as error:
            raise from_registry(error) from error

    update_wrapper(translated, operation)
    return translated


class Operations:
    """The operations over one registry."""

    def __init__(
        self,
        registry: Registry,
        calls: LiveCalls,
        settings: Settings,
        *,
        clock: Callable[[], float],
        entropy: Callable[[int], bytes],
        providers: Mapping[str, Provider] | None = None,
        connections: Connections | None = None,
        recordings: Recordings | None = None,
        outward: Outgoing | None = None,
    ) -> None:
        """``clock`` gives UTC [s since the epoch]; ``providers`` are the carriers in service, by name.

        ``connections`` hears of carriers' connections that come, change and go; by default nobody does.
        """
        self._registry = registry
        self._calls = calls
        self._trunks: Mapping[str, Trunk] = {trunk.name: trunk for trunk in settings.trunks}
        self._clock = clock
        self._entropy = entropy
        self._carriers = Carriers(
            registry,
            settings,
            clock=clock,
            entropy=entropy,
            providers=dict(providers or {}),
            connections=connections if connections is not None else NoConnections(),
        )
        self.recordings = recordings
        self._outward = outward if outward is not None else NothingPlaced()
        self._keys = KeyAuthority(registry, entropy=entropy, clock=clock)
        self.settings = settings

    @property
    def clock(self) -> Callable[[], float]:
        """UTC [s since the epoch]."""
        return self._clock

    @property
    def entropy(self) -> Callable[[int], bytes]:
        """The operating system's randomness, or a test's."""
        return self._entropy

    # accounts

    @_told
    async def create_account(self, by: Principal, request: CreateAccount) -> AccountResource:
        """Operators only; the name is unique."""
        _require_operator(by)
        account = Account(new_id(self._entropy), request.name, self._clock())
        await self._registry.create_account(account)
        return account_resource(account)

    @_told
    async def accounts(self, by: Principal) -> list[AccountResource]:
        """All of them; operators only."""
        _require_operator(by)
        return [account_resource(row) for row in await self._registry.accounts()]

    @_told
    async def account(self, by: Principal) -> AccountResource:
        """The caller's own."""
        return account_resource(await self._registry.account(by.account))

    @_told
    async def account_named(self, by: Principal, name: str) -> AccountResource:
        """Operators only."""
        _require_operator(by)
        row = await self._registry.account_by_name(name)
        if row is None:
            raise ResourceNotFound("account")
        return account_resource(row)

    # keys

    @_told
    async def authenticate(self, key: str) -> Principal:
        """Whose key this is; :class:`Unauthorized` for any that is not live, without saying why."""
        row = await self._keys.authenticate(key)
        if row is None:
            raise Unauthorized
        return Principal(row.account_id, "operator" if row.role == "operator" else "account", row.id)

    @_told
    async def create_key(self, by: Principal, request: CreateKey) -> CreatedKey:
        """The answer holds the key's text, this once."""
        account_id = str(request.account_id) if request.account_id else by.account
        if request.role == "operator" or account_id != by.account_id:
            _require_operator(by)
        made = await self._keys.create(account_id, request.role)
        return created_key(made.row, made.text)

    @_told
    async def keys(self, by: Principal) -> list[KeyResource]:
        """The account's, revoked ones too; from the console without an account, everybody's."""
        return [key_resource(row) for row in await self._registry.keys(by.account_id)]

    @_told
    async def revoke_key(self, by: Principal, key_id: str) -> KeyResource:
        """From now on it is refused; a second time changes nothing."""
        key = await self._own_key(by, key_id)
        await self._keys.revoke(key.id)
        return key_resource(await self._own_key(by, key_id))

    @_told
    async def rotate_key(self, by: Principal, key_id: str) -> CreatedKey:
        """A new key with the old one's account and role; the old one is revoked at once."""
        key = await self._own_key(by, key_id)
        made = await self._keys.rotate(key.id)
        return created_key(made.row, made.text)

    async def _own_key(self, by: Principal, key_id: str) -> ApiKey:
        id = id_of(key_id)
        key = next((row for row in await self._registry.keys(by.account_id) if row.id == id), None)
        if key is None:
            raise ResourceNotFound("key")
        if key.role == "operator":
            _require_operator(by)
        return key

    # agents

    @_told
    async def create_agent(self, by: Principal, request: CreateAgent) -> AgentResource:
        """In the caller's account."""
        now = self._clock()
        await self._check_pipeline(request.pipeline)
        secrets = agent_secrets.changed_headers({}, request.headers)
        secrets = agent_secrets.with_twilio_token(secrets, request.twilio_auth_token)
        _check_secrets(request.pipeline, secrets)
        pipeline = request.pipeline.model_dump(exclude_none=True)
        options = with_option("{}", "recording", request.recording)
        options = with_option(options, "machine_detection", request.machine_detection)
        agent = Agent(new_id(self._entropy), by.account, request.name, pipeline, now, now, secrets, options)
        await self._registry.create_agent(agent)
        return agent_resource(agent, self._clock())

    @_told
    async def agents(self, by: Principal, page: Page) -> Listing[AgentResource]:
        """The account's, newest first."""
        found, total = await self._registry.agents(by.account, page)
        return Listing([agent_resource(row, self._clock()) for row in found], total, page)

    @_told
    async def agent(self, by: Principal, agent_id: str) -> AgentResource:
        """One of the account's."""
        return agent_resource(await self._own_agent(by, agent_id), self._clock())

    @_told
    async def update_agent(self, by: Principal, agent_id: str, request: UpdateAgent) -> AgentResource:
        """Absent fields stay; calls that are up keep the pipeline they began with."""
        agent = await self._own_agent(by, agent_id)
        if request.name is not None:
            agent = replace(agent, name=request.name)
        if request.pipeline is not None:
            await self._check_pipeline(request.pipeline)
            agent = replace(agent, pipeline=request.pipeline.model_dump(exclude_none=True))
        if "recording" in request.model_fields_set:
            agent = replace(agent, options=with_option(agent.options, "recording", request.recording))
        if "machine_detection" in request.model_fields_set:
            options = with_option(agent.options, "machine_detection", request.machine_detection)
            agent = replace(agent, options=options)
        if "headers" in request.model_fields_set:
            agent = replace(agent, secrets=agent_secrets.changed_headers(agent.secrets, request.headers))
        if "twilio_auth_token" in request.model_fields_set:
            agent = replace(agent, secrets=agent_secrets.with_twilio_token(agent.secrets, request.twilio_auth_token))
        if request.model_fields_set:
            _check_secrets(parse_pipeline(agent.pipeline), agent.secrets)
            agent = replace(agent, updated_at=self._clock())
            await self._registry.update_agent(agent)
        return agent_resource(agent, self._clock())

    @_told
    async def make_signing_secret(self, by: Principal, agent_id: str) -> SigningSecret:
        """The answer holds it, this once. The one before signs too for an hour, so that none of its calls is lost."""
        agent = await self._own_agent(by, agent_id)
        now = self._clock()
        text, secrets = agent_secrets.new_signing_secret(agent.secrets, self._entropy(32), now)
        _check_secrets(parse_pipeline(agent.pipeline), secrets)
        await self._registry.update_agent(replace(agent, secrets=secrets, updated_at=now))
        return SigningSecret(id=agent.id, signing_secret=text)

    @_told
    async def delete_signing_secret(self, by: Principal, agent_id: str) -> SigningSecretDeleted:
        """Calls from now on are not signed; a second time changes nothing."""
        agent = await self._own_agent(by, agent_id)
        secrets = agent_secrets.without_signing_secret(agent.secrets)
        if secrets != agent.secrets:
            await self._registry.update_agent(replace(agent, secrets=secrets, updated_at=self._clock()))
        return SigningSecretDeleted(id=agent.id)

    async def _own_agent(self, by: Principal, agent_id: str) -> Agent:
        return await self._registry.agent(by.account, _known("agent", agent_id))

    async def _check_pipeline(self, pipeline: Pipeline) -> None:
        self._check_targets(pipeline)
        self._check_listed(pipeline)
        on_lost = pipeline.on_lost if isinstance(pipeline, OutsidePipeline) else None
        if on_lost is not None and on_lost.message is not None:
            await self._check_recording("pipeline.on_lost.message", on_lost.message)

    async def _check_recording(self, field: str, name: str) -> None:
        """Media reads its folder at the start; here it is the folder's word that counts."""
        if name not in await asyncio.to_thread(recordings.names, self.settings.agents.recordings_path):
            raise ValidationFailed.of(field, "no recording of that name")

    def _check_targets(self, pipeline: Pipeline) -> None:
        """What a URL's text shows already; names are judged at each call, by the addresses they have then."""
        if self.settings.agents.allow_private or not isinstance(pipeline, UrlPipeline):
            return
        for field, url in (("url", pipeline.url), ("fallback_url", pipeline.fallback_url)):
            problem = None if url is None else literal_problem(urlsplit(url).hostname or "")
            if problem is not None:
                raise ValidationFailed.of(f"pipeline.{field}", f"{problem}: agents need a public one on this edge")

    def _check_listed(self, pipeline: Pipeline) -> None:
        """Which Python may run here, and whether WebRTC can, is the operator's to say, never an account's."""
        if isinstance(pipeline, WebRtcPipeline) and find_spec("aiortc") is None:
            raise ValidationFailed.of("pipeline.protocol", f"{WEBRTC_MISSING}, and restart the edge")
        if isinstance(pipeline, PythonPipeline):
            listed = python_agents(self.settings.agents)
            if pipeline.name not in listed:
                names = ", ".join(listed) or "none"
                raise ValidationFailed.of("pipeline.name", f"no Python agent of this edge; those that are: {names}")

    @_told
    async def delete_agent(self, by: Principal, agent_id: str) -> Deleted:
        """``conflict`` while numbers point to it: their callers would meet silence."""
        agent_id = _known("agent", agent_id)
        await self._registry.delete_agent(by.account, agent_id)
        return Deleted(id=agent_id)

    # numbers

    @_told
    async def import_number(self, by: Principal, request: ImportNumber) -> ImportedNumber:
        """Register a number, unassigned. Of two imports at once one is told ``number_already_imported``."""
        now = self._clock()
        number = Number(
            id=new_id(self._entropy),
            account_id=by.account,
            phone_number=canonical(request.phone_number),
            raw=request.phone_number,
            provider=request.provider,
            trunk="",
            status=ACTIVE,
            created_at=now,
            updated_at=now,
        )
        match request:
            case ImportSipNumber(provider_trunk=name):
                trunk = await self._static_trunk(by, name)
                number = replace(number, trunk=trunk, provider_trunk=trunk)
                return imported_number(await self._store_number(number))
            case ImportTwilioNumber(provider_account_sid=sid):
                number = replace(number, provider_account_sid=sid)
            case ImportTelnyxNumber(provider_connection_id=connection_id):
                number = replace(number, provider_connection_id=connection_id)
        return imported_number(*await self._carriers.import_number(number, request))

    async def _store_number(self, number: Number) -> Number:
        try:
            await self._registry.create_number(number)
        except PhoneNumberTaken as error:
            raise NumberAlreadyImported(number.phone_number) from error
        return number

    async def _static_trunk(self, by: Principal, name: str) -> str:
        """The trunk's name, if the caller may put numbers on it."""
        trunk = self._trunks.get(name)
        if by.operator:
            if trunk is None:
                raise ValidationFailed.of("provider_trunk", "no trunk of that name in the settings")
            return trunk.name
        if trunk is not None:
            account = await self._registry.account(by.account)
            if not {account.id, account.name}.isdisjoint(trunk.accounts):
                return trunk.name
        raise TrunkNotAllowed(name)

    @_told
    async def numbers(self, by: Principal, page: Page) -> Listing[NumberResource]:
        """The account's, newest first; from the console without an account, everybody's."""
        found, total = await self._registry.numbers(by.account_id, page)
        return Listing([number_resource(row) for row in found], total, page)

    @_told
    async def number(self, by: Principal, number_id: str) -> NumberResource:
        """One of the account's."""
        return number_resource(await self._registry.number(by.account, _known("number", number_id)))

    @_told
    async def update_number(self, by: Principal, number_id: str, request: UpdateNumber) -> NumberResource:
        """Assign an agent, or with null unassign; a fallback and parameters likewise. The next call hears it."""
        number_id = _known("number", number_id)
        changes: dict[str, Any] = {}
        if "agent_id" in request.model_fields_set:
            changes["agent_id"] = str(request.agent_id) if request.agent_id else None
        if "parameters" in request.model_fields_set:
            changes["parameters"] = request.parameters
        if "fallback" in request.model_fields_set:
            changes["fallback"] = await self._fallback(request.fallback)
        if not changes:
            return number_resource(await self._registry.number(by.account, number_id))
        return number_resource(await self._registry.change_number(by.account, number_id, changes, self._clock()))

    async def _fallback(self, wanted: MessageFallback | ForwardFallback | None) -> dict[str, str] | None:
        match wanted:
            case MessageFallback(message=name):
                await self._check_recording("fallback.message", name)
                return {"message": name}
            case ForwardFallback(forward=number):
                return {"forward": canonical(number)}
        return None

    @_told
    async def number_recording(self, by: Principal, number_id: str) -> RecordingOptions:
        """What the number has otherwise than its agent."""
        return recording_options((await self._registry.number(by.account, _known("number", number_id))).options)

    @_told
    async def set_number_recording(self, by: Principal, number_id: str, request: RecordingOptions) -> RecordingOptions:
        """In place of what was there; the next call goes by it."""
        number = await self._registry.number(by.account, _known("number", number_id))
        options = with_option(number.options, "recording", request)
        changed = await self._registry.set_number_options(by.account, number.id, options, self._clock())
        return recording_options(changed.options)

    @_told
    async def verify_number(self, by: Principal, number_id: str) -> ImportedNumber:
        """Ask its carrier again, as the import did; a number that fails stays as it is."""
        return imported_number(*await self._carriers.verify_number(by.account, _known("number", number_id)))

    @_told
    async def delete_number(self, by: Principal, number_id: str) -> Released:
        """Deregister it. A call that is up finishes; new ones are refused. The carrier is not told."""
        gone = await self._carriers.release(by.account, _known("number", number_id))
        return Released(id=gone.id, phone_number=gone.phone_number)

    # integrations

    @_told
    async def save_twilio_integration(self, by: Principal, request: SaveTwilioIntegration) -> SavedTwilioIntegration:
        """Checked at Twilio first; a new token leaves the one before to webhooks that it still signs."""
        saved, warnings = await self._carriers.save(by.account, request)
        shown = twilio_integration(saved, self._clock()).model_dump()
        return SavedTwilioIntegration.model_validate(shown | {"warnings": [asdict(each) for each in warnings]})

    @_told
    async def save_telnyx_integration(self, by: Principal, request: SaveTelnyxIntegration) -> SavedTelnyxIntegration:
        """Checked at Telnyx first; a new SIP password goes on to the connections that used the one before."""
        saved, warnings = await self._carriers.save(by.account, request)
        shown = telnyx_integration(saved).model_dump()
        return SavedTelnyxIntegration.model_validate(shown | {"warnings": [asdict(each) for each in warnings]})

    @_told
    async def twilio_integration(self, by: Principal) -> TwilioIntegration:
        """The account's, masked."""
        return twilio_integration(await self._registry.integration(by.account, "twilio"), self._clock())

    @_told
    async def telnyx_integration(self, by: Principal) -> TelnyxIntegration:
        """The account's, masked."""
        return telnyx_integration(await self._registry.integration(by.account, "telnyx"))

    @_told
    async def save_openai_integration(self, by: Principal, request: SaveOpenAiIntegration) -> SavedOpenAiIntegration:
        """Tried at OpenAI first; the next call is made with it."""
        saved, warnings = await self._carriers.save(by.account, request)
        shown = openai_integration(saved).model_dump()
        return SavedOpenAiIntegration.model_validate(shown | {"warnings": [asdict(each) for each in warnings]})

    @_told
    async def openai_integration(self, by: Principal) -> OpenAiIntegration:
        """The account's, masked."""
        return openai_integration(await self._registry.integration(by.account, "openai"))

    @_told
    async def delete_integration(self, by: Principal, provider: Integrated) -> IntegrationDeleted:
        """``conflict`` while numbers need it."""
        await self._registry.delete_integration(by.account, provider)
        return IntegrationDeleted(provider=provider)

    # calls

    @_told
    async def calls(self, by: Principal, page: Page, filter: CallFilter) -> Listing[CallResource]:
        """The account's records, newest first."""
        found, total = await self._registry.calls(by.account, page, filter)
        return Listing([call_resource(row) for row in found], total, page)

    @_told
    async def call(self, by: Principal, call_id: str) -> CallDetail:
        """One record with its timeline; a live call's statistics are those of the moment.

        A call too young to have a record is shown as it stands.
        """
        id = _known("call", call_id)
        live = next((call for call in self._calls.live(by.account) if call.id == id), None)
        try:
            record = await self._registry.call(by.account, id)
        except NotFound:
            if live is None:
                raise
            record = _young(live, self._clock() - live.age_s)
        if live is not None and live.statistics is not None and not record.statistics:
            record = replace(record, statistics=msgspec.to_builtins(live.statistics))
        return call_detail(record)

    @_told
    async def place_call(self, by: Principal, request: PlaceCall, key: str | None = None) -> QueuedCall:
        """Call somebody and let an agent talk. The same ``key`` within a day gives the same call again."""
        placed = await self._outward.place(by.account, request, key)
        return QueuedCall(id=placed.id, agent_id=placed.agent_id)

    @_told
    async def transfer(self, by: Principal, call_id: str, request: TransferCall) -> Transferring:
        """Hand a live call's caller on; :class:`CallNotLive` when it has ended already."""
        id = id_of(call_id, "CA")
        if id is None:
            raise CallNotFound(call_id)
        try:
            begun = await self._outward.transfer(by.account, id, request)
        except CallNotFound:
            record = await self._registry.call(by.account, id)
            raise CallNotLive(id, record.status) from None
        return Transferring(id=begun.call.id, target=begun.target, method=begun.method)

    @_told
    async def dialling(self, by: Principal, account_id: str) -> DiallingResource:
        """What an account may dial: one's own, an operator anybody's."""
        id = _known("account", account_id)
        if id != by.account_id and not by.operator:
            raise ResourceNotFound("account")
        rules, settings = await self._registry.dialling_rules(id), self.settings.outbound
        countries = rules.countries if rules.countries is not None else settings.countries
        now = self._clock()
        used_s = await self._registry.outbound_seconds(id, now - now % 86_400)
        return DiallingResource(
            account_id=id,
            calls=rules.calls or settings.calls,
            calls_per_minute=rules.calls_per_minute or settings.calls_per_minute,
            minutes_per_day=rules.minutes_per_day or settings.minutes_per_day,
            countries=None if countries is None else list(countries),
            used_minutes=round(used_s / 60, 2),
        )

    @_told
    async def set_dialling(self, by: Principal, account_id: str, request: SetDialling) -> DiallingResource:
        """Operators only; it takes effect with the next call."""
        _require_operator(by)
        id = _known("account", account_id)
        countries = None if request.countries is None else tuple(dict.fromkeys(request.countries))
        rules = DiallingRules(id, request.calls, request.calls_per_minute, request.minutes_per_day, countries)
        await self._registry.save_dialling_rules(rules)
        return await self.dialling(by, id)

    @_told
    async def hang_up(
        self, by: Principal, call_id: str, request: HangUp | None = None, *, ended_by: Literal["operator", "agent"]
    ) -> HungUp:
        """End a live call now; :class:`CallNotLive` when it has ended already."""
        id = _live_id(call_id)
        if await self._calls.hang_up(by.account, id, ended_by, request.headers if request is not None else None):
            return HungUp(id=id)
        raise await self._not_live(by, id)

    @_told
    async def send_digits(self, by: Principal, call_id: str, request: SendDigits) -> CallControlled:
        """Press digits; done when they are queued."""
        return await self._control(by, call_id, lambda call: media.SendDigits(call=call, digits=request.digits))

    @_told
    async def play(self, by: Principal, call_id: str, request: PlayRecording) -> CallControlled:
        """Play a recording to the caller; done when it is queued."""
        await self._check_recording("recording", request.recording)
        return await self._control(
            by,
            call_id,
            lambda call: media.Play(call=call, recording=request.recording, interrupt=request.interrupt),
        )

    @_told
    async def clear(self, by: Principal, call_id: str) -> CallControlled:
        """Stop what the caller is being played; where nothing is, nothing changes."""
        return await self._control(by, call_id, lambda call: media.Clear(call=call))

    @_told
    async def mark(self, by: Principal, call_id: str, request: SetMark) -> CallControlled:
        """Have the call's timeline say when what is queued now has been played."""
        return await self._control(by, call_id, lambda call: media.SetMark(call=call, name=request.name))

    @_told
    async def perform(self, by: Principal, call_id: str, instructions: Sequence[Instruction]) -> CallControlled:
        """Begin to carry instructions out; those that came before are given up."""
        id = _live_id(call_id)
        return await self._controlled(by, id, await self._calls.perform(by.account, id, instructions))

    @_told
    async def hold(self, by: Principal, call_id: str) -> CallControlled:
        """Put the phone on hold: it hears music or silence, the agent hears of it. Held already, nothing changes."""
        id = _live_id(call_id)
        return await self._held(by, id, await self._calls.hold(by.account, id))

    @_told
    async def resume(self, by: Principal, call_id: str) -> CallControlled:
        """Take the phone back; not held, nothing changes."""
        id = _live_id(call_id)
        return await self._held(by, id, await self._calls.resume(by.account, id))

    async def _held(self, by: Principal, id: str, outcome: HoldOutcome) -> CallControlled:
        if outcome is HoldOutcome.NO_CALL:
            raise await self._not_live(by, id)
        if outcome is not HoldOutcome.DONE:
            raise CallNotReady(id, outcome.name.lower(), f"hold: {outcome.value}")
        return CallControlled(id=id)

    async def _control(self, by: Principal, call_id: str, make: Callable[[str], Command]) -> CallControlled:
        id = _live_id(call_id)
        return await self._controlled(by, id, await self._calls.command(by.account, id, make))

    async def _controlled(self, by: Principal, id: str, result: Result | None) -> CallControlled:
        if result is None:
            raise await self._not_live(by, id)
        if isinstance(result, media.Failed):
            raise CallNotReady(id, result.code, result.message or None)
        return CallControlled(id=id)

    async def _not_live(self, by: Principal, id: str) -> CallNotLive:
        """The call's record, if there is one: it has ended. :class:`ResourceNotFound` for any other id."""
        return CallNotLive(id, (await self._registry.call(by.account, id)).status)

    # recordings

    @_told
    async def recording(self, by: Principal, call_id: str) -> OpenRecording:
        """Its audio, every byte authenticated; who asked is noted in the call's record.

        ``conflict`` while the call is up, :class:`RecordingDamaged` for one that is not as it was written.
        """
        recordings, record = await self._recorded_call(by, call_id)
        try:
            opened = await recordings.open(record.id, complete=record.recording.get("status") == "completed")
        except (FileNotFoundError, NotADirectoryError):
            raise ResourceNotFound("recording") from None
        except Damaged as error:
            log.error("a recording is damaged", extra={"call": record.id, "problem": str(error)})
            raise RecordingDamaged(str(error)) from error
        except VaultError as error:
            raise SecretsUnavailable(f"The recording cannot be opened: {error}") from error
        recordings.read(record.id, _name(by))
        return opened

    @_told
    async def delete_recording(self, by: Principal, call_id: str) -> RecordingDeleted:
        """The call's record stays, and says who deleted it. ``conflict`` while the call is up."""
        recordings, record = await self._recorded_call(by, call_id)
        if not await recordings.delete(record.id, _name(by)):
            raise ResourceNotFound("recording")
        return RecordingDeleted(id=record.id)

    async def _recorded_call(self, by: Principal, call_id: str) -> tuple[Recordings, Call]:
        record = await self._registry.call(by.account, _known("call", call_id))
        if self.recordings is None:
            raise ResourceNotFound("recording")
        if self.recordings.live(record.id):
            raise InUse("The call is still being recorded: hang up first", call_id=record.id)
        return self.recordings, record


def _check_secrets(pipeline: Pipeline, secrets: Mapping[str, str]) -> None:
    """They go to a URL, and Twilio's signature to an agent that was written for Twilio's."""
    if secrets and (not isinstance(pipeline, UrlPipeline) or isinstance(pipeline, AudioSocketPipeline)):
        raise ValidationFailed.of("pipeline", f"{pipeline.protocol} has no url that headers or signatures could go to")
    if "twilio_auth_token" in secrets and pipeline.protocol != "twilio-media-streams":
        raise ValidationFailed.of("twilio_auth_token", "is for twilio-media-streams")


def _name(by: Principal) -> str:
    """As a call's record names who asked."""
    return f"key {by.key_id}" if by.key_id else "the console"


def _require_operator(by: Principal) -> None:
    if not by.operator:
        raise Forbidden


def _known(kind: str, text: str) -> str:
    """The id ``text`` spells: what is no id names nothing."""
    id = id_of(text)
    if id is None:
        raise ResourceNotFound(kind)
    return id


def _live_id(call_id: str) -> str:
    """A call's id, in either of its forms."""
    id = id_of(call_id, "CA")
    if id is None:
        raise CallNotFound(call_id)
    return id


_ANSWERED: Final = frozenset({"answered", "established", "closing"})


def _young(call: LiveCall, started_at: float) -> Call:
    """A live call as the record it is about to have."""
    return Call(
        id=call.id,
        account_id=call.account_id,
        number_id=call.number_id,
        agent_id=call.agent_id or None,
        direction=call.direction,
        trunk=call.trunk,
        from_number=call.from_number,
        to_number=call.to_number,
        status="in_progress" if call.state in _ANSWERED else "ringing",
        started_at=started_at,
    )
