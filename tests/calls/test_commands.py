"""``truedy-edge`` on the command line: the softphone, the checks before serving, the drain."""

from __future__ import annotations

import asyncio
import signal
import ssl
from pathlib import Path

import pytest

from tests.support.audio import heard_s, read_wav, tone, write_wav
from tests.support.edge import COMMAND, DID, Edge, Keyring, Settings
from tests.support.media_streams_agent import AGENT_HZ, MediaStreamsAgent, greet
from tests.support.phone import Phone
from tests.support.pki import Pki
from tests.support.process import running

CALLER_HZ = 1000


@pytest.mark.realtime
@pytest.mark.parametrize("transport", ["udp", pytest.param("tcp", marks=pytest.mark.slow), "tls"])
async def test_the_softphone_talks_with_the_agent_and_draws_the_ladder(
    edge: Edge, pki: Pki, tmp_path: Path, transport: str
) -> None:
    """It plays, records and presses digits, over each transport, and leaves with 0."""
    said = write_wav(tmp_path / "said.wav", tone(CALLER_HZ, 3.0))
    heard = tmp_path / "heard.wav"
    config = edge.folder / "edge.toml"
    async with MediaStreamsAgent.open(greet) as agent:
        await edge.add_agent_at(agent.url)
        arguments = [edge.uri(transport=transport), "--transport", transport, "--config", config]
        arguments += ["--play", said, "--record", heard, "--digits", "12#", "--seconds", "2.5"]
        async with running(COMMAND, "call", *arguments, "--trust", pki.authority, name="truedy-edge call") as program:
            code = await program.wait(20.0)
            assert code == 0, program.failure("the call failed")
            ladder = "\n".join(program.lines)
        call = agent.calls[0]
        await call.expect("stop")
        assert heard_s(call.heard(), CALLER_HZ) >= 1.0
        assert call.digits() == "12#"
    assert heard_s(read_wav(heard), AGENT_HZ) >= 0.8
    assert [word in ladder for word in ("INVITE", "180", "200", "ACK", "BYE")] == [True] * 5, ladder
    await edge.expect_records(1)


async def test_the_softphone_says_so_when_nobody_answers(edge: Edge) -> None:
    """404 is drawn, and the exit status is 1."""
    async with running(COMMAND, "call", edge.uri("+14155550123"), "--config", edge.folder / "edge.toml") as program:
        assert await program.wait(20.0) == 1
        assert any("404" in line for line in program.lines), program.failure("no 404 in its ladder")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (Settings(sip={"domian": "sip.test"}), "domian"),
        (Settings(media={"port_min": 99}), "port_min"),
        (Settings(listen=("udp:127.0.0.1:5060", "tls:127.0.0.1:5061")), "tls"),
        (Settings(trunk={"lab": False}, addresses=("54.172.60.0/30",)), "addresses"),
        (Settings(trunk={"auth": "digest", "username": "pbx", "password": ""}), "password"),
        (Settings(more='[recording]\npath = "/proc/recordings"\nenabled = true'), "recording.path"),
    ],
    ids=["unknown key", "bad value", "tls without a certificate", "a carrier's range", "empty password", "no folder"],
)
@pytest.mark.parametrize("command", ["serve", "check-config"])
async def test_wrong_settings_are_one_readable_error_that_names_the_key(
    tmp_path: Path, command: str, settings: Settings, named: str
) -> None:
    """Exit 2, before anything is opened."""
    config = tmp_path / "edge.toml"
    config.write_text(settings.toml(tmp_path / "registry.db"))
    async with running(COMMAND, command, "--config", config) as program:
        assert await program.wait(20.0) == 2
        text = "\n".join(program.lines)
    assert named in text, text
    assert "Traceback" not in text, text
    assert not (tmp_path / "registry.db").exists()


async def test_a_second_instance_on_the_same_registry_is_refused(edge: Edge) -> None:
    """It says which file; the first goes on serving."""
    async with running(COMMAND, "serve", "--config", edge.folder / "edge.toml") as program:
        assert await program.wait(20.0) not in (0, -signal.SIGKILL)
        text = "\n".join(program.lines)
    assert "registry.db" in text, text
    assert "Traceback" not in text, text
    assert (await edge.api.get("/healthz")).status_code == 200


async def test_the_ready_line_is_as_scripts_expect_it(edge: Edge) -> None:
    """Without a space: shell scripts look for it with grep."""
    [line] = [line for line in edge.program.lines if line.startswith('{"event":"ready"')]
    sip = ",".join(f'"{transport}:127.0.0.1:{port}"' for transport, (_, port) in edge.listeners.items())
    assert line.strip() == f'{{"event":"ready","sip":[{sip}],"http":"{edge.url}"}}'


async def test_keys_and_accounts_are_made_beside_a_serving_edge(edge: Edge) -> None:
    """The new key works at once, and no longer than until it is revoked."""
    config = edge.folder / "edge.toml"

    async def command(*arguments: str) -> str:
        async with running(COMMAND, *arguments, "--config", config, name="truedy-edge") as program:
            assert await program.wait(20.0) == 0, program.failure(" ".join(arguments))
            return "\n".join(program.lines)

    await command("accounts", "create", "Second")
    key = await command("keys", "create", "--account", "Second")
    assert key.startswith("truedy_")
    headers = {"Authorization": f"Bearer {key}"}
    assert (await edge.api.get("/api/public/v1/agents", headers=headers)).status_code == 200
    listed = await command("keys", "list", "--account", "Second")
    assert key not in listed
    key_id = listed.splitlines()[-1].split()[0]
    await command("keys", "revoke", key_id)
    assert (await edge.api.get("/api/public/v1/agents", headers=headers)).status_code == 401


async def test_sigterm_drains(tmp_path: Path, keyring: Keyring) -> None:
    """New calls and OPTIONS get 503, the call that is up ends as it wants to, the exit status is 0."""
    async with Edge.open(tmp_path / "edge", keyring, Settings(limits={"drain_s": 20.0}), checked=False) as edge:
        await edge.add_echo()
        async with Phone.open(edge.listeners["udp"]) as phone:
            call = await phone.call(DID)
            await call.establish()
            edge.program.signal(signal.SIGTERM)
            await edge.program.expect('"event": "draining"')
            assert (await phone.options()).status == 503
            late = await phone.call(DID)
            await late.invite()
            refused = await late.expect(503)
            assert refused.get("retry-after")
            assert (await edge.api.get("/readyz")).status_code == 503
            assert (await edge.api.get("/healthz")).status_code == 200
            assert edge.program.exit_code is None
            assert (await call.bye()).status == 200
        assert await edge.program.wait(10.0) == 0
    async with Edge.open(tmp_path / "edge", keyring) as again:
        [record] = await again.expect_records(1)
        assert record["end_reason"] == "caller_hung_up"


async def presented(address: tuple[str, int]) -> bytes:
    """The certificate that a TLS listener shows, DER."""
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection(*address, ssl=anybody)
    shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return shown


async def test_sighup_renews_the_certificate(tmp_path: Path, keyring: Keyring) -> None:
    """For connections that come then; files that cannot be used change nothing."""
    files = Pki.make(tmp_path / "pki")
    settings = Settings(listen=("udp:127.0.0.1:0", "tls:127.0.0.1:0"), pki=files)
    async with Edge.open(tmp_path / "edge", keyring, settings) as edge:
        edge.allowed.append("certificate not renewed")
        first = await presented(edge.listeners["tls"])
        files.key.write_text("half written")
        edge.program.signal(signal.SIGHUP)
        await edge.program.expect("certificate not renewed")
        assert await presented(edge.listeners["tls"]) == first
        renewed = Pki.make(tmp_path / "pki").certificate.read_text()
        edge.program.signal(signal.SIGHUP)
        await edge.program.expect("certificate renewed")
        assert await presented(edge.listeners["tls"]) == ssl.PEM_cert_to_DER_cert(renewed) != first
