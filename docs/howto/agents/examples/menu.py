"""Plays a melody until a digit interrupts it, and answers each digit; ``#`` ends the call."""

import math
from array import array

from media.python_agent import Call

NOTES_HZ = {"1": 523, "2": 587, "3": 659, "4": 698, "5": 784}


def note(hz: float, seconds: float, sample_rate: int) -> bytes:
    count = round(seconds * sample_rate)
    return array("h", (round(8000 * math.sin(2 * math.pi * hz * at / sample_rate)) for at in range(count))).tobytes()


async def agent(call: Call) -> None:
    for hz in NOTES_HZ.values():
        await call.play(note(hz, 2.0, call.sample_rate))
    async for digit in call.digits():
        call.clear()
        if digit == "#":
            break
        await call.play(note(NOTES_HZ.get(digit, 330), 0.5, call.sample_rate))
    await call.play(note(880, 0.3, call.sample_rate))
    await call.mark()  # the caller has heard it
    call.hang_up()
