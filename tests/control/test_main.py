"""The composed process, in this one: ready, called by the softphone, drained."""

from __future__ import annotations

import asyncio
import os
import platform
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from config import settings as config
from control.call_table import State
from control.entropy import entropy, wall_clock
from control.live_calls import NoLiveCalls
from control.main import Edge, open_registry, seal_anew
from control.metric_families import FAMILIES
from control.operations import Operations
from control.operations.principal import Principal
from control.phone import PhoneCall, PhoneResult, place_call
from control.registry.sqlite import SqliteRegistry
from control.registry.types import Account, CallFilter, Integration, Page, RegistryLocked
from control.resources.accounts import CreateAccount
from control.resources.agents import CreateAgent
from control.resources.calls import CallDetail
from control.resources.numbers import ImportSipNumber, UpdateNumber
from control.vault import Vault
from edge.events import TransportName
from edge.transport.sockets import ListenError as SipListenError

pytestmark = pytest.mark.uvloop

NUMBER = "+15551230001"


def settings(folder: Path, **changes: Any) -> config.Settings:
    values: dict[str, Any] = {
        "sip": config.Sip(listen=("udp:127.0.0.1:0", "tcp:127.0.0.1:0")),
        "media": config.Media(port_min=24000, port_max=24999),
        "api": config.Api(listen="127.0.0.1:0", own_process=False),
        "registry": config.Registry(path=folder / "registry.db"),
        "limits": config.Limits(drain_s=20),
        "trunks": (config.Trunk(name="lab", addresses=("127.0.0.0/8",), lab=True, allow_private_media=True),),
    }
    return config.Settings(**(values | changes))


@dataclass
class Running:
    edge: Edge
    ready: dict[str, Any]
    task: asyncio.Task[int]
    operations: Operations
    account: Principal
    told: bool = False

    def terminate(self) -> None:
        self.told = True
        os.kill(os.getpid(), signal.SIGTERM)

    def uri(self, transport: str = "udp") -> str:
        (listener,) = [text for text in self.ready["sip"] if text.startswith(transport)]
        return f"sip:{NUMBER}@{listener.partition(':')[2]}"

    async def call(self, transport: str = "udp", **options: Any) -> PhoneResult:
        dial = PhoneCall(target=self.uri(transport), transport=TransportName(transport), **options)
        return await place_call(dial, entropy=entropy)

    async def record(self) -> CallDetail:
        """The one call's record, once it is complete."""
        async with asyncio.timeout(10):
            while True:
                listing = await self.operations.calls(self.account, Page(), CallFilter())
                if listing.items and listing.items[0].ended_at is not None:
                    return await self.operations.call(self.account, str(listing.items[0].id))
                await asyncio.sleep(0.02)

    async def ask(self, path: str) -> tuple[int, str]:
        """Status and text of the answer."""

        def get() -> tuple[int, str]:
            try:
                with urllib.request.urlopen(self.ready["http"] + path, timeout=5) as answer:
                    return int(answer.status), answer.read().decode()
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, error.read().decode()

        return await asyncio.to_thread(get)

    async def status(self, path: str) -> int:
        status, _ = await self.ask(path)
        return status


@asynccontextmanager
async def running(given: config.Settings, agent: str = "parrot") -> AsyncIterator[Running]:
    edge = Edge(given)
    announced: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(edge.run(announced.set_result))
    await asyncio.wait((task, announced), return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    registry = open_registry(given, serving=False)
    operations = Operations(registry, NoLiveCalls(), given, clock=wall_clock, entropy=entropy)
    try:
        made = await operations.create_account(Principal.console(), CreateAccount(name="acme"))
        account = Principal.console(str(made.id))
        number = await operations.import_number(
            account, ImportSipNumber(phone_number=NUMBER, provider="sip", provider_trunk="lab")
        )
        pipeline = {"name": "Agent", "pipeline": {"protocol": "builtin", "name": agent}}
        answering = await operations.create_agent(account, CreateAgent.model_validate(pipeline))
        await operations.update_number(account, str(number.id), UpdateNumber(agent_id=answering.id))
        up = Running(edge, await announced, task, operations, account)
        yield up
        if not up.told:
            up.terminate()
        assert await task == 0
    finally:
        await registry.close()
        task.cancel()
        await asyncio.wait((task,))


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_the_softphone_calls_a_number_and_the_call_is_recorded(transport: str, tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as up:
        heard = tmp_path / "heard.wav"
        result = await up.call(transport, record=heard, digits="#", digits_after_ms=300, seconds=20)
        assert result.answered
        assert result.ended_by == "remote"
        received = [entry.first_line.split()[1] for entry in result.trace if not entry.sent]
        assert [status for status in received if status in ("180", "200")] == ["180", "200"]
        assert [entry.first_line.split()[0] for entry in result.trace if entry.sent] == ["INVITE", "ACK", "SIP/2.0"]
        assert heard.stat().st_size > 16_000
        record = await up.record()
        assert (record.status, record.ended_by, record.end_reason) == ("completed", "agent", "agent_hung_up")
        assert "digit: #" in [entry.event for entry in record.timeline]
        assert up.edge.ports.leased == 0


async def test_ready_means_listening_with_the_registry_open(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as up:
        assert await up.status("/healthz") == 200
        assert await up.status("/readyz") == 200
        assert {listener.partition(":")[0] for listener in up.ready["sip"]} == {"udp", "tcp"}
        assert not any(listener.endswith(":0") for listener in up.ready["sip"])
        _, text = await up.ask("/metrics")
        shown = {line.partition(" ")[0] for line in text.splitlines()}
        apart = {FAMILIES[key].name for key in ("api_process_memory_bytes", "api_process_cpu_seconds")}
        names = {name for family in FAMILIES.values() if not family.labels for name in family.series.values()}
        assert names - {series.partition("{")[0] for series in shown} == apart
        assert 'truedy_registrations{state="failed"}' in shown
        assert f'truedy_build_info{{python="{platform.python_version()}",version="{version("truedy-edge")}"}}' in shown


async def test_at_the_start_credentials_are_sealed_anew_or_stay_as_they_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = (Vault(bytes([number]) * 32, entropy=entropy) for number in (1, 2))
    both = Vault(bytes([2]) * 32, entropy=entropy, previous=[bytes([1]) * 32])
    with caplog.at_level("INFO"):
        for vault, told in ((old, 0), (new, None), (both, 1), (new, 0)):
            registry = SqliteRegistry.open(tmp_path / "registry.db", vault)
            if vault is old:
                await registry.create_account(Account("a1", "acme", 0.0))
                await registry.save_integration(Integration("a1", "twilio", {}, {"auth_token": "t"}))
            await seal_anew(registry)
            await registry.close()
            assert getattr(caplog.records[-1], "count", None) == told


async def test_a_second_instance_on_the_same_registry_is_refused(tmp_path: Path) -> None:
    given = settings(tmp_path)
    async with running(given):
        with pytest.raises(ExceptionGroup) as refused:
            await Edge(given).run(lambda ready: None, signals=False)
        assert refused.group_contains(RegistryLocked)


async def test_a_start_that_fails_leaves_no_process(tmp_path: Path) -> None:
    """Those of media and of the API have been started by then; the guard of every test looks for them."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        listen = (f"udp:127.0.0.1:{taken.getsockname()[1]}",)
        given = settings(tmp_path, sip=config.Sip(listen=listen), api=config.Api(listen="127.0.0.1:0"))
        assert given.api.own_process
        with pytest.raises(ExceptionGroup) as refused:
            await Edge(given).run(lambda ready: None, signals=False)
    assert refused.group_contains(SipListenError)


async def test_draining_refuses_new_calls_and_lets_the_old_one_end(tmp_path: Path) -> None:
    async with running(settings(tmp_path), agent="echo") as up:
        old = asyncio.create_task(up.call(seconds=3))
        async with asyncio.timeout(10):
            while not len(up.edge.calls):
                await asyncio.sleep(0.01)
        up.terminate()
        async with asyncio.timeout(10):
            while not up.edge.engine.draining:
                await asyncio.sleep(0.01)
        refused = await up.call(seconds=1)
        assert not refused.answered
        assert refused.status == 503
        assert await up.status("/readyz") == 503
        ended = await old
        assert ended.answered
        assert ended.ended_by == "local"
        assert await up.task == 0


async def test_a_second_signal_hangs_up_what_is_left(tmp_path: Path) -> None:
    async with running(settings(tmp_path), agent="echo") as up:
        call = asyncio.create_task(up.call(seconds=60))
        async with asyncio.timeout(10):
            while not [call for call in up.edge.calls._by_id.values() if call.state is State.ESTABLISHED]:
                await asyncio.sleep(0.01)
        up.terminate()
        async with asyncio.timeout(10):
            while not up.edge.engine.draining:
                await asyncio.sleep(0.01)
        up.terminate()
        result = await call
        assert result.ended_by == "remote"
        record = await up.record()
        assert record.end_reason == "operator_hung_up"


async def test_a_call_to_nobody_says_so(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as up:
        nobody = up.uri().replace(NUMBER, "+15559999999")
        result = await place_call(PhoneCall(target=nobody), entropy=entropy)
        assert not result.answered
        assert (result.status, result.reason) == (404, "the dialed number is not on this trunk")
