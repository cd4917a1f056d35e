"""Calls: their records, and ending one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from control.hold import HoldOutcome
from control.registry.types import Agent, CallEvent, Number
from control.resources.ids import call_sid
from media.messages import (
    Clear,
    Command,
    Conversation,
    Failed,
    LegStatistics,
    Play,
    RecordingOrder,
    SendDigits,
    SetMark,
    Stretches,
)
from media.recording_file import Count, SealedWriter, Trailer
from tests.support.desk import BASE, Desk, live_one, offered

CALLS = f"{BASE}/calls"
FIRST = "0198c0de-0000-4000-8000-000000000011"
SECOND = "0198c0de-0000-4000-8000-000000000012"
NUMBER = "0198c0de-0000-4000-8000-000000000001"


async def recorded(desk: Desk, account: str = "acme") -> None:
    """One finished call and one that rings."""
    account_id = desk.accounts[account].id
    ended = {"ended_by": "caller", "end_reason": "caller_hung_up", "statistics": {"packets_received": 500}}
    await desk.registry.apply_events(
        [
            offered(FIRST, account_id, desk.wall(), number_id=NUMBER, sip_call_id="a@b"),
            CallEvent(id="2", kind="answered", at=desk.wall() + 1, call_id=FIRST, offset_s=1.0),
            CallEvent(id="3", kind="ended", at=desk.wall() + 11, call_id=FIRST, offset_s=11.0, data=ended),
            offered(SECOND, account_id, desk.wall() + 20),
        ]
    )


async def test_a_record_has_its_timeline_and_statistics(desk: Desk, acme: httpx.AsyncClient) -> None:
    """Times in RFC 3339, durations in seconds."""
    await recorded(desk)
    call = (await acme.get(f"{CALLS}/{FIRST}")).json()["data"]
    timeline = call.pop("timeline")
    assert [entry["at_s"] for entry in timeline] == [0.0, 1.0, 11.0]
    assert [entry["event"].partition(":")[0] for entry in timeline] == ["offered", "answered", "ended"]
    assert call == {
        "id": FIRST,
        "sid": "CA" + FIRST.replace("-", ""),
        "status": "completed",
        "direction": "inbound",
        "trunk": "lab",
        "from_number": "+12025550199",
        "to_number": "+14155550100",
        "number_id": NUMBER,
        "agent_id": None,
        "started_at": "2026-09-21T14:13:20.000Z",
        "answered_at": "2026-09-21T14:13:21.000Z",
        "ended_at": "2026-09-21T14:13:31.000Z",
        "ring_s": 1.0,
        "duration_s": 10.0,
        "sip_status": None,
        "ended_by": "caller",
        "end_reason": "caller_hung_up",
        "sip_call_id": "a@b",
        "carrier_ids": {},
        "statistics": {"packets_received": 500},
        "recording": None,
        "identity": {
            "name": "",
            "asserted": [],
            "verstat": "",
            "privacy": [],
            "hidden": False,
            "diversion": [],
            "history": [],
        },
        "reasons": [],
    }


async def test_calls_are_listed_newest_first_and_filtered(desk: Desk, acme: httpx.AsyncClient) -> None:
    """By status and by number."""
    await recorded(desk)

    async def ids(query: str) -> list[str]:
        body = (await acme.get(CALLS + query)).json()
        assert body["pagination"]["total"] == len(body["data"])
        return [call["id"] for call in body["data"]]

    assert await ids("") == [SECOND, FIRST]
    assert await ids("?status=completed") == [FIRST]
    assert await ids("?status=ringing") == [SECOND]
    assert await ids(f"?number_id={NUMBER}") == [FIRST]
    assert await ids(f"?number_id={NUMBER}&status=ringing") == []
    assert (await acme.get(CALLS + "?status=queued")).status_code == 422
    assert (await acme.get(CALLS + "?number_id=x")).status_code == 422


async def test_a_list_leaves_timeline_and_statistics_to_the_single_call(desk: Desk, acme: httpx.AsyncClient) -> None:
    """A page of 100 stays small."""
    await recorded(desk)
    (call, _) = (await acme.get(CALLS)).json()["data"]
    assert not {"timeline", "statistics"} & set(call)


async def test_a_call_too_young_for_a_record_is_shown_as_it_stands(desk: Desk, acme: httpx.AsyncClient) -> None:
    """The journal is a moment behind; the operator is not told 404 about a phone that rings."""
    account_id = desk.accounts["acme"].id
    desk.calls.up[FIRST] = live_one(FIRST, account_id, age_s=5.0)
    call = (await acme.get(f"{CALLS}/{FIRST}")).json()["data"]
    assert (call["status"], call["started_at"], call["agent_id"]) == ("ringing", "2026-09-21T14:13:15.000Z", None)
    desk.calls.up[FIRST] = live_one(FIRST, account_id, state="established")
    assert (await acme.get(f"{CALLS}/{FIRST}")).json()["data"]["status"] == "in_progress"


async def test_a_live_call_shows_its_statistics_of_the_moment(desk: Desk, acme: httpx.AsyncClient) -> None:
    """Its record gets them when it ends."""
    await recorded(desk)
    live = LegStatistics(codec="PCMU", packets_received=42)
    desk.calls.up[SECOND] = live_one(SECOND, desk.accounts["acme"].id, statistics=live)
    call = (await acme.get(f"{CALLS}/{SECOND}")).json()["data"]
    assert (call["statistics"]["codec"], call["statistics"]["packets_received"]) == ("PCMU", 42)


async def test_numbers_that_are_none_do_not_break_the_answer(desk: Desk, acme: httpx.AsyncClient) -> None:
    """NaN is no JSON: null instead."""
    await recorded(desk)
    live = LegStatistics(jitter_ms=float("nan"), round_trip_ms=float("inf"))
    desk.calls.up[SECOND] = live_one(SECOND, desk.accounts["acme"].id, statistics=live)
    call = (await acme.get(f"{CALLS}/{SECOND}")).json()["data"]
    assert (call["statistics"]["jitter_ms"], call["statistics"]["round_trip_ms"]) == (None, None)


@pytest.mark.parametrize("spelling", [FIRST, "CA" + FIRST.replace("-", "")])
async def test_a_live_call_is_hung_up(desk: Desk, acme: httpx.AsyncClient, spelling: str) -> None:
    """By its id or its CA… form; the record will say: by the operator."""
    desk.calls.up[FIRST] = live_one(FIRST, desk.accounts["acme"].id)
    answer = await acme.post(f"{CALLS}/{spelling}/hangup")
    assert answer.status_code == 200
    assert answer.json()["data"] == {"id": FIRST, "hung_up": True}
    assert desk.calls.ended == [(FIRST, "operator")]


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"X-Result": "sold"}, 200), ({"X-Result": "a\r\nb"}, 422), ({"X Result": "sold"}, 422), ("X-Result", 422)],
)
async def test_headers_go_with_a_hang_up(desk: Desk, acme: httpx.AsyncClient, headers: object, status: int) -> None:
    desk.calls.up[FIRST] = live_one(FIRST, desk.accounts["acme"].id)
    answer = await acme.post(f"{CALLS}/{FIRST}/hangup", json={"headers": headers})
    assert answer.status_code == status, answer.text
    assert desk.calls.parting == (headers if status == 200 else {})


async def test_a_call_that_has_ended_cannot_be_hung_up(desk: Desk, acme: httpx.AsyncClient) -> None:
    """409 ``call_not_live``; one that never was: 404."""
    await recorded(desk)
    ended = await acme.post(f"{CALLS}/{FIRST}/hangup")
    assert ended.status_code == 409
    assert ended.json()["error"]["code"] == "call_not_live"
    assert ended.json()["error"]["details"]["call_id"] == FIRST
    assert (await acme.post(f"{CALLS}/{NUMBER}/hangup")).status_code == 404
    assert (await acme.post(f"{CALLS}/x/hangup")).status_code == 404


async def test_another_account_s_calls_do_not_exist(desk: Desk, globex: httpx.AsyncClient) -> None:
    """Neither to read nor to end, live or recorded."""
    await recorded(desk)
    desk.calls.up[SECOND] = live_one(SECOND, desk.accounts["acme"].id)
    assert (await globex.get(CALLS)).json()["data"] == []
    for id in (FIRST, SECOND):
        assert (await globex.get(f"{CALLS}/{id}")).status_code == 404
        assert (await globex.post(f"{CALLS}/{id}/hangup")).status_code == 404
    assert SECOND in desk.calls.up


# --- recordings -------------------------------------------------------------------------------------


async def kept(desk: Desk, folder: Path, call: str = FIRST) -> bytes:
    """The call's recording, as a recorder leaves it; its audio file."""
    recordings = desk.keep_recordings(folder)
    number = Number("n", desk.accounts["acme"].id, "+1", "+1", "sip", "lab", "active", 0.0, 0.0)
    order = recordings.order(call, Agent("g", number.account_id, "Agent", {}, 0.0, 0.0), number, 0.0)
    assert order is not None
    with Path(order.path + ".rec").open("wb") as file:
        file.write(order.head)
        writer = SealedWriter(order.key, call, file.write)
        writer.append(b"OggS and so on", Count(50, 0, 8000))
        writer.finish(Trailer(complete=True))
    data = {"status": "completed", "format": "ogg", "seconds": 1.0, "gaps_ms": 0, "bytes": 400, "problem": ""}
    await desk.registry.apply_events([CallEvent(id="r", kind="recording", at=0.0, call_id=call, data=data)])
    return b"OggS and so on"


async def test_a_recording_is_read_as_the_file_it_is(desk: Desk, acme: httpx.AsyncClient, tmp_path: Path) -> None:
    """Streamed, decrypted, never cached; and who read it is noted."""
    await recorded(desk)
    audio = await kept(desk, tmp_path)
    answer = await acme.get(f"{CALLS}/{FIRST}/recording")
    assert (answer.status_code, answer.content) == (200, audio)
    assert answer.headers["content-type"] == "audio/ogg"
    assert answer.headers["content-length"] == str(len(audio))
    assert answer.headers["content-disposition"] == f'attachment; filename="call-{FIRST}.ogg"'
    assert answer.headers["cache-control"] == "no-store"
    assert desk.journal[-1].kind == "recording_read"
    assert str(desk.journal[-1].data["note"]).startswith("key ")


async def test_a_calls_record_tells_of_its_recording_in_lists_too(
    desk: Desk, acme: httpx.AsyncClient, tmp_path: Path
) -> None:
    await recorded(desk)
    await kept(desk, tmp_path)
    told = {"status": "completed", "format": "ogg", "seconds": 1.0, "bytes": 400, "gaps_ms": 0, "problem": None}
    assert (await acme.get(f"{CALLS}/{FIRST}")).json()["data"]["recording"] == told
    assert [call["recording"] for call in (await acme.get(CALLS)).json()["data"]] == [None, told]


async def test_another_accounts_recording_does_not_exist(desk: Desk, globex: httpx.AsyncClient, tmp_path: Path) -> None:
    await recorded(desk)
    await kept(desk, tmp_path)
    for method in ("GET", "DELETE"):
        assert (await globex.request(method, f"{CALLS}/{FIRST}/recording")).status_code == 404
    assert list(tmp_path.iterdir())
    assert desk.journal == []


async def test_a_recording_is_deleted_once_and_the_record_stays(
    desk: Desk, acme: httpx.AsyncClient, tmp_path: Path
) -> None:
    await recorded(desk)
    await kept(desk, tmp_path)
    answer = await acme.delete(f"{CALLS}/{FIRST}/recording")
    assert answer.json()["data"] == {"id": FIRST, "deleted": True}
    assert list(tmp_path.iterdir()) == []
    assert (await acme.delete(f"{CALLS}/{FIRST}/recording")).status_code == 404
    assert (await acme.get(f"{CALLS}/{FIRST}/recording")).status_code == 404
    await desk.registry.apply_events(desk.journal)
    record = (await acme.get(f"{CALLS}/{FIRST}")).json()["data"]
    assert record["recording"]["status"] == "deleted"
    assert record["timeline"][-1]["event"].startswith("recording: deleted by key ")


async def test_a_call_that_is_up_keeps_its_recording_to_itself(
    desk: Desk, acme: httpx.AsyncClient, tmp_path: Path
) -> None:
    await recorded(desk)
    await kept(desk, tmp_path)
    order = RecordingOrder(path="", head=b"", key=b"")
    recordings = desk.keep_recordings(tmp_path)
    recordings.begun(FIRST, 0.0, order)
    for method in ("GET", "DELETE"):
        answer = await acme.request(method, f"{CALLS}/{FIRST}/recording")
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "conflict")


async def test_nothing_of_a_damaged_recording_is_sent(
    desk: Desk, acme: httpx.AsyncClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await recorded(desk)
    await kept(desk, tmp_path)
    [file] = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-3])
    answer = await acme.get(f"{CALLS}/{FIRST}/recording")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "recording_damaged")
    assert "a recording is damaged" in caplog.text


async def test_a_recording_whose_key_is_not_configured_any_more_asks_for_it(
    desk: Desk, acme: httpx.AsyncClient, tmp_path: Path
) -> None:
    await recorded(desk)
    await kept(desk, tmp_path)
    desk.keep_recordings(tmp_path, key=bytes([9]) * 32)
    answer = await acme.get(f"{CALLS}/{FIRST}/recording")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "secrets_unavailable")


async def test_a_call_that_was_not_recorded_has_no_recording(desk: Desk, acme: httpx.AsyncClient) -> None:
    await recorded(desk)
    assert (await acme.get(f"{CALLS}/{FIRST}/recording")).status_code == 404


async def test_a_number_is_recorded_as_it_wishes_whatever_its_agent_has(acme: httpx.AsyncClient) -> None:
    body = {"provider": "sip", "provider_trunk": "lab", "phone_number": "+14155550123"}
    number = (await acme.post(f"{BASE}/telephony/numbers/import", json=body)).json()["data"]["id"]
    path = f"{BASE}/telephony/numbers/{number}/recording"
    nothing = dict.fromkeys(("enabled", "format", "consent_tone", "consent_tone_every_s"))
    assert (await acme.get(path)).json()["data"] == nothing
    wish = {"enabled": True, "format": "wav", "consent_tone_every_s": 15.0}
    assert (await acme.put(path, json=wish)).json()["data"] == {**nothing, **wish}
    assert (await acme.get(path)).json()["data"] == {**nothing, **wish}
    assert (await acme.put(path, json={})).json()["data"] == nothing
    for bad in ({"format": "mp3"}, {"enabled": "yes"}, {"consent_tone_every_s": 1}, {"path": "/etc"}):
        assert (await acme.put(path, json=bad)).status_code == 422


# --- calls that go out ------------------------------------------------------------------------


async def test_a_process_that_carries_no_calls_places_none_and_says_so(desk: Desk, acme: httpx.AsyncClient) -> None:
    answer = await acme.post(CALLS, json={"agent_id": FIRST, "phone_number": "+14155550123"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "outbound_unavailable")
    await recorded(desk)
    answer = await acme.post(f"{CALLS}/{FIRST}/transfer", json={"target": "+14155550123"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "call_not_live")
    for id in ("nonsense", "0198c0de-0000-4000-8000-000000000099"):
        answer = await acme.post(f"{CALLS}/{id}/transfer", json={"target": "+14155550123"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


async def test_fields_nobody_knows_are_refused(acme: httpx.AsyncClient) -> None:
    body = {"agent_id": FIRST, "phone_number": "+14155550123", "call_settings": {"max_duration": "soon"}}
    answer = await acme.post(CALLS, json=body)
    assert answer.status_code == 422
    assert answer.json()["error"]["details"]["errors"][0]["field"] == "call_settings.max_duration"


# --- what is asked of a live call -----------------------------------------------------------------


CONTROLS = [
    ("digits", {"digits": "ww12#"}, SendDigits(call=SECOND, digits="ww12#")),
    ("play", {"recording": "unavailable"}, Play(call=SECOND, recording="unavailable")),
    ("play", {"recording": "lost", "interrupt": True}, Play(call=SECOND, recording="lost", interrupt=True)),
    ("clear", None, Clear(call=SECOND)),
    ("marks", {"name": "end of the greeting"}, SetMark(call=SECOND, name="end of the greeting")),
]


@pytest.mark.parametrize(("verb", "body", "command"), CONTROLS)
async def test_a_live_call_does_what_its_account_asks(
    desk: Desk, acme: httpx.AsyncClient, verb: str, body: Any, command: Command
) -> None:
    """By the call's id, or as Twilio's libraries spell it."""
    desk.calls.up[SECOND] = live_one(SECOND, desk.accounts["acme"].id)
    for id in (SECOND, call_sid(SECOND)):
        answer = await acme.post(f"{CALLS}/{id}/{verb}", json=body)
        assert (answer.status_code, answer.json()["data"]) == (200, {"id": SECOND, "done": True})
    assert desk.calls.commands == [command, command]


@pytest.mark.parametrize(("verb", "body"), [control[:2] for control in CONTROLS])
async def test_a_call_that_is_another_accounts_over_or_not_ready_is_left_alone(
    desk: Desk, acme: httpx.AsyncClient, globex: httpx.AsyncClient, verb: str, body: Any
) -> None:
    """404, 409 with the record's end, 409 with the reason."""
    await recorded(desk)
    desk.calls.up[SECOND] = live_one(SECOND, desk.accounts["acme"].id)
    assert (await globex.post(f"{CALLS}/{SECOND}/{verb}", json=body)).status_code == 404
    assert (await acme.post(f"{CALLS}/nonsense/{verb}", json=body)).status_code == 404
    over = await acme.post(f"{CALLS}/{FIRST}/{verb}", json=body)
    assert (over.status_code, over.json()["error"]["code"]) == (409, "call_not_live")
    desk.calls.result = Failed(code="not_established", message="the call is ringing")
    early = await acme.post(f"{CALLS}/{SECOND}/{verb}", json=body)
    assert (early.status_code, early.json()["error"]["code"]) == (409, "call_not_ready")
    assert early.json()["error"]["details"]["reason"] == "not_established"
    assert early.json()["error"]["message"] == "the call is ringing"


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("digits", {"digits": ""}),
        ("digits", {"digits": "12x"}),
        ("digits", {"digits": "1" * 101}),
        ("play", {"recording": "no-such-recording"}),
        ("play", {"recording": "../greeting"}),
        ("play", {"recording": "lost", "interrupt": "yes"}),
        ("marks", {"name": ""}),
        ("marks", {"name": "two\nlines"}),
    ],
)
async def test_what_cannot_be_done_to_any_call_is_422(
    desk: Desk, acme: httpx.AsyncClient, verb: str, body: dict[str, Any]
) -> None:
    desk.calls.up[SECOND] = live_one(SECOND, desk.accounts["acme"].id)
    assert (await acme.post(f"{CALLS}/{SECOND}/{verb}", json=body)).status_code == 422
    assert desk.calls.commands == []


async def test_a_live_call_is_held_and_taken_back(
    desk: Desk, acme: httpx.AsyncClient, globex: httpx.AsyncClient
) -> None:
    await recorded(desk)
    desk.calls.up[SECOND] = live_one(SECOND, desk.accounts["acme"].id)
    for verb in ("hold", "resume"):
        assert (await acme.post(f"{CALLS}/{SECOND}/{verb}")).json()["data"] == {"id": SECOND, "done": True}
        assert (await globex.post(f"{CALLS}/{SECOND}/{verb}")).status_code == 404
        assert (await acme.post(f"{CALLS}/{FIRST}/{verb}")).json()["error"]["code"] == "call_not_live"
    assert desk.calls.held == ["hold", "resume"]
    desk.calls.outcome = HoldOutcome.REFUSED
    refused = await acme.post(f"{CALLS}/{SECOND}/hold")
    assert (refused.status_code, refused.json()["error"]["details"]["reason"]) == (409, "refused")


async def test_a_live_call_shows_how_its_conversation_goes(desk: Desk, acme: httpx.AsyncClient) -> None:
    await recorded(desk)
    statistics = LegStatistics(conversation=Conversation(response=Stretches(count=1, total_ms=800, p50_ms=800)))
    desk.calls.up[SECOND] = live_one(SECOND, desk.accounts["acme"].id, statistics=statistics)
    shown = (await acme.get(f"{CALLS}/{SECOND}")).json()["data"]["statistics"]["conversation"]
    assert shown["response"] == {"count": 1, "total_ms": 800, "p50_ms": 800, "p95_ms": None, "max_ms": None}
