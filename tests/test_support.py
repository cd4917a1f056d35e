"""The suite's own instruments: a test is worth what its ears, its clock and its bad network are worth."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.audio import (
    decode_alaw,
    decode_ulaw,
    encode_alaw,
    encode_ulaw,
    heard_s,
    level_dbfs,
    loudest_hz,
    read_wav,
    silence,
    tone,
    write_wav,
)
from tests.support.clock import FakeClock
from tests.support.lossy import Impairment, LossyPath, Network
from tests.support.openai_events import client_event
from tests.support.phone import Message, digest_answer
from tests.support.process import running
from tests.support.rtp import MediaPort, Packet, digits_in, hear, parse_rtp


def test_a_tone_is_heard_for_as_long_as_it_sounds_and_no_other_is() -> None:
    samples = np.concatenate([silence(0.4), tone(1000, 0.8), silence(0.4), tone(440, 0.4)])
    assert heard_s(samples, 1000) == pytest.approx(0.8, abs=0.04)
    assert heard_s(samples, 440) == pytest.approx(0.4, abs=0.04)
    assert heard_s(samples, 700) == 0.0
    assert loudest_hz(tone(620, 1.0)) == pytest.approx(620, abs=1)


def test_a_tone_in_noise_of_its_own_strength_is_not_taken_for_the_tone() -> None:
    noise = np.random.default_rng(1).normal(0, 6000, 8000).astype(np.int16)
    assert heard_s(noise, 1000) == 0.0
    assert heard_s(np.asarray(tone(1000, 1.0) // 8 + noise, dtype=np.int16), 1000) < 0.1


def test_g711_is_that_of_the_recommendation() -> None:
    """ITU-T G.711 tables 1a and 2a: the ends and the middle of µ-law, and every code of both there and back."""
    assert decode_ulaw(bytes([0x00, 0x80, 0xFF, 0x7F])).tolist() == [-32124, 32124, 0, 0]
    every = bytes(range(256))
    assert decode_ulaw(encode_ulaw(decode_ulaw(every))).tolist() == decode_ulaw(every).tolist()
    assert heard_s(decode_ulaw(encode_ulaw(tone(1000, 1.0))), 1000) == 1.0
    assert decode_alaw(encode_alaw(decode_alaw(every))).tolist() == decode_alaw(every).tolist()


def test_a_recording_that_was_cut_off_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    """Its header says 0 or 4 GB of data."""
    whole = write_wav(tmp_path / "whole.wav", tone(1000, 1.0))
    data = bytearray(whole.read_bytes())
    for size in (b"\0\0\0\0", b"\xff\xff\xff\xff"):
        data[40:44] = size
        cut = tmp_path / "cut.wav"
        cut.write_bytes(data[:8044])
        assert len(read_wav(cut)) == 4000
    assert level_dbfs(read_wav(whole)) == pytest.approx(-15.05, abs=0.1)


def test_a_fake_clock_goes_on_and_never_back() -> None:
    clock = FakeClock()
    assert clock.advance(1.5) == 1001.5
    assert clock.advance_to(1000.0) == clock() == 1001.5
    with pytest.raises(ValueError, match="back"):
        clock.advance(-1)


def test_a_bad_network_is_as_bad_as_it_was_told_and_the_same_each_time() -> None:
    def run(seed: int) -> list[list[float]]:
        impairment = Impairment(seed, loss=0.05, duplicate=0.05, reorder=0.05, delay_s=0.02, jitter_s=0.01)
        return [impairment.fate() for _ in range(10_000)]

    fates = run(1)
    assert fates == run(1) != run(2)
    assert sum(not fate for fate in fates) == pytest.approx(500, abs=70)
    assert sum(len(fate) == 2 for fate in fates) == pytest.approx(475, abs=70)
    assert all(0.01 <= delay <= 0.0611 for fate in fates for delay in fate)


def test_datagrams_arrive_when_they_are_due_and_overtake_each_other() -> None:
    network: Network[str] = Network(Impairment(seed=3, delay_s=0.01, reorder=0.5))
    for number in range(20):
        network.send("a", "b", bytes([number]), now=number * 0.001)
    first = network.next_arrival()
    assert first is not None
    assert network.arrivals(first - 0.001) == []
    order = [data[0] for _, _, data in network.arrivals(1.0)]
    assert sorted(order) == list(range(20))
    assert order != sorted(order)
    assert network.next_arrival() is None


def test_packets_are_heard_where_their_timestamps_put_them() -> None:
    """Out of order, across the wrap of the timestamp, with a gap that is silence."""
    frames = [encode_ulaw(np.full(160, level, dtype=np.int16)) for level in (1000, 2000, 4000)]
    stamps = [2**32 - 160, 0, 320]
    packets = [Packet(0, False, n, stamps[n], 1, frames[n], arrival_s=n / 50) for n in (0, 2, 1)]
    heard = hear(packets).reshape(-1, 160)[:, 0].tolist()
    assert heard[2] == 0
    assert heard[0] < heard[1] < heard[3]


def test_a_digit_counts_once_however_often_its_packets_come() -> None:
    """RFC 4733 §2.5.1.2."""
    packets = [Packet(101, False, n, 800 * (n // 3), 1, bytes([n // 3, 10, 0, 160]), 0.0) for n in range(9)]
    assert digits_in([*packets, *packets]) == "012"
    assert parse_rtp(b"\x40" + bytes(20), 0.0) is None


def test_compact_and_folded_headers_are_read() -> None:
    message = Message.parse(
        b"SIP/2.0 200 OK\r\nv:SIP/2.0/UDP a;branch=1\r\nt: <sip:b>\r\n ;tag=x\r\nCSeq: 7 BYE\r\n\r\n"
    )
    assert (message.status, message.method, message.cseq) == (200, "BYE", 7)
    assert message.parameter("to", "tag") == "x"
    assert message.get("via") == "SIP/2.0/UDP a;branch=1"


def test_digest_answers_the_example_of_rfc_2617() -> None:
    """§3.5 without qop is RFC 2069's form; its own example (as corrected by the errata) is in the RFC."""
    challenge = 'Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"'
    answer = digest_answer(challenge, "GET", "/dir/index.html", "Mufasa", "CircleOfLife")
    assert 'response="1949323746fe6a43ef61f9606e7febea"' in answer


@pytest.mark.realtime
async def test_a_lossy_path_joins_two_ports_and_gives_its_own_back() -> None:
    async with LossyPath.open(Impairment(seed=5, duplicate=1.0)) as path, MediaPort.open() as a, MediaPort.open() as b:
        link = await path.link()
        link.connect(near=a.address, far=b.address)
        a.target, b.target = link.near, link.far
        await asyncio.gather(a.play(tone(500, 0.5)), b.play(tone(900, 0.5)))
        await b.expect_packets(50)
        await a.expect_packets(50)
        assert heard_s(b.audio(), 500) > 0.4
        assert heard_s(a.audio(), 900) > 0.4
        assert b.sources == {link.far}


async def test_what_is_heard_is_not_judged_beside_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MediaPort, "shared_machine", True)
    async with MediaPort.open() as media:
        with pytest.raises(AssertionError, match="mark the test realtime"):
            await media.expect_tone(500)


@pytest.mark.realtime
async def test_what_a_program_printed_is_in_the_failure() -> None:
    code = "import sys; print('so far', flush=True); sys.stdin.readline(); print('so good'); sys.exit(3)"
    async with running(sys.executable, "-c", code, name="child") as program:
        assert (await program.expect("so (far)"))[1] == "far"
        with pytest.raises(AssertionError, match="child: did not print 'never'") as failure:
            await program.expect("never", timeout_s=0.1)
        assert "| so far" in str(failure.value)
        await program.write("")
        with pytest.raises(AssertionError, match=r"ended before it printed 'never'"):
            await program.expect("never")
        assert await program.wait(5.0) == 3


async def test_a_program_that_ignores_sigterm_is_killed_with_all_it_started() -> None:
    script = "trap '' TERM; sleep 60 & echo started $!; wait"
    async with running("sh", "-c", script, name="stubborn") as program:
        child = int((await program.expect(r"started (\d+)"))[1])
    assert program.exit_code == -9
    state = Path(f"/proc/{child}/stat")
    with suppress(FileNotFoundError, ProcessLookupError):
        async with asyncio.timeout(5):  # SIGKILL has been sent to all of them; each ends when the kernel runs it
            while state.read_text().split()[2] != "Z":
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({"type": "response.stop"}, "not an event of the API: response.stop"),
        ({"type": "conversation.item.truncate", "item_id": "i", "content_index": 0}, "not an event of the API"),
        ({"type": "response.create", "mood": "good"}, "no response.create.mood"),
        ({"type": "response.create", "response": {"mood": "good"}}, "no response.create.response.mood"),
        ({"type": "session.update", "session": {"type": "realtime", "tools": [{"tone": 1}]}}, "session.tools.tone"),
    ],
    ids=["type", "a field missing", "a field more", "one more within", "one more within a list"],
)
def test_what_openai_does_not_publish_is_no_event_of_a_clients(event: dict[str, Any], words: str) -> None:
    assert client_event('{"type": "response.create"}') == {"type": "response.create"}
    with pytest.raises(AssertionError, match=words):
        client_event(json.dumps(event))
