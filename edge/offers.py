"""Offer and answer by re-INVITE inside an established call (RFC 3261 §14; RFC 5407 for the races).

:data:`TRANSITIONS` is a table in the manner of :mod:`edge.transaction`; a pair that is absent is ignored. One
offer at a time, in either direction: a second one of the peer gets 500, one that crosses ours 491, and our
own waits for its turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final, Protocol

from edge import uas
from edge.dialog import Dialog
from edge.events import CallKey, Cause, Event, Flow, MediaAnswered, MediaOffered, MediaRefused, Refusal
from edge.invite import Acknowledgement, Answer, Detail, answer_to, in_dialog, near_of
from edge.layer import TransactionLayer, safe_headers
from edge.message import Request, Response, response_to
from edge.timers import Timer
from edge.transaction import Failure, ServerInvite
from edge.uac import Credential, Outgoing
from edge.uri import ParseError

__all__ = ["TABLES", "TRANSITIONS", "Action", "Call", "Input", "Offers", "OffersHost", "State"]


class State(StrEnum):
    """Whose offer is under way."""

    IDLE = "idle"
    OFFERED = "offered"  # the peer's, its re-INVITE unanswered
    ANSWERED = "answered"  # the peer's, our 2xx unacknowledged
    OFFERING = "offering"  # ours
    CLOSED = "closed"


class Input(StrEnum):
    """What can happen: the user's commands, messages, timers."""

    REINVITE = "re-INVITE"
    ACCEPT = "accept"
    REFUSE = "refuse"
    CANCEL = "CANCEL"
    ACK = "ACK"
    NO_ACK = "64*T1 without ACK"
    OFFER = "offer"
    SUCCESS = "2xx"
    FAILURE = "300-699"
    GLARE = "491"
    GONE = "481, 408"
    RETRY = "retry timer"
    EXPIRE = "no final response"
    CLOSE = "close"


class Action(StrEnum):
    """What a transition does; each is carried out by the method of its name."""

    REPORT_OFFER = "report offer"
    SEND_ANSWER = "send 2xx until ACK"
    STOP_ANSWER = "stop 2xx"
    SEND_REFUSAL = "send 300-699"
    SEND_TERMINATED = "send 487"
    SEND_INTERVAL = "send 500 Retry-After"
    SEND_PENDING = "send 491"
    SEND_REINVITE = "send re-INVITE"
    SEND_ACK = "send ACK"
    SEND_CANCEL = "send CANCEL"
    REPORT_ANSWER = "report answer"
    REPORT_REFUSED = "report refusal"
    KEEP = "keep the offer"
    RESUME = "resume a kept offer"
    WAIT = "start retry timer"
    FORGET = "forget the re-INVITE"
    BREAK = "end the call"


_S, _I, _A = State, Input, Action

TRANSITIONS: Final[Mapping[tuple[State, Input], tuple[State, tuple[Action, ...]]]] = {
    (_S.IDLE, _I.REINVITE): (_S.OFFERED, (_A.REPORT_OFFER,)),
    (_S.IDLE, _I.OFFER): (_S.OFFERING, (_A.KEEP, _A.SEND_REINVITE)),
    (_S.IDLE, _I.RETRY): (_S.OFFERING, (_A.SEND_REINVITE,)),
    (_S.IDLE, _I.CLOSE): (_S.CLOSED, ()),
    (_S.OFFERED, _I.REINVITE): (_S.OFFERED, (_A.SEND_INTERVAL,)),  # §14.2: one at a time
    (_S.OFFERED, _I.ACCEPT): (_S.ANSWERED, (_A.SEND_ANSWER,)),
    (_S.OFFERED, _I.REFUSE): (_S.IDLE, (_A.SEND_REFUSAL, _A.RESUME)),
    (_S.OFFERED, _I.CANCEL): (_S.IDLE, (_A.SEND_TERMINATED, _A.RESUME)),
    (_S.OFFERED, _I.OFFER): (_S.OFFERED, (_A.KEEP,)),
    (_S.OFFERED, _I.CLOSE): (_S.CLOSED, (_A.SEND_TERMINATED,)),  # §15.1.2
    (_S.ANSWERED, _I.ACK): (_S.IDLE, (_A.STOP_ANSWER, _A.REPORT_ANSWER, _A.RESUME)),
    (_S.ANSWERED, _I.NO_ACK): (_S.IDLE, (_A.BREAK,)),
    (_S.ANSWERED, _I.REINVITE): (_S.OFFERED, (_A.STOP_ANSWER, _A.REPORT_OFFER)),  # RFC 5407 §3.1.4: our 2xx arrived
    (_S.ANSWERED, _I.GLARE): (_S.ANSWERED, (_A.SEND_PENDING,)),  # RFC 5407 §3.1.5: its answer is still to come
    (_S.ANSWERED, _I.OFFER): (_S.ANSWERED, (_A.KEEP,)),
    (_S.ANSWERED, _I.CLOSE): (_S.CLOSED, (_A.STOP_ANSWER,)),
    (_S.OFFERING, _I.REINVITE): (_S.OFFERING, (_A.SEND_PENDING,)),  # §14.2: glare
    (_S.OFFERING, _I.SUCCESS): (_S.IDLE, (_A.SEND_ACK, _A.REPORT_ANSWER)),
    (_S.OFFERING, _I.FAILURE): (_S.IDLE, (_A.REPORT_REFUSED,)),
    (_S.OFFERING, _I.GLARE): (_S.IDLE, (_A.WAIT,)),
    (_S.OFFERING, _I.GONE): (_S.IDLE, (_A.BREAK,)),
    (_S.OFFERING, _I.EXPIRE): (_S.OFFERING, (_A.SEND_CANCEL,)),  # 64*T1 later it is GONE
    (_S.OFFERING, _I.CLOSE): (_S.CLOSED, (_A.FORGET,)),
    (_S.CLOSED, _I.SUCCESS): (_S.CLOSED, (_A.SEND_ACK,)),
}
"""Ignored, among others: an answer nobody waits for; the retry timer while the peer's own offer is being
handled (ours is resumed after it)."""

TABLES: Final = {"offer in a call": TRANSITIONS}
"""By name, for the diagrams in the documentation."""

_METHODS: Final[Mapping[Action, str]] = {action: f"_{action.name.lower()}" for action in Action}
_NOTHING: Final = Detail()
_MAX_GLARES: Final = 8


class OffersHost(Protocol):
    """What the offers of a call need of the endpoint."""

    @property
    def layer(self) -> TransactionLayer: ...
    def emit(self, event: Event) -> None:
        """Tell the user."""


class Call(Protocol):
    """What they need of their call."""

    key: CallKey
    dialog: Dialog | None
    flow: Flow | None
    credential: Credential | None

    @property
    def local_tag(self) -> str:
        """Our tag in the dialog."""

    @property
    def is_caller(self) -> bool:
        """True for the UAC of the call, who made its Call-ID."""

    def reply(self, request: Request, status: int, now: float, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Refuse a request without a transaction."""

    def broken(self, status: int, cause: Cause, now: float) -> None:
        """The peer has lost the session: end the call."""


class Offers:
    """Offer and answer by re-INVITE inside one established call (§14), one at a time in either direction."""

    def __init__(self, host: OffersHost, call: Call) -> None:
        self.state = State.IDLE
        self._host = host
        self._layer = host.layer
        self._call = call
        self._wanted: bytes | None = None
        self._glares = 0
        self._retry_timer: Timer | None = None
        self._limit: Timer | None = None
        self._invite: ServerInvite | None = None
        self._answer: Answer | None = None
        self._outgoing: Outgoing | None = None
        self._acknowledgement: Acknowledgement | None = None

    @property
    def local_tag(self) -> str:
        """Our tag in the dialog."""
        return self._call.local_tag

    def _step(self, event: Input, now: float, detail: Detail = _NOTHING) -> bool:
        """Take one step; False when the pair is ignored."""
        found = TRANSITIONS.get((self.state, event))
        if found is None:
            return False
        self.state, actions = found
        for action in actions:
            getattr(self, _METHODS[action])(detail, now)
        return True

    # the user's commands

    def accept(self, body: bytes, now: float) -> bool:
        """The 200 to the peer's re-INVITE."""
        return self._step(Input.ACCEPT, now, Detail(body=body))

    def refuse(self, refusal: Refusal, now: float) -> bool:
        """Refuse it: the session stays as it was."""
        return self._step(Input.REFUSE, now, Detail(refusal=refusal))

    def reoffer(self, body: bytes, now: float) -> bool:
        """Our own offer, now or when the one under way is done; a second one meanwhile is refused (491)."""
        if self._wanted is not None:
            self._host.emit(MediaRefused(self._call.key, 491))
            return True
        return self._step(Input.OFFER, now, Detail(body=body))

    def keep(self, body: bytes) -> bool:
        """An offer to be made once the call is confirmed."""
        if self._wanted is not None:
            self._host.emit(MediaRefused(self._call.key, 491))
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
        self._step(Input.GLARE if glare else Input.REINVITE, now, Detail(request=request))

    def on_ack(self, request: Request, now: float) -> None:
        """The ACK of our 2xx to a re-INVITE; of other ACKs nobody waits for any."""
        if self._answer is not None and request.cseq.number == self._answer.cseq:
            self._step(Input.ACK, now, Detail(request=request, body=uas.offer(request)))

    def on_cancel(self, request: Request, now: float) -> None:
        """A CANCEL of the re-INVITE: it alone is cancelled (§9.2)."""
        self._step(Input.CANCEL, now)

    def on_no_ack(self, now: float) -> None:
        """Nobody acknowledged our refusal; the session stays as it was."""

    def on_unacknowledged(self, now: float) -> None:
        """Nobody acknowledged our 2xx (§14.2)."""
        self._step(Input.NO_ACK, now, Detail(cause=Cause.NO_ACK))

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
        self._step(event, now, Detail(response.status, cause=Cause.PROTOCOL))

    def on_failure(self, outgoing: Outgoing, failure: Failure, now: float) -> None:
        """No final response: a time-out is as good as 408, a transport error as 503 (§8.1.3.1)."""
        if failure is Failure.TIMEOUT:
            self._step(Input.GONE, now, Detail(408, cause=Cause.TIMEOUT))
        else:
            self._step(Input.FAILURE, now, Detail(503))

    def _on_success(self, outgoing: Outgoing, response: Response, now: float) -> None:
        dialog = self._call.dialog
        if dialog is None or outgoing is not self._outgoing:
            return
        if self._acknowledgement is not None:
            self._acknowledgement.send(now)
            return
        self._acknowledgement = Acknowledgement(self._layer, dialog, outgoing)
        try:
            dialog.refresh(response)
            body = uas.offer(response)
        except ParseError:  # its Contact stays what it was; the ACK goes there
            body = None
        self._step(Input.SUCCESS, now, Detail(body=body))

    # actions

    def _report_offer(self, detail: Detail, now: float) -> None:
        request, flow = detail.request, self._call.flow
        if request is None or flow is None:
            return
        self._invite = self._layer.serve_invite(request, flow, self, now)
        self._invite.respond(100, bytes(response_to(request, 100)), now)
        self._host.emit(MediaOffered(self._call.key, uas.offer(request)))

    def _send_answer(self, detail: Detail, now: float) -> None:
        dialog, flow, invite = self._call.dialog, self._call.flow, self._invite
        if dialog is None or flow is None or invite is None:
            return
        dialog.refresh(invite.request)
        response = answer_to(self._layer, invite.request, dialog, flow, detail.body or b"")
        self._answer = Answer(self._layer, invite, response, self)
        self._answer.start(now)

    def _stop_answer(self, detail: Detail, now: float) -> None:
        if self._answer is not None:
            self._answer.stop()

    def _send_refusal(self, detail: Detail, now: float) -> None:
        refusal = detail.refusal or Refusal(488, "")
        self._refuse(refusal.status, safe_headers(uas.refusal_headers(refusal)), refusal.phrase, now)

    def _send_terminated(self, detail: Detail, now: float) -> None:
        self._refuse(487, (), None, now)

    def _refuse(self, status: int, headers: Iterable[tuple[str, str]], phrase: str | None, now: float) -> None:
        if self._invite is not None:
            response = response_to(self._invite.request, status, headers=headers, phrase=phrase)
            self._invite.respond(status, bytes(response), now)

    def _send_interval(self, detail: Detail, now: float) -> None:
        if detail.request is not None:  # §14.2: between 0 and 10 seconds
            headers = [("Retry-After", str(self._layer.entropy(1)[0] % 11))]
            self._call.reply(detail.request, 500, now, headers)

    def _send_pending(self, detail: Detail, now: float) -> None:
        if detail.request is not None:
            self._call.reply(detail.request, 491, now)

    def _send_reinvite(self, detail: Detail, now: float) -> None:
        dialog, flow = self._call.dialog, self._call.flow
        if dialog is None:
            return
        draft = in_dialog(dialog, "INVITE", self._layer, body=self._wanted or b"", flow=flow)
        self._acknowledgement = None
        self._outgoing = Outgoing(self._layer, draft, dialog.next_cseq, self, self._call.credential)
        self._limit = self._layer.timers.call_at(now + self._layer.settings.ring_limit_s, self._expire)
        self._outgoing.start(dialog.addressing()[2], now, near_of(dialog, flow))

    def _send_cancel(self, detail: Detail, now: float) -> None:
        if self._outgoing is not None:
            self._outgoing.cancel(now)

    def _forget(self, detail: Detail, now: float) -> None:
        if self._outgoing is not None:
            self._outgoing.forget(now)

    def _expire(self, now: float) -> None:
        self._step(Input.EXPIRE, now)

    def _send_ack(self, detail: Detail, now: float) -> None:
        if self._acknowledgement is not None:
            self._acknowledgement.send(now)

    def _report_answer(self, detail: Detail, now: float) -> None:
        """The answer to an offer of ours, in a 2xx or, where the re-INVITE had none, in the ACK."""
        if detail.request is None:
            self._settle()
        elif self._answer is None or not self._answer.delayed:
            return
        self._host.emit(MediaAnswered(self._call.key, detail.body))

    def _report_refused(self, detail: Detail, now: float) -> None:
        self._settle()
        self._host.emit(MediaRefused(self._call.key, detail.status))

    def _keep(self, detail: Detail, now: float) -> None:
        self._wanted = detail.body

    def _resume(self, detail: Detail, now: float) -> None:
        self.resume(now)

    def _wait(self, detail: Detail, now: float) -> None:
        """§14.1: 2.1 to 4 s for the owner of the Call-ID, 0 to 2 s for the other, in units of 10 ms."""
        self._glares += 1
        if self._limit is not None:
            self._limit.cancel()
        draw = int.from_bytes(self._layer.entropy(2))
        delay_s = (210 + draw % 191 if self._call.is_caller else draw % 201) / 100
        self._retry_timer = self._layer.timers.call_at(now + delay_s, self._retry)

    def _retry(self, now: float) -> None:
        self._retry_timer = None
        self._step(Input.RETRY, now)

    def _break(self, detail: Detail, now: float) -> None:
        self._call.broken(detail.status, detail.cause, now)

    def _settle(self) -> None:
        self._wanted = None
        self._glares = 0
        if self._limit is not None:
            self._limit.cancel()
