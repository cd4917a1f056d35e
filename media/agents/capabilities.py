"""What an agent of each protocol can do in a call: the table of docs/reference/agents.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["CAPABILITIES", "Capabilities"]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """How each is done; "" where the protocol has no place for it.

    ``audio`` is what crosses the link, ``parameters`` where the record's arrive, ``digits`` how the agent hears of
    them, ``marks`` how it hears that playout has come so far, ``clear`` how it silences itself, ``hang_up`` how it ends
    the call, ``transfer`` how it asks for one, ``events`` how it hears of holds and of how a transfer goes.
    """

    link: str
    audio: str
    parameters: str = ""
    digits: str = ""
    marks: str = ""
    clear: str = ""
    hang_up: str = ""
    transfer: str = ""
    events: str = ""


def _media_stream(audio: str, parameters: str) -> Capabilities:
    """The carriers' media streams differ in no more than this."""
    return Capabilities(
        link="WebSocket",
        audio=audio,
        parameters=parameters,
        digits="dtmf",
        marks="mark",
        clear="clear",
        hang_up="closes, or REST",
    )


CAPABILITIES: Final[Mapping[str, Capabilities]] = {
    "twilio-media-streams": _media_stream("PCMU, base64", "start.customParameters"),
    "telnyx-media-streaming": _media_stream("PCMU or PCMA, base64", "start.custom_parameters"),
    "jambonz-listen": Capabilities(
        link="WebSocket",
        audio="L16 at 8, 16 or 24 kHz, binary",
        parameters="first message, metadata",
        digits="dtmf",
        marks="mark, playDone",
        clear="killAudio",
        hang_up="disconnect, or closes",
        transfer="transfer",
        events="event",
    ),
    "audiosocket": Capabilities(
        link="TCP",
        audio="L16 at 8 or 16 kHz",
        digits="packet 03",
        hang_up="packet 00, or closes",
    ),
    "openai-realtime": Capabilities(
        link="WebSocket to OpenAI",
        audio="PCMU or PCMA as the call has it, base64",
        parameters="system message",
        digits="user message",
        clear="its own, when the caller speaks",
        hang_up="hang_up",
        transfer="transfer_call",
        events="system message, function's output",
    ),
}
"""Of the protocols that cross a network."""
