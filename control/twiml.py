"""The few TwiML documents the edge answers with, written by Twilio's own SDK.

The SDK is imported on first use: :func:`prepare` does it, off the loop, before any document is asked for.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twilio.twiml.voice_response import VoiceResponse

__all__ = ["Dial", "Onward", "dial", "empty", "hang_up", "prepare", "reject", "say_and_hang_up"]


@dataclass(frozen=True, slots=True)
class Dial:
    """A leg to the edge. ``timeout_s`` [s] rings, ``time_limit_s`` [s] talks; ``action`` hears how it ended."""

    uri: str = field(repr=False)
    username: str
    password: str = field(repr=False)
    timeout_s: int
    action: str
    time_limit_s: int
    refer_url: str = ""


@dataclass(frozen=True, slots=True)
class Onward:
    """Whom a caller goes on to: ``kind`` ``number`` or ``sip``; ``caller_id`` is shown, ``action`` hears the end.

    ``status`` is told when the target has answered, and when its leg is over. Without ``action``, Twilio goes on as the
    document says: it ends, or our leg has the caller again.
    """

    target: str
    kind: str
    caller_id: str
    action: str
    time_limit_s: int
    status: str


async def prepare() -> None:
    """Import what writes TwiML; cheap once it has been done."""
    await asyncio.to_thread(_response)


def _response() -> VoiceResponse:
    from twilio.twiml.voice_response import VoiceResponse  # noqa: PLC0415 - on first use

    return VoiceResponse()


def dial(leg: Dial) -> str:
    """``<Dial answerOnBridge><Sip>``: the caller hears ringing until the agent has answered."""
    response = _response()
    hears = {"action": leg.action, "method": "POST"} if leg.action else {}
    refers = {"refer_url": leg.refer_url, "refer_method": "POST"} if leg.refer_url else {}
    verb = response.dial(answer_on_bridge=True, timeout=leg.timeout_s, time_limit=leg.time_limit_s, **hears, **refers)
    verb.sip(leg.uri, username=leg.username, password=leg.password)
    return str(response)


def onward(leg: Onward) -> str:
    """``<Dial><Number>`` or ``<Dial><Sip>``: the caller goes on to somebody else."""
    response = _response()
    hears = {"action": leg.action, "method": "POST"} if leg.action else {}
    verb = response.dial(caller_id=leg.caller_id, answer_on_bridge=True, time_limit=leg.time_limit_s, **hears)
    tells = {
        "status_callback": leg.status,
        "status_callback_event": "answered completed",
        "status_callback_method": "POST",
    }
    if leg.kind == "sip":
        verb.sip(leg.target, **tells)
    else:
        verb.number(leg.target, **tells)
    return str(response)


def reject() -> str:
    """``<Reject>``: nobody is charged."""
    response = _response()
    response.reject()
    return str(response)


def hang_up() -> str:
    """``<Hangup>``."""
    response = _response()
    response.hangup()
    return str(response)


def empty() -> str:
    """An empty ``<Response>``: the call is over, nothing follows."""
    return str(_response())


def say_and_hang_up(text: str) -> str:
    """A sentence for the caller, then the end."""
    response = _response()
    response.say(text)
    response.hangup()
    return str(response)
