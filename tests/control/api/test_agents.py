"""Agents: who answers."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import httpx
import pytest

from config.settings import Agents
from control.agent_spec import agent_spec
from media.hosting.settings import GROUP
from media.messages import OnLost
from tests.support.desk import BASE, Desk

AGENTS = f"{BASE}/agents"
PARROT: dict[str, Any] = {"name": "Parrot", "pipeline": {"protocol": "builtin", "name": "parrot"}}
STREAMS: dict[str, Any] = {"protocol": "twilio-media-streams", "url": "wss://agent.example.com/media?v=1"}


async def made(client: httpx.AsyncClient, pipeline: dict[str, Any] | None = None) -> dict[str, Any]:
    """A new agent."""
    answer = await client.post(AGENTS, json={**PARROT, **({"pipeline": pipeline} if pipeline else {})})
    assert answer.status_code == 201, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


async def test_an_agent_lives_from_creation_to_deletion(acme: httpx.AsyncClient, desk: Desk) -> None:
    """Create, read, list, change, delete; a second deletion is 404."""
    parrot = await made(acme)
    assert parrot == {
        "id": parrot["id"],
        "name": "Parrot",
        "pipeline": {
            "protocol": "builtin",
            "name": "parrot",
            "hold_music": None,
            "sip_headers": None,
            "early_media": None,
        },
        "recording": dict.fromkeys(("enabled", "format", "consent_tone", "consent_tone_every_s")),
        "machine_detection": dict.fromkeys(("enabled", "timeout_s", "beep_timeout_s")),
        "headers": {},
        "signing_secret_set": False,
        "previous_signing_secret_until": None,
        "twilio_auth_token_set": False,
        "created_at": "2026-09-21T14:13:20.000Z",
        "updated_at": "2026-09-21T14:13:20.000Z",
        "warnings": [],
    }
    path = f"{AGENTS}/{parrot['id']}"
    read = {name: value for name, value in parrot.items() if name != "warnings"}
    assert (await acme.get(path)).json()["data"] == read
    assert (await acme.get(AGENTS)).json()["data"] == [read]
    desk.wall.advance(1)
    renamed = (await acme.patch(path, json={"name": " Polly "})).json()["data"]
    assert renamed == {**parrot, "name": "Polly", "updated_at": "2026-09-21T14:13:21.000Z"}
    gone = await acme.delete(path)
    assert gone.json()["data"] == {"id": parrot["id"], "deleted": True}
    assert (await acme.delete(path)).status_code == 404


async def test_a_change_without_fields_changes_nothing(acme: httpx.AsyncClient, desk: Desk) -> None:
    """Not even ``updated_at``."""
    parrot = await made(acme)
    desk.wall.advance(1)
    assert (await acme.patch(f"{AGENTS}/{parrot['id']}", json={})).json()["data"] == parrot


@pytest.mark.parametrize("field", ["name", "pipeline"])
async def test_null_is_no_way_to_leave_a_field_out(acme: httpx.AsyncClient, field: str) -> None:
    """An agent always has both."""
    parrot = await made(acme)
    assert (await acme.patch(f"{AGENTS}/{parrot['id']}", json={field: None})).status_code == 422


async def test_a_websocket_agent_keeps_its_url_as_typed(acme: httpx.AsyncClient) -> None:
    """With parameters; the times are the edge's when absent."""
    pipeline = {**STREAMS, "parameters": {"voice": "línea 1\nlínea 2"}, "answer_after_s": 0, "agent_timeout_s": 5.5}
    assert (await made(acme, pipeline))["pipeline"] == {
        **pipeline,
        "hold_music": None,
        "sip_headers": None,
        "early_media": None,
        "fallback_url": None,
        "on_lost": None,
    }
    assert (await made(acme, STREAMS))["pipeline"] == {
        **STREAMS,
        "hold_music": None,
        "sip_headers": None,
        "early_media": None,
        "parameters": {},
        "answer_after_s": None,
        "agent_timeout_s": None,
        "fallback_url": None,
        "on_lost": None,
    }


@pytest.mark.parametrize(
    "change",
    [
        {"url": "https://agent.example.com/"},
        {"url": "ws://"},
        {"url": "ws:agent.example.com"},
        {"url": "wss://agent.example.com:99999/"},
        {"url": "wss://agent.example.com:0/"},
        {"url": "wss://[::1/"},
        {"url": "wss://user:secret@agent.example.com/"},
        {"url": "wss://agent.example.com/#part"},
        {"url": "wss://agent.example.com/a b"},
        {"url": "wss://agent.example.com/\r\nX: 1"},
        {"url": "wss://ágent.example.com/"},
        {"url": "wss://agent.example.com/" + "x" * 2000},
        {"url": None},
        {"parameters": {"a": 1}},
        {"parameters": {"a": None}},
        {"parameters": {"": "x"}},
        {"parameters": {"a\u0007": "x"}},
        {"parameters": {str(n): "x" for n in range(51)}},
        {"parameters": []},
        {"answer_after_s": -1},
        {"answer_after_s": 31},
        {"answer_after_s": "1"},
        {"answer_after_s": True},
        {"agent_timeout_s": 0},
        {"agent_timeout_s": 61},
        {"protocol": "builtin"},
        {"protocol": "'provider'"},
        {"protocol": None},
        {"surprise": 1},
    ],
)
async def test_a_pipeline_that_cannot_work_is_refused(acme: httpx.AsyncClient, change: dict[str, Any]) -> None:
    """422, and it is the pipeline that is named."""
    answer = await acme.post(AGENTS, json={**PARROT, "pipeline": {**STREAMS, **change}})
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["code"] == "validation_error"
    fields = {row["field"] for row in error["details"]["errors"]}
    (changed,) = change
    assert any(f"pipeline.{changed}" in field or changed == "protocol" for field in fields)
    assert all(field.startswith("pipeline.") for field in fields)


@pytest.mark.parametrize("builtin", ["", "Parrot", "cockatoo", None])
async def test_a_builtin_is_one_that_ships(acme: httpx.AsyncClient, builtin: object) -> None:
    """parrot or echo."""
    answer = await acme.post(AGENTS, json={**PARROT, "pipeline": {"protocol": "builtin", "name": builtin}})
    assert answer.status_code == 422


@pytest.mark.parametrize(
    "name", ["", "   ", "a\u0000b", "a\nb", "a\u001b[31m", "\u202eevil", "a\u2028b", "x" * 101, 5, None]
)
async def test_a_name_is_one_printable_line(acme: httpx.AsyncClient, name: object) -> None:
    """It ends up in logs and on pages."""
    assert (await acme.post(AGENTS, json={**PARROT, "name": name})).status_code == 422


@pytest.mark.parametrize("name", ["Polly", "Zoë 😀", 'O\'Brien "the bird" <b>', "家", "'; DROP TABLE agents; --"])
async def test_a_name_may_be_in_any_script(acme: httpx.AsyncClient, name: str) -> None:
    """And comes back as it was."""
    answer = await acme.post(AGENTS, json={**PARROT, "name": name})
    assert answer.json()["data"]["name"] == name


async def test_an_agent_that_answers_numbers_is_not_deleted(acme: httpx.AsyncClient) -> None:
    """409 ``conflict``: its callers would meet silence."""
    parrot = await made(acme)
    number = await acme.post(
        f"{BASE}/telephony/numbers/import",
        json={"phone_number": "+14155550100", "provider": "sip", "provider_trunk": "lab"},
    )
    path = f"{BASE}/telephony/numbers/{number.json()['data']['id']}"
    await acme.patch(path, json={"agent_id": parrot["id"]})
    refused = await acme.delete(f"{AGENTS}/{parrot['id']}")
    assert refused.status_code == 409
    assert refused.json()["error"]["code"] == "conflict"
    assert refused.json()["error"]["details"]["numbers"] == 1
    await acme.patch(path, json={"agent_id": None})
    assert (await acme.delete(f"{AGENTS}/{parrot['id']}")).status_code == 200


@pytest.mark.parametrize(
    "url",
    [
        "ws://127.0.0.1:9000/",
        "wss://10.0.0.1/",
        "ws://[::1]/",
        "ws://localhost/",
        "ws://169.254.169.254/latest",
        "ws://127.1/",
    ],
)
async def test_a_url_inside_the_edges_own_network_is_refused_at_once(acme: httpx.AsyncClient, url: str) -> None:
    """Unless the operator allows it; names are judged at each call."""
    answer = await acme.post(AGENTS, json={"name": "a", "pipeline": {**STREAMS, "url": url}})
    assert answer.status_code == 422
    (problem,) = answer.json()["error"]["details"]["errors"]
    assert problem["field"] == "pipeline.url"
    assert "agents need a public one on this edge" in problem["problem"]
    agent = await made(acme, STREAMS)
    changed = await acme.patch(f"{AGENTS}/{agent['id']}", json={"pipeline": {**STREAMS, "url": url}})
    assert changed.status_code == 422


async def test_a_lab_may_have_agents_on_its_own_machine(acme: httpx.AsyncClient, desk: Desk) -> None:
    desk.operations.settings = desk.settings.model_copy(update={"agents": Agents(allow_private=True)})
    await made(acme, {**STREAMS, "url": "ws://127.0.0.1:9000/"})


async def test_headers_are_kept_masked_and_merged(acme: httpx.AsyncClient, desk: Desk) -> None:
    body = {"name": "a", "pipeline": STREAMS, "headers": {"Authorization": "Bearer planted", "X-One": "1"}}
    created = await acme.post(AGENTS, json=body)
    agent = created.json()["data"]
    assert agent["headers"] == {"Authorization": "********", "X-One": "********"}
    path = f"{AGENTS}/{agent['id']}"
    changed = await acme.patch(path, json={"headers": {"x-one": None, "X-Two": "2"}})
    assert changed.json()["data"]["headers"] == {"Authorization": "********", "X-Two": "********"}
    row = await desk.registry.agent(desk.accounts["acme"].id, agent["id"])
    assert row.secrets == {"header:Authorization": "Bearer planted", "header:X-Two": "2"}
    assert "planted" not in created.text + changed.text + (await acme.get(path)).text + (await acme.get(AGENTS)).text
    assert (await acme.patch(path, json={"headers": None})).json()["data"]["headers"] == {}


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "x"},
        {"sec-websocket-key": "x"},
        {"X-Truedy-Signature": "x"},
        {"X-Twilio-Signature": "x"},
        {"A B": "x"},
        {"": "x"},
        {"X-A": "x\r\nX-B: y"},
        {"X-A": ""},
        {"X-A": "ü"},
        {"X-A": "1", "x-a": "2"},
        {"X-A": None},
        {f"X-{n}": "1" for n in range(21)},
    ],
)
async def test_headers_that_break_a_request_are_refused(acme: httpx.AsyncClient, headers: dict[str, Any]) -> None:
    answer = await acme.post(AGENTS, json={"name": "a", "pipeline": STREAMS, "headers": headers})
    assert answer.status_code == 422


async def test_a_signing_secret_is_shown_once_and_its_predecessor_signs_for_an_hour(
    acme: httpx.AsyncClient, desk: Desk
) -> None:
    agent = await made(acme, STREAMS)
    path = f"{AGENTS}/{agent['id']}"
    first = await acme.post(f"{path}/signing-secret")
    assert first.status_code == 201
    assert first.json()["data"]["signing_secret"].startswith("whsec_")
    shown = (await acme.get(path)).json()["data"]
    assert (shown["signing_secret_set"], shown["previous_signing_secret_until"]) == (True, None)
    second = (await acme.post(f"{path}/signing-secret")).json()["data"]["signing_secret"]
    assert second != first.json()["data"]["signing_secret"]
    shown = (await acme.get(path)).json()["data"]
    assert shown["previous_signing_secret_until"] == "2026-09-21T15:13:20.000Z"
    assert second not in str(shown)
    assert (await acme.delete(f"{path}/signing-secret")).json()["data"] == {"id": agent["id"], "deleted": True}
    assert (await acme.delete(f"{path}/signing-secret")).status_code == 200
    assert (await acme.get(path)).json()["data"]["signing_secret_set"] is False


async def test_another_accounts_agent_gets_no_signing_secret(
    acme: httpx.AsyncClient, globex: httpx.AsyncClient
) -> None:
    agent = await made(acme, STREAMS)
    assert (await globex.post(f"{AGENTS}/{agent['id']}/signing-secret")).status_code == 404
    assert (await globex.delete(f"{AGENTS}/{agent['id']}/signing-secret")).status_code == 404


async def test_a_twilio_token_comes_and_goes(acme: httpx.AsyncClient) -> None:
    body = {"name": "a", "pipeline": STREAMS, "twilio_auth_token": "planted"}
    answer = await acme.post(AGENTS, json=body)
    agent = answer.json()["data"]
    assert agent["twilio_auth_token_set"] is True
    assert "planted" not in answer.text
    gone = await acme.patch(f"{AGENTS}/{agent['id']}", json={"twilio_auth_token": None})
    assert gone.json()["data"]["twilio_auth_token_set"] is False


async def test_an_agent_without_a_url_has_nothing_to_authenticate(acme: httpx.AsyncClient) -> None:
    for more in ({"headers": {"X-A": "1"}}, {"twilio_auth_token": "t"}):
        assert (await acme.post(AGENTS, json={**PARROT, **more})).status_code == 422
    parrot = await made(acme)
    assert (await acme.post(f"{AGENTS}/{parrot['id']}/signing-secret")).status_code == 422
    armed = (await acme.post(AGENTS, json={"name": "a", "pipeline": STREAMS, "headers": {"X-A": "1"}})).json()["data"]
    assert (await acme.patch(f"{AGENTS}/{armed['id']}", json={"pipeline": PARROT["pipeline"]})).status_code == 422


async def test_only_python_that_the_operator_lists_may_be_an_agent(
    acme: httpx.AsyncClient, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever has a key could run code here."""
    point = EntryPoint("front-desk", "package:agent", GROUP)
    monkeypatch.setattr("control.hosts.offered", lambda: {"front-desk": point})
    desk.operations.settings = desk.settings.model_copy(update={"agents": Agents(python=("desk:agent",))})
    agent = await made(acme, {"protocol": "python", "name": "desk:agent", "sample_rate": 24000})
    await made(acme, {"protocol": "python", "name": "front-desk"})
    for name in ("os:system", "desk", "desk:other"):
        answer = await acme.post(AGENTS, json={"name": "a", "pipeline": {"protocol": "python", "name": name}})
        assert answer.status_code == 422
        (problem,) = answer.json()["error"]["details"]["errors"]
        assert problem["field"] == "pipeline.name"
        assert problem["problem"] == "no Python agent of this edge; those that are: desk:agent, front-desk"
        changed = await acme.patch(f"{AGENTS}/{agent['id']}", json={"pipeline": {"protocol": "python", "name": name}})
        assert changed.status_code == 422


@pytest.mark.parametrize("change", [{"name": "a b"}, {"name": ""}, {"sample_rate": 11025}, {"sample_rate": "8000"}])
async def test_a_python_agent_is_a_name_and_one_of_four_rates(acme: httpx.AsyncClient, change: dict[str, Any]) -> None:
    pipeline = {"protocol": "python", "name": "desk:agent", **change}
    answer = await acme.post(AGENTS, json={"name": "a", "pipeline": pipeline})
    assert answer.status_code == 422
    (problem,) = answer.json()["error"]["details"]["errors"]
    assert problem["field"] == f"pipeline.{next(iter(change))}"


# --- protocols over the wire ----------------------------------------------------------------------

TELNYX: dict[str, Any] = {"protocol": "telnyx-media-streaming", "url": "wss://agent.example.com/media"}
JAMBONZ: dict[str, Any] = {"protocol": "jambonz-listen", "url": "wss://agent.example.com/media"}
AUDIOSOCKET: dict[str, Any] = {"protocol": "audiosocket", "url": "audiosocket://agent.example.com:9092"}
OPENAI: dict[str, Any] = {"protocol": "openai-realtime"}


@pytest.mark.parametrize(
    "pipeline",
    [
        {**TELNYX, "encoding": "PCMA", "parameters": {"a": "b"}},
        {**JAMBONZ, "sample_rate": 24000, "parameters": {"a": "b"}},
        {**AUDIOSOCKET, "sample_rate": 16000, "answer_after_s": 0.0},
        {**AUDIOSOCKET, "url": "tcp://[2606:4700::1111]:9092"},
        {
            **OPENAI,
            "model": "gpt-realtime-mini",
            "voice": "marin",
            "instructions": "Be kind.\nAlways.",
            "greeting": "Say hello.",
            "turn_detection": {"type": "server_vad", "threshold": 0.5, "silence_duration_ms": 300},
            "temperature": 0.8,
            "tools": ["hang_up", "transfer_call"],
            "parameters": {"a": "b"},
        },
        {**OPENAI, "turn_detection": {"type": "semantic_vad", "eagerness": "low"}},
    ],
)
async def test_an_agent_of_any_protocol_is_kept_as_it_was_given(
    acme: httpx.AsyncClient, pipeline: dict[str, Any]
) -> None:
    kept = (await made(acme, pipeline))["pipeline"]
    for name, value in pipeline.items():
        shown = kept[name]
        assert value == ({k: v for k, v in shown.items() if v is not None} if name == "turn_detection" else shown)


@pytest.mark.parametrize(
    ("pipeline", "field"),
    [
        ({**TELNYX, "encoding": "G722"}, "encoding"),
        ({**TELNYX, "sample_rate": 8000}, "sample_rate"),
        ({**JAMBONZ, "sample_rate": 11025}, "sample_rate"),
        ({**JAMBONZ, "url": "http://agent.example.com"}, "url"),
        ({**AUDIOSOCKET, "sample_rate": 24000}, "sample_rate"),
        ({**AUDIOSOCKET, "parameters": {"a": "b"}}, "parameters"),
        *(
            ({**AUDIOSOCKET, "url": url}, "url")
            for url in (
                "audiosocket://agent.example.com",
                "audiosocket://agent.example.com:0",
                "audiosocket://:9092",
                "tcp://a:b@agent.example.com:9092",
                "tcp://agent.example.com:9092/x",
                "tcp://agent.example.com:9092?x",
                "ws://agent.example.com:9092",
                "tcp://[::1",
                "tcp://agent.example.com:9092\n",
            )
        ),
        ({**OPENAI, "url": "wss://agent.example.com"}, "url"),
        ({**OPENAI, "model": "gpt realtime"}, "model"),
        ({**OPENAI, "voice": ""}, "voice"),
        ({**OPENAI, "instructions": "x" * 30001}, "instructions"),
        ({**OPENAI, "temperature": 3.0}, "temperature"),
        ({**OPENAI, "tools": ["order_pizza"]}, "tools.0"),
        ({**OPENAI, "turn_detection": {"type": "server_vad", "eagerness": "low"}}, "turn_detection.eagerness"),
        ({**OPENAI, "turn_detection": {"type": "none"}}, "turn_detection.type"),
    ],
)
async def test_what_a_protocol_has_no_place_for_is_refused_by_its_name(
    acme: httpx.AsyncClient, pipeline: dict[str, Any], field: str
) -> None:
    answer = await acme.post(AGENTS, json={**PARROT, "pipeline": pipeline})
    assert answer.status_code == 422
    [row] = answer.json()["error"]["details"]["errors"]
    assert row["field"].endswith(field)


async def test_an_agent_of_openai_s_may_come_before_the_key_and_is_warned_of_it(acme: httpx.AsyncClient) -> None:
    """Until a key is saved; a change of the agent asks again, and any other protocol needs none."""
    agent = await made(acme, OPENAI)
    (warning,) = agent["warnings"]
    assert warning["code"] == "openai_key_missing"
    assert "no OpenAI key" in warning["message"]
    path = f"{AGENTS}/{agent['id']}"
    assert (await acme.patch(path, json={"name": "Desk"})).json()["data"]["warnings"] == [warning]
    await acme.put(f"{BASE}/telephony/integrations/openai", json={"api_key": "sk-0123456789"})
    assert (await acme.patch(path, json={"name": "Front desk"})).json()["data"]["warnings"] == []
    assert (await made(acme, OPENAI))["warnings"] == []


@pytest.mark.parametrize("pipeline", [AUDIOSOCKET, OPENAI])
async def test_headers_are_refused_where_no_request_could_carry_them(
    acme: httpx.AsyncClient, pipeline: dict[str, Any]
) -> None:
    answer = await acme.post(AGENTS, json={**PARROT, "pipeline": pipeline, "headers": {"Authorization": "Bearer t"}})
    assert answer.status_code == 422
    assert "no url that headers" in answer.text


async def test_a_webrtc_agent_has_a_url_a_form_and_headers(
    acme: httpx.AsyncClient, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("control.operations.agents.find_spec", lambda name: object())
    pipeline = {"protocol": "webrtc", "url": "https://agent.example.com/whip"}
    body = {"name": "a", "pipeline": pipeline, "headers": {"Authorization": "Bearer planted"}}
    answer = await acme.post(AGENTS, json=body)
    assert answer.status_code == 201
    kept = answer.json()["data"]["pipeline"]
    assert (kept["url"], kept["signalling"], kept["parameters"]) == (pipeline["url"], "whip", {})
    for change in (
        {"url": "wss://agent.example.com/"},
        {"url": "https://10.0.0.1/"},
        {"signalling": "sip"},
        {"url": ""},
    ):
        answer = await acme.post(AGENTS, json={"name": "a", "pipeline": {**pipeline, **change}})
        assert answer.status_code == 422
        (problem,) = answer.json()["error"]["details"]["errors"]
        assert problem["field"] == f"pipeline.{next(iter(change))}"


async def test_without_aiortc_a_webrtc_agent_is_refused_with_what_to_install(
    acme: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("control.operations.agents.find_spec", lambda name: None)
    pipeline = {"protocol": "webrtc", "url": "https://agent.example.com/whip"}
    answer = await acme.post(AGENTS, json={"name": "a", "pipeline": pipeline})
    assert answer.status_code == 422
    (problem,) = answer.json()["error"]["details"]["errors"]
    assert problem == {
        "field": "pipeline.protocol",
        "problem": "WebRTC needs aiortc: install truedy-edge[webrtc], and restart the edge",
    }


async def test_what_to_do_when_the_agent_is_lost_is_on_its_record(acme: httpx.AsyncClient, desk: Desk) -> None:
    """In order: reconnect, a message, a transfer; the end comes last, whether it is named or not."""
    on_lost = {"reconnect": True, "message": "lost", "transfer": "+1 (415) 555-0123", "hang_up": True}
    pipeline = {**STREAMS, "fallback_url": "wss://second.example.com/", "on_lost": on_lost}
    agent = await made(acme, pipeline)
    assert agent["pipeline"]["fallback_url"] == "wss://second.example.com/"
    assert agent["pipeline"]["on_lost"] == {
        "reconnect": True,
        "reconnect_timeout_s": 5.0,
        "message": "lost",
        "transfer": "+14155550123",
        "hang_up": True,
    }
    row = await desk.registry.agent(desk.accounts["acme"].id, agent["id"])
    spec = agent_spec(row, Agents(), 0.0)
    assert spec is not None
    assert spec.on_lost == OnLost(reconnect=True, message="lost", transfer="+14155550123")


@pytest.mark.parametrize(
    ("on_lost", "field"),
    [
        ({"message": "no-such-recording"}, "pipeline.on_lost.message"),
        ({"message": "../../etc/passwd"}, "pipeline.on_lost.message"),
        ({"transfer": "tomorrow"}, "pipeline.on_lost.transfer"),
        ({"transfer": "sip:a@b?X-Evil=1"}, "pipeline.on_lost.transfer"),
        ({"reconnect_timeout_s": 31}, "pipeline.on_lost.reconnect_timeout_s"),
        ({"hang_up": False}, "pipeline.on_lost.hang_up"),
        ({"pray": True}, "pipeline.on_lost.pray"),
    ],
)
async def test_a_policy_that_cannot_be_followed_is_refused(
    acme: httpx.AsyncClient, on_lost: dict[str, Any], field: str
) -> None:
    answer = await acme.post(AGENTS, json={"name": "a", "pipeline": {**STREAMS, "on_lost": on_lost}})
    assert answer.status_code == 422
    assert [problem["field"] for problem in answer.json()["error"]["details"]["errors"]] == [field]


async def test_an_agent_s_calls_are_listened_to_as_it_wishes(acme: httpx.AsyncClient) -> None:
    agent = await made(acme)
    path = f"{AGENTS}/{agent['id']}"
    wish = {"recording": {"enabled": True, "format": "wav"}, "machine_detection": {"enabled": True, "timeout_s": 4.0}}
    changed = (await acme.patch(path, json=wish)).json()["data"]
    assert changed["recording"] == {**agent["recording"], "enabled": True, "format": "wav"}
    assert changed["machine_detection"] == {"enabled": True, "timeout_s": 4.0, "beep_timeout_s": None}
    without = (await acme.patch(path, json={"recording": None})).json()["data"]
    assert (without["recording"], without["machine_detection"]) == (agent["recording"], changed["machine_detection"])
    bad: dict[str, object]
    for bad in ({"recording": {"format": "mp3"}}, {"machine_detection": {"timeout_s": 0}}):
        assert (await acme.patch(path, json=bad)).status_code == 422
