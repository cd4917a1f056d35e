"""Attacks on the whole edge, a process on loopback: what they get out of it, and what is left of it.

T1 is 50 ms here (RFC 3261 §17.1.1.1 allows it on a private network), so that what lingers can be waited for.
"""

from __future__ import annotations

import asyncio
import base64
import os
import random
import re
import resource
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.edge.test_torture_answers import ANSWERS, FILES, OFFERED
from tests.support.attacker import QUICK_T1_S, Attacker, children, unharmed
from tests.support.audio import encode_ulaw, heard_s, tone
from tests.support.carriers.stage import PASSWORD, Stage
from tests.support.edge import DID, SECRET, Edge, Keyring, Settings
from tests.support.media_streams_agent import MediaStreamsAgent, greet
from tests.support.phone import Call, Message, Phone, digest_answer, sdp_offer
from tests.support.ports import free_ports
from tests.support.rtp import MediaPort
from tests.support.sniffer import Sniffer, can_sniff

QUICK = Settings(sip={"t1_s": QUICK_T1_S})
CALLER_HZ = 1000
ATTACK_HZ = 2000
MALICE = "127.0.0.66"
AGENTS_DID = "+14155550177"


@asynccontextmanager
async def serving(folder: Path, keyring: Keyring, settings: Settings = QUICK) -> AsyncIterator[Edge]:
    """An edge with an echo on the number, which has to be unharmed in the end."""
    async with Edge.open(folder / "edge", keyring, settings) as edge:
        await edge.add_echo()
        async with unharmed(edge):
            yield edge


@pytest.fixture
async def edge(tmp_path: Path, keyring: Keyring) -> AsyncIterator[Edge]:
    """As above, with the trunk for all of loopback: the attacker's address is a listed one."""
    async with serving(tmp_path, keyring) as serving_edge:
        yield serving_edge


async def talk(call: Call, hz: float = CALLER_HZ, seconds: float = 0.5) -> None:
    """The echo of a tone comes back: the call is up."""
    already = len(call.media.packets)
    await asyncio.gather(call.media.play(tone(hz, seconds)), call.media.expect_packets(already + 15))
    await call.media.expect_tone(hz, seconds / 2)


# --- torture (RFC 4475) ---

TORTURE = {name: path.read_bytes() for name, path in FILES.items() if path.parent.name == "rfc4475"}
REFUSED_CALL = {404, 488}
"""What becomes of a call to somebody who has no number here."""


@can_sniff
async def test_every_torture_message_gets_its_answer_and_costs_nothing(edge: Edge) -> None:
    """S1, S3: all 49 over UDP, then each over a TCP connection of its own."""
    assert len(TORTURE) == 49
    await _torture_over_udp(edge)
    await _torture_over_tcp(edge)


async def _torture_over_udp(edge: Edge) -> None:
    """The code each may get and no other, nothing for responses, and OPTIONS is answered after each."""
    wrong = []
    async with Attacker.open() as attacker, Phone.open(edge.listeners["udp"]) as phone:
        with Sniffer.open(range(1, 65536), MALICE) as sniffer:
            for name, data in TORTURE.items():
                at = len(sniffer.datagrams)
                await attacker.send(data, edge.listeners["udp"])
                assert (await phone.options(timeout_s=1.0)).status == 200, name
                if ANSWERS[name] == OFFERED:
                    await asyncio.sleep(0.1)
                passed = [payload for _, _, payload in sniffer.datagrams[at:] if payload.startswith(b"SIP/2.0")]
                finals = {int(payload[8:11]) for payload in passed} - {100}
                allowed = REFUSED_CALL if ANSWERS[name] == OFFERED else {ANSWERS[name]} - {None}
                if not finals <= allowed or bool(finals) != bool(allowed):
                    wrong.append(f"{name}: {finals or 'nothing'}, expected {allowed or 'nothing'}")
    assert not wrong, "\n".join(wrong)


# Over a stream a message without Content-Length, or with a wrong one, is a framing error (RFC 3261 §18.3).
OVER_TCP: dict[str, tuple[list[int], bool]] = {
    "dblreq": ([405, 400], True),  # the second lacks a Contact, and what follows it is no message
    "mcl01": ([400], True),
    "ncl": ([400], True),
    "clerr": ([], True),
}
"""Final responses, and whether the edge closes the connection."""


async def _torture_over_tcp(edge: Edge) -> None:
    """``clerr`` waits for octets that never come and is closed within 10 s; ``dblreq`` is two requests."""
    async with asyncio.TaskGroup() as group:
        tasks = {name: group.create_task(_over_tcp(edge, TORTURE[name], 11.0), name=name) for name in OVER_TCP}
        others = {
            name: group.create_task(_over_tcp(edge, data, 1.0), name=name)
            for name, data in TORTURE.items()
            if name not in OVER_TCP
        }
    for name, (finals, closed) in OVER_TCP.items():
        heard, was_closed, took_s = tasks[name].result()
        assert (sorted(set(heard)), was_closed) == (sorted(finals), closed), name
        assert took_s <= 10.0 or not closed, name
    silent = {name for name, answer in ANSWERS.items() if answer is None}
    for name, task in others.items():
        heard, _, _ = task.result()
        assert not (name in silent and heard), f"{name} was answered with {heard}"
        assert all(200 <= status < 600 for status in heard), name
    async with Phone.open(edge.listeners["tcp"], "tcp") as phone:
        assert (await phone.options()).status == 200


async def _over_tcp(edge: Edge, data: bytes, wait_s: float) -> tuple[list[int], bool, float]:
    """Final responses to a message on a connection of its own, whether that was closed, and after how long [s]."""
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection(*edge.listeners["tcp"], local_addr=("127.0.0.67", 0))
    began = loop.time()
    writer.write(data)
    heard, closed = b"", False
    try:
        async with asyncio.timeout(wait_s):
            while chunk := await reader.read(65536):
                heard += chunk
            closed = True
    except (TimeoutError, ConnectionResetError) as error:
        closed = isinstance(error, ConnectionResetError)
    took_s = loop.time() - began
    writer.close()
    statuses = [int(status) for status in re.findall(rb"^SIP/2\.0 (\d{3}) ", heard, re.M)]
    return [status for status in statuses if status >= 200], closed, took_s


# --- strangers ---

DIGEST = {"auth": "digest", "username": "pbx", "password": "a long password", "digest_algorithms": ["SHA-256", "MD5"]}


def smallest(method: str, host: str, port: int, number: int) -> bytes:
    """The fewest octets that are a request: what an amplifier is fed with."""
    return (
        f"{method} sip:a@b SIP/2.0\r\nv:SIP/2.0/UDP {host}:{port};branch=z9hG4bK{number}\r\n"
        f"Max-Forwards:9\r\nf:<sip:a@b>;tag=1\r\nt:<sip:a@b>\r\ni:{number}\r\nCSeq:1 {method}\r\n"
        f"m:<sip:a@b>\r\n\r\n"
    ).encode()


async def test_the_edge_is_no_amplifier(tmp_path: Path, keyring: Keyring) -> None:
    """S14: what strangers get is at most half as much again as what they sent, and is never sent again."""
    settings = replace(QUICK, addresses=(), trunk=DIGEST)
    async with serving(tmp_path, keyring, settings) as edge, Attacker.open() as attacker:
        target = edge.listeners["udp"]
        here, port = attacker.address
        async with Phone.open(target, host=here, contact=attacker.address) as phone:
            scan = phone.request("OPTIONS", edge.uri("100"), ("User-Agent", "friendly-scanner"))
            call = phone.request("INVITE", edge.uri(), ("Content-Type", "application/sdp"), body=sdp_offer(here, 4000))
            whole = [bytes(each).replace(b":%d;rport" % phone.local[1], b":%d;rport" % port) for each in (scan, call)]
        methods = ("INVITE", "OPTIONS", "BYE", "REGISTER", "CANCEL")
        broken = f"INVITE sip:x SIP/2.0\r\nVia: SIP/2.0/UDP {here}:{port};branch=z9hG4bKa\r\n\r\n"
        requests = [*(smallest(method, here, port, n) for n, method in enumerate(methods)), broken.encode(), *whole]
        too_much = []
        for request in requests:
            before, at = attacker.heard_bytes, len(attacker.heard)
            await attacker.send(request, target)
            await asyncio.sleep(0.05)
            gained = (attacker.heard_bytes - before) / len(request)
            if gained > 1.5 or len(attacker.heard) - at > 1:
                answers = b"\n".join(data for data, _ in attacker.heard[at:]).decode()
                too_much.append(f"x{gained:.2f} for {len(request)} octets:\n{request.decode()}{answers}")
        count = len(attacker.heard)
        await asyncio.sleep(1.0)  # ten times the interval of a retransmission and more
        assert len(attacker.heard) == count
        assert [answer.status for answer in attacker.answers()] == [407], "a whole INVITE is challenged"
        assert not too_much, "\n\n".join(too_much)


async def test_guessing_tells_nobody_which_users_there_are_and_ends_in_a_lock(tmp_path: Path, keyring: Keyring) -> None:
    """S11: known and unknown users are answered alike; after ten failures the right password is refused too."""
    settings = replace(QUICK, addresses=(), trunk={**DIGEST, "digest_algorithms": ["MD5"]})
    async with serving(tmp_path, keyring, settings) as edge:
        answers: dict[str, list[int]] = {}
        for number, user in enumerate(("pbx", "nobody")):
            async with Phone.open(edge.listeners["udp"], host=f"127.0.0.{70 + number}") as phone:
                answers[user] = [await _guess(phone, user, f"guess {n}") for n in range(12)]
        assert answers["pbx"] == answers["nobody"]
        assert answers["pbx"][-1] == 403
        assert 200 not in answers["pbx"]
        async with Phone.open(edge.listeners["udp"], host="127.0.0.80") as phone:
            assert await _guess(phone, "pbx", "a long password") != 200
        locks = [line for line in edge.log() if "lock" in line["event"]]
        assert locks, "no lock was logged"


async def _guess(phone: Phone, user: str, password: str) -> int:
    """The final response to a call with these credentials."""
    call = await phone.call(DID)
    await call.invite()
    challenge = await call.expect(407, 403)
    if challenge.status == 403:
        return 403
    headers = (
        (
            "Proxy-Authorization",
            digest_answer(challenge.get("proxy-authenticate"), "INVITE", call.target, user, password),
        ),
    )
    await call.invite(*headers)
    answer = await call.expect(200, 403, 407)
    if answer.status == 200:
        await call.ack()
        await call.bye()
    return answer.status


async def test_a_flood_of_unknown_numbers_leases_no_port_and_meets_the_limit(tmp_path: Path, keyring: Keyring) -> None:
    """S13: 404 each, then 503 with Retry-After; a call gets through once the flood is over."""
    limits = {"attempts_per_second": 50.0, "attempts_burst": 60}
    async with serving(tmp_path, keyring, replace(QUICK, limits=limits)) as edge:
        async with Phone.open(edge.listeners["udp"]) as phone, asyncio.TaskGroup() as group:
            flood = [group.create_task(_unknown(phone, number), name="flood") for number in range(150)]
            metrics = await edge.metrics()
            assert metrics["truedy_rtp_ports_leased"] == 0
        answers = [task.result() for task in flood]
        statuses = [answer.status for answer in answers]
        assert set(statuses) == {404, 503}
        assert 60 <= statuses.count(404) <= 120, statuses.count(404)
        assert all(int(answer.get("retry-after")) >= 1 for answer in answers if answer.status == 503)
        assert (await edge.metrics())["truedy_rtp_ports_resting"] == 0
        await asyncio.sleep(0.5)
        async with Phone.open(edge.listeners["udp"]) as phone:
            call = await phone.call(DID)
            await call.establish()
            await call.bye()


async def _unknown(phone: Phone, number: int) -> Message:
    await asyncio.sleep(number / 300)
    call = await phone.call(f"+1555{number:07d}")
    await call.invite()
    return await call.expect(404, 503)


# --- calls and media that are under attack ---


@pytest.mark.realtime
async def test_forged_requests_end_no_call_and_change_none(edge: Edge) -> None:
    """S15: of a thousand BYE, CANCEL and re-INVITE with what an eavesdropper lacks, none has any effect."""
    async with Phone.open(edge.listeners["udp"]) as phone, Attacker.open() as attacker:
        call = await phone.call(DID)
        answer = await call.establish()
        await talk(call)
        forged = list(_forgeries(call, answer, attacker))
        for at in range(0, 1000, 10):
            for number in range(at, at + 10):
                data = re.sub(r"z9hG4bK\w+", f"z9hG4bKf{number}", str(forged[number % len(forged)])).encode()
                await attacker.send(data, edge.listeners["udp"])
            await asyncio.sleep(0.01)
        await attacker.wait_until_heard(990)
        statuses = {answer.status for answer in attacker.answers()}
        assert statuses <= {400, 404, 481, 482, 491}, statuses
        assert (await edge.metrics())["truedy_calls"] == 1
        await talk(call)
        assert (call.byes, call.waiting.inbox.qsize()) == (0, 0)
        assert (await call.bye()).status == 200
        await _cancelled_by_a_stranger(edge, phone, attacker)
    records = await edge.expect_records(2)
    assert {record["end_reason"] for record in records} == {"caller_hung_up", "caller_cancelled"}


async def _cancelled_by_a_stranger(edge: Edge, phone: Phone, attacker: Attacker) -> None:
    """Even with the right branch a CANCEL from another address is a forgery; the caller's own ends the ringing."""
    async with MediaStreamsAgent.open() as agent:
        await edge.add_agent_at(agent.url, AGENTS_DID, answer_after_s=10)
        call = await phone.call(AGENTS_DID)
        invite = await call.invite()
        await call.expect(180)
        for _ in range(20):
            await attacker.send(_cancel_of(invite), edge.listeners["udp"])
        assert (await phone.options()).status == 200
        assert (await edge.metrics())["truedy_calls"] == 1
        assert (await call.cancel()).status == 200
        await call.expect(487)


def _cancel_of(invite: Message) -> Message:
    """RFC 3261 §9.1, as somebody who has overheard the INVITE makes it."""
    kept = ("Via", "Max-Forwards", "From", "To", "Call-ID")
    headers = [(name, value) for name, value in invite.headers if name in kept]
    return Message(invite.first_line.replace("INVITE", "CANCEL", 1), (*headers, ("CSeq", f"{invite.cseq} CANCEL")))


def _forgeries(call: Call, answer: Message, attacker: Attacker) -> Iterator[Message]:
    """Each lacks at least one of: our tag, the caller's tag, the Call-ID, the INVITE's branch."""
    ours, theirs = answer.parameter("to", "tag"), call.local_tag
    sdp = sdp_offer(*attacker.address, version=9)
    for method in ("BYE", "INVITE", "CANCEL", "OPTIONS"):
        whole = call.build(method, body=sdp if method == "INVITE" else b"", cseq=7000)
        text = str(whole).replace(f"{call.phone.local[0]}:{call.phone.local[1]}", "{}:{}".format(*attacker.address))
        for old, new in ((ours, "0" * len(ours)), (theirs, "guessed"), (call.call_id, "another@phone")):
            yield Message.parse(text.replace(old, new).encode())
        yield Message.parse(text.replace(ours, theirs, 1).replace(f"tag={theirs}", f"tag={ours}", 1).encode())


@pytest.mark.realtime
async def test_media_from_elsewhere_reaches_no_agent_and_draws_nothing_out(tmp_path: Path, keyring: Keyring) -> None:
    """S16, S17: a spray over all ports, before, during and after the call, from another address than the trunk's."""
    first = free_ports(8)
    media = {"port_min": first, "port_max": first + 7}
    settings = replace(QUICK, media=media, limits={"calls": 4}, trunk={"media_networks": ["127.0.0.1/32"]})
    ports = [("127.0.0.1", port) for port in range(first, first + 8)]
    async with (
        MediaStreamsAgent.open(greet) as agent,
        serving(tmp_path, keyring, settings) as edge,
        Attacker.open() as attacker,
        MediaPort.open(ssrc=0xCAFE) as port,
    ):
        await edge.add_agent_at(agent.url, AGENTS_DID)
        spraying = asyncio.create_task(attacker.spray(_rtp_stream(port.ssrc, ATTACK_HZ, 4.0), ports, 0.02))
        await asyncio.sleep(0.2)
        async with Phone.open(edge.listeners["udp"]) as phone:
            call = await phone.call(AGENTS_DID, media=port)
            await call.establish()
            heard = await agent.expect_call()
            await port.play(tone(CALLER_HZ, 1.0))
            await heard.expect_tone(CALLER_HZ, 0.8)
            assert (await call.bye()).status == 200
        assert not spraying.done()
        sent = await spraying
        assert sent > 1000
        assert heard_s(heard.heard(), ATTACK_HZ) == 0.0
        assert attacker.heard == []
        (record,) = await edge.expect_records(1)
        assert record["statistics"]["packets_refused"] >= 50


def _rtp_stream(ssrc: int, hz: float, seconds: float) -> Iterator[bytes]:
    """A tone as PCMU, one packet after another, under an SSRC the attacker has overheard."""
    audio = encode_ulaw(tone(hz, seconds))
    for number in range(len(audio) // 160):
        header = struct.pack("!BBHII", 0x80, 0, number, number * 160, ssrc)
        yield header + audio[number * 160 : (number + 1) * 160]


def _junk(ssrc: int) -> Iterator[bytes]:
    """Datagrams that lie about themselves: RTP (RFC 3550 §5), RTCP (§6.4), events (RFC 4733), and none of these."""
    draw = random.Random(19)
    rtp = struct.pack("!BBHII", 0x80, 0, 1, 160, ssrc)
    yield from (b"", b"\x80", rtp[:11], b"\xff" * 12, b"\x80" * 65000, b"\0" * 1400)
    yield from (bytes([0x8F]) + rtp[1:], bytes([0xA0]) + rtp[1:] + b"\xff", bytes([0x90]) + rtp[1:] + b"\0\0\xff\xff")
    yield from (rtp + b"", rtp + b"x", rtp + b"\xff" * 8000, rtp[:1] + b"\x7f" + rtp[2:] + b"?" * 160)
    for payload in (b"", b"\x01", b"\x10\x8a\xff\xff", b"\xff" * 4, b"\x01\x0a\x00\x00" * 50):
        yield rtp[:1] + b"\xe5" + rtp[2:] + payload
    for kind in range(199, 208):
        for length in (0, 1, 6, 7, 0xFFFF):
            yield struct.pack("!BBHI", 0x81, kind, length, ssrc) + draw.randbytes(24)
    yield struct.pack("!BBHI", 0x81, 203, 1, ssrc)  # RTCP BYE of the caller's own SSRC
    for _ in range(100):
        yield draw.randbytes(draw.randrange(1, 400))


@pytest.mark.realtime
async def test_junk_on_the_media_ports_costs_no_call(edge: Edge) -> None:
    """S19: to RTP and RTCP, from strangers and from the caller's own address and port; then both hear each other."""
    async with (
        Phone.open(edge.listeners["udp"]) as phone,
        Attacker.open() as stranger,
        Attacker.open("127.0.0.1") as near,
    ):
        call = await phone.call(DID)
        await call.establish()
        await talk(call)
        assert call.media.target is not None
        host, port = call.media.target
        both = [(host, port), (host, port + 1)]
        for attacker in (stranger, near):
            await attacker.spray(_junk(call.media.ssrc), both, 0.001)
        for data in _junk(call.media.ssrc):
            await call.media.send_raw(data)
            await asyncio.sleep(0.001)
        await talk(call, 700)
        assert stranger.heard == []
        assert (await call.bye()).status == 200
    (record,) = await edge.expect_records(1)
    assert record["end_reason"] == "caller_hung_up"


@pytest.mark.realtime
async def test_late_media_of_one_call_is_not_heard_in_the_next_on_its_port(tmp_path: Path, keyring: Keyring) -> None:
    """S20, R22: a range of one pair; while it rests a call is 503 at once, then the next has it for itself."""
    first = free_ports(2)
    settings = replace(QUICK, media={"port_min": first, "port_max": first + 1, "port_rest_s": 1.0}, limits={"calls": 1})
    async with (
        serving(tmp_path, keyring, settings) as edge,
        Phone.open(edge.listeners["udp"]) as phone,
        MediaPort.open(ssrc=0xAAAA) as old,
    ):
        call = await phone.call(DID, media=old)
        await call.establish()
        late = asyncio.create_task(old.play(tone(ATTACK_HZ, 3.0)))
        await old.expect_tone(ATTACK_HZ, 0.3)
        await call.bye()
        began = asyncio.get_running_loop().time()
        refused = await phone.call(DID)
        await refused.invite()
        answer = await refused.expect(503)
        assert asyncio.get_running_loop().time() - began <= 0.1
        assert int(answer.get("retry-after")) >= 1
        await edge.expect_metrics({"truedy_rtp_ports_leased": 0.0, "truedy_rtp_ports_resting": 0.0})
        following = await phone.call(DID)
        await following.establish()
        at = len(old.packets)
        assert not late.done()
        await talk(following)
        await late
        assert heard_s(following.media.audio(), ATTACK_HZ) == 0.0
        assert len(old.packets) - at <= 2
        await following.bye()


# --- what must not cross, and what must not be seen ---

SMUGGLED = (
    ("X-Truedy-Account", "another"),
    ("x-truedy-token", "stolen"),
    ("X-Truedy-Token ", "stolen"),
    ("P-Asserted-Service", "internal"),
    ("Authorization", "Digest stolen"),
    ("From_Number", "+10000000000"),
    ("X-Internal\t", "with a space"),
)
HOSTILE = "\x1b[31m\x07\x9b\u202e\u2028\x7fevil"
"""Terminal escapes, controls of C0 and C1, DEL, an override of the direction of writing, a line separator."""
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


async def test_no_internal_header_and_no_control_character_crosses(edge: Edge) -> None:
    """S23, S24: to the agent go ``X-*`` as parsed and none of ours; log and API show no raw control character."""
    async with MediaStreamsAgent.open() as agent, Phone.open(edge.listeners["udp"]) as phone:
        await edge.add_agent_at(agent.url, AGENTS_DID, answer_after_s=0)
        call = await phone.call(AGENTS_DID)
        hostile = (("X-Hostile", HOSTILE), ("User-Agent", HOSTILE), ("Subject", HOSTILE), ("X-Fine", "kept"))
        await call.invite(*SMUGGLED, *hostile)
        await call.expect(200)
        await call.ack()
        parameters = (await agent.expect_call()).start["customParameters"]
        names = {name.strip().lower() for name in parameters}
        assert parameters["X-Fine"] == "kept"
        assert not [name for name in names if name.startswith("x-truedy")], parameters
        assert not names & {"p-asserted-service", "authorization", "x-hostile"}, parameters
        assert parameters["from_number"] == "+15559990000"
        await call.bye()
        for did in (f"{HOSTILE}1", "+14155550178"):
            nobody = await phone.call(DID, uri=f"sip:{quote(did)}@127.0.0.1")
            nobody.caller = f"{quote(HOSTILE)}"
            await nobody.invite(("P-Asserted-Identity", f'"{HOSTILE}" <sip:{quote(HOSTILE)}@127.0.0.1>'))
            await nobody.expect(404, 400)
        await phone.send(str(nobody.build("OPTIONS")).replace("Call-ID: ", f"Call-ID: {HOSTILE}").encode())
        assert (await phone.options()).status == 200
    (record,) = await edge.expect_records(1)
    seen = [*edge.program.lines, *map(str, record.values()), (await edge.api.get("/metrics")).text]
    seen.append((await edge.api.get("/api/public/v1/calls")).text)
    seen.append((edge.folder / "registry.db.journal").read_text())
    assert not [text for text in seen if CONTROL.search(text)]


@pytest.mark.realtime
async def test_nothing_a_caller_sends_makes_the_edge_call_anybody(edge: Edge) -> None:
    """S28: REFER, Replaces, redirections, loops and odd numbers; no INVITE and no REFER leaves the edge."""
    third = f"sip:thief@{MALICE}:5060"
    replaces = "sip:a@b?Replaces=1%3Bto-tag%3D2%3Bfrom-tag%3D3"
    async with Attacker.open(MALICE, 5060) as attacker, Phone.open(edge.listeners["udp"]) as phone:
        call = await phone.call(DID)
        invite = await call.invite()
        answer = await call.expect(200)
        await call.ack()
        call.media.target = answer.media()
        tags = f"{call.call_id};to-tag={answer.parameter('to', 'tag')};from-tag={call.local_tag}"
        for request in (
            phone.request("REFER", edge.uri(), ("Refer-To", f"<{third}>")),
            call.build("REFER", ("Refer-To", f"<{third}>")),
            call.build("REFER", ("Refer-To", f"<{replaces}>"), ("Referred-By", f"<{third}>")),
            phone.request("INVITE", edge.uri(), ("Replaces", tags), ("Require", "replaces")),
            phone.request("INVITE", edge.uri("900123456789"), ("Contact", f"<{third}>")),
            phone.request("INVITE", third, ("Route", f"<{third};lr>")),
            phone.request("SUBSCRIBE", edge.uri(), ("Event", "dialog")),
            phone.request("MESSAGE", third, body=b"hello"),
        ):
            status = (await phone.ask(request)).status
            assert status in (400, 403, 404, 405, 420, 481, 482, 483, 484), f"{status} to\n{request}"
        redirect = bytes(answer).replace(b"200 OK", b"302 Moved").replace(b"Contact: ", f"Contact: <{third}>,".encode())
        await attacker.send(redirect, edge.listeners["udp"])
        looped = Message.parse(str(invite).replace(invite.get("via"), phone.via()).encode())
        await attacker.send(looped, edge.listeners["udp"])
        await attacker.wait_until_heard(1)
        assert [answer.status for answer in attacker.answers()] == [482]
        await talk(call)
        await call.bye()
        assert call.byes == 0
        assert len(attacker.heard) == 1
    await edge.expect_records()


SECRETS = {
    "a trunk's password": "planted-trunk-password-5c1d",
    "an auth token": "planted0auth0token0of0twilio0000",
    "a vault key": SECRET,
}


async def test_planted_secrets_are_found_nowhere(tmp_path: Path, keyring: Keyring) -> None:
    """S31: neither in the database, the journal, the log, the API's answers and metrics, nor on the command line."""
    trunk = {"auth": "digest", "username": "pbx", "password": SECRETS["a trunk's password"]}
    settings = replace(QUICK, trunk=trunk)
    async with Stage.open(tmp_path / "edge", keyring, settings) as stage:
        edge = stage.edge
        secrets = {
            **SECRETS,
            "an API key": edge.key,
            "Telnyx's key": stage.tenant.telnyx.api_key,
            "a SIP password": PASSWORD,
        }
        secrets["an auth token"] = stage.tenant.twilio.auth_token
        await stage.twilio_number()
        connection = await stage.telnyx_number()
        await edge.add_echo(AGENTS_DID)
        async with Phone.open(edge.listeners["udp"]) as phone:
            call = await phone.call(AGENTS_DID)
            for password in ("a wrong one", SECRETS["a trunk's password"]):
                await call.invite()
                await call.authenticate("pbx", password)
                if password == "a wrong one":
                    await call.expect(407)
            await call.expect(200)
            await call.ack()
            await call.bye()
        assert connection.user_name
        await edge.expect_records()
        await edge.api.get("/api/public/v1/calls", headers={"Authorization": f"Bearer {edge.key}x"})
        seen = {"the log": "\n".join(edge.program.lines).encode()}
        for path in ("/metrics", "/healthz", "/readyz", *(f"/api/public/v1{path}" for path in READABLE)):
            response = await edge.api.get(path)
            assert response.status_code < 500, path
            seen[path] = response.content
        for file in edge.folder.iterdir():
            if file.is_file() and file.name != "edge.toml":
                seen[file.name] = file.read_bytes()
        seen["the command line"] = Path(f"/proc/{edge.program.pid}/cmdline").read_bytes()
        assert {"registry.db", "registry.db.journal"} <= seen.keys()
        hits = [
            f"{name} in {place}" for place, data in seen.items() for name, text in secrets.items() if _shows(data, text)
        ]
        assert not hits, hits


READABLE = (
    "/accounts",
    "/agents",
    "/calls",
    "/keys",
    "/telephony/integrations",
    "/telephony/integrations/twilio",
    "/telephony/integrations/telnyx",
    "/telephony/numbers",
)


def _shows(data: bytes, secret: str) -> bool:
    """As it is, or in base 64, or in hexadecimal."""
    raw = secret.encode()
    return any(form in data for form in (raw, base64.b64encode(raw).rstrip(b"=")[:-1], raw.hex().encode()))


# --- faults ---


async def test_what_nobody_answers_is_given_up_in_time(tmp_path: Path, keyring: Keyring) -> None:
    """R5, R6, R8: media stops and the caller's BYE was lost: ours follows, unanswered; a 487 without its ACK."""
    timeouts = {"silence_timeout_s": 1.0, "first_packet_timeout_s": 1.0}
    settings = replace(QUICK, media={**QUICK.media, **timeouts})
    loop = asyncio.get_running_loop()
    async with (
        MediaStreamsAgent.open() as agent,
        serving(tmp_path, keyring, settings) as edge,
        Attacker.open("127.0.0.1") as mute,
        Phone.open(edge.listeners["udp"], contact=mute.address) as phone,
    ):
        call = await phone.call(DID)
        await call.establish()
        await call.media.play(tone(CALLER_HZ, 0.2))
        quiet_since = loop.time()
        await edge.add_agent_at(agent.url, AGENTS_DID, answer_after_s=10)
        template = await phone.call(AGENTS_DID)
        invite = str(template.build("INVITE", body=template.offer()))
        invite = re.sub(r"Via: SIP/2.0/UDP [^;]*", "Via: SIP/2.0/UDP {}:{}".format(*mute.address), invite)
        await mute.send(invite.encode(), edge.listeners["udp"])
        await mute.wait_until_heard(2)  # 100 and 180
        await mute.send(_cancel_of(Message.parse(invite.encode())), edge.listeners["udp"])
        await edge.expect_metrics({"truedy_calls": 0.0}, 4.0)
        assert loop.time() - quiet_since <= 3.0
        await edge.expect_metrics({"truedy_sip_pending": 0.0}, 8.0)
        heard = [data for data, _ in mute.heard]
        goodbyes = [data for data in heard if data.startswith(b"BYE ")]
        refusals = [data for data in heard if data.startswith(b"SIP/2.0 487") and b"1 INVITE" in data]
        assert 4 <= len(goodbyes) <= 11, len(goodbyes)
        assert 4 <= len(refusals) <= 11, len(refusals)
        assert len(set(goodbyes)) == len(set(refusals)) == 1
        await asyncio.sleep(0.5)
        assert len(mute.heard) == len(heard)
        records = await edge.expect_records(2)
    assert sorted(record["end_reason"] for record in records) == ["caller_cancelled", "media_lost"]


async def test_a_cancel_at_any_moment_leaves_one_final_and_no_call(tmp_path: Path, keyring: Keyring) -> None:
    """R7: a hundred and more, 0 to 60 ms after their INVITE: 487, or 200 and then our BYE."""
    settings = replace(QUICK, limits={"calls_per_did": 300})
    async with serving(tmp_path, keyring, settings) as edge:
        draw = random.Random(7)
        async with Phone.open(edge.listeners["udp"]) as phone:
            finals: list[int] = []
            for _ in range(5):
                async with asyncio.TaskGroup() as group:
                    pending = [group.create_task(_cancelled(phone, draw.random() * 0.06)) for _ in range(25)]
                finals += [task.result() for task in pending]
        assert set(finals) <= {200, 487}
        assert finals.count(487) >= 10, finals.count(487)
        await edge.expect_quiet()
        records = await edge.expect_records(len(await edge.calls()))
        assert len(records) <= len(finals)
        assert {record["end_reason"] for record in records} <= {"caller_hung_up", "caller_cancelled"}


async def _cancelled(phone: Phone, after_s: float) -> int:
    """The one final response to an INVITE that is cancelled after so long [s]."""
    call = await phone.call(DID)
    await call.invite()
    await asyncio.sleep(after_s)
    assert (await call.cancel()).status == 200
    final = await call.expect(200, 487)
    if final.status == 200:
        await call.ack()
        await call.bye()
    statuses = [line for line in call.waiting.ladder if "INVITE)" in line and "<- SIP/2.0 1" not in line]
    assert len(set(statuses)) == 1, call.waiting.ladder
    return final.status


@pytest.mark.realtime
@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.slow), 1])
async def test_without_descriptors_calls_are_refused_cheaply_and_later_taken_again(
    tmp_path: Path, keyring: Keyring, workers: int
) -> None:
    """R21: a limit of 64 for each process: 503 with Retry-After, hardly any CPU, as before once there is room."""
    async with serving(tmp_path, keyring, replace(QUICK, media={"workers": workers})) as edge:
        edge.allowed.append("accept|descriptor|EMFILE|Too many open files")
        await _short_of_descriptors(edge)


async def _short_of_descriptors(edge: Edge) -> None:
    processes = [edge.program.pid, *children(edge.program.pid)]
    for pid in processes:
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (64, hard))
    async with Phone.open(edge.listeners["udp"]) as phone, AsyncExitStack() as stack:
        calls = [await phone.call(DID) for _ in range(40)]
        answers = []
        for call in calls:
            await call.invite()
            answers.append(await call.expect(200, 503))
            if answers[-1].status == 200:
                await call.ack()
        statuses = [answer.status for answer in answers]
        assert statuses.count(200) >= 5 and statuses.count(503) >= 5, statuses
        assert all(answer.get("retry-after") for answer in answers if answer.status == 503)
        for _ in range(20):
            _, writer = await asyncio.open_connection(*edge.listeners["tcp"])
            stack.callback(writer.close)
        before_s = sum(map(_cpu_s, processes))
        await asyncio.sleep(1.0)
        assert sum(map(_cpu_s, processes)) - before_s <= 0.5
        assert (await phone.options()).status == 200
        for call, status in zip(calls, statuses, strict=True):
            if status == 200:
                assert (await call.bye()).status == 200
    async with Phone.open(edge.listeners["tcp"], "tcp") as phone:
        call = await phone.call(DID)
        await call.establish()
        await talk(call)
        await call.bye()


def _cpu_s(pid: int) -> float:
    """Processor time of a process so far [s]."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
