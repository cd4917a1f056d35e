"""Who answers when no agent can."""

from __future__ import annotations

from config.settings import Limits
from control.registry.types import Agent
from edge.events import CallConfirmed, CallEnded, CallKey, Cause, Party
from media.messages import AgentEnded, AgentFailed, AgentReady, CloseCall, Command, Failed, OpenCall
from tests.control.inward import ACCOUNT, World, refused_with, world


async def fallen_back(w: World, name: str = "unavailable") -> None:
    """The number has a message for callers whom no agent can answer."""
    await w.registry.change_number(ACCOUNT, "number-1", {"fallback": {"message": name}}, 0.0)


async def test_an_agent_that_is_not_reached_is_followed_by_the_numbers_message() -> None:
    """The call's media is opened anew for it; the record says why and what was played."""
    async with world() as w:
        await fallen_back(w)
        call = await w.offer()
        w.calls.on_notice(AgentFailed(call=call, cause="refused", message="HTTP 503"))
        await w.settle()
        first, second = w.media.of(OpenCall)
        assert (first.agent.protocol, second.agent.protocol, second.agent.name) == (
            "builtin",
            "announcement",
            "unavailable",
        )
        assert [type(command) for command in w.media.commands] == [OpenCall, CloseCall, OpenCall]
        w.calls.on_notice(AgentReady(call=call, waited_s=0.0))
        w.calls.on_event(CallConfirmed(CallKey("k1"), None))
        await w.settle()
        w.calls.on_notice(AgentEnded(call=call, cause="hang_up"))
        await w.settle()
        assert w.phone.verbs == ["ring", "answer", "hang_up"]
        ended = w.end(call).data
        assert (ended["ended_by"], ended["end_reason"]) == ("edge", "fallback_message")
        assert ended["note"] == "agent_refused: HTTP 503"
        assert ("fallback", "message unavailable, for agent_refused") in [
            (event.kind, event.data.get("note")) for event in w.events
        ]
        assert w.counters.get("calls_fallen_back", reason="agent_refused") == 1
        assert w.quiet()


async def test_an_agent_that_fails_before_media_has_replied_is_followed_by_the_message_too() -> None:
    """The answer to the first opening comes after the fall, and is not taken for the second's."""
    async with world() as w:
        await fallen_back(w)

        def fail_first(command: Command) -> None:
            if isinstance(command, OpenCall) and command.agent.protocol == "builtin":
                w.calls.on_notice(AgentFailed(call=command.call, cause="timeout", message=""))

        w.media.before_reply = fail_first
        call = await w.offer()
        assert [command.agent.protocol for command in w.media.of(OpenCall)] == ["builtin", "announcement"]
        w.calls.on_notice(AgentReady(call=call, waited_s=0.0))
        assert w.phone.verbs == ["ring", "answer"]


async def test_a_full_account_falls_back_within_a_cap_of_its_own() -> None:
    async with world(limits=Limits(calls_per_account=1, fallback_calls_per_account=1)) as w:
        await fallen_back(w)
        await w.establish("k1")
        await w.offer("k2")
        assert w.media.of(OpenCall)[-1].agent.protocol == "announcement"
        await w.offer("k3")
        assert w.phone.sent[-1] == ("refuse", "k3", 486)
        w.calls.on_event(CallEnded(CallKey("k2"), Party.REMOTE, Cause.CANCELLED))
        await w.settle()
        await w.offer("k4")
        assert w.media.of(OpenCall)[-1].agent.protocol == "announcement"
        w.calls.hang_up_all()
        await w.settle()
        assert w.quiet()


async def test_a_full_edge_plays_nobody_anything() -> None:
    """Another edge would do better: 503."""
    async with world(limits=Limits(calls=1)) as w:
        await fallen_back(w)
        await w.establish("k1")
        await w.offer("k2")
        assert w.phone.sent[-1] == ("refuse", "k2", 503)


async def test_after_early_media_the_fallback_is_described_as_the_agent_was() -> None:
    """RFC 3261 §13.2.1: the phone keeps to the first description; the port is told, so no other one is tried."""
    async with world() as w:
        await fallen_back(w)
        pipeline = {"protocol": "builtin", "name": "parrot", "early_media": True}
        await w.registry.update_agent(Agent("agent-1", ACCOUNT, "Parrot", pipeline, 0.0, 0.0))
        call = await w.offer()
        w.calls.on_notice(AgentFailed(call=call, cause="error", message="died"))
        await w.settle()
        first, second = w.media.of(OpenCall)
        assert (first.seed, first.rtp_port) == (second.seed, second.rtp_port)
        assert len(first.seed) == 32
        call = await w.offer("k2")
        w.media.answers[OpenCall] = Failed(code="port_unavailable", message="in use")
        w.calls.on_notice(AgentFailed(call=call, cause="error", message="died"))
        await w.settle()
        *_, third, fourth = w.media.of(OpenCall)
        assert third.rtp_port == fourth.rtp_port
        assert third.seed != first.seed
        assert w.phone.sent[-1] == ("refuse", "k2", 503)


async def test_a_message_that_cannot_be_played_is_a_refusal_at_last() -> None:
    async with world() as w:
        await fallen_back(w)
        w.media.answers[OpenCall] = Failed(code="bad_agent", message="no recording")
        await w.offer()
        await refused_with(w, 480, "bad_agent")
        assert len(w.media.of(OpenCall)) == 2


async def test_an_agent_that_leaves_of_its_own_accord_is_not_covered_for() -> None:
    """It refused the call; one whose connection broke did not."""
    async with world() as w:
        await fallen_back(w)
        call = await w.offer()
        w.calls.on_notice(AgentEnded(call=call, cause="hang_up"))
        await w.settle()
        assert w.phone.sent[-1] == ("refuse", "k1", 480)
        call = await w.offer("k2")
        w.calls.on_notice(AgentEnded(call=call, cause="lost", message="gone"))
        await w.settle()
        assert w.media.of(OpenCall)[-1].agent.protocol == "announcement"
        w.calls.hang_up_all()
        await w.settle()


async def test_a_caller_who_gives_up_while_the_message_is_being_opened_leaves_nothing() -> None:
    async with world() as w:
        await fallen_back(w)
        call = await w.offer()

        def give_up(command: Command) -> None:
            if isinstance(command, CloseCall) and command.reason == "fallback":
                w.calls.on_event(CallEnded(CallKey("k1"), Party.REMOTE, Cause.CANCELLED))

        w.media.before_reply = give_up
        w.calls.on_notice(AgentFailed(call=call, cause="refused", message=""))
        await w.settle()
        assert len(w.media.of(OpenCall)) == 1
        assert w.end(call).data["end_reason"] == "caller_cancelled"
        assert w.quiet()


async def test_a_number_is_forwarded_by_one_that_asks_for_the_transfer() -> None:
    async with world() as w:
        await w.registry.change_number(ACCOUNT, "number-1", {"fallback": {"forward": "+14155550123"}}, 0.0)
        call = await w.offer()
        w.calls.on_notice(AgentFailed(call=call, cause="timeout", message=""))
        await w.settle()
        spec = w.media.of(OpenCall)[-1].agent
        assert (spec.protocol, spec.name, spec.parameters) == (
            "announcement",
            "unavailable",
            {"forward": "+14155550123"},
        )
        assert ("fallback", "forward +14155550123, for agent_unavailable") in [
            (event.kind, event.data.get("note")) for event in w.events
        ]
        w.calls.hang_up_all()
        await w.settle()


async def test_an_unknown_number_has_no_fallback() -> None:
    async with world() as w:
        await fallen_back(w)
        await w.offer(dialed=("+15559999999",))
        assert w.phone.sent[-1] == ("refuse", "k1", 404)
