"""What a call touches outside itself: the engine, media, the journal, clocks."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from control.call import Timer
from control.outbound import Outward
from control.ports import PortPool
from control.registry.types import Agent, CallEvent, Number
from control.routing import Find
from edge.counters import Counters
from edge.events import CallKey, Refusal
from media.messages import Command, DetectionOrder, RecordingEnded, RecordingOrder, Result

__all__ = [
    "CallLog",
    "CallRecordings",
    "Headers",
    "MediaRequests",
    "NoRecordings",
    "Signalling",
    "Spawn",
    "Surroundings",
]

Headers = tuple[tuple[str, str], ...]


class Signalling(Protocol):
    """The engine's commands that a call needs; none raises for a call that has ended."""

    def ring(self, key: CallKey, headers: Headers = ...) -> None: ...
    def progress(self, key: CallKey, status: int, body: bytes, headers: Headers = ...) -> None: ...
    def answer(self, key: CallKey, body: bytes, headers: Headers = ...) -> None: ...
    def refuse(self, key: CallKey, refusal: Refusal) -> None: ...
    def hang_up(self, key: CallKey, reason: str | None, headers: Headers = ...) -> None: ...
    def press(self, key: CallKey, digit: str, duration_ms: int) -> None: ...
    def accept_offer(self, key: CallKey, body: bytes) -> None: ...
    def refuse_offer(self, key: CallKey, refusal: Refusal) -> None: ...
    def reoffer(self, key: CallKey, body: bytes) -> None: ...


class MediaRequests(Protocol):
    """What carries a command to media; raises :class:`media.client.MediaError` when media is gone."""

    async def request(self, command: Command, deadline_s: float = ...) -> Result: ...


class CallLog(Protocol):
    """The journal."""

    def append(self, event: CallEvent) -> None: ...


class CallRecordings(Protocol):
    """:class:`control.recordings.Recordings`, as calls need it."""

    def order(
        self, call_id: str, agent: Agent, number: Number, started: float, wish: bool | None = None
    ) -> RecordingOrder | None: ...
    def begun(self, call_id: str, started: float, order: RecordingOrder) -> None: ...
    def on_ended(self, ended: RecordingEnded) -> None: ...
    def on_lost(self, calls: Iterable[str]) -> None: ...


class NoRecordings:
    """For calls that nobody records."""

    def order(
        self, call_id: str, agent: Agent, number: Number, started: float, wish: bool | None = None
    ) -> RecordingOrder | None:
        """None is to be made."""
        return None

    def begun(self, call_id: str, started: float, order: RecordingOrder) -> None:
        """It never does."""

    def on_ended(self, ended: RecordingEnded) -> None:
        """There is none to end."""

    def on_lost(self, calls: Iterable[str]) -> None:
        """Nor to lose."""


class Spawn(Protocol):
    """:meth:`control.supervisor.Supervisor.spawn`."""

    def __call__(
        self, work: Coroutine[Any, Any, None], name: str, *, failed: Callable[[Exception], None] | None = None
    ) -> object: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Everything outside that a call touches. Clocks: ``now`` monotonic [s], ``wall`` UTC [s]."""

    signalling: Signalling
    media: MediaRequests
    find: Find
    journal: CallLog
    ports: PortPool
    counters: Counters
    spawn: Spawn
    now: Callable[[], float]
    wall: Callable[[], float]
    call_later: Callable[[float, Callable[[], None]], Timer]
    entropy: Callable[[int], bytes]
    outward: Outward | None = None
    """What calls that go out need; None where none are placed and none is transferred."""
    recordings: CallRecordings = field(default_factory=NoRecordings)
    detect: Callable[[Agent], DetectionOrder | None] = lambda agent: None
    conversation: bool = True
