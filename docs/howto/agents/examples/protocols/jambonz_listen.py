"""An agent that takes jambonz's `listen`: it greets with a tone, says back what it hears, and obeys the keypad.

1 plays a long tone, 2 silences it, # hangs up. Needs `websockets`; run: python jambonz_listen.py [PORT]
"""

import asyncio
import contextlib
import json
import math
import struct
import sys

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed


def tone(hz: float, seconds: float, rate: int) -> bytes:
    """16-bit little-endian samples."""
    samples = (round(8000 * math.sin(2 * math.pi * hz * at / rate)) for at in range(int(seconds * rate)))
    return b"".join(struct.pack("<h", sample) for sample in samples)


async def answer(call: ServerConnection) -> None:
    with contextlib.suppress(ConnectionClosed):  # while something was being sent
        await agent(call)
    print("over", flush=True)


async def agent(call: ServerConnection) -> None:
    told = json.loads(await call.recv())  # the first message: who calls, and the audio's rate
    print("call", json.dumps({name: told[name] for name in ("callSid", "from", "to", "metadata")}), flush=True)
    rate, echo = told["sampleRate"], True
    await call.send(tone(440, 0.6, rate))
    await call.send(json.dumps({"type": "mark", "data": {"name": "greeted"}}))
    async for message in call:
        if isinstance(message, bytes):
            if echo:
                await call.send(message)
            continue
        event = json.loads(message)
        print("event", json.dumps(event), flush=True)
        match event.get("dtmf"):
            case "1":
                echo = False
                await call.send(tone(700, 30, rate))
                await call.send(json.dumps({"type": "mark", "data": {"name": "long tone"}}))
            case "2":
                await call.send(json.dumps({"type": "killAudio"}))
            case "#":
                await call.send(json.dumps({"type": "disconnect"}))


async def main(port: int) -> None:
    async with serve(answer, "127.0.0.1", port, subprotocols=["audio.jambonz.org"]) as server:
        print(f"ready ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 3000))
