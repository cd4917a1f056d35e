"""Calls' recordings."""

from __future__ import annotations

import pytest

from control.errors import ResourceNotFound
from tests.support.desk import Desk, offered

CALL = "0198c0de-0000-4000-8000-000000000011"


async def test_an_edge_that_records_nothing_has_no_recording(desk: Desk) -> None:
    """Of a call that is known, and of one that is not."""
    by = desk.principal("acme")
    for attempt in (desk.operations.recording, desk.operations.delete_recording):
        with pytest.raises(ResourceNotFound):
            await attempt(by, CALL)
    await desk.registry.apply_events([offered(CALL, by.account)])
    for attempt in (desk.operations.recording, desk.operations.delete_recording):
        with pytest.raises(ResourceNotFound):
            await attempt(by, CALL)
