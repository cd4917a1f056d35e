"""A started transport around an engine that the test scripts."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from edge.actions import Action, Resolve, Target, Transmit
from edge.counters import Counters
from edge.events import Address, Event, Flow, TransportName
from edge.transport.shell import SipTransport
from edge.transport.stream import TransportLimits
from edge.uri import ParseError

UDP, TCP, TLS = TransportName.UDP, TransportName.TCP, TransportName.TLS
LOOPBACK = Address("127.0.0.1", 0)
MESSAGE = b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 4\r\n\r\nbody"
REPLY = b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"
BAD_REQUEST = b"SIP/2.0 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
NOBODY = Flow(TCP, LOOPBACK, LOOPBACK, 999_999)


@dataclass
class ScriptedEngine:
    """Notes every input and gives out what the test puts into ``to_do`` and ``to_tell``."""

    inputs: list[tuple[Any, ...]] = field(default_factory=list)
    to_do: list[Action] = field(default_factory=list)
    to_tell: list[Event] = field(default_factory=list)
    timer: float | None = None
    on_receive: Callable[[bytes, Flow], None] = lambda data, flow: None

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        self.inputs.append(("receive", data, flow))
        self.on_receive(data, flow)

    def malformed(self, data: bytes, error: ParseError, flow: Flow, now: float) -> None:
        self.inputs.append(("malformed", error.status, flow))
        self.to_do.append(Transmit(BAD_REQUEST, flow))

    def connection_closed(self, flow: Flow, now: float) -> None:
        self.inputs.append(("closed", flow))

    def transport_failed(self, token: str, now: float) -> None:
        self.inputs.append(("failed", token))

    def resolved(self, query: int, targets: tuple[Target, ...], now: float) -> None:
        self.inputs.append(("resolved", query, targets))

    def handle_timers(self, now: float) -> None:
        self.inputs.append(("timers", now))
        if self.timer is not None and now >= self.timer:
            self.timer = None

    def next_timer(self) -> float | None:
        return self.timer

    def actions(self) -> list[Action]:
        done, self.to_do = self.to_do, []
        return done

    def events(self) -> list[Event]:
        told, self.to_tell = self.to_tell, []
        return told

    def of(self, kind: str) -> list[Any]:
        """The inputs of one kind, without their kind."""
        return [entry[1] if len(entry) == 2 else entry[1:] for entry in self.inputs if entry[0] == kind]


class NoResolver:
    async def resolve(self, query: Resolve) -> tuple[Target, ...]:
        return ()


@dataclass
class Shell:
    """A started transport with what the tests look at."""

    engine: ScriptedEngine
    transport: SipTransport
    addresses: list[Address]
    bound: dict[TransportName, Address]
    told: list[Event]
    counters: Counters

    def act(self, *actions: Action) -> None:
        self.transport.run(lambda now: self.engine.to_do.extend(actions))

    def echo(self) -> None:
        """Answer every message with REPLY on the flow it came by."""
        self.engine.on_receive = lambda data, flow: self.engine.to_do.append(Transmit(REPLY, flow))


@contextlib.asynccontextmanager
async def shell(
    *listeners: TransportName,
    host: str = "127.0.0.1",
    limits: TransportLimits | None = None,
    on_event: Callable[[Event], None] | None = None,
    listed: bool = False,
    **options: Any,
) -> AsyncIterator[Shell]:
    engine, told, counters = ScriptedEngine(), list[Event](), Counters()
    transport = SipTransport(
        engine,
        [(name, Address(host, 0)) for name in listeners],
        on_event=on_event or told.append,
        resolver=options.pop("resolver", NoResolver()),
        counters=counters,
        listed=lambda source: listed,
        limits=limits,
        **options,
    )
    started = await transport.start()
    try:
        yield Shell(engine, transport, [address for _, address in started], dict(started), told, counters)
    finally:
        await transport.close()


async def until(condition: Callable[[], object], timeout_s: float = 3.0) -> None:
    """Poll until true; the test fails when it never is."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def connected(
    address: Address, **options: Any
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(address.host, address.port, **options)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def seconds_until_closed(reader: asyncio.StreamReader) -> float:
    start = time.monotonic()
    with contextlib.suppress(OSError):
        while await reader.read(65536):
            pass
    return time.monotonic() - start
