"""Calls: the INVITE usage of a dialog, from the first INVITE to the answer to BYE (RFC 3261 §13, §15).

:data:`TRANSITIONS` is the life of a call, as UAS and as UAC, a table in the manner of :mod:`edge.transaction`;
a pair that is absent is ignored. ``CallEnded`` is emitted once, with the END action; what comes after it is
lingering: a BYE to be answered, a 2xx to be acknowledged again. Offers inside the call: :mod:`edge.offers`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final, Protocol

from edge import info, reasons, reliable, uas
from edge.dialog import Dialog, DialogKey, dialog_key
from edge.events import (
    CallAnswered,
    CallConfirmed,
    CallEnded,
    CallKey,
    CallProgressed,
    Cause,
    DigitPressed,
    Flow,
    MediaAnswered,
    OutgoingCall,
    Party,
    Refusal,
)
from edge.host import Host
from edge.invite import Acknowledgement, Answer, Detail, Nobody, answer_to, in_dialog, near_of
from edge.layer import Hop, TransactionLayer, parse_next_hop, safe_headers
from edge.message import REASON_PHRASES, NameAddress, Request, Response, printable, response_to
from edge.offers import Offers
from edge.refer import Referral
from edge.reliable import Pracks, Provisional, Provisionals
from edge.session_timer import SessionTimer
from edge.timers import Timer
from edge.transaction import Failure, ServerInvite
from edge.uac import Credential, Draft, Outgoing, RequestUser, seconds
from edge.uri import ParseError, SipUri

__all__ = ["TABLES", "TRANSITIONS", "Action", "Input", "Session", "SessionHost", "State"]


class State(StrEnum):
    """Where a call stands."""

    # as UAS
    OFFERED = "offered"
    RINGING = "ringing"
    ANSWERED = "answered"  # 2xx sent, no ACK yet
    LEAVING = "leaving"  # the same, and we want to hang up (§15: not before the ACK)
    # as UAC
    CALLING = "calling"
    PROCEEDING = "proceeding"
    CANCELLING = "cancelling"
    # either
    CONFIRMED = "confirmed"
    ENDING = "ending"  # our BYE is out
    TERMINATED = "terminated"


class Input(StrEnum):
    """What can happen to it: the user's commands, messages, timers."""

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


class Action(StrEnum):
    """What a transition does; each is carried out by the method of its name."""

    SEND_PROVISIONAL = "send 1xx"
    SEND_ANSWER = "send 2xx until ACK"
    STOP_ANSWER = "stop 2xx"
    SEND_REFUSAL = "send 300-699"
    SEND_TERMINATED = "send 487"
    SEND_ACK = "send ACK"
    SEND_BYE = "send BYE"
    SEND_CANCEL = "send CANCEL"
    REPORT_PROGRESS = "report progress"
    REPORT_ANSWER = "report answer"
    REPORT_CONFIRMED = "report confirmed"
    RESUME = "resume a kept offer"
    END = "report end"


_S, _I, _A = State, Input, Action

TRANSITIONS: Final[Mapping[tuple[State, Input], tuple[State, tuple[Action, ...]]]] = {
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
"""Ignored, among others: commands for the other role or too late, a CANCEL after the
2xx (it has its own 200 and no effect, §9.2), the ACK again, a BYE that crosses ours."""

TABLES: Final = {"call": TRANSITIONS}
"""By name, for the diagrams in the documentation."""

_EARLY: Final = frozenset({State.OFFERED, State.RINGING, State.CALLING, State.PROCEEDING, State.CANCELLING})
_TALKING: Final = frozenset({State.OFFERED, State.RINGING, State.ANSWERED, State.PROCEEDING, State.CONFIRMED})
_METHODS: Final[Mapping[Action, str]] = {action: f"_{action.name.lower()}" for action in Action}
_NOTHING: Final = Detail()
_MAX_FORKS: Final = 16


class SessionHost(Host, Protocol):
    """What a session needs of the endpoint."""

    def bind(self, session: Session, dialog: Dialog) -> None:
        """The dialog's requests are the session's from now on."""

    def unbind(self, session: Session, dialog: Dialog) -> None:
        """The dialog is over."""

    def ended(self, session: Session) -> None:
        """CallEnded went out: the user may not name the session any more."""


class Session:
    """One call. Made by :meth:`offered` or :meth:`calling`; commands and messages in, events out by the host."""

    def __init__(self, host: SessionHost, key: CallKey, state: State) -> None:
        self.state = state
        self.key = key
        self._host = host
        self._layer = host.layer
        self.dialog: Dialog | None = None
        self.flow: Flow | None = None
        self.credential: Credential | None = None
        self.timer = SessionTimer(host.layer, self)
        self.offers = Offers(host, self)
        self.referral = Referral(host, self)
        self._invite: ServerInvite | None = None
        self._answer: Answer | None = None
        self._outgoing: Outgoing | None = None
        self._acknowledgement: Acknowledgement | None = None
        self._forks: dict[str, Acknowledgement] = {}
        self._provisionals: Provisionals | None = None
        self._kept_answer: Detail | None = None
        self._pracks = Pracks(host.layer)
        self._updatable = False
        self._limit: Timer | None = None
        self._first_hop: SipUri | None = None
        self._cseq = 0

    @property
    def local_tag(self) -> str:
        """Our tag in the dialog."""
        return "" if self.dialog is None else self.dialog.local_tag

    @property
    def is_caller(self) -> bool:
        """True for the UAC, who made the Call-ID."""
        return self._outgoing is not None

    @property
    def method(self) -> str:
        """What an offer of ours goes by: UPDATE before the call is answered (RFC 3311), re-INVITE after it."""
        return "UPDATE" if self.state in _EARLY else "INVITE"

    def dialog_of(self, key: DialogKey) -> Dialog | None:
        """The dialog of this call that a request of the peer belongs to."""
        if self.dialog is not None:
            return self.dialog if self.dialog.key == key else None
        early = self._pracks.early(key)
        return None if early is None else early.dialog

    @classmethod
    def offered(
        cls, host: SessionHost, key: CallKey, request: Request, dialog: Dialog, flow: Flow, *, now: float
    ) -> Session:
        """The UAS's side of a new INVITE; 100 goes out (§8.2.6.1)."""
        session = cls(host, key, State.OFFERED)
        session.dialog, session.flow = dialog, flow
        session._invite = host.layer.serve_invite(request, flow, session, now)
        session._invite.respond(100, bytes(response_to(request, 100)), now)
        session._updatable = uas.allows(request, "UPDATE")
        if _reliably(request, sought=host.layer.settings.reliable):
            cseq = request.cseq.number
            session._provisionals = Provisionals(host.layer, cseq, session._transmit, session._unacknowledged)
        host.bind(session, dialog)
        limit_s = host.layer.settings.ring_limit_s
        if request.expires is not None:
            limit_s = min(limit_s, max(1.0, request.expires))  # §13.3.1: the invitation expires
        session._limit = host.layer.timers.call_at(now + limit_s, session._expire)
        return session

    @classmethod
    def calling(cls, host: SessionHost, key: CallKey, call: OutgoingCall) -> Session:
        """The UAC's side; :meth:`start` sends the INVITE. Raises ParseError where the call's URIs are none."""
        session = cls(host, key, State.CALLING)
        if call.username is not None and call.password is not None:
            session.credential = Credential(call.username, call.password, call.realm)
        session.offers.local = call.body
        draft, session._first_hop = _invitation(host.layer, call, session.timer)
        session._outgoing = Outgoing(host.layer, draft, session._next_cseq, session, session.credential)
        return session

    def start(self, now: float) -> None:
        """Send the INVITE of :meth:`calling`."""
        if self._outgoing is not None and self._first_hop is not None:
            self._limit = self._layer.timers.call_at(now + self._layer.settings.ring_limit_s, self._expire)
            self._outgoing.start(self._first_hop, now)

    # the user's commands

    def progress(self, status: int, body: bytes, now: float, extra: tuple[tuple[str, str], ...] = ()) -> bool:
        """A provisional response, 101..199."""
        return self._step(Input.PROGRESS, now, Detail(status=status, body=body, extra=extra))

    def answer(self, body: bytes, now: float, extra: tuple[tuple[str, str], ...] = ()) -> bool:
        """The 200, repeated until its ACK; not before a description sent reliably has its PRACK (RFC 3262 §3)."""
        detail = Detail(body=body, extra=extra)
        if self.state is State.RINGING and self._provisionals is not None and self._provisionals.holds_answer:
            self._kept_answer = detail
            return True
        return self._step(Input.ANSWER, now, detail)

    def refuse(self, refusal: Refusal, now: float) -> bool:
        """A final failure response to the INVITE."""
        detail = Detail(refusal=refusal, status=refusal.status, phrase=refusal.phrase or "", cause=Cause.REFUSED)
        return self._step(Input.REFUSE, now, detail)

    def hang_up(self, reason: str | None, now: float, extra: tuple[tuple[str, str], ...] = ()) -> bool:
        """CANCEL, BYE or 480, whichever the state asks for."""
        if self.state in (State.OFFERED, State.RINGING):
            refusal = Refusal(480, reason or "", headers=extra)
            detail = Detail(refusal=refusal, status=480, cause=Cause.REFUSED)
        elif self.state in (State.CALLING, State.PROCEEDING):
            detail = Detail(cause=Cause.CANCELLED, reason=reason)
        else:
            detail = Detail(cause=Cause.BYE, reason=reason, extra=extra)
        return self._step(Input.HANG_UP, now, detail)

    def reoffer(self, body: bytes, now: float) -> bool:
        """A new offer in an established call; waits where one is under way."""
        if self.state is State.ANSWERED:
            return self.offers.keep(body)
        if self.state is State.RINGING and self._updatable and self._described:
            return self.offers.reoffer(body, now)
        return self.state is State.CONFIRMED and self.offers.reoffer(body, now)

    def info(self, digit: str, duration_ms: int, now: float) -> bool:
        """A digit by INFO, in an established call."""
        if self.state is not State.CONFIRMED or self.dialog is None:
            return False
        self._send(self.dialog, "INFO", Nobody(), now, body=info.digit_body(digit, duration_ms), kind=info.RELAY)
        return True

    def refer(self, target: str, now: float) -> bool:
        """REFER the peer of an established call to another one."""
        return self.state is State.CONFIRMED and self.referral.ask(target, now)

    # what comes from the wire, in the dialog

    def on_ack(self, request: Request, now: float) -> None:
        """An ACK, by the INVITE it belongs to."""
        if self._answer is not None and request.cseq.number == self._answer.cseq:
            body = uas.offer(request) if self._answer.delayed else None
            self._step(Input.ACK, now, Detail(body=body))
        else:
            self.offers.on_ack(request, now)

    def on_cancel(self, request: Request, now: float) -> None:
        """A CANCEL of the first INVITE."""
        headers = self._crossing(request, "reason")
        self._step(Input.CANCEL, now, Detail(by=Party.REMOTE, cause=Cause.CANCELLED, status=487, headers=headers))

    def on_bye(self, request: Request, now: float) -> None:
        """A BYE; it has had its 200."""
        headers = self._crossing(request, "reason")
        self._step(Input.BYE, now, Detail(by=Party.REMOTE, cause=Cause.BYE, headers=headers))

    def on_invite(self, request: Request, now: float) -> None:
        """A re-INVITE."""
        if self.state in (State.OFFERED, State.RINGING):
            self.put_off(request, now)
        elif self.state in (State.ANSWERED, State.CONFIRMED):
            self._reoffered(request, now)
        else:
            self.reply(request, 481, now)

    def on_update(self, request: Request, now: float) -> None:
        """An UPDATE (RFC 3311 §5.2): a new target, a refresh of the session, a new offer."""
        if self.state not in _TALKING:
            self.reply(request, 481, now)
            return
        if uas.offer(request) is None:
            self._accept_update(request, now)
        elif self.state in (State.CONFIRMED, State.ANSWERED):
            self._reoffered(request, now)
        elif self._described_in(dialog_key(request)):
            self.offers.on_offer(request, now)
        elif self.is_caller:  # our INVITE's offer is unanswered
            self.reply(request, 491, now)
        else:  # its INVITE's is
            self.put_off(request, now)

    def _reoffered(self, request: Request, now: float) -> None:
        """A new offer after our 2xx."""
        if self.state is State.ANSWERED and self._answer is not None and self._answer.delayed:
            self.reply(request, 491, now)
            return
        self._step(Input.ACK, now)  # RFC 5407 §3.1.4: only its ACK was lost or late
        self.offers.on_offer(request, now)

    def put_off(self, request: Request, now: float) -> None:
        """Refuse an offer for now: another one is unanswered (§14.2, RFC 3311 §5.2: between 0 and 10 seconds)."""
        self.reply(request, 500, now, [("Retry-After", str(self._layer.entropy(1)[0] % 11))])

    def _accept_update(self, request: Request, now: float) -> None:
        """Without an offer: 200 at once."""
        dialog = self.dialog_of(dialog_key(request))
        if dialog is None or self.flow is None:
            return
        dialog.refresh(request)
        headers = self.timer.accept(request, now) if self.method == "INVITE" else []
        response = answer_to(self._layer, request, dialog, self.flow, b"", more=headers)
        self._layer.serve(request, self.flow, now).respond(200, bytes(response), now)

    @property
    def _offerless(self) -> bool:
        """As UAS: the INVITE had no offer, so ours goes in the first reliable response, or in the 2xx."""
        return self._invite is not None and uas.offer(self._invite.request) is None

    @property
    def _described(self) -> bool:
        """As UAS before the answer: offer and answer have been exchanged reliably (RFC 3262 §5)."""
        return self._provisionals is not None and self._provisionals.agreed

    def _described_in(self, key: DialogKey) -> bool:
        """The same, as UAS or in an early dialog of our INVITE."""
        early = self._pracks.early(key)
        return self._described if early is None else early.described

    def on_prack(self, request: Request, now: float) -> None:
        """A PRACK (RFC 3262 §3): 200 for the one response that waits for it, else 481. It may bring an answer or offer.

        Raises ParseError.
        """
        body = uas.offer(request)
        provisional = None if self._provisionals is None else self._provisionals.acknowledged(request, now)
        if provisional is None:
            self.reply(request, 481, now)
        elif body is None:
            self._reply_200(request, now)
        elif provisional.body and self._offerless:
            self._reply_200(request, now)
            self._host.emit(MediaAnswered(self.key, body))
        elif self._described:
            self.offers.on_offer(request, now)
        else:
            self.reply(request, 488, now)
        if self._provisionals is not None:
            self._provisionals.go_on(now)
        self._resume_answer(now)

    def _resume_answer(self, now: float) -> None:
        kept = self._kept_answer
        if kept is not None and self._provisionals is not None and not self._provisionals.holds_answer:
            self._kept_answer = None
            self._step(Input.ANSWER, now, kept)

    def on_info(self, request: Request, now: float) -> Refusal | None:
        """An INFO: digits, a keep-alive, or how to refuse it. Raises ParseError."""
        found = info.read_info(request)
        if isinstance(found, Refusal):
            return found
        self._reply_200(request, now)
        if found is not None and self.state in (State.ANSWERED, State.CONFIRMED):
            self._host.emit(DigitPressed(self.key, found.digit, found.duration_ms))
        return None

    def _reply_200(self, request: Request, now: float) -> None:
        if self.flow is not None:
            self._layer.serve(request, self.flow, now).respond(200, bytes(response_to(request, 200)), now)

    def _crossing(self, message: Request | Response, *more: str) -> tuple[tuple[str, str], ...]:
        return uas.allowed_headers(message, *more, allowed=self._layer.settings.headers)

    def reply(self, request: Request, status: int, now: float, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Refuse a request in the dialog without a transaction."""
        if self.flow is not None:
            self._layer.reply(request, response_to(request, status, headers=headers), self.flow, now)

    def on_no_ack(self, now: float) -> None:
        """Nobody acknowledged our refusal; the call has ended already."""

    def on_unacknowledged(self, now: float) -> None:
        """Nobody acknowledged our 2xx."""
        self._step(Input.NO_ACK, now, Detail(cause=Cause.NO_ACK))

    # what comes back to our INVITE

    def on_response(self, outgoing: Outgoing, response: Response, now: float) -> None:
        """A response to the INVITE of :meth:`calling`."""
        if response.status < 200:
            if uas.requires(response, reliable.OPTION) and not self._acknowledge(outgoing, response, now):
                return
            body = uas.offer(response)
            headers = self._crossing(response)
            detail = Detail(response.status, response.phrase, body, headers=headers, tag=response.to.tag or "")
            self._step(Input.PROVISIONAL, now, detail)
        elif response.status < 300:
            self._on_success(outgoing, response, now)
        elif self.state in (State.CALLING, State.PROCEEDING) and self.timer.raised(response):
            outgoing.again(now)
        else:
            headers = self._crossing(response, "reason", "retry-after", "warning")
            detail = Detail(response.status, response.phrase, by=Party.REMOTE, cause=Cause.REFUSED, headers=headers)
            self._step(Input.FAILURE, now, detail)

    def _acknowledge(self, outgoing: Outgoing, response: Response, now: float) -> bool:
        """PRACK a reliable provisional response (RFC 3262 §4); False for a copy of one, or one out of order."""
        early = self._pracks.take(outgoing, response, self.credential, now)
        if early is None:
            return False
        self.flow = outgoing.flow
        self._host.bind(self, early.dialog)
        return True

    def on_failure(self, outgoing: Outgoing, failure: Failure, now: float) -> None:
        """No final response to the INVITE."""
        timed_out = failure is Failure.TIMEOUT
        detail = Detail(408, cause=Cause.TIMEOUT) if timed_out else Detail(503, cause=Cause.TRANSPORT)
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
                self._step(Input.BROKEN, now, Detail(response.status, error.reason, cause=Cause.PROTOCOL))
            return
        if self.dialog is not None or self.state is State.TERMINATED:
            self._end_fork(dialog, outgoing, now)
            return
        described = self._described_in(dialog.key)
        if not described:
            self.offers.local = outgoing.request.body  # whatever another fork has changed
        self._pracks.confirm(dialog)
        self._release_early()
        self.dialog, self.flow = dialog, outgoing.flow
        self._updatable = uas.allows(response, "UPDATE")
        self.timer.agreed(response, now)
        self._acknowledgement = Acknowledgement(self._layer, dialog, outgoing)
        self._host.bind(self, dialog)
        detail = Detail(
            response.status,
            response.phrase,
            body,
            headers=self._crossing(response),
            takes_refer=uas.allows(response, "REFER"),
            takes_info=uas.allows(response, "INFO"),
            described=described,
            tag=tag,
        )
        self._step(Input.SUCCESS, now, detail)

    def _end_fork(self, dialog: Dialog, outgoing: Outgoing, now: float) -> None:
        acknowledgement = Acknowledgement(self._layer, dialog, outgoing)
        if len(self._forks) < _MAX_FORKS:
            self._forks[dialog.remote_tag] = acknowledgement
        acknowledgement.send(now)
        draft = in_dialog(dialog, "BYE", self._layer)
        goodbye = Outgoing(self._layer, draft, dialog.next_cseq, Nobody(), self.credential)
        goodbye.start(dialog.addressing()[2], now, near_of(dialog, outgoing.flow))

    # actions

    def _send_provisional(self, detail: Detail, now: float) -> None:
        body = detail.body or b""
        if self._provisionals is None:
            self._respond(detail.status, now, detail.extra, body)
            return
        # RFC 3262 §5: the first reliable response has the offer, or none goes
        if body or not self._offerless or self._described:
            self._provisionals.send(Provisional(detail.status, body, detail.extra), now)

    def _transmit(self, provisional: Provisional, rseq: int, now: float) -> None:
        headers = [("Require", reliable.OPTION), ("RSeq", str(rseq)), ("Allow", uas.ALLOW)]
        self.offers.local = provisional.body or self.offers.local
        self._respond(provisional.status, now, [*headers, *provisional.headers], provisional.body)

    def _unacknowledged(self, now: float) -> None:
        """RFC 3262 §3: no PRACK in 64*T1."""
        refusal = Refusal(504, "a provisional response was never acknowledged")
        self._step(Input.REFUSE, now, Detail(refusal=refusal, status=504, cause=Cause.TIMEOUT))

    def _send_answer(self, detail: Detail, now: float) -> None:
        if self._invite is not None and self.dialog is not None and self.flow is not None:
            request, body = self._invite.request, detail.body or b""
            if self._described:
                body = b""  # it has gone already, and may have been changed since
            else:
                self.offers.local = body
            headers = [*self.timer.accept(request, now), *safe_headers(detail.extra)]
            response = answer_to(self._layer, request, self.dialog, self.flow, body, more=headers)
            self._close_provisionals(now)
            self._answer = Answer(self._layer, self._invite, response, self)
            self._answer.start(now)
        self._stop_limit()

    def _close_provisionals(self, now: float) -> None:
        if self._provisionals is not None:
            self._provisionals.close(now)

    def _send_refusal(self, detail: Detail, now: float) -> None:
        refusal = detail.refusal or Refusal(480, "")
        headers = safe_headers(uas.refusal_headers(refusal))
        self._respond(refusal.status, now, headers, phrase=refusal.phrase)

    def _send_terminated(self, detail: Detail, now: float) -> None:
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
        extra = safe_headers(headers)
        if status >= 200:
            self._close_provisionals(now)
        if status < 200:
            extra.append(("Contact", f"<{self._layer.contact_uri(self.flow, secure=self.dialog.secure)}>"))
        if body:
            extra.append(("Content-Type", uas.SDP))
        request, tag = self._invite.request, self.dialog.local_tag
        response = response_to(request, status, to_tag=tag, headers=extra, body=body, phrase=phrase)
        self._invite.respond(status, bytes(response), now)

    def _stop_answer(self, detail: Detail, now: float) -> None:
        if self._answer is not None:
            self._answer.stop()

    def _send_ack(self, detail: Detail, now: float) -> None:
        self._stop_limit()
        if self._acknowledgement is not None:
            self._acknowledgement.send(now)

    def _send_cancel(self, detail: Detail, now: float) -> None:
        if self._outgoing is not None:
            text = None if detail.reason is None else reasons.format_reason("SIP", 487, detail.reason)
            self._outgoing.cancel(now, text)

    def _send_bye(self, detail: Detail, now: float) -> None:
        if self.dialog is None:
            return
        values = reasons.of_bye(detail.reason, expired=detail.cause is Cause.EXPIRED)
        headers = [*(("Reason", value) for value in values), *safe_headers(detail.extra)]
        self._send(self.dialog, "BYE", _Goodbye(self), now, headers)

    def _send(
        self,
        dialog: Dialog,
        method: str,
        user: RequestUser,
        now: float,
        headers: Iterable[tuple[str, str]] = (),
        *,
        body: bytes = b"",
        kind: str = uas.SDP,
    ) -> None:
        """A request of ours in the dialog, which nothing cancels."""
        draft = in_dialog(dialog, method, self._layer, headers, body=body, flow=self.flow, kind=kind)
        request = Outgoing(self._layer, draft, dialog.next_cseq, user, self.credential)
        request.start(dialog.addressing()[2], now, near_of(dialog, self.flow))

    def on_bye_done(self, now: float) -> None:
        """Our BYE was answered, or never will be."""
        self._step(Input.BYE_DONE, now)

    def _report_progress(self, detail: Detail, now: float) -> None:
        if detail.status > 100:
            progressed = CallProgressed(self.key, detail.status, detail.phrase, detail.body, detail.tag, detail.headers)
            self._host.emit(progressed)

    def _report_answer(self, detail: Detail, now: float) -> None:
        answered = CallAnswered(
            self.key,
            detail.status,
            detail.phrase,
            detail.body,
            takes_refer=detail.takes_refer,
            headers=detail.headers,
            takes_info=detail.takes_info,
            described=detail.described,
            tag=detail.tag,
        )
        self._host.emit(answered)

    def _report_confirmed(self, detail: Detail, now: float) -> None:
        self._host.emit(CallConfirmed(self.key, detail.body))

    def _resume(self, detail: Detail, now: float) -> None:
        self.offers.resume(now)

    def _end(self, detail: Detail, now: float) -> None:
        self.referral.close(now)
        phrase = detail.phrase or REASON_PHRASES.get(detail.status, "")
        self._host.emit(CallEnded(self.key, detail.by, detail.cause, detail.status, phrase, detail.headers))
        self._host.ended(self)

    # housekeeping

    def _step(self, event: Input, now: float, detail: Detail = _NOTHING) -> bool:
        """Take one step; False when the pair is ignored."""
        found = TRANSITIONS.get((self.state, event))
        if found is None:
            return False
        before, (self.state, actions) = self.state, found
        for action in actions:
            getattr(self, _METHODS[action])(detail, now)
        if self.state in (State.ENDING, State.TERMINATED) and before is not self.state:
            self._close(now)
        return True

    def _close(self, now: float) -> None:
        self._stop_limit()
        self.offers.close(now)
        self.timer.close(now)
        self._close_provisionals(now)
        self._release_early()
        if self._answer is not None:
            self._answer.stop()
        if self.state is State.TERMINATED and self.dialog is not None:
            self._host.unbind(self, self.dialog)

    def _release_early(self) -> None:
        for dialog in self._pracks.clear():
            self._host.unbind(self, dialog)

    def refresh(self, now: float) -> None:
        """Keep the session (RFC 4028 §10): by UPDATE where the peer allows it, else by re-INVITE."""
        dialog = self.dialog
        if self._updatable and dialog is not None:
            self._send(dialog, "UPDATE", _Refresh(self), now, self.timer.request_headers())
        elif not self.offers.local or not self.offers.refresh(now):
            self.timer.failed(0, now)

    def on_refreshed(self, response: Response, now: float) -> None:
        """The answer to our UPDATE."""
        status = response.status
        if status < 300:
            try:
                if self.dialog is not None:
                    self.dialog.refresh(response)
            except ParseError:
                pass  # its Contact stays what it was
            self.timer.agreed(response, now)
        elif status in (405, 501):
            self._updatable = False
            self.timer.failed(status, now, 0.0)
        else:
            self.timer.failed(status, now, 0.0 if self.timer.raised(response) else _retry_after_s(response))

    def broken(self, status: int, cause: Cause, now: float) -> None:
        """The peer has lost the session, or never acknowledged (§12.2.1.2, §14.2): say BYE and be done."""
        event = Input.NO_ACK if cause is Cause.NO_ACK else Input.BROKEN
        self._step(event, now, Detail(status, cause=cause))

    def _expire(self, now: float) -> None:
        if self.state in (State.OFFERED, State.RINGING):
            refusal = Refusal(480, "nobody answered in time")
            self._step(Input.EXPIRE, now, Detail(refusal=refusal, status=480, cause=Cause.TIMEOUT))
        else:
            self._step(Input.EXPIRE, now, Detail(status=408, cause=Cause.TIMEOUT, reason="no answer in time"))

    def _stop_limit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()

    def _next_cseq(self) -> int:
        self._cseq += 1
        return self._cseq


class _Refresh:
    """Waits for the answer to an UPDATE that refreshes the session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def on_response(self, outgoing: Outgoing, response: Response, now: float) -> None:
        if response.status >= 200:
            self._session.on_refreshed(response, now)

    def on_failure(self, outgoing: Outgoing, failure: Failure, now: float) -> None:
        self._session.timer.failed(408 if failure is Failure.TIMEOUT else 503, now)


def _retry_after_s(response: Response) -> float | None:
    """Retry-After [s], up to a minute; None where there is none to follow."""
    asked_s = seconds(response, "Retry-After")
    return None if asked_s is None else min(60.0, asked_s)


def _reliably(request: Request, *, sought: bool) -> bool:
    """Whether the provisional responses to this INVITE are reliable (RFC 3262 §3)."""
    return uas.requires(request, reliable.OPTION) or (sought and uas.supports(request, reliable.OPTION))


class _Goodbye:
    """Waits for the answer to our BYE; any final will do (§15.1.1)."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def on_response(self, outgoing: Outgoing, response: Response, now: float) -> None:
        if response.status >= 200:
            self._session.on_bye_done(now)

    def on_failure(self, outgoing: Outgoing, failure: Failure, now: float) -> None:
        self._session.on_bye_done(now)


def _invitation(layer: TransactionLayer, call: OutgoingCall, timer: SessionTimer) -> tuple[Draft, SipUri]:
    """An INVITE and the URI that says where it goes. Raises ParseError."""
    target, source = SipUri.parse(call.target), SipUri.parse(call.from_uri)
    to = NameAddress("", SipUri.parse(call.to_uri) if call.to_uri else target)
    fixed = [
        ("From", str(NameAddress(printable(call.from_name), source).with_tag(layer.new_tag()))),
        ("To", str(to)),
        ("Call-ID", call.call_id or layer.entropy(16).hex()),
        ("Allow", uas.ALLOW),
        ("Supported", uas.SUPPORTED if call.body else "timer"),  # a reliable offer would want its answer in the PRACK
        ("User-Agent", layer.settings.user_agent),
        *safe_headers(call.headers),
    ]
    if call.body:
        fixed.append(("Content-Type", uas.SDP))
    secure = target.scheme == "sips"

    def compose(hop: Hop) -> list[tuple[str, str]]:
        contact = layer.contact_uri(hop, source.user, secure=secure)
        return [*fixed, *timer.request_headers(first=True), ("Contact", f"<{contact}>")]

    next_hop = target if call.next_hop is None else parse_next_hop(call.next_hop)
    return Draft("INVITE", str(target), compose, call.body, call.max_forwards), next_hop
