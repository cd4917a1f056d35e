"""A pipecat bot as its documentation has it, in a process of its own; no network service in its pipeline.

It greets with a tone, records what it hears, and obeys the keypad: ``1`` plays a long tone, ``2`` interrupts it, ``#``
ends the pipeline, upon which ``TwilioFrameSerializer`` hangs the call up over REST. Lines that start with ``@`` are
JSON events for the test.

usage: python pipecat_bot.py FOLDER     (TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN and TWILIO_BASE_URL in the environment)
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import socket
import struct
import sys
import wave
from pathlib import Path

import uvicorn
from fastapi import FastAPI, WebSocket
from pipecat.frames.frames import (
    EndWorkerFrame,
    Frame,
    InputAudioRawFrame,
    InputDTMFFrame,
    OutputAudioRawFrame,
    StartFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.runner.utils import parse_telephony_websocket
from pipecat.serializers.twilio import TwilioFrameSerializer
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
from pipecat.workers.runner import WorkerRunner

FOLDER = Path(sys.argv[1])
RATE_HZ = 8000
app = FastAPI()


def tell(event: str, **fields: object) -> None:
    """One event to the test."""
    print(f"@{json.dumps({'event': event, **fields})}", flush=True)


def tone(hz: float, seconds: float) -> OutputAudioRawFrame:
    """A sine at a quarter of full scale."""
    count = round(seconds * RATE_HZ)
    samples = (round(8191 * math.sin(2 * math.pi * hz / RATE_HZ * at)) for at in range(count))
    return OutputAudioRawFrame(audio=struct.pack(f"<{count}h", *samples), sample_rate=RATE_HZ, num_channels=1)


class Keypad(FrameProcessor):
    """The bot's mind."""

    def __init__(self, recording: wave.Wave_write) -> None:
        super().__init__()
        self._recording = recording

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)
        match frame:
            case StartFrame():
                await self.push_frame(tone(600, 1.0))
            case InputAudioRawFrame():
                self._recording.writeframes(frame.audio)
            case InputDTMFFrame():
                await self._pressed(frame.button.value)

    async def _pressed(self, digit: str) -> None:
        tell("digit", digit=digit)
        match digit:
            case "1":
                await self.push_frame(tone(900, 30.0))
            case "2":
                await self.broadcast_interruption()
            case "#":
                await self.push_frame(EndWorkerFrame(reason="# was pressed"))


@app.websocket("/ws")
async def bot(websocket: WebSocket) -> None:
    """One call."""
    await websocket.accept()
    kind, call = await parse_telephony_websocket(websocket)
    tell("call", kind=kind, stream=call["stream_id"], call=call["call_id"], caller=call["from"], dialed=call["to"])
    serializer = TwilioFrameSerializer(
        stream_sid=call["stream_id"],
        call_sid=call["call_id"],
        account_sid=os.environ["TWILIO_ACCOUNT_SID"],
        auth_token=os.environ["TWILIO_AUTH_TOKEN"],
        base_url=os.environ["TWILIO_BASE_URL"],
    )
    parameters = FastAPIWebsocketParams(
        audio_in_enabled=True, audio_out_enabled=True, add_wav_header=False, serializer=serializer
    )
    transport = FastAPIWebsocketTransport(websocket=websocket, params=parameters)
    with wave.open(str(FOLDER / f"heard-{call['call_id']}.wav"), "wb") as recording:
        recording.setnchannels(1)
        recording.setsampwidth(2)
        recording.setframerate(RATE_HZ)
        worker = PipelineWorker(
            Pipeline([transport.input(), Keypad(recording), transport.output()]),
            params=PipelineParams(audio_in_sample_rate=RATE_HZ, audio_out_sample_rate=RATE_HZ),
        )

        @transport.event_handler("on_client_disconnected")
        async def on_client_disconnected(transport: object, client: object) -> None:
            tell("disconnected")
            await worker.cancel()

        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(worker)
        await runner.run()
    tell("finished")


async def main() -> None:
    """Serve on a fresh port until SIGTERM."""
    listener = socket.create_server(("127.0.0.1", 0))
    tell("ready", url=f"ws://127.0.0.1:{listener.getsockname()[1]}/ws")
    await uvicorn.Server(uvicorn.Config(app, log_level="warning")).serve(sockets=[listener])


asyncio.run(main())
