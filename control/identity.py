"""Who calls, as a call's record keeps it and as its agent is told (RFC 3323: a hidden caller is told to nobody)."""

from __future__ import annotations

from typing import Any

from edge.identity import ANONYMOUS, Identity

__all__ = ["ANONYMOUS", "recorded", "told"]


def recorded(who: Identity | None, verstat: str | None) -> dict[str, Any]:
    """The record's ``identity``; what hides a caller hides it there too. ``verstat`` is the carrier's other word."""
    if who is None:
        return {"verstat": verstat} if verstat else {}
    caller = who.caller
    kept: dict[str, Any] = {
        "name": "" if who.hidden else caller.name,
        "asserted": [] if who.hidden else [each.user for each in who.asserted if each.user],
        "verstat": verstat or who.verstat,
        "privacy": list(who.privacy),
        "hidden": who.hidden,
        "diversion": [{"number": each.user, "reason": each.reason} for each in who.diversion],
        "history": [{"number": each.user, "reason": each.reason} for each in who.history],
    }
    return {name: value for name, value in kept.items() if value}


def told(who: Identity | None, verstat: str | None) -> dict[str, str]:
    """What the agent is told beside the caller's number; only what is known."""
    values = {"verstat": verstat or (who.verstat if who else "")}
    if who is not None:
        diverted = next(iter(who.diversion), None)
        values |= {
            "caller_name": "" if who.hidden else who.caller.name,
            "privacy": ";".join(who.privacy) or ("full" if who.hidden else ""),
            "diverted_from": diverted.user if diverted else "",
            "diversion_reason": diverted.reason if diverted else "",
        }
    return {name: value for name, value in values.items() if value}
