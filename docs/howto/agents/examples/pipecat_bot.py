"""A pipecat pipeline on the phone: says back each digit as so many tones, and ``#`` ends it."""

import math
from array import array

from pipecat.frames.frames import EndWorkerFrame, Frame, InputDTMFFrame, OutputAudioRawFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner

from media.pipecat_transport import CallTransport
from media.python_agent import Call


class Keypad(FrameProcessor):
    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)
        if isinstance(frame, InputDTMFFrame) and frame.button.value == "#":
            await self.push_frame(EndWorkerFrame())
        elif isinstance(frame, InputDTMFFrame):
            await self.broadcast_interruption()
            samples = [round(8000 * math.sin(2 * math.pi * 900 * at / 24000)) for at in range(12000)]
            tone = OutputAudioRawFrame(array("h", samples).tobytes(), sample_rate=24000, num_channels=1)
            for _ in range(int(frame.button.value or 0)):
                await self.push_frame(tone)


async def agent(call: Call) -> None:
    transport = CallTransport(call)
    worker = PipelineWorker(Pipeline([transport.input(), Keypad(), transport.output()]))

    @transport.event_handler("on_client_disconnected")
    async def on_client_disconnected(transport: CallTransport, call: Call) -> None:
        await worker.cancel()

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()
