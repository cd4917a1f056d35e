"""What is around the carriers' SDKs."""

from __future__ import annotations

import asyncio
import threading

from control.providers.sdk import OnFirstUse


async def test_what_is_made_on_first_use_is_made_once_and_off_the_loop() -> None:
    made_in: list[int] = []

    def make() -> str:
        made_in.append(threading.get_ident())
        return "made"

    thing = OnFirstUse(make)
    assert [await thing.get(), await thing.get()] == ["made", "made"]
    assert len(made_in) == 1
    assert made_in[0] != threading.get_ident()


async def test_who_stops_waiting_for_the_imports_leaves_them_to_the_next() -> None:
    begin, ended = threading.Event(), threading.Event()

    def make() -> str:
        begin.wait(5)
        ended.set()
        return "made"

    thing = OnFirstUse(make)
    first = asyncio.create_task(thing.get())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait((first,))
    begin.set()
    assert await thing.get() == "made"
    assert ended.is_set()
