"""Floods, mutations and a soak against the whole edge, a process on loopback, with calls held up meanwhile."""

from __future__ import annotations

import asyncio
import os
import random
import struct
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.edge.test_torture_answers import FILES
from tests.support.attacker import LINGERS_S, QUICK_T1_S, Attacker, unharmed
from tests.support.audio import encode_ulaw, tone
from tests.support.edge import DID, Edge, Keyring, Settings
from tests.support.phone import Call, Phone, sdp_offer
from tests.support.rtp import FRAME_S, MediaPort

pytestmark = [pytest.mark.realtime, pytest.mark.slow]

LISTED, STRANGER = "127.0.0.1", "127.0.0.66"
SETTINGS = Settings(
    sip={"t1_s": QUICK_T1_S},
    addresses=(f"{LISTED}/32", "127.0.0.65/32"),
    limits={"calls_per_did": 500, "calls_per_caller": 500},
    trunk={"media_networks": [f"{LISTED}/32"]},
)
GOOD_CALLS = 50


@asynccontextmanager
async def under_good_load(folder: Path, keyring: Keyring) -> AsyncIterator[tuple[Edge, Phone, list[Call]]]:
    """An edge with fifty calls that each get their echo all the while; in the end they are up, and it is unharmed."""
    async with Edge.open(folder / "edge", keyring, SETTINGS) as edge:
        await edge.add_echo()
        async with (
            unharmed(edge, LINGERS_S + 10),
            Phone.open(edge.listeners["udp"]) as phone,
            AsyncExitStack() as stack,
        ):
            calls = []
            for number in range(GOOD_CALLS):
                media = await stack.enter_async_context(MediaPort.open(ssrc=0x30000 + number))
                calls.append(await phone.call(DID, media=media))
                await calls[-1].establish()
            talking = asyncio.create_task(_keep_talking([call.media for call in calls]), name="good load")
            try:
                yield edge, phone, calls
            finally:
                talking.cancel()
                with suppress(asyncio.CancelledError):
                    await talking
            assert [call.byes for call in calls] == [0] * GOOD_CALLS
            for call in calls:
                assert (await call.bye(timeout_s=20.0)).status == 200


async def _keep_talking(ports: Sequence[MediaPort]) -> None:
    """A frame of tone from each port every 20 ms."""
    frame = encode_ulaw(tone(1000, FRAME_S))
    loop = asyncio.get_running_loop()
    began, number = loop.time(), 0
    while True:
        for port in ports:
            header = struct.pack("!BBHII", 0x80, 0, number & 0xFFFF, number * 160 & 0xFFFFFFFF, port.ssrc)
            await port.send_raw(header + frame)
        number += 1
        await asyncio.sleep(max(0.0, began + number * FRAME_S - loop.time()))


def heard_since(calls: Sequence[Call], marks: Sequence[int]) -> tuple[float, float]:
    """Of the echoes since the marks: the share lost, and the 99th percentile of how far gaps are from 20 ms [s]."""
    lost = expected = 0
    errors: list[float] = []
    for call, mark in zip(calls, marks, strict=True):
        packets = call.media.packets[mark:]
        numbers = {packet.sequence for packet in packets}
        span = (packets[-1].sequence - packets[0].sequence & 0xFFFF) + 1
        expected, lost = expected + span, lost + span - len(numbers)
        errors += np.abs(np.diff([packet.arrival_s for packet in packets]) - FRAME_S).tolist()
    return lost / expected, float(np.percentile(errors, 99))


def marks_of(calls: Sequence[Call]) -> list[int]:
    """Where each call's echo is now."""
    return [len(call.media.packets) for call in calls]


async def paced(datagrams: Iterator[bytes], attacker: Attacker, edge: Edge, per_second: int, seconds: float) -> int:
    """So many a second for so long, in bursts of 20 ms; how many were sent."""
    loop = asyncio.get_running_loop()
    began, sent = loop.time(), 0
    while (passed := loop.time() - began) < seconds:
        while sent < passed * per_second:
            data = next(datagrams, None)
            if data is None:
                return sent
            await attacker.send(data, edge.listeners["udp"])
            sent += 1
        await asyncio.sleep(0.02)
    return sent


def mutations(count: int) -> Iterator[bytes]:
    """Torture messages and a plain INVITE with octets changed, cut, doubled and swapped; the same each time."""
    draw = random.Random(475)
    plain = b"\r\n".join(
        (
            b"INVITE sip:+14155550100@127.0.0.1 SIP/2.0",
            b"Via: SIP/2.0/UDP 127.0.0.65:5060;rport;branch=z9hG4bK%d",
            b"Max-Forwards: 70",
            b"From: <sip:+15551112222@127.0.0.65>;tag=1",
            b"To: <sip:+14155550100@127.0.0.1>",
            b"Call-ID: %d@mutant",
            b"CSeq: 1 INVITE",
            b"Contact: <sip:x@127.0.0.65:5060>",
            b"Content-Type: application/sdp",
            b"",
            sdp_offer("127.0.0.65", 4000),
        )
    )
    seeds = [path.read_bytes() for path in FILES.values()]
    for number in range(count):
        whole = draw.choice(seeds) if number % 2 else plain.replace(b"%d", b"%d" % number)
        data = bytearray(whole)
        for _ in range(draw.randrange(1, 6)):
            at, length = draw.randrange(len(data)), draw.randrange(1, 30)
            change = draw.randrange(5)
            if change == 0:
                data[at] = draw.randrange(256)
            elif change == 1 and len(data) > 100:
                del data[at : at + length]
            elif change == 2:
                data[at:at] = data[at : at + length]
            elif change == 3:
                data[at:at] = draw.choice(
                    (b"\0", b"\r\n", b'"', b"<", b";", b",", b"%", b"\xff", b"99999999999", b"-1")
                )
            else:
                data[at : at + length] = bytes(reversed(data[at : at + length]))
        yield bytes(data)


async def test_twenty_thousand_mutations_cost_none_of_fifty_calls(tmp_path: Path, keyring: Keyring) -> None:
    """S5, S6: 200 a second from a listed address; OPTIONS is answered throughout, memory stays, no session is left."""
    async with under_good_load(tmp_path, keyring) as (edge, phone, calls), Attacker.open("127.0.0.65") as attacker:
        fuzzing = asyncio.create_task(paced(mutations(20_000), attacker, edge, 200, 300.0), name="mutations")
        asked = answered = 0
        resident: list[float] = []
        while not fuzzing.done():
            asked += 1
            answered += (await phone.options(timeout_s=2.0)).status == 200
            resident.append((await edge.metrics())["process_resident_memory_bytes"] / 2**20)
            await asyncio.sleep(1.0)
        assert await fuzzing == 20_000
        assert asked == answered >= 60
        marks = marks_of(calls)
        await asyncio.sleep(1.0)
        assert all(now > mark + 25 for now, mark in zip(marks_of(calls), marks, strict=True))
        await edge.expect_metrics({"truedy_calls": float(GOOD_CALLS)}, LINGERS_S + 25.0)  # unacknowledged calls end
        # The calls that mutants set up live for some seconds: from a fifth of the way on there are no more of them.
        warm = resident[len(resident) // 5]
        print(f"{asked} of {asked} alive; resident {resident[0]:.0f}, {warm:.0f}, {resident[-1]:.0f} MB")
        assert resident[-1] - warm <= 10.0, [round(size) for size in resident]


def invites(host: str) -> Iterator[bytes]:
    """A flood: each INVITE a new one, none acknowledged."""
    number = 0
    while True:
        number += 1
        lines = (
            f"INVITE sip:+1415555{number:07d}@127.0.0.1 SIP/2.0",
            f"Via: SIP/2.0/UDP {host}:5060;branch=z9hG4bK{number}",
            "Max-Forwards: 70",
            f"From: <sip:a@{host}>;tag={number}",
            "To: <sip:b@127.0.0.1>",
            f"Call-ID: {number}@flood",
            "CSeq: 1 INVITE",
            f"Contact: <sip:a@{host}>",
            "Content-Type: application/sdp",
        )
        yield "\r\n".join((*lines, "", "")).encode() + sdp_offer(host, 4000)


async def test_a_flood_from_a_stranger_is_not_felt(tmp_path: Path, keyring: Keyring) -> None:
    """S12: 500 INVITEs a second for a minute: fifty calls hear no difference, twenty new ones come up."""
    async with under_good_load(tmp_path, keyring) as (edge, phone, calls), Attacker.open(STRANGER) as attacker:
        marks = marks_of(calls)
        await asyncio.sleep(10.0)
        lost_before, late_before_s = heard_since(calls, marks)
        lines, marks = len(edge.log()), marks_of(calls)
        flood = asyncio.create_task(paced(invites(STRANGER), attacker, edge, 500, 60.0), name="flood")
        times_s = []
        for _ in range(20):
            await asyncio.sleep(2.0)
            times_s.append(await _set_up_s(phone))
        sent = await flood
        lost, late_s = heard_since(calls, marks)
        written = [line for line in edge.log()[lines:] if STRANGER in str(line)]
        figures = (
            f"sent {sent}, loss {lost_before:.4%} → {lost:.4%}, p99 {late_before_s * 1e3:.1f} → {late_s * 1e3:.1f} ms, "
            f"set-up p95 {np.percentile(times_s, 95) * 1e3:.0f} ms, {len(written)} log lines"
        )
        print(figures)
        assert sent >= 25_000, figures
        assert attacker.heard == []
        assert lost - lost_before <= 0.001, figures
        assert late_s - late_before_s <= 0.005, figures
        assert np.percentile(times_s, 95) <= 0.5, figures
        assert len(written) <= 65, figures


async def _set_up_s(phone: Phone) -> float:
    """From INVITE to 200 [s]."""
    loop = asyncio.get_running_loop()
    call = await phone.call(DID)
    began = loop.time()
    await call.invite()
    await call.expect(200)
    took_s = loop.time() - began
    await call.ack()
    await call.bye()
    return took_s


async def test_a_soak_of_calls_fails_none_and_does_not_grow(tmp_path: Path, keyring: Keyring) -> None:
    """R20: 20 calls a second for two minutes, or ``SOAK_S``; none fails, and memory stays in the second half."""
    seconds = float(os.environ.get("SOAK_S", "120"))
    outcomes: Counter[str] = Counter()
    resident: list[tuple[float, float]] = []
    settings = replace(SETTINGS, limits={**SETTINGS.limits, "attempts_per_second": 1000.0})
    async with Edge.open(tmp_path / "edge", keyring, settings) as edge:
        await edge.add_echo()
        async with (
            unharmed(edge, LINGERS_S + 10),
            Phone.open(edge.listeners["udp"]) as phone,
            asyncio.TaskGroup() as group,
        ):
            loop = asyncio.get_running_loop()
            began, number = loop.time(), 0
            while (passed := loop.time() - began) < seconds:
                while number < passed * 20:
                    number += 1
                    group.create_task(_soaked(phone, outcomes), name=f"call {number}")
                if not resident or passed - resident[-1][0] >= 2.0:
                    resident.append((passed, (await edge.metrics())["process_resident_memory_bytes"]))
                await asyncio.sleep(0.05)
        assert outcomes == {"up": number}
        half = [(at, size) for at, size in resident if at >= seconds / 2]
        slope = float(np.polyfit(*np.array(half).T, 1)[0]) * 60 / 2**20
        print(f"{number} calls, {slope:+.2f} MB/min in the second half, {resident[-1][1] / 2**20:.0f} MB")
        # Each call leaves some 30 objects in cycles, which wait for the collector's next full run: minutes, by design.
        assert slope <= (1.0 if seconds >= 600 else 3.0), f"{slope:.2f} MB/min"


async def _soaked(phone: Phone, outcomes: Counter[str]) -> None:
    """A call of a second and a half, with a little media, on a port of its own that is closed again."""
    async with MediaPort.open() as media:
        call = await phone.call(DID, media=media)
        await call.establish(timeout_s=10.0)
        await media.play(tone(1000, 0.2))
        await asyncio.sleep(1.3)
        ended = await call.bye(timeout_s=10.0)
        outcomes["up" if ended.status == 200 and len(media.packets) > 5 else f"{ended.status}"] += 1
