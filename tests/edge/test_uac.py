"""One request of ours until its final response; in calls and registrations it is tested by behaviour."""

from __future__ import annotations

from itertools import count

import pytest

from edge.actions import Dispatch, Target
from edge.auth import Challenger, Credentials, VerdictKind
from edge.events import Address, TransportName
from edge.layer import EndpointSettings, Hop, TransactionLayer
from edge.message import Request, Response, parse
from edge.transaction import Failure
from edge.uac import Credential, Draft, Outgoing, cancellation
from edge.uri import SipUri
from tests.edge.pair import EDGE, entropy, reply, request

CHALLENGER = Challenger(bytes(range(32)))


class Sender:
    """A layer, a user, and the request between them."""

    def __init__(
        self,
        method: str = "OPTIONS",
        *,
        uri: str = "sip:peer",
        credential: Credential | None = None,
        body: bytes = b"",
    ) -> None:
        settings = EndpointSettings("edge.test", ((TransportName.UDP, EDGE), (TransportName.TCP, EDGE)))
        self.layer = TransactionLayer(settings, entropy(1))
        self.told: list[object] = []
        self.numbers = count(5)
        self.hops: list[Hop] = []
        draft = Draft(method, uri, self.headers, body)
        self.outgoing = Outgoing(self.layer, draft, lambda: next(self.numbers), self, credential)
        self.sent: list[tuple[Request, Target]] = []

    def headers(self, hop: Hop) -> list[tuple[str, str]]:
        self.hops.append(hop)
        return [("From", "<sip:e@h>;tag=1"), ("To", "<sip:peer>"), ("Call-ID", "c")]

    def on_response(self, outgoing: Outgoing, response: Response, now: float) -> None:
        self.told.append(response.status)

    def on_failure(self, outgoing: Outgoing, failure: Failure, now: float) -> None:
        self.told.append(failure)

    def start(self, *hosts: str) -> None:
        self.outgoing.start(SipUri.parse("sip:peer.example"), 0.0)
        self.layer.resolved(1, tuple(Target(TransportName.UDP, Address(host, 5060)) for host in hosts), 0.0)
        self.drain()

    def drain(self) -> None:
        for action in self.layer.actions():
            if isinstance(action, Dispatch):
                message = parse(action.data)
                assert isinstance(message, Request)
                self.sent.append((message, action.target))

    def answer(self, status: int, *headers: tuple[str, str]) -> None:
        """The peer answers the last request that is no ACK."""
        last = next(message for message, _ in reversed(self.sent) if message.method != "ACK")
        response = reply(last, status, headers=headers)
        from edge.events import Flow

        target = self.sent[-1][1]
        self.layer.receive_response(response, Flow(target.transport, EDGE, target.address), 0.0)
        self.drain()


def test_the_targets_are_tried_in_their_order_and_told_apart_by_branch() -> None:
    """RFC 3263 §4.3."""
    sender = Sender()
    sender.start("192.0.2.1", "192.0.2.2", "192.0.2.3")
    sender.answer(503)
    sender.answer(503)
    assert [target.address.host for _, target in sender.sent] == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    assert len({message.via.branch for message, _ in sender.sent}) == 3
    assert {message.cseq.number for message, _ in sender.sent} == {5}
    sender.answer(503)
    assert sender.told == [503]


@pytest.mark.parametrize("status", [404, 500, 603])
def test_other_failures_are_final_whatever_targets_are_left(status: int) -> None:
    """RFC 3263 §4.3: only 503, time-outs and transport errors lead on."""
    sender = Sender()
    sender.start("192.0.2.1", "192.0.2.2")
    sender.answer(status)
    assert sender.told == [status]
    assert len(sender.sent) == 1


def test_at_most_eight_targets_are_tried() -> None:
    """A DNS answer cannot make us knock at a hundred doors."""
    sender = Sender()
    sender.start(*(f"192.0.2.{number}" for number in range(1, 101)))
    for _ in range(20):
        sender.answer(503)
    assert len(sender.sent) == 8
    assert sender.told[0] == 503


def test_a_challenge_is_answered_to_the_same_target_with_a_new_number() -> None:
    """RFC 3261 §22.2."""
    sender = Sender(credential=Credential("u", "p"))
    sender.start("192.0.2.1", "192.0.2.2")
    sender.answer(407, ("Proxy-Authenticate", 'Digest realm="r", nonce="n"'))
    assert [target.address.host for _, target in sender.sent] == ["192.0.2.1", "192.0.2.1"]
    assert [message.cseq.number for message, _ in sender.sent] == [5, 6]
    assert sender.told == []


@pytest.mark.parametrize("uri", ["sip:peer", "sip:peer:5061", "sip:+14155550100@peer:5060;transport=tcp;gw=x"])
def test_the_digest_covers_the_request_uri_with_its_port_and_parameters(uri: str) -> None:
    """RFC 3261 §22.4, RFC 7616 §3.4: `uri` is the Request-URI to the byte, or the challenge comes for ever."""
    sender = Sender(uri=uri, credential=Credential("u", "p"))
    sender.start("192.0.2.1")
    sender.answer(401, ("WWW-Authenticate", CHALLENGER.challenge("r", ["MD5"], "src", 0.0)[0]))
    again = sender.sent[-1][0]
    (value,) = again.headers.lines("Authorization")
    assert again.uri == uri
    assert f'uri="{uri}"' in value
    known = {"u": Credentials("u", "p")}.get
    assert CHALLENGER.verify(value, again.method, b"", known, "src", 0.0).kind is VerdictKind.ACCEPTED


def test_a_proxys_and_a_registrars_challenge_may_follow_each_other() -> None:
    """RFC 3261 §22.3: each gets its own header, both stay."""
    sender = Sender(credential=Credential("u", "p"))
    sender.start("192.0.2.1")
    sender.answer(407, ("Proxy-Authenticate", 'Digest realm="proxy", nonce="n"'))
    sender.answer(401, ("WWW-Authenticate", 'Digest realm="server", nonce="m"'))
    last = sender.sent[-1][0]
    assert "Proxy-Authorization" in last.headers and "Authorization" in last.headers
    assert sender.told == []


def test_a_challenge_nobody_can_answer_is_a_refusal() -> None:
    """RFC 3261 §22.2: unknown scheme or algorithm, or none at all."""
    for value in ('Basic realm="x"', 'Digest realm="r", nonce="n", algorithm=SHA-512', "rubbish"):
        sender = Sender(credential=Credential("u", "p"))
        sender.start("192.0.2.1")
        sender.answer(401, ("WWW-Authenticate", value))
        assert sender.told == [401]


def test_the_password_stays_out_of_sight() -> None:
    """Not in a repr, so not in a log."""
    assert "hush" not in repr(Credential("u", "hush"))


def test_a_cancellation_copies_the_invite() -> None:
    """RFC 3261 §9.1: Route too; no Require, no body, no Contact."""
    original = request("INVITE", cseq=9, headers=[("Route", "<sip:p;lr>"), ("Require", "x")], body=b"v=0\r\n")
    made = cancellation(original, 'SIP;cause=200;text="x"')
    assert (made.method, made.uri, str(made.cseq)) == ("CANCEL", original.uri, "9 CANCEL")
    assert made.headers.lines("Via") == original.headers.lines("Via")
    assert made.headers.lines("Route") == ["<sip:p;lr>"]
    assert made.headers.get("Reason") == 'SIP;cause=200;text="x"'
    assert all(name not in made.headers for name in ("Require", "Contact", "Content-Type"))
    assert made.body == b""


def test_after_a_cancel_no_other_target_is_tried() -> None:
    """RFC 3261 §9.1: whoever gave up does not want to ring elsewhere."""
    sender = Sender("INVITE")
    sender.start("192.0.2.1", "192.0.2.2")
    sender.answer(180)
    sender.outgoing.cancel(0.0)
    sender.outgoing.cancel(0.0)
    sender.drain()
    assert [message.method for message, _ in sender.sent] == ["INVITE", "CANCEL"]
    invite = sender.sent[0][0]
    from edge.events import Flow

    flow = Flow(TransportName.UDP, EDGE, Address("192.0.2.1", 5060))
    sender.layer.receive_response(reply(invite, 503), flow, 0.0)
    sender.drain()
    assert sender.told == [180, 503]
    assert [message.method for message, _ in sender.sent] == ["INVITE", "CANCEL", "ACK"]


def test_after_a_provisional_from_one_target_the_cancel_of_the_next_waits_for_its_own() -> None:
    """RFC 3261 §9.1: for each INVITE transaction anew."""
    sender = Sender("INVITE")
    sender.start("192.0.2.1", "192.0.2.2")
    sender.answer(100)
    sender.answer(503)
    sender.outgoing.cancel(0.0)
    sender.drain()
    assert [message.method for message, _ in sender.sent] == ["INVITE", "ACK", "INVITE"]
    sender.answer(100)
    assert sender.sent[-1][0].method == "CANCEL"
    assert sender.sent[-1][0].via.branch == sender.sent[2][0].via.branch
