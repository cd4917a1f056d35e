"""The product as a user runs it: ``truedy-edge serve`` in a process of its own, its API and its metrics."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import httpx

from tests.support.pki import Pki
from tests.support.ports import hostport
from tests.support.process import Program, forked, running
from tests.support.zygote import Zygote

__all__ = ["APART", "DID", "MEDIA_PORTS", "Edge", "Keyring", "Settings"]

DID = "+14155550100"
MEDIA_PORTS = range(16384, 20000)
API = "/api/public/v1"
COMMAND = Path(sys.executable).with_name("truedy-edge")
SECRET = base64.b64encode(b"a key of the tests, 32 bytes lon").decode()

# What a quiet edge shows, whatever it has been through. Signalling lingers for 64·T1 after a call, ports rest.
QUIET = {
    "truedy_calls": 0.0,
    "truedy_rtp_ports_leased": 0.0,
    "truedy_task_failures_total": 0.0,
    "truedy_journal_behind_bytes": 0.0,
    "truedy_journal_lost_lines_total": 0.0,
}


@dataclass(frozen=True)
class Keyring:
    """A registry file with one account and an operator key for it; each edge of a test starts from a copy."""

    registry: Path
    account_id: str
    key: str

    @classmethod
    async def make(cls, folder: Path) -> Keyring:
        """With the command line, as an operator would."""
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "edge.toml"
        registry = folder / "registry.db"
        config.write_text(f'[registry]\npath = "{registry}"\n[secrets]\nkey = "{SECRET}"\n')
        account_id = await cls._command(config, "accounts", "create", "Test")
        key = await cls._command(config, "keys", "create", "--account", "Test", "--operator")
        return cls(registry, account_id, key)

    @staticmethod
    async def _command(config: Path, *arguments: str) -> str:
        async with running(COMMAND, *arguments, "--config", config, name=f"truedy-edge {arguments[0]}") as program:
            if await program.wait(30.0) != 0 or not program.lines:
                raise program.failure("failed")
            return program.lines[-1].strip()


APART: Final = {"own_process": True}
"""The API as an edge has it by itself. Whoever does without starts half a second sooner."""


@dataclass
class Settings:
    """What the edge of one test is told. ``more`` is TOML put at the end; ``trunk`` goes into the trunk ``lab``."""

    listen: tuple[str, ...] = ("udp:127.0.0.1:0", "tcp:127.0.0.1:0")
    addresses: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    trunk: Mapping[str, object] = field(default_factory=dict)
    sip: Mapping[str, object] = field(default_factory=dict)
    limits: Mapping[str, object] = field(default_factory=dict)
    media: Mapping[str, object] = field(default_factory=dict)
    api: Mapping[str, object] = field(default_factory=dict)
    agents: Mapping[str, object] = field(default_factory=dict)
    providers: Mapping[str, object] = field(default_factory=dict)
    pki: Pki | None = None
    more: str = ""

    def toml(self, registry: Path) -> str:
        """A whole file."""
        sip: dict[str, Any] = {"listen": list(self.listen), "domain": "sip.test", **self.sip}
        if self.pki:
            sip |= {"tls_certificate": str(self.pki.certificate), "tls_key": str(self.pki.key)}
        media: dict[str, Any] = {"listen_address": "127.0.0.1", "port_rest_s": 0.5}
        media |= {"port_min": MEDIA_PORTS[0], "port_max": MEDIA_PORTS[-1], **self.media}
        limits = {
            "calls_per_caller": 500,
            "attempts_per_second": 1000.0,
            "attempts_burst": 1000,
            "api_requests_per_minute": 100000,
            "drain_s": 5.0,
            **self.limits,
        }
        trunk: dict[str, Any] = {"name": "lab", "addresses": list(self.addresses), "lab": True}
        trunk |= {"allow_private_media": True, **self.trunk}
        sections = {
            "[sip]": sip,
            "[media]": media,
            "[limits]": limits,
            "[api]": {"listen": "127.0.0.1:0", "own_process": False, **self.api},
            "[agents]": {"allow_private": True, **self.agents},
            "[providers]": self.providers,
            "[registry]": {"path": str(registry)},
            "[secrets]": {"key": SECRET},
            "[[trunks]]": trunk,
        }
        lines = []
        for head, values in sections.items():
            lines += [head, *(f"{name} = {json.dumps(value)}" for name, value in values.items()), ""]
        return "\n".join([*lines, self.more])


class Edge:
    """A serving edge. ``allowed`` are patterns of log lines of level error that a test expects."""

    zygote: ClassVar[Zygote | None] = None
    """Where edges come from; each by its command where there is none."""

    def __init__(self, program: Program, folder: Path, keyring: Keyring) -> None:
        self.program = program
        self.folder = folder
        self.account_id = keyring.account_id
        self.key = keyring.key
        self.allowed: list[str] = []
        self.listeners: dict[str, tuple[str, int]] = {}
        self.url = ""
        self.api: httpx.AsyncClient

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        folder: Path,
        keyring: Keyring,
        settings: Settings | None = None,
        *,
        checked: bool = True,
        executed: bool = False,
    ) -> AsyncIterator[Self]:
        """Serving; at the end, unless told otherwise, it has to be quiet, stop with 0 and have logged no error.

        ``executed``: by its command, as a user starts it, and not out of the zygote.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "registry.db").exists():
            shutil.copy(keyring.registry, folder / "registry.db")
        config = folder / "edge.toml"
        config.write_text((settings or Settings()).toml(folder / "registry.db"))
        arguments = ("serve", "--config", config)
        started = running(COMMAND, *arguments) if executed or cls.zygote is None else forked(cls.zygote, *arguments)
        async with started as program:
            edge = cls(program, folder, keyring)
            await edge._take_ready_line()
            headers = {"Authorization": f"Bearer {edge.key}"}
            async with httpx.AsyncClient(base_url=edge.url, headers=headers, timeout=10.0) as edge.api:
                yield edge
                if checked:
                    await edge.expect_quiet()
            if checked:
                await edge.stop()
                edge.check_log()

    async def _take_ready_line(self) -> None:
        ready = json.loads((await self.program.expect(r'^({"event": ?"ready".*)', 20.0))[1])
        for listener in ready["sip"]:
            transport, _, address = listener.partition(":")
            host, _, port = address.rpartition(":")
            self.listeners.setdefault(transport, (host.strip("[]"), int(port)))
        self.url = ready["http"]

    def uri(self, did: str = DID, transport: str = "udp", host: str | None = None) -> str:
        """To dial: ``sip:+14155550100@127.0.0.1:5060``."""
        address, port = self.listeners[transport]
        tail = "" if transport == "udp" else f";transport={transport}"
        return f"sip:{did}@{hostport(host or address, port)}{tail}"

    # --- the API ---

    async def request(self, method: str, path: str, body: object = None, *, status: int = 200) -> Any:
        """The ``data`` of an answer that has to have this status."""
        response = await self.api.request(method, API + path, json=body)
        if response.status_code != status:
            raise AssertionError(f"{method} {path}: {response.status_code}, expected {status}: {response.text}")
        return response.json()["data"]

    async def create_agent(self, pipeline: Mapping[str, Any]) -> str:
        """Its id."""
        agent = await self.request("POST", "/agents", {"name": "agent", "pipeline": pipeline}, status=201)
        return str(agent["id"])

    async def add_number(self, pipeline: Mapping[str, Any], did: str = DID) -> str:
        """A number on the trunk ``lab`` that an agent with this pipeline answers; the number's id."""
        agent_id = await self.create_agent(pipeline)
        body = {"provider": "sip", "provider_trunk": "lab", "phone_number": did}
        number = await self.request("POST", "/telephony/numbers/import", body, status=201)
        await self.request("PATCH", f"/telephony/numbers/{number['id']}", {"agent_id": agent_id})
        return str(number["id"])

    async def add_echo(self, did: str = DID) -> str:
        """A number that the built-in echo answers."""
        return await self.add_number({"protocol": "builtin", "name": "echo"}, did)

    async def add_agent_at(self, url: str, did: str = DID, **pipeline: Any) -> str:
        """A number that an agent answers over Media Streams."""
        return await self.add_number({"protocol": "twilio-media-streams", "url": url, **pipeline}, did)

    async def calls(self) -> list[dict[str, Any]]:
        """All call records, newest first."""
        found: list[dict[str, Any]] = []
        while True:
            response = await self.api.get(f"{API}/calls", params={"limit": 100, "offset": len(found)})
            response.raise_for_status()
            page = response.json()
            found += page["data"]
            if not page["data"] or len(found) >= page["pagination"]["total"]:
                return found

    async def expect_records(self, count: int = 1, timeout_s: float = 10.0) -> list[dict[str, Any]]:
        """Exactly so many call records, each ended, with everything the API tells of one."""
        records: list[dict[str, Any]] = []

        async def written() -> bool:
            records[:] = await self.calls()
            return len(records) >= count and all(record["ended_at"] for record in records)

        await self.until(written, lambda: f"{count} ended call records; there are {records}", timeout_s)
        if len(records) != count:
            raise AssertionError(f"{len(records)} call records, expected {count}: {records}")
        return [await self.request("GET", f"/calls/{record['id']}") for record in records]

    async def expect_live_call(self, timeout_s: float = 5.0) -> dict[str, Any]:
        """The one call that is in progress, once its record says so (records follow the journal)."""
        live: list[dict[str, Any]] = []

        async def shown() -> bool:
            live[:] = [record for record in await self.calls() if record["status"] == "in_progress"]
            return len(live) == 1

        await self.until(shown, lambda: f"one live call; there are {live}", timeout_s)
        return live[0]

    async def timeline(self, call_id: str) -> list[str]:
        """What has been noted of a call so far."""
        return [entry["event"] for entry in (await self.request("GET", f"/calls/{call_id}"))["timeline"]]

    async def expect_noted(self, event: str, timeout_s: float = 5.0) -> None:
        """Until the timeline of the one call that is in progress ends with ``event``."""
        call = await self.expect_live_call()
        noted: list[str] = []

        async def so() -> bool:
            noted[:] = await self.timeline(call["id"])
            return noted[-1:] == [event]

        await self.until(so, lambda: f"{event!r} at the end of {noted}", timeout_s)

    # --- what it shows of itself ---

    async def metrics(self) -> dict[str, float]:
        """Each series of ``/metrics``, labels and all, by its name."""
        response = await self.api.get("/metrics")
        response.raise_for_status()
        lines = (line.rpartition(" ") for line in response.text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}

    async def until(self, condition: Callable[[], Any], what: Callable[[], str], timeout_s: float) -> None:
        """Ask until it is so: the edge has no way to tell an outsider."""
        try:
            async with asyncio.timeout(timeout_s):
                while not await condition():
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise self._failure(f"not within {timeout_s} s: {what()}") from None

    def _failure(self, what: str) -> AssertionError:
        """With its last log lines, less those of being asked."""
        lines = [line for line in self.program.lines if '"event": "GET ' not in line]
        return AssertionError(f"truedy-edge serve: {what}\n  | " + "\n  | ".join(lines[-30:]))

    async def expect_metrics(self, wanted: Mapping[str, float], timeout_s: float = 10.0) -> None:
        """Until the metrics show these values."""
        shown: dict[str, float] = {}

        async def so() -> bool:
            shown.clear()
            shown.update(await self.metrics())
            return all(shown.get(name) == value for name, value in wanted.items())

        await self.until(so, lambda: f"{wanted}, but { ({name: shown.get(name) for name in wanted}) }", timeout_s)

    async def expect_quiet(self, timeout_s: float = 10.0) -> None:
        """No call, no leased port, no failed task, every record in the registry."""
        await self.expect_metrics(QUIET, timeout_s)

    async def expect_silence(self, timeout_s: float) -> None:
        """Quiet, and what lingers in signalling is gone too: transactions and dialogs."""
        await self.expect_metrics({**QUIET, "truedy_sip_pending": 0.0}, timeout_s)

    def log(self) -> list[dict[str, Any]]:
        """Its log lines so far."""
        return [json.loads(line) for line in self.program.lines if line.startswith('{"ts"')]

    def check_log(self) -> None:
        """Nothing of level error but what is allowed, and nothing that is no log line at all (a traceback)."""
        bad = [
            line
            for line in self.program.lines
            if not line.startswith(('{"ts"', '{"event"'))
            or (
                re.search(r'"level": "(error|critical)"|"exception"', line)
                and not any(re.search(pattern, line) for pattern in self.allowed)
            )
        ]
        if bad:
            raise AssertionError("the edge logged what it should not:\n  " + "\n  ".join(bad[:20]))

    # --- its end ---

    async def stop(self, timeout_s: float = 15.0) -> None:
        """SIGTERM; it has to drain and leave with 0."""
        self.program.signal(signal.SIGTERM)
        if await self.program.wait(timeout_s) != 0:
            raise self.program.failure("did not stop with 0")

    async def kill(self) -> None:
        """SIGKILL, as a crash."""
        self.program.signal(signal.SIGKILL)
        await self.program.wait(5.0)
