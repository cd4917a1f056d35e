"""Whatever arrives, in whatever order: no input raises, a call ends once, nothing is left, nothing is called.

"Re-INVITE after BYE, a second 183: every event in every state" is how other SIP stacks fell.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.actions import Target
from edge.events import (
    Address,
    CallEnded,
    CallKey,
    CallOffered,
    Event,
    Flow,
    OutgoingCall,
    Refusal,
    RegistrationSpec,
    TransportName,
)
from edge.message import Request, Response, check_response
from edge.uri import ParseError
from tests.edge.pair import ANSWER, DIGEST, EDGE, LAB, OFFER, PEER, STRANGER, Solo, invite, reply, request

EXTENSIONS = [
    ("Supported", "timer"),
    ("Supported", "100rel"),
    ("Require", "100rel"),
    ("Require", "timer"),
    ("Session-Expires", "90;refresher=uac"),
    ("Session-Expires", "100;refresher=uas"),
    ("Session-Expires", "60"),
    ("Min-SE", "600"),
    ("Allow", "INVITE, ACK, BYE, CANCEL, UPDATE, INFO"),
    ("Content-Type", "application/dtmf-relay"),
]
NUMBERS = [("RSeq", "1"), ("RSeq", "2"), ("RSeq", "x"), ("Min-SE", "junk")]
BEARING = ("INVITE", "ACK", "UPDATE", "PRACK", "INFO")
METHODS = ["INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "INFO", "REFER", "NOTIFY", "UPDATE", "PRACK"]
STATUSES = [100, 180, 183, 200, 202, 301, 401, 404, 405, 407, 408, 422, 423, 481, 486, 487, 491, 500, 503, 603]
FLOWS = [
    Flow(TransportName.UDP, EDGE, PEER),
    Flow(TransportName.UDP, EDGE, STRANGER),
    Flow(TransportName.TCP, EDGE, PEER, 1),
    Flow(TransportName.TLS, EDGE, Address("192.0.2.9", 40000), 2),
]
CHALLENGES = [
    ("WWW-Authenticate", 'Digest realm="r", nonce="n"'),
    ("Proxy-Authenticate", 'Digest realm="r", nonce="n", stale=true, qop="auth"'),
    ("Proxy-Authenticate", "junk"),
    ("Min-Expires", "7200"),
    ("Retry-After", "x"),
    ("Contact", "<sip:evil@203.0.113.1>"),
    ("Record-Route", "<sip:203.0.113.1>"),
]


def well_formed(message: Response) -> bool:
    """Our answers to garbled requests may lack what those lacked."""
    try:
        check_response(message)
    except ParseError:
        return False
    return message.to.tag is not None


class World:
    """An engine, and a peer that does anything at any time."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.solo = Solo(rules=(LAB, DIGEST), seed=seed, max_transactions=60)
        self.keys: list[CallKey] = []
        self.heard: list[Event] = []
        self.received: list[Request] = []
        self.called = 0

    def step(self) -> None:
        """One random thing happens."""
        things: list[Callable[[], None]] = [
            self.new_call,
            self.in_dialog,
            self.in_dialog,
            self.in_dialog,
            self.respond,
            self.respond,
            self.respond,
            self.command,
            self.command,
            self.command,
            self.repeat,
            self.garble,
            self.wait,
            self.call_out,
            self.transport,
        ]
        self.random.choice(things)()
        self.collect()

    def collect(self) -> None:
        self.solo.drain()
        for event in self.solo.events:
            self.heard.append(event)
            key = getattr(event, "key", None)
            if key is not None and key not in self.keys:
                self.keys.append(key)
        self.solo.events.clear()

    def give(self, message: bytes | Request | Response) -> None:
        if isinstance(message, Request):
            self.received.append(message)
        self.solo.receive(message, self.random.choice([*FLOWS[:1] * 4, *FLOWS]))

    def new_call(self) -> None:
        number = self.random.randrange(5)
        headers = self.random.sample(EXTENSIONS, self.random.randrange(4))
        body = self.random.choice([OFFER, b""])
        self.give(invite(call_id=f"call{number}", body=body, cseq=self.random.randrange(3), headers=headers))

    def in_dialog(self) -> None:
        """A request with tags and CSeq from what was said before, more or less."""
        method = self.random.choice(METHODS)
        ours = [message for message in self.solo.sent if isinstance(message, Response) and well_formed(message)]
        if not ours:
            return
        answered = self.random.choice(ours[-6:])
        known = self.received[-6:]
        branch = self.random.choice(known).via.branch if known and self.random.random() < 0.4 else None
        made = request(
            method,
            call_id=answered.call_id,
            to_tag=answered.to.tag if self.random.random() < 0.9 else None,
            from_tag=answered.from_.tag or "peer",
            cseq=self.random.choice([answered.cseq.number, answered.cseq.number + 1, self.random.randrange(9)]),
            branch=branch,
            body=self.random.choice([b"", OFFER, b"junk"]) if method in BEARING else b"",
            headers=[*self.random.sample(EXTENSIONS, self.random.randrange(4)), *self.rack(answered)],
        )
        self.give(made)

    def rack(self, answered: Response) -> list[tuple[str, str]]:
        """What acknowledges a reliable provisional response of ours, more or less."""
        number = answered.headers.get("RSeq") or str(self.random.randrange(3))
        return [("RAck", f"{number} {self.random.choice([answered.cseq.number, 1])} INVITE")]

    def respond(self) -> None:
        """A response to one of our requests, or what looks like one."""
        ours = [message for message in self.solo.sent if isinstance(message, Request)]
        if ours:
            sent = self.random.choice(ours[-6:])
            tag = self.random.choice(["callee", "callee", "other", None])
            headers = self.random.sample(CHALLENGES, self.random.randrange(3))
            headers += self.random.sample([*EXTENSIONS, *NUMBERS], self.random.randrange(4))
            self.give(reply(sent, self.random.choice(STATUSES), tag=tag, headers=headers))

    def command(self) -> None:
        endpoint, now = self.solo.endpoint, self.solo.now
        key = self.random.choice([*self.keys[-4:], CallKey("nobody")])
        self.random.choice(
            [
                lambda: endpoint.ring(key, now=now),
                lambda: endpoint.progress(key, 183, ANSWER, now=now),
                lambda: endpoint.answer(key, ANSWER, now=now),
                lambda: endpoint.answer(key, ANSWER, now=now),
                lambda: endpoint.refuse(key, Refusal(486, "busy"), now=now),
                lambda: endpoint.hang_up(key, now=now, reason="enough"),
                lambda: endpoint.accept_offer(key, ANSWER, now=now),
                lambda: endpoint.refuse_offer(key, Refusal(488, "no"), now=now),
                lambda: endpoint.reoffer(key, OFFER, now=now),
                lambda: endpoint.press(key, "1", 100, now=now),
            ]
        )()

    def repeat(self) -> None:
        if self.received:
            self.give(bytes(self.random.choice(self.received[-8:])))

    def garble(self) -> None:
        """A message we have heard, with some octets changed, cut out or doubled."""
        if not self.received:
            return
        raw = bytearray(bytes(self.random.choice(self.received[-8:])))
        for _ in range(self.random.randrange(1, 6)):
            at = self.random.randrange(len(raw))
            end = min(len(raw), at + self.random.randrange(1, 30))
            match self.random.randrange(3):
                case 0:
                    raw[at] = self.random.randrange(256)
                case 1 if len(raw) > 40:
                    del raw[at:end]
                case _:
                    raw[at:at] = raw[at:end]
        self.give(bytes(raw))

    def wait(self) -> None:
        self.solo.advance(self.random.choice([0.0, 0.1, 0.6, 5.0, 33.0, 200.0]))

    def call_out(self) -> None:
        if self.called < 3:
            self.called += 1
            target = self.random.choice(["sip:a@192.0.2.7", "sip:a@192.0.2.7;transport=tcp", "sip:a@name.example"])
            self.keys.append(
                self.solo.endpoint.invite(
                    OutgoingCall(target, "sip:e@edge.test", OFFER, username="u", password="p"), now=self.solo.now
                )
            )

    def transport(self) -> None:
        endpoint, now = self.solo.endpoint, self.solo.now
        tokens = [action.token for action in self.solo.actions if hasattr(action, "token")]
        self.random.choice(
            [
                lambda: endpoint.transport_failed(self.random.choice(tokens[-5:] or [""]), now),
                lambda: endpoint.connection_closed(self.random.choice(FLOWS), now),
                lambda: endpoint.resolved(self.random.randrange(4), (Target(TransportName.UDP, PEER),), now),
            ]
        )()

    def finish(self) -> None:
        """Everything is hung up; then there is nothing."""
        for key in self.keys:
            self.solo.endpoint.hang_up(key, now=self.solo.now)
        self.solo.quiet(limit_s=600.0)
        self.collect()

    def check(self) -> None:
        endpoint = self.solo.endpoint
        assert (endpoint.calls, endpoint.pending) == (0, 0)
        assert len(endpoint.layer.timers) == 0
        ended: set[CallKey] = set()
        for event in self.heard:
            key = getattr(event, "key", None)
            assert key not in ended, f"{event} after its CallEnded"
            if isinstance(event, CallEnded):
                ended.add(event.key)
        assert {event.key for event in self.heard if isinstance(event, CallOffered)} <= ended
        offered = {event.call_id for event in self.heard if isinstance(event, CallOffered)}
        assert len({message.call_id for message in self.solo.requests("INVITE")} - offered) <= self.called


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 120))
def test_any_story_ends_with_each_call_ended_once_and_nothing_left(seed: int, steps: int) -> None:
    """Random requests, responses, commands, repetitions, garbled octets, faults of the transport, and time."""
    world = World(seed)
    for _ in range(steps):
        world.step()
        assert world.solo.endpoint.layer.pending <= 60 * 2
    world.finish()
    world.check()


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=2000), flow=st.sampled_from(FLOWS))
def test_no_octets_raise(data: bytes, flow: Flow) -> None:
    """From anybody, over anything."""
    solo = Solo(rules=(LAB, DIGEST))
    solo.receive(data, flow)
    assert solo.endpoint.calls == 0


TEXT = st.text(st.characters(codec="latin-1"), max_size=30)
LINE = st.one_of(
    st.tuples(st.sampled_from(["Via", "v", "From", "To", "Call-ID", "CSeq", "Contact", "Require", "Expires"]), TEXT),
    st.tuples(
        st.sampled_from(["Session-Expires", "x", "Min-SE", "RAck", "RSeq", "Reason", "Allow", "Supported"]), TEXT
    ),
    st.tuples(
        st.sampled_from(["Route", "Record-Route", "P-Asserted-Identity", "Diversion", "Content-Type", "X-A", "k"]), TEXT
    ),
    st.sampled_from(
        [
            ("Via", "SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK1;rport=99999"),
            ("Via", "SIP/2.0/UDP 192.0.2.7;rport;received=[::1;branch=z9hG4bK1"),
            ("Record-Route", "<sip:p;lr>,<sip:"),
            ("To", "<sip:a@b>;tag="),
            ("Proxy-Authorization", 'Digest username="alice", realm="edge.test", nonce="", uri="", response=""'),
            ("Content-Length", "-1"),
        ]
    ),
)


@settings(max_examples=400, deadline=None)
@given(lines=st.lists(LINE, max_size=6), method=st.sampled_from([*METHODS, "REGISTER"]), flow=st.sampled_from(FLOWS))
def test_no_headers_raise(lines: list[tuple[str, str]], method: str, flow: Flow) -> None:
    """A good request with some headers replaced or added by anything at all."""
    solo = Solo(rules=(LAB, DIGEST))
    head, _, body = bytes(invite() if method == "INVITE" else request(method)).partition(b"\r\n\r\n")
    extra = b"".join(f"\r\n{name}: {value}".encode("utf-8", "surrogateescape") for name, value in lines)
    solo.receive(head + extra + b"\r\n\r\n" + body, flow)
    first, *rest = head.split(b"\r\n")
    replaced = {name.lower().encode() for name, _ in lines}
    kept = [line for line in rest if line.partition(b":")[0].lower() not in replaced]
    solo.receive(b"\r\n".join([first, *kept]) + extra + b"\r\n\r\n" + body, flow)
    for event in list(solo.events):
        if isinstance(event, CallOffered):
            solo.endpoint.answer(event.key, ANSWER, now=0.0)
            solo.endpoint.hang_up(event.key, now=0.0)
    solo.quiet()
    assert solo.endpoint.pending == 0


@settings(max_examples=200, deadline=None)
@given(lines=st.lists(LINE, max_size=5), status=st.sampled_from(STATUSES))
def test_no_response_raises(lines: list[tuple[str, str]], status: int) -> None:
    """To an INVITE and to a REGISTER of ours."""
    solo = Solo()
    key = solo.endpoint.invite(
        OutgoingCall("sip:a@192.0.2.7", "sip:e@edge.test", OFFER, username="u", password="p"), now=0.0
    )
    spec = RegistrationSpec("r", "192.0.2.7", "sip:u@h", "u", "p", "u")
    solo.endpoint.register(spec, now=0.0)
    for sent in solo.drain():
        assert isinstance(sent, Request)
        raw = bytes(reply(sent, status))
        extra = b"".join(f"\r\n{name}: {value}".encode("utf-8", "surrogateescape") for name, value in lines)
        solo.receive(raw.replace(b"\r\nCall-ID", extra + b"\r\nCall-ID", 1))
    solo.endpoint.hang_up(key, now=0.0)
    solo.endpoint.unregister("r", now=0.0)
    solo.advance(200.0)
    solo.quiet()
    assert solo.endpoint.pending == 0
    assert len([event for event in solo.events if isinstance(event, CallEnded)]) == 1
