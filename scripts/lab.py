"""What ``scripts/run`` runs: an edge between fakes of both carriers, a call through each, and then it stays up.

Uses what an operator has, the command ``truedy-edge`` and the control API, and nothing of their insides; the carriers
are in ``lab_carriers.py``.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import ipaddress
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
import wave
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))  # the carriers' fakes live with the tests

from scripts.lab_carriers import TELNYX_HOST, TWILIO_HOST, Carriers, DemonstrationFailed  # noqa: E402

EDGE = Path(sys.executable).with_name("truedy-edge")
LAB = ROOT / "var" / "lab"
NUMBER = "+15551230001"
CALLER_SAYS = ROOT / "media" / "audio" / "caller.wav"
ACCOUNT = "lab"
GREETING_S, DIGIT_AT_S, CALL_S = 1.5, 11, 12.5

SETTINGS = """\
# Lab settings, written by scripts/run: everything on this machine only. The carriers are fakes that it starts.
[sip]
domain = "edge.test"
listen = ["udp:127.0.0.1:{sip}", "tcp:127.0.0.1:{sip}"]

[api]
listen = "127.0.0.1:{api}"

[registry]
path = "{registry}"

[secrets]
key = "{key}"

[agents]
allow_private = true

[providers]
twilio_base_url = "http://127.0.0.1:{twilio}"
telnyx_base_url = "http://127.0.0.1:{telnyx}/v2"
telnyx_sip_proxy = "udp:{telnyx_host}:{registrar}"
twilio_signalling = ["{twilio_host}/32"]
telnyx_signalling = ["{telnyx_host}/32"]
twilio_media = ["{twilio_host}/32"]
telnyx_media = ["{telnyx_host}/32"]

[[trunks]]
name = "lab"
addresses = ["127.0.0.1/32"]
accounts = ["{account}"]
lab = true
allow_private_media = true
"""


class LabError(Exception):
    """Something the reader of the terminal has to know; no traceback."""


def say(text: str = "") -> None:
    print(text, flush=True)


def lab_settings() -> Path:
    """Write ``var/lab/truedy.toml``, readable by its owner only, unless it is there and knows all sections."""
    path = LAB / "truedy.toml"
    LAB.mkdir(parents=True, exist_ok=True)
    before = tomllib.loads(path.read_text()) if path.exists() else {}
    if not {"providers", "agents"} <= before.keys():
        text = SETTINGS.format(
            sip=free_port(5060),
            api=free_port(8080),
            registry=LAB / "registry.db",
            key=before.get("secrets", {}).get("key") or base64.b64encode(secrets.token_bytes(32)).decode(),
            account=ACCOUNT,
            twilio=free_port(8081),
            telnyx=free_port(8082),
            registrar=free_port(5060, TELNYX_HOST),
            twilio_host=TWILIO_HOST,
            telnyx_host=TELNYX_HOST,
        )
        private(path, text)
    return path


def private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


def free_port(wanted: int, host: str = "127.0.0.1") -> int:
    """The well-known port, or any other where something has it already."""
    for port in (wanted, 0):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                udp.bind((host, port))
                tcp.bind(udp.getsockname())
            except OSError:
                continue
            return int(udp.getsockname()[1])
    raise LabError(f"neither port {wanted} nor any other is free")


class Edge:
    """``truedy-edge serve`` as a child; its log goes to ``edge.log``."""

    def __init__(self, config: Path) -> None:
        LAB.mkdir(parents=True, exist_ok=True)
        self.config = config
        self.log = LAB / "edge.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [EDGE, "serve", "--config", config],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )

    def ready(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            raise LabError(f"the edge did not start:\n{self.log.read_text().strip()}")
        return dict(json.loads(line))

    def command(self, *arguments: str) -> str:
        done = subprocess.run(
            [EDGE, *arguments, "--config", self.config, "--log-level", "error"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise LabError(f"truedy-edge {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait()


class Api:
    """The control API as any client uses it."""

    def __init__(self, base: str, key: str) -> None:
        self.url = base + "/api/public/v1"
        self.key = key

    def __call__(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise LabError(f"{method} {path}: {error.code} {error.read().decode(errors='replace')}") from None

    def works(self) -> bool:
        try:
            self("GET", "/telephony/numbers")
        except LabError:
            return False
        return True


def operator_key(edge: Edge, http: str) -> str:
    """The lab account's key, kept from the last run where it still works."""
    kept = LAB / "key"
    if kept.exists() and Api(http, kept.read_text()).works():
        return kept.read_text()
    try:
        edge.command("accounts", "create", ACCOUNT)
    except LabError as error:
        if "exists" not in str(error):
            raise
    key = edge.command("keys", "create", "--account", ACCOUNT, "--operator")
    private(kept, key)
    return key


def number_with_agent(api: Api, trunk: str) -> tuple[str, str]:
    """Import the lab's number and give it the parrot, unless that is done already; the agent's id too."""
    numbers = {number["phone_number"]: number for number in api("GET", "/telephony/numbers")}
    number = numbers.get(NUMBER)
    if number is None:
        body = {"phone_number": NUMBER, "provider": "sip", "provider_trunk": trunk}
        number = api("POST", "/telephony/numbers/import", body)
    if number["agent_id"] is None:
        agent = api("POST", "/agents", {"name": "Parrot", "pipeline": {"protocol": "builtin", "name": "parrot"}})
        number = api("PATCH", f"/telephony/numbers/{number['id']}", {"agent_id": agent["id"]})
    return NUMBER, str(number["agent_id"])


def lab_trunk(settings: Mapping[str, Any]) -> str | None:
    """The first lab trunk in the settings that admits this machine."""
    here = ipaddress.ip_address("127.0.0.1")
    for trunk in settings.get("trunks", []):
        networks = [ipaddress.ip_network(text) for text in trunk.get("addresses", [])]
        if trunk.get("lab") and any(here in network for network in networks):
            return str(trunk["name"])
    return None


def udp_address(ready: Mapping[str, Any]) -> str:
    for listener in ready["sip"]:
        transport, _, address = listener.partition(":")
        if transport == "udp":
            return str(address)
    raise LabError("the demonstration call needs a udp: listener")


def caller_says() -> Path:
    """The caller's sentence, after the silence in which the agent greets."""
    path = LAB / "caller-says.wav"
    with wave.open(str(CALLER_SAYS)) as sentence, wave.open(str(path), "wb") as spoken:
        spoken.setparams(sentence.getparams())
        spoken.writeframes(bytes(2 * round(sentence.getframerate() * GREETING_S)))
        spoken.writeframes(sentence.readframes(sentence.getnframes()))
    return path


def demonstrate(edge: Edge, number: str, address: str) -> None:
    """One call with the softphone: hears the greeting, says a sentence, hears it again, presses 5, hears "five"."""
    recording = LAB / "caller-hears.wav"
    say(f"Calling {number} with the softphone, for {CALL_S} seconds …\n")
    called = subprocess.run(
        [
            *(EDGE, "call", f"sip:{number}@{address}", "--config", edge.config),
            *("--play", caller_says(), "--record", recording),
            *("--digits", "5", "--digits-after", str(DIGIT_AT_S), "--seconds", str(CALL_S)),
        ],
        check=False,
    )
    if called.returncode:
        raise LabError(f"the demonstration call failed; the edge's log: {edge.log}")
    say(f"\nWhat the caller heard: {recording}")


async def demonstrate_carriers(carriers: Carriers) -> None:
    """A call through each carrier's whole path, both at once; told one after the other."""
    say("A call through each carrier: the callers speak, are repeated, and one presses #, the other hangs up …\n")
    twilio: list[str] = ["Through Twilio: webhook, TwiML, INVITE, action.\n"]
    telnyx: list[str] = ["Through Telnyx: our registration, and an INVITE to it.\n"]
    calls = (carriers.call_through_twilio(twilio.append), carriers.call_through_telnyx(telnyx.append))
    failures = [failure for failure in await asyncio.gather(*calls, return_exceptions=True) if failure is not None]
    for line in (*twilio, *telnyx):
        say(line)
    for failure in failures:
        raise failure


async def hold(edge: Edge) -> int:
    """Stay up until the edge ends or the terminal says so."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, edge.process.send_signal, signal.SIGTERM)
    return await asyncio.to_thread(edge.process.wait)


async def run(config: Path | None, demo: bool) -> int:
    lab = config is None
    config = config or lab_settings()
    settings = tomllib.loads(config.read_text())
    async with AsyncExitStack() as stack:
        carriers = None
        if lab:
            http = f"http://{settings['api']['listen']}"
            opening = Carriers.open(settings["providers"], settings["sip"]["domain"], http, LAB, CALLER_SAYS)
            try:
                carriers = await stack.enter_async_context(opening)
            except OSError as error:
                raise LabError(
                    f"the carriers' fakes cannot listen ({error}); without {config} others are chosen"
                ) from None
        edge = Edge(config)
        stack.push_async_callback(asyncio.to_thread, edge.stop)
        ready = await asyncio.to_thread(edge.ready)
        trunk = lab_trunk(settings)
        if trunk is None:
            say("No lab trunk admits this machine: no number made, no call placed.")
        else:
            await furnish(edge, ready, trunk, carriers, demo)
        say(f"API:       {ready['http']}/api/public/v1")
        say(f"Listening: {', '.join(ready['sip'])}    log: {edge.log}")
        say("Ctrl-C stops it.")
        return await hold(edge)


async def furnish(edge: Edge, ready: Mapping[str, Any], trunk: str, carriers: Carriers | None, demo: bool) -> None:
    """Account, key, numbers and agent; then the calls."""
    key = await asyncio.to_thread(operator_key, edge, ready["http"])
    api = Api(ready["http"], key)
    number, agent_id = await asyncio.to_thread(number_with_agent, api, trunk)
    address = udp_address(ready)
    if carriers is not None:

        async def request(method: str, path: str, body: dict[str, Any] | None) -> Any:
            return await asyncio.to_thread(api, method, path, body)

        await carriers.furnish(request, agent_id)
        if demo:
            await demonstrate_carriers(carriers)
    if demo:
        await asyncio.to_thread(demonstrate, edge, number, address)
    say(f"\nCall it:   sip:{number}@{address}")
    say("API key:   " + (key if carriers is not None else f"in {LAB / 'key'}"))


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/run", description=__doc__)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--no-demo", dest="demo", action="store_false")
    arguments = parser.parse_args()
    try:
        return asyncio.run(run(arguments.config, arguments.demo))
    except (LabError, DemonstrationFailed) as error:
        print(f"scripts/run: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
