"""Twilio's REST path for changing a live call, so that agents written for Twilio hang up and transfer unchanged.

``POST /2010-04-01/Accounts/{sid}/Calls/{CallSid}.json``, form ``Status=completed``, or ``Twiml=…`` with the verbs of
:mod:`control.instructions`; basic auth with the account's id (or its ``AC…`` form) and an API key of that account.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from control.api.body import read_body
from control.api.door import Doorkeeper, Lane, Ops, basic_credentials, source_of
from control.api.failures import TWILIO_PREFIX
from control.api.routing import refuse_unknown_parameters
from control.errors import CallNotFound, CallNotLive, Unauthorized, ValidationFailed
from control.instructions import MAX_BYTES, Instruction, InstructionsError, read
from control.operations import Operations
from control.operations.principal import Principal
from control.resources.ids import account_sid, call_sid, id_of

__all__ = ["router"]

_FORM: Final = "application/x-www-form-urlencoded"


class TwilioCall(BaseModel, defer_build=True):
    """The fields of Twilio's call resource that a hang-up's answer is read for."""

    sid: str
    account_sid: str
    status: str
    api_version: str = "2010-04-01"
    uri: str


class TwilioError(BaseModel, defer_build=True):
    """Twilio's shape of an error."""

    code: int
    message: str
    more_info: str
    status: int = Field(description="The HTTP status.")


router = APIRouter(tags=["calls"])

_SCHEMA: Final[dict[str, Any]] = {
    "security": [{"basicAuth": []}],
    "requestBody": {
        "required": True,
        "content": {
            _FORM: {
                "schema": {
                    "type": "object",
                    "properties": {
                        "Status": {"type": "string", "enum": ["completed"]},
                        "Twiml": {
                            "type": "string",
                            "maxLength": MAX_BYTES,
                            "description": "Response with Dial, Hangup, Pause and Play digits.",
                        },
                    },
                    "oneOf": [{"required": ["Status"]}, {"required": ["Twiml"]}],
                }
            }
        },
    },
}
_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": TwilioError, "description": text}
    for status, text in {
        400: "Anything but Status=completed, TwiML that is not taken, or a call that is not up (21220)",
        401: "The account and the API key do not belong together",
        404: "No such call in the account",
        408: "The body did not arrive in time",
        413: "The body is too large",
        429: "Too fast",
        500: "Our fault",
        503: "The registry is busy",
    }.items()
}


@router.post(TWILIO_PREFIX + "Accounts/{account}/Calls/{call}.json", openapi_extra=_SCHEMA, responses=_RESPONSES)
async def twilio_end_call(account: str, call: str, request: Request, operations: Ops) -> TwilioCall:
    """End a live call as Twilio's API does, or give it other instructions. One that has ended is told its last status.

    With `Twiml` the agent stays on the line unless it says `Hangup` or `Dial`.
    """
    by = await _admit(request, account)
    refuse_unknown_parameters(request)
    status = await _change(operations, by, call, await read_body(request, operations.settings.limits.api_body_bytes))
    sid, owner = call_sid(str(id_of(call, "CA"))), account_sid(by.account)
    return TwilioCall(
        sid=sid, account_sid=owner, status=status, uri=f"{TWILIO_PREFIX}Accounts/{owner}/Calls/{sid}.json"
    )


async def _admit(request: Request, account: str) -> Principal:
    """User, path and key have to name the same account."""
    door: Doorkeeper = request.app.state.door
    user, key = basic_credentials(request) or (None, None)
    by = await door.admit(key, source_of(request), Lane.HANG_UP)
    named = {id_of(account, "AC"), id_of(user or "", "AC")}
    if named != {by.account}:
        raise Unauthorized
    return by


async def _change(operations: Operations, by: Principal, call: str, form: bytes) -> str:
    """The call's status afterwards, in Twilio's words."""
    try:
        fields = parse_qs(form.decode(), keep_blank_values=True, strict_parsing=True, max_num_fields=20)
    except ValueError as error:
        raise ValidationFailed.of("body", f"is not {_FORM}") from error
    if unknown := sorted(fields.keys() - {"Status", "Twiml"}):
        raise ValidationFailed.of(unknown[0], "is not supported here")
    match fields.get("Status"), fields.get("Twiml"):
        case ["completed"], None:
            return await _end(operations, by, call)
        case None, [text]:
            await operations.perform(by, call, _read(text))
            return "in-progress"
        case None, None:
            raise ValidationFailed.of("Status", "or Twiml has to be given")
        case _, None:
            raise ValidationFailed.of("Status", "only completed is supported here")
        case _:
            raise ValidationFailed.of("Twiml", "is given once, and without Status")


def _read(text: str) -> tuple[Instruction, ...]:
    try:
        return read(text)
    except InstructionsError as error:
        raise ValidationFailed.of("Twiml", str(error)) from error


async def _end(operations: Operations, by: Principal, call: str) -> str:
    if id_of(call, "CA") is None:
        raise CallNotFound(call)
    try:
        await operations.hang_up(by, call, ended_by="agent")
    except CallNotLive as ended:
        return "failed" if ended.call_status == "failed" else "completed"
    return "completed"
