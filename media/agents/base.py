"""What an agent is to the bridge, and the bridge to an agent.

Audio is mono. The bridge hands the agent exactly one 20 ms frame for every 20 ms of call (what
the caller said, concealment for what was lost, silence for what never came); the agent hands back
pieces of any length, as fast as it likes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from media.agents.signing import request_headers
from media.messages import AgentSpec, CallContext
from media.stream import StreamClient
from media.targets import Targets
from media.websocket import Arrivals, FailureCause, Headers, WebSocketClient

__all__ = [
    "Agent",
    "AgentCounts",
    "AgentPort",
    "BadAgent",
    "CallLater",
    "Encoding",
    "EndCause",
    "Host",
    "Spawn",
    "Timer",
]

Encoding = Literal["PCMU", "PCMA", "L16", "L16/16000", "L16/24000", "L16/48000"]
"""G.711 by its RTP name, one byte a sample; or linear 16-bit samples in host byte order, at 8 kHz unless it says."""

EndCause = Literal["closed", "lost"]


class Timer(Protocol):
    """Something that is due."""

    def cancel(self) -> None:
        """Not any more."""


CallLater = Callable[[float, Callable[[], None]], Timer]
"""``call_later(delay_s, function)``."""

Spawn = Callable[[Coroutine[Any, Any, None], str], "asyncio.Task[None]"]


class BadAgent(Exception):
    """An :class:`AgentSpec` that names no agent, or lacks what its protocol needs."""


@dataclass(slots=True)
class AgentCounts:
    """``sent``: frames of caller audio given to the agent; ``dropped``: not given, for it reads too slowly.

    ``ignored``: messages of the agent's that made no sense.
    """

    sent: int = 0
    dropped: int = 0
    ignored: int = 0


class AgentPort(Protocol):
    """The bridge as its agent sees it. All calls return at once; after the call's end they do nothing."""

    @property
    def encoding(self) -> Encoding:
        """The phone leg's law; audio in it is not transcoded. It can change in mid-call."""

    @property
    def playing(self) -> bool:
        """Something the agent has said is still to be heard."""

    @property
    def played_ms(self) -> int:
        """How much of what the agent has said was sent to the phone [ms], from the call's start on."""

    @property
    def queued_ms(self) -> int:
        """How much of it is still to be heard [ms]: what is played now will begin at ``played_ms + queued_ms``."""

    def started(self) -> None:
        """The agent has been told of the call: from here ``answer_after_s`` counts."""

    def ready(self) -> None:
        """Answer the phone now."""

    def play(self, audio: bytes, encoding: Encoding) -> None:
        """Queue audio; the first makes the agent ready."""

    def clear(self) -> tuple[str, ...]:
        """Stop within a frame; the names of the marks that were not reached, in order."""

    def mark(self, name: str) -> None:
        """``Agent.on_mark`` when all that is queued now has been played (at once if nothing is)."""

    def send_digits(self, digits: str) -> None:
        """RFC 4733 digits to the phone (``0-9*#A-D``, ``w`` a pause); by INFO where the peer takes no such."""

    def ask(self, verb: str, arguments: Mapping[str, str]) -> None:
        """Ask control for what media cannot do, see :class:`AgentAsks`; :meth:`Agent.on_event` tells how it went."""

    def note(self, event: str, detail: str = "") -> None:
        """A line of the call's timeline, and a counter: ``event`` is one word of a few."""

    def hang_up(self, headers: Mapping[str, str] | None = None) -> None:
        """End the call once all that is queued has been played; ``headers`` go on the BYE, by allow-list."""

    def failed(self, cause: FailureCause, message: str) -> None:
        """The agent was not reached."""

    def ended(self, cause: EndCause, message: str) -> None:
        """The agent is gone: ``closed`` plays out the queue, ``lost`` ends the call."""


class Agent(Protocol):
    """One call's agent. The bridge calls; nothing here blocks."""

    @property
    def encoding(self) -> Encoding | None:
        """What ``on_audio`` is to be given; None: the leg's own law, whichever it is."""

    @property
    def counts(self) -> AgentCounts:
        """For the call's statistics."""

    def open(self, port: AgentPort) -> None:
        """The phone rings: connect, and tell the agent of the call."""

    def on_start(self) -> None:
        """The call is established: audio flows from here."""

    def on_audio(self, frame: bytes, at_ms: int) -> None:
        """20 ms of the caller, ``at_ms`` [ms] of call audio after the start."""

    def on_digit(self, digit: str, duration_ms: int) -> None:
        """The caller pressed a digit."""

    def on_mark(self, name: str) -> None:
        """Playout has reached a mark."""

    def on_event(self, event: str, data: Mapping[str, object]) -> None:
        """Control tells of something, see :class:`TellAgent`; ignored where the protocol has no place for it."""

    async def close(self) -> None:
        """The call is over. Returns when everything of the call is kept (a recording written); links end after."""


@dataclass(frozen=True, slots=True)
class Host:
    """What an agent is built with. ``entropy(n)`` gives n random bytes; ``recordings`` are PCM16 by name.

    Whatever connects without ``websockets`` and ``streams`` connects by ``targets``. ``arrivals`` are read at the
    call's ticks. Every request to the agent has
    :meth:`request_headers`. ``wall`` is UTC [s], ``clock`` monotonic [s], ``call_later`` the loop's.
    ``agent_hosts`` names the doorway to the processes that run agents (:mod:`media.hosting.doorway`); None: there are
    none.
    """

    spec: AgentSpec
    context: CallContext
    websockets: WebSocketClient
    arrivals: Arrivals
    streams: StreamClient
    targets: Targets
    recordings: Mapping[str, bytes]
    entropy: Callable[[int], bytes]
    spawn: Spawn
    wall: Callable[[], float]
    clock: Callable[[], float]
    call_later: CallLater
    agent_hosts: str | None = None

    def with_spec(self, spec: AgentSpec) -> Host:
        """The same for another agent of the same call."""
        return replace(self, spec=spec)

    def request_headers(self, url: str, method: str = "GET") -> Headers:
        """What authenticates a request to the agent: its record's headers, and the signatures."""
        return request_headers(self.spec, self.context.call_sid, method, url, self.wall())
