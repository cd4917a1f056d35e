"""An agent's surroundings, in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from media.agents import recordings
from media.agents.base import Encoding, EndCause, Host
from media.convert import frame_bytes
from media.messages import AgentSpec, CallContext
from media.targets import Targets
from media.websocket import Arrivals, FailureCause, Headers, LinkHandler
from tests.support.clock import FakeClock

CONTEXT = CallContext(
    call_sid="CA" + "1" * 32,
    account_sid="AC" + "2" * 32,
    direction="inbound",
    from_number="+14155550100",
    to_number="+14155550199",
    trunk="lab",
    headers={"X-Campaign": "spring"},
    identity={"verstat": "TN-Validation-Passed-A"},
)

RECORDINGS = recordings.load()


class FakePort:
    """The bridge as an agent sees it; ``log`` is what was asked of it, in order."""

    def __init__(self, encoding: Encoding = "PCMU") -> None:
        self.encoding = encoding
        self.playing = False
        self.played_ms = 0
        self.queued_ms = 0
        self.outstanding: tuple[str, ...] = ()
        self.log: list[tuple[Any, ...]] = []

    def started(self) -> None:
        self.log.append(("started",))

    def ready(self) -> None:
        self.log.append(("ready",))

    def play(self, audio: bytes, encoding: Encoding) -> None:
        self.playing = True
        self.queued_ms += len(audio) * 20 // frame_bytes(encoding)
        self.log.append(("play", audio, encoding))

    def clear(self) -> tuple[str, ...]:
        self.playing = False
        self.queued_ms = 0
        self.log.append(("clear",))
        names, self.outstanding = self.outstanding, ()
        return names

    def mark(self, name: str) -> None:
        self.log.append(("mark", name))

    def send_digits(self, digits: str) -> None:
        self.log.append(("digits", digits))

    def ask(self, verb: str, arguments: Mapping[str, str]) -> None:
        self.log.append(("ask", verb, dict(arguments)))

    def hang_up(self, headers: Mapping[str, str] | None = None) -> None:
        self.log.append(("hang_up",) if not headers else ("hang_up", dict(headers)))

    def note(self, event: str, detail: str = "") -> None:
        self.log.append(("note", event, detail))

    def failed(self, cause: FailureCause, message: str) -> None:
        self.log.append(("failed", cause, message))

    def ended(self, cause: EndCause, message: str) -> None:
        self.log.append(("ended", cause, message))

    def plays(self, ms: int) -> None:
        """Some of what waits is heard."""
        heard = min(ms, self.queued_ms)
        self.played_ms += heard
        self.queued_ms -= heard

    def take(self) -> list[tuple[Any, ...]]:
        """The log so far, emptied."""
        log, self.log = self.log, []
        return log


class FakeLink:
    """A link that is open and writable until told otherwise."""

    def __init__(self) -> None:
        self.writable = True
        self.sent: list[bytes] = []
        self.binary: list[bool] = []
        self.closed = False

    def send(self, data: bytes) -> None:
        self.sent.append(data)
        self.binary.append(False)

    def send_binary(self, data: bytes) -> None:
        self.sent.append(data)
        self.binary.append(True)

    def read_at_ticks(self, arrivals: Arrivals) -> None:
        """There is nothing to read."""

    def close(self) -> None:
        self.closed = True


class FakeWebSockets:
    """Hands out one :class:`FakeLink` and keeps what was asked."""

    def __init__(self) -> None:
        self.link = FakeLink()
        self.asked: list[tuple[str, float]] = []
        self.headers: list[Headers] = []
        self.anywhere: list[bool] = []

    def connect(
        self,
        url: str,
        handler: LinkHandler,
        timeout_s: float,
        name: str,
        headers: Headers = (),
        *,
        anywhere: bool = False,
    ) -> FakeLink:
        self.headers.append(headers)
        self.anywhere.append(anywhere)
        self.asked.append((url, timeout_s))
        return self.link


class FakeTimers:
    """``call_later`` on a fake clock: :meth:`advance` calls what has become due, in order."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self._due: list[tuple[float, int, FakeTimer]] = []

    def __call__(self, delay_s: float, function: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer(function)
        self._due.append((self.clock() + delay_s, len(self._due), timer))
        return timer

    def advance(self, seconds: float) -> None:
        """Time passes."""
        end = self.clock() + seconds
        while due := sorted(entry for entry in self._due if entry[0] <= end):
            at, _, timer = due[0]
            self._due.remove(due[0])
            self.clock.advance(max(0.0, at - self.clock()))
            if not timer.cancelled:
                timer.function()
        self.clock.advance(end - self.clock())


class FakeTimer:
    """One of them."""

    def __init__(self, function: Callable[[], None]) -> None:
        self.function = function
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeStreams:
    """The same for TCP."""

    def __init__(self) -> None:
        self.link = FakeLink()
        self.asked: list[tuple[str, int, float]] = []

    def connect(self, host: str, port: int, handler: LinkHandler, timeout_s: float, name: str) -> FakeLink:
        self.asked.append((host, port, timeout_s))
        return self.link


def host(
    spec: AgentSpec,
    websockets: FakeWebSockets | None = None,
    streams: FakeStreams | None = None,
    entropy: Callable[[int], bytes] = lambda count: b"\x5a" * count,
    timers: FakeTimers | None = None,
    agent_hosts: str | None = None,
) -> Host:
    """What agents are built with."""

    timers = timers or FakeTimers()

    def spawn(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work, name=name)

    return Host(
        spec=spec,
        context=CONTEXT,
        websockets=websockets or FakeWebSockets(),  # type: ignore[arg-type]
        arrivals=Arrivals(),
        streams=streams or FakeStreams(),  # type: ignore[arg-type]
        targets=Targets(),
        recordings=RECORDINGS,
        entropy=entropy,
        spawn=spawn,
        wall=lambda: 1_790_000_000.25,
        clock=timers.clock,
        call_later=timers,
        agent_hosts=agent_hosts,
    )
