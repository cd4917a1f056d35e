"""The handshake of an INVITE: its 2xx until the ACK, and the ACK of each 2xx; in calls it is tested by behaviour."""

from __future__ import annotations

from edge.actions import Dispatch, Resolve, Target, Transmit
from edge.dialog import Dialog
from edge.events import Address, Flow, TransportName
from edge.invite import Acknowledgement, Answer, answer_to, in_dialog, near_of
from edge.layer import EndpointSettings, Hop, Near, TransactionLayer
from edge.message import Request, Response, parse
from edge.uac import Draft, Outgoing
from edge.uri import SipUri
from tests.edge.pair import ANSWER, EDGE, PEER, entropy, invite, reply

FLOW = Flow(TransportName.UDP, EDGE, PEER)


class Party:
    """Whoever answers or calls."""

    local_tag = "us"

    def __init__(self) -> None:
        self.layer = TransactionLayer(EndpointSettings("edge.test", ((TransportName.UDP, EDGE),)), entropy(1))
        self.unacknowledged: list[float] = []
        self.responses: list[int] = []

    def on_unacknowledged(self, now: float) -> None:
        self.unacknowledged.append(now)

    def on_ack(self, request: Request, now: float) -> None: ...
    def on_no_ack(self, now: float) -> None: ...
    def on_cancel(self, request: Request, now: float) -> None: ...
    def on_failure(self, outgoing: Outgoing, failure: object, now: float) -> None: ...

    def on_response(self, outgoing: Outgoing, response: Response, now: float) -> None:
        self.responses.append(response.status)

    def answering(self, **options: object) -> Answer:
        """A 200 that is about to be sent."""
        request = invite(**options)  # type: ignore[arg-type]
        dialog = Dialog.of_server(request, "us")
        server = self.layer.serve_invite(request, FLOW, self, 0.0)
        return Answer(self.layer, server, answer_to(self.layer, request, dialog, FLOW, ANSWER), self)

    def sent(self) -> list[bytes]:
        return [action.data for action in self.layer.actions() if isinstance(action, Transmit | Dispatch)]

    def run(self, seconds: float) -> None:
        while (due := self.layer.timers.next()) is not None and due <= seconds:
            self.layer.timers.run(due)


def test_an_answer_is_repeated_eleven_times_and_then_given_up() -> None:
    """RFC 3261 §13.3.1.4: T1, doubling to T2, for 64*T1."""
    party = Party()
    party.answering().start(0.0)
    party.run(100.0)
    assert len(party.sent()) == 11
    assert party.unacknowledged == [32.0]


def test_a_stopped_answer_is_silent() -> None:
    """It was acknowledged; stopping twice, or before the start, is no error."""
    party = Party()
    answer = party.answering()
    answer.stop()
    answer.start(0.0)
    answer.stop()
    answer.stop()
    party.run(100.0)
    assert len(party.sent()) == 1
    assert party.unacknowledged == []


def test_an_answer_knows_whether_it_makes_the_offer() -> None:
    """RFC 3261 §13.2.1: then the ACK brings the answer."""
    assert not Party().answering().delayed
    assert Party().answering(body=b"").delayed
    assert Party().answering(cseq=7).cseq == 7


def acknowledging(party: Party, contact: str) -> Acknowledgement:
    """A 200 to an INVITE of ours has come."""
    draft = Draft(
        "INVITE", "sip:+1@192.0.2.7", lambda hop: [("From", "<sip:e@h>;tag=1"), ("To", "<sip:b@h>"), ("Call-ID", "c")]
    )
    outgoing = Outgoing(party.layer, draft, lambda: 4, party)
    outgoing.start(SipUri.parse("sip:192.0.2.7"), 0.0)
    party.sent()
    assert outgoing.request is not None
    ok = reply(outgoing.request, 200, contact=contact)
    party.layer.receive_response(ok, FLOW, 0.0)
    return Acknowledgement(party.layer, Dialog.of_client(outgoing.request, ok), outgoing)


def test_every_copy_of_the_ack_is_the_same() -> None:
    """RFC 3261 §13.2.2.4: made once."""
    party = Party()
    acknowledgement = acknowledging(party, "<sip:b@192.0.2.9:5070>")
    acknowledgement.send(0.0)
    acknowledgement.send(1.0)
    first, second = party.sent()
    assert first == second
    ack = parse(first)
    assert isinstance(ack, Request) and str(ack.cseq) == "4 ACK"


def test_an_ack_to_a_name_waits_for_dns_and_is_not_sent_without_an_answer() -> None:
    """DNS answers enter as events."""
    party = Party()
    acknowledgement = acknowledging(party, "<sip:b@name.example>")
    acknowledgement.send(0.0)
    (query,) = party.layer.actions()
    assert isinstance(query, Resolve)
    party.layer.resolved(query.query, (), 0.0)
    assert party.sent() == []
    acknowledgement.send(0.5)
    (query,) = party.layer.actions()
    assert isinstance(query, Resolve)
    party.layer.resolved(query.query, (Target(TransportName.UDP, PEER),), 0.5)
    assert len(party.sent()) == 1


def test_a_request_in_a_dialog_says_where_we_are_only_where_it_matters() -> None:
    """RFC 3261 §12.2.1.1: a Contact in target refreshes; not in a BYE."""
    layer = Party().layer
    dialog = Dialog.of_server(invite(headers=[("Record-Route", "<sip:p;lr>")]), "us")
    hop = Hop(Target(TransportName.UDP, Address("192.0.2.7", 5060)))
    bye = dict(in_dialog(dialog, "BYE", layer).headers(hop))
    assert "Contact" not in bye
    assert (bye["Route"], bye["Call-ID"]) == ("<sip:p;lr>", "call@192.0.2.7")
    again = dict(in_dialog(dialog, "INVITE", layer, body=ANSWER, flow=FLOW).headers(hop))
    assert again["Contact"] == "<sip:192.0.2.1:5060>"
    assert again["Content-Type"] == "application/sdp"


def test_what_is_known_of_the_peer() -> None:
    """Its flow, and whether proxies stand between."""
    assert near_of(Dialog.of_server(invite(), "us"), None) is None
    assert near_of(Dialog.of_server(invite(), "us"), FLOW) == Near(FLOW, routed=False)
    routed = Dialog.of_server(invite(headers=[("Record-Route", "<sip:p;lr>")]), "us")
    assert near_of(routed, FLOW) == Near(FLOW, routed=True)
