"""Calls that the edge places and callers that it hands on, between the carriers' fakes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.support.audio import tone
from tests.support.carriers.stage import TELNYX_DID, TWILIO_DID, Stage, Tenant
from tests.support.carriers.telnyx import TelnyxOutbound
from tests.support.carriers.twilio_rest import TwilioCall
from tests.support.edge import APART, Keyring, Settings

CALLEE = "+14155550123"


@pytest.fixture
async def stage(tmp_path: Path, keyring: Keyring) -> AsyncIterator[Stage]:
    """What is asked for crosses from the API's own process to where calls are, and its errors back."""
    settings = Settings(api=APART, more=f'[recording]\npath = "{tmp_path / "recordings"}"\n')
    async with Stage.open(tmp_path, keyring, settings) as it:
        yield it


async def place(tenant: Tenant, agent: str, *, status: int = 201, **more: Any) -> Any:
    body = {"agent_id": agent, "phone_number": CALLEE, **more}
    return await tenant.request("POST", "/calls", body, status=status)


async def dialled(stage: Stage) -> TelnyxOutbound:
    """The last call that came in at Telnyx, once it has media or is refused."""
    calls = stage.telnyx.outbound

    async def so() -> bool:
        return bool(calls) and (calls[-1].media is not None or calls[-1].ended.is_set())

    await stage.edge.until(so, lambda: f"a call at Telnyx with media, or refused; there are {calls}", 5.0)
    return calls[-1]


async def asked_for(stage: Stage) -> TwilioCall:
    """The one call that Twilio is asked for by REST."""

    async def so() -> bool:
        return bool(stage.twilio_rest.calls)

    await stage.edge.until(so, lambda: "a call that Twilio is asked for", 5.0)
    (call,) = stage.twilio_rest.calls.values()
    return call


async def recorded(stage: Stage) -> list[dict[str, Any]]:
    """The account's records, once there are any: they follow their calls within moments."""
    found: list[dict[str, Any]] = []

    async def so() -> bool:
        found[:] = await stage.tenant.request("GET", "/calls")
        return bool(found)

    await stage.edge.until(so, lambda: "a record", 5.0)
    return found


async def agent_of(stage: Stage) -> str:
    (number,) = await stage.tenant.request("GET", "/telephony/numbers")
    return str(number["agent_id"])


@pytest.mark.realtime
async def test_a_call_goes_out_through_telnyx_under_the_connection_and_is_talked_on(stage: Stage) -> None:
    """INVITE, 407, INVITE with the connection's digest; early media of another codec first. Recorded as it wishes."""
    connection = await stage.telnyx_number()
    stage.telnyx.outbound_early = True
    placed = await place(stage.tenant, await agent_of(stage), call_settings={"recording_enabled": True})
    assert (placed["status"], placed["direction"]) == ("queued", "outbound")
    call = await dialled(stage)
    assert call.user_name == connection.user_name
    assert call.invite.get("x-telnyx-username") == connection.user_name
    assert TELNYX_DID in call.invite.get("p-asserted-identity")
    assert call.media is not None
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(call.media.play(tone(700, 1.5)))
        await call.media.expect_tone(700, 0.4)
    await stage.tenant.request("POST", f"/calls/{placed['id']}/hangup", status=200)
    (record,) = await stage.tenant.records()
    assert (record["id"], record["direction"], record["status"]) == (placed["id"], "outbound", "completed")
    assert record["end_reason"] == "operator_hung_up"
    assert {"X-Telnyx-Session-ID", "X-Telnyx-Leg-ID"} <= record["carrier_ids"].keys()
    assert record["recording"]["status"] in ("recording", "completed")


async def test_a_connection_without_a_voice_profile_says_so_on_the_record(stage: Stage) -> None:
    """Trouble elsewhere: "ready" in the UI, but no outbound voice profile (D38)."""
    await stage.telnyx_number()
    stage.telnyx.outbound_refusal = (403, "No outbound voice profile assigned D38")
    placed = await place(stage.tenant, await agent_of(stage))
    (record,) = await stage.tenant.records()
    assert (record["end_reason"], record["sip_status"]) == ("no_outbound_voice_profile", 403)
    detail = await stage.tenant.request("GET", f"/calls/{placed['id']}")
    assert "assign an outbound voice profile" in detail["timeline"][-1]["event"]


async def test_a_call_nobody_answers_is_cancelled(stage: Stage) -> None:
    await stage.telnyx_number()
    stage.telnyx.outbound_answer = False
    await place(stage.tenant, await agent_of(stage), call_settings={"join_timeout": "5s"})
    call = await dialled(stage)
    async with asyncio.timeout(8):
        await call.ended.wait()
    (record,) = await stage.tenant.records()
    assert record["end_reason"] == "no_answer"


@pytest.mark.realtime
async def test_a_caller_is_bridged_to_a_second_leg_through_telnyx(stage: Stage) -> None:
    """The second leg goes out on the call's own connection; both hear each other; either's BYE ends both."""
    await stage.telnyx_number()
    call = await stage.telnyx.call(TELNYX_DID)
    assert call.leg is not None
    (live,) = await recorded(stage)
    begun = await stage.tenant.request("POST", f"/calls/{live['id']}/transfer", {"target": CALLEE}, status=202)
    assert begun["method"] == "bridge"
    out = await dialled(stage)
    assert out.media is not None
    await out.acknowledged.wait()
    call.media.packets.clear()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(out.media.play(tone(500, 1.5)))
        tasks.create_task(call.media.play(tone(900, 1.5)))
        await call.media.expect_tone(500, 0.4)
        await out.media.expect_tone(900, 0.4)
    await call.hang_up()
    async with asyncio.timeout(5):
        await out.ended.wait()
    records = await stage.tenant.records(2)
    assert {record["direction"] for record in records} == {"inbound", "outbound"}
    assert {record["end_reason"] for record in records} == {"caller_hung_up"}


async def test_premium_numbers_are_refused_and_nothing_is_dialled(stage: Stage) -> None:
    await stage.telnyx_number()
    agent = await agent_of(stage)
    error = await place(stage.tenant, agent, status=403, phone_number="+19005551234")
    assert (error["code"], error["details"]["reason"]) == ("destination_refused", "premium_rate")
    assert await stage.counted("outgoing_calls_refused", reason="premium_rate") == 1
    assert stage.telnyx.outbound == []


@pytest.mark.realtime
async def test_twilio_places_the_call_and_its_leg_is_answered_with_the_agent_warm(stage: Stage) -> None:
    """``calls.create``; the callee answers; Twilio dials us with the pass of its TwiML, and the agent is there."""
    await stage.twilio_number()
    placed = await place(stage.tenant, await agent_of(stage))
    asked = await asked_for(stage)
    assert (asked.to, asked.from_) == (CALLEE, TWILIO_DID)
    call = await stage.twilio.placed(asked)
    assert call.answered, call.error or call.status
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(call.media.play(tone(700, 1.5)))
        await call.media.expect_tone(700, 0.4)
    assert call.leg is not None
    await call.leg.hang_up()
    (record,) = await stage.tenant.records()
    assert (record["id"], record["direction"], record["end_reason"]) == (placed["id"], "outbound", "callee_hung_up")
    assert record["carrier_ids"]["CallSid"] == asked.sid


async def test_a_busy_callee_of_twilios_is_told_by_its_signed_callback(stage: Stage) -> None:
    await stage.twilio_number()
    await place(stage.tenant, await agent_of(stage))
    asked = await asked_for(stage)
    assert (await stage.twilio.tell(asked, "busy", signature="forged")).status == 403
    assert (await stage.twilio.tell(asked, "ringing")).status == 200
    assert (await stage.twilio.tell(asked, "busy")).status == 200
    (record,) = await stage.tenant.records()
    assert record["end_reason"] == "callee_busy"


async def test_a_twilio_caller_is_moved_by_a_rest_update_of_its_call(stage: Stage) -> None:
    """This Twilio answers REFER with 405, so that the update is next."""
    await stage.twilio_number()
    call = await stage.twilio.call(TWILIO_DID)
    assert call.answered
    stage.twilio_rest.adopt(call.sid, call.account_sid, call.called, call.caller)
    (live,) = await recorded(stage)
    begun = await stage.tenant.request("POST", f"/calls/{live['id']}/transfer", {"target": CALLEE}, status=202)
    assert begun["method"] == "refer"
    await call.until_ended()
    (updated,) = [each for each in stage.twilio_rest.calls.values() if each.updates]
    noun = ElementTree.fromstring(updated.updates[0]["Twiml"]).find("Dial/Number")
    assert noun is not None
    assert noun.text == CALLEE
    for status in ("in-progress", "completed"):
        await stage.twilio.tell_onward(call, noun, status)
    records = await stage.tenant.records(2)
    assert {record["end_reason"] for record in records} == {"transferred", "transferred_call_ended"}


async def test_a_twilio_caller_is_moved_by_refer_and_its_signed_refer_url(stage: Stage) -> None:
    """One use, for the one target that was authorised, whatever the REFER says."""
    await stage.twilio_number()
    call = await stage.twilio.call(TWILIO_DID)
    assert call.leg is not None

    async def refer(request: object) -> None:
        await stage.twilio.refer(call)

    call.leg.on_refer = refer
    (live,) = await recorded(stage)
    await stage.tenant.request("POST", f"/calls/{live['id']}/transfer", {"target": CALLEE}, status=202)
    await call.leg.ended.wait()
    (noun,) = call.moved_to
    assert noun.text == CALLEE
    await stage.twilio.tell_onward(call, noun, "completed")
    records = {record["direction"]: record for record in await stage.tenant.records(2)}
    assert records["outbound"]["end_reason"] == "transferred_call_ended"
    assert records["outbound"]["answered_at"]
    detail = await stage.tenant.request("GET", f"/calls/{records['inbound']['id']}")
    assert any(entry["event"].startswith("transferred") for entry in detail["timeline"])
    await stage.twilio.refer(call)
    assert call.moved_to == [], "a second question gets no target"
    await asyncio.gather(*call.leg.playing)


@pytest.mark.parametrize("status", [200, 486])
async def test_a_telnyx_caller_is_referred_and_the_outcome_is_the_notifys(
    status: int, tmp_path: Path, keyring: Keyring
) -> None:
    """Trouble elsewhere: REFER "done" at 202; each NOTIFY is answered 200."""
    settings = Settings(providers={"telnyx_transfer": "refer"})
    async with Stage.open(tmp_path, keyring, settings) as stage:
        await stage.telnyx_number()
        call = await stage.telnyx.call(TELNYX_DID)
        leg = call.leg
        assert leg is not None
        answers: list[int] = []

        async def refer(request: object) -> None:
            answers.append(await leg.notify(100, "Trying"))
            answers.append(await leg.notify(status, "Final", terminated=True))

        async def told() -> bool:
            return len(answers) == 2

        leg.on_refer = refer
        (live,) = await recorded(stage)
        path = f"/calls/{live['id']}"
        await stage.tenant.request("POST", f"{path}/transfer", {"target": CALLEE}, status=202)
        if status == 200:
            await call.until_ended()
        else:
            await stage.edge.until(told, lambda: f"two NOTIFYs answered; there are {answers}", 5.0)
            assert not leg.ended.is_set(), "the caller is still with the agent"
            await call.hang_up()
        (record,) = await stage.tenant.records()
        assert record["end_reason"] == ("transferred" if status == 200 else "caller_hung_up")
        assert answers == [200, 200]
        assert leg.referred[0].get("refer-to") == f"<sip:{CALLEE}@sip.telnyx.com>"
