"""Dialogs (RFC 3261 §12): what two user agents remember of each other for as long as a call lives."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from edge.message import Message, NameAddress, Request, Response
from edge.uri import ParseError, SipUri

__all__ = ["Dialog", "DialogKey", "dialog_key"]

DialogKey = tuple[str, str, str]
"""Call-ID, our tag, the peer's tag; a peer of RFC 2543 may have none (§12.1.1), here ``""``."""

_MAX_ROUTES: Final = 32


def dialog_key(request: Request) -> DialogKey:
    """The dialog a request of the peer belongs to: our tag is To's. Raises ParseError."""
    return (request.call_id, request.to.tag or "", request.from_.tag or "")


class Dialog:
    """One dialog, confirmed or early.

    ``local`` and ``remote`` are the From and To values of our requests, tags included, as they came.
    ``remote_target`` is the peer's Contact; ``routes`` the route set in the order our requests use it.
    """

    __slots__ = (
        "call_id",
        "local",
        "local_cseq",
        "local_tag",
        "remote",
        "remote_cseq",
        "remote_tag",
        "remote_target",
        "routes",
        "secure",
    )

    def __init__(
        self,
        *,
        call_id: str,
        local: str,
        local_tag: str,
        remote: str,
        remote_tag: str,
        remote_target: SipUri,
        routes: tuple[str, ...] = (),
        local_cseq: int = 0,
        remote_cseq: int | None = None,
        secure: bool = False,
    ) -> None:
        self.call_id = call_id
        self.local = local
        self.local_tag = local_tag
        self.remote = remote
        self.remote_tag = remote_tag
        self.remote_target = remote_target
        self.routes = routes
        self.local_cseq = local_cseq
        self.remote_cseq = remote_cseq
        self.secure = secure

    @classmethod
    def of_server(cls, request: Request, local_tag: str) -> Dialog:
        """The UAS's side (§12.1.1): Record-Route in its order. Raises ParseError, also for want of a Contact."""
        contact = request.contact
        if contact is None:
            raise ParseError(400, "no Contact")
        return cls(
            call_id=request.call_id,
            local=_tagged(request.headers.lines("To")[0], request.to, local_tag),
            local_tag=local_tag,
            remote=request.headers.lines("From")[0],
            remote_tag=request.from_.tag or "",
            remote_target=_target(contact),
            routes=_routes(request),
            remote_cseq=request.cseq.number,
            secure=request.request_uri.scheme == "sips",
        )

    @classmethod
    def of_client(cls, request: Request, response: Response) -> Dialog:
        """The UAC's side (§12.1.2): Record-Route reversed. Raises ParseError.

        A 2xx without a Contact is against §12.1.1; the Request-URI stands in for it.
        """
        contact = response.contact
        return cls(
            call_id=request.call_id,
            local=request.headers.lines("From")[0],
            local_tag=request.from_.tag or "",
            remote=response.headers.lines("To")[0],
            remote_tag=response.to.tag or "",
            remote_target=request.request_uri if contact is None else _target(contact),
            routes=_routes(response)[::-1],
            local_cseq=request.cseq.number,
            secure=request.request_uri.scheme == "sips",
        )

    @property
    def key(self) -> DialogKey:
        """What :func:`dialog_key` gives for the peer's requests."""
        return (self.call_id, self.local_tag, self.remote_tag)

    def next_cseq(self) -> int:
        """The number of our next request that is neither ACK nor CANCEL."""
        self.local_cseq += 1
        return self.local_cseq

    def accepts(self, number: int) -> bool:
        """Note the CSeq number of a request of the peer; False when it is out of order (§12.2.2: 500)."""
        if self.remote_cseq is not None and number < self.remote_cseq:
            return False
        self.remote_cseq = number
        return True

    def refresh(self, message: Message) -> None:
        """Take the Contact of a target refresh, the re-INVITE or its 2xx (§12.2). Raises ParseError."""
        contact = message.contact
        if contact is not None:
            self.remote_target = _target(contact)

    def addressing(self) -> tuple[str, tuple[str, ...], SipUri]:
        """Request-URI, Route values and next hop of a request in this dialog (§12.2.1.1).

        A strict router at the head of the route set takes the Request-URI's place, and the remote
        target goes to the end of the Routes (§16.12.1.2 undoes it).
        """
        if not self.routes:
            return str(self.remote_target), (), self.remote_target
        first = NameAddress.parse(self.routes[0]).uri
        if first.lr:
            return str(self.remote_target), self.routes, first
        return str(_as_request_uri(first)), (*self.routes[1:], f"<{self.remote_target}>"), first


def _tagged(value: str, parsed: NameAddress, tag: str) -> str:
    return value if parsed.tag is not None else f"{value};tag={tag}"


def _target(contact: NameAddress) -> SipUri:
    return _as_request_uri(contact.uri)


def _as_request_uri(uri: SipUri) -> SipUri:
    """§19.1.1: neither headers nor ``method`` may stand in a Request-URI."""
    if not uri.headers and uri.parameter("method") is None:
        return uri
    return replace(uri, headers=(), parameters=tuple(pair for pair in uri.parameters if pair[0] != "method"))


def _routes(message: Message) -> tuple[str, ...]:
    parsed = message.record_routes
    if len(parsed) > _MAX_ROUTES or any(route.uri.scheme not in ("sip", "sips") for route in parsed):
        raise ParseError(400, "bad Record-Route")
    return tuple(message.headers.get_all("Record-Route")) if parsed else ()
