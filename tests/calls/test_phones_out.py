"""Calls that the edge places to real phones by a static trunk, and callers that it refers elsewhere."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.support.audio import heard_s, level_dbfs, tone
from tests.support.baresip import Baresip
from tests.support.edge import DID, Edge, Keyring, Settings
from tests.support.kamailio import Kamailio
from tests.support.linphone import Linphone
from tests.support.media_streams_agent import AGENT_HZ, MediaStreamsAgent, greet
from tests.support.phone import Phone
from tests.support.pjsip import Pjsip, has_pjsip
from tests.support.pki import Pki
from tests.support.ports import free_port
from tests.support.process import needs
from tests.support.sipp import Sipp
from tests.support.sniffer import Sniffer, can_sniff
from tests.support.user_agents import CALLED, CALLEE, called_phone

ECHO = "+14155550101"
PHONE_HZ = 1000


async def place(edge: Edge, number: str = CALLEE, *, from_number: str = DID, **settings: object) -> str:
    """A call of the agent that answers :data:`DID`; its id."""
    agents = {each["phone_number"]: each["agent_id"] for each in await edge.request("GET", "/telephony/numbers")}
    body = {"agent_id": agents[DID], "phone_number": number, "from_number": from_number, "call_settings": settings}
    return str((await edge.request("POST", "/calls", body, status=201))["id"])


async def told(edge: Edge, call: str, event: str, timeout_s: float = 10.0) -> None:
    """Until the call's timeline has a line that begins so."""

    async def so() -> bool:
        return any(line.startswith(event) for line in await edge.timeline(call))

    await edge.until(so, lambda: f"{event!r} in the timeline of {call}", timeout_s)


async def record(edge: Edge, call: str) -> dict[str, Any]:
    """Of a call that has to be over soon."""
    found: dict[str, Any] = {}

    async def ended() -> bool:
        found.update(await edge.request("GET", f"/calls/{call}"))
        return bool(found["ended_at"])

    await edge.until(ended, lambda: f"the end of {found}", 10.0)
    return found


@pytest.mark.realtime
@needs("sipp")
@pytest.mark.interop(agent=("baresip", "linphone", "pjsua2"), feature=("calls out", "held by the edge", "REFER"))
@pytest.mark.interop(agent="baresip", feature=("TLS", "G.722", "SRTP"))
@pytest.mark.interop(agent="linphone", feature=("TCP", "Opus", "SRTP"))
@pytest.mark.interop(agent="pjsua2", feature=("UDP", "PCMA"))
@pytest.mark.parametrize(("name", "transport"), CALLED)
async def test_a_phone_is_called_held_and_referred(
    tmp_path: Path, keyring: Keyring, pki: Pki, monkeypatch: pytest.MonkeyPatch, name: str, transport: str
) -> None:
    """Tones both ways; hold and back; REFER to one who is busy (the call goes on), then to one who answers."""
    monkeypatch.setenv("SSL_CERT_FILE", str(pki.authority))
    port = free_port()
    async with (
        MediaStreamsAgent.open(greet) as agent,
        Sipp.serve(tmp_path / "busy", say=tone(PHONE_HZ, 1), scenario="finals") as busy,
        called_phone(name, transport, tmp_path / "phone", tone(PHONE_HZ, 30), pki) as phone,
    ):
        targets = [f"sip:0486@127.0.0.1:{busy.address[1]}", f"sip:{ECHO}@127.0.0.1:{port}"]
        settings = Settings(
            listen=(f"udp:127.0.0.1:{port}", "tcp:127.0.0.1:0", "tls:127.0.0.1:0"),
            trunk={"outbound": phone.outbound, "transfer": "refer", **phone.trunk},
            pki=pki,
            more=f"[outbound]\nsip_targets = {targets}\n",
        )
        async with Edge.open(tmp_path / "edge", keyring, settings) as edge:
            await edge.add_agent_at(agent.url)
            await edge.add_echo(ECHO)
            call_id = await place(edge)
            call = await agent.expect_call()
            await phone.expect_call()
            await call.expect_tone(PHONE_HZ, 0.5)
            await call.expect("mark")
            await edge.request("POST", f"/calls/{call_id}/hold")
            await call.wait_until(
                lambda: len(call.heard()) >= 4000 and level_dbfs(call.heard()[-2400:]) < -50, "silence while on hold"
            )
            await edge.request("POST", f"/calls/{call_id}/resume")
            at = len(call.heard())
            await call.wait_until(lambda: heard_s(call.heard()[at:], PHONE_HZ) >= 0.4, "the tone after the hold")
            await edge.request("POST", f"/calls/{call_id}/transfer", {"target": targets[0]}, status=202)
            await told(edge, call_id, "transfer_failed: 486")
            await busy.finish()
            at = len(call.heard())
            await call.wait_until(lambda: heard_s(call.heard()[at:], PHONE_HZ) >= 0.4, "the tone after the REFER")
            await edge.request("POST", f"/calls/{call_id}/transfer", {"target": targets[1]}, status=202)
            ended = await record(edge, call_id)
            assert ended["end_reason"] == "transferred", ended
            await phone.hang_up()
    assert heard_s(phone.heard(), AGENT_HZ) >= 0.8


@pytest.mark.realtime
@needs("sipp")
@can_sniff
@pytest.mark.interop(agent="sipp", feature=("calls out", "UDP", "PCMU", "digest", "held by the edge", "REFER"))
async def test_sipp_challenges_and_is_called_held_and_referred(tmp_path: Path, keyring: Keyring) -> None:
    """401 and the trunk's own credentials; tones both ways; then as the phones."""
    async with (
        MediaStreamsAgent.open(greet) as agent,
        Sipp.serve(tmp_path / "sipp", say=tone(PHONE_HZ, 30), scenario="called") as sipp,
    ):
        port = sipp.address[1]
        settings = Settings(
            trunk={
                "outbound": f"udp:127.0.0.1:{port}",
                "outbound_username": "edge",
                "outbound_password": "secret",
                "transfer": "refer",
            },
            more='[outbound]\nsip_targets = ["sip:busy@pbx.test", "sip:desk@pbx.test"]\n',
        )
        async with Edge.open(tmp_path / "edge", keyring, settings) as edge:
            await edge.add_agent_at(agent.url)
            with Sniffer.open(sipp.media_ports) as sniffer:
                call_id = await place(edge)
                call = await agent.expect_call()
                await call.expect_tone(PHONE_HZ, 0.5)
                await call.expect("mark")
                assert heard_s(sniffer.audio(), AGENT_HZ) >= 0.8
            for verb in ("hold", "resume"):
                await edge.request("POST", f"/calls/{call_id}/{verb}")
            for target, outcome in (("busy", "transfer_failed: 486"), ("desk", "transferred")):
                body = {"target": f"sip:{target}@pbx.test"}
                await edge.request("POST", f"/calls/{call_id}/transfer", body, status=202)
                await told(edge, call_id, outcome)
            await sipp.finish()
            assert (await record(edge, call_id))["end_reason"] == "transferred"


@needs("sipp")
@pytest.mark.interop(agent="sipp", feature=("calls out", "CANCEL"))
async def test_calls_that_come_to_nothing_say_why(tmp_path: Path, keyring: Keyring) -> None:
    """Busy, declined, moved (a redirection is not followed), unanswered, given up while it was being answered."""
    outcomes = {
        "+14155550486": ("callee_busy", 486),
        "+14155550603": ("callee_declined", 603),
        "+14155550302": ("callee_redirected", 302),
        "+14155550487": ("no_answer", None),
        "+14155550200": ("operator_hung_up", None),
    }
    async with Sipp.serve(tmp_path / "sipp", say=tone(PHONE_HZ, 1), scenario="finals", calls=len(outcomes)) as sipp:
        trunk = {"outbound": f"udp:127.0.0.1:{sipp.address[1]}"}
        async with Edge.open(tmp_path / "edge", keyring, Settings(trunk=trunk)) as edge:
            await edge.add_echo()
            calls = {number: await place(edge, number, join_timeout="5s") for number in outcomes}
            for number in ("+14155550487", "+14155550200"):
                await told(edge, calls[number], "ringing")
            await edge.request("POST", f"/calls/{calls['+14155550200']}/hangup")
            await sipp.finish()
            found = {number: await record(edge, id) for number, id in calls.items()}
            assert {number: (each["end_reason"], each["sip_status"]) for number, each in found.items()} == outcomes


@pytest.mark.realtime
@needs("sipp")
@pytest.mark.interop(agent="sipp", feature=("PRACK", "UPDATE", "digits by INFO", "held by the phone", "re-INVITE"))
async def test_a_callee_that_prescribes_everything_is_followed(tmp_path: Path, keyring: Keyring) -> None:
    """PRACK of its 183; its UPDATE before the 200, which has no SDP; INFO both ways; its re-INVITEs.

    And a call that a proxy has forked: the fork that answers is talked to, the one that answers later is hung up on.
    """
    async with (
        MediaStreamsAgent.open(greet) as agent,
        Sipp.serve(tmp_path / "progress", say=tone(PHONE_HZ, 10), scenario="progress") as progress,
        Sipp.serve(tmp_path / "fork", say=tone(PHONE_HZ, 10), scenario="fork") as fork,
    ):
        trunk = {"outbound": f"udp:127.0.0.1:{progress.address[1]}"}
        forking = '[[trunks]]\nname = "fork"\naddresses = ["127.0.0.9/32"]\nlab = true\nallow_private_media = true\n'
        forking += f'outbound = "udp:127.0.0.1:{fork.address[1]}"\n'
        async with Edge.open(tmp_path / "edge", keyring, Settings(trunk=trunk, more=forking)) as edge:
            await edge.add_agent_at(agent.url)
            body = {"provider": "sip", "provider_trunk": "fork", "phone_number": ECHO}
            await edge.request("POST", "/telephony/numbers/import", body, status=201)
            call_id = await place(edge)
            call = await agent.expect_call()
            await call.wait_until(lambda: call.digits() == "5", "the digit")
            await call.expect_tone(PHONE_HZ, 0.3)
            await edge.request("POST", f"/calls/{call_id}/digits", {"digits": "7"})
            forked_id = await place(edge, from_number=ECHO)
            forked = await agent.expect_call(2)
            await forked.expect_tone(PHONE_HZ, 0.3)
            await progress.finish()
            events = await edge.timeline(call_id)
            assert [each for each in events if each in ("held", "resumed", "renegotiated")] == [
                "renegotiated",
                "held",
                "resumed",
            ]
            assert (await record(edge, call_id))["end_reason"] == "callee_hung_up"
            await edge.request("POST", f"/calls/{forked_id}/hangup")
            await fork.finish()


@pytest.mark.realtime
@pytest.mark.slow
@needs("sipp")
@pytest.mark.interop(agent="sipp", feature="session timer")
async def test_a_callee_that_wants_its_session_refreshed_has_it_refreshed(tmp_path: Path, keyring: Keyring) -> None:
    """RFC 4028 §7.2: its 2xx makes the edge the refresher; after half of 90 s comes a re-INVITE."""
    async with (
        MediaStreamsAgent.open(greet) as agent,
        Sipp.serve(tmp_path / "sipp", say=tone(PHONE_HZ, 10), scenario="refreshed", timeout_s=70) as sipp,
    ):
        trunk = {"outbound": f"udp:127.0.0.1:{sipp.address[1]}"}
        async with Edge.open(tmp_path / "edge", keyring, Settings(trunk=trunk)) as edge:
            await edge.add_agent_at(agent.url)
            call_id = await place(edge)
            call = await agent.expect_call()
            await call.wait_until(lambda: len(call.messages) >= 50 * 50, "50 s of audio", 60.0)
            assert heard_s(call.heard(), PHONE_HZ) >= 45
            await edge.request("POST", f"/calls/{call_id}/hangup")
            await sipp.finish()
            assert (await record(edge, call_id))["end_reason"] == "operator_hung_up"


@pytest.mark.realtime
@has_pjsip
@needs("kamailio")
@pytest.mark.interop(
    agent="kamailio", feature=("calls out", "digest", "UDP", "TCP", "held by the edge", "REFER", "caller hangs up")
)
async def test_a_call_goes_out_through_a_proxy_that_challenges(tmp_path: Path, keyring: Keyring) -> None:
    """407 and the trunk's own credentials; hold, REFER and NOTIFY by the route set, and the callee's BYE."""
    port = free_port()
    nobody = f"sip:+14155550199@127.0.0.1:{port};transport=tcp"
    async with (
        MediaStreamsAgent.open(greet) as agent,
        Pjsip.open(tmp_path / "pjsip", tone(PHONE_HZ, 20), transport="tcp", answers=True) as phone,
        Kamailio.open(
            tmp_path / "kamailio", ("127.0.0.1", phone.port), transport="tcp", credentials=("edge", "secret")
        ) as proxy,
    ):
        trunk = {
            "outbound": f"udp:127.0.0.1:{proxy.port}",
            "outbound_username": "edge",
            "outbound_password": "secret",
            "transfer": "refer",
        }
        settings = Settings(
            listen=("udp:127.0.0.1:0", f"tcp:127.0.0.1:{port}"),
            trunk=trunk,
            more=f'[outbound]\nsip_targets = ["{nobody}"]\n',
        )
        async with Edge.open(tmp_path / "edge", keyring, settings) as edge:
            await edge.add_agent_at(agent.url)
            call_id = await place(edge)
            call = await agent.expect_call()
            await call.expect_tone(PHONE_HZ, 0.5)
            await call.expect("mark")
            for verb in ("hold", "resume"):
                await edge.request("POST", f"/calls/{call_id}/{verb}")
            await edge.request("POST", f"/calls/{call_id}/transfer", {"target": nobody}, status=202)
            await told(edge, call_id, "transfer_failed: 404")
            await phone.hang_up()
            assert (await record(edge, call_id))["end_reason"] == "callee_hung_up"
            assert [proxy.requests(method) for method in ("INVITE", "ACK", "REFER", "BYE")] == [4, 3, 1, 1]
    assert heard_s(phone.heard(), AGENT_HZ) >= 0.8


@pytest.mark.realtime
@needs("sipp", "baresip", "linphonec")
@has_pjsip
@pytest.mark.interop(agent=("sipp", "baresip", "linphone", "pjsua2"), feature="digest")
async def test_phones_prove_who_they_are_to_a_trunk_that_has_no_addresses(tmp_path: Path, keyring: Keyring) -> None:
    """407 by the edge, its trunk's user and password; a REFER that comes in is refused and the call goes on."""
    credentials = ("phone", "secret")
    trunk = {"auth": "digest", "username": credentials[0], "password": credentials[1]}
    async with Edge.open(tmp_path / "edge", keyring, Settings(addresses=(), trunk=trunk)) as edge:
        await edge.add_echo()
        uri, say = edge.uri(), tone(PHONE_HZ, 5)

        async def by_sipp() -> None:
            address = edge.listeners["udp"]
            async with Sipp.dial(tmp_path / "sipp", address, DID, say=say, scenario="digest") as sipp:
                await sipp.finish()

        async def by_baresip() -> None:
            async with Baresip.open(tmp_path / "baresip", say, credentials=credentials) as phone:
                await phone.dial(uri)
                await phone.hang_up()

        async def by_linphone() -> None:
            async with Linphone.open(tmp_path / "linphone", say, credentials=credentials) as phone:
                await phone.dial(uri)
                await phone.hang_up()

        async def by_pjsip() -> None:
            async with Pjsip.open(tmp_path / "pjsip", say, credentials=credentials) as phone:
                await phone.dial(uri)
                await phone.refer("sip:elsewhere@127.0.0.1")
                await phone.program.expect("SIP/2.0 405 ")
                await phone.hang_up()

        async with asyncio.TaskGroup() as tasks:
            for each in (by_sipp, by_baresip, by_linphone, by_pjsip):
                tasks.create_task(each())
        records = await edge.expect_records(4)
        assert {each["end_reason"] for each in records} == {"caller_hung_up"}


@pytest.mark.realtime
@needs("sipp")
@pytest.mark.interop(agent="sipp", feature=("early media", "digits by INFO"))
async def test_a_transferred_caller_hears_it_ring_then_early_media_then_the_target(
    tmp_path: Path, keyring: Keyring
) -> None:
    """A 180 alone is made audible here; a 183's own audio takes over; the 200 has no SDP. Digits cross, by INFO too."""
    async with Sipp.serve(tmp_path / "sipp", say=tone(PHONE_HZ, 10), scenario="early") as sipp:
        trunk = {"outbound": f"udp:127.0.0.1:{sipp.address[1]}"}
        async with (
            MediaStreamsAgent.open() as agent,
            Edge.open(tmp_path / "edge", keyring, Settings(trunk=trunk)) as edge,
            Phone.open(edge.listeners["udp"]) as phone,
        ):
            await edge.add_agent_at(agent.url, answer_after_s=0)
            caller = await phone.call(DID)
            await caller.establish()
            live = await edge.expect_live_call()
            await edge.request("POST", f"/calls/{live['id']}/transfer", {"target": CALLEE}, status=202)
            await caller.media.wait_until(lambda: level_dbfs(caller.media.audio()[-1600:]) > -30, "ringing")
            assert heard_s(caller.media.audio(), PHONE_HZ) == 0.0
            await caller.media.expect_tone(PHONE_HZ, 0.4)
            await caller.media.wait_until(lambda: caller.media.digits() == "7", "the target's digit")
            await caller.media.press("4")
            await sipp.finish()
            await caller.expect_request("BYE")
            records = await edge.expect_records(2)
            assert {each["end_reason"] for each in records} == {"target_hung_up", "callee_hung_up"}
