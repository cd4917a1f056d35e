"""Holding a phone and taking it back: our offer, the phone's answer, and who is told (RFC 3264 §8.4).

The phone's own holds come as offers of its own and are answered by media; here they are only remembered.
One change of ours is under way at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from edge.events import CallKey, MediaAnswered, MediaRefused
from media.messages import ApplyAnswer, CallOpened, Command, Failed, Hold, Result, Withdraw

__all__ = ["ANSWER_WITHIN_S", "HoldOutcome", "Holding", "Line"]

ANSWER_WITHIN_S: Final = 10.0
"""How long whoever asked is kept waiting [s]; a phone that answers later is held, or taken back, all the same."""


class HoldOutcome(Enum):
    """What became of a wish to hold or to resume."""

    DONE = "done"
    """The call is as wished, or was already."""
    NO_CALL = "no call"
    """No live call of that id, or it ended meanwhile."""
    NOT_ESTABLISHED = "not established"
    """The call still rings, or is ending."""
    BUSY = "busy"
    """Another change of the same call is under way."""
    REFUSED = "refused"
    """The phone will not; the call goes on as it was."""
    UNANSWERED = "unanswered"
    """The phone has said nothing yet."""


@dataclass(frozen=True, slots=True)
class Line:
    """How a call's phone is reached: ``request`` asks media and does not raise, ``reoffer`` has the engine offer."""

    call: str
    key: CallKey
    request: Callable[[Command], Awaitable[Result]]
    reoffer: Callable[[CallKey, bytes], None]


class Holding:
    """One call's holds, in either direction."""

    __slots__ = ("_done", "_wanted", "asked_by", "awaiting", "ours", "theirs")

    def __init__(self) -> None:
        self.ours = False
        """We hold the phone."""
        self.theirs = False
        """The phone holds us."""
        self.asked_by = ""
        """Who wanted the last change of ours that was begun."""
        self.awaiting = False
        """The phone asked for an offer of ours (a re-INVITE without one), and its answer is still to come."""
        self._wanted = False
        self._done: asyncio.Future[HoldOutcome] | None = None

    @property
    def pending(self) -> bool:
        """An offer of ours is out: another one, of either side, has to wait."""
        return self._done is not None

    async def wish(self, line: Line, held: bool, by: str) -> HoldOutcome:
        """Hold the phone, or take it back, as ``by`` asks. Next: :meth:`settle`, with what the phone says."""
        if self._done is not None or self.awaiting:
            return HoldOutcome.BUSY
        if held == self.ours:
            return HoldOutcome.DONE
        self._wanted, self.asked_by = held, by
        done = self._done = asyncio.get_running_loop().create_future()
        offer = await line.request(Hold(call=line.call, held=held))
        if not isinstance(offer, CallOpened):
            self._finish(HoldOutcome.NO_CALL if _code(offer) == "unknown_call" else HoldOutcome.REFUSED)
        elif not done.done():
            line.reoffer(line.key, offer.sdp)
        finished, _ = await asyncio.wait((done,), timeout=ANSWER_WITHIN_S)
        return done.result() if finished else HoldOutcome.UNANSWERED

    async def settle(self, line: Line, event: MediaAnswered | MediaRefused) -> bool:
        """The phone's word on the offer; True when the hold has changed."""
        if self._done is None:
            return False
        if isinstance(event, MediaAnswered) and event.answer is not None:
            result = await line.request(ApplyAnswer(call=line.call, answer=event.answer))
            if not isinstance(result, Failed):
                self.ours = self._wanted
                self._finish(HoldOutcome.DONE)
                return True
        await line.request(Withdraw(call=line.call))
        self._finish(HoldOutcome.REFUSED)
        return False

    def over(self) -> None:
        """The call has ended."""
        self._finish(HoldOutcome.NO_CALL)

    def _finish(self, outcome: HoldOutcome) -> None:
        done, self._done = self._done, None
        if done is not None and not done.done():
            done.set_result(outcome)


def _code(result: Result) -> str:
    return result.code if isinstance(result, Failed) else ""
