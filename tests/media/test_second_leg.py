"""The leg a caller is transferred to: offered, heard early, joined, closed."""

from __future__ import annotations

import asyncio

import pytest

from media.messages import (
    ApplyAnswer,
    CallClosed,
    CallOpened,
    CloseCall,
    CloseSecondLeg,
    Command,
    DigitReceived,
    Done,
    Failed,
    JoinLegs,
    OpenSecondLeg,
    Renegotiate,
    StartMedia,
    TellAgent,
)
from tests.media.rooms import LAB, Room, offer, open_call, room
from tests.support.audio import tone
from tests.support.ports import free_ports
from tests.support.rtp import MediaPort

pytestmark = pytest.mark.realtime


async def established(it: Room, phone: MediaPort) -> None:
    """A call with the echo."""
    port = free_ports(2)
    await it.opened(open_call("c", port, offer(phone.port)))
    phone.target = ("127.0.0.1", port)
    assert await it.request(StartMedia(call="c")) == Done()


async def second(it: Room, peer: MediaPort) -> None:
    """Its second leg, offered."""
    port = free_ports(2)
    opened = await it.request(OpenSecondLeg(call="c", rtp_port=port, policy=LAB))
    assert isinstance(opened, CallOpened), opened
    assert f"m=audio {port} ".encode() in opened.sdp
    peer.target = ("127.0.0.1", port)


async def failure(it: Room, command: Command) -> str:
    result = await it.request(command)
    assert isinstance(result, Failed), result
    return result.code


async def test_a_caller_is_joined_to_whom_it_is_transferred_to_and_the_agent_leaves() -> None:
    """Early media first (183 with SDP), then both ways, with the laws different and the digits passed."""
    async with room() as it, MediaPort.open() as caller, MediaPort.open(ssrc=7) as peer:
        await established(it, caller)
        await second(it, peer)
        early = ApplyAnswer(call="c", answer=offer(peer.port, codecs="0"), early=True, second=True)
        assert await it.request(early) == Done()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(peer.play(tone(600, 1.0)))
            await caller.expect_tone(600, 0.4)
        final = ApplyAnswer(call="c", answer=offer(peer.port, codecs="8 0"), second=True)
        assert await it.request(final) == Done()
        assert await it.request(JoinLegs(call="c")) == Done()
        caller.packets.clear()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(peer.play(tone(500, 1.2)))
            tasks.create_task(caller.play(tone(900, 1.2)))
            await caller.expect_tone(500, 0.5)
            await peer.expect_tone(900, 0.5)
        await caller.press("7")
        assert (await it.told(DigitReceived)).digit == "7"
        await peer.wait_until(lambda: "7" in peer.digits(), "the digit")
        assert await it.request(TellAgent(call="c", event="transfer")) == Done()
        closed = await it.request(CloseSecondLeg(call="c"))
        assert isinstance(closed, CallClosed)
        assert closed.statistics is not None
        assert closed.statistics.packets_received > 50
        ended = await it.request(CloseCall(call="c", reason="done"))
        assert isinstance(ended, CallClosed)


async def test_a_caller_whose_target_refused_is_with_the_agent_again() -> None:
    async with room() as it, MediaPort.open() as caller, MediaPort.open(ssrc=7) as peer:
        await established(it, caller)
        await second(it, peer)
        assert isinstance(await it.request(CloseSecondLeg(call="c")), CallClosed)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(caller.play(tone(700, 1.0)))
            await caller.expect_tone(700, 0.4)
        assert isinstance(await it.request(CloseCall(call="c", reason="done")), CallClosed)


async def test_an_agent_that_listens_has_the_caller_back_when_the_target_leaves() -> None:
    async with room() as it, MediaPort.open() as caller, MediaPort.open(ssrc=7) as peer:
        await established(it, caller)
        await second(it, peer)
        await it.request(ApplyAnswer(call="c", answer=offer(peer.port), second=True))
        assert await it.request(JoinLegs(call="c", agent="listens")) == Done()
        await it.request(CloseSecondLeg(call="c"))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(caller.play(tone(700, 1.0)))
            await caller.expect_tone(700, 0.4)


async def test_what_cannot_be_done_fails_with_its_code_and_the_port_is_free_again() -> None:
    async with room() as it, MediaPort.open() as caller, MediaPort.open(ssrc=7) as peer:
        assert await failure(it, OpenSecondLeg(call="c", rtp_port=20000, policy=LAB)) == "unknown_call"
        await established(it, caller)
        answer = offer(peer.port)
        assert await failure(it, JoinLegs(call="c")) == "no_leg"
        assert await failure(it, ApplyAnswer(call="c", answer=answer, second=True)) == "no_leg"
        assert await it.request(CloseSecondLeg(call="c")) == CallClosed(statistics=None)
        assert await failure(it, OpenSecondLeg(call="c", rtp_port=caller.port & ~1, policy=LAB)) == "port_unavailable"
        port = free_ports(2)
        command = OpenSecondLeg(call="c", rtp_port=port, policy=LAB)
        assert isinstance(await it.request(command), CallOpened)
        assert await failure(it, command) == "leg_exists"
        assert await failure(it, JoinLegs(call="c")) == "no_answer"
        assert await failure(it, JoinLegs(call="c", agent="dances")) == "bad_agent_place"
        await it.request(ApplyAnswer(call="c", answer=answer, second=True))
        assert await failure(it, ApplyAnswer(call="c", answer=answer, second=True)) == "no_offer"
        again = await it.request(Renegotiate(call="c", offer=offer(peer.port, extra="a=sendonly\r\n"), second=True))
        assert isinstance(again, CallOpened)
        assert again.held
        await it.request(CloseCall(call="c", reason="done"))
        other = await it.request(open_call("d", port, offer(caller.port)))
        assert isinstance(other, CallOpened)


async def test_a_call_that_ends_while_its_second_leg_opens_leaves_no_port_behind() -> None:
    async with room() as it, MediaPort.open() as caller:
        await established(it, caller)
        port = free_ports(2)
        opening = asyncio.ensure_future(it.request(OpenSecondLeg(call="c", rtp_port=port, policy=LAB)))
        await asyncio.sleep(0)
        await it.request(CloseCall(call="c", reason="hung up"))
        await opening
        await it.opened(open_call("d", port, offer(caller.port)))
