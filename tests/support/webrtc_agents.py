"""Two agents that are WebRTC peers, in a process of their own: a WHIP server made of aiortc, and pipecat's SmallWebRTC.

``POST /whip`` (RFC 9725; a bearer token is asked for) returns what it hears, tells of digits over the data channel by
its prints, and hangs up at ``#``. ``POST /api/offer`` is pipecat's own server code, its bot plays a tone, and obeys the
keypad: ``1`` plays a long tone, ``2`` interrupts it, ``#`` ends the pipeline. Lines that start with ``@`` are JSON
events for the test.

usage: python webrtc_agents.py TOKEN
"""

from __future__ import annotations

import asyncio
import json
import math
import socket
import struct
import sys
from typing import Any

import uvicorn
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.contrib.media import MediaRelay
from fastapi import BackgroundTasks, FastAPI, Request, Response
from pipecat.frames.frames import (
    EndWorkerFrame,
    Frame,
    InputTransportMessageFrame,
    OutputTransportMessageUrgentFrame,
    TTSAudioRawFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.transports.base_transport import TransportParams
from pipecat.transports.smallwebrtc.request_handler import SmallWebRTCRequest, SmallWebRTCRequestHandler
from pipecat.transports.smallwebrtc.transport import SmallWebRTCTransport
from pipecat.workers.runner import WorkerRunner

TOKEN = sys.argv[1]
RATE_HZ = 16000
app = FastAPI()
peers: dict[str, RTCPeerConnection] = {}
handler = SmallWebRTCRequestHandler()


def tell(event: str, **fields: object) -> None:
    """One event to the test."""
    print(f"@{json.dumps({'event': event, **fields})}", flush=True)


# --- WHIP -------------------------------------------------------------------------------------


@app.post("/old")
async def moved() -> Response:
    """Where it was before (RFC 9725 §4.5)."""
    return Response(status_code=307, headers={"Location": "/whip"})


@app.post("/whip")
async def whip(request: Request) -> Response:
    """One session: an echo."""
    if request.headers.get("authorization") != f"Bearer {TOKEN}":
        return Response(status_code=401)
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    name = str(len(peers))
    peers[name] = peer
    relay = MediaRelay()
    peer.on("track", lambda track: peer.addTrack(relay.subscribe(track)))

    @peer.on("datachannel")
    def opened(channel: Any) -> None:
        @channel.on("message")
        def heard(text: str) -> None:
            message = json.loads(text)
            tell("message", message=message)
            if message == {"type": "dtmf", "digit": "#"}:
                channel.send(json.dumps({"type": "hang-up"}))

    await peer.setRemoteDescription(RTCSessionDescription((await request.body()).decode(), "offer"))
    await peer.setLocalDescription(await peer.createAnswer())
    links = '<stun:stun.example.net>; rel="ice-server"'
    return Response(
        peer.localDescription.sdp,
        status_code=201,
        media_type="application/sdp",
        headers={"Location": f"/sessions/{name}", "Link": links, "ETag": '"1"'},
    )


@app.delete("/sessions/{name}")
async def delete(name: str, request: Request) -> Response:
    """Its end."""
    tell("deleted", name=name, authorized=request.headers.get("authorization") == f"Bearer {TOKEN}")
    await peers.pop(name).close()
    return Response(status_code=200)


# --- SmallWebRTC ------------------------------------------------------------------------------


def tone(hz: float, seconds: float) -> TTSAudioRawFrame:
    """A sine at a quarter of full scale."""
    count = round(seconds * RATE_HZ)
    samples = (round(8191 * math.sin(2 * math.pi * hz / RATE_HZ * at)) for at in range(count))
    return TTSAudioRawFrame(audio=struct.pack(f"<{count}h", *samples), sample_rate=RATE_HZ, num_channels=1)


class Keypad(FrameProcessor):
    """The bot's mind."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)
        if isinstance(frame, InputTransportMessageFrame):
            tell("message", message=frame.message)
            match frame.message:
                case {"type": "call"}:
                    await self.push_frame(tone(600, 0.5))
                case {"type": "dtmf", "digit": "1"}:
                    await self.push_frame(tone(900, 30.0))
                case {"type": "dtmf", "digit": "2"}:
                    await self.broadcast_interruption()
                case {"type": "dtmf", "digit": "3"}:
                    wish = {"type": "transfer", "target": "+19005550123"}
                    await self.push_frame(OutputTransportMessageUrgentFrame(message=wish))
                case {"type": "dtmf", "digit": "#"}:
                    await self.push_frame(EndWorkerFrame())


async def bot(connection: Any) -> None:
    """One call."""
    parameters = TransportParams(audio_in_enabled=True, audio_out_enabled=True, audio_out_end_silence_secs=0)
    transport = SmallWebRTCTransport(webrtc_connection=connection, params=parameters)
    worker = PipelineWorker(
        Pipeline([transport.input(), Keypad(), transport.output()]),
        params=PipelineParams(audio_in_sample_rate=RATE_HZ, audio_out_sample_rate=RATE_HZ),
        enable_rtvi=False,
    )

    @transport.event_handler("on_client_disconnected")
    async def on_client_disconnected(transport: object, client: object) -> None:
        tell("disconnected")
        await worker.cancel()

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()
    tell("finished")


@app.post("/api/offer")
async def offer(request: Request, background: BackgroundTasks) -> Any:
    """As in pipecat's examples."""
    asked = SmallWebRTCRequest.from_dict(await request.json())
    tell("offer", request_data=asked.request_data)

    async def begun(connection: Any) -> None:
        background.add_task(bot, connection)

    return await handler.handle_web_request(asked, begun)


async def main() -> None:
    """Serve on a fresh port until SIGTERM."""
    listener = socket.create_server(("127.0.0.1", 0))
    tell("ready", url=f"http://127.0.0.1:{listener.getsockname()[1]}")
    await uvicorn.Server(uvicorn.Config(app, log_level="warning")).serve(sockets=[listener])


asyncio.run(main())
