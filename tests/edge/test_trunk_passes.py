"""edge.trunks: digest users made for one call, and host names of a connection's own."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from edge.auth import Challenger, answer_challenge
from edge.counters import Counters
from edge.events import Address, Flow, Identification, TransportName
from edge.message import Request
from edge.trunks import Accepted, Challenge, DialPass, Identified, Refused, Silent, TrunkRule, TrunkTable

REALM = "sip.example.test"
TARGET = "sip:+14155550100@sip.example.test"
CARRIER = "54.172.60.1"
RULE = TrunkRule("twilio", (ip_network("54.172.60.0/30"),), auth="pass", shared_addresses=True)
HEADER = "X-Truedy-Token"


def given(username: str = "u1", valid_until: float = 60.0) -> DialPass:
    return DialPass(username, "secret-" + username, "twilio", (HEADER, "token-" + username), valid_until)


class Table:
    def __init__(self, *rules: TrunkRule) -> None:
        self.trunks = TrunkTable(rules or (RULE,), realm=REALM, challenger=Challenger(b"k" * 32), counters=Counters())

    def ask(self, *headers: tuple[str, str], host: str = CARRIER, target: str = TARGET, now: float = 0.0) -> Identified:
        flow = Flow(TransportName.UDP, Address("192.0.2.10", 5060), Address(host, 5060))
        base = (("Call-ID", "call-1"), ("From", "<sip:+1415@x>;tag=1"))
        return self.trunks.identify(flow, Request.create("INVITE", target, (*base, *headers)), now)

    def call(
        self,
        username: str = "u1",
        *,
        password: str | None = None,
        token: str | None = None,
        call_id: str = "call-1",
        now: float = 0.0,
    ) -> Identified:
        challenge = self.ask(now=now)
        assert isinstance(challenge, Challenge)
        answer = answer_challenge(
            challenge.values, "INVITE", TARGET, username, password or "secret-" + username, "c0ffee", 1
        )
        assert answer is not None
        flow = Flow(TransportName.UDP, Address("192.0.2.10", 5060), Address(CARRIER, 5060))
        headers = [("Call-ID", call_id), ("Proxy-Authorization", answer)]
        if token != "":
            headers.append((HEADER, token or "token-" + username))
        return self.trunks.identify(flow, Request.create("INVITE", TARGET, headers), now)


def test_a_carriers_address_alone_is_challenged_and_selects_nothing() -> None:
    assert isinstance(Table().ask(), Challenge)


def test_a_pass_admits_the_call_it_was_made_for() -> None:
    table = Table()
    table.trunks.add_pass(given())
    assert table.call() == Accepted("twilio", Identification.DIGEST, "u1")


def test_a_pass_used_once_is_good_for_that_call_id_only() -> None:
    """A repeated INVITE of the same call (a new nonce, a fork's retry) passes; another call does not."""
    table = Table()
    table.trunks.add_pass(given())
    assert isinstance(table.call(), Accepted)
    assert isinstance(table.call(now=1.0), Accepted)
    replayed = table.call(call_id="call-2", now=2.0)
    assert isinstance(replayed, Refused)
    assert replayed.refusal.status == 403


@pytest.mark.parametrize("token", ["", "token-u2", "TOKEN-U1"])
def test_the_right_digest_without_the_calls_token_is_refused_and_uses_nothing(token: str) -> None:
    table = Table()
    table.trunks.add_pass(given())
    refused = table.call(token=token)
    assert isinstance(refused, Refused)
    assert refused.refusal.status == 403
    assert isinstance(table.call(call_id="another", now=1.0), Accepted)


def test_a_pass_that_is_late_is_challenged_like_an_unknown_user() -> None:
    table = Table()
    table.trunks.add_pass(given(valid_until=60.0))
    assert isinstance(table.call(now=60.0), Challenge)
    assert isinstance(table.call("nobody", now=61.0), Challenge)


def test_a_pass_of_another_trunk_admits_nothing_here() -> None:
    table = Table()
    table.trunks.add_pass(DialPass("u1", "secret-u1", "other", (HEADER, "token-u1"), 60.0))
    assert isinstance(table.call(), Challenge)


def test_a_pass_with_a_wrong_password_is_challenged_again() -> None:
    table = Table()
    table.trunks.add_pass(given())
    assert isinstance(table.call(password="guess"), Challenge)


def test_expired_passes_are_forgotten() -> None:
    table = Table()
    for index in range(100):
        table.trunks.add_pass(given(f"u{index}", valid_until=float(index)))
    table.trunks.expire(50.0)
    assert len(table.trunks._passes) == 49


def test_a_pass_is_no_use_to_strangers() -> None:
    table = Table()
    table.trunks.add_pass(given())
    assert isinstance(table.ask(host="203.0.113.9"), Silent)


def test_secrets_stay_out_of_sight() -> None:
    assert "secret" not in repr(given())
    assert "token-u1" not in repr(given())


# host names of a connection's own

TELNYX = TrunkRule("telnyx", (ip_network("192.76.120.10/32"),), auth="host", shared_addresses=True)


def test_a_host_of_its_own_selects_the_connection() -> None:
    table = Table(TELNYX)
    table.trunks.add_host("k3j9.sip.example.test", "telnyx:123")
    verdict = table.ask(host="192.76.120.10", target="sip:+1415@K3J9.sip.example.test")
    assert isinstance(verdict, Accepted)
    assert (verdict.trunk, verdict.identified_by) == ("telnyx:123", Identification.ADDRESS)


def test_calls_from_a_shared_address_are_told_apart_by_what_they_dial() -> None:
    """One customer's flood of one number takes no attempts from the calls to another."""
    table = Table(TELNYX)
    verdicts = [table.ask(host="192.76.120.10", target=f"sip:{user}@sip.example.test") for user in ("+1415", "+1416")]
    identities = {verdict.identity for verdict in verdicts if isinstance(verdict, Accepted)}
    assert len(identities) == 2
    assert not any("192.76.120.10" in identity for identity in identities)


def test_the_bare_domain_selects_only_the_shared_trunk() -> None:
    table = Table(TELNYX)
    table.trunks.add_host("k3j9.sip.example.test", "telnyx:123")
    verdict = table.ask(host="192.76.120.10", target="sip:+1415@sip.example.test")
    assert isinstance(verdict, Accepted)
    assert verdict.trunk == "telnyx"


def test_a_connections_host_is_no_use_from_elsewhere() -> None:
    pbx = TrunkRule("pbx", (ip_network("198.51.100.0/24"),))
    table = Table(TELNYX, pbx)
    table.trunks.add_host("k3j9.sip.example.test", "telnyx:123")
    assert isinstance(table.ask(host="203.0.113.9", target="sip:+1415@k3j9.sip.example.test"), Silent)
    verdict = table.ask(host="198.51.100.1", target="sip:+1415@k3j9.sip.example.test")
    assert isinstance(verdict, Accepted)
    assert verdict.trunk == "pbx"


def test_a_removed_host_is_nobodys_and_falls_back_to_no_trunk() -> None:
    table = Table(TELNYX)
    table.trunks.add_host("k3j9.sip.example.test", "telnyx:123")
    table.trunks.remove_host("K3J9.sip.example.test")
    verdict = table.ask(host="192.76.120.10", target="sip:+1415@k3j9.sip.example.test")
    assert isinstance(verdict, Refused)
    assert verdict.refusal.status == 404


def test_our_address_in_place_of_a_name_is_the_shared_trunk() -> None:
    """A carrier's IP connection sends to the address it was given."""
    verdict = Table(TELNYX).ask(host="192.76.120.10", target="sip:+1415@192.0.2.10:5060")
    assert isinstance(verdict, Accepted)
    assert verdict.trunk == "telnyx"


@pytest.mark.parametrize("auth", ["pass", "host"])
def test_such_a_trunk_without_networks_is_refused(auth: str) -> None:
    with pytest.raises(ValueError, match="needs networks"):
        TrunkRule("open", auth=auth)  # type: ignore[arg-type]
