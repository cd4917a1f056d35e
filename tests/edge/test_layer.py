"""The transaction layer: our own addresses, where requests and responses go, and what it keeps."""

from __future__ import annotations

import pytest

from edge.actions import Dispatch, Resolve, Target, Transmit
from edge.events import Address, Flow, TransportName
from edge.layer import EndpointSettings, Hop, Hops, Near, TransactionLayer, default_port, parse_next_hop, safe_headers
from edge.transaction import Input, ServerNonInvite, State
from edge.uri import ParseError, SipUri
from tests.edge.pair import EDGE, PEER, entropy, invite, request

UDP, TCP, TLS = TransportName.UDP, TransportName.TCP, TransportName.TLS
SIX = Address("2001:db8::1", 5060)
FLOW = Flow(UDP, EDGE, PEER)


def layer(*listeners: tuple[TransportName, Address], **settings: object) -> TransactionLayer:
    bound = listeners or ((UDP, EDGE), (TCP, EDGE), (TLS, Address(EDGE.host, 5061)), (UDP, SIX))
    return TransactionLayer(EndpointSettings("edge.test", bound, **settings), entropy(1))  # type: ignore[arg-type]


def found(made: TransactionLayer, uri: str, near: Near | None = None) -> Hops:
    """Where a request to this URI would go, without DNS."""
    result: list[Hops] = []
    made.find(SipUri.parse(uri), lambda hops, now: result.append(hops), 0.0, near)
    return result[0] if result else ()


# --- our own addresses ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("transport", "host", "expected"),
    [
        (UDP, "192.0.2.7", "SIP/2.0/UDP 192.0.2.1:5060;rport;branch=b"),
        (TLS, "192.0.2.7", "SIP/2.0/TLS 192.0.2.1:5061;rport;branch=b"),
        (UDP, "2001:db8::7", "SIP/2.0/UDP [2001:db8::1]:5060;rport;branch=b"),
    ],
)
def test_the_via_names_the_listener_of_the_transport_and_family(
    transport: TransportName, host: str, expected: str
) -> None:
    """RFC 3261 §18.1.1."""
    assert layer().via(Hop(Target(transport, Address(host, 5060))), "b") == expected


def test_the_listeners_may_become_known_later() -> None:
    """A port of 0 until the socket is bound."""
    made = layer((UDP, Address("127.0.0.1", 0)))
    made.settings.listeners = ((UDP, Address("127.0.0.1", 5071)),)
    assert "127.0.0.1:5071" in made.via(Hop(Target(UDP, PEER)), "b")


def test_a_wildcard_listener_gives_way_to_the_flow_then_to_the_domain() -> None:
    """0.0.0.0 is no address to be called back at; a public host is best."""
    made = layer((UDP, Address("0.0.0.0", 5060)))
    assert str(made.contact_uri(Flow(UDP, Address("10.0.0.1", 5060), PEER))) == "sip:10.0.0.1:5060"
    assert str(made.contact_uri(Hop(Target(UDP, PEER)))) == "sip:edge.test:5060"
    made.settings.public_host = "203.0.113.1"
    assert str(made.contact_uri(Hop(Target(UDP, PEER)), "gw")) == "sip:gw@203.0.113.1:5060"


def test_the_contact_names_the_listener_a_call_came_in_on() -> None:
    """Of several of a transport, and not the other end of a connection we opened."""
    second = Address("192.0.2.1", 5080)
    made = layer((UDP, EDGE), (UDP, second), (TCP, EDGE))
    assert str(made.contact_uri(Flow(UDP, second, PEER))) == "sip:192.0.2.1:5080"
    assert str(made.contact_uri(Flow(TCP, Address("192.0.2.1", 49152), PEER, 3))) == "sip:192.0.2.1:5060;transport=tcp"


def test_a_client_that_listens_nowhere_is_reached_over_its_connection() -> None:
    """RFC 5626's case."""
    made = TransactionLayer(EndpointSettings("edge.test"), entropy(1))
    assert str(made.contact_uri(Flow(TLS, Address("10.1.1.1", 49152), PEER, 3))) == "sip:10.1.1.1:49152;transport=tls"
    assert made.via(Hop(Target(UDP, PEER)), "b") == "SIP/2.0/UDP edge.test:5060;rport;branch=b"


def test_a_secure_dialog_has_a_sips_contact() -> None:
    """RFC 3261 §8.1.1.8, §12.1.1."""
    flow = Flow(TLS, Address(EDGE.host, 5061), PEER, 1)
    assert str(layer().contact_uri(flow, secure=True)) == "sips:192.0.2.1:5061;transport=tls"


def test_branches_and_tags_cannot_be_guessed() -> None:
    """RFC 3261 §8.1.1.7, §19.3: the cookie and 96 bits; 64 bits."""
    made = layer()
    branches = {made.new_branch() for _ in range(100)}
    assert len(branches) == 100
    assert all(branch.startswith("z9hG4bK") and len(branch) == 31 for branch in branches)
    assert len({made.new_tag() for _ in range(100)}) == 100


# --- where requests go ------------------------------------------------------------------------


def test_a_routed_request_uses_the_connection_to_the_very_proxy_it_came_from() -> None:
    """The carrier's edge proxy, by the same transport: its certificate would not name its address."""
    flow = Flow(TLS, Address(EDGE.host, 5061), Address("54.172.60.0", 33221), 7)
    near = Near(flow, routed=True)
    (hop,) = found(layer(), "sip:54.172.60.0:5061;transport=tls;lr", near)
    assert hop.flow == flow
    (hop,) = found(layer(), "sip:54.172.60.1:5061;transport=tls;lr", near)
    assert (hop.flow, hop.target.address.host) == (None, "54.172.60.1")
    (hop,) = found(layer(), "sip:54.172.60.0:5060;transport=tcp;lr", near)
    assert (hop.flow, hop.transport) == (None, TCP)


def test_a_name_over_a_connection_needs_no_dns_where_there_is_no_proxy() -> None:
    """A phone whose Contact is a name nobody knows."""
    flow = Flow(TCP, EDGE, Address("192.0.2.7", 40000), 7)
    (hop,) = found(layer(), "sip:a@phone.invalid;transport=tcp", Near(flow, routed=False))
    assert (hop.flow, hop.target) == (flow, Target(TCP, flow.remote))


def test_over_udp_the_contact_is_believed_unless_only_it_is_private() -> None:
    """RFC 3261 §12.2.1.1, and what NAT makes of it."""
    public, private = Address("8.8.8.8", 4000), Address("10.0.0.9", 4000)
    for source, uri, expected in (
        (public, "sip:a@10.0.0.5:5062", "8.8.8.8:4000"),
        (public, "sip:a@9.9.9.9:5062", "9.9.9.9:5062"),
        (private, "sip:a@10.0.0.5:5062", "10.0.0.5:5062"),
    ):
        (hop,) = found(layer(), uri, Near(Flow(UDP, EDGE, source), routed=False))
        assert str(hop.target.address) == expected
    (hop,) = found(layer(), "sip:10.0.0.5:5062;lr", Near(Flow(UDP, EDGE, public), routed=True))
    assert str(hop.target.address) == "10.0.0.5:5062"


def test_a_name_is_a_question_with_a_deadline() -> None:
    """DNS answers enter as events; late and unknown ones are ignored."""
    made, result = layer(), list[Hops]()
    made.find(SipUri.parse("sips:a@carrier.example:5999"), lambda hops, now: result.append(hops), 0.0)
    assert made.actions() == [Resolve(1, "carrier.example", 5999, TLS, secure=True)]
    assert made.pending == 1
    made.timers.run(10.0)
    assert (result, made.pending) == ([()], 0)
    made.resolved(1, (Target(TLS, PEER),), 11.0)
    assert result == [()]


def test_a_uri_that_leads_nowhere_gives_no_hops() -> None:
    """tel has no host."""
    result: list[Hops] = []
    layer().find(SipUri.parse("tel:+1"), lambda hops, now: result.append(hops), 0.0)
    assert result == [()]


def test_a_dispatch_names_the_udp_listener_of_its_family() -> None:
    """So that the source port is the one in the Via."""
    made = layer()
    made.send_ack(request("ACK"), Hop(Target(UDP, Address("2001:db8::7", 5060))), 0.0)
    made.send_ack(request("ACK"), Hop(Target(TCP, PEER)), 0.0)
    locals_ = [action.local for action in made.actions() if isinstance(action, Dispatch)]
    assert locals_ == [SIX, None]


@pytest.mark.parametrize("text", ["", "host:0", "a b", "sip:", "host;sctp;x=y z", "[::1"])
def test_a_next_hop_that_is_none_is_a_parse_error(text: str) -> None:
    """The caller reports it."""
    with pytest.raises(ParseError):
        parse_next_hop(text)


def test_default_ports() -> None:
    """RFC 3261 §19.1.2."""
    assert [default_port(name) for name in (UDP, TCP, TLS)] == [5060, 5060, 5061]


# --- what it keeps ----------------------------------------------------------------------------


def test_finished_transactions_are_forgotten() -> None:
    """``pending`` goes to 0, and so does what recognises merged requests."""
    made = layer()

    class User:
        local_tag = "us"

        def on_ack(self, request: object, now: float) -> None: ...
        def on_no_ack(self, now: float) -> None: ...
        def on_cancel(self, request: object, now: float) -> None: ...

    original = invite().with_received(PEER.host, PEER.port)
    server = made.serve_invite(original, FLOW, User(), 0.0)
    made.serve(request("OPTIONS"), FLOW, 0.0).respond(200, b"x", 0.0)
    assert made.pending == 2
    assert made.merged(invite(branch="z9hG4bK-another-path"))
    server.respond(486, b"x", 0.0)
    for now in (32.0, 40.0):
        made.timers.run(now)
    assert made.pending == 0
    assert not made.merged(original)
    assert not made._ongoing


def test_an_ack_never_reaches_another_kind_of_transaction() -> None:
    """A branch used twice by a broken peer."""
    made = layer()
    ping = request("OPTIONS", branch="z9hG4bK-same")
    server = made.serve(ping, FLOW, 0.0)
    assert not made.receive_request(request("ACK", branch="z9hG4bK-same"), 0.0)
    assert isinstance(server, ServerNonInvite) and server.state is State.TRYING
    assert Input.ACK not in {event for _, event in ServerNonInvite.TRANSITIONS}


def test_a_failed_dispatch_of_an_ended_transaction_is_ignored() -> None:
    """The transport may vanish between any two steps."""
    made = layer()
    made.transport_failed("z9hG4bKgone INVITE", 0.0)
    made.transport_failed("ack", 0.0)
    made.transport_failed("", 0.0)
    assert made.actions() == []


def test_extra_headers_must_be_able_to_stand_in_a_message() -> None:
    """Token names, one-line values."""
    pairs = [("X-A", "1"), ("X B", "2"), ("X-C", "3\r\nX-D: 4"), ("X-E", "5\n"), ("", "6"), ("X-F", "7\0")]
    assert safe_headers(pairs) == [("X-A", "1")]


def test_keep_alives_are_not_traced() -> None:
    """They are no messages."""
    seen: list[object] = []
    made = TransactionLayer(EndpointSettings("h"), entropy(1), seen.append)
    made.perform(Transmit(b"\r\n\r\n", FLOW), 0.0)
    assert seen == []
    assert len(made.actions()) == 1
