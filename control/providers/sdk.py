"""What both carriers' SDKs need around them: they are big, they wait for long, and they raise anything.

They are imported at their first use, off the loop: it carries calls, and importing one holds it up for a second.
What goes wrong with a carrier is one of four :class:`CarrierError`; :func:`failure` makes of it what a caller is told.
What an SDK answers is as the carrier sent it, whatever its types say: :func:`field` and :func:`required` look.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Generic, TypeVar

from control.errors import ProviderVerificationFailed
from control.providers import Check, ProviderWarning

__all__ = [
    "CHECKS",
    "CarrierError",
    "OnFirstUse",
    "Refused",
    "TimedOut",
    "Unreachable",
    "WarningCode",
    "WrongAnswer",
    "display_name",
    "failed",
    "failure",
    "field",
    "required",
    "warning",
]

_T = TypeVar("_T")

CHECKS: Final[Mapping[Check, str]] = MappingProxyType(
    {
        Check.OUT_OF_SERVICE: "Ask the operator whether this edge serves the carrier.",
        Check.INTEGRATION_MISSING: "Save the carrier's credentials first, under Settings → Integrations.",
        Check.CREDENTIALS: (
            "Copy the credentials from the carrier's console again, and see there that the account is neither"
            " suspended nor closed."
        ),
        Check.ACCOUNT_SID: "Give the Account SID that is saved under Settings → Integrations, or a subaccount of it.",
        Check.ACCOUNT_STATUS: "Settle it with the carrier: no calls come in until the account is active again.",
        Check.NUMBER: "Check the number, and that it is active in the account whose credentials are saved here.",
        Check.VOICE: "Choose a number that can take calls.",
        Check.CONNECTION: "Check the connection's ID, and assign the number to that connection.",
        Check.CONNECTION_STATUS: "Switch the connection on.",
        Check.CONNECTION_KIND: "Use a credential connection, or an FQDN or IP connection that points here.",
        Check.SIP_PASSWORD: (
            "Send the connection's password as sip_password, or rotate_sip_password: true to have a new one set, which"
            " cuts off other devices that use the old one."
        ),
        Check.RATE_LIMITED: "Wait a minute and try again.",
        Check.TIMEOUT: "Try again; if it stays like that, look at the carrier's status page.",
        Check.UNREACHABLE: "Try again; if it stays like that, look at the carrier's status page.",
        Check.ANSWER: "Try again; if it stays like that, tell support the request's id.",
    }
)
"""What to do about each check that can fail; the last sentence of the error's message."""


class WarningCode(StrEnum):
    """The ``code`` of a :class:`control.providers.ProviderWarning`."""

    CUTOVER = "cutover"
    """The number is live on something else, which the message names."""
    TRIAL_ACCOUNT = "trial_account"
    """Twilio speaks first, and calls only verified numbers."""
    VOICE_URL = "voice_url"
    """Twilio: not ours."""
    VOICE_METHOD = "voice_method"
    """Twilio: not POST."""
    TRUNK_OVERRIDES = "trunk_overrides"
    """Twilio: the number is on an Elastic SIP trunk, its Voice URL is ignored."""
    APPLICATION_OVERRIDES = "application_overrides"
    """Twilio: the number has a TwiML application, its Voice URL is ignored."""
    RECEIVES_FAX = "receives_fax"
    """Twilio: the number takes faxes in place of calls."""
    NO_OUTBOUND_PROFILE = "no_outbound_profile"
    """Telnyx: no calls out through this connection."""
    CALL_PARKING = "call_parking"
    """Telnyx: calls out are parked, and go nowhere."""
    ENCRYPTED_MEDIA = "encrypted_media"
    """Telnyx: the connection insists on SRTP and the edge has it off, or the other way round."""
    NO_COMMON_CODEC = "no_common_codec"
    """Telnyx: none of the edge's codecs is among the connection's."""
    REGISTERED_ELSEWHERE = "registered_elsewhere"
    """Telnyx: another device has registered with the connection's user name; we take its calls over."""
    SIP_PASSWORD_ROTATED = "sip_password_rotated"
    """Telnyx: the connection has a new password, as the import asked."""
    POINTS_ELSEWHERE = "points_elsewhere"
    """Telnyx: the connection sends its calls to other hosts or addresses."""
    SHARED_HOST = "shared_host"
    """Telnyx: only the carrier's addresses vouch for the connection's calls."""
    OPENAI_KEY_MISSING = "openai_key_missing"
    """OpenAI: the account has no key saved, or none that opens: an `openai-realtime` agent's calls are refused."""
    KEY_NOT_TRIED = "key_not_tried"
    """OpenAI: the key may not list models, so that it is known to be a key and nothing more."""


def warning(code: WarningCode, message: str) -> ProviderWarning:
    """One, in the shape that imports answer with."""
    return ProviderWarning(code.value, _sentence(message))


def _sentence(text: str) -> str:
    """With a capital, and only what is printable: names, URLs and devices in it are whatever somebody has set."""
    return "".join(character if character.isprintable() else "�" for character in text[:1].upper() + text[1:])


class CarrierError(Exception):
    """A carrier's API did not do what was asked of it."""


class Refused(CarrierError):
    """It answered with an error: HTTP ``status``, and its own ``code`` where it gave one."""

    def __init__(self, status: int, code: str | None = None) -> None:
        super().__init__(f"status {status}, code {code}")
        self.status = status
        self.code = code


class TimedOut(CarrierError):
    """It did not answer in time."""


class Unreachable(CarrierError):
    """No connection to it, or one that broke."""


class WrongAnswer(CarrierError):
    """It answered with something that is no answer to what was asked. The text never quotes it."""


def display_name(provider: str) -> str:
    """As it writes itself."""
    return "OpenAI" if provider == "openai" else provider.title()


def failed(
    provider: str, check: Check, what: str, refused: Refused | None = None, *, advice: str | None = None
) -> ProviderVerificationFailed:
    """``what`` has happened, and what to do about it: ``advice`` in place of what :data:`CHECKS` says."""
    status, code = (refused.status, refused.code) if refused is not None else (None, None)
    message = _sentence(f"{what}. {advice or CHECKS[check]}")
    return ProviderVerificationFailed(provider, check, message, provider_status=status, provider_code=code)


def failure(provider: str, error: CarrierError) -> ProviderVerificationFailed:
    """What a caller is told of an error that has no better meaning where it happened."""
    name = display_name(provider)
    match error:
        case Refused(status=401 | 403):
            return failed(provider, Check.CREDENTIALS, f"{name} refuses the credentials", error)
        case Refused(status=429):
            return failed(provider, Check.RATE_LIMITED, f"{name} has had too many requests of this account", error)
        case Refused(status=status) if status >= 500:
            return failed(provider, Check.UNREACHABLE, f"{name} has a failure of its own", error)
        case Refused():
            return failed(provider, Check.ANSWER, f"{name} refuses the request", error)
        case TimedOut():
            return failed(provider, Check.TIMEOUT, f"{name} did not answer in time")
        case Unreachable():
            return failed(provider, Check.UNREACHABLE, f"There is no connection to {name}")
        case _:
            return failed(provider, Check.ANSWER, f"{name}'s answer makes no sense")


def field(answer: object, name: str, kind: type[_T]) -> _T | None:
    """An attribute of what an SDK answered; None where there is none. :class:`WrongAnswer` for one of another type."""
    value = getattr(answer, name, None)
    if value is None or isinstance(value, kind):
        return value
    raise WrongAnswer(f"{name} is of type {type(value).__name__}")


def required(answer: object, name: str, kind: type[_T]) -> _T:
    """The same, of one that has to be there."""
    value = field(answer, name, kind)
    if value is None:
        raise WrongAnswer(f"{name} is missing")
    return value


class OnFirstUse(Generic[_T]):
    """Something that is made in a thread when it is first asked for, and kept."""

    def __init__(self, make: Callable[[], _T]) -> None:
        self._make = make
        self._made: _T | None = None

    async def get(self) -> _T:
        """It. Two who ask at once may both make it; who stops waiting leaves the imports to the next."""
        if self._made is None:
            self._made = await asyncio.to_thread(_uncollected, self._make)
        return self._made


def _uncollected(make: Callable[[], _T]) -> _T:
    """Let the garbage collector, which stops every thread, leave alone what an import makes.

    An SDK has a million objects that live as long as the process. Going through them takes 0.4 s, several times while
    they are made and with each full collection from then on; calls would hear it.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        return make()
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
