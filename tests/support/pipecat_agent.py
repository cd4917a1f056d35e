"""The real pipecat-ai package as an agent, in a child process (see ``pipecat_bot.py``)."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.audio import Samples, read_wav
from tests.support.process import Program, running

__all__ = ["PipecatAgent", "has_pipecat"]

has_pipecat = pytest.mark.skipif(importlib.util.find_spec("pipecat") is None, reason="not installed: pipecat-ai")


class PipecatAgent:
    """Open with :meth:`open`."""

    def __init__(self, program: Program, folder: Path, url: str) -> None:
        self.program = program
        self.url = url
        self._folder = folder

    @classmethod
    @asynccontextmanager
    async def open(
        cls, folder: Path, *, account_sid: str, auth_token: str, base_url: str
    ) -> AsyncIterator[PipecatAgent]:
        """With Twilio's credentials, and the place its hang-up goes to."""
        folder.mkdir(parents=True)
        environment = {"TWILIO_ACCOUNT_SID": account_sid, "TWILIO_AUTH_TOKEN": auth_token, "TWILIO_BASE_URL": base_url}
        bot = Path(__file__).with_name("pipecat_bot.py")
        async with running(sys.executable, bot, folder, name="pipecat", environment=environment) as program:
            ready = json.loads((await program.expect(r'^@({"event": "ready".*)', 30.0))[1])
            yield cls(program, folder, ready["url"])

    async def expect(self, event: str, timeout_s: float = 10.0) -> dict[str, Any]:
        """The first event of a kind: ``call``, ``digit``, ``disconnected``, ``finished``."""
        match = await self.program.expect(rf'^@({{"event": "{event}".*)', timeout_s)
        value: dict[str, Any] = json.loads(match[1])
        return value

    def digits(self) -> str:
        """All digits so far, over all calls."""
        events = (json.loads(line[1:]) for line in self.program.lines if line.startswith("@"))
        return "".join(event["digit"] for event in events if event["event"] == "digit")

    def heard(self, call_sid: str) -> Samples:
        """What it heard in a call that has finished."""
        return read_wav(self._folder / f"heard-{call_sid}.wav")
