"""Twilio's webhooks, as HTTP: forms in, TwiML out. Their paths are those of the numbers' Voice URLs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request, Response

from control.api.body import read_body
from control.api.door import source_of
from control.errors import ResourceNotFound, ValidationFailed
from control.inbound import (
    DIAL_STATUS_PATH,
    MOVED_PATH,
    REFER_PATH,
    STATUS_PATH,
    WEBHOOK_PATH,
    Answer,
    TwilioInbound,
    WebhookRequest,
)
from control.twiml import prepare

__all__ = ["router"]

_FIELDS: Final = 200
_BODY_BYTES: Final = 65536

Handler = Callable[[TwilioInbound, WebhookRequest], Awaitable[Answer]]

router = APIRouter(tags=["inbound"])

_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"application/xml": {"schema": {"type": "string"}}}, "description": "TwiML"},
    403: {"description": "The signature is not the account's"},
    503: {"description": "Draining, or too many calls announced at once: Twilio tries the fallback URL"},
}


async def _webhook(request: Request) -> WebhookRequest:
    query = request.url.query
    text = query if request.method == "GET" else await _form(request)
    try:
        form = parse_qsl(text, keep_blank_values=True, max_num_fields=_FIELDS, errors="strict")
    except ValueError as error:
        raise ValidationFailed.of("body", "not a form") from error
    return WebhookRequest(
        method=request.method,
        path=request.url.path,
        query=query,
        form=form,
        signature=request.headers.get("x-twilio-signature"),
        source=source_of(request),
    )


async def _form(request: Request) -> str:
    try:
        return (await read_body(request, _BODY_BYTES)).decode()
    except UnicodeDecodeError as error:
        raise ValidationFailed.of("body", f"not UTF-8, at byte {error.start}") from error


def _response(answer: Answer) -> Response:
    return Response(answer.twiml, answer.status, media_type="application/xml")


@router.api_route(WEBHOOK_PATH, methods=["POST"], response_class=Response, responses=_RESPONSES)
async def inbound_call(request: Request) -> Response:
    """A call to one of your numbers: TwiML that sends it here, with credentials made for this one call."""
    return await _answer(request, TwilioInbound.call)


@router.api_route(WEBHOOK_PATH, methods=["GET"], response_class=Response, responses=_RESPONSES, include_in_schema=False)
async def inbound_call_by_get(request: Request) -> Response:
    """The same for a number whose webhook is set to GET: answered, and counted as a misconfiguration."""
    return await _answer(request, TwilioInbound.call)


@router.api_route(DIAL_STATUS_PATH, methods=["POST"], response_class=Response, responses=_RESPONSES)
async def dial_status(request: Request) -> Response:
    """How the leg to here ended: an empty answer after a completed call, else a sentence for the caller."""
    return await _answer(request, TwilioInbound.dial_status)


@router.api_route(REFER_PATH, methods=["POST"], response_class=Response, responses=_RESPONSES)
async def refer_target(request: Request) -> Response:
    """Where a transfer of ours by REFER leads: the target that was authorised for this call, once."""
    return await _answer(request, TwilioInbound.refer)


@router.api_route(MOVED_PATH, methods=["POST"], response_class=Response, responses=_RESPONSES)
async def moved_call(request: Request) -> Response:
    """How a transferred call ended at Twilio."""
    return await _answer(request, TwilioInbound.moved)


@router.api_route(STATUS_PATH, methods=["POST"], response_class=Response, responses=_RESPONSES)
async def placed_call_status(request: Request) -> Response:
    """How a call goes that Twilio places for the edge."""
    return await _answer(request, TwilioInbound.call_status)


async def _answer(request: Request, handle: Handler) -> Response:
    inbound: TwilioInbound | None = request.app.state.inbound
    if inbound is None:
        raise ResourceNotFound("path")
    await prepare()
    return _response(await handle(inbound, await _webhook(request)))
