"""Two engines and a bad wire: whatever is lost or crosses, a call ends once on each side and leaves nothing."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from edge.events import (
    CallAnswered,
    CallConfirmed,
    CallEnded,
    CallKey,
    CallOffered,
    CallProgressed,
    Cause,
    Event,
    MediaAnswered,
    MediaOffered,
    MediaRefused,
    Party,
    Refusal,
    TransportName,
)
from tests.edge.pair import ANSWER, OFFER, Pair


def lossy(share: float, seed: int) -> Callable[[str, bytes], bool]:
    """Loses this share of all datagrams, the same ones each time."""
    draw = random.Random(seed).random
    return lambda sender, data: draw() < share


def loses(first: bytes, times: int = 10**6, *, sender: str = "caller") -> Callable[[str, bytes], bool]:
    """Loses the first ``times`` messages that begin so."""
    left = [times]

    def drop(name: str, data: bytes) -> bool:
        if name == sender and data.startswith(first) and left[0] > 0:
            left[0] -= 1
            return True
        return False

    return drop


def answering(pair: Pair, after_s: float = 0.0, ring: bool = True) -> None:
    """The edge rings, and answers at once or after a while; it accepts what is offered later."""

    def on_event(event: Event) -> None:
        if isinstance(event, CallOffered):
            if ring:
                pair.edge.ring(event.key, now=pair.now)
            key = event.key
            pair.edge.layer.timers.call_at(pair.now + after_s, lambda now: pair.edge.answer(key, ANSWER, now=now))
        elif isinstance(event, MediaOffered):
            pair.edge.accept_offer(event.key, ANSWER, now=pair.now)

    pair.on_edge_event = on_event


def quiet(pair: Pair) -> None:
    """Nothing is left, and each side has had one end of each of its calls."""
    pair.quiet()
    assert (pair.caller.pending, pair.edge.pending) == (0, 0)
    assert (pair.caller.calls, pair.edge.calls) == (0, 0)
    for name, beginning in (("caller", None), ("edge", CallOffered)):
        ended = [event.key for event in pair.of(name, CallEnded)]
        assert len(ended) == len(set(ended))
        if beginning is not None:
            assert set(ended) == {event.key for event in pair.of(name, beginning)}


@pytest.mark.parametrize("transports", [(TransportName.UDP,), (TransportName.TCP,)])
def test_a_call_on_a_good_wire(transports: tuple[TransportName, ...]) -> None:
    """RFC 3261 §4: ring, answer, talk, hang up."""
    pair = Pair(transports=transports)
    answering(pair, after_s=1.0)
    next_hop = f"192.0.2.1:5060;{transports[0].value}"
    key = pair.call(next_hop=next_hop)
    pair.run(0.5)
    assert pair.last("caller", CallProgressed).status == 180
    pair.run(5.0)
    assert pair.last("caller", CallAnswered).body == ANSWER
    assert pair.last("edge", CallConfirmed).body is None
    pair.caller.hang_up(key, now=pair.now)
    quiet(pair)
    assert pair.last("edge", CallEnded).by is Party.REMOTE
    methods = [data.split(b" ", 1)[0] for _, name, data in pair.sent if name == "caller"]
    assert methods == [b"INVITE", b"ACK", b"BYE"]


def test_the_edge_hangs_up() -> None:
    """RFC 3261 §15.1.1."""
    pair = Pair()
    answering(pair)
    pair.call()
    pair.run(1.0)
    pair.edge.hang_up(pair.last("edge", CallOffered).key, now=pair.now)
    quiet(pair)
    assert pair.last("caller", CallEnded).by is Party.REMOTE
    assert pair.last("edge", CallEnded).by is Party.LOCAL


def test_a_refused_call() -> None:
    """RFC 3261 §13.3.1.3."""
    pair = Pair()
    pair.on_edge_event = lambda event: (
        pair.edge.refuse(event.key, Refusal(486, "busy"), now=pair.now) if isinstance(event, CallOffered) else None
    )
    pair.call()
    quiet(pair)
    ended = pair.last("caller", CallEnded)
    assert (ended.status, ended.cause) == (486, Cause.REFUSED)


def test_a_delayed_offer_between_two_engines() -> None:
    """RFC 3261 §13.2.1: our own client always offers, so the edge must live with an INVITE that does not."""
    pair = Pair()
    offers: list[bytes | None] = []

    def on_event(event: Event) -> None:
        if isinstance(event, CallOffered):
            offers.append(event.offer)
            pair.edge.answer(event.key, OFFER, now=pair.now)

    pair.on_edge_event = on_event
    from edge.events import OutgoingCall

    pair.caller.invite(OutgoingCall("sip:+1@192.0.2.1", "sip:alice@192.0.2.7", b""), now=0.0)
    pair.run(1.0)
    assert offers == [None]
    assert pair.last("caller", CallAnswered).body == OFFER


@pytest.mark.parametrize("count", [1, 2, 5])
def test_lost_invites_are_sent_again(count: int) -> None:
    """RFC 3261 §17.1.1.2: timer A."""
    pair = Pair(drop=loses(b"INVITE", count))
    answering(pair)
    key = pair.call()
    pair.run(20.0)
    assert pair.last("caller", CallAnswered).key == key
    pair.caller.hang_up(key, now=pair.now)
    quiet(pair)
    assert len(pair.of("edge", CallOffered)) == 1


@pytest.mark.parametrize("count", [1, 3])
def test_a_lost_200_is_sent_again(count: int) -> None:
    """RFC 3261 §13.3.1.4."""
    pair = Pair(drop=loses(b"SIP/2.0 200", count, sender="edge"))
    answering(pair)
    key = pair.call()
    pair.run(10.0)
    assert pair.last("caller", CallAnswered).key == key
    pair.caller.hang_up(key, now=pair.now)
    quiet(pair)


def test_a_lost_ack_is_sent_again_for_the_next_200() -> None:
    """RFC 3261 §13.2.2.4."""
    pair = Pair(drop=loses(b"ACK", 3))
    answering(pair)
    key = pair.call()
    pair.run(10.0)
    assert len(pair.of("edge", CallConfirmed)) == 1
    pair.caller.hang_up(key, now=pair.now)
    quiet(pair)


def test_an_ack_that_never_arrives_ends_in_a_bye() -> None:
    """R4: the 200 is repeated for 32 s, then BYE; both sides end."""
    pair = Pair(drop=loses(b"ACK"))
    answering(pair)
    pair.call()
    quiet(pair)
    assert pair.last("edge", CallEnded).cause is Cause.NO_ACK
    assert pair.last("caller", CallEnded).by is Party.REMOTE
    assert 32.0 <= next(at for at, name, data in pair.sent if name == "edge" and data.startswith(b"BYE")) <= 32.2


def test_lost_byes_are_sent_again_and_a_peer_that_never_hears_them_keeps_its_call() -> None:
    """R5, R6: freed within 33 s here; there the media watchdog's business."""
    pair = Pair(drop=loses(b"BYE", 3))
    answering(pair)
    key = pair.call()
    pair.run(1.0)
    pair.caller.hang_up(key, now=pair.now)
    quiet(pair)
    deaf = Pair(drop=loses(b"BYE"))
    answering(deaf)
    key = deaf.call()
    deaf.run(1.0)
    deaf.caller.hang_up(key, now=deaf.now)
    deaf.run(33.0)
    assert (deaf.caller.pending, deaf.caller.calls) == (0, 0)
    assert deaf.edge.calls == 1
    deaf.edge.hang_up(deaf.last("edge", CallOffered).key, now=deaf.now)
    quiet(deaf)


def test_a_refusal_whose_ack_is_lost_stops_at_timer_h() -> None:
    """R8: 487 and the like are repeated for 32 s at most."""
    pair = Pair(drop=loses(b"ACK"))
    pair.on_edge_event = lambda event: (
        pair.edge.refuse(event.key, Refusal(404, ""), now=pair.now) if isinstance(event, CallOffered) else None
    )
    pair.call()
    quiet(pair)
    copies = [at for at, name, data in pair.sent if name == "edge" and data.startswith(b"SIP/2.0 404")]
    assert copies[-1] - copies[0] <= 32.0


def test_five_percent_loss_costs_no_call() -> None:
    """R1: 200 calls with 5 % loss both ways: at least 99.5 % come up, none is stuck."""
    up = 0
    for seed in range(200):
        pair = Pair(drop=lossy(0.05, seed), seed=seed)
        answering(pair, after_s=0.3)
        key = pair.call()
        pair.run(40.0)
        up += bool(pair.of("caller", CallAnswered)) and bool(pair.of("edge", CallConfirmed))
        pair.caller.hang_up(key, now=pair.now)
        quiet(pair)
    assert up >= 199


def test_twenty_percent_loss_leaks_nothing() -> None:
    """R3: 100 calls with 20 % loss: at least 90 % come up."""
    up = 0
    for seed in range(100):
        pair = Pair(drop=lossy(0.2, 1000 + seed), seed=seed)
        answering(pair, after_s=0.3)
        key = pair.call()
        pair.run(40.0)
        up += bool(pair.of("caller", CallAnswered))
        pair.caller.hang_up(key, now=pair.now)
        pair.run(40.0)
        for event in pair.of("edge", CallOffered):
            pair.edge.hang_up(event.key, now=pair.now)
        quiet(pair)
    assert up >= 90


def test_a_cancel_at_any_moment_gives_one_final() -> None:
    """R7, 1000 times: CANCEL 0-60 ms after the INVITE, against an answer at 30 ms: 487, or 200 and then BYE."""
    outcomes = {"487": 0, "200": 0}
    draw = random.Random(9110).random
    for seed in range(1000):
        pair = Pair(seed=seed, delay_s=0.005 + 0.01 * draw())
        answering(pair, after_s=0.02, ring=seed % 2 == 0)
        key = pair.call()
        pair.run(0.06 * draw())
        pair.caller.hang_up(key, now=pair.now)
        quiet(pair)
        finals = {
            data[8:11].decode()
            for _, name, data in pair.sent
            if name == "edge" and data[:8] == b"SIP/2.0 " and data[8:9] != b"1" and b" INVITE\r\n" in data
        }
        assert finals in ({"487"}, {"200"})
        byes = [data for _, name, data in pair.sent if name == "caller" and data.startswith(b"BYE")]
        assert bool(byes) == (finals == {"200"})
        outcomes[finals.pop()] += 1
        assert len(pair.of("caller", CallEnded)) == 1
        assert pair.last("caller", CallEnded).key == key
    assert min(outcomes.values()) > 100, outcomes


def test_a_cancel_on_a_lossy_wire_still_gives_one_end_on_each_side() -> None:
    """R7 with 10 % loss."""
    draw = random.Random(7).random
    for seed in range(200):
        pair = Pair(seed=seed, drop=lossy(0.1, seed))
        answering(pair, after_s=0.02)
        key = pair.call()
        pair.run(0.06 * draw())
        pair.caller.hang_up(key, now=pair.now)
        pair.run(40.0)
        for event in pair.of("edge", CallOffered):
            pair.edge.hang_up(event.key, now=pair.now)
        quiet(pair)


def test_byes_that_cross_end_the_call_once_on_each_side() -> None:
    """RFC 5407 §3.2.1."""
    pair = Pair()
    answering(pair)
    key = pair.call()
    pair.run(1.0)
    pair.caller.hang_up(key, now=pair.now)
    pair.edge.hang_up(pair.last("edge", CallOffered).key, now=pair.now)
    quiet(pair)
    assert {pair.last(name, CallEnded).by for name in ("caller", "edge")} == {Party.LOCAL}


def test_offers_that_cross_are_both_made_in_the_end() -> None:
    """RFC 3261 §14.1: glare; both sides get 491, wait in their windows, and each offer is answered."""
    for seed in range(50):
        pair = Pair(seed=seed)
        answering(pair)
        key = pair.call()
        pair.run(1.0)
        edge_key = pair.last("edge", CallOffered).key
        pair.caller.reoffer(key, OFFER, now=pair.now)
        pair.edge.reoffer(edge_key, ANSWER, now=pair.now)
        pair.pump()
        for _ in range(80):
            pair.run(0.1)
            for event in pair.of("caller", MediaOffered):
                pair.caller.accept_offer(event.key, OFFER, now=pair.now)
        assert len(pair.of("caller", MediaAnswered)) == 1
        assert len(pair.of("edge", MediaAnswered)) == 1
        assert pair.of("caller", MediaRefused) == pair.of("edge", MediaRefused) == []
        assert (pair.caller.calls, pair.edge.calls) == (1, 1)
        pair.caller.hang_up(key, now=pair.now)
        quiet(pair)


def test_a_hundred_calls_in_a_burst_leave_nothing() -> None:
    """100 INVITEs at once, held, then hung up from either side."""
    pair = Pair(drop=lossy(0.02, 5))
    answering(pair, after_s=0.5)
    keys: list[CallKey] = [pair.call() for _ in range(100)]
    pair.run(40.0)
    assert len(pair.of("edge", CallConfirmed)) == 100
    for key in keys[:50]:
        pair.caller.hang_up(key, now=pair.now)
    pair.run(40.0)
    for event in pair.of("edge", CallOffered):
        pair.edge.hang_up(event.key, now=pair.now)
    quiet(pair)
    assert len(pair.of("caller", CallEnded)) == 100
