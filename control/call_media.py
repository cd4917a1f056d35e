"""A call's media, from its opening to its end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from control.call import Call
from control.call_context import context, headers_of
from control.call_table import MEDIA_REFUSALS, Input, State
from control.fallback import Fallback
from control.motor import Motor
from control.surroundings import Surroundings
from media.messages import (
    ApplyAnswer,
    CallClosed,
    CallOpened,
    CloseCall,
    Failed,
    LegPolicy,
    OpenCall,
    Result,
    StartMedia,
)

__all__ = ["CallMedia"]

log = logging.getLogger("truedy.calls")

_PORT_ATTEMPTS: Final = 5
_SEED_BYTES: Final = 32


class CallMedia:
    """Opens, starts and closes calls' media; what media cannot do ends the call.

    ``policy`` gives a trunk's :class:`~media.messages.LegPolicy`.
    """

    def __init__(
        self, motor: Motor, surroundings: Surroundings, fallback: Fallback, policy: Callable[[str], LegPolicy]
    ) -> None:
        self._motor = motor
        self._do = surroundings
        self._fallback = fallback
        self._policy = policy

    def open(self, call: Call) -> None:
        """Answer the phone's offer, or make ours, and have the agent connected."""
        self._motor.spawn(call, self._open(call), "open media")

    def reopen(self, call: Call) -> None:
        """Again, with another agent than before."""
        self._motor.spawn(call, self._reopen(call), "open media anew")

    async def _reopen(self, call: Call) -> None:
        """For another agent than the one that was not reached; the phone has heard nothing but ringing."""
        await self._motor.request(CloseCall(call=call.id, reason="fallback"))
        if call.state is State.OPENING:
            await self._open(call)

    async def _open(self, call: Call) -> None:
        call.recording = None
        if call.route is not None and call.route.agent is not None and call.fallen is None:
            wish = None if call.outgoing is None else call.outgoing.recorded
            call.recording = self._do.recordings.order(call.id, call.route.agent, call.route.number, call.started, wish)
        spec = call.spec
        call.seed = call.seed or self._do.entropy(_SEED_BYTES)
        for _ in range(_PORT_ATTEMPTS):
            if call.spec is None or call.port is None:
                return
            command = OpenCall(
                call=call.id,
                rtp_port=call.port,
                offer=call.offer,
                policy=self._policy(call.trunk),
                agent=call.spec,
                context=context(call),
                recording=call.recording,
                detection=self._do.detect(call.route.agent) if call.route and call.route.agent else None,
                conversation=self._do.conversation,
                seed=call.seed,
            )
            result = await self._motor.request(command)
            if not self._moved_on(call, result):
                break
        if call.spec is not spec:
            return  # it was not reached before this answer came, and another is being opened
        if isinstance(result, CallOpened):
            call.sdp = result.sdp
            await self._send_early(call)
            self._motor.feed(call, Input.OPENED)
        elif isinstance(result, Failed) and result.code == "bad_agent":
            self._fallback.take_over(call, "bad_agent", result.message)
        elif isinstance(result, Failed):
            self._motor.refuse(call, MEDIA_REFUSALS.get(result.code, "media_unavailable"), result.message)

    async def _send_early(self, call: Call) -> None:
        """183 with our description, and the agent is heard (an agent's ``early_media``); nobody is charged for it."""
        wanted = call.spec is not None and call.spec.early_media and call.offer is not None
        if not wanted or call.outgoing is not None or call.state not in (State.OPENING, State.OPENING_READY):
            return
        self._motor.note(call, "early_media")
        call.described = True
        self._do.signalling.progress(call.key, 183, call.sdp, headers_of(call))
        await self._motor.request(StartMedia(call=call.id, early=True))

    def _moved_on(self, call: Call, result: Result | None) -> bool:
        """Whether the call has another pair of ports to try: another program may hold one of our range.

        Not once the phone has been told of this one: it keeps to the first description that it is given (RFC 3261
        §13.2.1).
        """
        taken = isinstance(result, Failed) and result.code == "port_unavailable"
        if not taken or call.end is not None or call.port is None or call.described:
            return False
        other = self._do.ports.lease(self._do.now())
        if other is None:
            return False
        log.warning("RTP port in use elsewhere", extra={"call": call.id, "port": call.port})
        self._do.ports.release(call.port, self._do.now())
        call.port = other
        return True

    def start(self, call: Call) -> None:
        """The call is established: phone and agent hear each other."""
        self._motor.note(call, "established")
        self._motor.spawn(call, self._start(call), "start media")

    async def _start(self, call: Call) -> None:
        if call.offer is None:
            if call.confirmed_body is None:
                self._motor.end(call.id, "edge", "bad_answer", "the ACK of a delayed offer carries no answer")
                return
            await self.apply_answer(call, call.confirmed_body)
        if call.state is State.ESTABLISHED:
            if call.recording is not None:
                self._do.recordings.begun(call.id, call.started, call.recording)
            await self._motor.request(StartMedia(call=call.id))

    async def apply_answer(self, call: Call, answer: bytes, *, refresh: bool = False) -> None:
        """The phone's answer to an offer of ours. A bad one ends the call, unless the session just goes on with it."""
        result = await self._motor.request(ApplyAnswer(call=call.id, answer=answer, refresh=refresh))
        if isinstance(result, Failed) and not refresh:
            self._motor.end(call.id, "edge", "bad_answer", result.message)

    def close(self, call: Call) -> None:
        """The call is over; media tells its statistics."""
        self._motor.spawn(call, self._close(call), "close media")

    async def _close(self, call: Call) -> None:
        reason = call.end.reason if call.end is not None else "internal_error"
        if call.end is not None and call.end.by == "caller" and call.goodbye:
            await self._motor.tell(call, "caller_hung_up", **call.goodbye)
        result = await self._motor.request(CloseCall(call=call.id, reason=reason))
        if isinstance(result, CallClosed) and result.statistics is not None:
            call.statistics = result.statistics
        self._motor.feed(call, Input.CLOSED)
