"""Session timers (RFC 4028): a call whose peer is gone ends, one whose peer lives is refreshed in time.

Neither side needs them: a peer that does not know them gets none. Where we are the refresher, half the interval is
the time for it; where the peer is, the call ends a little before the interval is over (§10). A refresh goes by UPDATE
where the peer allows that, else by a re-INVITE that says our description again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from edge import uas
from edge.events import Cause, Refusal
from edge.headers import parse_integer, parse_parameters
from edge.layer import TransactionLayer
from edge.message import Message, Request, Response
from edge.timers import Timer
from edge.uri import ParseError

__all__ = [
    "OPTION",
    "TABLES",
    "TRANSITIONS",
    "Action",
    "Expires",
    "Input",
    "SessionTimer",
    "State",
    "session_expires",
    "too_small",
]

OPTION: Final = "timer"
SMALLEST_S: Final = 90
"""What §4 and §5 allow at the least [s]."""

_LONGEST_S: Final = 2**31 - 1
_RETRY_S: Final = 10.0
_MARGIN_S: Final = 32.0
_MAX_RAISES: Final = 3


class State(StrEnum):
    """Who refreshes."""

    OFF = "off"
    OURS = "ours to refresh"
    REFRESHING = "refreshing"
    THEIRS = "theirs to refresh"
    CLOSED = "closed"


class Input(StrEnum):
    """What is agreed in each 2xx, and what time brings."""

    AGREED_OURS = "we refresh"
    AGREED_THEIRS = "they refresh"
    AGREED_NONE = "no timer"
    DUE = "half the interval"
    FAILED = "refresh failed"
    GONE = "refresh: 408, 481"
    EXPIRE = "interval over"
    CLOSE = "close"


class Action(StrEnum):
    """What a transition does; each is carried out by the method of its name."""

    SCHEDULE = "start refresh timer"
    WATCH = "start expiry timer"
    REFRESH = "send refresh"
    RETRY = "start retry timer"
    STOP = "stop timers"
    BREAK = "end the call"


_S, _I, _A = State, Input, Action

_OURS: Final = (_S.OURS, (_A.STOP, _A.SCHEDULE, _A.WATCH))
_THEIRS: Final = (_S.THEIRS, (_A.STOP, _A.WATCH))
_OFF: Final = (_S.OFF, (_A.STOP,))
_CLOSED: Final = (_S.CLOSED, (_A.STOP,))
_BREAK: Final = (_S.CLOSED, (_A.STOP, _A.BREAK))

TRANSITIONS: Final[Mapping[tuple[State, Input], tuple[State, tuple[Action, ...]]]] = {
    (_S.OFF, _I.AGREED_OURS): _OURS,
    (_S.OFF, _I.AGREED_THEIRS): _THEIRS,
    (_S.OFF, _I.CLOSE): _CLOSED,
    (_S.OURS, _I.AGREED_OURS): _OURS,
    (_S.OURS, _I.AGREED_THEIRS): _THEIRS,
    (_S.OURS, _I.AGREED_NONE): _OFF,
    (_S.OURS, _I.DUE): (_S.REFRESHING, (_A.REFRESH,)),
    (_S.OURS, _I.EXPIRE): _BREAK,
    (_S.OURS, _I.CLOSE): _CLOSED,
    (_S.REFRESHING, _I.AGREED_OURS): _OURS,
    (_S.REFRESHING, _I.AGREED_THEIRS): _THEIRS,
    (_S.REFRESHING, _I.AGREED_NONE): _OFF,
    (_S.REFRESHING, _I.FAILED): (_S.OURS, (_A.RETRY,)),
    (_S.REFRESHING, _I.GONE): _BREAK,
    (_S.REFRESHING, _I.EXPIRE): _BREAK,
    (_S.REFRESHING, _I.CLOSE): _CLOSED,
    (_S.THEIRS, _I.AGREED_OURS): _OURS,
    (_S.THEIRS, _I.AGREED_THEIRS): _THEIRS,
    (_S.THEIRS, _I.AGREED_NONE): _OFF,
    (_S.THEIRS, _I.EXPIRE): _BREAK,
    (_S.THEIRS, _I.CLOSE): _CLOSED,
}
"""Ignored: everything once the call is over, and the answer to a refresh that another exchange has overtaken."""

TABLES: Final = {"session timer": TRANSITIONS}
"""By name, for the diagrams in the documentation."""

_METHODS: Final[Mapping[Action, str]] = {action: f"_{action.name.lower()}" for action in Action}


@dataclass(frozen=True, slots=True)
class Expires:
    """A Session-Expires value (§4): ``interval_s`` [s], ``refresher`` ``uac``, ``uas`` or None."""

    interval_s: int
    refresher: str | None = None


def session_expires(message: Message) -> Expires | None:
    """Session-Expires, or None. Raises ParseError."""
    value = message.headers.get("Session-Expires")
    if value is None:
        return None
    number, semicolon, tail = value.partition(";")
    parameters = dict(parse_parameters(tail)) if semicolon else {}
    refresher = (parameters.get("refresher") or "").lower() or None
    if refresher not in (None, "uac", "uas"):
        raise ParseError(400, "bad Session-Expires")
    return Expires(parse_integer(number.strip(), _LONGEST_S, "Session-Expires"), refresher)


def _min_se(message: Message) -> int:
    """Min-SE [s]: what the peer, or a proxy, takes at the least. Raises ParseError."""
    value = message.headers.get("Min-SE")
    if value is None:
        return SMALLEST_S
    return max(SMALLEST_S, parse_integer(value.partition(";")[0].strip(), _LONGEST_S, "Min-SE"))


def too_small(request: Request, least_s: int) -> Refusal | None:
    """422 for an interval below ``least_s`` (§9), where the peer could do something about it. Raises ParseError."""
    asked = session_expires(request)
    _min_se(request)
    if asked is None or asked.interval_s >= least_s or not uas.supports(request, OPTION):
        return None
    return Refusal(422, "session interval too small", headers=(("Min-SE", str(least_s)),))


class Refreshed(Protocol):
    """What a session timer needs of its call."""

    def refresh(self, now: float) -> None:
        """Send an UPDATE or a re-INVITE; :meth:`SessionTimer.agreed` or ``failed`` follows."""

    def broken(self, status: int, cause: Cause, now: float) -> None:
        """End the call."""


class SessionTimer:
    """One call's. Its 2xx are answered with :meth:`accept`, our own requests carry :meth:`request_headers`."""

    __slots__ = ("_call", "_expiry", "_interval_s", "_layer", "_least_s", "_raises", "_retry_s", "_turn", "state")

    def __init__(self, layer: TransactionLayer, call: Refreshed) -> None:
        self.state = State.OFF
        self._layer = layer
        self._call = call
        self._interval_s = layer.settings.session_expires_s
        self._least_s = layer.settings.min_se_s
        self._retry_s = _RETRY_S
        self._raises = 0
        self._turn: Timer | None = None
        self._expiry: Timer | None = None

    # as UAS

    def accept(self, request: Request, now: float) -> list[tuple[str, str]]:
        """Agree on what the peer's INVITE or UPDATE asks for; the headers of the 2xx that says so (§9)."""
        settings, asked = self._layer.settings, session_expires(request)
        supported = uas.supports(request, OPTION)
        if asked is None and not supported:
            self._step(Input.AGREED_NONE, now)
            return []
        least_s = max(_min_se(request), settings.min_se_s)
        wanted_s = settings.session_expires_s if asked is None else min(asked.interval_s, settings.session_expires_s)
        self._interval_s = max(wanted_s, least_s)
        refresher = "uas"
        if asked is not None and supported:
            refresher = asked.refresher or ("uac" if self.state is State.THEIRS else "uas")
        self._step(Input.AGREED_OURS if refresher == "uas" else Input.AGREED_THEIRS, now)
        headers = [("Session-Expires", f"{self._interval_s};refresher={refresher}")]
        return headers if refresher == "uas" else [*headers, ("Require", OPTION)]

    # as UAC

    def request_headers(self, *, first: bool = False) -> list[tuple[str, str]]:
        """What an INVITE or UPDATE of ours says (§7.1, §7.4); in an established call without a timer, nothing."""
        if self.state is State.OFF and not first:
            return []
        role = {State.OFF: "", State.THEIRS: ";refresher=uas"}.get(self.state, ";refresher=uac")
        headers = [("Session-Expires", f"{max(self._interval_s, self._least_s)}{role}")]
        return [*headers, ("Min-SE", str(self._least_s))] if self._least_s > SMALLEST_S else headers

    def agreed(self, response: Response, now: float) -> None:
        """A 2xx to an INVITE or UPDATE of ours (§7.2). What does not parse agrees on nothing."""
        try:
            granted = session_expires(response)
        except ParseError:
            granted = None
        self._raises = 0
        if granted is None:
            self._step(Input.AGREED_NONE, now)
            return
        self._interval_s = max(granted.interval_s, SMALLEST_S)
        self._step(Input.AGREED_THEIRS if granted.refresher == "uas" else Input.AGREED_OURS, now)

    def raised(self, response: Response) -> bool:
        """A 422 (§7.3): ask for as much as it says. False where that has been tried often enough, or says nothing."""
        try:
            least_s = _min_se(response)
        except ParseError:
            return False
        if response.status != 422 or self._raises >= _MAX_RAISES or "Min-SE" not in response.headers:
            return False
        self._raises += 1
        self._least_s = max(self._least_s, least_s)
        self._interval_s = max(self._interval_s, self._least_s)
        return True

    def failed(self, status: int, now: float, retry_after_s: float | None = None) -> None:
        """Our refresh was refused with ``status``, or could not be sent (0): once more, while there is time (§10)."""
        self._retry_s = _RETRY_S if retry_after_s is None else retry_after_s
        self._step(Input.GONE if status in (408, 481) else Input.FAILED, now)

    def close(self, now: float) -> None:
        """The call is over."""
        self._step(Input.CLOSE, now)

    # the machine

    def _step(self, event: Input, now: float) -> None:
        found = TRANSITIONS.get((self.state, event))
        if found is None:
            return
        self.state, actions = found
        for action in actions:
            getattr(self, _METHODS[action])(now)

    def _schedule(self, now: float) -> None:
        self._turn = self._layer.timers.call_at(now + self._interval_s / 2, self._due)

    def _retry(self, now: float) -> None:
        self._turn = self._layer.timers.call_at(now + self._retry_s, self._due)

    def _watch(self, now: float) -> None:
        """§10: who waits gives up before the interval is over, who refreshes when it is."""
        interval_s = float(self._interval_s)
        if self.state is State.THEIRS:
            interval_s -= min(_MARGIN_S, interval_s / 3)
        self._expiry = self._layer.timers.call_at(now + interval_s, self._expire)

    def _stop(self, now: float) -> None:
        for timer in (self._turn, self._expiry):
            if timer is not None:
                timer.cancel()

    def _refresh(self, now: float) -> None:
        self._call.refresh(now)

    def _break(self, now: float) -> None:
        self._call.broken(408, Cause.EXPIRED, now)

    def _due(self, now: float) -> None:
        self._step(Input.DUE, now)

    def _expire(self, now: float) -> None:
        self._step(Input.EXPIRE, now)
