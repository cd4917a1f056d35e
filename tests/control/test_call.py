"""A call's own state."""

from __future__ import annotations

from control.call import Call
from control.call_table import State
from edge.events import Address, CallKey, CallOffered, Flow, Identification, TransportName


def test_a_call_begins_with_what_its_invite_says() -> None:
    flow = Flow(TransportName.UDP, Address("127.0.0.1", 5060), Address("127.0.0.2", 5060))
    offered = CallOffered(
        key=CallKey("k1"),
        trunk="lab",
        identified_by=Identification.ADDRESS,
        identity="127.0.0.2",
        dialed=("15551230001",),
        caller="14155550199",
        caller_name="",
        call_id="k1@caller",
        offer=b"offer",
        flow=flow,
        headers=(("X-Ticket", "7"),),
    )
    call = Call.of(offered, "id-1", 12.5)
    assert (call.id, call.key, call.trunk, call.started) == ("id-1", "k1", "lab", 12.5)
    assert (call.from_number, call.dialed, call.offer) == ("14155550199", ("15551230001",), b"offer")
    assert (call.direction, call.state, call.account_id) == ("inbound", State.LOOKING_UP, "")
    assert call.headers == (("X-Ticket", "7"),)
