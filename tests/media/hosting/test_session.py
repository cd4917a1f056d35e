"""One agent's call in a host: how it begins, and every way it ends."""

from __future__ import annotations

import asyncio
import logging

import pytest

from media.agents.base import BadAgent
from media.hosting import wire
from media.hosting.loading import AgentBroken, AgentNotListed
from media.hosting.session import CALL, Session, Unreached
from media.hosting.wire import Kind
from media.python_agent import AgentFunction, Call
from tests.media.hosting.lines import FRAME, finding, session

STARTED = wire.encode(Kind.STARTED)


async def test_an_agent_hears_and_speaks_until_the_caller_hangs_up() -> None:
    finished: list[Session] = []
    ended = asyncio.Event()

    async def agent(call: Call) -> None:
        async for frame in call.audio():
            await call.play(frame)
        ended.set()

    async with session(finding(agent), finished.append) as media:
        media.open()
        assert await media.next() == STARTED
        media.pipe.send(wire.audio(0, 0, 0, FRAME))
        assert await media.next() == bytes((Kind.PLAY,)) + FRAME
        media.pipe.close()
        await ended.wait()
        await asyncio.sleep(0.01)
        assert len(finished) == 1


async def test_an_agent_that_returns_has_closed_the_call() -> None:
    async def agent(call: Call) -> None:
        assert CALL.get() == call.id

    async with session(finding(agent)) as media:
        media.open()
        assert await media.next() == STARTED
        assert wire.decode(await media.next(), wire.Ended) == wire.Ended("closed", "")
        await media.lost.wait()


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, ExceptionGroup])
async def test_whatever_an_agent_raises_ends_its_call_with_the_types_name_and_a_traceback_in_the_log(
    error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    async def agent(call: Call) -> None:
        raise ExceptionGroup("several", [ValueError("a secret")]) if error is ExceptionGroup else error("a secret")

    async with session(finding(agent)) as media:
        media.open()
        await media.next()
        ended = wire.decode(await media.next(), wire.Ended)
        assert ended == wire.Ended("lost", f"the agent raised {error.__name__}")
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None


async def test_a_function_that_is_no_agent_is_an_error_like_any_other() -> None:
    async with session(finding(lambda call: None)) as media:  # type: ignore[arg-type, return-value]
        media.open()
        await media.next()
        assert wire.decode(await media.next(), wire.Ended).message == "the agent raised TypeError"


@pytest.mark.parametrize(
    ("error", "cause"), [(AgentNotListed, "refused"), (BadAgent, "refused"), (AgentBroken, "error")]
)
async def test_an_agent_that_is_not_found_is_never_started(error: type[Exception], cause: str) -> None:
    def find(spec: object) -> tuple[AgentFunction, bool]:
        raise error("why")

    async with session(find) as media:
        media.open()
        frame = await media.next()
        assert (frame[0], wire.decode(frame, wire.Failed)) == (Kind.FAILED, wire.Failed(cause, "why"))
        await media.lost.wait()


async def test_an_agent_elsewhere_that_is_not_reached_fails_with_its_cause() -> None:
    async def agent(call: Call) -> None:
        raise Unreached("timeout", "nobody there")

    async with session(lambda spec: (agent, False)) as media:
        media.open()
        assert wire.decode(await media.next(), wire.Failed) == wire.Failed("timeout", "nobody there")


async def test_an_agent_that_goes_on_after_its_call_is_cancelled_after_its_grace() -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def agent(call: Call) -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    async with session(finding(agent), grace_s=0.01) as media:
        media.open()
        await begun.wait()
        media.pipe.close()
        await cancelled.wait()


async def test_one_that_will_not_be_cancelled_is_named_in_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "GRACE_S", 0.01)
    begun, let_go = asyncio.Event(), asyncio.Event()

    async def agent(call: Call) -> None:
        begun.set()
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    async with session(finding(agent), grace_s=0.01) as media:
        media.open()
        await begun.wait()
        media.pipe.close()
        while "an agent goes on after its call" not in caplog.messages:
            await asyncio.sleep(0.005)
        let_go.set()


async def test_a_connection_that_ends_before_it_began_leaves_nothing() -> None:
    finished: list[Session] = []
    async with session(finding(lambda call: asyncio.sleep(0)), finished.append) as media:
        media.pipe.close()
        await media.lost.wait()
        await asyncio.sleep(0.01)
        assert len(finished) == 1


@pytest.mark.parametrize("frame", [b"", bytes((Kind.AUDIO,)), bytes((Kind.OPEN,)) + b"junk"])
async def test_what_cannot_be_read_ends_the_connection(frame: bytes) -> None:
    async with session(finding(lambda call: asyncio.sleep(0))) as media:
        media.pipe.send(frame)
        await media.lost.wait()


async def test_another_version_of_the_wire_is_not_guessed_at() -> None:
    async with session(finding(lambda call: asyncio.sleep(0))) as media:
        media.open(version=wire.VERSION + 1)
        await media.lost.wait()


async def test_junk_in_mid_call_ends_the_call() -> None:
    over = asyncio.Event()

    async def agent(call: Call) -> None:
        await call.ended()
        over.set()

    async with session(finding(agent)) as media:
        media.open()
        await media.next()
        media.pipe.send(b"\xff")
        await over.wait()
