"""How journal events become a call's record: pure functions, the same for every store."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from control.registry.types import Call, CallEvent

__all__ = ["CRASHED", "check", "crash", "crash_entry", "fold", "timeline_entry"]

CRASHED = "crash"
"""``end_reason`` of a call whose process died."""


class _Offer(msgspec.Struct, frozen=True):
    account_id: str
    direction: str
    trunk: str
    from_number: str
    to_number: str
    number_id: str | None = None
    agent_id: str | None = None
    sip_call_id: str | None = None
    identity: dict[str, object] = {}


class _End(msgspec.Struct, frozen=True):
    ended_by: str
    end_reason: str
    sip_status: int | None = None
    statistics: dict[str, object] = {}
    reasons: tuple[dict[str, object], ...] = ()


class _Ids(msgspec.Struct, frozen=True):
    ids: dict[str, str]


class _Recording(msgspec.Struct, frozen=True):
    status: str | msgspec.UnsetType = msgspec.UNSET
    format: str | msgspec.UnsetType = msgspec.UNSET
    seconds: float | msgspec.UnsetType = msgspec.UNSET
    gaps_ms: int | msgspec.UnsetType = msgspec.UNSET
    bytes: int | msgspec.UnsetType = msgspec.UNSET
    problem: str | msgspec.UnsetType = msgspec.UNSET


_DATA: dict[str, type[msgspec.Struct]] = {
    "offered": _Offer,
    "ended": _End,
    "carrier_ids": _Ids,
    "recording": _Recording,
}


def check(event: CallEvent) -> None:
    """ValueError, naming the field, when no record can be made of ``event``. For what was read from a file."""
    try:
        if event.kind in _DATA:
            msgspec.convert(event.data, _DATA[event.kind])
    except msgspec.ValidationError as error:
        raise ValueError(f"{event.kind}: {error}") from error
    if not event.call_id and event.kind not in ("opened", "alive"):
        raise ValueError(f"{event.kind}: no call_id")


def fold(call: Call | None, event: CallEvent) -> Call | None:
    """The record after ``event``; without its ``offered`` there is none.

    A second ``offered`` or ``ended`` changes nothing; what is told of a recording counts after the end, too. The
    timeline is the store's to keep. ``event`` has passed :func:`check`.
    """
    if event.kind == "offered":
        return call or _offered(event)
    if call is not None and event.kind == "recording":
        known = msgspec.to_builtins(msgspec.convert(event.data, _Recording))
        return replace(call, recording={**call.recording, **known})
    if call is None or call.ended_at is not None:
        return call
    if event.kind == "carrier_ids":
        ids = msgspec.convert(event.data, _Ids).ids
        return (
            call if ids.items() <= call.carrier_ids.items() else replace(call, carrier_ids={**call.carrier_ids, **ids})
        )
    if event.kind == "answered" and call.answered_at is None:
        return replace(call, status="in_progress", answered_at=event.at, ring_s=event.offset_s)
    if event.kind == "ended":
        return _ended(call, event)
    return call


def crash(call: Call, last_alive_at: float) -> Call:
    """The record of a call cut by its process's death: it ended when the process was last heard of.

    The one duration that is made of wall clocks: the dead process's monotonic one means nothing any more.
    """
    ended_at = max(last_alive_at, call.answered_at or call.started_at)
    duration_s = None if call.answered_at is None else ended_at - call.answered_at
    return replace(call, status="failed", ended_at=ended_at, duration_s=duration_s, ended_by="edge", end_reason=CRASHED)


def timeline_entry(event: CallEvent) -> tuple[float, str]:
    """A line of the timeline: seconds since the offer, and what happened."""
    note = event.data.get("note") or event.data.get("end_reason")
    return event.offset_s, f"{event.kind}: {note}" if note else event.kind


def crash_entry(call: Call) -> tuple[float, str]:
    """The last line of a cut call's timeline."""
    return max(0.0, (call.ended_at or call.started_at) - call.started_at), f"ended: {CRASHED}"


def _offered(event: CallEvent) -> Call:
    offer = msgspec.convert(event.data, _Offer)
    return Call(id=event.call_id, status="ringing", started_at=event.at, **msgspec.structs.asdict(offer))


def _ended(call: Call, event: CallEvent) -> Call:
    end = msgspec.convert(event.data, _End)
    return replace(
        call,
        status="completed" if call.ring_s is not None else "failed",
        ended_at=event.at,
        duration_s=None if call.ring_s is None else max(0.0, event.offset_s - call.ring_s),
        **msgspec.structs.asdict(end),
    )
