"""What every INVITE needs, the first of a call or a later one (RFC 3261 §13, §14).

As UAS, its 2xx repeated until the ACK; as UAC, the ACK of each 2xx; and the messages inside a dialog.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from edge import uas
from edge.dialog import Dialog
from edge.events import Cause, Flow, Party, Refusal
from edge.layer import Hop, Hops, Near, TransactionLayer
from edge.message import Request, Response, response_to
from edge.timers import Timer
from edge.transaction import Failure, ServerInvite
from edge.uac import Draft, Outgoing

__all__ = ["Acknowledgement", "Answer", "Detail", "Nobody", "answer_to", "in_dialog", "near_of"]


@dataclass(frozen=True, slots=True)
class Detail:
    """What came with an input of a call's tables.

    ``by`` and ``cause`` are what CallEnded will say if it ends the call. ``extra`` are headers to be sent.
    """

    status: int = 0
    phrase: str = ""
    body: bytes | None = None
    refusal: Refusal | None = None
    request: Request | None = None
    by: Party = Party.LOCAL
    cause: Cause = Cause.BYE
    headers: tuple[tuple[str, str], ...] = ()
    reason: str | None = None
    extra: tuple[tuple[str, str], ...] = ()
    takes_refer: bool = False
    takes_info: bool = False
    described: bool = False
    tag: str = ""


class Answer:
    """A 2xx to an INVITE, repeated from T1 to T2 until its ACK, over any transport (§13.3.1.4)."""

    __slots__ = ("_data", "_deadline", "_interval_s", "_invite", "_layer", "_repeat", "_user", "cseq", "delayed")

    def __init__(self, layer: TransactionLayer, invite: ServerInvite, response: Response, user: Unacknowledged):
        self._layer = layer
        self._invite = invite
        self._data = bytes(response)
        self._user = user
        self._interval_s = layer.timing.t1_s
        self._repeat: Timer | None = None
        self._deadline: Timer | None = None
        self.cseq = invite.request.cseq.number
        self.delayed = uas.offer(invite.request) is None and bool(response.body)
        """True when the 2xx makes the offer, so that the ACK brings the answer."""

    def start(self, now: float) -> None:
        """Send it for the first time."""
        self._deadline = self._layer.timers.call_at(now + self._layer.timing.timeout_s, self._expire)
        self._send(now)

    def stop(self) -> None:
        """It was acknowledged, or nobody cares any more."""
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


class Unacknowledged(Protocol):
    def on_unacknowledged(self, now: float) -> None:
        """No ACK in 64*T1."""


class Acknowledgement:
    """The ACK of a 2xx to an INVITE of ours: made once, sent for each copy of the 2xx (§13.2.2.4)."""

    __slots__ = ("_dialog", "_hop", "_layer", "_outgoing", "_request")

    def __init__(self, layer: TransactionLayer, dialog: Dialog, outgoing: Outgoing) -> None:
        self._layer = layer
        self._dialog = dialog
        self._outgoing = outgoing
        self._request: Request | None = None
        self._hop: Hop | None = None

    def send(self, now: float) -> None:
        """For the first 2xx, and for each copy of it."""
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


class Nobody:
    """Whom the answer does not interest."""

    def on_response(self, outgoing: Outgoing, response: Response, now: float) -> None:
        pass

    def on_failure(self, outgoing: Outgoing, failure: Failure, now: float) -> None:
        pass


def answer_to(
    layer: TransactionLayer,
    request: Request,
    dialog: Dialog,
    flow: Flow,
    body: bytes,
    *,
    more: Iterable[tuple[str, str]] = (),
) -> Response:
    """The 200 to an INVITE (§13.3.1.4) or an UPDATE: Contact, Allow, Supported, ``more`` and, with one, the SDP."""
    headers = [
        ("Contact", f"<{layer.contact_uri(flow, secure=dialog.secure)}>"),
        ("Allow", uas.ALLOW),
        ("Supported", uas.SUPPORTED),
        ("Server", layer.settings.user_agent),
        *more,
    ]
    if body:
        headers.append(("Content-Type", uas.SDP))
    return response_to(request, 200, to_tag=dialog.local_tag, headers=headers, body=body)


def in_dialog(
    dialog: Dialog,
    method: str,
    layer: TransactionLayer,
    headers: Iterable[tuple[str, str]] = (),
    *,
    body: bytes = b"",
    flow: Flow | None = None,
    kind: str = uas.SDP,
) -> Draft:
    """A request of ours in a dialog (§12.2.1.1). ``flow`` is how its peer reached us, for the Contact."""
    uri, routes, _ = dialog.addressing()
    fixed = [*_dialog_headers(dialog, routes), *headers, ("User-Agent", layer.settings.user_agent)]
    if body:
        fixed.append(("Content-Type", kind))

    def compose(hop: Hop) -> list[tuple[str, str]]:
        if method not in ("INVITE", "UPDATE"):
            return fixed
        contact = layer.contact_uri(hop if flow is None else flow, secure=dialog.secure)
        return [*fixed, ("Contact", f"<{contact}>"), ("Allow", uas.ALLOW), ("Supported", uas.SUPPORTED)]

    return Draft(method, uri, compose, body)
