"""One request of ours until its final response (RFC 3261 §8.1): targets in turn, digest, TCP for the big.

:class:`Outgoing` makes as many transactions as that takes; its user sees one request. A redirection is
a refusal like any other: nothing that arrives makes the edge send an INVITE elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from edge.actions import Target
from edge.auth import DigestChallenge, answer_challenge
from edge.events import Flow, TransportName
from edge.layer import Hop, Hops, Near, TransactionLayer
from edge.message import Request, Response
from edge.timers import Timer
from edge.transaction import ClientInvite, ClientNonInvite, Failure, Transaction
from edge.trunks import canonical_host
from edge.uri import ParseError, SipUri

__all__ = ["Credential", "Draft", "Outgoing", "RequestUser", "cancellation", "seconds"]

_AUTHORIZATION: Final = {
    401: ("WWW-Authenticate", "Authorization"),
    407: ("Proxy-Authenticate", "Proxy-Authorization"),
}


@dataclass(frozen=True, slots=True)
class Credential:
    """What answers a challenge; ``realm`` None: whatever realm the configured peer names."""

    username: str
    password: str = field(repr=False)
    realm: str | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """A request before it is known where it goes.

    ``headers`` gives, for a hop, everything but Via, Max-Forwards, CSeq and credentials.
    ``max_forwards`` is the hops it may go.
    """

    method: str
    uri: str
    headers: Callable[[Hop], list[tuple[str, str]]]
    body: bytes = b""
    max_forwards: int = 70


class RequestUser(Protocol):
    """Who wants the request answered."""

    def on_response(self, outgoing: Outgoing, response: Response, now: float) -> None:
        """Each provisional, the one final, and every 2xx to an INVITE again."""

    def on_failure(self, outgoing: Outgoing, failure: Failure, now: float) -> None:
        """No final response will come: every target was tried."""


class Outgoing:
    """Drives one :class:`Draft` to its end. ``cseq`` draws the number of each new attempt (§22.2)."""

    __slots__ = (
        "_cancelled",
        "_credential",
        "_cseq",
        "_deadline",
        "_draft",
        "_hops",
        "_layer",
        "_number",
        "_proceeding",
        "_reason",
        "_renewed",
        "_transaction",
        "_user",
        "credentials",
        "hop",
        "request",
    )

    def __init__(
        self,
        layer: TransactionLayer,
        draft: Draft,
        cseq: Callable[[], int],
        user: RequestUser,
        credential: Credential | None = None,
    ) -> None:
        self._layer = layer
        self._draft = draft
        self._cseq = cseq
        self._user = user
        self._credential = credential
        self.credentials: dict[str, str] = {}
        """The Authorization headers of the last attempt; the ACK of a 2xx repeats them (§22.1)."""
        self.request: Request | None = None
        """The request as last sent."""
        self.hop: Hop | None = None
        """Where it went."""
        self._number = 0
        self._hops: list[Hop] = []
        self._transaction: ClientInvite | ClientNonInvite | None = None
        self._proceeding = self._cancelled = self._renewed = False
        self._reason: str | None = None
        self._deadline: Timer | None = None

    @property
    def flow(self) -> Flow | None:
        """Where the last response came from."""
        return None if self._transaction is None else self._transaction.flow

    def start(self, uri: SipUri, now: float, near: Near | None = None) -> None:
        """Find where ``uri`` leads, and send."""
        self._number = self._cseq()
        self._layer.find(uri, self._found, now, near)

    def start_at(self, hops: Hops, now: float) -> None:
        """Send to these hops in turn."""
        self._number = self._cseq()
        self._found(hops, now)

    def cancel(self, now: float, reason: str | None = None) -> None:
        """Want the INVITE no more: CANCEL now, or with the first provisional response (§9.1).

        ``reason`` becomes the text of the Reason header (RFC 3326). No other target is tried.
        """
        if self._cancelled:
            return
        self._cancelled = True
        self._reason = reason
        if self._proceeding:
            self._send_cancel(now)

    def again(self, now: float) -> None:
        """The same request once more, its headers asked for anew: its last attempt was refused (RFC 4028 §7.3)."""
        if self.hop is not None and not self._cancelled:
            self._number = self._cseq()
            self._send(self.hop, now)

    def forget(self, now: float) -> None:
        """Nobody waits for the answer any more: absorb it for 64*T1, then give up. No other target is tried."""
        self._cancelled = True
        self._stop()
        self._deadline = self._layer.timers.call_at(now + self._layer.timing.timeout_s, self._give_up)

    def _send_cancel(self, now: float) -> None:
        """§9.1: where no final comes in 64*T1 after the CANCEL, there will be none."""
        transaction, hop, request = self._transaction, self.hop, self.request
        if transaction is None or hop is None or request is None:
            return
        self._layer.send(cancellation(request, self._reason), str(transaction.key[0]), hop, _Nobody(), now)
        self.forget(now)

    def _give_up(self, now: float) -> None:
        if isinstance(self._transaction, ClientInvite):
            self._transaction.give_up(now)
        self._user.on_failure(self, Failure.TIMEOUT, now)

    # one target after the other

    def _found(self, hops: Hops, now: float) -> None:
        self._hops = list(hops)
        self._next(Failure.TRANSPORT, now)

    def _next(self, failure: Failure, now: float) -> None:
        if self._hops and not self._cancelled:
            self._send(self._hops.pop(0), now)
        else:
            self._stop()
            self._user.on_failure(self, failure, now)

    def _send(self, hop: Hop, now: float) -> None:
        branch = self._layer.new_branch()
        request = self._build(hop, branch)
        if self._too_big(request, hop):
            self._hops.insert(0, Hop(hop.target, by_udp=True))
            hop = Hop(Target(TransportName.TCP, hop.target.address, hop.target.server_name))
            request = self._build(hop, branch)
        self.request, self.hop, self._proceeding = request, hop, False
        self._transaction = self._layer.send(request, branch, hop, self, now)

    def _too_big(self, request: Request, hop: Hop) -> bool:
        """§18.1.1: beyond 1300 octets a congestion-controlled transport is tried before UDP."""
        if hop.flow is not None or hop.by_udp or hop.transport is not TransportName.UDP:
            return False
        return len(bytes(request)) > self._layer.settings.udp_limit_octets

    def _build(self, hop: Hop, branch: str) -> Request:
        headers = [("Via", self._layer.via(hop, branch)), ("Max-Forwards", str(self._draft.max_forwards))]
        headers += self._draft.headers(hop)
        headers += [("CSeq", f"{self._number} {self._draft.method}"), *self.credentials.items()]
        return Request.create(self._draft.method, self._draft.uri, headers, self._draft.body)

    # what the transactions say

    def on_response(self, transaction: Transaction, response: Response, now: float) -> None:
        """All go to the user, but a 503 with targets left and a challenge that we can answer."""
        if response.status < 200:
            self._proceed(now)
        elif response.status >= 300 and self._retry(response, now):
            return
        else:
            self._stop()
        self._user.on_response(self, response, now)

    def on_failure(self, transaction: Transaction, failure: Failure, now: float) -> None:
        """Timer B or F, or the transport: the next target, with a new branch (RFC 3263 §4.3)."""
        self._next(failure, now)

    def _proceed(self, now: float) -> None:
        first, self._proceeding = not self._proceeding, True
        if first and self._cancelled:
            self._send_cancel(now)

    def _retry(self, response: Response, now: float) -> bool:
        if self._cancelled or self.hop is None:
            return False
        if response.status == 503 and self._hops:
            self._next(Failure.TRANSPORT, now)
            return True
        if response.status in _AUTHORIZATION and self._authorise(response, self.hop):
            self._number = self._cseq()
            self._send(self.hop, now)
            return True
        return False

    def _authorise(self, response: Response, hop: Hop) -> bool:
        """Answer a challenge once, once more where only the nonce was stale (§22.2), and only the configured peer's."""
        asks, answers = _AUTHORIZATION[response.status]
        values = response.headers.lines(asks)
        if self._credential is None or not self._from_peer(hop):
            return False
        if answers in self.credentials and (self._renewed or not _stale(values)):
            return False
        self._renewed = answers in self.credentials
        known, nonce = self._credential, self._layer.entropy(8).hex()
        value = answer_challenge(
            values, self._draft.method, self._draft.uri, known.username, known.password, nonce, 1, known.realm
        )
        if value is not None:
            self.credentials[answers] = value
        return value is not None

    def _from_peer(self, hop: Hop) -> bool:
        return self.flow is None or canonical_host(self.flow.remote.host) == canonical_host(hop.target.address.host)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()


def cancellation(request: Request, reason: str | None = None) -> Request:
    """The CANCEL of an INVITE of ours (§9.1): its Request-URI, top Via, Route, From, To, Call-ID and CSeq number."""
    source = request.headers
    names = ("Via", "Max-Forwards", "Route", "From", "To", "Call-ID")
    copied = [(name, value) for name in names for value in source.lines(name)]
    copied.append(("CSeq", f"{request.cseq.number} CANCEL"))
    if reason:
        copied.append(("Reason", reason))
    return Request.create("CANCEL", request.uri, copied)


def seconds(response: Response, name: str) -> int | None:
    """A header in whole seconds, such as Retry-After, without its comment and parameters; None where it is none."""
    value = (response.headers.get(name) or "").partition(";")[0].partition("(")[0].strip()
    return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else None


def _stale(values: list[str]) -> bool:
    for value in values:
        try:
            if DigestChallenge.parse(value).stale:
                return True
        except ParseError:
            continue
    return False


class _Nobody:
    """Whom the answer to a CANCEL does not interest: the INVITE's own final decides (§9.1)."""

    def on_response(self, transaction: Transaction, response: Response, now: float) -> None:
        pass

    def on_failure(self, transaction: Transaction, failure: Failure, now: float) -> None:
        pass
