"""A call's media, from its opening to its end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from control.registry.types import Agent, Number
from edge.events import CallConfirmed, CallEnded, CallKey, Cause, Party
from media.messages import (
    AgentFailed,
    AgentReady,
    ApplyAnswer,
    Command,
    Failed,
    OpenCall,
    RecordingEnded,
    RecordingOrder,
    StartMedia,
)
from tests.control.inward import ACCOUNT, refused_with, world


async def test_an_agent_ready_before_media_has_replied_is_not_forgotten() -> None:
    async with world() as w:

        def ready_first(command: Command) -> None:
            if isinstance(command, OpenCall):
                w.calls.on_notice(AgentReady(call=command.call, waited_s=0.0))

        w.media.before_reply = ready_first
        await w.offer()
        assert w.phone.verbs == ["ring", "answer"]


async def test_a_delayed_offer_takes_its_answer_from_the_ack() -> None:
    """RFC 3261 §13.2.1: no SDP in the INVITE; ours goes in the 200, the answer comes in the ACK."""
    async with world() as w:
        call = await w.offer(offer=None)
        w.calls.on_notice(AgentReady(call=call, waited_s=0.0))
        w.calls.on_event(CallConfirmed(CallKey("k1"), b"their answer"))
        await w.settle()
        (applied,) = w.media.of(ApplyAnswer)
        assert applied.answer == b"their answer"
        assert len(w.media.of(StartMedia)) == 1


async def test_an_ack_without_the_awaited_answer_ends_the_call() -> None:
    async with world() as w:
        call = await w.offer(offer=None)
        w.calls.on_notice(AgentReady(call=call, waited_s=0.0))
        w.calls.on_event(CallConfirmed(CallKey("k1"), None))
        await w.settle()
        assert w.phone.verbs[-1] == "hang_up"
        assert w.end(call).data["end_reason"] == "bad_answer"
        assert not w.media.of(StartMedia)
        assert w.quiet()


async def test_no_common_codec_is_488() -> None:
    async with world() as w:
        w.media.answers[OpenCall] = Failed(code="no_common_codec", message="only G729")
        await w.offer()
        await refused_with(w, 488, "no_common_codec")


async def test_a_port_that_another_program_holds_is_passed_over() -> None:
    """The pair rests as any other; the caller notices nothing."""
    async with world(pairs=3) as w:
        w.media.answers[OpenCall] = Failed(code="port_unavailable", message="address in use")

        def free_from_the_second_on(command: Command) -> None:
            if len(w.media.of(OpenCall)) == 2:
                w.media.answers.pop(OpenCall, None)

        w.media.before_reply = free_from_the_second_on
        await w.establish("k1")
        first, second = w.media.of(OpenCall)
        assert first.rtp_port != second.rtp_port
        assert w.ports.leased == 1


async def test_when_every_port_is_held_by_others_the_answer_is_503() -> None:
    """All are tried, none stays leased."""
    async with world(pairs=3) as w:
        w.media.answers[OpenCall] = Failed(code="port_unavailable", message="address in use")
        await w.offer()
        await w.settle()
        await refused_with(w, 503, "no_media_port")
        assert len({command.rtp_port for command in w.media.of(OpenCall)}) == 3
        assert w.ports.leased == 0


async def test_media_that_is_gone_refuses_the_call() -> None:
    async with world() as w:
        w.media.gone = True
        await w.offer()
        await refused_with(w, 503, "media_unavailable")


async def test_a_call_ends_even_when_media_is_gone() -> None:
    async with world() as w:
        call = await w.establish()
        w.media.gone = True
        w.calls.on_event(CallEnded(CallKey("k1"), Party.REMOTE, Cause.BYE))
        await w.settle()
        assert w.end(call).data["end_reason"] == "caller_hung_up"
        assert w.quiet()


@dataclass
class Recorder:
    """:class:`control.recordings.Recordings`, played by the test."""

    told: list[tuple[Any, ...]] = field(default_factory=list)
    made: RecordingOrder | None = field(
        default_factory=lambda: RecordingOrder(path="p", head=b"head", key=b"key", consent_tone=False)
    )

    def order(
        self, call_id: str, agent: Agent, number: Number, started: float, wish: bool | None = None
    ) -> RecordingOrder | None:
        self.told.append(("order", call_id, agent.id, number.id, started, wish))
        return self.made

    def begun(self, call_id: str, started: float, order: RecordingOrder) -> None:
        self.told.append(("begun", call_id, started, order))

    def on_ended(self, ended: RecordingEnded) -> None:
        self.told.append(("ended", ended))

    def on_lost(self, calls: Iterable[str]) -> None:
        self.told.append(("lost", *calls))


async def test_media_is_told_to_record_and_the_record_hears_when_it_has_begun() -> None:
    recorder = Recorder()
    async with world(recordings=recorder) as it:
        call = await it.offer()
        assert it.media.of(OpenCall)[0].recording == recorder.made
        assert [entry[0] for entry in recorder.told] == ["order"]
        it.calls.on_notice(AgentReady(call=call, waited_s=0.1))
        it.calls.on_event(CallConfirmed(CallKey("k1"), None))
        await it.settle()
        assert recorder.told == [
            ("order", call, "agent-1", "number-1", 100.0, None),
            ("begun", call, 100.0, recorder.made),
        ]
        ended = RecordingEnded(call=call, status="completed", seconds=1.0)
        it.calls.on_notice(ended)
        it.calls.on_lost([call])
        await it.settle()
        assert recorder.told[2:] == [("ended", ended), ("lost", call)]


async def test_a_call_that_is_never_answered_is_not_recorded() -> None:
    recorder = Recorder()
    async with world(recordings=recorder) as it:
        call = await it.offer()
        it.calls.on_notice(AgentFailed(call=call, cause="refused", message=""))
        await it.settle()
        assert [entry[0] for entry in recorder.told] == ["order"]


async def test_a_call_that_is_not_to_be_recorded_is_not() -> None:
    recorder = Recorder(made=None)
    async with world(recordings=recorder) as it:
        await it.establish()
        assert it.media.of(OpenCall)[0].recording is None
        assert [entry[0] for entry in recorder.told] == ["order"]


async def test_an_edge_without_recordings_takes_calls_all_the_same() -> None:
    async with world() as it:
        call = await it.establish()
        it.calls.on_notice(RecordingEnded(call=call, status="cut"))
        it.calls.on_lost([call])
        await it.settle()
        assert it.end(call).data["end_reason"] == "media_worker_died"


@pytest.mark.parametrize("early", [True, False])
async def test_an_agent_with_early_media_is_heard_before_the_answer(early: bool) -> None:
    """183 with our description; the answer comes when the agent is ready, as always. Off by default."""
    async with world() as w:
        pipeline = {"protocol": "builtin", "name": "parrot", "early_media": early}
        await w.registry.update_agent(Agent("agent-1", ACCOUNT, "Parrot", pipeline, 0.0, 0.0))
        call = await w.offer()
        assert w.phone.verbs == (["ring", "progress"] if early else ["ring"])
        assert [command.early for command in w.media.of(StartMedia)] == ([True] if early else [])
        w.calls.on_notice(AgentReady(call=call, waited_s=0.1))
        w.calls.on_event(CallConfirmed(CallKey("k1"), None))
        await w.settle()
        assert w.phone.sent[-1] == ("answer", "k1", b"our sdp")
        assert w.media.of(StartMedia)[-1] == StartMedia(call=call)


async def test_a_delayed_offer_has_no_early_media() -> None:
    """Its answer is still to come."""
    async with world() as w:
        pipeline = {"protocol": "builtin", "name": "parrot", "early_media": True}
        await w.registry.update_agent(Agent("agent-1", ACCOUNT, "Parrot", pipeline, 0.0, 0.0))
        await w.offer(offer=None)
        assert w.phone.verbs == ["ring"]
