"""edge.trunks: who is calling."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from edge.auth import Challenger, answer_challenge
from edge.counters import Counters
from edge.events import Address, Flow, Identification, TransportName
from edge.message import Request
from edge.trunks import (
    TOKEN_PARAMETER,
    Accepted,
    Challenge,
    DialPass,
    Identified,
    LockPolicy,
    Refused,
    Silent,
    TrunkRule,
    TrunkTable,
    canonical_host,
)

REALM = "sip.example.test"
TARGET = "sip:+14155550100@sip.example.test"
TOKEN = "0123456789abcdef0123456789abcdef"
CARRIER = (ip_network("192.76.120.0/24"), ip_network("64.16.250.10/32"))

PBX = TrunkRule("pbx", (ip_network("198.51.100.0/24"), ip_network("2001:db8::/32")))
OFFICE = TrunkRule("office", (ip_network("203.0.113.0/28"),), auth="digest", username="office", password="hunter22")
ROAMING = TrunkRule("roaming", auth="digest", username="alice", password="wonderland")
CREDENTIAL = TrunkRule("carrier-registered", CARRIER, auth="registration", shared_addresses=True)
SIP_DOMAIN = TrunkRule("carrier-digest", CARRIER, auth="digest", username="gw", password="pw", shared_addresses=True)


def flow(host: str, connection: int = 0) -> Flow:
    transport = TransportName.TCP if connection else TransportName.UDP
    return Flow(transport, Address("192.0.2.10", 5060), Address(host, 40000), connection)


def request(target: str = TARGET, authorization: str | None = None, method: str = "INVITE") -> Request:
    headers = [("From", "<sip:office@sip.example.test>;tag=1"), ("P-Asserted-Identity", "<sip:office@198.51.100.1>")]
    if authorization is not None:
        headers.append(("Proxy-Authorization", authorization))
    return Request.create(method, target, headers)


class Table:
    """A table with its counters, and a client that answers its challenges."""

    def __init__(self, *rules: TrunkRule, locks: LockPolicy | None = None) -> None:
        self.counters = Counters()
        self.trunks = TrunkTable(
            rules, realm=REALM, challenger=Challenger(b"k" * 32), counters=self.counters, locks=locks
        )

    def identify(
        self,
        host: str,
        *,
        target: str = TARGET,
        connection: int = 0,
        authorization: str | None = None,
        now: float = 0.0,
    ) -> Identified:
        return self.trunks.identify(flow(host, connection), request(target, authorization), now)

    def answer(self, host: str, username: str, password: str, now: float = 0.0) -> str:
        challenge = self.identify(host, now=now)
        assert isinstance(challenge, Challenge), challenge
        answer = answer_challenge(challenge.values, "INVITE", TARGET, username, password, "c0ffee", 1)
        assert answer is not None
        return answer

    def login(self, host: str, username: str, password: str, now: float = 0.0) -> Identified:
        return self.identify(host, authorization=self.answer(host, username, password, now), now=now)


def status(verdict: Identified) -> int:
    """The status the engine will answer; 0 for silence, 200 for acceptance."""
    match verdict:
        case Refused(refusal):
            return refusal.status
        case Challenge():
            return 407
        case Silent():
            return 0
        case Accepted():
            return 200


# the address


@pytest.mark.parametrize("host", ["198.51.100.1", "198.51.100.255", "::ffff:198.51.100.7", "2001:db8:1::2"])
def test_a_listed_address_is_its_trunk(host: str) -> None:
    assert Table(PBX).identify(host) == Accepted("pbx", Identification.ADDRESS, canonical_host(host))


@pytest.mark.parametrize("host", ["198.51.101.1", "8.8.8.8", "2001:db9::1", "::1", "fe80::1%eth0"])
def test_an_unlisted_source_gets_no_answer(host: str) -> None:
    table = Table(PBX, OFFICE, CREDENTIAL)
    assert isinstance(table.identify(host), Silent)
    assert not table.trunks.listed(host)


def test_the_longest_prefix_decides_where_networks_overlap() -> None:
    wide = TrunkRule("wide", (ip_network("10.0.0.0/8"),))
    narrow = TrunkRule("narrow", (ip_network("10.1.0.0/16"),))
    single = TrunkRule("single", (ip_network("10.1.2.3/32"),))
    table = Table(wide, single, narrow)
    hosts = ["10.9.9.9", "10.1.9.9", "10.1.2.3"]
    assert [getattr(table.identify(host), "trunk", None) for host in hosts] == ["wide", "narrow", "single"]


def test_a_default_route_lists_everybody_of_its_family() -> None:
    table = Table(TrunkRule("all", (ip_network("0.0.0.0/0"),)))
    assert status(table.identify("8.8.8.8")) == 200
    assert status(table.identify("2001:db8::1")) == 0


def test_from_and_asserted_identity_are_no_authentication() -> None:
    """The requests of these tests all claim to come from the office and from a listed address."""
    assert isinstance(Table(PBX, OFFICE).identify("8.8.8.8"), Silent)


def test_a_carriers_address_alone_selects_no_trunk() -> None:
    """Any customer of a carrier can point a call at us from its addresses."""
    assert status(Table(CREDENTIAL).identify("192.76.120.10")) == 403
    assert status(Table(CREDENTIAL, SIP_DOMAIN).identify("192.76.120.10")) == 407
    assert status(Table(CREDENTIAL, ROAMING).identify("192.76.120.10")) == 407


def test_a_rule_cannot_select_by_a_shared_address() -> None:
    with pytest.raises(ValueError, match="shared addresses"):
        TrunkRule("twilio", CARRIER, shared_addresses=True)


# the registered connection and the Contact token


def test_a_connection_registered_for_one_trunk_is_that_trunk() -> None:
    table = Table(CREDENTIAL)
    table.trunks.add_registration(flow("192.76.120.10", 7), "carrier-registered")
    assert table.identify("192.76.120.10", connection=7) == Accepted(
        "carrier-registered", Identification.REGISTRATION, "connection 7"
    )
    assert status(table.identify("192.76.120.10", connection=8)) == 403


def test_a_connection_shared_by_two_trunks_needs_the_token_to_decide() -> None:
    table = Table(CREDENTIAL)
    for trunk in ("first", "second"):
        table.trunks.add_registration(flow("192.76.120.10", 7), trunk)
    table.trunks.add_token(TOKEN, "second")
    assert status(table.identify("192.76.120.10", connection=7)) == 403
    with_token = table.identify("192.76.120.10", connection=7, target=f"{TARGET};{TOKEN_PARAMETER}={TOKEN}")
    assert with_token == Accepted("second", Identification.REGISTRATION, "connection 7")


def test_the_registered_connection_goes_before_token_digest_and_address() -> None:
    table = Table(PBX, ROAMING)
    table.trunks.add_registration(flow("198.51.100.1", 7), "registered")
    table.trunks.add_token(TOKEN, "tokened")
    target = f"{TARGET};{TOKEN_PARAMETER}={TOKEN}"
    over_connection = table.identify("198.51.100.1", connection=7, target=target)
    assert isinstance(over_connection, Accepted)
    assert over_connection.trunk == "registered"
    elsewhere = table.identify("198.51.100.1", connection=8, target=target)
    assert isinstance(elsewhere, Accepted)
    assert elsewhere.trunk == "tokened"


def test_a_registration_over_udp_does_not_make_its_source_trusted() -> None:
    table = Table(CREDENTIAL)
    table.trunks.add_registration(flow("192.76.120.10"), "carrier-registered")
    assert status(table.identify("192.76.120.10")) == 403


def test_a_closed_connection_and_an_ended_registration_identify_nobody() -> None:
    table = Table(CREDENTIAL)
    table.trunks.add_registration(flow("192.76.120.10", 7), "one")
    table.trunks.add_registration(flow("192.76.120.10", 8), "one")
    table.trunks.connection_closed(flow("192.76.120.10", 7))
    table.trunks.remove_registration(flow("192.76.120.10", 8), "one")
    table.trunks.remove_registration(flow("192.76.120.10", 9), "one")
    assert status(table.identify("192.76.120.10", connection=7)) == 403
    assert status(table.identify("192.76.120.10", connection=8)) == 403


def test_the_contact_token_comes_back_in_the_request_uri() -> None:
    table = Table(CREDENTIAL)
    table.trunks.add_token(TOKEN, "carrier-registered")
    verdict = table.identify(
        "192.76.120.10", target=f"sip:14155550100@192.0.2.10:5060;transport=tcp;tk={TOKEN.upper()}"
    )
    assert isinstance(verdict, Accepted)
    assert verdict.identified_by is Identification.TOKEN
    assert verdict.trunk == "carrier-registered"


def test_a_token_is_masked_wherever_it_could_be_read() -> None:
    table = Table(CREDENTIAL)
    table.trunks.add_token(TOKEN, "carrier-registered")
    verdict = table.identify("192.76.120.10", target=f"{TARGET};tk={TOKEN}")
    assert TOKEN not in repr(verdict)
    assert TOKEN not in repr(vars(table.trunks))
    assert TOKEN not in repr(table.counters.snapshot())


def test_a_wrong_or_removed_token_counts_for_nothing() -> None:
    table = Table(CREDENTIAL)
    table.trunks.add_token(TOKEN, "carrier-registered")
    assert status(table.identify("192.76.120.10", target=f"{TARGET};tk={TOKEN[:-1]}0")) == 403
    assert status(table.identify("8.8.8.8", target=f"{TARGET};tk=")) == 0
    assert status(table.identify("8.8.8.8", target=f"{TARGET};tk")) == 0
    table.trunks.remove_token(TOKEN)
    table.trunks.remove_token("never handed out")
    assert status(table.identify("8.8.8.8", target=f"{TARGET};tk={TOKEN}")) == 0


def test_a_token_ends_with_its_validity() -> None:
    table = Table(CREDENTIAL)
    table.trunks.add_token(TOKEN, "carrier-registered", valid_until=100.0)
    target = f"{TARGET};tk={TOKEN}"
    assert status(table.identify("8.8.8.8", target=target, now=99.9)) == 200
    assert status(table.identify("8.8.8.8", target=target, now=100.0)) == 0
    table.trunks.expire(100.0)
    assert status(table.identify("8.8.8.8", target=target, now=50.0)) == 0


def test_a_token_that_could_be_guessed_is_refused() -> None:
    with pytest.raises(ValueError, match="16 characters"):
        Table().trunks.add_token("short", "carrier-registered")


def test_a_request_uri_that_cannot_be_read_has_no_token() -> None:
    table = Table(PBX)
    table.trunks.add_token(TOKEN, "other")
    assert status(table.identify("198.51.100.1", target="sip:")) == 200


# the digest


def test_a_digest_user_is_challenged_and_then_known() -> None:
    """RFC 3261 §22.3, with 407 for everybody."""
    table = Table(OFFICE)
    assert table.login("203.0.113.1", "office", "hunter22") == Accepted("office", Identification.DIGEST, "office")


def test_only_the_sources_of_a_digest_trunk_are_challenged() -> None:
    table = Table(OFFICE, PBX)
    assert status(table.identify("203.0.113.1")) == 407
    assert status(table.identify("8.8.8.8")) == 0
    assert status(table.identify("198.51.100.1")) == 200


def test_a_digest_trunk_without_addresses_has_strangers_challenged() -> None:
    table = Table(PBX, ROAMING)
    assert status(table.identify("8.8.8.8")) == 407
    assert status(table.login("8.8.8.8", "alice", "wonderland")) == 200
    assert status(table.identify("198.51.100.1")) == 200


def test_a_user_from_outside_his_trunks_networks_is_unknown() -> None:
    table = Table(OFFICE, ROAMING)
    assert status(table.login("8.8.8.8", "office", "hunter22")) == 407
    assert status(table.login("203.0.113.1", "alice", "wonderland")) == 200


def test_the_digest_user_goes_before_the_address() -> None:
    table = Table(PBX, ROAMING)
    answer = table.answer("8.8.8.8", "alice", "wonderland")
    assert answer
    challenge = table.trunks._challenger.challenge(REALM, ["MD5"], "198.51.100.1", 0.0)
    credentials = answer_challenge(challenge, "INVITE", TARGET, "alice", "wonderland", "c0ffee", 1)
    verdict = table.identify("198.51.100.1", authorization=credentials)
    assert verdict == Accepted("roaming", Identification.DIGEST, "alice")


def test_between_an_address_and_a_digest_trunk_the_longer_prefix_decides_whether_to_challenge() -> None:
    wide = TrunkRule("wide", (ip_network("203.0.113.0/24"),))
    table = Table(wide, OFFICE)
    assert status(table.identify("203.0.113.200")) == 200
    assert status(table.identify("203.0.113.1")) == 407


def test_credentials_for_another_realm_are_not_for_us() -> None:
    table = Table(PBX)
    foreign = 'Digest username="office", realm="elsewhere", nonce="n", uri="sip:x", response="0"'
    assert status(table.identify("198.51.100.1", authorization=foreign)) == 200
    mixed = Table(OFFICE)
    ours = mixed.answer("203.0.113.1", "office", "hunter22")
    both = Request.create("INVITE", TARGET, [("Proxy-Authorization", foreign), ("Proxy-Authorization", ours)])
    assert status(mixed.trunks.identify(flow("203.0.113.1"), both, 0.0)) == 200


@pytest.mark.parametrize(
    "hostile",
    ["", "Digest", "Basic b2ZmaWNlOg==", 'Digest username="office"', "Digest " + "," * 3000, "Digest \x00=\x00"],
)
def test_unreadable_credentials_are_as_good_as_none(hostile: str) -> None:
    table = Table(OFFICE)
    for _ in range(20):
        assert status(table.identify("203.0.113.1", authorization=hostile)) == 407


def test_md5_alone_is_offered_unless_the_trunk_says_otherwise() -> None:
    challenge = Table(OFFICE).identify("203.0.113.1")
    assert isinstance(challenge, Challenge)
    assert len(challenge.values) == 1
    assert "algorithm=MD5" in challenge.values[0]


def test_a_trunk_set_to_sha256_offers_it_and_takes_no_md5() -> None:
    """RFC 8760: no downgrade to what was not offered for this user."""
    strong = TrunkRule("strong", auth="digest", username="bob", password="pw", algorithms=("SHA-256",))
    table = Table(strong)
    assert status(table.login("8.8.8.8", "bob", "pw")) == 200
    challenge = table.trunks._challenger.challenge(REALM, ["MD5"], "8.8.8.8", 0.0)
    weak = answer_challenge(challenge, "INVITE", TARGET, "bob", "pw", "c0ffee", 1)
    assert status(table.identify("8.8.8.8", authorization=weak)) == 407


def test_a_stale_nonce_is_challenged_again_with_stale_and_is_no_failure() -> None:
    """RFC 7616 §3.3: stale=true only because the digest itself was right."""
    table = Table(ROAMING, locks=LockPolicy(failures=1))
    answer = table.answer("8.8.8.8", "alice", "wonderland", now=0.0)
    verdict = table.identify("8.8.8.8", authorization=answer, now=61.0)
    assert isinstance(verdict, Challenge)
    assert "stale=true" in verdict.values[0]
    assert status(table.login("8.8.8.8", "alice", "wonderland", now=61.0)) == 200


def test_a_replayed_answer_is_challenged_again() -> None:
    table = Table(ROAMING)
    answer = table.answer("8.8.8.8", "alice", "wonderland")
    assert status(table.identify("8.8.8.8", authorization=answer)) == 200
    assert status(table.identify("8.8.8.8", authorization=answer)) == 407


def test_an_answer_stolen_by_another_address_is_challenged_without_a_hint() -> None:
    """A nonce works only for the source it was given to, and stale=true would confirm a guessed password."""
    table = Table(ROAMING)
    answer = table.answer("8.8.8.8", "alice", "wonderland")
    verdict = table.identify("9.9.9.9", authorization=answer)
    assert isinstance(verdict, Challenge)
    assert "stale" not in verdict.values[0]


# guessing


def test_known_and_unknown_users_look_the_same_up_to_and_after_the_lock() -> None:
    """Ten wrong answers lock the user name, whether there is such a user or not."""
    table = Table(ROAMING)
    seen = {
        user: [
            (status(verdict), getattr(verdict, "reason", None) or getattr(verdict, "refusal", None))
            for number in range(12)
            for verdict in [table.login(f"8.8.{len(user)}.{number}", user, "guess")]
        ]
        for user in ("alice", "mallory")
    }
    assert seen["alice"] == seen["mallory"]
    assert [code for code, _ in seen["alice"]] == [407] * 10 + [403] * 2


def test_the_right_password_does_not_open_a_locked_user() -> None:
    table = Table(ROAMING)
    for number in range(10):
        table.login(f"8.8.8.{number}", "alice", "guess")
    assert status(table.login("9.9.9.9", "alice", "wonderland")) == 403


def test_a_lock_ends_by_itself() -> None:
    table = Table(ROAMING)
    for number in range(10):
        table.login(f"8.8.8.{number}", "alice", "guess", now=float(number))
    assert status(table.login("9.9.9.9", "alice", "wonderland", now=308.0)) == 403
    assert status(table.login("9.9.9.9", "alice", "wonderland", now=309.0)) == 200


def test_a_lock_can_follow_a_lock() -> None:
    table = Table(ROAMING, locks=LockPolicy(failures=2, window_s=1000.0, lock_s=10.0))
    codes = [status(table.login(f"8.8.8.{n}", "alice", "guess", now=n * 6.0)) for n in range(8)]
    assert codes == [407, 407, 403, 407, 407, 403, 407, 407]


def test_failures_that_are_far_apart_lock_nobody() -> None:
    table = Table(ROAMING)
    for number in range(40):
        assert status(table.login(f"8.8.8.{number}", "alice", "guess", now=number * 40.0)) == 407


def test_an_address_that_guesses_many_users_is_locked() -> None:
    table = Table(ROAMING)
    for number in range(10):
        assert status(table.login("8.8.8.8", f"user{number}", "guess")) == 407
    assert status(table.identify("8.8.8.8")) == 403
    assert status(table.login("9.9.9.9", "alice", "wonderland")) == 200


def test_a_carriers_shared_address_is_never_locked() -> None:
    """One customer's guesses must not lock out the others."""
    table = Table(SIP_DOMAIN)
    for number in range(30):
        assert status(table.login("64.16.250.10", f"user{number}", "guess")) == 407
    assert status(table.login("64.16.250.10", "gw", "pw")) == 200


def test_a_locked_address_still_reaches_its_address_trunk() -> None:
    table = Table(PBX, ROAMING)
    challenge = table.trunks._challenger.challenge(REALM, ["MD5"], "198.51.100.1", 0.0)
    for number in range(11):
        guess = answer_challenge(challenge, "INVITE", TARGET, f"user{number}", "x", "c0ffee", 1)
        table.identify("198.51.100.1", authorization=guess)
    assert status(table.identify("198.51.100.1")) == 200
    assert status(table.identify("198.51.100.1", authorization=guess)) == 403


def test_forged_sources_without_our_nonce_lock_nobody_out() -> None:
    """Over UDP anybody can send wrong answers in a victim's name, but the challenge never reaches him."""
    table = Table(ROAMING)
    forged = 'Digest username="alice", realm="sip.example.test", nonce="AAAA", uri="sip:x", response="0"'
    for _ in range(50):
        assert status(table.identify("9.9.9.9", authorization=forged)) == 407
    assert status(table.login("9.9.9.9", "alice", "wonderland")) == 200


def test_strangers_cannot_lock_the_user_of_a_trunk_they_cannot_reach() -> None:
    table = Table(OFFICE, ROAMING)
    for number in range(20):
        table.login(f"8.8.8.{number}", "office", "guess")
    assert status(table.login("203.0.113.1", "office", "hunter22")) == 200


def test_a_pass_on_a_request_without_call_id_is_refused_not_raised() -> None:
    """A message too broken for a dialog is identified too, to decide whether it deserves an answer."""
    table = Table(TrunkRule("twilio", CARRIER, auth="pass", shared_addresses=True))
    table.trunks.add_pass(DialPass("u1", "secret", "twilio", ("X-Token", "t1"), 60.0))
    headers = [("Proxy-Authorization", table.answer("64.16.250.10", "u1", "secret")), ("X-Token", "t1")]
    verdict = table.trunks.identify(flow("64.16.250.10"), Request.create("INVITE", TARGET, headers), 0.0)
    assert status(verdict) == 400


def test_made_up_users_neither_fill_memory_nor_push_a_real_lock_out() -> None:
    table = Table(ROAMING, locks=LockPolicy(entries=50))
    for number in range(10):
        table.login(f"8.8.8.{number}", "alice", "guess")
    for number in range(500):
        table.login(f"8.9.{number // 250}.{number % 250}", f"made-up-{number}", "guess")
    assert len(table.trunks._stranger_failures) == 50
    assert status(table.login("9.9.9.9", "alice", "wonderland")) == 403


# what is counted and what is refused at start


def test_every_verdict_is_counted_by_source() -> None:
    table = Table(PBX, OFFICE, CREDENTIAL)
    for host in ("198.51.100.1", "203.0.113.1", "192.76.120.1", "8.8.8.8", "8.8.8.8"):
        table.identify(host)
    counted = {
        (source, verdict): table.counters.get("trunk_verdicts", source=source, verdict=verdict)
        for source, verdict in [
            ("198.51.100.1", "accepted"),
            ("203.0.113.1", "challenge"),
            ("192.76.120.1", "refused"),
            ("8.8.8.8", "silent"),
        ]
    }
    assert list(counted.values()) == [1, 1, 1, 2]
    assert table.counters.get("trunk_verdicts") == 5


def test_a_drop_is_logged_once_a_second_a_source(caplog: pytest.LogCaptureFixture) -> None:
    table = Table(PBX)
    for tick in range(500):
        table.identify("8.8.8.8", now=tick / 500)
    (record,) = caplog.records
    assert record.getMessage() == "silent method=INVITE reason=unlisted source source=8.8.8.8"


def test_a_lock_is_logged_with_the_hostile_name_made_harmless(caplog: pytest.LogCaptureFixture) -> None:
    table = Table(ROAMING)
    for number in range(10):
        table.login(f"8.8.8.{number}", "evil\x1b[2J\u202e", "guess")
    (record,) = caplog.records
    assert record.getMessage() == r"digest user locked address=8.8.8.9 source=evil\x1b[2J\u202e"


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ((PBX, PBX), "two trunks named pbx"),
        ((PBX, TrunkRule("other", PBX.networks)), "both claim"),
        ((ROAMING, TrunkRule("other", auth="digest", username="alice", password="x")), "same digest user name"),
    ],
)
def test_rules_that_contradict_each_other_are_refused(rules: tuple[TrunkRule, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Table(*rules)


@pytest.mark.parametrize("settings", [{"auth": "address"}, {"auth": "digest"}, {"auth": "digest", "username": "u"}])
def test_a_rule_that_lacks_what_it_needs_is_refused(settings: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="needs"):
        TrunkRule("t", **settings)  # type: ignore[arg-type]


def test_a_rules_password_is_not_in_its_repr() -> None:
    assert "wonderland" not in repr(ROAMING)


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("no address", "no address"),
    ],
)
def test_an_address_has_one_spelling(given: str, canonical: str) -> None:
    assert canonical_host(given) == canonical


def test_a_registrars_addresses_are_listed_while_some_trunk_registers_there() -> None:
    """They are answered, and select nothing; a list replaces the one before it."""
    table = Table(PBX)
    for trunk in ("carrier:1", "carrier:2"):
        table.trunks.set_registrars(trunk, ["192.0.2.7", "192.0.2.8"])
    assert isinstance(table.identify("192.0.2.7"), Refused)
    table.trunks.set_registrars("carrier:1", ["192.0.2.9"])
    assert [table.trunks.listed(f"192.0.2.{last}") for last in (7, 8, 9)] == [True, True, True]
    table.trunks.set_registrars("carrier:2", [])
    assert [table.trunks.listed(f"192.0.2.{last}") for last in (7, 8, 9)] == [False, False, True]
    table.trunks.set_registrars("carrier:1", [])
    assert isinstance(table.identify("192.0.2.9"), Silent)


def test_a_trunk_with_a_registrars_address_is_still_recognised_by_it() -> None:
    """Being somebody's registrar takes nothing away."""
    table = Table(PBX)
    table.trunks.set_registrars("carrier:1", ["198.51.100.7"])
    assert isinstance(table.identify("198.51.100.7"), Accepted)
