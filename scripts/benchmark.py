"""The benches behind ``scripts/bench``: each measures one thing and says when it could not.

The edge is a process of its own on core 0; what loads it is on core 1 and reports its own CPU. A bench whose load
was the bottleneck, or whose idle 20 ms ticker was late, is *inconclusive*: its figures are not the edge's.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import platform
import resource
import secrets
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from control.entropy import entropy, new_id
from control.registry.sqlite import SqliteRegistry
from control.registry.types import Account, Agent, Number
from edge.message import Request, parse, response_to

EDGE_CORE, LOAD_CORE = 0, 1
NUMBER = "+15551230001"
TICK_LATE_MS = 1.0
LOAD_CPU = 0.85
MARK = b"BEEP"
MARK_LENGTH = len(MARK) + 6

INVITE = (
    b"INVITE sip:12014269044@203.0.113.5:5060;transport=udp SIP/2.0\r\n"
    b"Record-Route: <sip:64.16.250.10;r2=on;lr;ftag=as7d8f>\r\n"
    b"Record-Route: <sip:10.255.0.2;r2=on;lr;ftag=as7d8f>\r\n"
    b"Record-Route: <sip:10.231.83.184:6050;lr;tnx=kdjf83>\r\n"
    b"Via: SIP/2.0/UDP 64.16.250.10;branch=z9hG4bK4a5f.7ed3a0b1.0\r\n"
    b"Via: SIP/2.0/UDP 10.231.83.184:6050;branch=z9hG4bK4a5f.11\r\n"
    b"v:SIP/2.0/UDP 10.231.91.24:6000;received=10.231.91.24;rport=6000;branch=z9hG4bKX9\r\n"
    b"Max-Forwards:24\r\n"
    b'f:"919113162180"<sip:919113162180@sip.telnyx.com>;tag=0e7XmcQKp\r\n'
    b"t:<sip:12014269044@10.231.83.184>\r\n"
    b"i:70f83b11-5dd1-123d-2e8c-0242ac110003\r\nCSeq:115676495 INVITE\r\n"
    b"m:<sip:mod_sofia@10.231.91.24:6000>\r\nUser-Agent:Telnyx SIP\r\n"
    b"Allow:INVITE,ACK,BYE,CANCEL,OPTIONS,MESSAGE,INFO,UPDATE,REGISTER,REFER,NOTIFY\r\n"
    b"k:timer,path\r\nu:talk,hold,conference,refer\r\nc:application/sdp\r\n"
    b"X-Telnyx-Session-ID:e2e1c6ba-0000-11ef-9a7c-02420aef4f1a\r\n"
    b'P-Asserted-Identity:"919113162180"<sip:919113162180@sip.telnyx.com;verstat=TN-Validation-Passed-C>\r\n'
    b"l:%d\r\n\r\n%b"
)
SDP = (
    b"v=0\r\no=Telnyx 1 2 IN IP4 103.115.244.150\r\ns=Telnyx\r\nc=IN IP4 103.115.244.150\r\nt=0 0\r\n"
    b"m=audio 19888 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n"
    b"a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\n"
)


@dataclass
class Row:
    """One figure. ``target`` is what the project asks for; ``doubt`` says why it is inconclusive."""

    bench: str
    what: str
    value: float
    unit: str
    target: float | None = None
    doubt: str = ""


@dataclass
class Report:
    machine: str
    python: str
    rows: list[Row] = field(default_factory=list)

    def add(self, *row: Any, **more: Any) -> None:
        made = Row(*row, **more)
        self.rows.append(made)
        target = f"(asked for: {made.target:g})" if made.target is not None else ""
        print(f"{made.bench:9} {made.what:52} {made.value:12,.3f} {made.unit:9} {target} {made.doubt}", flush=True)


def pin(core: int) -> None:
    with suppress(OSError, AttributeError):
        os.sched_setaffinity(0, {core})


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


# --- in this process --------------------------------------------------------------------------


def bench_parse(report: Report, quick: bool) -> None:
    """Parse an INVITE as Telnyx sends it and build its 200."""
    data = INVITE % (len(SDP), SDP)

    def once() -> bytes:
        message = parse(data)
        if not isinstance(message, Request):
            raise TypeError
        headers = [("Contact", "<sip:203.0.113.5:5060>"), ("Content-Type", "application/sdp")]
        return bytes(response_to(message, 200, to_tag="a8f3", headers=headers, body=SDP))

    best = min(_timed(once, 2000) for _ in range(5 if quick else 20))
    report.add("parse", f"INVITE of {len(data)} bytes and its 200", best * 1e6, "µs", target=15.0)


def _timed(work: Callable[[], object], count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        work()
    return (time.perf_counter() - began) / count


def bench_registry(report: Report, quick: bool) -> None:
    """Look a number up among many, as each call does."""
    count = 100_000 if quick else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        taken = asyncio.run(_lookups(Path(folder) / "registry.db", count))
    report.add("registry", f"lookup among {count:,} numbers, p50", percentile(taken, 0.50) * 1e6, "µs")
    report.add("registry", f"lookup among {count:,} numbers, p99", percentile(taken, 0.99) * 1e6, "µs", target=50.0)


async def _lookups(path: Path, count: int) -> list[float]:
    registry = SqliteRegistry.open(path)
    try:
        await registry.create_account(Account("acme", "acme", 0.0))
        await registry.create_agent(Agent("agent", "acme", "A", {"protocol": "builtin", "name": "echo"}, 0.0, 0.0))
        first = Number(new_id(entropy), "acme", "+1000", "", "sip", "lab", "active", 0.0, 0.0, "agent")
        await registry.create_number(first)
        _fill(path, count)
        taken = []
        for index in range(20_000):
            number = f"+1{(index * 7919) % count:09d}"
            began = time.perf_counter()
            route = await registry.route("lab", number)
            taken.append(time.perf_counter() - began)
            if route is None:
                raise LookupError(number)
        return taken
    finally:
        await registry.close()


def _fill(path: Path, count: int) -> None:
    """Many rows like the first one, by SQL: imports one at a time would take minutes."""
    import sqlite3  # noqa: PLC0415

    with sqlite3.connect(path) as connection:
        names = [row[1] for row in connection.execute("PRAGMA table_info(numbers)")]
        row = dict(zip(names, connection.execute("SELECT * FROM numbers").fetchone(), strict=True))
        key = "phone_number"
        marks = ", ".join("?" for _ in names)
        connection.executemany(
            f"INSERT INTO numbers ({', '.join(names)}) VALUES ({marks})",
            ([*(row | {"id": f"n{index}", key: f"+1{index:09d}"}).values()] for index in range(count)),
        )
    connection.close()


# --- the edge as a process --------------------------------------------------------------------


class Served:
    """``truedy-edge serve`` on core 0 with a lab trunk, raised limits and an agent on :data:`NUMBER`."""

    def __init__(self, folder: Path, pipeline: dict[str, Any]) -> None:
        self.config = folder / "edge.toml"
        self.config.write_text(
            '[sip]\nlisten = ["udp:127.0.0.1:0"]\n[api]\nlisten = "127.0.0.1:0"\n'
            f'[registry]\npath = "{folder / "registry.db"}"\n'
            f'[secrets]\nkey = "{base64.b64encode(secrets.token_bytes(32)).decode()}"\n'
            "[agents]\nallow_private = true\n"
            "[limits]\ncalls = 2000\ncalls_per_account = 2000\ncalls_per_trunk = 2000\ncalls_per_did = 2000\n"
            "calls_per_caller = 2000\nattempts_per_second = 100000.0\nattempts_burst = 100000\n"
            '[[trunks]]\nname = "lab"\naddresses = ["127.0.0.0/8"]\nlab = true\nallow_private_media = true\n'
        )
        self.command = Path(sys.executable).with_name("truedy-edge")
        began = time.perf_counter()
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                ["taskset", "-c", str(EDGE_CORE), self.command, "serve", "--config", self.config],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        line = self.process.stdout.readline() if self.process.stdout else ""
        self.start_s = time.perf_counter() - began
        ready = json.loads(line)
        host, _, port = ready["sip"][0].removeprefix("udp:").rpartition(":")
        self.address = (host, int(port))
        self._number(ready["http"] + "/api/public/v1", pipeline)

    def _number(self, url: str, pipeline: dict[str, Any]) -> None:
        self._run("accounts", "create", "bench")
        key = self._run("keys", "create", "--account", "bench", "--operator")

        def ask(method: str, path: str, body: dict[str, Any]) -> Any:
            headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
            request = urllib.request.Request(url + path, json.dumps(body).encode(), headers, method=method)
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.load(answer)["data"]

        import_ = {"phone_number": NUMBER, "provider": "sip", "provider_trunk": "lab"}
        number = ask("POST", "/telephony/numbers/import", import_)
        agent = ask("POST", "/agents", {"name": "bench", "pipeline": pipeline})
        ask("PATCH", f"/telephony/numbers/{number['id']}", {"agent_id": agent["id"]})

    def _run(self, *arguments: str) -> str:
        command = [str(self.command), *arguments, "--config", str(self.config), "--log-level", "error"]
        return str(subprocess.run(command, check=True, capture_output=True, text=True).stdout).strip()

    def _family(self) -> Iterator[tuple[Path, list[str]]]:
        """The edge and its media processes: (directory in /proc, fields of stat after the name)."""
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                fields = stat.read_text().rpartition(")")[2].split()
                if str(self.process.pid) in (fields[1], stat.parent.name):
                    yield stat.parent, fields

    def cpu_s(self) -> float:
        """User and system time so far [s]."""
        ticks = sum(int(fields[11]) + int(fields[12]) for _, fields in self._family())
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory_kb(self) -> int:
        """Resident and not shared [kB]: what would be free without them."""
        total = 0
        for directory, _ in self._family():
            with suppress(OSError):
                fields = dict(line.split(":", 1) for line in (directory / "smaps_rollup").read_text().splitlines()[1:])
                total += sum(int(fields[name].split()[0]) for name in ("Private_Clean", "Private_Dirty"))
        return total

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        if self.process.stdout:
            self.process.stdout.close()


@contextmanager
def served(pipeline: dict[str, Any] | None = None) -> Iterator[Served]:
    with tempfile.TemporaryDirectory() as folder:
        edge = Served(Path(folder), pipeline or {"protocol": "builtin", "name": "echo"})
        try:
            yield edge
        finally:
            edge.stop()


def bench_start(report: Report, quick: bool) -> None:
    """From the command to the ready line."""
    taken = []
    for _ in range(2 if quick else 5):
        with served() as edge:
            taken.append(edge.start_s)
    report.add("start", "from the command to the ready line, best", min(taken), "s", target=1.5)


def _invite(number: str, index: int, port: int, rtp_port: int) -> bytes:
    sdp = (
        f"v=0\r\no=- {index} 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        f"m=audio {rtp_port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=ptime:20\r\n"
    )
    return (
        f"INVITE sip:{number}@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bKb{index}\r\n"
        f"Max-Forwards: 70\r\nFrom: <sip:+1415555{index % 10000:04d}@127.0.0.1>;tag=f{index}\r\n"
        f"To: <sip:{number}@127.0.0.1>\r\nCall-ID: bench-{index}\r\nCSeq: 1 INVITE\r\n"
        f"Contact: <sip:bench@127.0.0.1:{port}>\r\nContent-Type: application/sdp\r\n"
        f"Content-Length: {len(sdp)}\r\n\r\n{sdp}"
    ).encode()


def _field(message: bytes, name: bytes) -> bytes:
    return message.partition(b"\r\n" + name + b": ")[2].partition(b"\r\n")[0]


def _in_dialog(method: str, cseq: int, index: int, port: int, answer: bytes) -> bytes:
    target = _field(answer, b"Contact").strip(b"<>").decode() or "sip:127.0.0.1"
    to = _field(answer, b"To").decode()
    return (
        f"{method} {target} SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bK{method.lower()}{index}.{cseq}\r\n"
        f"Max-Forwards: 70\r\nFrom: <sip:+1415555{index % 10000:04d}@127.0.0.1>;tag=f{index}\r\nTo: {to}\r\n"
        f"Call-ID: bench-{index}\r\nCSeq: {cseq} {method}\r\nContent-Length: 0\r\n\r\n"
    ).encode()


def _acknowledged(answer: bytes, index: int, port: int) -> bytes:
    """The ACK of a failure: in the INVITE's own transaction (RFC 3261 §17.1.1.3)."""
    return _in_dialog("ACK", 1, index, port, answer).replace(b"z9hG4bKack%d.1" % index, b"z9hG4bKb%d" % index)


def bench_refuse(report: Report, quick: bool) -> None:
    """INVITEs for a number that is not here: looked up, refused with 404, acknowledged. As many as it takes."""
    pin(LOAD_CORE)
    seconds = 2.0 if quick else 8.0
    with served() as edge, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        udp.bind(("127.0.0.1", 0))
        udp.connect(edge.address)
        udp.settimeout(1.0)
        port = udp.getsockname()[1]
        window, sent, refused = 64, 0, 0
        cpu, own, began = edge.cpu_s(), time.process_time(), time.perf_counter()
        while (elapsed := time.perf_counter() - began) < seconds:
            while sent - refused < window:
                udp.send(_invite("+15559999999", sent, port, 40000))
                sent += 1
            answer = udp.recv(4096)
            if answer.startswith(b"SIP/2.0 404"):
                index = int(_field(answer, b"Call-ID").removeprefix(b"bench-"))
                refused += 1
                udp.send(_acknowledged(answer, index, port))
        busy = (time.process_time() - own) / elapsed
        used = (edge.cpu_s() - cpu) / elapsed
    doubt = f"inconclusive: the load used {busy:.0%} of its core" if busy > LOAD_CPU and used < 0.9 else ""
    report.add("refuse", "404 after the lookup, on one core", refused / elapsed, "/s", target=1500.0, doubt=doubt)
    report.add("refuse", "edge CPU a refused call", used * elapsed / max(refused, 1) * 1e3, "ms")


# --- bridged calls ----------------------------------------------------------------------------


class _EchoAgent(WSListener):
    """A Media Streams agent that returns each frame as it comes."""

    def __init__(self) -> None:
        self._sid = ""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
        elif frame.msg_type == WSMsgType.TEXT:
            text = frame.get_payload_as_utf8_text()
            if '"media"' in text[:40]:
                payload = text.partition('"payload":"')[2].partition('"')[0]
                answer = f'{{"event":"media","streamSid":"{self._sid}","media":{{"payload":"{payload}"}}}}'
                transport.send(WSMsgType.TEXT, answer.encode())
            elif '"start"' in text:
                self._sid = json.loads(text)["start"]["streamSid"]


class _Load(asyncio.DatagramProtocol):
    """One call's RTP. Each frame begins with its number, and is looked for in the stream that comes back.

    The edge cuts the stream anew, so a frame may come back in two packets; digits survive a change of law.
    """

    def __init__(self) -> None:
        self.sent_at: list[float] = []
        self.returned: set[int] = set()
        self.round_trips: list[float] = []
        self._rest = b""

    def datagram_received(self, data: bytes, address: Any) -> None:
        stream = self._rest + data[12:]
        at = stream.find(MARK)
        while 0 <= at <= len(stream) - MARK_LENGTH:
            number = stream[at + len(MARK) : at + MARK_LENGTH]
            if number.isdigit() and int(number) < len(self.sent_at):
                self.returned.add(int(number))
                self.round_trips.append(time.perf_counter() - self.sent_at[int(number)])
            at = stream.find(MARK, at + MARK_LENGTH)
        self._rest = stream[-(MARK_LENGTH - 1) :]


def bench_bridge(report: Report, quick: bool) -> None:
    """G.711 calls bridged to an agent: CPU a call, every frame verified by its content, and the round trip."""
    pin(LOAD_CORE)
    counts = (20, 50) if quick else (30, 100)
    for name in ("builtin echo", "twilio-media-streams"):
        for calls in counts:
            uvloop.run(_bridge(report, name, calls, 6.0 if quick else 20.0))


async def _bridge(report: Report, name: str, calls: int, seconds: float) -> None:
    def accept(request: WSUpgradeRequest) -> WSListener:
        return _EchoAgent()

    server = await ws_create_server(accept, "127.0.0.1", 0)
    url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    pipelines: dict[str, dict[str, Any]] = {
        "builtin echo": {"protocol": "builtin", "name": "echo"},
        "twilio-media-streams": {"protocol": "twilio-media-streams", "url": url, "answer_after_s": 0.0},
    }
    with tempfile.TemporaryDirectory() as folder:
        edge = await asyncio.to_thread(Served, Path(folder), pipelines[name])
        try:
            await _bridged(report, edge, name, calls, seconds)
        finally:
            await asyncio.to_thread(edge.stop)
    server.close()
    await server.wait_closed()


async def _bridged(report: Report, edge: Served, name: str, calls: int, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    idle_kb = edge.memory_kb()
    dialogs = await _set_up(edge, calls)
    loads = []
    for index in range(calls):
        transport, load = await loop.create_datagram_endpoint(_Load, sock=dialogs[index].rtp)
        loads.append((transport, load))
    late: list[float] = []
    frames, began = int(seconds / 0.02), time.perf_counter()
    cpu, own, wall = edge.cpu_s(), time.process_time(), time.perf_counter()
    for frame in range(frames):
        due = began + frame * 0.02
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        late.append(max(0.0, time.perf_counter() - due))
        head = struct.pack("!BBHI", 0x80, 0, frame & 0xFFFF, frame * 160)
        payload = (MARK + b"%06d" % frame).ljust(160, b"\xff")
        for index, (transport, load) in enumerate(loads):
            load.sent_at.append(time.perf_counter())
            transport.sendto(head + struct.pack("!I", index + 1) + payload, dialogs[index].remote)
    elapsed = time.perf_counter() - wall
    used, busy = (edge.cpu_s() - cpu) / elapsed, (time.process_time() - own) / elapsed
    grown_kb = edge.memory_kb() - idle_kb
    await asyncio.sleep(0.3)
    for transport, _ in loads:
        transport.close()
    await _tear_down(edge, dialogs)
    trips = [trip for _, load in loads for trip in load.round_trips[25:]]
    verified = sum(len(load.returned) for _, load in loads) / (frames * calls)
    doubts = []
    if busy > LOAD_CPU:
        doubts.append(f"the load used {busy:.0%} of its core")
    if percentile(late, 0.99) > TICK_LATE_MS / 1e3:
        doubts.append(f"the load's ticker was late by {percentile(late, 0.99) * 1e3:.1f} ms (p99)")
    doubt = f"inconclusive: {', '.join(doubts)}" if doubts else ""
    what = f"{calls} calls to {name}"
    report.add("bridge", f"{what}: CPU a call", used / calls * 100, "% of core", target=0.22, doubt=doubt)
    report.add("bridge", f"{what}: frames back, verified", verified * 100, "%", doubt=doubt)
    if trips:
        report.add("bridge", f"{what}: there and back, p50", percentile(trips, 0.50) * 1e3, "ms", doubt=doubt)
        report.add("bridge", f"{what}: there and back, p99", percentile(trips, 0.99) * 1e3, "ms", doubt=doubt)
    report.add("bridge", f"{what}: memory a call", grown_kb / calls, "kB", target=150.0, doubt=doubt)


@dataclass
class _Dialog:
    index: int
    rtp: socket.socket
    answer: bytes = b""
    remote: tuple[str, int] = ("", 0)


async def _set_up(edge: Served, calls: int) -> list[_Dialog]:
    """The INVITEs, one after the other; RTP sockets bound beforehand."""
    loop = asyncio.get_running_loop()
    dialogs = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sip:
        sip.setblocking(False)
        sip.bind(("127.0.0.1", 0))
        sip.connect(edge.address)
        port = sip.getsockname()[1]
        for index in range(calls):
            rtp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            rtp.setblocking(False)
            rtp.bind(("127.0.0.1", 0))
            dialog = _Dialog(index, rtp)
            await loop.sock_sendall(sip, _invite(NUMBER, index, port, rtp.getsockname()[1]))
            async with asyncio.timeout(10):
                while not dialog.answer:
                    message = await loop.sock_recv(sip, 4096)
                    if message.startswith(b"SIP/2.0 200"):
                        dialog.answer = message
                    elif not message.startswith(b"SIP/2.0 1"):
                        raise RuntimeError(message.partition(b"\r\n")[0].decode())
            media = int(dialog.answer.partition(b"m=audio ")[2].split(b" ")[0])
            dialog.remote = ("127.0.0.1", media)
            await loop.sock_sendall(sip, _in_dialog("ACK", 1, index, port, dialog.answer))
            dialogs.append(dialog)
    return dialogs


async def _tear_down(edge: Served, dialogs: list[_Dialog]) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sip:
        sip.setblocking(False)
        sip.bind(("127.0.0.1", 0))
        sip.connect(edge.address)
        port = sip.getsockname()[1]
        for dialog in dialogs:
            await loop.sock_sendall(sip, _in_dialog("BYE", 2, dialog.index, port, dialog.answer))
            async with asyncio.timeout(5):
                await loop.sock_recv(sip, 4096)


BENCHES: dict[str, Callable[[Report, bool], None]] = {
    "parse": bench_parse,
    "registry": bench_registry,
    "start": bench_start,
    "refuse": bench_refuse,
    "bridge": bench_bridge,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("benches", nargs="*", metavar="BENCH", help=" ".join(BENCHES))
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.benches) - set(BENCHES)):
        parser.error(f"no bench called {unknown[0]}")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    report = Report(f"{platform.machine()}, {os.cpu_count()} cores", platform.python_version())
    print(f"# {report.machine}, Python {report.python}, {platform.system()} {platform.release()}")
    for name in arguments.benches or BENCHES:
        BENCHES[name](report, arguments.quick)
    if arguments.json:
        arguments.json.write_text(json.dumps(asdict(report), indent=1) + "\n")
    return 0
