"""The agent that is not there."""

from __future__ import annotations

from media.agents.absent import Absent
from media.agents.base import AgentCounts
from tests.media.test_bridge import SILENCE


async def test_an_absent_agent_does_nothing_and_keeps_the_counts_of_the_one_that_left() -> None:
    absent = Absent(AgentCounts(sent=7))
    absent.on_start()
    absent.on_audio(SILENCE, 0)
    absent.on_digit("1", 100)
    absent.on_mark("m")
    absent.on_event("transfer", {})
    await absent.close()
    assert absent.counts == AgentCounts(sent=7)
    assert absent.encoding is None
