"""Talks until the caller does: a task listens while another speaks."""

import asyncio
import math
from array import array

from media.python_agent import AudioFrame, Call


def loud(frame: AudioFrame) -> bool:
    samples = array("h", frame.pcm)
    return sum(abs(sample) for sample in samples) > 500 * len(samples)


def speech(call: Call) -> bytes:
    count = call.sample_rate * 20
    return array(
        "h", (round(6000 * math.sin(2 * math.pi * 440 * at / call.sample_rate)) for at in range(count))
    ).tobytes()


async def agent(call: Call) -> None:
    speaking = asyncio.create_task(call.play(speech(call), ahead_s=0))
    loud_frames = 0
    async for frame in call.audio():
        loud_frames = loud_frames + 1 if loud(frame) else 0
        if loud_frames == 5:  # 100 ms: no click
            call.clear()
            print(f"interrupted at {frame.at_ms} ms")
            break
    await speaking
    await call.ended()
