"""Calls through Twilio's whole path: webhook, TwiML, INVITE, media, action; and who is refused on it.

The carrier is :mod:`tests.support.carriers.twilio`, which signs, dials and routes as Twilio does, and complains at the
end of a test about whatever Twilio would not have taken.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.support.audio import tone
from tests.support.carriers.sip import values
from tests.support.carriers.stage import TWILIO_DID, WEBHOOK, Stage
from tests.support.carriers.twilio import Dial, borrowing, with_header, without_header
from tests.support.edge import APART, COMMAND, Edge, Keyring, Settings
from tests.support.media_streams_agent import AGENT_HZ, MediaStreamsAgent, greet
from tests.support.phone import Phone
from tests.support.pki import Pki
from tests.support.process import running

CALLER_HZ = 1000
CALLER = "+12025550123"
FAST = Settings(sip={"t1_s": 0.1}, media={"port_rest_s": 0.1})


@pytest.fixture
async def stage(tmp_path: Path, keyring: Keyring) -> AsyncIterator[Stage]:
    """An edge on loopback between both carriers."""
    async with Stage.open(tmp_path / "edge", keyring) as on_stage:
        yield on_stage


def without_credentials(dial: Dial) -> Dial:
    """As another customer of the same carrier would call us: its addresses are all they have in common."""
    return replace(dial, username="", password="")


# --- the whole path ---


@pytest.mark.realtime
@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
async def test_a_call_comes_in_by_webhook_and_dial_and_both_sides_hear_each_other(
    transport: Literal["udp", "tcp", "tls"], tmp_path: Path, keyring: Keyring, pki: Pki
) -> None:
    """The agent is told the parent call's SIDs and what the webhook says of the caller, as the record is.

    The webhook is answered by the API's own process, which has the call expected where it is carried.
    """
    settings = Settings(api=APART)
    if transport == "tcp":
        settings.listen = ("tcp:127.0.0.1:0",)
    secure = pki if transport == "tls" else None
    async with (
        MediaStreamsAgent.open(greet) as agent,
        Stage.open(tmp_path / "edge", keyring, settings, pki=secure) as stage,
    ):
        await stage.twilio_number(pipeline={"protocol": "twilio-media-streams", "url": agent.url})
        call = await stage.twilio.call(TWILIO_DID, CALLER, **{"SipHeader_X-Campaign": "spring"})
        assert call.answered, call
        assert call.leg is not None
        assert call.leg.path.transport == transport
        assert call.dial is not None
        assert call.dial.answer_on_bridge

        told = await agent.expect_call()
        assert (told.start["callSid"], told.start["accountSid"]) == (call.sid, stage.tenant.twilio.sid)
        assert told.start["callSid"] != call.child_sid
        known = {"verstat": "TN-Validation-Passed-A", "X-Campaign": "spring", "X-Twilio-CallSid": call.child_sid}
        assert told.start["customParameters"].items() >= known.items()
        await call.media.expect_tone(AGENT_HZ)
        await call.media.play(tone(CALLER_HZ, 1.0))
        await told.expect_tone(CALLER_HZ)

        await call.hang_up()
        assert (call.dial_status, call.did) == ("completed", ["Dial"])
        assert call.exchanges[-1].body.endswith("<Response />")
        (record,) = await stage.edge.expect_records(1)
        assert (record["trunk"], record["from_number"], record["to_number"]) == ("twilio", CALLER, TWILIO_DID)
        assert (record["end_reason"], record["sip_call_id"]) == ("caller_hung_up", call.leg.call_id)
        assert record["identity"]["verstat"] == known["verstat"]


async def test_180_comes_before_200_and_the_action_is_the_configured_public_url(stage: Stage) -> None:
    """The caller hears ringing; the URL in the TwiML is ours as others see it; the agent has its time."""
    await stage.twilio_number()
    call = await stage.twilio.call(TWILIO_DID)
    assert call.leg is not None
    assert call.leg.provisional == [100, 180]
    assert call.dial is not None
    assert call.dial.action == f"{WEBHOOK}/dial-status"
    assert call.dial.timeout_s == 20
    assert [name for name, _ in call.dial.headers] == ["X-Truedy-Token"]
    await call.hang_up()


async def test_the_edges_goodbye_goes_through_both_proxies_to_the_private_contact(
    tmp_path: Path, keyring: Keyring
) -> None:
    """RFC 3261 §12.2.1.1; RFC 3326: Reason says Q.850, cause 16, as Twilio's own does."""

    async def greet_then_leave(agent_call: Any) -> None:
        await greet(agent_call)
        await agent_call.expect("mark")
        await agent_call.hang_up()

    async with MediaStreamsAgent.open(greet_then_leave) as agent, Stage.open(tmp_path / "edge", keyring) as stage:
        await stage.twilio_number(pipeline={"protocol": "twilio-media-streams", "url": agent.url})
        call = await stage.twilio.call(TWILIO_DID)
        await call.until_ended()
        assert call.leg is not None
        bye = call.leg.bye
        assert bye is not None
        assert bye.get("reason").startswith("Q.850;cause=16")
        assert values(bye, "route") == list(call.leg.spelling.record_routes)
        assert (call.dial_status, call.did) == ("completed", ["Dial"])
        (record,) = await stage.edge.expect_records(1)
        assert (record["ended_by"], record["end_reason"]) == ("agent", "agent_closed")


async def test_a_webhook_by_get_is_answered_and_flagged(stage: Stage) -> None:
    """The number's voice method is wrong in the console; calls work, and the log and a counter say so."""
    await stage.twilio_number()
    call = await stage.twilio.call(TWILIO_DID, method="GET")
    assert call.answered
    await call.hang_up()
    assert await stage.counted("twilio_webhooks", method="GET", outcome="dialed") == 1
    assert [line for line in stage.edge.log() if line["level"] == "warning" and "method=GET" in line["event"]]


async def test_a_repeated_webhook_gets_the_same_twiml_and_one_call(stage: Stage) -> None:
    """Twilio asks once more when an answer is slow: idempotent on the CallSid."""
    await stage.twilio_number()
    call = await stage.twilio.call(TWILIO_DID, announced=2)
    assert call.exchanges[0].body == call.exchanges[1].body
    assert call.answered
    await call.hang_up()
    assert await stage.counted("twilio_webhooks", outcome="repeated") == 1
    await stage.edge.expect_records(1)


async def test_each_call_has_credentials_of_its_own_and_none_of_them_is_logged(
    tmp_path: Path, keyring: Keyring
) -> None:
    """Nor told to the agent."""
    async with (
        MediaStreamsAgent.open(greet) as agent,
        Stage.open(tmp_path / "edge", keyring, checked=False) as stage,
    ):
        await stage.twilio_number(pipeline={"protocol": "twilio-media-streams", "url": agent.url})
        calls = [await stage.twilio.call(TWILIO_DID) for _ in range(2)]
        secrets: list[str] = []
        for call in calls:
            assert call.dial is not None
            secrets += [call.dial.username, call.dial.password, *(value for _, value in call.dial.headers)]
            await call.hang_up()
        assert len(set(secrets)) == 6
        await stage.edge.expect_records(2)
        await stage.edge.stop()
        seen = "\n".join([*stage.edge.program.lines, *(str(each.messages) for each in agent.calls)])
        passwords = [secret for secret in secrets if not secret.startswith("c")]
        assert not [secret for secret in [*passwords, stage.tenant.twilio.auth_token] if secret in seen]


# --- who is refused ---


@pytest.mark.parametrize("signature", ["forged", "absent"])
async def test_a_webhook_with_a_bad_signature_is_403_and_gives_nothing_away(
    stage: Stage, signature: Literal["forged", "absent"]
) -> None:
    await stage.twilio_number()
    call = await stage.twilio.call(TWILIO_DID, signature=signature)
    assert call.exchanges[0].status == 403
    assert call.dial is None
    assert "Sip" not in call.exchanges[0].body
    assert await stage.counted("twilio_webhooks", outcome="bad signature") == 1


async def test_an_invite_without_the_calls_token_is_403_though_the_digest_is_right(stage: Stage) -> None:
    """Missing, and wrong; the caller hears that it did not work, and no agent is called."""
    await stage.twilio_number()
    for tamper in (without_header, with_header("0" * 25)):
        call = await stage.twilio.call(TWILIO_DID, tamper=tamper)
        assert call.status == 403
        assert call.dial_status == "failed"
        assert [did.partition(" ")[0] for did in call.did] == ["Dial", "Say", "Hangup"]
    assert await stage.counted("sip_requests_refused", status="403") == 2
    assert await stage.edge.calls() == []


async def test_credentials_that_were_used_are_403_for_any_other_call(stage: Stage) -> None:
    """Bound to the first Call-ID; while that call is up, and after it."""
    await stage.twilio_number()
    call = await stage.twilio.call(TWILIO_DID)
    assert (await stage.twilio.replay(call)).status == 403
    await call.hang_up()
    assert (await stage.twilio.replay(call)).status == 403
    await stage.edge.expect_records(1)
    assert await stage.counted("sip_requests_refused", reason="the call's credentials have been used") == 2


@pytest.mark.realtime
async def test_a_late_invite_and_a_late_webhook_are_refused(
    tmp_path: Path, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass lives for 60 s, here for half of one; then its CallSid is told to hang up and its digest opens nothing."""
    brief = tmp_path / "truedy-edge"
    brief.write_text(
        f"#!{sys.executable}\nimport control.passes\ncontrol.passes.LIFETIME_S = 0.5\n"
        "from control.cli import main\nraise SystemExit(main())\n"
    )
    brief.chmod(0o755)
    monkeypatch.setattr("tests.support.edge.COMMAND", brief)
    monkeypatch.setattr(Edge, "zygote", None)
    async with Stage.open(tmp_path / "edge", keyring) as stage:
        await stage.twilio_number()
        late = await stage.twilio.call(TWILIO_DID, invite_after_s=0.6)
        assert late.status == 407
        assert late.did[-1] == "Hangup"
        again = await stage.twilio.call(TWILIO_DID, sid=late.sid)
        assert again.did == ["Hangup"]
        assert await stage.counted("twilio_webhooks", outcome="too late") == 1
        assert await stage.edge.calls() == []


async def test_the_digest_of_another_accounts_call_does_not_open_this_one(stage: Stage) -> None:
    """Neither with the right token, which is not of that digest, nor without credentials at all."""
    await stage.twilio_number()
    async with stage.another("globex") as globex:
        await stage.twilio_number("+14155550177", tenant=globex)
        theirs = await stage.twilio.call("+14155550177", tamper=without_credentials)
        assert theirs.status == 407
        ours = await stage.twilio.call(TWILIO_DID, tamper=borrowing(theirs))
        assert ours.status == 403
    assert await stage.edge.calls() == []


async def test_the_number_called_is_the_passs_whatever_the_invite_says(stage: Stage) -> None:
    """All of globex' credentials on an INVITE to acme's number: globex' agent answers, and pays."""
    await stage.twilio_number()
    async with stage.another("globex") as globex:
        await stage.twilio_number("+14155550177", tenant=globex)

        def to_acme(dial: Dial) -> Dial:
            return replace(dial, uri=dial.uri.replace("+14155550177", TWILIO_DID))

        call = await stage.twilio.call("+14155550177", tamper=to_acme)
        assert call.answered
        await call.hang_up()
        assert await stage.edge.calls() == []
        (record,) = await globex.records()
        assert record["to_number"] == "+14155550177"


async def test_a_number_of_another_account_is_rejected_though_the_webhook_is_genuine(stage: Stage) -> None:
    """Another customer of Twilio's says that acme's number was called in its account, and signs it with its token."""
    await stage.twilio_number()
    async with stage.another("globex") as globex:
        await stage.twilio_number("+14155550177", tenant=globex)
        call = await stage.twilio.call(TWILIO_DID, account_sid=globex.twilio.sid)
        assert call.did == ["Reject"]
    assert await stage.counted("twilio_webhooks", outcome="unknown number") == 1


async def test_unknown_unassigned_and_removed_numbers_are_rejected(stage: Stage) -> None:
    """200 and ``<Reject/>``: Twilio charges nobody."""
    number = await stage.twilio_number()
    await stage.edge.request("PATCH", f"/telephony/numbers/{number['id']}", {"agent_id": None})
    assert (await stage.twilio.call(TWILIO_DID)).did == ["Reject"]
    await stage.edge.request("DELETE", f"/telephony/numbers/{number['id']}")
    assert (await stage.twilio.call(TWILIO_DID)).did == ["Reject"]
    assert await stage.counted("twilio_webhooks", outcome="unassigned number") == 1
    assert await stage.counted("twilio_webhooks", outcome="unknown number") == 1
    assert [each.voice_url for each in stage.twilio_rest.numbers.values()] == [WEBHOOK]


async def test_a_number_removed_between_the_twiml_and_the_invite_is_not_found(stage: Stage) -> None:
    number = await stage.twilio_number()
    waiting = asyncio.create_task(stage.twilio.call(TWILIO_DID, invite_after_s=0.5))
    async with asyncio.timeout(5):
        while not (stage.twilio.calls and stage.twilio.calls[0].did):
            await asyncio.sleep(0.01)
    await stage.edge.request("DELETE", f"/telephony/numbers/{number['id']}")
    call = await waiting
    assert call.status == 404
    assert call.did[-1] == "Hangup"


async def test_a_static_trunk_in_a_carriers_range_is_refused_at_start(tmp_path: Path, keyring: Keyring) -> None:
    """One line that names the trunk and the range."""
    config = tmp_path / "edge.toml"
    config.write_text(Settings(trunk={"lab": False}, addresses=("54.172.60.0/24",)).toml(keyring.registry))
    async with running(COMMAND, "serve", "--config", config) as serving:
        assert await serving.wait(20.0) != 0
        assert len(serving.lines) == 1
        assert "54.172.60.0" in serving.lines[0]


async def test_a_lab_trunk_over_all_of_loopback_takes_no_carriers_call(stage: Stage) -> None:
    """The trunk ``lab`` lists 127.0.0.0/8, the carrier's one address is the longer prefix; nor does it lead to them."""
    await stage.twilio_number()
    call = await stage.twilio.call(TWILIO_DID, tamper=without_credentials)
    assert call.status == 407
    async with Phone.open(stage.edge.listeners["udp"]) as phone:
        ours = await phone.call(TWILIO_DID)
        await ours.invite()
        await ours.expect(404)


# --- what is not right at the agent's or the edge's ---


async def test_a_caller_hears_an_apology_when_the_agent_does_not_come(tmp_path: Path, keyring: Keyring) -> None:
    """480; the action's TwiML says something fit for a caller."""
    settings = replace(FAST, agents={"agent_timeout_s": 0.5})
    async with Stage.open(tmp_path / "edge", keyring, settings) as stage:
        await stage.twilio_number(pipeline={"protocol": "twilio-media-streams", "url": "ws://127.0.0.1:9/agent"})
        call = await stage.twilio.call(TWILIO_DID)
        assert (call.status, call.dial_status) == (480, "no-answer")
        assert call.did[1].startswith("Say Nobody can take your call")
        await stage.edge.expect_records(1)


async def test_a_full_number_is_busy(tmp_path: Path, keyring: Keyring) -> None:
    """486 with a Reason: a tenant's cap does not make the carrier fail over."""
    async with Stage.open(tmp_path / "edge", keyring, Settings(limits={"calls_per_did": 1})) as stage:
        await stage.twilio_number()
        first = await stage.twilio.call(TWILIO_DID)
        second = await stage.twilio.call(TWILIO_DID)
        assert (second.status, second.dial_status) == (486, "busy")
        assert second.leg is not None
        assert second.leg.response is not None
        assert second.leg.response.get("reason")
        assert second.did[1].startswith("Say All lines are busy")
        await first.hang_up()


async def test_a_draining_edge_sends_the_carrier_elsewhere(tmp_path: Path, keyring: Keyring) -> None:
    """503 to the webhook: Twilio's fallback URL takes over. The call that is up goes on."""
    async with Stage.open(tmp_path / "edge", keyring, checked=False) as stage:
        await stage.twilio_number()
        old = await stage.twilio.call(TWILIO_DID)
        stage.edge.program.signal(signal.SIGTERM)
        async with asyncio.timeout(5):
            while (await stage.edge.api.get("/readyz")).status_code == 200:
                await asyncio.sleep(0.02)
        new = await stage.twilio.call(TWILIO_DID)
        assert new.error.startswith("11200")
        assert new.exchanges[0].status == 503
        await old.hang_up()
        assert old.dial_status == "completed"
        assert await stage.edge.program.wait(10.0) == 0


# --- what is not right at the carrier's ---


async def test_another_accounts_number_is_not_imported_while_its_carrier_confirms_it(stage: Stage) -> None:
    """409, the same as for one's own; 422 without control of the number; nothing changes for the holder."""
    await stage.twilio_number()
    async with stage.another("globex") as globex:
        await globex.save_twilio()
        error = await globex.import_twilio(status=422)
        assert error["details"]["check"] == "number"
        error = await globex.import_twilio(status=422, sid=stage.tenant.twilio.sid)
        assert error["details"]["check"] == "account_sid"
        stage.twilio_rest.add_number(globex.twilio, TWILIO_DID, voice_url=WEBHOOK)
        error = await globex.import_twilio(status=409)
        assert error["code"] == "number_already_imported"
    call = await stage.twilio.call(TWILIO_DID)
    assert call.answered
    await call.hang_up()
    await stage.edge.expect_records(1)


async def test_a_number_that_moved_at_the_carrier_moves_with_the_import_that_proves_it(stage: Stage) -> None:
    """Acme's own carrier account denies it now: its binding gives way, and calls are globex'."""
    await stage.twilio_number()
    async with stage.another("globex") as globex:
        stage.twilio_rest.numbers.clear()
        await stage.twilio_number(tenant=globex)
        call = await stage.twilio.call(TWILIO_DID)
        assert call.answered
        await call.hang_up()
        (record,) = await globex.records()
        assert record["to_number"] == TWILIO_DID
    assert await stage.tenant.request("GET", "/telephony/numbers") == []


async def test_a_subaccounts_webhooks_are_proved_with_its_own_token(stage: Stage) -> None:
    """Fetched at the import. The parent's own token proves nothing about the subaccount's number."""
    parent = stage.tenant.twilio
    subaccount = stage.twilio_rest.add_account("c" * 32, owner_sid=parent.sid)
    stage.twilio_rest.add_number(subaccount, TWILIO_DID, voice_url=WEBHOOK)
    await stage.tenant.save_twilio()
    await stage.tenant.assign(await stage.tenant.import_twilio(sid=subaccount.sid))
    call = await stage.twilio.call(TWILIO_DID)
    assert call.answered
    await call.hang_up()
    forged = await stage.twilio.call(TWILIO_DID, account_sid=parent.sid)
    assert forged.did == ["Reject"]


async def test_a_rotated_auth_token_leaves_no_call_out(stage: Stage) -> None:
    """What the old token still signs is taken, and what the new one signs already."""
    await stage.twilio_number()
    account = stage.tenant.twilio
    old, account.secondary_token = account.auth_token, "b" * 32
    await stage.tenant.save_twilio(auth_token="b" * 32)
    for token in (old, "b" * 32):
        account.auth_token = token
        call = await stage.twilio.call(TWILIO_DID)
        assert call.answered
        await call.hang_up()
    await stage.edge.expect_records(2)


async def test_a_webhook_as_slow_as_the_network_allows_is_one_call(stage: Stage) -> None:
    """INVITE long after the TwiML, but in time."""
    await stage.twilio_number()
    call = await stage.twilio.call(TWILIO_DID, invite_after_s=2.0)
    assert call.answered
    await call.hang_up()
