"""Instructions for a live call are carried out in order, and end with it."""

from __future__ import annotations

import pytest

from control.instructions import Dial, Digits, HangUp, Pause
from control.script import perform, sending_s


class Call:
    """A call that notes what is done to it; it ends at its ``last`` act."""

    def __init__(self, last: int = 100) -> None:
        self.log: list[object] = []
        self._last = last

    @property
    def up(self) -> bool:
        return len(self.log) < self._last

    async def send_digits(self, digits: str) -> None:
        self.log.append(digits)

    async def pause(self, seconds: float) -> None:
        self.log.append(seconds)

    async def transfer(self, target: str) -> None:
        self.log.append(("transfer", target))

    def hang_up(self) -> None:
        self.log.append("hang up")


async def test_digits_are_sent_and_waited_for() -> None:
    call = Call()
    await perform((Digits("1w2"), Pause(3.0), HangUp()), call)
    assert call.log == ["1w2", pytest.approx(0.98), 3.0, "hang up"]


async def test_a_transfer_is_the_last() -> None:
    call = Call()
    await perform((Dial("+14155550123"), HangUp()), call)
    assert call.log == [("transfer", "+14155550123")]


async def test_nothing_is_done_to_a_call_that_has_ended() -> None:
    call = Call(last=1)
    await perform((Pause(1.0), HangUp()), call)
    assert call.log == [1.0]


def test_digits_take_their_time() -> None:
    assert sending_s("123") == pytest.approx(0.72)
    assert sending_s("wW") == 1.0
