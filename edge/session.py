"""Calls: the INVITE usage of a dialog, from the first INVITE to the answer to BYE (RFC 3261 §13–§15).

Two tables, in the manner of :mod:`edge.transaction`: :data:`TRANSITIONS` is the life of a call, as UAS and
as UAC; :data:`OFFERS` is offer and answer by re-INVITE inside it (§14, RFC 5407 for the races). A pair that
is absent is ignored. ``CallEnded`` is emitted once, with the END action; what comes after it is lingering:
a BYE to be answered, a 2xx to be acknowledged again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from edge import uas
from edge.dialog import Dialog
from edge.events import (
    CallAnswered,
    CallConfirmed,
    CallEnded,
    CallKey,
    CallProgressed,
    Cause,
    Event,
    Flow,
    MediaAnswered,
    MediaOffered,
    MediaRefused,
    OutgoingCall,
    Party,
    Refusal,
)
from edge.layer import Hop, Hops, Near, TransactionLayer, parse_next_hop, safe_headers
from edge.message import REASON_PHRASES, NameAddress, Request, Response, printable, response_to
from edge.timers import Timer
from edge.transaction import Failure, ServerInvite
from edge.uac import Credential, Draft, Outgoing
from edge.uri import ParseError, SipUri

__all__ = ["OFFERS", "TABLES", "TRANSITIONS", "Action", "Host", "Input", "Renegotiation", "Session", "State"]


class State(StrEnum):
    """Where a call, or an offer inside it, stands."""

    # a call as UAS
    OFFERED = "offered"
    RINGING = "ringing"
    ANSWERED = "answered"  # 2xx sent, no ACK yet
    LEAVING = "leaving"  # the same, and we want to hang up (§15: not before the ACK)
    # a call as UAC
    CALLING = "calling"
    PROCEEDING = "proceeding"
    CANCELLING = "cancelling"
    # either
    CONFIRMED = "confirmed"
    ENDING = "ending"  # our BYE is out
    TERMINATED = "terminated"
    # an offer in a call (with OFFERED and ANSWERED)
    IDLE = "idle"
    OFFERING = "offering"  # our re-INVITE is out


class Input(StrEnum):
    """What can happen to them: the user's commands, messages, timers."""

    PROGRESS = "progress"
    ANSWER = "answer"
    REFUSE = "refuse"
    HANG_UP = "hang up"
    CANCEL = "CANCEL"
    ACK = "ACK"
    BYE = "BYE"
    PROVISIONAL = "1xx"
    SUCCESS = "2xx"
    FAILURE = "300-699"
    UNREACHABLE = "no response"
    BYE_DONE = "BYE answered"
    EXPIRE = "ring limit"
    NO_ACK = "64*T1 without ACK"
    BROKEN = "session lost"
    REINVITE = "re-INVITE"
    REOFFER = "offer"
    GLARE = "491"
    GONE = "481, 408"
    RETRY = "retry timer"
    CLOSE = "close"


class Action(StrEnum):
    """What a transition does; each is carried out by the method of its name."""

    SEND_PROVISIONAL = "send 1xx"
    SEND_ANSWER = "send 2xx until ACK"
    SEND_REFUSAL = "send 300-699"
    SEND_TERMINATED = "send 487"
    SEND_INTERVAL = "send 500 Retry-After"
    SEND_PENDING = "send 491"
    STOP_ANSWER = "stop 2xx"
    SEND_ACK = "send ACK"
    SEND_BYE = "send BYE"
    SEND_CANCEL = "send CANCEL"
    SEND_REINVITE = "send re-INVITE"
    REPORT_PROGRESS = "report progress"
    REPORT_ANSWER = "report answer"
    REPORT_CONFIRMED = "report confirmed"
    REPORT_OFFER = "report offer"
    REPORT_REFUSED = "report refusal"
    KEEP = "keep the offer"
    RESUME = "resume a kept offer"
    WAIT = "start retry timer"
    FORGET = "forget the re-INVITE"
    BREAK = "end the call"
    END = "report end"


_S, _I, _A = State, Input, Action

Table = Mapping[tuple[State, Input], tuple[State, tuple[Action, ...]]]

TRANSITIONS: Final[Table] = {
    # UAS: the INVITE and its answer (§13.3)
    (_S.OFFERED, _I.PROGRESS): (_S.RINGING, (_A.SEND_PROVISIONAL,)),
    (_S.OFFERED, _I.ANSWER): (_S.ANSWERED, (_A.SEND_ANSWER,)),
    (_S.OFFERED, _I.REFUSE): (_S.TERMINATED, (_A.SEND_REFUSAL, _A.END)),
    (_S.OFFERED, _I.HANG_UP): (_S.TERMINATED, (_A.SEND_REFUSAL, _A.END)),
    (_S.OFFERED, _I.EXPIRE): (_S.TERMINATED, (_A.SEND_REFUSAL, _A.END)),
    (_S.OFFERED, _I.CANCEL): (_S.TERMINATED, (_A.SEND_TERMINATED, _A.END)),
    (_S.OFFERED, _I.BYE): (_S.TERMINATED, (_A.SEND_TERMINATED, _A.END)),
    (_S.RINGING, _I.PROGRESS): (_S.RINGING, (_A.SEND_PROVISIONAL,)),
    (_S.RINGING, _I.ANSWER): (_S.ANSWERED, (_A.SEND_ANSWER,)),
    (_S.RINGING, _I.REFUSE): (_S.TERMINATED, (_A.SEND_REFUSAL, _A.END)),
    (_S.RINGING, _I.HANG_UP): (_S.TERMINATED, (_A.SEND_REFUSAL, _A.END)),
    (_S.RINGING, _I.EXPIRE): (_S.TERMINATED, (_A.SEND_REFUSAL, _A.END)),
    (_S.RINGING, _I.CANCEL): (_S.TERMINATED, (_A.SEND_TERMINATED, _A.END)),
    (_S.RINGING, _I.BYE): (_S.TERMINATED, (_A.SEND_TERMINATED, _A.END)),
    (_S.ANSWERED, _I.ACK): (_S.CONFIRMED, (_A.STOP_ANSWER, _A.REPORT_CONFIRMED, _A.RESUME)),
    (_S.ANSWERED, _I.NO_ACK): (_S.ENDING, (_A.SEND_BYE, _A.END)),
    (_S.ANSWERED, _I.HANG_UP): (_S.LEAVING, (_A.END,)),
    (_S.ANSWERED, _I.BYE): (_S.TERMINATED, (_A.STOP_ANSWER, _A.END)),
    (_S.LEAVING, _I.ACK): (_S.ENDING, (_A.STOP_ANSWER, _A.SEND_BYE)),
    (_S.LEAVING, _I.NO_ACK): (_S.ENDING, (_A.SEND_BYE,)),
    (_S.LEAVING, _I.BYE): (_S.TERMINATED, (_A.STOP_ANSWER,)),
    # UAC: our INVITE and its responses (§13.2)
    (_S.CALLING, _I.PROVISIONAL): (_S.PROCEEDING, (_A.REPORT_PROGRESS,)),
    (_S.CALLING, _I.SUCCESS): (_S.CONFIRMED, (_A.SEND_ACK, _A.REPORT_ANSWER)),
    (_S.CALLING, _I.FAILURE): (_S.TERMINATED, (_A.END,)),
    (_S.CALLING, _I.UNREACHABLE): (_S.TERMINATED, (_A.END,)),
    (_S.CALLING, _I.BROKEN): (_S.TERMINATED, (_A.END,)),
    (_S.CALLING, _I.HANG_UP): (_S.CANCELLING, (_A.SEND_CANCEL, _A.END)),
    (_S.PROCEEDING, _I.PROVISIONAL): (_S.PROCEEDING, (_A.REPORT_PROGRESS,)),
    (_S.PROCEEDING, _I.SUCCESS): (_S.CONFIRMED, (_A.SEND_ACK, _A.REPORT_ANSWER)),
    (_S.PROCEEDING, _I.FAILURE): (_S.TERMINATED, (_A.END,)),
    (_S.PROCEEDING, _I.UNREACHABLE): (_S.TERMINATED, (_A.END,)),
    (_S.PROCEEDING, _I.BROKEN): (_S.TERMINATED, (_A.END,)),
    (_S.PROCEEDING, _I.EXPIRE): (_S.CANCELLING, (_A.SEND_CANCEL, _A.END)),
    (_S.PROCEEDING, _I.HANG_UP): (_S.CANCELLING, (_A.SEND_CANCEL, _A.END)),
    (_S.CANCELLING, _I.SUCCESS): (_S.ENDING, (_A.SEND_ACK, _A.SEND_BYE)),  # §9.1: the CANCEL came too late
    (_S.CANCELLING, _I.FAILURE): (_S.TERMINATED, ()),
    (_S.CANCELLING, _I.UNREACHABLE): (_S.TERMINATED, ()),
    (_S.CANCELLING, _I.BROKEN): (_S.TERMINATED, ()),
    # either, once established (§15)
    (_S.CONFIRMED, _I.BYE): (_S.TERMINATED, (_A.END,)),
    (_S.CONFIRMED, _I.HANG_UP): (_S.ENDING, (_A.SEND_BYE, _A.END)),
    (_S.CONFIRMED, _I.NO_ACK): (_S.ENDING, (_A.SEND_BYE, _A.END)),  # to the 2xx of a re-INVITE (§14.2)
    (_S.CONFIRMED, _I.BROKEN): (_S.ENDING, (_A.SEND_BYE, _A.END)),
    (_S.ENDING, _I.BYE_DONE): (_S.TERMINATED, ()),
}
"""The life of a call. Ignored, among others: commands for the other role or too late, a CANCEL after the
2xx (it has its own 200 and no effect, §9.2), the ACK again, a BYE that crosses ours."""

OFFERS: Final[Table] = {
    (_S.IDLE, _I.REINVITE): (_S.OFFERED, (_A.REPORT_OFFER,)),
    (_S.IDLE, _I.REOFFER): (_S.OFFERING, (_A.KEEP, _A.SEND_REINVITE)),
    (_S.IDLE, _I.RETRY): (_S.OFFERING, (_A.SEND_REINVITE,)),
    (_S.IDLE, _I.CLOSE): (_S.TERMINATED, ()),
    (_S.OFFERED, _I.REINVITE): (_S.OFFERED, (_A.SEND_INTERVAL,)),  # §14.2: one at a time
    (_S.OFFERED, _I.ANSWER): (_S.ANSWERED, (_A.SEND_ANSWER,)),
    (_S.OFFERED, _I.REFUSE): (_S.IDLE, (_A.SEND_REFUSAL, _A.RESUME)),
    (_S.OFFERED, _I.CANCEL): (_S.IDLE, (_A.SEND_TERMINATED, _A.RESUME)),
    (_S.OFFERED, _I.REOFFER): (_S.OFFERED, (_A.KEEP,)),
    (_S.OFFERED, _I.CLOSE): (_S.TERMINATED, (_A.SEND_TERMINATED,)),  # §15.1.2
    (_S.ANSWERED, _I.ACK): (_S.IDLE, (_A.STOP_ANSWER, _A.REPORT_ANSWER, _A.RESUME)),
    (_S.ANSWERED, _I.NO_ACK): (_S.IDLE, (_A.BREAK,)),
    (_S.ANSWERED, _I.REINVITE): (_S.OFFERED, (_A.STOP_ANSWER, _A.REPORT_OFFER)),  # RFC 5407 §3.1.4: our 2xx arrived
    (_S.ANSWERED, _I.GLARE): (_S.ANSWERED, (_A.SEND_PENDING,)),  # RFC 5407 §3.1.5: its answer is still to come
    (_S.ANSWERED, _I.REOFFER): (_S.ANSWERED, (_A.KEEP,)),
    (_S.ANSWERED, _I.CLOSE): (_S.TERMINATED, (_A.STOP_ANSWER,)),
    (_S.OFFERING, _I.REINVITE): (_S.OFFERING, (_A.SEND_PENDING,)),  # §14.2: glare
    (_S.OFFERING, _I.SUCCESS): (_S.IDLE, (_A.SEND_ACK, _A.REPORT_ANSWER)),
    (_S.OFFERING, _I.FAILURE): (_S.IDLE, (_A.REPORT_REFUSED,)),
    (_S.OFFERING, _I.GLARE): (_S.IDLE, (_A.WAIT,)),
    (_S.OFFERING, _I.GONE): (_S.IDLE, (_A.BREAK,)),
    (_S.OFFERING, _I.EXPIRE): (_S.OFFERING, (_A.SEND_CANCEL,)),  # 64*T1 later it is GONE
    (_S.OFFERING, _I.CLOSE): (_S.TERMINATED, (_A.FORGET,)),
    (_S.TERMINATED, _I.SUCCESS): (_S.TERMINATED, (_A.SEND_ACK,)),
}
"""Offers inside an established call. Ignored, among others: an answer nobody waits for, the retry timer
while the peer's own offer is being handled (it is resumed after it)."""

TABLES: Final[Mapping[str, Table]] = {"call": TRANSITIONS, "offer in a call": OFFERS}
"""The tables by name, for the diagrams in the documentation."""

_METHODS: Final[Mapping[Action, str]] = {action: f"_{action.name.lower()}" for action in Action}
_MAX_GLARES: Final = 8
_MAX_FORKS: Final = 16


@dataclass(frozen=True, slots=True)
class _Detail:
    """What came with an input. ``by`` and ``cause`` are what CallEnded will say if it ends the call."""

    status: int = 0
    phrase: str = ""
    body: bytes | None = None
    refusal: Refusal | None = None
    request: Request | None = None
    response: Response | None = None
    by: Party = Party.LOCAL
    cause: Cause = Cause.BYE
    headers: tuple[tuple[str, str], ...] = ()
    reason: str | None = None


class Host(Protocol):
    """What a session needs of the endpoint."""

    @property
    def layer(self) -> TransactionLayer: ...
    def emit(self, event: Event) -> None:
        """Tell the user."""

    def bind(self, session: Session, dialog: Dialog) -> None:
        """The dialog's requests are the session's from now on."""

    def unbind(self, session: Session, dialog: Dialog) -> None:
        """The dialog is over."""

    def ended(self, session: Session) -> None:
        """CallEnded went out: the user may not name the session any more."""


class _Answer:
    """A 2xx to an INVITE, repeated from T1 to T2 until its ACK, over any transport (§13.3.1.4)."""

    __slots__ = ("_data", "_deadline", "_interval_s", "_invite", "_layer", "_repeat", "_user", "cseq", "delayed")

    def __init__(self, layer: TransactionLayer, invite: ServerInvite, response: Response, user: _Unacknowledged):
        self._layer = layer
        self._invite = invite
        self._data = bytes(response)
        self._user = user
        self._interval_s = layer.timing.t1_s
        self._repeat: Timer | None = None
        self._deadline: Timer | None = None
        self.cseq = invite.request.cseq.number
        self.delayed = uas.offer(invite.request) is None
        """True when the 2xx makes the offer, so that the ACK brings the answer."""

    def start(self, now: float) -> None:
        self._deadline = self._layer.timers.call_at(now + self._layer.timing.timeout_s, self._expire)
        self._send(now)

    def stop(self) -> None:
        for timer in (self._repeat, self._deadline):
            if timer is not None:
                timer.cancel()

    def _send(self, now: float) -> None:
        self._invite.respond(200, self._data, now)
        self._repeat = self._layer.timers.call_at(now + self._interval_s, self._send)
        self._interval_s = min(2 * self._interval_s, self._layer.timing.t2_s)

    def _expire(self, now: float) -> None:
        self.stop()
        self._user.on_unacknowledged(now)


class _Unacknowledged(Protocol):
    def on_unacknowledged(self, now: float) -> None:
        """No ACK in 64*T1."""


class _Acknowledgement:
    """The ACK of a 2xx to an INVITE of ours: made once, sent for each copy of the 2xx (§13.2.2.4)."""

    __slots__ = ("_dialog", "_hop", "_layer", "_outgoing", "_request")

    def __init__(self, layer: TransactionLayer, dialog: Dialog, outgoing: Outgoing) -> None:
        self._layer = layer
        self._dialog = dialog
        self._outgoing = outgoing
        self._request: Request | None = None
        self._hop: Hop | None = None

    def send(self, now: float) -> None:
        if self._request is not None and self._hop is not None:
            self._layer.send_ack(self._request, self._hop, now)
        else:
            near = near_of(self._dialog, self._outgoing.flow)
            self._layer.find(self._dialog.addressing()[2], self._found, now, near)

    def _found(self, hops: Hops, now: float) -> None:
        original = self._outgoing.request
        if not hops or original is None:
            return
        self._hop = hops[0]
        uri, routes, _ = self._dialog.addressing()
        headers = [("Via", self._layer.via(self._hop, self._layer.new_branch())), ("Max-Forwards", "70")]
        headers += _dialog_headers(self._dialog, routes)
        headers += [("CSeq", f"{original.cseq.number} ACK"), *self._outgoing.credentials.items()]
        self._request = Request.create("ACK", uri, headers)
        self._layer.send_ack(self._request, self._hop, now)


def near_of(dialog: Dialog, flow: Flow | None) -> Near | None:
    """How the peer of a dialog was last heard of."""
    return None if flow is None else Near(flow, bool(dialog.routes))


def _dialog_headers(dialog: Dialog, routes: Iterable[str]) -> list[tuple[str, str]]:
    return [
        *(("Route", route) for route in routes),
        ("From", dialog.local),
        ("To", dialog.remote),
        ("Call-ID", dialog.call_id),
    ]


class _Leg:
    """What a call and the offers in it share: a state, its table, and the means to speak in their dialog."""

    table: Mapping[tuple[State, Input], tuple[State, tuple[Action, ...]]]

    def __init__(self, host: Host, state: State) -> None:
        self._host = host
        self._layer = host.layer
        self.state = state

    def _step(self, event: Input, now: float, detail: _Detail = _Detail()) -> bool:
        """Take one step; False when the pair is ignored."""
        found = self.table.get((self.state, event))
        if found is None:
            return False
        self.state, actions = found
        for action in actions:
            getattr(self, _METHODS[action])(detail, now)
        return True


class Session(_Leg):
    """One call. Made by :meth:`offered` or :meth:`calling`; commands and messages in, events out by the host."""

    table = TRANSITIONS

    def __init__(self, host: Host, key: CallKey, state: State) -> None:
        super().__init__(host, state)
        self.key = key
        self.dialog: Dialog | None = None
        self.flow: Flow | None = None
        self.credential: Credential | None = None
        self.offers = Renegotiation(host, self)
        self._invite: ServerInvite | None = None
        self._answer: _Answer | None = None
        self._outgoing: Outgoing | None = None
        self._acknowledgement: _Acknowledgement | None = None
        self._forks: dict[str, _Acknowledgement] = {}
        self._limit: Timer | None = None
        self._first_hop: SipUri | None = None
        self._cseq = 0

    @property
    def local_tag(self) -> str:
        """Our tag in the dialog."""
        return "" if self.dialog is None else self.dialog.local_tag

    @property
    def calls(self) -> bool:
        """True for the UAC, who made the Call-ID."""
        return self._outgoing is not None

    @classmethod
    def offered(cls, host: Host, key: CallKey, request: Request, dialog: Dialog, flow: Flow, *, now: float) -> Session:
        """The UAS's side of a new INVITE; 100 goes out (§8.2.6.1)."""
        session = cls(host, key, State.OFFERED)
        session.dialog, session.flow = dialog, flow
        session._invite = host.layer.serve_invite(request, flow, session, now)
        session._invite.respond(100, bytes(response_to(request, 100)), now)
        host.bind(session, dialog)
        limit_s = host.layer.settings.ring_limit_s
        if request.expires is not None:
            limit_s = min(limit_s, max(1.0, request.expires))  # §13.3.1: the invitation expires
        session._limit = host.layer.timers.call_at(now + limit_s, session._expire)
        return session

    @classmethod
    def calling(cls, host: Host, key: CallKey, call: OutgoingCall) -> Session:
        """The UAC's side; :meth:`start` sends the INVITE. Raises ParseError where the call's URIs are none."""
        session = cls(host, key, State.CALLING)
        if call.username is not None and call.password is not None:
            session.credential = Credential(call.username, call.password, call.realm)
        draft, session._first_hop = _invitation(host.layer, call)
        session._outgoing = Outgoing(host.layer, draft, session._next_cseq, session, session.credential)
        return session

    def start(self, now: float) -> None:
        """Send the INVITE of :meth:`calling`."""
        if self._outgoing is not None and self._first_hop is not None:
            self._limit = self._layer.timers.call_at(now + self._layer.settings.ring_limit_s, self._expire)
            self._outgoing.start(self._first_hop, now)

    # the user's commands

    def progress(self, status: int, body: bytes, now: float) -> bool:
        """A provisional response, 101..199."""
        return self._step(Input.PROGRESS, now, _Detail(status=status, body=body))

    def answer(self, body: bytes, now: float) -> bool:
        """The 200, repeated until its ACK."""
        return self._step(Input.ANSWER, now, _Detail(body=body))

    def refuse(self, refusal: Refusal, now: float) -> bool:
        """A final failure response to the INVITE."""
        detail = _Detail(refusal=refusal, status=refusal.status, phrase=refusal.phrase or "", cause=Cause.REFUSED)
        return self._step(Input.REFUSE, now, detail)

    def hang_up(self, reason: str | None, now: float) -> bool:
        """CANCEL, BYE or 480, whichever the state asks for."""
        if self.state in (State.OFFERED, State.RINGING):
            refusal = Refusal(480, reason or "")
            detail = _Detail(refusal=refusal, status=480, cause=Cause.REFUSED)
        elif self.state in (State.CALLING, State.PROCEEDING):
            detail = _Detail(cause=Cause.CANCELLED, reason=reason)
        else:
            detail = _Detail(cause=Cause.BYE, reason=reason)
        return self._step(Input.HANG_UP, now, detail)

    def reoffer(self, body: bytes, now: float) -> bool:
        """A new offer in an established call; waits where one is under way."""
        if self.state is State.ANSWERED:
            return self.offers.keep(body)
        return self.state is State.CONFIRMED and self.offers.reoffer(body, now)

    # what comes from the wire, in the dialog

    def on_ack(self, request: Request, now: float) -> None:
        """An ACK, by the INVITE it belongs to."""
        if self._answer is not None and request.cseq.number == self._answer.cseq:
            body = uas.offer(request) if self._answer.delayed else None
            self._step(Input.ACK, now, _Detail(body=body))
        else:
            self.offers.on_ack(request, now)

    def on_cancel(self, request: Request, now: float) -> None:
        """A CANCEL of the first INVITE."""
        headers = uas.allowed_headers(request, "reason")
        self._step(Input.CANCEL, now, _Detail(by=Party.REMOTE, cause=Cause.CANCELLED, status=487, headers=headers))

    def on_bye(self, request: Request, now: float) -> None:
        """A BYE; it has had its 200."""
        headers = uas.allowed_headers(request, "reason")
        self._step(Input.BYE, now, _Detail(by=Party.REMOTE, cause=Cause.BYE, headers=headers))

    def on_invite(self, request: Request, now: float) -> None:
        """A re-INVITE."""
        if self.state in (State.OFFERED, State.RINGING):
            self.reply(request, 500, now, [("Retry-After", str(self._layer.entropy(1)[0] % 11))])
        elif self.state is State.ANSWERED and self._answer is not None and self._answer.delayed:
            self.reply(request, 491, now)
        elif self.state in (State.ANSWERED, State.CONFIRMED):
            self._step(Input.ACK, now)  # RFC 5407 §3.1.4: only its ACK was lost or late
            self.offers.on_invite(request, now)
        else:
            self.reply(request, 481, now)

    def reply(self, request: Request, status: int, now: float, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Refuse a request in the dialog without a transaction."""
        if self.flow is not None:
            self._layer.reply(request, response_to(request, status, headers=headers), self.flow, now)

    def on_no_ack(self, now: float) -> None:
        """Nobody acknowledged our refusal; the call has ended already."""

    def on_unacknowledged(self, now: float) -> None:
        """Nobody acknowledged our 2xx."""
        self._step(Input.NO_ACK, now, _Detail(cause=Cause.NO_ACK))

    # what comes back to our INVITE

    def on_response(self, outgoing: Outgoing, response: Response, now: float) -> None:
        """A response to the INVITE of :meth:`calling`."""
        if response.status < 200:
            body = uas.offer(response)
            self._step(Input.PROVISIONAL, now, _Detail(response.status, response.phrase, body))
        elif response.status < 300:
            self._on_success(outgoing, response, now)
        else:
            headers = uas.allowed_headers(response, "reason", "retry-after", "warning")
            detail = _Detail(
                response.status,
                response.phrase,
                by=Party.REMOTE,
                cause=Cause.REFUSED,
                response=response,
                headers=headers,
            )
            self._step(Input.FAILURE, now, detail)

    def on_failure(self, outgoing: Outgoing, failure: Failure, now: float) -> None:
        """No final response to the INVITE."""
        if failure is Failure.TIMEOUT:
            detail = _Detail(408, cause=Cause.TIMEOUT)
        else:
            detail = _Detail(503, cause=Cause.TRANSPORT)
        self._step(Input.UNREACHABLE, now, detail)

    def _on_success(self, outgoing: Outgoing, response: Response, now: float) -> None:
        """The first 2xx makes the dialog; a copy is acknowledged again; another fork's is ended (§13.2.2.4)."""
        tag = response.to.tag or ""
        if outgoing.request is None:
            return
        if self._acknowledgement is not None and self.dialog is not None and tag == self.dialog.remote_tag:
            self._acknowledgement.send(now)
            return
        if tag in self._forks:
            self._forks[tag].send(now)
            return
        try:
            body = uas.offer(response)
            dialog = Dialog.of_client(outgoing.request, response)
        except ParseError as error:
            if self.dialog is None:
                self._step(Input.BROKEN, now, _Detail(response.status, error.reason, cause=Cause.PROTOCOL))
            return
        if self.dialog is not None or self.state is State.TERMINATED:
            self._end_fork(dialog, outgoing, now)
            return
        self.dialog, self.flow = dialog, outgoing.flow
        self._acknowledgement = _Acknowledgement(self._layer, dialog, outgoing)
        self._host.bind(self, dialog)
        self._step(Input.SUCCESS, now, _Detail(response.status, response.phrase, body))

    def _end_fork(self, dialog: Dialog, outgoing: Outgoing, now: float) -> None:
        acknowledgement = _Acknowledgement(self._layer, dialog, outgoing)
        if len(self._forks) < _MAX_FORKS:
            self._forks[dialog.remote_tag] = acknowledgement
        acknowledgement.send(now)
        draft = _in_dialog(dialog, "BYE", self._layer)
        goodbye = Outgoing(self._layer, draft, dialog.next_cseq, _Nobody(), self.credential)
        goodbye.start(dialog.addressing()[2], now, near_of(dialog, outgoing.flow))

    # actions

    def _send_provisional(self, detail: _Detail, now: float) -> None:
        self._respond(detail.status, now, [], detail.body or b"")

    def _send_answer(self, detail: _Detail, now: float) -> None:
        if self._invite is not None and self.dialog is not None and self.flow is not None:
            response = answer_of(self._layer, self._invite.request, self.dialog, self.flow, detail.body or b"")
            self._answer = _Answer(self._layer, self._invite, response, self)
            self._answer.start(now)
        self._stop_limit()

    def _send_refusal(self, detail: _Detail, now: float) -> None:
        refusal = detail.refusal or Refusal(480, "")
        headers = safe_headers(uas.refusal_headers(refusal))
        self._respond(refusal.status, now, headers, phrase=refusal.phrase)

    def _send_terminated(self, detail: _Detail, now: float) -> None:
        self._respond(487, now)

    def _respond(
        self,
        status: int,
        now: float,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        phrase: str | None = None,
    ) -> None:
        if self._invite is None or self.dialog is None or self.flow is None:
            return
        extra = list(headers)
        if status < 200:
            extra.append(("Contact", f"<{self._layer.contact_uri(self.flow, secure=self.dialog.secure)}>"))
        if body:
            extra.append(("Content-Type", uas.SDP))
        request, tag = self._invite.request, self.dialog.local_tag
        response = response_to(request, status, to_tag=tag, headers=extra, body=body, phrase=phrase)
        self._invite.respond(status, bytes(response), now)

    def _stop_answer(self, detail: _Detail, now: float) -> None:
        if self._answer is not None:
            self._answer.stop()

    def _send_ack(self, detail: _Detail, now: float) -> None:
        self._stop_limit()
        if self._acknowledgement is not None:
            self._acknowledgement.send(now)

    def _send_cancel(self, detail: _Detail, now: float) -> None:
        if self._outgoing is not None:
            text = None if detail.reason is None else uas.reason(487, detail.reason)
            self._outgoing.cancel(now, text)

    def _send_bye(self, detail: _Detail, now: float) -> None:
        if self.dialog is None:
            return
        text = [] if detail.reason is None else [("Reason", uas.cleared(detail.reason))]
        draft = _in_dialog(self.dialog, "BYE", self._layer, text)
        goodbye = Outgoing(self._layer, draft, self.dialog.next_cseq, _Goodbye(self), self.credential)
        goodbye.start(self.dialog.addressing()[2], now, near_of(self.dialog, self.flow))

    def on_bye_done(self, now: float) -> None:
        """Our BYE was answered, or never will be."""
        self._step(Input.BYE_DONE, now)

    def _report_progress(self, detail: _Detail, now: float) -> None:
        if detail.status > 100:
            self._host.emit(CallProgressed(self.key, detail.status, detail.phrase, detail.body))

    def _report_answer(self, detail: _Detail, now: float) -> None:
        self._host.emit(CallAnswered(self.key, detail.status, detail.phrase, detail.body))

    def _report_confirmed(self, detail: _Detail, now: float) -> None:
        self._host.emit(CallConfirmed(self.key, detail.body))

    def _resume(self, detail: _Detail, now: float) -> None:
        self.offers.resume(now)

    def _end(self, detail: _Detail, now: float) -> None:
        phrase = detail.phrase or REASON_PHRASES.get(detail.status, "")
        self._host.emit(CallEnded(self.key, detail.by, detail.cause, detail.status, phrase, detail.headers))
        self._host.ended(self)

    # housekeeping

    def _step(self, event: Input, now: float, detail: _Detail = _Detail()) -> bool:
        before = self.state
        if not super()._step(event, now, detail):
            return False
        if self.state in (State.ENDING, State.TERMINATED) and before is not self.state:
            self._close(now)
        return True

    def _close(self, now: float) -> None:
        self._stop_limit()
        self.offers.close(now)
        if self._answer is not None:
            self._answer.stop()
        if self.state is State.TERMINATED and self.dialog is not None:
            self._host.unbind(self, self.dialog)

    def broken(self, status: int, cause: Cause, now: float) -> None:
        """The peer has lost the session, or never acknowledged (§12.2.1.2, §14.2): say BYE and be done."""
        event = Input.NO_ACK if cause is Cause.NO_ACK else Input.BROKEN
        self._step(event, now, _Detail(status, cause=cause))

    def _expire(self, now: float) -> None:
        if self.state in (State.OFFERED, State.RINGING):
            refusal = Refusal(480, "nobody answered in time")
            self._step(Input.EXPIRE, now, _Detail(refusal=refusal, status=480, cause=Cause.TIMEOUT))
        else:
            self._step(Input.EXPIRE, now, _Detail(status=408, cause=Cause.TIMEOUT, reason="no answer in time"))

    def _stop_limit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()

    def _next_cseq(self) -> int:
        self._cseq += 1
        return self._cseq


class Renegotiation(_Leg):
    """Offer and answer by re-INVITE inside one established call (§14), one at a time in either direction."""

    table = OFFERS

    def __init__(self, host: Host, session: Session) -> None:
        super().__init__(host, State.IDLE)
        self._session = session
        self._wanted: bytes | None = None
        self._glares = 0
        self._retry_timer: Timer | None = None
        self._limit: Timer | None = None
        self._invite: ServerInvite | None = None
        self._answer: _Answer | None = None
        self._outgoing: Outgoing | None = None
        self._acknowledgement: _Acknowledgement | None = None

    @property
    def local_tag(self) -> str:
        """Our tag in the dialog."""
        return self._session.local_tag

    # the user's commands

    def accept(self, body: bytes, now: float) -> bool:
        """The 200 to the peer's re-INVITE."""
        return self._step(Input.ANSWER, now, _Detail(body=body))

    def refuse(self, refusal: Refusal, now: float) -> bool:
        """Refuse it: the session stays as it was."""
        return self._step(Input.REFUSE, now, _Detail(refusal=refusal))

    def reoffer(self, body: bytes, now: float) -> bool:
        """Our own offer, now or when the one under way is done; a second one meanwhile is refused (491)."""
        if self._wanted is not None:
            self._host.emit(MediaRefused(self._session.key, 491))
            return True
        return self._step(Input.REOFFER, now, _Detail(body=body))

    def keep(self, body: bytes) -> bool:
        """An offer to be made once the call is confirmed."""
        if self._wanted is not None:
            self._host.emit(MediaRefused(self._session.key, 491))
        self._wanted = body if self._wanted is None else self._wanted
        return True

    def resume(self, now: float) -> None:
        """Make the kept offer, unless it waits for its retry timer."""
        if self._wanted is not None and self._retry_timer is None:
            self._step(Input.RETRY, now)

    def close(self, now: float) -> None:
        """The call ends; a late 2xx to our re-INVITE is still acknowledged."""
        self._step(Input.CLOSE, now)
        for timer in (self._retry_timer, self._limit):
            if timer is not None:
                timer.cancel()

    # what comes from the wire

    def on_invite(self, request: Request, now: float) -> None:
        """A re-INVITE that the call lets through."""
        glare = self.state is State.ANSWERED and self._answer is not None and self._answer.delayed
        self._step(Input.GLARE if glare else Input.REINVITE, now, _Detail(request=request))

    def on_ack(self, request: Request, now: float) -> None:
        """The ACK of our 2xx to a re-INVITE; of other ACKs nobody waits for any."""
        if self._answer is not None and request.cseq.number == self._answer.cseq:
            self._step(Input.ACK, now, _Detail(request=request, body=uas.offer(request)))

    def on_cancel(self, request: Request, now: float) -> None:
        """A CANCEL of the re-INVITE: it alone is cancelled (§9.2)."""
        self._step(Input.CANCEL, now)

    def on_no_ack(self, now: float) -> None:
        """Nobody acknowledged our refusal; the session stays as it was."""

    def on_unacknowledged(self, now: float) -> None:
        """Nobody acknowledged our 2xx (§14.2)."""
        self._step(Input.NO_ACK, now, _Detail(cause=Cause.NO_ACK))

    def on_response(self, outgoing: Outgoing, response: Response, now: float) -> None:
        """A response to our re-INVITE; a repeated 2xx is acknowledged again."""
        if response.status < 200:
            return
        if response.status < 300:
            self._on_success(outgoing, response, now)
            return
        event = {491: Input.GLARE, 481: Input.GONE, 408: Input.GONE}.get(response.status, Input.FAILURE)
        if event is Input.GLARE and self._glares >= _MAX_GLARES:
            event = Input.FAILURE
        self._step(event, now, _Detail(response.status, cause=Cause.PROTOCOL))

    def on_failure(self, outgoing: Outgoing, failure: Failure, now: float) -> None:
        """No final response: a time-out is as good as 408, a transport error as 503 (§8.1.3.1)."""
        if failure is Failure.TIMEOUT:
            self._step(Input.GONE, now, _Detail(408, cause=Cause.TIMEOUT))
        else:
            self._step(Input.FAILURE, now, _Detail(503))

    def _on_success(self, outgoing: Outgoing, response: Response, now: float) -> None:
        dialog = self._session.dialog
        if dialog is None or outgoing is not self._outgoing:
            return
        if self._acknowledgement is not None:
            self._acknowledgement.send(now)
            return
        self._acknowledgement = _Acknowledgement(self._layer, dialog, outgoing)
        try:
            dialog.refresh(response)
            body = uas.offer(response)
        except ParseError:  # its Contact stays what it was; the ACK goes there
            body = None
        self._step(Input.SUCCESS, now, _Detail(body=body))

    # actions

    def _report_offer(self, detail: _Detail, now: float) -> None:
        request, flow = detail.request, self._session.flow
        if request is None or flow is None:
            return
        self._invite = self._layer.serve_invite(request, flow, self, now)
        self._invite.respond(100, bytes(response_to(request, 100)), now)
        self._host.emit(MediaOffered(self._session.key, uas.offer(request)))

    def _send_answer(self, detail: _Detail, now: float) -> None:
        dialog, flow, invite = self._session.dialog, self._session.flow, self._invite
        if dialog is None or flow is None or invite is None:
            return
        dialog.refresh(invite.request)
        response = answer_of(self._layer, invite.request, dialog, flow, detail.body or b"")
        self._answer = _Answer(self._layer, invite, response, self)
        self._answer.start(now)

    def _stop_answer(self, detail: _Detail, now: float) -> None:
        if self._answer is not None:
            self._answer.stop()

    def _send_refusal(self, detail: _Detail, now: float) -> None:
        refusal = detail.refusal or Refusal(488, "")
        self._refuse(refusal.status, safe_headers(uas.refusal_headers(refusal)), refusal.phrase, now)

    def _send_terminated(self, detail: _Detail, now: float) -> None:
        self._refuse(487, (), None, now)

    def _refuse(self, status: int, headers: Iterable[tuple[str, str]], phrase: str | None, now: float) -> None:
        if self._invite is not None:
            response = response_to(self._invite.request, status, headers=headers, phrase=phrase)
            self._invite.respond(status, bytes(response), now)

    def _send_interval(self, detail: _Detail, now: float) -> None:
        if detail.request is not None:  # §14.2: between 0 and 10 seconds
            headers = [("Retry-After", str(self._layer.entropy(1)[0] % 11))]
            self._session.reply(detail.request, 500, now, headers)

    def _send_pending(self, detail: _Detail, now: float) -> None:
        if detail.request is not None:
            self._session.reply(detail.request, 491, now)

    def _send_reinvite(self, detail: _Detail, now: float) -> None:
        dialog, flow = self._session.dialog, self._session.flow
        if dialog is None:
            return
        draft = _in_dialog(dialog, "INVITE", self._layer, body=self._wanted or b"", flow=flow)
        self._acknowledgement = None
        self._outgoing = Outgoing(self._layer, draft, dialog.next_cseq, self, self._session.credential)
        self._limit = self._layer.timers.call_at(now + self._layer.settings.ring_limit_s, self._expire)
        self._outgoing.start(dialog.addressing()[2], now, near_of(dialog, flow))

    def _send_cancel(self, detail: _Detail, now: float) -> None:
        if self._outgoing is not None:
            self._outgoing.cancel(now)

    def _forget(self, detail: _Detail, now: float) -> None:
        if self._outgoing is not None:
            self._outgoing.forget(now)

    def _expire(self, now: float) -> None:
        self._step(Input.EXPIRE, now)

    def _send_ack(self, detail: _Detail, now: float) -> None:
        if self._acknowledgement is not None:
            self._acknowledgement.send(now)

    def _report_answer(self, detail: _Detail, now: float) -> None:
        """The answer to an offer of ours, in a 2xx or, where the re-INVITE had none, in the ACK."""
        if detail.request is None:
            self._settle()
        elif self._answer is None or not self._answer.delayed:
            return
        self._host.emit(MediaAnswered(self._session.key, detail.body))

    def _report_refused(self, detail: _Detail, now: float) -> None:
        self._settle()
        self._host.emit(MediaRefused(self._session.key, detail.status))

    def _keep(self, detail: _Detail, now: float) -> None:
        self._wanted = detail.body

    def _resume(self, detail: _Detail, now: float) -> None:
        self.resume(now)

    def _wait(self, detail: _Detail, now: float) -> None:
        """§14.1: 2.1 to 4 s for the owner of the Call-ID, 0 to 2 s for the other, in units of 10 ms."""
        self._glares += 1
        if self._limit is not None:
            self._limit.cancel()
        draw = int.from_bytes(self._layer.entropy(2))
        delay_s = (210 + draw % 191 if self._session.calls else draw % 201) / 100
        self._retry_timer = self._layer.timers.call_at(now + delay_s, self._retry)

    def _retry(self, now: float) -> None:
        self._retry_timer = None
        self._step(Input.RETRY, now)

    def _break(self, detail: _Detail, now: float) -> None:
        self._session.broken(detail.status, detail.cause, now)

    def _settle(self) -> None:
        self._wanted = None
        self._glares = 0
        if self._limit is not None:
            self._limit.cancel()


class _Nobody:
    """Whom the answer does not interest."""

    def on_response(self, outgoing: Outgoing, response: Response, now: float) -> None:
        pass

    def on_failure(self, outgoing: Outgoing, failure: Failure, now: float) -> None:
        pass


class _Goodbye:
    """Waits for the answer to our BYE; any final will do (§15.1.1)."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def on_response(self, outgoing: Outgoing, response: Response, now: float) -> None:
        if response.status >= 200:
            self._session.on_bye_done(now)

    def on_failure(self, outgoing: Outgoing, failure: Failure, now: float) -> None:
        self._session.on_bye_done(now)


# --- messages ---------------------------------------------------------------------------------


def answer_of(layer: TransactionLayer, request: Request, dialog: Dialog, flow: Flow, body: bytes) -> Response:
    """The 200 to an INVITE (§13.3.1.4): Contact, Allow, Supported and, with one, the SDP."""
    headers = [
        ("Contact", f"<{layer.contact_uri(flow, secure=dialog.secure)}>"),
        ("Allow", uas.ALLOW),
        ("Supported", ""),
        ("Server", layer.settings.user_agent),
    ]
    if body:
        headers.append(("Content-Type", uas.SDP))
    return response_to(request, 200, to_tag=dialog.local_tag, headers=headers, body=body)


def _in_dialog(
    dialog: Dialog,
    method: str,
    layer: TransactionLayer,
    headers: Iterable[tuple[str, str]] = (),
    *,
    body: bytes = b"",
    flow: Flow | None = None,
) -> Draft:
    uri, routes, _ = dialog.addressing()
    fixed = [*_dialog_headers(dialog, routes), *headers, ("User-Agent", layer.settings.user_agent)]
    if body:
        fixed.append(("Content-Type", uas.SDP))

    def compose(hop: Hop) -> list[tuple[str, str]]:
        if method != "INVITE":
            return fixed
        contact = layer.contact_uri(hop if flow is None else flow, secure=dialog.secure)
        return [*fixed, ("Contact", f"<{contact}>"), ("Allow", uas.ALLOW), ("Supported", "")]

    return Draft(method, uri, compose, body)


def _invitation(layer: TransactionLayer, call: OutgoingCall) -> tuple[Draft, SipUri]:
    """An INVITE and the URI that says where it goes. Raises ParseError."""
    target, source = SipUri.parse(call.target), SipUri.parse(call.from_uri)
    to = NameAddress("", SipUri.parse(call.to_uri) if call.to_uri else target)
    fixed = [
        ("From", str(NameAddress(printable(call.from_name), source).with_tag(layer.new_tag()))),
        ("To", str(to)),
        ("Call-ID", layer.entropy(16).hex()),
        ("Allow", uas.ALLOW),
        ("Supported", ""),
        ("User-Agent", layer.settings.user_agent),
        *safe_headers(call.headers),
    ]
    if call.body:
        fixed.append(("Content-Type", uas.SDP))
    secure = target.scheme == "sips"

    def compose(hop: Hop) -> list[tuple[str, str]]:
        return [*fixed, ("Contact", f"<{layer.contact_uri(hop, source.user, secure=secure)}>")]

    next_hop = target if call.next_hop is None else parse_next_hop(call.next_hop)
    return Draft("INVITE", str(target), compose, call.body), next_hop
