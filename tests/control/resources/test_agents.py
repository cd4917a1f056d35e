"""Agents, and the secrets that requests to them carry."""

from __future__ import annotations

from typing import get_args

import pytest

from control.errors import ValidationFailed
from control.registry import types as rows
from control.resources.agents import CreateAgent, UpdateAgent, agent_resource
from control.resources.pipelines import OutsidePipeline, Pipeline

ID = "0198c0de-0000-4000-8000-00000000abcd"
PIPELINE = {"protocol": "builtin", "name": "echo"}


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        ({"X-Key": "a", "x-key": "b"}, "a name twice"),
        ({"Host": "agent.example.com"}, "the edge's own"),
        ({"X-Truedy-Signature": "forged"}, "the edge's own"),
        ({"no name": "a"}, "no HTTP header name"),
        ({"X-Key": "two\nlines"}, "no header value"),
    ],
)
def test_headers_that_are_not_the_account_s_to_send_are_refused(headers: dict[str, str], problem: str) -> None:
    """RFC 9110 §5.1, and the edge's own."""
    with pytest.raises(ValidationFailed) as refusal:
        CreateAgent.of(name="a", pipeline=PIPELINE, headers=headers)
    assert problem in refusal.value.problems[0].problem


@pytest.mark.parametrize("shape", get_args(get_args(Pipeline)[0]))
def test_what_is_wrong_with_a_pipeline_has_the_name_that_was_typed(shape: type[OutsidePipeline]) -> None:
    """Not that of the union's member which was tried."""
    (protocol,) = get_args(shape.model_fields["protocol"].annotation)
    with pytest.raises(ValidationFailed) as refusal:
        CreateAgent.of(name="a", pipeline={"protocol": protocol, "no_such_field": 1})
    assert "pipeline.no_such_field" in {problem.field for problem in refusal.value.problems}


@pytest.mark.parametrize("kind", ["server_vad", "semantic_vad"])
def test_so_has_what_is_wrong_with_the_detection_of_turns(kind: str) -> None:
    pipeline = {"protocol": "openai-realtime", "turn_detection": {"type": kind, "no_such_field": 1}}
    with pytest.raises(ValidationFailed) as refusal:
        CreateAgent.of(name="a", pipeline=pipeline)
    assert "pipeline.turn_detection.no_such_field" in {problem.field for problem in refusal.value.problems}


def test_a_name_may_be_left_out_but_not_taken_away() -> None:
    """Absent is not null."""
    assert UpdateAgent.of().model_fields_set == set()
    with pytest.raises(ValidationFailed):
        UpdateAgent.of(name=None)


def test_of_a_secret_there_is_only_that_it_is_there() -> None:
    """Headers by their names."""
    secrets = {"header:X-Key": "planted", "signing_secret": "planted", "previous_signing_secret_until": "100.0"}
    row = rows.Agent(ID, ID, "a", PIPELINE, 0.0, 0.0, secrets, "{}")
    shown = agent_resource(row, 99.0)
    assert shown.headers == {"X-Key": "********"}
    assert shown.signing_secret_set
    assert not shown.twilio_auth_token_set
    assert shown.previous_signing_secret_until is not None
    assert agent_resource(row, 100.0).previous_signing_secret_until is None
    assert "planted" not in repr(shown) + shown.model_dump_json()
