"""The number's life as its page tells it, with the page's own commands: import, assign, be called, remove."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.support.edge import API, DID, Edge
from tests.support.phone import Phone
from tests.support.process import needs, running

pytestmark = needs("curl")


async def curl(edge: Edge, method: str, path: str, body: object = None, *, key: str | None = None) -> tuple[int, Any]:
    """``curl -X METHOD …`` as on the page; the status and the JSON that came back."""
    command = ["curl", "-sS", "-X", method, f"{edge.url}{API}{path}", "-w", "\n%{http_code}"]
    command += ["-H", f"Authorization: Bearer {key or edge.key}", "-H", "Content-Type: application/json"]
    if body is not None:
        command += ["-d", json.dumps(body)]
    async with running(*command, name="curl") as program:
        if await program.wait(10.0) != 0:
            raise program.failure("failed")
        *text, status = program.lines
    return int(status), json.loads("\n".join(text))


async def status_of_a_call(edge: Edge) -> int:
    """What an INVITE to the number comes to; a call that is taken is hung up."""
    async with Phone.open(edge.listeners["udp"]) as phone:
        call = await phone.call(DID)
        await call.invite()
        answer = await call.expect(200, 404)
        if answer.status == 200:
            await call.ack()
            await call.bye()
        return answer.status


async def test_a_number_is_imported_assigned_called_unassigned_and_removed(edge: Edge) -> None:
    """Each step shows in what a caller gets: 404 until the number has an agent, and after it was removed."""
    agent = {"name": "Front desk", "pipeline": {"protocol": "builtin", "name": "echo"}}
    status, answer = await curl(edge, "POST", "/agents", agent)
    assert status == 201
    agent_id = answer["data"]["id"]

    body = {"phone_number": DID, "provider": "sip", "provider_trunk": "lab"}
    status, answer = await curl(edge, "POST", "/telephony/numbers/import", body)
    assert (status, answer["data"]["phone_number"], answer["data"]["agent_id"]) == (201, DID, None)
    assert set(answer["meta"]) == {"request_id", "ts"}
    number_id = answer["data"]["id"]
    assert await status_of_a_call(edge) == 404

    status, answer = await curl(edge, "PATCH", f"/telephony/numbers/{number_id}", {"agent_id": agent_id})
    assert (status, answer["data"]["agent_id"]) == (200, agent_id)
    assert await status_of_a_call(edge) == 200

    status, answer = await curl(edge, "GET", "/telephony/numbers")
    assert (status, [number["id"] for number in answer["data"]]) == (200, [number_id])

    status, answer = await curl(edge, "DELETE", f"/telephony/numbers/{number_id}")
    assert (status, answer["data"]) == (200, {"id": number_id, "phone_number": DID, "released": True})
    assert (await curl(edge, "DELETE", f"/telephony/numbers/{number_id}"))[0] == 404
    assert await status_of_a_call(edge) == 404


async def test_the_second_import_of_a_number_loses_even_at_the_same_moment(edge: Edge) -> None:
    """409 ``number_already_imported``, whichever way the number was typed."""
    bodies = [
        {"phone_number": typed, "provider": "sip", "provider_trunk": "lab"}
        for typed in (DID, "+1 415 555 0100", "+1 (415) 555-0100", DID)
    ]
    answers = await asyncio.gather(*(curl(edge, "POST", "/telephony/numbers/import", body) for body in bodies))
    assert sorted(status for status, _ in answers) == [201, 409, 409, 409]
    codes = {answer["error"]["code"] for status, answer in answers if status == 409}
    assert codes == {"number_already_imported"}


async def test_a_live_call_is_hung_up_through_the_api(edge: Edge) -> None:
    """The caller gets one BYE, with the headers it is to have; the record names the operator; again is a conflict."""
    await edge.add_echo()
    async with Phone.open(edge.listeners["udp"]) as phone:
        call = await phone.call(DID)
        await call.establish()
        live = await edge.expect_live_call()
        headers = {"X-Result": "sold", "Route": "<sip:192.0.2.1;lr>", "X-Truedy-Token": "t"}
        status, _ = await curl(edge, "POST", f"/calls/{live['id']}/hangup", {"headers": headers})
        assert status == 200
        bye = await call.expect_request("BYE")
        assert (bye.get("x-result"), bye.get("route"), bye.get("x-truedy-token")) == ("sold", "", "")
        [record] = await edge.expect_records(1)
        assert (record["ended_by"], record["end_reason"]) == ("operator", "operator_hung_up")
        assert (await curl(edge, "POST", f"/calls/{live['id']}/hangup"))[0] == 409
        assert call.byes == 1


async def test_a_number_removed_in_mid_call_lets_the_call_finish(edge: Edge) -> None:
    """New calls are refused; the one that is up goes on to its end."""
    number_id = await edge.add_echo()
    async with Phone.open(edge.listeners["udp"]) as phone:
        call = await phone.call(DID)
        await call.establish()
        assert (await curl(edge, "DELETE", f"/telephony/numbers/{number_id}"))[0] == 200
        assert await status_of_a_call(edge) == 404
        assert (await call.bye()).status == 200
    assert call.byes == 0


async def test_another_providers_name_is_refused_with_the_pages_words(edge: Edge) -> None:
    """422, and what to do about it."""
    status, answer = await curl(edge, "POST", "/telephony/numbers/import", {"phone_number": DID, "provider": "vonage"})
    assert (status, answer["error"]["code"]) == (422, "provider_not_supported")
    assert "not officially tested or supported" in answer["error"]["message"]


async def test_without_a_key_nothing_is_told(edge: Edge) -> None:
    """401 for each path, whether what it names exists or not."""
    for method, path in (
        ("GET", "/calls"),
        ("GET", "/agents"),
        ("POST", "/telephony/numbers/import"),
        ("DELETE", "/telephony/numbers/4c1d5a3e-0000-4000-8000-000000000000"),
    ):
        status, answer = await curl(edge, method, path, {}, key="truedy_nobody")
        assert (status, answer["error"]["code"]) == (401, "unauthorized"), path
