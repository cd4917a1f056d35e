"""Records of calls: what happened, who called, what was recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from pydantic import Field, WithJsonSchema

from control.registry import types as rows
from control.resources.base import Resource
from control.resources.fields import Seconds, Timestamp, moment_if_any
from control.resources.ids import call_sid
from media.messages import LegStatistics

__all__ = [
    "CallDetail",
    "CallIdentity",
    "CallReason",
    "CallResource",
    "CallStatus",
    "Forwarding",
    "RecordingDeleted",
    "RecordingResource",
    "Statistics",
    "TimelineEntry",
    "call_detail",
    "call_resource",
]


CallStatus = Literal["ringing", "in_progress", "completed", "failed"]
_STATISTICS_SCHEMA: Final = msgspec.json.schema_components([LegStatistics])[1]["LegStatistics"]
Statistics = Annotated[dict[str, Any], WithJsonSchema({**_STATISTICS_SCHEMA, "additionalProperties": True})]


class RecordingResource(Resource):
    """A call's recording: ``GET /calls/{id}/recording`` has the audio, once nobody writes it any more.

    ``cut``: its end is missing, or the process that recorded died. ``gaps_ms`` [ms] of it are silence that stands for
    what was lost, to a disk that was full or slow; ``problem`` says to what.
    """

    status: Literal["recording", "completed", "cut", "failed", "deleted", "expired"]
    format: Literal["wav", "flac", "ogg"] | None = None
    seconds: Seconds | None = None
    bytes: int | None = None
    gaps_ms: int | None = None
    problem: str | None = None


class RecordingDeleted(Resource):
    """The recording is gone; the call's record stays."""

    id: str
    deleted: Literal[True] = True


class CallResource(Resource):
    """A call. ``ring_s`` runs from the offer to the answer, ``duration_s`` from there to the end [s]."""

    id: str
    sid: str
    status: CallStatus
    direction: str
    trunk: str
    from_number: str
    to_number: str
    number_id: str | None
    agent_id: str | None
    started_at: Timestamp
    answered_at: Timestamp | None
    ended_at: Timestamp | None
    ring_s: Seconds | None
    duration_s: Seconds | None
    sip_status: int | None
    ended_by: str | None
    end_reason: str | None
    sip_call_id: str | None
    recording: RecordingResource | None = Field(description="Null for a call that was not to be recorded.")
    carrier_ids: dict[str, str] = Field(description="What the carrier calls the call, by its own names.")


class TimelineEntry(Resource):
    """What happened ``at_s`` seconds after the offer."""

    at_s: Seconds
    event: str


class Forwarding(Resource):
    """A number that forwarded the call, and why, as it said."""

    number: str
    reason: str


class CallIdentity(Resource):
    """What the INVITE and the carrier said of who calls; a hidden caller's name and number are not kept."""

    name: str = ""
    asserted: list[str] = Field(default=[], description="P-Asserted-Identity, from a trunk that is believed.")
    verstat: str = Field(default="", description="How far the number is verified: `TN-Validation-Passed-A` and so on.")
    privacy: list[str] = Field(default=[], description="The tokens of Privacy.")
    hidden: bool = Field(default=False, description="The caller wishes that nobody be told who it is.")
    diversion: list[Forwarding] = Field(default=[], description="Diversion, the latest first.")
    history: list[Forwarding] = Field(default=[], description="History-Info, in its order.")


class CallReason(Resource):
    """A Reason that the call ended with (RFC 3326)."""

    protocol: str
    cause: int | None
    text: str


class CallDetail(CallResource):
    """A call with its timeline and its media statistics (empty while it is live)."""

    timeline: list[TimelineEntry]
    statistics: Statistics
    identity: CallIdentity
    reasons: list[CallReason] = Field(description="Of the phone's side, at the end: SIP's, the telephone network's.")


def _call_fields(row: rows.Call) -> dict[str, Any]:
    moments = {name: moment_if_any(getattr(row, name)) for name in ("started_at", "answered_at", "ended_at")}
    made = {"sid", "recording", *moments}
    kept = {name: getattr(row, name) for name in CallResource.model_fields if name not in made}
    return {**kept, **moments, "sid": call_sid(row.id), "recording": _recording(row.recording)}


def _recording(row: Mapping[str, Any]) -> RecordingResource | None:
    return RecordingResource(**{**row, "problem": row.get("problem") or None}) if "status" in row else None


def call_resource(row: rows.Call) -> CallResource:
    """As lists show it."""
    return CallResource(**_call_fields(row))


def call_detail(row: rows.Call) -> CallDetail:
    """With all there is."""
    timeline = [TimelineEntry(at_s=at_s, event=event) for at_s, event in row.timeline]
    return CallDetail(
        **_call_fields(row),
        timeline=timeline,
        statistics=dict(row.statistics),
        identity=CallIdentity.model_validate(dict(row.identity)),
        reasons=[CallReason.model_validate(dict(each)) for each in row.reasons],
    )
