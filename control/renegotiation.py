"""Offers in mid-call: the phone's, and ours, that hold it and take it back (RFC 3264 §8)."""

from __future__ import annotations

from control.call import Call
from control.call_media import CallMedia
from control.call_table import REFUSALS, State
from control.hold import HoldOutcome, Line
from control.motor import Motor
from control.surroundings import Signalling
from edge.counters import Counters
from edge.events import MediaAnswered, MediaRefused, Refusal
from media.messages import CallOpened, Failed, Renegotiate

__all__ = ["Renegotiation"]


class Renegotiation:
    """Changes of established calls' media; one offer of either side is under way at a time (RFC 3261 §14)."""

    def __init__(self, motor: Motor, signalling: Signalling, media: CallMedia, counters: Counters) -> None:
        self._motor = motor
        self._signalling = signalling
        self._media = media
        self._counters = counters

    def offered(self, call: Call, offer: bytes | None) -> None:
        """An offer of the phone's, or None: it asks for one of ours."""
        if call.state not in (State.ESTABLISHED, State.DIALLING):
            self._signalling.refuse_offer(call.key, Refusal(491, "the call is not established"))
            return
        if call.holding.pending:  # RFC 3261 §14.2: an offer of ours is out, or about to be
            self._signalling.refuse_offer(call.key, Refusal(491, "an offer of ours is under way"))
            return
        call.holding.awaiting = offer is None
        if call.state is State.DIALLING:
            call.offer = offer  # theirs is what holds, whatever the 2xx says (RFC 3262 §5)
        self._motor.spawn(call, self._renegotiate(call, offer), "renegotiate")

    async def _renegotiate(self, call: Call, offer: bytes | None) -> None:
        key = call.key
        early = call.state is State.DIALLING
        result = await self._motor.request(Renegotiate(call=call.id, offer=offer, early=early))
        if isinstance(result, CallOpened):
            self._signalling.accept_offer(key, result.sdp)
            await self._renegotiated(call, held=result.held)
            return
        code = result.code if isinstance(result, Failed) else "internal_error"
        call.holding.awaiting = False
        if call.state is State.DIALLING:
            call.offer = None
        self._counters.add("calls_refused", reason="reoffer_" + code, status="488")
        self._signalling.refuse_offer(key, REFUSALS.get(code, REFUSALS["bad_sdp"]))

    async def _renegotiated(self, call: Call, *, held: bool) -> None:
        """The phone's offer is answered: a hold of its, the end of one, or a change of something else."""
        if held is call.holding.theirs:
            self._motor.note(call, "held" if held else "renegotiated")
            return
        call.holding.theirs = held
        self._motor.note(call, "held" if held else "resumed")
        await self._motor.tell(call, "hold" if held else "resume", by="caller")

    def answered(self, call: Call, event: MediaAnswered | MediaRefused) -> None:
        """The phone has answered an offer of ours: a hold's, or one it had asked for itself."""
        refresh = isinstance(event, MediaAnswered) and event.refresh
        call.holding.awaiting = call.holding.awaiting and refresh
        if call.holding.pending and not refresh:
            self._motor.spawn(call, self._held(call, event), "hold")
        elif isinstance(event, MediaAnswered) and event.answer is not None:
            self._motor.spawn(call, self._media.apply_answer(call, event.answer, refresh=event.refresh), "answer")

    async def _held(self, call: Call, event: MediaAnswered | MediaRefused) -> None:
        if await call.holding.settle(self._line(call), event):
            ours = call.holding.ours
            self._motor.note(call, "on_hold" if ours else "taken_back")
            await self._motor.tell(call, "hold" if ours else "resume", by=call.holding.asked_by)

    async def hold(self, call: Call, *, held: bool, by: str) -> HoldOutcome:
        """Put the phone on hold, or take it back."""
        if call.state is not State.ESTABLISHED:
            return HoldOutcome.NOT_ESTABLISHED
        return await call.holding.wish(self._line(call), held, by)

    def _line(self, call: Call) -> Line:
        return Line(call.id, call.key, self._motor.request, self._signalling.reoffer)
