"""What an agent is told of its call, and what its record would have the phone told."""

from __future__ import annotations

from uuid import UUID

from control.call import Call
from control.identity import told
from control.surroundings import Headers
from edge.counters import printable
from edge.headers import OWN_HEADERS
from media.messages import CallContext

__all__ = ["context", "crossing", "headers_of", "sid"]


def context(call: Call) -> CallContext:
    """What the agent's protocol passes on."""
    return CallContext(
        call_sid=(call.found and call.found.call_sid) or sid("CA", call.id),
        account_sid=(call.found and call.found.account_sid) or sid("AC", call.account_id),
        direction=call.direction,
        from_number=call.from_number,
        to_number=call.to_number,
        trunk=call.trunk,
        call_id=call.id,
        caller_name="" if call.hidden else printable(call.caller_name),
        sip_call_id=printable(call.sip_call_id),
        headers=crossing(call.headers),
        identity=told(call.who, call.verstat),
    )


def sid(prefix: str, id: str) -> str:
    """A Twilio-shaped id: prefix and 32 hex digits. Account ids of ours are UUIDs."""
    try:
        return prefix + UUID(id).hex
    except ValueError:
        return prefix + id


def crossing(headers: Headers) -> dict[str, str]:
    """Those of the phone's that are the agent's to know: not the edge's own, not what is told otherwise."""
    return {
        name: value for name, value in headers if not name.lower().startswith(OWN_HEADERS) and name.lower() != "reason"
    }


def headers_of(call: Call) -> Headers:
    """What the agent's record would have the phone told."""
    return () if call.spec is None else tuple(call.spec.sip_headers.items())
