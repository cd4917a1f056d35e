"""The four transaction machines of RFC 3261 §17 with RFC 6026: each row of each table, each timer, each silence."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from edge.message import Request, Response, parse
from edge.timers import Timers
from edge.transaction import (
    TABLES,
    Action,
    ClientInvite,
    ClientNonInvite,
    Failure,
    Input,
    ServerInvite,
    ServerNonInvite,
    State,
    Timing,
    Transaction,
    client_key,
    server_key,
)
from tests.edge.pair import reply, request

Machine = ClientInvite | ClientNonInvite | ServerInvite | ServerNonInvite


class Bench:
    """A layer, a user and a wire for one transaction."""

    def __init__(self) -> None:
        self.timers = Timers()
        self.timing = Timing()
        self.now = 0.0
        self.wire: list[tuple[float, bytes]] = []
        self.told: list[object] = []
        self.over: list[Transaction] = []
        self.local_tag = "us"

    def terminated(self, transaction: Transaction) -> None:
        self.over.append(transaction)

    def send(self, data: bytes, now: float) -> None:
        self.wire.append((now, data))

    def on_response(self, transaction: Transaction, response: Response, now: float) -> None:
        self.told.append(response.status)

    def on_failure(self, transaction: Transaction, failure: Failure, now: float) -> None:
        self.told.append(failure)

    def on_ack(self, request: Request, now: float) -> None:
        self.told.append("ACK")

    def on_no_ack(self, now: float) -> None:
        self.told.append("no ACK")

    def on_cancel(self, request: Request, now: float) -> None:
        self.told.append("CANCEL")

    def client_invite(self, *, reliable: bool = False) -> ClientInvite:
        made = ClientInvite(self, ("b", "INVITE"), request("INVITE"), self.send, self, reliable=reliable)
        made.start(self.now)
        return made

    def client(self, *, reliable: bool = False) -> ClientNonInvite:
        made = ClientNonInvite(self, ("b", "BYE"), request("BYE", to_tag="x"), self.send, self, reliable=reliable)
        made.start(self.now)
        return made

    def server_invite(self, *, reliable: bool = False) -> ServerInvite:
        made = ServerInvite(self, ("b",), request("INVITE"), self.send, self, reliable=reliable)
        made.start(self.now)
        return made

    def server(self, *, reliable: bool = False) -> ServerNonInvite:
        made = ServerNonInvite(self, ("b",), request("BYE", to_tag="x"), self.send, reliable=reliable)
        made.start(self.now)
        return made

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while (due := self.timers.next()) is not None and due <= end:
            self.now = due
            self.timers.run(due)
        self.now = end

    def quiet(self) -> float:
        """Until no timer is left; when the last ran."""
        while (due := self.timers.next()) is not None:
            assert due < 1000.0, "it never ends"
            self.now = due
            self.timers.run(due)
        return self.now

    @property
    def times(self) -> list[float]:
        return [at for at, _ in self.wire]


A_TIMES = [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
E_TIMES = [0.0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]


# --- client INVITE ----------------------------------------------------------------------------


def test_an_unanswered_invite_is_sent_seven_times_and_given_up_after_64_t1() -> None:
    """RFC 3261 §17.1.1.2: A starts at T1 and doubles without limit; B = 64*T1."""
    bench = Bench()
    tx = bench.client_invite()
    assert bench.quiet() == 32.0
    assert bench.times == A_TIMES
    assert bench.told == [Failure.TIMEOUT]
    assert tx.state is State.TERMINATED
    assert bench.over == [tx]


def test_over_a_reliable_transport_the_invite_is_sent_once() -> None:
    """RFC 3261 §17.1.1.2: no timer A."""
    bench = Bench()
    bench.client_invite(reliable=True)
    assert bench.quiet() == 32.0
    assert bench.times == [0.0]


def test_a_provisional_response_stops_timers_a_and_b() -> None:
    """RFC 3261 §17.1.1.2: the client waits in Proceeding for as long as its user does."""
    bench = Bench()
    tx = bench.client_invite()
    bench.advance(0.6)
    tx.receive(reply(tx.request, 180), bench.now)
    tx.receive(reply(tx.request, 183), bench.now)
    assert bench.timers.next() is None
    assert bench.times == [0.0, 0.5]
    assert bench.told == [180, 183]
    assert tx.state is State.PROCEEDING


@pytest.mark.parametrize("first", [(), (100,)])
def test_each_copy_of_a_2xx_reaches_the_user_until_timer_m(first: tuple[int, ...]) -> None:
    """RFC 6026 §7.2: Accepted lasts 64*T1, over any transport; the ACKs are the user's."""
    bench = Bench()
    tx = bench.client_invite(reliable=True)
    for status in (*first, 200, 200):
        tx.receive(reply(tx.request, status), bench.now)
    assert tx.state is State.ACCEPTED
    assert bench.told == [*first, 200, 200]
    assert bench.times == [0.0]
    assert bench.quiet() == 32.0
    assert bench.over == [tx]


@pytest.mark.parametrize("first", [(), (180,)])
def test_a_failure_is_acknowledged_each_time_and_reported_once(first: tuple[int, ...]) -> None:
    """RFC 3261 §17.1.1.2: Completed, timer D = 32 s."""
    bench = Bench()
    tx = bench.client_invite()
    for status in (*first, 486, 486, 500):
        tx.receive(reply(tx.request, status), bench.now)
    acks = [parse(data) for _, data in bench.wire[1:]]
    assert [message.method for message in acks if isinstance(message, Request)] == ["ACK"] * 3
    assert bench.told == [*first, 486]
    assert bench.quiet() == 32.0
    assert bench.over == [tx]


def test_over_a_reliable_transport_completed_takes_no_time() -> None:
    """RFC 3261 §17.1.1.2: timer D is 0; the user may already start anew when it is told."""
    bench = Bench()
    tx = bench.client_invite(reliable=True)
    tx.receive(reply(tx.request, 486), bench.now)
    assert (tx.state, bench.over, bench.told) == (State.TERMINATED, [tx], [486])
    assert bench.timers.next() is None


def test_the_ack_of_a_failure_copies_what_the_rfc_says() -> None:
    """RFC 3261 §17.1.1.3: one Via, the INVITE's; its Route, From, Call-ID, CSeq number; To from the response."""
    bench = Bench()
    original = request("INVITE", cseq=7, headers=[("Route", "<sip:p1;lr>"), ("Route", "<sip:p2;lr>"), ("X-Y", "z")])
    tx = ClientInvite(bench, ("b", "INVITE"), original, bench.send, bench, reliable=False)
    tx.start(0.0)
    tx.receive(reply(original, 404, tag="there"), 0.0)
    ack = parse(bench.wire[1][1])
    assert isinstance(ack, Request)
    assert (ack.uri, str(ack.cseq), ack.to.tag) == (original.uri, "7 ACK", "there")
    assert ack.headers.lines("Via") == original.headers.lines("Via")
    assert ack.headers.lines("Route") == ["<sip:p1;lr>", "<sip:p2;lr>"]
    assert ack.headers.get("From") == original.headers.get("From")
    assert "X-Y" not in ack.headers


def test_a_transport_error_ends_an_invite_that_nobody_answered() -> None:
    """RFC 3261 §17.1.4."""
    bench = Bench()
    tx = bench.client_invite()
    tx.transport_failed(0.0)
    assert bench.told == [Failure.TRANSPORT]
    assert bench.over == [tx]
    assert bench.timers.next() is None


def test_a_transport_error_for_the_ack_ends_the_transaction_in_silence() -> None:
    """RFC 3261 §17.1.1.2: the user has its final response already."""
    bench = Bench()
    tx = bench.client_invite()
    tx.receive(reply(tx.request, 486), 0.0)
    tx.transport_failed(0.0)
    assert bench.told == [486]
    assert bench.over == [tx]


@pytest.mark.parametrize("statuses", [(), (180,)])
def test_a_cancelled_invite_can_be_given_up(statuses: tuple[int, ...]) -> None:
    """RFC 3261 §9.1: no final response in 64*T1 after the CANCEL."""
    bench = Bench()
    tx = bench.client_invite()
    for status in statuses:
        tx.receive(reply(tx.request, status), 0.0)
    tx.give_up(0.0)
    assert bench.over == [tx]
    assert bench.told == list(statuses)
    assert bench.timers.next() is None


# --- client non-INVITE ------------------------------------------------------------------------


def test_an_unanswered_request_is_sent_eleven_times() -> None:
    """RFC 3261 §17.1.2.2: E doubles up to T2; F = 64*T1."""
    bench = Bench()
    tx = bench.client()
    assert bench.quiet() == 32.0
    assert bench.times == E_TIMES
    assert bench.told == [Failure.TIMEOUT]
    assert bench.over == [tx]


def test_after_a_provisional_the_request_is_repeated_every_t2() -> None:
    """RFC 3261 §17.1.2.2: in Proceeding E is T2; F still ends it."""
    bench = Bench()
    tx = bench.client()
    bench.advance(0.1)
    tx.receive(reply(tx.request, 100), bench.now)
    tx.receive(reply(tx.request, 100), bench.now)
    assert bench.quiet() == 32.0
    assert bench.times == [0.0, 0.5, 4.5, 8.5, 12.5, 16.5, 20.5, 24.5, 28.5]
    assert bench.told == [100, 100, Failure.TIMEOUT]
    assert bench.over == [tx]


@pytest.mark.parametrize("first", [(), (100,)])
@pytest.mark.parametrize(("reliable", "lingers_s"), [(False, 5.0), (True, 0.0)])
def test_a_final_response_is_reported_once_and_its_copies_absorbed(
    first: tuple[int, ...], reliable: bool, lingers_s: float
) -> None:
    """RFC 3261 §17.1.2.2: timer K = T4, 0 when reliable."""
    bench = Bench()
    tx = bench.client(reliable=reliable)
    for status in (*first, 200, 200, 481):
        tx.receive(reply(tx.request, status), 0.0)
    assert bench.told == [*first, 200]
    assert bench.quiet() == lingers_s
    assert bench.times == [0.0]
    assert bench.over == [tx]


@pytest.mark.parametrize("first", [(), (100,)])
def test_a_transport_error_ends_a_request(first: tuple[int, ...]) -> None:
    """RFC 3261 §17.1.2.2, §17.1.4."""
    bench = Bench()
    tx = bench.client()
    for status in first:
        tx.receive(reply(tx.request, status), 0.0)
    tx.transport_failed(0.0)
    assert bench.told == [*first, Failure.TRANSPORT]
    assert bench.over == [tx]


# --- server INVITE ----------------------------------------------------------------------------


def test_unacknowledged_486_is_repeated_until_timer_h() -> None:
    """RFC 3261 §17.2.1: G starts at T1, doubles to T2; H = 64*T1."""
    bench = Bench()
    tx = bench.server_invite()
    tx.respond(486, b"busy", 0.0)
    assert bench.quiet() == 32.0
    assert bench.times == E_TIMES
    assert bench.told == ["no ACK"]
    assert bench.over == [tx]


def test_over_a_reliable_transport_a_failure_is_sent_once_and_still_awaits_its_ack() -> None:
    """RFC 3261 §17.2.1: no timer G; H as ever."""
    bench = Bench()
    tx = bench.server_invite(reliable=True)
    tx.respond(486, b"busy", 0.0)
    assert bench.quiet() == 32.0
    assert bench.times == [0.0]
    assert bench.told == ["no ACK"]
    assert bench.over == [tx]


@pytest.mark.parametrize(("reliable", "lingers_s"), [(False, 5.0), (True, 0.0)])
def test_the_ack_of_a_failure_stops_it_and_its_copies_are_absorbed(reliable: bool, lingers_s: float) -> None:
    """RFC 3261 §17.2.1: Confirmed for timer I = T4, 0 when reliable."""
    bench = Bench()
    tx = bench.server_invite(reliable=reliable)
    tx.respond(486, b"busy", 0.0)
    tx.receive(request("ACK"), 0.0)
    assert tx.state is (State.TERMINATED if reliable else State.CONFIRMED)
    tx.receive(request("ACK"), 0.0)
    tx.receive(request("INVITE"), 0.0)
    assert bench.quiet() == lingers_s
    assert bench.times == [0.0]
    assert bench.told == []
    assert bench.over == [tx]


def test_a_repeated_invite_gets_the_last_provisional_again_and_nothing_before_there_is_one() -> None:
    """RFC 3261 §17.2.1."""
    bench = Bench()
    tx = bench.server_invite()
    tx.receive(request("INVITE"), 0.0)
    assert bench.wire == []
    tx.respond(100, b"trying", 0.0)
    tx.respond(180, b"ringing", 0.0)
    tx.receive(request("INVITE"), 0.0)
    assert [data for _, data in bench.wire] == [b"trying", b"ringing", b"ringing"]
    assert tx.state is State.PROCEEDING


def test_a_repeated_invite_after_a_failure_gets_the_failure_again() -> None:
    """RFC 3261 §17.2.1."""
    bench = Bench()
    tx = bench.server_invite()
    tx.respond(486, b"busy", 0.0)
    tx.receive(request("INVITE"), 0.2)
    assert [data for _, data in bench.wire] == [b"busy", b"busy"]


def test_after_a_2xx_the_user_repeats_it_and_gets_the_acks_for_64_t1() -> None:
    """RFC 6026 §7.1: Accepted absorbs the INVITE; timer L = 64*T1 over any transport."""
    bench = Bench()
    tx = bench.server_invite(reliable=True)
    tx.respond(200, b"ok", 0.0)
    tx.receive(request("INVITE"), 0.1)
    tx.respond(200, b"ok", 0.5)
    tx.receive(request("ACK"), 0.6)
    tx.receive(request("ACK"), 0.7)
    assert [data for _, data in bench.wire] == [b"ok", b"ok"]
    assert bench.told == ["ACK", "ACK"]
    assert bench.quiet() == 32.0
    assert bench.over == [tx]


def test_the_first_final_decides() -> None:
    """RFC 3261 §17.2.1: whatever the user sends after it goes nowhere, and is not what is repeated."""
    bench = Bench()
    refused = bench.server_invite()
    refused.respond(486, b"busy", 0.0)
    refused.respond(180, b"ringing", 0.0)
    refused.respond(200, b"ok", 0.0)
    refused.receive(request("INVITE"), 0.0)
    accepted = bench.server_invite()
    accepted.respond(200, b"ok", 0.0)
    accepted.respond(183, b"progress", 0.0)
    accepted.respond(500, b"error", 0.0)
    assert [data for _, data in bench.wire] == [b"busy", b"busy", b"ok"]


def test_a_server_without_a_user_forgets_its_acks() -> None:
    """Nobody to tell is no error."""
    bench = Bench()
    tx = ServerInvite(bench, ("b",), request("INVITE"), bench.send, None, reliable=False)
    tx.start(0.0)
    tx.respond(200, b"ok", 0.0)
    tx.receive(request("ACK"), 0.0)
    other = ServerInvite(bench, ("c",), request("INVITE"), bench.send, None, reliable=False)
    other.start(0.0)
    other.respond(404, b"no", 0.0)
    bench.quiet()
    assert bench.told == []
    assert bench.over in ([tx, other], [other, tx])


# --- server non-INVITE ------------------------------------------------------------------------


def test_a_repeated_request_gets_the_last_response_again() -> None:
    """RFC 3261 §17.2.2: nothing while Trying, then the provisional, then the final, for timer J = 64*T1."""
    bench = Bench()
    tx = bench.server()
    tx.receive(tx.request, 0.0)
    assert bench.wire == []
    for status, data in ((100, b"trying"), (182, b"queued")):
        tx.respond(status, data, 0.0)
    tx.receive(tx.request, 0.0)
    tx.respond(200, b"ok", 0.0)
    tx.receive(tx.request, 0.0)
    assert [data for _, data in bench.wire] == [b"trying", b"queued", b"queued", b"ok", b"ok"]
    assert bench.quiet() == 32.0
    assert bench.over == [tx]


def test_an_immediate_final_needs_no_provisional_and_is_the_last_word() -> None:
    """RFC 3261 §17.2.2: responses of the user after the final are discarded."""
    bench = Bench()
    tx = bench.server()
    tx.respond(200, b"ok", 0.0)
    tx.respond(500, b"error", 0.0)
    tx.respond(100, b"trying", 0.0)
    tx.receive(tx.request, 0.0)
    assert [data for _, data in bench.wire] == [b"ok", b"ok"]


def test_over_a_reliable_transport_the_server_forgets_at_once() -> None:
    """RFC 3261 §17.2.2: timer J is 0, and the response still goes out."""
    bench = Bench()
    tx = bench.server(reliable=True)
    tx.respond(200, b"ok", 0.0)
    assert bench.over == [tx]
    assert [data for _, data in bench.wire] == [b"ok"]


# --- the tables themselves --------------------------------------------------------------------

MACHINES = {
    "client INVITE": ClientInvite,
    "client non-INVITE": ClientNonInvite,
    "server INVITE": ServerInvite,
    "server non-INVITE": ServerNonInvite,
}
ROWS = [(name, state, event) for name, table in TABLES.items() for state, event in table]

DRIVE: dict[str, Callable[[Bench], Machine]] = {
    "client INVITE": lambda bench: bench.client_invite(),
    "client non-INVITE": lambda bench: bench.client(),
    "server INVITE": lambda bench: bench.server_invite(),
    "server non-INVITE": lambda bench: bench.server(),
}


@pytest.mark.parametrize(("name", "state", "event"), ROWS, ids=str)
def test_each_row_leads_where_it_says_and_each_action_can_be_carried_out(name: str, state: State, event: Input) -> None:
    """Every pair of every table; what it does is the subject of the tests above."""
    bench = Bench()
    tx = DRIVE[name](bench)
    if isinstance(tx, ClientInvite | ClientNonInvite):
        tx._response = reply(tx.request, 486)
    tx.state = state
    following, actions = TABLES[name][state, event]
    tx._step(event, 0.0)
    assert tx.state is following
    assert all(hasattr(tx, f"_{action.name.lower()}") for action in actions)
    assert (tx in bench.over) == (following is State.TERMINATED)


@pytest.mark.parametrize("name", TABLES)
def test_every_other_pair_is_ignored(name: str) -> None:
    """An absent pair changes nothing, sends nothing and tells nobody anything."""
    table = TABLES[name]
    for state, event in itertools.product(State, Input):
        if (state, event) in table:
            continue
        bench = Bench()
        tx = DRIVE[name](bench)
        tx.state = state
        sent, told, active = len(bench.wire), list(bench.told), len(bench.timers)
        tx._step(event, 1.0)
        assert (tx.state, len(bench.wire), bench.told, len(bench.timers)) == (state, sent, told, active)


@pytest.mark.parametrize("name", TABLES)
def test_every_state_can_be_reached_and_every_path_can_end(name: str) -> None:
    """No dead ends: from each state of a table TERMINATED is reachable."""
    table = TABLES[name]
    edges: dict[State, set[State]] = {}
    for (state, _), (following, _) in table.items():
        edges.setdefault(state, set()).add(following)

    def reachable(start: State) -> set[State]:
        found, todo = {start}, [start]
        while todo:
            for following in edges.get(todo.pop(), set()) - found:
                found.add(following)
                todo.append(following)
        return found

    states = {state for state, _ in table}
    assert reachable(State.INITIAL) == states | {State.TERMINATED}
    assert all(State.TERMINATED in reachable(state) for state in states)


def test_reports_come_last_so_that_their_receiver_may_act_on_the_transaction() -> None:
    """A retry from within on_response must find the machine settled and its timers set."""
    for table in TABLES.values():
        for _, actions in table.values():
            reports = [index for index, action in enumerate(actions) if action.name.startswith("REPORT")]
            assert reports in ([], [len(actions) - 1])
    assert {action for table in TABLES.values() for _, actions in table.values() for action in actions} == set(Action)


# --- matching ---------------------------------------------------------------------------------


def test_a_response_is_matched_by_branch_and_method() -> None:
    """RFC 3261 §17.1.3: CANCEL has its INVITE's branch, so the method decides."""
    ours = request("INVITE", branch="z9hG4bK-one")
    assert client_key(reply(ours, 200)) == ("z9hG4bK-one", "INVITE")


def test_a_request_is_matched_by_branch_sent_by_and_method_an_ack_as_its_invite() -> None:
    """RFC 3261 §17.2.3."""
    key = server_key(request("INVITE", branch="z9hG4bK-one"))
    assert server_key(request("ACK", branch="z9hG4bK-one")) == key
    assert server_key(request("CANCEL", branch="z9hG4bK-one"), "INVITE") == key
    assert server_key(request("CANCEL", branch="z9hG4bK-one")) != key
    assert server_key(request("INVITE", branch="z9hG4bK-two")) != key
    assert server_key(request("INVITE", via="SIP/2.0/UDP 192.0.2.8:5060;branch=z9hG4bK-one")) != key
    assert server_key(request("INVITE", via="SIP/2.0/UDP 192.0.2.7:5062;branch=z9hG4bK-one")) != key


@pytest.mark.parametrize("branch", ["", ";branch=1", ";branch=Z9HG4BK", ";branch=z9hG4bK"])
def test_without_the_magic_cookie_the_fields_of_rfc_2543_are_compared(branch: str) -> None:
    """RFC 3261 §17.2.3, RFC 4475 §3.2.1: Request-URI, tags, Call-ID, CSeq number and the top Via."""
    via = f"SIP/2.0/UDP 192.0.2.7:5060{branch}"
    key = server_key(request("INVITE", via=via))
    assert server_key(request("INVITE", via=via)) == key
    assert server_key(request("ACK", via=via, to_tag="ours")) == key
    assert server_key(request("INVITE", via=via, cseq=2)) != key
    assert server_key(request("INVITE", via=via, call_id="another")) != key
    assert server_key(request("INVITE", via=via, from_tag="another")) != key
    assert server_key(request("INVITE", via=via, uri="sip:other@192.0.2.1")) != key
    assert server_key(request("INVITE", via=via.replace("UDP", "TCP"))) != key
    assert server_key(request("INVITE", via=via).with_received("198.51.100.9", 40000)) == key
    asked = request("INVITE", via=f"{via};rport")
    assert server_key(asked.with_received("198.51.100.9", 40000)) == server_key(asked)
