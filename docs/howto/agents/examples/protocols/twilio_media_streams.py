"""An agent that speaks Twilio Media Streams: it greets with a tone, says back what it hears, and obeys the keypad.

1 plays a long tone, 2 silences it, # hangs up. Needs `websockets`; run: python twilio_media_streams.py [PORT]
"""

import base64
import contextlib
import json
import math
import sys

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve


def tone(hz: float, seconds: float) -> str:
    """μ-law (G.711) at 8 kHz, in base64."""
    wave = (math.sin(2 * math.pi * hz * at / 8000) / 4 for at in range(int(8000 * seconds)))
    codes = ((0x7F if x < 0 else 0xFF) - round(127 * math.log1p(255 * abs(x)) / math.log(256)) for x in wave)
    return base64.b64encode(bytes(codes)).decode()


def answer(call: ServerConnection) -> None:
    with contextlib.suppress(ConnectionClosed):  # while something was being sent
        agent(call)
    print("over", flush=True)


def agent(call: ServerConnection) -> None:
    echo = True
    for message in call:
        event, said = json.loads(message), []
        match event:
            case {"event": "start", "start": told}:
                print("call", json.dumps(told["customParameters"]), flush=True)
                said = [("media", {"payload": tone(440, 0.6)}), ("mark", {"name": "greeted"})]
            case {"event": "media", "media": heard} if echo:
                said = [("media", {"payload": heard["payload"]})]
            case {"event": "mark" | "stop"}:
                print("event", json.dumps(event), flush=True)
            case {"dtmf": {"digit": "1"}}:
                echo, said = False, [("media", {"payload": tone(700, 30)}), ("mark", {"name": "long tone"})]
            case {"dtmf": {"digit": "2"}}:
                said = [("clear", {})]
            case {"dtmf": {"digit": "#"}}:
                return
        for name, body in said:
            call.send(json.dumps({"event": name, "streamSid": event["streamSid"], name: body}))


if __name__ == "__main__":
    with serve(answer, "127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 3000) as server:
        print(f"ready ws://127.0.0.1:{server.socket.getsockname()[1]}/", flush=True)
        server.serve_forever()
