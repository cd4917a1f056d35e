"""Agents, and the secrets that requests to them carry."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator
from pydantic.json_schema import SkipJsonSchema

from control.agent_secrets import HEADER
from control.providers import ProviderWarning
from control.registry import types as rows
from control.resources.base import Request, Resource
from control.resources.fields import Credential, Name, Timestamp, moment
from control.resources.notices import WithWarnings, with_warnings
from control.resources.options import (
    MachineDetectionOptions,
    RecordingOptions,
    machine_detection_options,
    recording_options,
)
from control.resources.pipelines import Pipeline, parse_pipeline

__all__ = [
    "AgentResource",
    "CreateAgent",
    "Deleted",
    "HeaderName",
    "HeaderValue",
    "SavedAgent",
    "SigningSecret",
    "SigningSecretDeleted",
    "UpdateAgent",
    "agent_resource",
    "saved_agent",
]


_HEADER_NAME: Final = re.compile(r"[0-9A-Za-z!#$%&'*+.^_`|~-]{1,100}", re.ASCII)
_NOT_YOURS: Final = frozenset(
    ("host", "connection", "upgrade", "content-length", "content-type", "transfer-encoding", "te", "trailer", "expect")
)


def _header_name(text: str) -> str:
    if _HEADER_NAME.fullmatch(text) is None:
        raise ValueError("is no HTTP header name")
    name = text.lower()
    if name in _NOT_YOURS or name.startswith(("sec-websocket-", "x-truedy-", "x-twilio-signature", "proxy-")):
        raise ValueError("is the edge's own to send")
    return text


def _header_value(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text.isascii() or not text.isprintable() or text != text.strip():
        raise ValueError("has characters that no header value has")
    return value


HeaderName = Annotated[str, AfterValidator(_header_name)]
HeaderValue = Annotated[SecretStr, AfterValidator(_header_value), Field(min_length=1, max_length=4096)]


class CreateAgent(Request):
    """A new agent."""

    name: Name
    pipeline: Pipeline
    recording: RecordingOptions | None = None
    machine_detection: MachineDetectionOptions | None = None
    headers: dict[HeaderName, HeaderValue] = Field(
        default={}, max_length=20, description="Sent with every request to the agent's URL; kept sealed."
    )
    twilio_auth_token: Credential | None = Field(
        default=None,
        description="Any token you choose: signs the URL as Twilio does (X-Twilio-Signature).",
    )

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        _distinct(self.headers)
        return self


class UpdateAgent(Request):
    """Absent fields stay as they are."""

    name: Name | SkipJsonSchema[None] = None
    pipeline: Pipeline | SkipJsonSchema[None] = None
    recording: RecordingOptions | None = Field(default=None, description="Null: as the edge has it.")
    machine_detection: MachineDetectionOptions | None = Field(default=None, description="Null: as the edge has it.")
    headers: dict[HeaderName, HeaderValue | None] | None = Field(
        default=None, max_length=20, description="Added to those that are there; a header that is null goes, null: all."
    )
    twilio_auth_token: Credential | None = Field(default=None, description="Null: no X-Twilio-Signature from now on.")

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        _distinct(self.headers or {})
        return self

    @field_validator("name", "pipeline", mode="before")
    @classmethod
    def _present(cls, value: object) -> object:
        if value is None:
            raise ValueError("must not be null: leave it out to keep what is there")
        return value


def _distinct(headers: Mapping[str, Any]) -> None:
    if len({name.lower() for name in headers}) < len(headers):
        raise ValueError("headers has a name twice")


class AgentResource(Resource):
    """An agent. Of a secret there is only that it is there."""

    id: str
    name: str
    pipeline: Pipeline
    recording: RecordingOptions
    machine_detection: MachineDetectionOptions
    headers: dict[str, Literal["********"]] = Field(description="The names of the headers that go to its URL.")
    signing_secret_set: bool = Field(description="Whether requests to its URL carry X-Truedy-Signature.")
    previous_signing_secret_until: Timestamp | None = Field(
        description="After a new signing secret was made: how long requests are signed with the one before, too."
    )
    twilio_auth_token_set: bool = Field(description="Whether requests to its URL carry X-Twilio-Signature.")
    created_at: Timestamp
    updated_at: Timestamp


class SavedAgent(AgentResource, WithWarnings):
    """An agent just made or changed."""


class SigningSecret(Resource):
    """What requests to the agent's URL are signed with from now on: shown this once."""

    id: str
    signing_secret: str = Field(repr=False)


class SigningSecretDeleted(Resource):
    """Requests are signed no more."""

    id: str
    deleted: Literal[True] = True


class Deleted(Resource):
    """It is gone."""

    id: str
    deleted: Literal[True] = True


def agent_resource(row: rows.Agent, now: float) -> AgentResource:
    """As the API shows it, masked; ``now`` is UTC [s since the epoch]."""
    until = float(row.secrets.get("previous_signing_secret_until", 0.0))
    return AgentResource(
        id=row.id,
        name=row.name,
        pipeline=parse_pipeline(row.pipeline),
        recording=recording_options(row.options),
        machine_detection=machine_detection_options(row.options),
        headers={name.removeprefix(HEADER): "********" for name in row.secrets if name.startswith(HEADER)},
        signing_secret_set="signing_secret" in row.secrets,
        previous_signing_secret_until=moment(until) if now < until else None,
        twilio_auth_token_set="twilio_auth_token" in row.secrets,
        created_at=moment(row.created_at),
        updated_at=moment(row.updated_at),
    )


def saved_agent(row: rows.Agent, now: float, warnings: Iterable[ProviderWarning]) -> SavedAgent:
    """As :func:`agent_resource`, with what its calls still need."""
    return with_warnings(SavedAgent, agent_resource(row, now), warnings)
