"""Every error an operation can end with: one table, and one exception class a code.

The API renders them as ``{"error": {"code", "message", "details"}, "meta": {…}}`` with the table's status; the
command line prints message and resolution. Messages name what was asked for, never what is stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from types import MappingProxyType
from typing import Any, ClassVar, Final

from control.registry import types as registry

__all__ = [
    "ERRORS",
    "CallNotFound",
    "CallNotLive",
    "CallNotReady",
    "Code",
    "DestinationRefused",
    "EdgeFull",
    "ErrorKind",
    "Forbidden",
    "InUse",
    "Internal",
    "MethodNotAllowed",
    "NumberAlreadyImported",
    "OperationError",
    "OutboundLimitReached",
    "OutboundUnavailable",
    "PayloadTooLarge",
    "Problem",
    "ProviderNotSupported",
    "ProviderVerificationFailed",
    "RateLimited",
    "RecordingDamaged",
    "RegistryBusy",
    "RequestTimeout",
    "ResourceNotFound",
    "SecretsUnavailable",
    "StorageFull",
    "TransferNotPossible",
    "TrunkNotAllowed",
    "Unauthorized",
    "UnsupportedMediaType",
    "ValidationFailed",
    "from_registry",
    "from_validation",
    "revived",
]


class Code(StrEnum):
    """The ``code`` of an error; part of the API's contract."""

    VALIDATION_ERROR = "validation_error"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    TRUNK_NOT_ALLOWED = "trunk_not_allowed"
    DESTINATION_REFUSED = "destination_refused"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    REQUEST_TIMEOUT = "request_timeout"
    NUMBER_ALREADY_IMPORTED = "number_already_imported"
    CONFLICT = "conflict"
    CALL_NOT_LIVE = "call_not_live"
    OUTBOUND_UNAVAILABLE = "outbound_unavailable"
    TRANSFER_NOT_POSSIBLE = "transfer_not_possible"
    CALL_NOT_READY = "call_not_ready"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    PROVIDER_VERIFICATION_FAILED = "provider_verification_failed"
    PROVIDER_NOT_SUPPORTED = "provider_not_supported"
    RATE_LIMITED = "rate_limited"
    OUTBOUND_LIMIT_REACHED = "outbound_limit_reached"
    INTERNAL = "internal"
    RECORDING_DAMAGED = "recording_damaged"
    EDGE_FULL = "edge_full"
    REGISTRY_BUSY = "registry_busy"
    SECRETS_UNAVAILABLE = "secrets_unavailable"
    STORAGE_FULL = "storage_full"


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """A row of the table: the HTTP ``status``, what happened, and what the reader can do about it."""

    code: Code
    status: int
    message: str
    resolution: str


_TABLE: Final = (
    ErrorKind(
        Code.VALIDATION_ERROR,
        422,
        "The request is not valid",
        "Correct the fields named in details.errors and send it again",
    ),
    ErrorKind(
        Code.UNAUTHORIZED,
        401,
        "No valid API key",
        "Send the header Authorization: Bearer YOUR_API_KEY with a key that has not been revoked",
    ),
    ErrorKind(Code.FORBIDDEN, 403, "This key may not do that", "Use an operator key"),
    ErrorKind(
        Code.TRUNK_NOT_ALLOWED,
        403,
        "This account may not import numbers on that trunk",
        "Use an operator key, or ask the operator to list the account in the trunk's accounts",
    ),
    ErrorKind(
        Code.DESTINATION_REFUSED,
        403,
        "That destination is not called",
        "details.reason says why; an operator can allow countries (PUT /accounts/{id}/dialling), never premium-rate,"
        " shared-cost, satellite, emergency or short numbers",
    ),
    ErrorKind(Code.NOT_FOUND, 404, "There is no such thing in your account", "Check the path and the id"),
    ErrorKind(Code.METHOD_NOT_ALLOWED, 405, "This path does not take that method", "Use a method of the Allow header"),
    ErrorKind(Code.REQUEST_TIMEOUT, 408, "The request's body did not arrive in time", "Send it again"),
    ErrorKind(
        Code.NUMBER_ALREADY_IMPORTED,
        409,
        "The number is already registered to your account (or another Truedy account)",
        "Check your existing numbers list; contact support if you believe it's an error",
    ),
    ErrorKind(
        Code.CONFLICT,
        409,
        "That clashes with something that exists",
        "Read the thing again and resolve what the message names",
    ),
    ErrorKind(
        Code.OUTBOUND_UNAVAILABLE,
        409,
        "No call can be placed like that",
        "The message names what is missing: a number to call from, a trunk's outbound address, credentials",
    ),
    ErrorKind(
        Code.TRANSFER_NOT_POSSIBLE,
        409,
        "The call cannot be transferred now",
        "details.reason says why: it is not established, a transfer is under way, or there is no way out",
    ),
    ErrorKind(Code.CALL_NOT_LIVE, 409, "The call has already ended", "Nothing to do: read its record"),
    ErrorKind(
        Code.CALL_NOT_READY,
        409,
        "The call is not in a state for that",
        "details.reason says why: try again once the call is up, or leave it",
    ),
    ErrorKind(
        Code.PAYLOAD_TOO_LARGE,
        413,
        "The request's body is too large",
        "Send less: details.limit_bytes is the most that is read",
    ),
    ErrorKind(
        Code.UNSUPPORTED_MEDIA_TYPE, 415, "The body's type is not supported", "Send Content-Type: application/json"
    ),
    ErrorKind(
        Code.PROVIDER_VERIFICATION_FAILED,
        422,
        "Truedy cannot reach your provider with the credentials provided",
        "Double-check Account SID / API key in Settings → Integrations",
    ),
    ErrorKind(
        Code.PROVIDER_NOT_SUPPORTED,
        422,
        "Other SIP-compatible providers may work but are not officially tested or supported",
        "If you are using a provider other than Twilio or Telnyx, contact Truedy support before attempting an import",
    ),
    ErrorKind(
        Code.OUTBOUND_LIMIT_REACHED,
        429,
        "The account's limit on outgoing calls is reached",
        "Wait for calls to end, for the minute or the day (UTC) to pass, or ask the operator for more",
    ),
    ErrorKind(Code.RATE_LIMITED, 429, "Too many requests", "Wait for the seconds of the Retry-After header"),
    ErrorKind(Code.INTERNAL, 500, "Something went wrong on our side", "Try again; quote meta.request_id to support"),
    ErrorKind(
        Code.RECORDING_DAMAGED,
        500,
        "The recording is not as it was written",
        "Nothing of it is sent, for nobody can say what in it is true; ask the operator for a backup",
    ),
    ErrorKind(
        Code.EDGE_FULL,
        503,
        "The edge has no room for another call",
        "Wait for the seconds of the Retry-After header, or use another edge",
    ),
    ErrorKind(Code.REGISTRY_BUSY, 503, "The registry is busy", "Wait for the seconds of the Retry-After header"),
    ErrorKind(
        Code.SECRETS_UNAVAILABLE,
        503,
        "The edge cannot keep or open carrier credentials",
        "Ask the operator to set secrets.key (and, after a change of it, secrets.previous_keys)",
    ),
    ErrorKind(
        Code.STORAGE_FULL,
        507,
        "There is no room left to store this",
        "Calls go on; ask the operator to make room on the registry's disk",
    ),
)

ERRORS: Final[Mapping[Code, ErrorKind]] = MappingProxyType({kind.code: kind for kind in _TABLE})
"""The table, in the order of its statuses."""


class OperationError(Exception):
    """An operation that did not happen, and why.

    ``details`` are the error's own fields, JSON-ready; ``retry_after_s`` [s] becomes the Retry-After header.
    """

    code: ClassVar[Code] = Code.INTERNAL
    retry_after_s: int | None = None

    def __init__(self, message: str | None = None, **details: Any) -> None:
        self.message = message or self.kind.message
        self.details = details
        super().__init__(f"{self.code}: {self.message}")

    @property
    def kind(self) -> ErrorKind:
        """The table's row."""
        return ERRORS[self.code]

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.kind.status

    @property
    def resolution(self) -> str:
        """What the reader can do about it."""
        return self.kind.resolution


@dataclass(frozen=True, slots=True)
class Problem:
    """One invalid field: ``field`` in dotted form, ``body`` for the whole."""

    field: str
    problem: str


class ValidationFailed(OperationError):
    """The request is not valid; ``problems`` say where."""

    code = Code.VALIDATION_ERROR

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        rows = [{"field": item.field, "problem": item.problem} for item in self.problems]
        first = f"{self.problems[0].field}: {self.problems[0].problem}" if self.problems else None
        super().__init__(first, errors=rows)

    @classmethod
    def of(cls, field: str, problem: str) -> ValidationFailed:
        """With the one problem."""
        return cls([Problem(field, problem)])


class Unauthorized(OperationError):
    """No key, or none that is known and live. Never says which."""

    code = Code.UNAUTHORIZED


class Forbidden(OperationError):
    """The key is good, its role is not enough."""

    code = Code.FORBIDDEN


class TrunkNotAllowed(OperationError):
    """The trunk does not list this account, or is not there: an account is not told which."""

    code = Code.TRUNK_NOT_ALLOWED

    def __init__(self, trunk: str) -> None:
        self.trunk = trunk
        super().__init__(provider_trunk=trunk)


class ResourceNotFound(OperationError):
    """No such row in the account; the same for one of another account."""

    code = Code.NOT_FOUND

    def __init__(self, kind: str) -> None:
        self.resource = kind
        super().__init__(f"There is no such {kind} in your account", resource=kind)


class CallNotFound(ResourceNotFound):
    """No such call in the account."""

    def __init__(self, call_id: str = "") -> None:
        self.call_id = call_id
        super().__init__("call")


class MethodNotAllowed(OperationError):
    """The path exists, with other methods."""

    code = Code.METHOD_NOT_ALLOWED


class RequestTimeout(OperationError):
    """The body trickled in for too long."""

    code = Code.REQUEST_TIMEOUT


class NumberAlreadyImported(OperationError):
    """Taken, by this account or another: the caller is not told which."""

    code = Code.NUMBER_ALREADY_IMPORTED

    def __init__(self, phone_number: str | None = None) -> None:
        self.phone_number = phone_number
        super().__init__(**({"phone_number": phone_number} if phone_number else {}))


class InUse(OperationError):
    """A clash with what exists; the message names it."""

    code = Code.CONFLICT


class CallNotLive(OperationError):
    """Nobody carries the call any more; ``call_status`` is its record's, which may be a moment behind."""

    code = Code.CALL_NOT_LIVE

    def __init__(self, call_id: str, call_status: str) -> None:
        self.call_id = call_id
        self.call_status = call_status
        super().__init__(call_id=call_id)


class DestinationRefused(OperationError):
    """``details.reason`` is a :class:`control.toll.Denied`."""

    code = Code.DESTINATION_REFUSED


class OutboundLimitReached(OperationError):
    """Likewise, where time or the end of a call heals it."""

    code = Code.OUTBOUND_LIMIT_REACHED
    retry_after_s = 60


class OutboundUnavailable(OperationError):
    """What is missing is in the message."""

    code = Code.OUTBOUND_UNAVAILABLE


class TransferNotPossible(OperationError):
    """``details.reason`` is one word of :class:`control.transfers.TransferRefused`."""

    code = Code.TRANSFER_NOT_POSSIBLE


class EdgeFull(OperationError):
    """A cap of the edge's own."""

    code = Code.EDGE_FULL
    retry_after_s = 5


class CallNotReady(OperationError):
    """The call is live, and not in a state for what was asked; ``reason`` is a word."""

    code = Code.CALL_NOT_READY

    def __init__(self, call_id: str, reason: str, message: str | None = None) -> None:
        self.reason = reason
        super().__init__(message, call_id=call_id, reason=reason)


class PayloadTooLarge(OperationError):
    """More than ``limit_bytes`` of body."""

    code = Code.PAYLOAD_TOO_LARGE

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        super().__init__(limit_bytes=limit_bytes)


class UnsupportedMediaType(OperationError):
    """A body of another type than the operation's."""

    code = Code.UNSUPPORTED_MEDIA_TYPE


class ProviderVerificationFailed(OperationError):
    """``check`` is a :class:`control.providers.Check`; ``provider_status`` and ``provider_code`` are the carrier's."""

    code = Code.PROVIDER_VERIFICATION_FAILED

    def __init__(
        self,
        provider: str,
        check: str,
        message: str | None = None,
        *,
        provider_status: int | None = None,
        provider_code: str | None = None,
    ) -> None:
        self.provider = provider
        self.check = check
        carrier = {"provider_status": provider_status, "provider_code": provider_code}
        super().__init__(
            message, provider=provider, check=check, **{name: value for name, value in carrier.items() if value}
        )


class ProviderNotSupported(OperationError):
    """Neither Twilio nor Telnyx, nor one of the edge's own trunks."""

    code = Code.PROVIDER_NOT_SUPPORTED

    def __init__(self) -> None:
        super().__init__(supported=["twilio", "telnyx"])


class RateLimited(OperationError):
    """Too fast; ``retry_after_s`` [s] is when the next one will pass."""

    code = Code.RATE_LIMITED

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(retry_after_s=retry_after_s)
        self.retry_after_s = retry_after_s


class RegistryBusy(OperationError):
    """Another process holds the registry's lock."""

    code = Code.REGISTRY_BUSY
    retry_after_s = 1


class SecretsUnavailable(OperationError):
    """There is no key to seal credentials with, or theirs is not among the keys any more."""

    code = Code.SECRETS_UNAVAILABLE

    def __init__(self, reason: str | None = None) -> None:
        super().__init__(reason, setting="secrets.key")


class StorageFull(OperationError):
    """No room on the registry's disk."""

    code = Code.STORAGE_FULL


class RecordingDamaged(OperationError):
    """Altered, cut short or exchanged since it was written; ``reason`` says where it shows."""

    code = Code.RECORDING_DAMAGED

    def __init__(self, reason: str) -> None:
        super().__init__(reason=reason)


class Internal(OperationError):
    """Not the caller's fault; the log has the rest, under the request's id."""

    code = Code.INTERNAL


def revived(kind: str, message: str, details: Mapping[str, Any], retry_after_s: int | None) -> OperationError:
    """An error that another process raised: of the class called ``kind``, with what it tells of itself to a caller."""
    found = _KINDS.get(kind, Internal)
    error = found.__new__(found)
    OperationError.__init__(error, message, **details)
    error.retry_after_s = retry_after_s
    return error


def _kinds(of: type[OperationError]) -> Iterator[type[OperationError]]:
    yield of
    for kind in of.__subclasses__():
        yield from _kinds(kind)


_KINDS: Final = {kind.__name__: kind for kind in _kinds(OperationError)}


def from_registry(error: registry.RegistryError) -> OperationError:
    """What a store raised, as the caller is told it."""
    match error:
        case registry.NotFound(kind=kind):
            return ResourceNotFound(kind)
        case registry.AgentInUse(numbers=numbers):
            return InUse(
                f"The agent answers {numbers} number{'' if numbers == 1 else 's'}: unassign first", numbers=numbers
            )
        case registry.IntegrationInUse(numbers=numbers):
            return InUse(
                f"{numbers} number{' needs' if numbers == 1 else 's need'} these credentials: remove first",
                numbers=numbers,
            )
        case registry.PhoneNumberTaken():
            return NumberAlreadyImported()
        case registry.Conflict():
            return InUse(str(error))
        case registry.RegistryBusy():
            return RegistryBusy()
        case registry.RegistryFull():
            return StorageFull()
        case registry.SecretsUnavailable():
            return SecretsUnavailable(f"Carrier credentials cannot be kept or opened: {error}")
        case _:
            return Internal()


def from_validation(errors: Iterable[Mapping[str, Any]]) -> OperationError:
    """Pydantic's errors (``ValidationError.errors()``), without the input they quote: it may be a secret.

    An import from a provider that is none of ours is told apart: the product's page has words for it.
    """
    rows = list(errors)
    if any(row["type"] == "union_tag_invalid" and _discriminator(row) == "provider" for row in rows):
        return ProviderNotSupported()
    return ValidationFailed([Problem(_field(row), _problem(row)) for row in rows[:20]])


_SHOWN: Final = 80

_MEMBERS: Final[Mapping[str, tuple[str, ...]]] = {
    "": ("twilio", "telnyx", "sip"),
    "pipeline": (
        *("builtin", "python", "twilio-media-streams", "telnyx-media-streaming", "jambonz-listen"),
        *("audiosocket", "openai-realtime", "webrtc"),
    ),
    "turn_detection": ("server_vad", "semantic_vad"),
    "fallback": ("MessageFallback", "ForwardFallback"),
}
"""Of unions, by the field that is one ("" the body): pydantic puts the member that it tried into the path behind it."""


def _discriminator(row: Mapping[str, Any]) -> str | None:
    """The field that tells the members of a union apart, where that is what failed."""
    name = row.get("ctx", {}).get("discriminator")
    return None if name is None else str(name).strip("'")


def _field(row: Mapping[str, Any]) -> str:
    """``("body", "pipeline", "url")`` → ``pipeline.url``; only what is printable of a hostile key."""
    parts = [str(part) for part in row["loc"]]
    if (name := _discriminator(row)) is not None:
        parts.append(name)
    if len(parts) > 1 and parts[0] in {"body", "query", "path"}:
        del parts[0]
    typed = [part for before, part in pairwise(["", *parts]) if part not in _MEMBERS.get(before, ())]
    text = ".".join(typed) or "body"
    return "".join(character if character.isprintable() else "�" for character in text[:_SHOWN])


def _problem(row: Mapping[str, Any]) -> str:
    match row["type"]:
        case "union_tag_invalid":
            return f"expected one of {row['ctx']['expected_tags']}"
        case "union_tag_not_found":
            return "Field required"
        case "model_attributes_type":
            return "expected a JSON object"
        case "value_error":
            return str(row.get("ctx", {}).get("error", "not valid"))
        case _:
            return str(row["msg"])
