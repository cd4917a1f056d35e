"""Says back what the caller says."""

from media.python_agent import Call


async def agent(call: Call) -> None:
    async for frame in call.audio():
        await call.play(frame)
