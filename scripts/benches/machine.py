"""This machine: its facts, its cores, what the hypervisor stole, and an idle ticker on each core."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = [
    "EDGE_CORE",
    "LOAD_CORE",
    "Program",
    "Tickers",
    "build",
    "compiler",
    "cpu_s",
    "facts",
    "pin",
    "pinned",
]

EDGE_CORE, LOAD_CORE = 0, 1
SOURCES = Path(__file__).with_name("c")


def facts() -> dict[str, Any]:
    """What a figure depends on."""
    model = ""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {
        "cpu": model or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
    }


def pin(core: int) -> None:
    """This process to one core, where the system has it."""
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setaffinity(0, {core})


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """This process on another core for the time of a block."""
    before = os.sched_getaffinity(0)
    pin(core)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(frozen=True)
class Books:
    """The kernel's books of a core so far [s]: what the hypervisor took, what programs used."""

    stolen: float = 0.0
    used: float = 0.0


def books(core: int) -> Books:
    """From ``/proc/stat``. Programs of low priority give way, and interrupts are nobody's: neither is counted."""
    with contextlib.suppress(OSError, IndexError):
        for line in Path("/proc/stat").read_text().splitlines():
            fields = line.split()
            if fields[0] == f"cpu{core}":
                tick = os.sysconf("SC_CLK_TCK")
                return Books(int(fields[8]) / tick, (int(fields[1]) + int(fields[3])) / tick)
    return Books()


def cpu_s(pid: int) -> float:
    """User and system time of a process's living threads [s], to the nanosecond where the kernel tells."""
    total = 0.0
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError):
            total += int((task / "schedstat").read_text().split()[0]) / 1e9
    return total


def compiler() -> str | None:
    """A C compiler's path."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def build(name: str) -> Path:
    """The program made of ``c/NAME.c``, compiled once for each state of the sources. Raises CalledProcessError."""
    source = SOURCES / f"{name}.c"
    state = hashlib.sha256(source.read_bytes() + (SOURCES / "common.h").read_bytes()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"truedy-bench-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} is somebody else's")
    program = folder / f"{name}-{state}"
    if not program.exists():
        made = program.with_suffix(f".{os.getpid()}")
        subprocess.run([str(compiler()), "-O2", "-o", made, source], check=True)
        made.replace(program)
    return program


class Program:
    """A child that takes a line and gives back a line of JSON. It ends when its input does."""

    def __init__(self, *command: str | Path) -> None:
        self.process = subprocess.Popen([*map(str, command)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.hello = self._read()

    def _read(self) -> Any:
        """The next line of JSON; a peer may log before it."""
        for line in self.process.stdout or ():
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"{self.process.args} ended with status {self.process.wait()}")

    def send(self, line: str) -> None:
        """Ask; :meth:`answer` waits."""
        if self.process.stdin:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()

    def answer(self) -> Any:
        """Of the oldest question."""
        return self._read()

    def ask(self, line: str) -> Any:
        """Both."""
        self.send(line)
        return self.answer()

    def stop(self) -> None:
        """Close its input, wait for its end."""
        if self.process.stdin:
            self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


@dataclass(frozen=True)
class Idle:
    """What a core's idle ticker and the kernel's books say of a window. ``late`` as load.c prints samples.

    ``stolen``, ``used`` (by programs, the ticker too) and ``cpu`` (the ticker's own) are shares of the core.
    """

    late: dict[str, Any]
    stolen: float
    cpu: float
    used: float = 0.0


class Tickers:
    """An idle ticker on each core in use, at real-time priority where that is allowed."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("ticker_python.py")
        command = (sys.executable, script) if compiler() is None else (build("ticker"),)
        self._programs = {core: Program(*command, str(core)) for core in (EDGE_CORE, LOAD_CORE)}
        self._books: dict[int, Books] = {}

    def begin(self) -> None:
        """A window begins."""
        for each in self._programs.values():
            each.ask("")
        self._books = {core: books(core) for core in self._programs}

    def end(self, seconds: float) -> dict[int, Idle]:
        """By core."""
        found = {}
        for core, each in self._programs.items():
            said, before, after = each.ask(""), self._books[core], books(core)
            stolen, used = (after.stolen - before.stolen) / seconds, (after.used - before.used) / seconds
            found[core] = Idle(said["late_ms"], stolen, said["cpu"], used)
        return found

    def stop(self) -> None:
        """End both."""
        for each in self._programs.values():
            each.stop()


@contextlib.contextmanager
def tickers() -> Iterator[Tickers]:
    """For the time of a block."""
    made = Tickers()
    try:
        yield made
    finally:
        made.stop()
