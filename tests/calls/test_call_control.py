"""A live call from outside: digits, recordings, marks, instructions; and a number that no agent answers for."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from tests.media.agents.server import serve
from tests.support.audio import level_dbfs
from tests.support.edge import API, DID, Edge
from tests.support.phone import Phone
from tests.support.ports import free_port
from tests.support.process import needs, running


@pytest.mark.realtime
async def test_a_live_call_is_played_to_pressed_for_marked_and_ended(edge: Edge) -> None:
    """The control API's verbs, one after the other, on one call."""
    async with serve() as agent, Phone.open(edge.listeners["udp"]) as phone:
        await edge.add_agent_at(agent.url, answer_after_s=0)
        call = await phone.call(DID)
        await call.establish()
        live = await edge.expect_live_call()
        path = f"/calls/{live['id']}"
        await edge.request("POST", f"{path}/digits", {"digits": "1w#"})
        await call.media.wait_until(lambda: call.media.digits() == "1#", "both digits")
        await edge.request("POST", f"{path}/play", {"recording": "unavailable"})
        await edge.request("POST", f"{path}/marks", {"name": "end"})
        await call.media.wait_until(lambda: level_dbfs(call.media.audio()[-4000:]) > -40, "the recording")
        await edge.request("POST", f"{path}/clear")
        form = {"Twiml": '<Response><Play digits="9"/><Pause length="1"/><Hangup/></Response>'}
        account = edge.account_id
        async with httpx.AsyncClient(base_url=edge.url, auth=(account, edge.key)) as twilio:
            answer = await twilio.post(f"/2010-04-01/Accounts/{account}/Calls/{live['sid']}.json", data=form)
            assert answer.json()["status"] == "in-progress"
        await call.media.wait_until(lambda: call.media.digits() == "1#9", "the digit of the instructions")
        await call.expect_request("BYE")
    [record] = await edge.expect_records(1)
    assert record["end_reason"] == "agent_hung_up"
    timeline = [entry["event"] for entry in record["timeline"]]
    said = [event for event in timeline if event.startswith(("digits_sent", "played", "mark", "cleared"))]
    assert said[:3] == ["digits_sent: 2", "played: unavailable", "mark: end"]
    assert sorted(said[3:5]) == ["cleared", "mark_cleared: end"]  # media tells of the mark by itself
    assert said[5:] == ["digits_sent: 1"]


HOWTO = Path(__file__).parents[2] / "docs" / "howto" / "call-control.md"


@needs("curl")
async def test_the_howtos_commands_are_taken_as_they_stand(edge: Edge) -> None:
    """All but the transfer, which needs somebody to transfer to."""
    commands = [
        line for block in re.findall(r"```sh\n(.*?)```", HOWTO.read_text(), re.DOTALL) for line in block.splitlines()
    ]
    async with serve() as agent, Phone.open(edge.listeners["udp"]) as phone:
        await edge.add_agent_at(agent.url, answer_after_s=0)
        call = await phone.call(DID)
        await call.establish()
        live = await edge.expect_live_call()
        sid = (await edge.request("GET", "/account"))["sid"]
        names = {"API": edge.url + API, "EDGE": edge.url, "KEY": edge.key, "CALL_ID": live["id"]}
        names |= {"ACCOUNT_SID": sid, "CALL_SID": live["sid"]}
        script = "\n".join(
            [
                *(f"{name}='{value}'" for name, value in names.items()),
                *(
                    line.replace("curl ", "curl -sS -o /dev/null -w '%{http_code} ' ")
                    for line in commands
                    if not any(word in line for word in ("<Dial>", "/hangup", "/hold", "/resume"))
                ),
            ]
        )
        async with running("/bin/sh", "-c", script, name="the howto") as program:
            assert await program.wait(20.0) == 0
            assert " ".join(program.lines).split() == ["200"] * 6
        await call.expect_request("BYE")
    await edge.expect_records(1)


@pytest.mark.realtime
async def test_a_caller_whom_no_agent_answers_hears_the_numbers_message(edge: Edge) -> None:
    """Nobody listens at the agent's address: the call is answered, the recording played, the call ended."""
    number = await edge.add_agent_at(f"ws://127.0.0.1:{free_port()}/")
    await edge.request("PATCH", f"/telephony/numbers/{number}", {"fallback": {"message": "digit-0"}})
    async with Phone.open(edge.listeners["udp"]) as phone:
        call = await phone.call(DID)
        await call.establish()
        await call.expect_request("BYE")
        assert level_dbfs(call.media.audio()) > -40
    [record] = await edge.expect_records(1)
    assert (record["ended_by"], record["end_reason"]) == ("edge", "fallback_message")
    timeline = [entry["event"] for entry in record["timeline"]]
    assert "fallback: message digit-0, for agent_refused" in timeline
