"""What control tells the SIP engine to do."""

from __future__ import annotations

from collections.abc import Callable

from control.surroundings import Headers
from edge.endpoint import Endpoint
from edge.events import CallKey, OutgoingCall, Refusal
from edge.transport.shell import SipTransport

__all__ = ["Commands"]


class Commands:
    """:class:`control.surroundings.Signalling` over the engine and its shell, which tells it the time."""

    def __init__(self, engine: Endpoint, shell: SipTransport) -> None:
        self._engine = engine
        self._shell = shell

    def ring(self, key: CallKey, headers: Headers = ()) -> None:
        self._shell.run(lambda now: self._engine.ring(key, now=now, headers=headers))

    def progress(self, key: CallKey, status: int, body: bytes, headers: Headers = ()) -> None:
        self._shell.run(lambda now: self._engine.progress(key, status, body, now=now, headers=headers))

    def answer(self, key: CallKey, body: bytes, headers: Headers = ()) -> None:
        self._shell.run(lambda now: self._engine.answer(key, body, now=now, headers=headers))

    def refuse(self, key: CallKey, refusal: Refusal) -> None:
        self._shell.run(lambda now: self._engine.refuse(key, refusal, now=now))

    def hang_up(self, key: CallKey, reason: str | None, headers: Headers = ()) -> None:
        self._shell.run(lambda now: self._engine.hang_up(key, now=now, reason=reason, headers=headers))

    def press(self, key: CallKey, digit: str, duration_ms: int) -> None:
        self._shell.run(lambda now: self._engine.press(key, digit, duration_ms, now=now))

    def invite(self, call: OutgoingCall, began: Callable[[CallKey], None]) -> None:
        self._shell.run(lambda now: began(self._engine.invite(call, now=now)))

    def refer(self, key: CallKey, target: str) -> None:
        self._shell.run(lambda now: self._engine.refer(key, target, now=now))

    def accept_offer(self, key: CallKey, body: bytes) -> None:
        self._shell.run(lambda now: self._engine.accept_offer(key, body, now=now))

    def refuse_offer(self, key: CallKey, refusal: Refusal) -> None:
        self._shell.run(lambda now: self._engine.refuse_offer(key, refusal, now=now))

    def reoffer(self, key: CallKey, body: bytes) -> None:
        self._shell.run(lambda now: self._engine.reoffer(key, body, now=now))
