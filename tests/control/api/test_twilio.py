"""Hanging up as Twilio's REST API does it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from control.instructions import Dial, Digits
from control.registry.types import CallEvent
from control.resources.ids import call_sid
from media.messages import Failed
from tests.support.desk import Desk, live_one, offered

CALL = "0198c0de-0000-4000-8000-000000000011"


def path_of(desk: Desk, account: str = "acme", call: str = CALL) -> str:
    """As an agent builds it from ``start.accountSid`` and ``start.callSid``."""
    return f"/2010-04-01/Accounts/{desk.accounts[account].sid}/Calls/{call_sid(call)}.json"


async def asked(
    desk: Desk,
    path: str | None = None,
    *,
    user: str | None = None,
    key: str = "acme",
    form: Any = None,
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    """The request, with whatever is wrong about it."""
    credentials = (user if user is not None else desk.accounts["acme"].sid, desk.keys.get(key, key))
    async with desk.client() as client:
        return await client.post(
            path or path_of(desk),
            auth=credentials,
            data=form if form is not None else {"Status": "completed"},
            headers=headers,
        )


@pytest.fixture
async def desk() -> Desk:
    """With a live call of acme's."""
    desk = await Desk().furnish()
    desk.calls.up[CALL] = live_one(CALL, desk.accounts["acme"].id)
    return desk


def assert_refused(answer: httpx.Response, status: int, code: int) -> None:
    """Twilio's shape, which its libraries read; nothing of ours around it."""
    assert answer.status_code == status
    body = answer.json()
    assert set(body) == {"code", "message", "more_info", "status"}
    assert (body["code"], body["status"]) == (code, status)


async def test_status_completed_ends_the_call(desk: Desk) -> None:
    """The record will say that the agent ended it."""
    answer = await asked(desk)
    assert answer.status_code == 200
    assert answer.json() == {
        "sid": call_sid(CALL),
        "account_sid": desk.accounts["acme"].sid,
        "status": "completed",
        "api_version": "2010-04-01",
        "uri": path_of(desk),
    }
    assert desk.calls.ended == [(CALL, "agent")]


async def test_ids_work_in_both_shapes(desk: Desk) -> None:
    """UUIDs in the path and as the user."""
    account = desk.accounts["acme"].id
    answer = await asked(desk, f"/2010-04-01/Accounts/{account}/Calls/{CALL}.json", user=account)
    assert answer.status_code == 200
    assert answer.json()["uri"] == path_of(desk)


async def test_ending_a_call_twice_is_no_error(desk: Desk) -> None:
    """It is told how the call ended; where the record is a moment behind, that it did."""
    account_id = desk.accounts["acme"].id
    ended = {"ended_by": "caller", "end_reason": "caller_hung_up"}
    assert (await asked(desk)).json()["status"] == "completed"
    await desk.registry.apply_events([offered(CALL, account_id)])
    assert (await asked(desk)).json()["status"] == "completed"
    await desk.registry.apply_events([CallEvent(id="2", kind="ended", at=1.0, call_id=CALL, offset_s=1.0, data=ended)])
    assert (await asked(desk)).json()["status"] == "failed"
    assert len(desk.calls.ended) == 1


async def test_a_call_that_is_not_there_is_20404(desk: Desk) -> None:
    """What pipecat takes for "already ended"."""
    other = "0198c0de-0000-4000-8000-00000000dead"
    for call in (other, "CA" + "z" * 32, "x"):
        path = f"/2010-04-01/Accounts/{desk.accounts['acme'].sid}/Calls/{call}.json"
        assert_refused(await asked(desk, path), 404, 20404)


async def test_only_the_account_s_own_calls_end(desk: Desk) -> None:
    """With its own path and key, another account finds nothing."""
    answer = await asked(desk, path_of(desk, "globex"), user=desk.accounts["globex"].sid, key="globex")
    assert_refused(answer, 404, 20404)
    assert CALL in desk.calls.up


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": "globex"},
        {"key": "truedy_" + "0" * 43},
        {"key": ""},
        {"user": ""},
        {"user": "acme"},
        {"user": "AC" + "0" * 32},
        {"user": "CA" + "0" * 32},
    ],
)
async def test_user_key_and_path_have_to_agree(desk: Desk, wrong: dict[str, str]) -> None:
    """401 20003, and the call goes on."""
    answer = await asked(desk, **wrong)
    assert_refused(answer, 401, 20003)
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    assert CALL in desk.calls.up


async def test_another_account_in_the_path_is_401(desk: Desk) -> None:
    """Its calls are not even looked for."""
    assert_refused(await asked(desk, path_of(desk, "globex")), 401, 20003)


async def test_without_credentials_it_is_401(desk: Desk) -> None:
    """A bearer key is no basic one."""
    async with desk.client("acme") as client:
        assert_refused(await client.post(path_of(desk), data={"Status": "completed"}), 401, 20003)


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"Status": "canceled"},
        {"Status": "Completed"},
        {"Status": ["completed", "completed"]},
        {"status": "completed"},
        {"Twiml": "<Response/>"},
        {"Url": "https://example.com"},
        {str(n): "x" for n in range(50)},
    ],
)
async def test_anything_but_completed_is_400(desk: Desk, form: dict[str, Any]) -> None:
    """There is no TwiML here to redirect to."""
    assert_refused(await asked(desk, form=form), 400, 20001)
    assert CALL in desk.calls.up


async def test_parameters_in_the_query_are_refused_not_ignored(desk: Desk) -> None:
    """In Twilio's shape, the parameter named."""
    answer = await asked(desk, path_of(desk) + "?Status=canceled")
    assert_refused(answer, 400, 20001)
    assert answer.json()["message"] == "Status: unknown parameter; this path takes none"
    assert CALL in desk.calls.up


@pytest.mark.parametrize("content", [b"", b"\xff", b"&", b"=", b'{"Status": "completed"}', b"Status", b"%"])
async def test_a_body_that_is_no_form_is_400(desk: Desk, content: bytes) -> None:
    """Never 500."""
    async with desk.client() as client:
        answer = await client.post(path_of(desk), content=content, auth=(desk.accounts["acme"].sid, desk.keys["acme"]))
    assert_refused(answer, 400, 20001)


async def test_a_large_body_is_413(desk: Desk) -> None:
    """In Twilio's shape too."""
    assert_refused(await asked(desk, form={"Status": "x" * 70_000}), 413, 20001)


async def test_another_method_is_405(desk: Desk) -> None:
    """Reading a call is not offered here."""
    async with desk.client() as client:
        answer = await client.get(path_of(desk))
    assert_refused(answer, 405, 20004)
    assert answer.headers["Allow"] == "POST"


async def test_bad_keys_are_limited_here_too(desk: Desk) -> None:
    """429 20429 after twenty."""
    answers = [await asked(desk, key="truedy_" + "0" * 43) for _ in range(21)]
    assert_refused(answers[-1], 429, 20429)
    assert "Retry-After" in answers[-1].headers


# --- TwiML for a live call --------------------------------------------------------------------------


async def test_twiml_is_carried_out_on_the_live_call(desk: Desk) -> None:
    """As an agent transfers its caller through Twilio's library."""
    text = '<Response><Play digits="1"/><Dial><Number>+14155550123</Number></Dial></Response>'
    answer = await asked(desk, form={"Twiml": text})
    assert (answer.status_code, answer.json()["status"]) == (200, "in-progress")
    assert desk.calls.performed == [Digits("1"), Dial("+14155550123")]
    assert desk.calls.ended == []


async def test_twiml_that_is_not_taken_is_refused_and_said_why(desk: Desk) -> None:
    answer = await asked(desk, form={"Twiml": "<Response><Say>Hello</Say></Response>"})
    assert_refused(answer, 400, 20001)
    assert answer.json()["message"] == "Twiml: <Say> is not taken: Dial, Hangup, Pause and Play digits are"
    assert desk.calls.performed == []


async def test_a_call_that_is_not_up_takes_no_twiml(desk: Desk) -> None:
    """Twilio's 21220."""
    form = {"Twiml": "<Response><Hangup/></Response>"}
    desk.calls.result = Failed(code="not_established", message="the call is ringing")
    assert_refused(await asked(desk, form=form), 400, 21220)
    desk.calls.up.clear()
    await desk.registry.apply_events([offered(CALL, desk.accounts["acme"].id)])
    assert_refused(await asked(desk, form=form), 400, 21220)
    assert_refused(await asked(desk, path_of(desk, call="0198c0de-0000-4000-8000-00000000dead"), form=form), 404, 20404)


@pytest.mark.parametrize(
    "form",
    [
        {"Twiml": "<Response><Hangup/></Response>", "Status": "completed"},
        {"Twiml": ["<Response><Hangup/></Response>"] * 2},
        {"Url": "https://example.com/twiml"},
        {"Status": "canceled"},
    ],
)
async def test_other_changes_of_a_call_are_400(desk: Desk, form: Any) -> None:
    assert_refused(await asked(desk, form=form), 400, 20001)
    assert (desk.calls.ended, desk.calls.performed) == ([], [])
