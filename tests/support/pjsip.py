"""PJSIP as a phone, in a child process (see ``pjsip_child.py``)."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.audio import Samples, read_wav, write_wav
from tests.support.pki import Pki
from tests.support.ports import free_ports
from tests.support.process import Program, running

__all__ = ["Pjsip", "has_pjsip"]

has_pjsip = pytest.mark.skipif(
    importlib.util.find_spec("pjsua2") is None,
    reason="not installed: pjsua2-python (it has wheels for Python 3.11, 3.12)",
)


class Pjsip:
    """Open with :meth:`open`. Calls are numbered from 0; ``port`` is where it listens."""

    def __init__(self, program: Program, folder: Path, port: int) -> None:
        self.program = program
        self.port = port
        self._folder = folder

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        folder: Path,
        say: Samples,
        *,
        transport: str = "udp",
        pki: Pki | None = None,
        prack: bool = False,
        session_s: int | None = None,
        codec: str = "PCMU",
        suite: str = "",
        opportunistic: bool = False,
        rtcp_mux: bool = False,
        answers: bool = False,
        credentials: tuple[str, str] | None = None,
    ) -> AsyncIterator[Pjsip]:
        """``say`` is what it plays in every call, once. ``prack``: it requires 100rel. ``session_s``: its timer [s].

        ``suite`` is SRTP's, offered under RTP/AVP where it is ``opportunistic``; none: media in the clear.
        ``credentials``: a user and a password for any realm.
        """
        folder.mkdir(parents=True)
        write_wav(folder / "say.wav", say)
        files = [pki.authority, pki.certificate, pki.key] if pki else []
        child = Path(__file__).with_name("pjsip_child.py")
        environment = {
            "PJSIP_RTP_PORT": str(free_ports(20)),
            "PJSIP_CODEC": codec,
            "PJSIP_SUITE": suite,
            "PJSIP_OPPORTUNISTIC": str(int(opportunistic)),
            "PJSIP_RTCP_MUX": str(int(rtcp_mux)),
            "PJSIP_ANSWERS": str(int(answers)),
            "PYTHONWARNINGS": "ignore",
        }
        environment |= {"PJSIP_PRACK": "1"} if prack else {}
        environment |= {"PJSIP_SESSION_S": str(session_s)} if session_s else {}
        environment |= {"PJSIP_USER": credentials[0], "PJSIP_PASSWORD": credentials[1]} if credentials else {}
        async with running(
            sys.executable, child, folder, transport, *files, name="pjsip", environment=environment
        ) as program:
            ready = json.loads((await program.expect('^@({"event": "ready".*)'))[1])
            yield cls(program, folder, ready["port"])
            await program.write('{"do": "quit"}')
            await program.expect('^@{"event": "gone"')

    async def _do(self, command: str, **fields: object) -> None:
        await self.program.write(json.dumps({"do": command, **fields}))

    def events(self, kind: str, call: int = 0) -> list[dict[str, Any]]:
        """Those of one call so far: ``state``, ``media``, ``digit``."""
        everything = (json.loads(line[1:]) for line in self.program.lines if line.startswith("@"))
        return [event for event in everything if event["event"] == kind and event.get("call") == call]

    def latest(self) -> int:
        """The call that was established last."""
        states = (json.loads(line[1:]) for line in self.program.lines if line.startswith('@{"event": "state"'))
        return max(event["call"] for event in states if event["state"] == "CONFIRMED")

    async def expect_state(self, state: str, call: int = 0, timeout_s: float = 10.0) -> None:
        """Until a call is ``CALLING``, ``EARLY``, ``CONFIRMED`` or ``DISCONNECTED``."""
        await self.program.expect(rf'^@{{"event": "state", "call": {call}, "state": "{state}"', timeout_s)

    async def ring(self, uri: str, *, offer: bool = True) -> None:
        """An INVITE, with an offer of its own or without."""
        await self._do("dial", uri=uri, offer=offer)

    async def dial(self, uri: str, call: int = 0, *, offer: bool = True) -> None:
        """Returns when it is answered and audio flows."""
        await self.ring(uri, offer=offer)
        await self.expect_state("CONFIRMED", call)
        await self.program.expect(rf'^@{{"event": "media", "call": {call}}}')

    async def dial_in_vain(self, uri: str, call: int = 0) -> int:
        """The status it is refused with."""
        await self.ring(uri)
        await self.expect_state("DISCONNECTED", call)
        return int(self.events("state", call)[-1]["status"])

    async def press(self, digits: str, call: int = 0) -> None:
        """As telephone-events; returns at once, the keys follow one another."""
        await self._do("press", digits=digits, call=call)

    async def press_by_info(self, digits: str, call: int = 0) -> None:
        """As INFO requests with application/dtmf-relay."""
        await self._do("info", digits=digits, call=call)

    async def update(self, call: int = 0) -> None:
        """An UPDATE with an offer."""
        await self._do("update", call=call)

    def sent(self, line: str) -> int:
        """How many messages it sent or received whose first line begins so."""
        return sum(entry.startswith(line) for entry in self.program.lines)

    def offered(self) -> bool:
        """Whether its INVITE had a session description: the first there was came before the first 200."""
        return self.program.lines.index("v=0") < self.program.lines.index("SIP/2.0 200 OK")

    async def hold(self, call: int = 0) -> None:
        """A re-INVITE with ``a=sendonly``."""
        await self._do("hold", call=call)

    async def resume(self, call: int = 0) -> None:
        """A re-INVITE with ``a=sendrecv``."""
        await self._do("resume", call=call)

    async def refer(self, target: str, call: int = 0) -> None:
        """A REFER in the call."""
        await self._do("refer", call=call, target=target)

    async def hang_up(self, call: int = 0) -> None:
        """Returns when the call is over."""
        await self._do("hang up", call=call)
        await self.expect_state("DISCONNECTED", call)

    def digits(self, call: int = 0) -> str:
        """What the other side has pressed so far."""
        return "".join(event["digit"] for event in self.events("digit", call))

    def heard(self, call: int = 0) -> Samples:
        """What it has heard; whole once the block of :meth:`open` has ended."""
        return read_wav(self._folder / f"heard-{call}.wav")
