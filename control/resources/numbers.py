"""Numbers: imported from a carrier, or put on a static trunk."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Annotated, Any, Final, Literal, Self
from uuid import UUID

from pydantic import Discriminator, Field, StrictBool, StringConstraints, TypeAdapter, ValidationError, model_validator

from control.errors import from_validation
from control.providers import ProviderWarning
from control.registry import types as rows
from control.resources.base import DEFERRED, Request, Resource
from control.resources.fields import (
    AccountSid,
    Parameters,
    PhoneNumber,
    RecordingName,
    SipPassword,
    Timestamp,
    moment,
)
from control.resources.notices import WithWarnings

__all__ = [
    "ForwardFallback",
    "ImportNumber",
    "ImportSipNumber",
    "ImportTelnyxNumber",
    "ImportTwilioNumber",
    "ImportedNumber",
    "ImportedSipNumber",
    "ImportedTelnyxNumber",
    "ImportedTwilioNumber",
    "MessageFallback",
    "NumberResource",
    "Released",
    "SipNumber",
    "TelnyxNumber",
    "TwilioNumber",
    "UpdateNumber",
    "import_request",
    "imported_number",
    "number_resource",
]


class ImportTwilioNumber(Request):
    """A number you own at Twilio."""

    provider: Literal["twilio"]
    phone_number: PhoneNumber
    provider_account_sid: AccountSid


class ImportTelnyxNumber(Request):
    """A number you own at Telnyx."""

    provider: Literal["telnyx"]
    phone_number: PhoneNumber
    provider_connection_id: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z_-]{1,64}$")] = Field(
        description="The ID of the SIP connection you created in Telnyx."
    )
    sip_password: SipPassword | None = Field(
        default=None, description="A credential connection's password, where Telnyx does not tell it."
    )
    rotate_sip_password: StrictBool = Field(
        default=False,
        description="Set a new password on the connection: other devices that register with the old one drop out.",
    )

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        if self.sip_password is not None and self.rotate_sip_password:
            raise ValueError("sip_password is the one to use: rotate_sip_password would set another")
        return self


class ImportSipNumber(Request):
    """A number on one of the edge's own trunks. Outside the supported providers: the operator vouches for it."""

    provider: Literal["sip"]
    phone_number: PhoneNumber
    provider_trunk: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")] = Field(
        description="The name of a static trunk that lists your account."
    )


ImportNumber = Annotated[ImportTwilioNumber | ImportTelnyxNumber | ImportSipNumber, Discriminator("provider")]
_IMPORT: Final[TypeAdapter[ImportNumber]] = TypeAdapter(ImportNumber, config=DEFERRED)


def import_request(**fields: Any) -> ImportNumber:
    """From loose values; raises :class:`control.errors.OperationError`."""
    try:
        return _IMPORT.validate_python(fields)
    except ValidationError as error:
        raise from_validation(error.errors(include_url=False)) from error


class MessageFallback(Request):
    """Answer, play a recording, hang up."""

    message: RecordingName


class ForwardFallback(Request):
    """Forward the caller to a number, within what the account may be transferred to."""

    forward: PhoneNumber


class UpdateNumber(Request):
    """``agent_id`` null unassigns, ``fallback`` null takes it away; absent, nothing changes."""

    agent_id: UUID | None = None
    fallback: MessageFallback | ForwardFallback | None = Field(
        default=None, description="For callers whom no agent can answer: it is not reached in time, or a cap is full."
    )
    parameters: Parameters = Field(
        default={}, description="Given to the number's agent; they override the agent's own."
    )


class _Number(Resource):
    id: str
    phone_number: str
    agent_id: str | None
    fallback: MessageFallback | ForwardFallback | None
    parameters: dict[str, str]
    status: str
    created_at: Timestamp
    updated_at: Timestamp


class TwilioNumber(_Number):
    """A number imported from Twilio."""

    provider: Literal["twilio"]
    provider_account_sid: str


class TelnyxNumber(_Number):
    """A number imported from Telnyx."""

    provider: Literal["telnyx"]
    provider_connection_id: str


class SipNumber(_Number):
    """A number on a static trunk of the edge."""

    provider: Literal["sip"]
    provider_trunk: str


NumberResource = Annotated[TwilioNumber | TelnyxNumber | SipNumber, Discriminator("provider")]
_NUMBER: Final[TypeAdapter[NumberResource]] = TypeAdapter(NumberResource, config=DEFERRED)


class ImportedTwilioNumber(TwilioNumber, WithWarnings):
    """A number just imported from Twilio."""


class ImportedTelnyxNumber(TelnyxNumber, WithWarnings):
    """A number just imported from Telnyx."""


class ImportedSipNumber(SipNumber, WithWarnings):
    """A number just put on a static trunk of the edge."""


ImportedNumber = Annotated[ImportedTwilioNumber | ImportedTelnyxNumber | ImportedSipNumber, Discriminator("provider")]
_IMPORTED: Final[TypeAdapter[ImportedNumber]] = TypeAdapter(ImportedNumber, config=DEFERRED)


class Released(Resource):
    """The number is deregistered here; at the carrier it is still yours."""

    id: str
    phone_number: str
    released: Literal[True] = True


def _number_fields(row: rows.Number) -> dict[str, Any]:
    return asdict(row) | {"created_at": moment(row.created_at), "updated_at": moment(row.updated_at)}


def number_resource(row: rows.Number) -> NumberResource:
    """As the API shows it: the one ``provider_…`` field that its provider has."""
    return _NUMBER.validate_python(_number_fields(row))


def imported_number(row: rows.Number, warnings: Iterable[ProviderWarning] = ()) -> ImportedNumber:
    """As imports and verifications answer."""
    return _IMPORTED.validate_python(_number_fields(row) | {"warnings": [asdict(each) for each in warnings]})
