"""The JSON an agent elsewhere and a call exchange."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from media.hosting import wire
from media.hosting.remote import Remote, facts
from media.hosting.wire import Kind
from tests.media.hosting.lines import FakeCall


class Far:
    """The agent elsewhere."""

    def __init__(self) -> None:
        self.call = FakeCall()
        self.heard: list[dict[str, Any]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.remote = Remote(self.call, self.heard.append, self._spawn)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.ensure_future(work))

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    async def end(self) -> None:
        self.call.finish()
        await asyncio.gather(*self._tasks)


@asynccontextmanager
async def far() -> AsyncIterator[Far]:
    it = Far()
    yield it
    await it.end()


async def test_it_is_told_of_digits_and_events_until_the_end() -> None:
    it = Far()
    it.call.press("7")
    it.call.tell("recording", on=True)
    it.call.finish()
    await it.remote.tell_digits()
    await it.remote.tell_events()
    assert it.heard == [
        {"type": "dtmf", "digit": "7"},
        {"type": "event", "event": "recording", "data": {"on": True}},
    ]


async def test_simple_wishes_are_done_at_once_also_as_rtvi_server_messages() -> None:
    async with far() as it:
        for message in (
            {"type": "answer"},
            {"type": "clear"},
            {"label": "rtvi-ai", "type": "server-message", "id": "1", "data": {"type": "send-digits", "digits": "1#"}},
            {"type": "hang-up", "more": "is ignored"},
            {"type": "hang-up", "headers": {"X-Result": "sold"}},
        ):
            assert it.remote.hear(message)
        assert it.call.line.sent == [
            bytes((Kind.ANSWER,)),
            bytes((Kind.CLEAR,)),
            bytes((Kind.DIGITS,)) + b"1#",
            wire.encode(Kind.HANG_UP, wire.Parting({})),
            wire.encode(Kind.HANG_UP, wire.Parting({"X-Result": "sold"})),
        ]


async def test_a_mark_comes_back_when_it_was_heard_or_cleared() -> None:
    async with far() as it:
        assert it.remote.hear({"type": "mark", "name": "a"})
        assert it.remote.hear({"type": "mark", "name": "b"})
        await it.settle()
        it.call.reach(1)
        it.call.reach(2, heard=False)
        await it.settle()
        assert it.heard == [
            {"type": "mark", "name": "a", "heard": True},
            {"type": "mark", "name": "b", "heard": False},
        ]
        assert it.remote.hear({"type": "mark", "name": "cut by the end"})


async def test_how_a_wish_went_is_told() -> None:
    async with far() as it:
        assert it.remote.hear({"type": "transfer", "target": "+14155550123"})
        assert it.remote.hear({"type": "hold"})
        assert it.remote.hear({"type": "resume"})
        await it.settle()
        asked = [wire.decode(frame, wire.Ask) for frame in it.call.line.sent]
        assert [ask.verb for ask in asked] == ["transfer", "hold", "resume"]
        it.call.tell("refused", verb="transfer", message="not allowed")
        it.call.tell("hold", by="agent")
        await it.settle()
        assert it.heard == [
            {"type": "refused", "verb": "transfer", "message": "not allowed"},
            {"type": "done", "verb": "hold", "event": "hold"},
        ]


@pytest.mark.parametrize(
    "message",
    [
        None,
        5,
        [],
        {},
        {"type": 5},
        {"type": "mark"},
        {"type": "mark", "name": "x" * 2000},
        {"type": "transfer", "target": None},
        {"type": "send-digits", "digits": "one"},
        {"type": "hang-up", "headers": "X-Result"},
        {"type": "hang-up", "headers": {"X-Result": 5}},
        {"label": "rtvi-ai", "type": "bot-ready", "id": "1", "data": {}},
        {"label": "rtvi-ai", "type": "server-message", "data": "clear"},
    ],
)
async def test_what_is_none_of_it_is_ignored_and_counted(message: object) -> None:
    async with far() as it:
        assert not it.remote.hear(message)
        assert it.remote.ignored == 1
        assert it.call.line.sent == []


async def test_only_so_much_is_under_way() -> None:
    async with far() as it:
        marks = [it.remote.hear({"type": "mark", "name": "m"}) for _ in range(Remote.BUSY + 5)]
        assert marks.count(True) == Remote.BUSY


def test_the_facts_are_plain() -> None:
    call = FakeCall()
    assert facts(call) == {
        "id": call.id,
        "record_id": "",
        "account": call.account,
        "from_number": "+14155550100",
        "to_number": "+14155550199",
        "direction": "inbound",
        "trunk": "lab",
        "caller_name": "",
        "sip_call_id": "",
        "identity": {"verstat": "TN-Validation-Passed-A"},
        "headers": {"X-Campaign": "spring"},
        "parameters": {"mood": "calm"},
    }
