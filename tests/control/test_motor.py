"""What drives a call, for the modules that drive parts of it."""

from __future__ import annotations

from typing import Any

import pytest

from control.call import Call
from control.call_table import State
from control.motor import Motor
from edge.events import CallKey
from media.messages import Command, Done, Result, TellAgent


class Manager:
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.ended: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self.requested: list[Command] = []
        nothing: Any = None
        self.motor = Motor(
            feed=nothing,
            end=self.end,
            begin=nothing,
            bind=nothing,
            journal=nothing,
            note=nothing,
            request=self.request,
            spawn=nothing,
        )

    def end(self, *what: Any, **how: Any) -> None:
        self.ended.append((what, how))

    async def request(self, command: Command) -> Result:
        self.requested.append(command)
        return Done()


CALL = Call(id="call", key=CallKey("k"), trunk="lab", started=0.0, from_number="+12025550123")


def test_a_refusal_is_the_edges_and_has_its_reason() -> None:
    """As the table of refusals names it."""
    manager = Manager()
    manager.motor.refuse(CALL, "bad_agent", "no url")
    assert manager.ended == [(("call", "edge", "bad_agent", "no url"), {"refused": True})]


@pytest.mark.parametrize("state", list(State))
async def test_an_agent_hears_of_its_call_until_that_has_ended(state: State) -> None:
    """Media knows an ended call no more."""
    manager = Manager()
    CALL.state = state
    await manager.motor.tell(CALL, "hold", by="caller")
    told = TellAgent(call="call", event="hold", data={"by": "caller"})
    assert manager.requested == ([] if state is State.ENDED else [told])
