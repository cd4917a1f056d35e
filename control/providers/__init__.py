"""Carriers whose numbers can be imported: what one has to know how to do.

Each carrier is a module here; :data:`control.operations.Operations` is handed those that are in service.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from control.registry.types import SUBACCOUNT, Connection, Integration

__all__ = [
    "DISPROVING",
    "Check",
    "Checked",
    "Claim",
    "Connections",
    "NoConnections",
    "Provider",
    "ProviderWarning",
    "Verified",
    "signing_tokens",
]


class Check(StrEnum):
    """Which verification failed: ``details.check`` of ``provider_verification_failed``."""

    OUT_OF_SERVICE = "out_of_service"
    """This edge does not serve the carrier."""
    INTEGRATION_MISSING = "integration_missing"
    """The account has saved no credentials for the carrier."""
    CREDENTIALS = "credentials"
    """The carrier refused them."""
    ACCOUNT_SID = "account_sid"
    """Not the integration's account, nor a subaccount of it that can be read."""
    ACCOUNT_STATUS = "account_status"
    """The carrier has suspended or closed the account."""
    NUMBER = "number"
    """The number is not in that account."""
    VOICE = "voice"
    """The number takes no calls."""
    CONNECTION = "connection"
    """No such connection in that account, or the number is on another one, or on none."""
    CONNECTION_STATUS = "connection_status"
    """The connection is switched off."""
    CONNECTION_KIND = "connection_kind"
    """A kind of connection whose calls cannot come here."""
    SIP_PASSWORD = "sip_password"
    """The connection's password can neither be read nor was it given."""
    RATE_LIMITED = "rate_limited"
    """The carrier asks for fewer questions."""
    TIMEOUT = "timeout"
    """It did not answer in time."""
    UNREACHABLE = "unreachable"
    """No connection to it, or only errors of its own."""
    ANSWER = "answer"
    """Its answer made no sense."""


DISPROVING: Final = frozenset(
    {
        Check.INTEGRATION_MISSING,
        Check.CREDENTIALS,
        Check.ACCOUNT_SID,
        Check.ACCOUNT_STATUS,
        Check.NUMBER,
        Check.CONNECTION,
    }
)
"""The checks whose failure says that the account does not control the number; the others leave it open."""


@dataclass(frozen=True, slots=True)
class Claim:
    """An account says that ``phone_number`` (E.164) is its own at the carrier.

    ``reference`` is what the carrier calls the place it is kept in: Twilio's Account SID, Telnyx's connection id.
    ``connection`` is what is known of that place from an earlier import; ``host`` is the host name that is offered to
    it, the same one each time (None: none was). ``sip_password`` came with the import and comes first, before what the
    carrier tells, the connection's from before and the integration's. ``rotate_sip_password`` is the consent to set a
    new one, by :attr:`Verified.finish`.
    """

    account_id: str
    phone_number: str
    reference: str
    connection: Connection | None = None
    host: str | None = None
    sip_password: str | None = field(default=None, repr=False)
    rotate_sip_password: bool = False


@dataclass(frozen=True, slots=True)
class ProviderWarning:
    """Something that does not stop an import and will stop calls: ``code`` for programs, ``message`` for people."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Verified:
    """A claim that holds.

    ``trunk`` is what the number's calls come in on. ``connection`` is to be kept with the number (its times are set
    when it is), ``secrets`` with the account's integration: a subaccount's token. ``finish`` is what the import asked
    to change at the carrier, a rotated password: it is awaited at most once, when nothing else can fail any more, and
    answers the connection to keep instead.
    """

    trunk: str
    warnings: tuple[ProviderWarning, ...] = ()
    connection: Connection | None = None
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    finish: Callable[[], Awaitable[Connection]] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Checked:
    """Credentials that are good. ``secrets`` are kept with them: subaccounts' tokens, read anew."""

    warnings: tuple[ProviderWarning, ...] = ()
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


class Provider(Protocol):
    """A carrier's account, as far as importing needs it.

    Asking changes nothing at the carrier. Both questions raise
    :class:`control.errors.ProviderVerificationFailed` with a :class:`Check`, also when the carrier cannot be reached;
    they are cancelled when ``providers.request_timeout_s`` have passed, which the caller answers for.
    """

    async def load(self) -> None:
        """Have at hand what asking takes: the carrier's SDK. Some seconds on a busy machine, the first time."""
        ...

    async def check_credentials(self, integration: Integration) -> Checked:
        """Whether the carrier takes them. ``integration`` is as it would be saved."""
        ...

    async def verify(self, claim: Claim, integration: Integration) -> Verified:
        """Check the claim with the account's credentials."""
        ...


class Connections(Protocol):
    """Who is told when connections come, change and go, once the registry has it. Neither blocks nor raises."""

    def changed(self, connection: Connection) -> None:
        """New, or with another password, user name, registrar or host."""
        ...

    def removed(self, connection_id: str) -> None:
        """No number hangs on it any more."""
        ...


class NoConnections:
    """For a process that registers nowhere: the command line's."""

    def changed(self, connection: Connection) -> None:
        """Nothing to do."""

    def removed(self, connection_id: str) -> None:
        """Nothing to do."""


def signing_tokens(integration: Integration, account_sid: str, now: float) -> tuple[str, ...]:
    """The tokens that Twilio may have signed a webhook of ``account_sid`` with, the likeliest first.

    ``now`` is UTC [s since the epoch]: after a rotation the previous token counts for a day.
    """
    secrets = integration.secrets
    if account_sid != integration.public.get("account_sid"):
        token = secrets.get(SUBACCOUNT + account_sid)
        return (token,) if token else ()
    tokens = [secrets["auth_token"]] if "auth_token" in secrets else []
    if now < float(secrets.get("previous_auth_token_until", 0.0)):
        tokens.append(secrets["previous_auth_token"])
    return tuple(tokens)
