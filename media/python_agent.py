"""Agents written in Python: what a call is to one.

An agent is an ``async`` function of one argument. It runs for one call, while the phone still rings; when it returns,
the call ends after what is queued has been heard::

    from media.python_agent import Call

    async def agent(call: Call) -> None:
        async for frame in call.audio():
            await call.play(frame)

Audio is mono, 16-bit samples in the machine's byte order, at :attr:`Call.sample_rate`. A :class:`Call` belongs to the
event loop that runs the agent; from another thread, use ``loop.call_soon_threadsafe``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Generic, Protocol, TypeVar

from media.hosting import wire
from media.hosting.wire import Kind

__all__ = ["SAMPLE_RATES_HZ", "AgentFunction", "AudioFrame", "Call", "CallEnded", "Event", "Line", "Refused"]

SAMPLE_RATES_HZ: Final = (8000, 16000, 24000, 48000)
"""An agent chooses one on its record."""

_SAMPLE_BYTES: Final = 2
_WRAP: Final = 0xFFFFFFFF
_LONGEST_HEADERS: Final = 8000


class CallEnded(Exception):
    """The call is over. An agent need not catch it: its call has ended already."""


class Refused(Exception):
    """The edge did not do what the agent asked for; the text says why."""


@dataclass(frozen=True, slots=True)
class AudioFrame:
    """20 ms of the caller: what was said, concealment for what was lost, silence for what never came."""

    pcm: bytes
    """16-bit samples."""
    at_ms: int
    """Call audio before it [ms]; it counts on through pauses of the agent's."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something in the call that is neither audio nor a digit: how a transfer goes, what was heard."""

    name: str
    data: Mapping[str, str | int | float | bool | None]


AgentFunction = Callable[["Call"], Awaitable[object]]
"""An agent."""


class Line(Protocol):
    """What a call sends by."""

    def send(self, frame: bytes) -> None:
        """One frame of :mod:`media.hosting.wire`; nothing happens once the call is over."""

    async def drained(self) -> None:
        """Until the other end has taken most of what was sent, or is gone."""


T = TypeVar("T")


class _Mail(Generic[T]):
    """What has come and was not read yet; of too much, the newest is kept. Iterating ends with the call."""

    def __init__(self, limit: int) -> None:
        self._items: deque[T] = deque()
        self._limit = limit
        self._news = asyncio.Event()
        self._over = False

    def put(self, item: T) -> bool:
        """False when an older one had to go."""
        room = len(self._items) < self._limit
        if not room:
            self._items.popleft()
        self._items.append(item)
        self._news.set()
        return room

    def end(self) -> None:
        self._over = True
        self._news.set()

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        while not self._items:
            if self._over:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._items.popleft()


class Call:
    """One call, as its agent has it.

    ``id`` is the ``sid`` of its record, and ``record_id`` the record's own; ``parameters`` are those of the agent's
    record. ``caller_name`` and ``sip_call_id`` are as the caller's INVITE has them, ``headers`` its headers, by
    allow-list, and ``identity`` what else is known of who calls. Everything but :meth:`audio`, :meth:`digits` and
    :meth:`events` can be used from several tasks.
    """

    BACKLOG_FRAMES: Final = 100
    """2 s of the caller wait for an agent that is busy; then the oldest is dropped, and counted."""

    AHEAD_S: Final = 30.0
    """What may wait to be heard [s] before :meth:`play` lets its caller wait."""

    LONGEST_PIECE_S: Final = 0.5

    def __init__(self, line: Line, opened: wire.Open, sample_rate: int) -> None:
        context = opened.context
        self.id: str = context.call_sid
        self.record_id: str = context.call_id
        self.account: str = context.account_sid
        self.direction: str = context.direction
        self.from_number: str = context.from_number
        self.to_number: str = context.to_number
        self.trunk: str = context.trunk
        self.caller_name: str = context.caller_name
        self.sip_call_id: str = context.sip_call_id
        self.identity: Mapping[str, str] = MappingProxyType(context.identity)
        self.headers: Mapping[str, str] = MappingProxyType(context.headers)
        self.parameters: Mapping[str, str] = MappingProxyType(opened.agent.parameters)
        self.sample_rate: int = sample_rate
        self._line = line
        self._bytes_per_ms = sample_rate * _SAMPLE_BYTES // 1000
        self._audio: _Mail[AudioFrame] = _Mail(self.BACKLOG_FRAMES)
        self._digits: _Mail[str] = _Mail(1000)
        self._events: _Mail[Event] = _Mail(100)
        self._listening = False
        self._established = asyncio.Event()
        self._over = asyncio.Event()
        self._level = asyncio.Event()
        self._queued_ms = 0
        self._taken = 0
        self._sent = 0
        self._clearings = 0
        self._marks: dict[int, asyncio.Future[bool]] = {}
        self._last_mark = 0
        self._asked: dict[str, deque[asyncio.Future[Event]]] = {}

    def __repr__(self) -> str:
        return f"<Call {self.id}>"

    # --- the caller -----------------------------------------------------------------------------

    def audio(self) -> AsyncIterator[AudioFrame]:
        """What the caller says from now on, 20 ms at a time, until the call ends."""
        self._listening = True
        return self._audio

    def digits(self) -> AsyncIterator[str]:
        """The digits the caller presses (``0-9*#A-D``), one at a time, until the call ends."""
        return self._digits

    def dropped(self, frames: int = 1) -> None:
        """An agent that has a queue of its own says that it left out so many frames: they count as not heard."""
        self._send(wire.numbered(Kind.DROPPED, frames))

    def events(self) -> AsyncIterator[Event]:
        """What else happens in the call, until it ends."""
        return self._events

    @property
    def over(self) -> bool:
        """The call has ended."""
        return self._over.is_set()

    async def ended(self) -> None:
        """Until the call is over."""
        await self._over.wait()

    # --- speaking -------------------------------------------------------------------------------

    def answer(self) -> None:
        """Answer the phone now. What is played answers it too, and so does ``answer_after_s`` of the agent's record."""
        self._send(wire.encode(Kind.ANSWER))

    @property
    def is_answered(self) -> bool:
        """The phone is answered: what is played now is heard."""
        return self._established.is_set()

    async def answered(self) -> None:
        """Until the phone is answered. Raises :class:`CallEnded`."""
        await self._first_of(self._established)

    async def play(self, audio: bytes | bytearray | memoryview | AudioFrame, *, ahead_s: float = AHEAD_S) -> None:
        """Queue audio of any length. Returns when no more than ``ahead_s`` [s] waits to be heard; 0: nothing.

        So a model that speaks faster than real time is held back, and nothing is lost. :meth:`clear` ends the wait, and
        what was not queued by then is not. Raises :class:`CallEnded`, and ValueError for half a sample.
        """
        pcm = memoryview(audio.pcm if isinstance(audio, AudioFrame) else audio).cast("B")
        if len(pcm) % _SAMPLE_BYTES:
            raise ValueError(f"{len(pcm)} bytes are no whole number of 16-bit samples")
        clearings = self._clearings
        step = int(self.LONGEST_PIECE_S * 1000) * self._bytes_per_ms
        for at in range(0, len(pcm), step):
            if not await self._room(ahead_s, clearings):
                return
            piece = pcm[at : at + step]
            self._sent += len(piece)
            self._send(bytes((Kind.PLAY,)) + piece)
            await self._line.drained()
        await self._room(ahead_s, clearings)

    @property
    def queued_s(self) -> float:
        """How much of what was played is still to be heard [s]."""
        return (self._queued_ms + ((self._sent - self._taken) & _WRAP) / self._bytes_per_ms) / 1000

    def clear(self) -> None:
        """Stop speaking at once: what is queued will not be heard."""
        self._clearings += 1
        self._queued_ms, self._taken = 0, self._sent
        self._level.set()
        self._send(wire.encode(Kind.CLEAR))

    async def mark(self) -> bool:
        """Until all that is queued now has been heard: True; or until it was cleared, or the call ended: False."""
        if self.over:
            await asyncio.sleep(0)
            return False
        self._last_mark += 1
        number = self._last_mark
        reached: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._marks[number] = reached
        self._send(wire.numbered(Kind.MARK, number))
        try:
            return await reached
        finally:
            self._marks.pop(number, None)

    # --- the call itself ------------------------------------------------------------------------

    def send_digits(self, digits: str) -> None:
        """Digits to the phone (``0-9*#A-D``, ``w`` pauses 0.5 s). Raises ValueError for what is none."""
        if not digits.isascii() or not digits.strip("0123456789*#ABCDabcdwW") == "":
            raise ValueError("digits are 0-9, *, #, A-D, and w for a pause")
        self._send(bytes((Kind.DIGITS,)) + digits.encode("ascii"))

    async def transfer(self, target: str) -> Event:
        """Send the caller to ``target``, a number (E.164) or a SIP URI: the event that says how it went.

        Raises :class:`Refused` where it may not, or did not work: the agent still has the caller. After a transfer the
        call ends, and so :class:`CallEnded` may come first.
        """
        return await self.ask("transfer", target=target)

    async def hold(self) -> Event:
        """Put the caller on hold. Raises :class:`Refused` or :class:`CallEnded`."""
        return await self.ask("hold")

    async def resume(self) -> Event:
        """Take the caller back. Raises :class:`Refused` or :class:`CallEnded`."""
        return await self.ask("resume")

    async def ask(self, verb: str, **arguments: str) -> Event:
        """What ``transfer`` and ``hold`` do, for any verb: the event that ends it.

        Raises :class:`Refused` or :class:`CallEnded`.
        """
        outcome: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        waiting = self._asked.setdefault(verb, deque())
        waiting.append(outcome)
        self._send(wire.encode(Kind.ASK, wire.Ask(verb, arguments)))
        try:
            await self._first_of(outcome)
        finally:
            if outcome in waiting:
                waiting.remove(outcome)
        event = outcome.result()
        if (why := _refusal(event)) is not None:
            raise Refused(why)
        return event

    def started(self) -> None:
        """The agent has been told of the call: the host says so of those it runs."""
        self._send(wire.encode(Kind.STARTED))

    def hang_up(self, headers: Mapping[str, str] | None = None) -> None:
        """End the call once all that is queued has been heard.

        ``headers`` go on the BYE, as far as `sip.agent_headers` lets them cross. Raises ValueError for what is no text,
        or more than 8000 characters in all.
        """
        given = dict(headers or {})
        texts = [text for pair in given.items() for text in pair]
        if not all(isinstance(text, str) for text in texts) or sum(map(len, texts)) > _LONGEST_HEADERS:
            raise ValueError(f"headers are names and values, {_LONGEST_HEADERS} characters at most")
        self._send(wire.encode(Kind.HANG_UP, wire.Parting(given)))

    # --- what the host tells it -----------------------------------------------------------------

    def _receive(self, frame: bytes) -> None:
        """One frame from media. Raises :class:`media.hosting.wire.BadFrame`."""
        match frame[0] if frame else 0:
            case Kind.AUDIO:
                self._heard(frame)
            case Kind.DIGIT:
                self._digits.put(wire.decode(frame, wire.Digit).digit)
            case Kind.ESTABLISHED:
                self._established.set()
            case Kind.REACHED | Kind.CLEARED:
                self._marked(wire.number(frame), heard=frame[0] == Kind.REACHED)
            case Kind.TELL:
                told = wire.decode(frame, wire.Tell)
                self._told(Event(told.event, told.data))
            case kind:
                raise wire.BadFrame(f"kind {kind}")

    def _heard(self, frame: bytes) -> None:
        at_ms, self._queued_ms, self._taken, pcm = wire.read_audio(frame)
        self._level.set()
        if self._listening and not self._audio.put(AudioFrame(pcm, at_ms)):
            self.dropped()

    def _marked(self, number: int, *, heard: bool) -> None:
        waiting = self._marks.get(number)
        if waiting is not None and not waiting.done():
            waiting.set_result(heard)

    def _told(self, event: Event) -> None:
        self._events.put(event)
        verb = _ends(event)
        for outcome in self._asked.get(verb, ()) if verb else ():
            if not outcome.done():
                outcome.set_result(event)
                return

    def _end(self) -> None:
        """The call is over: every wait ends."""
        self._over.set()
        self._level.set()
        for mail in (self._audio, self._digits, self._events):
            mail.end()
        for waiting in self._marks.values():
            if not waiting.done():
                waiting.set_result(False)

    # --- small tools ----------------------------------------------------------------------------

    def _send(self, frame: bytes) -> None:
        if not self.over:
            self._line.send(frame)

    async def _room(self, ahead_s: float, clearings: int) -> bool:
        """Until no more than that waits to be heard; False: it was cleared meanwhile. Raises :class:`CallEnded`."""
        while True:
            if self.over:
                await asyncio.sleep(0)
                raise CallEnded
            if clearings != self._clearings:
                return False
            if self.queued_s <= ahead_s:
                return True
            self._level.clear()
            await self._level.wait()

    async def _first_of(self, what: asyncio.Event | asyncio.Future[Event]) -> None:
        """Until it is there. Raises :class:`CallEnded` when the call ends first."""
        there = asyncio.ensure_future(what.wait()) if isinstance(what, asyncio.Event) else what
        over = asyncio.ensure_future(self._over.wait())
        try:
            await asyncio.wait((there, over), return_when=asyncio.FIRST_COMPLETED)
            if not there.done():
                raise CallEnded
        finally:
            there.cancel()
            over.cancel()


def _ends(event: Event) -> str | None:
    """Which of the agent's wishes this event is the outcome of; None: of none.

    ``refused`` names it, a ``transfer`` is over when it says ``final``, and ``hold`` and ``resume`` say whose they are.
    """
    match event.name, event.data:
        case "refused", {"verb": str(verb)}:
            return verb
        case "transfer", {"final": True}:
            return "transfer"
        case ("hold" | "resume") as verb, data if data.get("by", "agent") == "agent":
            return verb
    return None


def _refusal(event: Event) -> str | None:
    """Why the wish was not granted; None: it was."""
    data = event.data
    if event.name == "refused":
        return str(data.get("message", "refused"))
    status = data.get("status", 200)
    granted = isinstance(status, int) and 200 <= status < 300
    return None if granted else f"{status} {data.get('phrase', '')}".strip()
