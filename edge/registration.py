"""Keeping a binding at a registrar (RFC 3261 §10.2): register, refresh, recover, remove.

:data:`TRANSITIONS` is the life of one registration; an absent pair is ignored. A binding is refreshed at
50–80 % of the time granted, so that many made at once drift apart. What fails is tried again after
:func:`retry_delay_s`.

The Contact may carry a token that selects the trunk of the calls it draws. A refresh keeps it; a registration
that begins anew after the last one was lost draws another, and the old one is good as long as the registrar
granted it, for so long its binding may stand. A registrar's addresses are tried in turn, the one that took
the last REGISTER first, and are listed with the trunks, so that none of them is a stranger.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final, Protocol

from edge.actions import Target, Transmit
from edge.auth import DigestChallenge
from edge.events import Flow, Registered, RegistrationFailed, RegistrationSpec
from edge.host import Host
from edge.layer import Hop, Hops, parse_next_hop
from edge.message import NameAddress, Response
from edge.timers import Timer
from edge.transaction import Failure
from edge.trunks import TOKEN_PARAMETER, TrunkTable
from edge.uac import Credential, Draft, Outgoing, seconds
from edge.uri import ParseError, SipUri

__all__ = ["TABLES", "TRANSITIONS", "Action", "Input", "Registration", "RegistrationHost", "State", "retry_delay_s"]


class State(StrEnum):
    """Where a registration stands."""

    IDLE = "idle"
    REGISTERING = "registering"
    REGISTERED = "registered"
    WAITING = "waiting"  # until the next attempt
    STOPPING = "stopping"  # stopped while an attempt was under way
    REMOVING = "removing"
    CLOSED = "closed"


class Input(StrEnum):
    """What can happen to it."""

    START = "start"
    GRANTED = "2xx"
    TOO_BRIEF = "423"
    FAILED = "failed"
    TIMER = "timer"
    LOST = "connection lost"
    STOP = "stop"


class Action(StrEnum):
    """What a transition does; each is carried out by the method of its name."""

    BEGIN = "begin anew"
    SEND = "send REGISTER"
    SEND_REMOVAL = "send REGISTER, expires 0"
    LENGTHEN = "take Min-Expires"
    SCHEDULE_REFRESH = "refresh at 50-80 %"
    SCHEDULE_RETRY = "back off"
    HASTEN = "retry in a second or two"
    REPORT = "report registered"
    REPORT_FAILURE = "report failure"
    REPORT_REMOVED = "report removed"
    CLOSE = "close"


_S, _I, _A = State, Input, Action

TRANSITIONS: Final[Mapping[tuple[State, Input], tuple[State, tuple[Action, ...]]]] = {
    (_S.IDLE, _I.START): (_S.REGISTERING, (_A.BEGIN, _A.SEND)),
    (_S.IDLE, _I.STOP): (_S.CLOSED, (_A.REPORT_REMOVED, _A.CLOSE)),
    (_S.REGISTERING, _I.GRANTED): (_S.REGISTERED, (_A.SCHEDULE_REFRESH, _A.REPORT)),
    (_S.REGISTERING, _I.TOO_BRIEF): (_S.REGISTERING, (_A.LENGTHEN, _A.SEND)),
    (_S.REGISTERING, _I.FAILED): (_S.WAITING, (_A.SCHEDULE_RETRY, _A.REPORT_FAILURE)),
    (_S.REGISTERING, _I.STOP): (_S.STOPPING, ()),  # §10.2: one REGISTER at a time
    (_S.STOPPING, _I.GRANTED): (_S.REMOVING, (_A.SEND_REMOVAL,)),
    (_S.STOPPING, _I.FAILED): (_S.CLOSED, (_A.REPORT_FAILURE, _A.CLOSE)),
    (_S.STOPPING, _I.TOO_BRIEF): (_S.CLOSED, (_A.REPORT_FAILURE, _A.CLOSE)),
    (_S.REGISTERED, _I.TIMER): (_S.REGISTERING, (_A.SEND,)),
    (_S.REGISTERED, _I.LOST): (_S.WAITING, (_A.HASTEN,)),
    (_S.REGISTERED, _I.STOP): (_S.REMOVING, (_A.SEND_REMOVAL,)),
    (_S.WAITING, _I.TIMER): (_S.REGISTERING, (_A.BEGIN, _A.SEND)),
    (_S.WAITING, _I.STOP): (_S.REMOVING, (_A.SEND_REMOVAL,)),  # an older binding may still stand
    (_S.REMOVING, _I.GRANTED): (_S.CLOSED, (_A.REPORT_REMOVED, _A.CLOSE)),
    (_S.REMOVING, _I.FAILED): (_S.CLOSED, (_A.REPORT_FAILURE, _A.CLOSE)),
    (_S.REMOVING, _I.TOO_BRIEF): (_S.CLOSED, (_A.REPORT_FAILURE, _A.CLOSE)),
}
"""The life of a registration. Ignored: answers to an attempt that was overtaken, a lost connection while
a new attempt is under way or waited for, a second stop."""

TABLES: Final = {"registration": TRANSITIONS}

_METHODS: Final[Mapping[Action, str]] = {action: f"_{action.name.lower()}" for action in Action}

RETRY_CAP_S: Final = 60.0
FORBIDDEN_RETRY_S: Final = 300.0
_RETRY_BASE_S: Final = 2.0
_RETRY_AFTER_CAP_S: Final = 300.0
_MAX_EXPIRES_S: Final = 86_400
_MIN_REFRESH_S: Final = 5.0
_TOKEN_OCTETS: Final = 16


def retry_delay_s(status: int, failures: int, retry_after_s: int | None, draw: float) -> float:
    """Seconds until the next attempt after ``failures`` in a row; ``draw`` in [0, 1).

    403 waits 300 s: the account is disabled, and carriers lock those that go on asking. Anything else
    doubles from 2 s, jittered downwards by up to a half, and never exceeds 60 s unless the registrar asks for more
    (Retry-After, up to 300 s).
    """
    if status == 403:
        return FORBIDDEN_RETRY_S
    backoff = min(RETRY_CAP_S, _RETRY_BASE_S * 2.0 ** min(failures, 10)) * (1 - draw / 2)
    return max(backoff, min(_RETRY_AFTER_CAP_S, retry_after_s or 0))


class RegistrationHost(Host, Protocol):
    """What a registration needs of the endpoint."""

    @property
    def trunks(self) -> TrunkTable: ...
    def unregistered(self, registration: Registration) -> None:
        """Forget a registration that is over for good."""


class Registration:
    """One binding. All its REGISTERs share Call-ID and From tag, with a rising CSeq (§10.2)."""

    def __init__(self, host: RegistrationHost, spec: RegistrationSpec) -> None:
        self.spec = spec
        self.state = State.IDLE
        self._host = host
        self._layer = host.layer
        self._call_id = self._layer.entropy(16).hex()
        self._tag = self._layer.new_tag()
        self._credential = Credential(spec.username, spec.password, spec.realm)
        self._cseq = 0
        self._asked_s = self._least_s = spec.expires_s
        self._granted_s = 0
        self._others = 0
        self._failures = 0
        self._failure = (0, "", 0.0)
        self._token: str | None = None
        self._token_granted = False
        self._target: Target | None = None
        self._flow: Flow | None = None
        self._timer: Timer | None = None
        self._keep_alive: Timer | None = None
        self._outgoing: Outgoing | None = None

    def start(self, now: float) -> None:
        """Register for the first time, after the delay the spec asks for."""
        if self.spec.delay_s > 0:
            self._timer = self._layer.timers.call_at(now + self.spec.delay_s, self._on_start)
        else:
            self._on_start(now)

    def stop(self, now: float) -> None:
        """Remove the binding, then close."""
        self._step(Input.STOP, now)

    def abandon(self, now: float) -> None:
        """Give up without a word: another registration takes the name over."""
        self.state = State.CLOSED
        self._outgoing = None
        self._quiet()

    def connection_closed(self, flow: Flow, now: float) -> None:
        """The connection a stream registration lives on is gone: calls could not reach us any more."""
        if self._flow is not None and flow.connection and flow.connection == self._flow.connection:
            self._forget_flow()
            self._step(Input.LOST, now)

    def _step(self, event: Input, now: float) -> None:
        found = TRANSITIONS.get((self.state, event))
        if found is None:
            return
        self.state, actions = found
        for action in actions:
            getattr(self, _METHODS[action])(now)

    # what comes back

    def on_response(self, outgoing: Outgoing, response: Response, now: float) -> None:
        """A response to our latest REGISTER; an overtaken one is ignored."""
        if outgoing is not self._outgoing or response.status < 200:
            return
        if response.status < 300:
            if self.state is not State.REMOVING:
                self._read_bindings(outgoing, response)
                self._settle(outgoing, now)
            self._step(Input.GRANTED, now)
            return
        self._failure = (
            response.status,
            _explained(response, self.spec.realm),
            self._delay_s(response.status, seconds(response, "Retry-After")),
        )
        self._least_s = seconds(response, "Min-Expires") or 0
        too_brief = response.status == 423 and self._asked_s < self._least_s <= _MAX_EXPIRES_S
        self._step(Input.TOO_BRIEF if too_brief else Input.FAILED, now)

    def on_failure(self, outgoing: Outgoing, failure: Failure, now: float) -> None:
        """No registrar answered."""
        if outgoing is self._outgoing:
            status, phrase = (408, "Request Timeout") if failure is Failure.TIMEOUT else (503, "Service Unavailable")
            self._failure = (status, phrase, self._delay_s(status, None))
            self._step(Input.FAILED, now)

    def _read_bindings(self, outgoing: Outgoing, response: Response) -> None:
        """§10.2.4: ``expires`` of our own Contact among those listed, else Expires, else what we asked."""
        self._granted_s, self._others = self._asked_s, 0
        try:
            if response.expires is not None:
                self._granted_s = min(response.expires, _MAX_EXPIRES_S)
            contacts = response.contacts
            sent = None if outgoing.request is None else outgoing.request.contact
        except (ParseError, ValueError):
            return
        place = None if sent is None else _place(sent.uri)
        ours = next((contact for contact in contacts if self._is_ours(contact.uri)), None)
        ours = ours or next((contact for contact in contacts if _place(contact.uri) == place), None)
        expires = None if ours is None else ours.parameter("expires")
        if expires and expires.isascii() and expires.isdigit():
            self._granted_s = min(int(expires), _MAX_EXPIRES_S)
        self._others = sum(_place(contact.uri) != place for contact in contacts)

    def _is_ours(self, uri: SipUri) -> bool:
        """By the token, which a user's other devices and our own earlier registrations have not."""
        if self._token is None:
            return uri.user == self.spec.contact_user
        return (uri.parameter(TOKEN_PARAMETER) or "").lower() == self._token

    def _settle(self, outgoing: Outgoing, now: float) -> None:
        """Note target, token and flow: calls over a registered stream are this trunk's, where it has no token.

        A carrier's proxy may bring calls of any of its customers over one connection: those show the token.
        """
        self._target = None if outgoing.hop is None else outgoing.hop.target
        self._accept_token(self._granted_s, now)
        self._token_granted = True
        self._host.trunks.expire(now)
        if outgoing.flow != self._flow:
            self._forget_flow()
            self._flow = outgoing.flow
            if self._flow is not None and self._token is None:
                self._host.trunks.add_registration(self._flow, self.spec.name)
        self._ping_later(now)

    def _accept_token(self, seconds: float, now: float) -> None:
        if self._token is not None:
            self._host.trunks.add_token(self._token, self.spec.name, now + seconds)

    # actions

    def _begin(self, now: float) -> None:
        """A new registration begins; one that was never granted is still the same."""
        self._target = None
        if self.spec.with_token and (self._token is None or self._token_granted):
            self._token, self._token_granted = self._layer.entropy(_TOKEN_OCTETS).hex(), False

    def _send(self, now: float) -> None:
        if not self._token_granted:
            self._accept_token(self._asked_s, now)  # a call may overtake the 200
        self._register(self._asked_s, now)

    def _send_removal(self, now: float) -> None:
        self._quiet(keep_flow=True)
        self._register(0, now)

    def _register(self, expires_s: int, now: float) -> None:
        self._cancel_timer()
        try:
            draft, next_hop = self._draft(expires_s)
        except ParseError as error:
            self._failure = (error.status, error.reason, FORBIDDEN_RETRY_S)
            self._step(Input.FAILED, now)
            return
        self._outgoing = outgoing = Outgoing(self._layer, draft, self._next_cseq, self, self._credential)
        self._layer.find(next_hop, lambda hops, at: self._found(outgoing, hops, at), now)

    def _found(self, outgoing: Outgoing, hops: Hops, now: float) -> None:
        """The registrar's addresses: listed, and tried in their order but for the one that took us last."""
        if outgoing is not self._outgoing:
            return
        if hops:
            self._list(hop.target.address.host for hop in hops)
        outgoing.start_at(tuple(sorted(hops, key=lambda hop: hop.target != self._target)), now)

    def _list(self, hosts: Iterable[str]) -> None:
        used = () if self._flow is None else (self._flow.remote.host,)
        self._host.trunks.set_registrars(self.spec.name, (*hosts, *used))

    def _draft(self, expires_s: int) -> tuple[Draft, SipUri]:
        spec = self.spec
        registrar = parse_next_hop(spec.registrar)
        address = NameAddress("", parse_next_hop(spec.address_of_record))
        fixed = [
            ("From", str(address.with_tag(self._tag))),
            ("To", str(address)),
            ("Call-ID", self._call_id),
            ("Expires", str(expires_s)),
            ("User-Agent", self._layer.settings.user_agent),
        ]

        def compose(hop: Hop) -> list[tuple[str, str]]:
            contact = self._layer.contact_uri(hop, spec.contact_user)
            token = () if self._token is None else ((TOKEN_PARAMETER, self._token),)
            contact = contact.with_parameters([*contact.parameters, *spec.contact_parameters, *token])
            return [*fixed, ("Contact", f"<{contact}>;expires={expires_s}")]

        next_hop = registrar if spec.next_hop is None else parse_next_hop(spec.next_hop)
        return Draft("REGISTER", str(SipUri(registrar.scheme, None, registrar.host, registrar.port)), compose), next_hop

    def _lengthen(self, now: float) -> None:
        self._asked_s = self._least_s  # §10.2.8

    def _schedule_refresh(self, now: float) -> None:
        self._failures = 0
        delay_s = max(_MIN_REFRESH_S, self._granted_s * (0.5 + 0.3 * self._draw()))
        self._timer = self._layer.timers.call_at(now + delay_s, self._on_timer)

    def _schedule_retry(self, now: float) -> None:
        self._failures += 1
        self._timer = self._layer.timers.call_at(now + self._failure[2], self._on_timer)

    def _hasten(self, now: float) -> None:
        self._timer = self._layer.timers.call_at(now + 1 + self._draw(), self._on_timer)

    def _report(self, now: float) -> None:
        self._host.emit(Registered(self.spec.name, self._granted_s, self._others))

    def _report_failure(self, now: float) -> None:
        status, phrase, delay_s = self._failure
        retry_in_s = delay_s if self.state is State.WAITING else None
        self._host.emit(RegistrationFailed(self.spec.name, status, phrase, retry_in_s))

    def _report_removed(self, now: float) -> None:
        self._host.emit(Registered(self.spec.name, 0))

    def _close(self, now: float) -> None:
        self._quiet()
        self._host.unregistered(self)

    # timers

    def _on_start(self, now: float) -> None:
        self._step(Input.START, now)

    def _on_timer(self, now: float) -> None:
        self._step(Input.TIMER, now)

    def _ping_later(self, now: float) -> None:
        """Keep the way through NATs open (RFC 5626 §3.5.1): an empty line pair every 25 s or so."""
        if self._keep_alive is not None:
            self._keep_alive.cancel()
        interval_s = self._layer.settings.keep_alive_s * (0.8 + 0.2 * self._draw())
        self._keep_alive = self._layer.timers.call_at(now + interval_s, self._ping)

    def _ping(self, now: float) -> None:
        if self._flow is not None:
            self._layer.perform(Transmit(b"\r\n\r\n", self._flow), now)
            self._ping_later(now)

    def _quiet(self, *, keep_flow: bool = False) -> None:
        self._cancel_timer()
        if self._keep_alive is not None:
            self._keep_alive.cancel()
        if not keep_flow:
            self._forget_flow()
            self._host.trunks.set_registrars(self.spec.name, ())

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _forget_flow(self) -> None:
        if self._flow is not None:
            self._host.trunks.remove_registration(self._flow, self.spec.name)
            self._flow = None

    def _delay_s(self, status: int, retry_after_s: int | None) -> float:
        return retry_delay_s(status, self._failures, retry_after_s, self._draw())

    def _next_cseq(self) -> int:
        self._cseq += 1
        return self._cseq

    def _draw(self) -> float:
        return int.from_bytes(self._layer.entropy(4)) / 2**32


def _place(uri: SipUri) -> tuple[str, int | None]:
    return uri.host, uri.port


def _explained(response: Response, realm: str | None) -> str:
    """The phrase; of a challenge that was not answered for its realm, what was wrong with it."""
    if realm is None or response.status not in (401, 407):
        return response.phrase
    name = "WWW-Authenticate" if response.status == 401 else "Proxy-Authenticate"
    return response.phrase if realm in _realms(response.headers.lines(name)) else f"challenged for a realm not {realm}"


def _realms(challenges: Iterable[str]) -> set[str]:
    found = set()
    for challenge in challenges:
        try:
            found.add(DigestChallenge.parse(challenge).realm)
        except ParseError:
            continue
    return found
