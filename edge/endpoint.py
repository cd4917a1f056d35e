"""The SIP engine: messages and timers in; actions, events and the next timer out. No clock, no socket.

The shell (:mod:`edge.transport`) calls the inputs, then drains :meth:`Endpoint.actions` and
:meth:`Endpoint.events`, and calls :meth:`Endpoint.handle_timers` at :meth:`Endpoint.next_timer`. Nothing
that arrives makes an input raise, and nothing that arrives makes the engine send an INVITE.

The path of a request (RFC 3261 §8.2, §16.3's order of suspicion): is it a repetition; does it parse; is it
in a dialog of ours; is its source one of ours; do we do such a thing. Only then is there state for it:
every refusal until then is stateless (§8.2.7), with a tag that is the same for each copy of the request.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable
from itertools import count
from typing import Final

from edge import uas
from edge.actions import Action, Target
from edge.counters import Counters, SourceLog
from edge.dialog import Dialog, DialogKey, dialog_key
from edge.events import (
    CallEnded,
    CallKey,
    CallOffered,
    Cause,
    Event,
    Flow,
    OptionsAnswered,
    OutgoingCall,
    Party,
    Refusal,
    RegistrationSpec,
    TransportName,
)
from edge.headers import OWN_HEADERS
from edge.identity import identity_of
from edge.ladder import TraceEntry
from edge.layer import EndpointSettings, Hop, TransactionLayer, parse_next_hop, safe_headers
from edge.message import NameAddress, Request, Response, check_request, check_response, parse, response_to, salvage
from edge.registration import Registration
from edge.session import Session
from edge.session_timer import session_expires, too_small
from edge.throttle import Throttle
from edge.transaction import Failure, ServerInvite
from edge.trunks import Accepted, Challenge, Refused, Silent, TrunkTable, canonical_host
from edge.uac import Draft, Outgoing
from edge.uri import ParseError, SipUri

__all__ = ["Endpoint", "EndpointSettings"]

_log = logging.getLogger(__name__)

Headers = tuple[tuple[str, str], ...]


_KEEP_ALIVE: Final = b"\r\n\0 \t"
_AMPLIFICATION: Final = 1.5
_OFFERING: Final = ("INVITE", "UPDATE", "PRACK")
_IN_DIALOG_ALONE: Final = ("BYE", "NOTIFY", "UPDATE", "PRACK", "INFO")


class Endpoint:
    """One engine. Commands take ``now`` [s] by keyword; unknown and ended calls are ignored and counted."""

    def __init__(
        self,
        settings: EndpointSettings,
        trunks: TrunkTable,
        throttle: Throttle,
        counters: Counters,
        *,
        entropy: Callable[[int], bytes],
        trace: Callable[[TraceEntry], None] | None = None,
    ) -> None:
        self.settings = settings
        self.draining = False
        self.layer = TransactionLayer(settings, entropy, trace)
        self._trunks = trunks
        self._throttle = throttle
        self._counters = counters
        self._source_log = SourceLog(_log)
        self._secret = entropy(16)
        self._keys = count(1)
        self._received_octets = 0
        self._events: list[Event] = []
        self._sessions: dict[CallKey, Session] = {}
        self._dialogs: dict[DialogKey, Session] = {}
        self._questions: set[Outgoing] = set()
        self._registrations: dict[str, Registration] = {}

    # --- outputs ------------------------------------------------------------------------------

    def next_timer(self) -> float | None:
        """When :meth:`handle_timers` is due [s], None for never."""
        return self.layer.timers.next()

    def actions(self) -> list[Action]:
        """What is to be sent, resolved or closed since the last call."""
        return self.layer.actions()

    def events(self) -> list[Event]:
        """What happened since the last call."""
        drained, self._events = self._events, []
        return drained

    @property
    def calls(self) -> int:
        """Calls whose CallEnded has not been emitted."""
        return len(self._sessions)

    @property
    def pending(self) -> int:
        """Transactions, dialogs, calls and questions: 0 when quiet (registrations that rest do not count)."""
        return self.layer.pending + len(self._dialogs) + len(self._sessions) + len(self._questions)

    # --- inputs from the shell ----------------------------------------------------------------

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        """A datagram, or one framed message of a stream. Never raises."""
        if not data.strip(_KEEP_ALIVE):
            return
        self._received_octets = len(data)
        try:
            message = parse(data)
        except ParseError as error:
            self.malformed(data, error, flow, now)
            return
        self.layer.note(data, flow, now, sent=False)
        if isinstance(message, Response):
            self._receive_response(message, flow, now)
            return
        try:
            self._receive_request(message, flow, now)
        except ParseError as error:
            self._refuse_malformed(salvage(data), error, flow, now)

    def malformed(self, data: bytes, error: ParseError, flow: Flow, now: float) -> None:
        """Something that does not parse: answered where it is a request of a source we know (§8.2.7)."""
        self.layer.note(data, flow, now, sent=False)
        self._refuse_malformed(salvage(data), error, flow, now)

    def connection_closed(self, flow: Flow, now: float) -> None:
        """A stream is gone. Calls outlive it; a registration made over it is renewed."""
        self._trunks.connection_closed(flow)
        for registration in list(self._registrations.values()):
            registration.connection_closed(flow, now)

    def transport_failed(self, token: str, now: float) -> None:
        """A Dispatch could not be delivered."""
        self.layer.transport_failed(token, now)

    def resolved(self, query: int, targets: tuple[Target, ...], now: float) -> None:
        """The answer to a Resolve; no targets for a failure."""
        self.layer.resolved(query, targets, now)

    def handle_timers(self, now: float) -> None:
        """Run what is due."""
        self.layer.timers.run(now)

    # --- commands from control ----------------------------------------------------------------

    def ring(self, key: CallKey, *, now: float, headers: Headers = ()) -> None:
        """180 Ringing."""
        self.progress(key, 180, b"", now=now, headers=headers)

    def progress(self, key: CallKey, status: int, body: bytes, *, now: float, headers: Headers = ()) -> None:
        """Another provisional, 101..199; ``body`` is early media's SDP or empty."""
        extra = self._passing(headers)
        self._command(key, "progress", lambda call: 100 < status < 200 and call.progress(status, body, now, extra))

    def answer(self, key: CallKey, body: bytes, *, now: float, headers: Headers = ()) -> None:
        """200 with our SDP, repeated until the ACK. Next: CallConfirmed."""
        extra = self._passing(headers)
        self._command(key, "answer", lambda call: call.answer(body, now, extra))

    def refuse(self, key: CallKey, refusal: Refusal, *, now: float) -> None:
        """A final failure. Next: CallEnded, at once."""
        self._command(key, "refuse", lambda call: 300 <= refusal.status <= 699 and call.refuse(refusal, now))

    def hang_up(self, key: CallKey, *, now: float, reason: str | None = None, headers: Headers = ()) -> None:
        """CANCEL, BYE or 480 according to the state; ``reason`` goes along as a Reason header. Next: CallEnded."""
        extra = self._passing(headers)
        self._command(key, "hang_up", lambda call: call.hang_up(reason, now, extra))

    def press(self, key: CallKey, digit: str, duration_ms: int, *, now: float) -> None:
        """A digit by INFO (``application/dtmf-relay``), ``0-9*#A-D``; nothing tells whether the peer heard it."""
        self._command(key, "press", lambda call: call.info(digit, duration_ms, now))

    def _passing(self, headers: Headers) -> Headers:
        """Of the user's headers those that may cross to the peer, and can stand in a message. Never our own."""
        if not headers:
            return ()
        allowed = self.settings.headers
        found = [(name, value) for name, value in safe_headers(headers) if uas.crosses(name, allowed)]
        return tuple((name, value) for name, value in found if not name.lower().startswith(OWN_HEADERS))

    def accept_offer(self, key: CallKey, body: bytes, *, now: float) -> None:
        """200 to a re-INVITE. Next: MediaAnswered where it carried no offer."""
        self._command(key, "accept_offer", lambda call: call.offers.accept(body, now))

    def refuse_offer(self, key: CallKey, refusal: Refusal, *, now: float) -> None:
        """Refuse a re-INVITE; the call goes on as it was."""
        self._command(
            key, "refuse_offer", lambda call: 300 <= refusal.status <= 699 and call.offers.refuse(refusal, now)
        )

    def reoffer(self, key: CallKey, body: bytes, *, now: float) -> None:
        """Our re-INVITE. Next: MediaAnswered or MediaRefused."""
        self._command(key, "reoffer", lambda call: call.reoffer(body, now))

    def refer(self, key: CallKey, target: str, *, now: float) -> None:
        """REFER the peer to ``target``, a SIP URI. Next: ReferProgressed, then ReferEnded."""
        self._command(key, "refer", lambda call: call.refer(target, now))

    def invite(self, call: OutgoingCall, *, now: float) -> CallKey:
        """Call somebody. Next: CallProgressed, CallAnswered or CallEnded; a bad URI ends it at once."""
        key = self._new_key()
        try:
            session = Session.calling(self, key, call)
        except ParseError as error:
            self.emit(CallEnded(key, Party.LOCAL, Cause.PROTOCOL, error.status, error.reason))
            return key
        self._sessions[key] = session
        session.start(now)
        return key

    def options(self, target: str, *, now: float) -> CallKey:
        """Ask whether ``target`` is alive. Next: OptionsAnswered, with 408 when no answer came."""
        key = self._new_key()
        try:
            uri = parse_next_hop(target)
        except ParseError as error:
            self.emit(OptionsAnswered(key, error.status, error.reason))
            return key
        question = Outgoing(self.layer, self._options_draft(uri), lambda: 1, _Question(self, key))
        self._questions.add(question)
        question.start(uri, now)
        return key

    def register(self, spec: RegistrationSpec, *, now: float) -> None:
        """Keep a binding at a registrar until :meth:`unregister`. Next, repeatedly: Registered, RegistrationFailed.

        ``spec.name`` is the trunk of the calls it draws: those that show the token, or, registered without one,
        those over the registered connection.
        """
        old = self._registrations.pop(spec.name, None)
        if old is not None:
            old.abandon(now)
        registration = Registration(self, spec)
        self._registrations[spec.name] = registration
        registration.start(now)

    def unregister(self, name: str, *, now: float) -> None:
        """Remove the binding. Next: Registered with ``expires_s`` 0, or RegistrationFailed."""
        registration = self._registrations.get(name)
        if registration is None:
            self._counters.add("sip_commands_ignored", command="unregister")
        else:
            registration.stop(now)

    def _command(self, key: CallKey, name: str, command: Callable[[Session], bool]) -> None:
        session = self._sessions.get(key)
        if session is None or not command(session):
            self._counters.add("sip_commands_ignored", command=name)

    def _new_key(self) -> CallKey:
        return CallKey(f"call-{next(self._keys)}")

    def _options_draft(self, uri: SipUri) -> Draft:
        source = NameAddress("", SipUri("sip", None, self.settings.domain)).with_tag(self.layer.new_tag())
        fixed = [("From", str(source)), ("To", f"<{uri}>"), ("Call-ID", self.layer.entropy(16).hex())]
        fixed += [("Accept", uas.SDP), ("User-Agent", self.settings.user_agent)]

        def compose(hop: Hop) -> list[tuple[str, str]]:
            return [*fixed, ("Contact", f"<{self.layer.contact_uri(hop)}>")]

        return Draft("OPTIONS", str(uri), compose)

    # --- what sessions and registrations ask of their host -----------------------------------

    def emit(self, event: Event) -> None:
        """Queue an event."""
        self._events.append(event)

    def bind(self, session: Session, dialog: Dialog) -> None:
        """Requests of this dialog are the session's."""
        self._dialogs[dialog.key] = session

    def unbind(self, session: Session, dialog: Dialog) -> None:
        """The dialog is over; its late requests get 481."""
        if self._dialogs.get(dialog.key) is session:
            del self._dialogs[dialog.key]

    def ended(self, session: Session) -> None:
        """The call is no longer the user's."""
        self._sessions.pop(session.key, None)

    def answered(self, question: Outgoing, event: OptionsAnswered) -> None:
        """An OPTIONS of ours is over."""
        self._questions.discard(question)
        self.emit(event)

    @property
    def trunks(self) -> TrunkTable:
        """Where registrations note the connection they were made over."""
        return self._trunks

    def unregistered(self, registration: Registration) -> None:
        """A registration is over for good."""
        if self._registrations.get(registration.spec.name) is registration:
            del self._registrations[registration.spec.name]

    # --- responses ----------------------------------------------------------------------------

    def _receive_response(self, response: Response, flow: Flow, now: float) -> None:
        """A response to nothing of ours is dropped (§18.1.2), as is one that does not parse."""
        try:
            check_response(response)
            known = self.layer.receive_response(response, flow, now)
        except ParseError as error:
            self._drop(flow, f"response: {error.reason}")
            return
        if not known:
            self._drop(flow, "response to no request")

    # --- requests -----------------------------------------------------------------------------

    def _receive_request(self, request: Request, flow: Flow, now: float) -> None:
        if self.layer.receive_request(request, now):
            return
        check_request(request)
        if request.method == "ACK":
            self._receive_ack(request, flow, now)
            return
        request = request.with_received(flow.remote.host, flow.remote.port)
        if request.method == "CANCEL":
            self._receive_cancel(request, flow, now)
        elif request.to.tag is not None:
            self._receive_in_dialog(request, flow, now)
        else:
            self._receive_new(request, flow, now)

    def _receive_ack(self, request: Request, flow: Flow, now: float) -> None:
        """The ACK of a 2xx; those of our stateless refusals end here too (§8.2.7)."""
        session = self._dialogs.get(dialog_key(request))
        if session is not None:
            session.on_ack(request, now)
        elif request.to.tag != self._tag(request):
            self._drop(flow, "ACK of nothing")

    def _receive_cancel(self, request: Request, flow: Flow, now: float) -> None:
        """200, whatever becomes of the INVITE; 481 where there is none (§9.2).

        A CANCEL is hop by hop: one from another address than the INVITE's is a forgery.
        """
        invite = self.layer.invite_of(request)
        if invite is None or not self._same_source(invite, flow):
            self._refuse_stray(request, flow, now)
            return
        tag = None if invite.user is None else invite.user.local_tag
        self.layer.reply(request, response_to(request, 200, to_tag=tag), flow, now)
        if invite.user is not None:
            invite.user.on_cancel(request, now)

    def _same_source(self, invite: ServerInvite, flow: Flow) -> bool:
        source = invite.request.via.received or invite.request.via.host
        return canonical_host(source) == canonical_host(flow.remote.host)

    def _receive_in_dialog(self, request: Request, flow: Flow, now: float) -> None:
        key = dialog_key(request)
        session = self._dialogs.get(key)
        dialog = None if session is None else session.dialog_of(key)
        if session is None or dialog is None:
            self._refuse_stray(request, flow, now)
            return
        if not dialog.accepts(request.cseq.number):
            self._refuse(request, Refusal(500, "CSeq out of order"), flow, now)
            return
        refusal = None if request.method == "NOTIFY" else uas.check_method(request)
        refusal = refusal or uas.check_required(request)
        if refusal is None and request.method in _OFFERING:
            request.contact  # noqa: B018  a ParseError now rather than when it is accepted
            refusal = uas.check_content(request) or too_small(request, self.settings.min_se_s)
        if refusal is None and request.method != "BYE" and self.layer.full:
            refusal = self._overload()
        if refusal is not None:
            self._refuse(request, refusal, flow, now)
            return
        session.flow = flow
        if request.method == "INVITE":
            session.on_invite(request, now)
        elif request.method == "UPDATE":
            session.on_update(request, now)
        elif request.method == "PRACK":
            session.on_prack(request, now)
        elif request.method == "INFO":
            refusal = session.on_info(request, now)
            if refusal is not None:
                self._refuse(request, refusal, flow, now)
        elif request.method == "NOTIFY":
            self._notified(session, request, flow, now)
        else:
            headers = uas.CAPABILITIES if request.method == "OPTIONS" else ()
            response = response_to(request, 200, headers=headers)
            self.layer.serve(request, flow, now).respond(200, bytes(response), now)
            if request.method == "BYE":
                session.on_bye(request, now)

    def _notified(self, session: Session, request: Request, flow: Flow, now: float) -> None:
        status = session.referral.on_notify(request, now)
        if status != 200:
            self._counters.add("sip_requests_refused", source=flow.remote.host, status=str(status), reason="NOTIFY")
        headers = [("Allow-Events", "refer")] if status == 489 else []
        response = response_to(request, status, headers=headers)
        self.layer.serve(request, flow, now).respond(status, bytes(response), now)

    def _receive_new(self, request: Request, flow: Flow, now: float) -> None:
        """Outside any dialog: who is it, what do they want, have we room."""
        trunk = self._admit(request, flow, now)
        if trunk is None:
            return
        refusal = self._objection(request)
        if refusal is not None:
            self._refuse(request, refusal, flow, now)
        elif request.method == "OPTIONS":
            self._reply(request, 200, flow, now, uas.CAPABILITIES)
        else:
            self._offer(request, trunk, flow, now)

    def _admit(self, request: Request, flow: Flow, now: float) -> Accepted | None:
        """The trunk of a request, or None after answering it, or not, as its source deserves.

        Strangers are throttled by address before anything costs a hash; those we know, by identity and
        after it, for a carrier's address is all its customers' (a flood by one must not shut out another).
        """
        if self._deaf_to(flow, now):
            return None
        verdict = self._trunks.identify(flow, request, now)
        if isinstance(verdict, Silent):
            self._drop(flow, verdict.reason)
        elif isinstance(verdict, Challenge):
            self._challenge(request, verdict, flow, now)
        elif isinstance(verdict, Refused):  # the verdict is in the log already
            self._turn_away(request, verdict.refusal, flow, now)
        elif not self._throttle.admit(_bucket(verdict), now):
            self._refuse(request, Refusal(503, "too many attempts", retry_after_s=1), flow, now)
        else:
            return verdict
        return None

    def _deaf_to(self, flow: Flow, now: float) -> bool:
        """True for a stranger who has said too much lately; the drop is counted."""
        source = canonical_host(flow.remote.host)
        if self._trunks.listed(source) or self._throttle.admit(source, now):
            return False
        self._drop(flow, "throttled")
        return True

    def _challenge(self, request: Request, challenge: Challenge, flow: Flow, now: float) -> None:
        self._counters.add("sip_requests_challenged", source=flow.remote.host)
        self._reply(request, 407, flow, now, [("Proxy-Authenticate", value) for value in challenge.values])

    def _objection(self, request: Request) -> Refusal | None:
        """What forbids serving a request outside any dialog, in the order of §8.2; None to go on."""
        if request.method in _IN_DIALOG_ALONE:
            return Refusal(481, "no such call")
        refusal = uas.check_method(request)
        if refusal is not None:
            return refusal
        if self.draining:
            return Refusal(503, "draining", retry_after_s=self.settings.retry_after_s)
        if request.method == "INVITE" and self.layer.merged(request):
            return Refusal(482, "merged request")
        refusal = uas.check_required(request) or uas.check_content(request)
        if refusal is None and request.method == "INVITE":
            refusal = too_small(request, self.settings.min_se_s)
        if refusal is None and request.method == "INVITE":
            full = self.layer.full or self.calls >= self.settings.max_calls
            return self._overload() if full else None
        return refusal

    def _overload(self) -> Refusal:
        return Refusal(503, "overload", retry_after_s=self.settings.retry_after_s)

    def _offer(self, request: Request, trunk: Accepted, flow: Flow, now: float) -> None:
        """A new call: everything that can fail to parse does so before there is any state."""
        dialog = Dialog.of_server(request, self.layer.new_tag())
        who = identity_of(request, believed=self._trunks.believes(trunk.trunk))
        event = CallOffered(
            key=self._new_key(),
            trunk=trunk.trunk,
            identified_by=trunk.identified_by,
            identity=trunk.identity,
            dialed=uas.dialed(request),
            caller=who.caller.user,
            caller_name=who.caller.name,
            who=who,
            call_id=request.call_id,
            offer=uas.offer(request),
            flow=flow,
            headers=uas.allowed_headers(request, allowed=self.settings.headers),
            takes_info=uas.allows(request, "INFO"),
            takes_refer=uas.allows(request, "REFER"),
            max_forwards=_hops_left(request),
        )
        request.expires  # noqa: B018
        session_expires(request)
        self._sessions[event.key] = Session.offered(self, event.key, request, dialog, flow, now=now)
        self.emit(event)

    # --- stateless answers --------------------------------------------------------------------

    def _refuse_stray(self, request: Request, flow: Flow, now: float) -> None:
        """481 for what names a dialog or transaction that is not ours; silence for strangers."""
        if self._deaf_to(flow, now):
            return
        if isinstance(self._trunks.identify(flow, request, now), Silent):
            self._drop(flow, f"{request.method} of nothing")
        else:
            self._refuse(request, Refusal(481, "no such call"), flow, now)

    def _refuse_malformed(self, request: Request | None, error: ParseError, flow: Flow, now: float) -> None:
        if request is not None and self._deaf_to(flow, now):
            return
        if request is None or isinstance(self._trunks.identify(flow, request, now), Silent):
            self._drop(flow, error.reason)
            return
        try:
            request = request.with_received(flow.remote.host, flow.remote.port)
            self._refuse(request, Refusal(error.status, error.reason), flow, now)
        except ParseError:
            self._drop(flow, error.reason)

    def _refuse(self, request: Request, refusal: Refusal, flow: Flow, now: float) -> None:
        source, status, reason = flow.remote.host, refusal.status, refusal.reason
        self._source_log.write(
            logging.INFO, "refused", source, now, method=request.method, status=status, reason=reason
        )
        self._turn_away(request, refusal, flow, now)

    def _turn_away(self, request: Request, refusal: Refusal, flow: Flow, now: float) -> None:
        self._counters.add(
            "sip_requests_refused", source=flow.remote.host, status=str(refusal.status), reason=refusal.reason
        )
        headers = safe_headers(uas.refusal_headers(refusal))
        self._reply(request, refusal.status, flow, now, headers, refusal.phrase)

    def _reply(  # noqa: PLR0917
        self,
        request: Request,
        status: int,
        flow: Flow,
        now: float,
        headers: Iterable[tuple[str, str]] = (),
        phrase: str | None = None,
    ) -> None:
        response = response_to(request, status, to_tag=self._tag(request), headers=headers, phrase=phrase)
        if self._amplifies(response, flow):
            self._drop(flow, "answer far larger than the request")
        else:
            self.layer.reply(request, response, flow, now)

    def _amplifies(self, response: Response, flow: Flow) -> bool:
        """Whether a stranger, whose address may be forged, would have us send a victim far more than was sent."""
        if flow.transport is not TransportName.UDP or self._trunks.listed(flow.remote.host):
            return False
        return len(bytes(response)) > _AMPLIFICATION * self._received_octets

    def _tag(self, request: Request) -> str:
        """The same To tag for each copy of a request and for its ACK, with nothing remembered (§8.2.7)."""
        cseq = (request.headers.get("CSeq") or "").replace("ACK", "INVITE")
        identity = f"{request.headers.get('Call-ID')} {cseq} {request.via.branch}"
        return hashlib.blake2s(identity.encode("utf-8", "replace"), key=self._secret, digest_size=8).hexdigest()

    def _drop(self, flow: Flow, reason: str) -> None:
        self._counters.add("sip_messages_dropped", source=flow.remote.host, reason=reason)


def _bucket(verdict: Accepted) -> str:
    return f"{verdict.identified_by.value}:{verdict.trunk}:{verdict.identity}"


def _hops_left(request: Request) -> int:
    """Max-Forwards; 70 for a peer of RFC 2543, which sends none."""
    hops = request.max_forwards
    return 70 if hops is None else hops


class _Question:
    """Waits for the answer to an OPTIONS of ours."""

    def __init__(self, endpoint: Endpoint, key: CallKey) -> None:
        self._endpoint = endpoint
        self._key = key

    def on_response(self, outgoing: Outgoing, response: Response, now: float) -> None:
        if response.status >= 200:
            self._endpoint.answered(outgoing, OptionsAnswered(self._key, response.status, response.phrase))

    def on_failure(self, outgoing: Outgoing, failure: Failure, now: float) -> None:
        self._endpoint.answered(outgoing, OptionsAnswered(self._key, 408, "Request Timeout"))
