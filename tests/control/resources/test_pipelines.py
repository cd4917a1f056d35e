"""A shape for each protocol that reaches an agent."""

from __future__ import annotations

from typing import get_args

import pytest

from control.resources.pipelines import OutsidePipeline, Pipeline, UrlPipeline, parse_pipeline


def test_a_stored_pipeline_reads_back() -> None:
    """As it was stored, without what was left out."""
    pipeline = parse_pipeline({"protocol": "twilio-media-streams", "url": "ws://127.0.0.1:9000/"})
    assert pipeline.model_dump(exclude_none=True) == {
        "protocol": "twilio-media-streams",
        "url": "ws://127.0.0.1:9000/",
        "parameters": {},
    }


@pytest.mark.parametrize("shape", get_args(get_args(Pipeline)[0]))
def test_every_protocol_has_one_shape(shape: type[OutsidePipeline]) -> None:
    """Which a union is told apart by; those at a URL can have a second."""
    (protocol,) = get_args(shape.model_fields["protocol"].annotation)
    fields = {"protocol": protocol}
    if issubclass(shape, UrlPipeline):
        fields |= {"url": shape.model_fields["url"].examples[0], "fallback_url": None}
    elif "name" in shape.model_fields:
        fields |= {"name": "echo"}
    assert type(parse_pipeline(fields)) is shape
