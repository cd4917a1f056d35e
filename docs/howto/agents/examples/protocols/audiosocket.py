"""An agent that speaks AudioSocket: it greets with a tone, says back what it hears, and hangs up at #.

Run: python audiosocket.py [PORT]
"""

import asyncio
import math
import struct
import sys
import uuid

HANG_UP, UUID, DTMF, SLIN, SLIN16 = 0x00, 0x01, 0x03, 0x10, 0x12


def packet(kind: int, payload: bytes = b"") -> bytes:
    """A type, the length (big-endian), the payload."""
    return struct.pack(">BH", kind, len(payload)) + payload


def tone(hz: float, seconds: float) -> bytes:
    """16-bit little-endian samples at 8 kHz."""
    samples = (round(8000 * math.sin(2 * math.pi * hz * at / 8000)) for at in range(int(seconds * 8000)))
    return b"".join(struct.pack("<h", sample) for sample in samples)


async def agent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            kind, length = struct.unpack(">BH", await reader.readexactly(3))
            payload = await reader.readexactly(length)
            if kind == UUID:
                print("call", uuid.UUID(bytes=payload), flush=True)  # the id to ask the API with: GET /calls/ID
                writer.write(packet(SLIN, tone(440, 0.6)))
            elif kind in (SLIN, SLIN16):
                writer.write(packet(kind, payload))
            elif kind == DTMF:
                print("digit", payload.decode(), flush=True)
                if payload == b"#":
                    writer.write(packet(HANG_UP))
            elif kind == HANG_UP:
                break
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        print("lost", flush=True)
    finally:
        writer.close()
    print("over", flush=True)


async def main(port: int) -> None:
    server = await asyncio.start_server(agent, "127.0.0.1", port)
    print(f"ready audiosocket://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 9092))
