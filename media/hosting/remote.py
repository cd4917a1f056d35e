"""What a call and an agent elsewhere say to each other beside the audio: JSON objects, told apart by ``type``.

They go over WebRTC's data channel, and as pipecat's transport messages. From the agent:

- ``{"type": "answer"}``, ``{"type": "clear"}``, ``{"type": "hang-up"}``, ``{"type": "hold"}``, ``{"type": "resume"}``
- ``{"type": "mark", "name": "a"}``: comes back when what was played before it has been heard, or was cleared
- ``{"type": "send-digits", "digits": "12w#"}``
- ``{"type": "transfer", "target": "+14155550123"}``

To the agent:

- ``{"type": "call", "call": {…}}``, the first: see :func:`facts`
- ``{"type": "dtmf", "digit": "5"}``
- ``{"type": "mark", "name": "a", "heard": true}``
- ``{"type": "event", "event": "…", "data": {…}}``
- ``{"type": "done", "verb": "transfer", "event": "…"}``, ``{"type": "refused", "verb": "transfer", "message": "…"}``

What is wrapped as an RTVI ``server-message`` is unwrapped. Anything else is somebody else's, and ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

from media.python_agent import Call, CallEnded, Event, Refused

__all__ = ["Remote", "facts"]

_RTVI: Final = "rtvi-ai"
_LONGEST: Final = 1024


def facts(call: Call) -> dict[str, Any]:
    """Whose call it is."""
    return {
        "id": call.id,
        "record_id": call.record_id,
        "account": call.account,
        "from_number": call.from_number,
        "to_number": call.to_number,
        "direction": call.direction,
        "trunk": call.trunk,
        "caller_name": call.caller_name,
        "sip_call_id": call.sip_call_id,
        "identity": dict(call.identity),
        "headers": dict(call.headers),
        "parameters": dict(call.parameters),
    }


class Remote:
    """The agent elsewhere: ``say`` sends it an object, ``spawn`` runs what takes a while.

    Next: :meth:`hear` for each object of its; :meth:`tell_digits` and :meth:`tell_events` as tasks.
    """

    BUSY: Final = 100
    """Marks and wishes under way; beyond, they are ignored."""

    def __init__(
        self,
        call: Call,
        say: Callable[[dict[str, Any]], None],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._call = call
        self._say = say
        self._spawn = spawn
        self._busy = 0
        self.ignored = 0

    async def tell_digits(self) -> None:
        """Until the call ends."""
        async for digit in self._call.digits():
            self._say({"type": "dtmf", "digit": digit})

    async def tell_events(self) -> None:
        """Until the call ends."""
        async for event in self._call.events():
            self._say(event_message(event))

    def hear(self, message: object) -> bool:
        """One object of the agent's; False when it is none of these."""
        message = _unwrapped(message)
        if not isinstance(message, dict) or not self._obey(message):
            self.ignored += 1
            return False
        return True

    def _hang_up(self, headers: object) -> bool:
        if not isinstance(headers, dict):
            return False
        try:
            self._call.hang_up(headers)
        except ValueError:
            return False
        return True

    def _obey(self, message: dict[str, Any]) -> bool:
        call = self._call
        match message:
            case {"type": "clear"}:
                call.clear()
            case {"type": "hang-up", **given}:
                return self._hang_up(given.get("headers") or {})
            case {"type": "answer"}:
                call.answer()
            case {"type": "hold"}:
                return self._begin(self._ask("hold", call.hold))
            case {"type": "resume"}:
                return self._begin(self._ask("resume", call.resume))
            case {"type": "mark", "name": str(name)} if len(name) <= _LONGEST:
                return self._begin(self._mark(name))
            case {"type": "transfer", "target": str(target)} if len(target) <= _LONGEST:
                return self._begin(self._ask("transfer", lambda: call.transfer(target)))
            case {"type": "send-digits", "digits": str(digits)} if len(digits) <= _LONGEST:
                try:
                    call.send_digits(digits)
                except ValueError:
                    return False
            case _:
                return False
        return True

    def _begin(self, work: Coroutine[Any, Any, None]) -> bool:
        if self._busy >= self.BUSY:
            work.close()
            return False
        self._busy += 1
        self._spawn(self._counted(work))
        return True

    async def _counted(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        finally:
            self._busy -= 1

    async def _mark(self, name: str) -> None:
        heard = await self._call.mark()
        if not self._call.over:
            self._say({"type": "mark", "name": name, "heard": heard})

    async def _ask(self, verb: str, wish: Callable[[], Coroutine[Any, Any, Event]]) -> None:
        try:
            outcome = await wish()
        except Refused as why:
            self._say({"type": "refused", "verb": verb, "message": str(why)})
        except CallEnded:
            return
        else:
            self._say({"type": "done", "verb": verb, "event": outcome.name})


def event_message(event: Event) -> dict[str, Any]:
    """As it is told to the agent."""
    return {"type": "event", "event": event.name, "data": dict(event.data)}


def _unwrapped(message: object) -> object:
    if isinstance(message, dict) and message.get("label") == _RTVI and message.get("type") == "server-message":
        return message.get("data")
    return message
