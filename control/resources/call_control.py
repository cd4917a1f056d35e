"""What is asked of calls: to place one, and of one that is up."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, StrictBool, StringConstraints, field_validator

from control.resources.base import Request, Resource
from control.resources.fields import Parameters, RecordingName, SipHeaders, one_line

__all__ = [
    "CallControlled",
    "CallSettings",
    "HangUp",
    "HungUp",
    "PlaceCall",
    "PlayRecording",
    "QueuedCall",
    "SendDigits",
    "SetMark",
    "Span",
    "TransferCall",
    "Transferring",
]


_SPAN: Final = re.compile(r"[0-9]{1,6}(\.[0-9]{1,3})?s")


def _seconds(span: str) -> float:
    """``"3600s"`` → 3600.0."""
    return float(span.removesuffix("s"))


def _positive_span(span: str) -> str:
    if _SPAN.fullmatch(span) is None:
        raise ValueError('is not seconds with an s, such as "30s"')
    if _seconds(span) < 1:
        raise ValueError("is less than 1s")
    return span


Span = Annotated[
    str,
    AfterValidator(_positive_span),
    Field(examples=["30s"], json_schema_extra={"pattern": f"^{_SPAN.pattern}$"}),
]


class CallSettings(Request):
    """How an outgoing call is made. Spans are seconds with an `s`, as in `"30s"`."""

    greeting: Annotated[str, StringConstraints(max_length=2000)] | None = Field(
        default=None, description="What the agent is to say first: its parameter `greeting`."
    )
    max_duration: Span = Field(default="3600s", description="The call is ended after this.")
    join_timeout: Span | None = Field(
        default=None, description="Given up when the callee has not answered by then, 5 s to 120 s. Absent: the edge's."
    )
    hide_caller_id: StrictBool = Field(default=False, description="Ask the carrier not to show the number.")
    recording_enabled: StrictBool | None = Field(
        default=None, description="Whether this call is recorded. Absent: as its number, its agent or the edge has it."
    )

    @field_validator("join_timeout")
    @classmethod
    def _patience(cls, value: str | None) -> str | None:
        if value is not None and not 5 <= _seconds(value) <= 120:
            raise ValueError("is not from 5s to 120s")
        return value

    @property
    def max_duration_s(self) -> float:
        """In seconds."""
        return _seconds(self.max_duration)

    @property
    def join_timeout_s(self) -> float | None:
        """In seconds."""
        return None if self.join_timeout is None else _seconds(self.join_timeout)


class PlaceCall(Request):
    """A call to be placed: the agent talks to whoever answers."""

    agent_id: UUID
    phone_number: Annotated[str, StringConstraints(min_length=1, max_length=64)] = Field(
        description="Whom to call: E.164 with +, or a SIP URI that the operator has listed.", examples=["+14155550123"]
    )
    from_number: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = Field(
        default=None, description="A number of your account. Absent: one that the agent answers, else the newest."
    )
    variables: Parameters = Field(default={}, description="Parameters for the agent, over those of its record.")
    call_settings: CallSettings = CallSettings()


class QueuedCall(Resource):
    """The call is being placed; its record tells the rest."""

    id: str
    agent_id: str
    status: Literal["queued"] = "queued"
    direction: Literal["outbound"] = "outbound"


class TransferCall(Request):
    """Hand the caller to somebody else."""

    target: Annotated[str, StringConstraints(min_length=1, max_length=255)] = Field(
        description="E.164 with +, or a SIP URI that the operator has listed.", examples=["+14155550123"]
    )
    agent: Literal["leaves", "listens"] = Field(
        default="leaves",
        description="What becomes of the agent where a second leg is joined here: it leaves, or hears both and has"
        " the caller back when the target hangs up.",
    )


class Transferring(Resource):
    """The transfer is under way; the call's timeline and the agent hear how it goes."""

    id: str
    target: str
    method: Literal["refer", "carrier", "bridge"]
    status: Literal["started"] = "started"


class HangUp(Request):
    """How a live call is ended; the body may be left out."""

    headers: SipHeaders = Field(
        default={}, description="Sent on the BYE, as far as `sip.agent_headers` lets them cross."
    )


class HungUp(Resource):
    """The call is being ended; its record follows within moments."""

    id: str
    hung_up: Literal[True] = True


class SendDigits(Request):
    """Digits to the phone (RFC 4733)."""

    digits: Annotated[str, StringConstraints(pattern=r"^[0-9*#A-Da-dwW]{1,100}$")] = Field(
        description="0-9, *, #, A-D; each w pauses half a second.", examples=["ww123#"]
    )


class PlayRecording(Request):
    """A recording to the phone, behind what the agent has said and is still to be heard."""

    recording: RecordingName
    interrupt: StrictBool = Field(default=False, description="Instead of it: as clear does.")


class SetMark(Request):
    """A mark behind what is queued now; the call's timeline says when playout has reached it."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=100), AfterValidator(one_line)]


class CallControlled(Resource):
    """It has been done, or was so already."""

    id: str
    done: Literal[True] = True
