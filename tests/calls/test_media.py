"""Real phones with encrypted and wideband media: tones cross both ways, and the record says what it was."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import pytest

from tests.support.audio import Samples, heard_s, level_dbfs, read_wav, tone, write_wav
from tests.support.baresip import Baresip
from tests.support.edge import COMMAND, DID, MEDIA_PORTS, Edge, Keyring, Settings
from tests.support.linphone import Linphone
from tests.support.media_streams_agent import AGENT_HZ, MediaStreamsAgent, greet
from tests.support.opus import needs_opus
from tests.support.pjsip import Pjsip, has_pjsip
from tests.support.process import needs, running
from tests.support.sniffer import Sniffer, can_sniff

pytestmark = pytest.mark.realtime

CALLER_HZ = 1000
STRONG, SHORT = "AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32"


class Phone(Protocol):
    """What the user agents have in common."""

    async def dial(self, uri: str) -> None: ...

    async def press(self, digits: str) -> None: ...

    async def hang_up(self) -> None: ...

    def heard(self) -> Samples: ...


@asynccontextmanager
async def answering(tmp_path: Path, keyring: Keyring, **trunk: object) -> AsyncIterator[tuple[Edge, MediaStreamsAgent]]:
    """An edge whose trunk is so, and an agent behind its number."""
    settings = Settings(trunk=trunk)
    async with MediaStreamsAgent.open(greet) as agent, Edge.open(tmp_path / "edge", keyring, settings) as edge:
        await edge.add_agent_at(agent.url)
        yield edge, agent


async def talk(edge: Edge, agent: MediaStreamsAgent, phone: Phone, digits: str = "12#") -> None:
    """A call, from its answer to its end."""
    await phone.dial(edge.uri(DID))
    call = await agent.expect_call()
    await call.expect_tone(CALLER_HZ, 0.5)
    await phone.press(digits)
    await call.wait_until(lambda: call.digits() == digits, f"digits {digits}")
    await call.expect("mark")
    await phone.hang_up()
    await call.expect("stop")


async def expect_record(edge: Edge, codec: str, suite: str | None) -> None:
    """One record, which names codec and suite and estimates the quality; next to nothing was dropped as unauthentic."""
    [record] = await edge.expect_records(1)
    counts = record["statistics"]
    assert (counts["codec"], counts["srtp"]) == (codec, suite)
    assert counts["packets_unauthentic"] <= counts["packets_received"] / 10  # linphone sends a few that are not
    assert counts["r_factor"] > 70 and counts["mos"] > 3.5


def rtcp_is_on_rtps_port(sniffer: Sniffer) -> bool:
    """RFC 5761: the edge was sent RTCP, and all of it to an even port."""
    ports = [to for _, to, data in sniffer.datagrams if len(data) > 1 and data[0] >> 6 == 2 and 200 <= data[1] <= 207]
    return bool(ports) and all(port % 2 == 0 for port in ports)


@needs("baresip")
@can_sniff
@pytest.mark.interop(agent="baresip", feature=("G.722", "rtcp-mux", "digits by RFC 4733"))
async def test_baresip_in_g722_with_rtcp_on_rtps_port(tmp_path: Path, keyring: Keyring) -> None:
    async with answering(tmp_path, keyring, codecs=["G722", "PCMU"]) as (edge, agent):
        with Sniffer.open(MEDIA_PORTS) as sniffer:
            async with Baresip.open(
                tmp_path / "phone", tone(CALLER_HZ, 20), codec="g722/16000/1", rtcp_mux=True
            ) as phone:
                await talk(edge, agent, phone)
        assert rtcp_is_on_rtps_port(sniffer)
        assert heard_s(phone.heard(), AGENT_HZ) >= 0.8
        await expect_record(edge, "G722", None)


@needs_opus
@needs("baresip")
@pytest.mark.interop(agent="baresip", feature=("Opus", "opportunistic SRTP"))
async def test_baresip_in_opus_by_opportunistic_srtp(tmp_path: Path, keyring: Keyring) -> None:
    """Keys under RTP/AVP are as good as any where SRTP is required."""
    async with answering(tmp_path, keyring, codecs=["OPUS"], srtp="require") as (edge, agent):
        async with Baresip.open(
            tmp_path / "phone", tone(CALLER_HZ, 20), codec="opus/48000/2", media_encryption="srtp"
        ) as phone:
            await talk(edge, agent, phone)
        assert heard_s(phone.heard(), AGENT_HZ) >= 0.8
        await expect_record(edge, "OPUS", STRONG)


@needs_opus
@needs("linphonec")
@can_sniff
@pytest.mark.interop(agent="linphone", feature=("Opus", "SRTP", "rtcp-mux"))
async def test_linphone_in_opus_by_srtp_with_rtcp_on_rtps_port(tmp_path: Path, keyring: Keyring) -> None:
    async with answering(tmp_path, keyring, codecs=["OPUS"], srtp="allow") as (edge, agent):
        with Sniffer.open(MEDIA_PORTS) as sniffer:
            async with Linphone.open(
                tmp_path / "phone", tone(CALLER_HZ, 20), codec="opus", srtp=True, rtcp_mux=True
            ) as phone:
                await talk(edge, agent, phone)
        assert rtcp_is_on_rtps_port(sniffer)
        assert heard_s(phone.heard(), AGENT_HZ) >= 0.6
        await expect_record(edge, "OPUS", STRONG)


@has_pjsip
@pytest.mark.interop(agent="pjsua2", feature=("G.722", "SRTP", "rtcp-mux"))
async def test_pjsip_in_g722_by_srtp_with_rtcp_on_rtps_port(tmp_path: Path, keyring: Keyring) -> None:
    async with answering(tmp_path, keyring, codecs=["G722"], srtp="require") as (edge, agent):
        async with Pjsip.open(
            tmp_path / "phone", tone(CALLER_HZ, 20), codec="G722", suite=STRONG, rtcp_mux=True
        ) as phone:
            await talk(edge, agent, phone)
        assert heard_s(phone.heard(), AGENT_HZ) >= 0.8
        await expect_record(edge, "G722", STRONG)


@has_pjsip
@pytest.mark.interop(agent="pjsua2", feature=("PCMU", "opportunistic SRTP", "held by the phone", "re-INVITE"))
async def test_pjsip_by_the_suite_of_the_short_tag_held_and_resumed(tmp_path: Path, keyring: Keyring) -> None:
    """Re-INVITEs carry the keys again, under RTP/AVP: the call goes on."""
    async with answering(tmp_path, keyring, srtp="allow") as (edge, agent):
        async with Pjsip.open(tmp_path / "phone", tone(CALLER_HZ, 20), suite=SHORT, opportunistic=True) as phone:
            await phone.dial(edge.uri(DID))
            call = await agent.expect_call()
            await call.expect_tone(CALLER_HZ, 0.5)
            await call.expect("mark")
            await phone.hold()
            await call.wait_until(lambda: level_dbfs(call.heard()[-2400:]) < -50, "silence while on hold")
            at = len(call.heard())
            await phone.resume()
            await call.wait_until(lambda: heard_s(call.heard()[at:], CALLER_HZ) >= 0.5, "the tone after the hold")
            await phone.hang_up()
            await call.expect("stop")
            assert {line.split()[2] for line in phone.program.lines if line.startswith("m=audio ")} == {"RTP/AVP"}
        assert heard_s(phone.heard(), AGENT_HZ) >= 0.8
        await expect_record(edge, "PCMU", SHORT)


@needs_opus
async def test_our_own_softphone_in_opus_by_srtp(tmp_path: Path, keyring: Keyring) -> None:
    async with answering(tmp_path, keyring, codecs=["OPUS", "PCMU"], srtp="require") as (edge, agent):
        said, heard = tmp_path / "say.wav", tmp_path / "heard.wav"
        write_wav(said, tone(CALLER_HZ, 2.0))
        arguments = [edge.uri(), "--codec", "OPUS", "--srtp", "--play", said, "--record", heard, "--seconds", "2"]
        async with running(COMMAND, "call", *arguments, name="truedy-edge call") as program:
            assert await program.wait(20.0) == 0, program.failure("the call failed")
            assert any(f"(OPUS, {STRONG})" in line for line in program.lines), program.failure("no word of it")
        call = agent.calls[0]
        await call.expect("stop")
        assert heard_s(call.heard(), CALLER_HZ) >= 1.0
        assert heard_s(read_wav(heard), AGENT_HZ) >= 0.8
        await expect_record(edge, "OPUS", STRONG)


@has_pjsip
async def test_a_phone_in_the_clear_is_refused_where_srtp_is_required(tmp_path: Path, keyring: Keyring) -> None:
    """488, and the record says why."""
    async with answering(tmp_path, keyring, srtp="require") as (edge, _):
        async with Pjsip.open(tmp_path / "phone", tone(CALLER_HZ, 1)) as phone:
            assert await phone.dial_in_vain(edge.uri(DID)) == 488
        [record] = await edge.expect_records(1)
        assert (record["sip_status"], record["end_reason"]) == (488, "no_common_crypto")
