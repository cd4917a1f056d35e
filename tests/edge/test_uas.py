"""What a UAS checks and reads, as pure functions; in an engine they are tested by behaviour."""

from __future__ import annotations

import pytest

from edge import uas
from edge.events import Refusal
from edge.message import Request
from edge.uri import ParseError
from tests.edge.pair import OFFER, invite, request


@pytest.mark.parametrize(
    ("method", "status"), [("INVITE", None), ("BYE", None), ("OPTIONS", None), ("MESSAGE", 405), ("invite", 405)]
)
def test_methods(method: str, status: int | None) -> None:
    """RFC 3261 §8.2.1."""
    refusal = uas.check_method(request(method))
    assert (refusal and refusal.status) == status


def test_required_extensions() -> None:
    """RFC 3261 §8.2.2.3: those we do not speak, in their order; what is no token is a 400."""
    assert uas.check_required(invite()) is None
    assert uas.check_required(invite(headers=[("Require", "")])) is None
    refusal = uas.check_required(
        invite(headers=[("Require", "timer"), ("Require", "100rel,path"), ("Require", "replaces")])
    )
    assert refusal is not None and refusal.headers == (("Unsupported", "path, replaces"),)
    with pytest.raises(ParseError):
        uas.check_required(invite(headers=[("Require", "a b")]))


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (invite(), None),
        (invite(body=b""), None),
        (invite(headers=[("Content-Encoding", "Identity")]), None),
        (invite(headers=[("Content-Encoding", "gzip")]), 415),
        (invite(headers=[("Content-Type", "text/plain")]), 415),
        (invite(headers=[("Content-Type", "text/plain"), ("Content-Disposition", "x;handling=optional")]), None),
        (invite(headers=[("Content-Type", "text/plain"), ("Content-Disposition", "x;handling=required")]), 415),
    ],
)
def test_content(message: Request, status: int | None) -> None:
    """RFC 3261 §8.2.3."""
    refusal = uas.check_content(message)
    assert (refusal and refusal.status) == status


def test_a_body_without_a_type_is_not_taken_for_sdp() -> None:
    """RFC 3261 §20.15."""
    untyped = Request.create("INVITE", "sip:a@b", [], OFFER)
    assert uas.offer(untyped) is None
    assert uas.check_content(untyped) is not None
    assert uas.offer(invite()) == OFFER


def test_the_dialed_candidates_are_bounded_and_printable() -> None:
    """A hundred Diversions are an attack; control characters have no business in a number."""
    many = [("Diversion", ", ".join(f"<sip:{number}@h>" for number in range(100)))]
    found = uas.dialed(invite(uri="sip:+1%0d%0aX@h", headers=many))
    assert len(found) == 6
    assert found[0] == "+1\ufffd\ufffdX"


def test_refusal_headers() -> None:
    """Retry-After, Reason and the refusal's own, in that order; no Reason without a text."""
    refusal = Refusal(503, "full", retry_after_s=7, headers=(("X-A", "1"),))
    assert list(uas.refusal_headers(refusal)) == [
        ("Retry-After", "7"),
        ("Reason", 'SIP;cause=503;text="full"'),
        ("Reason", "Q.850;cause=41"),
        ("X-A", "1"),
    ]
    assert list(uas.refusal_headers(Refusal(404, ""))) == []


def test_the_list_of_headers_that_cross_is_names_and_beginnings() -> None:
    allowed = ("X-*", "User-to-User", "P-Charging-Vector")
    crossing = ["x-a", "X-", "USER-TO-USER", "p-charging-vector"]
    assert [
        name for name in [*crossing, "Via", "XA", "P-Charging-Vector-2", ""] if uas.crosses(name, allowed)
    ] == crossing
    message = request("BYE", headers=[("P-Charging-Vector", "v"), ("X-A", "1"), ("Subject", "s")])
    assert uas.allowed_headers(message, allowed=("P-Charging-Vector",)) == (("P-Charging-Vector", "v"),)


def test_what_a_peer_allows_and_supports() -> None:
    message = invite(headers=[("Allow", "INVITE, UPDATE"), ("Supported", "Timer"), ("Require", "100rel")])
    assert uas.allows(message, "UPDATE")
    assert not uas.allows(message, "INFO")
    assert uas.supports(message, "timer")
    assert not uas.requires(message, "timer")
    assert uas.requires(message, "100rel")
    assert uas.supports(message, "100rel")


def test_allowed_headers_take_more_names_by_request() -> None:
    """On BYE and on failures, Reason crosses too."""
    message = request("BYE", headers=[("Reason", "Q.850;cause=16"), ("X-A", "1"), ("Subject", "s"), ("X-Esc", "\x1b")])
    assert uas.allowed_headers(message, "reason", allowed=("X-*",)) == (("Reason", "Q.850;cause=16"), ("X-A", "1"))
    assert uas.allowed_headers(message, allowed=("X-*",)) == (("X-A", "1"),)
