"""An agent that speaks Telnyx's media streaming: it greets with a tone, says back what it hears, obeys the keypad.

1 plays a long tone, 2 silences it, # hangs up. Needs `websockets`; run: python telnyx_media_streaming.py [PORT]
"""

import asyncio
import base64
import contextlib
import json
import math
import sys
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed


def ulaw(sample: int) -> int:
    """G.711: one 16-bit sample in a byte."""
    sign, sample = (0x80, -sample) if sample < 0 else (0, sample)
    sample = min(sample, 32635) + 132
    exponent = sample.bit_length() - 8
    return ~(sign | exponent << 4 | sample >> exponent + 3 & 0x0F) & 0xFF


def tone(hz: float, seconds: float) -> bytes:
    return bytes(ulaw(round(8000 * math.sin(2 * math.pi * hz * at / 8000))) for at in range(int(seconds * 8000)))


async def answer(call: ServerConnection) -> None:
    with contextlib.suppress(ConnectionClosed):  # while something was being sent
        await agent(call)
    print("over", flush=True)


async def agent(call: ServerConnection) -> None:
    async def send(event: str, **body: Any) -> None:
        await call.send(json.dumps({"event": event, **({event: body} if body else {})}))

    async def play(audio: bytes) -> None:
        await send("media", payload=base64.b64encode(audio).decode())

    echo = True
    async for message in call:
        event = json.loads(message)
        match event["event"]:
            case "start":
                print("call", json.dumps(event["start"]), flush=True)
                await play(tone(440, 0.6))
                await send("mark", name="greeted")
            case "media" if echo:
                await send("media", payload=event["media"]["payload"])
            case "mark" | "dtmf" | "stop":
                print("event", json.dumps(event), flush=True)
        match event.get("dtmf", {}).get("digit"):
            case "1":
                echo = False
                await play(tone(700, 30))
                await send("mark", name="long tone")
            case "2":
                await send("clear")
            case "#":
                await call.close()


async def main(port: int) -> None:
    async with serve(answer, "127.0.0.1", port) as server:
        print(f"ready ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 3000))
