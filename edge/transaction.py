"""The four transaction machines of RFC 3261 §17, as corrected by RFC 6026, each as one table.

``TRANSITIONS[state, input] = (next state, actions)``. A pair that is absent is ignored: it is a
retransmission to absorb, a response that came too late, or a timer that lost its meaning. The actions
run in order, after the state has changed; reports come last, so that their receiver may act on the
transaction.

Two deviations, both on purpose. Servers have no transport-error input: a response goes back over its
connection, or by the fallback of §18.2.2, and where neither works timer H or the missing ACK says so.
A client INVITE has ``GIVE_UP``, the UAC's way out of Proceeding when a CANCEL met silence (§9.1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import ClassVar, Final, Protocol

from edge.events import Flow
from edge.message import Request, Response
from edge.timers import Timer, Timers

__all__ = [
    "MAGIC_COOKIE",
    "TABLES",
    "Action",
    "ClientInvite",
    "ClientNonInvite",
    "ClientUser",
    "Failure",
    "Input",
    "Key",
    "Layer",
    "Send",
    "ServerInvite",
    "ServerNonInvite",
    "ServerUser",
    "State",
    "Table",
    "Timing",
    "Transaction",
    "acknowledgement",
    "client_key",
    "server_key",
]

MAGIC_COOKIE: Final = "z9hG4bK"
"""How every branch of RFC 3261 begins (§8.1.1.7)."""

Key = tuple[object, ...]


class State(StrEnum):
    """The RFC's states; INITIAL is before the first message, TERMINATED after the last timer."""

    INITIAL = "initial"
    CALLING = "calling"
    TRYING = "trying"
    PROCEEDING = "proceeding"
    ACCEPTED = "accepted"
    COMPLETED = "completed"
    CONFIRMED = "confirmed"
    TERMINATED = "terminated"


class Input(StrEnum):
    """What can happen to a transaction: messages from the wire, orders of its user, timers."""

    REQUEST = "request"
    ACK = "ack"
    PROVISIONAL = "1xx"
    SUCCESS = "2xx"
    FAILURE = "300-699"
    FINAL = "200-699"
    SEND = "send"
    SEND_PROVISIONAL = "send 1xx"
    SEND_SUCCESS = "send 2xx"
    SEND_FAILURE = "send 300-699"
    SEND_FINAL = "send 200-699"
    GIVE_UP = "give up"
    TRANSPORT_ERROR = "transport error"
    TIMER_A = "timer A"
    TIMER_B = "timer B"
    TIMER_D = "timer D"
    TIMER_E = "timer E"
    TIMER_F = "timer F"
    TIMER_G = "timer G"
    TIMER_H = "timer H"
    TIMER_I = "timer I"
    TIMER_J = "timer J"
    TIMER_K = "timer K"
    TIMER_L = "timer L"
    TIMER_M = "timer M"


class Action(StrEnum):
    """What a transition does. BACK_OFF doubles the interval: A without limit, E and G up to T2."""

    TRANSMIT = "transmit"
    ACKNOWLEDGE = "send ACK"
    REPORT = "report"
    REPORT_ACK = "report ACK"
    REPORT_NO_ACK = "report no ACK"
    REPORT_TIMEOUT = "report timeout"
    REPORT_TRANSPORT_ERROR = "report transport error"
    START_A_B = "start A, B"
    START_D = "start D"
    START_E_F = "start E, F"
    START_G_H = "start G, H"
    START_I = "start I"
    START_J = "start J"
    START_K = "start K"
    START_L = "start L"
    START_M = "start M"
    BACK_OFF_A = "double A"
    BACK_OFF_E = "double E"
    BACK_OFF_G = "double G"
    SLOW_E = "E at T2"
    STOP = "stop timers"


class Failure(StrEnum):
    """Why a client transaction ended without a final response."""

    TIMEOUT = "timeout"
    TRANSPORT = "transport"


Table = Mapping[tuple[State, Input], tuple[State, tuple[Action, ...]]]


@dataclass(frozen=True, slots=True)
class Timing:
    """The base timers of RFC 3261 §17.1.1.1 [s], and timer D's floor of 32 s."""

    t1_s: float = 0.5
    t2_s: float = 4.0
    t4_s: float = 5.0
    d_s: float = 32.0

    @property
    def timeout_s(self) -> float:
        """64*T1: timers B, F, H, J, L and M."""
        return 64 * self.t1_s


class ClientUser(Protocol):
    """Who sent the request."""

    def on_response(self, transaction: Transaction, response: Response, now: float) -> None:
        """A provisional or final response; each repeated 2xx to an INVITE comes again."""

    def on_failure(self, transaction: Transaction, failure: Failure, now: float) -> None:
        """No final response will come."""


class ServerUser(Protocol):
    """Who answers the request."""

    @property
    def local_tag(self) -> str:
        """Our tag in the INVITE's dialog."""

    def on_ack(self, request: Request, now: float) -> None:
        """An ACK with the INVITE's own branch after a 2xx (RFC 6026 §7.1: it is the user's)."""

    def on_no_ack(self, now: float) -> None:
        """Our failure response was never acknowledged (timer H)."""

    def on_cancel(self, request: Request, now: float) -> None:
        """A CANCEL of this INVITE came, and was answered (§9.2); possibly after our final response."""


Send = Callable[[bytes, float], None]
"""Puts octets on the wire, towards the transaction's peer, at ``now``."""


class Layer(Protocol):
    """Who owns the transactions."""

    @property
    def timers(self) -> Timers: ...
    @property
    def timing(self) -> Timing: ...
    def terminated(self, transaction: Transaction) -> None:
        """Forget the transaction."""


class Transaction:
    """One machine: a state, a table and at most two running timers (one repeats, one ends)."""

    TRANSITIONS: ClassVar[Table] = {}
    __slots__ = ("_interval_s", "_layer", "_life", "_repeat", "_send", "key", "reliable", "request", "state")

    def __init__(self, layer: Layer, key: Key, request: Request, send: Send, *, reliable: bool) -> None:
        self._layer = layer
        self.key = key
        self.request = request
        self._send = send
        self.reliable = reliable
        self.state = State.INITIAL
        self._repeat: Timer | None = None
        self._life: Timer | None = None
        self._interval_s = 0.0

    def _step(self, event: Input, now: float) -> None:
        found = self.TRANSITIONS.get((self.state, event))
        if found is None:
            return
        self.state, actions = found
        if self.state is State.TERMINATED:
            self._stop(now)
            self._layer.terminated(self)
        for action in actions:
            getattr(self, _METHODS[action])(now)

    def _stop(self, now: float) -> None:
        if self._repeat is not None:
            self._repeat.cancel()
        if self._life is not None:
            self._life.cancel()
        self._repeat = self._life = None

    def _repeat_in(self, interval_s: float, event: Input, now: float) -> None:
        self._interval_s = interval_s
        if self._repeat is not None:
            self._repeat.cancel()
        self._repeat = self._layer.timers.call_at(now + interval_s, partial(self._step, event))

    def _end_in(self, delay_s: float, event: Input, now: float) -> None:
        """The life timer of the new state; a delay of 0 is no state at all (reliable transports)."""
        self._stop(now)
        if delay_s == 0:
            self._step(event, now)
        else:
            self._life = self._layer.timers.call_at(now + delay_s, partial(self._step, event))

    def _start_repeating(self, repeat: Input, end: Input, now: float) -> None:
        timing = self._layer.timing
        self._end_in(timing.timeout_s, end, now)
        if not self.reliable:
            self._repeat_in(timing.t1_s, repeat, now)

    def _back_off(self, event: Input, now: float) -> None:
        self._repeat_in(min(2 * self._interval_s, self._layer.timing.t2_s), event, now)


class _Client(Transaction):
    """What both client machines share: the serialised request and who wants to know."""

    __slots__ = ("_data", "_response", "flow", "user")

    def __init__(
        self, layer: Layer, key: Key, request: Request, send: Send, user: ClientUser, *, reliable: bool
    ) -> None:
        super().__init__(layer, key, request, send, reliable=reliable)
        self.user = user
        self.flow: Flow | None = None
        """Where the last response came from."""
        self._data = bytes(request)
        self._response: Response | None = None

    def start(self, now: float) -> None:
        """Send the request."""
        self._step(Input.SEND, now)

    def transport_failed(self, now: float) -> None:
        """The transport says the request cannot be delivered (§17.1.4)."""
        self._step(Input.TRANSPORT_ERROR, now)

    def _transmit(self, now: float) -> None:
        self._send(self._data, now)

    def _report(self, now: float) -> None:
        if self._response is not None:
            self.user.on_response(self, self._response, now)

    def _report_timeout(self, now: float) -> None:
        self.user.on_failure(self, Failure.TIMEOUT, now)

    def _report_transport_error(self, now: float) -> None:
        self.user.on_failure(self, Failure.TRANSPORT, now)


class ClientInvite(_Client):
    """§17.1.1, figure 5, with the Accepted state and timer M of RFC 6026 §7.2.

    Ignored: timers A and B once a response came; any 1xx after a final; a failure after a 2xx and a 2xx
    after a failure (§17.1.1.2: the first final decides); transport errors while Proceeding or Accepted.
    """

    TRANSITIONS: ClassVar[Table] = {
        (State.INITIAL, Input.SEND): (State.CALLING, (Action.START_A_B, Action.TRANSMIT)),
        (State.CALLING, Input.TIMER_A): (State.CALLING, (Action.TRANSMIT, Action.BACK_OFF_A)),
        (State.CALLING, Input.TIMER_B): (State.TERMINATED, (Action.REPORT_TIMEOUT,)),
        (State.CALLING, Input.TRANSPORT_ERROR): (State.TERMINATED, (Action.REPORT_TRANSPORT_ERROR,)),
        (State.CALLING, Input.GIVE_UP): (State.TERMINATED, ()),
        (State.CALLING, Input.PROVISIONAL): (State.PROCEEDING, (Action.STOP, Action.REPORT)),
        (State.CALLING, Input.SUCCESS): (State.ACCEPTED, (Action.START_M, Action.REPORT)),
        (State.CALLING, Input.FAILURE): (State.COMPLETED, (Action.ACKNOWLEDGE, Action.START_D, Action.REPORT)),
        (State.PROCEEDING, Input.PROVISIONAL): (State.PROCEEDING, (Action.REPORT,)),
        (State.PROCEEDING, Input.SUCCESS): (State.ACCEPTED, (Action.START_M, Action.REPORT)),
        (State.PROCEEDING, Input.FAILURE): (State.COMPLETED, (Action.ACKNOWLEDGE, Action.START_D, Action.REPORT)),
        (State.PROCEEDING, Input.GIVE_UP): (State.TERMINATED, ()),
        (State.ACCEPTED, Input.SUCCESS): (State.ACCEPTED, (Action.REPORT,)),
        (State.ACCEPTED, Input.TIMER_M): (State.TERMINATED, ()),
        (State.COMPLETED, Input.FAILURE): (State.COMPLETED, (Action.ACKNOWLEDGE,)),
        (State.COMPLETED, Input.TRANSPORT_ERROR): (State.TERMINATED, ()),
        (State.COMPLETED, Input.TIMER_D): (State.TERMINATED, ()),
    }
    __slots__ = ()

    def receive(self, response: Response, now: float, flow: Flow | None = None) -> None:
        """A response with this transaction's branch and CSeq method (§17.1.3)."""
        self._response = response
        self.flow = flow
        self._step(_classify_invite_response(response.status), now)

    def give_up(self, now: float) -> None:
        """Stop waiting for a final response; nothing is reported."""
        self._step(Input.GIVE_UP, now)

    def _acknowledge(self, now: float) -> None:
        if self._response is not None:
            self._send(bytes(acknowledgement(self.request, self._response)), now)

    def _start_a_b(self, now: float) -> None:
        self._start_repeating(Input.TIMER_A, Input.TIMER_B, now)

    def _back_off_a(self, now: float) -> None:
        self._repeat_in(2 * self._interval_s, Input.TIMER_A, now)

    def _start_d(self, now: float) -> None:
        self._end_in(0 if self.reliable else self._layer.timing.d_s, Input.TIMER_D, now)

    def _start_m(self, now: float) -> None:
        self._end_in(self._layer.timing.timeout_s, Input.TIMER_M, now)


class ClientNonInvite(_Client):
    """§17.1.2, figure 6.

    Ignored: any response or transport error after the final; timer E and F after it.
    """

    TRANSITIONS: ClassVar[Table] = {
        (State.INITIAL, Input.SEND): (State.TRYING, (Action.START_E_F, Action.TRANSMIT)),
        (State.TRYING, Input.TIMER_E): (State.TRYING, (Action.TRANSMIT, Action.BACK_OFF_E)),
        (State.TRYING, Input.TIMER_F): (State.TERMINATED, (Action.REPORT_TIMEOUT,)),
        (State.TRYING, Input.TRANSPORT_ERROR): (State.TERMINATED, (Action.REPORT_TRANSPORT_ERROR,)),
        (State.TRYING, Input.PROVISIONAL): (State.PROCEEDING, (Action.REPORT,)),
        (State.TRYING, Input.FINAL): (State.COMPLETED, (Action.START_K, Action.REPORT)),
        (State.PROCEEDING, Input.TIMER_E): (State.PROCEEDING, (Action.TRANSMIT, Action.SLOW_E)),
        (State.PROCEEDING, Input.TIMER_F): (State.TERMINATED, (Action.REPORT_TIMEOUT,)),
        (State.PROCEEDING, Input.TRANSPORT_ERROR): (State.TERMINATED, (Action.REPORT_TRANSPORT_ERROR,)),
        (State.PROCEEDING, Input.PROVISIONAL): (State.PROCEEDING, (Action.REPORT,)),
        (State.PROCEEDING, Input.FINAL): (State.COMPLETED, (Action.START_K, Action.REPORT)),
        (State.COMPLETED, Input.TIMER_K): (State.TERMINATED, ()),
    }
    __slots__ = ()

    def receive(self, response: Response, now: float, flow: Flow | None = None) -> None:
        """A response with this transaction's branch and CSeq method (§17.1.3)."""
        self._response = response
        self.flow = flow
        self._step(Input.PROVISIONAL if response.status < 200 else Input.FINAL, now)

    def _start_e_f(self, now: float) -> None:
        self._start_repeating(Input.TIMER_E, Input.TIMER_F, now)

    def _back_off_e(self, now: float) -> None:
        self._back_off(Input.TIMER_E, now)

    def _slow_e(self, now: float) -> None:
        self._repeat_in(self._layer.timing.t2_s, Input.TIMER_E, now)

    def _start_k(self, now: float) -> None:
        self._end_in(0 if self.reliable else self._layer.timing.t4_s, Input.TIMER_K, now)


class _Server(Transaction):
    """What both server machines share: the last response, kept to be repeated."""

    __slots__ = ("_data",)

    def __init__(self, layer: Layer, key: Key, request: Request, send: Send, *, reliable: bool) -> None:
        super().__init__(layer, key, request, send, reliable=reliable)
        self._data = b""

    def start(self, now: float) -> None:
        """The request that makes this transaction has arrived."""
        self._step(Input.REQUEST, now)

    def _transmit(self, now: float) -> None:
        if self._data:
            self._send(self._data, now)


class ServerInvite(_Server):
    """§17.2.1, figure 7, with the Accepted state and timer L of RFC 6026 §7.1.

    Repeating a 2xx until its ACK is the session's work (§13.3.1.4). Ignored: the INVITE again once
    Accepted or Confirmed; the ACK again once Confirmed, or before any final; whatever the user sends
    after a failure; a provisional or failure after a 2xx.
    """

    TRANSITIONS: ClassVar[Table] = {
        (State.INITIAL, Input.REQUEST): (State.PROCEEDING, ()),
        (State.PROCEEDING, Input.REQUEST): (State.PROCEEDING, (Action.TRANSMIT,)),
        (State.PROCEEDING, Input.SEND_PROVISIONAL): (State.PROCEEDING, (Action.TRANSMIT,)),
        (State.PROCEEDING, Input.SEND_SUCCESS): (State.ACCEPTED, (Action.START_L, Action.TRANSMIT)),
        (State.PROCEEDING, Input.SEND_FAILURE): (State.COMPLETED, (Action.START_G_H, Action.TRANSMIT)),
        (State.ACCEPTED, Input.SEND_SUCCESS): (State.ACCEPTED, (Action.TRANSMIT,)),
        (State.ACCEPTED, Input.ACK): (State.ACCEPTED, (Action.REPORT_ACK,)),
        (State.ACCEPTED, Input.TIMER_L): (State.TERMINATED, ()),
        (State.COMPLETED, Input.REQUEST): (State.COMPLETED, (Action.TRANSMIT,)),
        (State.COMPLETED, Input.TIMER_G): (State.COMPLETED, (Action.TRANSMIT, Action.BACK_OFF_G)),
        (State.COMPLETED, Input.TIMER_H): (State.TERMINATED, (Action.REPORT_NO_ACK,)),
        (State.COMPLETED, Input.ACK): (State.CONFIRMED, (Action.START_I,)),
        (State.CONFIRMED, Input.TIMER_I): (State.TERMINATED, ()),
    }
    __slots__ = ("_ack", "user")

    def __init__(
        self, layer: Layer, key: Key, request: Request, send: Send, user: ServerUser | None, *, reliable: bool
    ) -> None:
        super().__init__(layer, key, request, send, reliable=reliable)
        self.user = user
        self._ack: Request | None = None

    def respond(self, status: int, data: bytes, now: float) -> None:
        """Send a response of ours; a 2xx may be sent again and again until the ACK."""
        event = _classify_own_response(status)
        if (self.state, event) in self.TRANSITIONS:
            self._data = data
            self._step(event, now)

    def receive(self, request: Request, now: float) -> None:
        """The INVITE again, or an ACK with its branch (§17.2.3)."""
        if request.method == "ACK":
            self._ack = request
            self._step(Input.ACK, now)
        else:
            self._step(Input.REQUEST, now)

    def _report_ack(self, now: float) -> None:
        if self.user is not None and self._ack is not None:
            self.user.on_ack(self._ack, now)

    def _report_no_ack(self, now: float) -> None:
        if self.user is not None:
            self.user.on_no_ack(now)

    def _start_g_h(self, now: float) -> None:
        self._start_repeating(Input.TIMER_G, Input.TIMER_H, now)

    def _back_off_g(self, now: float) -> None:
        self._back_off(Input.TIMER_G, now)

    def _start_i(self, now: float) -> None:
        self._end_in(0 if self.reliable else self._layer.timing.t4_s, Input.TIMER_I, now)

    def _start_l(self, now: float) -> None:
        self._end_in(self._layer.timing.timeout_s, Input.TIMER_L, now)


class ServerNonInvite(_Server):
    """§17.2.2, figure 8.

    Ignored: the request again while Trying (there is nothing to repeat yet); whatever the user sends
    after the final.
    """

    TRANSITIONS: ClassVar[Table] = {
        (State.INITIAL, Input.REQUEST): (State.TRYING, ()),
        (State.TRYING, Input.SEND_PROVISIONAL): (State.PROCEEDING, (Action.TRANSMIT,)),
        (State.TRYING, Input.SEND_FINAL): (State.COMPLETED, (Action.START_J, Action.TRANSMIT)),
        (State.PROCEEDING, Input.REQUEST): (State.PROCEEDING, (Action.TRANSMIT,)),
        (State.PROCEEDING, Input.SEND_PROVISIONAL): (State.PROCEEDING, (Action.TRANSMIT,)),
        (State.PROCEEDING, Input.SEND_FINAL): (State.COMPLETED, (Action.START_J, Action.TRANSMIT)),
        (State.COMPLETED, Input.REQUEST): (State.COMPLETED, (Action.TRANSMIT,)),
        (State.COMPLETED, Input.TIMER_J): (State.TERMINATED, ()),
    }
    __slots__ = ()

    def respond(self, status: int, data: bytes, now: float) -> None:
        """Send a response of ours."""
        event = Input.SEND_PROVISIONAL if status < 200 else Input.SEND_FINAL
        if (self.state, event) in self.TRANSITIONS:
            self._data = data
            self._step(event, now)

    def receive(self, request: Request, now: float) -> None:
        """The request again (§17.2.3)."""
        self._step(Input.REQUEST, now)

    def _start_j(self, now: float) -> None:
        self._end_in(0 if self.reliable else self._layer.timing.timeout_s, Input.TIMER_J, now)


TABLES: Final[Mapping[str, Table]] = {
    "client INVITE": ClientInvite.TRANSITIONS,
    "client non-INVITE": ClientNonInvite.TRANSITIONS,
    "server INVITE": ServerInvite.TRANSITIONS,
    "server non-INVITE": ServerNonInvite.TRANSITIONS,
}
"""The tables by name, for the diagrams in the documentation."""


def _classify_invite_response(status: int) -> Input:
    if status < 200:
        return Input.PROVISIONAL
    return Input.SUCCESS if status < 300 else Input.FAILURE


def _classify_own_response(status: int) -> Input:
    if status < 200:
        return Input.SEND_PROVISIONAL
    return Input.SEND_SUCCESS if status < 300 else Input.SEND_FAILURE


def client_key(response: Response) -> Key:
    """RFC 3261 §17.1.3: our branch and the method of CSeq. Raises ParseError."""
    return (response.via.branch, response.cseq.method)


def server_key(request: Request, method: str | None = None) -> Key:
    """RFC 3261 §17.2.3: branch, sent-by and method; ``method`` INVITE finds what a CANCEL or ACK is about.

    Without the magic cookie, or with nothing after it (RFC 4475 §3.2.1), the fields that RFC 2543 compares; of the Via
    what its sender wrote, not what we note in it. Raises ParseError.
    """
    via = request.via
    method = method or ("INVITE" if request.method == "ACK" else request.method)
    branch = via.branch
    if branch is not None and branch.startswith(MAGIC_COOKIE) and branch != MAGIC_COOKIE:
        return (branch, via.host, via.port, method)
    written = (via.transport, via.host, via.port, branch)
    return (*written, request.uri, request.from_.tag, request.call_id, request.cseq.number, method)


def acknowledgement(request: Request, response: Response) -> Request:
    """The ACK of a failure response (§17.1.1.3): the INVITE's Via, Route and CSeq number, the response's To."""
    headers = request.headers
    copied = [("Via", headers.lines("Via")[0]), ("Max-Forwards", "70")]
    copied += [("Route", route) for route in headers.lines("Route")]
    copied.append(("From", headers.lines("From")[0]))
    copied.append(("To", response.headers.lines("To")[0]))
    copied.append(("Call-ID", headers.lines("Call-ID")[0]))
    copied.append(("CSeq", f"{request.cseq.number} ACK"))
    return Request.create("ACK", request.uri, copied)


_METHODS: Final[Mapping[Action, str]] = {action: f"_{action.name.lower()}" for action in Action}
"""An action is carried out by the method of its name."""
