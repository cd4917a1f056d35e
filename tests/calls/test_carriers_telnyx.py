"""Calls through Telnyx's whole path: our REGISTER, its INVITE to what we registered; and who is refused on it.

The carrier is :mod:`tests.support.carriers.telnyx`, which registers, spells and routes as Telnyx does, and complains at
the end of a test about whatever Telnyx would not have taken.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.audio import tone
from tests.support.carriers.sip import values
from tests.support.carriers.stage import PASSWORD, TELNYX_DID, Stage
from tests.support.carriers.telnyx import with_token, without_token
from tests.support.carriers.telnyx_rest import TelnyxRegistration
from tests.support.edge import APART, Edge, Keyring, Settings
from tests.support.media_streams_agent import AGENT_HZ, MediaStreamsAgent, greet
from tests.support.phone import Phone

CALLER_HZ = 1000
CALLER = "+12025550123"
FAST = Settings(sip={"t1_s": 0.1}, media={"port_rest_s": 0.1})


@pytest.fixture
async def stage(tmp_path: Path, keyring: Keyring) -> AsyncIterator[Stage]:
    """An edge on loopback between both carriers, registering over UDP."""
    async with Stage.open(tmp_path / "edge", keyring) as on_stage:
        yield on_stage


def gone(binding: object) -> bool:
    """For :meth:`FakeTelnyx.registered`."""
    return binding is None


# --- the whole path ---


@pytest.mark.realtime
@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_call_comes_in_by_the_registration_and_both_sides_hear_each_other(
    transport: str, tmp_path: Path, keyring: Keyring
) -> None:
    """The number without its plus, compact headers, three Record-Routes; the record is of that connection's trunk.

    It is imported in the API's own process, which tells of the connection.
    """
    async with (
        MediaStreamsAgent.open(greet) as agent,
        Stage.open(tmp_path / "edge", keyring, Settings(api=APART), telnyx_transport=transport) as stage,
    ):
        connection = await stage.telnyx_number(pipeline={"protocol": "twilio-media-streams", "url": agent.url})
        call = await stage.telnyx.call(TELNYX_DID, CALLER)
        assert call.answered, call
        assert call.leg is not None
        assert call.leg.path.transport == transport
        assert call.leg.provisional == [100, 180]

        told = await agent.expect_call()
        await call.media.expect_tone(AGENT_HZ)
        await call.media.play(tone(CALLER_HZ, 1.0))
        await told.expect_tone(CALLER_HZ)

        await call.hang_up()
        (record,) = await stage.edge.expect_records(1)
        assert (record["from_number"], record["to_number"]) == (CALLER, TELNYX_DID)
        assert (record["trunk"], record["end_reason"]) == (f"telnyx:{connection.id}", "caller_hung_up")
        assert told.start["callSid"].startswith("CA")
        assert told.start["customParameters"]["verstat"] == "TN-Validation-Passed-C"
        assert (record["identity"]["verstat"], record["identity"]["asserted"]) == (
            "TN-Validation-Passed-C",
            [CALLER.lstrip("+")],
        )


async def test_the_edges_goodbye_goes_by_all_three_routes_to_the_gateway(tmp_path: Path, keyring: Keyring) -> None:
    """RFC 3261 §12.2.1.1: the Contact ``mod_sofia@10.231.91.24`` is reached through the route set, or not at all."""

    async def greet_then_leave(agent_call: Any) -> None:
        await greet(agent_call)
        await agent_call.expect("mark")
        await agent_call.hang_up()

    async with MediaStreamsAgent.open(greet_then_leave) as agent, Stage.open(tmp_path / "edge", keyring) as stage:
        await stage.telnyx_number(pipeline={"protocol": "twilio-media-streams", "url": agent.url})
        call = await stage.telnyx.call(TELNYX_DID)
        await call.until_ended()
        assert call.leg is not None
        bye = call.leg.bye
        assert bye is not None
        assert bye.first_line.split()[1] == "sip:mod_sofia@10.231.91.24:6000"
        assert values(bye, "route") == list(call.leg.spelling.record_routes)
        await stage.edge.expect_records(1)


async def test_the_registration_is_refreshed_within_what_was_granted(tmp_path: Path, keyring: Keyring) -> None:
    """At 50–80 % of it, though far less than asked, over the same Call-ID and with the same token."""
    async with Stage.open(tmp_path / "edge", keyring) as stage:
        stage.telnyx.registrar.grants_s = 10
        connection = await stage.telnyx_number()
        first = stage.telnyx.history[0]
        second = await stage.telnyx.registered(connection.user_name or "", lambda binding: binding != first)
        assert second is not None
        assert 4.9 <= second.at - first.at <= 9.0
        assert (second.call_id, second.contact) == (first.call_id, first.contact)


async def test_the_last_number_takes_its_registration_with_it(stage: Stage) -> None:
    """The first of two does not; the carrier's account is not touched."""
    connection = await stage.telnyx_number()
    await stage.telnyx_number("+14155550201", connection=connection)
    changes = [seen for seen in stage.telnyx_rest.requests if seen.method != "GET" and "actions" not in seen.path]
    assert changes == []
    numbers = await stage.tenant.request("GET", "/telephony/numbers")
    await stage.edge.request("DELETE", f"/telephony/numbers/{numbers[0]['id']}")
    await stage.edge.request("DELETE", f"/telephony/numbers/{numbers[1]['id']}")
    await stage.telnyx.registered(connection.user_name or "", gone)
    assert (await stage.telnyx.call(TELNYX_DID)).failure.startswith("480 User not registered RG1")


async def test_a_stopped_edge_is_not_called_any_more_and_a_restarted_one_registers_anew(
    tmp_path: Path, keyring: Keyring
) -> None:
    """Unregistered by the drain; after a restart with another token."""
    async with Stage.open(tmp_path / "edge", keyring, checked=False) as stage:
        connection = await stage.telnyx_number()
        first = stage.telnyx.history[0]
        await stage.edge.stop()
        await stage.telnyx.registered(connection.user_name or "", gone)
        async with Edge.open(tmp_path / "edge", keyring, stage.settings) as edge:
            again = await stage.telnyx.registered(connection.user_name or "")
            assert again is not None
            assert again.contact.rpartition("=")[2] != first.contact.rpartition("=")[2]
            call = await stage.telnyx.call(TELNYX_DID)
            assert call.answered
            await call.hang_up()
            await edge.expect_records(1)
        assert not stage.telnyx.complaints


# --- who is refused ---


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_an_invite_without_the_registrations_token_reaches_no_number(
    transport: str, tmp_path: Path, keyring: Keyring
) -> None:
    """Any customer of Telnyx can send one from the same addresses, and knows the number; 404 tells them nothing."""
    async with Stage.open(tmp_path / "edge", keyring, telnyx_transport=transport) as stage:
        await stage.telnyx_number()
        for tamper in (without_token, with_token("0" * 32)):
            call = await stage.telnyx.call(TELNYX_DID, tamper=tamper)
            assert call.status == 404, call.leg
            assert not call.tries_elsewhere
        assert await stage.edge.calls() == []
        assert await stage.counted("calls_refused", status="404") == 2


async def test_a_number_of_another_account_is_not_found_on_ones_own_registration(stage: Stage) -> None:
    """``translated_number`` lets a customer forge what was dialed: looked up on that connection only."""
    await stage.telnyx_number()
    async with stage.another("globex") as globex:
        await stage.telnyx_number("+14155550277", tenant=globex)
        call = await stage.telnyx.call("+14155550277", dialed=TELNYX_DID)
        assert (call.status, call.tries_elsewhere) == (404, False)
        call = await stage.telnyx.call("+14155550277")
        assert call.answered
        await call.hang_up()
        await globex.records(1)
    assert await stage.edge.calls() == []


async def test_another_accounts_connection_or_number_is_not_imported(stage: Stage) -> None:
    """422 without control of it, 409 while its holder's carrier confirms it; calls go on as before."""
    connection = await stage.telnyx_number()
    async with stage.another("globex") as globex:
        await globex.save_telnyx()
        error = await globex.import_telnyx(connection, status=422)
        assert error["details"]["check"] == "connection"
        own = stage.telnyx_connection(tenant=globex)
        error = await globex.import_telnyx(own, status=422)
        assert error["details"]["check"] == "number"
        stage.telnyx_rest.add_number(globex.telnyx, TELNYX_DID, own)
        error = await globex.import_telnyx(own, status=409)
        assert error["code"] == "number_already_imported"
    assert own.user_name not in stage.telnyx.bindings
    call = await stage.telnyx.call(TELNYX_DID)
    assert call.answered
    await call.hang_up()


async def test_a_new_registration_has_a_new_token_and_the_old_one_lasts_as_long_as_it_was_granted(
    tmp_path: Path, keyring: Keyring
) -> None:
    """A call may be on its way to the old Contact; later it is nobody's."""
    async with Stage.open(tmp_path / "edge", keyring, telnyx_transport="tcp") as stage:
        stage.telnyx.registrar.grants_s = 10
        connection = await stage.telnyx_number()
        old = stage.telnyx.history[0]
        stage.telnyx.border.drop_connections()
        new = await stage.telnyx.registered(connection.user_name or "", lambda binding: binding != old)
        assert new is not None
        assert new.contact != old.contact
        call = await stage.telnyx.call(TELNYX_DID, binding=old)
        assert call.answered
        await call.hang_up()
        await asyncio.sleep(old.at + 10.5 - asyncio.get_running_loop().time())
        assert (await stage.telnyx.call(TELNYX_DID, binding=old)).status == 404
        call = await stage.telnyx.call(TELNYX_DID)
        assert call.answered
        await call.hang_up()


async def test_tokens_and_passwords_are_in_no_log(tmp_path: Path, keyring: Keyring) -> None:
    async with Stage.open(tmp_path / "edge", keyring, checked=False) as stage:
        await stage.telnyx_number()
        for tamper in (without_token, with_token("0" * 32), lambda uri: uri):
            call = await stage.telnyx.call(TELNYX_DID, tamper=tamper)
            await call.hang_up()
        await stage.edge.expect_records(1)
        await stage.edge.stop()
        token = stage.telnyx.history[0].contact.rpartition("=")[2]
        assert len(token) >= 16
        seen = "\n".join(stage.edge.program.lines)
        assert not [secret for secret in (token, PASSWORD, stage.tenant.telnyx.api_key) if secret in seen]


# --- connections that cannot register ---


async def fqdn_number(stage: Stage, did: str = TELNYX_DID) -> tuple[Any, str]:
    """A number on an FQDN connection that points at the bare domain; the connection and the host it is offered."""
    connection = stage.telnyx_connection(kind="fqdn", fqdns=["sip.test"])
    stage.telnyx_rest.add_number(stage.tenant.telnyx, did, connection)
    await stage.tenant.save_telnyx()
    number = await stage.tenant.import_telnyx(connection, did)
    await stage.tenant.assign(number)
    offered = re.search(r"[a-z0-9]+\.sip\.test", str(number["warnings"]))
    assert offered is not None, number
    stage.telnyx.hosts[offered[0]] = stage.telnyx.hosts["sip.test"]
    return connection, offered[0]


async def test_an_fqdn_connection_is_called_at_the_bare_domain_until_it_uses_its_own_host(stage: Stage) -> None:
    """Then the bare domain, which any customer of Telnyx can call, is refused for its numbers."""
    connection, host = await fqdn_number(stage)
    call = await stage.telnyx.call(TELNYX_DID)
    assert call.answered
    await call.hang_up()

    connection.fqdns = [host]
    (number,) = await stage.tenant.request("GET", "/telephony/numbers")
    verified = await stage.tenant.request("POST", f"/telephony/numbers/{number['id']}/verify")
    assert verified["warnings"] == []
    for _ in range(2):
        call = await stage.telnyx.call(TELNYX_DID)
        assert call.answered
        await call.hang_up()
    assert (await stage.telnyx.call(TELNYX_DID, host="sip.test")).status == 404


async def test_a_host_of_ones_own_leads_to_ones_own_numbers_only_and_from_telnyx_only(stage: Stage) -> None:
    """A second connection's number, a host nobody has, and an address that is not Telnyx's."""
    _, host = await fqdn_number(stage)
    await stage.telnyx_number("+14155550201")
    assert (await stage.telnyx.call(TELNYX_DID, dialed="+14155550201")).status == 404
    stage.telnyx.hosts["nobody.sip.test"] = stage.telnyx.hosts["sip.test"]
    assert (await stage.telnyx.call(TELNYX_DID, host="nobody.sip.test")).status == 404
    async with Phone.open(stage.edge.listeners["udp"]) as phone:
        stranger = await phone.call(TELNYX_DID, uri=f"sip:{TELNYX_DID}@{host}")
        await stranger.invite()
        await stranger.expect(404)
    assert await stage.edge.calls() == []


async def test_an_ip_connection_is_called_at_our_address_and_the_import_says_how_weak_that_is(stage: Stage) -> None:
    """It has no name to be told apart by; a credential connection's number is still not found that way."""
    connection = stage.telnyx_connection(kind="ip", ips=["127.0.0.1"])
    stage.telnyx_rest.add_number(stage.tenant.telnyx, TELNYX_DID, connection)
    await stage.tenant.save_telnyx()
    number = await stage.tenant.import_telnyx(connection)
    assert "shared_host" in [warning["code"] for warning in number["warnings"]]
    await stage.tenant.assign(number)
    stage.telnyx.hosts["127.0.0.1"] = stage.telnyx.hosts["sip.test"]
    call = await stage.telnyx.call(TELNYX_DID)
    assert call.answered
    await call.hang_up()
    await stage.telnyx_number("+14155550201")
    assert (await stage.telnyx.call(TELNYX_DID, dialed="+14155550201")).status == 404


# --- what is not right at the registrar ---


async def test_a_takeover_from_another_device_is_told_at_the_import(stage: Stage) -> None:
    """Whoever registered before loses the calls: the import says who that is."""
    connection = stage.telnyx_connection(registration=TelnyxRegistration("203.0.113.7", user_agent="Old PBX 1.0"))
    stage.telnyx_rest.add_number(stage.tenant.telnyx, TELNYX_DID, connection)
    await stage.tenant.save_telnyx()
    number = await stage.tenant.import_telnyx(connection)
    assert "Old PBX 1.0" in str(number["warnings"])
    await stage.telnyx.registered(connection.user_name or "")


async def test_a_registrar_that_wants_longer_times_gets_them(tmp_path: Path, keyring: Keyring) -> None:
    """RFC 3261 §10.2.8: 423 with Min-Expires."""
    async with Stage.open(tmp_path / "edge", keyring) as stage:
        stage.telnyx.registrar.min_expires_s = 1800
        connection = await stage.telnyx_number()
        assert stage.telnyx.bindings[connection.user_name or ""].granted_s >= 1800
        call = await stage.telnyx.call(TELNYX_DID)
        assert call.answered
        await call.hang_up()


@pytest.mark.parametrize("status", [403, 500])
async def test_a_registrar_that_refuses_is_counted_shown_and_not_pestered(stage: Stage, status: int) -> None:
    """403 is asked again after 300 s, 500 soon; the API, other numbers and readiness are none the worse."""
    stage.telnyx.registrar.refuses = (status, "Forbidden" if status == 403 else "Server Internal Error")
    connection = stage.telnyx_connection()
    stage.telnyx_rest.add_number(stage.tenant.telnyx, TELNYX_DID, connection)
    await stage.tenant.save_telnyx()
    await stage.tenant.assign(await stage.tenant.import_telnyx(connection))
    await stage.edge.expect_metrics({'truedy_registrations{state="failed"}': 1.0})
    assert await stage.counted("registration_failures", status=str(status), trunk=f"telnyx:{connection.id}") == 1
    assert (await stage.edge.api.get("/readyz")).status_code == 200
    warned = [line for line in stage.edge.log() if line["event"].startswith("not registered")]
    assert warned
    stage.telnyx.registrar.refuses = None
    if status == 403:
        await asyncio.sleep(3.0)
        assert stage.telnyx.bindings == {}
        assert len([passed for passed in stage.telnyx.border.passed if passed.data.startswith(b"REGISTER")]) == 1
    else:
        await stage.telnyx.registered(connection.user_name or "")
        await stage.edge.expect_metrics({'truedy_registrations{state="registered"}': 1.0})


async def test_a_wrong_password_is_told_by_name_and_a_new_one_in_the_integration_heals_it(
    tmp_path: Path, keyring: Keyring
) -> None:
    """The account hides passwords: what was typed is what counts."""
    async with Stage.open(tmp_path / "edge", keyring) as stage:
        stage.tenant.telnyx.masks_passwords = True
        connection = stage.telnyx_connection()
        stage.telnyx_rest.add_number(stage.tenant.telnyx, TELNYX_DID, connection)
        await stage.tenant.save_telnyx()
        error = await stage.tenant.import_telnyx(connection, status=422)
        assert error["details"]["check"] == "sip_password"
        await stage.tenant.save_telnyx(sip_password="not-the-password")
        await stage.tenant.assign(await stage.tenant.import_telnyx(connection))
        await stage.edge.expect_metrics({'truedy_registrations{state="failed"}': 1.0})
        assert await stage.counted("registration_failures", status="401") == 1
        await stage.tenant.save_telnyx(sip_password=PASSWORD)
        await stage.telnyx.registered(connection.user_name or "")
        call = await stage.telnyx.call(TELNYX_DID)
        assert call.answered
        await call.hang_up()


@pytest.mark.parametrize("transport", [pytest.param("udp", marks=pytest.mark.slow), "tcp"])
async def test_a_registrar_that_is_down_for_a_while_is_registered_at_again(
    transport: str, tmp_path: Path, keyring: Keyring
) -> None:
    """No answer at all: 64·T1, then the back-off; the gauge and the counter show it meanwhile."""
    async with Stage.open(tmp_path / "edge", keyring, FAST, telnyx_transport=transport) as stage:
        stage.telnyx.border.down = True
        connection = stage.telnyx_connection()
        stage.telnyx_rest.add_number(stage.tenant.telnyx, TELNYX_DID, connection)
        await stage.tenant.save_telnyx()
        await stage.tenant.assign(await stage.tenant.import_telnyx(connection))
        await stage.edge.expect_metrics({'truedy_registrations{state="failed"}': 1.0}, 64 * 0.1 + 33)
        stage.telnyx.border.down = False
        await stage.telnyx.registered(connection.user_name or "", timeout_s=15.0)
        call = await stage.telnyx.call(TELNYX_DID)
        assert call.answered
        await call.hang_up()


async def test_a_slow_registrar_is_waited_for_and_asked_once(tmp_path: Path, keyring: Keyring) -> None:
    """Retransmissions are one transaction to it; one registration comes of them."""
    async with Stage.open(tmp_path / "edge", keyring) as stage:
        stage.telnyx.registrar.slow_s = 1.2
        connection = await stage.telnyx_number()
        assert [binding.user_name for binding in stage.telnyx.history] == [connection.user_name]
        assert stage.telnyx.refused_logins == 0


@pytest.mark.realtime
async def test_a_registration_whose_connection_breaks_is_made_again_and_the_call_that_is_up_goes_on(
    tmp_path: Path, keyring: Keyring
) -> None:
    """Within seconds; the caller's BYE comes over a connection of its own."""
    async with Stage.open(tmp_path / "edge", keyring, telnyx_transport="tcp") as stage:
        connection = await stage.telnyx_number()
        call = await stage.telnyx.call(TELNYX_DID)
        old = stage.telnyx.history[0]
        stage.telnyx.border.drop_connections()
        await stage.telnyx.registered(connection.user_name or "", lambda binding: binding not in (None, old))
        await call.media.play(tone(CALLER_HZ, 0.5))
        await call.media.expect_tone(CALLER_HZ, 0.3)
        await call.hang_up()
        (record,) = await stage.edge.expect_records(1)
        assert record["end_reason"] == "caller_hung_up"


# --- what is not right elsewhere ---


async def test_final_responses_steer_the_carriers_own_failover(tmp_path: Path, keyring: Keyring) -> None:
    """Busy stays here; a full edge sends the call elsewhere; an agent that does not come, too."""
    settings = replace(FAST, limits={"calls": 2, "calls_per_did": 1}, agents={"agent_timeout_s": 0.5})
    async with Stage.open(tmp_path / "edge", keyring, settings) as stage:
        connection = await stage.telnyx_number()
        await stage.telnyx_number("+14155550201", connection=connection)
        nobody = {"protocol": "twilio-media-streams", "url": "ws://127.0.0.1:9/agent"}
        await stage.telnyx_number("+14155550202", connection=connection, pipeline=nobody)
        absent = await stage.telnyx.call("+14155550202")
        assert (absent.status, absent.tries_elsewhere) == (480, True)
        one = await stage.telnyx.call(TELNYX_DID)
        busy = await stage.telnyx.call(TELNYX_DID)
        assert (busy.status, busy.tries_elsewhere) == (486, False)
        two = await stage.telnyx.call("+14155550201")
        full = await stage.telnyx.call("+14155550202")
        assert (full.status, full.tries_elsewhere) == (503, True)
        assert full.leg is not None
        assert full.leg.response is not None
        assert full.leg.response.get("retry-after")
        for call in (one, two):
            await call.hang_up()
