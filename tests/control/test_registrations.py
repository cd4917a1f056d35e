"""control.registrations: which connections are registered, from the registry to the wire, on a fake clock."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable
from dataclasses import replace

import pytest

from config.carriers import carriers
from control.registrations import STARTS_PER_S, Registrations, specification
from control.registry.memory import MemoryRegistry
from control.registry.types import Account, Connection
from edge.events import CallOffered, Event, Flow, TransportName
from edge.message import Request
from edge.trunks import TOKEN_PARAMETER, TrunkRule
from tests.edge.pair import EDGE, STRANGER, Solo, invite, reply

TELNYX = carriers()["telnyx"]
PROXY = "udp:192.0.2.7:5060"
CHALLENGE = ("WWW-Authenticate", 'Digest realm="sip.telnyx.com", nonce="abc", opaque="2/10.13.246.184"')
CONNECTION = Connection(
    id="1684641123236054244",
    account_id="account",
    provider="telnyx",
    kind="credential",
    name="office",
    trunk="telnyx:1684641123236054244",
    user_name="office12345",
    secrets={"sip_password": "secret of the office"},
)
TRUNK = CONNECTION.trunk
OWN_HOST = Connection(
    id="77",
    account_id="account",
    provider="telnyx",
    kind="fqdn",
    name="by name",
    trunk="telnyx:77",
    host="jx4k2mqp7rw3.edge.test",
    host_used=True,
)


class Bench:
    """Registrations over a real engine; the test is the registrar."""

    def __init__(self, proxy: str | None = PROXY, rules: tuple[TrunkRule, ...] = ()) -> None:
        self.solo = Solo(rules=rules)
        self.offers: list[CallOffered] = []
        self.registrations = Registrations(self.solo.endpoint, self.run, self.solo.counters, proxy=proxy)

    def run(self, command: Callable[[float], None]) -> None:
        command(self.solo.now)
        self.deliver()

    def deliver(self) -> None:
        self.solo.drain()
        while self.solo.events:
            event: Event = self.solo.events.pop(0)
            if isinstance(event, CallOffered):
                self.offers.append(event)
                self.solo.endpoint.hang_up(event.key, now=self.solo.now)
            self.registrations.on_event(event)
            self.solo.drain()

    def advance(self, seconds: float) -> None:
        end = self.solo.now + seconds
        while (due := self.solo.endpoint.next_timer()) is not None and due <= end:
            self.solo.advance(max(0.0, due - self.solo.now))
            self.deliver()
        self.solo.advance(end - self.solo.now)
        self.deliver()

    def until_sent(self) -> float:
        """Until the next REGISTER; how long that took [s]."""
        start, before = self.solo.now, len(self.sent)
        while len(self.sent) == before:
            self.advance((self.solo.endpoint.next_timer() or 0.0) - self.solo.now)
        return self.solo.now - start

    @property
    def sent(self) -> list[Request]:
        """REGISTERs, each once however often it was repeated."""
        return list({(sent.call_id, sent.cseq.number): sent for sent in self.solo.requests("REGISTER")}.values())

    @property
    def latest(self) -> Request:
        return self.sent[-1]

    def answer(self, status: int, *headers: tuple[str, str], to: Request | None = None) -> None:
        self.solo.receive(reply(to or self.latest, status, headers=headers))
        self.deliver()

    def grant(self, expires_s: int = 600, others: str = "") -> None:
        contact = self.latest.headers.lines("Contact")[0].partition(">")[0]
        self.answer(200, ("Contact", f"{contact}>;expires={expires_s}{others}"))

    def token(self, sent: Request) -> str:
        assert sent.contact is not None
        return sent.contact.uri.parameter(TOKEN_PARAMETER) or ""

    def trunk_of(self, uri: str, source: Flow | None = None) -> str:
        """The trunk of a call to this URI; none where it is refused or not answered."""
        before = len(self.offers)
        stranger = Flow(TransportName.UDP, EDGE, STRANGER)
        self.solo.receive(invite(uri=uri, call_id=f"{uri}-{self.solo.now}-{before}"), source or stranger)
        self.deliver()
        return self.offers[-1].trunk if len(self.offers) > before else ""

    def trunk_by_token(self, sent: Request) -> str:
        return self.trunk_of(f"sip:12014269044@192.0.2.1:5060;{TOKEN_PARAMETER}={self.token(sent)}")

    def count(self, **labels: str) -> int:
        return self.solo.counters.get("registration_failures", **labels)


def registered(proxy: str | None = PROXY) -> Bench:
    bench = Bench(proxy)
    bench.registrations.changed(CONNECTION)
    bench.grant()
    return bench


# --- what is asked of the registrar -----------------------------------------------------------

ALL = frozenset(TransportName)


def test_a_connection_registers_as_its_carrier_wants_it() -> None:
    """The user at the region's own name; the realm is known, and no other gets a digest."""
    spec = specification(CONNECTION, TELNYX, proxy=None, transports=ALL)
    assert spec is not None
    assert spec.name == "telnyx:1684641123236054244"
    assert spec.registrar == "sip:sip.telnyx.com"
    assert spec.address_of_record == "sip:office12345@sip.telnyx.com"
    assert (spec.username, spec.password, spec.contact_user) == ("office12345", "secret of the office", "office12345")
    assert spec.realm == "sip.telnyx.com"
    assert spec.with_token
    assert "secret of the office" not in repr(spec)


@pytest.mark.parametrize(
    ("transports", "next_hop"),
    [
        (ALL, "sip:sip.telnyx.com;transport=tls"),
        (frozenset({TransportName.UDP, TransportName.TCP}), "sip:sip.telnyx.com;transport=tcp"),
        (frozenset({TransportName.UDP}), "sip:sip.telnyx.com;transport=udp"),
        (frozenset[TransportName](), "sip:sip.telnyx.com"),
    ],
)
def test_it_registers_by_the_best_transport_that_is_listened_on(
    transports: frozenset[TransportName], next_hop: str
) -> None:
    """The carrier calls back by the transport it was registered with."""
    spec = specification(CONNECTION, TELNYX, proxy=None, transports=transports)
    assert spec is not None and spec.next_hop == next_hop


def test_a_connection_in_another_region_registers_there() -> None:
    """Its realm is not known, so it is not pinned."""
    spec = specification(replace(CONNECTION, proxy="sip.telnyx.eu"), TELNYX, proxy=None, transports=ALL)
    assert spec is not None
    assert (spec.registrar, spec.address_of_record) == ("sip:sip.telnyx.eu", "sip:office12345@sip.telnyx.eu")
    assert spec.next_hop == "sip:sip.telnyx.eu;transport=tls"
    assert spec.realm is None


def test_a_registrar_the_carriers_data_does_not_know_is_taken_at_its_word() -> None:
    """Regions are added faster than data files."""
    spec = specification(replace(CONNECTION, proxy="sip.telnyx.example"), TELNYX, proxy=None, transports=ALL)
    assert spec is not None and spec.registrar == "sip:sip.telnyx.example"


@pytest.mark.parametrize(
    ("proxy", "next_hop"),
    [
        ("udp:127.0.0.1:5070", "sip:127.0.0.1:5070;transport=udp"),
        ("tls:sbc.example.com:5061", "sip:sbc.example.com:5061;transport=tls"),
        ("tcp:[2001:db8::1]:5060", "sip:[2001:db8::1]:5060;transport=tcp"),
    ],
)
def test_a_proxy_of_the_settings_is_where_to_send_and_not_whom_to_ask(proxy: str, next_hop: str) -> None:
    """The Request-URI stays the region's; whose realm the proxy has is not known."""
    spec = specification(CONNECTION, TELNYX, proxy=proxy, transports=ALL)
    assert spec is not None
    assert (spec.registrar, spec.next_hop, spec.realm) == ("sip:sip.telnyx.com", next_hop, None)


@pytest.mark.parametrize("change", [{"user_name": None}, {"secrets": {}}, {"secrets": {"sip_password": ""}}])
def test_a_connection_without_credentials_is_told_of_and_not_tried(
    change: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing to answer a challenge with."""
    bench = Bench()
    bench.registrations.changed(replace(CONNECTION, **change))  # type: ignore[arg-type]
    assert bench.sent == []
    assert bench.count(trunk=TRUNK) == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert bench.registrations.states == {}


# --- a registration's life --------------------------------------------------------------------


def test_a_new_connection_is_registered_and_its_calls_are_its_trunks() -> None:
    """REGISTER, the challenge without qop answered in RFC 2069's form, the token in the Contact."""
    bench = Bench()
    bench.registrations.changed(CONNECTION)
    bench.answer(401, CHALLENGE)
    answer = bench.latest.headers.get("Authorization") or ""
    assert 'username="office12345"' in answer and 'opaque="2/10.13.246.184"' in answer
    assert "qop" not in answer and "nc=" not in answer
    assert "secret of the office" not in bytes(bench.latest).decode()
    bench.grant(3457)
    assert bench.registrations.states == {TRUNK: "registered"}
    assert bench.trunk_by_token(bench.latest) == TRUNK


def test_what_did_not_change_is_left_alone() -> None:
    """A second number on the same connection."""
    bench = registered()
    bench.registrations.changed(replace(CONNECTION, name="another name", updated_at=9.0))
    assert len(bench.sent) == 1


def test_a_changed_password_removes_the_old_binding_before_the_new_one_is_made() -> None:
    """RFC 3261 §10.2: one REGISTER at a time; the old token is good until its time."""
    bench = registered()
    [first] = bench.sent
    bench.registrations.changed(replace(CONNECTION, secrets={"sip_password": "new"}))
    removal = bench.latest
    assert (removal.headers.get("Expires"), bench.token(removal)) == ("0", bench.token(first))
    bench.answer(200)
    assert len(bench.sent) == 3
    assert (bench.latest.headers.get("Expires"), bench.latest.call_id == first.call_id) == ("600", False)
    assert bench.token(bench.latest) != bench.token(first)
    bench.grant()
    assert bench.trunk_by_token(first) == bench.trunk_by_token(bench.latest) == TRUNK
    bench.solo.now = 600.0
    assert bench.trunk_by_token(first) == ""


def test_an_old_password_that_is_refused_does_not_keep_the_new_one_waiting() -> None:
    """The carrier has forgotten it already."""
    bench = registered()
    bench.registrations.changed(replace(CONNECTION, secrets={"sip_password": "new"}))
    bench.answer(403)
    assert bench.latest.headers.get("Expires") == "600"
    bench.grant()
    assert bench.registrations.states == {TRUNK: "registered"}


def test_of_many_changes_during_a_removal_the_last_counts() -> None:
    """Whatever was wanted in between."""
    bench = registered()
    for user in ("second", "third"):
        bench.registrations.changed(replace(CONNECTION, user_name=user))
    assert len(bench.sent) == 2
    bench.answer(200)
    assert str(bench.latest.from_.uri) == "sip:third@sip.telnyx.com"


def test_credentials_that_fail_give_way_to_new_ones_at_once() -> None:
    """An operator who corrects a password does not wait 300 s."""
    bench = Bench()
    bench.registrations.changed(CONNECTION)
    bench.answer(403)
    assert bench.registrations.states == {TRUNK: "failed"}
    bench.registrations.changed(replace(CONNECTION, secrets={"sip_password": "right"}))
    assert len(bench.sent) == 2
    bench.grant()
    assert bench.registrations.states == {TRUNK: "registered"}


def test_a_connection_without_numbers_is_unregistered() -> None:
    """And forgotten, when the registrar has confirmed it."""
    bench = registered()
    bench.registrations.removed(CONNECTION.id)
    assert bench.latest.headers.get("Expires") == "0"
    assert bench.registrations.states == {}
    bench.answer(200)
    assert sum(bench.registrations.readings()["registrations"].values()) == 0
    bench.advance(600.0)
    assert len(bench.sent) == 2


def test_one_that_comes_back_while_it_is_being_removed_is_registered_anew() -> None:
    """Its last number removed and imported again within a round trip."""
    bench = registered()
    bench.registrations.removed(CONNECTION.id)
    bench.registrations.changed(CONNECTION)
    assert len(bench.sent) == 2
    bench.answer(200)
    assert bench.latest.headers.get("Expires") == "600"
    bench.grant()
    assert bench.registrations.states == {TRUNK: "registered"}


def test_a_connection_that_registers_no_more_is_unregistered() -> None:
    """Its numbers now come by its host name."""
    bench = registered()
    bench.registrations.changed(replace(OWN_HOST, id=CONNECTION.id))
    assert bench.latest.headers.get("Expires") == "0"


def test_an_unknown_connection_is_removed_without_a_word() -> None:
    """One that was never kept, one that is gone."""
    bench = Bench()
    bench.registrations.removed("nobody")
    assert bench.sent == []


def test_other_carriers_and_other_registrations_are_none_of_its_business() -> None:
    """Events of other names pass by."""
    bench = Bench()
    bench.registrations.changed(replace(CONNECTION, provider="other"))
    assert bench.sent == []


# --- failures ---------------------------------------------------------------------------------


def test_each_failure_is_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """With its status, its reason, fit for a log, and when it is tried again."""
    bench = Bench()
    bench.registrations.changed(CONNECTION)
    bench.answer(500)
    bench.advance(2.0)
    bench.answer(503, ("Retry-After", "30"))
    assert [bench.count(trunk=TRUNK, status=status) for status in ("500", "503")] == [1, 1]
    lines = [record for record in caplog.records if record.name == "truedy.registrations"]
    assert [(line.levelname, line.getMessage()) for line in lines] == [("WARNING", "not registered")] * 2
    assert [vars(line)["sip_status"] for line in lines] == [500, 503]
    assert vars(lines[1])["retry_in_s"] == 30.0
    assert bench.registrations.states == {TRUNK: "failed"}


def test_it_comes_back_by_itself_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """R17: down five minutes, back within 65 s; logged once, not at each refresh."""
    caplog.set_level(logging.INFO)
    bench = registered()
    while bench.solo.now < 780.0:
        bench.until_sent()
        bench.answer(500)
    assert bench.until_sent() <= 60.0
    bench.grant()
    assert bench.registrations.states == {TRUNK: "registered"}
    said = [vars(record).get("expires_s") for record in caplog.records if record.getMessage() == "registered"]
    assert said == [600, 600]


def test_a_registrar_that_grants_no_time_has_not_registered_us() -> None:
    """RFC 3261 §10.3: 0 s is a removal."""
    bench = Bench()
    bench.registrations.changed(CONNECTION)
    bench.grant(0)
    assert bench.registrations.states == {TRUNK: "failed"}
    assert bench.count(status="200") == 1
    bench.advance(5.0)
    bench.grant()
    assert bench.registrations.states == {TRUNK: "registered"}


def test_another_device_with_the_same_user_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """Calls ring there, too."""
    bench = Bench()
    bench.registrations.changed(CONNECTION)
    for _ in range(2):
        bench.grant(60, others=", <sip:office12345@198.51.100.9>;expires=40")
        bench.advance(48.0)
    assert bench.solo.counters.get("registrations_shared", trunk=TRUNK) == 1
    warned = [record for record in caplog.records if "others" in record.getMessage()]
    assert [vars(record)["others"] for record in warned] == [1]


# --- the start, the end, and what is shown ----------------------------------------------------


async def registry_with(*connections: Connection) -> MemoryRegistry:
    registry = MemoryRegistry()
    for account_id in {connection.account_id for connection in connections}:
        await registry.create_account(Account(account_id, account_id, 0.0))
    for connection in connections:
        await registry.save_connection(connection)
    return registry


async def test_at_the_start_all_the_registry_has_is_registered_at_a_bounded_rate() -> None:
    """A carrier takes so many requests a second from one address."""
    bench = Bench()
    many = [replace(CONNECTION, id=str(number), user_name=f"user{number}") for number in range(2 * STARTS_PER_S)]
    await bench.registrations.start(await registry_with(*many, OWN_HOST))
    bench.advance(0.99)
    assert len(bench.sent) == STARTS_PER_S
    bench.advance(1.0)
    assert len(bench.sent) == 2 * STARTS_PER_S
    assert bench.trunk_of(f"sip:1@{OWN_HOST.host}") == ""


async def test_two_accounts_with_one_connection_register_once_with_what_was_saved_last() -> None:
    """One registrar, one user."""
    bench = Bench()
    newer = replace(CONNECTION, account_id="second", secrets={"sip_password": "new"}, updated_at=2.0)
    await bench.registrations.start(await registry_with(newer, replace(CONNECTION, updated_at=1.0)))
    assert len(bench.sent) == 1
    bench.registrations.changed(newer)
    assert len(bench.sent) == 1


async def test_what_was_missed_is_made_up_for_and_what_did_not_change_is_left_alone() -> None:
    """The control API's process died between writing the registry and telling of it."""
    bench = Bench(rules=(CARRIER_RULE,))
    encrypted = replace(OWN_HOST, id="78", host=None, encrypted_media=True)
    await bench.registrations.start(await registry_with(CONNECTION, OWN_HOST, encrypted))
    bench.grant()
    new = replace(CONNECTION, id="9", user_name="new")
    await bench.registrations.refresh(await registry_with(CONNECTION, new))
    assert [sent.headers.lines("To")[0].partition("@")[0] for sent in bench.sent] == ["<sip:office12345", "<sip:new"]
    assert at_host(bench, OWN_HOST.host) == ""
    assert not bench.registrations.encrypted("78")
    bench.grant()
    await bench.registrations.refresh(await registry_with(new))
    assert bench.latest.headers.lines("Contact")[0].endswith("expires=0")


async def test_readiness_waits_for_the_first_answers_of_the_start_alone() -> None:
    """A connection imported later, whose registrar is silent, does not take the edge out of service."""
    bench = Bench()
    await bench.registrations.start(await registry_with(CONNECTION))
    assert bench.registrations.states == {TRUNK: "pending"}
    bench.answer(500)
    assert bench.registrations.states == {TRUNK: "failed"}
    later = replace(CONNECTION, id="2", user_name="later")
    bench.registrations.changed(later)
    assert bench.registrations.states == {TRUNK: "failed"}
    assert bench.registrations.readings()["registrations"][("state", "pending"),] == 1
    bench.answer(403)
    assert bench.registrations.states == {TRUNK: "failed", "telnyx:2": "failed"}


def test_the_readings_count_each_state() -> None:
    """All of them, at any time."""
    counts = {"pending": 0, "registered": 1, "failed": 0}
    assert registered().registrations.readings() == {
        "registrations": {(("state", state),): count for state, count in counts.items()}
    }


async def test_at_the_end_everything_is_unregistered() -> None:
    """Confirmed by each registrar; nothing begins any more."""
    bench = registered()
    closing = asyncio.ensure_future(bench.registrations.close())
    await asyncio.sleep(0)
    assert bench.latest.headers.get("Expires") == "0"
    assert not closing.done()
    bench.registrations.changed(replace(CONNECTION, id="late"))
    bench.answer(200)
    await closing
    assert len(bench.sent) == 2
    await bench.registrations.close()


async def test_a_registrar_that_confirms_nothing_does_not_hold_up_the_end(caplog: pytest.LogCaptureFixture) -> None:
    """The binding runs out by itself."""
    bench = registered()
    await bench.registrations.close(timeout_s=0.0)
    assert [vars(record)["registrations"] for record in caplog.records] == [[TRUNK]]


async def test_the_end_waits_for_what_came_after_an_earlier_quiet() -> None:
    """All gone once is not all gone for ever."""
    bench = registered()
    bench.registrations.removed(CONNECTION.id)
    bench.answer(200)
    bench.registrations.changed(CONNECTION)
    bench.grant()
    closing = asyncio.ensure_future(bench.registrations.close())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not closing.done()
    bench.answer(200)
    await closing


# --- host names -------------------------------------------------------------------------------

CARRIER_RULE = TrunkRule("telnyx", (ipaddress.ip_network("192.0.2.0/29"),), auth="host", shared_addresses=True)


def at_host(bench: Bench, host: str | None) -> str:
    return bench.trunk_of(f"sip:12014269044@{host}", bench.solo.flow)


def test_a_connections_own_host_name_selects_its_trunk() -> None:
    """From the carrier's addresses only; nothing is registered for it."""
    bench = Bench(rules=(CARRIER_RULE,))
    bench.registrations.changed(OWN_HOST)
    assert at_host(bench, OWN_HOST.host) == "telnyx:77"
    assert at_host(bench, "edge.test") == "telnyx"
    assert bench.trunk_of(f"sip:12014269044@{OWN_HOST.host}") == ""
    assert bench.sent == []
    assert bench.registrations.states == {}


def test_a_host_name_that_is_not_used_yet_leads_where_the_numbers_are() -> None:
    """The customer may begin to use it at any time."""
    bench = Bench(rules=(CARRIER_RULE,))
    bench.registrations.changed(replace(OWN_HOST, trunk="telnyx", host_used=False))
    assert at_host(bench, OWN_HOST.host) == "telnyx"


def test_a_host_name_goes_with_its_connection_and_gives_way_to_another() -> None:
    """A name that nobody has is nobody's trunk."""
    bench = Bench(rules=(CARRIER_RULE,))
    bench.registrations.changed(OWN_HOST)
    other = replace(OWN_HOST, host="other.edge.test")
    bench.registrations.changed(other)
    assert (at_host(bench, OWN_HOST.host), at_host(bench, other.host)) == ("", "telnyx:77")
    bench.registrations.removed(other.id)
    assert at_host(bench, other.host) == ""


async def test_host_names_are_known_from_the_start() -> None:
    """Before the first call."""
    bench = Bench(rules=(CARRIER_RULE,))
    await bench.registrations.start(await registry_with(OWN_HOST))
    assert at_host(bench, OWN_HOST.host) == "telnyx:77"


def test_a_credential_connections_host_name_counts_for_nothing() -> None:
    """Its calls show the token."""
    bench = Bench(rules=(CARRIER_RULE,))
    bench.registrations.changed(replace(CONNECTION, host="own.edge.test"))
    assert at_host(bench, "own.edge.test") == ""


async def test_which_connections_insist_on_srtp_is_known_while_they_are_there() -> None:
    bench = Bench()
    assert not bench.registrations.encrypted(OWN_HOST.id)
    bench.registrations.changed(replace(OWN_HOST, encrypted_media=True))
    assert bench.registrations.encrypted(OWN_HOST.id)
    bench.registrations.changed(OWN_HOST)
    assert not bench.registrations.encrypted(OWN_HOST.id)
    bench.registrations.changed(replace(OWN_HOST, encrypted_media=True))
    bench.registrations.removed(OWN_HOST.id)
    assert not bench.registrations.encrypted(OWN_HOST.id)
