"""Dialogs (RFC 3261 §12): tags, route sets, remote targets and the order of CSeq."""

from __future__ import annotations

import pytest

from edge.dialog import Dialog, dialog_key
from edge.message import Request, Response
from edge.uri import ParseError, SipUri
from tests.edge.pair import invite, reply, request

TWO_PROXIES = [("Record-Route", "<sip:p2.example;lr>, <sip:p1.example;lr>")]


def dialog(routes: tuple[str, ...] = (), target: str = "sip:alice@10.1.2.3:5070") -> Dialog:
    return Dialog(
        call_id="c",
        local="<sip:edge@h>;tag=us",
        local_tag="us",
        remote="<sip:a@h>;tag=them",
        remote_tag="them",
        remote_target=SipUri.parse(target),
        routes=routes,
    )


def test_the_uas_takes_target_tags_and_sequence_from_the_request() -> None:
    """RFC 3261 §12.1.1."""
    made = Dialog.of_server(invite(cseq=42, contact="<sip:alice@10.1.2.3:5070;transport=tcp>"), "us")
    assert made.key == ("call@192.0.2.7", "us", "peer")
    assert str(made.remote_target) == "sip:alice@10.1.2.3:5070;transport=tcp"
    assert made.local == "<sip:+14155550100@192.0.2.1>;tag=us"
    assert made.remote == '"Alice" <sip:alice@192.0.2.7>;tag=peer'
    assert made.remote_cseq == 42
    assert not made.secure


def test_the_uas_keeps_record_route_in_its_order() -> None:
    """RFC 3261 §12.1.1: the topmost value is the proxy nearest to us."""
    made = Dialog.of_server(invite(headers=TWO_PROXIES), "us")
    assert made.routes == ("<sip:p2.example;lr>", "<sip:p1.example;lr>")


def test_the_uac_reverses_record_route() -> None:
    """RFC 3261 §12.1.2: the response lists the proxy nearest to the other side first."""
    ours = invite()
    made = Dialog.of_client(ours, reply(ours, 200, headers=TWO_PROXIES))
    assert made.routes == ("<sip:p1.example;lr>", "<sip:p2.example;lr>")
    assert made.key == ("call@192.0.2.7", "peer", "callee")
    assert made.local_cseq == 1
    assert made.remote_cseq is None


def test_several_record_route_lines_count_as_one_list() -> None:
    """RFC 3261 §7.3.1."""
    lines = [("Record-Route", "<sip:p3;lr>"), ("Record-Route", "<sip:p2;lr;x=1>,<sip:p1;lr>")]
    assert Dialog.of_server(invite(headers=lines), "us").routes == ("<sip:p3;lr>", "<sip:p2;lr;x=1>", "<sip:p1;lr>")


def test_without_routes_requests_go_to_the_remote_target() -> None:
    """RFC 3261 §12.2.1.1."""
    uri, routes, hop = dialog().addressing()
    assert (uri, routes, str(hop)) == ("sip:alice@10.1.2.3:5070", (), "sip:alice@10.1.2.3:5070")


def test_with_loose_routers_the_request_uri_is_the_target_and_the_first_route_the_next_hop() -> None:
    """RFC 3261 §12.2.1.1: a private Contact behind Record-Routes, as both carriers send it."""
    uri, routes, hop = dialog(("<sip:64.16.250.10;transport=tcp;lr>", "<sip:10.255.0.2;lr>")).addressing()
    assert uri == "sip:alice@10.1.2.3:5070"
    assert routes == ("<sip:64.16.250.10;transport=tcp;lr>", "<sip:10.255.0.2;lr>")
    assert str(hop) == "sip:64.16.250.10;transport=tcp;lr"


def test_a_strict_router_takes_the_place_of_the_request_uri() -> None:
    """RFC 3261 §12.2.1.1: the remaining routes follow, the remote target last."""
    uri, routes, hop = dialog(("<sip:strict.example>", "<sip:loose.example;lr>")).addressing()
    assert uri == "sip:strict.example"
    assert routes == ("<sip:loose.example;lr>", "<sip:alice@10.1.2.3:5070>")
    assert str(hop) == "sip:strict.example"


def test_parameters_that_may_not_stand_in_a_request_uri_are_taken_off() -> None:
    """RFC 3261 §19.1.1, §12.2.1.1: ``method`` and headers."""
    made = Dialog.of_server(invite(contact="<sip:alice@10.1.2.3;method=INVITE;ob?Subject=x>"), "us")
    assert str(made.remote_target) == "sip:alice@10.1.2.3;ob"
    assert dialog(("<sip:strict.example;method=INVITE>",)).addressing()[0] == "sip:strict.example"


def test_a_request_out_of_order_is_not_accepted_and_changes_nothing() -> None:
    """RFC 3261 §12.2.2: lower is refused; the same and higher are not."""
    made = Dialog.of_server(invite(cseq=10), "us")
    assert not made.accepts(9)
    assert made.accepts(10)
    assert made.accepts(40)
    assert not made.accepts(39)
    assert made.remote_cseq == 40


def test_the_uac_accepts_any_first_number_from_the_peer() -> None:
    """RFC 3261 §12.1.2: the remote sequence number starts empty."""
    ours = invite()
    made = Dialog.of_client(ours, reply(ours, 200))
    assert made.accepts(0)


def test_our_own_numbers_rise_by_one() -> None:
    """RFC 3261 §12.2.1.1."""
    made = dialog()
    assert [made.next_cseq() for _ in range(3)] == [1, 2, 3]


def test_a_target_refresh_moves_the_remote_target_and_not_the_routes() -> None:
    """RFC 3261 §12.2.1.2, §12.2.2."""
    made = dialog(("<sip:p1;lr>",))
    made.refresh(invite(contact="<sip:alice@10.9.9.9>", headers=[("Record-Route", "<sip:elsewhere;lr>")]))
    assert str(made.remote_target) == "sip:alice@10.9.9.9"
    assert made.routes == ("<sip:p1;lr>",)
    made.refresh(request("INVITE", contact=None))
    assert str(made.remote_target) == "sip:alice@10.9.9.9"


def test_a_peer_of_rfc_2543_may_have_no_tag() -> None:
    """RFC 3261 §12.1.1, §12.1.2: an empty remote tag."""
    ours = invite()
    answer = reply(ours, 200, tag=None)
    made = Dialog.of_client(ours, answer)
    assert made.key == ("call@192.0.2.7", "peer", "")


def test_the_key_of_a_request_finds_the_dialog() -> None:
    """RFC 3261 §12.2.2: To's tag is ours, From's the peer's."""
    made = Dialog.of_server(invite(), "us")
    assert dialog_key(request("BYE", to_tag="us")) == made.key
    assert dialog_key(request("BYE", to_tag="us", from_tag="other")) != made.key


def test_a_sips_call_is_secure() -> None:
    """RFC 3261 §12.1.1."""
    assert Dialog.of_server(invite(uri="sips:+1@h", contact="<sips:a@h>"), "us").secure


@pytest.mark.parametrize(
    "broken",
    [
        invite(contact=None),
        invite(contact="*"),
        invite(contact="<mailto:a@b>"),
        invite(contact="<sip:a@h>, <sip:b@h>"),
        invite(headers=[("Record-Route", "<tel:+1>")]),
        invite(headers=[("Record-Route", "nonsense")]),
        invite(headers=[("Record-Route", ", ".join(["<sip:p;lr>"] * 33))]),
    ],
)
def test_an_invite_that_makes_no_dialog_is_a_400(broken: Request) -> None:
    """RFC 3261 §12.1.1: Contact and Record-Route must be usable before there is any state."""
    with pytest.raises(ParseError) as caught:
        Dialog.of_server(broken, "us")
    assert caught.value.status == 400


def test_a_2xx_without_a_contact_leaves_the_request_uri_as_target() -> None:
    """Against RFC 3261 §12.1.1, and seen."""
    ours = invite()
    answer = Response.create(200, reply(ours, 200, contact=None).headers)
    assert str(Dialog.of_client(ours, answer).remote_target) == "sip:+14155550100@192.0.2.1"
