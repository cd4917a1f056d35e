"""A media worker on its pipe: it answers, carries calls, and leaves when the pipe ends."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager

import pytest

from media import worker
from media.client import MediaClient
from media.messages import CallOpened, Done, NoticeBody, Ping, StartMedia, Statistics
from media.pipe import Pipe, pair
from media.settings import ServiceSettings
from media.worker import Worker
from tests.media.rooms import offer, open_call
from tests.support.audio import tone
from tests.support.ports import free_ports
from tests.support.rtp import MediaPort

pytestmark = pytest.mark.realtime

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SETTINGS = ServiceSettings("127.0.0.1", epoch=3)


@pytest.fixture(autouse=True)
def _thaw() -> Iterator[None]:
    """A worker freezes its process's garbage, which here is the test's."""
    yield
    gc.unfreeze()


class Control:
    """Control's end of a worker that runs in this process."""

    def __init__(self) -> None:
        self.worker = Worker(SETTINGS, entropy=os.urandom)
        self.notices: asyncio.Queue[NoticeBody] = asyncio.Queue()
        self.client = MediaClient(self._send, self.notices.put_nowait, SETTINGS.epoch)
        self.pipe = Pipe(self.client.receive, lambda reason: None)
        self.status: asyncio.Task[int]

    def _send(self, data: bytes) -> None:
        self.pipe.send(data)

    async def connect(self, life: Callable[[int], Coroutine[None, None, int]]) -> None:
        ours, theirs = pair()
        self.status = asyncio.create_task(life(theirs.detach()), name="worker")
        await self.pipe.open(ours)

    async def statistics(self) -> Statistics:
        while True:
            if isinstance(notice := await self.notices.get(), Statistics):
                return notice


@asynccontextmanager
async def working(life: Callable[[int], Coroutine[None, None, int]] | None = None) -> AsyncIterator[Control]:
    """A worker that leaves with 0 when the block ends. ``life``: another than that of ``Control.worker``."""
    control = Control()
    await control.connect(life or control.worker.serve)
    try:
        yield control
    finally:
        control.pipe.close()
        await control.pipe.closed()
        assert await control.status == 0


async def test_a_request_sent_before_the_worker_is_up_is_answered_when_it_is() -> None:
    async with working() as control:
        assert await control.client.request(Ping()) == Done()


async def test_a_call_is_heard_through_the_pipe_and_its_counts_come_once_a_second() -> None:
    port = free_ports(2)
    async with working() as control, MediaPort.open() as phone:
        opened = await control.client.request(open_call("c", port, offer(phone.port)))
        assert isinstance(opened, CallOpened)
        phone.target = ("127.0.0.1", port)
        assert await control.client.request(StartMedia(call="c")) == Done()
        await asyncio.gather(phone.play(tone(1000, 1.0)), phone.expect_tone(1000, 0.5))
        assert set((await control.statistics()).calls) == {"c"}


async def test_when_the_pipe_ends_the_calls_end_and_their_ports_are_free() -> None:
    port = free_ports(2)
    async with MediaPort.open() as phone:
        async with working() as control:
            await control.client.request(open_call("c", port, offer(phone.port)))
            assert control.worker.service.calls == 1
        assert control.worker.service.calls == 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", port))


async def test_what_is_meant_for_an_earlier_life_is_refused() -> None:
    async with working() as control:
        control.client._epoch = 2
        asked = asyncio.ensure_future(control.client.request(Ping()))
        while not control.client.dropped:
            await asyncio.sleep(0)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked


async def test_a_stream_out_of_step_ends_the_worker_as_failed(caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = pair()
    with ours:
        serving = asyncio.create_task(Worker(SETTINGS, entropy=os.urandom).serve(theirs.detach()), name="worker")
        ours.send(b"\xff\xff\xff\xff")
        assert await serving == 1
    assert "the pipe to control broke" in caplog.messages


async def test_control_that_reads_nothing_gets_no_statistics_and_then_no_worker(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A reply that were thrown away would leave control with a call that it takes for lost."""
    subject = Worker(SETTINGS, entropy=os.urandom)
    ours, theirs = pair()
    with ours:
        serving = asyncio.create_task(subject.serve(theirs.detach()), name="worker")
        while subject._pipe._transport is None:
            await asyncio.sleep(0)
        while not subject._congested():
            subject._send(bytes(100_000))
        before = subject._pipe.queued
        subject.service._tell_statistics()
        assert subject._pipe.queued == before
        while not subject._failed:
            subject._send(bytes(100_000))
        assert await serving == 1
    assert "control does not read: the worker ends" in caplog.messages


async def test_a_terminal_or_a_service_manager_does_not_end_it() -> None:
    """They signal every process of a group; control lets calls end first."""
    kept = [signal.getsignal(number) for number in SIGNALS]
    try:
        async with working(lambda descriptor: worker.run(descriptor, SETTINGS, entropy=os.urandom)) as control:
            assert await control.client.request(Ping()) == Done()
            for number in SIGNALS:
                os.kill(os.getpid(), number)
            assert await control.client.request(Ping()) == Done()
    finally:
        for number, handler in zip(SIGNALS, kept, strict=True):
            signal.signal(number, handler)
