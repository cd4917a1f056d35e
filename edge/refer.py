"""Our REFER in an established call, and what the peer tells of it (RFC 3515).

The 202 says only that the peer will try. How it went is in the status line (``message/sipfrag``, RFC 3420) of the
NOTIFYs that follow, and nowhere else: a referral is over when one of them has a final status, when the peer ends the
subscription without having told any, when it lets it expire, or when the call ends.

A REFER that arrives is no business of this module, nor of any other: it gets 405 (:func:`edge.uas.check_method`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from edge.events import ReferEnded, ReferProgressed, ReferSource
from edge.host import DialogOwner, Host
from edge.invite import in_dialog, near_of
from edge.layer import Hop
from edge.message import REASON_PHRASES, Request, Response, printable
from edge.timers import Timer
from edge.transaction import Failure
from edge.uac import Draft, Outgoing
from edge.uri import ParseError

__all__ = ["TABLES", "TRANSITIONS", "Action", "Input", "Referral", "State"]


class State(StrEnum):
    """Where a referral stands."""

    IDLE = "idle"
    ASKED = "asked"  # the REFER is unanswered
    TRYING = "trying"  # 2xx: the NOTIFYs tell the rest
    CLOSED = "closed"


class Input(StrEnum):
    """What can happen: the user's command, messages, timers."""

    ASK = "ask"
    SUCCESS = "2xx"
    FAILURE = "300-699"
    UNREACHABLE = "no response"
    PROGRESS = "NOTIFY 1xx"
    OUTCOME = "NOTIFY 200-699"
    TERMINATED = "NOTIFY terminated"
    EXPIRE = "subscription expired"
    CLOSE = "close"


class Action(StrEnum):
    """What a transition does; each is carried out by the method of its name."""

    SEND_REFER = "send REFER"
    WATCH = "start expiry timer"
    STOP = "stop expiry timer"
    REPORT_PROGRESS = "report progress"
    REPORT_END = "report end"


_S, _I, _A = State, Input, Action

_END: Final = (_S.IDLE, (_A.STOP, _A.REPORT_END))

TRANSITIONS: Final[Mapping[tuple[State, Input], tuple[State, tuple[Action, ...]]]] = {
    (_S.IDLE, _I.ASK): (_S.ASKED, (_A.SEND_REFER,)),
    (_S.IDLE, _I.CLOSE): (_S.CLOSED, ()),
    (_S.ASKED, _I.SUCCESS): (_S.TRYING, (_A.WATCH, _A.REPORT_PROGRESS)),
    (_S.ASKED, _I.FAILURE): _END,
    (_S.ASKED, _I.UNREACHABLE): _END,
    (_S.ASKED, _I.PROGRESS): (_S.ASKED, (_A.REPORT_PROGRESS,)),  # §2.4.4: a NOTIFY may overtake the 202
    (_S.ASKED, _I.OUTCOME): _END,
    (_S.ASKED, _I.TERMINATED): _END,
    (_S.ASKED, _I.CLOSE): (_S.CLOSED, (_A.STOP, _A.REPORT_END)),
    (_S.TRYING, _I.PROGRESS): (_S.TRYING, (_A.WATCH, _A.REPORT_PROGRESS)),
    (_S.TRYING, _I.OUTCOME): _END,
    (_S.TRYING, _I.TERMINATED): _END,
    (_S.TRYING, _I.EXPIRE): _END,
    (_S.TRYING, _I.CLOSE): (_S.CLOSED, (_A.STOP, _A.REPORT_END)),
}
"""Ignored, among others: a NOTIFY after the outcome, the 202 of a REFER whose outcome came first."""

TABLES: Final = {"REFER in a call": TRANSITIONS}
"""By name, for the diagrams in the documentation."""

_METHODS: Final[Mapping[Action, str]] = {action: f"_{action.name.lower()}" for action in Action}
_STATUS_LINE: Final = re.compile(rb"SIP/2\.0 ([1-6][0-9]{2})(?: ([^\r\n]*))?")
_LONGEST_S: Final = 180.0
"""How long a subscription is waited for that says nothing of its end, or that claims to last for ever [s]."""


@dataclass(frozen=True, slots=True)
class _Told:
    status: int = 0
    phrase: str = ""
    source: ReferSource = ReferSource.NOTIFY
    expires_s: float = _LONGEST_S
    target: str = ""


class Referral:
    """The REFERs of one call, one at a time."""

    def __init__(self, host: Host, call: DialogOwner) -> None:
        self.state = State.IDLE
        self._host = host
        self._layer = host.layer
        self._call = call
        self._outgoing: Outgoing | None = None
        self._expiry: Timer | None = None

    def ask(self, target: str, now: float) -> bool:
        """REFER the peer to ``target``, a SIP URI. False: one is under way, or the call is over."""
        return self._call.dialog is not None and self._step(Input.ASK, now, _Told(target=target))

    def close(self, now: float) -> None:
        """The call ends; what is not known by now never will be."""
        self._step(Input.CLOSE, now, _Told(source=ReferSource.CALL_ENDED))

    # what comes from the wire

    def on_notify(self, request: Request, now: float) -> int:
        """The status to answer a NOTIFY in the call's dialog with; 481 where we never asked (RFC 6665 §4.1.3)."""
        if self._outgoing is None:
            return 481
        package, _, parameters = (request.headers.get("Event") or "").partition(";")
        if package.strip().lower() != "refer":
            return 489
        if self._is_current(parameters):
            try:
                self._notified(request, now)
            except ParseError as error:
                return error.status
        return 200

    def _is_current(self, parameters: str) -> bool:
        """§2.4.6: an ``id`` is the CSeq number of the REFER it is about; without one it is about the only one."""
        found = re.search(r"(?:^|;)\s*id\s*=\s*([0-9]+)", parameters)
        request = self._outgoing.request if self._outgoing is not None else None
        return found is None or request is None or int(found[1]) == request.cseq.number

    def _notified(self, request: Request, now: float) -> None:
        substate, _, parameters = (request.headers.get("Subscription-State") or "active").partition(";")
        status, phrase = _fragment(request)
        told = _Told(status, phrase, expires_s=_expires_s(parameters))
        if status >= 200:
            self._step(Input.OUTCOME, now, told)
        elif substate.strip().lower() == "terminated":
            self._step(Input.TERMINATED, now, _Told(source=ReferSource.TERMINATED))
        else:
            self._step(Input.PROGRESS, now, told)

    def on_response(self, outgoing: Outgoing, response: Response, now: float) -> None:
        """An answer to the REFER itself."""
        if outgoing is not self._outgoing or response.status < 200:
            return
        accepted = response.status < 300
        source = ReferSource.NOTIFY if accepted else ReferSource.REFUSED
        told = _Told(response.status, printable(response.phrase), source)
        self._step(Input.SUCCESS if accepted else Input.FAILURE, now, told)

    def on_failure(self, outgoing: Outgoing, failure: Failure, now: float) -> None:
        """No answer to it."""
        if outgoing is self._outgoing:
            status = 408 if failure is Failure.TIMEOUT else 503
            self._step(Input.UNREACHABLE, now, _Told(status, REASON_PHRASES[status], ReferSource.REFUSED))

    def _on_expiry(self, now: float) -> None:
        self._step(Input.EXPIRE, now, _Told(source=ReferSource.EXPIRED))

    # actions

    def _step(self, event: Input, now: float, told: _Told) -> bool:
        """Take one step; False when the pair is ignored."""
        found = TRANSITIONS.get((self.state, event))
        if found is None:
            return False
        self.state, actions = found
        for action in actions:
            getattr(self, _METHODS[action])(told, now)
        return True

    def _send_refer(self, told: _Told, now: float) -> None:
        dialog, flow = self._call.dialog, self._call.flow
        if dialog is None:
            return
        ours = dialog.local.partition(";tag=")[0]
        draft = in_dialog(dialog, "REFER", self._layer, [("Refer-To", f"<{told.target}>"), ("Referred-By", ours)])

        def compose(hop: Hop) -> list[tuple[str, str]]:
            contact = self._layer.contact_uri(hop if flow is None else flow, secure=dialog.secure)
            return [*draft.headers(hop), ("Contact", f"<{contact}>")]

        whole = Draft(draft.method, draft.uri, compose)
        self._outgoing = Outgoing(self._layer, whole, dialog.next_cseq, self, self._call.credential)
        self._outgoing.start(dialog.addressing()[2], now, near_of(dialog, flow))

    def _watch(self, told: _Told, now: float) -> None:
        self._stop(told, now)
        self._expiry = self._layer.timers.call_at(now + told.expires_s, self._on_expiry)

    def _stop(self, told: _Told, now: float) -> None:
        if self._expiry is not None:
            self._expiry.cancel()

    def _report_progress(self, told: _Told, now: float) -> None:
        self._host.emit(ReferProgressed(self._call.key, told.status, told.phrase))

    def _report_end(self, told: _Told, now: float) -> None:
        self._host.emit(ReferEnded(self._call.key, told.status, told.phrase, told.source))


def _fragment(request: Request) -> tuple[int, str]:
    """Status and phrase of a sipfrag; 100 for a NOTIFY without one. Raises ParseError."""
    if not request.body:
        return 100, ""
    if request.content_type is None or request.content_type.value != "message/sipfrag":
        raise ParseError(415, "not a sipfrag")
    found = _STATUS_LINE.match(request.body.lstrip())
    if found is None:
        raise ParseError(400, "sipfrag without a status line")
    return int(found[1]), printable((found[2] or b"").decode("utf-8", "replace").strip())


def _expires_s(parameters: str) -> float:
    found = re.search(r"(?:^|;)\s*expires\s*=\s*([0-9]{1,9})", parameters, re.IGNORECASE)
    return min(_LONGEST_S, max(1.0, float(found[1]))) if found else _LONGEST_S
