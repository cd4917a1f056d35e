"""A real pipecat pipeline on a call in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

pytest.importorskip("pipecat")

from pipecat.audio.dtmf.types import KeypadEntry
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    EndWorkerFrame,
    Frame,
    InputAudioRawFrame,
    InputDTMFFrame,
    InputTransportMessageFrame,
    OutputAudioRawFrame,
    OutputDTMFUrgentFrame,
    OutputTransportMessageUrgentFrame,
    TTSAudioRawFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner

from media.hosting import wire
from media.hosting.wire import Kind
from media.pipecat_transport import CallParams, CallTransport
from tests.media.hosting.lines import FRAME, RATE_HZ, FakeCall

SECOND = b"\x00\x20" * RATE_HZ


class Mind(FrameProcessor):
    """Keeps the frames it sees; ``say`` pushes one downstream."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Frame] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        self.seen.append(frame)
        await self.push_frame(frame, direction)

    def of(self, kind: type[Frame]) -> list[Any]:
        return [frame for frame in self.seen if isinstance(frame, kind)]


class Stage:
    """A pipeline that runs, the call it is on, and what its transport has told."""

    def __init__(self, params: CallParams | None) -> None:
        self.call = FakeCall()
        self.mind = Mind()
        self.told: list[str] = []
        self.transport = CallTransport(self.call, params)
        self.over = asyncio.Event()

        @self.transport.event_handler("on_client_connected")
        async def connected(transport: CallTransport, call: FakeCall) -> None:
            self.told.append(f"connected {transport.get_client_id(call)}")

        @self.transport.event_handler("on_client_disconnected")
        async def disconnected(transport: CallTransport, call: FakeCall) -> None:
            self.told.append("disconnected")

    async def run(self, rate_hz: int) -> None:
        pipeline = Pipeline([self.transport.input(), self.mind, self.transport.output()])
        rates = PipelineParams(audio_in_sample_rate=rate_hz, audio_out_sample_rate=rate_hz)
        self.worker = PipelineWorker(pipeline, params=rates)
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(self.worker)
        await runner.run()
        self.over.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Media goes on meanwhile: all that was played is heard at once."""
        async with asyncio.timeout(5.0):
            while not condition():
                self.call.hear()
                await asyncio.sleep(0.005)


async def turns() -> None:
    """Let the pipeline do all that it can do by now."""
    for _ in range(300):
        await asyncio.sleep(0)


@asynccontextmanager
async def stage(params: CallParams | None = None, rate_hz: int = RATE_HZ) -> AsyncIterator[Stage]:
    it = Stage(params)
    running = asyncio.ensure_future(it.run(rate_hz))
    try:
        await it.until(lambda: it.told)
        it.call.establish()
        yield it
        it.call.finish()
        await it.worker.cancel()
        await asyncio.wait_for(it.over.wait(), 5.0)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_the_pipeline_hears_the_caller_and_is_told_who_it_is() -> None:
    async with stage() as it:
        assert it.told == [f"connected {it.call.id}"]
        await it.until(lambda: it.mind.of(InputAudioRawFrame))
        frame = it.mind.of(InputAudioRawFrame)[0]
        assert (frame.audio, frame.sample_rate, frame.num_channels) == (FRAME, RATE_HZ, 1)
        it.call.press("5")
        it.call.press("A")  # pipecat's keypad has no letters
        it.call.press("#")
        await it.until(lambda: len(it.mind.of(InputDTMFFrame)) == 2)
        assert [frame.button for frame in it.mind.of(InputDTMFFrame)] == [KeypadEntry.FIVE, KeypadEntry.POUND]
        it.call.tell("voicemail", sure=True)
        await it.until(lambda: it.mind.of(InputTransportMessageFrame))
        message = it.mind.of(InputTransportMessageFrame)[0].message
        assert message == {"type": "event", "event": "voicemail", "data": {"sure": True}}


async def test_the_caller_hears_the_pipeline_at_the_pace_of_the_call() -> None:
    """Little waits in the edge, so that pipecat knows when the bot speaks, and an interruption is heard as one."""
    async with stage() as it:
        taken = len(it.call.line.played())
        await it.mind.push_frame(TTSAudioRawFrame(SECOND, RATE_HZ, 1))
        await turns()
        assert 0 < len(it.call.line.played()) - taken <= len(SECOND) // 5
        await it.until(lambda: it.call.line.played() == SECOND)
        assert it.mind.of(BotStartedSpeakingFrame)


async def test_an_interruption_clears_what_is_queued_here_and_in_the_edge() -> None:
    async with stage() as it:
        await it.mind.push_frame(OutputAudioRawFrame(SECOND * 5, RATE_HZ, 1))
        await turns()
        await it.mind.broadcast_interruption()
        await it.until(lambda: Kind.CLEAR in it.call.line.kinds())
        assert len(it.call.line.played()) < len(SECOND)


async def test_a_pipeline_of_another_rate_is_resampled_both_ways() -> None:
    async with stage(rate_hz=8000) as it:
        await it.until(lambda: len(it.mind.of(InputAudioRawFrame)) > 20)
        frames = it.mind.of(InputAudioRawFrame)
        assert {frame.sample_rate for frame in frames} == {8000}
        await it.mind.push_frame(OutputAudioRawFrame(bytes(16000), 8000, 1))
        await it.until(lambda: len(it.call.line.played()) > len(SECOND) * 0.8)


async def test_digits_and_wishes_of_the_pipeline_reach_the_call() -> None:
    async with stage() as it:
        await it.mind.push_frame(OutputDTMFUrgentFrame.from_string("12#"))
        transfer = {"type": "transfer", "target": "+14155550123"}
        await it.mind.push_frame(OutputTransportMessageUrgentFrame(message=transfer))
        await it.until(lambda: Kind.ASK in it.call.line.kinds())
        assert bytes((Kind.DIGITS,)) + b"12#" in it.call.line.sent
        it.call.tell("refused", verb="transfer", message="no")
        await it.until(
            lambda: (
                {"type": "refused", "verb": "transfer", "message": "no"}
                in [frame.message for frame in it.mind.of(InputTransportMessageFrame)]
            )
        )


async def test_the_pipelines_end_hangs_up_after_what_it_has_said() -> None:
    async with stage() as it:
        await it.mind.push_frame(OutputAudioRawFrame(SECOND, RATE_HZ, 1))
        await it.mind.push_frame(EndWorkerFrame())
        await it.until(it.over.is_set)
        assert it.call.line.played() == SECOND
        assert it.call.line.kinds()[-1] is Kind.HANG_UP
        assert Kind.CLEAR not in it.call.line.kinds()


async def test_a_cancelled_pipeline_hangs_up_at_once() -> None:
    async with stage() as it:
        await it.mind.push_frame(OutputAudioRawFrame(SECOND * 5, RATE_HZ, 1))
        await turns()
        await it.worker.cancel()
        await it.until(it.over.is_set)
        assert it.call.line.kinds()[-2:] == [Kind.CLEAR, Kind.HANG_UP]


async def test_the_callers_hang_up_is_told_and_ends_nothing_by_itself() -> None:
    async with stage() as it:
        it.call.finish()
        await it.until(lambda: "disconnected" in it.told)
        assert not it.over.is_set()


async def test_a_pipeline_that_does_not_keep_up_loses_audio_that_is_counted() -> None:
    async with stage() as it:
        it.transport.input()._audio_in_queue = asyncio.Queue()  # nobody reads it
        for _ in range(300):
            it.call.hear()
            await asyncio.sleep(0)
        lost = sum(wire.number(frame) for frame in it.call.line.sent if frame[0] == Kind.DROPPED)
        assert lost >= 150


def test_a_call_is_mono() -> None:
    with pytest.raises(ValueError, match="mono"):
        CallTransport(FakeCall(), CallParams(audio_out_channels=2))
