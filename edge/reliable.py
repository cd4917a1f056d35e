"""Reliable provisional responses (RFC 3262): as UAS repeated until their PRACK, as UAC acknowledged by one.

:data:`TRANSITIONS` is the UAS's side, a table in the manner of :mod:`edge.transaction`: one response at a time waits
for its PRACK, those that come after it wait for their turn.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from edge import uas
from edge.dialog import Dialog, DialogKey
from edge.events import Flow
from edge.headers import parse_integer
from edge.invite import Nobody, in_dialog, near_of
from edge.layer import TransactionLayer
from edge.message import Request, Response
from edge.timers import Timer
from edge.uac import Credential, Outgoing
from edge.uri import ParseError

__all__ = [
    "OPTION",
    "TABLES",
    "TRANSITIONS",
    "Action",
    "Early",
    "Input",
    "Pracks",
    "Provisional",
    "Provisionals",
    "State",
]

OPTION: Final = "100rel"
_MAX_WAITING: Final = 8
_MAX_FORKS: Final = 16
_RACK = re.compile(r"([0-9]{1,10})[ \t]+([0-9]{1,10})[ \t]+([A-Za-z]+)").fullmatch


class State(StrEnum):
    """Whether a provisional response waits for its PRACK."""

    IDLE = "idle"
    UNACKNOWLEDGED = "unacknowledged"
    CLOSED = "closed"


class Input(StrEnum):
    """What can happen."""

    SEND = "send 1xx"
    PRACK = "PRACK"
    NO_PRACK = "64*T1 without PRACK"
    CLOSE = "final response"


class Action(StrEnum):
    """What a transition does; each is carried out by the method of its name."""

    TRANSMIT = "send 1xx until PRACK"
    QUEUE = "wait for its turn"
    STOP = "stop 1xx"
    GIVE_UP = "refuse the INVITE"


_S, _I, _A = State, Input, Action

TRANSITIONS: Final[Mapping[tuple[State, Input], tuple[State, tuple[Action, ...]]]] = {
    (_S.IDLE, _I.SEND): (_S.UNACKNOWLEDGED, (_A.TRANSMIT,)),
    (_S.IDLE, _I.CLOSE): (_S.CLOSED, ()),
    (_S.UNACKNOWLEDGED, _I.SEND): (_S.UNACKNOWLEDGED, (_A.QUEUE,)),
    (_S.UNACKNOWLEDGED, _I.PRACK): (_S.IDLE, (_A.STOP,)),
    (_S.UNACKNOWLEDGED, _I.NO_PRACK): (_S.CLOSED, (_A.STOP, _A.GIVE_UP)),  # §3: with a 5xx
    (_S.UNACKNOWLEDGED, _I.CLOSE): (_S.CLOSED, (_A.STOP,)),
}
"""Ignored: a PRACK of nothing (it gets 481), and everything after the final response."""

TABLES: Final = {"reliable provisional response": TRANSITIONS}
"""By name, for the diagrams in the documentation."""

_METHODS: Final[Mapping[Action, str]] = {action: f"_{action.name.lower()}" for action in Action}


@dataclass(frozen=True, slots=True)
class Provisional:
    """A 1xx to be sent; ``body`` is an SDP or empty."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


class Provisionals:
    """The UAS's side of one INVITE. ``send`` puts a 1xx on the wire, with the RSeq it is given."""

    __slots__ = (
        "_cseq",
        "_current",
        "_deadline",
        "_give_up_on",
        "_interval_s",
        "_layer",
        "_repeat",
        "_rseq",
        "_send",
        "_waiting",
        "agreed",
        "state",
    )

    def __init__(
        self,
        layer: TransactionLayer,
        cseq: int,
        send: Callable[[Provisional, int, float], None],
        give_up: Callable[[float], None],
    ) -> None:
        self.state = State.IDLE
        self.agreed = False
        """A description of ours has gone reliably, and was acknowledged: it is not said again in the 2xx."""
        self._layer = layer
        self._cseq = cseq
        self._send = send
        self._give_up_on = give_up
        self._rseq = int.from_bytes(layer.entropy(4)) % (2**31 - 1)  # §3: it starts anywhere, and rises by one
        self._interval_s = 0.0
        self._current: Provisional | None = None
        self._waiting: deque[Provisional] = deque(maxlen=_MAX_WAITING)
        self._repeat: Timer | None = None
        self._deadline: Timer | None = None

    @property
    def holds_answer(self) -> bool:
        """§3: no 2xx goes before a description sent reliably is acknowledged."""
        return bool((self._current is not None and self._current.body) or any(each.body for each in self._waiting))

    def send(self, provisional: Provisional, now: float) -> None:
        """Now, or when those before it have been acknowledged."""
        self._step(Input.SEND, now, provisional)

    def acknowledged(self, request: Request, now: float) -> Provisional | None:
        """What a PRACK acknowledges; None for 481 (§3). Raises ParseError. Next: :meth:`go_on`, after its 200.

        Also after the final response: the two may cross, and a 481 would end the call (RFC 3261 §12.2.1.2).
        """
        match = _RACK((request.headers.get("RAck") or "").strip())
        if match is None:
            raise ParseError(400, "bad RAck")
        rseq, cseq = (parse_integer(match[index], 2**32 - 1, "RAck") for index in (1, 2))
        current = self._current
        if current is None or (rseq, cseq, match[3].upper()) != (self._rseq, self._cseq, "INVITE"):
            return None
        self.agreed = self.agreed or bool(current.body)
        self._current = None
        self._step(Input.PRACK, now)
        return current

    def go_on(self, now: float) -> None:
        """Send what has waited for its turn, if it has come."""
        if self.state is State.IDLE and self._waiting:
            self.send(self._waiting.popleft(), now)

    def close(self, now: float) -> None:
        """The INVITE has its final response."""
        self._step(Input.CLOSE, now)

    def _step(self, event: Input, now: float, provisional: Provisional | None = None) -> None:
        found = TRANSITIONS.get((self.state, event))
        if found is None:
            return
        self.state, actions = found
        for action in actions:
            getattr(self, _METHODS[action])(provisional, now)

    def _transmit(self, provisional: Provisional | None, now: float) -> None:
        self._current = provisional
        self._rseq += 1
        self._interval_s = self._layer.timing.t1_s
        self._deadline = self._layer.timers.call_at(now + self._layer.timing.timeout_s, self._expire)
        self._again(now)

    def _again(self, now: float) -> None:
        """§3: from T1, doubled each time, over any transport."""
        if self._current is not None:
            self._repeat = self._layer.timers.call_at(now + self._interval_s, self._again)
            self._interval_s *= 2
            self._send(self._current, self._rseq, now)

    def _queue(self, provisional: Provisional | None, now: float) -> None:
        if provisional is not None:
            self._waiting.append(provisional)

    def _stop(self, provisional: Provisional | None, now: float) -> None:
        for timer in (self._repeat, self._deadline):
            if timer is not None:
                timer.cancel()

    def _give_up(self, provisional: Provisional | None, now: float) -> None:
        self._give_up_on(now)

    def _expire(self, now: float) -> None:
        self._step(Input.NO_PRACK, now)


@dataclass(slots=True)
class Early:
    """An early dialog of our INVITE, made by a reliable provisional response (§4). ``rseq`` is its last."""

    dialog: Dialog
    rseq: int
    described: bool = False
    """The answer to our offer has come in it."""


class Pracks:
    """The UAC's side: the early dialogs of one INVITE, by the peer's tag. At most so many forks are believed."""

    __slots__ = ("_early", "_layer")

    def __init__(self, layer: TransactionLayer) -> None:
        self._layer = layer
        self._early: dict[str, Early] = {}

    def take(self, outgoing: Outgoing, response: Response, credential: Credential | None, now: float) -> Early | None:
        """PRACK a reliable 1xx to our INVITE. None where it is to be passed over: a copy, or out of order.

        Raises ParseError.
        """
        request = outgoing.request
        rseq = parse_integer((response.headers.get("RSeq") or "").strip(), 2**32 - 1, "RSeq")
        tag = response.to.tag or ""
        early = self._early.get(tag)
        if request is None or not rseq or (early is None and len(self._early) >= _MAX_FORKS):
            return None
        if early is not None and rseq != early.rseq + 1:  # §4: those that are not next are not for now
            return None
        if early is None:
            early = self._early[tag] = Early(Dialog.of_client(request, response), rseq)
        early.rseq = rseq
        early.described = early.described or uas.offer(response) is not None
        self._acknowledge(early, response, outgoing.flow, credential, now)
        return early

    def _acknowledge(
        self, early: Early, response: Response, flow: Flow | None, credential: Credential | None, now: float
    ) -> None:
        dialog, cseq = early.dialog, response.cseq
        draft = in_dialog(dialog, "PRACK", self._layer, [("RAck", f"{early.rseq} {cseq.number} {cseq.method}")])
        prack = Outgoing(self._layer, draft, dialog.next_cseq, Nobody(), credential)
        prack.start(dialog.addressing()[2], now, near_of(dialog, flow))

    def early(self, key: DialogKey) -> Early | None:
        """The early dialog a request of the peer belongs to."""
        found = self._early.get(key[2])
        return found if found is not None and found.dialog.key == key else None

    def confirm(self, dialog: Dialog) -> None:
        """The 2xx has made this dialog: its numbers go on from the early one's."""
        early = self._early.get(dialog.remote_tag)
        if early is not None:
            dialog.local_cseq = max(dialog.local_cseq, early.dialog.local_cseq)
            dialog.remote_cseq = early.dialog.remote_cseq

    def clear(self) -> list[Dialog]:
        """The INVITE has its final response: the early dialogs, which are over."""
        dialogs = [early.dialog for early in self._early.values()]
        self._early.clear()
        return dialogs
