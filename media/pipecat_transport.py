"""A call as a pipecat transport: a pipeline talks on the phone without a WebSocket.

Needs pipecat (the extra ``pipecat``); nothing else of the edge imports it. In a Python agent
(:mod:`media.python_agent`)::

    async def agent(call: Call) -> None:
        transport = CallTransport(call)
        worker = PipelineWorker(Pipeline([transport.input(), …, transport.output()]))
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(worker)
        await runner.run()

An ``EndFrame`` hangs up after all has been heard, a ``CancelFrame`` at once. When the caller hangs up,
``on_client_disconnected`` is called, as of pipecat's own transports; what then ends the pipeline is the agent's affair.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from pipecat.audio.dtmf.types import KeypadEntry
from pipecat.audio.utils import create_stream_resampler
from pipecat.frames.frames import (
    CancelFrame,
    ClientConnectedFrame,
    EndFrame,
    Frame,
    InputAudioRawFrame,
    InputDTMFFrame,
    InputTransportMessageFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    OutputDTMFFrame,
    OutputDTMFUrgentFrame,
    OutputTransportMessageFrame,
    OutputTransportMessageUrgentFrame,
    StartFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.transports.base_input import BaseInputTransport
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import BaseTransport, TransportParams

from media.hosting.remote import Remote, event_message
from media.python_agent import Call, CallEnded

__all__ = ["CallInput", "CallOutput", "CallParams", "CallTransport"]

_AHEAD_S: Final = 0.1
"""What waits in the edge to be heard: little, so that pipecat knows when the bot speaks."""

_BACKLOG_FRAMES: Final = 100
"""2 s; pipecat's queues have no bound of their own."""


class CallParams(TransportParams):
    """Audio both ways; and no silence after the end, for the edge plays out what is queued before it hangs up."""

    audio_in_enabled: bool = True
    audio_out_enabled: bool = True
    audio_out_end_silence_secs: int = 0


class CallInput(BaseInputTransport):
    """The caller: audio, digits, and what else happens in the call."""

    def __init__(self, transport: CallTransport, call: Call, params: CallParams, **names: Any) -> None:
        super().__init__(params, **names)
        self._call = call
        self._transport = transport
        self._resampler = create_stream_resampler()
        self._reading: list[asyncio.Task[None]] = []

    async def start(self, frame: StartFrame) -> None:
        """The caller is there: the phone rings, or has been answered."""
        await super().start(frame)
        if self._reading:
            return
        await self._transport.connected()
        await self.push_frame(ClientConnectedFrame())
        await self.set_transport_ready(frame)
        self._reading = [self.create_task(read()) for read in (self._audio, self._digits, self._events)]

    async def stop(self, frame: EndFrame) -> None:
        """Listen no more."""
        await super().stop(frame)
        await self._stop_reading()

    async def cancel(self, frame: CancelFrame) -> None:
        """Listen no more."""
        await super().cancel(frame)
        await self._stop_reading()

    async def cleanup(self) -> None:
        """Nothing stays."""
        await super().cleanup()
        await self._stop_reading()
        await self._transport.cleanup()

    async def _stop_reading(self) -> None:
        reading, self._reading = self._reading, []
        for task in reading:
            await self.cancel_task(task)

    async def _audio(self) -> None:
        call, rate = self._call, self.sample_rate
        async for frame in call.audio():
            if self._params.audio_in_enabled and self._audio_in_queue.qsize() >= _BACKLOG_FRAMES:
                call.dropped()
                continue
            pcm = frame.pcm
            if rate != call.sample_rate:
                pcm = await self._resampler.resample(pcm, call.sample_rate, rate)
            if pcm:
                await self.push_audio_frame(InputAudioRawFrame(audio=pcm, sample_rate=rate, num_channels=1))
        await self._transport.disconnected()

    async def _digits(self) -> None:
        async for digit in self._call.digits():
            if digit in _KEYPAD:
                await self.push_frame(InputDTMFFrame(button=KeypadEntry(digit)))

    async def _events(self) -> None:
        async for event in self._call.events():
            await self.broadcast_frame(InputTransportMessageFrame, message=event_message(event))


class CallOutput(BaseOutputTransport):
    """The bot: audio, interruptions, digits and wishes of the call."""

    def __init__(self, call: Call, params: CallParams, **names: Any) -> None:
        super().__init__(params, **names)
        self._call = call
        self._resampler = create_stream_resampler()
        self._remote = Remote(call, self._tell, self._spawn)
        self._under_way: set[asyncio.Task[None]] = set()

    async def start(self, frame: StartFrame) -> None:
        """Ready."""
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def stop(self, frame: EndFrame) -> None:
        """Hang up, once all that was said has been heard."""
        await super().stop(frame)
        self._call.hang_up()

    async def cancel(self, frame: CancelFrame) -> None:
        """Hang up now."""
        await super().cancel(frame)
        self._call.clear()
        self._call.hang_up()

    async def cleanup(self) -> None:
        """Nothing stays."""
        await super().cleanup()
        for task in tuple(self._under_way):
            await self.cancel_task(task)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """An interruption empties the edge's queue too."""
        await super().process_frame(frame, direction)
        if isinstance(frame, InterruptionFrame):
            self._call.clear()

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        """Returns when there is room for the next: real time."""
        pcm, call = frame.audio, self._call
        if self.sample_rate != call.sample_rate:
            pcm = await self._resampler.resample(pcm, self.sample_rate, call.sample_rate)
        try:
            await call.play(pcm, ahead_s=_AHEAD_S)
        except CallEnded:
            return False
        return True

    async def send_message(self, frame: OutputTransportMessageFrame | OutputTransportMessageUrgentFrame) -> None:
        """What :mod:`media.hosting.remote` lists is done; RTVI's own messages have nobody to go to."""
        self._remote.hear(frame.message)

    def _supports_native_dtmf(self) -> bool:
        return True

    async def _write_dtmf_native(self, frame: OutputDTMFFrame | OutputDTMFUrgentFrame) -> None:
        self._call.send_digits("".join(button.value for button in frame.buttons or ()))

    def _tell(self, message: dict[str, Any]) -> None:
        self._spawn(self.broadcast_frame(InputTransportMessageFrame, message=message))

    def _spawn(self, work: Any) -> object:
        task = self.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task


class CallTransport(BaseTransport):
    """One call. Both ways have the call's sample rate, or the pipeline's: then it is resampled.

    Event handlers, each given the transport and the :class:`~media.python_agent.Call`:

    - ``on_client_connected``: the pipeline runs, and the caller is there (the phone still rings).
    - ``on_client_disconnected``: the caller, or the edge, has ended the call.
    """

    def __init__(
        self,
        call: Call,
        params: CallParams | None = None,
        *,
        name: str | None = None,
        input_name: str | None = None,
        output_name: str | None = None,
    ) -> None:
        """Raises ValueError for more than one channel: a phone has one."""
        super().__init__(name=name, input_name=input_name, output_name=output_name)
        params = params or CallParams()
        if params.audio_in_channels != 1 or params.audio_out_channels != 1:
            raise ValueError("a call's audio is mono")
        self._call = call
        self._gone = False
        self._input = CallInput(self, call, params, name=self._input_name)
        self._output = CallOutput(call, params, name=self._output_name)
        self._register_event_handler("on_client_connected")
        self._register_event_handler("on_client_disconnected")

    def input(self) -> CallInput:
        """The first of the pipeline."""
        return self._input

    def output(self) -> CallOutput:
        """The last of the pipeline."""
        return self._output

    def get_client_id(self, client: Any) -> str:
        """The call's id."""
        return str(client.id)

    async def connected(self) -> None:
        """For the input."""
        await self._call_event_handler("on_client_connected", self._call)

    async def disconnected(self) -> None:
        """For the input."""
        if not self._gone:
            self._gone = True
            await self._call_event_handler("on_client_disconnected", self._call)


_KEYPAD: Final = frozenset(button.value for button in KeypadEntry)
