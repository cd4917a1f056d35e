"""pipecat's own WebSocket transport as an agent that returns what it hears, in a process of its own.

usage: python peer_pipecat.py     prints one line of JSON when it is up; ends with its standard input
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import os
import socket
import sys
import threading

os.environ["LOGURU_LEVEL"] = "WARNING"  # its debug lines would cost more than its work

import uvicorn
from fastapi import FastAPI, WebSocket
from pipecat.frames.frames import Frame, InputAudioRawFrame, OutputAudioRawFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.runner.utils import parse_telephony_websocket
from pipecat.serializers.twilio import TwilioFrameSerializer
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
from pipecat.workers.runner import WorkerRunner

RATE_HZ = 8000
app = FastAPI()


class Echo(FrameProcessor):
    """What comes in goes out."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            frame = OutputAudioRawFrame(audio=frame.audio, sample_rate=RATE_HZ, num_channels=1)
        await self.push_frame(frame, direction)


@app.websocket("/ws")
async def bot(websocket: WebSocket) -> None:
    """One call."""
    await websocket.accept()
    _, call = await parse_telephony_websocket(websocket)
    serializer = TwilioFrameSerializer(
        stream_sid=call["stream_id"],
        call_sid=call["call_id"],
        params=TwilioFrameSerializer.InputParams(auto_hang_up=False),
    )
    parameters = FastAPIWebsocketParams(
        audio_in_enabled=True, audio_out_enabled=True, add_wav_header=False, serializer=serializer
    )
    transport = FastAPIWebsocketTransport(websocket=websocket, params=parameters)
    worker = PipelineWorker(
        Pipeline([transport.input(), Echo(), transport.output()]),
        params=PipelineParams(audio_in_sample_rate=RATE_HZ, audio_out_sample_rate=RATE_HZ),
        idle_timeout_secs=None,
    )

    @transport.event_handler("on_client_disconnected")
    async def on_client_disconnected(transport: object, client: object) -> None:
        await worker.cancel()

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()


def leave_with_input() -> None:
    """The bench closes it, or is gone."""
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=leave_with_input, daemon=True).start()
    hello = {
        "url": f"ws://127.0.0.1:{listener.getsockname()[1]}/ws",
        "version": importlib.metadata.version("pipecat-ai"),
    }
    os.write(1, json.dumps(hello).encode() + b"\n")
    asyncio.run(uvicorn.Server(uvicorn.Config(app, log_level="error")).serve(sockets=[listener]))


main()
