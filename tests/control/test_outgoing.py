"""Who places calls and hands callers on."""

from __future__ import annotations

import pytest

from control.errors import CallNotFound, OutboundUnavailable
from control.outgoing import NothingPlaced
from control.resources.call_control import PlaceCall, TransferCall

AGENT = "0198c0de-0000-4000-8000-000000000011"


async def test_a_process_that_serves_no_calls_places_and_transfers_none() -> None:
    """The command line's."""
    nothing = NothingPlaced()
    with pytest.raises(OutboundUnavailable):
        await nothing.place("account", PlaceCall.of(agent_id=AGENT, phone_number="+14155550123"))
    with pytest.raises(CallNotFound):
        await nothing.transfer("account", "call", TransferCall(target="+14155550123"))
