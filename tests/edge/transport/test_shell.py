"""The loop around the engine, and a call of two of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterator
from ipaddress import ip_network
from typing import Any, TypeVar

import pytest

from edge.actions import Close, Dispatch, Resolve, Target, Transmit
from edge.auth import Challenger
from edge.counters import Counters
from edge.endpoint import Endpoint, EndpointSettings
from edge.events import (
    Address,
    CallAnswered,
    CallConfirmed,
    CallEnded,
    CallKey,
    CallOffered,
    Cause,
    Event,
    Flow,
    OptionsAnswered,
    OutgoingCall,
    Party,
    TransportName,
)
from edge.throttle import Throttle
from edge.transport.shell import SipTransport
from edge.transport.tls import server_context
from edge.trunks import TrunkRule, TrunkTable
from tests.edge.shell import (
    LOOPBACK,
    MESSAGE,
    NOBODY,
    REPLY,
    TCP,
    TLS,
    UDP,
    NoResolver,
    ScriptedEngine,
    connected,
    shell,
    until,
)
from tests.support.pki import Pki

E = TypeVar("E", bound=Event)


def told(number: int) -> OptionsAnswered:
    return OptionsAnswered(CallKey(str(number)), 200, "OK")


async def test_events_are_delivered_before_a_command_returns() -> None:
    async with shell() as edge:
        result = edge.transport.run(lambda now: edge.engine.to_tell.append(told(1)) or "result")
        assert result == "result"
        assert edge.told == [told(1)]


async def test_a_command_from_within_an_event_is_carried_out_and_its_events_follow() -> None:
    order: list[str] = []

    def on_event(event: Event) -> None:
        order.append(f"begin {event.key}")  # type: ignore[union-attr]
        if event == told(1):
            edge.transport.run(lambda now: edge.engine.to_tell.append(told(3)))
        order.append(f"end {event.key}")  # type: ignore[union-attr]

    async with shell(on_event=on_event) as edge:
        edge.transport.run(lambda now: edge.engine.to_tell.extend([told(1), told(2)]))
    assert order == ["begin 1", "end 1", "begin 2", "end 2", "begin 3", "end 3"]


async def test_a_receiver_of_events_that_fails_is_logged_and_misses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Event] = []

    def on_event(event: Event) -> None:
        seen.append(event)
        raise RuntimeError("a fault in the receiver")

    async with shell(on_event=on_event) as edge:
        edge.transport.run(lambda now: edge.engine.to_tell.extend([told(1), told(2)]))
        assert seen == [told(1), told(2)]
        assert edge.counters.get("sip_faults", where="event") == 2
    assert "a fault in the receiver" in caplog.text


async def test_a_fault_of_the_engine_is_logged_and_survived(caplog: pytest.LogCaptureFixture) -> None:
    async with shell() as edge:

        def fail(data: bytes, flow: Flow) -> None:
            edge.engine.to_tell.append(told(1))
            raise KeyError("a fault in the engine")

        edge.engine.on_receive = fail
        edge.transport.received(MESSAGE, NOBODY)
        assert edge.told == [told(1)]
        assert edge.counters.get("sip_faults", where="receive") == 1
    assert "a fault in the engine" in caplog.text


async def test_a_command_that_fails_raises_to_its_giver_after_its_actions() -> None:
    async with shell() as edge:

        def command(now: float) -> None:
            edge.engine.to_tell.append(told(1))
            raise ValueError("bad command")

        with pytest.raises(ValueError, match="bad command"):
            edge.transport.run(command)
        assert edge.told == [told(1)]


async def test_a_command_before_start_is_a_readable_error() -> None:
    transport = SipTransport(ScriptedEngine(), [], on_event=print, resolver=NoResolver())
    with pytest.raises(RuntimeError, match="start"):
        transport.run(lambda now: None)


@pytest.mark.parametrize(
    "target",
    [
        Target(UDP, Address("127.0.0.1", 5060)),
        Target(TLS, Address("127.0.0.1", 5061), "sip.test"),
        Target(TCP, Address("sip.example.test", 5060)),
        Target(UDP, Address("sip.example.test", 5060)),
    ],
)
async def test_a_request_that_cannot_be_sent_has_failed_but_not_inside_the_command(target: Target) -> None:
    """No UDP listener, no TLS, or a name where the resolver should have put an address."""
    async with shell() as edge:
        edge.act(Dispatch(MESSAGE, target, "t1"))
        assert edge.engine.of("failed") == []
        await asyncio.sleep(0)
        assert edge.engine.of("failed") == ["t1"]


async def test_a_response_for_a_connection_that_is_gone_without_fallback_is_counted() -> None:
    async with shell() as edge:
        edge.act(Transmit(REPLY, NOBODY), Close(NOBODY, "gone already"))
        assert edge.counters.get("sip_send_failures", reason="connection closed") == 1


async def test_answers_from_dns_enter_as_an_input() -> None:
    class Fixed:
        async def resolve(self, query: Resolve) -> tuple[Target, ...]:
            return (Target(UDP, Address("192.0.2.1", 5060)),)

    async with shell(resolver=Fixed()) as edge:
        edge.act(Resolve(7, "sip.example.test", None, None))
        await until(lambda: edge.engine.of("resolved"))
        assert edge.engine.of("resolved") == [(7, (Target(UDP, Address("192.0.2.1", 5060)),))]


async def test_a_resolver_that_fails_is_an_empty_answer() -> None:
    class Broken:
        async def resolve(self, query: Resolve) -> tuple[Target, ...]:
            raise RuntimeError("broken")

    async with shell(resolver=Broken()) as edge:
        edge.act(Resolve(7, "sip.example.test", None, None))
        await until(lambda: edge.engine.of("resolved"))
        assert edge.engine.of("resolved") == [(7, ())]


async def test_closing_does_not_wait_for_a_dead_resolver() -> None:
    class Dead:
        async def resolve(self, query: Resolve) -> tuple[Target, ...]:
            await asyncio.Event().wait()
            raise AssertionError

    async with shell(resolver=Dead()) as edge:
        edge.act(Resolve(7, "sip.example.test", None, None))
        await asyncio.sleep(0)


@pytest.mark.uvloop
async def test_the_engines_timer_fires_when_it_is_due_and_never_early() -> None:
    loop = asyncio.get_running_loop()
    async with shell() as edge:
        due = loop.time() + 0.0507
        edge.transport.run(lambda now: setattr(edge.engine, "timer", due))
        await until(lambda: edge.engine.timer is None)
        (fired,) = edge.engine.of("timers")
        assert due <= fired <= due + 0.05


@pytest.mark.uvloop
async def test_an_earlier_timer_replaces_a_later_one() -> None:
    loop = asyncio.get_running_loop()
    async with shell() as edge:
        edge.transport.run(lambda now: setattr(edge.engine, "timer", now + 60.0))
        edge.transport.run(lambda now: setattr(edge.engine, "timer", now + 0.02))
        start = loop.time()
        await until(lambda: edge.engine.timer is None)
        assert loop.time() - start < 1.0


@pytest.mark.uvloop
async def test_a_timer_that_is_always_in_the_past_does_not_keep_the_loop_busy() -> None:
    """Nor do inputs that keep coming hold it off."""
    async with shell() as edge:
        edge.engine.handle_timers = lambda now: edge.engine.inputs.append(("timers", now))  # type: ignore[method-assign]
        edge.transport.run(lambda now: setattr(edge.engine, "timer", now - 5.0))
        for _ in range(100):
            edge.transport.run(lambda now: None)
            await asyncio.sleep(0.001)
        assert 10 < len(edge.engine.of("timers")) < 150


@pytest.mark.uvloop
async def test_closing_twice_or_with_connections_in_every_state_leaves_nothing(pki: Pki) -> None:
    """The leak guard of every test does the checking."""
    async with shell(UDP, TCP, TLS, tls_server=server_context(pki.certificate, pki.key)) as edge:
        async with connected(edge.bound[TCP]) as (_, writer), connected(edge.bound[TLS]):
            writer.write(MESSAGE[:10])
            edge.act(Dispatch(MESSAGE, Target(TCP, Address("127.0.0.1", edge.bound[UDP].port)), "refused"))
            edge.act(Dispatch(MESSAGE, Target(TCP, edge.bound[TCP]), "to ourselves"))
            await until(lambda: edge.transport.connections >= 3)
            await edge.transport.close()
            assert edge.transport.connections == 0
        assert edge.engine.of("closed") == []


@contextlib.asynccontextmanager
async def real_edge(
    name: TransportName, told: list[Event], **options: Any
) -> AsyncIterator[tuple[Endpoint, SipTransport, Address]]:
    """An engine that takes calls from loopback by address, on one listener."""
    counters = Counters()
    trunks = TrunkTable(
        [TrunkRule("lab", (ip_network("127.0.0.0/8"),))],
        realm="sip.test",
        challenger=Challenger(os.urandom(32)),
        counters=counters,
    )
    endpoint = Endpoint(
        EndpointSettings(domain="sip.test"), trunks, Throttle(1000.0, 1000), counters, entropy=os.urandom
    )
    transport = SipTransport(
        endpoint,
        [(name, LOOPBACK)],
        on_event=told.append,
        resolver=NoResolver(),
        counters=counters,
        listed=trunks.listed,
        **options,
    )
    listeners = await transport.start()
    endpoint.settings.listeners = listeners
    try:
        yield endpoint, transport, listeners[0][1]
        assert counters.get("sip_faults") == 0
    finally:
        await transport.close()


def first(events: list[Event], kind: type[E]) -> E | None:
    return next((event for event in events if isinstance(event, kind)), None)


async def event_of(events: list[Event], kind: type[E]) -> E:
    await until(lambda: first(events, kind))
    found = first(events, kind)
    assert found is not None
    return found


@pytest.mark.uvloop
@pytest.mark.parametrize("name", [UDP, TCP, TLS])
async def test_two_real_engines_make_a_call_and_end_it(name: TransportName, tls: dict[str, ssl.SSLContext]) -> None:
    calling, called = list[Event](), list[Event]()
    async with real_edge(name, calling, **tls) as (caller, caller_shell, _), real_edge(name, called, **tls) as callee:
        endpoint, callee_shell, address = callee
        call = OutgoingCall(
            f"sip:+14155550100@{address};transport={name.value}", "sip:+14155550199@sip.test", b"v=0 offer"
        )
        key = caller_shell.run(lambda now: caller.invite(call, now=now))
        offered = await event_of(called, CallOffered)
        assert (offered.trunk, offered.offer, offered.flow.transport) == ("lab", b"v=0 offer", name)
        callee_shell.run(lambda now: endpoint.ring(offered.key, now=now))
        callee_shell.run(lambda now: endpoint.answer(offered.key, b"v=0 answer", now=now))
        assert (await event_of(calling, CallAnswered)).body == b"v=0 answer"
        await event_of(called, CallConfirmed)
        callee_shell.run(lambda now: endpoint.hang_up(offered.key, now=now))
        ended = [await event_of(calling, CallEnded), await event_of(called, CallEnded)]
        assert [(event.by, event.cause) for event in ended] == [(Party.REMOTE, Cause.BYE), (Party.LOCAL, Cause.BYE)]
        assert ended[0].key == key
        assert caller.calls == endpoint.calls == 0
