"""What ``scripts/run`` runs: an edge, a number with an agent, one call through it, and then it stays up.

Uses what an operator has, the command ``truedy-edge`` and the control API, and nothing of their insides.
"""

from __future__ import annotations

import argparse
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
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
EDGE = Path(sys.executable).with_name("truedy-edge")
LAB = ROOT / "var" / "lab"
NUMBER = "+15551230001"
CALLER_SAYS = ROOT / "media" / "audio" / "caller.wav"
ACCOUNT = "lab"
GREETING_S, DIGIT_AT_S, CALL_S = 7, 17, 19

SETTINGS = """\
# Lab settings, written by scripts/run: everything on this machine only.
[sip]
listen = ["udp:127.0.0.1:{sip}", "tcp:127.0.0.1:{sip}"]

[api]
listen = "127.0.0.1:{api}"

[registry]
path = "{registry}"

[secrets]
key = "{key}"

[[trunks]]
name = "lab"
addresses = ["127.0.0.0/8"]
accounts = ["{account}"]
lab = true
allow_private_media = true
"""


class LabError(Exception):
    """Something the reader of the terminal has to know; no traceback."""


def say(text: str = "") -> None:
    print(text, flush=True)


def lab_settings() -> Path:
    """Write ``var/lab/truedy.toml`` unless it is there; readable by its owner only."""
    path = LAB / "truedy.toml"
    LAB.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        text = SETTINGS.format(
            sip=free_port(5060),
            api=free_port(8080),
            registry=LAB / "registry.db",
            key=base64.b64encode(secrets.token_bytes(32)).decode(),
            account=ACCOUNT,
        )
        private(path, text)
    return path


def private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


def free_port(wanted: int) -> int:
    """The well-known port, or any other where something has it already."""
    for port in (wanted, 0):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                udp.bind(("127.0.0.1", port))
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
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)["data"]

    def works(self) -> bool:
        try:
            self("GET", "/telephony/numbers")
        except urllib.error.HTTPError:
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


def number_with_agent(api: Api, trunk: str) -> str:
    """Import the lab's number and give it the parrot, unless that is done already."""
    numbers = {number["phone_number"]: number for number in api("GET", "/telephony/numbers")}
    number = numbers.get(NUMBER)
    if number is None:
        body = {"phone_number": NUMBER, "provider": "sip", "provider_trunk": trunk}
        number = api("POST", "/telephony/numbers/import", body)
    if number["agent_id"] is None:
        agent = api("POST", "/agents", {"name": "Parrot", "pipeline": {"protocol": "builtin", "name": "parrot"}})
        api("PATCH", f"/telephony/numbers/{number['id']}", {"agent_id": agent["id"]})
    return NUMBER


def lab_trunk(config: Path) -> str | None:
    """The first lab trunk in the settings that admits this machine."""
    here = ipaddress.ip_address("127.0.0.1")
    for trunk in tomllib.loads(config.read_text()).get("trunks", []):
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
        spoken.writeframes(bytes(2 * sentence.getframerate() * GREETING_S))
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


def hold(edge: Edge) -> int:
    """Stay up until the edge ends or the terminal says so."""

    def stop(number: int, frame: object) -> None:
        edge.process.send_signal(signal.SIGTERM)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return edge.process.wait()


def run(config: Path | None, demo: bool) -> int:
    lab = config is None
    config = config or lab_settings()
    edge = Edge(config)
    try:
        ready = edge.ready()
        trunk = lab_trunk(config)
        if trunk is None:
            say("No lab trunk admits this machine: no number made, no call placed.")
        else:
            key = operator_key(edge, ready["http"])
            number = number_with_agent(Api(ready["http"], key), trunk)
            address = udp_address(ready)
            if demo:
                demonstrate(edge, number, address)
            say(f"\nCall it:   sip:{number}@{address}")
            say(f"API key:   {key}" if lab else f"API key:   in {LAB / 'key'}")
        say(f"API:       {ready['http']}/api/public/v1")
        say(f"Listening: {', '.join(ready['sip'])}    log: {edge.log}")
        say("Ctrl-C stops it.")
        return hold(edge)
    finally:
        edge.stop()


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/run", description=__doc__)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--no-demo", dest="demo", action="store_false")
    arguments = parser.parse_args()
    try:
        return run(arguments.config, arguments.demo)
    except LabError as error:
        print(f"scripts/run: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
