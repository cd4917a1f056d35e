"""One serving process: settings → objects → run → drain.

An I/O module: it reads the clocks, takes the signals and owns everything that is opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import resource
import signal
import ssl
import sys
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from config.settings import Settings, parse_listener
from control.announcements import Announcements
from control.apart.kept import ApiProcess
from control.apart.kept import launcher as api_launcher
from control.api.listener import ListenError as ApiListenError
from control.api.listener import listen, url_of
from control.call import Call
from control.calls import CallManager
from control.carrying import Carrying
from control.commands import Commands
from control.dialling import Dialler, Way
from control.entropy import entropy, monotonic_clock, wall_clock
from control.hops import Hops
from control.hosts import AgentHosts, Plan, host_count, python_agents
from control.hosts import launcher as host_launcher
from control.inbound import leg_uri, public_url
from control.journal import Journal, Replayer
from control.listening import detection_order
from control.metrics import Metrics, Readings, build_info, merged, unlabelled
from control.openai_agents import OpenAiAgents
from control.outbound import Outward
from control.passes import CallPasses
from control.placing import Placing
from control.policies import Policies, trunk_rules
from control.ports import PortPool
from control.providers.twilio import TwilioCallsRest
from control.readiness import Readiness
from control.recordings import Recordings
from control.registrations import Registrations
from control.registry.sqlite import SqliteRegistry
from control.registry.types import Registry, RegistryError
from control.routing import PASS_TRUNK, Router
from control.supervisor import OnFailure, Supervisor
from control.surroundings import Surroundings
from control.toll import TollGuard
from control.twilio_calls import PASS_S, TwilioCalls
from control.vault import vault_of
from control.workers import MediaWorkers, WorkersFailed, launcher, worker_count
from edge.auth import Challenger
from edge.counters import Counters
from edge.dns import system_resolver
from edge.endpoint import Endpoint, EndpointSettings
from edge.events import Address, Event, TransportName
from edge.ladder import TraceEntry
from edge.throttle import Throttle
from edge.transport.shell import SipTransport
from edge.transport.sockets import ListenError as SipListenError
from edge.transport.tls import client_context, server_context
from edge.trunks import TrunkTable
from media.collector import Pauses
from media.messages import NoticeBody, Statistics
from media.settings import ServiceSettings

if TYPE_CHECKING:
    from media.in_process import InProcessMedia

__all__ = ["Edge", "StartError", "open_registry", "seal_anew", "serve"]

log = logging.getLogger("truedy.main")

_LAST_GOODBYE_S: Final = 5.0
_LAST_REPLAY_S: Final = 5.0
_DESCRIPTORS: Final = 65536
_SWITCH_S: Final = 0.0005
"""A thread that carries records into the registry gives way to signalling after this [s]: ten times as soon as by
default, for a call's way through here gives the interpreter away at each system call."""
_GC_THRESHOLD: Final = (5_000, 5, 100)
"""A call leaves some 30 objects in cycles: the default of 700 collects too often for the price, a rare one lets them
pile up into megabytes."""


class StartError(Exception):
    """The edge cannot start; the text names what to change."""


def open_registry(settings: Settings, *, serving: bool) -> SqliteRegistry:
    """The embedded registry; ``serving`` takes its lock."""
    return SqliteRegistry.open(settings.registry.path, vault_of(settings.secrets, entropy=entropy), serve=serving)


async def seal_anew(registry: SqliteRegistry) -> None:
    """Of the registry's credentials what a previous key had sealed; without one of the keys all stays as it is."""
    try:
        count = await registry.reseal()
    except RegistryError as error:
        log.error("credentials cannot be sealed anew", extra={"error": str(error)})
    else:
        log.info("credentials sealed anew", extra={"count": count})


class Edge:
    """Everything one process serves with: :meth:`run` opens it all, waits, drains and closes.

    ``trace`` is given every SIP message, masked, for ladders.
    """

    def __init__(self, settings: Settings, *, trace: Callable[[TraceEntry], None] | None = None) -> None:
        self.settings = settings
        self.counters = Counters()
        self._trace = trace
        self._listeners = tuple(_listener(text) for text in settings.sip.listen)
        self._listening: tuple[str, ...] = ()
        self._registry_open = False
        self._hurry = asyncio.Event()
        self._tick_late_p99_ms = 0.0
        self._media_gc_pause_max_ms = 0.0
        self._pauses = Pauses(monotonic_clock)
        self._build_info = build_info()
        self._workers: MediaWorkers | None = None
        self._api: ApiProcess | None = None

    async def run(self, announce: Callable[[dict[str, Any]], None], *, signals: bool = True) -> int:
        """Serve until told to stop; ``announce`` gets the ready line. Returns the exit status.

        With ``signals``, SIGTERM, SIGINT and SIGHUP are this process's own while it runs.
        """
        async with Supervisor() as tasks, AsyncExitStack() as stack:
            if signals:
                self._take_signals(stack, tasks)
            url = await self._start(stack, tasks)
            gc.freeze()
            gc.enable()
            sys.setswitchinterval(_SWITCH_S)
            gc.set_threshold(*_GC_THRESHOLD)
            self._pauses.watch()
            stack.callback(self._pauses.close)
            announce({"event": "ready", "sip": list(self._listening), "http": url})
            if self._workers is not None:
                self._workers.keep_spare()
            await tasks.stopping.wait()
            await self._drain(tasks)
        return 1 if tasks.fatal is not None else 0

    async def readiness(self) -> Readiness:
        """What ``/readyz`` tells."""
        return Readiness(
            self._listening,
            self._registry_open,
            self.registrations.states,
            self.engine.draining,
            media_up=self._workers is None or self._workers.ready > 0,
        )

    async def readings(self) -> Readings:
        """What ``/metrics`` shows of this process and those that it keeps."""
        return merged(
            (
                self._build_info,
                self.counters.snapshot(),
                unlabelled(self._figures()),
                self.calls.readings(),
                self.registrations.readings(),
                self._hosts.readings(),
                unlabelled({"media_workers": 0}) if self._workers is None else self._workers.readings(),
                {} if self._api is None else self._api.readings(),
            )
        )

    # --- from settings to objects ---

    async def _start(self, stack: AsyncExitStack, tasks: Supervisor) -> str:
        settings = self.settings
        self._tasks = tasks
        _raise_descriptor_limit()
        registry = open_registry(settings, serving=True)
        stack.push_async_callback(registry.close)
        media = await self._media(tasks)
        await self._launch_api(stack, tasks, registry)
        self._journal = journal = await self._start_journal(stack, tasks, registry)
        stack.push_async_callback(media.close)
        stack.push_async_callback(self._hosts.close)
        self.engine, self.sip = self._signalling()
        self.passes = CallPasses(self.trunks, PASS_TRUNK, entropy=entropy)
        self.ports = PortPool(
            settings.media.port_min, settings.media.port_max, rest_s=settings.media.port_rest_s, entropy=entropy
        )
        loop = asyncio.get_running_loop()
        self.openai = OpenAiAgents(registry, settings.providers.openai_base_url)
        commands = Commands(self.engine, self.sip)
        self.recordings = Recordings(
            settings.recording,
            vault_of(settings.secrets, entropy=entropy),
            registry,
            journal=journal,
            counters=self.counters,
            spawn=tasks.spawn,
            entropy=entropy,
            now=loop.time,
            wall=wall_clock,
        )
        tasks.spawn(self.recordings.run(), "recordings' sweep")
        if settings.secrets.previous_keys:
            tasks.spawn(seal_anew(registry), "credentials sealed anew")
        surroundings = Surroundings(
            signalling=commands,
            media=media,
            find=Router(registry, self.passes, self.openai.equip).find,
            journal=journal,
            recordings=self.recordings,
            detect=partial(detection_order, settings.machine_detection),
            conversation=settings.media.conversation,
            ports=self.ports,
            counters=self.counters,
            spawn=tasks.spawn,
            now=loop.time,
            wall=wall_clock,
            call_later=loop.call_later,
            entropy=entropy,
            outward=self._outward(registry, commands),
        )
        self.registrations = Registrations(
            self.engine, self.sip.run, self.counters, proxy=settings.providers.telnyx_sip_proxy
        )
        policies = Policies(settings, encrypted=self.registrations.encrypted)
        self.calls = CallManager(surroundings, settings.limits, settings.agents, policies.of)
        await media.start()
        bound = await self.sip.start()
        stack.push_async_callback(self.sip.close)
        self.engine.settings.listeners = bound
        self._listening = tuple(f"{transport.value}:{address}" for transport, address in bound)
        await self.registrations.start(registry)
        return await self._start_api(stack, tasks, registry)

    def _outward(self, registry: Registry, commands: Commands) -> Outward:
        """What calls that go out need."""
        settings, loop = self.settings, asyncio.get_running_loop()
        self.guard = TollGuard(registry, settings.outbound, self.counters, now=loop.time, wall=wall_clock)
        self.dialler = dialler = Dialler(registry, settings, self._transports)

        async def way(call: Call) -> Way | None:
            return None if call.route is None else await dialler.way(call.route.number)

        self.twilio_calls = TwilioCalls(
            TwilioCallsRest(settings),
            CallPasses(self.trunks, PASS_TRUNK, entropy=entropy, lifetime_s=PASS_S),
            settings,
            uri=lambda made: leg_uri(made, settings, self._listening),
            public_url=public_url(settings),
            way=way,
            now=loop.time,
        )
        return Outward(
            guard=self.guard,
            dialler=self.dialler,
            hops=Hops(),
            carrier=self.twilio_calls,
            invite=commands.invite,
            refer=commands.refer,
            cancel=commands.hang_up,
            ring_timeout_s=settings.outbound.ring_timeout_s,
            call_length_s=settings.limits.call_length_s,
        )

    def _transports(self) -> frozenset[TransportName]:
        return frozenset(name for name, _ in self.engine.settings.listeners)

    async def _media(self, tasks: Supervisor) -> InProcessMedia | MediaWorkers:
        """Not started yet; but processes take a while, and have begun."""
        given = self.settings.media
        self._hosts = self._agent_hosts(tasks)
        settings = ServiceSettings(
            given.listen_address,
            given.public_address,
            given.listen_address_6,
            given.public_address_6,
            allow_private=self.settings.agents.allow_private,
            opus="OPUS" in Policies(self.settings).codecs,
            recordings_path=self.settings.agents.recordings_path,
            agent_hosts=self._hosts.name,
        )
        count = worker_count(given.workers)
        if not count:
            # Arrays, agents and all else that media is made of: where it has processes, this one starts without.
            from media.in_process import InProcessMedia  # noqa: PLC0415

            return InProcessMedia(settings, on_notice=self._on_notice, entropy=entropy)
        self._workers = MediaWorkers(
            count,
            launcher(settings),
            on_notice=self._on_notice,
            on_lost=self._on_lost,
            spawn=tasks.spawn,
            counters=self.counters,
        )
        await self._workers.launch()
        return self._workers

    def _agent_hosts(self, tasks: Supervisor) -> AgentHosts:
        """Their doorway is open; the processes begin now where there are Python agents, else with the first call."""
        given = self.settings.agents
        plan = Plan(
            count=host_count(given.python_processes),
            calls=given.python_calls_per_process,
            agents=given.python,
            paths=given.python_path,
            hang_s=given.python_hang_s,
            allow_private=given.allow_private,
            warm=bool(python_agents(given)),
        )
        name = f"truedy-{entropy(16).hex()}"
        hosts = AgentHosts(plan, host_launcher(plan), name=name, spawn=tasks.spawn, counters=self.counters)
        hosts.open()
        return hosts

    def _carrying(self, registry: Registry) -> Carrying:
        """What the control API is to have of all this."""
        settings = self.settings
        return Carrying(
            calls=self.calls,
            outgoing=Placing(
                registry,
                self.calls,
                self.guard,
                self.dialler,
                agents=settings.agents,
                outbound=settings.outbound,
                equip=self.openai.equip,
                draining=lambda: self.engine.draining,
                records=settings.secrets.key is not None,
                wall=wall_clock,
                entropy=entropy,
            ),
            recordings=self.recordings,
            announcer=Announcements(
                self.passes,
                now=asyncio.get_running_loop().time,
                draining=lambda: self.engine.draining,
                referred=self.twilio_calls.referred,
                progressed=self.calls.carrier_says,
            ),
            connections=self.registrations,
            health=self,
        )

    async def _start_journal(self, stack: AsyncExitStack, tasks: Supervisor, registry: SqliteRegistry) -> Journal:
        path = self.settings.registry.path
        journal = Journal.open(path.with_name(path.name + ".journal"), entropy=entropy, clock=wall_clock)
        stack.callback(journal.close)
        self._replayer = replayer = Replayer(journal, registry, clock=monotonic_clock)
        replay = tasks.spawn(replayer.run(), "journal replay", on_failure=OnFailure.STOP)
        self._registry_open = True

        async def finish() -> None:
            replay.cancel()
            await asyncio.wait((replay,))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_REPLAY_S):
                    await replayer.catch_up()
            self._registry_open = False

        stack.push_async_callback(finish)
        return journal

    def _signalling(self) -> tuple[Endpoint, SipTransport]:
        settings = self.settings
        self.trunks = trunks = TrunkTable(
            trunk_rules(settings),
            realm=settings.sip.domain,
            challenger=Challenger(entropy(32)),
            counters=self.counters,
        )
        engine = Endpoint(
            EndpointSettings(
                domain=settings.sip.domain,
                listeners=self._listeners,
                public_host=settings.sip.public_address,
                t1_s=settings.sip.t1_s,
                session_expires_s=settings.sip.session_expires_s,
                min_se_s=settings.sip.min_se_s,
                reliable=settings.sip.reliable_provisionals == "supported",
                headers=settings.sip.agent_headers,
            ),
            trunks,
            Throttle(settings.limits.attempts_per_second, settings.limits.attempts_burst),
            self.counters,
            entropy=entropy,
            trace=self._trace,
        )
        shell = SipTransport(
            engine,
            self._listeners,
            on_event=self._on_event,
            counters=self.counters,
            tls_server=_server_tls(settings),
            tls_client=client_context(),
            resolver=system_resolver(entropy, tuple(TransportName)),
            listed=trunks.listed,
        )
        return engine, shell

    async def _start_api(self, stack: AsyncExitStack, tasks: Supervisor, registry: Registry) -> str:
        """Where it is: in the process that was launched for it, or in this one."""
        carrying = self._carrying(registry)
        if self._api is not None:
            stack.push_async_callback(self._api.close)
            await self._api.start(carrying, self._listening)
        else:
            await self._serve_api(stack, tasks, registry, carrying)
        return self._url

    async def _serve_api(
        self, stack: AsyncExitStack, tasks: Supervisor, registry: Registry, carrying: Carrying
    ) -> None:
        # HTTP and all that it takes: where it has a process, this one starts without.
        from control.api.composition import compose  # noqa: PLC0415
        from control.api.server import ApiServer  # noqa: PLC0415

        app = compose(
            self.settings,
            registry,
            carrying,
            counters=self.counters,
            metrics=Metrics((), elsewhere=self.readings),
            listening=lambda: self._listening,
            now=asyncio.get_running_loop().time,
            wall=wall_clock,
            entropy=entropy,
        )
        server = ApiServer(app, self._listener)
        await server.start()
        serving = tasks.spawn(server.run(), "control API", on_failure=OnFailure.STOP)

        async def finish() -> None:
            await server.close()
            await asyncio.wait((serving,))

        stack.push_async_callback(finish)

    async def _launch_api(self, stack: AsyncExitStack, tasks: Supervisor, registry: Registry) -> None:
        """Its socket listens from here on; its process, if it has one, takes a while, and has begun."""
        self._listener = listener = listen(self.settings.api.listen)
        stack.callback(listener.close)
        self._url = url_of(listener)
        if not self.settings.api.own_process:
            return
        self._api = ApiProcess(
            self.settings,
            api_launcher(listener.fileno()),
            spawn=tasks.spawn,
            counters=self.counters,
            replaced=lambda: self._api_replaced(tasks, registry),
        )
        await self._api.launch()

    def _api_replaced(self, tasks: Supervisor, registry: Registry) -> None:
        """What it changed in the registry and did not live to tell is looked up."""
        tasks.spawn(self.registrations.refresh(registry), "registrations as the registry has them")

    def _figures(self) -> dict[str, float]:
        return {
            "calls": len(self.calls),
            "sip_pending": self.engine.pending,
            "sip_connections": self.sip.connections,
            "rtp_ports_leased": self.ports.leased,
            "rtp_ports_resting": self.ports.resting(asyncio.get_running_loop().time()),
            "rtp_ports": self.ports.size,
            "tasks": len(self._tasks.names),
            "task_failures": self._tasks.failures,
            "journal_queued_lines": self._journal.statistics.queued,
            "journal_behind_bytes": self._replayer.behind_bytes,
            "journal_lost_lines": self._journal.statistics.lost,
            "media_tick_lateness_p99_seconds": self._tick_late_p99_ms / 1000,
            "gc_collections": self._pauses.collections,
            "gc_pause_seconds": self._pauses.total_s,
            "gc_pause_max_seconds": self._pauses.longest_s,
            "media_gc_pause_max_seconds": self._media_gc_pause_max_ms / 1000,
            "calls_announced": len(self.passes),
        }

    # --- while it runs ---

    def _on_event(self, event: Event) -> None:
        self.calls.on_event(event)
        self.registrations.on_event(event)

    def _on_notice(self, notice: NoticeBody) -> None:
        if isinstance(notice, Statistics):
            self._tick_late_p99_ms = notice.tick_late_p99_ms or 0.0
            self._media_gc_pause_max_ms = notice.gc_pause_max_ms or 0.0
        self.calls.on_notice(notice)

    def _on_lost(self, calls: Iterable[str]) -> None:
        self.calls.on_lost(calls)

    def _take_signals(self, stack: AsyncExitStack, tasks: Supervisor) -> None:
        def asked() -> None:
            if tasks.stopping.is_set():
                self._hurry.set()
            tasks.stop()

        loop = asyncio.get_running_loop()
        actions = {signal.SIGTERM: asked, signal.SIGINT: asked, signal.SIGHUP: self._renew_certificate}
        for number, action in actions.items():
            loop.add_signal_handler(number, action)
            stack.callback(loop.remove_signal_handler, number)

    def _renew_certificate(self) -> None:
        """Read it again, for connections that come from now on; where it cannot be used, the one in use stays."""
        files = {"certificate": str(self.settings.sip.tls_certificate), "key": str(self.settings.sip.tls_key)}
        try:
            context = _server_tls(self.settings)
        except OSError as error:  # ssl.SSLError is one
            log.error("certificate not renewed", extra={**files, "error": str(error)})
            return
        if context is None or not self._listening:
            log.info("no certificate to renew")
            return
        self.sip.renew(context)
        log.info("certificate renewed", extra=files)

    async def _drain(self, tasks: Supervisor) -> None:
        """Refuse new calls, let the old ones end; a second signal or ``limits.drain_s`` ends them."""
        self.engine.draining = True
        log.info("draining", extra={"calls": len(self.calls)})
        await self.registrations.close()
        idle = asyncio.ensure_future(self.calls.idle())
        hurry = asyncio.ensure_future(self._hurry.wait())
        await asyncio.wait((idle, hurry), timeout=self.settings.limits.drain_s, return_when=asyncio.FIRST_COMPLETED)
        self.calls.hang_up_all()
        await asyncio.wait((idle,), timeout=_LAST_GOODBYE_S)
        self.calls.forget_moved()
        for waiting in (idle, hurry):
            waiting.cancel()
        log.info("stopped", extra={"calls_left": len(self.calls)})


def _listener(text: str) -> tuple[TransportName, Address]:
    transport, host, port = parse_listener(text)
    return TransportName(transport), Address(host, port)


def _server_tls(settings: Settings) -> ssl.SSLContext | None:
    if settings.sip.tls_certificate is None or settings.sip.tls_key is None:
        return None
    return server_context(settings.sip.tls_certificate, settings.sip.tls_key)


def _raise_descriptor_limit() -> None:
    """Each call holds two sockets and perhaps a WebSocket: take what the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT, printing the one ready line on standard output.

    Raises :class:`StartError` with the one thing to change when it cannot start.
    """
    try:
        return await Edge(settings).run(lambda ready: print(json.dumps(ready, separators=(",", ":")), flush=True))
    except* (RegistryError, SipListenError, ApiListenError, WorkersFailed, OSError) as group:
        problem = _first(group)
    raise StartError(problem)  # raised in there, it would come in a group, until CPython 3.11.4


def _first(group: BaseExceptionGroup[Exception]) -> str:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else str(error)
