"""``/telephony/numbers``: import a number, give it an agent, release it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, status
from pydantic import BeforeValidator

from control.api.door import Caller, Ops
from control.api.envelopes import Answer, ListAnswer, Pagination, RequestMeta, documented
from control.api.routing import PREFIX, GuardedRoute, Paging
from control.errors import Code
from control.resources.fields import PhoneNumber
from control.resources.numbers import ImportedNumber, ImportNumber, NumberResource, Released, UpdateNumber
from control.resources.options import RecordingOptions

__all__ = ["router"]

NUMBERS = f"{PREFIX}/telephony/numbers"

router = APIRouter(route_class=GuardedRoute, tags=["numbers"])


class NumberAnswer(Answer[NumberResource]):
    """One number."""


class ImportedNumberAnswer(Answer[ImportedNumber]):
    """A number just imported, and what to look after at its carrier."""


class NumbersAnswer(ListAnswer[NumberResource]):
    """A page of numbers."""


class RecordingOptionsAnswer(Answer[RecordingOptions]):
    """Whether and how the number's calls are recorded."""


class NumberReleasedAnswer(Answer[Released]):
    """The number is deregistered."""


@router.post(
    f"{NUMBERS}/import",
    status_code=status.HTTP_201_CREATED,
    responses=documented(
        Code.NUMBER_ALREADY_IMPORTED,
        Code.PROVIDER_VERIFICATION_FAILED,
        Code.PROVIDER_NOT_SUPPORTED,
        Code.TRUNK_NOT_ALLOWED,
        Code.SECRETS_UNAVAILABLE,
        body=True,
    ),
)
async def import_number(body: ImportNumber, by: Caller, operations: Ops, meta: RequestMeta) -> ImportedNumberAnswer:
    """Register a number you own; it is unassigned.

    Twilio and Telnyx are the supported providers: with the credentials saved under integrations, the carrier is asked
    whether the number is yours. What it does not stop, but calls would suffer from, is in `warnings`. `sip` puts a
    number on one of the edge's own trunks: outside the supported providers, for an operator key or an account that
    the trunk lists.
    """
    return ImportedNumberAnswer(data=await operations.import_number(by, body), meta=meta)


def _plus(text: object) -> object:
    """A query's ``+`` is a space to forms; no number begins with one."""
    return f"+{text.removeprefix(' ')}" if isinstance(text, str) and text.startswith(" ") else text


@router.get(NUMBERS, responses=documented())
async def list_numbers(
    page: Paging,
    by: Caller,
    operations: Ops,
    meta: RequestMeta,
    *,
    phone_number: Annotated[
        PhoneNumber | None, BeforeValidator(_plus), Query(description="Only this number: E.164, with +.")
    ] = None,
) -> NumbersAnswer:
    """The account's numbers, newest first."""
    found = await operations.numbers(by, page, phone_number)
    return NumbersAnswer(data=found.items, pagination=Pagination.of(found), meta=meta)


@router.get(f"{NUMBERS}/{{number_id}}", responses=documented(Code.NOT_FOUND))
async def get_number(number_id: str, by: Caller, operations: Ops, meta: RequestMeta) -> NumberAnswer:
    """One number."""
    return NumberAnswer(data=await operations.number(by, number_id), meta=meta)


@router.patch(f"{NUMBERS}/{{number_id}}", responses=documented(Code.NOT_FOUND, body=True))
async def update_number(
    number_id: str, body: UpdateNumber, by: Caller, operations: Ops, meta: RequestMeta
) -> NumberAnswer:
    """Assign an agent, or unassign with `null`. The next call hears it; calls that are up go on."""
    return NumberAnswer(data=await operations.update_number(by, number_id, body), meta=meta)


@router.get(f"{NUMBERS}/{{number_id}}/recording", responses=documented(Code.NOT_FOUND))
async def get_number_recording(
    number_id: str, by: Caller, operations: Ops, meta: RequestMeta
) -> RecordingOptionsAnswer:
    """What of recording the number has otherwise than its agent; null: as the agent has it."""
    return RecordingOptionsAnswer(data=await operations.number_recording(by, number_id), meta=meta)


@router.put(f"{NUMBERS}/{{number_id}}/recording", responses=documented(Code.NOT_FOUND, body=True))
async def set_number_recording(
    number_id: str, body: RecordingOptions, by: Caller, operations: Ops, meta: RequestMeta
) -> RecordingOptionsAnswer:
    """Have the number's calls recorded, or not, whatever its agent has. Calls that are up go on as they began."""
    return RecordingOptionsAnswer(data=await operations.set_number_recording(by, number_id, body), meta=meta)


@router.post(
    f"{NUMBERS}/{{number_id}}/verify",
    responses=documented(Code.NOT_FOUND, Code.PROVIDER_VERIFICATION_FAILED, Code.SECRETS_UNAVAILABLE, writes=True),
)
async def verify_number(number_id: str, by: Caller, operations: Ops, meta: RequestMeta) -> ImportedNumberAnswer:
    """Check the number at its carrier again, after a change there or when its calls do not come.

    What has changed at a Telnyx connection is taken over for all its numbers: its region, its user name, or that it
    now points at the host name of its own. A number that fails stays as it is.
    """
    return ImportedNumberAnswer(data=await operations.verify_number(by, number_id), meta=meta)


@router.delete(f"{NUMBERS}/{{number_id}}", responses=documented(Code.NOT_FOUND, writes=True))
async def delete_number(number_id: str, by: Caller, operations: Ops, meta: RequestMeta) -> NumberReleasedAnswer:
    """Deregister the number; at the carrier it stays yours. A call that is up finishes."""
    return NumberReleasedAnswer(data=await operations.delete_number(by, number_id), meta=meta)
