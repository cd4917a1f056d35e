"""Media as a worker: commands carried out once, failures with their codes, notices, statistics."""

from __future__ import annotations

import asyncio
import gc
import itertools
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from media.bridge import Bridge
from media.messages import (
    AgentEnded,
    AgentReady,
    AgentSpec,
    ApplyAnswer,
    CallClosed,
    CallOpened,
    CloseCall,
    Command,
    DetectionOrder,
    DigitReceived,
    Done,
    Failed,
    Hold,
    LegPolicy,
    Notice,
    OpenCall,
    Ping,
    Renegotiate,
    Reply,
    Request,
    Result,
    SendDigits,
    SourceLearnt,
    StartMedia,
    Statistics,
    Withdraw,
    decode,
    encode,
)
from media.service import MediaService, _Call
from media.settings import ServiceSettings
from media.ticker import Tick
from tests.media.rooms import ECHO, offer, open_call, room
from tests.support.audio import heard_s, read_wav, tone, write_wav
from tests.support.clock import FakeClock
from tests.support.leaks import open_descriptors
from tests.support.ports import free_ports
from tests.support.rtp import MediaPort, digits_in, hear


class Pipe:
    """A service that is not started, and what it sent."""

    def __init__(self, **settings: Any) -> None:
        self.sent: list[bytes] = []
        self.service = MediaService(
            ServiceSettings(listen_address="127.0.0.1", allow_private=True, **settings),
            send=self.sent.append,
            entropy=bytes,
            clock=FakeClock(),
        )
        self._next_id = 0

    def ask(self, command: Command, *, request_id: int | None = None, epoch: int = 0, deadline_s: float = 5.0) -> None:
        self._next_id += 1
        request = Request(request_id=request_id or self._next_id, deadline_s=deadline_s, body=command, epoch=epoch)
        self.service.receive(encode(request))

    @property
    def results(self) -> list[Result]:
        replies = [decode(data) for data in self.sent]
        return [reply.body for reply in replies if isinstance(reply, Reply)]


COMMANDS_OF_A_CALL: list[Command] = [
    ApplyAnswer(call="none", answer=b""),
    StartMedia(call="none"),
    Renegotiate(call="none", offer=None),
    Hold(call="none", held=True),
    Withdraw(call="none"),
    SendDigits(call="none", digits="1"),
]


# --- without sockets ------------------------------------------------------------------------------


def test_a_ping_is_answered() -> None:
    pipe = Pipe()
    pipe.ask(Ping())
    assert pipe.results == [Done()]


@pytest.mark.parametrize("command", COMMANDS_OF_A_CALL, ids=lambda command: type(command).__name__)
def test_a_command_for_an_unknown_call_fails_with_its_code(command: Command) -> None:
    pipe = Pipe()
    pipe.ask(command)
    assert pipe.results == [Failed(code="unknown_call", message="none")]


async def test_closing_an_unknown_call_is_no_error() -> None:
    pipe = Pipe()
    pipe.ask(CloseCall(call="none", reason="late"))
    await pipe.service.close()
    assert pipe.results == [CallClosed(statistics=None)]


def test_a_request_that_comes_twice_gets_the_same_reply() -> None:
    pipe = Pipe()
    pipe.ask(Ping(), request_id=7)
    pipe.ask(StartMedia(call="none"), request_id=7)
    assert pipe.sent[0] == pipe.sent[1]
    assert pipe.results == [Done(), Done()]


def test_the_memory_of_replies_is_bounded() -> None:
    pipe = Pipe()
    for number in range(1, MediaService.REPLIES + 3):
        pipe.ask(Ping(), request_id=number)
    assert len(pipe.service._replies) == MediaService.REPLIES


@pytest.mark.parametrize(
    ("calls", "wake_ups", "most"),
    [
        (20, [0.0], 20),
        (21, [0.0, 10.0], 20),
        (80, [0.0, 5.0, 10.0, 15.0], 20),
        (140, [0.0, 2.5, 5.0, 7.5, 10.0, 12.5, 15.0], 20),
        (600, [number * 1.25 for number in range(16)], 38),
    ],
)
async def test_calls_take_as_many_turns_as_they_fill(calls: int, wake_ups: list[float], most: int) -> None:
    """When those that are called at all wake up within the 20 ms [ms], and the most that one of them serves."""
    service = Pipe().service
    for number in range(calls):
        turn = service._next_turn()
        turn.begin(since=0.0)
        service._serve(str(number), cast(_Call, SimpleNamespace(broken=True, turn=turn)))
    taken = [turn for turn in service._turns if turn.ticker.running]
    assert sorted(turn.phase_s * 1000 for turn in taken) == wake_ups
    assert max(len(turn.calls) for turn in taken) == most
    service._leave("0")
    assert service._next_turn() is service._turns[0], "whoever comes next has the place of one who left"
    for number in range(calls):
        service._leave(str(number))
    assert not any(turn.ticker.running for turn in service._turns)


def test_a_command_for_an_earlier_life_is_refused_as_stale() -> None:
    pipe = Pipe(epoch=3)
    pipe.ask(Ping(), epoch=2)
    [result] = pipe.results
    assert isinstance(result, Failed)
    assert result.code == "stale_epoch"
    assert decode(pipe.sent[0]).epoch == 3


def test_junk_and_replies_from_control_are_dropped_and_counted() -> None:
    pipe = Pipe()
    pipe.service.receive(b"junk")
    pipe.service.receive(encode(Reply(request_id=1, body=Done())))
    assert pipe.service.unreadable == 2
    assert pipe.sent == []


BAD_OPENINGS: dict[str, tuple[str, OpenCall]] = {
    "nothing in common": ("no_common_codec", open_call("c", 20000, offer(4000, codecs="18"))),
    "no SDP": ("bad_sdp", open_call("c", 20000, b"hello")),
    "a private address": ("media_address_refused", open_call("c", 20000, offer(4000), policy=LegPolicy())),
    "no such agent": ("bad_agent", open_call("c", 20000, offer(4000), AgentSpec(protocol="builtin", name="owl"))),
    "no such protocol": ("bad_agent", open_call("c", 20000, offer(4000), AgentSpec(protocol="pigeon"))),
    "no URL": ("bad_agent", open_call("c", 20000, offer(4000), AgentSpec(protocol="twilio-media-streams"))),
    "codecs unknown here": ("no_common_codec", open_call("c", 20000, None, policy=LegPolicy(codecs=("G729",)))),
}


@pytest.mark.parametrize(("code", "command"), BAD_OPENINGS.values(), ids=BAD_OPENINGS)
async def test_what_cannot_be_opened_fails_with_its_code_and_leaves_nothing(code: str, command: OpenCall) -> None:
    pipe = Pipe()
    pipe.ask(command)
    while not pipe.results:
        await asyncio.sleep(0)
    [result] = pipe.results
    assert isinstance(result, Failed)
    assert result.code == code
    assert pipe.service.calls == 0
    await pipe.service.close()


async def test_beyond_its_cap_the_worker_is_overloaded() -> None:
    pipe = Pipe(max_calls=0)
    pipe.ask(open_call("c", 20000, offer(4000)))
    [result] = pipe.results
    assert isinstance(result, Failed)
    assert result.code == "overload"
    await pipe.service.close()


async def test_a_closing_worker_opens_nothing() -> None:
    pipe = Pipe()
    await pipe.service.close()
    pipe.ask(open_call("c", 20000, offer(4000)))
    [result] = pipe.results
    assert isinstance(result, Failed)
    assert result.code == "closing"


# --- with sockets ---------------------------------------------------------------------------------


@pytest.mark.realtime
async def test_the_caller_hears_the_echo_and_all_is_free_after_the_close() -> None:
    port = free_ports(2)
    async with room() as it, MediaPort.open() as phone:
        before = len(open_descriptors())
        opened = await it.opened(open_call("c", port, offer(phone.port)))
        assert opened.codec == "PCMU"
        assert f"m=audio {port} ".encode() in opened.sdp
        assert (await it.told(AgentReady)).call == "c"
        assert await it.request(StartMedia(call="c")) == Done()
        phone.target = ("127.0.0.1", port)
        await phone.play(tone(700, 1.0))
        assert (await it.told(SourceLearnt)).address == f"127.0.0.1:{phone.port}"
        closed = await it.request(CloseCall(call="c", reason="done"))
        assert isinstance(closed, CallClosed)
        assert closed.statistics is not None
        assert closed.statistics.packets_received >= 49
        assert heard_s(hear(phone.packets), 700) > 0.7
        assert phone.sources == {("127.0.0.1", port)}
        assert len(open_descriptors()) == before


@pytest.mark.realtime
async def test_nothing_is_sent_to_the_phone_before_the_call_is_established_nor_after_its_close() -> None:
    port = free_ports(2)
    async with room() as it, MediaPort.open() as phone:
        await it.opened(open_call("c", port, offer(phone.port), AgentSpec(protocol="builtin", name="parrot")))
        await asyncio.sleep(0.2)
        assert phone.packets == []
        await it.request(StartMedia(call="c"))
        await asyncio.sleep(0.2)
        assert len(phone.packets) >= 8
        await it.request(CloseCall(call="c", reason="done"))
        await asyncio.sleep(0.05)
        count = len(phone.packets)
        await asyncio.sleep(0.1)
        assert len(phone.packets) == count


@pytest.mark.realtime
async def test_a_port_in_use_fails_the_opening_as_port_unavailable() -> None:
    port = free_ports(2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", port + 1))
        async with room() as it:
            result = await it.request(open_call("c", port, offer(4000)))
            assert isinstance(result, Failed)
            assert result.code == "port_unavailable"


@pytest.mark.realtime
async def test_a_call_that_is_open_is_not_opened_again() -> None:
    port = free_ports(4)
    async with room() as it:
        await it.opened(open_call("c", port, offer(4000)))
        result = await it.request(open_call("c", port + 2, offer(4000)))
        assert isinstance(result, Failed)
        assert result.code == "call_exists"
        await it.request(CloseCall(call="c", reason=""))
        await it.opened(open_call("c", port, offer(4000)))


@pytest.mark.realtime
async def test_an_opening_is_repeated_without_a_second_call() -> None:
    port = free_ports(2)
    async with room() as it:
        request = encode(Request(request_id=99, deadline_s=5.0, body=open_call("c", port, offer(4000))))
        it.media.service.receive(request)
        it.media.service.receive(request)
        await it.told(AgentReady)
        it.media.service.receive(request)
        assert it.media.service.calls == 1
        await asyncio.sleep(0)
        assert [notice for notice in it.notices if isinstance(notice, AgentReady)] == [
            AgentReady(call="c", waited_s=0.0)
        ]


@pytest.mark.realtime
async def test_our_offer_is_answered_later() -> None:
    port = free_ports(2)
    async with room() as it, MediaPort.open() as phone:
        opened = await it.opened(open_call("c", port, None))
        assert opened.codec is None
        early = await it.request(StartMedia(call="c"))
        assert isinstance(early, Failed)
        assert early.code == "no_answer"
        assert await it.request(ApplyAnswer(call="c", answer=offer(phone.port, codecs="8"))) == Done()
        again = await it.request(ApplyAnswer(call="c", answer=offer(phone.port)))
        assert isinstance(again, Failed)
        assert again.code == "no_offer"
        await it.request(StartMedia(call="c"))
        async with asyncio.timeout(2):
            while not phone.packets:
                await asyncio.sleep(0.01)
        assert phone.packets[0].payload_type == 8
        assert phone.packets[0].payload == b"\xd5" * 160


@pytest.mark.realtime
async def test_digits_go_both_ways() -> None:
    """RFC 4733."""
    port = free_ports(2)
    async with room() as it, MediaPort.open() as phone:
        await it.opened(open_call("c", port, offer(phone.port)))
        await it.request(StartMedia(call="c"))
        assert await it.request(SendDigits(call="c", digits="12#")) == Done()
        phone.target = ("127.0.0.1", port)
        await phone.play(tone(400, 0.1))
        await phone.press("07*")
        await it.told(DigitReceived, lambda notice: notice.digit == "*")
        assert [notice.digit for notice in it.notices if isinstance(notice, DigitReceived)] == ["0", "7", "*"]
        async with asyncio.timeout(3):
            while digits_in(phone.packets) != "12#":
                await asyncio.sleep(0.02)


@pytest.mark.realtime
@pytest.mark.parametrize(
    ("digits", "extra", "code"), [("12x", "", "bad_digits"), ("1", "no event", "no_telephone_event")]
)
async def test_digits_that_cannot_be_sent_fail_with_their_code(digits: str, extra: str, code: str) -> None:
    sdp = offer(4000)
    if extra:
        sdp = sdp.replace(b" 101\r\na=rtpmap:101 telephone-event/8000", b"")
    async with room() as it:
        await it.opened(open_call("c", free_ports(2), sdp))
        result = await it.request(SendDigits(call="c", digits=digits))
        assert isinstance(result, Failed)
        assert result.code == code


@pytest.mark.realtime
async def test_a_bad_re_invite_is_refused_and_the_call_goes_on() -> None:
    port = free_ports(2)
    async with room() as it, MediaPort.open() as phone:
        first = await it.opened(open_call("c", port, offer(phone.port)))
        await it.request(StartMedia(call="c"))
        refused = await it.request(Renegotiate(call="c", offer=offer(phone.port, codecs="18")))
        assert isinstance(refused, Failed)
        assert refused.code == "no_common_codec"
        count = len(phone.packets)
        async with asyncio.timeout(2):
            while len(phone.packets) < count + 5:
                await asyncio.sleep(0.02)
        accepted = await it.request(Renegotiate(call="c", offer=offer(phone.port)))
        assert accepted == CallOpened(sdp=first.sdp, codec="PCMU")


@pytest.mark.realtime
async def test_a_held_phone_is_sent_nothing_and_hears_again_after_the_hold() -> None:
    port = free_ports(2)
    async with room() as it, MediaPort.open() as phone:
        await it.opened(open_call("c", port, offer(phone.port)))
        await it.request(StartMedia(call="c"))
        await asyncio.sleep(0.1)
        held = await it.request(Renegotiate(call="c", offer=offer(phone.port, extra="a=inactive\r\n")))
        assert isinstance(held, CallOpened)
        assert held.held
        await asyncio.sleep(0.05)
        count = len(phone.packets)
        await asyncio.sleep(0.2)
        assert len(phone.packets) == count
        resumed = await it.request(Renegotiate(call="c", offer=offer(phone.port)))
        assert isinstance(resumed, CallOpened)
        assert not resumed.held
        async with asyncio.timeout(2):
            while len(phone.packets) == count:
                await asyncio.sleep(0.02)
        assert phone.packets[count].marker
        gap = (phone.packets[count].timestamp - phone.packets[count - 1].timestamp) % 2**32
        assert gap >= 160 * 10, "the timestamp follows time through the hold"


@pytest.mark.realtime
async def test_a_phone_we_hold_hears_music_until_it_is_taken_back() -> None:
    port = free_ports(2)
    async with room() as it, MediaPort.open() as phone:
        agent = AgentSpec(protocol="builtin", name="echo", hold_music="music")
        await it.opened(open_call("c", port, offer(phone.port, codecs="0"), agent))
        await it.request(StartMedia(call="c"))
        for held, direction in ((True, "recvonly"), (False, "sendrecv")):
            ours = await it.request(Hold(call="c", held=held))
            assert isinstance(ours, CallOpened)
            answer = offer(phone.port, codecs="0", extra=f"a={direction}\r\n")
            assert await it.request(ApplyAnswer(call="c", answer=answer)) == Done()
            await asyncio.sleep(0.05)
            count = len(phone.packets)
            await asyncio.sleep(0.4)
            heard = [packet.payload for packet in phone.packets[count:]]
            assert len(heard) >= 10
            assert (set(heard) == {b"\xff" * 160}) is not held
        assert await it.request(Hold(call="c", held=True)) != Done()
        assert await it.request(Withdraw(call="c")) == Done()


@pytest.mark.realtime
async def test_statistics_come_once_a_second_for_all_calls() -> None:
    port = free_ports(4)
    async with room() as it:
        for number in range(2):
            await it.opened(open_call(f"c{number}", port + 2 * number, offer(4000)))
        told = await it.told(Statistics, lambda notice: len(notice.calls) == 2)
        assert told.calls.keys() == {"c0", "c1"}
        assert told.tick_late_p99_ms is not None
        assert told.gc_pause_max_ms is not None


@pytest.mark.realtime
async def test_a_call_closed_while_it_opens_leaves_no_port_behind() -> None:
    port = free_ports(2)
    async with room() as it:
        opening = asyncio.ensure_future(it.request(open_call("c", port, offer(4000))))
        await asyncio.sleep(0)
        closed = await it.request(CloseCall(call="c", reason="cancelled"))
        assert isinstance(closed, CallClosed)
        await opening
        assert it.media.service.calls == 0
        await it.opened(open_call("d", port, offer(4000)))


@pytest.mark.realtime
async def test_an_agent_that_does_not_close_in_time_keeps_no_port(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def never(_: Bridge) -> None:
        await asyncio.Event().wait()

    port = free_ports(2)
    async with room() as it:
        await it.opened(open_call("c", port, offer(4000)))
        with monkeypatch.context() as patched:
            patched.setattr(Bridge, "close", never)
            closed = await it.request(CloseCall(call="c", reason="test"), deadline_s=0.05)
        assert isinstance(closed, CallClosed)
        assert closed.statistics is not None
        assert "did not close in time" in caplog.text
        await it.opened(open_call("d", port, offer(4000)))


@pytest.mark.realtime
async def test_a_call_that_breaks_inside_ends_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_ports(4)
    async with room() as it, MediaPort.open() as phone:
        await it.opened(open_call("good", port, offer(phone.port)))
        await it.opened(open_call("bad", port + 2, offer(4000)))
        intact = Bridge.say

        def fail(bridge: Bridge, tick: Tick) -> None:
            if bridge.call == "bad":
                raise ZeroDivisionError
            intact(bridge, tick)

        monkeypatch.setattr(Bridge, "say", fail)
        await it.request(StartMedia(call="good"))
        ended = await it.told(AgentEnded)
        assert (ended.call, ended.cause) == ("bad", "lost")
        async with asyncio.timeout(2):
            while len(phone.packets) < 5:
                await asyncio.sleep(0.02)


@pytest.mark.realtime
async def test_fifty_calls_are_paced_alike() -> None:
    count, seconds = 50, 1.5
    port = free_ports(2 * count)
    async with room() as it, MediaPort.open() as phone:
        for number in range(count):
            await it.opened(open_call(f"c{number}", port + 2 * number, offer(phone.port), ECHO))
            await it.request(StartMedia(call=f"c{number}"))
        start = len(phone.packets)
        await asyncio.sleep(seconds)
        by_stream: dict[int, list[int]] = {}
        for packet in phone.packets[start:]:
            by_stream.setdefault(packet.ssrc, []).append(packet.timestamp)
        assert len(by_stream) == count
        for stamps in by_stream.values():
            assert {(b - a) % 2**32 for a, b in itertools.pairwise(stamps)} == {160}
            assert len(stamps) == pytest.approx(seconds * 50, abs=8)


async def test_a_notice_is_sent_with_the_workers_epoch() -> None:
    pipe = Pipe(epoch=9)
    pipe.service._tell_statistics()
    notice = decode(pipe.sent[0])
    assert isinstance(notice, Notice)
    assert notice.epoch == 9


@pytest.mark.realtime
async def test_the_softphone_calls_the_parrot_hears_it_presses_hash_and_is_hung_up_on(tmp_path: Path) -> None:
    ours, theirs = free_ports(2), free_ports(2)
    heard = tmp_path / "heard.wav"
    caller = AgentSpec(
        protocol="softphone",
        parameters={
            "play": str(write_wav(tmp_path / "said.wav", tone(700, 1.0))),
            "record": str(heard),
            "digits": "w#",
            "digits_after_ms": "2500",
        },
    )
    async with room() as it:
        offered = await it.opened(open_call("caller", ours, None, caller))
        answered = await it.opened(
            open_call("parrot", theirs, offered.sdp, AgentSpec(protocol="builtin", name="parrot"))
        )
        assert await it.request(ApplyAnswer(call="caller", answer=answered.sdp)) == Done()
        for call in ("parrot", "caller"):
            await it.told(AgentReady, lambda notice, call=call: notice.call == call)  # type: ignore[misc]
            await it.request(StartMedia(call=call))
        ended = await it.told(AgentEnded, within_s=10.0)
        assert (ended.call, ended.cause) == ("parrot", "hang_up")
        assert (await it.told(DigitReceived)).call == "parrot"
        for call in ("parrot", "caller"):
            closed = await it.request(CloseCall(call=call, reason="hung up"))
            assert isinstance(closed, CallClosed)
        samples = read_wav(heard)
        assert heard_s(samples, 700) > 0.8, "the parrot has said the caller's tone after it"
        assert len(samples) / 8000 == pytest.approx(3.0 + 0.16 + 0.67, abs=1.0)


@pytest.mark.realtime
async def test_nobody_listens_in_before_the_answer_and_once_after_it() -> None:
    """Early media is no call yet; a second start changes nothing."""
    async with room() as it:
        await it.opened(open_call("c", free_ports(2), offer(4000)))
        bridge = it.media.service._calls["c"].bridge
        await it.request(StartMedia(call="c", early=True))
        assert bridge._tap is None
        await it.request(StartMedia(call="c"))
        tap = bridge._tap
        assert tap is not None
        await it.request(StartMedia(call="c"))
        assert bridge._tap is tap


@pytest.mark.realtime
async def test_a_call_that_is_closed_leaves_nothing_to_the_garbage_collector() -> None:
    """A worker does not stop for a full collection while there are calls."""
    port = free_ports(2)
    async with room() as it:
        detection = DetectionOrder()
        await it.opened(open_call("c", port, offer(4000), detection=detection, conversation=True))
        await it.request(StartMedia(call="c"))
        await it.told(Statistics)
        gc.collect()
        gc.disable()
        try:
            await it.request(CloseCall(call="c", reason="bye"))
            assert gc.collect() == 0
        finally:
            gc.enable()
