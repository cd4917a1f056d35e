"""kill -9 in mid-call: the registry stays whole, each cut call has one record, and calls go on after the restart."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.audio import tone
from tests.support.edge import DID, Edge, Keyring, Settings
from tests.support.phone import Call, Phone


async def put_up(phone: Phone, count: int) -> list[Call]:
    """Established calls that hear themselves."""
    calls = []
    for _ in range(count):
        call = await phone.call(DID)
        await call.establish()
        await call.media.play(tone(500, 0.1))
        await call.media.expect_packets(1)
        calls.append(call)
    return calls


def registry_rows(path: Path) -> dict[str, int]:
    """Rows by table of a registry that nobody has open; it has to be sound."""
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
        tables = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
        return {table: database.execute(f'select count(*) from "{table}"').fetchone()[0] for table in tables}


async def test_each_cut_call_has_one_record_and_the_edge_serves_again(tmp_path: Path, keyring: Keyring) -> None:
    """Three calls up, one over; after the restart an old BYE is answered 481 (RFC 3261 §15.1.2)."""
    folder = tmp_path / "edge"
    settings = Settings()
    async with Edge.open(folder, keyring, settings, checked=False) as first:
        await first.add_echo()
        async with Phone.open(first.listeners["udp"]) as phone:
            [over] = await put_up(phone, 1)
            await over.bye()
            await first.expect_records(1)
            cut = await put_up(phone, 3)
            await first.kill()
    listener = "{}:{}".format(*first.listeners["udp"])
    again = Settings(listen=(f"udp:{listener}",))
    async with Edge.open(folder, keyring, again) as second:
        records = await second.expect_records(4, timeout_s=3.0)
        reasons = {record["sip_call_id"]: record["end_reason"] for record in records}
        assert reasons == {over.call_id: "caller_hung_up"} | {call.call_id: "crash" for call in cut}
        async with Phone.open(second.listeners["udp"]) as phone:
            stale = phone.request("BYE", cut[0].target)
            assert (await phone.ask(stale)).status == 481
            [fresh] = await put_up(phone, 1)
            await fresh.bye()
        await second.expect_records(5)
    assert registry_rows(folder / "registry.db")["calls"] == 5


@pytest.mark.slow
async def test_twenty_crashes_lose_and_double_nothing(tmp_path: Path, keyring: Keyring) -> None:
    """Killed at whatever moment: in the middle of setting calls up, of ending them, of replaying the journal."""
    folder = tmp_path / "edge"
    established: set[str] = set()
    for number in range(20):
        async with Edge.open(folder, keyring, checked=False, executed=True) as edge:
            if number == 0:
                await edge.add_echo()
            async with Phone.open(edge.listeners["udp"]) as phone:
                calls = [await phone.call(DID) for _ in range(10)]
                ringing = asyncio.gather(*(call.establish() for call in calls), return_exceptions=True)
                await asyncio.wait([ringing], timeout=0.005 * number)
                await edge.kill()
                ringing.cancel()
                await asyncio.gather(ringing, return_exceptions=True)
                established |= {call.call_id for call in calls if call.answer is not None}
    async with Edge.open(folder, keyring) as edge:

        async def all_ended() -> bool:
            return all(record["ended_at"] for record in await edge.calls())

        await edge.until(all_ended, lambda: "every record ended", 10.0)
        records = await edge.calls()
        ids = [record["sip_call_id"] for record in records]
        assert len(ids) == len(set(ids))
        assert established <= set(ids)
        assert {record["end_reason"] for record in records} <= {"crash"}
    registry_rows(folder / "registry.db")
