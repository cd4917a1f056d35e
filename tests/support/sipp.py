"""sipp as a phone: the scenarios beside this file, over UDP or TCP, with RTP of its own."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.audio import Samples, encode_alaw, encode_ulaw
from tests.support.ports import free_port, free_ports, hostport, until_bound
from tests.support.process import Program, running
from tests.support.rtp import EVENTS

__all__ = ["Sipp"]

_SCENARIOS = Path(__file__).with_name("sipp")
_TRANSPORTS = {"udp": "u1", "tcp": "t1"}


def _capture_of(digits: str) -> bytes:
    """A pcap file of the telephone-events of these keys, 100 ms each, and then of comfort noise of -40 dBov.

    sipp's own play_dtmf sends damaged events.
    """
    records = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)]
    sequence, at_ms = 0, 0

    def packet(payload_type: int, marker: bool, timestamp: int, payload: bytes) -> None:
        nonlocal sequence, at_ms
        sequence += 1
        rtp = struct.pack("!BBHII", 0x80, payload_type | marker << 7, sequence, timestamp, 0xD161) + payload
        udp = struct.pack("!HHHH", 4000, 4000, 8 + len(rtp), 0) + rtp
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes(4), bytes(4)) + udp
        frame = bytes(12) + b"\x08\x00" + ip
        records.append(struct.pack("<IIII", at_ms // 1000, at_ms % 1000 * 1000, len(frame), len(frame)) + frame)
        at_ms += 20

    for number, digit in enumerate(digits):
        for part in range(1, 8):
            event = struct.pack("!BBH", EVENTS.index(digit), (part >= 5) << 7 | 10, min(part, 5) * 160)
            packet(101, part == 1, number * 1600, event)
        at_ms += 60
    packet(13, False, len(digits) * 1600, bytes((40,)))
    return b"".join(records)


@dataclass
class Sipp:
    """Open with :meth:`dial` or :meth:`serve`. ``media_ports`` are those it may hear RTP on."""

    program: Program
    address: tuple[str, int]
    media_ports: range
    _folder: Path

    @classmethod
    @asynccontextmanager
    async def dial(
        cls,
        folder: Path,
        target: tuple[str, int],
        did: str,
        *,
        say: Samples,
        scenario: str = "hang_up",
        digits: str = "",
        transport: str = "udp",
        calls: int = 1,
        per_second: int = 10,
        hold_ms: int = 2000,
        host: str = "127.0.0.1",
        timeout_s: int = 40,
    ) -> AsyncIterator[Sipp]:
        """``calls`` calls to ``did`` at ``target``; the program ends by itself when they are over.

        ``digits``, and comfort noise after them, are what the scenario of that name sends.
        """
        options = [hostport(*target), "-s", did, "-r", str(per_second), "-d", str(hold_ms)]
        program = cls._run(
            folder,
            scenario,
            say,
            options,
            digits=digits,
            transport=transport,
            calls=calls,
            host=host,
            timeout_s=timeout_s,
        )
        async with program as sipp:
            yield sipp

    @classmethod
    @asynccontextmanager
    async def serve(
        cls,
        folder: Path,
        *,
        say: Samples,
        scenario: str,
        transport: str = "udp",
        calls: int = 1,
        host: str = "127.0.0.1",
        timeout_s: int = 40,
    ) -> AsyncIterator[Sipp]:
        """Called ``calls`` times at :attr:`address`, once it listens."""
        program = cls._run(folder, scenario, say, (), transport=transport, calls=calls, host=host, timeout_s=timeout_s)
        async with program as sipp:
            await until_bound(sipp.address[1], transport)
            yield sipp

    @classmethod
    @asynccontextmanager
    async def _run(
        cls,
        folder: Path,
        scenario: str,
        say: Samples,
        options: Sequence[str],
        *,
        transport: str,
        calls: int,
        host: str,
        timeout_s: int,
        digits: str = "",
    ) -> AsyncIterator[Sipp]:
        folder.mkdir(parents=True)
        (folder / "say.ulaw").write_bytes(encode_ulaw(say))
        (folder / "say.alaw").write_bytes(encode_alaw(say))
        (folder / "digits.pcap").write_bytes(_capture_of(digits))
        port, media = free_port(host), free_ports(4 * calls + 2, host)
        command: list[str | Path] = ["sipp", "-sf", _SCENARIOS / f"{scenario}.xml", *options]
        command += ["-i", host, "-mi", host, "-p", str(port), "-t", _TRANSPORTS[transport]]
        command += ["-mp", str(media), "-m", str(calls), "-l", str(calls)]
        command += ["-nostdin", "-timeout", str(timeout_s), "-timeout_error", "-trace_err", "-trace_msg"]
        command += ["-error_file", "errors.log", "-message_file", "messages.log"]
        async with running(*command, name="sipp", cwd=folder, environment={"TERM": "dumb"}) as program:
            yield cls(program, (host, port), range(media, media + 4 * calls + 2), folder)

    async def finish(self, timeout_s: float = 45.0) -> None:
        """Until all calls are over; AssertionError with its traces unless each went as its scenario says."""
        code = await self.program.wait(timeout_s)
        if code != 0:
            traces = [
                f"{name}:\n{path.read_text(errors='replace')[-4000:]}"
                for name in ("errors.log", "messages.log")
                if (path := self._folder / name).exists()
            ]
            raise AssertionError("\n".join([f"sipp: exit code {code}", *traces, *self.program.lines[-20:]]))
