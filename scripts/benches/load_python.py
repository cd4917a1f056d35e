"""The load without a C compiler: the commands of ``c/load.c`` that matter most, for a few dozen calls.

It says so in its first line, and the bench says it beside the figures: its times are this process's, not the kernel's,
and its own cost is many times that of the program in C.

usage: python load_python.py CORE
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import time
from collections import Counter
from contextlib import suppress
from typing import Any

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

MARK = b"\x71\xf3\x74\xf6"
FRAME = 160
PHASES = 20
SHARES = (0.0, 0.5, 0.9, 0.95, 0.99, 1.0)


def frame_of(direction: int, call: int, number: int) -> bytes:
    """Twenty milliseconds that say whose they are; quiet codes only, half a second in each two and a half loud."""
    digits = f"{direction:x}{call & 0xFFF:03x}{number & 0xFFFFFF:06x}"
    stamp = bytes(0xF0 | int(digit, 16) for digit in digits)
    fill = 0xF3 if number % 125 >= 100 else 0x10 + (number + call) % 32
    return (MARK + stamp).ljust(FRAME, bytes([fill]))


class Ear:
    """Finds stamped frames in a stream, however it was cut."""

    def __init__(self, direction: int, call: int) -> None:
        self._direction, self._call = direction, call
        self._rest = b""
        self._next: int | None = None

    def hear(self, data: bytes, counts: Counter[str]) -> list[int]:
        """The numbers of the whole ones that are new."""
        stream, at, found = self._rest + data, 0, []
        while (at := stream.find(MARK, at)) >= 0 and at + FRAME <= len(stream):
            frame = stream[at : at + FRAME]
            number = int("".join(f"{code & 15:x}" for code in frame[8:14]), 16)
            at += FRAME if self._count(frame, number, counts, found) else len(MARK)
        self._rest = stream[at:] if at >= 0 else stream[-(len(MARK) - 1) :]
        return found

    def _count(self, frame: bytes, number: int, counts: Counter[str], found: list[int]) -> bool:
        if frame[:8] != frame_of(self._direction, self._call, number)[:8]:
            return False
        expected = number if self._next is None else self._next
        if number < expected:
            counts["repeated"] += 1
            return True
        counts["missing"] += number - expected
        self._next = number + 1
        whole = frame == frame_of(self._direction, self._call, number)
        counts["verified" if whole else "corrupted"] += 1
        if whole:
            found.append(number)
        return True


def summary(samples: list[float]) -> dict[str, Any]:
    """As load.c prints samples [ms]."""
    if not samples:
        return {"n": 0}
    ordered = sorted(1e3 * each for each in samples)
    at = {share: round(ordered[min(int(share * len(ordered)), len(ordered) - 1)], 4) for share in SHARES}
    quantiles = [[share, value] for share, value in at.items()]
    return {"n": len(ordered), "p50": at[0.5], "p95": at[0.95], "p99": at[0.99], "max": at[1.0], "quantiles": quantiles}


class Agent(WSListener):
    """Says 20 ms every 20 ms once its call flows."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._ear: Ear | None = None
        self._sid = ""
        self._said = 0
        self.call: Call | None = None
        self.transport: WSTransport | None = None

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close()
            transport.disconnect()
        elif frame.msg_type == WSMsgType.TEXT:
            message = json.loads(frame.get_payload_as_bytes())
            if message["event"] == "start":
                self._start(message["start"])
            elif message["event"] == "media" and self.call and self._ear:
                self.transport = transport
                for number in self._ear.hear(base64.b64decode(message["media"]["payload"]), self._load.to_agent):
                    self._load.trips.append(time.perf_counter() - self.call.sent[number])

    def _start(self, start: dict[str, Any]) -> None:
        self._sid = start["streamSid"]
        index = int(start["customParameters"]["from_number"][-4:])
        self.call = self._load.calls.get(index)
        if self.call is not None:
            self.call.agent = self
            self._ear = Ear(0, self.call.serial)

    def say(self) -> None:
        """The next frame; the first with three more."""
        if self.transport is None or self.call is None:
            return
        for _ in range(1 if self._said else 4):
            payload = base64.b64encode(frame_of(1, self.call.serial, self._said)).decode()
            text = f'{{"event":"media","streamSid":"{self._sid}","media":{{"payload":"{payload}"}}}}'
            self.transport.send(WSMsgType.TEXT, text.encode())
            self._said += 1


class Call(asyncio.DatagramProtocol):
    """One call's RTP, and what is known of its dialog."""

    def __init__(self, load: Load, index: int, serial: int) -> None:
        self._load = load
        self.index, self.serial = index, serial
        self._ear = Ear(1, serial)
        self.sent: list[float] = []
        self.agent: Agent | None = None
        self.transport: asyncio.DatagramTransport
        self.remote: tuple[str, int] | None = None
        self.to = self.contact = ""
        self.state = "invited"
        self.began = time.perf_counter()
        self.rang = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        now, load = time.perf_counter(), self._load
        timestamp = int.from_bytes(data[4:8], "big")
        load.received += 1
        load.places.setdefault(self.serial, []).append(now - timestamp / 8000)
        if data[12:] == b"\xff" * FRAME:
            load.to_phone["silent_frames"] += 1
        else:
            self._ear.hear(data[12:], load.to_phone)

    def send(self) -> None:
        """The next packet."""
        number = len(self.sent)
        head = bytes((0x80, 0)) + (number & 0xFFFF).to_bytes(2, "big") + (number * FRAME).to_bytes(4, "big")
        self.sent.append(time.perf_counter())
        self.transport.sendto(head + self.serial.to_bytes(4, "big") + frame_of(0, self.serial, number), self.remote)
        self._load.sent += 1


def header(message: str, name: str) -> str:
    return message.partition(f"\r\n{name}: ")[2].partition("\r\n")[0]


class Load(asyncio.DatagramProtocol):
    """SIP, and the clock of all calls."""

    def __init__(self) -> None:
        self.calls: dict[int, Call] = {}
        self._serial = 0
        self._edge, self._number = ("127.0.0.1", 9), ""
        self._speaks = True
        self.reset()

    def reset(self) -> None:
        """A window begins."""
        self.to_agent: Counter[str] = Counter()
        self.to_phone: Counter[str] = Counter()
        self.trips: list[float] = []
        self.late: list[float] = []
        self.ring: list[float] = []
        self.answer: list[float] = []
        self.places: dict[int, list[float]] = {}
        self.failures: Counter[str] = Counter()
        self.sent = self.received = self.refusals = self.placed = 0
        self._began, self._cpu = time.perf_counter(), time.process_time()

    def report(self) -> dict[str, Any]:
        """The window, as load.c says it."""
        seconds = time.perf_counter() - self._began
        late = [each - min(places) for places in self.places.values() for each in places]
        heard = ("verified", "corrupted", "missing", "repeated", "silent_frames")
        up = sum(call.state == "up" for call in self.calls.values())
        samples = {
            "generator_late_ms": self.late,
            "pacing_late_ms": late,
            "to_agent_ms": self.trips,
            "ring_ms": self.ring,
            "answer_ms": self.answer,
            "to_phone_ms": [],
            "to_agent_added_ms": [],
            "to_phone_added_ms": [],
            "interval_ms": [],
        }
        return {
            "seconds": seconds,
            "cpu": (time.process_time() - self._cpu) / seconds,
            "calls": up,
            "placed": self.placed,
            "to_agent": {name: self.to_agent[name] for name in heard},
            "to_phone": {name: self.to_phone[name] for name in heard},
            **{name: summary(values) for name, values in samples.items()},
            "rtp_sent": self.sent,
            "rtp_received": self.received,
            "refusals": self.refusals,
            "drops": 0,
            "again": 0,
            "clock_step_ms": 0.0,
            "failures": dict(self.failures),
        }

    # --- SIP ---

    def connection_made(self, transport: Any) -> None:
        self._sip = transport
        self.port = transport.get_extra_info("sockname")[1]

    def _send(  # noqa: PLR0917 - a message's parts in their order
        self, start: str, call_id: str, caller: str, to: str, branch: str, cseq: str, body: str = ""
    ) -> None:
        content = "Content-Type: application/sdp\r\n" if body else ""
        self._sip.sendto(
            (
                f"{start} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{self.port};branch=z9hG4bK{branch}\r\n"
                f"Max-Forwards: 70\r\nFrom: <sip:{caller}@127.0.0.1>;tag=f{branch[1:]}\r\nTo: {to}\r\n"
                f"Call-ID: {call_id}\r\nCSeq: {cseq}\r\nContact: <sip:bench@127.0.0.1:{self.port}>\r\n{content}"
                f"Content-Length: {len(body)}\r\n\r\n{body}"
            ).encode(),
            self._edge,
        )

    def _of_call(self, call: Call, method: str, cseq: int, branch: str, body: str = "") -> None:
        target = call.contact or f"sip:{self._number}@127.0.0.1"
        to = call.to or f"<sip:{self._number}@127.0.0.1>"
        caller, name = f"+1415555{call.index:04d}", f"b{call.serial}.{call.index}"
        self._send(f"{method} {target}", name, caller, to, f"{branch}{call.serial}", f"{cseq} {method}", body)

    async def place(self) -> Call:
        """One call; whoever waits looks at its state."""
        self._serial += 1
        self.placed += 1
        index = next(number for number in range(10000) if number not in self.calls)
        call = self.calls[index] = Call(self, index, self._serial)
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: call, ("127.0.0.1", 0))
        port = call.transport.get_extra_info("sockname")[1]
        call.began = time.perf_counter()
        self._of_call(call, "INVITE", 1, "i", sdp(port))
        return call

    def datagram_received(self, data: bytes, address: Any) -> None:
        message = data.decode()
        name = header(message, "Call-ID")
        if name.startswith("r"):
            self._refused(message, name)
            return
        call = self.calls.get(int(name.partition(".")[2] or -1))
        if call is None or not name.startswith(f"b{call.serial}."):
            return
        if message.startswith("SIP/2.0 "):
            self._responded(call, int(message[8:11]), message)
        elif message.startswith("BYE "):
            self.failures["ended by the edge"] += 1
            same = "".join(f"{key}: {header(message, key)}\r\n" for key in ("Via", "From", "To", "Call-ID", "CSeq"))
            self._sip.sendto(f"SIP/2.0 200 OK\r\n{same}Content-Length: 0\r\n\r\n".encode(), self._edge)
            self._forget(call)

    def _responded(self, call: Call, status: int, message: str) -> None:
        now = time.perf_counter()
        if "BYE" in header(message, "CSeq"):
            self._forget(call)
        elif status == 180 and not call.rang:
            call.rang = True
            self.ring.append(now - call.began)
        elif 200 <= status < 300:
            call.to, call.contact = header(message, "To"), header(message, "Contact").strip("<>")
            self._of_call(call, "ACK", 1, "a")
            if call.state == "invited":
                call.state = "up"
                self.answer.append(now - call.began)
                call.remote = ("127.0.0.1", int(message.partition("m=audio ")[2].split()[0]))
        elif status >= 300 and call.state == "invited":
            self.failures[str(status)] += 1
            call.to = header(message, "To")
            self._of_call(call, "ACK", 1, "i")
            self._forget(call)

    def _forget(self, call: Call) -> None:
        call.state = "gone"
        call.transport.close()
        self.calls.pop(call.index, None)

    def invite_unknown(self, number: int) -> None:
        """An INVITE that is to be refused."""
        to = "<sip:+15559999999@127.0.0.1>"
        name = f"r{number}"
        self._send("INVITE sip:+15559999999@127.0.0.1", name, "+14155550001", to, name, "1 INVITE", sdp(40000))

    def _refused(self, message: str, name: str) -> None:
        if message.startswith("SIP/2.0 1"):
            return
        self._send("ACK sip:+15559999999@127.0.0.1", name, "+14155550001", header(message, "To"), name, "1 ACK")
        self.refusals += message.startswith("SIP/2.0 404")
        self._unanswered -= 1

    # --- commands ---

    async def obey(self, line: str) -> dict[str, Any]:
        word, *given = line.split()
        if word == "edge":
            self._edge, self._number = ("127.0.0.1", int(given[0])), given[1]
            return {}
        if word == "talk":
            self._speaks = given[0] != "none"
            return {}
        self.reset()
        numbers = [float(each) for each in given]
        await getattr(self, f"_{word}")(*numbers)
        return self.report()

    async def _call(self, count: float, rate: float) -> None:
        placed = []
        for _ in range(int(count)):
            placed.append(await self.place())
            await asyncio.sleep(1 / rate)
        with suppress(TimeoutError):
            async with asyncio.timeout(20):
                while any(call.state == "invited" for call in placed):
                    await asyncio.sleep(0.01)
        for call in placed:
            if call.state == "invited":
                self.failures["no answer"] += 1
                self._forget(call)

    async def _measure(self, seconds: float, target_ms: float) -> None:
        await asyncio.sleep(seconds)

    async def _churn(self, seconds: float, rate: float, hold_s: float) -> None:
        until, due = time.perf_counter() + seconds, time.perf_counter()
        placed: list[Call] = []
        while time.perf_counter() < until or any(call.state in ("invited", "up") for call in placed):
            now = time.perf_counter()
            if due <= now < until:
                due += 1 / rate
                placed.append(await self.place())
            for call in placed:
                if call.state == "up" and now - call.began > hold_s:
                    call.state = "leaving"
                    self._of_call(call, "BYE", 2, "y")
            await asyncio.sleep(0.002)

    async def _hang(self) -> None:
        for call in tuple(self.calls.values()):
            call.state = "leaving"
            self._of_call(call, "BYE", 2, "y")
            await asyncio.sleep(0.005)
        with suppress(TimeoutError):
            async with asyncio.timeout(10):
                while self.calls:
                    await asyncio.sleep(0.01)

    async def _refuse(self, seconds: float, width: float) -> None:
        until, number, self._unanswered = time.perf_counter() + seconds, 0, 0
        while time.perf_counter() < until:
            while self._unanswered < width:
                self.invite_unknown(number)
                number += 1
                self._unanswered += 1
            await asyncio.sleep(0)

    async def keep_time(self) -> None:
        """Every call in its own millisecond of twenty."""
        start, slot = time.perf_counter(), 0
        while True:
            due = start + slot / 1000
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            late = time.perf_counter() - due
            for call in tuple(self.calls.values()):
                if call.state == "up" and call.serial % PHASES == slot % PHASES:
                    self.late.append(max(0.0, late))
                    call.send()
                if self._speaks and call.agent and (call.serial * 3 + 7) % PHASES == slot % PHASES:
                    call.agent.say()
            slot += 1


def sdp(port: int) -> str:
    return (
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        f"m=audio {port} RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\n"
        "a=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\n"
    )


async def main() -> None:
    load, loop = Load(), asyncio.get_running_loop()

    def accept(request: WSUpgradeRequest) -> WSListener:
        return Agent(load)

    server = await ws_create_server(accept, "127.0.0.1", 0)
    await loop.create_datagram_endpoint(lambda: load, ("127.0.0.1", 0))
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"agents": f"ws://127.0.0.1:{port}/", "sip": load.port, "python": True}), flush=True)
    clock = asyncio.create_task(load.keep_time())
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(await load.obey(line)), flush=True)
    clock.cancel()


if __name__ == "__main__":
    with suppress(OSError):
        os.sched_setaffinity(0, {int(sys.argv[1])} if int(sys.argv[1]) >= 0 else os.sched_getaffinity(0))
    uvloop.run(main())
