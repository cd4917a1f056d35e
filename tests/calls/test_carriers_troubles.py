"""What goes wrong between the edge and a carrier, whichever it is: its API, the network, the carrier itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.support.audio import tone
from tests.support.carriers.misbehaviour import Cut, Fails, Garbage, Misbehaviour, NotJson, Slow, WrongShape
from tests.support.carriers.sip import Border
from tests.support.carriers.stage import TELNYX_DID, TWILIO_DID, WEBHOOK, Stage
from tests.support.carriers.telnyx import TelnyxCall
from tests.support.carriers.twilio import InboundCall
from tests.support.edge import Keyring, Settings
from tests.support.lossy import Impairment

Carrier = Literal["twilio", "telnyx"]

CALLER_HZ = 1000
FAST = Settings(sip={"t1_s": 0.1}, media={"port_rest_s": 0.1})
MISBEHAVIOURS: list[tuple[Misbehaviour | None, str]] = [
    (Slow(), "timeout"),
    (Fails(500), "unreachable"),
    (Fails(429), "rate_limited"),
    (NotJson(), "answer"),
    (WrongShape([]), "answer"),
    (Cut(), "answer"),
    (Garbage(), "answer"),
    (None, "unreachable"),
]
"""None: nothing listens."""

ONE_RUNS_ALWAYS = pytest.mark.parametrize("carrier", ["twilio", pytest.param("telnyx", marks=pytest.mark.slow)])


def border_of(stage: Stage, carrier: Carrier) -> Border:
    """Its proxies and gateways."""
    return stage.twilio.border if carrier == "twilio" else stage.telnyx.border


async def call_from(stage: Stage, carrier: Carrier) -> InboundCall | TelnyxCall:
    """Somebody calls the number."""
    if carrier == "twilio":
        return await stage.twilio.call(TWILIO_DID)
    return await stage.telnyx.call(TELNYX_DID)


async def number_of(stage: Stage, carrier: Carrier) -> None:
    """Import the number and give it the agent."""
    await (stage.twilio_number() if carrier == "twilio" else stage.telnyx_number())


async def import_of(stage: Stage, carrier: Carrier) -> Callable[..., Awaitable[dict[str, Any]]]:
    """The import of a number that is there to be imported."""
    if carrier == "twilio":
        stage.twilio_rest.add_number(stage.tenant.twilio, TWILIO_DID, voice_url=WEBHOOK)
        await stage.tenant.save_twilio()
        return stage.tenant.import_twilio
    connection = stage.telnyx_connection()
    stage.telnyx_rest.add_number(stage.tenant.telnyx, TELNYX_DID, connection)
    await stage.tenant.save_telnyx()
    return partial(stage.tenant.import_telnyx, connection)


@pytest.mark.parametrize("carrier", ["twilio", "telnyx"])
async def test_an_import_while_the_carriers_api_misbehaves_says_so_and_leaves_nothing(
    tmp_path: Path, keyring: Keyring, carrier: Carrier
) -> None:
    """422 with the check, within the time set, however it misbehaves; the same import works when all is well again."""
    settings = Settings(providers={"request_timeout_s": 0.8})
    async with Stage.open(tmp_path / "edge", keyring, settings) as stage:
        rest = stage.twilio_rest if carrier == "twilio" else stage.telnyx_rest
        import_number = await import_of(stage, carrier)
        tasks = (await stage.edge.metrics())["truedy_tasks"]
        for how, check in MISBEHAVIOURS:
            if how is None:
                await rest.down()
            else:
                rest.misbehave(how)
            async with asyncio.timeout(3):
                error = await import_number(status=422)
            rest.behave()
            assert (error["code"], error["details"]["check"]) == ("provider_verification_failed", check), how
        await rest.up()
        assert await stage.tenant.request("GET", "/telephony/numbers") == []
        assert await stage.counted("api_requests", route="/api/public/v1/telephony/numbers/import", status="422") == 8
        await stage.edge.expect_metrics({"truedy_tasks": tasks, 'truedy_registrations{state="registered"}': 0.0})
        assert border_of(stage, carrier).passed == []
        await stage.tenant.assign(await import_number())
        if carrier == "telnyx":
            await stage.edge.expect_metrics({'truedy_registrations{state="registered"}': 1.0})
        call = await call_from(stage, carrier)
        assert call.answered, call
        await call.hang_up()


@ONE_RUNS_ALWAYS
async def test_calls_over_a_network_that_loses_packets_leave_one_record_each(
    tmp_path: Path, keyring: Keyring, carrier: Carrier
) -> None:
    """A fifth of all datagrams lost, each way; both sides repeat (RFC 3261 §17). Nothing lingers."""
    async with Stage.open(tmp_path / "edge", keyring, FAST) as stage:
        border = border_of(stage, carrier)
        border.impairment, border.t1_s = Impairment(seed=7, loss=0.2, duplicate=0.05), 0.1
        await number_of(stage, carrier)

        async def short_call() -> InboundCall | TelnyxCall:
            call = await call_from(stage, carrier)
            assert call.answered, call
            await call.hang_up()
            return call

        calls = await asyncio.gather(*(short_call() for _ in range(20)))
        assert border.impairment.lost
        records = await stage.edge.expect_records(20)
        assert {record["sip_call_id"] for record in records} == {call.leg.call_id for call in calls if call.leg}
        assert {record["end_reason"] for record in records} == {"caller_hung_up"}
        await stage.edge.expect_silence(64 * 0.1 + 8)


@ONE_RUNS_ALWAYS
async def test_a_carrier_that_vanishes_in_mid_call_leaves_a_record_and_nothing_else(
    tmp_path: Path, keyring: Keyring, carrier: Carrier
) -> None:
    """No BYE and no media any more: the watchdog ends the call, its BYE is given up after 64·T1."""
    settings = replace(FAST, media={**FAST.media, "silence_timeout_s": 1.0})
    async with Stage.open(tmp_path / "edge", keyring, settings) as stage:
        await number_of(stage, carrier)
        call = await call_from(stage, carrier)
        await call.media.play(tone(CALLER_HZ, 0.3))
        border_of(stage, carrier).down = True
        (record,) = await stage.edge.expect_records(1)
        assert record["end_reason"] == "media_lost"
        await stage.edge.expect_silence(64 * 0.1 + 8)
