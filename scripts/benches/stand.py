"""The test stand: an edge on core 0, the load on core 1, an idle ticker on both, and windows in which all are read."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .doubts import reasons
from .edge import ECHO, NUMBER, Served, media_streams, served
from .machine import EDGE_CORE, LOAD_CORE, Idle, Program, Tickers, build, compiler, tickers

__all__ = ["TARGET_MS", "Load", "Stand", "Subject", "Window", "stand"]

TARGET_MS = 10.0
"""The jitter buffer's target on a network without jitter."""


class Subject(Protocol):
    """What is called: the edge, or a peer."""

    @property
    def port(self) -> int:
        """Of SIP, on 127.0.0.1."""

    def cpu_s(self) -> float:
        """User and system time so far [s]."""


@dataclass(frozen=True)
class Window:
    """What one command of the load went through. ``cpu``: of the subject, in cores."""

    load: Mapping[str, Any]
    idle: Mapping[int, Idle]
    cpu: float
    seconds: float

    @property
    def doubt(self) -> str:
        """Why its figures are not the edge's; empty when they are."""
        return ", ".join(reasons(self.load, self.idle, self.cpu))

    @property
    def calls(self) -> int:
        """Held at its end."""
        return int(self.load["calls"])

    @property
    def cpu_a_call(self) -> float:
        """Per cent of a core."""
        return self.cpu / max(self.calls, 1) * 100

    @property
    def failures(self) -> int:
        """Calls that did not come about, or that the edge ended."""
        return sum(self.load["failures"].values())

    def verified(self, way: str) -> float:
        """Per cent of the frames that went ``to_agent`` or ``to_phone`` and came whole, once and in order."""
        heard = self.load[way]
        whole = heard["verified"]
        return 100.0 * whole / max(whole + heard["missing"] + heard["corrupted"] + heard["repeated"], 1)

    @property
    def beyond_idle_ms(self) -> float:
        """Sent-packet pacing p99 less the idle ticker's on the same core [ms]."""
        return float(self.load["pacing_late_ms"].get("p99", 0.0) - self.idle[EDGE_CORE].late.get("p99", 0.0))

    def summary(self, what: str) -> dict[str, Any]:
        """What stands beside the figures in the report."""
        return {
            "what": what,
            "seconds": round(self.seconds, 3),
            "calls": self.calls,
            "edge_cpu": round(self.cpu, 5),
            "load_cpu": self.load["cpu"],
            "load_late_p99_ms": self.load["generator_late_ms"].get("p99"),
            "drops": self.load["drops"],
            "idle": {
                str(core): {
                    "p99_ms": one.late.get("p99"),
                    "max_ms": one.late.get("max"),
                    "stolen": one.stolen,
                    "used": one.used,
                }
                for core, one in self.idle.items()
            },
            "failures": dict(self.load["failures"]),
            "doubt": self.doubt,
        }


class Load:
    """``c/load.c`` on core 1; without a compiler, or when ``in_python``, ``load_python.py``."""

    def __init__(self, *, in_python: bool = False) -> None:
        in_python = in_python or compiler() is None
        command = (sys.executable, Path(__file__).with_name("load_python.py")) if in_python else (build("load"),)
        self._program = Program(*command, str(LOAD_CORE))
        self.agents = str(self._program.hello["agents"])

    def ask(self, command: str) -> Any:
        """Until it is done."""
        return self._program.ask(command)

    def send(self, command: str) -> None:
        """Begin; :meth:`answer` waits for the end."""
        self._program.send(command)

    def answer(self) -> Any:
        """Of the command under way."""
        return self._program.answer()

    def stop(self) -> None:
        """End it."""
        self._program.stop()


class Stand:
    """A subject, its load and the tickers."""

    def __init__(self, subject: Subject, load: Load, idle: Tickers) -> None:
        self.subject = subject
        self.load = load
        self._idle = idle
        load.ask(f"edge {subject.port} {NUMBER}")

    def talk(self, how: str) -> None:
        """What the agents say."""
        self.load.ask(f"talk {how}")

    def window(self, command: str, meanwhile: Callable[[], None] | None = None) -> Window:
        """Everything there is to say of one command."""
        self._idle.begin()
        cpu, began = self.subject.cpu_s(), time.perf_counter()
        self.load.send(command)
        if meanwhile is not None:
            meanwhile()
        said = self.load.answer()
        seconds = time.perf_counter() - began
        used = self.subject.cpu_s() - cpu
        return Window(said, self._idle.end(seconds), used / seconds, seconds)

    def call(self, count: int, rate: float = 50.0) -> Window:
        """So many calls more, kept. Raises RuntimeError when one does not come about."""
        window = self.window(f"call {count} {rate}")
        if window.failures:
            raise RuntimeError(f"{window.failures} of {count} calls failed: {window.load['failures']}")
        return window

    def measure(self, seconds: float, meanwhile: Callable[[], None] | None = None) -> Window:
        """What the held calls go through in this time."""
        return self.window(f"measure {seconds} {TARGET_MS}", meanwhile)

    def churn(self, seconds: float, rate: float, hold_s: float, meanwhile: Callable[[], None] | None = None) -> Window:
        """Calls that end by themselves."""
        return self.window(f"churn {seconds} {rate} {hold_s}", meanwhile)

    def hang(self) -> Window:
        """End all."""
        return self.window("hang")


@contextmanager
def stand(pipeline: str = "twilio-media-streams", workers: int | None = None) -> Iterator[tuple[Stand, Served]]:
    """An edge whose number is answered by the load's own agents, or by the built-in echo."""
    with ExitStack() as stack:
        load = Load()
        stack.callback(load.stop)
        idle = stack.enter_context(tickers())
        spoken = media_streams(load.agents) if pipeline != "builtin" else ECHO
        edge = stack.enter_context(served(spoken, workers))
        yield Stand(edge, load, idle), edge
