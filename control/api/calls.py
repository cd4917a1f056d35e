"""``/calls``: records of calls, and what can be done to a live one."""

from __future__ import annotations

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Header, Query
from fastapi import status as status_code
from fastapi.responses import StreamingResponse

from control.api.door import Caller, Ops
from control.api.envelopes import Answer, ListAnswer, Pagination, RequestMeta, documented
from control.api.routing import PREFIX, GuardedRoute, HangUpRoute, Paging
from control.errors import Code
from control.registry.types import CallFilter
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
from control.resources.calls import CallDetail, CallResource, CallStatus, RecordingDeleted
from control.resources.ids import id_of
from media.recording_file import CONTENT_TYPES

__all__ = ["hang_up_router", "router"]

router = APIRouter(route_class=GuardedRoute, tags=["calls"])
hang_up_router = APIRouter(route_class=HangUpRoute, tags=["calls"])


class CallAnswer(Answer[CallDetail]):
    """One call, with its timeline and media statistics."""


class CallsAnswer(ListAnswer[CallResource]):
    """A page of calls."""


class RecordingDeletedAnswer(Answer[RecordingDeleted]):
    """The recording is gone."""


class QueuedCallAnswer(Answer[QueuedCall]):
    """The call is being placed."""


class TransferringAnswer(Answer[Transferring]):
    """The transfer is under way."""


class HungUpAnswer(Answer[HungUp]):
    """The call is being ended."""


class CallControlledAnswer(Answer[CallControlled]):
    """The call is as it was asked for."""


_CONTROLS = documented(Code.NOT_FOUND, Code.CALL_NOT_LIVE, Code.CALL_NOT_READY)
_CONTROLS_WITH_BODY = documented(Code.NOT_FOUND, Code.CALL_NOT_LIVE, Code.CALL_NOT_READY, body=True)


@router.get(f"{PREFIX}/calls", responses=documented())
async def list_calls(
    page: Paging,
    by: Caller,
    operations: Ops,
    meta: RequestMeta,
    *,
    status: Annotated[CallStatus | None, Query(description="Only calls of this status.")] = None,
    number_id: Annotated[UUID | None, Query(description="Only calls to this number.")] = None,
) -> CallsAnswer:
    """The account's calls, newest first. A call's record follows its events within moments."""
    wanted = CallFilter(status, str(number_id) if number_id else None)
    found = await operations.calls(by, page, wanted)
    return CallsAnswer(data=found.items, pagination=Pagination.of(found), meta=meta)


@router.get(f"{PREFIX}/calls/{{call_id}}", responses=documented(Code.NOT_FOUND))
async def get_call(call_id: str, by: Caller, operations: Ops, meta: RequestMeta) -> CallAnswer:
    """One call; while it is live, its statistics are those of the moment."""
    return CallAnswer(data=await operations.call(by, call_id), meta=meta)


_AUDIO: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "content": {type: {"schema": {"type": "string", "format": "binary"}} for type in CONTENT_TYPES.values()},
        "description": "The audio file: stereo, the caller left, the agent right",
    }
}


@router.get(
    f"{PREFIX}/calls/{{call_id}}/recording",
    response_class=StreamingResponse,
    responses={**_AUDIO, **documented(Code.NOT_FOUND, Code.CONFLICT, Code.RECORDING_DAMAGED, Code.SECRETS_UNAVAILABLE)},
)
async def get_recording(call_id: str, by: Caller, operations: Ops) -> StreamingResponse:
    """A call's recording, decrypted. That it was read, and by whom, is noted in the call's timeline."""
    opened = await operations.recording(by, call_id)
    headers = {
        "Content-Length": str(opened.length),
        "Content-Disposition": f'attachment; filename="call-{id_of(call_id)}.{opened.suffix}"',
    }
    return StreamingResponse(opened.pieces, media_type=opened.content_type, headers=headers)


@router.delete(
    f"{PREFIX}/calls/{{call_id}}/recording", responses=documented(Code.NOT_FOUND, Code.CONFLICT, writes=True)
)
async def delete_recording(call_id: str, by: Caller, operations: Ops, meta: RequestMeta) -> RecordingDeletedAnswer:
    """Delete a call's recording for good; the call's record stays."""
    return RecordingDeletedAnswer(data=await operations.delete_recording(by, call_id), meta=meta)


@router.post(
    f"{PREFIX}/calls",
    status_code=status_code.HTTP_201_CREATED,
    responses=documented(
        Code.DESTINATION_REFUSED,
        Code.NOT_FOUND,
        Code.CONFLICT,
        Code.OUTBOUND_UNAVAILABLE,
        Code.OUTBOUND_LIMIT_REACHED,
        Code.EDGE_FULL,
        body=True,
    ),
)
async def place_call(
    body: PlaceCall,
    by: Caller,
    operations: Ops,
    meta: RequestMeta,
    *,
    key: Annotated[
        str | None,
        Header(
            alias="X-Idempotency-Key",
            min_length=1,
            max_length=255,
            description="Sent again within a day, it gives the same call instead of another one.",
        ),
    ] = None,
) -> QueuedCallAnswer:
    """Call somebody, from a number of the account, and let an agent talk. The call's record tells the rest."""
    return QueuedCallAnswer(data=await operations.place_call(by, body, key), meta=meta)


@router.post(
    f"{PREFIX}/calls/{{call_id}}/transfer",
    status_code=status_code.HTTP_202_ACCEPTED,
    responses=documented(
        Code.DESTINATION_REFUSED,
        Code.NOT_FOUND,
        Code.CALL_NOT_LIVE,
        Code.TRANSFER_NOT_POSSIBLE,
        Code.OUTBOUND_LIMIT_REACHED,
        body=True,
    ),
)
async def transfer_call(
    call_id: str, body: TransferCall, by: Caller, operations: Ops, meta: RequestMeta
) -> TransferringAnswer:
    """Hand a live call's caller to somebody else. The call's timeline and its agent hear how it goes."""
    return TransferringAnswer(data=await operations.transfer(by, call_id, body), meta=meta)


@router.post(f"{PREFIX}/calls/{{call_id}}/digits", responses=_CONTROLS_WITH_BODY)
async def send_digits(
    call_id: str, body: SendDigits, by: Caller, operations: Ops, meta: RequestMeta
) -> CallControlledAnswer:
    """Press digits. Like all that follows it takes the call's id, or its `CA…` form."""
    return CallControlledAnswer(data=await operations.send_digits(by, call_id, body), meta=meta)


@router.post(f"{PREFIX}/calls/{{call_id}}/play", responses=_CONTROLS_WITH_BODY)
async def play_recording(
    call_id: str, body: PlayRecording, by: Caller, operations: Ops, meta: RequestMeta
) -> CallControlledAnswer:
    """Play a recording to the caller; the agent stays."""
    return CallControlledAnswer(data=await operations.play(by, call_id, body), meta=meta)


@router.post(f"{PREFIX}/calls/{{call_id}}/clear", responses=_CONTROLS)
async def clear_playout(call_id: str, by: Caller, operations: Ops, meta: RequestMeta) -> CallControlledAnswer:
    """Stop what the caller is being played within 20 ms; the agent gets its marks back."""
    return CallControlledAnswer(data=await operations.clear(by, call_id), meta=meta)


@router.post(f"{PREFIX}/calls/{{call_id}}/marks", responses=_CONTROLS_WITH_BODY)
async def set_mark(call_id: str, body: SetMark, by: Caller, operations: Ops, meta: RequestMeta) -> CallControlledAnswer:
    """Have the call's timeline say when what is queued now is played (`mark_reached`), or cleared (`mark_cleared`)."""
    return CallControlledAnswer(data=await operations.mark(by, call_id, body), meta=meta)


@router.post(f"{PREFIX}/calls/{{call_id}}/hold", responses=_CONTROLS)
async def hold_call(call_id: str, by: Caller, operations: Ops, meta: RequestMeta) -> CallControlledAnswer:
    """Put the phone on hold: it hears the agent's `hold_music`. The answer waits for the phone's, 10 s at most."""
    return CallControlledAnswer(data=await operations.hold(by, call_id), meta=meta)


@router.post(f"{PREFIX}/calls/{{call_id}}/resume", responses=_CONTROLS)
async def resume_call(call_id: str, by: Caller, operations: Ops, meta: RequestMeta) -> CallControlledAnswer:
    """Take a held phone back."""
    return CallControlledAnswer(data=await operations.resume(by, call_id), meta=meta)


@hang_up_router.post(
    f"{PREFIX}/calls/{{call_id}}/hangup", responses=documented(Code.NOT_FOUND, Code.CALL_NOT_LIVE, body=True)
)
async def hang_up_call(
    call_id: str, by: Caller, operations: Ops, meta: RequestMeta, body: HangUp | None = None
) -> HungUpAnswer:
    """End a live call now. Takes the call's id, or its `CA…` form."""
    return HungUpAnswer(data=await operations.hang_up(by, call_id, body, ended_by="operator"), meta=meta)
