"""Media in processes of its own: which worker gets a call, and what a worker's death costs."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from control.costs import Cost
from control.keeper import Keeper, Link
from control.supervisor import Supervisor
from control.workers import MediaWorkers, WorkersFailed, launcher, worker_count
from edge.counters import Counters
from media.client import MediaGone
from media.messages import (
    CallClosed,
    CallOpened,
    CloseCall,
    Command,
    Done,
    Envelope,
    Failed,
    LegStatistics,
    Notice,
    NoticeBody,
    OpenCall,
    Ping,
    Reply,
    Request,
    Result,
    StartMedia,
    Statistics,
    decode,
    encode,
)
from media.pipe import PipeFull
from media.settings import ServiceSettings
from tests.media.rooms import offer, open_call
from tests.support.audio import tone
from tests.support.children import FakeChild
from tests.support.ports import free_ports
from tests.support.rtp import MediaPort

OPENED = CallOpened(sdp=b"sdp", codec="PCMU")


class FakeWorker(FakeChild):
    """A worker by hand: ``answers`` says what it replies, by command; None: nothing yet."""

    def __init__(self, epoch: int, deliver: Callable[[bytes], None], answers: dict[type, Result | None]) -> None:
        super().__init__(1000 + epoch)
        self.epoch = epoch
        self.commands: list[Command] = []
        self.answers = answers
        self.full = False
        self.told = False
        self._deliver = deliver
        self._waiting: list[Request] = []

    def send(self, data: bytes) -> None:
        if self.full:
            raise PipeFull(1, 1)
        request = decode(data)
        assert isinstance(request, Request)
        self.commands.append(request.body)
        reply = self.answers.get(type(request.body), Done())
        if reply is not None:
            asyncio.get_running_loop().call_soon(self.reply, request, reply)
        else:
            self._waiting.append(request)

    def reply(self, request: Request, result: Result) -> None:
        self.tell(Reply(request_id=request.request_id, body=result, epoch=self.epoch))

    def tell(self, envelope: Envelope) -> None:
        self._deliver(encode(envelope))

    def notify(self, body: NoticeBody) -> None:
        self.tell(Notice(body=body, epoch=self.epoch))

    def hang_up(self) -> None:
        self.told = True
        self.die(0)

    def calls(self, kind: type[OpenCall] | type[CloseCall] = OpenCall) -> list[str]:
        return [command.call for command in self.commands if isinstance(command, kind)]


class House:
    """Workers, and all that is heard of them."""

    def __init__(self) -> None:
        self.launched: list[FakeWorker] = []
        self.answers: dict[type, Result | None] = {OpenCall: OPENED, CloseCall: CallClosed(statistics=None)}
        self.lost: list[tuple[str, ...]] = []
        self.notices: list[NoticeBody] = []
        self.pauses: list[float] = []
        self.counters = Counters()
        self.stillborn = False
        self.media: MediaWorkers

    async def launch(self, epoch: int, deliver: Callable[[bytes], None]) -> Link:
        worker = FakeWorker(epoch, deliver, dict(self.answers))
        self.launched.append(worker)
        if self.stillborn:
            worker.die(1)
        return worker

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0)

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await asyncio.sleep(0)

    async def open(self, *calls: str) -> None:
        for call in calls:
            assert await self.media.request(open_call(call, 20000, b"offer")) == OPENED

    def died(self) -> int:
        return sum(self.counters.snapshot().get("media_workers_died", {}).values())


@asynccontextmanager
async def house(count: int = 2, *, start: bool = True, **changes: Any) -> AsyncIterator[House]:
    it = House()
    async with Supervisor() as tasks:
        it.media = MediaWorkers(
            count,
            it.launch,
            on_notice=it.notices.append,
            on_lost=lambda calls: it.lost.append(tuple(calls)),
            spawn=tasks.spawn,
            counters=it.counters,
            pause=it.pause,
            **changes,
        )
        if start:
            await it.media.start()
            it.media.keep_spare()
            await it.until(lambda: it.media.ready == count + 1)
        yield it
        await it.media.close()
        assert tasks.names == []
        assert tasks.failures == 0


# --- which worker -----------------------------------------------------------------------------


async def test_calls_go_to_the_worker_with_the_fewest_and_none_to_the_spare() -> None:
    async with house() as it:
        first, second, spare = it.launched
        await it.open("a", "b", "c", "d")
        assert (first.calls(), second.calls()) == (["a", "c"], ["b", "d"])
        await it.media.request(CloseCall(call="b", reason="over"))
        await it.media.request(CloseCall(call="d", reason="over"))
        await it.open("e", "f")
        assert second.calls() == ["b", "d", "e", "f"]
        assert spare.commands == [Ping()]


async def test_a_call_still_opening_counts() -> None:
    async with house() as it:
        first, second, _ = it.launched
        first.answers[OpenCall] = None
        opening = asyncio.ensure_future(it.media.request(open_call("a", 20000, b"offer")))
        await it.until(lambda: first.calls() == ["a"])
        await it.open("b")
        assert second.calls() == ["b"]
        first.reply(first._waiting[0], OPENED)
        assert await opening == OPENED


async def test_a_command_goes_to_its_calls_worker() -> None:
    async with house() as it:
        await it.open("a", "b")
        assert await it.media.request(StartMedia(call="b")) == Done()
        assert it.launched[1].commands[-1] == StartMedia(call="b")


async def test_commands_for_calls_that_are_not_there_are_answered_without_a_worker() -> None:
    async with house() as it:
        await it.open("a")
        assert await it.media.request(StartMedia(call="x")) == Failed(code="unknown_call", message="x")
        assert await it.media.request(CloseCall(call="x", reason="over")) == CallClosed(statistics=None)
        assert await it.media.request(open_call("a", 20000, b"offer")) == Failed(code="call_exists", message="a")


async def test_a_call_that_could_not_be_opened_is_forgotten_and_may_come_again() -> None:
    """Another program held its port: the next attempt brings another."""
    async with house() as it:
        taken = Failed(code="port_unavailable", message="in use")
        it.launched[0].answers[OpenCall] = taken
        assert await it.media.request(open_call("a", 20000, b"offer")) == taken
        it.launched[0].answers[OpenCall] = OPENED
        await it.open("a")


async def test_a_ping_is_answered_by_any() -> None:
    async with house() as it:
        assert await it.media.request(Ping()) == Done()


# --- death ------------------------------------------------------------------------------------


async def test_a_worker_that_dies_ends_its_calls_alone_and_the_spare_takes_its_place() -> None:
    async with house() as it:
        first, second, spare = it.launched
        await it.open("a", "b", "c")
        first.die(-9)
        await it.until(lambda: bool(it.lost))
        assert it.lost == [("a", "c")]
        assert await it.media.request(StartMedia(call="b")) == Done()
        assert await it.media.request(StartMedia(call="a")) == Failed(code="unknown_call", message="a")
        await it.open("d", "e")
        assert (spare.calls(), second.calls()) == (["d"], ["b", "e"])
        await it.until(lambda: it.media.ready == 3)
        assert it.media.pids == (second.pid, spare.pid)
        assert it.died() == 1


async def test_the_spare_is_in_its_place_when_the_loss_is_told() -> None:
    async with house(count=1) as it:
        await it.open("a")
        heard: list[Sequence[int]] = []
        it.media._on_lost = lambda calls: heard.append(it.media.pids)
        it.launched[0].die(-11)
        await it.until(lambda: bool(heard))
        assert heard == [(it.launched[1].pid,)]


async def test_a_call_being_opened_when_its_worker_dies_is_opened_by_another() -> None:
    async with house() as it:
        first, second, spare = it.launched
        first.answers[OpenCall] = None
        opening = asyncio.ensure_future(it.media.request(open_call("a", 20000, b"offer")))
        await it.until(lambda: first.calls() == ["a"])
        first.die(-9)
        assert await opening == OPENED
        assert second.calls() + spare.calls() == ["a"]
        assert it.lost == [()]


async def test_a_call_closed_while_it_was_opened_in_a_dying_worker_is_not_opened_again() -> None:
    async with house() as it:
        first, second, spare = it.launched
        first.answers |= {OpenCall: None, CloseCall: None}
        opening = asyncio.ensure_future(it.media.request(open_call("a", 20000, b"offer")))
        await it.until(lambda: first.calls() == ["a"])
        closing = asyncio.ensure_future(it.media.request(CloseCall(call="a", reason="gave up")))
        await it.until(lambda: first.calls(CloseCall) == ["a"])
        first.die(-9)
        with pytest.raises(MediaGone):
            await closing
        assert await opening == Failed(code="unknown_call", message="closed while it was opened")
        assert second.calls() + spare.calls() == []


async def test_with_no_worker_up_media_is_gone() -> None:
    async with house() as it:
        it.stillborn = True
        for worker in tuple(it.launched):
            worker.die(-9)
        await it.until(lambda: it.media.ready == 0)
        with pytest.raises(MediaGone):
            await it.media.request(open_call("a", 20000, b"offer"))
        with pytest.raises(MediaGone):
            await it.media.request(Ping())
        it.stillborn = False


async def test_workers_that_die_young_are_started_ever_more_slowly_and_old_ones_at_once() -> None:
    async with house(count=1, start=False) as it:
        it.stillborn = True
        await it.media.launch()
        await it.until(lambda: len(it.pauses) >= 8)
        assert it.pauses[:8] == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


async def test_one_that_dies_before_it_was_any_use_is_no_error_yet(caplog: pytest.LogCaptureFixture) -> None:
    """A terminal's signal finds it before it can ignore it; nothing is lost, and the next one comes."""
    async with house(count=1, start=False) as it:
        it.answers[Ping] = None
        await it.media.launch()
        await it.until(lambda: bool(it.launched))
        it.launched[0].die(-15)
        it.answers[Ping] = Done()
        await it.media.start()
        assert [(record.levelname, record.message) for record in caplog.records if record.levelno > logging.INFO] == [
            ("WARNING", "media worker did not come up")
        ]


async def test_a_worker_that_lived_is_replaced_without_delay() -> None:
    async with house(count=1) as it:
        it.media._keeper._beat_s = 0.0
        for round_ in range(3):
            worker = it.launched[-1]
            await it.until(lambda: it.media.ready == 2)
            for _ in range(Keeper.QUIET_BEATS + 5):
                worker.notify(Statistics(calls={}))
                await asyncio.sleep(0)
            worker.die(round_)
            await it.until(lambda: len(it.launched) > len(it.pauses) + 1)
        assert set(it.pauses) == {0.0}


async def test_a_worker_that_falls_silent_is_killed() -> None:
    """It hangs: its ticker tells statistics every second."""
    async with house(count=1, beat_s=0.0) as it:
        await it.until(lambda: it.launched[0].killed)
        await it.until(lambda: it.died() >= 1)


async def test_a_worker_that_does_not_answer_at_its_start_is_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Keeper, "START_S", -1.0)
    async with house(count=1, start=False) as it:
        it.answers[Ping] = None
        with pytest.raises(WorkersFailed, match="0 of 1"):
            await it.media.start()
        await it.until(lambda: it.launched[0].killed)


async def test_a_system_that_starts_no_process_is_an_error_with_words(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Keeper, "START_S", 0.0)
    async with house(count=1, start=False) as it:

        async def launch(epoch: int, deliver: Callable[[bytes], None]) -> Link:
            raise OSError("no memory")

        it.media._launch = launch
        with pytest.raises(WorkersFailed):
            await it.media.start()
    assert "media worker could not be started" in caplog.messages


# --- a worker that does not keep up -----------------------------------------------------------


async def test_a_full_pipe_is_a_counted_refusal() -> None:
    async with house(count=1) as it:
        it.launched[0].full = True
        refused = await it.media.request(open_call("a", 20000, b"offer"))
        assert isinstance(refused, Failed)
        assert refused.code == "overload"
        assert it.counters.snapshot()["media_requests_refused"] == {(("command", "OpenCall"),): 1}
        it.launched[0].full = False
        await it.open("a")


async def test_a_worker_that_cannot_be_told_to_close_a_call_is_ended() -> None:
    """It would keep the call and its port for ever."""
    async with house(count=1) as it:
        await it.open("a", "b")
        it.launched[0].full = True
        refused = await it.media.request(CloseCall(call="a", reason="over"))
        assert isinstance(refused, Failed)
        await it.until(lambda: it.lost == [("b",)])
        assert it.launched[0].killed


# --- what they tell ---------------------------------------------------------------------------


async def test_statistics_pass_with_the_worst_lateness_of_all_workers() -> None:
    async with house() as it:
        first, second, _ = it.launched
        first.notify(Statistics(calls={"a": LegStatistics()}, tick_late_p99_ms=3.0, gc_pause_max_ms=0.5))
        second.notify(Statistics(calls={}, tick_late_p99_ms=1.0, gc_pause_max_ms=0.7))
        assert it.notices == [
            Statistics(calls={"a": LegStatistics()}, tick_late_p99_ms=3.0, gc_pause_max_ms=0.5),
            Statistics(calls={}, tick_late_p99_ms=3.0, gc_pause_max_ms=0.7),
        ]


async def test_each_worker_shows_what_it_carries_and_costs_and_one_that_died_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However often workers are replaced, there are no more series than workers."""
    monkeypatch.setattr("control.costs.cost_of", lambda pid: Cost(pid, pid / 2))
    async with house(count=1) as it:
        await it.open("a")
        first, second, third = ((("worker", str(epoch)),) for epoch in (1, 2, 3))
        assert it.media.readings() == {
            "media_workers": {(): 2},
            "media_worker_calls": {first: 1, second: 0},
            "media_worker_memory_bytes": {first: 1001, second: 1002},
            "media_worker_cpu_seconds": {first: 500.5, second: 501.0},
        }
        it.launched[0].die(-9)
        await it.until(lambda: it.media.pids == (1002,) and it.media.ready == 2)
        assert it.media.readings()["media_worker_calls"] == {second: 0, third: 0}


async def test_closing_tells_every_worker_and_loses_no_call_aloud() -> None:
    async with house() as it:
        await it.open("a")
        await it.media.close()
        assert all(worker.told for worker in it.launched)
        assert it.lost == []
        assert it.died() == 0
        with pytest.raises(MediaGone):
            await it.media.request(open_call("b", 20000, b"offer"))


async def test_a_worker_that_does_not_leave_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Keeper, "CLOSE_S", 0.0)
    monkeypatch.setattr(FakeWorker, "hang_up", lambda self: None)
    async with house(count=1) as it:
        await it.media.close()
        assert all(worker.killed for worker in it.launched)


def test_auto_leaves_a_core_to_control(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, workers in ((1, 1), (2, 1), (8, 7)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid, cores=cores: set(range(cores)))
        assert worker_count("auto") == workers
    assert (worker_count(0), worker_count(3)) == (0, 3)


# --- processes --------------------------------------------------------------------------------


@asynccontextmanager
async def processes(count: int, lost: Callable[[Sequence[str]], None] = lambda calls: None) -> AsyncIterator[House]:
    it = House()
    logging.getLogger().setLevel(logging.WARNING)
    async with Supervisor() as tasks:
        it.media = MediaWorkers(
            count,
            launcher(ServiceSettings("127.0.0.1")),
            on_notice=it.notices.append,
            on_lost=lambda calls: it.lost.append(tuple(calls)),
            spawn=tasks.spawn,
            counters=it.counters,
        )
        await it.media.start()
        it.media.keep_spare()
        try:
            yield it
        finally:
            await it.media.close()


async def echoed(it: House, call: str, port: int) -> None:
    async with MediaPort.open() as phone:
        opened = await it.media.request(open_call(call, port, offer(phone.port)))
        assert isinstance(opened, CallOpened), opened
        phone.target = ("127.0.0.1", port)
        assert await it.media.request(StartMedia(call=call)) == Done()
        await asyncio.gather(phone.play(tone(1000, 0.8)), phone.expect_tone(1000, 0.4))


@pytest.mark.realtime
async def test_a_real_worker_carries_a_call_and_leaves_nothing_behind() -> None:
    async with processes(1) as it:
        await echoed(it, "a", free_ports(2))
        closed = await it.media.request(CloseCall(call="a", reason="over"))
        assert isinstance(closed, CallClosed)
        assert closed.statistics is not None
        assert closed.statistics.packets_received == 40


@pytest.mark.realtime
async def test_a_real_worker_killed_is_replaced_and_calls_go_on() -> None:
    port = free_ports(2)
    async with processes(1) as it:
        await echoed(it, "a", port)
        async with asyncio.timeout(10):
            while it.media.ready < 2:
                await asyncio.sleep(0.01)
        before = it.media.pids
        os.kill(before[0], signal.SIGKILL)
        async with asyncio.timeout(10):
            while not it.lost:
                await asyncio.sleep(0.01)
        assert it.lost == [("a",)]
        await echoed(it, "b", port)
        async with asyncio.timeout(10):
            while it.media.ready < 2:
                await asyncio.sleep(0.01)
        assert before[0] not in it.media.pids
