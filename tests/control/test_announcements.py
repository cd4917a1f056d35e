"""What webhooks bring about where calls are carried."""

from __future__ import annotations

import os

import pytest

from control.announcements import Announcements, Fate
from control.passes import LIFETIME_S, Announced, CallPasses
from edge.auth import Challenger
from edge.counters import Counters
from edge.trunks import TrunkTable


class Desk:
    def __init__(self, capacity: int = 10) -> None:
        trunks = TrunkTable((), realm="x", challenger=Challenger(bytes(32)), counters=Counters())
        self.passes = CallPasses(trunks, "twilio", entropy=os.urandom, capacity=capacity)
        self.now = 100.0
        self.draining = False
        self.progress: list[tuple[str, str]] = []
        self.announcements = Announcements(
            self.passes,
            now=lambda: self.now,
            draining=lambda: self.draining,
            referred={("CA1",): "<Response/>"}.get,
            progressed=lambda call, status: self.progress.append((call, status)),
        )

    async def announce(self, sid: str) -> Fate:
        fate = await self.announcements.announce(Announced(sid, "AC1", "a", "n", "+14155550100", "+12025550199"))
        assert (fate.made is not None) == (fate.fate in {Fate.EXPECTED, Fate.EXPECTED_ALREADY})
        return fate.fate


async def test_a_call_is_expected_once_however_often_it_is_announced() -> None:
    desk = Desk()
    assert [await desk.announce(sid) for sid in ("CA1", "CA1", "CA2")] == [
        Fate.EXPECTED,
        Fate.EXPECTED_ALREADY,
        Fate.EXPECTED,
    ]
    desk.now += LIFETIME_S
    assert await desk.announce("CA1") is Fate.TOO_LATE


async def test_a_new_call_is_new_when_an_old_ones_time_has_just_run_out() -> None:
    desk = Desk()
    await desk.announce("CA1")
    desk.now += LIFETIME_S
    assert await desk.announce("CA2") is Fate.EXPECTED


@pytest.mark.parametrize(("draining", "fate"), [(True, Fate.DRAINING), (False, Fate.FULL)])
async def test_no_more_are_expected_when_the_edge_drains_or_remembers_no_more(draining: bool, fate: Fate) -> None:
    desk = Desk(capacity=1)
    await desk.announce("CA1")
    desk.draining = draining
    assert await desk.announce("CA2") is fate
    assert len(desk.passes) == 1


async def test_references_and_progress_are_passed_on() -> None:
    desk = Desk()
    assert await desk.announcements.referred(("CA1",)) == "<Response/>"
    assert await desk.announcements.referred(("CA2",)) is None
    await desk.announcements.progressed("c", "busy")
    assert desk.progress == [("c", "busy")]
