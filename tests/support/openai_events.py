"""OpenAI's published events: what a client may send, judged by the types of OpenAI's own package, to the last field."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pydantic

__all__ = ["client_event"]


@cache
def _adapter() -> pydantic.TypeAdapter[Any]:
    from openai.types.realtime import RealtimeClientEvent

    return pydantic.TypeAdapter(RealtimeClientEvent)


def client_event(data: bytes | str) -> dict[str, Any]:
    """One event of a client's; AssertionError for one that the API does not have, or a field too many."""
    event: dict[str, Any] = json.loads(data)
    try:
        model = _adapter().validate_python(event)
    except pydantic.ValidationError as error:
        raise AssertionError(f"not an event of the API: {event.get('type')}: {error}") from error
    assert model.type == event["type"], f"there is no event {event['type']}"
    unknown = list(_unknown(model, model.type))
    assert not unknown, f"the API has no {unknown[0]}"
    return event


def _unknown(value: object, path: str) -> Any:
    """The fields that no type has: the package's models let them pass."""
    if isinstance(value, pydantic.BaseModel):
        yield from (f"{path}.{name}" for name in value.model_extra or {})
        for name in type(value).model_fields:
            yield from _unknown(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, list):
        for each in value:
            yield from _unknown(each, path)
