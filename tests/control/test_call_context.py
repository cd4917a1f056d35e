"""What an agent is told of its call, and what it would have the phone told."""

from __future__ import annotations

from control.registry.types import Agent
from edge.events import CallEnded, CallKey, Cause, Party
from edge.identity import Identity, Named
from media.messages import AgentEnded, CloseCall, OpenCall, TellAgent
from tests.control.inward import ACCOUNT, CALLER, established_as, world


async def test_the_headers_of_a_bye_reach_the_agent_and_the_edges_own_do_not() -> None:
    """Trouble elsewhere: headers invisible to the agent, or absent on BYE."""
    async with world() as w:
        call = await w.establish()
        headers = (("X-Survey", "5"), ("Reason", "Q.850;cause=16"), ("X-Truedy-Token", "secret"))
        w.calls.on_event(CallEnded(CallKey("k1"), Party.REMOTE, Cause.BYE, headers=headers))
        await w.settle()
        assert w.media.of(TellAgent) == [TellAgent(call=call, event="caller_hung_up", data={"X-Survey": "5"})]
        assert w.media.commands.index(w.media.of(TellAgent)[0]) < w.media.commands.index(w.media.of(CloseCall)[0])


async def test_the_agents_headers_go_on_the_180_the_200_and_the_bye() -> None:
    async with world() as w:
        pipeline = {"protocol": "builtin", "name": "parrot", "sip_headers": {"X-Desk": "7"}}
        await w.registry.update_agent(Agent("agent-1", ACCOUNT, "Parrot", pipeline, 0.0, 0.0))
        call = await w.establish()
        w.calls.on_notice(AgentEnded(call=call, cause="hang_up", headers={"User-to-User": "abc"}))
        await w.settle()
        desk = ("X-Desk", "7")
        assert w.phone.headers == [("ring", (desk,)), ("answer", (desk,)), ("hang_up", (desk, ("User-to-User", "abc")))]


async def test_what_is_known_of_the_caller_reaches_record_and_agent() -> None:
    async with world() as w:
        who = Identity(from_=Named(CALLER, "Alice"), verstat="TN-Validation-Passed-A")
        await established_as(w, who=who)
        assert w.media.of(OpenCall)[-1].context.identity == {
            "caller_name": "Alice",
            "verstat": "TN-Validation-Passed-A",
        }
