"""Offer and answer inside a call, by re-INVITE (RFC 3261 §14), UPDATE (RFC 3311) or PRACK (RFC 3262 §5).

RFC 5407 has the races.

:data:`TRANSITIONS` is a table in the manner of :mod:`edge.transaction`; a pair that is absent is ignored. One
offer at a time, in either direction: a second one of the peer gets 500, one that crosses ours 491, and our
own waits for its turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final, Protocol

from edge import uas
from edge.dialog import Dialog, DialogKey, dialog_key
from edge.events import Cause, MediaAnswered, MediaOffered, MediaRefused, Refusal
from edge.host import DialogOwner, Host
from edge.invite import Acknowledgement, Answer, Detail, answer_to, in_dialog, near_of
from edge.layer import safe_headers
from edge.message import Request, Response, response_to
from edge.session_timer import SessionTimer
from edge.timers import Timer
from edge.transaction import Failure, ServerInvite, ServerNonInvite
from edge.uac import Outgoing
from edge.uri import ParseError

__all__ = ["TABLES", "TRANSITIONS", "Action", "Call", "Input", "Offers", "State"]


class State(StrEnum):
    """Whose offer is under way."""

    IDLE = "idle"
    OFFERED = "offered"  # the peer's, its re-INVITE unanswered
    UPDATED = "updated"  # the peer's, its UPDATE or PRACK unanswered
    ANSWERED = "answered"  # the peer's, our 2xx unacknowledged
    OFFERING = "offering"  # ours
    CLOSED = "closed"


class Input(StrEnum):
    """What can happen: the user's commands, messages, timers."""

    REINVITE = "re-INVITE"
    UPDATE = "UPDATE"
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
    REPORT_UPDATE = "report offer of UPDATE"
    SEND_UPDATED = "send 200"
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
    (_S.IDLE, _I.UPDATE): (_S.UPDATED, (_A.REPORT_UPDATE,)),
    (_S.IDLE, _I.OFFER): (_S.OFFERING, (_A.KEEP, _A.SEND_REINVITE)),
    (_S.IDLE, _I.RETRY): (_S.OFFERING, (_A.SEND_REINVITE,)),
    (_S.IDLE, _I.CLOSE): (_S.CLOSED, ()),
    (_S.OFFERED, _I.REINVITE): (_S.OFFERED, (_A.SEND_INTERVAL,)),  # §14.2: one at a time
    (_S.OFFERED, _I.UPDATE): (_S.OFFERED, (_A.SEND_INTERVAL,)),  # RFC 3311 §5.2
    (_S.OFFERED, _I.ACCEPT): (_S.ANSWERED, (_A.SEND_ANSWER,)),
    (_S.OFFERED, _I.REFUSE): (_S.IDLE, (_A.SEND_REFUSAL, _A.RESUME)),
    (_S.OFFERED, _I.CANCEL): (_S.IDLE, (_A.SEND_TERMINATED, _A.RESUME)),
    (_S.OFFERED, _I.OFFER): (_S.OFFERED, (_A.KEEP,)),
    (_S.OFFERED, _I.CLOSE): (_S.CLOSED, (_A.SEND_TERMINATED,)),  # §15.1.2
    (_S.UPDATED, _I.REINVITE): (_S.UPDATED, (_A.SEND_INTERVAL,)),
    (_S.UPDATED, _I.UPDATE): (_S.UPDATED, (_A.SEND_INTERVAL,)),
    (_S.UPDATED, _I.ACCEPT): (_S.IDLE, (_A.SEND_UPDATED, _A.RESUME)),
    (_S.UPDATED, _I.REFUSE): (_S.IDLE, (_A.SEND_REFUSAL, _A.RESUME)),
    (_S.UPDATED, _I.OFFER): (_S.UPDATED, (_A.KEEP,)),
    (_S.UPDATED, _I.CLOSE): (_S.CLOSED, (_A.SEND_TERMINATED,)),
    (_S.ANSWERED, _I.ACK): (_S.IDLE, (_A.STOP_ANSWER, _A.REPORT_ANSWER, _A.RESUME)),
    (_S.ANSWERED, _I.NO_ACK): (_S.IDLE, (_A.BREAK,)),
    (_S.ANSWERED, _I.REINVITE): (_S.OFFERED, (_A.STOP_ANSWER, _A.REPORT_OFFER)),  # RFC 5407 §3.1.4: our 2xx arrived
    (_S.ANSWERED, _I.UPDATE): (_S.UPDATED, (_A.STOP_ANSWER, _A.REPORT_UPDATE)),
    (_S.ANSWERED, _I.GLARE): (_S.ANSWERED, (_A.SEND_PENDING,)),  # RFC 5407 §3.1.5: its answer is still to come
    (_S.ANSWERED, _I.OFFER): (_S.ANSWERED, (_A.KEEP,)),
    (_S.ANSWERED, _I.CLOSE): (_S.CLOSED, (_A.STOP_ANSWER,)),
    (_S.OFFERING, _I.REINVITE): (_S.OFFERING, (_A.SEND_PENDING,)),  # §14.2: glare
    (_S.OFFERING, _I.UPDATE): (_S.OFFERING, (_A.SEND_PENDING,)),  # RFC 3311 §5.2
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


class Call(DialogOwner, Protocol):
    """What the offers of a call need of it."""

    timer: SessionTimer

    @property
    def local_tag(self) -> str:
        """Our tag in the dialog."""

    @property
    def is_caller(self) -> bool:
        """True for the UAC of the call, who made its Call-ID."""

    @property
    def method(self) -> str:
        """What an offer of ours goes by: UPDATE before the call is answered, INVITE after it."""

    def dialog_of(self, key: DialogKey) -> Dialog | None:
        """The dialog of this call that a request of the peer belongs to; before the 2xx there may be several."""

    def reply(self, request: Request, status: int, now: float) -> None:
        """Refuse a request without a transaction."""

    def put_off(self, request: Request, now: float) -> None:
        """Refuse an offer for now: another one is unanswered."""

    def broken(self, status: int, cause: Cause, now: float) -> None:
        """The peer has lost the session: end the call."""


class Offers:
    """Offer and answer inside one call, one at a time in either direction.

    ``local`` is the description of ours that holds: what a session refresh says again (RFC 4028 §7.4).
    """

    def __init__(self, host: Host, call: Call) -> None:
        self.state = State.IDLE
        self.local = b""
        self._host = host
        self._layer = host.layer
        self._call = call
        self._wanted: bytes | None = None
        self._glares = 0
        self._retry_timer: Timer | None = None
        self._limit: Timer | None = None
        self._offered: ServerInvite | ServerNonInvite | None = None
        self._refreshing = False
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

    def refresh(self, now: float) -> bool:
        """A re-INVITE with our description as it is (RFC 4028 §7.4); False while an offer is under way."""
        if self.state is not State.IDLE or self._wanted is not None:
            return False
        self._refreshing = True
        return self._step(Input.OFFER, now, Detail(body=self.local))

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

    def on_offer(self, request: Request, now: float) -> None:
        """A re-INVITE that the call lets through, or an UPDATE or PRACK with an offer that its 2xx is to answer."""
        event = Input.REINVITE if request.method == "INVITE" else Input.UPDATE
        glare = self.state is State.ANSWERED and self._answer is not None and self._answer.delayed
        self._step(Input.GLARE if glare else event, now, Detail(request=request))

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
        if response.status == 422 and self._call.timer.raised(response):
            event = Input.GLARE  # RFC 4028 §7.3: once more, with as much as it asks for
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
        if outgoing.request is not None and outgoing.request.method == "INVITE":
            self._acknowledgement = Acknowledgement(self._layer, dialog, outgoing)
        if self.state is State.OFFERING:
            self._call.timer.agreed(response, now)
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
        self._offered = self._layer.serve_invite(request, flow, self, now)
        self._offered.respond(100, bytes(response_to(request, 100)), now)
        self._host.emit(MediaOffered(self._call.key, uas.offer(request)))

    def _report_update(self, detail: Detail, now: float) -> None:
        request, flow = detail.request, self._call.flow
        if request is not None and flow is not None:
            self._offered = self._layer.serve(request, flow, now)
            self._host.emit(MediaOffered(self._call.key, uas.offer(request)))

    def _send_answer(self, detail: Detail, now: float) -> None:
        invite, response = self._offered, self._acceptance(detail, now)
        if isinstance(invite, ServerInvite) and response is not None:
            self._answer = Answer(self._layer, invite, response, self)
            self._answer.start(now)

    def _send_updated(self, detail: Detail, now: float) -> None:
        response = self._acceptance(detail, now)
        if self._offered is not None and response is not None:
            self._offered.respond(200, bytes(response), now)

    def _acceptance(self, detail: Detail, now: float) -> Response | None:
        """The 2xx to the peer's offer, and what it changes: the remote target, the session timer."""
        flow, offered = self._call.flow, self._offered
        dialog = None if offered is None else self._call.dialog_of(dialog_key(offered.request))
        if dialog is None or flow is None or offered is None:
            return None
        request, self.local = offered.request, detail.body or b""
        headers: list[tuple[str, str]] = []
        if request.method != "PRACK":
            dialog.refresh(request)
        if request.method != "PRACK" and self._call.method == "INVITE":
            headers = self._call.timer.accept(request, now)
        return answer_to(self._layer, request, dialog, flow, self.local, more=headers)

    def _stop_answer(self, detail: Detail, now: float) -> None:
        if self._answer is not None:
            self._answer.stop()

    def _send_refusal(self, detail: Detail, now: float) -> None:
        refusal = detail.refusal or Refusal(488, "")
        self._refuse(refusal.status, safe_headers(uas.refusal_headers(refusal)), refusal.phrase, now)

    def _send_terminated(self, detail: Detail, now: float) -> None:
        self._refuse(487, (), None, now)

    def _refuse(self, status: int, headers: Iterable[tuple[str, str]], phrase: str | None, now: float) -> None:
        if self._offered is not None:
            response = response_to(self._offered.request, status, headers=headers, phrase=phrase)
            self._offered.respond(status, bytes(response), now)

    def _send_interval(self, detail: Detail, now: float) -> None:
        if detail.request is not None:
            self._call.put_off(detail.request, now)

    def _send_pending(self, detail: Detail, now: float) -> None:
        if detail.request is not None:
            self._call.reply(detail.request, 491, now)

    def _send_reinvite(self, detail: Detail, now: float) -> None:
        dialog, flow = self._call.dialog, self._call.flow
        if dialog is None:
            return
        headers = self._call.timer.request_headers()
        draft = in_dialog(dialog, self._call.method, self._layer, headers, body=self._wanted or b"", flow=flow)
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
        refresh = self._refreshing
        if detail.request is None:
            self.local = self._wanted or b""
            self._settle()
        elif self._answer is None or not self._answer.delayed:
            return
        if detail.body is not None or not refresh:
            self._host.emit(MediaAnswered(self._call.key, detail.body, refresh))

    def _report_refused(self, detail: Detail, now: float) -> None:
        refresh = self._refreshing
        self._settle()
        if refresh:
            self._call.timer.failed(detail.status, now)
        else:
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
        self._refreshing = False
        self._glares = 0
        if self._limit is not None:
            self._limit.cancel()
