"""``peers``: others that carry calls, under the same load on the same core, and the limit no bridge can beat."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from .edge import media_streams, served
from .machine import EDGE_CORE, LOAD_CORE, Program, build, compiler, cpu_s, tickers
from .report import Report
from .stand import Load, Stand, Window

__all__ = ["Missing", "bench", "limit"]

SETTLE_S = 3.0
_HERE = Path(__file__).parent


class Missing(Exception):
    """The peer is not installed; the text says what is missing."""


@dataclass(frozen=True)
class Peer:
    """A process that is called as the edge is."""

    pid: int
    port: int
    version: str

    def cpu_s(self) -> float:
        """User and system time so far [s]."""
        return cpu_s(self.pid)


@contextmanager
def limit(load: Load) -> Iterator[Peer]:
    """``c/limit.c``, bridging to the load's agents."""
    if compiler() is None:
        raise Missing("no C compiler (Debian: apt-get install gcc libc6-dev)")
    port = load.agents.rpartition(":")[2].strip("/")
    program = Program(build("limit"), str(EDGE_CORE), port)
    try:
        yield Peer(program.process.pid, int(program.hello["port"]), _compiler_version())
    finally:
        program.stop()


def _compiler_version() -> str:
    said = subprocess.run([str(compiler()), "--version"], capture_output=True, text=True, check=False).stdout
    return said.splitlines()[0] if said else "C"


@contextmanager
def pjsua(load: Load) -> Iterator[Peer]:
    """PJSIP by its Python wrapper, echoing through its conference bridge."""
    if importlib.util.find_spec("pjsua2") is None:
        raise Missing("pjsua2-python is not installed")
    program = Program("taskset", "-c", str(EDGE_CORE), sys.executable, _HERE / "peer_pjsua.py")
    try:
        yield Peer(program.process.pid, int(program.hello["port"]), f"PJSIP {program.hello['version']}")
    finally:
        program.stop()


_BARESIP = """\
poll_method epoll
sip_listen 127.0.0.1:{port}
call_local_timeout 120
call_max_calls 2000
audio_player aubridge,nil
audio_source aubridge,nil
ausrc_srate 8000
auplay_srate 8000
ausrc_channels 1
auplay_channels 1
audio_buffer 20-160
rtp_ports 34000-60000
jitter_buffer_delay 1-5
module_path {modules}
module g711.so
module aubridge.so
module_tmp account.so
module_app echo.so
net_interface 127.0.0.1
"""


@contextmanager
def baresip(load: Load) -> Iterator[Peer]:
    """baresip with its echo module."""
    program = shutil.which("baresip")
    modules = next(iter([*Path("/usr/lib/baresip").glob("modules"), *Path("/usr/lib").glob("*/baresip/modules")]), None)
    if program is None or modules is None:
        raise Missing("baresip is not installed (Debian: apt-get install baresip-core)")
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), _free_port()
        (folder / "config").write_text(_BARESIP.format(port=port, modules=modules))
        account = f"<sip:+15551230001@127.0.0.1:{port}>;regint=0;answermode=manual;audio_codecs=pcmu/8000/1\n"
        (folder / "accounts").write_text(account)
        (folder / "contacts").touch()
        command = ["taskset", "-c", str(EDGE_CORE), program, "-4", "-f", name]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        try:
            yield Peer(process.pid, port, _wait_for_baresip(process))
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()


def _wait_for_baresip(process: subprocess.Popen[str]) -> str:
    version = "baresip"
    for line in process.stdout or ():
        if "baresip v" in line:
            version = "baresip " + line.partition("baresip v")[2].split()[0]
        if "baresip is ready" in line:
            return version
    raise Missing("baresip did not start")


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class _Entry:
    """A peer, how it is called, and what it leaves out of what the edge does."""

    name: str
    start: Callable[[Load], contextlib.AbstractContextManager[Peer]]
    talk: str
    counts: tuple[int, ...]
    lacks: str
    rate: float = 20.0


_ENTRIES = (
    _Entry(
        "C limit",
        limit,
        "paced",
        (30, 100, 300),
        "system calls only: no jitter buffer, pacing, concealment, RTCP, digits, statistics, records or checks",
        100.0,
    ),
    _Entry(
        "baresip echo",
        baresip,
        "echo",
        (30, 60),
        "RTP back to RTP: no agent, no WebSocket; a thread's pace, two threads a call, no records",
    ),
    _Entry(
        "pjsua2 echo",
        pjsua,
        "echo",
        (4,),
        "RTP back to RTP through its conference bridge: no agent, no WebSocket; compiled for 4 calls; GPL",
    ),
)


def bench(report: Report, quick: bool) -> None:
    """Each peer after the other; CPU of the process that carries the calls."""
    seconds = 3.0 if quick else 10.0
    for entry in _ENTRIES:
        counts = entry.counts[-1:] if quick else entry.counts
        try:
            _of_peer(report, entry, counts, seconds)
        except Missing as missing:
            report.say(f"peers    {entry.name}: SKIPPED: {missing}")
    _pipecat(report, 5 if quick else 10, seconds)
    _ratios(report)


def _of_peer(report: Report, entry: _Entry, counts: tuple[int, ...], seconds: float) -> None:
    with ExitStack() as stack:
        load = Load()
        stack.callback(load.stop)
        idle = stack.enter_context(tickers())
        peer = stack.enter_context(entry.start(load))
        made = Stand(peer, load, idle)
        made.talk(entry.talk)
        held = 0
        for count in counts:
            try:
                made.call(count - held, entry.rate)
            except RuntimeError as error:
                report.say(f"peers    {entry.name}: no {count} calls: {error}")
                return
            held = count
            time.sleep(SETTLE_S)
            window = made.measure(seconds)
            _add(report, entry.name, f"{peer.version}; {entry.lacks}", window)
        made.hang()


def _add(report: Report, name: str, note: str, window: Window) -> None:
    what = f"{name}, {window.calls} calls: CPU a call"
    report.load.append(window.summary(f"peers: {what}"))
    report.series.setdefault(f"CPU a call, {name}", []).append([window.calls, window.cpu_a_call])
    sent = max(window.load["rtp_sent"], 1)
    back = window.load["rtp_received"] / sent
    report.add("peers", what, window.cpu_a_call, "% of core", None, window.doubt, f"{note}; {back:.0%} of packets back")
    if name == "C limit":
        report.series[f"pacing, {name}, {window.calls} calls"] = window.load["pacing_late_ms"].get("quantiles", [])


def _pipecat(report: Report, calls: int, seconds: float) -> None:
    """As the agent behind the edge: the CPU is that of pipecat's process, which has the load's core."""
    if importlib.util.find_spec("pipecat") is None:
        report.say("peers    pipecat: SKIPPED: pipecat-ai is not installed")
        return
    with ExitStack() as stack:
        load = Load()
        stack.callback(load.stop)
        idle = stack.enter_context(tickers())
        agent = Program("taskset", "-c", str(LOAD_CORE), sys.executable, _HERE / "peer_pipecat.py")
        stack.callback(agent.stop)
        edge = stack.enter_context(served(media_streams(agent.hello["url"])))
        made = Stand(edge, load, idle)
        made.talk("echo")
        made.call(calls, 5.0)
        time.sleep(SETTLE_S)
        before = cpu_s(agent.process.pid)
        window = made.measure(seconds)
        used = (cpu_s(agent.process.pid) - before) / window.seconds / calls * 100
        made.hang()
    what = f"pipecat's WebSocket transport, {calls} calls: CPU a call"
    report.series["CPU a call, pipecat's WebSocket transport"] = [[calls, used]]
    note = (
        f"pipecat-ai {agent.hello['version']}; the agent's end only, echoing: WebSocket, Twilio's serializer, its own "
        "pacing; no SIP, RTP or jitter buffer"
    )
    report.load.append(window.summary(f"peers: {what}"))
    report.add("peers", what, used, "% of core", None, window.doubt, note)


def _ratios(report: Report) -> None:
    """The edge's CPU a call against each peer's, where both were measured in this run."""
    ours = dict(report.series.get("CPU a call", []))
    if not ours:
        return
    for name, points in report.series.items():
        if not name.startswith("CPU a call, ") or name.startswith("CPU a call, media"):
            continue
        count, theirs = points[-1]
        nearest = min(ours, key=lambda each: abs(each - count))
        peer = name.removeprefix("CPU a call, ")
        what = f"the edge at {nearest} calls against {peer} at {count}: CPU a call"
        report.add("peers", what, ours[nearest] / theirs, "x")
