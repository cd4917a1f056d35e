"""The edge as a process: ``truedy-edge serve`` on core 0, with a lab trunk, raised limits and an agent on a number."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .machine import EDGE_CORE, cpu_s

__all__ = ["ECHO", "NUMBER", "Served", "media_streams", "served"]

NUMBER = "+15551230001"
ECHO: Mapping[str, Any] = {"protocol": "builtin", "name": "echo"}
_API = "/api/public/v1"


def media_streams(url: str) -> dict[str, Any]:
    """The pipeline of an agent that is warm: the call is answered as soon as it is connected."""
    return {"protocol": "twilio-media-streams", "url": url, "answer_after_s": 0.0}


class Served:
    """A running edge, whose registry was there before. ``workers`` as ``media.workers``; None: the default."""

    def __init__(self, folder: Path, pipeline: Mapping[str, Any], workers: int | None = None) -> None:
        self.registry = folder / "registry.db"
        self._config = folder / "edge.toml"
        media = "" if workers is None else f"[media]\nworkers = {workers}\n"
        self._config.write_text(
            f'[sip]\nlisten = ["udp:127.0.0.1:0"]\n[api]\nlisten = "127.0.0.1:0"\n{media}'
            f'[registry]\npath = "{self.registry}"\n'
            f'[secrets]\nkey = "{base64.b64encode(secrets.token_bytes(32)).decode()}"\n'
            "[agents]\nallow_private = true\n"
            "[limits]\ncalls = 4000\ncalls_per_account = 4000\ncalls_per_trunk = 4000\ncalls_per_did = 4000\n"
            "calls_per_caller = 4000\nattempts_per_second = 100000.0\nattempts_burst = 100000\n"
            "api_requests_per_minute = 1000000\n"
            '[[trunks]]\nname = "lab"\naddresses = ["127.0.0.0/8"]\nlab = true\nallow_private_media = true\n'
        )
        self._command = Path(sys.executable).with_name("truedy-edge")
        self._run("accounts", "create", "bench")
        self.key = self._run("keys", "create", "--account", "bench", "--operator")
        self.log = folder / "log"
        began = time.perf_counter()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["taskset", "-c", str(EDGE_CORE), self._command, "serve", "--config", self._config],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        line = self.process.stdout.readline() if self.process.stdout else ""
        self.start_s = time.perf_counter() - began
        if not line:
            raise RuntimeError(f"the edge did not start: {self.log.read_text()[-2000:]}")
        ready = json.loads(line)
        self.port = int(ready["sip"][0].rpartition(":")[2])
        self.url = ready["http"]
        self._number(pipeline)

    def add_agent(self, pipeline: Mapping[str, Any] = ECHO) -> Any:
        """A request that is checked and written to the registry; its answer's data."""
        return self.ask("POST", "/agents", {"name": "bench", "pipeline": pipeline})["data"]

    def _number(self, pipeline: Mapping[str, Any]) -> None:
        import_ = {"phone_number": NUMBER, "provider": "sip", "provider_trunk": "lab"}
        number = self.ask("POST", "/telephony/numbers/import", import_)["data"]
        agent = self.add_agent(pipeline)
        self.ask("PATCH", f"/telephony/numbers/{number['id']}", {"agent_id": agent["id"]})

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The API's answer. Raises urllib.error.HTTPError."""
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + _API + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def metrics(self) -> dict[str, float]:
        """Every sample of ``/metrics``, by its name with labels."""
        with urllib.request.urlopen(self.url + "/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        samples = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    def _run(self, *arguments: str) -> str:
        command = [str(self._command), *arguments, "--config", str(self._config), "--log-level", "error"]
        return str(subprocess.run(command, check=True, capture_output=True, text=True).stdout).strip()

    def pids(self) -> list[int]:
        """The edge and its media processes."""
        found = [self.process.pid]
        for tasks in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += [int(pid) for pid in tasks.read_text().split()]
        return found

    def cpu_s(self) -> float:
        """User and system time of all so far [s]."""
        return sum(map(cpu_s, self.pids()))

    def resident_kb(self) -> int:
        """Resident memory of all [kB]."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text()
                total += int(status.partition("VmRSS:")[2].split(maxsplit=1)[0])
        return total

    def stop(self) -> None:
        """As a service manager does it."""
        self.process.terminate()
        self.process.wait(90)
        if self.process.stdout:
            self.process.stdout.close()


@contextmanager
def served(pipeline: Mapping[str, Any] = ECHO, workers: int | None = None) -> Iterator[Served]:
    """For the time of a block."""
    with tempfile.TemporaryDirectory() as folder:
        edge = Served(Path(folder), pipeline, workers)
        try:
            yield edge
        finally:
            edge.stop()
